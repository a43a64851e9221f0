"""Trials that do nothing but what a test asks of them."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from papertrial.errors import BadInputError
from papertrial.trial import Metric, Trial, Watch


@dataclass(frozen=True)
class NoiseTrial(Trial):
    """Draw noise around each arm's mean.

    Attributes:
        gap: how much lower the method's mean is.
        noise: the standard deviation.
        seconds: how long one measurement sleeps.
        log: a folder, after "@" so that it does not count as input, in which every call leaves a file.
        raising: an arm that raises.
        killing: an arm whose process is killed at its first call (needs a log).
        rate: the tuned setting; its best value is 0.1.
    """

    gap: float = 1.0
    noise: float = 0.1
    seconds: float = 0.0
    log: str = ""
    raising: str = ""
    killing: str = ""
    rate: float | None = None

    arms: ClassVar[tuple[str, ...]] = ("baseline", "method")
    metrics: ClassVar[dict[str, Metric]] = {
        "loss": Metric("nats", better="lower"),
        "bytes": Metric("bytes", better="lower", kind="exact"),
    }
    grid: ClassVar = {"method": {"rate": (0.01, 0.1, 1.0)}}
    tuned_on: ClassVar[str] = "loss"
    prepared_by: ClassVar[tuple[str, ...]] = ("log",)
    curve: ClassVar[str] = "loss"

    def prepare(self, seed: int, folder: Path) -> None:
        """Leave a file."""
        (folder / "offset").write_text("0.25")

    def check(self) -> None:
        """Refuse a negative time."""
        if self.seconds < 0:
            raise BadInputError(f"seconds must not be negative, got {self.seconds}")

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Draw one number."""
        calls = self._log(f"{arm}.{seed}.{self.rate}")
        if arm == self.raising:
            raise RuntimeError(f"{arm} was told to raise")
        if arm == self.killing and calls == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        draw = random.Random(f"{arm}-{seed}")
        steps = 20
        for step in range(1, steps + 1):
            time.sleep(self.seconds / steps)
            watch.step(step, steps, loss=3.0 / step)
        watch.keep("note", f"{arm} {seed}")
        offset = float((watch.prepared / "offset").read_text())
        mean = 5.0 - (self.gap if arm == "method" else 0.0) + offset
        tuning = 0.0 if self.rate is None else abs(self.rate - 0.1)
        return {
            "loss": mean + tuning + draw.gauss(0.0, self.noise),
            "bytes": 400.0 if arm == "method" else 1000.0,
        }

    def scale(self) -> str:
        """Say the scale."""
        return "noise, no model"

    @classmethod
    def quick(cls) -> NoiseTrial:
        """Return the same."""
        return cls()

    def _log(self, name: str) -> int:
        """Count the calls for one name across processes, and return the count."""
        if not self.log:
            return 0
        number = 1
        while True:
            try:
                (Path(self.log[1:]) / f"{name}.{number}").touch(exist_ok=False)
            except FileExistsError:
                number += 1
            else:
                return number


@dataclass(frozen=True)
class DyingTrial(NoiseTrial):
    """A trial whose method kills its process every time."""

    grid: ClassVar = {}

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Die, if the arm is the method."""
        if arm == "method":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().measure(arm, seed, watch)


@dataclass(frozen=True)
class TimingTrial(Trial):
    """Time two sleeps."""

    milliseconds: float = 2.0

    arms: ClassVar[tuple[str, ...]] = ("baseline", "method")
    metrics: ClassVar[dict[str, Metric]] = {"ms": Metric("ms", better="lower", kind="timed")}
    timed: ClassVar[bool] = True
    seeds: ClassVar[int] = 10

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Sleep and say for how long."""
        start = time.perf_counter()
        time.sleep(self.milliseconds / 1000 * (2 if arm == "baseline" else 1))
        return {"ms": 1000 * (time.perf_counter() - start)}

    def scale(self) -> str:
        """Say the scale."""
        return "two sleeps"

    @classmethod
    def quick(cls) -> TimingTrial:
        """Return the same."""
        return cls()


trials: dict[str, type[Trial]] = {"noise": NoiseTrial, "timing": TimingTrial}
