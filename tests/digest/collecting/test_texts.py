"""Texts out of HTML, Markdown and PDF that nobody vouches for: sections, rows, and nothing that was hidden."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papertrial.digest.collecting.html_text import html_as_text, html_sections
from papertrial.digest.collecting.markdown_text import markdown_sections
from papertrial.digest.collecting.math_text import math_as_text, without_dollars
from papertrial.digest.collecting.paper_text import (
    PaperText,
    Section,
    kept_within,
    kind_of,
    without_number,
)
from papertrial.digest.collecting.pdf_text import heading_level, is_table_row, pdf_sections
from papertrial.digest.collecting.plain import arxiv_id, one_line, without_controls
from papertrial.digest.collecting.politeness import RemoteError
from papertrial.digest.grounding.index import PaperIndex
from papertrial.digest.grounding.tables import find_tables

PAGE = r"""<!DOCTYPE html><html><head><title>T</title><style>p{}</style></head><body>
<nav>menu 11</nav><header>banner 12</header><article class="ltx_document">
<h1 class="ltx_title ltx_title_document">A Model of Everything</h1>
<div class="ltx_authors">Ada 13</div>
<div class="ltx_abstract"><h6 class="ltx_title ltx_title_abstract">Abstract</h6>
 <p class="ltx_p">We introduce Foo, <math alttext="1.8\times"><mn>1.8</mn><annotation>1.8 14</annotation></math> faster
 &amp; smaller.</p></div>
<section class="ltx_section"><h2 class="ltx_title ltx_title_section"><span class="ltx_tag">1 </span>Introduction</h2>
 <p class="ltx_p">Methods are slow<span class="ltx_note">footnote 15</span>.</p>
 <table class="ltx_equation ltx_eqn_table"><tr><td>x=1</td><td class="ltx_tag_equation">(16)</td></tr></table>
 <section class="ltx_subsection"><h3 class="ltx_title ltx_title_subsection">1.1 Data</h3><p>Sub text.</p></section>
</section>
<section class="ltx_section"><h2 class="ltx_title ltx_title_section">4 Experiments</h2>
 <figure class="ltx_table"><figcaption class="ltx_caption">Table 1: Scores in %.</figcaption>
  <span class="ltx_tabular"><span class="ltx_tr"><span class="ltx_td">Model</span>
  <span class="ltx_td">MMLU</span></span>
  <span class="ltx_tr"><span class="ltx_td">Foo<table><tr><td>v</td><td>2</td></tr></table></span>
  <span class="ltx_td">87.<b>5</b></span></span></span></figure>
 <figure class="ltx_figure"><img src="x.png"/><figcaption>Figure 1: A curve.</figcaption></figure>
 <script>document.write("17")</script><p>We reach 87.5.</p></section>
<section class="ltx_bibliography"><h2>References</h2><ul><li>[1] Somebody, 1999.</li></ul></section>
</article><footer>18</footer></body></html>"""


def test_an_arxiv_page_becomes_its_sections():
    assert html_sections(PAGE) == (
        Section("Abstract", "abstract", ("We introduce Foo, 1.8× faster & smaller.",)),
        Section("Introduction", "introduction", ("Methods are slow.", "x=1")),
        Section("Data", "introduction", ("Sub text.",)),
        Section(
            "Experiments",
            "results",
            ("Figure 1: A curve.", "We reach 87.5."),
            ("Table 1: Scores in %.", "Model | MMLU", "Foo v 2 | 87.5"),
        ),
    )


def test_nothing_hidden_reaches_the_text():
    text = PaperText("arxiv html", html_sections(PAGE)).text
    assert not [number for number in range(11, 19) if str(number) in text]


def test_html_without_closing_tags_is_read_as_browsers_do():
    html = "<h2>Results<p>One.<p>Two.<ul><li>three<li>four</ul><table><tr><th>a<th>b<tr><td>1<td>2</table>"
    # a heading must be closed; the rest may be left open
    sections = html_sections(html.replace("Results", "Results</h2>"))
    assert sections[0].paragraphs == ("One.", "Two.", "three", "four")
    assert sections[0].rows == ("a | b", "1 | 2")


def test_tables_are_found_again_by_the_grounding_with_their_captions():
    section = Section(
        "R", "results", ("Prose.",), ("Table 1: A.", "m | x", "a | 1", "", "Table 2: B.", "m | y", "b | 2")
    )
    tables = find_tables(PaperText("arxiv html", (section,)).text)
    assert [(table.caption, table.columns, len(table.rows)) for table in tables] == [
        ("Table 1: A.", ("m", "x"), 1),
        ("Table 2: B.", ("m", "y"), 1),
    ]
    assert len(PaperIndex.of(PaperText("arxiv html", (section,)).text)) > 0


@pytest.mark.parametrize(
    "attack",
    [
        "<div>" * 50_000,
        "<p>" * 50_000 + "x",
        "<!--" * 100_000,
        "<![CDATA[" * 100_000,
        "<table><tr><td>" * 20_000,
        "&#x110000;&#0;&bogus;" * 20_000,
        "<a " + "x=" * 50_000,
        "</div>" * 50_000,
        "<a " * 50_000,
        "<a b='" * 50_000,
        "<script>" * 50_000,
        "<?" * 50_000,
        "<math alttext='" + "{" * 200_000 + "'>",
    ],
    ids=[
        "open",
        "paragraphs",
        "comments",
        "cdata",
        "tables",
        "entities",
        "attributes",
        "closed",
        "tags",
        "quotes",
        "scripts",
        "instructions",
        "math",
    ],
)
def test_hostile_pages_end_soon(attack):
    began = time.monotonic()
    html_sections(attack)
    assert time.monotonic() - began < 10  # seconds; a blow-up takes minutes or for ever


@given(st.text(max_size=200))
def test_any_text_survives_being_escaped_into_html(text):
    from html import escape

    shown = html_as_text(f"<p>{escape(text)}</p>")
    assert shown == " ".join(without_controls(text).split())


@given(st.text(alphabet="<>/abp tdr='\"&;!-h1", max_size=300))
def test_no_tag_soup_raises_or_leaves_a_tag(soup):
    html_sections(soup)
    assert "<script" not in html_as_text(f"{soup}<script>x</script>") or "<script" in soup


def test_markdown_becomes_sections():
    page = """---
