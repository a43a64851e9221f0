"""Plain references: the searches and loops of the released code, written for reading. Slow; the tests hold to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from papertrial.efficient.qwen3_quantization.grids import (
    GridOptions,
    fit_grid,
    grid_values,
    round_to_grid,
)

_LEAST_SCALE = 1e-4
_MOST_SALIENT = 49
_FIRST_QUANTILE, _LAST_QUANTILE, _QUANTILES = 0.10, 0.90, 81


def gptq_by_columns(
    weight: Float[Tensor, "out inputs"],
    hessian: Float[Tensor, "inputs inputs"],
    grid: GridOptions,
    *,
    damping: float = 0.01,
    act_order: bool = False,
    block: int = 128,
) -> Float[Tensor, "out inputs"]:
    """Return GPTQ's weight, one column at a time, with the inverse Hessian formed as the paper writes it.

    Source: arXiv 2210.17323, Algorithm 1; arXiv 2505.02214, section 2.1.
    """
    inputs = weight.shape[1]
    group = grid.group_of_width(inputs)
    h, w = hessian.double().clone(), weight.clone()
    scale, zero = fit_grid(w, grid)
    dead = h.diagonal() == 0
    h[dead, dead] = 1.0
    w[:, dead] = 0.0
    order = torch.argsort(h.diagonal(), descending=True, stable=True) if act_order else torch.arange(inputs)
    w, h = w[:, order], h[order][:, order]
    h += damping * h.diagonal().mean() * torch.eye(inputs)
    upper = torch.linalg.cholesky(torch.linalg.inv(h), upper=True).float()
    quantised = torch.zeros_like(w)
    for first in range(0, inputs, block):
        last = min(first + block, inputs)
        current, errors = w[:, first:last].clone(), torch.zeros(len(w), last - first)
        for i in range(first, last):
            if group != inputs and i % group == 0:
                scale, zero = fit_grid(w[:, i : i + group], grid)
            column = current[:, i - first : i - first + 1]
            rounded = (round_to_grid(column, scale, zero, grid.levels) - zero) * scale
            quantised[:, i] = rounded[:, 0]
            errors[:, i - first] = (column - rounded)[:, 0] / upper[i, i]
            current[:, i - first :] -= errors[:, i - first, None] * upper[i, i:last]
        w[:, last:] -= errors @ upper[first:last, last:]
    return quantised[:, torch.argsort(order)]


def best_ratio(
    mean_absolute: Float[Tensor, " inputs"],
    weights: list[Float[Tensor, "_ inputs"]],
    output_of: Callable[[list[Tensor]], Tensor],
    grid: GridOptions,
    ratios: int = 20,
) -> tuple[float, list[float]]:
    """Return AWQ's exponent and every exponent's error, by running each candidate over all tokens.

    Args:
        mean_absolute: mean |x| of each input channel.
        weights: of the unit.
        output_of: gives the inspected output for other weights.
        grid: of the codes.
        ratios: how many exponents.

    Source: arXiv 2306.00978, section 3.2, and its code.
    """
    exact, errors = output_of(weights), []
    for step in range(ratios):
        scales = mean_absolute.pow(step / ratios).clamp(min=_LEAST_SCALE)
        scales = scales / (scales.max() * scales.min()).sqrt()
        rounded = [grid_values(weight * scales, grid) / scales for weight in weights]
        errors.append(float((output_of(rounded) - exact).double().square().mean()))
    return errors.index(min(errors)) / ratios, errors


def clip_limits_by_tokens(
    weight: Float[Tensor, "out inputs"],
    sample: Float[Tensor, "tokens inputs"],
    grid: GridOptions,
    steps: int = 20,
    tried: int = 10,
) -> Float[Tensor, "out groups"]:
    """Return AWQ's clipping limits, by going through the tokens for every row, group and limit.

    Source: arXiv 2306.00978, its code.
    """
    group = grid.group_of_width(weight.shape[1])
    limits = torch.empty(len(weight), weight.shape[1] // group)
    whole = replace(grid, group_size=-1)
    for row in range(limits.shape[0]):
        for number in range(limits.shape[1]):
            columns = slice(number * group, (number + 1) * group)
            part, tokens = weight[row : row + 1, columns], sample[:, columns].double()
            least = float("inf")
            for step in range(tried):
                limit = part.abs().max() * (1.0 - step / steps)
                rounded = grid_values(part.clamp(-limit, limit), whole)
                error = float(((rounded - part).double() @ tokens.T).square().mean())
                if error < least:
                    least, limits[row, number] = error, limit
    return limits


def binarise_residual(
    values: Float[Tensor, "rows columns"], mask: Bool[Tensor, "rows columns"], order: int
) -> Float[Tensor, "rows columns"]:
    """Return the order-`order` binarisation of the masked entries; 0 elsewhere.

    Source: arXiv 2402.04291, section 3.2.
    """
    total = torch.zeros_like(values)
    count = mask.sum(1, keepdim=True).clamp(min=1)
    for _ in range(order):
        rest = (values - total).masked_fill(~mask, 0.0)
        mean = rest.sum(1, keepdim=True) / count
        centred = (rest - mean).masked_fill(~mask, 0.0)
        size = centred.abs().sum(1, keepdim=True) / count
        total += (centred.sign() * size + mean).masked_fill(~mask, 0.0)
    return total


def search_structure(saliency: Float[Tensor, "rows columns"]) -> tuple[list[int], float]:
    """Return BiLLM's salient columns and split threshold for one block, by trying every candidate in full.

    Source: arXiv 2402.04291, sections 3.2 and 3.3; arXiv 2505.02214's code for the ranges searched.
    """
    rows, columns = saliency.shape
    ranking = torch.argsort(saliency.abs().sum(0), descending=True, stable=True)
    best, chosen = float("inf"), ranking[:1]
    for count in range(1, min(_MOST_SALIENT, columns) + 1):
        salient = torch.zeros(rows, columns, dtype=torch.bool)
        salient[:, ranking[:count]] = True
        values = binarise_residual(saliency, salient, 2) + binarise_residual(saliency, ~salient, 2)
        error = float((saliency - values).square().mean())
        if error < best:
            best, chosen = error, ranking[:count]
    salient = torch.zeros(rows, columns, dtype=torch.bool)
    salient[:, chosen] = True
    of_salient = binarise_residual(saliency, salient, 2)
    sizes = saliency.abs().masked_fill(salient, 0.0)
    candidates = torch.linspace(_FIRST_QUANTILE, _LAST_QUANTILE, _QUANTILES, dtype=torch.float64)
    best, threshold = float("inf"), 0.0
    for candidate in torch.quantile(sizes.double().flatten(), candidates).float():
        small = ~salient & (saliency.abs() < candidate)
        large = ~salient & ~small
        values = binarise_residual(saliency, small, 1) + binarise_residual(saliency, large, 1) + of_salient
        error = float((saliency - values).square().mean())
        if error < best:
            best, threshold = error, float(candidate)
    return sorted(chosen.tolist()), threshold


def billm_by_blocks(
    weight: Float[Tensor, "out inputs"],
    hessian: Float[Tensor, "inputs inputs"],
    saliency: str,
    *,
    damping: float = 0.01,
    block: int = 128,
) -> Float[Tensor, "out inputs"]:
    """Return BiLLM's weight: the inverse Hessian formed as the paper writes it, every candidate tried in full.

    Args:
        weight: W.
        hessian: 2/N Σ x xᵀ.
        saliency: "magnitude", W itself, or "hessian", W² / U_jj². The structure is searched on it, the masks
            are applied to W.
        damping: share of the Hessian's mean diagonal added to it.
        block: columns binarised together.

    Source: arXiv 2402.04291, Algorithm 1; arXiv 2505.02214's code for the order of steps.
    """
    h, w = hessian.double().clone(), weight.clone()
    dead = h.diagonal() == 0
    h[dead, dead] = 1.0
    w[:, dead] = 0.0
    h += damping * h.diagonal().mean() * torch.eye(len(h))
    upper = torch.linalg.cholesky(torch.linalg.inv(h), upper=True).float()
    result = torch.zeros_like(w)
    for first in range(0, len(h), block):
        last = min(first + block, len(h))
        part, diagonal = w[:, first:last], upper.diagonal()[first:last]
        importance = part if saliency == "magnitude" else part.square() / diagonal.square()
        columns, threshold = search_structure(importance)
        salient = torch.zeros_like(part, dtype=torch.bool)
        salient[:, columns] = True
        small = ~salient & (importance.abs() < threshold)
        binary = binarise_residual(part, salient, 2)
        binary += binarise_residual(part, small, 1) + binarise_residual(part, ~salient & ~small, 1)
        result[:, first:last] = binary
        w[:, last:] -= ((part - binary) / diagonal) @ upper[first:last, last:]
    return result
