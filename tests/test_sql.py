"""The SQL box: what it returns, what it refuses, and that nothing a policy writes costs much or gets out.

Hostile statements are named by their row in the fault list of the project: 23 patterns that explode, 25 time and
chance, 26 statements that are not for a policy, 27 endless queries, 28 functions that build megabytes.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentor_gym.suites.base import load_yaml_suite
from mentor_gym.tools import sql, sql_guard
from mentor_gym.tools.sql import CUT_MARK, MAX_ROWS, NO_ROWS, TOO_LARGE, TOO_LONG, SqlBox, sql_box
from mentor_gym.tools.sql_guard import (
    COMPARISONS_AN_OPERATION,
    FUNCTIONS,
    MAX_EXPANDED_SIZE,
    MAX_OPERATIONS,
    MAX_SQL_CHARS,
    METERED,
    TOO_COMPLEX,
    TOO_COSTLY,
    TOO_SLOW,
    expanded_size,
    is_too_large,
    without_comments,
)
from mentor_gym.types import CallError

SCRIPT = """
CREATE TABLE owners (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE pets (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE, age INTEGER, weight REAL, owner INTEGER REFERENCES owners
);
CREATE TABLE notes (text);
INSERT INTO owners VALUES (1, 'Ann'), (2, 'Bob');
INSERT INTO pets VALUES (1, 'Rex', 4, 12.5, 1), (2, 'Tom', NULL, 3.25, 2), (3, 'Ivy', 4, 0.5, 1);
INSERT INTO notes VALUES ('b'), ('a'), ('b');
"""
STATE = {"script": SCRIPT, "writable": ["pets", "notes"]}
READ_ONLY = {"script": SCRIPT}
# Rows without end, n and a text of 1,500 letters.
ENDLESS = f"WITH RECURSIVE t(n, s) AS (SELECT 1, '{'a' * 1500}' UNION ALL SELECT n + 1, s FROM t) "


def opened(state: dict[str, Any] | None = STATE) -> SqlBox:
    box = sql_box()
    box.open(state)
    return box


def ask(box: SqlBox, statement: str, tool: str = "query") -> str:
    """Return what the policy reads; an error without its first words."""
    result = box.tools[tool].call({"sql": statement})
    return result.output if result.ok else "error: " + result.output.removeprefix(f"error: {tool}: ")


def change(box: SqlBox, statement: str) -> str:
    return ask(box, statement, "execute")


def content(box: SqlBox) -> str:
    """Return a digest of everything in the database."""
    connection, guard = box._connected()
    guard.trusted = True
    try:
        return hashlib.sha256("\n".join(connection.iterdump()).encode()).hexdigest()
    finally:
        guard.trusted = False


# Reading


def test_schema_shows_columns_and_references() -> None:
    assert ask_schema(opened()) == (
        "owners(id INTEGER, name TEXT)\n"
        "pets(id INTEGER, name TEXT, age INTEGER, weight REAL, owner -> owners)\n"
        "notes(text)"
    )


def ask_schema(box: SqlBox) -> str:
    return box.tools["schema"].call({}).output


def test_order_and_duplicates_are_kept() -> None:
    assert ask(opened(), "SELECT text FROM notes") == 'text\n["b"]\n["a"]\n["b"]'
    assert ask(opened(), "SELECT text FROM notes ORDER BY text DESC") == 'text\n["b"]\n["b"]\n["a"]'


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("NULL", "null"),
        ("'null'", '"null"'),
        ("1", "1"),
        ("1.0", "1.0"),
        ("'1'", '"1"'),
        ("0.1 + 0.2", "0.3"),
        ("1 / 3.0", "0.3333333333"),
        ("123456789012345", "123456789012345"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775807 + 1", "9.223372037e+18"),
        ("1e999", '"inf"'),
        ("-1e999", '"-inf"'),
        ("1e999 - 1e999", "null"),
        ("x'00ff'", "\"x'00ff'\""),
        ("'it''s \"so\"'", '"it\'s \\"so\\""'),
        ("'two' || char(10) || 'lines'", '"two\\nlines"'),
        ("'é東🎉'", '"é東🎉"'),
    ],
)
def test_values_keep_their_types(expression: str, shown: str) -> None:
    assert ask(opened(), f"SELECT {expression} AS x") == f"x\n[{shown}]"


def test_rows_are_cut_with_a_mark() -> None:
    numbers = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT {}) SELECT n FROM t"
    box = opened()
    assert ask(box, numbers.format(MAX_ROWS)).split("\n")[-1] == f"[{MAX_ROWS}]"
    lines = ask(box, numbers.format(MAX_ROWS + 1)).split("\n")
    assert lines[-2:] == [f"[{MAX_ROWS}]", CUT_MARK]
    assert ask(box, "SELECT name FROM pets WHERE age > 90") == f"name\n{NO_ROWS}"


def test_long_results_are_cut_by_the_tool() -> None:
    output = ask(
        opened(), "SELECT a.name || b.name || c.name || d.name AS x FROM pets a, pets b, pets c, pets d, pets"
    )
    assert len(output) < 2_100
    assert output.endswith("…[cut]") or output.endswith(CUT_MARK)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELEC name FROM pets", 'near "SELEC": syntax error'),
        ("SELECT nme FROM pets", "no such column: nme"),
        ("SELECT 1 FROM cats", "no such table: cats"),
        ("SELECT id FROM pets p JOIN owners o ON o.id = p.owner", "ambiguous column name: id"),
        ("SELECT ?", "write values into the statement in place of parameters"),
        ("SELECT :name", "write values into the statement in place of parameters"),
        ("", "the statement is empty"),
        ("  -- nothing\n", "the statement is empty"),
        ("SELECT 1; SELECT 2", "not authorized: one statement at a time"),
        ("SELECT 'a\x00b'", "the statement holds characters that are not text"),
        ("SELECT CAST(x'ff' AS TEXT)", "a value is not valid text"),
        (f"SELECT '{'a' * 2001}'", TOO_LARGE),
        (f"SELECT coalesce({', '.join([repr('a' * 300)] * 8)})", TOO_LARGE),
        ("SELECT name FROM pets WHERE name = 'Rex", "a text or name that begins with ' has no end"),
        (f"SELECT '{'a' * 3_000}", "a text or name that begins with ' has no end"),
        (f"SELECT \"it's{'a' * 3_000}", 'a text or name that begins with " has no end'),
        (f"SELECT '[', [{'a' * 3_000}", "a text or name that begins with [ has no end"),
        (f"SELECT `{'é' * 1_500}", "a text or name that begins with ` has no end"),
        (f"SELECT {'a' * 3_000} FROM pets", TOO_LONG),
        ("SELECT 1 @", 'unrecognized token: "@"'),
        ("SELECT 1 /*", 'near "*": syntax error'),
        ("SELECT CAST(x'ff' AS TEXT) LIKE 'a'", "a value is not valid text"),
        ("SELECT 'a' LIKE 'b' ESCAPE 'cd'", "ESCAPE expression must be a single character"),
        ("SELECT trim(1, 2, 3)", "wrong number of arguments to function trim()"),
        (f"SELECT max({', '.join('1' * 31)})", "too many arguments on function max"),
        ("SELECT abs(-9223372036854775808)", "integer overflow"),
    ],
)
def test_failures_are_short_and_say_what_is_wrong(statement: str, message: str) -> None:
    box = opened()
    assert ask(box, statement) == f"error: {message}"
    assert ask(box, "SELECT COUNT(*) AS n FROM pets") == "n\n[3]"


def test_comments_count_for_nothing() -> None:
    box = opened()
    assert ask(box, f"SELECT 1 -- {'x' * 3_900}") == "1\n[1]"
    assert ask(box, f"SELECT /* {'x' * 1_900} */ 1 + /* {'x' * 1_900} */ 2 AS n") == "n\n[3]"
    assert ask(box, "SELECT 1 /* without an end") == "1\n[1]"
    assert ask(
        box, "SELECT 1 /**/ + 1 AS n -- one\n, '-- /* no' AS [--comment], \"/*\" FROM (SELECT 5 AS '/*')"
    ) == ('n, --comment, /*\n[2, "-- /* no", 5]')
    assert change(box, f"DELETE FROM notes -- {'x' * 3_900}") == "3 rows changed"
    assert without_comments("SELECT 4-- 3\n-2/*/ 1 */") == "SELECT 4 \n-2 "


def test_a_lone_surrogate_never_reaches_the_database() -> None:
    box = opened()
    result = box.tools["query"].call({"sql": "SELECT '\ud800'"})
    assert result.error in (CallError.INVALID_ARGUMENTS, CallError.TOOL_FAILED)
    with pytest.raises(sql.ToolError, match="characters that are not text"):
        box.query("SELECT '\ud800'")


def test_what_everybody_writes_works() -> None:
    box = opened()
    nested = (
        "WITH heavy AS (SELECT owner, SUM(weight) AS total, COUNT(*) AS n FROM pets GROUP BY owner), "
        "best AS (SELECT MAX(total) AS top FROM heavy) "
        "SELECT o.name, h.total FROM heavy h JOIN owners o ON o.id = h.owner JOIN best b ON b.top = h.total "
        "WHERE h.n > (SELECT AVG(n) FROM heavy) ORDER BY h.total DESC, o.name"
    )
    assert ask(box, nested) == 'name, total\n["Ann", 13.0]'
    ranked = "SELECT name, RANK() OVER (ORDER BY weight DESC) AS place FROM pets ORDER BY place LIMIT 2"
    assert ask(box, ranked) == 'name, place\n["Rex", 1]\n["Tom", 2]'
    assert ask(box, "WITH t AS (SELECT 1) SELECT COUNT(*) AS n FROM t") == "n\n[1]"
    assert ask(box, "SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 1") == 'name\n["owners"]'
    assert ask(box, "/* why */ select upper(name) as x from pets where name like 'r%';") == 'x\n["REX"]'
    assert ask(box, "VALUES (1, 'a')").split("\n")[1] == '[1, "a"]'


# Changing


def test_changes_stay_for_the_episode_and_are_counted() -> None:
    box = opened()
    assert change(box, "UPDATE pets SET age = 5 WHERE owner = 1") == "2 rows changed"
    assert change(box, "INSERT INTO pets (name, owner) VALUES ('Kit', 2)") == "1 row changed"
    assert change(box, "DELETE FROM notes WHERE text = 'z'") == "0 rows changed"
    assert (
        change(box, "WITH old AS (SELECT 2 AS x) DELETE FROM pets WHERE id IN (SELECT x FROM old)")
        == "1 row changed"
    )
    assert ask(box, "SELECT name, age FROM pets ORDER BY id") == 'name, age\n["Rex", 5]\n["Ivy", 5]\n["Kit", null]'
    box.open(STATE)
    assert ask(box, "SELECT COUNT(*) AS n FROM pets WHERE age = 4") == "n\n[2]"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE owners SET name = 'x'", "not authorized: changing owners"),
        ("INSERT INTO owners SELECT id + 9, name FROM pets", "not authorized: changing owners"),
        ("DELETE FROM sqlite_master", "table sqlite_master may not be modified"),
        ("SELECT name FROM pets", "not authorized: execute takes an INSERT, UPDATE or DELETE, not SELECT"),
        (
            "WITH t AS (SELECT 1) SELECT * FROM t",
            "execute returns no rows; use query for a SELECT, and no RETURNING",
        ),
        ("DELETE FROM pets RETURNING name", "execute returns no rows; use query for a SELECT, and no RETURNING"),
        ("INSERT INTO pets (id, name) VALUES (1, 'x')", "UNIQUE constraint failed: pets.id"),
        ("INSERT INTO pets (name, owner) VALUES ('x', 9)", "FOREIGN KEY constraint failed"),
        ("UPDATE pets SET age = 1; UPDATE pets SET age = 2", "not authorized: one statement at a time"),
        ("UPDATE OR FAIL pets SET name = 'same'", "UNIQUE constraint failed: pets.name"),
        ("UPDATE OR ROLLBACK pets SET name = 'same'", "UNIQUE constraint failed: pets.name"),
        ("INSERT INTO pets (id, name) VALUES (9223372036854775807, 'x')", "the number of the row is too large"),
        (f"UPDATE notes SET text = '{'a' * 2001}'", TOO_LARGE),
        ("UPDATE notes SET text = 'a", "a text or name that begins with ' has no end"),
        ("UPDATE notes SET text = random()", "not authorized: function random"),
        ("", "the statement is empty"),
    ],
)
def test_a_failed_change_changes_nothing(statement: str, message: str) -> None:
    box = opened()
    before = content(box)
    assert change(box, statement) == f"error: {message}"
    assert content(box) == before
    assert box.snapshot() == b""
    assert box.final_state() == {}
    assert change(box, "UPDATE pets SET age = 9 WHERE id = 1") == "1 row changed"


def test_a_statement_that_was_allowed_in_one_tool_is_asked_about_in_the_other() -> None:
    # sqlite3 keeps compiled statements unless told otherwise, and asks the authorizer when it compiles alone.
    box = opened()
    statement = "WITH t AS (SELECT 1) UPDATE pets SET age = age + 1"
    assert change(box, statement) == "3 rows changed"
    assert ask(box, statement) == "error: not authorized: changing pets"
    assert change(box, "SELECT 1") != "1 row changed"


def test_nothing_may_be_changed_without_permission() -> None:
    box = opened(READ_ONLY)
    before = content(box)
    assert change(box, "DELETE FROM notes") == "error: not authorized: nothing may be changed here"
    assert ask(box, "WITH t AS (SELECT 1) DELETE FROM notes") == "error: not authorized: changing notes"
    assert content(box) == before


def test_a_wrong_list_of_writable_tables_is_an_error_of_the_task() -> None:
    box = opened({"script": SCRIPT, "writable": ["cats"]})
    with pytest.raises(ValueError, match="writable: the database has the tables owners, pets, notes"):
        box.execute("DELETE FROM cats")


# What is graded


def test_the_final_state_is_what_differs_whatever_the_statements() -> None:
    one, other = opened(), opened()
    change(one, "UPDATE pets SET weight = weight * 1.1 WHERE id < 3")
    change(one, "INSERT INTO notes VALUES ('c'), ('d')")
    change(other, "INSERT INTO notes VALUES ('d')")
    change(other, "UPDATE pets SET weight = weight + weight / 10 WHERE id = 2")
    change(other, "UPDATE pets SET weight = weight + weight / 10 WHERE id = 1")
    change(other, "INSERT INTO notes VALUES ('c')")
    expected = {
        "notes": {"removed": [], "added": [["c"], ["d"]]},
        "pets": {
            "removed": [[1, "Rex", 4, 12.5, 1], [2, "Tom", None, 3.25, 2]],
            "added": [[1, "Rex", 4, 13.75, 1], [2, "Tom", None, 3.575, 2]],
        },
    }
    assert one.final_state() == other.final_state() == expected
    assert json.loads(json.dumps(expected)) == expected


def test_the_final_state_counts_equal_rows_and_forgets_what_was_undone() -> None:
    box = opened()
    change(box, "INSERT INTO notes VALUES ('b')")
    assert box.final_state() == {"notes": {"removed": [], "added": [["b"]]}}
    change(box, "DELETE FROM notes WHERE text = 'b'")
    assert box.final_state() == {"notes": {"removed": [["b"], ["b"]], "added": []}}
    change(box, "INSERT INTO notes VALUES ('b'), ('b')")
    assert box.final_state() == {}
    change(box, "UPDATE pets SET weight = weight + 1e-14")
    assert box.final_state() == {}


def test_the_final_state_survives_what_is_no_text() -> None:
    box = opened()
    change(box, "UPDATE notes SET text = CAST(x'ff41' AS TEXT) WHERE text = 'a'")
    change(box, "INSERT INTO notes VALUES (x'ff'), (1e999), (NULL)")
    state = box.final_state()
    assert state == {"notes": {"removed": [["a"]], "added": [["inf"], ["x'ff'"], ["\ufffdA"], [None]]}}
    json.dumps(state).encode()


# Life cycle


def test_nothing_is_built_before_it_is_needed() -> None:
    built = []

    def fill(connection: sqlite3.Connection, state: dict[str, Any]) -> None:
        built.append(state)
        connection.executescript(SCRIPT)

    box = SqlBox(fill)
    box.open({"number": 1})
    assert box.snapshot() == b""
    assert box.final_state() == {}
    assert built == []
    assert ask_schema(box).startswith("owners(")
    assert box._connection is None
    other = SqlBox(fill)
    for state in ({"number": 1}, {"writable": ["notes"], "number": 1}):
        other.open(state)
        assert ask(other, "SELECT 1 AS x") == "x\n[1]"
    assert built == [{"number": 1}]
    other.open({"number": 2})
    ask_schema(other)
    assert built == [{"number": 1}, {"number": 2}]


def test_boxes_share_nothing_that_changes() -> None:
    one, other = opened(), opened()
    change(one, "DELETE FROM notes")
    assert ask(other, "SELECT COUNT(*) AS n FROM notes") == "n\n[3]"
    assert ask(opened(), "SELECT COUNT(*) AS n FROM notes") == "n\n[3]"


def test_close_frees_and_may_be_called_twice() -> None:
    box = opened()
    change(box, "DELETE FROM notes")
    connection = box._connection
    assert connection is not None
    box.close()
    box.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
    assert box.snapshot() == b""
    assert ask_schema(box) == ""


def test_a_box_that_is_dropped_without_close_is_freed() -> None:
    statement = "DELETE FROM notes WHERE text LIKE 'A' ESCAPE '!'"
    assert change(opened(), statement) == "1 row changed"
    gc.collect()
    before = sum(type(item) is sqlite3.Connection for item in gc.get_objects())
    for _ in range(20):
        change(opened(), statement)
    gc.collect()
    assert sum(type(item) is sqlite3.Connection for item in gc.get_objects()) == before


@pytest.mark.parametrize("state", [STATE, READ_ONLY])
def test_a_snapshot_is_exact_and_small(state: dict[str, Any]) -> None:
    box = opened(state)
    statements = [
        "UPDATE pets SET age = 7 WHERE name = 'Rex'",
        "INSERT INTO notes VALUES ('é')",
        "UPDATE pets SET name = 'Rex' WHERE id = 3",  # fails
        "DELETE FROM pets WHERE id = 3",
        "INSERT INTO pets (name) VALUES ('new')",
    ]
    digests = [content(box)]
    for statement in statements:
        change(box, statement)
        digests.append(content(box))
        saved = box.snapshot()
        assert saved == box.snapshot()
        assert len(saved) < 250
        twin = opened(state)
        twin.restore(saved)
        assert content(twin) == digests[-1]
        assert twin.snapshot() == saved
        assert twin.final_state() == box.final_state()
        other = opened_at(state, saved)
        for later in reversed(statements):
            assert change(twin, later) == change(other, later)
        assert content(twin) == content(other)
    assert (saved == b"") == ("writable" not in state)
    assert len(set(digests)) == (5 if "writable" in state else 1)
    box.restore(b"")
    assert content(box) == digests[0]


def opened_at(state: dict[str, Any], snapshot: bytes) -> SqlBox:
    box = opened(state)
    box.restore(snapshot)
    return box


def test_a_restored_twin_goes_on_as_the_original() -> None:
    box = opened()
    change(box, "DELETE FROM pets WHERE id = 3")
    twin = opened_at(STATE, box.snapshot())
    for statement in ("INSERT INTO pets (name) VALUES ('n')", "UPDATE pets SET age = id", "DELETE FROM notes"):
        assert change(twin, statement) == change(box, statement)
        assert content(twin) == content(box)
    assert twin.snapshot() == box.snapshot()


@pytest.mark.parametrize(
    "snapshot",
    [
        b"garbage",
        b"\xff\xfe",
        b"{}",
        b"[1]",
        b'["DROP TABLE pets"]',
        b'["UPDATE owners SET name = 1"]',
        b'["SELECT 1"]',
        b'["UPDATE pets SET age = nonsense"]',
        b"SQLite format 3\x00",
        b"[" * 200_000,
    ],
)
def test_a_foreign_snapshot_can_do_no_more_than_a_policy(snapshot: bytes) -> None:
    box = opened()
    before = content(box)
    with pytest.raises(ValueError):  # noqa: PT011  (the decoder's own, or ours)
        box.restore(snapshot)
    box.open(STATE)
    assert content(box) == before


def test_a_suite_of_ones_own_needs_no_code(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text("from mentor_gym.tools.sql import sql_box as make_box\n")
    row = {
        "id": "1", "suite": "pets", "split": "train", "prompt": "How old is Rex?", "tools": ["schema", "query"],
        "answer": "4", "grader": {"kind": "number"}, "state": READ_ONLY, "teacher": [],
    }  # fmt: skip
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    (tmp_path / "suite.yaml").write_text("name: pets\ntools: tools.py\nsplits: {train: train.jsonl}\n")
    suite = load_yaml_suite(str(tmp_path / "suite.yaml"))
    box = suite.new_box()
    assert isinstance(box, SqlBox)
    assert box is not suite.new_box()
    box.open(suite.tasks("train")[0].state)
    assert ask(box, "SELECT age FROM pets WHERE name = 'Rex'") == "age\n[4]"


# Row 23: patterns that explode


@pytest.mark.parametrize("pattern", ["'" + "%a" * 48 + "%b'", "'" + "%a_" * 30 + "b' ESCAPE 'x'"])
def test_row_23_long_patterns_are_refused(pattern: str) -> None:
    assert ask(opened(), f"{ENDLESS} SELECT COUNT(*) FROM t WHERE s || n LIKE {pattern}") == (
        "error: LIKE or GLOB pattern too complex"
    )


@pytest.mark.parametrize(
    "condition",
    [
        "s || n LIKE '" + "%a_" * 16 + "b'",
        "s || n GLOB '" + "*[a-z]" * 8 + "b'",
        "instr(s, substr(s, 1, 900) || n)",
        "replace(s, substr(s, 1, 900) || 'b', 'c') = s",
        "hex(substr(s, 1, 900)) = quote(s)",
    ],
)
def test_row_23_functions_cost_little_each(condition: str) -> None:
    start = time.process_time()
    output = ask(opened(), f"{ENDLESS} SELECT SUM(n) FROM t WHERE {condition}")
    assert output == f"error: {TOO_COSTLY}"
    assert time.process_time() - start < 2


TEXTS = st.one_of(
    st.text("aAbé\N{KELVIN SIGN}k%_*?[]^-1.\x00", max_size=12),
    st.sampled_from([None, 0, 1, -1, 12, 1.0, 0.1, 1e300, 1 / 3, b"", b"aB", b"\x00a"]),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([(name, n) for name, numbers in METERED.items() for n in numbers]), st.data())
def test_row_23_metered_functions_give_what_sqlite_gives(function: tuple[str, int], data: st.DataObject) -> None:
    name, arity = function
    values = [data.draw(TEXTS) for _ in range(arity)]
    # As literals, so that the function gets each with its type; no text holds a quote.
    literals = []
    for value in values:
        if isinstance(value, str):
            literals.append(" || char(0) || ".join(f"'{part}'" for part in value.split("\x00")))
        elif isinstance(value, bytes):
            literals.append(f"x'{value.hex()}'")
        else:
            literals.append("NULL" if value is None else repr(value))
    statement = f"SELECT {name}({', '.join(literals)}) AS x"
    plain = sqlite3.connect(":memory:")
    try:
        expected = sql._write(["x"], plain.execute(statement).fetchall())
    except sqlite3.OperationalError as error:
        expected = f"error: {error}"
    finally:
        plain.close()
    assert ask(opened(), statement) == expected


def test_row_23_like_ignores_the_case_of_ascii_letters_alone() -> None:
    box = opened()
    likes = (
        "'REX' LIKE 'r_x', 'é' LIKE 'É', 'k' LIKE '\N{KELVIN SIGN}', 'a%' LIKE 'a!%' ESCAPE '!', 'ab' GLOB 'A*'"
    )
    assert ask(box, f"SELECT {likes}").split("\n")[1] == "[1, 0, 0, 1, 0]"


def compared(rows: int, length: int = 1_600) -> str:
    """Return a statement that looks for a text in itself, once in each row."""
    steps = f"SELECT 1, '{'a' * length}' UNION ALL SELECT n + 1, s FROM t LIMIT {rows}"
    return f"WITH RECURSIVE t(n, s) AS ({steps}) SELECT SUM(instr(s, s)) AS x FROM t"


def test_row_23_comparisons_are_counted_exactly() -> None:
    # 1,600 letters against as many are 10,000 operations, and 25 of them the budget; rows cost less than 1,000.
    assert 1_600**2 // COMPARISONS_AN_OPERATION == MAX_OPERATIONS // 25 == 10_000
    boxes = [opened(), opened(READ_ONLY), opened({"script": "CREATE TABLE other (name)"})]
    for _ in range(2):
        for box in boxes:
            # Each statement has the whole budget, and each connection counts for its own guard.
            assert ask(box, compared(24)) == "x\n[24]"
            assert ask(box, compared(25)) == f"error: {TOO_COSTLY}"
            assert ask(box, compared(24)) == "x\n[24]"
    assert change(boxes[0], "UPDATE notes SET text = instr(text, 'b')") == "3 rows changed"


# Each with the letters of the text s.
COSTLY = [
    ("a", " + ".join(f"(s LIKE '%{'a' * 47}{letter}')" for letter in "bcdefghijklmnop")),
    ("a", " + ".join(f"(s LIKE '%{'a' * 47}{letter}' ESCAPE '!')" for letter in "bcdefghijklmnop")),
    ("a", " + ".join(f"(s GLOB '*[{'bcdefghij' * 4}a]{letter}')" for letter in "bcdefghijklmnop")),
    ("a", f"length(trim(s, '{'b' * 160}a'))"),
    ("a", f"length(ltrim(s, '{'b' * 160}a') || rtrim(s, '{'b' * 160}a'))"),
    ("a", "instr(s, substr(s, 1, 700) || 'b')"),
    ("a", "length(replace(s, substr(s, 1, 700) || 'b', ''))"),
    ("a", " + ".join(["length(upper(s))"] * 40)),
    ("1", " + ".join(["s * s"] * 40)),
]


@pytest.mark.parametrize(("letter", "expression"), COSTLY)
def test_row_23_the_budget_ends_far_before_the_backstop(letter: str, expression: str) -> None:
    rows = ENDLESS.replace("a" * 1500, letter * 1500)
    start = time.process_time()
    assert ask(opened(), f"{rows} SELECT SUM({expression}) FROM t") == f"error: {TOO_COSTLY}"
    assert time.process_time() - start < sql_guard._BACKSTOP_S / 5


def test_views_of_a_task_may_use_metered_functions() -> None:
    box = opened({"script": SCRIPT + "CREATE VIEW short AS SELECT name FROM pets WHERE name LIKE 'r%'"})
    assert ask(box, "SELECT name FROM short") == 'name\n["Rex"]'
    view = "CREATE VIEW chance AS SELECT random() AS x; CREATE VIEW time AS SELECT datetime('now') AS x"
    box = opened({"script": view})
    assert ask(box, "SELECT x FROM chance") == "error: not authorized: function random"
    assert ask(box, "SELECT x FROM time") == "error: not authorized: function datetime"


# Row 25: time and chance

CHANCE = (
    "random()", "hex(randomblob(4))", "datetime('now')", "date()", "time('now')", "julianday('now')",
    "strftime('%s', 'now')", "unixepoch()", "current_timestamp", "CURRENT_DATE", "current_time",
    "last_insert_rowid()", "changes()", "total_changes()", "sqlite_version()", "sqlite_source_id()",
)  # fmt: skip


@pytest.mark.parametrize("expression", CHANCE)
def test_row_25_time_and_chance_are_refused(expression: str) -> None:
    name = expression.partition("(")[0].lower() if not expression.startswith("hex") else "randomblob"
    assert ask(opened(), f"SELECT {expression}").lower() == f"error: not authorized: function {name}"
    if "(" not in expression:
        assert ask(opened(), f"SELECT name FROM pets WHERE name < {expression}").startswith(
            "error: not authorized"
        )


def test_row_25_no_row_gets_a_number_by_chance() -> None:
    """A row with the largest number makes SQLite draw the next number at random."""
    box = opened()
    change(box, "INSERT INTO notes (rowid, text) VALUES (9223372036854775807, 'x')")
    for statement in ("UPDATE notes SET rowid = 9223372036854775807 WHERE text = 'a'", "DELETE FROM notes"):
        change(box, statement)
    assert change(box, "INSERT INTO notes VALUES ('y')") == "1 row changed"
    assert ask(box, "SELECT rowid FROM notes") == "rowid\n[1]"


HOSTILE = [
    "SELECT * FROM pets, notes ORDER BY 2",
    "SELECT DISTINCT text FROM notes",
    "SELECT group_concat(name) FROM pets GROUP BY age",
    "SELECT name FROM pets UNION SELECT text FROM notes",
    "SELECT 1e999, 0.1 + 0.2, x'ff'",
    "SELECT nme FROM pets",
    f"{ENDLESS} SELECT MAX(n) FROM t",
    f"{ENDLESS} SELECT n FROM t ORDER BY s, n",
    "SELECT COUNT(*) FROM pets a, pets b, pets c, pets d, pets e, pets f, pets g, pets h, pets i, pets j, pets k",
    *(f"SELECT {expression}" for expression in CHANCE),
]


def test_row_25_results_are_the_same_in_every_process() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests'); from test_sql import *\n"
        "box = opened(); outputs = [ask(box, statement) for statement in HOSTILE]\n"
        "change(box, \"UPDATE pets SET age = 1 WHERE id IN (1, 2)\"); change(box, 'DELETE FROM notes')\n"
        "outputs += [json.dumps(box.final_state()), box.snapshot().decode(), ask_schema(box)]\n"
        "print(hashlib.sha256('\\n'.join(outputs).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


# Row 26: statements that are not for a policy


@pytest.mark.parametrize("tool", ["query", "execute"])
@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE pets",
        "drop table if exists pets",
        "CREATE TABLE mine (x)",
        "CREATE TEMP TABLE mine (x)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON pets BEGIN DELETE FROM notes; END",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "ALTER TABLE pets RENAME TO cats",
        "ATTACH '{path}' AS other",
        "ATTACH DATABASE '{path}' AS other",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO '{path}'",
        "PRAGMA writable_schema = 1",
        "PRAGMA query_only = 0",
        "PRAGMA table_info(pets)",
        "PRAGMA journal_mode = DELETE",
        "/* hidden */ PRAGMA database_list",
        "-- hidden\n DROP TABLE pets",
        "/**/ /* a */ -- b\n\tATTACH '{path}' AS other",
        "REINDEX",
        "ANALYZE",
        "BEGIN",
        "BEGIN EXCLUSIVE",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT a",
        "RELEASE a",
        "EXPLAIN SELECT 1",
        "EXPLAIN QUERY PLAN SELECT * FROM pets",
        "SELECT 1; DROP TABLE pets",
        "SELECT load_extension('{path}')",
        "SELECT * FROM pragma_table_info('pets')",
        "SELECT COUNT(*) FROM pragma_database_list",
        "SELECT * FROM sqlite_temp_master",
        "SELECT COUNT(*) FROM sqlite_temp_master",
        "SELECT * FROM dbstat",
        "SELECT COUNT(*) FROM dbstat",
        "SELECT COUNT(*) FROM sqlite_stmt",
        "SELECT * FROM json_each('[1]')",
        "SELECT fts3_tokenizer('simple')",
        "SELECT writefile('{path}', 'x')",
        "SELECT readfile('{path}')",
        "SELECT edit('x')",
    ],
)
def test_row_26_nothing_but_reading_is_allowed(statement: str, tool: str, tmp_path: Path) -> None:
    path = tmp_path / "canary"
    statement = statement.format(path=path)
    box = opened()
    before = content(box)
    output = ask(box, statement, tool)
    # What this build of SQLite does not have is refused as unknown.
    assert output.startswith(("error: not authorized", "error: no such")), output
    assert str(tmp_path) not in output
    assert content(box) == before
    assert list(tmp_path.iterdir()) == []
    assert ask(box, statement, tool) == output
    assert ask(box, "SELECT COUNT(*) AS n FROM pets") == "n\n[3]"


def test_row_26_the_guard_alone_refuses_what_the_first_word_gives_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_STATEMENTS", frozenset())
    box = opened()
    before = content(box)
    for statement in (
        "DROP TABLE pets",
        "PRAGMA user_version",
        "ATTACH ':memory:' AS x",
        "BEGIN",
        "VACUUM",
        "ANALYZE",
    ):
        for tool in ("query", "execute"):
            assert ask(box, statement, tool).startswith("error: "), statement
    assert ask(box, "DROP TABLE pets") == "error: not authorized: this statement"
    assert ask(box, "DELETE FROM notes") == "error: not authorized: changing notes"
    assert content(box) == before


# Row 27: queries without end


@pytest.mark.parametrize(
    "statement",
    [
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT COUNT(*) FROM t",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n FROM t ORDER BY n DESC",
        f"SELECT COUNT(*) FROM {', '.join(f'pets p{i}' for i in range(20))}",
        f"SELECT 1 FROM pets a, pets b WHERE (SELECT COUNT(*) FROM {', '.join(f'pets p{i}' for i in range(15))})",
        f"{ENDLESS} SELECT MAX(s || n), MIN(n || s) FROM t",
        f"{ENDLESS} SELECT COUNT(*) FROM t a, t b WHERE a.s || a.n = b.s || b.n",
        f"{ENDLESS} SELECT group_concat(s) FROM t",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION SELECT n + 1 FROM t) SELECT SUM(n) OVER (ORDER BY n) FROM t",
    ],
)
def test_row_27_endless_queries_end(statement: str) -> None:
    box = opened()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    outputs = {ask(box, statement) for _ in range(3)}
    assert outputs == {f"error: {TOO_COSTLY}"}
    assert time.process_time() - start < 6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000  # KiB
    assert ask(box, "SELECT 1 AS x") == "x\n[1]"


def test_row_27_the_budget_is_counted_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same query succeeds or fails at the same number of rows, whatever the time."""
    counting = (
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT {}) SELECT COUNT(*) AS n FROM t"
    )

    def largest() -> int:
        box = opened()
        low, high = 1, 100_000
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if "error" not in ask(box, counting.format(middle)) else (low, middle)
        return low

    found = largest()
    assert 5_000 < found < 50_000
    assert largest() == found
    monkeypatch.setattr(sql_guard, "MAX_OPERATIONS", 2 * sql_guard.MAX_OPERATIONS)
    assert largest() == pytest.approx(2 * found, rel=0.01)


