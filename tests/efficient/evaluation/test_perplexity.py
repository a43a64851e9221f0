from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from papertrial.efficient.evaluation import Perplexity, perplexity
from papertrial.efficient.evaluation.perplexity import windows
from papertrial.errors import BadInputError


class Uniform(nn.Module):
    """Knows nothing: every token of `size` is as likely."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, input_ids):
        return CausalLMOutput(logits=torch.zeros(*input_ids.shape, self.size) * self.weight)


@pytest.mark.parametrize("stride", [None, 3, 8])
def test_knowing_nothing_has_the_vocabulary_as_perplexity(stride):
    measured = perplexity(Uniform(37), torch.arange(30) % 37, length=8, stride=stride)
    assert measured.value == pytest.approx(37, rel=1e-6)  # float32 rounding of one logarithm


def test_one_chunk_is_the_models_own_loss(model, stream):
    with torch.no_grad():
        loss = model(input_ids=stream[None, :40], labels=stream[None, :40]).loss
    measured = perplexity(model, stream[:55], length=40)
    assert measured.tokens == 39  # the remainder of 15 is dropped
    assert measured.value == pytest.approx(math.exp(loss), rel=1e-5)


def test_chunks_are_averaged_with_equal_weight(model, stream):
    losses = []
    for start in (0, 20, 40):
        chunk = stream[None, start : start + 20]
        with torch.no_grad():
            losses.append(float(model(input_ids=chunk, labels=chunk).loss))
    measured = perplexity(model, stream[:60], length=20, batch_size=2)
    assert measured.nats_per_token == pytest.approx(sum(losses) / 3, abs=1e-5)


@pytest.mark.parametrize(("length", "stride"), [(16, 5), (16, 16), (7, 1), (500, 3)])
def test_sliding_window_against_the_loop_of_transformers_documentation(model, stream, length, stride):
    """The documented loop, its means weighted by the labels that the model's loss really averages over."""
    ids, total, count, previous = stream[None], 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + length, ids.shape[1])
        labels = ids[:, begin:end].clone()
        labels[:, : -(end - previous)] = -100
        with torch.no_grad():
            loss = model(ids[:, begin:end], labels=labels).loss
        used = int((labels[:, 1:] != -100).sum())
        if used:
            total += float(loss) * used
            count += used
        previous = end
        if end == ids.shape[1]:
            break
    measured = perplexity(model, stream, length=length, stride=stride)
    assert measured.tokens == count
    assert measured.nats_per_token == pytest.approx(total / count, abs=1e-5)  # float32 sums


@given(count=st.integers(2, 60), length=st.integers(2, 20), data=st.data())
def test_overlapping_windows_score_every_token_but_the_first_once(count, length, data):
    stride = data.draw(st.integers(1, length - 1))
    scored = []
    for start, end, first in windows(count, length, stride):
        assert end - start <= length
        assert first > start
        scored += range(first, end)
    assert scored == list(range(1, count))


def test_batch_size_changes_nothing_and_the_model_keeps_its_mode(model, stream):
    model.train()
    few = perplexity(model, stream, length=16, stride=5, batch_size=1)
    many = perplexity(model, stream, length=16, stride=5, batch_size=64)
    assert model.training
    model.eval()
    assert few.nats_per_token == pytest.approx(many.nats_per_token, abs=1e-5)


def test_overflow_is_infinite_and_nan_stays():
    assert Perplexity(1000.0, 1).value == math.inf
    assert math.isnan(Perplexity(math.nan, 1).value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 1}, "length must be at least 2"),
        ({"length": 8, "batch_size": 0}, "batch_size must be at least 1"),
        ({"length": 8, "stride": 9}, "stride must be between 1 and length = 8"),
        ({"length": 8, "stride": 0}, "stride must be between 1"),
        ({"length": 31}, "30 tokens do not fill one chunk of 31"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(BadInputError, match=message):
        perplexity(Uniform(5), torch.zeros(30, dtype=torch.int64), **options)
