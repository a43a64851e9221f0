"""The pages by which readers start trials and follow them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from anyio.to_thread import run_sync

from papertrial.errors import BadInputError, unknown
from papertrial.site.forms import Field, form_fields, read_seeds, read_settings
from papertrial.site.pages import Pages
from papertrial.site.rendering import Address
from papertrial.site.run_records import ENDED, Run
from papertrial.site.runs import Runs
from papertrial.trial.contract import Trial
from papertrial.trial.summary import command_for

_INTERVAL = 0.25  # seconds between two events at least
_KEEP_ALIVE = 15.0


@dataclass(frozen=True)
class TrialForm:
    """The form of one trial: its fields, what stands in them, and what is wrong."""

    name: str
    help: str
    arms: tuple[str, ...]
    seeds: int
    fields: list[Field]
    values: Mapping[str, str]
    errors: Mapping[str, str]


class Starting:
    """Makes these pages.

    Args:
        pages: renders them.
        runs: the queue.
    """

    def __init__(self, pages: Pages, runs: Runs) -> None:
        self.pages, self.runs = pages, runs
        self._sent: dict[tuple[str, str], tuple[object, str]] = {}
        self._drawing = threading.Lock()

    def forms_page(self, address: Address, name: str, token: str) -> str:
        """Return the page with a form for each trial of a paper.

        Raises:
            BadInputError: there is no such paper, or it has no trial here.
        """
        kinds = self._kinds(name)
        return self._forms(address, name, token, [self._form(key, kind) for key, kind in kinds.items()])

    def start(
        self, address: Address, name: str, given: Mapping[str, str], token: str
    ) -> tuple[Run | None, str]:
        """Start the trial that a form asks for; where something is wrong with it, return the page that says so."""
        kinds = self._kinds(name)
        chosen = given.get("trial", "")
        if chosen not in kinds:
            raise unknown(f"trial of {name}", chosen[:80], kinds)
        kind, quick = kinds[chosen], "quick-asked" in given
        default = kind.quick() if quick else kind()
        asked = _changed(kind, given) if quick else given
        trial, errors = read_settings(kind, default, asked)
        try:
            seeds = read_seeds(given.get("seeds-asked", ""))
        except BadInputError as error:
            seeds, errors = None, errors | {"seeds-asked": str(error)}
        if not errors:
            return self.runs.submit(name, chosen, trial, seeds, quick), ""
        forms = [
            self._form(key, one, given if key == chosen else None, errors if key == chosen else None)
            for key, one in kinds.items()
        ]
        return None, self._forms(address, name, token, forms)

    def list_page(self, address: Address) -> str:
        """Return the page with all runs."""
        return self.pages.render("runs.html.jinja", address, runs=self.runs.all(), live=True)

    def run_page(self, address: Address, name: str, token: str) -> str:
        """Return the page of one run."""
        run = self.runs.get(name)
        known = self.pages.library.rooms.get(run.paper)
        found = self.pages.library.index.find(run.paper, run.evidence) is not None and known is not None
        return self.pages.render(
            "run.html.jinja",
            address,
            title=known.card.title if known else run.paper,
            over=run.state in ENDED,
            found=found,
            form=token,
            command=self._command(run),
            live=True,
            **self._state(run),
        )

    async def events(self, address: Address, name: str) -> AsyncIterator[str]:
        """Yield server-sent events while a run changes, at most four a second, and one at its end."""
        last, spoken = "", time.monotonic()
        while not self.runs.closing:
            run = self.runs.get(name)
            kept = self._sent.get((run.id, address.language))
            unchanged = kept is not None and kept[0] == self._mark(run)
            html = kept[1] if kept and unchanged else await run_sync(self._fragment, address, run)
            if html != last:
                last, spoken = html, time.monotonic()
                yield f"event: progress\ndata: {json.dumps({'html': html})}\n\n"
            elif time.monotonic() - spoken > _KEEP_ALIVE:
                spoken = time.monotonic()
                yield ": still here\n\n"
            if run.state in ENDED:
                yield f"event: end\ndata: {json.dumps(run.state)}\n\n"
                return
            await asyncio.sleep(_INTERVAL)

    def _fragment(self, address: Address, run: Run) -> str:
        """Return what the page shows of a run now; drawn once for all readers of one language."""
        with self._drawing:
            mark = self._mark(run)
            kept = self._sent.get((run.id, address.language))
            if kept is None or kept[0] != mark:
                kept = (mark, self.pages.render("progress.jinja", address, **self._state(run)))
                self._sent[run.id, address.language] = kept
            return kept[1]

    def _mark(self, run: Run) -> object:
        """Return something that changes when a run would be shown otherwise: its clock turns once a second."""
        reader = self.runs.reader(run)
        turn = int(time.time()) if run.state == "running" else self.runs.before(run)
        return run, reader.version if reader else 0, turn

    def _state(self, run: Run) -> dict[str, Any]:
        reader = self.runs.reader(run)
        return {
            "run": run,
            "before": self.runs.before(run) if run.state == "queued" else 0,
            "progress": reader.latest if reader else None,
            "said": self.runs.said(run) if run.state != "queued" else [],
        }

    def _command(self, run: Run) -> str:
        reader = self.runs.reader(run)
        if reader is None or run.quick:
            return " ".join(["papertrial", *run.command])
        return command_for(f"{run.paper}.{run.trial}", reader.trial, run.seeds)

    def _kinds(self, name: str) -> dict[str, type[Trial]]:
        kinds = self.pages.library.kinds(name)
        if not kinds:
            raise BadInputError(f"{name} has no trial that can be started here")
        return kinds

    def _forms(self, address: Address, name: str, token: str, forms: list[TrialForm]) -> str:
        card = self.pages.library.room(name).card
        return self.pages.render("try.html.jinja", address, card=card, forms=forms, form=token, live=True)

    def _form(
        self,
        name: str,
        kind: type[Trial],
        given: Mapping[str, str] | None = None,
        errors: Mapping[str, str] | None = None,
    ) -> TrialForm:
        fields = form_fields(kind, kind())
        values = {field.name: field.value for field in fields}
        if given is not None:
            values = dict.fromkeys(values, "") | dict(given)
        about = (kind.__doc__ or "").strip().split("\n")[0]
        return TrialForm(name, about, kind.arms, kind.seeds, fields, values, errors or {})


def _changed(kind: type[Trial], given: Mapping[str, str]) -> dict[str, str]:
    """Return the answers that differ from the trial's defaults: a quick run keeps its own small values else."""
    changed = {}
    for field in form_fields(kind, kind()):
        if field.type is bool:
            if field.name in given:
                changed[field.name] = given[field.name]
        elif field.name in given and given[field.name].strip() != field.value:
            changed[field.name] = given[field.name]
    return changed
