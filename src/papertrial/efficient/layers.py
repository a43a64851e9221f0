"""Put other modules in the place of a model's linear layers, by name, and take them out again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from papertrial.errors import BadInputError

# Linear layers that choose experts: a few rows each, and a rounding error there sends tokens elsewhere.
_ROUTERS = ("gate", "router", "shared_expert_gate")
_EXAMPLES = 4


@dataclass(frozen=True)
class Replacement:
    """What `replace_linears` did to a model.

    Attributes:
        model: the model, changed in place.
        originals: what stood at each qualified name before.
        replaced: what stands there now.
    """

    model: nn.Module
    originals: dict[str, nn.Module]
    replaced: dict[str, nn.Module]

    @property
    def names(self) -> tuple[str, ...]:
        """The qualified names, in the order of the model."""
        return tuple(self.replaced)

    def restore(self) -> None:
        """Put the originals back.

        Raises:
            BadInputError: a name holds something else by now; nothing is changed then.
        """
        for name, module in self.replaced.items():
            if self.model.get_submodule(name) is not module:
                raise BadInputError(f"{name} was replaced again since; restore the later replacement first")
        for name, original in self.originals.items():
            _put(self.model, name, original)


def replace_linears(
    model: nn.Module,
    make: Callable[[str, Any], nn.Module],
    *,
    names: Sequence[str] | None = None,
    types: tuple[type[nn.Module], ...] = (nn.Linear,),
    where: Callable[[str, Any], bool] | None = None,
    skip: Sequence[str] = ("lm_head",),
) -> Replacement:
    """Replace linear layers of `model` in place by what `make` returns for each.

    The output head, embeddings and the routers of experts are left alone, and so is what `skip` lists,
    unless a pattern of `names` ends in that layer's own name ("lm_head", "*.gate"). A layer that is used in
    several places is made once and replaced in all of them.

    Args:
        model: holds the layers.
        make: gets the qualified name and the original. Where the result still trains it must hold the very
            same Parameter objects, so that an optimizer that knows them keeps its state.
        names: glob patterns over qualified names or over their ends: "model.layers.0.*", "mlp.down_proj",
            "*_proj". None means all.
        types: what counts as a linear layer.
        where: a last say by name and layer, for example on its shape.
        skip: patterns of layers that stay, as in `names`.

    Raises:
        BadInputError: no layer matched, or a pattern of `names` matched none.
    """
    found: dict[str, nn.Module] = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if name and isinstance(module, types)
    }
    if names is not None:
        _check_patterns(names, found)
    head = _output_head(model)
    originals = {
        name: module
        for name, module in found.items()
        if _is_wanted(name, names, skip, protected=module is head or _is_protected(name, module))
        and (where is None or where(name, module))
    }
    if not originals:
        raise BadInputError(_nothing_matched(model, names, skip, found))
    made: dict[int, nn.Module] = {}
    replaced: dict[str, nn.Module] = {}
    for name, original in originals.items():
        if id(original) not in made:
            made[id(original)] = make(name, original).train(original.training)
        replaced[name] = made[id(original)]
    for name, module in replaced.items():
        _put(model, name, module)
    return Replacement(model, originals, replaced)


def _is_wanted(name: str, names: Sequence[str] | None, skip: Sequence[str], *, protected: bool) -> bool:
    if names is not None and not _matches(name, names):
        return False
    own = name.rpartition(".")[2]
    spelled_out = any(
        pattern.rpartition(".")[2] == own for pattern in names or () if _matches(name, [pattern])
    )
    return spelled_out or not (protected or _matches(name, skip))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}") for pattern in patterns)


def _output_head(model: nn.Module) -> nn.Module | None:
    ask = getattr(model, "get_output_embeddings", None)
    return ask() if callable(ask) else None


def _is_protected(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding) or name.rpartition(".")[2] in _ROUTERS


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


def _check_patterns(names: Sequence[str], found: dict[str, nn.Module]) -> None:
    for pattern in names:
        if not any(_matches(name, [pattern]) for name in found):
            raise BadInputError(
                f"no linear layer is called {pattern!r}; there are: {_examples(found) or 'none'}"
            )


def _nothing_matched(
    model: nn.Module, names: Sequence[str] | None, skip: Sequence[str], found: dict[str, nn.Module]
) -> str:
    asked = "any name" if names is None else " or ".join(map(repr, names))
    left = f"; {type(model).__name__} has: {_examples(found)}" if found else f" in {type(model).__name__}"
    return f"no linear layer matches {asked} (skipped: {', '.join(skip) or 'nothing'}){left}"


def _examples(found: dict[str, nn.Module]) -> str:
    shown = list(found)[:_EXAMPLES]
    return ", ".join(shown) + (f", … ({len(found)} in all)" if len(found) > len(shown) else "")
