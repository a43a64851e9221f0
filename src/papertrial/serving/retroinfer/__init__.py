"""RetroInfer: decode from a long context by reading a quarter of its clusters (arXiv 2505.02922)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.serving.retroinfer.attention import (
        Choice,
        choose_clusters,
        estimate_attention,
        exact_attention,
        tripartite_attention,
    )
    from papertrial.serving.retroinfer.baselines import BestTokens, DenseStep, QuestPages, WaveStep
    from papertrial.serving.retroinfer.block_cache import (
        Access,
        BlockCache,
        BufferSizes,
        Placed,
        buffer_sizes,
        final_sizes,
    )
    from papertrial.serving.retroinfer.cache import RetroCache, RetroLayer, RetroStats, attach
    from papertrial.serving.retroinfer.index import WaveIndex
    from papertrial.serving.retroinfer.sequence import RetroSequence
    from papertrial.serving.retroinfer.sizes import IndexSettings, IndexSizes, prompt_sizes, update_sizes
    from papertrial.serving.retroinfer.synthetic import SyntheticLayer, make_layer
    from papertrial.serving.retroinfer.wave_buffer import WaveBuffer

_MODULE_OF = {
    "Choice": "attention",
    "choose_clusters": "attention",
    "estimate_attention": "attention",
    "exact_attention": "attention",
    "tripartite_attention": "attention",
    "BestTokens": "baselines",
    "DenseStep": "baselines",
    "QuestPages": "baselines",
    "WaveStep": "baselines",
    "Access": "block_cache",
    "BlockCache": "block_cache",
    "BufferSizes": "block_cache",
    "Placed": "block_cache",
    "buffer_sizes": "block_cache",
    "final_sizes": "block_cache",
    "RetroCache": "cache",
    "RetroLayer": "cache",
    "RetroStats": "cache",
    "attach": "cache",
    "WaveIndex": "index",
    "RetroSequence": "sequence",
    "IndexSettings": "sizes",
    "IndexSizes": "sizes",
    "prompt_sizes": "sizes",
    "update_sizes": "sizes",
    "SyntheticLayer": "synthetic",
    "make_layer": "synthetic",
    "WaveBuffer": "wave_buffer",
}

__all__ = [
    "Access",
    "BestTokens",
    "BlockCache",
    "BufferSizes",
    "Choice",
    "DenseStep",
    "IndexSettings",
    "IndexSizes",
    "Placed",
    "QuestPages",
    "RetroCache",
    "RetroLayer",
    "RetroSequence",
    "RetroStats",
    "SyntheticLayer",
    "WaveBuffer",
    "WaveIndex",
    "WaveStep",
    "attach",
    "buffer_sizes",
    "choose_clusters",
    "estimate_attention",
    "exact_attention",
    "final_sizes",
    "make_layer",
    "prompt_sizes",
    "tripartite_attention",
    "update_sizes",
]

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
