import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import papertrial.scenes.modec_gs as room
from papertrial.errors import BadInputError
from papertrial.scenes.cameras import near_plane
from papertrial.scenes.modec_gs import Intervals, Player, TimedView, TrainingSettings, save_scene
from papertrial.scenes.modec_gs import evaluation as evaluating
from papertrial.scenes.modec_gs.apply import ReconstructMotion
from papertrial.scenes.modec_gs.arms import (
    ARMS,
    SMALL,
    STAGES,
    made_capture,
    moving_training,
    read_capture,
    scene_settings,
    still_training,
)
from papertrial.scenes.modec_gs.storage import load_scene
from papertrial.scenes.modec_gs.trial import MotionTrial, trials
from papertrial.trial.artifacts import encode_artifact
from papertrial.trial.card import load_card


class Watch:
    def __init__(self, folder):
        self.prepared, self.losses, self.kept = folder, [], {}

    def step(self, done, total, **values):
        assert done <= total
        self.losses.append(values["loss"])

    def keep(self, name, artifact):
        encode_artifact(name, artifact)  # as the runner does, which refuses names and things it cannot keep
        self.kept[name] = artifact


QUICK = dataclasses.replace(MotionTrial.quick(), coarse=20, steps=16, rate=10.0)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    QUICK.prepare(0, folder)
    return folder


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_measures_every_metric_and_repeats_itself(arm, prepared):
    QUICK.check()
    watch = Watch(prepared)
    first, again = QUICK.measure(arm, 0, watch), QUICK.measure(arm, 0, Watch(prepared))
    assert set(first) == set(QUICK.metrics)
    assert len(watch.losses) == QUICK.steps
    assert sum(watch.losses[-4:]) < sum(watch.losses[:4])
    still = {name: one for name, one in first.items() if name != "steps_per_second"}
    assert {name: again[name] for name in still} == pytest.approx(still, nan_ok=True, rel=0, abs=0)
    segmented = arm in ("gad-lgd", "gad-lgd-large", "modec", "two-anchor-stages")
    assert math.isnan(first["fast_interval_length"]) != segmented
    assert arm == "modec" or not segmented or first["fast_interval_length"] == pytest.approx(1)


def test_what_is_kept_can_be_looked_at(prepared):
    watch = Watch(prepared)
    QUICK.measure("modec", 0, watch)
    film, strip = watch.kept["test-path"], watch.kept["truth-rendered-error"]
    assert film.shape == (12, 192, 192, 3)  # 24 pixels, each a square of eight
    assert film.dtype == strip.dtype == np.uint8
    blocks = film.reshape(12, 24, 8, 24, 8, 3)
    assert bool((blocks == blocks[:, :, :1, :, :1]).all())
    assert strip.shape[1] == 3 * 192 + 2 * 2
    rows = watch.kept["segments"]
    assert [row["segment"] for row in rows] == list(range(6))
    assert sum(row["relative_length"] for row in rows) == pytest.approx(6, abs=1e-3)
    second = Watch(prepared)
    QUICK.measure("modec", 1, second)
    assert second.kept == {}  # one seed's pictures are enough


def test_all_arms_begin_with_the_same_still_scene(prepared):
    capture = QUICK._capture(0)
    still = load_scene(prepared / "still.safetensors")
    view = capture.test[3]
    expected = Player(still).render(view.camera, view.time).colour
    for arm in ARMS:
        how = QUICK._training(0, 10.0)
        training = moving_training(arm, still, capture, QUICK._sizes(capture), how, QUICK.steps)
        assert torch.equal(Player(training.scene).render(view.camera, view.time).colour, expected)
        assert training.settings.coarse == 0
        assert (training.settings.adjustment is not None) == (arm == "modec")


