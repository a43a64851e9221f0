from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.data.long_tasks import score
from papertrial.data.needles import Needle, make_haystack, make_needles
from papertrial.errors import BadInputError

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("language", ["en", "ko"])
@given(st.integers(150, 1500), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_needles_stand_where_they_are_asked_for(language, length, seed):
    """A sentence is at most 20 tokens, so a needle is off by its own and its neighbours' length."""
    made = make_haystack(length, DEPTHS, language=language, seed=seed)
    assert made.length == len(made.text.split()) <= length
    assert made.length > length - 20
    assert made.reached == tuple(sorted(made.reached))
    for needle, depth, reached in zip(made.needles, made.depths, made.reached, strict=True):
        assert made.text.count(needle.statement) == 1
        assert abs(reached - depth) < 10 * 20 / made.length


@given(st.integers(1, 10), st.integers(0, 12), st.integers(0, 999))
def test_near_misses_share_one_word_and_no_number(count, near, seed):
    needles, misses = make_needles("en", count, near, random.Random(seed))
    pattern = re.compile(r"The number of the (\w+) (\w+) is (\d+)\.")
    asked = [pattern.match(needle.statement).groups() for needle in needles]
    others = [pattern.match(miss).groups() for miss in misses]
    assert len({key[:2] for key in asked + others}) == count + near
    assert len({key[2] for key in asked + others}) == count + near
    for colour, thing, _ in others:
        assert any((colour == a) != (thing == b) for a, b, _ in asked)


def test_a_copying_oracle_scores_one_and_a_guess_the_chance():
    """4,000 guesses among eight numbers: 1/8 within five binomial standard errors (0.026)."""
    made = make_haystack(400, tuple(n / 7 for n in range(8)), near_misses=0, seed=5)
    stated = re.findall(r"is (\d{5})", made.text)
    draw = random.Random(0)
    for needle in made.needles:
        key = re.search(r"the number of the (\w+ \w+)\?", needle.question)[1]
        copied = re.search(rf"The number of the {key} is (\d+)", made.text)[1]
        assert score(copied, [needle.answer]) == 1.0
    guesses = [score(draw.choice(stated), [made.needles[n % 8].answer]) for n in range(4000)]
    assert abs(sum(guesses) / 4000 - 1 / 8) < 0.026


def test_same_seed_same_text_other_seed_another():
    first, again, other = (make_haystack(200, DEPTHS, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.text != other.text


def test_own_needle_filler_and_tokens():
    needle = Needle("Salt goes in last.", "When does salt go in?", "last")
    made = make_haystack(
        300, (0.5,), needles=[needle], filler=["Stir.", "Wait a minute."], near_misses=0, count=len
    )
    assert made.length == len(made.text) <= 300
    assert made.text.index("Salt goes in last.") == pytest.approx(0.5 * made.length, abs=90)
    assert "locker" in make_haystack(300, (0.5,)).text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depths": (1.5,)}, "lies between 0 and 1, got 1.5"),
        ({"depths": ()}, "each depth needs one needle, got 0 depths"),
        ({"depths": (0.5,), "language": "de"}, "unknown language 'de'"),
        ({"depths": (0.5,), "length": 5}, r"the statements alone take \d+ tokens, got length=5"),
        ({"depths": (0.1, 0.2), "needles": [Needle("a", "b", "c")]}, "got 2 depths and 1 needles"),
        ({"depths": (0.5,), "near_misses": 100}, "there are keys for 60"),
        ({"depths": (0.5,), "near_misses": 30}, "1 needles have 20 near misses in 'en', got 30"),
    ],
)
def test_what_cannot_be_made(arguments, words):
    with pytest.raises(BadInputError, match=words):
        make_haystack(**{"length": 300, **arguments})
