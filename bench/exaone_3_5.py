"""Decontamination beside lm-eval's n-gram path: MB of UTF-8 text a second, one core.

    python bench/exaone_3_5.py                # all modes, English and Korean, and the peer; Markdown
    python bench/exaone_3_5.py --megabytes 8  # less text

The peer is `Janitor` of lm-eval 0.4.13 in its Python form (its C++ module is not in the package): registering the
test items, and cleaning a text, which visits every 13-gram of words. All contestants take turns in one process on
the same documents. The script makes .venvs/exaone_3_5 itself. The bound is what normalisation alone costs: no rule
can be faster than reading the text once, and the copy below is what the memory allows.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from peer_environment import ensure_environment

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venvs" / "exaone_3_5"
TORCH = "torch==2.13.0"
INSTALLS = (  # what pip is told, in the peer's environment
    [TORCH, "numpy", "numba", "jaxtyping"],
    ["--no-deps", "lm-eval==0.4.13"],
)
PEER_MEGABYTES = 1  # the peer reads a part: it takes seconds a megabyte


def load_janitor() -> type:
    """Load the peer's one module, without its package's imports; its notice about C++ is not shown."""
    path = next(VENV.glob("lib/python*/site-packages/lm_eval/decontamination/janitor.py"))
    spec = importlib.util.spec_from_file_location("janitor", path)
    module = importlib.util.module_from_spec(spec)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        spec.loader.exec_module(module)
    return module.Janitor


def korean(megabytes: float) -> list[str]:
    """Return documents of drawn Hangul words."""
    draw = random.Random(0)
    words = [
        "".join(chr(draw.randrange(0xAC00, 0xD7A3)) for _ in range(draw.randint(1, 5))) for _ in range(5000)
    ]
    texts, size = [], 0.0
    while size < megabytes:
        texts.append(" ".join(draw.choices(words, k=1500)) + ".")
        size += len(texts[-1].encode()) / 1e6
    return texts


def size_of(texts: list[str]) -> float:
    """Return megabytes of UTF-8."""
    return sum(len(text.encode()) for text in texts) / 1e6


def compare(runs: dict[str, Callable[[], object]], sizes: dict[str, float], rounds: int) -> dict[str, float]:
    """Return MB a second of each, the median of rounds in which all take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: sizes[name] / statistics.median(taken) for name, taken in seconds.items()}


def contestants(texts: list[str], items: list, janitor: object) -> tuple[dict, dict]:
    """Return what is run on the texts, by name, and how many megabytes each reads."""
    from papertrial.efficient.exaone_3_5.decontamination import Decontaminator, Rule
    from papertrial.efficient.exaone_3_5.normalisation import normalise

    normal = [normalise(text) for text in texts]
    part, read = [], 0.0
    for text in texts:
        part.append(text)
        read += len(text.encode()) / 1e6
        if read > PEER_MEGABYTES:
            break
    runs: dict[str, Callable[[], object]] = {
        "copy of the bytes": lambda: [text.encode() for text in texts],
        "normalise": lambda: [normalise(text) for text in texts],
    }
    for mode in ("sampled", "chunked", "gpt4", "exhaustive"):
        searcher = Decontaminator(items, Rule(mode=mode))
        runs[f"{mode}, from str"] = lambda one=searcher: [one.find(text) for text in texts]
        if mode in ("sampled", "exhaustive"):
            runs[f"{mode}, scan alone"] = lambda one=searcher: [one.find_copy(each) for each in normal]
    runs["lm-eval 13-gram"] = lambda: [janitor.clean_python(text) for text in part]
    sizes = dict.fromkeys(runs, size_of(texts)) | {"lm-eval 13-gram": size_of(part)}
    return runs, sizes


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    ensure_environment(__file__, "exaone_3_5", INSTALLS, OMP_NUM_THREADS="1")
    from papertrial.data.text import standard_library
    from papertrial.efficient.exaone_3_5.leaks import make_items

    items = make_items(1000, 0)
    janitor = load_janitor()()
    for item in items:
        janitor.register_contaminant_python(item.text)
    english, size = [], 0.0
    for text in standard_library():
        if size < given.megabytes:
            english.append(text)
            size += len(text.encode()) / 1e6
    print(
        f"{len(items)} test items; {size_of(english):.0f} MB of English and code, {given.megabytes:.0f} of Korean"
    )
    columns = {}
    for name, texts in (("English", english), ("Korean", korean(given.megabytes))):
        columns[name] = compare(*contestants(texts, items, janitor), given.rounds)
    print(
        "\n| path | English, MB/s | times lm-eval | Korean, MB/s | times lm-eval |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for path in columns["English"]:
        cells = [
            cell
            for values in columns.values()
            for cell in (f"{values[path]:.1f}", f"{values[path] / values['lm-eval 13-gram']:.0f}")
        ]
        print(f"| {path} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
