"""The runner's small parts: files, artifacts, formats, environment."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.trial.artifacts import encode_artifact
from papertrial.trial.environment import PeakMemory, describe_environment, environment_id
from papertrial.trial.files import number_from_json, plain, to_json
from papertrial.trial.formats import duration, number

NBSP = chr(0x202F)


@given(st.floats())
def test_every_float_comes_back_from_strict_json(value):
    text = to_json([value])
    back = number_from_json(json.loads(text, parse_constant=lambda name: pytest.fail(name))[0])
    assert back == value or (math.isnan(back) and math.isnan(value))


@pytest.mark.parametrize("value", ["1.0", True, None, [1.0], "nan"])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="not a number"):
        number_from_json(value)


def test_settings_are_the_same_whatever_their_order():
    assert plain({"b": (1, 2), "a": None}) == {"a": None, "b": [1, 2]}
    assert list(plain({"b": 1, "a": 2})) == ["a", "b"]


def test_artifacts_become_files():
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().plot([1, 2])
    name, content = encode_artifact("loss curve", figure)
    assert name == "loss curve.png"
    assert content.startswith(b"\x89PNG")
    assert encode_artifact("note", "text") == ("note.txt", b"text")
    name, content = encode_artifact("rows", [{"a": 1, "b": "x,y"}])
    assert (name, content.decode().splitlines()) == ("rows.csv", ["a,b", '1,"x,y"'])


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden"])
def test_an_artifact_cannot_leave_its_folder(name):
    with pytest.raises(BadInputError, match="plain name"):
        encode_artifact(name, "text")


def test_an_artifact_of_no_known_kind_is_refused():
    with pytest.raises(BadInputError, match="is a ndarray"):
        encode_artifact("array", np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.4, "", "0.400"),
        (2.15049, "", "2.150"),
        (-0.0512, "", "−0.051"),
        (123.456, "", "123.5"),
        (83456, "", f"83{NBSP}456"),
        (1.5e9, "", "1.5e+09"),
        (0.00001, "", "1e−05"),
        (0, "", "0"),
        (math.nan, "", "–"),
        (math.inf, "", "∞"),
        (None, "", "–"),
        (1_100_000, "bytes", "1.1 MB"),
        (400, "bytes", "400 B"),
    ],
)
def test_numbers_are_printed_with_four_digits(value, unit, text):
    assert number(value, unit) == text


def test_durations():
    assert [duration(s) for s in (0.44, 11.6, 185, 7440)] == ["0.4 s", "12 s", "3 min 5 s", "2 h 4 min"]


def test_the_peak_of_each_block_is_its_own():
    with PeakMemory() as large:
        held = np.ones(40_000_000 // 8)
        del held
    with PeakMemory() as small:
        pass
    if large.bytes is None or small.bytes is None:
        pytest.skip("this system does not tell a process's peak memory")
    assert large.bytes - small.bytes > 20_000_000


def test_an_environment_has_one_id():
    environment = describe_environment()
    assert environment_id(environment) == environment_id(json.loads(to_json(environment)))
    assert environment["packages"]["numpy"] == np.__version__
