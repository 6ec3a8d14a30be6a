"""OpenAI chat rows: `messages`, and `tools` that the assistant may call; one JSON object a line.

Messages have a `role` (`system` or `developer`, `user`, `assistant`, `tool`), a `content`, `tool_calls` and
`tool_call_id`; `arguments` are a JSON text, or an object as trainers of Hugging Face write them. The form before
tools is read as well: `functions`, and in messages `function_call` and the role `function`. Other fields are
ignored, but for `id`, which is kept. What `mentor_gym.exporters` writes is read again as it was.
"""

from __future__ import annotations

from typing import Any

from mentor_gym.data import DataError
from mentor_gym.importers.base import Imported, Request
from mentor_gym.importers.conversation import Chat, call_of, convert_chats, text_of
from mentor_gym.importers.files import decode, is_deeper, kind_of, list_field
from mentor_gym.importers.schemas import function_schema

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
# Deeper than any schema that can be checked; what else stands beside one is shown in the prompt as it is.
_DEEPEST = 64


def convert(request: Request, grade: str = "auto") -> Imported:
    """Import the files of a request.

    Args:
        request: What is to be imported.
        grade: How tasks are graded, `"auto"`, `"calls"` or `"answer"`; see `mentor_gym.importers.conversation`.

    Raises:
        DataError: A file or row is broken.
        ValueError: `grade` is none of these.
    """
    return convert_chats(request, read, "OpenAI chat rows", grade)


def read(where: str, row: dict[str, Any]) -> Chat:
    """Return a row as a conversation.

    Raises:
        DataError: It is not of this format.

    >>> row = {"messages": [{"role": "user", "content": "Time?"}], "tools": [{"name": "now"}]}
    >>> read("x.jsonl, line 1", row).tools[0]["function"]["parameters"]
    {'type': 'object', 'properties': {}, 'additionalProperties': False}
    """
    messages = [
        _message(_object(message, f'{where}: field "messages[{i}]"'), f'{where}: field "messages[{i}]"')
        for i, message in enumerate(list_field(row, "messages", where))
    ]
    field = "functions" if row.get("tools") is None else "tools"
    raw = [
        _object(tool, f'{where}: field "{field}[{i}]"')
        for i, tool in enumerate(list_field(row, field, where) if row.get(field) is not None else [])
    ]
    for i, tool in enumerate(raw):
        if is_deeper(tool, _DEEPEST):
            raise DataError(f'{where}: field "{field}[{i}]": nested deeper than {_DEEPEST} levels')
    tools = [function_schema(tool, f'{where}: field "{field}[{i}]"') for i, tool in enumerate(raw)]
    shown = [tool if _same(tool, checked) else checked for tool, checked in zip(raw, tools)]
    source_id = None if row.get("id") is None else str(row["id"])
    return Chat(messages, tools, shown, source_id)


def _object(value: Any, where: str) -> dict[str, Any]:
    """Return an object, written as one or as a JSON text: parquet files hold texts."""
    if isinstance(value, str):
        value = decode(value, where)
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object, got {kind_of(value)}")
    return value


def _same(raw: dict[str, Any], checked: dict[str, Any]) -> bool:
    """Whether the prompt can show the schema as the row has it."""
    function, mended = raw.get("function"), checked["function"]
    if not isinstance(function, dict) or function.get("name") != mended["name"]:
        return False
    return (function.get("parameters") or {}).get("properties", {}) == mended["parameters"]["properties"]


def _message(message: dict[str, Any], where: str) -> dict[str, Any]:
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        known = ", ".join(_ROLES)
        raise DataError(f"{where}: role: expected one of {known}, got {kind_of(role)}")
    content = text_of(message.get("content"), f"{where}: content")
    if content is None and role != "assistant":
        raise DataError(f"{where}: content is missing")
    read: dict[str, Any] = {"role": _ROLES[role], "content": content}
    if role == "assistant":
        calls = message.get("tool_calls") or _legacy_calls(message)
        if not isinstance(calls, list):
            raise DataError(f"{where}: tool_calls: expected a list, got {kind_of(calls)}")
        read["tool_calls"] = [_call(call, f"{where}: tool_calls[{i}]") for i, call in enumerate(calls)]
        if content is None and not calls:
            raise DataError(f"{where}: expected content or tool_calls")
    if read["role"] == "tool":
        call_id = message.get("tool_call_id")
        if call_id is not None and not isinstance(call_id, str):
            raise DataError(f"{where}: tool_call_id: expected a text, got {kind_of(call_id)}")
        read["tool_call_id"] = call_id
    return read


def _legacy_calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the one call of a message in the form before tools."""
    call = message.get("function_call")
    return [] if call is None else [{"function": call}]


def _call(call: Any, where: str) -> dict[str, Any]:
    call = _object(call, where)
    function, call_id = call.get("function"), call.get("id")
    if not isinstance(function, dict):
        raise DataError(f"{where}: function: expected an object, got {kind_of(function)}")
    if call_id is not None and not isinstance(call_id, str):
        raise DataError(f"{where}: id: expected a text, got {kind_of(call_id)}")
    return call_of(function.get("name"), function.get("arguments"), where, call_id)
