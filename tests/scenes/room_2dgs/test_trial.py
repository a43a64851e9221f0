"""The trial: every arm measures everything, twice the same; captures; settings that cannot work; the card."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from papertrial.cli.options import parse_known
from papertrial.errors import BadInputError
from papertrial.scenes import room_2dgs as room
from papertrial.scenes.learning_rates import set_rates
from papertrial.scenes.plain_splats import PlainFit, PlainSettings
from papertrial.scenes.room_2dgs import ArmSettings, SeedFit, SeedScene, SeedSettings, make_fit
from papertrial.scenes.room_2dgs.arms import ARMS
from papertrial.scenes.room_2dgs.settings import MultiViewSettings, PriorSettings
from papertrial.scenes.room_2dgs.trial import RoomTrial, trials
from papertrial.scenes.splatting import Rules
from papertrial.scenes.splatting.gsplat_backend import refusal
from papertrial.trial.card import load_card
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
        ({"backend": "optix"}, "unknown backend 'optix'"),
        ({"backend": "gsplat"}, "gsplat can only rasterise on CUDA, the device is cpu; give --device cuda"),
        ({"device": "tpu9"}, "device must be cpu, cuda, cuda:N or mps, got 'tpu9'"),
        ({"fusion_voxel": 0.0}, "fusion_voxel must be above 0"),
    ],
)
def test_settings_that_cannot_work(change, message):
    with pytest.raises(BadInputError, match=message):
        dataclasses.replace(RoomTrial(), **change).check()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_gsplat_says_so():
    with pytest.raises(BadInputError, match="torch finds no CUDA device here"):
        dataclasses.replace(RoomTrial(), backend="gsplat", device="cuda").check()


def test_gsplat_gets_rules_that_it_knows():
    settings = dataclasses.replace(RoomTrial(), backend="gsplat", device="cuda", dist=100.0)._settings(0)
    for arm in (settings.seeds, settings.plain):
        assert refusal(arm.rasterizing, torch.float32) is None
        assert (arm.rasterizing.near, arm.rasterizing.distortion) == (0.2, "ndc")


@pytest.mark.parametrize(
    ("iterations", "large", "reset"),
    [
        (500, math.inf, None),
        (4_999, math.inf, None),
        (5_000, 0.1, None),
        (10_000, 0.1, 1_000),
        (30_000, 0.1, 3_000),
    ],
)
def test_large_surfels_are_pruned_and_opacities_reset_as_the_help_says(iterations, large, reset):
    densify = dataclasses.replace(RoomTrial(), iterations=iterations)._settings(0).plain.densify
    assert (densify.large, densify.reset_interval) == (large, reset)
    said = " ".join(RoomTrial.__doc__.split())
    assert "below 5,000 steps it prunes none, and below 10,000," in said


CARD = load_card(Path(room.__file__).parent)
COMMANDS = [claim.command for claim in CARD.claims if claim.command]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_untested_claims_give_the_papers_numbers(command):
    program, verb, name, *words = command.split()
    assert (program, verb, name) == ("papertrial", "try", "room_2dgs")
    trial, unknown = parse_known(RoomTrial, words, "papertrial try room_2dgs", RoomTrial())
    assert unknown == []
    assert trial.iterations == 30_000
    papers = ArmSettings(
        SeedSettings(backend=trial.backend),
        PlainSettings(backend=trial.backend, rules=Rules.released()),
        PriorSettings(unit_deviation=True),  # what a network says of depth is in no unit
        MultiViewSettings(),
    )
    assert trial._settings(0) == papers


RATES = {  # at first and at the end; those with True are times the scene's extent
    SeedFit: {
        "offsets": (0.01, 1e-4, True),
        "features": (0.0075, 0.0075, False),
        "log_scalings": (0.007, 0.007, False),
        "opacity": (0.002, 2e-5, False),
        "covariance": (0.004, 0.004, False),
        "colour": (0.008, 5e-5, False),
    },
    PlainFit: {
        "means": (1.6e-4, 1.6e-6, True),
        "base": (0.0025, 0.0025, False),
        "bands": (0.0025 / 20, 0.0025 / 20, False),
        "opacity_logits": (0.05, 0.05, False),
        "log_scales": (0.005, 0.005, False),
        "quats": (0.001, 0.001, False),
    },
}


@pytest.mark.parametrize("arm", RoomTrial.arms)
def test_a_rate_of_one_gives_the_papers_learning_rates(arm, inputs):
    """The released arguments of Scaffold-GS and 2DGS, over all 30,000 steps."""
    settings = dataclasses.replace(RoomTrial(), rate=1.0, iterations=30_000)._settings(0)
    fitted = make_fit(
        arm,
        inputs.train,
        inputs.priors,
        inputs.points,
        inputs.colours,
        settings,
        track_lengths=inputs.track_lengths,
    )
    for end, number in enumerate((0, 30_000)):
        set_rates(fitted.optimizer, fitted._rates, number)
        found = {group["name"]: group["lr"] for group in fitted.optimizer.param_groups}
        wanted = {
            name: rate[end] * (fitted.extent if rate[2] else 1) for name, rate in RATES[type(fitted)].items()
        }
        assert found == pytest.approx(wanted, rel=1e-6)


def test_untested_claims_say_how_priors_are_made():
    for claim in CARD.claims:
        if claim.command:
            assert "papertrial.scenes.reconstructing.write_priors" in claim.untested
            assert "depth/NAME.npy" in claim.untested
            assert "normal/NAME.npy" in claim.untested


def test_the_cards_snippet_works(write_capture, tmp_path):
    folder, saved = write_capture(tmp_path / "room"), tmp_path / "room.safetensors"
    code = CARD.use.python.replace('"room/"', repr(str(folder))).replace("5_000", "3")
    code = code.replace('"room.safetensors"', repr(str(saved))).replace("voxel=0.02", "voxel=0.2")
    names = {}
    exec(compile(code, "card.toml", "exec"), names)
    assert len(SeedScene.load(saved).anchors) == len(names["scene"].anchors) > 10
    assert names["guesses"].counts == (16, 16)


def test_the_arms_are_those_that_are_built_and_help_needs_no_torch():
    assert RoomTrial.arms == ARMS
    assert set(trials) == {"reconstruction"}
    code = "import sys, papertrial.scenes.room_2dgs.trial as t; t.RoomTrial().check(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
