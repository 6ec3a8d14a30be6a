"""Look at task rows and divide them: what is in a suite or a file of rows, and seeded splits of it."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mentor_gym.data import DataError, name_field, write_tasks
from mentor_gym.names import nearest
from mentor_gym.suites import EXTRA_SUITES, SUITES, is_suite_name, load_suite
from mentor_gym.suites.base import Suite, load_yaml_suite
from mentor_gym.types import Task

_SUITE_ENDS = (".yaml", ".yml")
# Values of a meta field that are counted one by one; a field with more says little.
_MOST_VALUES = 20
# Of the kinds and tools of a split, in a table.
_MOST_SHOWN = 5
_BUILT_IN = '''"""Tools of this suite: those of the shipped suite {name}."""

from mentor_gym.suites import load_suite
from mentor_gym.tools import ToolBox


def make_box() -> ToolBox:
    """Build the box."""
    return load_suite("{name}").make_box()
'''


@dataclass(frozen=True)
class Source:
    """Task rows, and where they come from.

    Attributes:
        name: What was asked for.
        tasks: The rows of each split.
        suite: The suite that they belong to; None for a file of rows that stands alone.
        suite_file: Its `suite.yaml`; None for a shipped suite, and without one.
    """

    name: str
    tasks: dict[str, list[Task]]
    suite: Suite | None
    suite_file: Path | None = None

    @property
    def evaluation_only(self) -> bool:
        """Whether tasks are a benchmark's: their suite is marked so, or they name a shipped one that is."""
        if self.suite is not None and self.suite.evaluation_only:
            return True
        names = {task.suite for tasks in self.tasks.values() for task in tasks}
        return any(is_suite_name(name) and load_suite(name).evaluation_only for name in names)

    def refuse_evaluation(self, allowed: bool) -> None:
        """Refuse a benchmark's tasks where rows to train on are made.

        Args:
            allowed: Whether the caller wants them all the same.

        Raises:
            ValueError: Tasks are for evaluation only, and not allowed.
        """
        if self.evaluation_only and not allowed:
            raise ValueError(
                f"{self.name}: the tasks are a benchmark's, for evaluation only: figures of a model that was "
                "trained on them tell nothing; evaluation_data=True (--evaluation-data) takes them all the same"
            )

    def schema(self, task: Task, entry: str | dict[str, Any]) -> dict[str, Any]:
        """Return the OpenAI schema of a tool of a task, named or inline.

        Raises:
            DataError: A tool is named, and there is no suite that has it.
        """
        if isinstance(entry, dict):
            return entry
        tools = {} if self.suite is None else self.suite.box.tools
        if entry not in tools:
            raise DataError(f"{self.name}: task {task.id}: there is no schema of {entry!r}; name the suite.yaml")
        return tools[entry].schema


def read_source(source: str | Path, splits: Sequence[str] | None = None) -> Source:
    """Read the rows of a suite, by its name or its `suite.yaml`, or of a JSONL file of task rows.

    The rows of a file belong to the suite that stands beside it, or to the shipped one that they name.

    Args:
        source: The suite or file.
        splits: Which splits to read; None reads all.

    Raises:
        DataError: A file is missing or broken; names file, line and field.
        ValueError: There is no such suite or split.

    >>> {split: len(tasks) for split, tasks in read_source("math", ["valid"]).tasks.items()}
    {'valid': 300}
    """
    name = str(source)
    if is_suite_name(name) or name.endswith(_SUITE_ENDS):
        # Read anew: the file may have been written a moment ago by this program.
        file = None if is_suite_name(name) else Path(name)
        suite = load_suite(name) if file is None else load_yaml_suite(name)
        wanted = suite.splits if splits is None else splits
        return Source(name, {split: list(suite.tasks(split)) for split in wanted}, suite, file)
    path = Path(source)
    if path.suffix != ".jsonl":
        names = [*SUITES, *EXTRA_SUITES]
        known = f"{', '.join(names)}, a suite.yaml or a .jsonl file of task rows"
        raise ValueError(f"unknown source {name!r}; known: {known}{nearest(name, names)}")
    tasks = _read_rows(path)
    if splits is not None:
        for split in splits:
            if split not in tasks:
                raise ValueError(f"{path} has no rows of split {split!r}; it has {', '.join(tasks)}")
        tasks = {split: tasks[split] for split in splits}
    return Source(name, tasks, *_suite_of(path, tasks))


