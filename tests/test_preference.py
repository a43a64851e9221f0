from __future__ import annotations

import math
import types
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.preference import (
    completion_log_probabilities,
    dpo_loss,
    kl_divergence,
    kl_estimate,
    mean_log_probability,
    sequence_log_probability,
    simpo_loss,
)

numbers = st.lists(st.floats(-60, -0.01), min_size=4, max_size=4)


def draw(batch=3, length=7, vocabulary=11, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, length, vocabulary, generator=generator)
    tokens = torch.randint(vocabulary, (batch, length), generator=generator)
    completion = torch.rand(batch, length, generator=generator) < 0.5
    completion[:, 0], completion[:, -1] = False, True
    return logits, tokens, completion


def test_log_probabilities_are_a_loop_in_float64():
    """Float32 logsumexp of eleven values: within a few units in the sixth place of the float64 loop."""
    logits, tokens, completion = draw()
    found = completion_log_probabilities(logits, tokens, completion)
    for row in range(3):
        for place in range(7):
            expected = 0.0
            if completion[row, place]:
                before = [float(value) for value in logits[row, place - 1]]
                expected = before[tokens[row, place]] - math.log(sum(math.exp(value) for value in before))
            assert float(found[row, place]) == pytest.approx(expected, abs=2e-6)


def test_prompt_logits_carry_no_gradient():
    logits, tokens, completion = draw()
    logits.requires_grad_(True)
    completion_log_probabilities(logits, tokens, completion).sum().backward()
    moved = logits.grad.abs().sum(-1) > 0
    assert torch.equal(moved[:, :-1], completion[:, 1:])
    assert not moved[:, -1].any()


def test_half_precision_logits_are_summed_in_float32():
    logits, tokens, completion = draw()
    found = completion_log_probabilities(logits.bfloat16(), tokens, completion)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, completion_log_probabilities(logits.bfloat16().float(), tokens, completion)
    )


def test_completion_at_the_first_token_is_refused():
    logits, tokens, completion = draw()
    completion[1, 0] = True
    with pytest.raises(BadInputError, match="cannot begin at the first token"):
        completion_log_probabilities(logits, tokens, completion)


def test_empty_completion_has_no_mean():
    values, mask = torch.zeros(2, 3), torch.tensor([[False, True, True], [False, False, False]])
    assert sequence_log_probability(values - 1, mask).tolist() == [-2.0, 0.0]
    with pytest.raises(BadInputError, match="completion 1 has no token"):
        mean_log_probability(values, mask)


def test_dpo_at_initialisation_is_log_two():
    values = torch.tensor([-3.0, -8.0], dtype=torch.float64)
    loss = dpo_loss(values, values - 4, values, values - 4)
    assert loss.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-15)


def test_no_gradient_between_equal_completions():
    """y_w = y_l: one tensor in both places, so the two pulls cancel exactly."""
    values = torch.tensor([-3.0], requires_grad=True)
    dpo_loss(values, values, torch.tensor([-2.0]), torch.tensor([-2.0])).sum().backward()
    assert values.grad.tolist() == [0.0]


@given(numbers, st.floats(0.01, 5), st.floats(0, 0.49))
def test_dpo_is_the_formula_in_float64(values, beta, smoothing):
    a, b, c, d = values
    h = beta * ((a - c) - (b - d))

    def softplus(x):
        return max(x, 0.0) + math.log1p(math.exp(-abs(x)))

    expected = (1 - smoothing) * softplus(-h) + smoothing * softplus(h)
    tensors = [torch.tensor([value], dtype=torch.float64) for value in values]
    found = dpo_loss(*tensors, beta=beta, label_smoothing=smoothing)
    assert float(found) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(st.lists(st.floats(-9, -0.1), min_size=2, max_size=5), st.integers(2, 4))
