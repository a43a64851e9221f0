"""Pictures and videos that measurements keep, read back by their decoders."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from papertrial.errors import BadInputError
from papertrial.trial import Video
from papertrial.trial.artifacts import encode_artifact
from papertrial.trial.media import MOST_BYTES

NOISE = np.random.default_rng(0)


def moving(count=12, height=48, width=64):
    """Return a bright square that moves over a gradient."""
    rows, columns = np.mgrid[0:height, 0:width]
    still = np.stack([rows * 4 % 256, columns * 3 % 256, (rows + columns) * 2 % 256], axis=-1)
    frames = np.stack([still] * count).astype(np.uint8)
    for at in range(count):
        frames[at, 8:20, 3 * at : 3 * at + 12] = (250, 240, 230)
    return frames


def decoded(content):
    """Return the frames and the video stream's facts, decoded by FFmpeg."""
    av = pytest.importorskip("av", reason="PyAV decodes what was encoded")
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        return frames, stream.codec_context.name, float(stream.average_rate), stream.codec_context.pix_fmt


def picture_of(content):
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened.convert("RGB"))


@pytest.mark.parametrize("kind", ["array", "tensor", "view"])
def test_a_picture_is_kept_as_png_without_loss(kind):
    pixels = NOISE.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    given = {"array": pixels, "tensor": torch.tensor(pixels), "view": pixels[::-1].copy()[::-1]}[kind]
    name, content = encode_artifact("view", given)
    assert name == "view.png"
    assert content.startswith(b"\x89PNG")
    assert (picture_of(content) == pixels).all()


def test_frames_become_an_mp4_that_every_browser_plays():
    pytest.importorskip("av", reason="PyAV encodes videos")
    frames = moving()
    name, content = encode_artifact("clip", frames)
    assert name == "clip.mp4"
    back, codec, rate, pixel_format = decoded(content)
    assert (codec, rate, pixel_format) == ("h264", 8.0, "yuv420p")
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 6  # crf 23 and half the colour resolution
    assert content.find(b"moov") < content.find(b"mdat"), "the index comes first: playing begins at once"
    assert len(content) < 50_000
    assert encode_artifact("clip", torch.tensor(frames))[1] == content, "the same frames, the same file"


def test_colours_come_back_and_odd_sizes_are_padded():
    pytest.importorskip("av", reason="PyAV encodes videos")
    frames = np.broadcast_to(np.array([200, 40, 90], dtype=np.uint8), (6, 33, 45, 3))
    back, _, rate, _ = decoded(encode_artifact("clip", Video(frames, fps=12.5))[1])
    assert (rate, back.shape) == (12.5, (6, 34, 46, 3))
    assert np.abs(back.astype(int) - frames[0, 0, 0]).max() <= 3  # of rounding to limited range


def test_one_frame_of_one_pixel_is_a_video_too():
    pytest.importorskip("av", reason="PyAV encodes videos")
    back, *_ = decoded(encode_artifact("clip", np.full((1, 1, 1, 3), 255, dtype=np.uint8))[1])
    assert back.shape == (1, 2, 2, 3)
    assert back.min() > 250


def test_without_h264_it_is_vp9_in_webm(monkeypatch):
    codec = pytest.importorskip("av.codec", reason="PyAV encodes videos")
    monkeypatch.setattr(codec, "codecs_available", {"libvpx-vp9"})
    frames = moving()
    name, content = encode_artifact("clip", frames)
    assert name == "clip.webm"
    back, name_of_codec, rate, pixel_format = decoded(content)
    assert (name_of_codec, rate, pixel_format) == ("vp9", 8.0, "yuv420p")
    assert np.abs(back.astype(int) - frames).mean() < 6
    assert encode_artifact("clip", frames)[1] == content


@pytest.mark.parametrize(("webp", "suffix", "error"), [(True, ".webp", 8.0), (False, ".png", 0.0)])
def test_without_a_video_library_frames_become_an_animated_picture(monkeypatch, webp, suffix, error):
    from PIL import features

    check = features.check
    monkeypatch.setattr(
        features, "check", lambda name: webp and check(name) if name == "webp" else check(name)
    )
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setitem(sys.modules, "av.codec", None)
    frames = moving()
    name, content = encode_artifact("clip", Video(frames, fps=5))
    assert name == f"clip{suffix}"
    with Image.open(io.BytesIO(content)) as opened:
        assert (opened.n_frames, opened.info["loop"]) == (len(frames), 0)
        for at in (0, 5, len(frames) - 1):
            opened.seek(at)
            assert np.abs(np.asarray(opened.convert("RGB")).astype(int) - frames[at]).mean() <= error
            assert opened.info["duration"] == 200


def test_a_picture_that_is_too_large_is_brought_to_the_mean_of_squares():
    pixels = NOISE.integers(
        0, 256, (900, 900, 3), dtype=np.uint8
    )  # noise: PNG makes it no smaller than 2.4 MB
    content = encode_artifact("noise", pixels)[1]
    assert len(content) <= MOST_BYTES
    means = pixels.reshape(450, 2, 450, 2, 3).mean(axis=(1, 3))
    assert np.abs(picture_of(content) - means).max() <= 1


def test_a_figure_that_is_too_large_is_scaled_down():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(NOISE.integers(0, 256, (1200, 1200, 3), dtype=np.uint8), interpolation="none")
    content = encode_artifact("figure", figure)[1]
    assert len(content) <= MOST_BYTES
    assert 500 < picture_of(content).shape[0] < 700  # half of 8 inches at 150 dots


def test_a_video_that_is_too_large_is_encoded_more_coarsely_and_then_scaled_down(monkeypatch):
    pytest.importorskip("av", reason="PyAV encodes videos")
    from papertrial.trial import media

    frames = NOISE.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    best = len(encode_artifact("noise", frames)[1])
    monkeypatch.setattr(media, "MOST_BYTES", best // 2)
    coarse = encode_artifact("noise", frames)[1]
    assert len(coarse) <= best // 2
    assert decoded(coarse)[0].shape == frames.shape
    monkeypatch.setattr(media, "MOST_BYTES", 2_400)  # less than noise of this size takes at any quality
    small = encode_artifact("noise", frames)[1]
    assert len(small) <= 2_400
    assert decoded(small)[0].shape[1] < 40


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.zeros((4, 5, 3), dtype=np.float32), r"ndarray of float32 and shape \(4, 5, 3\)"),
        (np.zeros((4, 5, 4), dtype=np.uint8), r"uint8 and shape \(4, 5, 4\)"),
        (np.zeros((0, 4, 5, 3), dtype=np.uint8), r"shape \(0, 4, 5, 3\)"),
        (torch.zeros(2, 3, 4, 5, dtype=torch.uint8), r"Tensor of uint8 and shape \(2, 3, 4, 5\)"),
        (Video(np.zeros((4, 5, 3), dtype=np.uint8)), r"shape \(4, 5, 3\)"),
        (Video([[1, 2]]), "is a list"),
        (3.5, "is a float; keep a matplotlib figure"),
        (Video(np.zeros((1, 4, 5, 3), dtype=np.uint8), fps=0), "fps must lie above 0"),
        (Video(np.zeros((1, 4, 5, 3), dtype=np.uint8), fps=float("nan")), "fps must lie above 0"),
    ],
)
def test_what_is_neither_picture_nor_frames_is_refused_with_what_it_is(bad, said):
    with pytest.raises(BadInputError, match=said):
        encode_artifact("bad", bad)
