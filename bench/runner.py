"""What the runner itself costs: the time of a run less the time of its measurements, and listing evidence.

    python bench/runner.py

The peer is the bare loop that calls `measure` and keeps the numbers in memory. The goal: under 2 % of a
measurement of ten seconds, and 10,000 pairs listed in under a second.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "lab"))

from lab_paper.trial import NoiseTrial

from papertrial.trial.evidence import Evidence
from papertrial.trial.measuring import Job, JobWatch, prepare
from papertrial.trial.runner import Options, run_trial

SECONDS, SEEDS, REPEATS = 0.2, 5, 5
PAIRS = 10_000


def main() -> None:
    """Print the figures as Markdown."""
    trial = NoiseTrial(seconds=SECONDS, rate=0.1)
    overheads = []
    for _ in range(REPEATS):
        bare, run = _bare(trial), _run(trial)
        overheads.append((run - bare) / (SEEDS * len(trial.arms)))
    overhead = statistics.median(overheads)
    print("| figure | measured | goal |\n|---|---|---|")
    print(f"| overhead of a pair over the bare loop, serial | {overhead * 1000:.0f} ms | under 200 ms |")
    print(f"| the same, as a share of a 10 s measurement | {overhead / 10:.2%} | under 2 % |")
    print(f"| 10,000 pairs listed, median of {REPEATS} | {_listing():.2f} s | under 1 s |")


def _bare(trial: NoiseTrial) -> float:
    with tempfile.TemporaryDirectory() as folder:
        job = Job("bare", "lab_paper", trial, (), 1, Path(folder))
        start = time.perf_counter()
        for seed in range(SEEDS):
            for arm in trial.arms:
                trial.measure(arm, seed, JobWatch(job, arm, seed, prepare(job, seed)))
        return time.perf_counter() - start


def _run(trial: NoiseTrial) -> float:
    with tempfile.TemporaryDirectory() as home:
        start = time.perf_counter()
        run_trial("lab_paper", "noise", trial, Options(Path(home), seeds=SEEDS, workers=1))
        return time.perf_counter() - start


def _listing() -> float:
    with tempfile.TemporaryDirectory() as home:
        result = run_trial("lab_paper", "noise", NoiseTrial(), Options(Path(home), seeds=1, workers=1))
        source = result.evidence.job_file("baseline.seed-0").read_text()
        for seed in range(1, PAIRS):
            file = result.evidence.job_file(f"baseline.seed-{seed}")
            file.write_text(source.replace('"seed": 0', f'"seed": {seed}'))
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            Evidence(result.evidence.folder).measurements()
            times.append(time.perf_counter() - start)
        return statistics.median(times)


if __name__ == "__main__":
    main()
