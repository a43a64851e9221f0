"""Where a training run stands, on disk: written whole or not at all, and read without running code."""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from papertrial.errors import BadInputError
from papertrial.home import ensure_writable

_WEIGHTS = "model.safetensors"
_STATE = "state.pt"
_SETTINGS = "settings.json"


class CheckpointFolder:
    """The newest checkpoint of one run, kept in a folder of its own.

    A checkpoint is a folder `step-00000100` that appears by one rename, so a killed run leaves the one
    before it whole. Weights are safetensors; everything else is read with `weights_only=True`.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Keep checkpoints of the run that has these settings (JSON) in `folder`."""
        self._folder = ensure_writable(folder)
        self._settings = json.loads(json.dumps(settings))
        self._proved = False

    def save(self, step: int, model: nn.Module, state: Mapping[str, Any]) -> None:
        """Write the checkpoint of `step` and remove the one before.

        Raises:
            BadInputError: `state` holds what cannot be read back without running code. Found at the first
                save, not at the resume that would need it.
        """
        working = Path(tempfile.mkdtemp(dir=self._folder, prefix=".writing-"))
        try:
            save_model(model, str(working / _WEIGHTS))
            torch.save(dict(state), working / _STATE)
            (working / _SETTINGS).write_text(json.dumps(self._settings, indent=1), encoding="utf-8")
            if not self._proved:
                _read_state(working / _STATE)
                self._proved = True
            finished = self._folder / f"step-{step:08d}"
            if finished.exists():
                shutil.rmtree(finished)
            working.rename(finished)
        except BaseException:
            shutil.rmtree(working, ignore_errors=True)
            raise
        for older in self._finished():
            if older != finished:
                shutil.rmtree(older)

    def load(self, model: nn.Module) -> dict[str, Any] | None:
        """Put the newest checkpoint's weights into `model` and return its state; None if there is none.

        Raises:
            BadInputError: it belongs to a run with other settings, to another model, or is damaged.
        """
        finished = self._finished()
        if not finished:
            return None
        newest = finished[-1]
        self._check_settings(newest)
        try:
            load_model(model, newest / _WEIGHTS)
        except (SafetensorError, RuntimeError, OSError) as problem:
            reason = str(problem).strip().splitlines()[0]
            raise BadInputError(f"the checkpoint {newest} does not fit this model: {reason}") from problem
        return _read_state(newest / _STATE)

    def _finished(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("step-*") if (path / _SETTINGS).is_file())

    def _check_settings(self, checkpoint: Path) -> None:
        saved = json.loads((checkpoint / _SETTINGS).read_text(encoding="utf-8"))
        for name in sorted({*saved, *self._settings}):
            if saved.get(name) != self._settings.get(name):
                raise BadInputError(
                    f"the checkpoint {checkpoint} is of another run: {name} was {saved.get(name)!r}, "
                    f"now {self._settings.get(name)!r}; remove it or choose another folder"
                )


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        raise BadInputError(
            f"{path.name} cannot be read back safely: the optimizer's state holds a Python object "
            "(torch.load with weights_only=True refuses it); use an optimizer whose state is tensors and numbers"
        ) from problem
    except (OSError, RuntimeError, EOFError) as problem:
        raise BadInputError(f"the checkpoint {path} is damaged: {problem}") from problem
    return dict(state)
