"""The study's table from a finished run: a row for each method, bit-width and grouping, the metrics in columns.

    python -m papertrial.efficient.qwen3_quantization.study_table              # of the reference run
    papertrial evidence qwen3_quantization --format json > runs.json
    python -m papertrial.efficient.qwen3_quantization.study_table runs.json    # of your own, each by itself

Source: arXiv 2505.02214, Tables 1 to 4 (one scale a row and groups of 128, weights alone and with activations).
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from papertrial.errors import BadInputError, unknown

REFERENCE = Path(__file__).with_name("reference.json")
TRIAL = "grid"
METRICS = ("perplexity", "kl", "agreement", "accuracy")
"""What stands in columns behind the size; then what else a run has measured, text by text and task by task."""

_METHODS = {"full": "full precision", "rtn": "RTN", "gptq": "GPTQ", "awq": "AWQ"}
_OTHERS = {
    "smoothquant": "SmoothQuant",
    "smoothquant-released": "SmoothQuant, released (no smoothing)",
    "billm": "BiLLM",
    "billm-hessian": "BiLLM, Hessian saliency",
}
_ORDER = (*_METHODS.values(), "RTN, range searched", *_OTHERS.values())
_BLOCK = 128  # BiLLM's own, whatever the groups of the other methods
_FULL_BITS = 16
_WEIGHT_ONLY = re.compile(r"(rtn|gptq|awq)-(\d)(-group|-search)?")
_WITH_ACTIVATIONS = re.compile(r"(smoothquant(?:-released)?)-w(\d)a(\d)")

Row = dict[str, str | float]


class Setting(NamedTuple):
    """What an arm of the trial stands for, as the study's tables say it.

    Attributes:
        method: as it is printed.
        weight_bits: of the weights.
        activation_bits: of the activations.
        group: input channels that share a scale; 0 for one scale a row.
    """

    method: str
    weight_bits: int
    activation_bits: int
    group: int


def setting_of(arm: str, group: int) -> Setting:
    """Return what an arm's name stands for.

    Args:
        arm: one of the trial's.
        group: the trial's, of the arms that have groups.

    Raises:
        BadInputError: an arm that the trial does not have.
    """
    if arm == "full":
        return Setting(_METHODS[arm], _FULL_BITS, _FULL_BITS, 0)
    if arm in ("billm", "billm-hessian"):
        return Setting(_OTHERS[arm], 1, _FULL_BITS, _BLOCK)
    if found := _WEIGHT_ONLY.fullmatch(arm):
        method, bits, variant = found.groups()
        name = _METHODS[method] + (", range searched" if variant == "-search" else "")
        return Setting(name, int(bits), _FULL_BITS, group if variant == "-group" else 0)
    if found := _WITH_ACTIVATIONS.fullmatch(arm):
        return Setting(_OTHERS[found[1]], int(found[2]), int(found[3]), 0)
    raise unknown("arm of the grid trial", arm, (*_METHODS, *_OTHERS))


def study_table(measurements: Iterable[Mapping[str, Any]], group: int) -> list[Row]:
    """Return the joined table: by activation bits, grouping and weight bits from high to low, then by method.

    Args:
        measurements: of the grid trial, each with `arm` and `metrics`, as `papertrial evidence --format json`
            has them; several seeds of an arm become a mean and, from two seeds on, a standard deviation.
        group: the trial's setting of that name.

    Returns:
        Rows with method, W, A and G ("row" for one scale a row), bits (stored for each weight, scales, zero
        points, indices and masks counted), seeds, and for each metric its mean and `<metric> ±`.

    Raises:
        BadInputError: nothing measured, or an arm that the trial does not have.
    """
    metrics: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for one in measurements:
        # JSON has no numbers that are not finite: those come as words that float() reads
        metrics[one["arm"]].append({name: float(value) for name, value in one["metrics"].items()})
    if not metrics:
        raise BadInputError("nothing is measured: run papertrial try qwen3_quantization.grid first")
    settings = {arm: setting_of(arm, group) for arm in metrics}

    def place(arm: str) -> tuple[Any, ...]:
        one = settings[arm]
        rounds_activations = one.activation_bits != _FULL_BITS
        by_row_first = one.group != 0
        bits = (-one.weight_bits, -one.activation_bits)
        if one.weight_bits == _FULL_BITS:
            return (0,)
        return (1, rounds_activations, by_row_first, *bits, _ORDER.index(one.method))

    return [_row(settings[arm], metrics[arm]) for arm in sorted(metrics, key=place)]


def _row(setting: Setting, seeds: Sequence[Mapping[str, float]]) -> Row:
    row: Row = {
        "method": setting.method,
        "W": setting.weight_bits,
        "A": setting.activation_bits,
        "G": str(setting.group or "row"),
        "bits": 8 * statistics.fmean(one["bytes_per_weight"] for one in seeds),
        "seeds": len(seeds),
    }
    for name in (*METRICS, *(name for name in seeds[0] if name not in (*METRICS, "bytes_per_weight"))):
        values = [one[name] for one in seeds]
        row[name] = statistics.fmean(values)
        row[f"{name} ±"] = _deviation(values)
    return row


def _deviation(values: Sequence[float]) -> float:
    finite = all(math.isfinite(value) for value in values)
    return statistics.stdev(values) if finite and len(values) > 1 else math.nan


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown, each metric as mean ± standard deviation over the seeds."""
    metrics = [name.removesuffix(" ±") for name in rows[0] if name.endswith(" ±")]
    heads = ("method", "W", "A", "G", "bits/weight", *metrics)
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        cells = [str(row[name]) for name in ("method", "W", "A", "G")]
        cells.append(f"{row['bits']:.2f}")
        cells += [_cell(float(row[name]), float(row[f"{name} ±"])) for name in metrics]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(mean: float, deviation: float) -> str:
    return f"{mean:.4g}" if math.isnan(deviation) else f"{mean:.4g} ± {float(f'{deviation:.2g}'):g}"


def read_groups(text: str) -> list[tuple[str, list[Mapping[str, Any]], int]]:
    """Return title, measurements and group of each run of the grid trial in an export.

    Args:
        text: what `papertrial evidence --format json` gave, or a room's reference.json.

    Raises:
        BadInputError: no JSON, or no run of the grid trial in it.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadInputError(f"this is no JSON: {error}; give papertrial evidence --format json") from error
    if isinstance(found, dict):
        trial = found["trials"][TRIAL]
        rows: list[Mapping[str, Any]] = [
            {
                "arm": arm,
                "seed": seed,
                "metrics": dict(zip(trial["metrics"], values, strict=True)),
            }
            for arm, seed, *values in trial["measurements"]
        ]
        return [(trial["scale"], rows, trial["settings"]["group"])]
    runs = [
        (one["folder"], one["measurements"], one["settings"]["group"])
        for one in found
        if one["trial"] == TRIAL and one["paper"] == "qwen3_quantization"
    ]
    if not runs:
        raise BadInputError(
            "no run of qwen3_quantization.grid in this: papertrial try qwen3_quantization.grid"
        )
    return runs


def main(words: Sequence[str]) -> None:
    """Write the table of every run in the file named, or of the reference run where none is."""
    path = Path(words[0]) if words else REFERENCE
    try:
        for title, measurements, group in read_groups(path.read_text(encoding="utf-8")):
            sys.stdout.write(f"{title}\n\n{as_markdown(study_table(measurements, group))}\n")
    except (BadInputError, OSError) as error:
        sys.exit(f"study_table: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
