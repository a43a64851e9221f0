"""Posed photographs that a scene is fitted to: checked together, and taken in turn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import check_poses
from papertrial.scenes.colmap import Posed
from papertrial.scenes.fitting import step_generator
from papertrial.scenes.image_losses import check_images


def prepared_views(views: Sequence[Posed], points: Float[Tensor, "n 3"]) -> list[Posed]:
    """Return the views in the precision and on the device of a scene's points.

    Args:
        views: cameras and photographs; sizes may differ.
        points: of the scene, that the cameras shall see.

    Raises:
        BadInputError: no views, photographs that are not of their camera's size or not within 0 and 1, or poses that
            see no point.
    """
    if not views:
        raise BadInputError("fitting needs at least one photograph")
    prepared = [
        Posed(view.camera.to(points.dtype).to(points.device), view.image.to(points)) for view in views
    ]
    for camera, image in prepared:
        check_images(image.new_zeros(camera.height, camera.width, 3), image, camera.name)
    check_poses([view.camera for view in prepared], points.detach())
    return prepared


def view_in_turn(number: int, count: int, seed: int) -> int:
    """Return which of `count` views step `number` takes: all of them in a new order, again and again."""
    around, place = divmod(number, count)
    return int(torch.randperm(count, generator=step_generator(seed, around))[place])
