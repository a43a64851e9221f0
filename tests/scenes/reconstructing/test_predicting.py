"""Priors that networks make of a capture's views: asked once each, kept, and used."""

from __future__ import annotations

import json

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.monocular_priors import DepthEstimator
from papertrial.scenes.reconstructing import (
    load_capture,
    predict_priors,
    predicting,
    read_priors,
    write_priors,
)
from papertrial.scenes.reconstructing.loading import Loading


@pytest.fixture
def network(tmp_path):
    """Return the folder of a tiny random Depth Anything (relative), saved as its checkpoints are."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=28,
        patch_size=14,
        out_indices=[1, 2],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[16, 16],
        fusion_hidden_size=16,
        head_hidden_size=8,
        reassemble_factors=[1, 0.5],
    )
    model = DepthAnythingForDepthEstimation(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)  # random networks say nearly the same everywhere
    folder = tmp_path / "network"
    model.save_pretrained(folder)
    processor = {
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": 28, "width": 28},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": 14,
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def test_networks_are_asked_about_every_view_once(network, photographed, monkeypatch, tmp_path):
    capture = load_capture(photographed(tmp_path / "room"), None)
    told = []
    found = predict_priors(
        capture, tmp_path / "priors", depth_model=str(network), normal_model=None, tell=told.append
    )
    assert (found.counts, found.origin, told) == ((8, 0), str(network), ["predicting depth"])
    estimator = DepthEstimator.load(network)
    for view, depth in zip(capture.views, found.depths, strict=True):
        assert torch.equal(depth, estimator(view.image))

    def never(self, image):
        raise AssertionError("the maps are there already")

    monkeypatch.setattr(DepthEstimator, "__call__", never)
    again = predict_priors(capture, tmp_path / "priors", depth_model=str(network), normal_model=None)
    assert all(torch.equal(one, two) for one, two in zip(found.depths, again.depths, strict=True))


class Slope:
    """An estimator whose depth grows to the right, or whose normals face the camera."""

    name = "slope"

    def __init__(self, kind="depth"):
        self.kind, self.sizes = kind, []

    def __call__(self, image):
        self.sizes.append(tuple(image.shape[:2]))
        if self.kind == "normals":
            return torch.tensor([0.0, 0.0, -1.0]).expand(*image.shape)
        return torch.linspace(1, 2, image.shape[1]).expand(image.shape[0], -1)


@pytest.mark.parametrize("images", ["images", "."])
def test_priors_are_written_beside_the_photographs_as_they_were_taken(
    images, photographed, monkeypatch, tmp_path
):
    folder = photographed(tmp_path / "room", model="sparse/0")
    if images == ".":
        for path in (folder / "images").iterdir():
            path.rename(folder / path.name)
        (folder / "images").rmdir()
    depth, normals = Slope(), Slope("normals")
    monkeypatch.setattr(DepthEstimator, "load", lambda name, device: depth)
    monkeypatch.setattr(predicting.MarigoldNormals, "load", lambda name, device: normals)
    told = []
    made = write_priors(folder, depth_model="a/depth", normal_model="some/normals", tell=told.append)
    assert (made, told) == ((8, 8), ["predicting depth", "predicting normals"])
    assert set(depth.sizes) == set(normals.sizes) == {(24, 24)}
    found = read_priors(load_capture(folder, None, Loading(longest=12)))
    assert (found.origin, found.counts) == ("files", (8, 8))
    assert found.depths[0].shape == (12, 12)
    (folder / "depth" / "train_003.png.npy").unlink()
    assert write_priors(folder, depth_model="a/depth") == (1, 0)
    assert len(depth.sizes) == 9


def test_priors_that_cannot_be_written(photographed, tmp_path):
    with pytest.raises(BadInputError, match="name a network to ask"):
        write_priors(photographed(tmp_path / "room"))
    with pytest.raises(BadInputError, match=r"there are no photographs in .*nowhere"):
        write_priors(tmp_path / "nowhere", depth_model="a/depth")


def test_pipelines_are_told_from_networks(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        predicting.MarigoldDepth, "load", lambda name, device: asked.append(("marigold", name)) or len
    )
    monkeypatch.setattr(DepthEstimator, "load", lambda name, device: asked.append(("network", name)) or len)
    (tmp_path / "model_index.json").write_text("{}")
    for name in ("prs-eth/marigold-depth-v1-1", str(tmp_path), "depth-anything/Depth-Anything-V2-Small-hf"):
        predicting._depth_estimator(name, "cpu")
    assert [kind for kind, _ in asked] == ["marigold", "marigold", "network"]
