"""The units box: conversion, sums and multiples of quantities over a fixed table of units.

A quantity is a text, a number and a unit: `2.5 kg`. Arithmetic is exact, on fractions; a result is written with
ten significant digits. Units are looked up by their names and never parsed, so there are no products and powers of
units. Factors are the exact ones of the international yard and pound, the United States' gallon, and the SI.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import NamedTuple

from mentor_gym.tools.base import Tool, ToolBox, ToolError

DIGITS = 10
MAX_QUANTITIES = 50
_MAX_CHARS = 60
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][-+]?[0-9]{1,2})?")
_LIMIT = Fraction(10**15)
_SMALLEST = Fraction(1, 10**15)
_CONTEXT = Context(prec=DIGITS, rounding=ROUND_HALF_EVEN)

BAD_QUANTITY = "not a quantity: write a number and a unit, like 2.5 kg"
UNKNOWN_UNIT = "unknown unit; list_units shows the units"
TOO_LARGE = "the result is too large"
TOO_SMALL = "the result is too small"
TEMPERATURES = "temperatures cannot be added or multiplied, only converted"
BELOW_ZERO = "no temperature is below absolute zero"


class Unit(NamedTuple):
    """A unit: a value in it times `factor`, plus `offset`, is the value in the base unit of its kind.

    Attributes:
        kind: What it measures.
        symbol: How results are written.
        factor: Base units in one of it.
        offset: Its zero, in base units; other than 0 for temperatures only.
    """

    kind: str
    symbol: str
    factor: Fraction
    offset: Fraction


# Kind -> its units: the symbol, other names, and base units in one of it. A name also stands for its plural.
_TABLE: dict[str, tuple[tuple[str, str, str], ...]] = {
    "length": (
        ("mm", "millimetre millimeter", "0.001"),
        ("cm", "centimetre centimeter", "0.01"),
        ("m", "metre meter", "1"),
        ("km", "kilometre kilometer", "1000"),
        ("in", "inch inches", "0.0254"),
        ("ft", "foot feet", "0.3048"),
        ("yd", "yard", "0.9144"),
        ("mi", "mile", "1609.344"),
        ("nmi", "nautical_mile", "1852"),
    ),
    "mass": (
        ("mg", "milligram", "0.000001"),
        ("g", "gram", "0.001"),
        ("kg", "kilogram kilo", "1"),
        ("t", "tonne", "1000"),
        ("oz", "ounce", "0.028349523125"),
        ("lb", "pound lbs", "0.45359237"),
        ("st", "stone", "6.35029318"),
    ),
    "volume": (
        ("ml", "millilitre milliliter mL", "0.001"),
        ("cl", "centilitre centiliter cL", "0.01"),
        ("l", "litre liter L", "1"),
        ("m3", "cubic_metre cubic_meter", "1000"),
        ("fl_oz", "fluid_ounce", "0.0295735295625"),
        ("cup", "", "0.2365882365"),
        ("pt", "pint", "0.473176473"),
        ("qt", "quart", "0.946352946"),
        ("gal", "gallon", "3.785411784"),
    ),
    "area": (
        ("cm2", "square_centimetre square_centimeter", "0.0001"),
        ("m2", "square_metre square_meter", "1"),
        ("ha", "hectare", "10000"),
        ("km2", "square_kilometre square_kilometer", "1000000"),
        ("ft2", "square_foot square_feet", "0.09290304"),
        ("acre", "", "4046.8564224"),
    ),
    "time": (
        ("s", "second sec", "1"),
        ("min", "minute", "60"),
        ("h", "hour hr", "3600"),
        ("day", "d", "86400"),
        ("week", "", "604800"),
    ),
    "speed": (
        ("m/s", "metres_per_second meters_per_second", "1"),
        ("km/h", "kilometres_per_hour kilometers_per_hour kmh", "5/18"),
        ("mph", "miles_per_hour", "0.44704"),
        ("kn", "knot", "463/900"),
    ),
    "energy": (
        ("J", "joule", "1"),
        ("kJ", "kilojoule", "1000"),
        ("kcal", "kilocalorie", "4184"),
        ("Wh", "watt_hour", "3600"),
        ("kWh", "kilowatt_hour", "3600000"),
    ),
    "pressure": (
        ("Pa", "pascal", "1"),
        ("kPa", "kilopascal", "1000"),
        ("bar", "", "100000"),
        ("atm", "atmosphere", "101325"),
        ("psi", "", "44482216152605/6451600000"),
    ),
    "data": (
        ("B", "byte", "1"),
        ("kB", "kilobyte", "1000"),
        ("MB", "megabyte", "1000000"),
        ("GB", "gigabyte", "1000000000"),
        ("KiB", "kibibyte", "1024"),
        ("MiB", "mebibyte", "1048576"),
        ("GiB", "gibibyte", "1073741824"),
    ),
}
_TEMPERATURES = (
    ("K", "kelvin", "1", "0"),
    ("C", "degC °C celsius", "1", "273.15"),
    ("F", "degF °F fahrenheit", "5/9", "45967/180"),
)


def _index() -> dict[str, Unit]:
    """Return the units by their symbols, names and plurals, with underscores for spaces."""
    units: dict[str, Unit] = {}
    rows = [(kind, *row, "0") for kind, table in _TABLE.items() for row in table]
    rows += [("temperature", *row) for row in _TEMPERATURES]
    for kind, symbol, names, factor, offset in rows:
        unit = Unit(kind, symbol, Fraction(factor), Fraction(offset))
        plurals = [f"{name}s" for name in names.split() if len(name) > 3]
        for name in (symbol, *names.split(), *plurals):
            # No name stands for two units, in whatever order they are written above.
            assert name not in units, name
            units[name] = unit
    return units


UNITS = _index()
# Symbols need their capitals: Mg is no milligram.
_BY_LOWER = {name.lower(): unit for name, unit in UNITS.items() if len(name) > 3 and name != unit.symbol}


def find_unit(name: str) -> Unit:
    """Return a unit by its symbol or name; an unknown one is a `ToolError` with a fixed text.

    >>> find_unit("pounds").symbol, find_unit("Fluid ounce").symbol
    ('lb', 'fl_oz')
    """
    if len(name) <= _MAX_CHARS:
        name = "_".join(name.split())
        found = UNITS.get(name) or _BY_LOWER.get(name.lower())
        if found is not None:
            return found
    raise ToolError(UNKNOWN_UNIT)


def read_quantity(text: str) -> tuple[Fraction, Unit]:
    """Read a quantity; what is none is a `ToolError` with a fixed text.

    >>> value, unit = read_quantity("2.5 kg")
    >>> value, unit.symbol
    (Fraction(5, 2), 'kg')
    """
    if len(text) > _MAX_CHARS:
        raise ToolError(BAD_QUANTITY)
    text = text.strip()
    match = _NUMBER.match(text)
    if match is None or match.end() == len(text):
        raise ToolError(BAD_QUANTITY)
    value, unit = Fraction(match[0]), find_unit(text[match.end() :])
    if abs(value) > _LIMIT:
        raise ToolError("the number is too large")
    if unit.kind == "temperature" and value * unit.factor + unit.offset < 0:
        raise ToolError(BELOW_ZERO)
    return value, unit


def write_quantity(value: Fraction, unit: Unit) -> str:
    """Write a quantity with ten significant digits, half to even.

    >>> write_quantity(Fraction(2, 3), find_unit("kg"))
    '0.6666666667 kg'
    """
    if abs(value) >= _LIMIT:
        raise ToolError(TOO_LARGE)
    if value and abs(value) < _SMALLEST:
        raise ToolError(TOO_SMALL)
    # One division of whole numbers, so that nothing is rounded twice.
    number = f"{_CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator)):f}"
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {unit.symbol}"


def convert(quantity: str, to: str) -> str:
    """Write a quantity in another unit of the same kind.

    Args:
        quantity: A number and a unit, like 2.5 kg.
        to: The unit, like lb.

    >>> convert("212 F", "C")
    '100 C'
    """
    value, unit = read_quantity(quantity)
    target = find_unit(to)
    _check_kinds(unit, target)
    return write_quantity((value * unit.factor + unit.offset - target.offset) / target.factor, target)


def add_quantities(quantities: list[str], to: str) -> str:
    """Sum of quantities, in a unit of the same kind.

    Args:
        quantities: Numbers with units, like 2.5 kg.
        to: The unit of the result, like lb.

    >>> add_quantities(["1 kg", "250 g"], "kg")
    '1.25 kg'
    """
    target = find_unit(to)
    _check_scale(target)
    total = Fraction(0)
    for quantity in quantities:
        value, unit = read_quantity(quantity)
        _check_kinds(unit, target)
        total += value * unit.factor
    return write_quantity(total / target.factor, target)


def multiply_quantity(quantity: str, times: float) -> str:
    """Take a quantity several times.

    Args:
        quantity: A number and a unit, like 2.5 kg.
        times: How many times.

    >>> multiply_quantity("0.1 kg", 3)
    '0.3 kg'
    """
    value, unit = read_quantity(quantity)
    _check_scale(unit)
    # As it is written: 0.1 is a tenth.
    return write_quantity(value * Fraction(repr(times)), unit)


def largest_quantity(quantities: list[str]) -> str:
    """Largest of several quantities, as it was written.

    Args:
        quantities: Numbers with units of the same kind, like 2.5 kg.

    >>> largest_quantity(["900 g", "1 kg", "2 lb"])
    '1 kg'
    """
    if not quantities:
        raise ToolError("the list is empty")
    found = [read_quantity(quantity) for quantity in quantities]
    for _, unit in found[1:]:
        _check_kinds(unit, found[0][1])
    values = [value * unit.factor + unit.offset for value, unit in found]
    best = max(values)
    if values.count(best) > 1:
        raise ToolError("two of them are equal")
    return quantities[values.index(best)].strip()


def list_units() -> str:
    """All units, by what they measure."""
    kinds: dict[str, dict[str, None]] = {}
    for unit in UNITS.values():
        kinds.setdefault(unit.kind, {})[unit.symbol] = None
    return "\n".join(f"{kind}: {', '.join(symbols)}" for kind, symbols in kinds.items())


def _check_kinds(unit: Unit, target: Unit) -> None:
    if unit.kind != target.kind:
        raise ToolError(f"{unit.symbol} is a unit of {unit.kind}, {target.symbol} one of {target.kind}")


def _check_scale(unit: Unit) -> None:
    if unit.kind == "temperature":
        raise ToolError(TEMPERATURES)


_FUNCTIONS: Sequence = (convert, add_quantities, multiply_quantity, largest_quantity, list_units)


def units_box() -> ToolBox:
    """Build the units box.

    >>> units_box().tools["convert"].call({"quantity": "1 in", "to": "cm"}).output
    '2.54 cm'
    """
    tools = []
    for function in _FUNCTIONS:
        plain = Tool.from_function(function)
        properties = {
            name: {**schema, "maxItems": MAX_QUANTITIES}
            if schema["type"] == "array"
            else {**schema, "minimum": -(10**15), "maximum": 10**15}
            if schema["type"] == "number"
            else schema
            for name, schema in plain.parameters["properties"].items()
        }
        tools.append(Tool(function, plain.name, plain.description, {**plain.parameters, "properties": properties}))
    return ToolBox(tools)
