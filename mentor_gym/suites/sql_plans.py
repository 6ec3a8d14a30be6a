"""What the suites over SQL databases share: kinds of tasks, the oracle that solves them, rows from both.

A kind holds its solutions as SQL with the names of tables and columns left open (`{orders}`, `{orders.day}`), and
the values too (`{city}`), so that one solution serves databases whose tables are called differently. The oracle
runs every solution with the real tools; a task is kept when they all agree, and its teacher is the first.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mentor_gym.grading import grade
from mentor_gym.suites.plans import PlanFailed, teacher_messages
from mentor_gym.tools.sql import CUT_MARK, NO_ROWS, SqlBox
from mentor_gym.types import Task

Slots = dict[str, Any]
Steps = list[tuple[str, dict[str, Any], str]]
DONE = "done"
NO_CHANGE = "0 rows changed"
# Longer lists are a test of patience.
MAX_LISTED = 6
_RESULT = "{result}"
_TABLE = re.compile(r"(?:FROM|JOIN|INTO|UPDATE) (\w+)")


@dataclass(frozen=True)
class SqlKind:
    """One kind of task.

    Attributes:
        name: Short name, `meta["kind"]` of the row.
        answer: What the last query gives: a `number`, a `text`, a `set` of texts (its first column), or nothing
            when the task is about the `state` of the database.
        draw: Chooses the values; None when the choice makes no question.
        ways: Solutions, the teacher's first; each a sequence of statements. `{result}` in one stands for the first
            column of the query before it.
        wordings: Texts of the train split, with the values in braces and alternatives in brackets, `[in|of]`.
        valid_wordings: Texts that only the validation split uses.
        test_wordings: Texts that only the test splits use.
        ranked: A query for the two best values when the question is which is best; equal ones make no question.
    """

    name: str
    answer: str
    draw: Callable[[Any], Slots | None]
    ways: tuple[tuple[str, ...], ...]
    wordings: tuple[str, ...]
    valid_wordings: tuple[str, ...]
    test_wordings: tuple[str, ...]
    ranked: str = ""


class TableName(str):
    """A table's name, with the names of its columns as attributes, for use in templates.

    >>> "SELECT {pets.owner} FROM {pets}".format(pets=TableName("animals", {"owner": "kept_by"}))
    'SELECT kept_by FROM animals'
    """

    def __new__(cls, name: str, columns: Mapping[str, str]) -> TableName:
        """Make the name; `columns` maps what templates say to what the table says."""
        self = super().__new__(cls, name)
        self.__dict__.update(columns)
        return self


def literal(value: Any) -> str:
    """Write a value into SQL.

    >>> literal("O'Brien"), literal(2.5), literal(None)
    ("'O''Brien'", '2.5', 'NULL')
    """
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def read_rows(output: str) -> list[list[Any]]:
    """Read the rows of a query's result as a policy does: from its text.

    Raises:
        PlanFailed: The text does not hold all rows.

    >>> read_rows('name, age' + chr(10) + '["Rex", 4]')
    [['Rex', 4]]
    """
    lines = output.split("\n")[1:]
    if lines == [NO_ROWS]:
        return []
    if CUT_MARK in lines:
        raise PlanFailed("the result has too many rows")
    try:
        return [msgspec.json.decode(line) for line in lines]
    except msgspec.DecodeError as error:
        raise PlanFailed(f"the result is cut: {error}") from None


def play(box: SqlBox, state: dict[str, Any], statements: Sequence[str]) -> tuple[Steps, list[list[Any]]]:
    """Solve a task with the real tools: the schema first, then the statements.

    Returns:
        The calls, each with tool, arguments and the text of the result, and the rows of the last query.

    Raises:
        PlanFailed: A statement failed.

    >>> state = {"script": "CREATE TABLE pets (name TEXT, age INT); INSERT INTO pets VALUES ('Rex', 4)"}
    >>> steps, rows = play(SqlBox(), state, ["SELECT age FROM pets"])
    >>> [tool for tool, _, _ in steps], rows
    (['schema', 'query'], [[4]])
    """
    box.open(state)
    steps: Steps = []
    rows: list[list[Any]] = []

    def call(tool: str, arguments: dict[str, Any]) -> str:
        result = box.tools[tool].call(arguments)
        if not result.ok:
            raise PlanFailed(f"{tool}({arguments}): {result.output}")
        steps.append((tool, arguments, result.output))
        return result.output

    call("schema", {})
    for statement in statements:
        if _RESULT in statement:
            if not rows:
                raise PlanFailed("the query before found nothing")
            statement = statement.replace(_RESULT, ", ".join(literal(row[0]) for row in rows))
        if statement.startswith(("SELECT", "WITH")):
            rows = read_rows(call("query", {"sql": statement}))
        else:
            call("execute", {"sql": statement})
    return steps, rows


def answer_of(kind: SqlKind, rows: list[list[Any]]) -> str | None:
    """Return the answer that the rows of the last query give; None when they give none, or more than one.

    >>> names = SqlKind("names", "set", lambda choice: {}, (), (), (), ())
    >>> answer_of(names, [["Rex"], ["Tom"]]), answer_of(names, [])
    ('Rex, Tom', None)
    """
    if kind.answer == "state":
        return DONE
    if kind.answer == "set":
        values = [row[0] for row in rows]
        if not 2 <= len(values) <= MAX_LISTED or None in values:
            return None
        return ", ".join(values)
    if len(rows) != 1 or rows[0][0] in (None, 0):
        return None
    return str(rows[0][0])


def make_task(
    kind: SqlKind,
    slots: Slots,
    names: Mapping[str, TableName],
    box: SqlBox,
    state: dict[str, Any],
    wording: str,
    rng: random.Random,
    task: Mapping[str, str],
    distractors: Sequence[str] = (),
) -> Task | None:
    """Make the row of a task; None when these values make no good one.

    Args:
        kind: The kind.
        slots: Its values.
        names: What the tables are called, by the names that the kind's SQL uses.
        box: A box over the suite's databases; left open.
        state: The task's state.
        wording: One of the kind's texts.
        rng: Chooses the tools on offer and their order.
        task: The row's `id, suite, split`.
        distractors: Tools that half of the tasks offer beside those that they need.

    >>> ages = "SELECT age FROM pets WHERE name = {name}"
    >>> kind = SqlKind("age", "number", lambda choice: None, ((ages,),), ("How old is {name}?",), (), ())
    >>> state = {"script": "CREATE TABLE pets (name TEXT, age INT); INSERT INTO pets VALUES ('Rex', 4)"}
    >>> row = {"id": "1", "suite": "pets", "split": "train"}
    >>> task = make_task(kind, {"name": "Rex"}, {}, SqlBox(), state, kind.wordings[0], random.Random(0), row)
    >>> task.prompt, task.answer, task.meta["calls"]
    ('How old is Rex?', '4', 2)
    """
    values = {name: literal(value) for name, value in slots.items()}
    ways = [[sql.format(**names, **values, result=_RESULT) for sql in way] for way in kind.ways]
    try:
        if kind.ranked:
            _, best = play(box, state, [kind.ranked.format(**names, **values)])
            if len(best) < 2 or abs(best[0][0] - best[1][0]) < 1e-6:
                return None
        played = []
        for way in ways:
            steps, rows = play(box, state, way)
            if any(output == NO_CHANGE for _, _, output in steps):
                return None
            played.append((steps, answer_of(kind, rows), box.final_state()))
    except PlanFailed:
        return None
    steps, answer, final = played[0]
    grader: dict[str, Any] = {"kind": kind.answer}
    if answer is None or (kind.answer == "state") != bool(final):
        return None
    if kind.answer == "state":
        grader["expected"] = final
        if any(other != final for _, _, other in played):
            return None
    elif any(other is None or not grade(other, answer, grader) for _, other, _ in played):
        return None
    prompt = wording.format(**slots)
    tools = ["schema", "query"]
    if kind.answer == "state":
        prompt += f" Then answer {DONE}."
        tools.append("execute")
    elif rng.random() < 0.5:
        tools += distractors
    rng.shuffle(tools)
    # Each way works with a look at the schema before it and without one.
    meta = {
        "kind": kind.name,
        "calls": len(steps),
        "paths": 2 * len(ways),
        "tables": len(set(_TABLE.findall(" ".join(ways[0])))),
        "slots": slots,
    }
    return Task(
        **task,
        prompt=prompt[0].upper() + prompt[1:],
        tools=list(tools),
        answer=answer,
        grader=grader,
        state=state,
        teacher=teacher_messages(steps, answer),
        meta=meta,
    )
