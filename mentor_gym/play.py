"""A person at the keyboard in the policy's place: `mentor-gym play`.

A line is a command (`help`, `quit`), a call written short (`add a=1 b=2`), an answer (`answer 42`), or the wire
format itself, which goes to the environment unchanged. A line that is none of these costs no turn.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from mentor_gym.env import MentorToolEnv
from mentor_gym.names import nearest
from mentor_gym.protocol import clean, render_call, render_signature
from mentor_gym.render import render_opening, render_terms, render_turn
from mentor_gym.rewards import PRESETS, make_reward
from mentor_gym.tools.base import Tool
from mentor_gym.types import Transcript

HELP = """\
NAME a=1 b=2         call a tool; also NAME 1 2, in the order of its arguments
{"name": …}          call a tool, as JSON
answer 42            answer, which ends the episode
<tool_call>…         anything that starts with < or \\boxed goes to the environment as it is
help, help NAME      this list and the tools; one tool with its JSON schema
quit                 leave"""

_FIRST_WORD = re.compile(r"\S+")
_COMMANDS = ("answer", "help", "quit", "exit")


class NotUnderstood(ValueError):
    """A line that is no action; the message says what was expected."""


def read_line(line: str, tools: Mapping[str, Tool]) -> str:
    """Turn what a person typed into an assistant turn.

    Args:
        line: One line, not blank.
        tools: The tools on offer, by name.

    Returns:
        The text for `env.step`.

    Raises:
        NotUnderstood: The line is neither a call, nor an answer, nor the wire format.

    >>> from mentor_gym.tools.math import math_box
    >>> read_line("add a=1 b=2.5", math_box().tools)
    '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2.5}}</tool_call>'
    >>> read_line("sum_numbers [1, 2, 3]", math_box().tools)
    '<tool_call>{"name": "sum_numbers", "arguments": {"numbers": [1, 2, 3]}}</tool_call>'
    >>> read_line("answer 42", {})
    '<answer>42</answer>'
    """
    line = line.strip()
    if line.startswith(("<", "\\boxed")):
        return line
    if line.startswith("{"):
        return f"<tool_call>{line}</tool_call>"
    match = _FIRST_WORD.match(line)
    word = match.group() if match else ""
    rest = line[len(word) :].strip()
    if word == "answer":
        if not rest:
            raise NotUnderstood("answer what? write: answer 42")
        return f"<answer>{rest}</answer>"
    tool = tools.get(word)
    if tool is None:
        hint = nearest(word, [*tools, *_COMMANDS]) or "; a line starts with a tool's name, answer, help or quit"
        raise NotUnderstood(f"no tool {word[:64]!r}{hint}")
    return render_call(word, _read_arguments(rest, tool))


def _read_arguments(text: str, tool: Tool) -> dict[str, Any]:
    properties: dict[str, Any] = tool.parameters.get("properties", {})
    arguments: dict[str, Any] = {}
    free = list(properties)
    for token in _split(text):
        name, separator, value = token.partition("=")
        if not (separator and name.isidentifier()):
            if not free:
                raise NotUnderstood(f"too many arguments; {render_signature(tool.schema['function'])}")
            name, value = free[0], token
        if name in arguments:
            raise NotUnderstood(f"argument {name!r} is given twice")
        # An unknown name is left for the environment to refuse, as it would refuse a model's.
        arguments[name] = _read_value(value, properties.get(name, {}))
        if name in free:
            free.remove(name)
    return arguments


def _split(text: str) -> list[str]:
    """Split at white space and commas outside quotes and brackets; quotes stay, since JSON needs them."""
    tokens: list[str] = []
    current, quote, depth = "", "", 0
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif (character.isspace() or character == ",") and depth <= 0:
            if current:
                tokens.append(current)
            current = ""
            continue
        current += character
    return [*tokens, current] if current else tokens


def _read_value(text: str, schema: dict[str, Any]) -> Any:
    """Read a value as JSON, or as the bare text that it is; the schema decides between 79 and "79"."""
    if text[:1] == "'" and text[-1:] == "'" and len(text) > 1:
        return text[1:-1]
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return text
    return text if schema.get("type") == "string" and not isinstance(value, str) else value


def describe_tools(tools: Mapping[str, Tool], name: str = "") -> str:
    """Describe all tools, one a line, or one tool with its JSON schema.

    >>> from mentor_gym.tools.math import math_box
    >>> print(describe_tools({"sqrt": math_box().tools["sqrt"]}))
    sqrt(x): Square root of x
    """
    if not name:
        return "\n".join(render_signature(tool.schema["function"]) for tool in tools.values())
    if name not in tools:
        return f"no tool {name[:64]!r}; the tools are {', '.join(tools)}"
    tool = tools[name]
    schema = json.dumps(tool.parameters, indent=2, ensure_ascii=False)
    return f"{render_signature(tool.schema['function'])}\n{tool.description}\n{schema}"


def play(env: MentorToolEnv, *, seed: int | None = None, task_id: str | None = None) -> bool:
    """Play one episode with the lines of standard input, a terminal's or a pipe's.

    Args:
        env: The environment; its own reward is not used, every preset is shown at the end.
        seed: Chooses the task.
        task_id: Names the task instead.

    Returns:
        Whether the episode came to its end; False when the player left.
    """
    colour = sys.stdout.isatty()
    _, info = env.reset(seed=seed, options=None if task_id is None else {"task_id": task_id})
    print(render_opening(info["messages"], colour))
    print("Type a call, `answer …`, `help` or `quit`.")
    transcript = env.transcript
    assert transcript is not None  # reset() made it
    for line in _lines():
        line = line.strip()
        if not line:
            continue
        words = line.split()
        if words[0] in ("quit", "exit"):
            break
        if words[0] == "help":
            name = " ".join(words[1:])
            print(describe_tools(env.tools, name) if name else f"{HELP}\n\n{describe_tools(env.tools)}")
            continue
        try:
            text = read_line(line, env.tools)
        except NotUnderstood as error:
            print(f"not understood: {error}")
            continue
        _, _, terminated, truncated, _ = env.step(text)
        print(render_turn(len(transcript.turns), transcript.turns[-1], colour))
        if terminated or truncated:
            print(_render_end(transcript, colour))
            return True
    print("left without an answer")
    return False


def _render_end(transcript: Transcript, colour: bool) -> str:
    task = transcript.task
    names = [call["function"]["name"] for message in task.teacher for call in message.get("tool_calls") or ()]
    lines = [render_terms(transcript, None, colour)]
    lines.append(f"the answer is {task.answer}; the teacher called {', '.join(names) or 'nothing'}")
    for preset in PRESETS:
        terms = make_reward(preset)(transcript)
        parts = " ".join(f"{name} {value:+.2f}" for name, value in terms.items())
        lines.append(f"reward {preset:<14} {sum(terms.values()):.2f} = {parts}")
    return "\n".join(lines)


def _lines() -> Iterator[str]:
    """Yield lines typed or piped until the end of input; a pipe's are shown as if they had been typed."""
    if not sys.stdin.isatty():
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="replace")
        for line in sys.stdin:
            print(f"> {clean(line.rstrip())}")
            yield line
        return
    import readline  # noqa: F401  # line editing and history for input()

    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()  # the cursor stands behind the prompt
            raise
