"""Policies: what is asked again, what is deleted, and that what stays are whole sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papertrial.digest.grounding import PaperIndex, apply_policy
from papertrial.digest.grounding.clauses import without_clauses
from papertrial.digest.records import Entry, Field, Paper
from papertrial.digest.sentences import split_sentences
from papertrial.errors import BadInputError

PAPER = Paper(id="2503.00001", title="A Gadget")
TEXT = "The gadget reaches 87.5% accuracy on scenes. It takes 53 ms."


def entry(**sections):
    return Entry(PAPER, sections=sections, fields=(Field(None, "old"),))


@pytest.fixture
def index():
    return PaperIndex.of(TEXT, title=PAPER.title)


def test_off_grounds_nothing_and_mark_changes_nothing(index):
    made = entry(results="The gadget reaches 91%.")
    assert apply_policy(made, index, "off", text="full text").grounding is None
    marked = apply_policy(made, index, "mark", text="full text")
    assert [one.word for one in marked.grounding.numbers] == ["absent"]
    assert (marked.sections, marked.fields, marked.notes) == (made.sections, made.fields, ())


def test_strict_leaves_a_true_summary_alone(index):
    made = entry(results="The gadget takes 53 ms.")
    strict = apply_policy(
        made, index, "strict", text="full text", ask_again=lambda absent: pytest.fail("asked")
    )
    assert (strict.sections, strict.notes) == (made.sections, ())
    assert strict.grounding.grounded_fraction == 1


def test_strict_asks_once_with_the_absent_numbers_and_says_so(index):
    asked = []

    def again(absent):
        asked.append(absent)
        return {"results": "The gadget takes 53 ms."}

    strict = apply_policy(
        entry(results="It takes 99 ms and 99 ms, or 12 GB."),
        index,
        "strict",
        text="full text",
        ask_again=again,
    )
    assert asked == [("99 ms", "12 GB")]
    assert strict.sections == {"results": "The gadget takes 53 ms."}
    assert strict.grounding.grounded_fraction == 1
    assert "99 ms" in strict.notes[0]


def test_strict_deletes_what_is_still_absent_and_says_so(index):
    made = entry(results="The gadget takes 53 ms. It needs 12 GB.", headline="It has 41 wheels.")
    strict = apply_policy(made, index, "strict", text="full text", ask_again=lambda absent: made.sections)
    assert strict.sections == {"results": "The gadget takes 53 ms."}
    assert strict.fields == ()
    notes = " ".join(strict.notes)
    assert "12 GB" in notes
    assert "41" in notes
    assert "'headline'" in notes


def test_strict_without_anyone_to_ask_deletes_at_once(index):
    strict = apply_policy(
        entry(results="The gadget takes 53 ms, beating 41 others."), index, "strict", text="full text"
    )
    assert strict.sections == {"results": "The gadget takes 53 ms."}


def test_an_abstract_deletes_nothing(index):
    made = entry(results="It needs 12 GB.")
    assert apply_policy(made, index, "strict", text="abstract").sections == made.sections


def test_an_unknown_policy_is_refused(index):
    with pytest.raises(BadInputError, match="strict"):
        apply_policy(entry(results="x"), index, "strikt", text="full text")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is fast (about 41% faster). It is small.", "It is fast. It is small."),
        ("It is small; it is 41% faster.", "It is small."),
        ("It is 41% faster; it is small and light.", "It is small and light."),
        ("It is small; it is 41% faster; it is light.", "It is small; it is light."),
        ("It beats the others, reaching 41% on scenes.", "It beats the others."),
        ("It beats the others, while they need 41 GB.", "It beats the others."),
        ("It has 41% of the cost and of the size.", ""),
        ("While it needs 41 GB, it is fast.", ""),
        ("By using 41 wheels, it runs well, reaching the goal.", ""),
        ("It scores 1, 2, and 41 points.", ""),
        ("iv) **Results:** It needs 41 GB. It is fast.", "It is fast."),
        ("The first stays. It needs 41 GB. The last stays.", "The first stays. The last stays."),
        ("성능이 좋다. 41 GB가 필요하다. 빠르다.", "성능이 좋다. 빠르다."),
        ("빠르다(약 41% 향상). 작다.", "빠르다. 작다."),
        ("It (the one with 41 GB, i.e. the large one) is fast.", "It is fast."),
        ("It is good, as said (with 3 of them, reaching 41%, in all).", "It is good, as said."),
    ],
)
def test_a_clause_goes_and_no_sentence_breaks(text, expected):
    at = text.index("41")
    assert without_clauses(text, [(at, at + 2)]) == expected


def test_a_text_without_spans_is_returned_as_it_is():
    assert without_clauses("  It is  so. ", []) == "  It is  so. "


SENTENCES = [
    "It is fast (41 ms) on scenes.", "It is small; it needs 42 GB; it runs.",
    "It wins, reaching 43% on scenes, with ease.",
    "While 44 fail, it runs.", "그것은 45% 빠르다.", "It has [46, see (47)] parts.", 'He said "48 of them" to us.',
]  # fmt: skip


@given(st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=5), st.data())
def test_deleting_never_leaves_a_broken_sentence(sentences, data):
    text = " ".join(sentences)
    places = [at for at in range(len(text)) if text[at : at + 2].isdigit() and text[at : at + 2] > "40"]
    chosen = data.draw(st.lists(st.sampled_from(places), unique=True))
    left = without_clauses(text, [(at, at + 2) for at in chosen])
    gone = [text[at : at + 2] for at in chosen]
    for number in set(gone):
        kept = text.count(number) - gone.count(number)
        assert left.count(number) <= kept
    for sentence in split_sentences(left):
        assert sentence.text[-1] in ".!?"
        assert sentence.text[0].isupper() or "가" <= sentence.text[0] <= "힣"
        for pair in ("()", "[]"):
            assert sentence.text.count(pair[0]) == sentence.text.count(pair[1])
        assert sentence.text.count('"') % 2 == 0
        assert not sentence.text.rstrip(".").endswith((",", ";", "and", "reaching"))


@given(st.text(alphabet=st.sampled_from(list("Ab 1;:,().*\n다")), max_size=80), st.data())
def test_deleting_ends_whatever_the_text(text, data):
    places = [at for at in range(len(text)) if text[at] == "1"]
    chosen = data.draw(st.lists(st.sampled_from(places), unique=True)) if places else []
    left = without_clauses(text, [(at, at + 1) for at in chosen])
    assert left.count("1") <= text.count("1") - len(chosen)
