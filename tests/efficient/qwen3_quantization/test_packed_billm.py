"""BiLLM's signs, saved and loaded: the same logits bit for bit, and the bytes that were counted."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from papertrial.efficient.accounting import model_bytes
from papertrial.efficient.binary_linear import BinaryLinear
from papertrial.efficient.layouts import layout_of
from papertrial.efficient.quantized_checkpoints import load_quantized, save_quantized
from papertrial.efficient.qwen3_quantization.quantize import is_quantized, quantize_model
from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings
from papertrial.errors import BadInputError


@pytest.fixture(autouse=True)
def quiet():
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def _logits(model, ids):
    with torch.no_grad():
        return model.eval()(ids).logits


def _bytes_on_disk(folder, names):
    """What the safetensors files hold for the given matrices, tensor by tensor."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  # no mapping
                if key.rpartition(".")[0] in names:
                    value = tensors.get_tensor(key)
                    total += value.numel() * value.element_size()
    return total


@pytest.mark.parametrize("saliency", ["magnitude", "hessian"])
@pytest.mark.parametrize("block", [128, 32])  # wider than the widest matrix's inputs, and several to each
def test_a_saved_model_is_loaded_bit_for_bit(tiny, ids, tmp_path, saliency, block):
    settings = QuantizationSettings("billm", saliency=saliency, block=block)
    model, dense = tiny(), tiny()
    report = quantize_model(model, settings, ids)
    quantize_model(dense, settings, ids, packed=False)
    expected = _logits(model, ids)
    assert torch.equal(expected, _logits(dense, ids))  # signs or plain values: the same numbers
    names = layout_of(dense).linears
    assert all(isinstance(model.get_submodule(name), BinaryLinear) for name in names)
    save_quantized(model, tmp_path, method="billm")
    for again in (load_quantized(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)):
        assert isinstance(again.get_submodule(names[0]), BinaryLinear)
        assert torch.equal(_logits(again, ids), expected)
    assert report.size.total == model_bytes(model, names).total == _bytes_on_disk(tmp_path, names)


def test_packed_signs_take_a_fifth_of_plain_half_precision(tiny, ids, tmp_path):
    model = tiny()
    names = layout_of(model).linears
    plain = sum(2 * model.get_submodule(name).weight.numel() for name in names)
    quantize_model(model, QuantizationSettings("billm"), ids)
    save_quantized(model, tmp_path)
    # two bits a weight, and 8 float16 a row for 64 or 128 inputs: 3 to 4 bits of 16
    assert 3 / 16 < _bytes_on_disk(tmp_path, names) / plain < 4 / 16


def test_half_precision_and_biases_survive(tiny, ids, tmp_path):
    model = tiny(attention_bias=True).to(torch.bfloat16)
    model.model.rotary_emb = (
        tiny().model.rotary_emb
    )  # loading leaves its frequencies in float32; `to` does not
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.bias.normal_(generator=torch.Generator().manual_seed(0))
    quantize_model(model, QuantizationSettings("billm", scale_dtype="bfloat16"), ids)
    save_quantized(model, tmp_path, method="billm")
    again = load_quantized(tmp_path)
    assert again.model.layers[0].self_attn.q_proj.scales.dtype == torch.bfloat16
    assert torch.equal(_logits(again, ids), _logits(model, ids))


def test_a_dense_folder_holds_the_same_values(tiny, ids, tmp_path):
    model = tiny()
    quantize_model(model, QuantizationSettings("billm"), ids)
    save_quantized(model, tmp_path, format="dense")
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(_logits(again, ids), _logits(model, ids))


def test_what_signs_cannot_do_is_refused(tiny, ids, tmp_path):
    model = tiny()
    quantize_model(model, QuantizationSettings("billm"), ids)
    assert is_quantized(model)
    with pytest.raises(BadInputError, match="is quantised already"):
        quantize_model(model, QuantizationSettings("rtn"), ids)
    for form in ("gptq", "awq", "metal"):
        with pytest.raises(BadInputError, match=f"the {form} format holds whole numbers of 2 to 8 bits, and"):
            save_quantized(model, tmp_path, format=form)


def test_released_arithmetic_stays_in_plain_linears(tiny, ids):
    """In float32 as released an entry may lie exactly at its mean, which no sign bit can say."""
    model = tiny()
    quantize_model(model, QuantizationSettings("billm", scale_dtype="float32"), ids)
    assert not is_quantized(model)