def test_simpo_does_not_see_a_completion_said_twice(tokens, times):
    """Duplicating every token's log-probability leaves the mean, and so the loss, as it was."""
    once = torch.tensor([tokens], dtype=torch.float64)
    often = once.repeat(1, times)
    means = [mean_log_probability(one, torch.ones_like(one, dtype=torch.bool)) for one in (once, often)]
    other = torch.tensor([-2.5], dtype=torch.float64)
    first, second = (simpo_loss(mean, other) for mean in means)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=0)


def test_the_margin_of_simpo_is_not_scaled_by_beta():
    """Equal means leave −log σ(−γ) whatever β is."""
    mean = torch.tensor([-2.0], dtype=torch.float64)
    for beta in (0.5, 2.0, 10.0):
        assert float(simpo_loss(mean, mean, beta=beta, gamma=0.7)) == pytest.approx(
            math.log1p(math.exp(0.7)), abs=1e-14
        )


def trl_cpo_trainer():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # trl warns that the module is experimental
        module = pytest.importorskip("trl.experimental.cpo.cpo_trainer")
    return module.CPOTrainer


def test_simpo_is_trls():
    """The peer's own method on a stand-in that holds what it reads; float32 on both sides."""
    peer = types.SimpleNamespace(
        alpha=0.0,
        accelerator=types.SimpleNamespace(device="cpu"),
        loss_type="simpo",
        simpo_gamma=0.8,
        beta=2.5,
        label_smoothing=0.0,
    )
    chosen, rejected = -3 * torch.rand(64), -3 * torch.rand(64)
    losses, _, _ = trl_cpo_trainer().cpo_loss(peer, chosen, rejected)
    torch.testing.assert_close(
        simpo_loss(chosen, rejected, beta=2.5, gamma=0.8), losses, rtol=1e-5, atol=1e-6
    )


def test_sequence_sums_are_trls():
    logits, tokens, completion = draw()
    labels = tokens.masked_fill(~completion, -100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = trl_cpo_trainer().get_batch_logps
    ours = completion_log_probabilities(logits, tokens, completion)
    for average, mine in ((False, sequence_log_probability), (True, mean_log_probability)):
        torch.testing.assert_close(
            mine(ours, completion), peer(logits, labels, average), rtol=1e-5, atol=1e-5
        )


def test_divergence_is_exact_and_estimates_agree_with_it():
    """k1 and k3 are unbiased: over 200,000 samples their means lie within five standard errors of it."""
    generator = torch.Generator().manual_seed(1)
    logits, reference = torch.randn(2, 9, generator=generator, dtype=torch.float64)
    exact = float(kl_divergence(logits, reference))
    policy, other = logits.log_softmax(-1), reference.log_softmax(-1)
    assert exact == pytest.approx(
        float(
            torch.distributions.kl_divergence(
                torch.distributions.Categorical(logits=logits),
                torch.distributions.Categorical(logits=reference),
            )
        ),
        rel=1e-12,
    )
    sampled = torch.multinomial(policy.exp(), 200_000, replacement=True, generator=generator)
    for name in ("k1", "k3"):
        values = kl_estimate(policy[sampled], other[sampled], name)
        assert abs(float(values.mean()) - exact) < 5 * float(values.std()) / math.sqrt(200_000)
    assert (kl_estimate(policy, other, "k3") >= 0).all()
    assert (kl_estimate(policy, other, "k2") >= 0).all()
    assert kl_estimate(policy, policy, "k3").abs().max() == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: dpo_loss(x, x, x, x, beta=0.0), "beta must be above 0, got 0.0"),
        (lambda x: dpo_loss(x, x, x, x, label_smoothing=0.5), "label_smoothing must lie in"),
        (lambda x: simpo_loss(x, x, beta=-1.0), "beta must be above 0"),
        (lambda x: simpo_loss(x, x, gamma=math.nan), "gamma must be 0 or above, got nan"),
        (lambda x: kl_estimate(x, x, "k4"), "unknown estimator 'k4'"),
    ],
)
def test_settings_out_of_range(call, words):
    with pytest.raises(BadInputError, match=words):
        call(torch.tensor([-1.0]))
