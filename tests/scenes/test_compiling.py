"""Compilation is announced where no copy of the kernels lies on the disk, and only there."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

from papertrial.scenes.compiling import announce

KERNEL = """
import numba

@numba.njit(cache=True)
def double(values):
    return 2 * values
"""


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    (tmp_path / "kernels_of_this_test.py").write_text(KERNEL)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("kernels_of_this_test").double
    sys.modules.pop("kernels_of_this_test")


def test_kernels_are_announced_until_they_lie_on_the_disk(kernel, capsys):
    announce("an example", kernel)
    assert capsys.readouterr().err == "compiling an example for this machine: once, it takes some seconds\n"
    assert kernel(np.ones(2)).tolist() == [2, 2]
    announce("an example", kernel)
    assert capsys.readouterr().err == ""


def test_every_way_to_the_rasteriser_announces_it(tmp_path):
    """In a process of its own, which finds no copies: the line comes before the work, and nothing is compiled here."""
    code = (
        "import torch\n"
        "from papertrial.scenes.splatting import Primitives, compiled, rasterize\n"
        "compiled._Render.apply = lambda *given: exit(3)\n"
        "like = torch.ones(1, 3)\n"
        "rasterize(Primitives(like, torch.ones(1, 4), like, like[0, :1]), torch.eye(4), torch.eye(3), 1, 1,"
        " features=like, backend='numba')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"NUMBA_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "compiling the rasteriser for this machine" in done.stderr
