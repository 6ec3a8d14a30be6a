"""What an SQL statement of a policy may do and cost; see `mentor_gym.tools.sql` for the box that enforces it.

What it may do is an allow-list, asked by SQLite while it compiles a statement: reading, the functions below, and
changing rows of named tables. Running it is counted in operations of SQLite's virtual machine, not in time, so
that what costs too much fails on every machine, at the same place and with the same text. Three things cost
without such operations. A function that reads a text once is bounded by `MAX_VALUE_BYTES`. One that compares a
text with another at every character may take millions of steps: `METERED` functions pay for the lengths of what
they are given. The writing out of nested queries by the compiler, which nothing interrupts, is bounded by
`expanded_size`.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections import Counter
from typing import Any

MAX_SQL_CHARS = 4_000
MAX_OPERATIONS = 250_000
MAX_VALUE_BYTES = 2_000
MAX_EXPANDED_SIZE = 300_000
OPERATIONS_A_TICK = 1_000
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 * MAX_SQL_CHARS,  # in bytes
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    # The arguments of max are compared within one operation.
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 30,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    # A pattern of n parts is tried at every character of a text, n times.
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 50,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 10,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
# Those that every build of SQLite has, whose result depends on their arguments alone and is bounded while it is
# made. That leaves out time, chance, files, and printf and format, which write 900 MB within one operation.
FUNCTIONS = frozenset(
    (
        "abs", "avg", "char", "coalesce", "count", "cume_dist", "dense_rank", "first_value", "glob",
        "group_concat", "hex", "ifnull", "iif", "instr", "lag", "last_value", "lead", "length", "like", "lower",
        "ltrim", "max", "min", "nth_value", "ntile", "nullif", "percent_rank", "quote", "rank", "replace", "round",
        "row_number", "rtrim", "sign", "substr", "substring", "sum", "total", "trim", "typeof", "unicode", "upper",
    )
)  # fmt: skip
# Functions that compare their first two arguments at every character, and with how many arguments they do.
METERED = {
    "glob": (2,),
    "instr": (2,),
    "like": (2, 3),
    "ltrim": (2,),
    "replace": (3,),
    "rtrim": (2,),
    "trim": (2,),
}
# Characters of the one times those of the other that count as an operation. A comparison takes 1 to 3 ns, so that
# the whole budget is 0.2 s of them.
COMPARISONS_AN_OPERATION = 256
TOO_COSTLY = "the statement needs too many operations"
TOO_SLOW = "the statement was stopped: this machine is too slow for it"
TOO_COMPLEX = "the statement is too complex; make it shorter, with fewer queries inside"
_QUOTES = "'\"`["
_OWN_NAMES = ("sqlite_", "pragma_")
# CPU time of the thread, so that other programs on the machine do not count. What the budget allows takes less
# than a second: this is for a machine many times slower than that, and for what the bounds here have overlooked.
_BACKSTOP_S = 10.0
# The most characters of a number as text.
_NUMBER_CHARS = 25
_MAX_AUTHORIZATIONS = 5_000
_MAX_SCOPES = 64
# A statement this short, of two queries that no name repeats, cannot become large.
_SHORT_CHARS = 1_000
_BOUNDLESS = 10**18


class _Plain(threading.local):
    """A connection of a thread that has SQLite's own functions, and no tables."""

    def __init__(self) -> None:
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        for limit, value in LIMITS.items():
            connection.setlimit(limit, value)
        self.cursor = connection.cursor()


_plain = _Plain()


