"""Where jobs run: in this process, in a pool of processes, on a Ray cluster. The same jobs, the same outcomes."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any, Protocol

from papertrial.errors import BadInputError, MissingExtraError
from papertrial.trial.measuring import Failure, Job, Outcome, measure_job

MAX_ATTEMPTS = 3  # a worker that the kernel kills twice under one job may be unlucky; thrice is the job


class Executor(Protocol):
    """Runs jobs somewhere. Used by one thread."""

    capacity: int

    def start(self, job: Job) -> None:
        """Begin a job; called only while fewer than `capacity` run."""

    def collect(self, timeout: float) -> Iterator[tuple[Job, Outcome]]:
        """Yield jobs that have finished, waiting for the first at most `timeout` seconds."""

    def close(self) -> None:
        """Stop, ending what still runs."""


class SerialExecutor:
    """Runs each job in this process."""

    capacity = 1

    def __init__(self) -> None:
        self._job: Job | None = None

    def start(self, job: Job) -> None:
        """Take the job; it runs when its outcome is collected."""
        self._job = job

    def collect(self, timeout: float) -> Iterator[tuple[Job, Outcome]]:
        """Run the job and yield its outcome; the timeout does not interrupt it."""
        if self._job is not None:
            job, self._job = self._job, None
            yield job, measure_job(job)

    def close(self) -> None:
        """Nothing runs between two calls."""


class PoolExecutor:
    """Runs jobs in fresh processes (spawned). A process that dies is replaced and its job tried again.

    When a process dies, nobody can tell which of the running jobs killed it. They all become suspects and are
    run one at a time: the guilty one is found, and jobs that only together are too large for the memory finish.
    """

    def __init__(self, workers: int, threads: int) -> None:
        self.capacity = workers
        self._threads = threads
        self._pool: ProcessPoolExecutor | None = None
        self._queue: deque[Job] = deque()
        self._running: dict[Future[Outcome], Job] = {}
        self._suspects: set[str] = set()
        self._deaths: Counter[str] = Counter()

    def start(self, job: Job) -> None:
        """Send the job to a worker as soon as one may take it."""
        self._queue.append(job)
        self._fill()

    def collect(self, timeout: float) -> Iterator[tuple[Job, Outcome]]:
        """Yield what has finished; jobs whose worker died are tried again."""
        self._fill()
        done, _ = wait(self._running, timeout=timeout, return_when=FIRST_COMPLETED)
        lost: list[Job] = []
        for future in done:
            job = self._running.pop(future)
            try:
                outcome = future.result()
            except BrokenProcessPool:
                lost.append(job)
                continue
            self._suspects.discard(job.name)
            yield job, outcome
        if lost:
            yield from self._replace_pool(lost)
        self._fill()

    def close(self) -> None:
        """End the workers: at once where they still work, else in good order."""
        self._queue.clear()
        if self._pool is not None and not self._running:
            self._pool.shutdown()
            self._pool = None
        self._running.clear()
        self._drop_pool()

    def _fill(self) -> None:
        while self._queue and len(self._running) < (1 if self._suspects else self.capacity):
            job = self._queue.popleft()
            try:
                future = self._workers().submit(measure_job, job)
            except BrokenProcessPool:  # it broke between two jobs
                self._drop_pool()
                future = self._workers().submit(measure_job, job)
            self._running[future] = job

    def _replace_pool(self, lost: list[Job]) -> Iterator[tuple[Job, Outcome]]:
        """Drop the broken pool and put its jobs back; give up one that died alone too often."""
        lost += self._running.values()
        self._running.clear()
        self._drop_pool()
        if len(lost) == 1:
            self._deaths[lost[0].name] += 1
            if self._deaths[lost[0].name] >= MAX_ATTEMPTS:
                self._suspects.discard(lost[0].name)
                yield lost[0], _killed(lost[0], MAX_ATTEMPTS)
                return
        self._suspects |= {job.name for job in lost}
        self._queue.extendleft(reversed(lost))

    def _workers(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.capacity,
                mp_context=get_context("spawn"),
                initializer=_start_worker,
                initargs=(self._threads,),
            )
        return self._pool

    def _drop_pool(self) -> None:
        if self._pool is None:
            return
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        self._pool = None


class RayExecutor:
    """Runs jobs as tasks of a Ray cluster and collects them as they finish. Ray retries a dead worker's task."""

    def __init__(self, address: str, threads: int, device: str, workers: int | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "ray") from error
        self._ray: Any = ray
        self._started_here = not ray.is_initialized()
        if self._started_here:
            self._connect(address, threads, workers)
        gpus = 1 if device.startswith("cuda") else 0
        self._task = ray.remote(measure_job).options(
            num_cpus=threads, num_gpus=gpus, max_retries=MAX_ATTEMPTS - 1
        )
        resources = ray.cluster_resources()
        room = resources.get("GPU", 0) if gpus else resources.get("CPU", 1) // threads
        self.capacity = max(1, int(min(room, workers) if workers else room))
        self._running: dict[Any, Job] = {}

    def start(self, job: Job) -> None:
        """Send the job to the cluster."""
        self._running[self._task.remote(job)] = job

    def collect(self, timeout: float) -> Iterator[tuple[Job, Outcome]]:
        """Yield what has finished."""
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        for reference in done:
            job = self._running.pop(reference)
            try:
                yield job, self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                yield job, _failed(job, f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Cancel what still runs and leave the cluster (ending it where it was started here)."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        if self._started_here:
            self._ray.shutdown()

    def _connect(self, address: str, threads: int, workers: int | None) -> None:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        settings: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": "ERROR",
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}},
        }
        if address == "local":
            cores = (workers or max(1, (os.cpu_count() or 1) // threads)) * threads
            settings |= {"num_cpus": cores, "include_dashboard": False}
        try:
            self._ray.init(address=address, **settings)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BadInputError(
                f"no Ray cluster answers at {address!r} ({error}); give 'local' to start one on this machine, "
                "'auto' for the one running here, or ray://HOST:PORT"
            ) from error


def run_jobs(
    executor: Executor, take: Callable[[], Job | None], waiting: Callable[[], bool]
) -> Iterator[tuple[Job, Outcome] | None]:
    """Run jobs until none is left, yielding each with its outcome, and None while nothing finishes.

    Args:
        executor: where they run.
        take: gives the next job that may start now, or None.
        waiting: whether jobs are left that may become free later (another run holds them).
    """
    running = 0
    while True:
        while running < executor.capacity and (job := take()) is not None:
            executor.start(job)
            running += 1
        if running:
            for finished in executor.collect(timeout=0.2):
                running -= 1
                yield finished
            yield None
        elif waiting():
            time.sleep(0.1)
            yield None
        else:
            return


def _start_worker(threads: int) -> None:
    """Pin the threads of libraries that this fresh process has not loaded yet."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # bars of several workers are noise
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if sys.platform != "win32":
        import signal

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's to handle


def _end_with_parent() -> None:
    """Leave when the runner is gone: a killed runner cannot tell its workers."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _killed(job: Job, attempts: int) -> Outcome:
    return _failed(job, f"its process was killed {attempts} times (out of memory?)")


def _failed(job: Job, message: str) -> Outcome:
    return Outcome(failures=[Failure(job.name, arm, seed, message, message) for arm, seed, _ in job.pairs])
