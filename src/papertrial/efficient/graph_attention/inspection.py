"""The graphs that a model makes of a text, as lists of edges."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from papertrial.efficient.graph_attention.adapter import Adapter, hook_of
from papertrial.efficient.graph_attention.neighbours import Neighbours
from papertrial.efficient.graph_attention.swapping import Swap

Edge = dict[str, int | float]


def adjacency_edges(attached: Adapter | Swap, input_ids: Tensor, **inputs: Any) -> list[Edge]:
    """Return every edge of every layer's graph on a text, as rows of layer, sequence, head, into, from, weight.

    The graph is the one that messages travel on: of the adapter, or the adjacency that the attention modules
    return. A Sparse-GIN graph is one for all heads; its head is -1. The model runs once, in evaluation mode.

    Args:
        attached: what `attach_sparse_gin` or `use_graph_attention` returned.
        input_ids: (batch, tokens).
        inputs: what else the model is to be called with (`attention_mask`).
    """
    model, was_training = attached.model, attached.model.training
    graphs: list[Tensor] = []
    handles = []
    if isinstance(attached, Swap):
        handles = [
            module.register_forward_hook(lambda _, args, output: graphs.append(_whole(output[1])))
            for module in attached.modules
        ]
    model.eval()
    try:
        with torch.no_grad():
            model(input_ids=input_ids, use_cache=False, **inputs)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    if isinstance(attached, Adapter):
        graphs = [hook_of(network).last_graph.unsqueeze(1) for network in attached.networks]
    shared = isinstance(attached, Adapter)
    return [edge for layer, graph in enumerate(graphs) for edge in _edges(layer, graph, shared)]


def off_diagonal_share(edges: list[Edge]) -> float:
    """Return the share of edges that lead from another token; 0 where there is no edge at all."""
    return sum(edge["into"] != edge["from"] for edge in edges) / max(1, len(edges))


def _whole(graph: Tensor | Neighbours) -> Tensor:
    return graph.to_dense() if isinstance(graph, Neighbours) else graph


def _edges(layer: int, graph: Tensor, shared: bool) -> list[Edge]:
    return [
        {
            "layer": layer,
            "sequence": sequence,
            "head": -1 if shared else head,
            "into": into,
            "from": source,
            "weight": float(graph[sequence, head, into, source]),
        }
        for sequence, head, into, source in graph.nonzero().tolist()
    ]
