from __future__ import annotations

import datasets
import pytest
from huggingface_hub.errors import HfHubHTTPError

from papertrial.data import hub
from papertrial.data.text import load_documents
from papertrial.errors import BadInputError


@pytest.fixture
def served(monkeypatch):
    """Serve rows in place of the hub, and return what was asked for and how many rows were read."""
    seen = {"read": 0}

    def serve(rows, problem=None):
        def load_dataset(name, config, *, split, streaming):
            seen.update(name=name, config=config, split=split, streaming=streaming)

            def stream():
                for row in rows:
                    seen["read"] += 1
                    yield row
                if problem:
                    raise problem

            return stream()

        monkeypatch.setattr(hub, "hub_has", lambda name, kind: True)
        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return seen

    return serve


def test_rows_are_streamed_until_there_is_enough(served):
    seen = served({"text": "x" * 10} for _ in range(10**9))
    assert load_documents("org/name:en", max_characters=45) == ["x" * 10] * 4
    assert seen == {"name": "org/name", "config": "en", "split": "train", "streaming": True, "read": 5}


def test_empty_rows_are_left_out_and_the_field_is_chosen(served):
    seen = served([{"content": "a"}, {"content": " "}, {"content": "b"}])
    assert load_documents("org/name#content") == ["a", "b"]
    assert seen["config"] is None


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"content": "a", "id": 1}], "org/name has no field 'text'; it has: content, id"),
        ([{"text": "a"}, {"text": None}], "org/name, row 1: 'text' is NoneType, not text"),
        ([{"text": " "}], "holds no text in 'text'"),
    ],
)
def test_a_bad_row_is_named(served, rows, words):
    served(rows)
    with pytest.raises(BadInputError, match=words):
        load_documents("org/name")


@pytest.mark.parametrize(
    "problem",
    [
        ConnectionError("the line went dead\nmore"),
        ValueError("BuilderConfig 'xx' not found"),
        HfHubHTTPError.__bases__[0]("timed out"),
    ],
)
def test_a_stream_that_breaks_is_one_line(served, problem):
    served([{"text": "a"}], problem)
    with pytest.raises(BadInputError, match="cannot read the hub data set 'org/name'") as caught:
        load_documents("org/name")
    assert "\n" not in str(caught.value)
