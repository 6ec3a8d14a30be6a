"""The code box: one tool, `python`, that runs programs in a sandboxed interpreter.

Programs run in Monty, a Python interpreter without files, network, clock and other processes, in a process of its
own (`mentor_gym.tools.monty`). Time, memory, depth and output are limited, the clock stands still at the start of
2026, and `random` is seeded, so that the same programs print the same texts everywhere.

What a program defines stays for the later ones of the episode. The state of the box is the list of the programs
that succeeded; what they made is made again from them where it is needed: after a program that failed, which
leaves nothing behind, after another environment used the interpreter, and in a clone. So no environment holds a
process, and a saved state is small, can be read, and is as harmless as a program: what it may compute is limited
too (`mentor_gym.tools.monty.REPLAY_S`).
"""

from __future__ import annotations

import collections
import keyword
import logging
import re
from types import MappingProxyType
from typing import Any

import msgspec

from mentor_gym.tools import monty_wire
from mentor_gym.tools.base import Tool, ToolBox, ToolError
from mentor_gym.tools.monty import COMPUTING_S, MAX_REFUSALS, MEMORY_BYTES, RECURSION, Interpreter, Reply, Session
from mentor_gym.tools.monty_worker import FLOOD_CHARS, InterpreterLost, find_monty

MAX_CODE_CHARS = 10_000
MAX_ERROR_CHARS = 300
MAX_PRINTED_CHARS = 600
NOTHING_PRINTED = "(the program printed nothing; only what print() writes is shown)"
STOPPED = {
    "time": f"the program was stopped: the programs of an episode may compute for {COMPUTING_S:g} s in all",
    "memory": f"the program was stopped: it needs more than {MEMORY_BYTES >> 20} MB of memory",
    "flood": f"the program was stopped: it put out more than {FLOOD_CHARS:,} characters",
    "refusals": f"the program was stopped: it asked more than {MAX_REFUSALS:,} times for what there is not",
    "crash": "the program was stopped: the interpreter failed",
    "replay": "the variables of earlier programs are lost: one of them did not run again as it had",
}
UNDONE = "Nothing that it defined or changed is kept."
_UNSUPPORTED = "NotImplementedError: The monty syntax parser does not yet support"
_NO_ATTRIBUTE = re.compile(r"AttributeError: (?:type object )?'(\w+)' (?:object )?has no attribute '(\w+)'")
_TYPES = (str, bytes, list, tuple, dict, set, frozenset, collections.Counter)
# What these have in Python, and not in Monty.
_LACKING = {
    "str": {"format_map", "maketrans", "translate"},
    "bytes": {"expandtabs", "maketrans", "translate"},
    "set": {"difference_update", "intersection_update", "symmetric_difference_update"},
}
_METHODS = {kind.__name__: set(dir(kind)) - _LACKING.get(kind.__name__, set()) for kind in _TYPES}
_log = logging.getLogger(__name__)

