"""Where the matrices of a decoder layer are, which norm feeds which, and in what order they run.

Everything is found by the names of modules and parameters, so one table serves Llama, Mistral, Qwen2, Qwen3,
Phi3, Gemma, BitNet and their mixtures of experts; a model with other names brings its own `LayerNames`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from papertrial.errors import BadInputError


@dataclass(frozen=True)
class LayerNames:
    """The names in one decoder layer, relative to it. Glob patterns; what a layer lacks is left out.

    Attributes:
        sequential: sets of linears that read one input, in the order in which they run.
        norms: for each norm, the linears that read its output. Where the first pattern list of a norm
            matches nothing in a layer, the norm is not used.
        chains: for each linear, the linear whose output rows are its input columns, up to an elementwise
            product with something else (up → down) or an average over tokens (v → o).
        inspected: for each group's first linear, the module whose output shows the group's error.
        routers: modules that choose experts; never quantised.
    """

    sequential: tuple[tuple[str, ...], ...]
    norms: Mapping[str, tuple[str, ...]]
    chains: Mapping[str, str] = field(default_factory=dict)
    inspected: Mapping[str, str] = field(default_factory=dict)
    routers: tuple[str, ...] = ()


_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.qkv_proj")
_DENSE = ("mlp.gate_proj", "mlp.up_proj", "mlp.gate_up_proj")
_EXPERTS = ("mlp.experts.*.gate_proj", "mlp.experts.*.up_proj")
_SHARED = ("mlp.shared_expert*.gate_proj", "mlp.shared_expert*.up_proj")
_ROUTERS = ("mlp.gate", "mlp.router", "mlp.shared_expert_gate")
_READS_MLP = (*_DENSE, *_EXPERTS, *_SHARED, *_ROUTERS)

DECODER_NAMES = LayerNames(
    sequential=(
        _ATTENTION,
        ("self_attn.o_proj",),
        _DENSE,
        _EXPERTS,
        _SHARED,
        ("mlp.down_proj",),
        ("mlp.experts.*.down_proj",),
        ("mlp.shared_expert*.down_proj",),
    ),
    norms={
        "input_layernorm": _ATTENTION,
        # In Gemma 2 and 3 the norm after attention stands on the branch's output and feeds no matrix.
        "pre_feedforward_layernorm": _READS_MLP,
        "post_attention_layernorm": _READS_MLP,
        "self_attn.attn_sub_norm": ("self_attn.o_proj",),
        "mlp.ffn_sub_norm": ("mlp.down_proj",),
    },
    chains={
        "self_attn.o_proj": "self_attn.v_proj",
        "mlp.down_proj": "mlp.up_proj",
        "mlp.experts.*.down_proj": "mlp.experts.*.up_proj",
        "mlp.shared_expert*.down_proj": "mlp.shared_expert*.up_proj",
    },
    inspected={"self_attn.q_proj": "self_attn", "self_attn.qkv_proj": "self_attn", "mlp.*": "mlp"},
    routers=_ROUTERS,
)
"""The names that transformers gives the layers of nearly all its decoders."""


@dataclass(frozen=True)
class LayerLayout:
    """One decoder layer and its parts, by names relative to it.

    Attributes:
        name: qualified name in the model ("model.layers.0").
        module: the layer.
        linears: every matrix that may be quantised.
        sequential: the same in the order in which they run; each set reads one input. The experts of a
            mixture each have a set of their own.
        norm_groups: for each norm, what reads its output: linears, and routers where there are any.
        offset_norms: the norms that multiply by 1 + weight (Gemma).
        chains: for each linear that has one, the linear whose output rows are its input columns.
        inspected: for each set's first linear, the module whose output AWQ looks at.
        routers: modules of the layer that choose experts; they keep their weights.
    """

    name: str
    module: nn.Module
    linears: tuple[str, ...]
    sequential: tuple[tuple[str, ...], ...]
    norm_groups: Mapping[str, tuple[str, ...]]
    offset_norms: frozenset[str]
    chains: Mapping[str, str]
    inspected: Mapping[str, str]
    routers: tuple[str, ...]

    def linear(self, name: str) -> nn.Module:
        """Return the module called `name` in this layer."""
        return self.module.get_submodule(name)

    def weight(self, name: str) -> Tensor:
        """Return the weight of the module called `name`.

        Raises:
            BadInputError: it has none, or keeps it packed.
        """
        weight = getattr(self.linear(name), "weight", None)
        if not isinstance(weight, Tensor):
            raise BadInputError(
                f"{self.qualified(name)} has no weight of its own; is the model quantised already?"
            )
        return weight

    def qualified(self, name: str) -> str:
        """Return the name in the model of what is called `name` in this layer."""
        return f"{self.name}.{name}"


@dataclass(frozen=True)
class ModelLayout:
    """The decoder layers of a model, in order."""

    layers: tuple[LayerLayout, ...]

    @property
    def linears(self) -> tuple[str, ...]:
        """The qualified names of all matrices that may be quantised."""
        return tuple(layer.qualified(name) for layer in self.layers for name in layer.linears)


def layout_of(model: nn.Module, names: LayerNames = DECODER_NAMES) -> ModelLayout:
    """Find the decoder layers of `model` and what is in them.

    The layers are the first list of modules in each of which the first set of `names.sequential` matches.
    Embeddings, the output head, norms and routers are never among the linears.

    Raises:
        BadInputError: there is no such list, or a layer holds matrices that no name covers (they would be
            left in full precision without a word).
    """
    wanted = [pattern for names_of_set in names.sequential[:1] for pattern in names_of_set]
    for list_name, modules in model.named_modules():
        if not isinstance(modules, nn.ModuleList) or len(modules) == 0:
            continue
        if all(_matching(_submodules(layer), wanted) for layer in modules):
            layers = (_layer_layout(f"{list_name}.{i}", layer, names) for i, layer in enumerate(modules))
            return ModelLayout(tuple(layers))
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    raise BadInputError(
        f"{type(model).__name__} has no list of decoder layers with {' or '.join(wanted)} in each; its lists "
        f"of modules: {', '.join(lists) or 'none'}. Give a LayerNames with its own names"
    )


def _layer_layout(name: str, layer: nn.Module, names: LayerNames) -> LayerLayout:
    modules = _submodules(layer)
    sequential = tuple(group for patterns in names.sequential for group in _sets(modules, patterns))
    linears = tuple(linear for group in sequential for linear in group)
    routers = tuple(_matching(modules, names.routers))
    _check_covered(name, layer, linears, routers)
    norm_groups: dict[str, tuple[str, ...]] = {}
    for norm, patterns in names.norms.items():
        readers = tuple(_matching(modules, patterns))
        taken = {reader for group in norm_groups.values() for reader in group}
        if norm in modules and readers and not taken.intersection(readers):
            norm_groups[norm] = readers
    return LayerLayout(
        name=name,
        module=layer,
        linears=linears,
        sequential=sequential,
        norm_groups=norm_groups,
        offset_norms=frozenset(norm for norm in norm_groups if norm_adds_one(modules[norm])),
        chains=_chains(linears, names.chains, {reader for group in norm_groups.values() for reader in group}),
        inspected={
            group[0]: target
            for group in sequential
            for pattern, target in names.inspected.items()
            if fnmatchcase(group[0], pattern) and not fnmatchcase(group[0], "*down_proj")
        },
        routers=routers,
    )


def norm_adds_one(norm: nn.Module) -> bool:
    """Say whether a norm multiplies by 1 + weight, as Gemma's do, by what it computes, not by its name.

    Raises:
        BadInputError: it does neither that nor multiply by its weight.
    """
    weight = norm.weight
    if not isinstance(weight, Tensor):
        raise BadInputError(f"{type(norm).__name__} has no weight to scale")
    signs = torch.ones(1, weight.numel(), dtype=torch.float32, device=weight.device)
    signs[0, 1::2] = -1.0  # its own normalisation under RMS and, at an even width, under mean and variance
    with torch.no_grad():
        output = norm(signs.to(weight.dtype)).float().flatten()
        bias = getattr(norm, "bias", None)
        if isinstance(bias, Tensor):
            output -= bias.float()
        factor = output * signs.flatten()
    plain = weight.detach().float()
    distances = [float((factor - (plain + offset)).abs().max()) for offset in (0.0, 1.0)]
    nearest = min(distances)
    if nearest > 1e-2 * (1.0 + float(plain.abs().max())):
        raise BadInputError(f"{type(norm).__name__} multiplies neither by its weight nor by 1 + weight")
    return distances[1] < distances[0]


def scale_norm(norm: nn.Module, factor: Tensor, *, adds_one: bool) -> None:
    """Multiply a norm's output, channel by channel, by `factor` (dim,), by changing its weight and bias."""
    with torch.no_grad():
        weight = norm.weight
        assert isinstance(weight, Tensor)
        factor = factor.to(weight.dtype)
        weight.copy_((weight + 1.0) * factor - 1.0 if adds_one else weight * factor)
        bias = getattr(norm, "bias", None)
        if isinstance(bias, Tensor):
            bias.mul_(factor)


