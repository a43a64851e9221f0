"""Whether a number found in the paper speaks of what the summary speaks of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from papertrial.digest.grounding.index import PaperIndex, Passage, Place
from papertrial.digest.grounding.tables import Table, proper_names
from papertrial.digest.sentences import Sentence, content_terms

_CHANGE = re.compile(
    r"\b(?:improv|reduc|fast|high|gain|drop|increas|decreas|low|slow|better|worse|outperform|surpass|exceed|sav|cut|"
    r"boost|speed|smaller|larger|fewer|less|more|ris|rose|fall|fell|declin|shrink|compress|accelerat|enhanc|raise|"
    r"up to|times|fold|gap|margin|differ|behind|ahead|lead)\w*|\d\s?[x×](?![A-Za-z0-9])"
    r"|보다|향상|개선|감소|증가|빠르|빠른|높|낮|줄|늘|배|상승|하락|절감|단축|앞서|우수",
    re.IGNORECASE,
)
_COMPARISON = re.compile(
    r"\b(?:compared|versus|vs|than|over|against|baselines?|teacher|from|while|whereas|respectively|outperform\w*|"
    r"surpass\w*|exceed\w*|match\w*|next|previous|prior)\b|대비|보다|반면|비해",
    re.IGNORECASE,
)
_CLAUSE_EDGE = re.compile(
    r"[,;:—](?=\s)|\s(?=(?:and|but|while|whereas|compared|versus|vs\.?|than|against|from)\s)", re.IGNORECASE
)


@dataclass(frozen=True)
class ClaimContext:
    """A sentence of a summary: its words and names, and where its clauses begin.

    Attributes:
        start: where the sentence begins in its section.
        terms: content terms; names: proper names; both in lower case.
        compares: whether it sets one thing against another.
    """

    text: str
    start: int
    terms: frozenset[str]
    names: frozenset[str]
    compares: bool

    @classmethod
    def of(cls, sentence: Sentence, lang: str = "en") -> ClaimContext:
        """Read a sentence's words once, for all numbers in it."""
        return cls(
            text=sentence.text,
            start=sentence.start,
            terms=content_terms(sentence.text, lang),
            names=proper_names(sentence.text),
            compares=_COMPARISON.search(sentence.text) is not None,
        )

    def clause(self, at: int) -> str:
        """Return the clause around a place of the section."""
        at -= self.start
        edges = [0, *(edge.start() for edge in _CLAUSE_EDGE.finditer(self.text)), len(self.text)]
        return next(
            self.text[left:right] for left, right in pairwise(edges) if at < right or right == edges[-1]
        )

    def changes(self, at: int) -> bool:
        """Say whether the clause around a place tells of a change ("reduces", "faster", "보다")."""
        return _CHANGE.search(self.clause(at)) is not None


def shared_terms(claim: ClaimContext, passage: Passage) -> int | None:
    """Return how many content terms a claim's sentence and a passage share; None where the claim has none."""
    if not claim.terms:
        return None
    return len(claim.terms & passage.terms)


def same_context(
    claim: ClaimContext, at: int, place: Place, index: PaperIndex, *, labels: bool = True
) -> bool:
    """Say whether a number of the paper speaks of what the claim speaks of.

    The passage must share a content term with the claim's sentence. In a table the labels must not speak
    against it: a claim that names another column, row or table than the number's own, and not its own, is about
    something else ("3.00 on StoryBench" where 3.00 stands in the table of HoldOut).

    Args:
        claim: the sentence of the summary.
        at: where the claim's number stands in its section.
        place: the paper's number.
        index: the paper.
        labels: whether to hear the labels; a size in a name of a model ("7B") needs none.
    """
    passage = index.passages[place.passage]
    if shared_terms(claim, passage) == 0:
        return False
    return not (labels and _speaks_against(claim, at, place, passage, index))


def _speaks_against(claim: ClaimContext, at: int, place: Place, passage: Passage, index: PaperIndex) -> bool:
    if passage.table is None or passage.row is None:
        return False
    table = index.tables[passage.table]
    clause = claim.clause(at)
    clause_names = proper_names(clause)
    own_row = table.row_names[passage.row]
    here = own_row | table.caption_names | proper_names(passage.text)
    others = frozenset[str]().union(*table.row_names) - here
    if _other_named(clause_names, claim.names if not claim.compares else clause_names, own_row, others):
        return True
    if _other_named(
        clause_names, claim.names, table.caption_names, index.caption_names - here - _labels(table)
    ):
        return True
    if place.column is None or place.column >= len(table.column_names):
        return False
    own_column = table.column_names[place.column]
    other_columns = frozenset[str]().union(*table.column_names[1:]) - own_column - here
    words = clause_names | content_terms(clause)
    return _other_named(words, claim.names | claim.terms, own_column, other_columns)


def _labels(table: Table) -> frozenset[str]:
    return frozenset[str]().union(*table.column_names, *table.row_names)


def _other_named(
    near: frozenset[str], all_named: frozenset[str], own: frozenset[str], others: frozenset[str]
) -> bool:
    """Say whether another label is named and the number's own is not: in the clause first, else the sentence."""
    if not own:
        return False
    named = near if near & (own | others) else all_named
    return bool(named & others) and not named & own