def test_the_small_baseline_has_as_many_bytes_as_the_method(tmp_path):
    """To half a channel of its field, as scenes are stored at the start of motion; the large one has more."""
    trial = MotionTrial(frames=16, pixels=24, points=240, coarse=1)
    capture = trial._capture(0)
    sizes = trial._sizes(capture)
    trial.prepare(0, tmp_path)
    still = load_scene(tmp_path / "still.safetensors")
    size = {}
    for arm in ARMS:
        training = moving_training(arm, still, capture, sizes, QUICK._training(0, 1.0), 10)
        size[arm] = save_scene(tmp_path / "scene.safetensors", training.scene)
    field = 3 * 32**2 + 3 * 32 * sizes.temporal + 3 * 64**2 + 3 * 64 * sizes.temporal
    channel = 4 * (field + 2 * sizes.hidden)
    assert abs(size["4dgs-small"] - size["modec"]) < 0.5 * channel + 4_000  # and what the headers differ by
    assert size["gad-lgd"] == size["modec"]
    assert size["4dgs"] > 1.2 * size["modec"]
    assert scene_settings("4dgs", sizes, 100).local_field.channels == 32
    assert all(scene_settings(arm, sizes, 100).local_field.channels == 32 for arm in STAGES)
    assert all(scene_settings(arm, sizes, 100).local_field.channels < 32 for arm in SMALL)


def test_fields_keep_the_papers_proportions():
    trial = MotionTrial()
    sizes = trial._sizes(made_capture(0, 24, 8, 100))
    method = scene_settings("modec", sizes, 100)
    assert method.local_field.spatial == 2 * method.global_field.spatial
    assert method.local_field.temporal == 12
    assert method.global_field.temporal == method.segments == 8
    full = MotionTrial(spatial=64, temporal=100, hidden=128, segments=10)
    method = scene_settings("modec", full._sizes(made_capture(0, 24, 8, 100)), 100)
    paper = room.SceneSettings(segments=10)
    assert method == paper


def test_large_fields_make_the_methods_as_large_as_the_baselines():
    """Rows (a) to (d) of table 3: every field has the baseline's cells and channels, and its size is matched anew."""
    capture = made_capture(0, 24, 8, 100)
    small, large = (MotionTrial(fields=fields)._sizes(capture) for fields in ("small", "large"))
    base = scene_settings("4dgs", small, 100).local_field
    for arm in ("modec", "gad-lgd"):
        own = scene_settings(arm, large, 100)
        assert own.local_field == base
        assert dataclasses.replace(own.global_field, penalty=base.penalty) == base
        assert scene_settings(arm, small, 100).local_field.channels == 16
    assert scene_settings("4dgs", large, 100) == scene_settings("4dgs", small, 100)
    # two fields of 32 channels in the bytes of one, and the channels that pay for the further network
    assert 64 <= scene_settings("4dgs-small", large, 100).local_field.channels <= 70
    for arm in STAGES:
        assert scene_settings(arm, large, 100) == scene_settings(arm, small, 100)


def test_runs_of_the_papers_length_have_its_schedules():
    """What the commands of the untested claims train by: of both stages, to the number."""
    capture = made_capture(0, 24, 24, 240)
    trial = MotionTrial()
    sizes = trial._sizes(capture)
    paper = dataclasses.replace(TrainingSettings(), seed=3)
    still = still_training(capture, sizes, paper, 3_000)
    assert still.settings == dataclasses.replace(paper, fine=0, adjustment=None)
    moving = moving_training("modec", still.scene, capture, sizes, paper, 20_000)
    assert moving.settings == dataclasses.replace(paper, coarse=0)
    raised = dataclasses.replace(paper, field_rate=8.0)
    assert moving_training("modec", still.scene, capture, sizes, raised, 400).settings.motion_schedule == 400
    short = still_training(capture, sizes, paper, 300).settings
    assert (short.schedule, short.growth.stop) == (300, 150)  # of 30,000 and 15,000


