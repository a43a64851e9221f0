"""Ways to attend in one decode step: dense, by wave index, by pages, by the best tokens."""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from papertrial.errors import BadInputError
from papertrial.serving.counters import StepBytes, dense_step_bytes, token_bytes
from papertrial.serving.gathering import gather_blocks, gather_rows
from papertrial.serving.retroinfer.attention import attend_all, choose_clusters, retrieved_tokens
from papertrial.serving.retroinfer.index import WaveIndex
from papertrial.serving.retroinfer.sequence import RetroSequence
from papertrial.serving.retroinfer.sizes import IndexSettings

Zones = tuple[Bool[Tensor, "heads tokens"], Bool[Tensor, "heads tokens"]]


@runtime_checkable
class DecodeStep(Protocol):
    """One layer's keys and values, and a way to attend over them."""

    build_seconds: float

    def attend(
        self, queries: Float[Tensor, "heads group dim"], scale: float
    ) -> Float[Tensor, "heads group dim"]:
        """Attend in one decode step."""

    def zones(self, queries: Float[Tensor, "heads group dim"], scale: float) -> Zones:
        """Return which tokens such a step attends exactly, and which through an estimate."""

    def step_bytes(self, queries: Float[Tensor, "heads group dim"], scale: float) -> StepBytes:
        """Return what such a step reads."""


class DenseStep:
    """All tokens, each key and value read once: by the compiled loop, or by torch's fused attention."""

    build_seconds = 0.0

    def __init__(
        self,
        keys: Float[Tensor, "heads tokens dim"],
        values: Float[Tensor, "heads tokens dim"],
        is_compiled: bool = True,
    ) -> None:
        self.keys, self.values, self.is_compiled = keys, values, is_compiled

    def attend(
        self, queries: Float[Tensor, "heads group dim"], scale: float
    ) -> Float[Tensor, "heads group dim"]:
        """Attend exactly over all tokens."""
        if self.is_compiled:
            return attend_all(queries, self.keys, self.values, scale)
        return scaled_dot_product_attention(queries[None], self.keys[None], self.values[None], scale=scale)[0]

    def zones(self, queries: Float[Tensor, "heads group dim"], scale: float) -> Zones:
        """Return that all tokens are exact."""
        exact = torch.ones(self.keys.shape[:2], dtype=torch.bool)
        return exact, ~exact

    def step_bytes(self, queries: Float[Tensor, "heads group dim"], scale: float) -> StepBytes:
        """Return all keys and values."""
        heads, tokens, dim = self.keys.shape
        return dense_step_bytes(tokens, heads, dim, self.keys.element_size())


class WaveStep:
    """A wave index of a prompt, its clusters given, and the steady zone beside it."""

    def __init__(
        self,
        keys: Float[Tensor, "heads tokens dim"],
        values: Float[Tensor, "heads tokens dim"],
        settings: IndexSettings,
        assignment: Int[Tensor, "heads indexed"],
        build_seconds: float,
    ) -> None:
        self.sequence = RetroSequence(keys, values, settings, assignment)
        self.assignment, self.build_seconds = assignment.long(), build_seconds

    def attend(
        self, queries: Float[Tensor, "heads group dim"], scale: float
    ) -> Float[Tensor, "heads group dim"]:
        """Attend by the index."""
        return self.sequence.attend(queries, scale)

    def zones(self, queries: Float[Tensor, "heads group dim"], scale: float) -> Zones:
        """Return the tokens of the steady zone and of retrieved clusters, and those of estimated clusters."""
        index, settings = self.index, self.sequence.settings
        choice = choose_clusters(index, queries, scale)
        exact = torch.ones(queries.shape[0], self.sequence.tokens, dtype=torch.bool)
        estimated = ~exact
        middle = slice(settings.sink, self.sequence.tokens - settings.window)
        for zone, clusters in ((exact, choice.retrieved), (estimated, choice.estimated)):
            is_chosen = torch.zeros(queries.shape[0], index.clusters, dtype=torch.bool).scatter_(
                1, clusters, True
            )
            zone[:, middle] = is_chosen.gather(1, self.assignment)
        return exact, estimated

    def step_bytes(self, queries: Float[Tensor, "heads group dim"], scale: float) -> StepBytes:
        """Return centroids and sizes, value sums of estimated clusters, keys and values of the exact zone."""
        retrieved = retrieved_tokens(self.index, choose_clusters(self.index, queries, scale))
        return self.index.step_bytes(retrieved + queries.shape[0] * self.sequence.steady)

    @property
    def index(self) -> WaveIndex:
        """Return the index."""
        assert self.sequence.index is not None, "the prompt is long enough for an index"
        return self.sequence.index


