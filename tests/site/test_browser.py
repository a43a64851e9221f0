"""The pages in a real browser: read, search, filter, sort, switch language, start, watch, cancel, reload."""

from __future__ import annotations

import re

import pytest

AXE_SERIOUS = ("serious", "critical")
STEP = re.compile(r"\d+/20")  # a pair of the made-up trial has twenty steps


def shown(page):
    return page.locator("[data-row]:visible").count()


def test_search_and_filters_work_as_one_types(open_page, measure):
    measure()
    page = open_page("/")
    assert shown(page) == 3
    page.get_by_role("searchbox").fill(["runner", "noise"][0])
    assert shown(page) == 1
    assert page.get_by_role("status").inner_text() == "1 shown"
    assert page.locator("section[data-group]:visible").count() == 1
    page.get_by_role("searchbox").fill("nosuchword")
    assert page.get_by_text("Nothing matches.").is_visible()
    page.get_by_role("searchbox").fill("")
    page.get_by_label("Verdict").select_option("fails")
    assert shown(page) == 1
    assert page.locator("[data-row]:visible h3").inner_text().startswith("APOLLO")
    page.get_by_label("Verdict").select_option("")
    page.get_by_label("Field").select_option("agents")
    assert shown(page) == 0
    page.get_by_label("Field").select_option("efficient")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**/?q=*")
    assert shown(page) == 3


def test_claims_are_sorted_both_ways(open_page):
    page = open_page("/claims/")
    names = lambda: page.locator("[data-row] td:first-child").all_inner_texts()  # noqa: E731
    head = page.get_by_role("columnheader", name="paper", exact=True)
    head.get_by_role("button").click()
    assert names() == sorted(names())
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert names() == sorted(names(), reverse=True)
    page.get_by_role("columnheader", name="verdict").get_by_role("button").click()
    words = page.locator("[data-row]").evaluate_all("rows => rows.map(row => row.dataset.verdicts)")
    order = ["holds", "fails", "undecided", "untested", "not measured"]
    assert words == sorted(words, key=order.index)
    assert len(words) == 25


def test_the_language_is_switched_in_place(open_page):
    page = open_page("/papers/lab_paper/")
    page.get_by_role("link", name="한국어").click()
    page.wait_for_url("**/ko/papers/lab_paper/")
    assert page.locator("html").get_attribute("lang") == "ko"
    assert page.get_by_role("heading", name="주장").is_visible()
    assert page.get_by_text("없음.").first.is_visible()
    page.get_by_role("link", name="English").click()
    page.wait_for_url(re.compile(r"\d/papers/lab_paper/$"))


def test_a_trial_is_started_watched_to_its_end_and_read(open_page):
    page = open_page("/papers/lab_paper/")
    page.get_by_role("link", name="Put it on trial").click()
    form = page.locator("#form-noise")
    form.get_by_text("Settings").click()
    form.get_by_label("seconds", exact=True).fill("soon")
    form.get_by_text("At the size of a test").click()
    form.get_by_role("button", name="Start").click()
    alert = form.get_by_role("alert")
    assert alert.inner_text() == "seconds must be a number, got 'soon'"
    field = form.get_by_label("seconds", exact=True)
    assert field.get_attribute("aria-invalid") == "true"
    assert field.input_value() == "soon"
    field.fill("0.8")
    form.get_by_label("seeds").fill("1")
    form.get_by_role("button", name="Start").click()
    page.wait_for_url("**/runs/2*/")
    region = page.locator("#progress")
    page.locator("#progress").filter(has_text=STEP).wait_for()
    page.reload()  # in the middle of it
    assert region.get_by_text("running").is_visible()
    region.filter(has_text="baseline").wait_for()
    page.get_by_role("link", name="See what was found").wait_for(timeout=60_000)
    assert page.locator(".state.done").is_visible()
    page.get_by_role("link", name="See what was found").click()
    assert page.get_by_role("heading", name="Evidence").is_visible()
    assert page.locator("figure.plot svg").count() == 3


