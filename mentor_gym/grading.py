"""Answer checkers: whether an episode succeeded. The only judge of success, apart from every reward.

A task's `grader` names a kind and its options:

- `{"kind": "number"}`: equal as numbers; see `grade_number`.
- `{"kind": "text", "aliases": [...]}`: equal after normalising case, punctuation and articles.
- `{"kind": "set", "separator": ","}`: the same items in any order, each compared as text.
- `{"kind": "math"}`: equal as mathematics; see `mentor_gym.math_answers.grade_math`. Needs the extra `math`.
- `{"kind": "state", "expected": …}`: what the tools' `ToolBox.final_state()` returns equals `expected`, whatever
  the answer says: for tasks that ask for a change.
- `{"kind": "calls", "expected": […]}`: `final_state()` is a list of calls that match the expected ones in any
  order; see `mentor_gym.expected_calls`.

A checker is total: whatever the answer, it returns True or False.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import Any

from mentor_gym.expected_calls import calls_match, expected_problem

_NUMBER = re.compile(r"[-+]?(?:\d+(?:,\d{3})*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?")
_FRACTION = re.compile(
    r"([-+]?)\s*(?:\\[dt]?frac\{\s*(-?\d{1,15})\s*\}\{\s*(-?\d{1,15})\s*\}|(\d{1,15})\s*/\s*(\d{1,15}))"
)
_WHOLE = re.compile(r"[-+]?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.0*)?")
# Punctuation, but neither what stands inside numbers, dates and times nor the sign of a number: "3.5" is not "35".
_DROP = re.compile(rf"(?!(?<=\d)[.:/-](?=\d)|(?<!\w)-(?=\d))[{re.escape(string.punctuation)}]")
_HOUR = re.compile(r"(?<![\d:.])\d(?=:\d\d(?!\d))")
# How people set off an answer, say what it is of, and its unit, one word: `**42**`, `x = 42`, `42 km/h`.
_FRAME = re.compile(r"\*\*(.*)\*\*|\\boxed\{(.*)\}", re.DOTALL)
_NAMED = re.compile(r"[A-Za-z]\w{0,20} ?= ?")
_UNIT = re.compile(r"(?<=[\d.]) ?(?!or$|and$|to$)(?:[A-Za-zµ°][A-Za-zµ°/²³^\d]{0,14})$")
# What may stand before an item of a list.
_BULLET = re.compile(r"(?:and|&|[-*•](?= ))\s+", re.IGNORECASE)


def parse_number(text: str) -> tuple[float, int] | None:
    r"""Read a number as people write it: separators, a currency sign, a percent sign, a fraction.

    Returns:
        The value and how many digits stand after the point, or None when the text is not one number.

    >>> parse_number("$1,234.50"), parse_number("-3/4"), parse_number(r"\frac{1}{2}"), parse_number("two")
    ((1234.5, 2), (-0.75, 15), (0.5, 15), None)
    """
    if len(text) > 100:
        return None
    text = text.strip().strip("$€£").removesuffix("%").rstrip(". ").replace("−", "-").strip()
    if _NUMBER.fullmatch(text):
        mantissa = text.lower().partition("e")[0]
        return float(text.replace(",", "")), len(mantissa.partition(".")[2])
    match = _FRACTION.fullmatch(text)
    if match:
        sign, over, under, plain_over, plain_under = match.groups()
        denominator = int(under or plain_under)
        if denominator:
            return int(over or plain_over) / denominator * (-1 if sign == "-" else 1), 15
    return None


def grade_number(answer: str, gold: str) -> bool:
    """Compare numbers: equal to one part in a million, or correctly rounded to two or more decimals.

    A gold answer that is a whole number must be met to within 0.01, however large it is. A unit of one word after
    the answer's number, `x =` before it, and what sets it off (`**42**`) do not count.

    >>> grade_number("42.0", "42"), grade_number("3.33", "3.333333333"), grade_number("3.3", "3.333333333")
    (True, True, False)
    >>> grade_number("5000212", "5000211")
    False
    """
    return equal_numbers(answer, gold) or (len(answer) <= 100 and equal_numbers(_bare(answer), gold))


def equal_numbers(answer: str, gold: str) -> bool:
    """Compare two texts that are numbers and nothing else, as `grade_number` does.

    >>> equal_numbers("1,000", "1000.0"), equal_numbers("5 m", "5")
    (True, False)
    """
    given, wanted = parse_number(answer), parse_number(gold)
    if given is None or wanted is None:
        return False
    if abs(wanted[0]) > 2**40 and _WHOLE.fullmatch(gold) and _WHOLE.fullmatch(answer):
        # Beyond what a float tells apart.
        return _to_int(answer) == _to_int(gold)
    tolerance = 1e-6 * abs(wanted[0]) if wanted[0] else 1e-9
    if gold.strip().lstrip("-").isdigit():
        tolerance = min(tolerance, 0.01)
    if wanted[1] > given[1] >= 2:
        tolerance = max(tolerance, 0.5000001 * 10.0 ** -given[1])
    return abs(given[0] - wanted[0]) <= tolerance


def _bare(answer: str) -> str:
    """Return a number without what sets it off, its name and its unit."""
    text = answer.strip().rstrip(".")
    match = _FRAME.fullmatch(text)
    text = ((match[1] or match[2] or "") if match else text).strip()
    name = _NAMED.match(text)
    text = text[name.end() :] if name else text
    return text if parse_number(text) is not None else _UNIT.sub("", text)


def _to_int(text: str) -> int:
    return int(text.partition(".")[0].replace(",", ""))


def normalise_text(text: str) -> str:
    """Lower-case, drop punctuation and articles, collapse white space (the usual question-answering form).

    Signs inside numbers, dates and times stay; an hour of one digit gets a zero.

    >>> normalise_text("The  Eiffel Tower!"), normalise_text("-3.5."), normalise_text("2024-11-22")
    ('eiffel tower', '-3.5', '2024-11-22')
    """
    text = text[:1000].lower()
    if ":" in text:
        text = _HOUR.sub(r"0\g<0>", text)
    words = _DROP.sub("", text).split()
    return " ".join(word for word in words if word not in ("a", "an", "the"))


class _Right:
    """Stands for whatever final state is the right one."""


RIGHT_STATE = _Right()


def _number(answer: str, gold: str, options: dict[str, Any], final_state: Any) -> bool:
    return grade_number(answer, gold)


def _text(answer: str, gold: str, options: dict[str, Any], final_state: Any) -> bool:
    given = normalise_text(answer)
    return given != "" and given in {normalise_text(item) for item in (gold, *options.get("aliases", ()))}


def _set(answer: str, gold: str, options: dict[str, Any], final_state: Any) -> bool:
    separator = options.get("separator", ",")
    given, wanted = (
        _items(answer, separator),
        sorted(map(_item, filter(None, map(str.strip, gold.split(separator))))),
    )
    if not given or not wanted:
        return False
    if sorted(map(_item, given)) == wanted:
        return True
    # "A, B and C", where no item is "B and C".
    head, joined, tail = given[-1].rpartition(" and ")
    return bool(joined) and sorted(map(_item, [*given[:-1], head, tail])) == wanted


def _items(text: str, separator: str) -> list[str]:
    """Split a list as people write it: a bullet or "and" before an item, items on lines of their own."""
    parts = (part.strip() for line in text[:10_000].splitlines() for part in line.split(separator))
    return [item for part in parts if (item := _BULLET.sub("", part, count=1) if _BULLET.match(part) else part)]


def _item(text: str) -> tuple[float, str]:
    number = parse_number(text)
    return (0.0, normalise_text(text)) if number is None else (number[0], "")


def _math(answer: str, gold: str, options: dict[str, Any], final_state: Any) -> bool:
    from mentor_gym.math_answers import grade_math  # it imports this module

    return grade_math(answer, gold)


def _state(answer: str, gold: str, options: dict[str, Any], final_state: Any) -> bool:
    return answer.strip() != "" and (final_state is RIGHT_STATE or bool(final_state == options["expected"]))


def _calls(answer: str, gold: str, options: dict[str, Any], final_state: Any) -> bool:
    if final_state is RIGHT_STATE:
        return answer.strip() != ""
    return answer.strip() != "" and isinstance(final_state, list) and calls_match(final_state, options["expected"])


GRADERS: dict[str, Callable[[str, str, dict[str, Any], Any], bool]] = {
    "number": _number,
    "text": _text,
    "set": _set,
    "math": _math,
    "state": _state,
    "calls": _calls,
}
# Those that judge what the tools ended with.
STATE_GRADERS = frozenset({"state", "calls"})

_OPTIONS: dict[str, tuple[str, ...]] = {
    "number": (),
    "text": ("aliases",),
    "set": ("separator",),
    "math": (),
    "state": ("expected",),
    "calls": ("expected",),
}


def grader_problem(grader: dict[str, Any]) -> str | None:
    r"""Say what is wrong with a task's grader, field first; None when it can judge.

    >>> grader_problem({"kind": "number"})
    >>> grader_problem({"kind": "txt"})
    'field "grader.kind": expected one of number, text, set, math, state, calls, got \'txt\''
    """
    kind = grader.get("kind")
    if not isinstance(kind, str) or kind not in GRADERS:
        return f'field "grader.kind": expected one of {", ".join(GRADERS)}, got {kind!r}'
    known = _OPTIONS.get(kind)
    for option, value in grader.items():
        if option == "kind":
            continue
        if known is not None and option not in known:
            names = ", ".join(("kind", *known))
            return f'field "grader.{option}" is unknown; a {kind} grader has {names}'
        if option == "aliases" and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            return f'field "grader.aliases": expected a list of texts, got {value!r}'
        if option == "separator" and not (isinstance(value, str) and value):
            return f'field "grader.separator": expected a text that is not empty, got {value!r}'
    if kind == "state" and "expected" not in grader:
        return 'field "grader.expected" is missing: the final state of the tools that is a success'
    if kind == "math":
        from mentor_gym.math_answers import unavailable

        reason = unavailable()
        return None if reason is None else f'field "grader.kind": math answers cannot be judged; {reason}'
    problem = expected_problem(grader.get("expected")) if kind == "calls" else None
    return f'field "grader.expected": {problem}' if problem else None


def grade(answer: str, gold: str, grader: dict[str, Any], final_state: Any = RIGHT_STATE) -> bool:
    """Judge the end of an episode by the task's grader.

    Args:
        answer: The answer that was given.
        gold: The task's answer.
        grader: The task's grader.
        final_state: What the tools' `final_state` returned. Left out, it counts as right, and the answer alone is
            judged: for checks of rows, where nothing was played.

    >>> grade("Paris.", "paris", {"kind": "text"})
    True
    >>> grade("done", "done", {"kind": "state", "expected": {"sold": 2}}, {"sold": 1})
    False
    """
    return GRADERS[grader["kind"]](answer, gold, grader, final_state)
