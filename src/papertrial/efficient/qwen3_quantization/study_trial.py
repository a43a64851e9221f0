"""What the room's trials share: the model to quantise, and what is measured of it afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.efficient.qwen3_quantization.evaluations import Evaluations, check_tasks, evaluations_of
from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from papertrial.efficient.qwen3_quantization.report import QuantizationReport
    from papertrial.efficient.qwen3_quantization.tiny_base import Base, BaseRecipe
else:  # help is read without torch
    QuantizationReport = Base = BaseRecipe = Any

_EVALUATED = 32  # sequences in one forward pass


@dataclass(frozen=True)
class StudyTrial(Trial):
    """A trial that quantises one model in many ways.

    Attributes:
        model: a toy model ("tiny-qwen3"), trained here before it is quantised, another for each seed; or a
            local folder or hub id.
        text: what the toy model is trained on beside its facts; a real model's calibration and evaluation text.
        mmlu: a folder of MMLU's files (dev, test) for a real model's accuracy; toy models answer questions
            about the facts that they were trained on.
        evaluation: a real model's test text (WikiText-2's or C4's), in place of held-out documents of text; all
            that the stream's rule takes of it is read. Several stand after commas: the first is what all metrics
            are of, and each has a metric perplexity_<name of the file> too. lm-eval's tasks may stand among them
            ("lm-eval:piqa"; "lm-eval:zero-shot": the study's six) and have metrics of their names.
        stream: how it becomes one stream of tokens, and how much of it is read: as the study does for that column
            (wikitext2 or c4); for several texts one rule, or one for each after commas.
        steps: of a toy model's training.
        batch: sequences in a batch of it.
        length: tokens in a sequence.
        lr: peak learning rate of it.
        hidden: hidden size of a toy model.
        ffn: width of its feed-forward layers.
        layers: how many it has.
        vocabulary: BPE tokens trained for it.
        facts: how many it learns by heart.
        outliers: hidden channels scaled up after training, without changing what it computes.
        factor: by how much.
        held_out: sequences on which a model is measured, where no evaluation text is given.
        sequences: calibration sequences.
        group: input channels that share a scale in the arms with groups.
        device: where a real model runs.
    """

    model: str = "tiny-qwen3"
    text: str = "stdlib"
    mmlu: Path | None = None
    evaluation: str | None = None
    stream: str = "c4"
    steps: int = 400
    batch: int = 8
    length: int = 128
    lr: float = 3e-3
    hidden: int = 128
    ffn: int = 384
    layers: int = 2
    vocabulary: int = 512
    facts: int = 96
    outliers: int = 3
    factor: float = 30.0
    held_out: int = 96
    sequences: int = 32
    group: int = 32
    device: str = "cpu"

    metrics: ClassVar[Mapping[str, Metric]] = {
        "perplexity": Metric("", "lower"),
        "kl": Metric("nats/token", "lower"),
        "agreement": Metric("share", "higher"),
        "accuracy": Metric("share", "higher"),
        "bytes_per_weight": Metric("bytes", "lower", "exact"),
    }
    curve = "loss"

    def __post_init__(self) -> None:
        """Add a metric for each further text and task: evidence holds them beside the metrics of every run."""
        if self.evaluation is None:
            return
        asked = self._evaluations()
        more = {
            **{name: Metric("", "lower") for name in asked.text_metrics},
            **{task: Metric("share", "higher") for task in asked.tasks},
        }
        object.__setattr__(self, "metrics", {**type(self).metrics, **more})

    def check(self) -> None:
        """Raise `BadInputError` for settings that no arm could work with."""
        for name in ("steps", "batch", "sequences", "held_out", "group", "layers", "facts"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.length < 2:
            raise BadInputError(f"length must be at least 2, got {self.length}")
        for name, width in (("hidden", self.hidden), ("ffn", self.ffn)):
            if self._is_toy() and width % self.group:
                raise BadInputError(f"group must divide {name} = {width}, got {self.group}")
        if not 0 <= self.outliers <= self.hidden:
            raise BadInputError(
                f"outliers must lie between 0 and hidden = {self.hidden}, got {self.outliers}"
            )
        if self.mmlu is not None and self._is_toy():
            raise BadInputError("mmlu is for real models; a toy model answers questions about its facts")
        if self.evaluation is not None and self._is_toy():
            raise BadInputError(
                "evaluation is for real models; a toy model is measured on unread text of its own"
            )
        check_tasks(self._evaluations().tasks)

    def scale(self) -> str:
        """Say model, size, training and calibration."""
        calibration = f"{self.sequences} × {self.length} tokens of calibration, {self.device}"
        if not self._is_toy():
            return f"{self.model}, {calibration}"
        head = 32
        attention = self.hidden * head * (4 + 2 + 2 + 4)
        count = 2 * self.vocabulary * self.hidden + self.layers * (attention + 3 * self.hidden * self.ffn)
        tokens = self.steps * self.batch * self.length / 1e6
        return f"{self.model}, {count / 1e6:.2f} M parameters trained on {tokens:.2f} M tokens, {calibration}"

    def _evaluations(self) -> Evaluations:
        return evaluations_of(self.evaluation, self.stream)

    def _is_toy(self) -> bool:
        return self.model.startswith("tiny-") and not Path(self.model).is_dir()

    def _base(self, seed: int, watch: Watch) -> Base:
        from papertrial.efficient.qwen3_quantization.tiny_base import base_of, real_base

        if self._is_toy():
            return base_of(self._recipe(seed), lambda done, total, loss: watch.step(done, total, loss=loss))
        return real_base(
            self.model,
            self.text,
            sequences=self.sequences,
            length=self.length,
            held_out=self.held_out,
            mmlu=self.mmlu,
            evaluations=self._evaluations(),
            device=self.device,
            seed=seed,
        )

    def _recipe(self, seed: int) -> BaseRecipe:
        from papertrial.efficient.qwen3_quantization.tiny_base import BaseRecipe

        names = BaseRecipe.__dataclass_fields__
        return BaseRecipe(seed=seed, **{name: getattr(self, name) for name in names if name != "seed"})

    def _measured(
        self, base: Base, quantised: Any, report: QuantizationReport | None, watch: Watch, arm: str
    ) -> dict[str, float]:
        """Return every metric of a quantised model beside the base it came from; keep both tables."""
        from papertrial.efficient.accounting import dense_bytes
        from papertrial.efficient.evaluation.divergence import divergence
        from papertrial.efficient.evaluation.perplexity import perplexity
        from papertrial.efficient.layouts import layout_of

        apart = divergence(quantised, base.model, base.held_out, length=self.length, batch_size=_EVALUATED)
        if report is None:
            weights = [layer.weight(name) for layer in layout_of(base.model).layers for name in layer.linears]
            # 16 bits: the format that a model is shipped in, whatever it is computed in here
            size = sum(2.0 * weight.numel() for weight in weights) / sum(
                dense_bytes(weight).weights for weight in weights
            )
        else:
            size = report.size.per_weight
            watch.keep("layers", report.table())
        values = {
            "perplexity": perplexity(
                quantised, base.held_out, length=self.length, batch_size=_EVALUATED
            ).value,
            "kl": apart.nats_per_token,
            "agreement": apart.top1_agreement,
            "accuracy": base.accuracy(quantised),
            "bytes_per_weight": size,
        }
        for name, tokens in base.texts.items():
            values[name] = perplexity(quantised, tokens, length=self.length, batch_size=_EVALUATED).value
        if tasks := self._evaluations().tasks:
            from papertrial.efficient.evaluation.lm_eval_adapter import lm_eval_tasks

            results = lm_eval_tasks(quantised, base.tokenizer, tasks, shots=0)
            values |= {task: results[task]["acc"] for task in tasks}
        nominal = math.nan if report is None or report.nominal_bits is None else report.nominal_bits
        watch.keep("row", [{"arm": arm, "bits": 8 * size, "nominal_bits": nominal, **values}])
        return values
