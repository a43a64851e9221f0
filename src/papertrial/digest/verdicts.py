"""What papertrial has found of a paper, in words that fit into a digest entry."""

from __future__ import annotations

from papertrial.digest.records import Entry
from papertrial.trial.verdict import SIGNS

_WORDS = {
    "ko": {
        "holds": "성립",
        "fails": "불성립",
        "undecided": "미정",
        "untested": "미검증",
        "not measured": "미측정",
    }
}
_DOCKET = {"en": "on the docket", "ko": "시험 대기"}


def chips(entry: Entry, lang: str = "en") -> list[tuple[str, str]]:
    """Return the verdict chips of an entry as (word, text): `("holds", "✔ 9 holds")`; empty without a card."""
    if entry.trial is None:
        return []
    if entry.trial.status == "docket":
        return [("docket", _DOCKET.get(lang, _DOCKET["en"]))]
    words = _WORDS.get(lang, {})
    return [
        (word, f"{SIGNS[word]} {count} {words.get(word, word)}")
        for word in SIGNS
        if (count := entry.trial.verdicts.get(word))
    ]


def trial_sentence(entry: Entry, lang: str = "en") -> str:
    """Return the chips as one sentence for plain text, with the command; empty without a card."""
    if entry.trial is None:
        return ""
    head = {"en": "On trial", "ko": "검증"}.get(lang, "On trial")
    text = f"{head}: {' · '.join(text for _, text in chips(entry, lang))}"
    return f"{text}." if entry.trial.status == "docket" else f"{text} (papertrial try {entry.trial.name})."
