"""Orthonormal Hadamard transforms of the last axis: fast, differentiable, for powers of two and other sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.efficient.paley import has_paley, paley_matrix
from papertrial.errors import BadInputError, unknown

HadamardKind = Literal["auto", "sylvester", "block", "paley"]
"""How a size is taken apart: see `hadamard_plan`."""

_DENSE = 128  # up to here one matrix product beats several small ones, where no compiled loop is at hand


@dataclass(frozen=True)
class HadamardPlan:
    """How the transform of one size is composed: an outer matrix around a Sylvester matrix of order `inner`.

    Attributes:
        size: length of the axis.
        kind: "sylvester" (outer is 1), "block" (outer is an identity) or "paley" (outer is Paley's).
        outer: order of the outer factor.
        inner: order of the inner factor, a power of two; `outer * inner == size`.
    """

    size: int
    kind: Literal["sylvester", "block", "paley"]
    outer: int
    inner: int


@lru_cache(maxsize=256)
def hadamard_plan(size: int, kind: str = "auto") -> HadamardPlan:
    """Return how an axis of `size` is transformed.

    Args:
        size: length of the axis.
        kind: "sylvester": the natural-order matrix, powers of two only. "paley": Paley's matrix of the
            smallest order that fits, around a Sylvester matrix; mixes the whole axis. "block": Sylvester
            matrices of the largest power of two that divides the size, side by side; mixes within blocks.
            "auto": the first of sylvester, paley, block that exists. The axis is never padded: cutting the
            padding off again would leave a matrix that is not orthogonal.

    Raises:
        BadInputError: this size has no such form; the message names those it has.
    """
    if kind not in get_args(HadamardKind):
        raise unknown("kind of Hadamard matrix", kind, get_args(HadamardKind))
    if size < 1:
        raise BadInputError(f"a Hadamard matrix has at least order 1, got {size}")
    power = size & -size  # the largest power of two that divides it
    odd = size // power
    plans: dict[str, HadamardPlan] = {}
    if odd == 1:
        plans["sylvester"] = HadamardPlan(size, "sylvester", 1, size)
    order = next((odd * 2**k for k in range(2, power.bit_length()) if has_paley(odd * 2**k)), None)
    if odd > 1 and order is not None:
        plans["paley"] = HadamardPlan(size, "paley", order, size // order)
    if power > 1:
        plans["block"] = HadamardPlan(size, "block", odd, power)
    if kind == "auto" and plans:
        return next(iter(plans.values()))
    if kind not in plans:
        forms = " and ".join(f"{name} ({plan.outer} x {plan.inner})" for name, plan in plans.items())
        asked = "no Hadamard matrix" if kind == "auto" else f"no {kind} Hadamard matrix"
        raise BadInputError(f"there is {asked} of order {size}; this size has: {forms or 'none, it is odd'}")
    return plans[kind]


@lru_cache(maxsize=32)
def _signs(order: int, kind: str) -> Tensor:
    """Return the matrix of ±1 (and 0 between blocks), int8, on the CPU."""
    plan = hadamard_plan(order, kind)
    inner = torch.ones(1, 1, dtype=torch.int8)
    while len(inner) < plan.inner:
        inner = torch.cat([torch.cat([inner, inner], 1), torch.cat([inner, -inner], 1)])
    if plan.kind == "sylvester":
        return inner
    eye = torch.eye(plan.outer, dtype=torch.int8)
    outer = eye if plan.kind == "block" else torch.from_numpy(paley_matrix(plan.outer))
    return torch.kron(outer, inner)


def hadamard_matrix(
    order: int, kind: str = "auto", dtype: torch.dtype = torch.float32, device: Any = None
) -> Float[Tensor, "order order"]:
    """Return the orthonormal matrix H with `hadamard_transform(x) == x @ H`; symmetric, so `H @ H` is 1.

    Raises:
        BadInputError: as `hadamard_plan`.
    """
    plan = hadamard_plan(order, kind)
    mixed = plan.inner if plan.kind == "block" else order
    return _signs(order, plan.kind).to(device=device, dtype=dtype) / math.sqrt(mixed)


def hadamard_transform(
    x: Float[Tensor, "*batch size"], *, kind: str = "auto"
) -> Float[Tensor, "*batch size"]:
    """Multiply the last axis by the orthonormal Hadamard matrix of its size; apply twice to undo.

    Source: arXiv 2504.18415, equations 3 and 4; the gradient is the transform of the gradient (equation 8).
    Computed in float32 for narrower formats, and in n · log2(n) additions where a compiled loop is at hand
    (CPU), by small matrix products elsewhere.

    Args:
        x: any shape, floating point.
        kind: see `hadamard_plan`.

    Raises:
        BadInputError: as `hadamard_plan`.
    """
    plan = hadamard_plan(x.shape[-1], kind)
    return cast(Tensor, _Transform.apply(x, plan))


def naive_hadamard_transform(x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
    """Return the transform of a power of two by stacked butterflies, level after level: the plain reference.

    Source: arXiv 2504.18415, equation 4.
    """
    plan = hadamard_plan(x.shape[-1], "sylvester")
    out, half = x, 1
    while half < plan.size:
        blocks = out.unflatten(-1, (-1, 2, half))
        first, second = blocks[..., 0, :], blocks[..., 1, :]
        out = torch.stack([first + second, first - second], dim=-2).flatten(-3)
        half *= 2
    return out * plan.size**-0.5


class _Transform(torch.autograd.Function):
    """The transform with its own gradient: every form here is symmetric, so backward is forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: HadamardPlan) -> Tensor:
        ctx.plan = plan
        return _transform(x, plan)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return cast(Tensor, _Transform.apply(gradients[0], ctx.plan)), None


def _transform(x: Tensor, plan: HadamardPlan) -> Tensor:
    rows = x.reshape(-1, plan.inner)
    if plan.inner > 1 and rows.numel():
        rows = _sylvester(rows)
    if plan.kind == "paley":
        blocks = rows.reshape(-1, plan.outer, plan.inner)
        outer = hadamard_matrix(plan.outer, "paley", dtype=_wide(x.dtype), device=x.device)
        rows = (outer @ blocks.to(outer.dtype)).to(x.dtype)
    return rows.reshape(x.shape)


def _sylvester(rows: Tensor) -> Tensor:
    if rows.device.type == "cpu":
        from papertrial.efficient.hadamard_kernels import hadamard_rows

        return hadamard_rows(rows, rows.shape[-1] ** -0.5)
    if rows.device.type == "cuda" and rows.dtype != torch.float64 and _has_triton():
        from papertrial.efficient.hadamard_cuda import LARGEST_ROW, hadamard_rows_cuda

        if rows.shape[-1] <= LARGEST_ROW:
            return hadamard_rows_cuda(rows)
    return products(rows)


def products(rows: Float[Tensor, "rows size"]) -> Float[Tensor, "rows size"]:
    """Return the Sylvester transform of rows by matrix products of order 128 at most: for any device.

    A matrix of order a · b is the Kronecker product of those of order a and b, so a row seen as (a, b) is
    multiplied from both sides.
    """
    size = rows.shape[-1]
    wide = rows.to(_wide(rows.dtype))
    order = min(size, _DENSE)
    matrix = hadamard_matrix(order, "sylvester", dtype=wide.dtype, device=rows.device)
    blocks = wide.reshape(len(rows), size // order, order) @ matrix
    if size > order:
        blocks = products(blocks.transpose(1, 2).reshape(-1, size // order))
        blocks = blocks.reshape(len(rows), order, size // order).transpose(1, 2)
    return blocks.reshape(rows.shape).to(rows.dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None
