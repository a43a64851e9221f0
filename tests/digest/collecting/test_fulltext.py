"""The text of one paper: which source it comes from, what is kept, and what is never taken for a text."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import HfApi

from papertrial.digest.collecting import PaperText, read_text
from papertrial.digest.records import Paper
from papertrial.errors import BadInputError

BODY = "We train a small model on the same tokens and measure its loss. " * 40
MARKDOWN = (
    f"# T\n\n## Abstract\n\nWe show it.\n\n## 1 Introduction\n\n{BODY}\n\n"
    f"## 4 Results\n\n{BODY}\n\n| a | b |\n|--|--|\n| 1 | 2 |\n"
)
HTML = (
    "<html><body><article><h1>T</h1><h2>1 Introduction</h2>"
    f"<p>{BODY}</p><h2>4 Results</h2><p>{BODY}</p></article></body></html>"
)


@pytest.fixture
def paper():
    return Paper(id="2505.03335", title="T", abstract="We show it.")


def test_the_hubs_page_comes_first_and_is_what_its_client_reads(web, remote, reply, paper):
    remote.on("/papers/2505.03335.md", reply(MARKDOWN, kind="text/markdown"))
    text = read_text(paper, web=web)
    assert (text.source, text.kind, text.notes) == ("hub", "full text", ())
    assert [section.kind for section in text.sections] == ["abstract", "introduction", "results"]
    assert text.sections[-1].rows == ("a | b", "1 | 2")
    assert HfApi(endpoint=remote.url).read_paper("2505.03335") == MARKDOWN
    assert {path for path, _, _ in remote.asked} == {"/papers/2505.03335.md"}


def test_each_source_is_tried_in_turn_and_what_it_lacked_is_said(web, remote, reply, paper):
    remote.on("/papers/2505.03335.md", reply("# T\n\nWe show it.", kind="text/markdown"))
    remote.on("/html/2505.03335", reply(HTML, kind="text/html"))
    text = read_text(paper, web=web)
    assert text.source == "arxiv html"
    assert text.notes == ("the Hub: no full text there.",)
    assert text.sections[0].paragraphs == ("We show it.",)  # the abstract, which that page lacks
    assert [path for path, _, _ in remote.asked] == ["/papers/2505.03335.md", "/html/2505.03335"]


def test_the_abstract_is_left_where_nothing_else_is(web, remote, paper, own_home):
    text = read_text(paper, web=web)
    assert (text.source, text.kind, text.text) == ("abstract", "abstract", "## Abstract\n\nWe show it.")
    assert len(text.notes) == 3
    assert all("404" in note for note in text.notes)
    assert not (own_home / "digest" / "texts").exists()  # a full text may appear later
    read_text(paper, web=web)
    assert remote.count("/pdf/2505.03335") == 2


def test_nothing_at_all_is_an_empty_text(web):
    text = read_text(Paper(id="2505.03335", title="T"), web=web)
    assert not text
    assert text.text == ""


def test_a_pdf_is_read_last(web, remote, reply, paper, monkeypatch):
    from papertrial.digest.collecting import fulltext, html_text

    remote.on("/pdf/2505.03335v2", reply(b"%PDF-1.4 played", kind="application/pdf"))
    monkeypatch.setattr(fulltext, "pdf_sections", lambda content: html_text.html_sections(HTML))
    text = read_text(Paper(id="2505.03335", version=2, title="T", abstract="We show it."), web=web)
    assert text.source == "pdf"


def test_a_page_that_is_no_pdf_is_not_read_as_one(web, remote, reply, paper):
    remote.on("/pdf/2505.03335", reply("<html>captcha</html>", kind="text/html"))
    assert "no PDF, but text/html" in read_text(paper, web=web).notes[2]


def test_login_and_captcha_pages_are_no_text(web, remote, reply, paper):
    remote.on("/papers/2505.03335.md", reply(HTML, kind="text/html"))
    remote.on("/html/2505.03335", reply("<html><h1>Are you human?</h1></html>", kind="text/html"))
    text = read_text(paper, web=web)
    assert text.source == "abstract"
    assert "login or a captcha" in text.notes[0]


def test_a_throttling_arxiv_is_not_asked_for_the_pdf_too(web, remote, reply, paper):
    remote.on("/html/2505.03335", reply(status=429))
    text = read_text(paper, web=web)
    assert text.source == "abstract"
    assert remote.count("/pdf/2505.03335") == 0


def test_a_text_is_fetched_once_and_kept_whole(web, remote, reply, paper, own_home):
    remote.on("/papers/2505.03335.md", reply(MARKDOWN, kind="text/markdown"))
    first = read_text(paper, web=web)
    short = read_text(paper, web=web, most=3500)
    assert len(short.text) <= 3500
    assert short.left_out
    assert read_text(paper, web=web, offline=True) == first
    assert len(remote.asked) == 1
    read_text(paper, web=web, refresh=True)
    assert len(remote.asked) == 2
    assert (
        json.loads((own_home / "digest/texts/2505.03335.json").read_text())["schema"] == "papertrial.text/1"
    )


def test_offline_without_a_kept_text_is_the_abstract(web, remote, paper):
    text = read_text(paper, web=web, offline=True)
    assert text.notes == ("No full text was fetched before.",)
    assert remote.asked == []


def test_bad_input_is_refused(web, paper, own_home):
    with pytest.raises(BadInputError, match="arXiv id"):
        read_text(Paper(id="../../etc/passwd", title="T"), web=web)
    with pytest.raises(BadInputError, match="at least 1000"):
        read_text(paper, web=web, most=10)
    file = own_home / "digest/texts/2505.03335.json"
    file.parent.mkdir(parents=True)
    for content in (
        "{",
        "[]",
        '{"schema": "papertrial.text/1", "text": {"source": "rumour", "sections": []}}',
    ):
        file.write_text(content)
        with pytest.raises(BadInputError, match="broken"):
            read_text(paper, web=web)


def test_an_abstract_is_a_text(paper):
    assert PaperText.of_abstract(paper).kind == "abstract"
    assert PaperText.of_abstract(paper)
    assert not PaperText.of_abstract(Paper(id="2505.03335", title="T", abstract="  "))
