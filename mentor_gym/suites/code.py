"""The `code` suite: tasks that a short program solves better than a head, graded on the answer.

## Splits
`train`; `valid`, for every choice, and `test`, each with values and wordings that no other split shows;
`ood-kinds`, kinds of tasks that no other split has.

## Tools
`python`, the tool of the code box, alone. Some tasks begin with variables that are defined and not shown.

## Teacher
A short program of its kind's, or two where the first looks at the data or defines what the second uses; each kind
has several ways, and every way that a row could have is run and must print the answer.
"""

from __future__ import annotations

import random
import string
import zlib
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Any

from mentor_gym.protocol import to_json
from mentor_gym.suites.base import Suite
from mentor_gym.suites.code_kinds import KINDS, MONTHS, OOD_KINDS, Kind, Slots
from mentor_gym.suites.math import vary
from mentor_gym.suites.plans import draw_rows, teacher_messages
from mentor_gym.tools.base import ToolBox
from mentor_gym.tools.code import CodeBox, code_box
from mentor_gym.types import Task

ROWS = {"train": 1200, "valid": 150, "test": 150, "ood-kinds": 150}
_BY_NAME = {kind.name: kind for kind in (*KINDS, *OOD_KINDS)}
_PATIENCE = 20_000


def build() -> Suite:
    """Build the suite.

    >>> build().splits
    ('train', 'valid', 'test', 'ood-kinds')
    """
    return Suite(
        "code",
        tuple(ROWS),
        make_box=code_box,
        generate=generate,
        description="dates, texts, counting and small tables, to be solved by a Python program",
    )


def ways(task: Task) -> list[tuple[str, ...]]:
    """Return the ways to solve a shipped task, each as its programs, the teacher's own first.

    >>> task = generate("train", seed=0, rows=1)[0]
    >>> len(ways(task)) == task.meta["paths"], len(ways(task)[0]) == task.meta["calls"]
    (True, True)
    """
    return ways_of(task, _BY_NAME[task.meta["kind"]])


def ways_of(task: Task, kind: Kind) -> list[tuple[str, ...]]:
    """Return the ways to solve a task of a kind, the teacher's own first."""
    slots = {**task.meta["slots"], **(task.state or {}).get("variables", {})}
    found = programs_of(kind, slots)
    own = found.pop(task.meta["way"])
    return [own, *found]


def programs_of(kind: Kind, slots: Slots) -> list[tuple[str, ...]]:
    """Write the programs of every way with the values of the slots.

    >>> programs_of(_BY_NAME["digit-sum"], {"a": 2, "n": 10})[0]
    ('print(sum(int(digit) for digit in str(2 ** 10)))',)
    """
    values = {name: repr(value) for name, value in slots.items()}
    # Texts, and expressions that are part of the program.
    values |= {name: text for name, text in shown(slots).items() if name.endswith(("_lines", "_expr"))}
    return [tuple(string.Template(program).substitute(values) for program in way) for way in kind.ways]


def shown(slots: Slots) -> dict[str, str]:
    r"""Write the values of the slots for a question: lists in a line and in lines, dates in two forms.

    A slot `…_expr` is an expression of Python, which `…_math` writes as people do.

    >>> shown({"d": "2024-03-05", "xs": [1, 2]})
    {'d': '2024-03-05', 'd_long': '5 March 2024', 'xs': '1, 2', 'xs_lines': '1\n2'}
    >>> shown({"f_expr": "2*x**3"})
    {'f_expr': '2*x**3', 'f_math': '2x^3'}
    """
    texts = {}
    for name, value in slots.items():
        if isinstance(value, list):
            lines = [",".join(map(str, item)) if isinstance(item, list) else str(item) for item in value]
            texts[name] = ", ".join(lines)
            texts[f"{name}_lines"] = "\n".join(lines)
        else:
            texts[name] = str(value)
            if name.endswith("_expr"):
                texts[f"{name.removesuffix('_expr')}_math"] = texts[name].replace("**", "^").replace("*", "")
            if isinstance(value, str) and value[4:5] == "-":
                day = date.fromisoformat(value)
                texts[f"{name}_long"] = f"{day.day} {MONTHS[day.month - 1]} {day.year}"
    return texts


