"""BitNet v2 on trial: trained with and without rotation, INT8 then INT4; and what can be had without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from papertrial.efficient.bitnet_v2.after_training_trial import AfterTrainingTrial
from papertrial.efficient.bitnet_v2.packed_trial import PackedTrial
from papertrial.efficient.bitnet_v2.sites_trial import SitesTrial
from papertrial.efficient.bitnet_v2.toy_trial import ToyTrial
from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

_RATES = (6e-3, 1.2e-2, 2.4e-2)
_HIGHER_RATES = (1.2e-2, 2.4e-2, 4.8e-2)


@dataclass(frozen=True)
class TrainingTrial(ToyTrial):
    """Train one small BitNet from scratch by each recipe: same weights, tokens, order and schedule.

    "b158" has no rotation, "v2" rotates the inputs of o_proj and down_proj, "both" their weights, too. The "a8"
    arms keep INT8 activations; "a4" arms go to INT4 for the last eighth of the steps with the optimizer as it is.
    Sub-norms stand before o_proj and down_proj in every arm, the full-precision one included. "relu2" arms have
    transformers' squared ReLU in place of the paper's SwiGLU. Two peaks of the learning rate (the second two
    thirds of the first), weight decay 0.1 and then none; every arm's first peak is tuned over three values, which
    lie one step higher for the rotated arms with SwiGLU: there the best of the lower three was their last.

    Attributes:
        lr: first peak of the learning rate in every arm; tuned for each if not given.
    """

    lr: float | None = None

    arms: ClassVar[tuple[str, ...]] = (
        "full",
        "b158-a8",
        "b158-a4",
        "v2-a8",
        "v2-a4",
        "v2-a4-both",
        "b158-a4-relu2",
        "v2-a4-relu2",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "val_loss": Metric("nats/token", "lower"),
        "val_loss_a8": Metric("nats/token", "lower", shown=False),
        "switch_cost": Metric("nats/token", "lower"),
        "down_error": Metric("share of the norm", "lower"),
        "o_error": Metric("share of the norm", "lower"),
        "down_kurtosis": Metric("fourth over second moment squared", "lower", shown=False),
        "o_kurtosis": Metric("fourth over second moment squared", "lower", shown=False),
        "diverged": Metric("runs", "lower", "exact", shown=False),
    }
    version: ClassVar[int] = 2  # the rates of two arms are tuned over higher values
    # As many values for every arm, each arm's best one inside its three.
    grid: ClassVar[Mapping[str, Mapping[str, Sequence[Any]]]] = {
        arm: {"lr": _HIGHER_RATES if arm in ("v2-a8", "v2-a4") else _RATES} for arm in arms
    }
    tuned_on = "val_loss"
    curve = "loss"

    def prepare(self, seed: int, folder: Path) -> None:
        """Tokenise as much text as the run reads, and hold out blocks of other documents."""
        self._write_blocks(folder)

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Train one model by one recipe, and look at it before stage 2 and after."""
        from papertrial.efficient.bitnet_v2.recipes import RECIPES, prepare_model, train_recipe

        if self.lr is None:
            raise BadInputError("lr is tuned by the runner; set it to measure an arm by hand")
        recipe = RECIPES[arm]
        training, validation = self._read_blocks(watch.prepared)
        return train_recipe(
            prepare_model(self._build(seed, recipe.activation), recipe),
            recipe,
            training,
            validation,
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            seed=seed,
            dtype=self.dtype,
            on_step=lambda done, values: watch.step(done, self.steps, loss=values["loss"]),
        )

    @classmethod
    def quick(cls) -> TrainingTrial:
        """Return the trial with few steps on a narrower model, reading a text that is quickly found."""
        return cls(text="topics", steps=24, batch=4, length=32, hidden=32, ffn=64, layers=1, heads=2, lr=1e-2)


trials: dict[str, type[Trial]] = {
    "training": TrainingTrial,
    "after-training": AfterTrainingTrial,
    "sites": SitesTrial,
    "packed": PackedTrial,
}
