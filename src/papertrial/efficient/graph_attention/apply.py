"""`papertrial apply adapt --method graph_attention`: a Sparse-GIN adapter for the user's model and text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from papertrial.deeds import Deed, Fact, check_new_folder
from papertrial.errors import BadInputError

if TYPE_CHECKING:
    from papertrial.deeds import Progress
else:  # help is read without torch, and a protocol cannot be checked at run time
    Progress = Any


@dataclass(frozen=True)
class AdaptWithSparseGin(Deed):
    """Train a Sparse-GIN adapter on your text, beside a frozen Llama-like model, and save the adapter alone.

    Attributes:
        model: a local folder or a hub id (Llama, Mistral, Qwen2, Qwen3); a toy model ("tiny-llama") is drawn at
            random.
        text: .txt, .jsonl or .parquet files, a folder of them, a hub data set, "stdlib" or "topics".
        out: folder for the adapter; must not hold files yet.
        edges: causal (messages from earlier tokens) or self (as the released code computes).
        width: of the graph network; a twentieth of the hidden size if not given.
        threshold: attention above which an edge begins to count.
        cut: weight at or below which an edge is dropped.
        last_scale: λ of the last layer at the start; the first begins at 0.
        steps: optimizer steps.
        batch: sequences in a batch.
        length: tokens in a sequence.
        lr: learning rate, constant as in the paper.
        seed: of batches and weights.
        device: where to train.
        dtype: "float32", or "bfloat16" for autocast.
    """

    model: str
    text: str
    out: Path
    edges: Literal["causal", "self"] = "causal"
    width: int | None = None
    threshold: float = 0.1
    cut: float = 0.6
    last_scale: float = 0.5
    steps: int = 500
    batch: int = 4
    length: int = 256
    lr: float = 2e-4
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Train and save the adapter, and return what came of it.

        Raises:
            BadInputError: `out` holds files already, too little text, a model that is not Llama-like, or
                training diverged.
        """
        import torch

        from papertrial.data.blocks import training_and_held_out
        from papertrial.data.tokens import batches
        from papertrial.efficient.graph_attention.adapter import attach_sparse_gin
        from papertrial.efficient.graph_attention.settings import SparseGinSettings
        from papertrial.models import load_with_tokenizer, seeded
        from papertrial.training import evaluate_loss, train

        check_new_folder(self.out)
        model, tokenizer = load_with_tokenizer(self.model, device=self.device, seed=self.seed)
        training, held_out = training_and_held_out(self.text, tokenizer, self.length)
        before = evaluate_loss(model, held_out, self.batch)
        settings = SparseGinSettings(
            width=self.width,
            edges=self.edges,
            threshold=self.threshold,
            cut=self.cut,
            last_scale=self.last_scale,
            side_path=True,
        )
        with seeded(self.seed):
            adapter = attach_sparse_gin(model, settings)
            weights = list(adapter.parameters())
            history = train(
                model,
                batches(training, self.batch, self.seed),
                torch.optim.AdamW(weights, lr=self.lr, weight_decay=0.01),
                steps=self.steps,
                schedule="constant",
                clip=0.5,
                dtype=self.dtype,
                on_step=lambda done, values: progress(done, self.steps, f"loss {values['loss']:.3f}"),
            )
        if history.diverged_at is not None:
            raise BadInputError(f"training diverged at step {history.diverged_at}; lower lr from {self.lr:g}")
        adapter.save(self.out)
        return {
            "adapter": str(self.out),
            "adapter_weights": sum(weight.numel() for weight in weights),
            "validation_loss_before": before,
            "validation_loss_after": evaluate_loss(model, held_out, self.batch),
            "scales": ", ".join(f"{scale:.3f}" for scale in adapter.scales()),
        }


deeds: dict[str, type[Deed]] = {"adapt": AdaptWithSparseGin}
