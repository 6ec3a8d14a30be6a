"""Suites whose tools and parameters have names without meaning: `func_1`, `param_1`, and so on.

Tool Zero (arXiv 2511.01934) trains on such tasks, so that a policy reads descriptions instead of trusting names.
Every task has a renaming of its own, drawn from a seed and the task's id: what `func_1` does in one, another tool
does in the next. The tools are really run, under their masked names.

Renamed are the offered schemas, the teacher's calls, and names where descriptions and error messages mention them.
A word that may be an ordinary one, such as "find" or "text", counts as a mention in quotes, after "use" and its
like, or, for a parameter, where nothing else describes it. Parameters inside of objects, prompts, and what tools
return stay as they are.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import msgspec

from mentor_gym.suites import load_suite
from mentor_gym.suites.base import Suite
from mentor_gym.tools.base import Tool, ToolBox
from mentor_gym.types import Task, ToolResult


class ToolNames(NamedTuple):
    """What a tool and its parameters are called in a masked task.

    Attributes:
        name: The tool's masked name.
        parameters: The masked names of its parameters, by their own.
    """

    name: str
    parameters: dict[str, str]


def mask_suite(suite: str | Suite, seed: int = 0) -> Suite:
    """Return a suite with the tasks and tools of another, under names that carry no meaning.

    It is named after the other, with `-masked`; its tasks keep their ids and splits. A `MenuWrapper` has no use
    for it: its actions are tools by name.

    Args:
        suite: A suite's name, the path of its YAML file, or a `Suite`.
        seed: Of all renamings.

    Raises:
        ValueError: No suite of that name, or the seed is not a whole number.

    >>> from mentor_gym import MentorToolEnv
    >>> env = MentorToolEnv(mask_suite("math"), split="test")
    >>> _ = env.reset(options={"task_id": "math-test-00000", "teacher_turns": 1})
    >>> print(env.transcript.turns[0].text)
    <tool_call>{"name": "func_2", "arguments": {"param_1": 53, "param_3": 26}}</tool_call>
    >>> env.transcript.turns[0].results[0].output
    '1378'
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"the seed must be a whole number, got {seed!r}")
    return _MaskedSuite(suite, seed)


def mask_task(task: Task, tools: Mapping[str, Tool], seed: int = 0) -> Task:
    """Return a task under masked names; it is played with a `MaskedBox`, whose state says what is called how.

    Args:
        task: The task.
        tools: The tools of its suite's box, by name.
        seed: Of the renaming, together with the task's id.

    >>> suite = load_suite("math")
    >>> masked = mask_task(suite.tasks("test")[0], suite.box.tools)
    >>> masked.tools[2]["function"]["name"], masked.teacher[0]["tool_calls"][0]["function"]["name"]
    ('func_3', 'func_2')
    """
    schemas = [tools[entry].schema if isinstance(entry, str) else entry for entry in task.tools]
    names = draw_names(schemas, f"{seed}/{task.id}")
    meta = task.meta
    if "teacher_tools" in meta:
        masked = [names[name].name if name in names else name for name in meta["teacher_tools"]]
        meta = {**meta, "teacher_tools": masked}
    return msgspec.structs.replace(
        task,
        suite=_masked_name(task.suite),
        tools=[_mask_schema(schema, names) for schema in schemas],
        state={
            "names": {tool: {"name": name, "parameters": keys} for tool, (name, keys) in names.items()},
            "state": task.state,
        },
        teacher=_mask_trace(task.teacher, names),
        meta=meta,
    )


def draw_names(schemas: list[dict[str, Any]], seed: str) -> dict[str, ToolNames]:
    """Draw what the tools of a task and their parameters are called.

    Args:
        schemas: The OpenAI function schemas of the tools.
        seed: Seeds the draw, the same in every process.

    Returns:
        The names by the tools' own, numbered from 1 in a drawn order, and so are the parameters of all tools
        together: those of one name in two tools have one name after, too.

    >>> parameters = {"properties": {"a": {}, "b": {}}}
    >>> draw_names([{"function": {"name": "add", "parameters": parameters}}], "1")
    {'add': ToolNames(name='func_1', parameters={'a': 'param_2', 'b': 'param_1'})}
    """
    rng = random.Random(f"masking/{seed}")
    functions = [schema["function"] for schema in schemas]
    keys = [list((function.get("parameters") or {}).get("properties", {})) for function in functions]
    every = list(dict.fromkeys(key for found in keys for key in found))
    masked = dict(zip(every, (f"param_{number}" for number in _shuffled(len(every), rng))))
    numbers = _shuffled(len(functions), rng)
    return {
        str(function["name"]): ToolNames(f"func_{number}", {key: masked[key] for key in found})
        for function, number, found in zip(functions, numbers, keys)
    }


