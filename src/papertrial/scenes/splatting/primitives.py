"""What is splatted: 2-D surfels or 3-D Gaussians, the camera that sees them, and the rules all back ends share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from papertrial.errors import BadInputError, unknown
from papertrial.scenes.compiling import compiles

Kind = Literal["surfel", "gaussian"]
_IDENTITY, _LAST_ROW = np.eye(3), np.array([0.0, 0.0, 0.0, 1.0])
KINDS, DISTORTIONS = ("surfel", "gaussian"), ("linear", "ndc")

NEAR = 0.2  # depth up to which the original kernels draw nothing
LEAST_DEPTH = 1e-9  # that is divided by, where near is 0
LEAST_ALPHA = 1.0 / 255.0  # a contribution below it is skipped
LEAST_TRANSMITTANCE = 1e-4  # a pixel ends before the contribution that would bring it there
BLUR = 0.3  # pixels squared added to a Gaussian's screen covariance
FIELD_MARGIN = (
    0.15  # of the image's width: how far outside the view a Gaussian's direction may be for its Jacobian
)


@dataclass(frozen=True)
class Primitives:
    """Primitives in world coordinates.

    Attributes:
        means: centres.
        quats: rotations (w, x, y, z); normalised where they are used.
        scales: standard deviations along the rotated axes, linear; a surfel uses the first two.
        opacities: within 0 and 1.
    """

    means: Float[Tensor, "n 3"]
    quats: Float[Tensor, "n 4"]
    scales: Float[Tensor, "n 3"]
    opacities: Float[Tensor, " n"]

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The four tensors by name."""
        return {"means": self.means, "quats": self.quats, "scales": self.scales, "opacities": self.opacities}


@dataclass(frozen=True)
class Rules:
    """How primitives become pixels.

    Attributes:
        kind: "surfel" (flat discs, arXiv 2403.17888) or "gaussian" (arXiv 2308.04079).
        near: primitives whose centre is not farther than this from the camera plane are left out.
        near_at_pixel: whether a surfel is also left out at pixels where its own depth is not beyond `near`.
        most_alpha: the largest alpha: 0.999 as in gsplat, 0.99 in the original kernels.
        distortion: which depth the distortion is taken of: "linear", or "ndc", remapped to 0 to 1 between
            `near` and `far`; what is nearer than `near` counts as there.
        far: the far plane of "ndc".
    """

    kind: Kind = "surfel"
    near: float = 0.01
    near_at_pixel: bool = False
    most_alpha: float = 0.999
    distortion: Literal["linear", "ndc"] = "linear"
    far: float = 100.0

    def __post_init__(self) -> None:
        for name, given, known in (("kind", self.kind, KINDS), ("distortion", self.distortion, DISTORTIONS)):
            if given not in known:
                raise unknown(name, given, known)
        if not 0 <= self.near < self.far or not 0 < self.most_alpha < 1:
            raise BadInputError(
                f"near must be at least 0 and below far, most_alpha between 0 and 1, "
                f"got {self.near}, {self.far} and {self.most_alpha}"
            )

    @classmethod
    def released(cls, kind: Kind = "surfel", near: float = NEAR, near_at_pixel: bool | None = None) -> Rules:
        """Return the rules under which the released programs fit: near 0.2, and a distortion of remapped depths.

        Their weights of the distortion (1000 and 100) are for the remap between 0.2 and 100; of depths in metres the
        distortion is some 25 times as large at 1 m, and more farther away. Alphas end at 0.999 here, at 0.99 there.

        Args:
            kind: "surfel" or "gaussian".
            near: in scene units; the remap stays the same where it follows the scene's size.
            near_at_pixel: whether surfels obey it at each pixel, as they do in those programs (the default for them).
        """
        at_pixel = kind == "surfel" if near_at_pixel is None else near_at_pixel
        return cls(kind, near=near, near_at_pixel=at_pixel, distortion="ndc")

    def without_remap(self) -> Rules:
        """Return the rules with the distortion of plain depths: one sum less where nobody asks for the distortion."""
        return self if self.distortion == "linear" else replace(self, distortion="linear")


@dataclass(frozen=True)
class RenderOut:
    """What one view shows.

    Attributes:
        features: sums of weight times feature; the background is the caller's: `features + (1 - alpha) * background`.
        alpha: sums of weights.
        depth: sums of weight times depth; divide by alpha for the expected depth.
        distortion: sums over pairs of weights times squared differences of depth (arXiv 2403.17888, eq. 13).
        median_depth: the depth of the last contributor met while more than half of the light was left; 0 where
            nothing was met.
        visible: indices of the primitives that are in front of the camera and touch the image.
        probe: zeros whose gradient, after `backward`, is that of each primitive's place on the screen, in pixels;
            None where no gradient is wanted.
        size: width and height.
    """

    features: Float[Tensor, "h w c"]
    alpha: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]
    distortion: Float[Tensor, "h w"]
    median_depth: Float[Tensor, "h w"]
    visible: Int[Tensor, " v"]
    probe: Float[Tensor, "n 2"] | None
    size: tuple[int, int]

    def screen_gradients(self) -> Float[Tensor, "n 2"]:
        """Return the gradient of each primitive's place on the screen, in normalised device units.

        Those are what the thresholds of densification (2e-4) are for: pixels times half the image's size.

        Raises:
            BadInputError: before `backward`, or where no gradient was wanted.
        """
        if self.probe is None or self.probe.grad is None:
            raise BadInputError(
                "screen gradients are there after backward() of a loss on this render's outputs"
            )
        width, height = self.size
        return self.probe.grad * self.probe.grad.new_tensor([width / 2, height / 2])


