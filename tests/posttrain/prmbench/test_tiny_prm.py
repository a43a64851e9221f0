from __future__ import annotations

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.posttrain.prmbench.evaluation import evaluate
from papertrial.posttrain.prmbench.procedural import correct_texts, derivation_tokenizer, make_rows
from papertrial.posttrain.prmbench.rows import items_of
from papertrial.posttrain.prmbench.tiny_prm import (
    LAYOUT,
    classifier_examples,
    language_examples,
    padded_batches,
    step_targets,
    tiny_classifier,
    tiny_language_model,
    train_steps,
)
from papertrial.posttrain.step_models import classifier_scorer


def test_the_two_kinds_of_labels():
    assert step_targets(5, [2, 4], "all-steps") == [1, 0, 1, 0, 1]
    assert step_targets(5, [4, 2], "first-error") == [1, 0, -100, -100, -100]
    assert step_targets(3, [], "first-error") == [1, 1, 1]
    with pytest.raises(BadInputError, match="did you mean all-steps"):
        step_targets(3, [], "all-step")
    with pytest.raises(BadInputError, match="errors must lie between 1 and 3"):
        step_targets(3, [4], "all-steps")


def test_targets_lie_on_the_separators():
    tokenizer = derivation_tokenizer()
    item = next(one for one in items_of(make_rows(3, seed=0))[0] if len(one.errors) == 2)
    for regime in ("all-steps", "first-error"):
        (example,) = classifier_examples([item], tokenizer, regime)
        separator = tokenizer.convert_tokens_to_ids("<step>")
        at_separators = [
            label
            for token, label in zip(example["input_ids"], example["labels"], strict=True)
            if token == separator
        ]
        assert at_separators == step_targets(len(item.steps), item.errors, regime)
        assert sum(label != -100 for label in example["labels"]) == sum(one != -100 for one in at_separators)


def test_a_language_model_learns_every_token_of_the_steps():
    tokenizer = derivation_tokenizer()
    (example,) = language_examples([("a = 20", ["now b = a + 3 = 20 + 3 = 23"])], tokenizer)
    begun = example["labels"].count(-100)
    assert example["labels"][begun:] == example["input_ids"][begun:]
    assert tokenizer.convert_ids_to_tokens(example["input_ids"][:begun]) == ["<bos>", "a =", "20", "<step>"]


def test_batches_hold_every_example_once_a_round():
    examples = [{"input_ids": [number] * (1 + number % 5), "labels": [number]} for number in range(1, 11)]
    for one in examples:
        one["labels"] = list(one["input_ids"])
    stream = padded_batches(examples, 3, seed=0)
    for _ in range(2):
        batches = [next(stream) for _ in range(4)]
        seen = [int(row[0]) for batch in batches for row in batch["input_ids"]]
        assert sorted(seen) == list(range(1, 11))
    padding = batches[0]["attention_mask"] == 0
    assert (batches[0]["labels"][padding] == -100).all()
    with pytest.raises(BadInputError, match="batches need examples"):
        next(padded_batches([], 3, seed=0))


def test_training_is_repeatable_and_learns_the_easiest_kind():
    """A step with an operator of another domain can be told by one token: 60 steps are enough for that."""
    tokenizer = derivation_tokenizer()
    rows = [row for row in make_rows(160, seed=5) if row["classification"] == "domain_inconsistency"]
    items = items_of(rows)[0]
    training, judged = items[:120], items[120:]
    examples = classifier_examples(training, tokenizer, "all-steps")
    runs = []
    for _ in range(2):
        model = tiny_classifier(tokenizer, seed=1)
        history = train_steps(model, examples, steps=60, seed=1, lr=3e-3, batch_size=16)
        runs.append((model, history))
    assert runs[0][1].losses == runs[1][1].losses
    scorer = classifier_scorer(runs[0][0], tokenizer, layout=LAYOUT)
    assert evaluate(scorer, judged).auroc > 0.95


def test_toy_models_fit_the_vocabulary_and_the_seed():
    tokenizer = derivation_tokenizer()
    one, same, other = (tiny_language_model(tokenizer, seed) for seed in (0, 0, 1))
    weights = [model.get_input_embeddings().weight for model in (one, same, other)]
    assert weights[0].shape[0] == len(tokenizer)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert len(correct_texts(2, seed=0)) == 2