class QuestPages:
    """Pages of neighbouring tokens, chosen by an upper bound of their scores.

    A page keeps the lowest and highest entry of its keys in every dimension; max(q*low, q*high), summed,
    bounds any of its tokens' products with q. Heads of a group share pages, ranked by the summed bounds.
    Tokens after the last whole page are attended exactly.

    Args:
        keys: (kv heads, tokens, dim), held as they are.
        values: the same.
        budget: tokens to attend exactly at each step, rounded up to whole pages.
        page: tokens in a page.

    Source: arXiv 2406.10774 (Quest).
    """

    def __init__(
        self,
        keys: Float[Tensor, "heads tokens dim"],
        values: Float[Tensor, "heads tokens dim"],
        budget: int,
        page: int = 16,
    ) -> None:
        heads, tokens, dim = keys.shape
        if not 1 <= page <= tokens or budget < 1:
            raise BadInputError(f"pages of {page} tokens and a budget of {budget} do not fit {tokens} tokens")
        start = time.perf_counter()
        self.page, pages = page, tokens // page
        self.chosen = min(-(-budget // page), pages)
        self.whole = pages * page
        self.keys, self.values = keys, values
        paged = keys[:, : self.whole].reshape(heads, pages, page, dim)
        # One product with [max(q, 0), min(q, 0)] is the sum of max(q*low, q*high).
        self.bounds = torch.cat([paged.amax(2), paged.amin(2)], dim=2)
        self.paged_keys = keys[:, : self.whole].contiguous()
        self.paged_values = values[:, : self.whole].contiguous()
        self.build_seconds = time.perf_counter() - start

    def choose(self, queries: Float[Tensor, "heads group dim"]) -> Int[Tensor, "heads chosen"]:
        """Return the pages with the highest bounds, in no order."""
        split = torch.cat([queries.clamp(min=0), queries.clamp(max=0)], dim=2)
        bounds = torch.bmm(split, self.bounds.transpose(1, 2)).sum(1)
        return bounds.topk(self.chosen, dim=1, sorted=False).indices

    def attend(
        self, queries: Float[Tensor, "heads group dim"], scale: float
    ) -> Float[Tensor, "heads group dim"]:
        """Attend exactly over the chosen pages and the tokens after the last whole one."""
        pages = self.choose(queries)
        keys = gather_blocks(self.paged_keys, pages, self.page)
        values = gather_blocks(self.paged_values, pages, self.page)
        if self.whole < self.keys.shape[1]:
            keys = torch.cat([keys, self.keys[:, self.whole :]], dim=1)
            values = torch.cat([values, self.values[:, self.whole :]], dim=1)
        return attend_all(queries, keys, values, scale)

    def zones(self, queries: Float[Tensor, "heads group dim"], scale: float) -> Zones:
        """Return the tokens of the chosen pages; nothing is estimated."""
        exact = torch.ones(self.keys.shape[:2], dtype=torch.bool)
        pages = torch.zeros(exact.shape[0], self.whole // self.page, dtype=torch.bool)
        exact[:, : self.whole] = pages.scatter_(1, self.choose(queries), True).repeat_interleave(
            self.page, dim=1
        )
        return exact, torch.zeros_like(exact)

    def step_bytes(self, queries: Float[Tensor, "heads group dim"], scale: float) -> StepBytes:
        """Return the bounds of all pages, the keys and values of the chosen ones."""
        heads, tokens, dim = self.keys.shape
        element = self.keys.element_size()
        exact = heads * token_bytes(self.chosen * self.page + tokens - self.whole, dim, element)
        return StepBytes(index=self.bounds.numel() * element, exact=exact)


class BestTokens:
    """The tokens with the most attention, summed over a group's heads: no choice of tokens can beat them.

    It reads every key to find them, so it is no way to save time.
    """

    build_seconds = 0.0

    def __init__(
        self, keys: Float[Tensor, "heads tokens dim"], values: Float[Tensor, "heads tokens dim"], budget: int
    ) -> None:
        self.keys, self.values = keys, values
        self.budget = min(budget, keys.shape[1])

    def choose(self, queries: Float[Tensor, "heads group dim"], scale: float) -> Int[Tensor, "heads chosen"]:
        """Return the tokens to attend, in no order."""
        shares = torch.bmm(queries, self.keys.transpose(1, 2)).mul_(scale).softmax(-1).sum(1)
        return shares.topk(self.budget, dim=1, sorted=False).indices

    def attend(
        self, queries: Float[Tensor, "heads group dim"], scale: float
    ) -> Float[Tensor, "heads group dim"]:
        """Attend exactly over the best tokens."""
        tokens = self.choose(queries, scale)
        return attend_all(queries, gather_rows(self.keys, tokens), gather_rows(self.values, tokens), scale)

    def zones(self, queries: Float[Tensor, "heads group dim"], scale: float) -> Zones:
        """Return the best tokens; nothing is estimated."""
        exact = torch.zeros(self.keys.shape[:2], dtype=torch.bool)
        return exact.scatter_(1, self.choose(queries, scale), True), torch.zeros_like(exact)

    def step_bytes(self, queries: Float[Tensor, "heads group dim"], scale: float) -> StepBytes:
        """Return all keys, then the keys and values of the chosen tokens."""
        heads, tokens, dim = self.keys.shape
        element = self.keys.element_size()
        everything = dense_step_bytes(tokens, heads, dim, element).total // 2
        return StepBytes(index=everything, exact=heads * token_bytes(self.budget, dim, element))
