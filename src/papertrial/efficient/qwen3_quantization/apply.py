"""`papertrial apply quantize --method gptq`: quantise the user's model and write it to a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from papertrial.deeds import Deed, Fact, check_new_folder
from papertrial.errors import BadInputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from papertrial.deeds import Progress
    from papertrial.efficient.qwen3_quantization.report import QuantizationReport
    from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings
else:  # help is read without torch, and a protocol cannot be checked at run time
    Tensor = PreTrainedModel = PreTrainedTokenizerBase = Progress = Any
    QuantizationReport = QuantizationSettings = Any

REPORT_FILE = "quantization_report.json"
_SHOWN = 3


@dataclass(frozen=True)
class Quantize(Deed):
    """Quantise the matrices of a language model's decoder layers and save it, with an error report by layer.

    Attributes:
        model: a local folder or a hub id; a toy model ("tiny-qwen3") is drawn at random.
        out: folder for the quantised model and its tokenizer; must not hold files yet.
        algorithm: rtn needs no calibration; gptq and awq round weights; smoothquant also rounds activations
            (rtn_wa: without smoothing); billm gives about one bit and its masks.
        bits: 2, 3, 4 or 8; not for billm.
        group_size: input channels that share a scale; -1 for one scale a row.
        calibration: .txt, .jsonl or .parquet files, a folder of them, a hub data set, "stdlib" or "topics".
            Mix in what the model will be used for: a model that thinks needs thinking and plain answers.
        sequences: calibration sequences.
        length: tokens in a sequence.
        protocol: windows from documents longer than length (the study's), blocks of 512 from short ones
            (what AWQ's code does), or packed: all text joined.
        format: papertrial (packed), gptq, gptq_v2 or awq (packed, for other programs), metal (packed; any
            transformers reads it, unpacking where there is no Apple GPU), dense (plain weights with rounded
            values). papertrial if not given; billm takes papertrial or dense.
        activation_bits: for smoothquant and rtn_wa; 8 if not given.
        symmetric: mirror grids about zero (rtn, gptq).
        search: search the clipping range (rtn).
        act_order: channels by falling activity (gptq). awq and metal folders need it off, or static_groups.
        static_groups: groups stay consecutive under act_order (gptq).
        clip: search clipping limits (awq).
        search_tokens: at least so many tokens decide on scales (awq); all, as in the released code, if None.
        alpha: how much of the outliers goes into the weights (smoothquant).
        saliency: magnitude as released, or hessian (billm).
        damping: share of the Hessian's mean diagonal added to it (gptq, billm).
        batch: calibration sequences that run at once.
        seed: draws the calibration.
        device: where the model runs while calibrating.
        dtype: number format of what is not quantised.
    """

    model: str
    out: Path
    algorithm: Literal["rtn", "gptq", "awq", "smoothquant", "rtn_wa", "billm"] = "gptq"
    bits: int = 4
    group_size: int = 128
    calibration: str | None = None
    sequences: int = 128
    length: int = 2048
    protocol: Literal["windows", "blocks", "packed"] = "windows"
    format: Literal["papertrial", "gptq", "gptq_v2", "awq", "metal", "dense"] | None = None
    activation_bits: int | None = None
    symmetric: bool = False
    search: bool = False
    act_order: bool = True
    static_groups: bool = False
    clip: bool = True
    search_tokens: int | None = 512
    alpha: float = 0.5
    saliency: Literal["magnitude", "hessian"] = "magnitude"
    damping: float = 0.01
    batch: int = 8
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"

    methods: ClassVar[tuple[str, ...]] = ("rtn", "gptq", "awq", "smoothquant", "rtn_wa", "billm")

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Quantise, save, and return what came of it.

        Raises:
            BadInputError: `out` holds files, a setting or format that cannot work, no calibration where the
                algorithm needs it, or a model that is quantised already.
        """
        from torch import nn

        from papertrial.efficient.quantized_checkpoints import save_quantized
        from papertrial.efficient.qwen3_quantization.quantize import quantize_model
        from papertrial.models import load_with_tokenizer

        settings, form = self._settings(), self._format()
        self._check(settings)
        model, tokenizer = load_with_tokenizer(
            self.model, dtype=self.dtype, device=self.device, seed=self.seed
        )
        report = quantize_model(
            model,
            settings,
            self._calibration(tokenizer),
            batch_size=self.batch,
            progress=lambda done, total: progress(done, total, "layers"),
        )
        nn.Module.to(model, "cpu")  # transformers wraps `to` in a way that hides its types
        save_quantized(model, self.out, method=self.algorithm, format=form, tokenizer=tokenizer)
        self._write_report(report)
        return self._facts(report, form)

    def _settings(self) -> QuantizationSettings:
        from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings

        shared = {
            name: getattr(self, name)
            for name in QuantizationSettings.__dataclass_fields__
            if hasattr(self, name)
        }
        return QuantizationSettings(method=self.algorithm, **shared)

    def _format(self) -> str:
        if self.algorithm == "billm" and self.format not in (None, "papertrial", "dense"):
            raise BadInputError(f"billm's signs fit papertrial and dense folders, got {self.format}")
        return self.format or "papertrial"

    def _check(self, settings: QuantizationSettings) -> None:
        from papertrial.efficient.qwen3_quantization.settings import NEED_CALIBRATION

        settings.check()
        check_new_folder(self.out)
        if self.calibration is None and self.algorithm in NEED_CALIBRATION:
            raise BadInputError(f"{self.algorithm} looks at activations: name a text with --calibration")

    def _calibration(self, tokenizer: PreTrainedTokenizerBase) -> Tensor | None:
        from papertrial.data.text import load_documents
        from papertrial.data.tokens import pack
        from papertrial.efficient.qwen3_quantization.calibration_text import (
            calibration_blocks,
            calibration_windows,
        )

        if self.calibration is None:
            return None
        documents = load_documents(self.calibration)
        if self.protocol == "windows":
            return calibration_windows(documents, tokenizer, self.sequences, self.length, self.seed)
        if self.protocol == "blocks":
            return calibration_blocks(documents, tokenizer, self.sequences, seed=self.seed)
        return pack(documents, tokenizer, self.length)[: self.sequences]

    def _write_report(self, report: QuantizationReport) -> None:
        rows = [
            {k: None if v != v else v for k, v in row.items()} for row in report.table()
        ]  # JSON has no NaN
        content = {"notes": report.notes, "nominal_bits": report.nominal_bits, "layers": rows}
        (self.out / REPORT_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")

    def _facts(self, report: QuantizationReport, form: str) -> dict[str, Fact]:
        worst = ", ".join(f"{one.name} ({one.output_error:.1e})" for one in report.worst(_SHOWN))
        facts: dict[str, Fact] = {
            "model": str(self.out),
            "format": form,
            "matrices": len(report.linears),
            "bits_per_weight": 8 * report.size.per_weight,
            "quantised_bytes": int(report.size.total),
            "largest_output_errors": worst,
            "report": str(self.out / REPORT_FILE),
        }
        if report.nominal_bits is not None:
            facts["nominal_bits"] = report.nominal_bits
        for number, note in enumerate(report.notes[:_SHOWN], start=1):
            facts[f"note_{number}"] = note
        return facts


deeds: dict[str, type[Deed]] = {"quantize": Quantize}
