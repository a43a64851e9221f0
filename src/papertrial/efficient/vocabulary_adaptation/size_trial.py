"""The trial of size: how many weights the published models have before and after. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

_SHAPES: Mapping[str, Mapping[str, int]] = {
    "mistral-7b": {"vocab_size": 32000},
    "llama-3.1-8b": {"vocab_size": 128256},
}


@dataclass(frozen=True)
class SizeTrial(Trial):
    """Count the weights of Mistral-7B and Llama-3.1-8B with their own vocabulary and with the new one.

    The models are built from their published sizes without holding a weight; the counts are exact.

    Attributes:
        vocabulary: tokens of the new vocabulary; Minerva's by default.
    """

    vocabulary: int = 32768

    arms: ClassVar[tuple[str, ...]] = (
        "mistral-7b",
        "mistral-7b-adapted",
        "llama-3.1-8b",
        "llama-3.1-8b-adapted",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "parameters": Metric("weights", "lower", "exact"),
        "vocabulary_bytes": Metric("bytes in bfloat16", "lower", "exact"),
    }

    def check(self) -> None:
        """Raise `BadInputError` for an empty vocabulary."""
        if self.vocabulary < 1:
            raise BadInputError(f"vocabulary must be at least 1, got {self.vocabulary}")

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Build the model of an arm on the meta device and count."""
        import torch
        from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

        from papertrial.models import parameter_count

        name = arm.removesuffix("-adapted")
        vocabulary = self.vocabulary if arm.endswith("-adapted") else _SHAPES[name]["vocab_size"]
        kind = MistralConfig if name.startswith("mistral") else LlamaConfig
        config = kind(
            vocab_size=vocabulary,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
        )
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        watch.step(1, 1)
        count = parameter_count(model)
        return {
            "parameters": float(count),
            "vocabulary_bytes": float(2 * 2 * vocabulary * config.hidden_size),
        }

    def scale(self) -> str:
        """Say what is counted."""
        return f"Mistral-7B and Llama-3.1-8B, {self.vocabulary} new tokens, counted without weights"

    @classmethod
    def quick(cls) -> SizeTrial:
        """Return the trial as it is: it only counts."""
        return cls()
