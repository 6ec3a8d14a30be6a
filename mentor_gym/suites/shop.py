"""The `shop` suite: questions about a small retailer, and changes to its records, with SQL.

## Splits
`train`; `valid`, for every choice, other companies and wordings; `test`, other companies, wordings, names, cities
and products; `ood-kinds`, questions and changes that need SQL which no other split needs; `ood-schema`, as `test`,
with names of tables and columns that no other split shows.

## Tools
`schema`, `query` and `execute` over an SQLite database of six tables; see `mentor_gym.tools.sql`. Three styles of
naming tables and columns are mixed, so that no schema can be taken for granted.

## State
`company`, `words` and `style` say what the database holds; tasks that change it list its tables as `writable`.

## Teacher
`schema`, then one to three statements. A change is judged by the database: what differs from the start must be
what differs after the teacher, whatever the statements.
"""

from __future__ import annotations

import random

from mentor_gym.suites.base import Suite
from mentor_gym.suites.math import vary
from mentor_gym.suites.plans import draw_rows
from mentor_gym.suites.shop_data import SEEN_STYLES, fill, make_company, table_names
from mentor_gym.suites.shop_draws import Draw
from mentor_gym.suites.shop_kinds import KINDS, OOD_KINDS
from mentor_gym.suites.sql_plans import SqlKind, make_task
from mentor_gym.tools.sql import SqlBox
from mentor_gym.types import Task

ROWS = {"train": 1008, "valid": 144, "test": 144, "ood-kinds": 150, "ood-schema": 144}
# Split -> numbers of its companies. No two splits share one.
COMPANIES = {
    "train": range(24),
    "valid": range(100, 106),
    "test": range(200, 206),
    "ood-kinds": range(300, 306),
    "ood-schema": range(400, 406),
}
_UNSEEN_WORDS = ("test", "ood-schema")
# Draws of one kind in a row that may fail before the kind counts as exhausted.
_PATIENCE = 5_000


def shop_box() -> SqlBox:
    """Build a box over the companies of the suite.

    >>> box = shop_box()
    >>> box.open({"company": 0, "words": "common", "style": "plain"})
    >>> print(box.tools["query"].call({"sql": "SELECT id, city FROM branches LIMIT 1"}).output)
    id, city
    [1, "Cork"]
    """
    return SqlBox(fill)


def build() -> Suite:
    """Build the suite.

    >>> build().splits
    ('train', 'valid', 'test', 'ood-kinds', 'ood-schema')
    """
    return Suite(
        "shop",
        tuple(ROWS),
        make_box=shop_box,
        generate=generate,
        description="questions about a retailer's database and changes to it, with SQL",
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
    ['shop-valid-00000', 'shop-valid-00001']
    """
    rng = random.Random(f"{seed}/shop/{split}")
    kinds = OOD_KINDS if split == "ood-kinds" else KINDS
    box = shop_box()
    tasks = draw_rows(
        kinds,
        ROWS[split] if rows is None else rows,
        lambda kind, number: _draw(
            kind, split, rng.choice(COMPANIES[split]), rng, box, f"shop-{split}-{number:05d}"
        ),
        split,
        _PATIENCE,
    )
    box.close()
    return tasks


def _draw(kind: SqlKind, split: str, number: int, rng: random.Random, box: SqlBox, task_id: str) -> Task | None:
    words = "unseen" if split in _UNSEEN_WORDS else "common"
    style = "unseen" if split == "ood-schema" else SEEN_STYLES[number % len(SEEN_STYLES)]
    slots = kind.draw(Draw(rng, make_company(number, words)))
    if slots is None:
        return None
    names = table_names(style)
    state = {"company": number, "words": words, "style": style}
    if kind.answer == "state":
        # All of them, so that a change in the wrong place is possible, and a failure.
        state["writable"] = [str(name) for name in names.values()]
    wordings = {"valid": kind.valid_wordings, "test": kind.test_wordings, "ood-schema": kind.test_wordings}
    wording = vary(rng.choice(wordings.get(split, kind.wordings)), rng)
    row = {"id": task_id, "suite": "shop", "split": split}
    return make_task(kind, slots, names, box, state, wording, rng, row, distractors=("execute",))
