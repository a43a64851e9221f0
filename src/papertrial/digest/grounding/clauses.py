"""Taking a number's clause out of a text without breaking the sentence it stands in."""

from __future__ import annotations

import re
from collections.abc import Sequence

from papertrial.digest.sentences import Sentence, split_sentences

_TAIL = re.compile(
    r",\s++(?=(?:while|whereas|although|though|which|with|compared (?:to|with)|resulting in|thereby|thus|"
    r"(?!(?:during|according)\b)[a-z]+(?<!th)ing)\b)",
)
_INTRODUCTION = re.compile(
    r"\s*(?:\*+[^*]*\*+:?\s*)?(?:[ivx]+\)\s*)?(?:while|whereas|although|though|if|when|with|by|after|because|since|as|"
    r"using|for|in|on|at|under|unlike|despite|compared|given|[A-Z][a-z]+ing)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"\s*(?:\(?(?:[ivx]{1,4}|[a-h]|\d{1,2})[.)]\s*)?(?:\*+[^*\n]{1,60}\*+:?|[A-Z][\w /']{0,40}:)?\s*"
)
_NO_SENTENCE = re.compile(r"[\W\d_]*")


def without_clauses(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return the text without the clauses that hold the given spans.

    Out goes, whichever is the smallest that leaves a whole sentence: a parenthesis; one side of a semicolon; a
    trailing clause that only adds to the sentence ("…, reaching 93.1"); else the whole sentence. A label
    or marker before a deleted sentence ("iv) **Results:**") goes with it unless more of the item stays.
    """
    pieces, edge = [], 0
    for sentence in split_sentences(text):
        pieces.append(text[edge : sentence.start])
        inside = [
            (start - sentence.start, end - sentence.start)
            for start, end in spans
            if sentence.start <= start < sentence.end
        ]
        pieces.append(_without(sentence, inside))
        edge = sentence.end
    pieces.append(text[edge:])
    kept = re.sub(r"(?<=\S)[ \t]{2,}(?=\S)", " ", "".join(pieces)) if spans else text
    return re.sub(r"(?m)^[ \t]+|[ \t]+$", "", kept).strip() if spans else text


def _without(sentence: Sentence, spans: list[tuple[int, int]]) -> str:
    """Take one span after the other out of a sentence; the last goes first, so that places hold."""
    text = sentence.text
    for start, end in sorted(spans, reverse=True):
        if start >= len(text):  # gone with an earlier cut
            continue
        shorter = _cut(text, start, end)
        if shorter is None:
            return ""
        text = shorter
    return text


def _cut(text: str, start: int, end: int) -> str | None:
    for way in (_without_parenthesis, _without_semicolon_part, _without_tail):
        shorter = way(text, start, end)
        if shorter is not None and len(shorter) < len(text) and _is_whole(shorter):
            return shorter
    return None


def _without_parenthesis(text: str, start: int, end: int) -> str | None:
    opened = _open_parenthesis(text, start)
    closed = text.find(")", end)
    if opened is None or closed < 0 or "(" in text[start:closed]:
        return None
    return re.sub(r"(?<!\s)\s++([.,;:])", r"\1", f"{text[:opened].rstrip()}{text[closed + 1 :]}")


def _open_parenthesis(text: str, at: int) -> int | None:
    depth = 0
    for place in range(at - 1, -1, -1):
        if text[place] == ")":
            depth += 1
        elif text[place] == "(":
            if depth == 0:
                return place
            depth -= 1
    return None


def _without_semicolon_part(text: str, start: int, end: int) -> str | None:
    edges = [
        -1,
        *(
            found.start()
            for found in re.finditer(";", text)
            if _open_parenthesis(text, found.start()) is None
        ),
    ]
    if len(edges) == 1:
        return None
    edges.append(len(text))
    left = max(edge for edge in edges if edge < start)
    right = min(edge for edge in edges if edge >= end)
    if left == -1:
        rest = text[right + 1 :].strip()
        label = _LABEL.match(text)
        kept = label[0] if label and label.end() <= start else ""
        return f"{kept}{rest[:1].upper()}{rest[1:]}"
    if right == len(text):
        return f"{text[:left].rstrip()}{_final_stop(text)}"
    return f"{text[:left]}{text[right:]}"


def _without_tail(text: str, start: int, end: int) -> str | None:
    if _INTRODUCTION.match(text):
        return None
    for tail in reversed(list(_TAIL.finditer(text, 0, start))):
        if _open_parenthesis(text, tail.start()) is None:
            return f"{text[: tail.start()].rstrip()}{_final_stop(text)}"
    return None


def _final_stop(text: str) -> str:
    found = re.search(r"[.!?。]+[\"'”’)*]*$", text)
    return found[0] if found else ""


def _is_whole(text: str) -> bool:
    """Say whether what is left can stand as a sentence: words enough, and nothing left open."""
    label = _LABEL.match(text)
    body = text[label.end() :] if label else text
    balanced = all(text.count(left) == text.count(right) for left, right in ("()", "[]", "“”"))
    enough = len(body.split()) >= 3 or re.search(r"[가-힣]{2,}[.!?]?$", body) is not None
    return balanced and enough and text.count('"') % 2 == 0 and text.count("**") % 2 == 0
