"""A connection to an MCP server: the thread that drives the SDK's client, and the server's process.

MCP, the Model Context Protocol, is how assistants reach tools of other programs: JSON-RPC, over the standard input
and output of a process that the client starts (https://modelcontextprotocol.io/specification). The client is the
official Python SDK's; only the transport is our own, because a reply must have a limit and an unreadable one must
fail its call at once.

A server is started at the first call, never before, and ends with this process. A forked child does not share its
parent's: it starts its own at its first call.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from mentor_gym.protocol import clean

if TYPE_CHECKING:
    import mcp_types
    from mcp import Client

START_S = 60.0
# A start that failed after more than `SLOW_S` is not tried again for `REST` times as long, whatever asks for it.
SLOW_S = 1.0
REST = 10.0
# What a server may take to end by itself when it is told that there will be no more calls.
LEAVE_S = 1.0
MAX_REPLY_BYTES = 1 << 20
MAX_TOOLS = 1_000
# What of a server's stderr is kept, for the message of one that does not start.
_KEPT_WORDS = 2_000
# What a server gets of this process's environment variables: where programs are, and whose; no keys.
_INHERITED = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER")
# What the SDK logs of a server that runs in this process, exceptions of its tools for example.
_LOGGERS = (
    "mcp.client.session",
    "mcp.server.mcpserver.server",
    "mcp.server.runner",
    "mcp.shared.direct_dispatcher",
    "mcp.shared.jsonrpc_dispatcher",
)

ENDED = "the tool server has ended"
UNREADABLE = "the tool server's reply cannot be read"
TOO_LARGE = f"the tool server's reply is larger than {MAX_REPLY_BYTES >> 20} MiB"
NOT_STARTED = "the tool server does not start"
CHANGED = "the tool server's tools have changed"

_log = logging.getLogger(__name__)
_sessions: set[Session] = set()
_rests: dict[Command, Rest] = {}
_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
# Those of a forked child's parent: to free what belongs to them could reach into the parent's own.
_inherited: list[Session] = []


class McpError(ValueError):
    """An MCP server that cannot be used: it does not start, or offers no tool that can be. Says which and why."""


class Down(Exception):
    """A call did not reach its tool, or its reply was lost.

    Attributes:
        why: A fixed text.
        detail: What more is known, for people: texts of the machine, which no policy must see.
    """

    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.detail = detail


class Refused(Exception):
    """The server answered a call with an error of the protocol; the argument is its message."""


@dataclass(frozen=True)
class Command:
    """How to start a server.

    Attributes:
        words: The program and its arguments. `python` means the interpreter that runs this process.
        folder: The working directory; None keeps this process's.
        variables: Environment variables, besides the few that every server gets.
    """

    words: tuple[str, ...]
    folder: str | None = None
    variables: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return " ".join(self.words)


class Listing(msgspec.Struct, frozen=True):
    """What a server says of itself.

    Attributes:
        name: Its name.
        version: Its version; empty when it says none.
        tools: Name, description and JSON schema of the arguments of each tool, and whether the server says that
            it changes nothing; in the server's order.
        unreadable: Name of each tool that cannot be read, and why.
    """

    name: str
    version: str
    tools: tuple[tuple[str, str, dict[str, Any], bool], ...]
    unreadable: tuple[tuple[str, str], ...] = ()


@dataclass
class Rest:
    """How long a server that was slow to fail at its start is left alone; those of one command share it.

    Attributes:
        until: When it may be started again, on the clock of `time.monotonic`.
        why: What calls fail with until then.
    """

    until: float = 0.0
    why: str = NOT_STARTED

    def begin(self, since: float, why: str) -> None:
        """Begin a rest after an attempt that failed now, if it took long."""
        took = time.monotonic() - since
        if took > SLOW_S:
            self.until, self.why = time.monotonic() + REST * took, why


class Connection:
    """One server: started when it is needed, and again after a failure.

    After a failure the next call starts the server anew, and that happens once: until `allow_restart`, a further
    failure, or one to start, leaves it down, and calls fail at once. A start that fails late, of a server that
    hangs for example, is not tried again for ten times as long as it took, by any connection to the same command
    and whatever `allow_restart` says: calls fail at once until then. So a server that is out of order cannot slow
    a run by much.

    Args:
        server: A `Command`; or a server object of the SDK, which runs in this process; or a function that makes
            one, for each start.
        timeout: Seconds that a call may take.
        start_timeout: Seconds that it may take to start, and to list its tools.

    >>> from mcp.server.mcpserver import MCPServer
    >>> server = MCPServer("clock")
    >>> @server.tool()
    ... def now() -> str:
    ...     return "noon"
    >>> connection = Connection(server, timeout=5)
    >>> connection.call("now", {}).content[0].text
    'noon'
    >>> connection.close()
    """

    def __init__(self, server: Any, timeout: float, start_timeout: float = START_S) -> None:
        self.server = server
        self.timeout = timeout
        self.start_timeout = start_timeout
        self._rest = _rests.setdefault(server, Rest()) if isinstance(server, Command) else Rest()
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._failure: str | None = None
        self._may_restart = True
        _connections.add(self)

    def list(self) -> Listing:
        """Ask the server for its tools; one that was not running is started for it, and ended.

        Raises:
            McpError: It does not start, or does not answer.
        """
        with self._lock:
            try:
                if self._session is not None:
                    return self._session.list()
                session = Session(self.server, self.start_timeout)
                try:
                    return session.list()
                finally:
                    session.end()
            except Down as error:
                message = f"MCP server {self.name}: {error.why}"
                raise McpError(f"{message}: {error.detail}" if error.detail else message) from None

    @property
    def name(self) -> str:
        """What messages call the server."""
        return str(self.server if isinstance(self.server, Command) else getattr(self.server, "name", self.server))

    def prepare(self) -> Session:
        """Return the session, starting the server when it is not running.

        Raises:
            Down: It does not start, or may not be started again yet.
        """
        with self._lock:
            if self._session is None:
                if self._failure is not None:
                    if not self._may_restart:
                        raise Down(self._failure)
                    self._may_restart = False
                began = time.monotonic()
                if began < self._rest.until:
                    # For the whole of the episode: it must not depend on when the rest ends.
                    self._may_restart, self._failure = False, self._rest.why
                    raise Down(self._rest.why)
                try:
                    self._session = Session(self.server, self.start_timeout)
                except Down as error:
                    self._may_restart = False
                    self._rest.begin(began, error.why)
                    self.fail(error)
                    raise
            return self._session

    def call(self, name: str, arguments: dict[str, Any]) -> mcp_types.CallToolResult:
        """Call a tool.

        Raises:
            Down: The call did not reach its tool, or its reply was lost. But for a reply that was too large the
                server is ended.
            Refused: The server answered with an error of the protocol.
        """
        with self._lock:
            session = self.prepare()
            try:
                result = session.call(name, arguments, self.timeout)
            except Down as error:
                if error.why != TOO_LARGE:
                    self.fail(error)
                raise
            except Refused:
                raise
            except BaseException:
                # Ctrl-C and the like: nobody waits for the reply any more.
                self._drop(at_once=True)
                raise
            self._failure = None
            return result

    def check(self, tools: dict[str, dict[str, Any]]) -> None:
        """Ask the server for its tools again, and compare.

        Args:
            tools: The JSON schemas, as the server gave them, by the tools' names.

        Raises:
            Down: One of them is not there any more, or has changed; or as for `call`.
        """
        with self._lock:
            session = self.prepare()
            began = time.monotonic()
            try:
                now = {name: schema for name, _, schema, _ in session.list().tools}
                if any(now.get(name) != schema for name, schema in tools.items()):
                    raise Down(CHANGED)
            except Down as error:
                if error.why != CHANGED:
                    self._rest.begin(began, error.why)
                self.fail(error)
                raise

    def allow_restart(self) -> None:
        """Forget a failure, at the begin of an episode: the server may be started, and once more after another."""
        self._failure = None
        self._may_restart = True

    def fail(self, error: Down) -> None:
        """End a server that is out of order."""
        with self._lock:
            _log.debug("MCP server %s: %s: %s", self.name, error.why, error.detail)
            self._failure = error.why
            self._drop(at_once=True)

    def close(self) -> None:
        """End the server. The next call starts it again."""
        with self._lock:
            self._failure = None
            self._drop()

    def _drop(self, at_once: bool = False) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end(at_once)

    def _forget(self) -> None:
        self._session = None
        self._lock = threading.RLock()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


class Session:
    """A running server and the thread that talks to it.

    Args:
        server: As for `Connection`.
        start_timeout: As for `Connection`.

    Raises:
        Down: It does not start.
    """

    def __init__(self, server: Any, start_timeout: float = START_S) -> None:
        self._start_timeout = start_timeout
        self._process: Process | None = None
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._ready: Future[None] = Future()
        self._trouble = ""
        _quiet_the_sdk()
        if isinstance(server, Command):
            self._process = Process(server)
            target: Any = _talk(self._process)
        else:
            target = server() if callable(server) else server
        self._thread = threading.Thread(target=self._run, args=(target,), daemon=True, name="mcp client")
        _sessions.add(self)
        self._thread.start()
        try:
            self._ready.result(start_timeout)
        except BaseException as error:
            self.end(at_once=True)
            if isinstance(error, Exception):
                raise Down(NOT_STARTED, self._last_words()) from None
            raise

    def list(self) -> Listing:
        """Ask for the tools.

        Raises:
            Down: There is no answer, or none that can be read.
        """
        try:
            listing: Listing = self._ask(self._list(), self._start_timeout)
        except Refused:
            raise Down(UNREADABLE) from None
        return listing

    def call(self, name: str, arguments: dict[str, Any], seconds: float) -> mcp_types.CallToolResult:
        """Call a tool; raises as `Connection.call` does."""
        client = self._client
        assert client is not None
        result: mcp_types.CallToolResult = self._ask(client.call_tool(name, arguments), seconds)
        return result

    async def _list(self) -> Listing:
        client = self._client
        assert client is not None
        info = client.server_info
        found: dict[str, tuple[str, str, dict[str, Any], bool]] = {}
        cursor = None
        while True:
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                hints = tool.annotations
                read_only = hints is not None and hints.read_only_hint is True
                found[tool.name] = (
                    tool.name, tool.description or tool.title or "", tool.input_schema, read_only,
                )  # fmt: skip
            cursor = page.next_cursor
            # A server that turns pages in a circle ends here too.
            if not cursor or len(found) > MAX_TOOLS or not page.tools:
                break
        name, version = (info.name, info.version) if info is not None else ("", "")
        unreadable = {} if self._process is None else self._process.unreadable
        return Listing(name, version, tuple(found.values()), tuple(unreadable.items()))

    def _ask(self, question: Any, seconds: float) -> Any:
        from mcp.shared.exceptions import MCPError

        assert self._loop is not None
        if self._process is not None and self._process.fault != ENDED:
            self._process.fault = None
        try:
            future = asyncio.run_coroutine_threadsafe(question, self._loop)
        except RuntimeError:
            question.close()
            raise Down(ENDED) from None
        try:
            return future.result(seconds)
        except MCPError as error:
            # A server has codes of its own, so that its error is not told by the code.
            if self._process is not None and self._process.fault is not None:
                raise Down(self._process.fault, self._last_words()) from None
            raise Refused(error.message) from None
        except TimeoutError:
            if future.done():
                raise Down(UNREADABLE) from None
            raise Down(f"the tool server did not answer within {seconds:g} s") from None
        except Exception:
            # Of the SDK, about replies that are not what the protocol says; and of a loop that has ended.
            raise Down(UNREADABLE) from None

    def _run(self, target: Any) -> None:
        try:
            asyncio.run(self._live(target))
        except BaseException as error:
            # Leaving a client whose server has ended raises groups of exceptions.
            self._trouble = f"{type(error).__name__}: {error}"
            if not self._ready.done():
                self._ready.set_exception(Down(NOT_STARTED))

    async def _live(self, target: Any) -> None:
        from mcp import Client

        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        # Entered and left in one task, as its cancel scopes demand. Without a cache, lists are the present ones.
        async with Client(target, cache=None) as client:
            self._client = client
            self._ready.set_result(None)
            await self._stop.wait()

    def _last_words(self) -> str:
        """Return the last line that a server wrote to stderr, or what ended the thread of one in this process."""
        if self._process is None:
            return self._trouble
        lines = self._process.words.decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def end(self, at_once: bool = False) -> None:
        """End the thread and the server's process, and wait for both.

        Args:
            at_once: Whether to kill the process first.
        """
        _sessions.discard(self)
        if at_once and self._process is not None:
            self._process.kill()
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(stop.set)
        # A tool of a server in this process may hold the thread for ever; then it is left alone.
        if threading.current_thread() is not self._thread:
            self._thread.join(0.1 if at_once and self._process is None else LEAVE_S)
        if self._process is not None:
            self._process.end()

    def forget(self) -> None:
        """Give up, in a forked child, a session of the parent's."""
        if self._process is not None:
            self._process.disown()