def test_row_27_the_backstop_has_a_text_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    many = "SELECT COUNT(*) AS n FROM pets a, pets b, pets c, pets d, pets e, pets f, pets g"
    assert ask(opened(), many) == f"n\n[{3**7}]"
    monkeypatch.setattr(sql_guard, "_BACKSTOP_S", -1)
    assert ask(opened(), many) == f"error: {TOO_SLOW}"
    assert change(opened(), f"DELETE FROM notes WHERE ({many})") == f"error: {TOO_SLOW}"


def test_row_27_changes_have_the_same_budget_and_a_limit_of_size() -> None:
    box = opened()
    before = content(box)
    assert change(box, f"{ENDLESS} INSERT INTO notes SELECT n FROM t") == f"error: {TOO_COSTLY}"
    assert change(box, f"{ENDLESS} INSERT INTO notes SELECT s || n FROM t") == "error: database or disk is full"
    assert content(box) == before
    outputs = [change(box, "INSERT INTO notes SELECT text || text FROM notes") for _ in range(40)]
    assert outputs[0] == "3 rows changed"
    assert outputs[-1].startswith("error: ")
    assert not [output for output in outputs if "/" in output]
    connection, guard = box._connected()
    guard.trusted = True
    assert len(connection.serialize()) < 400_000
    guard.trusted = False
    # The budget is the policy's: to look at what it has done takes as much as it takes.
    assert ask(box, f"{ENDLESS} SELECT MAX(n) FROM t") == f"error: {TOO_COSTLY}"
    assert box.final_state()["notes"]["removed"] == []
    assert len(box.final_state()["notes"]["added"]) > 1_000