class MaskedBox(ToolBox):
    """The tools of another box under other names, which `open` takes from a masked task's state.

    Before, they are numbered in the other box's order.

    Args:
        inner: The other box.

    >>> from mentor_gym.tools.math import math_box
    >>> box = MaskedBox(math_box())
    >>> box.open({"names": {"divide": {"name": "func_1", "parameters": {"a": "x", "b": "y"}}}, "state": None})
    >>> box.tools["func_1"].call({"x": 6, "y": 3}).output
    '2'
    >>> box.tools["func_1"].call({"x": 6, "y": 0}).output
    'error: func_1: cannot divide by zero'
    """

    def __init__(self, inner: ToolBox) -> None:
        self.inner = inner
        self._originals: dict[str, str] = {}
        super().__init__(())
        in_order = {
            tool.name: ToolNames(
                f"func_{number}",
                {key: f"param_{place}" for place, key in enumerate(tool.parameters.get("properties", {}), 1)},
            )
            for number, tool in enumerate(inner.tools.values(), 1)
        }
        self._in_order = in_order
        self._name(in_order)

    @property
    def down(self) -> str | None:  # type: ignore[override]
        """Why what runs the tools is out of order, as the other box says."""
        return self.inner.down

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions that the other box depends on."""
        return self.inner.versions

    def is_read_only(self, name: str) -> bool:
        """Whether a call of a tool changes nothing that a later call could show; the other box decides.

        Raises:
            KeyError: There is no tool of that name.
        """
        return self.inner.is_read_only(self._originals[name])

    def open(self, state: dict[str, Any] | None) -> None:
        """Name the tools as the state of a masked task says, and open the other box with the task's own.

        Raises:
            ValueError: The state is no masked task's.
        """
        if state is None:
            self._name(self._in_order)
            self.inner.open(None)
            return
        try:
            names = {
                tool: ToolNames(entry["name"], dict(entry["parameters"])) for tool, entry in state["names"].items()
            }
            own = state["state"]
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ValueError(
                'the state of a masked task has "names" of tools and the "state" behind them'
            ) from None
        for tool in names:
            if tool not in self.inner.tools:
                raise ValueError(f"the state names a tool {tool!r} that the box does not have")
        self.inner.open(own)
        self._name(names)

    def snapshot(self) -> bytes:
        """Return the other box's state."""
        return self.inner.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """Restore the other box."""
        self.inner.restore(snapshot)

    def final_state(self) -> Any:
        """Return the other box's final state, which knows nothing of masked names."""
        return self.inner.final_state()

    def close(self) -> None:
        """Close the other box."""
        self.inner.close()

    def _name(self, names: Mapping[str, ToolNames]) -> None:
        self.tools = {}
        self._originals = {}
        for tool, given in names.items():
            self.tools[given.name] = MaskedTool(self.inner.tools[tool], names)
            self._originals[given.name] = tool


class MaskedTool(Tool):
    """A tool under other names; what is wrong with a call is told in these.

    Args:
        inner: The tool that is run.
        names: What it, its parameters and the tools beside it are called.
    """

    __slots__ = ("_inner", "_names", "_originals")

    def __init__(self, inner: Tool, names: Mapping[str, ToolNames]) -> None:
        function = _mask_schema(inner.schema, names)["function"]
        super().__init__(
            inner.function,
            function["name"],
            function["description"],
            function["parameters"],
            inner.max_output_chars,
            read_only=inner.read_only,
        )
        self._inner = inner
        self._names = names
        self._originals = {masked: key for key, masked in names[inner.name].parameters.items()}

    def call(self, arguments: dict[str, Any]) -> ToolResult:
        """Validate the arguments, run the tool and write its result. Never raises."""
        try:
            known = self._is_valid(arguments)
        except (ValueError, RecursionError):
            known = False
        if not known:
            return super().call(arguments)  # which says what is wrong, and runs nothing
        result = self._inner.call({self._originals.get(key, key): value for key, value in arguments.items()})
        if result.ok:
            return result
        return ToolResult(False, _mask_error(result.output, self._inner.name, self._names), result.error)


class _MaskedSuite(Suite):
    def __init__(self, suite: str | Suite, seed: int) -> None:
        original = load_suite(suite)
        super().__init__(
            _masked_name(original.name),
            original.splits,
            make_box=lambda: MaskedBox(original.new_box()),
            generate=self._generate_masked,
            description=f"{original.description}; the names of tools and parameters carry no meaning",
            evaluation_only=original.evaluation_only,
        )
        self._source = suite
        self._original = original
        self._seed = seed

    def __reduce__(self) -> tuple[Any, ...]:
        # For worker processes: boxes hold what cannot be pickled.
        return mask_suite, (self._source, self._seed)

    def _load(self, split: str) -> list[Task]:
        return [mask_task(task, self._original.box.tools, self._seed) for task in self._original.tasks(split)]

    def _generate_masked(self, split: str, seed: int) -> list[Task]:
        tasks = self._original.generate(split, seed)
        return [mask_task(task, self._original.box.tools, self._seed) for task in tasks]


