"""The settings and the text that the trials on a trained model share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.errors import BadInputError
from papertrial.trial.contract import Trial

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

else:  # help is read without torch, and a protocol cannot be checked at run time
    Tensor = PreTrainedModel = PreTrainedTokenizerBase = Any

_TOY = {"hidden": 64, "ffn": 256, "layers": 2, "heads": 4}
_VALIDATION_BLOCKS = 96


@dataclass(frozen=True)
class ToyTrial(Trial):
    """A small language model that is trained.

    Attributes:
        model: "tiny-bitnet" (transformers' BitNet class), or a local folder or hub id whose training goes on.
        text: "stdlib", "topics", files, or a hub data set.
        steps: optimiser steps, both stages together; the last eighth is stage 2.
        batch: sequences in a batch.
        length: tokens in a sequence.
        hidden: hidden size of the toy model (64).
        ffn: width of its feed-forward layers (256).
        layers: of the toy model (2).
        heads: of the toy model (4).
        vocabulary: BPE tokens to train for the toy model; bytes if not given.
        device: where to train.
        dtype: "float32", or "bfloat16" for autocast.
    """

    model: str = "tiny-bitnet"
    text: str = "stdlib"
    steps: int = 200
    batch: int = 8
    length: int = 64
    hidden: int | None = None
    ffn: int | None = None
    layers: int | None = None
    heads: int | None = None
    vocabulary: int | None = None
    device: str = "cpu"
    dtype: str = "float32"

    prepared_by: ClassVar[tuple[str, ...]] = ("model", "text", "steps", "batch", "length", "vocabulary")

    def check(self) -> None:
        """Raise `BadInputError` for settings that nothing could be trained with."""
        for name, smallest in (("steps", 24), ("batch", 1), ("length", 2)):
            if getattr(self, name) < smallest:
                raise BadInputError(f"{name} must be at least {smallest}, got {getattr(self, name)}")
        lr = getattr(self, "lr", None)
        if lr is not None and not 0 < lr < math.inf:
            raise BadInputError(f"lr must be above 0, got {lr}")
        given = [name for name in (*_TOY, "vocabulary") if getattr(self, name) is not None]
        if given and not self._is_toy():
            raise BadInputError(f"{', '.join(given)} can be set for tiny-bitnet only, not for {self.model!r}")

    def scale(self) -> str:
        """Say model, parameters, tokens and device."""
        size = ""
        if self._is_toy():
            hidden, ffn, layers, _ = self._sizes().values()
            count = 2 * (self.vocabulary or 258) * hidden + layers * (4 * hidden**2 + 3 * hidden * ffn)
            size = f" {count / 1e6:.2f} M parameters,"
        tokens = self.steps * self.batch * self.length / 1e6
        return f"{self.model},{size} {tokens:.2f} M tokens, {self.steps} steps, {self.device}"

    def _is_toy(self) -> bool:
        return self.model == "tiny-bitnet"

    def _sizes(self) -> dict[str, int]:
        return {name: getattr(self, name) or default for name, default in _TOY.items()}

    def _write_blocks(self, folder: Path) -> None:
        from safetensors.torch import save_file

        from papertrial.efficient.bitnet_v2.toy import text_blocks
        from papertrial.models import load_tokenizer

        training, validation = text_blocks(
            self.text,
            self.length,
            training=self.steps * self.batch,
            validation=_VALIDATION_BLOCKS,
            tokenizer=None if self._is_toy() else load_tokenizer(self.model),
            vocabulary=self.vocabulary,
        )
        save_file({"training": training, "validation": validation}, folder / "blocks.safetensors")

    def _read_blocks(self, folder: Path) -> tuple[Tensor, Tensor]:
        from safetensors.torch import load_file

        blocks = load_file(folder / "blocks.safetensors")
        return blocks["training"], blocks["validation"]

    def _build(self, seed: int, activation: str) -> PreTrainedModel:
        from papertrial.data.tokens import BYTE_VOCABULARY
        from papertrial.efficient.bitnet_v2.toy import toy_bitnet
        from papertrial.models import load_causal_lm

        if not self._is_toy():
            return load_causal_lm(self.model, device=self.device)
        return toy_bitnet(
            vocabulary=self.vocabulary or BYTE_VOCABULARY,
            activation=activation,
            device=self.device,
            seed=seed,
            **self._sizes(),
        )
