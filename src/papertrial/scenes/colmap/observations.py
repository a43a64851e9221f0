"""Whether a model's poses fit what its photographs saw."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.colmap.lenses import to_pixels
from papertrial.scenes.colmap.model import CameraRecord, Model

_MOST_ERROR = 0.1  # of the longer side: structure from motion is wrong by a pixel or two
_FEWEST = 8  # observations by which a pose is judged


def check_observations(model: Model) -> None:
    """Raise where points do not fall where photographs saw them: most often poses that were given the wrong way round.

    Models without observations pass.

    Raises:
        BadInputError: half of the observations are off by more than a tenth of the image.
    """
    errors = _errors(model, turned=False)
    if len(errors) < _FEWEST or float(np.median(errors)) <= _MOST_ERROR:
        return
    turned = float(np.median(_errors(model, turned=True)))
    hint = (
        "; inverted, they fit: these are most likely camera-to-world poses, give world-to-camera"
        if turned <= _MOST_ERROR
        else ""
    )
    raise BadInputError(
        f"the poses do not fit the points: half of {len(errors)} observations are off by "
        f"{100 * float(np.median(errors)):.0f} % of the image or more{hint}"
    )


def _errors(model: Model, turned: bool) -> np.ndarray:
    """Return how far each point is shown from where it was seen, as a share of the image's longer side."""
    row_of = {int(number): row for row, number in enumerate(model.cloud.numbers)}
    found = [np.zeros(0)]
    for image in model.images.values():
        lens = model.lenses[image.camera]
        rows = np.array([row_of.get(int(number), -1) for number in image.points], dtype=np.int64)
        seen = rows >= 0
        points = torch.from_numpy(model.cloud.places[rows[seen]])
        view = torch.linalg.inv(image.viewmat()) if turned else image.viewmat()
        shown = _shown(points @ view[:3, :3].T + view[:3, 3], lens)
        away = np.linalg.norm(shown.numpy() - image.places[seen], axis=-1)
        found.append(away / max(lens.width, lens.height))
    return np.concatenate(found)


def _shown(in_camera: Tensor, lens: CameraRecord) -> Tensor:
    """Return pixels; infinitely far away for what lies behind the camera."""
    front = in_camera[:, 2:] > 0
    directions = in_camera[:, :2] / torch.where(front, in_camera[:, 2:], 1.0)
    return torch.where(front, to_pixels(directions, lens), torch.inf)