# Words of SQL that SQLite also takes as names.
KEYWORDS = [
    "by", "rows", "desc", "asc", "end", "action", "like", "glob", "match", "key", "of", "row", "plan", "with",
    "temp", "no", "if", "do", "before", "after", "view",
]  # fmt: skip
# Ways to write the name of a query, where it is defined and where it is used.
NAME_STYLES = {
    "plain": ("q{i}", "q{i}"),
    "other case": ("Q{i}", "q{i}"),
    "double quotes": ('"q {i}"', '"q {i}"'),
    "quoted or not": ("q{i}", "'q{i}'"),
    "other quotes": ('"q""{i}"', '[q"{i}]'),
    "backticks": ("`q;{i}`", '"q;{i}"'),
    "quoted keywords": ("[select {i}]", "`select {i}`"),
    "symbols": ("\N{PARTY POPPER}{i}", "\N{PARTY POPPER}{i}"),
    "spaces of other alphabets": ("q\N{NO-BREAK SPACE}{i}", '"q\N{NO-BREAK SPACE}{i}"'),
    "keywords": ("{keyword}", "{keyword}"),
}


@pytest.mark.parametrize("style", NAME_STYLES)
@pytest.mark.parametrize(
    "step",
    [
        "{name} AS (SELECT a.x FROM {before} a, {before} b)",
        "{name}(x) AS (SELECT x FROM {before} UNION ALL SELECT x FROM {before})",
        "{name}(x) AS NOT MATERIALIZED (SELECT (SELECT x FROM {before}) + (SELECT x FROM {before}))",
        "{name}(x) AS /* ( */ MATERIALIZED -- )\n (SELECT x FROM {before} WHERE x IN {before})",
    ],
)
def test_row_27_queries_that_multiply_are_refused_before_they_are_compiled(style: str, step: str) -> None:
    defined, used = (
        [form.format(i=i, keyword=word) for i, word in enumerate(KEYWORDS)] for form in NAME_STYLES[style]
    )
    steps = [step.format(name=name, before=before) for before, name in zip(used, defined[1:])]
    statement = f"WITH {defined[0]}(x) AS (SELECT 1), {', '.join(steps)} SELECT COUNT(*) FROM {used[-1]}"
    assert len(statement) < MAX_SQL_CHARS
    start = time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert ask(opened(), statement) == f"error: {TOO_COMPLEX}"
    assert time.process_time() - start < 0.2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 20_000
    # The names are names to SQLite too: a short chain of them is a query that works.
    short = f"WITH {defined[0]}(x) AS (SELECT 1), {', '.join(steps[:2])} SELECT COUNT(*) AS n FROM {used[2]}"
    assert "error" not in ask(opened(), short)


