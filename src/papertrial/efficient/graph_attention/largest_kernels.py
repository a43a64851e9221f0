"""Compiled CPU loops for the largest value among a token's neighbours, and for its gradient.

A batch and a head are one graph: `linked` (graphs, q, k) bool says who hears whom, `values` (graphs, k, width)
float32 what is said. Nothing of (q, k, width) is made: a row of the result stays in the nearest cache while its
neighbours pass by.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

from papertrial.threads import over_rows

_NOBODY = -1


@njit(nogil=True, cache=True, boundscheck=False)
@no_type_check
def _largest(linked, values, largest, places):
    """Fill `largest` (graphs, q, width) and `places`, the neighbours that it comes from; 0 and −1 of nobody."""
    _, queries, keys = linked.shape
    width = values.shape[2]
    for graph in range(linked.shape[0]):
        for query in range(queries):
            best, place = largest[graph, query], places[graph, query]
            best[:] = -np.inf
            place[:] = _NOBODY
            for key in range(keys):
                if not linked[graph, query, key]:
                    continue
                said = values[graph, key]
                # without branches, so that it is done in vectors; NaN wins, as in torch
                for c in range(width):
                    more = said[c] > best[c] or said[c] != said[c] or place[c] < 0
                    best[c] = said[c] if more else best[c]
                    place[c] = key if more else place[c]
            if width and place[0] < 0:
                best[:] = 0.0


@njit(nogil=True, cache=True, boundscheck=False)
@no_type_check
def _scatter(gradient, places, into):
    """Add every entry of `gradient` (graphs, q, width) to `into` (graphs, k, width) at its place."""
    for graph in range(gradient.shape[0]):
        for query in range(gradient.shape[1]):
            for c in range(gradient.shape[2]):
                if places[graph, query, c] >= 0:
                    into[graph, places[graph, query, c], c] += gradient[graph, query, c]


class LargestOfNeighbours(torch.autograd.Function):
    """The elementwise maximum over neighbours, float32 on the CPU; ties send their gradient to the earliest."""

    @staticmethod
    def forward(ctx: Any, linked: Tensor, values: Tensor) -> Tensor:
        """Return (graphs, q, width) from `linked` (graphs, q, k) and `values` (graphs, k, width)."""
        graphs, queries, keys = linked.shape
        width = values.shape[2]
        pairs, said = linked.contiguous().numpy(), values.detach().contiguous().numpy()
        largest = torch.empty(graphs, queries, width)
        places = torch.empty(graphs, queries, width, dtype=torch.int32)
        out, chosen = largest.numpy(), places.numpy()
        over_rows(
            lambda some: _largest(pairs[some], said[some], out[some], chosen[some]), (graphs, queries * keys)
        )
        ctx.save_for_backward(places)
        ctx.keys = keys
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        """Return the gradient of the values."""
        (places,) = ctx.saved_tensors
        graphs, queries, width = places.shape
        into = torch.zeros(graphs, ctx.keys, width)
        given, chosen, out = gradient.contiguous().numpy(), places.numpy(), into.numpy()
        over_rows(lambda some: _scatter(given[some], chosen[some], out[some]), (graphs, queries * width))
        return None, into
