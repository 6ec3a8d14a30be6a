"""Help with names that are not known; imports nothing heavy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

# Longer than any name worth a hint: comparing takes time that grows with the length.
_MAX_CHARS = 100


def nearest(name: Any, known: Iterable[str]) -> str:
    """Return the end of an error message that names the known name nearest to `name`, whatever its case.

    Args:
        name: What was given; anything but text resembles nothing.
        known: The names that would have been understood.

    Returns:
        A hint to append to the message; empty when no known name is near.

    >>> nearest("Maths", ["math", "facts"])
    "; did you mean 'math'?"
    >>> nearest("chess", ["math", "facts"])
    ''
    """
    if not isinstance(name, str):
        return ""
    folded = {item.casefold(): item for item in known}
    found = difflib.get_close_matches(name[:_MAX_CHARS].casefold(), folded, n=1)
    return f"; did you mean {folded[found[0]]!r}?" if found else ""
