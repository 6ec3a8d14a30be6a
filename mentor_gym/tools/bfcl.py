"""Boxes for the tasks of the Berkeley function-calling leaderboard (BFCL), from the package `bfcl-eval`.

`CallsBox` has tools that do nothing but note that they were called: BFCL's single-turn tasks describe functions
that nobody can run. `ApiBox` has the simulated programming interfaces of its multi-turn tasks: a file system, a
car, a broker, a travel agent and more.

The package is data and classes here. Its classes are loaded from their files, under other names and with a clock
that stands still, so that nothing of it is changed for others; its dependencies (a dozen clients of model
providers) are neither needed nor imported.
"""

from __future__ import annotations

import copy
import datetime
import decimal
import importlib.metadata
import importlib.util
import inspect
import json
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

import msgspec

from mentor_gym.tools.base import Tool, ToolBox, ToolError

PACKAGE = "bfcl-eval"
RELEASE = "2026.3.23"
# Its pins would replace half of an environment, so that no extra can name it.
_INSTALL = f"pip install 'mentor-gym[bfcl]' && pip install --no-deps {PACKAGE}=={RELEASE}"
NEXT_REQUEST = "next_request"
NO_MORE_REQUESTS = "There are no more requests."
NOTED = "noted"
MAX_RESULT_CHARS = 8_000
# Paths and contents of a simulated file system, together. Copies share what they hold, so that a few dozen calls
# could make one that takes years to walk through.
MAX_FILES_CHARS = 200_000
MAX_POWER_BITS = 10_000
MAX_DEPTH = 50
# Class -> name of its file, and of that with its descriptions.
APIS = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}
_JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array"}
_KEPT = ("description", "enum", "default", "format", "maximum", "minimum", "minItems", "maxItems")
# What would take for ever or fill the memory: digits of numbers.
_BOUNDS = {
    ("logarithm", "precision"): (1, 100),
    ("square_root", "precision"): (1, 100),
    ("round_number", "decimal_places"): (-100, 100),
}
# BFCL's solution of task 173 closes a ticket that is no number, and expects the error.
_MORE_TYPES = {("close_ticket", "ticket_id"): ["integer", "string"]}
_DESCRIPTION = "Tool description: "


class _StandingClock(datetime.datetime):
    """A clock that always shows the time which the broker of the package gives as the present."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _StandingClock:
        return cls(2024, 9, 1, 10, 30, tzinfo=tz)

    @classmethod
    def today(cls) -> _StandingClock:
        return cls.now()


@lru_cache(maxsize=1)
def package_folder() -> Path:
    """Return the folder of the package `bfcl_eval`, without importing it.

    Raises:
        ModuleNotFoundError: It is not installed, or mpmath, which one of its classes needs.
        ImportError: Another release is, whose tasks may be others.
    """
    found = importlib.util.find_spec("bfcl_eval")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"the bfcl suites need {PACKAGE}, which is not installed: {_INSTALL}")
    if importlib.util.find_spec("mpmath") is None:
        raise ModuleNotFoundError(f"the bfcl suites need mpmath, which is not installed: {_INSTALL}")
    release = importlib.metadata.version(PACKAGE)
    if release != RELEASE:
        raise ImportError(f"the bfcl suites read {PACKAGE} {RELEASE}, and {release} is installed: {_INSTALL}")
    return Path(found.submodule_search_locations[0])


def read_lines(*path: str) -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines file of the package's `data` folder.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    text = package_folder().joinpath("data", *path).read_bytes()
    return [msgspec.json.decode(line) for line in text.splitlines() if line.strip()]


def json_schema(described: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a type as BFCL describes it into a JSON schema: `dict`, `float` and `tuple` have other names there.

    >>> json_schema({"type": "dict", "properties": {"x": {"type": "float"}}, "required": ["x"]})
    {'type': 'object', 'properties': {'x': {'type': 'number'}}, 'required': ['x']}
    """
    kind = described["type"]
    schema: dict[str, Any] = {} if kind == "any" else {"type": _JSON_TYPES.get(kind, kind)}
    schema |= {key: described[key] for key in _KEPT if key in described}
    if "items" in described:
        schema["items"] = json_schema(described["items"])
    if "properties" in described:
        schema["properties"] = {name: json_schema(entry) for name, entry in described["properties"].items()}
        if "required" in described:
            schema["required"] = described["required"]
    return schema


