"""What can be had from a trained model without training its weights: rotations, ternarising, low-bit attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.efficient.bitnet_v2.toy_trial import ToyTrial
from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Watch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

else:  # help is read without torch, and a protocol cannot be checked at run time
    Tensor = PreTrainedModel = Any

_BASE_OF = {"full": "full", "post-hoc": "full", "b158-a8": "b158-a8"}  # rotations: b158-a8; the rest: v2-a4


@dataclass(frozen=True)
class AfterTrainingTrial(ToyTrial):
    """Evaluate trained models as they are, and changed without training; every seed trains its three bases once.

    From the full-precision base: "post-hoc" ternarises it. From BitNet b1.58 (INT8): "int4" quantises activations
    by absmax, "quarot" and "spinquant" rotate every layer's input before that; "unfused" arms leave the rotation
    of q, k, v, up and gate out of the ternary weights (and those at 16 bits). From BitNet v2 (INT4): attention
    with keys, values and queries of few bits, after the rotary embedding.

    Attributes:
        lr: first peak of the learning rate of all three bases.
        learning_steps: steps in which SpinQuant learns its rotations.
        learning_rate: of those steps (Adam, falling to zero).
    """

    lr: float = 1.2e-2
    learning_steps: int = 40
    learning_rate: float = 3e-3

    arms: ClassVar[tuple[str, ...]] = (
        "full",
        "post-hoc",
        "b158-a8",
        "int4",
        "quarot",
        "quarot-unfused",
        "spinquant",
        "spinquant-unfused",
        "v2-a4",
        "v2-a4-kv4",
        "v2-a4-qkv4",
        "v2-a4-q4kv3",
        "v2-a4-q4kv3-no-first",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {"val_loss": Metric("nats/token", "lower")}
    prepared_by: ClassVar[tuple[str, ...]] = (
        *ToyTrial.prepared_by,
        "hidden",
        "ffn",
        "layers",
        "heads",
        "device",
        "dtype",
        "lr",
    )

    def check(self) -> None:
        """Raise `BadInputError` for settings that cannot work."""
        super().check()
        if self.learning_steps < 1:
            raise BadInputError(f"learning_steps must be at least 1, got {self.learning_steps}")
        if not self.learning_rate > 0:
            raise BadInputError(f"learning_rate must be above 0, got {self.learning_rate}")

    def prepare(self, seed: int, folder: Path) -> None:
        """Train the three bases from the seed's weights."""
        from safetensors.torch import save_model

        from papertrial.efficient.bitnet_v2.recipes import RECIPES, prepare_model, train_recipe

        self._write_blocks(folder)
        training, validation = self._read_blocks(folder)
        for name in ("full", "b158-a8", "v2-a4"):
            recipe = RECIPES[name]
            model = prepare_model(self._build(seed, recipe.activation), recipe)
            train_recipe(
                model,
                recipe,
                training,
                validation,
                steps=self.steps,
                batch=self.batch,
                lr=self.lr,
                seed=seed,
                dtype=self.dtype,
            )
            save_model(model, str(folder / f"{name}.safetensors"))

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Load the arm's base, change it, and evaluate it on held-out text."""
        from papertrial.objective import evaluate_loss

        training, validation = self._read_blocks(watch.prepared)
        rotating = arm == "int4" or arm.startswith(("quarot", "spinquant"))
        model = self._base("b158-a8" if rotating else _BASE_OF.get(arm, "v2-a4"), seed, watch.prepared)
        if rotating:
            self._rotate(arm, model, training, seed, watch)
        elif arm == "post-hoc":
            self._ternarize(model)
        elif arm.startswith("v2-a4-"):
            self._low_bit_attention(arm, model)
        return {"val_loss": evaluate_loss(model, validation)}

    def _base(self, name: str, seed: int, folder: Path) -> PreTrainedModel:
        from safetensors.torch import load_model

        from papertrial.efficient.bitnet_v2.convert import set_activation_bits
        from papertrial.efficient.bitnet_v2.recipes import RECIPES, prepare_model

        recipe = RECIPES[name]
        model = prepare_model(self._build(seed, recipe.activation), recipe)
        load_model(model, folder / f"{name}.safetensors")
        if recipe.rotation is not None:
            set_activation_bits(model, recipe.bits)
        return model

    def _rotate(self, arm: str, model: PreTrainedModel, training: Tensor, seed: int, watch: Watch) -> None:
        from papertrial.data.tokens import batches
        from papertrial.efficient.bitnet_v2.post_training import learn_rotations, use_rotations

        learned = arm.startswith("spinquant")
        rotated = use_rotations(
            model,
            fusing="unfused" if arm.endswith("unfused") else "fused",
            learned=learned,
            rotated=arm != "int4",
            seed=seed,
        )
        if learned:
            learn_rotations(
                model,
                rotated,
                batches(training.to(self.device), self.batch, seed + 1),
                steps=self.learning_steps,
                lr=self.learning_rate,
                on_step=lambda done, loss: watch.step(done, self.learning_steps, loss=loss),
            )

    def _ternarize(self, model: PreTrainedModel) -> None:
        from papertrial.efficient.bitnet_v2.convert import BitNetOptions, use_bitnet

        use_bitnet(model, BitNetOptions(rotation="none", sub_norm=False))

    def _low_bit_attention(self, arm: str, model: PreTrainedModel) -> None:
        from papertrial.efficient.bitnet_v2.attention import AttentionBits, use_low_bit_attention

        bits = {
            "v2-a4-kv4": AttentionBits(query=16, key=4, value=4),
            "v2-a4-qkv4": AttentionBits(query=4, key=4, value=4),
            "v2-a4-q4kv3": AttentionBits(query=4, key=3, value=3),
            "v2-a4-q4kv3-no-first": AttentionBits(query=4, key=3, value=3, first=3),
        }
        use_low_bit_attention(model, bits[arm])

    @classmethod
    def quick(cls) -> AfterTrainingTrial:
        """Return the trial with few steps on a narrower model, reading a text that is quickly found."""
        return cls(
            text="topics",
            steps=24,
            batch=4,
            length=32,
            hidden=32,
            ffn=64,
            layers=1,
            heads=2,
            learning_steps=3,
        )
