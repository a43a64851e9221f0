"""`papertrial apply train --method apollo`: train the user's model on the user's text with APOLLO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from papertrial.deeds import Deed, Fact, check_new_folder
from papertrial.errors import BadInputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from papertrial.deeds import Progress
    from papertrial.efficient.apollo.optimizer import Apollo
    from papertrial.training import TrainingHistory
else:  # help is read without torch, and a protocol cannot be checked at run time
    Tensor = PreTrainedModel = Progress = Apollo = TrainingHistory = Any


@dataclass(frozen=True)
class TrainWithApollo(Deed):
    """Train all weights of a language model on your text, with little optimizer memory.

    Attributes:
        model: a local folder or a hub id; a toy model ("tiny-llama") trains from scratch on bytes.
        text: .txt, .jsonl or .parquet files, a folder of them, a hub data set, "stdlib" or "topics".
        out: folder for the trained model and its tokenizer; must not hold a model yet.
        steps: optimizer steps.
        batch: sequences in a batch.
        length: tokens in a sequence.
        lr: peak learning rate; 3e-4 for fine-tuning, 0.01 from scratch.
        rank: of the auxiliary space; a quarter of the hidden size if not given, 1 for mini.
        mini: APOLLO-Mini, with one factor for each weight: optimizer state like SGD's.
        scale: α is its root. A number, or "auto" for m / rank; 1, or 128 for mini, if not given.
        weight_decay: decoupled.
        int8: keep the matrices as int8 codes while training (Q-APOLLO); the saved model is float.
        layerwise: step each weight inside the backward pass and free its gradient at once.
        seed: of batches, projections and rounding.
        device: where to train.
        dtype: "float32", or "bfloat16" for autocast.
        target: names of the layers that get low-rank state.
    """

    model: str
    text: str
    out: Path
    steps: int = 500
    batch: int = 8
    length: int = 256
    lr: float = 3e-4
    rank: int | None = None
    mini: bool = False
    scale: float | Literal["auto"] | None = None
    weight_decay: float = 0.0
    int8: bool = False
    layerwise: bool = False
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    target: tuple[str, ...] = ("attn", "mlp")

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Train, save with `save_pretrained`, and return what came of it.

        Raises:
            BadInputError: `out` holds a model already, a setting cannot work, or training diverged.
        """
        from papertrial.data.blocks import training_and_held_out
        from papertrial.efficient.apollo.quantized import dequantize_linears
        from papertrial.models import load_with_tokenizer, parameter_count
        from papertrial.training import evaluate_loss

        self._check()
        model, tokenizer = load_with_tokenizer(self.model, device=self.device, seed=self.seed)
        training, held_out = training_and_held_out(self.text, tokenizer, self.length)
        before = evaluate_loss(model, held_out, self.batch)
        optimizer = self._optimizer(model)
        history = self._train(model, training, optimizer, progress)
        if history.diverged_at is not None:
            raise BadInputError(f"training diverged at step {history.diverged_at}; lower lr from {self.lr:g}")
        after = evaluate_loss(model, held_out, self.batch)
        dequantize_linears(model)
        model.save_pretrained(self.out)
        tokenizer.save_pretrained(self.out)
        adamw = 2 * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
        return {
            "model": str(self.out),
            "parameters": parameter_count(model),
            "validation_loss_before": before,
            "validation_loss_after": after,
            "tokens": self.steps * self.batch * self.length,
            "optimizer_state_bytes": optimizer.state_bytes(),
            "projection_cache_bytes": optimizer.cache_bytes(),
            "adamw_state_bytes": adamw,
        }

    def _check(self) -> None:
        check_new_folder(self.out)
        for name in ("steps", "batch", "length"):
            smallest = 2 if name == "length" else 1
            if getattr(self, name) < smallest:
                raise BadInputError(f"{name} must be at least {smallest}, got {getattr(self, name)}")
        if self.mini and self.rank not in (None, 1):
            raise BadInputError(f"mini is APOLLO at rank 1, got rank {self.rank}; leave one of the two out")

    def _optimizer(self, model: PreTrainedModel) -> Apollo:
        from papertrial.efficient.apollo.groups import param_groups, quarter_rank
        from papertrial.efficient.apollo.optimizer import Apollo
        from papertrial.efficient.apollo.quantized import QApollo, quantize_linears

        rank = 1 if self.mini else self.rank or quarter_rank(model, self.target)
        layers = quantize_linears(model, self.target) if self.int8 else []
        groups = param_groups(model, rank=rank, target=self.target)
        options: dict[str, Any] = {
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "scale": (128.0 if self.mini else 1.0) if self.scale is None else self.scale,
            "scale_type": "tensor" if self.mini else "channel",
            "seed": self.seed,
        }
        return QApollo(groups, layers, **options) if self.int8 else Apollo(groups, **options)

    def _train(
        self, model: PreTrainedModel, blocks: Tensor, optimizer: Apollo, progress: Progress
    ) -> TrainingHistory:
        from papertrial.data.tokens import batches
        from papertrial.efficient.apollo.layerwise import LayerwiseSteps
        from papertrial.training import train

        if self.layerwise:
            LayerwiseSteps(optimizer)
        return train(
            model,
            batches(blocks, self.batch, self.seed),
            optimizer,
            steps=self.steps,
            dtype=self.dtype,
            on_step=lambda done, values: progress(done, self.steps, f"loss {values['loss']:.3f}"),
        )


deeds: dict[str, type[Deed]] = {"train": TrainWithApollo}