class _BfclBox(ToolBox):
    # Another release may have other tasks and other results.
    versions = MappingProxyType({PACKAGE: RELEASE})


class CallsBox(_BfclBox):
    """Tools that can only be called: each call is noted, and `final_state` lists them.

    Any arguments are taken, as BFCL judges them afterwards: a call with wrong ones is a wrong call.

    Args:
        names: What the tools are called. What they take is in the tasks.

    >>> box = CallsBox(["area"])
    >>> box.open(None)
    >>> box.tools["area"].call({"base": 10}).output
    'noted'
    >>> box.final_state()
    [{'name': 'area', 'arguments': {'base': 10}}]
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._calls: list[dict[str, Any]] = []
        super().__init__(self._tool(name) for name in names)

    def _tool(self, name: str) -> Tool:
        def note(**arguments: Any) -> str:
            self._calls.append({"name": name, "arguments": arguments})
            return NOTED

        description = "A function of a task, which only notes that it was called. The task says what it takes."
        # A pattern that every name fits, because a tool's schema is closed to names that it does not know.
        return Tool(note, name, description, {"properties": {}, "patternProperties": {"": {}}})

    def open(self, state: dict[str, Any] | None) -> None:
        """Forget the calls; tasks have no state."""
        self._calls = []

    def snapshot(self) -> bytes:
        """Return the calls, as JSON."""
        return msgspec.json.encode(self._calls)

    def restore(self, snapshot: bytes) -> None:
        """Take up the calls of a snapshot.

        Raises:
            ValueError: The snapshot is not one of this box.
        """
        try:
            calls = msgspec.json.decode(snapshot, type=list[_Noted])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ValueError("a snapshot of this box is a JSON list of calls") from None
        if any(call.name not in self.tools for call in calls):
            raise ValueError("the snapshot has a call of a tool that there is not")
        self._calls = [{"name": call.name, "arguments": call.arguments} for call in calls]

    def final_state(self) -> list[dict[str, Any]]:
        """Return the calls in the order in which they were made, each with `name` and `arguments`."""
        return copy.deepcopy(self._calls)

    def close(self) -> None:
        """Forget the calls."""
        self._calls = []


class _Noted(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    arguments: dict[str, Any]


class ApiBox(_BfclBox):
    """The simulated programming interfaces of BFCL's multi-turn tasks, and `next_request`.

    BFCL's user speaks several times: the next time when the model has stopped to call functions. Here an answer
    ends the episode, so that the policy asks for the next request with a tool. `open` takes a task's state:

    - `classes`: which interfaces there are; tools of others fail.
    - `config`: what each class is loaded with.
    - `requests`: what the user says after the first request.
    - `results`: for each request, what the calls of BFCL's solution returned; `final_state` says which are
      missing.

    `snapshot` holds the calls, which `restore` runs again: the classes draw from generators of their own with
    fixed seeds, and know no other time than their own. Texts are BFCL's; where a result is an error, the call
    has failed.

    >>> box = ApiBox()  # doctest: +SKIP
    >>> box.open({"classes": ["MathAPI"], "config": {}, "requests": [], "results": [[]]})  # doctest: +SKIP
    >>> box.tools["add"].call({"a": 1, "b": 2}).output  # doctest: +SKIP
    '{"result": 3}'
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] = {}
        self._apis: dict[str, Any] = {}
        self._before: dict[str, dict[str, Any]] = {}
        self._calls: list[tuple[str, dict[str, Any]]] = []
        self._told: list[str] = []
        self._acted = False
        self._ended: list[dict[str, Any]] = []
        tools = [self._tool(class_name, *entry) for class_name in APIS for entry in descriptions(class_name)]
        super().__init__([*tools, _long(Tool.from_function(self.next_request))])

    def _tool(self, class_name: str, name: str, description: str, parameters: dict[str, Any]) -> Tool:
        def call(**arguments: Any) -> str:
            return self._call(class_name, name, arguments)

        # The one interface of pure functions.
        return _long(Tool(call, name, description, parameters, read_only=class_name == "MathAPI"))

    def next_request(self) -> str:
        """Say that the present request is done, and hear what the user asks next."""
        requests = self._state.get("requests", ())
        self._calls.append((NEXT_REQUEST, {}))
        if len(self._ended) == len(requests):
            return NO_MORE_REQUESTS
        self._ended.append(self._request_state())
        self._acted = False
        request: str = requests[len(self._ended) - 1]
        return request

    def _call(self, class_name: str, name: str, arguments: dict[str, Any]) -> str:
        if class_name not in self._state.get("classes", ()):
            raise ToolError("this tool is not part of the task")
        if name == "power":
            _check_power(arguments["base"], arguments["exponent"])
        if not self._apis:
            self._load()
        text, problem = _run(self._apis[class_name], name, arguments)
        if class_name == "GorillaFileSystem" and _is_too_large(self._apis[class_name]):
            calls = self._calls
            self._reset()
            self._replay(calls)
            raise ToolError("the file system is full; nothing was changed")
        self._calls.append((name, arguments))
        self._told.append(text)
        self._acted = True
        if problem is not None:
            raise ToolError(problem)
        return text

    def open(self, state: dict[str, Any] | None) -> None:
        """Set the interfaces to those of a task; nothing is loaded before the first call."""
        self.close()
        self._state = state or {}

    def snapshot(self) -> bytes:
        """Return the calls as JSON; nothing when there are none."""
        return msgspec.json.encode(self._calls) if self._calls else b""

    def restore(self, snapshot: bytes) -> None:
        """Run the calls of a snapshot on the task's own interfaces.

        Raises:
            ValueError: The snapshot is not one of this task's.
        """
        try:
            calls = msgspec.json.decode(snapshot, type=list[tuple[str, dict[str, Any]]]) if snapshot else []
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ValueError("a snapshot of this box is a JSON list of calls") from None
        if any(name not in self.tools for name, _ in calls):
            raise ValueError("the snapshot has a call of a tool that there is not")
        self._reset()
        self._replay(calls)
        if self._calls != calls:
            self._reset()
            raise ValueError("the snapshot does not fit the task")

    def final_state(self) -> list[dict[str, Any]]:
        """Return what each request came to: those that the policy has heard, in order.

        Returns:
            For a request that BFCL's solution makes calls for: `acted`, whether any call was made; `changed`, by
            class, the attributes that differ from the start, with their values; `missing`, which results of the
            solution no call has returned so far. An empty object for the others, of which nothing is asked.
        """
        return [*self._ended, self._request_state()]

    def results(self) -> list[str]:
        """Return what the calls returned so far, whole and as the classes gave it."""
        return list(self._told)

    def close(self) -> None:
        """Forget everything. May be called twice."""
        self._reset()
        self._state = {}

    def _reset(self) -> None:
        self._apis, self._before, self._calls, self._told = {}, {}, [], []
        self._acted, self._ended = False, []

    def _load(self) -> None:
        for class_name in self._state["classes"]:
            # Copied: the classes keep and change what they are given.
            self._apis[class_name] = load_api(class_name, copy.deepcopy(self._state["config"].get(class_name, {})))
        self._before = {name: attributes(api) for name, api in self._apis.items()}

    def _replay(self, calls: list[tuple[str, dict[str, Any]]]) -> None:
        for name, arguments in calls:
            self.tools[name].call(arguments)

    def _request_state(self) -> dict[str, Any]:
        results = self._state["results"][len(self._ended)]
        if not results:
            return {}
        changed: dict[str, Any] = {}
        for class_name, api in self._apis.items():
            before = self._before[class_name]
            different = {name: value for name, value in attributes(api).items() if value != before[name]}
            if different:
                changed[class_name] = different
        missing = list(results)
        for text in self._told:
            if text in missing:
                missing.remove(text)
        return {"acted": self._acted, "changed": changed, "missing": missing}