_DESCRIPTION = (
    "Run a Python program and return what it prints. "
    "Variables, functions and imports stay for later calls; a program that fails changes nothing. "
    "Modules: math, random, itertools, functools, operator, collections, datetime, calendar, re, string, json, "
    "csv, decimal, fractions, statistics, heapq, bisect, copy, dataclasses, typing, hashlib, base64. "
    "A subset of Python: no yield, no del, no class inheritance, so no own exceptions, no @property, "
    "@staticmethod, @classmethod, no __lt__, OrderedDict, bytearray, str.maketrans, date.toordinal, "
    "date.isocalendar, calendar.month, string.Template, functools.cmp_to_key, sys.stdout.write, "
    "from itertools import *, no strptime of a time alone, and no function as replacement in re.sub; a method of "
    "a built-in value can be called but not passed on (write key=lambda k: d.get(k)); generator expressions and "
    "map() are lists. No input, files or network. "
    f"Limits: {COMPUTING_S:g} s of computing per episode, {MEMORY_BYTES >> 20} MB, recursion {RECURSION} deep. "
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

_interpreter = Interpreter()


def shared_interpreter() -> Interpreter:
    """Return the interpreter of all boxes of this process; it starts nothing before the first program.

    >>> shared_interpreter() is shared_interpreter()
    True
    """
    return _interpreter


class CodeBox(ToolBox):
    """The tool `python`, and the programs of the episode behind it.

    `open` takes a task's state: `seed`, a whole number for `random` (0 without), and `variables`, which programs
    find defined: JSON values by name.

    Args:
        interpreter: What runs the programs; None takes the one of this process.

    >>> box = CodeBox()
    >>> box.open({"variables": {"prices": [3, 4]}})
    >>> box.tools["python"].call({"code": "total = sum(prices)"}).output
    '(the program printed nothing; only what print() writes is shown)'
    >>> box.tools["python"].call({"code": "print(total / 0)"}).output.splitlines()
    ['error: python: line 1: ZeroDivisionError: division by zero', 'Nothing that it defined or changed is kept.']
    >>> box.tools["python"].call({"code": "print(total)"}).output
    '7'
    """

    # Another release may print other addresses and know another subset.
    versions = MappingProxyType({"monty": monty_wire.RELEASE})

    def __init__(self, interpreter: Interpreter | None = None) -> None:
        self._interpreter = shared_interpreter() if interpreter is None else interpreter
        self._session = Session()
        super().__init__([Tool(self._python, "python", _DESCRIPTION, _PARAMETERS)])

    def _python(self, code: str) -> str:
        try:
            reply = self._interpreter.run(self._session, code)
        except InterpreterLost as error:
            _log.error("the code tool's interpreter cannot be started: %s", error)
            raise ToolError("the interpreter is not available") from None
        if reply.kind == "ok":
            return reply.text.removesuffix("\n") or NOTHING_PRINTED
        if reply.kind == "replay":
            self._session.programs.clear()
        raise ToolError(_explain(reply))

    def open(self, state: dict[str, Any] | None) -> None:
        """Begin an episode without programs.

        Raises:
            ModuleNotFoundError: Monty is not installed.
            ValueError: The state is not one of this box.
        """
        if find_monty() is None:
            release = f"pydantic-monty-runtime=={monty_wire.RELEASE}"
            raise ModuleNotFoundError(f"the code tool needs Monty: pip install {release}")
        self.close()
        self._session = _read_state(state or {})

    def snapshot(self) -> bytes:
        """Return the programs that succeeded, as JSON."""
        return msgspec.json.encode(self._session.programs)

    def restore(self, snapshot: bytes) -> None:
        """Take up the programs of a snapshot; they are run when the next program comes.

        Raises:
            ValueError: The snapshot is not one of this box.
        """
        try:
            programs = msgspec.json.decode(snapshot, type=list[str])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ValueError("a snapshot of the code box is a JSON list of programs") from None
        self._interpreter.release(self._session)
        self._session = Session(self._session.seed, self._session.variables)
        self._session.programs = programs

    def close(self) -> None:
        """Forget the programs, and free what they made."""
        self._interpreter.release(self._session)
        self._session = Session(self._session.seed, self._session.variables)


def code_box() -> CodeBox:
    """Build the code box.

    >>> code_box().tools["python"].call({"code": "print(2 ** 10)"}).output
    '1024'
    """
    return CodeBox()


def _read_state(state: dict[str, Any]) -> Session:
    seed, variables = state.get("seed", 0), state.get("variables", {})
    unknown = sorted(set(state) - {"seed", "variables"})
    if unknown:
        raise ValueError(f"state of a code task: {unknown[0]!r} is unknown; there are seed and variables")
    if type(seed) is not int:
        raise ValueError(f"state of a code task: seed must be a whole number, got {seed!r}")
    if not isinstance(variables, dict) or not all(map(_is_name, variables)):
        raise ValueError("state of a code task: variables must be values by name")
    return Session(seed, variables)


def describe_error(error: str, line: int | None, printed: str, note: str = "") -> str:
    r"""Write what a failed program's result says.

    Args:
        error: Type and message of the error.
        line: In which line of the program it was; None when in none of it.
        printed: What the program had printed.
        note: A line about what follows from the error.

    >>> describe_error("ZeroDivisionError: division by zero", 2, "7\n")
    'line 2: ZeroDivisionError: division by zero\nIt had printed:\n7'
    """
    if len(error) > MAX_ERROR_CHARS:
        error = f"{error[:MAX_ERROR_CHARS]} …[cut]"
    printed = printed.removesuffix("\n")
    if len(printed) > MAX_PRINTED_CHARS:
        printed = f"{printed[:MAX_PRINTED_CHARS]} …[cut]"
    where = "" if line is None else f"line {line}: "
    return "\n".join(filter(None, [where + error, note, f"It had printed:\n{printed}" if printed else ""]))


def _explain(reply: Reply) -> str:
    if reply.kind == "replay":
        return STOPPED["replay"]
    if reply.kind != "error":
        return f"{STOPPED[reply.kind]}\n{UNDONE}"
    error = reply.text
    if error.startswith(_UNSUPPORTED):
        error = f"SyntaxError: this subset of Python does not support{error.removeprefix(_UNSUPPORTED)}"
    match = _NO_ATTRIBUTE.fullmatch(error)
    if match and not match[2].startswith("_") and match[2] in _METHODS.get(match[1], ()):
        # Monty's words for `key=d.get`: it has the method, but not as a value.
        error += " as a value; to pass a method on, write a lambda that calls it"
    return describe_error(error, reply.line, reply.printed, UNDONE)


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)
