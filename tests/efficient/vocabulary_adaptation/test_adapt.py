"""Whole models: identities, saving, generation, formats."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from papertrial.efficient.evaluation import bits_per_character
from papertrial.efficient.vocabulary_adaptation.adapt import METHODS, adapt_vocabulary
from papertrial.efficient.vocabulary_adaptation.alignment import SAVA
from papertrial.efficient.vocabulary_adaptation.similarity import CLP
from papertrial.efficient.vocabulary_adaptation.union import union_tokenizer
from papertrial.errors import BadInputError

NAMES = ["tiny-llama", "tiny-mistral", "tiny-qwen3", "tiny-gemma3", "tiny-gpt2", "tiny-phi3"]
TOKENS = torch.tensor([[5, 80, 200, 17, 300, 4]])


def shuffled(tokenizer, seed=0):
    """The same tokenizer with its ids permuted, and where each new id was."""
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    order = torch.randperm(len(tokenizer), generator=torch.Generator().manual_seed(seed))
    place = {int(old): new for new, old in enumerate(order)}
    settings["model"]["vocab"] = {
        token: place[number] for token, number in settings["model"]["vocab"].items()
    }
    for token in settings["added_tokens"]:
        token["id"] = place[token["id"]]
    backend = Tokenizer.from_str(json.dumps(settings))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **tokenizer.special_tokens_map), order


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_the_same_tokenizer_changes_nothing(build, source_tokenizer, name, method):
    model, helper = build(320, name), build(320, width=16, seed=3)
    with torch.no_grad():
        before = model(TOKENS).logits
    model, report = adapt_vocabulary(model, source_tokenizer, source_tokenizer, method, helper)
    with torch.no_grad():
        assert torch.equal(model(TOKENS).logits, before)
    assert report.new == 0
    assert report.parameters[0] == report.parameters[1]


@pytest.mark.parametrize("name", NAMES)
def test_permuted_ids_permute_the_logits(build, source_tokenizer, name):
    target, order = shuffled(source_tokenizer)
    model = build(320, name)
    with torch.no_grad():
        before = model(order[TOKENS]).logits
    adapt_vocabulary(model, source_tokenizer, target, "fvt")
    with torch.no_grad():
        after = model(TOKENS).logits
    assert torch.equal(after, before[..., order])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["random", "fvt", "clp", "sava"])
def test_generates_and_survives_saving(build, source_tokenizer, target_tokenizer, tmp_path, name, method):
    model, helper = build(340, name), build(380, width=16, seed=3)
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    model, report = adapt_vocabulary(model, source_tokenizer, target_tokenizer, method, helper)
    assert report.tied == tied
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert (embedding.weight.data_ptr() == head.weight.data_ptr()) == tied
    assert embedding.weight.shape[0] == head.weight.shape[0] == model.config.vocab_size == 380
    written = model.generate(torch.tensor([[5, 350]]), max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert written.shape == (1, 6)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(TOKENS).logits, model(TOKENS).logits)
    assert again.generation_config.eos_token_id == target_tokenizer.eos_token_id
    assert (again.get_input_embeddings().weight is again.get_output_embeddings().weight) == tied


def test_the_modules_stay_the_models_own(build, source_tokenizer, target_tokenizer):
    """Gemma multiplies its embedding by the root of the width: a plain nn.Embedding would lose that."""
    model = build(320, "tiny-gemma3")
    kind = type(model.get_input_embeddings())
    adapt_vocabulary(model, source_tokenizer, target_tokenizer, "fvt")
    embedding = model.get_input_embeddings()
    assert type(embedding) is kind
    assert kind is not torch.nn.Embedding
    assert torch.allclose(embedding(torch.tensor([3])), embedding.weight[3] * 32**0.5)


def test_post_init_does_not_draw_the_head_anew(build, source_tokenizer, target_tokenizer):
    model = build(320)
    adapt_vocabulary(model, source_tokenizer, target_tokenizer, "fvt")
    matrices = model.get_input_embeddings().weight.clone(), model.get_output_embeddings().weight.clone()
    model.post_init()
    assert torch.equal(model.get_input_embeddings().weight, matrices[0])
    assert torch.equal(model.get_output_embeddings().weight, matrices[1])
    # the trap is real: without the marks that the adaptation leaves, the rows are lost
    for module in (model.get_output_embeddings(), model.get_output_embeddings().weight):
        del module._is_hf_initialized
    for owner in (model, *model.modules()):
        vars(owner).pop("_is_hf_initialized", None)
    model.post_init()
    assert not torch.equal(model.get_output_embeddings().weight, matrices[1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("method", ["random", "fvt", "clp", "sava"])
def test_other_formats_are_fitted_in_float32(build, source_tokenizer, target_tokenizer, dtype, method):
    wanted = build(320).to(getattr(torch, dtype)).float()
    model = build(320, dtype=dtype)
    helper = build(380, width=16, seed=3)
    adapt_vocabulary(model, source_tokenizer, target_tokenizer, method, helper)
    adapt_vocabulary(wanted, source_tokenizer, target_tokenizer, method, helper)
    rows = model.get_input_embeddings().weight
    assert rows.dtype == getattr(torch, dtype)
    # one rounding to the format at the end; float64 fits in float64, so differs by float32's rounding
    relative = {"float16": 2e-3, "bfloat16": 1e-2, "float64": 1e-3}[dtype]
    assert torch.allclose(rows.float(), wanted.get_input_embeddings().weight, rtol=relative, atol=relative)


def test_embedding_and_untied_head_have_maps_of_their_own(build, source_tokenizer, target_tokenizer):
    """The head alone changed: the embedding's rows stay, the head's follow."""
    helper = build(380, width=16, seed=3)
    first, second = build(320), build(320)
    with torch.no_grad():
        second.get_output_embeddings().weight.mul_(3.0)
    for model in (first, second):
        adapt_vocabulary(model, source_tokenizer, target_tokenizer, SAVA("matrix"), helper)
    assert torch.equal(first.get_input_embeddings().weight, second.get_input_embeddings().weight)
    heads = [model.get_output_embeddings().weight for model in (first, second)]
    assert torch.allclose(3 * heads[0], heads[1], atol=1e-3)


def test_a_tied_helper_serves_an_untied_source(build, source_tokenizer, target_tokenizer):
    helper = build(380, "tiny-gemma3", width=16)
    _, report = adapt_vocabulary(build(320), source_tokenizer, target_tokenizer, "sava", helper)
    assert set(report.facts) == {"embedding", "head"}
    assert not report.tied


def test_the_report(build, source_tokenizer, target_tokenizer):
    model, report = adapt_vocabulary(build(340), source_tokenizer, target_tokenizer, "fvt")
    assert (report.source_tokens, report.source_rows, report.target_tokens) == (320, 340, 380)
    assert report.provenance.count("copied") == report.shared
    assert report.parameters[1] - report.parameters[0] == 2 * 40 * 32
    assert report.vocabulary_bytes == (2 * 340 * 32 * 4, 2 * 380 * 32 * 4)
    assert any("340 rows for 320 tokens" in note for note in report.notes)
    rows = model.get_input_embeddings().weight
    old = build(340).get_input_embeddings().weight
    for number in range(380):
        mean = sum(weight * old[source] for source, weight in report.sources_of(number))
        assert torch.allclose(rows[number], mean, atol=1e-5)
    assert "copied" in report.summary()
    assert "340 rows for 320 tokens" in report.summary()


def test_a_padding_id_that_also_ends_texts_is_not_frozen(build, source_tokenizer, target_tokenizer, tmp_path):
    """transformers gives no gradient to the row of `pad_token_id`."""
    target_tokenizer.save_pretrained(tmp_path)
    target = type(target_tokenizer).from_pretrained(tmp_path)
    target.pad_token = target.eos_token
    model, report = adapt_vocabulary(build(320), source_tokenizer, target, "fvt")
    assert model.config.pad_token_id is None
    assert model.get_input_embeddings().padding_idx is None
    assert model.generation_config.pad_token_id == target.eos_token_id
    assert any("also an end" in note for note in report.notes)
    model(TOKENS, labels=torch.tensor([[0, 0, 0, 0, 0, 0]])).loss.backward()
    model.zero_grad()
    ids = torch.tensor([[target.eos_token_id, 5, 6]])
    model(ids, labels=ids).loss.backward()
    assert model.get_input_embeddings().weight.grad[target.eos_token_id].abs().sum() > 0


def test_ids_of_the_generation_configuration(build, source_tokenizer, target_tokenizer, tmp_path):
    source_tokenizer.save_pretrained(tmp_path)
    source = type(source_tokenizer).from_pretrained(tmp_path)
    source.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    source.chat_template = "{{ messages }}<|im_end|>"
    model = build(321)
    model.generation_config.eos_token_id = [0, 320]
    model.generation_config.suppress_tokens = [7]
    model, report = adapt_vocabulary(model, source, target_tokenizer, "fvt")
    assert model.generation_config.eos_token_id == target_tokenizer.eos_token_id
    assert model.generation_config.suppress_tokens is None
    text = " ".join(report.notes)
    assert "[320]" in text
    assert "suppress_tokens" in text
    assert "chat template writes <|im_end|>" in text
    assert report.lost_special_tokens == ["<|im_end|>"]


def test_a_head_with_a_bias(build, source_tokenizer, target_tokenizer):
    from transformers import GPTJConfig, GPTJForCausalLM

    config = GPTJConfig(
        vocab_size=320, n_embd=32, n_layer=1, n_head=2, rotary_dim=8, bos_token_id=0, eos_token_id=0
    )
    model = GPTJForCausalLM(config)
    with torch.no_grad():
        model.lm_head.bias.copy_(torch.arange(320.0))
    model, report = adapt_vocabulary(model, source_tokenizer, target_tokenizer, "fvt")
    shared = [number for number, how in enumerate(report.provenance) if how == "copied"]
    assert model.lm_head.bias[shared].tolist() == [report.sources_of(number)[0][0] for number in shared]
    assert model.lm_head.bias[report.provenance.index("pieces")].item() == pytest.approx(159.5)
    model(TOKENS)


def test_across_ways_of_writing(build, source_tokenizer, marked_tokenizer, italian):
    """Byte-level source, SentencePiece target: words are shared, and every text has a finite likelihood."""
    bits = {}
    for method in ("fvt", "random"):
        model, report = adapt_vocabulary(build(320), source_tokenizer, marked_tokenizer, method)
        bits[method] = bits_per_character(model, marked_tokenizer, italian[:2], length=64)
        assert report.shared > 150
    assert all(0 < value < 100 for value in bits.values())


def test_union_keeps_the_source_and_speaks_the_target(
    build, source_tokenizer, target_tokenizer, italian, english
):
    union = union_tokenizer(source_tokenizer, target_tokenizer)
    old, new = source_tokenizer.get_vocab(), target_tokenizer.get_vocab()
    vocabulary = union.get_vocab()
    assert set(vocabulary) == {*old, *new}
    assert all(vocabulary[token] == number for token, number in old.items())
    for text in (*italian[:3], *english[:3]):
        cuts = [
            {start for start, _ in one(text, return_offsets_mapping=True)["offset_mapping"]}
            for one in (union, target_tokenizer)
        ]
        assert cuts[0] <= cuts[1]  # the target's merges come first, the source's only join further
        assert union.decode(union(text)["input_ids"]) == text
    model, helper = build(320), build(380, width=16, seed=3)
    before = model.get_input_embeddings().weight.clone()
    model, report = adapt_vocabulary(
        model, source_tokenizer, union, CLP(), helper, helper_tokenizer=target_tokenizer
    )
    assert torch.equal(model.get_input_embeddings().weight[:320], before)
    assert report.target_tokens == len(union)
    assert set(report.provenance[320:]) == {"weighted"}


def test_union_refusals(source_tokenizer, marked_tokenizer):
    from transformers import ByT5Tokenizer

    with pytest.raises(BadInputError, match="the source is byte-level, the target metaspace"):
        union_tokenizer(source_tokenizer, marked_tokenizer)
    with pytest.raises(BadInputError, match="fast tokenizers; the target is a ByT5Tokenizer"):
        union_tokenizer(source_tokenizer, ByT5Tokenizer())


def test_bad_input(build, source_tokenizer, target_tokenizer):
    model, helper = build(320), build(380, width=16)
    with pytest.raises(BadInputError, match="sava needs a helper model"):
        adapt_vocabulary(model, source_tokenizer, target_tokenizer)
    with pytest.raises(BadInputError, match="tied to its embedding"):
        adapt_vocabulary(
            build(320, "tiny-gemma3"), source_tokenizer, target_tokenizer, "fvt", head="separate"
        )
    with pytest.raises(BadInputError, match="300 rows for a tokenizer of 320 ids: is it the model's own"):
        adapt_vocabulary(build(300), source_tokenizer, target_tokenizer, "fvt")
    with pytest.raises(BadInputError, match="helper's embedding has 360 rows for a tokenizer of 380"):
        adapt_vocabulary(model, source_tokenizer, target_tokenizer, "sava", build(360))
    with pytest.raises(BadInputError, match=r"helper's tokenizer lacks \d+ of the target's new tokens"):
        adapt_vocabulary(
            model, source_tokenizer, target_tokenizer, "sava", helper, helper_tokenizer=source_tokenizer
        )
    model.get_input_embeddings().weight.data[5, 3] = float("nan")
    with pytest.raises(BadInputError, match="rows of the embedding that are not finite"):
        adapt_vocabulary(model, source_tokenizer, target_tokenizer, "fvt")
    quantised = build(320)
    quantised.get_input_embeddings().weight = torch.nn.Parameter(
        torch.zeros(320, 32, dtype=torch.int8), requires_grad=False
    )
    with pytest.raises(BadInputError, match=r"input embeddings are quantised \(torch.int8\)"):
        adapt_vocabulary(quantised, source_tokenizer, target_tokenizer, "fvt")
    with torch.device("meta"):
        nowhere = AutoModelForCausalLM.from_config(model.config)
    with pytest.raises(BadInputError, match="offloaded"):
        adapt_vocabulary(nowhere, source_tokenizer, target_tokenizer, "fvt")


def test_a_helper_whose_ids_differ_is_read_by_meaning(build, source_tokenizer, target_tokenizer):
    moved, order = shuffled(target_tokenizer)
    helper = build(380, width=16, seed=3)
    other = build(380, width=16, seed=3)
    with torch.no_grad():
        for module in (other.get_input_embeddings(), other.get_output_embeddings()):
            module.weight.copy_(module.weight[order])
    first, _ = adapt_vocabulary(build(320), source_tokenizer, target_tokenizer, SAVA("ridge"), helper)
    second, report = adapt_vocabulary(
        build(320), source_tokenizer, target_tokenizer, SAVA("ridge"), other, helper_tokenizer=moved
    )
    assert torch.allclose(
        first.get_input_embeddings().weight, second.get_input_embeddings().weight, atol=1e-4
    )
    assert any("by what their tokens mean" in note for note in report.notes)


def test_training_lowers_the_loss_of_an_adapted_model(source_tokenizer, target_tokenizer, italian, build):
    from papertrial.data.tokens import pack
    from papertrial.efficient.vocabulary_adaptation.continued import (
        MixedBatches,
        continued_training_optimizer,
    )
    from papertrial.training import train

    model, _ = adapt_vocabulary(build(320), source_tokenizer, target_tokenizer, "fvt")
    blocks = pack(italian, target_tokenizer, 16)
    history = train(
        model, MixedBatches(blocks, blocks, 4), continued_training_optimizer(model, 3e-3), steps=20, clip=1.0
    )
    assert history.losses[-1] < history.losses[0] - 0.5
