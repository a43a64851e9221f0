"""APOLLO on trial: one small language model trained under each optimiser, and the step alone, timed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.efficient.apollo.step_trial import StepTrial
from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

else:  # help is read without torch, and a protocol cannot be checked at run time
    Tensor = PreTrainedModel = PreTrainedTokenizerBase = Any

_TOY = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
_VALIDATION_BLOCKS = 160
_FEW_DOCUMENTS = 40
_CHARACTERS_A_TOKEN = 6  # generous: English prose has about four under a BPE, code fewer


@dataclass(frozen=True)
class PretrainTrial(Trial):
    """Train one small Llama from scratch under each optimiser: same weights, tokens, order and schedule.

    Linear warm-up over a tenth of the steps, then cosine to a tenth of the peak; no weight decay and no
    clipping, as in the paper. The arm adamw-two-rates gives the matrices a tenth of the rate of all other
    parameters: under APOLLO and GaLore those are stepped by AdamW too, at a rate that plain AdamW could not
    bear on its matrices. The variants are half the rank, singular vectors in place
    of random projections, int8 weights, and GaLore with the random projection on which the paper sees it fail.
    Every arm's learning rate is tuned over as many values as every other's.

    Attributes:
        model: a tiny model ("tiny-llama"), a local folder or a hub id (training then goes on from its
            weights).
        text: "stdlib", "topics", files, or a hub data set.
        steps: optimiser steps.
        batch: sequences in a batch.
        length: tokens in a sequence.
        rank: of APOLLO and GaLore; a quarter of the hidden size if not given.
        lr: peak learning rate of every arm; tuned for each if not given.
        mini_scale: `scale` of APOLLO-Mini, whose root multiplies the update; the paper's is 128.
        galore_scale: `scale` of GaLore; 0.25 in its own pre-training recipes.
        gap: steps between two projections. The paper's 200 are a fiftieth of its shortest run or less.
        hidden: hidden size of a toy model (64).
        ffn: width of a toy model's feed-forward layers (192).
        layers: of a toy model (2).
        heads: attention heads of a toy model (4).
        vocabulary: BPE tokens to train for a toy model; bytes if not given.
        device: where to train.
        dtype: "float32", or "bfloat16" for autocast.
    """

    model: str = "tiny-llama"
    text: str = "stdlib"
    steps: int = 120
    batch: int = 8
    length: int = 64
    rank: int | None = None
    lr: float | None = None
    mini_scale: float = 128.0
    galore_scale: float = 0.25
    gap: int = 30
    hidden: int | None = None
    ffn: int | None = None
    layers: int | None = None
    heads: int | None = None
    vocabulary: int | None = None
    device: str = "cpu"
    dtype: str = "float32"

    arms: ClassVar[tuple[str, ...]] = (
        "adamw",
        "adamw-two-rates",
        "sgd",
        "galore",
        "galore-random",
        "apollo",
        "apollo-half",
        "apollo-svd",
        "apollo-mini",
        "q-apollo",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "val_loss": Metric("nats/token", "lower"),
        "state_bytes": Metric("bytes", "lower", "exact"),
        "matrix_state_bytes": Metric("bytes", "lower", "exact", shown=False),
        "cache_bytes": Metric("bytes", "lower", "exact", shown=False),
        "step_ms": Metric("ms", "lower"),
    }
    grid: ClassVar[Mapping[str, Mapping[str, Sequence[Any]]]] = {
        "adamw": {"lr": (1e-3, 3e-3, 6e-3)},
        "adamw-two-rates": {"lr": (3e-2, 1e-1, 3e-1)},
        "sgd": {"lr": (0.05, 0.15, 0.45)},
        "galore": {"lr": (3e-2, 1e-1, 3e-1)},
        "galore-random": {"lr": (1e-2, 3e-2, 1e-1)},
        "apollo": {"lr": (1e-2, 3e-2, 1e-1)},
        "apollo-half": {"lr": (5e-3, 2e-2, 8e-2)},
        "apollo-svd": {"lr": (3e-3, 1e-2, 3e-2)},
        "apollo-mini": {"lr": (1.5e-3, 5e-3, 1.5e-2)},
        "q-apollo": {"lr": (1e-2, 3e-2, 1e-1)},
    }
    tuned_on = "val_loss"
    prepared_by = ("model", "text", "steps", "batch", "length", "vocabulary")
    curve = "loss"

    def check(self) -> None:
        """Raise `BadInputError` for settings that no optimiser could work with."""
        for name in ("steps", "batch", "length", "gap"):
            if getattr(self, name) < (2 if name == "length" else 1):
                raise BadInputError(
                    f"{name} must be at least {2 if name == 'length' else 1}, got {getattr(self, name)}"
                )
        for name in ("mini_scale", "galore_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInputError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise BadInputError(f"lr must be above 0, got {self.lr}")
        if not self._is_toy():
            given = [
                name for name in ("hidden", "ffn", "layers", "heads", "vocabulary") if getattr(self, name)
            ]
            if given:
                raise BadInputError(
                    f"{', '.join(given)} can be set for toy models only, not for {self.model!r}"
                )
        if self.rank is not None:
            from papertrial.efficient.apollo.groups import param_groups
            from papertrial.efficient.apollo.optimizer import Apollo

            Apollo(param_groups(self._load(0), rank=self.rank))

    def prepare(self, seed: int, folder: Path) -> None:
        """Tokenise as much text as the run reads, and hold out validation blocks of other documents."""
        from safetensors.torch import save_file

        from papertrial.data.text import load_documents, split_documents
        from papertrial.data.tokens import pack

        needed = self.steps * self.batch + 2 * _VALIDATION_BLOCKS
        per_token = 1 if self._is_toy() and self.vocabulary is None else _CHARACTERS_A_TOKEN
        documents = load_documents(
            self.text, max_characters=max(1_000_000, 2 * needed * self.length * per_token)
        )
        if len(documents) < _FEW_DOCUMENTS:  # too few to hold some out: hold out the end of the text
            packed = pack(documents, self._tokenizer(documents), self.length)
            end = max(1, len(packed) // 10)
            training, validation = packed[:-end], packed[-end:]
        else:
            # Not seed 0: the documents above were chosen by that very hash, and would fall on one side.
            kept, held_out = split_documents(documents, validation_share=0.1, seed=1)
            tokenizer = self._tokenizer(kept)
            training, validation = (pack(part, tokenizer, self.length) for part in (kept, held_out))
        if not len(training):
            raise BadInputError(
                f"{self.text} fills one block of {self.length} tokens; at least two are needed"
            )
        blocks = {
            "training": _spread(training, self.steps * self.batch),
            "validation": _spread(validation, _VALIDATION_BLOCKS),
        }
        save_file(blocks, folder / "blocks.safetensors")

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Train one model with one optimiser and evaluate it."""
        from safetensors.torch import load_file

        from papertrial.data.tokens import batches
        from papertrial.efficient.apollo.arms import make_optimizer, state_bytes, time_steps
        from papertrial.efficient.apollo.groups import param_groups, quarter_rank
        from papertrial.efficient.apollo.lowrank import LowRankOptimizer
        from papertrial.training import evaluate_loss, train

        if self.lr is None:
            raise BadInputError("lr is tuned by the runner; set it to measure an arm by hand")
        blocks = load_file(watch.prepared / "blocks.safetensors")
        model = self._load(seed)
        optimizer = make_optimizer(
            arm,
            model,
            lr=self.lr,
            rank=self.rank or quarter_rank(model),
            gap=self.gap,
            mini_scale=self.mini_scale,
            galore_scale=self.galore_scale,
            seed=seed + 1,  # 0 would draw the released projections for every seed
        )
        seconds = time_steps(optimizer)
        history = train(
            model,
            batches(blocks["training"], self.batch, seed),
            optimizer,
            steps=self.steps,
            dtype=self.dtype,
            on_step=lambda done, values: watch.step(done, self.steps, loss=values["loss"]),
        )
        loss = math.inf
        if history.diverged_at is None:
            loss = evaluate_loss(model, blocks["validation"])
        matrices = [weight for _, weight in param_groups(model, rank=1)[-1]["params"]]
        return {
            "val_loss": loss,
            "state_bytes": float(state_bytes(optimizer)),
            "matrix_state_bytes": float(state_bytes(optimizer, matrices)),
            "cache_bytes": float(optimizer.cache_bytes()) if isinstance(optimizer, LowRankOptimizer) else 0.0,
            "step_ms": 1000 * statistics.median(seconds),
        }

    def scale(self) -> str:
        """Say model, parameters, tokens and device."""
        size = ""
        if self._is_toy():
            hidden, ffn, layers, _ = (self._toy_sizes()[name] for name in _TOY)
            count = 2 * (self.vocabulary or 258) * hidden + layers * (4 * hidden**2 + 3 * hidden * ffn)
            size = f" {count / 1e6:.2f} M parameters,"
        tokens = self.steps * self.batch * self.length / 1e6
        return f"{self.model},{size} {tokens:.2f} M tokens, {self.steps} steps, {self.device}"

    @classmethod
    def quick(cls) -> PretrainTrial:
        """Return the trial with eight steps on a narrower model, reading a text that is quickly found."""
        return cls(text="topics", steps=8, batch=4, length=32, hidden=32, ffn=64, layers=1, heads=2, gap=4)

    def _is_toy(self) -> bool:
        return self.model.startswith("tiny-") and not Path(self.model).is_dir()

    def _toy_sizes(self) -> dict[str, Any]:
        given = {
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
        }
        sizes = {name: given[name] or default for name, default in _TOY.items()}
        return {**sizes, "num_key_value_heads": sizes["num_attention_heads"]}

    def _tokenizer(self, training: Sequence[str]) -> PreTrainedTokenizerBase:
        from papertrial.data.tokens import byte_tokenizer, train_bpe
        from papertrial.models import load_tokenizer

        if not self._is_toy():
            return load_tokenizer(self.model)
        return byte_tokenizer() if self.vocabulary is None else train_bpe(training, self.vocabulary)

    def _load(self, seed: int) -> PreTrainedModel:
        from papertrial.data.tokens import BYTE_VOCABULARY
        from papertrial.models import load_causal_lm

        if not self._is_toy():
            return load_causal_lm(self.model, device=self.device)
        size = self.vocabulary or BYTE_VOCABULARY
        return load_causal_lm(self.model, vocab_size=size, device=self.device, seed=seed, **self._toy_sizes())


def _spread(blocks: Tensor, count: int) -> Tensor:
    """Return `count` blocks at even distances, or all where there are fewer."""
    return blocks[:: max(1, len(blocks) // count)][:count].contiguous()


trials: dict[str, type[Trial]] = {"pretrain": PretrainTrial, "step": StepTrial}
