"""Lenses that bend lines: COLMAP's own numbers, scalar formulas, and photographs bent and straightened again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from papertrial.errors import BadInputError
from papertrial.scenes.colmap import CameraRecord, Photograph, load_photographs
from papertrial.scenes.colmap.lenses import distort, pinhole_for, resized, to_pixels, undistort

DIRECTIONS = ((0.1, -0.2), (0.4, 0.3), (-0.7, 0.5), (0.0, 0.0))
# pycolmap 4.2.1: Camera(model=NAME, width=640, height=480, params=…).img_from_cam([[x, y, 1], …]), to 1e-6 pixels
COLMAPS = {
    "SIMPLE_PINHOLE": ((500, 320, 240), [[370.0, 140.0], [520.0, 390.0], [-30.0, 490.0], [320, 240]]),
    "PINHOLE": ((500, 510, 320, 240), [[370.0, 138.0], [520.0, 393.0], [-30.0, 495.0], [320, 240]]),
    "SIMPLE_RADIAL": (
        (500, 320, 240, -0.1),
        [[369.75, 140.5], [515.0, 386.25], [-4.1, 471.5], [320, 240]],
    ),
    "RADIAL": (
        (500, 320, 240, -0.1, 0.03),
        [[369.75375, 140.4925], [515.375, 386.53125], [-9.8498, 475.607], [320, 240]],
    ),
    "OPENCV": (
        (500, 510, 320, 240, -0.1, 0.03, 0.002, -0.003),
        [[369.60875, 138.69615], [514.76, 389.533275], [-13.1298, 482.65494], [320, 240]],
    ),
    "OPENCV_FISHEYE": (
        (500, 510, 320, 240, -0.05, 0.02, -0.01, 0.004),
        [[369.074028, 139.888983], [503.620214, 380.469463], [37.077714, 446.129094], [320, 240]],
    ),
    "FULL_OPENCV": (
        (500, 510, 320, 240, -0.1, 0.03, 0.002, -0.003, 0.01, 0.05, -0.02, 0.005),
        [[369.487183, 138.944147], [512.602458, 387.882756], [-5.501985, 477.097532], [320, 240]],
    ),
    "FOV": (
        (500, 510, 320, 240, 0.9),
        [[372.860471, 132.16464], [520.0, 393.0], [6.528806, 468.386155], [320, 240]],
    ),
    "SIMPLE_RADIAL_FISHEYE": (
        (500, 320, 240, -0.05),
        [[369.071778, 141.856443], [503.465645, 377.599234], [38.253536, 441.247474], [320, 240]],
    ),
    "RADIAL_FISHEYE": (
        (500, 320, 240, -0.05, 0.02),
        [[369.074083, 141.851835], [503.637053, 377.72779], [36.781186, 442.299153], [320, 240]],
    ),
    "THIN_PRISM_FISHEYE": (
        (500, 510, 320, 240, -0.05, 0.02, 0.002, -0.003, -0.01, 0.004, 0.006, -0.007),
        [[369.078867, 139.903792], [503.736297, 379.763419], [36.354802, 445.920404], [320, 240]],
    ),
}


def record(name, width=640, height=480):
    return CameraRecord(name, width, height, tuple(map(float, COLMAPS[name][0])))


@pytest.mark.parametrize("name", COLMAPS)
def test_lenses_are_colmaps(name):
    found = to_pixels(torch.tensor(DIRECTIONS, dtype=torch.float64), record(name))
    expected = torch.tensor(COLMAPS[name][1], dtype=torch.float64)
    torch.testing.assert_close(
        found, expected, atol=1e-6, rtol=0.0
    )  # as far as the numbers were written down


def by_hand(name, u, v, extra):
    """The formulas again, number by number."""
    squared = u * u + v * v
    radius = math.sqrt(squared)
    angle = math.atan(radius)
    if name == "FULL_OPENCV":
        k1, k2, p1, p2, k3, k4, k5, k6 = extra
        share = (1 + k1 * squared + k2 * squared**2 + k3 * squared**3) / (
            1 + k4 * squared + k5 * squared**2 + k6 * squared**3
        )
        return (
            u * share + 2 * p1 * u * v + p2 * (squared + 2 * u * u),
            v * share + 2 * p2 * u * v + p1 * (squared + 2 * v * v),
        )
    if name == "OPENCV_FISHEYE":
        bent = angle * (1 + sum(k * angle ** (2 * place) for place, k in enumerate(extra, start=1)))
        return u * bent / radius, v * bent / radius
    if name == "FOV":
        bent = math.atan(2 * radius * math.tan(extra[0] / 2)) / extra[0]
        return u * bent / radius, v * bent / radius
    k1, k2, p1, p2, k3, k4, sx, sy = extra
    a, b = u * angle / radius, v * angle / radius
    r = a * a + b * b
    share = 1 + k1 * r + k2 * r**2 + k3 * r**3 + k4 * r**4
    return (
        a * share + 2 * p1 * a * b + p2 * (r + 2 * a * a) + sx * r,
        b * share + 2 * p2 * a * b + p1 * (r + 2 * b * b) + sy * r,
    )


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["FULL_OPENCV", "OPENCV_FISHEYE", "FOV", "THIN_PRISM_FISHEYE"]),
    u=st.floats(-1.2, 1.2).filter(lambda x: abs(x) > 1e-3),
    v=st.floats(-1.2, 1.2),
    data=st.data(),
)
def test_formulas_hold_number_by_number(name, u, v, data):
    counts = {"FULL_OPENCV": 8, "OPENCV_FISHEYE": 4, "FOV": 1, "THIN_PRISM_FISHEYE": 8}
    low, high = (0.1, 1.5) if name == "FOV" else (-0.1, 0.1)
    extra = data.draw(st.lists(st.floats(low, high), min_size=counts[name], max_size=counts[name]))
    lens = CameraRecord(name, 640, 480, (500.0, 500.0, 320.0, 240.0, *extra))
    found = distort(torch.tensor([[u, v]], dtype=torch.float64), lens)[0]
    expected = torch.tensor(by_hand(name, u, v, extra), dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


def test_the_axis_is_where_it_was():
    for name in COLMAPS:
        assert distort(torch.zeros(1, 2, dtype=torch.float64), record(name)).abs().max() == 0


def stripes(x, y):
    """A smooth pattern of straight lines, in directions x / z and y / z."""
    return 0.5 + 0.5 * torch.sin(9 * (x + 0.4 * y)), 0.5 + 0.5 * torch.cos(7 * (y - 0.3 * x))


def photographed(lens):
    """Return what a lens would take of the stripes, by inverting its formula with Newton's method."""
    rows, columns = torch.meshgrid(
        torch.arange(lens.height, dtype=torch.float64) + 0.5,
        torch.arange(lens.width, dtype=torch.float64) + 0.5,
        indexing="ij",
    )
    wanted = torch.stack([columns, rows], dim=-1).reshape(-1, 2)
    points = (wanted - torch.tensor(lens.centre)) / torch.tensor(lens.focal, dtype=torch.float64)
    for _ in range(30):
        points = points.detach().requires_grad_()
        found = to_pixels(points, lens)
        (across,) = torch.autograd.grad(found[:, 0].sum(), points, retain_graph=True)
        (down,) = torch.autograd.grad(found[:, 1].sum(), points)
        step = torch.linalg.solve(torch.stack([across, down], dim=1), (wanted - found)[:, :, None])
        points = points.detach() + 0.7 * step[:, :, 0].detach()
    assert (to_pixels(points, lens) - wanted).abs().max() < 1e-6
    red, green = stripes(*points.unbind(-1))
    return torch.stack([red, green, red * green], dim=-1).reshape(lens.height, lens.width, 3).float()


