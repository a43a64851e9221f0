"""The nine classes of errors, their names in the released files, and their groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from papertrial.errors import unknown

GROUPS = ("simplicity", "soundness", "sensitivity")
CONTROL = "correct"


@dataclass(frozen=True)
class ErrorClass:
    """One class of the benchmark.

    Attributes:
        file_name: how the released files spell it (`redundency` is theirs).
        short: the table's abbreviation.
        says: what a scorer that does well here notices.
        group: which of the three groups it counts towards.
        judged_by_redundancy: whether a scorer's redundancy labels, where it has them, decide here.
    """

    file_name: str
    short: str
    says: str
    group: str
    judged_by_redundancy: bool = False


CLASSES: tuple[ErrorClass, ...] = (
    ErrorClass("redundency", "NR", "non-redundancy", "simplicity", True),
    ErrorClass("circular", "NCL", "non-circular logic", "simplicity", True),
    ErrorClass("counterfactual", "ES", "empirical soundness", "soundness"),
    ErrorClass("step_contradiction", "SC", "step consistency", "soundness"),
    ErrorClass("domain_inconsistency", "DC", "domain consistency", "soundness"),
    ErrorClass("confidence", "CI", "confidence invariance", "soundness"),
    ErrorClass("missing_condition", "PS", "prerequisite sensitivity", "sensitivity"),
    ErrorClass("deception", "DR", "deception resistance", "sensitivity"),
    ErrorClass("multi_solutions", "MS", "multi-solution consistency", "sensitivity"),
)
BY_FILE_NAME: Mapping[str, ErrorClass] = {one.file_name: one for one in CLASSES}
_OTHER_SPELLINGS = {"redundancy": "redundency"}


def class_named(name: str) -> ErrorClass:
    """Return the class that a row's `classification` names; `redundancy` is taken for the files' spelling.

    Raises:
        BadInputError: a name that no class has.
    """
    file_name = _OTHER_SPELLINGS.get(name, name)
    if file_name not in BY_FILE_NAME:
        raise unknown("classification", name, BY_FILE_NAME)
    return BY_FILE_NAME[file_name]
