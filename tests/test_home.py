from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from papertrial.errors import BadInputError
from papertrial.home import ensure_writable, home


def test_the_environment_names_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("PAPERTRIAL_HOME", str(tmp_path / "elsewhere"))
    assert home() == tmp_path / "elsewhere"


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_is_no_choice(monkeypatch, value):
    monkeypatch.setenv("PAPERTRIAL_HOME", value)
    assert home() == Path.home() / ".papertrial"


def test_a_relative_home_does_not_move_with_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAPERTRIAL_HOME", "here")
    assert home() == tmp_path / "here"


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    folder = ensure_writable(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


def test_a_file_in_the_way_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=r"file.*it is a file, not a folder"):
        ensure_writable(tmp_path / "file")
    with pytest.raises(BadInputError, match="a part of that path is a file"):
        ensure_writable(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write in a read-only folder")
def test_a_folder_without_permission_is_said(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(BadInputError, match=r"locked.*permission denied"):
        ensure_writable(locked)


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "no space is left"), (errno.EROFS, "read-only"), (errno.EIO, os.strerror(errno.EIO))],
)
def test_what_the_system_says_becomes_one_line(monkeypatch, tmp_path, code, words):
    def refuse(**_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(BadInputError) as caught:
        ensure_writable(tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
