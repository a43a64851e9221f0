"""Six-plane fields in one compiled walk beside plain calls for each plane, and where a step and a rendering go.

    python bench/modec_gs.py            # fields at the paper's sizes, rendering, and the parts of a step; Markdown

The plain form is what the 4DGS family runs: one `grid_sample` for each plane of each scale, multiplied, under autograd.
First all forms must agree in float64 sums of float32 inputs, then they run in turn. One thread, but for one column.

The bound is what memory alone would take: cells that these points touch are read twice (forward and backward), those
of the gradient are read and written, and all of the gradient is set to zero, at the speed at which this machine copies.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from papertrial.scenes.cameras import scene_extent
from papertrial.scenes.hexplane import PAIRS, HexPlane, Penalty, box_around
from papertrial.scenes.image_losses import photometric_loss
from papertrial.scenes.modec_gs import (
    FieldSettings,
    ModecScene,
    ModecTraining,
    Player,
    SceneSettings,
    TimedView,
    TrainingSettings,
    make_anchors,
)
from papertrial.scenes.modec_gs.scene import over_background
from papertrial.scenes.procedural_clip import make_clip
from papertrial.scenes.splatting import warm_up

POINTS = 2_000
GOAL_MS, GOAL_GAIN = 4.0, 2.0  # of forward and backward, and over a call for each plane
FIELDS = {"global, 32 x 10, 16 channels": (32, 10, 16), "local, 64 x 100, 16 channels": (64, 100, 16)}
FIELDS["4DGS, 64 x 25, 32 channels"] = (64, 25, 32)
BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])


def main() -> None:
    """Check that all forms agree, and time them round by round."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, one thread, {given.rounds} rounds, medians in milliseconds\n")
    fields(given.rounds)
    scene, training, views = trained()
    rendering(scene, views, given.rounds)
    parts(training, given.rounds)


