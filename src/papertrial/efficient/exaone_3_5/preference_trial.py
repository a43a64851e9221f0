"""Staged preference optimisation on trial: one stage, a longer one, and two, under a flawed reward model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from torch import nn

    from papertrial.efficient.exaone_3_5.stages import Stage

else:  # help is read without torch
    nn = Stage = Any

_TOY = "tiny-llama"
_DEMONSTRATIONS_A_STEP = 64


@dataclass(frozen=True)
class PreferenceTrial(Trial):
    """Align a small fine-tuned model to a reward model that likes chatter, in one stage or in two.

    Prompts ask for the larger of two digits; the true reward wants it and no chatter. Pairs are the best and
    the worst of several responses by the flawed reward model, kept where a second model ranks them alike.
    Over-optimisation shows as a true reward that falls while the proxy rises. Two stages have as many steps
    together as the long single one. Learning rates are tuned for every arm on the true reward.

    Attributes:
        model: a small Llama made here, or any causal language model by folder or hub id. Such a one reads and
            writes the world's characters as its own tokens, and predicts among these alone; set its lr and sft_lr,
            as the tuned ones are a toy's.
        sft_steps: steps of supervised fine-tuning that make M0.
        steps: steps of a stage; dpo-long has twice as many.
        batch: pairs a step.
        responses: responses sampled for each of the hundred prompts.
        agreement: lowest Kendall's τ between the two reward models' rankings of a prompt's responses.
        budget: divergence from M0, in nats a response, at which true rewards are compared.
        lr: learning rate of every stage; tuned if not given.
        sft_lr: peak learning rate of the fine-tuning that makes M0.
        hidden: width of the small model.
        points: places on the path of a run at which rewards and divergence are measured.
        draws: responses drawn for each prompt at such a place.
        device: where the model trains.
    """

    model: str = _TOY
    sft_steps: int = 200
    steps: int = 50
    batch: int = 32
    responses: int = 8
    agreement: float = 0.0
    budget: float = 2.0
    lr: float | None = None
    sft_lr: float = 3e-3
    hidden: int = 64
    points: int = 5
    draws: int = 2
    device: str = "cpu"

    arms: ClassVar[tuple[str, ...]] = ("sft", "dpo", "dpo-long", "dpo-dpo", "dpo-simpo")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "true_reward": Metric("points", "higher"),
        "proxy_reward": Metric("points", "higher"),
        "kl": Metric("nats/response", "lower"),
        "reward_at_budget": Metric("points", "higher"),
        "true_minus_best": Metric("points", "higher", shown=False),
        "pairs": Metric("pairs", "higher", "exact", shown=False),
    }
    seeds: ClassVar[int] = 5
    grid: ClassVar[Mapping[str, Mapping[str, Sequence[Any]]]] = {
        "dpo": {"lr": (3e-4, 1e-3, 3e-3)},
        "dpo-long": {"lr": (1e-4, 3e-4, 1e-3)},
        "dpo-dpo": {"lr": (3e-4, 1e-3, 3e-3)},
        "dpo-simpo": {"lr": (3e-5, 1e-4, 3e-4)},
    }
    tuned_on: ClassVar[str | None] = "true_reward"
    prepared_by: ClassVar[tuple[str, ...]] = ("model", "sft_steps", "sft_lr", "hidden")
    curve: ClassVar[str | None] = "true_reward"

    def check(self) -> None:
        """Raise `BadInputError` for settings that cannot work."""
        for name, smallest in (
            ("sft_steps", 1),
            ("steps", 1),
            ("batch", 1),
            ("responses", 2),
            ("hidden", 8),
            ("points", 1),
            ("draws", 1),
        ):
            if getattr(self, name) < smallest:
                raise BadInputError(f"{name} must be at least {smallest}, got {getattr(self, name)}")
        if not self.budget > 0:
            raise BadInputError(f"budget must be above 0 nats, got {self.budget}")
        if not -1 <= self.agreement <= 1:
            raise BadInputError(f"agreement is Kendall's τ, from -1 to 1, got {self.agreement}")
        for name in ("sft_lr", *(() if self.lr is None else ("lr",))):
            if not getattr(self, name) > 0:
                raise BadInputError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.model != _TOY:
            if self.hidden != type(self).hidden:
                raise BadInputError(f"hidden can be set for {_TOY} only, not for {self.model!r}")
            self._spelling()

    def prepare(self, seed: int, folder: Path) -> None:
        """Fine-tune M0 on demonstrations that are right six times in ten."""
        import torch
        from safetensors.torch import save_model

        from papertrial.efficient.exaone_3_5.toy_preferences import demonstrations, encode_rows
        from papertrial.training import train

        model = self._model(seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.sft_lr)
        generator = torch.Generator().manual_seed(seed)

        def batches() -> Any:
            while True:
                tokens, completion = encode_rows(*demonstrations(_DEMONSTRATIONS_A_STEP, generator))
                yield {"input_ids": tokens, "labels": tokens.masked_fill(~completion, -100)}

        train(model, batches(), optimizer, steps=self.sft_steps, clip=1.0)
        save_model(model, str(folder / "model.safetensors"))

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Take M0 through the arm's stages and measure along the way."""
        import torch

        from papertrial.efficient.exaone_3_5.stages import frozen_copy, run_stages
        from papertrial.efficient.exaone_3_5.toy_preferences import make_pairs, reward_at

        model = self._model(seed, watch.prepared)
        first, generator = frozen_copy(model), torch.Generator().manual_seed(1000 + seed)
        stages = self._stages(arm)
        report, pairs = make_pairs([first], self.responses, self.agreement, generator)
        total = sum(stage.steps for stage in stages)
        path = [self._point(model, first, seed)]
        every = max(1, total // self.points)

        def on_step(step: int, values: Mapping[str, float]) -> None:
            if math.isfinite(values["loss"]) and (step % every == 0 or step == total):
                model.eval()
                path.append(self._point(model, first, seed))
                model.train()
                watch.step(step, total, loss=values["loss"], true_reward=path[-1][0], kl=path[-1][2])

        if stages:
            histories = run_stages(model, stages, pairs, seed=seed, on_step=on_step)
            if histories[-1].diverged_at is not None:
                return {**dict.fromkeys(self.metrics, math.nan), "pairs": float(len(pairs))}
        columns = torch.tensor(path).unbind(1)
        return {
            "true_reward": path[-1][0],
            "proxy_reward": path[-1][1],
            "kl": path[-1][2],
            "reward_at_budget": reward_at(columns[2], columns[0], self.budget),
            "true_minus_best": path[-1][0] - max(point[0] for point in path),
            "pairs": float(len(report.pairs)),
        }

    def scale(self) -> str:
        """Say model, prompts and steps."""
        if self.model != _TOY:
            return f"{self.model}, 100 prompts, stages of {self.steps} steps, {self.device}"
        count = 2 * 17 * self.hidden + 2 * (4 * self.hidden**2 + 6 * self.hidden**2)
        return f"tiny-llama {count / 1e6:.2f} M parameters, 100 prompts, stages of {self.steps} steps, CPU"

    @classmethod
    def quick(cls) -> PreferenceTrial:
        """Return the trial with short stages on a narrow model and one learning rate."""
        return cls(sft_steps=20, steps=4, batch=8, responses=4, lr=1e-3, hidden=16, points=1, draws=1)

    def _stages(self, arm: str) -> list[Stage]:
        from papertrial.efficient.exaone_3_5.stages import Stage

        if arm == "sft":
            return []
        if self.lr is None:
            raise BadInputError("lr is tuned by the runner; set it to measure an arm by hand")
        if arm == "dpo-long":
            return [Stage("dpo", 2 * self.steps, self.lr, self.batch)]
        return [Stage(name, self.steps, self.lr, self.batch) for name in arm.split("-")]

    def _model(self, seed: int, folder: Path | None = None) -> nn.Module:
        """Return the small model, or the one named as a model of the world's alphabet; M0 from its folder."""
        from safetensors.torch import load_model

        from papertrial.efficient.exaone_3_5.respelled import Respelled
        from papertrial.efficient.exaone_3_5.toy_preferences import VOCABULARY
        from papertrial.models import load_causal_lm

        model: nn.Module
        if self.model == _TOY:
            model = load_causal_lm(
                _TOY,
                vocab_size=VOCABULARY,
                seed=seed,
                device=self.device,
                hidden_size=self.hidden,
                intermediate_size=2 * self.hidden,
                num_attention_heads=4,
                num_key_value_heads=4,
            )
        else:
            model = Respelled(load_causal_lm(self.model, device=self.device, seed=seed), self._spelling())
        if folder is not None:
            load_model(model, folder / "model.safetensors", device=self.device)
        return model

    def _spelling(self) -> Any:
        from papertrial.efficient.exaone_3_5.respelled import spell_characters
        from papertrial.efficient.exaone_3_5.toy_preferences import ALPHABET
        from papertrial.models import load_tokenizer

        return spell_characters(load_tokenizer(self.model), ALPHABET)

    def _point(self, model: nn.Module, first: Any, seed: int) -> tuple[float, float, float]:
        """Return true reward, proxy reward and divergence from M0, over fresh responses to every prompt.

        The same random numbers at every point and in every arm: differences are the models' own.
        """
        import torch

        from papertrial.efficient.exaone_3_5.stages import log_probabilities
        from papertrial.efficient.exaone_3_5.toy_preferences import (
            PROMPTS,
            encode_rows,
            mean_rewards,
            sample,
        )
        from papertrial.preference import kl_estimate, sequence_log_probability

        generator = torch.Generator().manual_seed(500_000 + seed)
        prompts = PROMPTS * self.draws
        try:
            responses = sample(model, prompts, generator)
        except FloatingPointError:  # diverged: that is a result
            return math.nan, math.nan, math.nan
        tokens, completion = encode_rows(prompts, responses)
        with torch.no_grad():
            now, then = (
                sequence_log_probability(log_probabilities(one, tokens, completion).cpu(), completion)
                for one in (model, first)
            )
        return (*mean_rewards(prompts, responses), float(kl_estimate(now, then).mean()))
