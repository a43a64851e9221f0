from __future__ import annotations

import pytest
import torch

from papertrial.data.tokens import byte_tokenizer
from papertrial.efficient.qwen3_quantization.calibration_text import (
    calibration_blocks,
    calibration_windows,
    random_tokens,
)
from papertrial.errors import BadInputError


def _documents():
    return [chr(97 + i % 26) * (40 + 37 * i) for i in range(60)]  # 40 to 2223 bytes, a letter each


def test_windows_come_from_single_long_documents():
    windows = calibration_windows(_documents(), byte_tokenizer(), 20, 512, seed=1)
    assert windows.shape == (20, 512)
    assert all(len(set(row.tolist())) == 1 for row in windows)  # never two documents
    long = {ord(document[0]) for document in _documents() if len(document) > 512}
    assert set(windows.flatten().tolist()) <= long
    assert torch.equal(windows, calibration_windows(_documents(), byte_tokenizer(), 20, 512, seed=1))
    assert not torch.equal(windows, calibration_windows(_documents(), byte_tokenizer(), 20, 512, seed=2))


def test_awq_blocks_hold_a_quarter_at_most():
    documents = _documents()
    blocks = calibration_blocks(documents, byte_tokenizer(), 128)
    short = [document for document in documents if len(document) <= 512]
    assert blocks.shape[1] == 512
    assert len(blocks) == sum(map(len, short)) // 512
    letters = {ord(document[0]) for document in short}
    assert set(blocks.flatten().tolist()) <= letters
    longest = ["x" * 512] * 500  # the most that 128 documents can give
    assert calibration_blocks(longest, byte_tokenizer(), 128).numel() * 4 == 128 * 2048


def test_few_documents_are_joined_in_a_seeded_order():
    first, other = (calibration_blocks(_documents(), byte_tokenizer(), 4, 256, seed=s) for s in (0, 1))
    assert first.shape[1] == 256
    assert first.shape != other.shape or not torch.equal(first, other)


def test_random_tokens_are_even():
    tokens = random_tokens(40, 500, 10)
    counts = torch.bincount(tokens.flatten(), minlength=10)
    assert int(counts.min()) > 1800  # of 2000, with a standard deviation of 42


def test_what_gives_no_sequence_is_refused():
    tokenizer = byte_tokenizer()
    with pytest.raises(BadInputError, match="no document of 60 is longer than 4096 tokens"):
        calibration_windows(_documents(), tokenizer, 4, 4096)
    with pytest.raises(BadInputError, match="there are no documents"):
        calibration_windows([], tokenizer, 4, 16)
    with pytest.raises(BadInputError, match="got 0 of 16"):
        calibration_blocks(_documents(), tokenizer, 0, 16)
    with pytest.raises(BadInputError, match="fill no block of 512"):
        calibration_blocks(["short"], tokenizer, 4)
