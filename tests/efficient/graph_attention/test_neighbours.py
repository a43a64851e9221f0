"""Long texts under ranked processings: lists of neighbours must say what the whole map says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache

from papertrial.efficient.graph_attention import (
    GinSettings,
    Neighbours,
    PnaSettings,
    Processing,
    adjacency_edges,
    use_graph_attention,
)
from papertrial.efficient.graph_attention import neighbours as module
from papertrial.efficient.graph_attention.adjacency import (
    RANKED,
    process,
    softmax_adjacency,
    visible_pairs,
)
from papertrial.efficient.graph_attention.aggregates import largest_of_neighbours, longest_and_shortest
from papertrial.efficient.graph_attention.neighbours import find_neighbours
from papertrial.errors import BadInputError

CPU = torch.device("cpu")
SCALED = Processing("scaled_topk_causal_4d", threshold=0.05, share=0.3)
MODULES = {
    "gin": GinSettings(processing=Processing("top_k", share=0.3)),
    "gin, scaled": GinSettings(processing=SCALED),
    "gin, differential": GinSettings(scoring="differential", processing=SCALED),
    "gin, mlp": GinSettings(scoring="mlp", scoring_width=12, processing=Processing("top_k", share=0.2)),
    "pna": PnaSettings(processing=Processing("top_k", share=0.3)),
    "pna, scaled": PnaSettings(processing=SCALED),
    "pna, own": PnaSettings(processing=SCALED, max_over="own"),
    "pna, relu": PnaSettings(processing=SCALED, weights="relu"),
    "pna, language model": PnaSettings(processing=SCALED, language_model=True),
}


def _gathered(settings):
    return replace(settings, processing=replace(settings.processing, dense_up_to=0))


@pytest.fixture
def few_rows(monkeypatch):
    """Lets the scores of a few rows, and the neighbours of a few, be held at once."""
    monkeypatch.setattr(module, "_SCORES_BUDGET", 100)
    monkeypatch.setattr(module, "_GATHERED_BUDGET", 100)


@pytest.fixture
def swapped(tiny, stirred):
    def make(settings, seed=0):
        model = tiny(seed=seed)
        swap = use_graph_attention(model, settings)
        for number, one in enumerate(swap.modules):
            stirred(one, number)
        return model

    return make


def _case(kind, batch, queries, keys, share, seed, padding):
    """Random scores of the last `queries` of `keys` tokens, the first `padding` of them hidden."""
    scores = 2 * torch.randn(batch, 2, queries, keys, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(batch, 1, queries, keys, dtype=torch.bool)
    mask[..., :padding] = False
    visible = visible_pairs(mask, batch, queries, keys, CPU)
    processing = Processing(kind, threshold=0.1, share=share)
    found = find_neighbours(
        lambda rows, seen: softmax_adjacency(scores[:, :, rows], seen),
        mask,
        (batch, 2, queries, keys),
        CPU,
        processing,
    )
    return found, process(softmax_adjacency(scores, visible), visible, processing)


@pytest.mark.parametrize("kind", sorted(RANKED))
@pytest.mark.parametrize("budget", [1, 60, 1 << 20])  # one row at a time, some, all
@settings(max_examples=15, deadline=None)
@given(
    queries=st.integers(1, 12),
    earlier=st.integers(0, 6),
    share=st.sampled_from([0.05, 0.3, 1.0]),
    padding=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_neighbours_are_the_entries_of_the_whole_map(kind, budget, queries, earlier, share, padding, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SCORES_BUDGET", budget)
        found, whole = _case(kind, 2, queries, queries + earlier, share, seed, padding)
    assert torch.equal(found.to_dense(), whole)


@pytest.mark.parametrize("kind", sorted(RANKED))
def test_sums_and_maxima_are_those_over_the_whole_map(kind, few_rows):
    found, whole = _case(kind, 2, 14, 14, 0.3, 0, 2)
    values = torch.randn(2, 2, 14, 5, generator=torch.Generator().manual_seed(1))
    own = torch.randn(2, 2, 14, 5, generator=torch.Generator().manual_seed(2))
    # float32 sums of up to fourteen terms in another order
    torch.testing.assert_close(found.sum(values), whole @ values, atol=1e-6, rtol=1e-5)
    assert torch.equal(found.largest(values), largest_of_neighbours(whole > 0, values))
    assert torch.equal(found.degrees(), whole.sum(-1, keepdim=True).clamp(min=1))
    for linked in (True, False):
        ours = found.longest_and_shortest(values, own, linked)
        theirs = longest_and_shortest((whole > 0) & linked, values, own)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", MODULES)
def test_a_model_computes_and_learns_the_same(swapped, tokens, few_rows, name):
    ids = tokens(2, 20)
    dense, gathered = (swapped(one) for one in (MODULES[name], _gathered(MODULES[name])))
    losses = [model(ids, labels=ids, use_cache=False).loss for model in (dense, gathered)]
    torch.testing.assert_close(losses[1], losses[0], atol=1e-6, rtol=1e-5)
    for loss in losses:
        loss.backward()
    for (weight_name, weight), other in zip(dense.named_parameters(), gathered.parameters(), strict=True):
        # float32 sums in other orders, backwards through two layers
        torch.testing.assert_close(
            other.grad, weight.grad, atol=1e-5, rtol=1e-3, msg=lambda said, n=weight_name: f"{n}: {said}"
        )


def test_bfloat16_and_dropped_edges(swapped, tokens):
    settings = _gathered(replace(MODULES["gin"], adjacency_dropout=0.5))
    model = swapped(settings)
    with torch.no_grad():
        whole = model(tokens(), use_cache=False).logits
        rounded = model.bfloat16()(tokens(), use_cache=False).logits
    # eight bits of mantissa through two layers, and ranks that rounding may swap
    assert (rounded.float() - whole).norm() < 0.2 * whole.norm()
    graph = Neighbours(torch.zeros(1, 1, 4000, 1, dtype=torch.int32), torch.ones(1, 1, 4000, 1).bool(), 1)
    torch.manual_seed(0)
    kept = graph.sum(torch.ones(1, 1, 1, 1), dropout=0.25, training=True)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.04)  # five standard errors of 4000 draws


@pytest.mark.parametrize("name", ["gin, scaled", "gin, differential", "pna, scaled", "pna, language model"])
def test_cached_decoding_is_one_pass(swapped, tokens, few_rows, name):
    model = swapped(_gathered(MODULES[name]))
    ids, cache = tokens(), DynamicCache(config=model.config)
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits
        parts = [model(part, past_key_values=cache).logits for part in ids.split([5, 1, 6], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["gin", "pna"])
@pytest.mark.parametrize("form", ["whole map", "neighbours"])
def test_a_top_k_of_the_length_refuses_a_cache_that_holds_tokens(swapped, tokens, name, form):
    model = swapped(MODULES[name] if form == "whole map" else _gathered(MODULES[name]))
    ids, cache = tokens(1, 10), DynamicCache(config=model.config)
    with torch.no_grad():
        first = model(ids, past_key_values=cache).logits  # filling an empty one is a whole pass
        torch.testing.assert_close(first, model(ids, use_cache=False).logits)
        with pytest.raises(
            BadInputError, match=r"top_k keeps a share of the whole length, .* 10 tokens in the"
        ):
            model(ids[:, :1], past_key_values=cache)
        model.generation_config.pad_token_id = 0
        out = model.generate(ids, max_new_tokens=2, do_sample=False, use_cache=False)
    assert out.shape == (1, 12)


class _Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else (out,):
            if isinstance(one, torch.Tensor) and one.untyped_storage().nbytes():
                # views of a broadcast mask hold no more than what lies in memory
                self.numbers = max(self.numbers, one.untyped_storage().nbytes() // one.element_size())
        return out


@pytest.mark.parametrize("name", ["gin", "gin, differential", "pna", "pna, language model"])
def test_no_whole_map_is_ever_made(swapped, tokens, monkeypatch, name):
    """1024 tokens, ten neighbours: L · k and L · hidden are 10 k and 33 k, a map has a million entries a head."""
    monkeypatch.setattr(module, "_SCORES_BUDGET", 1 << 15)
    monkeypatch.setattr(module, "_GATHERED_BUDGET", 1 << 15)
    chosen = replace(MODULES[name].processing, share=0.01)
    settings = replace(MODULES[name], processing=chosen)
    ids = tokens(1, 1024)
    largest = {}
    for form, changed in (("whole map", settings), ("neighbours", _gathered(settings))):
        model = swapped(changed)
        model.set_attn_implementation("sdpa")  # which asks for no mask of its own
        with _Largest() as seen:
            loss = model(ids, labels=ids, use_cache=False).loss
            loss.backward()
        largest[form] = seen.numbers
    assert largest["whole map"] >= 4 * 1024 * 1024
    assert largest["neighbours"] <= 4 * 1024 * max(
        32, 11 * 8
    )  # heads · L · the wider of hidden and k · width


def test_edges_of_a_long_text_are_listed(swapped, tiny, tokens, stirred):
    edges = []
    for chosen in (MODULES["gin"], _gathered(MODULES["gin"])):
        model = tiny()
        swap = use_graph_attention(model, chosen)
        for one in swap.modules:
            stirred(one)
        edges.append(adjacency_edges(swap, tokens(1, 12)))
    assert edges[0] == edges[1]
    assert {edge["weight"] for edge in edges[0]} == {1.0}


def test_only_ranked_kinds_and_long_texts_are_gathered():
    assert not Processing("top_k").gathers(2048)
    assert Processing("top_k").gathers(2049)
    assert not Processing("binary").gathers(100_000)
    with pytest.raises(BadInputError, match="dense_up_to must be at least 0 tokens, got -1"):
        Processing("top_k", dense_up_to=-1)