@pytest.mark.parametrize("column", ["a", '"a b"', "\N{PARTY POPPER}", *KEYWORDS])
def test_row_27_columns_that_multiply_are_refused_whatever_they_are_called(column: str) -> None:
    def nested(levels: int, times: int) -> str:
        statement = f"SELECT age AS {column} FROM pets"
        for _ in range(levels):
            statement = f"SELECT {' + '.join([column] * times)} AS {column} FROM ({statement})"
        return statement

    assert "error" not in ask(opened(), nested(1, 3))
    # Asked of the rule alone: without it, this takes gigabytes.
    assert is_too_large(nested(4, 60))
    assert ask(opened(), nested(3, 60)) == f"error: {TOO_COMPLEX}"


def test_row_27_columns_that_multiply_are_refused() -> None:
    statement = "SELECT id AS a FROM pets"
    for _ in range(4):
        statement = f"SELECT {' + '.join(['a'] * 60)} AS a FROM ({statement})"
    start = time.process_time()
    assert ask(opened(), statement) == f"error: {TOO_COMPLEX}"
    alias = f"SELECT max({', '.join(['1'] * 120)}) AS x FROM pets WHERE max({', '.join(['x'] * 120)})"
    long = f"{alias} AND max({', '.join(['x'] * 800)})"
    assert ask(opened(), long) == f"error: {TOO_COMPLEX}"
    assert time.process_time() - start < 0.2


