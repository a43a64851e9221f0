"""Slips of public digests, each held to the figures that its paper states."""

from __future__ import annotations

import pytest

from papertrial.digest.grounding import PaperIndex, ground
from papertrial.digest.reading import read_days


def verdicts(claim, paper, title=""):
    grounding = ground({"results": claim}, PaperIndex.of(paper, title=title), text="full text")
    return {number.text: number.word for number in grounding.numbers}


@pytest.fixture
def real_row(shared_data):
    """Return a function that gives the title and the summary of a real digest row."""

    def row(day, arxiv):
        [found] = read_days(shared_data("digest") / "en" / f"{day}.md")
        entry = found.entry(arxiv)
        return entry.paper.title, entry.summary

    return row


MINT = """Several events of one video are timed. Text-to-video alignment (TA) is what raters' model VideoScore gives.

Table 1a: HoldOut.

| Method | TA | CLIP-T | TC |
|---|---|---|---|
| MEVG | 2.72 | 0.266 | 2.25 |
| MinT | 3.00 | 0.272 | 2.47 |

Table 1b: StoryBench.

| Method | TA | CLIP-T | TC |
|---|---|---|---|
| MEVG | 2.83 | 0.265 | 3.03 |
| MinT | 3.37 | 0.273 | 3.29 |
"""


def test_mint_mixes_two_data_sets():
    slipped = "MinT has an alignment (TA) of 3.00 on StoryBench, against 2.83 of MEVG."
    assert verdicts(slipped, MINT) == {"3.00": "context differs", "2.83": "exact"}
    right = "MinT has an alignment (TA) of 3.37 on StoryBench, against 2.83 of MEVG; on HoldOut 3.00 against 2.72."
    assert set(verdicts(right, MINT).values()) == {"exact"}


def test_mints_real_row_is_flagged_at_the_mixed_number(real_row):
    title, summary = real_row("2024-12-09", "2412.05263")
    assert verdicts(summary, MINT, title) == {"3.00": "context differs", "2.83": "exact"}


RADLADS = """Softmax attention models of 7B, 32B and 72B parameters are converted in three steps to two new recurrent
architectures, on 350M to 700M tokens, less than 0.005% of what the pre-training took. Hidden states are aligned with
an L2 loss on 100M tokens; then the logits are distilled on 250M to 700M tokens.

Table 5: accuracy of teachers and converted models.

| Model | LAMBADA | MMLU |
|---|---|---|
| Qwen2.5-72B-Instruct | 75.1 | 83.4 |
| QRWKV6-72B-Instruct | 75.4 | 77.5 |
"""


def test_radlads_calls_lambada_mmlu():
    slipped = "QRWKV6-72B-Instruct has an MMLU of 0.754, as its teacher Qwen2.5-72B-Instruct has 0.751."
    assert verdicts(slipped, RADLADS) == {"0.754": "context differs", "0.751": "context differs"}
    right = "QRWKV6-72B-Instruct has a LAMBADA of 75.4 against its teacher's 75.1, and an MMLU of 77.5 against 83.4."
    assert set(verdicts(right, RADLADS).values()) == {"exact"}


def test_radlads_real_row_is_flagged_at_the_two_mislabelled_numbers(real_row):
    title, summary = real_row("2025-05-07", "2505.03005")
    found = verdicts(summary, RADLADS, title)
    assert {text for text, word in found.items() if word not in ("exact", "rounded")} == {"0.754", "0.751"}
    assert found["0.754"] == found["0.751"] == "context differs"
    assert len(found) >= 9


PPTAGENT = """PPTAgent edits the slides of a reference deck.

Table 5: success rate and PPTEval score by language model.

| Language model | Success rate (%) | PPTEval average |
|---|---|---|
| GPT-4o | 97.8 | 3.62 |
| Qwen2.5 + Qwen2-VL | 95.0 | 3.67 |
"""


def test_pptagent_joins_two_models():
    named = "With GPT-4o, PPTAgent has a PPTEval average of 3.67 and a success rate of 97.8%."
    assert verdicts(named, PPTAGENT) == {"3.67": "context differs", "97.8%": "exact"}
    unnamed = "PPTAgent has a PPTEval average of 3.67 and a success rate of 97.8%."
    assert verdicts(unnamed, PPTAGENT) == {"3.67": "exact", "97.8%": "context differs"}
    right = "PPTAgent has a success rate of 97.8% and a PPTEval average of 3.62 with GPT-4o."
    assert set(verdicts(right, PPTAGENT).values()) == {"exact"}


def test_pptagent_joined_in_korean():
    joined = "PPTAgent는 PPTEval 평균(Average) 3.67점과 성공률(Success Rate) 97.8%를 기록했습니다."
    index = PaperIndex.of(PPTAGENT)
    found = ground({"performance": joined}, index, text="full text", lang="ko").numbers
    assert [(one.text, one.word) for one in found] == [("3.67점", "exact"), ("97.8%", "context differs")]


APOLLO = """APOLLO pre-trains LLaMA models with little optimizer state. On 8xA100-80GB it has 3x AdamW's throughput.

Table 2: validation perplexity on C4.

| Method | 60M | 130M | 350M | 1B |
|---|---|---|---|---|
| AdamW | 34.06 | 25.08 | 18.80 | 15.56 |
| APOLLO | 31.55 | 22.94 | 16.85 | 14.20 |
| APOLLO-Mini | 31.93 | 23.53 | 17.18 | 14.17 |
"""


def test_apollo_loses_a_unit():
    slipped = "APOLLO reaches up to a 2.8 reduction against AdamW and 3x the throughput on 8xA100-80GB."
    assert verdicts(slipped, APOLLO) == {"2.8": "absent", "3x": "exact", "8": "exact"}
    said = f"{APOLLO}\nAgainst AdamW the reduction is up to 2.8 ppl.\n"
    assert verdicts(slipped, said) == {"2.8": "context differs", "3x": "exact", "8": "exact"}
    assert verdicts("APOLLO reaches 2.8 ppl less than AdamW.", said) == {"2.8 ppl": "exact"}


def test_apollos_real_row_is_flagged_at_the_lost_unit(real_row):
    title, summary = real_row("2024-12-09", "2412.05270")
    for paper, word in (
        (APOLLO, "absent"),
        (f"{APOLLO}\nIt has up to 2.8 ppl less perplexity.\n", "context differs"),
    ):
        found = verdicts(summary, paper, title)
        assert found["2.8"] == word
        assert {text: one for text, one in found.items() if text != "2.8"} == {"3x": "exact", "8": "exact"}
