"""The SQL box: an SQLite database in memory for every episode, read with `query` and changed with `execute`.

A task's state says what the database holds. It is built once a process, kept as bytes, and copied at an episode's
first query. What a statement may do and cost is in `mentor_gym.tools.sql_guard`.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any

from mentor_gym.tools.base import Tool, ToolBox, ToolError
from mentor_gym.tools.sql_guard import (
    LIMITS,
    MAX_SQL_CHARS,
    METERED,
    OPERATIONS_A_TICK,
    TOO_COMPLEX,
    Guard,
    is_too_large,
    unclosed_quote,
    without_comments,
)

MAX_ROWS = 50
# What the largest database may grow by.
MAX_NEW_PAGES = 64
# Connections that a thread keeps to databases that are only read.
MAX_SHARED = 32
TOO_LARGE = "a value is too large, or a long expression has no name (AS)"
TOO_LONG = "the statement is not valid; a name or text in it is too long to be shown"
CUT_MARK = f"(more rows; only the first {MAX_ROWS} are shown)"
NO_ROWS = "(no rows)"
_MAX_ROWID = 2**63 - 1
_INFINITY = float("inf")
_CATALOGUE = ("sqlite_master", "sqlite_schema")
_FIRST_WORD = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$))*+([A-Za-z]*)", re.DOTALL)
_READS = frozenset(("select", "with", "values"))
_WRITES = frozenset(("insert", "update", "delete", "replace", "with"))
_OTHERS = frozenset(
    (
        "alter", "analyze", "attach", "begin", "commit", "create", "detach", "drop", "end", "explain", "pragma",
        "reindex", "release", "rollback", "savepoint", "vacuum",
    )
)  # fmt: skip
_STATEMENTS = _READS | _WRITES | _OTHERS
# As `to_json` writes, without its setting up of an encoder for every row.
_to_json = json.JSONEncoder(ensure_ascii=False).encode

Fill = Callable[[sqlite3.Connection, dict[str, Any]], None]


def run_script(connection: sqlite3.Connection, state: dict[str, Any]) -> None:
    """Fill a database by the SQL script that a task's state holds: the simplest source of databases.

    Args:
        connection: To an empty database.
        state: The task's state; `script` is `CREATE TABLE …; INSERT …;`.

    >>> connection = sqlite3.connect(":memory:")
    >>> run_script(connection, {"script": "CREATE TABLE pets (name TEXT); INSERT INTO pets VALUES ('Rex')"})
    >>> connection.execute("SELECT name FROM pets").fetchall()
    [('Rex',)]
    """
    connection.executescript(state.get("script", ""))


class Database:
    """A database as tasks find it; never changed.

    Args:
        fill: Creates the tables and rows.
        state: What `fill` gets.

    Attributes:
        content: The database as bytes.
        schema: A line for each table, with its columns.
        tables: Names of the tables and views.
        pages: Size in pages.

    >>> database = Database(run_script, {"script": "CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)"})
    >>> database.schema
    'pets(id INTEGER, name TEXT)'
    """

    def __init__(self, fill: Fill, state: dict[str, Any]) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        try:
            fill(connection, state)
            names = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY rowid"
            found = (name for (name,) in connection.execute(names))
            self.tables = tuple(name for name in found if not name.startswith("sqlite_"))
            self.schema = "\n".join(_describe(connection, table) for table in self.tables)
            connection.execute("PRAGMA user_version = 1")  # a database without tables has no bytes otherwise
            (self.pages,) = connection.execute("PRAGMA page_count").fetchone()
            self.content = connection.serialize()
        finally:
            connection.close()
        self._rows: dict[str, Counter[tuple[Any, ...]]] = {}

    def rows(self, table: str) -> Counter[tuple[Any, ...]]:
        """Return the rows of a table, each with how often it stands there."""
        if table not in self._rows:
            connection = sqlite3.connect(":memory:")
            try:
                connection.deserialize(self.content)
                self._rows[table] = _count_rows(connection, table)
            finally:
                connection.close()
        return self._rows[table]


def _describe(connection: sqlite3.Connection, table: str) -> str:
    name = _quote_name(table)
    columns = {column: kind for _, column, kind, *_ in connection.execute(f"PRAGMA table_info({name})")}
    for _, _, target, column, other, *_ in connection.execute(f"PRAGMA foreign_key_list({name})"):
        columns[column] = f"-> {target}.{other}" if other else f"-> {target}"
    return f"{table}({', '.join(f'{column} {kind}'.rstrip() for column, kind in columns.items())})"


def _quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _count_rows(connection: sqlite3.Connection, table: str) -> Counter[tuple[Any, ...]]:
    query = f"SELECT * FROM {_quote_name(table)}"
    try:
        return Counter(connection.execute(query))
    except sqlite3.OperationalError:
        # A policy may have written bytes that are no text.
        connection.text_factory = lambda content: content.decode(errors="replace")
        try:
            return Counter(connection.execute(query))
        finally:
            connection.text_factory = str


# Databases are small and those of a suite few, so that an epoch finds them all here.
@lru_cache(maxsize=128)
def _database(fill: Fill, state: str) -> Database:
    return Database(fill, json.loads(state))


def _connect(database: Database, writable: bool) -> tuple[sqlite3.Connection, Guard]:
    """Copy a database into memory, and set a guard over it."""
    guard = Guard(frozenset((*database.tables, *_CATALOGUE)))
    # No cache of statements: the authorizer is asked when a statement is compiled, and must be each time.
    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=0, check_same_thread=False)
    connection.deserialize(database.content)
    # Before the authorizer, which allows no PRAGMA. Large sorts would go to files without temp_store.
    for setting in (
        "temp_store = 2",
        # Without it no view could use a METERED function. The guard is asked about what views do all the same.
        "trusted_schema = 1",
        "foreign_keys = 1",
        f"max_page_count = {database.pages + MAX_NEW_PAGES}",
        f"query_only = {int(not writable)}",
    ):
        connection.execute(f"PRAGMA {setting}")
    for limit, value in LIMITS.items():
        connection.setlimit(limit, value)
    for name, arities in METERED.items():
        for arity in arities:
            call = partial(guard.call, f"{name}({', '.join('?' * arity)})")
            connection.create_function(name, arity, call, deterministic=True)
    connection.set_authorizer(guard.authorize)
    connection.set_progress_handler(guard.tick, OPERATIONS_A_TICK)
    return connection, guard


class _Shared(threading.local):
    """Connections of a thread over databases that are only read: copying one takes as long as several queries."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.connections: OrderedDict[int, tuple[Database, sqlite3.Connection, Guard]] = OrderedDict()


