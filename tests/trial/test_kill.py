"""Runs that are killed: at random moments, with workers of their own, from the keyboard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these tests send POSIX signals")


def test_a_hundred_kills_lose_nothing_and_measure_nothing_twice(lab, tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    script = Path(__file__).with_name("killing.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "home"), str(log), "100"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert seen["problems"] == []
    assert seen["killed"] == 100  # no run came to its end before it was killed
    assert seen["done"] > 10  # and they did get work done, on a busy machine too
    assert seen["missing"] == 0


def _start(lab, *words):
    """Start `papertrial` in a process group of its own, with the made-up paper plugged in."""
    code = (
        # tests that run in the background of a shell inherit that Ctrl-C is ignored
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys; from pathlib import Path; from papertrial.trial import rooms; from papertrial.cli import trying;"
        f"room = rooms.Room('lab_paper', 'efficient', Path({str(lab.folder)!r}), 'lab_paper');"
        "trying.discover = lambda: {'lab_paper': room};"
        "from papertrial.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},  # narrow columns break words apart, wherever a run was stopped
        start_new_session=True,
    )


def _wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def test_ctrl_c_ends_with_a_summary_of_what_is_done(lab, tmp_path):
    process = _start(lab, "try", "lab_paper.noise", "--seconds", "0.3", "--seeds", "50", "--workers", "1")
    measured = tmp_path / "home" / "evidence" / "lab_paper"
    _wait_for(lambda: len(list(measured.glob("*/measured/*.seed-0.json"))) == 2)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in output
    assert "The method is lower" in output  # the table of claims
    assert "report.html" in output


def test_workers_end_when_their_runner_is_killed(lab, tmp_path):
    process = _start(lab, "try", "lab_paper.noise", "--seconds", "30", "--workers", "2")
    live = tmp_path / "home" / "evidence" / "lab_paper"
    _wait_for(lambda: len(list(live.glob("*/live/*.json"))) == 2)
    workers = _children(process.pid)
    assert len(workers) >= 2
    process.kill()
    process.communicate(timeout=20)  # its output ends only when the workers that share it have ended
    _wait_for(lambda: not any(_alive(worker) for worker in workers), seconds=20)


def _children(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("this system does not list a process's children")
    return [int(one) for one in path.read_text().split()]


def _alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
