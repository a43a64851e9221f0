"""What the pages show: papers, their latest verdicts, their evidence, and when any of it changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from papertrial.errors import BadInputError, PapertrialError, unknown
from papertrial.site.evidence_index import EvidenceIndex, Group
from papertrial.site.stored import summary_of_group, summary_of_reference, trial_of_group
from papertrial.trial.card import Card, Claim
from papertrial.trial.contract import Trial
from papertrial.trial.latest import Latest, recall
from papertrial.trial.reference import load_reference, verdicts_in
from papertrial.trial.rooms import Room, discover
from papertrial.trial.summary import PaperSummary, TrialSummary, command_for
from papertrial.trial.verdict import Verdict

_CORES = re.compile(r"(\d+) cores")


@dataclass(frozen=True)
class Origin:
    """Whose numbers these are.

    Attributes:
        own: measured on this machine, in this home.
        day: when, as 2026-11-21.
        cores: of the reference run's machine, where it says so.
    """

    own: bool
    day: str
    cores: str | None = None


@dataclass(frozen=True)
class Listed:
    """One paper as lists show it: its card, a verdict on every claim, and whose each is."""

    card: Card
    verdicts: Mapping[str, Verdict]
    latest: Mapping[str, Latest]
    origins: Mapping[str, Origin]

    @property
    def origin(self) -> Origin | None:
        """Whose numbers the paper shows; one's own where there are any."""
        return max(self.origins.values(), key=lambda one: (one.own, one.day), default=None)


@dataclass(frozen=True)
class Shown:
    """One paper as its page shows it.

    Attributes:
        origins: whose numbers each trial shows.
        groups: everything measured here, newest first.
        shown: the names of the groups that the page shows, by trial.
        problem: why its trials cannot be loaded here, where they cannot.
    """

    listed: Listed
    summary: PaperSummary
    origins: Mapping[str, Origin]
    groups: tuple[Group, ...]
    shown: Mapping[str, str]
    problem: str | None


