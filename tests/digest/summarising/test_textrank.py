"""TextRank held to sumy, to a linear solve, and to a brute-force count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from papertrial.digest.sentences import split_sentences
from papertrial.digest.summarising import rank_sentences
from papertrial.digest.summarising.textrank import overlap_edges, power_iteration, tfidf_edges, words_of
from papertrial.errors import BadInputError

TEXTS = [
    "The cat sat on the mat. The dog sat on the cat. A bird flew over the mat and the dog. Nothing happened. "
    "The mat was the cat's own mat.",
    "We propose a sparse attention method. Sparse attention reduces the memory of attention. The method is evaluated "
    "on long documents. Long documents need memory. We release code. Hello.",
    "One. Two. Three words here. One two three words. One.",
]


@pytest.mark.parametrize("text", TEXTS)
def test_overlap_ranks_as_sumy_does(text):
    from sumy.models.dom import ObjectDocumentModel, Paragraph, Sentence
    from sumy.summarizers.text_rank import TextRankSummarizer

    class Words:
        """Gives sumy our words, so that rankings and not tokenisers are compared."""

        def to_words(self, sentence):
            return tuple(words_of(sentence))

    sentences = [one.text for one in split_sentences(text)]
    document = ObjectDocumentModel([Paragraph([Sentence(one, Words()) for one in sentences])])
    summarizer = TextRankSummarizer()
    theirs = summarizer.power_method(summarizer._create_matrix(document), summarizer.epsilon)
    ours = rank_sentences(sentences, similarity="overlap")
    # the same iteration in another order of summation: only rounding may differ
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert list(np.argsort(-ours, kind="stable")) == list(np.argsort(-np.array(theirs), kind="stable"))


words = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=6)


@given(st.lists(words, min_size=1, max_size=6))
def test_overlap_edges_are_counted_as_defined(sentences):
    edges = overlap_edges(sentences)
    for i, first in enumerate(sentences):
        for j, second in enumerate(sentences):
            common = sum(second.count(word) for word in first)
            norm = math.log(len(first) or 1) + math.log(len(second) or 1)
            assert edges[i, j] == pytest.approx(
                common / norm if common and norm else float(common), rel=1e-12
            )


@given(st.lists(words, min_size=2, max_size=6))
def test_tfidf_edges_are_scikit_learns_cosines(sentences):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    if not any(sentences):
        return
    vectors = TfidfVectorizer(analyzer=lambda sentence: sentence).fit_transform(sentences)
    theirs = cosine_similarity(vectors)
    np.fill_diagonal(theirs, 0.0)
    np.testing.assert_allclose(
        tfidf_edges(sentences), theirs, atol=1e-12
    )  # the same sums in double precision


@given(
    numpy_strategies.arrays(np.float64, (5, 5), elements=st.just(0.0) | st.floats(0.5, 3)),
    st.floats(0.1, 0.9),
)
def test_scores_solve_the_walks_equation(edges, damping):
    scores = power_iteration(edges, damping, tolerance=1e-6)
    rows = edges / (edges.sum(axis=1, keepdims=True) + 1e-7)
    walk = ((1 - damping) / 5 + damping * rows).T
    # a fixed point, to the tolerance asked for; a step shrinks the change in L1, in L2 up to sqrt(5)
    assert np.linalg.norm(walk @ scores - scores) < 2.3e-6


def test_the_central_sentence_wins_and_a_stray_one_loses():
    sentences = [
        "Sparse attention reduces memory in long documents.",
        "Attention needs memory.",
        "Long documents need sparse methods.",
        "Bananas are yellow.",
    ]
    scores = rank_sentences(sentences)
    assert scores.argmax() == 0
    assert scores.argmin() == 3


def test_no_sentence_and_one_sentence():
    assert len(rank_sentences([])) == 0
    assert rank_sentences(["Only one."]).shape == (1,)


def test_bad_input_is_refused():
    with pytest.raises(BadInputError, match="unknown similarity"):
        rank_sentences(["a"], similarity="euclid")
    for edges in (np.ones((2, 3)), -np.ones((2, 2))):
        with pytest.raises(BadInputError, match="square matrix"):
            power_iteration(edges)
    with pytest.raises(BadInputError, match="damping"):
        power_iteration(np.ones((2, 2)), damping=1.0)
