"""Chat models that need no model: scripted answers, recorded ones, and a cache on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from papertrial.cache import cached_folder
from papertrial.errors import BadInputError
from papertrial.home import ensure_writable
from papertrial.llm.asking import find_json, schema_problem
from papertrial.llm.chat import (
    ChatModel,
    InvalidAnswerError,
    Message,
    Schema,
    Usage,
    UsageLog,
    check_messages,
    request_key,
)

_ANSWER = "answer.txt"
Answers = Sequence[str | Exception] | Callable[[Sequence[Message]], str]


class Scripted:
    """A chat model whose answers are given in advance: for trials and tests without a model.

    Args:
        answers: one after the other, an exception being raised instead of said; or a function of the
            messages.
        name: what it is called.
    """

    def __init__(self, answers: Answers, name: str = "scripted") -> None:
        self._answers = answers
        self._name = name
        self.calls: list[tuple[list[dict[str, str]], Schema | None]] = []

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    def complete(self, messages: Sequence[Message], schema: Schema | None = None) -> str:
        """Return the next answer and keep the call in `calls`.

        Raises:
            BadInputError: all answers have been given.
        """
        check_messages(messages)
        self.calls.append(([dict(one) for one in messages], schema))
        if callable(self._answers):
            return self._answers(messages)
        if len(self.calls) > len(self._answers):
            raise BadInputError(f"{self._name} has {len(self._answers)} answers and was asked once more")
        answer = self._answers[len(self.calls) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Recorded:
    """A chat model that replays a file of answers, and adds to it where a real `model` is given too.

    The file has one JSON object a line: `key` (hash of model, messages and schema), `model`, `messages`,
    `schema`, `answer`.

    Args:
        path: the file.
        model: asked for what the file does not have; without it the file is all there is.

    Raises:
        BadInputError: without a model: the file is missing, broken, or holds answers of several models.
    """

    def __init__(self, path: str | Path, model: ChatModel | None = None) -> None:
        self._path = Path(path).expanduser()
        self._model = model
        if model is None and not self._path.is_file():
            raise BadInputError(f"there is no file of recorded answers {str(self._path)!r}")
        lines = _read_lines(self._path) if self._path.is_file() else []
        self._answers = {line["key"]: line["answer"] for line in lines}
        names = {line["model"] for line in lines}
        if model is None and len(names) != 1:
            raise BadInputError(f"{self._path} must hold the answers of one model, it has {sorted(names)}")
        self._name = model.name if model is not None else names.pop()

    @property
    def name(self) -> str:
        """The name of the model whose answers these are."""
        return self._name

    def complete(self, messages: Sequence[Message], schema: Schema | None = None) -> str:
        """Return the recorded answer, or ask and record it.

        Raises:
            BadInputError: the file has no answer to this, and there is no model to ask.
        """
        check_messages(messages)
        key = request_key(self._name, messages, schema)
        if key not in self._answers:
            if self._model is None:
                raise BadInputError(
                    f"{self._path} has no answer to the request that begins {messages[-1]['content'][:60]!r}"
                )
            self._answers[key] = answer = self._model.complete(messages, schema)
            self._add(
                {"key": key, "model": self._name, "messages": list(map(dict, messages))}, schema, answer
            )
        return self._answers[key]

    def _add(self, line: dict[str, Any], schema: Schema | None, answer: str) -> None:
        ensure_writable(self._path.parent)
        line |= {"schema": schema, "answer": answer}
        with FileLock(f"{self._path}.lock"), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


class Cached:
    """A chat model whose answers are kept on disk, so that the same question is paid for once.

    Args:
        model: the model that is asked.
        folder: where answers lie, each in a folder named by the hash of model, messages and schema.
        usage: where answers from disk are noted, as costing nothing.
    """

    def __init__(self, model: ChatModel, folder: str | Path, usage: UsageLog | None = None) -> None:
        self._model = model
        self._folder = Path(folder).expanduser()
        self._usage = usage

    @property
    def name(self) -> str:
        """The name of the model that is asked."""
        return self._model.name

    def complete(self, messages: Sequence[Message], schema: Schema | None = None) -> str:
        """Return the kept answer, or ask and keep it. An answer that does not fit the schema is not kept.

        Raises:
            BadInputError: the folder cannot be written; or as the model's own.
            ChatModelError: as the model's own.
        """
        check_messages(messages)
        asked = False

        def ask(folder: Path) -> None:
            nonlocal asked
            asked = True
            answer = self._model.complete(messages, schema)
            if schema is not None and not _fits(answer, schema):
                raise _NotKeptError(answer)
            (folder / _ANSWER).write_text(answer, encoding="utf-8")

        recipe = {"model": self.name, "messages": [dict(one) for one in messages], "schema": schema}
        try:
            kept = cached_folder(self._folder, "answer", recipe, ask)
        except _NotKeptError as unfit:
            return unfit.answer
        if not asked and self._usage is not None:
            self._usage.add(Usage(self.name, None, None, 0.0, cached=True))
        return (kept / _ANSWER).read_text(encoding="utf-8")


class _NotKeptError(Exception):
    def __init__(self, answer: str) -> None:
        super().__init__(answer)
        self.answer = answer


def _fits(answer: str, schema: Schema) -> bool:
    try:
        return schema_problem(find_json(answer), schema) is None
    except InvalidAnswerError:
        return False


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise BadInputError(f"cannot read the recorded answers {path}: {problem}") from problem
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            value = json.loads(line)
            lines.append({name: value[name] for name in ("key", "model", "answer")})
        except (ValueError, KeyError, TypeError) as problem:
            raise BadInputError(f"{path}, line {number}: not a recorded answer ({problem})") from problem
    return lines