def generate(split: str, seed: int, rows: int | None = None) -> list[Task]:
    """Generate a split; the same seed gives the same rows on every machine.

    Args:
        split: Name of the split.
        seed: Seed of the whole suite.
        rows: How many; None takes the shipped number.

    Raises:
        RuntimeError: A kind has no more tasks, or one of its programs does not print the answer.

    >>> [task.id for task in generate("valid", seed=0, rows=2)]
    ['code-valid-00000', 'code-valid-00001']
    """
    kinds = OOD_KINDS if split == "ood-kinds" else KINDS
    return generate_rows("code", kinds, _box(), split, seed, ROWS[split] if rows is None else rows)


def generate_rows(suite: str, kinds: Sequence[Kind], box: ToolBox, split: str, seed: int, rows: int) -> list[Task]:
    """Generate rows of a split from kinds of tasks whose programs run in a box.

    Raises:
        RuntimeError: A kind has no more tasks, or one of its programs does not print the answer.
    """
    rng = random.Random(f"{seed}/{suite}/{split}")
    return draw_rows(
        kinds,
        rows,
        lambda kind, number: _draw(suite, kind, box, split, rng, f"{suite}-{split}-{number:05d}"),
        split,
        _PATIENCE,
    )


def split_of(kind: str, slots: Slots) -> str:
    """Return which of train, valid and test may show these values in this kind of task.

    >>> split_of("digit-sum", {"a": 2, "n": 40}) in ("train", "valid", "test")
    True
    """
    key = f"{kind}:{to_json(slots)}"
    return {0: "test", 1: "valid"}.get(zlib.crc32(key.encode()) % 8, "train")


def _draw(suite: str, kind: Kind, box: ToolBox, split: str, rng: random.Random, task_id: str) -> Task | None:
    slots = kind.draw(rng)
    if slots is None or (split != "ood-kinds" and split_of(kind.name, slots) != split):
        return None
    own = {"valid": kind.valid_wordings, "test": kind.test_wordings}.get(split)
    prompt = vary(rng.choice(own or kind.wordings), rng).format(**shown(slots))
    answer = kind.solve(slots)
    variables = {name: slots[name] for name in kind.variables}
    state = {"variables": variables} if variables else None
    found = programs_of(kind, slots)
    way = rng.randrange(len(found))
    traces = [run(programs, state, box) for programs in found]
    for number, steps in enumerate(traces):
        if steps[-1][2] != answer:
            raise RuntimeError(
                f"{kind.name}, way {number}: {steps[-1][2]!r} printed, {answer!r} expected: {slots}"
            )
    return Task(
        id=task_id,
        suite=suite,
        split=split,
        prompt=prompt,
        tools=["python"],
        answer=answer,
        grader=kind.grader,
        state=state,
        teacher=teacher_messages(traces[way], answer),
        meta={
            "kind": kind.name,
            "calls": len(found[way]),
            "paths": len(found),
            "way": way,
            "slots": {name: value for name, value in slots.items() if name not in variables},
        },
    )


def run(
    programs: tuple[str, ...], state: dict[str, Any] | None, box: ToolBox | None = None
) -> list[tuple[str, dict[str, Any], str]]:
    """Run programs with the real tool, as one episode.

    Args:
        programs: The programs.
        state: The state of the task.
        box: Where they run; None takes a code box.

    Returns:
        For each program the tool's name, its arguments and the text of its result.

    Raises:
        RuntimeError: A program failed.

    >>> run(("x = 6", "print(x * 7)"), None)[1]
    ('python', {'code': 'print(x * 7)'}, '42')
    """
    box = _box() if box is None else box
    box.open(state)
    steps = []
    for program in programs:
        result = box.tools["python"].call({"code": program})
        if not result.ok:
            raise RuntimeError(f"{result.output}\nin the program\n{program}")
        steps.append(("python", {"code": program}, result.output))
    return steps


@lru_cache(maxsize=1)
def _box() -> CodeBox:
    return code_box()
