import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.scenes.modec_gs import AdjustmentSettings, Intervals, largest_deviation


def observed(gradients, **settings):
    """Intervals in which each segment had one frame with such a gradient."""
    intervals = Intervals(len(gradients), AdjustmentSettings(**settings))
    for segment, gradient in enumerate(gradients):
        intervals.observe((segment + 0.5) / len(gradients), gradient)
    return intervals


def test_the_hand_case():
    """g = (1, 1, 1, 1, 1, 1, 1, 9): mean 2, deviation 2.83, limit 6.24; the last segment has one movable end."""
    intervals = observed([1.0] * 7 + [9.0])
    gradients = intervals.mean_gradients()
    assert float(gradients.mean()) == 2
    assert float(gradients.std()) == pytest.approx(math.sqrt(8))
    assert intervals.adjust() == [7]
    expected = [n / 8 for n in range(9)]
    expected[7] += 0.01 / 8
    assert intervals.borders.tolist() == pytest.approx(expected)


def test_a_hot_segment_inside_moves_both_ends():
    intervals = observed([1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    intervals.adjust()
    assert intervals.borders[2:4].tolist() == pytest.approx([2 / 8 + 0.01 / 8, 3 / 8 - 0.01 / 8])
    assert float(intervals.lengths[1]) == pytest.approx(1 / 8 + 0.01 / 8)  # the neighbours take the time


def test_two_hot_neighbours_keep_their_common_border():
    """Each moves it away from itself: a burst that spans two segments shortens them on their outer sides only."""
    intervals = observed([1.0, 1.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0])
    assert intervals.adjust() == [2, 3]
    moved = intervals.borders - torch.arange(9) / 8
    expected = torch.zeros(9, dtype=torch.float64)
    expected[2], expected[4] = 0.01 / 8, -0.01 / 8
    torch.testing.assert_close(moved, expected)


def test_four_segments_never_adjust():
    """With N - 1 below it, no deviation exceeds (N - 1) / sqrt(N), which is 1.5 for four: strictly, nothing is hot."""
    for segments in (1, 2, 3, 4):
        for place in range(segments):
            gradients = [1.0] * segments
            gradients[place] = 1e9
            intervals = observed(gradients)
            before = intervals.borders.clone()
            assert intervals.adjust() == []
            assert torch.equal(intervals.borders, before)
    assert largest_deviation(4) == 1.5
    assert observed([1.0, 1.0, 1.0, 1.0, 9.0]).adjust() == [4]  # and five can


@pytest.mark.parametrize(("busy", "fires"), [(1, True), (2, True), (3, False), (4, False)])
def test_of_eight_segments_two_busy_ones_fire_and_three_do_not(busy, fires):
    hot = observed([9.0] * busy + [1.0] * (8 - busy)).hot()
    assert hot == (list(range(busy)) if fires else [])
    assert (largest_deviation(8, busy) > 1.5) == fires


@settings(deadline=None)
@given(segments=st.integers(2, 12), busy=st.integers(1, 11), high=st.floats(2, 1e3))
def test_the_largest_deviation_is_that_of_the_statistic(segments, busy, high):
    busy = min(busy, segments - 1)
    values = torch.tensor([high] * busy + [1.0] * (segments - busy), dtype=torch.float64)
    reached = float((values[0] - values.mean()) / values.std())
    assert largest_deviation(segments, busy) == pytest.approx(reached, rel=1e-9)


def test_equal_gradients_leave_lengths_as_they_are():
    intervals = observed([3.0] * 8)
    assert intervals.adjust() == []
    assert intervals.lengths.tolist() == pytest.approx([1 / 8] * 8)


def test_statistics_are_means_of_sums_and_are_zeroed():
    intervals = Intervals(6)
    for time, gradient in ((0.0, 4.0), (0.1, 2.0), (0.99, 5.0), (1.0, 7.0), (0.5, math.nan)):
        intervals.observe(time, gradient)
    assert intervals.mean_gradients().tolist() == [3.0, 0.0, 0.0, 0.0, 0.0, 6.0]
    intervals.adjust()
    assert intervals.mean_gradients().tolist() == [0.0] * 6


def test_a_segment_is_the_last_that_starts_at_a_time_or_before():
    intervals = Intervals(8)
    assert [intervals.segment(time) for time in (0.0, 0.124, 0.125, 0.13, 0.999, 1.0)] == [0, 0, 1, 1, 7, 7]
    intervals.borders[1] = 0.2
    assert intervals.segment(0.19) == 0
    assert intervals.starts[1] == pytest.approx(0.2)


@settings(deadline=None, max_examples=60)
@given(
    segments=st.integers(1, 10),
    step=st.floats(0.01, 0.9),
    rounds=st.lists(st.lists(st.floats(0, 1e6), min_size=10, max_size=10), max_size=12),
)
def test_order_and_sum_are_kept(segments, step, rounds):
    intervals = Intervals(segments, AdjustmentSettings(step=step, sigmas=0.1))
    for gradients in rounds:
        for segment in range(segments):
            middle = float(intervals.borders[segment : segment + 2].mean())
            intervals.observe(middle, gradients[segment])
        intervals.adjust()
        assert bool((intervals.lengths > 0).all())
        assert float(intervals.lengths.sum()) == pytest.approx(1)
        assert (float(intervals.borders[0]), float(intervals.borders[-1])) == (0, 1)


def test_an_end_stays_inside_its_segment():
    intervals = observed([1.0] * 7 + [9.0], step=0.9)
    intervals.adjust()
    assert float(intervals.borders[7]) == pytest.approx(7 / 8 + 0.9 / 8)
    intervals.observe(1.0, 9.0)
    for segment in range(7):
        intervals.observe(float(intervals.borders[segment]), 1.0)
    moved = intervals.borders.clone()
    assert intervals.adjust() == [7]  # hot, but another step would take its start past its end
    assert torch.equal(intervals.borders, moved)


def test_adjustments_come_when_they_are_due():
    """The paper's numbers: every 1,000 steps from 5,000 on; sixteen adjustments move a border by 15 % or so."""
    settings = AdjustmentSettings()
    due = [number for number in range(20_001) if settings.due(number)]
    assert due == list(range(5_000, 20_001, 1_000))
    intervals = Intervals(8)
    for number in due:
        for segment in range(8):
            intervals.observe(float(intervals.borders[segment]), 9.0 if segment == 7 else 1.0)
        intervals.advance(number)
    assert float(intervals.lengths[7]) * 8 == pytest.approx(1 - len(due) * 0.01)


def test_a_state_is_where_it_goes_on_from():
    intervals = observed([1.0] * 7 + [9.0])
    intervals.adjust()
    intervals.observe(0.3, 5.0)
    other = Intervals(8)
    other.restore(intervals.state())
    assert torch.equal(other.borders, intervals.borders)
    assert torch.equal(other.mean_gradients(), intervals.mean_gradients())
    with pytest.raises(BadInputError, match="the state has 8 segments, here are 6"):
        Intervals(6).restore(intervals.state())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Intervals(0), "1 segment or more, got 0"),
        (lambda: Intervals(8).segment(1.2), "within 0 and 1, got 1.2"),
        (lambda: Intervals(8).segment(math.nan), "within 0 and 1, got nan"),
        (lambda: AdjustmentSettings(step=1.0), "0 < step < 1"),
        (lambda: AdjustmentSettings(interval=0), "interval >= 1"),
        (lambda: largest_deviation(4, 4), "between 1 and 3 of 4"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(BadInputError, match=words):
        call()
