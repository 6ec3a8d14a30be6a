"""A task with its teacher as one OpenAI chat row: `messages` and `tools`."""

from __future__ import annotations

import copy
from typing import Any

from mentor_gym.curation import Source
from mentor_gym.types import Task


def chat_row(source: Source, task: Task) -> dict[str, Any]:
    """Return `{"messages": […], "tools": […]}` of a task with a teacher.

    The messages are the question and the teacher's; the last one holds the answer in `<answer></answer>`, as the
    environment wants it. A task that was imported gets its conversation back: the system message by itself, the
    last message as it was, and neither results nor a last message that were not recorded. Calls have their
    `arguments` as JSON texts.

    Raises:
        DataError: A tool is named, and there is no suite that has it.

    >>> from mentor_gym.curation import read_source
    >>> source = read_source("math", ["valid"])
    >>> row = chat_row(source, source.tasks["valid"][0])
    >>> [message["role"] for message in row["messages"][:3]], row["tools"][0]["type"]
    (['user', 'assistant', 'tool'], 'function')
    """
    messages: list[dict[str, Any]] = []
    prompt, system = task.prompt, task.meta.get("system")
    if isinstance(system, str) and prompt.startswith(f"{system}\n\n"):
        messages.append({"role": "system", "content": system})
        prompt = prompt[len(system) + 2 :]
    messages.append({"role": "user", "content": prompt})
    messages += _recorded(task)
    final = task.meta.get("final")
    if final == "added":
        messages.pop()
    elif final == "plain":
        text = messages[-1]["content"]
        messages[-1]["content"] = text.removeprefix("<answer>").removesuffix("</answer>")
    return {"messages": messages, "tools": [source.schema(task, entry) for entry in task.tools]}


def _recorded(task: Task) -> list[dict[str, Any]]:
    """Return the teacher's messages without results that an importer had to make up."""
    messages = copy.deepcopy(task.teacher)
    recorded = (task.state or {}).get("calls")
    if "final" not in task.meta or not isinstance(recorded, list):
        return messages
    answered = iter([call["result"] is not None for call in recorded])
    return [message for message in messages if message["role"] != "tool" or next(answered, True)]
