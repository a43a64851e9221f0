"""Documents to train and test on: found on every machine, in the user's files, or on the hub."""

from __future__ import annotations

import hashlib
import sysconfig
import tokenize
from collections.abc import Iterable, Sequence
from pathlib import Path

from papertrial.data.files import SUFFIXES, read_file
from papertrial.data.hub import read_hub
from papertrial.errors import BadInputError, unknown

# Left out of the standard library: other people's packages, test data (some of it broken on purpose), and
# what differs between builds of one Python version.
_NOT_LIBRARY = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}
_PER_BUILD = ("_sysconfigdata", "_sysconfig_vars", "config-")


def load_documents(
    source: str | Path, *, field: str | None = None, max_characters: int | None = None
) -> list[str]:
    """Return the documents of `source`, in a fixed order, without empty ones.

    Args:
        source: "stdlib" (the running Python's standard library, its .py files), "topics" (the language
            reference that `help()` shows), a .txt, .jsonl or .parquet file, a folder of them, or a hub
            data set ("org/name" or "org/name:config"). `#field` after a file or data set chooses the
            field that holds the text.
        field: the same as `#field`; "text" where neither is given.
        max_characters: stop before the total goes over this. Whole documents are kept, at least one. From
            a hub data set the first ones are taken, elsewhere a sample that depends on nothing but the
            documents' content. A hub data set is cut at 20 million characters where nothing is given.

    Raises:
        BadInputError: nothing there, not readable as text, a field that no row has, or no text at all.
    """
    if max_characters is not None and max_characters < 1:
        raise BadInputError(f"max_characters must be at least 1, got {max_characters}")
    place, field = _split_field(str(source), field)
    if place == "stdlib":
        documents = standard_library()
    elif place == "topics":
        documents = help_topics()
    elif (path := Path(place).expanduser()).exists():
        documents = _read_path(path, field)
    elif _looks_like_hub_id(place):
        return read_hub(place, field, max_characters)
    else:
        raise _not_there(place)
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise BadInputError(f"{place} holds no text")
    return documents if max_characters is None else _sample(documents, max_characters)


def standard_library() -> list[str]:
    """Return the source of the running Python's standard library, one document a module, by path.

    Tests, other packages and files that differ between builds are left out. Two machines with the same
    Python release get the same documents, a distribution's own patches aside.

    Raises:
        BadInputError: this Python was installed without its library's source.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = sorted(
        (path.relative_to(root).as_posix(), path)
        for path in root.rglob("*.py")
        if not _NOT_LIBRARY.intersection(path.relative_to(root).parts)
        and not any(part.startswith(_PER_BUILD) for part in path.relative_to(root).parts)
    )
    if not paths:
        raise BadInputError(f"this Python has no source of its standard library in {root}; use 'topics'")
    documents = []
    for _, path in paths:
        with tokenize.open(path) as file:  # a source file names its own encoding
            documents.append(file.read())
    return documents


def help_topics() -> list[str]:
    """Return the chapters of the language reference that ship with Python (`pydoc_data.topics`)."""
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]


def split_documents(
    documents: Sequence[str], validation_share: float = 0.1, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Split documents into training and validation, each in its given order.

    The side of a document hangs on its own content and `seed` alone: it is the same on every machine, and
    adding or removing others never moves it. Documents that differ in white space only count as one, and
    the first of them is kept, so no text is on both sides.

    Args:
        documents: the texts.
        validation_share: the expected share of documents (not characters) on the validation side.
        seed: another seed, another split.

    Raises:
        BadInputError: the share is not strictly between 0 and 1, or one side would be empty.
    """
    if not 0.0 < validation_share < 1.0:
        raise BadInputError(f"validation_share must lie between 0 and 1, got {validation_share}")
    training: list[str] = []
    validation: list[str] = []
    seen = set()
    for document in documents:
        key = _content_key(document, str(seed))
        if key in seen:
            continue
        seen.add(key)
        chosen = int.from_bytes(key[:8], "big") < validation_share * 2**64
        (validation if chosen else training).append(document)
    if not training or not validation:
        empty = "validation" if training else "training"
        raise BadInputError(
            f"the {empty} side is empty: {len(seen)} different documents at validation_share "
            f"{validation_share}; give more documents or another share"
        )
    return training, validation


def _content_key(document: str, salt: str) -> bytes:
    """Hash a document up to white space; other salts give independent hashes."""
    normal = " ".join(document.split())
    return hashlib.sha256(f"{salt}\n{normal}".encode("utf-8", "surrogatepass")).digest()


def _sample(documents: Iterable[str], max_characters: int) -> list[str]:
    """Keep whole documents up to `max_characters`, chosen by content hash, in their given order.

    The salt is none that a split uses: taking the smallest hashes of a split would take one side of it.
    """
    numbered = list(enumerate(documents))
    kept: list[tuple[int, str]] = []
    total = 0
    for number, document in sorted(numbered, key=lambda pair: _content_key(pair[1], "sample")):
        if total + len(document) > max_characters and kept:
            continue
        kept.append((number, document))
        total += len(document)
    return [document for _, document in sorted(kept)]


def _split_field(source: str, field: str | None) -> tuple[str, str]:
    if "#" in source and not Path(source).expanduser().exists():
        source, _, named = source.rpartition("#")
        if field is not None and field != named:
            raise BadInputError(f"two fields are asked for: {named!r} in the source, and {field!r}")
        field = named
    return source, field or "text"


def _read_path(path: Path, field: str) -> list[str]:
    if path.is_file():
        return read_file(path, field)
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise BadInputError(f"the folder {path} has no {', '.join(SUFFIXES)} file")
    return [document for file in files for document in read_file(file, field, whole=True)]


def _looks_like_hub_id(place: str) -> bool:
    name = place.partition(":")[0]
    return (
        name.count("/") == 1
        and not name.startswith((".", "/", "~"))
        and not name.endswith("/")
        and Path(name).suffix.lower() not in SUFFIXES
        and not Path(name).parent.is_dir()
    )


def _not_there(place: str) -> BadInputError:
    path = Path(place).expanduser()
    if "/" not in place and not path.suffix:
        return unknown("text source", place, ("stdlib", "topics", *(p.name for p in Path().glob("*.txt"))))
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    if not siblings:
        return BadInputError(f"there is no {place!r}, and no folder {str(path.parent)!r}")
    return BadInputError(f"there is no {place!r}; {unknown('file', path.name, siblings)}")
