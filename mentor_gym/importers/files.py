"""Rows of a user's file: JSON, JSON lines, CSV or parquet; and what is said about a field that is wrong."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mentor_gym.data import DataError, TwiceError, unique
from mentor_gym.protocol import clean

_UNREADABLE = "nested too deeply"
_TOO_LARGE = "a whole number of more than 64 bits"
_SURROGATE = re.compile(r"[\ud800-\udfff]|\\u[dD][89a-fA-F]")
_BATCH_ROWS = 1_000


def rows(path: Path, on_error: Callable[[DataError], None] | None = None) -> Iterator[tuple[str, Any]]:
    r"""Yield each row with where it stands, for messages.

    Args:
        path: A JSON array or one JSON object a line, `.csv` with a header line (all UTF-8), or `.parquet`, which
            needs the extra `data`.
        on_error: Told of a line that is not JSON, and the lines after it are read; None raises. An array cannot be
            read on.

    Raises:
        DataError: The file cannot be read, or an object in it has a key twice; names file and line.
        ModuleNotFoundError: The extra is not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "x.jsonl")
    ...     _ = path.write_text('{"a": 1}\n\n{"a": 2}\n')
    ...     [(where.rpartition(", ")[2], row) for where, row in rows(path)]
    [('line 1', {'a': 1}), ('line 3', {'a': 2})]
    """
    _refuse_pipe(path)
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}") from None
    if path.suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        try:
            _refuse_twice(reader.fieldnames or (), f"{path}, line {reader.line_num}")
            for row in reader:
                # A field may hold line ends: the number is that of the row's last line.
                yield f"{path}, line {reader.line_num}", {key: value for key, value in row.items() if key}
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: not CSV: {error}") from None
    elif text.lstrip().startswith("["):
        yield from _array(path, text)
    else:
        # Not splitlines(): JSON strings may hold other line separators of Unicode as they are.
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = decode(line, where)
            except DataError as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            yield where, row


def decode(text: str, where: str) -> Any:
    """Read a JSON text.

    Raises:
        DataError: It is not JSON, or an object in it has a key twice; the message begins with `where`.

    >>> decode('{"a": NaN}', "x.json, line 1")
    Traceback (most recent call last):
    mentor_gym.data.DataError: x.json, line 1: not JSON: NaN is no number of JSON
    """
    try:
        return _whole(_decoder.decode(text), text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: {_explain(error)}") from None


def text_field(row: Mapping[str, Any], names: tuple[str, ...], where: str) -> str:
    """Return the first of these fields that the row has: a text that is not blank, cleaned and stripped.

    Raises:
        DataError: The row has none of them, or it is no such text.

    >>> text_field({"Question": " Who? "}, ("question", "Question"), "x.json, line 1")
    'Who?'
    """
    for name in names:
        if name in row:
            value = row[name]
            if not isinstance(value, str) or not value.strip():
                raise DataError(
                    f'{where}: field "{name}": expected a text that is not blank, got {kind_of(value)}'
                )
            return clean(value.strip())
    raise DataError(f'{where}: field "{names[0]}" is missing')


def list_field(row: Mapping[str, Any], name: str, where: str) -> list[Any]:
    """Return a field that holds a list, as it is or as a JSON text.

    Raises:
        DataError: The row has no such field, or it holds something else.

    >>> list_field({"tools": '[{"name": "now"}]'}, "tools", "x.json, line 1")
    [{'name': 'now'}]
    """
    if row.get(name) is None:
        raise DataError(f'{where}: field "{name}" is missing')
    value = row[name]
    if isinstance(value, str):
        value = decode(value, f'{where}: field "{name}"')
    if not isinstance(value, list):
        raise DataError(f'{where}: field "{name}": expected a list, got {kind_of(value)}')
    return value


def one_line(text: str) -> str:
    r"""Return a text as one clean line.

    >>> one_line(" Two\n lines")
    'Two lines'
    """
    return " ".join(clean(text).split())


def kind_of(value: Any) -> str:
    """Say what a value is, for messages.

    >>> kind_of({"a": 1}), kind_of("seven"), kind_of(None)
    ('an object', "'seven'", 'null')
    """
    if value is None:
        return "null"
    if isinstance(value, str):
        return repr(value[:40])
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return str(value)[:40]


def is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested in each other more than this many levels deep.

    >>> is_deeper({"a": [1]}, 2), is_deeper({"a": [[]]}, 2)
    (False, True)
    """
    if not isinstance(value, list | dict):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(is_deeper(item, levels - 1) for item in items)


def _refuse_pipe(path: Path) -> None:
    """Refuse what would be waited for, for ever perhaps: a named pipe, a terminal."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    # That there is no file, or a folder, the attempt to read it says.
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataError(f"{path}: cannot be read: not a regular file")


def _refuse_twice(names: Sequence[str], where: str) -> None:
    twice = next((name for i, name in enumerate(names) if name and name in names[:i]), None)
    if twice is not None:
        raise DataError(f'{where}: the column "{twice[:40]}" stands twice')


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _read_integer(digits: str) -> int:
    # Rows are written with 64 bits.
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(_TOO_LARGE)
    return int(digits)


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_read_integer, object_pairs_hook=unique)


def _explain(error: Exception) -> str:
    if isinstance(error, TwiceError):
        return str(error)
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg}"
    known = "of JSON" in str(error) or str(error) == _TOO_LARGE
    return f"not JSON: {error if known else _UNREADABLE}"


def _whole(value: Any, text: str) -> Any:
    """Return what a JSON text stands for without halves of surrogate pairs, which no UTF-8 file can hold."""
    return _without_surrogates(value) if _SURROGATE.search(text) else value


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _array(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Yield the items of a JSON array. The published files are one line of hundreds of megabytes: rows count."""
    blank = re.compile(r"[ \t\r\n]*")
    position = blank.match(text, text.index("[") + 1).end()  # type: ignore[union-attr]
    line, counted, number = 1, 0, 0
    while not text.startswith("]", position):
        line += text.count("\n", counted, position)
        counted = position
        number += 1
        where = f"{path}, line {line} (row {number})"
        start = position
        try:
            row, position = _decoder.raw_decode(text, position)
            row = _whole(row, text[start:position])
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {error.lineno} (row {number}): not JSON: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: {_explain(error)}") from None
        yield where, row
        position = blank.match(text, position).end()  # type: ignore[union-attr]
        if text.startswith(",", position):
            position = blank.match(text, position + 1).end()  # type: ignore[union-attr]
        elif not text.startswith("]", position):
            raise DataError(f"{where}: not JSON: expected , or ] after the row")
    if text[position + 1 :].strip():
        raise DataError(f"{path}: not JSON: text after the end of the array")


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "parquet files need pyarrow: pip install 'mentor-gym[data]'", name="pyarrow"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            _refuse_twice(file.schema_arrow.names, str(path))
            for batch in file.iter_batches(_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or _first_line(error)}") from None
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not parquet: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]
