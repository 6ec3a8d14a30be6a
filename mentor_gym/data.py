"""Task files: load, validate, rebuild, and the manifest of what is shipped.

A broken row is refused with its file, line and field. The shipped rows come from the suites' generators:
`mentor-gym data rebuild` writes them byte for byte again, `mentor-gym data verify` checks their hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from mentor_gym.grading import grade, grader_problem
from mentor_gym.tools.base import Tool
from mentor_gym.types import Task

if TYPE_CHECKING:
    from mentor_gym.suites.base import Suite

REBUILD_SEED = 20251018
_decoder = msgspec.json.Decoder(Task)
_encoder = msgspec.json.Encoder()


class DataError(ValueError):
    """A data file that cannot be used; the message names the file, the line, the field and what was expected.

    >>> load_tasks(Path("gone.jsonl"), "mine", "train", {})
    Traceback (most recent call last):
    mentor_gym.data.DataError: gone.jsonl: cannot be read: No such file or directory
    """


class TwiceError(ValueError):
    """An object in which a key stands twice."""


def unique(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    """Make an object of its pairs, as `object_pairs_hook` of `json`, which would keep the last of equal keys.

    Raises:
        TwiceError: A key stands twice.

    >>> unique([("a", 1), ("a", 2)])
    Traceback (most recent call last):
    mentor_gym.data.TwiceError: the key "a" stands twice in one object
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[Any] = set()
        for key, _ in pairs:
            if key in seen:
                raise TwiceError(f'the key "{str(key)[:40]}" stands twice in one object')
            seen.add(key)
    return made


_strict = json.JSONDecoder(object_pairs_hook=unique)


def data_path(*parts: str) -> Path:
    """Return the path of a shipped data file.

    >>> data_path("math", "train.jsonl").name
    'train.jsonl'
    """
    return Path(str(resources.files("envs_data"))).joinpath(*parts)


def read_yaml(path: Path) -> tuple[Any, dict[str, int]]:
    r"""Read a YAML file, with the line of every top-level key for messages about its value.

    Raises:
        DataError: The file cannot be read, is not YAML, or has a top-level key twice.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "suite.yaml")
    ...     _ = file.write_text("name: shop\ntools: tools.py\n")
    ...     read_yaml(file)
    ({'name': 'shop', 'tools': 'tools.py'}, {'name': 1, 'tools': 2})
    """
    lines: dict[str, int] = {}
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        top = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}") from None
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"{path}{where}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if isinstance(top, yaml.MappingNode):
        for key, _ in top.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in lines:
                raise DataError(f'{path}, line {line}: field "{name}" stands twice, first in line {lines[name]}')
            lines[name] = line
    return content, lines


