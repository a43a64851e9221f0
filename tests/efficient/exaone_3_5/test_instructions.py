from __future__ import annotations

import itertools

import pytest

from papertrial.data.text import help_topics
from papertrial.efficient.exaone_3_5.instructions import MOVES, TAXONOMY, build_instructions
from papertrial.errors import BadInputError

PAGES = [
    "The cell turns energy from sugar into a form that it can use. Short one. "
    "Each planet keeps to its own orbit around the sun.",
    "The cell turns energy from sugar into a form that it can use. "
    "정부는 올해 경제 정책의 방향을 새로 정했으며 시장은 이를 크게 반겼다고 한다. 끝.",
]


def test_knowledge_is_extracted_classified_and_evolved():
    made = build_instructions(PAGES, depth=3)
    first = [one for one in made if one.depth == 0]
    assert len(first) == 3  # the sentence on both pages counts once, the short ones not at all
    assert [one.knowledge.field for one in first] == ["science", "science", "society"]
    assert [one.knowledge.source for one in first] == [0, 0, 1]
    assert all(one.knowledge.text in one.prompt for one in made)
    assert {one.depth for one in made} == {0, 1, 2, 3}
    for one in made:
        assert len(one.moves) == one.depth
        assert set(one.moves) <= set(MOVES)


def test_evolving_makes_longer_requests_and_repeats_with_the_seed():
    made = build_instructions(help_topics()[:3], depth=2, seed=1)
    assert made == build_instructions(help_topics()[:3], depth=2, seed=1)
    assert made != build_instructions(help_topics()[:3], depth=2, seed=2)
    for before, after in itertools.pairwise(made):
        if after.depth:
            assert len(after.prompt) > len(before.prompt)
            assert before.prompt in after.prompt
    assert {one.knowledge.field for one in made} <= set(TAXONOMY)


def test_any_function_may_take_a_step():
    asked = []
    made = build_instructions(
        ["page"],
        taxonomy={"all": ()},
        extract=lambda page: [page, page + "!"],
        classify=lambda text, fields: fields[0],
        generate=lambda knowledge: f"about {knowledge.text}",
        evolve=lambda prompt, move: asked.append(move) or prompt.upper(),
    )
    assert [one.prompt for one in made] == ["about page", "ABOUT PAGE", "about page!", "ABOUT PAGE!"]
    assert len(asked) == 4  # the second evolution changed nothing, so its line ended


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"depth": -1}, "depth must be 0 or above"),
        ({"taxonomy": {}}, "the taxonomy has no field"),
        ({"classify": lambda text, fields: "cookery"}, "gave 'cookery', which is no field; known: science"),
    ],
)
def test_settings_that_cannot_work(settings, words):
    with pytest.raises(BadInputError, match=words):
        build_instructions(PAGES, **settings)
