"""Work kept on disk under the hash of what it was made from, and made only once."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from papertrial.errors import BadInputError
from papertrial.home import ensure_writable

RECIPE_FILE = "recipe.json"
"""Written last into a finished folder: what it was made from."""


def cached_folder(shelf: Path, prefix: str, recipe: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """Return the folder of what `build` makes from `recipe`, building it only where it is not there yet.

    `build` is called with an empty folder and fills it. Several processes that ask for one recipe at once
    build it once; a folder left half-built by a crash is never returned, because the finished folder
    appears under its name by one rename.

    Args:
        shelf: where such folders lie.
        prefix: begins the folder's name, for people who look.
        recipe: everything the result depends on; must be JSON (strings, numbers, lists, mappings).
        build: fills the folder it is given.

    Raises:
        BadInputError: the recipe is not JSON, nothing was built, or the shelf cannot be written.
    """
    key = recipe_key(prefix, recipe)
    finished = shelf / key
    if (finished / RECIPE_FILE).is_file():
        return finished
    ensure_writable(shelf)
    with FileLock(shelf / f"{key}.lock"):
        if (finished / RECIPE_FILE).is_file():
            return finished
        for left_over in (*shelf.glob(f".{key}-*"), finished):
            shutil.rmtree(left_over, ignore_errors=True)
        working = Path(tempfile.mkdtemp(dir=shelf, prefix=f".{key}-"))
        try:
            build(working)
            if not any(working.iterdir()):
                raise BadInputError(f"nothing was built for the recipe {_canonical(recipe)}")
            (working / RECIPE_FILE).write_text(_canonical(recipe), encoding="utf-8")
            working.rename(finished)
        except BaseException:
            shutil.rmtree(working, ignore_errors=True)
            raise
    return finished


def recipe_key(prefix: str, recipe: Mapping[str, Any]) -> str:
    """Return the name of a recipe's folder: the prefix and a hash.

    The order of keys does not matter; tuples and lists are the same.

    Raises:
        BadInputError: the recipe holds something that JSON cannot (a model, a set, NaN).
    """
    return f"{prefix}-{hashlib.sha256(_canonical(recipe).encode()).hexdigest()[:16]}"


def _canonical(recipe: Mapping[str, Any]) -> str:
    try:
        return json.dumps(recipe, sort_keys=True, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as problem:
        raise BadInputError(f"a recipe must be JSON: {problem}") from problem
