"""Hermes function calling: conversations whose texts hold tools, calls and results in tags.

Rows: `conversations`, a list of `{"from": …, "value": …}` with `system`, `human`, `gpt` and `tool`; `tools`, a
list of function schemas or its JSON text; without it, the list inside `<tools></tools>` of the system message;
`id`, optional. A `gpt` message calls with `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, which some rows
write as a Python dictionary; a `tool` message holds a `<tool_response></tool_response>` for each call. The system
message is not taken over: it explains this format.

Format: NousResearch, hermes-function-calling-v1, 2024 (JSON arrays).
"""

from __future__ import annotations

import ast
from typing import Any

from mentor_gym.data import DataError, TwiceError, unique
from mentor_gym.importers.base import Imported, Request
from mentor_gym.importers.conversation import Chat, call_of, convert_chats
from mentor_gym.importers.files import decode, kind_of, list_field
from mentor_gym.importers.schemas import function_schema
from mentor_gym.protocol import to_json

_MAX_CALL_CHARS = 20_000
_ROLES = ("system", "human", "user", "gpt", "assistant", "tool")


def convert(request: Request, grade: str = "auto") -> Imported:
    """Import the files of a request.

    Args:
        request: What is to be imported.
        grade: How tasks are graded, `"auto"`, `"calls"` or `"answer"`; see `mentor_gym.importers.conversation`.

    Raises:
        DataError: A file or row is broken.
        ValueError: `grade` is none of these.
    """
    return convert_chats(request, read, "Hermes function calling", grade)


def read(where: str, row: dict[str, Any]) -> Chat:
    """Return a row as a conversation.

    Raises:
        DataError: It is not of this format.

    >>> call = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    >>> said = [{"from": "human", "value": "Time?"}, {"from": "gpt", "value": call}]
    >>> chat = read("x.json, line 1", {"conversations": said, "tools": '[{"name": "now"}]'})
    >>> [message["role"] for message in chat.messages]
    ['user', 'assistant']
    """
    system = ""
    messages: list[dict[str, Any]] = []
    for i, message in enumerate(list_field(row, "conversations", where)):
        at = f'{where}: field "conversations[{i}]"'
        sender, value = turn_of(message, _ROLES, at)
        if sender == "system":
            system += value
        elif sender in ("human", "user"):
            messages.append({"role": "user", "content": value})
        elif sender == "tool":
            # Some rows write the tags twice.
            found, _ = _tagged(value, "tool_response")
            results = [text.strip().removeprefix("<tool_response>").strip() for text in found]
            results = results or [value.strip()]
            messages += [{"role": "tool", "content": _content(result)} for result in results]
        else:
            messages.append(_assistant(value, at))
    if row.get("tools") is not None:
        described = list_field(row, "tools", where)
        field = "tools"
    else:
        field = "conversations"
        described = _described(system, f'{where}: field "conversations": <tools>')
    tools = [function_schema(tool, f'{where}: field "{field}": tool {i}') for i, tool in enumerate(described)]
    source_id = None if row.get("id") is None else str(row["id"])
    meta = {"category": row["category"]} if isinstance(row.get("category"), str) else {}
    return Chat(messages, tools, source_id=source_id, meta=meta)


def turn_of(message: Any, roles: tuple[str, ...], where: str) -> tuple[str, str]:
    """Return who speaks in a `{"from": …, "value": …}` message, and what.

    Raises:
        DataError: It is no such message.

    >>> turn_of({"from": "human", "value": "Time?"}, ("human", "gpt"), "x.json, line 1")
    ('human', 'Time?')
    """
    if not isinstance(message, dict):
        raise DataError(f"{where}: expected an object, got {kind_of(message)}")
    sender, value = message.get("from"), message.get("value")
    if sender not in roles:
        raise DataError(f"{where}: from: expected one of {', '.join(roles)}, got {kind_of(sender)}")
    if not isinstance(value, str):
        raise DataError(f"{where}: value: expected a text, got {kind_of(value)}")
    return str(sender), value


def _tagged(text: str, tag: str) -> tuple[list[str], str]:
    """Return what stands between each pair of tags, and the text without them.

    An opening tag that is never closed is searched for once: a pattern would search for its end from every one.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    inside: list[str] = []
    outside: list[str] = []
    position = 0
    while (start := text.find(opening, position)) >= 0:
        end = text.find(closing, start)
        if end < 0:
            break
        inside.append(text[start + len(opening) : end])
        outside.append(text[position:start])
        position = end + len(closing)
    return inside, "".join([*outside, text[position:]])


def _described(system: str, where: str) -> list[Any]:
    found, _ = _tagged(system, "tools")
    # The explanation itself names the empty tags.
    texts = [text.strip() for text in found if text.strip()]
    if not texts:
        return []
    if texts[0].startswith("["):
        return list_field({"tools": texts[0]}, "tools", where)
    return [decode(line, where) for line in texts[0].split("\n") if line.strip()]


def _assistant(value: str, where: str) -> dict[str, Any]:
    found, rest = _tagged(value, "tool_call")
    calls = [_call(text.strip(), f"{where}: <tool_call> {i}") for i, text in enumerate(found)]
    if not calls:
        return {"role": "assistant", "content": value}
    return {"role": "assistant", "content": rest.strip() or None, "tool_calls": calls}


def _call(text: str, where: str) -> dict[str, Any]:
    try:
        call = decode(text, where)
    except DataError:
        call = _python_value(text, where)
        if call is None:
            raise
    if not isinstance(call, dict):
        raise DataError(f"{where}: expected an object, got {kind_of(call)}")
    return call_of(call.get("name"), call.get("arguments"), where)


def _python_value(text: str, where: str) -> Any:
    """Return what a Python literal stands for; None when the text is none. Nothing is run.

    Raises:
        DataError: A dictionary in it has a key twice.
    """
    if len(text) > _MAX_CALL_CHARS:
        return None
    try:
        literal = ast.parse(text, mode="eval")
        for node in ast.walk(literal):
            if isinstance(node, ast.Dict):
                unique([(key.value, None) for key in node.keys if isinstance(key, ast.Constant)])
        # Through JSON, which has no sets and no bytes.
        return decode(to_json(ast.literal_eval(literal)), "")
    except TwiceError as error:
        raise DataError(f"{where}: {error}") from None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _content(result: str) -> str:
    """Return the content of a result that is written as `{"name": …, "content": …}`, else the result."""
    try:
        value = decode(result, "")
    except DataError:
        return result
    if isinstance(value, dict) and "content" in value and set(value) <= {"name", "content", "tool_call_id"}:
        content = value["content"]
        return content if isinstance(content, str) else to_json(content)
    return result