def test_what_is_prepared_is_the_still_stage_after_all_of_its_steps(prepared):
    capture = QUICK._capture(0)
    training = still_training(capture, QUICK._sizes(capture), QUICK._training(0, 1.0), QUICK.coarse)
    for number in range(QUICK.coarse):
        training.step(number)
    kept, expected = load_scene(prepared / "still.safetensors").anchors, training.scene.anchors
    assert bool(expected.features.any())  # zero before the first step
    torch.testing.assert_close(kept.features, expected.features, rtol=1e-4, atol=1e-6)


def test_the_still_arm_takes_as_many_steps_without_any_motion(prepared):
    trial = dataclasses.replace(QUICK, rate=None)
    watch = Watch(prepared)
    found = trial.measure("still", 0, watch)
    assert len(watch.losses) == QUICK.steps
    film = watch.kept["test-path"].astype(int)
    shown = Player(load_scene(prepared / "still.safetensors"))
    capture = QUICK._capture(0)
    begun = evaluating.score(evaluating.render_views(shown, capture.test), capture.test, capture.moving)
    assert found["psnr"] != begun.psnr
    assert film.shape[0] == QUICK.frames
    assert found["storage_bytes"] < trial_bytes(prepared, "4dgs-small")
    with pytest.raises(BadInputError, match="rate is tuned by the runner"):
        trial.measure("4dgs", 0, watch)


def trial_bytes(prepared, arm):
    return QUICK.measure(arm, 0, Watch(prepared))["storage_bytes"]


def test_backend_and_device_reach_training_and_rendering(prepared):
    """The torch back end renders what the compiled one does; both are named where they are used."""
    trial = dataclasses.replace(QUICK, backend="torch", steps=2)
    assert trial._training(0, 1.0).backend == "torch"
    assert trial._sizes(trial._capture(0)).device == "cpu"
    assert trial.scale().endswith("small fields of 8 cells a side, cpu")
    compiled = dataclasses.replace(trial, backend="numba")
    ours, theirs = (one.measure("4dgs", 0, Watch(prepared))["psnr"] for one in (trial, compiled))
    assert ours == pytest.approx(theirs, abs=0.05)  # dB; sums in another order, twice through Adam
    assert {"backend", "device"} <= set(MotionTrial.prepared_by)


def test_another_seed_measures_something_else(prepared, tmp_path):
    QUICK.prepare(1, tmp_path)
    first = QUICK.measure("4dgs", 0, Watch(prepared))
    assert QUICK.measure("4dgs", 1, Watch(tmp_path))["psnr"] != first["psnr"]


def test_a_rate_that_diverges_is_a_result(prepared):
    trial = dataclasses.replace(QUICK, rate=1e30)
    found = trial.measure("4dgs", 0, Watch(prepared))
    assert set(found) == set(trial.metrics)
    assert math.isnan(found["psnr"]) or found["psnr"] < 10


def test_every_arm_is_tuned_over_as_many_rates():
    for trial in trials.values():
        assert set(trial.grid) == {*trial.arms} - {"still"}  # which has no field whose rate could be tuned
        assert set(trial.arms) <= set(ARMS)
        assert len({tuple(points["rate"]) for points in trial.grid.values()}) == 1
    with pytest.raises(BadInputError, match="rate is tuned by the runner"):
        MotionTrial.quick().measure("4dgs", 0, Watch(Path()))


def test_length_of_the_intervals_of_the_fast_part():
    """By moments: a thousand times in the first quarter, each with the length of the segment it lies in."""
    intervals = Intervals(8)
    assert evaluating.fast_interval_length(intervals) == pytest.approx(1)
    for at, border in ((1, 0.1), (2, 0.22), (1, 0.12), (2, 0.31), (3, 0.36)):
        intervals.borders[at] = border
        moments = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000 * 0.25
        lengths = [float(intervals.lengths[intervals.segment(float(time))]) * 8 for time in moments]
        expected = len(lengths) / sum(1 / length for length in lengths)  # so many moments, so many segments
        assert evaluating.fast_interval_length(intervals) == pytest.approx(expected, abs=0.01)


