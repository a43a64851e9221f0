"""Threads that sleep while they wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from papertrial.threads import kernel_threads, over_rows, threads_sleep, torch_on_one_thread


@pytest.mark.parametrize(
    ("given", "before", "left"),
    [
        (None, "", "passive"),  # nobody said anything
        ("active", "", "active"),  # the user has
        (None, "import torch; ", "None"),  # too late: torch has read it
    ],
)
def test_threads_are_told_before_torch_is_there(given, before, left):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given:
        environment["OMP_WAIT_POLICY"] = given
    program = (
        f"import os; {before}from papertrial.cli import main; main(['papers', '--help']); "
        "print('left', os.environ.get('OMP_WAIT_POLICY'))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines()[-1] == f"left {left}"


def test_kernels_keep_their_threads_while_torch_works_on_one():
    before, taken = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        with torch_on_one_thread():
            assert (torch.get_num_threads(), kernel_threads()) == (1, 3)
            with torch_on_one_thread():  # a step that another step's loop calls
                assert (torch.get_num_threads(), kernel_threads()) == (1, 3)
            assert (torch.get_num_threads(), kernel_threads()) == (1, 3)
            over_rows(taken.append, (6, 4), least=1)
        assert (torch.get_num_threads(), kernel_threads()) == (3, 3)
        with pytest.raises(ZeroDivisionError), torch_on_one_thread():
            1 / 0  # noqa: B018
        assert (torch.get_num_threads(), kernel_threads()) == (3, 3)
    finally:
        torch.set_num_threads(before)
    assert sorted(part.start for part in taken) == [0, 2, 4]


@pytest.mark.parametrize(("policy", "slices"), [("PASSIVE", 2), ("active", 1), (None, 1)])
def test_rows_are_parted_where_the_other_core_is_free(monkeypatch, policy, slices):
    if policy is None:
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    else:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    assert threads_sleep() == (slices == 2)
    before, taken = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        over_rows(taken.append, (512, 4096))
    finally:
        torch.set_num_threads(before)
    assert sorted(part.start for part in taken) == [0, 256][:slices]
