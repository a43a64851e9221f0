"""Mixtures of experts whose experts are stacked in one tensor: taken apart into linears.

transformers keeps the experts of a layer in two tensors (experts, out, in). A method that quantises, prunes
or calibrates matrix by matrix needs them as linears; under the names they have in checkpoints on the hub
(`mlp.experts.3.gate_proj.weight`), so that a model saved so loads as any other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from papertrial.errors import BadInputError


class Expert(nn.Module):
    """One gated feed-forward expert: down(act(gate(x)) · up(x))."""

    def __init__(self, gate_up: Tensor, down: Tensor, act_fn: Callable[[Tensor], Tensor]) -> None:
        """Take rows of `gate_up` (2·width, dim), gate first, and `down` (dim, width)."""
        super().__init__()
        gate, up = gate_up.chunk(2)
        self.gate_proj, self.up_proj, self.down_proj = (_linear(weight) for weight in (gate, up, down))
        self.act_fn = act_fn

    def forward(self, hidden_states: Float[Tensor, "tokens dim"]) -> Float[Tensor, "tokens dim"]:
        """Return the expert's output (tokens, dim)."""
        return self.down_proj(self.act_fn(self.gate_proj(hidden_states)) * self.up_proj(hidden_states))


class SeparateExperts(nn.ModuleList):
    """The experts of one layer as modules; called as transformers calls the stacked ones."""

    def forward(
        self,
        hidden_states: Float[Tensor, "tokens dim"],
        top_k_index: Int64[Tensor, "tokens chosen"],
        top_k_weights: Float[Tensor, "tokens chosen"],
    ) -> Float[Tensor, "tokens dim"]:
        """Return, for each token, the weighted sum of its chosen experts' outputs."""
        total = torch.zeros_like(hidden_states)
        for number, expert in enumerate(self):
            token, place = torch.where(top_k_index == number)
            if len(token):
                output = expert(hidden_states[token]) * top_k_weights[token, place, None]
                total.index_add_(0, token, output.to(total.dtype))
        return total


def separate_experts(model: nn.Module) -> list[str]:
    """Replace stacked experts of `model` by `SeparateExperts`, in place; return their qualified names.

    A model without stacked experts is left as it is.

    Raises:
        BadInputError: stacked experts with biases or without a gate, which are laid out otherwise.
    """
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(getattr(module, "down_proj", None), nn.Parameter)
    ]
    for name in found:
        stacked = model.get_submodule(name)
        weights = dict(stacked.named_parameters(recurse=False))
        if set(weights) != {"gate_up_proj", "down_proj"}:
            raise BadInputError(
                f"the experts in {name} hold {', '.join(sorted(weights))}; only gate_up_proj and down_proj, without "
                "biases, can be taken apart"
            )
        gate_up, down, act_fn = weights["gate_up_proj"], weights["down_proj"], stacked.act_fn
        assert callable(act_fn)
        modules = [Expert(g, d, act_fn) for g, d in zip(gate_up.detach(), down.detach(), strict=True)]
        _replace(model, name, SeparateExperts(modules))
    return found


def _linear(weight: Tensor) -> nn.Linear:
    with torch.device("meta"):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight = nn.Parameter(weight.detach().clone())
    return linear


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
