"""What the kinds of the `office` suite share: a desk on which a plan is carried out, and rows made from it.

A plan is a function that works with the real tools and reads their texts as a policy does. It is carried out in
each of its ways; a task is kept when all of them end alike, and its teacher is the first.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mentor_gym.grading import grade
from mentor_gym.suites.office_data import Office
from mentor_gym.suites.plans import PlanFailed, teacher_messages
from mentor_gym.tools.base import ToolBox
from mentor_gym.tools.calendar import read_time, write_time
from mentor_gym.types import Task

Slots = dict[str, Any]
Steps = list[tuple[str, dict[str, Any], str]]
DONE = "done"
MAX_CALLS = 7
# Longer lists are a test of patience.
_MAX_LISTED = 5
_ROW = re.compile(r"(?:\w+ )?(\d+) \| \w{3} ([\d-]{10}) \| ([\d:]{5})-([\d:]{5}) \| (.*) \| (.*)")
_FREE = re.compile(r"\w{3} ([\d-]{10}) \| ([\d:]{5})-([\d:]{5})")


@dataclass(frozen=True)
class Entry:
    """A line of the calendar, as a policy reads it: day and times are texts."""

    number: int
    day: str
    start: str
    end: str
    title: str
    people: tuple[str, ...]

    @property
    def minutes(self) -> int:
        """Its length."""
        return read_time(self.end) - read_time(self.start)


class Desk:
    """Carries out a plan with real tools, and reads what they answer.

    Args:
        box: The tools.
        state: What they start from.

    Attributes:
        steps: The calls so far, each with tool, arguments and the text of the result.
        opens: When the calendar opens, in minutes since midnight, once `week` was asked for.
        closes: When it closes, likewise.

    >>> from mentor_gym.suites.office import office_box
    >>> desk = Desk(office_box(), {"office": 0, "words": "common"})
    >>> desk.file_in("todo", "clean"), desk.week()[0]
    ('todo/cleanup.txt', '2025-06-30')
    """

    def __init__(self, box: ToolBox, state: dict[str, Any]) -> None:
        box.open(state)
        self.box = box
        self.steps: Steps = []
        self.opens = self.closes = 0

    def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool.

        Raises:
            PlanFailed: It reported a failure.
        """
        result = self.box.tools[tool].call(arguments)
        if not result.ok:
            raise PlanFailed(f"{tool}({arguments}): {result.output}")
        self.steps.append((tool, arguments, result.output))
        return result.output

    def file_in(self, folder: str, name: str) -> str:
        """Look for a file whose name begins so in a folder; returns its path."""
        names = [item for item in self.call("list_files", folder=folder).split("\n") if item.startswith(name)]
        if len(names) != 1:
            raise PlanFailed(f"{len(names)} files in {folder} begin with {name}")
        return f"{folder}/{names[0]}"

    def file_with(self, text: str, folder: str) -> str:
        """Search for a text; returns the path of the only file of a folder with it."""
        lines = self.call("search_files", text=text).split("\n")
        paths = {line.partition(": ")[0] for line in lines if line.startswith(f"{folder}/")}
        if len(paths) != 1:
            raise PlanFailed(f"{len(paths)} files in {folder} contain {text}")
        return paths.pop()

    def read(self, path: str) -> dict[str, str]:
        """Read a file of lines like `name: value`."""
        lines = self.call("read_file", path=path).split("\n")
        return {name: value for name, colon, value in (line.partition(": ") for line in lines) if colon}

    def week(self, which: str = "next") -> list[str]:
        """Ask for today; returns the days of this week or the next."""
        _, this, following, hours = self.call("today").split("\n")
        self.opens, self.closes = map(read_time, re.findall(r"\d\d:\d\d", hours))
        return re.findall(r"\d{4}-\d\d-\d\d", this if which == "this" else following)

    def entries(self, first: str, last: str | None, person: str | None = None) -> list[Entry]:
        """List the appointments of some days."""
        arguments = {"first_day": first, "last_day": last, "person": person}
        given = {name: value for name, value in arguments.items() if value is not None}
        return read_entries(self.call("list_appointments", **given))

    def entry(self, title: str) -> Entry:
        """Find the only appointment with this title."""
        found = read_entries(self.call("find_appointments", title=title))
        if len(found) != 1:
            raise PlanFailed(f"{len(found)} appointments are called {title}")
        return found[0]

    def gap(self, people: list[str], minutes: int, days: list[str]) -> tuple[str, str]:
        """Find the same as `free` in the list of everybody's appointments."""
        busy = [item for item in self.entries(days[0], days[-1]) if not set(people).isdisjoint(item.people)]
        for day in days:
            begin = self.opens
            for item in (*(item for item in busy if item.day == day), None):
                if (self.closes if item is None else read_time(item.start)) - begin >= minutes:
                    return day, write_time(begin)
                begin = begin if item is None else max(begin, read_time(item.end))
        raise PlanFailed("they are never free")

    def free(self, people: list[str], minutes: int, first: str, last: str | None = None) -> tuple[str, str]:
        """Find the first time at which all of these are free; returns day and time."""
        arguments = {"people": people, "minutes": minutes, "first_day": first}
        text = self.call("find_free_times", **arguments, **({} if last is None else {"last_day": last}))
        match = _FREE.match(text)
        if match is None:
            raise PlanFailed("they are never free")
        return match[1], match[2]