def test_a_running_trial_is_cancelled_and_resumed(open_page):
    page = open_page("/papers/lab_paper/try/")
    form = page.locator("#form-noise")
    form.get_by_text("Settings").click()
    form.get_by_label("seconds", exact=True).fill("2")
    form.get_by_label("rate", exact=True).fill("0.1")
    form.get_by_text("At the size of a test").click()
    form.get_by_role("button", name="Start").click()
    page.locator("#progress").filter(has_text=STEP).wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator(".state.cancelled").wait_for()
    assert page.get_by_role("button", name="Resume").is_visible()
    page.get_by_role("button", name="Resume").click()
    page.locator(".state.running, .state.queued").first.wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator(".state.cancelled").wait_for()


def test_hostile_titles_do_nothing(open_page):
    page = open_page("/")
    root = page.url
    for path in ("", "papers/hostile/", "claims/", "papers/", "days/2025-01-02/", "ko/papers/hostile/"):
        page.goto(root + path)
        assert page.locator("main script, main img, main svg:not([role])").count() == 0
        assert "alert(1)" in page.content()
        said = page.locator("h1, h2, h3, td").filter(has_text="Sparse <script>").first.inner_text()
        assert "\u202e" not in said


def test_pages_read_without_a_script(open_page, measure):
    measure()
    page = open_page("/", java_script_enabled=False)
    page.get_by_role("searchbox").fill("runner")
    page.get_by_role("button", name="Filter").click()
    assert page.locator("[data-row]").count() == 1
    page.get_by_role("link", name="A Paper: Made Up for the Tests").click()
    assert page.locator("figure.plot svg").first.is_visible()
    page.get_by_role("link", name="All claims").click()
    page.get_by_role("link", name="paper", exact=True).click()
    assert page.locator("th[aria-sort]").count() == 1


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_pages_are_accessible_and_fit_the_screen(open_page, measure, scheme, width):
    """axe looks at every kind of page once, and at those with the most colours in the dark and on a phone."""
    from axe_playwright_python.sync_playwright import Axe

    first, second = measure().name, measure(kept=False, gap=2.0).name
    axe = Axe()
    page = open_page("/", viewport={"width": width, "height": 740}, color_scheme=scheme)
    root = page.url
    colourful = ["", "papers/lab_paper/", "papers/apollo/", "papers/lab_paper/try/", "claims/"]
    compared = f"papers/lab_paper/compare/?a={first}&b={second}"
    others = [compared, "papers/", "evidence/", "runs/", "days/2025-01-02/", "ko/"]
    for path in colourful + others:
        page.goto(root + path)
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{path} scrolls sideways by {wide} pixels at {width}"
        if path in colourful or (scheme, width) == ("light", 1280):
            found = [one for one in axe.run(page).response["violations"] if one["impact"] in AXE_SERIOUS]
            assert found == [], (path, [(one["id"], one["nodes"][0]["html"]) for one in found])


def test_everything_is_reached_by_keyboard(open_page):
    page = open_page("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.getAttribute('name') || document.activeElement.textContent")
        )
    assert {"q", "field", "verdict"} <= reached
    assert any("Made Up" in text for text in reached)


def test_the_static_site_filters_and_sorts(browser, rooms, home, measure, tmp_path, monkeypatch):
    """Opened from the disk, without any server."""
    from papertrial.site import library, static_site

    monkeypatch.setattr(library, "discover", lambda: rooms)
    measure()
    static_site.write_site(home, tmp_path / "site")
    page = browser.new_page()
    page.goto((tmp_path / "site" / "index.html").as_uri())
    page.get_by_role("searchbox").fill("runner")
    assert shown(page) == 1
    page.get_by_role("link", name="All claims").click()
    page.get_by_role("columnheader", name="paper", exact=True).get_by_role("button").click()
    assert page.locator("[data-row] td:first-child").first.inner_text() == "apollo"
    page.get_by_role("link", name="한국어").click()
    assert page.locator("html").get_attribute("lang") == "ko"
    page.close()
