"""Run every trial at its defaults, write each room's reference evidence, and README's table from it.

make reference                       all rooms
python bench/reference.py apollo     one room; `--table` alone rewrites README's table
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console

from papertrial.trial.reference import make_reference, write_reference
from papertrial.trial.rooms import discover, find_room
from papertrial.trial.runner import Options, run_trial
from papertrial.trial.summary import summarise
from papertrial.trial.table import write_readme_table
from papertrial.trial.terminal import Progress, print_summary

README = Path(__file__).resolve().parents[1] / "README.md"


def main(words: list[str]) -> int:
    """Measure the rooms named, or all that are built."""
    names = [word for word in words if not word.startswith("-")]
    rooms = [find_room(name) for name in names] or [
        room for room in discover().values() if room.card.status == "built"
    ]
    out = Console()
    failed = False
    for room in [] if "--table" in words else rooms:
        with tempfile.TemporaryDirectory() as home:
            options, types, runs = Options(Path(home)), room.trials(), {}
            for name, kind in types.items():
                trial = kind()
                with Progress(out, f"{room.name}.{name}", trial) as progress:
                    runs[name] = (trial, run_trial(room.name, name, trial, options, progress))
            summary = summarise(room.card, types, runs, options)
            print_summary(out, summary)
            if summary.failed or summary.interrupted:
                failed = True
                continue
            out.print(f"wrote {write_reference(room.folder, make_reference(summary, types))}")
    write_readme_table(README)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
