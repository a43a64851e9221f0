"""accelerate, without what it leaves behind in the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import GradientAccumulationPlugin

from papertrial.errors import BadInputError


@contextmanager
def accelerator_for(device: torch.device, dtype: str) -> Iterator[Accelerator]:
    """Give an accelerator for this run alone.

    accelerate keeps its state in the process: without this, a second run in another precision, or on the
    CPU of a machine with a GPU, would be refused or would silently get the first run's settings. What was
    there before comes back afterwards. Not for two runs in two threads of one process.

    Args:
        device: where the model is.
        dtype: "float32" for no autocast, "bfloat16" for autocast.

    Raises:
        BadInputError: the process is one of several, or accelerate's environment names another device.
    """
    kinds = (PartialState, AcceleratorState, GradientState)
    before = [dict(kind._shared_state) for kind in kinds]
    for kind in kinds:
        kind._shared_state.clear()
    try:
        accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="bf16" if dtype == "bfloat16" else "no",
            device_placement=False,
            # As a plugin, since the plain argument loses to an environment variable.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        )
        if accelerator.num_processes > 1:
            raise BadInputError(
                f"this loop trains in one process, and was launched in {accelerator.num_processes}"
            )
        if accelerator.device.type != device.type:
            raise BadInputError(
                f"the model is on {device}, but accelerate was told to use {accelerator.device}"
            )
        yield accelerator
    finally:
        for kind, kept in zip(kinds, before, strict=True):
            kind._shared_state.clear()
            kind._shared_state.update(kept)