class Library:
    """The papers of this installation with what lies in one home. Looks at files, keeps what has not changed.

    Args:
        home: where evidence lies.
        rooms: the papers; all that are installed where None.
    """

    def __init__(self, home: Path, rooms: Mapping[str, Room] | None = None) -> None:
        self.home = home
        self.index = EvidenceIndex(home)
        self.problems: list[str] = []
        self.rooms = self._readable(discover() if rooms is None else rooms)
        self._references = {name: load_reference(room) for name, room in self.rooms.items()}
        self._shipped: dict[str, dict[str, Latest]] = {}
        self._listed: dict[str, tuple[object, Listed]] = {}
        self._kinds: dict[str, tuple[dict[str, type[Trial]], str | None]] = {}

    def papers(self) -> list[Listed]:
        """Return every paper with its latest verdicts, in the order of fields and names."""
        return [self.listed(name) for name in self.rooms]

    def listed(self, name: str) -> Listed:
        """Return one paper with its latest verdicts; one's own count before the reference run's."""
        mark = self._mark(name)
        kept = self._listed.get(name)
        if kept is not None and kept[0] == mark and mark is not None:
            return kept[1]
        room = self.room(name)
        own, shipped = recall(self.home, name), self._reference_verdicts(name)
        names = {claim.name for claim in room.card.tested}
        latest = {key: one for key, one in {**shipped, **own}.items() if key in names}
        made = Listed(
            room.card,
            {claim.name: _verdict(claim, latest) for claim in room.card.claims},
            latest,
            {key: self._origin(name, key in own, one.made) for key, one in latest.items()},
        )
        self._listed[name] = (mark, made)
        return made

    def room(self, name: str) -> Room:
        """Return a paper's room.

        Raises:
            BadInputError: there is no such paper.
        """
        if name not in self.rooms:
            raise unknown("paper", name, self.rooms)
        return self.rooms[name]

    def kinds(self, name: str) -> dict[str, type[Trial]]:
        """Return a paper's trials; empty where it is on the docket or they cannot be loaded here."""
        return self._load(name)[0]

    def unit(self, name: str, claim: Claim) -> str:
        """Return the unit of a claim's metric, "" where it is not known here."""
        kind = self.kinds(name).get(claim.trial or "")
        metric = kind.metrics.get(claim.metric or "") if kind else None
        return metric.unit if metric else ""

    def show(self, name: str) -> Shown:
        """Return a paper as its page shows it."""
        listed, (kinds, problem) = self.listed(name), self._load(name)
        groups = tuple(self.index.groups(name))
        reference = self._references[name]
        trials: dict[str, TrialSummary] = {}
        origins: dict[str, Origin] = {}
        chosen: dict[str, str] = {}
        shipped = summary_of_reference(listed.card, kinds, reference) if reference else {}
        for trial in kinds:
            found = self._own_run(listed, kinds, groups, trial)
            if found is not None:
                group, summary = found
                trials[trial], chosen[trial] = summary.trials[trial], group.name
                origins[trial] = Origin(True, summary.made[:10])
            elif trial in shipped and reference is not None:
                trials[trial] = shipped[trial]
                origins[trial] = self._origin(name, False, reference["made"])
        made = max((one.made for one in listed.latest.values()), default="")
        summary = PaperSummary(listed.card, trials, listed.verdicts, made)
        return Shown(listed, summary, origins, groups, chosen, problem)

    def run(self, name: str, group: str) -> tuple[PaperSummary, Origin]:
        """Return one run: a group of settings measured here, or `<trial>-reference`.

        Raises:
            BadInputError: there is no such run, or the trial has changed since.
        """
        room, kinds = self.room(name), self.kinds(name)
        trial, _, kind = group.rpartition("-")
        reference = self._references[name]
        if kind == "reference" and reference is not None:
            trials = summary_of_reference(room.card, kinds, reference)
            if trial in trials:
                verdicts = {
                    claim.name: one.verdict
                    for claim in room.card.tested
                    if claim.trial == trial and (one := self._reference_verdicts(name).get(claim.name))
                }
                shown = PaperSummary(room.card, {trial: trials[trial]}, verdicts, reference["made"])
                return shown, self._origin(name, False, reference["made"])
        found = self.index.find(name, group)
        if found is None:
            raise BadInputError(f"{name} has no run {group!r}")
        summary = summary_of_group(room.card, kinds, found)
        about = {claim.name for claim in room.card.tested if claim.trial == found.trial}
        verdicts = {key: verdict for key, verdict in summary.verdicts.items() if key in about}
        return PaperSummary(room.card, summary.trials, verdicts, summary.made), Origin(
            True, summary.made[:10]
        )

    def run_names(self, name: str) -> list[str]:
        """Return the names of a paper's runs: those measured here, newest first, then the reference run's.

        A run whose trial has changed since cannot be shown any more and is left out.
        """
        card, kinds = self.room(name).card, self.kinds(name)
        own = [group.name for group in self.index.groups(name) if _readable(card, kinds, group)]
        reference = self._references[name]
        shipped = summary_of_reference(card, kinds, reference) if reference else {}
        return own + [f"{trial}-reference" for trial in shipped]

    def stamp(self) -> object:
        """Return something that changes when a list of papers would look different."""
        return tuple(self._mark(name) for name in self.rooms)

    def paper_stamp(self, name: str) -> object:
        """Return something that changes when a paper's page would look different."""
        return self._mark(name), tuple((group.name, group.changed) for group in self.index.groups(name))

    def evidence_stamp(self) -> object:
        """Return something that changes when the list of all evidence would look different."""
        return tuple((group.paper, group.name, group.changed) for group in self.index.everything())

    def _readable(self, rooms: Mapping[str, Room]) -> dict[str, Room]:
        readable = {}
        for name, room in rooms.items():
            try:
                readable[room.card.name] = room
            except PapertrialError as error:
                self.problems.append(f"{name}: {error}")
        return readable

    def _mark(self, name: str) -> object:
        try:
            found = (self.index.root / name / "verdicts.json").stat(follow_symlinks=False)
        except OSError:
            return "none"
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _reference_verdicts(self, name: str) -> dict[str, Latest]:
        if name not in self._shipped:
            reference = self._references[name]
            self._shipped[name] = verdicts_in(reference, self.room(name).card) if reference else {}
        return self._shipped[name]

    def _origin(self, name: str, own: bool, made: str) -> Origin:
        cores = _CORES.search(str((self._references[name] or {}).get("machine", "")))
        return Origin(own, made[:10], None if own or not cores else cores[1])

    def _load(self, name: str) -> tuple[dict[str, type[Trial]], str | None]:
        if name not in self._kinds:
            room = self.room(name)
            if room.card.status == "docket":
                self._kinds[name] = ({}, None)
            else:
                try:
                    self._kinds[name] = (room.trials(), None)
                except Exception as error:  # a plug-in may raise anything; the other papers go on
                    self._kinds[name] = ({}, f"{type(error).__name__}: {error}")
        return self._kinds[name]

    def _own_run(
        self, listed: Listed, kinds: Mapping[str, type[Trial]], groups: tuple[Group, ...], trial: str
    ) -> tuple[Group, PaperSummary] | None:
        """Return the run that the trial's latest verdicts rest on, where it was measured here."""
        commands = [
            listed.latest[claim.name].command
            for claim in listed.card.tested
            if claim.trial == trial and claim.name in listed.origins and listed.origins[claim.name].own
        ]
        for group in groups:
            if not commands or group.trial != trial:
                continue
            try:
                settings = trial_of_group(listed.card, kinds, group)
            except BadInputError:
                continue
            if _settings_of(command_for(f"{listed.card.name}.{trial}", settings)) == _settings_of(
                commands[0]
            ):
                return group, summary_of_group(listed.card, kinds, group)
        return None


def _readable(card: Card, kinds: Mapping[str, type[Trial]], group: Group) -> bool:
    try:
        trial_of_group(card, kinds, group)
    except BadInputError:
        return False
    return True


def _verdict(claim: Claim, latest: Mapping[str, Latest]) -> Verdict:
    if claim.untested is not None:
        return Verdict(claim.name, "untested", notes=(claim.untested,))
    return latest[claim.name].verdict if claim.name in latest else Verdict(claim.name, "not measured")


def _settings_of(command: str) -> str:
    """Return a command without how many seeds and which arms were measured."""
    return re.sub(r" --(?:seeds|arms) \S+", "", command)
