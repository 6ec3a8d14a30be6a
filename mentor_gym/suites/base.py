"""What a suite is, and suites from a user's own files."""

from __future__ import annotations

import runpy
from collections.abc import Callable
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

    @property
    def ids(self) -> list[str]:
        """The ids, in file order."""
        return list(self._by_id)


class Suite:
    """A source of tasks: tools, splits and, for shipped suites, a generator with an oracle teacher.

    Args:
        name: Short name, `suite=` of `gym.make`.
        splits: Names of the splits; the first is the default.
        make_box: Builds the tool box; called once per environment when the box has state.
        files: Where each split's rows are.
        generate: Makes the rows of a split from a seed; None for a user's suite.
        description: One line for listings.

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
    ) -> None:
        self.name = name
        self.splits = splits
        self.make_box = make_box
        self.description = description
        self._files = files or {split: data_path(name, f"{split}.jsonl") for split in splits}
        self._generate = generate
        self._box: ToolBox | None = None
        self._loaded: dict[str, TaskSet] = {}

    @property
    def box(self) -> ToolBox:
        """A box for reading names and schemas; environments make their own with `make_box`."""
        if self._box is None:
            self._box = self.make_box()
        return self._box

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
            self._loaded[split] = TaskSet(load_tasks(self._files[split], self.name, split, self.box.tools))
        return self._loaded[split]

    def generate(self, split: str, seed: int) -> list[Task]:
        """Generate the rows of a split anew; the same seed gives the same rows."""
        if self._generate is None:
            raise ValueError(f"suite {self.name!r} has no generator: its rows are a file")
        return self._generate(split, seed)


def load_yaml_suite(path: str) -> Suite:
    r"""Load a user's suite: a YAML file that names a Python file of tools and a JSONL file per split.

    ```yaml
    name: shop
    tools: tools.py          # its functions marked with @mentor_gym.tools.tool
    splits:
      train: train.jsonl
      test: test.jsonl
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
    known = (*expected, "description")
    for key in content:
        if key not in known:
            where = f"{source}, line {lines.get(str(key), 1)}"
            hint = nearest(key, known)
            raise DataError(f'{where}: field "{key}" is unknown; expected {", ".join(known)}{hint}')
    for key, kind in expected.items():
        if not isinstance(content.get(key), kind) or not content[key]:
            where = f"{source}, line {lines[key]}" if key in lines else str(source)
            raise DataError(f'{where}: field "{key}": expected a {"mapping" if kind is dict else "text"}')
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
    box = _box_from_file(folder / content["tools"], f"{source}, line {lines['tools']}")
    return Suite(
        content["name"],
        tuple(files),
        make_box=lambda: box,
        files=files,
        description=str(content.get("description", "")),
    )


def _box_from_file(path: Path, where: str) -> ToolBox:
    if not path.is_file():
        raise DataError(f'{where}: field "tools": {path} does not exist')
    try:
        namespace: dict[str, Any] = runpy.run_path(str(path))
        box = ToolBox.from_module(namespace)
    except Exception as error:
        raise DataError(f"{path}: {type(error).__name__}: {error}") from error
    if not box.tools:
        raise DataError(f"{path}: no function is marked with @tool (from mentor_gym.tools import tool)")
    return box