def test_row_27_deep_nesting_is_an_error_and_no_crash() -> None:
    box = opened()
    for statement in (
        "SELECT " + "(" * 1_900 + "1" + ")" * 1_900,
        "SELECT " + "-" * 3_900 + "1",
        "SELECT " + "NOT " * 900 + "1",
        "SELECT * FROM " + "(SELECT * FROM " * 200 + "pets" + ")" * 200,
        "SELECT 1 WHERE " + "EXISTS (SELECT 1 WHERE " * 150 + "1" + ")" * 150,
        " UNION ALL ".join(["SELECT 1"] * 200),
        "SELECT " + ", ".join(["*"] * 60) + " FROM pets",
        f"SELECT * FROM {', '.join(f'pets p{i}' for i in range(90))}",
    ):
        start = time.process_time()
        output = ask(box, statement)
        assert output.startswith(("error: ", "--1", "1\n")) or NO_ROWS in output, output
        assert len(output) < 2_100
        assert time.process_time() - start < 0.5


def test_the_size_of_ordinary_statements_is_far_below_the_bound() -> None:
    wide = "SELECT " + ", ".join(f"SUM(CASE WHEN age = {i} THEN 1 ELSE 0 END) AS age_{i}" for i in range(30))
    steps = (
        "WITH a AS (SELECT owner, SUM(weight) AS w, COUNT(*) AS n FROM pets WHERE age > 1 GROUP BY owner), "
        "b AS (SELECT o.name, a.w, a.n, a.w / a.n AS mean FROM a JOIN owners o ON o.id = a.owner), "
        "c AS (SELECT name, mean, RANK() OVER (ORDER BY mean DESC) AS place FROM b WHERE w > 1) "
        "SELECT c.name, c.mean FROM c WHERE c.place <= 3 ORDER BY c.place"
    )
    box = opened()
    for statement in (f"{wide} FROM pets", steps):
        assert not is_too_large(statement)
        assert "error" not in ask(box, statement)


