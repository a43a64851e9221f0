"""Chat models behind an address: what is sent, and what is said of everything that goes wrong."""

from __future__ import annotations

import json
import time

import pytest

from papertrial.errors import BadInputError
from papertrial.llm import ChatModel, ChatModelError, Endpoint, TooLongError, UsageLog
from papertrial.llm.endpoint import base_address

ASK = [{"role": "user", "content": "Say hello."}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def refusal(message, status=400, **headers):
    return status, {"error": {"message": message}}, headers


def test_a_question_is_answered_and_its_tokens_are_noted(played, tmp_path):
    usage = UsageLog(tmp_path / "log" / "usage.jsonl")
    model = Endpoint(played.url, "m", max_tokens=50, usage=usage)
    assert isinstance(model, ChatModel)
    assert model.complete(ASK) == "hello"
    body, headers = played.asked[0]
    assert body == {"model": "m", "messages": ASK, "max_tokens": 50, "temperature": 0.0}
    assert headers["authorization"] == "Bearer none"
    assert (usage.tokens_in, usage.tokens_out) == (11, 7)
    assert usage.cost(2.0, 10.0) == pytest.approx((11 * 2 + 7 * 10) / 1e6)
    assert json.loads((tmp_path / "log" / "usage.jsonl").read_text())["tokens_in"] == 11


def test_a_schema_is_sent_as_the_response_format(played):
    played.answers = ['{"a": 1}']
    Endpoint(played.url, "m").complete(ASK, SCHEMA)
    sent = played.asked[0][0]["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"] == SCHEMA


def test_a_server_without_schemas_is_told_in_words_from_then_on(played):
    played.answers = [refusal("response_format is not supported"), '{"a": 1}']
    model = Endpoint(played.url, "m")
    model.complete(ASK, SCHEMA)
    model.complete(ASK, SCHEMA)
    bodies = [body for body, _ in played.asked]
    assert ["response_format" in body for body in bodies] == [True, False, False]
    assert json.dumps(SCHEMA) in bodies[1]["messages"][0]["content"]
    assert bodies[1]["messages"][1:] == ASK
    assert model.schema_sent_as == "words"


def test_another_refusal_does_not_cost_the_schema(played):
    played.answers = [refusal("content policy"), refusal("content policy"), '{"a": 1}']
    model = Endpoint(played.url, "m")
    with pytest.raises(ChatModelError, match="content policy"):
        model.complete(ASK, SCHEMA)
    assert model.schema_sent_as == "response_format"


def test_options_that_a_server_refuses_are_left_out(played):
    played.answers = [
        refusal("Unsupported value: 'temperature' does not support 0"),
        refusal("'max_tokens' is not supported; use 'max_completion_tokens' instead"),
        "hello",
    ]
    assert Endpoint(played.url, "m", max_tokens=9).complete(ASK) == "hello"
    assert played.asked[-1][0] == {"model": "m", "messages": ASK, "max_completion_tokens": 9}


def test_messages_that_are_too_long_are_told_apart(played):
    played.answers = [refusal("This model's maximum context length is 4096 tokens")]
    with pytest.raises(TooLongError, match="4096"):
        Endpoint(played.url, "m").complete(ASK, SCHEMA)
    assert len(played.asked) == 1


def test_overload_is_retried_for_as_long_as_the_server_says_and_then_said(played):
    busy = refusal("slow down", 429, **{"retry-after-ms": "5"})
    played.answers = [busy, busy, "hello"]
    assert Endpoint(played.url, "m").complete(ASK) == "hello"
    played.answers = [busy]
    played.asked.clear()
    with pytest.raises(ChatModelError, match="overloaded or its quota is used up: slow down"):
        Endpoint(played.url, "m", retries=1).complete(ASK)
    assert len(played.asked) == 2


def test_a_server_that_does_not_answer_is_given_up(played):
    played.answers = [lambda body: time.sleep(0.5) or "late"]
    with pytest.raises(ChatModelError, match=r"no answer within 0\.05 seconds"):
        Endpoint(played.url, "m", timeout=0.05, retries=0).complete(ASK)


def test_a_server_that_is_not_there_is_said():
    with pytest.raises(ChatModelError, match="cannot be reached"):
        Endpoint("http://127.0.0.1:9/v1", "m", retries=0).complete(ASK)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_by_its_variable_and_never_shown(played, monkeypatch, status):
    monkeypatch.setenv("MY_KEY", "secret-value")
    played.answers = [refusal("bad key", status)]
    with pytest.raises(BadInputError, match="the key in MY_KEY") as caught:
        Endpoint(played.url, "m", key="MY_KEY").complete(ASK)
    assert played.asked[0][1]["authorization"] == "Bearer secret-value"
    assert "secret-value" not in str(caught.value)


def test_an_unknown_model_is_answered_with_the_known_ones(played):
    played.answers = [refusal("no such model", 404)]
    with pytest.raises(BadInputError, match="did you mean small-model"):
        Endpoint(played.url, "smal-model").complete(ASK)
    played.models = None
    with pytest.raises(BadInputError, match="no chat completions"):
        Endpoint(played.url, "m").complete(ASK)


def test_the_only_model_of_a_server_needs_no_name(played):
    assert Endpoint(played.url).name.startswith("small-model at 127.0.0.1")
    played.models = ["a", "b"]
    with pytest.raises(BadInputError, match="has 2 models; name one"):
        Endpoint(played.url)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", "empty answer"),
        ((200, "<html>log in</html>", {}), "no chat completion"),
        ((200, {"choices": []}, {}), "no chat completion"),
        ((200, {"choices": [{"message": {"role": "assistant", "refusal": "I must not"}}]}, {}), "I must not"),
        ((500, {"error": {"message": "bo\x1b[31m\nom"}}, {"x-should-retry": "false"}), r"bo \[31m om$"),
    ],
)
def test_answers_that_are_none_are_said(played, answer, said):
    played.answers = [answer]
    with pytest.raises(ChatModelError, match=said):
        Endpoint(played.url, "m", retries=0).complete(ASK)


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
        ("https://x.example/v1beta/openai", "https://x.example/v1beta/openai"),
        ("https://x.example/openai/v1/chat/completions", "https://x.example/openai/v1"),
        ("https://x.example/api/chat/completions", "https://x.example/api"),
    ],
)
def test_addresses_are_brought_into_form(address, base):
    assert base_address(address) == base


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://localhost:8000", "did you mean 'http://localhost:8000/v1'"),
        ("https://x.example/api", "did you mean 'https://x.example/api/v1'"),
        ("ftp://x/v1", "an endpoint is an address"),
        ("http://me:pw@x.example/v1", "must not hold a user name"),
    ],
)
def test_addresses_that_cannot_work_are_refused(address, said):
    with pytest.raises(BadInputError, match=said):
        base_address(address)


