"""A moving scene: anchors of all frames, their motion, and what a camera sees at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from papertrial.scenes.cameras import Camera, depth_to_normal
from papertrial.scenes.fitting import Rendering
from papertrial.scenes.hexplane import HexPlane
from papertrial.scenes.modec_gs.deformation import AnchorDeformation, GaussianDeformation
from papertrial.scenes.modec_gs.intervals import AdjustmentSettings, Intervals
from papertrial.scenes.modec_gs.settings import FieldSettings, SceneSettings
from papertrial.scenes.scaffold import Anchors, AnchorState, Decoded, Decoder, visible_anchors
from papertrial.scenes.splatting import RenderOut, Rules, rasterize

GATES = "gates"  # name of the anchors' further rows
_LEAST_ALPHA = 1e-6  # below which a pixel shows nothing


class FrameGaussians(NamedTuple):
    """What one frame is rendered from: its Gaussians, and the anchors (rows of `state`) that they were decoded from."""

    decoded: Decoded
    visible: Tensor
    state: AnchorState


class ModecScene(nn.Module):
    """Anchors, their decoder, a field that moves anchors, and a field that moves what is decoded from them.

    Parts that `settings` leave out are None; without both deformations the scene is still. Everything that is stored
    is a parameter or buffer of this module, or a border of `intervals`.

    Attributes:
        anchors: the global canonical scaffold, trained on all frames.
        decoder: networks that anchors share.
        global_deformation: read at the start of a segment; makes its local canonical scaffold.
        local_deformation: read at the frame's own time.
        intervals: the segments.

    Source: arXiv 2501.03714, section 3.
    """

    def __init__(
        self,
        anchors: Anchors,
        settings: SceneSettings,
        box: Float[Tensor, "2 3"],
        *,
        adjustment: AdjustmentSettings | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Make the scene's networks and fields; the anchors must have the settings' gates (`make_anchors`).

        Args:
            anchors: to begin with.
            settings: what the scene is made of.
            box: corners of the fields.
            adjustment: of the segments, for training.
            generator: of the fields' first values; networks are drawn from torch's own.

        Raises:
            BadInputError: anchors outside the box.
        """
        super().__init__()
        self.settings, self.anchors = settings, anchors
        sizes = (anchors.features.shape[1], anchors.per_anchor)
        self.decoder = Decoder(anchors.per_anchor, anchors.features.shape[1])
        how: dict[str, Any] = {"hidden": settings.hidden, "zero_start": settings.zero_start}

        def field(of: FieldSettings) -> HexPlane:
            return HexPlane(
                box,
                spatial=of.spatial,
                temporal=of.temporal,
                channels=of.channels,
                scales=of.scales,
                time_range=settings.time_range,
                generator=generator,
            )

        self.global_deformation = (
            AnchorDeformation(field(settings.global_field), *sizes, **how) if settings.moves_anchors else None
        )
        self.local_deformation: AnchorDeformation | GaussianDeformation | None = None
        if settings.local == "anchors":
            self.local_deformation = AnchorDeformation(field(settings.local_field), *sizes, **how)
        elif settings.local == "gaussians":
            self.local_deformation = GaussianDeformation(field(settings.local_field), **how)
        self.intervals = Intervals(settings.segments, adjustment)
        for field_ in self.fields():
            field_.check_inside(anchors.positions)

    @property
    def gates(self) -> Tensor | None:
        """The anchors' gate logits, (A, 1) or (A, 2); None where there are none."""
        return getattr(self.anchors, GATES) if self.settings.gate_logits else None

    def fields(self) -> list[HexPlane]:
        """Return the fields that the scene has, the global one first."""
        parts = (self.global_deformation, self.local_deformation)
        return [part.field for part in parts if part is not None]

    def canonical_states(self, segments: Sequence[int]) -> list[AnchorState]:
        """Return the local canonical scaffolds of segments; the anchors as they are where they do not move."""
        state = self.anchors.state()
        if self.global_deformation is None or not segments:
            return [state for _ in segments]
        starts = self.intervals.starts
        times = [starts[segment] for segment in segments]
        # Anchors may grow beyond the box of the first points; training says so (`ModecTraining`).
        return self.global_deformation(state, times, self.gates, outside="clamp")

    def frames(
        self,
        cameras: Sequence[Camera],
        times: Sequence[float],
        *,
        still: bool = False,
        states: Sequence[AnchorState] | None = None,
    ) -> list[FrameGaussians]:
        """Return what cameras are shown at times, one frame for each pair; differentiable.

        Args:
            cameras: that look.
            times: within 0 and 1.
            still: leave out all motion, as in the first stage of training.
            states: of every segment, if they are known already (`canonical_states`).

        Raises:
            BadInputError: a time outside 0 to 1.
        """
        if still:
            own = self.anchors.state()
            found = [own for _ in cameras]
        else:
            segments = [self.intervals.segment(time) for time in times]
            if states is None:
                wanted = sorted(set(segments))
                known = dict(zip(wanted, self.canonical_states(wanted), strict=True))
            else:
                known = dict(enumerate(states))
            found = [known[segment] for segment in segments]
            if isinstance(self.local_deformation, AnchorDeformation):
                found = [
                    self.local_deformation(state, [time], outside="clamp")[0]
                    for state, time in zip(found, times, strict=True)
                ]
        near = self.settings.near
        seen = [visible_anchors(state, camera, near) for state, camera in zip(found, cameras, strict=True)]
        decoded = [
            self.decoder.decode(state, camera, kind="gaussian", anchors=visible)
            for state, camera, visible in zip(found, cameras, seen, strict=True)
        ]
        if isinstance(self.local_deformation, GaussianDeformation) and not still:
            decoded = self.local_deformation(decoded, times)
        return [FrameGaussians(*frame) for frame in zip(decoded, seen, found, strict=True)]

    def rasterize(
        self, decoded: Decoded, camera: Camera, *, backend: str = "auto", track: bool = False
    ) -> RenderOut:
        """Render decoded Gaussians; their colours are the features."""
        return rasterize(
            decoded.primitives(),
            camera.viewmat,
            camera.intrinsics,
            camera.width,
            camera.height,
            features=decoded.colours,
            rules=Rules("gaussian", near=self.settings.near),
            backend=backend,
            track=track,
        )

    def penalty(self) -> Float[Tensor, ""]:
        """Return the weighted regularisers of the fields."""
        settings = (self.settings.global_field, self.settings.local_field)
        parts = (self.global_deformation, self.local_deformation)
        total = self.anchors.features.new_zeros(())
        for part, of in zip(parts, settings, strict=True):
            if part is not None:
                total = total + part.field.penalty(of.penalty)
        return total


