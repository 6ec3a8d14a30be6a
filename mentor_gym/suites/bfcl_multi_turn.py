"""The `bfcl-multi-turn` suite: the multi-turn tasks of the Berkeley function-calling leaderboard (BFCL).

The rows are made from the installed package `bfcl-eval`; none is shipped. They are evaluation data: to train on
them makes every result on them worthless.

## Splits
`base`, BFCL's category `multi_turn_base`. Missing functions, missing parameters and long contexts are left out.

## Tools
The simulated programming interfaces that the task names (`mentor_gym.tools.bfcl.ApiBox`), and `next_request`.

## Protocol
BFCL's user speaks one to seven times, the next time when the model has stopped to call functions. Here an answer
ends the episode: the prompt is the first request, `next_request` tells the next, and after the last one the answer
ends it. The policy hears of a request only when it has ended the one before, as in BFCL.

## Success
As BFCL's checker has it: at the end of every request the state of all interfaces equals that after BFCL's
solution, every result of the solution has been returned by some call so far, and a call was made. How the state
came about and what else was called does not count.

## Differences from BFCL
`next_request` and a sentence about it in the prompt; the arguments of calls are validated against the schemas
before anything runs, and wrong ones are not executed; error results are marked as errors; digits of numbers,
sizes of powers and of the file system are bounded; default values that a class changes are new for every call;
the clock stands still; the limit of turns is the environment's (BFCL: 20 steps a request). A teacher needs up to
8 turns, because it makes all calls of a request at once; a policy that makes one call a turn should have 40. So
figures from here are not those of the leaderboard, and cannot stand beside them.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from mentor_gym.suites.base import Suite
from mentor_gym.suites.bfcl_suite import EvaluationSuite, Step, teacher_messages
from mentor_gym.tools.bfcl import NEXT_REQUEST, ApiBox, descriptions, read_lines
from mentor_gym.types import Task

Call = tuple[str, dict[str, Any]]

DONE = "done"
_HOW_TO_GO_ON = (
    f"When this is done, call {NEXT_REQUEST} to hear what I ask next. When there is nothing more, answer {DONE}."
)
_FILE = "BFCL_v4_multi_turn_base.json"


def build() -> Suite:
    """Build the suite.

    >>> build().splits
    ('base',)
    """
    return EvaluationSuite(
        "bfcl-multi-turn",
        ("base",),
        make_box=ApiBox,
        make_rows=make_rows,
        description="multi-turn tasks of the Berkeley function-calling leaderboard; for evaluation",
    )


def make_rows(split: str) -> list[Task]:
    """Make the rows from the package, with traces of BFCL's solutions as teachers.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    solutions = {row["id"]: row["ground_truth"] for row in read_lines("possible_answer", _FILE)}
    box = ApiBox()
    return [_make_task(row, split, solutions[row["id"]], box) for row in read_lines(_FILE)]


def _make_task(row: dict[str, Any], split: str, solution: list[list[str]], box: ApiBox) -> Task:
    classes = row["involved_classes"]
    calls = [[parse_call(text, classes) for text in request] for request in solution]
    requests = ["\n\n".join(message["content"] for message in messages) for messages in row["question"]]
    state = {
        "classes": classes,
        "config": row["initial_config"],
        "requests": requests[1:],
        "results": [[] for _ in requests],
    }
    # Twice: once for the results, and again to see how it ends for one who is asked for them.
    play(box, state, calls)
    results = iter(box.results())
    state["results"] = [[next(results) for _ in request] for request in calls]
    turns = play(box, state, calls)
    expected = box.final_state()
    box.close()
    return Task(
        id=row["id"],
        suite="bfcl-multi-turn",
        split=split,
        prompt=f"{requests[0]}\n\n{_HOW_TO_GO_ON}",
        tools=[*(name for class_name in classes for name, _, _ in descriptions(class_name)), NEXT_REQUEST],
        answer=DONE,
        grader={"kind": "state", "expected": expected},
        state=state,
        teacher=teacher_messages(turns, DONE),
        meta={"kind": split, "calls": sum(map(len, turns)), "requests": len(requests), "classes": classes},
    )


def play(box: ApiBox, state: dict[str, Any], calls: Sequence[Sequence[Call]]) -> list[list[Step]]:
    """Play calls for each request, and after them ask for the next one.

    Args:
        box: A box; left open.
        state: The task's state.
        calls: For each request its calls.

    Returns:
        For each request its calls with the texts that a policy sees.
    """
    box.open(state)
    return [
        [
            (name, arguments, box.tools[name].call(arguments).output)
            for name, arguments in (*request, (NEXT_REQUEST, {}))
        ]
        for request in calls
    ]


def parse_call(text: str, classes: list[str]) -> Call:
    """Read a call as BFCL's solutions write it, in Python; values without names get those of the parameters.

    Args:
        text: The call.
        classes: The task's interfaces.

    Raises:
        ValueError: It is not a call of a function of these interfaces with plain values.
    """
    call = ast.parse(text.strip(), mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(f"not a call: {text}")
    parameters = {name: schema for class_name in classes for name, _, schema in descriptions(class_name)}
    names = list(parameters[call.func.id]["properties"])
    arguments = {name: ast.literal_eval(value) for name, value in zip(names, call.args)}
    return call.func.id, arguments | {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
