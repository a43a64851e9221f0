"""Fetching from the Hub and from arXiv: each through its own client, with manners and with limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from papertrial.digest.collecting.clock import Clock
from papertrial.digest.collecting.politeness import (
    ARXIV_MANNERS,
    HUB_API_MANNERS,
    HUB_PAGE_MANNERS,
    Answer,
    BrokenConnectionError,
    Host,
    Manners,
    RemoteError,
)
from papertrial.errors import BadInputError
from papertrial.home import home

_MOST_REDIRECTS = 5
_TIMEOUT = 30.0  # seconds
MOST_BYTES = 40_000_000
"""The longest answer that is read: a paper's PDF seldom reaches a quarter of it."""


@dataclass(frozen=True)
class Remotes:
    """Where the sources are.

    Attributes:
        hub: the Hub (`HF_ENDPOINT`, as for its client).
        arxiv_api: arXiv's query interface (`PAPERTRIAL_ARXIV_API`).
        arxiv: arXiv's pages (`PAPERTRIAL_ARXIV`).
    """

    hub: str = "https://huggingface.co"
    arxiv_api: str = "https://export.arxiv.org/api/query"
    arxiv: str = "https://arxiv.org"

    @classmethod
    def from_environment(cls) -> Remotes:
        """Return the addresses that the environment names, else the public ones.

        Raises:
            BadInputError: a variable holds something that is no http(s) address.
        """
        return cls(
            hub=_address("HF_ENDPOINT", cls.hub),
            arxiv_api=_address("PAPERTRIAL_ARXIV_API", cls.arxiv_api),
            arxiv=_address("PAPERTRIAL_ARXIV", cls.arxiv),
        )


class Web:
    """The remote sources, each asked through its own client and with its own manners.

    Args:
        remotes: where they are; None: what the environment names.
        clock: tells the time and waits.
        shared: where the state lies that keeps all processes of this machine polite together; None:
            `<home>/digest/hosts`.
        manners: other manners than the usual, by the name of the source ("hub", "hub pages", "arxiv").
    """

    def __init__(
        self,
        remotes: Remotes | None = None,
        clock: Clock | None = None,
        shared: Path | None = None,
        manners: Mapping[str, Manners] | None = None,
    ) -> None:
        self.remotes = remotes if remotes is not None else Remotes.from_environment()
        self.clock = clock if clock is not None else Clock()
        folder = shared if shared is not None else home() / "digest" / "hosts"
        usual = {"hub": HUB_API_MANNERS, "hub pages": HUB_PAGE_MANNERS, "arxiv": ARXIV_MANNERS}
        chosen = {**usual, **(manners or {})}
        self.hosts = {name: Host(name.replace(" ", "-"), chosen[name], self.clock, folder) for name in usual}
        self._arxiv_client: Any = None

    def hub(self, path: str, params: Mapping[str, str | int] | None = None, *, page: bool = False) -> Answer:
        """Return the Hub's answer, through the session of its own client (proxy, token, offline mode).

        Args:
            path: below the Hub's address, beginning with "/".
            params: the query.
            page: whether it counts as a page rather than as a request to the API.

        Raises:
            RemoteError: no answer (see `Host.ask`), the client is in offline mode, or the answer is too large.
        """
        from huggingface_hub import get_session
        from huggingface_hub.errors import OfflineModeIsEnabled

        from papertrial.hub import hub_errors

        headers, allowed = _hub_headers(), _hosts(self.remotes.hub)

        def send() -> Answer:
            try:
                return _fetch(get_session(), f"{self.remotes.hub}{path}", params, headers, allowed)
            except OfflineModeIsEnabled as problem:
                raise RemoteError("the Hub's client is in offline mode (HF_HUB_OFFLINE)") from problem
            except hub_errors() as problem:
                raise BrokenConnectionError(_reason(self.remotes.hub, problem)) from problem

        return self.hosts["hub pages" if page else "hub"].ask(send)

    def arxiv(
        self,
        address: str,
        params: Mapping[str, str | int] | None = None,
        throttled: Callable[[Answer], bool] = lambda answer: False,
    ) -> Answer:
        """Return arXiv's answer, one request at a time.

        Raises:
            RemoteError: no answer (see `Host.ask`), or the answer is too large.
        """
        import httpx

        if self._arxiv_client is None:
            self._arxiv_client = httpx.Client(
                timeout=_TIMEOUT, limits=httpx.Limits(max_connections=1), headers={"User-Agent": user_agent()}
            )
        allowed = _hosts(self.remotes.arxiv) | _hosts(self.remotes.arxiv_api)

        def send() -> Answer:
            try:
                return _fetch(self._arxiv_client, address, params, {}, allowed)
            except (httpx.HTTPError, OSError) as problem:
                raise BrokenConnectionError(_reason(address, problem)) from problem

        return self.hosts["arxiv"].ask(send, throttled)

    @property
    def requests(self) -> int:
        """How many requests have been made."""
        return sum(host.requests for host in self.hosts.values())

    def close(self) -> None:
        """Close the connection to arXiv; the Hub's session is its client's own."""
        if self._arxiv_client is not None:
            self._arxiv_client.close()
            self._arxiv_client = None

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def user_agent() -> str:
    """Return how papertrial names itself to a host."""
    return f"papertrial/{version('papertrial')}"