_shared = _Shared()


def _reading(database: Database, writable: bool) -> tuple[sqlite3.Connection, Guard]:
    """Return this thread's connection to a database that nobody changes."""
    if _shared.pid != os.getpid():
        # A fork: what SQLite holds of the parent is left alone.
        _shared.__init__()  # type: ignore[misc]
    found = _shared.connections.pop(id(database), None)
    if found is None:
        found = (database, *_connect(database, writable=False))
        if len(_shared.connections) >= MAX_SHARED:
            # Not closed: a box may be using it; it goes with the last of them.
            _shared.connections.popitem(last=False)
    _shared.connections[id(database)] = found
    return found[1:]


class SqlBox(ToolBox):
    """An SQL database: `schema`, `query` and `execute`.

    A task's state is what `fill` needs to build the database, and `writable`, a list of the tables that `execute`
    may change; none without it. `snapshot` holds the statements that changed rows, which are deterministic and
    small; `restore` runs them again, under the rules for a policy's, so that a snapshot from anywhere can do no
    more.

    Args:
        fill: Creates the tables and rows of a task's state in an empty database; the same state must always give
            the same rows.

    >>> box = SqlBox()
    >>> script = "CREATE TABLE pets (name TEXT, age INT); INSERT INTO pets VALUES ('Rex', 4), ('Tom', NULL)"
    >>> box.open({"script": script, "writable": ["pets"]})
    >>> print(box.tools["query"].call({"sql": "SELECT name, age + 1 AS next FROM pets"}).output)
    name, next
    ["Rex", 5]
    ["Tom", null]
    >>> box.tools["execute"].call({"sql": "UPDATE pets SET age = 5 WHERE name = 'Rex'"}).output
    '1 row changed'
    >>> box.final_state()
    {'pets': {'removed': [['Rex', 4]], 'added': [['Rex', 5]]}}
    """

    def __init__(self, fill: Fill = run_script) -> None:
        self._fill = fill
        self._state: dict[str, Any] = {}
        self._writable: frozenset[str] = frozenset()
        self._found: Database | None = None
        self._connection: sqlite3.Connection | None = None
        self._guard: Guard | None = None
        self._written: list[str] = []
        self._touched: set[str] = set()
        super().__init__(
            _bounded(Tool.from_function(item, read_only=item != self.execute))
            for item in (self.schema, self.query, self.execute)
        )

    @property
    def versions(self) -> dict[str, str]:
        """The release of SQLite: another one may sort ties and write floats in its own way."""
        return {"sqlite": sqlite3.sqlite_version}

    def schema(self) -> str:
        """Tables of the database with their columns. An arrow shows the column that a column refers to."""
        return self._database().schema

    def query(self, sql: str) -> str:
        """Run one SELECT and return its rows. Each row is a JSON list, below a line with the column names.

        The dialect is SQLite's. Functions of time and chance are not there: dates are texts like 2025-03-14.

        Args:
            sql: The statement.
        """
        _check_kind(sql, _READS, "query takes a SELECT")
        connection, guard = self._connected()
        guard.start()
        cursor = connection.cursor()
        try:
            if is_too_large(sql):
                raise ToolError(TOO_COMPLEX)
            cursor.execute(without_comments(sql))
            rows, columns = cursor.fetchmany(MAX_ROWS + 1), cursor.description
        except _FAILURES as error:
            raise _explain(error, guard, sql) from None
        finally:
            cursor.close()
        if columns is None:
            raise ToolError("the statement is empty")
        return _write([column[0] for column in columns], rows)

    def execute(self, sql: str) -> str:
        """Run one INSERT, UPDATE or DELETE and return how many rows changed.

        Args:
            sql: The statement, in SQLite's dialect.
        """
        _check_kind(sql, _WRITES, "execute takes an INSERT, UPDATE or DELETE")
        if not self._writable:
            raise ToolError("not authorized: nothing may be changed here")
        connection, guard = self._connected()
        guard.start(self._writable)
        before = connection.total_changes
        self._command("BEGIN")
        cursor = connection.cursor()
        try:
            if is_too_large(sql):
                raise ToolError(TOO_COMPLEX)
            cursor.execute(sql)
            if cursor.description is not None:
                raise ToolError("execute returns no rows; use query for a SELECT, and no RETURNING")
            cursor.close()
            self._check_rowids(guard.touched)
            self._command("COMMIT")
        except _FAILURES as error:
            raise _explain(error, guard, sql) from None
        finally:
            cursor.close()
            # Also where a conflict clause (OR FAIL) has kept a part of the rows: a failed statement does nothing.
            if connection.in_transaction:
                self._command("ROLLBACK")
        changed = connection.total_changes - before
        if changed:
            self._written.append(sql)
            self._touched |= guard.touched
        return f"{changed} row{'' if changed == 1 else 's'} changed"

    def open(self, state: dict[str, Any] | None) -> None:
        """Set the database to that of a task; nothing is built or copied before the first call."""
        self.close()
        self._state = state or {}
        self._writable = frozenset(self._state.get("writable", ()))

    def snapshot(self) -> bytes:
        """Return the statements that have changed rows, as JSON; nothing when there are none."""
        return json.dumps(self._written, ensure_ascii=False).encode() if self._written else b""

    def restore(self, snapshot: bytes) -> None:
        """Run the statements of a snapshot on the task's own database.

        Raises:
            ValueError: The snapshot is not one of this task's.
        """
        try:
            statements = json.loads(snapshot) if snapshot else []
        except RecursionError:
            statements = None
        if not isinstance(statements, list) or not all(isinstance(item, str) for item in statements):
            raise ValueError("a snapshot of the SQL box is a list of statements")
        self._disconnect()
        for statement in statements:
            try:
                self.execute(statement)
            except ToolError as error:
                raise ValueError(f"the snapshot does not fit the database: {error}") from None

    def final_state(self) -> dict[str, Any]:
        """Return what differs from the database at the start, for tables that may be changed.

        Returns:
            For each table with a difference the rows that are gone and the rows that are new, sorted; a changed
            row counts as both. Numbers have ten digits, so that the order of a computation does not show.
        """
        if not self._written:
            return {}
        connection, guard = self._connected()
        database = self._database()
        found = {}
        guard.trusted = True
        try:
            for table in sorted(self._touched):
                before, now = database.rows(table), _count_rows(connection, table)
                lost, new = Counter[str](), Counter[str]()
                for row in {row for row, _ in before.items() ^ now.items()}:
                    more = now[row] - before[row]
                    (new if more > 0 else lost)[_write_row(row)] += abs(more)
                # Rows that differ in less than is shown are the same.
                if lost != new:
                    found[table] = {
                        "removed": [*map(json.loads, sorted((lost - new).elements()))],
                        "added": [*map(json.loads, sorted((new - lost).elements()))],
                    }
        finally:
            guard.trusted = False
        return found

    def close(self) -> None:
        """Free the database. May be called twice."""
        self._disconnect()
        self._found = None
        self._state = {}
        self._writable = frozenset()

    def _disconnect(self) -> None:
        if self._connection is not None and self._writable:
            self._connection.close()
        self._connection = None
        self._guard = None
        self._written = []
        self._touched = set()

    def _database(self) -> Database:
        if self._found is None:
            what = {name: value for name, value in self._state.items() if name != "writable"}
            found = _database(self._fill, json.dumps(what, sort_keys=True))
            if not self._writable.issubset(found.tables):
                raise ValueError(f"writable: the database has the tables {', '.join(found.tables)}")
            self._found = found
        return self._found

    def _connected(self) -> tuple[sqlite3.Connection, Guard]:
        if self._connection is None or self._guard is None:
            database = self._database()
            connect = _connect if self._writable else _reading
            self._connection, self._guard = connect(database, bool(self._writable))
        return self._connection, self._guard

    def _command(self, sql: str) -> list[Any]:
        connection, guard = self._connected()
        guard.trusted = True
        try:
            return connection.execute(sql).fetchall()
        finally:
            guard.trusted = False

    def _check_rowids(self, tables: Iterable[str]) -> None:
        """Refuse a row with the largest number: SQLite would give the next row a random one."""
        for table in tables:
            try:
                last = self._command(f"SELECT MAX(rowid) FROM {_quote_name(table)}")[0][0]
            except sqlite3.OperationalError:  # a table WITHOUT ROWID
                continue
            if last == _MAX_ROWID:
                raise ToolError("the number of the row is too large")


