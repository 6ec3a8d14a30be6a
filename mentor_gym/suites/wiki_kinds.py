"""The kinds of questions of the `wiki` suite: what they ask about, the way to the answer and the wordings.

A kind draws what it asks about from the part of the tables that its split may show. Its hops name the article that
an oracle would open, and the query that finds it, made of what the question or the articles before have told. Every
split has wordings of its own.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mentor_gym.suites.wiki_corpus import City, World, load_world, with_article
from mentor_gym.tools.facts import fold

Slots = dict[str, str]
SPLITS = ("train", "valid", "test")
# Each held-out split has one in five entities. The number in the salt is one of those with which all splits have
# elements that share a year of discovery, and elements that follow one another.
_PARTS = 5
_SALT = "wiki-17"


@dataclass(frozen=True)
class Hop:
    """One article on the way to the answer.

    Attributes:
        query: What an oracle searches for.
        key: Key of the article that it opens, as in `mentor_gym.suites.wiki_corpus.Library`.
    """

    query: str
    key: tuple[str, str]


@dataclass(frozen=True)
class Answer:
    """What is right.

    Attributes:
        text: The answer.
        grader: Kind of the grader: `number`, `text` or `set`.
        aliases: Other texts that are right, for `text`.
    """

    text: str
    grader: str = "text"
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Field:
    """A column that questions ask for.

    Attributes:
        article: Kind of the article that says it.
        query: What an oracle adds to the name in its search.
        phrases: What it is called in train, valid and test.
        is_number: Whether it is graded as a number.
    """

    article: str
    query: str
    phrases: tuple[str, str, str]
    is_number: bool = True


COUNTRY_FIELDS = {
    "capital": Field("country", "capital", ("capital", "capital city", "city that is its capital"), False),
    "iso2": Field("country", "country code", ("two-letter country code", "ISO code", "ISO country code"), False),
    "population": Field("demographics", "population", ("population", "number of inhabitants", "count of people")),
    "area_km2": Field("geography", "area", ("area in km2", "size in square kilometres", "surface in km2")),
    "neighbours": Field(
        "geography", "neighbours", ("number of neighbours by land", "count of land neighbours", "neighbour count")
    ),
}
AIRPORT_FIELDS = {
    "iata": Field("airport", "code", ("IATA code", "three-letter code", "airport code"), False),
    "elevation_ft": Field("airport", "elevation", ("elevation in feet", "height in feet", "altitude in feet")),
}
ELEMENT_FIELDS = {
    "symbol": Field("element", "symbol", ("symbol", "chemical symbol", "sign in formulas"), False),
    "discovery_year": Field(
        "element", "discovered", ("year of discovery", "discovery year", "year it was found in")
    ),
    "group": Field("element", "group", ("group in the periodic table", "group number", "periodic group")),
    "period": Field(
        "element", "period", ("period in the periodic table", "period number", "row of the periodic table")
    ),
}
PROPERTIES = {
    "atomic_weight": Field("properties", "atomic weight", ("atomic weight", "atomic mass", "weight of its atoms")),
    "density": Field("properties", "density", ("density in g/cm3", "density", "mass per cm3 in grams")),
    "melting_point": Field(
        "properties", "melting point", ("melting point in kelvin", "melting temperature", "point of melting, in K")
    ),
    "boiling_point": Field(
        "properties", "boiling point", ("boiling point in kelvin", "boiling temperature", "point of boiling, in K")
    ),
}
FIELDS = {**COUNTRY_FIELDS, **AIRPORT_FIELDS, **ELEMENT_FIELDS, **PROPERTIES}
# By the table's name the fields that are compared, and how the larger value is asked for in each split.
COMPARED = {
    "country": ("population", "area_km2", "neighbours"),
    "element": ("atomic_weight", "density", "melting_point", "boiling_point"),
}
COMPARISONS = {
    "population": ("more inhabitants", "the larger population", "the greater number of people"),
    "area_km2": ("the larger area", "more square kilometres", "the greater surface"),
    "neighbours": ("more neighbours by land", "the larger number of neighbours", "the greater neighbour count"),
    "atomic_weight": ("the larger atomic weight", "the higher atomic weight", "the greater atomic mass"),
    "density": ("the larger density", "the higher density", "the greater density"),
    "melting_point": ("the higher melting point", "the larger melting point", "the greater melting temperature"),
    "boiling_point": ("the higher boiling point", "the larger boiling point", "the greater boiling temperature"),
}


def split_of(kind: str, key: str) -> str:
    """Return which split may ask about an entity, or show it on the way.

    Args:
        kind: `"country"`, with everything in it, or `"element"`.
        key: ISO code of the country, or name of the element; elements of one year of discovery go together.

    >>> split_of("element", "Neon") == split_of("element", "Radium")
    True
    """
    if kind == "element":
        key = load_world().elements[key]["discovery_year"] or key
    return {0: "valid", 1: "test"}.get(zlib.crc32(f"{_SALT}/{kind}/{key}".encode()) % _PARTS, "train")


@dataclass(frozen=True)
class Pool:
    """What a split may ask about; the order is that of the tables.

    Attributes:
        countries: ISO codes.
        cities: Keys of cities whose name means one thing only.
        airports: IATA codes of airports with a city and a country.
        elements: Names.
    """

    countries: tuple[str, ...]
    cities: tuple[tuple[str, str], ...]
    airports: tuple[str, ...]
    elements: tuple[str, ...]


@lru_cache(maxsize=len(SPLITS))
def pool(split: str) -> Pool:
    """Return what a split may ask about.

    >>> len(pool("train").countries) > len(pool("test").countries) > 20
    True
    """
    world = load_world()
    countries = tuple(code for code in world.countries if split_of("country", code) == split)
    names = [fold(row["name"]) for row in world.countries.values()] + [name for _, name in world.cities]
    return Pool(
        countries=countries,
        cities=tuple(key for key in world.cities if key[0] in countries and names.count(key[1]) == 1),
        airports=tuple(
            code for code, row in world.airports.items() if row["country"] in countries and row["city"]
        ),
        elements=tuple(name for name in world.elements if split_of("element", name) == split),
    )


class Draw:
    """The random choices of one question.

    Args:
        rng: Source of all choices.
        split: Whose entities to draw.
    """

    def __init__(self, rng: random.Random, split: str) -> None:
        self.rng = rng
        self.world = load_world()
        self.pool = pool(split)

    def field(self, fields: dict[str, Any]) -> str:
        """Choose a field."""
        return self.rng.choice(list(fields))

    def country(self) -> str:
        """Choose a country."""
        return self.rng.choice(self.pool.countries)

    def airport(self) -> str:
        """Choose an airport."""
        return self.rng.choice(self.pool.airports)

    def element(self) -> str:
        """Choose an element."""
        return self.rng.choice(self.pool.elements)

    def city(self, is_capital: bool) -> City:
        """Choose a city; its name is that of no other city or country."""
        return self.world.cities[
            self.rng.choice(
                [key for key in self.pool.cities if self.world.cities[key].is_capital or not is_capital]
            )
        ]


@dataclass(frozen=True)
class Kind:
    """One kind of question.

    Attributes:
        name: Short name, `meta["kind"]` of the row.
        draw: Chooses the slots; None when the choice makes no question.
        hops: The articles on the way.
        answer: What is right.
        wordings: For each split the texts; slots and phrases in braces.
    """

    name: str
    draw: Callable[[Draw], Slots | None]
    hops: Callable[[World, Slots], list[Hop]]
    answer: Callable[[World, Slots], Answer]
    wordings: dict[str, tuple[str, ...]]


def phrases(slots: Slots, split: str) -> dict[str, str]:
    """Write the slots the way a wording of a split shows them.

    >>> phrases({"country": "NL", "field": "capital"}, "train")
    {'country': 'the Netherlands', 'field': 'capital'}
    """
    world, form = load_world(), SPLITS.index(split)
    shown = {}
    for slot, value in slots.items():
        if slot in ("country", "country2"):
            shown[slot] = with_article(world.countries[value]["name"])
        elif slot == "airport":
            shown[slot] = world.airports[value]["name"]
        elif slot == "field":
            shown[slot] = FIELDS[value].phrases[form]
        elif slot == "larger":
            shown[slot] = COMPARISONS[value][form]
        else:
            shown[slot] = value
    return shown


# Hops


def _country_hop(world: World, code: str, field: str) -> Hop:
    kind = FIELDS[field]
    return Hop(f"{world.countries[code]['name']} {kind.query}", (kind.article, code))


def _capital_hop(world: World, code: str) -> Hop:
    return _country_hop(world, code, "capital")


def _airport_hop(world: World, code: str) -> Hop:
    return Hop(world.airports[code]["name"], ("airport", code))


def _city_hop(city: City) -> Hop:
    return Hop(f"{city.name} city", ("city", f"{city.code}/{fold(city.name)}"))


def _element_hop(name: str, field: str) -> Hop:
    kind = FIELDS[field]
    return Hop(f"{name} {kind.query}", (kind.article, name))


def _year_hop(year: str) -> Hop:
    return Hop(f"elements discovered in {year}", ("year", year))


def _number_hop(world: World, name: str) -> Hop:
    return Hop(f"element atomic number {world.elements[name]['atomic_number']}", ("element", name))


# Answers


def _value(row: dict[str, str], field: str, *aliases: str) -> Answer:
    if FIELDS[field].is_number:
        return Answer(row[field], "number")
    return Answer(row[field], aliases=aliases)


def _country_value(world: World, slots: Slots) -> Answer:
    row = world.countries[slots["country"]]
    if slots["field"] != "capital":
        return _value(row, slots["field"])
    # The table of airports may spell the city in another way.
    spellings = [world.airports[code]["city"] for code in world.capital_of(row["iso2"]).airports]
    return _value(row, "capital", *spellings)


def _airport_value(world: World, slots: Slots) -> Answer:
    return _value(world.airports[slots["target"]], slots["field"])


def _airport_name(world: World, slots: Slots) -> Answer:
    return Answer(world.airports[slots["target"]]["name"], aliases=(slots["target"],))


def _element_value(world: World, slots: Slots) -> Answer:
    return _value(world.elements[slots["target"]], slots["field"])


def _country_name(world: World, code: str) -> Answer:
    return Answer(world.countries[code]["name"], aliases=(code,))


def _element_name(world: World, name: str) -> Answer:
    return Answer(name, aliases=(world.elements[name]["symbol"],))


def _mates_answer(world: World, slots: Slots) -> Answer:
    mates = _mates(world, slots["element"])
    return _element_name(world, mates[0]) if len(mates) == 1 else Answer(", ".join(mates), "set")


def _part_size(world: World, slots: Slots) -> Answer:
    part = world.countries[slots["country"]]["subregion"]
    return Answer(str(sum(row["subregion"] == part for row in world.countries.values())), "number")


# Draws


def _draw_country(choice: Draw) -> Slots | None:
    country, field = choice.country(), choice.field(COUNTRY_FIELDS)
    return {"country": country, "field": field} if choice.world.countries[country][field] else None


def _draw_airport(choice: Draw) -> Slots | None:
    airport = choice.airport()
    return {"airport": airport, "target": airport, "field": choice.field(AIRPORT_FIELDS)}


def _draw_element(choice: Draw) -> Slots | None:
    name, field = choice.element(), choice.field({**ELEMENT_FIELDS, **PROPERTIES})
    return {"element": name, "target": name, "field": field} if choice.world.elements[name][field] else None


def _draw_capital(choice: Draw) -> Slots | None:
    city = choice.city(is_capital=True)
    return {"city": city.name, "country": city.code}


def _draw_capital_fact(choice: Draw) -> Slots | None:
    city, field = choice.city(is_capital=True), choice.field(COUNTRY_FIELDS)
    if field == "capital" or not choice.world.countries[city.code][field]:
        return None
    return {"city": city.name, "country": city.code, "field": field}


def _draw_airport_country(choice: Draw) -> Slots | None:
    airport, field = choice.airport(), choice.field(COUNTRY_FIELDS)
    code = choice.world.airports[airport]["country"]
    # The article on an airport of the capital names it: no second one is needed.
    is_told = field == "capital" and airport in choice.world.capital_of(code).airports
    if is_told or not choice.world.countries[code][field]:
        return None
    return {"airport": airport, "country": code, "field": field}


def _draw_city_airport(choice: Draw) -> Slots | None:
    city = choice.city(is_capital=False)
    if len(city.airports) != 1:
        return None
    field = choice.field(AIRPORT_FIELDS)
    return {"city": city.name, "country": city.code, "target": city.airports[0], "field": field}


def _draw_capital_airport(choice: Draw) -> Slots | None:
    code = choice.country()
    airports = choice.world.capital_of(code).airports
    return {"country": code, "target": airports[0]} if len(airports) == 1 else None


def _draw_capital_airport_fact(choice: Draw) -> Slots | None:
    slots = _draw_capital_airport(choice)
    return {**slots, "field": choice.field(AIRPORT_FIELDS)} if slots else None


def _draw_airport_airport(choice: Draw) -> Slots | None:
    airport = choice.airport()
    code = choice.world.airports[airport]["country"]
    airports = choice.world.capital_of(code).airports
    if len(airports) != 1 or airport in airports:
        return None
    return {"airport": airport, "country": code, "target": airports[0]}


def _draw_airport_part(choice: Draw) -> Slots | None:
    airport = choice.airport()
    return {"airport": airport, "country": choice.world.airports[airport]["country"]}


def _draw_mates(choice: Draw) -> Slots | None:
    name = choice.element()
    return {"element": name} if 1 <= len(_mates(choice.world, name)) <= 3 else None


def _draw_year(choice: Draw) -> Slots | None:
    name = choice.element()
    if not choice.world.elements[name]["discovery_year"]:
        return None
    # Most elements are the only ones of their year; as often as not the answer should be another number.
    is_alone = not _mates(choice.world, name)
    return None if is_alone and choice.rng.random() < 0.6 else {"element": name}


def _draw_mate_fact(choice: Draw) -> Slots | None:
    name, field = choice.element(), choice.field({**ELEMENT_FIELDS, **PROPERTIES})
    mates = _mates(choice.world, name)
    if len(mates) != 1 or not _differ(choice.world.elements, name, mates[0], field):
        return None
    return {"element": name, "target": mates[0], "field": field}


def _draw_next(fields: dict[str, Field]) -> Callable[[Draw], Slots | None]:
    def draw(choice: Draw) -> Slots | None:
        name, field = choice.element(), choice.field(fields)
        number = _number(choice.world, name) + 1
        found = [other for other in choice.pool.elements if _number(choice.world, other) == number]
        if not found or not _differ(choice.world.elements, name, found[0], field):
            return None
        return {"element": name, "target": found[0], "field": field}

    return draw


def _draw_two(table: str) -> Callable[[Draw], Slots | None]:
    def draw(choice: Draw) -> Slots | None:
        field = choice.rng.choice(COMPARED[table])
        names = choice.pool.countries if table == "country" else choice.pool.elements
        rows = choice.world.countries if table == "country" else choice.world.elements
        a, b = choice.rng.sample(names, 2)
        if not _differ(rows, a, b, field):
            return None
        return {table: a, f"{table}2": b, "larger": field}

    return draw


def _differ(rows: dict[str, dict[str, str]], a: str, b: str, field: str) -> bool:
    """Whether both values are known and not the same: else the wrong row would answer as well."""
    return bool(rows[a][field] and rows[b][field]) and rows[a][field] != rows[b][field]


def _larger(rows: dict[str, dict[str, str]], slots: Slots, table: str) -> str:
    a, b = slots[table], slots[f"{table}2"]
    return max(a, b, key=lambda name: float(rows[name][slots["larger"]]))


def _number(world: World, name: str) -> int:
    return int(world.elements[name]["atomic_number"])


def _mates(world: World, name: str) -> list[str]:
    return [other for other in world.years.get(world.elements[name]["discovery_year"], ()) if other != name]


KINDS = (
    # One article
    Kind(
        "country-fact",
        _draw_country,
        lambda world, s: [_country_hop(world, s["country"], s["field"])],
        _country_value,
        {
            "train": (
                "What is the {field} of {country}?",
                "Find the {field} of {country}.",
                "Look up {country}: what is its {field}?",
            ),
            "valid": ("Which {field} does {country} have?",),
            "test": ("Tell me, for {country}, the {field}.",),
        },
    ),
    Kind(
        "airport-fact",
        _draw_airport,
        lambda world, s: [_airport_hop(world, s["airport"])],
        _airport_value,
        {
            "train": (
                "What is the {field} of {airport}?",
                "Find the {field} of {airport}.",
                "Look up {airport}: what is its {field}?",
            ),
            "valid": ("Which {field} does {airport} have?",),
            "test": ("Tell me, for {airport}, the {field}.",),
        },
    ),
    Kind(
        "element-fact",
        _draw_element,
        lambda world, s: [_element_hop(s["element"], s["field"])],
        _element_value,
        {
            "train": (
                "What is the {field} of {element}?",
                "Find the {field} of {element}.",
                "Look up {element}: what is its {field}?",
            ),
            "valid": ("Which {field} does {element} have?",),
            "test": ("Tell me, for {element}, the {field}.",),
        },
    ),
    Kind(
        "capital",
        _draw_capital,
        lambda world, s: [_city_hop(world.capital_of(s["country"]))],
        lambda world, s: _country_name(world, s["country"]),
        {
            "train": (
                "Which country has {city} as its capital?",
                "{city} is the capital of which country?",
                "Of which country is {city} the capital?",
            ),
            "valid": ("Name the country that is governed from {city}.",),
            "test": ("Whose capital city is {city}?",),
        },
    ),
    # Two articles
    Kind(
        "airport-country",
        _draw_airport_country,
        lambda world, s: [_airport_hop(world, s["airport"]), _country_hop(world, s["country"], s["field"])],
        _country_value,
        {
            "train": (
                "What is the {field} of the country where {airport} is?",
                "Find the {field} of the country of {airport}.",
                "{airport} is in a country. What is the {field} of this country?",
                "In which country is {airport}, and what is its {field}? Answer with the {field} only.",
            ),
            "valid": ("A plane lands at {airport}. Which {field} does the country that it is in have?",),
            "test": ("Tell me, for the country that {airport} belongs to, the {field}.",),
        },
    ),
    Kind(
        "capital-country",
        _draw_capital_fact,
        lambda world, s: [
            _city_hop(world.capital_of(s["country"])),
            _country_hop(world, s["country"], s["field"]),
        ],
        _country_value,
        {
            "train": (
                "What is the {field} of the country whose capital is {city}?",
                "{city} is the capital of a country. What is the {field} of this country?",
                "Find the {field} of the country with the capital {city}.",
            ),
            "valid": ("Which {field} does the country governed from {city} have?",),
            "test": ("Tell me, for the country that has {city} as its capital city, the {field}.",),
        },
    ),
    Kind(
        "city-airport",
        _draw_city_airport,
        lambda world, s: [
            _city_hop(world.cities[s["country"], fold(s["city"])]),
            _airport_hop(world, s["target"]),
        ],
        _airport_value,
        {
            "train": (
                "What is the {field} of the airport that serves {city}?",
                "Find the {field} of the airport of {city}.",
                "{city} has one airport. What is its {field}?",
            ),
            "valid": ("Flights to {city} land at an airport. Which {field} does it have?",),
            "test": ("Tell me, for the airport used by {city}, the {field}.",),
        },
    ),
    Kind(
        "capital-airport",
        _draw_capital_airport,
        lambda world, s: [_capital_hop(world, s["country"]), _city_hop(world.capital_of(s["country"]))],
        _airport_name,
        {
            "train": (
                "Which airport serves the capital of {country}?",
                "Find the airport of the capital of {country}.",
                "What is the name of the airport in the capital of {country}?",
            ),
            "valid": ("At which airport do flights to the capital city of {country} land?",),
            "test": ("Name the airport used by the city from which {country} is governed.",),
        },
    ),
    Kind(
        "same-year",
        _draw_mates,
        lambda world, s: [
            _element_hop(s["element"], "discovery_year"),
            _year_hop(world.elements[s["element"]]["discovery_year"]),
        ],
        _mates_answer,
        {
            "train": (
                "Which other elements were discovered in the same year as {element}? Separate several by commas.",
                "Find what else was discovered in the year of {element}, one element or several with commas.",
                "{element} was discovered in a year with other elements. Name them, separated by commas.",
            ),
            "valid": ("In the year that brought {element}, what else did chemists find (comma between several)?",),
            "test": ("Name the elements, without {element}, that were found when it was, commas between them.",),
        },
    ),
    Kind(
        "year-count",
        _draw_year,
        lambda world, s: [
            _element_hop(s["element"], "discovery_year"),
            _year_hop(world.elements[s["element"]]["discovery_year"]),
        ],
        lambda world, s: Answer(str(len(_mates(world, s["element"])) + 1), "number"),
        {
            "train": (
                "How many elements were discovered in the same year as {element}, counting it too?",
                "Count the elements discovered in the year of {element}, itself included.",
                "In the year when {element} was discovered, how many elements were discovered in all?",
            ),
            "valid": ("The year that brought {element} brought how many elements in total?",),
            "test": ("Take the discovery year of {element}: tell me the number of all elements found in it.",),
        },
    ),
    Kind(
        "next-element",
        _draw_next(ELEMENT_FIELDS),
        lambda world, s: [_element_hop(s["element"], "symbol"), _number_hop(world, s["target"])],
        _element_value,
        {
            "train": (
                "What is the {field} of the element whose atomic number is one more than that of {element}?",
                "Add 1 to the atomic number of {element}. What is the {field} of the element with this number?",
                "Find the {field} of the element that comes after {element} by atomic number.",
            ),
            "valid": ("Which {field} does the element with one proton more than {element} have?",),
            "test": ("Tell me, for the element one place after {element} in atomic number, the {field}.",),
        },
    ),
    Kind(
        "compare-countries",
        _draw_two("country"),
        lambda world, s: [_country_hop(world, s[slot], s["larger"]) for slot in ("country", "country2")],
        lambda world, s: _country_name(world, _larger(world.countries, s, "country")),
        {
            "train": (
                "Which has {larger}, {country} or {country2}?",
                "Compare {country} and {country2}: which one has {larger}?",
                "{country} or {country2}: name the one with {larger}.",
            ),
            "valid": ("Between {country} and {country2}, who has {larger}?",),
            "test": ("Does {country} or does {country2} have {larger}?",),
        },
    ),
    Kind(
        "compare-elements",
        _draw_two("element"),
        lambda world, s: [_element_hop(s[slot], s["larger"]) for slot in ("element", "element2")],
        lambda world, s: _element_name(world, _larger(world.elements, s, "element")),
        {
            "train": (
                "Which has {larger}, {element} or {element2}?",
                "Compare {element} and {element2}: which one has {larger}?",
                "{element} or {element2}: name the one with {larger}.",
            ),
            "valid": ("Between {element} and {element2}, which wins with {larger}?",),
            "test": ("Does {element} or does {element2} have {larger}?",),
        },
    ),
    # Three articles
    Kind(
        "capital-airport-fact",
        _draw_capital_airport_fact,
        lambda world, s: [
            _capital_hop(world, s["country"]),
            _city_hop(world.capital_of(s["country"])),
            _airport_hop(world, s["target"]),
        ],
        _airport_value,
        {
            "train": (
                "What is the {field} of the airport that serves the capital of {country}?",
                "Find the {field} of the airport of the capital of {country}.",
                "The capital of {country} has one airport. What is its {field}?",
            ),
            "valid": ("Flights to the capital city of {country} land at an airport. Which {field} does it have?",),
            "test": ("Tell me, for the airport used by the city from which {country} is governed, the {field}.",),
        },
    ),
    Kind(
        "airport-capital-airport",
        _draw_airport_airport,
        lambda world, s: [
            _airport_hop(world, s["airport"]),
            _capital_hop(world, s["country"]),
            _city_hop(world.capital_of(s["country"])),
        ],
        _airport_name,
        {
            "train": (
                "Which airport serves the capital of the country where {airport} is?",
                "Find the airport of the capital of the country of {airport}.",
                "{airport} is in a country. What is the name of the airport in its capital?",
            ),
            "valid": (
                "From {airport} I fly to the capital city of the same country. At which airport do I land?",
            ),
            "test": ("Name the airport used by the city from which the country of {airport} is governed.",),
        },
    ),
    Kind(
        "airport-part",
        _draw_airport_part,
        lambda world, s: [
            _airport_hop(world, s["airport"]),
            Hop(f"{world.countries[s['country']]['name']} region", ("country", s["country"])),
            Hop(
                f"{world.countries[s['country']]['subregion']} countries and territories",
                ("subregion", world.countries[s["country"]]["subregion"]),
            ),
        ],
        _part_size,
        {
            "train": (
                "How many countries and territories make up the part of the world where the country of {airport} lies?",
                "{airport} is in a country, and this in a part of a region. Count the countries and territories of this part.",
                "Find how many countries and territories there are in the part of the world with the country of {airport}.",
            ),
            "valid": (
                "The country that {airport} is in is one of how many in its subregion, territories included?",
            ),
            "test": ("Tell me how many countries and territories the subregion has that {airport} belongs to.",),
        },
    ),
    Kind(
        "next-element-property",
        _draw_next(PROPERTIES),
        lambda world, s: [
            _element_hop(s["element"], "symbol"),
            _number_hop(world, s["target"]),
            _element_hop(s["target"], s["field"]),
        ],
        _element_value,
        {
            "train": (
                "What is the {field} of the element whose atomic number is one more than that of {element}?",
                "Add 1 to the atomic number of {element}. What is the {field} of the element with this number?",
                "Find the {field} of the element that comes after {element} by atomic number.",
            ),
            "valid": ("Which {field} does the element with one proton more than {element} have?",),
            "test": ("Tell me, for the element one place after {element} in atomic number, the {field}.",),
        },
    ),
    Kind(
        "same-year-fact",
        _draw_mate_fact,
        lambda world, s: [
            _element_hop(s["element"], "discovery_year"),
            _year_hop(world.elements[s["element"]]["discovery_year"]),
            _element_hop(s["target"], s["field"]),
        ],
        _element_value,
        {
            "train": (
                "What is the {field} of the other element discovered in the same year as {element}?",
                "One other element was discovered in the year of {element}. What is its {field}?",
                "Find the {field} of the element discovered in the same year as {element}.",
            ),
            "valid": ("The year that brought {element} brought another element. Which {field} does it have?",),
            "test": ("Tell me, for the one element that was found when {element} was, the {field}.",),
        },
    ),
)
