"""Efficient training and inference: optimisers, quantisation, vocabularies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.efficient.apollo import Apollo, param_groups
    from papertrial.efficient.bitnet_v2 import use_bitnet, use_packed
    from papertrial.efficient.exaone_3_5 import Decontaminator, extend_context, run_stages
    from papertrial.efficient.graph_attention import adjacency_edges, attach_sparse_gin, use_graph_attention
    from papertrial.efficient.hadamard import hadamard_transform
    from papertrial.efficient.layers import replace_linears
    from papertrial.efficient.qwen3_quantization import (
        QuantizationSettings,
        load_quantized,
        quantize_model,
        save_quantized,
    )
    from papertrial.efficient.vocabulary_adaptation import adapt_vocabulary

_MODULE_OF = {
    "Apollo": "apollo",
    "param_groups": "apollo",
    "use_bitnet": "bitnet_v2",
    "use_packed": "bitnet_v2",
    "Decontaminator": "exaone_3_5",
    "extend_context": "exaone_3_5",
    "run_stages": "exaone_3_5",
    "adjacency_edges": "graph_attention",
    "attach_sparse_gin": "graph_attention",
    "use_graph_attention": "graph_attention",
    "hadamard_transform": "hadamard",
    "replace_linears": "layers",
    "QuantizationSettings": "qwen3_quantization",
    "load_quantized": "qwen3_quantization",
    "quantize_model": "qwen3_quantization",
    "save_quantized": "qwen3_quantization",
    "adapt_vocabulary": "vocabulary_adaptation",
}

__all__ = [
    "Apollo",
    "Decontaminator",
    "QuantizationSettings",
    "adapt_vocabulary",
    "adjacency_edges",
    "attach_sparse_gin",
    "extend_context",
    "hadamard_transform",
    "load_quantized",
    "param_groups",
    "quantize_model",
    "replace_linears",
    "run_stages",
    "save_quantized",
    "use_bitnet",
    "use_graph_attention",
    "use_packed",
]

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
