from __future__ import annotations

import pytest
import torch
from torch import nn

from papertrial.efficient.layers import replace_linears
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm


class Doubled(nn.Linear):
    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight = linear.weight

    def forward(self, x):
        return 2 * super().forward(x)


def make(name, linear):
    return Doubled(linear)


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 2, bias=False)
        self.shared = self.again = nn.Linear(4, 4, bias=False)
        self.up = nn.Linear(4, 8, bias=False)


@pytest.fixture
def llama():
    return load_causal_lm("tiny-llama", hidden_size=32, intermediate_size=64, vocab_size=64)


def test_all_but_the_head_and_embeddings(llama):
    names = replace_linears(llama, make).names
    kinds = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert len(names) == 2 * len(kinds)
    assert {name.rpartition(".")[2] for name in names} == set(kinds)
    assert type(llama.lm_head) is nn.Linear


def test_optimizer_state_and_training_mode_survive(llama):
    llama.train()
    optimizer = torch.optim.AdamW(llama.parameters(), lr=1e-3)
    before = dict(llama.named_parameters())
    replacement = replace_linears(llama, make)
    assert {name: id(p) for name, p in llama.named_parameters()} == {n: id(p) for n, p in before.items()}
    assert all(module.training for module in replacement.replaced.values())
    tokens = torch.arange(8)[None]
    llama(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    assert all(p in optimizer.state for p in llama.parameters())


def test_the_new_layers_compute_and_restore_undoes_it(llama):
    tokens = torch.arange(8)[None]
    before = llama(input_ids=tokens).logits
    replacement = replace_linears(llama, make, names=["down_proj"])
    assert not torch.allclose(llama(input_ids=tokens).logits, before)
    replacement.restore()
    assert torch.equal(llama(input_ids=tokens).logits, before)


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["down_proj"], 2),
        (["*_proj"], 14),
        (["model.layers.1.*"], 7),
        (["mlp.*", "o_proj"], 8),
        (["layers.0.self_attn.[qk]_proj"], 2),
        (["lm_head"], 1),
    ],
)
def test_patterns_match_names_and_their_ends(llama, names, count):
    assert len(replace_linears(llama, make, names=names).names) == count


def test_where_has_the_last_say(llama):
    names = replace_linears(llama, make, where=lambda name, linear: linear.in_features == 64).names
    assert {name.rpartition(".")[2] for name in names} == {"down_proj"}


def test_routers_stay_unless_named_and_shared_layers_stay_shared():
    model = Experts()
    replacement = replace_linears(model, make)
    assert set(replacement.names) == {"shared", "again", "up"}
    assert model.shared is model.again
    replacement.restore()
    assert model.shared is model.again
    assert type(model.shared) is nn.Linear
    assert replace_linears(model, make, names=["gate"]).names == ("gate",)
    model = Experts()
    assert "gate" not in replace_linears(model, make, names=["*"]).names


def test_nothing_matched_names_what_there_is(llama):
    with pytest.raises(
        BadInputError, match=r"no linear layer is called 'fc1'; there are: model.layers.0.*14|15"
    ):
        replace_linears(llama, make, names=["q_proj", "fc1"])
    with pytest.raises(
        BadInputError, match=r"no linear layer matches any name .*skipped: lm_head.*LlamaForCausalLM"
    ):
        replace_linears(llama, make, where=lambda *_: False)
    with pytest.raises(BadInputError, match="in Embedding"):
        replace_linears(nn.Embedding(2, 2), make)


def test_restore_refuses_what_was_replaced_again(llama):
    first = replace_linears(llama, make, names=["down_proj"])
    second = replace_linears(llama, make, names=["down_proj"])
    with pytest.raises(BadInputError, match="restore the later replacement first"):
        first.restore()
    second.restore()
    first.restore()
    assert type(llama.model.layers[0].mlp.down_proj) is nn.Linear
