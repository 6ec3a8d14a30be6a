r"""Recorded conversations as tasks: the tools answer what was recorded, and the calls that were made are judged.

A task is the first exchange of a conversation: what the user asks, the calls, and the answer; what the user says
after that is left out. The prompt is the system message, if it says more than which tools there are, and the
question. How it is graded:

- by its answer, when the recorded one is marked, with `<answer>…</answer>` or `\boxed{…}`: as a number when it is
  one, else as text;
- otherwise by its calls: an episode succeeds when it has made each recorded call as often as it was recorded, in
  any order, and gives any answer. A call without a recorded result is an error and does not count, unless no
  result was recorded at all, as in sets of single calls: then every call counts, and only the recorded ones may be
  made.

Left out and reported are rows that are no task: without a question, a tool, an answer and a call, with calls and
results that do not belong together, or with calls that their own schemas refuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mentor_gym.data import DataError
from mentor_gym.env import MAX_CALLS_PER_TURN
from mentor_gym.grading import grade as is_right
from mentor_gym.grading import parse_number
from mentor_gym.importers.base import Draft, Drafts, Imported, Request, Unusable, convert_rows, finish
from mentor_gym.importers.boxes import ACCEPTED, Catalogue, recorded_state
from mentor_gym.importers.files import decode, is_deeper, kind_of
from mentor_gym.importers.schemas import tool_name
from mentor_gym.protocol import MAX_NESTING, clean, parse_action, to_json
from mentor_gym.tools.base import Tool
from mentor_gym.types import Task

GRADES = ("auto", "calls", "answer")
# The answer of a task whose recording has none.
DONE = "done"
_TOOLS = '''"""Tools of this suite: they return what was recorded, in tools.json beside this file."""

from pathlib import Path

from mentor_gym.importers.boxes import Catalogue, RecordedBox

_CATALOGUE = Catalogue.read(Path(__file__).with_name("tools.json"))


def make_box() -> RecordedBox:
    """Build the box."""
    return RecordedBox(_CATALOGUE)
'''


@dataclass
class Chat:
    """A row as a conversation.

    Attributes:
        messages: OpenAI chat messages; `arguments` of calls are objects or JSON texts, and every result is a
            message of the role `tool`.
        tools: Schemas of the tools on offer, as `mentor_gym.importers.schemas.function_schema` makes them.
        shown: What the prompt shows of them; None shows `tools`.
        source_id: What the row calls itself.
        meta: More fields of the task's `meta`.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    shown: list[dict[str, Any]] | None = None
    source_id: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)


def convert_chats(
    request: Request, read: Callable[[str, dict[str, Any]], Chat], format: str, grade: str
) -> Imported:
    """Import the files of a request whose rows are conversations.

    Args:
        request: What is to be imported.
        read: Makes a conversation of a row's place and the row.
        format: Name of the format, for the suite's description.
        grade: `"calls"` and `"answer"` grade every task so; `"auto"` as the module says.

    Raises:
        DataError: A file or row is broken.
        ValueError: `grade` is none of these.
    """
    if grade not in GRADES:
        raise ValueError(f"grade must be one of {', '.join(GRADES)}, got {grade!r}")
    catalogue = _Catalogue()
    counts: Counter[str] = Counter()

    def convert(where: str, row: dict[str, Any], task_id: str, split: str) -> Task:
        chat = read(where, row)
        task = _task(chat, task_id, request.name, split, catalogue, grade)
        counts["cut"] += "cut" in task.meta
        return task

    drafts = convert_rows(request, convert)
    notes = []
    if counts["cut"]:
        notes.append(f"conversations that go on after their first answer, whose rest is left out: {counts['cut']}")
    files = {"tools.json": _used(catalogue, drafts), "tools.py": _TOOLS.encode()}
    return finish(request, drafts, f"imported from {format}, with recorded tools", files, notes)


class _Catalogue:
    """The distinct schemas so far."""

    def __init__(self) -> None:
        self.positions: dict[bytes, int] = {}
        self.tools: list[Tool] = []

    def add(self, schema: dict[str, Any]) -> int:
        key = msgspec.json.encode(schema)
        if key not in self.positions:
            self.positions[key] = len(self.tools)
            self.tools += Catalogue([schema]).tools
        return self.positions[key]


