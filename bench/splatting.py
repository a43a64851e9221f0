"""A whole training step of splatting on the CPU: compiled kernels beside packed torch and the dense oracle.

    python bench/splatting.py             # both kinds, both sizes, one and two threads; Markdown
    python bench/splatting.py --profile   # where a step's time goes

A step is projection, sorting, blending, the loss and its backward pass through everything, in float32. The scene is
random primitives on the walls of a unit box, seen from inside, with six channels of features; the loss reads the
features, alpha, depth and distortion. On the CPU there is no maintained peer: gsplat, the usual choice, rasterises on
CUDA only, so the contestants are this package's own back ends. First all must agree, then they run in turn. Beside the
median stands the fastest tenth of the steps: what a core takes that nobody else loads. Where there is a GPU and gsplat,
a second table holds gsplat against packed torch on it; they must show the same colours and alphas first.

torch's threads sleep while they wait, as under the commands of this package: else they would spin for a while after
each operation and hold a core that the kernels could use. OMP_WAIT_POLICY=active lets them; the table says it. As in
the fitting loops, whose photographs are that small, torch has one thread of its own; the kernels have the number given.
"""

from __future__ import annotations

import argparse
import cProfile
import math
import os
import pstats
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from threading import Thread
from typing import Any, NamedTuple

from papertrial.threads import let_threads_sleep, torch_on_one_thread

let_threads_sleep()  # before torch is loaded

import numba  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from papertrial.scenes.splatting import Primitives, compiled, rasterize  # noqa: E402

SIZES = ((2_000, 64), (10_000, 128))
KINDS = ("surfel", "gaussian")
GOALS = {2_000: 4.0, 10_000: 15.0}  # milliseconds, one unloaded core
DENSE_PAIRS = 10_000_000  # the oracle makes a matrix of primitives and pixels
CHANNELS = 6
STEPS_A_TURN = 8
ARITHMETIC, FACTOR = 200_000_000, 0.999  # how often, about a second's work, and what is multiplied
TRIES = 5


class Gain(NamedTuple):
    """One scene's seconds a step, whole and in the kernels, by the number of threads."""

    scene: str
    whole: dict[int, float]
    kernels: dict[int, float]


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
        "| kind | primitives (visible) | image | threads | back end | ms a step | fastest tenth | kernels' gain |"
    )
    print("|---|---|---|---|---|---|---|---|")
    gains = []
    for kind in KINDS:
        for count, pixels in SIZES:
            gains.append(compare(kind, count, pixels, given.threads, given.rounds))
    on_cuda(given.rounds)
    goals = ", ".join(f"{goal:.0f} ms at {count:,} primitives" for count, goal in GOALS.items())
    print(f"\nGoal on one unloaded core: {goals}.")
    if len(given.threads) > 1:
        print_gains(gains, given.threads[0], given.threads[-1])


def compare(kind: str, count: int, pixels: int, threads: list[int], rounds: int) -> Gain:
    """Print the rows of one scene; all contestants and numbers of threads take turns."""
    leaves, camera = scene(count, pixels)
    backends = ["numba", "torch"] + (["dense"] if count * pixels**2 <= DENSE_PAIRS else [])
    visible = check(leaves, camera, pixels, kind, backends)
    seconds: dict[tuple[int, str], list[float]] = {
        (number, backend): [] for backend in backends for number in threads
    }
    in_kernels: dict[int, list[float]] = {number: [] for number in threads}
    for turn in range(rounds):
        for (number, backend), taken in seconds.items():
            if backend != "numba" and turn % 5:
                continue  # the slow ones run in every fifth round
            torch.set_num_threads(number)
            alone = torch_on_one_thread if backend == "numba" else nullcontext
            run = partial(step, leaves, camera, pixels, kind, backend)
            with alone():
                run()  # as in training a step follows a step, not another contestant
            for _ in range(STEPS_A_TURN if backend == "numba" else 1):
                with alone(), kernel_time() as spent:
                    start = time.perf_counter()
                    run()
                    taken.append(time.perf_counter() - start)
                if backend == "numba":
                    in_kernels[number].append(sum(spent))
    for (number, backend), taken in seconds.items():
        gain = statistics.median(taken) / statistics.median(seconds[number, "numba"])
        fastest = f"{1000 * sorted(taken)[len(taken) // 10]:.2f}" if backend == "numba" else ""
        print(
            f"| {kind} | {count:,} ({visible:,}) | {pixels} x {pixels} | {number} | {backend} | "
            f"{1000 * statistics.median(taken):.2f} | {fastest} | {'' if backend == 'numba' else f'{gain:.1f}'} |",
            flush=True,
        )
    whole, kernels = (
        {number: statistics.median(all_of[number]) for number in threads}
        for all_of in ({number: seconds[number, "numba"] for number in threads}, in_kernels)
    )
    return Gain(f"{kind}, {count:,}, {pixels} x {pixels}", whole, kernels)


