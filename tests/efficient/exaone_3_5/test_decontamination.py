from __future__ import annotations

import math
import pickle
import random
import string
import unicodedata
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.efficient.exaone_3_5 import naive
from papertrial.efficient.exaone_3_5.benchmarks import load_items
from papertrial.efficient.exaone_3_5.decontamination import Decontaminator, Rule
from papertrial.efficient.exaone_3_5.miss_rate import (
    catch_probability,
    chunked_catch_probability,
    gpt4_catch_probability,
)
from papertrial.efficient.exaone_3_5.normalisation import as_text, normalise
from papertrial.efficient.exaone_3_5.pool import Pool, TestItem
from papertrial.errors import BadInputError

# Few letters, so that copies by chance, repetitions and near misses are common.
few_letters = st.text(alphabet="ab한 ", max_size=60)
MODES = ("sampled", "chunked", "exhaustive", "gpt4")


def items(*texts):
    return [TestItem(str(number), text) for number, text in enumerate(texts)]


def quiet(texts, rule):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these items are short on purpose
        return Decontaminator(items(*texts), rule)


def letters(count, seed=0):
    return "".join(random.Random(seed).choices(string.ascii_letters, k=count))


@given(st.text(max_size=200))
@settings(deadline=None)
def test_normalisation_is_the_plain_rule(text):
    for lower_case in (False, True):
        assert as_text(normalise(text, lower_case=lower_case)) == naive.normalise_text(
            text, lower_case=lower_case
        )


def test_hangul_survives_in_either_form():
    text = "광화문에서, 가장! 재미있는 일은?"
    assert as_text(normalise(text)) == "광화문에서가장재미있는일은"
    assert np.array_equal(normalise(unicodedata.normalize("NFD", text)), normalise(text))


@given(st.lists(few_letters, min_size=1, max_size=4), few_letters, st.integers(2, 12))
@settings(max_examples=400, deadline=None)
def test_exhaustive_is_brute_force(texts, document, window):
    """Every window of the document against the set of all windows, and every short item by `in`."""
    normal = [naive.normalise_text(text) for text in texts]
    if not any(normal):
        return
    decontaminator = quiet(texts, Rule(mode="exhaustive", window=window))
    expected = naive.has_any_window(naive.normalise_text(document), normal, window)
    leak = decontaminator.find(document)
    assert (leak is not None) == expected
    if leak is not None:
        plain = naive.normalise_text(document)
        assert plain[leak.start : leak.start + leak.length] == leak.text
        assert leak.text in naive.normalise_text(leak.item.text)
        assert leak.length >= min(window, len(naive.normalise_text(leak.item.text)))


@given(st.lists(few_letters, min_size=1, max_size=4), few_letters, st.integers(2, 9), st.integers(1, 6))
@settings(max_examples=300, deadline=None)
def test_sampled_is_membership_of_the_same_windows(texts, document, window, samples):
    normal = [naive.normalise_text(text) for text in texts]
    if not any(normal):
        return
    decontaminator = quiet(texts, Rule(samples=samples, window=window, short_items="published"))
    plain = naive.normalise_text(document)
    starts = decontaminator.starts(normalise(document)).tolist() if len(plain) >= window else []
    pool = naive.substring_pool(normal, window)
    assert (decontaminator.find(document) is not None) == naive.has_sampled_window(
        plain, starts, pool, window
    )


@given(st.integers(1, 400), st.integers(1, 30), st.integers(0, 99))
@settings(deadline=None)
def test_starts_are_windows_and_all_of_them_where_few(length, samples, seed):
    decontaminator = quiet([letters(60)], Rule(samples=samples, seed=seed))
    document = normalise(letters(length + 49, seed))
    starts = decontaminator.starts(document).tolist()
    assert all(0 <= start < length for start in starts)
    if samples >= length:
        assert starts == list(range(length))
    else:
        assert len(starts) == samples


def test_starts_are_uniform():
    """40,000 draws over 20 windows: chi-square with 19 degrees of freedom stays under its 99.99 % point, 51."""
    decontaminator = quiet([letters(60)], Rule(samples=10))
    counts = np.zeros(20)
    for seed in range(4000):
        np.add.at(counts, decontaminator.starts(normalise(letters(69, seed))), 1)
    assert ((counts - 2000) ** 2 / 2000).sum() < 51


@pytest.mark.parametrize(
    ("length", "copied", "expected"), [(500, 200, 0.98), (2000, 300, 0.75), (20_000, 300, 0.12)]
)
def test_published_rule_misses_long_documents(length, copied, expected):
    """The figures of the formula, and 1,500 made leaks within five binomial standard errors of it."""
    probability = catch_probability(length, copied)
    assert probability == pytest.approx(expected, abs=0.005)
    item = letters(copied, 1)
    decontaminator = Decontaminator(items(item))
    exhaustive = Decontaminator(items(item), Rule(mode="exhaustive"))
    draw, caught, runs = random.Random(2), 0, 1500
    filler = letters(length, 3)
    for run in range(runs):
        start = draw.randint(0, length - copied)
        text = filler[run % 50 : start] if start > 50 else filler[:start]
        text = filler[:start] + item + filler[start + copied : length - 6] + f"{run:06d}"
        if (
            start + copied > length - 6
        ):  # keep the copy whole; the number that tells documents apart goes first
            text = f"{run:06d}" + filler[6 : length - copied] + item
        caught += decontaminator.find(text) is not None
        if run < 20:
            assert exhaustive.find(text) is not None
    error = math.sqrt(probability * (1 - probability) / runs)
    assert abs(caught / runs - probability) < 5 * error + 0.003  # 0.003: copies at the very end


