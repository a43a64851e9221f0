"""The loss by which neighbouring views must agree.

Source: arXiv 2412.03428, section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import PIXEL_CENTRE, Camera
from papertrial.scenes.colmap import Posed
from papertrial.scenes.fitting import step_generator
from papertrial.scenes.multiview import PlaneView, multi_view_loss, nearest_neighbours
from papertrial.scenes.room_2dgs.settings import MultiViewSettings
from papertrial.scenes.surface_views import SurfaceShape, SurfaceView

Look = Callable[[Camera, int], SurfaceShape]
"""What a camera sees of the scene's shape in a step."""

_GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601


class MultiViewTerm:
    """Holds a view's planes against its neighbour's, and its patches against the neighbour's photograph."""

    def __init__(
        self, views: Sequence[Posed], look: Look, settings: MultiViewSettings | None = None, seed: int = 0
    ) -> None:
        """Find the neighbour of every view.

        Args:
            views: to train on.
            look: renders the neighbour; called without gradients.
            settings: weights and steps.
            seed: of the pixels that are drawn.

        Raises:
            BadInputError: fewer than two views, or none with a neighbour that looks nearly the same way.
        """
        self.settings = settings or MultiViewSettings()
        cameras = [view.camera for view in views]
        self.neighbours = nearest_neighbours(cameras, self.settings.most_degrees)
        if all(neighbour is None for neighbour in self.neighbours):
            raise BadInputError(
                f"none of {len(views)} views has another within {self.settings.most_degrees} degrees: "
                "consistency between views needs overlapping ones; give more views or a larger angle"
            )
        self._cameras, self._look, self._seed = cameras, look, seed
        self._greys = [view.image @ view.image.new_tensor(_GREY) for view in views]

    def __call__(self, number: int, at: int, view: SurfaceView) -> dict[str, Tensor]:
        """Return the weighted loss of the view in place `at`; none before its start or without a neighbour."""
        settings, other = self.settings, self.neighbours[at]
        if number < settings.start or other is None or not settings.geometric + settings.photometric:
            return {}
        with torch.no_grad():
            seen = self._look(self._cameras[other], number)
        loss = multi_view_loss(
            self._planes(view, at),
            self._planes(seen, other),
            geometric_weight=settings.geometric,
            photometric_weight=settings.photometric,
            most_error=settings.most_error,
            patch=settings.patch,
            pixels=self._pixels(view.camera, number),
        )
        return {"multi_view": loss.total}

    def _planes(self, view: SurfaceView | SurfaceShape, at: int) -> PlaneView:
        in_camera = view.normals @ view.camera.rotation.T
        return PlaneView(view.camera, self._greys[at].to(view.depth), view.depth, in_camera)

    def _pixels(self, camera: Camera, number: int) -> Tensor | None:
        """Return the centres of the pixels that a step compares; None for all."""
        total, wanted = camera.width * camera.height, self.settings.pixels
        if wanted is None or wanted >= total:
            return None
        chosen = torch.randperm(total, generator=step_generator(self._seed, number))[:wanted]
        places = torch.stack([chosen % camera.width, chosen // camera.width], dim=-1)
        return places.to(camera.intrinsics) + PIXEL_CENTRE
