"""Decoding: a loop over anchors and slots, gradients by differences, and surfels that need no decoder."""

from __future__ import annotations

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.scaffold import Anchors, AnchorState, Decoder, volume_loss
from papertrial.scenes.splatting import Primitives, rasterize


def layer(network, place, x):
    """A linear layer by its weights."""
    one = network[place]
    return one.weight @ x + one.bias


def loop_decode(anchors, decoder, camera, chosen, kind, distances=(), appearance=None):
    """Each primitive by itself, as the equations stand."""
    found = []
    k = anchors.per_anchor
    for a in chosen:
        away = anchors.positions[a] - camera.centre
        delta = away.square().sum().sqrt()
        seen = torch.cat([anchors.features[a], away / delta])

        def ask(name, seen=seen, delta=delta):
            x = torch.cat([seen, delta[None]]) if name in distances else seen
            if name == "colour" and appearance is not None:
                x = torch.cat([x, appearance])
            network = getattr(decoder, name)
            return layer(network, 2, layer(network, 0, x).clamp(min=0))

        opacity = torch.tanh(ask("opacity"))
        shape, colour = ask("covariance"), torch.sigmoid(ask("colour"))
        s = anchors.log_scalings[a].exp()
        for j in range(k):
            if opacity[j] <= 0:
                continue
            extents = s[3:6] * torch.sigmoid(shape[7 * j : 7 * j + 3])
            if kind == "surfel":
                extents = torch.cat([extents[:2], torch.zeros(1)])
            mean = anchors.positions[a] + anchors.offsets[a, j] * s[0:3]
            quat, rgb = shape[7 * j + 3 : 7 * j + 7], colour[3 * j : 3 * j + 3]
            found.append((mean, quat, extents, opacity[j], rgb, int(a) * k + j))
    return found


@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
@pytest.mark.parametrize("distances", [(), ("opacity", "covariance", "colour")])
@pytest.mark.parametrize("cameras", [0, 3])
def test_it_is_the_loop_over_anchors(make_scaffold, camera, kind, distances, cameras):
    anchors, decoder = make_scaffold(sees_distance=distances, cameras=cameras)
    chosen = torch.tensor([4, 0, 2])
    which = 1 if cameras else None
    decoded = decoder.decode(anchors.state(), camera, kind=kind, anchors=chosen, appearance=which)
    vector = decoder.appearances.weight[1] if cameras else None
    expected = loop_decode(anchors, decoder, camera, chosen, kind, distances, vector)
    assert 0 < len(expected) < 9  # some are there and some are not
    assert decoded.slots.tolist() == [one[5] for one in expected]
    for place, name in enumerate(("means", "raw_quats", "scales", "opacities", "colours")):
        wanted = torch.stack([one[place] for one in expected])
        torch.testing.assert_close(getattr(decoded, name), wanted, atol=1e-6, rtol=1e-5)  # float32, sums of 8
    assert decoded.neural_opacities.shape == (3, anchors.per_anchor)
    assert int((decoded.neural_opacities > 0).sum()) == len(expected)


def test_an_offset_is_in_units_of_its_anchors_scale(make_scaffold, camera):
    """Equation 9 of arXiv 2412.03428 adds the offset as it is; the released base scales it, axis by axis."""
    anchors, decoder = make_scaffold()
    anchors.offsets.data[:] = torch.tensor([1.0, -2.0, 0.5])
    anchors.log_scalings.data[:, :3] = torch.tensor([3.0, 0.1, 2.0]).log()
    decoded = decoder.decode(anchors.state(), camera)
    owner = decoded.slots // anchors.per_anchor
    moved = decoded.means - anchors.positions[owner]
    torch.testing.assert_close(moved, torch.tensor([3.0, -0.2, 1.0]).expand_as(moved), atol=1e-6, rtol=0)


def test_all_anchors_are_decoded_where_none_are_named(make_scaffold, camera):
    anchors, decoder = make_scaffold()
    every = decoder.decode(anchors.state(), camera)
    named = decoder.decode(anchors.state(), camera, anchors=torch.arange(5))
    for one, other in zip(every, named, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
def test_gradients_reach_everything_a_deformation_gives(make_scaffold, camera, kind):
    """Differences in float64 through a state that is not the anchors' own."""
    anchors, decoder = make_scaffold(count=3, per_anchor=2, dtype=torch.float64)
    camera = camera.to(torch.float64)
    given = [one.detach().clone().requires_grad_() for one in anchors.state()]

    def values(*tensors):
        decoded = decoder.decode(AnchorState(*tensors), camera, kind=kind)
        return decoded.means, decoded.raw_quats, decoded.scales, decoded.opacities, decoded.colours

    assert len(values(*given)[0]) > 1
    assert torch.autograd.gradcheck(values, given)


def constant_decoder(per_anchor=1, features=2):
    """A decoder whose networks say the same of every anchor."""
    decoder = Decoder(per_anchor, features, hidden=4)
    with torch.no_grad():
        for network in (decoder.opacity, decoder.covariance, decoder.colour):
            for parameter in network.parameters():
                parameter.zero_()
        decoder.opacity[2].bias.fill_(torch.atanh(torch.tensor(0.6)))
        decoder.covariance[2].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.8, 0.6, 0.0, 0.0]))
        decoder.colour[2].bias.copy_(torch.logit(torch.tensor([0.2, 0.5, 0.7])))
    return decoder


