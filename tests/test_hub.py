from __future__ import annotations

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from papertrial.errors import BadInputError
from papertrial.hub import hub_has


@pytest.fixture
def answer(monkeypatch):
    """Let the hub answer with a value or an error."""

    def set_answer(problem):
        def repo_info(self, name, *, repo_type, timeout):
            if problem is not None:
                raise problem

        monkeypatch.setattr(HfApi, "repo_info", repo_info)

    return set_answer


def http_error(kind):
    """Make an error as the client does, without the response it would hold."""
    return kind.__new__(kind)


def test_what_the_hub_has(answer):
    answer(None)
    assert hub_has("org/name", "model")


@pytest.mark.parametrize(
    "problem",
    [
        OfflineModeIsEnabled("offline"),
        ConnectionError("no route"),
        TimeoutError("slow"),
        http_error(HfHubHTTPError),  # the hub is down: 5xx
        HfHubHTTPError.__bases__[0]("connect failed"),  # the HTTP library's own
    ],
)
def test_an_unreachable_hub_is_no_error(answer, problem):
    answer(problem)
    assert not hub_has("org/name", "dataset")


@pytest.mark.parametrize(
    ("kind", "words"),
    [(RepositoryNotFoundError, "the hub has no public model 'org/name'"), (GatedRepoError, "is gated")],
)
def test_a_definite_no_is_said(answer, kind, words):
    answer(http_error(kind))
    with pytest.raises(BadInputError, match=words):
        hub_has("org/name", "model")


def test_what_is_no_id_is_said_without_asking(answer):
    with pytest.raises(BadInputError, match="'two words' is neither a path here nor a hub id"):
        hub_has("two words", "model")
