from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from papertrial.efficient.vocabulary_adaptation.canonical import token_forms
from papertrial.efficient.vocabulary_adaptation.structure import (
    plain_tokens,
    prefix_anchors,
    structure_similarity,
)
from papertrial.errors import BadInputError


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_rotation_scale_and_width_do_not_matter():
    rows = randn(40, 6)
    turn = torch.linalg.qr(randn(9, 9, seed=1)).Q[:6]
    found = structure_similarity(rows, 5 * rows @ turn, list(range(40)), [1, 5, 9])
    assert found.mean == pytest.approx(1, abs=1e-5)
    assert found.deviation == pytest.approx(0, abs=1e-4)


def test_against_a_loop():
    first, second = randn(30, 6), randn(30, 4, seed=1)
    anchors, cosines = [2, 3, 11, 20], []
    for token in range(5, 30):
        a = [float(first[token].numpy() @ first[one].numpy()) for one in anchors]
        b = [float(second[token].numpy() @ second[one].numpy()) for one in anchors]
        cosines.append(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))
    found = structure_similarity(first, second, list(range(5, 30)), anchors)
    assert found.mean == pytest.approx(np.mean(cosines), abs=1e-5)
    assert found.deviation == pytest.approx(np.std(cosines), abs=1e-5)
    assert (found.tokens, found.undefined) == (25, 0)


def test_rows_without_direction_are_left_out():
    first = randn(5, 3)
    first[4] = 0
    found = structure_similarity(first, randn(5, 3, seed=1), [2, 3, 4], [0, 1])
    assert (found.tokens, found.undefined) == (2, 1)
    nothing = structure_similarity(torch.zeros(5, 3), first, [2], [0])
    assert math.isnan(nothing.mean)


def test_anchors_are_of_both_kinds(target_tokenizer):
    forms = token_forms(target_tokenizer)
    anchors = prefix_anchors(target_tokenizer, 20)
    assert len(set(anchors)) == 40
    assert all(" " in forms[one].text for one in anchors[:20])
    assert not any(" " in forms[one].text for one in anchors[20:])
    assert prefix_anchors(target_tokenizer, 20, seed=1) != anchors
    assert set(anchors) <= set(plain_tokens(target_tokenizer))
    assert all(forms[one].kind == "text" for one in plain_tokens(target_tokenizer))
    with pytest.raises(BadInputError, match="5000 tokens that begin a word are needed"):
        prefix_anchors(target_tokenizer, 5000)


def test_bad_input():
    with pytest.raises(BadInputError, match="5 and 6 rows"):
        structure_similarity(randn(5, 3), randn(6, 3), [1], [2])
    with pytest.raises(BadInputError, match="got 0 and 1"):
        structure_similarity(randn(5, 3), randn(5, 3), [], [2])
