"""The `facts` suite: questions about elements, airports and countries, answered from real open tables.

## Splits
`train`; `valid`, the same entities and wordings in questions that training never asks; `ood-domain`, entities,
groups and wordings that training never shows. Entities are parted by a checksum of their code, an airport with its
country.

## Tools
Ten look-up tools over three tables and the arithmetic of the math box; each task offers four to seven, in random
order. Most questions can be done in several ways: one call that compares, or two look-ups and a subtraction.

## Teacher
The plan of a question lowered to the shortest way that the offered tools allow, executed with the real tools, one
call a turn. Answers are what the tables say; they are dated (see `envs_data/README.md`).
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from mentor_gym.grading import normalise_text
from mentor_gym.suites.base import Suite
from mentor_gym.suites.facts_kinds import KINDS, Draw, Kind, Slots, phrases
from mentor_gym.suites.plans import (
    Call,
    Lowering,
    PlanFailed,
    call,
    calls_of,
    count_paths,
    draw_rows,
    lower,
    run,
    teacher_messages,
)
from mentor_gym.tools.base import Tool
from mentor_gym.tools.facts import LOOKUPS, MAX_NAMES, TABLES, facts_box, fold, load_table
from mentor_gym.types import Task

ROWS = {"train": 2400, "valid": 300, "ood-domain": 300}
MAX_CALLS = 5
MAX_OFFERED = 7
_ARITHMETIC = (
    "add", "subtract", "multiply", "divide", "sum_numbers", "round_number", "maximum", "minimum", "average",
)  # fmt: skip
TOOL_NAMES = (*(function.__name__ for function in LOOKUPS), *_ARITHMETIC)
_BY_NAME = {kind.name: kind for kind in KINDS}
# Draws of one kind in a row that may fail before the kind counts as exhausted.
_PATIENCE = 5_000


def _get(table: str, name: Any, field: str) -> Call:
    return call("get", table=table, name=name, field=field)


def _gets(table: str, field: str, names: Sequence[Any]) -> tuple[Call, ...]:
    return tuple(_get(table, name, field) for name in names)


def _sum(numbers: Sequence[Any]) -> list[Call]:
    ways = [call("sum_numbers", numbers=tuple(numbers))]
    if len(numbers) == 3:
        a, b, c = numbers
        firsts = ((a, b, c), (a, c, b), (b, c, a))
        return ways + [call("add", a=call("add", a=x, b=y), b=z) for x, y, z in firsts]
    return [call("add", a=numbers[0], b=numbers[1]), *ways]


def _difference(table: str, field: str, a: Any, b: Any) -> list[Call]:
    return [
        call("difference", table=table, field=field, a=a, b=b),
        call("subtract", a=_get(table, a, field), b=_get(table, b, field)),
    ]


def _total(table: str, field: str, *names: Any) -> list[Call]:
    return [call("total", table=table, field=field, names=names), *_sum(_gets(table, field, names))]


def _mean(table: str, field: str, *names: Any) -> list[Call]:
    numbers = _gets(table, field, names)
    return [
        call("divide", a=call("total", table=table, field=field, names=names), b=len(names)),
        call("average", numbers=numbers),
        call("divide", a=call("sum_numbers", numbers=numbers), b=len(names)),
    ]


def _extreme(tool: str, arithmetic: str, table: str, field: str, names: tuple[Any, ...]) -> list[Call | None]:
    # A number leads back to its row only where no other row has the same.
    source = load_table(table)
    is_unique = all(len(source.matching(field, source.text(name, field))) == 1 for name in names)
    value = call(arithmetic, numbers=_gets(table, field, names))
    return [
        call(tool, table=table, field=field, names=names),
        call("which", table=table, field=field, value=value) if is_unique else None,
    ]


def _larger(table: str, field: str, a: str, b: str) -> list[Call | None]:
    # The sign of a difference tells which is larger as well as the name does.
    ways = _extreme("compare", "maximum", table, field, (a, b))
    return [ways[0], *_difference(table, field, a, b), ways[1]]


def _top(table: str, field: str, where: str, value: str) -> list[Call]:
    found = call("find", table=table, field=where, value=value)
    return [
        call("top", table=table, field=field, where=where, value=value),
        call("compare", table=table, field=field, names=found),
    ]


def _count(table: str, field: str, value: str) -> list[Call | None]:
    found = call("find", table=table, field=field, value=value)
    is_whole = len(load_table(table).matching(field, value)) <= MAX_NAMES
    return [
        call("count", table=table, field=field, value=value),
        call("length", items=found) if is_whole else None,
    ]


def _which(table: str, field: str, value: str) -> Call:
    return call("which", table=table, field=field, value=value)


def _mixture(a: str, n: int, b: str, m: int) -> list[Call]:
    x, y = _gets("elements", "atomic_weight", (a, b))
    products = (call("multiply", a=x, b=n), call("multiply", a=y, b=m))
    return [
        call("total", table="elements", field="atomic_weight", names=(a,) * n + (b,) * m),
        call("add", a=products[0], b=products[1]),
        call("sum_numbers", numbers=products),
        call("sum_numbers", numbers=(x,) * n + (y,) * m),
    ]


# The first way of each ends in the answer; the others end in it too, or in what tells it apart.
LOWERINGS: dict[str, Lowering] = {
    "get": lambda table, name, field: [_get(table, name, field)],
    "which": lambda table, field, value: [_which(table, field, value)],
    "identify": lambda table, field, value: [
        _which(table, field, value),
        call("find", table=table, field=field, value=value),
    ],
    "difference": _difference,
    "total": _total,
    "mean": _mean,
    "larger": _larger,
    "largest": lambda table, field, *names: _extreme("compare", "maximum", table, field, names),
    "smallest": lambda table, field, *names: _extreme("lowest", "minimum", table, field, names),
    "ratio": lambda a, b: [call("round_number", x=call("divide", a=a, b=b), digits=2)],
    "subtract": lambda a, b: [
        call("subtract", a=a, b=b),
        call("add", a=a, b=-b) if not isinstance(b, Call) else None,
    ],
    "add": lambda a, b: [call("add", a=a, b=b), call("sum_numbers", numbers=(a, b))],
    "multiply": lambda a, b: [call("multiply", a=a, b=b)],
    "mixture": _mixture,
    "count": _count,
    "top": _top,
}


def ways(task: Task) -> list[Call]:
    """Return every way to solve a shipped task with the tools that it offers, the teacher's own first.

    The number of paths, `meta["paths"]`, is the number of orders of all of them.

    >>> task = build().tasks("train")[0]
    >>> calls_of(ways(task)[0])[0].tool in task.tools
    True
    """
    return _ways(_BY_NAME[task.meta["kind"]], task.meta["slots"], [str(name) for name in task.tools])


def build() -> Suite:
    """Build the suite.

    >>> build().splits
    ('train', 'valid', 'ood-domain')
    """
    return Suite(
        "facts",
        tuple(ROWS),
        make_box=facts_box,
        generate=generate,
        description="questions about elements, airports and countries, one to five look-ups and sums",
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
    ['facts-valid-00000', 'facts-valid-00001']
    """
    rng = random.Random(f"{seed}/facts/{split}")
    return draw_rows(
        KINDS,
        ROWS[split] if rows is None else rows,
        lambda kind, number: _draw(kind, split, rng, f"facts-{split}-{number:05d}"),
        split,
        _PATIENCE,
    )