def _long(tool: Tool) -> Tool:
    tool.max_output_chars = MAX_RESULT_CHARS
    return tool


@lru_cache(maxsize=len(APIS))
def descriptions(class_name: str) -> tuple[tuple[str, str, dict[str, Any]], ...]:
    """Return name, description and parameters of every function of an interface, in the package's order.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    found = []
    for entry in read_lines("multi_turn_func_doc", f"{APIS[class_name]}.json"):
        # What the function does comes last there, after the same sentences about the interface for all of them.
        interface, _, purpose = entry["description"].partition(_DESCRIPTION)
        schema = _closed(json_schema(entry["parameters"]))
        for parameter, part in schema["properties"].items():
            where = entry["name"], parameter
            if where in _BOUNDS:
                part["minimum"], part["maximum"] = _BOUNDS[where]
            if where in _MORE_TYPES:
                part["type"] = _MORE_TYPES[where]
        found.append((entry["name"], f"{purpose.strip()} {interface.strip()}".strip(), schema))
    return tuple(found)


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Close the objects inside a schema: the classes write down what they do not know in the order of a set."""
    for part in schema.get("properties", {}).values():
        _closed(part)
        if "properties" in part:
            part["additionalProperties"] = False
    return schema


@lru_cache(maxsize=len(APIS))
def _api_class(class_name: str) -> type:
    file = APIS[class_name]
    path = package_folder() / "eval_checker" / "multi_turn_eval" / "func_source_code" / f"{file}.py"
    name = f"mentor_gym.tools.bfcl:{file}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if getattr(module, "datetime", None) is datetime.datetime:
        module.datetime = _StandingClock  # type: ignore[attr-defined]
    if class_name == "MathAPI":
        module.mpmath = _own_mpmath(module.mpmath)  # type: ignore[attr-defined]
    found: type = getattr(module, class_name)
    return found


