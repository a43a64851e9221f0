"""`papertrial apply ternary --method bitnet_v2`: train the user's model on into a ternary one, and pack it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from papertrial.deeds import Deed, Fact, check_new_folder
from papertrial.errors import BadInputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from papertrial.deeds import Progress
    from papertrial.efficient.bitnet_v2.two_stages import TwoStageHistory, TwoStages
else:  # help is read without torch, and a protocol cannot be checked at run time
    Tensor = PreTrainedModel = PreTrainedTokenizerBase = Progress = TwoStageHistory = TwoStages = Any


@dataclass(frozen=True)
class MakeTernary(Deed):
    """Train a language model on your text with ternary weights, INT8 and then INT4 activations, and pack it.

    Ternarising a finished model without training ruins large models, as users of BitNet report (a toy loses
    less): the training here is what makes the model, and one as good as the original takes about as much text
    as the original took. The result says what the loss was before, right after ternarising, and after training.

    Attributes:
        model: a local folder or a hub id; a toy model ("tiny-llama", "tiny-bitnet") trains from scratch on bytes.
        text: .txt, .jsonl or .parquet files, a folder of them, a hub data set, "stdlib" or "topics".
        out: folder for the packed model and its tokenizer; must not hold a model yet.
        steps: optimizer steps, both stages together.
        batch: sequences in a batch.
        length: tokens in a sequence.
        accumulate: batches in a step.
        lr: first peak of the learning rate.
        second_lr: rate after the drop in the middle; two thirds of the first if not given.
        weight_decay: before the drop; none after.
        warmup: steps; 375 in the paper, a twentieth of all steps if not given.
        int4_from: share of the steps after which activations go from 8 to 4 bits; 1 never.
        rotation: "activations", "both" (weights too) or "none" (BitNet b1.58).
        hadamard: "strict" refuses sizes that are no power of two, "auto", "paley" and "block" do not.
        bias: "refuse" or "keep" biases (Qwen2 has them).
        fold_rotation: rotate the weights once at the start, so that the model begins nearer to what it was.
        keep_latent: also save the latent weights, for training on, in a folder `latent` inside `out`.
        tasks: of lm-eval, separated by commas, that the model is asked before and after; the paper's are
            "arc_challenge,arc_easy,hellaswag,piqa,winogrande,lambada_openai".
        limit: questions of each task; all if not given.
        seed: of batches.
        device: where to train.
        dtype: "float32", or "bfloat16" for autocast.
    """

    model: str
    text: str
    out: Path
    steps: int = 1000
    batch: int = 8
    length: int = 256
    accumulate: int = 1
    lr: float = 1e-3
    second_lr: float | None = None
    weight_decay: float = 0.1
    warmup: int | None = None
    int4_from: float = 0.95
    rotation: Literal["activations", "both", "none"] = "activations"
    hadamard: Literal["strict", "auto", "paley", "block"] = "auto"
    bias: Literal["refuse", "keep"] = "refuse"
    fold_rotation: bool = False
    keep_latent: bool = False
    tasks: str = ""
    limit: int | None = None
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Train both stages, pack, save, load back, and return what came of it.

        Raises:
            BadInputError: `out` holds files already, a setting cannot work, or training diverged.
        """
        from papertrial.efficient.bitnet_v2.checkpoints import load_packed, save_packed
        from papertrial.efficient.bitnet_v2.convert import BitNetOptions, use_bitnet
        from papertrial.efficient.bitnet_v2.costs import ternary_costs
        from papertrial.efficient.bitnet_v2.packed import use_packed
        from papertrial.objective import evaluate_loss

        plan = self._plan()
        model, tokenizer = self._load()
        training, held_out = self._blocks(tokenizer)
        asked = self._ask("before", model, tokenizer)
        before = evaluate_loss(model, held_out, self.batch)
        options = BitNetOptions(rotation=self.rotation, hadamard=self.hadamard, bias=self.bias)
        self._use(use_bitnet, model, options)
        untrained = evaluate_loss(model, held_out, self.batch)
        history = self._train(model, training, plan, progress)
        if history.diverged_at is not None:
            raise BadInputError(f"training diverged at step {history.diverged_at}; lower lr from {self.lr:g}")
        after = evaluate_loss(model, held_out, self.batch)
        if self.keep_latent:
            model.save_pretrained(self.out / "latent")
        use_packed(model)
        save_packed(model, self.out)
        tokenizer.save_pretrained(self.out)
        loaded = load_packed(self.out, device=self.device)
        costs = ternary_costs(loaded)
        return {
            "model": str(self.out),
            "validation_loss_before": before,
            "validation_loss_ternarised_untrained": untrained,
            "validation_loss_after": after,
            "validation_loss_packed": evaluate_loss(loaded, held_out, self.batch),
            "tokens": self.steps * self.batch * self.accumulate * self.length,
            "activation_bits": history.bits[-1],
            "ternary_layers": costs.layers,
            "weight_bytes": costs.weights,
            "weight_bytes_bfloat16": costs.weights_bfloat16,
            **asked,
            **self._ask("packed", loaded, tokenizer),
        }

    def _ask(self, when: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Fact]:
        """Return what lm-eval's tasks say of a model, by task, metric and `when`."""
        names = [name.strip() for name in self.tasks.split(",") if name.strip()]
        if not names:
            return {}
        from papertrial.efficient.evaluation import lm_eval_tasks

        found = lm_eval_tasks(model, tokenizer, names, limit=self.limit, batch_size=self.batch)
        return {
            f"{task}_{metric}_{when}": value
            for task, numbers in found.items()
            for metric, value in numbers.items()
        }

    def _plan(self) -> TwoStages:
        from papertrial.efficient.bitnet_v2.two_stages import TwoStages

        check_new_folder(self.out)
        if self.limit is not None and self.limit < 1:
            raise BadInputError(f"limit must be at least 1 question of each task, got {self.limit}")
        for name, smallest in (("batch", 1), ("length", 2), ("accumulate", 1)):
            if getattr(self, name) < smallest:
                raise BadInputError(f"{name} must be at least {smallest}, got {getattr(self, name)}")
        plan = TwoStages(
            self.steps,
            self.lr,
            self.second_lr,
            weight_decay=self.weight_decay,
            warmup=self.steps // 20 if self.warmup is None else self.warmup,
            switch=self.int4_from,
        )
        plan.check()
        return plan

    def _load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        from papertrial.data.tokens import BYTE_VOCABULARY, byte_tokenizer
        from papertrial.efficient.bitnet_v2.toy import TOY_BITNET, toy_bitnet
        from papertrial.models import load_with_tokenizer

        if self.model == TOY_BITNET:
            return toy_bitnet(
                vocabulary=BYTE_VOCABULARY, device=self.device, seed=self.seed
            ), byte_tokenizer()
        return load_with_tokenizer(self.model, device=self.device, seed=self.seed)

    def _blocks(self, tokenizer: PreTrainedTokenizerBase) -> tuple[Tensor, Tensor]:
        from papertrial.efficient.bitnet_v2.toy import text_blocks

        wanted = self.steps * self.batch * self.accumulate
        return text_blocks(self.text, self.length, training=wanted, validation=128, tokenizer=tokenizer)

    def _use(self, use: Any, model: PreTrainedModel, options: Any) -> None:
        """Make the model a BitNet; the warning about folded rotations is what this deed's facts tell."""
        import warnings

        from papertrial.efficient.bitnet_v2.convert import RotatedWeightWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RotatedWeightWarning)
            use(model, options, fold_rotation=self.fold_rotation)

    def _train(
        self, model: PreTrainedModel, blocks: Tensor, plan: TwoStages, progress: Progress
    ) -> TwoStageHistory:
        import torch

        from papertrial.data.tokens import batches
        from papertrial.efficient.bitnet_v2.recipes import weight_groups
        from papertrial.efficient.bitnet_v2.two_stages import train_two_stages

        groups = weight_groups(model, self.weight_decay)
        return train_two_stages(
            model,
            batches(blocks, self.batch, self.seed),
            torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.95)),
            plan,
            accumulate=self.accumulate,
            dtype=self.dtype,
            on_step=lambda done, values: progress(done, self.steps, f"loss {values['loss']:.3f}"),
        )


deeds: dict[str, type[Deed]] = {"ternary": MakeTernary}
