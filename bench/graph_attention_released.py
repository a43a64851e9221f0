"""The second halves of the released layers, in the manner of Attention_GNN.py and graph_neural_network.py.

Used by graph_attention.py. Weights are copied from ours, so that both compute the same numbers. Two slips are put
right, because a layer that does less is no contestant: the PNA maximum is taken over neighbours (the released code
expands the values along the wrong axis, which costs the same), and Sparse-GIN's edges point into the token that hears
(the released filter drops every edge between two tokens).
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn

from papertrial.efficient.graph_attention.networks import HeadwiseLinear
from papertrial.efficient.graph_attention.sparse_gin import SparseGin

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.data import Batch, Data
    from torch_geometric.nn import MessagePassing


def linear_of_head(source: HeadwiseLinear, head: int) -> nn.Linear:
    """Return one head's map as a layer of its own."""
    outputs, inputs = source.weight.shape[1:]
    linear = nn.Linear(inputs, outputs, bias=source.bias is not None)
    with torch.no_grad():
        linear.weight.copy_(source.weight[head])
        if source.bias is not None:
            linear.bias.copy_(source.bias[head])
    return linear


class LoopedGin(nn.Module):
    """One GIN layer after the other, each with an `nn.Sequential`; heads are stacked at the end."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.own_weight = ours.own_weight
        self.heads = nn.ModuleList()
        for head in range(ours.heads):
            up, down = (linear_of_head(part, head) for part in (ours.network.up, ours.network.down))
            norm = nn.RMSNorm(up.out_features, eps=ours.network.norm.eps)
            with torch.no_grad():
                norm.weight.copy_(ours.network.norm.weight[head, 0])
            self.heads.append(nn.Sequential(up, nn.Dropout(0.0), norm, nn.SiLU(), down))

    def forward(self, adjacency: Tensor, features: Tensor) -> Tensor:
        """Return (batch, tokens, hidden)."""
        outputs = []
        for head, network in enumerate(self.heads):
            A, X = adjacency[:, head], features[:, head]
            outputs.append(network(self.own_weight[head] * X + torch.matmul(A, X)).unsqueeze(1))
        joined = torch.cat(outputs, dim=1).transpose(1, 2).contiguous()
        return joined.reshape(*joined.shape[:2], -1)


class LoopedPna(nn.Module):
    """Head after head: products, a copy of the expanded values for the maximum, one more for a minimum, an MLP.

    The released forward pass makes that minimum and does not use it ("currently not used"); `minimum` False
    leaves it out.
    """

    def __init__(self, ours: nn.Module, minimum: bool) -> None:
        super().__init__()
        self.minimum = minimum
        self.heads = nn.ModuleList(
            nn.Sequential(
                linear_of_head(ours.network.up, head), nn.SiLU(), linear_of_head(ours.network.down, head)
            )
            for head in range(ours.heads)
        )

    def forward(self, adjacency: Tensor, values: Tensor) -> Tensor:
        """Return (batch, tokens, hidden)."""
        degrees = adjacency.sum(dim=-1)
        degrees = torch.where(degrees == 0, torch.ones_like(degrees), degrees)
        outputs = []
        for head, network in enumerate(self.heads):
            A, X, degree = adjacency[:, head], values[:, head], degrees[:, head].unsqueeze(-1)
            total = torch.matmul(A, X)
            mean = total / degree
            expanded = X.unsqueeze(1).expand(-1, X.size(1), -1, -1)
            valid = (A > 0).unsqueeze(-1).expand(-1, -1, -1, X.size(-1))
            largest = self._extreme(expanded, valid, -math.inf)
            if self.minimum:
                self._extreme(expanded, valid, math.inf)
            variance = torch.clamp(torch.matmul(A, X**2) / degree - mean**2, min=0.0)
            outputs.append(network(torch.cat([total, mean, largest, variance], dim=-1)).unsqueeze(1))
        joined = torch.cat(outputs, dim=1).transpose(1, 2).contiguous()
        return joined.view(*joined.shape[:2], -1)

    @staticmethod
    def _extreme(expanded: Tensor, valid: Tensor, filler: float) -> Tensor:
        masked = expanded.clone()
        masked[~valid] = filler
        found = (torch.max if filler < 0 else torch.min)(masked, dim=2).values
        return torch.where(
            found.isinf(), torch.zeros_like(found), found
        )  # NaN comes of it in the released code


class _Messages(MessagePassing):
    def __init__(self) -> None:
        super().__init__(aggr="add")

    def forward(self, x: Tensor, edges: Tensor, weights: Tensor, batch: Tensor) -> Tensor:
        source, into = edges
        kept = (source <= into) & (batch[source] == batch[into])
        return self.propagate(edges[:, kept], x=x, edge_weight=weights[kept])

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        return edge_weight.view(-1, 1) * x_j


class ListedSparseGin(nn.Module):
    """The adapter by torch_geometric: a `Data` for every text, one `Batch` of them, `MessagePassing` over edges."""

    def __init__(self, ours: SparseGin) -> None:
        super().__init__()
        self.ours = ours
        self.messages = _Messages()

    def lists(self, features: Tensor, graph: Tensor) -> Batch:
        """Return the batch of graphs, the texts' tokens one after the other."""
        texts = []
        for x, weights in zip(features, graph, strict=True):
            into, source = weights.nonzero(as_tuple=False).t()
            texts.append(Data(x=x, edge_index=torch.stack([source, into]), edge_weight=weights[into, source]))
        return Batch.from_data_list(texts)

    def heard(self, x: Tensor, batch: Batch, own_weight: Tensor) -> Tensor:
        """Return what every token of the batch hears, and itself."""
        return own_weight * x + self.messages(x, batch.edge_index, batch.edge_weight, batch.batch)

    def graph_part(self, features: Tensor, graph: Tensor) -> Tensor:
        """Return (batch, tokens, r): lists and messages alone, from features that are projected already."""
        batch = self.lists(features, graph)
        return self.heard(batch.x, batch, self.ours.rounds[0].own_weight).view_as(features)

    def forward(self, hidden: Tensor, graph: Tensor) -> Tensor:
        """Return what is added to `hidden`."""
        ours, batch = self.ours, self.lists(hidden, graph)
        x = ours.input_projection(batch.x)
        for one in ours.rounds:
            heard = self.heard(x, batch, one.own_weight)
            x = ours.activation(one.down(ours.activation(one.up(heard))) + heard)
        texts = ours.output_projection(x).split(batch.batch.bincount().tolist(), dim=0)
        return ours.scale * ours.norm(torch.stack(texts, dim=0))
