import math
from dataclasses import replace

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.modec_gs import ModecScene, Player, SceneSettings, load_scene, save_scene
from papertrial.scenes.modec_gs.settings import VARIANTS
from papertrial.scenes.scaffold import visible_anchors
from papertrial.scenes.splatting import rasterize


def image(scene, view, time=None):
    return Player(scene).render(view.camera, view.time if time is None else time).colour


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_fresh_scene_is_its_still_scaffold(variant, make_scene, views):
    """Heads that begin at zero deform nothing: every variant renders what the anchors alone do, at every time."""
    scene = make_scene(**VARIANTS[variant].changes)
    camera = views[3].camera
    state = scene.anchors.state()
    with torch.no_grad():
        decoded = scene.decoder.decode(state, camera, kind="gaussian", anchors=visible_anchors(state, camera))
        out = rasterize(
            decoded.primitives(),
            camera.viewmat,
            camera.intrinsics,
            camera.width,
            camera.height,
            features=decoded.colours,
            kind="gaussian",
        )
    still = out.features + (1 - out.alpha)[..., None]
    for time in (0.0, 0.3, 1.0):
        torch.testing.assert_close(image(scene, views[3], time), still, rtol=0, atol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"moves_anchors": False, "local": "none"},
        {"segments": 1, "local": "none"},
    ],
)
def test_what_has_no_motion_of_its_own_stands_still(changes, make_scene, views, stirred):
    scene = stirred(make_scene(**changes))
    first = image(scene, views[0], 0.0)
    for time in (0.2, 0.77, 1.0):
        torch.testing.assert_close(image(scene, views[0], time), first, rtol=0, atol=0)


def test_closed_gates_and_no_local_motion_stand_still(make_scene, views, stirred):
    scene = stirred(make_scene(local="none"))
    first = image(scene, views[0], 0.0)
    assert not torch.equal(image(scene, views[0], 0.9), first)  # open gates move it
    with torch.no_grad():
        scene.gates.fill_(-200.0)
    first = image(scene, views[0], 0.0)
    torch.testing.assert_close(image(scene, views[0], 0.9), first, rtol=0, atol=0)


def test_within_a_segment_only_the_gaussians_move(make_scene, views, stirred):
    scene = stirred(make_scene())
    inside, beyond = scene.frames([views[0].camera] * 3, [0.01, 0.02, 0.99], states=None), scene.intervals
    assert [beyond.segment(time) for time in (0.01, 0.02, 0.99)] == [0, 0, 5]
    assert torch.equal(inside[0].decoded.colours, inside[1].decoded.colours)  # the same anchors were decoded
    assert not torch.equal(inside[0].decoded.means, inside[1].decoded.means)
    assert not torch.equal(inside[0].decoded.colours[:5], inside[2].decoded.colours[:5])


