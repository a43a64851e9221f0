"""The contract: card, trial, runner, evidence, verdict, report. Imports no torch."""

from papertrial.trial.contract import Metric, Trial, Watch

__all__ = ["Metric", "Trial", "Watch"]
