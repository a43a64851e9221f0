"""Chat models behind any OpenAI-compatible address, through the `openai` client."""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from papertrial.errors import BadInputError, unknown
from papertrial.llm.chat import (
    ChatModelError,
    Message,
    Schema,
    TooLongError,
    Usage,
    UsageLog,
    check_messages,
    with_schema,
)

if TYPE_CHECKING:
    import openai

_VERSION = re.compile(r"/v\d+[a-z0-9]*(/|$)")
_OFFICIAL_HOST, _OFFICIAL_KEY = "api.openai.com", "OPENAI_API_KEY"
_NO_KEY = "none"  # the client insists on one; servers without keys ignore it
_MOST_CHANGES = 3  # what a server may refuse, each changed once: the schema, the temperature, max_tokens
_TOO_LONG = (
    "context length",
    "context_length",
    "maximum context",
    "too many tokens",
    "too long",
    "too large",
)


class Endpoint:
    """A chat model behind an OpenAI-compatible address (`/chat/completions`).

    A schema is sent as `response_format`; a server that refuses it is told the schema in words from then
    on, and `schema_sent_as` says so. Overload (429, 5xx, lost connections) is retried by the client,
    `retries` times, for as long as the server's `Retry-After` says.

    Args:
        address: the base address with its version, such as "http://localhost:8000/v1".
        model: which model; None: the only one that the server has.
        key: the name of the environment variable with the key. None: `OPENAI_API_KEY` for OpenAI's own
            address, no key for any other: a key is never sent to a host it was not named for.
        max_tokens: the longest answer.
        temperature: 0 for the likeliest answer; None leaves it to the server.
        timeout: seconds for one try.
        retries: how often an overloaded server is asked again.
        usage: notes what each answer took.

    Raises:
        BadInputError: the address has no version or is none, the variable is missing or looks like a key
            itself, or the server has several models and none was named.
    """

    def __init__(
        self,
        address: str,
        model: str | None = None,
        *,
        key: str | None = None,
        max_tokens: int = 2048,
        temperature: float | None = 0.0,
        timeout: float = 120.0,
        retries: int = 2,
        usage: UsageLog | None = None,
    ) -> None:
        if max_tokens < 1 or timeout <= 0 or retries < 0:
            raise BadInputError(
                "max_tokens must be at least 1, timeout above 0 and retries at least 0, "
                f"got {max_tokens}, {timeout} and {retries}"
            )
        self.address = base_address(address)
        self._key_name = key
        self._client = _client(self.address, _key(self.address, key), timeout, retries)
        self._timeout = timeout
        self._usage = usage
        self._options: dict[str, Any] = {"max_tokens": max_tokens}
        if temperature is not None:
            self._options["temperature"] = temperature
        self.schema_sent_as = "response_format"
        self._model = model or self._only_model()

    @property
    def name(self) -> str:
        """The model's name at its host."""
        return f"{self._model} at {urlsplit(self.address).netloc}"

    def complete(self, messages: Sequence[Message], schema: Schema | None = None) -> str:
        """Return the model's answer.

        Raises:
            BadInputError: the key is refused, or there is no such model.
            TooLongError: the messages do not fit into the model's context.
            ChatModelError: no answer in time, still overloaded after the retries, refused, or empty.
        """
        import openai

        check_messages(messages)
        in_words = schema is not None and self.schema_sent_as == "words"
        for _ in range(_MOST_CHANGES + 1):
            try:
                answer = self._once(messages, schema, in_words)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as problem:
                said = _said(problem)
                if any(sign in said.lower() for sign in _TOO_LONG):
                    raise TooLongError(f"{self.name} finds the messages too long: {said}") from problem
                if self._without_option(said):
                    continue
                if schema is None or in_words:
                    raise ChatModelError(f"{self.name} refuses the request: {said}") from problem
                in_words = True
            except openai.OpenAIError as problem:
                raise self._explained(problem) from problem
            else:
                self.schema_sent_as = "words" if in_words else self.schema_sent_as
                return answer
        raise ChatModelError(f"{self.name} refuses every form of the request")

    def _once(self, messages: Sequence[Message], schema: Schema | None, in_words: bool) -> str:
        options = dict(self._options)
        sent = [dict(one) for one in messages]
        if schema is not None and not in_words:
            options["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": dict(schema), "strict": True},
            }
        elif schema is not None:
            sent = with_schema(sent, schema)
        began = time.monotonic()
        answer: Any = self._client.chat.completions.create(model=self._model, messages=sent, **options)  # type: ignore[arg-type]
        if self._usage is not None:
            used = getattr(answer, "usage", None)
            self._usage.add(
                Usage(
                    self.name,
                    getattr(used, "prompt_tokens", None),
                    getattr(used, "completion_tokens", None),
                    time.monotonic() - began,
                )
            )
        return self._text(answer)

    def _text(self, answer: Any) -> str:
        """Return what was said; servers that speak the protocol badly are told apart from models that refuse."""
        choices: Any = getattr(answer, "choices", None)
        message = getattr(choices[0], "message", None) if choices else None
        if message is None:
            raise ChatModelError(
                f"{self.address} answered something that is no chat completion; is it the right address?"
            )
        if getattr(message, "refusal", None):
            raise ChatModelError(f"{self.name} refused: {_flat(message.refusal)}")
        if not isinstance(message.content, str) or not message.content.strip():
            reason = getattr(choices[0], "finish_reason", None)
            raise ChatModelError(f"{self.name} gave an empty answer (finish reason: {reason})")
        return message.content

    def _without_option(self, complaint: str) -> bool:
        """Take out or rename the option that the server refuses; False where it complains of none."""
        said = complaint.lower()
        if "max_completion_tokens" in said and "max_tokens" in self._options:
            self._options["max_completion_tokens"] = self._options.pop("max_tokens")
            return True
        if "temperature" in said and "temperature" in self._options:
            del self._options["temperature"]
            return True
        return False

    def _explained(self, problem: openai.OpenAIError) -> Exception:
        """Turn the client's error into one line that says what to do."""
        import openai

        if isinstance(problem, openai.APITimeoutError):
            return ChatModelError(f"{self.name} gave no answer within {self._timeout:g} seconds")
        if isinstance(problem, openai.APIConnectionError):
            return ChatModelError(f"{self.address} cannot be reached: {problem.__cause__ or problem}")
        if isinstance(problem, openai.AuthenticationError | openai.PermissionDeniedError):
            named = f"the key in {self._key_name}" if self._key_name else "a request without a key"
            return BadInputError(
                f"{self.address} refuses {named} ({problem.status_code}); "
                "name the environment variable that holds the right key"
            )
        if isinstance(problem, openai.NotFoundError):
            return self._not_found(problem)
        if isinstance(problem, openai.RateLimitError):
            return ChatModelError(f"{self.name} is overloaded or its quota is used up: {_said(problem)}")
        return ChatModelError(f"{self.name} failed: {_said(problem)}")

    def _not_found(self, problem: openai.OpenAIError) -> BadInputError:
        try:
            known = self._models()
        except BadInputError:
            return BadInputError(f"{self.address} has no chat completions (404): {_said(problem)}")
        return unknown(f"model at {self.address}", self._model, known)

    def _models(self) -> list[str]:
        import openai

        try:
            return [one.id for one in self._client.models.list().data]
        except (openai.OpenAIError, AttributeError, TypeError) as problem:
            raise BadInputError(
                f"{self.address} does not say which models it has; name one (ADDRESS#MODEL): {problem}"
            ) from problem

    def _only_model(self) -> str:
        known = self._models()
        if len(known) != 1:
            raise BadInputError(
                f"{self.address} has {len(known)} models; name one (ADDRESS#MODEL): {', '.join(known[:20])}"
            )
        return known[0]


