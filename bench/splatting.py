"""A whole training step of splatting on the CPU: compiled kernels beside packed torch and the dense oracle.

    python bench/splatting.py             # both kinds, both sizes, one and two threads; Markdown
    python bench/splatting.py --profile   # where a step's time goes

A step is projection, sorting, blending, the loss and its backward pass through everything, in float32. The scene is
random primitives on the walls of a unit box, seen from inside, with six channels of features; the loss reads the
features, alpha, depth and distortion. On the CPU there is no maintained peer: gsplat, the usual choice, rasterises on
CUDA only, so the contestants are this package's own back ends. First all must agree, then they run in turn.

torch's threads sleep while they wait, as under the commands of this package: else they would spin for a while after
each operation and hold a core that the kernels could use. OMP_WAIT_POLICY=active lets them; the table says it.
"""

from __future__ import annotations

import argparse
import cProfile
import math
import os
import pstats
import statistics
import time
from collections.abc import Callable
from functools import partial

from papertrial.threads import let_threads_sleep

let_threads_sleep()  # before torch is loaded

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from papertrial.scenes.splatting import Primitives, rasterize  # noqa: E402

SIZES = ((2_000, 64), (10_000, 128))
KINDS = ("surfel", "gaussian")
GOALS = {2_000: 4.0, 10_000: 15.0}  # milliseconds, one unloaded core
DENSE_PAIRS = 10_000_000  # the oracle makes a matrix of primitives and pixels
CHANNELS = 6


def main() -> None:
    """Check that all back ends agree, and time them round by round."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    if given.profile:
        profile()
        return
    policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    print(f"float32, torch {torch.__version__}, {given.rounds} rounds, OMP_WAIT_POLICY {policy}\n")
    print(
        "| kind | primitives (visible) | image | threads | back end | ms a step | kernels' gain | goal, ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        for count, pixels in SIZES:
            compare(kind, count, pixels, given.threads, given.rounds)


def compare(kind: str, count: int, pixels: int, threads: list[int], rounds: int) -> None:
    """Print the rows of one scene; all contestants and numbers of threads take turns."""
    leaves, camera = scene(count, pixels)
    backends = ["numba", "torch"] + (["dense"] if count * pixels**2 <= DENSE_PAIRS else [])
    visible = check(leaves, camera, pixels, kind, backends)
    runs: dict[tuple[int, str], Callable[[], object]] = {
        (number, backend): partial(step, leaves, camera, pixels, kind, backend)
        for backend in backends
        for number in threads
    }
    seconds: dict[tuple[int, str], list[float]] = {key: [] for key in runs}
    for turn in range(rounds + 2):
        for (number, backend), run in runs.items():
            if backend != "numba" and turn % 5 != 2:
                continue  # the slow ones run in every fifth round
            torch.set_num_threads(number)
            start = time.perf_counter()
            run()
            if turn >= 2:
                seconds[number, backend].append(time.perf_counter() - start)
    for (number, backend), taken in seconds.items():
        gain = statistics.median(taken) / statistics.median(seconds[number, "numba"])
        goal = f"{GOALS[count]:.0f}" if backend == "numba" and number == 1 else ""
        print(
            f"| {kind} | {count:,} ({visible:,}) | {pixels} x {pixels} | {number} | {backend} | "
            f"{1000 * statistics.median(taken):.2f} | {'' if backend == 'numba' else f'{gain:.1f}'} | {goal} |"
        )


def scene(count: int, pixels: int) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    """Return leaves (means, quaternions, scales, opacities, features) and a camera inside the box."""
    draw = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw)

    means = uniform(count, 3) - 0.5
    wall = torch.randint(0, 3, (count,), generator=draw)
    side = torch.randint(0, 2, (count,), generator=draw) - 0.5
    means[torch.arange(count), wall] = side
    half = math.sqrt(0.5)  # a quarter turn that brings the disc's normal, z, onto the wall's
    turns = torch.tensor([[half, 0.0, half, 0.0], [half, half, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    quats = turns[wall] + 0.05 * torch.randn(count, 4, generator=draw)
    extent = 0.96 * math.sqrt(6 / count)  # neighbours overlap: about twelve contributions a pixel
    scales = extent * (0.3 + 0.7 * uniform(count, 3))
    leaves = [means, quats, scales, 0.1 + 0.8 * uniform(count), uniform(count, CHANNELS)]
    view = torch.eye(4)
    view[:3, 3] = torch.tensor([0.02, -0.03, 0.45])
    focal = 0.5 * pixels
    intrinsics = torch.tensor([[focal, 0.0, pixels / 2], [0.0, focal, pixels / 2], [0.0, 0.0, 1.0]])
    return [one.requires_grad_() for one in leaves], (view, intrinsics)


def step(
    leaves: list[Tensor], camera: tuple[Tensor, Tensor], pixels: int, kind: str, backend: str
) -> tuple[Tensor, int]:
    """Run one training step; return its loss and how many primitives it showed."""
    for leaf in leaves:
        leaf.grad = None
    out = rasterize(
        Primitives(*leaves[:4]), *camera, pixels, pixels, features=leaves[4], kind=kind, backend=backend
    )
    loss = (out.features - 0.5).abs().mean() + 0.1 * out.alpha.mean()
    loss = loss + 0.1 * out.depth.square().mean() + 10 * out.distortion.mean()
    loss.backward()
    return loss.detach(), len(out.visible)


def check(
    leaves: list[Tensor], camera: tuple[Tensor, Tensor], pixels: int, kind: str, backends: list[str]
) -> int:
    """Hold losses and gradients of all back ends together, in float64; return how many primitives are seen.

    In float32 the torch back ends' own rounding is 3e-3 of a gradient; the kernels reckon in float64 throughout.
    """
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    view, intrinsics = (one.double() for one in camera)
    found = []
    for backend in backends:
        loss, visible = step(exact, (view, intrinsics), pixels, kind, backend)
        found.append((loss, [leaf.grad.clone() for leaf in exact if leaf.grad is not None], visible))
    for loss, gradients, _ in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=1e-9, atol=1e-12)
        for ours, theirs in zip(found[0][1], gradients, strict=True):
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-8
    return found[0][2]


def profile() -> None:
    """Print what a step of either size spends its time in, on one thread."""
    torch.set_num_threads(1)
    for kind in KINDS:
        for count, pixels in SIZES:
            leaves, camera = scene(count, pixels)
            step(leaves, camera, pixels, kind, "numba")
            watch = cProfile.Profile()
            watch.enable()
            for _ in range(20):
                step(leaves, camera, pixels, kind, "numba")
            watch.disable()
            print(f"## {kind}, {count:,} primitives, {pixels} x {pixels}: 20 steps\n")
            pstats.Stats(watch).sort_stats("tottime").print_stats(14)


if __name__ == "__main__":
    main()
