"""Inputs on disk: a made room as it was, and a capture as COLMAP and prior networks leave it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.room_2dgs.inputs import load_inputs, of_capture, save_inputs


def test_a_made_room_comes_back_as_it_was(inputs, tmp_path):
    save_inputs(inputs, tmp_path / "inputs.safetensors")
    again = load_inputs(tmp_path / "inputs.safetensors")
    for name in ("points", "colours", "track_lengths", "truth"):
        assert torch.equal(getattr(inputs, name), getattr(again, name))
    for ours, theirs in ((inputs.train, again.train), (inputs.test, again.test)):
        for one, other in zip(ours, theirs, strict=True):
            assert one.camera.name == other.camera.name
            assert torch.equal(one.camera.viewmat, other.camera.viewmat)
            assert torch.equal(one.image, other.image)
    for one, other in zip(inputs.priors, again.priors, strict=True):
        assert torch.equal(one.depth, other.depth)
        assert torch.equal(one.normals, other.normals)


def test_depth_priors_of_a_made_room_lie_within_0_and_1(inputs):
    for prior in inputs.priors:
        assert (float(prior.depth.min()), float(prior.depth.max())) == (0.0, 1.0)


def test_a_capture_is_read_with_priors_and_truth(room, write_capture, tmp_path):
    folder = write_capture(tmp_path / "capture")
    read = of_capture(folder, 4, truth=folder / "truth.ply")
    held = [view.camera.name for view in read.test]
    assert held == ["train_000.png", "train_004.png", "train_008.png", "train_012.png"]
    names = [view.camera.name for view in read.train]
    assert len(names) == 12
    for view, prior in zip(read.train, read.priors, strict=True):
        made = next(one for one in room.train if f"{one.exact.camera.name}.png" == view.camera.name)
        torch.testing.assert_close(view.camera.viewmat, made.exact.camera.viewmat, atol=1e-5, rtol=0)
        torch.testing.assert_close(view.image, made.exact.colour.float(), atol=0.5 / 255 + 1e-6, rtol=0)
        torch.testing.assert_close(prior.depth, made.prior_depth)
        torch.testing.assert_close(prior.normals, made.prior_normals, atol=1e-5, rtol=0)
    assert torch.equal(read.track_lengths, room.cloud.track_lengths)
    torch.testing.assert_close(read.truth, room.truth)


def test_a_capture_without_priors_says_where_they_belong(write_capture, tmp_path):
    folder = write_capture(tmp_path / "capture", priors=False)
    with pytest.raises(BadInputError, match=r"has no priors: put depth/NAME\.npy"):
        of_capture(folder, 4)


def test_a_prior_of_another_size_names_its_file(write_capture, tmp_path):
    folder = write_capture(tmp_path / "capture")
    np.save(folder / "depth" / "train_001.npy", np.ones((7, 5), dtype=np.float32))
    with pytest.raises(BadInputError, match=r"train_001\.npy is 5 x 7 pixels"):
        of_capture(folder, 0)


def test_inputs_without_truth_are_no_made_room(inputs, tmp_path):
    with pytest.raises(BadInputError, match="have no truth"):
        save_inputs(replace(inputs, truth=None), tmp_path / "inputs.safetensors")
