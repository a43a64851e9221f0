"""`papertrial serve`: the digest as a web page, every paper with its evidence."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from papertrial.cli.options import help_text, parse_known, refuse_unknown, split_names, wants_help
from papertrial.errors import BadInputError
from papertrial.home import home


@dataclass(frozen=True)
class ServeOptions:
    """Serve the papers as web pages: read, compare, put on trial, watch.

    Attributes:
        host: the address to listen on; by default only this machine can reach it.
        port: the port; 0 takes a free one.
        token: what readers must show (also $PAPERTRIAL_TOKEN); made and printed where others can reach the
            address and none is given.
        public: let readers without the token read; starting trials needs it all the same.
        name: a further name by which the server is called, behind a proxy.
        at_once: how many trials run at the same time; the rest wait.
        open: open the page in a browser.
    """

    host: str = "127.0.0.1"
    port: int = 8321
    token: str | None = None
    public: bool = False
    name: str | None = None
    at_once: int = 1
    open: bool = False


def run(words: Sequence[str]) -> int:
    """Run `papertrial serve [options]` until it is interrupted."""
    names, rest = split_names(words)
    if wants_help(rest):
        sys.stdout.write(help_text(ServeOptions, "papertrial serve"))
        return 0
    options, left = parse_known(ServeOptions, rest, "papertrial serve")
    refuse_unknown([*names, *left], [ServeOptions], "papertrial serve")
    if options.at_once < 1:
        raise BadInputError(f"--at-once must be at least 1, got {options.at_once}")
    from papertrial.site.security import TOKEN_VARIABLE
    from papertrial.site.serving import address_of, bind, make_access, serve

    token = options.token or os.environ.get(TOKEN_VARIABLE) or None
    access = make_access(options.host, token, options.public, (options.name,) if options.name else ())
    listener = bind(options.host, options.port)
    address = address_of(listener, options.host)
    shown = f"{address}?token={access.token}" if access.token else address
    sys.stdout.write(f"papertrial: {shown}\n(evidence in {home()}; Ctrl-C ends)\n")
    sys.stdout.flush()
    if options.open:
        import webbrowser

        webbrowser.open(shown)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how one ends it
        serve(home(), listener, access, address, options.at_once)
    return 0
