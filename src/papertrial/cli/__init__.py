"""The command line: a thin entry that imports a command only when it is called."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence

from papertrial.errors import PapertrialError, unknown
from papertrial.threads import let_threads_sleep

COMMANDS = {
    "digest": "read a day's papers with their verdicts; collect and write new days",
    "papers": "list all papers with their latest verdicts, or show one",
    "try": "put papers on trial: measure, judge, report",
    "apply": "use a paper's method on your own model, data or document",
    "evidence": "show what has been measured and where it lies; export it",
    "serve": "show the digest as a web page, every paper with its evidence; start a trial, watch it live",
    "site": "write the same pages as files for any host",
    "new": "make a room for a paper, from its arXiv id",
}

_RAN, _BAD_INPUT, _INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: ran to the end, whatever the verdicts; 1: a measurement failed; 2: bad input; 130: interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            sys.stdout.write(_usage())
            return _RAN if words else _BAD_INPUT
        if words[0] in ("-V", "--version"):
            from importlib.metadata import version

            sys.stdout.write(f"papertrial {version('papertrial')}\n")
            return _RAN
        if words[0] not in COMMANDS:
            raise unknown("command", words[0], COMMANDS)
        signal.signal(signal.SIGTERM, _interrupt)
        let_threads_sleep()
        module = "trying" if words[0] == "try" else words[0]
        code: int = importlib.import_module(f"papertrial.cli.{module}").run(words[1:])
        return code
    except PapertrialError as error:
        sys.stderr.write(f"papertrial: {error}\n")
        return _BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("papertrial: interrupted\n")
        return _INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return _RAN


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _usage() -> str:
    lines = [
        "papertrial: put the paper of the day on trial",
        "",
        "usage: papertrial COMMAND [-h] …",
        "",
        *(f"  {name:<10} {what}" for name, what in COMMANDS.items()),
        "",
        "papertrial COMMAND -h explains a command. Evidence lies in $PAPERTRIAL_HOME (~/.papertrial).",
    ]
    return "\n".join(lines) + "\n"
