"""Cards: what a good one says, and the line of everything that is wrong with a bad one."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from papertrial.trial.card import CardError, load_card
from papertrial.trial.relation import Relation

GOOD = (Path(__file__).parents[1] / "lab" / "lab_paper" / "card.toml").read_text()


def load(tmp_path, text, field="efficient"):
    folder = tmp_path / field / "a_paper"
    folder.mkdir(parents=True)
    (folder / "card.toml").write_text(text)
    return load_card(folder)


def line_of(text, fragment):
    return next(at for at, line in enumerate(text.splitlines(), 1) if fragment in line)


def test_a_good_card_is_read_whole(tmp_path):
    card = load(tmp_path, GOOD)
    assert (card.name, card.field, card.arxiv, card.day) == (
        "a_paper",
        "efficient",
        "2501.00001",
        date(2025, 1, 2),
    )
    assert card.claims[1].relation == Relation("ratio", "<", 0.5)
    assert card.claims[3].untested == "needs a cluster"
    assert [claim.name for claim in card.tested] == ["lower", "small", "fast"]
    assert card.findings[0].check.startswith("trial noise")


def test_a_card_of_papertrial_itself_names_no_paper(tmp_path):
    card = load(tmp_path, GOOD.replace('arxiv   = "2501.00001"\n', "").replace("day     = 2025-01-02\n", ""))
    assert (card.arxiv, card.day, card.origin) == (None, None, "papertrial itself")
    assert card.order > load(tmp_path / "other", GOOD).order


@pytest.mark.parametrize(
    ("old", "new", "fragment", "message"),
    [
        ('arxiv   = "2501.00001"', 'arxiv   = "x/0101"', "arxiv", "'x/0101' is no arXiv id"),
        ("day     = 2025-01-02", 'day     = "2025-01-02"', "day  ", "'day' must be a date"),
        ('metric   = "loss"', 'metrik   = "loss"', "metrik", "did you mean metric"),
        ('relation = "difference < 0"', 'relation = "lower"', 'relation = "lower"', "'lower' is no relation"),
        (
            'relation = "ratio < 0.5"',
            'relation = "ratio < -1"',
            "ratio < -1",
            "held against a positive number",
        ),
        ('relation = "ratio < 0.5"', 'relation = "value < 0.5"', 'against  = "baseline"', "has no 'against'"),
        ('name     = "small"', 'name     = "lower"', None, "a second claim named 'lower'"),
        ('name     = "small"', 'name     = "Small One"', "Small One", "lower-case words joined by '-'"),
        ('purpose = "Try the runner."', 'purpose = ""', "purpose", "must be a non-empty string"),
        ('arxiv   = "2501.00001"\n', "", None, "has both 'arxiv' and 'day'"),
        ("[summary.ko]", "[summary.fr]", "[summary.fr]", "unknown key 'fr'"),
        ('untested = "needs a cluster"\n', "", None, "claim 'large' lacks trial, metric, arm, relation"),
        ('where = "Section 1"\n', "", "[[findings]]", "lacks 'where'"),
        ('deeds   = ["greet"]', 'deeds   = "greet"', "deeds", "must be a list of strings"),
    ],
)
def test_a_problem_is_named_with_its_line(tmp_path, old, new, fragment, message):
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    with pytest.raises(CardError) as caught:
        load(tmp_path, text)
    problem = next(one for one in caught.value.problems if message in one)
    if fragment is not None:
        lines = [at for at, line in enumerate(text.splitlines(), 1) if fragment in line]
        assert any(f"card.toml:{at}: " in problem for at in lines), problem


def test_all_problems_are_named_at_once(tmp_path):
    text = GOOD.replace('arxiv   = "2501.00001"', 'arxiv = "no"').replace('title   = "A', 'titel   = "A')
    with pytest.raises(CardError) as caught:
        load(tmp_path, text)
    assert len(caught.value.problems) == 3  # the id, the unknown key, the missing title


def test_text_that_is_no_toml_names_its_line(tmp_path):
    with pytest.raises(CardError, match=r"card\.toml:3: is not TOML"):
        load(tmp_path, "a = 1\nb = 2\nc = = 3\n")


def test_a_missing_card_and_an_unknown_field(tmp_path):
    with pytest.raises(CardError, match="cannot be read"):
        load_card(tmp_path)
    with pytest.raises(CardError, match="unknown field 'efficiency'; did you mean efficient"):
        load(tmp_path, GOOD, field="efficiency")


@pytest.mark.parametrize("text", ["ratio<0.5", "difference >= -1e-3", "value > 50"])
def test_a_relation_reads_back_what_it_prints(text):
    relation = Relation.parse(text)
    assert Relation.parse(str(relation)) == relation


def test_a_relation_allows_what_it_says():
    assert Relation.parse("ratio < 0.5").allows(0.4999)
    assert not Relation.parse("ratio < 0.5").allows(0.5)
    assert Relation.parse("value >= 50").allows(50)
    assert not Relation.parse("value >= 50").allows(float("nan"))