def _hub_headers() -> dict[str, str]:
    """Return our name, and the user's token where the Hub's client would send it.

    The client's own `build_hf_headers` makes a request of its own, to name the tool it runs in.
    """
    from huggingface_hub import __version__, constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    named = {"User-Agent": f"{user_agent()}; hf_hub/{__version__}"}
    return named | ({"Authorization": f"Bearer {token}"} if token else {})


def _fetch(
    client: Any,
    address: str,
    params: Mapping[str, str | int] | None,
    headers: Mapping[str, str],
    allowed: frozenset[str],
) -> Answer:
    """Return one answer, following redirects to allowed hosts only, and reading no more than is sensible."""
    for _ in range(_MOST_REDIRECTS + 1):
        with client.stream(
            "GET", address, params=params, headers=headers, follow_redirects=False, timeout=_TIMEOUT
        ) as response:
            named = {name.lower(): value for name, value in response.headers.items()}
            if response.status_code in (301, 302, 303, 307, 308) and "location" in named:
                address, params = _redirected(address, named["location"], allowed), None
                continue
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise RemoteError(f"{address} answers with more than {MOST_BYTES:,} bytes; not read")
            return Answer(response.status_code, named, bytes(body), str(response.url))
    raise RemoteError(f"{address} redirects more than {_MOST_REDIRECTS} times")


def _redirected(origin: str, location: str, allowed: frozenset[str]) -> str:
    target = urljoin(origin, location)
    parts = urlsplit(target)
    if parts.hostname not in allowed or parts.scheme not in ("http", "https"):
        raise RemoteError(f"{urlsplit(origin).hostname} redirects to {parts.hostname}, which is not followed")
    if urlsplit(origin).scheme == "https" and parts.scheme == "http":
        raise RemoteError(f"{urlsplit(origin).hostname} redirects to an unencrypted address; not followed")
    return target


def _hosts(address: str) -> frozenset[str]:
    """Return the host of an address, with and without "www."."""
    host = urlsplit(address).hostname or ""
    bare = host.removeprefix("www.")
    return frozenset({host, bare, f"www.{bare}"})


def _address(variable: str, otherwise: str) -> str:
    value = os.environ.get(variable, "").strip().rstrip("/") or otherwise
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInputError(f"{variable} must be an address such as {otherwise}, got {value!r}")
    return value


def _reason(address: str, problem: Exception) -> str:
    said = " ".join(str(problem).split()) or type(problem).__name__
    return f"{urlsplit(address).hostname} cannot be reached or broke off: {said}"
