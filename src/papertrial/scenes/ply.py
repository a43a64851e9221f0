"""PLY files: Gaussians and surfels in the layout that viewers read, plain points, and meshes of triangles."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.ply_format import read_elements, write_elements
from papertrial.scenes.splatting.primitives import Kind, Primitives

_OPACITIES = (1e-6, 1 - 1e-6)  # outside, the logit that is stored would have no number


class Splats(NamedTuple):
    """Primitives and their harmonics' coefficients (n, 1 to 16, 3)."""

    primitives: Primitives
    coefficients: Tensor
    kind: Kind


class Mesh(NamedTuple):
    """Vertices (n, 3) and triangles (m, 3) of their rows."""

    vertices: Tensor
    triangles: Tensor


def write_splats(
    path: Path,
    prims: Primitives,
    coefficients: Float[Tensor, "n terms 3"],
    kind: Kind = "gaussian",
) -> None:
    """Write primitives as viewers of splats read them: binary, little endian, float32.

    Columns are x y z, nx ny nz (zeros), f_dc_*, f_rest_* (channel by channel), opacity (its logit), scale_* (their
    logarithms; a surfel has two) and rot_* (w x y z, normalised). Opacities are kept 1e-6 away from 0 and 1.

    Raises:
        BadInputError: no scale above 0, or another number of coefficients than of primitives.

    Source: the layout of arXiv 2308.04079's and arXiv 2403.17888's released code.
    """
    if len(coefficients) != len(prims):
        raise BadInputError(f"{len(prims)} primitives have {len(coefficients)} rows of coefficients")
    extents = prims.scales.detach()[:, : 2 if kind == "surfel" else 3]
    if len(prims) and float(extents.min()) <= 0:
        row = int((extents <= 0).any(-1).nonzero()[0])
        raise BadInputError(
            f"scales are stored as logarithms and must be above 0; row {row}: {extents[row].tolist()}"
        )
    rest = coefficients.detach()[:, 1:].transpose(1, 2).flatten(1)
    columns = {
        **_spread("", prims.means, "xyz"),
        **dict.fromkeys(("nx", "ny", "nz"), np.zeros(len(prims))),
        **_spread("f_dc_", coefficients.detach()[:, 0]),
        **_spread("f_rest_", rest),
        "opacity": torch.logit(prims.opacities.detach().double().clamp(*_OPACITIES)).cpu().numpy(),
        **_spread("scale_", extents.log()),
        **_spread("rot_", torch.nn.functional.normalize(prims.quats.detach(), dim=-1)),
    }
    rows = np.zeros(len(prims), dtype=[(name, "<f4") for name in columns])
    for name, values in columns.items():
        rows[name] = values
    write_elements(path, [("vertex", rows)])


def read_splats(path: Path) -> Splats:
    """Read Gaussians, or surfels where there are two scales (their third is then 0).

    Raises:
        BadInputError: no PLY, columns that are missing, or numbers that are not finite.
    """
    vertex = read_elements(path).get("vertex")
    if vertex is None:
        raise BadInputError(f"{path.name} has no vertices")
    names = set(vertex.dtype.names or ())
    rest = sum(name.startswith("f_rest_") for name in names)
    scales = sum(name.startswith("scale_") for name in names)
    if scales not in (2, 3) or rest not in (0, 9, 24, 45):
        raise BadInputError(
            f"{path.name} holds no splats: 2 or 3 columns scale_* and 0, 9, 24 or 45 columns f_rest_* are wanted, "
            f"got {scales} and {rest}"
        )
    means, first = _columns(path, vertex, "xyz"), _columns(path, vertex, _numbered("f_dc_", 3))
    higher = _columns(path, vertex, _numbered("f_rest_", rest)).reshape(len(vertex), 3, -1).transpose(1, 2)
    extents = _columns(path, vertex, _numbered("scale_", scales)).exp()
    opacities = _columns(path, vertex, ["opacity"])[:, 0].sigmoid()
    quats = _columns(path, vertex, _numbered("rot_", 4))
    kind: Kind = "surfel" if scales == 2 else "gaussian"
    prims = Primitives(means, quats, torch.nn.functional.pad(extents, (0, 3 - scales)), opacities)
    return Splats(prims, torch.cat([first[:, None], higher], dim=1), kind)


