"""Running a trial: what is missing is measured, each finished job is written at once, nothing twice."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from papertrial.home import ensure_writable
from papertrial.trial.contract import Trial
from papertrial.trial.evidence import TUNING_SEED, Curve, Evidence, Measurement, job_name
from papertrial.trial.executors import Executor, PoolExecutor, RayExecutor, SerialExecutor, run_jobs
from papertrial.trial.listening import Listener, Pair, Silent
from papertrial.trial.measuring import Failure, Job, Outcome
from papertrial.trial.settings import Identity
from papertrial.trial.tuning import best_points, choose_arms, grid_points


@dataclass(frozen=True)
class Options:
    """How a trial is run; none of it changes what is measured.

    Attributes:
        home: where evidence and caches lie.
        seeds: how many seeds; the trial's own number where None.
        arms: which arms; all where None.
        workers: how many jobs at once; 1 measures in this process. None chooses: one for each core that a
            job's threads leave free, one where a GPU is used, the whole cluster on Ray.
        ray: the address of a Ray cluster, or None.
        threads: CPU threads for each job; the trial's own number where None.
    """

    home: Path
    seeds: int | None = None
    arms: tuple[str, ...] | None = None
    workers: int | None = None
    ray: str | None = None
    threads: int | None = None


@dataclass
class Result:
    """What a run left behind.

    Attributes:
        evidence: where it lies.
        measurements: everything measured on fresh seeds, this run's and earlier ones'.
        sweep: everything measured while tuning.
        curves: by arm, seed, name.
        failures: the arms that raised.
        unsaved: jobs whose files could not be written, with the reason. Their numbers are in
            `measurements` all the same.
        interrupted: whether Ctrl-C ended the run.
    """

    evidence: Evidence
    measurements: list[Measurement] = field(default_factory=list)
    sweep: list[Measurement] = field(default_factory=list)
    curves: dict[str, dict[int, dict[str, Curve]]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    unsaved: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


def run_trial(
    paper: str, trial_name: str, trial: Trial, options: Options, listener: Listener | None = None
) -> Result:
    """Measure every pair of a trial that is not measured yet.

    Raises:
        BadInputError: the settings cannot work, or the home cannot be written; nothing was measured.
    """
    trial.check()
    ensure_writable(options.home)
    run = _Run(paper, trial_name, trial, options, listener or Silent())
    with contextlib.ExitStack() as stack:
        if trial.timed:
            stack.enter_context(_alone(options.home, run.listener))
        try:
            run.tune()
            run.measure()
        except KeyboardInterrupt:
            run.result.interrupted = True
        finally:
            run.close()
    return run.finish()


class _Run:
    """One call of `run_trial`."""

    def __init__(self, paper: str, name: str, trial: Trial, options: Options, listener: Listener) -> None:
        self.paper, self.trial, self.options, self.listener = paper, trial, options, listener
        self.arms = trial.arms if options.arms is None else choose_arms(type(trial), options.arms)
        self.seeds = trial.seeds if options.seeds is None else options.seeds
        self.threads = options.threads or trial.threads
        self.device = str(getattr(trial, "device", "cpu"))
        identity = Identity(paper, name, trial)
        self.evidence = Evidence.of(options.home, identity)
        self.evidence.open(identity)
        self.result = Result(self.evidence)
        self._executor: Executor | None = None
        self._done: dict[str, list[Measurement]] = {}
        self._unwritten: dict[str, Outcome] = {}

    def tune(self) -> None:
        """Measure every point of every arm's grid on the tuning seed."""
        pairs = [
            (arm, TUNING_SEED, point)
            for arm in self.arms
            for point in grid_points(self.trial, arm)
            if len(grid_points(self.trial, arm)) > 1
        ]
        self._run("tuning", [(job_name(*pair), (pair,)) for pair in pairs])

    def measure(self) -> None:
        """Measure every arm at its best point on fresh seeds."""
        best = best_points(self.trial, [one for done in self._done.values() for one in done])
        for arm in self.arms:
            if arm not in best:
                message = f"no point of the grid of {arm} gave a finite {self.trial.tuned_on}; it is left out"
                self._fail(Failure(arm, arm, TUNING_SEED, message, message))
        seeds = range(self.seeds)
        arms = [arm for arm in self.arms if arm in best]
        if self.trial.timed:
            # Every other round runs backwards, so that no arm always follows the same one.
            jobs = [
                (
                    f"round.seed-{seed}",
                    tuple((arm, seed, best[arm]) for arm in (arms if seed % 2 == 0 else arms[::-1])),
                )
                for seed in seeds
            ]
        else:
            # The first arm of every seed goes first, so that what seeds prepare is prepared side by side.
            order = [(arm, seed) for seed in seeds for arm in arms[:1]]
            order += [(arm, seed) for seed in seeds for arm in arms[1:]]
            pairs = [(arm, seed, best[arm]) for arm, seed in order]
            jobs = [(job_name(*pair), (pair,)) for pair in pairs]
        self._run("measuring", jobs)

    def close(self) -> None:
        """End the executor, and try once more to write what could not be written."""
        if self._executor is not None:
            self._executor.close()
        for job, outcome in list(self._unwritten.items()):
            self._write(job, outcome)

    def finish(self) -> Result:
        """Gather what is on disk and what could not be written."""
        result = self.result
        unsaved = [one for job in self._unwritten for one in self._done.get(job, ())]
        kept = {(one.arm, one.seed): one for one in [*unsaved, *self.evidence.measurements()]}
        result.measurements = sorted(
            (one for one in kept.values() if one.arm in self.arms and one.seed < self.seeds),
            key=lambda one: (one.seed, self.arms.index(one.arm)),
        )
        result.sweep = self.evidence.sweep() + [one for one in unsaved if one.seed == TUNING_SEED]
        result.curves = self.evidence.curves()
        return result

    def _run(self, phase: str, jobs: Sequence[tuple[str, tuple[Pair, ...]]]) -> None:
        """Run the jobs of one phase that are not finished."""
        pending: deque[tuple[str, tuple[Pair, ...]]] = deque()
        for name, pairs in jobs:
            if not self._find(name, pairs):
                pending.append((name, pairs))
        found = [one for name, _ in jobs for one in self._done.get(name, ())]
        self.listener.planned(phase, self.evidence, [pair for _, pairs in jobs for pair in pairs], found)
        for path in self.evidence.set_aside:
            self.listener.notice(
                f"{path.name} could not be read; it was set aside as {path} and is measured again"
            )
        self.evidence.set_aside.clear()
        if not pending:
            return
        locks: dict[str, FileLock] = {}
        try:
            source = run_jobs(
                self._choose_executor(len(pending)), lambda: self._take(pending, locks), lambda: bool(pending)
            )
            for finished in source:
                if finished is not None:
                    job, outcome = finished
                    self._take_in(job, outcome)
                    locks.pop(job.name).release()
        finally:
            for lock in locks.values():
                lock.release()

    def _find(self, name: str, pairs: Sequence[Pair]) -> bool:
        """Look whether a job is finished, and take in its measurements where it is.

        A timed round that lacks an arm is not finished: arms are compared within a round only.
        """
        if name in self._done:
            return True
        measurements = self.evidence.read(name)
        if measurements is None or {arm for arm, _, _ in pairs} - {one.arm for one in measurements}:
            return False
        self._done[name] = measurements
        return True

    def _take(self, pending: deque[tuple[str, tuple[Pair, ...]]], locks: dict[str, FileLock]) -> Job | None:
        """Return the first pending job that no other run holds, locked; None where there is none."""
        for _ in range(len(pending)):
            name, pairs = pending.popleft()
            lock = FileLock(self._lock_file(name), timeout=0)
            try:
                lock.acquire()
            except Timeout:
                pending.append((name, pairs))
                continue
            if self._find(name, pairs):  # another run finished it meanwhile
                lock.release()
                for measurement in self._done[name]:
                    self.listener.measured(measurement)
                continue
            locks[name] = lock
            return Job(
                name=name,
                paper=self.paper,
                trial=self.trial,
                pairs=pairs,
                threads=self.threads,
                cache=self.options.home / "cache",
                live=self.evidence.live_file(name),
            )
        return None

    def _take_in(self, job: Job, outcome: Outcome) -> None:
        """Write what was measured, and the tracebacks of the arms that raised."""
        for failure in outcome.failures:
            self._fail(failure)
        if not outcome.measurements:
            return
        self._done[job.name] = outcome.measurements
        self._write(job.name, outcome)
        for measurement in outcome.measurements:
            self.listener.measured(measurement)

    def _write(self, job: str, outcome: Outcome) -> None:
        try:
            self.evidence.write(
                job, outcome.measurements, outcome.curves, outcome.artifacts, outcome.environment
            )
        except OSError as error:
            if job not in self._unwritten:
                self.listener.notice(
                    f"{job} is measured but cannot be written: {error}; it is kept in memory"
                )
            self._unwritten[job] = outcome
            self.result.unsaved[job] = str(error)
        else:
            self._unwritten.pop(job, None)
            self.result.unsaved.pop(job, None)

    def _fail(self, failure: Failure) -> None:
        self.result.failures.append(failure)
        with contextlib.suppress(OSError):
            self.evidence.write_failure(f"{failure.job}.{failure.arm}", failure.traceback)
        self.listener.failed(failure)

    def _choose_executor(self, jobs: int) -> Executor:
        """Return the executor, made anew where more jobs can run at once. A timed trial has one worker."""
        workers = 1 if self.trial.timed else self.options.workers
        if self.options.ray is not None:
            if self._executor is None:
                self._executor = RayExecutor(self.options.ray, self.threads, self.device, workers)
            return self._executor
        workers = min(workers or self._default_workers(), jobs)
        if self._executor is None or self._executor.capacity < workers:
            self.close()
            self._executor = SerialExecutor() if workers <= 1 else PoolExecutor(workers, self.threads)
        return self._executor

    def _default_workers(self) -> int:
        if self.device != "cpu":
            return 1
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // self.threads)

    def _lock_file(self, job: str) -> Path:
        folder = self.evidence.folder / "locks"
        folder.mkdir(exist_ok=True)
        return folder / f"{job}.lock"


@contextlib.contextmanager
def _alone(home: Path, listener: Listener) -> Iterator[None]:
    """Hold the home's lock for timed trials: two at once would time each other."""
    lock = FileLock(home / "timed.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        listener.notice("another timed trial is running; waiting for it to end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