BENT = {
    "SIMPLE_RADIAL": (120.0, 64.0, 48.0, -0.15),
    "RADIAL": (120.0, 62.0, 49.0, 0.12, 0.02),
    "OPENCV": (120.0, 118.0, 64.0, 48.0, -0.15, 0.05, 0.004, -0.003),
    "FULL_OPENCV": (120.0, 118.0, 64.0, 48.0, -0.1, 0.03, 0.002, -0.003, 0.01, 0.05, -0.02, 0.005),
    "OPENCV_FISHEYE": (110.0, 112.0, 64.0, 48.0, -0.05, 0.02, -0.01, 0.004),
    "SIMPLE_RADIAL_FISHEYE": (110.0, 64.0, 48.0, -0.05),
    "RADIAL_FISHEYE": (110.0, 64.0, 48.0, 0.05, 0.02),
    "FOV": (120.0, 120.0, 64.0, 48.0, 0.9),
    "THIN_PRISM_FISHEYE": (
        110.0,
        112.0,
        64.0,
        48.0,
        -0.05,
        0.02,
        0.002,
        -0.003,
        -0.01,
        0.004,
        0.006,
        -0.007,
    ),
}


@pytest.mark.parametrize("name", BENT)
def test_lines_that_a_lens_bent_are_straight_again(name):
    lens = CameraRecord(name, 128, 96, BENT[name])
    pinhole = pinhole_for(lens)
    taken = photographed(lens)
    found = undistort(taken, lens, pinhole)
    truth = photographed(CameraRecord("PINHOLE", 128, 96, pinhole.parameters))
    inner = (slice(2, -2), slice(2, -2))
    # bilinear sampling of waves of 80 pixels and more is within 1e-3 or so; unbent lines differ by 0.05 and more
    assert (found - truth)[inner].abs().max() < 4e-3
    assert (taken - truth)[inner].abs().max() > 0.03


