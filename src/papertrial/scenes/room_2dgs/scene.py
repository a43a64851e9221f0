"""The scene: seeds, and the networks that decode them into surfels for a view."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera
from papertrial.scenes.room_2dgs.settings import SeedSettings
from papertrial.scenes.scaffold import (
    Anchors,
    Decoded,
    Decoder,
    filter_tracks,
    remove_outliers,
    visible_anchors,
)
from papertrial.scenes.scaffold.anchors import SCALINGS
from papertrial.scenes.snapshots import Snapshot, read_snapshot, write_snapshot
from papertrial.scenes.splatting.primitives import NEAR

_FORMAT = "room_2dgs"
_SHORTEST_CLOUD = 2


class SeedScene(nn.Module):
    """Seeds of a room and the networks they share.

    Attributes:
        anchors: the seeds.
        decoder: opacity, covariance and colour networks.
        near: depth up to which no seed is seen: the rasteriser's, in scene units.

    Source: arXiv 2412.03428, section 4.1.
    """

    def __init__(self, anchors: Anchors, decoder: Decoder, near: float = NEAR) -> None:
        """Hold seeds and networks; see `from_points` and `load`."""
        super().__init__()
        self.near = near
        self.anchors = anchors
        self.decoder = decoder

    @classmethod
    def from_points(
        cls,
        points: Float[Tensor, "n 3"],
        settings: SeedSettings | None = None,
        *,
        track_lengths: Int[Tensor, " tracks"] | None = None,
        cameras: int = 0,
    ) -> SeedScene:
        """Make seeds of sparse points: points of short tracks go, and each voxel that is left gives one.

        Args:
            points: of structure from motion.
            settings: voxel, sizes, the rasteriser's near and the seed of the networks.
            track_lengths: in how many photographs each point was found; where it is None, points that are far from
                their neighbours go instead.
            cameras: how many training cameras there are, wanted where `appearance` is on.

        Raises:
            BadInputError: no points, none with a track long enough, or a voxel that leaves one seed.
        """
        settings = settings or SeedSettings()
        if len(points) < _SHORTEST_CLOUD:
            raise BadInputError(
                f"seeds come from the sparse points of structure from motion, got {len(points)} points"
            )
        if track_lengths is not None and len(track_lengths) != len(points):
            raise BadInputError(f"{len(points)} points have {len(track_lengths)} track lengths")
        kept = (
            remove_outliers(points)
            if track_lengths is None
            else filter_tracks(track_lengths, settings.least_track)
        )
        anchors = Anchors.from_points(
            points[kept],
            settings.voxel,
            per_anchor=settings.per_anchor,
            feature_size=settings.feature_size,
        )
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            decoder = Decoder(
                settings.per_anchor,
                settings.feature_size,
                sees_distance=settings.sees_distance,
                cameras=cameras if settings.appearance else 0,
            ).to(points)
        return cls(anchors, decoder, settings.rules.near)

    def decode(
        self, camera: Camera, visible: Int[Tensor, " v"] | None = None, appearance: int | None = None
    ) -> Decoded:
        """Return the surfels that a camera is shown.

        Args:
            camera: that looks.
            visible: seeds to decode; those that it may see if not given.
            appearance: which training camera's appearance vector is used, where the scene has some.
        """
        state = self.anchors.state()
        chosen = visible_anchors(state, camera, self.near) if visible is None else visible
        return self.decoder.decode(state, camera, anchors=chosen, appearance=appearance)

    def save(self, path: Path) -> None:
        """Write the scene into one safetensors file."""
        decoder = self.decoder
        facts = {
            "format": _FORMAT,
            "voxel": self.anchors.voxel,
            "near": self.near,
            "per_anchor": self.anchors.per_anchor,
            "feature_size": self.anchors.features.shape[1],
            "hidden": decoder.opacity[0].out_features,
            "sees_distance": sorted(decoder.sees_distance),
            "cameras": 0 if decoder.appearances is None else decoder.appearances.num_embeddings,
        }
        write_snapshot(path, Snapshot(self.state_dict(), facts))

    @classmethod
    def load(cls, path: Path) -> SeedScene:
        """Read what `save` wrote.

        Raises:
            BadInputError: another file.
        """
        found = read_snapshot(path)
        facts = found.facts
        if facts.get("format") != _FORMAT:
            raise BadInputError(f"{path} holds no scene of seeds but {facts.get('format')!r}")
        positions = found.tensors["anchors.positions"]
        sizes = {"per_anchor": facts["per_anchor"], "feature_size": facts["feature_size"]}
        anchors = Anchors(positions, positions.new_zeros(len(positions), SCALINGS), facts["voxel"], **sizes)
        decoder = Decoder(
            **sizes, hidden=facts["hidden"], sees_distance=facts["sees_distance"], cameras=facts["cameras"]
        )
        scene = cls(anchors, decoder.to(positions), facts.get("near", NEAR))
        scene.load_state_dict(dict(found.tensors))
        return scene
