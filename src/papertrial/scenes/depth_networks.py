"""The depth networks of transformers: loading them, what they take, and what their outputs mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.hub import hub_errors, hub_has
from papertrial.scenes.pictures import colour_picture

MEANINGS: dict[str, Literal["disparity", "depth", "config"]] = {
    "dpt": "disparity",  # MiDaS
    "depth_anything": "config",  # relative: disparity, metric: depth
    "zoedepth": "depth",
    "depth_pro": "depth",
    "glpn": "depth",
}
"""What the networks' outputs are, by model type, once they are finished: depths are in metres."""

_NOT_USED = "fusion_stage.layers.0.residual_layer1."  # of DPT: the first fusion has no residual, checkpoints no weights
_ZOE_BORDER = 3
_DEPTH_PRO_SIZE = 1536
_INVERSE_DEPTHS = 1e-4, 1e4  # that Depth Pro's are clamped to: depths from 0.1 mm to 10 km


class Network(NamedTuple):
    """What `DepthEstimator` is made of."""

    model: Any
    prepare: Callable[[Tensor], Any]
    finish: Callable[[Any, tuple[int, int]], Tensor]
    disparity: bool
    metric: bool


def load_network(name: str, device: torch.device, dtype: torch.dtype, gives: str | None) -> Network:
    """Load a depth network with its image processor; see `DepthEstimator.load`.

    Raises:
        BadInputError: no such folder or id, a checkpoint that lacks weights, or a network of another kind.
    """
    if gives not in (None, "disparity", "depth"):
        raise BadInputError(f"gives must be 'disparity' or 'depth' (in metres), got {gives!r}")
    source, offline = _source(name)
    kind = _model_type(name, source, offline)
    model = _load_model(name, source, offline).to(device=device, dtype=dtype).eval()
    meaning = gives or _meaning(kind, model.config)
    if kind == "depth_pro":
        return Network(model, _DepthProInput(source, offline, device, dtype), _finish_depth_pro, False, True)
    processor = _processor(name, source, offline)
    return Network(
        model,
        _Input(processor, device, dtype),
        _finish_zoe(processor) if kind == "zoedepth" else _finish_by(processor),
        meaning == "disparity",
        meaning == "depth",
    )


def _source(name: str) -> tuple[str, bool]:
    """Return where a network is loaded from, and whether without the network."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BadInputError(f"{path} is no saved model: it has no config.json")
        return str(path), True
    if path.exists() or not name or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise BadInputError(f"there is no folder {name!r}; give one that save_pretrained wrote, or a hub id")
    return name, not hub_has(name, "model")


def _model_type(name: str, source: str, offline: bool) -> str:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, local_files_only=offline, trust_remote_code=False)
    except hub_errors(ValueError, KeyError) as problem:
        raise _not_loaded(name, problem) from problem
    kind = str(config.model_type)
    if kind not in MEANINGS:
        raise BadInputError(
            f"{name!r} is a {kind}, no depth network known here: {', '.join(sorted(MEANINGS))}"
        )
    return kind


def _load_model(name: str, source: str, offline: bool) -> Any:
    from transformers import AutoModelForDepthEstimation

    try:
        model, info = AutoModelForDepthEstimation.from_pretrained(
            source,
            local_files_only=offline,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except hub_errors(SafetensorError, ValueError, KeyError, RuntimeError) as problem:
        raise _not_loaded(name, problem) from problem
    lacking = sorted(key for key in info["missing_keys"] if _NOT_USED not in key)
    if lacking:
        shown = ", ".join(lacking[:3]) + (" …" if len(lacking) > 3 else "")
        raise BadInputError(f"the checkpoint {name!r} lacks {len(lacking)} of the network's weights: {shown}")
    return model


def _processor(name: str, source: str, offline: bool) -> Any:
    """Return the image processor, the one on PIL: it needs no torchvision, and is the same on every machine."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(
            source, backend="pil", local_files_only=offline, trust_remote_code=False
        )
    except hub_errors(ValueError, KeyError, ImportError) as problem:
        raise _not_loaded(name, problem) from problem


def _meaning(kind: str, config: Any) -> Literal["disparity", "depth"]:
    meaning = MEANINGS[kind]
    if meaning == "config":
        return "depth" if config.depth_estimation_type == "metric" else "disparity"
    return meaning


