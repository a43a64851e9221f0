"""Each method's rows against an identity or a loop of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.efficient.vocabulary_adaptation.adapt import adapt_vocabulary
from papertrial.efficient.vocabulary_adaptation.aligners import _exceeds, _gram, fit_aligner, standardise
from papertrial.efficient.vocabulary_adaptation.alignment import SAVA, fit_translation
from papertrial.efficient.vocabulary_adaptation.canonical import token_forms, token_strings
from papertrial.efficient.vocabulary_adaptation.matching import match_vocabularies
from papertrial.efficient.vocabulary_adaptation.naive import clp_loop, train_aligner, translate_rows
from papertrial.efficient.vocabulary_adaptation.pieces import FVT, piece_ids
from papertrial.efficient.vocabulary_adaptation.random_rows import RandomRows
from papertrial.efficient.vocabulary_adaptation.rows import RowProblem, assemble
from papertrial.efficient.vocabulary_adaptation.similarity import CLP, similarity_weights
from papertrial.errors import BadInputError


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def problem(source_tokenizer, target_tokenizer):
    """Source rows 24 wide, helper rows 16 wide."""
    match = match_vocabularies(source_tokenizer, target_tokenizer)
    return RowProblem(randn(320, 24) + 0.5, match, randn(380, 16, seed=1) + 0.2, match.shared)


def test_random_draws_are_the_recipes(problem):
    """numpy's global generator, seed 42, all target rows of the embedding, then all of the head."""
    head = RowProblem(randn(320, 24, seed=5), problem.match, None, problem.match.shared)
    made = RandomRows().new_rows([problem, head])
    np.random.seed(42)  # noqa: NPY002 - the recipe's own generator
    for part, rows in zip((problem, head), made, strict=True):
        wanted = np.random.normal(part.source.mean(0), part.source.std(0), (380, 24))  # noqa: NPY002
        assert torch.equal(rows.values, torch.from_numpy(wanted)[part.match.new].float())


def test_fvt_is_the_mean_of_the_pieces(problem, source_tokenizer):
    made = FVT().new_rows([problem])[0]
    forms = token_forms(problem.match.target_tokenizer)
    checked = 0
    for place, number in enumerate(problem.match.new.tolist()):
        form = forms[number]
        if form.kind != "text":
            continue
        pieces = source_tokenizer(form.text, add_special_tokens=False)["input_ids"]
        assert torch.allclose(made.values[place], problem.source[pieces].mean(0), atol=1e-6)  # float32 sums
        assert [one for one, _ in made.sources[place]] == pieces
        assert math.isclose(sum(weight for _, weight in made.sources[place]), 1)
        checked += 1
    assert checked > 40


def test_fvt_of_one_piece_is_its_row(make_marked, english):
    """A byte-level source writes "e" with one token, and so it is that row, though no form is shared."""
    marked, other = make_marked(english, 300), make_marked([*english, "Zu ZuZu"], 310)
    match = match_vocabularies(marked, other)
    pieces = piece_ids(match)
    single = [place for place, one in enumerate(pieces) if len(one) == 1]
    source = randn(len(match.source_forms), 8)
    made = FVT().new_rows([RowProblem(source, match, None, match.shared)])[0]
    for place in single:
        assert torch.equal(made.values[place], source[pieces[place][0]])


def test_fvt_leading_marks(make_marked):
    """`reva` inside a word: its letters alone, or with the mark that SentencePiece puts before every text."""
    source = make_marked(["a r e v"] * 3, 262)
    target = make_marked(["xreva xreva xreva yreva yreva zreva zreva"] * 3, 275)
    match = match_vocabularies(source, target)
    names = token_strings(target)
    place = [names[number] for number in match.new.tolist()].index("reva")
    rows = token_strings(source)

    def pieces(*settings):
        return [rows[one] for one in piece_ids(match, *settings)[place]]

    assert pieces("none") == ["r", "e", "v", "a"]
    assert "".join(pieces("source")) == "▁reva"


def test_fvt_literal_mark_puts_junk_into_a_byte_level_source(source_tokenizer, marked_tokenizer):
    """The released code hands over U+2581: its three UTF-8 bytes become three pieces of every word."""
    match = match_vocabularies(source_tokenizer, marked_tokenizer)
    forms = token_forms(marked_tokenizer)
    junk = source_tokenizer("▁", add_special_tokens=False)["input_ids"]
    assert len(junk) == 3
    ours, released = piece_ids(match), piece_ids(match, literal_mark=True)
    words = [
        place
        for place, number in enumerate(match.new.tolist())
        if forms[number].kind == "text" and forms[number].text.startswith(" ") and forms[number].text.strip()
    ]
    assert words
    for place in words:
        assert released[place][:3] == junk
        assert not set(ours[place]) & set(junk)


