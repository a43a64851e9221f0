"""The static site: whole without a server, written whole, and nothing of others is touched."""

from __future__ import annotations

import re
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from papertrial.errors import BadInputError


@pytest.fixture
def write(rooms, home, monkeypatch):
    from papertrial.site import library, static_site

    monkeypatch.setattr(library, "discover", lambda: rooms)
    return lambda folder, base=None: static_site.write_site(home, folder, base)


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_every_link_leads_to_a_file(write, measure, tmp_path):
    measure()
    measure(gap=2.5)
    folder = tmp_path / "site"
    assert write(folder) == len(contents(folder)) - 1, "and the list of its own files"
    pages = list(folder.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<form" not in text or "data-filter" in text
        assert 'method="post"' not in text
        for link in re.findall(r'(?:href|src)="([^"]*)"', text):
            if urlsplit(link).scheme or link.startswith("#"):
                continue
            target = unquote(urlsplit(urljoin(page.as_uri(), link)).path)
            assert target.startswith(str(folder)), f"{page}: {link}"
            assert (folder / target).is_file(), f"{page}: {link}"
    assert any("compare" in str(page) for page in pages)
    assert (folder / "papers" / "lab_paper" / "runs").is_dir()
    assert list(folder.rglob("note.txt"))


def test_writing_again_changes_nothing_and_removes_only_its_own(write, measure, tmp_path):
    folder = tmp_path / "site"
    run = measure()
    write(folder)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.html")}
    (folder / "CNAME").write_text("papers.example.org")
    (folder / "papers" / "lab_paper" / "mine.html").write_text("mine")
    write(folder)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    import shutil

    shutil.rmtree(run)
    (run.parent / "verdicts.json").unlink()
    write(folder)
    assert not list(folder.rglob(f"*{run.name}*"))
    assert (folder / "CNAME").read_text() == "papers.example.org"
    assert (folder / "papers" / "lab_paper" / "mine.html").read_text() == "mine"


def test_a_folder_of_others_is_refused(write, tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").write_text("years of work")
    with pytest.raises(BadInputError, match="is not empty and was not written by papertrial site"):
        write(folder)
    assert contents(folder) == {"chapter.tex": b"years of work"}
    (folder / "file").write_text("")
    with pytest.raises(BadInputError, match="is no folder"):
        write(folder / "file")


def test_nothing_is_written_or_removed_through_links(write, tmp_path):
    folder, other = tmp_path / "site", tmp_path / "other"
    other.mkdir()
    write(folder)
    import shutil

    shutil.rmtree(folder / "papers")
    (folder / "papers").symlink_to(other)
    with pytest.raises(BadInputError, match="a link or lies behind one"):
        write(folder)
    assert list(other.iterdir()) == []
    manifest = folder / ".papertrial-site.json"
    (tmp_path / "precious").write_text("")
    manifest.write_text('{"files": ["../precious", "/etc/hostname", "papers/x"]}')
    (folder / "papers").unlink()
    write(folder)
    assert (tmp_path / "precious").exists()


def test_feeds_name_the_site(write, tmp_path):
    import feedparser

    folder = tmp_path / "site"
    write(folder, "https://example.org/papers/")
    found = feedparser.parse((folder / "feed.atom").read_bytes())
    assert not found.bozo
    assert found.feed.link == "https://example.org/papers/"