def load_tasks(path: Path, suite: str, split: str, tools: Mapping[str, Tool]) -> list[Task]:
    """Load and validate a JSONL file of task rows.

    Raises:
        DataError: The file cannot be read, or a row has a missing, unknown or wrong field.

    >>> from mentor_gym.tools.math import math_box
    >>> load_tasks(data_path("math", "test.jsonl"), "math", "test", math_box().tools)[0].split
    'test'
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    tasks: list[Task] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            task = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(f"{where}: {name_field(str(error))}") from None
        check_row(task, where, suite, split, tools)
        if task.id in seen:
            raise DataError(f'{where}: field "id": {task.id!r} stands twice in this file')
        seen.add(task.id)
        tasks.append(task)
    if not tasks:
        raise DataError(f"{path}: holds no task rows")
    return tasks


def name_field(message: str, row: type[msgspec.Struct] = Task, what_it_is: str = "a task row") -> str:
    """Turn msgspec's wording into ours: the field first, then what was expected.

    >>> name_field("Object missing required field `id`")
    'field "id" is missing'
    """
    if message.startswith("Object missing required field `"):
        return f'field "{message.split("`")[1]}" is missing'
    if message.startswith("Object contains unknown field `"):
        field = message.split("`")[1]
        return f'field "{field}" is unknown; known fields: {", ".join(row.__struct_fields__)}'
    what, separator, where = message.partition(" - at `$.")
    if separator:
        return f'field "{where.rstrip("`")}": {what.lower().replace("`", "")}'
    return f"not {what_it_is}: {message}"


def check_row(task: Task, where: str, suite: str, split: str, tools: Mapping[str, Tool]) -> None:
    """Refuse a task row that does not fit where it stands.

    Args:
        task: The row.
        where: How messages name it: file and line.
        suite: The suite that it must belong to.
        split: The split.
        tools: The tools of the suite's box.

    Raises:
        DataError: A field does not fit; names it.
    """
    for field, value, expected in (("suite", task.suite, suite), ("split", task.split, split)):
        if value != expected:
            raise DataError(f'{where}: field "{field}": expected {expected!r}, got {value!r}')
    offered: set[str] = set()
    for entry in task.tools:
        if isinstance(entry, str):
            name = entry
        else:
            function = entry.get("function")
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                raise DataError(f'{where}: field "tools": an inline schema needs function.name')
            name = function["name"]
            if not isinstance(function.get("parameters", {}), dict):
                raise DataError(f'{where}: field "tools": {name!r}: function.parameters must be an object')
        if name not in tools:
            raise DataError(f'{where}: field "tools": the suite has no tool {name!r}; it has {", ".join(tools)}')
        offered.add(name)
    trouble = grader_problem(task.grader)
    if trouble:
        raise DataError(f"{where}: {trouble}")
    if not grade(task.answer, task.answer, task.grader):
        kind = task.grader["kind"]
        raise DataError(f'{where}: field "answer": {task.answer!r} is no answer to a {kind} grader')
    named = task.meta.get("teacher_tools", [])
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise DataError(f'{where}: field "meta.teacher_tools": expected a list of names, got {named!r}')
    for position, message in enumerate(task.teacher):
        problem = _message_problem(message, offered)
        if problem:
            raise DataError(f'{where}: field "teacher[{position}]": {problem}')


def _message_problem(message: dict[str, Any], offered: set[str]) -> str | None:
    role = message.get("role")
    if role == "tool":
        return None if isinstance(message.get("content"), str) else "a tool message needs text as content"
    if role != "assistant":
        return f'expected role "assistant" or "tool", got {role!r}'
    calls = message.get("tool_calls") or []
    content = message.get("content")
    if not isinstance(calls, list):
        return "tool_calls must be a list"
    if not isinstance(content, str) and (content is not None or not calls):
        return "an assistant message needs tool_calls or text as content"
    for call in calls:
        try:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            if not isinstance(arguments, dict):
                text, arguments = arguments, msgspec.json.decode(arguments)
                # As many colons as keys leave no room for a second one.
                if isinstance(arguments, dict) and text.count(":") != len(arguments):
                    _strict.decode(text)
        except TwiceError as error:
            return f"function.arguments: {error}"
        except (KeyError, TypeError, RecursionError, msgspec.DecodeError) as error:
            return f"tool_calls need function.name and function.arguments as JSON ({type(error).__name__})"
        if not isinstance(name, str) or name not in offered:
            return f"the teacher calls {name!r}, which the row does not offer"
        if not isinstance(arguments, dict):
            return "function.arguments must be a JSON object"
    return None


def write_tasks(path: Path, tasks: Sequence[Task]) -> str:
    """Write rows as JSONL and return the SHA-256 of the file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tasks(Path(folder, "none.jsonl"), [])[:8]
    'e3b0c442'
    """
    content = b"".join(_encoder.encode(task) + b"\n" for task in tasks)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def rebuild(
    suites: Sequence[Suite],
    folder: Path,
    seed: int = REBUILD_SEED,
    kept: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Generate every shipped split of the suites into `folder` and write its manifest.

    The same seed gives the same bytes on every machine.

    Args:
        suites: What to generate.
        folder: Where to.
        seed: Of all choices.
        kept: Entries of the manifest for files that stay as they are.

    Returns:
        The manifest: seed, and for each file its number of rows and SHA-256.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     manifest = rebuild([], Path(folder), seed=1)
    >>> manifest["seed"], manifest["files"]
    (1, {})
    """
    files: dict[str, Any] = {}
    for suite in suites:
        for split in suite.splits:
            tasks = suite.generate(split, seed)
            name = f"{suite.name}/{split}.jsonl"
            files[name] = {"rows": len(tasks), "sha256": write_tasks(folder / name, tasks)}
    files |= kept or {}
    manifest = {"seed": seed, "command": f"mentor-gym data rebuild --seed {seed}", "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def verify(folder: Path | None = None) -> list[str]:
    """Compare the data files with their manifest; returns one line per difference, none when all is well.

    >>> verify()
    []
    """
    folder = folder or data_path()
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        files = {name: (entry["sha256"], entry["rows"]) for name, entry in manifest["files"].items()}
    except (OSError, ValueError) as error:
        return [f"{folder / 'manifest.json'}: {error}"]
    except (KeyError, TypeError, AttributeError):
        return [f"{folder / 'manifest.json'}: expected files, each with rows and sha256"]
    problems = []
    for name, (digest, rows) in files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name}: missing")
            continue
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            problems.append(f"{name}: SHA-256 differs from the manifest")
        elif content.count(b"\n") != rows:
            found = content.count(b"\n")
            problems.append(f"{name}: {found} rows, the manifest says {rows}")
    return problems
