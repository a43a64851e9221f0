"""Depth networks: tiny random ones saved and loaded as checkpoints are, and the sign of what they say."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.monocular_priors import LEAST_DISPARITY, DepthEstimator, disparity_to_depth

HEIGHT, WIDTH = 30, 44  # of the fixture `image`


@pytest.mark.parametrize(
    ("name", "disparity", "metric"),
    [
        ("relative", True, False),
        ("metric", False, True),
        ("dpt", True, False),
        ("zoedepth", False, True),
        ("depth_pro", False, True),
        ("glpn", False, True),
    ],
)
def test_every_network_is_loaded_from_a_folder_and_says_depth(saved, image, name, disparity, metric):
    folder, model = saved(name)
    estimator = DepthEstimator.load(folder)
    assert (estimator.disparity, estimator.metric, estimator.name) == (disparity, metric, str(folder))
    seen = image(height=70, width=99)
    depth = estimator(seen)
    assert depth.shape == (70, 99)
    assert float(depth.min()) >= 0
    assert torch.equal(depth, DepthEstimator.load(str(folder))(seen)), "nothing is random"
    with torch.no_grad():
        raw = model(**estimator.prepare(seen)).predicted_depth
    assert float(raw.std()) > 0, (
        "the saved network is the one that was loaded, not one of other random weights"
    )
    loaded = estimator.model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())
    if disparity:
        assert float(depth.min()) >= 1
        assert float(depth.max()) <= 1 / LEAST_DISPARITY + 1e-3


@pytest.mark.parametrize("name", ["dpt", "relative"])
def test_disparity_is_resized_and_then_inverted(saved, name, image):
    folder, model = saved(name)
    estimator, seen = DepthEstimator.load(folder), image()
    with torch.no_grad():
        raw = model(**estimator.prepare(seen)).predicted_depth
    large = torch.nn.functional.interpolate(raw[:, None], size=(HEIGHT, WIDTH), mode="bicubic")[0, 0]
    wanted = large.max() / large.clamp(min=float(large.max()) / 50)
    torch.testing.assert_close(estimator(seen), wanted, rtol=1e-5, atol=1e-5)


def test_a_network_that_gives_depth_although_its_class_gives_disparity(saved, image):
    """As facebook/dpt-dinov2-small-nyu does."""
    folder, _ = saved("dpt")
    relative, metric = DepthEstimator.load(folder), DepthEstimator.load(folder, gives="depth")
    assert (metric.disparity, metric.metric) == (False, True)
    seen = image()
    one, other = relative(seen), metric(seen)
    inside = (one > 1) & (one < 49)  # where nothing is clipped, what is far in one is near in the other
    assert int(inside.sum()) > 100
    torch.testing.assert_close(
        (one * other)[inside], other.max().expand(int(inside.sum())), rtol=1e-4, atol=0
    )


def test_the_closeness_of_a_thing_has_the_right_sign():
    """Something bright is near: the fake says so as disparity, or as depth, and depth comes out alike."""
    seen = torch.zeros(4, 6, 3)
    seen[:, 3:] = 1.0
    bright = seen[..., 0]
    settings = {
        "prepare": lambda given: {"given": given},
        "finish": lambda output, size: output.reshape(size),
    }
    closeness = DepthEstimator(
        "fake", lambda given: given[..., 0] * 3 + 1, **settings, disparity=True, metric=False
    )
    metres = DepthEstimator(
        "fake", lambda given: 8 - 6 * given[..., 0], **settings, disparity=False, metric=True
    )
    for estimator in (closeness, metres):
        depth = estimator(seen)
        assert float(depth[bright == 1].max()) < float(depth[bright == 0].min())
    torch.testing.assert_close(metres(seen), 8 - 6 * bright)
    torch.testing.assert_close(closeness(seen), 4 / (1 + 3 * bright))


def test_disparity_near_zero_and_below_is_far_and_finite():
    depth = disparity_to_depth(torch.tensor([[4.0, 2.0, 0.08], [0.04, 0.0, -3.0]]))
    torch.testing.assert_close(depth, torch.tensor([[1.0, 2.0, 50.0], [50.0, 50.0, 50.0]]))
    with pytest.raises(BadInputError, match="no disparity is above 0"):
        disparity_to_depth(torch.tensor([[0.0, -1.0]]))


def test_depth_pro_is_prepared_and_finished_as_published(saved):
    """Without its processor of transformers, which needs torchvision: closed forms of its two steps."""
    from papertrial.scenes.depth_networks import _finish_depth_pro

    estimator = DepthEstimator.load(saved("depth_pro")[0])
    plain = torch.full((HEIGHT, WIDTH, 3), 51 / 255)
    pixels = estimator.prepare(plain)["pixel_values"]
    assert pixels.shape == (1, 3, 64, 64)
    torch.testing.assert_close(pixels, torch.full_like(pixels, 0.2 * 2 - 1))
    ramp = torch.zeros(HEIGHT, WIDTH, 3)
    ramp[:, WIDTH // 2 :] = 1.0
    halves = estimator.prepare(ramp)["pixel_values"][0, 0, 0]
    assert (float(halves[0]), float(halves[-1])) == (-1.0, 1.0)
    canonical = torch.full((1, 8, 8), 0.25)
    square = SimpleNamespace(predicted_depth=canonical, field_of_view=torch.tensor([90.0]))
    torch.testing.assert_close(
        _finish_depth_pro(square, (5, 7)), torch.full((5, 7), 2.0)
    )  # focal = width / 2
    plain_output = SimpleNamespace(predicted_depth=canonical, field_of_view=None)
    torch.testing.assert_close(_finish_depth_pro(plain_output, (5, 7)), torch.full((5, 7), 4.0))
    sky = SimpleNamespace(predicted_depth=torch.zeros(1, 8, 8), field_of_view=None)
    torch.testing.assert_close(_finish_depth_pro(sky, (2, 2)), torch.full((2, 2), 1e4))


def test_zoedepths_border_is_cut_off():
    from papertrial.scenes.depth_networks import _finish_zoe

    border = int(3 * np.sqrt(32 / 2)), int(3 * np.sqrt(50 / 2))
    assert border == (12, 15)
    inside = torch.rand(32, 50)
    padded = torch.nn.functional.pad(inside, (15, 15, 12, 12), value=9.0)
    output = SimpleNamespace(predicted_depth=padded[None])
    torch.testing.assert_close(_finish_zoe(SimpleNamespace(do_pad=True))(output, (32, 50)), inside)
    whole = SimpleNamespace(predicted_depth=inside[None])
    torch.testing.assert_close(_finish_zoe(SimpleNamespace(do_pad=False))(whole, (32, 50)), inside)


def test_depth_pro_without_a_field_of_view_is_loaded_too(saved, image):
    estimator = DepthEstimator.load(saved("depth_pro without a field of view")[0])
    output = estimator.model(**estimator.prepare(image()))
    assert output.field_of_view is None
    assert estimator.finish(output, (HEIGHT, WIDTH)).shape == (HEIGHT, WIDTH)


def test_one_pixel_wide_images_keep_their_shape():
    from papertrial.scenes.depth_networks import _finish_depth_pro

    output = SimpleNamespace(predicted_depth=torch.rand(1, 4, 4) + 0.1, field_of_view=None)
    assert _finish_depth_pro(output, (3, 1)).shape == (3, 1)


def test_bad_ids_and_folders_say_what_would_work(tmp_path, saved, monkeypatch):
    from papertrial.scenes import depth_networks

    with pytest.raises(BadInputError, match=r"there is no folder '\./nowhere'"):
        DepthEstimator.load("./nowhere")
    with pytest.raises(BadInputError, match=r"no saved model: it has no config\.json"):
        DepthEstimator.load(tmp_path)
    monkeypatch.setattr(depth_networks, "hub_has", lambda name, kind: False)
    with pytest.raises(BadInputError, match="cannot load the depth network 'nobody/nothing-of-the-kind'"):
        DepthEstimator.load("nobody/nothing-of-the-kind")
    folder, _ = saved("dpt")
    with pytest.raises(BadInputError, match=r"gives must be 'disparity' or 'depth' .*, got 'metres'"):
        DepthEstimator.load(folder, gives="metres")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(BadInputError, match="cannot load the depth network"):
        DepthEstimator.load(folder)


def test_another_kind_of_network_is_refused(tmp_path):
    from transformers import ViTConfig

    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(
        BadInputError, match="is a vit, no depth network known here: depth_anything, depth_pro, dpt"
    ):
        DepthEstimator.load(tmp_path)


def test_a_checkpoint_that_lacks_weights_is_refused_but_for_those_that_nothing_uses(saved, image):
    """The published DPT checkpoints lack the first fusion's residual, which has no input."""
    from safetensors.torch import load_file, save_file

    folder, _ = saved("dpt")
    weights = load_file(folder / "model.safetensors")
    before = DepthEstimator.load(folder)(image())
    unused = {
        key: value for key, value in weights.items() if "fusion_stage.layers.0.residual_layer1" not in key
    }
    assert len(unused) < len(weights)
    save_file(unused, folder / "model.safetensors", metadata={"format": "pt"})
    torch.testing.assert_close(DepthEstimator.load(folder)(image()), before)
    lacking = {key: value for key, value in unused.items() if "head" not in key}
    save_file(lacking, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInputError, match="lacks 6 of the network's weights: head"):
        DepthEstimator.load(folder)


@pytest.mark.parametrize(
    "bad", [torch.full((2, 2, 3), 1.5), torch.full((2, 2, 3), torch.nan), torch.zeros(0, 2, 3)]
)
def test_what_is_no_image_is_refused(bad):
    estimator = DepthEstimator(
        "fake", lambda **given: None, lambda given: {}, lambda *given: given, True, False
    )
    with pytest.raises(BadInputError, match="an image"):
        estimator(bad)
