"""What the commands share in talking to a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text


def complain(message: str) -> None:
    """Print a line in red on stderr.

    >>> complain("the file is empty")
    """
    Console(stderr=True, highlight=False).print(Text(message, style="red"), soft_wrap=True)


def one_line(text: str) -> str:
    r"""Write a text of several lines in one.

    >>> one_line("not a row:\n  the field is missing")
    'not a row: the field is missing'
    """
    return " ".join(text.split())
