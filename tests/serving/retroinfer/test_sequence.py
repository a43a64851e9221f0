from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papertrial.serving.retroinfer.attention import exact_attention
from papertrial.serving.retroinfer.sequence import RetroSequence
from papertrial.serving.retroinfer.sizes import IndexSettings, prompt_sizes
from papertrial.serving.retroinfer.synthetic import make_layer

SCALE = 0.35


def tokens(number, seed=0, heads=2, dim=8):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(heads, number, dim, generator=draw), torch.randn(heads, number, dim, generator=draw)


def as_rows(keys, values):
    """Return each head's (key, value) rows, sorted: the same whatever their order."""
    rows = torch.cat([keys, values], 2)
    return [sorted(map(tuple, head.tolist())) for head in rows]


def test_a_prompt_is_split_into_its_zones(small):
    keys, values = tokens(150)
    sequence = RetroSequence(keys, values, small)
    assert torch.equal(sequence.steady_keys, torch.cat([keys[:, :2], keys[:, -8:]], 1))
    assert torch.equal(sequence.steady_values, torch.cat([values[:, :2], values[:, -8:]], 1))
    sizes = prompt_sizes(150, small)
    assert (sequence.index.clusters, sequence.index.tokens) == (sizes.clusters, 140)
    assert (sequence.index.retrieved, sequence.index.estimated) == (sizes.retrieved, sizes.estimated)
    assert as_rows(*sequence.everything()) == as_rows(keys, values)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.integers(1, 200), new=st.integers(0, 120), seed=st.integers(0, 9))
def test_no_token_is_lost_or_doubled(small, prompt, new, seed):
    keys, values = tokens(prompt + new, seed)
    sequence = RetroSequence(keys[:, :prompt], values[:, :prompt], small)
    for t in range(prompt, prompt + new):
        sequence.append(keys[:, t], values[:, t])
    assert sequence.tokens == prompt + new
    assert as_rows(*sequence.everything()) == as_rows(keys, values)
    # The sinks come first and the newest token last, whatever has been indexed between.
    assert torch.equal(sequence.steady_keys[:, :1], keys[:, :1])
    assert torch.equal(sequence.steady_keys[:, -1], keys[:, -1])
    if sequence.is_indexed:
        assert 10 <= sequence.steady <= 26
        assert torch.equal(sequence.steady_keys[:, -8:], keys[:, -8:])


def test_the_official_update_rule():
    """4 + 64 + 1024 tokens wait; the next sends the 1024 oldest into 64 clusters: then there are 69."""
    official = IndexSettings(rounds=2)
    keys, values = tokens(1500 + 2049, dim=4)
    sequence = RetroSequence(keys[:, :1500], values[:, :1500], official)
    first = sequence.index.clusters, sequence.index.retrieved, sequence.index.estimated
    assert first == (96, 2, 22)
    steady = []
    for t in range(1500, 1500 + 2049):
        sequence.append(keys[:, t], values[:, t])
        steady.append(sequence.steady)
    assert steady[1023] == 68 + 1024
    assert steady[1024] == 69
    assert steady[2048] == 69
    assert sequence.updates == 2
    grown = sequence.index.clusters, sequence.index.retrieved, sequence.index.estimated
    assert grown == (96 + 2 * 64, 2 + 2 * 1, 22 + 2 * 15)
    # The first update took the window of the prompt and 960 new tokens.
    assert sequence.index.sizes[:, 96:160].sum(1).tolist() == [1024, 1024]


@pytest.mark.parametrize(("least", "clusters", "touched"), [(1092, 64, (1, 15)), (16_452, 1024, (18, 238))])
def test_short_prompts_are_dense_until_the_first_index(least, clusters, touched):
    settings_ = IndexSettings(min_index_len=least, rounds=1)
    keys, values = tokens(least + 1, heads=1, dim=2)
    sequence = RetroSequence(keys[:, : least - 3], values[:, : least - 3], settings_)
    for t in range(least - 3, least):
        sequence.append(keys[:, t], values[:, t])
    assert not sequence.is_indexed
    out = sequence.attend(torch.ones(1, 2, 2), SCALE)
    expected, _ = exact_attention(torch.ones(1, 2, 2), keys[:, :least], values[:, :least], None, SCALE)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    sequence.append(keys[:, least], values[:, least])
    assert sequence.steady == 69
    assert (sequence.index.clusters, sequence.index.retrieved, sequence.index.estimated) == (
        clusters,
        *touched,
    )


@pytest.mark.parametrize("backend", ["compiled", "torch"])
@pytest.mark.parametrize("prompt", [60, 150])
def test_dense_and_fully_retrieved_sequences_attend_exactly(small, backend, prompt):
    everything = replace(small, retrieve=1.0, estimate=0.0, backend=backend)
    keys, values = tokens(prompt + 70)
    sequence = RetroSequence(keys[:, :prompt], values[:, :prompt], everything)
    queries = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    for t in range(prompt, prompt + 70):
        sequence.append(keys[:, t], values[:, t])
        expected, _ = exact_attention(queries, keys[:, : t + 1], values[:, : t + 1], None, SCALE)
        torch.testing.assert_close(sequence.attend(queries, SCALE), expected, atol=2e-5, rtol=2e-5)


def test_updating_is_as_accurate_as_indexing_anew():
    """2048 tokens generated after a prompt of 4096, against an index of all 6144."""
    layer = make_layer("structured", 6144, 8, seed=3, dim=32)
    settings_ = IndexSettings()
    grown = RetroSequence(layer.keys[:, :4096], layer.values[:, :4096], settings_)
    for t in range(4096, 6144):
        grown.append(layer.keys[:, t], layer.values[:, t])
    assert grown.updates == 1 or grown.updates == 2
    anew = RetroSequence(layer.keys, layer.values, settings_)
    errors = []
    for sequence in (grown, anew):
        found = torch.stack([sequence.attend(q, 32**-0.5) for q in layer.queries])
        exact = [exact_attention(q, layer.keys, layer.values, None, 32**-0.5)[0] for q in layer.queries]
        truth = torch.stack(exact)
        errors.append(float((found - truth).norm() / truth.norm()))
    # Both are errors of clustering; neither may be more than half as large again as the other.
    assert errors[0] < 1.5 * errors[1]
    assert errors[0] < 0.5


def test_the_estimate_helps_and_hostile_keys_hurt():
    errors = {}
    for structure in ("structured", "hostile"):
        layer = make_layer(structure, 4096, 6, seed=0, dim=64)
        for mode in ("retroinfer", "retrieval-only"):
            sequence = RetroSequence(layer.keys, layer.values, IndexSettings(mode=mode))
            found = torch.stack([sequence.attend(q, 0.125) for q in layer.queries])
            exact = [exact_attention(q, layer.keys, layer.values, None, 0.125)[0] for q in layer.queries]
            truth = torch.stack(exact)
            errors[structure, mode] = float((found - truth).norm() / truth.norm())
    assert errors["structured", "retroinfer"] < 0.8 * errors["structured", "retrieval-only"]
    assert errors["hostile", "retroinfer"] > 0.5
    assert errors["hostile", "retroinfer"] < errors["hostile", "retrieval-only"]
