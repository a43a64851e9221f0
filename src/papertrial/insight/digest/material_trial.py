"""What the digest's trials read: the cards' own summaries, or real days from files."""

from __future__ import annotations

from pathlib import Path

from papertrial.errors import BadInputError
from papertrial.insight.digest.statements import Source
from papertrial.trial.rooms import discover


def card_sources(lang: str = "en") -> list[Source]:
    """Return the papers of all cards, each as its title and what the card says of it in a language."""
    sources = []
    for room in discover().values():
        if room.name == "digest":  # it describes this trial
            continue
        summary = room.card.summary[lang]
        sources.append(Source(room.card.title, f"{summary.whats_new} {summary.details} {summary.results}"))
    return sources


def card_groups(lang: str = "en", size: int = 12) -> list[list[Source]]:
    """Return the cards' papers in groups as large as a day."""
    sources = card_sources(lang)
    count = max(1, round(len(sources) / size))
    return [sources[at::count] for at in range(count)]


def day_files(days: tuple[str, ...]) -> list[Path]:
    """Return the files that the setting `days` names; a folder stands for its `.md` and `.json` files.

    Raises:
        BadInputError: something is neither file nor folder, or a folder has no digest.
    """
    files: list[Path] = []
    for given in days:
        path = Path(given).expanduser()
        if path.is_dir():
            found = sorted([*path.glob("*.md"), *path.glob("*.json")])
            if not found:
                raise BadInputError(f"the folder {path} holds no digest (.md or .json)")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise BadInputError(f"days: {path} is neither a file nor a folder")
    return files


def day_groups(days: tuple[str, ...]) -> list[list[Source]]:
    """Return the papers of every day of the files, each as its title and its summary; days of one are left out.

    Raises:
        BadInputError: a file is no digest, or no day has two entries.
    """
    from papertrial.digest.reading import read_days

    groups = []
    for file in day_files(days):
        for day in read_days(file):
            papers = {
                entry.paper.id: Source(entry.paper.title, entry.summary) for entry in day if entry.summary
            }
            if len(papers) > 1:
                groups.append(list(papers.values()))
    if not groups:
        raise BadInputError("days: no day with two entries or more was found")
    return groups
