"""Consistency between views: exact planes agree, bent ones do not, and what a step compares."""

from __future__ import annotations

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.multiview import PlaneView, multi_view_loss
from papertrial.scenes.room_2dgs import MultiViewSettings, MultiViewTerm

NOW = MultiViewSettings(start=0)


def make_term(inputs, exact, settings=NOW, count=16, **change):
    """A term whose neighbours are seen exactly, or with their depth multiplied."""
    views = list(inputs.train[:count])
    names = [view.camera.name for view in views]

    def look(camera, number):
        at = names.index(camera.name)
        assert not torch.is_grad_enabled()
        return exact(at, **{name: value(at) for name, value in change.items()})

    return MultiViewTerm(views, look, settings, seed=4)


def test_it_holds_the_view_against_its_neighbour_in_the_cameras_frames(inputs, exact, room):
    """The corridor's loss of the two exact views, put together here by hand; a wall pushed by 5 % costs more."""
    held = make_term(inputs, exact)
    at = next(place for place, other in enumerate(held.neighbours) if other is not None)

    def plane_view(place):
        view = room.train[place].exact
        red, green, blue = view.colour.float().unbind(-1)
        turned = torch.einsum("ij,hwj->hwi", view.camera.rotation, view.normals.float())
        return PlaneView(view.camera, 0.299 * red + 0.587 * green + 0.114 * blue, view.depth.float(), turned)

    expected = multi_view_loss(plane_view(at), plane_view(held.neighbours[at]))
    assert expected.compared > 50
    found = held(0, at, exact(at))["multi_view"]
    assert found.item() == pytest.approx(expected.total.item(), rel=1e-4)  # float32, sums in another order
    geometric = make_term(inputs, exact, MultiViewSettings(start=0, photometric=0.0, most_error=100.0))
    pushed = exact(at, depth=1.05 * room.train[at].exact.depth.float())
    assert geometric(0, at, exact(at))["multi_view"].item() < geometric(0, at, pushed)["multi_view"].item()


def test_gradients_reach_the_view_and_not_its_neighbour(inputs, exact, room):
    held = make_term(inputs, exact)
    at = next(place for place, other in enumerate(held.neighbours) if other is not None)
    depth = (1.01 * room.train[at].exact.depth.float()).requires_grad_()
    held(0, at, exact(at, depth=depth))["multi_view"].backward()
    assert bool(torch.isfinite(depth.grad).all())
    assert bool(depth.grad.any())


def test_it_starts_late_and_needs_a_neighbour(inputs, exact):
    held = make_term(inputs, exact, MultiViewSettings(start=7))
    at = next(place for place, other in enumerate(held.neighbours) if other is not None)
    assert held(6, at, exact(at)) == {}
    assert set(held(7, at, exact(at))) == {"multi_view"}
    held.neighbours[at] = None
    assert held(7, at, exact(at)) == {}
    off = make_term(inputs, exact, MultiViewSettings(start=0, geometric=0.0, photometric=0.0))
    assert off(0, at, exact(at)) == {}


def test_pixels_follow_from_the_step(inputs, exact):
    held = make_term(inputs, exact, MultiViewSettings(start=0, pixels=50))
    camera = inputs.train[0].camera
    first, again, other = held._pixels(camera, 3), held._pixels(camera, 3), held._pixels(camera, 4)
    assert first.shape == (50, 2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(pixel) for pixel in first.tolist()}) == 50
    assert make_term(inputs, exact, MultiViewSettings(pixels=10_000))._pixels(camera, 0) is None


def test_pixels_of_an_oblong_view_lie_inside_it(inputs, exact):
    """All but one of them are drawn: the rightmost column and the lowest row are among them, nothing is beyond."""
    wide = inputs.train[0].camera.resized(24, 5)
    drawn = make_term(inputs, exact, MultiViewSettings(start=0, pixels=24 * 5 - 1))._pixels(wide, 0)
    assert {tuple(pixel) for pixel in drawn.tolist()} < {
        (column + 0.5, row + 0.5) for column in range(24) for row in range(5)
    }
    assert drawn.dtype == wide.intrinsics.dtype


def test_views_that_cannot_be_compared(inputs, exact):
    with pytest.raises(BadInputError, match="at least 2 cameras, got 1"):
        make_term(inputs, exact, count=1)
    with pytest.raises(BadInputError, match=r"none of 16 views has another within 0\.1 degrees"):
        make_term(inputs, exact, MultiViewSettings(most_degrees=0.1))
    with pytest.raises(BadInputError, match="1 pixel or more"):
        MultiViewSettings(pixels=0)
    with pytest.raises(BadInputError, match="must be 0 or more"):
        MultiViewSettings(geometric=-0.1)
