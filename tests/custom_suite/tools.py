"""The tools of the example suite: a price list, a stock count, and multiplication."""

from __future__ import annotations

from mentor_gym.tools import ToolError, tool

PRICES = {"apple": 0.5, "bread": 3.2, "cheese": 7.25, "milk": 1.1, "tea": 4.0}
STOCK = {"apple": 120, "bread": 14, "cheese": 6, "milk": 40, "tea": 25}


def _look_up(table: dict[str, float], item: str) -> float:
    try:
        return table[item.lower()]
    except KeyError:
        raise ToolError(f"the shop has no {item!r}; it has {', '.join(table)}") from None


@tool
def price(item: str) -> float:
    """Price of one item in euros.

    Args:
        item: Name of the item, in the singular.
    """
    return _look_up(PRICES, item)


@tool
def stock(item: str) -> float:
    """How many of an item the shop has.

    Args:
        item: Name of the item, in the singular.
    """
    return _look_up(STOCK, item)


@tool
def multiply(a: float, b: float) -> float:
    """A times b."""
    return round(a * b, 2)
