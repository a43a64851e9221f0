"""What the pages show: papers, days, claims, evidence, comparisons, in both languages, and nothing hostile."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from html.parser import HTMLParser

import feedparser
import pytest

VOID = frozenset({"meta", "link", "br", "hr", "img", "input", "path", "circle", "rect", "line"})


class Outline(HTMLParser):
    """Collects what a page could do to a reader, and complains where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.scripts, self.handlers, self.links, self.styles, self.ids = [], [], [], [], [], []
        self.texts = []
        self.feed(text)
        assert self.open == []
        assert len(self.ids) == len(set(self.ids)), "an id occurs twice"

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.handlers += [name for name in named if name.startswith("on")]
        self.styles += [tag] if tag == "style" or "style" in named else []
        self.links += [named[name] for name in ("href", "src", "action", "data-events") if named.get(name)]
        self.ids += [named["id"]] if "id" in named else []
        if tag == "script":
            self.scripts.append(named.get("src"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        named = dict(attributes)
        self.styles += [tag] if "style" in named else []

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def every_page(library):
    from papertrial.site.pages import Pages

    pages = Pages(library)
    return [path for path in pages.every() if path == "" or path.endswith("/")]


@pytest.mark.parametrize("language", ["", "ko/"])
def test_every_page_is_whole_inert_and_within_its_weight(client, library, measure, language):
    measure()
    paths = every_page(library)
    assert len(paths) > 9
    for path in paths:
        answer = client.get(f"/{language}{path}")
        assert answer.status_code == 200, path
        outline = Outline(answer.text)
        assert outline.scripts == ["../" * (path.count("/") + bool(language)) + "static/app.js"], path
        assert not outline.handlers, path
        assert not outline.styles, f"{path}: the policy forbids styles inside a page"
        assert all(re.match(r"https://|[./#\w?-]", link) for link in outline.links)
        assert not any(link.lower().startswith(("javascript:", "data:")) for link in outline.links), path
        assert "\u202e" not in answer.text, f"{path}: the writing direction is turned round"
        assert len(answer.content) < 200_000
        assert f'<html lang="{language[:2] or "en"}">' in answer.text


def test_every_link_of_the_site_leads_somewhere(client, library, measure):
    measure()
    from urllib.parse import urljoin, urlsplit

    seen, waiting = set(), ["http://127.0.0.1:8321/", "http://127.0.0.1:8321/ko/"]
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        answer = client.get(address)
        assert answer.status_code == 200, address
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        for link in Outline(answer.text).links:
            target = urljoin(address, link).partition("#")[0]
            own = urlsplit(target).netloc == "127.0.0.1:8321"
            if own and "/cancel" not in target and "sort=" not in target:
                waiting.append(target)
    assert len(seen) > 25


def test_hostile_text_is_shown_as_text(client):
    text = client.get("/papers/hostile/").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text
    assert "<svg onload" not in text
    assert "<img src=x" not in text
    assert "<code>javascript:alert(3)</code>" in text, "an address of no known kind is shown, not linked"
    said = "".join(Outline(text).texts)
    assert 'Sparse <script>alert(1)</script> gnp.exe & "quotes"' in said


def test_home_lists_days_newest_first_with_totals(client, measure):
    measure()
    text = client.get("/").text
    days = re.findall(r'<h2><a href="[^"]*"><time datetime="([\d-]+)"', text)
    assert days == sorted(days, reverse=True)
    assert days[0] == "2025-01-02"
    # 4 claims of the made-up paper, apollo's, one of the hostile card
    claims, holds = re.search(r"3 papers · (\d+) claims: (\d+) hold", text).groups()
    assert int(claims) == 4 + 20 + 1
    assert int(holds) >= 2
    assert "✔ 2 holds" in text
    assert "measured here" in text
    assert "reference run, 2 CPU cores" in text
    assert "on the docket" in text


@pytest.mark.parametrize(
    ("query", "shown", "hidden"),
    [
        ("q=runner", "lab_paper", "apollo"),
        ("q=APOLLO+memory", "apollo", "lab_paper"),
        ("field=efficient&q=2501.00001", "lab_paper", "apollo"),
        ("verdict=not+measured", "lab_paper", "apollo"),
        ("verdict=fails", "apollo", "lab_paper"),
    ],
)
def test_lists_are_filtered_without_a_script(client, measure, query, shown, hidden):
    measure()
    for page in ("/", "/papers/"):
        text = client.get(f"{page}?{query}").text
        assert f"papers/{shown}/" in text
        assert f"papers/{hidden}/" not in text
    assert "Nothing matches" in client.get("/?q=nosuchword").text


def test_claims_are_sorted_without_a_script(client):
    text = client.get("/claims/?sort=paper").text
    names = re.findall(r'<tr data-row[^>]*>\s*<td><a href="\.\./papers/(\w+)/"', text)
    assert names == sorted(names)
    words = re.findall(r'data-verdicts="([\w ]+)"', client.get("/claims/?sort=verdict").text)
    order = ["holds", "fails", "undecided", "untested", "not measured"]
    assert words == sorted(words, key=order.index)
    assert len(words) == 25
    assert 'aria-sort="ascending"' in text


def test_a_paper_shows_own_evidence_and_the_reference_otherwise(client, measure):
    before = client.get("/papers/lab_paper/").text
    assert "not measured" in before
    assert 'class="plot"' not in before
    measure()
    text = client.get("/papers/lab_paper/").text
    assert "measured here" in text
    assert text.count('class="plot"') == 3, "the curve, the loss, the bytes"
    assert 'class="interval"' in text
    assert "papertrial try lab_paper.noise" in text
    assert "needs a cluster" in text
    reference = client.get("/papers/apollo/").text
    assert "reference run, 2 CPU cores" in reference
    assert "CC-BY-NC" in reference or "licence" in reference


def test_quick_or_other_settings_do_not_stand_for_the_verdict(client, measure):
    measure()
    other = measure(kept=False, gap=2.5).name
    text = client.get("/papers/lab_paper/").text
    assert "gap</dt><dd>1.0" in text, "the run that the verdicts rest on is shown"
    assert f"papers/lab_paper/runs/{other}/" in text
    run = client.get(f"/papers/lab_paper/runs/{other}/").text
    assert "gap = 2.5" in run
    assert "✔ holds" in run


def test_two_runs_are_compared(client, measure):
    first, second = measure().name, measure(gap=2.5).name
    text = client.get(f"/papers/lab_paper/compare/?a={first}&b={second}").text
    assert text == client.get(f"/papers/lab_paper/compare/?a={first}&b={second}").text
    assert re.search(r'<th scope="row">gap</th><td>1.0</td><td>2.5</td>', text)
    assert "noise</th>" not in text, "settings that are equal are left out"
    assert 'class="plot"' in text
    rows = re.findall(r"<tr><td>(\w+)[^<]*</td><th scope=\"row\">(\w+)</th>(.*?)</tr>", text)
    assert {(metric, arm) for metric, arm, _ in rows} == {
        (metric, arm) for metric in ("loss", "bytes") for arm in ("baseline", "method")
    }
    assert client.get("/papers/lab_paper/compare/").status_code == 200
    assert "Choose two runs" in client.get("/papers/lab_paper/compare/?a=x&b=../../etc").text


def test_values_are_given_unrounded(client, measure):
    folder = measure()
    raw = json.loads((folder / "measured" / "method.seed-0.json").read_text())[0]["metrics"]["loss"]
    rows = list(csv.DictReader(io.StringIO(client.get("/papers/lab_paper/measurements.csv").text)))
    found = [row for row in rows if (row["arm"], row["seed"], row["metric"]) == ("method", "0", "loss")]
    assert [float(row["value"]) for row in found] == [raw]
    whole = client.get("/papers/lab_paper/measurements.json").json()
    assert whole["trials"]["noise"]["measurements"][1]["metrics"]["loss"] == raw


def test_pages_are_kept_until_what_they_show_changes(client, measure):
    first = client.get("/papers/lab_paper/", headers={"accept-encoding": "gzip"})
    assert first.headers["content-encoding"] == "gzip"
    tag = first.headers["etag"]
    again = client.get("/papers/lab_paper/", headers={"if-none-match": f'"other", W/{tag}'})
    assert again.status_code == 304
    assert again.content == b""
    measure()
    assert client.get("/papers/lab_paper/", headers={"if-none-match": tag}).status_code == 200
    plain = client.get("/papers/lab_paper/", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.compress(plain.content, 6, mtime=0)


def test_unknown_pages_say_so_plainly(client):
    for path in (
        "/papers/nothing/",
        "/days/2025-13-45/",
        "/days/1999-01-01/",
        "/ko/nothing",
        "/papers/apollo/x",
    ):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"].startswith("text/html")
    assert client.get("/papers/apollo").headers["location"] == "/papers/apollo/"
    assert client.get("/papers/lab_paper/runs/noise-0000000000/").status_code == 404


def test_feeds_parse(client):
    for kind in ("atom", "rss"):
        answer = client.get(f"/feed.{kind}")
        found = feedparser.parse(answer.content)
        assert not found.bozo
        assert any("APOLLO" in entry.title for entry in found.entries)


def test_collected_days_are_shown_beside_the_cards(client, home):
    from datetime import date

    from papertrial.digest.json_format import render_json
    from papertrial.digest.records import Day, Entry, GroundedNumber, Grounding, Paper

    number = GroundedNumber("4.5x", "headline", 8, 12, 4.5, "x", "absent")
    fresh = Entry(
        Paper("2501.09999", "A <b>bold</b> title", upvotes=42, github="javascript:alert(1)"),
        sections={"headline": "It runs 4.5x faster & <i>well</i>."},
        grounding=Grounding((number,), "abstract"),
    )
    known = Entry(Paper("2501.00001", "As listed"), sections={"headline": "Known."})
    day = Day(date(2025, 1, 2), (fresh, known), "hf", complete=False, reason="it is early")
    file = home / "digest" / "hf" / "2025-01-02.json"
    file.parent.mkdir(parents=True)
    file.write_text(render_json([day]), encoding="utf-8")
    text = client.get("/").text
    assert "A &lt;b&gt;bold&lt;/b&gt; title" in text
    assert "42 votes" in text
    assert text.count("A Paper: Made Up for the Tests") == 1, "card and entry are one"
    whole = client.get("/days/2025-01-02/").text
    assert "it is early" in whole
    assert 'class="number absent"' in whole
    assert "javascript:alert(1)" not in whole
    assert "&lt;i&gt;well&lt;/i&gt;" in whole
    Outline(whole)
    file.write_text("{broken", encoding="utf-8")
    assert client.get("/days/2025-01-02/?x").status_code == 200


def test_a_summarised_day_comes_before_what_was_only_collected(client, home):
    import os
    from datetime import date

    from papertrial.digest.json_format import render_json
    from papertrial.digest.records import Day, Entry, Paper

    paper = Paper("2501.09999", "A paper without a card")
    for name, headline, age in (
        ("hf/2025-01-03", "Only collected.", 0),
        ("made/2025-01-03-hf-0123abcd", "Summarised first.", 20),
        ("made/2025-01-03-hf-4567cdef", "Summarised last.", 10),
    ):
        file = home / "digest" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            render_json([Day(date(2025, 1, 3), (Entry(paper, sections={"headline": headline}),), "hf")])
        )
        os.utime(file, (1_000_000_000 - age, 1_000_000_000 - age))
    text = client.get("/days/2025-01-03/").text
    assert "Summarised last." in text
    assert "Only collected." not in text


def test_every_text_of_the_templates_is_translated():
    from importlib import resources

    from papertrial.site.words import KOREAN, LANGUAGES
    from papertrial.trial.card import FIELDS
    from papertrial.trial.verdict import SIGNS

    asked = set(SIGNS) | set(FIELDS)
    for package in ("papertrial.site", "papertrial.trial"):
        for file in (resources.files(package) / "templates").iterdir():
            if file.name.endswith(".jinja"):
                asked |= set(re.findall(r'\bt\("((?:[^"\\]|\\.)*)"', file.read_text()))
    assert len(asked) > 90
    assert asked <= set(KOREAN), sorted(asked - set(KOREAN))
    assert set(LANGUAGES) == {"en", "ko"}


def test_a_broken_card_takes_no_other_down(rooms, home, tmp_path):
    from papertrial.site.library import Library
    from papertrial.site.pages import Pages
    from papertrial.trial.rooms import Room

    folder = tmp_path / "efficient" / "broken"
    folder.mkdir()
    (folder / "card.toml").write_text("title = 3")
    library = Library(home, {**rooms, "broken": Room("broken", "efficient", folder, "broken")})
    assert set(library.rooms) == set(rooms)
    assert "broken" in Pages(library).find("").render()


def test_trials_that_cannot_be_loaded_leave_card_and_verdicts(rooms, home, measure):
    from dataclasses import replace

    from papertrial.site.library import Library
    from papertrial.site.pages import Pages

    measure()
    gone = replace(rooms["lab_paper"], package="no_such_package")
    text = Pages(Library(home, {"lab_paper": gone})).find("papers/lab_paper/").render()
    assert "ModuleNotFoundError" in text
    assert "✔ holds" in text
