"""What the page weighs and how fast it is: weights, first paint, a large home, many readers.

    python bench/site.py            everything; first paint needs playwright and a Chromium
    python bench/site.py listing    one part: weights, paint, listing, readers

The goals: a page under 200 kB, first paint under 0.5 s on loopback, 500 papers and 10,000 evidence files listed
in under 0.3 s, and 200 readers at once with a trial running: no error, a median under 50 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from papertrial.site.library import Library
from papertrial.site.pages import Pages
from papertrial.trial.rooms import Room

PAPERS, FILES, JOBS_IN_A_GROUP = 500, 10_000, 10
READERS, SECONDS = 200, 10.0
PATHS = ("/", "/papers/", "/claims/", "/papers/apollo/", "/papers/retroinfer/", "/evidence/", "/ko/")
REPEATS = 7


def main(parts: list[str]) -> None:
    """Print the figures as Markdown."""
    print("| figure | measured | goal |\n|---|---|---|")
    for name in parts or ["weights", "paint", "listing", "readers"]:
        {"weights": weights, "paint": paint, "listing": listing, "readers": readers}[name]()


def weights() -> None:
    """Say what each kind of page weighs, as it is and as it travels."""
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as address, httpx.Client() as client:
        for path in (*PATHS, "/papers/qwen3_quantization/", "/static/style.css", "/static/app.js"):
            packed = int(client.get(address + path).headers["content-length"])
            whole = len(client.get(address + path).content)
            print(
                f"| weight of `{path}`, sent compressed | {whole / 1000:.0f} kB, {packed / 1000:.0f} kB | 200 kB |"
            )


def paint() -> None:
    """Say when Chromium first paints, from its own performance entries."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("PAPERTRIAL_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
    script = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
    with (
        tempfile.TemporaryDirectory() as home,
        serving(Path(home)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for page_path in ("/", "/papers/apollo/", "/papers/qwen3_quantization/", "/claims/"):
            times = []
            for _ in range(REPEATS):
                context = browser.new_context()  # with nothing kept from before
                page = context.new_page()
                page.goto(address + page_path)
                page.wait_for_function(f"() => {script} !== null")
                times.append(page.evaluate(script))
                context.close()
            print(
                f"| first paint of `{page_path}`, median of {REPEATS} | {statistics.median(times):.0f} ms | 500 ms |"
            )
        browser.close()


def listing() -> None:
    """Time lists over many papers and many evidence files: at the start, at once again, after a change."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        rooms = made_rooms(Path(folder))
        made_evidence(home)
        start = time.perf_counter()
        library = Library(home, rooms)
        pages = Pages(library)
        reading = time.perf_counter() - start
        print(f"| {PAPERS} cards read, once, when the server starts | {reading:.2f} s | – |")
        for path, said in (("", "home"), ("papers/", "all papers"), ("evidence/", "all evidence")):
            first = timed(lambda path=path: pages.find(path).render())  # type: ignore[misc]
            again = [timed(lambda path=path: pages.find(path).render()) for _ in range(REPEATS)]  # type: ignore[misc]
            size = len(pages.find(path).render())
            print(f"| {said}, {PAPERS} papers: weight before compression | {size / 1000:.0f} kB | 200 kB |")
            print(
                f"| {said}, {PAPERS} papers and {FILES:,} evidence files: first, again | "
                f"{first:.2f} s, {statistics.median(again):.2f} s | 0.3 s |"
            )
        unchanged = timed(lambda: (library.stamp(), library.evidence_stamp()))
        print(f"| looking whether any of it has changed | {unchanged * 1000:.0f} ms | – |")


def readers() -> None:
    """Time many readers at once while a trial runs: those who read a page for a second, and those who never stop."""
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as address, httpx.Client() as client:
        for path in PATHS:
            client.get(address + path)
        form = {"form": token(client.get(f"{address}/papers/apollo/try/").text), "trial": "pretrain"}
        run = client.post(f"{address}/papers/apollo/try/", data=form).headers["location"]
        time.sleep(8)  # until it measures
        for pause, said in ((1.0, "a page a second each"), (0.0, "without a pause")):
            done = subprocess.run(
                [sys.executable, __file__, "--load", address, str(pause)],
                capture_output=True,
                text=True,
                check=True,
            )
            times, errors = json.loads(done.stdout)
            state = re.search(r'class="state (\w+)', client.get(address + run).text)
            assert state is not None
            assert state[1] == "running", state
            goal = "50 ms, no error" if pause else "–"
            print(
                f"| {READERS} readers, {said}, a trial running: median, 99 %, pages a second, errors | "
                f"{1000 * statistics.median(times):.0f} ms, {1000 * statistics.quantiles(times, n=100)[98]:.0f} ms, "
                f"{len(times) / SECONDS:.0f}, {errors} | {goal} |"
            )
        cancel = {"form": token(client.get(address + run).text)}
        client.post(f"{address}{run}cancel", data=cancel)


async def load(address: str, pause: float) -> tuple[list[float], int]:
    """Read pages over kept connections for some seconds; return how long each took, and the errors."""
    host, port = address.removeprefix("http://").split(":")
    times: list[float] = []
    errors = 0

    async def read(number: int) -> None:
        nonlocal errors
        await asyncio.sleep(pause * number / READERS)
        reader, writer = await asyncio.open_connection(host, int(port))
        end = time.monotonic() + SECONDS
        turn = number
        while time.monotonic() < end:
            path = PATHS[turn % len(PATHS)]
            turn += 1
            start = time.perf_counter()
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            times.append(time.perf_counter() - start)
            errors += not head.startswith(b"HTTP/1.1 200")
            await asyncio.sleep(pause)
        writer.close()

    failures = await asyncio.gather(*(read(number) for number in range(READERS)), return_exceptions=True)
    return times, errors + sum(failure is not None for failure in failures)


@contextlib.contextmanager
def serving(home: Path) -> Iterator[str]:
    """Serve a home on a free port; the address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "papertrial", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PAPERTRIAL_HOME": str(home)},
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[1].rstrip("/")
    for _ in range(200):
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{address}/papers/retroinfer/")
            break
        time.sleep(0.1)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(30)


def made_rooms(folder: Path) -> dict[str, Room]:
    """Write many cards of a usual size, with reference evidence and verdicts."""
    from papertrial.trial.rooms import discover

    real = discover()["apollo"]
    card = (real.folder / "card.toml").read_text(encoding="utf-8")
    rooms = {}
    for at in range(PAPERS):
        room = folder / "efficient" / f"paper_{at:03}"
        room.mkdir(parents=True)
        day = f"2025-{at // 28 % 12 + 1:02}-{at % 28 + 1:02}"
        text = re.sub(r"(?m)^day .*$", f"day = {day}", card)
        (room / "card.toml").write_text(text, encoding="utf-8")
        shutil.copy(real.folder / "reference.json", room / "reference.json")
        rooms[room.name] = Room(room.name, "efficient", room, real.package)
    return rooms


def made_evidence(home: Path) -> None:
    """Write many finished measurements, in groups."""
    for at in range(FILES // JOBS_IN_A_GROUP):
        paper = f"paper_{at % PAPERS:03}"
        folder = home / "evidence" / paper / f"pretrain-{at:010x}"
        (folder / "measured").mkdir(parents=True)
        about = {"paper": paper, "trial": "pretrain", "version": 1, "settings": {"steps": at}}
        (folder / "settings.json").write_text(json.dumps(about))
        for job in range(JOBS_IN_A_GROUP):
            measured = [{"arm": "adamw", "seed": job, "metrics": {"val_loss": 2.0}}]
            (folder / "measured" / f"adamw.seed-{job}.json").write_text(json.dumps(measured))


def token(text: str) -> str:
    """Return the token of a page's form."""
    found = re.search(r'name="form" value="([0-9a-f]+)"', text)
    assert found is not None
    return found[1]


def timed(act: object) -> float:
    """Return how many seconds something takes."""
    start = time.perf_counter()
    act()  # type: ignore[operator]
    return time.perf_counter() - start


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        print(json.dumps(asyncio.run(load(sys.argv[2], float(sys.argv[3])))))
    else:
        main(sys.argv[1:])
