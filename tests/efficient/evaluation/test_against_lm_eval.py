"""Number for number against lm-eval on the same model in memory. 1e-5 a token: float32 sums in other orders."""

from __future__ import annotations

import json

import pytest

from papertrial.efficient.evaluation import (
    MmluSubject,
    Question,
    answer_questions,
    bits_per_byte,
    continuation_likelihoods,
    document_log_likelihoods,
    encode_pair,
    evaluate_mmlu,
    lm_eval_tasks,
    load_mmlu,
)
from papertrial.errors import BadInputError

pytest.importorskip("lm_eval")

PAIRS = [
    ("The market opens", " at eight"),
    ("The market opens ", "at nine"),  # white space at the end moves
    ("", "The baker"),
    ("A river runs past the old", " mill; the miller sleeps."),
]
QUESTIONS = [
    Question("The market opens", ("at eight", "at twelve loaves of warm bread", "mill"), 1),
    Question("Question: what does the miller do?\nAnswer:", ("sleeps", "counts the bread", "opens"), 0),
    Question("The sum of the first three is", ("six", "twenty one", "eight"), 0),
]


@pytest.fixture(scope="module")
def harness(model, tokenizer):
    """Return a function that wraps the model for lm-eval, seeing at most so many tokens."""
    from lm_eval.models.huggingface import HFLM

    def wrap(length=None):
        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3, max_length=length)

    return wrap


def requests(kind, arguments):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, one, number) for number, one in enumerate(arguments)]


@pytest.mark.parametrize("length", [None, 12])
def test_continuations(harness, model, tokenizer, length):
    theirs = harness(length).loglikelihood(requests("loglikelihood", PAIRS), disable_tqdm=True)
    pairs = [encode_pair(tokenizer, *pair) for pair in PAIRS]
    ours = continuation_likelihoods(model, pairs, length=length)
    for (likelihood, greedy), found in zip(theirs, ours, strict=True):
        assert found.log_likelihood == pytest.approx(likelihood, abs=1e-5 * found.tokens)
        assert found.greedy == greedy


@pytest.mark.parametrize("length", [7, 16, 200])
def test_rolling(harness, model, tokenizer, texts, length):
    asked = requests("loglikelihood_rolling", [(text,) for text in texts])
    theirs = harness(length).loglikelihood_rolling(asked, disable_tqdm=True)
    ours = document_log_likelihoods(model, tokenizer, texts, length=length)
    for text, likelihood, found in zip(texts, theirs, ours, strict=True):
        assert found == pytest.approx(likelihood, abs=1e-5 * len(tokenizer(text)["input_ids"]))


def local_task(tmp_path, name, rows, **settings):
    file = tmp_path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(file)},
            "cache_dir": str(tmp_path / "cache"),
        },
        "test_split": "test",
        **settings,
    }


def metrics(*names, aggregation="mean"):
    return [{"metric": name, "aggregation": aggregation, "higher_is_better": True} for name in names]


def test_multiple_choice_task(model, tokenizer, tmp_path):
    rows = [{"text": q.context, "choices": list(q.choices), "label": q.answer} for q in QUESTIONS]
    task = local_task(
        tmp_path,
        "choose",
        rows,
        output_type="multiple_choice",
        doc_to_text="{{text}}",
        doc_to_choice="choices",
        doc_to_target="label",
        metric_list=metrics("acc", "acc_norm"),
    )
    theirs = lm_eval_tasks(model, tokenizer, [task])["choose"]
    ours = answer_questions(model, tokenizer, QUESTIONS)
    assert ours.accuracy == pytest.approx(theirs["acc"])
    assert ours.normalised_accuracy == pytest.approx(theirs["acc_norm"])
    assert ours.picks != ours.normalised_picks  # else the two metrics would not be told apart


def test_bits_per_byte_task(model, tokenizer, texts, tmp_path):
    texts = [*texts, "Pâté, £5."]
    task = local_task(
        tmp_path,
        "rolling",
        [{"text": text} for text in texts],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
    )
    theirs = lm_eval_tasks(model, tokenizer, [task], length=32)["rolling"]
    assert bits_per_byte(model, tokenizer, texts, length=32) == pytest.approx(
        theirs["bits_per_byte"], abs=1e-5
    )


def test_mmlu_by_log_likelihood(model, tokenizer, shared_data, tmp_path):
    """The official rows through a task that repeats lm-eval's own MMLU template."""
    (whole,) = load_mmlu(shared_data("qwen3_quantization") / "mmlu", ("anatomy",))
    subject = MmluSubject(whole.name, whole.examples, whole.questions[:8])
    rows = [
        {"question": row.question, "choices": list(row.choices), "answer": "ABCD".index(row.letter)}
        for row in (*subject.examples, *subject.questions)
    ]
    task = local_task(
        tmp_path,
        "anatomy",
        rows,
        output_type="multiple_choice",
        description="The following are multiple choice questions (with answers) about anatomy.\n\n",
        doc_to_text="{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\n"
        "D. {{choices[3]}}\nAnswer:",
        doc_to_choice=["A", "B", "C", "D"],
        doc_to_target="answer",
        metric_list=metrics("acc"),
    )
    everything = MmluSubject(subject.name, subject.examples, (*subject.examples, *subject.questions))
    theirs = lm_eval_tasks(model, tokenizer, [task], shots=0)["anatomy"]
    ours = evaluate_mmlu(model, tokenizer, [everything], rule="log-likelihood", shots=0)
    assert ours.accuracy == pytest.approx(theirs["acc"])
    with_examples = {
        **task,
        "task": "anatomy_shots",
        "fewshot_split": "test",
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": 2,
    }
    theirs = lm_eval_tasks(model, tokenizer, [with_examples], shots=2)["anatomy_shots"]
    ours = evaluate_mmlu(model, tokenizer, [everything], rule="log-likelihood", shots=2)
    assert theirs["acc"] == pytest.approx(ours.accuracy)


def test_bad_tasks(model, tokenizer, monkeypatch):
    class Index:
        """Stands for lm-eval's index of tasks, which takes ten seconds to read."""

        def __init__(self, include_defaults):
            self.all_tasks = ["arc_easy", "piqa"] if include_defaults else []

    monkeypatch.setattr("lm_eval.tasks.TaskManager", Index)
    with pytest.raises(BadInputError, match="no tasks"):
        lm_eval_tasks(model, tokenizer, [])
    with pytest.raises(BadInputError, match="did you mean arc_easy"):
        lm_eval_tasks(model, tokenizer, ["arc_eazy"])