class Guard:
    """What SQLite asks while it compiles and runs a statement.

    It knows neither the box nor the connection, which holds its callbacks and would make a cycle with them.

    Args:
        readable: Names of the tables that may be read.

    Attributes:
        failure: What a `METERED` function of the last statement failed with; None when none did.
        refused: Why the last statement was not allowed, or stopped; None when it was neither.
        touched: Names of the tables in which the last statement may have changed rows.
        trusted: Whether the statement is the box's own, and so neither asked about nor counted.
    """

    __slots__ = (
        "_asked",
        "_deadline",
        "_left",
        "_readable",
        "_writable",
        "failure",
        "refused",
        "touched",
        "trusted",
    )

    def __init__(self, readable: frozenset[str]) -> None:
        self._readable = readable
        self.trusted = False
        self.start()

    def start(self, writable: frozenset[str] = frozenset()) -> None:
        """Begin a statement of the policy, which may change rows of these tables."""
        self._writable = writable
        self._left = MAX_OPERATIONS
        self._deadline = time.thread_time() + _BACKSTOP_S
        self._asked = 0
        self.failure: sqlite3.Error | None = None
        self.refused: str | None = None
        self.touched: set[str] = set()

    def authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, source: str | None
    ) -> int:
        """Say whether a part of a statement is allowed (`sqlite3.Connection.set_authorizer`)."""
        if self.trusted:
            return sqlite3.SQLITE_OK
        self._asked += 1
        if self._asked > _MAX_AUTHORIZATIONS:
            self.refused = TOO_COMPLEX
            return sqlite3.SQLITE_DENY
        what = "this statement"
        if action == sqlite3.SQLITE_READ:
            # Without a column, as in COUNT(*), also a query that WITH names is asked about, by that name.
            if first in self._readable or (second == "" and not str(first).lower().startswith(_OWN_NAMES)):
                return sqlite3.SQLITE_OK
            what = f"table {first}"
        elif action == sqlite3.SQLITE_FUNCTION:
            if second in FUNCTIONS:
                return sqlite3.SQLITE_OK
            what = f"function {second}"
        elif action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        elif action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE):
            if first in self._writable:
                self.touched.add(first)
                return sqlite3.SQLITE_OK
            # SQLite asks for changing its own tables when a statement makes one, or a table made up by a module.
            if not str(first).startswith(_OWN_NAMES):
                what = f"changing {first}"
        self.refused = f"not authorized: {what[:80]}"
        return sqlite3.SQLITE_DENY

    def tick(self) -> bool:
        """Count operations; true ends the statement (`sqlite3.Connection.set_progress_handler`)."""
        if self.trusted:
            return False
        self._left -= OPERATIONS_A_TICK
        if self._left <= 0:
            self.refused = TOO_COSTLY
        elif time.thread_time() > self._deadline:
            self.refused = TOO_SLOW
        return self.refused is not None

    def call(self, expression: str, *arguments: Any) -> Any:
        """Compute a `METERED` function and count its work (`sqlite3.Connection.create_function`).

        SQLite itself computes it, on a connection that has its own functions, so that a result is never another.

        Args:
            expression: The function, with a parameter for each argument, such as `like(?, ?)`.
            arguments: Their values.

        Returns:
            The value of the function.

        Raises:
            sqlite3.Error: The function fails, or the work is more than what is left of the budget.
        """
        if not self.trusted:
            self._left -= _length(arguments[0]) * _length(arguments[1]) // COMPARISONS_AN_OPERATION
            if self._left <= 0:
                self.refused = TOO_COSTLY
                raise sqlite3.OperationalError(TOO_COSTLY)
        try:
            return _plain.cursor.execute(f"SELECT {expression}", arguments).fetchone()[0]
        except sqlite3.Error as error:
            # Of an error in a function SQLite says only that there was one.
            self.failure = error
            raise


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes) else _NUMBER_CHARS


def is_too_large(sql: str) -> bool:
    """Return whether the compiler might need much memory for a statement; see `expanded_size`.

    >>> is_too_large("SELECT name FROM pets WHERE age > 3")
    False
    """
    lowered = sql.lower()
    if len(sql) <= _SHORT_CHARS and lowered.count("select") <= 2 and "with" not in lowered:
        return False
    return expanded_size(sql) > MAX_EXPANDED_SIZE


# SQLite's own tokens: whatever is not ASCII may be part of a name, a space of another alphabet too.
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*(?!\Z).*?(?:\*/|\Z))|[ \t\n\f\r]+
    |(?P<quoted>'(?:[^']|'')*+'|"(?:[^"]|"")*+"|`(?:[^`]|``)*+`|\[[^\]]*\])
    |(?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)
    |(?P<number>[\d.][\w.]*)
    |(?P<mark>.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)


def without_comments(sql: str) -> str:
    """Return a statement with a space for every comment.

    SQLite calls a column without a name by its text, up to the next token, and a name has the limits of a value.

    >>> without_comments("SELECT '--' -- one")
    "SELECT '--'  "
    """
    if "--" not in sql and "/*" not in sql:
        return sql
    return _TOKEN.sub(lambda match: " " if match.lastgroup == "comment" else match.group(), sql)


def unclosed_quote(sql: str) -> str | None:
    """Return the quote or bracket around a text or name that a statement does not end; None without one.

    >>> unclosed_quote("SELECT 'it''s' FROM pets WHERE name = 'Rex")
    "'"
    """
    for match in _TOKEN.finditer(sql):
        if match.lastgroup == "mark" and match.group() in _QUOTES:
            return match.group()
    return None


