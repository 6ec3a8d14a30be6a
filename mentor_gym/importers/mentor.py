"""MENTOR-data: the training tasks of the MENTOR paper, maths questions with Python tools.

Rows: `question`, a text; `reward_model`, with `ground_truth`, a text, a number or a list of those of which each is
right; `extra_info`, with `func_schemas`, a list of function schemas, and `env`, the Python source text of the
functions; `tool_calls_used`, the names of the tools that the teacher called. Each of `reward_model`,
`extra_info`, `func_schemas` and `tool_calls_used` may be its JSON text; `env` may stand in the row itself. Usually
a parquet file, which needs the extra `data`.

The source text runs in the sandbox of the `code` box alone, for every call anew (`mentor_gym.importers.boxes`). A
source that does not run there, or lacks one of its functions, makes its rows unusable; they are left out and
reported. The set has no teacher traces: tasks have no teacher, and the names stand in `meta["teacher_tools"]`.

Format: Choi et al., "MENTOR", arXiv 2510.18383, and its authors' code (MENTOR-RL), which reads these fields.
"""

from __future__ import annotations

import keyword
from collections import Counter
from typing import Any

import msgspec

from mentor_gym.data import DataError
from mentor_gym.grading import grade, parse_number
from mentor_gym.importers.base import Imported, Request, Unusable, convert_rows, finish
from mentor_gym.importers.boxes import STOPPED, Catalogue, run_source
from mentor_gym.importers.files import decode, kind_of, list_field, text_field
from mentor_gym.importers.schemas import function_schema
from mentor_gym.protocol import clean
from mentor_gym.tools.code import shared_interpreter
from mentor_gym.tools.monty_worker import find_monty
from mentor_gym.types import Task

_TOOLS = '''"""Tools of this suite: source texts of tools.json, which stands beside this file, run in a sandbox."""

from pathlib import Path

from mentor_gym.importers.boxes import Catalogue, SourceBox

_CATALOGUE = Catalogue.read(Path(__file__).with_name("tools.json"))


def make_box() -> SourceBox:
    """Build the box."""
    return SourceBox(_CATALOGUE)
'''


def convert(request: Request) -> Imported:
    """Import the files of a request.

    Raises:
        DataError: A file or row is broken.
        ModuleNotFoundError: The sandboxed interpreter, or what reads parquet, is not installed.
    """
    if find_monty() is None:
        raise ModuleNotFoundError("the tools of MENTOR-data need Monty: pip install pydantic-monty-runtime")
    reader = _Reader(request.name)
    drafts = convert_rows(request, reader.task)
    catalogue = Catalogue([msgspec.json.decode(key) for key in reader.schemas], list(reader.sources))
    files = {"tools.json": catalogue.write(), "tools.py": _TOOLS.encode()}
    problems = Counter(problem for problem in reader.checked.values() if problem)
    notes = [
        f"source texts that cannot be used: {count}, because {problem}" for problem, count in problems.items()
    ]
    notes.append(
        "the set has no traces: there is nothing to imitate in supervised training; the names of the teacher's "
        "tools stand in meta.teacher_tools, where rewards of names find them"
    )
    return finish(request, drafts, "imported from MENTOR-data, with sandboxed Python tools", files, notes)


class _Reader:
    """Makes tasks of rows; keeps the distinct schemas and sources."""

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self.schemas: dict[bytes, int] = {}
        self.sources: dict[str, int] = {}
        self.checked: dict[tuple[str, tuple[str, ...]], str | None] = {}

    def task(self, where: str, row: dict[str, Any], task_id: str, split: str) -> Task:
        question = text_field(row, ("question",), where)
        extra = _object(row, "extra_info", where)
        schemas = [
            function_schema(schema, f'{where}: field "extra_info.func_schemas[{i}]"')
            for i, schema in enumerate(list_field(extra, "func_schemas", f'{where}: field "extra_info"'))
        ]
        source = text_field(extra if extra.get("env") is not None else row, ("env",), where)
        names = [schema["function"]["name"] for schema in schemas]
        used = list_field(row, "tool_calls_used", where) if row.get("tool_calls_used") is not None else []
        if not all(isinstance(name, str) for name in used):
            raise DataError(f'{where}: field "tool_calls_used": expected a list of names')
        answers = _answers(_object(row, "reward_model", where), where)
        problem = self._problem(source, tuple(names))
        if problem:
            raise Unusable(problem)
        meta: dict[str, Any] = {"teacher_tools": used, "calls": len(used)}
        if isinstance(row.get("data_source"), str):
            meta["source"] = row["data_source"]
        if type(extra.get("index")) in (int, str):
            meta["source_id"] = str(extra["index"])
        return Task(
            id=task_id,
            suite=self.suite,
            split=split,
            prompt=question,
            tools=list(schemas),
            answer=answers[0],
            grader=_grader(answers),
            state={
                "tools": [
                    self.schemas.setdefault(msgspec.json.encode(schema), len(self.schemas)) for schema in schemas
                ],
                "source": self.sources.setdefault(source, len(self.sources)),
            },
            teacher=[],
            meta=meta,
        )

    def _problem(self, source: str, names: tuple[str, ...]) -> str | None:
        """Say why the tools cannot be used; tried once for each source text."""
        if (source, names) not in self.checked:
            self.checked[source, names] = _try(source, names)
        return self.checked[source, names]


def _try(source: str, names: tuple[str, ...]) -> str | None:
    if not names:
        return "it offers no tools"
    if len(set(names)) < len(names):
        return "two tools have the same name"
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name):
            return f"the tool {name!r} cannot be a Python function"
    interpreter = shared_interpreter()
    reply = run_source(interpreter, "", source)
    if reply.kind != "ok":
        what = STOPPED.get(reply.kind, reply.text.split("\n")[0][:200])
        return f"its source does not run in the sandbox: {what}"
    for name in names:
        if run_source(interpreter, source, name).kind != "ok":
            return f"its source has no function {name}"
    return None


def _object(row: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    value = row.get(name)
    if value is None:
        raise DataError(f'{where}: field "{name}" is missing')
    if isinstance(value, str):
        value = decode(value, f'{where}: field "{name}"')
    if not isinstance(value, dict):
        raise DataError(f'{where}: field "{name}": expected an object, got {kind_of(value)}')
    return value


def _answers(reward_model: dict[str, Any], where: str) -> list[str]:
    where = f'{where}: field "reward_model.ground_truth"'
    truth = reward_model.get("ground_truth")
    answers = []
    for item in truth if isinstance(truth, list) else [truth]:
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            raise DataError(f"{where}: expected a text, a number or a list of those, got {kind_of(item)}")
        answers.append(clean(str(item)).strip())
    answers = list(dict.fromkeys(filter(None, answers)))
    if not answers:
        raise DataError(f"{where}: expected at least one answer")
    return answers


def _grader(answers: list[str]) -> dict[str, Any]:
    if len(answers) == 1 and parse_number(answers[0]) is not None:
        return {"kind": "number"}
    grader: dict[str, Any] = {"kind": "text", "aliases": answers[1:]} if answers[1:] else {"kind": "text"}
    if not grade(answers[0], answers[0], grader):
        raise Unusable(f"the answer {answers[0][:40]!r} has no words to compare")
    return grader
