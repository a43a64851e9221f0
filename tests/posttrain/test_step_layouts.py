from __future__ import annotations

import pytest

from papertrial.data.tokens import byte_tokenizer
from papertrial.errors import BadInputError
from papertrial.posttrain.chat_layouts import ChatSeparatedSteps, Turns
from papertrial.posttrain.step_layouts import (
    HeadedSteps,
    LastTagTokenSteps,
    Likelihoods,
    SeparatedSteps,
    StepEnds,
    TaggedSteps,
)
from papertrial.posttrain.steps import Solution

SOLUTION = Solution("1+1?", ("Step 1. Add.", "2. It is 2."), "it")


def before(tokenizer, reading):
    """Return the text up to and including each place that is read."""
    return [tokenizer.decode(reading.ids[: place + 1]) for place in reading.read_at]


def test_separated_steps_are_those_of_trl():
    """Recorded from TRL 1.0.0: PRMTrainer.tokenize_row({"prompt": "2+2?", "completions": ["4", "so 5"],
    "labels": [True, False]}, byte_tokenizer(), "\\n", None, None, False, False)."""
    recorded = [50, 43, 50, 63, 52, 10, 115, 111, 32, 53, 10]
    labels = [-100, -100, -100, -100, -100, 1, -100, -100, -100, -100, 0]
    reading = SeparatedSteps("\n")(byte_tokenizer(), Solution("2+2?", ("4", "so 5")))
    assert list(reading.ids) == recorded
    assert [place for place, label in enumerate(labels) if label != -100] == list(reading.read_at)


def test_the_beginning_token_comes_first_where_there_is_one(tokenizer):
    tokenizer.bos_token = "<|endoftext|>"
    with_start = SeparatedSteps("\n")(tokenizer, SOLUTION)
    without = SeparatedSteps("\n", begin=False)(tokenizer, SOLUTION)
    assert with_start.ids == (tokenizer.bos_token_id, *without.ids)


@pytest.mark.parametrize(
    ("layout", "texts"),
    [
        (
            TaggedSteps(),
            ["1+1? Step 1. Add. ки", "1+1? Step 1. Add. ки\nStep 2: 2. It is 2. ки"],
        ),
        (
            StepEnds(),
            [
                "Question:\n1+1?\nAnswer:\nLet's think step by step.\nAdd.",
                "Question:\n1+1?\nAnswer:\nLet's think step by step.\nAdd.It is 2.",
            ],
        ),
        (
            HeadedSteps(),
            [
                "# Question\n\n1+1?\n\n# Solution\n\nStep 1. Add.\n",
                "# Question\n\n1+1?\n\n# Solution\n\nStep 1. Add.\n\n2. It is 2.\n",
            ],
        ),
        (
            ChatSeparatedSteps(system="S"),
            [
                "<|system|>S<|end|><|user|>1+1?<|end|><|assistant|>Add.<extra_0>",
                "<|system|>S<|end|><|user|>1+1?<|end|><|assistant|>Add.<extra_0>It is 2.<extra_0>",
            ],
        ),
        (
            Turns(),
            [
                "<|user|>1+1? Add.<|end|><|assistant|>",
                "<|user|>1+1? Add.<|end|><|assistant|>+<|end|><|user|>It is 2.<|end|><|assistant|>",
            ],
        ),
    ],
    ids=lambda given: type(given).__name__ if not isinstance(given, list) else "",
)
def test_what_stands_before_each_place(tokenizer, layout, texts):
    reading = layout(tokenizer, SOLUTION)
    assert before(tokenizer, reading) == texts
    assert reading.step_of == (0, 1)


def test_skywork_closes_a_step_with_the_last_token_of_its_tag(tokenizer):
    reading = LastTagTokenSteps()(tokenizer, SOLUTION)
    last = tokenizer("ки", add_special_tokens=False)["input_ids"][-1]
    assert [reading.ids[place] for place in reading.read_at] == [last, last]
    kept = [token for token in reading.ids if token != last]
    assert tokenizer.decode(kept) == "1+1?\nStep 1: Add. \nStep 2: It is 2. "


def test_likelihoods_read_before_every_token_of_a_step(tokenizer):
    reading = Likelihoods("|")(tokenizer, SOLUTION)
    assert tokenizer.decode(reading.next_ids) == "Step 1. Add.|2. It is 2.|"
    assert [reading.ids[place + 1] for place in reading.read_at] == list(reading.next_ids)
    assert reading.step_of == (0,) * 13 + (1,) * 12


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (SeparatedSteps("\n\n"), "a\n\nb"),
        (TaggedSteps(), "a ки b"),
        (LastTagTokenSteps(), "a ки b"),
        (ChatSeparatedSteps(), "a <extra_0> b"),
    ],
    ids=lambda given: type(given).__name__ if not isinstance(given, str) else "",
)
@pytest.mark.parametrize("where", ["question", "step"])
def test_a_separator_inside_the_text_is_refused(tokenizer, layout, text, where):
    solution = Solution(text, ("fine",), "it") if where == "question" else Solution("q", ("fine", text), "it")
    place = "the question of it" if where == "question" else "step 2 of it"
    with pytest.raises(BadInputError, match=f"{place} contains the separator"):
        layout(tokenizer, solution)


def test_a_separator_inside_the_text_can_be_replaced(tokenizer):
    layout = SeparatedSteps("\n\n", inside="\n")
    reading = layout(tokenizer, Solution("q", ("a\n\n\n\nb",)))
    assert tokenizer.decode(reading.ids) == "qa\nb\n\n"
    with pytest.raises(BadInputError, match="inside must not contain the separator"):
        SeparatedSteps("\n\n", inside="\n\n")


def test_layouts_say_what_a_tokenizer_lacks(tokenizer):
    with pytest.raises(BadInputError, match="must be one token, this tokenizer makes 9"):
        ChatSeparatedSteps(separator="<extra_9>")(tokenizer, SOLUTION)
    tokenizer.chat_template = None
    with pytest.raises(BadInputError, match="needs a chat template"):
        Turns()(tokenizer, SOLUTION)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    with pytest.raises(BadInputError, match="the template must keep"):
        ChatSeparatedSteps()(tokenizer, SOLUTION)
