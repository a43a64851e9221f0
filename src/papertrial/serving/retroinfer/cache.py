"""The cache that makes a Llama, Qwen2 or Qwen3 decode through wave indexes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, NoReturn

import torch
from torch import Tensor
from transformers import PreTrainedModel

from papertrial.errors import BadInputError
from papertrial.serving.caches import GrowingLayer, LayerwiseCache
from papertrial.serving.dense import group_size, softmax_scale
from papertrial.serving.registration import use_serving_attention
from papertrial.serving.retroinfer.sequence import RetroSequence
from papertrial.serving.retroinfer.sizes import IndexSettings


class RetroLayer(GrowingLayer):
    """One layer's cache: dense during the prompt, then one steady zone and index for each sequence.

    The index is built at the first forward of a single token, over all tokens before it, so a prompt may come
    in pieces. Padding must be on the left; it is found in the mask of the prompt and never indexed. A later
    forward of several tokens (another turn of a chat) is attended exactly over everything held, then moves
    into the steady zone.
    """

    is_croppable = False

    def __init__(self, settings: IndexSettings) -> None:
        super().__init__()
        self.settings = settings
        self.sequences: list[RetroSequence] = []
        self.padding: list[int] = []
        self._is_attended = True

    @property
    def is_decoding(self) -> bool:
        """Say whether the prompt is over."""
        return bool(self.sequences)

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple:
        """Take the new keys and values; the attention that follows must be this field's.

        Raises:
            BadInputError: another model's shape, or the model attends by other means than `attach` set up.
        """
        if not self._is_attended:
            raise BadInputError(
                "the model does not attend through this cache; call "
                "papertrial.serving.retroinfer.attach(model) before the first forward"
            )
        self._is_attended = False
        if self.is_decoding or (self.tokens and key_states.shape[2] == 1):
            self.check_shape(key_states)
            self.tokens += key_states.shape[2]
            # What is returned here only carries the owner and the new tokens to `attend`.
            keys = key_states.view_as(key_states)
            keys.owner = self  # type: ignore[attr-defined]
            return keys, value_states
        return super().update(key_states, value_states, *args, **kwargs)

    def fill(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take a prompt's keys and values, unpadded and unattended; the next token indexes them."""
        super().fill(key_states, value_states)
        self.padding, self._is_attended = [0] * key_states.shape[0], True

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
    ) -> Tensor:
        """Attend for the tokens just given to `update`: (batch, query heads, queries, dim)."""
        self._is_attended = True
        if not self.is_decoding and key.shape[2] == self.tokens:
            self._note_padding(mask)
            return super().attend(query, key, value, mask, scale)
        self._start_decoding(key.shape[2])
        if query.shape[2] == 1:
            return self._step(query, key, value, softmax_scale(query.shape[-1], scale))
        return self._several(query, key, value, scale)

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last prompt tokens. Raises BadInputError once an index may hold them."""
        if self.is_decoding and tokens_to_remove:
            self._refuse("crop (assisted decoding)", "a token cannot be taken out of its cluster")
        super().crop(tokens_to_remove)

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.sequences, self.padding, self._is_attended = [], [], True

    def _select(self, indices: Tensor) -> None:
        if any(sequence.is_indexed for sequence in self.sequences):
            self._refuse("reordering sequences (beam search)", "every index would be copied at every step")
        if self.sequences:
            self.sequences = [copy.deepcopy(self.sequences[i]) for i in indices.tolist()]
            # Buffers of the prompt are gone by now; their shape is still what `check_shape` compares with.
            self.key_buffer = self.key_buffer.new_empty(len(self.sequences), *self.key_buffer.shape[1:])
        else:
            super()._select(indices)
        if self.padding:
            self.padding = [self.padding[i] for i in indices.tolist()]

    def _refuse(self, what: str, reason: str) -> NoReturn:
        raise BadInputError(
            f"{what} does not work on an indexed cache: {reason}; sample or decode greedily, or use "
            "papertrial.serving.caches.growing_cache"
        )

    def _note_padding(self, mask: Tensor | None) -> None:
        """Remember how much padding each sequence begins with, from what its last query may see."""
        if mask is None:
            self.padding = [0] * self.key_buffer.shape[0]
            return
        seen = mask[:, 0, -1] if mask.dtype == torch.bool else mask[:, 0, -1] >= 0
        seen = seen.expand(self.key_buffer.shape[0], -1)
        padding = seen.int().argmax(1)
        contiguous = seen.sum(1) == seen.shape[1] - padding
        if not bool(contiguous.all()):
            raise BadInputError(
                "padding must be on the left: the mask hides tokens after the first visible one "
                f"in sequence {int((~contiguous).nonzero()[0])}; set tokenizer.padding_side = 'left'"
            )
        self.padding = padding.tolist()

    def _start_decoding(self, new_tokens: int) -> None:
        if self.is_decoding:
            return
        prompt = self.tokens - new_tokens
        for i, start in enumerate(self.padding):
            keys, values = self.key_buffer[i, :, start:prompt], self.value_buffer[i, :, start:prompt]
            self.sequences.append(RetroSequence(keys, values, self.settings))
        # The clusters hold the prompt now. An empty buffer keeps the shape for `check_shape`.
        self.key_buffer = self.key_buffer[:, :, :0].clone()
        self.value_buffer = self.value_buffer[:, :, :0].clone()
        self.keys, self.values = self.key_buffer, self.value_buffer

    def _step(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        heads = key.shape[1]
        packed = query.reshape(query.shape[0], heads, group_size(query.shape[1], heads), query.shape[3])
        out = torch.empty_like(packed)
        for i, sequence in enumerate(self.sequences):
            sequence.append(key[i, :, 0], value[i, :, 0])
            out[i] = sequence.attend(packed[i], scale)
        return out.reshape(query.shape)

    def _several(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Attend several new tokens exactly; the order of the tokens before them does not matter."""
        out = torch.empty_like(query)
        for i, sequence in enumerate(self.sequences):
            keys, values = sequence.everything()
            keys, values = torch.cat([keys, key[i]], dim=1), torch.cat([values, value[i]], dim=1)
            # Fewer queries than keys: `GrowingLayer.attend` masks what each new token may not see.
            out[i] = GrowingLayer.attend(self, query[i : i + 1], keys[None], values[None], None, scale)[0]
            for t in range(key.shape[2]):
                sequence.append(key[i, :, t], value[i, :, t])
        return out