def test_the_size_of_a_statement_is_what_its_rules_say() -> None:
    # SELECT x FROM t: 4 words, of which x and t may stand for more.
    assert expanded_size("SELECT x FROM t") == 4 * (1 + 2)
    # Inside, 12 as above and 4 of columns; outside, 4 words with 2 references: the text once, its columns twice.
    assert expanded_size("SELECT x FROM (SELECT x FROM t) u") == 4 * (1 + 2) + 12 + 2 * 4
    # Outside now 7 words with 4 references (WITH may be a name), 2 of them to q.
    assert expanded_size("WITH q AS (SELECT x FROM t) SELECT x FROM q") == 7 * (1 + 4) + 2 * 12 + 4 * 4
    # A query that names itself is not written out again.
    recursive = "WITH q(x) AS (SELECT 1 UNION ALL SELECT x FROM q) SELECT x FROM q"
    assert expanded_size(recursive) < 300
    # So many queries in one statement are nobody's.
    assert expanded_size(f"SELECT {', '.join(['(SELECT 1)'] * 63)}") < MAX_EXPANDED_SIZE
    assert expanded_size(f"SELECT {', '.join(['(SELECT 1)'] * 64)}") > MAX_EXPANDED_SIZE


# Row 28: functions that are not for a policy


def all_functions() -> list[tuple[str, int]]:
    connection = sqlite3.connect(":memory:")
    found = {(row[0].lower(), row[4]) for row in connection.execute("PRAGMA function_list")}
    connection.close()
    return sorted(found)


