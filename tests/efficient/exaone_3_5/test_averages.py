from __future__ import annotations

import math

import pytest

from papertrial.efficient.exaone_3_5.averages import group_averages, macro_mean, published_averages
from papertrial.efficient.exaone_3_5.long_rag import is_refusal, score_long_rag
from papertrial.efficient.exaone_3_5.published import AVERAGES, LONG_CONTEXT, LONG_RAG, REAL_WORLD, SCORES
from papertrial.errors import BadInputError


@pytest.mark.parametrize("model", SCORES)
def test_every_published_average_is_that_of_its_rows(model):
    """Rows are printed to a tenth and averages too: they agree within 0.1, half a unit on either side."""
    found = published_averages()[model]
    for mine, printed in zip(found.values(), AVERAGES[model], strict=True):
        assert (mine is None) == (printed is None)
        if mine is not None:
            assert abs(mine - printed) <= 0.1


def test_ten_point_scores_count_tenfold():
    scores = dict.fromkeys(REAL_WORLD, 50.0) | {"MT-Bench": 5.0, "KoMT-Bench": 5.0, "LogicKor": 5.0}
    assert macro_mean(scores, REAL_WORLD) == pytest.approx(50.0)


def test_short_context_is_a_dash_and_no_zero():
    scores = SCORES["Qwen 2.5 7B"]
    assert group_averages(scores, context=16_384)["long-context"] is None
    assert group_averages(scores, context=32_768)["long-context"] == pytest.approx(56.1, abs=0.05)


def test_highest_on_seven_is_not_so_for_the_32b():
    """Table 6 among the models of its size: best on six of seven, and on the average."""
    rivals = ("Qwen 2.5 32B", "C4AI Command R 32B", "Gemma 2 27B", "Yi 1.5 34B")
    ours = SCORES["EXAONE 3.5 32B"]
    best = [name for name in REAL_WORLD if all(ours[name] > SCORES[rival][name] for rival in rivals)]
    assert set(REAL_WORLD) - set(best) == {"LiveBench"}
    assert SCORES["Qwen 2.5 32B"]["LiveBench"] == 50.6
    assert all(AVERAGES["EXAONE 3.5 32B"][0] > AVERAGES[rival][0] for rival in rivals)


def test_long_rags_lead_is_of_answerable_questions():
    """Table 14: ahead on answerable, far behind on unanswerable; four in five questions or more are answerable."""
    ours, qwen = LONG_RAG["EXAONE 3.5 32B"], LONG_RAG["Qwen 2.5 32B"]
    for data in (0, 1):
        assert ours[data][0] > qwen[data][0] + 10
        assert ours[data][1] < qwen[data][1] - 25
        answerable, unanswerable, total = ours[data]
        assert (total - unanswerable) / (answerable - unanswerable) > 0.7  # the weight of the answerable ones
    unweighted = [sum(one[data][kind] for data in (0, 1) for kind in (0, 1)) / 4 for one in (ours, qwen)]
    assert unweighted[0] < unweighted[1]  # with both kinds counting alike the order turns round


@pytest.mark.parametrize("model", LONG_RAG)
def test_long_rag_averages_are_means_of_totals(model):
    """0.11: two totals and their mean, each rounded to a tenth; the mean is also table 7's LongRAG score."""
    (*_, nq), (*_, hotpot), (average,) = LONG_RAG[model]
    assert abs((nq + hotpot) / 2 - average) <= 0.11
    assert SCORES[model]["LongRAG"] == average


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"LongBench": 1.0}, "unknown benchmark 'LongRAG'"),
        (dict.fromkeys(LONG_CONTEXT, 1.0) | {"LongRAG": None}, "some of .* are dashes"),
        (dict.fromkeys(LONG_CONTEXT, 101.0), "is scored out of 100, got 101"),
    ],
)
def test_averages_that_would_mislead(scores, words):
    with pytest.raises(BadInputError, match=words):
        macro_mean(scores, LONG_CONTEXT)


def test_the_two_kinds_of_questions_are_scored_apart():
    answers = ["It is Seoul.", "unanswerable.", "Unanswerable", "Busan, surely"]
    accepted = [["seoul", "Seoul city"], ["Paris"], [], []]
    scores = score_long_rag(answers, accepted)
    assert (scores.answerable, scores.unanswerable, scores.total, scores.refused) == (0.5, 0.5, 0.5, 0.5)
    assert math.isnan(score_long_rag(["a"], [["a"]]).unanswerable)
    assert score_long_rag(["x"], [["y"]], judge=lambda answer, gold: True).answerable == 1.0
    # "Unanswerable" is no right answer to an answerable question, whatever a judge says
    assert score_long_rag(["Unanswerable"], [["y"]], judge=lambda answer, gold: True).answerable == 0.0
    seen = []
    strict = score_long_rag(
        ["Seoul it is", "unanswerable", "Unanswerable", "Busan"],
        [["Seoul"], ["Paris"], [], []],
        judge=lambda answer, gold: seen.append((answer, gold)) or False,
    )
    assert seen == [("Seoul it is", ["Seoul"])], "a judge is asked of answers alone, not of refusals"
    assert (strict.answerable, strict.unanswerable) == (0.0, 0.5), (
        "its word counts, whatever the text includes"
    )
    assert score_long_rag(["catalogue"], [["cat"]]).answerable == 0.0
    assert not is_refusal("That is unanswerable, I think")
    with pytest.raises(BadInputError, match="each question needs an answer"):
        score_long_rag(["a"], [])
