"""Primitives that are decoded anew for every view, frozen into ones that viewers of splats can show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera
from papertrial.scenes.harmonics import constant_coefficients
from papertrial.scenes.ply import write_splats
from papertrial.scenes.scaffold import Decoded
from papertrial.scenes.splatting import Primitives
from papertrial.scenes.splatting.primitives import Kind

_LEAST_SCALE = 1e-12  # files keep logarithms


class Baked(NamedTuple):
    """Primitives, the colour of each (n, 3), and which of the scaffold's it is (n,)."""

    primitives: Primitives
    colours: Tensor
    slots: Tensor


@torch.no_grad()
def bake(decode: Callable[[Camera], Decoded], cameras: Sequence[Camera]) -> Baked:
    """Return every primitive that any camera is shown, as the camera nearest to it is shown it.

    Opacity and colour of a scaffold's primitives depend on the view, which files of splats have no room for: the baked
    ones look right from where photographs were taken near by, and are an approximation elsewhere.

    Args:
        decode: what a camera is shown; see `scaffold.Decoder`.
        cameras: training views, most often.

    Raises:
        BadInputError: no camera is shown anything.
    """
    rows, away = [], []
    for camera in cameras:
        decoded = decode(camera)
        rows.append(decoded)
        away.append((decoded.means - camera.centre.to(decoded.means)).norm(dim=-1))
    slots, distance = torch.cat([one.slots for one in rows]), torch.cat(away)
    if not len(slots):
        raise BadInputError("there is nothing to write: no camera is shown any primitive")
    order = distance.argsort(stable=True)
    order = order[slots[order].argsort(stable=True)]  # by slot, the nearest camera first
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = slots[order][1:] != slots[order][:-1]
    chosen = order[first]

    def pick(name: str) -> Tensor:
        return torch.cat([getattr(one, name) for one in rows])[chosen]

    scales = pick("scales").clamp(min=_LEAST_SCALE)
    prims = Primitives(pick("means"), pick("raw_quats"), scales, pick("opacities"))
    return Baked(prims, pick("colours"), slots[chosen])


def write_baked(path: Path, baked: Baked, kind: Kind) -> int:
    """Write baked primitives as viewers read them; return how many there are."""
    write_splats(path, baked.primitives, constant_coefficients(baked.colours, degree=0), kind)
    return len(baked.primitives)
