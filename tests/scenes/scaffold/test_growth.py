"""Growing and pruning: examples worked out by hand, a loop over candidates, and quirks one by one."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, intrinsics_for, look_at
from papertrial.scenes.scaffold import (
    Anchors,
    Decoder,
    Growth,
    GrowthSettings,
    make_optimizer,
    scaffold_rates,
    visible_anchors,
)
from papertrial.scenes.splatting import rasterize

ALL = GrowthSettings(keep="all")


def watched(places, offsets, settings=ALL, *, features=None, voxel=0.5, extras=None):
    """Anchors whose offsets are in metres (their first scalings are 1), and their growth."""
    places = torch.tensor(places)
    count, k = len(places), len(offsets[0])
    anchors = Anchors(places, torch.zeros(count, 6), voxel, per_anchor=k, feature_size=2, extras=extras)
    with torch.no_grad():
        anchors.offsets.copy_(torch.tensor(offsets))
        if features is not None:
            anchors.features.copy_(torch.tensor(features))
    decoder = Decoder(k, 2, hidden=4)
    rates = scaffold_rates(decoder, 1.0) | {name: lambda step: 0.01 for name in extras or {}}
    optimizer = make_optimizer(anchors, decoder, rates)
    return anchors, optimizer, Growth(anchors, optimizer, settings)


def set_gradients(growth, mean, count=50):
    """Give the primitives a mean gradient over so many steps."""
    mean = torch.tensor(mean).reshape(-1)
    growth.gradient_count[:] = torch.as_tensor(count)
    growth.gradient_sum[:] = mean * growth.gradient_count


THREE = [[0.0, 0.0, 0.0], [8.0, 0.0, 0.0], [0.0, 8.0, 0.0]]


def test_three_seeds_grow_as_worked_out_by_hand():
    """Voxel 0.5: cells of 8, 2 and 0.5. Two primitives a seed; thresholds 2e-4, 4e-4, 8e-4.

    Seed 0 sends one to (16.2, 0, 0) with 2.5e-4 and one to (3, 0.1, 0) with 9e-4; seed 1 one to (16.1, 0.4, 0) with
    3e-4; seed 2 one to (0, 8.3, 0) with 5e-4.
    Level 0 (cells of 8): (16.2, 0, 0) and (16.1, 0.4, 0) fall into cell (2, 0, 0), new at (16, 0, 0); (3, 0.1, 0)
    into (0, 0, 0), held by seed 0; (0, 8.3, 0) into (0, 1, 0), held by seed 2.
    Level 1 (cells of 2): (3, 0.1, 0) into (2, 0, 0) since 1.5 rounds to even, new at (4, 0, 0); (0, 8.3, 0) into
    (0, 4, 0), held by seed 2.
    Level 2 (cells of 0.5): (3, 0.1, 0) into (6, 0, 0), new at (3, 0, 0).
    """
    offsets = [
        [[16.2, 0.0, 0.0], [3.0, 0.1, 0.0]],
        [[8.1, 0.4, 0.0], [0.0, 0.0, 5.0]],
        [[0.0, 0.3, 0.0], [5.0, 5.0, 5.0]],
    ]
    features = [[1.0, -5.0], [0.5, 7.0], [9.0, 9.0]]
    anchors, _, growth = watched(THREE, offsets, features=features)
    set_gradients(growth, [[2.5e-4, 9e-4], [3e-4, 1e-4], [5e-4, 0.0]])
    update = growth.update()
    assert update == ((1, 1, 1), 0)
    new = [[16.0, 0.0, 0.0], [4.0, 0.0, 0.0], [3.0, 0.0, 0.0]]
    assert anchors.positions.tolist() == THREE + new
    assert anchors.features[3:].tolist() == [[1.0, 7.0], [1.0, -5.0], [1.0, -5.0]]  # elementwise largest
    assert not bool(anchors.offsets[3:].any())
    # log(cell) for all six; log 8 and log 2 are cut at 0.05 in the last three, log 1 of the old ones is not above it
    first = [math.log(8), math.log(2), math.log(0.5)]
    torch.testing.assert_close(anchors.log_scalings[3:, :3], torch.tensor(first)[:, None].expand(3, 3))
    last = torch.tensor([0.05, 0.05, math.log(0.5)])
    torch.testing.assert_close(anchors.log_scalings[3:, 3:], last[:, None].expand(3, 3))


def test_cells_come_in_sorted_order():
    """Three candidates on level 0 alone: cells (-1, 2, 0), (2, -1, 0), (2, 0, 1), whatever their order."""
    offsets = [[[16.0, 0.0, 8.0]], [[8.0, -8.0, 0.0]], [[-8.0, 8.0, 0.0]]]
    anchors, _, growth = watched(THREE, offsets)
    set_gradients(growth, [3e-4, 3e-4, 3e-4])
    assert growth.update().added == (3, 0, 0)
    assert anchors.positions[3:].tolist() == [[-8.0, 16.0, 0.0], [16.0, -8.0, 0.0], [16.0, 0.0, 8.0]]


def test_random_growth_is_some_of_what_all_would_be():
    """A loop over levels and candidates with a set of held cells, on random anchors; random keeps a subset."""

    def grown(keep):
        draw = torch.Generator().manual_seed(5)
        places = (6 * torch.rand(40, 3, generator=draw)).tolist()
        offsets = (2 * torch.randn(40, 3, 3, generator=draw)).tolist()
        settings = replace(ALL, keep=keep)
        anchors, _, growth = watched(places, offsets, settings, voxel=0.05)
        mean = 1.2e-3 * torch.rand(120, generator=draw)
        set_gradients(growth, mean.tolist())
        centres = anchors.centres().reshape(-1, 3).double()
        return anchors, growth.update(), centres, mean

    anchors, update, centres, mean = grown("all")
    held = [tuple(place.tolist()) for place in anchors.positions[:40].double()]
    expected = []
    for level in range(3):
        size = 0.05 * (16, 4, 1)[level]
        taken = {tuple(round(x / size) for x in place) for place in held}
        cells = {
            tuple(round(x / size) for x in centre.tolist())
            for centre, gradient in zip(centres, mean, strict=True)
            if gradient >= 2e-4 * 2**level
        }
        new = [tuple(x * size for x in cell) for cell in sorted(cells - taken)]
        assert update.added[level] == len(new) > 0
        held += new
        expected += new
    torch.testing.assert_close(anchors.positions[40:], torch.tensor(expected), atol=1e-5, rtol=1e-5)
    some, fewer, _, _ = grown("random")
    assert 0 < sum(fewer.added) < sum(update.added)
    everywhere = {tuple(round(x / 0.05) for x in place) for place in expected}
    first = some.positions[40 : 40 + fewer.added[0]].tolist()
    assert {tuple(round(x / 0.05) for x in place) for place in first} <= everywhere


def test_candidates_are_kept_with_one_minus_a_half_to_the_level():
    """4,000 candidates at 64 n + 5 have free cells of their own on all levels: 64 n, 64 n + 4 and 64 n + 5.

    The shares kept are 0.5, 0.75 and 0.875; five standard deviations are under 0.04.
    """
    count = 4000
    offsets = torch.zeros(count, 1, 3)
    offsets[:, 0, 2] = 64.0 * (1 + torch.arange(count)) + 5
    _, _, growth = watched([[0.0, 0.0, 0.0]] * count, offsets.tolist(), GrowthSettings(), voxel=1.0)
    set_gradients(growth, [1e-3] * count)
    shares = [added / count for added in growth.update().added]
    assert shares == pytest.approx([0.5, 0.75, 0.875], abs=0.04)
    assert shares != [0.5, 0.75, 0.875]


def test_where_the_first_level_adds_nothing_the_finer_ones_are_not_tried():
    """(3, 0, 0) would give an anchor on level 1, but its cell on level 0 is held: the released code then stops."""
    anchors, _, growth = watched([[0.0, 0.0, 0.0], [80.0, 0.0, 0.0]], [[[3.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]])
    set_gradients(growth, [9e-4, 0.0])
    assert growth.update().added == (0, 0, 0)
    assert len(anchors) == 2


def test_statistics_of_those_not_seen_often_enough_go_on():
    """Eligible is above 100 * 0.8 * 0.5 = 40: 40 is not, 41 is; theirs are zeroed, the others' kept, new ones zero."""
    offsets = [[[16.0, 0.0, 0.0]], [[8.0, 8.0, 0.0]], [[8.0, 8.0, 8.0]]]
    anchors, _, growth = watched(THREE, offsets)
    set_gradients(growth, [3e-4, 3e-4, 3e-4], [41.0, 40.0, 3.0])
    assert growth.update().added == (1, 0, 0)
    assert anchors.positions[3:].tolist() == [[16.0, 0.0, 0.0]]
    assert growth.gradient_count.tolist() == [0.0, 40.0, 3.0, 0.0]
    torch.testing.assert_close(growth.gradient_sum, torch.tensor([0.0, 40 * 3e-4, 3 * 3e-4, 0.0]))


