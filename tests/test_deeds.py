from __future__ import annotations

import pytest

from papertrial.deeds import check_new_folder
from papertrial.errors import BadInputError


def test_what_is_there_is_not_written_over(tmp_path):
    check_new_folder(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_new_folder(tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInputError, match=r"out must be a folder; .* is a file"):
        check_new_folder(tmp_path / "file")
    with pytest.raises(BadInputError, match=r"out must be an empty or new folder; .* holds files already"):
        check_new_folder(tmp_path)