def test_what_a_pinhole_shows_was_photographed():
    # barrel distortion draws the border in: the pinhole of the same focal length sees less
    barrel = CameraRecord("SIMPLE_RADIAL", 128, 96, (120.0, 64.0, 48.0, -0.15))
    assert pinhole_for(barrel).parameters == (120.0, 120.0, 64.0, 48.0)
    # pincushion distortion pushes it out: by 1 + k r² at the corner, r of the zoomed pinhole
    pincushion = CameraRecord("SIMPLE_RADIAL", 128, 96, (120.0, 64.0, 48.0, 0.15))
    zoom = pinhole_for(pincushion).parameters[0] / 120
    corner = (64**2 + 48**2) / (120 * zoom) ** 2
    assert (1 + 0.15 * corner) / zoom == pytest.approx(1.0, abs=1e-3)
    corners = torch.tensor([[-64.0, -48.0], [64.0, 48.0]], dtype=torch.float64) / (120 * zoom)
    found = to_pixels(corners, pincushion)
    torch.testing.assert_close(
        found, torch.tensor([[0.0, 0.0], [128.0, 96.0]], dtype=torch.float64), atol=0.02, rtol=0
    )
    straight = CameraRecord("OPENCV", 8, 6, (5.0, 5.0, 4.0, 3.0, 0.0, 0.0, 0.0, 0.0))
    assert pinhole_for(straight) is straight


def test_formulas_that_fold_back_are_not_followed():
    # x (1 - 0.8 r²) turns round at r = 0.645: within 128 pixels of focal length 60 the corner is at r = 1.3
    folding = CameraRecord("SIMPLE_RADIAL", 128, 96, (60.0, 64.0, 48.0, -0.8))
    focal = pinhole_for(folding).parameters[0]
    assert math.hypot(64, 48) / focal == pytest.approx(1 / math.sqrt(3 * 0.8), rel=1e-3)
    with pytest.raises(BadInputError, match=r"distortion of SIMPLE_RADIAL .* cannot be undone"):
        pinhole_for(CameraRecord("SIMPLE_RADIAL", 128, 96, (60.0, 64.0, 48.0, -80.0)))


def test_shrunk_lenses_bend_as_before():
    for name in COLMAPS:
        points = torch.tensor(DIRECTIONS, dtype=torch.float64)
        large, small = record(name), resized(record(name), 160, 120)
        torch.testing.assert_close(to_pixels(points, small), to_pixels(points, large) / 4)


def test_photographs_come_straight_from_their_files(tmp_path):
    lens = CameraRecord("OPENCV", 128, 96, BENT["OPENCV"])
    taken = photographed(lens)
    Image.fromarray((taken.numpy() * 255).round().astype(np.uint8)).save(tmp_path / "a.png")
    view = torch.eye(4, dtype=torch.float64)
    ((camera, image),) = load_photographs([Photograph("a.png", lens, view)], tmp_path)
    assert camera.intrinsics.tolist() == [[120, 0, 64], [0, 118, 48], [0, 0, 1]]
    truth = photographed(CameraRecord("PINHOLE", 128, 96, pinhole_for(lens).parameters))
    # as above, and half a level of rounding to bytes
    assert (image - truth)[2:-2, 2:-2].abs().max() < 4e-3 + 0.5 / 255
    ((camera, image),) = load_photographs([Photograph("a.png", lens, view)], tmp_path, longest=64)
    assert (camera.width, camera.height, tuple(image.shape)) == (64, 48, (48, 64, 3))
    assert camera.intrinsics.tolist() == [[60, 0, 32], [0, 59, 24], [0, 0, 1]]


def test_beyond_a_photograph_its_border_goes_on():
    lens = CameraRecord("SIMPLE_RADIAL", 8, 6, (8.0, 4.0, 3.0, 0.1))
    wide = CameraRecord("PINHOLE", 8, 6, (4.0, 4.0, 4.0, 3.0))  # sees twice as far to each side
    assert torch.equal(undistort(torch.ones(6, 8, 3), lens, wide), torch.ones(6, 8, 3))


def test_images_of_another_size_are_refused():
    lens = CameraRecord("SIMPLE_RADIAL", 8, 6, (5.0, 4.0, 3.0, 0.1))
    with pytest.raises(BadInputError, match="6 x 8 pixels is not of a lens with 8 x 6"):
        undistort(torch.zeros(8, 6, 3), lens, pinhole_for(lens))


def test_transparent_and_deep_photographs(tmp_path):
    lens, view = CameraRecord("PINHOLE", 2, 1, (1.0, 1.0, 1.0, 0.5)), torch.eye(4, dtype=torch.float64)
    half = np.array([[[255, 255, 255, 128], [255, 0, 0, 0]]], dtype=np.uint8)
    Image.fromarray(half).save(tmp_path / "a.png")
    ((_, image),) = load_photographs([Photograph("a.png", lens, view)], tmp_path)
    assert (image * 255).round().tolist() == [[[128, 128, 128], [0, 0, 0]]]  # before black
    Image.fromarray(np.array([[1000, 60000]], dtype=np.uint16)).save(tmp_path / "b.png")
    with pytest.raises(BadInputError, match=r"'b\.png' has more than 8 bits a channel"):
        load_photographs([Photograph("b.png", lens, view)], tmp_path)
