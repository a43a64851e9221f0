from __future__ import annotations

import json
import math
import sys

import pytest

from papertrial.efficient.qwen3_quantization import study_table as module
from papertrial.efficient.qwen3_quantization.study_table import (
    METRICS,
    as_markdown,
    read_groups,
    setting_of,
    study_table,
)
from papertrial.efficient.qwen3_quantization.trial import GridTrial, arm_settings
from papertrial.errors import BadInputError
from papertrial.trial.evidence import Measurement
from papertrial.trial.files import to_json


def _measured(arm, seed, **changed):
    metrics = dict.fromkeys(METRICS, 1.0) | {"bytes_per_weight": 0.5} | changed
    return {"arm": arm, "seed": seed, "metrics": metrics}


def _export(measurements, trial="grid", group=32):
    """What `papertrial evidence --format json` writes."""
    rows = [vars(Measurement(**one)) for one in measurements]
    about = {"paper": "qwen3_quantization", "trial": trial, "settings": {"group": group}}
    return to_json([{**about, "folder": "here", "measurements": rows, "sweep": []}]).decode()


@pytest.mark.parametrize("arm", GridTrial.arms[1:])
def test_a_row_says_what_the_arm_was_quantised_with(arm):
    """The names are read apart without torch; the trial's own reading is the reference."""
    row, settings = setting_of(arm, 32), arm_settings(arm, 32)
    binary = settings.method == "billm"
    assert row.weight_bits == (1 if binary else settings.bits)
    assert row.activation_bits == (settings.rounded_activation_bits or 16)
    assert row.group == (settings.block if binary else max(0, settings.group_size))
    words = {"rtn_wa": "released", "billm": "BiLLM", "smoothquant": "SmoothQuant"}
    assert words.get(settings.method, settings.method.upper()) in row.method
    assert ("released" in row.method) == (settings.method == "rtn_wa")
    assert ("Hessian" in row.method) == (binary and settings.saliency == "hessian")
    assert ("searched" in row.method) == settings.search


def test_every_arm_is_a_row_of_its_own_in_the_studys_order():
    rows = study_table([_measured(arm, 0) for arm in reversed(GridTrial.arms)], 32)
    keys = [(row["method"], row["W"], row["A"], row["G"]) for row in rows]
    assert len(set(keys)) == len(GridTrial.arms)
    assert keys[0] == ("full precision", 16, 16, "row")
    assert keys[1:5] == [
        ("RTN", 8, 16, "row"),
        ("GPTQ", 8, 16, "row"),
        ("AWQ", 8, 16, "row"),
        ("RTN", 4, 16, "row"),
    ]
    blocks = [(row["A"] != 16, row["G"] != "row") for row in rows]
    assert blocks == sorted(blocks)  # weights by row, weights in groups, weights and activations
    for block in set(blocks):
        bits = [row["W"] for row, own in zip(rows, blocks, strict=True) if own == block]
        assert bits == sorted(bits, reverse=True)


def test_seeds_become_a_mean_and_a_deviation():
    runs = [
        _measured("gptq-4-group", seed, perplexity=value) for seed, value in enumerate((10.0, 12.0, 14.0))
    ]
    (row,) = study_table([*runs], 128)
    assert (row["perplexity"], row["perplexity ±"], row["seeds"]) == (12.0, 2.0, 3)
    assert (row["G"], row["bits"]) == ("128", 4.0)
    assert "| GPTQ | 4 | 16 | 128 | 4.00 | 12 ± 2 |" in as_markdown([row])
    (single,) = study_table([_measured("rtn-2", 0, perplexity=math.inf)], 128)
    assert math.isnan(single["perplexity ±"])
    assert "| inf |" in as_markdown([single])


def test_an_export_is_read_with_its_broken_down_models(tmp_path, monkeypatch, capsys):
    runs = [_measured("full", 0), _measured("rtn-2", 0, perplexity=math.inf, kl=math.nan)]
    ((title, measurements, group),) = read_groups(_export(runs))
    assert (title, group) == ("here", 32)
    rows = study_table(measurements, group)
    assert math.isinf(rows[1]["perplexity"])
    assert math.isnan(rows[1]["kl"])
    (tmp_path / "runs.json").write_text(_export(runs))
    module.main([str(tmp_path / "runs.json")])
    assert "| RTN | 2 | 16 | row | 4.00 | inf | nan |" in capsys.readouterr().out


def test_the_reference_run_has_a_row_for_every_arm_it_measured():
    ((_, measurements, group),) = read_groups(module.REFERENCE.read_text())
    rows = study_table(measurements, group)
    raw = json.loads(module.REFERENCE.read_text())["trials"]["grid"]
    assert len(rows) == len({one[0] for one in raw["measurements"]})
    at = 2 + raw["metrics"].index("kl")
    values = [float(one[at]) for one in raw["measurements"] if one[0] == "awq-3-group"]
    (row,) = (one for one in rows if (one["method"], one["W"], one["G"]) == ("AWQ", 3, str(group)))
    assert row["kl"] == pytest.approx(sum(values) / len(values))


def test_the_table_needs_no_torch(tmp_path):
    """It is read off files, so it answers at once."""
    import subprocess

    code = (
        "import sys; from papertrial.efficient.qwen3_quantization import study_table as s; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_is_no_export_is_said(tmp_path):
    with pytest.raises(BadInputError, match="nothing is measured"):
        study_table([], 32)
    with pytest.raises(BadInputError, match="unknown arm of the grid trial 'gptq-4-groups'"):
        setting_of("gptq-4-groups", 32)
    with pytest.raises(BadInputError, match="this is no JSON"):
        read_groups("arm,seed")
    with pytest.raises(BadInputError, match=r"no run of qwen3_quantization\.grid in this"):
        read_groups(_export([], trial="calibration"))
    with pytest.raises(SystemExit, match=r"study_table: .*missing"):
        module.main([str(tmp_path / "missing.json")])