def test_row_28_only_listed_functions_can_be_called() -> None:
    box = opened()
    known = all_functions()
    assert {name for name, _ in known} >= FUNCTIONS
    refused = set()
    for name, arity in known:
        if not name.isidentifier() or name in FUNCTIONS:
            continue
        arguments = ", ".join(["'1'"] * (1 if arity < 0 else arity))
        start = time.process_time()
        output = ask(box, f"SELECT {name}({arguments}) FROM pets")
        assert output.startswith("error: "), name
        assert time.process_time() - start < 0.1, name
        refused.add(name)
    assert refused >= {"printf", "format", "zeroblob", "randomblob", "load_extension", "strftime", "random"}


@pytest.mark.parametrize(
    "expression",
    [
        "printf('%.*c', 900000000, 'x')",
        "format('%.*c', 900000000, 'x')",
        "zeroblob(900000000)",
        "hex(zeroblob(900000000))",
        "length(printf('%900000000d', 1))",
    ],
)
def test_row_28_megabytes_within_one_operation_are_refused(expression: str) -> None:
    start = time.process_time()
    output = ask(opened(), f"SELECT {expression}")
    assert output.startswith("error: not authorized: function ")
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize(
    "expression",
    [
        "replace(hex(replace('aaaaaaaaaaaaaaaaaaaaaaaaa', 'a', 'aaaaaaaaaaaaaaaaaaaaaaaaa')), '6', '"
        + "6" * 900
        + "')",
        "(WITH RECURSIVE t(n, s) AS (SELECT 1, 'ab' UNION ALL SELECT n + 1, s || s FROM t) SELECT MAX(s) FROM t)",
        "(WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n FROM t LIMIT 2000) SELECT group_concat(n) FROM t)",
    ],
)
def test_row_28_no_value_grows_large(expression: str) -> None:
    assert ask(opened(), f"SELECT length({expression})") == f"error: {TOO_LARGE}"


