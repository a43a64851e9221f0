from __future__ import annotations

import copy

import pytest
import torch

from papertrial.efficient.evaluation import divergence
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm


def test_a_model_does_not_diverge_from_itself(model, stream):
    found = divergence(model, copy.deepcopy(model), stream, length=16)
    assert found.nats_per_token == pytest.approx(0, abs=1e-6)  # float32 sums of p · 0
    assert found.top1_agreement == 1
    assert found.tokens == len(stream) // 16 * 16


def test_against_a_sum_over_the_vocabulary_in_double_precision(model, stream):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.lm_head.weight += 0.3 * torch.randn(
            other.lm_head.weight.shape, generator=torch.Generator().manual_seed(0)
        )
    nats, agreed = 0.0, 0
    chunks = stream[: len(stream) // 16 * 16].view(-1, 16)
    with torch.no_grad():
        p, q = (one(input_ids=chunks).logits.double().softmax(-1) for one in (model, other))
    for position_p, position_q in zip(p.flatten(0, 1), q.flatten(0, 1), strict=True):
        nats += float(sum(position_p * (position_p / position_q).log()))
        agreed += int(position_p.argmax() == position_q.argmax())
    found = divergence(other, model, stream, length=16, batch_size=3)
    assert found.nats_per_token == pytest.approx(nats / chunks.numel(), rel=1e-4)  # float32 against float64
    assert found.top1_agreement == pytest.approx(agreed / chunks.numel())
    backward = divergence(model, other, stream, length=16)
    assert abs(backward.nats_per_token - found.nats_per_token) > 1e-3  # KL has a direction


def test_models_of_different_vocabulary_are_refused(model, stream):
    other = load_causal_lm("tiny-llama", vocab_size=310, hidden_size=32, num_hidden_layers=1)
    with pytest.raises(BadInputError, match="300 and 310 tokens; KL needs one vocabulary"):
        divergence(model, other, stream, length=16)
    with pytest.raises(BadInputError, match="do not fill one chunk"):
        divergence(model, model, stream[:5], length=16)