# What SQLite says of a statement that it cannot divide into tokens; the first also where a message is too long.
_UNREADABLE = ("SQL logic error", "unrecognized token")
# Beside errors of SQLite: two statements (a Warning before Python 3.12), text that is not UTF-8, a NUL.
_FAILURES = (sqlite3.Error, sqlite3.Warning, UnicodeError, ValueError, MemoryError)


def sql_box() -> SqlBox:
    """Build a box over databases that tasks give as a script; for a suite of one's own.

    >>> list(sql_box().tools)
    ['schema', 'query', 'execute']
    """
    return SqlBox()


def _bounded(tool: Tool) -> Tool:
    properties = {name: {**schema, "maxLength": MAX_SQL_CHARS} for name, schema in _properties(tool).items()}
    parameters = {**tool.parameters, "properties": properties}
    return Tool(tool.function, tool.name, tool.description, parameters, read_only=tool.read_only)


def _properties(tool: Tool) -> dict[str, Any]:
    properties: dict[str, Any] = tool.parameters["properties"]
    return properties


def _check_kind(sql: str, allowed: frozenset[str], message: str) -> None:
    match = _FIRST_WORD.match(sql)
    assert match is not None  # it may be empty
    word = match[1].lower()
    if not sql[match.start(1) :].strip(" ;\n\t\r"):
        raise ToolError("the statement is empty")
    # Anything that is no statement at all is left to SQLite, which says where it stops to understand.
    if word in _STATEMENTS and word not in allowed:
        raise ToolError(f"not authorized: {message}, not {word.upper()}")