def fields(rounds: int) -> None:
    """Print forward and backward of each form, and what a step spends on a field besides."""
    print(f"{POINTS:,} points, scales 1 and 2; forward and backward with gradients of planes and points:\n")
    print(
        "| field | points | a call for each plane | stacked planes | one walk | gain over calls "
        "for each plane | MB touched | bound |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rest, walks, gains, speed = [], [], [], copying()
    for name, (spatial, temporal, channels) in FIELDS.items():
        fast = HexPlane(BOX, spatial=spatial, temporal=temporal, channels=channels, backend="numba")
        stacked = HexPlane(BOX, spatial=spatial, temporal=temporal, channels=channels, backend="torch")
        stacked.load_state_dict(fast.state_dict())
        planes = [
            [p.detach().permute(2, 0, 1)[None].contiguous().requires_grad_() for p in six]
            for six in fast.planes()
        ]
        for kind, (points, times) in {"scattered": scattered(), "as decoded": as_decoded()}.items():
            push = torch.randn(POINTS, fast.features)
            runs = {
                "plain": lambda p=planes, a=points, t=times, g=push: plain_step(p, a, t, g),
                "stacked": lambda f=stacked, a=points, t=times, g=push: field_step(f, a, t, g),
                "one walk": lambda f=fast, a=points, t=times, g=push: field_step(f, a, t, g),
            }
            agree(runs)
            ms = in_turn(runs, rounds)
            gain = ms["plain"] / ms["one walk"]
            walks.append(ms["one walk"])
            gains.append(gain)
            touched = bytes_touched(fast, points, times)
            print(
                f"| {name} | {kind} | {ms['plain']:.2f} | {ms['stacked']:.2f} | {ms['one walk']:.2f} | "
                f"{gain:.1f} | {touched / 1e6:.1f} | {1000 * touched / speed:.2f} |"
            )
        rest.append((name, fast, stacked))
    fast_enough = sum(walk <= GOAL_MS for walk in walks)
    print(
        f"\nGoal: {GOAL_MS:.0f} ms on an unloaded core, met in {fast_enough} of {len(walks)} rows; "
        f"{GOAL_GAIN:.0f} times the calls for each plane, met in {sum(gain >= GOAL_GAIN for gain in gains)}."
    )
    print("\nRegularisers with their gradients, and Adam's step on all weights of the field:\n")
    print("| field | weights | regularisers, autograd | in one walk | Adam | fused Adam |")
    print("|---|---|---|---|---|---|")
    weights = Penalty(2e-4, 1e-3, 1e-4)
    for name, fast, stacked in rest:
        plain, fused = (
            torch.optim.Adam([stacked.cells], 1e-9),
            torch.optim.Adam([fast.cells], 1e-9, fused=True),
        )
        runs = {
            "autograd": lambda f=stacked: penalty_step(f, weights),
            "walk": lambda f=fast: penalty_step(f, weights),
        }
        agree(runs)
        ms = in_turn({**runs, "adam": plain.step, "fused": fused.step}, rounds)
        count = fast.cells.numel()
        print(
            f"| {name} | {count:,} | {ms['autograd']:.2f} | {ms['walk']:.2f} | {ms['adam']:.2f} | {ms['fused']:.2f} |"
        )


def rendering(scene: ModecScene, views: list[TimedView], rounds: int) -> None:
    """Print what a frame costs with anchors deformed anew, once for each segment, and not at all."""
    player = Player(scene)
    still = player_without_anchors(scene)
    view = views[len(views) // 2]
    runs = {
        "anchors deformed for every frame": lambda: Player.render(
            fresh(player, scene), view.camera, view.time
        ),
        "anchors deformed once for each segment": lambda: player.render(view.camera, view.time),
        "no anchor deformation at all": lambda: still.render(view.camera, view.time),
    }
    ms = in_turn(runs, rounds)
    base = ms["no anchor deformation at all"]
    print(
        f"\nA rendered frame, {len(scene.anchors):,} anchors, {view.camera.width} x {view.camera.height}:\n"
    )
    print("| | ms a frame | of Gaussians' deformation alone |\n|---|---|---|")
    for name, taken in ms.items():
        print(f"| {name} | {taken:.2f} | {taken / base:.2f} |")


def parts(training: ModecTraining, rounds: int) -> None:
    """Print the parts of a training step on one frame."""
    found: dict[str, list[float]] = {}
    for turn in range(rounds + 2):
        for name, seconds in timed_step(training, turn).items():
            if turn >= 2:
                found.setdefault(name, []).append(seconds)
    whole = 1000 * statistics.median(found.pop("whole step"))
    print("\nA training step on one frame, both fields in use:\n\n| part | ms |\n|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {1000 * statistics.median(seconds):.2f} |")
    print(f"| whole step, with growth's statistics | {whole:.2f} |")


def timed_step(training: ModecTraining, turn: int) -> dict[str, float]:
    """Run one step in parts, then one as a whole."""
    scene, view = training.scene, training.views[turn % len(training.views)]
    spent, mark = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal mark
        now = time.perf_counter()
        spent[name], mark = now - mark, now

    segment = scene.intervals.segment(view.time)
    state = scene.canonical_states([segment])[0]
    lap("deform anchors")
    bare, scene.local_deformation = scene.local_deformation, None
    frame = scene.frames([view.camera], [view.time], states=[state] * len(scene.intervals))[0]
    scene.local_deformation = bare
    lap("see and decode")
    decoded = bare([frame.decoded], [view.time])[0]
    lap("deform Gaussians")
    out = scene.rasterize(decoded, view.camera, track=True)
    lap("rasterise")
    loss = photometric_loss(over_background(out, 1.0), view.image)
    lap("photometric loss")
    loss = loss + scene.penalty()
    lap("regularisers")
    training.optimizer.zero_grad()
    for field in scene.fields():
        field.clear_gradient()
    loss.backward()
    lap("backward through all")
    training.optimizer.step()
    lap("Adam")
    training.step(training.settings.coarse + 1 + turn)
    lap("whole step")
    return spent


def trained() -> tuple[ModecScene, ModecTraining, list[TimedView]]:
    """Return a scene of the procedural clip after a few steps, with the paper's networks and fields a half as large."""
    warm_up()
    clip = make_clip()
    views = [TimedView(one.exact.camera, one.time, one.exact.colour) for one in clip.train]
    settings = SceneSettings(
        global_field=FieldSettings(16, 8, 16), local_field=FieldSettings(32, 12, 16), hidden=128
    )
    anchors = make_anchors(clip.points, 0.25, settings, per_anchor=10)
    scene = ModecScene(anchors, settings, box_around(clip.points))
    how = TrainingSettings(coarse=40, fine=1000, batch=1)
    training = ModecTraining(scene, views, how, scene_extent([view.camera for view in views]))
    for number in range(80):
        training.step(number)
    return scene, training, views


def player_without_anchors(scene: ModecScene) -> Player:
    """Return a player of the same anchors, decoder and local deformation."""
    player = Player(scene)
    player.states = [scene.anchors.state() for _ in player.states]
    return player


def fresh(player: Player, scene: ModecScene) -> Player:
    """Make the player's states again, of one segment, as a frame would need it."""
    with torch.no_grad():
        player.states = scene.canonical_states([0]) * len(scene.intervals)
    return player


def plain_step(planes: list[list[Tensor]], points: Tensor, times: Tensor, push: Tensor) -> list[Tensor]:
    """Sample each plane by a call of its own, and go back."""
    for one in (points, *(plane for six in planes for plane in six)):
        one.grad = None
    at = torch.cat([points, (2 * times - 1)[:, None]], dim=1)
    features = []
    for six in planes:
        product = torch.ones(())
        for pair, plane in zip(PAIRS, six, strict=True):
            sample = torch.nn.functional.grid_sample(
                plane, at[:, pair][None, None], align_corners=True, padding_mode="border"
            )
            product = product * sample[0, :, 0].T
        features.append(product)
    found = torch.cat(features, dim=1)
    found.backward(push)
    gradients = torch.cat([plane.grad[0].permute(1, 2, 0).reshape(-1) for six in planes for plane in six])
    return [found.detach(), points.grad, gradients]


def field_step(field: HexPlane, points: Tensor, times: Tensor, push: Tensor) -> list[Tensor]:
    """Sample a field, and go back, as a step of training does: into a gradient that is kept."""
    field.clear_gradient()
    points.grad = None
    found = field(points, times)
    found.backward(push)
    return [found.detach(), points.grad, field.cells.grad.reshape(-1)]


def copying() -> float:
    """Return the bytes that this machine reads and writes in a second when it copies 256 MB."""
    source = torch.zeros(64_000_000)
    target = torch.zeros_like(source)
    seconds = in_turn({"copy": lambda: target.copy_(source)}, 5)["copy"] / 1000
    return 2 * source.nbytes / seconds


def bytes_touched(field: HexPlane, points: Tensor, times: Tensor) -> int:
    """Return what the bound counts, from the cells that these points' samples read."""
    at = torch.cat([(points.detach() + 1) / 2, times[:, None]], dim=1)
    cells, start = [], 0
    for size in field.sizes:
        last = torch.tensor(size) - 1
        low = torch.minimum((at * last).long(), last - 1)
        for i, j in PAIRS:
            corner = start + low[:, j] * size[i] + low[:, i]
            cells += [corner, corner + 1, corner + size[i], corner + size[i] + 1]
            start += size[i] * size[j]
    different = len(torch.cat(cells).unique())
    assert start == len(field.cells)
    return 4 * field.channels * (4 * different + len(field.cells))


def penalty_step(field: HexPlane, weights: Penalty) -> list[Tensor]:
    """Take the regularisers and their gradient."""
    field.clear_gradient()
    field.penalty(weights).backward()
    return [field.cells.grad]


def scattered() -> tuple[Tensor, Tensor]:
    """Return points and times anywhere: the worst case for a cache."""
    return (2 * torch.rand(POINTS, 3) - 1).requires_grad_(), torch.rand(POINTS)


def as_decoded() -> tuple[Tensor, Tensor]:
    """Return ten points about each of 200 anchors in cells' order, all at one time: what a frame asks for."""
    anchors = (2 * torch.rand(POINTS // 10, 3) - 1).mul(16).round().unique(dim=0) / 16
    points = anchors.repeat_interleave(11, dim=0)[:POINTS] + 0.02 * torch.randn(
        min(POINTS, 11 * len(anchors)), 3
    )
    points = torch.cat([points, points[: POINTS - len(points)]]).clamp(-1, 1)
    return points.requires_grad_(), torch.full((POINTS,), 0.4)


def agree(runs: Mapping[str, Callable[[], list[Tensor]]]) -> None:
    """Raise where two forms differ by more than sums in another order do in float32."""
    first, *others = (run() for run in runs.values())
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            assert float((ours - theirs).norm()) <= 1e-5 * float(ours.norm())


def in_turn(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each, measured in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 3):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn >= 3:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(taken) for name, taken in seconds.items()}


if __name__ == "__main__":
    main()
