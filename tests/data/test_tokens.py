from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from papertrial.data.text import help_topics
from papertrial.data.tokens import BYTE_VOCABULARY, Batches, batches, byte_tokenizer, pack, train_bpe
from papertrial.errors import BadInputError

DOCUMENTS = help_topics()[:20]
TOKENIZERS = {"bytes": byte_tokenizer(), "bpe": train_bpe(DOCUMENTS, 400)}

# With what byte-level tokenizers are known to trip over: specials inside the text, runs of spaces, spaces
# before punctuation (which "cleaning up" would eat), and characters of many bytes.
TEXTS = st.text() | st.lists(
    st.sampled_from(
        ["<|endoftext|>", "<|pad|>", "  ", " .", "\t", "\r\n", "é", "한국", "👩‍🚀", "\x00", "n't"]
    )
).map("".join)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=TEXTS)
@settings(deadline=None)
def test_decoding_gives_the_text_back(kind, text):
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@given(text=TEXTS)
@settings(deadline=None)
def test_a_byte_is_its_own_id(text):
    tokenizer = TOKENIZERS["bytes"]
    plain = text.replace("<|endoftext|>", "").replace("<|pad|>", "")
    assert tokenizer(plain).input_ids == list(plain.encode())


class TestBpe:
    def test_the_size_is_what_was_asked_for(self):
        tokenizer = TOKENIZERS["bpe"]
        assert len(tokenizer) == tokenizer.vocab_size == 400
        assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1)

    def test_the_first_merge_is_the_most_frequent_pair(self):
        """Counted by brute force over the same words."""
        splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
        pairs: Counter[str] = Counter()
        for document in DOCUMENTS:
            for word, _ in splitter.pre_tokenize_str(document):
                pairs.update(a + b for a, b in itertools.pairwise(word))
        (best, count), (_, second) = pairs.most_common(2)
        assert count > second
        learned = TOKENIZERS["bpe"].convert_ids_to_tokens(258)
        assert learned == best

    def test_every_merge_shortens_the_text(self):
        """More tokens in the vocabulary, fewer in the text; never more than one a byte."""
        text = DOCUMENTS[3]
        lengths = [len(train_bpe(DOCUMENTS, size)(text).input_ids) for size in (258, 300, 400, 800)]
        assert lengths[0] == len(text.encode())
        assert lengths == sorted(lengths, reverse=True)
        assert lengths[-1] < 0.6 * lengths[0]

    def test_training_is_deterministic_and_counts_only(self):
        again = train_bpe(DOCUMENTS[::-1], 400)
        assert again.get_vocab() == TOKENIZERS["bpe"].get_vocab()

    def test_saving_and_loading_keeps_it(self, tmp_path):
        from transformers import AutoTokenizer

        TOKENIZERS["bpe"].save_pretrained(tmp_path)
        loaded = AutoTokenizer.from_pretrained(tmp_path)
        assert [loaded(text).input_ids for text in DOCUMENTS] == [
            TOKENIZERS["bpe"](text).input_ids for text in DOCUMENTS
        ]

    def test_sizes_that_cannot_be_reached_are_said(self):
        with pytest.raises(BadInputError, match=r"at least 258 .*got 257"):
            train_bpe(DOCUMENTS, 257)
        # "abab" has two pairs to merge: a b, then ab ab.
        with pytest.raises(BadInputError, match=r"1 documents give 260 tokens, 300 were asked for"):
            train_bpe(["abab"], 300)


class TestPack:
    @given(st.lists(st.text(max_size=40), min_size=1, max_size=12), st.integers(2, 9))
    @settings(deadline=None)
    def test_the_blocks_are_the_stream(self, documents, length):
        stream = [token for document in documents for token in [*document.encode(), 256]]
        if len(stream) < length:
            with pytest.raises(
                BadInputError, match=f"{len(stream)} tokens do not fill one block of {length}"
            ):
                pack(documents, TOKENIZERS["bytes"], length)
            return
        blocks = pack(documents, TOKENIZERS["bytes"], length)
        assert blocks.shape == (len(stream) // length, length)
        assert blocks.flatten().tolist() == stream[: len(stream) // length * length]

    def test_many_documents_go_through_in_order(self):
        documents = [str(number) for number in range(1000)]
        blocks = pack(documents, TOKENIZERS["bytes"], 10)
        text = "".join(chr(token) if token < 256 else "|" for token in blocks.flatten().tolist())
        assert "|".join(documents).startswith(text[:-1])

    def test_no_start_token_is_slipped_in(self):
        """A tokenizer that adds specials of its own (Llama's start of text) adds none here."""
        from tokenizers.processors import TemplateProcessing

        tokenizer = byte_tokenizer()
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|pad|> $A", special_tokens=[("<|pad|>", 257)]
        )
        assert tokenizer("a").input_ids == [257, 97]
        assert pack(["a", "b"], tokenizer, 4).tolist() == [[97, 256, 98, 256]]

    def test_bad_input(self):
        with pytest.raises(BadInputError, match="length must be at least 2"):
            pack(["abc"], TOKENIZERS["bytes"], 1)
        with pytest.raises(BadInputError, match="0 tokens do not fill"):
            pack([], TOKENIZERS["bytes"], 2)
        endless = byte_tokenizer()
        endless.eos_token = None
        with pytest.raises(BadInputError, match="no end-of-text token"):
            pack(["abc"], endless, 2)


class TestBatches:
    @given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 3))
    @settings(deadline=None)
    def test_every_block_once_a_round(self, count, size, seed):
        blocks = torch.arange(count)[:, None].expand(count, 2).contiguous()
        iterator = batches(blocks, size, seed)
        drawn = torch.cat([next(iterator)[:, 0] for _ in range(3 * count)])
        for row in drawn.reshape(-1, count):
            assert sorted(row.tolist()) == list(range(count))

    @given(st.integers(0, 40))
    @settings(deadline=None)
    def test_it_resumes_anywhere(self, step):
        blocks = torch.arange(26).reshape(13, 2)
        steady = Batches(blocks, 4, seed=1)
        for _ in range(step):
            next(steady)
        resumed = Batches(blocks, 4, seed=1)
        resumed.load_state_dict(steady.state_dict())
        for _ in range(9):
            assert torch.equal(next(steady), next(resumed))

    def test_it_can_go_back(self):
        iterator = batches(torch.arange(26).reshape(13, 2), 4)
        first = [next(iterator) for _ in range(20)]
        iterator.step = 2
        assert torch.equal(next(iterator), first[2])

    def test_seeds_and_rounds_differ_and_the_global_state_is_left_alone(self):
        blocks = torch.arange(200).reshape(100, 2)
        state = torch.get_rng_state()
        iterator = batches(blocks, 100, seed=0)
        first, second = next(iterator), next(iterator)
        assert not torch.equal(first, second)
        assert not torch.equal(first, next(batches(blocks, 100, seed=1)))
        assert torch.equal(first, next(batches(blocks, 100, seed=0)))
        assert torch.equal(torch.get_rng_state(), state)

    def test_bad_input(self):
        blocks = torch.zeros(3, 2, dtype=torch.int64)
        with pytest.raises(BadInputError, match="batch_size must be at least 1, got 0"):
            batches(blocks, 0)
        with pytest.raises(BadInputError, match="there are no blocks"):
            batches(blocks[:0], 1)


def test_the_byte_vocabulary_is_what_a_model_needs():
    assert len(byte_tokenizer()) == BYTE_VOCABULARY
