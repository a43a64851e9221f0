"""Poses of photographs that come without any: structure from motion by COLMAP's own library."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from papertrial.errors import BadInputError, MissingExtraError
from papertrial.home import ensure_writable

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
_ALL_PAIRS = 120  # photographs up to which all pairs are matched; more are taken for a film
_FEWEST = 3


def image_files(folder: Path) -> list[str]:
    """Return the images of a folder and of those below it, by name; hidden ones are left out."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()]
    names = [path.relative_to(folder) for path in found]
    return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))


def find_poses(
    folder: Path, files: Sequence[str], workspace: Path, *, seed: int, tell: Callable[[str], None]
) -> None:
    """Find lenses, poses and sparse points of photographs, and write them as a COLMAP model to `workspace/sparse/0`.

    All pairs of up to 120 photographs are matched; of more, those that follow each other. Photographs of one size are
    taken for one lens with radial distortion. Of several models that do not meet, the one with the most photographs
    is kept.

    Raises:
        MissingExtraError: pycolmap is not installed.
        BadInputError: too few photographs, or none that fit together.
    """
    try:
        import pycolmap
    except ImportError as error:
        raise MissingExtraError("pycolmap", "capture") from error
    if len(files) < _FEWEST:
        raise BadInputError(
            f"structure from motion needs {_FEWEST} photographs or more, {folder} has {len(files)}"
        )
    working = ensure_writable(workspace) / "finding"
    shutil.rmtree(working, ignore_errors=True)
    working.mkdir()
    pycolmap.set_random_seed(seed)
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.ERROR)
    found = _models(pycolmap, folder, list(files), working, tell)
    if not found:
        raise BadInputError(
            f"structure from motion found no poses for the {len(files)} photographs of {folder}: they must overlap and "
            "show texture; take more of them, or give poses (--colmap, or a transforms.json)"
        )
    best = max(found.values(), key=lambda model: model.num_reg_images())
    place = workspace / "sparse" / "0"
    best.write_binary(str(working))
    place.mkdir(parents=True, exist_ok=True)
    for name in ("cameras", "images", "points3D"):  # the last of the three makes the model whole
        (working / f"{name}.bin").replace(place / f"{name}.bin")
    shutil.rmtree(working)


def _models(
    library: Any, folder: Path, files: list[str], working: Path, tell: Callable[[str], None]
) -> dict[int, Any]:
    database = working / "database.db"
    mode = library.CameraMode.SINGLE if _one_size(folder, files) else library.CameraMode.AUTO
    tell("finding features")
    library.extract_features(database, folder, image_names=files, camera_mode=mode)
    tell("matching features")
    match = library.match_exhaustive if len(files) <= _ALL_PAIRS else library.match_sequential
    match(database)
    tell("finding poses")
    (working / "models").mkdir()
    found: dict[int, Any] = library.incremental_mapping(database, folder, working / "models")
    return found


def _one_size(folder: Path, files: Sequence[str]) -> bool:
    sizes = set()
    for name in files:
        try:
            with Image.open(folder / name) as file:
                sizes.add(file.size)
        except OSError as error:
            raise BadInputError(f"image {name!r} cannot be read: {error}") from error
    return len(sizes) == 1
