"""Marigold: depth and normals of one image by a diffusion model, through diffusers.

Source: arXiv 2312.02145; arXiv 2505.09358 (normals).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError, MissingExtraError
from papertrial.hub import hub_errors, hub_has
from papertrial.scenes.monocular_priors import (
    check_image,
    checked_depth,
    checked_normals,
    disparity_to_depth,
)
from papertrial.scenes.pictures import colour_picture


@dataclass(frozen=True)
class Marigold:
    """A pipeline of diffusers, asked with the same noise every time.

    Attributes:
        name: what it was loaded from.
        pipeline: of diffusers.
        seed: of the noise that it starts from.
        steps: of denoising; None takes the checkpoint's own number.
        resolution: longer side that images are worked on in, in pixels; None takes the checkpoint's own, 0 the image's.
    """

    name: str
    pipeline: Any
    seed: int
    steps: int | None
    resolution: int | None

    kind: ClassVar[str]

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        steps: int | None = None,
        resolution: int | None = None,
    ) -> Marigold:
        """Load the pipeline from a folder or the hub; for the rest see the class.

        Raises:
            BadInputError: no such folder or id, or another pipeline.
            MissingExtraError: diffusers is not installed.
        """
        pipeline = _load(cls.kind, str(name), device, dtype)
        return cls(str(name), pipeline, seed, steps, resolution)

    def __call__(self, image: Tensor) -> Tensor:
        """Return what is estimated of an image H x W x 3 within 0 and 1."""
        raise NotImplementedError

    def _ask(self, image: Tensor) -> Tensor:
        """Return the prediction, C x H x W."""
        from PIL import Image

        check_image(image)
        said = self.pipeline(
            Image.fromarray(colour_picture(image)),
            num_inference_steps=self.steps,
            processing_resolution=self.resolution,
            generator=torch.Generator(self.pipeline.device).manual_seed(self.seed),
            output_type="pt",
        )
        return said.prediction[0].float().cpu()


class MarigoldDepth(Marigold):
    """Depth by Marigold (prs-eth/marigold-depth-v1-1): relative, up to a scale and a shift."""

    kind = "MarigoldDepthPipeline"

    @torch.inference_mode()
    def __call__(self, image: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w"]:
        """Return the image's depth: 0 nearest, 1 farthest; from a checkpoint for disparity, 1 nearest.

        Raises:
            BadInputError: an image that is not within 0 and 1, or a pipeline that says no depth of it.
        """
        found = self._ask(image)[0]
        if self.pipeline.config.prediction_type == "disparity":
            found = disparity_to_depth(found)
        return checked_depth(found, image, self.name)


class MarigoldNormals(Marigold):
    """Normals by Marigold (prs-eth/marigold-normals-v1-1), in the camera's frame."""

    kind = "MarigoldNormalsPipeline"

    @torch.inference_mode()
    def __call__(self, image: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
        """Return the image's normals in the camera's frame. Marigold's own has y up and z towards the viewer.

        Raises:
            BadInputError: an image that is not within 0 and 1, or a pipeline that says no normals of it.
        """
        found = self._ask(image).permute(1, 2, 0)
        found = torch.nn.functional.normalize(found, dim=-1)  # resizing to the image's size shortens them
        return checked_normals(found * found.new_tensor([1.0, -1.0, -1.0]), image, self.name)


def _load(kind: str, name: str, device: str | torch.device, dtype: torch.dtype) -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise MissingExtraError("diffusers", "priors") from error
    path = Path(name).expanduser()
    if path.is_dir() and not (path / "model_index.json").is_file():
        raise BadInputError(f"{path} is no pipeline of diffusers: it has no model_index.json")
    if not path.is_dir() and (path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1):
        raise BadInputError(f"there is no folder {name!r}; give one that save_pretrained wrote, or a hub id")
    source, offline = (str(path), True) if path.is_dir() else (name, not hub_has(name, "model"))
    try:
        saved = diffusers.DiffusionPipeline.load_config(source, local_files_only=offline).get("_class_name")
        pipeline = (
            None
            if saved != kind
            else getattr(diffusers, kind).from_pretrained(
                source, torch_dtype=dtype, local_files_only=offline, use_safetensors=True
            )
        )
    except hub_errors(ValueError, KeyError, RuntimeError, TypeError) as problem:
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise BadInputError(f"cannot load the pipeline {name!r}: {lines[0]}") from problem
    if pipeline is None:
        raise BadInputError(f"{name!r} is a {saved}, not a {kind}")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
