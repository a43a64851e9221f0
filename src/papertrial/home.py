"""Where papertrial keeps evidence and caches: `$PAPERTRIAL_HOME`, or `~/.papertrial`."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from papertrial.errors import BadInputError

_REASONS = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENOTDIR: "a part of that path is a file, not a folder",
    errno.EEXIST: "it is a file, not a folder",
}


def home() -> Path:
    """Return the folder that holds evidence and caches: `$PAPERTRIAL_HOME`, or `~/.papertrial`.

    The environment is read at every call, so a test may point it elsewhere. The folder need not exist.
    """
    chosen = os.environ.get("PAPERTRIAL_HOME", "").strip()
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".papertrial"


def ensure_writable(path: Path) -> Path:
    """Make the folder `path` where it is missing, prove that a file can be written in it, and return it.

    Raises:
        BadInputError: it cannot be made or written (read-only, full, no permission, a file in the way).
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".writable-") as probe:
            probe.write(b"1")  # an empty file can be made on a full disk; a byte cannot
            probe.flush()
    except OSError as problem:
        reason = _REASONS.get(problem.errno or 0, problem.strerror or str(problem))
        raise BadInputError(
            f"cannot write in {path}: {reason}; choose another folder (PAPERTRIAL_HOME moves papertrial's own)"
        ) from problem
    return path
