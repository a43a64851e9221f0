"""`papertrial apply score-steps`: a process reward model on the user's own solutions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papertrial.deeds import Deed, Fact
from papertrial.errors import BadInputError

if TYPE_CHECKING:
    from papertrial.deeds import Progress
    from papertrial.posttrain.steps import Solution, StepScorer, StepScores, Unscored
else:  # help is read without torch, and a protocol cannot be checked at run time
    Progress = Solution = StepScorer = StepScores = Unscored = Any


@dataclass(frozen=True)
class ScoreSteps(Deed):
    """Score every step of your solutions with a process reward model, or a language model.

    Reads JSON lines `{"question": …, "steps": […]}` and writes them again with `validity` and `good` (and
    `redundancy` and `redundant` where the model judges that), one entry a step; a solution that cannot be
    scored gets `unscored` with the reason instead. Other fields are kept.

    Attributes:
        scorer: a folder or hub id.
        data: the JSON lines to score.
        out: where to write; must not be there yet.
        convention: how the model wants its steps ("qwen-prm", "math-shepherd", "trl", "log-probability",
            …); None tells it from the name.
        threshold: above it a step is good; the convention's if not given.
        batch: solutions of the greatest length in one forward pass.
        max_tokens: longer solutions are left unscored.
        device: where the model runs.
        dtype: the number format of its weights.
    """

    scorer: str
    data: Path
    out: Path
    convention: str | None = None
    threshold: float | None = None
    batch: int = 8
    max_tokens: int = 2048
    device: str = "cpu"
    dtype: str = "float32"

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Score and write; return the path and how many steps were judged good."""
        from papertrial.posttrain.step_conventions import load_step_scorer
        from papertrial.posttrain.steps import StepScores

        if self.out.exists():
            raise BadInputError(f"{self.out} is there already; give another file, or move it away")
        if self.batch < 1:
            raise BadInputError(f"batch must be at least 1, got {self.batch}")
        rows = read_solutions(self.data)
        scorer = load_step_scorer(
            self.scorer,
            self.convention,
            dtype=self.dtype,
            device=self.device,
            tokens_per_batch=self.batch * self.max_tokens,
            max_tokens=self.max_tokens,
        )
        if self.threshold is not None:
            scorer.validity_threshold = self.threshold
        solutions = [solution for _, solution in rows]
        results = scorer.score_all(solutions, lambda done, total: progress(done, total, "solutions"))
        written = [scored_row(row, result, scorer) for (row, _), result in zip(rows, results, strict=True)]
        _write(self.out, written)
        return {
            "written": str(self.out),
            "solutions": len(rows),
            "unscored": sum(not isinstance(result, StepScores) for result in results),
            "steps": sum(len(row.get("good", [])) for row in written),
            "good steps": sum(sum(row.get("good", [])) for row in written),
            "threshold": scorer.validity_threshold,
        }


def read_solutions(file: Path) -> list[tuple[dict[str, Any], Solution]]:
    """Read JSON lines with `question` and `steps`, each beside the solution it holds.

    Raises:
        BadInputError: no such file, none or bad lines (named by file and line).
    """
    from papertrial.posttrain.prmbench.rows import numbered_lines
    from papertrial.posttrain.steps import Solution

    if not file.is_file():
        raise BadInputError(f"there is no file {str(file)!r}")
    rows = []
    for number, row in numbered_lines(file):
        question, steps = row.get("question"), row.get("steps")
        if not isinstance(question, str):
            raise BadInputError(f"{file}:{number}: 'question' must be a text, got {question!r:.60}")
        if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
            raise BadInputError(
                f"{file}:{number}: 'steps' must be a non-empty list of texts, got {steps!r:.60}"
            )
        rows.append((row, Solution(question, tuple(steps), f"{file}:{number}")))
    if not rows:
        raise BadInputError(f"{file} holds no solutions")
    return rows


def scored_row(row: dict[str, Any], result: StepScores | Unscored, scorer: StepScorer) -> dict[str, Any]:
    """Return a row with the scores of its steps, or the reason why it has none."""
    from papertrial.posttrain.steps import StepScores

    if not isinstance(result, StepScores):
        return {**row, "unscored": result.reason}
    labels = scorer.label(result)
    scored = {**row, "validity": result.validity.tolist(), "good": labels.good.tolist()}
    if result.redundancy is not None and labels.redundant is not None:
        scored |= {"redundancy": result.redundancy.tolist(), "redundant": labels.redundant.tolist()}
    return scored


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(f".{file.name}.half")
    half.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    half.replace(file)


deeds: dict[str, type[Deed]] = {"score-steps": ScoreSteps}
