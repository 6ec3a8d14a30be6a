"""How a student's calls are compared with the teacher's: the ladder from no matching to exact order.

Every matcher returns a share from 0 to 1. `set` is MENTOR's; `ordered_calls` is our reconstruction of the strict
baseline of the paper's third version, which was not available to us; `calls` is ours.

Matchers that read arguments compare what they mean: `normalise_calls` fills in the defaults of the tools' schemas,
and a number is the same number in all its ways of writing where the schema asks for one, in quotes too, although
the tools of this package refuse it there.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from mentor_gym.protocol import to_json
from mentor_gym.types import CallError, Task, ToolFacts, Transcript

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


def canonical_text(value: Any) -> str:
    """Return the JSON text of a value, the same for equal values: keys in order, 3.0 as 3.

    >>> canonical_text({"b": 3.0, "a": {"d": 1, "c": True}})
    '{"a": {"c": true, "d": 1}, "b": 3}'
    """
    return to_json(_in_order(value))


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_order(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_in_order(item) for item in value]
    return _whole(value)


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
        named = task.meta.get("teacher_tools")
        return tuple((str(name), {}) for name in named) if isinstance(named, (list, tuple)) else ()
    return _teacher_calls(task.suite, task.split, task.id, Same(task.teacher))


@lru_cache(maxsize=50_000)
def _teacher_calls(suite: str, split: str, task_id: str, teacher: Same) -> tuple[MatchCall, ...]:
    found = []
    for message in teacher.value:
        for call in message.get("tool_calls") or ():
            arguments = call["function"]["arguments"]
            if isinstance(arguments, str):
                arguments = msgspec.json.decode(arguments)
            found.append((call["function"]["name"], arguments))
    return tuple(found)


def normalise_calls(calls: Sequence[MatchCall], transcript: Transcript) -> list[MatchCall]:
    """Write calls in one form, so that those are equal which mean the same to their tools.

    By the schemas in `transcript.tools`, inside arrays and objects too:

    - An argument that was left out gets the schema's default.
    - Where the schema asks for a number or an integer, a text that is a JSON number, zeros in front allowed,
      becomes that number, and a whole number of floating point an integer.
    - A null for an optional argument without a default is left out: `Tool.from_function` writes no default for a
      parameter whose default is None.

    Nothing else is changed, and nothing of a tool that `transcript.tools` does not know.

    Args:
        calls: The student's or the teacher's, as `student_calls` and `teacher_calls` return them. What was done
            with a tuple is remembered, so nothing in it may be changed afterwards.
        transcript: The episode, for the facts about its tools.

    Returns:
        The calls in the same order. Arguments that needed no change are the same objects: not to be changed.

    >>> task = Task("1", "shop", "train", "?", ["round"], "2", {"kind": "number"}, None, [])
    >>> number = {"type": "number"}
    >>> parameters = {"properties": {"value": number, "digits": {"type": "integer", "default": 0}}}
    >>> transcript = Transcript(task, tools={"round": ToolFacts(parameters, read_only=True)})
    >>> normalise_calls([("round", {"value": "2.0"}), ("other", {"value": "2.0"})], transcript)
    [('round', {'value': 2, 'digits': 0}), ('other', {'value': '2.0'})]
    """
    if type(calls) is tuple:
        return list(_normalised_teacher(Same(calls), Same(transcript.tools)))
    return _normalise(calls, transcript.tools)


def aligned_calls(transcript: Transcript) -> tuple[list[MatchCall], list[MatchCall]]:
    """Return the student's calls and the teacher's, normalised.

    >>> from mentor_gym.suites import load_suite
    >>> task = load_suite("math").tasks("test")[0]
    >>> student, teacher = aligned_calls(Transcript(task))
    >>> student, teacher == list(teacher_calls(task))
    ([], True)
    """
    return (
        normalise_calls(student_calls(transcript), transcript),
        normalise_calls(teacher_calls(transcript.task), transcript),
    )


class Same:
    """An object as a cache argument, compared by identity; for what never changes once it is made."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value


