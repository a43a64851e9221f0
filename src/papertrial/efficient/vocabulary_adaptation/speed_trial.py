"""The trial of writing speed: characters a second under the old tokenizer and under the new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch


@dataclass(frozen=True)
class GenerationTrial(Trial):
    """Time greedy decoding of the new language, by the model as it was and after vocabulary adaptation.

    Tokens are turned into characters by what the language needs under each tokenizer. The toy model's weights
    are random: they do not change the time. What the larger head costs is in it.

    Attributes:
        model: a tiny model, or a folder or hub id.
        target: where the new tokenizer is: a folder or hub id; trained here for a tiny model.
        text: for a model that is loaded: files or a hub data set in the new language.
        new_tokens: decoded and timed after each prompt.
        prompts: how many.
        hidden: width of the toy model.
        source_vocabulary: BPE tokens of the toy model.
        target_vocabulary: BPE tokens of its new tokenizer.
        device: where it runs.
    """

    model: str = "tiny-llama"
    target: str | None = None
    text: str | None = None
    new_tokens: int = 48
    prompts: int = 4
    hidden: int = 128
    source_vocabulary: int = 600
    target_vocabulary: int = 800
    device: str = "cpu"

    arms: ClassVar[tuple[str, ...]] = ("source", "adapted")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "characters_per_second": Metric("characters/s", "higher", "timed"),
        "tokens_per_second": Metric("tokens/s", "higher", "timed"),
        "characters_per_token": Metric("characters/token", "higher", "exact"),
    }
    seeds: ClassVar[int] = 10
    timed: ClassVar[bool] = True

    def check(self) -> None:
        """Raise `BadInputError` for settings that cannot work."""
        for name in ("new_tokens", "prompts", "hidden"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.model.startswith("tiny-") == (self.target is not None and self.text is not None):
            raise BadInputError("a model that is loaded needs target and text; a tiny one neither of them")

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Adapt where the arm says so, and time."""
        from papertrial.data.text import load_documents
        from papertrial.data.tokens import train_bpe
        from papertrial.efficient.vocabulary_adaptation.adapt import adapt_vocabulary
        from papertrial.efficient.vocabulary_adaptation.arms import procedural_texts
        from papertrial.efficient.vocabulary_adaptation.generation import generation_speed
        from papertrial.models import load_causal_lm, load_tokenizer

        if self.target is not None and self.text is not None:
            model, source = load_causal_lm(self.model, device=self.device), load_tokenizer(self.model)
            target, documents = load_tokenizer(self.target), load_documents(self.text, max_characters=200_000)
        else:
            texts = procedural_texts(0, 200, self.prompts)
            source = train_bpe(texts["source"], self.source_vocabulary)
            target = train_bpe([*texts["source"], *texts["target"]], self.target_vocabulary)
            documents = texts["target_validation"]
            model = load_causal_lm(
                self.model, vocab_size=self.source_vocabulary, hidden_size=self.hidden, device=self.device
            )
        tokenizer = source
        if arm == "adapted":
            adapt_vocabulary(model, source, target, "fvt")
            tokenizer = target
        speed = generation_speed(model, tokenizer, documents[: self.prompts], new_tokens=self.new_tokens)
        watch.step(1, 1, characters_per_second=speed.characters_per_second)
        return {
            "characters_per_second": speed.characters_per_second,
            "tokens_per_second": speed.tokens_per_second,
            "characters_per_token": speed.characters_per_token,
        }

    def scale(self) -> str:
        """Say model, prompts and device."""
        tokenizers = (
            f"{self.source_vocabulary} -> {self.target_vocabulary} tokens, " if self.target is None else ""
        )
        return (
            f"{self.model}, {tokenizers}{self.prompts} prompts of {self.new_tokens} new tokens, {self.device}"
        )

    @classmethod
    def quick(cls) -> GenerationTrial:
        """Return the trial with few tokens of a narrower model."""
        return cls(new_tokens=8, prompts=2, hidden=32)