title: x
---
# A Model of Everything

![logo](http://x/y.png)

## Abstract

We show **Foo** [here](http://x), $1.8\\times$ faster;
it costs $5 or $6.

## 2. Method

| Model | MMLU |
|:------|-----:|
| Foo \\| Bar | 87.5 |

1. first step
2. second step

```
code 12345
```

### 2.1 Results of it

> quoted text

## References

[1] Somebody, 1999.
"""
    assert markdown_sections(page) == (
        Section("Abstract", "abstract", ("We show Foo here, 1.8× faster; it costs $5 or $6.",)),
        Section(
            "Method", "method", ("1. first step", "2. second step"), ("Model | MMLU", "Foo / Bar | 87.5")
        ),
        Section("Results of it", "method", ("quoted text",)),
        Section("References", "references", ("[1] Somebody, 1999.",)),
    )


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"1.8\times", "1.8×"),
        (r"87.5\%", "87.5%"),
        (r"10{,}000", "10,000"),
        (r"3.2\pm 0.1", "3.2 ± 0.1"),
        (r"\mathcal{L}_{\mathrm{KL}}", "L_KL"),
        (r"10^{-3}", "10^-3"),
        (r"\frac{1}{2}", "1/2"),
        (r"\mathbf{87.5}", "87.5"),
    ],
)
def test_formulas_keep_their_numbers(tex, text):
    assert math_as_text(tex).replace(" ", "") == text.replace(" ", "")


def test_prices_are_no_formulas():
    assert without_dollars("from $5 per hour to $6 per hour") == "from $5 per hour to $6 per hour"


def pdf(*pages):
    """Write a PDF by hand, a line of text for each line: an independent source of known text."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    kids = []
    for lines in pages:
        moves = b"".join(
            b"(" + line.replace("(", r"\(").replace(")", r"\)").encode("latin-1") + b") Tj 0 -14 Td "
            for line in lines
        )
        stream = b"BT /F1 12 Tf 50 750 Td " + moves + b"ET"
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
        objects.append(page % len(objects) + b"/Resources << /Font << /F1 3 0 R >> >> >>")
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    return out + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)


def test_a_pdf_becomes_sections_with_words_and_rows_put_right():
    content = pdf(
        [
            "Journal of Tests",
            "A Model of Everything",
            "Abstract",
            "We introduce a method of compres-",
            "sion that works.",
            "1",
        ],
        ["Journal of Tests", "1 Introduction", "Existing methods are slow.", "2"],
        [
            "Journal of Tests",
            "4 Main Results",
            "Model MMLU GSM8K Mean",
            "Foo 87.5 90.1 88.8",
            "Bar 80.0 70.0 75.0",
            "We reach 87.5.",
            "References",
            "[1] Somebody.",
            "3",
        ],
    )
    sections = pdf_sections(content)
    assert [(one.heading, one.kind) for one in sections] == [
        ("", "other"),
        ("Abstract", "abstract"),
        ("Introduction", "introduction"),
        ("Main Results", "results"),
        ("References", "references"),
    ]
    assert sections[1].paragraphs == ("We introduce a method of compression that works.",)
    assert sections[3].rows == ("Model MMLU GSM8K Mean", "Foo 87.5 90.1 88.8", "Bar 80.0 70.0 75.0")
    assert not any("Journal" in one.text for one in sections)
    table = find_tables(sections[3].text)[0]
    assert table.columns == ("Model", "MMLU", "GSM8K", "Mean")


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("1 Introduction", 1),
        ("3.1 Experimental Setup", 2),
        ("A.2 Proof of the Lemma", 2),
        ("Abstract", 1),
        ("REFERENCES", 1),
        ("2 of the models were trained on it", None),
        ("A model that works", None),
        ("We use 3 models.", None),
        ("5 10 15 20 25 30", None),
    ],
)
def test_headings_are_told_from_prose(line, level):
    assert heading_level(line) == level


