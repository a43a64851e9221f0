"""BiLLM: signs for every weight, two of them in the few salient columns, and the others split by size.

Source: arXiv 2402.04291; settings and order of steps as in the code of arXiv 2505.02214.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from papertrial.efficient.accounting import WeightBytes, binary_bytes
from papertrial.efficient.binary_linear import BinaryParts, binarise_parts
from papertrial.efficient.qwen3_quantization.gptq import InverseFactor, inverse_factor
from papertrial.efficient.qwen3_quantization.grids import check_finite
from papertrial.efficient.qwen3_quantization.naive import binarise_residual
from papertrial.errors import BadInputError, unknown

Saliency = Literal["magnitude", "hessian"]
"""What a weight's importance is: the weight itself (the released default), or w² / U_jj²."""

MOST_SALIENT = 49
QUANTILES = np.linspace(0.10, 0.90, 81)


@dataclass(frozen=True)
class BillmOptions:
    """How BiLLM runs; the defaults are the released ones.

    Attributes:
        saliency: see `Saliency`.
        block: columns that are structured and binarised together.
        damping: as for GPTQ.
        scale_dtype: the format of means and sizes, in which the weight can be stored. None as released:
            float32, and an entry exactly at its mean stays there, which a sign bit cannot say.
    """

    saliency: Saliency = "magnitude"
    block: int = 128
    damping: float = 0.01
    scale_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.saliency not in get_args(Saliency):
            raise unknown("saliency", self.saliency, get_args(Saliency))
        if self.block < 2:
            raise BadInputError(f"block must be at least 2, got {self.block}")


@dataclass(frozen=True)
class BinaryWeight:
    """A binarised weight.

    Attributes:
        weight: the values, as float32.
        salient: for each column, whether it is salient.
        bytes: what it takes with all signs, masks, means and sizes.
        nominal_bits: bits a weight as the paper counts them: signs alone.
        parts: what is stored; None where `scale_dtype` is None.
    """

    weight: Float[Tensor, "out inputs"]
    salient: Bool[Tensor, " inputs"]
    bytes: WeightBytes
    nominal_bits: float
    parts: BinaryParts | None = None


def billm_weight(
    weight: Float[Tensor, "out inputs"],
    hessian: Float[Tensor, "inputs inputs"],
    options: BillmOptions | None = None,
    *,
    factor: InverseFactor | None = None,
    name: str = "the layer",
) -> BinaryWeight:
    """Binarise a weight block by block; what a block gets wrong is made up for in later blocks only.

    Args:
        weight: W.
        hessian: 2/N Σ x xᵀ.
        options: saliency, block, damping and storage.
        factor: of this Hessian without activation order, where several calls share it.
        name: for messages.

    Raises:
        BadInputError: as `inverse_factor`.

    Source: arXiv 2402.04291, Algorithm 1.
    """
    options = options or BillmOptions()
    check_finite(weight, name)
    factor = factor or inverse_factor(hessian, damping=options.damping, name=name)
    work = weight.detach().float().cpu().masked_fill(factor.dead, 0.0)
    inputs = work.shape[1]
    result = torch.empty_like(work)
    salient = torch.zeros(inputs, dtype=torch.bool)
    stored: list[BinaryParts] = []
    for first in range(0, inputs, options.block):
        last = min(first + options.block, inputs)
        block, upper = work[:, first:last], factor.upper[first:last]
        diagonal = upper[:, first:last].diagonal()
        saliency = block if options.saliency == "magnitude" else block.square() / diagonal.square()
        columns, threshold = find_structure(saliency)
        salient[first + torch.tensor(columns)] = True
        if options.scale_dtype is None:
            binary = binarise_block(block, saliency, salient[first:last], threshold)
        else:
            stored.append(
                binarise_parts(block, saliency, salient[first:last], threshold, options.scale_dtype)
            )
            binary = stored[-1].dequantize()
        result[:, first:last] = binary
        work[:, last:].addmm_((block - binary) / diagonal, upper[:, last:], alpha=-1.0)
    scale_bytes = (options.scale_dtype or torch.float32).itemsize
    size = binary_bytes(salient, len(work), block=options.block, scale_bytes=scale_bytes)
    nominal_bits = 1.0 + float(salient.float().mean())
    return BinaryWeight(result, salient, size, nominal_bits, _joined(stored, options.block))


def _joined(blocks: list[BinaryParts], block: int) -> BinaryParts | None:
    if not blocks:
        return None
    return BinaryParts(
        signs=torch.cat([one.signs for one in blocks], 1),
        second=torch.cat([one.second for one in blocks], 1),
        salient=torch.cat([one.salient for one in blocks]),
        scales=torch.cat([one.scales for one in blocks], 1),
        block=block,
    )


def binarise_block(
    block: Float[Tensor, "rows columns"],
    saliency: Float[Tensor, "rows columns"],
    salient: Bool[Tensor, " columns"],
    threshold: float,
) -> Float[Tensor, "rows columns"]:
    """Return a block's three parts binarised: salient columns twice, the others once, split by saliency."""
    columns = salient.expand_as(block)
    small = ~columns & (saliency.abs() < threshold)
    large = ~columns & ~small
    parts = ((columns, 2), (small, 1), (large, 1))
    return torch.stack([binarise_residual(block, mask, order) for mask, order in parts]).sum(0)


def find_structure(saliency: Float[Tensor, "rows columns"]) -> tuple[list[int], float]:
    """Return the salient columns of a block and the threshold that splits the others.

    The picks of `naive.search_structure`, in one pass over sorted values and running sums. Sums are
    float64: candidates whose errors agree to fifteen digits may be told apart otherwise.

    Source: arXiv 2402.04291, sections 3.2 and 3.3; the ranges are those of the code of arXiv 2505.02214.
    """
    from papertrial.efficient.qwen3_quantization.billm_kernels import salient_errors, split_errors

    rows, columns = saliency.shape
    if columns < 2:
        raise BadInputError(f"a block needs at least two columns, got {columns}")
    ranking = torch.argsort(saliency.abs().sum(0), descending=True, stable=True)
    ranked = saliency[:, ranking].double().numpy()
    errors = np.zeros(min(MOST_SALIENT, columns))
    salient_errors(np.ascontiguousarray(ranked), len(errors), errors, 0, rows)
    count = int(np.argmin(errors)) + 1
    rest = saliency[:, ranking[count:]]
    sizes = torch.zeros(rows, columns, dtype=torch.float64)
    sizes[:, count:] = rest.abs()
    thresholds = np.quantile(sizes.numpy(), QUANTILES).astype(np.float32).astype(np.float64)
    errors = np.zeros(len(QUANTILES))
    split_errors(torch.sort(rest.double(), dim=1).values.numpy(), thresholds, errors, 0, rows)
    return sorted(ranking[:count].tolist()), float(thresholds[int(np.argmin(errors))])
