"""The Hadamard transform of rows on the CPU: the compiled loop beside butterflies, matrix products and a copy.

    python bench/hadamard.py          # equality, then times in turn; Markdown

The CUDA package fast-hadamard-transform does not build without nvcc, so on the CPU there is no peer but the plain
forms that models carry along: stacked butterflies, and products with small dense matrices. torch's threads sleep while
they wait, as under the commands of this package; OMP_WAIT_POLICY=active lets them spin.
"""

from __future__ import annotations

import argparse
import statistics
import time

from papertrial.threads import let_threads_sleep

let_threads_sleep()  # before torch is loaded

import torch  # noqa: E402

from papertrial.efficient.hadamard import (  # noqa: E402
    hadamard_transform,
    naive_hadamard_transform,
    products,
)


def main() -> None:
    """Check that all give the same, and time them round by round."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    contestants = {
        "copy": lambda x: x.clone(),
        "stacked butterflies": naive_hadamard_transform,
        "matrix products": products,
        "compiled loop": hadamard_transform,
    }
    print(
        f"{given.rows} rows, float32, torch {torch.__version__}, {given.threads} threads, {given.rounds} rounds\n"
    )
    print("| n | contestant | ms | times as fast as butterflies | times a copy |")
    print("|---|---|---|---|---|")
    for size in (256, 1024, 4096, 8192):
        x = torch.randn(given.rows, size, generator=torch.Generator().manual_seed(0))
        outs = [contestants[name](x) for name in contestants if name != "copy"]
        assert all(torch.allclose(out, outs[0], atol=1e-4) for out in outs)
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(given.rounds + 3):
            for name, run in contestants.items():
                start = time.perf_counter()
                run(x)
                if turn >= 3:
                    seconds[name].append(time.perf_counter() - start)
        for name, taken in seconds.items():

            def ratio(to: str, taken: list[float] = taken, seconds: dict = seconds, up: bool = True) -> str:
                pairs = zip(seconds[to], taken, strict=True)
                return f"{statistics.median(a / b if up else b / a for a, b in pairs):.1f}"

            faster, slower = ratio("stacked butterflies"), ratio("copy", up=False)
            print(f"| {size} | {name} | {1000 * statistics.median(taken):.2f} | {faster} | {slower} |")


if __name__ == "__main__":
    main()