def test_those_that_stay_transparent_are_pruned():
    """Mean opacity below 0.005 and seen more than 80 times; 80 is not enough; the counters of the old are zeroed."""
    places = [[float(8 * i), 0.0, 0.0] for i in range(4)]
    anchors, _, growth = watched(places, [[[0.0, 0.0, 0.0]]] * 4)
    growth.seen[:] = torch.tensor([81.0, 81.0, 80.0, 500.0])
    growth.opacity_sum[:] = torch.tensor([0.404, 0.406, 0.0, 2.4])  # 81 * 0.005 = 0.405
    assert growth.update().pruned == 2
    assert anchors.positions[:, 0].tolist() == [8.0, 16.0]
    assert growth.seen.tolist() == [0.0, 80.0]
    assert growth.opacity_sum.tolist() == [0.0, 0.0]
    assert len(growth.gradient_sum) == 2


def test_where_everything_is_transparent_nothing_is_left(camera):
    anchors, _, growth = watched(THREE, [[[0.0, 0.0, 0.0]]] * 3)
    growth.seen[:] = 100
    assert growth.update().pruned == 3
    assert len(visible_anchors(anchors.state(), camera)) == 0


def test_a_threshold_of_zero_prunes_nothing():
    anchors, _, growth = watched(THREE, [[[0.0, 0.0, 0.0]]] * 3, replace(ALL, min_opacity=0.0))
    growth.seen[:] = 1000
    assert growth.update().pruned == 0
    assert len(anchors) == 3


