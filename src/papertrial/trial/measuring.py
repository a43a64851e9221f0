"""Measuring one job where the runner sends it: in this process, in a pool, on a Ray worker."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from papertrial.cache import cached_folder
from papertrial.errors import BadInputError
from papertrial.trial.artifacts import encode_artifact
from papertrial.trial.contract import Trial
from papertrial.trial.environment import PeakMemory, describe_environment, environment_id, load_average
from papertrial.trial.evidence import Curve, Measurement
from papertrial.trial.files import plain, to_json

_LIVE_INTERVAL = 0.25  # seconds between two writes of the live file
_CURVE_POINTS = 400


@dataclass(frozen=True)
class Job:
    """What is measured together: one pair, or all arms of one seed of a timed trial.

    Attributes:
        name: the job's name, unique within its evidence.
        paper: the paper's name.
        trial: the settings.
        pairs: arm, seed, and the point of the grid.
        threads: CPU threads to use.
        cache: the folder in which prepared work is kept.
        live: the file that tells how far the job is, or None.
    """

    name: str
    paper: str
    trial: Trial
    pairs: tuple[tuple[str, int, Mapping[str, Any]], ...]
    threads: int
    cache: Path
    live: Path | None = None


@dataclass(frozen=True)
class Failure:
    """An arm that raised: which, and the traceback."""

    job: str
    arm: str
    seed: int
    error: str
    traceback: str


@dataclass
class Outcome:
    """What came of a job; travels from the worker to the runner, which writes it."""

    measurements: list[Measurement] = field(default_factory=list)
    curves: dict[str, dict[str, Curve]] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    environment: tuple[str, dict[str, Any]] = ("", {})


class JobWatch:
    """The `Watch` of a running pair: thins the curves, keeps artifacts, writes the live file."""

    def __init__(self, job: Job, arm: str, seed: int, prepared: Path) -> None:
        self._job, self._arm, self._seed, self._prepared = job, arm, seed, prepared
        self._written = 0.0
        self._stride = 1
        self._calls = 0
        self._points: list[tuple[int, dict[str, float]]] = []
        self.artifacts: dict[str, bytes] = {}

    @property
    def prepared(self) -> Path:
        """The folder that `Trial.prepare` filled."""
        return self._prepared

    def step(self, done: int, total: int, **values: float) -> None:
        """Take one step's values; see `papertrial.trial.contract.Watch`."""
        if values and (self._calls % self._stride == 0 or done >= total):
            self._points.append((done, values))
            if len(self._points) > 2 * _CURVE_POINTS:
                self._points = self._points[::2]
                self._stride *= 2
        self._calls += 1
        now = time.monotonic()
        if self._job.live is not None and (now - self._written > _LIVE_INTERVAL or done >= total):
            self._written = now
            self._tell(done, total, values)

    def keep(self, name: str, artifact: object) -> None:
        """Keep an artifact; see `papertrial.trial.contract.Watch`."""
        file, content = encode_artifact(name, artifact)
        self.artifacts[f"{self._arm}@{self._seed}/{file}"] = content

    def curves(self) -> dict[str, Curve]:
        """Return the steps and values of every name, thinned to at most twice 400 points."""
        curves: dict[str, Curve] = {}
        for done, values in self._points:
            for name, value in values.items():
                steps, numbers = curves.setdefault(name, ([], []))
                steps.append(done)
                numbers.append(float(value))
        return curves

    def _tell(self, done: int, total: int, values: Mapping[str, float]) -> None:
        """Write how far the pair is. Nothing depends on it, so a full disk is no reason to stop."""
        assert self._job.live is not None
        state = {
            "arm": self._arm,
            "seed": self._seed,
            "done": done,
            "total": total,
            "values": {name: float(value) for name, value in values.items()},
        }
        half = self._job.live.with_name(f".half-{self._job.live.name}")
        with contextlib.suppress(OSError):
            half.write_bytes(to_json(state))
            half.replace(self._job.live)


def measure_job(job: Job) -> Outcome:
    """Measure every pair of a job. An arm that raises is a `Failure`; the others go on."""
    environment = describe_environment()
    outcome = Outcome(environment=(environment_id(environment), environment))
    try:
        for arm, seed, point in job.pairs:
            try:
                _measure_pair(job, arm, seed, point, outcome)
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                outcome.failures.append(Failure(job.name, arm, seed, said, traceback.format_exc()))
    finally:
        if job.live is not None:
            job.live.unlink(missing_ok=True)
    return outcome


def prepare(job: Job, seed: int) -> Path:
    """Return the folder that the trial's `prepare` filled for this seed, filling it where it is missing."""
    trial = job.trial
    if not trial.prepared_by:
        return job.cache
    recipe = {
        "paper": job.paper,
        "trial": f"{type(trial).__module__}.{type(trial).__qualname__}",
        "version": trial.version,
        "settings": {name: plain(getattr(trial, name)) for name in trial.prepared_by},
        "seed": seed,
        "packages": describe_environment()["packages"],
    }
    return cached_folder(
        job.cache, f"prepared-{job.paper}", recipe, lambda folder: trial.prepare(seed, folder)
    )


def _measure_pair(job: Job, arm: str, seed: int, point: Mapping[str, Any], outcome: Outcome) -> None:
    trial = replace(job.trial, **point)
    with _threads(job.threads):
        watch = JobWatch(job, arm, seed, prepare(job, seed))
        _seed_everything(seed)
        load, start = load_average(), time.perf_counter()
        with PeakMemory() as memory:
            metrics = trial.measure(arm, seed, watch)
        seconds = time.perf_counter() - start
    _check_metrics(trial, arm, metrics)
    outcome.measurements.append(
        Measurement(
            arm=arm,
            seed=seed,
            metrics={name: float(value) for name, value in metrics.items()},
            point=dict(point),
            wall_seconds=seconds,
            peak_bytes=memory.bytes,
            peak_device_bytes=_device_peak(),
            threads=job.threads,
            load=load,
            environment=outcome.environment[0],
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    )
    outcome.curves[arm] = watch.curves()
    outcome.artifacts |= watch.artifacts


def _check_metrics(trial: Trial, arm: str, metrics: Mapping[str, float]) -> None:
    if set(metrics) != set(trial.metrics):
        lacking = ", ".join(sorted(set(trial.metrics) - set(metrics))) or "none"
        extra = ", ".join(sorted(set(metrics) - set(trial.metrics))) or "none"
        raise BadInputError(
            f"{type(trial).__name__}.measure({arm!r}) must return the metrics it declares; lacking: {lacking}; "
            f"not declared: {extra}"
        )


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Use `count` CPU threads: in libraries not loaded yet through the environment, in torch by its call."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(count))
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    if torch:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch and before is not None:
            torch.set_num_threads(before)


def _seed_everything(seed: int) -> None:
    """Seed what a measurement might draw from without saying so. Measurements should seed their own."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()


def _device_peak() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())
