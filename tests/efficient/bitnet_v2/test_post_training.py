from __future__ import annotations

import pytest
import torch
from torch import nn

from papertrial.data.tokens import batches
from papertrial.efficient.bitnet_v2.convert import BitNetOptions, use_bitnet
from papertrial.efficient.bitnet_v2.post_training import (
    RotatedLinear,
    Rotation,
    absmax_int4,
    learn_rotations,
    random_hadamard,
    use_rotations,
)
from papertrial.efficient.bitnet_v2.quantizers import ternary_codes
from papertrial.errors import BadInputError

# Orthogonality of a product of float32 matrices of this size: a few hundred steps of 6e-8.
ORTHOGONAL = 2e-5


def test_random_hadamard_is_orthogonal_and_seeded():
    matrix = random_hadamard(64, 3)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(64), rtol=0, atol=ORTHOGONAL)
    assert torch.equal(matrix.abs(), torch.full((64, 64), 1 / 8))
    assert torch.equal(matrix, random_hadamard(64, 3))
    assert not torch.equal(matrix, random_hadamard(64, 4))


def test_absmax_int4_by_hand():
    x = torch.tensor([[7.0, -3.4, 0.4, 3.6]], requires_grad=True)
    out = absmax_int4(x)
    assert out.tolist() == [[7.0, -3.0, 0.0, 4.0]]
    out.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("fusing", ["fused", "unfused"])
def test_a_rotated_layer_by_its_formula(linear, noise, fusing):
    source = linear(12, 32)
    rotation = Rotation(random_hadamard(32, 0), learned=False)
    matrix, x = rotation.weight, noise(4, 32)
    if fusing == "fused":
        codes, scale = ternary_codes(source.weight @ matrix.T)
        weight = codes * scale
    else:
        codes, scale = ternary_codes(source.weight)
        weight = codes * scale @ matrix.T
    expected = absmax_int4(x @ matrix.T) @ weight.T
    layer = RotatedLinear(source, rotation, fusing=fusing)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)


def test_rotating_without_rounding_changes_nothing(bitnet, monkeypatch):
    """With both quantisers taken out, the rotated model is the model."""
    from papertrial.efficient.bitnet_v2 import post_training

    for name in ("absmax_int4", "ternarize"):
        monkeypatch.setattr(post_training, name, lambda t: t)
    model = bitnet(layers=2)
    tokens = torch.arange(20)[None]
    before = model(input_ids=tokens).logits
    for fusing in ("fused", "unfused"):
        rotated = use_rotations(model, fusing=fusing)
        torch.testing.assert_close(model(input_ids=tokens).logits, before, rtol=0, atol=1e-4)
        rotated.replacement.restore()
    assert torch.equal(model(input_ids=tokens).logits, before)


def test_which_layers_are_fused_and_share_a_rotation(bitnet):
    model = bitnet(layers=2)
    rotated = use_rotations(model, fusing="unfused")
    assert set(rotated.rotations) == {"hidden_32", "o_proj_32", "down_proj_64"}
    layers = {n: m for n, m in model.named_modules() if isinstance(m, RotatedLinear)}
    assert {n.rpartition(".")[2] for n, m in layers.items() if m.fusing == "fused"} == {"o_proj", "down_proj"}
    assert len({id(m.rotation) for m in layers.values()}) == 3


def test_learned_rotations_stay_orthogonal_and_lower_the_loss(bitnet):
    model = bitnet(vocabulary=64)
    use_bitnet(model, BitNetOptions(rotation="none"))
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    rotated = use_rotations(model, learned=True)
    start = {name: r.weight.detach().clone() for name, r in rotated.rotations.items()}
    torch.testing.assert_close(start["hidden_32"], random_hadamard(32, 0), rtol=0, atol=ORTHOGONAL)
    blocks = torch.arange(8 * 32).reshape(8, 32) % 64
    told = []
    losses = learn_rotations(
        model, rotated, batches(blocks, 8), steps=25, lr=1e-2, on_step=lambda done, loss: told.append(done)
    )
    assert told == list(range(1, 26))
    assert min(losses[-5:]) < losses[0]
    for name, rotation in rotated.rotations.items():
        matrix = rotation.weight
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(len(matrix)), rtol=0, atol=1e-4)
        assert torch.equal(matrix, start[name]) == (name == "down_proj_64")
    rotated.replacement.restore()
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_bad_input(bitnet):
    with pytest.raises(BadInputError, match="no rotation is learned"):
        learn_rotations(nn.Linear(2, 2), use_rotations(bitnet()), iter(()))
