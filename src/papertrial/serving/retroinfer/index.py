"""The wave index: clusters of one layer's keys, keys and values laid out cluster by cluster."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.serving.caches import grown
from papertrial.serving.clustering import Clustering, cluster_keys, sum_by_cluster
from papertrial.serving.counters import StepBytes, token_bytes
from papertrial.serving.retroinfer.sizes import IndexSettings, IndexSizes


class WaveIndex:
    """Clusters over indexed tokens, for all key-value heads of one sequence in one layer.

    Keys must be as attention sees them: after the rotary embedding. That they are cannot be detected.

    Attributes:
        clusters: centroids held.
        tokens: tokens indexed.
        retrieved: clusters attended exactly at each step.
        estimated: clusters approximated at each step.
        keys, values: (heads, capacity, dim) tokens, cluster by cluster; the first `tokens` rows are filled.
    """

    def __init__(
        self,
        kv_heads: int,
        dim: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        in_host_memory: bool = False,
    ) -> None:
        """Make an empty index; `in_host_memory` keeps keys and values there, pinned if `device` is CUDA."""
        self.clusters = self.tokens = self.retrieved = self.estimated = 0
        self._centroids = torch.empty(kv_heads, 0, dim, dtype=dtype, device=device)
        self._value_sums = torch.empty_like(self._centroids)
        self._sizes = torch.empty(kv_heads, 0, dtype=torch.int32, device=device)
        self._starts = torch.empty_like(self._sizes)
        self._is_pinned = in_host_memory and device.type == "cuda"
        store = torch.device("cpu") if in_host_memory else device
        self.keys = torch.empty(kv_heads, 0, dim, dtype=dtype, device=store, pin_memory=self._is_pinned)
        self.values = torch.empty_like(self.keys, pin_memory=self._is_pinned)

    def add(
        self,
        keys: Float[Tensor, "heads tokens dim"],
        values: Float[Tensor, "heads tokens dim"],
        sizes: IndexSizes,
        settings: IndexSettings,
        assignment: Int[Tensor, "heads tokens"] | None = None,
    ) -> None:
        """Cluster tokens and append their clusters; what a step touches grows by `sizes`.

        `assignment` takes the place of clustering where the clusters are known (an index kept on disk); every
        cluster is then the mean of its keys.

        Raises:
            BadInputError: keys and values of other shapes than the index, or an assignment out of range.

        Source: arXiv 2505.02922; microsoft/RetrievalAttention, cache_hub/retroinfer_cache.py.
        """
        expected = (self.keys.shape[0], keys.shape[1], self.keys.shape[2])
        if tuple(keys.shape) != expected or tuple(values.shape) != expected:
            raise BadInputError(
                f"keys and values must be (kv heads, tokens, head_dim) = {expected} as in this index, "
                f"got {tuple(keys.shape)} and {tuple(values.shape)}"
            )
        if assignment is None:
            clustering = cluster_keys(keys, sizes.clusters, sizes.segments, settings.rounds, settings.reach)
        else:
            clustering = _known_clustering(keys, assignment, sizes.clusters)
        self._append(keys, values, clustering)
        self.retrieved += sizes.retrieved
        self.estimated += sizes.estimated if settings.mode == "retroinfer" else 0

    @property
    def centroids(self) -> Float[Tensor, "heads clusters dim"]:
        """Return the mean key of every cluster."""
        return self._centroids[:, : self.clusters]

    @property
    def value_sums(self) -> Float[Tensor, "heads clusters dim"]:
        """Return the summed values of every cluster."""
        return self._value_sums[:, : self.clusters]

    @property
    def sizes(self) -> Int[Tensor, "heads clusters"]:
        """Return the number of tokens in every cluster."""
        return self._sizes[:, : self.clusters]

    @property
    def starts(self) -> Int[Tensor, "heads clusters"]:
        """Return the row of `keys` and `values` at which every cluster begins; its rows are contiguous."""
        return self._starts[:, : self.clusters]

    def step_bytes(self, exact_tokens: int) -> StepBytes:
        """Return what one decode step reads, given the tokens attended exactly, summed over heads.

        Read for choosing: every centroid and size. For the estimate: the value sums of the estimated
        clusters; their centroids have been read. `exact_tokens` counts retrieved and steady tokens.
        """
        heads, _, dim = self.keys.shape
        element = self.keys.element_size()
        index = heads * self.clusters * (dim * element + self._sizes.element_size())
        return StepBytes(
            index, heads * self.estimated * dim * element, token_bytes(exact_tokens, dim, element)
        )

    def _append(self, keys: Tensor, values: Tensor, clustering: Clustering) -> None:
        added = clustering.sizes.shape[1]
        order = clustering.assignment.argsort(dim=1, stable=True).unsqueeze(2)
        value_sums, _ = sum_by_cluster(values, clustering.assignment, added)
        ends = clustering.sizes.cumsum(1)
        first, last = self.clusters, self.clusters + added
        self._centroids = grown(self._centroids, last)
        self._value_sums = grown(self._value_sums, last)
        self._sizes = grown(self._sizes, last, dim=-1)
        self._starts = grown(self._starts, last, dim=-1)
        self._centroids[:, first:last] = clustering.centroids
        self._value_sums[:, first:last] = value_sums.to(keys.dtype)
        self._sizes[:, first:last] = clustering.sizes
        self._starts[:, first:last] = ends - clustering.sizes + self.tokens
        end = self.tokens + keys.shape[1]
        self.keys = grown(self.keys, end, is_pinned=self._is_pinned)
        self.values = grown(self.values, end, is_pinned=self._is_pinned)
        for head in range(keys.shape[0]):
            rows = order[head, :, 0]
            self.keys[head, self.tokens : end].copy_(keys[head].index_select(0, rows))
            self.values[head, self.tokens : end].copy_(values[head].index_select(0, rows))
        self.clusters, self.tokens = last, end


def _known_clustering(keys: Tensor, assignment: Tensor, clusters: int) -> Clustering:
    low, high = int(assignment.min()), int(assignment.max())
    if assignment.shape != keys.shape[:2] or low < 0 or high >= clusters:
        raise BadInputError(
            f"assignment must be (kv heads, tokens) = {tuple(keys.shape[:2])} with clusters 0 to "
            f"{clusters - 1}, got {tuple(assignment.shape)} with {low} to {high}"
        )
    sums, sizes = sum_by_cluster(keys, assignment.long(), clusters)
    centroids = sums / sizes.clamp(min=1).unsqueeze(2)
    return Clustering(assignment.long(), centroids.to(keys.dtype), sizes)
