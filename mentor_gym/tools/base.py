"""Tools: a typed Python function with a docstring becomes a `Tool` with a JSON schema.

`Tool.call` validates the arguments and turns every failure into a `ToolResult`; nothing that a model writes
raises. A `ToolBox` is what a suite hands to an environment: tools by name, and the life cycle of the state
behind them, if there is any.
"""

from __future__ import annotations

import copy
import inspect
import re
import types as python_types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import jsonschema_rs
import msgspec

from mentor_gym.protocol import clean, neutralise
from mentor_gym.tools.timeout import TimedOut, call_with_timeout
from mentor_gym.types import CallError, ToolFacts, ToolResult

MAX_OUTPUT_CHARS = 2_000
# For functions that somebody marks with @tool; the shipped tools are bounded by what they compute.
DEFAULT_TIMEOUT_S = 30.0
_CUT_MARK = " …[cut]"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_JSON_TYPES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


class ToolError(Exception):
    """Raised by a tool function to report a failure to the policy; its message becomes the result."""


class Tool:
    """A named function with validated arguments.

    Args:
        function: Called with the validated arguments as keywords; what it returns is written as text.
        name: Tool name, `[A-Za-z_][A-Za-z0-9_-]*`, at most 64 characters.
        description: What it does, for the prompt; the first sentence must stand by itself.
        parameters: JSON schema of the arguments; `additionalProperties` is set to false.
        max_output_chars: Longer results are cut, with a fixed mark.
        timeout: Seconds after which a call fails; None sets no limit. See `mentor_gym.tools.timeout` for what it
            can interrupt.
        read_only: Whether a call changes nothing that a later call could show; None lets the box decide, see
            `ToolBox.is_read_only`. Rewards use it; nothing enforces it.

    Raises:
        ValueError: The name or the timeout is not one, or `read_only` is not True, False or None.

    Attributes:
        schema: The OpenAI function schema; shared by every prompt that shows the tool, so not to be changed.
    """

    __slots__ = (
        "_is_valid",
        "_validator",
        "description",
        "function",
        "max_output_chars",
        "name",
        "parameters",
        "read_only",
        "schema",
        "timeout",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        description: str,
        parameters: dict[str, Any],
        max_output_chars: int = MAX_OUTPUT_CHARS,
        timeout: float | None = None,
        read_only: bool | None = None,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"tool name {name!r} must match {_NAME.pattern}")
        _check_timeout(timeout, f"tool {name!r}")
        _check_read_only(read_only, f"tool {name!r}")
        self.timeout = timeout
        self.read_only = read_only
        self.function = function
        self.name = name
        self.description = description
        self.parameters = {**parameters, "type": "object", "additionalProperties": False}
        self.max_output_chars = max_output_chars
        function_schema = {"name": name, "description": description, "parameters": self.parameters}
        self.schema: dict[str, Any] = {"type": "function", "function": function_schema}
        self._validator = jsonschema_rs.validator_for(self.parameters)
        self._is_valid = self._validator.is_valid

    @classmethod
    def from_function(
        cls,
        function: Callable[..., Any],
        name: str | None = None,
        timeout: float | None = None,
        read_only: bool | None = None,
    ) -> Tool:
        """Build a tool from type hints and a Google-style docstring.

        Supported hints: `str`, `int`, `float` (any JSON number), `bool`, `list[T]`, `Literal[...]`, and
        `T | None` with a default.

        Raises:
            ValueError: A parameter has no or an unsupported type hint, or the function has no docstring.

        >>> def shout(text: str, times: int = 1) -> str:
        ...     '''Repeat a text in capitals.
        ...
        ...     Args:
        ...         text: What to shout.
        ...         times: How often.
        ...     '''
        ...     return text.upper() * times
        >>> Tool.from_function(shout).call({"text": "hey", "times": 2}).output
        'HEYHEY'
        >>> Tool.from_function(shout).call({"text": "hey", "times": "2"}).output
        'error: shout: argument "times": "2" is not of type "integer"'
        """
        name = name or function.__name__
        documentation = inspect.getdoc(function)
        if not documentation:
            raise ValueError(f"tool {name!r} needs a docstring: it is what the policy reads")
        description, argument_docs = _split_docstring(documentation)
        hints = typing.get_type_hints(function)
        properties: dict[str, Any] = {}
        required: list[str] = []
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise ValueError(f"tool {name!r}: parameter {parameter.name!r} must be a plain named one")
            if parameter.name not in hints:
                raise ValueError(f"tool {name!r}: parameter {parameter.name!r} has no type hint")
            schema = _schema_of(hints[parameter.name], f"tool {name!r}, parameter {parameter.name!r}")
            if parameter.name in argument_docs:
                schema["description"] = argument_docs[parameter.name]
            if parameter.default is parameter.empty:
                required.append(parameter.name)
            elif parameter.default is not None:
                schema["default"] = parameter.default
            properties[parameter.name] = schema
        parameters = {"type": "object", "properties": properties, "required": required}
        return cls(function, name, description, parameters, timeout=timeout, read_only=read_only)

    def call(self, arguments: dict[str, Any]) -> ToolResult:
        """Validate the arguments, run the function and write its result. Never raises."""
        try:
            if not self._is_valid(arguments):
                return ToolResult(False, self._explain(arguments), CallError.INVALID_ARGUMENTS)
        except (ValueError, RecursionError):
            # What no JSON text can hold, from a caller in Python: lone surrogates, hundreds of levels.
            message = f"error: {self.name}: the arguments are not plain JSON"
            return ToolResult(False, message, CallError.INVALID_ARGUMENTS)
        try:
            for value in arguments.values():
                if type(value) is list or type(value) is dict:
                    # A function that changes a list in place must not change the record of what was called.
                    arguments = copy.deepcopy(arguments)
                    break
            if self.timeout is None:
                ok, text = self._run(arguments)
            else:
                ok, text = call_with_timeout(self._run, {"arguments": arguments}, self.timeout)
        except TimedOut:
            message = f"error: {self.name} timed out after {self.timeout:g} s"
            return ToolResult(False, message, CallError.TIMED_OUT)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # A bug in a user's tool must not end a run of thousands of episodes; the policy sees that it
            # failed, with the exception's type and no text of the host.
            message = self._finish(f"error: {self.name} failed with {type(error).__name__}")
            return ToolResult(False, message, CallError.TOOL_FAILED)
        if ok:
            return ToolResult(True, self._finish(text))
        return ToolResult(False, self._finish(f"error: {self.name}: {text}"), CallError.TOOL_FAILED)

    def _run(self, arguments: dict[str, Any]) -> tuple[bool, str]:
        """Call the function; what writes its result or its `ToolError` as text is user code too, and may fail."""
        try:
            output = self.function(**arguments)
            # str() may return an instance of a subclass, whose methods are anybody's.
            return True, output if type(output) is str else str.__str__(str(output))
        except ToolError as error:
            return False, str.__str__(str(error))

    def _explain(self, arguments: dict[str, Any]) -> str:
        error = next(iter(self._validator.iter_errors(arguments)))
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
        where = f' argument "{path[1:]}":' if path else ""
        message = error.message
        if len(message) > 200:
            # The value comes first and what is wrong with it last.
            message = f"{message[:60]} … {message[-120:]}"
        return self._finish(f"error: {self.name}:{where} {message}")

    def _finish(self, text: str) -> str:
        if len(text) > self.max_output_chars:
            text = text[: self.max_output_chars] + _CUT_MARK
        return neutralise(clean(text))

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"


