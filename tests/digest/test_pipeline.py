"""From a collected day to its digest: every paper kept, numbers grounded, work resumed, nothing done twice."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from papertrial.digest import collecting, pipeline
from papertrial.digest.collecting import PaperText, Section
from papertrial.digest.pipeline import Making, find_days, made_dates, made_days
from papertrial.digest.records import Day, Entry, Paper
from papertrial.errors import BadInputError
from papertrial.llm.recorded import Scripted

WHEN = date(2025, 6, 18)
BODY = (
    "We present Lumen, a decoder that reads long contexts in parallel. "
    "Existing decoders read one token after another, and this is slow. "
    "Lumen splits the context into 8 blocks and merges their caches with a learned gate. "
    "On LongBench, Lumen reaches 61.5 % accuracy against 58.0 % for the baseline decoder. "
    "Practitioners can use Lumen without retraining their models."
)


def paper(number, title="Lumen: Parallel Reading for Decoders"):
    return Paper(f"2506.{number:05}", title, abstract=BODY, upvotes=number, listed_on=WHEN, source="hf")


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERTRIAL_HOME", str(tmp_path))


@pytest.fixture
def said():
    return []


@pytest.fixture
def hub(monkeypatch):
    """Put a day of three papers in the place of the Hub; their texts are counted as they are read."""
    papers = [paper(1), paper(2, "Second: Lumen for Speech Decoders"), paper(3, "Third: A Lumen Survey")]
    read = []

    def read_text(one, **_):
        read.append(one.id)
        sections = (Section("Abstract", "abstract", (BODY,)), Section("Results", "results", (BODY,)))
        return PaperText("arxiv html", sections)

    def collect(when, source="hf", **_):
        return Day(when, tuple(Entry(one) for one in papers), source)

    monkeypatch.setattr(collecting, "collect", collect)
    monkeypatch.setattr(collecting, "read_text", read_text)
    return papers, read


def find(tmp_path, said, how=None, when=WHEN, source="hf"):
    return find_days(when, source, how or Making(), tmp_path, said.append)


def test_every_paper_gets_an_entry_of_its_own_sentences(hub, tmp_path, said):
    (day,) = find(tmp_path, said)
    assert [entry.paper.id for entry in day] == [one.id for one in hub[0]]
    for entry in day:
        assert all(sentence in BODY for sentence in entry.evidence["results"])
        assert entry.grounding.grounded_fraction == 1.0
        assert {one.word for one in entry.grounding.numbers} == {"exact"}
    assert made_dates(tmp_path) == [(WHEN, 3, "hf")]


def test_a_second_call_reads_no_text_and_changes_no_byte(hub, tmp_path, said):
    first = find(tmp_path, said)
    files = {file: file.read_bytes() for file in (tmp_path / "digest").rglob("*.json")}
    assert find(tmp_path, said) == first
    assert len(hub[1]) == 3
    assert {file: file.read_bytes() for file in (tmp_path / "digest").rglob("*.json")} == files


def test_an_interrupted_day_goes_on_where_it_stopped(hub, tmp_path, said, monkeypatch):
    papers, read = hub
    whole = collecting.read_text

    def breaks(one, **options):
        if one.id == papers[2].id:
            raise KeyboardInterrupt
        return whole(one, **options)

    monkeypatch.setattr(collecting, "read_text", breaks)
    with pytest.raises(KeyboardInterrupt):
        find(tmp_path, said)
    monkeypatch.setattr(collecting, "read_text", whole)
    (day,) = find(tmp_path, said)
    assert len(day.entries) == 3
    assert read == [one.id for one in papers], "a finished paper was read again"


def test_new_votes_reach_a_kept_entry(hub, tmp_path, said):
    find(tmp_path, said)
    hub[0][0] = replace(hub[0][0], upvotes=99)
    (day,) = find(tmp_path, said)
    assert day.entries[0].paper.upvotes == 99
    assert len(hub[1]) == 3


def test_a_file_of_entries_that_is_broken_is_made_again(hub, tmp_path, said):
    find(tmp_path, said)
    (file,) = (tmp_path / "digest" / "made").glob("*.json")
    file.write_text("{")
    assert len(find(tmp_path, said)[0].entries) == 3
    assert len(hub[1]) == 6


def test_without_a_network_the_days_that_need_none_are_named(hub, tmp_path, said, monkeypatch):
    def unreachable(*_, **__):
        raise collecting.RemoteError("the Hub cannot be reached")

    monkeypatch.setattr(collecting, "collect", unreachable)
    with pytest.raises(
        collecting.RemoteError, match="cannot be reached; the days with cards need no network: 2024-12"
    ):
        find(tmp_path, said, source="auto")


def test_keywords_choose_before_anything_is_read(hub, tmp_path, said):
    (day,) = find(tmp_path, said, Making(keywords=("survey",)))
    assert [entry.paper.title for entry in day] == ["Third: A Lumen Survey"]
    assert hub[1] == [hub[0][2].id]
    assert any("1 of 3 papers" in line for line in said)


def test_keywords_lose_nothing_that_was_made(hub, tmp_path, said):
    find(tmp_path, said)
    find(tmp_path, said, Making(keywords=("survey",)))
    assert made_dates(tmp_path) == [(WHEN, 3, "hf")]


def test_a_day_that_is_not_summarised_whole_says_so(hub, tmp_path, said):
    find(tmp_path, said, Making(keywords=("survey",)))
    (day,) = made_days(tmp_path)
    assert (day.complete, day.reason) == (False, "1 of 3 papers are summarised")


def test_what_only_the_abstract_gave_is_tried_again(hub, tmp_path, said, monkeypatch):
    whole = collecting.read_text
    monkeypatch.setattr(collecting, "read_text", lambda one, **_: PaperText.of_abstract(one))
    (first,) = find(tmp_path, said)
    assert {entry.text for entry in first} == {"abstract"}
    assert find(tmp_path, said) == [first], "the same abstract made another entry"
    monkeypatch.setattr(collecting, "read_text", whole)
    assert {entry.text for entry in find(tmp_path, said)[0]} == {"full text"}


def test_notes_of_the_collection_are_kept(hub, tmp_path, said, monkeypatch):
    withdrawn = Entry(hub[0][0], notes=("The paper was withdrawn.",))
    monkeypatch.setattr(collecting, "collect", lambda when, source, **_: Day(when, (withdrawn,), source))
    assert "The paper was withdrawn." in find(tmp_path, said)[0].entries[0].notes


def test_what_the_model_could_not_write_is_asked_of_it_again(hub, tmp_path, said, scripted):
    del hub[0][1:]
    scripted("no JSON", "none again")
    (day,) = find(tmp_path, said, Making(model="scripted"))
    assert day.entries[0].model == "extractive"
    scripted(roles("On LongBench, Lumen reaches 61.5 % accuracy."))
    (day,) = find(tmp_path, said, Making(model="scripted"))
    assert day.entries[0].model == "scripted"


def roles(results, headline="Lumen reads long contexts in parallel."):
    return json.dumps(
        {
            "headline": headline,
            "objective": "Decoders read one token after another.",
            "method": "Lumen splits the context into 8 blocks.",
            "results": results,
            "implication": "Practitioners can use Lumen without retraining.",
            "evidence": [],
        }
    )


@pytest.fixture
def scripted(monkeypatch):
    """Let `--model` be a list of answers."""

    def put(*answers):
        model = Scripted(list(answers))
        monkeypatch.setattr(pipeline, "_open_backend", lambda how: model if how.model else None)
        return model

    return put


def test_an_invented_number_is_marked(hub, tmp_path, said, scripted):
    del hub[0][1:]
    scripted(roles("On LongBench, Lumen reaches 61.5 % accuracy, a gain of 48.3 %."))
    (day,) = find(tmp_path, said, Making(model="scripted"))
    words = {one.text: one.word for one in day.entries[0].grounding.numbers}
    assert words["61.5 %"] == "exact"
    assert words["48.3 %"] == "absent"


def test_strict_asks_again_and_then_deletes_the_clause(hub, tmp_path, said, scripted):
    del hub[0][1:]
    model = scripted(
        roles("On LongBench, Lumen reaches 61.5 % accuracy. It is 9.7 times faster."),
        roles("On LongBench, Lumen reaches 61.5 % accuracy. It is 9.7 times faster."),
    )
    (day,) = find(tmp_path, said, Making(model="scripted", ground="strict"))
    entry = day.entries[0]
    assert "9.7" not in entry.summary
    assert "61.5 %" in entry.sections["results"]
    assert any("9.7" in note for note in entry.notes), "what was deleted is said"
    assert len(model.calls) == 2


def test_a_summary_of_another_paper_is_said(hub, tmp_path, said, scripted):
    del hub[0][2:]
    hub[0][0] = replace(hub[0][0], title="Zephyr: Wind Forecasts from Satellites")
    scripted(roles("Lumen reaches 61.5 %."), roles("Lumen reaches 61.5 %.", "Lumen for speech decoders."))
    (day,) = find(tmp_path, said, Making(model="scripted"))
    suspicious = [any("another paper" in note for note in entry.notes) for entry in day]
    assert suspicious == [True, False]


def test_korean_without_a_model_says_that_its_sentences_are_not_translated(hub, tmp_path, said):
    del hub[0][1:]
    (day,) = find(tmp_path, said, Making(lang="ko"))
    entry = day.entries[0]
    assert "61.5 %" in entry.summary
    assert entry.notes


def test_the_latest_of_a_day_made_twice_is_shown(hub, tmp_path, said):
    find(tmp_path, said)
    find(tmp_path, said, Making(ground="off"))
    (day,) = made_days(tmp_path)
    assert day.entries[0].grounding is None


def test_cards_come_first_and_other_days_from_the_hub(hub, tmp_path, said):
    assert find(tmp_path, said, when=date(2025, 5, 7), source="auto")[0].source == "cards"
    assert find(tmp_path, said, source="auto")[0].source == "hf"
    with pytest.raises(BadInputError, match="name a day for --source hf"):
        find(tmp_path, said, when=None)
