from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

ENGLISH = [
    "the cat sits on the mat and the dog runs to the house. " * 4,
    "bread is warm, the mill stands still, the nation sleeps. " * 4,
    "running and sleeping and standing on the warm nation. " * 4,
] * 4
ITALIAN = [
    "il gatto siede sul tappeto e il cane corre verso la casa. " * 4,
    "il pane è caldo, il mulino è fermo, la nazione dorme. " * 4,
    "correndo e dormendo sulla nazione calda, la città è già là. " * 4,
] * 4


@pytest.fixture(scope="session")
def english():
    return ENGLISH


@pytest.fixture(scope="session")
def italian():
    return ITALIAN


@pytest.fixture(scope="session")
def source_tokenizer():
    """Byte-level BPE of 320 ids, English."""
    from papertrial.data.tokens import train_bpe

    return train_bpe(ENGLISH, 320)


@pytest.fixture(scope="session")
def target_tokenizer():
    """Byte-level BPE of 380 ids, English and Italian."""
    from papertrial.data.tokens import train_bpe

    return train_bpe([*ENGLISH, *ITALIAN], 380)


def sentencepiece_like(documents, size, prepend_scheme="always"):
    """Return a BPE with word marks, byte tokens and the special tokens of Llama 2 and Mistral."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(documents, trainer)
    import json

    settings = json.loads(tokenizer.to_str())
    settings["added_tokens"] = settings["added_tokens"][:3]  # byte tokens are no control tokens
    tokenizer = Tokenizer.from_str(json.dumps(settings))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(scope="session")
def marked_tokenizer():
    """SentencePiece-like, English and Italian."""
    return sentencepiece_like([*ENGLISH, *ITALIAN], 360)


@pytest.fixture(scope="session")
def make_marked():
    return sentencepiece_like


@pytest.fixture
def build():
    """Return a function that builds a real toy model, its matrices large enough to tell rows apart."""
    from papertrial.models import load_causal_lm

    def make(vocab_size, name="tiny-llama", width=32, seed=0, dtype="float32", **settings):
        sizes = (
            {"n_embd": width, "n_layer": 1}
            if name == "tiny-gpt2"
            else {"hidden_size": width, "num_hidden_layers": 1, "intermediate_size": 64}
        )
        heads = {} if name == "tiny-gpt2" else {"num_attention_heads": 2, "num_key_value_heads": 2}
        model = load_causal_lm(name, vocab_size=vocab_size, seed=seed, **sizes, **heads, **settings)
        generator = torch.Generator().manual_seed(seed + 17)
        with torch.no_grad():
            for module in (model.get_input_embeddings(), model.get_output_embeddings()):
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) + 0.3)
        return model.to(getattr(torch, dtype))

    return make
