"""A virtual environment of a peer's own, for peers that pin other versions than this project."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def ensure_environment(script: str, name: str, installs: Sequence[Sequence[str]], **variables: str) -> None:
    """Run on in the peer's environment, making it first where it is missing; the package itself is read from `src`.

    Args:
        script: the running script's `__file__`.
        name: of the environment, a folder in `.venvs`.
        installs: pip's arguments, one installation after the other.
        **variables: of the environment, besides.
    """
    folder = ROOT / ".venvs" / name
    if Path(sys.prefix).resolve() == folder.resolve():
        return
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for words in installs:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *words], check=True)
        (folder / "ready").touch()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables}
    sys.exit(subprocess.run([python, script, *sys.argv[1:]], env=environment).returncode)
