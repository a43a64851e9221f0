"""A local server that plays the Hub and arXiv, and a clock that waits without taking time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from papertrial.digest.collecting import Clock, Remotes, Web


@dataclass
class Reply:
    body: str | bytes = b""
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # promise more bytes than are sent

    @classmethod
    def json(cls, value, **options):
        return cls(json.dumps(value), **options)


class Remote:
    """A server whose answers are functions of the query, by path."""

    def __init__(self, address):
        self.url = f"http://127.0.0.1:{address[1]}"
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self._answers: dict[str, Callable[[dict[str, str]], Reply]] = {}

    def on(self, path, answer):
        """Answer a path: with a reply, with a list of replies one after the other, or by a function."""
        if isinstance(answer, Reply):
            self._answers[path] = lambda query: answer
        elif isinstance(answer, list):
            left = iter(answer)
            self._answers[path] = lambda query: next(left)
        else:
            self._answers[path] = answer

    def reply(self, path, query, headers):
        self.asked.append((path, query, headers))
        answer = self._answers.get(path)
        return Reply("not here", 404, "text/plain") if answer is None else answer(query)

    def count(self, path):
        return sum(one == path for one, _, _ in self.asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        reply = self.server.remote.reply(parts.path, query, {k.lower(): v for k, v in self.headers.items()})
        body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.kind)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + (1000 if reply.cut else 0)))
        self.end_headers()
        self.wfile.write(body)
        if reply.cut:
            self.close_connection = True

    def log_message(self, *_):
        pass


class FakeClock(Clock):
    """Starts at a given time; waiting moves it on and is noted."""

    def __init__(self, start):
        self.time = start
        self.slept: list[float] = []

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += timedelta(seconds=seconds)

    def wait(self, seconds, stop):
        if not stop.is_set():
            self.sleep(seconds)
        return stop.is_set()


@pytest.fixture(scope="session")
def _server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def remote(_server):
    _server.remote = Remote(_server.server_address)
    return _server.remote


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("PAPERTRIAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def clock():
    """A Thursday, two weeks after the days that the tests collect."""
    return FakeClock(datetime(2025, 5, 22, 12, 0, tzinfo=UTC))


@pytest.fixture
def make_clock():
    return FakeClock


@pytest.fixture(scope="session")
def _hub_session():
    """One session of the Hub's client for all tests, and none left open after them."""
    from huggingface_hub.utils import close_session

    close_session()
    yield
    close_session()


@pytest.fixture
def make_web(remote, clock, tmp_path, monkeypatch, _hub_session):
    """Open the remote sources, all played by the local server."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    remotes = Remotes(remote.url, f"{remote.url}/api/query", remote.url)
    return lambda its_clock=clock: Web(remotes, its_clock, shared=tmp_path / "hosts")


@pytest.fixture
def web(make_web):
    with make_web() as opened:
        yield opened


@pytest.fixture
def reply():
    return Reply


@pytest.fixture
def hub_item():
    """Make one item of the Hub's answer; `modern` puts facts under `paper`, else they stand at the top."""

    def make(number=1, *, modern=True, votes=3, published="2025-05-06T10:00:00.000Z", **more):
        facts = {
            "upvotes": votes,
            "githubRepo": "https://github.com/a/b",
            "projectPage": "https://a.example",
            "organization": {"name": "lab", "fullname": "The Lab", "avatarUrl": "https://x.example/a.png"},
            "mediaUrls": ["https://cdn.example/clip.mp4"],
        }
        inner = {
            "id": f"2505.{number:05d}",
            "title": f"Paper number {number}",
            "summary": f"We introduce method {number}.",
            "authors": [{"name": "Ada A."}, {"name": "Bob B."}],
            "publishedAt": published,
        }
        outer = {
            "title": f"Paper number {number}",
            "publishedAt": "2025-05-07T01:00:00.000Z",
            "thumbnail": f"https://cdn.example/{number}.png",
            "numComments": 0,
            "submittedBy": {"fullname": "Sub Mitter", "name": "sub", "avatarUrl": "https://x.example/s.png"},
        }
        (inner if modern else outer).update(facts)
        return {"paper": inner | more.pop("paper", {}), **outer, **more}

    return make


@pytest.fixture
def daily(remote, hub_item, reply):
    """Let the Hub list papers: a function of the day, paged as the Hub pages."""

    def serve(by_day, most=100):
        def answer(query):
            items = by_day.get(query.get("date"), [])
            size = min(int(query.get("limit", 50)), most)
            start = int(query.get("p", 0)) * size
            return reply.json(items[start : start + size])

        remote.on("/api/daily_papers", answer)

    return serve


@pytest.fixture
def atom():
    """Make arXiv's Atom answer."""

    def make(*entries, total=None):
        total = len(entries) if total is None else total
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom" '
            'xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/" xmlns:arxiv="http://arxiv.org/schemas/atom">'
            f"<opensearch:totalResults>{total}</opensearch:totalResults>" + "".join(entries) + "</feed>"
        )

    return make


@pytest.fixture
def atom_entry():
    def make(
        arxiv="2505.00001", *, version=1, title="A title\n  over two lines", pdf=True, comment="10 pages"
    ):
        link = (
            f'<link title="pdf" href="http://arxiv.org/pdf/{arxiv}v{version}" rel="related"/>' if pdf else ""
        )
        return (
            f"<entry><id>http://arxiv.org/abs/{arxiv}v{version}</id><title>{title}</title>"
            "<summary>  We present\na method &lt;b&gt; that wraps.\n</summary>"
            "<published>2025-05-06T17:59:59Z</published><updated>2025-05-08T00:00:00Z</updated>"
            "<author><name>Ada A.</name><arxiv:affiliation>The Lab</arxiv:affiliation></author>"
            "<author><name>Bob B.</name></author>"
            f"<arxiv:comment>{comment}</arxiv:comment><arxiv:primary_category term='cs.CL'/>"
            f"<category term='cs.LG'/><category term='cs.CL'/>"
            f"<link href='http://arxiv.org/abs/{arxiv}v{version}' rel='alternate'/>{link}</entry>"
        )

    return make