@typing.overload
def tool(function: Callable[..., Any]) -> Callable[..., Any]: ...


@typing.overload
def tool(
    *, timeout: float | None = ..., read_only: bool | None = ...
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...


def tool(
    function: Callable[..., Any] | None = None,
    *,
    timeout: float | None = DEFAULT_TIMEOUT_S,
    read_only: bool | None = None,
) -> Any:
    """Mark a function as a tool, so that `ToolBox.from_module` finds it: `@tool`, or `@tool(timeout=2)`.

    Args:
        function: The function.
        timeout: Seconds after which a call fails; None sets no limit.
        read_only: Whether a call changes nothing that a later call could show; None lets the box decide.

    Raises:
        ValueError: The timeout is not a positive number, or `read_only` is not True, False or None.

    >>> @tool
    ... def double(x: float) -> float:
    ...     '''Two times x.'''
    ...     return 2 * x
    >>> ToolBox.from_module({"double": double}).tools
    {'double': Tool('double')}
    """
    _check_timeout(timeout, "@tool")
    _check_read_only(read_only, "@tool")

    def mark(marked: Callable[..., Any]) -> Callable[..., Any]:
        marked.__mentor_tool__ = {"timeout": timeout, "read_only": read_only}  # type: ignore[attr-defined]
        return marked

    return mark if function is None else mark(function)


def _check_timeout(timeout: Any, where: str) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 1e6:
        raise ValueError(f"{where}: timeout must be a positive number of seconds or None, got {timeout!r}")


def _check_read_only(read_only: Any, where: str) -> None:
    if read_only is not None and not isinstance(read_only, bool):
        raise ValueError(f"{where}: read_only must be True, False or None, got {read_only!r}")


class ToolBox:
    """The tools of a suite, by name. Boxes with state override the life-cycle methods.

    An environment calls `open` at every reset and `close` at every end, truncation and errors included; to take up
    a saved episode, `open` with the task's state and then `restore`.

    >>> def now() -> str:
    ...     '''The time.'''
    ...     return "noon"
    >>> ToolBox.from_functions([now]).tools["now"].call({}).output
    'noon'

    Attributes:
        tools: The tools by name.
        down: Why what runs the tools is out of order, after a call that failed for it; the environment says so in
            `info["tool_down"]`.
    """

    down: str | None = None

    def __init__(self, tools: Iterable[Tool]) -> None:
        self.tools: dict[str, Tool] = {}
        for item in tools:
            if item.name in self.tools:
                raise ValueError(f"two tools are called {item.name!r}")
            self.tools[item.name] = item

    @classmethod
    def from_functions(cls, functions: Iterable[Callable[..., Any]]) -> ToolBox:
        """Build a box from typed functions with docstrings; what `@tool` says of a function holds here too."""
        return cls(
            Tool.from_function(function, **getattr(function, "__mentor_tool__", {})) for function in functions
        )

    @classmethod
    def from_module(cls, namespace: dict[str, Any]) -> ToolBox:
        """Build a box from every function in a module's namespace that is marked with `@tool`."""
        marked = [
            value for value in namespace.values() if isinstance(getattr(value, "__mentor_tool__", None), dict)
        ]
        return cls(Tool.from_function(function, **function.__mentor_tool__) for function in marked)

    @property
    def has_state(self) -> bool:
        """Whether calls can change what later calls return; a box without state serves any number of episodes."""
        return type(self).open is not ToolBox.open

    def is_read_only(self, name: str) -> bool:
        """Whether a call of a tool changes nothing that a later call could show.

        What the tool says; of one that says nothing, True in a box without state.

        Raises:
            KeyError: There is no tool of that name.

        >>> def now() -> str:
        ...     '''The time.'''
        ...     return "noon"
        >>> ToolBox.from_functions([now]).is_read_only("now")
        True
        """
        said = self.tools[name].read_only
        return not self.has_state if said is None else said

    def tool_facts(self, offered: Iterable[str | dict[str, Any]]) -> dict[str, ToolFacts]:
        """Return what rewards may know of offered tools, for `Transcript.tools`.

        Args:
            offered: A task's `tools`: names, or inline schemas, whose parameters are then those of the tool.

        Raises:
            KeyError: There is no tool of that name.

        >>> def now() -> str:
        ...     '''The time.'''
        ...     return "noon"
        >>> ToolBox.from_functions([now]).tool_facts(["now"])["now"].read_only
        True
        """
        facts = {}
        for entry in offered:
            if isinstance(entry, str):
                facts[entry] = ToolFacts(self.tools[entry].parameters, self.is_read_only(entry))
            else:
                name = entry["function"]["name"]
                facts[name] = ToolFacts(entry["function"].get("parameters") or {}, self.is_read_only(name))
        return facts

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of libraries and data that results depend on; a saved state is taken up only with the same."""
        return {}

    def open(self, state: dict[str, Any] | None) -> None:
        """Set the state behind the tools to a task's initial state."""

    def snapshot(self) -> bytes:
        """Return the present state as bytes; `restore` is its inverse."""
        return b""

    def restore(self, snapshot: bytes) -> None:
        """Set the state to what `snapshot` returned."""

    def final_state(self) -> Any:
        """Return what a `state` grader compares with its `expected`: plain JSON values, None without state.

        Called at most once an episode, between its answer and `close`. What counts for success, and nothing else:
        ways that end alike must give the same value.
        """
        return None

    def close(self) -> None:
        """Release everything that `open` took. May be called twice."""


def decode_snapshot(snapshot: bytes) -> Any:
    """Decode a snapshot that was written as JSON; for `restore`, whose bytes may come from anywhere.

    Raises:
        ValueError: It is not strict JSON, or nested too deeply.

    >>> decode_snapshot(b'["add 1"]')
    ['add 1']
    """
    try:
        return msgspec.json.decode(snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the snapshot is not JSON: {type(error).__name__}") from None


def _split_docstring(documentation: str) -> tuple[str, dict[str, str]]:
    """Split a Google docstring into its text before `Args:` and the argument descriptions."""
    head, _, tail = documentation.partition("\nArgs:\n")
    arguments: dict[str, str] = {}
    current = ""
    for line in tail.splitlines():
        if not line.strip():
            continue
        if not line.startswith(" "):
            break
        match = re.match(r"\s{2,8}(\w+)(?:\s*\([^)]*\))?:\s*(.*)", line)
        if match and not line.startswith(" " * 8):
            current = match.group(1)
            arguments[current] = match.group(2).strip()
        elif current:
            arguments[current] += " " + line.strip()
    head = re.split(r"\n(?:Returns|Raises|Example|Examples):\n", head)[0]
    return " ".join(head.split()), arguments


def _schema_of(hint: Any, where: str) -> dict[str, Any]:
    if hint in _JSON_TYPES:
        return {"type": _JSON_TYPES[hint]}
    origin = typing.get_origin(hint)
    if origin is list:
        (item,) = typing.get_args(hint)
        return {"type": "array", "items": _schema_of(item, where)}
    if origin is Literal:
        return {"enum": list(typing.get_args(hint))}
    if origin in (typing.Union, python_types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        if len(options) == 1:
            schema = _schema_of(options[0], where)
            if "enum" in schema:
                return {"enum": [*schema["enum"], None]}
            return {**schema, "type": [schema["type"], "null"]}
    if hint is list:
        raise ValueError(f"{where}: write list[T], with the type of its items")
    raise ValueError(f"{where}: type {hint!r} is not supported; use str, int, float, bool, list[T] or Literal")
