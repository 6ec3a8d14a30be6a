"""The corpus of the `wiki` suite: short articles about what stands in the tables of the `facts` suite.

Every fact of an article is a value of a table (see `envs_data/README.md`). How it is worded, and in which order,
is drawn from a generator seeded by the article's key, so that the same tables give the same articles everywhere.
The facts about one thing are spread over several articles that name each other, and many articles resemble each
other: Georgetown and George Town, the geography and the demographics of one country, the airports of one city.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from mentor_gym.tools.facts import fold, load_table
from mentor_gym.tools.search import Corpus, Document

Row = dict[str, str]
_PLURAL_NAMES = ("Americas", "Comoros", "Maldives", "Netherlands", "Philippines", "Seychelles")
_COMMON_NOUNS = ("Islands", "Republic", "Territory", "Lands", "Emirates", "States", "Kingdom", "Isle")


@dataclass(frozen=True)
class City:
    """A city of the tables: the capital of a country, or what an airport serves.

    Attributes:
        name: Its name, in the spelling of the capital if it is one.
        code: ISO code of its country.
        airports: IATA codes of its airports.
        is_capital: Whether it is the capital of its country.
    """

    name: str
    code: str
    airports: tuple[str, ...]
    is_capital: bool


@dataclass(frozen=True)
class Article:
    """An article before it has an id.

    Attributes:
        key: What it is about, for example `("geography", "PE")`; unique.
        title: Its title; unique.
        lead: Ways to write its first sentence.
        facts: For every further sentence the ways to write it.
    """

    key: tuple[str, str]
    title: str
    lead: Sequence[str]
    facts: Sequence[Sequence[str]]

    def text(self) -> str:
        """Write the article: the lead, then the facts in an order of its own."""
        rng = random.Random(f"wiki/{'/'.join(self.key)}")
        facts = [rng.choice(ways) for ways in self.facts]
        rng.shuffle(facts)
        return " ".join(map(_sentence, [rng.choice(self.lead), *facts]))


class World:
    """The tables with what links them.

    Attributes:
        countries: Country by ISO code.
        airports: Airport by IATA code.
        elements: Element by name.
        cities: City by ISO code and folded name.
        years: Names of elements by year of discovery.
    """

    def __init__(self) -> None:
        self.countries = {row["iso2"]: row for row in load_table("countries").rows.values()}
        self.airports = load_table("airports").rows
        self.elements = load_table("elements").rows
        served: dict[tuple[str, str], list[str]] = {}
        names: dict[tuple[str, str], str] = {}
        for code, row in self.airports.items():
            if row["city"] and row["country"] in self.countries:
                key = row["country"], fold(row["city"])
                served.setdefault(key, []).append(code)
                names.setdefault(key, row["city"])
        capitals = {(code, fold(row["capital"])): row["capital"] for code, row in self.countries.items()}
        names |= capitals
        self.cities = {
            key: City(name, key[0], tuple(served.get(key, ())), key in capitals)
            for key, name in sorted(names.items())
        }
        self.years: dict[str, list[str]] = {}
        for name, row in self.elements.items():
            if row["discovery_year"]:
                self.years.setdefault(row["discovery_year"], []).append(name)

    def city_of(self, airport: str) -> City | None:
        """Return the city that an airport serves, if the tables have it."""
        row = self.airports[airport]
        return self.cities.get((row["country"], fold(row["city"])))

    def capital_of(self, code: str) -> City:
        """Return the capital of a country."""
        return self.cities[code, fold(self.countries[code]["capital"])]


@lru_cache(maxsize=1)
def load_world() -> World:
    """Return the tables with their links, made at the first call.

    >>> load_world().capital_of("PE").airports
    ('LIM',)
    """
    return World()


def grouped(number: str) -> str:
    """Write a number of the tables the way articles do, with commas.

    >>> grouped("1285216"), grouped("0.44"), grouped("1980")
    ('1,285,216', '0.44', '1,980')
    """
    whole, point, rest = number.partition(".")
    return f"{int(whole):,}{point}{rest}"


def with_article(name: str) -> str:
    """Write a name of the tables inside a sentence.

    >>> with_article("United States"), with_article("Republic of the Congo"), with_article("Peru")
    ('the United States', 'the Republic of the Congo', 'Peru')
    """
    head = name.partition(" of ")[0]
    return f"the {name}" if name in _PLURAL_NAMES or head.split()[-1] in _COMMON_NOUNS else name


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _country(code: str, row: Row) -> list[Article]:
    title, capital, part = row["name"], row["capital"], row["subregion"]
    name, region = with_article(title), with_article(row["region"])
    neighbours = int(row["neighbours"])
    main = Article(
        ("country", code),
        title,
        (
            f"{name} is one of the countries and territories of {part}.",
            f"{name} lies in {part}, a part of {region}.",
            f"{name} belongs to {part} in {region}.",
        ),
        (
            (
                f"Its capital is {capital}.",
                f"The capital city is {capital}.",
                f"{capital} serves as its capital.",
                f"It has {capital} for its capital.",
            ),
            (
                f"Its two-letter country code is {code}.",
                f"In ISO lists it has the country code {code}.",
                f"{code} is its ISO country code.",
            ),
            (
                f"For its area and neighbours see Geography of {name}, for its population Demographics of {name}.",
                f"Geography of {name} describes its land, Demographics of {name} its people.",
            ),
        ),
    )
    borders = (
        (
            "It has 0 neighbours by land.",
            "The number of its neighbours by land is 0: nothing borders on it.",
        )
        if neighbours == 0
        else (
            f"Its number of neighbours by land is {neighbours}.",
            f"Counting its neighbours by land gives {neighbours}.",
            f"The number of its neighbours, the countries on its borders, is {neighbours}.",
        )
    )
    area = grouped(row["area_km2"]) if row["area_km2"] else ""
    areas = (
        f"It covers an area of {area} square kilometres.",
        f"Its area is {area} km2.",
        f"It has an area of {area} square kilometres.",
    )
    geography = Article(
        ("geography", code),
        f"Geography of {name}",
        (
            f"This article describes the land and the borders of {name}.",
            f"{name} is counted among the countries and territories of {part}.",
            f"The geography of {name} is that of a country or territory in {region}.",
        ),
        (borders, areas) if area else (borders,),
    )
    people = grouped(row["population"])
    demographics = Article(
        ("demographics", code),
        f"Demographics of {name}",
        (
            f"This article describes the people of {name}.",
            f"The demographics of {name} are about who lives there.",
            f"{name}, a country or territory of {part}, is described here by its people.",
        ),
        (
            (
                f"Around 2014 it had a population of {people}.",
                f"Its population was {people} around 2014.",
                f"Estimates of about 2014 put the population at {people}.",
            ),
        ),
    )
    return [main, geography, demographics]


def _aviation(code: str, country: Row, airports: Sequence[Row]) -> Article:
    name = with_article(country["name"])
    shown = [row["name"] for row in airports[:12]]
    count = f"{len(airports)} airport{'s' if len(airports) > 1 else ''}"
    among = ", among them" if len(airports) > len(shown) else ":"
    return Article(
        ("aviation", code),
        f"Aviation in {name}",
        (
            f"Aviation in {name} is about its airports.",
            f"This article is about flying in {name}.",
            f"{name} is reached by air through its airports.",
        ),
        (
            (
                f"This encyclopaedia has {count} of the country{among} {_listed(shown)}.",
                f"There are articles on {count}{among} {_listed(shown)}.",
            ),
        ),
    )


def _airport(code: str, row: Row, city: City | None, country: Row | None) -> Article:
    name, feet = row["name"], grouped(row["elevation_ft"])
    where = with_article(country["name"]) if country else f"the territory with the code {row['country']}"
    lead: tuple[str, ...]
    if city:
        lead = (
            f"{name} is an airport in {city.name}, {where}.",
            f"{name} serves {city.name} in {where}.",
            f"{city.name} in {where} is served by {name}.",
        )
    else:
        lead = (f"{name} is an airport in {where}.", f"{name} serves {where}.")
    # A number below zero reads as one only where nothing says "above".
    elevation = (
        f"Its elevation is {feet} feet.",
        f"The elevation of the field is {feet} feet.",
        *(() if feet.startswith("-") else (f"It lies {feet} feet above the sea.",)),
    )
    return Article(
        ("airport", code),
        name,
        lead,
        (
            (
                f"Its IATA code is {code}.",
                f"Airlines give it the code {code}.",
                f"Tickets to it show the code {code}.",
            ),
            elevation,
            (
                f"It is found at latitude {row['lat']} and longitude {row['lon']}.",
                f"Its position is {row['lat']} degrees of latitude, {row['lon']} of longitude.",
            ),
        ),
    )


def _city(world: World, key: tuple[str, str], city: City, title: str) -> Article:
    country = with_article(world.countries[city.code]["name"])
    name = city.name
    airports = [world.airports[code]["name"] for code in city.airports]
    lead: tuple[str, ...]
    facts: tuple[tuple[str, ...], ...]
    if city.is_capital:
        lead = (
            f"{name} is the capital of {country}.",
            f"{name}, a city in {country}, is its capital.",
            f"{country} has its capital in {name}.",
        )
    else:
        lead = (f"{name} is a city or town in {country}.", f"{name} is a place in {country}, with an airport.")
    if not airports:
        facts = ()
    elif len(airports) == 1:
        facts = (
            (
                f"It is served by {airports[0]}.",
                f"Its airport is {airports[0]}.",
                f"Flights to the city use {airports[0]}.",
            ),
        )
    else:
        facts = (
            (
                f"It is served by {len(airports)} airports: {_listed(airports)}.",
                f"Flights to the city use {_listed(airports)}.",
            ),
        )
    return Article(("city", "/".join(key)), title, lead, facts)


def _element(name: str, row: Row) -> list[Article]:
    number, year, series = row["atomic_number"], row["discovery_year"], row["series"].lower()
    group = f" and group {row['group']}" if row["group"] else ""
    facts: list[tuple[str, ...]] = [
        (
            f"Its atomic number is {number}.",
            f"It is the element with the atomic number {number}.",
            f"Of the elements it is the one of atomic number {number}.",
        ),
        (
            f"In the periodic table it stands in period {row['period']}{group}.",
            f"It belongs to period {row['period']}{group} of the periodic table.",
        ),
        (
            f"It is counted among the {series}.",
            f"Chemists put it in the series of {series}.",
            f"Its series is that of the {series}.",
        ),
    ]
    if year:
        facts.append(
            (
                f"It was discovered in {year}.",
                f"Its discovery dates from {year}.",
                f"{year} is the year of its discovery.",
            )
        )
    main = Article(
        ("element", name),
        name,
        (
            f"{name} is a chemical element with the symbol {row['symbol']}.",
            f"{name}, symbol {row['symbol']}, is a chemical element.",
            f"{row['symbol']} is the symbol of the chemical element {name}.",
        ),
        facts,
    )
    properties: list[tuple[str, ...]] = [
        (f"Its atomic weight is {row['atomic_weight']}.", f"It has an atomic weight of {row['atomic_weight']}.")
    ]
    if row["density"]:
        properties.append(
            (
                f"Its density is {row['density']} g/cm3.",
                f"It has a density of {row['density']} grams per cubic centimetre.",
            )
        )
    for verb, field in (("melting", "melting_point"), ("boiling", "boiling_point")):
        if row[field]:
            properties.append(
                (
                    f"Its {verb} point is {row[field]} kelvin.",
                    f"It has a {verb} point of {row[field]} K.",
                    f"{row[field]} K is its {verb} point.",
                )
            )
    physics = Article(
        ("properties", name),
        f"Properties of {name}",
        (
            f"This article lists physical properties of {name}.",
            f"The physical properties of {name} are given here.",
            f"{name} is described here by what can be measured.",
        ),
        properties,
    )
    return [main, physics]


def _year(year: str, names: Sequence[str]) -> Article:
    count = f"{len(names)} element{'s' if len(names) > 1 else ''}"
    return Article(
        ("year", year),
        f"Chemistry in {year}",
        (
            f"This article is about what chemists found in {year}.",
            f"In the history of chemistry, {year} brought new elements.",
        ),
        (
            (
                f"The number of elements discovered in {year} is {len(names)}: {_listed(names)}.",
                f"Chemists discovered {count} in {year}: {_listed(names)}.",
            ),
        ),
    )


def _family(kind: str, key: str, title: str, names: Sequence[str]) -> Article:
    return Article(
        (kind, key),
        title,
        (f"{title} make up a part of the periodic table.", f"This article is a list of the {title.lower()}."),
        ((f"They are {_listed(names)}.", f"In the order of atomic numbers they are {_listed(names)}."),),
    )


def _families(world: World) -> list[Article]:
    titles = {
        "period": "Period {} elements",
        "group": "Group {} elements",
        "block": "{}-block elements",
        "series": "{}",
    }
    found = []
    for field, title in titles.items():
        members: dict[str, list[str]] = {}
        for name, row in world.elements.items():
            if row[field]:
                members.setdefault(row[field], []).append(name)
        found += [_family(field, key, title.format(key), names) for key, names in members.items()]
    return found


def _regions(world: World) -> list[Article]:
    parts: dict[str, list[str]] = {}
    regions: dict[str, dict[str, None]] = {}
    for row in world.countries.values():
        parts.setdefault(row["subregion"], []).append(row["name"])
        regions.setdefault(row["region"], {})[row["subregion"]] = None
    region_of = {part: region for region, members in regions.items() for part in members}
    found = []
    for part, names in parts.items():
        size = f"{len(names)} countries and territories"
        listed = _listed([with_article(name) for name in sorted(names)])
        whole = with_article(region_of[part])
        lead = (f"{part} is a part of {whole}.", f"{part} belongs to {whole}.")
        facts = ((f"It is made up of {size}: {listed}.", f"The {size} of it are {listed}."),)
        found.append(Article(("subregion", part), part, lead, facts))
    for region, members in regions.items():
        name, listed = with_article(region), _listed(sorted(members))
        lead = (f"{name} is a region of the world.", f"{name} is one of {len(regions)} regions of the world.")
        facts = ((f"Its parts are {listed}.", f"It is divided into {listed}."),)
        found.append(Article(("region", region), region, lead, facts))
    return found


def _articles(world: World) -> list[Article]:
    found: list[Article] = []
    for code, row in world.countries.items():
        found += _country(code, row)
        airports = [airport for airport in world.airports.values() if airport["country"] == code]
        if airports:
            found.append(_aviation(code, row, airports))
    for code, row in world.airports.items():
        found.append(_airport(code, row, world.city_of(code), world.countries.get(row["country"])))
    for name, row in world.elements.items():
        found += _element(name, row)
    found += [_year(year, names) for year, names in world.years.items()]
    found += _families(world) + _regions(world)
    # What else has this title: a country, an element, a city of another country.
    taken = Counter(fold(article.title) for article in found) + Counter(name for _, name in world.cities)
    for key, city in world.cities.items():
        title = city.name if taken[key[1]] == 1 else f"{city.name} ({world.countries[city.code]['name']})"
        found.append(_city(world, key, city, title))
    return found


@dataclass(frozen=True)
class Library:
    """The corpus with the document of each key.

    Attributes:
        corpus: The documents in the order of their ids.
        documents: Document by key, for example `("geography", "PE")`.
    """

    corpus: Corpus
    documents: dict[tuple[str, str], Document]


@lru_cache(maxsize=1)
def load_library() -> Library:
    """Return the corpus, written at the first call.

    >>> load_library().documents["geography", "PE"].title
    'Geography of Peru'
    """
    articles = _articles(load_world())
    # Shuffled, so that an id tells nothing and equal scores favour no kind of article.
    random.Random("wiki/ids").shuffle(articles)
    documents = {
        article.key: Document(f"d{number:04d}", article.title, article.text())
        for number, article in enumerate(articles, start=1)
    }
    return Library(Corpus(documents.values()), documents)


def wiki_corpus() -> Corpus:
    """Return the corpus of the suite.

    >>> len(wiki_corpus()) > 2000
    True
    """
    return load_library().corpus
