"""`papertrial site DIR`: the same pages as static files, for any host."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from papertrial.cli.options import help_text, parse_known, refuse_unknown, split_names, wants_help
from papertrial.errors import BadInputError
from papertrial.home import home


@dataclass(frozen=True)
class SiteOptions:
    """Write the pages as static files into a folder.

    Attributes:
        base: the address at which the site will lie, for its feeds ("https://example.org/papers/").
    """

    base: str | None = None


def run(words: Sequence[str]) -> int:
    """Run `papertrial site DIR [--base URL]`."""
    names, rest = split_names(words)
    if wants_help(rest):
        sys.stdout.write(help_text(SiteOptions, "papertrial site DIR"))
        return 0
    options, left = parse_known(SiteOptions, rest, "papertrial site DIR")
    refuse_unknown(left, [SiteOptions], "papertrial site")
    if len(names) != 1:
        raise BadInputError("name one folder: papertrial site DIR")
    from papertrial.site.rendering import safe_url
    from papertrial.site.static_site import write_site

    if options.base is not None and safe_url(options.base) is None:
        raise BadInputError(f"--base must be an http or https address, got {options.base!r}")
    folder = Path(names[0]).expanduser().absolute()
    count = write_site(home(), folder, options.base)
    sys.stdout.write(f"{count} files in {folder}; open {folder / 'index.html'}\n")
    return 0
