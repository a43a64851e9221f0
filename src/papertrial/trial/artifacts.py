"""Turning what a measurement keeps into files: figures, text, tables, videos."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

from papertrial.errors import BadInputError, MissingExtraError

_NAME = re.compile(r"^[\w][\w .-]*$")


def encode_artifact(name: str, artifact: object) -> tuple[str, bytes]:
    """Return the file name (with its suffix) and the content of an artifact.

    Args:
        name: a plain name without folders.
        artifact: a matplotlib figure (PNG), a `str` (text), a list of dicts with equal keys (CSV), or
            frames (T, H, W, 3) uint8 (MP4).

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
        buffer = io.BytesIO()
        artifact.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
        return f"{name}.png", buffer.getvalue()
    if isinstance(artifact, list) and artifact and all(isinstance(row, dict) for row in artifact):
        return f"{name}.csv", _csv(artifact)
    if getattr(artifact, "ndim", None) == 4:
        return f"{name}.mp4", _video(artifact)
    raise BadInputError(
        f"artifact {name!r} is a {type(artifact).__name__}; keep a matplotlib figure, a str, a list of "
        "dicts with equal keys, or frames (T, H, W, 3) uint8"
    )


def _csv(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _video(frames: Any, fps: int = 8) -> bytes:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av (PyAV), which writes videos,", "generation") from error
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame[: stream.height, : stream.width], format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return buffer.getvalue()
