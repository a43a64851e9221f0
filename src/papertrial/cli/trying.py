"""`papertrial try`: measure, judge, report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from papertrial.cli.options import help_text, parse_known, refuse_unknown, split_names, wants_help
from papertrial.errors import BadInputError, unknown
from papertrial.home import home
from papertrial.trial.contract import Trial
from papertrial.trial.files import to_json
from papertrial.trial.latest import remember
from papertrial.trial.report import write_report
from papertrial.trial.rooms import Room, discover, find_room
from papertrial.trial.runner import Options, Result, run_trial
from papertrial.trial.summary import PaperSummary, summarise
from papertrial.trial.terminal import Progress, print_summary

_FAILED, _INTERRUPTED = 1, 130


@dataclass(frozen=True)
class TryOptions:
    """Put papers on trial: measure baseline against method, judge every claim, write a report.

    What was measured before under the same settings is not measured again.

    Attributes:
        quick: the same trials at the size of a test.
        seeds: how many seeds; each trial has its own default.
        arms: measure only these, separated by commas.
        workers: how many measurements at once; by default one for each free core.
        ray: the address of a Ray cluster ('local', 'auto' or ray://HOST:PORT).
        threads: CPU threads for each measurement.
        json: print the result as JSON; progress goes to standard error.
        open_report: open the report in a browser when it is written.
    """

    quick: bool = False
    seeds: int | None = None
    arms: str | None = None
    workers: int | None = None
    ray: str | None = None
    threads: int | None = None
    json: bool = False
    open_report: bool = False


@dataclass(frozen=True)
class _Planned:
    room: Room
    types: dict[str, type[Trial]]
    trials: dict[str, Trial]


def run(words: Sequence[str]) -> int:
    """Run `papertrial try NAME… [options] [settings]` and return the exit code."""
    names, rest = split_names(words)
    if wants_help(rest):
        sys.stdout.write(_help(names))
        return 0
    if not names:
        raise BadInputError(f"name a paper: papertrial try NAME… (papers: {', '.join(discover())})")
    options, settings = parse_known(TryOptions, rest, "papertrial try NAME…")
    _check(options)
    planned = _plan(names, settings, options.quick)
    out = Console(stderr=options.json)
    summaries = []
    for plan in planned:
        summary = _try_paper(plan, options, out)
        summaries.append(summary)
        if summary.interrupted:
            break
    return _close(summaries, options, out)


def _check(options: TryOptions) -> None:
    for name in ("seeds", "workers", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise BadInputError(f"--{name} must be at least 1, got {value}")


def _plan(names: Sequence[str], settings: Sequence[str], quick: bool) -> list[_Planned]:
    """Read the settings of every trial named; a setting must be known to at least one of them."""
    rooms = discover()
    planned: dict[str, _Planned] = {}
    left = list(settings)
    for name in names:
        paper, _, only = name.partition(".")
        room = find_room(paper, rooms)
        types = room.trials()
        if only and only not in types:
            raise unknown(f"trial of {room.name}", only, types)
        plan = planned.setdefault(room.name, _Planned(room, types, {}))
        for trial_name in [only] if only else types:
            kind = types[trial_name]
            default = kind.quick() if quick else kind()
            plan.trials[trial_name], rest = parse_known(
                kind, settings, f"papertrial try {room.name}.{trial_name}", default
            )
            left = [word for word in left if word in rest]
    kinds = [plan.types[name] for plan in planned.values() for name in plan.trials]
    refuse_unknown(
        [word for word in left if word.startswith("-")] or left, [*kinds, TryOptions], " ".join(names)
    )
    return list(planned.values())


def _try_paper(plan: _Planned, options: TryOptions, out: Console) -> PaperSummary:
    how = Options(
        home=home(),
        seeds=options.seeds,
        arms=tuple(options.arms.split(",")) if options.arms else None,
        workers=1 if options.quick and options.workers is None else options.workers,
        ray=options.ray,
        threads=options.threads,
    )
    for trial in plan.trials.values():
        trial.check()
    runs: dict[str, tuple[Trial, Result]] = {}
    for name, trial in plan.trials.items():
        with Progress(out, f"{plan.room.name}.{name}", trial) as progress:
            result = run_trial(plan.room.name, name, trial, how, progress)
        runs[name] = (trial, result)
        if result.interrupted:
            break
    summary = summarise(plan.room.card, plan.types, runs, how)
    if not options.json:
        out.print()
        print_summary(out, summary)
        out.print()
    if not options.quick:
        _keep(summary, out)
    return summary


def _keep(summary: PaperSummary, out: Console) -> None:
    try:
        remember(home(), summary)
    except OSError as error:
        out.print(f"the verdicts could not be kept: {error}", style="red")


def _close(summaries: list[PaperSummary], options: TryOptions, out: Console) -> int:
    report = _write(summaries, out)
    if options.json:
        papers = [summary.as_json() for summary in summaries]
        sys.stdout.write(
            to_json({"papers": papers, "report": report and str(report)}, indent=1).decode() + "\n"
        )
    elif report is not None:
        out.print(f"  report  {report}", soft_wrap=True)
        commands = [trial.command for summary in summaries for trial in summary.trials.values()]
        more = f"  (and {len(commands) - 1} more)" if commands[1:] else ""
        out.print(f"  again   {commands[0]}{more}", soft_wrap=True, markup=False)
    if report is not None and options.open_report:
        import webbrowser

        webbrowser.open(report.as_uri())
    if any(summary.interrupted for summary in summaries):
        return _INTERRUPTED
    return _FAILED if any(summary.failed for summary in summaries) else 0


def _write(summaries: list[PaperSummary], out: Console) -> Path | None:
    try:
        return write_report(home(), summaries)
    except OSError as error:
        out.print(f"the report could not be written: {error}", style="red")
        return None


def _help(names: Sequence[str]) -> str:
    """Return the options, and the settings of every trial named, from its own dataclass and docstring."""
    rooms = discover()
    parts = [help_text(TryOptions, f"papertrial try {' '.join(names) or 'NAME…'}")]
    for name in names:
        paper, _, only = name.partition(".")
        room = find_room(paper, rooms)
        for trial_name, kind in room.trials().items():
            if not only or trial_name == only:
                arms = ", ".join(kind.arms)
                parts.append(f"settings of {room.name}.{trial_name} (arms: {arms})\n\n")
                parts.append(help_text(kind, f"papertrial try {room.name}.{trial_name}", kind()))
    if not names:
        parts.append(f"papers: {', '.join(rooms)}\n")
    return "\n".join(parts)
