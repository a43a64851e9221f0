"""A folder of a COLMAP model, text or binary."""

from __future__ import annotations

from pathlib import Path

from papertrial.errors import BadInputError
from papertrial.home import ensure_writable
from papertrial.scenes.colmap import binary, text
from papertrial.scenes.colmap.model import Model

_FILES = ("cameras", "images", "points3D")


def read_model(folder: Path) -> Model:
    """Read cameras, images and points3D of a folder: its binary files, or its text files where there are none.

    Args:
        folder: the model's own (`sparse/0`), or one that has `sparse/0` or `sparse` in it.

    Raises:
        BadInputError: no model there, or files that hold none; the message names file and place.
    """
    places = [folder, folder / "sparse" / "0", folder / "sparse"]
    for place in places:
        for suffix, reader in ((".bin", binary), (".txt", text)):
            if all((place / f"{name}{suffix}").is_file() for name in _FILES):
                return Model(reader.read_lenses(place), reader.read_images(place), reader.read_points(place))
    raise BadInputError(
        f"there is no COLMAP model in {folder}: cameras, images and points3D (.bin or .txt) are wanted "
        "there or in sparse/0"
    )


def write_model(model: Model, folder: Path, *, as_text: bool = False) -> None:
    """Write a model's three files into a folder, which is made where it is missing.

    Raises:
        BadInputError: the folder cannot be written to.
    """
    place = ensure_writable(folder)
    writer = text if as_text else binary
    writer.write_lenses(place, model.lenses)
    writer.write_images(place, model.images)
    writer.write_points(place, model.cloud)
