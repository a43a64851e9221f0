"""Pictures and videos as small files that every browser shows.

One file has at most `MOST_BYTES`. A picture that would be larger is scaled down by 2, 3, 4, …: every square of
that many pixels becomes its mean. A video that would be larger is first encoded more coarsely, step by step, then
scaled down likewise.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papertrial.errors import BadInputError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MOST_BYTES = 2_000_000
MEDIA_TYPES: Mapping[str, str] = {
    ".png": "image/png",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
"""What the files made here are, by their suffixes."""
FRAMES_A_SECOND = 8.0
_MOST_FRAMES_A_SECOND = 240.0
_BT709 = 1  # in the tables of ISO/IEC 23091-2: matrix, primaries and transfer alike
_LIMITED_RANGE = 1  # as FFmpeg numbers it: 16 to 235


@dataclass(frozen=True)
class Video:
    """Frames to keep, with their rate.

    Attributes:
        frames: (T, H, W, 3) uint8, an array or a tensor.
        fps: frames a second.
    """

    frames: Any
    fps: float = FRAMES_A_SECOND


def encode_picture(picture: Array) -> bytes:
    """Return a picture (H, W, 3) uint8 as PNG: without loss, unless it must be scaled down."""
    content = b""
    for small in _shrinking(picture[None]):
        content = _png(small[0])
        if len(content) <= MOST_BYTES:
            break
    return content


def encode_figure(figure: Any) -> bytes:
    """Return a matplotlib figure as PNG."""
    import numpy as np
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
    if buffer.tell() <= MOST_BYTES:
        return buffer.getvalue()
    return encode_picture(np.asarray(Image.open(buffer).convert("RGB")))


def encode_video(frames: Array, fps: float) -> tuple[str, bytes]:
    """Return the suffix and the content of a video.

    H.264 in MP4 where PyAV offers libx264, otherwise VP9 in WebM. Without PyAV (the extra "scenes" has it), or with
    one that offers neither, it is an animated picture, WebP or else PNG: a trial that has computed for minutes loses
    nothing. All of them are made with one thread, so that the same frames give the same file. Sizes that are odd are
    padded to even ones, which both codecs need, by repeating the last row or column.

    Args:
        frames: (T, H, W, 3) uint8.
        fps: frames a second.

    Raises:
        BadInputError: a rate that is none.
    """
    if not (math.isfinite(fps) and 0 < fps <= _MOST_FRAMES_A_SECOND):
        raise BadInputError(f"fps must lie above 0 and at or below {_MOST_FRAMES_A_SECOND:g}, got {fps}")
    encoder = _encoder()
    content = b""
    for small in _shrinking(frames):
        for quality in encoder.qualities:
            content = encoder.encode(small, fps, quality)
            if len(content) <= MOST_BYTES:
                return encoder.suffix, content
    return encoder.suffix, content


@dataclass(frozen=True)
class _Encoder:
    """One way to write a video: `encode(frames, fps, quality)`, the best quality first."""

    suffix: str
    qualities: tuple[int, ...]
    encode: Callable[[Array, float, int], bytes]


def _encoder() -> _Encoder:
    """Return the best way to write a video here."""
    from PIL import features

    try:
        from av.codec import codecs_available
    except ImportError:
        codecs_available = set()
    if "libx264" in codecs_available:
        return _Encoder(".mp4", (23, 29, 35, 41), _h264)
    if "libvpx-vp9" in codecs_available:
        return _Encoder(".webm", (32, 40, 48, 56), _vp9)
    if features.check("webp"):
        return _Encoder(".webp", (80, 60, 40, 20), _animated_webp)
    return _Encoder(".png", (100,), _animated_png)


def _h264(frames: Array, fps: float, quality: int) -> bytes:
    options = {"crf": str(quality), "preset": "medium"}
    return _movie(frames, fps, "mp4", "libx264", options, {"movflags": "+faststart"})


def _vp9(frames: Array, fps: float, quality: int) -> bytes:
    options = {"crf": str(quality), "b": "0", "cpu-used": "4"}
    return _movie(frames, fps, "webm", "libvpx-vp9", options, {"fflags": "+bitexact"})  # else a random id


def _movie(
    frames: Array,
    fps: float,
    container_format: str,
    codec: str,
    options: dict[str, str],
    container_options: dict[str, str],
) -> bytes:
    import av
    import numpy as np
    from av.video.reformatter import Colorspace

    height, width = frames.shape[1:3]
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with tempfile.TemporaryDirectory() as folder:  # faststart reads back what was written: memory cannot
        path = Path(folder) / "video"
        with av.open(path, "w", format=container_format, options=container_options) as container:
            stream: Any = container.add_stream(
                codec, rate=Fraction(fps).limit_denominator(1000), options=options
            )
            stream.height, stream.width = even.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.thread_count = 1
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED_RANGE
            for frame in even:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                coloured = picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
                container.mux(stream.encode(coloured))
            container.mux(stream.encode())
        return path.read_bytes()


def _animated_webp(frames: Array, fps: float, quality: int) -> bytes:
    return _animation(frames, fps, "WEBP", quality=quality, method=4)


def _animated_png(frames: Array, fps: float, quality: int) -> bytes:
    return _animation(frames, fps, "PNG", optimize=True)


def _animation(frames: Array, fps: float, picture_format: str, **options: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in frames)
    duration = max(1, round(1000 / fps))
    first.save(
        buffer, picture_format, save_all=True, append_images=others, duration=duration, loop=0, **options
    )
    return buffer.getvalue()


def _png(picture: Array) -> bytes:
    import numpy as np
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _shrinking(frames: Array) -> Iterator[Array]:
    """Yield frames (T, H, W, 3) as they are, then with squares of 2, 3, … pixels brought to their mean."""
    import numpy as np
    from PIL import Image

    yield frames
    for step in range(2, max(frames.shape[1:3]) + 1):
        yield np.stack(
            [np.asarray(Image.fromarray(np.ascontiguousarray(one)).reduce(step)) for one in frames]
        )
