"""Rotations put into a trained model without training its weights: QuaRot and SpinQuant on BitNet b1.58.

What table 4 holds BitNet v2 against. Every linear layer gets its input multiplied by an orthogonal matrix and
quantised to absmax INT4; norm gains are not folded and rotations stay online. Weights are ternarised by
absmean, after the rotation is fused into them (Q_w(W Rᵀ)) or before (Q_w(W) Rᵀ, which leaves 16-bit weights);
o_proj and down_proj are always fused, since the paper varies only q, k, v, up and gate [its code is not out].

Source: arXiv 2504.18415, section 3.2 and table 4; rotations after arXiv 2404.00456 and 2405.16406.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize
from transformers import PreTrainedModel

from papertrial.efficient.bitnet_v2.linear import BitLinear
from papertrial.efficient.bitnet_v2.quantizers import FLOOR, straight_through, ternarize
from papertrial.efficient.hadamard import hadamard_matrix
from papertrial.efficient.layers import Replacement, replace_linears
from papertrial.errors import BadInputError
from papertrial.objective import model_loss

Fusing = Literal["fused", "unfused"]

_ALWAYS_FUSED = ("*o_proj", "*down_proj")


def absmax_int4(x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
    """Return x at 4 bits with a step of max|x| / 7 for each token; the gradient passes straight through."""
    wide = x.detach().float()
    step = wide.abs().amax(-1, keepdim=True).clamp(min=FLOOR) / 7
    return straight_through(x, ((wide / step).round().clamp(-8, 7) * step).to(x.dtype))


def random_hadamard(order: int, seed: int) -> Float[Tensor, "order order"]:
    """Return QuaRot's rotation: a Hadamard matrix whose columns have random signs."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (order,), generator=generator) * 2 - 1
    return hadamard_matrix(order) * signs


class Rotation(nn.Module):
    """An orthogonal matrix, fixed or learned by the Cayley transform of a skew-symmetric one."""

    def __init__(self, initial: Float[Tensor, "order order"], *, learned: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(initial.clone(), requires_grad=learned)
        if learned:
            parametrizations.orthogonal(self, orthogonal_map="cayley", use_trivialization=True)
            setattr(self, "weight", initial)  # noqa: B010 - a parametrised tensor is set by assignment; the point around which the trivialisation turns

    def forward(self, x: Float[Tensor, "*batch order"]) -> Float[Tensor, "*batch order"]:
        """Return R x for every row."""
        return functional.linear(x, self.weight)


class RotatedLinear(nn.Module):
    """A linear layer on a rotated input of 4 bits, with ternary weights."""

    def __init__(self, linear: nn.Linear, rotation: Rotation | None, *, fusing: Fusing) -> None:
        super().__init__()
        self.linear = linear
        self.rotation = rotation
        self.norm = linear.norm if isinstance(linear, BitLinear) else None
        self.fusing = fusing

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Return Q_w(W Rᵀ) Q(R x), or Q_w(W) Rᵀ Q(R x)."""
        x = x if self.norm is None else self.norm(x)
        weight = self.linear.weight
        if self.rotation is None:
            return functional.linear(absmax_int4(x), ternarize(weight))
        if self.fusing == "fused":
            weight = ternarize(self.rotation(weight))
        else:
            weight = self.rotation(ternarize(weight))
        return functional.linear(absmax_int4(self.rotation(x)), weight)


@dataclass(frozen=True)
class Rotated:
    """A model with rotations put in.

    Attributes:
        replacement: puts the model back as it was.
        rotations: by what they turn.
    """

    replacement: Replacement
    rotations: dict[str, Rotation]


def use_rotations(
    model: PreTrainedModel,
    *,
    fusing: Fusing = "fused",
    learned: bool = False,
    rotated: bool = True,
    seed: int = 0,
) -> Rotated:
    """Put rotations into a trained model in place: QuaRot's, or SpinQuant's before they are learned.

    One rotation serves all inputs of the model's width (q, k, v, gate, up), one the inputs of o_proj; both are
    learned by SpinQuant. down_proj gets a Hadamard matrix that is never learned, as in SpinQuant.

    Args:
        model: full precision, or after `use_bitnet` without rotation (its sub-norms are kept).
        fusing: "fused" or "unfused", for q, k, v, gate and up.
        learned: whether rotations are parameters.
        rotated: False gives the arm without rotation: absmax INT4 alone.
        seed: of the random signs.

    Raises:
        BadInputError: an unknown fusing, or a width without a Hadamard matrix.
    """
    if fusing not in ("fused", "unfused"):
        raise BadInputError(f"fusing must be 'fused' or 'unfused', got {fusing!r}")
    rotations: dict[str, Rotation] = {}

    def make(name: str, linear: nn.Linear) -> nn.Module:
        own = name.rpartition(".")[2]
        kind = own if own in ("o_proj", "down_proj") else "hidden"
        key = f"{kind}_{linear.in_features}"
        if rotated and key not in rotations:
            start = random_hadamard(linear.in_features, seed + len(rotations))
            rotations[key] = Rotation(start.to(linear.weight), learned=learned and kind != "down_proj")
        always = any(fnmatchcase(name, pattern) for pattern in _ALWAYS_FUSED)
        return RotatedLinear(linear, rotations.get(key), fusing="fused" if always else fusing)

    return Rotated(replace_linears(model, make), rotations)


def learn_rotations(
    model: nn.Module,
    rotated: Rotated,
    batches: Iterator[Any],
    *,
    steps: int = 100,
    lr: float = 1e-2,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Learn SpinQuant's rotations on the quantised model's own loss, weights fixed; return the losses.

    The gradient reaches a rotation through the rounding of weights and activations alike, and moves a
    skew-symmetric matrix whose Cayley transform it is; Adam takes the steps. The rotations are fixed afterwards.

    Args:
        model: with `use_rotations(..., learned=True)`.
        rotated: what that call returned.
        batches: calibration text; the paper takes 800 sequences of WikiText-2.
        steps: of Adam.
        lr: falls along a line to zero.
        on_step: called after each step with its number and loss.

    Raises:
        BadInputError: no rotation is learned.
    """
    learned = [r for r in rotated.rotations.values() if parametrize.is_parametrized(r)]
    if not learned:
        raise BadInputError("no rotation is learned; call use_rotations(model, learned=True)")
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    model.requires_grad_(False)
    parameters = [p for rotation in learned for p in rotation.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, lr=lr)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (steps - step) / steps
        loss = model_loss(model, next(batches))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if on_step is not None:
            on_step(step + 1, losses[-1])
    for rotation in learned:
        parametrize.remove_parametrizations(cast(nn.Module, rotation), "weight")
        rotation.weight.requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(wanted.get(name, False))
    return losses
