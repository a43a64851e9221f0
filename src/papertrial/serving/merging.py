"""Joining attention that was computed over disjoint sets of tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def merge_attention(
    outputs: Float[Tensor, "parts *heads dim"],
    log_sum_exps: Float[Tensor, parts * heads],
) -> tuple[Float[Tensor, "*heads dim"], Float[Tensor, "*heads"]]:
    """Join the attention over disjoint parts of the tokens into the attention over their union.

    Args:
        outputs: each part's softmax-weighted values.
        log_sum_exps: the log of each part's summed exponentials; -inf for a part without tokens.

    Returns:
        The joined output and log of summed exponentials, in float32: sum_i e^(l_i) o_i / sum_i e^(l_i),
        shifted by the largest l so that nothing overflows. With no token in any part: zeros and -inf.

    Source: arXiv 2505.02922 (the merge of exact and estimated attention).
    """
    log_sum_exps = log_sum_exps.float()
    highest = log_sum_exps.amax(0)
    shift = torch.where(highest.isneginf(), torch.zeros_like(highest), highest)
    weights = torch.exp(log_sum_exps - shift)
    # A part without tokens may hold anything, NaN included: it must not reach the sum through 0 * NaN.
    kept = outputs.float().masked_fill(log_sum_exps.isneginf().unsqueeze(-1), 0.0)
    total = weights.sum(0)
    joined = (weights.unsqueeze(-1) * kept).sum(0) / total.clamp(min=torch.finfo(total.dtype).tiny).unsqueeze(
        -1
    )
    return joined, shift + total.log()
