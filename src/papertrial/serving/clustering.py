"""Segmented spherical k-means of keys, all key-value heads at once.

Similar keys of a long text lie close together in it, so all rounds but the last cluster every segment by
itself, which divides their cost by the number of segments; the last round is global. Centroids are compared
by inner product, as attention compares keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papertrial.errors import BadInputError

# Scores of one chunk of tokens with all centroids: 64 MB in float32, whatever the context.
SCORES_PER_CHUNK = 1 << 24


@dataclass(frozen=True)
class Clustering:
    """Which cluster each token is in.

    Attributes:
        assignment: (heads, tokens) cluster of every token.
        centroids: (heads, clusters, dim) mean of the keys of each cluster, in the keys' own place (not
            centred).
            An empty cluster has the centroid of the round before.
        sizes: (heads, clusters) tokens in each cluster.
    """

    assignment: Int[Tensor, "heads tokens"]
    centroids: Float[Tensor, "heads clusters dim"]
    sizes: Int[Tensor, "heads clusters"]


def cluster_keys(
    keys: Float[Tensor, "heads tokens dim"],
    clusters: int,
    segments: int = 1,
    rounds: int = 10,
    reach: int | None = None,
) -> Clustering:
    """Cluster keys in `rounds` rounds: all but the last in segments and on the unit sphere, the last global.

    Keys are centred on their mean over tokens first. Centroid i starts at the centred key floor(i n/C +
    n/2C).
    In a segment round every key goes to the centroid of its own segment with the largest inner product
    (lowest index on a tie), and a centroid becomes the mean of its keys divided by its length; the n mod
    `segments` last tokens take no part. In the last round every key goes to the best of *all* centroids, and
    centroids become plain means: that is what makes the estimate of `papertrial.serving.retroinfer` a bound.
    A cluster without keys keeps its centroid.

    With `reach`, a key may in the last round join only the clusters of its own segment and of as many to
    either side (the last segment takes the tail): the one step whose cost grows with the square of the text
    then grows with the text. That is ours; the released code, and None, let it join any.

    Raises:
        BadInputError: more clusters than keys, clusters no multiple of segments, no round, or a reach below 0.

    Source: arXiv 2505.02922 (segmented clustering); microsoft/RetrievalAttention, cache_hub/kmeans.py, for
    the start, the number of rounds and the global last one.
    """
    _heads, tokens, _ = keys.shape
    if not 1 <= clusters <= tokens:
        raise BadInputError(f"clusters must be between 1 and the {tokens} keys, got {clusters}")
    if segments < 1 or clusters % segments:
        raise BadInputError(f"clusters must be a multiple of segments, got {clusters} and {segments}")
    if rounds < 1:
        raise BadInputError(f"rounds must be at least 1, got {rounds}")
    if reach is not None and reach < 0:
        raise BadInputError(f"reach must be None or at least 0 segments, got {reach}")
    mean = keys.float().mean(1, keepdim=True)
    centred = keys.float() - mean
    centroids = centred[:, starting_tokens(tokens, clusters, keys.device)]
    for _ in range(rounds - 1):
        centroids = segment_round(centred, centroids, segments)
    assignment = _last_assignment(centred, centroids, segments, reach)
    sums, sizes = sum_by_cluster(centred, assignment, clusters)
    centroids = torch.where(sizes.unsqueeze(2) > 0, sums / sizes.clamp(min=1).unsqueeze(2), centroids)
    return Clustering(assignment, (centroids + mean).to(keys.dtype), sizes)


def _last_assignment(
    centred: Float[Tensor, "heads tokens dim"],
    centroids: Float[Tensor, "heads clusters dim"],
    segments: int,
    reach: int | None,
) -> Int[Tensor, "heads tokens"]:
    """Return the cluster of every key, chosen among those that `reach` allows."""
    if reach is None or reach >= segments - 1:
        return nearest(centred, centroids)
    tokens, own = centred.shape[1], centroids.shape[1] // segments
    length = tokens // segments
    parts = []
    for segment in range(segments):
        stop = tokens if segment == segments - 1 else (segment + 1) * length
        first, last = max(0, segment - reach), min(segments, segment + reach + 1)
        within = nearest(centred[:, segment * length : stop], centroids[:, first * own : last * own])
        parts.append(within + first * own)
    return torch.cat(parts, dim=1)


def starting_tokens(tokens: int, clusters: int, device: torch.device) -> Int[Tensor, " clusters"]:
    """Return the token at which each centroid starts, floor(i n/C + n/2C), in exact integers."""
    place = torch.arange(clusters, device=device)
    return (2 * place + 1) * tokens // (2 * clusters)


def segment_round(
    centred: Float[Tensor, "heads tokens dim"], centroids: Float[Tensor, "heads clusters dim"], segments: int
) -> Float[Tensor, "heads clusters dim"]:
    """Return the unit-length centroids after one round inside each segment; empty clusters keep theirs."""
    heads, tokens, dim = centred.shape
    length, clusters = tokens // segments, centroids.shape[1]
    parts = centred[:, : length * segments].reshape(heads * segments, length, dim)
    own = centroids.reshape(heads * segments, clusters // segments, dim)
    sums, sizes = sum_by_cluster(parts, nearest(parts, own), clusters // segments)
    # The mean over its length is the sum over its length: the size cancels.
    moved = torch.nn.functional.normalize(sums, dim=2)
    return torch.where(sizes.unsqueeze(2) > 0, moved, own).reshape(heads, clusters, dim)


def nearest(
    points: Float[Tensor, "heads tokens dim"], centroids: Float[Tensor, "heads clusters dim"]
) -> Int[Tensor, "heads tokens"]:
    """Return the centroid with the largest inner product for every point, the lowest index on a tie.

    Points are taken in chunks, so that (tokens, clusters) is never held as a whole.
    """
    heads, tokens, _ = points.shape
    clusters = centroids.shape[1]
    chunk = max(1, SCORES_PER_CHUNK // clusters)
    assignment = torch.empty(heads, tokens, dtype=torch.long, device=points.device)
    scores = points.new_empty(min(chunk, tokens), clusters)
    for head in range(heads):
        across = centroids[head].T
        for start in range(0, tokens, chunk):
            stop = min(start + chunk, tokens)
            part = scores[: stop - start]
            torch.mm(points[head, start:stop], across, out=part)
            assignment[head, start:stop] = part.argmax(1)
    return assignment


def sum_by_cluster(
    rows: Float[Tensor, "heads tokens dim"], assignment: Int[Tensor, "heads tokens"], clusters: int
) -> tuple[Float[Tensor, "heads clusters dim"], Int[Tensor, "heads clusters"]]:
    """Return the sum of the rows and the number of rows in each cluster, summed in float32."""
    heads, tokens, dim = rows.shape
    start = torch.arange(heads, device=rows.device).mul_(clusters).unsqueeze(1)
    flat = (assignment + start).reshape(-1)
    sums = torch.zeros(heads * clusters, dim, device=rows.device)
    sums.index_add_(0, flat, rows.reshape(heads * tokens, dim).float())
    sizes = torch.bincount(flat, minlength=heads * clusters)
    return sums.view(heads, clusters, dim), sizes.view(heads, clusters)
