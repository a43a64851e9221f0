from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from papertrial.efficient.packing import PACKED_BITS, pack_codes, packed_width, unpack_codes
from papertrial.errors import BadInputError


@given(
    bits=st.sampled_from(PACKED_BITS),
    rows=st.integers(1, 5),
    columns=st.integers(1, 70),
    seed=st.integers(0, 10_000),
)
def test_round_trip_is_exact(bits, rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(1 << bits, (rows, columns), generator=generator, dtype=torch.uint8)
    packed = pack_codes(codes, bits)
    assert packed.shape == (rows, packed_width(columns, bits))
    assert torch.equal(unpack_codes(packed, bits, columns), codes)


@pytest.mark.parametrize("bits", PACKED_BITS)
def test_a_row_is_one_little_endian_stream_of_bits(bits):
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(1 << bits, (3, 29), generator=generator, dtype=torch.uint8)
    for row, packed in zip(codes.tolist(), pack_codes(codes, bits), strict=True):
        whole = sum(code << (place * bits) for place, code in enumerate(row))  # by plain whole numbers
        assert int.from_bytes(bytes(packed.tolist()), "little") == whole


def test_what_cannot_be_packed_is_refused():
    codes = torch.full((1, 4), 8, dtype=torch.uint8)
    with pytest.raises(BadInputError, match="3 bits hold codes 0 … 7, got 8"):
        pack_codes(codes, 3)
    with pytest.raises(BadInputError, match="bits must be one of 2, 3, 4, 8, got 5"):
        pack_codes(codes, 5)
    with pytest.raises(BadInputError, match="9 codes of 4 bits need 5 bytes, got 2"):
        unpack_codes(pack_codes(codes, 4), 4, 9)