def read_entries(text: str) -> list[Entry]:
    """Read the lines of a list of appointments.

    >>> read_entries("4 | Tue 2025-03-11 | 09:00-10:00 | review | Bo")[0].minutes
    60
    """
    matches = [match for match in map(_ROW.fullmatch, text.split("\n")) if match]
    return [Entry(int(m[1]), m[2], m[3], m[4], m[5], tuple(m[6].split(", "))) for m in matches]


def round_quantity(quantity: str) -> str:
    """Return the number of a quantity, rounded to two decimals.

    >>> round_quantity("2.345678 kg"), round_quantity("3 kg")
    ('2.35', '3.00')
    """
    number = Decimal(quantity.split(" ")[0])
    if (number * 1000) % 10 == 5:
        raise PlanFailed("a half can be rounded in two ways")
    return str(round(number, 2))


Plan = Callable[[Desk, Slots, str], str]


@dataclass(frozen=True)
class OfficeKind:
    """One kind of task.

    Attributes:
        name: Short name, `meta["kind"]` of the row.
        answer: How its answer is judged: `number`, `text`, `set`, or `state` when it asks for a change.
        draw: Chooses the values; None when the choice makes no task.
        plan: Solves it on a desk, and returns the answer.
        ways: Names of the ways in which `plan` can do it, the teacher's first.
        wordings: Texts of the train split, with the values in braces and alternatives in brackets, `[in|of]`.
        valid_wordings: Texts that only the validation split uses.
        test_wordings: Texts that only the test split uses.
    """

    name: str
    answer: str
    draw: Callable[[Office, random.Random], Slots | None]
    plan: Plan
    ways: tuple[str, ...]
    wordings: tuple[str, ...]
    valid_wordings: tuple[str, ...] = ()
    test_wordings: tuple[str, ...] = ()


def play(kind: OfficeKind, slots: Slots, box: ToolBox, state: dict[str, Any], way: str) -> tuple[Steps, str, Any]:
    """Carry out a kind's plan in one way.

    Returns:
        The calls, the answer, and the final state of the tools.

    Raises:
        PlanFailed: A call failed, or its result is not what the plan needs.

    >>> from mentor_gym.suites.office import KINDS, office_box
    >>> kind = next(kind for kind in KINDS if kind.name == "cleanup")
    >>> slots = {"path": "todo/cleanup.txt"}
    >>> steps, answer, final = play(kind, slots, office_box(), {"office": 0, "words": "common"}, "read")
    >>> [tool for tool, _, _ in steps], answer
    (['read_file', 'delete_file', 'delete_file'], 'done')
    >>> final
    {'files': {'drafts/letter-18.txt': None, 'drafts/letter-19.txt': None}, 'calendar': {}}
    """
    desk = Desk(box, state)
    answer = kind.plan(desk, slots, way)
    return desk.steps, answer, box.final_state()


def make_task(
    kind: OfficeKind,
    slots: Slots,
    box: ToolBox,
    state: dict[str, Any],
    wording: str,
    rng: random.Random,
    task: Mapping[str, str],
) -> Task | None:
    """Make the row of a task; None when these values make no good one.

    Args:
        kind: The kind.
        slots: Its values.
        box: A box of the suite; left open.
        state: The task's state.
        wording: One of the kind's texts.
        rng: Chooses the tools on offer and their order.
        task: The row's `id, suite, split`.

    >>> from mentor_gym.suites.office import KINDS, office_box
    >>> kind = next(kind for kind in KINDS if kind.name == "cleanup")
    >>> slots, state = {"path": "todo/cleanup.txt"}, {"office": 0, "words": "common"}
    >>> row = {"id": "1", "suite": "office", "split": "train"}
    >>> task = make_task(kind, slots, office_box(), state, "Do what {path} says.", random.Random(0), row)
    >>> task.prompt, task.meta["calls"]
    ('Do what todo/cleanup.txt says. Then answer done.', 3)
    """
    try:
        played = [play(kind, slots, box, state, way) for way in kind.ways]
    except PlanFailed:
        return None
    steps, answer, final = played[0]
    changed = any(final.values())
    if (kind.answer == "state") != changed or any(other != final for _, _, other in played):
        return None
    grader: dict[str, Any] = {"kind": kind.answer}
    if kind.answer == "state":
        grader["expected"] = final
    elif any(not grade(other, answer, grader) for _, other, _ in played):
        return None
    if kind.answer == "set" and not 2 <= len(answer.split(", ")) <= _MAX_LISTED:
        return None
    if max(len(other) for other, _, _ in played) > MAX_CALLS:
        return None
    prompt = wording.format(**{name: _write(value) for name, value in slots.items()})
    if kind.answer == "state":
        prompt += f" Then answer {DONE}."
    needed = {tool for other, _, _ in played for tool, _, _ in other}
    rest = [tool for tool in box.tools if tool not in needed]
    # In the order of the box before they are mixed: the order of a set differs between processes.
    tools = [tool for tool in box.tools if tool in needed] + rng.sample(rest, rng.randint(1, 4))
    rng.shuffle(tools)
    paths = {str([(tool, arguments) for tool, arguments, _ in other]) for other, _, _ in played}
    return Task(
        **task,
        prompt=prompt[0].upper() + prompt[1:],
        tools=list(tools),
        answer=answer,
        grader=grader,
        state=state,
        teacher=teacher_messages(steps, answer),
        meta={"kind": kind.name, "calls": len(steps), "paths": len(paths), "slots": slots},
    )


def _write(value: Any) -> str:
    if isinstance(value, list):
        return f"{', '.join(value[:-1])} and {value[-1]}" if len(value) > 1 else str(value[0])
    return str(value)
