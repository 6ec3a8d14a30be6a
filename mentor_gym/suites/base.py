"""What a suite is, and suites from a user's own files."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mentor_gym.data import DataError, data_path, load_tasks, read_yaml
from mentor_gym.names import nearest
from mentor_gym.tools.base import ToolBox
from mentor_gym.types import Task


class TaskSet:
    """The tasks of one split, by position and by id.

    >>> tasks = TaskSet([Task("sum-1", "shop", "train", "1 and 2?", [], "3", {"kind": "number"}, None, [])])
    >>> len(tasks), tasks.ids, tasks["sum-1"] is tasks[0]
    (1, ['sum-1'], True)
    """

    def __init__(self, tasks: list[Task]) -> None:
        self._tasks = tasks
        self._by_id = {task.id: task for task in tasks}

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, key: int | str) -> Task:
        """Return a task by its position or its id; an unknown one is a `KeyError` that says so."""
        if isinstance(key, str):
            try:
                return self._by_id[key]
            except KeyError:
                raise KeyError(f"no task {key!r} in this split; it has {len(self)} tasks") from None
        return self._tasks[key]

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._by_id

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    @property
    def ids(self) -> list[str]:
        """The ids, in file order."""
        return list(self._by_id)

    def where(self, conditions: Mapping[str, Any]) -> TaskSet:
        """Return the tasks whose `meta` has these values; a list means any of its members.

        Raises:
            ValueError: A condition names no field of `meta`, or no task meets them all.

        >>> from mentor_gym.suites import load_suite
        >>> tasks = load_suite("math").tasks("test")
        >>> len(tasks.where({"calls": 1, "kind": ["gain", "loss"]}))
        22
        """
        found = self._tasks
        for field, value in conditions.items():
            known = sorted({name for task in self._tasks for name in task.meta})
            if field not in known:
                raise ValueError(
                    f"where: no task has the meta field {field!r}; there are {', '.join(known) or 'none'}"
                    f"{nearest(field, known)}"
                )
            wanted = value if isinstance(value, list | tuple) else [value]
            found = [task for task in found if task.meta.get(field) in wanted]
        if not found:
            given = ", ".join(f"{field}={_as_written(value)}" for field, value in conditions.items())
            raise ValueError(f"where: none of {len(self)} tasks has {given}")
        return TaskSet(found)


def _as_written(value: Any) -> str:
    """Write a value of a condition as a command line has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


class Suite:
    """A source of tasks: tools, splits and, for shipped suites, a generator with an oracle teacher.

    Args:
        name: Short name, `suite=` of `gym.make`.
        splits: Names of the splits; the first is the default.
        make_box: Builds the tool box; called once per environment when the box has state.
        files: Where each split's rows are.
        generate: Makes the rows of a split from a seed; None for a user's suite.
        description: One line for listings.
        evaluation_only: Whether the tasks are a public benchmark's, which whoever trains on them spoils.

    >>> from mentor_gym.tools.math import math_box
    >>> mine = Suite("mine", ("train",), math_box, files={"train": data_path("math", "train.jsonl")})
    >>> "add" in mine.box.tools
    True
    """

    def __init__(
        self,
        name: str,
        splits: tuple[str, ...],
        make_box: Callable[[], ToolBox],
        files: dict[str, Path] | None = None,
        generate: Callable[[str, int], list[Task]] | None = None,
        description: str = "",
        evaluation_only: bool = False,
    ) -> None:
        self.name = name
        self.splits = splits
        self.evaluation_only = evaluation_only
        self.make_box = make_box
        self.description = description
        self._files = files or {split: data_path(name, f"{split}.jsonl") for split in splits}
        self._generate = generate
        self._box: ToolBox | None = None
        self._loaded: dict[str, TaskSet] = {}

    @property
    def box(self) -> ToolBox:
        """A box for reading names and schemas; environments take theirs from `new_box`."""
        if self._box is None:
            self._box = self.make_box()
        return self._box

    def new_box(self) -> ToolBox:
        """Return a box for one environment: its own when it has state, else the shared one."""
        return self.make_box() if self.box.has_state else self.box

    def __deepcopy__(self, memo: dict[int, Any]) -> Suite:
        # What it holds is only read: clones of an environment share it.
        return self

    def tasks(self, split: str) -> TaskSet:
        """Return the tasks of a split, loading them on first use.

        Raises:
            ValueError: The suite has no such split.
            DataError: A row is broken.
        """
        if split not in self._loaded:
            if split not in self.splits:
                known = ", ".join(self.splits)
                hint = nearest(split, self.splits)
                raise ValueError(f"suite {self.name!r} has no split {split!r}; it has {known}{hint}")
            self._loaded[split] = TaskSet(self._load(split))
        return self._loaded[split]

    def _load(self, split: str) -> list[Task]:
        return load_tasks(self._files[split], self.name, split, self.box.tools)

    def generate(self, split: str, seed: int) -> list[Task]:
        """Generate the rows of a split anew; the same seed gives the same rows."""
        if self._generate is None:
            raise ValueError(f"suite {self.name!r} has no generator: its rows are a file")
        return self._generate(split, seed)


