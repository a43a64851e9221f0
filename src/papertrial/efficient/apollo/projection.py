"""The auxiliary space: how a gradient matrix is projected to rank r, and where the projection comes from.

Legend: a, b rows and columns of the weight; m = min(a, b); n = max(a, b); r the rank. A *channel* is one
index of the larger dimension: a row of a tall or square weight, a column of a wide one. The projection
shrinks the smaller dimension from m to r and leaves the channels alone.
"""

from __future__ import annotations

import hashlib
import math

import torch
from jaxtyping import Float
from torch import Tensor

_SEED_DRAWS = 15
_LARGEST_SEED = 2**63 - 1


def is_wide(shape: torch.Size | tuple[int, int]) -> bool:
    """Return whether a weight of this shape has more columns than rows (a square one counts as tall)."""
    rows, columns = shape
    return rows < columns


def channel_dim(shape: torch.Size | tuple[int, int]) -> int:
    """Return the dimension that counts channels: 1 for a wide weight, 0 for a tall or square one."""
    return 1 if is_wide(shape) else 0


def projection_shape(shape: torch.Size | tuple[int, int], rank: int) -> tuple[int, int]:
    """Return the projection's shape for a weight (a, b): (a, r) if it is wide, else (r, b).

    Source: arXiv 2412.05270, Algorithm 1.
    """
    rows, columns = shape
    return (rows, rank) if is_wide(shape) else (rank, columns)


def first_seed(number: int, run_seed: int) -> int:
    """Return the seed of a parameter's first projection.

    With `run_seed` 0 it is the parameter's number (1, 2, 3, … over all groups), as in the released code;
    any other run seed gives every parameter a seed of its own, independent of the released ones.
    """
    if run_seed == 0:
        return number
    digest = hashlib.blake2b(f"{run_seed}:{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _LARGEST_SEED


def next_seed(seed: int) -> int:
    """Return the seed of the projection that follows the one drawn from `seed`.

    The last of fifteen int64 draws from a CPU generator seeded with the old seed: the order of the
    released code, so that equal seeds give its projections.
    """
    generator = torch.Generator().manual_seed(seed)
    return int(torch.randint(0, _LARGEST_SEED, (_SEED_DRAWS,), generator=generator)[-1])


def draw_projection(
    seed: int,
    shape: tuple[int, int],
    rank: int,
    *,
    dtype: torch.dtype,
    device: torch.device,
    draw_on: str = "cpu",
) -> Float[Tensor, "rows columns"]:
    """Draw a projection with independent N(0, 1/r) entries, in float32 and then cast.

    Args:
        seed: the same seed gives the same projection on one kind of device.
        shape: as `projection_shape` gives it.
        rank: r.
        dtype: of the result, the gradient's.
        device: of the result, the gradient's.
        draw_on: `cpu` draws on the CPU and moves the result, so that a checkpoint continues on another
            device with the same projection; `gradient` draws on the gradient's device, as the released
            code does (its CPU and CUDA runs therefore differ).

    Source: arXiv 2412.05270, Algorithm 1.
    """
    source = torch.device("cpu") if draw_on == "cpu" else device
    generator = torch.Generator(device=source).manual_seed(seed)
    drawn = torch.randn(shape, generator=generator, device=source, dtype=torch.float32)
    return drawn.div_(math.sqrt(rank)).to(device=device, dtype=dtype)


def svd_projection(gradient: Float[Tensor, "a b"], rank: int) -> Float[Tensor, "rows columns"]:
    """Return the projection onto the gradient's first `rank` singular vectors on its smaller side.

    The decomposition is in float32; the result has the gradient's dtype: (r, b) for a tall or square
    gradient, (a, r) for a wide one. The signs of the vectors do not matter to the scaling factors.

    Source: arXiv 2412.05270, section 3.2 ("APOLLO w. SVD"); arXiv 2403.03507 for GaLore.
    """
    left, _, right = torch.linalg.svd(gradient.float(), full_matrices=False)
    chosen = left[:, :rank] if is_wide(gradient.shape) else right[:rank]
    return chosen.to(gradient.dtype).contiguous()


def project(
    gradient: Float[Tensor, "a b"], projection: Float[Tensor, "rows columns"]
) -> Float[Tensor, "projected_a projected_b"]:
    """Return the gradient in the auxiliary space: (a, r) for a tall or square one, (r, b) for a wide one."""
    if is_wide(gradient.shape):
        return projection.T @ gradient
    return gradient @ projection.T
