"""The same pages as static files, for any host: every link relative, no server's own parts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from papertrial.errors import BadInputError
from papertrial.home import ensure_writable
from papertrial.site.assets import ARTIFACT_TYPES, open_artifact, site_files
from papertrial.site.library import Library
from papertrial.site.pages import Pages
from papertrial.site.paper_pages import artifact_files
from papertrial.site.words import LANGUAGES
from papertrial.trial.files import to_json, write_atomically

MANIFEST = ".papertrial-site.json"
"""Names every file that was written, so that the next writing removes its own and nothing else."""


def write_site(home: Path, folder: Path, base: str | None = None) -> int:
    """Write the site, and return how many files it has.

    A file is written only where its content has changed, each at once, the pages after what they show.
    Files of an earlier writing that are no longer part of the site are removed; others are left alone.

    Args:
        home: where evidence lies.
        folder: where to write; missing, empty, or a site written before.
        base: the address at which the site will lie, for feeds.

    Raises:
        BadInputError: the folder holds something else, or cannot be written.
    """
    earlier = _earlier(folder)
    ensure_writable(folder)
    pages = Pages(Library(home), static=True, base=base)
    written: set[str] = set(earlier)
    kept: list[str] = []
    _note(folder, written)  # an interrupted writing is still recognised as a site
    for path, content in _files(pages):
        target = folder / path
        if target.is_symlink() or any(parent.is_symlink() for parent in _parents(folder, target)):
            raise BadInputError(f"{target} is a link or lies behind one; nothing is written through it")
        if not target.is_file() or target.read_bytes() != content:
            write_atomically(target, content)
        kept.append(path)
    _note(folder, written | set(kept))
    _remove(folder, earlier - set(kept))
    _note(folder, set(kept))
    return len(kept)


def _files(pages: Pages) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the site: what pages show first, then the pages, the first one last."""
    for name, (_, content) in site_files().items():
        yield name, content
    for paper in pages.library.rooms:
        for run, path in artifact_files(pages.library, paper):
            if (content_of := _artifact(pages, paper, run, path)) is not None:
                yield f"papers/{paper}/runs/{run}/{path}", content_of
    for path in sorted(pages.every(), key=lambda path: -path.count("/")):
        for language in LANGUAGES:
            page = pages.find(path, language)
            if page is None:
                continue
            prefix = "" if language == "en" else f"{language}/"
            made = page.render()
            name = f"{path}index.html" if not path or path.endswith("/") else path
            yield f"{prefix}{name}", made if isinstance(made, bytes) else made.encode()


def _artifact(pages: Pages, paper: str, run: str, path: str) -> bytes | None:
    group = pages.library.index.find(paper, run)
    if group is None or PurePosixPath(path).suffix.lower() not in ARTIFACT_TYPES:
        return None
    opened = open_artifact(group.folder, path)
    if opened is None:
        return None
    with os.fdopen(opened[0], "rb") as file:
        return file.read()


def _earlier(folder: Path) -> set[str]:
    """Return the files that an earlier writing left.

    Raises:
        BadInputError: there is something in the folder, and it is no site of ours.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BadInputError(
            f"{folder} is no folder; name one that is missing, empty, or a site written before"
        )
    if not folder.exists() or not any(folder.iterdir()):
        return set()
    try:
        raw = json.loads((folder / MANIFEST).read_bytes())
        names = {str(name) for name in raw["files"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{folder} is not empty and was not written by papertrial site; name another folder"
        ) from error
    return {name for name in names if _inside(name)}


def _inside(name: str) -> bool:
    """Say whether a name of the manifest stays inside the folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def _note(folder: Path, names: set[str]) -> None:
    write_atomically(folder / MANIFEST, to_json({"files": sorted(names)}, indent=0))


def _remove(folder: Path, names: set[str]) -> None:
    """Remove files of an earlier writing, and the folders that this leaves empty."""
    for name in names:
        target = folder / name
        if any(parent.is_symlink() for parent in _parents(folder, target)):
            continue
        target.unlink(missing_ok=True)
        for parent in _parents(folder, target):
            if parent.is_dir() and not any(parent.iterdir()):
                shutil.rmtree(parent)


def _parents(folder: Path, target: Path) -> list[Path]:
    """Return the folders between a file and the site's folder, innermost first."""
    return [parent for parent in target.parents if folder in parent.parents]
