"""A trained base is built once, by whoever comes first, and never returned half-built."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

from papertrial import cache
from papertrial.errors import BadInputError
from papertrial.models import bases, trained_base

RECIPE = {"model": "tiny-llama", "steps": 10, "rates": (0.1, 0.2)}


def write(folder: Path) -> None:
    (folder / "weights").write_text(f"{os.getpid()} {time.monotonic_ns()}")


def refuse(folder: Path) -> None:
    raise AssertionError("built twice")


def write_slowly(folder: Path) -> None:
    write(folder)
    time.sleep(0.5)


def ask(home: Path, queue) -> None:
    queue.put((trained_base(RECIPE, write_slowly, home) / "weights").read_text())


def test_a_base_is_built_once(tmp_path):
    first = trained_base(RECIPE, write, tmp_path)
    assert trained_base(RECIPE, refuse, tmp_path) == first
    assert json.loads((first / "recipe.json").read_text())["recipe"]["steps"] == 10


def test_the_home_is_papertrials_own_if_not_given(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERTRIAL_HOME", str(tmp_path / "own"))
    assert trained_base(RECIPE, write).is_relative_to(tmp_path / "own")


def test_the_order_of_keys_and_the_kind_of_list_do_not_matter(tmp_path):
    first = trained_base(RECIPE, write, tmp_path)
    same = {"rates": [0.1, 0.2], "steps": 10, "model": "tiny-llama"}
    assert trained_base(same, refuse, tmp_path) == first


@pytest.mark.parametrize("change", [{"steps": 11}, {"seed": 0}, {"rates": (0.2, 0.1)}])
def test_anything_else_is_another_base(tmp_path, change):
    first = trained_base(RECIPE, write, tmp_path)
    assert trained_base({**RECIPE, **change}, write, tmp_path) != first


def test_another_version_of_torch_is_another_base(tmp_path, monkeypatch):
    first = trained_base(RECIPE, write, tmp_path)
    monkeypatch.setattr(bases, "version", lambda package: f"{package} of tomorrow")
    assert trained_base(RECIPE, write, tmp_path) != first


def test_a_failed_build_leaves_nothing_and_is_tried_again(tmp_path):
    def fail(folder):
        write(folder)
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        trained_base(RECIPE, fail, tmp_path)
    assert [path.name for path in (tmp_path / "bases").iterdir() if path.is_dir()] == []
    assert trained_base(RECIPE, write, tmp_path).is_dir()


def test_what_a_killed_process_left_is_never_returned(tmp_path):
    """A folder without its recipe, under the final name or a working one, was not finished."""
    key = trained_base(RECIPE, write, tmp_path).name
    shutil.rmtree(tmp_path / "bases")
    for name in (key, f".{key}-abc"):
        (tmp_path / "bases" / name).mkdir(parents=True)
        (tmp_path / "bases" / name / "weights").write_text("half")
    base = trained_base(RECIPE, write, tmp_path)
    assert (base / "weights").read_text() != "half"
    assert [path.name for path in (tmp_path / "bases").iterdir() if path.is_dir()] == [key]


# Starting anew would import torch in each, for seconds; these children only write a file.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_two_processes_build_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=ask, args=(tmp_path, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    texts = [queue.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert len(set(texts)) == 1


def test_a_finished_base_is_found_in_a_home_that_cannot_be_written(tmp_path, monkeypatch):
    first = trained_base(RECIPE, write, tmp_path)

    def read_only(path):
        raise BadInputError("the file system is read-only")

    monkeypatch.setattr(cache, "ensure_writable", read_only)
    assert trained_base(RECIPE, refuse, tmp_path) == first
    with pytest.raises(BadInputError, match="read-only"):
        trained_base({"another": 1}, write, tmp_path)


def test_building_nothing_is_an_error(tmp_path):
    with pytest.raises(BadInputError, match="nothing was built"):
        trained_base(RECIPE, lambda folder: None, tmp_path)


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), object()])
def test_a_recipe_must_be_json(tmp_path, value):
    with pytest.raises(BadInputError, match="a recipe must be JSON"):
        trained_base({"value": value}, write, tmp_path)
