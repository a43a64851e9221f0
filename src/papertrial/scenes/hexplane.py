"""Six-plane fields: features of a place and a time as a product of samples from planes over pairs of axes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from papertrial.errors import BadInputError, unknown
from papertrial.scenes.compiling import announce

PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))  # xy, xz, xt, yz, yt, zt
TIME = 3
_FIRST_SPACE = (0.1, 0.5)  # between which planes of two places start; planes of a place and time start at 1
_SLACK = 1e-5  # of the box: how far outside rounding may bring a point that lies on its border


class Penalty(NamedTuple):
    """Weights of a field's regularisers.

    Attributes:
        variation: of squared second differences in planes of two places.
        time: of squared second differences in planes of a place and time.
        one: of the distance from 1 in planes of a place and time, which keeps still things still.
    """

    variation: float
    time: float
    one: float


class HexPlane(nn.Module):
    """A field over places and times: `features = concatenate over scales (product over six planes of a sample)`.

    Planes lie over xy, xz, xt, yz, yt and zt; plane (i, j) has its rows along j. Samples are bilinear, the outermost
    cells lie on the box's border, and what lies outside takes the border's value. The planes are one parameter of
    shape (cells, channels), scale after scale and pair after pair, which one compiled kernel reads (CPU), or
    grid samples of planes of equal size, stacked (elsewhere, or with `backend="torch"`).

    Args:
        box: two opposite corners, in any order.
        spatial: cells along x, y and z at the first scale, one number or three.
        temporal: cells along time, the same at all scales.
        channels: of every plane.
        scales: by which `spatial` is multiplied.
        time_range: "full" spreads times from 0 to 1 over all of the time axis; "half" leaves its first half
            unused, as the 4DGS family does by sampling [-1, 1] at times within [0, 1].
        backend: "auto", "numba" or "torch".
        generator: of the first planes.

    Raises:
        BadInputError: a box without extent, sizes below 2, no channels, no scales.

    Source: the field of arXiv 2310.08528 and arXiv 2501.03714, with the initial values of their released code.
    """

    box: Tensor

    def __init__(
        self,
        box: Float[Tensor, "2 3"],
        *,
        spatial: int | Sequence[int] = 64,
        temporal: int = 25,
        channels: int = 32,
        scales: Sequence[int] = (1, 2),
        time_range: str = "full",
        backend: str = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        places = (spatial,) * 3 if isinstance(spatial, int) else tuple(spatial)
        _check_sizes(places, temporal, channels, scales)
        for name, given, known in (
            ("time_range", time_range, ("full", "half")),
            ("backend", backend, ("auto", "numba", "torch")),
        ):
            if given not in known:
                raise unknown(name, given, known)
        low, high = torch.aminmax(box.detach().float(), dim=0)
        if not bool((high > low).all()) or not bool(torch.isfinite(box).all()):
            raise BadInputError(f"a field's box needs an extent along x, y and z, got corners {box.tolist()}")
        self.register_buffer("box", torch.stack([low, high]))
        self.sizes = [(*(scale * one for one in places), temporal) for scale in scales]
        self.channels, self.time_range, self.backend = channels, time_range, backend
        self.cells = nn.Parameter(self._first_cells(generator))
        self.layout = _layout(self.sizes)
        self._gradient: Tensor | None = None

    @property
    def features(self) -> int:
        """How many features a place and time has."""
        return len(self.sizes) * self.channels

    def planes(self, cells: Float[Tensor, "cells channels"] | None = None) -> list[list[Tensor]]:
        """Return the planes as views of the parameter: for each scale six of shape (rows, columns, channels).

        Args:
            cells: another tensor of the parameter's shape, such as its gradient.
        """
        flat = self.cells if cells is None else cells
        found, start = [], 0
        for size in self.sizes:
            six = []
            for i, j in PAIRS:
                end = start + size[i] * size[j]
                six.append(flat[start:end].view(size[j], size[i], self.channels))
                start = end
            found.append(six)
        return found

    def forward(
        self,
        points: Float[Tensor, "n 3"],
        times: Float[Tensor, " n"] | float,
        *,
        outside: Literal["raise", "clamp"] = "raise",
    ) -> Float[Tensor, "n features"]:
        """Return the features of places at times.

        Args:
            points: in the box's coordinates.
            times: of each point, or one for all; within 0 and 1.
            outside: what to do with points outside the box: raise, or take the border's value.

        Raises:
            BadInputError: points outside the box, with their share and how far the farthest lies.
        """
        if outside == "raise":
            self.check_inside(points)
        if self._compiled(points):
            from papertrial.scenes.hexplane_compiled import sample

            return sample(self, points, times)
        return self._sample_stacked(self.shares(points, times))

    def clear_gradient(self) -> None:
        """Set the planes' gradient to zeros, in place where it was there before, and let `backward` add to it there.

        A step spares the gradients of each use of the field, which are as large as the field, and their sum. While
        `cells.grad` is this tensor, `torch.autograd.grad` does not see the planes; without a call of this method, and
        where the compiled kernels do not run, everything is as with any parameter.
        """
        if not self._compiled(self.cells):
            self.cells.grad = None
            return
        if self._gradient is None or self._gradient.shape != self.cells.shape:
            self._gradient = torch.empty_like(self.cells)
        self.cells.grad = self._gradient.zero_()

    def check_inside(self, points: Float[Tensor, "n 3"]) -> None:
        """Raise where points lie outside the box: they would silently take its border's value.

        Raises:
            BadInputError: with their share, and the one that lies farthest.
        """
        away = self.outside(points)
        if not bool(away.any()):
            return
        low, high = self.box
        worst = int(((points.detach() - low) / (high - low) - 0.5).abs().amax(1).argmax())
        raise BadInputError(
            f"{float(away.float().mean()):.1%} of {len(points)} points lie outside the field's box "
            f"{self.box.tolist()}, the farthest at {points[worst].tolist()}; make the box larger (box_around), or "
            "give outside='clamp'"
        )

    def outside(self, points: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
        """Return which points lie outside the box; those that are no numbers do."""
        low, high = self.box
        at = (points.detach() - low) / (high - low)
        return ~((at >= -_SLACK) & (at <= 1 + _SLACK)).all(1)

    def penalty(self, weights: Penalty) -> Float[Tensor, ""]:
        """Return the weighted sum of the regularisers over planes and scales.

        Second differences are taken from row to row: along y and z in planes of places, along time in the others.

        Source: the regularisers of arXiv 2301.10241 as the code of arXiv 2310.08528 applies them.
        """
        if self._compiled(self.cells):
            from papertrial.scenes.hexplane_compiled import penalise

            return penalise(self, weights)
        total = self.cells.new_zeros(())
        for six in self.planes():
            for (_, j), plane in zip(PAIRS, six, strict=True):
                roughness, distance = _weights(weights, j)
                bend = plane[:-2] - 2 * plane[1:-1] + plane[2:]
                if bend.numel():
                    total = total + roughness * bend.square().mean()
                if distance:
                    total = total + distance * (plane - 1).abs().mean()
        return total

    def _compiled(self, like: Tensor) -> bool:
        if self.backend == "auto":
            return like.device.type == "cpu" and find_spec("numba") is not None
        if self.backend == "numba" and like.device.type != "cpu":
            raise BadInputError(
                f"backend='numba' samples on the CPU, the points lie on {like.device}; use 'torch'"
            )
        return self.backend == "numba"

    def shares(
        self, points: Float[Tensor, "n 3"], times: Float[Tensor, " n"] | float
    ) -> Float[Tensor, "n 4"]:
        """Return where points and times lie between the ends of each axis: 0 to 1."""
        low, high = self.box
        at = (points - low) / (high - low)
        when = times.to(at)[:, None] if isinstance(times, Tensor) else at.new_full((len(at), 1), times)
        return torch.cat([at, when if self.time_range == "full" else (1 + when) / 2], dim=1)

    def accumulator(self) -> Tensor | None:
        """Return the gradient that `clear_gradient` set, if it is still there: backward passes add to it."""
        return self._gradient if self._gradient is not None and self.cells.grad is self._gradient else None

    def _sample_stacked(self, where: Float[Tensor, "n 4"]) -> Float[Tensor, "n features"]:
        """Sample planes of equal size in one call each."""
        found = []
        ends = 2 * where.nan_to_num() - 1  # at what is no number torch's own gradient lies outside the planes
        for six in self.planes():
            alike: dict[tuple[int, ...], list[int]] = {}
            for pair, plane in enumerate(six):
                alike.setdefault(tuple(plane.shape), []).append(pair)
            product = where.new_ones(len(where), self.channels)
            for pairs in alike.values():
                stack = torch.stack([six[pair] for pair in pairs]).permute(0, 3, 1, 2)
                grid = torch.stack([ends[:, PAIRS[pair]] for pair in pairs])[:, None]
                samples = torch.nn.functional.grid_sample(
                    stack, grid, mode="bilinear", padding_mode="border", align_corners=True
                )
                product = product * samples[:, :, 0].prod(0).T
            found.append(product)
        return torch.cat(found, dim=1)

    def _first_cells(self, generator: torch.Generator | None) -> Tensor:
        parts = []
        for size in self.sizes:
            for i, j in PAIRS:
                shape = (size[i] * size[j], self.channels)
                plane = torch.ones(shape)
                parts.append(plane if j == TIME else plane.uniform_(*_FIRST_SPACE, generator=generator))
        return torch.cat(parts)


def box_around(points: Float[Tensor, "n 3"], margin: float = 0.1) -> Float[Tensor, "2 3"]:
    """Return the corners of the box around points, widened on every side by a share of its longest side.

    Raises:
        BadInputError: no points, points that are not finite or all in one place, or a negative margin.
    """
    if not len(points) or not bool(torch.isfinite(points).all()) or margin < 0:
        raise BadInputError(
            f"a box is drawn around finite points with a margin of at least 0, got {len(points)} points and {margin}"
        )
    low, high = torch.aminmax(points, dim=0)
    wide = float((high - low).max())
    if wide == 0:
        raise BadInputError(f"all {len(points)} points lie at {points[0].tolist()}; a box needs an extent")
    return torch.stack([low - margin * wide, high + margin * wide])


def warm_up() -> None:
    """Compile the kernels, or load them from the disk, so that a clock may start after it; seconds the first time."""
    from papertrial.scenes import hexplane_kernels, hexplane_penalty_kernels

    announce("fields", hexplane_kernels.sample_backward, hexplane_penalty_kernels.regularise_backward)
    points = torch.zeros(1, 3, requires_grad=True)
    box = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    field = HexPlane(box, spatial=2, temporal=2, channels=1, backend="numba", generator=torch.Generator())
    (field(points, 0.5).sum() + field.penalty(Penalty(1.0, 1.0, 1.0))).backward()


def _weights(weights: Penalty, row_axis: int) -> tuple[float, float]:
    return (weights.time, weights.one) if row_axis == TIME else (weights.variation, 0.0)


def _layout(sizes: list[tuple[int, ...]]) -> tuple[Any, Any]:
    """Return the first cell of every plane (scales, 6), and the sizes (scales, 4)."""
    counts = torch.tensor(sizes, dtype=torch.int64)
    cells = torch.stack([counts[:, i] * counts[:, j] for i, j in PAIRS], dim=1).flatten()
    starts = (cells.cumsum(0) - cells).view(len(sizes), len(PAIRS))
    return starts.numpy(), counts.numpy()


def _check_sizes(places: Sequence[int], temporal: int, channels: int, scales: Sequence[int]) -> None:
    if len(places) != 3 or min(*places, temporal) < 2:
        raise BadInputError(
            f"a plane has at least 2 cells along each of x, y, z and t, got {list(places)} and {temporal}"
        )
    if channels < 1 or not scales or min(scales) < 1:
        raise BadInputError(
            f"a field needs a channel and a scale of at least 1, got {channels} channels and scales {list(scales)}"
        )
