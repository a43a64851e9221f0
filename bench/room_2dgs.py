"""A whole step of 2DGS-Room on one CPU thread, part by part, and its metrics beside all pairs of points.

    python bench/room_2dgs.py               # Markdown
    python bench/room_2dgs.py --rounds 40

A step decodes the seeds that a camera sees, renders them, takes the photometric loss, both priors and the multi-view
term (which renders the neighbouring view too), goes backwards through everything and steps Adam. The same scene runs
with the compiled rasteriser and with the packed one in torch, in turn; both losses must agree first. No peer released a
2DGS-Room, and surfels of other packages are rasterised on CUDA only.

Accuracy and completeness find nearest points with scipy's k-d tree; the peer is torch's matrix of all distances.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

from papertrial.threads import let_threads_sleep

let_threads_sleep()  # before torch is loaded

import torch  # noqa: E402

from papertrial.scenes.geometry_metrics import compare_clouds  # noqa: E402
from papertrial.scenes.plain_splats import PlainSettings  # noqa: E402
from papertrial.scenes.procedural_room import RoomSettings, make_room  # noqa: E402
from papertrial.scenes.room_2dgs import ArmSettings, SeedFit, SeedSettings, make_fit  # noqa: E402
from papertrial.scenes.room_2dgs.fitting import Shown  # noqa: E402
from papertrial.scenes.room_2dgs.inputs import of_room  # noqa: E402
from papertrial.scenes.room_2dgs.settings import MultiViewSettings, PriorSettings  # noqa: E402
from papertrial.scenes.scaffold import GrowthSettings, visible_anchors  # noqa: E402
from papertrial.scenes.surface_views import look_at_surface  # noqa: E402

BACKENDS = ("numba", "torch")
STEPS_A_TURN = {"numba": 6, "torch": 1}
PARTS = ("decode", "render", "losses", "backward", "update")
GOAL = 12.0  # milliseconds a step, about 2,000 surfels at 64 x 64
CLOUDS = (500, 5_000, 20_000)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=24)
    given = parser.parse_args()
    torch.set_num_threads(1)
    steps(given.rounds)
    metrics()


def steps(rounds: int) -> None:
    """Time some steps, each of another view, on both back ends in turn."""
    fits = {backend: scene(backend) for backend in BACKENDS}
    surfels = check(fits)
    seconds: dict[str, list[dict[str, float]]] = {backend: [] for backend in BACKENDS}
    for number in range(rounds):
        for backend, fitted in fits.items():
            parts(fitted, number)  # as in training a step follows a step, not another contestant
            for more in range(STEPS_A_TURN[backend]):
                seconds[backend].append(parts(fitted, number + 1 + more))
    print(
        f"float32, torch {torch.__version__}, one thread, {rounds} rounds, {surfels} surfels in a view, 64 x 64\n"
    )
    heads = " | ".join(f"{part}, ms" for part in PARTS)
    print(f"| back end | {heads} | step, ms | fastest tenth | goal, ms |")
    print("|---|" + "---|" * (len(PARTS) + 3))
    for backend in BACKENDS:
        middle = {part: 1000 * statistics.median(one[part] for one in seconds[backend]) for part in PARTS}
        wholes = sorted(1000 * sum(one.values()) for one in seconds[backend])
        cells = " | ".join(f"{middle[part]:.1f}" for part in PARTS)
        goal = GOAL if backend == "numba" else "–"
        fastest = wholes[len(wholes) // 10]
        print(f"| {backend} | {cells} | {statistics.median(wholes):.1f} | {fastest:.1f} | {goal} |")


def scene(backend: str) -> SeedFit:
    """Return the made room's seeds, fitted for a few steps so that surfels have found their extents."""
    inputs = of_room(make_room(RoomSettings(sparse=900, truth=100)))
    growth = GrowthSettings(
        first_statistics=0, start=10**9, stop=2 * 10**9
    )  # statistics in every step, no update
    seeds = SeedSettings(voxel=0.1, rate=2.0, rate_steps=500, growth=growth, normal_start=0)
    settings = ArmSettings(seeds, PlainSettings(), PriorSettings(), MultiViewSettings(start=0, pixels=128))
    fitted = fit_of(inputs, settings, "numba")
    for number in range(60):
        fitted.step(number)
    fitted.settings = replace(seeds, backend=backend)
    return fitted


def fit_of(inputs, settings: ArmSettings, backend: str) -> SeedFit:
    chosen = replace(settings, seeds=replace(settings.seeds, backend=backend))
    fitted = make_fit(
        "room_2dgs",
        inputs.train,
        inputs.priors,
        inputs.points,
        inputs.colours,
        chosen,
        track_lengths=inputs.track_lengths,
    )
    assert isinstance(fitted, SeedFit)
    return fitted


def check(fits: dict[str, SeedFit]) -> int:
    """See that both back ends render the same, and return how many surfels a view is decoded into."""
    counts, pictures = [], []
    for fitted in fits.values():
        camera = fitted.views[3].camera
        shown = fitted.show(camera)
        pictures.append(shown.view.colour.detach())
        counts += [len(fitted.show(view.camera).decoded.means) for view in fitted.views]
    torch.testing.assert_close(pictures[0], pictures[1], atol=1e-4, rtol=1e-3)
    return round(statistics.mean(counts))


def parts(fitted: SeedFit, number: int) -> dict[str, float]:
    """Take a step in the order of `SeedFit.step` and return the seconds of its parts."""
    camera, image = fitted.views[fitted.view_at(number)]
    settings = fitted.settings
    marks = [time.perf_counter()]
    state = fitted.scene.anchors.state()
    visible = visible_anchors(state, camera, settings.rules.near)
    decoded = fitted.scene.decoder.decode(state, camera, anchors=visible)
    marks.append(time.perf_counter())
    view = look_at_surface(
        decoded.primitives(),
        decoded.colours,
        camera,
        rules=settings.rasterizing,
        depth_ratio=settings.depth_ratio,
        backend=settings.backend,
        track=True,
    )
    marks.append(time.perf_counter())
    losses = fitted._losses(number, fitted.view_at(number), Shown(view, decoded, visible), image)
    loss = torch.stack(list(losses.values())).sum()
    marks.append(time.perf_counter())
    fitted.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    marks.append(time.perf_counter())
    fitted.growth.advance(number + 1, decoded, visible, view.out)
    fitted.optimizer.step()
    marks.append(time.perf_counter())
    return {part: end - start for part, start, end in zip(PARTS, marks[:-1], marks[1:], strict=True)}


def metrics() -> None:
    """Time accuracy and completeness of clouds against the matrix of all distances."""
    print("\n| points a cloud | k-d tree, ms | all pairs, ms | gain |")
    print("|---|---|---|---|")
    draw = torch.Generator().manual_seed(0)
    for count in CLOUDS:
        ours, truth = (torch.rand(count, 3, generator=draw) for _ in range(2))
        quick: list[float] = []
        slow: list[float] = []
        for _ in range(5):
            begun = time.perf_counter()
            scores = compare_clouds(ours, truth)
            quick.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            apart = torch.cdist(ours, truth, compute_mode="donot_use_mm_for_euclid_dist")
            accuracy, completeness = float(apart.amin(1).mean()), float(apart.amin(0).mean())
            slow.append(time.perf_counter() - begun)
        assert abs(scores.accuracy - accuracy) + abs(scores.completeness - completeness) < 1e-5
        tree, pairs = (1000 * statistics.median(seconds) for seconds in (quick, slow))
        print(f"| {count:,} | {tree:.1f} | {pairs:.1f} | {pairs / tree:.1f}x |")


if __name__ == "__main__":
    main()