# Keeps what it was asked for alive, so no address is met again with another content.
@lru_cache(maxsize=8_192)
def _normalised_teacher(calls: Same, tools: Same) -> tuple[MatchCall, ...]:
    return tuple(_normalise(calls.value, tools.value))


@lru_cache(maxsize=8_192)
def _canonical_teacher(calls: Same, tools: Same) -> list[tuple[str, Any]]:
    return [(name, canonical(arguments)) for name, arguments in _normalise(calls.value, tools.value)]


def _normalise(calls: Sequence[MatchCall], tools: Mapping[str, ToolFacts]) -> list[MatchCall]:
    normalised = []
    for call in calls:
        facts = tools.get(call[0])
        plan = None if facts is None else _plan_of(Same(facts.parameters))
        normalised.append(call if plan is None else (call[0], plan(call[1])))
    return normalised


# Returns the value in its one form: the value itself where nothing is to be done.
_Plan = Callable[[Any], Any]


@lru_cache(maxsize=4_096)
def _plan_of(schema: Same) -> _Plan | None:
    return _object_plan(schema.value) if isinstance(schema.value, dict) else None


def _plan(schema: Any) -> _Plan | None:
    """Return what is to be done with values of a schema; None where nothing is."""
    if not isinstance(schema, dict):
        return None
    kinds = _kinds(schema)
    if kinds and kinds <= {"number", "integer"}:
        return _number
    if kinds == {"array"}:
        item = _plan(schema.get("items"))
        return None if item is None else lambda value: list(map(item, value)) if type(value) is list else value
    if kinds == {"object"}:
        return _object_plan(schema)
    return None


def _kinds(schema: dict[str, Any]) -> set[str]:
    """Return the JSON types that a schema allows, other than null; none where it does not say."""
    kinds = schema.get("type")
    if isinstance(kinds, str):
        return {kinds} - {"null"}
    if isinstance(kinds, list):
        return set(map(str, kinds)) - {"null"}
    options = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(options, list) or not all(isinstance(option, dict) for option in options):
        return set()
    found = [(_kinds(option), option.get("type") == "null") for option in options]
    if not all(kinds or is_null for kinds, is_null in found):
        return set()
    return set().union(*(kinds for kinds, _ in found))