def load_yaml_suite(path: str) -> Suite:
    r"""Load a user's suite: a YAML file that names a Python file of tools and a JSONL file per split.

    ```yaml
    name: shop
    tools: tools.py          # its functions marked with @mentor_gym.tools.tool, or what its make_box() returns;
                             # or "mcp:command argument …", a server whose tools are taken
    splits:
      train: train.jsonl
      test: test.jsonl
    evaluation_only: true    # optional: a benchmark's rows, which training refuses (see `Suite`)
    ```

    Raises:
        DataError: A file is missing or broken; says which, and what was expected.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tools = Path(folder, "tools.py")
    ...     _ = tools.write_text("from mentor_gym.tools import tool\n@tool\ndef now():\n    'The time.'\n")
    ...     _ = Path(folder, "train.jsonl").write_text("")
    ...     file = Path(folder, "suite.yaml")
    ...     _ = file.write_text("name: clock\ntools: tools.py\nsplits: {train: train.jsonl}\n")
    ...     suite = load_yaml_suite(str(file))
    >>> suite.name, suite.splits, list(suite.box.tools)
    ('clock', ('train',), ['now'])
    """
    source = Path(path).resolve()
    content, lines = read_yaml(source)
    expected: dict[str, type] = {"name": str, "tools": str, "splits": dict}
    if not isinstance(content, dict):
        raise DataError(f"{source}: expected the keys {', '.join(expected)}")
    known = (*expected, "description", "evaluation_only")
    for key in content:
        if key not in known:
            where = f"{source}, line {lines.get(str(key), 1)}"
            hint = nearest(key, known)
            raise DataError(f'{where}: field "{key}" is unknown; expected {", ".join(known)}{hint}')
    for key, kind in expected.items():
        if not isinstance(content.get(key), kind) or not content[key]:
            where = f"{source}, line {lines[key]}" if key in lines else str(source)
            raise DataError(f'{where}: field "{key}": expected a {"mapping" if kind is dict else "text"}')
    evaluation_only = content.get("evaluation_only", False)
    if not isinstance(evaluation_only, bool):
        where = f"{source}, line {lines['evaluation_only']}"
        raise DataError(f'{where}: field "evaluation_only": expected true or false, got {evaluation_only!r}')
    folder = source.parent
    files = {}
    for split, file in content["splits"].items():
        if not isinstance(split, str) or not isinstance(file, str):
            raise DataError(f'{source}, line {lines["splits"]}: field "splits": expected split: file.jsonl')
        files[split] = folder / file
        if not files[split].is_file():
            raise DataError(
                f'{source}, line {lines["splits"]}: field "splits.{split}": {files[split]} does not exist'
            )
    where = f"{source}, line {lines['tools']}"
    tools = content["tools"]
    is_server = tools.startswith("mcp:")
    return Suite(
        content["name"],
        tuple(files),
        make_box=_mcp_factory(tools[4:], folder, where) if is_server else _box_factory(folder / tools, where),
        files=files,
        description=str(content.get("description", "")),
        evaluation_only=evaluation_only,
    )


def _mcp_factory(command: str, folder: Path, where: str) -> Callable[[], ToolBox]:
    from mentor_gym.tools.mcp import mcp_box

    try:
        box = mcp_box(command, folder=str(folder))
        box.tools  # noqa: B018  # what is wrong with the server is told here
    except ValueError as error:
        raise DataError(f'{where}: field "tools": {error}') from None
    return lambda: box


def _box_factory(path: Path, where: str) -> Callable[[], ToolBox]:
    if not path.is_file():
        raise DataError(f'{where}: field "tools": {path} does not exist')
    try:
        namespace: dict[str, Any] = runpy.run_path(str(path))
        make_box = namespace.get("make_box")
        box = ToolBox.from_module(namespace) if make_box is None else make_box()
    except Exception as error:
        raise DataError(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(box, ToolBox):
        raise DataError(f"{path}: make_box() must return a ToolBox, got {type(box).__name__}")
    if not box.tools:
        raise DataError(f"{path}: no function is marked with @tool (from mentor_gym.tools import tool)")
    if make_box is None:
        return lambda: box
    factory: Callable[[], ToolBox] = make_box
    return factory
