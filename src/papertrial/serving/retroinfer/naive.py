"""The mechanism written out token by token and head by head, in float64: what the fast paths are held to."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def naive_cluster_keys(
    keys: Float[Tensor, "heads tokens dim"], clusters: int, segments: int, rounds: int
) -> tuple[Int[Tensor, "heads tokens"], Float[Tensor, "heads clusters dim"]]:
    """Return each token's cluster and each cluster's centroid, as
    `papertrial.serving.clustering.cluster_keys`.

    Source: arXiv 2505.02922; microsoft/RetrievalAttention, cache_hub/kmeans.py.
    """
    found = [_cluster_one_head(head.double(), clusters, segments, rounds) for head in keys]
    return torch.stack([a for a, _ in found]), torch.stack([c for _, c in found])


def _cluster_one_head(keys: Tensor, clusters: int, segments: int, rounds: int) -> tuple[Tensor, Tensor]:
    tokens = len(keys)
    mean = keys.mean(0)
    centred = keys - mean
    starts = [int((i + 0.5) * tokens / clusters) for i in range(clusters)]
    centroids = [centred[start] for start in starts]
    length, own = tokens // segments, clusters // segments
    for _ in range(rounds - 1):
        moved = list(centroids)
        for segment in range(segments):
            range_of_centroids = range(segment * own, (segment + 1) * own)
            members: dict[int, list[Tensor]] = {c: [] for c in range_of_centroids}
            for token in range(segment * length, (segment + 1) * length):
                best = max(range_of_centroids, key=lambda c: (float(centred[token] @ centroids[c]), -c))
                members[best].append(centred[token])
            for c, rows in members.items():
                if rows:
                    average = torch.stack(rows).mean(0)
                    moved[c] = average / average.norm()
        centroids = moved
    assignment = [max(range(clusters), key=lambda c: (float(key @ centroids[c]), -c)) for key in centred]
    for c in range(clusters):
        rows = [centred[t] for t in range(tokens) if assignment[t] == c]
        if rows:
            centroids[c] = torch.stack(rows).mean(0)
    return torch.tensor(assignment), torch.stack(centroids) + mean


def naive_tripartite_attention(
    queries: Float[Tensor, "heads group dim"],
    keys: Float[Tensor, "heads tokens dim"],
    values: Float[Tensor, "heads tokens dim"],
    assignment: Int[Tensor, "heads tokens"],
    centroids: Float[Tensor, "heads clusters dim"],
    retrieved: int,
    estimated: int,
    steady_keys: Float[Tensor, "heads steady dim"],
    steady_values: Float[Tensor, "heads steady dim"],
    scale: float,
) -> Float[Tensor, "heads group dim"]:
    """Return what `attention.tripartite_attention` does, from the tokens and their clusters.

    Source: arXiv 2505.02922
    """
    out = torch.zeros(queries.shape, dtype=torch.float64)
    for h, head_queries in enumerate(queries.double()):
        ranked = rank_clusters(head_queries, centroids[h].double(), assignment[h], scale)
        for g, query in enumerate(head_queries):
            numerator, denominator = torch.zeros(queries.shape[2], dtype=torch.float64), 0.0
            for key, value in zip(steady_keys[h].double(), steady_values[h].double(), strict=True):
                weight = float(torch.exp(query @ key * scale))
                numerator, denominator = numerator + weight * value, denominator + weight
            for position, c in enumerate(ranked[: retrieved + estimated]):
                for t in (assignment[h] == c).nonzero()[:, 0].tolist():
                    stand_in = keys[h, t] if position < retrieved else centroids[h, c]
                    weight = float(torch.exp(query @ stand_in.double() * scale))
                    numerator = numerator + weight * values[h, t].double()
                    denominator += weight
            out[h, g] = numerator / denominator
    return out


def rank_clusters(
    queries: Float[Tensor, "group dim"],
    centroids: Float[Tensor, "clusters dim"],
    assignment: Int[Tensor, " tokens"],
    scale: float,
) -> list[int]:
    """Return all clusters of one head, best first; empty ones last; ties: the lower number first."""
    shares = [torch.softmax(centroids @ query * scale, 0) for query in queries]
    occupied = set(assignment.tolist())
    scores = [
        sum(float(share[c]) for share in shares) if c in occupied else float("-inf")
        for c in range(len(centroids))
    ]
    return sorted(range(len(centroids)), key=lambda c: (-scores[c], c))
