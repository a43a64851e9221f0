"""The trial's arms: how each makes a model for the new language, and the models they all start from."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from papertrial.data.text import load_documents, split_documents
from papertrial.data.tokens import batches, pack, train_bpe
from papertrial.efficient.vocabulary_adaptation.adapt import adapt_vocabulary
from papertrial.efficient.vocabulary_adaptation.alignment import SAVA
from papertrial.efficient.vocabulary_adaptation.install import vocabulary_modules
from papertrial.efficient.vocabulary_adaptation.languages import language_pair
from papertrial.efficient.vocabulary_adaptation.pieces import FVT
from papertrial.efficient.vocabulary_adaptation.random_rows import RandomRows
from papertrial.efficient.vocabulary_adaptation.rows import Initialiser
from papertrial.efficient.vocabulary_adaptation.similarity import CLP
from papertrial.efficient.vocabulary_adaptation.structure import (
    plain_tokens,
    prefix_anchors,
    structure_similarity,
)
from papertrial.errors import BadInputError, unknown
from papertrial.models import load_causal_lm, load_tokenizer, seeded
from papertrial.training import train

UNCHANGED = ("lapt", "lapt-same-text")
"""Arms that keep the source's tokenizer."""

_ANCHORS = 64  # prefix and non-prefix tokens each; the paper's 128 are more than a toy vocabulary has

_ADAPTED: Mapping[str, Initialiser] = {
    "fvt": FVT(),
    "clp": CLP(),
    "clp-released": CLP(guard="none", misplaced=True),
    "sava": SAVA(),
    "sava-lstsq": SAVA(aligner="matrix"),
}


@dataclass(frozen=True)
class Starting:
    """What all arms of one seed start from.

    Attributes:
        model: the source model.
        helper: the helper model.
        source: the source model's tokenizer.
        target: the helper's tokenizer.
    """

    model: PreTrainedModel
    helper: PreTrainedModel
    source: PreTrainedTokenizerBase
    target: PreTrainedTokenizerBase

    def save(self, folder: Path) -> None:
        """Write both models with their tokenizers."""
        for name, model, tokenizer in (
            ("source", self.model, self.source),
            ("helper", self.helper, self.target),
        ):
            model.save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)

    @classmethod
    def load(cls, folder: Path, source: str, helper: str, device: str = "cpu") -> Starting:
        """Read what `save` wrote in `folder`; a model that was not trained there comes from its own place."""
        places = [
            str(folder / name) if (folder / name).is_dir() else given
            for name, given in (("source", source), ("helper", helper))
        ]
        models = [load_causal_lm(place, device=device) for place in places]
        return cls(models[0], models[1], load_tokenizer(places[0]), load_tokenizer(places[1]))


