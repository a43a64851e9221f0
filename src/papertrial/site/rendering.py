"""Turning what the library knows into HTML: templates, words, addresses, and text that is never trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from importlib import metadata
from typing import Any
from urllib.parse import quote, urlsplit

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from papertrial.site.library import Origin
from papertrial.site.words import LANGUAGES, translate
from papertrial.trial.card import FIELDS
from papertrial.trial.formats import duration
from papertrial.trial.plots import curves_picture
from papertrial.trial.report import helpers

# Signs that turn the direction of what follows, and control characters: a title must not rearrange a page.
_TRICKS = re.compile("[\u0000-\u0008\u000b-\u001f\u007f\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Address:
    """Where a page lies, from which all its links are made relative.

    Attributes:
        path: below the language's root, "" or ending in "/".
        language: "en" lies at the root, others in a folder of their name.
        static: links name `index.html`, for hosts and disks that do not add it.
    """

    path: str
    language: str = "en"
    static: bool = False

    def link(self, path: str) -> str:
        """Return the address of another page in the same language."""
        return self._relative(path, self.path.count("/"))

    def asset(self, path: str) -> str:
        """Return the address of a file at the site's root."""
        return self._relative(path, self.path.count("/") + (self.language != "en"))

    def other(self, language: str) -> str:
        """Return the address of this page in another language."""
        return self.asset(self.path if language == "en" else f"{language}/{self.path}")

    def _relative(self, path: str, depth: int) -> str:
        whole = path + ("index.html" if self.static and (not path or path.endswith("/")) else "")
        return quote("../" * depth + whole, safe="/@:.-_~#?=&") or "./"


def make_environment() -> Environment:
    """Return the templates; every text put into them is escaped and cannot turn the writing direction."""
    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader("papertrial.site", "templates"), PackageLoader("papertrial.trial", "templates")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_untricked,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(helpers())
    environment.globals.update(
        version=metadata.version("papertrial"),
        languages=LANGUAGES,
        safe_url=safe_url,
        duration=duration,
        curves_picture=lambda *drawn: Markup(curves_picture(*drawn)),
        when=_when,
    )
    return environment


class Renderer:
    """Fills in templates.

    Args:
        static: pages for a host without papertrial: no forms, no server's own parts.
    """

    def __init__(self, static: bool) -> None:
        self.static = static
        self._environment = make_environment()

    def render(self, template: str, address: Address, **values: Any) -> str:
        """Return a template filled in."""
        words = page_words(address) | {
            "static": self.static,
            "day_link": partial(_day_link, address),
            "code_link": repository_link,
            "fields": FIELDS,
            "live": False,
        }
        return self._environment.get_template(template).render(words | values)


def page_words(address: Address) -> dict[str, Any]:
    """Return what every template calls with the page's language and address."""
    language = address.language
    return {
        "lang": language,
        "t": lambda text, other=None: translate(text, other or language),
        "address": address,
        "link": address.link,
        "asset": address.asset,
        "origin_text": partial(origin_text, language=language),
    }


def origin_text(origin: Origin, language: str) -> str:
    """Say whose numbers these are."""
    if origin.own:
        return f"{translate('measured here', language)}, {origin.day}"
    cores = f", {origin.cores} {translate('CPU cores', language)}" if origin.cores else ""
    return f"{translate('reference run', language)}{cores}, {origin.day}"


def safe_url(address: str | None) -> str | None:
    """Return an address from outside if a reader may follow it: http or https, with a host; None otherwise."""
    try:
        parts = urlsplit((address or "").strip())
    except ValueError:
        return None
    return parts.geturl() if parts.scheme in ("http", "https") and parts.hostname else None


def repository_link(repository: str) -> Markup:
    """Return the official code as a link, where it is a GitHub repository or an address."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        target: str | None = f"https://github.com/{repository}"
    else:
        target = safe_url(repository)
    if target is None:
        return Markup("<code>{}</code>").format(repository)
    return Markup('<a href="{}" rel="noopener">{}</a>').format(target, repository)


def totals_text(papers: int, claims: int, counts: Mapping[str, int], language: str) -> str:
    """Return the line above everything: how many papers and claims, and what became of the claims."""
    words = {"holds": "hold", "fails": "fail", "untested": "untested here"}
    if language == "ko":
        parts = [f"{translate(words.get(word, word), language)} {count}" for word, count in counts.items()]
        return f"논문 {papers}편 · 주장 {claims}개: {', '.join(parts)}"
    parts = [f"{count} {words.get(word, word)}" for word, count in counts.items()]
    return f"{papers} papers · {claims} claims: {', '.join(parts)}"


def _day_link(address: Address, day: date) -> Markup:
    return Markup('<a href="{}"><time datetime="{}">{}</time></a>').format(
        address.link(f"days/{day}/"), day, day
    )


def _untricked(value: Any) -> Any:
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _TRICKS.sub("", value)


def _when(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
