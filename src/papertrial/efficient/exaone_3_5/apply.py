"""`papertrial apply decontaminate --method exaone_3_5`: drop the user's training examples that hold test items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from papertrial.deeds import Deed, Fact

if TYPE_CHECKING:
    from papertrial.deeds import Progress
else:  # help is read without torch, and a protocol cannot be checked at run time
    Progress = Any


@dataclass(frozen=True)
class Decontaminate(Deed):
    """Drop the training examples that hold benchmark test items, and say how many are missed.

    Kept examples go to OUT/kept, the reason of every dropped one to OUT/dropped, the counts to OUT/report.json.
    The same command goes on where it was stopped.

    Attributes:
        train: .jsonl, .parquet or .txt files, folders of them, or hub data sets ("org/name").
        tests: .csv (MMLU), .jsonl, .parquet or .txt files of test items, or folders of them.
        out: folder for the clean corpus and the reports.
        mode: "sampled" is EXAONE 3.5's rule (N random substrings of the example), "chunked" draws N of every
            2,000 characters, "exhaustive" looks at all, "gpt4" searches N substrings of each test item.
        samples: N; 10, and 3 for gpt4, if not given.
        window: characters of a substring.
        fields: text fields of .jsonl, .parquet and hub rows.
        lower_case: compare without letter case.
        shortest: leave out test items with fewer letters and digits (20 is sensible).
        published_short_items: treat test items shorter than a window by the letter of the published rule, which
            finds none in a longer example.
        workers: processes at a time.
        ray: run on a Ray cluster.
        seed: draws the substrings.
    """

    train: tuple[str, ...]
    tests: tuple[str, ...]
    out: Path
    mode: Literal["sampled", "chunked", "exhaustive", "gpt4"] = "exhaustive"
    samples: int | None = None
    window: int = 50
    fields: tuple[str, ...] = ("text",)
    lower_case: bool = False
    shortest: int = 1
    published_short_items: bool = False
    workers: int = 1
    ray: bool = False
    seed: int = 0

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Search the corpus, write what is clean, and return the counts and the expected miss rate.

        Raises:
            BadInputError: inputs that cannot be read, a setting out of range, or a folder of another job.
        """
        from papertrial.efficient.exaone_3_5.corpus import Job, decontaminate
        from papertrial.efficient.exaone_3_5.decontamination import Rule

        rule = Rule(
            mode=self.mode,
            samples=self.samples,
            window=self.window,
            lower_case=self.lower_case,
            short_items="published" if self.published_short_items else "contained",
            shortest=self.shortest,
            seed=self.seed,
        )
        report = decontaminate(
            self.train,
            Job(self.tests, rule, self.fields),
            self.out,
            workers=self.workers,
            executor="ray" if self.ray else "processes",
            on_shard=lambda done, total: progress(done, total, "shards"),
        )
        most = next(iter(report["by_item"].items()), (None, 0))
        names = ("examples", "kept", "dropped", "test_items", "test_items_empty", "test_items_skipped")
        return {
            "out": str(self.out),
            **{name: report[name] for name in names},
            "most_leaked_item": most[0],
            "its_leaks": most[1],
            "median_characters": report["median_characters"],
            "median_item": report["median_item"],
            "expected_miss_rate": report["miss_rate"],
        }


deeds: dict[str, type[Deed]] = {"decontaminate": Decontaminate}
