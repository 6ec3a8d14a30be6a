"""The math box: the twelve tools of MENTOR (arXiv 2510.18383), and seven that training never shows.

Numbers are exact where Python's are: integers stay integers, everything else is a float written with ten
significant digits. Values beyond 1e15 are refused, so that no call can be slow or large.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mentor_gym.tools.base import Tool, ToolBox, ToolError

LIMIT = 10**15


def format_number(value: float) -> str:
    """Write a number as the tools do: integers without a point, others with ten significant digits.

    >>> format_number(7.0), format_number(10 / 4), format_number(2**0.5)
    ('7', '2.5', '1.414213562')
    """
    if isinstance(value, int):
        return str(value)
    if value == int(value):
        return str(int(value))
    return f"{value:.10g}"


def _numeric(function: Callable[..., float]) -> Callable[..., str]:
    """Bound the result of a tool function and write it; arguments are bounded by their schema."""

    def call(**arguments: Any) -> str:
        try:
            value = function(**arguments)
            if not -LIMIT <= value <= LIMIT:  # also refuses NaN
                raise ToolError("the result is too large")
        except OverflowError:
            raise ToolError("the result is too large") from None
        return format_number(value)

    return call


def add(a: float, b: float) -> float:
    """Add a and b."""
    return a + b


def subtract(a: float, b: float) -> float:
    """Subtract b from a."""
    return a - b


def multiply(a: float, b: float) -> float:
    """Multiply a by b."""
    return a * b


def divide(a: float, b: float) -> float:
    """Divide a by b."""
    if b == 0:
        raise ToolError("cannot divide by zero")
    return a / b


def sum_numbers(numbers: list[float]) -> float:
    """Add all numbers."""
    return sum(numbers)


def floor(x: float) -> float:
    """Round x down."""
    return math.floor(x)


def ceil(x: float) -> float:
    """Round x up."""
    return math.ceil(x)


def round_number(x: float, digits: int = 0) -> float:
    """Round x to digits. That many stand after the point; halves go away from zero, as at school."""
    digits = max(-15, min(15, int(digits)))
    scale = 10.0**digits
    # A relative nudge, so that 2.675 (stored as 2.67499…) rounds the way a person expects.
    return math.copysign(math.floor(abs(x) * scale * (1 + 1e-12) + 0.5) / scale, x)


def power(base: float, exponent: float) -> float:
    """Raise base to exponent."""
    if base == 0 and exponent < 0:
        raise ToolError("cannot raise zero to a negative power")
    if isinstance(base, int) and isinstance(exponent, int) and 0 <= exponent <= 64:
        return base**exponent
    result = float(base) ** float(exponent)
    if isinstance(result, complex):
        raise ToolError("cannot raise a negative number to a fractional power")
    return result


def sqrt(x: float) -> float:
    """Square root of x."""
    if x < 0:
        raise ToolError("cannot take the square root of a negative number")
    return math.sqrt(x)


def abs_value(x: float) -> float:
    """Drop the sign of x."""
    return abs(x)


def modulo(a: float, b: float) -> float:
    """Remainder of a by b. What is left over when a is divided by b."""
    if b == 0:
        raise ToolError("cannot divide by zero")
    return a % b


def average(numbers: list[float]) -> float:
    """Mean of all numbers."""
    if not numbers:
        raise ToolError("the list is empty")
    return sum(numbers) / len(numbers)


def maximum(numbers: list[float]) -> float:
    """Largest of all numbers."""
    if not numbers:
        raise ToolError("the list is empty")
    return max(numbers)


def minimum(numbers: list[float]) -> float:
    """Smallest of all numbers."""
    if not numbers:
        raise ToolError("the list is empty")
    return min(numbers)


def percent_of(percent: float, whole: float) -> float:
    """Take percent of whole."""
    return percent * whole / 100


def common_divisor(a: int, b: int) -> int:
    """Largest number that divides both a and b."""
    return math.gcd(int(a), int(b))


def common_multiple(a: int, b: int) -> int:
    """Smallest number that both a and b divide."""
    return math.lcm(int(a), int(b))


def clamp(x: float, low: float, high: float) -> float:
    """Hold x between limits low and high."""
    if low > high:
        raise ToolError("low is above high")
    return min(max(x, low), high)


PAPER_TOOLS = (
    add, subtract, multiply, divide, sum_numbers, floor, ceil, round_number, power, sqrt, abs_value, modulo,
)  # fmt: skip
UNSEEN_TOOLS = (average, maximum, minimum, percent_of, common_divisor, common_multiple, clamp)


def math_tools() -> list[Tool]:
    """Build the tools of the box, with bounded arguments.

    >>> [tool.name for tool in math_tools()][:3]
    ['add', 'subtract', 'multiply']
    """
    tools = []
    for function in (*PAPER_TOOLS, *UNSEEN_TOOLS):
        plain = Tool.from_function(function)
        properties = {name: _bounded(schema) for name, schema in plain.parameters["properties"].items()}
        parameters = {**plain.parameters, "properties": properties}
        tools.append(Tool(_numeric(function), plain.name, plain.description, parameters))
    return tools


def math_box() -> ToolBox:
    """Build the math box: the paper's twelve tools and seven unseen ones.

    >>> math_box().tools["divide"].call({"a": 10, "b": 4}).output
    '2.5'
    """
    return ToolBox(math_tools())


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    if schema["type"] == "array":
        return {**schema, "items": _bounded(schema["items"]), "maxItems": 100}
    return {**schema, "minimum": -LIMIT, "maximum": LIMIT}
