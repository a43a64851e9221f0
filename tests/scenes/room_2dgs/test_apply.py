"""`apply reconstruct` from a capture on disk to splats, mesh and pictures; interrupted and resumed; what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from papertrial.errors import BadInputError
from papertrial.scenes.plain_splats import SplatScene
from papertrial.scenes.ply import read_mesh, read_splats
from papertrial.scenes.room_2dgs.apply import ReconstructRoom, deeds
from papertrial.scenes.room_2dgs.scene import SeedScene
from papertrial.scenes.snapshots import read_snapshot
from papertrial.scenes.splatting.gsplat_backend import refusal

STEPS = 24


@pytest.fixture
def deed(photographed, tmp_path):
    """Return a function that makes a deed on the room's capture."""
    folder = photographed(tmp_path / "room")

    def make(out="out", **changes):
        settings = {"iterations": STEPS, "algorithm": "2dgs", "preview_every": 8, "hold_out": 4, **changes}
        return ReconstructRoom(tmp_path / out, colmap=folder, **settings)

    return make


@pytest.fixture
def with_priors(photographed_room, tmp_path):
    """Write depth and normals beside the capture."""

    def write():
        for kind in ("depth", "normal"):
            (tmp_path / "room" / kind).mkdir()
        for view in photographed_room.train:
            name = f"{view.exact.camera.name}.npy"
            np.save(tmp_path / "room" / "depth" / name, view.prior_depth.numpy())
            np.save(tmp_path / "room" / "normal" / name, view.prior_normals.numpy())

    return write


def tensors(out):
    return read_snapshot(out / "checkpoint.safetensors").tensors


@pytest.mark.parametrize(("algorithm", "kind"), [("2dgs", "surfel"), ("3dgs", "gaussian")])
def test_a_capture_becomes_splats_a_mesh_and_pictures(algorithm, kind, deed, silent, tmp_path):
    out = tmp_path / "out"
    facts = deed(algorithm=algorithm).run(silent)
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint.safetensors",
        "mesh.ply",
        "preview.png",
        "previews",
        "reconstruction.json",
        "scene.safetensors",
        "splats.ply",
    ]
    scene, splats = SplatScene.load(out / "scene.safetensors"), read_splats(out / "splats.ply")
    assert splats.kind == scene.kind == kind
    assert facts["primitives"] == facts["splats_written"] == len(scene) == len(splats.primitives)
    torch.testing.assert_close(splats.primitives.means, scene.means.detach())
    assert facts["triangles"] == len(read_mesh(out / "mesh.ply").triangles) > 0
    assert (facts["views"], facts["views_held_out"], facts["points"]) == (6, 2, 150)
    assert (
        min(facts["psnr_training"], facts["psnr_held_out"]) > 4
    )  # dB: two dozen steps from the first points
    pictures = sorted(path.name for path in (out / "previews").iterdir())
    assert pictures == ["step_00001.png", "step_00008.png", "step_00016.png", "step_00024.png"]
    assert (out / "preview.png").read_bytes() == (out / "previews" / "step_00024.png").read_bytes()
    with Image.open(out / "preview.png") as picture:
        assert picture.width > 4 * 240  # four pictures of 24 pixels, ten times enlarged, and gaps
    assert facts == json.loads(json.dumps(facts))
    done = [at for at, total, what in silent if "loss" in what]
    assert done == list(range(1, STEPS + 1))