def check_inputs(
    prims: Primitives, viewmat: Tensor, intrinsics: Tensor, width: int, height: int, features: Tensor
) -> None:
    """Raise for what cannot be rendered, naming the tensor, its shape and the first bad row.

    Raises:
        BadInputError: non-finite values, a quaternion of norm zero, negative scales, opacities outside 0 to 1, a
            camera that is no camera, an empty image, features of another number, or tensors on several devices.
    """
    if width <= 0 or height <= 0:
        raise BadInputError(f"an image needs a width and a height above 0, got {width} x {height}")
    count = len(prims)
    if features.shape[0] != count:
        raise BadInputError(
            f"features has {features.shape[0]} rows (shape {tuple(features.shape)}) for {count} primitives"
        )
    named = {**prims.tensors, "features": features, "viewmat": viewmat, "intrinsics": intrinsics}
    if any(tensor.device != features.device for tensor in named.values()):
        devices = {name: str(tensor.device) for name, tensor in named.items()}
        raise BadInputError(f"all tensors must lie on one device, got {devices}")
    _check_camera(viewmat.detach().double().cpu(), intrinsics.detach().double().cpu())
    if not _is_sound(prims, features):
        _find_fault(prims, features)


def _is_sound(prims: Primitives, features: Tensor) -> bool:
    """Return whether a compiled walk over the numbers finds no fault; False where there is none such."""
    tensors = (*prims.tensors.values(), features)
    if not compiles(*tensors) or any(one.dtype not in (torch.float32, torch.float64) for one in tensors):
        return False
    from papertrial.scenes.splatting.checking_kernels import sound

    return sound(prims.means, prims.quats, prims.scales, prims.opacities, features)


def _find_fault(prims: Primitives, features: Tensor) -> None:
    with torch.no_grad():
        for name, tensor in {**prims.tensors, "features": features}.items():
            if not math.isfinite(float(tensor.sum())):  # a sum is finite only where all of it is
                _blame(name, tensor, ~torch.isfinite(tensor), "is not finite")
        if len(prims):
            _check_primitives(prims)


def _check_primitives(prims: Primitives) -> None:
    norms = (prims.quats * prims.quats).sum(-1)
    if float(norms.min()) == 0:
        _blame("quats", prims.quats, norms == 0, "has norm zero")
    if float(prims.scales.min()) < 0:
        _blame("scales", prims.scales, prims.scales < 0, "is negative")
    low, high = prims.opacities.aminmax()
    if float(low) < 0 or float(high) > 1:
        bad = (prims.opacities < 0) | (prims.opacities > 1)
        _blame("opacities", prims.opacities, bad, "is not within 0 and 1")


def _blame(name: str, tensor: Tensor, bad: Tensor, why: str) -> None:
    """Raise for the first bad row; a sum that overflowed although every number is finite is no error."""
    if bool(bad.any()):
        row = int(bad.reshape(bad.shape[0], -1).any(dim=1).nonzero()[0])
        raise BadInputError(f"{name} of shape {tuple(tensor.shape)}: row {row} {why}: {tensor[row].tolist()}")


def _check_camera(viewmat: Tensor, intrinsics: Tensor) -> None:
    if viewmat.shape != (4, 4) or intrinsics.shape != (3, 3):
        raise BadInputError(
            f"viewmat must be 4 x 4 and intrinsics 3 x 3, got {tuple(viewmat.shape)}, {tuple(intrinsics.shape)}"
        )
    view, camera = viewmat.numpy(), intrinsics.numpy()
    if not (np.isfinite(view).all() and np.isfinite(camera).all()):
        for name, tensor in (("viewmat", viewmat), ("intrinsics", intrinsics)):
            _blame(name, tensor, ~torch.isfinite(tensor), "is not finite")
    rotation = view[:3, :3]
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    rigid = np.abs(rotation @ rotation.T - _IDENTITY).max() < 1e-3
    last = np.abs(view[3] - _LAST_ROW).max() < 1e-6
    if not (rigid and last and determinant > 0):
        raise BadInputError(
            f"viewmat is no rigid transform: determinant {determinant:.4g}, last row {view[3].tolist()}"
        )
    if max(abs(camera[1, 0]), abs(camera[2, 0]), abs(camera[2, 1]), abs(camera[2, 2] - 1)) > 1e-6:
        raise BadInputError(f"intrinsics must be upper triangular with 1 at its end, got {camera.tolist()}")
    if camera[0, 0] <= 0 or camera[1, 1] <= 0:
        raise BadInputError(f"focal lengths must be above 0, got {camera[0, 0]} and {camera[1, 1]}")