def test_fvt_bytes_go_to_bytes_and_nothing_to_the_mean(source_tokenizer, marked_tokenizer):
    match = match_vocabularies(source_tokenizer, marked_tokenizer)
    names = token_strings(marked_tokenizer)
    assert match.source_of[names.index("<0xE9>")] >= 0  # a byte that is no character: shared
    pieces = dict(zip([names[n] for n in match.new.tolist()], piece_ids(match), strict=True))
    assert pieces["<0x41>"] == []  # kept apart from "A", and this source has no byte token for it
    made = FVT().new_rows([RowProblem(randn(320, 8), match, None, match.shared)])[0]
    place = [names[number] for number in match.new.tolist()].index("<0x41>")
    assert torch.allclose(made.values[place], randn(320, 8).mean(0), atol=1e-6)
    assert made.provenance[place] == "mean"


def test_clp_against_the_loop(problem):
    rows = problem.source_rows(problem.anchors)
    wanted = clp_loop(problem.helper[problem.match.new], problem.helper[problem.anchors], rows)
    made = CLP(guard="none").new_rows([problem])[0]
    # the weights' sums are small: float32 rounding in two orders of addition
    assert torch.allclose(made.values, wanted, rtol=1e-3, atol=1e-4)


def test_clp_with_one_anchor_copies_it(problem):
    alone = RowProblem(problem.source, problem.match, problem.helper, problem.anchors[7:8])
    for guard in ("clip", "top-k", "none"):
        made = CLP(guard=guard).new_rows([alone])[0]
        wanted = problem.source_rows(problem.anchors[7:8]).expand_as(made.values)
        assert torch.allclose(made.values, wanted, atol=1e-5)


@given(data=st.data(), guard=st.sampled_from(["clip", "top-k"]), count=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_guarded_weights_are_a_mean(data, guard, count):
    values = st.floats(-1, 1, width=32)
    similarity = torch.tensor(
        data.draw(st.lists(st.lists(values, min_size=count, max_size=count), min_size=1))
    )
    weights = similarity_weights(similarity, guard, top_k=3)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(len(weights)), atol=1e-5)
    if guard == "top-k":
        assert ((weights > 0).sum(1) <= 3).all()


def test_unguarded_clp_blows_up_where_similarities_cancel(problem):
    """Two shared tokens on opposite sides of a new one: weights near ±∞, the row thousands of rows long."""
    helper = torch.zeros_like(problem.helper)
    helper[:, 0] = 1.0
    helper[problem.anchors[0]] = torch.tensor([-1.0, 1e-3, *[0.0] * 14])
    two = RowProblem(problem.source, problem.match, helper, problem.anchors[:2])
    size = problem.source_rows(problem.anchors[:2]).norm(dim=1).max()
    released = CLP(guard="none").new_rows([two])[0]
    guarded = CLP().new_rows([two])[0]
    assert released.values.norm(dim=1).min() > 1000 * size
    assert guarded.values.norm(dim=1).max() <= size * 1.0001
    assert guarded.facts["rows whose similarities nearly cancel"] == len(problem.match.new)


def test_released_default_clp_writes_shared_rows_at_wrong_indices(problem):
    """Shared rows land at the source's ids: right only where both vocabularies number a token alike."""
    made = CLP(guard="none", misplaced=True).new_rows([problem])[0]
    matrix, right = assemble(problem, made), problem.source_rows(problem.match.shared)
    wrong = (matrix[problem.match.shared] != right).any(1)
    moved = problem.match.source_of[problem.match.shared] != problem.match.shared
    assert torch.equal(wrong, moved)
    assert 10 < int(wrong.sum()) < len(wrong)
    ours = assemble(problem, CLP().new_rows([problem])[0])
    assert torch.equal(ours[problem.match.shared], right)