def _submodules(layer: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in layer.named_modules() if name}


def _matching(modules: Mapping[str, nn.Module], patterns: Sequence[str]) -> list[str]:
    """Return names that match, in the patterns' order, each once."""
    found = {name: None for pattern in patterns for name in modules if fnmatchcase(name, pattern)}
    return [
        name for name in found if getattr(modules[name], "weight", None) is not None or _packed(modules[name])
    ]


def _packed(module: nn.Module) -> bool:
    return hasattr(module, "qweight")


def _sets(modules: Mapping[str, nn.Module], patterns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the sets that patterns stand for: one, or one for each expert."""
    by_parent: dict[str, list[str]] = {}
    for name in _matching(modules, patterns):
        by_parent.setdefault(name.rpartition(".")[0], []).append(name)
    return [tuple(group) for group in by_parent.values()]


def _chains(linears: Sequence[str], patterns: Mapping[str, str], after_a_norm: Set[str]) -> dict[str, str]:
    """Return the linear before each linear; none where a norm stands between them."""
    chains = {}
    for name in set(linears) - after_a_norm:
        for reader, source in patterns.items():
            candidate = f"{name.rpartition('.')[0]}.{source.rpartition('.')[2]}"
            if fnmatchcase(name, reader) and candidate in linears:
                chains[name] = candidate
    return chains


def _check_covered(name: str, layer: nn.Module, linears: Sequence[str], routers: Sequence[str]) -> None:
    known = {*linears, *routers}
    left = [n for n, module in layer.named_modules() if isinstance(module, nn.Linear) and n not in known]
    stacked = [n for n, weight in layer.named_parameters() if weight.ndim == 3]
    if left:
        raise BadInputError(
            f"{name} holds linears that the layout does not know: {', '.join(left[:4])}; give a LayerNames "
            "that lists them"
        )
    if stacked:
        raise BadInputError(
            f"{name} keeps its experts stacked in {stacked[0]}; call papertrial.efficient.experts.separate_experts "
            "first, so that each expert is quantised by itself"
        )