def _read_rows(path: Path) -> dict[str, list[Task]]:
    decoder = msgspec.json.Decoder(Task)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    tasks: dict[str, list[Task]] = {}
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            task = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: {name_field(str(error))}") from None
        if seen.setdefault(task.id, number) != number:
            first = seen[task.id]
            raise DataError(f'{path}, line {number}: field "id": {task.id!r} stands twice, first in line {first}')
        tasks.setdefault(task.split, []).append(task)
    if not tasks:
        raise DataError(f"{path}: holds no task rows")
    return tasks


def _suite_of(path: Path, tasks: Mapping[str, list[Task]]) -> tuple[Suite | None, Path | None]:
    """Return the suite of a file's rows, and its `suite.yaml` where it has one."""
    names = {task.suite for found in tasks.values() for task in found}
    beside = path.with_name("suite.yaml")
    if beside.is_file():
        suite = load_yaml_suite(str(beside))
        if names == {suite.name}:
            return suite, beside
    if len(names) == 1 and all(map(is_suite_name, names)):
        return load_suite(names.pop()), None
    return None, None


# Statistics


@dataclass(frozen=True)
class Spread:
    """The smallest, mean and largest of some numbers; all 0 without any.

    >>> Spread.of([1, 2, 6])
    Spread(least=1, mean=3.0, most=6)
    """

    least: int = 0
    mean: float = 0.0
    most: int = 0

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Spread:
        """Return the spread of numbers."""
        return cls(min(numbers), sum(numbers) / len(numbers), max(numbers)) if numbers else cls()

    def __str__(self) -> str:
        return f"{self.least} / {self.mean:.1f} / {self.most}"


@dataclass(frozen=True)
class SplitStats:
    """What is in a split.

    Attributes:
        split: Its name.
        tasks: Number of tasks.
        teachers: How many of them have a teacher.
        calls: Teacher calls of a task with a teacher.
        tools: How often the teachers call each tool, most often first.
        offered: Number of tools that a task offers.
        distinct_tools: Number of different names among the tools on offer.
        prompt_chars: Length of the prompts.
        answer_chars: Length of the answers.
        graders: Number of tasks by kind of grader.
        kinds: Number of tasks by `meta["kind"]`, where they have one.
        meta: For each other field of `meta` with few values how many tasks have which; values as JSON.
        repeated: How many tasks have the prompt of an earlier one of the split.
    """

    split: str
    tasks: int
    teachers: int
    calls: Spread
    tools: dict[str, int]
    offered: Spread
    distinct_tools: int
    prompt_chars: Spread
    answer_chars: Spread
    graders: dict[str, int]
    kinds: dict[str, int]
    meta: dict[str, dict[str, int]]
    repeated: int


@dataclass(frozen=True)
class Overlap:
    """Prompts that two splits share, but for case and blanks: what one teaches, the other measures.

    Attributes:
        first: Name of a split.
        second: Name of a later one.
        prompts: How many prompts of the second stand in the first too.
        example: Ids of a task of each with the same prompt.
    """

    first: str
    second: str
    prompts: int
    example: tuple[str, str]