class Player:
    """Shows a trained scene: the anchors of every segment are deformed once, and then only the Gaussians of a frame.

    It shows the scene as it was when the player was made.
    """

    @torch.no_grad()
    def __init__(self, scene: ModecScene, *, background: float = 1.0, backend: str = "auto") -> None:
        self.scene, self.background, self.backend = scene, background, backend
        self.states = scene.canonical_states(range(len(scene.intervals)))

    @torch.no_grad()
    def render(self, camera: Camera, time: float) -> Rendering:
        """Return what a camera sees at a time, within 0 and 1.

        Depth is the expected one, normals are those of its map; both are 0 where nothing is.

        Raises:
            BadInputError: a time outside 0 to 1.
        """
        camera = camera.to(self.scene.anchors.positions.device)
        decoded = self.scene.frames([camera], [time], states=self.states)[0].decoded
        out = self.scene.rasterize(decoded, camera, backend=self.backend)
        return to_rendering(out, camera, self.background)


def make_anchors(
    points: Float[Tensor, "n 3"], voxel: float, settings: SceneSettings, *, per_anchor: int = 10
) -> Anchors:
    """Return anchors at the voxels that hold points, with the gates that settings ask for (logits of 0).

    Raises:
        BadInputError: see `Anchors.from_points`.
    """
    extras = {GATES: settings.gate_logits} if settings.gate_logits else None
    return Anchors.from_points(points, voxel, per_anchor=per_anchor, extras=extras)


def over_background(out: RenderOut, background: float) -> Float[Tensor, "h w 3"]:
    """Return a rendering's colours over a grey of this brightness."""
    return out.features + (1 - out.alpha)[..., None] * background


def to_rendering(out: RenderOut, camera: Camera, background: float) -> Rendering:
    """Return what `scenes.fitting` shows of a rasterised frame."""
    shown = out.alpha > _LEAST_ALPHA
    depth = torch.where(shown, out.depth / out.alpha.clamp(min=_LEAST_ALPHA), torch.zeros_like(out.depth))
    normals = depth_to_normal(depth, camera) * out.alpha[..., None]
    return Rendering(over_background(out, background), out.alpha, depth, normals)
