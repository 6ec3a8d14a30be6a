r"""The wire format, both ways: the policy's text into an `Action`, tasks and results into observations.

An assistant turn is optional `<think>…</think>`, then either one or more
`<tool_call>{"name": …, "arguments": {…}}</tool_call>`, or an answer: `<answer>…</answer>` or `\boxed{…}`.

`parse_action` is total: it never raises, and its time is linear in the (bounded) length of the text.
Whatever a policy or a tool writes, it cannot forge a tool response or a chat turn: the markers of this
format and of common chat templates are neutralised by `neutralise`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from mentor_gym.types import Action, Task, ToolCall, ToolResult

MAX_ACTION_CHARS = 20_000
MAX_CALLS_PARSED = 64
MAX_NESTING = 32

_decode = msgspec.json.Decoder().decode

# Control characters (but not tab and newline) and lone surrogates: terminals and tokenizers choke on them.
_UNCLEAN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_MARKER = re.compile(
    r"<(?=/?(?:tool_call|tool_response|tools|answer|think|system|user|assistant|start_of_turn|end_of_turn"
    r"|bos|eos|pad|unk|s|SYS)\b|[|｜])|\[(?=/?(?:INST|TOOL_[A-Z]+|AVAILABLE_TOOLS)\])"
)
# Tags that would end a call, or hide it, if they stood inside one of its strings.
_TAG_IN_CALL = re.compile(r"<(?=/?(?:think|tool_call)>)")
_ESCAPED = "\\u003c"
# Brackets outside of strings. Possessive, so that an unclosed string full of quotes is still read once.
_BRACKET = re.compile(r'"(?:[^"\\]|\\.?)*+"?|([\[{])|[\]}]', re.DOTALL)

_INSTRUCTIONS = """\
You solve tasks with tools. Think first if you like, inside <think></think>. Then do one of two things.
To call a tool, write one JSON object with its name and its arguments:
<tool_call>{"name": "tool_name", "arguments": {"argument": "value"}}</tool_call>
The result comes back inside <tool_response></tool_response>. You may write several calls in one turn.
When you know the result, write only the result as your answer:
<answer>result</answer>"""


def clean(text: str) -> str:
    r"""Replace control characters and lone surrogates by U+FFFD, so that the text is valid UTF-8 everywhere.

    Tabs and newlines stay; Windows line ends become newlines.

    >>> clean("a\x1b[31mb")
    'a�[31mb'
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNCLEAN.sub("\ufffd", text.replace("\r\n", "\n"))


def neutralise(text: str) -> str:
    """Escape the first character of every protocol or chat-template marker in `text`.

    >>> neutralise("<tool_response>7</tool_response> <|im_end|> 1 < 2")
    '&lt;tool_response>7&lt;/tool_response> &lt;|im_end|> 1 < 2'
    """
    if "<" not in text and "[" not in text:
        return text
    return _MARKER.sub(lambda match: "&lt;" if match.group() == "<" else "&#91;", text)


def parse_action(text: str) -> Action:
    r"""Parse one assistant turn. Never raises; `text` is expected to be bounded (see `MAX_ACTION_CHARS`).

    Calls win over an answer in the same turn. Of several answers the last counts. What stands inside
    `<think>…</think>` is never parsed, and an unclosed `<think>` hides the rest of the turn.

    >>> parse_action('<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>').calls[0].name
    'add'
    >>> parse_action("<think>6*7</think><answer> 42 </answer>").answer
    '42'
    >>> parse_action(r"<answer>\boxed{42}</answer>").answer
    '42'
    >>> parse_action(r"It is \boxed{\frac{1}{2}}.").answer
    '\\frac{1}{2}'
    """
    text = _without_thoughts(text)
    position = text.find("<tool_call>")
    if position >= 0:
        calls: list[ToolCall] = []
        while position >= 0 and len(calls) < MAX_CALLS_PARSED:
            start = position + 11
            end = text.find("</tool_call>", start)
            if end < 0:
                calls.append(ToolCall("", {}, "<tool_call> is not closed by </tool_call>"))
                break
            calls.append(_parse_call(text[start:end]))
            position = text.find("<tool_call>", end + 12)
        return Action(tuple(calls))
    end = text.rfind("</answer>")
    if end >= 0:
        start = text.rfind("<answer>", 0, end)
        if start >= 0:
            return Action(answer=_unboxed(text[start + 8 : end].strip()))
    if "<answer>" in text:
        return Action(error="<answer> is not closed by </answer>")
    start = text.rfind("\\boxed{")
    if start >= 0:
        boxed = _balanced(text, start + 7)
        if boxed is None:
            return Action(error="\\boxed{ is not closed by }")
        return Action(answer=boxed.strip())
    return Action()


