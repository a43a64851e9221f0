"""The digest put on trial: made statements, made days, and the quick scripts that it is held against.

The digest itself is `papertrial.digest`. It is no paper's: papertrial's own. Written after no arXiv paper.
"""

from __future__ import annotations

from papertrial.insight.digest.line_split import split_lines
from papertrial.insight.digest.made_days import MadeRow, make_day
from papertrial.insight.digest.statements import Source, Statement, make_statements, with_filler
from papertrial.insight.digest.string_matching import StringMatcher

__all__ = [
    "MadeRow",
    "Source",
    "Statement",
    "StringMatcher",
    "make_day",
    "make_statements",
    "split_lines",
    "with_filler",
]
