"""Shared by the tests of this room: one layer's keys, values and queries, and an index over them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from papertrial.serving.retroinfer.index import WaveIndex
from papertrial.serving.retroinfer.sizes import IndexSettings, IndexSizes


@pytest.fixture
def small():
    """Return settings that index 120 tokens into clusters of about four, and 16 new ones at a time."""
    return IndexSettings(
        sink=2,
        window=8,
        cluster_size=4,
        segment=64,
        retrieve=0.1,
        estimate=0.3,
        update_length=16,
        min_index_len=120,
    )


@pytest.fixture
def make_index():
    """Return a function that draws keys, values, queries and a steady zone, and clusters the keys."""

    def make(
        tokens=60,
        clusters=12,
        retrieved=2,
        estimated=4,
        heads=2,
        group=3,
        dim=8,
        seed=0,
        steady=5,
        assignment=None,
    ):
        draw = torch.Generator().manual_seed(seed)

        def normal(*shape):
            return torch.randn(*shape, dim, generator=draw)

        keys, values, queries = normal(heads, tokens), normal(heads, tokens), 2 * normal(heads, group)
        index = WaveIndex(heads, dim, torch.float32, torch.device("cpu"))
        settings = replace(IndexSettings(), rounds=3)
        index.add(keys, values, IndexSizes(clusters, 1, retrieved, estimated), settings, assignment)
        return index, keys, values, queries, normal(heads, steady), normal(heads, steady)

    return make
