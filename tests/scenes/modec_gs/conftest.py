import pytest
import torch

from papertrial.scenes.cameras import scene_extent
from papertrial.scenes.hexplane import box_around
from papertrial.scenes.modec_gs import (
    FieldSettings,
    ModecScene,
    ModecTraining,
    SceneSettings,
    TimedView,
    TrainingSettings,
    make_anchors,
)
from papertrial.scenes.modec_gs.settings import GLOBAL_PENALTY
from papertrial.scenes.procedural_clip import make_clip

SMALL = SceneSettings(
    segments=6,
    global_field=FieldSettings(4, 4, 4, penalty=GLOBAL_PENALTY),
    local_field=FieldSettings(6, 6, 4),
    hidden=16,
)


@pytest.fixture(scope="session")
def clip():
    return make_clip(seed=0, frames=12, pixels=24, points=200)


@pytest.fixture(scope="session")
def views(clip):
    return [TimedView(frame.exact.camera, frame.time, frame.exact.colour) for frame in clip.train]


@pytest.fixture
def make_scene(clip):
    def make(seed=0, voxel=0.3, adjustment=None, **changes):
        from dataclasses import replace

        settings = replace(SMALL, **changes)
        torch.manual_seed(seed)
        anchors = make_anchors(clip.points, voxel, settings, per_anchor=3)
        generator = torch.Generator().manual_seed(seed)
        box = box_around(clip.points)
        return ModecScene(anchors, settings, box, adjustment=adjustment, generator=generator)

    return make


@pytest.fixture
def make_training(views, make_scene):
    def make(seed=0, iterations=20, scene=None, scene_changes=None, **changes):
        from dataclasses import replace

        scene = scene or make_scene(seed, **(scene_changes or {}))
        settings = replace(TrainingSettings(batch=2, seed=seed).scaled(iterations), **changes)
        return ModecTraining(scene, views, settings, scene_extent([view.camera for view in views]))

    return make


def stir(module, seed=0, size=0.05):
    """Give every weight a push, so that nothing is zero by the way it begins."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=draw))


@pytest.fixture
def stirred():
    def make(scene, seed=0, size=0.05):
        stir(scene, seed, size)
        return scene

    return make


@pytest.fixture
def hypernerf_folder(clip, tmp_path):
    """Return a scene in HyperNeRF's layout, made of the clip: training frames, and test frames with masks."""
    import json

    import numpy as np

    from papertrial.scenes.pictures import colour_picture, write_png

    folder = tmp_path / "scene"
    (folder / "camera").mkdir(parents=True)
    names = {"train_ids": [], "val_ids": []}
    metadata = {}
    for which, frames in (("train_ids", clip.train), ("val_ids", clip.test)):
        for number, frame in enumerate(frames):
            name, camera = f"{which[:-4]}_{number:05d}", frame.exact.camera
            matrix = 2 * camera.intrinsics  # frames are halves of what cameras say
            given = {
                "orientation": camera.rotation.tolist(),
                "position": camera.centre.tolist(),
                "focal_length": float(matrix[0, 0]),
                "principal_point": matrix[:2, 2].tolist(),
                "image_size": [2 * camera.width, 2 * camera.height],
            }
            (folder / "camera" / f"{name}.json").write_text(json.dumps(given))
            picture = colour_picture(frame.exact.colour)
            write_png(folder / "rgb" / "2x" / f"{name}.png", picture)
            write_png(folder / "covisible" / "2x" / "val" / f"{name}.png", np.full_like(picture, 255))
            metadata[name] = {"time_id": number, "camera_id": int(which == "val_ids")}
            names[which].append(name)
    (folder / "metadata.json").write_text(json.dumps(metadata))
    (folder / "dataset.json").write_text(json.dumps({**names, "ids": [*metadata], "count": len(metadata)}))
    (folder / "scene.json").write_text(
        json.dumps({"scale": 1.0, "center": [0.0, 0.0, 0.0], "near": 0.1, "far": 9.0})
    )
    np.save(folder / "points.npy", clip.points.numpy())
    return folder
