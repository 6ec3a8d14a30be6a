"""The `code-full` suite: symbolic mathematics and small linear algebra, solved by programs with numpy and sympy.

## Splits
`train`; `valid`, for every choice, and `test`, each with values and wordings that no other split shows.

## Tools
`python`, the tool of the code box with numpy and sympy, alone. Where its sandbox cannot be had, `reset` of an
environment says so; the rows can be read everywhere.

## Teacher
A short program of its kind's, or two where the first looks at what the second is about; each kind has several
ways, and every way that a row could have is run and must print the answer.
"""

from __future__ import annotations

from functools import lru_cache

from mentor_gym.suites.base import Suite
from mentor_gym.suites.code import generate_rows, ways_of
from mentor_gym.suites.code_full_kinds import KINDS
from mentor_gym.tools.code_full import FullCodeBox, code_full_box
from mentor_gym.types import Task

ROWS = {"train": 400, "valid": 100, "test": 100}
_BY_NAME = {kind.name: kind for kind in KINDS}


def build() -> Suite:
    """Build the suite.

    >>> build().splits
    ('train', 'valid', 'test')
    """
    return Suite(
        "code-full",
        tuple(ROWS),
        make_box=code_full_box,
        generate=generate,
        description="symbolic mathematics and linear algebra, to be solved by Python with numpy and sympy",
    )


def ways(task: Task) -> list[tuple[str, ...]]:
    """Return the ways to solve a shipped task, each as its programs, the teacher's own first.

    >>> task = build().tasks("train")[0]
    >>> len(ways(task)) == task.meta["paths"], len(ways(task)[0]) == task.meta["calls"]
    (True, True)
    """
    return ways_of(task, _BY_NAME[task.meta["kind"]])


def generate(split: str, seed: int, rows: int | None = None) -> list[Task]:
    """Generate a split; the same seed gives the same rows on every machine.

    Args:
        split: Name of the split.
        seed: Seed of the whole suite.
        rows: How many; None takes the shipped number.

    Raises:
        SandboxUnavailable: The programs cannot be run here.
        RuntimeError: A kind has no more tasks, or one of its programs does not print the answer.
    """
    return generate_rows("code-full", KINDS, _box(), split, seed, ROWS[split] if rows is None else rows)


@lru_cache(maxsize=1)
def _box() -> FullCodeBox:
    return code_full_box()