@dataclass(frozen=True)
class Stats:
    """What is in a suite or a file of rows.

    Attributes:
        splits: Each split.
        overlaps: Each pair of splits that share prompts.
    """

    splits: list[SplitStats] = field(default_factory=list)
    overlaps: list[Overlap] = field(default_factory=list)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the heads and the rows of a table with a column per split.

        >>> heads, rows = stats(read_source("math", ["valid"])).table()
        >>> heads, rows[0]
        (['', 'valid'], ['tasks', '300'])
        """
        columns = [
            {
                "tasks": str(item.tasks),
                "with a teacher": str(item.teachers),
                "calls, least / mean / most": str(item.calls),
                "tools on offer": str(item.offered),
                "different tools": str(item.distinct_tools),
                "characters of a prompt": str(item.prompt_chars),
                "characters of an answer": str(item.answer_chars),
                "graders": _listed(item.graders),
                "kinds": _listed(item.kinds),
                "tools called": _listed(item.tools),
                "repeated prompts": str(item.repeated),
            }
            for item in self.splits
        ]
        names = list(columns[0]) if columns else []
        return ["", *(item.split for item in self.splits)], [
            [name, *(col[name] for col in columns)] for name in names
        ]

    def warnings(self) -> list[str]:
        """Return one line per pair of splits that share prompts."""
        return [
            f"prompts of {overlap.second} that stand in {overlap.first} too: {overlap.prompts}, "
            f"for example {overlap.example[1]} and {overlap.example[0]}"
            for overlap in self.overlaps
        ]


def stats(source: Source) -> Stats:
    """Return what is in the splits of a source.

    >>> found = stats(read_source("math", ["valid", "test"]))
    >>> found.splits[0].graders, found.overlaps
    ({'number': 300}, [])
    """
    prompts = {split: _prompts(tasks) for split, tasks in source.tasks.items()}
    overlaps = []
    names = list(source.tasks)
    for i, second in enumerate(names):
        for first in names[:i]:
            shared = [prompt for prompt in prompts[second] if prompt in prompts[first]]
            if shared:
                example = (prompts[first][shared[0]], prompts[second][shared[0]])
                overlaps.append(Overlap(first, second, len(shared), example))
    return Stats([_split_stats(split, tasks) for split, tasks in source.tasks.items()], overlaps)


def _split_stats(split: str, tasks: list[Task]) -> SplitStats:
    teachers = [calls_of(task) for task in tasks if task.teacher]
    tools = Counter(name for calls in teachers for name in calls)
    meta: dict[str, Counter[str]] = {}
    for task in tasks:
        for name, value in task.meta.items():
            if name == "kind":
                continue
            meta.setdefault(name, Counter())[json.dumps(value, ensure_ascii=False)] += 1
    return SplitStats(
        split=split,
        tasks=len(tasks),
        teachers=len(teachers),
        calls=Spread.of([len(calls) for calls in teachers]),
        tools=_sorted(tools),
        offered=Spread.of([len(task.tools) for task in tasks]),
        distinct_tools=len({name for task in tasks for name in offered_names(task)}),
        prompt_chars=Spread.of([len(task.prompt) for task in tasks]),
        answer_chars=Spread.of([len(task.answer) for task in tasks]),
        graders=_sorted(Counter(task.grader["kind"] for task in tasks)),
        kinds=_sorted(Counter(str(task.meta["kind"]) for task in tasks if "kind" in task.meta)),
        meta={name: _sorted(counts) for name, counts in sorted(meta.items()) if len(counts) <= _MOST_VALUES},
        repeated=len(tasks) - len(_prompts(tasks)),
    )


def calls_of(task: Task) -> list[str]:
    """Return the names of the tools that the teacher calls, in order.

    >>> calls_of(Task("1", "math", "train", "1 and 2?", ["add"], "3", {"kind": "number"}, None, []))
    []
    """
    return [call["function"]["name"] for message in task.teacher for call in message.get("tool_calls") or []]


def offered_names(task: Task) -> list[str]:
    """Return the names of the tools on offer.

    >>> offered_names(Task("1", "math", "train", "1 and 2?", ["add"], "3", {"kind": "number"}, None, []))
    ['add']
    """
    return [entry if isinstance(entry, str) else entry["function"]["name"] for entry in task.tools]


def _prompts(tasks: Iterable[Task]) -> dict[str, str]:
    """Return the distinct prompts with the id of the first task that has each."""
    found: dict[str, str] = {}
    for task in tasks:
        found.setdefault(same_prompt(task), task.id)
    return found


def same_prompt(task: Task) -> str:
    """Return the prompt in lower case and with single blanks: tasks with the same one ask the same.

    >>> same_prompt(Task("1", "math", "train", "What is  1? ", ["add"], "1", {"kind": "number"}, None, []))
    'what is 1?'
    """
    return " ".join(task.prompt.split()).casefold()


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _listed(counts: Mapping[str, int]) -> str:
    """Write the largest counts, and how many others there are."""
    shown = [f"{name} {count}" for name, count in list(counts.items())[:_MOST_SHOWN]]
    return ", ".join([*shown, f"… {len(counts) - _MOST_SHOWN} more"] if len(counts) > _MOST_SHOWN else shown)


# Splitting


def split_rows(
    source: Source,
    out: str | Path,
    shares: Mapping[str, float],
    seed: int = 0,
    by: str | None = None,
    evaluation_data: bool = False,
) -> dict[str, int]:
    """Divide all rows of a source into new splits and write them; the same seed gives the same files.

    Tasks with the same prompt always go to the same split. The rows are put into the groups of `by`, the groups
    are drawn in an order of chance, large ones first, and each goes to the split that lacks most.

    Args:
        source: The rows.
        out: Folder for a file per split; must not exist, or be empty. If the rows belong to a suite, a
            `suite.yaml` with its tools is written too.
        shares: Split name to its part of the rows; they add up to 1.
        seed: Draws the order.
        by: A field of `meta`, or `tools` for the set of tools on offer: tasks that agree in it go to the same
            split. None keeps only equal prompts together.
        evaluation_data: Divide a benchmark's tasks too; the new `suite.yaml` keeps their mark.

    Returns:
        Number of rows of each split.

    Raises:
        ValueError: An argument is wrong, the folder is not empty, a split would be, or the tasks are for
            evaluation only.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     split_rows(read_source("math", ["valid"]), Path(home, "new"), {"train": 0.75, "test": 0.25})
    {'train': 225, 'test': 75}
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not an empty folder; nothing is overwritten")
    _check_shares(shares)
    source.refuse_evaluation(evaluation_data)
    tasks = [task for found in source.tasks.values() for task in found]
    ids = Counter(task.id for task in tasks)
    for task_id, count in ids.items():
        if count > 1:
            raise ValueError(f"{source.name}: two splits have a task {task_id!r}")
    groups = _groups(tasks, _key(tasks, by))
    chosen = _assign(groups, shares, len(tasks), random.Random(seed))
    for split, members in chosen.items():
        if not members:
            raise ValueError(
                f"split {split!r} would be empty: {len(tasks)} rows in {len(groups)} groups that belong together"
            )
    out.mkdir(parents=True, exist_ok=True)
    for split, members in chosen.items():
        rows = [msgspec.structs.replace(tasks[position], split=split) for position in sorted(members)]
        write_tasks(out / f"{split}.jsonl", rows)
    if source.suite is not None:
        _write_suite(source, out, list(chosen))
    return {split: len(members) for split, members in chosen.items()}


