from __future__ import annotations

from collections import Counter

import pytest
import torch

from papertrial.data.token_tasks import TokenVocabulary, common, recall, tracking
from papertrial.errors import BadInputError


def generator():
    return torch.Generator().manual_seed(0)


def test_recall_answers_are_in_the_context():
    vocabulary = TokenVocabulary(keys=6, values=4, fillers=5)
    tasks = recall(vocabulary, 3, 40, 20, generator())
    for context, questions, answers in zip(tasks.context, tasks.questions, tasks.answers, strict=True):
        pairs = context[context < 24].tolist()
        said = {pair // 4: pair % 4 for pair in pairs}
        assert len(pairs) == len(said) == 6
        assert [said[q - 24] + 30 for q in questions.tolist()] == answers.tolist()
        assert context.max() < vocabulary.size == 39


def test_tracking_follows_the_chain():
    vocabulary = TokenVocabulary(keys=5, values=9, fillers=5)
    tasks = tracking(vocabulary, 8, 30, 3, generator())
    for context, question, answer in zip(tasks.context, tasks.questions, tasks.answers, strict=True):
        held: dict[int, int] = {}
        for pair in context[context < 45].tolist():
            source = pair % 9
            held[pair // 9] = held[source] if source < 5 else source
        assert len(held) == 4
        assert held[question.item() - 45] + 50 == answer.item()


def test_common_counts():
    vocabulary = TokenVocabulary(keys=5, values=9, fillers=5)
    tasks = common(vocabulary, 8, 31, generator())
    for context, answer in zip(tasks.context, tasks.answers, strict=True):
        (value, times), *_ = Counter((context % 9).tolist()).most_common()
        assert value + 50 == answer.item()
        assert times >= 16
        assert len((context // 9).unique()) == 1


def test_token_tasks_need_room():
    vocabulary = TokenVocabulary(keys=5, values=9)
    with pytest.raises(BadInputError, match="4 tokens has no room for 5"):
        recall(vocabulary, 1, 4, 1, generator())
    with pytest.raises(BadInputError, match=r"1 <= hops < keys < values, got hops=5"):
        tracking(vocabulary, 1, 30, 5, generator())
    with pytest.raises(BadInputError, match="2 tokens has no room"):
        common(vocabulary, 1, 2, generator())
