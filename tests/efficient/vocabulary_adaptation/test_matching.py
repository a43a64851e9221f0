from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from papertrial.efficient.vocabulary_adaptation.canonical import token_forms, token_strings
from papertrial.efficient.vocabulary_adaptation.matching import match_vocabularies
from papertrial.errors import BadInputError


def words(*tokens, **specials):
    """A tokenizer of exactly these tokens, in this order."""
    vocabulary = {token: number for number, token in enumerate(tokens)}
    unknown = specials.pop("unk", tokens[0])
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token=unknown)), **specials
    )


def test_a_vocabulary_matches_itself_id_by_id(source_tokenizer, marked_tokenizer):
    for tokenizer in (source_tokenizer, marked_tokenizer):
        match = match_vocabularies(tokenizer, tokenizer)
        assert match.source_of.tolist() == list(range(len(tokenizer)))
        assert not match.lost_special_tokens
        assert not match.new_special_tokens


def test_matches_across_ways_of_writing_mean_the_same(source_tokenizer, marked_tokenizer):
    match = match_vocabularies(source_tokenizer, marked_tokenizer)
    forms = token_forms(source_tokenizer), token_forms(marked_tokenizer)
    shared = [
        (source, target)
        for target, source in enumerate(match.source_of.tolist())
        if source >= 0 and forms[1][target].kind != "special"
    ]
    assert all(forms[0][source] == forms[1][target] for source, target in shared)
    meant = {form for form in forms[0] if form} & {form for form in forms[1] if form}
    assert {forms[1][target] for _, target in shared} == meant
    # compared as strings, as two of the released methods do, words and bytes would be lost
    alike = set(token_strings(source_tokenizer)) & set(token_strings(marked_tokenizer))
    assert len(shared) > len(alike) + 100


def test_special_tokens_go_by_role(marked_tokenizer):
    other = words("[end]", "[begin]", "[unk]", "a", eos_token="[end]", bos_token="[begin]", unk_token="[unk]")
    match = match_vocabularies(marked_tokenizer, other)
    assert match.source_of.tolist()[:3] == [2, 1, 0]


def test_a_token_of_two_roles_ends_texts_first(marked_tokenizer):
    other = words("[both]", "a", eos_token="[both]", bos_token="[both]")
    assert match_vocabularies(marked_tokenizer, other).source_of[0] == marked_tokenizer.eos_token_id


def test_special_tokens_that_only_one_side_has():
    source = words("<s>", "<|im_start|>", "a", bos_token="<s>", additional_special_tokens=["<|im_start|>"])
    target = words("[s]", "<|tool|>", "a", bos_token="[s]", additional_special_tokens=["<|tool|>"])
    match = match_vocabularies(source, target)
    assert match.lost_special_tokens == ["<|im_start|>"]
    assert match.new_special_tokens == ["<|tool|>"]


def test_duplicates_are_kept_with_a_warning(marked_tokenizer):
    target = words("<unk>", "a", "b", unk_token="<unk>")
    target.add_tokens(["a "])  # plain: no duplicate
    match_vocabularies(marked_tokenizer, target)
    from papertrial.efficient.vocabulary_adaptation import matching

    twice = words("▁a", "<unk>", "b", unk="<unk>")
    twice.backend_tokenizer.decoder = __import__("tokenizers").decoders.Metaspace()
    twice.add_tokens([" a"])
    with pytest.warns(UserWarning, match="1 groups of target tokens mean the same"):
        match = matching.match_vocabularies(marked_tokenizer, twice)
    assert match.duplicates == [[0, 3]]


def test_nothing_shared_is_an_error_with_counts():
    with pytest.raises(
        BadInputError, match=r"share no token: 2 tokens written plain, against 3 tokens.*marks"
    ):
        match_vocabularies(words("a", "b"), words("c", "d", "e"))


def test_shared_and_new_split_the_target(source_tokenizer, target_tokenizer):
    match = match_vocabularies(source_tokenizer, target_tokenizer)
    both = torch.cat([match.shared, match.new]).sort().values
    assert both.tolist() == list(range(380))