@pytest.mark.parametrize(("helper_width", "width"), [(16, 24), (24, 16), (20, 20)])
def test_gram_steps_are_the_full_batch_steps(helper_width, width):
    """The same Adam trajectory as autograd over padded rows; float32 rounding grows over 200 steps."""
    x, y = randn(90, helper_width), randn(90, width, seed=1)
    fast, slow = fit_aligner(x, y, "sgd", steps=200), train_aligner(x, y, steps=200)
    assert torch.allclose(fast.matrix, slow.matrix, atol=2e-4)
    assert torch.allclose(fast.offset, slow.offset, atol=2e-4)
    assert torch.equal(fit_aligner(x, y, "sgd", steps=3).matrix, fit_aligner(x, y, "sgd", steps=3).matrix)


@pytest.mark.parametrize("rank", [8, 5])
def test_matrix_is_the_least_squares_solution_of_least_norm(rank):
    x = (randn(40, rank) @ randn(rank, 8, seed=1)).float()
    y = randn(40, 6, seed=2)
    wanted = np.linalg.lstsq(x.double().numpy(), y.double().numpy(), rcond=1e-5)[0]
    assert np.allclose(fit_aligner(x, y, "matrix").matrix.numpy(), wanted, atol=1e-4)  # float32 rows


@pytest.mark.parametrize("smallest", [1.0, 1e-2, 1e-4, 1e-7, 0.0])
def test_matrix_is_the_pseudoinverse_however_x_is_conditioned(smallest):
    """Cholesky where every direction counts, eigenvectors where one does not: pinv in float64 says what is right."""
    left, _, right = torch.linalg.svd(randn(60, 12).double(), full_matrices=False)
    sizes = torch.logspace(0, 0, 12, dtype=torch.float64)
    sizes[-1] = smallest
    x, y = (left * sizes @ right).float(), randn(60, 5, seed=2)
    gram = x.double().T @ x.double()
    cut = 60 * torch.finfo(torch.float32).eps ** 2
    assert _exceeds(gram, cut) == (smallest > 1e-5)
    wanted = torch.linalg.pinv(x.double(), rtol=cut**0.5) @ y.double()
    found = fit_aligner(x, y, "matrix").matrix.double()
    # normal equations lose eps64 / smallest² of the solution; float32 storage loses 1e-7
    assert float((found - wanted).norm() / wanted.norm()) < 1e-6


def test_matrix_is_the_same_when_its_gram_matrix_is_made_in_blocks(monkeypatch):
    x, y = randn(60, 12), randn(60, 5, seed=2)
    whole = fit_aligner(x, y, "matrix").matrix
    monkeypatch.setattr("papertrial.efficient.vocabulary_adaptation.aligners._COLUMNS", 5)
    assert torch.allclose(_gram(x), x.T @ x, atol=1e-5)
    assert torch.allclose(fit_aligner(x, y, "matrix").matrix, whole, atol=1e-6)


def test_ridge_is_scikit_learns():
    from sklearn.linear_model import Ridge

    x, y = randn(50, 8), randn(50, 6, seed=2)
    alpha = 0.01 * float((x**2).sum() / 8)
    wanted = Ridge(alpha=alpha, fit_intercept=False).fit(x.numpy(), y.numpy()).coef_.T
    found = fit_aligner(x, y, "ridge", ridge=0.01)
    assert np.allclose(found.matrix.numpy(), wanted, atol=1e-4)


def test_rotation_is_scipys_procrustes_and_recovers_a_rotation():
    from scipy.linalg import orthogonal_procrustes

    x, y = randn(50, 8), randn(50, 8, seed=2)
    assert np.allclose(
        fit_aligner(x, y, "rotation").matrix.numpy(),
        orthogonal_procrustes(x.numpy(), y.numpy())[0],
        atol=1e-4,
    )
    turn = torch.linalg.qr(randn(8, 8, seed=4)).Q
    assert torch.allclose(fit_aligner(x, x @ turn, "rotation").matrix, turn, atol=1e-4)


def test_ortho_standardises_twice():
    """As the library does, written out; and clearly not the plain rotation."""
    x, y = randn(60, 8) * torch.arange(1, 9), randn(60, 8, seed=2) * torch.arange(9, 1, -1) + 1
    translation = fit_translation(x, y, "ortho")
    unit = [
        torch.nn.functional.normalize((rows - rows.mean(0)) / rows.std(0), dim=1).double() for rows in (x, y)
    ]
    again = [(rows - rows.mean(0)) / rows.std(0) for rows in unit]
    left, _, right = np.linalg.svd((again[0].T @ again[1]).numpy())
    mapped = again[0].numpy() @ left @ right * unit[1].std(0).numpy() + unit[1].mean(0).numpy()
    assert np.allclose(translation.aligner(unit[0].float()).numpy(), mapped, atol=1e-4)
    plain = fit_translation(x, y, "rotation")
    difference = (translation(x) - plain(x)).norm(dim=1) / plain(x).norm(dim=1)
    assert difference.median() > 0.05