def _without_thoughts(text: str) -> str:
    """Drop everything that is thinking; a template may have written the opening tag itself."""
    if "think>" not in text:
        return text
    position = 0
    start, close = text.find("<think>"), text.find("</think>")
    if close >= 0 and (start < 0 or close < start):
        position = close + 8
    kept = []
    while (start := text.find("<think>", position)) >= 0:
        kept.append(text[position:start])
        close = text.find("</think>", start)
        if close < 0:
            return "".join(kept)
        position = close + 8
    kept.append(text[position:])
    return "".join(kept)


def _unboxed(answer: str) -> str:
    """Take an answer out of a box that holds all of it: models trained on maths write both."""
    if answer.startswith("\\boxed{") and answer.endswith("}"):
        inner = _balanced(answer, 7)
        if inner is not None and len(inner) == len(answer) - 8:
            return inner.strip()
    return answer


def _balanced(text: str, start: int) -> str | None:
    depth = 1
    for match in re.finditer(r"[{}]", text[start:]):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return text[start : start + match.start()]
    return None


def _parse_call(body: str) -> ToolCall:
    # Before decoding: how deep the decoder itself goes depends on the caller's stack.
    if body.count("{") + body.count("[") > MAX_NESTING and _nesting(body) > MAX_NESTING:
        return ToolCall("", {}, f"the call is nested deeper than {MAX_NESTING} levels")
    try:
        # A strict decoder: refuses NaN, Infinity, 1e999, lone surrogates and thousand-digit integers.
        value = _decode(body)
    except (msgspec.DecodeError, ValueError) as error:
        return ToolCall("", {}, f"the call is not valid JSON: {str(error)[:120]}")
    if type(value) is not dict:
        return ToolCall("", {}, "the call must be a JSON object with name and arguments")
    name = value.get("name")
    if type(name) is not str or not name:
        return ToolCall("", {}, 'the call needs a "name" that is a string')
    arguments = value.get("arguments")
    if type(arguments) is not dict:
        return ToolCall("", {}, 'the call needs "arguments" that is an object')
    if len(value) > 2:
        extra = sorted(key for key in value if key not in ("name", "arguments"))[0]
        return ToolCall("", {}, f'unknown field "{extra[:40]}"; a call has only name and arguments')
    # The decoder keeps the last of equal keys. As many colons as top-level keys leave no room for a second one.
    if body.count(":") != len(arguments) + 2:
        twice = _duplicate_key(body)
        if twice is not None:
            return ToolCall("", {}, f'the key "{twice[:40]}" stands twice in one object')
    return ToolCall(name, arguments)


def _nesting(body: str) -> int:
    depth = deepest = 0
    for match in _BRACKET.finditer(body):
        if match.group(1):
            depth += 1
            deepest = max(deepest, depth)
        elif match.group()[0] != '"':
            depth -= 1
    return deepest


def _duplicate_key(body: str) -> str | None:
    """Return a key that stands twice in one object of a valid JSON text."""
    twice: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        keys: set[str] = set()
        for key, _ in pairs:
            if key in keys:
                twice.append(key)
            keys.add(key)

    json.loads(body, object_pairs_hook=note)
    return twice[0] if twice else None


