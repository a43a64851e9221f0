"""Models that need no server: scripted, recorded, cached, and small ones that run here."""

from __future__ import annotations

import json
import threading

import pytest

from papertrial.errors import BadInputError
from papertrial.llm import (
    Cached,
    ChatModel,
    ChatModelError,
    Endpoint,
    LocalModel,
    Recorded,
    Scripted,
    TooLongError,
    UsageLog,
    open_chat_model,
)

ASK = [{"role": "user", "content": "Say hello."}]
SCHEMA = {"type": "object"}


def test_scripted_answers_come_in_order_and_end():
    model = Scripted(["one", ChatModelError("busy"), "two"])
    assert isinstance(model, ChatModel)
    assert model.complete(ASK) == "one"
    with pytest.raises(ChatModelError, match="busy"):
        model.complete(ASK)
    assert model.complete(ASK) == "two"
    with pytest.raises(BadInputError, match="has 3 answers"):
        model.complete(ASK)


def test_what_was_recorded_is_replayed_without_the_model(tmp_path):
    path = tmp_path / "answers.jsonl"
    live = Scripted(["one", "two"], name="m")
    recording = Recorded(path, live)
    said = [recording.complete(ASK), recording.complete(ASK, SCHEMA), recording.complete(ASK)]
    assert said == ["one", "two", "one"]
    replayed = Recorded(path)
    assert replayed.name == "m"
    assert [replayed.complete(ASK), replayed.complete(ASK, SCHEMA)] == ["one", "two"]
    with pytest.raises(BadInputError, match="no answer to the request that begins 'Other"):
        replayed.complete([{"role": "user", "content": "Other?"}])


def test_broken_recordings_are_named(tmp_path):
    with pytest.raises(BadInputError, match="no file of recorded answers"):
        Recorded(tmp_path / "none.jsonl")
    path = tmp_path / "answers.jsonl"
    path.write_text('{"key": "x"}\n')
    with pytest.raises(BadInputError, match="line 1: not a recorded answer"):
        Recorded(path)
    path.write_text("".join(json.dumps({"key": n, "model": n, "answer": n}) + "\n" for n in ("a", "b")))
    with pytest.raises(BadInputError, match="one model"):
        Recorded(path)


def test_a_question_is_paid_for_once(tmp_path):
    usage = UsageLog()
    live = Scripted(["one", '{"a": 2}', "three"], name="m")
    for _ in range(2):
        model = Cached(live, tmp_path, usage)
        assert model.complete(ASK) == "one"
        assert model.complete(ASK, SCHEMA) == '{"a": 2}'  # another request
    assert len(live.calls) == 2
    assert [one.cached for one in usage.entries] == [True, True]
    assert Cached(Scripted(["other"], name="n"), tmp_path).complete(ASK) == "other"  # another model


def test_a_failed_answer_is_not_kept(tmp_path):
    live = Scripted([ChatModelError("busy"), "one"])
    with pytest.raises(ChatModelError):
        Cached(live, tmp_path).complete(ASK)
    assert Cached(live, tmp_path).complete(ASK) == "one"


def test_an_answer_that_does_not_fit_the_schema_is_not_kept(tmp_path):
    live = Scripted(["no JSON", "[]", "{}", "unasked"])
    said = [Cached(live, tmp_path).complete(ASK, SCHEMA) for _ in range(4)]
    assert said == ["no JSON", "[]", "{}", "{}"]


def test_two_that_ask_the_same_at_once_pay_once(tmp_path):
    live = Scripted(lambda messages: "one")
    said = []
    threads = [
        threading.Thread(target=lambda: said.append(Cached(live, tmp_path).complete(ASK))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["one"] * 4
    assert len(live.calls) == 1


def test_a_local_model_answers_greedily_as_generate_does():
    import torch

    from papertrial.models import load_with_tokenizer

    usage = UsageLog()
    model = LocalModel("tiny-llama", max_tokens=6, usage=usage)
    said = model.complete(ASK)
    theirs, tokenizer = load_with_tokenizer("tiny-llama")
    ids = tokenizer("user: Say hello.\n\nassistant:")["input_ids"]
    for _ in range(6):  # the definition of greedy decoding
        with torch.inference_mode():
            ids.append(int(theirs(torch.tensor([ids])).logits[0, -1].argmax()))
    start = len("user: Say hello.\n\nassistant:")  # a byte a token
    assert said == tokenizer.decode(ids[start:], skip_special_tokens=True)
    assert (usage.tokens_in, usage.tokens_out) == (start, 6)
    assert model.complete(ASK) == said


def test_a_local_model_uses_its_own_chat_template(tmp_path):
    from papertrial.models import load_with_tokenizer

    model, tokenizer = load_with_tokenizer("tiny-qwen3")
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    usage = UsageLog()
    LocalModel(str(tmp_path), max_tokens=2, usage=usage).complete(ASK)
    assert usage.tokens_in == len("<user>Say hello.<assistant>")


def test_a_local_model_is_told_the_schema_in_words():
    plain, told = UsageLog(), UsageLog()
    LocalModel("tiny-llama", max_tokens=1, usage=plain).complete(ASK)
    LocalModel("tiny-llama", max_tokens=1, usage=told).complete(ASK, SCHEMA)
    assert told.tokens_in > plain.tokens_in + len(json.dumps(SCHEMA))


def test_a_text_longer_than_the_context_is_told_apart():
    with pytest.raises(TooLongError, match="the context of tiny-gpt2 is 1024"):
        LocalModel("tiny-gpt2").complete([{"role": "user", "content": "x" * 1024}])


def test_one_word_opens_the_right_kind_of_model(played, tmp_path, own_home):
    (tmp_path / "answers.jsonl").write_text(json.dumps({"key": "k", "model": "m", "answer": "x"}) + "\n")
    assert open_chat_model(f"{played.url}#big").name.startswith("big at ")
    assert open_chat_model(played.url, model="other").name.startswith("other at ")
    assert isinstance(open_chat_model(played.url, cache=False), Endpoint)
    assert isinstance(open_chat_model("tiny-llama", cache=False), LocalModel)
    assert isinstance(open_chat_model(str(tmp_path / "answers.jsonl")), Recorded)
    open_chat_model(played.url).complete(ASK)
    open_chat_model(played.url).complete(ASK)
    assert len(played.asked) == 1
    assert any((own_home / "llm" / "answers").iterdir())


@pytest.mark.parametrize(
    ("where", "options", "said"),
    [
        ("tiny-llama", {"key": "K"}, "go with an endpoint"),
        ("tiny-llama", {"model": "m"}, "go with an endpoint"),
        (__file__, {}, "is a file"),
        ("none.jsonl", {}, "no file of recorded answers"),
        ("http://localhost:1", {}, "did you mean"),
    ],
)
def test_what_does_not_go_together_is_refused(where, options, said):
    with pytest.raises(BadInputError, match=said):
        open_chat_model(where, **options)


def test_the_package_imports_no_heavy_library():
    import subprocess
    import sys

    code = (
        "import sys, papertrial.llm, papertrial.digest.collecting, papertrial.digest.summarising\n"
        "print([one for one in ('torch', 'transformers', 'openai', 'huggingface_hub', 'httpx') if one in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
