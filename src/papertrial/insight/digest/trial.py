"""The digest on trial: its numbers, its extractive summaries, its sense of the wrong paper, its parser."""

from __future__ import annotations

from papertrial.insight.digest.extractive_trial import ExtractiveTrial
from papertrial.insight.digest.formats_trial import FormatsTrial
from papertrial.insight.digest.numbers_trial import NumbersTrial
from papertrial.insight.digest.wrong_papers_trial import WrongPapersTrial
from papertrial.trial.contract import Trial

trials: dict[str, type[Trial]] = {
    "numbers": NumbersTrial,
    "extractive": ExtractiveTrial,
    "wrong-papers": WrongPapersTrial,
    "formats": FormatsTrial,
}