# 9 and 20 lie between checkpoints, which are as far apart as a twentieth of the run: here every step's
@pytest.mark.parametrize("algorithm", ["2dgs", "room_2dgs"])
@pytest.mark.parametrize("interrupted", [9, 20])
def test_interrupted_and_resumed_equals_uninterrupted(algorithm, interrupted, deed, silent, tmp_path):
    whole = deed("whole", algorithm=algorithm).run(silent)

    def stop(done, total, what=""):
        if done == interrupted and "loss" in what:
            raise KeyboardInterrupt

    broken = deed("broken", algorithm=algorithm)
    with pytest.raises(KeyboardInterrupt):
        broken.run(stop)
    assert (tmp_path / "broken" / "preview.png").is_file()  # pictures while it runs
    facts = broken.run(silent)
    assert facts["steps_before_resuming"] == interrupted
    for name in ("primitives", "psnr_training", "psnr_held_out", "triangles"):
        assert facts[name] == whole[name], name
    expected = tensors(tmp_path / "whole")
    for name, tensor in tensors(tmp_path / "broken").items():
        assert torch.equal(tensor, expected[name]), name
    for name in ("splats.ply", "mesh.ply", "scene.safetensors"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_run_only_writes_again(deed, silent, tmp_path):
    first = deed().run(silent)
    (tmp_path / "out" / "mesh.ply").unlink()
    silent.clear()
    second = deed(mesh_voxel=0.3).run(silent)  # what is written may change, what was fitted may not
    assert second["steps_before_resuming"] == STEPS
    assert second["psnr_training"] == first["psnr_training"]
    assert second["triangles"] < first["triangles"]
    assert not [what for _, _, what in silent if "loss" in what]


def test_priors_beside_the_images_are_used(deed, with_priors, silent, tmp_path):
    alone = deed("alone", algorithm="room_2dgs").run(silent)
    assert (alone["priors"], alone["depth_priors"], alone["normal_priors"]) == ("none", 0, 0)
    with_priors()
    helped = deed("helped", algorithm="room_2dgs").run(silent)
    assert (helped["priors"], helped["depth_priors"], helped["normal_priors"]) == ("files", 6, 6)
    assert not torch.equal(
        tensors(tmp_path / "alone")["module.anchors.features"],
        tensors(tmp_path / "helped")["module.anchors.features"],
    )
    scene = SeedScene.load(tmp_path / "helped" / "scene.safetensors")
    assert len(scene.anchors) == helped["primitives"]
    splats = read_splats(tmp_path / "helped" / "splats.ply")
    assert (splats.kind, len(splats.primitives)) == ("surfel", helped["splats_written"])


def test_files_win_and_networks_fill_the_gaps(
    deed, with_priors, photographed_room, silent, monkeypatch, tmp_path
):
    """Views 1, 2, 3, 5, 6 and 7 are trained on; of these one has no depth, and two have no normals."""
    from papertrial.scenes.reconstructing import predicting

    with_priors()
    (tmp_path / "room" / "depth" / "train_002.npy").unlink()
    for name in ("train_003", "train_007"):
        (tmp_path / "room" / "normal" / f"{name}.npy").unlink()
    depth, normals = Oracle(photographed_room, "depth"), Oracle(photographed_room, "normals")
    monkeypatch.setattr(predicting.DepthEstimator, "load", lambda name, device: depth)
    monkeypatch.setattr(predicting.MarigoldNormals, "load", lambda name, device: normals)
    given = {"algorithm": "room_2dgs", "mesh": False, "iterations": 2}
    facts = deed("both", prior_model="a/depth", normal_model="some/normals", **given).run(silent)
    assert (facts["depth_priors"], facts["normal_priors"]) == (6, 6)
    assert facts["priors"] == "files and a/depth (depth of 1) and some/normals (normals of 2)"
    assert (depth.asked, normals.asked) == (1, 2)
    kept = sorted(path.name for path in (tmp_path / "both" / "priors").rglob("*.npy"))
    assert kept == ["train_002.png.npy", "train_003.png.npy", "train_007.png.npy"]
    facts = deed("depth", prior_model="a/depth", **given).run(silent)
    assert (facts["priors"], facts["depth_priors"], facts["normal_priors"]) == (
        "files and a/depth (depth of 1)",
        6,
        4,
    )


def test_networks_are_not_loaded_where_all_images_have_files(deed, with_priors, silent, monkeypatch):
    from papertrial.scenes.reconstructing import predicting

    def never(name, device):
        raise AssertionError("every image has a depth already")

    with_priors()
    monkeypatch.setattr(predicting.DepthEstimator, "load", never)
    facts = deed(algorithm="room_2dgs", prior_model="a/depth", mesh=False, iterations=2).run(silent)
    assert (facts["priors"], facts["depth_priors"]) == ("files and a/depth (depth of 0)", 6)


@pytest.mark.parametrize("algorithm", ["2dgs", "room_2dgs"])
def test_weights_of_distortion_and_normals_reach_the_fit(algorithm, deed, photographed, tmp_path):
    from papertrial.scenes.reconstructing import load_capture

    capture = load_capture(photographed(tmp_path / "other"), None)
    usual = deed(algorithm=algorithm).start(capture).fitted.settings
    assert (usual.distortion, usual.normal_consistency) == (0.0, 0.05)
    assert usual.rasterizing.distortion == "linear"
    chosen = deed(algorithm=algorithm, dist=100.0, normal_consistency=0.0).start(capture).fitted.settings
    assert (chosen.distortion, chosen.normal_consistency) == (100.0, 0.0)
    assert (chosen.rasterizing.distortion, chosen.rasterizing.far) == ("ndc", 100.0)
    assert chosen.rasterizing.near_at_pixel
    on_gpu = deed(algorithm=algorithm, backend="gsplat").start(capture).fitted.settings
    assert refusal(on_gpu.rasterizing, torch.float32) is None


def test_a_mesh_may_be_bounded_and_depth_limited(deed, silent, tmp_path):
    whole = deed().run(silent)
    assert "depth_limit" not in whole
    bounded = deed(mesh_mode="bounded").run(silent)  # fitted already: only written again
    assert bounded["steps_before_resuming"] == STEPS
    assert 0.5 < bounded["depth_limit"] < 5
    assert float(bounded["depth_left_out"].split("%")[0]) > 10
    limited = deed(depth_limit=1.5).run(silent)
    assert limited["depth_limit"] == 1.5
    assert 0 < limited["triangles"] < whole["triangles"]


def test_neighbouring_photographs_are_held_against_each_other(write_capture, silent, tmp_path):
    """Sixteen cameras round the room have neighbours within 30 degrees; from a quarter of the run on they count."""
    folder = write_capture(tmp_path / "room", priors=False)
    told, found = [], []
    for multi_view in (True, False):
        out = tmp_path / f"out {multi_view}"
        given = {"algorithm": "room_2dgs", "multi_view": multi_view, "iterations": 8}
        told.append(ReconstructRoom(out, colmap=folder, **given).run(silent)["multi_view"])
        found.append(tensors(out)["module.anchors.features"])
    assert told[0].startswith("on: ")
    assert told[0].endswith(" photographs have a neighbour")
    assert told[1] == "off"
    assert not torch.equal(*found)


def test_baked_splats_are_those_of_the_nearest_camera(deed, silent, tmp_path):
    facts = deed(algorithm="room_2dgs").run(silent)
    splats = read_splats(tmp_path / "out" / "splats.ply").primitives
    scene = SeedScene.load(tmp_path / "out" / "scene.safetensors")
    from papertrial.scenes.reconstructing import load_capture

    capture = load_capture(tmp_path / "room", None)
    nearest: dict[int, tuple[float, torch.Tensor]] = {}
    for at in capture.split(4)[0]:  # every camera, every surfel, one by one
        camera = capture.views[at].camera
        with torch.no_grad():
            decoded = scene.decode(camera)
        for row, slot in enumerate(decoded.slots.tolist()):
            away = float((decoded.means[row] - camera.centre).norm())
            if slot not in nearest or away < nearest[slot][0]:
                nearest[slot] = (away, decoded.opacities[row])
    assert len(nearest) == facts["splats_written"] == len(splats)
    expected = torch.stack([nearest[slot][1] for slot in sorted(nearest)])
    torch.testing.assert_close(splats.opacities, expected, atol=1e-5, rtol=0)  # logits in float32, and back


def test_folders_of_other_things_are_refused(deed, silent, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("the only copy")
    with pytest.raises(BadInputError, match="out must be an empty or new folder"):
        deed().run(silent)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_runs_with_other_settings_are_refused(deed, silent, photographed_room, tmp_path):
    deed(mesh=False).run(silent)
    with pytest.raises(BadInputError, match="whose seed was 0, now 1; choose another folder"):
        deed(seed=1).run(silent)
    with pytest.raises(BadInputError, match="whose algorithm was '2dgs', now '3dgs'"):
        deed(algorithm="3dgs").run(silent)
    path = tmp_path / "room" / "images" / "train_002.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    with pytest.raises(BadInputError, match="of another run: photographs was"):
        deed(mesh=False).run(silent)
    (tmp_path / "out" / "reconstruction.json").write_text("{")
    with pytest.raises(BadInputError, match=r"reconstruction\.json is damaged"):
        deed().run(silent)


def test_a_failed_start_leaves_the_folder_free(deed, silent, tmp_path):
    with pytest.raises(BadInputError, match="images must be a folder"):
        replace(deed(), images=Path("nowhere")).run(silent)
    facts = deed(seed=3, mesh=False).run(silent)
    assert "mesh" not in facts


def test_divergence_is_said_and_nothing_is_lost(deed, silent, monkeypatch, tmp_path):
    from papertrial.scenes.plain_splats import PlainFit

    step = PlainFit.step

    def breaks(self, number):
        return {**step(self, number), **({"loss": float("nan")} if number == 13 else {})}

    monkeypatch.setattr(PlainFit, "step", breaks)
    with pytest.raises(BadInputError, match=r"diverged at step 14 of 24: loss nan.*last checkpoint"):
        deed().run(silent)
    assert read_snapshot(tmp_path / "out" / "checkpoint.safetensors").facts["steps"] == 13
    monkeypatch.setattr(PlainFit, "step", step)
    assert deed().run(silent)["steps_before_resuming"] == 13


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"longest": -1}, "longest must be at least 0, got -1"),
        ({"preview_every": 0}, "preview_every must be at least 1, got 0"),
        ({"mesh_voxel": 0.0}, r"mesh_voxel must be above 0, got 0\.0"),
        ({"most": 0}, "most must be at least 1"),
        ({"depth_ratio": 1.5}, "depth_ratio within 0 and 1"),
        ({"hold_out": 1}, "hold_out is 0 for none"),
        ({"backend": "optix"}, "unknown backend 'optix'"),
        ({"prior_model": "some/model"}, "2dgs uses no priors"),
        ({"dist": -1.0}, "dist and normal_consistency must be 0 or more"),
        ({"algorithm": "3dgs", "dist": 100.0}, "3dgs has neither distortion nor normals"),
        ({"depth_limit": 0.0}, r"depth_limit must be above 0, got 0\.0"),
        ({"backend": "gsplat"}, "gsplat can only rasterise on CUDA, the device is cpu; give --device cuda"),
        ({"device": "tpu9"}, "device must be cpu, cuda, cuda:N or mps, got 'tpu9'"),
        ({"colmap": None}, "give --images .* or --colmap"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message, deed, silent):
    with pytest.raises(BadInputError, match=message):
        replace(deed(), **changes).run(silent)


