"""Every back end against the dense oracle, closed forms, and gsplat's projection."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera
from papertrial.scenes.splatting import Primitives, Rules, project, rasterize
from papertrial.scenes.splatting.checking_kernels import sound
from papertrial.scenes.splatting.compiled import _front_to_back
from papertrial.scenes.splatting.compositing import distortion_depth
from papertrial.scenes.surface_views import facing_normals

BACK_ENDS = ("torch", "numba")
KINDS = ("surfel", "gaussian")
IDENTITY = torch.eye(4, dtype=torch.float64)


def camera(width, height, focal=0.8, dtype=torch.float64):
    return torch.tensor(
        [[focal * width, 0.0, width / 2], [0.0, 1.1 * focal * width, height / 2], [0.0, 0.0, 1.0]],
        dtype=dtype,
    )


def scene(count, seed, dtype=torch.float64, spread=1.0, behind=0.3):
    """Random primitives in front of the camera, behind it, across its plane, tiny, large, faint and opaque."""
    draw = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=draw, dtype=torch.float64)

    means = (uniform(count, 3) - 0.5) * torch.tensor([3.0, 3.0, 4.0], dtype=torch.float64) * spread
    means[:, 2] += 2.0 * spread * (1 - behind)
    quats = torch.randn(count, 4, generator=draw, dtype=torch.float64)
    scales = torch.exp(-3.5 + 3 * uniform(count, 3))
    opacities = uniform(count)
    opacities[::7] = 1.0
    opacities[3::11] = 0.003  # below 1/255
    features = uniform(count, 3)
    return [one.to(dtype) for one in (means, quats, scales, opacities, features)]


def render(leaves, backend, width, height, rules, view=IDENTITY, track=True):
    means, quats, scales, opacities, features = leaves
    dtype = means.dtype
    return rasterize(
        Primitives(means, quats, scales, opacities),
        view.to(dtype),
        camera(width, height, dtype=dtype),
        width,
        height,
        features=features,
        rules=rules,
        kind=rules.kind,
        backend=backend,
        track=track,
    )


def outputs(out):
    return [out.features, out.alpha, out.depth, out.distortion, out.median_depth]


def loss_of(out, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return sum(
        (one * torch.randn(one.shape, generator=draw, dtype=torch.float64).to(one.dtype)).sum()
        for one in outputs(out)
    )


def values_and_gradients(leaves, backend, *how):
    leaves = [one.clone().requires_grad_() for one in leaves]
    out = render(leaves, backend, *how)
    loss_of(out).backward()
    return outputs(out), [one.grad for one in leaves] + [out.screen_gradients()], out.visible


RULES = {
    f"{kind}-{name}": Rules(kind, **options)
    for kind in KINDS
    for name, options in {
        "linear": {},
        "ndc": {"distortion": "ndc", "near": 0.2},
        "original": {"most_alpha": 0.99, "near": 0.2, "near_at_pixel": True},
    }.items()
}


@pytest.mark.parametrize("backend", BACK_ENDS)
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize(("width", "height"), [(23, 17), (1, 1), (9, 31)])
def test_values_and_gradients_are_those_of_the_oracle(backend, rules, width, height):
    leaves = scene(60, seed=width)
    expected = values_and_gradients(leaves, "dense", width, height, rules)
    found = values_and_gradients(leaves, backend, width, height, rules)
    # float64 throughout; sums are taken in another order
    for ours, oracle in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-9)
    for ours, oracle in zip(found[1], expected[1], strict=True):
        assert (ours - oracle).norm() <= 1e-8 * oracle.norm() + 1e-10
    assert torch.equal(found[2], expected[2])


@pytest.mark.parametrize("backend", BACK_ENDS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 40),
    spread=st.sampled_from([0.2, 1.0, 5.0]),
    behind=st.sampled_from([0.0, 0.5, 1.0]),
    width=st.integers(1, 20),
    height=st.integers(1, 20),
)
def test_no_scene_tells_the_back_ends_apart(backend, kind, seed, count, spread, behind, width, height):
    leaves = scene(count, seed, spread=spread, behind=behind)
    expected = values_and_gradients(leaves, "dense", width, height, Rules(kind))
    found = values_and_gradients(leaves, backend, width, height, Rules(kind))
    for ours, oracle in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-7, atol=1e-7)
    for ours, oracle in zip(found[1], expected[1], strict=True):
        assert (ours - oracle).norm() <= 1e-6 * oracle.norm() + 1e-8


@pytest.mark.parametrize("backend", BACK_ENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_stays_near_the_oracle(backend, kind):
    """The tolerances of the design: 1e-4 in outputs, 1e-3 in gradients."""
    leaves = scene(300, seed=5, behind=0.0)
    expected = values_and_gradients(leaves, "dense", 24, 24, Rules(kind))
    found = values_and_gradients([one.float() for one in leaves], backend, 24, 24, Rules(kind))
    for ours, oracle in zip(found[0][:3], expected[0][:3], strict=True):
        torch.testing.assert_close(ours.double(), oracle, rtol=1e-4, atol=1e-4)
    for ours, oracle in zip(found[1], expected[1], strict=True):
        assert (ours.double() - oracle).norm() <= 1e-3 * oracle.norm()


@pytest.mark.parametrize("backend", BACK_ENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_deep(backend, kind):
    """A column of three thousand faint primitives: no pixel ends early, and none is lost."""
    leaves = scene(3000, seed=1)
    leaves[0][:, :2] *= 0.02
    leaves[0][:, 2] = torch.linspace(1.0, 3.0, 3000, dtype=torch.float64)
    leaves[3][:] = 0.005
    expected = render(leaves, "dense", 3, 3, Rules(kind), track=False)
    found = render(leaves, backend, 3, 3, Rules(kind), track=False)
    for ours, oracle in zip(outputs(found), outputs(expected), strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["dense", *BACK_ENDS])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(backend, kind):
    leaves = scene(12, seed=3, behind=0.0)
    leaves[3] = leaves[3].clamp(0.1, 0.9)  # away from the clamp and from 1/255
    leaves = [one.clone().requires_grad_() for one in leaves]

    def total(*tensors):
        return loss_of(render(list(tensors), backend, 6, 6, Rules(kind), track=False))

    assert torch.autograd.gradcheck(total, leaves, eps=1e-6, atol=1e-5, rtol=1e-5)


def standing(places, extent, opacity=0.8):
    """Return discs in planes of x = constant: their quaternion permutes the axes, so that nothing is rounded."""
    count = len(places)
    draw = torch.Generator().manual_seed(0)
    return [
        torch.tensor(places, dtype=torch.float64),
        torch.full((count, 4), 0.5, dtype=torch.float64),
        torch.full((count, 3), extent, dtype=torch.float64),
        torch.full((count,), opacity, dtype=torch.float64),
        torch.rand(count, 3, generator=draw, dtype=torch.float64),
    ]


@pytest.mark.parametrize("backend", BACK_ENDS)
@pytest.mark.parametrize(
    "rules", [RULES["surfel-linear"], RULES["surfel-original"]], ids=["plain", "original"]
)
@pytest.mark.parametrize("extent", [0.02, 0.3])
def test_an_exactly_edge_on_disc_is_drawn_alike(backend, rules, extent):
    """Its plane goes through the camera: only the circle on the screen shows it."""
    leaves = standing([[0.0, 0.1, 2.0], [0.4, -0.1, 2.2]], extent)
    expected = values_and_gradients(leaves, "dense", 8, 7, rules)
    found = values_and_gradients(leaves, backend, 8, 7, rules)
    assert 0 in expected[2].tolist()
    for ours, oracle in zip(found[0] + found[1], expected[0] + expected[1], strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-9)
    assert torch.equal(found[2], expected[2])


@pytest.mark.parametrize("backend", ["dense", *BACK_ENDS])
def test_rays_in_a_discs_plane_meet_nothing_or_the_circle(backend):
    """Of nine columns the middle one's rays lie in the plane, where Z is 0: gsplat skips such pixels, and so do the
    oracle and torch. The kernels may round Z to something else; then the circle is what they draw, and no more."""
    leaves = standing([[0.0, 0.1, 2.0]], 0.3)
    out = render(leaves, backend, 9, 7, Rules(), track=False)
    beside = render(leaves, "dense", 9, 7, Rules(), track=False)
    for ours, oracle in zip(outputs(out), outputs(beside), strict=True):
        columns = [0, 1, 2, 3, 5, 6, 7, 8]
        torch.testing.assert_close(ours[:, columns], oracle[:, columns], rtol=1e-9, atol=1e-9)
    prims = Primitives(*leaves[:4])
    centre = project(prims, IDENTITY, camera(9, 7), (9, 7), Rules()).centre[0]
    away = (torch.arange(7).double() + 0.5 - centre[1]).square() + (4.5 - centre[0]) ** 2
    circle = leaves[3][0] * torch.exp(-away)
    circle = torch.where(circle >= 1 / 255, circle, 0.0)
    skipped = out.alpha[:, 4] == 0
    assert bool((skipped | torch.isclose(out.alpha[:, 4], circle, rtol=1e-9, atol=1e-9)).all())


@pytest.mark.parametrize("backend", ["dense", *BACK_ENDS])
@pytest.mark.parametrize("near", [0.0, 0.2])
def test_remapped_depths_end_at_near(backend, near):
    """A disc beside the camera reaches behind it, and without a test at the pixel its far side is drawn there. What
    is nearer than near counts as near, so that pairs of depths differ by 1 at most and weights by a quarter's worth.
    """
    rules = Rules(distortion="ndc", near=near)
    leaves = standing([[0.3, 0.0, 0.5], [-0.4, 0.1, 0.7], [0.2, 0.0, 3.0]], 0.6)
    expected = values_and_gradients(leaves, "dense", 12, 11, rules)
    depth = render([one[:1] for one in leaves], backend, 12, 11, rules, track=False).depth
    assert float(depth.min()) < 0  # something behind the camera is drawn
    out, gradients, _ = values_and_gradients(leaves, backend, 12, 11, rules)
    distortion = out[3].detach()
    assert -1e-12 <= float(distortion.min()) <= float(distortion.max()) <= 0.25
    assert (float(distortion.max()) > 1e-3) == (near > 0)  # near 0 puts all depths in one place
    for ours, oracle in zip(out + gradients, expected[0] + expected[1], strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", ["dense", *BACK_ENDS])
def test_gradients_of_remapped_depths_are_those_of_finite_differences(backend):
    leaves = [one.requires_grad_() for one in standing([[0.3, 0.0, 0.5], [0.2, 0.0, 3.0]], 0.6)]

    def total(*tensors):
        rules = Rules(distortion="ndc", near=0.2)
        return render(list(tensors), backend, 5, 4, rules, track=False).distortion.sum()

    assert torch.autograd.gradcheck(total, leaves, eps=1e-7, atol=1e-5, rtol=1e-4)


def test_the_remap_is_one_at_far_and_still_below_near():
    rules = Rules(distortion="ndc", near=0.2, far=100.0)
    depth = torch.tensor([-3.0, 0.0, 0.1, 0.4, 100.0], dtype=torch.float64, requires_grad=True)
    found = distortion_depth(depth, rules)
    expected = torch.tensor([0.0, 0.0, 0.0, 100 / 99.8 * 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(found.detach(), expected)
    (slope,) = torch.autograd.grad(found.sum(), depth)
    assert slope[:3].tolist() == [0.0, 0.0, 0.0]
    assert (slope[3:] > 0).all()


def facing(depths, opacities, extent=50.0):
    """Return surfels that face the camera and fill the image."""
    count = len(depths)
    means = torch.tensor([[0.0, 0.0, depth] for depth in depths], dtype=torch.float64)
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * count, dtype=torch.float64)
    scales = torch.full((count, 3), extent, dtype=torch.float64)
    features = torch.eye(count, dtype=torch.float64)[:, : max(count, 1)]
    return [means, quats, scales, torch.tensor(opacities, dtype=torch.float64), features]


@pytest.mark.parametrize("backend", ["dense", *BACK_ENDS])
def test_one_surfel_has_its_depth_and_no_distortion(backend):
    out = render(facing([2.5], [0.8]), backend, 4, 4, Rules(), track=False)
    assert torch.allclose(out.depth / out.alpha, torch.full((4, 4), 2.5, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(out.alpha, torch.full((4, 4), 0.8, dtype=torch.float64), atol=1e-3)
    assert out.distortion.abs().max() < 1e-12
    assert torch.allclose(out.median_depth, torch.full((4, 4), 2.5, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("backend", ["dense", *BACK_ENDS])
def test_two_surfels_blend_as_the_equation_says(backend):
    first, second = 0.6, 0.7
    out = render(facing([3.0, 1.0], [second, first], extent=1e4), backend, 3, 3, Rules(), track=False)
    weights = torch.tensor([second * (1 - first), first], dtype=torch.float64)
    assert torch.allclose(out.features, weights.expand(3, 3, 2), atol=1e-6)
    expected = weights[0] * weights[1] * (3.0 - 1.0) ** 2
    assert torch.allclose(out.distortion, expected.expand(3, 3), atol=1e-6)
    # more than half of the light is left before the second: 1 - 0.6 < 0.5, so the median is the first
    assert torch.allclose(out.median_depth, torch.full((3, 3), 1.0, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("backend", ["dense", *BACK_ENDS])
@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_input_does_not_matter(backend, kind):
    leaves = scene(50, seed=8)
    shuffle = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    first = render(leaves, backend, 12, 10, Rules(kind), track=False)
    second = render([one[shuffle] for one in leaves], backend, 12, 10, Rules(kind), track=False)
    for one, other in zip(outputs(first), outputs(second), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", ["dense", *BACK_ENDS])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 5])
def test_a_view_of_nothing_is_empty(backend, kind, count):
    leaves = scene(5, seed=0)
    leaves[0][:, 2] = -1.0
    out = render([one[:count] for one in leaves], backend, 5, 4, Rules(kind), track=False)
    assert all(float(one.abs().sum()) == 0 for one in outputs(out))
    assert len(out.visible) == 0


@pytest.mark.parametrize("backend", BACK_ENDS)
def test_ties_keep_the_order_of_the_input(backend):
    leaves = facing([2.0, 2.0, 2.0], [0.5, 0.5, 0.5], extent=1e4)
    expected = render(leaves, "dense", 2, 2, Rules(), track=False)
    found = render(leaves, backend, 2, 2, Rules(), track=False)
    torch.testing.assert_close(found.features, expected.features, rtol=1e-6, atol=1e-6)
    assert found.features[0, 0, 0] > found.features[0, 0, 1] > found.features[0, 0, 2]


@pytest.mark.parametrize("backend", ["dense", "torch"])
def test_the_camera_has_gradients_too(backend):
    leaves = scene(20, seed=2, behind=0.0)
    view = IDENTITY.clone().requires_grad_()
    loss_of(render(leaves, backend, 8, 8, Rules(), view=view, track=False)).backward()
    assert view.grad[:3].abs().sum() > 0


def test_the_kernels_say_that_they_give_the_camera_none():
    with pytest.raises(BadInputError, match="no gradient of the camera; use backend='torch'"):
        render(scene(3, 0), "numba", 4, 4, Rules(), view=IDENTITY.clone().requires_grad_())


def test_results_do_not_depend_on_the_number_of_threads():
    leaves = scene(200, seed=4, behind=0.0)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(values_and_gradients(leaves, "numba", 20, 20, Rules()))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(results[0][0] + results[0][1], results[1][0] + results[1][1], strict=True):
        assert torch.equal(one, other)


@pytest.fixture
def gsplat():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("gsplat")
        from gsplat.cuda import _torch_impl, _torch_impl_2dgs

    return _torch_impl, _torch_impl_2dgs


def turned(seed):
    draw = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=draw, dtype=torch.float64))
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3] = rotation * torch.sign(torch.det(rotation))
    view[:3, 3] = torch.tensor([0.1, -0.2, 3.0], dtype=torch.float64)
    return view


def test_surfels_project_as_in_gsplat(gsplat):
    means, quats, scales, opacities, _ = scene(50, seed=6)
    view, matrix = turned(1), camera(32, 24)
    _, centres, depths, rows, _ = gsplat[1]._fully_fused_projection_2dgs(
        means, quats, scales, view[None], matrix[None], 32, 24
    )
    ours = project(Primitives(means, quats, scales, opacities), view, matrix, (32, 24), Rules("surfel"))
    torch.testing.assert_close(ours.rows, rows[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.centre, centres[0], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(ours.depth, depths[0], rtol=1e-12, atol=1e-12)


def test_surfels_normals_are_gsplats(gsplat):
    """gsplat's carry the third scale, which a surfel does not have: 1 makes them unit vectors."""
    means, quats, scales, opacities, _ = scene(50, seed=6)
    view, matrix = turned(1), camera(32, 24)
    scales[:, 2] = 1.0
    normals = gsplat[1]._fully_fused_projection_2dgs(means, quats, scales, view[None], matrix[None], 32, 24)[
        4
    ]
    ours = facing_normals(Primitives(means, quats, scales, opacities), Camera(view, matrix, 32, 24))
    # theirs are in the camera's frame
    torch.testing.assert_close(ours @ view[:3, :3].T, normals[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pixel_that_is_drawn_lies_in_a_tile_of_gsplats(gsplat, kind):
    """gsplat lists primitives by tiles that their boxes of 3.33 deviations meet: alpha falls below 1/255 there. Of
    surfels, which reach beyond their box where perspective or the circle on the screen carries them, pixels outside
    of it are left out, as gsplat does."""
    width, height, tile = 48, 32, 4
    columns, rows = width // tile, height // tile
    means, quats, scales, opacities, _ = scene(40, seed=9, behind=0.0)
    matrix, view = camera(width, height), IDENTITY
    if kind == "surfel":
        radii, centres, depths, _, _ = gsplat[1]._fully_fused_projection_2dgs(
            means, quats, scales, view[None], matrix[None], width, height
        )
    else:
        unit = torch.nn.functional.normalize(quats, dim=-1)
        covariances, _ = gsplat[0]._quat_scale_to_covar_preci(unit, scales, True, False, triu=False)
        radii, centres, depths, _, _ = gsplat[0]._fully_fused_projection(
            means, covariances, view[None], matrix[None], width, height
        )
    counts, numbers, listed = gsplat[0]._isect_tiles(
        centres.float(), radii.float(), depths.float(), tile, columns, rows
    )
    starts = gsplat[0]._isect_offset_encode(numbers, 1, columns, rows).flatten().tolist()
    assert int(counts.sum()) == len(listed)
    ends = [*starts[1:], len(listed)]
    in_tile = [set(listed[start:end].tolist()) for start, end in zip(starts, ends, strict=True)]
    leaves = [
        means,
        quats,
        scales,
        opacities * 0.2,
        torch.eye(40, dtype=torch.float64),
    ]  # all are seen through
    drawn = render(leaves, "numba", width, height, Rules(kind), track=False).features > 0
    checked = 0
    for row, column, one in drawn.nonzero().tolist():
        away = (torch.tensor([column + 0.5, row + 0.5]) - centres[0, one]).abs()
        if kind == "surfel" and bool((away > radii[0, one]).any()):
            continue
        assert one in in_tile[row // tile * columns + column // tile], (one, row, column)
        checked += 1
    assert checked > 1000


def test_gaussians_project_as_in_gsplat(gsplat):
    means, quats, scales, opacities, _ = scene(50, seed=7)
    view, matrix = turned(2), camera(32, 24)
    quats = torch.nn.functional.normalize(quats, dim=-1)
    covariances, _ = gsplat[0]._quat_scale_to_covar_preci(quats, scales, True, False, triu=False)
    _, centres, depths, conics, _ = gsplat[0]._fully_fused_projection(
        means, covariances, view[None], matrix[None], 32, 24
    )
    ours = project(Primitives(means, quats, scales, opacities), view, matrix, (32, 24), Rules("gaussian"))
    front = depths[0] > 0.01
    torch.testing.assert_close(ours.centre[front], centres[0][front], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.conic[front], conics[0][front], rtol=1e-9, atol=1e-9)


def bad(**changes):
    means, quats, scales, opacities, features = scene(5, 0)
    given_ = {
        "means": means,
        "quats": quats,
        "scales": scales,
        "opacities": opacities,
        "features": features,
        "view": IDENTITY,
        "matrix": camera(4, 4),
        "width": 4,
        "height": 4,
    } | {name: value for name, value in changes.items() if not callable(value)}
    for name, change in changes.items():
        if callable(change):
            given_[name] = change(given_[name].clone())
    prims = Primitives(given_["means"], given_["quats"], given_["scales"], given_["opacities"])
    return rasterize(
        prims,
        given_["view"],
        given_["matrix"],
        given_["width"],
        given_["height"],
        features=given_["features"],
        backend=given_.get("backend", "dense"),
    )


def put(row, value):
    def change(tensor):
        tensor[row] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": put(2, math.nan)}, r"means of shape \(5, 3\): row 2 is not finite"),
        ({"means": put(0, -math.inf)}, r"means of shape \(5, 3\): row 0 is not finite"),
        ({"quats": put(3, math.inf)}, r"quats of shape \(5, 4\): row 3 is not finite"),
        ({"scales": put(4, math.inf)}, r"scales of shape .*: row 4 is not finite"),
        ({"opacities": put(2, math.nan)}, r"opacities of shape .*: row 2 is not finite"),
        ({"features": put(1, math.nan)}, r"features of shape .*: row 1 is not finite"),
        ({"view": put((0, 3), math.nan)}, "viewmat of shape .*: row 0 is not finite"),
        ({"matrix": put((0, 2), math.inf)}, "intrinsics of shape .*: row 0 is not finite"),
        ({"quats": put(1, 0.0)}, r"quats of shape \(5, 4\): row 1 has norm zero"),
        ({"scales": put(4, -0.1)}, "scales of shape .*: row 4 is negative"),
        ({"opacities": put(0, 1.5)}, "opacities of shape .*: row 0 is not within 0 and 1: 1.5"),
        ({"opacities": put(0, -0.1)}, "opacities of shape .*: row 0 is not within 0 and 1: -0.1"),
        ({"features": torch.zeros(4, 3, dtype=torch.float64)}, "features has 4 rows .* for 5 primitives"),
        ({"view": put(slice(0, 1), 2.0)}, "viewmat is no rigid transform"),
        ({"view": lambda view: view * torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64)}, "determinant -1"),
        ({"matrix": put((0, 0), 0.0)}, "focal lengths must be above 0"),
        ({"matrix": put((1, 0), 0.5)}, "upper triangular"),
        ({"width": 0}, "a width and a height above 0, got 0 x 4"),
        ({"backend": "cuda"}, "unknown backend 'cuda'"),
        ({"means": lambda means: means.to("meta")}, r"on one device, got .*'means': 'meta', 'quats': 'cpu'"),
        ({"features": lambda features: features.to("meta")}, "on one device, got .*'features': 'meta'"),
        ({"view": lambda view: view.to("meta")}, "on one device, got .*'viewmat': 'meta'"),
        ({"matrix": lambda matrix: matrix.to("meta")}, "on one device, got .*'intrinsics': 'meta'"),
    ],
)
def test_bad_input_names_the_tensor_and_the_row(changes, message):
    with pytest.raises(BadInputError, match=message):
        bad(**changes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_compiled_walk_finds_good_input_good(dtype):
    means, quats, scales, opacities, features = (one.to(dtype) for one in scene(5, 0))
    opacities[:2] = torch.tensor([0.0, 1.0])
    scales[0] = 0.0
    assert sound(means, quats, scales, opacities, features)
    assert sound(means[:0], quats[:0], scales[:0], opacities[:0], features[:0])
    assert not sound(means, quats, scales, opacities.clone().fill_(1.01), features)


def test_what_lies_equally_deep_keeps_its_order():
    depth = torch.randint(0, 5, (500,), generator=torch.Generator().manual_seed(0)).double().numpy()
    seen = torch.arange(500).numpy() * 3
    assert _front_to_back(seen, depth).tolist() == seen[depth.argsort(kind="stable")].tolist()


def test_screen_gradients_come_after_backward():
    out = render(scene(3, 0), "numba", 4, 4, Rules())
    with pytest.raises(BadInputError, match="after backward"):
        out.screen_gradients()
