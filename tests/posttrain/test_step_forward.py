from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertModel

from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm
from papertrial.posttrain.step_forward import StepForward, plan_batches
from papertrial.posttrain.step_reading import Reading

# float32 sums in another order and grouping: relative error of a few 1e-6 on logits of size 1 to 10
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def make_readings(seed: int, groups: list[int]) -> list[Reading]:
    """Random readings; those of one group begin alike."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> list[int]:
        return torch.randint(100, (count,), generator=generator).tolist()

    beginnings = {group: draw(5 + group) for group in groups}
    readings = []
    for at, group in enumerate(groups):
        ids = beginnings[group] + draw(3 + 2 * at)
        places = (len(beginnings[group]), len(ids) - 1)
        readings.append(Reading(tuple(ids), places, (0, 1)))
    return readings


@pytest.mark.parametrize("name", ["tiny-qwen2", "tiny-llama", "tiny-mistral", "tiny-gpt2"])
@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_batches_and_shared_beginnings_change_no_output(name, share_prefix, budget, whole_logits):
    model = load_causal_lm(name, vocab_size=100, seed=2)
    groups = [0, 1, 0, 2, 0, 1]
    readings = make_readings(0, groups)
    forward = StepForward(
        model.base_model, model.get_output_embeddings(), tokens_per_batch=budget, share_prefix=share_prefix
    )
    told: list[int] = []
    outputs = forward(readings, groups, told.append)
    for reading, found in zip(readings, outputs, strict=True):
        alone = whole_logits(model, reading.ids)[list(reading.read_at)]
        torch.testing.assert_close(found.double(), alone, **CLOSE)
    assert told[-1] == len(readings)


def test_a_beginning_is_run_once_for_its_group():
    model = load_causal_lm("tiny-qwen2", vocab_size=100)
    seen = []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    forward = StepForward(model.model, model.lm_head)
    beginning = tuple(range(50))
    readings = [Reading((*beginning, at, at, at), (50, 52), (0, 1)) for at in range(4)]
    seen.clear()
    forward(readings, ["q"] * 4)
    assert seen == [50, 4 * 3]


@given(
    lengths=st.lists(st.integers(2, 30), min_size=1, max_size=20),
    groups=st.lists(st.integers(0, 3), min_size=20, max_size=20),
    budget=st.integers(1, 100),
)
def test_every_solution_is_planned_once_within_the_budget(lengths, groups, budget):
    readings = [Reading(tuple(range(length)), (length - 1,), (0,)) for length in lengths]
    batches = list(plan_batches(readings, groups[: len(lengths)], budget))
    assert sorted(member for batch in batches for member in batch.members) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[member] for member in batch.members)
        assert len(batch.members) == 1 or len(batch.members) * longest <= budget
        for member, prefix in zip(batch.members, batch.prefixes, strict=True):
            assert 0 <= prefix <= readings[member].read_at[0]


def test_a_model_that_sees_ahead_is_refused():
    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    with pytest.raises(BadInputError, match="set share_prefix=False"):
        StepForward(BertModel(config).eval(), torch.nn.Linear(32, 2))
    StepForward(BertModel(config).eval(), torch.nn.Linear(32, 2), share_prefix=False)


def test_attention_in_a_short_window_is_refused():
    model = load_causal_lm("tiny-mistral", vocab_size=100, sliding_window=8)
    forward = StepForward(model.model, model.lm_head)
    readings = make_readings(1, [0, 0])
    with pytest.raises(BadInputError, match="attention reaches back 8 tokens"):
        forward(readings, [0, 0])


def test_a_budget_of_nothing_is_refused(language_model):
    with pytest.raises(BadInputError, match="tokens_per_batch must be at least 1"):
        StepForward(language_model.model, language_model.lm_head, tokens_per_batch=0)