WORDS = [
    "SELECT", "FROM", "WHERE", "pets", "notes", "(", ")", ",", ";", "*", "=", "'", '"', "[", "]", "`", "--", "/*",
    "*/", "UNION", "WITH", "AS", "q", "name", "age", "1", "2.5", "GROUP", "BY", "COUNT", "UPDATE", "SET", "DELETE",
    "INSERT", "INTO", "VALUES", "NULL", "||", "+", "-", "x'00'", "?", ":a", "\x00", "\n",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join))
def test_whatever_is_written_there_is_a_result(statement: str) -> None:
    box = opened()
    for tool in ("query", "execute"):
        result = box.tools[tool].call({"sql": statement})
        assert result.error in (None, CallError.TOOL_FAILED, CallError.INVALID_ARGUMENTS)
        assert "failed with" not in result.output
    assert expanded_size(statement) >= 0
    twin = opened_at(STATE, box.snapshot())
    assert content(twin) == content(box)


def test_readers_of_a_thread_share_a_connection_and_writers_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"script": "CREATE TABLE shared (name TEXT); INSERT INTO shared VALUES ('a')"}
    boxes = [SqlBox() for _ in range(3)]
    for box in boxes[:2]:
        box.open(state)
    boxes[2].open({**state, "writable": ["shared"]})
    count = {"sql": "SELECT count(*) FROM shared"}
    for box in boxes:
        assert box.tools["query"].call(count).output.endswith("[1]")
    one, other, writer = (box._connection for box in boxes)
    assert one is other
    assert writer is not one
    # Neither a limit that one has run into, nor a close, nor what another writes, reaches the next.
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
    assert "too many operations" in boxes[0].tools["query"].call({"sql": endless}).output
    assert boxes[2].tools["execute"].call({"sql": "INSERT INTO shared VALUES ('b')"}).ok
    boxes[0].close()
    assert boxes[1].tools["query"].call(count).output.endswith("[1]")
    assert not boxes[1].tools["execute"].call({"sql": "DELETE FROM shared"}).ok
    assert boxes[2].tools["query"].call(count).output.endswith("[2]")
    found = []

    def elsewhere() -> None:
        box = SqlBox()
        box.open(state)
        found.append((box.tools["query"].call(count).output, box._connection))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found[0][0].endswith("[1]")
    assert found[0][1] is not one
    # A forked process makes its own.
    monkeypatch.setattr(sql.os, "getpid", lambda: -1)
    boxes[0].open(state)
    assert boxes[0].tools["query"].call(count).output.endswith("[1]")
    assert boxes[0]._connection is not one


def test_a_thread_keeps_few_connections() -> None:
    box = SqlBox()
    for number in range(sql.MAX_SHARED + 5):
        box.open({"script": f"CREATE TABLE t{number} (name TEXT)"})
        assert box.tools["query"].call({"sql": f"SELECT * FROM t{number}"}).ok
    assert len(sql._shared.connections) == sql.MAX_SHARED
