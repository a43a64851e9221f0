"""Maps between two embedding spaces, fitted on pairs of rows: by gradient steps, or in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from papertrial.errors import BadInputError, unknown
from papertrial.models import seeded

_COLUMNS = 512  # of XᵀX at once


@dataclass(frozen=True)
class AffineMap:
    """x ↦ x · matrix + offset.

    Attributes:
        matrix: (from, to).
        offset: added to every row.
    """

    matrix: Float[Tensor, "source target"]
    offset: Float[Tensor, " target"]

    def __call__(self, rows: Float[Tensor, "rows source"]) -> Float[Tensor, "rows target"]:
        """Return the mapped rows."""
        return rows @ self.matrix + self.offset


def fit_aligner(
    x: Float[Tensor, "anchors source"],
    y: Float[Tensor, "anchors target"],
    name: str = "sgd",
    *,
    steps: int = 1000,
    lr: float = 1e-3,
    ridge: float = 1e-3,
    seed: int = 42,
) -> AffineMap:
    """Fit a map from the rows of `x` to those of `y`.

    The published method pads the narrower side with zeros. Padding changes none of the kept numbers except
    through the width that the first weights are drawn for and that the mean runs over, and those two are kept
    here; the padding itself is never computed.

    Args:
        x: rows to map from, as many as `y`.
        y: rows to map to.
        name: "sgd" is a linear layer with bias, drawn from `seed` as `nn.Linear` draws it and trained by
            `steps` full-batch Adam steps on the mean squared error. "matrix" is the least-squares matrix of
            least norm. "ridge" is least squares with a penalty. "ortho" standardises both sides once more,
            rotates, and undoes the second standardisation of `y`, as the library does that the released code
            calls. "rotation" is the plain orthogonal Procrustes solution.
        steps: of "sgd".
        lr: of "sgd".
        ridge: penalty of "ridge", relative to the mean squared norm of a column of `x`.
        seed: of "sgd".

    Raises:
        BadInputError: an unknown name, fewer than two anchors, or "matrix" with fewer anchors than dimensions.

    Source: arXiv 2504.17025, section 3.1 and appendix A.
    """
    fits: dict[str, Callable[[], AffineMap]] = {
        "sgd": lambda: _by_gradient(x, y, steps, lr, seed),
        "matrix": lambda: _least_squares(x, y),
        "ridge": lambda: _ridge(x, y, ridge),
        "ortho": lambda: _twice_standardised(x, y),
        "rotation": lambda: AffineMap(_procrustes(x, y), torch.zeros_like(y[0])),
    }
    if name not in fits:
        raise unknown("aligner", name, fits)
    if len(x) < 2:
        raise BadInputError(f"at least 2 anchors are needed, got {len(x)}")
    return fits[name]()


def standardise(
    rows: Float[Tensor, "rows width"],
) -> tuple[Float[Tensor, " width"], Float[Tensor, " width"]]:
    """Return each column's mean and unbiased standard deviation, 1 where a column hardly varies."""
    deviation = rows.std(0, correction=1)
    flat = deviation < 10 * torch.finfo(rows.dtype).eps
    return rows.mean(0), torch.where(flat, torch.ones_like(deviation), deviation)


def first_weights(width: int, seed: int) -> tuple[Float[Tensor, "width width"], Float[Tensor, " width"]]:
    """Return the weight (out, in) and bias that a linear layer of `width` is drawn with."""
    with seeded(seed):
        layer = nn.Linear(width, width)
    return layer.weight.detach(), layer.bias.detach()


