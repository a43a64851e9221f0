"""A summary by an encoder-decoder that only summarises (BART, Pegasus): one short text for each role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from papertrial.digest.collecting.paper_text import Kind, PaperText
from papertrial.digest.records import ROLES
from papertrial.digest.sentences import split_sentences
from papertrial.digest.summarising.extractive import extract_summary
from papertrial.errors import BadInputError
from papertrial.hub import hub_errors

# Which part of a paper each role is written from, in order of preference.
_SOURCES: Mapping[str, tuple[Kind, ...]] = {
    "headline": ("abstract",),
    "objective": ("introduction", "abstract"),
    "method": ("method", "introduction", "abstract"),
    "results": ("results", "conclusion", "abstract"),
    "implication": ("conclusion", "abstract"),
}


class Seq2SeqSummariser:
    """A summarising model of transformers (`AutoModelForSeq2SeqLM`), read from a folder or the hub.

    It takes no instructions: each role is the model's summary of the part of the paper that usually has it,
    cut to the model's context at a sentence's end. It is loaded when it is first asked, and searches with
    `beams` beams, no chance involved.

    Args:
        source: a folder written by `save_pretrained`, or a hub id ("facebook/bart-large-cnn").
        device: where it runs.
        dtype: the number format of its weights.
        max_tokens: the longest summary of one role.
        beams: how many continuations are held while searching.

    Raises:
        BadInputError: `max_tokens` or `beams` below 1.
    """

    def __init__(
        self,
        source: str,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        max_tokens: int = 80,
        beams: int = 4,
    ) -> None:
        if max_tokens < 1 or beams < 1:
            raise BadInputError(f"max_tokens and beams must be at least 1, got {max_tokens} and {beams}")
        self._source, self._device, self._dtype = source, device, dtype
        self._max_tokens, self._beams = max_tokens, beams
        self._loaded: tuple[Any, Any] | None = None

    @property
    def name(self) -> str:
        """The folder or id that the model is read from."""
        return self._source

    def summarise(self, text: PaperText) -> dict[str, str]:
        """Return a summary by role; a role for which the paper has no text is left out.

        Raises:
            BadInputError: the model cannot be loaded, or is no summariser.
        """
        written: dict[str, str] = {}
        for role in ROLES:
            source = self._source_of(role, text)
            said = self._write(source) if source else ""
            if said and said not in written.values():
                written[role] = said
        return written

    def _source_of(self, role: str, text: PaperText) -> str:
        """Return what a role is written from; of an abstract alone, the sentences that serve the role."""
        for kind in _SOURCES[role]:
            prose = [paragraph for section in text.of_kind(kind) for paragraph in section.paragraphs]
            if prose and (kind != "abstract" or role == "headline"):
                return " ".join(prose)
        return " ".join(extract_summary(text).get(role, ()))

    def _write(self, source: str) -> str:
        import torch

        model, tokenizer = self._pair()
        ids = self._ids(source, model, tokenizer)
        prompt = torch.tensor([ids], device=model.device)
        with torch.inference_mode():
            out = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                **self._search(),
            )
        return " ".join(tokenizer.decode(out[0], skip_special_tokens=True).replace("<n>", " ").split())

    def _search(self) -> dict[str, Any]:
        """Return the settings of the search: nothing is left to chance, nor to the checkpoint's lengths."""
        settings = {
            "do_sample": False,
            "num_beams": self._beams,
            "min_length": 0,
            "max_length": None,
            "max_new_tokens": self._max_tokens,
            "no_repeat_ngram_size": 3,
        }
        return settings | ({"length_penalty": 1.0, "early_stopping": True} if self._beams > 1 else {})

    def _ids(self, source: str, model: Any, tokenizer: Any) -> list[int]:
        """Return the token ids of as many sentences as the model's context holds; of one, as much as fits."""
        known = getattr(model.config, "max_position_embeddings", None)
        context = min(one for one in (known, tokenizer.model_max_length, 4096) if one is not None)
        kept: list[int] = []
        for end in (sentence.end for sentence in split_sentences(source)):
            ids: list[int] = tokenizer(source[:end], verbose=False)["input_ids"]
            if len(ids) > context:
                break
            kept = ids
        return kept or list(tokenizer(source, truncation=True, max_length=context)["input_ids"])

    def _pair(self) -> tuple[Any, Any]:
        if self._loaded is None:
            self._loaded = _load(self._source, self._device, self._dtype)
        return self._loaded


def _load(source: str, device: str, dtype: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSeq2SeqLM

    from papertrial.models import load_tokenizer, resolve_device, resolve_dtype

    tokenizer = load_tokenizer(source)
    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(
            source, dtype=resolve_dtype(dtype), use_safetensors=True, trust_remote_code=False
        )
    except hub_errors(ValueError, KeyError, RuntimeError) as problem:
        said = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise BadInputError(f"{source!r} cannot be loaded as a summarising model: {said}") from problem
    return model.to(resolve_device(device)).eval(), tokenizer
