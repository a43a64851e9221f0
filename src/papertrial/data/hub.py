"""Documents of a data set on the Hugging Face hub, streamed until enough is read."""

from __future__ import annotations

from collections.abc import Iterator

from papertrial.errors import BadInputError
from papertrial.hub import hub_errors, hub_has

DEFAULT_CHARACTERS = 20_000_000
"""How much is read where the caller names no limit: about five million tokens."""


def read_hub(name: str, field: str, max_characters: int | None = None) -> list[str]:
    """Return the first documents of the training split of a hub data set.

    Args:
        name: "org/name", or "org/name:config" ("allenai/c4:en").
        field: the field that holds the text.
        max_characters: read no more than this (`DEFAULT_CHARACTERS` if not given); at least one document.

    Raises:
        BadInputError: no network, no such data set or configuration, no such field, or no text.
    """
    identifier, _, config = name.partition(":")
    if not hub_has(identifier, "dataset"):
        raise BadInputError(
            f"the hub cannot be reached for the data set {identifier!r}; use files or 'stdlib'"
        )
    limit = max_characters or DEFAULT_CHARACTERS
    documents: list[str] = []
    total = 0
    for text in _stream(identifier, config, field):
        total += len(text)
        if total > limit and documents:
            break
        documents.append(text)
    if not documents:
        raise BadInputError(f"the hub data set {name!r} holds no text in {field!r}")
    return documents


def _stream(identifier: str, config: str, field: str) -> Iterator[str]:
    """Give the texts that are not empty, one row after the other."""
    import datasets

    try:
        rows = datasets.load_dataset(identifier, config or None, split="train", streaming=True)
        for number, row in enumerate(rows):
            text = row.get(field)
            if field not in row:
                raise BadInputError(f"{identifier} has no field {field!r}; it has: {', '.join(sorted(row))}")
            if not isinstance(text, str):
                raise BadInputError(
                    f"{identifier}, row {number}: {field!r} is {type(text).__name__}, not text"
                )
            if text.strip():
                yield text
    except BadInputError:
        raise
    except hub_errors(ValueError, RuntimeError) as problem:
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise BadInputError(f"cannot read the hub data set {identifier!r}: {reason}") from problem
