"""gsplat as a back end: its arguments and results on the CPU with its rasterisers replaced, its values on CUDA."""

from __future__ import annotations

import inspect
import sys
import types
import warnings

import pytest
import torch

from papertrial.errors import BadInputError, MissingExtraError
from papertrial.scenes.splatting import Primitives, Rules, rasterize, rasterize_dense
from papertrial.scenes.splatting import rendering as rendering_module
from papertrial.scenes.splatting.compositing import alpha_of
from papertrial.scenes.splatting.geometry import project
from papertrial.scenes.splatting.gsplat_backend import rasterize_gsplat

WIDTH, HEIGHT = 20, 14
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="gsplat rasterises on CUDA only")


def view():
    turned = torch.eye(4)
    turned[:3, :3] = torch.linalg.matrix_exp(
        torch.tensor([[0.0, -0.1, 0.2], [0.1, 0.0, -0.05], [-0.2, 0.05, 0.0]])
    )
    turned[:3, 3] = torch.tensor([0.05, -0.1, 6.0])
    return turned


def camera():
    return torch.tensor([[36.0, 0.0, 10.0], [0.0, 38.0, 7.0], [0.0, 0.0, 1.0]])


def scene(count=40, seed=0, channels=3):
    """Discs of several pixels that face the camera more or less: there gsplat's box of 3.33 sigma cuts nothing off."""
    draw = torch.Generator().manual_seed(seed)
    means = (torch.rand(count, 3, generator=draw) - 0.5) * torch.tensor([3.0, 2.0, 2.0])
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]) + 0.1 * torch.randn(count, 4, generator=draw)
    scales = 0.15 + 0.15 * torch.rand(count, 3, generator=draw)
    opacities = 0.1 + 0.5 * torch.rand(count, generator=draw)
    return [means, quats, scales, opacities, torch.rand(count, channels, generator=draw)]


