"""Adapting a 32,768-token vocabulary beside the released code's loops and latentis, on the CPU.

    python bench/vocabulary_adaptation.py              # every method's time, and each fast path beside its loop
    python bench/vocabulary_adaptation.py --latentis   # the whole translation beside latentis 0.0.8

Synthetic matrices of a realistic size: 32,768 target tokens of which half are shared, source width 2048, helper
width 2560 as Minerva-3B's. The released loops are rewritten here and in `naive.py` with their structure: CLP
takes one weighted average after another over all shared rows; SAVA maps one row after the other and passes over
all anchors at each of 1000 Adam steps. Loops too long to run whole are timed on a part, and scaled; the table
says which. With --latentis the script makes .venvs/vocabulary_adaptation itself and runs there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from peer_environment import ensure_environment

TORCH = "torch==2.13.0"
INSTALLS = (  # what pip is told, in the peer's environment
    [TORCH, "numpy"],
    [TORCH, "latentis==0.0.8", "transformers", "accelerate", "jaxtyping"],
)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Problem:
    """A match whose first half of the target is shared, and matrices with correlated columns."""

    def __init__(self, tokens: int, width: int, helper_width: int) -> None:
        import torch

        from papertrial.efficient.vocabulary_adaptation.matching import VocabularyMatch
        from papertrial.efficient.vocabulary_adaptation.rows import RowProblem

        generator = torch.Generator().manual_seed(0)
        shared = tokens // 2
        common = torch.randn(tokens, 64, generator=generator)  # what both models know of a token

        def matrix(columns: int) -> torch.Tensor:
            mixed = common @ torch.randn(64, columns, generator=generator) / 8
            return (mixed + torch.randn(tokens, columns, generator=generator)).mul_(0.02)

        source_of = torch.cat([torch.arange(shared), torch.full((tokens - shared,), -1)])
        match = VocabularyMatch(source_of, None, None, [], [])  # type: ignore[arg-type]
        self.rows = RowProblem(matrix(width), match, matrix(helper_width), torch.arange(shared))


def table_of_methods(problem: Problem, steps: int) -> None:
    """Print the time of each method for one matrix."""
    from papertrial.efficient.vocabulary_adaptation.alignment import SAVA
    from papertrial.efficient.vocabulary_adaptation.pieces import _means
    from papertrial.efficient.vocabulary_adaptation.random_rows import RandomRows
    from papertrial.efficient.vocabulary_adaptation.rows import assemble
    from papertrial.efficient.vocabulary_adaptation.similarity import CLP

    rows = problem.rows
    new = len(rows.match.new)
    pieces = [[(17 * number + step) % new for step in range(3)] for number in range(new)]
    methods = {
        "random": RandomRows(),
        "clp": CLP(),
        "sava, ridge": SAVA("ridge"),
        "sava, matrix": SAVA("matrix"),
        "sava, ortho": SAVA("ortho"),
        f"sava, sgd, {steps} of 1000 steps": SAVA("sgd", steps=steps),
    }
    print("| method, one matrix | s |\n|---|---|")
    print(f"| fvt, means of 3 pieces | {seconds(lambda: _means(rows.source, pieces)):.2f} |", flush=True)
    for name, method in methods.items():
        taken = seconds(lambda method=method: assemble(rows, method.new_rows([rows])[0]))
        print(f"| {name} | {taken:.2f} |", flush=True)
    work = 2e-9 * new * len(rows.anchors) * (rows.helper.shape[1] + rows.source.shape[1])
    speed = matrix_speed()
    print(
        f"\nCLP's similarities and their means are {work:.0f} GFLOP, {work / speed:.1f} s at the {speed:.0f} GFLOP/s "
        "of this machine's matrix product. Clipped at zero they have no shorter form; unclipped, S (Hᵀ E) would be "
        "one, but sums near zero magnify its rounding, and the report's counts need the similarities."
    )


def matrix_speed() -> float:
    """Return the GFLOP/s of a large matrix product, the best of five."""
    import torch

    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / min(seconds(lambda: a @ a) for _ in range(5)) / 1e9


def against_the_loops(problem: Problem, part: int, rounds: int) -> None:
    """Print each fast path beside the released code's structure, in turn, equal results first."""
    import torch

    from papertrial.efficient.vocabulary_adaptation.aligners import fit_aligner
    from papertrial.efficient.vocabulary_adaptation.alignment import fit_translation
    from papertrial.efficient.vocabulary_adaptation.naive import clp_loop, train_aligner, translate_rows
    from papertrial.efficient.vocabulary_adaptation.similarity import similarity_weights

    rows = problem.rows
    new, anchors = rows.match.new, rows.anchors
    helper_new, helper_shared = rows.helper[new], rows.helper[anchors]
    source_shared = rows.source_rows(anchors)
    unit = torch.nn.functional.normalize(helper_shared, dim=1)

    def clp_blocks(some: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [
                similarity_weights(torch.nn.functional.normalize(block, dim=1) @ unit.T, "none")
                @ source_shared
                for block in some.split(1024)
            ]
        )

    translation = fit_translation(helper_shared, source_shared, "ridge")
    some = helper_new[:part]
    torch.testing.assert_close(translation(some), translate_rows(translation, some), rtol=1e-3, atol=1e-4)
    x, y = (torch.nn.functional.normalize(one, dim=1) for one in (helper_shared, source_shared))
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object], float, float]] = {
        f"CLP rows (loop: {part} of {len(new)})": (
            lambda: clp_blocks(helper_new),
            lambda: clp_loop(some, helper_shared, source_shared),
            1.0,
            len(new) / part,
        ),
        f"SAVA mapping (loop: {part} of {len(new)})": (
            lambda: translation(helper_new),
            lambda: translate_rows(translation, some),
            1.0,
            len(new) / part,
        ),
        "SAVA Adam, 1000 steps (from 12 and 2 steps)": (
            lambda: fit_aligner(x, y, "sgd", steps=12),
            lambda: train_aligner(x, y, steps=2),
            1000 / 12,
            500.0,
        ),
    }
    print("\n| part | ours, s | loop, s | times as fast |\n|---|---|---|---|")
    for name, (ours, loop, ours_scale, loop_scale) in pairs.items():
        taken = [(seconds(ours) * ours_scale, seconds(loop) * loop_scale) for _ in range(rounds)]
        first, second = (statistics.median(one) for one in zip(*taken, strict=True))
        ratio = statistics.median(b / a for a, b in taken)
        print(f"| {name} | {first:.2f} | {second:.1f} | {ratio:.0f} |", flush=True)