class Process:
    """The process of a server, in a process group of its own, with pipes for stdin, stdout and stderr.

    Raises:
        Down: The program cannot be started.

    Attributes:
        popen: The process.
        words: The last bytes that it wrote to stderr; nothing of it is shown.
        fault: What was wrong with its reply to the last call; None when nothing was.
        unreadable: Name of each tool that it has described so that it cannot be read, and why.
    """

    def __init__(self, command: Command) -> None:
        words = command.words
        if words[:1] == ("python",):
            words = (sys.executable, *words[1:])
        variables = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            self.popen = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=command.folder,
                # Texts that follow the order of a set are the same in every process of a Python server.
                env={**variables, "PYTHONHASHSEED": "0", **dict(command.variables)},
                # Ctrl-C is for this process, which then ends the server, and all that the server started.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            detail = error.strerror if isinstance(error, OSError) else str(error)
            raise Down(NOT_STARTED, detail or "") from None
        self.words = b""
        self.fault: str | None = None
        self.unreadable: dict[str, str] = {}

    def has_ended(self) -> bool:
        """Whether the process has ended; it is not waited for, so that its group keeps its number."""
        if self.popen.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def kill(self) -> None:
        """Kill the process and all that it started."""
        if self.popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.popen.pid, signal.SIGKILL)

    def end(self) -> None:
        """Wait a little for the end of a process whose stdin was closed, kill what is left, and reap it."""
        deadline = time.monotonic() + LEAVE_S
        self.hang_up()
        while not self.has_ended() and time.monotonic() < deadline:
            time.sleep(0.005)
        self.kill()
        self.popen.wait()

    def hang_up(self) -> None:
        """Close the pipes."""
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()

    def disown(self) -> None:
        """Give up a process that is the parent's of this forked one."""
        self.hang_up()
        # No child of this process: Popen must not wait for it.
        self.popen.returncode = 0


