"""The toy model that the trials quantise: trained where it runs, with outlier channels like a large model's."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Int64
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from papertrial.data.text import load_documents, split_documents
from papertrial.data.tokens import batches, pack, train_bpe
from papertrial.efficient.evaluation.choices import Question, answer_questions
from papertrial.efficient.evaluation.mmlu import evaluate_mmlu
from papertrial.efficient.evaluation.mmlu_files import MmluSubject, load_mmlu
from papertrial.efficient.evaluation.streams import STREAM_RULES, token_stream
from papertrial.efficient.outliers import plant_outliers
from papertrial.efficient.qwen3_quantization.calibration_text import calibration_windows
from papertrial.efficient.qwen3_quantization.evaluations import Evaluations
from papertrial.efficient.qwen3_quantization.facts import fact_documents, fact_questions, make_facts
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm, load_tokenizer, trained_base
from papertrial.training import train

_TOWNS = 24
_CALIBRATION_BLOCKS = 128
_CHARACTERS = 3_000_000


@dataclass(frozen=True)
class BaseRecipe:
    """Everything that a base depends on.

    Attributes:
        model: a toy model's name.
        text: what it reads beside the facts.
        steps, batch, length, lr: of its training.
        hidden, ffn, layers, vocabulary: its size.
        facts: how many it learns by heart.
        outliers, factor: hidden channels scaled up after training, and by how much.
        held_out: blocks of unread text kept for measuring.
        seed: of weights, facts, batches and held-out documents.
    """

    model: str
    text: str
    steps: int
    batch: int
    length: int
    lr: float
    hidden: int
    ffn: int
    layers: int
    vocabulary: int
    facts: int
    outliers: int
    factor: float
    held_out: int
    seed: int


@dataclass(frozen=True)
class Base:
    """A base as it is used.

    Attributes:
        model: in full precision.
        tokenizer: trained on its text.
        held_out: tokens (tokens,) of documents that it has not read.
        calibration: blocks (sequences, length) of what it was trained on.
        questions: about the facts; none for a real model.
        subjects: of MMLU, for a real model.
        texts: the streams of several test texts, by their metric.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    held_out: Int64[Tensor, " tokens"]
    calibration: Int64[Tensor, "sequences length"]
    questions: list[Question]
    subjects: list[MmluSubject] = field(default_factory=list)
    texts: Mapping[str, Tensor] = field(default_factory=dict)

    def accuracy(self, model: PreTrainedModel) -> float:
        """Return the share of questions that `model` answers right; NaN where there are none."""
        if self.subjects:
            return evaluate_mmlu(model, self.tokenizer, self.subjects).accuracy
        if not self.questions:
            return math.nan
        return answer_questions(model, self.tokenizer, self.questions, batch_size=64).accuracy


def base_of(recipe: BaseRecipe, on_step: Callable[[int, int, float], None] | None = None) -> Base:
    """Return the base of a recipe, training it where that has not been done on this machine."""
    folder = trained_base(
        {"room": "qwen3_quantization", **asdict(recipe)}, lambda folder: _build(recipe, folder, on_step)
    )
    return _load(folder)


@lru_cache(maxsize=1)  # the arms of one seed share it; they copy what they change
def _load(folder: Path) -> Base:
    tokens = load_file(folder / "tokens.safetensors")
    rows = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    return Base(
        load_causal_lm(str(folder / "model")),
        load_tokenizer(str(folder / "model")),
        tokens["held_out"],
        tokens["calibration"],
        [Question(row["context"], tuple(row["choices"]), row["answer"]) for row in rows],
    )


@lru_cache(maxsize=1)
def real_base(
    model: str,
    text: str,
    *,
    sequences: int,
    length: int,
    held_out: int,
    mmlu: Path | None,
    evaluations: Evaluations,
    device: str,
    seed: int,
) -> Base:
    """Return a model from a folder or the hub as a base: calibration and held-out text of different documents.

    Calibration is the study's: a random window of `length` tokens from each of `sequences` documents. Where a
    text for evaluation is given, all that the stream's rule takes of it is held out, as in the study; of several
    texts, the first one's.
    """
    tokenizer = load_tokenizer(model)
    kept, unread = split_documents(load_documents(text, max_characters=50_000_000), seed=1)
    streams = [
        token_stream(load_documents(name), tokenizer, STREAM_RULES[rule])
        for name, rule in zip(evaluations.texts, evaluations.streams, strict=True)
    ]
    unseen = streams[0] if streams else pack(unread, tokenizer, length)[:held_out].flatten()
    texts = dict(zip(evaluations.text_metrics, streams, strict=False))  # a lone text has no metric of its own
    windows = calibration_windows(kept, tokenizer, sequences, length, seed)
    subjects = [] if mmlu is None else load_mmlu(mmlu)
    return Base(load_causal_lm(model, device=device), tokenizer, unseen, windows, [], subjects, texts)


def _build(recipe: BaseRecipe, folder: Path, on_step: Callable[[int, int, float], None] | None) -> None:
    facts = make_facts(recipe.facts, _TOWNS, recipe.seed)
    documents = load_documents(recipe.text, max_characters=_CHARACTERS)
    kept, unread = split_documents(documents, seed=recipe.seed + 1)
    needed = recipe.steps * recipe.batch // 2  # blocks: half facts, half text
    learned = fact_documents(facts, max(64, needed), recipe.seed)
    tokenizer = train_bpe([*kept[:200], *learned[:200]], recipe.vocabulary)
    text, about_facts = (pack(part, tokenizer, recipe.length) for part in (kept, learned))
    mixed = _interleave(text, about_facts[: max(needed, 1)])
    model = load_causal_lm(
        recipe.model,
        vocab_size=recipe.vocabulary,
        seed=recipe.seed,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.ffn,
        num_hidden_layers=recipe.layers,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=0.1, fused=True)
    history = train(
        model,
        batches(mixed, recipe.batch, recipe.seed),
        optimizer,
        steps=recipe.steps,
        clip=1.0,
        on_step=None if on_step is None else lambda done, v: on_step(done, recipe.steps, v["loss"]),
    )
    if history.diverged_at is not None:
        raise BadInputError(
            f"training the base diverged at step {history.diverged_at}; lower lr from {recipe.lr:g}"
        )
    if recipe.outliers:
        plant_outliers(model, recipe.outliers, recipe.factor, seed=recipe.seed)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    unseen = pack(unread, tokenizer, recipe.length)
    spread = unseen[:: max(1, len(unseen) // recipe.held_out)][: recipe.held_out]
    order = torch.randperm(len(mixed), generator=torch.Generator().manual_seed(recipe.seed))
    tokens = {
        "held_out": spread.flatten().contiguous(),
        "calibration": mixed[order[:_CALIBRATION_BLOCKS]].clone(),
    }
    save_file(tokens, folder / "tokens.safetensors")
    rows = [asdict(question) for question in fact_questions(facts, recipe.seed)]
    (folder / "questions.json").write_text(json.dumps(rows), encoding="utf-8")


def _interleave(first: Tensor, second: Tensor) -> Tensor:
    """Return as many blocks of each as the shorter has, in turn."""
    count = min(len(first), len(second))
    return torch.stack([first[:count], second[:count]], 1).flatten(0, 1)
