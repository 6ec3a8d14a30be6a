"""Whether calls are the expected ones, where several values are right for an argument.

The rules are those that the Berkeley function-calling leaderboard (BFCL) applies to the syntax tree of a model's
calls; `tests/benchmarks/bfcl_agreement.py` compares the two. Nothing here needs the package `bfcl-eval`.

What is expected is a list of calls, each with the right values of every argument:

    {"name": "book", "arguments": {"city": {"type": "string", "values": ["Rome", "Roma"]},
                                   "nights": {"type": "integer", "values": [1], "optional": true}}}

`type` is one of `TYPES`; an `array` may say the type of its `items`. Texts are compared without case and without
the characters ` ,./-_*^`. The values of an `object` say the right values of every key: `{"x": [1, 2]}`. The text
`""` among the values of a key says that the key may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
    # BFCL's type for what may be anything: a text unless the values say otherwise.
    "any": str,
}
LEFT_OUT = ""
_IGNORED = re.compile(r"[ ,./\-_*^]")


def calls_match(calls: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether the calls are the expected ones, in any order, none missing and none too many.

    Each expected call in turn takes the first call left that fits it, as BFCL does: where what is expected
    overlaps, another assignment might fit and is not looked for.

    Args:
        calls: The calls made, each with `name` and `arguments`.
        expected: The calls expected, as the module describes them.

    >>> wanted = [{"name": "add", "arguments": {"a": {"type": "integer", "values": [1]}}}]
    >>> calls_match([{"name": "add", "arguments": {"a": 1}}], wanted), calls_match([], wanted)
    (True, False)
    """
    if len(calls) != len(expected):
        return False
    left = list(calls)
    for wanted in expected:
        for position, call in enumerate(left):
            if call_matches(call, wanted):
                del left[position]
                break
        else:
            return False
    return True


def call_matches(call: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Say whether one call is the expected one.

    >>> wanted = {"name": "add", "arguments": {"a": {"type": "integer", "values": [1, 2], "optional": True}}}
    >>> [call_matches({"name": "add", "arguments": given}, wanted) for given in ({}, {"a": 2}, {"a": 3}, {"b": 1})]
    [True, True, False, False]
    """
    rules, arguments = expected["arguments"], call["arguments"]
    return (
        call["name"] == expected["name"]
        and all(name in arguments or rule.get("optional", False) for name, rule in rules.items())
        and all(name in rules and value_matches(value, rules[name]) for name, value in arguments.items())
    )


def value_matches(value: Any, rule: Mapping[str, Any]) -> bool:
    """Say whether a value of an argument is right.

    >>> value_matches("new york", {"type": "string", "values": ["New York"]})
    True
    >>> value_matches(5, {"type": "number", "values": [5.0]})
    True
    >>> value_matches(5.0, {"type": "integer", "values": [5]})
    False
    """
    kind, values = TYPES[rule["type"]], rule["values"]
    if kind is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            return False
    written = _kind_of(values)
    if type(value) is not kind:
        # Where the values are of another type than the argument: the name of a variable, say, in place of a list.
        return type(value) is written and value in values
    item = TYPES[rule["items"]] if kind is list and "items" in rule else None
    if item is not None and not any(_holds(value, item, possible) for possible in values):
        return False
    if written is not None and written is not kind:
        return value in values
    if kind is dict:
        return any(_object_matches(value, possible) for possible in values)
    if item is dict:
        return any(_objects_match(value, possible) for possible in values)
    if kind is list:
        # A list that may be left out may also be empty.
        return _plain(value) in [_plain(possible or []) for possible in values]
    if kind is str:
        return _plain(value) in map(_plain, values)
    return value in values


def expected_problem(expected: Any) -> str | None:
    r"""Say what is wrong with a list of expected calls; None when it can judge.

    >>> expected_problem([{"name": "add", "arguments": {"a": {"type": "int", "values": [1]}}}])
    'call 0, argument "a": type must be one of string, integer, number, boolean, array, object, any, got \'int\''
    """
    if not isinstance(expected, list):
        return f"expected a list of calls, got {type(expected).__name__}"
    for number, call in enumerate(expected):
        where = f"call {number}"
        if not isinstance(call, dict) or set(call) != {"name", "arguments"}:
            return f"{where}: expected an object with name and arguments"
        if not isinstance(call["name"], str) or not isinstance(call["arguments"], dict):
            return f"{where}: expected a text as name and an object as arguments"
        for name, rule in call["arguments"].items():
            problem = _rule_problem(rule)
            if problem:
                return f'{where}, argument "{name}": {problem}'
    return None


def _rule_problem(rule: Any) -> str | None:
    if not isinstance(rule, dict) or not {"type", "values"} <= set(rule) <= {
        "type",
        "items",
        "values",
        "optional",
    }:
        return "expected an object with type and values, and maybe items and optional"
    for field in ("type", "items"):
        if field in rule and (not isinstance(rule[field], str) or rule[field] not in TYPES):
            return f"{field} must be one of {', '.join(TYPES)}, got {rule[field]!r}"
    if not isinstance(rule["values"], list):
        return "values must be a list"
    return None if isinstance(rule.get("optional", False), bool) else "optional must be true or false"


def _kind_of(values: Sequence[Any]) -> type | None:
    return next((type(value) for value in values if value != LEFT_OUT), None)


def _holds(value: Any, item: type, possible: Any) -> bool:
    """Say whether a list has items of the right type, or of that of the possible list."""
    if type(possible) is not list:
        return True
    kinds = (item, _kind_of(possible))
    return all(type(entry) in kinds for entry in value)


def _object_matches(value: Any, possible: Any) -> bool:
    if type(value) is not dict or type(possible) is not dict:
        return False
    return all(
        key in possible and _plain(entry) in [_plain(option) for option in possible[key]]
        for key, entry in value.items()
    ) and all(key in value or LEFT_OUT in options for key, options in possible.items())


def _objects_match(value: Any, possible: Any) -> bool:
    return (
        isinstance(possible, list | str)
        and len(value) == len(possible)
        and all(map(_object_matches, value, possible))
    )


def _plain(value: Any) -> Any:
    """Return a text without what does not count in it; in a list, only its own texts are changed."""
    if type(value) is str:
        return _IGNORED.sub("", value).lower().replace("'", '"')
    if type(value) is list:
        return [_plain(entry) if type(entry) is str else entry for entry in value]
    return value
