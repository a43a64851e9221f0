"""The wave buffer's logic on a CPU; that copies overlap computation can only be seen on a CUDA device."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.serving.retroinfer.attention import choose_clusters, tripartite_attention
from papertrial.serving.retroinfer.block_cache import BufferSizes
from papertrial.serving.retroinfer.sequence import RetroSequence
from papertrial.serving.retroinfer.wave_buffer import WaveBuffer

CPU = torch.device("cpu")


@pytest.mark.parametrize("cache_blocks", [0, 3, 6, 100])
def test_attention_through_the_buffer_is_attention_without_it(make_index, cache_blocks):
    index, _, _, queries, steady_keys, steady_values = make_index(120, 16, 5, 4, steady=6)
    buffer = WaveBuffer(index, BufferSizes(cache_blocks, 60), CPU)
    draw = torch.Generator().manual_seed(5)
    for _ in range(12):
        queries = queries + 0.5 * torch.randn(queries.shape, generator=draw)
        expected = tripartite_attention(index, queries, steady_keys, steady_values, 0.4, "torch")
        out = tripartite_attention(index, queries, steady_keys, steady_values, 0.4, "torch", buffer)
        # The same numbers in another order of summation.
        torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)
    if cache_blocks == 0:
        assert buffer.hit_ratio == 0.0
    else:
        assert buffer.hit_ratio > 0.05
    missed = sum(cache.missed_tokens for cache in buffer.caches)
    assert buffer.moved_bytes == missed * 2 * 8 * 4


def test_rows_that_no_head_fills_are_finite(make_index):
    """Fresh memory may hold NaN, which a masked weight of zero would not silence."""
    index, *_ = make_index(120, 16, 5, 4)
    torch.full((4, 60 * 8 * 2 * 8), float("nan"))
    assert WaveBuffer(index, BufferSizes(3, 60), CPU)._execution.isfinite().all()


def test_what_was_once_admitted_never_moves_again(make_index):
    index, _, _, queries, steady_keys, steady_values = make_index(120, 16, 5, 4)
    buffer = WaveBuffer(index, BufferSizes(100, 60), CPU)
    tripartite_attention(index, queries, steady_keys, steady_values, 0.4, "torch", buffer)
    moved = buffer.moved_bytes
    assert moved > 0
    for _ in range(3):
        tripartite_attention(index, queries, steady_keys, steady_values, 0.4, "torch", buffer)
    assert buffer.moved_bytes == moved
    assert buffer.hit_ratio == pytest.approx(3 / 4)


def test_a_full_execution_buffer_is_no_silent_loss(make_index):
    index, _, _, queries, *_ = make_index(120, 16, 5, 4)
    buffer = WaveBuffer(index, BufferSizes(100, 2), CPU)
    with pytest.raises(BadInputError, match="announce the generation length"):
        buffer.start(choose_clusters(index, queries, 0.4))


def test_a_sequence_with_a_buffer_decodes_as_one_without(small):
    draw = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, 260, 8, generator=draw), torch.randn(2, 260, 8, generator=draw)
    plain = RetroSequence(keys[:, :150], values[:, :150], replace(small, backend="torch"))
    offloaded = RetroSequence(
        keys[:, :150], values[:, :150], replace(small, cache_ratio=0.2, max_new_tokens=110)
    )
    for t in range(150, 260):
        queries = torch.randn(2, 3, 8, generator=draw)
        for sequence in (plain, offloaded):
            sequence.append(keys[:, t], values[:, t])
        torch.testing.assert_close(
            offloaded.attend(queries, 0.4), plain.attend(queries, 0.4), atol=1e-6, rtol=1e-5
        )
    assert offloaded.updates == 6
    assert 0 < offloaded.buffer.hit_ratio < 1


def test_compiled_loops_and_a_buffer_exclude_each_other(make_index):
    index, _, _, queries, steady_keys, steady_values = make_index()
    buffer = WaveBuffer(index, BufferSizes(10, 60), CPU)
    with pytest.raises(BadInputError, match="no wave buffer"):
        tripartite_attention(index, queries, steady_keys, steady_values, 0.4, "compiled", buffer)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_store_is_pinned_and_the_result_the_same(small):
    draw = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(2, 200, 8, generator=draw).cuda() for _ in range(2))
    plain = RetroSequence(keys[:, :150], values[:, :150], small)
    offloaded = RetroSequence(
        keys[:, :150], values[:, :150], replace(small, cache_ratio=0.2, max_new_tokens=50)
    )
    assert offloaded.index.keys.is_pinned()
    for t in range(150, 200):
        queries = torch.randn(2, 3, 8, generator=draw).cuda()
        for sequence in (plain, offloaded):
            sequence.append(keys[:, t], values[:, t])
        torch.testing.assert_close(
            offloaded.attend(queries, 0.4), plain.attend(queries, 0.4), atol=1e-5, rtol=1e-5
        )
