from __future__ import annotations

import pytest
import torch

from papertrial.data.tokens import byte_tokenizer
from papertrial.models import load_causal_lm, load_token_classifier
from papertrial.posttrain.steps import Solution

CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TOY = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "initializer_range": 0.3}


@pytest.fixture
def tokenizer():
    """Bytes, with the special separator of Qwen2.5-Math-PRM and a chat template."""
    made = byte_tokenizer()
    made.add_special_tokens({"additional_special_tokens": ["<extra_0>"]})
    made.chat_template = CHAT
    return made


@pytest.fixture
def language_model(tokenizer):
    return load_causal_lm("tiny-qwen2", vocab_size=len(tokenizer), seed=1, **TOY)


@pytest.fixture
def classifier(tokenizer):
    return load_token_classifier("tiny-qwen2", 2, vocab_size=len(tokenizer), seed=1, **TOY)


@pytest.fixture
def solutions():
    """Three solutions of one question, one of another, and one that stands alone, of unlike lengths."""
    first = "2 pens cost 6. What does one cost?"
    return [
        Solution(first, ("2p = 6.", "Dividing by 2 gives p = 3.", "So 3."), "a"),
        Solution(first, ("2p = 6.", "p = 4."), "b"),
        Solution(first, ("A pen costs half of 6, which makes three.",), "c"),
        Solution("What is 1 + 1?", ("1. It is 2.", "Step 2. Surely.", "3. Yes."), "d"),
        Solution("Is 7 prime?", ("7 is odd.", "No number from 2 to 6 divides it, so it is."), "e"),
    ]


@pytest.fixture
def whole_logits():
    """Return a function that runs a whole model over one list of ids, alone: the plain reference."""

    def run(model, ids):
        with torch.inference_mode():
            return model(input_ids=torch.tensor([list(ids)])).logits[0].double()

    return run
