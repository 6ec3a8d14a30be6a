"""xLAM function calling (APIGen): a question, tools, and the calls that answer it.

Rows: `query`, a text; `tools` and `answers`, lists or JSON texts of lists: of function descriptions, whose
`parameters` are a flat mapping or a JSON schema, and of `{"name": …, "arguments": {…}}`; `id`, optional. No
results were recorded: every call that fits its schema is accepted, and the calls are judged.

Format: Liu et al., "APIGen: automated pipeline for generating verifiable and diverse function-calling datasets",
NeurIPS 2024 (the published file is one JSON array).
"""

from __future__ import annotations

from typing import Any

from mentor_gym.data import DataError
from mentor_gym.importers.base import Imported, Request
from mentor_gym.importers.conversation import Chat, call_of, convert_chats
from mentor_gym.importers.files import kind_of, list_field, text_field
from mentor_gym.importers.schemas import function_schema


def convert(request: Request) -> Imported:
    """Import the files of a request.

    Raises:
        DataError: A file or row is broken.
    """
    return convert_chats(request, read, "xLAM function calling", "calls")


def read(where: str, row: dict[str, Any]) -> Chat:
    """Return a row as a conversation.

    Raises:
        DataError: It is not of this format.

    >>> row = {"query": "Time?", "tools": '[{"name": "now"}]', "answers": '[{"name": "now", "arguments": {}}]'}
    >>> read("x.json, line 1", row).messages[1]["tool_calls"][0]["function"]
    {'name': 'now', 'arguments': {}}
    """
    query = text_field(row, ("query",), where)
    tools = [
        function_schema(tool, f'{where}: field "tools[{i}]"')
        for i, tool in enumerate(list_field(row, "tools", where))
    ]
    calls = []
    for i, call in enumerate(list_field(row, "answers", where)):
        at = f'{where}: field "answers[{i}]"'
        if not isinstance(call, dict):
            raise DataError(f"{at}: expected an object, got {kind_of(call)}")
        calls.append(call_of(call.get("name"), call.get("arguments"), at))
    messages: list[dict[str, Any]] = [{"role": "user", "content": query}]
    if calls:
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
    # The set repeats some descriptions within a row.
    distinct = [tool for i, tool in enumerate(tools) if tool not in tools[:i]]
    source_id = None if row.get("id") is None else str(row["id"])
    return Chat(messages, distinct, source_id=source_id)
