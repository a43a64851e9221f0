"""The rotation alone, on values with outliers that are planted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch


@dataclass(frozen=True)
class SitesTrial(Trial):
    """Quantise made-up inputs to INT4 (and INT8) with and without the Hadamard rotation; no model.

    Three kinds of input: normal values with a few channels `size` times as large; products of two normal values,
    as SwiGLU makes them; and plain normal values, which no rotation can help.

    Attributes:
        features: width of the input, a power of two.
        tokens: rows.
        channels: outlier channels.
        size: how many times as large they are.
    """

    features: int = 1024
    tokens: int = 512
    channels: int = 4
    size: float = 30.0

    arms: ClassVar[tuple[str, ...]] = ("plain", "rotated")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "planted_error": Metric("share of the norm", "lower"),
        "planted_error_int8": Metric("share of the norm", "lower"),
        "heavy_error": Metric("share of the norm", "lower"),
        "normal_error": Metric("share of the norm", "lower"),
    }

    def check(self) -> None:
        """Raise `BadInputError` for sizes that cannot be."""
        if self.features < 2 or self.features & (self.features - 1):
            raise BadInputError(f"features must be a power of two, got {self.features}")
        if self.tokens < 1:
            raise BadInputError(f"tokens must be at least 1, got {self.tokens}")
        if not 0 <= self.channels <= self.features:
            raise BadInputError(f"channels must be between 0 and {self.features}, got {self.channels}")

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Make the inputs, rotate them or not, and quantise them."""
        from papertrial.efficient.bitnet_v2.sites import heavy_tails, planted_outliers, quantization_error
        from papertrial.efficient.hadamard import hadamard_transform

        sizes = {"tokens": self.tokens, "features": self.features}
        inputs = {
            "planted": planted_outliers(**sizes, channels=self.channels, size=self.size, seed=seed),
            "heavy": heavy_tails(**sizes, seed=seed),
            "normal": planted_outliers(**sizes, channels=0, seed=seed),
        }
        if arm == "rotated":
            inputs = {name: hadamard_transform(x) for name, x in inputs.items()}
        watch.step(1, 1)
        return {
            **{f"{name}_error": quantization_error(x, 4) for name, x in inputs.items()},
            "planted_error_int8": quantization_error(inputs["planted"], 8),
        }

    def scale(self) -> str:
        """Say the size of the inputs."""
        return f"{self.tokens} made-up tokens of {self.features} features, {self.channels} outlier channels"

    @classmethod
    def quick(cls) -> SitesTrial:
        """Return the trial on fewer tokens."""
        return cls(features=256, tokens=64)
