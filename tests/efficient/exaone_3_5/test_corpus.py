from __future__ import annotations

import json
import random
import string

import pytest

from papertrial.efficient.exaone_3_5 import corpus
from papertrial.efficient.exaone_3_5.apply import Decontaminate
from papertrial.efficient.exaone_3_5.benchmarks import load_items
from papertrial.efficient.exaone_3_5.corpus import Job, decontaminate
from papertrial.efficient.exaone_3_5.decontamination import Rule
from papertrial.efficient.exaone_3_5.shards import plan_shards, read_shard
from papertrial.errors import BadInputError


def letters(count, seed):
    return "".join(random.Random(seed).choices(string.ascii_letters + "  ", k=count))


@pytest.fixture
def data(tmp_path):
    """Return a folder with tests and a corpus of 60 examples in which every sixth holds a test item."""
    items = [letters(150, 1000 + n) for n in range(4)]
    folder = tmp_path / "data"
    (folder / "corpus").mkdir(parents=True)
    rows = [{"question": text, "choices": ["yes", "no"], "answer": "A"} for text in items]
    (folder / "tests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [letters(400, n) + (items[n % 4] if n % 6 == 0 else "") for n in range(60)]
    lines = [json.dumps({"text": text, "한글": n}, ensure_ascii=bool(n % 2)) for n, text in enumerate(texts)]
    (folder / "corpus" / "a.jsonl").write_text("\n".join(lines[:30]) + "\n\n" + lines[30])
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"text": texts[31:50], "number": list(range(31, 50))})
    pyarrow.parquet.write_table(table, folder / "corpus" / "b.parquet", row_group_size=7)
    (folder / "corpus" / "c.txt").write_text("\n\n".join(text.ljust(2100, ".") for text in texts[50:]))
    return folder


def job(data, mode="exhaustive", **settings):
    return Job((str(data / "tests.jsonl"),), Rule(mode=mode, **settings), bytes_a_shard=3000)


def contents(out):
    return {
        str(file.relative_to(out)): file.read_bytes()
        for part in ("kept", "dropped", "shards")
        for file in sorted((out / part).iterdir())
    }


def test_drops_the_planted_and_keeps_the_rest_to_the_byte(data, tmp_path):
    out = tmp_path / "out"
    report = decontaminate([str(data / "corpus")], job(data), out)
    assert (report["examples"], report["dropped"], report["kept"]) == (60, 10, 50)
    assert report["miss_rate"] == 0.0
    assert sum(report["by_item"].values()) == 10
    kept = b"".join(file.read_bytes() for file in sorted((out / "kept").glob("a-*.jsonl")))
    lines = (data / "corpus" / "a.jsonl").read_bytes().splitlines()
    assert kept.splitlines() == [line for n, line in enumerate(line for line in lines if line) if n % 6]
    import pyarrow.parquet

    numbers = [
        row["number"]
        for file in sorted((out / "kept").glob("b-*.parquet"))
        for row in pyarrow.parquet.read_table(file).to_pylist()
    ]
    assert numbers == [n for n in range(31, 50) if n % 6]
    reasons = [
        json.loads(line) for file in (out / "dropped").iterdir() for line in file.read_text().splitlines()
    ]
    assert len(reasons) == 10
    items = {item.name: item.text for item in load_items([data / "tests.jsonl"])}
    for reason in reasons:
        whole = "".join(character for character in items[reason["item"]] if character.isalnum())
        assert reason["text"] in whole
        assert reason["copied"] >= 50


@pytest.mark.parametrize("mode", ["sampled", "gpt4"])
def test_shard_sizes_and_processes_change_nothing_but_files(data, tmp_path, mode):
    whole = Job((str(data / "tests.jsonl"),), Rule(mode=mode, samples=2))
    small = Job(whole.tests, whole.rule, bytes_a_shard=1000)
    reports = [
        decontaminate([str(data / "corpus")], one, tmp_path / str(n)) for n, one in enumerate((whole, small))
    ]
    assert reports[0]["by_item"] == reports[1]["by_item"]
    assert 0 < reports[0]["dropped"] < 11


@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_every_executor_writes_the_same_files(data, tmp_path, executor):
    source = [str(data / "corpus" / "a.jsonl")]
    decontaminate(source, job(data, "sampled"), tmp_path / "serial")
    if executor == "ray":
        ray = pytest.importorskip("ray")
        import os

        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        decontaminate(source, job(data, "sampled"), tmp_path / executor, workers=2, executor=executor)
    finally:
        if executor == "ray":
            ray.shutdown()
    assert contents(tmp_path / executor) == contents(tmp_path / "serial")


