"""The `math` suite: word problems over real arithmetic tools.

## Splits
`train`; `valid`, for every choice, and `test`, each with numbers and wordings that no other split shows;
`ood-compose`, longer and unseen compositions of the same operations; `ood-tools`, problems that need tools which
no other split offers.

## Tools
The paper's twelve, and seven unseen ones; each task offers three to six, in random order.

## Teacher
The formula of a problem lowered to tool calls and executed with the real tools, one call a turn.
"""

from __future__ import annotations

import ast
import random
import re
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from mentor_gym.suites.base import Suite
from mentor_gym.suites.math_kinds import (
    BOXES,
    COMPOSE_KINDS,
    ITEMS,
    KINDS,
    NAMES,
    TEST_ITEMS,
    TEST_NAMES,
    UNSEEN_TOOL_KINDS,
    Kind,
)
from mentor_gym.suites.plans import (
    Call,
    Lowering,
    Op,
    PlanFailed,
    call,
    calls_of,
    count_paths,
    lower,
    run,
    teacher_messages,
)
from mentor_gym.tools.base import Tool
from mentor_gym.tools.math import PAPER_TOOLS, UNSEEN_TOOLS, math_box
from mentor_gym.types import Task

ROWS = {"train": 2400, "valid": 300, "test": 300, "ood-compose": 300, "ood-tools": 300}
PAPER_NAMES = tuple(function.__name__ for function in PAPER_TOOLS)
UNSEEN_NAMES = tuple(function.__name__ for function in UNSEEN_TOOLS)
_KINDS_OF = {"ood-compose": COMPOSE_KINDS, "ood-tools": UNSEEN_TOOL_KINDS}
_BY_NAME = {kind.name: kind for kind in (*KINDS, *COMPOSE_KINDS, *UNSEEN_TOOL_KINDS)}


def _sum(*terms: Any) -> list[Call]:
    ways = [call("sum_numbers", numbers=terms)]
    if len(terms) == 3:
        a, b, c = terms
        firsts = ((a, b, c), (a, c, b), (b, c, a))
        return ways + [call("add", a=call("add", a=x, b=y), b=z) for x, y, z in firsts]
    folded = terms[0]
    for term in terms[1:]:
        folded = call("add", a=folded, b=term)
    return [*ways, folded]


def _power(base: Any, exponent: Any) -> list[Call | None]:
    product = base
    for _ in range(exponent - 1):
        product = call("multiply", a=product, b=base)
    return [call("power", base=base, exponent=exponent), product]


def _floor(quotient: Any) -> list[Call]:
    # A floor of a division can also be had without rounding, by taking the remainder off first.
    ways = [call("floor", x=quotient)]
    if isinstance(quotient, Call) and quotient.tool == "divide":
        a, b = (value for _, value in quotient.arguments)
        ways.append(call("divide", a=call("subtract", a=a, b=call("modulo", a=a, b=b)), b=b))
    return ways


def _modulo(a: Any, b: Any) -> list[Call]:
    whole = call("multiply", a=call("floor", x=call("divide", a=a, b=b)), b=b)
    return [call("modulo", a=a, b=b), call("subtract", a=a, b=whole)]


def _average(*numbers: Any) -> list[Call]:
    return [
        call("average", numbers=numbers),
        call("divide", a=call("sum_numbers", numbers=numbers), b=len(numbers)),
    ]


LOWERINGS: dict[str, Lowering] = {
    "Add": lambda a, b: [call("add", a=a, b=b), call("sum_numbers", numbers=(a, b))],
    "Sub": lambda a, b: [call("subtract", a=a, b=b)],
    "Mult": lambda a, b: [call("multiply", a=a, b=b), call("add", a=a, b=a) if b == 2 else None],
    "Div": lambda a, b: [call("divide", a=a, b=b)],
    "Mod": _modulo,
    "Pow": _power,
    "sum": _sum,
    "sqrt": lambda x: [call("sqrt", x=x), call("power", base=x, exponent=0.5)],
    "floor": _floor,
    "ceil": lambda x: [call("ceil", x=x)],
    "round": lambda x, d: [call("round_number", x=x, digits=d)],
    "abs": lambda x: [call("abs_value", x=x)],
    "average": _average,
    "maximum": lambda *numbers: [call("maximum", numbers=numbers)],
    "minimum": lambda *numbers: [call("minimum", numbers=numbers)],
    "percent_of": lambda percent, whole: [
        call("percent_of", percent=percent, whole=whole),
        call("divide", a=call("multiply", a=percent, b=whole), b=100),
    ],
    "common_divisor": lambda a, b: [call("common_divisor", a=a, b=b)],
    "common_multiple": lambda a, b: [call("common_multiple", a=a, b=b)],
    "clamp": lambda x, low, high: [call("clamp", x=x, low=low, high=high)],
}


