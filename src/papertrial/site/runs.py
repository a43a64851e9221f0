"""Trials started from the page: a queue of `papertrial try` processes, with a record of each on disk.

<home>/runs/<id>.json   what was asked and what became of it
<home>/runs/<id>.log    what the process said
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from filelock import FileLock, Timeout

from papertrial.errors import BadInputError, PapertrialError
from papertrial.home import ensure_writable
from papertrial.site.forms import parse_words, setting_words
from papertrial.site.library import Library
from papertrial.site.progress import ProgressReader
from papertrial.site.run_records import ENDED, RUN_ID, Run, birth, outcome, send_signal
from papertrial.site.security import TOKEN_VARIABLE
from papertrial.trial.contract import Trial
from papertrial.trial.evidence import Evidence
from papertrial.trial.files import to_json, write_atomically
from papertrial.trial.settings import Identity

_POLL = 0.25  # seconds: as often as a running measurement writes
_LOG_TAIL = 8
_MOST_QUEUED = 50


class Runs:
    """The queue. One run at a time unless told otherwise; the rest wait.

    Args:
        library: the papers and the home.
        at_once: how many runs at the same time.
        grace: seconds between asking a run to end and ending it.
    """

    def __init__(self, library: Library, at_once: int = 1, grace: float = 10.0) -> None:
        self.library, self.at_once, self.grace = library, at_once, grace
        self.folder = library.home / "runs"
        self.readers: dict[str, ProgressReader] = {}
        self.closing = False
        self._runs: dict[str, Run] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []
        self._change = threading.RLock()
        self._owner: FileLock | None = None
        self._refusal = "this queue is not open"

    def open(self) -> None:
        """Take up the records of an earlier server: what still runs is watched, what waits goes on waiting.

        A second server on the same home, and one on a home that cannot be written, shows runs and starts none.
        """
        try:
            ensure_writable(self.folder)
            owner = FileLock(self.folder / "server.lock")
            owner.acquire(timeout=0)
            self._owner = owner
        except BadInputError as error:
            self._refusal = str(error)
        except Timeout:
            self._refusal = (
                f"another papertrial serve has {self.library.home}; start and cancel its runs there"
            )
        for run in self._records():
            self._runs[run.id] = run
        if self._owner is None:
            return
        with self._change:
            for run in list(self._runs.values()):
                if run.state == "running":
                    self._adopt(run)
            self._pump()

    def close(self) -> None:
        """Ask what runs to end, and keep it to be resumed."""
        self.closing = True
        for name, process in list(self._processes.items()):
            send_signal(process.pid, signal.SIGINT)
            try:
                process.wait(self.grace)
            except subprocess.TimeoutExpired:
                send_signal(process.pid, signal.SIGKILL)
            self._processes.pop(name, None)
        for thread in self._threads:
            thread.join(timeout=self.grace)
        if self._owner is not None:
            self._owner.release()

    def all(self) -> list[Run]:
        """Return every run, newest first."""
        if self._owner is None:
            self._runs = {run.id: run for run in self._records()}
        return sorted(self._runs.values(), key=lambda run: (-run.created, run.id))

    def get(self, name: str) -> Run:
        """Return one run.

        Raises:
            BadInputError: there is none of that id.
        """
        if name not in self._runs:
            raise BadInputError(f"there is no run {name[:40]!r}")
        return self._runs[name]

    def before(self, run: Run) -> int:
        """Return how many runs wait or run before this one."""
        with self._change:
            return sum(
                one.state == "running" or (one.state == "queued" and one.created < run.created)
                for one in self._runs.values()
            )

    def submit(self, paper: str, trial_name: str, trial: Trial, seeds: int | None, quick: bool) -> Run:
        """Put a trial into the queue and return its run.

        Raises:
            BadInputError: another server has this home, or too many runs wait.
        """
        self._own()
        kind = type(trial)
        identity = Identity(paper, trial_name, trial)
        with self._change:
            if sum(run.state == "queued" for run in self._runs.values()) >= _MOST_QUEUED:
                raise BadInputError(f"{_MOST_QUEUED} runs are waiting already; cancel some, or wait")
            run = Run(
                id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}",
                paper=paper,
                trial=trial_name,
                words=tuple(setting_words(trial, kind.quick() if quick else kind())),
                seeds=seeds,
                quick=quick,
                state="queued",
                created=time.time(),
                evidence=f"{trial_name}-{identity.hash}",
            )
            self._keep(run)
            self._pump()
            return self._runs[run.id]

    def cancel(self, name: str) -> Run:
        """End a run: one that waits at once, one that runs by SIGINT, and after the grace time by SIGKILL."""
        self._own()
        with self._change:
            run = self.get(name)
            if run.state == "queued":
                self._keep(replace(run, state="cancelled", ended=time.time()))
            elif run.state == "running" and run.process is not None and not run.cancelling:
                self._keep(replace(run, cancelling=True))
                send_signal(run.process, signal.SIGINT)
                timer = threading.Timer(self.grace, self._kill, (run,))
                timer.daemon = True
                timer.start()
            return self._runs[name]

    def resume(self, name: str) -> Run:
        """Put an ended run into the queue again; what it has measured is not measured again.

        Raises:
            BadInputError: it has not ended, or another server has this home.
        """
        self._own()
        with self._change:
            run = self.get(name)
            if run.state not in ENDED:
                raise BadInputError(f"run {name} is {run.state}; only one that has ended can be resumed")
            self.readers.pop(name, None)
            self._keep(
                replace(
                    run,
                    state="queued",
                    created=time.time(),
                    started=None,
                    ended=None,
                    process=None,
                    born=None,
                    code=None,
                    message="",
                    cancelling=False,
                )
            )
            self._pump()
            return self._runs[name]

    def reader(self, run: Run) -> ProgressReader | None:
        """Return the run's one reader of its files, or None where its trial cannot be loaded any more."""
        with self._change:
            if run.id not in self.readers:
                kind = (
                    self.library.kinds(run.paper).get(run.trial) if run.paper in self.library.rooms else None
                )
                if kind is None:
                    return None
                try:
                    trial = parse_words(kind, kind.quick() if run.quick else kind(), run.words)
                except PapertrialError:
                    return None
                evidence = Evidence(self.library.home / "evidence" / run.paper / run.evidence)
                began = run.started or time.time()
                self.readers[run.id] = ProgressReader(evidence, trial, run.seeds or kind.seeds, began)
                self.readers[run.id].poll()
            return self.readers[run.id]

    def said(self, run: Run) -> list[str]:
        """Return the last lines that the process wrote."""
        try:
            with (self.folder / f"{run.id}.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        return [line.strip()[:300] for line in lines if line.strip()][-_LOG_TAIL:]

    def _own(self) -> None:
        if self._owner is None:
            raise BadInputError(self._refusal)

    def _records(self) -> Iterator[Run]:
        for file in sorted(self.folder.glob("*.json")):
            if RUN_ID.match(file.stem):
                try:
                    yield Run.from_json(json.loads(file.read_bytes()))
                except (OSError, ValueError, TypeError, KeyError):
                    continue

    def _keep(self, run: Run) -> None:
        self._runs[run.id] = run
        write_atomically(self.folder / f"{run.id}.json", to_json(asdict(run), indent=1))

    def _pump(self) -> None:
        """Start what waits, as far as there is room."""
        with self._change:
            waiting = sorted(
                (run for run in self._runs.values() if run.state == "queued"), key=lambda run: run.created
            )
            running = sum(run.state == "running" for run in self._runs.values())
            for run in waiting[: max(0, self.at_once - running)]:
                if not self.closing:
                    self._start(run)

    def _start(self, run: Run) -> None:
        with (self.folder / f"{run.id}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "papertrial", *run.command, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=_environment(self.library.home),
                start_new_session=True,
            )
        self._processes[run.id] = process
        started = replace(
            run, state="running", started=time.time(), process=process.pid, born=birth(process.pid)
        )
        self.readers.pop(run.id, None)
        self._keep(started)
        self._watch(run.id, lambda: process.wait(_POLL))

    def _adopt(self, run: Run) -> None:
        """Watch a process that an earlier server started, or say that it was interrupted."""
        process = run.process
        if process is None or run.born is None or birth(process) != run.born:
            self._keep(replace(run, state="interrupted", ended=time.time(), process=None))
            return

        def wait() -> int | None:
            time.sleep(_POLL)
            if birth(process) == run.born:
                raise subprocess.TimeoutExpired("papertrial", _POLL)
            return None

        self._watch(run.id, wait)

    def _watch(self, name: str, wait: Callable[[], int | None]) -> None:
        def watching() -> None:
            code = None
            while True:
                try:
                    code = wait()
                    break
                except subprocess.TimeoutExpired:
                    if reader := self.reader(self._runs[name]):
                        reader.poll()
            self._finish(name, code)

        thread = threading.Thread(target=watching, name=f"run {name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _finish(self, name: str, code: int | None) -> None:
        with self._change:
            self._processes.pop(name, None)
            run = self._runs[name]
            reader = self.reader(run)
            whole = reader is not None and (progress := reader.poll()).done >= progress.planned
            state = outcome(run, code, whole, self.closing)
            said = self.said(run)
            message = said[-1] if state == "failed" and said else ""
            self._keep(replace(run, state=state, ended=time.time(), code=code, message=message, process=None))
            self._pump()

    def _kill(self, asked: Run) -> None:
        """End the process that was asked to end; a run that was resumed meanwhile has another."""
        with self._change:
            run = self._runs[asked.id]
            if run.state == "running" and run.process is not None and run.process == asked.process:
                send_signal(run.process, signal.SIGKILL)


def _environment(home: Path) -> dict[str, str]:
    """Return what a run sees of this process: its home, and not the readers' token."""
    kept = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    return kept | {"PAPERTRIAL_HOME": str(home)}
