"""Compiled loops of the search for copied test items: hashing, filtering and exact comparison.

A document is a one-dimensional array of normalised characters (uint8 or uint32). A table lists grams of the
test items: `hashes` (entries,) uint64 sorted, `places` (entries,) int64 into `pool`, `owners` (entries,) int64.
`pool` (characters,) uint32 is all items one after the other, item i from `bounds[i]` to `bounds[i + 1]`.
`marks` (words,) uint64 is a bit set over hashes, a power of two of bits: most grams of a clean document are
dismissed by one look into it. Whatever passes is compared character by character, so hashes decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from numba import njit

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xFF51AFD7ED558CCD)
_STIR = np.uint64(0xBF58476D1CE4E5B9)
_STIR_AGAIN = np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)
_BITS_OF_PLACE = np.uint64(63)
_WORD = np.uint64(6)
_HALF = np.uint64(32)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a loop of whole numbers without the interpreter lock, and keep the result beside the source."""
    return njit(nogil=True, cache=True, boundscheck=False)(function)


@compiled
@no_type_check
def keep_characters(codes, table):
    """Return the codes whose entry in `table` is true, in order."""
    kept = np.empty(codes.shape[0], np.uint32)
    count = 0
    for code in codes:
        kept[count] = code
        count += table[code]
    return kept[:count]


@compiled
@no_type_check
def gram_hash(characters, start, length):
    """Return the polynomial hash of `length` characters from `start`, modulo 2^64."""
    value = np.uint64(0)
    for at in range(start, start + length):
        value = value * _FACTOR + (np.uint64(characters[at]) + _ONE)
    return value


@compiled
@no_type_check
def spread(value):
    """Mix a hash so that every bit of it depends on all: the filter looks at the low ones."""
    value = (value ^ (value >> _HALF)) * _SPREAD
    return value ^ (value >> _HALF)


@compiled
@no_type_check
def hash_grams(pool, places, length):
    """Return the mixed hash of the gram at each place."""
    hashes = np.empty(places.shape[0], np.uint64)
    for number in range(places.shape[0]):
        hashes[number] = spread(gram_hash(pool, places[number], length))
    return hashes


@compiled
@no_type_check
def mark_hashes(hashes, marks):
    """Set the bit of every hash."""
    last = np.uint64(marks.shape[0] * 64 - 1)
    for value in hashes:
        bit = value & last
        marks[bit >> _WORD] |= _ONE << (bit & _BITS_OF_PLACE)


@compiled
@no_type_check
def compare(document, at, mixed, table, pool, bounds, window, grow):
    """Return (item, offset in the item, start in the document, length) of a copy around place `at`.

    The gram at `at` has the hash `mixed`. A copy counts if it has `window` characters, or is a whole item
    where the item is shorter. It is followed to the right, and to the left too if `grow`. item is -1 where
    there is none.
    """
    hashes, places, owners, _, length = table
    entry = np.searchsorted(hashes, mixed)
    while entry < hashes.shape[0] and hashes[entry] == mixed:
        place, item = places[entry], owners[entry]
        first, end = bounds[item], bounds[item + 1]
        right = 0
        most = min(end - place, document.shape[0] - at)
        while right < most and document[at + right] == pool[place + right]:
            right += 1
        left = 0
        if grow and right >= length:
            most = min(place - first, at)
            while left < most and document[at - left - 1] == pool[place - left - 1]:
                left += 1
        if left + right >= min(window, end - first):
            return item, place - left - first, at - left, left + right
        entry += 1
    return -1, 0, 0, 0


@compiled
@no_type_check
def scan_blocks(document, table, pool, bounds, window, stride):
    """Search for copies by the grams at every `stride`-th place: a copy of `stride + gram - 1` holds one."""
    marks, length = table[3], table[4]
    last = np.uint64(marks.shape[0] * 64 - 1)
    for at in range(0, document.shape[0] - length + 1, stride):
        mixed = spread(gram_hash(document, at, length))
        bit = mixed & last
        if (marks[bit >> _WORD] >> (bit & _BITS_OF_PLACE)) & _ONE:
            found = compare(document, at, mixed, table, pool, bounds, window, True)
            if found[0] >= 0:
                return found
    return -1, 0, 0, 0


@compiled
@no_type_check
def scan_places(document, table, pool, bounds, window):
    """Search for copies by a hash that rolls over every place of the document."""
    marks, length = table[3], table[4]
    if document.shape[0] < length:
        return -1, 0, 0, 0
    last = np.uint64(marks.shape[0] * 64 - 1)
    top = _ONE
    for _ in range(length):
        top *= _FACTOR
    value = gram_hash(document, 0, length)
    for at in range(document.shape[0] - length + 1):
        if at > 0:
            value = value * _FACTOR + (np.uint64(document[at + length - 1]) + _ONE)
            value -= top * (np.uint64(document[at - 1]) + _ONE)
        mixed = spread(value)
        bit = mixed & last
        if (marks[bit >> _WORD] >> (bit & _BITS_OF_PLACE)) & _ONE:
            found = compare(document, at, mixed, table, pool, bounds, window, False)
            if found[0] >= 0:
                return found
    return -1, 0, 0, 0


@compiled
@no_type_check
def scan_windows(document, starts, table, pool, bounds, window):
    """Search for the windows that begin at `starts` among the items; each is looked up as a whole."""
    marks, length = table[3], table[4]
    last = np.uint64(marks.shape[0] * 64 - 1)
    for at in starts:
        mixed = spread(gram_hash(document, at, length))
        bit = mixed & last
        if (marks[bit >> _WORD] >> (bit & _BITS_OF_PLACE)) & _ONE:
            found = compare(document[: at + window], at, mixed, table, pool, bounds, window, False)
            if found[0] >= 0:
                return found
    return -1, 0, 0, 0


@compiled
@no_type_check
def draw_starts(seed, windows, samples, chunks):
    """Return sorted starts: `samples` from each of `chunks` equal parts of 0 … windows - 1.

    Drawn with replacement by splitmix64 from `seed`; a part with no more windows than samples gives all.
    """
    starts = np.empty(min(windows, samples * chunks), np.int64)
    state, count = np.uint64(seed), 0
    for chunk in range(chunks):
        first, end = chunk * windows // chunks, (chunk + 1) * windows // chunks
        if end - first <= samples:
            for at in range(first, end):
                starts[count] = at
                count += 1
            continue
        for _ in range(samples):
            state += _FACTOR
            value = (state ^ (state >> np.uint64(30))) * _STIR
            value = (value ^ (value >> np.uint64(27))) * _STIR_AGAIN
            value ^= value >> np.uint64(31)
            starts[count] = first + np.int64(value % np.uint64(end - first))
            count += 1
    drawn = starts[:count]
    drawn.sort()
    return drawn
