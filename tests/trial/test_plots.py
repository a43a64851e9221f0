"""The pictures: what is drawn lies where the numbers say, and every label is text."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from papertrial.trial.plots import PALETTE, curves_picture, interval_figure
from papertrial.trial.svg import WIDTH, Scale, label, path

finite = st.floats(-1e9, 1e9)


@given(finite, finite, st.floats(0, 1))
@example(0.0, 5e-324, 0.0)
def test_a_scale_is_linear_between_its_ends(low, high, share):
    low, high = min(low, high), max(low, high)
    scale = Scale(low, high, 10, 110)
    if high - low > 1e-6 * max(1, abs(low), abs(high)):  # closer ends cannot be told apart in floats
        assert scale(low + share * (high - low)) == pytest.approx(10 + 100 * share, abs=1e-3)
    ticks = scale.ticks()
    assert 0 < len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    slack = 1e-6 * (scale.high - scale.low) + 1e-11 * max(abs(scale.low), abs(scale.high))
    assert all(scale.low - slack <= tick <= scale.high + slack for tick in ticks)


@given(st.floats(1e-6, 1e6), st.floats(1.5, 1e6))
def test_a_logarithmic_scale_puts_equal_ratios_at_equal_distances(low, ratio):
    scale = Scale(low, low * ratio, 0, 100, log=True)
    assert scale(low * math.sqrt(ratio)) == pytest.approx(50, abs=1e-6)
    assert all(tick > 0 for tick in scale.ticks())


@given(st.floats(-5, 5), st.floats(0.001, 3), st.floats(-5, 5), st.sampled_from(["<", "<=", ">", ">="]))
def test_right_of_the_middle_the_claim_holds(estimate, half, threshold, operator):
    text = interval_figure(estimate, estimate - half, estimate + half, threshold, operator, "says")
    dot = float(re.search(r'cx="([\d.]+)"', text)[1])
    left, right = map(float, re.search(r'd="M(\d+) 11H(\d+)"', text).groups())
    holds = estimate > threshold if operator.startswith(">") else estimate < threshold
    if abs(dot - 100) > 1:  # the places are rounded to whole units
        assert (dot > 100) == holds
    assert left <= dot <= right


def test_an_endless_interval_ends_at_the_edge():
    text = interval_figure(1.0, -math.inf, math.inf, 0.0, ">", "says")
    assert 'd="M8 11H192"' in text


def test_curves_pass_through_their_points():
    """Without smoothing (below 80 points) the drawn line is the mean over seeds at every step."""
    steps = [0.0, 1.0, 2.0, 3.0]
    curves = {
        "first": [(steps, [0.0, 1.0, 2.0, 3.0]), (steps, [0.0, 3.0, 4.0, 5.0])],
        "none": [],
        "third": [],
    }
    root = ElementTree.fromstring(curves_picture("loss", curves))
    line = next(one for one in root.iter("path") if one.get("stroke") == PALETTE[0])
    xs, ys = zip(
        *[map(float, pair) for pair in re.findall(r"[ML]([\d.]+) ([\d.]+)", line.get("d"))], strict=True
    )
    assert [xs[at + 1] - xs[at] for at in range(3)] == pytest.approx([xs[1] - xs[0]] * 3, abs=0.2)
    heights = [ys[0] - y for y in ys]  # means 0, 2, 3, 4
    assert [height / heights[3] for height in heights] == pytest.approx([0, 0.5, 0.75, 1.0], abs=0.01)
    assert "first ends at 4" in root.get("aria-label")
    assert max(xs) < WIDTH


def test_a_seed_that_still_runs_counts_as_far_as_it_is():
    whole, part = ([0.0, 1.0, 2.0], [1.0, 1.0, 1.0]), ([0.0, 1.0], [3.0, 3.0])
    label = ElementTree.fromstring(curves_picture("loss", {"arm": [whole, part]})).get("aria-label")
    assert "arm ends at 1" in label, "the value that a seed had in the middle is not drawn on to the end"


def test_nothing_to_draw_is_no_picture():
    assert curves_picture("loss", {"arm": []}) == ""


def test_labels_are_escaped_and_pictures_carry_no_styles():
    text = curves_picture("<loss>", {"<b>&": [([0.0, 1.0], [0.0, 1.0])]})
    ElementTree.fromstring(text)
    assert "<b>" not in text
    assert "style" not in text
    assert label("<script>", 0, 0).startswith('<text x="0" y="0">&lt;')


def test_a_path_breaks_where_a_value_is_missing():
    assert path([(0, 0), (1, 1), (2, math.nan), (3, 3), (4, 4)]) == "M0 0L1 1M3 3L4 4"


def test_a_diverged_arm_does_not_flatten_the_others():
    calm = ([float(at) for at in range(40)], [1.0 + at / 40 for at in range(40)])
    wild = ([float(at) for at in range(40)], [1.0] * 39 + [1e6])
    root = ElementTree.fromstring(curves_picture("loss", {"calm": [calm], "wild": [wild]}))
    line = next(one for one in root.iter("path") if one.get("stroke") == PALETTE[0])
    ys = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", line.get("d"))]
    assert max(ys) - min(ys) > 100
