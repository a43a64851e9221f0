"""A chat model as a step scorer: asked to judge every step, and to answer in JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from papertrial.errors import BadInputError
from papertrial.posttrain.parsing import find_json_object
from papertrial.posttrain.steps import (
    OnScored,
    Solution,
    StepScorer,
    StepScores,
    Unscored,
    checked_solutions,
    without_step_number,
)

Message = dict[str, str]
Ask = Callable[[list[Message]], str]

INSTRUCTION = """You judge solutions to mathematical problems, step by step.

For each step give two numbers between -1 and 1:
- validity: 1 for a step that is right, -1 for one that is wrong, in between when it is partly right;
- redundancy: 1 for a step that could be left out, -1 for one that the solution cannot do without.

Answer with one JSON object and nothing else, with one number for each step in each list:
{"validity": [1.0, -0.5], "redundancy": [-1.0, 0.3]}"""


class CriticScorer(StepScorer):
    """Scores steps by asking a chat model. A step is good, or redundant, when its number lies above 0.

    An answer without a JSON object, or with lists of another length than the steps, leaves the solution
    `Unscored`; report the validity rate beside every number that comes from a critic.

    Args:
        ask: gives the model's answer to a list of messages (`{"role": …, "content": …}`); any client will do.
        examples: worked pairs of (solution, answer) to show first.
        instruction: the system prompt.
        strict: whether the answer must be JSON as the standard has it, or may hold comments.
    """

    validity_threshold = 0.0
    redundancy_threshold = 0.0

    def __init__(
        self,
        ask: Ask,
        *,
        examples: Sequence[tuple[Solution, str]] = (),
        instruction: str = INSTRUCTION,
        strict: bool = False,
    ) -> None:
        self.ask = ask
        self.instruction = instruction
        self.examples = tuple(examples)
        self.strict = strict

    def score_all(
        self, solutions: Sequence[Solution], on_scored: OnScored | None = None
    ) -> list[StepScores | Unscored]:
        """See `StepScorer.score_all`."""
        results = []
        for done, solution in enumerate(checked_solutions(solutions), start=1):
            answer = self.ask(self.messages(solution))
            results.append(parse_judgement(answer, len(solution.steps), strict=self.strict))
            if on_scored is not None:
                on_scored(done, len(solutions))
        return results

    def messages(self, solution: Solution) -> list[Message]:
        """Return what the model is sent about one solution."""
        messages = [{"role": "system", "content": self.instruction}]
        for shown, answer in self.examples:
            messages.append({"role": "user", "content": _question(shown)})
            messages.append({"role": "assistant", "content": answer})
        return [*messages, {"role": "user", "content": _question(solution)}]


def parse_judgement(answer: str, steps: int, *, strict: bool = False) -> StepScores | Unscored:
    """Read a critic's answer: `{"validity": […], "redundancy": […]}` somewhere inside it.

    Args:
        answer: what the model wrote.
        steps: how many numbers each list must have.
        strict: see `find_json_object`.
    """
    found = find_json_object(answer, strict=strict)
    if found is None:
        return Unscored("the answer has no JSON object")
    lists = {}
    for name in ("validity", "redundancy"):
        values = found.get(name)
        if not isinstance(values, list) or not all(_is_number(value) for value in values):
            return Unscored(f"{name!r} is no list of numbers")
        if len(values) != steps:
            return Unscored(f"{name!r} has {len(values)} numbers for {steps} steps")
        lists[name] = np.array(values, dtype=np.float64)
    return StepScores(lists["validity"], lists["redundancy"])


def generate_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_new_tokens: int = 512
) -> Ask:
    """Return a function that answers messages with a local model, greedily.

    Raises:
        BadInputError: a tokenizer without a chat template, or a limit below 1.
    """
    if not tokenizer.chat_template:
        raise BadInputError("a critic needs a tokenizer with a chat template")
    if max_new_tokens < 1:
        raise BadInputError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    model.eval()

    def ask(messages: list[Message]) -> str:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(str(text), add_special_tokens=False, return_tensors="pt").to(model.device)
        generate: Any = model.generate
        with torch.inference_mode():
            ids = generate(
                **prompt,
                do_sample=False,
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
            )
        return str(tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))

    return ask


def _question(solution: Solution) -> str:
    steps = "\n\n".join(
        f"Step {number}: {without_step_number(step)}" for number, step in enumerate(solution.steps, start=1)
    )
    return f"Question: {solution.question}\n\nSolution:\n\n{steps}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