def begin(
    arm: str, start: Starting, seed: int, anchors: int | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the arm's model before any training, and the tokenizer that it speaks.

    Args:
        arm: one of the trial's.
        start: what all arms start from.
        seed: draws random rows.
        anchors: shared tokens that SAVA's map is fitted on; all if not given.

    Raises:
        BadInputError: an unknown arm, or more anchors than shared tokens.
    """
    model = copy.deepcopy(start.model)
    if arm in UNCHANGED:
        return model, start.source
    if arm == "resize":
        _resize(model, len(start.target), seed)
        return model, start.target
    if arm == "random":
        method: Initialiser = RandomRows(seed=42 + seed)
    elif arm in _ADAPTED:
        method = _ADAPTED[arm]
        if isinstance(method, SAVA):
            method = replace(method, anchors=anchors)
    else:
        raise unknown("arm", arm, (*UNCHANGED, "resize", "random", *_ADAPTED))
    adapt_vocabulary(model, start.source, start.target, method, start.helper, helper_tokenizer=start.target)
    return model, start.target


def _resize(model: PreTrainedModel, tokens: int, seed: int) -> None:
    """Do what transformers offers: keep the rows in their order, draw more around their mean."""
    logger = logging.getLogger("transformers.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it explains mean_resizing at every call
    try:
        with seeded(seed):
            model.resize_token_embeddings(tokens, mean_resizing=True)
    finally:
        logger.setLevel(level)


@dataclass(frozen=True)
class BaseSizes:
    """How the toy source and helper are made."""

    hidden: int
    helper_hidden: int
    layers: int
    steps: int
    source_vocabulary: int
    target_vocabulary: int
    batch: int
    length: int


def train_bases(
    name: str, helper_name: str, texts: Mapping[str, Sequence[str]], sizes: BaseSizes, seed: int
) -> Starting:
    """Train the source model on the first language and the helper on both, each with a tokenizer of its own.

    Args:
        name: toy architecture of the source.
        helper_name: toy architecture of the helper.
        texts: documents of the "source" and the "target" language.
        sizes: of models and tokenizers.
        seed: of weights and batches.

    Raises:
        BadInputError: a training run that diverges.
    """
    both = [text for pair in zip(texts["source"], texts["target"], strict=False) for text in pair]
    made = []
    for which, documents, vocabulary, hidden, architecture in (
        ("source", texts["source"], sizes.source_vocabulary, sizes.hidden, name),
        ("helper", both, sizes.target_vocabulary, sizes.helper_hidden, helper_name),
    ):
        tokenizer = train_bpe(documents, vocabulary)
        model = load_causal_lm(
            architecture,
            vocab_size=vocabulary,
            seed=seed,
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=sizes.layers,
            num_attention_heads=4,
            num_key_value_heads=4,
        )
        blocks = pack(documents, tokenizer, sizes.length)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.01)
        history = train(model, batches(blocks, sizes.batch, seed), optimizer, steps=sizes.steps, clip=1.0)
        if history.diverged_at is not None:
            raise BadInputError(f"training the {which} model diverged at step {history.diverged_at}")
        made.append((model, tokenizer))
    (model, source), (helper, target) = made
    return Starting(model, helper, source, target)


def procedural_texts(seed: int, documents: int, validation: int) -> dict[str, list[str]]:
    """Return training and validation documents of a made-up pair of languages.

    The keys are "source", "target", "source_validation", "target_validation".
    """
    pair = language_pair(seed)
    return {
        "source": pair.documents(0, documents, seed),
        "target": pair.documents(1, documents, seed),
        "source_validation": pair.documents(0, validation, seed + 1_000_000),
        "target_validation": pair.documents(1, validation, seed + 1_000_000),
    }


def own_texts(source: str, target: str, validation: int) -> dict[str, list[str]]:
    """Return the user's texts under the same keys, some documents of each language held out."""
    texts: dict[str, list[str]] = {}
    for language, place in (("source", source), ("target", target)):
        kept, held_out = split_documents(load_documents(place), validation_share=0.05, seed=1)
        texts[language], texts[f"{language}_validation"] = kept, held_out[:validation]
    return texts


def helper_similarity(arm: str, model: PreTrainedModel, start: Starting) -> float:
    """Return how alike the adapted embedding and the helper's are in structure; NaN for the old tokenizer."""
    if arm in UNCHANGED:
        return math.nan
    rows = [vocabulary_modules(one)[0].weight for one in (model, start.helper)]
    anchors = prefix_anchors(start.target, _ANCHORS)
    return structure_similarity(rows[0], rows[1], plain_tokens(start.target), anchors).mean


def training_blocks(
    documents: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int, rows: int
) -> Int64[Tensor, "blocks length"]:
    """Return the first `rows` packed blocks, or all where there are fewer."""
    return pack(documents, tokenizer, length)[:rows].clone()


def tokens_needed(tokenizer: PreTrainedTokenizerBase, documents: Iterable[str]) -> int:
    """Return how many tokens the documents have, special ones left out."""
    return sum(len(ids) for ids in tokenizer(list(documents), add_special_tokens=False)["input_ids"])