def on_cuda(rounds: int) -> None:
    """Print the rows of gsplat and packed torch on a GPU, or why there are none."""
    if not torch.cuda.is_available():
        print("\ngsplat is not measured: torch finds no CUDA device here.")
        return
    if find_spec("gsplat") is None:
        print("\ngsplat is not measured: it is not installed (pip install 'papertrial[gsplat]').")
        return
    print(f"\n{torch.cuda.get_device_name()}\n")
    print("| kind | primitives (visible) | image | back end | ms a step | fastest tenth | gsplat's gain |")
    print("|---|---|---|---|---|---|---|")
    for kind in KINDS:
        for count, pixels in SIZES:
            compare_on_cuda(kind, count, pixels, rounds)


def compare_on_cuda(kind: str, count: int, pixels: int, rounds: int) -> None:
    """Print the rows of one scene on the GPU; both back ends take turns."""
    leaves, camera = scene(count, pixels)
    leaves = [leaf.detach().cuda().requires_grad_() for leaf in leaves]
    camera = (camera[0].cuda(), camera[1].cuda())
    shown = [
        rasterize(
            Primitives(*leaves[:4]), *camera, pixels, pixels, features=leaves[4], kind=kind, backend=backend
        )
        for backend in ("gsplat", "torch")
    ]
    # a surfel that is drawn beyond gsplat's box, or a pair at 1/255 on either side, shows in single pixels
    away = torch.cat(
        [(shown[0].features - shown[1].features).flatten(), (shown[0].alpha - shown[1].alpha).flatten()]
    )
    assert float(away.detach().abs().mean()) < 1e-3
    seconds: dict[str, list[float]] = {"gsplat": [], "torch": []}
    for _ in range(rounds):
        for backend, taken in seconds.items():
            step(leaves, camera, pixels, kind, backend)
            for _ in range(STEPS_A_TURN):
                torch.cuda.synchronize()
                start = time.perf_counter()
                step(leaves, camera, pixels, kind, backend)
                torch.cuda.synchronize()
                taken.append(time.perf_counter() - start)
    for backend, taken in seconds.items():
        gain = statistics.median(taken) / statistics.median(seconds["gsplat"])
        print(
            f"| {kind} | {count:,} ({len(shown[0].visible):,}) | {pixels} x {pixels} | {backend} | "
            f"{1000 * statistics.median(taken):.2f} | {1000 * sorted(taken)[len(taken) // 10]:.2f} | "
            f"{'' if backend == 'gsplat' else f'{gain:.1f}'} |",
            flush=True,
        )


@contextmanager
def kernel_time() -> Iterator[list[float]]:
    """Collect what the compiled kernels take."""
    spent: list[float] = []
    run = compiled._side_by_side

    def timed(*given: Any) -> None:
        start = time.perf_counter()
        run(*given)
        spent.append(time.perf_counter() - start)

    compiled._side_by_side = timed
    try:
        yield spent
    finally:
        compiled._side_by_side = run


def print_gains(gains: list[Gain], one: int, more: int) -> None:
    """Print what more threads gain, and what they could: only kernels are shared out, and cores share a machine."""
    machine = arithmetic_gain(more)
    print(
        f"\n{more} threads of pure arithmetic do {machine:.2f} times the work of one here, median of {TRIES} tries.\n"
    )
    print(
        f"| scene | kernels' share of a step | gain of {more} threads, kernels | whole step | bound of the step |"
    )
    print("|---|---|---|---|---|")
    for gain in gains:
        share = gain.kernels[one] / gain.whole[one]
        bound = 1 / (1 - share + share / machine)
        print(
            f"| {gain.scene} | {share:.0%} | {gain.kernels[one] / gain.kernels[more]:.2f} | "
            f"{gain.whole[one] / gain.whole[more]:.2f} | {bound:.2f} |"
        )


def arithmetic_gain(threads: int) -> float:
    """Return how many times one thread's work several do that need nothing but a processor each."""
    multiply(1, FACTOR)
    found = []
    for _ in range(TRIES):
        start = time.perf_counter()
        multiply(ARITHMETIC, FACTOR)
        alone = time.perf_counter() - start
        others = [Thread(target=multiply, args=(ARITHMETIC, FACTOR)) for _ in range(threads)]
        start = time.perf_counter()
        for other in others:
            other.start()
        for other in others:
            other.join()
        found.append(threads * alone / (time.perf_counter() - start))
    return statistics.median(found)


@numba.njit(nogil=True)
def multiply(times: int, factor: float) -> float:
    """Multiply and add in registers, each number waiting for the one before."""
    x = 0.0
    for _ in range(times):
        x = x * factor + 1.0
    return x


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
