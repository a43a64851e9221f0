import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.scenes.hexplane import PAIRS, TIME, HexPlane, Penalty, box_around, warm_up

BOX = torch.tensor([[-1.0, 0.0, 2.0], [3.0, 1.0, 2.5]])
BACKENDS = ("numba", "torch")


def make(
    backend="numba", *, box=BOX, seed=0, spatial=(5, 4, 3), temporal=6, channels=3, scales=(1, 2), **more
):
    field = HexPlane(
        box,
        spatial=spatial,
        temporal=temporal,
        channels=channels,
        scales=scales,
        backend=backend,
        generator=torch.Generator().manual_seed(seed),
        **more,
    )
    with torch.no_grad():
        field.cells.add_(
            0.3 * torch.randn(field.cells.shape, generator=torch.Generator().manual_seed(seed + 1))
        )
    return field


def inside(count, seed=0):
    share = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))
    return BOX[0] + share * (BOX[1] - BOX[0])


def one_sample(plane, column, row):
    """A bilinear sample written out: places beyond the border are moved onto it."""
    rows, columns, _ = plane.shape
    column, row = min(max(column, 0.0), columns - 1.0), min(max(row, 0.0), rows - 1.0)
    left, top = min(int(column), columns - 2), min(int(row), rows - 2)
    right, down = column - left, row - top
    return (
        (1 - right) * (1 - down) * plane[top, left]
        + right * (1 - down) * plane[top, left + 1]
        + (1 - right) * down * plane[top + 1, left]
        + right * down * plane[top + 1, left + 1]
    )


def by_hand(field, points, times):
    """The definition, point by point, in float64."""
    low, high = field.box.double()
    rows = []
    for point, time in zip(points.double(), times.double(), strict=True):
        at = [*((point - low) / (high - low)).tolist(), float(time)]
        if field.time_range == "half":
            at[TIME] = (1 + at[TIME]) / 2
        features = []
        for size, six in zip(field.sizes, field.planes(field.cells.detach().double()), strict=True):
            product = torch.ones(field.channels, dtype=torch.float64)
            for (i, j), plane in zip(PAIRS, six, strict=True):
                product = product * one_sample(plane, at[i] * (size[i] - 1), at[j] * (size[j] - 1))
            features.append(product)
        rows.append(torch.cat(features))
    return torch.stack(rows)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("time_range", ["full", "half"])
