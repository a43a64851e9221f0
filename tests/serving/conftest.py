"""Shared by the tests of this field: small models whose attention differs from token to token."""

from __future__ import annotations

import pytest
import torch

from papertrial.models import load_causal_lm


@pytest.fixture(scope="session", params=["tiny-llama", "tiny-qwen2", "tiny-qwen3"])
def small_model(request):
    """Return each model family; wide weights make attention and logits depend on every token."""
    return load_causal_lm(request.param, initializer_range=0.2).eval()


@pytest.fixture(scope="session")
def qwen2():
    return load_causal_lm("tiny-qwen2", initializer_range=0.2).eval()


@pytest.fixture
def padded_prompt():
    """Return ids and mask of two prompts, the first with forty tokens of padding on its left."""
    ids = torch.randint(0, 1000, (2, 150), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :40] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def generate_logits():
    """Return a function that decodes greedily and gives the tokens and the logits of every step."""

    def generate(model, inputs, new_tokens, cache=None):
        out = model.generate(
            **inputs,
            past_key_values=cache,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            pad_token_id=0,
        )
        return out.sequences, torch.stack(out.logits)

    return generate
