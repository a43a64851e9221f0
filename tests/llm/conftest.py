"""A local server that plays an OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class PlayedEndpoint:
    """Answers `/v1/chat/completions` with what `answers` holds, one after the other, the last one for ever.

    An answer is a text, or (status, body, headers). `asked` keeps every request's body and headers.
    """

    def __init__(self, address):
        self.url = f"http://127.0.0.1:{address[1]}/v1"
        self.answers = ["hello"]
        self.models = ["small-model"]
        self.asked = []

    def reply(self, body, headers):
        self.asked.append((body, headers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = answer(body)
        if isinstance(answer, tuple):
            return answer
        message = {"role": "assistant", "content": answer}
        return (
            200,
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
            },
            {},
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(*self.server.played.reply(body, {k.lower(): v for k, v in self.headers.items()}))

    def do_GET(self):
        models = self.server.played.models
        if models is None:
            self._send(404, {"error": {"message": "no such path"}}, {})
        else:
            listed = [{"id": one, "object": "model", "created": 0, "owned_by": "me"} for one in models]
            self._send(200, {"object": "list", "data": listed}, {})

    def _send(self, status, body, headers):
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def _server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def played(_server):
    _server.played = PlayedEndpoint(_server.server_address)
    return _server.played


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("PAPERTRIAL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path / "home"