def _takes_null(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    kinds, enum = schema.get("type"), schema.get("enum")
    options = schema.get("anyOf") or schema.get("oneOf")
    return (
        kinds == "null"
        or (isinstance(kinds, list) and "null" in kinds)
        or (isinstance(enum, list) and None in enum)
        or (isinstance(options, list) and any(map(_takes_null, options)))
    )


def _object_plan(schema: dict[str, Any]) -> _Plan | None:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return None
    required = schema.get("required")
    required = required if isinstance(required, list) else ()
    plans = {name: plan for name, part in properties.items() if (plan := _plan(part)) is not None}
    optional = {name: part for name, part in properties.items() if isinstance(part, dict) and name not in required}
    defaults = {name: part["default"] for name, part in optional.items() if "default" in part}
    nulls = {name for name, part in optional.items() if "default" not in part and _takes_null(part)}
    if not plans and not defaults and not nulls:
        return None

    def normalise(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        changed = {**value}
        for name, default in defaults.items():
            changed.setdefault(name, default)
        for name in nulls:
            if changed.get(name, ...) is None:
                del changed[name]
        for name, plan in plans.items():
            if name in changed:
                changed[name] = plan(changed[name])
        return changed

    return normalise


_NUMBER = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")
# Above it, an integer is another text than the number of floating point that it equals.
_EXACT = 2**53


def _number(value: Any) -> Any:
    if type(value) is str and _NUMBER.fullmatch(value):
        if value.removeprefix("-").isdecimal():
            return int(value)
        number = float(value)
        value = number if math.isfinite(number) else value
    return _whole(value)


def _whole(value: Any) -> Any:
    if type(value) is float and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value


# (student's calls, teacher's calls, facts about the tools) -> share.
Matcher = Callable[[Sequence[MatchCall], Sequence[MatchCall], Mapping[str, ToolFacts]], float]


def _none(student: Sequence[MatchCall], teacher: Sequence[MatchCall], tools: Mapping[str, ToolFacts]) -> float:
    return 0.0


def _any(student: Sequence[MatchCall], teacher: Sequence[MatchCall], tools: Mapping[str, ToolFacts]) -> float:
    return float(bool(_names(student) & _names(teacher)))


def _f1(student: Sequence[MatchCall], teacher: Sequence[MatchCall], tools: Mapping[str, ToolFacts]) -> float:
    return set_f1(_names(student), _names(teacher))


def _set(student: Sequence[MatchCall], teacher: Sequence[MatchCall], tools: Mapping[str, ToolFacts]) -> float:
    return float(_names(student) == _names(teacher))


def _multiset(student: Sequence[MatchCall], teacher: Sequence[MatchCall], tools: Mapping[str, ToolFacts]) -> float:
    return float(Counter(name for name, _ in student) == Counter(name for name, _ in teacher))


def _ordered_names(
    student: Sequence[MatchCall], teacher: Sequence[MatchCall], tools: Mapping[str, ToolFacts]
) -> float:
    return float([name for name, _ in student] == [name for name, _ in teacher])


def _calls(student: Sequence[MatchCall], teacher: Sequence[MatchCall], tools: Mapping[str, ToolFacts]) -> float:
    """Compare calls up to the order within runs of read-only calls.

    Two calls that only read show the same in either order. A call that changes something stays where it is with
    regard to every other: the same reading may show one thing before it and another after it, and two changes may
    overwrite each other.
    """
    if len(student) != len(teacher):
        return 0.0
    return float(_runs(_canonical_calls(student, tools), tools) == _runs(_canonical_calls(teacher, tools), tools))


def _ordered_calls(
    student: Sequence[MatchCall], teacher: Sequence[MatchCall], tools: Mapping[str, ToolFacts]
) -> float:
    if len(student) != len(teacher):
        return 0.0
    return float(_canonical_calls(student, tools) == _canonical_calls(teacher, tools))


MATCHERS: dict[str, Matcher] = {
    "none": _none,
    "any": _any,
    "f1": _f1,
    "set": _set,
    "multiset": _multiset,
    "ordered_names": _ordered_names,
    "calls": _calls,
    "ordered_calls": _ordered_calls,
}


def set_f1(given: set[str], wanted: set[str]) -> float:
    """F1 of two sets; 1 when both are empty.

    >>> set_f1({"add"}, {"add", "multiply"})
    0.6666666666666666
    """
    total = len(given) + len(wanted)
    return 2 * len(given & wanted) / total if total else 1.0


def _canonical_calls(calls: Sequence[MatchCall], tools: Mapping[str, ToolFacts]) -> list[tuple[str, Any]]:
    # The teacher's are a tuple, and the same one for every episode of a task.
    if type(calls) is tuple:
        return _canonical_teacher(Same(calls), Same(tools))
    return [(name, canonical(arguments)) for name, arguments in _normalise(calls, tools)]


def _runs(calls: list[tuple[str, Any]], tools: Mapping[str, ToolFacts]) -> list[Any]:
    """Return the changing calls in their order, with the multiset of the read-only ones between them."""
    runs: list[Any] = [Counter()]
    for call in calls:
        facts = tools.get(call[0])
        if facts is not None and facts.read_only:
            runs[-1][call] += 1
        else:
            runs += [call, Counter()]
    return runs


def _names(calls: Sequence[MatchCall]) -> set[str]:
    return {name for name, _ in calls}
