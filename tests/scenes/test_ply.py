"""PLY files: bytes packed by hand, round trips, and hostile files."""

from __future__ import annotations

import contextlib
import math
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.scenes.ply import (
    Mesh,
    read_mesh,
    read_points,
    read_splats,
    write_mesh,
    write_points,
    write_splats,
)
from papertrial.scenes.splatting import Primitives


def splats(count=5, terms=16, seed=0):
    draw = torch.Generator().manual_seed(seed)
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=draw), dim=-1)
    prims = Primitives(
        torch.randn(count, 3, generator=draw),
        quats,
        torch.rand(count, 3, generator=draw) + 0.01,
        torch.rand(count, generator=draw).clamp(0.01, 0.99),
    )
    return prims, torch.randn(count, terms, 3, generator=draw)


@pytest.mark.parametrize("kind", ["gaussian", "surfel"])
@pytest.mark.parametrize("terms", [1, 4, 9, 16])
def test_splats_survive_writing(kind, terms, tmp_path):
    prims, coefficients = splats(terms=terms)
    write_splats(tmp_path / "a.ply", prims, coefficients, kind)
    found = read_splats(tmp_path / "a.ply")
    assert found.kind == kind
    torch.testing.assert_close(found.coefficients, coefficients, rtol=0, atol=0)
    for name, tensor in found.primitives.tensors.items():
        expected = prims.tensors[name]
        if name == "scales" and kind == "surfel":
            expected = expected * torch.tensor([1.0, 1.0, 0.0])
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)  # float32 logarithms and logits


def test_the_columns_are_those_that_viewers_read(tmp_path):
    prims, coefficients = splats(count=1, terms=4)
    write_splats(tmp_path / "a.ply", prims, coefficients)
    raw = (tmp_path / "a.ply").read_bytes()
    head, body = raw.split(b"end_header\n")
    lines = head.decode().splitlines()
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 1"]
    names = [line.split()[2] for line in lines[3:]]
    rest = [f"f_rest_{place}" for place in range(9)]
    tail = ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert names == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, *tail]
    values = dict(zip(names, struct.unpack(f"<{len(names)}f", body), strict=True))
    # channel by channel: the first three f_rest_ are red's coefficients 1 to 3
    assert [values[name] for name in rest[:3]] == coefficients[0, 1:, 0].tolist()
    assert [values[name] for name in rest[6:]] == coefficients[0, 1:, 2].tolist()
    opacity = float(prims.opacities[0])
    assert values["opacity"] == pytest.approx(math.log(opacity / (1 - opacity)), rel=1e-5)
    assert math.exp(values["scale_1"]) == pytest.approx(float(prims.scales[0, 1]), rel=1e-6)


def test_points_and_meshes_survive_writing(tmp_path):
    draw = torch.Generator().manual_seed(1)
    points, levels = torch.randn(6, 3, generator=draw), torch.randint(0, 256, (6, 3), generator=draw)
    write_points(tmp_path / "p.ply", points, levels / 255)
    found, colours = read_points(tmp_path / "p.ply")
    assert torch.equal(found, points)
    torch.testing.assert_close(colours, levels / 255)
    write_points(tmp_path / "q.ply", points)
    assert read_points(tmp_path / "q.ply")[1] is None
    mesh = Mesh(points, torch.tensor([[0, 1, 2], [5, 4, 3]]))
    write_mesh(tmp_path / "m.ply", mesh)
    again = read_mesh(tmp_path / "m.ply")
    assert torch.equal(again.vertices, points)
    assert torch.equal(again.triangles, mesh.triangles)
    with pytest.raises(BadInputError, match=r"triangles use vertices 0 to 6, there are 6"):
        write_mesh(tmp_path / "m.ply", Mesh(points, torch.tensor([[0, 1, 6]])))


TEXT = """ply
format ascii 1.0
comment by hand
element vertex 3
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
element face 1
property list uchar int vertex_indices
end_header
0 0 0 255 0 0
1 0 0 0 255 0
0 1.5 0 0 0 51
3 0 1 2
"""