def write_points(
    path: Path, points: Float[Tensor, "n 3"], colours: Float[Tensor, "n 3"] | None = None
) -> None:
    """Write points, with colours within 0 and 1 where they are given."""
    coded = [] if colours is None else [("red", "u1"), ("green", "u1"), ("blue", "u1")]
    rows = np.zeros(len(points), dtype=[(name, "<f4") for name in "xyz"] + coded)
    _fill(rows, points, "xyz")
    if colours is not None:
        _fill(rows, (colours.detach().clamp(0, 1) * 255).round(), ("red", "green", "blue"))
    write_elements(path, [("vertex", rows)])


def read_points(path: Path) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"] | None]:
    """Return the vertices of a file, and their colours within 0 and 1 where it has some.

    Raises:
        BadInputError: no PLY, or one without x, y and z.
    """
    vertex = read_elements(path).get("vertex")
    if vertex is None:
        raise BadInputError(f"{path.name} has no vertices")
    points = _columns(path, vertex, "xyz")
    if not {"red", "green", "blue"} <= set(vertex.dtype.names or ()):
        return points, None
    colours = _columns(path, vertex, ("red", "green", "blue"))
    return points, colours / 255 if vertex.dtype["red"].kind in "iu" else colours


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Write a mesh of triangles.

    Raises:
        BadInputError: a triangle of a vertex that is not there.
    """
    _check_triangles(path, mesh)
    vertices = np.zeros(len(mesh.vertices), dtype=[(name, "<f4") for name in "xyz"])
    _fill(vertices, mesh.vertices, "xyz")
    faces = np.zeros(len(mesh.triangles), dtype=[("length", "u1"), ("vertex_indices", "<i4", (3,))])
    faces["length"], faces["vertex_indices"] = 3, mesh.triangles.cpu().numpy()
    write_elements(path, [("vertex", vertices), ("face", faces)])


def read_mesh(path: Path) -> Mesh:
    """Read a mesh of triangles.

    Raises:
        BadInputError: no PLY, faces that are no triangles, or triangles of vertices that are not there.
    """
    elements = read_elements(path)
    if "vertex" not in elements or "face" not in elements:
        raise BadInputError(
            f"{path.name} has no mesh: vertices and faces are wanted, it has {sorted(elements)}"
        )
    faces = elements["face"]
    corners = _corners(path, faces)
    mesh = Mesh(_columns(path, elements["vertex"], "xyz"), torch.from_numpy(corners))
    _check_triangles(path, mesh)
    return mesh


def _check_triangles(path: Path, mesh: Mesh) -> None:
    if len(mesh.triangles):
        low, high = int(mesh.triangles.min()), int(mesh.triangles.max())
        if low < 0 or high >= len(mesh.vertices):
            raise BadInputError(
                f"{path.name}: triangles use vertices {low} to {high}, there are {len(mesh.vertices)}"
            )


def _numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{place}" for place in range(count)]


def _spread(prefix: str, values: Tensor, suffixes: str | None = None) -> dict[str, Any]:
    arrays = values.detach().cpu().numpy()
    names = suffixes or [str(place) for place in range(arrays.shape[1])]
    return {f"{prefix}{name}": arrays[:, place] for place, name in enumerate(names)}


def _fill(rows: Any, values: Tensor, names: Any) -> None:
    for place, name in enumerate(names):
        rows[name] = values.detach().cpu().numpy()[:, place]


def _columns(path: Path, rows: Any, names: Any) -> Tensor:
    missing = [name for name in names if name not in (rows.dtype.names or ())]
    if missing:
        raise BadInputError(
            f"{path.name} has no column {missing[0]}; it has {', '.join(rows.dtype.names or ())}"
        )
    found = np.zeros((len(rows), len(names)), dtype=np.float32)
    for place, name in enumerate(names):
        found[:, place] = rows[name]
    bad = ~np.isfinite(found).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise BadInputError(f"{path.name}: vertex {row} is not finite in {', '.join(names)}")
    return torch.from_numpy(found)


def _corners(path: Path, faces: Any) -> Any:
    """Return the one column of a face that is a list."""
    for name in faces.dtype.names:
        if faces.dtype[name].subdtype:
            return faces[name].astype(np.int64)
    raise BadInputError(f"{path.name}: faces have no list of vertices")
