"""How a student's calls are compared with the teacher's: the ladder from no matching to exact order.

Every matcher returns a share from 0 to 1. `set` is MENTOR's; `ordered_calls` is our reconstruction of the strict
baseline of the paper's third version, which was not available to us.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from mentor_gym.types import CallError, Task, Transcript

# A call as matchers see it: its name and its arguments.
MatchCall = tuple[str, dict[str, Any]]

_NOT_CALLED = (CallError.UNKNOWN_TOOL, CallError.MALFORMED, CallError.OVER_LIMIT)


def canonical(value: Any) -> Any:
    """Return a hashable form in which equal JSON values are equal: 3 and 3.0, keys in any order.

    >>> canonical({"b": 3.0, "a": [1, True]}) == canonical({"a": [1, True], "b": 3})
    True
    >>> canonical(True) == canonical(1)
    False
    """
    if isinstance(value, dict):
        return tuple(sorted((key, canonical(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", *(canonical(item) for item in value))
    if isinstance(value, bool):
        return ("bool", value)
    return value


def student_calls(transcript: Transcript) -> list[MatchCall]:
    """Return the student's calls of known tools, in order; whether a call succeeded does not matter.

    >>> import mentor_gym
    >>> from mentor_gym.protocol import render_call
    >>> env = mentor_gym.MentorToolEnv("math")
    >>> _ = env.reset(seed=0)
    >>> name = list(env.tools)[0]
    >>> _ = env.step(render_call(name, {}) + render_call("no_such_tool", {}))
    >>> student_calls(env.transcript) == [(name, {})]
    True
    """
    return [
        (call.name, call.arguments)
        for turn in transcript.turns
        for call, result in zip(turn.action.calls, turn.results)
        if result.error is None or result.error not in _NOT_CALLED
    ]


def teacher_calls(task: Task) -> tuple[MatchCall, ...]:
    """Return the calls of the task's teacher trace, in order.

    Of a task without a trace whose `meta` names the teacher's tools (`teacher_tools`, as in MENTOR's data), calls
    of these without arguments: enough for matchers of names.

    >>> function = {"name": "add", "arguments": '{"a": 1, "b": 2}'}
    >>> trace = [{"role": "assistant", "content": None, "tool_calls": [{"function": function}]}]
    >>> teacher_calls(Task("1", "math", "train", "1 and 2?", ["add"], "3", {"kind": "number"}, None, trace))
    (('add', {'a': 1, 'b': 2}),)
    """
    if not task.teacher:
        return tuple((str(name), {}) for name in task.meta.get("teacher_tools", ()))
    return _teacher_calls(task.suite, task.split, task.id, _Teacher(task.teacher))


class _Teacher:
    """The trace as a cache argument: compared by identity, since a loaded task never changes."""

    __slots__ = ("messages",)

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages

    def __hash__(self) -> int:
        return id(self.messages)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Teacher) and self.messages is other.messages


@lru_cache(maxsize=50_000)
def _teacher_calls(suite: str, split: str, task_id: str, teacher: _Teacher) -> tuple[MatchCall, ...]:
    found = []
    for message in teacher.messages:
        for call in message.get("tool_calls") or ():
            arguments = call["function"]["arguments"]
            if isinstance(arguments, str):
                arguments = msgspec.json.decode(arguments)
            found.append((call["function"]["name"], arguments))
    return tuple(found)


def _none(student: Sequence[MatchCall], teacher: Sequence[MatchCall]) -> float:
    return 0.0


def _any(student: Sequence[MatchCall], teacher: Sequence[MatchCall]) -> float:
    return float(bool(_names(student) & _names(teacher)))


def _f1(student: Sequence[MatchCall], teacher: Sequence[MatchCall]) -> float:
    return set_f1(_names(student), _names(teacher))


def _set(student: Sequence[MatchCall], teacher: Sequence[MatchCall]) -> float:
    return float(_names(student) == _names(teacher))


def _multiset(student: Sequence[MatchCall], teacher: Sequence[MatchCall]) -> float:
    return float(Counter(name for name, _ in student) == Counter(name for name, _ in teacher))


def _ordered_names(student: Sequence[MatchCall], teacher: Sequence[MatchCall]) -> float:
    return float([name for name, _ in student] == [name for name, _ in teacher])


def _ordered_calls(student: Sequence[MatchCall], teacher: Sequence[MatchCall]) -> float:
    return float(_canonical_calls(student) == _canonical_calls(teacher))


MATCHERS: dict[str, Callable[[Sequence[MatchCall], Sequence[MatchCall]], float]] = {
    "none": _none,
    "any": _any,
    "f1": _f1,
    "set": _set,
    "multiset": _multiset,
    "ordered_names": _ordered_names,
    "ordered_calls": _ordered_calls,
}


def set_f1(given: set[str], wanted: set[str]) -> float:
    """F1 of two sets; 1 when both are empty.

    >>> set_f1({"add"}, {"add", "multiply"})
    0.6666666666666666
    """
    total = len(given) + len(wanted)
    return 2 * len(given & wanted) / total if total else 1.0


def _canonical_calls(calls: Sequence[MatchCall]) -> list[tuple[str, Any]]:
    return [(name, canonical(arguments)) for name, arguments in calls]


def _names(calls: Sequence[MatchCall]) -> set[str]:
    return {name for name, _ in calls}