def _used(catalogue: _Catalogue, drafts: Drafts) -> bytes:
    """Write the catalogue with the tools of the tasks alone: a row that was left out added some."""
    everything: list[Draft] = [draft for found in drafts.splits.values() for draft in found]
    used = sorted({position for draft in everything for position in (draft.task.state or {})["tools"]})
    moved = {position: number for number, position in enumerate(used)}
    for draft in everything:
        state = draft.task.state or {}
        state["tools"][:] = [moved[position] for position in state["tools"]]
    return Catalogue([catalogue.tools[position].schema for position in used]).write()


def _task(chat: Chat, task_id: str, suite: str, split: str, catalogue: _Catalogue, how: str) -> Task:
    system, question, exchange, cut = _first_exchange(chat.messages)
    names = _names(chat.tools)
    positions = [catalogue.add(schema) for schema in chat.tools]
    tools = {catalogue.tools[position].name: catalogue.tools[position] for position in positions}
    turns, calls, final = _turns(exchange, names, tools)
    answer, marked = _marked_answer(final)
    by_answer = how == "answer" or (how == "auto" and marked)
    if by_answer and answer is None:
        raise Unusable("there is no answer to grade")
    if not by_answer and not calls:
        raise Unusable("nothing to grade: no call, and no answer marked with <answer></answer>")
    grader: dict[str, Any] = {"kind": "state", "expected": recorded_state(tools, calls)}
    if by_answer:
        grader = {"kind": "text" if parse_number(answer or "") is None else "number"}
    answer = DONE if answer is None else answer
    if not is_right(answer, answer, grader):
        raise Unusable(f"the answer {answer[:40]!r} has no words to compare")
    if final is None:
        final_text, kind = f"<answer>{DONE}</answer>", "added"
    elif marked:
        final_text, kind = final, "marked"
    else:
        final_text, kind = f"<answer>{final}</answer>", "plain"
    meta: dict[str, Any] = {"kind": _kind(turns), "calls": len(calls), **chat.meta}
    if chat.source_id is not None:
        meta["source_id"] = chat.source_id
    if system:
        meta["system"] = system
    if kind != "marked":
        meta["final"] = kind
    if cut:
        meta["cut"] = True
    return Task(
        id=task_id,
        suite=suite,
        split=split,
        prompt=f"{system}\n\n{question}" if system else question,
        tools=list(chat.tools if chat.shown is None else chat.shown),
        answer=answer,
        grader=grader,
        state={"tools": positions, "calls": calls},
        teacher=[*turns, {"role": "assistant", "content": final_text}],
        meta=meta,
    )


def _first_exchange(messages: list[dict[str, Any]]) -> tuple[str, str, list[dict[str, Any]], bool]:
    """Return system text, question, the messages up to what the user says next, and whether he says more."""
    start = 0
    while start < len(messages) and messages[start]["role"] == "system":
        start += 1
    system = "\n\n".join(clean(message["content"]) for message in messages[:start] if message["content"])
    if start == len(messages) or messages[start]["role"] != "user":
        raise Unusable("the conversation does not begin with a question of the user")
    question = clean(messages[start]["content"] or "")
    if not question.strip():
        raise Unusable("the question is blank")
    for position in range(start + 1, len(messages)):
        if messages[position]["role"] in ("user", "system"):
            return system, question, messages[start + 1 : position], True
    return system, question, messages[start + 1 :], False


def _names(schemas: list[dict[str, Any]]) -> set[str]:
    if not schemas:
        raise Unusable("it offers no tools")
    names = [schema["function"]["name"] for schema in schemas]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise Unusable(f"two tools are called {twice[0]!r}")
    return set(names)


def _turns(
    exchange: list[dict[str, Any]], names: set[str], tools: Mapping[str, Tool]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str | None]:
    """Return the teacher's turns with calls and their results, the calls for the state, and the last text."""
    turns: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    position = 0
    while position < len(exchange):
        message = exchange[position]
        if message["role"] == "tool":
            raise Unusable("a result stands before any call")
        wanted = message.get("tool_calls") or []
        if not wanted:
            if position != len(exchange) - 1:
                raise Unusable("an answer is followed by more than the user's next question")
            return turns, calls, clean(message["content"] or "").strip() or None
        position += 1
        results = []
        while position < len(exchange) and exchange[position]["role"] == "tool":
            results.append(exchange[position])
            position += 1
        if not results and position < len(exchange):
            raise Unusable("calls without results are followed by more")
        turns += _one_turn(message, wanted, _matched(wanted, results), names, calls)
    if not turns:
        raise Unusable("nobody answers")
    return turns, calls, None


