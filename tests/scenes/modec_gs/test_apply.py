import json

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import project_points
from papertrial.scenes.modec_gs import Player, load_hypernerf, load_scene
from papertrial.scenes.modec_gs.apply import ReconstructMotion, deeds
from papertrial.scenes.modec_gs.hypernerf import write_transforms
from papertrial.scenes.ply import read_splats
from papertrial.scenes.reconstructing import load_capture


def quietly(done, total, what=""):
    assert 0 <= done <= total


@pytest.fixture
def deed(hypernerf_folder, tmp_path):
    def make(**changes):
        given = {
            "out": tmp_path / "out",
            "data": hypernerf_folder,
            "iterations": 12,
            "segments": 4,
            "spatial": 8,
            "hidden": 16,
            "batch": 1,
            "voxel": 0.3,
            "times": (0.0, 1.0),
        }
        return ReconstructMotion(**{**given, **changes})

    return make


def test_it_is_the_deed_reconstruct():
    assert deeds == {"reconstruct": ReconstructMotion}


def test_a_scene_of_the_layout_is_written_as_a_capture(hypernerf_folder, tmp_path, clip):
    """The same poses, times, points and parts come back through transforms.json as the layout gave."""
    write_transforms(hypernerf_folder, tmp_path / "poses")
    direct = load_hypernerf(hypernerf_folder)
    capture = load_capture(None, tmp_path / "poses")
    views = [*direct.train, *direct.test]  # names are sorted, and "train" comes before "val"
    assert list(capture.times) == pytest.approx([view.time for view in views])
    assert capture.held_out == (False,) * 12 + (True,) * 12
    torch.testing.assert_close(capture.points, direct.points)
    for view, posed in zip(views, capture.views, strict=True):
        ours, depth, _ = project_points(clip.points, posed.camera)
        theirs, expected, _ = project_points(clip.points, view.camera)
        front = expected > 0.5
        torch.testing.assert_close(ours[front], theirs[front], rtol=1e-4, atol=1e-3)  # float32 poses
        torch.testing.assert_close(depth, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(posed.image, view.image, rtol=0, atol=0)


def test_a_scene_is_fitted_and_written(deed, tmp_path):
    made = deed()
    facts = made.run(quietly)
    out = tmp_path / "out"
    assert facts["moments"] == 12
    assert facts["psnr_training"] > 5
    scene = load_scene(out / "scene.safetensors")
    assert len(scene.anchors) == facts["primitives"]
    first, last = (read_splats(out / f"splats_{time}.ply") for time in (0, 1))
    assert len(first.primitives) == facts["splats_written"] > 20
    assert (out / "splats.ply").read_bytes() == (out / "splats_0.ply").read_bytes()
    assert not (
        len(first.primitives) == len(last.primitives)
        and torch.equal(*[one.primitives.means for one in (first, last)])
    )
    assert (out / "preview.png").is_file()


@pytest.mark.parametrize(("hold_out", "views"), [(None, (12, 12)), (0, (24, 0)), (4, (18, 6))])
def test_the_layouts_own_test_frames_are_held_out(deed, hold_out, views):
    facts = deed(hold_out=hold_out).run(quietly)
    assert (facts["views"], facts["views_held_out"]) == views
    assert (facts["psnr_held_out"] is None) == (hold_out == 0)


def test_a_finished_run_goes_on_where_it_ended(deed, tmp_path, hypernerf_folder):
    deed().run(quietly)
    before = (tmp_path / "out" / "scene.safetensors").read_bytes()
    facts = deed(times=(0.5,)).run(quietly)
    assert facts["steps_before_resuming"] == 12
    assert (tmp_path / "out" / "scene.safetensors").read_bytes() == before
    assert (tmp_path / "out" / "splats_0.5.ply").is_file()


def test_frames_that_a_failed_run_left_behind_are_not_taken(deed, tmp_path, hypernerf_folder):
    with pytest.raises(BadInputError, match="7 segments need 14 moments"):
        deed(segments=7).run(quietly)
    left = tmp_path / "out" / "poses" / "transforms.json"
    assert left.is_file()
    with pytest.raises(BadInputError, match=r"there is no .*nowhere.*is .* a scene in HyperNeRF's layout"):
        deed(data=tmp_path / "nowhere").run(quietly)
    facts = deed(longest=12).run(quietly)
    assert facts["views"] == 12
    assert {frame["w"] for frame in json.loads(left.read_text())["frames"]} == {12}


def test_frames_at_another_reduction_are_read(deed, tmp_path, hypernerf_folder):
    with pytest.raises(BadInputError, match=r"there is no image .*rgb/1x"):
        deed(reduction=1).run(quietly)
    with pytest.raises(BadInputError, match="reduction must be at least 1, got 0"):
        deed(reduction=0).run(quietly)


def test_a_run_is_not_gone_on_with_on_other_frames(deed, tmp_path, hypernerf_folder):
    deed().run(quietly)
    image = hypernerf_folder / "rgb" / "2x" / "train_00003.png"
    image.write_bytes((hypernerf_folder / "rgb" / "2x" / "train_00004.png").read_bytes())
    with pytest.raises(BadInputError, match="photographs was"):
        deed().run(quietly)


def test_photographs_without_times_are_evenly_spaced(deed, tmp_path, hypernerf_folder):
    write_transforms(hypernerf_folder, tmp_path / "capture")
    path = tmp_path / "capture" / "transforms.json"
    content = json.loads(path.read_text())
    content["frames"] = [frame for frame in content["frames"] if "train" in frame["file_path"]]
    for name in ("train_filenames", "val_filenames"):
        del content[name]
    for frame in content["frames"]:
        del frame["time"]
    path.write_text(json.dumps(content))
    facts = deed(data=None, images=tmp_path / "capture", hold_out=4).run(quietly)
    assert facts["moments"] == 9
    capture = load_capture(None, tmp_path / "capture")
    assert capture.frame_times() == pytest.approx([at / 11 for at in range(12)])
    assert (facts["views"], facts["views_held_out"]) == (9, 3)
    assert facts["psnr_held_out"] > 5
    scene = load_scene(tmp_path / "out" / "scene.safetensors")
    assert bool(torch.isfinite(Player(scene).render(capture.views[0].camera, 0.3).colour).all())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": None}, "nothing to reconstruct"),
        ({"images": "x"}, "give data, or colmap and images, not both"),
        ({"segments": 0}, "segments must be at least 1"),
        ({"iterations": 1}, "two stages, 2 or more are needed, got 1"),
        ({"iterations": 0}, "got 0"),
        ({"times": ()}, "times of splats lie within 0 and 1"),
        ({"times": (1.5,)}, "times of splats lie within 0 and 1"),
        ({"rate": -1.0}, "rate above 0"),
        ({"voxel": -1.0}, "voxel must be 0 or more"),
        ({"segments": 7}, "7 segments need 14 moments or more, there are 12; take at most 6"),
    ],
)
def test_settings_that_cannot_work(deed, changes, words, tmp_path):
    if "images" in changes:
        changes = {"images": tmp_path}
    with pytest.raises(BadInputError, match=words):
        deed(**changes).run(quietly)


def test_times_of_splats_that_were_never_photographed_are_told(deed):
    facts = deed(times=(0.1234, 1.0)).run(quietly)
    assert (facts["splats_at"], facts["splats_between_photographs"]) == ("0.1234, 1", "0.1234")
