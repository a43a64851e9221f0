"""Quantisation on trial: one model under every method, bit-width and grouping of the study's tables."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.efficient.qwen3_quantization.calibration_trial import CalibrationTrial
from papertrial.efficient.qwen3_quantization.study_trial import StudyTrial
from papertrial.errors import unknown
from papertrial.trial.contract import Trial, Watch

if TYPE_CHECKING:
    from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings
else:  # help is read without torch
    QuantizationSettings = Any

_WEIGHT_ONLY = ("rtn", "gptq", "awq")
_BITS = (8, 4, 3, 2)
_WITH_ACTIVATIONS = ("w8a8", "w4a8", "w4a4")
_SMOOTHINGS = {"smoothquant": "smoothquant", "smoothquant-released": "rtn_wa"}


@dataclass(frozen=True)
class GridTrial(StudyTrial):
    """Quantise one model with every method, at 8 to 1 bits, with one scale a row and with groups.

    The toy models, one trained for each seed, know a few made-up facts by heart and have outlier channels
    like a large model's. Perplexity and divergence are on text they have not read; accuracy is on four-way
    questions about the facts. Arms: RTN, GPTQ and AWQ at 8, 4, 3 and 2 bits, by row and (…-group) in groups;
    SmoothQuant as published, and as the released script runs it (…-released: no smoothing), with weights and
    activations at the bits named; BiLLM with magnitudes as saliency (released) and with the Hessian's.
    All methods get the same calibration tokens, and the released order of steps; in one variant RTN searches its
    clipping range. `python -m papertrial.efficient.qwen3_quantization.study_table` joins the arms of a finished
    run into one table of the study's shape.
    """

    version: ClassVar[int] = (
        2  # BiLLM's means and sizes are stored, and measured, in float16 like other scales
    )

    arms: ClassVar[tuple[str, ...]] = (
        "full",
        *(f"{method}-{bits}{group}" for method in _WEIGHT_ONLY for bits in _BITS for group in ("", "-group")),
        *(f"{method}-{bits}" for method in _SMOOTHINGS for bits in _WITH_ACTIVATIONS),
        "billm",
        "billm-hessian",
        "rtn-3-search",
    )

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Quantise the seed's model as the arm says and measure it beside the original."""
        base = self._base(seed, watch)
        if arm == "full":
            return self._measured(base, base.model, None, watch, arm)
        from papertrial.efficient.qwen3_quantization.quantize import quantize_model

        model = copy.deepcopy(base.model)
        settings = arm_settings(arm, self.group)
        report = quantize_model(model, settings, base.calibration[: self.sequences])
        return self._measured(base, model, report, watch, arm)

    @classmethod
    def quick(cls) -> GridTrial:
        """Return the trial on a model that is hardly trained, at a quarter of the size."""
        return cls(
            text="topics",
            steps=6,
            batch=4,
            length=24,
            hidden=32,
            ffn=32,
            layers=1,
            vocabulary=300,
            facts=8,
            outliers=2,
            held_out=8,
            sequences=4,
        )


def arm_settings(arm: str, group: int) -> QuantizationSettings:
    """Return what an arm's name stands for.

    Raises:
        BadInputError: an unknown arm, or "full", which is not quantised.
    """
    from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings

    if arm not in GridTrial.arms or arm == "full":
        raise unknown("quantised arm", arm, set(GridTrial.arms) - {"full"})
    if arm.startswith("billm"):
        saliency: Any = "hessian" if arm == "billm-hessian" else "magnitude"
        return QuantizationSettings("billm", saliency=saliency)
    method, _, rest = arm.partition("-")
    if method == "smoothquant":
        name, _, bits = arm.rpartition("-")
        weight, activation = (int(part) for part in bits[1:].split("a"))
        chosen: Any = _SMOOTHINGS[name]
        return QuantizationSettings(chosen, bits=weight, group_size=-1, activation_bits=activation)
    bits, *variant = rest.split("-")
    weight_only: Any = method
    settings = QuantizationSettings(  # AWQ looks at all tokens, as released
        weight_only, bits=int(bits), group_size=group if variant == ["group"] else -1, search_tokens=None
    )
    return replace(settings, search=True) if variant == ["search"] else settings


trials: dict[str, type[Trial]] = {"grid": GridTrial, "calibration": CalibrationTrial}
