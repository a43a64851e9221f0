"""Files that go to a reader as they are: the stylesheet, the script, the icon, and artifacts of measurements."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from papertrial.trial.media import MEDIA_TYPES

ARTIFACT_TYPES: Mapping[str, str] = {
    **MEDIA_TYPES,
    ".csv": "text/csv; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
"""What an artifact may be. Nothing else is sent, and nothing ever as HTML."""


def site_files() -> dict[str, tuple[str, bytes]]:
    """Return the site's own files, with their types."""
    own = resources.files("papertrial.site") / "static"
    shared = resources.files("papertrial.trial") / "templates"
    style = (shared / "paper.css").read_bytes() + (own / "site.css").read_bytes()
    script = (own / "app.js").read_bytes() + (shared / "compare.js").read_bytes()
    return {
        "static/style.css": ("text/css; charset=utf-8", style),
        "static/app.js": ("text/javascript; charset=utf-8", script),
        "static/icon.svg": ("image/svg+xml", (own / "icon.svg").read_bytes()),
    }


def open_artifact(folder: Path, path: str) -> tuple[int, str] | None:
    """Open an artifact below an evidence folder, and return its handle and type; None where there is none.

    Every part of the path is opened without following links, so that nothing outside the folder is ever
    read, whatever the path says and whoever moves files meanwhile.

    Args:
        folder: the evidence of one trial.
        path: below it, as `artifacts/<arm>@<seed>/<file>`.
    """
    parts = path.split("/")
    kind = ARTIFACT_TYPES.get(Path(path).suffix.lower())
    if kind is None or len(parts) != 3 or parts[0] != "artifacts":
        return None
    if any(part in ("", ".", "..") or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        return None
    handle = -1
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        for part in parts:
            below = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
            os.close(handle)
            handle = below
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
    except OSError:
        regular = False
    if not regular:
        if handle >= 0:
            os.close(handle)
        return None
    return handle, kind


def byte_range(asked: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte that a `Range` header asks for; None where it asks for the whole.

    Raises:
        ValueError: it lies outside the file.
    """
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.strip())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        raise ValueError(f"bytes {start} to {end} of {size}")
    return start, end