def test_mapping_many_rows_is_mapping_each():
    x, y = randn(60, 8), randn(60, 12, seed=2)
    translation = fit_translation(x, y, "matrix")
    assert torch.allclose(translation(x), translate_rows(translation, x), atol=1e-5)


@pytest.mark.parametrize("aligner", ["matrix", "ridge", "sgd"])
def test_a_helper_that_is_the_source_gives_back_left_out_rows(aligner):
    rows = randn(200, 16) * torch.linspace(0.5, 2, 16) + 0.4
    kept, left = rows[:180], rows[180:]
    steps = 4000 if aligner == "sgd" else 1000
    found = fit_translation(kept, kept, aligner, steps=steps, ridge=1e-5)(left)
    assert torch.nn.functional.cosine_similarity(found, left).min() > 0.9


def test_a_helper_that_is_the_source_under_an_invertible_map():
    """Exact but for the row normalisation, which a linear map cannot undo."""
    rows = randn(400, 12)
    helper = rows @ (torch.eye(12) + 0.2 * randn(12, 12, seed=3))
    found = fit_translation(helper[:380], rows[:380], "matrix")(helper[380:])
    assert torch.nn.functional.cosine_similarity(found, rows[380:]).min() > 0.9


@pytest.mark.parametrize("aligner", ["sgd", "matrix", "ridge", "ortho", "rotation"])
def test_the_helpers_scale_does_not_matter(problem, aligner):
    larger = RowProblem(problem.source, problem.match, problem.helper * 64.0, problem.anchors)
    first, second = (SAVA(aligner, steps=100).new_rows([one])[0].values for one in (problem, larger))
    assert torch.allclose(first, second, atol=1e-3)


def test_closed_forms_do_not_depend_on_padding():
    """A dimension that never varies, on either side, changes nothing: it is standardised to zero."""
    x, y = randn(60, 8), randn(60, 6, seed=2)
    wide_x, wide_y = torch.cat([x, torch.full((60, 3), 0.7)], 1), torch.cat([y, torch.zeros(60, 2)], 1)
    for aligner in ("matrix", "rotation"):
        plain = fit_translation(x, y, aligner)(x)
        padded = fit_translation(wide_x, wide_y, aligner)(wide_x)
        assert torch.allclose(plain, padded[:, :6], atol=1e-4)


def test_a_dimension_that_hardly_varies_is_not_blown_up():
    rows = torch.cat([randn(50, 3), torch.full((50, 1), 2.0)], 1)
    mean, deviation = standardise(rows)
    assert deviation[3] == 1
    assert torch.isfinite((rows - mean) / deviation).all()


def test_an_anchor_subset(problem):
    made = SAVA("ridge", anchors=40).new_rows([problem])[0]
    assert made.facts["anchors"] == 40
    everything = SAVA("ridge").new_rows([problem])[0]
    assert not torch.allclose(made.values, everything.values, atol=1e-3)
    with pytest.raises(
        BadInputError, match=f"between 2 and the {len(problem.anchors)} shared tokens, got 9999"
    ):
        SAVA(anchors=9999).new_rows([problem])
    with pytest.raises(
        BadInputError, match=r"at least as many anchors as dimensions \(16\), got 8; use 'ridge'"
    ):
        SAVA("matrix", anchors=8).new_rows([problem])


def test_bad_settings(problem, build, source_tokenizer, target_tokenizer):
    with pytest.raises(BadInputError, match="unknown aligner 'matrx'; did you mean matrix"):
        SAVA("matrx").new_rows([problem])
    with pytest.raises(BadInputError, match="guard must be"):
        CLP(guard="clamp")
    with pytest.raises(BadInputError, match="top_k must be at least 1"):
        CLP(top_k=0)
    with pytest.raises(BadInputError, match="prefix_space must be"):
        FVT(prefix_space="always")
    with pytest.raises(BadInputError, match="ridge must be above 0"):
        SAVA("ridge", ridge=0.0).new_rows([problem])
    with pytest.raises(BadInputError, match="unknown method 'focus'"):
        adapt_vocabulary(build(320), source_tokenizer, target_tokenizer, "focus")