def test_pruning_by_weight():
    """Only those seen often enough, whatever their opacity."""
    settings = replace(ALL, prune="weight")
    anchors, _, growth = watched(THREE, [[[0.0, 0.0, 0.0]]] * 3, settings)
    growth.seen[:] = torch.tensor([100.0, 100.0, 5.0])
    growth.opacity_sum[:] = 0
    assert growth.update(torch.tensor([0.009, 0.011, 0.0])).pruned == 1
    assert anchors.positions.tolist() == THREE[1:]
    with pytest.raises(BadInputError, match="largest blending weight of 2 anchors, got none"):
        growth.update()


def test_extents_are_cut_at_every_update_and_offsets_scalings_are_not():
    anchors, _, growth = watched(THREE, [[[0.0, 0.0, 0.0]]] * 3)
    with torch.no_grad():
        anchors.log_scalings.fill_(0.3)
        anchors.log_scalings[0, 4] = -2.0
    growth.update()
    expected = torch.tensor([[0.3] * 3 + [0.05] * 3] * 3)
    expected[0, 4] = -2.0
    torch.testing.assert_close(anchors.log_scalings.detach(), expected)


def test_adams_rows_go_along_and_extras_of_new_anchors_are_zero():
    anchors, optimizer, growth = watched(THREE, [[[16.0, 0.0, 0.0]]] * 3, extras={"gates": 2})
    (anchors.offsets.sum() + anchors.gates.square().sum() + anchors.gates.sum()).backward()
    optimizer.step()
    moments = optimizer.state[anchors.offsets]["exp_avg"].clone()
    set_gradients(growth, [3e-4, 0.0, 0.0])
    growth.seen[:] = torch.tensor([0.0, 100.0, 0.0])
    with torch.no_grad():
        anchors.offsets[0] = torch.tensor([[16.0, 0.0, 0.0]])
    assert growth.update() == ((1, 0, 0), 1)
    assert torch.equal(optimizer.state[anchors.offsets]["exp_avg"][:2], moments[[0, 2]])
    assert not bool(optimizer.state[anchors.offsets]["exp_avg"][2:].any())
    assert anchors.gates.shape == (3, 2)
    assert anchors.gates.any(dim=1).tolist() == [True, True, False]


def test_steps_of_the_paper_and_in_proportion():
    """The paper's own 30,000 iterations change nothing; the interval stays at 10 or more."""
    assert GrowthSettings().scaled(30_000) == GrowthSettings()
    tenth = GrowthSettings().scaled(3_000)
    assert (tenth.first_statistics, tenth.start, tenth.stop, tenth.interval) == (50, 150, 1500, 10)
    short = GrowthSettings().scaled(300)
    assert (short.first_statistics, short.start, short.stop, short.interval) == (5, 15, 150, 10)


def test_one_step_is_counted_as_written_down(make_scaffold, camera):
    """Statistics of a real rendering against sums over anchors and primitives."""
    anchors, decoder = make_scaffold(count=12, per_anchor=3)
    optimizer = make_optimizer(anchors, decoder, scaffold_rates(decoder, 1.0))
    growth = Growth(anchors, optimizer, replace(ALL, first_statistics=0))
    visible = visible_anchors(anchors.state(), camera)
    decoded = decoder.decode(anchors.state(), camera, anchors=visible)
    out = rasterize(
        decoded.primitives(), camera.viewmat, camera.intrinsics, 32, 24, features=decoded.colours, track=True
    )
    out.features.square().mean().backward()
    assert growth.advance(1, decoded, visible, out) is None
    gradients = out.probe.grad * torch.tensor([16.0, 12.0])  # half of the image's size
    sums, counts = torch.zeros(36), torch.zeros(36)
    for place in out.visible.tolist():
        sums[decoded.slots[place]] += gradients[place].norm()
        counts[decoded.slots[place]] += 1
    torch.testing.assert_close(growth.gradient_sum, sums)
    assert torch.equal(growth.gradient_count, counts)
    assert 0 < int(counts.sum()) < 36
    opacity = torch.zeros(12)
    for row, anchor in enumerate(visible.tolist()):
        opacity[anchor] = sum(max(one, 0.0) for one in decoded.neural_opacities[row].tolist())
    torch.testing.assert_close(growth.opacity_sum, opacity)
    assert growth.seen.sum() == len(visible)


