"""Tool boxes of imported sets: tools whose results were recorded, and tools whose source text came along.

Rows of such a set offer different tools, and two rows may give the same name to different ones. The schemas stand
in a catalogue, each once, and a row's `state` says by position which of them it means.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import msgspec

from mentor_gym.data import DataError
from mentor_gym.protocol import to_json
from mentor_gym.tools import monty_wire
from mentor_gym.tools.base import Tool, ToolBox, ToolError
from mentor_gym.tools.code import shared_interpreter
from mentor_gym.tools.monty import Interpreter, Reply, Session

MAX_RESULT_CHARS = 20_000
MAX_ERROR_CHARS = 300
# What a call answers whose result nobody recorded.
ACCEPTED = "accepted"
NOT_RECORDED = "no recorded result for these arguments"
STOPPED = {
    "time": "the tool was stopped: it computes too long",
    "memory": "the tool was stopped: it needs too much memory",
    "flood": "the tool was stopped: it puts out too much",
    "refusals": "the tool was stopped: it asks for what there is not",
    "crash": "the tool was stopped: the interpreter failed",
    "replay": "the source of the tools does not run",
}


class _Contents(msgspec.Struct, forbid_unknown_fields=True):
    tools: list[dict[str, Any]]
    sources: list[str] = []


class Catalogue:
    """The tools of a set, each once, and the source texts behind them.

    Args:
        schemas: OpenAI function schemas; a name may stand in several.
        sources: Python source texts; none for recorded tools.

    >>> catalogue = Catalogue([{"type": "function", "function": {"name": "now", "parameters": {}}}])
    >>> [tool.name for tool in catalogue.tools]
    ['now']
    """

    def __init__(self, schemas: Sequence[dict[str, Any]], sources: Sequence[str] = ()) -> None:
        self.tools = [_tool(schema) for schema in schemas]
        self.sources = tuple(sources)

    @classmethod
    def read(cls, path: str | Path) -> Catalogue:
        """Read a `tools.json`.

        Raises:
            DataError: The file is not one.
        """
        try:
            contents = msgspec.json.decode(Path(path).read_bytes(), type=_Contents)
            return cls(contents.tools, contents.sources)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not a catalogue of tools: {str(error).splitlines()[0]}") from None

    def write(self) -> bytes:
        """Return the contents of a `tools.json`."""
        contents = {"tools": [tool.schema for tool in self.tools], "sources": list(self.sources)}
        return msgspec.json.format(msgspec.json.encode(contents), indent=1) + b"\n"


def _tool(schema: dict[str, Any]) -> Tool:
    function = schema["function"]
    parameters = function.get("parameters") or {}
    return Tool(_unbound, function["name"], function.get("description", ""), parameters, MAX_RESULT_CHARS)


def _unbound(**arguments: Any) -> NoReturn:
    raise ToolError("no episode is running")


class CatalogueBox(ToolBox):
    """A box whose tools are those of a catalogue; a task's state chooses among tools of the same name."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        first: dict[str, Tool] = {}
        for tool in catalogue.tools:
            first.setdefault(tool.name, tool)
        super().__init__(map(self._bind, first.values()))

    def _bind(self, tool: Tool) -> Tool:
        """Return a tool of this box with the validator of the catalogue's: making one takes long."""
        bound = copy.copy(tool)
        bound.function = self._function(tool)
        return bound

    def _function(self, tool: Tool) -> Callable[..., str]:
        return lambda **arguments: self._call(tool, arguments)

    def _call(self, tool: Tool, arguments: dict[str, Any]) -> str:
        raise NotImplementedError

    def _choose(self, positions: Any) -> None:
        """Take up the tools at these positions of the catalogue.

        Raises:
            ValueError: They are not positions of it.
        """
        tools = self.catalogue.tools
        if not isinstance(positions, list) or not all(type(i) is int and 0 <= i < len(tools) for i in positions):
            raise ValueError("state of an imported task: tools must be positions in tools.json")
        for position in positions:
            tool = tools[position]
            self.tools[tool.name] = self._bind(tool)


