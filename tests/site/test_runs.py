"""Trials started from the page: queued, watched, cancelled, failed, resumed, and found again after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from papertrial.errors import BadInputError
from papertrial.site.progress import ProgressReader, planned_jobs
from papertrial.site.runs import Runs
from papertrial.trial.evidence import Evidence
from papertrial.trial.settings import Identity

START = "/papers/lab_paper/try/"


@pytest.fixture
def runs(library, plugged):
    opened = []

    def make(**options):
        made = Runs(library, grace=3.0, **options)
        made.open()
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.close()


def noise(lab, quick=True, **settings):
    kind = lab.trials()["noise"]
    return replace(kind.quick() if quick else kind(), **settings)


def measured(library, run):
    folder = library.home / "evidence" / run.paper / run.evidence / "measured"
    return sorted(file.name for file in folder.glob("[!.]*.json")) if folder.is_dir() else []


def test_a_run_is_watched_to_its_end_while_another_waits(runs, lab, library, until):
    queue = runs()
    first = queue.submit("lab_paper", "noise", noise(lab, seconds=0.4), 2, True)
    second = queue.submit("lab_paper", "noise", noise(lab, gap=2.0), 1, True)
    assert (queue.get(first.id).state, queue.get(second.id).state) == ("running", "queued")
    assert queue.before(second) == 1
    versions, seen = set(), []

    def ended():
        reader = queue.reader(queue.get(first.id))
        versions.add(reader.version)
        seen.extend(state for arm in reader.latest.arms for state in arm.running)
        return queue.get(first.id).state == "done"

    until(ended)
    assert len(versions) > 2, "progress was seen"
    assert any(0 < state["done"] < state["total"] for state in seen), "a running step was seen"
    progress = queue.reader(queue.get(first.id)).latest
    assert (progress.done, progress.planned) == (7, 7), "three points of the sweep, two arms, two seeds"
    assert all(len(progress.curves[arm]) == 2 for arm in ("baseline", "method"))
    assert len(measured(library, first)) == 7
    until(lambda: queue.get(second.id).state == "done")
    assert queue.get(second.id).started >= queue.get(first.id).ended - 0.1, "one after the other"
    record = json.loads((queue.folder / f"{first.id}.json").read_text())
    assert record["state"] == "done"
    assert record["code"] == 0


def test_cancel_ends_what_runs_and_what_waits_and_resume_goes_on(runs, lab, library, until):
    queue = runs()
    long = queue.submit("lab_paper", "noise", noise(lab, seconds=0.5), 3, True)
    waiting = queue.submit("lab_paper", "noise", noise(lab, gap=3.0), 1, True)
    until(lambda: len(measured(library, long)) >= 2)
    process = queue.get(long.id).process
    queue.cancel(waiting.id)
    assert queue.get(waiting.id).state == "cancelled"
    queue.cancel(long.id)
    queue.cancel(long.id)  # twice does no harm
    until(lambda: queue.get(long.id).state == "cancelled")
    with pytest.raises(ProcessLookupError):
        os.killpg(process, 0)
    before = {name: (library.home / "evidence" / "lab_paper" / long.evidence / "measured" / name).stat().st_mtime_ns
              for name in measured(library, long)}  # fmt: skip
    assert 2 <= len(before) < 9
    queue.resume(long.id)
    with pytest.raises(BadInputError, match="only one that has ended"):
        queue.resume(long.id)
    until(lambda: queue.get(long.id).state == "done", 60)
    folder = library.home / "evidence" / "lab_paper" / long.evidence / "measured"
    assert len(measured(library, long)) == 9
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before, (
        "nothing is measured twice"
    )


def test_a_run_that_does_not_listen_is_killed(library, plugged, lab, monkeypatch, until):
    """A process that ignores SIGINT is ended after the grace time."""
    queue = Runs(library, grace=0.5)
    queue.open()
    code = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf', flush=True); "
        "time.sleep(60)"
    )
    real = subprocess.Popen

    def deaf(command, **how):
        return real([sys.executable, "-c", code], **how | {"stdout": how["stderr"]})

    monkeypatch.setattr(subprocess, "Popen", deaf)
    run = queue.submit("lab_paper", "noise", noise(lab), 1, True)
    until(lambda: queue.said(run) == ["deaf"])
    queue.cancel(run.id)
    until(lambda: queue.get(run.id).state == "cancelled")
    assert queue.get(run.id).code == -signal.SIGKILL
    queue.close()


def test_a_failing_run_says_why_in_one_line(runs, lab, until):
    queue = runs()
    raising = queue.submit("lab_paper", "noise", noise(lab, raising="method", rate=0.1), 1, True)
    until(lambda: queue.get(raising.id).state == "failed")
    assert queue.get(raising.id).code == 1
    assert queue.get(raising.id).message
    assert any("method was told to raise" in line for line in queue.said(raising))


def test_what_a_dead_server_left_is_watched_or_resumed(library, plugged, lab, until):
    """kill -9 of the server leaves the run going: the next server watches it to its end."""
    script = (
        "import sys, os, signal\n"
        "from pathlib import Path\n"
        "from papertrial.site.library import Library\n"
        "from papertrial.site.runs import Runs\n"
        "runs = Runs(Library(Path(sys.argv[1]))); runs.open()\n"
        "kind = runs.library.kinds('lab_paper')['noise']\n"
        "from dataclasses import replace\n"
        "run = runs.submit('lab_paper', 'noise', replace(kind.quick(), seconds=0.5), 2, True)\n"
        "print(run.id, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(library.home)], capture_output=True, text=True, check=False
    )
    name = done.stdout.strip()
    assert done.returncode == -signal.SIGKILL, done.stderr
    queue = Runs(library)
    queue.open()
    assert queue.get(name).state == "running"
    until(lambda: queue.get(name).state == "done")
    assert len(measured(library, queue.get(name))) == 7
    queue.close()
    # a record whose process is long gone is interrupted, and one of another machine's start is not mistaken
    gone = replace(
        queue.get(name), id="20250101-000000-0000abcd", state="running", process=os.getpid(), born="1"
    )
    queue._keep(gone)
    again = Runs(library)
    again.open()
    assert again.get(gone.id).state == "interrupted"
    assert again.resume(gone.id).state in ("queued", "running")
    until(lambda: again.get(gone.id).state == "done")
    again.close()


def test_closing_the_server_interrupts_and_keeps_what_was_measured(library, plugged, lab, until):
    queue = Runs(library, grace=5.0)
    queue.open()
    run = queue.submit("lab_paper", "noise", noise(lab, seconds=1.0), 3, True)
    until(lambda: measured(library, run))
    queue.close()
    later = Runs(library)
    later.open()
    assert later.get(run.id).state == "interrupted"
    assert measured(library, run)
    later.close()


def test_a_second_server_on_a_home_starts_nothing(runs, lab):
    runs()
    second = runs()
    with pytest.raises(BadInputError, match="another papertrial serve has"):
        second.submit("lab_paper", "noise", noise(lab), 1, True)
    assert second.all() == []


def test_a_home_that_cannot_be_written_is_read_all_the_same(runs, lab, library):
    library.home.mkdir()
    (library.home / "runs").write_text("a file in the way")
    queue = runs()
    assert queue.all() == []
    with pytest.raises(BadInputError, match="cannot write in"):
        queue.submit("lab_paper", "noise", noise(lab), 1, True)


def test_a_run_does_not_see_the_readers_token(library, monkeypatch):
    from papertrial.site.runs import _environment

    monkeypatch.setenv("PAPERTRIAL_TOKEN", "a-token-of-some-length")
    seen = _environment(library.home)
    assert "PAPERTRIAL_TOKEN" not in seen
    assert seen["PAPERTRIAL_HOME"] == str(library.home)
    assert seen["PATH"] == os.environ["PATH"]


def test_records_that_are_none_are_passed_over(runs, library):
    folder = library.home / "runs"
    folder.mkdir(parents=True)
    (folder / "20250101-000000-00000000.json").write_text("{broken")
    (folder / "20250101-000000-00000001.json").write_text('{"id": 3}')
    (folder / "note.json").write_text("{}")
    queue = runs()
    assert queue.all() == []
    with pytest.raises(BadInputError, match="there is no run"):
        queue.get("../../etc/passwd")


@pytest.mark.parametrize(("name", "seeds"), [("noise", 3), ("timing", 10), ("noise", 1)])
def test_the_plan_names_the_files_that_a_run_leaves(lab, measure, library, name, seeds):
    settings = {"milliseconds": 0.1} if name == "timing" else {}
    trial = lab.trials()[name](**settings)
    folder = measure(name, kept=False, **settings)
    planned = planned_jobs(trial, seeds)
    assert {f"{job}.json" for jobs in planned.values() for job in jobs} <= {
        file.name for file in (folder / "measured").iterdir()
    }
    reader = ProgressReader(Evidence(folder), trial, seeds, 0.0)
    assert reader.poll().done == reader.latest.planned == sum(map(len, planned.values()))
    assert folder.name == f"{name}-{Identity('lab_paper', name, trial).hash}"


def test_a_form_starts_a_run_and_events_tell_of_it_to_all_readers(served, plugged, form_token, until):
    import threading

    import httpx

    address, runs = served()
    with httpx.Client(base_url=address) as client:
        token = form_token(client.get(START).text)
        form = {"form": token, "trial": "noise", "seconds": "0.3", "quick-asked": "yes", "seeds-asked": "2"}
        wrong = client.post(START, data=form | {"seconds": "soon", "seeds-asked": "many"})
        assert wrong.status_code == 422
        assert "seconds must be a number, got &#39;soon&#39;" in wrong.text
        assert "seeds must be a whole number from 1 to 1000" in wrong.text
        assert 'value="soon"' in wrong.text, "what was typed is still there"
        refused = client.post(START, data=form | {"seconds": "-1"})
        assert "seconds must not be negative, got -1.0" in refused.text
        assert runs.all() == []
        sent = client.post(START, data=form, headers={"origin": address})
        assert sent.status_code == 303
        page = sent.headers["location"]
        assert client.get(f"/ko{page}").status_code == 200
        assert "실행 중" in client.get(f"/ko{page}").text

        heard: list[list[str]] = [[], []]

        def listen(at):
            with httpx.stream("GET", f"{address}{page}events", timeout=60) as stream:
                heard[at].extend(line for line in stream.iter_lines() if line)

        with httpx.stream("GET", f"{address}{page}events", timeout=60) as leaving:
            next(leaving.iter_lines())  # a reader who goes at once disturbs nobody
        threads = [threading.Thread(target=listen, args=(at,)) for at in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for lines in heard:
            assert lines[-2:] == ["event: end", 'data: "done"']
            told = [json.loads(line[6:])["html"] for line in lines if line.startswith('data: {"html"')]
            assert len(told) > 2
            assert any("<progress" in html and "loss" in html for html in told)
            assert all(f">{count}/{count}<" in told[-1] for count in (2, 5)), "baseline and method"
        assert "done" in client.get(page).text
        assert "See what was found" in client.get(page).text
        assert client.get("/runs/").text.count("lab_paper.noise") == 1