class _Ear(asyncio.Protocol):
    """Keeps the end of what a server writes to stderr."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._process.words = (self._process.words + data)[-_KEPT_WORDS:]

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()


@contextlib.asynccontextmanager
async def _talk(process: Process) -> AsyncIterator[tuple[Any, Any]]:
    """Carry messages between a server's process and the SDK's client: the transport `stdio`, one message a line.

    A call whose reply is too large or unreadable is answered for the server with an error, so that it fails at
    once; the reason is in `process.fault`. Only one call at a time is made.
    """
    import anyio
    import mcp_types
    from mcp.shared.message import SessionMessage

    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    ear = _Ear(process)
    stdin, stdout, stderr = process.popen.stdin, process.popen.stdout, process.popen.stderr
    inward, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stdout)
    murmur, _ = await loop.connect_read_pipe(lambda: ear, stderr)
    outward, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, stdin)
    to_client, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_server, from_client = anyio.create_memory_object_stream[SessionMessage](0)
    waiting: set[int | str] = set()
    # Those of `waiting` that ask for the tools.
    listing: set[int | str] = set()

    async def fail(why: str) -> None:
        if waiting:
            process.fault = why
        for number in tuple(waiting):
            waiting.discard(number)
            error = mcp_types.ErrorData(code=mcp_types.INTERNAL_ERROR, message=why)
            await to_client.send(SessionMessage(mcp_types.JSONRPCError(jsonrpc="2.0", id=number, error=error)))

    async def deliver(line: bytes) -> None:
        if not listing.isdisjoint(waiting):
            line = _drop_unreadable(line, process.unreadable)
        try:
            message = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            # Lines that are no attempt at a message, many a server prints on its way up.
            if line.lstrip().startswith(b"{"):
                await fail(UNREADABLE)
            return
        if isinstance(message, mcp_types.JSONRPCResponse | mcp_types.JSONRPCError) and message.id is not None:
            waiting.discard(message.id)
        await to_client.send(SessionMessage(message))

    async def listen() -> None:
        line = bytearray()
        is_too_long = False
        # The client may go while something is being delivered.
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            async with to_client:
                try:
                    while chunk := await reader.read(1 << 16):
                        *ended, rest = chunk.split(b"\n")
                        for part in ended:
                            if not is_too_long:
                                await deliver(bytes(line + part))
                            line.clear()
                            is_too_long = False
                        if not is_too_long:
                            line += rest
                            if len(line) > MAX_REPLY_BYTES:
                                line.clear()
                                is_too_long = True
                                await fail(TOO_LARGE)
                finally:
                    # Before the client is told, which then fails the call that waits.
                    process.fault = ENDED

    async def speak() -> None:
        async with from_client:
            async for item in from_client:
                message = item.message
                if isinstance(message, mcp_types.JSONRPCRequest):
                    waiting.add(message.id)
                    if message.method == "tools/list":
                        listing.add(message.id)
                outward.write(message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            group.start_soon(speak)
            try:
                yield from_server, to_server
            finally:
                # The end of its input tells a server to leave; a child of it may hold the other pipes open.
                outward.close()
                if process.has_ended():
                    with anyio.move_on_after(0.2, shield=True):
                        await ear.ended.wait()
                group.cancel_scope.cancel()
    finally:
        for transport in (inward, murmur, outward):
            transport.close()


def _drop_unreadable(line: bytes, found: dict[str, str]) -> bytes:
    """Return a reply with the tools of a server without those that would make all of it unreadable.

    Args:
        line: A line of the server's.
        found: Takes the name of each tool that was dropped, and why.
    """
    import mcp_types

    try:
        message = json.loads(line)
        tools = message["result"]["tools"]
        if not isinstance(tools, list):
            return line
    except (ValueError, RecursionError, KeyError, TypeError):
        return line
    kept = []
    for tool in tools:
        try:
            # As deep as it stands in the reply, and with escapes: what is read must not depend on the way here.
            alone = json.dumps({"jsonrpc": "2.0", "id": 0, "result": {"tools": [tool]}})
            mcp_types.jsonrpc_message_adapter.validate_json(alone, by_name=False)
            mcp_types.Tool.model_validate(tool, by_name=False)
        except (ValueError, RecursionError) as error:
            name = str(tool.get("name")) if isinstance(tool, dict) else ""
            found[clean(name)[:64]] = " ".join(clean(str(error)).split())[:200]
        else:
            kept.append(tool)
    if len(kept) == len(tools):
        return line
    message["result"]["tools"] = kept
    return json.dumps(message).encode()


class _Quiet(logging.Filter):
    """Drops what is logged by a thread that drives a client."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.threadName != "mcp client"


_quiet = _Quiet()


def _quiet_the_sdk() -> None:
    """Keep failures of an in-process server's tools off the terminal; to format them takes seconds, too."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_quiet)


def close_servers() -> None:
    """End every server that this process has started; the next calls start them again, at once."""
    for rest in tuple(_rests.values()):
        rest.until = 0.0
    for connection in tuple(_connections):
        connection.close()


def _end_all() -> None:
    """Run at exit; without the locks, which a thread may hold that is waiting for a reply."""
    for session in tuple(_sessions):
        session.end()


def _forget_all() -> None:
    """Run in a forked child: the servers are the parent's, and must not be held open by others."""
    for connection in _connections:
        connection._forget()
    for session in _sessions:
        session.forget()
        _inherited.append(session)
    _sessions.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_forget_all)