@dataclass(frozen=True)
class RetroStats:
    """What a cache has done so far.

    Attributes:
        mode: whether decoding goes through indexes: `dense` (all sequences short), `indexed`, or `mixed`.
        indexed_layers: layers that take part.
        skipped_layers: layers left as they are, with their type.
        clusters: clusters of each sequence in the first indexed layer.
        touched: share of the clusters that one step retrieves or estimates, over all sequences and layers.
        build_seconds: time spent in clustering prompts, all layers.
        update_seconds: time spent in clustering generated tokens, all layers.
        updates: index updates, all layers and sequences.
    """

    mode: Literal["dense", "indexed", "mixed"]
    indexed_layers: list[int]
    skipped_layers: dict[int, str]
    clusters: list[int]
    touched: float
    build_seconds: float
    update_seconds: float
    updates: int


class RetroCache(LayerwiseCache):
    """A cache for `generate` or `forward` of a model that `attach` has prepared.

    Source: arXiv 2505.02922 (wave index).
    """

    def __init__(self, model: PreTrainedModel, settings: IndexSettings) -> None:
        super().__init__(model.config, lambda: RetroLayer(settings))

    @property
    def stats(self) -> RetroStats:
        """Return what this cache has done so far."""
        layers = {i: layer for i, layer in enumerate(self.layers) if isinstance(layer, RetroLayer)}
        sequences = [sequence for layer in layers.values() for sequence in layer.sequences]
        indexes = [sequence.index for sequence in sequences if sequence.index is not None]
        clusters = sum(index.clusters for index in indexes)
        first = next(iter(layers.values()))
        return RetroStats(
            mode="dense" if not indexes else "indexed" if len(indexes) == len(sequences) else "mixed",
            indexed_layers=list(layers),
            skipped_layers=dict(self.skipped_layers),
            clusters=[s.index.clusters if s.index is not None else 0 for s in first.sequences],
            touched=sum(x.retrieved + x.estimated for x in indexes) / clusters if clusters else 0.0,
            build_seconds=sum(s.build_seconds for s in sequences),
            update_seconds=sum(s.update_seconds for s in sequences),
            updates=sum(s.updates for s in sequences),
        )


def attach(model: PreTrainedModel, settings: IndexSettings | None = None) -> RetroCache:
    """Prepare a model to decode through wave indexes and return the cache to give to its next generation.

    One cache serves one generation (or conversation); call again for the next. `model.generate(**inputs,
    past_key_values=attach(model))` is all that is needed. Layers with sliding-window or linear attention are
    left as they are and listed in `cache.stats.skipped_layers`.

    Raises:
        BadInputError: no layer of the model has full attention.
    """
    use_serving_attention(model)
    return RetroCache(model, settings or IndexSettings())
