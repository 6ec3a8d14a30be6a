"""The kinds of questions of the `facts` suite: what they ask about, their plans and their wordings.

A kind draws its slots (a table, a field, names of rows, …), its plan turns them into a tree of operations that
`mentor_gym.suites.facts` lowers to tool calls. What varies between splits stands apart: `wordings` and the first
phrase of a field or group are for training and validation, `ood_wordings` and the second one for `ood-domain`.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mentor_gym.suites.plans import Op
from mentor_gym.tools.facts import MAX_NAMES, Table, load_table

Slots = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """A column that questions ask for.

    Attributes:
        phrases: What it is called in train and valid, and in ood-domain.
        uses: What its numbers may be used for: `c` comparing, `d` differences, `s` sums, `m` means, `r` ratios;
            `t` marks a text.
    """

    phrases: tuple[str, str]
    uses: str


FIELDS = {
    ("elements", "atomic_number"): Field(("atomic number", "number of protons"), "cd"),
    ("elements", "atomic_weight"): Field(("atomic weight", "atomic mass"), "cdsmr"),
    ("elements", "density"): Field(("density in g/cm3", "mass in grams per cubic centimetre"), "cdr"),
    ("elements", "melting_point"): Field(("melting point in kelvin", "melting temperature in K"), "cdm"),
    ("elements", "boiling_point"): Field(("boiling point in kelvin", "boiling temperature in K"), "cdm"),
    ("elements", "discovery_year"): Field(("year of discovery", "discovery year"), "d"),
    ("elements", "symbol"): Field(("symbol", "chemical sign"), "t"),
    ("elements", "series"): Field(("series", "element family"), "t"),
    ("elements", "block"): Field(("block", "block of the periodic table"), "t"),
    ("airports", "elevation_ft"): Field(("elevation in feet", "height above the sea in feet"), "cdm"),
    ("airports", "lat"): Field(("latitude", "latitude in degrees"), "cd"),
    ("airports", "lon"): Field(("longitude", "longitude in degrees"), "cd"),
    ("airports", "city"): Field(("city", "town"), "t"),
    ("airports", "country"): Field(("country code", "code of the country"), "t"),
    ("countries", "area_km2"): Field(("area in km2", "size in square kilometres"), "cdsmr"),
    ("countries", "population"): Field(("population", "number of inhabitants"), "cdsmr"),
    ("countries", "neighbours"): Field(("number of neighbours", "number of bordering states"), "cdsm"),
    ("countries", "capital"): Field(("capital", "capital city"), "t"),
    ("countries", "region"): Field(("region", "part of the world"), "t"),
    ("countries", "subregion"): Field(("subregion", "smaller world region"), "t"),
    ("countries", "iso2"): Field(("ISO code", "two-letter code"), "t"),
}
# Fields whose value picks out groups of rows: how the group is written after the noun.
GROUPS = {
    ("elements", "period"): ("of period {}", "from period {}"),
    ("elements", "group"): ("of group {}", "from group {}"),
    ("elements", "block"): ("of block {}", "from the {} block"),
    ("elements", "series"): ("of the series {}", "from the family {}"),
    ("elements", "discovery_year"): ("with discovery year {}", "found in {}"),
    ("airports", "country"): ("in country {}", "located in {}"),
    ("countries", "region"): ("of region {}", "lying in {}"),
    ("countries", "subregion"): ("of subregion {}", "belonging to {}"),
    ("countries", "neighbours"): ("with a neighbour count of {}", "whose number of bordering states is {}"),
}
# Fields by whose value one row may be described, in the same form.
DESCRIPTIONS = {
    ("elements", "atomic_number"): ("with atomic number {}", "having {} protons"),
    ("elements", "melting_point"): ("with melting point {}", "melting at {} K"),
    ("elements", "boiling_point"): ("with boiling point {}", "boiling at {} K"),
    ("airports", "city"): ("of the city {}", "serving {}"),
    ("countries", "capital"): ("with capital {}", "governed from {}"),
}
_SELECTIONS = {**GROUPS, **DESCRIPTIONS}
NOUNS = {
    "elements": ("element", "elements"),
    "airports": ("airport", "airports"),
    "countries": ("country", "countries"),
}
_LABELS = {"elements": ("{}", "{}"), "airports": ("airport {}", "{} airport"), "countries": ("{}", "{}")}
# Factor or offset from the unit of the table to another one.
CONVERSIONS = {
    "melting_point": (
        "elements",
        "subtract",
        273.15,
        "melting point in degrees Celsius",
        "melting temperature in °C",
    ),
    "boiling_point": (
        "elements",
        "subtract",
        273.15,
        "boiling point in degrees Celsius",
        "boiling temperature in °C",
    ),
    "elevation_ft": ("airports", "multiply", 0.3048, "elevation in metres", "height above the sea in m"),
    "area_km2": ("countries", "multiply", 100, "area in hectares", "size in ha"),
}


def is_held_out(table: str, name: str) -> bool:
    """Return whether a row belongs to ood-domain alone; an airport goes with its country.

    >>> is_held_out("airports", "CDG") == is_held_out("countries", "France")
    True
    """
    row = load_table(table).row(name)
    key = {"elements": "symbol", "airports": "country", "countries": "iso2"}[table]
    return _held_out("countries" if table == "airports" else table, row[key])


def is_group_held_out(table: str, where: str, value: str) -> bool:
    """Return whether questions about this group of rows belong to ood-domain alone.

    >>> is_group_held_out("airports", "country", "FR") == is_held_out("countries", "France")
    True
    """
    if (table, where) == ("airports", "country"):
        return _held_out("countries", value)
    return _held_out(f"{table}/{where}", value)


def _held_out(space: str, key: str) -> bool:
    return zlib.crc32(f"{space}/{key}".encode()) % 4 == 0


@lru_cache(maxsize=256)
def _rows(table: str, field: str, ood: bool) -> tuple[str, ...]:
    source = load_table(table)
    return tuple(name for name, row in source.rows.items() if row[field] and is_held_out(table, name) == ood)


@lru_cache(maxsize=256)
def _groups(table: str, where: str, ood: bool) -> tuple[str, ...]:
    source = load_table(table)
    values = dict.fromkeys(row[where] for row in source.rows.values() if row[where])
    return tuple(
        value
        for value in values
        if is_group_held_out(table, where, value) == ood and 2 <= len(source.matching(where, value)) <= MAX_NAMES
    )


class Draw:
    """The random choices of one question, from the rows that its split may show.

    Args:
        rng: Source of all choices.
        ood: Whether to draw from what ood-domain alone may show.
    """

    def __init__(self, rng: random.Random, ood: bool) -> None:
        self.rng = rng
        self.ood = ood

    def field(self, use: str, table: str | None = None) -> tuple[Table, str]:
        """Choose a table, then one of its fields with this use."""
        options = [key for key, field in FIELDS.items() if use in field.uses and table in (None, key[0])]
        tables = list(dict.fromkeys(name for name, _ in options))
        chosen = self.rng.choice(tables)
        return load_table(chosen), self.rng.choice([field for name, field in options if name == chosen])

    def names(self, table: str, field: str, size: int) -> list[str]:
        """Choose different rows that have this field."""
        return self.rng.sample(_rows(table, field, self.ood), size)

    def group(self, table: str | None = None) -> tuple[Table, str, str]:
        """Choose a table, a field that forms groups, and a group."""
        tables = list(dict.fromkeys(name for name, _ in GROUPS)) if table is None else [table]
        chosen = self.rng.choice(tables)
        where = self.rng.choice([field for name, field in GROUPS if name == chosen])
        values = _groups(chosen, where, self.ood)
        return load_table(chosen), where, self.rng.choice(values) if values else ""


@dataclass(frozen=True)
class Kind:
    """One kind of question.

    Attributes:
        name: Short name, `meta["kind"]` of the row.
        answer: What the answer is: `number`, `row` (the name of a row) or `text`.
        draw: Chooses the slots; None when the choice makes an ambiguous question.
        plan: The tree of operations for the slots. Its first lowering ends in the answer.
        wordings: Texts of train and valid; the slots of `phrases` in braces.
        ood_wordings: Texts that only ood-domain uses.
    """

    name: str
    answer: str
    draw: Callable[[Draw], Slots | None]
    plan: Callable[[Slots], Op]
    wordings: tuple[str, ...]
    ood_wordings: tuple[str, ...]


def phrases(slots: Slots, ood: bool) -> dict[str, str]:
    """Write the slots the way a wording shows them.

    >>> phrases({"table": "airports", "field": "lat", "a": "CDG"}, ood=False)
    {'table': 'airports', 'one': 'airport', 'all': 'airports', 'field': 'latitude', 'a': 'airport CDG'}
    """
    form = int(ood)
    table: str = slots["field_table"] if "field_table" in slots else slots["table"]
    shown: dict[str, str] = {}
    for slot, value in slots.items():
        if slot == "table":
            shown |= {"table": value, "one": NOUNS[value][0], "all": NOUNS[value][1]}
        elif slot in ("field", "wanted"):
            shown[slot] = FIELDS[table, value].phrases[form]
        elif slot == "convert":
            shown[slot] = str(CONVERSIONS[value][3 + form])
        elif slot in ("a", "b", "c"):
            shown[slot] = _LABELS[slots["table"]][form].format(value)
        elif slot in ("value", "value2"):
            shown[slot] = _SELECTIONS[slots["table"], slots["where"]][form].format(value)
        else:
            shown[slot] = str(value)
    return shown


def _get(slots: Slots, slot: str, field: str | None = None) -> Op:
    return Op("get", (slots["table"], slots[slot], field or slots["field"]))


def _draw_rows(use: str, size: int) -> Callable[[Draw], Slots | None]:
    """Return a draw of a field and `size` rows of different values, so that no two rows or ways look the same."""

    def draw(choice: Draw) -> Slots | None:
        table, field = choice.field(use)
        names = choice.names(table.name, field, size)
        if len({table.number(name, field) for name in names}) < size:
            return None
        return {"table": table.name, "field": field, **dict(zip("abc", names))}

    return draw


def _draw_fact(*uses: str) -> Callable[[Draw], Slots | None]:
    def draw(choice: Draw) -> Slots | None:
        table, field = choice.field(choice.rng.choice(uses))
        return {"table": table.name, "field": field, "a": choice.names(table.name, field, 1)[0]}

    return draw


def _draw_described(choice: Draw) -> Slots | None:
    table = load_table(choice.rng.choice(list(NOUNS)))
    where = choice.rng.choice([field for name, field in DESCRIPTIONS if name == table.name])
    value = table.text(choice.names(table.name, where, 1)[0], where)
    # Two rows with the same value would make two answers.
    if len(table.matching(where, value)) != 1:
        return None
    return {"table": table.name, "where": where, "value": value}


def _draw_described_fact(choice: Draw) -> Slots | None:
    slots = _draw_described(choice)
    if slots is None:
        return None
    table, field = choice.field(choice.rng.choice("ct"), slots["table"])
    row = table.rows[table.matching(slots["where"], slots["value"])[0]]
    return {**slots, "field": field} if row[field] and field != slots["where"] else None


def _draw_airport_country(choice: Draw, size: int, uses: str) -> Slots | None:
    countries, field = choice.field(choice.rng.choice(uses), "countries")
    airports = choice.names("airports", "country", size)
    codes = {load_table("airports").text(name, "country") for name in airports}
    known = {row["iso2"] for row in countries.rows.values() if row[field]}
    if len(codes) < size or not codes <= known or field == "iso2":
        return None
    return {"table": "airports", "field_table": "countries", "field": field, **dict(zip("ab", airports))}


def _draw_conversion(choice: Draw) -> Slots | None:
    field = choice.rng.choice(list(CONVERSIONS))
    table = CONVERSIONS[field][0]
    return {"table": table, "convert": field, "a": choice.names(table, field, 1)[0]}


def _draw_density(choice: Draw) -> Slots | None:
    (name,) = choice.names("countries", "area_km2", 1)
    return {"table": "countries", "a": name}


def _draw_mixture(choice: Draw) -> Slots | None:
    a, b = choice.names("elements", "atomic_weight", 2)
    return {"table": "elements", "a": a, "b": b, "n": choice.rng.randint(2, 6), "m": choice.rng.randint(2, 6)}


def _draw_group(choice: Draw) -> Slots | None:
    table, where, value = choice.group()
    return {"table": table.name, "where": where, "value": value} if value else None


def _draw_two_groups(choice: Draw) -> Slots | None:
    first = _draw_group(choice)
    if first is None:
        return None
    values = _groups(first["table"], first["where"], choice.ood)
    second = choice.rng.choice(values)
    table = load_table(first["table"])
    sizes = [len(table.matching(first["where"], value)) for value in (first["value"], second)]
    return {**first, "value2": second} if sizes[0] > sizes[1] else None


def _draw_top(choice: Draw) -> Slots | None:
    slots = _draw_group(choice)
    if slots is None:
        return None
    table, field = choice.field("c", slots["table"])
    names = table.matching(slots["where"], slots["value"])
    # A group with a missing value has no known largest one, and its members in the answer must be of the split.
    if field == slots["where"] or any(not table.rows[name][field] for name in names):
        return None
    ranked = sorted(names, key=lambda name: table.number(name, field))
    if table.number(ranked[-1], field) == table.number(ranked[-2], field):
        return None
    return {**slots, "field": field} if is_held_out(table.name, ranked[-1]) == choice.ood else None


def _draw_top_fact(choice: Draw) -> Slots | None:
    slots = _draw_top(choice)
    if slots is None:
        return None
    table, wanted = choice.field(choice.rng.choice("ct"), slots["table"])
    names = table.matching(slots["where"], slots["value"])
    best = table.extreme(slots["field"], names, 1)
    return {**slots, "wanted": wanted} if wanted not in slots.values() and table.rows[best][wanted] else None


def _plan_rows(name: str, slots: Slots) -> Op:
    names = tuple(slots[slot] for slot in "abc" if slot in slots)
    return Op(name, (slots["table"], slots["field"], *names))


def _plan_convert(slots: Slots) -> Op:
    _, operation, factor, *_ = CONVERSIONS[slots["convert"]]
    return Op(operation, (_get(slots, "a", slots["convert"]), factor))


def _plan_which(slots: Slots) -> Op:
    return Op("which", (slots["table"], slots["where"], slots["value"]))


def _plan_airport_country(slots: Slots, slot: str) -> Op:
    return _get(slots, slot, "country")


def _plan_top(slots: Slots) -> Op:
    return Op("top", (slots["table"], slots["field"], slots["where"], slots["value"]))


def _plan_count(slots: Slots, slot: str = "value") -> Op:
    return Op("count", (slots["table"], slots["where"], slots[slot]))


def _plan_mixture(slots: Slots) -> Op:
    return Op("mixture", tuple(slots[slot] for slot in ("a", "n", "b", "m")))


KINDS = (
    Kind(
        "number",
        "number",
        _draw_fact("c", "d"),
        lambda s: _get(s, "a"),
        (
            "What is the {field} of {a}?",
            "Look up the {field} of {a}.",
            "I need the {field} of {a}. What is it?",
            "Which {field} does {a} have?",
        ),
        ("For {a}, tell me the {field}.", "How is {a} listed: what {field}?"),
    ),
    Kind(
        "text",
        "text",
        _draw_fact("t"),
        lambda s: _get(s, "a"),
        (
            "What is the {field} of {a}?",
            "Name the {field} of {a}.",
            "Look up the {field} of {a}.",
            "Which {field} does {a} have?",
        ),
        ("For {a}, tell me the {field}.", "{a} is listed with which {field}?"),
    ),
    Kind(
        "reverse",
        "row",
        _draw_described,
        lambda s: Op("identify", (s["table"], s["where"], s["value"])),
        (
            "Which is the {one} {value}?",
            "Name the {one} {value}.",
            "Find the {one} {value}.",
            "There is one {one} {value}. Which?",
        ),
        ("Tell me the {one} {value}.", "Only one {one} is listed {value}: what is it called?"),
    ),
    Kind(
        "described",
        "text",
        _draw_described_fact,
        lambda s: Op("get", (s["table"], _plan_which(s), s["field"])),
        (
            "What is the {field} of the {one} {value}?",
            "Find the {field} of the {one} {value}.",
            "Take the {one} {value}. What is its {field}?",
            "Which {field} does the {one} {value} have?",
        ),
        ("For the {one} {value}, tell me the {field}.", "Give the {field} that the {one} {value} has."),
    ),
    Kind(
        "airport-country",
        "text",
        lambda draw: _draw_airport_country(draw, 1, "ct"),
        lambda s: Op("get", ("countries", _plan_airport_country(s, "a"), s["field"])),
        (
            "What is the {field} of the country of {a}?",
            "Take the country in which {a} lies. What is its {field}?",
            "Find the {field} of the country that {a} is in.",
        ),
        ("I land at {a}. For the country there, tell me the {field}.", "Whose soil is {a} on? Give its {field}."),
    ),
    Kind(
        "airport-countries",
        "number",
        lambda draw: _draw_airport_country(draw, 2, "s"),
        lambda s: Op(
            "difference",
            ("countries", s["field"], _plan_airport_country(s, "a"), _plan_airport_country(s, "b")),
        ),
        (
            "Take the {field} of the country of {a} minus that of the country of {b}. What is it?",
            "Subtract the {field} of the country of {b} from that of the country of {a}.",
            "By how much is the {field} of the country of {a} above that of the country of {b}?",
        ),
        (
            "I fly from {a} to {b}: {field} of the first country less that of the second?",
            "Countries of {a} and {b}, first minus second: what {field}?",
        ),
    ),
    Kind(
        "difference",
        "number",
        _draw_rows("d", 2),
        lambda s: _plan_rows("difference", s),
        (
            "What is the {field} of {a} minus that of {b}?",
            "Subtract the {field} of {b} from that of {a}.",
            "By how much is the {field} of {a} above that of {b}?",
            "Take the {field} of {a} and subtract that of {b}.",
        ),
        ("{a} less {b}, in {field}: how much?", "Starting from the {field} of {a}, take away that of {b}."),
    ),
    Kind(
        "sum-two",
        "number",
        _draw_rows("s", 2),
        lambda s: _plan_rows("total", s),
        (
            "What is the {field} of {a} plus that of {b}?",
            "Add the {field} of {a} to that of {b}.",
            "What is the sum of the {field} of {a} and of {b}?",
        ),
        ("Put {a} and {b} together: what {field} in all?", "Combine {b} with {a}. Which {field} results?"),
    ),
    Kind(
        "sum-three",
        "number",
        _draw_rows("s", 3),
        lambda s: _plan_rows("total", s),
        (
            "What is the total {field} of {a}, {b} and {c}?",
            "Add up the {field} of {a}, {b} and {c}.",
            "What is the sum of the {field} of {a}, of {b} and of {c}?",
        ),
        ("{a}, {b}, {c} together: what {field} in all?", "Combine {a} with {b} and {c}. Which {field} results?"),
    ),
    Kind(
        "mean-three",
        "number",
        _draw_rows("m", 3),
        lambda s: _plan_rows("mean", s),
        (
            "What is the average {field} of {a}, {b} and {c}?",
            "Find the mean {field} of {a}, {b} and {c}.",
            "Average the {field} of {a}, {b} and {c}.",
        ),
        (
            "{a}, {b}, {c}: what {field} do they have on average?",
            "Typical {field} (mean) across {a}, {b} and {c}?",
        ),
    ),
    Kind(
        "larger",
        "row",
        _draw_rows("c", 2),
        lambda s: _plan_rows("larger", s),
        (
            "Which has the larger {field}, {a} or {b}?",
            "Compare the {field} of {a} and {b}. Which is larger?",
            "{a} or {b}: which one has the larger {field}?",
            "Of {a} and {b}, name the one with the larger {field}.",
        ),
        ("Does {a} or {b} lead in {field}?", "Between {a} and {b}, where is the {field} greater?"),
    ),
    Kind(
        "largest",
        "row",
        _draw_rows("c", 3),
        lambda s: _plan_rows("largest", s),
        (
            "Which has the largest {field}, {a}, {b} or {c}?",
            "Compare the {field} of {a}, {b} and {c}. Which is largest?",
            "Of {a}, {b} and {c}, name the one with the largest {field}.",
        ),
        ("{a}, {b}, {c}: who leads in {field}?", "Among {a}, {b} and {c}, where is the {field} greatest?"),
    ),
    Kind(
        "smallest",
        "row",
        _draw_rows("c", 3),
        lambda s: _plan_rows("smallest", s),
        (
            "Which has the smallest {field}, {a}, {b} or {c}?",
            "Compare the {field} of {a}, {b} and {c}. Which is smallest?",
            "Of {a}, {b} and {c}, name the one with the smallest {field}.",
        ),
        ("{a}, {b}, {c}: who comes last in {field}?", "Among {a}, {b} and {c}, where is the {field} least?"),
    ),
    Kind(
        "ratio",
        "number",
        _draw_rows("r", 2),
        lambda s: Op("ratio", (_get(s, "a"), _get(s, "b"))),
        (
            "Divide the {field} of {a} by that of {b}. Round to 2 decimals.",
            "What is the {field} of {a} divided by that of {b}, rounded to 2 decimals?",
            "How many times the {field} of {b} is that of {a}? Round to 2 decimals.",
        ),
        (
            "{a} over {b}, in {field}: what quotient, to two decimals?",
            "With {b} as 1, what {field} has {a} (2 decimals)?",
        ),
    ),
    Kind(
        "crowding",
        "number",
        _draw_density,
        lambda s: Op("ratio", (_get(s, "a", "population"), _get(s, "a", "area_km2"))),
        (
            "How many people live on one km2 of {a}? Round to 2 decimals.",
            "What is the population of {a} divided by its area in km2, rounded to 2 decimals?",
            "Find the people per km2 in {a}. Round to 2 decimals.",
        ),
        (
            "How crowded is {a}: inhabitants per square kilometre, to two decimals?",
            "Spread the inhabitants of {a} evenly: how many on each square kilometre (2 decimals)?",
        ),
    ),
    Kind(
        "conversion",
        "number",
        _draw_conversion,
        _plan_convert,
        (
            "What is the {convert} of {a}?",
            "Find the {convert} of {a}.",
            "I need the {convert} of {a}. What is it?",
        ),
        ("For {a}, tell me the {convert}.", "How is {a} listed: what {convert}?"),
    ),
    Kind(
        "mixture",
        "number",
        _draw_mixture,
        _plan_mixture,
        (
            "What is the atomic weight of {n} atoms of {a} and {m} of {b} together?",
            "A molecule has {n} atoms of {a} and {m} of {b}. What is its total atomic weight?",
            "Add the atomic weights of {n} atoms of {a} and {m} atoms of {b}.",
        ),
        ("How heavy, in u, are {n} {a} atoms joined to {m} {b} atoms?", "Mass in u of {n} {a} and {m} {b} atoms?"),
    ),
    Kind(
        "count",
        "number",
        _draw_group,
        _plan_count,
        (
            "How many {all} {value} are in the table?",
            "Count the {all} {value}.",
            "What is the number of {all} {value} in the table?",
            "The table lists how many {all} {value}?",
        ),
        ("Tell me how many {all} are listed {value}.", "{all} {value}: how many are on file?"),
    ),
    Kind(
        "count-difference",
        "number",
        _draw_two_groups,
        lambda s: Op("subtract", (_plan_count(s), _plan_count(s, "value2"))),
        (
            "How many more {all} {value} than {all} {value2} are in the table?",
            "Count the {all} {value} and subtract the number of {all} {value2}.",
            "By how much do the {all} {value} outnumber those {value2}?",
        ),
        (
            "{all} {value} against {all} {value2}: how big is the lead?",
            "How far ahead are {all} {value} of those {value2}?",
        ),
    ),
    Kind(
        "count-sum",
        "number",
        _draw_two_groups,
        lambda s: Op("add", (_plan_count(s), _plan_count(s, "value2"))),
        (
            "How many {all} {value} and {all} {value2} are in the table together?",
            "Count the {all} {value} and add the number of {all} {value2}.",
            "What is the number of {all} {value} plus that of {all} {value2}?",
        ),
        (
            "{all} {value} and {all} {value2}: how many on file altogether?",
            "Pool {all} {value} with those {value2}: how many?",
        ),
    ),
    Kind(
        "top",
        "row",
        _draw_top,
        _plan_top,
        (
            "Which of the {all} {value} has the largest {field}?",
            "Of the {all} {value}, which one has the largest {field}?",
            "Name the {one} {value} with the largest {field}.",
        ),
        ("Who leads in {field} among the {all} {value}?", "Where is the {field} greatest, of all {all} {value}?"),
    ),
    Kind(
        "top-fact",
        "text",
        _draw_top_fact,
        lambda s: Op("get", (s["table"], _plan_top(s), s["wanted"])),
        (
            "Of the {all} {value}, take the one with the largest {field}. What is its {wanted}?",
            "What is the {wanted} of the {one} {value} with the largest {field}?",
            "Find the {wanted} of the {one} that has the largest {field} of all {all} {value}.",
        ),
        (
            "The leader in {field} among the {all} {value}: tell me its {wanted}.",
            "Where the {field} is greatest, of all {all} {value}, which {wanted} is listed?",
        ),
    ),
)
