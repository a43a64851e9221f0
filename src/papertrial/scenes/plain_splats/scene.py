"""The scene: one primitive a point, with harmonics for its colour."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from papertrial.errors import BadInputError, unknown
from papertrial.scenes.cameras import Camera
from papertrial.scenes.harmonics import MOST_DEGREE, colours, constant_coefficients
from papertrial.scenes.plain_splats.settings import Rates
from papertrial.scenes.ply import write_splats
from papertrial.scenes.scaffold.seeds import nearest_distances
from papertrial.scenes.snapshots import Snapshot, read_snapshot, write_snapshot
from papertrial.scenes.splatting.primitives import KINDS, Kind, Primitives

FIRST_OPACITY = 0.1
_LEAST_SQUARED = 1e-7  # of the mean squared distance to the nearest points
_EPSILON = 1e-15  # of Adam
_FORMAT = "plain_splats"

ROWS = ("means", "quats", "log_scales", "opacity_logits", "base", "bands")
"""Parameters with a row for every primitive."""
STATISTICS = ("gradient_sum", "gradient_count", "radius")
"""Buffers with a row for every primitive: what densification has seen since its last update."""


class SplatScene(nn.Module):
    """Surfels or Gaussians with a colour that depends on where one looks from.

    Attributes:
        kind: "surfel" (two scales) or "gaussian" (three).
        means: centres in the world (n, 3).
        quats: rotations (w, x, y, z), not normalised (n, 4).
        log_scales: logarithms of the standard deviations (n, 2 or 3).
        opacity_logits: of the opacities (n,).
        base: coefficients of the constant harmonic (n, 1, 3).
        bands: those of the others (n, terms - 1, 3).

    Source: arXiv 2403.17888, section 4 (surfels), arXiv 2308.04079, section 5 (Gaussians).
    """

    gradient_sum: Tensor
    gradient_count: Tensor
    radius: Tensor

    def __init__(self, rows: Mapping[str, Tensor], kind: Kind = "surfel") -> None:
        """Hold the given parameters; see `from_points` and `load`.

        Raises:
            BadInputError: an unknown kind, or rows that do not fit it or each other.
        """
        super().__init__()
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)
        _check_rows(rows, kind)
        self.kind: Kind = kind
        self.means = nn.Parameter(rows["means"].clone())
        self.quats = nn.Parameter(rows["quats"].clone())
        self.log_scales = nn.Parameter(rows["log_scales"].clone())
        self.opacity_logits = nn.Parameter(rows["opacity_logits"].clone())
        self.base = nn.Parameter(rows["base"].clone())
        self.bands = nn.Parameter(rows["bands"].clone())
        for name in STATISTICS:
            self.register_buffer(name, rows["means"].new_zeros(len(rows["means"])))

    @classmethod
    def from_points(
        cls,
        points: Float[Tensor, "n 3"],
        point_colours: Float[Tensor, "m 3"],
        kind: Kind = "surfel",
        *,
        degree: int = MOST_DEGREE,
        seed: int = 0,
    ) -> SplatScene:
        """Return a primitive at every point: as wide as its three nearest are away, turned at random, opacity 0.1.

        Args:
            points: of structure from motion.
            point_colours: one for each, within 0 and 1; the same from everywhere at first.
            kind: "surfel" or "gaussian".
            degree: of the harmonics that there is room for.
            seed: of the rotations: quaternions of four numbers uniform within 0 and 1, as released.

        Raises:
            BadInputError: fewer than two points, points that are not finite, colours outside 0 to 1 or of another
                number, an unknown kind.

        Source: the released code of both papers.
        """
        if len(points) != len(point_colours):
            raise BadInputError(f"{len(points)} points have {len(point_colours)} colours")
        if len(point_colours) and not (float(point_colours.min()) >= 0 and float(point_colours.max()) <= 1):
            raise BadInputError("colours of points must lie within 0 and 1")
        draw = torch.Generator().manual_seed(seed)
        turned = torch.rand(len(points), 4, generator=draw).to(points)
        squared = nearest_distances(points).square().clamp(min=_LEAST_SQUARED)
        coefficients = constant_coefficients(point_colours.to(points), degree)
        opacity = math.log(FIRST_OPACITY / (1 - FIRST_OPACITY))
        rows = {
            "means": points,
            "quats": torch.nn.functional.normalize(turned, dim=-1),
            "log_scales": squared.sqrt().log()[:, None].expand(-1, 2 if kind == "surfel" else 3),
            "opacity_logits": torch.full_like(points[:, 0], opacity),
            "base": coefficients[:, :1],
            "bands": coefficients[:, 1:],
        }
        return cls(rows, kind)

    def __len__(self) -> int:
        return len(self.means)

    @property
    def degree(self) -> int:
        """Of the harmonics that there is room for."""
        return math.isqrt(1 + self.bands.shape[1]) - 1

    def extents(self) -> Float[Tensor, "n axes"]:
        """Return the standard deviations: two for surfels, three for Gaussians."""
        return self.log_scales.exp()

    def opacities(self) -> Float[Tensor, " n"]:
        """Return the opacities."""
        return self.opacity_logits.sigmoid()

    def primitives(self) -> Primitives:
        """Return what is rasterised; a surfel's third scale is 0."""
        extents = self.extents()
        scales = torch.nn.functional.pad(extents, (0, 3 - extents.shape[1]))
        return Primitives(self.means, self.quats, scales, self.opacities())

    def coefficients(self) -> Float[Tensor, "n terms 3"]:
        """Return all coefficients of the harmonics."""
        return torch.cat([self.base, self.bands], dim=1)

    def colours(self, camera: Camera, degree: int | None = None) -> Float[Tensor, "n 3"]:
        """Return each primitive's colour from a camera, by harmonics up to `degree` (all if None)."""
        used = self.coefficients() if degree != 0 else self.base
        return colours(used, self.means - camera.centre, degree)

    def rows(self) -> dict[str, Tensor]:
        """Return the parameters by name, without gradients."""
        return {name: getattr(self, name).detach() for name in ROWS}

    def save(self, path: Path) -> None:
        """Write the scene into one safetensors file."""
        write_snapshot(path, Snapshot(self.rows(), {"format": _FORMAT, "kind": self.kind}))

    @classmethod
    def load(cls, path: Path) -> SplatScene:
        """Read what `save` wrote.

        Raises:
            BadInputError: another file.
        """
        found = read_snapshot(path)
        if found.facts.get("format") != _FORMAT:
            raise BadInputError(f"{path} holds no plain splats but {found.facts.get('format')!r}")
        return cls(found.tensors, found.facts["kind"])

    def write_ply(self, path: Path) -> None:
        """Write the primitives as viewers of splats read them."""
        write_splats(path, self.primitives(), self.coefficients(), self.kind)


