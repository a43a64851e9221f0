"""Turning what a measurement keeps into files: figures, pictures, text, tables, videos."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

from papertrial.errors import BadInputError
from papertrial.trial.media import FRAMES_A_SECOND, Video, encode_figure, encode_picture, encode_video

_NAME = re.compile(r"^[\w][\w .-]*$")
_KINDS = (
    "a matplotlib figure, a str, a list of dicts with equal keys, a picture (H, W, 3) uint8, or frames "
    "(T, H, W, 3) uint8"
)


def encode_artifact(name: str, artifact: object) -> tuple[str, bytes]:
    """Return the file name (with its suffix) and the content of an artifact.

    Args:
        name: a plain name without folders.
        artifact: a matplotlib figure or a picture (H, W, 3) uint8 (PNG), a `str` (text), a list of dicts with
            equal keys (CSV), or frames (T, H, W, 3) uint8 or a `Video` (MP4 where it can be written; see
            `papertrial.trial.media`, also for what happens to large ones). Pictures and frames may be tensors.

    Raises:
        BadInputError: the name is not plain or the artifact is none of these.
    """
    if not _NAME.match(name):
        raise BadInputError(
            f"an artifact needs a plain name (letters, digits, space, '-', '_', '.'), got {name!r}"
        )
    if isinstance(artifact, str):
        return f"{name}.txt", artifact.encode()
    if hasattr(artifact, "savefig"):
        return f"{name}.png", encode_figure(artifact)
    if isinstance(artifact, list) and artifact and all(isinstance(row, dict) for row in artifact):
        return f"{name}.csv", _csv(artifact)
    if isinstance(artifact, Video):
        frames = _pixels(name, artifact.frames, dimensions=(4,))
        suffix, content = encode_video(frames, artifact.fps)
        return f"{name}{suffix}", content
    pixels = _pixels(name, artifact, dimensions=(3, 4))
    if pixels.ndim == 3:
        return f"{name}.png", encode_picture(pixels)
    suffix, content = encode_video(pixels, FRAMES_A_SECOND)
    return f"{name}{suffix}", content


def _pixels(name: str, pixels: Any, dimensions: tuple[int, ...]) -> Any:
    """Return a picture or frames as an array on the CPU."""
    array = pixels.detach().cpu().numpy() if hasattr(pixels, "detach") else pixels
    shape, kind = getattr(array, "shape", None), getattr(array, "dtype", None)
    if shape is None or kind is None:
        raise BadInputError(f"artifact {name!r} is a {type(pixels).__name__}; keep {_KINDS}")
    if len(shape) not in dimensions or shape[-1] != 3 or 0 in shape or str(kind) != "uint8":
        raise BadInputError(
            f"artifact {name!r} is a {type(pixels).__name__} of {kind} and shape {tuple(shape)}; keep {_KINDS}"
        )
    return array


def _csv(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()
