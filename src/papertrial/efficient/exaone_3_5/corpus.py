"""Decontaminating a corpus: shard by shard, on one process, many, or a Ray cluster, and resumable.

Every shard is finished by one rename of its report, and what is drawn hangs on the examples alone: all
executors, and a run that was killed and taken up again, write the same files.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from papertrial.efficient.exaone_3_5.benchmarks import load_items
from papertrial.efficient.exaone_3_5.decontamination import Decontaminator, Leak, Rule
from papertrial.efficient.exaone_3_5.miss_rate import catch_probability, gpt4_catch_probability
from papertrial.efficient.exaone_3_5.normalisation import normalise
from papertrial.efficient.exaone_3_5.shards import BYTES_A_SHARD, Example, Shard, plan_shards, read_shard
from papertrial.errors import BadInputError, MissingExtraError, unknown
from papertrial.home import ensure_writable

Executor = Literal["processes", "ray"]

_ROWS_AT_ONCE = 1000
_LONGEST_SHOWN = 200  # characters of a copied span in a report


@dataclass(frozen=True)
class Job:
    """What a run does: the same job in the same folder goes on where it stopped.

    Attributes:
        tests: files and folders of test items.
        rule: how is searched.
        fields: text fields of .jsonl, .parquet and hub rows; an example is dropped for any of them.
        bytes_a_shard: of .jsonl files; smaller ones spread better, larger ones are fewer files.
    """

    tests: tuple[str, ...]
    rule: Rule
    fields: tuple[str, ...] = ("text",)
    bytes_a_shard: int = BYTES_A_SHARD


def decontaminate(
    train: Sequence[str],
    job: Job,
    out: Path,
    *,
    workers: int = 1,
    executor: str = "processes",
    on_shard: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the clean part of a corpus to `out/kept`, and why the rest was dropped to `out/dropped`.

    Kept examples are written as they came: lines of .jsonl to the byte, rows of .parquet, pieces of .txt.
    Every dropped one is a line {place, item, copied, start, text}: the test item found, and the copied characters.

    Args:
        train: files, folders, or hub data sets.
        job: test items, rule and fields.
        out: a folder that is new, empty, or holds the same job unfinished.
        workers: processes or Ray tasks at a time; with 1 and "processes", this process works.
        executor: "processes" or "ray".
        on_shard: called with shards done and all shards.

    Returns:
        The report, also written to `out/report.json`: counts, drops by test item, and the rule's miss rate on
        documents of the corpus's own median length.

    Raises:
        BadInputError: inputs that cannot be read, a setting out of range, or a folder of another job.
    """
    if executor not in get_args(Executor):
        raise unknown("executor", executor, get_args(Executor))
    if workers < 1:
        raise BadInputError(f"workers must be at least 1, got {workers}")
    shards = plan_shards(list(train), job.bytes_a_shard)
    _decontaminator.cache_clear()  # the files may have changed since a run before
    decontaminator = _decontaminator(job)
    _claim_folder(out, shards, job)
    left = [shard for shard in shards if not _report_file(out, shard).exists()]
    run = {"processes": _in_processes, "ray": _on_ray}[executor]
    if workers == 1 and executor == "processes":
        run = _here
    done = len(shards) - len(left)
    for _ in run(left, job, out, workers):
        done += 1
        if on_shard is not None:
            on_shard(done, len(shards))
    report = _summary(out, shards, job, decontaminator)
    (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    return report


def clean_shard(shard: Shard, job: Job, out: Path) -> None:
    """Search one shard and write its files, the report last."""
    search = _Search(_decontaminator(job))
    _write_kept(out / "kept", shard, search.kept(read_shard(shard, job.fields)))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in search.dropped)
    _write(out / "dropped" / f"{shard.name}.jsonl", lines.encode())
    report = {
        "examples": len(search.lengths),
        "dropped": len(search.dropped),
        "by_item": dict(Counter(row["item"] for row in search.dropped)),
        "lengths": _quantiles(search.lengths),
    }
    _write(_report_file(out, shard), json.dumps(report, ensure_ascii=False).encode())


class _Search:
    """Goes through examples once: gives those to keep, and remembers the others and all lengths."""

    def __init__(self, decontaminator: Decontaminator) -> None:
        self.dropped: list[dict[str, Any]] = []
        self.lengths: list[int] = []
        self._decontaminator = decontaminator

    def kept(self, examples: Iterable[Example]) -> Iterator[Any]:
        lower_case = self._decontaminator.rule.lower_case
        for example in examples:
            documents = [normalise(text, lower_case=lower_case) for text in example.texts]
            self.lengths.append(sum(len(document) for document in documents))
            leaks = (self._decontaminator.find_leak(document) for document in documents)
            leak = next((leak for leak in leaks if leak is not None), None)
            if leak is None:
                yield example.whole
            else:
                self.dropped.append(_reason(example, leak))


def _reason(example: Example, leak: Leak) -> dict[str, Any]:
    return {
        "place": example.place,
        "item": leak.item.name,
        "copied": leak.length,
        "start": leak.start,
        "text": leak.text[:_LONGEST_SHOWN],
    }


def _here(shards: list[Shard], job: Job, out: Path, workers: int) -> Iterator[None]:
    for shard in shards:
        clean_shard(shard, job, out)
        yield


