"""The MCP box: the tools of any MCP server as an environment's tools. Needs the extra `mcp`.

A suite's YAML file names a server by the command that starts it, `tools: "mcp:python server.py"`; a program may
give a server object of the SDK as well. What drives the server is in `mentor_gym.tools.mcp_client`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mentor_gym.protocol import clean, neutralise
from mentor_gym.tools.base import MAX_OUTPUT_CHARS, Tool, ToolBox, ToolError
from mentor_gym.tools.mcp_client import (
    START_S,
    TOO_LARGE,
    Command,
    Connection,
    Down,
    Listing,
    McpError,
    Refused,
    Session,
    close_servers,
)

if TYPE_CHECKING:
    import mcp_types

DEFAULT_TIMEOUT_S = 30.0
MAX_DESCRIPTION_CHARS = 1_000
STATE_LOST = "the tool server's state is lost: it answers otherwise than before"
# Where schemas stand in a schema: one, a list of them, or several by name.
_ONE = (
    "additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
_LISTED = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_NAMED = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
# With these, what an object may hold stands in several places, none of which may refuse what the others name.
_SPREAD = ("$dynamicRef", "allOf", "dependentSchemas", "if", "not", "unevaluatedProperties")

_log = logging.getLogger(__name__)
_shared: dict[tuple[Command, float, float], Connection] = {}
_listings: dict[Command, Listing] = {}


class McpBox(ToolBox):
    """The tools of an MCP server.

    The server is started when its tools are first asked for, which is when a suite loads its rows, and ended
    again; then at the first call, and from there on it runs until the process ends. All environments of a process
    share it. A forked or spawned process starts its own.

    Without `stateful`, a box has no state: the server must answer a call regardless of the calls before it, as it
    gets those of many episodes mixed. With `stateful`, every environment has a server of its own, started anew at
    the first call of every episode; `snapshot` holds the calls that were answered, and `restore` makes them again
    on a new server, and refuses when it answers otherwise.

    A tool whose name does not match `[A-Za-z_][A-Za-z0-9_-]{0,63}`, whose arguments are no plain object, or whose
    description cannot be read, is left out, with a warning in the log. In schemas, titles are dropped, objects
    that do not say what else they may hold are closed, and texts are cleaned of protocol markers. A result is its
    texts; other contents become a mark, such as `[image]`.

    A call fails with a fixed text when the server has ended, does not answer in time, replies with too much or
    with what cannot be read, or has other tools than before. The next call starts it again, once an episode; after
    a second failure the tools stay down until an episode begins, of any environment that shares them. A start that
    failed after more than a second, of a server that hangs for example, is not tried again for ten times as long,
    and calls fail at once until then; `close_servers` ends that rest.

    Args:
        server: The command that starts it, as a text or in words; `python` means the interpreter that runs this
            process. Or a server object of the SDK, which runs in a thread of this process, or a function that
            makes one; a tool that never returns then keeps its thread.
        folder: The working directory of a command; None takes this process's.
        variables: Environment variables for a command, besides a few such as `PATH` and `HOME`.
        timeout: Seconds that a call may take.
        stateful: Whether calls change what later calls return.
        max_output_chars: Longer results are cut.
        start_timeout: Seconds that the server may take to start, and to list its tools.

    Raises:
        ValueError: An argument is out of range, or `stateful` comes with a server object, which cannot be started
            anew.
        ModuleNotFoundError: The extra is not installed.

    Attributes:
        down: Why the last call did not reach its tool, or lost its reply; None when all was well.

    >>> from mcp.server.mcpserver import MCPServer
    >>> server = MCPServer("clock")
    >>> @server.tool()
    ... def now(zone: str) -> str:
    ...     '''The time in a zone.'''
    ...     return f"noon in {zone}"
    >>> box = McpBox(server)
    >>> box.tools["now"].call({"zone": "Ghent"}).output
    'noon in Ghent'
    >>> box.tools["now"].call({"zone": 7}).output
    'error: now: argument "zone": 7 is not of type "string"'
    >>> close_servers()
    """

    def __init__(
        self,
        server: Any,
        folder: str | None = None,
        variables: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        stateful: bool = False,
        max_output_chars: int = MAX_OUTPUT_CHARS,
        start_timeout: float = START_S,
    ) -> None:
        if importlib.util.find_spec("mcp") is None:
            message = "tools of MCP servers need the package mcp: pip install 'mentor-gym[mcp]'"
            raise ModuleNotFoundError(message, name="mcp")
        for argument, seconds in (("timeout", timeout), ("start_timeout", start_timeout)):
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e6:
                raise ValueError(f"{argument} must be a positive number of seconds, got {seconds!r}")
        if isinstance(server, str):
            server = shlex.split(server)
        if isinstance(server, Sequence):
            if not server or not all(isinstance(word, str) for word in server):
                raise ValueError("the command of an MCP server must be a program and its arguments")
            server = Command(tuple(server), folder, tuple(sorted((variables or {}).items())))
        elif stateful and not callable(server) and not isinstance(server, Command):
            raise ValueError("with stateful, give a command or a function that makes the server: it is made anew")
        self._settings = {
            "server": server,
            "timeout": timeout,
            "stateful": stateful,
            "max_output_chars": max_output_chars,
            "start_timeout": start_timeout,
        }
        self.stateful = stateful
        self.down: str | None = None
        self._max_output_chars = max_output_chars
        if isinstance(server, Command) and not stateful:
            key = (server, timeout, start_timeout)
            self._connection = _shared.setdefault(key, Connection(*key))
        else:
            self._connection = Connection(server, timeout, start_timeout)
        self._listing: Listing | None = None
        self._tools: dict[str, Tool] | None = None
        # The session whose tools were compared, and that holds the state.
        self._session: Session | None = None
        self._calls: list[list[Any]] = []

    @property
    def tools(self) -> dict[str, Tool]:  # type: ignore[override]
        """The tools by name, in the server's order.

        Raises:
            McpError: The server does not start, or has no tool that can be offered.
        """
        if self._tools is None:
            self._tools = {described[0]: self._make(*described) for described in self._list().tools}
        return self._tools

    @property
    def has_state(self) -> bool:
        """Whether every environment has a server of its own."""
        return self.stateful

    @property
    def versions(self) -> Mapping[str, str]:
        """The server's version, as it says."""
        listing = self._list()
        return {f"mcp {listing.name}": listing.version}

    def open(self, state: dict[str, Any] | None) -> None:
        """Begin an episode; a task's state is not the server's, and not used."""
        self.down = None
        self._begin_anew()

    def snapshot(self) -> bytes:
        """Return the calls of the episode that were answered, as JSON; nothing without `stateful`."""
        return json.dumps(self._calls).encode() if self._calls else b""

    def restore(self, snapshot: bytes) -> None:
        """Make the calls of a snapshot on a new server, under the rules for a policy's.

        Raises:
            ValueError: The snapshot is not one of this box's, or the server answers otherwise than it did.
        """
        calls = json.loads(snapshot) if snapshot else []
        if not isinstance(calls, list) or not all(map(_is_call, calls)) or (calls and not self.stateful):
            raise ValueError("a snapshot of a stateful MCP box is a list of calls")
        self._begin_anew()
        for number, call in enumerate(calls):
            if call[0] in self.tools:
                self.tools[call[0]].call(call[1])
            if self._calls[number:] != [call]:
                raise ValueError(self.down or STATE_LOST)

    def close(self) -> None:
        """End the server of a stateful box; the other's is shared and runs on. May be called twice."""
        self._calls = []
        self._session = None
        if self.stateful:
            self._connection.close()

    def _begin_anew(self) -> None:
        self.close()
        self._connection.allow_restart()

    def _list(self) -> Listing:
        server = self._settings["server"]
        if self._listing is None and isinstance(server, Command):
            self._listing = _listings.get(server)
        if self._listing is None:
            found = self._connection.list()
            for name, why in found.unreadable:
                _log.warning("MCP server %s: tool %r is left out: %s", self._connection.name, name, why)
            tools = tuple(described for described in found.tools if self._can_offer(*described))
            if not tools:
                raise McpError(f"MCP server {self._connection.name}: it has no tool that can be offered")
            self._listing = Listing(found.name, found.version, tools)
            if isinstance(server, Command):
                _listings[server] = self._listing
        return self._listing

    def _can_offer(self, name: str, description: str, parameters: dict[str, Any], read_only: bool) -> bool:
        try:
            self._make(name, description, parameters, read_only)
        except (ValueError, RecursionError) as error:
            why = str(error).splitlines()[0][:200]
            _log.warning("MCP server %s: tool %r is left out: %s", self._connection.name, name[:64], why)
            return False
        return True

    def _make(self, name: str, description: str, parameters: dict[str, Any], read_only: bool) -> Tool:
        # A server that says nothing leaves it to the box: without `stateful`, no call may change a later one.
        return Tool(
            partial(self._call, name),
            name,
            _tidy(description) or name,
            tighten(parameters),
            self._max_output_chars,
            read_only=True if read_only else None,
        )

    def _call(self, tool: str, /, **arguments: Any) -> str:
        self.down = None
        try:
            self._take_up()
            ok, text = self._ask(tool, arguments)
        except Down as error:
            self.down = error.why
            if self.stateful and error.why == TOO_LARGE:
                # The call may have changed the state, and is not one that could be made again.
                self._connection.close()
            raise ToolError(error.why) from None
        if self.stateful:
            self._calls.append([tool, arguments, _digest(ok, text)])
        if not ok:
            raise ToolError(text)
        return text

    def _take_up(self) -> None:
        """See to it that the server runs, has the tools that were offered and the state of the episode."""
        session = self._connection.prepare()
        if session is self._session:
            return
        self._connection.check({name: schema for name, _, schema, _ in self._list().tools})
        for name, arguments, answer in self._calls:
            if _digest(*self._ask(name, arguments)) != answer:
                self._connection.fail(Down(STATE_LOST))
                raise Down(STATE_LOST)
        self._session = session

    def _ask(self, tool: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        try:
            result = self._connection.call(tool, arguments)
        except Refused as error:
            return False, " ".join(str(error).split())[:200] or "the tool server refuses the call"
        return not result.is_error, _read(result)

    def __deepcopy__(self, memo: dict[int, Any]) -> McpBox:
        return McpBox(**self._settings) if self.stateful else self

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._settings,)


