"""Every key's line, held to a search in the text itself."""

from __future__ import annotations

from papertrial.trial.toml_lines import key_lines, nearest_line

TEXT = '''\
title = "x"

[summary.en]
whats_new = """
claims = "not a key"
[not.a.table]
"""
details = "d"

[[claims]]
name = "a"
[[claims]]
name = "b"
paper = { value = "1", source = "t" }
note = """one line""" # comment
last = 1
'''


def test_every_key_has_its_line():
    lines = key_lines(TEXT)
    rows = TEXT.splitlines()
    assert rows[lines["claims", 1, "name"] - 1] == 'name = "b"'
    assert rows[lines["claims", 0, "name"] - 1] == 'name = "a"'
    assert rows[lines["summary", "en", "details"] - 1] == 'details = "d"'
    assert rows[lines["claims", 1, "last"] - 1] == "last = 1"
    assert lines["claims", 1] == 12


def test_text_inside_a_multi_line_string_is_no_key():
    lines = key_lines(TEXT)
    assert ("summary", "en", "claims") not in lines
    assert ("not", "a", "table") not in lines


def test_a_missing_key_falls_back_to_its_table():
    lines = key_lines(TEXT)
    assert nearest_line(lines, ("claims", 1, "missing")) == 12
    assert nearest_line(lines, ("claims", 1, "paper", "value")) == 14
    assert nearest_line(lines, ("nowhere",)) == 1