def test_short_item_is_invisible_to_the_published_rule():
    """An item of 40 letters in a document of 60, all windows looked at: membership cannot see it."""
    short, around = letters(40, 5), letters(20, 6)
    document = around[:10] + short + around[10:]
    found = {}
    for name in ("published", "contained"):
        decontaminator = Decontaminator(items(short), Rule(samples=1000, short_items=name))
        found[name] = decontaminator.find(document) is not None
    assert found == {"published": False, "contained": True}
    exhaustive = Decontaminator(items(short), Rule(mode="exhaustive", short_items="published"))
    assert exhaustive.find(document) is None
    for rule in (Rule(short_items="published"), Rule(), Rule(mode="exhaustive"), Rule(mode="gpt4")):
        assert Decontaminator(items(short), rule).find(short) is not None


def test_gpt4s_rule_finds_every_whole_copy_however_long_the_document():
    """It samples the item, not the document: the rule that EXAONE 3.5 calls stricter is not."""
    item = letters(300, 7)
    document = letters(100_000, 8) + item + letters(100_000, 9)
    assert gpt4_catch_probability(300, 300) == 1.0
    assert catch_probability(200_300, 300) < 0.013
    for seed in range(20):
        assert Decontaminator(items(item), Rule(mode="gpt4", seed=seed)).find(document) is not None


def test_gpt4s_rule_on_part_of_an_item_is_its_formula():
    """150 of 300 characters: 1 − (1 − 101/251)³ = 0.787; 2,000 pools within five standard errors (0.046)."""
    item = letters(300, 10)
    document = letters(500, 11) + item[100:250] + letters(500, 12)
    probability = gpt4_catch_probability(300, 150)
    assert probability == pytest.approx(1 - (1 - 101 / 251) ** 3)
    # one pool of 2,000 equal items draws independently for each; a copy of each item is one trial
    hits = sum(
        Decontaminator(items(item), Rule(mode="gpt4", seed=seed)).find(document) is not None
        for seed in range(2000)
    )
    assert abs(hits / 2000 - probability) < 0.046


