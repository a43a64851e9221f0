"""Pictures of what a scene's renderings hold: depth, normals and errors as colours, side by side, as PNG files.

A picture is a uint8 array H x W x 3. Everything takes tensors (any device, with or without gradients) and arrays.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from papertrial.errors import BadInputError

Picture = UInt8[np.ndarray, "_ _ 3"]

_GAP = 2  # pixels between the pictures of a strip
_GAP_COLOUR = 128  # grey: a line in the light and in the dark
_LABEL_SIZE = 12  # pixels
_LEAST_LENGTH = 1e-6  # of a normal that is one


def colour_picture(image: Shaped[Tensor | np.ndarray, "h w 3"]) -> Picture:
    """Return an image within 0 to 1 as a picture, rounded to the nearest of 256 steps.

    Values outside are clipped, as screens do; what is not finite is black. A uint8 image comes back as it is.
    """
    pixels = _array(image)
    if pixels.dtype == np.uint8:
        return pixels
    return _bytes(np.nan_to_num(pixels.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0))


def depth_picture(
    depth: Float[Tensor | np.ndarray, "h w"],
    near: float | None = None,
    far: float | None = None,
) -> Picture:
    """Return a depth map in viridis, a perceptually uniform map: near is bright, far is dark, nothing is black.

    Args:
        depth: any unit; 0, negative and non-finite pixels have no depth.
        near: what is shown brightest; None for the least depth of this map.
        far: what is shown darkest; None for the greatest. Pictures that are compared need the same two numbers.

    Raises:
        BadInputError: both are given, and near is not below far.
    """
    if near is not None and far is not None and not near < far:
        raise BadInputError(f"near must lie below far, got near {near:.6g} and far {far:.6g}")
    values = _array(depth).astype(np.float64)
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        return np.zeros((*values.shape, 3), dtype=np.uint8)
    nearest = near if near is not None else float(values[known].min())
    farthest = far if far is not None else float(values[known].max())
    reach = farthest - nearest
    away = np.where(known, values, nearest) - nearest
    return _mapped("viridis", 1 - away / (reach if reach > 0 else 1.0), known)


def normal_picture(normals: Float[Tensor | np.ndarray, "h w 3"]) -> Picture:
    """Return a normal map as colours `(n + 1) / 2`, black where there is no normal.

    Args:
        normals: in the frame that is to be seen, the camera's or the world's; brought to length 1 here. Pixels whose
            length is under a millionth, or not finite, have none.
    """
    vectors = _array(normals).astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    known = np.isfinite(lengths) & (lengths > _LEAST_LENGTH)
    units = np.where(known, vectors, 0.0) / np.where(known, lengths, 1.0)
    return np.where(known, _bytes((units + 1) / 2), np.uint8(0))


def error_picture(
    a: Shaped[Tensor | np.ndarray, "h w *c"],
    b: Shaped[Tensor | np.ndarray, ...],
    most: float = 0.25,
) -> Picture:
    """Return where two images differ: the mean absolute difference over channels, in magma, black for none.

    Args:
        a: H x W x C or H x W; floats, or bytes, which count as parts of 255.
        b: of the same shape.
        most: the difference from which on the picture is brightest. Fixed, so that pictures can be compared; for depth
            maps it is in the maps' unit. What is not finite in either image counts as `most`.

    Raises:
        BadInputError: other shapes, or `most` is not positive.
    """
    one, other = _floats(a), _floats(b)
    if one.shape != other.shape:
        raise BadInputError(
            f"an error picture needs two images of one shape, got {one.shape} and {other.shape}"
        )
    if not most > 0:
        raise BadInputError(f"most must be positive, got {most}")
    with np.errstate(invalid="ignore"):
        difference = np.abs(one - other)
    if difference.ndim == 3:
        difference = difference.mean(axis=-1)
    difference = np.where(np.isfinite(difference), difference, most)
    return _mapped("magma", difference / most, np.ones(difference.shape, dtype=bool))


def strip(
    pictures: Sequence[Picture | tuple[str | None, Picture]],
    gap: int = _GAP,
) -> Picture:
    """Return pictures side by side, with thin grey gaps, each under its label where any has one.

    A picture that is lower than the others stands at the top; a column is as wide as its picture or its label.

    Args:
        pictures: pictures, or pairs of a label (or None) and a picture.
        gap: pixels between two of them.

    Raises:
        BadInputError: no picture, or one that is no picture.
    """
    named = [one if isinstance(one, tuple) else (None, one) for one in pictures]
    if not named:
        raise BadInputError("a strip needs at least one picture")
    for at, (_, picture) in enumerate(named):
        _check(picture, f"picture {at} of the strip")
    bands = [_label(text) for text, _ in named]
    top = max(band.shape[0] for band in bands)
    height = top + max(picture.shape[0] for _, picture in named)
    columns: list[np.ndarray] = []
    for band, (_, picture) in zip(bands, named, strict=True):
        if columns and gap:
            columns.append(np.full((height, gap, 3), _GAP_COLOUR, dtype=np.uint8))
        width = max(band.shape[1], picture.shape[1])
        column = np.full((height, width, 3), _GAP_COLOUR, dtype=np.uint8)
        column[:top] = 0
        column[: band.shape[0], : band.shape[1]] = band
        column[top : top + picture.shape[0], : picture.shape[1]] = picture
        columns.append(column)
    return np.concatenate(columns, axis=1)


def enlarge(picture: Picture, factor: int) -> Picture:
    """Return a picture with every pixel a square of `factor` x `factor` pixels.

    Raises:
        BadInputError: a factor below 1.
    """
    if factor < 1:
        raise BadInputError(f"factor must be at least 1, got {factor}")
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture as PNG, so that the file is there whole or not at all.

    Raises:
        BadInputError: it is no picture.
        OSError: it cannot be written.
    """
    _check(picture, f"{path.name}'s picture")
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".half-{secrets.token_hex(6)}-{path.name}")
    try:
        Image.fromarray(np.ascontiguousarray(picture)).save(half, format="PNG", optimize=True)
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    if not isinstance(values, Tensor):
        return values
    values = values.detach()
    return (
        (values.float() if values.dtype == torch.bfloat16 else values).cpu().numpy()
    )  # numpy has no bfloat16


