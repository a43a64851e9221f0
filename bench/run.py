"""Run every comparison and write bench/RESULTS.md: the figures, the machine, the command.

make bench                       everything
python bench/run.py apollo       only some sections; the others stay as they were
"""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from papertrial.errors import unknown
from papertrial.trial.environment import describe_environment, describe_machine

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "RESULTS.md"
SCRIPTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "runner": ((),),
    "training_loop": ((),),
    "apollo": ((),),
    "retroinfer": ((), ("--peer",)),
    "prmbench": (("metrics",), ("scoring",)),
    "hadamard": ((),),
    "bitnet_v2": ((), ("--eager",)),
    "bitnet_v2_torchao": ((),),
    "qwen3_quantization": (("billm",), ("packed",), ("memory",), ("gptq",), ("awq",)),
    "vocabulary_adaptation": ((), ("--latentis",)),
    "graph_attention": ((), ("--long",)),
    "exaone_3_5": ((),),
    "digest": ((),),
    "grounding": ((),),
    "site": ((),),
    "splatting": ((),),
    "room_2dgs": ((),),
    "modec_gs": ((),),
}
HEAD = """\
# Speed, side by side

Written by `make bench`; each section by the script it names, in one run, the contestants in turn. Ratios travel between
machines better than times, and a busy machine spoils both: run it on a quiet one.
"""


def main(names: list[str]) -> int:
    """Run the scripts named, or all, and rewrite their sections."""
    for name in names:
        if name not in SCRIPTS:
            raise unknown("comparison", name, SCRIPTS)
    sections = _read()
    failed = []
    for name in names or SCRIPTS:
        print(f"bench/{name}.py …", flush=True)
        parts = []
        for words in SCRIPTS[name]:
            done = subprocess.run(
                [sys.executable, FOLDER / f"{name}.py", *words], stdout=subprocess.PIPE, text=True
            )
            if done.returncode:
                failed.append(" ".join([name, *words]))
            else:
                parts.append(f"`{' '.join([f'python bench/{name}.py', *words])}`\n\n{done.stdout.strip()}\n")
        if parts:
            machine = describe_machine(describe_environment())
            made = datetime.now(UTC).strftime("%Y-%m-%d")
            sections[name] = "\n".join([f"{made}, {machine}\n", *parts])
            _write(sections)
            print(sections[name])
    for name in failed:
        print(f"bench/{name} failed; its figures are missing", file=sys.stderr)
    return int(bool(failed))


def _read() -> dict[str, str]:
    if not RESULTS.exists():
        return {}
    parts = re.split(r"^## (\w+)\n\n", RESULTS.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], (part.rstrip() + "\n" for part in parts[2::2]), strict=True))


def _write(sections: dict[str, str]) -> None:
    ordered = [f"## {name}\n\n{sections[name]}" for name in SCRIPTS if name in sections]
    RESULTS.write_text("\n".join([HEAD, *ordered]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
