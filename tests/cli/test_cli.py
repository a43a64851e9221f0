"""The commands as a user types them: output, exit codes, help, mistakes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from papertrial.cli import main


@pytest.fixture
def run(lab, capsys):
    def call(*words):
        try:
            code = main(words)
        except SystemExit as left:  # tyro leaves this way where a value is wrong
            code = left.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_try_ends_in_a_table_and_a_report(run, tmp_path):
    code, out, _ = run("try", "lab_paper", "--workers", "1")
    assert code == 0
    assert "✔ holds" in out
    report = next(
        line.removeprefix("  report").strip() for line in out.splitlines() if line.startswith("  report")
    )
    assert Path(report).read_text().startswith("<!doctype html>")
    code, out, _ = run("papers")
    assert "3 holds" in out
    assert "measured here" in out


def test_try_json_is_json_alone(run):
    code, out, err = run("try", "lab_paper.noise", "--json", "--quick")
    assert code == 0
    raw = json.loads(out)
    assert raw["papers"][0]["card"]["name"] == "lab_paper"
    assert Path(raw["report"]).exists()
    assert "seed 0" in err


def test_an_arm_that_raises_is_exit_code_1(run):
    code, out, _ = run("try", "lab_paper.noise", "--raising", "method", "--workers", "1")
    assert code == 1
    assert "was told to raise" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("try", "lab_papr"), "unknown paper 'lab_papr'; did you mean lab_paper?"),
        (("try", "lab_paper.nose"), "unknown trial of lab_paper 'nose'; did you mean noise?"),
        (("try", "lab_paper", "--gapp", "1"), "no option '--gapp'; did you mean --gap?"),
        (("try", "lab_paper", "--gap", "wide"), "could not convert string to float: 'wide'"),
        (("try", "lab_paper", "--seeds", "0"), "--seeds must be at least 1, got 0"),
        (("try", "lab_paper", "--seconds", "-1"), "seconds must not be negative, got -1"),
        (("try", "lab_paper.noise", "--arms", "metod"), "unknown arm 'metod'; did you mean method?"),
        (("try",), "name a paper"),
        (("tri", "lab_paper"), "unknown command 'tri'; did you mean try?"),
        (("apply", "great"), "unknown deed 'great'; did you mean greet"),
        (("apply", "greet", "--method", "other"), "unknown method for greet 'other'"),
        (("apply", "greet", "--nam", "x"), "no option '--nam'; did you mean --name?"),
        (("evidence", "lab_paper", "--format", "xml"), "invalid choice"),
        (("new", "2505.123", "--field", "efficient"), "give one arXiv id"),
        (("new", "2505.12345", "--field", "efficent", "--title", "T"), "did you mean efficient?"),
        (("new", "2505.12345", "--field", "efficient"), "give the title of 2505.12345"),
    ],
)
def test_bad_input_is_one_clear_message_and_exit_code_2(run, words, said):
    code, out, err = run(*words)
    assert code == 2
    assert said in " ".join((out + err).replace("│", " ").split())
    assert "Traceback" not in out + err


def test_help_comes_from_the_trials_own_fields(run):
    code, out, _ = run("try", "lab_paper.noise", "-h")
    assert code == 0
    assert "how much lower the method's mean is" in out
    assert "the address of a Ray cluster" in out
    assert "arms: baseline, method" in out
    assert run("-h")[0] == 0
    assert run()[0] == 2


def test_apply_lists_deeds_and_does_one(run):
    assert "papertrial apply greet --method lab_paper" in run("apply")[1]
    assert "hello you" in run("apply", "greet", "--name", "you")[1]
    assert json.loads(run("apply", "greet", "--json")[1]) == {"greeting": "hello world"}
    assert "whom." in run("apply", "greet", "-h")[1]


def test_method_names_a_paper_or_one_of_its_methods(run):
    assert "hello world" in run("apply", "greet", "--method", "lab_paper")[1]
    assert "good day world" in run("apply", "greet", "--method", "good day")[1]
    assert "whom." in run("apply", "greet", "--method", "good day", "-h")[1]


def test_evidence_is_listed_and_exported(run, tmp_path):
    assert "nothing has been measured yet" in run("evidence", "lab_paper")[1]
    run("try", "lab_paper.noise", "--workers", "1")
    assert "2 × 3" in run("evidence", "lab_paper")[1]
    rows = list(csv.DictReader(io.StringIO(run("evidence", "lab_paper", "--format", "csv")[1])))
    assert len(rows) == (6 + 3) * 2  # six pairs and three points of the sweep, two metrics each
    raw = json.loads(run("evidence", "lab_paper", "--format", "json")[1])
    losses = {one["metrics"]["loss"] for one in raw[0]["measurements"]}
    measured = [row for row in rows if row["phase"] == "measured" and row["metric"] == "loss"]
    assert {float(row["value"]) for row in measured} == losses
    assert run("evidence", "lab_paper", "--format", "markdown", "--out", str(tmp_path / "e.md"))[0] == 0
    assert (tmp_path / "e.md").read_text().count("\n") == len(rows) + 2


def test_what_measurements_kept_is_listed_with_its_paths(run):
    assert run("evidence", "lab_paper", "--format", "files")[:2] == (0, "")
    run("try", "lab_paper.noise", "--workers", "1")
    (group,) = json.loads(run("evidence", "lab_paper", "--format", "json")[1])
    film = Path(group["folder"]) / "artifacts" / "method@0" / "clip.mp4"
    film.write_bytes(b"a film")
    listed = [Path(line) for line in run("evidence", "lab_paper", "--format", "files")[1].splitlines()]
    assert film in listed
    kept = {f"{arm}@{seed}/note.txt" for arm in ("baseline", "method") for seed in range(3)}
    assert {f"{path.parent.name}/{path.name}" for path in listed} == kept | {
        "method@0/clip.mp4",
        "method@9001/note.txt",  # of the tuning seed
    }
    assert all(path.is_file() for path in listed)
    (group,) = json.loads(run("evidence", "lab_paper", "--format", "json")[1])
    assert [Path(group["folder"]) / name for name in group["files"]] == listed


def test_papers_shows_a_card_in_both_languages(run):
    code, out, _ = run("papers", "lab_paper")
    assert code == 0
    assert "The method is lower" in out
    assert "trial noise: two runs give the same numbers" in " ".join(out.split())
    assert "없음." in run("papers", "lab_paper", "--lang", "ko")[1]
    assert run("papers", "2501.00001")[0] == 0  # by its arXiv id
    assert json.loads(run("papers", "--json")[1])[-1]["name"] == "lab_paper"


def test_papers_imports_no_torch():
    code = "import sys; from papertrial.cli import main; main(['papers']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_new_makes_a_room_that_plugs_in(run, tmp_path):
    digest = tmp_path / "2025-05-07.md"
    digest.write_text(
        "\n\n## Papers for 2025-05-07\n\n| Title | Authors | Summary |\n|-------|---------|---------|\n"
        "| Other (Read more on [arXiv](https://arxiv.org/abs/2505.00001) or [HuggingFace](h))| A | No. |\n"
        '| Alpha: A "Broken"\n  Title (Read more on [arXiv](https://arxiv.org/abs/2505.12345) or [HuggingFace](h))'
        "| A, B | It does p(x | y). |\n"
    )
    words = ("new", "2505.12345", "--field", "efficient", "--digest", str(digest), "--into", str(tmp_path))
    assert run(*words)[0] == 0
    project = tmp_path / "papertrial-alpha"
    from papertrial.trial.card import load_card

    card = load_card(project / "alpha", "alpha", "efficient")
    assert card.title == 'Alpha: A "Broken" Title'
    assert str(card.day) == "2025-05-07"
    assert card.summary["en"].whats_new == "It does p(x | y)."
    assert card.status == "docket"
    compile((project / "alpha" / "trial.py").read_text(), "trial.py", "exec")
    assert '"efficient.alpha" = "alpha"' in (project / "pyproject.toml").read_text()
    code, _, err = run(*words)
    assert code == 2
    assert "is there already" in err


def test_new_reads_a_korean_entry_and_says_what_a_digest_has(run, tmp_path):
    digest = tmp_path / "ko.md"
    digest.write_text("## Daily Papers (2025-01-08)\n\n### [Beta [v2]](https://arxiv.org/abs/2501.03124)\n\n")
    assert (
        run("new", "2501.03124", "--field", "agents", "--digest", str(digest), "--into", str(tmp_path))[0]
        == 0
    )
    assert 'title   = "Beta [v2]"' in (tmp_path / "papertrial-beta-v2" / "beta_v2" / "card.toml").read_text()
    code, _, err = run(
        "new", "2501.99999", "--field", "agents", "--digest", str(digest), "--into", str(tmp_path)
    )
    assert code == 2
    assert "it has 2501.03124" in err