def _masked_name(suite: str) -> str:
    return f"{suite}-masked"


def _shuffled(count: int, rng: random.Random) -> list[int]:
    numbers = list(range(1, count + 1))
    rng.shuffle(numbers)
    return numbers


def _mask_schema(schema: dict[str, Any], names: Mapping[str, ToolNames]) -> dict[str, Any]:
    """Return the OpenAI function schema of a tool under its masked names."""
    function = schema["function"]
    tool = names[function["name"]]
    parameters = function.get("parameters") or {}
    properties = parameters.get("properties", {})
    undescribed = {key for key, part in properties.items() if not _description(part)}
    words = {**{other: entry.name for other, entry in names.items()}, **tool.parameters}
    always = {word for word in words if _is_identifier(word)}
    masked = {}
    for key, part in properties.items():
        if _description(part):
            part = {**part, "description": _mask_text(part["description"], words, always)}
        masked[tool.parameters[key]] = part
    parameters = {**parameters, "properties": masked}
    if "required" in parameters:
        parameters["required"] = [tool.parameters.get(key, key) for key in parameters["required"]]
    description = function.get("description") or ""
    return {
        **schema,
        "function": {
            **function,
            "name": tool.name,
            "description": _mask_text(description, words, always | undescribed),
            "parameters": parameters,
        },
    }


def _description(schema: Any) -> str:
    return str(schema.get("description") or "") if isinstance(schema, dict) else ""


def _mask_trace(teacher: list[dict[str, Any]], names: Mapping[str, ToolNames]) -> list[dict[str, Any]]:
    masked = []
    asked: dict[Any, str] = {}  # the tools, by the ids of their calls
    words = {tool: entry.name for tool, entry in names.items()}
    always = {word for word in words if _is_identifier(word)}
    for message in teacher:
        calls = message.get("tool_calls")
        content = message.get("content")
        if calls:
            asked |= {call.get("id"): call["function"]["name"] for call in calls}
            message = {**message, "tool_calls": [_mask_call(call, names) for call in calls]}
            if isinstance(content, str):
                message["content"] = _mask_text(content, words, always)
        elif message.get("role") == "tool" and isinstance(content, str):
            tool = asked.get(message.get("tool_call_id"))
            if tool in names and content.startswith("error: "):
                message = {**message, "content": _mask_error(content, str(tool), names)}
        masked.append(message)
    return masked


def _mask_call(call: dict[str, Any], names: Mapping[str, ToolNames]) -> dict[str, Any]:
    function = call["function"]
    tool = names.get(function["name"])
    if tool is None:
        return call
    arguments = function["arguments"]
    given = msgspec.json.decode(arguments) if isinstance(arguments, str) else arguments
    masked: Any = {tool.parameters.get(key, key): value for key, value in given.items()}
    if isinstance(arguments, str):
        masked = json.dumps(masked, ensure_ascii=False)
    return {**call, "function": {**function, "name": tool.name, "arguments": masked}}


def _mask_error(text: str, tool: str, names: Mapping[str, ToolNames]) -> str:
    """Return an error message of a tool under masked names: `error: divide: …` as `error: func_1: …`."""
    opening = f"error: {tool}"
    rest = text.removeprefix(opening)
    words = {**{other: entry.name for other, entry in names.items()}, **names[tool].parameters}
    always = {word for word in words if _is_identifier(word)}
    opening = "" if rest == text else f"error: {names[tool].name}"
    return opening + _mask_text(rest, words, always)


_WORD = re.compile(r"(?<![\w-])(?<!\w')[A-Za-z_][\w-]*")
# What stands before or after a name that is mentioned, and seldom beside the same word in its ordinary sense.
_BEFORE = re.compile(r"(?:\b(?:use|as|call|see|try)\s|(?<!\w)[`'\"])\Z")
_AFTER = re.compile(r"\s(?:gives|returns|takes|shows|lists|must)\b|[`'\"]")


def _mask_text(text: str, words: Mapping[str, str], always: Collection[str]) -> str:
    """Replace names that a text mentions.

    Args:
        text: The text.
        words: What takes the place of which name.
        always: Names that are mentioned wherever they stand.
    """

    def replace(match: re.Match[str]) -> str:
        word = match[0]
        if word not in words:
            return word
        start, end = match.span()
        is_mention = word in always or _BEFORE.search(text, max(0, start - 8), start) or _AFTER.match(text, end)
        return words[word] if is_mention else word

    return _WORD.sub(replace, text)


def _is_identifier(word: str) -> bool:
    """Whether a word is no ordinary one: a single letter, or with an underscore, a digit or an inner capital."""
    return len(word) == 1 or re.search(r"[_\d]|.[A-Z]", word) is not None
