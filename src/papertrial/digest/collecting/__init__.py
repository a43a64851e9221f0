"""Collecting: a day's papers and their texts, from the Hub, from arXiv or from files."""

from __future__ import annotations

from papertrial.digest.collecting.clock import Clock, days_of_week, read_date
from papertrial.digest.collecting.days import SOURCES, collect, collect_ids, collect_week, folder_of
from papertrial.digest.collecting.filters import by_votes, choose, found_keywords, matches_keywords
from papertrial.digest.collecting.fulltext import read_text
from papertrial.digest.collecting.paper_text import PaperText, Section
from papertrial.digest.collecting.politeness import RemoteError
from papertrial.digest.collecting.store import DayStore
from papertrial.digest.collecting.watching import Watched, watch
from papertrial.digest.collecting.web import Remotes, Web

__all__ = [
    "SOURCES",
    "Clock",
    "DayStore",
    "PaperText",
    "RemoteError",
    "Remotes",
    "Section",
    "Watched",
    "Web",
    "by_votes",
    "choose",
    "collect",
    "collect_ids",
    "collect_week",
    "days_of_week",
    "folder_of",
    "found_keywords",
    "matches_keywords",
    "read_date",
    "read_text",
    "watch",
]
