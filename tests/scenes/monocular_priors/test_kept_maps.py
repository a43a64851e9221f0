"""Estimates of depth and normals: what they are checked for, and how they are kept beside a capture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.monocular_priors import (
    DepthEstimator,
    checked_depth,
    checked_normals,
    keep_depths,
    keep_normals,
)

HEIGHT, WIDTH = 30, 44  # of the fixture `image`


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        (torch.rand(4, 5), r"gave depth of shape \(4, 5\), the image has 30 x 44"),
        (torch.full((HEIGHT, WIDTH), torch.inf), "gave 1320 numbers that are not finite"),
        (torch.rand(HEIGHT, WIDTH) - 0.5, "gave depths down to -0"),
        (torch.ones(HEIGHT, WIDTH), "gave the depth 1 everywhere"),
    ],
)
def test_a_depth_that_is_none_names_its_maker(depth, said, image):
    with pytest.raises(BadInputError, match=f"my network {said}"):
        checked_depth(depth, image(), "my network")


def facing(height=HEIGHT, width=WIDTH):
    vectors = torch.randn(height, width, 3, generator=torch.Generator().manual_seed(2))
    vectors[..., 2] = -vectors[..., 2].abs()
    return torch.nn.functional.normalize(vectors, dim=-1)


def test_normals_are_checked_and_brought_to_length_one(image):
    normals = facing()
    normals[0, 0] = 0
    found = checked_normals((normals * 1.01).half(), image(), "mine")
    torch.testing.assert_close(found, normals, rtol=0, atol=2e-3)  # of half precision
    lengths = found.norm(dim=-1)
    assert float(lengths[0, 0]) == 0
    torch.testing.assert_close(lengths.flatten()[1:], torch.ones(HEIGHT * WIDTH - 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda normals: normals[:-1], r"normals of shape \(29, 44, 3\), the image has 30 x 44 x 3"),
        (lambda normals: normals * torch.nan, "not finite"),
        (lambda normals: normals * 127, "of length 127 at row 0, column 0"),
        (lambda normals: (normals + 1) / 2, "of length .* at row 0, column 0"),  # colours instead of normals
        (lambda normals: normals * torch.tensor([1.0, -1.0, -1.0]), "mostly face away from the camera"),
    ],
)
def test_normals_that_are_none_name_their_maker(change, said, image):
    with pytest.raises(BadInputError, match=f"mine gave .*{said}"):
        checked_normals(change(facing()), image(), "mine")


def asked_of(estimates):
    """Return an estimator that counts, with a name of its own."""

    def luminance(seen):
        estimates.append(tuple(seen.shape))
        return 1 + seen.mean(-1)

    return luminance


def test_depths_are_made_once_and_kept_beside_the_capture(tmp_path, image):
    estimates = []
    images = [("frame_0.png", image(0)), ("deep/frame_1.jpg", image(1, 7, 9))]
    assert keep_depths(images, asked_of(estimates), tmp_path) == 2
    kept = np.load(tmp_path / "depth" / "deep" / "frame_1.jpg.npy")
    assert (kept.dtype, kept.shape) == (np.float32, (7, 9))
    np.testing.assert_allclose(kept, 1 + image(1, 7, 9).mean(-1).numpy(), rtol=1e-6)
    assert keep_depths([*images, ("frame_2.png", image(2))], asked_of(estimates), tmp_path) == 1
    assert len(estimates) == 3
    np.save(
        tmp_path / "depth" / "frame_3.npy", np.ones((2, 2))
    )  # put there by hand, without the image's suffix
    assert keep_depths([("frame_3.png", image(3))], asked_of(estimates), tmp_path) == 0
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        "depth/estimator.json",
        "depth/frame_0.png.npy",
        "depth/deep/frame_1.jpg.npy",
        "depth/frame_2.png.npy",
        "depth/frame_3.npy",
    }


def test_maps_of_two_estimators_are_not_mixed(tmp_path, image):
    keep_depths([("a.png", image())], asked_of([]), tmp_path)
    other = DepthEstimator("another", None, lambda seen: {}, lambda output, size: output, True, False)
    with pytest.raises(BadInputError, match=r"holds maps by .*luminance, now another is asked for the rest"):
        keep_depths([("b.png", image())], other, tmp_path)
    (tmp_path / "depth" / "estimator.json").write_text("[]")
    with pytest.raises(BadInputError, match="is damaged"):
        keep_depths([("b.png", image())], asked_of([]), tmp_path)


@pytest.mark.parametrize("name", ["../outside.png", "/etc/outside.png", "a/../../outside.png", ""])
def test_a_name_cannot_lead_out_of_the_folder(tmp_path, name, image):
    with pytest.raises(BadInputError, match="leads elsewhere"):
        keep_depths([(name, image())], asked_of([]), tmp_path / "capture")
    assert not any(tmp_path.rglob("*.npy"))


def test_a_wrong_estimate_is_not_kept(tmp_path, image):
    with pytest.raises(
        BadInputError, match=r"constant.*, asked about image 'a.png', gave the depth 2 everywhere"
    ):
        keep_depths([("a.png", image())], constant, tmp_path)
    assert not any(tmp_path.rglob("*.npy"))


def constant(seen):
    return torch.full(seen.shape[:2], 2.0)


def test_normals_are_kept_likewise(tmp_path, image):
    normals = facing()
    assert keep_normals([("a.png", image())], lambda seen: normals, tmp_path) == 1
    assert keep_normals([("a.png", image())], lambda seen: normals, tmp_path) == 0
    np.testing.assert_allclose(np.load(tmp_path / "normal" / "a.png.npy"), normals.numpy(), atol=1e-6)
