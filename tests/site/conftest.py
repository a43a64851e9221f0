"""Fixtures for the pages: a home with a measured paper, hostile cards, a client, a browser."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

# Loaded before the made-up paper is patched in, so that no module keeps the patched list of papers for good.
import papertrial.site.app
import papertrial.site.static_site  # noqa: F401

HOSTILE = "Sparse <script>alert(1)</script> \u202egnp.exe & \"quotes\" 'too' ](javascript:alert(2))"


def card(title: str, name_of_claim: str = "claim") -> str:
    """Return the text of a card on the docket."""
    import json

    return f"""
title   = {json.dumps(title)}
arxiv   = "2501.00002"
day     = 2025-01-02
purpose = {json.dumps("Purpose: " + title)}
status  = "docket"
code    = {{ repository = "javascript:alert(3)", licence = "<b>none</b>" }}
[summary.en]
whats_new = {json.dumps(title)}
details   = "<img src=x onerror=alert(4)>"
results   = "</main><script>alert(5)</script>"
[summary.ko]
whats_new = "새로운 <i>점</i>"
details   = "자세히"
results   = "결과"
[use]
python = "print('</code><script>alert(6)</script>')"
[[claims]]
name     = "{name_of_claim}"
says     = {json.dumps(title)}
untested = "<svg onload=alert(7)>"
command  = "papertrial try hostile --x '<script>'"
paper    = {{ value = "<b>3x</b>", source = "\\u202eTable 1" }}
"""


@pytest.fixture
def rooms(lab, tmp_path):
    """Return the made-up paper, a real one with its reference run, and one whose card is hostile."""
    from papertrial.trial import rooms as found

    folder = tmp_path / "efficient" / "hostile"
    folder.mkdir(parents=True)
    (folder / "card.toml").write_text(card(HOSTILE), encoding="utf-8")
    apollo = found._own_rooms()["apollo"]
    return {
        "lab_paper": lab,
        "apollo": apollo,
        "hostile": found.Room("hostile", "efficient", folder, "hostile"),
    }


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def library(rooms, home):
    from papertrial.site.library import Library

    return Library(home, rooms)


@pytest.fixture
def measure(lab, home):
    """Return a function that measures the made-up paper here and keeps its verdicts."""
    from papertrial.trial.latest import remember
    from papertrial.trial.runner import Options, run_trial
    from papertrial.trial.summary import summarise

    def run(name="noise", kept=True, **settings):
        trial = lab.trials()[name](**settings)
        options = Options(home, workers=1)
        result = run_trial("lab_paper", name, trial, options)
        if kept:
            remember(home, summarise(lab.card, lab.trials(), {name: (trial, result)}, options))
        return result.evidence.folder

    return run


@pytest.fixture
def plugged(tmp_path, lab, monkeypatch):
    """Let child processes find the made-up paper as any plug-in is found."""
    folder = tmp_path / "plug" / "lab_paper-0.1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-paper\nVersion: 0.1\n")
    (folder / "entry_points.txt").write_text("[papertrial.papers]\nefficient.lab_paper = lab_paper\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder.parent), os.environ["PYTHONPATH"]]))


@pytest.fixture
def application(library, monkeypatch):
    """Return a function that makes the application and what stands behind it."""
    from papertrial.site import answers
    from papertrial.site.app import make_app
    from papertrial.site.pages import Pages
    from papertrial.site.runs import Runs
    from papertrial.site.security import Access

    monkeypatch.setattr(answers, "_TRUSTED", 0.0)  # a test changes files and looks at once

    def make(access=None, grace=5.0):
        runs = Runs(library, grace=grace)
        return make_app(Pages(library), runs, access or Access()), runs

    return make


@pytest.fixture
def client(application):
    """Return a client of an application that is being served, as a browser on this machine sees it."""
    from starlette.testclient import TestClient

    app, _ = application()
    with TestClient(app, base_url="http://127.0.0.1:8321", follow_redirects=False) as client:
        yield client


@pytest.fixture
def served(application):
    """Return a function that serves the application on a free port of this machine: its address and runs."""
    import uvicorn

    servers = []

    def serve(access=None, grace=5.0):
        app, runs = application(access, grace)
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="on"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        servers.append((server, thread))
        wait_until(lambda: server.started)
        return f"http://127.0.0.1:{listener.getsockname()[1]}", runs

    yield serve
    for server, thread in servers:
        server.should_exit = True
        thread.join(timeout=15)


def wait_until(holds, seconds=30.0):
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def until():
    return wait_until


@pytest.fixture
def form_token():
    """Return a function that reads the token of the first form on a page."""
    return lambda text: re.search(r'name="form" value="([0-9a-f]+)"', text)[1]


def find_chromium() -> str | None:
    """Return Chromium's path: $PAPERTRIAL_CHROMIUM, Debian's, or the first on PATH."""
    named = os.environ.get("PAPERTRIAL_CHROMIUM")
    if named:
        return named if Path(named).exists() else None
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(
        (path for path in ("/usr/bin/chromium", *map(shutil.which, names)) if path and Path(path).exists()),
        None,
    )


@pytest.fixture(scope="module")  # while it is open, playwright keeps an event loop running in this thread
def browser():
    """Return a headless Chromium; skip where there is none, unless PAPERTRIAL_REQUIRE_BROWSER=1."""
    path = find_chromium()
    if path is None:
        message = "no Chromium was found (set PAPERTRIAL_CHROMIUM to its path)"
        if os.environ.get("PAPERTRIAL_REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser tests")
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, served, plugged):
    """Return a function that opens a page of a served site.

    Any script error, blocked content, dialog or request to elsewhere fails the test. (Chromium's console also
    tells of a form that comes back with what is wrong in it, status 422: that is no error.)
    """
    contexts, problems = [], []
    address, runs = served()

    def open_at(path, **context):
        made = browser.new_context(**context)
        contexts.append(made)
        page = made.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on(
            "request", lambda sent: problems.append(sent.url) if not sent.url.startswith(address) else None
        )
        answer = page.goto(f"{address}{path}")
        assert answer.ok
        page.runs = runs
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert [one for one in problems if "status of 422" not in one] == []
