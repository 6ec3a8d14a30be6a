"""The facts box: look-ups in three open tables, elements, airports and countries, and the math box's tools.

Rows are found by name or by code, fields by name, without regard to case or accents. A failure names the valid
choices or the nearest ones. Tables are read once a process, at the first call; the tools keep no state.
"""

from __future__ import annotations

import csv
import difflib
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from mentor_gym.data import data_path
from mentor_gym.protocol import to_json
from mentor_gym.tools.base import Tool, ToolBox, ToolError
from mentor_gym.tools.math import format_number, math_tools

# Table -> the fields by which a row is found; the first is its name in results.
TABLES = {"elements": ("name", "symbol"), "airports": ("iata", "name"), "countries": ("name", "iso2")}
MAX_NAMES = 60
_DIGITS = 10


def fold(text: str) -> str:
    """Return a form in which names are equal that differ in case, accents, underscores or spacing only.

    >>> fold(" São_Tomé ")
    'sao tome'
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(plain.casefold().replace("_", " ").split())


class Table:
    """A read-only table with an index on its names, and one on each field that is searched.

    Args:
        name: Name of the table, a key of `TABLES`.

    Attributes:
        fields: Names of the columns.
        numeric: Those that hold numbers only.
        rows: Row by name, in file order; each row is a mapping of field to text, empty for a missing value.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        with data_path("tables", f"{name}.csv").open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        key = TABLES[name][0]
        self.fields = tuple(found[0])
        self.rows = {row[key]: row for row in found}
        self.numeric = frozenset(
            field
            for field in self.fields
            if all(_as_number(row[field]) is not None for row in found if row[field])
        )
        self._fields = {fold(field): field for field in self.fields}
        self._names: dict[str, str] = {}
        # The first field wins, so that no code can hide a name.
        for field in TABLES[name]:
            for row in found:
                self._names.setdefault(fold(row[field]), row[key])
        self._indexes: dict[str, dict[str | float, list[str]]] = {}

    def row(self, name: str) -> dict[str, str]:
        """Return the row of a name or code; an unknown one is a `ToolError` with the nearest names."""
        found = self._names.get(fold(name))
        if found is None:
            raise ToolError(f"{self.name} has no {_quote(name)}{_suggest(name, self._names)}")
        return self.rows[found]

    def field(self, field: str) -> str:
        """Return the exact name of a field; an unknown one is a `ToolError` with the valid ones."""
        found = self._fields.get(fold(field))
        if found is None:
            raise ToolError(f"{self.name} has no field {_quote(field)}; it has {', '.join(self.fields)}")
        return found

    def text(self, name: str, field: str) -> str:
        """Return a value as text; a missing one is a `ToolError`."""
        row, field = self.row(name), self.field(field)
        if not row[field]:
            raise ToolError(f"no {field} is known for {row[TABLES[self.name][0]]}")
        return row[field]

    def number(self, name: str, field: str) -> float:
        """Return a value as a number; one that is missing or text is a `ToolError`."""
        if self.field(field) not in self.numeric:
            numeric = ", ".join(item for item in self.fields if item in self.numeric)
            raise ToolError(f"{self.field(field)} holds text; {self.name} has the numbers {numeric}")
        value = _as_number(self.text(name, field))
        assert value is not None
        return value

    def matching(self, field: str, value: str | float) -> list[str]:
        """Return the names of the rows with this value in a field, in file order; an empty list for none."""
        field = self.field(field)
        if field not in self._indexes:
            index: dict[str | float, list[str]] = {}
            for name, row in self.rows.items():
                if row[field]:
                    index.setdefault(self._key(field, row[field]), []).append(name)
            self._indexes[field] = index
        return self._indexes[field].get(self._key(field, value), [])

    def required(self, field: str, value: str | float) -> list[str]:
        """Return `matching`, or raise a `ToolError` with the nearest values when there is none."""
        found = self.matching(field, value)
        if not found:
            field = self.field(field)
            near = ""
            if field not in self.numeric:
                originals = {fold(row[field]): row[field] for row in self.rows.values() if row[field]}
                near = _suggest(str(value), originals)
            raise ToolError(f"no row of {self.name} has {field} {_quote(value)}{near}")
        return found

    def extreme(self, field: str, names: Sequence[str], sign: int) -> str:
        """Return the name with the largest (`sign` 1) or smallest (-1) value; a tie is a `ToolError`."""
        if not names:
            raise ToolError("the list of names is empty")
        values = {self.row(name)[TABLES[self.name][0]]: sign * self.number(name, field) for name in names}
        best = max(values.values())
        winners = [name for name, value in values.items() if value == best]
        if len(winners) > 1:
            raise ToolError(f"equal {self.field(field)}: {', '.join(winners[:5])}")
        return winners[0]

    def _key(self, field: str, value: str | float) -> str | float:
        if field not in self.numeric:
            return fold(value if isinstance(value, str) else format_number(value))
        number = _as_number(value) if isinstance(value, str) else float(value)
        # Numbers come back from the arithmetic tools with ten significant digits.
        return "" if number is None else float(f"{number:.{_DIGITS}g}")


@lru_cache(maxsize=len(TABLES))
def _load(name: str) -> Table:
    return Table(name)


def load_table(name: str) -> Table:
    """Return a table, reading it on first use; an unknown one is a `ToolError` with the valid names.

    >>> load_table("elements").text("Au", "atomic number")
    '79'
    """
    found = fold(name)
    if found not in TABLES:
        raise ToolError(f"no table {_quote(name)}; the tables are {', '.join(TABLES)}")
    return _load(found)


