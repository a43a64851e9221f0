"""Seeds from sparse points: loops, distances by hand, and clouds that cannot be used."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.scenes.scaffold import (
    Anchors,
    filter_tracks,
    median_distance,
    nearest_distances,
    remove_outliers,
    voxelise,
)


def cloud(count, seed=0):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(
    cells=st.lists(st.tuples(*[st.integers(-4, 4)] * 3), min_size=1, max_size=20),
    voxel=st.sampled_from([0.05, 0.25, 1.0]),
    seed=st.integers(0, 100),
)
def test_voxels_are_the_occupied_cells_in_order(cells, voxel, seed):
    """Points anywhere within 0.4 of a cell's middle must give that cell, once, sorted as tuples are."""
    away = (torch.rand(len(cells), 3, generator=torch.Generator().manual_seed(seed)) - 0.5) * 0.8
    points = (torch.tensor(cells).float() + away) * voxel
    expected = np.array(sorted(set(cells))) * voxel
    np.testing.assert_allclose(voxelise(points, voxel).numpy(), expected, atol=1e-5)


def test_distances_are_those_of_all_pairs():
    points = cloud(60).double()
    pairs = torch.cdist(points, points).fill_diagonal_(math.inf)
    three = pairs.sort(dim=1).values[:, :3]
    # cdist goes by inner products: rounding of 1e-15 becomes 1e-8 under a root
    torch.testing.assert_close(nearest_distances(points), three.square().mean(1).sqrt(), atol=1e-7, rtol=1e-7)


def test_few_points_use_the_neighbours_they_have():
    points = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    assert nearest_distances(points).tolist() == [3.0, 3.0]


def test_the_median_scales_with_the_unit_and_the_released_one_with_its_square():
    """A length in centimetres is a hundred times that in metres; the released code gives ten thousand times."""
    points = cloud(50)
    assert median_distance(100 * points) == pytest.approx(100 * median_distance(points), rel=1e-5)
    released = median_distance(points, "released")
    assert released == pytest.approx(median_distance(points) ** 2, rel=1e-5)
    assert median_distance(100 * points, "released") == pytest.approx(1e4 * released, rel=1e-5)


def test_a_voxel_of_zero_is_the_median_distance():
    points = cloud(40)
    assert Anchors.from_points(points, 0.0).voxel == pytest.approx(median_distance(points))


def test_anchors_start_as_far_across_as_their_neighbours_are_away():
    points = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    anchors = Anchors.from_points(points, 0.1)
    origin = int((anchors.positions.norm(dim=1) == 0).nonzero()[0, 0])
    assert anchors.log_scalings.shape == (4, 6)
    torch.testing.assert_close(anchors.log_scalings[origin], torch.zeros(6), atol=1e-6, rtol=0)  # log 1
    torch.testing.assert_close(
        anchors.log_scalings.max().exp(), torch.tensor(math.sqrt(5 / 3))
    )  # 1, 2, 2 squared
    assert not bool(anchors.features.any())
    assert not bool(anchors.offsets.any())


def test_short_tracks_go():
    assert filter_tracks(torch.tensor([2, 3, 7])).tolist() == [False, True, True]
    assert filter_tracks(torch.tensor([2, 3, 7]), 7).tolist() == [False, False, True]


def test_a_stray_goes_and_the_grid_stays():
    """On a regular grid all distances are nearly equal; a point ten edges away is far outside two deviations."""
    axis = torch.arange(5).float()
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    kept = remove_outliers(torch.cat([grid, torch.tensor([[14.0, 2.0, 2.0]])]))
    assert kept.tolist() == [True] * 125 + [False]


def test_outliers_follow_the_definition():
    points = cloud(80)
    pairs = torch.cdist(points.double(), points.double()).fill_diagonal_(math.inf)
    mean = pairs.sort(dim=1).values[:, :6].mean(1)
    expected = mean <= mean.mean() + 1.5 * mean.std(correction=0)
    assert torch.equal(remove_outliers(points, 6, 1.5), expected)
    assert not bool(expected.all())


def test_clouds_that_cannot_be_used():
    with pytest.raises(BadInputError, match="at least 1 are needed, got 0"):
        voxelise(torch.zeros(0, 3), 0.1)
    with pytest.raises(BadInputError, match="sparse points of structure from motion: at least 2"):
        Anchors.from_points(torch.zeros(0, 3), 0.0)
    with pytest.raises(BadInputError, match="point 1 is not finite"):
        voxelise(torch.tensor([[0.0, 0, 0], [math.nan, 0, 0]]), 0.1)
    with pytest.raises(
        BadInputError, match=r"leaves one anchor of 30 points that span .*much smaller than the scene"
    ):
        Anchors.from_points(cloud(30), 100.0)
    with pytest.raises(BadInputError, match="a voxel's edge must be above 0"):
        voxelise(cloud(3), 0.0)
    with pytest.raises(
        BadInputError, match=r"none of 2 points was found in 9 photographs or more; the longest .* 4"
    ):
        filter_tracks(torch.tensor([2, 4]), 9)
    with pytest.raises(BadInputError, match="at least 1 photograph"):
        filter_tracks(torch.tensor([2, 4]), 0)
    with pytest.raises(BadInputError, match="most points lie in one place"):
        median_distance(torch.zeros(9, 3))
    with pytest.raises(BadInputError, match="unknown behaviour 'square'"):
        median_distance(cloud(9), "square")
    with pytest.raises(BadInputError, match="neighbours and sigmas"):
        remove_outliers(cloud(9), 0)
