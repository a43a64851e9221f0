from __future__ import annotations

import pytest
import torch
from torch import nn

from papertrial import checkpoints
from papertrial.checkpoints import CheckpointFolder
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm

SETTINGS = {"steps": 10, "rates": (0.1, 0.2)}


class Unsafe:
    """A Python object, which only unpickling could bring back."""


def test_the_newest_is_kept_alone(tmp_path):
    folder = CheckpointFolder(tmp_path, SETTINGS)
    model = nn.Linear(2, 2)
    for step in (9, 10, 11):
        folder.save(step, model, {"step": step})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000011"]
    assert CheckpointFolder(tmp_path, SETTINGS).load(model) == {"step": 11}


def test_the_weights_come_back_tied_ones_too(tmp_path):
    model = load_causal_lm("tiny-gemma", seed=1)
    CheckpointFolder(tmp_path, {}).save(1, model, {})
    other = load_causal_lm("tiny-gemma", seed=2)
    CheckpointFolder(tmp_path, {}).load(other)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert other.lm_head.weight.data_ptr() == other.model.embed_tokens.weight.data_ptr()


def test_an_empty_folder_has_none(tmp_path):
    assert CheckpointFolder(tmp_path / "new", {}).load(nn.Linear(2, 2)) is None


def test_a_write_that_breaks_off_leaves_the_one_before(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path, SETTINGS)
    model = nn.Linear(2, 2)
    folder.save(1, model, {"step": 1})

    def full(state, path):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        folder.save(2, model, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert folder.load(model) == {"step": 1}


def test_a_killed_write_is_not_read(tmp_path):
    (tmp_path / ".writing-abc").mkdir()
    assert CheckpointFolder(tmp_path, SETTINGS).load(nn.Linear(2, 2)) is None


def test_a_step_written_twice_is_replaced(tmp_path):
    folder = CheckpointFolder(tmp_path, SETTINGS)
    model = nn.Linear(2, 2)
    folder.save(5, model, {"try": 1})
    folder.save(5, model, {"try": 2})
    assert folder.load(model) == {"try": 2}


def test_a_python_object_is_refused_at_the_first_save(tmp_path):
    folder = CheckpointFolder(tmp_path, SETTINGS)
    with pytest.raises(BadInputError, match="the optimizer's state holds a Python object"):
        folder.save(1, nn.Linear(2, 2), {"optimizer": Unsafe()})
    assert list(tmp_path.iterdir()) == []


def test_other_settings_are_named(tmp_path):
    model = nn.Linear(2, 2)
    CheckpointFolder(tmp_path, SETTINGS).save(1, model, {})
    with pytest.raises(BadInputError, match=r"of another run: rates was \[0.1, 0.2\], now \[0.1, 0.3\]"):
        CheckpointFolder(tmp_path, {**SETTINGS, "rates": (0.1, 0.3)}).load(model)
    with pytest.raises(BadInputError, match="of another run: clip was None, now 1"):
        CheckpointFolder(tmp_path, {**SETTINGS, "clip": 1}).load(model)


def test_another_model_is_named(tmp_path):
    CheckpointFolder(tmp_path, SETTINGS).save(1, nn.Linear(2, 2), {})
    for other in (nn.Linear(2, 3), nn.Sequential(nn.Linear(2, 2))):
        with pytest.raises(BadInputError, match="does not fit this model"):
            CheckpointFolder(tmp_path, SETTINGS).load(other)


@pytest.mark.parametrize("file", ["model.safetensors", "state.pt"])
def test_damage_is_said(tmp_path, file):
    model = nn.Linear(2, 2)
    CheckpointFolder(tmp_path, SETTINGS).save(1, model, {"a": torch.ones(3)})
    path = tmp_path / "step-00000001" / file
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BadInputError, match="step-00000001"):
        CheckpointFolder(tmp_path, SETTINGS).load(model)
