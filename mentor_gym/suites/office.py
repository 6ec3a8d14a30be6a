"""The `office` suite: errands in an office, with its files, its calendar and a converter of units.

## Splits
`train`; `valid`, other offices and wordings; `test`, other offices and wordings, with names, topics, projects and
goods that no other split shows; `ood-compose`, longer chains put together from parts of the trained kinds.

## Tools
Those of three boxes as one (`mentor_gym.tools.combined`): a virtual file system (`mentor_gym.tools.files`), a
calendar (`mentor_gym.tools.calendar`) and units (`mentor_gym.tools.units`). A task offers those that some way to
solve it needs, and one to four others.

## State
`office` and `words` say what stands in files and calendar; see `mentor_gym.suites.office_data`.

## Teacher
Two to seven calls of the real tools. Questions are judged by the answer; errands by what differs, at the end, from
the files and the calendar at the start, whatever the calls were.
"""

from __future__ import annotations

import random
from typing import Any

from mentor_gym.suites.base import Suite
from mentor_gym.suites.math import vary
from mentor_gym.suites.office_data import make_office, office_state
from mentor_gym.suites.office_kinds import KINDS, OOD_KINDS
from mentor_gym.suites.office_plans import OfficeKind, make_task
from mentor_gym.suites.plans import draw_rows
from mentor_gym.tools.calendar import CalendarBox
from mentor_gym.tools.combined import CombinedBox
from mentor_gym.tools.files import FilesBox
from mentor_gym.tools.units import units_box
from mentor_gym.types import Task

ROWS = {"train": 935, "valid": 153, "test": 153, "ood-compose": 120}
# Split -> numbers of its offices. No two splits share one.
OFFICES = {
    "train": range(60),
    "valid": range(100, 115),
    "test": range(200, 215),
    "ood-compose": range(300, 315),
}
# Draws of one kind in a row that may fail before the kind counts as exhausted.
_PATIENCE = 5_000


def office_box() -> CombinedBox:
    """Build a box over the offices of the suite.

    >>> box = office_box()
    >>> box.open({"office": 0, "words": "common"})
    >>> box.tools["list_files"].call({"folder": "storage"}).output
    'readings.txt'
    """
    return CombinedBox({"files": FilesBox(), "calendar": CalendarBox(), "units": units_box()}, expand=_expand)


def _expand(state: dict[str, Any]) -> dict[str, Any]:
    return {**office_state(state["office"], state["words"])}


def build() -> Suite:
    """Build the suite.

    >>> build().splits
    ('train', 'valid', 'test', 'ood-compose')
    """
    return Suite(
        "office",
        tuple(ROWS),
        make_box=office_box,
        generate=generate,
        description="errands with files, a calendar and units of measure",
    )


def generate(split: str, seed: int, rows: int | None = None) -> list[Task]:
    """Generate a split; the same seed gives the same rows on every machine.

    Args:
        split: Name of the split.
        seed: Seed of the whole suite.
        rows: How many; None takes the shipped number.

    Raises:
        RuntimeError: A kind has no more different tasks.

    >>> [task.id for task in generate("valid", seed=0, rows=2)]
    ['office-valid-00000', 'office-valid-00001']
    """
    rng = random.Random(f"{seed}/office/{split}")
    kinds = OOD_KINDS if split == "ood-compose" else KINDS
    box = office_box()
    tasks = draw_rows(
        kinds,
        ROWS[split] if rows is None else rows,
        lambda kind, number: _draw(
            kind, split, rng.choice(OFFICES[split]), rng, box, f"office-{split}-{number:05d}"
        ),
        split,
        _PATIENCE,
    )
    box.close()
    return tasks


def _draw(
    kind: OfficeKind, split: str, number: int, rng: random.Random, box: CombinedBox, task_id: str
) -> Task | None:
    words = "unseen" if split == "test" else "common"
    slots = kind.draw(make_office(number, words), rng)
    if slots is None:
        return None
    wordings = {"valid": kind.valid_wordings, "test": kind.test_wordings}.get(split, kind.wordings)
    state = {"office": number, "words": words}
    row = {"id": task_id, "suite": "office", "split": split}
    return make_task(kind, slots, box, state, vary(rng.choice(wordings), rng), rng, row)
