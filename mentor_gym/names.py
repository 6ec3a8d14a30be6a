"""Names: what `module:attribute` names, and help with names that are not known; imports nothing heavy."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
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


def import_attribute(path: str, what: str, error: type[ValueError] = ValueError) -> Any:
    """Return what `module:attribute` names; modules beside where the command is run are found too.

    Args:
        path: The name.
        what: What it is wanted for, for the message.
        error: The exception to raise.

    Raises:
        ValueError: Or `error`: the module cannot be imported, or has no such attribute.

    >>> import_attribute("string:digits", "example")
    '0123456789'
    """
    module_name, _, attribute = path.partition(":")
    # A user's module beside where the command is run; console scripts do not put it on the path.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as reason:
        raise error(f"cannot import {module_name!r} for {what} {path!r}: {reason}") from reason
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise error(f"module {module_name!r} has no {attribute!r}")
        found = getattr(found, name)
    return found
