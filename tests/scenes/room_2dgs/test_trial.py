"""The trial: every arm measures everything, twice the same; captures; settings that cannot work; the card."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest

from papertrial.errors import BadInputError
from papertrial.scenes.room_2dgs.arms import ARMS
from papertrial.scenes.room_2dgs.trial import RoomTrial, trials
from papertrial.trial.contract import Watch


class Kept:
    def __init__(self, folder):
        self.prepared = folder
        self.losses, self.pictures = [], {}

    def step(self, done, total, **values):
        assert done == len(self.losses) + 1 <= total
        self.losses.append(values["loss"])

    def keep(self, name, artifact):
        self.pictures[name] = artifact


QUICK = RoomTrial.quick()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    QUICK.prepare(0, folder)
    return folder


@pytest.mark.parametrize("arm", RoomTrial.arms)
def test_every_arm_measures_every_metric(arm, prepared):
    watch = Kept(prepared)
    assert isinstance(watch, Watch)
    found = QUICK.measure(arm, 0, watch)
    assert set(found) == set(RoomTrial.metrics)
    assert all(math.isfinite(value) for value in found.values())
    assert len(watch.losses) == QUICK.iterations
    assert 0 <= found["f_score"] <= 1
    assert 5 < found["psnr"] < 60
    assert found["surfels"] > 10
    picture = watch.pictures["test-view"]
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[1] >= 4 * 16 * 8  # photograph, rendering, depth, normals


def test_a_measurement_repeats_itself_and_another_seed_does_not(prepared):
    def measure(seed):
        found = QUICK.measure("room_2dgs", seed, Kept(prepared))
        return {name: value for name, value in found.items() if name != "seconds"}

    first = measure(0)
    assert measure(0) == first
    assert measure(1) != first


def test_seeds_grow_in_the_trial_within_their_budget(tmp_path):
    """At the trial's own voxel, in its own number of sparse points: most updates of a room that nobody measures add
    seeds, until there are as many as the budget says. With cells of 2.4 m on the first level, all taken from the start,
    hardly any did."""
    from papertrial.scenes.procedural_room import RoomSettings, make_room
    from papertrial.scenes.room_2dgs.arms import make_fit
    from papertrial.scenes.room_2dgs.inputs import of_room

    trial = RoomTrial()
    given = of_room(
        make_room(RoomSettings(seed=7, pixels=20, train=24, test=0, sparse=trial.points, truth=10))
    )
    counts = []
    for most in (0, trial.seed_points):
        settings = dataclasses.replace(trial, seed_points=most)._settings(0)
        growth = dataclasses.replace(settings.seeds.growth, first_statistics=0, start=0, interval=6, stop=99)
        chosen = dataclasses.replace(settings, seeds=dataclasses.replace(settings.seeds, growth=growth))
        fitted = make_fit(
            "no-mv",
            given.train,
            given.priors,
            given.points,
            given.colours,
            chosen,
            track_lengths=given.track_lengths,
        )
        counts.append([fitted.step(number)["seeds"] for number in range(25)])
    free, bounded = counts
    assert free[0] == bounded[0] < trial.seed_points
    assert free[6] < free[12] < free[24]
    assert max(bounded) < max(free)


def test_a_capture_is_tried_like_the_made_room(write_capture, tmp_path):
    folder = write_capture(tmp_path / "capture")
    truth = str(folder / "truth.ply")
    trial = dataclasses.replace(QUICK, colmap=str(folder), truth=truth, hold_out=8)
    trial.check()
    assert "capture capture" in trial.scale()
    trial.prepare(0, tmp_path)
    assert not (tmp_path / "inputs.safetensors").exists()
    for arm in ("2dgs", "room_2dgs"):
        found = trial.measure(arm, 0, Kept(tmp_path))
        assert all(math.isfinite(value) for value in found.values())
    shrunk = dataclasses.replace(trial, truth=None, longest=12)
    watch = Kept(tmp_path)
    found = shrunk.measure("room_2dgs", 0, watch)
    assert math.isnan(found["f_score"])
    assert math.isfinite(found["psnr"])
    assert watch.pictures["test-view"].shape[1] >= 4 * 12


def test_captures_that_cannot_be_tried(tmp_path):
    with pytest.raises(BadInputError, match="colmap is not there"):
        dataclasses.replace(QUICK, colmap=str(tmp_path / "nowhere")).check()
    with pytest.raises(BadInputError, match="truth goes with colmap"):
        dataclasses.replace(QUICK, truth="points.ply").check()
    without = RoomTrial(colmap=str(tmp_path))
    with pytest.raises(BadInputError, match="tuned on the F-score, which needs truth"):
        without.check()
    dataclasses.replace(without, rate=1.0).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"views": 1}, "views must be at least 2"),
        ({"rate": 0.0}, "rate must be above 0"),
        ({"seed_points": -1}, "seed_points must be at least 0, got -1"),
        ({"dist": -1.0}, "dist must be 0 or more"),
        ({"backend": "gsplat"}, "unknown backend 'gsplat'"),
        ({"fusion_voxel": 0.0}, "fusion_voxel must be above 0"),
    ],
)
def test_settings_that_cannot_work(change, message):
    with pytest.raises(BadInputError, match=message):
        dataclasses.replace(RoomTrial(), **change).check()


def test_the_arms_are_those_that_are_built_and_help_needs_no_torch():
    assert RoomTrial.arms == ARMS
    assert set(trials) == {"reconstruction"}
    code = "import sys, papertrial.scenes.room_2dgs.trial as t; t.RoomTrial().check(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
