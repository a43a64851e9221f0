"""Colours that depend on where one looks from: real spherical harmonics to degree 3, with splatting's signs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError

MOST_DEGREE = 3
CONSTANT = 0.28209479177387814  # the harmonic of degree 0: 1 / (2 sqrt(pi))
SHIFT = 0.5  # colours are coded about grey


def harmonics(directions: Float[Tensor, "n 3"], degree: int) -> Float[Tensor, "n terms"]:
    """Return the real harmonics of directions, ordered by degree l and then by m = -l … l.

    Args:
        directions: from the camera to what is seen; normalised here.
        degree: 0 to 3; there are `(degree + 1)²` terms.

    Raises:
        BadInputError: another degree.

    Source: arXiv 2308.04079; the Condon-Shortley signs are those that its files store coefficients in.
    """
    if not 0 <= degree <= MOST_DEGREE:
        raise BadInputError(f"harmonics are of degree 0 to {MOST_DEGREE}, got {degree}")
    x, y, z = torch.nn.functional.normalize(directions, dim=-1).unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    terms = [torch.full_like(x, CONSTANT)]
    if degree >= 1:
        first = 0.4886025119029199
        terms += [-first * y, first * z, -first * x]
    if degree >= 2:
        terms += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * zz - xx - yy),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
        ]
    if degree >= 3:
        terms += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * zz - xx - yy),
            0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
            -0.4570457994644658 * x * (4 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    return torch.stack(terms, dim=-1)


def colours(
    coefficients: Float[Tensor, "n terms channels"],
    directions: Float[Tensor, "n 3"],
    degree: int | None = None,
) -> Float[Tensor, "n channels"]:
    """Return `max(harmonics · coefficients + 0.5, 0)`: the colour of each primitive in its direction.

    Args:
        coefficients: 1, 4, 9 or 16 a channel.
        directions: from the camera's centre to each primitive's; normalised here.
        degree: use the harmonics up to here alone, as training does that raises it step by step; None for all.

    Raises:
        BadInputError: a number of coefficients that is no square up to 16, or fewer than the degree needs.
    """
    terms = coefficients.shape[1]
    held = {(degree + 1) ** 2: degree for degree in range(MOST_DEGREE + 1)}.get(terms)
    if held is None:
        raise BadInputError(f"there are 1, 4, 9 or 16 coefficients a channel, got {terms}")
    if degree is None:
        degree = held
    if degree > held:
        raise BadInputError(f"degree {degree} needs {(degree + 1) ** 2} coefficients a channel, got {terms}")
    basis = harmonics(directions, degree)
    summed = torch.einsum("nt,ntc->nc", basis, coefficients[:, : basis.shape[1]])
    return (summed + SHIFT).clamp(min=0.0)


def constant_coefficients(
    colour: Float[Tensor, "n channels"], degree: int = MOST_DEGREE
) -> Float[Tensor, "n terms channels"]:
    """Return coefficients with which primitives have a colour from everywhere."""
    first = (colour - SHIFT) / CONSTANT
    rest = colour.new_zeros(colour.shape[0], (degree + 1) ** 2 - 1, colour.shape[1])
    return torch.cat([first[:, None], rest], dim=1)