def split_of(kind: str, slots: Slots) -> str:
    """Return which of train and valid may ask this question of the entities that they share.

    >>> split_of("number", {"table": "elements", "field": "density", "a": "Gold"}) in ("train", "valid")
    True
    """
    # The names without their order, and no multiples: a + b must not be trained on and b + a held back.
    names = sorted(slots[slot] for slot in "abc" if slot in slots)
    rest = sorted((slot, value) for slot, value in slots.items() if slot not in ("a", "b", "c", "n", "m"))
    key = f"{kind}:{names}:{rest}"
    return "valid" if zlib.crc32(key.encode()) % 6 == 0 else "train"


def _draw(kind: Kind, split: str, rng: random.Random, task_id: str) -> Task | None:
    ood = split == "ood-domain"
    slots = kind.draw(Draw(rng, ood))
    if slots is None or (not ood and split_of(kind.name, slots) != split):
        return None
    wording = rng.choice(kind.ood_wordings if ood else kind.wordings)
    prompt = wording.format(**phrases(slots, ood))
    everything = _ways(kind, slots, TOOL_NAMES)
    tools = _offer(everything, rng)
    possible = _ways(kind, slots, tools)
    try:
        steps = run(calls_of(possible[0]), _tools())
        # Another way may end in the sign of a difference or in a list; the first of all names the row.
        answer = run(calls_of(everything[0]), _tools())[-1][2] if kind.answer == "row" else steps[-1][2]
    except PlanFailed:
        return None
    grader = _grader(kind, slots, answer)
    if len(steps) > MAX_CALLS or (kind.name == "ratio" and float(answer) < 0.1):
        return None
    return Task(
        id=task_id,
        suite="facts",
        split=split,
        prompt=prompt[0].upper() + prompt[1:],
        tools=list(tools),
        answer=answer,
        grader=grader,
        state=None,
        teacher=teacher_messages(steps, answer),
        meta={"kind": kind.name, "calls": len(steps), "paths": count_paths(possible), "slots": slots},
    )


