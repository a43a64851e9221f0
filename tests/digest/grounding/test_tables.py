"""Tables in plain text, as the readers of papers leave them."""

from __future__ import annotations

import pytest

from papertrial.digest.grounding import PaperIndex, ground
from papertrial.digest.grounding.tables import find_tables, proper_names

ROWS = [("Foo-7B", "75.4", "77.5"), ("Bar-7B", "75.1", "83.4")]
HEADER = ("Model", "LAMBADA", "MMLU")

MARKDOWN = "| Model | LAMBADA | MMLU |\n|---|---|---|\n| Foo-7B | 75.4 | 77.5 |\n| Bar-7B | 75.1 | 83.4 |"
BARE_PIPES = "Model | LAMBADA | MMLU\nFoo-7B | 75.4 | 77.5\nBar-7B | 75.1 | 83.4"
TABS = "Model\tLAMBADA\tMMLU\nFoo-7B\t75.4\t77.5\nBar-7B\t75.1\t83.4"
GAPS = "Model     LAMBADA   MMLU\nFoo-7B    75.4      77.5\nBar-7B    75.1      83.4"
PDF_LINES = "Model LAMBADA MMLU\nFoo-7B 75.4 77.5\nBar-7B 75.1 83.4"


@pytest.mark.parametrize("form", [MARKDOWN, BARE_PIPES, TABS, GAPS, PDF_LINES])
def test_every_form_gives_rows_labels_and_cells(form):
    text = f"Some prose stands before it.\n\nTable 2: accuracy on StoryBench.\n{form}\n\nSome prose after it."
    [table] = find_tables(text)
    assert table.columns == HEADER
    assert table.caption == "Table 2: accuracy on StoryBench."
    assert [row.label for row in table.rows] == [row[0] for row in ROWS]
    cells = [tuple(text[start:end].strip() for start, end in row.cells) for row in table.rows]
    assert cells == ROWS
    assert table.caption_names >= {"storybench"}


def test_tables_one_under_the_other_keep_their_own_captions():
    text = f"Table 1: HoldOut\n{BARE_PIPES}\nTable 2: StoryBench\n{BARE_PIPES.replace('75.4', '85.4')}"
    first, second = find_tables(text)
    assert (first.caption, second.caption) == ("Table 1: HoldOut", "Table 2: StoryBench")


def test_a_caption_may_stand_under_its_table():
    [table] = find_tables(f"Some prose stands before it.\n\n{MARKDOWN}\n\nTable 3: Of HoldOut.\n\nMore.")
    assert table.caption == "Table 3: Of HoldOut."


@pytest.mark.parametrize(
    "text",
    [
        "Prose with 3 numbers and 4 more, or 5.",
        "The measure is I(X | Y) in one line of prose.",
        "- an item of 3\n- an item of 4",
        "",
    ],
)
def test_prose_is_no_table(text):
    assert find_tables(text) == []


def test_a_row_shows_its_header_as_the_source():
    index = PaperIndex.of(f"Table 1: accuracy.\n{MARKDOWN}")
    [number] = ground({"r": "Foo has an MMLU accuracy of 77.5."}, index, text="full text").numbers
    assert number.word == "exact"
    assert number.source == "Model LAMBADA MMLU\n| Foo-7B | 75.4 | 77.5 |"


def test_a_cell_is_found_by_its_place():
    [table] = find_tables(MARKDOWN)
    at = MARKDOWN.index("83.4")
    assert table.rows[1].column(at) == 2
    assert table.rows[1].column(0) is None


def test_names_are_words_with_a_digit_or_an_inner_capital():
    names = proper_names("MinT and GPT-4o beat Qwen2.5-72B on StoryBench, as the model of an LLM says")
    assert {"mint", "gpt-4o", "qwen2.5-72b", "qwen2.5", "storybench"} <= names
    assert not names & {"and", "the", "llm", "model", "says"}
