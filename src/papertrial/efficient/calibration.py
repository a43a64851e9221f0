"""Real activations, layer by layer, without holding the model's activations at once.

One pass over the model records what each decoder layer is called with (masks and rotary tables differ
between the layers of some models) and the first layer's inputs; no layer runs. Then one layer at a time is
fed those inputs, observers look at what its parts read, and its outputs become the next layer's inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from papertrial.efficient.layouts import LayerLayout, ModelLayout, layout_of
from papertrial.errors import BadInputError

Observer = Callable[[Tensor], None]
"""Shown the input of a module: (sequences, tokens, dim), or (tokens, dim) for an expert's."""


class _Enough(Exception):  # noqa: N818 - not an error: it ends a forward whose rest nobody needs
    """Ends a forward pass."""


@dataclass(frozen=True)
class _Call:
    """What a layer is called with beside its hidden states, for one batch."""

    arguments: tuple[Any, ...]
    named: Mapping[str, Any]


class BlockByBlock:
    """The decoder layers of a model, fed one after the other with calibration text.

    Attributes:
        layout: of the model.
        hidden: the next layer's inputs, one tensor (sequences, tokens, dim) a batch.
        sequences: how many sequences the calibration has.
        tokens: how many tokens.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Int64[Tensor, "sequences tokens"],
        *,
        layout: ModelLayout | None = None,
        batch_size: int = 8,
    ) -> None:
        """Record the first layer's inputs on `blocks` and every layer's other arguments.

        Args:
            model: a causal language model; run in evaluation mode, without gradients.
            blocks: token ids, every sequence of the same length.
            layout: found by name where none is given.
            batch_size: sequences that run at once.

        Raises:
            BadInputError: no sequences, sequences of one token, ids outside the vocabulary, a batch size
                below 1, or a model whose inputs are not finite.
        """
        self.layout = layout or layout_of(model)
        _check_blocks(model, blocks, batch_size)
        self.sequences, length = blocks.shape
        self.tokens = self.sequences * length
        self._calls: list[list[_Call]] = [[] for _ in self.layout.layers]
        self.hidden: list[Tensor] = []
        self._seen: list[Tensor] = []
        with _evaluating(model), torch.no_grad():
            self._record(model, blocks.split(batch_size))
        self._seen.clear()
        self._done = 0
        _check_finite(self.hidden, "the embeddings")

    def observe(self, layer: int, observers: Mapping[str, Observer]) -> None:
        """Run a layer on its inputs and show each observer what the module it is named for reads.

        A batch's forward ends as soon as every observed module has read its input, so looking at the
        first matrices costs little. A module that reads nothing (an expert that no token chose) shows
        nothing.

        Raises:
            BadInputError: the layer is not the next one, or what a module reads is not finite: the
                message names the module.
        """
        layout = self._next(layer)
        for call, hidden in zip(self._calls[layer], self.hidden, strict=True):
            with _observing(layout, observers, stop=True), _evaluating(layout.module), torch.no_grad():
                try:
                    layout.module(hidden, *call.arguments, **call.named)
                except _Enough:
                    continue

    def advance(self, layer: int, observers: Mapping[str, Observer] | None = None) -> None:
        """Run a layer as it now is; its outputs, written over its inputs, become the next layer's.

        Raises:
            BadInputError: as `observe`.
        """
        layout = self._next(layer)
        for index, call in enumerate(self._calls[layer]):
            with _observing(layout, observers or {}, stop=False), _evaluating(layout.module), torch.no_grad():
                self.hidden[index] = layer_output(
                    layout.module, self.hidden[index], call.arguments, call.named
                )
        _check_finite(self.hidden, layout.name)
        self._calls[layer] = []
        self._done = layer + 1

    def calls(self, layer: int) -> list[tuple[Tensor, tuple[Any, ...], Mapping[str, Any]]]:
        """Return, for each batch, a layer's inputs and what else it is called with."""
        self._next(layer)
        pairs = zip(self.hidden, self._calls[layer], strict=True)
        return [(hidden, call.arguments, call.named) for hidden, call in pairs]

    def _next(self, layer: int) -> LayerLayout:
        if layer != self._done:
            raise BadInputError(f"layer {self._done} is the next one, layer {layer} was asked for")
        return self.layout.layers[layer]

    def _record(self, model: nn.Module, batches: Sequence[Tensor]) -> None:
        last = len(self.layout.layers) - 1

        def stand_in(layer: int) -> Callable[..., Tensor]:
            def forward(hidden_states: Tensor, *arguments: Any, **named: Any) -> Tensor:
                shared = tuple(self._shared(value) for value in arguments)
                self._calls[layer].append(_Call(shared, {k: self._shared(v) for k, v in named.items()}))
                if layer == 0:
                    self.hidden.append(hidden_states.detach().clone())
                if layer == last:
                    raise _Enough
                return hidden_states

            return forward

        modules = [layer.module for layer in self.layout.layers]
        for number, module in enumerate(modules):
            module.forward = stand_in(number)  # on the instance, before its class's own
        try:
            device = next(model.parameters()).device
            for batch in batches:
                try:
                    model(input_ids=batch.to(device), use_cache=False)
                except _Enough:
                    continue
        finally:
            for module in modules:
                del module.forward

    def _shared(self, value: Any) -> Any:
        """Return an equal value seen before, so that a mask or a rotary table is held once for all batches."""
        if isinstance(value, tuple):
            return tuple(self._shared(part) for part in value)
        if not isinstance(value, Tensor):
            return value
        for seen in self._seen:
            if seen is value or (
                seen.shape == value.shape and seen.dtype == value.dtype and seen.equal(value)
            ):
                return seen
        self._seen.append(value)
        return value


def layer_output(
    module: nn.Module, hidden: Tensor, arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> Tensor:
    """Return a decoder layer's output; before transformers 5 it stands in a tuple."""
    output = module(hidden, *arguments, **named)
    return output if isinstance(output, Tensor) else output[0]


@contextmanager
def _observing(layout: LayerLayout, observers: Mapping[str, Observer], *, stop: bool) -> Iterator[None]:
    """Show observers their module's input; with `stop`, end the forward when all have seen one."""
    waiting = set(observers)

    def hook(name: str) -> Callable[..., None]:
        def look(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            value = arguments[0] if arguments else named["hidden_states"]
            if not bool(torch.isfinite(value).all()):
                raise BadInputError(f"{layout.qualified(name)} reads activations that are not finite")
            observers[name](value)
            waiting.discard(name)
            if stop and not waiting:
                raise _Enough

        return look

    handles = [
        layout.linear(name).register_forward_pre_hook(hook(name), with_kwargs=True) for name in observers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def _check_blocks(model: nn.Module, blocks: Tensor, batch_size: int) -> None:
    if len(blocks) == 0 or blocks.shape[1] < 2:
        raise BadInputError(
            f"calibration needs at least one sequence of two tokens, got {len(blocks)} of {blocks.shape[1]}"
        )
    if batch_size < 1:
        raise BadInputError(f"batch_size must be at least 1, got {batch_size}")
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    rows = None if embedding is None else embedding.weight.shape[0]
    if rows is not None and (int(blocks.min()) < 0 or int(blocks.max()) >= rows):
        raise BadInputError(
            f"calibration ids lie between {int(blocks.min())} and {int(blocks.max())}, the model has {rows} tokens"
        )


def _check_finite(hidden: Sequence[Tensor], name: str) -> None:
    if not all(bool(torch.isfinite(part).all()) for part in hidden):
        raise BadInputError(f"the outputs of {name} are not finite; calibration stops there")
