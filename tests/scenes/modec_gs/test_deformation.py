import pytest
import torch
from torch.nn import functional as F

from papertrial.errors import BadInputError
from papertrial.scenes.hexplane import HexPlane
from papertrial.scenes.modec_gs import AnchorDeformation, DeformationNetwork, GaussianDeformation, open_mask
from papertrial.scenes.scaffold import AnchorState, Decoded

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
FEATURES, PER_ANCHOR, COUNT = 5, 3, 4


def field(**more):
    return HexPlane(
        BOX, spatial=4, temporal=4, channels=3, generator=torch.Generator().manual_seed(0), **more
    )


def a_state(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return AnchorState(
        torch.rand(COUNT, 3, generator=draw) - 0.5,
        torch.randn(COUNT, FEATURES, generator=draw),
        torch.randn(COUNT, PER_ANCHOR, 3, generator=draw),
        0.2 + torch.rand(COUNT, 6, generator=draw),
    )


def frame(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Decoded(
        torch.rand(count, 3, generator=draw) - 0.5,
        torch.randn(count, 4, generator=draw),
        0.2 + torch.rand(count, 3, generator=draw),
        torch.rand(count, generator=draw),
        torch.rand(count, 3, generator=draw),
        torch.arange(count),
        torch.rand(count, 1, generator=draw),
    )


def by_hand(network, name, features):
    """The papers' network, layer by layer: no activation after the trunk."""
    u = F.linear(features, network.trunk.weight, network.trunk.bias)
    _, first, _, second = network.heads[name]
    return F.linear(F.relu(F.linear(F.relu(u), first.weight, first.bias)), second.weight, second.bias)


def busy_anchors(**more):
    torch.manual_seed(0)
    return AnchorDeformation(field(), FEATURES, PER_ANCHOR, hidden=8, zero_start=False, **more)


def test_anchor_steps_by_hand():
    deformation, state = busy_anchors(), a_state()
    gates = torch.tensor([[0.0, 0.0], [-5.0, 1.0], [-4.0, -2.0], [3.0, -9.0]])
    with torch.no_grad():
        found = deformation(state, [0.25, 0.5], gates)
        for local, time in zip(found, (0.25, 0.5), strict=True):
            features = deformation.field(state.positions, time)
            steps = {name: by_hand(deformation.network, name, features) for name in deformation.network.heads}
            mask, share = torch.tensor([[1.0], [0.0], [1.0], [1.0]]), torch.sigmoid(gates[:, 1:])
            torch.testing.assert_close(local.positions, state.positions + mask * steps["positions"])
            torch.testing.assert_close(local.features, state.features + share * steps["features"])
            moved = state.offsets + (share * steps["offsets"]).reshape(COUNT, PER_ANCHOR, 3)
            torch.testing.assert_close(local.offsets, moved)
            torch.testing.assert_close(
                local.scalings, (state.scalings + share * steps["scalings"]).clamp(min=1e-6)
            )


def test_one_gate_serves_as_both():
    deformation, state = busy_anchors(), a_state()
    logits = torch.tensor([[-5.0], [-4.0], [0.0], [2.0]])
    with torch.no_grad():
        one = deformation(state, [0.3], logits)[0]
        two = deformation(state, [0.3], logits.repeat(1, 2))[0]
    for ours, theirs in zip(one, two, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_without_gates_steps_are_whole():
    deformation, state = busy_anchors(), a_state()
    with torch.no_grad():
        free = deformation(state, [0.3])[0]
        open_ = deformation(state, [0.3], torch.full((COUNT, 2), 40.0))[0]  # sigmoid(40) is 1 in float32
    for ours, theirs in zip(free, open_, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_closed_gates_leave_everything_as_it_is():
    deformation, state = busy_anchors(), a_state()
    with torch.no_grad():
        for local in deformation(state, [0.0, 0.4, 1.0], torch.full((COUNT, 2), -200.0)):
            for ours, theirs in zip(local, state, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_the_mask_opens_at_a_hundredth_and_has_the_sigmoids_gradient():
    logits = torch.tensor([-5.0, -4.6, -4.59, -4.0, 0.0, 5.0], requires_grad=True)
    mask = open_mask(logits)
    # sigmoid(-4.595) = 0.01
    assert mask.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    mask.sum().backward()
    soft = torch.sigmoid(logits.detach())
    torch.testing.assert_close(logits.grad, soft * (1 - soft))


def test_gates_learn_also_where_they_are_closed():
    deformation, state = busy_anchors(), a_state()
    gates = torch.full((COUNT, 2), -6.0, requires_grad=True)
    local = deformation(state, [0.3], gates)[0]
    (local.positions.sum() + local.features.sum()).backward()
    assert bool((gates.grad.abs() > 0).all())


def test_a_zero_start_deforms_nothing_and_still_learns():
    torch.manual_seed(0)
    deformation, state = AnchorDeformation(field(), FEATURES, PER_ANCHOR, hidden=8), a_state()
    local = deformation(state, [0.7], torch.zeros(COUNT, 2))[0]
    for ours, theirs in zip(local, state, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    local.positions.sum().backward()
    assert float(deformation.network.heads["positions"][-1].weight.grad.abs().sum()) > 0


def test_xavier_weights_are_within_their_bound():
    """Glorot and Bengio (2010): uniform within the root of six over inputs plus outputs."""
    torch.manual_seed(0)
    network = DeformationNetwork(16, {"means": 3}, hidden=64, zero_start=False)
    for layer in (network.trunk, network.heads["means"][1], network.heads["means"][3]):
        outputs, inputs = layer.weight.shape
        bound = (6 / (inputs + outputs)) ** 0.5
        largest = float(layer.weight.detach().abs().max())
        assert 0.9 * bound < largest <= bound  # among 192 draws or more one comes within a tenth


def test_scalings_stay_above_zero():
    deformation, state = busy_anchors(), a_state()
    with torch.no_grad():
        deformation.network.heads["scalings"][-1].bias.fill_(-100)
        assert float(deformation(state, [0.5])[0].scalings.min()) == pytest.approx(1e-6)


def test_gaussian_steps_by_hand():
    torch.manual_seed(0)
    deformation = GaussianDeformation(field(), hidden=8, zero_start=False)
    frames, times = [frame(4), frame(0, 1), frame(3, 2)], [0.1, 0.5, 0.9]
    with torch.no_grad():
        found = deformation(frames, times)
        for before, after, time in zip(frames, found, times, strict=True):
            features = deformation.field(before.means, time)
            network = deformation.network
            torch.testing.assert_close(after.means, before.means + by_hand(network, "means", features))
            scales = (before.scales + by_hand(network, "scales", features)).clamp(min=1e-6)
            torch.testing.assert_close(after.scales, scales)
            torch.testing.assert_close(
                after.raw_quats, before.raw_quats + by_hand(network, "quats", features)
            )
            assert after.opacities is before.opacities
            assert after.colours is before.colours


def test_gaussians_may_stray_from_the_box_and_anchors_may_not():
    torch.manual_seed(0)
    far = frame(2)._replace(means=torch.tensor([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]]))
    moved = GaussianDeformation(field(), hidden=8)([far], [0.5])[0]
    torch.testing.assert_close(moved.means, far.means)
    state = a_state()._replace(positions=torch.tensor([[0.0, 0.0, 0.0], [5.0, 0, 0], [0, 0, 0], [0, 0, 0]]))
    with pytest.raises(BadInputError, match=r"25\.0% of 4 points lie outside the field's box"):
        busy_anchors()(state, [0.5])


def test_heads_taken_together_say_what_each_says():
    """Values and gradients are those of the heads as they stand: ReLU, linear, ReLU, linear after the trunk."""
    outputs = {"one": 3, "two": 7, "three": 1}
    torch.manual_seed(0)
    network = DeformationNetwork(5, outputs, hidden=8, zero_start=False).double()
    features = torch.randn(20, 5, dtype=torch.float64)
    apart = {name: head(network.trunk(features)) for name, head in network.heads.items()}
    together = network(features)
    push = {name: torch.randn(20, size, dtype=torch.float64) for name, size in outputs.items()}
    gradients = []
    for found in (apart, together):
        total = sum((found[name] * push[name]).sum() for name in outputs)
        gradients.append(torch.autograd.grad(total, list(network.parameters())))
    assert list(together) == list(outputs)
    for name in outputs:
        torch.testing.assert_close(together[name], apart[name], rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_bad_input():
    with pytest.raises(BadInputError, match="one gate or two, got 3"):
        busy_anchors()(a_state(), [0.5], torch.zeros(COUNT, 3))
    with pytest.raises(BadInputError, match="every frame needs its time, got 1 frames and 2 times"):
        GaussianDeformation(field())([frame(2)], [0.1, 0.2])
    with pytest.raises(BadInputError, match="sizes must be above 0"):
        DeformationNetwork(4, {"means": 3}, hidden=0)