class _Input:
    """Gives a network what its image processor makes of an image."""

    def __init__(self, processor: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._processor, self._device, self._dtype = processor, device, dtype

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return the network's arguments."""
        from PIL import Image

        made = self._processor(images=Image.fromarray(colour_picture(image)), return_tensors="pt")
        return {"pixel_values": made["pixel_values"].to(self._device, self._dtype)}


class _DepthProInput:
    """Gives Depth Pro what it takes. Transformers' processor of it needs torchvision; its steps are these two.

    Colours are brought to mean 0.5 and deviation 0.5 as the checkpoint says, then to 1536 x 1536 pixels, bilinear and
    without antialiasing.
    """

    def __init__(self, source: str, offline: bool, device: torch.device, dtype: torch.dtype) -> None:
        from transformers.image_processing_base import ImageProcessingMixin

        try:
            said, _ = ImageProcessingMixin.get_image_processor_dict(source, local_files_only=offline)
        except hub_errors(ValueError, KeyError) as problem:
            raise _not_loaded(source, problem) from problem
        size = said.get("size") or {"height": _DEPTH_PRO_SIZE, "width": _DEPTH_PRO_SIZE}
        self._size = int(size["height"]), int(size["width"])
        self._mean, self._deviation = (
            torch.tensor(said.get(key) or [0.5] * 3).reshape(3, 1, 1) for key in ("image_mean", "image_std")
        )
        self._device, self._dtype = device, dtype

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return the network's arguments."""
        pixels = torch.from_numpy(colour_picture(image).copy()).permute(2, 0, 1).float() / 255
        pixels = (pixels - self._mean) / self._deviation
        pixels = torch.nn.functional.interpolate(pixels[None], size=self._size, mode="bilinear")
        return {"pixel_values": pixels.to(self._device, self._dtype)}


def _finish_by(processor: Any) -> Callable[[Any, tuple[int, int]], Tensor]:
    def finish(output: Any, size: tuple[int, int]) -> Tensor:
        output.predicted_depth = output.predicted_depth.float()
        (found,) = processor.post_process_depth_estimation(output, target_sizes=[size])
        return found["predicted_depth"].reshape(size)  # squeezed where a side is one pixel

    return finish


def _finish_zoe(processor: Any) -> Callable[[Any, tuple[int, int]], Tensor]:
    """Return what cuts off the border that ZoeDepth's processor reflects round an image, 3 √(side / 2) pixels a side.

    Transformers' own function for this needs torchvision, also beside the processor on PIL.

    Source: arXiv 2302.12288's code.
    """

    def finish(output: Any, size: tuple[int, int]) -> Tensor:
        border = [int(_ZOE_BORDER * math.sqrt(side / 2)) if processor.do_pad else 0 for side in size]
        padded = [side + 2 * more for side, more in zip(size, border, strict=True)]
        depth = output.predicted_depth.float()[:, None]
        resized = torch.nn.functional.interpolate(depth, size=padded, mode="bicubic")[0, 0]
        return resized[border[0] : border[0] + size[0], border[1] : border[1] + size[1]]

    return finish


def _finish_depth_pro(output: Any, size: tuple[int, int]) -> Tensor:
    """Return metres from Depth Pro's canonical inverse depth and the field of view that it estimates.

    Inverse depth is `canonical · width / focal`, with the focal length in pixels of the field of view; a network
    without that head gives it as for a focal length of one width.

    Source: arXiv 2410.02073, section 3.
    """
    inverse = output.predicted_depth.float().reshape(1, 1, *output.predicted_depth.shape[-2:])
    if getattr(output, "field_of_view", None) is not None:
        half = torch.deg2rad(output.field_of_view.float().reshape(())) / 2
        inverse = inverse * 2 * torch.tan(half)  # width / focal
    resized = torch.nn.functional.interpolate(inverse, size=size, mode="bilinear")[0, 0]
    return 1 / resized.clamp(*_INVERSE_DEPTHS)


def _not_loaded(name: str, problem: BaseException) -> BadInputError:
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    return BadInputError(f"cannot load the depth network {name!r}: {lines[0]}")
