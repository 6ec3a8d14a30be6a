"""What the commands share: options, and how they talk to a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.text import Text

SuiteOption = Annotated[str, typer.Option("--suite", help="A suite's name, or the path of a suite.yaml.")]
TemperatureOption = Annotated[
    float | None, typer.Option("--temperature", min=0.0, help="Sampling temperature; 0 is greedy.")
]


class Interrupted(Exception):
    """Ctrl-C, or a wish to stop, in a command that knows how it can be continued; the message says how.

    Attributes:
        exit_code: What the process exits with.
    """

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code


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


@contextmanager
def resumable(how: str) -> Iterator[None]:
    """Turn Ctrl-C into an `Interrupted` that says how the command is continued."""
    try:
        yield
    except KeyboardInterrupt as error:
        # What stopped it may have more to say, and another exit code: see `agents.log.Interrupted`.
        raise Interrupted(" ".join([str(error), how]).strip(), getattr(error, "exit_code", 130)) from None


def read_pairs(option: str, pairs: Sequence[str] | None) -> dict[str, Any]:
    """Read the `key=value` texts of an option, the values in YAML."""
    read = {}
    for pair in pairs or ():
        key, separator, text = pair.partition("=")
        if not separator or not key.isidentifier():
            raise ValueError(f"{option} {pair!r}: expected key=value")
        read[key] = yaml.safe_load(text)
    return read
