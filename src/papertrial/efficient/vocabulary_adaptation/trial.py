"""Vocabulary adaptation on trial: a model of one language learns another, under every initialisation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.efficient.vocabulary_adaptation.size_trial import SizeTrial
from papertrial.efficient.vocabulary_adaptation.speed_trial import GenerationTrial
from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from papertrial.efficient.vocabulary_adaptation.arms import Starting

else:  # help is read without torch, and a protocol cannot be checked at run time
    PreTrainedModel = PreTrainedTokenizerBase = Starting = Any

_MOMENTS = {"start": 0.0, "eighth": 0.125, "quarter": 0.25, "half": 0.5, "end": 1.0}
_SETTLED = 0.02  # share of the steps in which the rate rises, as in the paper's 20 of 2000
_BASE_BATCH = 8
_RATES = (1e-3, 3e-3, 1e-2)


@dataclass(frozen=True)
class AdaptationTrial(Trial):
    """Give a language model another language's tokenizer, initialise the new rows, and go on training.

    By default the languages are made up (one grammar, a quarter of the words in common, other endings), the
    source model is trained on the first, and the helper, whose tokenizer is the target, on both. Then every
    arm trains for the same number of steps and tokens, three quarters of them in the second language. lapt
    keeps the old tokenizer; lapt-same-text also gets as much *text* as the adapted arms, by larger batches.
    resize is transformers' own resizing under the new tokenizer; clp-released has the released command line's
    misplaced rows and signed weights. Losses are bits per character: tokens are not comparable across
    tokenizers. Every arm's learning rate is tuned over the same values.

    Attributes:
        model: the source: a tiny model, trained here, or a folder or hub id.
        helper: a tiny model, trained here, or a folder or hub id whose tokenizer is the target.
        source_text: "procedural", or files or a hub data set in the source's language.
        target_text: "procedural", or files or a hub data set in the new language.
        steps: of continued training.
        batch: sequences in a batch.
        length: tokens in a sequence, in all training and measuring.
        share: of tokens in the new language.
        lr: peak learning rate of every arm; tuned for each if not given.
        weight_decay: decoupled from the rate, as in the paper.
        anchors: shared tokens on which SAVA's map is fitted, drawn at random; all if not given.
        base_steps: to train the toy source and helper with.
        hidden: width of the toy source.
        helper_hidden: width of the toy helper.
        layers: of both.
        source_vocabulary: BPE tokens of the toy source.
        target_vocabulary: BPE tokens of the toy helper.
        documents: made-up documents of each language.
        validation: documents of each language that are only measured.
        device: where to train.
        dtype: "float32", or "bfloat16" for autocast.
    """

    model: str = "tiny-llama"
    helper: str = "tiny-llama"
    source_text: str = "procedural"
    target_text: str = "procedural"
    steps: int = 160
    batch: int = 4
    length: int = 128
    share: float = 0.75
    lr: float | None = None
    weight_decay: float = 1e-5
    anchors: int | None = None
    base_steps: int = 200
    hidden: int = 64
    helper_hidden: int = 48
    layers: int = 2
    source_vocabulary: int = 600
    target_vocabulary: int = 800
    documents: int = 800
    validation: int = 12
    device: str = "cpu"
    dtype: str = "float32"

    arms: ClassVar[tuple[str, ...]] = (
        "lapt",
        "lapt-same-text",
        "resize",
        "random",
        "fvt",
        "clp",
        "clp-released",
        "sava",
        "sava-lstsq",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        **{
            f"target_bits_{moment}": Metric(
                "bits/character", "lower", shown=moment in ("start", "eighth", "end")
            )
            for moment in _MOMENTS
        },
        "source_bits_start": Metric("bits/character", "lower", shown=False),
        "source_bits_end": Metric("bits/character", "lower"),
        "target_fertility": Metric("tokens/word", "lower"),
        "source_fertility": Metric("tokens/word", "lower", shown=False),
        "helper_similarity": Metric("cosine", "higher", shown=False),
        "parameters": Metric("weights", "lower", "exact", shown=False),
    }
    grid: ClassVar[Mapping[str, Mapping[str, Sequence[Any]]]] = {arm: {"lr": _RATES} for arm in arms}
    tuned_on = "target_bits_end"
    prepared_by = (
        "model",
        "helper",
        "source_text",
        "target_text",
        "length",
        "base_steps",
        "hidden",
        "helper_hidden",
        "layers",
        "source_vocabulary",
        "target_vocabulary",
        "documents",
        "validation",
    )
    curve = "loss"

    def check(self) -> None:
        """Raise `BadInputError` for settings that cannot work."""
        for name in ("steps", "batch", "base_steps", "layers", "documents", "validation"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.steps < 8:
            raise BadInputError(
                f"steps must be at least 8, so that an eighth of them is one, got {self.steps}"
            )
        if self.length < 2:
            raise BadInputError(f"length must be at least 2, got {self.length}")
        if not 0.0 <= self.share <= 1.0:
            raise BadInputError(f"share must lie between 0 and 1, got {self.share}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise BadInputError(f"lr must be above 0, got {self.lr}")
        if self.anchors is not None and self.anchors < 2:
            raise BadInputError(f"anchors must be at least 2, got {self.anchors}")
        if (self.source_text == "procedural") != (self.target_text == "procedural"):
            raise BadInputError("source_text and target_text must both be 'procedural', or neither")
        if _is_toy(self.model) != _is_toy(self.helper):
            raise BadInputError("model and helper must both be tiny models, or neither: their texts differ")

    def prepare(self, seed: int, folder: Path) -> None:
        """Write the texts, and train the toy source and helper."""
        from papertrial.efficient.vocabulary_adaptation.arms import (
            BaseSizes,
            own_texts,
            procedural_texts,
            train_bases,
        )

        if self.source_text == "procedural":
            texts = procedural_texts(seed, self.documents, self.validation)
        else:
            texts = own_texts(self.source_text, self.target_text, self.validation)
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        if _is_toy(self.model):
            sizes = BaseSizes(
                hidden=self.hidden,
                helper_hidden=self.helper_hidden,
                layers=self.layers,
                steps=self.base_steps,
                source_vocabulary=self.source_vocabulary,
                target_vocabulary=self.target_vocabulary,
                batch=_BASE_BATCH,
                length=self.length,
            )
            train_bases(self.model, self.helper, texts, sizes, seed).save(folder)

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Adapt, train, and measure on the way."""
        from papertrial.efficient.vocabulary_adaptation.arms import (
            Starting,
            begin,
            helper_similarity,
            tokens_needed,
        )
        from papertrial.efficient.vocabulary_adaptation.continued import (
            CLIP,
            MixedBatches,
            continued_training_optimizer,
        )
        from papertrial.efficient.vocabulary_adaptation.tokens_per_word import fertility
        from papertrial.models import parameter_count
        from papertrial.training import train

        if self.lr is None:
            raise BadInputError("lr is tuned by the runner; set it to measure an arm by hand")
        texts = json.loads((watch.prepared / "texts.json").read_text(encoding="utf-8"))
        start = Starting.load(watch.prepared, self.model, self.helper, self.device)
        model, tokenizer = begin(arm, start, seed, self.anchors)
        batch = self.batch
        if arm == "lapt-same-text":
            counts = [tokens_needed(one, texts["target"][:50]) for one in (start.source, start.target)]
            batch = round(self.batch * counts[0] / counts[1])
        found = {
            "target_fertility": fertility(tokenizer, texts["target_validation"]).mean_of_ratios,
            "source_fertility": fertility(tokenizer, texts["source_validation"]).mean_of_ratios,
            "helper_similarity": helper_similarity(arm, model, start),
            "parameters": float(parameter_count(model)),
            "source_bits_start": self._bits(model, tokenizer, texts["source_validation"]),
            "target_bits_start": self._bits(model, tokenizer, texts["target_validation"]),
        }
        languages = self._blocks(texts, tokenizer, batch)
        history = train(
            model,
            MixedBatches(languages["target"], languages["source"], batch, self.share, seed),
            continued_training_optimizer(model, self.lr, self.weight_decay),
            steps=self.steps,
            warmup=_SETTLED,
            clip=CLIP,
            dtype=self.dtype,
            on_step=self._follow(watch, found, model, tokenizer, texts["target_validation"]),
        )
        if history.diverged_at is not None:
            missing = {f"target_bits_{moment}": math.inf for moment in _MOMENTS}
            return {**missing, **found, "source_bits_end": math.inf}
        found["source_bits_end"] = self._bits(model, tokenizer, texts["source_validation"])
        return found

    def scale(self) -> str:
        """Say models, tokens and device."""
        size = ""
        if _is_toy(self.model):
            count = self.layers * 13 * self.hidden**2 + 2 * self.target_vocabulary * self.hidden
            size = f" {count / 1e6:.2f} M parameters, {self.source_vocabulary} -> {self.target_vocabulary} tokens,"
        tokens = self.steps * self.batch * self.length / 1e6
        return f"{self.model},{size} {tokens:.2f} M tokens, {self.steps} steps, {self.device}"

    @classmethod
    def quick(cls) -> AdaptationTrial:
        """Return the trial with eight steps, one learning rate and narrower models."""
        return cls(
            steps=8,
            lr=1e-3,
            batch=4,
            length=32,
            base_steps=10,
            hidden=16,
            helper_hidden=16,
            layers=1,
            source_vocabulary=400,
            target_vocabulary=500,
            documents=60,
            validation=2,
        )

    def _blocks(self, texts: Mapping[str, list[str]], tokenizer: PreTrainedTokenizerBase, batch: int) -> dict:
        from papertrial.efficient.vocabulary_adaptation.arms import training_blocks

        rows = self.steps * batch
        return {
            language: training_blocks(texts[language], tokenizer, self.length, rows)
            for language in ("source", "target")
        }

    def _bits(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, documents: Sequence[str]
    ) -> float:
        from papertrial.efficient.evaluation import bits_per_character

        return bits_per_character(model, tokenizer, documents, length=self.length)

    def _follow(
        self,
        watch: Watch,
        found: dict[str, float],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        documents: Sequence[str],
    ) -> Callable[[int, Mapping[str, float]], None]:
        """Return what training calls after each step: it measures at the moments that the metrics name."""
        moments = {max(1, round(share * self.steps)): name for name, share in _MOMENTS.items() if share}

        def follow(done: int, values: Mapping[str, float]) -> None:
            watch.step(done, self.steps, loss=values["loss"])
            if done in moments:
                found[f"target_bits_{moments[done]}"] = self._bits(model, tokenizer, documents)

        return follow


def _is_toy(name: str) -> bool:
    return name.startswith("tiny-") and not Path(name).is_dir()


trials: dict[str, type[Trial]] = {
    "adaptation": AdaptationTrial,
    "generation": GenerationTrial,
    "size": SizeTrial,
}
