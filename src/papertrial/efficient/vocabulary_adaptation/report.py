"""What became of a model whose vocabulary was replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from papertrial.efficient.vocabulary_adaptation.rows import Facts


@dataclass(frozen=True)
class AdaptationReport:
    """What was copied, what was made and how, and what it did to the model's size.

    Attributes:
        method: the method's name.
        source_tokens: ids of the source tokenizer.
        source_rows: rows of the old embedding; more than `source_tokens` where it was padded.
        target_tokens: ids of the target tokenizer, and rows of the new embedding.
        shared: target tokens whose row was copied.
        tied: whether embedding and head are one matrix.
        provenance: how each target row was made: "copied", "drawn", "pieces", "weighted", "mapped", "mean".
        parameters: of the model, before and after.
        vocabulary_bytes: of embedding and head together, before and after.
        duplicates: groups of target ids that mean the same.
        new_special_tokens: control tokens that only the target has.
        lost_special_tokens: control tokens that only the source had; a chat template that uses them is spoilt.
        notes: what else a user should know.
        facts: what the method tells, for each matrix ("embedding", "head").
        sources: for target ids that are weighted means, the source ids and weights.
    """

    method: str
    source_tokens: int
    source_rows: int
    target_tokens: int
    shared: int
    tied: bool
    provenance: list[str]
    parameters: tuple[int, int]
    vocabulary_bytes: tuple[int, int]
    duplicates: list[list[int]] = field(default_factory=list)
    new_special_tokens: list[str] = field(default_factory=list)
    lost_special_tokens: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: Mapping[str, Facts] = field(default_factory=dict)
    sources: Mapping[int, list[tuple[int, float]]] = field(default_factory=dict)

    @property
    def new(self) -> int:
        """Target tokens whose row had to be made."""
        return self.target_tokens - self.shared

    def sources_of(self, token: int) -> list[tuple[int, float]]:
        """Return the source ids and weights that the embedding's row of a target id is a mean of.

        Empty for rows that are no mean of source rows (drawn, mapped).
        """
        return self.sources.get(token, [])

    def summary(self) -> str:
        """Return the report in a few lines."""
        made = ", ".join(f"{count} {how}" for how, count in Counter(self.provenance).most_common())
        lines = [
            f"{self.method}: {self.source_tokens} tokens replaced by {self.target_tokens}; {made}",
            f"parameters {self.parameters[0]:,} -> {self.parameters[1]:,}; embedding and head "
            f"{self.vocabulary_bytes[0]:,} -> {self.vocabulary_bytes[1]:,} bytes",
        ]
        for name, tokens in (("new", self.new_special_tokens), ("lost", self.lost_special_tokens)):
            if tokens:
                lines.append(
                    f"{name} special tokens: {', '.join(tokens[:8])}{' …' if len(tokens) > 8 else ''}"
                )
        for matrix, facts in self.facts.items():
            lines += [f"{matrix}: {name} {value}" for name, value in facts.items()]
        return "\n".join([*lines, *self.notes])
