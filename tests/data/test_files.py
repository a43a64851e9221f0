from __future__ import annotations

import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.data.files import cut_at_blank_lines
from papertrial.data.text import load_documents
from papertrial.errors import BadInputError

TEXTS = ["one", "  two\nlines", "drei – ünï"]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path, **columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_jsonl_rows_are_documents(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": text, "url": "u"} for text in TEXTS])
    assert load_documents(path) == TEXTS


def test_a_line_separator_inside_json_does_not_cut_a_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one\u2028two\x85three"}\r\n\r\n{"text": "next"}', encoding="utf-8")
    assert load_documents(path) == ["one\u2028two\x85three", "next"]


def test_parquet_rows_are_documents(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", text=TEXTS, number=[1, 2, 3])
    assert load_documents(path) == TEXTS


def test_the_field_can_be_chosen_in_two_ways(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "no", "content": "yes"}])
    assert load_documents(f"{path}#content") == ["yes"]
    assert load_documents(path, field="content") == ["yes"]
    assert load_documents(f"{path}#content", field="content") == ["yes"]
    with pytest.raises(BadInputError, match="two fields are asked for: 'content' in the source, and 'text'"):
        load_documents(f"{path}#content", field="text")


def test_a_number_sign_in_a_file_name_is_no_field(tmp_path):
    assert load_documents(write_jsonl(tmp_path / "c#.jsonl", [{"text": "yes"}])) == ["yes"]


def test_a_folder_is_read_in_order_with_text_files_whole(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "late.txt").write_text("para\n\n" * 2000, encoding="utf-8")
    write_jsonl(tmp_path / "a.jsonl", [{"text": "first"}, {"text": " \n"}])
    (tmp_path / "ignored.md").write_text("no")
    first, late = load_documents(tmp_path)
    assert first == "first"
    assert late == "para\n\n" * 2000


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert load_documents(path) == ["hello"]


def test_a_long_text_is_cut_and_a_short_one_is_not(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a short note\n\nin two paragraphs")
    assert load_documents(path) == ["a short note\n\nin two paragraphs"]
    path.write_text("\n\n".join(f"paragraph {n} " + "x" * 500 for n in range(40)))
    assert len(load_documents(path)) == 10


@given(st.lists(st.text("ab \n", max_size=900), max_size=20))
@settings(deadline=None)
def test_cutting_loses_only_white_space(parts):
    text = "\n\n".join(parts)
    pieces = cut_at_blank_lines(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(piece.strip() for piece in pieces)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"text": "a"}\n{"text": }\n', r"a\.jsonl:2 is not JSON: Expecting value"),
        ('{"text": "a"}\n\n["a"]\n', r"a\.jsonl:3 is not a JSON object but list"),
        ('{"content": "a", "id": 1}\n', r"a\.jsonl:1 has no field 'text'; it has: content, id"),
        ('{"text": 3}\n', r"a\.jsonl:1: 'text' is int, not text"),
        ('{"text": "  "}\n', r"a\.jsonl holds no text"),
        ("", r"a\.jsonl holds no text"),
    ],
)
def test_a_bad_row_is_named(tmp_path, content, words):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(BadInputError, match=words):
        load_documents(tmp_path / "a.jsonl")


def test_what_is_not_utf8_is_said(tmp_path):
    (tmp_path / "a.txt").write_bytes("straße".encode("latin-1"))
    with pytest.raises(BadInputError, match=r"a\.txt is not UTF-8 \(byte 4\)"):
        load_documents(tmp_path / "a.txt")


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(BadInputError, match=r"is a \.pdf file; text is read from \.txt, \.jsonl, \.parquet"):
        load_documents(tmp_path / "a.pdf")


def test_a_folder_without_text_is_said(tmp_path):
    with pytest.raises(BadInputError, match=r"has no \.txt, \.jsonl, \.parquet file"):
        load_documents(tmp_path)


def test_bad_parquet_is_named(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", content=["a"], number=[1])
    with pytest.raises(BadInputError, match=r"no column 'text'; it has: content, number"):
        load_documents(path)
    with pytest.raises(BadInputError, match="the column 'number' holds int64, not text"):
        load_documents(path, field="number")
    path = write_parquet(tmp_path / "b.parquet", text=["a", None, None])
    with pytest.raises(BadInputError, match="2 rows have no 'text', the first is row 1"):
        load_documents(path)
    (tmp_path / "c.parquet").write_bytes(b"not parquet")
    with pytest.raises(BadInputError, match=r"c\.parquet cannot be read as parquet"):
        load_documents(tmp_path / "c.parquet")


def test_every_row_of_a_published_file_is_found(shared_data):
    path = shared_data("prmbench") / "test_p1.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert load_documents(f"{path}#original_question") == [row["original_question"] for row in rows]
    with pytest.raises(BadInputError, match="'original_process' is list, not text"):
        load_documents(path, field="original_process")
