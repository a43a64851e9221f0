"""The pages of one paper: itself, its runs, two of them side by side, its values as CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from markupsafe import Markup

from papertrial.site.comparing import compare
from papertrial.site.library import Library, Origin, Shown
from papertrial.site.rendering import Address, Renderer, origin_text, page_words
from papertrial.trial.card import Claim
from papertrial.trial.embedding import media_tag
from papertrial.trial.evidence import Evidence
from papertrial.trial.files import to_json
from papertrial.trial.posters import poster
from papertrial.trial.sheets import media_kind
from papertrial.trial.summary import PaperSummary, TrialSummary

_COMPARED = 8


class PaperPages:
    """Makes them.

    Args:
        library: the papers.
        renderer: fills in the templates.
    """

    def __init__(self, library: Library, renderer: Renderer) -> None:
        self.library = library
        self.render = renderer.render

    def pairs(self, name: str) -> list[tuple[str, str]]:
        """Return the pairs of a paper's runs that a static site compares: of one trial, the newest few."""
        runs = self.library.run_names(name)[:_COMPARED]
        return [
            (one, other)
            for at, one in enumerate(runs)
            for other in runs[at + 1 :]
            if one.rpartition("-")[0] == other.rpartition("-")[0]
        ]

    def paper(self, address: Address, name: str) -> str:
        """Return a paper's page."""
        shown = self.library.show(name)
        return self.render(
            "paper.html.jinja",
            address,
            paper=shown.summary,
            shown=shown,
            origins={key: origin_text(one, address.language) for key, one in shown.origins.items()},
            scale_of=partial(_scale_of, shown),
            raw_values=partial(_raw_values, address),
            artifact=partial(_artifact, address, name),
            runs=self.library.run_names(name),
            pairs=self.pairs(name),
        )

    def run(self, address: Address, name: str, run: str) -> str:
        """Return the page of one run."""
        summary, origin = self.library.run(name, run)
        trial = next(iter(summary.trials.values()))
        return self.render(
            "evidence_run.html.jinja",
            address,
            paper=_about_one_trial(summary),
            trial=trial,
            run=run,
            origins={trial.name: origin_text(origin, address.language)},
            scale_of=lambda claim, paper: "",
            raw_values=partial(_raw_values, address),
            artifact=partial(_artifact, address, name),
            others=[one for one in self.library.run_names(name) if one != run],
        )

    def compare(self, address: Address, name: str, runs: Sequence[str]) -> str:
        """Return two runs side by side; without two, the form that asks for them."""
        names = self.library.run_names(name)
        chosen = [run for run in runs if run in names]
        comparison = None
        origins: list[Origin] = []
        if len(chosen) == 2:
            (one, first), (other, second) = (self.library.run(name, run) for run in chosen)
            comparison, origins = compare(one, other), [first, second]
        return self.render(
            "compare.html.jinja",
            address,
            card=self.library.room(name).card,
            names=names,
            chosen=chosen,
            comparison=comparison,
            from_where=[origin_text(one, address.language) for one in origins],
        )

    def measurements_csv(self, name: str) -> str:
        """Return every measurement that the paper's page shows, unrounded."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["trial", "arm", "seed", "metric", "value", "point"])
        for trial in self.library.show(name).summary.trials.values():
            for one in trial.measurements:
                point = to_json(dict(one.point)).decode() if one.point else ""
                for metric, value in one.metrics.items():
                    writer.writerow([trial.name, one.arm, one.seed, metric, repr(value), point])
        return text.getvalue()

    def measurements_json(self, name: str) -> bytes:
        """Return everything that the paper's page shows."""
        shown = self.library.show(name)
        return to_json(shown.summary.as_json(), indent=1)


def artifact_files(library: Library, name: str) -> Iterator[tuple[str, str]]:
    """Yield every artifact of a paper's runs: run, path below it, file."""
    for group in library.index.groups(name):
        for path in Evidence(group.folder).artifacts():
            yield group.name, path.as_posix()


def _artifact(address: Address, name: str, trial: TrialSummary, path: Path) -> Markup:
    """Return an artifact as a picture, a video, or a link to its file."""
    assert trial.folder is not None
    target = address.asset(f"papers/{name}/runs/{trial.folder.name}/{path.as_posix()}")
    says = f"{path.stem}: {path.parent.name}"
    kind = media_kind(path)
    if kind == "picture":
        return Markup('<a href="{0}"><img src="{0}" alt="{1}" loading="lazy"></a>').format(target, says)
    if kind == "video":
        return media_tag(kind, target, says, poster(trial.folder / path))
    return Markup('<a href="{}">{}</a>').format(target, path.name)


def _about_one_trial(summary: PaperSummary) -> PaperSummary:
    """Return a summary whose card has only the claims that its verdicts are about."""
    claims = tuple(claim for claim in summary.card.claims if claim.name in summary.verdicts)
    return replace(summary, card=replace(summary.card, claims=claims))


def _scale_of(shown: Shown, claim: Claim, paper: PaperSummary) -> str:
    latest = shown.listed.latest.get(claim.name)
    return latest.scale if latest else ""


def _raw_values(address: Address, paper: PaperSummary, trial: TrialSummary) -> Markup:
    root = f"papers/{paper.card.name}/measurements"
    words = page_words(address)["t"]("unrounded values")
    return Markup('{}: <a href="{}">CSV</a> · <a href="{}">JSON</a>').format(
        words, address.link(f"{root}.csv"), address.link(f"{root}.json")
    )
