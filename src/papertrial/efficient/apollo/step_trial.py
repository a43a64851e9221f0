"""The optimizer step alone, timed: APOLLO's and its baselines', at the shapes of a Llama."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from torch.nn import Module

else:  # help is read without torch, and a protocol cannot be checked at run time
    Module = Any


@dataclass(frozen=True)
class StepTrial(Trial):
    """Time one optimizer step on the weights of a Llama, with given gradients: no forward, no backward.

    A step that draws a new projection costs more; it counts as often as it comes, once in `gap` steps.

    Attributes:
        hidden: hidden size; the rank of APOLLO and GaLore is a quarter of it.
        ffn: width of the feed-forward layers.
        layers: decoder layers.
        vocabulary: rows of the embedding and of the head.
        gap: steps between two projections, as the paper sets it.
        repeats: plain steps timed in one measurement; their median counts.
        device: where to step.
    """

    hidden: int = 256
    ffn: int = 688
    layers: int = 3
    vocabulary: int = 4000
    gap: int = 200
    repeats: int = 5
    device: str = "cpu"

    arms = ("adamw", "adamw-foreach", "galore", "apollo", "apollo-mini")
    metrics: ClassVar[dict[str, Metric]] = {
        "step_ms": Metric("ms", "lower", "timed"),
        "plain_step_ms": Metric("ms", "lower", "timed", shown=False),
        "refresh_step_ms": Metric("ms", "lower", "timed", shown=False),
        "state_bytes": Metric("bytes", "lower", "exact", shown=False),
    }
    timed = True
    seeds = 10

    def check(self) -> None:
        """Raise `BadInputError` for sizes that make no model."""
        for name in ("hidden", "ffn", "layers", "vocabulary", "gap", "repeats"):
            smallest = 4 if name == "hidden" else 1
            if getattr(self, name) < smallest:
                raise BadInputError(f"{name} must be at least {smallest}, got {getattr(self, name)}")

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Time the first step, which draws the projection, two to warm up, and then the plain ones."""
        from papertrial.efficient.apollo.arms import make_optimizer, state_bytes

        model = self._weights(seed)
        optimizer = make_optimizer(
            arm,
            model,
            lr=1e-3,
            rank=self.hidden // 4,
            gap=self.gap,
            mini_scale=128.0,
            galore_scale=0.25,
            seed=seed,
        )
        optimizer.step()  # makes the state
        seconds = []
        for done in range(2 + self.repeats):
            self._wait()
            start = time.perf_counter()
            optimizer.step()
            self._wait()
            seconds.append(time.perf_counter() - start)
            watch.step(done + 1, 2 + self.repeats)
        plain = statistics.median(seconds[2:])
        for group in optimizer.param_groups:
            if "update_proj_gap" in group:
                group["update_proj_gap"] = 1  # the next step draws
        start = time.perf_counter()
        optimizer.step()
        self._wait()
        refresh = time.perf_counter() - start if arm not in ("adamw", "adamw-foreach") else plain
        return {
            "step_ms": 1000 * (plain * (self.gap - 1) + refresh) / self.gap,
            "plain_step_ms": 1000 * plain,
            "refresh_step_ms": 1000 * refresh,
            "state_bytes": float(state_bytes(optimizer)),
        }

    def scale(self) -> str:
        """Say the number of weights and the device."""
        count = 2 * self.vocabulary * self.hidden
        count += self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.ffn)
        return f"Llama shapes, hidden {self.hidden}, {count / 1e6:.1f} M weights, float32, {self.device}"

    @classmethod
    def quick(cls) -> StepTrial:
        """Return the trial on one narrow layer."""
        return cls(hidden=64, ffn=96, layers=1, vocabulary=256, repeats=2)

    def _weights(self, seed: int) -> Module:
        """Return a Llama's weights as a module, with gradients drawn from the seed."""
        import torch

        from papertrial.models import load_causal_lm

        model = load_causal_lm(
            "tiny-llama",
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.ffn,
            num_hidden_layers=self.layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            device=self.device,
            seed=seed,
        )
        generator = torch.Generator(device=self.device).manual_seed(seed)
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, device=self.device)
            parameter.grad = noise.mul_(1e-3).to(parameter.dtype)
        return model

    def _wait(self) -> None:
        import torch

        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize(self.device)