def _check_shares(shares: Mapping[str, float]) -> None:
    for split, share in shares.items():
        if not split or not all(letter.isalnum() or letter in "-_" for letter in split):
            raise ValueError(f"a name of letters, digits, - and _ is needed, got {split!r}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueError(f"the share of split {split!r} must be above 0 and at most 1, got {share!r}")
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"the shares must add up to 1, got {sum(shares.values()):g}")


def _key(tasks: Sequence[Task], by: str | None) -> Callable[[Task], str]:
    if by is None:
        return same_prompt
    if by == "tools":
        return lambda task: json.dumps(sorted(set(offered_names(task))))
    fields = sorted({name for task in tasks for name in task.meta})
    for task in tasks:
        if by not in task.meta:
            known = ", ".join(["tools", *fields])
            raise ValueError(
                f"by: task {task.id!r} has no meta field {by!r}; there are {known}{nearest(by, fields)}"
            )
    return lambda task: json.dumps(task.meta[by], sort_keys=True)


def _groups(tasks: Sequence[Task], key: Callable[[Task], str]) -> list[list[int]]:
    """Return positions of tasks that belong together: equal in the key, in the prompt, or linked by such."""
    parent = list(range(len(tasks)))

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    first: dict[tuple[str, str], int] = {}
    for position, task in enumerate(tasks):
        for mark in (("key", key(task)), ("prompt", same_prompt(task))):
            one, other = root(first.setdefault(mark, position)), root(position)
            parent[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = {}
    for position in range(len(tasks)):
        groups.setdefault(root(position), []).append(position)
    return list(groups.values())


def _assign(
    groups: Sequence[list[int]], shares: Mapping[str, float], total: int, generator: random.Random
) -> dict[str, list[int]]:
    order = list(groups)
    generator.shuffle(order)
    order.sort(key=len, reverse=True)
    chosen: dict[str, list[int]] = {split: [] for split in shares}
    for group in order:
        # Before rounding, so that the least of a share is not lost to the order of the splits.
        lacking = {split: share * total - len(chosen[split]) for split, share in shares.items()}
        chosen[max(lacking, key=lambda split: lacking[split])] += group
    return chosen


def _write_suite(source: Source, out: Path, splits: Sequence[str]) -> None:
    suite = source.suite
    assert suite is not None  # the caller asked
    beside = source.suite_file
    content: dict[str, Any] = {"name": suite.name, "description": suite.description, "tools": "tools.py"}
    if source.evaluation_only:
        content["evaluation_only"] = True
    if beside is not None:
        given = yaml.safe_load(beside.read_text(encoding="utf-8"))
        content["tools"] = given["tools"]
        left = {beside.name, *map(str, given["splits"].values())}
        # What the tools read stands beside them.
        for file in sorted(beside.parent.iterdir()):
            if file.is_file() and file.name not in left and not (out / file.name).exists():
                shutil.copyfile(file, out / file.name)
    else:
        (out / "tools.py").write_text(_BUILT_IN.format(name=suite.name), encoding="utf-8")
    content["splits"] = {split: f"{split}.jsonl" for split in splits}
    (out / "suite.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