def _floats(values: Tensor | np.ndarray) -> np.ndarray:
    array = _array(values)
    return array / 255.0 if array.dtype == np.uint8 else array.astype(np.float64)


def _bytes(shares: np.ndarray) -> np.ndarray:
    return (np.clip(shares, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def _mapped(name: str, shares: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Look up each share, within 0 to 1, in a colour table; black where nothing is known."""
    return np.where(known[..., None], _table(name)[_bytes(shares)], np.uint8(0))


@lru_cache
def _table(name: str) -> np.ndarray:
    """Return matplotlib's table of 256 colours."""
    from matplotlib import colormaps

    return colormaps[name](np.arange(256), bytes=True)[:, :3]


def _label(text: str | None) -> np.ndarray:
    """Return a label in white on black, with a margin; nothing for no text."""
    if not text:
        return np.zeros((0, 0, 3), dtype=np.uint8)
    font = ImageFont.load_default(_LABEL_SIZE)
    width = int(np.ceil(font.getlength(text))) + 6
    band = Image.new("RGB", (width, _LABEL_SIZE + 6))
    ImageDraw.Draw(band).text((3, 2), text, font=font, fill="white")
    return np.asarray(band)


def _check(picture: object, name: str) -> None:
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
        said = f"{getattr(picture, 'dtype', '')} {getattr(picture, 'shape', type(picture).__name__)}".strip()
        raise BadInputError(f"{name} must be a uint8 array H x W x 3 with at least a pixel, got {said}")
    if 0 in picture.shape:
        raise BadInputError(f"{name} has no pixels: its shape is {picture.shape}")
