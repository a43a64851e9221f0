"""Korean particles that follow the sound of what stands before them."""

from __future__ import annotations

import re

_PAIRS = {
    "은": ("은", "는"), "는": ("은", "는"),
    "이": ("이", "가"), "가": ("이", "가"),
    "을": ("을", "를"), "를": ("을", "를"),
    "과": ("과", "와"), "와": ("과", "와"),
    "으로": ("으로", "로"), "로": ("으로", "로"),
}  # fmt: skip
"""For each particle its form after a final consonant and after a vowel."""

# How the last digit is read: 영 일 이 삼 사 오 육 칠 팔 구; which of them end in a consonant, and in ㄹ.
_DIGIT_CONSONANT = {"0": True, "1": True, "3": True, "6": True, "7": True, "8": True}
_DIGIT_RIEUL = frozenset("178")
# 십 백 천 만 … by the count of zeros; 조 (10^12) alone ends in a vowel.
_VOWEL_ZEROS = frozenset({12, 13, 14, 15})

# How units are read in Korean: the final sound, "" for a vowel.
_UNIT_SOUNDS = {
    "%": "", "％": "", "%p": "", "pp": "", "x": "", "×": "", "B": "", "K": "", "k": "", "T": "", "GB": "", "MB": "",
    "KB": "", "TB": "", "GiB": "", "MiB": "", "ms": "", "s": "", "μs": "", "ns": "", "min": "ㄴ", "h": "ㄴ",
    "M": "ㅁ", "dB": "ㄹ", "fps": "", "FPS": "", "Hz": "", "kHz": "", "MHz": "", "GHz": "", "px": "ㄹ", "mm": "",
    "cm": "", "km": "", "m": "", "W": "", "bit": "", "bits": "", "°": "", "+": "",
}  # fmt: skip
_LETTER_SOUNDS = {"l": "ㄹ", "m": "ㅁ", "n": "ㄴ", "r": "ㄹ"}
# Word endings whose usual Korean writing ends in a consonant.
_WORD_SOUNDS = (
    (re.compile(r"(?:[bcdgkpt]l|l)e?$"), "ㄹ"),
    (re.compile(r"me?$"), "ㅁ"),
    (re.compile(r"(?:ng|ne?|gn)$"), "ㄴ"),
    (re.compile(r"(?<=[aeiou])(?:ck|c|k)$"), "ㄱ"),
    (re.compile(r"(?<=[aeiou])[pb]$"), "ㅂ"),
    (re.compile(r"(?<![aeiou])[aeiou]t$"), "ㅅ"),
)
_FINALS = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"


def final_sound(text: str) -> str:
    """Return the final consonant with which a text ends when read in Korean, "" for a vowel.

    Numbers are read in Sino-Korean: 3 삼 ends in ㅁ, 10 십 in ㅂ, 2.5 이점오 in a vowel; units by their Korean
    name (% 퍼센트, GB 기가바이트); capitals letter by letter (LLM 엘엘엠); other English words by their
    ending, which is a rule of thumb. For digits only whether there is a consonant and whether it is ㄹ is
    told: "ㅇ" stands for any other.
    """
    stripped = text.rstrip(" \"'”’)]*_`")
    if not stripped:
        return ""
    last = stripped[-1]
    if "가" <= last <= "힣":
        return _FINALS[(ord(last) - ord("가")) % 28].strip()
    unit = re.search(r"(?<=\d)[\s-]?([A-Za-z%％°×μ]+p?|\+)$", stripped)
    if unit and unit[1] in _UNIT_SOUNDS:
        return _UNIT_SOUNDS[unit[1]]
    if last in _UNIT_SOUNDS and not last.isalpha():
        return _UNIT_SOUNDS[last]
    if last.isdigit():
        return _number_sound(stripped)
    word = re.search(r"[A-Za-z]+$", stripped)
    return _word_sound(word[0]) if word else ""


def _number_sound(text: str) -> str:
    found = re.search(r"(\d[\d,]*)(\.\d+)?$", text)
    assert found is not None  # the text ends in a digit
    whole, fraction = found[1].replace(",", ""), found[2]
    if fraction is None and whole.strip("0") and whole.endswith("0"):
        zeros = len(whole) - len(whole.rstrip("0"))
        return "" if zeros in _VOWEL_ZEROS else "ㅇ"
    digit = text[-1]
    if digit in _DIGIT_RIEUL:
        return "ㄹ"
    return "ㅇ" if _DIGIT_CONSONANT.get(digit, False) else ""


def _word_sound(word: str) -> str:
    if word.isupper() or len(word) == 1:
        return _LETTER_SOUNDS.get(word[-1].lower(), "")
    lower = word.lower()
    return next((sound for pattern, sound in _WORD_SOUNDS if pattern.search(lower)), "")


def particle(before: str, form: str) -> str:
    """Return the form of a particle that belongs after a text.

    Args:
        before: what stands before it.
        form: the particle in either of its forms: 은/는, 이/가, 을/를, 과/와, 으로/로. Another comes back as it is.
    """
    if form not in _PAIRS:
        return form
    after_consonant, after_vowel = _PAIRS[form]
    sound = final_sound(before)
    if after_vowel == "로" and sound == "ㄹ":
        return "로"
    return after_consonant if sound else after_vowel


_BOTH = {"은(는)": "은", "는(은)": "은", "이(가)": "이", "가(이)": "이", "을(를)": "을", "를(을)": "을",
         "와(과)": "과", "과(와)": "과", "(으)로": "으로"}  # fmt: skip
_AT_START = re.compile(
    r"(은\(는\)|는\(은\)|이\(가\)|가\(이\)|을\(를\)|를\(을\)|와\(과\)|과\(와\)|\(으\)로|으로|은|는|이|가|을|를|과|와|로)"
    r"(?![가-힣])"
)


def particle_at(text: str, at: int) -> tuple[str, int] | None:
    """Return the particle written at a place of a text, and where it ends; None where none is.

    Both forms at once ("은(는)") count as one particle. What goes on in Hangul is a word or a verb's ending
    and no particle ("이다", "로서").
    """
    found = _AT_START.match(text, at)
    if found is None:
        return None
    return _BOTH.get(found[1], found[1]), found.end()
