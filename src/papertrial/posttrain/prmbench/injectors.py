"""Nine ways in which a solution can go wrong (or merely otherwise): one injector for each class.

Every injector puts its errors at places drawn uniformly, independent of the class, and no correct step
rests on an erroneous one; openings, and with them the lengths of steps, are drawn alike for correct and
erroneous steps. What remains to tell them apart is what they say.

Source: arXiv 2501.03124, section 3 (the classes); the injectors are this package's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from papertrial.errors import BadInputError
from papertrial.posttrain.prmbench.derivations import (
    FOREIGN_OPERATIONS,
    INVERSE,
    Definition,
    DerivationStep,
    Problem,
    apply_operation,
    correct_step,
    in_range,
    opening,
)

ERROR_SHARE = 0.2  # of the steps of an edited solution; the released data have 0.16 over all nine classes

FARTHEST_SLIP = 9


@dataclass(frozen=True)
class EditedSolution:
    """A solution with planted errors.

    Attributes:
        steps: the lines.
        errors: 1-based places of the erroneous lines, ascending.
        dropped: letters whose definition the question must not state.
        reason: what is wrong, in words.
    """

    steps: tuple[DerivationStep, ...]
    errors: tuple[int, ...]
    dropped: tuple[str, ...]
    reason: str


Option = TypeVar("Option")
BadStep = Callable[[np.random.Generator, Definition, Problem, Mapping[str, int]], DerivationStep]


def correct_solution(rng: np.random.Generator, problem: Problem) -> tuple[DerivationStep, ...]:
    """Return a correct solution: every core letter once, in a random order that respects the sources."""
    return tuple(
        correct_step(rng, rule, problem.values) for rule in _ordered(rng, list(problem.core), problem)
    )


def multi_solution(rng: np.random.Generator, problem: Problem) -> EditedSolution:
    """Return another correct solution: another order, and a second definition where one serves."""
    second = {rule.name: rule for rule in problem.alternatives if rule.name not in problem.givens}
    rules = [second.get(rule.name, rule) for rule in problem.core]
    steps = tuple(correct_step(rng, rule, problem.values) for rule in _ordered(rng, rules, problem))
    return EditedSolution(steps, (), (), "another way to the same values")


def wrong_rule(
    rng: np.random.Generator, rule: Definition, problem: Problem, known: Mapping[str, int]
) -> DerivationStep:
    """ES: the other operation's rule, or the operation done twice."""
    value = known[rule.source]
    truth = rule.value(value)
    other = apply_operation(INVERSE[rule.operator], value, rule.constant)
    wrong = [result for result in (other, rule.value(truth)) if in_range(result)]
    return DerivationStep(opening(rng), rule, value, _choose(rng, wrong))


def contradicted_value(
    rng: np.random.Generator, rule: Definition, problem: Problem, known: Mapping[str, int]
) -> DerivationStep:
    """SC: the source is given another value than an earlier line gave it (the value of another letter)."""
    others = [value for value in known.values() if value != known[rule.source]]
    value = _choose(rng, [other for other in others if in_range(rule.value(other))])
    return DerivationStep(opening(rng), rule, value, rule.value(value))


def foreign_operation(
    rng: np.random.Generator, rule: Definition, problem: Problem, known: Mapping[str, int]
) -> DerivationStep:
    """DC: an operation from another domain takes the place of the one that was defined."""
    value = known[rule.source]
    changed = [Definition(rule.name, rule.source, sign, rule.constant) for sign in FOREIGN_OPERATIONS]
    # A result equal to the source's value would show in the step's fewer different words.
    chosen = _choose(
        rng, [one for one in changed if in_range(one.value(value)) and one.value(value) != value]
    )
    return DerivationStep(opening(rng), chosen, value, chosen.value(value))


def confident_slip(
    rng: np.random.Generator, rule: Definition, problem: Problem, known: Mapping[str, int]
) -> DerivationStep:
    """CI: a wrong result said with certainty."""
    value = known[rule.source]
    return DerivationStep(opening(rng, confident=True), rule, value, _choose(rng, _near(rule.value(value))))


def dropped_premise(
    rng: np.random.Generator, rule: Definition, problem: Problem, known: Mapping[str, int]
) -> DerivationStep:
    """PS: the step uses a definition that the question no longer states."""
    return correct_step(rng, rule, problem.values)


def plausible_shortcut(
    rng: np.random.Generator, rule: Definition, problem: Problem, known: Mapping[str, int]
) -> DerivationStep:
    """DR: another known letter is taken for the source, and all else is right."""
    others = [name for name in known if name not in (rule.source, rule.name)]
    changed = [Definition(rule.name, other, rule.operator, rule.constant) for other in others]
    chosen = _choose(rng, [one for one in changed if in_range(one.value(known[one.source]))])
    return DerivationStep(opening(rng), chosen, known[chosen.source], chosen.value(known[chosen.source]))


def circular_step(
    rng: np.random.Generator, rule: Definition, problem: Problem, known: Mapping[str, int]
) -> DerivationStep:
    """NCL: the letter is derived from a letter that is itself defined by it, and not known."""
    after = next(other for other in problem.descendants if other.source == rule.name)
    back = Definition(rule.name, after.name, INVERSE[after.operator], after.constant)
    return correct_step(rng, back, problem.values)


