"""Asking the Hugging Face hub once whether it has something, before a library asks it for a minute."""

from __future__ import annotations

from typing import Literal

from papertrial.errors import BadInputError

_TIMEOUT = 10.0  # seconds


def hub_has(identifier: str, kind: Literal["model", "dataset"]) -> bool:
    """Return True if the hub has `identifier`, False if the hub cannot be reached.

    Libraries retry an unreachable hub for most of a minute; this asks once.

    Raises:
        BadInputError: the hub answers that there is no such public id, that it is gated, or that it is no id.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        HfApi().repo_info(identifier, repo_type=kind, timeout=_TIMEOUT)
    except GatedRepoError as problem:
        raise BadInputError(f"the {kind} {identifier!r} is gated: accept its terms and log in") from problem
    except RepositoryNotFoundError as problem:
        raise BadInputError(f"the hub has no public {kind} {identifier!r}") from problem
    except HFValidationError as problem:
        raise BadInputError(f"{identifier!r} is neither a path here nor a hub id: {problem}") from problem
    except hub_errors():
        return False
    return True


def hub_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what the hub client raises when the network or the hub fails, and `others`, for an `except`.

    The HTTP library beneath it differs between versions (requests, httpx, …); the bases of the client's own
    error name the one in use.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)), *others)
