from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from papertrial.data.tokens import batches
from papertrial.efficient.bitnet_v2.convert import (
    CONFIG_KEY,
    BitNetOptions,
    FreshOptimizerWarning,
    RotatedWeightWarning,
    recorded_options,
    set_activation_bits,
    use_bitnet,
)
from papertrial.efficient.bitnet_v2.linear import BitLinear, HBitLinear, bit_linears
from papertrial.efficient.bitnet_v2.two_stages import PAPER_RATES, TwoStages, train_two_stages
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm
from papertrial.objective import evaluate_loss


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral", "tiny-qwen3"])
def test_other_models_get_a_sub_norm_of_their_own(name):
    model = load_causal_lm(name, hidden_size=64, intermediate_size=128, vocab_size=64)
    parameters = {id(p) for p in model.parameters()}
    use_bitnet(model)
    layers = bit_linears(model)
    rotated = {n: m for n, m in layers.items() if isinstance(m, HBitLinear)}
    assert {n.rpartition(".")[2] for n in rotated} == {"o_proj", "down_proj"}
    assert all(isinstance(m.norm, nn.RMSNorm) and m.norm.eps == 1e-5 for m in rotated.values())
    assert all(m.norm.weight.shape == (m.in_features,) for m in rotated.values())
    assert all(m.norm is None for n, m in layers.items() if n not in rotated)
    assert len(layers) == 14
    assert type(model.lm_head) is nn.Linear
    assert parameters <= {id(p) for p in model.parameters()}
    tokens = torch.arange(16)[None]
    model(input_ids=tokens, labels=tokens).loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_transformers_bitnet_keeps_its_own_sub_norms(bitnet):
    model = bitnet()
    names = {n for n, _ in model.named_parameters()}
    use_bitnet(model)
    assert {n for n, _ in model.named_parameters()} == names
    assert all(m.norm is None for m in bit_linears(model).values())


@pytest.mark.parametrize(
    ("rotation", "kind"), [("none", BitLinear), ("activations", HBitLinear), ("both", HBitLinear)]
)
def test_the_arms(bitnet, rotation, kind):
    model = bitnet()
    use_bitnet(model, BitNetOptions(rotation=rotation))
    assert type(model.model.layers[0].mlp.down_proj) is kind
    assert type(model.model.layers[0].mlp.up_proj) is BitLinear
    assert recorded_options(model.config) == BitNetOptions(rotation=rotation)


def test_switching_changes_every_layer_and_is_recorded(bitnet):
    model = bitnet()
    use_bitnet(model)
    set_activation_bits(model, 4)
    assert {m.activation_bits for m in bit_linears(model).values()} == {4}
    assert getattr(model.config, CONFIG_KEY)["activation_bits"] == 4
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.warns(FreshOptimizerWarning, match="continues with the moments of stage 1"):
        set_activation_bits(model, 4, optimizer=optimizer)


def test_folding_the_rotation_keeps_the_function_up_to_ternarising(bitnet, noise):
    model = bitnet()
    tokens = torch.arange(12)[None]
    before = model(input_ids=tokens).logits
    with pytest.warns(RotatedWeightWarning, match="2 layers were rotated"):
        use_bitnet(model, fold_rotation=True)
    for layer in bit_linears(model).values():
        layer.ternary, layer.activation_bits = False, None
    torch.testing.assert_close(model(input_ids=tokens).logits, before, rtol=0, atol=1e-5)


def test_sizes_that_are_no_power_of_two():
    model = load_causal_lm("tiny-llama", hidden_size=64, intermediate_size=96, vocab_size=64)
    with pytest.raises(
        BadInputError, match=r"layers.0.mlp.down_proj has 96 inputs.*strict.*'paley' or .*'block'"
    ):
        use_bitnet(model)
    assert type(model.model.layers[0].mlp.down_proj) is nn.Linear
    use_bitnet(model, BitNetOptions(hadamard="auto"))
    assert model.model.layers[0].mlp.down_proj.hadamard == "paley"
    assert model.model.layers[0].self_attn.o_proj.hadamard == "sylvester"
    assert getattr(model.config, CONFIG_KEY)["hadamard"] == "auto"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation_bits": 2}, "8 or 4 bits, got 2"),
        ({"rotation": "weights"}, "unknown rotation 'weights'"),
        ({"hadamard": "walsh"}, "unknown hadamard 'walsh'"),
        ({"bias": "drop"}, "unknown bias 'drop'"),
        ({"rotated": ("o_proj", "lm_head")}, "rotated names lm_head"),
        ({"rotated": ("embed_tokens",)}, "rotated names model.embed_tokens"),
    ],
)
def test_bad_options(bitnet, options, words):
    with pytest.raises(BadInputError, match=words):
        use_bitnet(bitnet(), BitNetOptions(**options))


def test_biases_are_refused_or_kept():
    def build():
        return load_causal_lm("tiny-qwen2", hidden_size=64, intermediate_size=128, vocab_size=64)

    with pytest.raises(BadInputError, match="q_proj has a bias, and BitNet's layers have none; bias='keep'"):
        use_bitnet(build())
    model = build()
    bias = model.model.layers[0].self_attn.q_proj.bias
    use_bitnet(model, BitNetOptions(bias="keep"))
    assert model.model.layers[0].self_attn.q_proj.bias is bias


