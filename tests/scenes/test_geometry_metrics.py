"""Distances of clouds against all pairs, and sizes against the file."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from scipy.spatial.distance import cdist

from papertrial.errors import BadInputError
from papertrial.scenes.geometry_metrics import compare_clouds, file_bytes, model_bytes


def clouds(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(500, 3, generator=draw), torch.rand(430, 3, generator=draw)


def test_scores_are_those_of_all_pairs():
    ours, theirs = clouds()
    apart = cdist(ours.double(), theirs.double())
    found = compare_clouds(ours, theirs)
    assert found.accuracy == pytest.approx(apart.min(1).mean())
    assert found.completeness == pytest.approx(apart.min(0).mean())
    precision, recall = (apart.min(1) < 0.05).mean(), (apart.min(0) < 0.05).mean()
    assert 0 < recall < precision or 0 < precision < recall  # the case tells them apart
    assert found.precision == pytest.approx(precision)
    assert found.recall == pytest.approx(recall)
    assert found.f_score == pytest.approx(2 * precision * recall / (precision + recall))


def test_swapping_the_clouds_swaps_the_scores():
    ours, theirs = clouds(1)
    one, other = compare_clouds(ours, theirs), compare_clouds(theirs, ours)
    assert (one.accuracy, one.precision) == (other.completeness, other.recall)
    assert one.f_score == pytest.approx(other.f_score)


def test_a_cloud_meets_itself_and_misses_one_far_away():
    ours, _ = clouds()
    assert compare_clouds(ours, ours) == (0.0, 0.0, 1.0, 1.0, 1.0)
    assert compare_clouds(ours, ours + 10).f_score == 0.0
    # the threshold itself does not count: nearer than 5 cm is asked for
    point = torch.zeros(1, 3)
    assert compare_clouds(point, point + torch.tensor([0.5, 0.0, 0.0]), threshold=0.5).precision == 0.0


def test_the_size_is_that_of_the_file(tmp_path):
    tensors = {"means": torch.rand(7, 3), "codes": torch.arange(5, dtype=torch.uint8)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert model_bytes(tensors) == file_bytes(tmp_path / "model.safetensors")
    assert model_bytes(tensors) >= 7 * 3 * 4 + 5
    with pytest.raises(BadInputError, match="there is no model file"):
        file_bytes(tmp_path / "other")


def test_bad_clouds_are_refused():
    ours, theirs = clouds()
    with pytest.raises(BadInputError, match="no predicted points"):
        compare_clouds(ours[:0], theirs)
    theirs[3, 1] = math.inf
    with pytest.raises(BadInputError, match="true point 3 is not finite"):
        compare_clouds(ours, theirs)
    with pytest.raises(BadInputError, match="a distance above 0, got 0"):
        compare_clouds(ours, ours, threshold=0.0)