BAD_STEPS: Mapping[str, BadStep] = {
    "circular": circular_step,
    "counterfactual": wrong_rule,
    "step_contradiction": contradicted_value,
    "domain_inconsistency": foreign_operation,
    "confidence": confident_slip,
    "missing_condition": dropped_premise,
    "deception": plausible_shortcut,
}
REASONS: Mapping[str, str] = {
    "redundency": "derives what is already known",
    "circular": "derives a letter from one that is defined by it",
    "counterfactual": "applies a wrong rule of arithmetic",
    "step_contradiction": "contradicts a value stated before",
    "domain_inconsistency": "uses an operation of another domain",
    "confidence": "states a wrong result with certainty",
    "missing_condition": "uses a condition that the question does not state",
    "deception": "takes one known quantity for another",
}


def inject(rng: np.random.Generator, problem: Problem, classification: str) -> EditedSolution:
    """Return a solution of `problem` edited in the manner of one class (the names of the official files).

    Raises:
        BadInputError: a class that is not one of the nine.
    """
    if classification == "multi_solutions":
        return multi_solution(rng, problem)
    if classification == "redundency":
        return redundant_solution(rng, problem)
    if classification not in BAD_STEPS:
        names = ", ".join(["multi_solutions", "redundency", *BAD_STEPS])
        raise BadInputError(f"classification must be one of {names}; got {classification!r}")
    return _replace_leaves(rng, problem, classification)


def redundant_solution(rng: np.random.Generator, problem: Problem) -> EditedSolution:
    """NR: steps are put in that derive, by a second definition, a letter that is known already."""
    count = error_count(rng, len(problem.core), ERROR_SHARE / (1 - ERROR_SHARE))
    places = error_places(rng, len(problem.core) + count, count)
    pending = list(correct_solution(rng, problem))
    known = {name: problem.values[name] for name in problem.givens}
    unused = list(problem.alternatives)
    steps: list[DerivationStep] = []
    for place in range(len(problem.core) + count):
        if place in places:
            rule = _choose(rng, [one for one in unused if one.name in known and one.source in known])
            unused.remove(rule)
            steps.append(correct_step(rng, rule, problem.values))
            continue
        steps.append(pending.pop(0))
        known[steps[-1].definition.name] = steps[-1].result
    return _edited(steps, places, REASONS["redundency"])


def error_count(rng: np.random.Generator, length: int, share: float) -> int:
    """Return one or two, drawn so that the mean is `share * length` (which lies between them, 5 to 8 steps).

    A rounded draw rather than a fixed number: the share of errors is then the same for short and long
    solutions, and a solution's length says nothing about its steps.
    """
    return int(share * length + rng.random())


def error_places(rng: np.random.Generator, length: int, count: int) -> tuple[int, ...]:
    """Return `count` distinct 0-based places, all equally likely, ascending."""
    return tuple(sorted(int(place) for place in rng.choice(length, size=count, replace=False)))


def _replace_leaves(rng: np.random.Generator, problem: Problem, classification: str) -> EditedSolution:
    count = error_count(rng, len(problem.core), ERROR_SHARE)
    places = error_places(rng, len(problem.core), count)
    while True:  # ends: two leaves rest on givens and fit any place; a draw takes them with fair chance
        steps = _try_places(rng, problem, classification, places)
        if steps is not None:
            break
    dropped = (
        tuple(steps[at].definition.name for at in places) if classification == "missing_condition" else ()
    )
    return _edited(steps, places, REASONS[classification], dropped)


def _try_places(
    rng: np.random.Generator, problem: Problem, classification: str, places: tuple[int, ...]
) -> list[DerivationStep] | None:
    """Lay the steps in order with the chosen leaves at `places`; None where a source comes too late."""
    # A second definition could justify the step after all, so letters that have one are left alone.
    doubly = {rule.name for rule in problem.alternatives}
    able = [rule for rule in problem.leaves() if rule.name not in doubly]
    circular = classification == "circular"
    if circular:
        defining = {rule.source for rule in problem.descendants}
        able = [rule for rule in able if rule.name in defining]
    chosen = [able[at] for at in rng.permutation(len(able))[: len(places)]]
    others = [rule for rule in problem.core if rule not in chosen]
    known = {name: problem.values[name] for name in problem.givens}
    steps: list[DerivationStep] = []
    for place in range(len(problem.core)):
        pool = chosen if place in places else others
        # A circular step does not ask for the source: it leans on a letter that is never known.
        ready = [rule for rule in pool if rule.source in known or (circular and place in places)]
        if not ready:
            return None
        rule = _choose(rng, ready)
        pool.remove(rule)
        if place in places:
            steps.append(BAD_STEPS[classification](rng, rule, problem, known))
        else:
            steps.append(correct_step(rng, rule, problem.values))
            known[rule.name] = steps[-1].result
    return steps


def _edited(
    steps: list[DerivationStep], places: tuple[int, ...], reason: str, dropped: tuple[str, ...] = ()
) -> EditedSolution:
    errors = tuple(place + 1 for place in places)
    listed = " and ".join(str(place) for place in errors)
    return EditedSolution(tuple(steps), errors, dropped, f"Step {listed} {reason}.")


def _ordered(rng: np.random.Generator, rules: list[Definition], problem: Problem) -> list[Definition]:
    """Return the definitions in a random order in which every source is known when it is used."""
    known, order, pending = set(problem.givens), [], list(rules)
    while pending:
        rule = _choose(rng, [one for one in pending if one.source in known])
        pending.remove(rule)
        known.add(rule.name)
        order.append(rule)
    return order


def _near(value: int) -> list[int]:
    """Return the other values that lie at most `FARTHEST_SLIP` away."""
    around = range(value - FARTHEST_SLIP, value + FARTHEST_SLIP + 1)
    return [near for near in around if near != value and in_range(near)]


def _choose(rng: np.random.Generator, options: list[Option]) -> Option:
    return options[int(rng.integers(len(options)))]
