"""Tools: schemas from functions, validation, and failures that never leave `Tool.call`."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentor_gym.tools import Tool, ToolBox, ToolError, tool
from mentor_gym.tools.base import MAX_OUTPUT_CHARS
from mentor_gym.tools.math import LIMIT, PAPER_TOOLS, UNSEEN_TOOLS, format_number, math_box
from mentor_gym.types import CallError

BOX = math_box()


def typed(
    text: str, times: int = 1, ratio: float = 0.5, loud: bool = False, tags: list[str] = [],  # noqa: B006
    mode: Literal["a", "b"] | None = None, note: str | None = None,
) -> str:  # fmt: skip
    """Do one thing. And explain it.

    Over two paragraphs.

    Args:
        text: What to do,
            over two lines.
        times: How often.

    Returns:
        Nothing of interest.
    """
    return f"{text}{times}{ratio}{loud}{tags}{mode}{note}"


def test_schema_from_a_function() -> None:
    function = Tool.from_function(typed).schema["function"]
    assert function["name"] == "typed"
    assert function["description"] == "Do one thing. And explain it. Over two paragraphs."
    parameters = function["parameters"]
    assert parameters["additionalProperties"] is False
    assert parameters["required"] == ["text"]
    assert parameters["properties"] == {
        "text": {"type": "string", "description": "What to do, over two lines."},
        "times": {"type": "integer", "description": "How often.", "default": 1},
        "ratio": {"type": "number", "default": 0.5},
        "loud": {"type": "boolean", "default": False},
        "tags": {"type": "array", "items": {"type": "string"}, "default": []},
        "mode": {"enum": ["a", "b", None]},
        "note": {"type": ["string", "null"]},
    }
    json.dumps(function)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, '"text" is a required property'),
        ({"text": 1}, 'argument "text"'),
        ({"text": "a", "times": "1"}, 'argument "times"'),
        ({"text": "a", "times": 1.5}, 'argument "times"'),
        ({"text": "a", "times": True}, 'argument "times"'),
        ({"text": "a", "loud": 1}, 'argument "loud"'),
        ({"text": "a", "tags": ["x", 2]}, 'argument "tags[1]"'),
        ({"text": "a", "mode": "c"}, 'argument "mode"'),
        ({"text": "a", "volume": 3}, "volume"),
    ],
)
def test_wrong_arguments_name_the_field(arguments: dict[str, Any], words: str) -> None:
    result = Tool.from_function(typed).call(arguments)
    assert (result.ok, result.error) == (False, CallError.INVALID_ARGUMENTS)
    assert words in result.output


def test_valid_arguments_reach_the_function() -> None:
    result = Tool.from_function(typed).call({"text": "a", "times": 2.0, "mode": None, "note": "n"})
    assert (result.ok, result.error, result.output) == (True, None, "a2.00.5False[]Nonen")


@pytest.mark.parametrize("arguments", [{"text": 1, "note": "\ud800"}, {"\ud800": 1}, {"text": float("nan")}])
def test_call_never_raises_on_arguments(arguments: dict[str, Any]) -> None:
    assert Tool.from_function(typed).call(arguments).error is CallError.INVALID_ARGUMENTS


def test_results_are_valid_text_whatever_the_arguments() -> None:
    assert Tool.from_function(typed).call({"text": "\ud800\x00"}).output.startswith("\ufffd\ufffd1")


def test_call_never_raises_on_depth() -> None:
    value: Any = 1
    for _ in range(500):
        value = [value]
    assert Tool.from_function(typed).call({"text": "a", "tags": value}).error is CallError.INVALID_ARGUMENTS


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ToolError("no <tool_call> today\x1b"), "no &lt;tool_call> today\ufffd"),
        (RuntimeError("/home/secret"), "failed with RuntimeError"),
        (RecursionError(), "failed with RecursionError"),
        (SystemExit(1), "failed with SystemExit"),
    ],
)
def test_failures_become_results(error: BaseException, words: str) -> None:
    def broken() -> str:
        """Fail."""
        raise error

    result = Tool.from_function(broken).call({})
    assert (result.ok, result.error) == (False, CallError.TOOL_FAILED)
    assert words in result.output
    assert "secret" not in result.output


def test_an_interrupt_is_not_swallowed() -> None:
    def interrupted() -> str:
        """Be interrupted by the user."""
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Tool.from_function(interrupted).call({})


def test_what_cannot_be_written_is_a_failure() -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise ValueError

    def strange() -> Any:
        """Return something strange."""
        return Unprintable()

    assert Tool.from_function(strange).call({}).error is CallError.TOOL_FAILED


def test_functions_cannot_change_the_record_of_a_call() -> None:
    def largest(numbers: list[float]) -> float:
        """Sort in place and return the last."""
        numbers.sort()
        return numbers.pop()

    arguments = {"numbers": [3, 1, 2]}
    assert Tool.from_function(largest).call(arguments).output == "3"
    assert arguments == {"numbers": [3, 1, 2]}


def test_long_results_are_cut_with_a_mark() -> None:
    def long(n: int) -> str:
        """Write n letters."""
        return "x" * n

    made = Tool.from_function(long)
    assert made.call({"n": MAX_OUTPUT_CHARS}).output == "x" * MAX_OUTPUT_CHARS
    assert made.call({"n": 10**7}).output == "x" * MAX_OUTPUT_CHARS + " …[cut]"


def test_functions_that_cannot_be_tools_are_refused() -> None:
    def undocumented(x: int) -> int:
        return x

    def untyped(x):  # type: ignore[no-untyped-def]
        """Have no hints."""

    def mapping(x: dict[str, int]) -> int:
        """Take a mapping."""
        return len(x)

    def bare(x: list) -> int:  # type: ignore[type-arg]
        """Take a bare list."""
        return len(x)

    def starred(*x: int) -> int:
        """Take anything."""
        return len(x)

    for function, words in [
        (undocumented, "docstring"),
        (untyped, "no type hint"),
        (mapping, "'mapping', parameter 'x'"),
        (bare, "list"),
        (starred, "plain named"),
    ]:
        with pytest.raises(ValueError, match=words):
            Tool.from_function(function)
    with pytest.raises(ValueError, match="must match"):
        Tool.from_function(typed, name="no spaces")


def test_boxes_hold_marked_functions_once() -> None:
    box = ToolBox.from_module({"typed": tool(typed), "other": math.floor})
    assert list(box.tools) == ["typed"]
    with pytest.raises(ValueError, match="two tools are called 'typed'"):
        ToolBox.from_functions([typed, typed])


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("add", {"a": 0.1, "b": 0.2}, "0.3"),
        ("subtract", {"a": 5, "b": 7.5}, "-2.5"),
        ("multiply", {"a": 6, "b": 7}, "42"),
        ("divide", {"a": 1, "b": 3}, "0.3333333333"),
        ("sum_numbers", {"numbers": [1, 2, 3.5]}, "6.5"),
        ("sum_numbers", {"numbers": []}, "0"),
        ("floor", {"x": -2.5}, "-3"),
        ("ceil", {"x": -2.5}, "-2"),
        ("round_number", {"x": 2.675, "digits": 2}, "2.68"),
        ("round_number", {"x": 1.005, "digits": 2}, "1.01"),
        ("round_number", {"x": -2.5}, "-3"),
        ("round_number", {"x": 1234, "digits": -2}, "1200"),
        ("power", {"base": 2, "exponent": 10}, "1024"),
        ("power", {"base": 2, "exponent": 0.5}, "1.414213562"),
        ("sqrt", {"x": 144}, "12"),
        ("abs_value", {"x": -3}, "3"),
        ("modulo", {"a": 17, "b": 5}, "2"),
        ("average", {"numbers": [1, 2]}, "1.5"),
        ("maximum", {"numbers": [1, 9, 2]}, "9"),
        ("minimum", {"numbers": [4, 1, 2]}, "1"),
        ("percent_of", {"percent": 15, "whole": 80}, "12"),
        ("common_divisor", {"a": 12, "b": 18}, "6"),
        ("common_multiple", {"a": 4, "b": 6}, "12"),
        ("clamp", {"x": 9, "low": 1, "high": 5}, "5"),
    ],
)
def test_math_tools_by_hand(name: str, arguments: dict[str, Any], expected: str) -> None:
    result = BOX.tools[name].call(arguments)
    assert (result.ok, result.output) == (True, expected)


@pytest.mark.parametrize(
    ("name", "arguments", "kind"),
    [
        ("divide", {"a": 1, "b": 0}, CallError.TOOL_FAILED),
        ("divide", {"a": 1, "b": 1e-300}, CallError.TOOL_FAILED),
        ("modulo", {"a": 1, "b": 0}, CallError.TOOL_FAILED),
        ("sqrt", {"x": -1}, CallError.TOOL_FAILED),
        ("power", {"base": 0, "exponent": -1}, CallError.TOOL_FAILED),
        ("power", {"base": -8, "exponent": 0.5}, CallError.TOOL_FAILED),
        ("power", {"base": 10, "exponent": 10}, None),
        ("power", {"base": 10, "exponent": 10**10}, CallError.TOOL_FAILED),
        ("power", {"base": 999_999_999, "exponent": 64}, CallError.TOOL_FAILED),
        ("average", {"numbers": []}, CallError.TOOL_FAILED),
        ("clamp", {"x": 1, "low": 2, "high": 1}, CallError.TOOL_FAILED),
        ("add", {"a": LIMIT, "b": LIMIT}, CallError.TOOL_FAILED),
        ("add", {"a": LIMIT * 10, "b": 1}, CallError.INVALID_ARGUMENTS),
        ("add", {"a": 10**400, "b": 1}, CallError.INVALID_ARGUMENTS),
        ("sum_numbers", {"numbers": [1] * 101}, CallError.INVALID_ARGUMENTS),
        ("round_number", {"x": 1, "digits": 1.5}, CallError.INVALID_ARGUMENTS),
    ],
)
def test_31_math_tools_stay_bounded(name: str, arguments: dict[str, Any], kind: CallError | None) -> None:
    result = BOX.tools[name].call(arguments)
    assert result.error is kind
    assert result.ok == (kind is None)


def test_the_box_is_the_paper_s_and_seven_more() -> None:
    names = [function.__name__ for function in (*PAPER_TOOLS, *UNSEEN_TOOLS)]
    assert len(PAPER_TOOLS) == 12
    assert list(BOX.tools) == names


@given(st.sampled_from(sorted(BOX.tools)), st.data())
def test_math_tools_are_total_and_print_numbers(name: str, data: st.DataObject) -> None:
    number = st.integers(-LIMIT, LIMIT) | st.floats(-1e15, 1e15)
    properties = BOX.tools[name].parameters["properties"]
    arguments = {
        key: data.draw(
            st.lists(number, max_size=4)
            if schema["type"] == "array"
            else st.integers(-LIMIT, LIMIT) if schema["type"] == "integer" else number
        )
        for key, schema in properties.items()
    }  # fmt: skip
    result = BOX.tools[name].call(arguments)
    assert result.error in (None, CallError.TOOL_FAILED)
    if result.ok:
        assert abs(float(result.output)) <= LIMIT


@given(st.floats(-1e15, 1e15) | st.integers(-LIMIT, LIMIT))
def test_numbers_are_written_to_ten_digits(value: float) -> None:
    assert float(format_number(value)) == pytest.approx(value, rel=1e-9, abs=1e-300)


def test_what_is_wrong_with_a_long_argument_is_said() -> None:
    properties = {"text": {"type": "string", "maxLength": 300}}
    tool = Tool(lambda text: text, "say", "Say it.", {"properties": properties, "required": ["text"]})
    result = tool.call({"text": "x" * 10_000})
    assert result.error is CallError.INVALID_ARGUMENTS
    assert result.output.startswith('error: say: argument "text": "xxx')
    assert result.output.endswith("is longer than 300 characters")
    assert len(result.output) < 250


def test_marks_of_a_function_hold_however_the_box_is_built() -> None:
    @tool(timeout=3, read_only=True)
    def look() -> str:
        """Look."""
        return "there"

    for box in (ToolBox.from_functions([look]), ToolBox.from_module({"look": look})):
        assert (box.tools["look"].timeout, box.tools["look"].read_only) == (3, True)