class RecordedBox(CatalogueBox):
    """Tools of which only the recorded results are known.

    A call that was recorded returns its result; of a call recorded several times, each time the next result, and
    then the last one. Any other call is an error. Where no result was recorded at all, every call that fits its
    schema is accepted, and `final_state` tells which were made.

    `open` takes a task's state: `tools`, positions in the catalogue, and `calls`, a list of
    `{"name": …, "arguments": {…}, "result": text or null}`.

    >>> schema = {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {}}}}}
    >>> box = RecordedBox(Catalogue([schema]))
    >>> box.open({"tools": [0], "calls": [{"name": "weather", "arguments": {"city": "Oslo"}, "result": "snow"}]})
    >>> box.tools["weather"].call({"city": "Oslo"}).output, box.tools["weather"].call({"city": "Rome"}).output
    ('snow', 'error: weather: no recorded result for these arguments')
    >>> box.final_state()
    ['weather {"city": "Oslo"}']
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._results: dict[str, list[str | None]] = {}
        self._made: list[str] = []
        super().__init__(catalogue)

    def open(self, state: dict[str, Any] | None) -> None:
        """Begin an episode in which no call has been made.

        Raises:
            ValueError: The state is not one of this box.
        """
        state = state or {"tools": [], "calls": []}
        if set(state) != {"tools", "calls"}:
            raise ValueError("state of a task with recorded tools: expected tools and calls")
        self._choose(state["tools"])
        self._made = []
        self._results = {}
        for call in state["calls"]:
            try:
                name, arguments, result = call["name"], call["arguments"], call["result"]
                key = call_key(self.tools[name], arguments)
            except (KeyError, TypeError, AttributeError):
                raise ValueError(
                    "state of a task with recorded tools: a call needs the name of a tool, arguments and result"
                ) from None
            self._results.setdefault(key, []).append(result)

    @property
    def _accepts_all(self) -> bool:
        recorded = [result for results in self._results.values() for result in results]
        return bool(recorded) and all(result is None for result in recorded)

    def _call(self, tool: Tool, arguments: dict[str, Any]) -> str:
        key = call_key(tool, arguments)
        results = self._results.get(key)
        if results is None:
            if not self._accepts_all:
                raise ToolError(NOT_RECORDED)
            self._made.append(key)
            return ACCEPTED
        result = results[min(self._made.count(key), len(results) - 1)]
        self._made.append(key)
        return ACCEPTED if result is None else result

    def final_state(self) -> list[str]:
        """Return the calls that were made, sorted, with arguments that equal their default left out.

        A recorded call counts as often as it was recorded: to look something up again changes nothing. Where no
        result was recorded every call counts, because there was nothing to learn from one.
        """
        made = Counter(self._made)
        if not self._accepts_all:
            made = Counter({key: min(count, len(self._results.get(key, ()))) for key, count in made.items()})
        return sorted(made.elements())

    def snapshot(self) -> bytes:
        """Return the calls that were made, as JSON."""
        return msgspec.json.encode(self._made)

    def restore(self, snapshot: bytes) -> None:
        """Take up the calls of a snapshot.

        Raises:
            ValueError: The snapshot is not one of this box.
        """
        try:
            self._made = msgspec.json.decode(snapshot, type=list[str])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ValueError("a snapshot of recorded tools is a JSON list of calls") from None

    def close(self) -> None:
        """Forget the calls."""
        self._results, self._made = {}, []


def call_key(tool: Tool, arguments: Mapping[str, Any]) -> str:
    """Write a call so that equal calls are equal texts.

    The order of keys does not matter, 5.0 is 5, and an argument that equals its default counts as left out.

    >>> tool = _tool({"function": {"name": "f", "parameters": {"properties": {"a": {}, "b": {"default": 2}}}}})
    >>> call_key(tool, {"b": 2.0, "a": {"y": 1, "x": 0}})
    'f {"a": {"x": 0, "y": 1}}'
    """
    properties = tool.parameters.get("properties") or {}
    kept = {}
    for name in sorted(arguments):
        value, schema = _canonical(arguments[name]), properties.get(name)
        default = schema.get("default", ...) if isinstance(schema, dict) else ...
        if default is ... or to_json(_canonical(default)) != to_json(value):
            kept[name] = value
    return f"{tool.name} {to_json(kept)}"


def recorded_state(tools: Mapping[str, Tool], calls: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what `RecordedBox.final_state` is when exactly the recorded calls were made.

    >>> tool = _tool({"function": {"name": "now"}})
    >>> recorded_state({"now": tool}, [{"name": "now", "arguments": {}, "result": "noon"}])
    ['now {}']
    """
    return sorted(call_key(tools[call["name"]], call["arguments"]) for call in calls)


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class SourceBox(CatalogueBox):
    r"""Tools whose Python source text came with the data; it runs in the sandboxed interpreter of the code box.

    For every call the source is run anew and then the call, so that no call can change what another returns. The
    result is what the function returns, as `print` writes it, after whatever it prints itself.

    `open` takes a task's state: `tools`, positions in the catalogue, and `source`, the position of their source.

    Args:
        catalogue: The tools and the sources.
        interpreter: What runs the source; None takes the one of this process.

    >>> schema = {"type": "function", "function": {"name": "twice", "parameters": {"properties": {"x": {}}}}}
    >>> box = SourceBox(Catalogue([schema], ["def twice(x):\n    return 2 * x"]))
    >>> box.open({"tools": [0], "source": 0})
    >>> box.tools["twice"].call({"x": 21}).output
    '42'
    """

    # Another release of the interpreter may know another subset of Python.
    versions = MappingProxyType({"monty": monty_wire.RELEASE})

    def __init__(self, catalogue: Catalogue, interpreter: Interpreter | None = None) -> None:
        self._interpreter = shared_interpreter() if interpreter is None else interpreter
        self._source = ""
        super().__init__(catalogue)

    def open(self, state: dict[str, Any] | None) -> None:
        """Take up the tools and the source of a task.

        Raises:
            ValueError: The state is not one of this box.
        """
        state = state or {"tools": [], "source": 0}
        sources = self.catalogue.sources
        if set(state) != {"tools", "source"}:
            raise ValueError("state of a task with source texts: expected tools and source")
        if type(state["source"]) is not int or not 0 <= state["source"] < len(sources):
            raise ValueError("state of a task with source texts: source must be a position in tools.json")
        self._choose(state["tools"])
        self._source = sources[state["source"]]

    def _call(self, tool: Tool, arguments: dict[str, Any]) -> str:
        # Arguments are JSON values: their repr is Python for the same values and nothing else.
        call = f"_result = {tool.name}(**{arguments!r})\nif _result is not None: print(_result)"
        reply = run_source(self._interpreter, self._source, call)
        if reply.kind == "ok":
            return reply.text.removesuffix("\n")
        raise ToolError(STOPPED.get(reply.kind, reply.text[:MAX_ERROR_CHARS]))


def run_source(interpreter: Interpreter, source: str, program: str) -> Reply:
    """Run a program after a source text in a session of its own, and free what they made.

    >>> run_source(shared_interpreter(), "x = 6", "print(7 * x)").text.strip()
    '42'
    """
    session = Session()
    session.programs = [source]
    try:
        return interpreter.run(session, program)
    finally:
        interpreter.release(session)