def _ways(kind: Kind, slots: Slots, tools: Sequence[str]) -> list[Call]:
    # Shortest first, so that the teacher's choice is a rule that can be learned; the sort is stable.
    found = lower(kind.plan(slots), LOWERINGS, tools)
    return sorted(found, key=lambda way: len(calls_of(way)))


def _grader(kind: Kind, slots: Slots, answer: str) -> dict[str, Any]:
    if kind.answer == "number":
        return {"kind": "number"}
    if kind.answer == "row":
        row = load_table(slots["table"]).row(answer)
        aliases = [row[field] for field in TABLES[slots["table"]]]
    else:
        table = slots["field_table"] if "field_table" in slots else slots["table"]
        field = slots["wanted"] if "wanted" in slots else slots["field"]
        if field in load_table(table).numeric:
            return {"kind": "number"}
        # A code may also be answered by the name of its country, where the table of countries has it.
        aliases = load_table("countries").matching("iso2", answer) if field in ("country", "iso2") else []
    # The grader ignores case but not accents.
    forms = {normalise_text(form): form for form in (*(fold(form) for form in (answer, *aliases)), *aliases)}
    forms.pop(normalise_text(answer), None)
    return {"kind": "text", "aliases": list(forms.values())} if forms else {"kind": "text"}


def _offer(everything: Sequence[Call], rng: random.Random) -> list[str]:
    """Choose what a task offers: the tools of one way, often those of others, and distractors."""
    within = [way for way in everything if len(calls_of(way)) <= MAX_CALLS]
    tools = dict.fromkeys(item.tool for item in calls_of(rng.choice(within)))
    for way in everything:
        needed = [item.tool for item in calls_of(way) if item.tool not in tools]
        if len(tools) + len(set(needed)) < MAX_OFFERED and rng.random() < 0.35:
            tools.update(dict.fromkeys(needed))
    size = max(len(tools), rng.randint(4, MAX_OFFERED - 1))
    while len(tools) < size:
        tools.setdefault(rng.choice(TOOL_NAMES))
    offered = list(tools)
    rng.shuffle(offered)
    return offered


@lru_cache(maxsize=1)
def _tools() -> dict[str, Tool]:
    return facts_box().tools