def parse_formula(formula: str, numbers: dict[str, Any]) -> Any:
    """Turn a kind's formula into a tree of operations on its numbers.

    >>> parse_formula("n * k", {"n": 6, "k": 7})
    Op(name='Mult', args=(6, 7))
    """

    def build(node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return numbers[node.id]
            case ast.BinOp():
                return Op(type(node.op).__name__, (build(node.left), build(node.right)))
            case ast.Call(func=ast.Name(id=name)):
                return Op(name, tuple(build(argument) for argument in node.args))
        raise ValueError(f"formula {formula!r} holds {ast.dump(node)}")

    return build(ast.parse(formula, mode="eval").body)


def ways(task: Task) -> list[Call]:
    """Return every way to solve a shipped task with the tools that it offers, the teacher's own first.

    The number of paths, `meta["paths"]`, is the number of orders of all of them.

    >>> task = build().tasks("train")[0]
    >>> count_paths(ways(task)) == task.meta["paths"]
    True
    """
    kind = kind_of(task)
    return lower(parse_formula(kind.formula, task.meta["numbers"]), LOWERINGS, [str(name) for name in task.tools])


def kind_of(task: Task) -> Kind:
    """Return the kind of problem that a shipped task is.

    >>> kind_of(build().tasks("train")[0]).formula
    'n * k'
    """
    return _BY_NAME[task.meta["kind"]]


def build() -> Suite:
    """Build the suite.

    >>> build().splits
    ('train', 'valid', 'test', 'ood-compose', 'ood-tools')
    """
    return Suite(
        "math",
        tuple(ROWS),
        make_box=math_box,
        generate=generate,
        description="word problems over arithmetic tools, one to five calls",
    )


def generate(split: str, seed: int, rows: int | None = None) -> list[Task]:
    """Generate a split; the same seed gives the same rows on every machine.

    Args:
        split: Name of the split.
        seed: Seed of the whole suite.
        rows: How many; None takes the shipped number.

    Raises:
        ValueError: A kind has too few problems.

    >>> [task.id for task in generate("valid", seed=0, rows=2)]
    ['math-valid-00000', 'math-valid-00001']
    """
    rng = random.Random(f"{seed}/math/{split}")
    kinds = _KINDS_OF.get(split, KINDS)
    tasks: list[Task] = []
    seen: set[str] = set()
    attempts = 0
    while len(tasks) < (ROWS[split] if rows is None else rows):
        attempts += 1
        if attempts > 1_000_000:
            raise ValueError(f"kind {kinds[len(tasks) % len(kinds)].name!r} has too few problems for {split!r}")
        # Kinds in turn, so that every split has every kind of it equally often.
        kind = kinds[len(tasks) % len(kinds)]
        task = _draw(kind, split, rng, f"math-{split}-{len(tasks):05d}")
        if task is not None and task.prompt not in seen:
            seen.add(task.prompt)
            tasks.append(task)
    return tasks


def split_of(kind: str, numbers: dict[str, Any]) -> str:
    """Return which of train, valid and test may show these numbers in this kind of problem.

    >>> split_of("share", {"n": 6, "k": 7}) in ("train", "valid", "test")
    True
    """
    key = f"{kind}:{sorted(numbers.items())}"
    return {0: "test", 1: "valid"}.get(zlib.crc32(key.encode()) % 8, "train")


def _draw(kind: Kind, split: str, rng: random.Random, task_id: str) -> Task | None:
    numbers = draw_numbers(kind, rng)
    if numbers is None or (split in ("train", "valid", "test") and split_of(kind.name, numbers) != split):
        return None
    unseen = split == "test"
    own = {"valid": kind.valid_wordings, "test": kind.test_wordings}.get(split)
    prompt = vary(rng.choice(own or kind.wordings), rng).format(
        name=rng.choice(TEST_NAMES if unseen else NAMES),
        items=rng.choice(TEST_ITEMS if unseen else ITEMS),
        box=rng.choice(BOXES),
        **numbers,
    )
    box = math_box_tools()
    formula = parse_formula(kind.formula, numbers)
    everything = lower(formula, LOWERINGS, (*PAPER_NAMES, *UNSEEN_NAMES))
    tools = offer(everything, split, rng)
    possible = lower(formula, LOWERINGS, tools)
    try:
        steps = run(calls_of(possible[0]), box)
    except PlanFailed:
        return None
    answer = steps[-1][2]
    meta = {"kind": kind.name, "calls": len(steps), "paths": count_paths(possible), "numbers": numbers}
    return Task(
        id=task_id,
        suite="math",
        split=split,
        prompt=prompt,
        tools=list(tools),
        answer=answer,
        grader={"kind": "number"},
        state=None,
        teacher=teacher_messages(steps, answer),
        meta=meta,
    )


def vary(wording: str, rng: random.Random) -> str:
    """Choose one of each group of alternatives in a wording.

    >>> vary("How many [are left|remain]?", random.Random(0))
    'How many remain?'
    """
    return re.sub(r"\[([^\]]*)\]", lambda match: rng.choice(match[1].split("|")), wording)


def draw_numbers(kind: Kind, rng: random.Random) -> dict[str, Any] | None:
    """Draw a kind's numbers; None when they do not meet its condition.

    >>> kind = _BY_NAME["groups"]
    >>> kind.draw, draw_numbers(kind, random.Random(0))
    ({'n': (3, 60), 'k': (3, 60)}, {'n': 57, 'k': 27})
    """
    numbers: dict[str, Any] = {}
    for name, (low, high, *decimals) in kind.draw.items():
        value = rng.randint(low, high)
        numbers[name] = value / 10 ** decimals[0] if decimals else value
    # Formulas and conditions are this package's own text, not a user's.
    scope: dict[str, Callable[..., Any]] = {"abs": abs, "int": int, "len": len}
    for name, expression in kind.let.items():
        value = eval(expression, {"__builtins__": {}}, {**scope, **numbers})
        numbers[name] = int(value) if value == int(value) else value
    if not eval(kind.where, {"__builtins__": {}}, {**scope, **numbers}):
        return None
    shown = "".join((*kind.wordings, *kind.valid_wordings, *kind.test_wordings))
    return {name: value for name, value in numbers.items() if f"{{{name}}}" in shown}


def offer(everything: Sequence[Call], split: str, rng: random.Random) -> list[str]:
    """Choose what a task offers: the teacher's tools, often those of another way, and distractors.

    >>> tools = offer([call("add", a=1, b=2)], "train", random.Random(0))
    >>> "add" in tools, 3 <= len(tools) <= 5
    (True, True)
    """
    tools = dict.fromkeys(item.tool for item in calls_of(everything[0]))
    for way in everything[1:]:
        needed = [item.tool for item in calls_of(way) if item.tool not in tools]
        if len(tools) + len(needed) <= 5 and rng.random() < 0.4:
            tools.update(dict.fromkeys(needed))
    pool = [*PAPER_NAMES, *(UNSEEN_NAMES if split == "ood-tools" else ())]
    size = max(len(tools), rng.randint(3, 5))
    while len(tools) < size:
        tools.setdefault(rng.choice(pool))
    offered = list(tools)
    rng.shuffle(offered)
    return offered


@lru_cache(maxsize=1)
def math_box_tools() -> dict[str, Tool]:
    """Return the tools of one shared box for the oracle teacher.

    >>> math_box_tools()["add"].call({"a": 1, "b": 2}).output
    '3'
    """
    return math_box().tools
