"""Making scores of what a model puts out at the places that a layout reads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.posttrain.step_reading import Reading
from papertrial.posttrain.steps import StepScores

Judge = Callable[[Tensor, Reading], StepScores]


def probability_of_good(outputs: Tensor, reading: Reading) -> StepScores:
    """Softmax of a two-way head; validity is class 1."""
    return _validity(_two_way(outputs).softmax(-1)[:, 1])


def margin_of_good(outputs: Tensor, reading: Reading) -> StepScores:
    """PURE: p₁ − p₀ of a two-way head."""
    good = _two_way(outputs).softmax(-1)
    return _validity(good[:, 1] - good[:, 0])


def three_way(outputs: Tensor, reading: Reading) -> StepScores:
    """ReasonEval: of (negative, neutral, positive), validity is the last two, redundancy the middle one."""
    if outputs.shape[-1] != 3:
        raise BadInputError(f"ReasonEval's head has 3 outputs, this one has {outputs.shape[-1]}")
    shares = outputs.softmax(-1)
    return StepScores(_array(shares[:, 1] + shares[:, 2]), _array(shares[:, 1]))


def gain_of_value(outputs: Tensor, reading: Reading) -> StepScores:
    """Skywork-PRM: the first step's value, then how much each step raises it over the step before."""
    value = outputs[:, 0].sigmoid()
    return _validity(torch.cat([value[:1], value[1:] - value[:-1]]))


def mean_logit(outputs: Tensor, reading: Reading) -> StepScores:
    """Llemma PRMs: the sigmoid of the mean logit over the vocabulary."""
    return _validity(outputs.mean(-1).sigmoid())


def mean_log_probability(outputs: Tensor, reading: Reading) -> StepScores:
    """The mean log-probability of a step's tokens, in nats: a baseline that needs no training."""
    following = torch.tensor(reading.next_ids)
    scores = outputs.log_softmax(-1).gather(-1, following[:, None])[:, 0].numpy()
    steps = np.asarray(reading.step_of)
    return StepScores(np.bincount(steps, weights=scores) / np.bincount(steps))


def between_tokens(good: int, bad: int) -> Judge:
    """Math-Shepherd: softmax over the logits of two tokens; validity is the good one's share."""

    def read(outputs: Tensor, reading: Reading) -> StepScores:
        return _validity(outputs[:, [good, bad]].softmax(-1)[:, 0])

    return read


def probability_of_token(good: int) -> Judge:
    """RLHFlow: the probability of one token under the full softmax."""

    def read(outputs: Tensor, reading: Reading) -> StepScores:
        return _validity(outputs.softmax(-1)[:, good])

    return read


def _two_way(outputs: Tensor) -> Tensor:
    if outputs.shape[-1] != 2:
        raise BadInputError(f"this convention's head has 2 outputs, this one has {outputs.shape[-1]}")
    return outputs


def _validity(scores: Tensor) -> StepScores:
    return StepScores(_array(scores))


def _array(scores: Tensor) -> np.ndarray:
    return scores.double().numpy()
