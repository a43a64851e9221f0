from __future__ import annotations

import pytest
import torch

from papertrial.data.blocks import training_and_held_out
from papertrial.data.tokens import byte_tokenizer
from papertrial.errors import BadInputError


@pytest.mark.parametrize(
    ("characters", "blocks", "held_out"), [(40, 2, 1), (820, 41, 2), (60_020, 3001, 128)]
)
def test_the_end_is_held_out(tmp_path, characters, blocks, held_out):
    file = tmp_path / "text.txt"
    text = ("abcdefghij" * (characters // 10))[: characters - 1]  # the end of the text is a token of its own
    file.write_text(text)
    training, end = training_and_held_out(str(file), byte_tokenizer(), 20)
    assert len(training) + len(end) >= blocks - 1
    assert len(end) == held_out
    assert torch.cat([training, end]).flatten().tolist()[:30] == list(text.encode()[:30])


def test_too_little_text_is_said(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("a" * 30)
    with pytest.raises(BadInputError, match="fills 1 block of 20 tokens; two are needed"):
        training_and_held_out(str(file), byte_tokenizer(), 20)
