from __future__ import annotations

import pytest
import torch
from torch import nn

from papertrial.efficient.accounting import binary_bytes, bytes_table, model_bytes, quantized_bytes
from papertrial.efficient.quantized_linear import QuantizedWeight, QuantLinear


def _weight(bits, ordered):
    return QuantizedWeight(
        torch.zeros(8, 64, dtype=torch.uint8),
        torch.ones(8, 2).half(),
        torch.zeros(8, 2, dtype=torch.uint8),
        bits,
        torch.arange(64, dtype=torch.int32) % 2 if ordered else None,
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("ordered", [False, True])
def test_the_count_is_what_a_packed_layers_buffers_take(bits, ordered):
    weight = _weight(bits, ordered)
    layer = QuantLinear.from_weight(weight)
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in layer.buffers())
    assert quantized_bytes(weight).total == buffers
    assert model_bytes(nn.Sequential(layer), ["0"]).total == buffers


def test_a_plain_linear_counts_in_its_own_format():
    model = nn.Sequential(nn.Linear(16, 4, dtype=torch.bfloat16), nn.Linear(4, 2))
    size = model_bytes(model, ["0", "1"])
    assert size.total == 16 * 4 * 2 + 4 * 2 * 4
    assert size.weights == 16 * 4 + 4 * 2


def test_binary_storage_by_hand():
    salient = torch.zeros(256, dtype=torch.bool)
    salient[:8] = salient[128:132] = True
    size = binary_bytes(salient, 100, block=128)
    chosen = 12 * 100
    assert size.codes * 8 == 256 * 100 + chosen  # a second sign in salient columns
    assert size.masks * 8 == 256 * 100 - chosen + 256  # which of two parts; which columns are salient
    assert size.scales == 2 * 100 * 4 * 2 * 2  # blocks, rows, binarisations, mean and scale, two bytes each


def test_sizes_add_up():
    size = quantized_bytes(_weight(4, True)) + quantized_bytes(_weight(2, False))
    assert size.weights == 2 * 8 * 64
    row = bytes_table({"both": size})[0]
    assert row["bits"] == pytest.approx(8 * size.total / size.weights)
    assert row["codes"] + row["scales"] + row["zeros"] + row["index"] + row["masks"] == size.total
