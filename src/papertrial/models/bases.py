"""A trained toy model kept on disk, so that every arm and seed starts from the same one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from papertrial.cache import cached_folder
from papertrial.home import home as default_home


def trained_base(recipe: Mapping[str, Any], build: Callable[[Path], None], home: Path | None = None) -> Path:
    """Return the folder of what `build` makes from `recipe`, building it only where it is not there yet.

    The versions of torch and transformers count as part of the recipe; see `papertrial.cache.cached_folder`.

    Args:
        recipe: everything the result depends on; must be JSON (strings, numbers, lists, mappings).
        build: fills the folder it is given.
        home: where `bases/` lies; papertrial's home if not given.

    Raises:
        BadInputError: the recipe is not JSON, nothing was built, or the home cannot be written.
    """
    versions = {package: version(package) for package in ("torch", "transformers")}
    shelf = (home or default_home()) / "bases"
    return cached_folder(shelf, "base", {"recipe": dict(recipe), "versions": versions}, build)