def _in_processes(shards: list[Shard], job: Job, out: Path, workers: int) -> Iterator[None]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(clean_shard, shard, job, out) for shard in shards]):
                future.result()
                yield
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _on_ray(shards: list[Shard], job: Job, out: Path, workers: int) -> Iterator[None]:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    if not ray.is_initialized():
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    task = ray.remote(clean_shard)
    waiting = [task.remote(shard, job, out) for shard in shards]
    while waiting:
        finished, waiting = ray.wait(waiting, num_returns=1)
        try:
            ray.get(finished)
        except ray.exceptions.RayTaskError as problem:
            if isinstance(problem.cause, BadInputError):
                raise BadInputError(str(problem.cause)) from problem
            raise
        yield


@lru_cache(maxsize=1)
def _decontaminator(job: Job) -> Decontaminator:
    """Return the job's searcher; a worker builds it once."""
    return Decontaminator(load_items(job.tests), job.rule)


def _claim_folder(out: Path, shards: list[Shard], job: Job) -> None:
    """Write what is being done into a new folder, or check that a used one is of the same job."""
    ensure_writable(out)
    for name in ("kept", "dropped", "shards"):
        (out / name).mkdir(exist_ok=True)
    tests = hashlib.sha256()
    for item in _decontaminator(job).pool.items:
        tests.update(f"{item.name}\n{item.text}\n".encode("utf-8", "surrogatepass"))
    whole = {"job": asdict(job), "shards": [asdict(shard) for shard in shards], "tests": tests.hexdigest()}
    text = json.dumps(whole, indent=1, sort_keys=True)
    file = out / "job.json"
    if not file.exists():
        if any((out / "shards").iterdir()):
            raise BadInputError(f"{out} holds shards of a run whose job.json is gone; choose another folder")
        _write(file, text.encode())
    elif file.read_text(encoding="utf-8") != text:
        raise BadInputError(
            f"{out} holds another job (other files, tests or settings); choose another folder"
        )


def _report_file(out: Path, shard: Shard) -> Path:
    return out / "shards" / f"{shard.name}.json"


def _write_kept(folder: Path, shard: Shard, kept: Iterator[Any]) -> None:
    """Write what is kept as it comes, so that a shard need not fit in memory."""
    suffix = "jsonl" if shard.kind == "hub" else shard.kind
    path = folder / f"{shard.name}.{suffix}"
    working = path.with_name(f".{path.name}.writing")
    if shard.kind == "parquet":
        _write_rows(working, shard, kept)
    else:
        with working.open("wb") as file:
            for number, whole in enumerate(kept):
                if shard.kind == "txt":
                    file.write((b"\n\n" if number else b"") + whole.encode())
                elif shard.kind == "hub":
                    file.write(json.dumps(whole, ensure_ascii=False, default=str).encode() + b"\n")
                else:
                    file.write(whole + b"\n")
    working.replace(path)


def _write_rows(path: Path, shard: Shard, kept: Iterator[Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(shard.source) as file:
        schema = file.schema_arrow
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while rows := list(islice(kept, _ROWS_AT_ONCE)):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    working = path.with_name(f".{path.name}.writing")
    working.write_bytes(content)
    working.replace(path)


def _quantiles(lengths: list[int]) -> list[int]:
    """Return 101 quantiles: enough to find the corpus's median from its shards."""
    return [round(value) for value in np.percentile(lengths, range(101))] if lengths else []


def _summary(out: Path, shards: list[Shard], job: Job, decontaminator: Decontaminator) -> dict[str, Any]:
    reports: list[Mapping[str, Any]] = [json.loads(_report_file(out, shard).read_text()) for shard in shards]
    found: Counter[str] = Counter()
    for report in reports:
        found.update(report["by_item"])
    examples = sum(report["examples"] for report in reports)
    weights = [(length, report["examples"]) for report in reports for length in report["lengths"]]
    median = _weighted_median(weights)
    return {
        "examples": examples,
        "dropped": sum(report["dropped"] for report in reports),
        "kept": examples - sum(report["dropped"] for report in reports),
        "test_items": len(decontaminator.lengths),
        "test_items_empty": decontaminator.empty,
        "test_items_skipped": decontaminator.skipped,
        "by_item": dict(found.most_common()),
        **_expected_misses(job.rule, median, int(np.median(decontaminator.lengths))),
    }


def _weighted_median(weights: list[tuple[int, int]]) -> int:
    ordered, total, seen = sorted(weights), sum(count for _, count in weights), 0
    for length, count in ordered:
        seen += count
        if 2 * seen >= total:
            return length
    return 0


def _expected_misses(rule: Rule, document: int, item: int) -> dict[str, Any]:
    """Return the chance that a whole copied item of median length goes unseen in a document of median length."""
    if document < 1:
        return {"median_characters": 0, "median_item": item, "miss_rate": None}
    copied = min(item, document)
    if rule.mode == "exhaustive":
        caught = 1.0 if copied >= min(rule.window, item) else 0.0
    elif rule.mode == "gpt4":
        caught = gpt4_catch_probability(item, copied, samples=rule.drawn, window=rule.window)
    else:
        length = min(document, rule.chunk) if rule.mode == "chunked" else document
        copied = min(copied, length)
        caught = catch_probability(length, copied, samples=rule.drawn, window=rule.window)
    return {"median_characters": document, "median_item": item, "miss_rate": 1.0 - caught}
