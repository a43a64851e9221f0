"""lm-eval's tasks by name, run on a model that is already in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from papertrial.errors import BadInputError, MissingExtraError, unknown


def lm_eval_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str | dict[str, Any]],
    *,
    shots: int | None = None,
    limit: int | None = None,
    length: int | None = None,
    batch_size: int = 8,
) -> dict[str, dict[str, float]]:
    """Run tasks of lm-eval on `model` and return every number they report, by task and metric.

    Args:
        model: in memory, on its device.
        tokenizer: the model's own.
        tasks: names that lm-eval knows ("arc_easy", "mmlu"), or tasks of your own as its configuration
            dictionaries. Named ones load their data from the hub.
        shots: examples in the prompt; the task's own number if not given.
        limit: questions of each task; all if not given.
        length: tokens the model may see at once.
        batch_size: sequences in one forward pass.

    Raises:
        MissingExtraError: lm-eval is not installed.
        BadInputError: no tasks, or a name that lm-eval does not know.
    """
    if not tasks:
        raise BadInputError("there are no tasks to run")
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as problem:
        raise MissingExtraError("lm-eval", "evaluation") from problem
    # reading the index of all tasks takes seconds: only where a name must be found in it
    manager = TaskManager(include_defaults=any(isinstance(task, str) for task in tasks))
    for task in tasks:
        if isinstance(task, str) and task not in manager.all_tasks:
            raise unknown("lm-eval task", task, manager.all_tasks)
    # lm-eval asks for a device only where it loads the model itself
    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=length)
    results = simple_evaluate(
        model=wrapped,
        tasks=list(tasks),
        num_fewshot=shots,
        limit=limit,
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=False,
    )
    if results is None:
        raise BadInputError("lm-eval returned nothing: only its first process has the results")
    return {task: _numbers(values) for task, values in results["results"].items()}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """Keep what is a number; lm-eval names a metric with its filter ("acc,none")."""
    return {
        name.removesuffix(",none"): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