def test_twice_and_quantised_and_plain_models_are_refused(bitnet):
    model = bitnet()
    use_bitnet(model)
    with pytest.raises(BadInputError, match="is a BitLinear already"):
        use_bitnet(model)
    with pytest.raises(BadInputError, match="has no BitLinear"):
        set_activation_bits(bitnet(), 4)
    with pytest.raises(BadInputError, match="was not made by use_bitnet"):
        recorded_options(bitnet().config)
    model = bitnet()
    layer = model.model.layers[0].mlp.up_proj
    layer.weight = nn.Parameter(torch.zeros(layer.weight.shape, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(BadInputError, match=r"up_proj is torch.uint8, quantised already"):
        use_bitnet(model)


def test_the_schedule_is_the_one_described():
    """Rates by hand for 20 steps: 4 of warm-up, a line from 3 to 2.5, a drop to 2 at step 10, a line to 0."""
    plan = TwoStages(20, 3.0, 2.0, weight_decay=0.1, warmup=4, switch=0.8)
    parts = plan.parts()
    assert [(p.start, p.stop, p.bits, p.weight_decay) for p in parts] == [
        (0, 10, 8, 0.1),
        (10, 16, 8, 0.0),
        (16, 20, 4, 0.0),
    ]
    weight = nn.Parameter(torch.ones(3, 3))
    optimizer = torch.optim.AdamW([weight], lr=1.0)
    seen = []

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = weight

        def forward(self, input_ids, labels):
            seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]))
            return type("Out", (), {"loss": self.weight.square().mean()})()

    train_two_stages(Model(), iter(lambda: torch.zeros(1, 2, dtype=torch.int64), None), optimizer, plan)
    rising = [3 * k / 4 for k in range(1, 5)]
    falling = [3 - 0.5 * k / 6 for k in range(1, 7)]
    second = [2 * (1 - k / 10) for k in range(1, 11)]
    assert [rate for rate, _ in seen] == pytest.approx([*rising, *falling, *second])
    assert [decay for _, decay in seen] == [0.1] * 10 + [0.0] * 10


def test_the_papers_rates_drop_by_a_third_or_more():
    for first, second in PAPER_RATES.values():
        TwoStages(2000, first, second).check()
        assert 0.5 < second / first < 0.7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 2}, "steps must be at least 3"),
        ({"drop": 1.0}, "drop must lie between 0 and 1"),
        ({"switch": 0.0}, "switch above 0"),
        ({"warmup": 60}, "warmup must end before"),
        ({"second_rate": 2.0}, "second_rate must be above 0 and at most first_rate"),
    ],
)
def test_plans_that_are_none(options, words):
    with pytest.raises(BadInputError, match=words):
        TwoStages(**{"steps": 100, "first_rate": 1.0, "warmup": 5, **options}).check()


@pytest.fixture
def blocks():
    """Return blocks of a sequence that is easy to learn: every token is the last plus 1, 2 or 3."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randint(1, 4, (128, 32), generator=generator).cumsum(1)) % 64


def test_both_stages_train_with_one_optimizer(bitnet, blocks, monkeypatch):
    model = bitnet(vocabulary=64)
    use_bitnet(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    steps_taken = []
    original = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, *a: steps_taken.append(id(self)) or original(self, *a)
    )
    before = evaluate_loss(model, blocks)
    looked = []
    history = train_two_stages(
        model,
        batches(blocks, 8),
        optimizer,
        TwoStages(80, 1e-2, warmup=4, switch=0.75),
        accumulate=2,
        before_switch=lambda: looked.append(
            bit_linears(model)["model.layers.0.mlp.down_proj"].activation_bits
        ),
    )
    assert history.bits == [8] * 60 + [4] * 20
    assert looked == [8]
    assert steps_taken == [id(optimizer)] * 80
    assert {int(state["step"]) for state in optimizer.state.values()} == {80}  # moments were never begun anew
    assert history.diverged_at is None
    assert len(history.losses) == 80
    assert evaluate_loss(model, blocks) < before - 1
    assert bit_linears(model)["model.layers.0.mlp.down_proj"].activation_bits == 4
    assert not any(layer.keeps_ternary for layer in bit_linears(model).values())


def test_an_interrupted_run_goes_on_to_the_same_bit(bitnet, blocks, tmp_path):
    plan = TwoStages(16, 1e-2, warmup=2, switch=0.75)

    class StopError(Exception):
        pass

    def run(folder, stop=None):
        model = bitnet(vocabulary=64)
        use_bitnet(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

        def on_step(done, values):
            if done == stop:
                raise StopError

        history = train_two_stages(
            model, batches(blocks, 4), optimizer, plan, on_step=on_step, checkpoint=folder
        )
        return model, history

    whole, history = run(tmp_path / "whole")
    for stop in (5, 14):  # in the first part, and in the last
        with pytest.raises(StopError):
            run(tmp_path / "cut", stop)
    again, resumed = run(tmp_path / "cut")
    assert resumed.losses == history.losses
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_divergence_is_told_with_its_step(bitnet, blocks):
    model = bitnet(vocabulary=64)
    use_bitnet(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def poison(done, values):
        if done == 12:
            with torch.no_grad():
                model.lm_head.weight.fill_(math.nan)

    history = train_two_stages(
        model, batches(blocks, 4), optimizer, TwoStages(16, 1e-2, warmup=2), on_step=poison
    )
    assert history.diverged_at == 13
