"""Learning from pairs: log-probabilities of completions, DPO and SimPO, and the distance to a reference.

Pure functions of tensors: no model, no tokenizer, no loop. Masks say which tokens belong to the completion.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from papertrial.errors import BadInputError, unknown

__all__ = [
    "Estimator",
    "completion_log_probabilities",
    "dpo_loss",
    "kl_divergence",
    "kl_estimate",
    "mean_log_probability",
    "sequence_log_probability",
    "simpo_loss",
]

Estimator = Literal["k1", "k2", "k3"]
"""Ways to estimate a divergence from samples of the policy; see `kl_estimate`."""


def completion_log_probabilities(
    logits: Float[Tensor, "batch length vocabulary"],
    tokens: Int64[Tensor, "batch length"],
    completion: Bool[Tensor, "batch length"],
) -> Float[Tensor, "batch length"]:
    """Return log π(token | all before it) in nats at every completion position, and 0 everywhere else.

    The logits of a position predict the next token, so they are read one place to the left. Only completion
    positions are normalised (by logsumexp, in float32 at least), so a long prompt costs nothing.

    Raises:
        BadInputError: the first token counts as completion (nothing predicts it).
    """
    if bool(completion[:, 0].any()):
        raise BadInputError(
            "a completion cannot begin at the first token, which nothing predicts; put the prompt, or a "
            "token that begins the text, before it"
        )
    predicted = completion[:, 1:]
    chosen = logits[:, :-1][predicted]
    chosen = chosen.to(torch.promote_types(chosen.dtype, torch.float32))
    picked = chosen.gather(-1, tokens[:, 1:][predicted].unsqueeze(-1)).squeeze(-1)
    values = picked - chosen.logsumexp(-1)
    result = values.new_zeros(completion.shape)
    return result.masked_scatter(completion, values)


def sequence_log_probability(
    log_probabilities: Float[Tensor, "batch length"], completion: Bool[Tensor, "batch length"]
) -> Float[Tensor, " batch"]:
    """Return the log-probability of each whole completion: the sum over its tokens, in nats."""
    return (log_probabilities * completion).sum(-1)


def mean_log_probability(
    log_probabilities: Float[Tensor, "batch length"], completion: Bool[Tensor, "batch length"]
) -> Float[Tensor, " batch"]:
    """Return the mean log-probability a token of each completion, in nats.

    Raises:
        BadInputError: a completion has no token.
    """
    counts = completion.sum(-1)
    if not bool(counts.all()):
        raise BadInputError(f"completion {int((counts == 0).nonzero()[0])} has no token, so it has no mean")
    return sequence_log_probability(log_probabilities, completion) / counts


def dpo_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    reference_chosen: Float[Tensor, " pairs"],
    reference_rejected: Float[Tensor, " pairs"],
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " pairs"]:
    """Return the direct preference optimisation loss of each pair.

    −log σ(β·h), where h is how much more the policy has moved towards the chosen completion than towards the
    rejected one, in nats, counted from the reference. All four are sums over completion tokens.

    Args:
        chosen: log-probabilities of the chosen completions under the policy.
        rejected: of the rejected ones.
        reference_chosen: log-probabilities of the chosen completions under the reference.
        reference_rejected: of the rejected ones.
        beta: how strongly the policy is held to the reference.
        label_smoothing: the share of pairs that are thought to be labelled the wrong way round.

    Raises:
        BadInputError: `beta` not above 0, or a share outside 0 … 0.5.

    Source: arXiv 2305.18290, equation 7; smoothing: its appendix on conservative DPO.
    """
    _above_zero("beta", beta)
    if not 0.0 <= label_smoothing < 0.5:
        raise BadInputError(f"label_smoothing must lie in [0, 0.5), got {label_smoothing}")
    scores = beta * ((chosen - reference_chosen) - (rejected - reference_rejected))
    return -(1 - label_smoothing) * functional.logsigmoid(scores) - label_smoothing * functional.logsigmoid(
        -scores
    )


def simpo_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    *,
    beta: float = 2.0,
    gamma: float = 1.0,
) -> Float[Tensor, " pairs"]:
    """Return the SimPO loss of each pair, which needs no reference.

    −log σ(β·(chosen − rejected) − γ), of mean log-probabilities a token (`mean_log_probability`). The margin γ
    enters as it stands and is not multiplied by β; the usual γ/β is 0.3 to 0.5.

    Raises:
        BadInputError: `beta` not above 0, or a negative `gamma`.

    Source: arXiv 2405.14734, equation 6.
    """
    _above_zero("beta", beta)
    if not gamma >= 0.0:
        raise BadInputError(f"gamma must be 0 or above, got {gamma}")
    return -functional.logsigmoid(beta * (chosen - rejected) - gamma)


def kl_divergence(
    logits: Float[Tensor, "*batch vocabulary"], reference_logits: Float[Tensor, "*batch vocabulary"]
) -> Float[Tensor, "*batch"]:
    """Return the exact divergence KL(policy ‖ reference) of the next token, in nats, at every position."""
    policy, reference = logits.log_softmax(-1), reference_logits.log_softmax(-1)
    return (policy.exp() * (policy - reference)).sum(-1)


def kl_estimate(
    log_probabilities: Float[Tensor, "*batch"],
    reference_log_probabilities: Float[Tensor, "*batch"],
    estimator: str = "k1",
) -> Float[Tensor, "*batch"]:
    """Return an estimate of KL(policy ‖ reference), in nats, for each token or text that the policy sampled.

    With r = log π_ref − log π: `k1` is −r, unbiased and of either sign; `k2` is r²/2, biased and low in
    variance; `k3` is eʳ − 1 − r, unbiased and never negative.

    Raises:
        BadInputError: an unknown estimator.

    Source: J. Schulman, "Approximating KL divergence", 2020.
    """
    ratio = reference_log_probabilities - log_probabilities
    if estimator == "k1":
        return -ratio
    if estimator == "k2":
        return ratio.square() / 2
    if estimator == "k3":
        return ratio.expm1() - ratio
    raise unknown("estimator", estimator, get_args(Estimator))


def _above_zero(name: str, value: float) -> None:
    if not value > 0.0:
        raise BadInputError(f"{name} must be above 0, got {value}")