def _by_gradient(x: Tensor, y: Tensor, steps: int, lr: float, seed: int) -> AffineMap:
    """Take the Adam steps on the Gram matrices: the gradients of the full batch, without passing over it.

    With S = XᵀX and C = YᵀX, the gradient of mean((X Wᵀ + b − Y)²) is 2(W S + b Σxᵀ − C) over the number of
    elements: rows × width, the padding included.
    """
    width = max(x.shape[1], y.shape[1])
    weight, bias = (one.to(x) for one in first_weights(width, seed))
    weight = nn.Parameter(weight[: y.shape[1], : x.shape[1]].contiguous())
    bias = nn.Parameter(bias[: y.shape[1]].contiguous())
    gram, cross = x.T @ x, y.T @ x
    sum_x, sum_y = x.sum(0), y.sum(0)
    scale = 2.0 / (len(x) * width)
    optimizer = torch.optim.Adam([weight, bias], lr=lr, fused=True)
    with torch.no_grad():
        for _ in range(steps):
            weight.grad = (weight @ gram + torch.outer(bias, sum_x) - cross).mul_(scale)
            bias.grad = (weight @ sum_x + len(x) * bias - sum_y).mul_(scale)
            optimizer.step()
    return AffineMap(weight.detach().T, bias.detach())


def _least_squares(x: Tensor, y: Tensor) -> AffineMap:
    """Solve XᵀX M = XᵀY in float64: by Cholesky where `x` varies in every direction, else by eigenvectors.

    A direction counts as one in which `x` varies where XᵀX has more there than the rounding of float32 rows
    leaves. The factorisation of XᵀX less that much succeeds exactly if all do, and costs a fiftieth of the
    eigenvectors, which are needed only to leave the other directions out.
    """
    if len(x) < x.shape[1]:
        raise BadInputError(
            f"'matrix' needs at least as many anchors as dimensions ({x.shape[1]}), got {len(x)}; use 'ridge'"
        )
    x64 = x.double()
    gram, cross = _gram(x64), x64.T @ y.double()
    cut = len(x) * torch.finfo(torch.float32).eps ** 2  # of squared singular values
    if _exceeds(gram, cut):
        matrix = torch.cholesky_solve(cross, torch.linalg.cholesky(gram))
    else:
        values, vectors = torch.linalg.eigh(gram)
        kept = values > values[-1] * cut
        basis = vectors[:, kept]
        matrix = basis @ ((basis.T @ cross) / values[kept][:, None])
    return AffineMap(matrix.to(x), torch.zeros_like(y[0]))


def _gram(x: Float[Tensor, "rows width"]) -> Float[Tensor, "width width"]:
    """Return XᵀX; only the blocks on and above the diagonal are multiplied."""
    gram = x.new_empty(x.shape[1], x.shape[1])
    for first in range(0, x.shape[1], _COLUMNS):
        last = first + _COLUMNS
        gram[first:last, first:] = x[:, first:last].T @ x[:, first:]
        gram[last:, first:last] = gram[first:last, last:].T
    return gram


def _exceeds(gram: Float[Tensor, "width width"], cut: float) -> bool:
    """Say whether every eigenvalue is surely above `cut` times the largest, which no row sum of |G| is below."""
    shifted = gram.clone()
    shifted.diagonal().sub_(cut * float(gram.abs().sum(1).max()))
    return int(torch.linalg.cholesky_ex(shifted).info) == 0


def _ridge(x: Tensor, y: Tensor, ridge: float) -> AffineMap:
    if not ridge > 0:
        raise BadInputError(f"ridge must be above 0, got {ridge}; 'matrix' is least squares without penalty")
    gram = (x.T @ x).double()
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    factor = torch.linalg.cholesky(gram)
    matrix = torch.cholesky_solve((x.T @ y).double(), factor)
    return AffineMap(matrix.to(x), torch.zeros_like(y[0]))


def _procrustes(x: Tensor, y: Tensor) -> Float[Tensor, "source target"]:
    """Return the matrix with orthonormal rows or columns that turns `x` nearest to `y`."""
    left, _, right = torch.linalg.svd(x.T @ y, full_matrices=False)
    return left @ right


def _twice_standardised(x: Tensor, y: Tensor) -> AffineMap:
    (mean_x, deviation_x), (mean_y, deviation_y) = standardise(x), standardise(y)
    turn = _procrustes((x - mean_x) / deviation_x, (y - mean_y) / deviation_y)
    matrix = turn / deviation_x[:, None] * deviation_y
    return AffineMap(matrix, mean_y - mean_x @ matrix)
