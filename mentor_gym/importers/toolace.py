"""ToolACE: conversations whose system message lists the tools, and whose calls are written `[name(key=value)]`.

Rows: `system`, a text with a JSON list of function descriptions in it; `conversations`, a list of
`{"from": …, "value": …}` with `user`, `assistant` and `tool`; `id`, optional. An assistant's value that is a list
of calls calls; a `tool` value is a JSON list with one `{"name": …, "results": …}` per call. The system message is
not taken over: it explains this format. Names with blanks and the like get underscores.

Format: Liu et al., "ToolACE: winning the points of LLM function calling", ICLR 2025 (one JSON array).
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from mentor_gym.data import DataError, unique
from mentor_gym.importers.base import Imported, Request, Unusable
from mentor_gym.importers.conversation import Chat, call_of, convert_chats
from mentor_gym.importers.files import decode, list_field, text_field
from mentor_gym.importers.hermes import turn_of
from mentor_gym.importers.schemas import function_schema
from mentor_gym.protocol import clean, to_json

_MAX_CALLS_CHARS = 20_000
_ROLES = ("user", "assistant", "tool")
_LIST = re.compile(r"\[\s*\{")
_NAME = re.compile(r"\s*([^\s\[\](){},=\"'][^\[\](){},=\"']*?)\s*\(")
_SEPARATOR = re.compile(r"\s*(,|\]\s*$)\s*")
_CONSTANTS = {"true": True, "false": False, "null": None}


def convert(request: Request, grade: str = "auto") -> Imported:
    """Import the files of a request.

    Args:
        request: What is to be imported.
        grade: How tasks are graded, `"auto"`, `"calls"` or `"answer"`; see `mentor_gym.importers.conversation`.

    Raises:
        DataError: A file or row is broken.
        ValueError: `grade` is none of these.
    """
    return convert_chats(request, read, "ToolACE", grade)


def read(where: str, row: dict[str, Any]) -> Chat:
    """Return a row as a conversation.

    Raises:
        DataError: It is not of this format.

    >>> said = [{"from": "user", "value": "Time?"}, {"from": "assistant", "value": "[now()]"}]
    >>> chat = read("x.json, line 1", {"system": 'Functions: [{"name": "now"}]', "conversations": said})
    >>> chat.messages[1]["tool_calls"][0]["function"]
    {'name': 'now', 'arguments': {}}
    """
    system = text_field(row, ("system",), where)
    described = _described(system, f'{where}: field "system"')
    tools = [function_schema(tool, f'{where}: field "system": tool {i}') for i, tool in enumerate(described)]
    messages: list[dict[str, Any]] = []
    for i, message in enumerate(list_field(row, "conversations", where)):
        at = f'{where}: field "conversations[{i}]"'
        sender, value = turn_of(message, _ROLES, at)
        if sender == "tool":
            messages += [{"role": "tool", "content": text} for text in _results(value)]
        elif sender == "assistant" and value.lstrip().startswith("["):
            calls = [call_of(name, arguments, at) for name, arguments in read_calls(value, at)]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        else:
            messages.append({"role": sender, "content": value})
    source_id = None if row.get("id") is None else str(row["id"])
    return Chat(messages, tools, source_id=source_id)


def _described(system: str, where: str) -> list[Any]:
    start = _LIST.search(system)
    if start is None:
        raise Unusable("it offers no tools")
    try:
        _, end = json.JSONDecoder().raw_decode(system, start.start())
    except (ValueError, RecursionError):
        raise DataError(f"{where}: the list of tools is not JSON") from None
    return list(decode(system[start.start() : end], where))


def _results(value: str) -> list[str]:
    """Return the result of each call; a text that is no such list is one result."""
    try:
        results = decode(value, "")
    except DataError:
        return [value]
    if not isinstance(results, list) or not all(isinstance(item, dict) and "results" in item for item in results):
        return [value]
    return [item["results"] if isinstance(item["results"], str) else to_json(item["results"]) for item in results]


def read_calls(text: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and arguments of each call in `[name(key=value, …), …]`; nothing of it is run.

    Values are Python literals, `true`, `false` and `null`. Names may hold blanks.

    Raises:
        DataError: The text is no such list.

    >>> list(read_calls('[Market Trends(kind="A, B", top=[1, -2.5]), now()]', "x.json, line 1"))
    [('Market Trends', {'kind': 'A, B', 'top': [1, -2.5]}), ('now', {})]
    """
    body = text.strip()
    if len(body) > _MAX_CALLS_CHARS or not body.endswith("]"):
        raise DataError(f"{where}: expected calls as [name(key=value)], got {text[:60]!r}")
    position = 1
    while True:
        match = _NAME.match(body, position)
        end = None if match is None else _closing(body, match.end())
        separator = None if end is None else _SEPARATOR.match(body, end + 1)
        if match is None or end is None or separator is None:
            raise DataError(
                f"{where}: expected calls as [name(key=value)], got {body[position : position + 60]!r}"
            )
        yield match[1], _arguments(body[match.end() : end], f"{where}: arguments of {match[1]}")
        if separator[1] != ",":
            return
        position = separator.end()


def _closing(text: str, position: int) -> int | None:
    """Return where the bracket closes that was opened before `position`; brackets in strings do not count."""
    depth = 1
    quote = ""
    while position < len(text):
        character = text[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return None


def _arguments(text: str, where: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("arguments must be named")
        arguments: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg is None or keyword.arg in arguments:
                raise ValueError("each argument needs one name")
            arguments[keyword.arg] = _literal(keyword.value)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        problem = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise DataError(f"{where}: {problem}") from None
    return arguments


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() as text):
            return clean(text)
        case ast.Constant(value=int() | float() | None):
            return node.value
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            names = [None if key is None else _literal(key) for key in keys]
            if all(isinstance(name, str) for name in names):
                return unique([(str(name), _literal(value)) for name, value in zip(names, values)])
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float() as number)):
            return -number if isinstance(node.op, ast.USub) else number
    raise ValueError(f"{ast.unparse(node)[:40]!r} is no plain value")