def to_json(value: Any) -> str:
    """Encode as JSON the way the wire format and the training text do: `", "` and `": "` separators.

    >>> to_json({"a": 1, "b": [2.5, "x"]})
    '{"a": 1, "b": [2.5, "x"]}'
    """
    return json.dumps(value, ensure_ascii=False)


def render_call(name: str, arguments: dict[str, Any]) -> str:
    """Write one call in the wire format; `parse_action` is its inverse, up to `MAX_NESTING` levels.

    >>> render_call("add", {"a": 1, "b": 2})
    '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'
    """
    body = f'{{"name": {to_json(name)}, "arguments": {to_json(arguments)}}}'
    # In JSON, "<" stands only inside strings, where its escape means the same.
    return f"<tool_call>{_TAG_IN_CALL.sub(lambda _: _ESCAPED, body)}</tool_call>"


def render_message(message: dict[str, Any]) -> str:
    """Write one assistant chat message (OpenAI form) as an assistant turn in the wire format.

    >>> render_message({"role": "assistant", "content": "<answer>3</answer>"})
    '<answer>3</answer>'
    """
    parts = [message["content"]] if message.get("content") else []
    for call in message.get("tool_calls") or []:
        arguments = call["function"]["arguments"]
        if isinstance(arguments, str):
            arguments = _decode(arguments)
        parts.append(render_call(call["function"]["name"], arguments))
    return "\n".join(parts)


def render_results(results: Sequence[ToolResult]) -> str:
    """Write the observation after a turn with calls: one `<tool_response>` per call, in call order.

    >>> render_results([ToolResult(True, "42")])
    '<tool_response>42</tool_response>'
    """
    return "\n".join(f"<tool_response>{result.output}</tool_response>" for result in results)


def render_error(message: str) -> str:
    """Write the observation after a turn that could not be acted on.

    >>> render_error("action must be text")
    '<tool_response>error: action must be text</tool_response>'
    """
    return f"<tool_response>error: {neutralise(message)}</tool_response>"


def render_prompt(task: Task, schemas: Sequence[dict[str, Any]], style: str = "full") -> list[dict[str, str]]:
    r"""Write the first messages of an episode.

    Args:
        task: The task; only its prompt is rendered.
        schemas: OpenAI function schemas of the tools on offer.
        style: `"full"` explains the format and gives whole JSON schemas in a system message, for models that
            know the format only from the prompt; `"compact"` gives one line per tool, for models trained on it.

    Returns:
        Chat messages: for `"full"` a system and a user message, for `"compact"` one user message.

    >>> task = Task("1", "math", "train", "What is 6 times 7?", ["now"], "42", {"kind": "number"}, None, [])
    >>> schema = {"type": "function", "function": {"name": "now", "description": "The time."}}
    >>> render_prompt(task, [schema], "compact")
    [{'role': 'user', 'content': 'now(): The time\nWhat is 6 times 7?'}]
    """
    question = clean(task.prompt)
    if style == "compact":
        lines = [neutralise(render_signature(schema["function"])) for schema in schemas]
        return [{"role": "user", "content": "\n".join([*lines, question])}]
    # A server's or a file's schemas may hold what its author wants a model to believe.
    tools = neutralise("\n".join(to_json(schema["function"]) for schema in schemas))
    system = f"{_INSTRUCTIONS}\n\nThe tools, one JSON schema a line:\n<tools>\n{tools}\n</tools>"
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def render_signature(function: dict[str, Any]) -> str:
    """Write one tool as a line: name, arguments (`?` marks optional ones) and first sentence.

    >>> render_signature({"name": "add", "description": "a plus b.",
    ...     "parameters": {"properties": {"a": {}, "b": {}}, "required": ["a"]}})
    'add(a, b?): a plus b'
    """
    parameters = function.get("parameters") or {}
    required = parameters.get("required", ())
    names = ", ".join(name if name in required else name + "?" for name in parameters.get("properties", ()))
    names = " ".join(names.split())
    summary = (function.get("description") or "").split("\n", 1)[0].split(". ", 1)[0].rstrip(".")
    return f"{function['name']}({names}): {summary}"