def _explain(error: BaseException, guard: Guard, sql: str) -> ToolError:
    """Turn a failure into a message that is the same on every machine."""
    error = guard.failure or error
    text = str(error)
    if guard.refused is not None:
        return ToolError(guard.refused)
    if isinstance(error, MemoryError):
        return ToolError(TOO_COMPLEX)
    if isinstance(error, sqlite3.DataError):
        return ToolError(TOO_LARGE)
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.Warning | ValueError):
        if "one statement" in text:
            return ToolError("not authorized: one statement at a time")
        if "binding" in text:
            return ToolError("write values into the statement in place of parameters")
        return ToolError("the statement holds characters that are not text")
    # The second is what SQLite says when an argument of a METERED function is no text.
    if text.startswith(("Could not decode", "user-defined function raised")):
        return ToolError("a value is not valid text")
    # SQLite shows the whole rest of a statement that a quote opens, or nothing at all where it is long.
    if text.startswith(_UNREADABLE):
        quote = unclosed_quote(sql)
        if quote is not None:
            return ToolError(f"a text or name that begins with {quote} has no end")
        if text == _UNREADABLE[0]:
            return ToolError(TOO_LONG)
    return ToolError(text[:200])


def _write(columns: list[str], rows: list[tuple[Any, ...]]) -> str:
    # A column without a name of its own is called by its expression, which may be long and of several lines.
    lines = [", ".join(" ".join(column.split())[:60] for column in columns)]
    lines += map(_write_row, rows[:MAX_ROWS])
    if not rows:
        lines.append(NO_ROWS)
    elif len(rows) > MAX_ROWS:
        lines.append(CUT_MARK)
    return "\n".join(lines)


def _write_row(row: tuple[Any, ...]) -> str:
    return _to_json([_plain(value) for value in row])


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it, its type kept."""
    if isinstance(value, float):
        # Sums differ in their last digits between versions of SQLite.
        return float(f"{value:.10g}") if abs(value) < _INFINITY else str(value)
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return value
