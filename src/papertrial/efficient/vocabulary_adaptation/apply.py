"""`papertrial apply vocabulary`: another tokenizer for the user's own model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papertrial.deeds import Deed, Fact, check_new_folder
from papertrial.errors import BadInputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from papertrial.deeds import Progress
else:  # help is read without torch, and a protocol cannot be checked at run time
    PreTrainedModel = PreTrainedTokenizerBase = Progress = Any

_HELD_OUT = 50_000  # characters


@dataclass(frozen=True)
class AdaptVocabulary(Deed):
    """Give a language model another tokenizer, and initialise the rows of tokens that it did not have.

    With a text in the new language, fertility and bits per character are measured before and after, on a part
    of it that is not trained on; with `steps`, the adapted model is trained on the rest.

    Attributes:
        model: the source: a local folder or a hub id.
        tokenizer: where the new tokenizer is: a folder or hub id.
        out: folder for the adapted model and its tokenizer; must not hold files yet.
        helper: a model that speaks the new tokenizer (folder or hub id); needed by sava and clp.
        initialise: "sava", "clp", "fvt" or "random"; sava where there is a helper, else fvt.
        aligner: of sava: "sgd" as published, "ridge" or "matrix" in closed form (seconds), "ortho",
            "rotation".
        anchors: tokens that sava fits on; all shared ones if not given.
        union: keep the old tokens and add the new ones to them.
        text: files, a folder of them, or a hub data set in the new language.
        source_text: the same in the old language, mixed into training.
        share: of training tokens in the new language.
        steps: of training after the adaptation; none by default.
        batch: sequences in a training batch.
        length: tokens in a sequence.
        lr: peak learning rate.
        seed: of training batches.
        device: where to work.
        dtype: number format of the model's weights.
    """

    model: str
    tokenizer: str
    out: Path
    helper: str | None = None
    initialise: str | None = None
    aligner: str = "sgd"
    anchors: int | None = None
    union: bool = False
    text: str | None = None
    source_text: str | None = None
    share: float = 0.75
    steps: int = 0
    batch: int = 8
    length: int = 256
    lr: float = 1e-5
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Adapt, train where asked, save with `save_pretrained`, and return what came of it.

        Raises:
            BadInputError: `out` holds files already, a setting cannot work, or training diverged.
        """
        from papertrial.efficient.vocabulary_adaptation.adapt import adapt_vocabulary
        from papertrial.efficient.vocabulary_adaptation.union import union_tokenizer
        from papertrial.models import load_causal_lm, load_tokenizer

        self._check()
        model = load_causal_lm(self.model, dtype=self.dtype, device=self.device)
        source, given = load_tokenizer(self.model), load_tokenizer(self.tokenizer)
        target = union_tokenizer(source, given) if self.union else given
        helper = None if self.helper is None else load_causal_lm(self.helper, device=self.device)
        helper_tokenizer = None if self.helper is None else load_tokenizer(self.helper)
        held_out, training = self._texts()
        before = self._measured("before", model, source, held_out)
        progress(1, 3, "adapting")
        model, report = adapt_vocabulary(
            model, source, target, self._method(), helper, helper_tokenizer=helper_tokenizer
        )
        progress(2, 3, "adapted")
        after = self._measured("after", model, target, held_out)
        trained: dict[str, Fact] = {}
        if self.steps:
            self._train(model, target, training, progress)
            trained = self._measured("trained", model, target, held_out, only_bits=True)
        model.save_pretrained(self.out)
        target.save_pretrained(self.out)
        (self.out / "adaptation.txt").write_text(report.summary() + "\n", encoding="utf-8")
        return {
            "model": str(self.out),
            "method": report.method,
            "shared_tokens": report.shared,
            "new_tokens": report.new,
            "parameters_before": report.parameters[0],
            "parameters_after": report.parameters[1],
            "vocabulary_bytes_before": report.vocabulary_bytes[0],
            "vocabulary_bytes_after": report.vocabulary_bytes[1],
            **before,
            **after,
            **trained,
            "lost_special_tokens": ", ".join(report.lost_special_tokens) or None,
            "notes": "; ".join(report.notes) or None,
        }

    def _check(self) -> None:
        check_new_folder(self.out)
        if self.steps < 0:
            raise BadInputError(f"steps must be at least 0, got {self.steps}")
        if self.steps and self.text is None:
            raise BadInputError("training needs a text in the new language: give text")
        for name in ("batch", "length"):
            smallest = 2 if name == "length" else 1
            if getattr(self, name) < smallest:
                raise BadInputError(f"{name} must be at least {smallest}, got {getattr(self, name)}")
        if self.helper is None and self.initialise in ("sava", "clp"):
            raise BadInputError(
                f"{self.initialise} needs a helper that has the new tokenizer; fvt needs none"
            )
        self._method()

    def _method(self) -> Any:
        from papertrial.efficient.vocabulary_adaptation.adapt import initialiser
        from papertrial.efficient.vocabulary_adaptation.alignment import SAVA

        name = self.initialise or ("fvt" if self.helper is None else "sava")
        if name == "sava":
            return SAVA(aligner=self.aligner, anchors=self.anchors)
        if self.aligner != "sgd" or self.anchors is not None:
            raise BadInputError(f"aligner and anchors are sava's; {name} has none")
        return initialiser(name)

    def _texts(self) -> tuple[list[str], list[str]]:
        """Return documents to measure on, and the others."""
        from papertrial.data.text import load_documents, split_documents

        if self.text is None:
            return [], []
        training, held_out = split_documents(load_documents(self.text), validation_share=0.1, seed=1)
        kept, total = [], 0
        for document in held_out:
            if total < _HELD_OUT:
                kept.append(document[: _HELD_OUT - total])
                total += len(kept[-1])
        return kept, training

    def _measured(
        self,
        moment: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        documents: list[str],
        *,
        only_bits: bool = False,
    ) -> dict[str, Fact]:
        from papertrial.efficient.evaluation import bits_per_character
        from papertrial.efficient.vocabulary_adaptation.tokens_per_word import fertility

        if not documents:
            return {}
        bits = bits_per_character(model, tokenizer, documents, length=self.length)
        found: dict[str, Fact] = {f"bits_per_character_{moment}": bits}
        if not only_bits:
            found[f"tokens_per_word_{moment}"] = fertility(tokenizer, documents).mean_of_ratios
        return found

    def _train(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        documents: list[str],
        progress: Progress,
    ) -> None:
        from papertrial.data.text import load_documents
        from papertrial.data.tokens import pack
        from papertrial.efficient.vocabulary_adaptation.continued import (
            CLIP,
            MixedBatches,
            continued_training_optimizer,
        )
        from papertrial.training import train

        target = pack(documents, tokenizer, self.length)
        source, share = target, 1.0
        if self.source_text is not None:
            source, share = pack(load_documents(self.source_text), tokenizer, self.length), self.share
        history = train(
            model,
            MixedBatches(target, source, self.batch, share, self.seed),
            continued_training_optimizer(model, self.lr),
            steps=self.steps,
            clip=CLIP,
            on_step=lambda done, values: progress(done, self.steps, f"loss {values['loss']:.3f}"),
        )
        if history.diverged_at is not None:
            raise BadInputError(f"training diverged at step {history.diverged_at}; lower lr from {self.lr:g}")


deeds: dict[str, type[Deed]] = {"vocabulary": AdaptVocabulary}