def test_with_constant_networks_it_is_direct_splatting_of_the_seeds(camera):
    """The limit: one primitive an anchor, no offsets, constant networks: the same picture and the same gradients."""
    points = 0.5 * torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    anchors = Anchors.from_points(points, 0.05, per_anchor=1, feature_size=2)
    decoder = constant_decoder()

    def show(means, quats, scales, opacities, colours):
        prims = Primitives(means, quats, scales, opacities)
        return rasterize(prims, camera.viewmat, camera.intrinsics, 32, 24, features=colours)

    decoded = decoder.decode(anchors.state(), camera)
    ours = show(decoded.means, decoded.raw_quats, decoded.scales, decoded.opacities, decoded.colours)
    count = len(anchors)
    logs = anchors.log_scalings.detach()[:, 3:5].clone().requires_grad_()
    direct = show(
        anchors.positions,
        torch.tensor([[0.8, 0.6, 0.0, 0.0]]).repeat(count, 1),
        torch.nn.functional.pad(logs.exp() * 0.5, (0, 1)),  # sigmoid(0)
        torch.full((count,), 0.6),
        torch.tensor([[0.2, 0.5, 0.7]]).repeat(count, 1),
    )
    assert float(direct.alpha.detach().max()) > 0.5
    torch.testing.assert_close(ours.features, direct.features, atol=1e-6, rtol=1e-5)
    ours.features.square().sum().backward()
    direct.features.square().sum().backward()
    torch.testing.assert_close(anchors.log_scalings.grad[:, 3:5], logs.grad, atol=1e-5, rtol=1e-3)


def test_a_primitive_of_a_negative_opacity_is_not_there(camera):
    anchors = Anchors.from_points(torch.eye(3), 0.1, per_anchor=1, feature_size=2)
    decoder = constant_decoder()
    with torch.no_grad():
        decoder.opacity[2].bias.neg_()
    decoded = decoder.decode(anchors.state(), camera)
    assert len(decoded.means) == 0
    assert decoded.neural_opacities.shape == (3, 1)
    assert volume_loss(decoded, "surfel").item() == 0.0


@pytest.mark.parametrize(("kind", "expected"), [("surfel", 0.5 * 0.25), ("gaussian", 0.5 * 0.25 * 0.125)])
def test_the_volume_is_the_product_of_the_extents(camera, kind, expected):
    anchors = Anchors.from_points(torch.eye(3), 0.1, per_anchor=1, feature_size=2)
    with torch.no_grad():
        anchors.log_scalings[:, 3:] = torch.tensor([1.0, 0.5, 0.25]).log()
    decoded = constant_decoder().decode(anchors.state(), camera, kind=kind)
    assert volume_loss(decoded, kind).item() == pytest.approx(expected, rel=1e-5)


def test_what_cannot_be_decoded(make_scaffold, camera):
    anchors, decoder = make_scaffold()
    with pytest.raises(BadInputError, match="unknown kind 'disc'"):
        decoder.decode(anchors.state(), camera, kind="disc")
    with pytest.raises(BadInputError, match="has no appearance vectors, camera 2"):
        decoder.decode(anchors.state(), camera, appearance=2)
    anchors, decoder = make_scaffold(cameras=2)
    for wrong in (None, 2):
        with pytest.raises(BadInputError, match="one of 0 to 1"):
            decoder.decode(anchors.state(), camera, appearance=wrong)
    with pytest.raises(BadInputError, match="unknown network 'color'"):
        Decoder(sees_distance=("color",))
    with pytest.raises(BadInputError, match="sizes of a decoder"):
        Decoder(0)


def test_without_colours_all_else_is_the_same(make_scaffold, camera):
    """And no appearance is asked for, although the decoder has some."""
    anchors, decoder = make_scaffold(cameras=3)
    whole = decoder.decode(anchors.state(), camera, appearance=1)
    plain = decoder.decode(anchors.state(), camera, coloured=False)
    assert plain.colours.shape == (len(whole.means), 0)
    for name in whole._fields:
        if name != "colours":
            assert torch.equal(getattr(plain, name), getattr(whole, name)), name
