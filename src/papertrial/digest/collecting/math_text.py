"""Formulas as plain text, as far as numbers and names need it: 1.8\\times is 1.8×."""

from __future__ import annotations

import re

_SIGNS = {
    r"\times": "×",
    r"\pm": "±",
    r"\mp": "∓",
    r"\cdot": "·",
    r"\sim": "~",
    r"\approx": "≈",
    r"\leq": "≤",
    r"\geq": "≥",
    r"\le": "≤",
    r"\ge": "≥",
    r"\neq": "≠",
    r"\rightarrow": "→",
    r"\to": "→",
    r"\uparrow": "↑",
    r"\downarrow": "↓",
    r"\infty": "∞",
    r"\alpha": "α",
    r"\beta": "β",
    r"\gamma": "γ",
    r"\delta": "δ",
    r"\epsilon": "ε",
    r"\lambda": "λ",
    r"\mu": "μ",
    r"\pi": "π",
    r"\sigma": "σ",
    r"\tau": "τ",
    r"\theta": "θ",
    r"\ldots": "…",
    r"\dots": "…",
    r"\quad": " ",
    r"\qquad": " ",
}
_COMMAND = re.compile(r"\\[A-Za-z]+\*?")
_DOLLARS = re.compile(r"(?<!\\)\$\$?([^$]{1,2000}?)(?<!\\)\$\$?")
_LONGEST = 2000  # a longer formula is shown as it is: nobody reads it, and it may be an attack


def math_as_text(tex: str) -> str:
    """Return a formula in TeX as one line of plain text; what has no plain form loses its markup only."""
    if len(tex) > _LONGEST:
        return " ".join(tex.split())
    text = (
        tex.replace("{,}", ",")
        .replace("\\%", "%")
        .replace("\\_", "_")
        .replace("\\&", "&")
        .replace("\\#", "#")
    )
    text = re.sub(r"\\[,;:! ]|~", " ", text)
    text = re.sub(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", text)
    text = _COMMAND.sub(lambda found: _SIGNS.get(found.group(0), " "), text)
    text = re.sub(r"\^\{\s*([^{}]*)\}", r"^\1", re.sub(r"_\{\s*([^{}]*)\}", r"_\1", text))
    text = text.replace("{", "").replace("}", "").replace("\\", " ")
    text = re.sub(r"(?<=\d)\s*([×%])", r"\1", " ".join(text.split()))
    return re.sub(r"(?<=\d)\s+\.(?=\d)", ".", text)


def without_dollars(text: str) -> str:
    """Return a text with its formulas between dollar signs as plain text; prices stay."""
    return _DOLLARS.sub(
        lambda found: math_as_text(found.group(1)) if _is_formula(found.group(1)) else found.group(0), text
    )


def _is_formula(inside: str) -> bool:
    """Whether what stands between two dollar signs is a formula, and not the text between two prices."""
    return (
        not inside[:1].isspace()
        and not inside[-1:].isspace()
        and not re.search(r"[a-z]{3,} [a-z]{3,} ", inside)
    )
