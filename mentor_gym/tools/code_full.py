"""The code box with numpy and sympy: one tool, `python`, that runs programs of this Python in a sandbox.

The sandbox needs bubblewrap, user namespaces and a filter of system calls (`mentor_gym.tools.zygote`). Where it
cannot be had, an episode cannot begin: `open` raises, and with it an environment's `reset`. A program is never run
outside it.

Each program stands alone: nothing stays for later ones, so that there is no state to save.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mentor_gym.tools.base import Tool, ToolBox, ToolError
from mentor_gym.tools.code import MAX_CODE_CHARS, NOTHING_PRINTED, describe_error
from mentor_gym.tools.zygote import (
    COMPUTING_S,
    FLOOD_CHARS,
    MEMORY_BYTES,
    PACKAGES,
    Zygote,
    ZygoteLost,
    unavailable,
)

STOPPED = {
    "time": f"the program was stopped: it may compute for {COMPUTING_S:g} s",
    "memory": f"the program was stopped: it needs more than {MEMORY_BYTES >> 20} MB of memory",
    "flood": f"the program was stopped: it put out more than {FLOOD_CHARS:,} characters",
    "crash": "the program ended the interpreter",
}
_DESCRIPTION = (
    "Run a Python program and return what it prints. "
    "Each call is a program of its own: variables and imports do not stay for later calls. "
    "The standard library, numpy, sympy and mpmath can be imported. "
    "No input, files, network, threads or other processes. "
    f"Limits: {COMPUTING_S:g} s of computing per call, {MEMORY_BYTES >> 20} MB. "
    "The clock stands at 2026-01-01."
)
_PARAMETERS = {
    "type": "object",
    "properties": {
        "code": {
            "type": "string",
            "maxLength": MAX_CODE_CHARS,
            "description": "The program; it must print its results.",
        }
    },
    "required": ["code"],
}
_log = logging.getLogger(__name__)
_zygote = Zygote()


class SandboxUnavailable(RuntimeError):
    """This machine has no sandbox for programs; says why."""


def shared_zygote() -> Zygote:
    """Return the sandbox of all boxes of this process; it starts nothing before the first program.

    >>> shared_zygote() is shared_zygote()
    True
    """
    return _zygote


class FullCodeBox(ToolBox):
    """The tool `python`, with numpy and sympy.

    `open` takes a task's state: `seed`, a whole number that everything random follows from (0 without).

    Args:
        zygote: What runs the programs; None takes the one of this process.

    >>> box = FullCodeBox()
    >>> "sympy" in box.tools["python"].description
    True
    """

    def __init__(self, zygote: Zygote | None = None) -> None:
        self._zygote = shared_zygote() if zygote is None else zygote
        self._seed = 0
        super().__init__([Tool(self._python, "python", _DESCRIPTION, _PARAMETERS)])

    @property
    def versions(self) -> Mapping[str, str]:
        """Python's and the packages'."""
        return _versions()

    def _python(self, code: str) -> str:
        try:
            outcome = self._zygote.run(code, self._seed)
        except ZygoteLost as error:
            _log.error("the sandbox of the code tool cannot be started: %s", error)
            raise ToolError("the interpreter is not available") from None
        if outcome.kind == "ok":
            return outcome.text.removesuffix("\n") or NOTHING_PRINTED
        if outcome.kind == "error":
            raise ToolError(describe_error(outcome.error, outcome.line, outcome.text))
        raise ToolError(STOPPED.get(outcome.kind, STOPPED["crash"]))

    def open(self, state: dict[str, Any] | None) -> None:
        """Begin an episode.

        Raises:
            SandboxUnavailable: Programs cannot be run safely on this machine.
            ValueError: The state is not one of this box.
        """
        reason = unavailable()
        if reason is not None:
            raise SandboxUnavailable(f"code-full is unavailable: {reason}")
        state = state or {}
        unknown = sorted(set(state) - {"seed"})
        if unknown:
            raise ValueError(f"state of a code-full task: {unknown[0]!r} is unknown; there is seed")
        seed = state.get("seed", 0)
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ValueError(f"state of a code-full task: seed must be a whole number below 2**32, got {seed!r}")
        self._seed = seed


def code_full_box() -> FullCodeBox:
    """Build the code box with numpy and sympy.

    >>> list(code_full_box().tools)
    ['python']
    """
    return FullCodeBox()


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found
