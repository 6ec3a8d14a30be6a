"""The units box: exact conversion over a fixed table."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any

import pytest

from mentor_gym.testing import check_tool
from mentor_gym.tools import units
from mentor_gym.tools.units import UNITS, find_unit, read_quantity, units_box, write_quantity

BOX = units_box()


def call(tool: str, *values: Any) -> str:
    arguments = dict(zip(BOX.tools[tool].parameters["properties"], values))
    return BOX.tools[tool].call(arguments).output.removeprefix(f"error: {tool}: ")


@pytest.mark.parametrize(
    ("quantity", "to", "expected"),
    [
        ("1 in", "cm", "2.54 cm"),
        ("1 mile", "km", "1.609344 km"),
        ("26.2 mi", "km", "42.1648128 km"),
        ("1 nautical mile", "m", "1852 m"),
        ("1 kg", "lb", "2.204622622 lb"),  # 1 / 0.45359237
        ("1 lb", "oz", "16 oz"),
        ("1 stone", "lb", "14 lb"),
        ("1 gal", "l", "3.785411784 l"),  # 231 cubic inches
        ("1 gal", "fl_oz", "128 fl_oz"),
        ("1 cup", "fluid ounces", "8 fl_oz"),
        ("1 acre", "ft2", "43560 ft2"),
        ("1 ha", "m2", "10000 m2"),
        ("1 week", "h", "168 h"),
        ("36 km/h", "m/s", "10 m/s"),
        ("1 kn", "km/h", "1.852 km/h"),
        ("60 mph", "km/h", "96.56064 km/h"),
        ("1 kWh", "kJ", "3600 kJ"),
        ("1 atm", "psi", "14.69594878 psi"),
        ("1 MiB", "kB", "1048.576 kB"),
        ("0 C", "K", "273.15 K"),
        ("-40 F", "C", "-40 C"),
        ("98.6 degF", "degC", "37 C"),
        ("100 °C", "Fahrenheit", "212 F"),
        ("0 K", "F", "-459.67 F"),
        ("0.1 m", "cm", "10 cm"),
        ("1e3 g", "kg", "1 kg"),
        ("2.5kg", "g", "2500 g"),
        (".5 h", "min", "30 min"),
        ("-3 m", "cm", "-300 cm"),
        ("0 lb", "kg", "0 kg"),
        ("1 mm", "km", "0.000001 km"),
        ("123456789012 m", "km", "123456789 km"),
    ],
)
def test_conversions(quantity: str, to: str, expected: str) -> None:
    assert call("convert", quantity, to) == expected


def test_every_unit_comes_back_exactly() -> None:
    for unit in UNITS.values():
        for other in UNITS.values():
            if unit.kind == other.kind:
                value = Fraction(7, 3)
                there = (value * unit.factor + unit.offset - other.offset) / other.factor
                assert (there * other.factor + other.offset - unit.offset) / unit.factor == value


def test_units_are_listed_by_what_they_measure() -> None:
    lines = call("list_units").split("\n")
    assert lines[1] == "mass: mg, g, kg, t, oz, lb, st"
    assert lines[-1] == "temperature: K, C, F"
    assert {line.partition(":")[0] for line in lines} == {unit.kind for unit in UNITS.values()}


def test_factors_of_the_table() -> None:
    # From their definitions: 231 in3, 4 roods of 40 square rods, lbf / in2, 1852 m / h, absolute zero.
    inch, pound = Fraction("0.0254"), Fraction("0.45359237")
    assert find_unit("gal").factor == 231 * (inch * 10) ** 3
    assert find_unit("acre").factor == 4840 * (36 * inch) ** 2
    assert find_unit("psi").factor == pound * Fraction("9.80665") / inch**2
    assert find_unit("knot").factor == Fraction(1852, 3600)
    assert find_unit("F").offset == Fraction("459.67") * Fraction(5, 9)
    assert find_unit("oz").factor * 16 == find_unit("lb").factor == pound
    assert find_unit("pt").factor * 8 == find_unit("gal").factor


@pytest.mark.parametrize(
    ("tool", "values", "expected"),
    [
        ("add_quantities", [["0.1 kg", "0.2 kg"], "kg"], "0.3 kg"),
        ("add_quantities", [["1 lb", "1 kg"], "g"], "1453.59237 g"),
        ("add_quantities", [["1/3 kg"], "kg"], units.UNKNOWN_UNIT),
        ("add_quantities", [[], "kg"], "0 kg"),
        ("add_quantities", [["1 kg", "1 m"], "kg"], "m is a unit of length, kg one of mass"),
        ("add_quantities", [["1 kg"], "m"], "kg is a unit of mass, m one of length"),
        ("multiply_quantity", ["0.1 kg", 3], "0.3 kg"),
        ("multiply_quantity", ["2 lb", 0.1], "0.2 lb"),
        # Half to even: the float is a little more than a tenth, what was written is not.
        ("multiply_quantity", ["1234567890.5 kg", 0.1], "123456789 kg"),
        ("multiply_quantity", ["1 lb", 1e-20], units.TOO_SMALL),
        ("multiply_quantity", ["1e14 lb", 10], units.TOO_LARGE),
        ("multiply_quantity", ["1 lb", 0], "0 lb"),
        ("largest_quantity", [["999 g", " 1 kg", "2 lb"]], "1 kg"),
        ("largest_quantity", [["0 C", "1 K"]], "0 C"),
        ("largest_quantity", [["1000 g", "1 kg"]], "two of them are equal"),
        ("largest_quantity", [["1 g", "1 m"]], "m is a unit of length, g one of mass"),
        ("largest_quantity", [[]], "the list is empty"),
        ("convert", ["1 kg", "m"], "kg is a unit of mass, m one of length"),
        ("convert", ["1e14 km", "mm"], units.TOO_LARGE),
        ("convert", ["1e-14 mg", "t"], units.TOO_SMALL),
    ],
)  # fmt: skip
def test_sums_and_multiples(tool: str, values: list[Any], expected: str) -> None:
    assert call(tool, *values) == expected


def test_numbers_are_rounded_once_half_to_even() -> None:
    kg = find_unit("kg")
    for number, text in [
        ("0.12345678905", "0.123456789 kg"),
        ("0.12345678915", "0.1234567892 kg"),
        ("0.123456789050000000000000000001", "0.1234567891 kg"),
        ("99999999999.5", "100000000000 kg"),
        ("0.0000000001", "0.0000000001 kg"),
    ]:
        assert write_quantity(Fraction(number), kg) == text


@pytest.mark.parametrize("name", ["Mg", "mM", "KG", "Kg", "Mb", "kb", "j", "PA", "c", "f"])
def test_symbols_need_their_capitals(name: str) -> None:
    assert call("convert", f"1 {name}", "kg") == units.UNKNOWN_UNIT


@pytest.mark.parametrize(
    "name", ["Pounds", "POUND", "lbs", "Kilograms", "kilogram", "degC", "DEGC", "Celsius", "Feet"]
)
def test_names_do_not(name: str) -> None:
    assert find_unit(name).kind in ("mass", "temperature", "length")


# Row 32 of the fault list


@pytest.mark.parametrize(
    ("tool", "values"),
    [
        ("add_quantities", [["20 degC", "20 degC"], "degC"]),
        ("add_quantities", [["20 C"], "F"]),
        ("add_quantities", [[], "K"]),
        ("multiply_quantity", ["20 degC", 2]),
        ("multiply_quantity", ["0 K", 2]),
    ],
)
def test_row_32_temperatures_are_not_added(tool: str, values: list[Any]) -> None:
    assert call(tool, *values) == units.TEMPERATURES


@pytest.mark.parametrize(
    "unit",
    [
        "m**10**10",
        "m ** 10 ** 10 ** 10",
        "m^9999999",
        "m*m",
        "kg*m/s**2",
        "degC + degC",
        "delta_degC",
        "__class__",
        "__import__('os').getcwd()",
        "m\x00",
        "m;",
        "../m",
        "",
        " ",
        "m" * 1_000_000,
        "metres" * 20,
        "ｍ",
        "µm",
        "'m'",
        "{0.factor}",
    ],
)
def test_row_32_hostile_units_have_fixed_errors(unit: str) -> None:
    before = time.perf_counter()
    assert call("convert", "1 m", unit) == units.UNKNOWN_UNIT
    assert call("convert", f"1 {unit}", "m") in (units.UNKNOWN_UNIT, units.BAD_QUANTITY)
    assert call("add_quantities", [f"2 {unit}"], "m") in (units.UNKNOWN_UNIT, units.BAD_QUANTITY)
    assert time.perf_counter() - before < 0.1


@pytest.mark.parametrize(
    "quantity",
    ["10**10**10 m", "1 << 9 m", "1e999 m", "nan m", "inf m", "9" * 5_000 + " m", "1e9999999999 m", "m", "", "5",
     "1,000 m", "١ m", "1_000 m", "0x10 m", "--1 m", "1.2.3 m", "1 m 2 m"],
)  # fmt: skip
def test_row_32_hostile_numbers_have_fixed_errors(quantity: str) -> None:
    before = time.perf_counter()
    assert call("convert", quantity, "cm") in (units.BAD_QUANTITY, units.UNKNOWN_UNIT)
    assert time.perf_counter() - before < 0.1


def test_row_32_limits_of_numbers() -> None:
    assert call("convert", "1e16 m", "km") == "the number is too large"
    assert call("convert", "99999999999999999999e99 m", "km") == "the number is too large"
    for below in ("-274 C", "-1 K", "-459.68 F"):
        assert call("convert", below, "K") == units.BELOW_ZERO
    assert call("convert", "-459.67 F", "K") == "0 K"
    assert read_quantity("1e-99 m")[0] == Fraction(1, 10**99)
    assert call("add_quantities", ["1 m"] * 51, "m").startswith('argument "quantities"')


def test_the_box_keeps_the_promises_of_tools() -> None:
    examples = {
        "convert": [{"quantity": "1 kg", "to": "lb"}],
        "add_quantities": [{"quantities": ["1 kg", "3 lb"], "to": "lb"}],
        "multiply_quantity": [{"quantity": "1 kg", "times": 2.5}],
        "largest_quantity": [{"quantities": ["1 kg", "3 lb"]}],
    }
    assert check_tool(units_box(), examples=examples).failed == []
