"""Pictures of depth, normals and errors, held to matplotlib's own map and to what a reader decodes from the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from papertrial.errors import BadInputError
from papertrial.scenes.pictures import (
    colour_picture,
    depth_picture,
    enlarge,
    error_picture,
    normal_picture,
    strip,
    write_png,
)


def plain(height, width, colour=(10, 20, 30)):
    return np.full((height, width, 3), colour, dtype=np.uint8)


def test_depth_is_matplotlibs_viridis_the_near_bright():
    from matplotlib import colormaps

    depth = np.linspace(1.0, 3.0, 256)[None]
    mapped = depth_picture(depth)
    want = colormaps["viridis"](1 - (depth - 1) / 2, bytes=True)[..., :3]
    # a share on the border of two of the 256 colours may round either way
    assert np.abs(mapped.astype(int) - want).max() <= 4
    assert (mapped[0, 0] == colormaps["viridis"](1.0, bytes=True)[:3]).all()
    assert (mapped[0, -1] == colormaps["viridis"](0.0, bytes=True)[:3]).all()
    luminance = mapped[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) <= 1.0).all(), "brightness falls with distance, up to a step of rounding"


def test_where_there_is_no_depth_the_picture_is_black_and_the_range_is_that_of_the_rest():
    depth = torch.tensor([[2.0, 4.0, 0.0, -1.0, torch.nan, torch.inf]])
    mapped = depth_picture(depth)
    assert (mapped[0, 2:] == 0).all()
    assert (mapped[0, :2] == depth_picture(torch.tensor([[2.0, 4.0]]))[0]).all()
    assert (depth_picture(torch.zeros(2, 3)) == 0).all()
    assert (depth_picture(torch.full((2, 3), 5.0)) == depth_picture(torch.tensor([[5.0, 9.0]]))[0, 0]).all()


def test_with_one_range_equal_depths_have_equal_colours():
    one = depth_picture(torch.tensor([[1.0, 2.0]]), near=1.0, far=4.0)
    other = depth_picture(torch.tensor([[2.0, 9.0]]), near=1.0, far=4.0)
    assert (one[0, 1] == other[0, 0]).all()
    assert (other[0, 1] == depth_picture(torch.tensor([[4.0]]), near=1.0, far=4.0)[0, 0]).all()  # clipped
    beyond = depth_picture(torch.tensor([[1.0, 2.0]]), near=9.0)  # a rendering may lie anywhere
    assert (beyond[0] == one[0, 0]).all()


@pytest.mark.parametrize(("near", "far"), [(3.0, 3.0), (4.0, 3.0), (float("nan"), 3.0)])
def test_a_range_that_is_none_is_refused(near, far):
    with pytest.raises(BadInputError, match="near must lie below far"):
        depth_picture(torch.ones(2, 2), near, far)


def test_normals_have_their_usual_colours():
    normals = torch.tensor([[[0, 0, -1.0], [1, 0, 0], [0, 5.0, 0], [0, 0, 0], [torch.nan, 0, 1]]])
    mapped = normal_picture(normals)
    assert mapped[0].tolist() == [[128, 128, 0], [255, 128, 128], [128, 255, 128], [0, 0, 0], [0, 0, 0]]


def test_every_normal_is_read_back_within_half_a_step():
    vectors = np.random.default_rng(0).normal(size=(8, 9, 3))
    units = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    back = normal_picture(vectors) / 255.0 * 2 - 1
    np.testing.assert_allclose(back, units, atol=1 / 255 + 1e-9)  # half a step of 2 / 255


def test_an_error_is_the_mean_over_channels_on_a_fixed_scale():
    from matplotlib import colormaps

    black, third = torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)
    third[0, 1, 0] = 0.3
    mapped = error_picture(black, third, most=0.2)
    assert (mapped[0, 0] == colormaps["magma"](0.0, bytes=True)[:3]).all()
    assert (mapped[0, 1] == colormaps["magma"](0.5, bytes=True)[:3]).all()  # 0.1 of 0.2
    in_bytes = error_picture(plain(1, 1, (0, 0, 0)), plain(1, 1, (51, 51, 51)), most=0.2)
    assert (in_bytes == colormaps["magma"](1.0, bytes=True)[:3]).all()
    depths = error_picture(np.array([[1.0, np.nan]]), np.array([[1.0, 1.0]]), most=0.5)
    assert (depths[0, 1] == in_bytes[0, 0]).all(), "what is not finite is as wrong as it gets"


def test_errors_of_other_shapes_or_no_scale_are_refused():
    with pytest.raises(BadInputError, match="two images of one shape"):
        error_picture(torch.zeros(2, 2, 3), torch.zeros(2, 3, 3))
    with pytest.raises(BadInputError, match="most must be positive"):
        error_picture(torch.zeros(2, 2, 3), torch.zeros(2, 2, 3), most=0.0)


def test_a_strip_puts_pictures_side_by_side_and_keeps_every_pixel():
    left, right = plain(4, 5, (255, 0, 0)), plain(6, 3, (0, 0, 255))
    row = strip([left, right], gap=2)
    assert row.shape == (6, 10, 3)
    assert (row[:4, :5] == left).all()
    assert (row[:, 7:] == right).all()
    assert (row[:, 5:7] == 128).all()
    assert (strip([left]) == left).all()


def test_a_label_stands_above_its_picture():
    left, right = plain(4, 100, (255, 0, 0)), plain(4, 5, (0, 0, 255))
    row = strip([("2dgs", left), (None, right)])
    top = row.shape[0] - 4
    assert 10 < top < 30
    assert (row[top:, :100] == left).all()
    assert (row[top:, 102:] == right).all()
    assert row[:top, :100].max() > 200, "white on black"
    assert (row[:top, 102:] == 0).all()
    wide = strip([("a name that is wider than its picture", right)])
    assert (wide[-4:, :5] == right).all()
    assert wide.shape[1] > 100


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([], "at least one"),
        ([("a", np.zeros((0, 3, 3), dtype=np.uint8))], "picture 0 of the strip has no pixels"),
    ],
)
def test_a_strip_of_nothing_is_refused(bad, said):
    with pytest.raises(BadInputError, match=said):
        strip(bad)


def test_enlarging_makes_squares():
    small = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = enlarge(small, 3)
    assert large.shape == (6, 6, 3)
    for row in range(6):
        for column in range(6):
            assert (large[row, column] == small[row // 3, column // 3]).all()
    with pytest.raises(BadInputError, match="factor must be at least 1"):
        enlarge(small, 0)


def test_an_image_within_0_and_1_becomes_bytes():
    image = torch.tensor([[[0.0, 0.5, 1.0], [-1.0, 2.0, torch.nan]]], requires_grad=True)
    assert colour_picture(image)[0].tolist() == [[0, 128, 255], [0, 255, 0]]
    assert colour_picture(image.detach().bfloat16())[0].tolist() == [[0, 128, 255], [0, 255, 0]]
    assert (colour_picture(plain(2, 2)) == plain(2, 2)).all()


def test_a_written_picture_is_read_back_and_no_half_file_is_left(tmp_path):
    picture = np.random.default_rng(1).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    path = tmp_path / "deep" / "view.png"
    write_png(path, picture)
    with Image.open(path) as opened:
        assert (opened.mode, opened.format) == ("RGB", "PNG")
        assert (np.asarray(opened) == picture).all()
    write_png(path, picture[:, ::-1])  # over the first, from memory that is not contiguous
    with Image.open(path) as opened:
        assert (np.asarray(opened) == picture[:, ::-1]).all()
    path.unlink()
    path.mkdir()  # a folder in the way: the file cannot be put there
    (path / "full").touch()
    with pytest.raises(OSError, match="irectory"):
        write_png(path, picture)
    assert [one.name for one in path.parent.iterdir()] == ["view.png"]


def test_what_is_no_picture_is_not_written(tmp_path):
    with pytest.raises(BadInputError, match="has no pixels"):
        write_png(tmp_path / "a.png", np.zeros((0, 4, 3), dtype=np.uint8))
