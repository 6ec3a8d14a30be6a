"""The `elements` suite: questions about the chemical elements, answered with SQL from real data.

## Splits
`train`; `valid`, for every choice, and `test`, each with other values and wordings; `ood-kinds`, questions that
compare rows with one another. `test` and `ood-kinds` ask about elements that training never asks about.

## Tools
`schema` and `query` over an SQLite database of three tables, `elements`, `series` and `phases`; values that the
source does not have are NULL. See `mentor_gym.tools.sql`; the data and its licence are in `envs_data/README.md`.

## Teacher
`schema`, then one query, a join where there are several ways.
"""

from __future__ import annotations

import random
import sqlite3
import zlib
from typing import Any

from mentor_gym.suites.base import Suite
from mentor_gym.suites.elements_kinds import KINDS, OOD_KINDS, Draw
from mentor_gym.suites.math import vary
from mentor_gym.suites.plans import draw_rows
from mentor_gym.suites.sql_plans import Slots, SqlKind, make_task
from mentor_gym.tools.facts import load_table
from mentor_gym.tools.sql import SqlBox
from mentor_gym.types import Task

ROWS = {"train": 1050, "valid": 147, "test": 147, "ood-kinds": 150}
_UNSEEN_ELEMENTS = ("test", "ood-kinds")
_ELEMENT_SLOTS = frozenset(("element", "symbol", "number"))
# Draws of one kind in a row that may fail before the kind counts as exhausted.
_PATIENCE = 5_000
_SCHEMA = """
CREATE TABLE series (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE elements (
    number INTEGER PRIMARY KEY, symbol TEXT, name TEXT, weight REAL, period INTEGER, group_no INTEGER, block TEXT,
    series_id INTEGER REFERENCES series(id), density REAL, discovered INTEGER
);
CREATE TABLE phases (number INTEGER REFERENCES elements(number), melting REAL, boiling REAL);
"""


def fill(connection: sqlite3.Connection, state: dict[str, Any]) -> None:
    """Create the three tables from the shipped one.

    Args:
        connection: To an empty database.
        state: Not used: the database is the same for every task.

    >>> connection = sqlite3.connect(":memory:")
    >>> fill(connection, {})
    >>> connection.execute("SELECT symbol FROM elements WHERE number = 79").fetchall()
    [('Au',)]
    """
    connection.executescript(_SCHEMA)
    rows = list(load_table("elements").rows.values())
    series = {name: i for i, name in enumerate(dict.fromkeys(row["series"] for row in rows), start=1)}
    connection.executemany("INSERT INTO series VALUES (?, ?)", [(i, name) for name, i in series.items()])
    for row in rows:
        # The columns' types turn the texts into numbers.
        values = {field: value or None for field, value in row.items()} | {"series": series[row["series"]]}
        connection.execute(
            "INSERT INTO elements VALUES (:atomic_number, :symbol, :name, :atomic_weight, :period, :group, "
            ":block, :series, :density, :discovery_year)",
            values,
        )
        if row["melting_point"] or row["boiling_point"]:
            connection.execute(
                "INSERT INTO phases VALUES (:atomic_number, :melting_point, :boiling_point)", values
            )


def elements_box() -> SqlBox:
    """Build a box over the elements.

    >>> box = elements_box()
    >>> box.open(None)
    >>> print(box.tools["query"].call({"sql": "SELECT name, weight FROM elements WHERE number = 79"}).output)
    name, weight
    ["Gold", 196.966569]
    """
    return SqlBox(fill)


def build() -> Suite:
    """Build the suite.

    >>> build().splits
    ('train', 'valid', 'test', 'ood-kinds')
    """
    return Suite(
        "elements",
        tuple(ROWS),
        make_box=elements_box,
        generate=generate,
        description="questions about the chemical elements, with SQL over real data",
    )


def generate(split: str, seed: int, rows: int | None = None) -> list[Task]:
    """Generate a split; the same seed gives the same rows on every machine.

    Args:
        split: Name of the split.
        seed: Seed of the whole suite.
        rows: How many; None takes the shipped number.

    Raises:
        RuntimeError: A kind has no more different questions.

    >>> [task.id for task in generate("valid", seed=0, rows=2)]
    ['elements-valid-00000', 'elements-valid-00001']
    """
    rng = random.Random(f"{seed}/elements/{split}")
    kinds = OOD_KINDS if split == "ood-kinds" else KINDS
    draw = Draw(rng, split in _UNSEEN_ELEMENTS)
    box = elements_box()
    tasks = draw_rows(
        kinds,
        ROWS[split] if rows is None else rows,
        lambda kind, number: _draw(kind, split, draw, box, f"elements-{split}-{number:05d}"),
        split,
        _PATIENCE,
    )
    box.close()
    return tasks


def split_of(kind: str, slots: Slots) -> str:
    """Return which of train, valid and test may ask this question.

    >>> split_of("weight", {"element": "Gold"}) in ("train", "valid", "test")
    True
    """
    key = f"{kind}:{sorted(slots.items())}"
    return {0: "test", 1: "valid"}.get(zlib.crc32(key.encode()) % 6, "train")


def _draw(kind: SqlKind, split: str, draw: Draw, box: SqlBox, task_id: str) -> Task | None:
    slots = kind.draw(draw)
    if slots is None:
        return None
    # Elements that training never asks about are the test split's, whatever the checksum says.
    is_unseen = split == "ood-kinds" or (split == "test" and not _ELEMENT_SLOTS.isdisjoint(slots))
    if not is_unseen and split_of(kind.name, slots) != split:
        return None
    wordings = {"valid": kind.valid_wordings, "test": kind.test_wordings}
    wording = vary(draw.rng.choice(wordings.get(split, kind.wordings)), draw.rng)
    row = {"id": task_id, "suite": "elements", "split": split}
    return make_task(kind, slots, {}, box, {}, wording, draw.rng, row)
