"""COLMAP's binary files: cameras.bin, images.bin, points3D.bin (little endian, no padding)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from papertrial.errors import BadInputError
from papertrial.scenes.colmap.model import LENSES, CameraRecord, ImageRecord, PointCloud

_SUFFIX = ".bin"
_LENS, _POSE, _POINT, _COUNT = "<IiQQ", "<I7dI", "<Q3d3Bd", "<Q"
_PLACE = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])
_TRACK = np.dtype("<u4")
_LONGEST_NAME = 4096  # bytes


class _Reader:
    """Bytes of one file, read front to back; says where they end too early."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.at = path, path.read_bytes(), 0

    def take(self, layout: str) -> tuple[Any, ...]:
        self._need(struct.calcsize(layout))
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values

    def array(self, dtype: np.dtype[Any], count: int) -> Any:
        self._need(dtype.itemsize * count)
        values = np.frombuffer(self.data, dtype=dtype, count=count, offset=self.at)
        self.at += dtype.itemsize * count
        return values

    def count(self, least: int) -> int:
        """Read a number of records of at least so many bytes; a number that cannot be is refused unread."""
        (count,) = self.take(_COUNT)
        if count * least > len(self.data) - self.at:
            raise BadInputError(
                f"{self.path.name}: {count} records of {least} bytes or more are announced at byte "
                f"{self.at - 8}, {len(self.data) - self.at} bytes follow"
            )
        return int(count)

    def name(self) -> str:
        end = self.data.find(b"\0", self.at, self.at + _LONGEST_NAME)
        if end < 0:
            raise BadInputError(f"{self.path.name}: the name at byte {self.at} has no end")
        raw, self.at = self.data[self.at : end], end + 1
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInputError(f"{self.path.name}: the name before byte {end} is no text") from error

    def finish(self) -> None:
        if self.at != len(self.data):
            raise BadInputError(f"{self.path.name} goes on after its records, at byte {self.at}")

    def _need(self, size: int) -> None:
        if self.at + size > len(self.data):
            raise BadInputError(
                f"{self.path.name} ends early: {size} bytes wanted at byte {self.at} of {len(self.data)}"
            )


def read_lenses(folder: Path) -> dict[int, CameraRecord]:
    """Return the lenses of cameras.bin by number.

    Raises:
        BadInputError: a file that is cut, goes on, or names an unknown lens.
    """
    reader = _Reader(folder / f"cameras{_SUFFIX}")
    found: dict[int, CameraRecord] = {}
    names = {number: (name, parameters) for name, (number, parameters, _) in LENSES.items()}
    for _ in range(reader.count(struct.calcsize(_LENS))):
        number, lens, width, height = reader.take(_LENS)
        if lens not in names:
            raise BadInputError(f"{reader.path.name}: camera {number} has lens model {lens}; known: 0 to 10")
        name, parameters = names[lens]
        _new(number, found, reader)
        found[number] = CameraRecord(name, width, height, reader.take(f"<{parameters}d"))
    reader.finish()
    return found


def read_images(folder: Path) -> dict[int, ImageRecord]:
    """Return the photographs of images.bin by number.

    Raises:
        BadInputError: a file that is cut or goes on.
    """
    reader = _Reader(folder / f"images{_SUFFIX}")
    found: dict[int, ImageRecord] = {}
    for _ in range(reader.count(struct.calcsize(_POSE) + 9)):
        number, w, x, y, z, tx, ty, tz, camera = reader.take(_POSE)
        name = reader.name()
        places = reader.array(_PLACE, reader.count(_PLACE.itemsize))
        _new(number, found, reader)
        found[number] = ImageRecord(
            (w, x, y, z),
            (tx, ty, tz),
            camera,
            name,
            np.stack([places["x"], places["y"]], axis=-1).astype(np.float64),
            places["point"].astype(np.int64),
        )
    reader.finish()
    return found


def read_points(folder: Path) -> PointCloud:
    """Return the cloud of points3D.bin.

    Raises:
        BadInputError: a file that is cut or goes on.
    """
    reader = _Reader(folder / f"points3D{_SUFFIX}")
    numbers, rows, colours, tracks = [], [], [], []
    for _ in range(reader.count(struct.calcsize(_POINT) + 8)):
        number, x, y, z, red, green, blue, error = reader.take(_POINT)
        numbers.append(number)
        rows.append((x, y, z, error))
        colours.append((red, green, blue))
        length = reader.count(2 * _TRACK.itemsize)
        tracks.append(reader.array(_TRACK, 2 * length).astype(np.int64).reshape(-1, 2))
    reader.finish()
    values = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return PointCloud(
        np.array(numbers, dtype=np.uint64).astype(np.int64),
        np.ascontiguousarray(values[:, :3]),
        np.array(colours, dtype=np.uint8).reshape(-1, 3),
        np.ascontiguousarray(values[:, 3]),
        tuple(tracks),
    )


def write_lenses(folder: Path, lenses: dict[int, CameraRecord]) -> None:
    """Write cameras.bin."""
    parts = [struct.pack(_COUNT, len(lenses))]
    for number, lens in lenses.items():
        parts.append(struct.pack(_LENS, number, LENSES[lens.lens][0], lens.width, lens.height))
        parts.append(struct.pack(f"<{len(lens.parameters)}d", *lens.parameters))
    (folder / f"cameras{_SUFFIX}").write_bytes(b"".join(parts))


def write_images(folder: Path, images: dict[int, ImageRecord]) -> None:
    """Write images.bin."""
    parts = [struct.pack(_COUNT, len(images))]
    for number, image in images.items():
        parts.append(struct.pack(_POSE, number, *image.rotation, *image.translation, image.camera))
        parts.append(image.name.encode("utf-8") + b"\0")
        places = np.zeros(len(image.points), dtype=_PLACE)
        places["x"], places["y"], places["point"] = image.places[:, 0], image.places[:, 1], image.points
        parts += [struct.pack(_COUNT, len(places)), places.tobytes()]
    (folder / f"images{_SUFFIX}").write_bytes(b"".join(parts))


def write_points(folder: Path, cloud: PointCloud) -> None:
    """Write points3D.bin."""
    parts = [struct.pack(_COUNT, len(cloud))]
    for row, track in enumerate(cloud.tracks):
        place, colour = cloud.places[row].tolist(), cloud.colours[row].tolist()
        parts.append(struct.pack(_POINT, int(cloud.numbers[row]), *place, *colour, float(cloud.errors[row])))
        parts += [struct.pack(_COUNT, len(track)), np.asarray(track).astype(_TRACK).tobytes()]
    (folder / f"points3D{_SUFFIX}").write_bytes(b"".join(parts))


def _new(number: int, known: dict[int, Any], reader: _Reader) -> None:
    if number in known:
        raise BadInputError(f"{reader.path.name}: number {number} comes twice")