@given(
    st.integers(50, 9000),
    st.integers(1, 400),
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.integers(50, 3000),
)
def test_chunked_formula_is_the_product_over_chunks(length, copied, start, samples, chunk):
    copied = min(copied, length)
    start %= length - copied + 1
    found = chunked_catch_probability(length, copied, start, samples=samples, chunk=chunk)
    assert 0.0 <= found <= 1.0
    if length <= chunk:
        assert found == pytest.approx(catch_probability(length, copied, samples=samples), abs=1e-12)
    windows = length - 49
    chunks = min(-(-length // chunk), windows)
    missed = 1.0
    for number in range(chunks):
        places = range(number * windows // chunks, (number + 1) * windows // chunks)
        inside = sum(start <= place < start + copied - 49 for place in places)
        missed *= 0.0 if samples >= len(places) and inside else (1 - inside / len(places)) ** samples
    assert found == pytest.approx(1 - missed, abs=1e-9)


def test_chunked_catches_what_sampled_misses():
    """300 of 20,000 characters: 0.12 by ten draws, over 0.7 by ten of every 2,000, wherever the copy lies."""
    assert all(chunked_catch_probability(20_000, 300, start) > 0.7 for start in range(0, 19_700, 97))
    item, draw = letters(300, 1), random.Random(4)
    chunked = Decontaminator(items(item), Rule(mode="chunked"))
    caught, expected = 0, 0.0
    for run in range(400):
        start = draw.randint(0, 19_700)
        text = letters(start, run) + item + letters(19_700 - start, 1000 + run)
        caught += chunked.find(text) is not None
        expected += chunked_catch_probability(20_000, 300, start)
    assert abs(caught - expected) < 5 * math.sqrt(400 * 0.25)


def test_whole_copied_span_is_reported():
    item = (
        "What is the capital of the country whose flag shows a maple leaf, and in which year was it founded?"
    )
    document = f"Intro text. {item.upper()} And {item} So much for that."
    leak = Decontaminator(items(item), Rule(mode="exhaustive")).find(document)
    assert leak.text == naive.normalise_text(item)
    assert leak.item.text == item
    lower = Decontaminator(items(item), Rule(mode="exhaustive", lower_case=True)).find(document)
    assert lower.start < leak.start


def test_a_hash_collision_is_no_copy(monkeypatch):
    """With all hashes equal every place is compared, and still nothing but real copies is found."""
    decontaminator = Decontaminator(items(letters(200, 1)), Rule(mode="exhaustive"))
    pool = decontaminator.pool
    hashes, places, owners, marks, length = pool._long
    document = normalise(letters(400, 2))
    from papertrial.efficient.exaone_3_5.kernels import gram_hash, spread

    everywhere = np.full_like(hashes, spread(gram_hash(document, 0, length)))
    marks[:] = np.iinfo(np.uint64).max
    pool.__dict__["_long"] = (everywhere, places, owners, marks, length)
    assert pool.find_long_copy(document) is None


@pytest.mark.parametrize("mode", MODES)
def test_results_do_not_hang_on_order_or_process(mode):
    texts = [letters(120, seed) for seed in range(5)]
    rule = Rule(mode=mode, seed=3)
    one = Decontaminator(items(*texts), rule)
    other = pickle.loads(pickle.dumps(Decontaminator(items(*texts), rule)))
    documents = [letters(900, 50 + n) + texts[n % 5][: 60 + n] + letters(900, 90 + n) for n in range(40)]
    first = [one.find(document) for document in documents]
    again = [other.find(document) for document in reversed(documents)]
    assert first == again[::-1]
    assert any(first)


def test_datasets_filter(tmp_path):
    """The callable that `datasets.Dataset.filter` takes, over one field and over two."""
    import datasets

    datasets.disable_progress_bars()
    item = letters(80, 1)
    rows = datasets.Dataset.from_dict(
        {"q": [letters(90, 2), f"x {item}", "short"], "a": [f"so {item}", "no", "yes"]}
    )
    decontaminator = Decontaminator(items(item), Rule(mode="exhaustive"))
    assert rows.filter(decontaminator.filter(["q"]))["q"][:] == [letters(90, 2), "short"]
    assert rows.filter(decontaminator.filter(["q", "a"]))["q"][:] == ["short"]
    with pytest.raises(BadInputError, match="has no field 'text'; it has: a, q"):
        decontaminator.filter()(rows[0])
    with pytest.raises(BadInputError, match="must be a list of names, got 'q'"):
        decontaminator.filter("q")


def test_real_questions_are_found_in_a_page_that_quotes_them(shared_data):
    """Every twentieth real MMLU question of 50 letters or more, pasted with other punctuation into real prose."""
    from papertrial.data.text import help_topics

    tests = load_items([shared_data("qwen3_quantization") / "mmlu" / "test"])
    assert len(tests) == 1140
    assert all(item.text.splitlines()[-1] not in "ABCD" for item in tests)  # the answer is not in it
    decontaminator = Decontaminator(tests, Rule(mode="exhaustive", shortest=20))
    page = help_topics()[3]
    assert decontaminator.find(page) is None
    checked = 0
    for item in tests[::20]:
        question = item.text.split("\n")[0]
        if len(naive.normalise_text(question)) >= 50:
            leak = decontaminator.find(f"{page} {question.replace(' ', '  ').replace(',', ';')} {page}")
            assert leak.text in naive.normalise_text(item.text)
            checked += 1
    assert checked > 25


def test_short_and_empty_items_are_counted_and_warned_of():
    texts = ["?!", "pi", letters(30), letters(70)]
    with pytest.warns(UserWarning, match="1 of 3 test items have fewer than 20 letters"):
        decontaminator = Decontaminator(items(*texts), Rule(mode="exhaustive"))
    assert decontaminator.empty == 1
    assert decontaminator.find("a pie chart") is not None
    decontaminator = Decontaminator(items(*texts), Rule(mode="exhaustive", shortest=20))
    assert decontaminator.skipped == 1
    assert decontaminator.find("a pie chart") is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Decontaminator([]), "the pool holds no test item: 0 given"),
        (lambda: Decontaminator(items("?!", "...")), "2 given, 2 without a letter or digit"),
        (
            lambda: Decontaminator(items(letters(60))).find(b"bytes"),
            "a text must be str, got bytes; decode it",
        ),
        (lambda: Decontaminator(items(letters(60))).find(None), "a text must be str, got NoneType"),
        (lambda: Rule(mode="sampling"), "unknown mode 'sampling'; did you mean sampled"),
        (lambda: Rule(samples=0), "samples must be at least 1"),
        (lambda: Rule(mode="exhaustive", samples=3), "exhaustive looks at all"),
        (lambda: Rule(window=1), "window must be at least 2, got 1"),
        (lambda: Rule(chunk=20), "a chunk of 20 characters holds no window of 50"),
        (lambda: Rule(short_items="all"), "unknown treatment of short items 'all'"),
        (lambda: catch_probability(100, 200), "a document of 100 characters cannot hold a copy of 200"),
        (lambda: chunked_catch_probability(100, 60, 50), "begins at 0 to 40, got 50"),
        (lambda: Pool(items("a"), window=1), "window must be at least 2"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(BadInputError, match=words):
        call()
