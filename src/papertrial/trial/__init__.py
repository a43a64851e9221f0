"""The contract: card, trial, runner, evidence, verdict, report. Imports no torch."""

from papertrial.trial.contract import Metric, Trial, Watch
from papertrial.trial.media import Video

__all__ = ["Metric", "Trial", "Video", "Watch"]
