"""The fair dense baseline of the field: exact attention that reads each cached key and value once.

The usual grouped-query paths read the cache once for every query head of a group; held against them any
sparse method looks several times better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from papertrial.errors import BadInputError
from papertrial.serving.kernels import attend_run
from papertrial.threads import workers


def naive_attention(
    queries: Float[Tensor, "batch query_heads queries dim"],
    keys: Float[Tensor, "batch kv_heads tokens dim"],
    values: Float[Tensor, "batch kv_heads tokens dim"],
    mask: Bool[Tensor, "batch 1 queries tokens"] | None = None,
    scale: float | None = None,
) -> tuple[Float[Tensor, "batch query_heads queries dim"], Float[Tensor, "batch query_heads queries"]]:
    """Attend by the definition, with every head's keys written out: the reference of the paths below.

    Returns the output and the log of the summed exponentials of the scaled scores. True in `mask` means that
    a query may see a token.
    """
    group = group_size(queries.shape[1], keys.shape[1])
    keys, values = keys.repeat_interleave(group, dim=1), values.repeat_interleave(group, dim=1)
    scores = queries @ keys.transpose(-1, -2) * softmax_scale(queries.shape[-1], scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(-1) @ values, scores.logsumexp(-1)


def grouped_attention(
    queries: Float[Tensor, "batch query_heads queries dim"],
    keys: Float[Tensor, "batch kv_heads tokens dim"],
    values: Float[Tensor, "batch kv_heads tokens dim"],
    mask: Tensor | None = None,
    scale: float | None = None,
    is_causal: bool = False,
) -> Float[Tensor, "batch query_heads queries dim"]:
    """Attend exactly; a single query per sequence reads every key and value once.

    One query (decoding): the query heads of a group become rows of one small matrix over their key-value
    head, in the compiled loop on a CPU in float32 without a mask, else through torch's fused attention.
    Several queries (prefill): torch's fused attention as it is. `mask` is (batch, 1, queries, tokens),
    boolean (True = may see) or added to the scores.

    Raises:
        BadInputError: the query heads are no multiple of the key-value heads.
    """
    batch, query_heads, length, dim = queries.shape
    group = group_size(query_heads, keys.shape[1])
    scale = softmax_scale(dim, scale)
    if length > 1:
        return scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, scale=scale, is_causal=is_causal, enable_gqa=group > 1
        )
    packed = queries.reshape(batch, keys.shape[1], group, dim)
    if mask is None and runs_compiled(queries, keys, values):
        return decode_compiled(packed, keys, values, scale)[0].reshape(queries.shape)
    out = scaled_dot_product_attention(packed, keys, values, attn_mask=mask, scale=scale)
    return out.reshape(queries.shape)


def decode_compiled(
    queries: Float[Tensor, "batch kv_heads group dim"],
    keys: Float[Tensor, "batch kv_heads tokens dim"],
    values: Float[Tensor, "batch kv_heads tokens dim"],
    scale: float,
) -> tuple[Float[Tensor, "batch kv_heads group dim"], Float[Tensor, "batch kv_heads group"]]:
    """Attend exactly with the compiled loop, heads spread over torch's threads.

    Returns the output and the log of the summed exponentials. CPU, float32, rows contiguous.
    """
    scaled = (queries * scale).contiguous()
    out = torch.empty_like(scaled)
    log_sum_exp = torch.empty(scaled.shape[:-1])
    pairs = [(b, h) for b in range(keys.shape[0]) for h in range(keys.shape[1])]

    def attend(pair: tuple[int, int]) -> None:
        attend_run(
            scaled[pair].numpy(),
            keys[pair].numpy(),
            values[pair].numpy(),
            0,
            keys.shape[2],
            out[pair].numpy(),
            log_sum_exp[pair].numpy(),
        )

    over_heads(attend, pairs)
    return out, log_sum_exp


def runs_compiled(*tensors: Tensor) -> bool:
    """Say whether the compiled loops can take these tensors: CPU, float32, rows contiguous, no gradient."""
    return all(
        t.device.type == "cpu"
        and t.dtype == torch.float32
        and not t.requires_grad
        and t.stride(-1) == 1
        and (t.shape[-2] == 1 or t.stride(-2) == t.shape[-1])
        for t in tensors
    )


def over_heads(work: Callable[[tuple[int, int]], None], pairs: Sequence[tuple[int, int]]) -> None:
    """Run `work` on every (sequence, head) pair, on as many threads as torch uses for one operation."""
    threads = min(torch.get_num_threads(), len(pairs))
    if threads <= 1:
        for pair in pairs:
            work(pair)
    else:
        list(workers(threads).map(work, pairs))


def group_size(query_heads: int, kv_heads: int) -> int:
    """Return the number of query heads that share one key-value head; raises BadInputError if uneven."""
    if kv_heads < 1 or query_heads % kv_heads:
        raise BadInputError(
            f"query heads must be a multiple of key-value heads, got {query_heads} and {kv_heads}"
        )
    return query_heads // kv_heads


def softmax_scale(dim: int, scale: float | None) -> float:
    """Return the factor on query-key products: 1/sqrt(dim) unless the model has its own."""
    return dim**-0.5 if scale is None else scale
