"""What a real model is measured on beside its divergence: several test texts, and lm-eval's tasks.

Read without torch: a trial's metrics are named from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import PurePath

from papertrial.errors import BadInputError, MissingExtraError, unknown

STREAMS = ("wikitext2", "c4")
"""The rules by which the study's two columns make a stream of tokens of a text."""
ZERO_SHOT = ("piqa", "winogrande", "arc_easy", "arc_challenge", "hellaswag", "boolq")
"""The study's zero-shot tasks, as lm-eval names them. Source: arXiv 2505.02214, section 2.1."""

_TASK = "lm-eval:"
_ALL_TASKS = "lm-eval:zero-shot"


@dataclass(frozen=True)
class Evaluations:
    """Texts, the rule for each, and tasks.

    Attributes:
        texts: files or data sets of the hub.
        streams: the rule for each text.
        tasks: lm-eval's names.
    """

    texts: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()

    @property
    def text_metrics(self) -> tuple[str, ...]:
        """The metric of each text; a lone text is the trial's perplexity and needs no other name."""
        if len(self.texts) < 2:
            return ()
        return tuple(f"perplexity_{PurePath(text).stem}" for text in self.texts)


def evaluations_of(evaluation: str | None, stream: str) -> Evaluations:
    """Return what a trial's settings ask for.

    Args:
        evaluation: texts and tasks ("lm-eval:piqa"; "lm-eval:zero-shot" for the study's six) after commas.
        stream: the rule of the texts, or one for each after commas.

    Raises:
        BadInputError: an unknown rule, more or fewer rules than texts, something named twice, or an empty name.
    """
    given = [] if evaluation is None else [part.strip() for part in evaluation.split(",")]
    texts = tuple(part for part in given if not part.startswith(_TASK))
    tasks: list[str] = []
    for part in given:
        if part.startswith(_TASK):
            tasks.extend(ZERO_SHOT if part == _ALL_TASKS else (part.removeprefix(_TASK),))
    rules = tuple(part.strip() for part in stream.split(","))
    for rule in rules:
        if rule not in STREAMS:
            raise unknown("stream", rule, STREAMS)
    if not all((*texts, *tasks)):
        raise BadInputError(f"evaluation has an empty name between its commas: {evaluation!r}")
    if len(rules) == 1:
        rules = rules * len(texts)
    if len(rules) != len(texts) and texts:
        raise BadInputError(
            f"stream must name one rule, or one for each of {len(texts)} texts, got {stream!r}"
        )
    found = Evaluations(texts, rules if texts else (), tuple(tasks))
    names = [*found.text_metrics, *tasks]
    if len(set(names)) < len(names):
        raise BadInputError(f"texts and tasks must differ in name, got {evaluation!r}")
    return found


def check_tasks(tasks: tuple[str, ...]) -> None:
    """Raise `MissingExtraError` where tasks are asked for and lm-eval is not installed."""
    if tasks and find_spec("lm_eval") is None:
        raise MissingExtraError("lm-eval", "evaluation")
