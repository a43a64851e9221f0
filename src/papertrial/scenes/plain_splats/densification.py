"""Where the image pulls hard, small primitives are cloned and large ones split; faint and vast ones go.

Source: arXiv 2308.04079, section 5.2; numbers and order as in its released code and in arXiv 2403.17888's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from papertrial.scenes.cameras import Camera
from papertrial.scenes.parameter_rows import append_rows, keep_rows
from papertrial.scenes.plain_splats.scene import ROWS, STATISTICS, SplatScene
from papertrial.scenes.plain_splats.settings import DensifySettings
from papertrial.scenes.splatting import Primitives, RenderOut, Rules, project, quaternion_to_matrix
from papertrial.scenes.splatting.geometry import Gaussians

_CHILDREN = 2
_SIGMAS = 3.0  # standard deviations that a radius on the screen covers


class Changes(NamedTuple):
    """What one update did: how many primitives were cloned, split and pruned."""

    cloned: int
    split: int
    pruned: int


@torch.no_grad()
def observe(scene: SplatScene, out: RenderOut, camera: Camera, rules: Rules, radii: bool = False) -> None:
    """Add a step's gradients on the screen to the statistics of the primitives that were seen.

    Args:
        scene: that was rendered.
        out: of the rasteriser, after `backward`.
        camera: that saw it.
        rules: of the rasteriser.
        radii: whether the largest radius on the screen is kept too.
    """
    seen = out.visible
    scene.gradient_sum[seen] += out.screen_gradients()[seen].norm(dim=-1)
    scene.gradient_count[seen] += 1
    if radii:
        prims = scene.primitives()
        shown = Primitives(*(tensor[seen] for tensor in prims.tensors.values()))
        largest = screen_radius(shown, camera, rules)
        scene.radius[seen] = torch.maximum(scene.radius[seen], largest)


def screen_radius(prims: Primitives, camera: Camera, rules: Rules) -> Float[Tensor, " n"]:
    """Return half the longer side of each primitive's box of three standard deviations, in whole pixels, rounded up.

    A Gaussian's is along its longest axis on the screen. A surfel that crosses the camera's plane has no end: infinite.
    """
    screen = project(prims, camera.viewmat, camera.intrinsics, (camera.width, camera.height), rules)
    if isinstance(screen, Gaussians):
        a, b, c = screen.conic.unbind(-1)
        least = (a + c) / 2 - (((a - c) / 2) ** 2 + b * b).sqrt()
        return (_SIGMAS / least.clamp(min=1e-12).sqrt()).ceil()
    low, high = screen.reach(torch.full_like(prims.opacities, _SIGMAS**2))
    return ((high - low) / 2).max(dim=-1).values.ceil()


@torch.no_grad()
def densify(
    scene: SplatScene,
    optimizer: torch.optim.Adam,
    settings: DensifySettings,
    extent: float,
    draw: torch.Generator,
    *,
    prune_faint: bool = True,
    prune_large: bool = False,
) -> Changes:
    """Clone, split and prune, and clear the statistics.

    The order afterwards: primitives that were not split, clones, first children, second children, without those that
    were pruned.

    Args:
        scene: whose rows change.
        optimizer: whose moments change with them: zero for what is new.
        settings: thresholds.
        extent: of the scene.
        draw: places the children; on the CPU.
        prune_faint: whether primitives below the least opacity go.
        prune_large: whether primitives that are too large go.
    """
    steep = mean_gradients(scene)
    chosen = _within_budget(steep >= settings.gradient, steep, settings)
    small = scene.extents().amax(-1) <= settings.dense * extent
    cloned = chosen & small
    split = chosen & ~small
    rows = scene.rows()
    clones = {name: rows[name][cloned] for name in ROWS}
    children = _children(rows, split, settings.shrink, draw)
    new = {name: torch.cat([clones[name], children[name]]) for name in ROWS}
    like = scene.gradient_sum
    added = {name: like.new_zeros(len(new["means"])) for name in STATISTICS}
    append_rows(scene, optimizer, {**new, **added})
    old = torch.zeros(len(scene), dtype=torch.bool, device=like.device)
    old[: len(split)] = split
    keep_rows(scene, optimizer, ~old, [*ROWS, *STATISTICS])
    gone = _pruned(scene, settings, extent, prune_faint, prune_large)
    keep_rows(scene, optimizer, ~gone, [*ROWS, *STATISTICS])
    for name in STATISTICS:
        getattr(scene, name).zero_()
    return Changes(int(cloned.sum()), int(split.sum()), int(gone.sum()))


def mean_gradients(scene: SplatScene) -> Float[Tensor, " n"]:
    """Return the mean gradient on the screen of each primitive since the last update; 0 where it was not seen."""
    return scene.gradient_sum / scene.gradient_count.clamp(min=1)


@torch.no_grad()
def reset_opacities(scene: SplatScene, optimizer: torch.optim.Adam, most: float) -> None:
    """Cut all opacities to `most`, and clear Adam's moments of them; its count of steps stays."""
    scene.opacity_logits.clamp_(max=math.log(most / (1 - most)))
    for name, value in optimizer.state[scene.opacity_logits].items():
        if name != "step":
            value.zero_()


def _within_budget(
    wanted: Bool[Tensor, " n"], steep: Float[Tensor, " n"], settings: DensifySettings
) -> Bool[Tensor, " n"]:
    """Return of the wanted primitives the steepest that there is room for: each adds one."""
    if settings.most is None:
        return wanted
    room = max(0, settings.most - len(wanted))
    if int(wanted.sum()) <= room:
        return wanted
    order = steep.masked_fill(~wanted, -1).argsort(descending=True, stable=True)
    chosen = torch.zeros_like(wanted)
    chosen[order[:room]] = True
    return chosen


def _children(
    rows: dict[str, Tensor], split: Bool[Tensor, " n"], shrink: float, draw: torch.Generator
) -> dict[str, Tensor]:
    """Return two smaller primitives for each that is split, drawn from it as from a distribution: first ones first."""
    parents = {name: row[split].repeat(_CHILDREN, *[1] * (row.ndim - 1)) for name, row in rows.items()}
    extents = parents["log_scales"].exp()
    noise = torch.randn(len(extents), extents.shape[1], generator=draw).to(extents)
    along = torch.nn.functional.pad(extents * noise, (0, 3 - extents.shape[1]))
    turned = (quaternion_to_matrix(parents["quats"]) @ along[:, :, None])[:, :, 0]
    moved = {"means": parents["means"] + turned, "log_scales": parents["log_scales"] - math.log(shrink)}
    return {**parents, **moved}


def _pruned(
    scene: SplatScene, settings: DensifySettings, extent: float, faint: bool, large: bool
) -> Bool[Tensor, " n"]:
    gone = torch.zeros_like(scene.gradient_sum, dtype=torch.bool)
    if faint:
        gone |= scene.opacities() < settings.min_opacity
    if large:
        gone |= scene.extents().amax(-1) > settings.large * extent
        if settings.most_radius is not None:
            gone |= scene.radius > settings.most_radius
    return gone