def test_one_deed_has_three_methods():
    assert deeds == {"reconstruct": ReconstructRoom}
    assert ReconstructRoom.methods == ("room_2dgs", "2dgs", "3dgs")
    assert ReconstructRoom.method_field == "algorithm"


class Oracle:
    """An estimator that knows the room: its depth, or its normals in the camera's frame."""

    def __init__(self, room, kind):
        self.name, self.kind, self.asked = f"oracle of {kind}", kind, 0
        self.views = [(view.exact.colour, view.prior_depth, view.prior_normals) for view in room.train]

    def __call__(self, image):
        self.asked += 1
        differences = [float((colour - image).abs().mean()) for colour, _, _ in self.views]
        found = self.views[differences.index(min(differences))]
        return found[1] - found[1].min() if self.kind == "depth" else found[2]


def test_priors_may_be_predicted(deed, silent, photographed_room, monkeypatch, tmp_path):
    from papertrial.scenes.reconstructing import predicting

    depth, normals = Oracle(photographed_room, "depth"), Oracle(photographed_room, "normals")
    monkeypatch.setattr(predicting.DepthEstimator, "load", lambda name, device: depth)
    monkeypatch.setattr(predicting.MarigoldNormals, "load", lambda name, device: normals)
    predicted = deed(algorithm="room_2dgs", prior_model="a/depth", normal_model="some/normals", mesh=False)
    facts = predicted.run(silent)
    assert (facts["priors"], facts["depth_priors"], facts["normal_priors"]) == (
        "a/depth and some/normals",
        6,
        6,
    )
    assert (depth.asked, normals.asked) == (6, 6)
    assert (tmp_path / "out" / "priors" / "depth" / "train_001.png.npy").is_file()
    assert predicted.run(silent)["psnr_training"] == facts["psnr_training"]
    assert depth.asked == 6
