"""The tensors of other programs' checkpoints: GPTQ's, AWQ's and MLX's layouts of a quantised matrix.

gptq, gptq_v2   qweight int32 (in · bits / 32, out), codes packed down a column; qzeros int32 (groups,
                out · bits / 32), the first version one less than they are; scales (groups, out); g_idx (in,)
awq             4 bits: qweight int32 (in, out / 8), eight outputs a word in the order 0 2 4 6 1 3 5 7;
                qzeros likewise (groups, out / 8); scales (groups, out)
metal           weight uint32 (out, in · bits / 32); scales and qbiases (out, groups): w = s · q + b
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from papertrial.efficient.packing import pack_codes, packed_width, unpack_codes
from papertrial.efficient.quantized_linear import QuantizedWeight
from papertrial.errors import BadInputError, unknown

TensorLayout = Literal["gptq", "gptq_v2", "awq", "metal"]
"""The layouts that can be written; all but `metal` can be read back to whole numbers."""

_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_AWQ_BITS = 4
_METAL_BITS = (2, 4, 8)
_METAL_GROUP = 64  # a scale a row is written as equal scales for groups of this many inputs
_WORD = 32


def layout_tensors(weight: QuantizedWeight, layout: str, name: str = "the layer") -> dict[str, Tensor]:
    """Return a quantised matrix in another program's layout: a `TensorLayout`.

    Raises:
        BadInputError: what the layout cannot hold: other widths, groups that are not consecutive, rows that
            do not fill words of 32 bits, or in `gptq` a zero point of 0, which its readers take for 2^bits.
    """
    if layout not in get_args(TensorLayout):
        raise unknown("layout", layout, get_args(TensorLayout))
    if layout == "awq":
        return _awq_tensors(weight, name)
    if layout == "metal":
        return _metal_tensors(weight, name)
    return _gptq_tensors(weight, layout, name)


def read_layout(
    tensors: Mapping[str, Tensor], layout: str, bits: int, name: str = "the layer"
) -> QuantizedWeight:
    """Return the quantised matrix that another program's tensors hold.

    Raises:
        BadInputError: tensors that are missing or do not fit each other, or layout `metal`.
    """
    if layout not in ("gptq", "gptq_v2", "awq"):
        raise unknown("layout", layout, ("gptq", "gptq_v2", "awq"))
    lacking = [key for key in ("qweight", "qzeros", "scales") if key not in tensors]
    if lacking:
        raise BadInputError(f"{name} lacks {', '.join(lacking)} of the {layout} layout")
    if layout == "awq":
        return _read_awq(tensors, bits, name)
    scales = tensors["scales"].T.contiguous()
    outputs, groups = scales.shape
    inputs = tensors["qweight"].shape[0] * _WORD // bits
    codes = unpack_codes(_as_bytes(tensors["qweight"].T), bits, inputs)
    zeros = unpack_codes(_as_bytes(tensors["qzeros"]), bits, outputs)
    if layout == "gptq":
        zeros = (zeros + 1) & ((1 << bits) - 1)
    group_of = tensors.get("g_idx")
    consecutive = torch.arange(inputs, dtype=torch.int32) // (inputs // groups)
    if group_of is not None and torch.equal(group_of.to(torch.int32).cpu(), consecutive):
        group_of = None
    return QuantizedWeight(codes, scales, zeros.T.contiguous(), bits, group_of)


def _gptq_tensors(weight: QuantizedWeight, layout: str, name: str) -> dict[str, Tensor]:
    outputs, inputs = weight.codes.shape
    _fills_words(inputs, weight.bits, f"the inputs of {name}")
    _fills_words(outputs, weight.bits, f"the outputs of {name}")
    zeros = weight.zeros
    if layout == "gptq":
        if bool((zeros == 0).any()):
            raise BadInputError(
                f"{name} has zero points of 0, which the first gptq layout cannot hold; write gptq_v2"
            )
        zeros = zeros - 1
    group_of = weight.group_of
    if group_of is None:
        group_of = torch.arange(inputs, dtype=torch.int32) // weight.group_size
    return {
        "qweight": _as_words(pack_codes(weight.codes, weight.bits)).T.contiguous(),
        "qzeros": _as_words(pack_codes(zeros.T.contiguous(), weight.bits)),
        "scales": weight.scales.T.to(torch.float16).contiguous(),
        "g_idx": group_of.to(torch.int32),
    }


def _awq_tensors(weight: QuantizedWeight, name: str) -> dict[str, Tensor]:
    if weight.bits != _AWQ_BITS or weight.group_of is not None:
        raise BadInputError(
            f"the awq layout holds 4 bits in consecutive groups; {name} has {weight.bits} bits"
            + ("" if weight.group_of is None else " and groups in order of activity")
        )
    _fills_words(weight.codes.shape[0], weight.bits, f"the outputs of {name}")

    def packed(values: Tensor) -> Tensor:
        ordered = values.T.unflatten(1, (-1, len(_AWQ_ORDER)))[..., list(_AWQ_ORDER)].flatten(1)
        return _as_words(pack_codes(ordered.contiguous(), _AWQ_BITS))

    scales = weight.scales.T.to(torch.float16).contiguous()
    return {"qweight": packed(weight.codes), "qzeros": packed(weight.zeros), "scales": scales}


def _read_awq(tensors: Mapping[str, Tensor], bits: int, name: str) -> QuantizedWeight:
    if bits != _AWQ_BITS:
        raise BadInputError(f"the awq layout holds 4 bits, {name} is said to have {bits}")
    scales = tensors["scales"].T.contiguous()
    outputs = len(scales)
    back = torch.argsort(torch.tensor(_AWQ_ORDER)).tolist()

    def codes(words: Tensor) -> Tensor:
        rows = unpack_codes(_as_bytes(words), bits, outputs).unflatten(1, (-1, len(_AWQ_ORDER)))
        return rows[..., back].flatten(1).T.contiguous()

    return QuantizedWeight(codes(tensors["qweight"]), scales, codes(tensors["qzeros"]), bits)


def _metal_tensors(weight: QuantizedWeight, name: str) -> dict[str, Tensor]:
    if weight.bits not in _METAL_BITS or weight.group_of is not None:
        raise BadInputError(
            f"the metal layout holds 2, 4 or 8 bits in consecutive groups; {name} has {weight.bits}"
        )
    inputs = weight.codes.shape[1]
    _fills_words(inputs, weight.bits, f"the inputs of {name}")
    scales, zeros = weight.scales.float(), weight.zeros.float()
    if scales.shape[1] == 1:
        if inputs % _METAL_GROUP:
            raise BadInputError(
                f"the metal layout needs groups; {_METAL_GROUP} do not divide {inputs} ({name})"
            )
        scales, zeros = (part.expand(-1, inputs // _METAL_GROUP) for part in (scales, zeros))
    words = _as_words(pack_codes(weight.codes, weight.bits)).view(torch.uint32)
    return {"weight": words, "scales": scales.contiguous(), "qbiases": (-scales * zeros).contiguous()}


def metal_group_size(group_size: int) -> int:
    """Return the group size that a metal checkpoint states for ours; −1 is one scale a row."""
    return _METAL_GROUP if group_size == -1 else group_size


def _as_words(packed: Tensor) -> Tensor:
    return packed.contiguous().view(torch.int32)


def _as_bytes(words: Tensor) -> Tensor:
    return words.contiguous().view(torch.uint8)


def _fills_words(count: int, bits: int, what: str) -> None:
    if count * bits % _WORD:
        raise BadInputError(
            f"{what} take {packed_width(count, bits)} bytes a row at {bits} bits, which do not fill words of 32 bits"
        )