def mcp_box(command: str, folder: str | None = None, **settings: Any) -> McpBox:
    """Build a box for the server that a command starts.

    Args:
        command: As one writes it in a shell.
        folder: The working directory; None takes this process's.
        settings: As for `McpBox`.

    >>> mcp_box("python server.py", timeout=5).has_state
    False
    """
    return McpBox(command, folder, **settings)


def tighten(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a tool's arguments without titles, and with objects closed that say nothing of more.

    Servers mostly ignore arguments that they do not know, and convert those of wrong types: a policy that learnt
    from them would learn the mistakes. The arguments themselves are closed in any case.

    Raises:
        ValueError: The arguments are no plain object, or the schema refers to another document.

    >>> tighten({"type": "object", "title": "T", "properties": {"at": {"properties": {"x": {"title": "X"}}}}})
    {'type': 'object', 'properties': {'at': {'properties': {'x': {}}, 'additionalProperties': False}}}
    """
    if parameters.get("type", "object") != "object":
        raise ValueError("its arguments are no object")
    if any(key in parameters for key in ("$ref", "allOf", "anyOf", "oneOf")):
        raise ValueError("its arguments are no plain object")
    found: set[str] = set()
    _collect(parameters, found)
    closed = _tighten(parameters, not found.intersection(_SPREAD))
    # `Tool` closes the arguments; here they would be written twice.
    if closed.get("additionalProperties") is False:
        del closed["additionalProperties"]
    return closed


def _collect(schema: Any, found: set[str]) -> None:
    """Collect the keywords of a schema and of those in it."""
    if not isinstance(schema, dict):
        return
    found.update(schema)
    for keyword in ("$ref", "$dynamicRef"):
        if not str(schema.get(keyword, "#")).startswith("#"):
            raise ValueError("its schema refers to another document")
    if "$ref" in schema and "properties" in schema:
        found.add("allOf")
    for keyword, value in schema.items():
        if keyword in _NAMED and isinstance(value, dict):
            for part in value.values():
                _collect(part, found)
        elif keyword in _LISTED and isinstance(value, list):
            for part in value:
                _collect(part, found)
        elif keyword in _ONE:
            _collect(value, found)


def _tighten(schema: Any, close: bool) -> Any:
    if not isinstance(schema, dict):
        return schema
    tight: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _NAMED and isinstance(value, dict):
            tight[keyword] = {name: _tighten(part, close) for name, part in value.items()}
        elif keyword in _LISTED and isinstance(value, list):
            # Alternatives beside properties add to these.
            tight[keyword] = [_tighten(part, close and "properties" not in schema) for part in value]
        elif keyword in _ONE:
            tight[keyword] = _tighten(value, close)
        elif keyword == "description" and isinstance(value, str):
            tight[keyword] = _tidy(value)
        elif keyword != "title":
            tight[keyword] = value
    if close and "properties" in schema and not {"additionalProperties", "anyOf", "oneOf"}.intersection(schema):
        tight["additionalProperties"] = False
    return tight


def _tidy(text: str) -> str:
    return neutralise(clean(" ".join(text[:MAX_DESCRIPTION_CHARS].split())))


def _read(result: mcp_types.CallToolResult) -> str:
    """Return the texts of a result, with a mark for each other content."""
    if not result.content and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    parts = [content.text if content.type == "text" else f"[{content.type}]" for content in result.content]
    return "\n".join(parts)


def _is_call(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], dict)


def _digest(ok: bool, text: str) -> str:
    return hashlib.sha256(f"{ok} {text}".encode(errors="replace")).hexdigest()[:16]


def _rebuild(settings: dict[str, Any]) -> McpBox:
    return McpBox(**settings)


__all__ = ["McpBox", "McpError", "close_servers", "mcp_box", "tighten"]
