from __future__ import annotations

import ast
import json
import keyword
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.data.text import help_topics, load_documents, split_documents, standard_library
from papertrial.errors import BadInputError

NUMBERED = [f"document number {number}" for number in range(400)]


class TestFound:
    def test_the_standard_library_is_pythons_own_source(self):
        documents = load_documents("stdlib")
        assert sum(map(len, documents)) > 4_000_000
        assert any(document.startswith('r"""HTTP/1.1 client library') for document in documents)
        for document in documents[::40]:
            ast.parse(document)

    def test_no_tests_and_no_other_packages(self):
        source = standard_library()
        assert Path(pytest.__file__).read_text(encoding="utf-8") not in source
        assert Path(json.__file__).read_text(encoding="utf-8") in source
        assert not any("class TestCase" in text and "import regrtest" in text for text in source)

    def test_the_same_each_time(self):
        assert standard_library() == standard_library()

    def test_the_help_topics_cover_the_language(self):
        topics = " ".join(help_topics())
        assert all(
            f'"{word}"' in topics for word in ("while", "with", "yield", "lambda") if keyword.iskeyword(word)
        )
        assert load_documents("topics") == help_topics()

    def test_a_cap_keeps_whole_documents(self):
        everything = load_documents("topics")
        some = load_documents("topics", max_characters=50_000)
        assert 30_000 < sum(map(len, some)) <= 50_000
        assert some == [document for document in everything if document in some]

    @pytest.mark.parametrize("seed", [0, 1])
    def test_a_sample_is_split_like_the_whole(self, seed):
        """What a cap keeps must not depend on what a split would do with it."""
        some = load_documents("stdlib", max_characters=2_000_000)
        _, validation = split_documents(some, 0.2, seed)
        # About 140 documents: a share of 0.2 has a standard deviation of 0.034; four of them.
        assert 0.06 < len(validation) / len(some) < 0.34

    def test_at_least_one_document_however_small_the_cap(self):
        assert len(load_documents("topics", max_characters=1)) == 1

    def test_a_cap_below_one_is_refused(self):
        with pytest.raises(BadInputError, match="max_characters must be at least 1, got 0"):
            load_documents("topics", max_characters=0)


class TestSplit:
    @given(st.lists(st.text(min_size=1), min_size=2), st.floats(0.05, 0.95), st.integers(0, 5))
    @settings(deadline=None)
    def test_nothing_is_on_both_sides_and_nothing_is_lost(self, texts, share, seed):
        documents = NUMBERED + texts
        training, validation = split_documents(documents, share, seed)

        def keys(side):
            return {" ".join(document.split()) for document in side}

        assert not keys(training) & keys(validation)
        assert keys(training) | keys(validation) == keys(documents)
        assert len(training) + len(validation) == len(keys(documents))

    @given(st.permutations(NUMBERED[:60]), st.integers(30, 60))
    @settings(deadline=None, max_examples=25)
    def test_a_document_never_changes_sides(self, order, count):
        """Whatever else is there, and in whatever order, validation holds the same documents."""
        _, everything = split_documents(NUMBERED)
        _, some = split_documents([*order[:count], *NUMBERED[100:]])
        assert set(some) <= set(everything)
        assert set(some) == set(everything) & {*order[:count], *NUMBERED[100:]}

    def test_the_split_is_the_same_on_every_machine(self):
        r"""The validation side as a shell makes it: the hash of "0", a newline and the text, below a tenth.

        Recorded with: for n in $(seq 0 120); do h=$(printf '0\ndocument number %d' $n | sha256sum |
        cut -c1-4); [ $((16#$h)) -lt $((16#1999)) ] && echo $n; done
        """
        recorded = [20, 26, 49, 52, 84, 105, 117, 119]
        assert split_documents(NUMBERED[:121])[1] == [f"document number {number}" for number in recorded]

    def test_the_share_is_about_right(self):
        # 400 independent draws at 0.25: mean 100, standard deviation 8.7; five of them.
        assert 56 < len(split_documents(NUMBERED, 0.25)[1]) < 144

    def test_another_seed_is_another_split(self):
        assert split_documents(NUMBERED, seed=1) != split_documents(NUMBERED, seed=0)

    def test_copies_with_other_white_space_count_once(self):
        copies = [f"  {document}\n" for document in NUMBERED]
        assert split_documents(NUMBERED + copies) == split_documents(NUMBERED)

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 2.0, float("nan")])
    def test_a_share_outside_its_range_is_refused(self, share):
        with pytest.raises(BadInputError, match="validation_share must lie between 0 and 1"):
            split_documents(NUMBERED, share)

    def test_an_empty_side_is_said(self):
        with pytest.raises(BadInputError, match="side is empty: 1 different documents"):
            split_documents(["alone", "alone "])


class TestNames:
    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("stdlb", "unknown text source 'stdlb'; did you mean stdlib"),
            ("storys.txt", "there is no 'storys.txt'; unknown file 'storys.txt'; did you mean stories.txt"),
            ("./nowhere/a.txt", "there is no './nowhere/a.txt', and no folder"),
        ],
    )
    def test_a_missing_source_names_the_nearest(self, tmp_path, monkeypatch, source, words):
        (tmp_path / "stories.txt").write_text("once")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(BadInputError, match=words):
            load_documents(source)

    def test_a_hub_data_set_without_network_is_one_line(self):
        """The test suite runs offline, so the hub client refuses without trying."""
        with pytest.raises(
            BadInputError, match="the hub cannot be reached for the data set 'allenai/c4'"
        ) as caught:
            load_documents("allenai/c4:en", max_characters=1000)
        assert "\n" not in str(caught.value)
