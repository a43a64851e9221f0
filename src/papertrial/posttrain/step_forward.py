"""Running a decoder over many solutions at once, and reading it only where a step is scored.

Three savings over one forward pass a solution, none of which changes a score:

- outputs are computed at the places that are read, never for the whole text;
- solutions are batched by the number of tokens, those of like length together;
- solutions of the same question share the keys and values of their common beginning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from papertrial.errors import BadInputError
from papertrial.posttrain.step_reading import Reading

_PROBE_LENGTH = 6


@dataclass(frozen=True)
class Batch:
    """Solutions that are run together.

    Attributes:
        members: their places in the list of readings.
        prefixes: for each member, how many of its first tokens are run once for its whole group; all 0
            where nothing is shared.
        groups: for each member, which of the batch's shared beginnings is its own.
    """

    members: tuple[int, ...]
    prefixes: tuple[int, ...]
    groups: tuple[int, ...]


class StepForward:
    """A decoder and the head that reads it.

    Args:
        backbone: a decoder without head (`Qwen2Model`), in evaluation mode.
        head: makes outputs of hidden states, (places, dim) → (places, outputs).
        tokens_per_batch: the largest number of tokens, padding included, in one forward pass.
        share_prefix: whether solutions of the same question share their common beginning.

    Raises:
        BadInputError: a budget below 1; with `share_prefix`, a decoder that does not reproduce its own
            outputs from a cache (not causal, or attention in a window shorter than a solution).
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        head: Callable[[Tensor], Tensor],
        *,
        tokens_per_batch: int = 8192,
        share_prefix: bool = True,
    ) -> None:
        if tokens_per_batch < 1:
            raise BadInputError(f"tokens_per_batch must be at least 1, got {tokens_per_batch}")
        self.backbone = backbone.eval()
        self.head = head
        self.tokens_per_batch = tokens_per_batch
        self.share_prefix = share_prefix
        self.device = next(backbone.parameters()).device
        if share_prefix:
            self._check_cache()

    def __call__(
        self,
        readings: Sequence[Reading],
        groups: Sequence[Hashable],
        on_done: Callable[[int], None] | None = None,
    ) -> list[Float[Tensor, "places outputs"]]:
        """Return the head's outputs at every place that is read, float32 on the CPU, in the order given.

        Args:
            readings: solutions as token ids.
            groups: for each, what names its question; equal names may share a beginning.
            on_done: told how many solutions are done.
        """
        outputs: list[Tensor | None] = [None] * len(readings)
        done = 0
        for batch in plan_batches(readings, groups if self.share_prefix else None, self.tokens_per_batch):
            for member, values in zip(batch.members, self._run(batch, readings), strict=True):
                outputs[member] = values
            done += len(batch.members)
            if on_done is not None:
                on_done(done)
        return [values for values in outputs if values is not None]

    @torch.inference_mode()
    def _run(self, batch: Batch, readings: Sequence[Reading]) -> list[Tensor]:
        rows = [readings[member] for member in batch.members]
        if any(batch.prefixes):
            hidden = self._run_shared(batch, rows)
        else:
            ids, mask = _padded([row.ids for row in rows], self.device)
            hidden = self.backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        counts = [len(row.read_at) for row in rows]
        row_of = [at for at, count in enumerate(counts) for _ in range(count)]
        places = [
            place - prefix for row, prefix in zip(rows, batch.prefixes, strict=True) for place in row.read_at
        ]
        outputs: Tensor = self.head(hidden[row_of, places]).float().cpu()
        return list(outputs.split(counts))

    def _run_shared(self, batch: Batch, rows: Sequence[Reading]) -> Tensor:
        """Run each shared beginning once, then the rest of every solution on top of its own."""
        firsts = [batch.groups.index(group) for group in range(max(batch.groups) + 1)]
        shared, shared_mask = _padded([rows[at].ids[: batch.prefixes[at]] for at in firsts], self.device)
        cache = DynamicCache(config=self.backbone.config)
        self.backbone(input_ids=shared, attention_mask=shared_mask, past_key_values=cache, use_cache=True)
        owner = torch.tensor(batch.groups, device=self.device)
        cache.batch_select_indices(owner)
        rest = [row.ids[prefix:] for row, prefix in zip(rows, batch.prefixes, strict=True)]
        ids, mask = _padded(rest, self.device)
        self._check_window(shared.shape[1] + ids.shape[1])
        # Positions go on from each solution's own beginning, whatever padding lies between in the cache.
        starts = torch.tensor(batch.prefixes, device=self.device)
        positions = starts[:, None] + torch.arange(ids.shape[1], device=self.device)
        hidden: Tensor = self.backbone(
            input_ids=ids,
            attention_mask=torch.cat([shared_mask[owner], mask], dim=1),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return hidden

    def _check_window(self, length: int) -> None:
        """Raise where a window of attention, counted in the cache with its padding, would cut a solution."""
        config: Any = self.backbone.config
        window = getattr(config, "sliding_window", None)
        # Qwen2 states a window and switches it off with `use_sliding_window`; Mistral has no such switch.
        if window is not None and getattr(config, "use_sliding_window", True) and length > window:
            raise BadInputError(
                f"attention reaches back {window} tokens, and {length} are needed to share beginnings; "
                "set share_prefix=False"
            )

    def _check_cache(self) -> None:
        """Run a few tokens with and without a shared beginning: a wrong cache must not give wrong scores."""
        ids = tuple(at % vocabulary_size(self.backbone) for at in range(_PROBE_LENGTH))
        last = _PROBE_LENGTH - 1
        readings = [
            Reading(ids[:-1], (last - 1,), (0,)),
            Reading(ids, (last,), (0,)),
            Reading(ids, (last - 1,), (0,)),
            Reading((*ids[:-1], ids[0]), (last - 1,), (0,)),
        ]
        plain = torch.cat(self._run(Batch((0, 1, 2, 3), (0,) * 4, (0,) * 4), readings))
        # What a decoder says of a token is the same to the bit, whatever comes later.
        if not torch.equal(plain[2], plain[3]):
            raise _no_cache(self.backbone, "it sees ahead")
        try:
            shared = torch.cat(self._run(Batch((0, 1), (3, 2), (0, 1)), readings))
        except (TypeError, AttributeError, ValueError) as problem:
            raise _no_cache(self.backbone, str(problem)) from problem
        # Half precision rounds the two ways differently; a wrong mask or position is off by far more.
        if not torch.allclose(plain[:2], shared, rtol=0.05, atol=0.05 * float(plain.abs().max())):
            raise _no_cache(self.backbone, "its outputs change when a beginning comes from the cache")


def plan_batches(
    readings: Sequence[Reading], groups: Sequence[Hashable] | None, tokens_per_batch: int
) -> Iterator[Batch]:
    """Yield batches within a budget of tokens: groups with a common beginning first, then all others.

    Within a batch lengths are alike. A solution longer than the budget gets a batch of its own. What comes
    from the cache counts towards the budget, as it takes its memory.

    Args:
        readings: solutions as token ids.
        groups: for each, what names its question; None shares nothing.
        tokens_per_batch: padding included.
    """
    shared: dict[int, tuple[int, int]] = {}  # member: (group number, length of the shared beginning)
    if groups is not None:
        by_group: dict[Hashable, list[int]] = defaultdict(list)
        for member, group in enumerate(groups):
            by_group[group].append(member)
        for number, members in enumerate(by_group.values()):
            length = _common_length([readings[member] for member in members]) if len(members) > 1 else 0
            shared.update({member: (number, length) for member in members if length})
    longest: dict[int, int] = defaultdict(int)
    for member, (number, _) in shared.items():
        longest[number] = max(longest[number], len(readings[member].ids))
    order = sorted(shared, key=lambda member: (longest[shared[member][0]], *shared[member]))
    yield from _filled(order, readings, shared, tokens_per_batch)
    rest = [member for member in range(len(readings)) if member not in shared]
    rest.sort(key=lambda member: len(readings[member].ids))
    yield from _filled(rest, readings, {}, tokens_per_batch)


def _filled(
    order: Sequence[int], readings: Sequence[Reading], shared: dict[int, tuple[int, int]], budget: int
) -> Iterator[Batch]:
    members: list[int] = []
    longest = 0
    for member in order:
        longest = max(longest, len(readings[member].ids))
        if members and (len(members) + 1) * longest > budget:
            yield _batch(members, shared)
            members, longest = [], len(readings[member].ids)
        members.append(member)
    if members:
        yield _batch(members, shared)


def _batch(members: Sequence[int], shared: dict[int, tuple[int, int]]) -> Batch:
    numbers: dict[int, int] = {}
    groups = [numbers.setdefault(shared[member][0], len(numbers)) if shared else 0 for member in members]
    prefixes = [shared[member][1] if shared else 0 for member in members]
    return Batch(tuple(members), tuple(prefixes), tuple(groups))


def _common_length(readings: Sequence[Reading]) -> int:
    """Return how many first tokens all have in common, short of the first place that is read."""
    least, most = min(reading.ids for reading in readings), max(reading.ids for reading in readings)
    limit = min(reading.read_at[0] for reading in readings)
    length = 0
    while length < min(limit, len(least), len(most)) and least[length] == most[length]:
        length += 1
    return length


def _padded(
    rows: Sequence[Sequence[int]], device: torch.device
) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
    """Return rows of ids padded on the right, and the mask of what is not padding."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(width) < lengths[:, None]).long()
    return ids.to(device), mask.to(device)


def vocabulary_size(backbone: PreTrainedModel) -> int:
    """Return how many tokens a decoder has embeddings for."""
    embeddings = cast(nn.Embedding, backbone.get_input_embeddings())
    return embeddings.num_embeddings


def _no_cache(backbone: PreTrainedModel, reason: str) -> BadInputError:
    return BadInputError(
        f"{type(backbone).__name__} cannot share beginnings ({reason}); set share_prefix=False"
    )
