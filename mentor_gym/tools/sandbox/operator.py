"""`operator`: what operators do, as functions."""

from typing import Any


def add(a: Any, b: Any) -> Any:
    """Return a + b."""
    return a + b


def sub(a: Any, b: Any) -> Any:
    """Return a - b."""
    return a - b


def mul(a: Any, b: Any) -> Any:
    """Return a * b."""
    return a * b


def truediv(a: Any, b: Any) -> Any:
    """Return a / b."""
    return a / b


def floordiv(a: Any, b: Any) -> Any:
    """Return a // b."""
    return a // b


def mod(a: Any, b: Any) -> Any:
    """Return a % b."""
    return a % b


def neg(a: Any) -> Any:
    """Return -a."""
    return -a


def xor(a: Any, b: Any) -> Any:
    """Return a ^ b."""
    return a ^ b


def itemgetter(*items: Any) -> Any:
    """Return a function that takes one item, or a tuple of items, of its argument."""
    if len(items) == 1:
        return lambda value: value[items[0]]
    return lambda value: tuple([value[item] for item in items])


def attrgetter(name: str) -> Any:
    """Return a function that takes an attribute of its argument."""
    return lambda value: getattr(value, name)