def make_optimizer(scene: SplatScene, rates: Rates, extent: float) -> torch.optim.Adam:
    """Return Adam with a group for each of the scene's parameters, named as it is.

    Args:
        scene: whose rows are trained.
        rates: of learning.
        extent: of the scene, in its unit: what the rate of positions is multiplied by.

    Raises:
        BadInputError: an extent that is not above 0.
    """
    if not 0 < extent < math.inf:
        raise BadInputError(
            f"the scene's extent must be above 0, got {extent}: cameras that all stand in one place have none; "
            "give the size of what they see"
        )
    of_each = {
        "means": rates.position * extent,
        "quats": rates.rotation,
        "log_scales": rates.scale,
        "opacity_logits": rates.opacity,
        "base": rates.colour,
        "bands": rates.bands,
    }
    groups = [{"params": [getattr(scene, name)], "lr": rate, "name": name} for name, rate in of_each.items()]
    return torch.optim.Adam(groups, lr=0.0, eps=_EPSILON)


def _check_rows(rows: Mapping[str, Tensor], kind: Kind) -> None:
    missing = [name for name in ROWS if name not in rows]
    if missing:
        raise BadInputError(f"a scene needs {', '.join(ROWS)}; {', '.join(missing)} missing")
    count = len(rows["means"])
    shapes = {
        "means": (3,),
        "quats": (4,),
        "log_scales": (2,) if kind == "surfel" else (3,),
        "opacity_logits": (),
        "base": (1, 3),
        "bands": (rows["bands"].shape[1] if rows["bands"].ndim == 3 else 0, 3),
    }
    for name, shape in shapes.items():
        if tuple(rows[name].shape) != (count, *shape):
            raise BadInputError(
                f"{name} of {count} primitives of kind {kind} has shape {[count, *shape]}, "
                f"got {list(rows[name].shape)}"
            )
    if rows["bands"].shape[1] not in (0, 3, 8, 15):
        raise BadInputError(f"bands are 0, 3, 8 or 15 coefficients a channel, got {rows['bands'].shape[1]}")