def test_goes_on_where_it_was_killed(data, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    source = [str(data / "corpus")]
    decontaminate(source, job(data), whole)
    searched = []
    original = corpus.clean_shard

    def dying(shard, *rest):
        if len(searched) == 3:
            raise KeyboardInterrupt
        searched.append(shard.number)
        original(shard, *rest)

    monkeypatch.setattr(corpus, "clean_shard", dying)
    with pytest.raises(KeyboardInterrupt):
        decontaminate(source, job(data), stopped)
    monkeypatch.setattr(
        corpus, "clean_shard", lambda shard, *rest: (searched.append(shard.number), original(shard, *rest))
    )
    decontaminate(source, job(data), stopped)
    assert sorted(searched) == list(range(len(contents(whole)) // 3))
    assert contents(stopped) == contents(whole)


def test_another_job_does_not_mix_in(data, tmp_path):
    decontaminate([str(data / "corpus")], job(data), tmp_path / "out")
    with pytest.raises(BadInputError, match="holds another job"):
        decontaminate([str(data / "corpus")], job(data, "sampled"), tmp_path / "out")
    (data / "tests.jsonl").write_text(
        '{"text": "quite another benchmark with one question of some length?"}\n'
    )
    with pytest.raises(BadInputError, match="holds another job"):
        decontaminate([str(data / "corpus")], job(data), tmp_path / "out")


@pytest.mark.parametrize("size", [1, 7, 100, 3000, 10**6])
def test_byte_ranges_give_every_line_once(data, size):
    path = data / "corpus" / "a.jsonl"
    shards = plan_shards([str(path)], size)
    found = [example.whole for shard in shards for example in read_shard(shard, ("text",))]
    assert found == [line for line in path.read_bytes().splitlines() if line]


def test_a_hub_data_set_is_streamed(monkeypatch, tmp_path, data):
    import datasets

    import papertrial.efficient.exaone_3_5.shards as shards
    import papertrial.hub

    rows = datasets.IterableDataset.from_generator(
        lambda: ({"text": letters(300, n), "n": n} for n in range(25))
    )
    monkeypatch.setattr(papertrial.hub, "hub_has", lambda name, kind: True)
    monkeypatch.setattr(shards, "_open_hub", lambda source: rows)
    report = decontaminate(["some/corpus"], job(data), tmp_path / "out")
    assert report["kept"] == 25
    kept = [
        json.loads(line)
        for line in (tmp_path / "out" / "kept" / "some--corpus-00000.jsonl").read_text().splitlines()
    ]
    assert [row["n"] for row in kept] == list(range(25))


def test_the_deed_says_what_was_dropped_and_what_is_missed(data, tmp_path):
    seen = []
    deed = Decontaminate(
        (str(data / "corpus"),), (str(data / "tests.jsonl"),), tmp_path / "out", mode="sampled"
    )
    facts = deed.run(lambda done, total, what="": seen.append((done, total, what)))
    assert seen[-1][0] == seen[-1][1]
    assert facts["examples"] == 60
    assert 0.0 < facts["expected_miss_rate"] < 1.0
    assert (
        json.loads((tmp_path / "out" / "report.json").read_text())["miss_rate"] == facts["expected_miss_rate"]
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "t.csv",
            'Is "it" so?,yes,no,maybe,never,B\n\nWhat\u2028now?,1,2,3,4,C\n',
            ['Is "it" so?\nyes\nno\nmaybe\nnever', "What\u2028now?\n1\n2\n3\n4"],
        ),
        (
            "t.jsonl",
            '{"question": "Q", "choices": {"text": ["a"], "label": ["A"]}}\n{"text": "T"}',
            ["Q\na", "T"],
        ),
        ("t.txt", "one\n\ntwo\n", ["one", "two"]),
    ],
)
def test_items_of_every_form(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    assert [item.text for item in load_items([tmp_path])] == words


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.jsonl", '{"answer": "B"}', "t.jsonl:1 has no text under question"),
        ("t.jsonl", '{"question": "Q", "choices": "AB"}', "the choices are str, not a list"),
        ("t.md", "x", "has no .csv"),
        ("t.txt", "\n", "the tests hold no item"),
    ],
)
def test_items_that_cannot_be_read(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInputError, match=words):
        load_items([tmp_path])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"body": "x"}\n', r"a.jsonl@0 has no field 'text'; it has: body"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 3}\n', r"a.jsonl@14: 'text' is int, not text"),
        ("a.jsonl", b"[1]\n", "is not a JSON object but list"),
        ("a.jsonl", b'{"text"\n', "a.jsonl@0 is not JSON"),
        ("a.txt", b"\xff\xfe\xff", "is not UTF-8"),
        ("a.parquet", b"nothing", "cannot be read as parquet"),
        ("a.md", b"x", r"has no .jsonl, .parquet, .txt file"),
    ],
)
def test_corpora_that_cannot_be_read(data, tmp_path, name, content, words):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(BadInputError, match=words):
        decontaminate([str(folder)], job(data), tmp_path / "out")


def test_settings_that_cannot_work(data, tmp_path):
    for settings, words in (({"workers": 0}, "workers must be"), ({"executor": "dask"}, "unknown executor")):
        with pytest.raises(BadInputError, match=words):
            decontaminate([str(data / "corpus")], job(data), tmp_path / "out", **settings)
    with pytest.raises(BadInputError, match=r"there is no '\./nothing'"):
        decontaminate(["./nothing"], job(data), tmp_path / "out")
