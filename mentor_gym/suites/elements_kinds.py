"""The kinds of questions of the `elements` suite: their values, solutions in SQL and wordings.

The tables are `elements`, `series` and `phases`, as `mentor_gym.suites.elements` makes them. `KINDS` are trained;
`OOD_KINDS` compare rows with one another, which no trained kind does.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from mentor_gym.suites.facts_kinds import is_held_out
from mentor_gym.suites.sql_plans import Slots, SqlKind
from mentor_gym.tools.facts import load_table


class Draw:
    """The random choices of one question.

    Args:
        rng: Source of all choices.
        ood: Whether elements are drawn from those that training never asks about.
    """

    def __init__(self, rng: random.Random, ood: bool) -> None:
        self.rng = rng
        self.rows = [
            row for name, row in load_table("elements").rows.items() if is_held_out("elements", name) == ood
        ]
        self.all_rows = list(load_table("elements").rows.values())

    def __getitem__(self, slot: str) -> Any:
        """Choose a value by what it is: a slot's name. Groups of elements are of all, elements are of the split."""
        choose = self.rng.choice
        match slot:
            case "element":
                return choose(self.rows)["name"]
            case "symbol":
                return choose(self.rows)["symbol"]
            case "number":
                return int(choose(self.rows)["atomic_number"])
            case "family":
                return choose(self.all_rows)["series"]
            case "block":
                return choose(self.all_rows)["block"]
            case "period":
                return self.rng.randint(2, 7)
            case "group":
                return self.rng.randint(1, 18)
            case "year":
                return self.rng.randrange(1740, 1985, 5)
            case "limit":
                return self.rng.randint(15, 110)
            case "density":
                return self.rng.randint(2, 42) / 2
            case "kelvin":
                return self.rng.randrange(200, 3800, 50)
        raise KeyError(slot)


def _slots(*names: str) -> Callable[[Draw], Slots]:
    def draw(choice: Draw) -> Slots:
        return {name: choice[name] for name in names}

    return draw


def _complete_slots(group: str, field: str) -> Callable[[Draw], Slots | None]:
    """Draw a `group` (block or family) and a limit for a question about all elements of it below the limit.

    None when the table misses the field of one of them, for then it cannot tell which element is first or what
    their mean is, or when there are fewer than two of them.
    """
    column = {"block": "block", "family": "series"}[group]

    def draw(choice: Draw) -> Slots | None:
        slots = {group: choice[group], "limit": choice["limit"]}
        asked = [
            row
            for row in choice.all_rows
            if row[column] == slots[group] and int(row["atomic_number"]) < slots["limit"]
        ]
        return slots if len(asked) > 1 and all(row[field] for row in asked) else None

    return draw


def _draw_years(choice: Draw) -> Slots:
    start = choice["year"]
    # The last year of the table is 2015.
    return {"year": start, "end": min(start + choice.rng.randrange(10, 60, 5), 2020)}


def _draw_few_years(choice: Draw) -> Slots:
    start = choice["year"] + choice.rng.randint(0, 4)
    return {"year": start, "end": start + choice.rng.randint(1, 12)}


def _draw_two(choice: Draw) -> Slots:
    first, second = choice.rng.sample(choice.rows, 2)
    return {"element": first["name"], "other": second["name"]}


_ES = "elements e JOIN series s ON s.id = e.series_id"
_EP = "elements e JOIN phases p ON p.number = e.number"
_ESP = _ES + " JOIN phases p ON p.number = e.number"
_SERIES_ID = "SELECT id FROM series WHERE name = {family}"
_NUMBER = "SELECT number FROM elements WHERE name = {element}"

