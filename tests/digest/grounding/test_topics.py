"""Wrong papers: a title's words in its own summary and in others'."""

from __future__ import annotations

import math

import pytest

from papertrial.digest.grounding import TopicWeights, rank_within_day, topic_overlap, wrong_papers
from papertrial.digest.grounding.topics import tokens
from papertrial.digest.reading import read_days
from papertrial.digest.records import Entry, Paper


def entry(number, title, summary, lang="en"):
    return Entry(Paper(id=f"2409.{number:05d}", title=title), lang=lang, sections={"whats_new": summary})


def test_tokens_are_runs_with_inner_points_and_hyphens_and_their_parts():
    assert tokens("Qwen2.5-72B, open-source models!") == {
        "qwen2.5-72b",
        "qwen2",
        "72b",
        "open-sourc",
        "open",
        "sourc",
        "model",
    }


def test_weights_against_the_formula_counted_by_hand():
    weights = TopicWeights.of(
        ["Alpha of models", "Beta of models"], ["alpha is a model of note", "beta, of course"]
    )
    assert weights.weight("alpha") == pytest.approx(math.log(5 / 2))
    assert weights.weight("of") == pytest.approx(math.log(5 / 4))
    assert weights.weight("nowhere") == pytest.approx(math.log(5))
    own = topic_overlap("Alpha of models", "alpha is a model of note", weights)
    assert own == 1.0
    other = topic_overlap("Alpha of models", "beta, of course", weights)
    model = math.log(5 / 3)
    assert other == pytest.approx(math.log(5 / 4) / (math.log(5 / 2) + math.log(5 / 4) + model))


def test_a_title_without_words_has_no_overlap():
    assert topic_overlap("…", "anything") is None


def test_swapped_summaries_are_found():
    titles = ["APOLLO: Optimizer Memory", "MinT: Timed Video Events", "Sparse Frontier of Attention"]
    summaries = [
        "The APOLLO optimizer needs little memory.",
        "MinT times the events of a video.",
        "Sparse attention is measured on its frontier.",
    ]
    right = [entry(n, title, summaries[n]) for n, title in enumerate(titles)]
    assert wrong_papers(right) == ()
    swapped = [entry(0, titles[0], summaries[1]), entry(1, titles[1], summaries[0]), right[2]]
    assert {one.entry.paper.title for one in wrong_papers(swapped)} == set(titles[:2])
    assert rank_within_day(swapped)[0].entry.paper.title == titles[2]


def test_entries_without_summary_are_suspect():
    [one] = wrong_papers([entry(0, "A Title of Words", "")])
    assert one.suspect == "it has no summary"


GENERIC = (
    "이 논문은 자연어 처리(NLP)를 위한 대규모 언어 모델(Large Language Models)의 새로운 학습 방법(Training)을 "
    "제안합니다. 여러 벤치마크(Benchmarks)에서 성능이 {percent}% 향상되었습니다."
)
MIO = "MIO는 멀티모달 토큰(Multimodal Tokens)을 다루는 기반 모델(Foundation Model)입니다."
HDFLOW = "HDFlow는 하이브리드 사고(Hybrid Thinking)로 복잡한 문제 해결(Problem-Solving)을 돕습니다."
DAY = [
    ("MIO: A Foundation Model on Multimodal Tokens", MIO, True),
    ("HDFlow: Enhancing LLM Complex Problem-Solving with Hybrid Thinking", HDFLOW, True),
    ("Emu-like Video Diffusion with Sparse Frames", None, False),
    ("Grounded Robot Grasping from Point Clouds", None, False),
    ("MinerU-style Document Parsing at Scale", None, False),
    ("PhysGen: Rigid-Body Physics for Image Animation", None, False),
    ("Vocal Source Separation with Masked Spectrograms", None, False),
    ("LiDAR Maps of Urban Scenes by Splatting", None, False),
    ("Protein Folding Energies from Diffusion Priors", None, False),
    ("Egocentric Hand Poses for Augmented Reality", None, False),
]  # fmt: skip


def test_invented_korean_summaries_rank_last():
    """A day composed like that of 2024-09-30: two summaries are of their papers, eight of no paper at all."""
    day = [
        entry(n, title, summary or GENERIC.format(percent=5 + n), "ko")
        for n, (title, summary, _) in enumerate(DAY)
    ]
    ranked = rank_within_day(day)
    assert {one.entry.paper.title for one in ranked[:2]} == {title for title, _, right in DAY if right}
    assert ranked[1].overlap > 2 * ranked[2].overlap
    flagged = {one.entry.paper.title for one in wrong_papers(day)}
    assert flagged == {title for title, _, right in DAY if not right}


def test_invented_gains_are_absent_from_the_paper():
    """The single cases of October 2024: a right topic with gains that nobody measured."""
    from papertrial.digest.grounding import PaperIndex, ground

    paper = PaperIndex.of(
        "MIO handles multimodal tokens of speech, text and video with one foundation model of 7B."
    )
    grounding = ground({"performance": GENERIC.format(percent="5-10")}, paper, text="full text", lang="ko")
    assert [(one.text, one.word) for one in grounding.numbers] == [("5", "absent"), ("10%", "absent")]


def test_real_days_find_their_own_summaries(shared_data):
    """Own against every other summary of the day: at least 0.99, as a prototype had on the whole archive."""
    wins = pairs = suspected = entries = 0
    for file in sorted((shared_data("digest") / "en").glob("*.md")):
        for day in read_days(file):
            titles = [one.paper.title for one in day]
            summaries = [one.summary for one in day]
            weights = TopicWeights.of(titles, summaries)
            wanted, had = [tokens(title) for title in titles], [tokens(summary) for summary in summaries]
            for at, title in enumerate(wanted):
                own = weights.share(title, had[at]) or 0.0
                there = [weights.share(title, one) or 0.0 for other, one in enumerate(had) if other != at]
                wins += sum(own > one for one in there)
                pairs += len(there)
            suspected += len(wrong_papers(day))
            entries += len(titles)
    assert entries == 418
    assert wins / pairs >= 0.99
    assert suspected / entries <= 0.01