def against_latentis(width: int, helper_width: int, anchors: int, rounds: int) -> None:
    """Hold the whole translation to latentis' translator, as the released code builds it, and time both."""
    import torch

    from papertrial.efficient.vocabulary_adaptation.alignment import fit_translation

    generator = torch.Generator().manual_seed(0)
    common = torch.randn(2 * anchors, 32, generator=generator)
    x, y = (
        common @ torch.randn(32, columns, generator=generator)
        + torch.randn(2 * anchors, columns, generator=generator)
        for columns in (helper_width, width)
    )
    print(f"{anchors} anchors and as many new tokens, {helper_width} -> {width}, torch {torch.__version__}\n")
    print(
        "| aligner | largest relative difference | fit: ours, s | latentis, s | map: ours, s | row by row, s |"
    )
    print("|---|---|---|---|---|---|")
    for name in ("sgd", "matrix", "ortho"):
        taken = []
        for _ in range(rounds):
            theirs, ours = latentis_translator(name), {}
            fitted = (
                seconds(
                    lambda ours=ours, name=name: ours.update(
                        it=fit_translation(x[:anchors], y[:anchors], name)
                    )
                ),
                seconds(lambda theirs=theirs: theirs.fit(x[:anchors], y[:anchors])),
            )
            new, rows = x[anchors:], []
            mapped = (
                seconds(lambda ours=ours, new=new: ours.update(rows=ours["it"](new))),
                seconds(
                    lambda t=theirs, new=new, rows=rows: rows.extend(t.transform(row[None])[0] for row in new)
                ),
            )
            taken.append((*fitted, *mapped))
        wanted = torch.cat(rows).detach()
        difference = float(((ours["rows"] - wanted).norm(dim=1) / wanted.norm(dim=1)).max())
        columns = [f"{statistics.median(one):.3f}" for one in zip(*taken, strict=True)]
        print(f"| {name} | {difference:.1e} | {' | '.join(columns)} |", flush=True)


def latentis_translator(name: str) -> object:
    """Return latentis' translator with the transforms that the released code gives it."""
    from latentis.transform import TransformSequence
    from latentis.transform.base import MeanLPNorm, StandardScaling
    from latentis.transform.translate import Procrustes, Translator
    from latentis.transform.translate.aligner import MatrixAligner, SGDAffineAligner, ZeroPadding
    from latentis.transform.translate.functional import lstsq_align_state

    aligners = {
        "sgd": lambda: SGDAffineAligner(num_steps=1000, lr=1e-3, random_seed=42),
        "matrix": lambda: MatrixAligner(name="affine", align_fn_state=lstsq_align_state),
        "ortho": Procrustes,
    }
    first, second = (TransformSequence([StandardScaling(), MeanLPNorm(p=2)]) for _ in range(2))
    return Translator(
        aligner=aligners[name](), x_transform=first, y_transform=second, dim_matcher=ZeroPadding()
    )


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latentis", action="store_true")
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--helper-width", type=int, default=2560)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--part", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.latentis:
        ensure_environment(__file__, "vocabulary_adaptation", INSTALLS)
        against_latentis(256, 256, 1000, given.rounds)
        against_latentis(256, 192, 1000, given.rounds)
        return
    import torch

    print(
        f"{given.tokens} target tokens, half of them shared, width {given.width}, helper {given.helper_width}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.rounds} rounds\n"
    )
    problem = Problem(given.tokens, given.width, given.helper_width)
    table_of_methods(problem, given.steps)
    against_the_loops(problem, given.part, given.rounds)


if __name__ == "__main__":
    main()
