"""Who may ask for what: hosts, tokens, sessions, forged requests, and what a browser may do with an answer."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "papertrial-session"
TOKEN_VARIABLE = "PAPERTRIAL_TOKEN"
SAFE_METHODS = ("GET", "HEAD")
_AGE = 30 * 24 * 3600

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # stricter, browsers would send "Origin: null" with our own forms
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def is_loopback(host: str) -> bool:
    """Say whether an address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """Who may read and who may start trials.

    Attributes:
        token: what a reader must show; None asks for nothing, which only loopback may.
        public: readers without the token may read, and start nothing.
        hosts: names by which this server may be called; None allows every name. On loopback this keeps out
            pages of other sites whose name was pointed at this machine (DNS rebinding).
        secret: signs sessions; new with every start.
    """

    token: str | None = None
    public: bool = False
    hosts: frozenset[str] | None = frozenset({"localhost", "127.0.0.1", "::1"})
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def new_session(self) -> str:
        """Return the cookie of a reader who may start trials."""
        name = secrets.token_urlsafe(18)
        return f"{name}.{self._sign('session', name)}"

    def session(self, headers: Headers) -> str | None:
        """Return the session that a request shows, where this server began it."""
        cookie = _cookies(headers).get(COOKIE, "")
        name, _, signature = cookie.partition(".")
        good = hmac.compare_digest(signature.encode(), self._sign("session", name).encode())
        return name if name and good else None

    def form_token(self, session: str) -> str:
        """Return what every form of a session carries, so that another site's form is told apart."""
        return self._sign("form", session)

    def is_form_token(self, session: str, given: str) -> bool:
        """Say whether a form came from this session."""
        return hmac.compare_digest(given.encode(), self.form_token(session).encode())

    def is_token(self, given: str) -> bool:
        """Say whether the token is right, in a time that does not depend on how wrong it is."""
        return self.token is not None and hmac.compare_digest(
            hashlib.sha256(given.encode()).digest(), hashlib.sha256(self.token.encode()).digest()
        )

    def may_start(self, headers: Headers) -> bool:
        """Say whether the sender of these headers may start trials: loopback, or the token shown."""
        return self.token is None or self.session(headers) is not None or self.is_token(_bearer(headers))

    def may_read(self, headers: Headers) -> bool:
        """Say whether the sender of these headers may read."""
        return self.public or self.may_start(headers)

    def knows_host(self, headers: Headers) -> bool:
        """Say whether this server is called by a name it has."""
        return self.hosts is None or _host_name(headers.get("host", "")) in self.hosts

    def is_own_origin(self, headers: Headers, scheme: str) -> bool:
        """Say whether a request that changes something comes from a page of this server.

        Browsers send `Origin` with every such request; a client that is no browser may leave it out.
        """
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = headers.get("origin")
        return origin is None or origin == f"{scheme}://{headers.get('host', '')}"

    def _sign(self, purpose: str, name: str) -> str:
        return hmac.new(self.secret, f"{purpose}:{name}".encode(), hashlib.sha256).hexdigest()


def session_cookie(value: str, secure: bool) -> str:
    """Return the `Set-Cookie` header of a session."""
    return f"{COOKIE}={value}; Path=/; Max-Age={_AGE}; HttpOnly; SameSite=Strict" + (
        "; Secure" if secure else ""
    )


class Guard:
    """Stands before the application: refuses what must not come in, and adds the headers that go out.

    Args:
        app: the application.
        access: who may do what.
        open_paths: paths that need no token (the login page and what it is styled with).
        login: where a reader without the token is sent.
    """

    def __init__(self, app: ASGIApp, access: Access, open_paths: Iterable[str], login: str) -> None:
        self._app, self._access = app, access
        self._open, self._login = frozenset(open_paths), login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no websockets here
        await self._judge(scope)(scope, receive, _with_headers(send))

    def _judge(self, scope: Scope) -> ASGIApp:
        """Return the application, or the answer that refuses."""
        headers, access = Headers(scope=scope), self._access
        if not access.knows_host(headers):
            return PlainTextResponse("This server is not called by that name.\n", 421)
        if scope["method"] not in (*SAFE_METHODS, "POST"):
            return PlainTextResponse(
                "Only GET, HEAD and POST work here.\n", 405, {"allow": "GET, HEAD, POST"}
            )
        if scope["method"] == "POST" and not access.is_own_origin(headers, scope["scheme"]):
            return PlainTextResponse("This request comes from another site.\n", 403)
        if scope["path"] in self._open or _brings_token(scope) or access.may_read(headers):
            return self._app
        if _bearer(headers) or "text/html" not in headers.get("accept", "text/html"):
            return PlainTextResponse("The token is missing or wrong.\n", 401)
        return RedirectResponse(self._login, 303)


def _brings_token(scope: Scope) -> bool:
    """Say whether this is the address that `papertrial serve` prints: it is answered by a redirect alone."""
    return scope["path"] == "/" and scope["query_string"].startswith(b"token=")


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return sending


def _host_name(host: str) -> str:
    """Return a `Host` header without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _bearer(headers: Headers) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _cookies(headers: Headers) -> Mapping[str, str]:
    try:
        found = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in found.items()}