KINDS = (
    # One table
    SqlKind(
        "weight",
        "number",
        _slots("element"),
        (("SELECT weight FROM elements WHERE name = {element}",),),
        (
            "What is the atomic weight of {element}?",
            "[Find|Look up] the atomic weight of {element}.",
            "Which atomic weight does the database [give|have] for {element}?",
        ),
        ("{element}: what is the atomic weight?",),
        ("How heavy is an atom of {element}, in u?",),
    ),
    SqlKind(
        "symbol",
        "text",
        _slots("symbol"),
        (("SELECT name FROM elements WHERE symbol = {symbol}",),),
        (
            "Which element has the symbol {symbol}?",
            "Name the element whose symbol is {symbol}.",
            "[Find|Look up] the name of the element {symbol}.",
        ),
        ("The symbol {symbol} stands for which element?",),
        ("In formulas one writes {symbol}. For which element?",),
    ),
    SqlKind(
        "by-number",
        "text",
        _slots("number"),
        (("SELECT name FROM elements WHERE number = {number}",),),
        (
            "Which element has the atomic number {number}?",
            "Name the element with atomic number {number}.",
            "[Find|Look up] the element whose atomic number is {number}.",
        ),
        ("The atomic number {number} belongs to which element?",),
        ("An atom with {number} protons is of which element?",),
    ),
    SqlKind(
        "count-block",
        "number",
        _slots("block", "limit"),
        (("SELECT COUNT(*) FROM elements WHERE block = {block} AND number > {limit}",),),
        (
            "How many elements of block {block} have an atomic number above {limit}?",
            "Count the elements of block {block} with an atomic number over {limit}.",
            "With an atomic number of more than {limit}, how many elements are in block {block}?",
        ),
        ("Block {block}: how many of its elements have a number above {limit}?",),
        ("How many elements behind number {limit} belong to block {block}?",),
    ),
    SqlKind(
        "count-dense",
        "number",
        _slots("period", "density"),
        (
            ("SELECT COUNT(*) FROM elements WHERE period = {period} AND density > {density}",),
            ("SELECT SUM(density > {density}) FROM elements WHERE period = {period}",),
        ),
        (
            "How many elements of period {period} have a density above {density}, of those whose density the database has?",
            "Count the elements of period {period} with a density over {density}, among those whose density the database has.",
            "In period {period}, how many of the elements whose density the database has are denser than {density}?",
        ),
        ("Period {period}: how many of its elements have a density above {density}, where the database has one?",),
        (
            "How many elements in row {period} of the periodic table exceed a density of {density}, where the database has their density?",
        ),
    ),
    SqlKind(
        "count-known",
        "number",
        _slots("limit"),
        (
            ("SELECT COUNT(density) FROM elements WHERE number > {limit}",),
            ("SELECT COUNT(*) FROM elements WHERE density IS NOT NULL AND number > {limit}",),
        ),
        (
            "How many elements with an atomic number above {limit} have a known density?",
            "Count the elements with a number over {limit} whose density is not missing.",
            "For how many elements with a number above {limit} does the database have a density?",
        ),
        ("Above atomic number {limit}, how many densities are known?",),
        ("How many of the elements behind number {limit} come with a density?",),
    ),
    SqlKind(
        "count-years",
        "number",
        _draw_years,
        (
            ("SELECT COUNT(*) FROM elements WHERE discovered BETWEEN {year} AND {end}",),
            ("SELECT COUNT(*) FROM elements WHERE discovered >= {year} AND discovered <= {end}",),
        ),
        (
            "Of the elements whose discovery year the database has, how many were discovered from {year} to {end}, both years included?",
            "Count the elements discovered between {year} and {end}, both included, among those whose discovery year the database has.",
            "From {year} to {end} (both included), how many elements were discovered, of those whose discovery year the database has?",
        ),
        (
            "Discovered in {year}, in {end} or between: how many elements are that, by the years that the database has?",
        ),
        (
            "Where the database has the year, how many elements did people find from {year} up to and including {end}?",
        ),
    ),
    SqlKind(
        "list-years",
        "set",
        _draw_few_years,
        (
            ("SELECT name FROM elements WHERE discovered BETWEEN {year} AND {end}",),
            ("SELECT name FROM elements WHERE discovered >= {year} AND discovered <= {end}",),
        ),
        (
            "Which of the elements whose discovery year the database has were discovered from {year} to {end}, both years included? List their names, with commas.",
            "Of the elements whose discovery year the database has, list those discovered between {year} and {end}, both included, with commas.",
            "Name all elements of the discovery years {year} to {end}, of those whose year the database has, with commas between them.",
        ),
        (
            "Discovered in {year}, in {end} or between: which elements are that, by the years that the database has? Separate them by commas.",
        ),
        (
            "Where the database has the year, which elements did people find from {year} up to and including {end}? Separate the names by commas.",
        ),
    ),
    SqlKind(
        "list-group",
        "set",
        _slots("group", "limit"),
        (("SELECT name FROM elements WHERE group_no = {group} AND number < {limit}",),),
        (
            "Which elements of group {group} have an atomic number below {limit}? List their names, with commas.",
            "List the elements of group {group} with a number under {limit}, with commas.",
            "Name all elements of group {group} whose atomic number is below {limit}, with commas between them.",
        ),
        ("Group {group}: which of its elements have a number below {limit}? Separate them by commas.",),
        ("Which elements before number {limit} stand in group {group}? Separate the names by commas.",),
    ),
    SqlKind(
        "densest",
        "text",
        _complete_slots("block", "density"),
        (
            (
                "SELECT name FROM elements WHERE block = {block} AND number < {limit} "
                "ORDER BY density DESC LIMIT 1",
            ),
            (
                "SELECT name FROM elements WHERE block = {block} AND number < {limit} AND density = "
                "(SELECT MAX(density) FROM elements WHERE block = {block} AND number < {limit})",
            ),
        ),
        (
            "Which element of block {block} with a number below {limit} has the highest density?",
            "Name the densest element of block {block} with an atomic number under {limit}.",
            "Of block {block}, up to number {limit} (not included), which element is the densest?",
        ),
        ("Block {block}, numbers below {limit}: which element has the highest density?",),
        ("Before number {limit}, where in block {block} is the density greatest? Name the element.",),
        ranked=("SELECT density FROM elements WHERE block = {block} AND number < {limit} ORDER BY 1 DESC LIMIT 2"),
    ),
    SqlKind(
        "mean-weight",
        "number",
        _slots("block", "limit"),
        (
            ("SELECT ROUND(AVG(weight), 2) FROM elements WHERE block = {block} AND number < {limit}",),
            ("SELECT ROUND(SUM(weight) / COUNT(*), 2) FROM elements WHERE block = {block} AND number < {limit}",),
        ),
        (
            "What is the average atomic weight in block {block}, for numbers below {limit}? Round to 2 decimals.",
            "Find the mean atomic weight of the elements of block {block} with a number under {limit}, rounded to 2 decimals.",
            "Block {block}, numbers below {limit}: what is the atomic weight on average? Round to 2 decimals.",
        ),
        ("The average atomic weight, with 2 decimals, of block {block} below number {limit}, please.",),
        ("Averaged over the part of block {block} before number {limit}, how heavy is an atom, to 2 decimals?",),
    ),
    # Two tables
    SqlKind(
        "series-of",
        "text",
        _slots("element"),
        (
            ("SELECT s.name FROM " + _ES + " WHERE e.name = {element}",),
            ("SELECT name FROM series WHERE id = (SELECT series_id FROM elements WHERE name = {element})",),
            (
                "SELECT series_id FROM elements WHERE name = {element}",
                "SELECT name FROM series WHERE id = {result}",
            ),
        ),
        (
            "To which series does {element} belong?",
            "[Find|Look up] the series of {element}.",
            "What is the name of the series of {element}?",
        ),
        ("{element} is in which series?",),
        ("Among which family of elements, by its series, is {element}?",),
    ),
    SqlKind(
        "count-series",
        "number",
        _slots("family", "limit"),
        (
            ("SELECT COUNT(*) FROM " + _ES + " WHERE s.name = {family} AND e.number < {limit}",),
            ("SELECT COUNT(*) FROM elements WHERE number < {limit} AND series_id = (" + _SERIES_ID + ")",),
            (_SERIES_ID, "SELECT COUNT(*) FROM elements WHERE number < {limit} AND series_id = {result}"),
        ),
        (
            "How many elements of the series {family} have an atomic number below {limit}?",
            "Count the elements of the series {family} with a number under {limit}.",
            "With a number below {limit}, how many elements are in the series {family}?",
        ),
        ("The series {family}: how many of its elements have a number below {limit}?",),
        ("How many elements before number {limit} are {family}, by their series?",),
    ),
    SqlKind(
        "list-series",
        "set",
        _slots("family", "density"),
        (
            ("SELECT e.name FROM " + _ES + " WHERE s.name = {family} AND e.density > {density}",),
            (_SERIES_ID, "SELECT name FROM elements WHERE series_id = {result} AND density > {density}"),
        ),
        (
            "Which elements of the series {family} have a density above {density}, of those whose density the database has? List their names, with commas.",
            "Of the elements of the series {family} whose density the database has, list those with one over {density}, with commas.",
            "Name all elements of the series {family} that are denser than {density}, of those whose density the database has, with commas between them.",
        ),
        (
            "The series {family}: which of its elements have a density above {density}, where the database has one? Separate them by commas.",
        ),
        (
            "Which of the {family} (a series) exceed a density of {density}, where the database has their density? Separate the names by commas.",
        ),
    ),
    SqlKind(
        "melting",
        "number",
        _slots("element"),
        (
            ("SELECT p.melting FROM " + _EP + " WHERE e.name = {element}",),
            ("SELECT melting FROM phases WHERE number = (" + _NUMBER + ")",),
            (_NUMBER, "SELECT melting FROM phases WHERE number = {result}"),
        ),
        (
            "What is the melting point of {element}, in kelvin?",
            "[Find|Look up] the melting point of {element} in kelvin.",
            "At how many kelvin does {element} melt?",
        ),
        ("{element}: what is the melting point in kelvin?",),
        ("From which temperature on, in kelvin, is {element} liquid?",),
    ),
    SqlKind(
        "liquid-range",
        "number",
        _slots("element"),
        (
            ("SELECT ROUND(p.boiling - p.melting, 2) FROM " + _EP + " WHERE e.name = {element}",),
            (_NUMBER, "SELECT ROUND(boiling - melting, 2) FROM phases WHERE number = {result}"),
        ),
        (
            "How many kelvin are there between the melting and the boiling point of {element}? Round to 2 decimals.",
            "Take the boiling point of {element} minus its melting point. What is it, rounded to 2 decimals?",
            "Subtract the melting point of {element} from its boiling point. Round to 2 decimals.",
        ),
        ("{element}: boiling point less melting point, with 2 decimals?",),
        ("Over how many kelvin does {element} stay liquid? Give 2 decimals.",),
    ),
    SqlKind(
        "count-boiling",
        "number",
        _slots("block", "kelvin"),
        (
            ("SELECT COUNT(*) FROM " + _EP + " WHERE e.block = {block} AND p.boiling < {kelvin}",),
            (
                "SELECT COUNT(*) FROM phases WHERE boiling < {kelvin} "
                "AND number IN (SELECT number FROM elements WHERE block = {block})",
            ),
        ),
        (
            "How many elements of block {block} boil below {kelvin} kelvin, of those whose boiling point the database has?",
            "Count the elements of block {block} with a boiling point under {kelvin} kelvin, among those whose boiling point the database has.",
            "In block {block}, how many of the elements whose boiling point the database has boil below {kelvin} kelvin?",
        ),
        (
            "Block {block}: how many of its elements have a boiling point below {kelvin} kelvin, where the database has one?",
        ),
        (
            "At {kelvin} kelvin, how many elements of block {block} are past their boiling point, where the database has it?",
        ),
    ),
    # Three tables
    SqlKind(
        "highest-melting",
        "text",
        _complete_slots("family", "melting_point"),
        (
            (
                "SELECT e.name FROM " + _ESP + " WHERE s.name = {family} AND e.number < {limit} "
                "ORDER BY p.melting DESC LIMIT 1",
            ),
            (
                _SERIES_ID,
                "SELECT e.name FROM " + _EP + " WHERE e.series_id = {result} AND e.number < {limit} "
                "ORDER BY p.melting DESC LIMIT 1",
            ),
        ),
        (
            "Which element of the series {family} with a number below {limit} has the highest melting point?",
            "Name the element with the highest melting point in the series {family}, numbers below {limit}.",
            "Of the series {family}, numbers below {limit}, which element melts last?",
        ),
        ("The series {family}, numbers below {limit}: which element has the highest melting point?",),
        ("Which of the {family} (a series) before number {limit} stays solid longest when heated?",),
        ranked=(
            "SELECT p.melting FROM " + _ESP + " WHERE s.name = {family} AND e.number < {limit} "
            "ORDER BY 1 DESC LIMIT 2"
        ),
    ),
    SqlKind(
        "mean-melting",
        "number",
        _complete_slots("family", "melting_point"),
        (
            ("SELECT ROUND(AVG(p.melting), 2) FROM " + _ESP + " WHERE s.name = {family} AND e.number < {limit}",),
            (
                "SELECT ROUND(AVG(melting), 2) FROM phases WHERE number IN (SELECT number FROM elements "
                "WHERE number < {limit} AND series_id = (" + _SERIES_ID + "))",
            ),
        ),
        (
            "What is the average melting point of the series {family} below number {limit}, in kelvin? Round to 2 decimals.",
            "Find the mean melting point of the elements of the series {family} with a number under {limit}, rounded to 2 decimals.",
            "The series {family}, numbers below {limit}: what is the melting point on average? Round to 2 decimals.",
        ),
        ("The average melting point, with 2 decimals, of the series {family} below number {limit}, please.",),
        (
            "Averaged over the {family} (a series) before number {limit}, at how many kelvin do they melt, to 2 decimals?",
        ),
    ),
    # Groups
    SqlKind(
        "most-found",
        "number",
        _draw_years,
        (
            (
                "SELECT period FROM elements WHERE discovered BETWEEN {year} AND {end} "
                "GROUP BY period ORDER BY COUNT(*) DESC LIMIT 1",
            ),
        ),
        (
            "Of the elements whose discovery year the database has, which period has the most discovered from {year} to {end}, both included? Give its number.",
            "Give the number of the period with the most elements discovered between {year} and {end}, both included, among those whose discovery year the database has.",
            "From {year} to {end} (both included), elements of which period were discovered most, of those whose discovery year the database has? Give its number.",
        ),
        (
            "Discovered in {year}, in {end} or between: which period has the most such elements, by the years that the database has?",
        ),
        (
            "Of what people found from {year} up to and including {end}, where the database has the year, the most is in which row of the periodic table?",
        ),
        ranked=(
            "SELECT COUNT(*) FROM elements WHERE discovered BETWEEN {year} AND {end} "
            "GROUP BY period ORDER BY 1 DESC LIMIT 2"
        ),
    ),
    SqlKind(
        "large-series",
        "set",
        _slots("limit", "period"),
        (
            ("SELECT s.name FROM " + _ES + " WHERE e.number < {limit} GROUP BY s.id HAVING COUNT(*) >= {period}",),
            (
                "SELECT series_id FROM elements WHERE number < {limit} GROUP BY series_id HAVING COUNT(*) >= {period}",
                "SELECT name FROM series WHERE id IN ({result})",
            ),
        ),
        (
            "Which series have at least {period} elements with a number below {limit}? List their names, with commas.",
            "List the series with {period} elements or more under the number {limit}, with commas.",
            "Name every series of which {period} or more elements have a number below {limit}, with commas between them.",
        ),
        ("Numbers below {limit}: which series have {period} elements or more? Separate them by commas.",),
        ("Which series count {period} or more elements before number {limit}? Separate the names by commas.",),
    ),
)