def test_a_missing_key_is_named(monkeypatch):
    with pytest.raises(BadInputError, match=r"OPENAI_API_KEY .* is not set"):
        Endpoint("https://api.openai.com/v1", "m")
    with pytest.raises(BadInputError, match=r"MY_KEY .* is not set"):
        Endpoint("https://x.example/v1", "m", key="MY_KEY")


def test_a_key_given_instead_of_its_name_is_not_repeated():
    for key in ("sk-abc123", "sk_live_1", "hf_abcdef"):
        with pytest.raises(BadInputError, match="the name of an environment variable") as caught:
            Endpoint("https://x.example/v1", "m", key=key)
        assert key not in str(caught.value)


def test_a_key_goes_only_where_it_was_named_for_and_only_encrypted(played, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "openai-secret")
    Endpoint(played.url, "m").complete(ASK)
    assert "openai-secret" not in str(played.asked[0][1])
    with pytest.raises(BadInputError, match="unencrypted; use https"):
        Endpoint("http://x.example/v1", "m", key="OPENAI_API_KEY")


@pytest.mark.parametrize("options", [{"max_tokens": 0}, {"timeout": 0}, {"retries": -1}])
def test_senseless_options_are_refused(options):
    with pytest.raises(BadInputError, match="must be at least"):
        Endpoint("http://localhost:1/v1", "m", **options)


@pytest.mark.parametrize("messages", [[], [{"role": "robot", "content": "x"}], [{"role": "user"}]])
def test_messages_that_are_none_are_refused(played, messages):
    with pytest.raises(BadInputError, match="message"):
        Endpoint(played.url, "m").complete(messages)
