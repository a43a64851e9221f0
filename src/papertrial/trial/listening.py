"""Who is told what the runner does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from papertrial.trial.evidence import Evidence, Measurement
from papertrial.trial.measuring import Failure

Pair = tuple[str, int, Mapping[str, Any]]


class Listener(Protocol):
    """Told what the runner does; the terminal and the page show it.

    How far the running pairs are is not told: `Evidence.live` says it whenever somebody looks.
    """

    def planned(
        self, phase: str, evidence: Evidence, pairs: Sequence[Pair], found: Sequence[Measurement]
    ) -> None:
        """A phase (`tuning` or `measuring`) begins: its pairs, and those found measured already."""

    def measured(self, measurement: Measurement) -> None:
        """A pair was measured."""

    def failed(self, failure: Failure) -> None:
        """A pair raised."""

    def notice(self, message: str) -> None:
        """Something a person should read."""


class Silent:
    """A listener that shows nothing."""

    def planned(
        self, phase: str, evidence: Evidence, pairs: Sequence[Pair], found: Sequence[Measurement]
    ) -> None:
        """Show nothing."""

    def measured(self, measurement: Measurement) -> None:
        """Show nothing."""

    def failed(self, failure: Failure) -> None:
        """Show nothing."""

    def notice(self, message: str) -> None:
        """Show nothing."""
