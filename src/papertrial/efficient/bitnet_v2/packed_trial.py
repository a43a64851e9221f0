"""Generation with packed weights, timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

else:  # help is read without torch, and a protocol cannot be checked at run time
    PreTrainedModel = Any


@dataclass(frozen=True)
class PackedTrial(Trial):
    """Time the generation of tokens, one by one, by an untrained BitNet whose weights are held in different ways.

    "float32" multiplies full-precision weights. "transformers" is its packed `BitLinear`, which unpacks every
    weight for every token. "packed" multiplies the same bytes
    as they are, INT8 and without rotation, so that both compute the same; "packed-v2" is BitNet v2, with
    rotation and INT4.

    Attributes:
        hidden: hidden size, a power of two.
        ffn: width of the feed-forward layers, a power of two.
        layers: decoder layers.
        tokens: generated in one measurement, after two to warm up; their median counts.
        prompt: tokens in the prompt.
        compiled: whether transformers' layer may use torch's compiler. It gains a few per cent once all is
            compiled, but compiles anew for every new model, which here would be counted as generation.
    """

    hidden: int = 1024
    ffn: int = 2048
    layers: int = 2
    tokens: int = 8
    prompt: int = 16
    compiled: bool = False

    arms: ClassVar[tuple[str, ...]] = ("float32", "transformers", "packed", "packed-v2")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "token_ms": Metric("ms", "lower", "timed"),
        "prompt_ms": Metric("ms", "lower", "timed", shown=False),
        "weight_bytes": Metric("bytes", "lower", "exact"),
    }
    timed = True
    seeds = 10

    def check(self) -> None:
        """Raise `BadInputError` for sizes that make no model."""
        for name in ("hidden", "ffn"):
            value = getattr(self, name)
            if value < 64 or value & (value - 1):
                raise BadInputError(f"{name} must be a power of two, 64 at least, got {value}")
        for name in ("layers", "tokens", "prompt"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Time the prompt, and then every token after the second."""
        import torch

        model = self._model(arm, seed)
        generator = torch.Generator().manual_seed(seed)
        prompt = torch.randint(0, 256, (1, self.prompt), generator=generator)
        with torch.no_grad(), _compiling(self.compiled and arm == "transformers"):
            model(input_ids=prompt[:, :1], use_cache=False)
            start = time.perf_counter()
            out = model(input_ids=prompt, use_cache=True)
            prompt_seconds = time.perf_counter() - start
            seconds = []
            for done in range(2 + self.tokens):
                token = out.logits[:, -1:].argmax(-1)
                start = time.perf_counter()
                out = model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
                seconds.append(time.perf_counter() - start)
                watch.step(done + 1, 2 + self.tokens)
        return {
            "token_ms": 1000 * statistics.median(seconds[2:]),
            "prompt_ms": 1000 * prompt_seconds,
            "weight_bytes": float(_weight_bytes(model)),
        }

    def scale(self) -> str:
        """Say the number of weights in the linear layers."""
        count = self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.ffn)
        return f"BitNet shapes, {count / 1e6:.0f} M weights in linear layers, one sequence, CPU"

    @classmethod
    def quick(cls) -> PackedTrial:
        """Return the trial on one narrow layer."""
        return cls(hidden=64, ffn=128, layers=1, tokens=3, prompt=4)

    def _model(self, arm: str, seed: int) -> PreTrainedModel:
        from papertrial.efficient.bitnet_v2.convert import BitNetOptions, use_bitnet
        from papertrial.efficient.bitnet_v2.packed import use_packed
        from papertrial.efficient.bitnet_v2.peers import use_transformers_packed
        from papertrial.efficient.bitnet_v2.toy import toy_bitnet

        model: PreTrainedModel = toy_bitnet(
            vocabulary=256, hidden=self.hidden, ffn=self.ffn, layers=self.layers, heads=8, seed=seed
        )
        if arm == "transformers":
            use_transformers_packed(model)
        elif arm != "float32":
            v2 = arm == "packed-v2"
            options = BitNetOptions(activation_bits=4 if v2 else 8, rotation="activations" if v2 else "none")
            use_bitnet(model, options)
            use_packed(model)
        return model


def _compiling(allowed: bool) -> Any:
    from contextlib import nullcontext

    from papertrial.efficient.bitnet_v2.peers import transformers_bitnet

    transformers_bitnet()
    import torch._dynamo

    return nullcontext() if allowed else torch._dynamo.config.patch(disable=True)


def _weight_bytes(model: PreTrainedModel) -> int:
    """Return the bytes of the decoder layers' matrices and scales."""
    state = {name: t for name, t in model.state_dict().items() if "_proj." in name}
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
