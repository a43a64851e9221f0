"""The record of a trial that was started from the page, and the process behind it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled", "interrupted")
RUN_ID = re.compile(r"^[0-9a-z-]{8,40}$")
_INTERRUPTED_CODE = 130


@dataclass(frozen=True)
class Run:
    """One trial that was started from the page.

    Attributes:
        words: the settings that differ from the trial's own, as the command line takes them.
        created, started, ended: seconds since 1970.
        process, born: the process, and when the system says it began: another one may get its number later.
        code: how the process ended.
        message: why it failed, in one line.
        evidence: the folder's name below the paper's evidence.
        cancelling: whether somebody asked to end it.
    """

    id: str
    paper: str
    trial: str
    words: tuple[str, ...]
    seeds: int | None
    quick: bool
    state: State
    created: float
    evidence: str
    started: float | None = None
    ended: float | None = None
    process: int | None = None
    born: str | None = None
    code: int | None = None
    message: str = ""
    cancelling: bool = False

    @property
    def command(self) -> list[str]:
        """The words after `papertrial`."""
        seeds = [] if self.seeds is None else [f"--seeds={self.seeds}"]
        quick = ["--quick"] if self.quick else []
        return ["try", f"{self.paper}.{self.trial}", *quick, *seeds, *self.words]

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Run:
        """Read a record; TypeError or KeyError where it is none."""
        return cls(**{**raw, "words": tuple(raw["words"])})


def outcome(run: Run, code: int | None, whole: bool, closing: bool) -> State:
    """Say what became of a run; of an adopted process only its evidence tells."""
    if code == 0 or (code is None and whole):
        return "done"
    if run.cancelling:
        return "cancelled"
    if closing or code in (None, _INTERRUPTED_CODE, -signal.SIGINT, -signal.SIGTERM):
        return "interrupted"
    return "failed"


def send_signal(process: int, number: signal.Signals) -> None:
    """Send a signal to a run's process and all that it started; one that has ended meanwhile is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, number)


def birth(process: int) -> str | None:
    """Return when a process began, as the system counts; None where it is gone or waits to be reaped."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
