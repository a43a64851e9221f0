"""Keeping rendered pages: by what they were made from, compressed once, known by their hash."""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response

from papertrial.site.pages import Page

_SMALLEST = 500  # bytes below which compressing gains nothing
_TRUSTED = 0.25  # seconds for which a look at the files counts
_CAPACITY = 64 * 2**20


@dataclass(frozen=True)
class Kept:
    """One rendered page."""

    stamp: object
    body: bytes
    packed: bytes | None
    tag: str
    media_type: str

    @property
    def size(self) -> int:
        """Bytes that it takes to keep."""
        return len(self.body) + len(self.packed or b"")

    def answer(self, accepts: str, known: str) -> Response:
        """Return the response: 304 where the reader has it, compressed where the reader can.

        Args:
            accepts: the request's `Accept-Encoding`.
            known: the request's `If-None-Match`.
        """
        headers = {
            "etag": self.tag,
            "cache-control": "private, no-cache",
            "vary": "accept-encoding, cookie",
            "content-type": self.media_type,
        }
        if self.tag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        if self.packed is not None and "gzip" in accepts:
            return Response(self.packed, headers=headers | {"content-encoding": "gzip"})
        return Response(self.body, headers=headers)


class PageCache:
    """The newest rendered pages, up to a number of bytes. Several requests for one page render it once."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._checked: dict[str, float] = {}
        self._size = 0
        self._change = threading.Lock()
        self._rendering: dict[str, threading.Lock] = {}

    def fresh(self, key: str) -> Kept | None:
        """Return a page that was found unchanged a moment ago; None where somebody must look again."""
        if time.monotonic() - self._checked.get(key, -1.0) < _TRUSTED:
            return self._kept.get(key)
        return None

    def get(self, key: str, page: Page) -> Kept:
        """Return a page as it is now, rendered again only if what it was made from has changed."""
        with self._change:
            lock = self._rendering.setdefault(key, threading.Lock())
        with lock:
            if (kept := self.fresh(key)) is not None:
                return kept
            stamp = page.stamp()
            kept = self._kept.get(key)
            if kept is None or kept.stamp != stamp:
                kept = keep(page.render, page.media_type, stamp)
            self._put(key, kept)
            return kept

    def _put(self, key: str, kept: Kept) -> None:
        with self._change:
            old = self._kept.pop(key, None)
            self._size += kept.size - (old.size if old else 0)
            self._kept[key] = kept
            self._checked[key] = time.monotonic()
            while self._size > self._capacity and len(self._kept) > 1:
                name, dropped = self._kept.popitem(last=False)
                self._size -= dropped.size
                self._checked.pop(name, None)
                self._rendering.pop(name, None)


def keep(render: Callable[[], str | bytes], media_type: str, stamp: object = None) -> Kept:
    """Render a page and compress it."""
    made = render()
    body = made if isinstance(made, bytes) else made.encode()
    packed = gzip.compress(body, 6, mtime=0) if len(body) >= _SMALLEST else None
    return Kept(stamp, body, packed, f'"{hashlib.sha256(body).hexdigest()[:20]}"', media_type)