def train(anchors, decoder, optimizer, growth, camera, truth, steps):
    for step in steps:
        optimizer.zero_grad()
        state = anchors.state()
        visible = visible_anchors(state, camera)
        decoded = decoder.decode(state, camera, anchors=visible)
        out = rasterize(
            decoded.primitives(),
            camera.viewmat,
            camera.intrinsics,
            32,
            24,
            features=decoded.colours,
            track=True,
        )
        (out.features - truth).abs().mean().backward()
        growth.advance(step, decoded, visible, out)
        optimizer.step()


def test_the_first_update_comes_after_the_start(make_scaffold, camera):
    """As released: steps above `start` that the interval divides; statistics from above `first_statistics` on, and
    none from `stop` on."""
    anchors, decoder = make_scaffold(count=6, per_anchor=3)
    optimizer = make_optimizer(anchors, decoder, scaffold_rates(decoder, 1.0))
    growth = Growth(anchors, optimizer, replace(ALL, first_statistics=2, start=10, stop=20, interval=5))
    visible = visible_anchors(anchors.state(), camera)
    decoded = decoder.decode(anchors.state(), camera, anchors=visible)
    out = rasterize(
        decoded.primitives(), camera.viewmat, camera.intrinsics, 32, 24, features=decoded.colours, track=True
    )
    out.features.sum().backward()
    updated, observed = [], []
    growth.update = lambda weights: updated.append(step)
    growth.observe = lambda *given: observed.append(step)
    for step in range(1, 25):
        growth.advance(step, decoded, visible, out)
    assert updated == [15]
    assert observed == list(range(3, 20))


def small_run(seed=0):
    camera = Camera(look_at((0.0, -2.0, 0.3), (0.0, 0.0, 0.0)), intrinsics_for(32, 24, 60.0), 32, 24)
    camera = camera.to(torch.float32)
    draw = torch.Generator().manual_seed(seed)
    anchors = Anchors.from_points(
        0.4 * torch.randn(20, 3, generator=draw), 0.02, per_anchor=3, feature_size=4
    )
    torch.manual_seed(seed)
    decoder = Decoder(3, 4, hidden=8)
    optimizer = make_optimizer(anchors, decoder, scaffold_rates(decoder, 1.0))
    settings = GrowthSettings(first_statistics=0, start=4, stop=40, interval=5, min_opacity=0.05)
    return camera, anchors, decoder, optimizer, Growth(anchors, optimizer, settings, seed)


def test_a_run_that_grows_goes_on_from_its_state_to_the_bit():
    """Saved after step 12 and restored into anchors of another number; growth happens before and after."""
    camera, anchors, decoder, optimizer, growth = small_run()
    truth = torch.rand(24, 32, 3, generator=torch.Generator().manual_seed(9))
    train(anchors, decoder, optimizer, growth, camera, truth, range(1, 13))
    assert len(anchors) != 20
    saved = deepcopy((anchors.state_dict(), decoder.state_dict(), optimizer.state_dict(), growth.state()))
    at_saving = len(anchors)
    train(anchors, decoder, optimizer, growth, camera, truth, range(13, 24))
    assert len(anchors) != at_saving

    _, again, other, second, regrowth = small_run()
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    second.load_state_dict(saved[2])
    regrowth.restore(saved[3])
    train(again, other, second, regrowth, camera, truth, range(13, 24))
    for one, two in zip(anchors.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_settings_that_cannot_be():
    for wrong in ({"prune": "size"}, {"keep": "most"}):
        with pytest.raises(BadInputError, match="unknown"):
            GrowthSettings(**wrong)
    with pytest.raises(BadInputError, match="an interval of 1 or more"):
        GrowthSettings(interval=0)
    with pytest.raises(BadInputError, match="end below one voxel"):
        GrowthSettings(levels=4)
    with pytest.raises(BadInputError, match="thresholds must be 0 or more"):
        GrowthSettings(success=1.5)
    _, _, growth = watched(THREE, [[[0.0, 0.0, 0.0]]] * 3)
    with pytest.raises(BadInputError, match="statistics are of 2 anchors, there are 3"):
        growth.restore({"seen": torch.zeros(2)})