def base_address(address: str) -> str:
    """Return an endpoint's base address: no final slash, no "/chat/completions".

    Raises:
        BadInputError: no http(s) address, one with a password in it, or one without a version ("/v1") that
            does not name the full path "…/chat/completions" either.
    """
    parts = urlsplit(address.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInputError(f"an endpoint is an address such as http://localhost:8000/v1, got {address!r}")
    if parts.username or parts.password:
        raise BadInputError("an endpoint's address must not hold a user name or password")
    path = parts.path.rstrip("/")
    whole = path.endswith("/chat/completions")
    path = path.removesuffix("/chat/completions")
    if not whole and not _VERSION.search(path):
        meant = urlunsplit((parts.scheme, parts.netloc, f"{path}/v1", "", ""))
        raise BadInputError(
            f"the endpoint {address!r} has no version in its path; did you mean {meant!r}? "
            "(otherwise give the whole address, ending in /chat/completions)"
        )
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _key(address: str, name: str | None) -> str:
    if name is None and urlsplit(address).hostname == _OFFICIAL_HOST:
        name = _OFFICIAL_KEY
    if name is None:
        return _NO_KEY
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name.startswith(("sk_", "hf_")):
        raise BadInputError("key must be the name of an environment variable, not the key itself")
    value = os.environ.get(name, "").strip()
    if not value:
        raise BadInputError(f"the environment variable {name} (the key for {address}) is not set")
    if urlsplit(address).scheme == "http" and not _is_local(urlsplit(address).hostname or ""):
        raise BadInputError(f"{address} would carry the key in {name} unencrypted; use https")
    return value


def _is_local(host: str) -> bool:
    """Whether a host is this machine or a private network, where http is usual."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith((".local", ".internal", ".localhost"))


def _client(address: str, key: str, timeout: float, retries: int) -> openai.OpenAI:
    import openai

    return openai.OpenAI(base_url=address, api_key=key, timeout=timeout, max_retries=retries)


def _said(problem: Exception) -> str:
    """Return a server's complaint on one line."""
    body = getattr(problem, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    return _flat(str(message or problem))


def _flat(text: str) -> str:
    """Return a stranger's words on one line that is not too long, without what could steer a terminal."""
    plain = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return plain if len(plain) <= 300 else f"{plain[:300]}…"