def test_anchors_are_read_at_the_start_of_their_segment(make_scene, views, stirred):
    scene = stirred(make_scene(local="none"))
    late = image(scene, views[0], 0.5 + 0.1 / 6)
    torch.testing.assert_close(late, image(scene, views[0], 0.5), rtol=0, atol=0)
    before = image(scene, views[0], 0.49)
    scene.intervals.borders[3] = 0.48  # now 0.49 belongs to the fourth segment, which starts at 0.48
    assert not torch.equal(image(scene, views[0], 0.49), before)
    with torch.no_grad():
        direct = scene.global_deformation(scene.anchors.state(), [0.48], scene.gates)[0]
        ours = scene.canonical_states([3])[0]
    for one, other in zip(ours, direct, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_two_anchor_stages_deform_the_local_scaffold_again(make_scene, stirred, views):
    scene = stirred(make_scene(local="anchors"))
    with torch.no_grad():
        frame = scene.frames([views[0].camera], [0.6])[0]
        local = scene.canonical_states([3])[0]
        again = scene.local_deformation(local, [0.6], outside="clamp")[0]
        visible = visible_anchors(again, views[0].camera)
        decoded = scene.decoder.decode(again, views[0].camera, kind="gaussian", anchors=visible)
    for one, other in zip(frame.decoded, decoded, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_frames_of_a_batch_are_those_of_each_alone(make_scene, views, stirred):
    scene = stirred(make_scene())
    cameras, times = [view.camera for view in views], [view.time for view in views]
    with torch.no_grad():
        together = scene.frames(cameras, times)
        for at, frame in enumerate(together):
            alone = scene.frames([cameras[at]], [times[at]])[0]
            for one, other in zip(frame.decoded, alone.decoded, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)  # products of other matrix sizes


def test_a_player_shows_what_training_sees(make_scene, views, stirred):
    scene = stirred(make_scene())
    player = Player(scene)
    for view in views[::3]:
        with torch.no_grad():
            frame = scene.frames([view.camera], [view.time])[0]
            out = rasterize(
                frame.decoded.primitives(),
                view.camera.viewmat,
                view.camera.intrinsics,
                view.camera.width,
                view.camera.height,
                features=frame.decoded.colours,
                kind="gaussian",
            )
        shown = player.render(view.camera, view.time)
        expected = out.features + (1 - out.alpha)[..., None]
        torch.testing.assert_close(
            shown.colour, expected, rtol=1e-4, atol=1e-5
        )  # segments read together or alone
        assert bool((shown.depth[shown.alpha < 1e-6] == 0).all())
        assert float(shown.normals.norm(dim=-1).max()) < 1.001


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("gates", ["none", "one", "two"])
def test_a_stored_scene_renders_the_same_to_the_bit(variant, gates, make_scene, views, stirred, tmp_path):
    scene = stirred(make_scene(**{**VARIANTS[variant].changes, "gates": gates}))
    scene.intervals.borders[2] = 0.3
    size = save_scene(tmp_path / "scene.safetensors", scene)
    assert size == (tmp_path / "scene.safetensors").stat().st_size
    back = load_scene(tmp_path / "scene.safetensors")
    assert back.settings == scene.settings
    for view in views[::4]:
        assert torch.equal(image(back, view), image(scene, view))


def test_nothing_is_stored_that_rendering_does_not_need(make_scene, tmp_path):
    """Bytes counted by hand: anchors with 3 offsets, 2 gates; the decoder; two fields; two networks; borders."""
    scene = make_scene()
    anchors = len(scene.anchors)
    per_anchor = 3 + 32 + 3 * 3 + 6 + 2
    decoder = sum(35 * 32 + 32 + 32 * outputs + outputs for outputs in (3, 7 * 3, 3 * 3))

    def field(spatial, temporal, channels):
        return channels * sum(3 * (r * spatial) ** 2 + 3 * r * spatial * temporal for r in (1, 2)) + 6

    def network(features, hidden, outputs):
        heads = sum(hidden * hidden + hidden + hidden * size + size for size in outputs)
        return features * hidden + hidden + heads

    floats = anchors * per_anchor + decoder + field(4, 4, 4) + field(6, 6, 4)
    floats += network(8, 16, (3, 32, 9, 6)) + network(8, 16, (3, 3, 4))
    size = save_scene(tmp_path / "scene.safetensors", scene)
    content = 4 * floats + 8 * 7  # borders are float64
    header = int.from_bytes(
        (tmp_path / "scene.safetensors").read_bytes()[:8], "little"
    )  # names, shapes, settings
    assert size == 8 + header + content
    still = make_scene(moves_anchors=False)
    assert "gates" not in dict(still.anchors.named_parameters())
    save_scene(tmp_path / "still.safetensors", still)
    from safetensors import safe_open

    with safe_open(tmp_path / "still.safetensors", framework="pt") as file:
        assert not [name for name in file.keys() if "global" in name or name == "borders"]  # noqa: SIM118


def test_files_that_hold_no_scene(tmp_path, make_scene):
    from papertrial.scenes.snapshots import Snapshot, read_snapshot, write_snapshot

    write_snapshot(tmp_path / "other.safetensors", Snapshot({"a": torch.ones(1)}, {"kind": "tsdf"}))
    with pytest.raises(BadInputError, match="holds no moving scene, but 'tsdf'"):
        load_scene(tmp_path / "other.safetensors")
    with pytest.raises(BadInputError, match="cannot be read"):
        load_scene(tmp_path / "missing.safetensors")
    save_scene(tmp_path / "scene.safetensors", make_scene())
    whole = read_snapshot(tmp_path / "scene.safetensors")
    for name, fault in (
        ("anchors.offsets", "anchors.offsets"),
        ("decoder.colour.0.bias", r'Missing key.*"decoder.colour.0.bias"'),
    ):
        part = {key: tensor for key, tensor in whole.tensors.items() if key != name}
        write_snapshot(tmp_path / "part.safetensors", Snapshot(part, whole.facts))
        with pytest.raises(BadInputError, match=f"lacks parts of a moving scene, or has others: .*{fault}"):
            load_scene(tmp_path / "part.safetensors")


def test_a_scene_in_small_units_keeps_what_stands_before_its_cameras(make_scene, views):
    """Everything a twentieth as large, near with it: as many anchors are seen, and the picture is the same."""
    whole = make_scene()
    small = make_scene(near=whole.settings.near / 20)
    small.load_state_dict(whole.state_dict())
    with torch.no_grad():
        small.anchors.positions /= 20
        small.anchors.log_scalings -= math.log(20)
        for field in small.fields():
            field.box /= 20
    camera = views[3].camera
    view = camera.viewmat.clone()
    view[:3, 3] /= 20
    closer = replace(camera, viewmat=view)
    frames = [scene.frames([one], [0.3])[0] for scene, one in ((whole, camera), (small, closer))]
    assert torch.equal(frames[0].visible, frames[1].visible)
    assert len(frames[0].visible) > 0
    pictures = [Player(scene).render(one, 0.3).colour for scene, one in ((whole, camera), (small, closer))]
    torch.testing.assert_close(*pictures, rtol=0, atol=1e-4)
    with pytest.raises(BadInputError, match="near must be 0 or more"):
        SceneSettings(near=-1.0)


def test_anchors_outside_the_box_are_named(make_scene):
    scene = make_scene()
    with pytest.raises(BadInputError, match=r"% of \d+ points lie outside the field's box"):
        ModecScene(scene.anchors, scene.settings, torch.tensor([[-0.1, -0.1, -0.1], [0.1, 0.1, 0.1]]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"local": "voxels"}, "unknown local deformation 'voxels'"),
        ({"gates": "three"}, "unknown gates 'three'"),
        ({"time_range": "third"}, "unknown time_range 'third'"),
        ({"segments": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be(changes, words):
    with pytest.raises(BadInputError, match=words):
        SceneSettings(**changes)
