"""Captures as people have them: COLMAP's folders, folders of images with a transforms.json, or images alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from papertrial.errors import BadInputError, MissingExtraError
from papertrial.scenes.colmap import photographs_of, read_model
from papertrial.scenes.colmap.model import Model
from papertrial.scenes.colmap.observations import check_observations
from papertrial.scenes.reconstructing.capture import IMAGE_FOLDERS, Capture, make_capture
from papertrial.scenes.reconstructing.structure_from_motion import find_poses, image_files
from papertrial.scenes.reconstructing.transforms import find_transforms, read_transforms

_FILES = ("cameras", "images", "points3D")
_BELOW = (".", "sparse/0", "sparse", "colmap/sparse/0", "dense/0/sparse", "dense/sparse")
_IMAGES = (*IMAGE_FOLDERS, ".")
_UPWARDS = 3  # folders above the model where its images are looked for


@dataclass(frozen=True)
class Loading:
    """How photographs are read.

    Attributes:
        longest: pixels of the longer side that they are shrunk to; None keeps them.
        random_points: drawn where a capture has no sparse points; 0 for an error there.
        seed: of random points and of structure from motion.
        workspace: folder where poses that had to be found are kept.
        tell: is told what is being done.
    """

    longest: int | None = None
    random_points: int = 0
    seed: int = 0
    workspace: Path | None = None
    tell: Callable[[str], None] = lambda what: None


def load_capture(colmap: Path | None, images: Path | None, how: Loading | None = None) -> Capture:
    """Read a user's capture.

    With `colmap`, that folder's model is read and its images are looked for beside it, or in `images` where that is
    given too. With `images` alone, poses come from a transforms.json in or beside the folder; else from a COLMAP model
    there; else they are found by structure from motion.

    Args:
        colmap: a folder with a COLMAP model in it, or the model's own.
        images: a folder of photographs.
        how: sizes and what to do where something is missing.

    Raises:
        BadInputError: neither is given, a folder that is not there, no images, no poses and no way to find them, or
            files that cannot be read.
    """
    how = how or Loading()
    for name, folder in (("colmap", colmap), ("images", images)):
        if folder is not None and not folder.is_dir():
            raise BadInputError(f"{name} must be a folder; there is none at {folder}")
    if colmap is not None:
        return _from_colmap(colmap, images, how)
    if images is None:
        raise BadInputError(
            "nothing to reconstruct: give --images with a folder of photographs, or --colmap with a COLMAP model"
        )
    transforms = find_transforms(images)
    if transforms is not None:
        return _from_transforms(transforms, how)
    for place in (images, images.parent):
        if _model_below(place) is not None:
            return _from_colmap(place, images, how)
    return _from_images(images, how)


def _from_colmap(folder: Path, images: Path | None, how: Loading) -> Capture:
    place = _model_below(folder)
    if place is None:
        raise BadInputError(
            f"there is no COLMAP model in {folder}: cameras, images and points3D (.bin or .txt) are wanted there or in "
            f"{', '.join(_BELOW[1:])}"
        )
    model = read_model(place)
    photographs = photographs_of(model)
    if not photographs:
        raise BadInputError(f"the COLMAP model in {place} has no images")
    check_observations(model)
    pictures = images or _images_of(place, folder, photographs[0].name)
    how.tell("reading photographs")
    return make_capture(
        photographs,
        pictures,
        *_cloud(model),
        track_lengths=torch.from_numpy(model.cloud.track_lengths) if len(model.cloud) else None,
        root=pictures.parent if pictures.name in IMAGE_FOLDERS else pictures,
        origin=f"the COLMAP model in {place}",
        longest=how.longest,
        random_points=how.random_points,
        seed=how.seed,
    )


def _from_transforms(path: Path, how: Loading) -> Capture:
    found = read_transforms(path)
    how.tell("reading photographs")
    return make_capture(
        found.photographs,
        path.parent,
        found.points,
        found.colours,
        times=found.times,
        held_out=found.held_out,
        root=path.parent,
        origin=str(path),
        longest=how.longest,
        random_points=how.random_points,
        seed=how.seed,
    )


def _from_images(folder: Path, how: Loading) -> Capture:
    files = image_files(folder)
    if not files:
        raise BadInputError(f"there are no images in {folder}")
    if how.workspace is None:
        raise BadInputError(f"{folder} has images without poses, and there is no folder to keep poses in")
    place = how.workspace / "sparse" / "0"
    try:
        if _model_in(place) is None:
            find_poses(folder, files, how.workspace, seed=how.seed, tell=how.tell)
    except MissingExtraError as missing:
        raise BadInputError(
            f"{folder} has {len(files)} images and no poses. Give a COLMAP model (--colmap), put a transforms.json "
            f"beside the images, or have poses found: {missing}"
        ) from missing
    model = read_model(place)
    how.tell("reading photographs")
    return make_capture(
        photographs_of(model),
        folder,
        *_cloud(model),
        track_lengths=torch.from_numpy(model.cloud.track_lengths) if len(model.cloud) else None,
        root=folder.parent if folder.name in IMAGE_FOLDERS else folder,
        origin=f"structure from motion, {len(model.images)} of {len(files)} images",
        longest=how.longest,
        random_points=how.random_points,
        seed=how.seed,
    )


def _cloud(model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(model.cloud.places).float(), torch.from_numpy(model.cloud.colours).float() / 255


def _model_below(folder: Path) -> Path | None:
    """Return the folder in which a model lies, in one of the places where people and programs put it."""
    for below in _BELOW:
        if _model_in(folder / below) is not None:
            return folder / below
    return None


def _model_in(folder: Path) -> Path | None:
    for suffix in (".bin", ".txt"):
        if all((folder / f"{name}{suffix}").is_file() for name in _FILES):
            return folder
    return None


def _images_of(place: Path, folder: Path, first: str) -> Path:
    """Return the folder that holds a model's first image: below the model's folder or one above it."""
    model = place.resolve()
    bases = [folder.resolve(), model, *list(model.parents)[:_UPWARDS]]
    for base in bases:
        for name in _IMAGES:
            if (base / name / first).is_file():
                return base / name if name != "." else base
    looked = ", ".join(dict.fromkeys(str(base / "images") for base in bases))
    raise BadInputError(
        f"the images of the COLMAP model in {place} were not found: {first!r} is in none of {looked}; "
        "name their folder with --images"
    )
