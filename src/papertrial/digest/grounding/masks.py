"""What holds digits and is no measurement: names, versions, years, labels, list markers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_FAMILIES = (
    "Llama|LLaMA|Qwen|Gemma|Gemini|Mistral|Mixtral|Phi|GPT|Claude|Sonnet|Opus|Haiku|DeepSeek|InternVL|LLaVA|Vicuna|"
    "EXAONE|Falcon|OLMo|Granite|Nemotron|Grok|Command|Whisper|Stable[ ]Diffusion|SD|FLUX|Flux|Wan|Sora|Kling|Gen|"
    "Veo|Imagen|DALL-E|Midjourney|Yi|Baichuan|ChatGLM|GLM|Kimi|Hunyuan|CogVideoX|SAM|YOLO|DINO|CUDA|Python|"
    "PyTorch|HTTP|Web|Industry"
)
_LABELS = (
    "Table|Tables|Tab\\.|Figure|Figures|Fig\\.|Figs\\.|Section|Sections|Sec\\.|Equation|Eq\\.|Eqs\\.|Algorithm|"
    "Appendix|Theorem|Lemma|Proposition|Definition|Chapter|Stage|stage|Phase|phase|Step|step|Level|level|Tier|tier|"
    "Part|Task|Track|Round|round|Version|version|Layer|layer|RQ|Case|Type|Experiment|Listing|표|그림|식|제"
)
_COUNTED = (
    "tokens?|samples?|examples?|images?|videos?|clips?|papers?|questions?|problems?|pairs?|frames?|steps?|GPUs?|"
    "languages|episodes|tasks|prompts|instances|annotations|annotators|participants|users|documents|pages|rows|"
    "columns|dimensions?|channels|units|points|hours|people|entries|scenes|objects|categories|classes|layers|"
    "parameters|iterations|epochs|개|명|장|편|건|차원|토큰"
)

_ALWAYS = re.compile(
    rf"""(?x)
    https?://\S+ | www\.\S+
    | (?i:arxiv)[:\s/]*(?:abs/|pdf/)?\d{{4}}\.\d{{4,5}}(?:v\d+)?
    | \b\d{{4}}-\d{{2}}-\d{{2}}\b
    | \b\d+\.\d+\.\d+(?:\.\d+)*\b                          # a version
    | \bO\([^()\n]{{1,20}}\)                               # a complexity
    | \b(?:{_FAMILIES})[ ](?:v?\d+(?:\.\d+)?[A-Za-z]?)(?!\d|,\d|%)(?![ ]?(?:%|points?\b|times\b))(?!\.\d)
    | (?:\b|(?<=[가-힣\s]))(?:{_LABELS})\s?\(?\d+(?:\.\d+)*[a-h]?(?![\w%×]|\.\d)\)?(?!\s?(?:%|ms\b|times\b|points?\b))
      (?:(?:,|[ ]and|[ ]to|[-–])[ ]?\d+(?![\w.%]))*
    | \[\d{{1,3}}\] | \[\d{{1,3}}(?:(?:,\s?|[-–])\d{{1,3}}){{2,}}\]   # citations
    | (?:19|20)\d\d년 | \d{{1,2}}월(?:\s?\d{{1,2}}일)?
    | '\d\ds?\b
    """
)
_YEAR = re.compile(
    rf"(?<![\d.,\w^×x*$~+-])(?!2048)(?:19|20)\d\d(?!\d|[.,]\d|[KkMBT%×x+]|\s?[x×]\s?\d|s?\s?(?:{_COUNTED})\b"
    r"|\s?(?:ms|s|GB|MB|%|px|bits?|m|km|met(?:er|re)s?)\b|-(?:dim|token|bit|step|frame|sample))(?:s\b)?"
)
_YEAR_RANGE = re.compile(r"\b(?:19|20)\d\d\s?[-–/]\s?(?:(?:19|20)\d\d|\d\d)\b(?!\s?%)")
_NUMBERED = re.compile(r"(?P<open>\()?(?<![\w.,%])\d{1,2}\)(?=\s|$|\*)")
_OPENS = re.compile(r"(?:[.:;,!?*\n]|\band|\bor|및)\s*$")  # what stands before the "(2)" of an item
_DOTTED = re.compile(
    r"(?:(?<=\n)|(?<=[.:;!?]\s)|(?<=[.:;!?]\s\s)|^)[ \t]*(?:[-*] )?\d{1,2}\.(?=\s+[\"'“*(\[A-Z가-힣])"
)


def mask(text: str, names: Iterable[str] = ()) -> str:
    """Return the text with all that is no measurement blanked out: the same length, so that places hold.

    Blanked are addresses, dates, versions, years, citations, numbers of tables and figures, model families
    with their version, list markers, and every name of `names`.
    """
    masked = list(text)
    for pattern in (_ALWAYS, _YEAR_RANGE, _YEAR, _DOTTED):
        for found in pattern.finditer(text):
            _blank(masked, found.start(), found.end())
    for found in _NUMBERED.finditer(text):
        if _opens_item(text, found):
            _blank(masked, found.start(), found.end())
    known = _names_pattern(tuple(sorted(set(names), key=len, reverse=True)))
    if known is not None:
        for found in known.finditer(text):
            _blank(masked, found.start(), found.end())
    return "".join(masked)


def _blank(masked: list[str], start: int, end: int) -> None:
    masked[start:end] = "\x00" * (end - start)


def _opens_item(text: str, marker: re.Match[str]) -> bool:
    """Say whether "2)" or "(2)" opens an item: a bracketed number after a word is a figure."""
    if marker["open"]:
        before = text[max(0, marker.start() - 8) : marker.start()]
        return marker.start() == 0 or _OPENS.search(before) is not None
    return not _inside_parentheses(text, marker.start())


def _inside_parentheses(text: str, at: int) -> bool:
    """Say whether a parenthesis is open at `at`, looking back over one line at most 200 characters."""
    back = text[max(0, at - 200) : at].rpartition("\n")[2]
    return back.count("(") > len(re.findall(r"(?<![\divx(][\divx])(?<!\s[a-h\d])\)", back))


@lru_cache(maxsize=64)
def _names_pattern(names: tuple[str, ...]) -> re.Pattern[str] | None:
    kept = [re.escape(name) for name in names if name.strip()]
    return re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(kept)})(?![A-Za-z0-9])") if kept else None


_TOKEN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9]*(?:[.^_@-]+[A-Za-z0-9]+)*")
_TITLE_VERSION = re.compile(
    r"\b([A-Z][A-Za-z-]*[ ]v?\d{1,2}(?:\.\d{1,2})?)(?![\d.%]|,\d)(?=[:,)]|\s(?!times|percent|points)|$)"
)


def names_of(title: str, abstract: str = "") -> tuple[str, ...]:
    """Return the names with digits that a paper's title and abstract hold, longest first.

    From both: unbroken runs that begin with a letter and hold a digit ("Qwen2.5-72B"). From the title also a
    capitalised word and a version ("EXAONE 3.5"). Runs that begin with a digit ("77B", "87.5%") are numbers
    and never names.
    """
    names = {token for token in _TOKEN.findall(f"{title} {abstract}") if re.search(r"\d", token)}
    names.update(_TITLE_VERSION.findall(title))
    return tuple(sorted(names, key=lambda name: (-len(name), name)))
