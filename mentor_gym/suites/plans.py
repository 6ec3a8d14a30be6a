"""Plans: what an oracle teacher does, and how many other ways there are to do it.

A task's solution is written as a tree of abstract operations (`Op`). Each operation can be lowered to tool
calls (`Call`) in one or more ways: a product of equal numbers is one `multiply` or one `power`; a sum of three
is one `sum_numbers` or two `add`. Choosing a lowering for every operation gives a set of calls in which some
need the results of others and some commute. A *path* is one order of one such set, so the number of paths
tells how much freedom a policy has, and whether strict teacher matching can differ from flexible matching.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import msgspec

from mentor_gym.protocol import to_json
from mentor_gym.tools.base import Tool
from mentor_gym.types import Task


@dataclass(frozen=True)
class Op:
    """An abstract operation on constants and other operations.

    >>> Op("Add", (1, Op("Mult", (2, 3)))).args[1].name  # 1 + 2 * 3
    'Mult'
    """

    name: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Call:
    """One tool call; its arguments are constants, other calls, or tuples of those (a JSON list).

    Attributes:
        tool: The tool's name.
        arguments: Pairs of argument name and value, in the order of the tool's signature.

    >>> product = call("multiply", a=2, b=3)
    >>> list(call("add", a=1, b=product).needs()) == [product]
    True
    """

    tool: str
    arguments: tuple[tuple[str, Any], ...]

    def needs(self) -> Iterator[Call]:
        """Yield the calls whose results this one uses."""
        for _, value in self.arguments:
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Call):
                    yield item


def call(tool: str, **arguments: Any) -> Call:
    """Shorthand for a `Call`.

    >>> call("add", a=1, b=2)
    Call(tool='add', arguments=(('a', 1), ('b', 2)))
    """
    return Call(tool, tuple(arguments.items()))


# How an operation may be done: given its (lowered) arguments, the calls that do it, best first. An alternative
# that does not apply to these arguments is None.
Lowering = Callable[..., Sequence[Call | None]]


def lower(node: Any, lowerings: Mapping[str, Lowering], offered: Collection[str]) -> list[Any]:
    """Return every way to compute `node` with the offered tools, the teacher's own way first.

    >>> twice = {"twice": lambda x: [call("multiply", a=2, b=x), call("add", a=x, b=x)]}
    >>> [way.tool for way in lower(Op("twice", (5,)), twice, ["add", "multiply"])]
    ['multiply', 'add']
    >>> [way.tool for way in lower(Op("twice", (5,)), twice, ["add"])]
    ['add']
    """
    if isinstance(node, tuple):
        options = [lower(item, lowerings, offered) for item in node]
        return list(itertools.product(*options))
    if not isinstance(node, Op):
        return [node]
    ways: dict[Call, None] = {}
    for args in itertools.product(*(lower(arg, lowerings, offered) for arg in node.args)):
        for way in lowerings[node.name](*args):
            if way is not None and all(item.tool in offered for item in calls_of(way)):
                ways.setdefault(way)
    return list(ways)


def calls_of(root: Call) -> list[Call]:
    """Return the distinct calls behind `root` in an order in which they can be made, `root` last.

    >>> [item.tool for item in calls_of(call("add", a=1, b=call("multiply", a=2, b=3)))]
    ['multiply', 'add']
    """
    seen: dict[Call, None] = {}

    def visit(node: Call) -> None:
        if node not in seen:
            for needed in node.needs():
                visit(needed)
            seen[node] = None

    visit(root)
    return list(seen)


def orders(root: Call) -> Iterator[list[Call]]:
    """Yield every order in which the calls behind `root` can be made.

    >>> root = call("add", a=call("sqrt", x=9), b=call("floor", x=2.5))
    >>> [[item.tool for item in order] for order in orders(root)]
    [['sqrt', 'floor', 'add'], ['floor', 'sqrt', 'add']]
    """

    def extend(done: list[Call], left: list[Call]) -> Iterator[list[Call]]:
        if not left:
            yield done
        for item in left:
            if all(needed in done for needed in item.needs()):
                yield from extend([*done, item], [other for other in left if other is not item])

    yield from extend([], calls_of(root))


def count_paths(ways: Sequence[Call]) -> int:
    """Count the distinct sequences of calls over all ways of doing a task.

    >>> count_paths([call("add", a=call("sqrt", x=9), b=call("floor", x=2.5)), call("add", a=3, b=2)])
    3
    """
    return sum(_count_orders(root) for root in ways)


@lru_cache(maxsize=4096)
def _count_orders(root: Call) -> int:
    calls = calls_of(root)
    index = {item: i for i, item in enumerate(calls)}
    needed = [sum(1 << index[other] for other in set(item.needs())) for item in calls]
    counts = [0] * (1 << len(calls))
    counts[0] = 1
    for done, ways in enumerate(counts):
        if ways:
            for i, mask in enumerate(needed):
                if not done >> i & 1 and mask & done == mask:
                    counts[done | 1 << i] += ways
    return counts[-1]


class PlanFailed(Exception):
    """A call of a plan failed: the generator drew numbers that its tools refuse."""


def run(calls: Sequence[Call], tools: Mapping[str, Tool]) -> list[tuple[str, dict[str, Any], str]]:
    """Execute calls with the real tools, feeding results forward as a policy reads them: from their text.

    Returns:
        For each call its tool name, its concrete arguments and the text of its result.

    Raises:
        PlanFailed: A tool refused a call.

    >>> from mentor_gym.tools.math import math_box
    >>> run(calls_of(call("add", a=1, b=call("multiply", a=2, b=3))), math_box().tools)
    [('multiply', {'a': 2, 'b': 3}, '6'), ('add', {'a': 1, 'b': 6}, '7')]
    """
    values: dict[Call, Any] = {}

    def concrete(value: Any) -> Any:
        if isinstance(value, tuple):
            return [concrete(item) for item in value]
        return values[value] if isinstance(value, Call) else value

    steps = []
    for item in calls:
        arguments = {name: concrete(value) for name, value in item.arguments}
        result = tools[item.tool].call(arguments)
        if not result.ok:
            raise PlanFailed(f"{item.tool}({arguments}): {result.output}")
        values[item] = _read(result.output)
        steps.append((item.tool, arguments, result.output))
    return steps


def teacher_messages(steps: Sequence[tuple[str, dict[str, Any], str]], answer: str) -> list[dict[str, Any]]:
    """Write executed calls as a teacher trace: OpenAI chat messages, one call a turn, then the answer.

    >>> [message["role"] for message in teacher_messages([("add", {"a": 1, "b": 2}, "3")], "3")]
    ['assistant', 'tool', 'assistant']
    """
    messages: list[dict[str, Any]] = []
    for number, (name, arguments, output) in enumerate(steps, start=1):
        function = {"name": name, "arguments": to_json(arguments)}
        call_id = f"call_{number}"
        tool_call = {"id": call_id, "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [tool_call]})
        messages.append({"role": "tool", "tool_call_id": call_id, "content": output})
    messages.append({"role": "assistant", "content": f"<answer>{answer}</answer>"})
    return messages


class _Named(Protocol):
    """A kind of task, known by its name."""

    @property
    def name(self) -> str: ...


_KindT = TypeVar("_KindT", bound=_Named)


def draw_rows(
    kinds: Sequence[_KindT], rows: int, draw: Callable[[_KindT, int], Task | None], split: str, patience: int
) -> list[Task]:
    """Draw different tasks, of the kinds in turn, so that every split has every kind of it equally often.

    Args:
        kinds: The kinds.
        rows: How many tasks.
        draw: Draws a task of a kind, for a row's number; None when what was drawn cannot be used.
        split: Name of the split, for the message.
        patience: Draws of one kind in a row that may fail before the kind counts as exhausted.

    Raises:
        RuntimeError: A kind has no more different tasks.
    """
    tasks: list[Task] = []
    seen: set[tuple[str, str]] = set()
    failures = 0
    while len(tasks) < rows:
        kind = kinds[len(tasks) % len(kinds)]
        task = draw(kind, len(tasks))
        # Not by the question alone: what is asked of one database or table can be asked of another.
        key = None if task is None else (task.prompt, to_json(task.state))
        if task is not None and key is not None and key not in seen:
            seen.add(key)
            tasks.append(task)
            failures = 0
        else:
            failures += 1
            if failures > patience:
                raise RuntimeError(f"kind {kind.name!r} has no more tasks for split {split!r}")
    return tasks


def _read(output: str) -> Any:
    try:
        return msgspec.json.decode(output)
    except msgspec.DecodeError:
        return output