def real_signatures():
    """Return the signatures of gsplat's two functions, and of an installed gsplat nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gsplat = pytest.importorskip("gsplat", reason="the fake is held to gsplat's own signatures")
    return {
        name: inspect.signature(getattr(gsplat, name)) for name in ("rasterization", "rasterization_2dgs")
    }


@pytest.fixture
def fake(monkeypatch):
    """Put in gsplat's place two functions that take its arguments and blend by the dense oracle.

    As gsplat does, they blend whatever channels they are given, tell the last one's median, give radii of two
    numbers, 0 for what is not seen, and let gradients of the screen be told by `gradient_2dgs` or `means2d`.
    """
    signatures = real_signatures()
    calls = []

    def rasterizer(name, kind):
        def function(*positional, **named):
            bound = signatures[name].bind(*positional, **named)
            bound.apply_defaults()
            given = types.SimpleNamespace(**bound.arguments)
            calls.append((name, given))
            prims = Primitives(given.means, given.quats, given.scales, given.opacities)
            rules = Rules(kind, near=given.near_plane)
            moved = torch.zeros(1, len(prims), 2, requires_grad=True)  # a leaf, as gsplat's `densify` is one
            means2d = moved * 1.0  # and not a leaf, as its projected means are
            out = rasterize_dense(
                prims,
                given.viewmats[0],
                given.Ks[0],
                given.width,
                given.height,
                given.colors[0],
                rules,
                (moved if kind == "surfel" else means2d)[0],
            )
            radii = torch.zeros(1, len(prims), 2, dtype=torch.int32)
            radii[0, out.visible] = 5
            meta = {"radii": radii, "gradient_2dgs": moved, "means2d": means2d}
            alpha, median = out.alpha[None, ..., None], 7.0 + out.alpha[None, ..., None].detach()
            if kind == "gaussian":
                return out.features[None], alpha, meta
            empty = torch.zeros(0)
            return out.features[None], alpha, empty, empty, empty, median, meta

        return function

    module = types.ModuleType("gsplat")
    module.rasterization = rasterizer("rasterization", "gaussian")
    module.rasterization_2dgs = rasterizer("rasterization_2dgs", "surfel")
    monkeypatch.setitem(sys.modules, "gsplat", module)
    return calls


def rendered(leaves, kind, track=False, rules=None, function=rasterize_gsplat):
    means, quats, scales, opacities, features = leaves
    probe = torch.zeros(len(means), 2, requires_grad=True) if track else None
    prims = Primitives(means, quats, scales, opacities)
    return function(prims, view(), camera(), WIDTH, HEIGHT, features, rules or Rules(kind), probe)


def with_centre_depths(leaves, kind, rules=None):
    """Return what the oracle blends where every depth is that of a centre: features, alpha, depth, distortion."""
    means, quats, scales, opacities, features = leaves
    rules = rules or Rules(kind)
    depth = means @ view()[2, :3] + view()[2, 3]
    m = (
        depth
        if rules.distortion == "linear"
        else rules.far / (rules.far - rules.near) * (1 - rules.near / depth)
    )
    prims = Primitives(means, quats, scales, opacities)
    columns = torch.cat([features, torch.stack([depth, m, m * m], -1)], -1)
    out = rasterize_dense(prims, view(), camera(), WIDTH, HEIGHT, columns, rules)
    blended, first, second = out.features[..., -3], out.features[..., -2], out.features[..., -1]
    return [out.features[..., :-3], out.alpha, blended, out.alpha * second - first**2], out


@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
@pytest.mark.parametrize("channels", [0, 1, 3, 5, 6, 29, 40])
def test_what_gsplat_blends_is_given_back_by_our_conventions(fake, kind, channels):
    leaves = scene(channels=channels)
    out = rendered(leaves, kind)
    (name, given), wanted = fake[0], with_centre_depths(leaves, kind)
    assert name == {"surfel": "rasterization_2dgs", "gaussian": "rasterization"}[kind]
    for ours, one in zip([out.features, out.alpha, out.depth, out.distortion], wanted[0], strict=True):
        torch.testing.assert_close(ours, one, rtol=1e-5, atol=1e-5)  # float32 sums in another order
    assert torch.equal(out.visible, wanted[1].visible)
    assert out.size == (WIDTH, HEIGHT)
    assert torch.equal(given.viewmats, view()[None])
    assert torch.equal(given.Ks, camera()[None])
    assert (given.width, given.height, given.near_plane, given.eps2d) == (WIDTH, HEIGHT, 0.01, 0.3)
    assert (given.packed, given.render_mode, given.backgrounds, given.sh_degree) == (False, "RGB", None, None)
    assert given.colors.shape[0] == 1, "without packing, gsplat takes surfels' channels by camera"
    if kind == "gaussian":
        assert (given.rasterize_mode, given.camera_model) == ("classic", "pinhole")
        assert bool(torch.isnan(out.median_depth).all()), "gsplat tells none"
    else:
        supported = (1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512)
        assert given.colors.shape[2] in supported, "gsplat would pad with memory that nobody wrote"
        torch.testing.assert_close(out.median_depth, 7 + out.alpha)
    depth = leaves[0] @ view()[2, :3] + view()[2, 3]
    torch.testing.assert_close(
        given.colors[0, :, -1], depth, rtol=0, atol=0
    )  # gsplat's median is the last one's


def test_near_and_the_distortion_in_device_coordinates_are_passed_on(fake):
    leaves = scene()
    rules = Rules("gaussian", near=5.8, far=50.0, distortion="ndc")
    out = rendered(leaves, "gaussian", rules=rules)
    assert fake[0][1].near_plane == 5.8
    assert fake[0][1].far_plane > 1e9, "far is of the distortion alone"
    for ours, one in zip(
        [out.features, out.alpha, out.depth, out.distortion],
        with_centre_depths(leaves, "gaussian", rules)[0],
        strict=True,
    ):
        torch.testing.assert_close(ours, one, rtol=1e-5, atol=1e-5)
    assert 0 < len(out.visible) < len(leaves[0])


@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
@pytest.mark.parametrize("learnt", [range(5), [4]])
def test_gradients_of_primitives_and_of_their_places_come_back(fake, kind, learnt):
    """Also where only the features are learnt, and when two losses go backward one after the other."""

    def gradients(function):
        leaves = [one.clone().requires_grad_(at in learnt) for at, one in enumerate(scene())]
        out = rendered(leaves, kind, track=True, function=function)
        weights = torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(3))
        (out.features * weights).sum().backward(retain_graph=True)
        (out.alpha * weights[..., 0]).sum().backward()
        return [leaves[at].grad for at in learnt], out.screen_gradients()

    ours, places = gradients(rasterize_gsplat)
    wanted, wanted_places = gradients(rasterize_dense)
    assert float(wanted_places.abs().max()) > 0
    torch.testing.assert_close(places, wanted_places, rtol=1e-4, atol=1e-5)
    for one, other in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)  # float32 through the same graph


def test_no_primitives_are_an_empty_image(fake):
    out = rendered([one[:0] for one in scene()], "surfel")
    assert fake == []
    assert float(out.alpha.sum()) == 0
    assert out.features.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"rules": Rules("surfel", most_alpha=0.99)},
            "kernels have most_alpha = 0.999, got 0.99; use backend='torch'",
        ),
        ({"rules": Rules("surfel", near_at_pixel=True)}, "near_at_pixel must be False"),
        ({"leaves": [one.double() for one in scene()]}, "renders float32, got torch.float64"),
        ({"leaves": scene(channels=510)}, "at most 509 features of surfels, got 510"),
    ],
)
def test_what_gsplat_cannot_honour_is_refused(fake, changed, said):
    with pytest.raises(BadInputError, match=said):
        rendered(changed.get("leaves") or scene(), "surfel", rules=changed.get("rules"))
    assert fake == []


def test_on_the_cpu_the_error_says_what_works():
    means, quats, scales, opacities, features = scene()
    prims = Primitives(means, quats, scales, opacities)
    with pytest.raises(BadInputError) as raised:
        rasterize(prims, view(), camera(), 4, 4, features=features, backend="gsplat")
    assert str(raised.value) == "gsplat can only rasterise on CUDA; use backend='numba'"


def test_without_gsplat_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(MissingExtraError, match=r"papertrial\[gsplat\]"):
        rendered(scene(), "surfel")


@pytest.mark.parametrize(
    ("device", "installed", "rules", "chosen"),
    [
        ("cpu", ("numba", "gsplat"), Rules("surfel"), "numba"),
        ("cpu", ("gsplat",), Rules("surfel"), "torch"),
        ("cuda", ("numba", "gsplat"), Rules("surfel"), "gsplat"),
        ("cuda", ("numba",), Rules("surfel"), "torch"),
        ("cuda", ("gsplat",), Rules("surfel", near_at_pixel=True), "torch"),
        ("cuda", ("gsplat",), Rules("gaussian", most_alpha=0.99), "torch"),
        ("mps", ("numba", "gsplat"), Rules("surfel"), "torch"),
    ],
)
def test_auto_takes_what_is_installed_and_knows_the_rules(monkeypatch, device, installed, rules, chosen):
    monkeypatch.setattr(rendering_module, "find_spec", lambda name: name if name in installed else None)
    where = types.SimpleNamespace(device=torch.device(device), dtype=torch.float32)
    assert rendering_module._best.__wrapped__(where, rules) == chosen


@needs_cuda
@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
def test_on_cuda_gsplat_agrees_with_torch(kind):
    """Colours and alphas of 1e-3; surfels' depths are those of centres, so they are held to the oracle's blend."""
    pytest.importorskip("gsplat", reason="gsplat is not installed")
    leaves = [one.cuda().requires_grad_() for one in scene(200, seed=5)]
    means, quats, scales, opacities, features = leaves
    prims = Primitives(means, quats, scales, opacities)
    found = {}
    for backend in ("gsplat", "torch"):
        out = rasterize(
            prims,
            view().cuda(),
            camera().cuda(),
            WIDTH,
            HEIGHT,
            features=features,
            kind=kind,
            backend=backend,
            track=True,
        )
        weights = torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(1)).cuda()
        gradients = torch.autograd.grad((out.features * weights).sum(), leaves, retain_graph=True)
        (out.features * weights).mean().backward()
        found[backend] = out, [one.cpu() for one in gradients], out.screen_gradients().cpu()
    (ours, our_gradients, our_places), (other, gradients, places) = found["gsplat"], found["torch"]
    torch.testing.assert_close(ours.features, other.features, rtol=0, atol=1e-3)
    torch.testing.assert_close(ours.alpha, other.alpha, rtol=0, atol=1e-3)
    centres = with_centre_depths([one.detach().cpu() for one in leaves], kind)[0]
    torch.testing.assert_close(
        ours.depth.cpu(), centres[2], rtol=0, atol=5e-3
    )  # alphas of 1e-3 times depths of 4
    torch.testing.assert_close(ours.distortion.cpu(), centres[3], rtol=0, atol=1e-2)
    for one, wanted in zip([*our_gradients, our_places], [*gradients, places], strict=True):
        # relative L2: single pairs at the threshold of 1/255 fall on either side
        assert float((one - wanted).norm() / wanted.norm()) < 1e-2


def test_the_scene_of_the_cuda_test_is_not_cut_off_by_gsplats_box():
    """Emulates the one rule by which gsplat draws less: the tolerance of the test on CUDA is known to be right."""
    means, quats, scales, opacities, _ = scene(200, seed=5)
    prims = Primitives(means, quats, scales, opacities)
    screen = project(prims, view(), camera(), (WIDTH, HEIGHT), Rules("surfel"))
    low, high = screen.reach(torch.ones(200))  # the outline at one sigma
    half = 3.33 * torch.maximum((high - low) / 2, torch.tensor(0.01))
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    x, y = columns.reshape(-1), rows.reshape(-1)
    lost = 0.0
    for at in range(200):
        rho, _, _ = screen.at(torch.full((len(x),), at), x, y)
        alpha = alpha_of(opacities[at], rho, Rules("surfel"))
        away = (x - screen.centre[at, 0]).abs() > half[at, 0].ceil()
        away |= (y - screen.centre[at, 1]).abs() > half[at, 1].ceil()
        lost = max(lost, float(torch.where(away & (alpha >= 1 / 255), alpha, torch.zeros(())).max()))
    assert lost == 0