OOD_KINDS = (
    SqlKind(
        "denser-than",
        "number",
        _slots("element"),
        (
            (
                "SELECT COUNT(*) FROM elements WHERE density > (SELECT density FROM elements WHERE name = {element})",
            ),
            (
                "SELECT density FROM elements WHERE name = {element}",
                "SELECT COUNT(*) FROM elements WHERE density > {result}",
            ),
        ),
        (
            "How many elements have a higher density than {element}, of those whose density the database has?",
            "Count the elements that are denser than {element}, among those whose density the database has.",
        ),
        (),
        (),
    ),
    SqlKind(
        "melting-gap",
        "number",
        _draw_two,
        (
            (
                "SELECT ROUND((SELECT p.melting FROM " + _EP + " WHERE e.name = {element}) - "
                "(SELECT p.melting FROM " + _EP + " WHERE e.name = {other}), 2)",
            ),
            (
                "SELECT ROUND(a.melting - b.melting, 2) FROM phases a JOIN elements x ON x.number = a.number, "
                "phases b JOIN elements y ON y.number = b.number WHERE x.name = {element} AND y.name = {other}",
            ),
        ),
        (
            "Take the melting point of {element} minus that of {other}. What is it in kelvin, rounded to 2 decimals?",
            "Subtract the melting point of {other} from that of {element}, in kelvin. Round to 2 decimals.",
        ),
        (),
        (),
    ),
    SqlKind(
        "second-heaviest",
        "text",
        _slots("block", "limit"),
        (
            (
                "SELECT name FROM elements WHERE block = {block} AND number < {limit} "
                "ORDER BY weight DESC LIMIT 1 OFFSET 1",
            ),
        ),
        (
            "Which element of block {block} with a number below {limit} has the second highest atomic weight?",
            "Name the second heaviest element, by atomic weight, in block {block} before number {limit}.",
        ),
        (),
        (),
        ranked=(
            "SELECT weight FROM elements WHERE block = {block} AND number < {limit} "
            "ORDER BY 1 DESC LIMIT 2 OFFSET 1"
        ),
    ),
    SqlKind(
        "liquid-at",
        "number",
        _slots("family", "kelvin"),
        (
            (
                "SELECT COUNT(*) FROM " + _ESP + " WHERE s.name = {family} "
                "AND p.melting < {kelvin} AND p.boiling > {kelvin}",
            ),
            (
                _SERIES_ID,
                "SELECT COUNT(*) FROM " + _EP + " WHERE e.series_id = {result} "
                "AND {kelvin} BETWEEN p.melting AND p.boiling",
            ),
        ),
        (
            "How many elements of the series {family} are liquid at {kelvin} kelvin, of those whose melting and boiling points the database has?",
            "At {kelvin} kelvin, how many elements of the series {family} are between melting and boiling point, of those for which the database has both?",
        ),
        (),
        (),
    ),
    SqlKind(
        "same-series",
        "number",
        _slots("element"),
        (
            (
                "SELECT COUNT(*) FROM elements WHERE name <> {element} "
                "AND series_id = (SELECT series_id FROM elements WHERE name = {element})",
            ),
            (
                "SELECT COUNT(*) FROM elements a JOIN elements b ON b.series_id = a.series_id "
                "WHERE a.name = {element} AND b.name <> {element}",
            ),
        ),
        (
            "How many other elements are in the same series as {element}?",
            "Apart from {element} itself, how many elements are of its series?",
        ),
        (),
        (),
    ),
    SqlKind(
        "known-share",
        "number",
        _slots("period", "kelvin"),
        (
            (
                "SELECT ROUND(100.0 * SUM(p.melting < {kelvin}) / COUNT(*), 1) FROM " + _EP + " "
                "WHERE e.period = {period} AND p.melting IS NOT NULL",
            ),
            ("SELECT ROUND(100 * AVG(p.melting < {kelvin}), 1) FROM " + _EP + " WHERE e.period = {period}",),
        ),
        (
            "Of the elements of period {period} with a known melting point, how many percent melt below {kelvin} kelvin? Round to 1 decimal.",
            "In period {period}, which percentage of the known melting points is below {kelvin} kelvin? Round to 1 decimal.",
        ),
        (),
        (),
    ),
)