def test_time_passed_within_the_fast_part_leaves_its_segments_as_many():
    """Of two segments in the quarter one may take the other's time; only what goes beyond a quarter shortens them."""
    intervals = Intervals(8)
    for border in (0.2, 0.05, 0.1):
        intervals.borders[1] = border
        assert evaluating.fast_interval_length(intervals) == pytest.approx(1)
    intervals.borders[2] = 0.2
    assert evaluating.fast_interval_length(intervals) < 1
    intervals.borders[2] = 0.3
    assert evaluating.fast_interval_length(intervals) > 1


def test_scores_by_hand():
    camera = made_capture(0, 12, 24, 240).test[0].camera
    truth = torch.rand(24, 24, 3, generator=torch.Generator().manual_seed(0)) * 0.8
    views = [TimedView(camera, 0.0, truth), TimedView(camera, 1.0, truth)]
    where = torch.zeros(24, 24, dtype=torch.bool)
    where[:6] = True
    images = [truth + 0.1, truth + 0.2 * where[..., None]]
    found = evaluating.score(images, views, [where, where])
    second = -10 * math.log10(0.04 / 4)
    assert found.psnr == pytest.approx((20 + second) / 2, abs=1e-3)
    assert found.moving_psnr == pytest.approx(-10 * math.log10((0.01 + 0.04) / 2), abs=1e-3)
    assert math.isnan(evaluating.score(images, views).moving_psnr)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"spatial": 1}, "spatial must be at least 2"),
        ({"segments": 13}, "at most half of the frames, 12, got 13"),
        ({"gates": "three"}, "unknown gates 'three'"),
        ({"fields": "huge"}, "unknown fields 'huge'"),
        ({"backend": "cpu"}, "unknown backend 'cpu'"),
        ({"device": "gpu"}, "device must be cpu, cuda"),
        ({"rate": 0.0}, "rate must be above 0"),
        ({"voxel": -1.0}, "voxel must be above 0"),
        ({"masks": True}, "masks and longest are for the user's frames"),
        ({"data": "/nowhere/at/all"}, "data must be a folder"),
    ],
)
def test_settings_that_cannot_work(changes, words):
    with pytest.raises(BadInputError, match=words):
        MotionTrial(**changes).check()


def test_unknown_format(tmp_path):
    with pytest.raises(BadInputError, match="unknown format 'nerf'"):
        MotionTrial(data=str(tmp_path), format="nerf").check()


def test_a_users_own_frames(hypernerf_folder, tmp_path):
    trial = dataclasses.replace(
        QUICK, data=str(hypernerf_folder), masks=True, voxel=0.3, segments=4, longest=20
    )
    trial.check()
    trial.prepare(0, tmp_path)
    for arm in ("4dgs-small", "modec"):
        found = trial.measure(arm, 0, Watch(tmp_path))
        assert found["psnr"] > 5
        assert math.isnan(found["moving_psnr"])
        assert math.isnan(found["fast_interval_length"])
    assert str(hypernerf_folder) in trial.scale()


def test_masked_frames_are_scored_inside_their_masks(hypernerf_folder, tmp_path):
    """Whatever a scene shows outside the masks changes nothing."""
    capture = read_capture(hypernerf_folder, "hypernerf", True)
    mask = torch.zeros_like(capture.test[0].mask)
    mask[:14] = True
    views = [view._replace(mask=mask) for view in capture.test]
    off = [(view.image + 0.1 * mask[..., None]).clamp(0, 1) for view in views]
    wild = [torch.where(mask[..., None], image, 1 - image) for image in off]
    scores = [evaluating.score(images, views) for images in (off, wild)]
    assert scores[0] == pytest.approx(scores[1], nan_ok=True)
    assert 19.9 < scores[0].psnr < 25  # 0.1 off, less where it was cut at white
    assert 0 < scores[0].ssim < 1
    whole = [view._replace(mask=None) for view in views]
    assert evaluating.score(wild, whole).psnr < scores[1].psnr - 3
    assert evaluating.score(wild, whole).ssim < scores[1].ssim - 0.1


