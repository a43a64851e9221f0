from __future__ import annotations

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.models import check_autocast, devices, resolve_device, resolve_dtype

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")


def test_formats_by_name():
    assert resolve_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(BadInputError, match=r"unknown dtype 'bf16'.*bfloat16"):
        resolve_dtype("bf16")


def test_the_cpu_is_everywhere():
    assert resolve_device("cpu") == torch.device("cpu")


@without_cuda
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_missing_cuda_says_so(name):
    with pytest.raises(BadInputError, match=f"device '{name}' was asked for, but torch finds no CUDA device"):
        resolve_device(name)


def test_a_device_number_too_high_says_how_many_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(BadInputError, match="finds 2 CUDA devices"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x"])
def test_what_is_no_device_says_so(name):
    with pytest.raises(BadInputError, match="device must be cpu, cuda"):
        resolve_device(name)


def test_a_device_torch_knows_but_cannot_use_here_says_so():
    with pytest.raises(BadInputError, match="torch cannot use it here"):
        resolve_device("xla")


def test_autocast_wants_hardware(monkeypatch):
    cpu = torch.device("cpu")
    check_autocast("float32", cpu)
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: False)
    with pytest.raises(BadInputError, match="cpu computes it by emulation only"):
        check_autocast("bfloat16", cpu)
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: True)
    check_autocast("bfloat16", cpu)


@pytest.mark.parametrize(("dtype", "words"), [("float16", "loss scaling"), ("int8", "float32 or bfloat16")])
def test_other_formats_are_refused(dtype, words):
    with pytest.raises(BadInputError, match=words):
        check_autocast(dtype, torch.device("cpu"))
