"""What must not get in, and what must not get out."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

HERE = "http://127.0.0.1:8321"
START = "/papers/lab_paper/try/"
TOKEN = "a-token-of-some-length"


@pytest.fixture
def guarded(application):
    from papertrial.site.security import Access

    def make(**access):
        app, _ = application(Access(**access))
        client = TestClient(app, base_url=HERE, follow_redirects=False)
        client.headers["accept"] = "text/html"
        return client

    return make


def started(client, form_token, **changes):
    """Send the start form as the page would, with some of it changed."""
    token = form_token(client.get(START).text)
    form = {"form": token, "trial": "nothing", **changes.pop("form", {})}
    return client.post(START, data=form, **changes)


def test_every_answer_carries_the_headers(client):
    for path in (
        "/",
        "/static/app.js",
        "/nothing",
        "/papers/apollo/measurements.csv",
        "/feed.atom",
        "/login",
    ):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example", "["]
)
def test_other_names_for_this_machine_are_refused(client, host):
    assert client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8321", "127.0.0.1", "[::1]:9", "LOCALHOST"])
def test_own_names_are_known(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:8321"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_forged_requests_are_refused(client, form_token, headers):
    answer = started(client, form_token, headers=headers)
    assert answer.status_code == 403
    assert "another site" in answer.text


def test_a_form_needs_its_token_and_session(client, form_token):
    page = client.get(START)
    cookie = page.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    good = form_token(page.text)
    assert "form is too old" in client.post(START, data={"form": "0" * 64, "trial": "noise"}).text
    assert client.post(START, data={"trial": "noise"}).status_code == 403
    client.cookies.clear()
    assert client.post(START, data={"form": good, "trial": "noise"}).status_code == 403
    client.cookies.set("papertrial-session", "made-up.0123")
    assert client.post(START, data={"form": good, "trial": "noise"}).status_code == 403
    for path in ("/runs/20250101-000000-00000000/cancel", "/runs/20250101-000000-00000000/resume"):
        assert client.post(path, data={"form": good}).status_code == 403
        assert client.get(path).status_code in (404, 405)


def test_a_form_of_the_page_itself_is_taken(client, form_token):
    answer = started(client, form_token, headers={"origin": HERE, "sec-fetch-site": "same-origin"})
    assert answer.status_code == 400
    assert "unknown trial of lab_paper" in answer.text, "it came as far as its content"


def test_huge_and_odd_forms_are_refused(client, form_token):
    assert started(client, form_token, form={"x": "y" * 70_000}).status_code == 413
    many = {f"x{at}": "y" for at in range(400)}
    assert started(client, form_token, form=many).status_code == 400
    answer = client.post(START, content=b"{}", headers={"content-type": "application/json"})
    assert answer.status_code == 415
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert client.request(method, "/").status_code == 405


def test_others_need_the_token(guarded, form_token):
    with guarded(token=TOKEN, hosts=None) as client:
        assert client.get("/").headers["location"] == "/login"
        assert (
            client.get("/papers/apollo/measurements.csv", headers={"accept": "text/csv"}).status_code == 401
        )
        assert client.get("/login").status_code == 200
        assert client.get("/static/style.css").status_code == 200
        assert client.get("/?token=wrong").headers["location"] == "/login"
        assert "set-cookie" not in client.get("/?token=wrong").headers
        assert client.get("/runs/?token=" + TOKEN).headers["location"] == "/login"
        wrong = client.post("/login", data={"token": "wrong"})
        assert wrong.status_code == 401
        assert "set-cookie" not in wrong.headers
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/", headers=bearer).status_code == 200
        assert client.get("/", headers={"authorization": "Bearer wrong"}).status_code == 401
        entered = client.get(f"/?token={TOKEN}")
        assert entered.headers["location"] == "/", "the token leaves the address"
        assert client.get("/").status_code == 200
        assert started(client, form_token).status_code == 400
        client.cookies.clear()
        assert client.post("/login", data={"token": TOKEN}).status_code == 303
        assert client.get("/").status_code == 200


def test_public_readers_may_read_and_start_nothing(guarded):
    with guarded(token=TOKEN, public=True, hosts=None) as client:
        assert client.get("/").status_code == 200
        assert client.get(START).status_code == 403
        assert client.post(START, data={"trial": "noise"}).status_code == 403
        assert client.get("/runs/").status_code == 200


def test_a_session_of_another_server_is_none(guarded):
    with guarded(token=TOKEN, hosts=None) as one, guarded(token=TOKEN, hosts=None) as other:
        one.get(f"/?token={TOKEN}")
        other.cookies.update(one.cookies)
        assert other.get("/").status_code == 303


@pytest.fixture
def evidence(measure):
    folder = measure()
    kept = folder / "artifacts" / "method@0"
    (kept / "page.html").write_text("<script>alert(1)</script>")
    (kept / "drawing.svg").write_text("<svg onload='alert(1)'/>")
    (kept / "words.txt").write_text("<script>alert(1)</script>")
    (folder.parent / "secret.txt").write_text("secret")
    (kept / "linked.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "artifacts" / "linked@0").symlink_to(folder.parent)
    os.mkfifo(kept / "pipe.txt")
    return folder


def test_artifacts_have_safe_types_only(client, evidence):
    root = f"/papers/lab_paper/runs/{evidence.name}/artifacts/method@0"
    words = client.get(f"{root}/words.txt")
    assert words.status_code == 200
    assert words.headers["content-type"] == "text/plain; charset=utf-8"
    assert words.headers["x-content-type-options"] == "nosniff"
    assert words.text == "<script>alert(1)</script>"
    for name in ("page.html", "drawing.svg", "linked.txt", "pipe.txt", "nothing.txt", ".hidden.txt"):
        assert client.get(f"{root}/{name}").status_code == 404, name
    assert client.get(f"{root}/../../settings.json").status_code == 404
    assert (
        client.get(f"/papers/lab_paper/runs/{evidence.name}/artifacts/linked@0/secret.txt").status_code == 404
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", "image/png"),
        ("a.webp", "image/webp"),
        ("a.mp4", "video/mp4"),
        ("a.webm", "video/webm"),
        ("a.PNG", "image/png"),
    ],
)
def test_media_have_the_types_of_their_suffixes_whatever_they_hold(client, evidence, name, kind):
    (evidence / "artifacts" / "method@0" / name).write_text("<script>alert(1)</script>")
    answer = client.get(f"/papers/lab_paper/runs/{evidence.name}/artifacts/method@0/{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_part_of_a_file_can_be_asked_for(client, evidence):
    path = f"/papers/lab_paper/runs/{evidence.name}/artifacts/method@0/words.txt"
    part = client.get(path, headers={"range": "bytes=1-6"})
    assert (part.status_code, part.text) == (206, "script")
    assert part.headers["content-range"] == "bytes 1-6/25"
    assert client.get(path, headers={"range": "bytes=-8"}).text == "/script>"[-8:]
    assert client.get(path, headers={"range": "bytes=99-"}).status_code == 416
    assert client.get(path, headers={"range": "lines=1-2"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "artifacts/../../secret.txt",
        "artifacts/method@0/../../../secret.txt",
        "artifacts/method@0/..%2f..%2fsettings.json",
        "artifacts/%2e%2e/%2e%2e/secret.txt",
        "artifacts/method@0//etc/passwd.txt",
        "artifacts/method@0/words.txt%00.png",
        "../../../../etc/passwd",
        "settings.json",
    ],
)
def test_paths_cannot_leave_the_evidence(client, evidence, path):
    answer = client.get(f"/papers/lab_paper/runs/{evidence.name}/{path}")
    assert answer.status_code in (400, 404), answer.text
    assert answer.text != "secret"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["..", ".", "artifacts", "method@0", "a.txt", "", "/", "\0", "\\", "~"]), max_size=6
    )
)
def test_no_path_opens_a_file_outside(tmp_path_factory, parts):
    from papertrial.site.assets import open_artifact

    root = tmp_path_factory.mktemp("evidence")
    folder = root / "inside"
    (folder / "artifacts" / "method@0").mkdir(parents=True)
    (folder / "artifacts" / "method@0" / "a.txt").write_text("inside")
    (root / "a.txt").write_text("outside")
    opened = open_artifact(folder, "/".join(parts))
    if opened is not None:
        with os.fdopen(opened[0]) as file:
            assert file.read() == "inside"


def test_listening_beyond_loopback_makes_a_token():
    from papertrial.errors import BadInputError
    from papertrial.site.serving import make_access

    assert make_access("127.0.0.1", None, False, ()).token is None
    assert make_access("localhost", None, False, ()).token is None
    assert make_access("::1", None, False, ()).token is None
    made = [
        make_access(host, None, False, ()).token for host in ("0.0.0.0", "192.168.1.4", "example.org", "::")
    ]
    assert all(len(token) >= 32 for token in made)
    assert len(set(made)) == 4
    assert make_access("0.0.0.0", TOKEN, False, ()).token == TOKEN
    with pytest.raises(BadInputError, match="at least 12 characters"):
        make_access("0.0.0.0", "short", False, ())
