"""COLMAP's text files: cameras.txt, images.txt, points3D.txt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from papertrial.errors import BadInputError
from papertrial.scenes.colmap.model import CameraRecord, ImageRecord, PointCloud

_SUFFIX = ".txt"


def read_lenses(folder: Path) -> dict[int, CameraRecord]:
    """Return the lenses of cameras.txt by number.

    Raises:
        BadInputError: a line that is none of the format's, with its number.
    """
    found: dict[int, CameraRecord] = {}
    path = folder / f"cameras{_SUFFIX}"
    for line, words in _lines(path):
        with _Place(path, line, "CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]"):
            number, lens, width, height = int(words[0]), words[1], int(words[2]), int(words[3])
            _new(number, found)
            found[number] = CameraRecord(lens, width, height, tuple(map(float, words[4:])))
    return found


def read_images(folder: Path) -> dict[int, ImageRecord]:
    """Return the photographs of images.txt by number: two lines each, the second may be empty.

    Raises:
        BadInputError: a line that is none of the format's, with its number.
    """
    found: dict[int, ImageRecord] = {}
    path = folder / f"images{_SUFFIX}"
    lines = _lines(path, blank=True)
    for line, words in lines:
        if not words:
            continue  # blank lines between images, beside the empty lists of points
        with _Place(path, line, "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"):
            number, pose, camera = int(words[0]), list(map(float, words[1:8])), int(words[8])
            name = " ".join(words[9:])
            _new(number, found)
        line, words = next(lines, (line + 1, []))
        with _Place(path, line, "POINTS2D[] as (X, Y, POINT3D_ID)"):
            if len(words) % 3:
                raise ValueError(f"{len(words)} numbers are no triples")
            triples = np.array(words, dtype=np.float64).reshape(-1, 3)
            w, x, y, z, *shift = pose
            found[number] = ImageRecord(
                (w, x, y, z),
                (shift[0], shift[1], shift[2]),
                camera,
                name,
                np.ascontiguousarray(triples[:, :2]),
                np.array([int(word) for word in words[2::3]], dtype=np.int64),
            )
    return found


def read_points(folder: Path) -> PointCloud:
    """Return the cloud of points3D.txt.

    Raises:
        BadInputError: a line that is none of the format's, with its number.
    """
    numbers, rows, colours, tracks = [], [], [], []
    path = folder / f"points3D{_SUFFIX}"
    for line, words in _lines(path):
        with _Place(path, line, "POINT3D_ID X Y Z R G B ERROR TRACK[] as (IMAGE_ID, POINT2D_IDX)"):
            if len(words) < 8 or len(words) % 2:
                raise ValueError(f"{len(words)} words")
            numbers.append(int(words[0]))
            rows.append([float(word) for word in (*words[1:4], words[7])])
            colours.append([int(word) for word in words[4:7]])
            if not all(0 <= level <= 255 for level in colours[-1]):
                raise ValueError(f"colour {colours[-1]} is not within 0 and 255")
            tracks.append(np.array(words[8:], dtype=np.int64).reshape(-1, 2))
    values = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return PointCloud(
        np.array(numbers, dtype=np.int64),
        np.ascontiguousarray(values[:, :3]),
        np.array(colours, dtype=np.uint8).reshape(-1, 3),
        np.ascontiguousarray(values[:, 3]),
        tuple(tracks),
    )


def write_lenses(folder: Path, lenses: dict[int, CameraRecord]) -> None:
    """Write cameras.txt; numbers keep all their digits."""
    rows = [
        f"{number} {lens.lens} {lens.width} {lens.height} {_words(lens.parameters)}"
        for number, lens in lenses.items()
    ]
    _write(folder / f"cameras{_SUFFIX}", "CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]", rows)


def write_images(folder: Path, images: dict[int, ImageRecord]) -> None:
    """Write images.txt."""
    rows = []
    for number, image in images.items():
        pose = _words([*image.rotation, *image.translation])
        rows.append(f"{number} {pose} {image.camera} {image.name}")
        found = zip(image.places.tolist(), image.points.tolist(), strict=True)
        rows.append(" ".join(f"{x!r} {y!r} {point}" for (x, y), point in found))
    _write(folder / f"images{_SUFFIX}", "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, POINTS2D[]", rows)


def write_points(folder: Path, cloud: PointCloud) -> None:
    """Write points3D.txt."""
    rows = []
    for row, track in enumerate(cloud.tracks):
        colour = " ".join(map(str, cloud.colours[row].tolist()))
        found = " ".join(map(str, np.asarray(track).reshape(-1).tolist()))
        place, error = _words(cloud.places[row].tolist()), _words([float(cloud.errors[row])])
        rows.append(f"{cloud.numbers[row]} {place} {colour} {error} {found}".rstrip())
    _write(folder / f"points3D{_SUFFIX}", "POINT3D_ID X Y Z R G B ERROR TRACK[]", rows)


class _Place:
    """Says which line of which file a failure within it belongs to."""

    def __init__(self, path: Path, line: int, wanted: str) -> None:
        self.path, self.line, self.wanted = path, line, wanted

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError | IndexError | OverflowError):
            raise BadInputError(
                f"{self.path.name}, line {self.line}: {error}; wanted: {self.wanted}"
            ) from error


def _lines(path: Path, blank: bool = False) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.startswith("#") and (blank or line.strip()):
                    yield number, line.split()
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path.name} is no text: {error}") from error


def _new(number: int, known: dict[int, CameraRecord] | dict[int, ImageRecord]) -> None:
    if number in known:
        raise ValueError(f"number {number} comes twice")


def _words(values: list[float] | tuple[float, ...]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _write(path: Path, columns: str, rows: list[str]) -> None:
    path.write_text("\n".join([f"# {columns}", *rows]) + "\n", encoding="utf-8")
