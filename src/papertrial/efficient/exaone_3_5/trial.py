"""EXAONE 3.5 on trial: its decontamination rule, its context extension, its staged preference optimisation."""

from __future__ import annotations

from papertrial.efficient.exaone_3_5.decontamination_trial import DecontaminationTrial
from papertrial.efficient.exaone_3_5.long_context_trial import LongContextTrial
from papertrial.efficient.exaone_3_5.preference_trial import PreferenceTrial
from papertrial.trial.contract import Trial

trials: dict[str, type[Trial]] = {
    "decontamination": DecontaminationTrial,
    "long-context": LongContextTrial,
    "preference": PreferenceTrial,
}
