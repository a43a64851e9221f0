"""The PLY format itself: named elements with columns of numbers, as text or binary of either order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from papertrial.errors import BadInputError

_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_NAMES = {"u1": "uchar", "i4": "int", "f4": "float"}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_LONGEST_HEADER = 65536  # bytes
_END = b"end_header"
_CORNERS = 3


@dataclass
class _Element:
    """One kind of rows, as the header announces it."""

    name: str
    count: int
    fields: list[tuple[Any, ...]] = field(default_factory=list)
    listed: bool = False


def read_elements(path: Path) -> dict[str, Any]:
    """Return every element of a file as a structured array.

    Lists must have three entries (triangles): such a column is followed by its length's.

    Raises:
        BadInputError: a file that is no PLY, is cut, goes on, or holds other lists; the message says where.
    """
    if not path.is_file():
        raise BadInputError(f"there is no file {path}")
    data = path.read_bytes()
    order, elements, start = _header(path, data)
    if order == "=":
        return _from_text(path, data[start:], elements)
    found = {}
    for element in elements:
        dtype = np.dtype([(one[0], order + one[1], *one[2:]) for one in element.fields])
        size = dtype.itemsize * element.count
        if start + size > len(data):
            raise BadInputError(
                f"{path.name} ends early: {element.count} rows of {element.name} need {size} bytes, "
                f"{len(data) - start} are left"
            )
        rows = np.frombuffer(data, dtype=dtype, count=element.count, offset=start)
        start += size
        found[element.name] = _checked(path, element, rows)
    if start != len(data):
        raise BadInputError(f"{path.name} goes on for {len(data) - start} bytes after its last element")
    return found


def write_elements(path: Path, elements: Iterable[tuple[str, Any]]) -> None:
    """Write structured arrays, little endian; a column of three entries becomes a list, whose length precedes it."""
    lines, parts = ["ply", "format binary_little_endian 1.0"], []
    for name, rows in elements:
        lines.append(f"element {name} {len(rows)}")
        for column in rows.dtype.names:
            kind = rows.dtype[column]
            if kind.subdtype:
                lines[-1] = f"property list uchar {_NAMES[kind.base.str[1:]]} {column}"
            else:
                lines.append(f"property {_NAMES[kind.str[1:]]} {column}")
        parts.append(rows.tobytes())
    header = "\n".join([*lines, _END.decode()]) + "\n"
    path.write_bytes(header.encode("ascii") + b"".join(parts))


def _header(path: Path, data: bytes) -> tuple[str, list[_Element], int]:
    end = data.find(b"\n" + _END, 0, _LONGEST_HEADER)
    stop = data.find(b"\n", end + 1, _LONGEST_HEADER) if end >= 0 else -1
    if not data.startswith(b"ply") or stop < 0:
        raise BadInputError(
            f"{path.name} is no PLY file: no header of ply … end_header in {_LONGEST_HEADER} bytes"
        )
    try:
        lines = data[:end].decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path.name} is no PLY file: its header is no text") from error
    order, elements = "", []
    for number, line in enumerate(lines[1:], start=2):
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format" and len(words) == 3 and words[1] in _ORDERS:
            order = _ORDERS[words[1]]
        elif words[0] == "element" and len(words) == 3 and words[2].isdecimal():
            elements.append(_Element(words[1], int(words[2])))
        elif words[0] == "property" and elements and _property(elements[-1], words[1:]):
            continue
        else:
            raise BadInputError(f"{path.name}, header line {number}: cannot read {line[:80]!r}")
    names = [element.name for element in elements]
    if not order or len(set(names)) != len(names) or any(not element.fields for element in elements):
        raise BadInputError(
            f"{path.name}: the header needs a format, and elements of different names with columns"
        )
    return order, elements, stop + 1


def _property(element: _Element, words: list[str]) -> bool:
    """Take one column into an element; False where it is none."""
    known = {one[0] for one in element.fields}
    if len(words) == 2 and words[0] in _TYPES and words[1] not in known:
        element.fields.append((words[1], _TYPES[words[0]]))
        return True
    if len(words) == 4 and words[0] == "list" and {words[1], words[2]} <= set(_TYPES) and not element.listed:
        element.listed = True
        element.fields += [("length", _TYPES[words[1]]), (words[3], _TYPES[words[2]], (_CORNERS,))]
        return "length" not in known
    return False


def _from_text(path: Path, data: bytes, elements: list[_Element]) -> dict[str, Any]:
    lines, start, found = data.split(b"\n"), 0, {}
    for element in elements:
        dtype = np.dtype(element.fields)
        width = sum(_CORNERS if len(one) == 3 else 1 for one in element.fields)
        chosen = lines[start : start + element.count]
        start += element.count
        try:
            values = np.array([line.split() for line in chosen], dtype=np.float64).reshape(-1, width)
        except ValueError as error:
            raise BadInputError(
                f"{path.name}: rows of {element.name} are not {width} numbers each"
            ) from error
        if len(values) != element.count:
            raise BadInputError(
                f"{path.name} ends early: {element.count} rows of {element.name}, got {len(values)}"
            )
        rows, column = np.zeros(element.count, dtype=dtype), 0
        for one in element.fields:
            size = _CORNERS if len(one) == 3 else 1
            part = values[:, column : column + size]
            limits = np.iinfo(one[1]) if one[1][0] in "iu" else None
            if limits and not ((part >= limits.min) & (part <= limits.max)).all():
                raise BadInputError(f"{path.name}: {one[0]} of {element.name} does not fit into {one[1]}")
            rows[one[0]] = part if size > 1 else part[:, 0]
            column += size
        found[element.name] = _checked(path, element, rows)
    return found


def _checked(path: Path, element: _Element, rows: Any) -> Any:
    if element.listed and (rows["length"] != _CORNERS).any():
        row = int(np.flatnonzero(rows["length"] != _CORNERS)[0])
        raise BadInputError(
            f"{path.name}: row {row} of {element.name} is a list of {rows['length'][row]}; triangles are wanted"
        )
    return rows
