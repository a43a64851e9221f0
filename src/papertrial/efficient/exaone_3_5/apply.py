"""`papertrial apply decontaminate` and `haystacks`: test items out of a corpus, needles out of a long context."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from papertrial.deeds import Deed, Fact, check_new_folder

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


@dataclass(frozen=True)
class Haystacks(Deed):
    """Look for needles at every depth of haystacks of every length, with a model of one's own, as figure 3 does.

    Answers are greedy and count where they hold the needle's number. The shares go to OUT/haystacks.json, a heat
    map of each language to OUT/haystacks-LANGUAGE.png.

    Attributes:
        model: a folder or hub id; an EXAONE 3.5 checkpoint is loaded as a Llama, without remote code. A toy model
            ("tiny-llama") is drawn at random.
        out: folder for the grid; must not hold files yet.
        lengths: tokens of the haystacks, questions not counted.
        depths: where the needles stand, each from 0 to 1.
        languages: "en", "ko".
        near_misses: statements that differ from a needle in one word.
        repeats: haystacks of each length and language.
        answer_tokens: most tokens of an answer.
        device: where the model runs.
        dtype: number format of its weights.
        seed: draws haystacks.
    """

    model: str
    out: Path
    lengths: tuple[int, ...] = (1024, 4096, 8192, 16_384, 32_768)
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    languages: tuple[Literal["en", "ko"], ...] = ("en", "ko")
    near_misses: int = 4
    repeats: int = 1
    answer_tokens: int = 16
    device: str = "cpu"
    dtype: str = "float32"
    seed: int = 0

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Read the haystacks, write the grid, and return the share of needles found in each language.

        Raises:
            BadInputError: `out` holds files, nothing to load, or a haystack longer than the model's positions.
        """
        from papertrial.efficient.exaone_3_5.haystacks import evaluate_haystacks
        from papertrial.efficient.exaone_3_5.weights import from_pretrained
        from papertrial.models import TINY_MODELS, load_tokenizer, load_with_tokenizer

        check_new_folder(self.out)
        if self.model in TINY_MODELS:
            model, tokenizer = load_with_tokenizer(
                self.model, dtype=self.dtype, device=self.device, seed=self.seed
            )
        else:
            model = from_pretrained(self.model, dtype=self.dtype, device=self.device)
            tokenizer = load_tokenizer(self.model)
        grid = evaluate_haystacks(
            model,
            tokenizer,
            self.lengths,
            depths=self.depths,
            languages=self.languages,
            near_misses=self.near_misses,
            repeats=self.repeats,
            seed=self.seed,
            answer_tokens=self.answer_tokens,
            on_haystack=lambda done, total: progress(done, total, "haystacks"),
        )
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / "haystacks.json"
        path.write_text(json.dumps(asdict(grid), indent=1), encoding="utf-8")
        facts: dict[str, Fact] = {"grid": str(path)}
        for language, rows in grid.scores.items():
            figure = self.out / f"haystacks-{language}.png"
            grid.figure(language).savefig(figure, dpi=150, bbox_inches="tight")
            cells = [cell for row in rows for cell in row]
            facts[f"found_{language}"] = sum(cells) / len(cells)
            facts[f"figure_{language}"] = str(figure)
        return facts


deeds: dict[str, type[Deed]] = {"decontaminate": Decontaminate, "haystacks": Haystacks}
