"""The `bfcl` suite: the single-turn tasks of the Berkeley function-calling leaderboard (BFCL).

The rows are made from the installed package `bfcl-eval`; none is shipped. They are evaluation data: to train on
them makes every result on them worthless.

## Splits
One for each category of BFCL: `simple` (one function, one call), `multiple` (one call, several functions to choose
from), `parallel` (several calls), `parallel-multiple`, `irrelevance` (no function fits, no call is right), and
the same as `live-…`, with functions and questions that users sent in. Left out are the categories in Java and
JavaScript, whose values can only be read with a parser; `live_relevance`, which has no solution to replay;
and `WITHOUT_ANSWER`, tasks for which BFCL's own checker takes no call at all.

## Tools
The functions of the task, with BFCL's descriptions. Nobody can run them: every call, whatever its arguments, is
noted and answered with the same word. A point in a name is an underscore here, as in BFCL for models whose
interface allows no points.

## Success
An answer after exactly the expected calls, in any order, judged by the rules of BFCL's syntax-tree checker
(`mentor_gym.expected_calls`). BFCL judges the first text of a model; here it may take several turns, and all
calls of offered functions count. A sentence in the prompt says how to end. So figures from here are not those
of the leaderboard, and cannot stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mentor_gym.expected_calls import LEFT_OUT
from mentor_gym.suites.base import Suite
from mentor_gym.suites.bfcl_suite import EvaluationSuite, teacher_messages
from mentor_gym.tools.bfcl import NOTED, CallsBox, json_schema, read_lines
from mentor_gym.types import Task

# Split -> BFCL's category.
CATEGORIES = {
    "simple": "simple_python",
    "multiple": "multiple",
    "parallel": "parallel",
    "parallel-multiple": "parallel_multiple",
    "irrelevance": "irrelevance",
    "live-simple": "live_simple",
    "live-multiple": "live_multiple",
    "live-parallel": "live_parallel",
    "live-parallel-multiple": "live_parallel_multiple",
    "live-irrelevance": "live_irrelevance",
}
# No value, or a parameter that the function does not have, for an argument that must be given.
WITHOUT_ANSWER = frozenset(
    ("live_simple_106-63-0", "live_simple_112-68-0", "live_multiple_862-181-3", "live_multiple_964-207-0")
)
# As they say nothing, they are short: whatever is answered, the calls are judged.
DONE, NONE_FITS = "ok", "no"
_HOW_TO_END = (
    f"Make the calls that this needs, then answer {DONE}. If no tool fits, make no call and answer {NONE_FITS}."
)
_TYPES = {"float": "number", "dict": "object", "tuple": "array"}


def build() -> Suite:
    """Build the suite.

    >>> build().splits[:3]
    ('simple', 'multiple', 'parallel')
    """
    return EvaluationSuite(
        "bfcl",
        tuple(CATEGORIES),
        make_box=calls_box,
        make_rows=make_rows,
        description="single-turn tasks of the Berkeley function-calling leaderboard; for evaluation",
    )


def calls_box() -> CallsBox:
    """Build a box with the functions of all tasks."""
    return CallsBox(_function_names())


@lru_cache(maxsize=1)
def _function_names() -> tuple[str, ...]:
    found = (
        tool_name(function["name"])
        for category in CATEGORIES.values()
        for row in read_lines(f"BFCL_v4_{category}.json")
        for function in row["function"]
    )
    return tuple(dict.fromkeys(found))


def tool_name(name: str) -> str:
    """Return the name of a function as a tool has it.

    >>> tool_name("math.factorial")
    'math_factorial'
    """
    return name.replace(".", "_")


def make_rows(split: str) -> list[Task]:
    """Make the rows of a split from the package.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    file = f"BFCL_v4_{CATEGORIES[split]}.json"
    rows = read_lines(file)
    if split.endswith("irrelevance"):
        return [_make_task(row, split, []) for row in rows]
    answers = {row["id"]: row["ground_truth"] for row in read_lines("possible_answer", file)}
    return [
        _make_task(row, split, expected_calls(row["function"], answers[row["id"]]))
        for row in rows
        if row["id"] not in WITHOUT_ANSWER
    ]


def _make_task(row: dict[str, Any], split: str, expected: list[dict[str, Any]]) -> Task:
    tools = [
        {
            "type": "function",
            "function": {
                "name": tool_name(function["name"]),
                "description": function["description"],
                "parameters": {**json_schema(function["parameters"]), "additionalProperties": False},
            },
        }
        for function in row["function"]
    ]
    steps = [(call["name"], gold_arguments(call), NOTED) for call in expected]
    answer = DONE if expected else NONE_FITS
    return Task(
        id=row["id"],
        suite="bfcl",
        split=split,
        prompt=f"{_conversation(row['question'][0])}\n\n{_HOW_TO_END}",
        tools=tools,  # type: ignore[arg-type]
        answer=answer,
        grader={"kind": "calls", "expected": expected},
        state=None,
        teacher=teacher_messages([steps] if steps else [], answer),
        meta={"kind": split, "calls": len(expected)},
    )


def _conversation(messages: list[dict[str, str]]) -> str:
    """Write the messages as one text; who speaks is said where it is not the user alone."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)


def expected_calls(functions: list[dict[str, Any]], answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write BFCL's possible answers as expected calls (`mentor_gym.expected_calls`).

    Args:
        functions: BFCL's descriptions of the task's functions.
        answers: For each call its function's name with the possible values of every argument.

    >>> area = {"name": "area", "parameters": {"properties": {"r": {"type": "float"}}, "required": []}}
    >>> expected_calls([area], [{"area": {"r": [1.5, ""]}}])
    [{'name': 'area', 'arguments': {'r': {'type': 'number', 'values': [1.5, ''], 'optional': True}}}]
    """
    described = {function["name"]: function["parameters"] for function in functions}
    found = []
    for answer in answers:
        ((name, arguments),) = answer.items()
        parameters = described[name]
        required = parameters["required"]
        # What must be given and has no value, or has values and is not a parameter, is right in no way.
        arguments = {argument: [] for argument in required} | arguments
        rules = {
            argument: _rule(parameters["properties"].get(argument), values, argument in required)
            for argument, values in arguments.items()
        }
        found.append({"name": tool_name(name), "arguments": rules})
    return found


def _rule(described: Mapping[str, Any] | None, values: list[Any], required: bool) -> dict[str, Any]:
    if described is None:
        rule: dict[str, Any] = {"type": "any", "values": []}
    else:
        rule = {"type": _TYPES.get(described["type"], described["type"]), "values": values}
        if rule["type"] == "array":
            rule["items"] = _TYPES.get(described["items"]["type"], described["items"]["type"])
    if not required and LEFT_OUT in values:
        rule["optional"] = True
    return rule


def gold_arguments(expected: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the teacher's call: of every argument that must be given the first right value.

    >>> values = [{"x": [1, 2], "y": ["", 3]}]
    >>> gold_arguments({"name": "go", "arguments": {"to": {"type": "object", "values": values}}})
    {'to': {'x': 1}}
    """
    return {
        name: _first(rule["values"], rule["type"], rule.get("items"))
        for name, rule in expected["arguments"].items()
        if not rule.get("optional")
    }


def _first(values: list[Any], kind: str, items: str | None) -> Any:
    value = next((value for value in values if value != LEFT_OUT), LEFT_OUT)
    if kind == "object" and isinstance(value, dict):
        return {key: _first(options, "any", None) for key, options in value.items() if LEFT_OUT not in options}
    if items == "object" and isinstance(value, list):
        return [_first([entry], "object", None) for entry in value]
    return value
