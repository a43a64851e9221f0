"""The loop in which a scene is fitted to photographs: one step after another, with exact resumption."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera
from papertrial.scenes.snapshots import Snapshot, read_snapshot, write_snapshot
from papertrial.threads import torch_on_one_thread

LOSS = "loss"
_HISTORY = "fitting.history"
_FEW_PIXELS = 256 * 256  # up to here steps take longer with two of torch's threads than with one


class Rendering(NamedTuple):
    """One view of a scene.

    Attributes:
        colour: H x W x 3, with its background.
        alpha: H x W, how much of each pixel is covered.
        depth: H x W, of the surface along the optical axis; 0 where nothing is.
        normals: H x W x 3, in the world's frame, facing the camera; as long as the pixel is covered.
    """

    colour: Tensor
    alpha: Tensor
    depth: Tensor
    normals: Tensor


@runtime_checkable
class Renderer(Protocol):
    """What can be looked at."""

    def render(self, camera: Camera, time: float = 0.0) -> Rendering:
        """Return what a camera sees, without gradients; `time` is between 0 and 1 and matters where things move."""


@runtime_checkable
class Fitted(Renderer, Protocol):
    """A scene, its optimizer and what it is fitted to: what the loop needs to know of them."""

    def step(self, number: int) -> Mapping[str, float]:
        """Take optimisation step `number`, counted from 0, and return its figures, "loss" among them.

        Everything that is drawn comes from a generator that is part of the state, or is seeded by the number; a step
        whose loss is not finite updates nothing.
        """

    def state(self) -> dict[str, Tensor]:
        """Return all that later steps depend on: weights, Adam's moments, statistics, generators."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go to where `state` was taken; tensors may have other numbers of rows than at construction."""


def fit(
    fitted: Fitted,
    steps: int,
    *,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int | None = None,
    identity: Mapping[str, Any] | None = None,
    pixels: int | None = None,
) -> list[dict[str, float]]:
    """Take steps until all are taken, or one whose loss is not finite, and return their figures.

    Args:
        fitted: what is fitted, in place.
        steps: in all, those before a resumption included.
        on_step: called after each step with its number, from 1, and its figures. A checkpoint due after the step is
            on disk by then, so that an exception raised here loses nothing before it.
        checkpoint: a safetensors file. If it is there and of this run, fitting goes on from it, to the bit as if
            never interrupted. It is replaced in one move: a killed run leaves the one before it whole.
        checkpoint_every: steps between checkpoints; a tenth of the run if not given. One is written at the end in
            any case, none after a step whose loss was not finite.
        identity: settings that a checkpoint must agree on to be of this run; JSON.
        pixels: of a photograph. Where they are few, torch works on one thread, and the compiled kernels on all.

    Raises:
        BadInputError: fewer than one step, figures without a loss, or a checkpoint that is damaged, of another run
            or farther than `steps`.
    """
    for name, count in (("steps", steps), ("checkpoint_every", checkpoint_every)):
        if count is not None and count < 1:
            raise BadInputError(f"{name} must be at least 1, got {count}")
    known = json.loads(json.dumps(dict(identity or {})))
    history = [] if checkpoint is None else _resume(fitted, checkpoint, known, steps)
    every = checkpoint_every or max(1, steps // 10)
    alone = torch_on_one_thread if pixels is not None and pixels <= _FEW_PIXELS else nullcontext
    while len(history) < steps and diverged_at(history) is None:
        with alone():
            found = fitted.step(len(history))
        values = {name: float(value) for name, value in found.items()}
        if LOSS not in values:
            raise BadInputError(f"a step must tell its {LOSS!r}, got {', '.join(values) or 'nothing'}")
        history.append(values)
        done = len(history)
        due = (done % every == 0 or done == steps) and math.isfinite(values[LOSS])
        if checkpoint is not None and due:
            tensors = {**fitted.state(), _HISTORY: _bytes(history)}
            write_snapshot(checkpoint, Snapshot(tensors, {"steps": done, "identity": known}))
        if on_step is not None:
            on_step(done, values)
    return history


def diverged_at(history: Sequence[Mapping[str, float]]) -> int | None:
    """Return the step, from 1, whose loss was not finite and with which fitting ended; None if all went well."""
    return len(history) if history and not math.isfinite(history[-1][LOSS]) else None


def step_generator(seed: int, number: int) -> torch.Generator:
    """Return a generator whose draws depend on the seed and the step's number alone, so a resumed run repeats them."""
    mixed = torch.Generator().manual_seed(seed)
    first = int(torch.randint(2**62, (), generator=mixed))
    return torch.Generator().manual_seed((first + number) % 2**63)


def _resume(
    fitted: Fitted, checkpoint: Path, identity: Mapping[str, Any], steps: int
) -> list[dict[str, float]]:
    """Put `fitted` where the checkpoint was written and return the figures up to there; none where none is."""
    if not checkpoint.exists():
        return []
    found = read_snapshot(checkpoint)
    if not isinstance(found.facts.get("steps"), int) or _HISTORY not in found.tensors:
        raise BadInputError(f"{checkpoint} holds no fitting's state; remove it or choose another file")
    saved = dict(found.facts.get("identity") or {})
    for name in sorted({*saved, *identity}):
        if saved.get(name) != identity.get(name):
            raise BadInputError(
                f"the checkpoint {checkpoint} is of another run: {name} was {saved.get(name)!r}, "
                f"now {identity.get(name)!r}; remove it or choose another folder"
            )
    done = found.facts["steps"]
    if done > steps:
        raise BadInputError(f"the checkpoint {checkpoint} has {done} steps behind it, {steps} are wanted")
    tensors = dict(found.tensors)
    history: list[dict[str, float]] = json.loads(bytes(tensors.pop(_HISTORY).tolist()))
    fitted.restore(tensors)
    return history


def _bytes(history: Sequence[Mapping[str, float]]) -> UInt8[Tensor, " n"]:
    return torch.frombuffer(bytearray(json.dumps(history).encode()), dtype=torch.uint8)
