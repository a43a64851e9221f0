"""What the trial holds against each other: one capture, and for each arm a scene and its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import unknown
from papertrial.scenes.cameras import scene_extent
from papertrial.scenes.hexplane import box_around
from papertrial.scenes.modec_gs.hypernerf import load_hypernerf
from papertrial.scenes.modec_gs.scene import GATES, ModecScene, make_anchors
from papertrial.scenes.modec_gs.settings import (
    GLOBAL_PENALTY,
    LARGE_CHANNELS,
    VARIANTS,
    FieldSettings,
    SceneSettings,
)
from papertrial.scenes.modec_gs.training import COARSE, FINE, ModecTraining, TrainingSettings
from papertrial.scenes.modec_gs.views import TimedView
from papertrial.scenes.procedural_clip import make_clip
from papertrial.scenes.scaffold import Anchors, GrowthSettings
from papertrial.scenes.splatting.primitives import NEAR

EQUAL_SIZE = "4dgs-small"  # 4DGS in as many bytes as the method
# Rows (a) to (d) of the paper's table 3 have large fields, those after them small ones.
STAGES = {"4dgs": "4dgs", "anchors-alone": "anchors-alone", "two-anchor-stages": "two-anchor-stages"}
STAGES |= {"gad-lgd-large": "gad-lgd"}  # arm: variant
SMALL = {EQUAL_SIZE: "4dgs", "gad-lgd": "gad-lgd", "modec": "modec"}
ARMS = {"still": "still", **STAGES, **SMALL}
CLIP_VOXEL = 0.25
# The paper's cells of 16, 4 and 1 voxels are for voxels of a hundredth; here the first would be as large as the hall.
# On pictures of so few pixels the paper's threshold would more than double the anchors.
CLIP_GROWTH = GrowthSettings(min_opacity=0.01, coarsest=4, ratio=2, threshold=8e-4)


@dataclass(frozen=True)
class Capture:
    """Frames to train on and to test on; for made clips also where test frames show something that moves."""

    train: tuple[TimedView, ...]
    test: tuple[TimedView, ...]
    points: Float[Tensor, "n 3"]
    moving: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class Sizes:
    """What all arms share; see the trial for the meaning of each."""

    segments: int
    spatial: int
    temporal: int
    channels: int
    hidden: int
    per_anchor: int
    voxel: float
    gates: str
    fields: str = "small"
    device: str = "cpu"
    near: float = NEAR


@lru_cache(maxsize=2)
def made_capture(seed: int, frames: int, pixels: int, points: int) -> Capture:
    """Return the procedural clip: one moving camera to train on, another to test on, at the same times."""
    clip = make_clip(seed, frames, pixels, points)

    def views(which: Sequence) -> tuple[TimedView, ...]:
        return tuple(TimedView(one.exact.camera, one.time, one.exact.colour.clamp(0, 1)) for one in which)

    return Capture(views(clip.train), views(clip.test), clip.points, tuple(one.moving for one in clip.test))


@lru_cache(maxsize=1)
def read_capture(
    folder: Path, kind: str, masks: bool = False, longest: int | None = None, reduction: int = 2
) -> Capture:
    """Return a user's frames.

    Raises:
        BadInputError: an unknown format, or see `load_hypernerf`.
    """
    if kind != "hypernerf":
        raise unknown("format", kind, ("hypernerf",))
    found = load_hypernerf(folder, masks=masks, longest=longest, reduction=reduction)
    return Capture(found.train, found.test, found.points)


def scene_settings(arm: str, sizes: Sizes, anchors: int) -> SceneSettings:
    """Return what an arm's scene is made of.

    The fields keep the paper's proportions: the global one has half of the local one's cells along each side, and one
    along time for each segment; 4DGS's has twice the channels. `4dgs-small` has so many channels that its scene has
    as many bytes as the method's, to half a channel. Where `sizes.fields` is "large", both of the method's are as
    large as 4DGS's.

    Args:
        arm: see `ARMS`.
        sizes: what all arms share.
        anchors: to begin with, for the gates' share of the bytes.

    Raises:
        BadInputError: an unknown arm.
    """
    if arm not in ARMS:
        raise unknown("arm", arm, ARMS)
    local = FieldSettings(sizes.spatial, sizes.temporal, sizes.channels)
    whole = FieldSettings(
        max(2, sizes.spatial // 2), max(2, sizes.segments), sizes.channels, penalty=GLOBAL_PENALTY
    )
    method = SceneSettings(
        near=sizes.near,
        gates=sizes.gates,
        segments=sizes.segments,
        global_field=whole,
        local_field=local,
        hidden=sizes.hidden,
    )
    large = replace(local, channels=sizes.channels * LARGE_CHANNELS // FieldSettings().channels)
    if arm in STAGES or sizes.fields == "large":
        method = replace(method, local_field=large, global_field=replace(large, penalty=GLOBAL_PENALTY))
    if arm == EQUAL_SIZE:
        small = VARIANTS["4dgs"].settings(method)
        missing = _floats(method, sizes, anchors) - _floats(small, sizes, anchors)
        field = small.local_field
        further = replace(small, local_field=replace(field, channels=field.channels + 1))
        each = _floats(further, sizes, anchors) - _floats(small, sizes, anchors)
        return replace(small, local_field=replace(field, channels=field.channels + round(missing / each)))
    return VARIANTS[ARMS[arm]].settings(method)


def still_training(capture: Capture, sizes: Sizes, training: TrainingSettings, steps: int) -> ModecTraining:
    """Return the first stage, which all arms share: a Scaffold-GS scene of all frames, in which nothing moves.

    With the paper's 3,000 steps or more its schedules are the paper's. With fewer, those of growth and rates are
    Scaffold-GS's own in proportion to the steps: in proportion to the paper's 3,000 of 23,000 a short run would leave
    the scene blurred, and motion would be taken for what geometry should do.

    Args:
        capture: that is trained on.
        sizes: what all arms share.
        training: batch, growth and seed.
        steps: of this stage.

    Raises:
        BadInputError: see `make_anchors` and `ModecTraining`.
    """
    settings = SceneSettings(moves_anchors=False, local="none", near=sizes.near)
    torch.manual_seed(training.seed)
    anchors = make_anchors(capture.points, sizes.voxel, settings, per_anchor=sizes.per_anchor)
    if steps < COARSE:
        training = replace(training, schedule=steps, growth=training.growth.scaled(steps))
    training = replace(training, coarse=steps, fine=0, adjustment=None)
    scene = ModecScene(anchors, settings, box_around(capture.points)).to(sizes.device)
    return ModecTraining(scene, capture.train, training, extent_of(capture))


def moving_training(
    arm: str, still: ModecScene, capture: Capture, sizes: Sizes, training: TrainingSettings, steps: int
) -> ModecTraining:
    """Return the second stage of an arm, which begins with the anchors and the decoder of the first.

    Schedules are in proportion to the paper's 20,000 steps, but for rates of fields and networks that are raised for
    a short run: they fall to the paper's last values within it.

    Args:
        arm: see `ARMS`.
        still: the outcome of `still_training`.
        capture: that is trained on.
        sizes: what all arms share.
        training: batch, growth, rates and seed.
        steps: of this stage.

    Raises:
        BadInputError: an unknown arm, or see `ModecTraining`.
    """
    begun = still.anchors
    settings = scene_settings(arm, sizes, len(begun))
    extras = {GATES: settings.gate_logits} if settings.gate_logits else None
    anchors = Anchors(
        begun.positions, begun.log_scalings, begun.voxel, per_anchor=begun.per_anchor, extras=extras
    )
    with torch.no_grad():
        anchors.features.copy_(begun.features)
        anchors.offsets.copy_(begun.offsets)
    torch.manual_seed(training.seed)
    generator = torch.Generator().manual_seed(training.seed)
    box = box_around(torch.cat([capture.points, begun.positions]))
    scene = ModecScene(anchors, settings, box, generator=generator)
    scene.decoder.load_state_dict(still.decoder.state_dict())
    whole = training.scaled(round(steps * (COARSE + FINE) / FINE))
    adjustment = whole.adjustment if VARIANTS[ARMS[arm]].adjusts else None
    raised = (training.field_rate, training.network_rate) != (1.0, 1.0)
    motion_schedule = steps if raised else None
    how = replace(whole, coarse=0, fine=steps, motion_schedule=motion_schedule, adjustment=adjustment)
    return ModecTraining(scene.to(sizes.device), capture.train, how, extent_of(capture))


def extent_of(capture: Capture) -> float:
    """Return the extent of the training cameras, by which rates are scaled."""
    return scene_extent([view.camera for view in capture.train])


def _floats(settings: SceneSettings, sizes: Sizes, anchors: int) -> int:
    """Return how many numbers gates, fields and networks take: what differs between arms of the same anchors."""
    total = anchors * settings.gate_logits
    heads = {"gaussians": (3, 3, 4), "anchors": (3, 32, 3 * sizes.per_anchor, 6), "none": ()}
    parts = [(settings.local_field, heads[settings.local])]
    if settings.moves_anchors:
        parts.append((settings.global_field, heads["anchors"]))
    for field, outputs in parts:
        width = settings.hidden
        cells = sum(
            3 * (scale * field.spatial) ** 2 + 3 * scale * field.spatial * field.temporal
            for scale in field.scales
        )
        total += cells * field.channels + len(field.scales) * field.channels * width + width
        total += sum(width * width + width + width * size + size for size in outputs)
    return total