def test_rows_are_told_from_prose():
    assert is_table_row("Foo (ours) 87.5 90.1 88.8")
    assert not is_table_row("In 2024, the 7B model reached 87.5 on 3 tasks that we chose.")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"%PDF-1.4\ngarbage", "cannot be read"),
        (b"", "cannot be read"),
        (pdf([]), "no text"),
    ],
)
def test_a_pdf_that_cannot_be_read_is_said(content, said):
    with pytest.raises(RemoteError, match=said):
        pdf_sections(content)


def test_an_encrypted_pdf_is_said():
    import io

    import pypdf

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf(["Secret text"])))
    writer.encrypt("secret", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    with pytest.raises(RemoteError, match="encrypted"):
        pdf_sections(out.getvalue())


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("1 Introduction", "introduction"),
        ("III. PROPOSED METHOD", "method"),
        ("5.2. Ablation Studies", "results"),
        ("6 Conclusion and Future Work", "conclusion"),
        ("Appendix B Details", "appendix"),
        ("A. Preliminaries", "related"),
        ("Acknowledgements", "references"),
        ("실험 결과", "results"),
        ("Whatever", "other"),
    ],
)
def test_headings_say_what_a_section_is_for(heading, kind):
    assert kind_of(heading) == kind


def test_what_follows_the_references_is_appendix():
    assert kind_of("Additional Results", "references") == "appendix"
    assert kind_of("More Methods", "appendix") == "appendix"


@pytest.mark.parametrize(
    ("heading", "plain"),
    [
        ("3.1 Data", "Data"),
        ("IV. Results", "Results"),
        ("Civil War", "Civil War"),
        ("A. Proofs", "Proofs"),
        ("12", "12"),
    ],
)
def test_numbers_are_taken_off_headings(heading, plain):
    assert without_number(heading) == plain


sections = st.builds(
    Section,
    st.sampled_from(["A", "B", "C"]),
    st.sampled_from(
        ["abstract", "introduction", "method", "results", "related", "other", "appendix", "references"]
    ),
    st.lists(
        st.sampled_from(["First one. Second one. Third one.", "No end " * 90, "x" * 700]), max_size=5
    ).map(tuple),
    st.lists(st.sampled_from(["a | 1", "b | 2", "row " * 50]), max_size=4).map(tuple),
)


@given(st.lists(sections, max_size=6), st.integers(0, 3000))
def test_a_text_is_cut_by_sections_paragraphs_and_sentences_only(parts, most):
    text = PaperText("pdf", tuple(parts))
    kept = kept_within(text, most)
    assert len(kept.text) <= most or not kept
    assert not kept.of_kind("references")
    originals = {paragraph for part in parts for paragraph in part.paragraphs}
    for section in kept.sections:
        for paragraph in section.paragraphs:
            assert paragraph in originals or any(
                one.startswith(paragraph) and paragraph.endswith(".") for one in originals
            )
    whole = PaperText("pdf", tuple(one for one in parts if one.kind != "references"))
    if sum(len(one.text) + 2 for one in whole.sections) <= most:
        assert kept.left_out == ()
        assert (
            kept.text == PaperText("pdf", tuple(one for one in whole.sections if one)).text
            or not kept.left_out
        )


def test_the_least_telling_sections_go_first():
    body = "A sentence of prose. " * 20
    parts = tuple(
        Section(kind, kind, (body,)) for kind in ("abstract", "related", "method", "results", "appendix")
    )
    kept = kept_within(PaperText("hub", parts), 3 * (len(body) + 20))
    assert [one.kind for one in kept.sections] == ["abstract", "method", "results"]
    assert kept.left_out == ("appendix", "related")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("2505.03335v2", ("2505.03335", 2)),
        ("http://arxiv.org/abs/2505.03335v1", ("2505.03335", 1)),
        ("https://arxiv.org/pdf/2505.03335.pdf", ("2505.03335", None)),
        ("oai:arXiv.org:2505.03335v1", ("2505.03335", 1)),
        ("2505.03335vx", None),
        ("2505.03335²", None),
        ("25050.3335", None),
        ("../2505.03335/..", None),
        (None, None),
    ],
)
def test_arxiv_ids_are_read_strictly(given, found):
    assert arxiv_id(given) == found


def test_lines_lose_controls_and_turning_marks_but_keep_languages_and_emoji():
    assert one_line("a\x00b\u202ec\n  한국어 👩\u200d🔬 é\ufeff") == "abc 한국어 👩\u200d🔬 é"
    assert one_line("  ") is None
    assert one_line(3) is None