def _own_mpmath(mpmath: ModuleType) -> SimpleNamespace:
    """Return what the class uses of mpmath with a precision of its own: it sets that of the process."""
    context = mpmath.MPContext()
    return SimpleNamespace(mp=context, log=context.log)


def load_api(class_name: str, config: dict[str, Any]) -> Any:
    """Return an instance of one of BFCL's classes, as its tasks begin with it.

    Args:
        class_name: One of `APIS`.
        config: The class's part of a task's `initial_config`; the instance keeps and changes it.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    api = _api_class(class_name)()
    if hasattr(api, "_load_scenario"):
        api._load_scenario(config, long_context=False)
    return api


def _run(api: Any, name: str, arguments: dict[str, Any]) -> tuple[str, str | None]:
    """Call a function of an interface; returns the text that BFCL makes of its result, and the error in it."""
    try:
        # The decimal precision that a class sets, and texts that are written with it, stay in here.
        with decimal.localcontext(decimal.Context()):
            function = getattr(api, name)
            given = inspect.signature(function).bind(**arguments)
            given.apply_defaults()
            # Copied, because a class may change what it keeps: neither the record of the calls nor a default
            # value, which the next episode would find changed.
            result = function(**copy.deepcopy(given.arguments))
            return _write(result), str(result["error"]) if isinstance(result, dict) and "error" in result else None
    except RecursionError:
        text = "Error during execution: nested too deep"
    except Exception as error:
        text = f"Error during execution: {error}"
    return text, text


def _write(result: Any) -> str:
    if isinstance(result, str):
        return result
    if isinstance(result, dict):
        try:
            return json.dumps(result)
        except (TypeError, ValueError):
            pass
    return str(result)


def _check_power(base: float, exponent: float) -> None:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > MAX_POWER_BITS:
        raise ToolError("the result is too large")


def _is_too_large(files: Any) -> bool:
    """Say whether a simulated file system is larger than `MAX_FILES_CHARS` or deeper than `MAX_DEPTH`."""
    left = MAX_FILES_CHARS
    # The working directory may be one that was moved or removed. A directory may hold itself.
    waiting = [(files.root, 0, 0), (files._current_dir, 0, 0)]
    while waiting:
        item, depth, chars = waiting.pop()
        chars += 1 + len(item.name)
        left -= chars + len(getattr(item, "content", ""))
        if left < 0 or depth > MAX_DEPTH:
            return True
        waiting += [(entry, depth + 1, chars) for entry in getattr(item, "contents", {}).values()]
    return False


def attributes(api: Any) -> dict[str, Any]:
    """Return what BFCL's state checker compares, as JSON values: the public attributes of an instance.

    Equal values here are equal ones there, and the other way round.
    """
    return {name: _plain(value) for name, value in vars(api).items() if not name.startswith("_")}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _plain(entry) for key, entry in value.items()}
        # JSON has no numbers as keys, and 1 is another key than "1".
        return sorted(([_plain(key), _plain(entry)] for key, entry in value.items()), key=json.dumps)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=json.dumps)
    if hasattr(value, "contents"):
        return {"directory": value.name, "contents": _plain(value.contents)}
    if hasattr(value, "content"):
        return {"file": value.name, "content": value.content}
    return str(value)
