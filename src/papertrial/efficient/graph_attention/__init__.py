"""Graph-aware attention (arXiv 2501.02393): GIN and PNA in its place, and the Sparse-GIN adapter beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.efficient.graph_attention.adapter import Adapter, attach_sparse_gin, load_sparse_gin
    from papertrial.efficient.graph_attention.adjacency import Processing
    from papertrial.efficient.graph_attention.gin_attention import GinAttention
    from papertrial.efficient.graph_attention.inspection import adjacency_edges
    from papertrial.efficient.graph_attention.neighbours import Neighbours
    from papertrial.efficient.graph_attention.pna_attention import PnaAttention
    from papertrial.efficient.graph_attention.settings import GinSettings, PnaSettings, SparseGinSettings
    from papertrial.efficient.graph_attention.swapping import Swap, use_graph_attention

_MODULE_OF = {
    "Adapter": "adapter",
    "adjacency_edges": "inspection",
    "attach_sparse_gin": "adapter",
    "load_sparse_gin": "adapter",
    "Processing": "adjacency",
    "GinAttention": "gin_attention",
    "Neighbours": "neighbours",
    "PnaAttention": "pna_attention",
    "GinSettings": "settings",
    "PnaSettings": "settings",
    "SparseGinSettings": "settings",
    "Swap": "swapping",
    "use_graph_attention": "swapping",
}

__all__ = [
    "Adapter",
    "GinAttention",
    "GinSettings",
    "Neighbours",
    "PnaAttention",
    "PnaSettings",
    "Processing",
    "SparseGinSettings",
    "Swap",
    "adjacency_edges",
    "attach_sparse_gin",
    "load_sparse_gin",
    "use_graph_attention",
]

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