def test_features_are_products_of_six_samples(backend, time_range):
    field, points, times = make(backend, time_range=time_range), inside(40), torch.linspace(0, 1, 40)
    # 1e-5: products of six float32 numbers near one
    torch.testing.assert_close(
        field(points, times).double(), by_hand(field, points, times), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_points_outside_take_the_borders_value(backend):
    field = make(backend)
    points, times = (
        inside(20) + 3 * torch.randn(20, 3, generator=torch.Generator().manual_seed(2)),
        torch.rand(20),
    )
    found = field(points, times, outside="clamp").double()
    torch.testing.assert_close(found, by_hand(field, points, times), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_coordinates_that_are_no_numbers_take_the_lower_borders_value(backend):
    """As `grid_sample` has it; a kernel that trusted them would read and write outside the planes."""
    field = make(backend)
    points, times = inside(4), torch.rand(4)
    points[0, 0], points[1, 2], points[2, 1] = math.nan, math.inf, -math.inf
    times[3] = math.nan
    expected = points.clone()
    expected[0, 0], expected[1, 2], expected[2, 1] = BOX[0, 0], BOX[1, 2], BOX[0, 1]
    points.requires_grad_()
    found = field(points, times, outside="clamp")
    torch.testing.assert_close(
        found.double(), by_hand(field, expected, times.nan_to_num()), rtol=1e-5, atol=1e-5
    )
    found.sum().backward()
    assert bool(torch.isfinite(field.cells.grad).all())
    with pytest.raises(BadInputError, match=r"75.0% of 4 points lie outside"):
        field(points, times)


def test_gsplats_field_reads_the_same_features():
    """The peer stores its box from + to -, which turns space round, and reads times within -1 and 1."""
    peers = pytest.importorskip("gsplat.contrib.dynamic.hexplane", reason="gsplat after 1.5.3 has it")
    regulation = pytest.importorskip("gsplat.contrib.dynamic.regulation")
    bound, count = 1.6, 200
    box = torch.tensor([[-bound] * 3, [bound] * 3])
    ours = make("numba", box=box, spatial=(8, 8, 8), temporal=5, channels=4)
    theirs = peers.HexPlaneField(
        bound,
        {
            "grid_dimensions": 2,
            "input_coordinate_dim": 4,
            "output_coordinate_dim": 4,
            "resolution": [8, 8, 8, 5],
        },
        (1, 2),
    )
    with torch.no_grad():
        for six, grids in zip(ours.planes(), theirs.grids, strict=True):
            for plane, grid in zip(six, grids, strict=True):
                grid.copy_(plane.permute(2, 0, 1)[None])
    draw = torch.Generator().manual_seed(0)
    points, times = (
        bound * (2 * torch.rand(count, 3, generator=draw) - 1),
        torch.rand(count, generator=draw),
    )
    expected = theirs(torch.cat([-points, 2 * times[:, None] - 1], dim=1))
    torch.testing.assert_close(ours(points, times), expected, rtol=1e-5, atol=1e-6)
    penalty = regulation.hexplane_regularization(theirs, 0.5, 0.25, 2.0)
    torch.testing.assert_close(ours.penalty(Penalty(0.5, 0.25, 2.0)), penalty, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_node_gives_the_product_of_the_stored_values(backend):
    field = make(backend, scales=(1,))
    sizes = field.sizes[0]
    nodes = list(itertools.product(*(range(size) for size in sizes)))
    share = torch.tensor(nodes, dtype=torch.float32) / (torch.tensor(sizes) - 1)
    found = field(BOX[0] + share[:, :3] * (BOX[1] - BOX[0]), share[:, 3])
    planes = field.planes()[0]
    stored = torch.stack(
        [
            torch.stack([plane[node[j], node[i]] for (i, j), plane in zip(PAIRS, planes, strict=True)]).prod(
                0
            )
            for node in nodes
        ]
    )
    torch.testing.assert_close(
        found, stored, rtol=1e-4, atol=1e-5
    )  # a node's place is rounded by 1e-7 of the box


@pytest.mark.parametrize("backend", BACKENDS)
def test_with_untouched_time_planes_nothing_depends_on_time(backend):
    field, points = HexPlane(BOX, spatial=8, temporal=7, channels=4, backend=backend), inside(30)
    still = field(points, 0.0)
    for time in (0.2, 0.77, 1.0):
        torch.testing.assert_close(field(points, time), still, rtol=1e-6, atol=0)


def test_first_values_are_those_of_the_released_code():
    field = HexPlane(BOX, spatial=16, temporal=5, channels=8)
    for six in field.planes():
        for (_, j), plane in zip(PAIRS, six, strict=True):
            if j == TIME:
                assert bool((plane == 1).all())
            else:
                low, high = (float(one) for one in torch.aminmax(plane.detach()))
                assert 0.1 <= low < 0.12  # thousands of uniform draws come within 5 % of both ends
                assert 0.48 < high <= 0.5


def test_sizes_are_the_papers():
    """The final model's two fields (arXiv 2501.03714's released arguments), counted by hand."""
    small = HexPlane(BOX, spatial=32, temporal=10, channels=16)
    large = HexPlane(BOX, spatial=64, temporal=100, channels=16)
    assert small.cells.numel() == 16 * (3 * 32**2 + 3 * 32 * 10 + 3 * 64**2 + 3 * 64 * 10)
    assert large.cells.numel() == 16 * (3 * 64**2 + 3 * 64 * 100 + 3 * 128**2 + 3 * 128 * 100)
    assert small.features == large.features == 32


@settings(max_examples=20, deadline=None)
@given(
    time_range=st.sampled_from(["full", "half"]),
    spatial=st.tuples(*[st.integers(2, 6)] * 3),
    temporal=st.integers(2, 6),
    channels=st.integers(1, 17),
    count=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_kernel_and_stacked_samples_agree_with_their_gradients(
    time_range, spatial, temporal, channels, count, seed
):
    sizes = {"spatial": spatial, "temporal": temporal, "channels": channels, "time_range": time_range}
    fields = [make(backend, seed=seed, **sizes).double() for backend in BACKENDS]
    fields[1].load_state_dict(fields[0].state_dict())
    push = torch.randn(
        count, 2 * channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    outcomes = []
    for field in fields:
        points = inside(count, seed).double().requires_grad_()
        times = torch.rand(count, generator=torch.Generator().manual_seed(seed)).double().requires_grad_()
        found = field(points, times)
        found.backward(push)
        outcomes.append((found.detach(), field.cells.grad, points.grad, times.grad))
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)  # float64 sums in another order


def test_the_kernels_gradient_is_that_of_differences():
    field = make(spatial=3, temporal=3, channels=2, scales=(1,)).double()
    points, times = inside(4).double().requires_grad_(), torch.rand(4, dtype=torch.float64).requires_grad_()

    def of(cells, points, times):
        return torch.func.functional_call(field, {"cells": cells}, (points, times))

    assert torch.autograd.gradcheck(of, (field.cells, points, times))


def test_zeros_in_planes_have_gradients():
    """The gradient of one sample is the product of the other five, which a quotient would not give at zero."""
    field = make(scales=(1,)).double()
    with torch.no_grad():
        field.cells.zero_()
        for pair, plane in enumerate(field.planes()[0]):
            plane.fill_(0.0 if pair == 2 else 2.0)
    field(inside(1).double(), 0.3).sum().backward()
    gradients = field.planes(field.cells.grad)[0]
    assert float(gradients[2].sum()) == pytest.approx(field.channels * 2**5)
    assert all(float(gradients[pair].abs().sum()) == 0 for pair in (0, 1, 3, 4, 5))


def test_corners_may_come_in_any_order():
    points, times = inside(10), torch.rand(10)
    straight, turned = make(), make(box=torch.stack([BOX[1], BOX[0]]))
    mixed = make(
        box=torch.stack(
            [torch.stack([BOX[1, 0], BOX[0, 1], BOX[0, 2]]), torch.stack([BOX[0, 0], *BOX[1, 1:]])]
        )
    )
    for other in (turned, mixed):
        torch.testing.assert_close(straight(points, times), other(points, times), rtol=0, atol=0)


def test_half_the_time_axis_is_what_full_reads_in_its_second_half():
    full, half = make(), make(time_range="half")
    points = inside(10)
    torch.testing.assert_close(half(points, 0.4), full(points, 0.7), rtol=1e-6, atol=1e-7)


def test_one_time_for_all_is_that_time_for_each():
    field, points = make(), inside(6)
    torch.testing.assert_close(field(points, 0.3), field(points, torch.full((6,), 0.3)), rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_penalties_by_hand(backend):
    weights = Penalty(0.5, 0.25, 2.0)
    field = make(backend, channels=2)
    expected = 0.0
    for six in field.planes(field.cells.detach().double()):
        for (_, j), plane in zip(PAIRS, six, strict=True):
            bends = [
                (plane[row - 1] - 2 * plane[row] + plane[row + 1]).square()
                for row in range(1, len(plane) - 1)
            ]
            if bends:
                expected += (0.25 if j == TIME else 0.5) * float(torch.stack(bends).mean())
            if j == TIME:
                expected += 2.0 * float((plane - 1).abs().mean())
    assert float(field.penalty(weights).detach()) == pytest.approx(expected, rel=1e-5)


def test_penalty_gradients_agree():
    weights = Penalty(0.5, 0.25, 2.0)
    fields = [make(backend, spatial=(2, 3, 5)).double() for backend in BACKENDS]
    fields[1].load_state_dict(fields[0].state_dict())
    for field in fields:
        (3 * field.penalty(weights)).backward()
    torch.testing.assert_close(fields[0].cells.grad, fields[1].cells.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_kept_in_place_is_the_same_gradient(backend):
    """Two uses of a field and its penalty add up, step after step, whether autograd adds them or the kernels do."""
    weights, points = Penalty(0.5, 0.25, 2.0), inside(30)
    plain, kept = (make(backend, channels=5).double() for _ in range(2))
    for push in (1.0, -3.0):
        for field in (plain, kept):
            if field is plain:
                field.cells.grad = None
            else:
                field.clear_gradient()
            once, twice = field(points.double(), 0.3), field(points[:7].double(), 0.9)
            (push * (once.square().sum() + twice.sum() + field.penalty(weights))).backward()
        torch.testing.assert_close(kept.cells.grad, plain.cells.grad, rtol=1e-12, atol=1e-12)
    held = kept.cells.grad
    kept.clear_gradient()
    assert backend == "torch" or (kept.cells.grad is held and not bool(held.any()))
    other = plain.cells.detach().clone().requires_grad_()  # other cells have a gradient of their own
    torch.func.functional_call(kept, {"cells": other}, (points.double(), 0.3)).sum().backward()
    assert bool(other.grad.any())
    assert backend == "torch" or not bool(kept.cells.grad.any())
    kept.cells.grad = None  # as optimisers clear it: then it is a parameter like any other
    (gradient,) = torch.autograd.grad(kept(points.double(), 0.3).sum(), kept.cells)
    assert bool(gradient.any())
    assert kept.cells.grad is None


def test_two_threads_compute_the_same_bits(monkeypatch):
    monkeypatch.setattr("papertrial.scenes.hexplane_compiled._VALUES_A_THREAD", 1)
    field, points, before = make(channels=16), inside(200), torch.get_num_threads()
    outcomes = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            field.cells.grad, at = None, points.clone().requires_grad_()
            found = field(at, 0.4)
            found.square().sum().backward()
            outcomes.append((found.detach(), field.cells.grad, at.grad))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*outcomes, strict=True):
        assert torch.equal(one, two)


def test_a_straight_field_has_no_penalty():
    """Second differences of planes that rise evenly are zero, and time planes at 1 have no distance from it."""
    field = HexPlane(BOX, spatial=4, temporal=4, channels=2)
    with torch.no_grad():
        for six in field.planes():
            for (_, j), plane in zip(PAIRS, six, strict=True):
                if j != TIME:
                    plane.copy_(torch.arange(len(plane), dtype=torch.float32)[:, None, None].expand_as(plane))
    assert float(field.penalty(Penalty(1.0, 1.0, 1.0)).detach()) == 0


def test_a_state_dict_brings_the_same_features():
    first, second = make(seed=1), make(seed=5)
    second.load_state_dict(first.state_dict())
    points = inside(5)
    torch.testing.assert_close(first(points, 0.5), second(points, 0.5), rtol=0, atol=0)


def test_box_around_contains_its_points():
    points = inside(30)
    low, high = box_around(points, margin=0.25)
    wide = float((points.amax(0) - points.amin(0)).max())
    torch.testing.assert_close(low, points.amin(0) - 0.25 * wide)
    torch.testing.assert_close(high, points.amax(0) + 0.25 * wide)


def test_warming_up_compiles_all_kernels_and_draws_nothing():
    from papertrial.scenes import hexplane_kernels, hexplane_penalty_kernels

    before = torch.get_rng_state()
    warm_up()
    assert torch.equal(torch.get_rng_state(), before)
    penalties = (hexplane_penalty_kernels.regularise, hexplane_penalty_kernels.regularise_backward)
    for kernel in (hexplane_kernels.sample, hexplane_kernels.sample_backward, *penalties):
        assert any("float32" in str(signature) for signature in kernel.signatures)


def test_points_outside_are_named():
    field, points = make(), inside(8)
    points[3, 1] += 5
    points[6, 0] -= 5
    with pytest.raises(BadInputError, match=r"25.0% of 8 points lie outside .* farthest at .*box_around"):
        field(points, 0.5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"box": torch.zeros(2, 3)}, "extent along x, y and z"),
        ({"spatial": (4, 1, 4)}, "at least 2 cells"),
        ({"temporal": 1}, "at least 2 cells"),
        ({"channels": 0}, "a channel and a scale"),
        ({"scales": ()}, "a channel and a scale"),
        ({"time_range": "quarter"}, "unknown time_range 'quarter'"),
        ({"backend": "cuda"}, "unknown backend 'cuda'"),
    ],
)
def test_fields_that_cannot_be(settings, words):
    given = {"box": BOX, **settings}
    with pytest.raises(BadInputError, match=words):
        HexPlane(given.pop("box"), **given)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (torch.zeros(0, 3), "got 0 points"),
        (torch.ones(3, 3), "needs an extent"),
        (torch.full((1, 3), torch.nan), "finite"),
    ],
)
def test_boxes_that_cannot_be(points, words):
    with pytest.raises(BadInputError, match=words):
        box_around(points)
