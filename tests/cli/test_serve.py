"""The commands `papertrial serve` and `papertrial site`, and what loading them costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from papertrial.cli import serve, site
from papertrial.errors import BadInputError


def test_help_names_every_option(capsys):
    assert serve.run(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"--{name}" in said for name in ("host", "port", "token", "public", "at-once", "open"))
    assert site.run(["-h"]) == 0
    assert "--base" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "99999"], "a port lies between 0 and 65535, got 99999"),
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["--at-once", "0"], "--at-once must be at least 1, got 0"),
        (["--token", "short"], "a token needs at least 12 characters, got 5"),
        (["--hots", "x"], "did you mean --host"),
        (["extra"], "papertrial serve has no option 'extra'"),
    ],
)
def test_bad_words_are_one_clear_line(words, said):
    with pytest.raises(BadInputError, match=said) as caught:
        serve.run(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name one folder"),
        (["a", "b"], "name one folder"),
        (["a", "--base", "javascript:alert(1)"], "--base must be an http or https address"),
    ],
)
def test_bad_sites_are_one_clear_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match=said):
        site.run(words)
    assert list(tmp_path.iterdir()) == []


def test_a_busy_port_is_one_clear_line():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInputError, match="--port 0 takes a free one"):
            serve.run(["--port", str(port)])


def test_serving_reads_without_torch_and_ends_on_ctrl_c(tmp_path):
    """Nothing that a reader asks for imports torch, matplotlib or a field's mechanism."""
    script = (
        "import sys, papertrial.cli.serve as s\n"
        "try: code = s.run(['--port', '0'])\n"
        "except KeyboardInterrupt: code = 130\n"
        "heavy = [name for name in ('torch', 'matplotlib', 'transformers') if name in sys.modules]\n"
        "print('heavy:', heavy, flush=True)\n"
    )
    environment = {**os.environ, "PAPERTRIAL_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        address = process.stdout.readline().split()[1]
        for _ in range(100):
            try:
                answer = httpx.get(address)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        assert answer.status_code == 200
        for path in ("claims/", "papers/apollo/", "papers/apollo/try/", "evidence/", "runs/", "feed.atom"):
            assert httpx.get(address + path).status_code == 200, path
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert "heavy: []" in out, err


def test_the_command_writes_a_site(tmp_path, capsys, monkeypatch):
    from papertrial.site import library
    from papertrial.trial.rooms import discover

    one = {"apollo": discover()["apollo"]}
    monkeypatch.setattr(library, "discover", lambda: one)
    monkeypatch.setenv("PAPERTRIAL_HOME", str(tmp_path / "home"))
    assert site.run([str(tmp_path / "out")]) == 0
    assert "index.html" in capsys.readouterr().out
    assert (tmp_path / "out" / "papers" / "apollo" / "index.html").is_file()
