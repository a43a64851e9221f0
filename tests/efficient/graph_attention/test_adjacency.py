from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.efficient.graph_attention.adjacency import (
    PROCESSINGS,
    Processing,
    process,
    softmax_adjacency,
    visible_pairs,
)
from papertrial.errors import BadInputError

CPU = torch.device("cpu")


def silu(x):
    return x / (1 + math.exp(-x))


def softplus(x):
    return math.log1p(math.exp(x))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


ENTRYWISE = {
    "silu": lambda a, t: silu(a - t),
    "relu": lambda a, t: max(a - t, 0),
    "softplus": lambda a, t: softplus(a - t),
    "sharp_softplus": lambda a, t: softplus(10 * (a - t)) / 10,
    "sigmoid_elementwise": lambda a, t: sigmoid(10 * (a - t)),
    "flowthreshold": lambda a, t: sigmoid(5 * a) * sigmoid(50 * (a - t)),
    "binary": lambda a, t: float(a > t),
    "silu+binary": lambda a, t: silu(a - t) + float(a > t),
    "silu_below_binary_above": lambda a, t: silu(a - t) if a <= t else 1.0,
    "relu_below_binary_above": lambda a, t: max(a - t, 0) if a <= t else 1.0,
    "softplus_below_binary_above": lambda a, t: softplus(a - t) if a <= t else 1.0,
}
RANKED = {"top_k", "scaled_topk_causal_4d"}


def written_out(A, kind, t, share):
    """The processing of one causal map by loops over rows and entries, as the description says it."""
    length = len(A)
    made = torch.zeros(length, length, dtype=torch.float64)
    for i in range(length):
        row = A[i].tolist()
        if kind == "top_k":
            best = sorted(range(i + 1), key=lambda j: -row[j])[: max(int(share * length), 1)]
            for j in best:
                made[i, j] = 1.0
        elif kind == "scaled_topk_causal_4d":
            able = [j for j in range(i) if row[j] >= t]
            for j in sorted(able, key=lambda j: -row[j])[: max(1, math.ceil(share * i))]:
                made[i, j] = 1.0
        else:
            for j in range(i + 1):
                made[i, j] = ENTRYWISE[kind](row[j], t)
    return made


def softmaxed(length, seed, batch=1, heads=1):
    scores = 3 * torch.randn(batch, heads, length, length, generator=torch.Generator().manual_seed(seed))
    visible = visible_pairs(None, batch, length, length, CPU)
    return softmax_adjacency(scores, visible), visible


def test_every_processing_is_written_out_here():
    assert set(PROCESSINGS) == {"none"} | ENTRYWISE.keys() | RANKED


@pytest.mark.parametrize("kind", sorted(set(PROCESSINGS) - {"none"}))
@settings(max_examples=12, deadline=None)
@given(length=st.integers(1, 14), t=st.sampled_from([0.0, 0.1, 0.2, 0.6]), seed=st.integers(0, 99))
def test_a_processing_is_the_loops_of_its_description(kind, length, t, seed):
    A, visible = softmaxed(length, seed)
    made = process(A, visible, Processing(kind, threshold=t, share=0.3))
    # float32 entries against float64 loops; steepness 50 multiplies the rounding of an entry.
    expected = written_out(A[0, 0].double(), kind, t, 0.3).float()
    torch.testing.assert_close(made[0, 0], expected, atol=1e-5, rtol=1e-5)


def test_no_processing_is_the_softmax_itself():
    A, visible = softmaxed(9, 0)
    assert process(A, visible, Processing()) is A
    torch.testing.assert_close(A.sum(-1), torch.ones(1, 1, 9))


@pytest.mark.parametrize("kind", sorted(PROCESSINGS))
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_counts_for_nothing(kind, side):
    """A padded text has, at its own tokens, the graph of the bare text."""
    length, padding = 8, 5
    scores = torch.randn(1, 2, length, length, generator=torch.Generator().manual_seed(3))
    whole = 9 * torch.ones(1, 2, length + padding, length + padding)  # padding that would win every ranking
    own = slice(padding, None) if side == "left" else slice(0, length)
    whole[..., own, own] = scores
    present = torch.zeros(length + padding, dtype=torch.bool)
    present[own] = True
    mask = (present & torch.ones(length + padding, length + padding, dtype=torch.bool).tril())[None, None]
    # top_k's k is a share of the whole length, so it is set to give the same k for both.
    shares = (0.3, 2.4 / (length + padding)) if kind == "top_k" else (0.3, 0.3)
    made = []
    for given_mask, given_scores, share in ((None, scores, shares[0]), (mask, whole, shares[1])):
        size = given_scores.shape[-1]
        visible = visible_pairs(given_mask, 1, size, size, CPU)
        A = softmax_adjacency(given_scores, visible)
        assert torch.isfinite(A).all()
        made.append(process(A, visible, Processing(kind, threshold=0.1, share=share)))
    torch.testing.assert_close(made[1][..., own, own], made[0])
    assert not made[1][..., ~present].any()  # nobody hears padding


def test_masks_of_both_kinds_and_later_queries_see_the_same():
    additive = torch.full((2, 1, 5, 7), torch.finfo(torch.float32).min).triu(3)
    as_bool = additive == 0
    ours = visible_pairs(None, 2, 5, 7, CPU)
    assert torch.equal(ours, visible_pairs(additive, 2, 5, 7, CPU))
    assert torch.equal(ours, visible_pairs(as_bool, 2, 5, 7, CPU))
    # the last five of seven tokens: the first of them sees three
    assert ours[0, 0].sum(-1).tolist() == [3, 4, 5, 6, 7]


def test_a_mask_cannot_show_the_future():
    everything = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    assert torch.equal(visible_pairs(everything, 1, 4, 4, CPU)[0, 0], torch.ones(4, 4).tril().bool())


def test_sharpness_and_temperature_multiply_the_scores():
    scores = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    visible = visible_pairs(None, 1, 6, 6, CPU)
    torch.testing.assert_close(
        softmax_adjacency(scores, visible, 3.0, 2.0), softmax_adjacency(1.5 * scores, visible)
    )
    assert softmax_adjacency(scores.bfloat16(), visible).dtype == torch.float32


def test_a_threshold_can_be_trained():
    A, visible = softmaxed(6, 1)
    t = torch.tensor(0.2, requires_grad=True)
    process(A, visible, Processing("sharp_softplus"), t).sum().backward()
    # d/dt softplus(10 (A − t))/10 = −σ(10 (A − t))
    expected = -torch.sigmoid(10 * (A - 0.2))[visible.expand_as(A)].sum()
    torch.testing.assert_close(t.grad, expected)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "sharp-softplus"}, "sharp_softplus"),
        ({"threshold": 1.5}, "threshold must be at most 1"),
        ({"share": 0.0}, "share must lie above 0"),
        ({"share": 1.1}, "share must lie above 0"),
    ],
)
def test_bad_processings_are_refused(changed, said):
    with pytest.raises(BadInputError, match=said):
        Processing(**{"kind": "relu", **changed})


def test_other_masks_are_refused():
    with pytest.raises(BadInputError, match=r"got \(2, 7\); load the model with attn_implementation"):
        visible_pairs(torch.ones(2, 7), 2, 7, 7, CPU)
    with pytest.raises(BadInputError, match="temperature must be above 0"):
        softmax_adjacency(torch.zeros(1, 1, 2, 2), visible_pairs(None, 1, 2, 2, CPU), 1.0, 0.0)
