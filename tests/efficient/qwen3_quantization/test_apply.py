from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from papertrial.efficient.binary_linear import PackedLinear
from papertrial.efficient.quantized_checkpoints import load_quantized
from papertrial.efficient.qwen3_quantization.apply import REPORT_FILE, Quantize
from papertrial.errors import BadInputError


@pytest.fixture(autouse=True)
def quiet():
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.jsonl"  # short and long documents in turn
    rows = [
        {"text": f"Sentence {i} says that {i * i} is its square. " * (5 + 25 * (i % 2))} for i in range(60)
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return str(file)


def _deed(out, text, **options):
    settings = {"group_size": 32, "sequences": 4, "length": 64, "calibration": text, **options}
    return Quantize("tiny-qwen3", out, **settings)


@pytest.mark.parametrize(
    ("options", "packed"),
    [
        ({"algorithm": "gptq"}, True),
        ({"algorithm": "awq", "format": "awq", "protocol": "blocks", "length": 512}, True),
        ({"algorithm": "gptq", "format": "gptq_v2", "protocol": "packed"}, True),
        ({"algorithm": "smoothquant", "bits": 8}, True),
        ({"algorithm": "rtn", "calibration": None, "search": True}, True),
        ({"algorithm": "gptq", "static_groups": True, "format": "metal"}, False),
        ({"algorithm": "billm"}, True),
        ({"algorithm": "billm", "saliency": "hessian", "format": "dense"}, False),
        ({"algorithm": "rtn", "format": "dense"}, False),
    ],
)
def test_the_folder_holds_a_model_that_loads(tmp_path, text, options, packed):
    told = []
    out = tmp_path / "out"
    facts = _deed(out, text, **options).run(lambda *done: told.append(done))
    assert told[-1] == (2, 2, "layers")
    model = load_quantized(out) if packed else AutoModelForCausalLM.from_pretrained(out, device_map="cpu")
    assert isinstance(model.model.layers[0].mlp.up_proj, PackedLinear) == packed
    assert bool(torch.isfinite(model(torch.tensor([[65, 66, 67]])).logits).all())
    report = json.loads((out / REPORT_FILE).read_text())
    assert len(report["layers"]) == facts["matrices"] == 14
    assert 2 < facts["bits_per_weight"] < 9
    assert ("nominal_bits" in facts) == (options["algorithm"] == "billm")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": None}, "gptq looks at activations: name a text with --calibration"),
        (
            {"algorithm": "billm", "format": "gptq"},
            "billm's signs fit papertrial and dense folders, got gptq",
        ),
        ({"bits": 7}, "bits must be one of"),
        ({"length": 100_000}, "is longer than 100000 tokens"),
    ],
)
def test_what_cannot_work_is_said_and_nothing_is_written(tmp_path, text, options, message):
    with pytest.raises(BadInputError, match=message):
        _deed(tmp_path / "out", text, **options).run(lambda *_: None)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_files_is_left_alone(tmp_path, text):
    with pytest.raises(BadInputError, match="out must be an empty or new folder"):
        _deed(tmp_path, text).run(lambda *_: None)
