"""Stills that stand in a video's place until it plays, and in print."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path

MOST_SIDE = 480  # pixels of the longer side: sheets show videos at most 352 wide
MOST_BYTES = 16_000
_QUALITIES = (80, 60, 40, 20)


def poster(video: Path) -> str | None:
    """Return a video's first frame as the address of a picture: a WebP (or else a JPEG) of at most 16 kB, in base64.

    None where PyAV is not installed (the extra "scenes" has it) or the file cannot be decoded: a page is worth showing
    without it.
    """
    return _poster(video, video.stat().st_mtime_ns)


@lru_cache(maxsize=512)
def _poster(video: Path, changed: int) -> str | None:
    """Return the still of a file as it was when it last changed."""
    from PIL import features

    content = _first_frame(video)
    if content is None:
        return None
    kind = "webp" if features.check("webp") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(_small(content, kind)).decode()}"


def _first_frame(video: Path) -> bytes | None:
    """Return the first frame as PNG."""
    try:
        import av
    except ImportError:
        return None
    try:
        with av.open(video) as container:
            for frame in container.decode(video=0):
                buffer = io.BytesIO()
                frame.to_image().save(buffer, "PNG", compress_level=1)
                return buffer.getvalue()
    except (av.error.FFmpegError, IndexError):  # damaged, or without a stream of pictures
        return None
    return None


def _small(picture: bytes, kind: str) -> bytes:
    """Return a picture no larger than allowed: first coarser, then in halves."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail((MOST_SIDE, MOST_SIDE))
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, kind.upper(), quality=quality)
            if buffer.tell() <= MOST_BYTES or max(image.size) <= 2:
                return buffer.getvalue()
        image = image.resize((max(1, image.width // 2), max(1, image.height // 2)))
