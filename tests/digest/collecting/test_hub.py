"""The Hub's daily papers: read whole, held to what the installed client makes of the same answers."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from importlib.metadata import version

import pytest
from huggingface_hub import HfApi

from papertrial.digest.collecting import hub
from papertrial.digest.collecting.politeness import RemoteError, ThrottledError
from papertrial.errors import BadInputError

DAY = date(2025, 5, 7)


def test_every_fact_is_found_in_both_places_it_has_had(web, daily, hub_item):
    facts = []
    for modern in (True, False):
        daily({"2025-05-07": [hub_item(1, modern=modern)]})
        facts.append(hub.list_daily(web, day=DAY).entries[0].paper)
    assert facts[0] == facts[1].__class__(**{**vars(facts[1]), "fetched_at": facts[0].fetched_at})
    paper = facts[0]
    assert (paper.id, paper.title, paper.abstract) == (
        "2505.00001",
        "Paper number 1",
        "We introduce method 1.",
    )
    assert paper.authors == ("Ada A.", "Bob B.")
    assert paper.authors_complete
    assert (paper.upvotes, paper.comments, paper.submitter, paper.organisation) == (
        3,
        0,
        "Sub Mitter",
        "The Lab",
    )
    assert (paper.github, paper.project) == ("https://github.com/a/b", "https://a.example")
    assert (paper.media, paper.media_type) == ("https://cdn.example/clip.mp4", "video")
    assert paper.published == datetime(2025, 5, 6, 10, tzinfo=UTC)
    assert paper.listed_on == DAY


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_it_agrees_with_the_installed_client_where_that_keeps_a_fact(web, remote, daily, hub_item):
    daily({"2025-05-07": [hub_item(1), hub_item(2, modern=False), hub_item(3, votes=0)]})
    theirs = list(HfApi(endpoint=remote.url).list_daily_papers(date="2025-05-07"))
    ours = [entry.paper for entry in hub.list_daily(web, day=DAY).entries]
    for one, other in zip(ours, theirs, strict=True):
        assert one.id == other.id
        assert one.abstract == other.summary
        assert one.published == other.published_at
        assert list(one.authors) == [author.name for author in other.authors]
        assert one.submitter == other.submitted_by.fullname
        assert one.title == other.title
    # What the client loses, and why its objects are not used: the reason this module exists.
    assert theirs[2].upvotes is None
    assert ours[2].upvotes == 0
    assert theirs[0].github_repo is None
    assert ours[0].github == "https://github.com/a/b"


def test_a_title_only_under_paper_is_found(web, daily, hub_item):
    item = hub_item(1)
    del item["title"]
    daily({"2025-05-07": [item]})
    assert hub.list_daily(web, day=DAY).entries[0].paper.title == "Paper number 1"


def test_unknown_stays_unknown_and_is_never_zero(web, daily):
    bare = {"paper": {"id": "2505.00009", "title": "T"}}
    daily({"2025-05-07": [bare]})
    paper = hub.list_daily(web, day=DAY).entries[0].paper
    assert (paper.upvotes, paper.comments, paper.abstract, paper.media, paper.published) == (None,) * 5
    assert paper.authors == ()
    assert not paper.authors_complete


def test_hidden_authors_are_not_shown_and_leave_the_list_incomplete(web, daily, hub_item):
    authors = [{"name": "Ada A."}, {"name": "Shy S.", "hidden": True}]
    daily({"2025-05-07": [hub_item(1, paper={"authors": authors})]})
    paper = hub.list_daily(web, day=DAY).entries[0].paper
    assert paper.authors == ("Ada A.",)
    assert not paper.authors_complete


def test_hostile_facts_become_harmless(web, daily, hub_item):
    daily(
        {
            "2025-05-07": [
                hub_item(
                    1,
                    paper={
                        "title": "Broken\n  over\x00 lines \u202eevil <b>",
                        "projectPage": "javascript:alert(1)",
                        "githubRepo": "/relative",
                        "upvotes": True,
                        "mediaUrls": ["data:text/html,x"],
                    },
                    numComments=-4,
                    thumbnail=7,
                )
            ]
        }
    )
    paper = hub.list_daily(web, day=DAY).entries[0].paper
    assert paper.title == "Broken over lines evil <b>"  # markup is text; whoever shows it escapes it
    assert (paper.project, paper.github, paper.upvotes, paper.media, paper.comments) == (None,) * 5


@pytest.mark.parametrize("most", [100, 50])
@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 99, 100, 101, 150, 200, 230])
def test_long_days_are_paged_within_the_allowed_requests(web, remote, daily, hub_item, count, most):
    daily({"2025-05-07": [hub_item(number) for number in range(1, count + 1)]}, most=most)
    listing = hub.list_daily(web, day=DAY)
    assert [entry.paper.id for entry in listing.entries] == [f"2505.{n:05d}" for n in range(1, count + 1)]
    if most == 100:  # a server that gives fewer than it is asked for needs more
        assert remote.count("/api/daily_papers") <= 1 + math.ceil(count / 100)


def test_a_server_that_does_not_page_is_asked_twice_at_most(web, remote, reply, hub_item):
    remote.on("/api/daily_papers", reply.json([hub_item(number) for number in range(100)]))
    assert len(hub.list_daily(web, day=DAY).entries) == 100
    assert remote.count("/api/daily_papers") == 2


def test_repeated_papers_are_listed_once(web, daily, hub_item):
    daily({"2025-05-07": [hub_item(1), hub_item(2), hub_item(1)]})
    assert [entry.paper.id for entry in hub.list_daily(web, day=DAY).entries] == ["2505.00001", "2505.00002"]


def test_papers_published_after_the_day_are_refused(web, daily, hub_item):
    daily({"2025-05-07": [hub_item(1), hub_item(2, published="2025-06-01T00:00:00Z")]})
    listing = hub.list_daily(web, day=DAY)
    assert [entry.paper.id for entry in listing.entries] == ["2505.00001"]
    assert "another day" in listing.refused[0]


def test_an_item_that_is_no_paper_is_said_and_left_out(web, daily, hub_item):
    daily({"2025-05-07": [hub_item(1), {"paper": {"id": "not-an-id", "title": "T"}}, "text"]})
    listing = hub.list_daily(web, day=DAY)
    assert len(listing.entries) == 1
    assert len(listing.refused) == 2


def test_the_request_names_papertrial_and_says_what_it_wants(web, remote, daily, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    daily({})
    hub.list_daily(web, week="2025-W19", submitter="akhaliq", sort="trending")
    _, query, headers = remote.asked[0]
    assert query == {"week": "2025-W19", "submitter": "akhaliq", "sort": "trending", "limit": "100", "p": "0"}
    assert headers["user-agent"].startswith(f"papertrial/{version('papertrial')}; hf_hub/")
    assert "authorization" not in headers
    assert [path for path, _, _ in remote.asked] == ["/api/daily_papers"]  # and nothing beside it


def test_the_users_token_goes_along(web, remote, daily, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_played")
    daily({})
    hub.list_daily(web, day=DAY)
    assert remote.asked[0][2]["authorization"] == "Bearer hf_played"


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        ("<!DOCTYPE html><html>Please log in</html>", "text/html", 200, "web page instead of JSON"),
        ("  <html>captcha</html>", "application/json", 200, "web page instead of JSON"),
        ('[{"paper": ', "application/json", 200, "broken JSON"),
        ('{"error": "Invalid date"}', "application/json", 400, "Invalid date"),
        ('{"papers": []}', "application/json", 200, "no list of papers"),
        ("[" * 100_000, "application/json", 200, "broken JSON"),
    ],
)
def test_anything_but_a_list_of_papers_is_said_in_one_line(web, remote, reply, body, kind, status, said):
    remote.on("/api/daily_papers", reply(body, status, kind))
    with pytest.raises(RemoteError, match=said) as caught:
        hub.list_daily(web, day=DAY)
    assert "\n" not in str(caught.value)


def test_what_came_before_a_failure_is_kept(web, remote, reply, hub_item):
    page = reply.json([hub_item(number) for number in range(100)])
    remote.on("/api/daily_papers", [page, *[reply(status=429)] * 9])
    listing = hub.list_daily(web, day=DAY)
    assert len(listing.entries) == 100
    assert "too many requests" in listing.problem


def test_a_host_that_refuses_from_the_start_raises(web, remote, reply):
    remote.on("/api/daily_papers", reply(status=429))
    with pytest.raises(ThrottledError):
        hub.list_daily(web, day=DAY)


def test_a_cut_connection_is_tried_again(web, remote, reply, hub_item):
    remote.on("/api/daily_papers", [reply("[", cut=True), reply.json([hub_item(1)])])
    assert len(hub.list_daily(web, day=DAY).entries) == 1


def test_retry_after_is_honoured_end_to_end(web, remote, clock, reply, hub_item):
    refusal = reply(status=429, headers={"Retry-After": "30"})
    remote.on("/api/daily_papers", [refusal, reply.json([hub_item(1)])])
    hub.list_daily(web, day=DAY)
    assert 30.0 <= max(clock.slept) <= 31.0


def test_a_redirect_to_another_host_is_not_followed(web, remote, reply):
    remote.on("/api/daily_papers", reply(status=302, headers={"Location": "http://localhost:9/api"}))
    with pytest.raises(RemoteError, match="redirects to localhost"):
        hub.list_daily(web, day=DAY)


def test_a_redirect_on_the_same_host_is_followed(web, remote, reply, hub_item):
    remote.on("/api/daily_papers", reply(status=307, headers={"Location": "/elsewhere"}))
    remote.on("/elsewhere", reply.json([hub_item(1)]))
    assert len(hub.list_daily(web, day=DAY).entries) == 1


def test_redirects_in_a_circle_end(web, remote, reply):
    remote.on("/api/daily_papers", reply(status=302, headers={"Location": "/api/daily_papers"}))
    with pytest.raises(RemoteError, match="redirects more than 5 times"):
        hub.list_daily(web, day=DAY)


def test_a_compressed_bomb_is_not_unpacked(web, remote, reply, monkeypatch):
    import gzip

    from papertrial.digest.collecting import web as module

    monkeypatch.setattr(module, "MOST_BYTES", 1_000_000)
    bomb = gzip.compress(b"[" + b" " * 30_000_000)
    remote.on("/api/daily_papers", reply(bomb, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(RemoteError, match="more than 1,000,000 bytes"):
        hub.list_daily(web, day=DAY)


def test_offline_mode_of_the_client_is_named(web, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RemoteError, match="HF_HUB_OFFLINE"):
        hub.list_daily(web, day=DAY)


def test_one_paper_and_a_search(web, remote, reply, hub_item):
    one = hub_item(1)["paper"]
    remote.on("/api/papers/2505.00001", reply.json(one))
    remote.on("/api/papers/search", reply.json([hub_item(1), {"paper": {"title": "no id"}}]))
    assert hub.paper_info(web, "2505.00001").title == "Paper number 1"
    assert [paper.id for paper in hub.search_papers(web, "method")] == ["2505.00001"]
    with pytest.raises(BadInputError, match=r"the Hub has no paper 2505\.99999"):
        hub.paper_info(web, "2505.99999")
    with pytest.raises(BadInputError, match="written like"):
        hub.paper_info(web, "../secrets")