# The words that can be no name. Others that SQL knows, such as BY or ROWS, SQLite also takes as names.
_RESERVED = frozenset(
    (
        "all", "and", "as", "between", "case", "collate", "delete", "distinct", "else", "escape", "except",
        "exists", "from", "group", "having", "in", "insert", "intersect", "into", "is", "isnull", "join", "limit",
        "not", "notnull", "null", "on", "or", "order", "select", "set", "then", "union", "update", "using",
        "values", "when", "where",
    )
)  # fmt: skip


class _Scope:
    """One SELECT, without the queries inside it.

    Attributes:
        size: Its tokens, marks apart.
        references: How many of them may stand for a column or a query of their own.
        names: Those references that are names, with how often each stands there.
        children: The queries inside it that have no name.
    """

    __slots__ = ("children", "names", "references", "size")

    def __init__(self) -> None:
        self.size = 0
        self.references = 0
        self.names: Counter[str] = Counter()
        self.children: list[_Scope] = []


def expanded_size(sql: str) -> int:
    """Bound the tokens of a statement when SQLite has written out what names stand for.

    A query that WITH names is written out at every mention, a column of an inner query wherever an outer one uses
    it, and a result column wherever the same query uses its alias. So each level of nesting can multiply the one
    below, and a statement of twenty lines can take gigabytes.

    >>> expanded_size("SELECT name FROM pets")  # 4 words, 2 of which may stand for something longer
    12
    >>> steps = [f"q{i} AS (SELECT x FROM q{i - 1} a, q{i - 1} b)" for i in range(1, 20)]
    >>> expanded_size(f"WITH q0(x) AS (SELECT 1), {', '.join(steps)} SELECT * FROM q19") > MAX_EXPANDED_SIZE
    True
    """
    root = _Scope()
    named: dict[str, list[_Scope]] = {}
    # The brackets that are open: the scope around each, and where it opened.
    stack: list[tuple[_Scope, int]] = []
    opened_at: dict[int, int] = {}
    words: list[str] = []
    scopes = 1
    scope, is_opening = root, False
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup
        if kind is None or kind == "comment":
            continue
        word = match.group().lower()
        if kind == "quoted":
            # Marked, so that a quoted word is never taken for a reserved one.
            word = '"' + word[1:-1].replace(word[0] * 2, word[0])
        if is_opening and word in ("select", "with", "values"):
            inner = _Scope()
            scopes += 1
            name = _name_before(words, opened_at)
            if name is None:
                scope.children.append(inner)
            else:
                named.setdefault(name, []).append(inner)
            scope = inner
        is_opening = word == "("
        if is_opening:
            stack.append((scope, len(words)))
        elif word == ")" and stack:
            scope, opened_at[len(words)] = stack.pop()
        elif word == "*" or (kind in ("word", "quoted") and word not in _RESERVED):
            scope.names[word.removeprefix('"')] += 1
            scope.references += 1
        scope.size += kind != "mark"
        words.append(word)
    if scopes > _MAX_SCOPES:
        return _BOUNDLESS
    return _measure(root, named, {})[0]


def _measure(scope: _Scope, named: dict[str, list[_Scope]], known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Bound the size of a query, and of its result columns alone."""
    if id(scope) not in known:
        # Until it is known: queries that need each other, by a name that two things have, are not told apart.
        known[id(scope)] = _BOUNDLESS, _BOUNDLESS
        whole, columns = scope.size * (1 + scope.references), scope.size
        inner = [(child, 1) for child in scope.children]
        for name, times in scope.names.items():
            # A recursive query is not written out at its own name.
            inner += [(query, times) for query in named.get(name, ()) if query is not scope]
        for query, times in inner:
            all_of_it, its_columns = _measure(query, named, known)
            added = times * all_of_it + scope.references * its_columns
            whole, columns = min(whole + added, _BOUNDLESS), min(columns + added, _BOUNDLESS)
        known[id(scope)] = whole, columns
    return known[id(scope)]


def _name_before(words: list[str], opened_at: dict[int, int]) -> str | None:
    """Return the name that WITH gives to the query whose bracket is the last word; None for any other bracket."""
    at = len(words) - 2
    while at > 0 and words[at] in ("not", "materialized"):
        at -= 1
    if at < 1 or words[at] != "as":
        return None
    at -= 1
    if words[at] == ")":  # of the list of columns
        at = opened_at.get(at, 0) - 1
    return words[at].removeprefix('"') if at >= 0 else None