def test_nothing_is_cut_away_before_the_cameras_of_a_scene_in_small_units():
    """Every arm, its still stage and `apply` take the near plane that fits the cameras."""
    trial, capture = MotionTrial(), made_capture(0, 12, 24, 240)
    small = []
    for view in capture.train:
        pose = view.camera.viewmat.clone()
        pose[:3, 3] /= 20
        small.append(view._replace(camera=dataclasses.replace(view.camera, viewmat=pose)))
    expected = near_plane([view.camera for view in small])
    assert expected < 0.05
    closer = dataclasses.replace(capture, train=tuple(small), points=capture.points / 20)
    sizes = trial._sizes(closer)
    sizes = dataclasses.replace(sizes, voxel=sizes.voxel / 20)
    assert all(scene_settings(arm, sizes, 100).near == expected for arm in ARMS)
    assert still_training(closer, sizes, trial._training(0, 1.0), 2).scene.settings.near == expected
    assert trial._sizes(capture).near == 0.2
    assert ReconstructMotion(out=Path("out"))._settings(small).near == expected


def test_more_segments_than_the_users_frames_fill_are_told_at_once(hypernerf_folder):
    with pytest.raises(BadInputError, match="7 segments need 14 moments or more, there are 12"):
        dataclasses.replace(QUICK, data=str(hypernerf_folder), segments=7).check()


def test_frames_at_another_reduction_are_asked_for(hypernerf_folder):
    with pytest.raises(BadInputError, match=r"there is no image .*rgb/4x"):
        dataclasses.replace(QUICK, data=str(hypernerf_folder), reduction=4).check()


def test_card_fits_the_trials():
    card = load_card(Path(room.__file__).parent)
    for claim in card.tested:
        kind = trials[claim.trial]
        assert claim.metric in kind.metrics, claim.name
        assert claim.arm in kind.arms, claim.name
        assert claim.against in (*kind.arms, None), claim.name


def test_the_commands_of_untested_claims_name_real_settings():
    card = load_card(Path(room.__file__).parent)
    known = {field.name.replace("_", "-") for field in dataclasses.fields(MotionTrial)}
    for claim in card.claims:
        if claim.command:
            words = [word.removeprefix("--") for word in claim.command.split() if word.startswith("--")]
            assert words
            assert set(words) <= known, claim.name
            if "--data" in claim.command:
                assert "--coarse 3000 --steps 20000 --batch 4" in claim.command
                assert claim.command.endswith("--rate 1")


def test_the_cards_snippet_works(hypernerf_folder, tmp_path, capsys):
    card = load_card(Path(room.__file__).parent)
    code = card.use.python.replace('Path("vrig-chicken")', f"Path({str(hypernerf_folder)!r})")
    code = code.replace("TrainingSettings()", "TrainingSettings(batch=1).scaled(4)").replace(
        "segments=10", "segments=4"
    )
    code = code.replace('Path("scene.safetensors")', f"Path({str(tmp_path / 'scene.safetensors')!r})")
    code = code.replace("anchors, settings, box_around", "anchors, settings, box_around").replace(
        "0.01", "0.3"
    )
    exec(compile(code, "card.toml", "exec"), {})
    assert (tmp_path / "scene.safetensors").stat().st_size == int(capsys.readouterr().out.split()[0])


def test_trials_and_deeds_are_read_without_torch():
    code = (
        "import sys, papertrial.scenes.modec_gs.trial, papertrial.scenes.modec_gs.apply;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_room_exports_what_it_names():
    assert all(getattr(room, name) is not None for name in room.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Modec'"):
        _ = room.Modec
