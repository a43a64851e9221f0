"""Stills of videos: their first frame, small, and nothing where a file shows none."""

from __future__ import annotations

import base64
import io
import os
import sys

import numpy as np
import pytest
from PIL import Image

from papertrial.trial import Video
from papertrial.trial.artifacts import encode_artifact
from papertrial.trial.embedding import Embedded, media_tag
from papertrial.trial.posters import MOST_BYTES, MOST_SIDE, poster


@pytest.fixture
def keep(tmp_path):
    """Return a function that writes frames as a video."""
    pytest.importorskip("av", reason="PyAV decodes videos")

    def make(frames, name="clip"):
        file, content = encode_artifact(name, Video(frames, fps=8))
        (tmp_path / file).write_bytes(content)
        return tmp_path / file

    return make


def opened(address):
    head, _, content = address.partition(",")
    assert head in ("data:image/webp;base64", "data:image/jpeg;base64")
    raw = base64.b64decode(content)
    return raw, np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")).astype(int)


def coloured(*colours, height=48, width=64):
    return np.stack([np.full((height, width, 3), colour, dtype=np.uint8) for colour in colours])


def test_it_is_the_first_frame(keep):
    """Colours pass through two lossy codecs: a few levels of 255."""
    raw, picture = opened(poster(keep(coloured((200, 30, 30), (30, 30, 200), (30, 200, 30)))))
    assert picture.shape == (48, 64, 3)
    assert np.abs(picture - (200, 30, 30)).max() <= 8
    assert len(raw) <= MOST_BYTES


def test_a_large_and_noisy_one_is_made_small(keep):
    frames = np.random.default_rng(0).integers(0, 255, (2, 600, 1200, 3), dtype=np.uint8)
    raw, picture = opened(poster(keep(frames)))
    assert len(raw) <= MOST_BYTES
    height, width, _ = picture.shape
    assert max(height, width) <= MOST_SIDE
    assert width == 2 * height


def test_a_file_that_changed_gets_another(keep):
    file = keep(coloured((250, 250, 250)))
    before = poster(file)
    assert poster(file) == before
    keep(coloured((5, 5, 5)))
    os.utime(file, ns=(1, 1))
    assert opened(poster(file))[1].max() < 20 < opened(before)[1].min()


def test_what_cannot_be_decoded_has_none(tmp_path, monkeypatch, keep):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(200))
    assert poster(damaged) is None
    whole = keep(coloured((1, 2, 3)), "other")
    monkeypatch.setitem(sys.modules, "av", None)
    assert poster(whole) is None


def test_a_video_carries_its_still_and_a_picture_none():
    tag = media_tag("video", "clip.mp4", "clip", 'data:image/webp;base64,A"')
    assert 'poster="data:image/webp;base64,A&#34;"' in tag
    assert "poster" not in media_tag("video", "clip.mp4", "clip")
    assert "poster" not in media_tag("picture", "view.png", "view", "data:,")


def test_stills_count_among_a_reports_bytes(keep, monkeypatch):
    """What a row takes is measured as it is written, its still included: one byte less, and it stays outside."""
    from papertrial.trial import embedding

    file = keep(coloured((200, 30, 30)))
    monkeypatch.setattr(embedding, "_rows_in_order", lambda papers: iter([[("clip", file)]]))
    inside = Embedded([], 10**6, None)._inside[file]
    assert poster(file) in inside
    size = len(inside.encode())
    assert file in Embedded([], size, None)._inside
    assert file not in Embedded([], size - 1, None)._inside
