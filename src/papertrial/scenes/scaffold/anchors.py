"""Anchors: places with a feature vector, offsets of their primitives, and two triples of extents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from papertrial.errors import BadInputError
from papertrial.scenes.scaffold.seeds import median_distance, nearest_distances, voxelise

PER_ANCHOR = 10
FEATURES = 32
VOXEL = 0.001  # scene units
SCALINGS = 6  # three that scale the offsets, three that scale the primitives' extents
_LEAST_SQUARED_DISTANCE = 1e-7


class AnchorState(NamedTuple):
    """What primitives are decoded from, and what a deformation takes and gives.

    Attributes:
        positions: (A, 3) in the world.
        features: (A, features).
        offsets: (A, k, 3), in units of the first three scalings.
        scalings: (A, 6), linear: the first three scale the offsets, the last three the extents.
    """

    positions: Tensor
    features: Tensor
    offsets: Tensor
    scalings: Tensor


class Anchors(nn.Module):
    """The parameters of all anchors, a row each.

    Attributes:
        positions: (A, 3), a buffer: anchors do not move.
        features: (A, features), zeros to begin with.
        offsets: (A, k, 3), zeros to begin with.
        log_scalings: (A, 6).
        voxel: edge of the cells that the anchors came from, in scene units.
        row_names: of all tensors that have a row for each anchor.

    Source: Scaffold-GS, arXiv 2312.00109, section 3.2; positions have the learning rate 0 in its code.
    """

    positions: Tensor

    def __init__(
        self,
        positions: Float[Tensor, "a 3"],
        log_scalings: Float[Tensor, "a 6"],
        voxel: float,
        *,
        per_anchor: int = PER_ANCHOR,
        feature_size: int = FEATURES,
        extras: Mapping[str, int] | None = None,
    ) -> None:
        """Make anchors with zero features and offsets.

        Args:
            positions: in the world.
            log_scalings: logarithms.
            voxel: see the class.
            per_anchor: primitives of each anchor.
            feature_size: numbers of each feature vector.
            extras: further parameters with a row for each anchor (a name, and how many numbers): zeros, also for
                anchors that are added.

        Raises:
            BadInputError: no anchors, or sizes that are not above 0.
        """
        super().__init__()
        if not len(positions) or min(per_anchor, feature_size) < 1 or voxel <= 0:
            raise BadInputError(
                f"anchors, primitives of each, features and the voxel must be above 0, "
                f"got {len(positions)}, {per_anchor}, {feature_size} and {voxel}"
            )
        count = len(positions)
        self.voxel = float(voxel)
        self.register_buffer("positions", positions.detach().clone())
        self.features = nn.Parameter(positions.new_zeros(count, feature_size))
        self.offsets = nn.Parameter(positions.new_zeros(count, per_anchor, 3))
        self.log_scalings = nn.Parameter(log_scalings.detach().clone())
        self.extra_names = tuple(extras or ())
        for name, width in (extras or {}).items():
            self.register_parameter(name, nn.Parameter(positions.new_zeros(count, width)))
        self.row_names = ("positions", "features", "offsets", "log_scalings", *self.extra_names)

    @classmethod
    def from_points(
        cls,
        points: Float[Tensor, "n 3"],
        voxel: float = VOXEL,
        *,
        per_anchor: int = PER_ANCHOR,
        feature_size: int = FEATURES,
        extras: Mapping[str, int] | None = None,
    ) -> Anchors:
        """Put an anchor into each voxel that holds points; its extents are the distance to the nearest others.

        Args:
            points: of a sparse cloud that was cleaned (`filter_tracks`, `remove_outliers`).
            voxel: edge of the cells; 0 or below takes `median_distance` of the points.
            per_anchor: see `__init__`.
            feature_size: see `__init__`.
            extras: see `__init__`.

        Raises:
            BadInputError: no points, or all of them in one voxel.

        Source: arXiv 2412.03428, section 4.1 and equation 8; extents as in Scaffold-GS's released code.
        """
        if voxel <= 0:
            voxel = median_distance(points)
        positions = voxelise(points, voxel)
        if len(positions) < 2:
            size = (points.amax(0) - points.amin(0)).tolist()
            raise BadInputError(
                f"a voxel of {voxel:.4g} leaves one anchor of {len(points)} points that span "
                f"{', '.join(f'{edge:.4g}' for edge in size)}; give a voxel much smaller than the scene"
            )
        least = math.sqrt(_LEAST_SQUARED_DISTANCE)
        logs = nearest_distances(positions).clamp(min=least).log()
        return cls(
            positions,
            logs[:, None].repeat(1, SCALINGS),
            voxel,
            per_anchor=per_anchor,
            feature_size=feature_size,
            extras=extras,
        )

    def __len__(self) -> int:
        return self.positions.shape[0]

    @property
    def per_anchor(self) -> int:
        """Primitives of each anchor."""
        return self.offsets.shape[1]

    def state(self) -> AnchorState:
        """Return what is decoded; gradients flow to the parameters."""
        return AnchorState(self.positions, self.features, self.offsets, self.log_scalings.exp())

    def centres(self) -> Float[Tensor, "a k 3"]:
        """Return where the primitives' centres are, without gradient."""
        with torch.no_grad():
            state = self.state()
            return state.positions[:, None] + state.offsets * state.scalings[:, None, :3]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Take as many rows as are stored: a trained scene has other anchors than the one that it began as.

        Parameters stay the same objects, so that an optimiser made for them goes on training them.
        """
        stored = {name: state_dict.get(prefix + name) for name in self.row_names}
        counts = {len(rows) for rows in stored.values() if rows is not None}
        if len(counts) == 1:
            for name, rows in stored.items():
                held = getattr(self, name)
                if rows is not None and len(rows) != len(held):
                    held.data = held.data.new_empty(len(rows), *held.shape[1:])
                    held.grad = None
        super()._load_from_state_dict(dict(state_dict), prefix, *rest)
