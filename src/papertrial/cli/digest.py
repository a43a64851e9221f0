"""`papertrial digest`: a day's papers, read, collected, summarised, grounded and written."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from papertrial.cli.options import help_text, parse_known, refuse_unknown, split_names, wants_help
from papertrial.digest.pipeline import Making, find_days, made_dates
from papertrial.digest.records import Day
from papertrial.errors import BadInputError, unknown
from papertrial.home import home

SUFFIXES = {
    "table": ".table.md",
    "entries": ".entries.md",
    "html": ".html",
    "json": ".json",
    "jsonl": ".jsonl",
    "rss": ".rss.xml",
    "atom": ".atom.xml",
}
_SHOWN_WARNINGS = 5
_WEEK = re.compile(r"[0-9]{4}-W[0-9]{2}")


@dataclass(frozen=True)
class DigestOptions:
    """Read a day's papers, each with what was found of it here; collect and write new days.

    Without a day: list the days there are. A day that has cards here comes from them, in our own words; any
    other is collected from the Hub, its papers summarised, and each number of a summary traced to its paper.

    Attributes:
        format: how it is shown or written: table (the English digest's Markdown), entries (the Korean
            digest's), html, json, jsonl, rss, atom; several joined by commas go to files of the folder
            `--out`. By default it is laid out for the terminal.
        lang: the language of the summaries.
        source: where the papers come from: auto, cards, hf (the Hub's daily papers), arxiv, or a digest file.
        out: write to this file, or to files in this folder.
        model: who writes the summaries: an endpoint's address ending in /v1, a hub id, or a folder. By
            default they are made of the paper's own sentences.
        model_name: which of an endpoint's models.
        key: the name of the environment variable that holds the endpoint's key.
        ground: what is done about numbers that the paper does not have: mark them, ask again and then delete
            their clause (strict), or do not look (off).
        text: which text of a paper is read.
        keywords: only papers whose title or abstract has one of these words, separated by commas.
        prompt: a file with your own instructions for the model.
        refresh: ask the source again, even for a day that is complete; earlier votes are kept.
        offline: take only what was collected before.
        base: the address at which feeds will lie.
        legacy: write a table exactly as the public digest does.
        watch: collect every day until stopped.
        once: with --watch: look once and end, as from cron.
        every: with --watch: hours between two looks.
    """

    format: str = "terminal"
    lang: str = "en"
    source: str = "auto"
    out: Path | None = None
    model: str | None = None
    model_name: str | None = None
    key: str | None = None
    ground: Literal["mark", "strict", "off"] = "mark"
    text: Literal["full", "abstract"] = "full"
    keywords: str | None = None
    prompt: Path | None = None
    refresh: bool = False
    offline: bool = False
    base: str | None = None
    legacy: bool = False
    watch: bool = False
    once: bool = False
    every: float = 6.0


def run(words: Sequence[str]) -> int:
    """Run `papertrial digest [DAY | WEEK | FILE] …` and return the exit code."""
    names, rest = split_names(words)
    if wants_help(rest):
        sys.stdout.write(help_text(DigestOptions, "papertrial digest [DAY | WEEK | FILE]"))
        return 0
    options, left = parse_known(DigestOptions, rest, "papertrial digest [DAY | WEEK | FILE]")
    refuse_unknown(left, [DigestOptions], "papertrial digest")
    if len(names) > 1:
        raise BadInputError(f"name one day or one file, got {' '.join(names)}; options begin with --")
    formats = _formats(options)
    if options.watch:
        if names:
            raise BadInputError(f"--watch collects every day; leave out {names[0]!r}")
        return _watch(options, formats)
    if not names:
        _list()
        return 0
    making, days = _making(options), []
    for when, source in _wanted(names[0], options):
        days += find_days(when, source, making, home(), _say)
    _write(days, formats, options)
    return 0


def _wanted(word: str, options: DigestOptions) -> list[tuple[date | None, str]]:
    """Return the days and their source that a user means; a file is both at once."""
    if Path(word).suffix or Path(word).is_file():
        if options.source != "auto":
            raise BadInputError(f"{word} is a file, so it needs no --source {options.source}")
        return [(None, word)]
    today = datetime.now(UTC).date()
    if _WEEK.fullmatch(word):
        from papertrial.digest.collecting import days_of_week

        begun = [when for when in days_of_week(word) if when <= today]
        if not begun:
            raise BadInputError(f"the week {word} has not begun yet; today is {today} (UTC)")
        return [(when, options.source) for when in begun]
    if word in ("today", "yesterday"):
        return [(today if word == "today" else date.fromordinal(today.toordinal() - 1), options.source)]
    try:
        when = date.fromisoformat(word)
    except ValueError:
        raise BadInputError(
            f"{word!r} is no day; write it as 2025-05-07, today, yesterday or 2025-W19, or name a digest file"
        ) from None
    if when > today:
        raise BadInputError(f"{when} has not come yet; today is {today} (UTC)")
    return [(when, options.source)]


def _making(options: DigestOptions) -> Making:
    return Making(
        lang=options.lang,
        model=options.model,
        model_name=options.model_name,
        key=options.key,
        ground=options.ground,
        text=options.text,
        keywords=tuple(word.strip() for word in (options.keywords or "").split(",") if word.strip()),
        prompt=options.prompt,
        refresh=options.refresh,
        offline=options.offline,
    )


def _formats(options: DigestOptions) -> list[str]:
    formats = [name.strip() for name in options.format.split(",")]
    for name in formats:
        if name not in SUFFIXES and name != "terminal":
            raise unknown("format", name, [*SUFFIXES, "terminal"])
    if options.out is None and len(formats) > 1:
        raise BadInputError(f"several formats ({options.format}) need a folder: add --out FOLDER")
    if options.out is not None and formats == ["terminal"]:
        by_suffix = [name for name, suffix in SUFFIXES.items() if options.out.name.endswith(suffix)]
        if not by_suffix:
            raise BadInputError(f"say how to write {options.out}: add --format ({', '.join(SUFFIXES)})")
        return by_suffix[:1]
    return formats


def _write(days: Sequence[Day], formats: Sequence[str], options: DigestOptions) -> list[Path]:
    """Show the days, or write them to files; return the files."""
    for day in days:
        _warn(day)
    if options.out is None:
        _show(days, formats[0], options)
        return []
    from papertrial.trial.files import write_atomically

    single = len(formats) == 1 and not options.out.is_dir() and bool(options.out.suffix)
    name = "+".join(str(day.date) for day in days) if len(days) <= 2 else f"{days[0].date}…{days[-1].date}"
    files = []
    for one in formats:
        file = options.out if single else options.out / f"{name}{SUFFIXES[one]}"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, _render(days, one, options).encode())
        except OSError as error:
            raise BadInputError(f"cannot write {file}: {error.strerror or error}") from error
        sys.stdout.write(f"{file}\n")
        files.append(file)
    return files


def _show(days: Sequence[Day], how: str, options: DigestOptions) -> None:
    if how != "terminal":
        sys.stdout.write(_render(days, how, options))
        return
    from papertrial.digest.terminal import show_day

    for day in days:
        show_day(day)


def _render(days: Sequence[Day], how: str, options: DigestOptions) -> str:
    from papertrial.digest import entries_format, feeds, html_format, json_format, table_format

    base = options.base or feeds.HOME
    memory = feeds.FeedMemory(home() / "digest" / "feed.json")
    writers: dict[str, Callable[[], str]] = {
        "table": lambda: "".join(table_format.render_table(day, legacy=options.legacy) for day in days),
        "entries": lambda: "\n".join(entries_format.render_entries(day) for day in days),
        "html": lambda: html_format.render_html(days),
        "json": lambda: json_format.render_json(days),
        "jsonl": lambda: json_format.render_jsonl(days),
        "rss": lambda: feeds.rss(days, base, memory),
        "atom": lambda: feeds.atom(days, base, memory),
    }
    return writers[how]()


def _watch(options: DigestOptions, formats: Sequence[str]) -> int:
    """Collect every day until stopped, writing each where `--out` says."""
    from papertrial.digest.collecting.watching import watch

    source = "hf" if options.source == "auto" else options.source
    if source not in ("hf", "arxiv"):
        raise BadInputError(f"--watch collects from hf or arxiv, got --source {source}")
    making = _making(options)

    def collect_day(when: date) -> Day:
        day = find_days(when, source, making, home(), _say)[0]
        if options.out is not None:
            _write([day], formats, options)
        return day

    watched = watch(collect_day, name=source, every=3600 * options.every, once=options.once, say=_say)
    return 130 if watched.interrupted else 1 if options.once and watched.failed else 0


def _list() -> None:
    from rich.console import Console
    from rich.table import Table

    from papertrial.digest.cards import card_days, day_of_cards

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in ("day", "papers", "from"):
        table.add_column(title)
    found = {}
    for when in card_days():
        day = day_of_cards(when, "en", home())
        found[when] = (len(day.entries) if day else 0, "cards, in our own words")
    for when, papers, source in made_dates(home()):
        found.setdefault(when, (papers, f"collected from {source}"))
    for when, (papers, source) in sorted(found.items(), reverse=True):
        table.add_row(str(when), str(papers), source)
    out = Console()
    out.print(table)
    out.print("papertrial digest DAY shows one; any other day is collected from the Hub.")


def _warn(day: Day) -> None:
    """Say on standard error what was irregular in a file, and what a day lacks."""
    for warning in day.warnings[:_SHOWN_WARNINGS]:
        _say(f"{day.source}, line {warning.line}: {warning.kind}; {warning.done}")
    if len(day.warnings) > _SHOWN_WARNINGS:
        _say(f"… and {len(day.warnings) - _SHOWN_WARNINGS} more irregular places (--format json lists them)")


def _say(text: str) -> None:
    sys.stderr.write(f"papertrial: {text}\n")