def get(table: str, name: str, field: str) -> str:
    """Value of one field of one row.

    Args:
        table: elements, airports or countries.
        name: Name or code of the row: Gold or Au, CDG, France or FR.
        field: elements: name, symbol, atomic_number, atomic_weight, period, group, block, series, density,
            discovery_year, melting_point, boiling_point. airports: iata, name, city, country (a code),
            elevation_ft, lat, lon. countries: name, iso2, capital, region, subregion, area_km2, population,
            neighbours.

    >>> get("countries", "fr", "capital")
    'Paris'
    """
    return load_table(table).text(name, field)


def which(table: str, field: str, value: str) -> str:
    """Name of the only row with this value.

    Args:
        table: elements, airports or countries.
        field: The field to search.
        value: What it must be equal to, a text or a number.

    >>> which("elements", "atomic_number", "79")
    'Gold'
    """
    found = load_table(table).required(field, value)
    if len(found) > 1:
        raise ToolError(f"{len(found)} rows match, among them {', '.join(found[:5])}")
    return found[0]


def find(table: str, field: str, value: str) -> str:
    """List of the names of all rows with this value.

    Args:
        table: elements, airports or countries.
        field: The field to search.
        value: What it must be equal to, a text or a number.

    >>> find("elements", "period", "1")
    '["Hydrogen", "Helium"]'
    """
    found = load_table(table).required(field, value)
    left = len(found) - MAX_NAMES
    return to_json(found[:MAX_NAMES]) + (f" and {left} more" if left > 0 else "")


def count(table: str, field: str, value: str) -> int:
    """Number of rows with this value.

    Args:
        table: elements, airports or countries.
        field: The field to search.
        value: What it must be equal to, a text or a number.

    >>> count("elements", "period", "2")
    8
    """
    return len(load_table(table).matching(field, value))


def length(items: list[str]) -> int:
    """Number of items in a list.

    Args:
        items: The list, as find gives it.

    >>> length(["Gold", "Silver"])
    2
    """
    return len(items)


def compare(table: str, field: str, names: list[str]) -> str:
    """Which of the named rows has the largest value.

    Args:
        table: elements, airports or countries.
        field: A field of numbers.
        names: Names or codes of the rows.

    >>> compare("elements", "atomic_number", ["Gold", "Silver"])
    'Gold'
    """
    return load_table(table).extreme(field, names, 1)


def lowest(table: str, field: str, names: list[str]) -> str:
    """Which of the named rows has the smallest value.

    Args:
        table: elements, airports or countries.
        field: A field of numbers.
        names: Names or codes of the rows.

    >>> lowest("elements", "atomic_number", ["Gold", "Silver"])
    'Silver'
    """
    return load_table(table).extreme(field, names, -1)


def top(table: str, field: str, where: str, value: str) -> str:
    """Row with the largest field, of all rows where another field has this value.

    Args:
        table: elements, airports or countries.
        field: The field of numbers to compare.
        where: The field to search.
        value: What it must be equal to, a text or a number.

    >>> top("elements", "atomic_number", "period", "2")
    'Neon'
    """
    source = load_table(table)
    names = source.required(where, value)
    field = source.field(field)
    return source.extreme(field, [name for name in names if source.rows[name][field]], 1)


def difference(table: str, field: str, a: str, b: str) -> str:
    """Value of row a minus the value of row b.

    Args:
        table: elements, airports or countries.
        field: A field of numbers.
        a: Name or code of the first row.
        b: Name or code of the second row.

    >>> difference("elements", "atomic_number", "Gold", "Silver")
    '32'
    """
    source = load_table(table)
    return format_number(source.number(a, field) - source.number(b, field))


def total(table: str, field: str, names: list[str]) -> str:
    """Sum of the values of the named rows.

    Args:
        table: elements, airports or countries.
        field: A field of numbers.
        names: Names or codes of the rows.

    >>> total("elements", "atomic_weight", ["H", "H", "O"])
    '18.015'
    """
    source = load_table(table)
    return format_number(sum(source.number(name, field) for name in names))


LOOKUPS = (get, which, find, count, length, compare, lowest, top, difference, total)


def facts_tools() -> list[Tool]:
    """Build the look-up tools, with bounded arguments, and the arithmetic of the math box.

    >>> [tool.name for tool in facts_tools()][:4]
    ['get', 'which', 'find', 'count']
    """
    tools = []
    for function in LOOKUPS:
        plain = Tool.from_function(function)
        properties = {name: _bounded(name, schema) for name, schema in plain.parameters["properties"].items()}
        tools.append(Tool(function, plain.name, plain.description, {**plain.parameters, "properties": properties}))
    return [*tools, *math_tools()]


def facts_box() -> ToolBox:
    """Build the facts box: ten look-up tools and the tools of the math box.

    >>> facts_box().tools["get"].call({"table": "airports", "name": "cdg", "field": "country"}).output
    'FR'
    """
    return ToolBox(facts_tools())


def _bounded(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    if schema["type"] == "array":
        return {**schema, "items": {"type": "string", "maxLength": 100}, "maxItems": 100}
    # A policy may write the value of a numeric field as a number, as it reads it.
    kind = ["string", "number"] if name == "value" else "string"
    return {**schema, "type": kind, "maxLength": 100}


def _as_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    if value != value or abs(value) == float("inf"):
        return None
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def _quote(value: str | float) -> str:
    return repr(str(value)[:60])


def _suggest(given: str, known: Mapping[str, str]) -> str:
    """Return `; nearest: …`, or nothing when nothing is near. Keys are folded, values as they are written."""
    near = difflib.get_close_matches(fold(given[:60]), list(known), n=3, cutoff=0.6)
    return f"; nearest: {', '.join(dict.fromkeys(known[item] for item in near))}" if near else ""
