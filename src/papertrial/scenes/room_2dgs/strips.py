"""One view of a scene beside its photograph, as a picture."""

from __future__ import annotations

from papertrial.scenes.colmap import Posed
from papertrial.scenes.fitting import Fitted
from papertrial.scenes.pictures import (
    Picture,
    colour_picture,
    depth_picture,
    enlarge,
    normal_picture,
    strip,
)

_PIXELS = 128  # that a small view is enlarged to


def view_strip(fitted: Fitted, view: Posed, near: float | None = None, far: float | None = None) -> Picture:
    """Return a photograph, the scene's rendering, its depth and its normals in the world's frame, side by side.

    Args:
        fitted: the scene.
        view: camera and photograph.
        near: depth that is shown brightest; pictures that are compared need the same.
        far: depth that is shown darkest, likewise.
    """
    seen = fitted.render(view.camera)
    pictures = [
        ("photograph", colour_picture(view.image)),
        ("rendering", colour_picture(seen.colour)),
        ("depth", depth_picture(seen.depth, near, far)),
        ("normals", normal_picture(seen.normals)),
    ]
    factor = max(1, _PIXELS // max(view.camera.width, view.camera.height))
    return strip([(name, enlarge(picture, factor)) for name, picture in pictures])
