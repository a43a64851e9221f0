"""Which calibration data, on trial: the model's own kind of text, other text, random tokens, and less of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.efficient.qwen3_quantization.study_trial import StudyTrial
from papertrial.errors import BadInputError
from papertrial.trial.contract import Watch

if TYPE_CHECKING:
    from torch import Tensor

    from papertrial.efficient.qwen3_quantization.tiny_base import Base
else:  # help is read without torch
    Tensor = Base = Any

_OTHER_CHARACTERS = 400_000


@dataclass(frozen=True)
class CalibrationTrial(StudyTrial):
    """Quantise one model to few bits in groups, after calibrating on different data of the same size.

    Arms: plain rounding, which needs none; GPTQ and AWQ on what the model was trained on (…-own), on other
    text (…-other), on evenly drawn tokens (…-random), on a quarter of its own (…-quarter: what AWQ's
    released script leaves of the stated protocol), and on one sequence (…-one).

    Attributes:
        bits: of the weights.
        other: text unlike the model's own.
    """

    bits: int = 3
    other: str = "topics"

    arms: ClassVar[tuple[str, ...]] = (
        "rtn",
        *(
            f"{method}-{data}"
            for method in ("gptq", "awq")
            for data in ("own", "other", "random", "quarter", "one")
        ),
    )

    def check(self) -> None:
        """Raise `BadInputError` for settings that no arm could work with."""
        super().check()
        if self.sequences < 4:
            raise BadInputError(f"sequences must be at least 4, for a quarter of them, got {self.sequences}")
        from papertrial.efficient.packing import check_packed_bits

        check_packed_bits(self.bits)

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Quantise the seed's model after the arm's calibration and measure it beside the original."""
        from papertrial.efficient.qwen3_quantization.quantize import quantize_model
        from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings

        base = self._base(seed, watch)
        model = copy.deepcopy(base.model)
        method, _, data = arm.partition("-")
        named: Any = method
        settings = QuantizationSettings(  # AWQ looks at all tokens, as released
            named, bits=self.bits, group_size=self.group, search_tokens=None
        )
        calibration = self._calibration(data, base, seed) if data else None
        report = quantize_model(model, settings, calibration)
        return self._measured(base, model, report, watch, arm)

    def _calibration(self, data: str, base: Base, seed: int) -> Tensor:
        from papertrial.data.tokens import pack
        from papertrial.efficient.qwen3_quantization.calibration_text import random_tokens

        own = base.calibration[: self.sequences]
        if data == "random":
            return random_tokens(len(own), self.length, len(base.tokenizer), seed)
        if data == "other":
            blocks = pack(_documents(self.other), base.tokenizer, self.length)
            if len(blocks) < len(own):
                raise BadInputError(f"{self.other} fills {len(blocks)} sequences; {len(own)} are needed")
            return blocks[seed :: max(1, len(blocks) // len(own))][: len(own)].contiguous()
        return own[: {"own": len(own), "quarter": len(own) // 4, "one": 1}[data]]

    @classmethod
    def quick(cls) -> CalibrationTrial:
        """Return the trial on a model that is hardly trained, at a quarter of the size."""
        return cls(
            text="topics",
            other="stdlib",
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


@lru_cache(maxsize=1)  # the arms and seeds share them
def _documents(text: str) -> list[str]:
    from papertrial.data.text import load_documents

    return load_documents(text, max_characters=_OTHER_CHARACTERS)