def test_text_and_big_endian_files_are_read(tmp_path):
    (tmp_path / "t.ply").write_text(TEXT)
    points, colours = read_points(tmp_path / "t.ply")
    assert points.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1.5, 0]]
    assert colours[2].tolist() == [0, 0, pytest.approx(0.2)]
    assert read_mesh(tmp_path / "t.ply").triangles.tolist() == [[0, 1, 2]]
    head = b"ply\nformat binary_big_endian 1.0\nelement vertex 1\n"
    head += b"property double x\nproperty double y\nproperty double z\nend_header\n"
    (tmp_path / "b.ply").write_bytes(head + struct.pack(">3d", 1.0, -2.0, 0.5))
    assert read_points(tmp_path / "b.ply")[0].tolist() == [[1, -2, 0.5]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ply\n", "plx\n", "is no PLY file"),
        ("end_header\n", "", "is no PLY file"),
        ("format ascii 1.0\n", "", "the header needs a format"),
        ("property float y\n", "property float x\n", "header line 6: cannot read 'property float x'"),
        ("property float y\n", "property text y\n", "header line 6: cannot read"),
        ("element vertex 3", "element vertex -3", "header line 4: cannot read"),
        ("element vertex 3", "element vertex 999999999999", "rows of vertex"),
        ("0 1.5 0 0 0 51\n", "0 nan 0 0 0 51\n", "vertex 2 is not finite in x, y, z"),
        ("0 1.5 0 0 0 51\n", "0 1.5\n", "rows of vertex are not 6 numbers each"),
        ("0 1.5 0 0 0 51\n", "0 1.5 0 0 0 510\n", "blue of vertex does not fit"),
        ("3 0 1 2\n", "4 0 1 2\n", "row 0 of face is a list of 4; triangles are wanted"),
        ("3 0 1 2\n", "3 0 1 7\n", "use vertices 0 to 7, there are 3"),
        ("property float z\n", "property float w\n", "has no column z"),
    ],
)
def test_bad_files_say_where(old, new, message, tmp_path):
    assert old in TEXT
    (tmp_path / "t.ply").write_text(TEXT.replace(old, new))
    with pytest.raises(BadInputError, match=message):
        read_mesh(tmp_path / "t.ply")


def test_a_header_without_end_is_not_read_on_and_on(tmp_path):
    (tmp_path / "t.ply").write_bytes(b"ply\nformat ascii 1.0\n" + b"comment x\n" * 20000 + b"end_header\n")
    with pytest.raises(BadInputError, match="in 65536 bytes"):
        read_points(tmp_path / "t.ply")


def test_files_that_are_cut_or_go_on_are_refused(tmp_path):
    prims, coefficients = splats(2, 4)
    path = tmp_path / "a.ply"
    write_splats(path, prims, coefficients)
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(BadInputError, match=r"ends early|is no PLY"):
            read_splats(path)
    path.write_bytes(whole + b"xy")
    with pytest.raises(BadInputError, match="goes on for 2 bytes"):
        read_splats(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_spoilt_bytes_give_one_clear_error_or_a_file(data, tmp_path_factory):
    raw = bytearray(TEXT.encode())
    for _ in range(3):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("ply") / "t.ply"
    path.write_bytes(bytes(raw))
    with contextlib.suppress(BadInputError):  # any other error fails
        read_mesh(path)


def test_what_cannot_be_stored_is_refused(tmp_path):
    prims, coefficients = splats(3)
    flat = Primitives(prims.means, prims.quats, prims.scales * torch.tensor([1.0, 1.0, 0.0]), prims.opacities)
    write_splats(tmp_path / "a.ply", flat, coefficients, "surfel")  # a surfel's third is not stored
    with pytest.raises(BadInputError, match="scales are stored as logarithms"):
        write_splats(tmp_path / "a.ply", flat, coefficients)
    with pytest.raises(BadInputError, match="3 primitives have 2 rows"):
        write_splats(tmp_path / "a.ply", prims, coefficients[:2])
    write_points(tmp_path / "p.ply", prims.means)
    with pytest.raises(BadInputError, match="holds no splats"):
        read_splats(tmp_path / "p.ply")
    with pytest.raises(BadInputError, match="there is no file"):
        read_splats(tmp_path / "other.ply")
