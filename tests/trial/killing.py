"""Runs the made-up trial again and again, each time killing it at a random moment. Started by test_kill.py.

Everything is imported once; each run is a fork of this process, so that a hundred kills take seconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path


def main(home: str, log: str, kills: int) -> None:
    """Kill `kills` runs, then let one run fill the gaps; print what was seen as JSON."""
    from lab_paper.trial import NoiseTrial

    from papertrial.trial.evidence import Evidence
    from papertrial.trial.runner import Options, run_trial
    from papertrial.trial.settings import Identity

    trial = NoiseTrial(seconds=0.004, log=f"@{log}")
    options = Options(Path(home), seeds=1000, workers=1)  # more than a hundred short runs get done
    evidence = Evidence.of(options.home, Identity("lab_paper", "noise", trial))
    draw = random.Random(0)
    problems, killed, before, calls = [], 0, {}, {}
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            run_trial("lab_paper", "noise", trial, options)
            os._exit(0)
        time.sleep(draw.uniform(0.0, 0.25))
        os.kill(child, signal.SIGKILL)
        killed += os.waitpid(child, 0)[1] == signal.SIGKILL
        now = {(one.arm, one.seed): dict(one.metrics) for one in evidence.measurements()}
        problems += [f"lost {pair}" for pair in before if now.get(pair) != before[pair]]
        problems += [f"half file {path.name}" for path in evidence.set_aside]
        counted = _calls(Path(log))
        problems += [f"again {pair}" for pair in before if counted.get(_name(pair)) != calls.get(_name(pair))]
        before, calls = now, counted
    seeds = 1 + max(seed for _, seed in before)
    rest = Options(options.home, seeds=seeds, arms=("baseline",), workers=1)
    missing = seeds - len(run_trial("lab_paper", "noise", trial, rest).measurements)
    json.dump({"killed": killed, "done": len(before), "missing": missing, "problems": problems}, sys.stdout)


def _name(pair: tuple[str, int]) -> str:
    return f"{pair[0]}.{pair[1]}"


def _calls(log: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for file in log.iterdir():
        arm, seed = file.name.split(".")[:2]
        counts[f"{arm}.{seed}"] = counts.get(f"{arm}.{seed}", 0) + 1
    return counts


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