def _matched(calls: list[dict[str, Any]], results: list[dict[str, Any]]) -> list[str | None]:
    """Return the result of each call, by their ids if all have one, else in order."""
    if not results:
        return [None] * len(calls)
    if len(results) != len(calls):
        raise Unusable(f"{len(calls)} calls have {len(results)} results")
    by_id = {result.get("tool_call_id"): result for result in results}
    ids = [call.get("id") for call in calls]
    if None not in by_id and set(by_id) == set(ids) and len(set(ids)) == len(calls):
        results = [by_id[call_id] for call_id in ids]
    return [clean(result["content"] or "") for result in results]


def _one_turn(
    message: dict[str, Any],
    wanted: list[dict[str, Any]],
    results: list[str | None],
    names: set[str],
    calls: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    tool_calls, answers = [], []
    for call, result in zip(wanted, results):
        name, arguments = tool_name(call["function"]["name"]), call["function"]["arguments"]
        if name not in names:
            raise Unusable(f"the call of {name} is of a tool that is not offered")
        text = to_json(arguments) if isinstance(arguments, dict) else clean(arguments)
        try:
            # As the environment will read it: strict, where a set's own reader was not.
            decoded = msgspec.json.decode(text)
        except (msgspec.DecodeError, ValueError) as error:
            raise Unusable(f"the arguments of {name} are not strict JSON: {error}") from None
        calls.append({"name": name, "arguments": decoded, "result": result})
        call_id = call.get("id") or f"call_{len(calls)}"
        tool_calls.append({"id": call_id, "type": "function", "function": {"name": name, "arguments": text}})
        answers.append(
            {"role": "tool", "tool_call_id": call_id, "content": ACCEPTED if result is None else result}
        )
    content = clean(message["content"]) if message.get("content") else None
    made = []
    for first in range(0, len(tool_calls), MAX_CALLS_PER_TURN):
        # More calls than an environment runs in one turn are made in several.
        part = slice(first, first + MAX_CALLS_PER_TURN)
        made.append({"role": "assistant", "content": None if first else content, "tool_calls": tool_calls[part]})
        made += answers[part]
    return made


def _marked_answer(final: str | None) -> tuple[str | None, bool]:
    if final is None:
        return None, False
    answer = parse_action(final).answer
    return (answer, True) if answer else (final, False)


def _kind(turns: list[dict[str, Any]]) -> str:
    sizes = [len(turn["tool_calls"]) for turn in turns if turn["role"] == "assistant"]
    if len(sizes) > 1:
        return "turns"
    return "none" if not sizes else "single" if sizes == [1] else "parallel"


# Reading messages


def text_of(content: Any, where: str) -> str | None:
    r"""Return the text of a message's `content`: a text, null, or a list of parts that are texts.

    Raises:
        DataError: It is something else.

    >>> text_of([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "x.jsonl, line 1")
    'a\nb'
    """
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(parts) == len(content) and all(isinstance(part, str) for part in parts):
            return "\n".join(map(str, parts))
    raise DataError(f"{where}: expected a text, got {kind_of(content)}")


def call_of(name: Any, arguments: Any, where: str, call_id: str | None = None) -> dict[str, Any]:
    """Return an OpenAI tool call.

    Raises:
        DataError: The name is no text, or the arguments are neither an object nor the JSON text of one, or are
            nested deeper than the wire format allows.

    >>> call_of("now", "{}", "x.jsonl, line 1")["function"]
    {'name': 'now', 'arguments': '{}'}
    """
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{where}: name: expected a text that is not blank, got {kind_of(name)}")
    decoded = decode(arguments, f"{where}: arguments") if isinstance(arguments, str) else arguments
    # The arguments stand in the object of the call.
    if is_deeper(decoded, MAX_NESTING - 1):
        raise DataError(f"{where}: arguments: nested deeper than a call of {MAX_NESTING} levels may be")
    if not isinstance(decoded, dict):
        raise DataError(f"{where}: arguments: expected an object, got {kind_of(decoded)}")
    call: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return call if call_id is None else {"id": call_id, **call}
