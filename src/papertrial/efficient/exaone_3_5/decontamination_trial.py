"""Decontamination on trial: known leaks planted in made documents, searched by every rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from papertrial.efficient.exaone_3_5.decontamination import Rule
    from papertrial.efficient.exaone_3_5.leaks import Document
    from papertrial.efficient.exaone_3_5.pool import TestItem

else:  # help is read without numpy and numba
    Rule = Document = TestItem = Any

_LENGTHS = (500, 2000, 20_000)
_SHORT_LETTERS = 40
_KINDS: Mapping[str, tuple[str, int]] = {
    **{f"recall_{length}": ("verbatim", length) for length in _LENGTHS},
    "recall_part": ("part", 2000),
    "recall_punctuation": ("re-punctuated", 2000),
    "recall_case": ("re-cased", 2000),
    "recall_decomposed": ("decomposed", 2000),
    "recall_paraphrased": ("paraphrased", 2000),
    "false_positives": ("clean", 2000),
}
"""Metric, disguise, and letters of a document."""


@dataclass(frozen=True)
class DecontaminationTrial(Trial):
    """Plant test items in documents of known length and count which rule finds them.

    The leaks: whole copies in documents of 500, 2,000 and 20,000 letters, half copies, copies with other
    punctuation, with other letter case, in decomposed Unicode, in another order of words, and test items of 40
    letters in documents of 60. Beside them as many clean documents. Every arm reads the same documents.

    Attributes:
        documents: of each kind.
        items: made test items, English and Korean, where no file is given.
        tests: a file or folder of real test items (MMLU's .csv, .jsonl, .parquet, .txt) instead.
        window: letters of a substring.
    """

    documents: int = 120
    items: int = 60
    tests: str | None = None
    window: int = 50

    arms: ClassVar[tuple[str, ...]] = (
        "sampled-3",
        "sampled-5",
        "sampled-10",
        "gpt4",
        "chunked",
        "exhaustive",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "recall": Metric("share of whole copies", "higher"),
        **{f"recall_{length}": Metric("share of whole copies", "higher") for length in _LENGTHS},
        "recall_part": Metric("share of part copies", "higher", shown=False),
        "recall_punctuation": Metric("share", "higher", shown=False),
        "recall_case": Metric("share", "higher", shown=False),
        "recall_decomposed": Metric("share", "higher", shown=False),
        "recall_paraphrased": Metric("share", "higher", shown=False),
        "recall_short": Metric("share of 40-letter items", "higher", shown=False),
        "false_positives": Metric("share of clean documents", "lower"),
        "formula_error": Metric("share of whole copies", "lower", shown=False),
        "megabytes_a_second": Metric("MB/s", "higher"),
    }
    seeds: ClassVar[int] = 5
    prepared_by: ClassVar[tuple[str, ...]] = ("documents", "items", "tests", "window")

    def check(self) -> None:
        """Raise `BadInputError` for settings that leave nothing to count."""
        for name in ("documents", "items"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not _SHORT_LETTERS < self.window <= 60:
            raise BadInputError(
                f"window must lie between 41 and 60, as the made items need, got {self.window}"
            )

    def prepare(self, seed: int, folder: Path) -> None:
        """Make test items and documents: the same for every arm."""
        import json
        import random
        from dataclasses import asdict

        from papertrial.efficient.exaone_3_5.leaks import make_document

        items = self._items(seed)
        draw = random.Random(f"{seed} documents")
        made = {
            name: [asdict(make_document(items, length, disguise, draw)) for _ in range(self.documents)]
            for name, (disguise, length) in _KINDS.items()
        }
        whole = {"items": [asdict(item) for item in items], "documents": made}
        (folder / "documents.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Search all documents by one rule."""
        import json
        import time

        from papertrial.efficient.exaone_3_5.decontamination import Decontaminator
        from papertrial.efficient.exaone_3_5.leaks import Document
        from papertrial.efficient.exaone_3_5.pool import TestItem

        read = json.loads((watch.prepared / "documents.json").read_text(encoding="utf-8"))
        items = [TestItem(**item) for item in read["items"]]
        made = {name: [Document(**one) for one in documents] for name, documents in read["documents"].items()}
        searcher = Decontaminator(items, self._rule(arm, seed))
        searcher.find(made["recall_500"][0].text)  # compiled here, so that no arm's speed pays for it
        shares, megabytes, seconds = {}, 0.0, 0.0
        for done, (name, documents) in enumerate(made.items(), start=1):
            megabytes += sum(len(document.text.encode()) for document in documents) / 1e6
            start = time.perf_counter()
            found = sum(searcher.find(document.text) is not None for document in documents)
            seconds += time.perf_counter() - start
            shares[name] = found / self.documents
            watch.step(done, len(made), found=shares[name])
        shares["recall"] = sum(shares[f"recall_{length}"] for length in _LENGTHS) / len(_LENGTHS)
        return {
            **shares,
            "recall_short": self._short_recall(arm, seed),
            "formula_error": abs(shares["recall"] - self._expected_recall(arm, items, made)),
            "megabytes_a_second": megabytes / seconds,
        }

    def scale(self) -> str:
        """Say how many documents and items."""
        items = self.tests or f"{self.items} made test items"
        return f"{11 * self.documents} made documents a seed, {items}, windows of {self.window}"

    @classmethod
    def quick(cls) -> DecontaminationTrial:
        """Return the trial with 12 documents of each kind."""
        return cls(documents=12, items=12)

    def _items(self, seed: int) -> list[TestItem]:
        from papertrial.efficient.exaone_3_5.benchmarks import load_items
        from papertrial.efficient.exaone_3_5.leaks import make_items
        from papertrial.efficient.exaone_3_5.normalisation import normalise

        if self.tests is None:
            return make_items(self.items, seed)
        items = [item for item in load_items([self.tests]) if self.window <= len(normalise(item.text)) <= 450]
        if not items:
            raise BadInputError(f"{self.tests} has no test item of {self.window} to 450 letters and digits")
        return items

    def _rule(self, arm: str, seed: int) -> Rule:
        from papertrial.efficient.exaone_3_5.decontamination import Rule

        mode, _, samples = arm.partition("-")
        return Rule(mode=mode, samples=int(samples) if samples else None, window=self.window, seed=seed)

    def _expected_recall(self, arm: str, items: list[TestItem], made: Mapping[str, list[Document]]) -> float:
        """Return the share of whole copies that the arithmetic says are found."""
        from papertrial.efficient.exaone_3_5 import miss_rate
        from papertrial.efficient.exaone_3_5.normalisation import normalise

        rule = self._rule(arm, 0)
        options = {"samples": rule.drawn, "window": self.window}
        chances = []
        for document in (one for length in _LENGTHS for one in made[f"recall_{length}"]):
            sizes = (document.characters, document.copied)
            if arm == "exhaustive":
                chances.append(1.0)
            elif arm == "gpt4":
                item = len(normalise(items[document.item].text))
                chances.append(miss_rate.gpt4_catch_probability(item, document.copied, **options))
            elif arm == "chunked":
                place = (*sizes, document.start)
                chances.append(miss_rate.chunked_catch_probability(*place, chunk=rule.chunk, **options))
            else:
                chances.append(miss_rate.catch_probability(*sizes, **options))
        return sum(chances) / len(chances)

    def _short_recall(self, arm: str, seed: int) -> float:
        """Return the share of 40-letter items found in documents of 60 letters, by the letter of the rule."""
        import random
        import string
        from dataclasses import replace

        from papertrial.efficient.exaone_3_5.decontamination import Decontaminator
        from papertrial.efficient.exaone_3_5.pool import TestItem

        draw = random.Random(f"{seed} short")

        def letters(count: int) -> str:
            return "".join(draw.choices(string.ascii_letters, k=count))

        items = [TestItem(str(number), letters(_SHORT_LETTERS)) for number in range(self.documents)]
        rule = self._rule(arm, seed)
        short_items = "published" if rule.mode == "sampled" else "contained"
        searcher = Decontaminator(items, replace(rule, short_items=short_items))
        texts = [f"{letters(10)} {item.text} {letters(10)}" for item in items]
        return sum(searcher.find(text) is not None for text in texts) / len(texts)
