"""What importers share: what is asked of them, what they report, and how a suite folder is written and played."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mentor_gym.data import DataError, write_tasks
from mentor_gym.env import MentorToolEnv
from mentor_gym.importers.files import kind_of, rows
from mentor_gym.protocol import render_message
from mentor_gym.suites.base import Suite, load_yaml_suite
from mentor_gym.types import Task, Transcript

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# Called with what is done and how much there is to do.
Progress = Callable[[int, int], None]
T = TypeVar("T")


class Unusable(Exception):
    """A row that is well formed, but is no task: nothing to grade, for example. It is left out and reported."""


@dataclass(frozen=True)
class Request:
    """What is to be imported.

    Attributes:
        sources: Split name to file, the default split first.
        folder: Where the suite is written.
        name: Name of the suite.
        limit: How many rows of each file to take; None takes all.
        seed: Draws the rows of `limit`; None takes the first ones.
        skip_broken: Whether to leave out and report a broken row instead of refusing the file.
        progress: Told how many rows have been played, and of how many.
    """

    sources: Mapping[str, Path]
    folder: Path
    name: str
    limit: int | None = None
    seed: int | None = None
    skip_broken: bool = False
    progress: Progress | None = None


@dataclass(frozen=True)
class Imported:
    """What an import has written.

    Attributes:
        suite: Path of the `suite.yaml`.
        rows: Number of task rows by split.
        teachers: Number of rows with a teacher.
        longest: Assistant turns of the longest teacher; an environment with a smaller `max_turns` cuts it off.
        documents: Number of documents in the corpus; None for a suite without one.
        dropped: One line per row that was left out: file, line and why.
        notes: What else the user should know.
    """

    suite: Path
    rows: dict[str, int]
    teachers: int
    longest: int
    documents: int | None = None
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Draft:
    """A task and the row that it was made of.

    Attributes:
        where: File and line of the row.
        task: The task.
    """

    where: str
    task: Task


@dataclass
class Drafts:
    """The tasks of an import by split, and what was left out.

    Attributes:
        splits: The drafts of each split.
        dropped: One line per row that was left out.
    """

    splits: dict[str, list[Draft]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)


def convert_rows(request: Request, convert: Callable[[str, Any, str, str], Task]) -> Drafts:
    """Read the rows of a request and make tasks of them.

    Args:
        request: What is to be imported.
        convert: Makes a task of a row's place, the row, the task's id and its split.

    Raises:
        DataError: A file or row is broken.
    """
    drafts = Drafts()
    for split, path in request.sources.items():
        found = drafts.splits[split] = []
        seen: dict[str, str] = {}
        for number, (where, row) in enumerate(_chosen(request, path, drafts.dropped)):
            try:
                if not isinstance(row, dict):
                    raise DataError(f"{where}: expected an object, got {kind_of(row)}")
                try:
                    task = convert(where, row, f"{request.name}-{split}-{number:06d}", split)
                except RecursionError:
                    raise DataError(f"{where}: nested too deeply") from None
                source_id = task.meta.get("source_id")
                if source_id is not None and seen.setdefault(source_id, where) != where:
                    raise DataError(f'{where}: field "id": {source_id!r} stands twice, first in {seen[source_id]}')
            except DataError as error:
                if not request.skip_broken:
                    raise
                drafts.dropped.append(str(error))
            except Unusable as reason:
                drafts.dropped.append(f"{where}: {reason}")
            else:
                found.append(Draft(where, task))
    _refuse_empty(drafts)
    return drafts


def _chosen(request: Request, path: Path, dropped: list[str]) -> Iterator[tuple[str, Any]]:
    on_error = (lambda error: dropped.append(str(error))) if request.skip_broken else None
    found = rows(path, on_error)
    if request.limit is None or request.seed is None:
        empty = True
        for number, item in enumerate(found, start=1):
            empty = False
            yield item
            if number == request.limit:
                return
        if empty and not dropped:
            raise DataError(f"{path}: holds no rows")
        return
    everything = list(found)
    if not everything and not dropped:
        raise DataError(f"{path}: holds no rows")
    positions = range(len(everything))
    drawn = random.Random(request.seed).sample(positions, min(request.limit, len(everything)))
    for position in sorted(drawn):
        yield everything[position]


def _refuse_empty(drafts: Drafts) -> None:
    for split, found in drafts.splits.items():
        if not found:
            example = f", for example {drafts.dropped[0]}" if drafts.dropped else ""
            raise DataError(f"split {split!r}: no row became a task{example}")


def finish(
    request: Request, drafts: Drafts, description: str, files: Mapping[str, bytes], notes: Sequence[str] = ()
) -> Imported:
    """Play every teacher with the suite's own tools, leave out those that fail, and write the suite folder.

    What the tools answered in the play stands in the teachers afterwards: a long result is cut there as it will be
    in an episode.

    Raises:
        DataError: No row of a split is left.
    """
    request.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=request.folder.parent) as home:
        draft = Path(home, "suite")
        suite = load_yaml_suite(str(write_suite(draft, request.name, description, files, _tasks(drafts))))
        total = sum(len(found) for found in drafts.splits.values())
        played = 0
        for split, found in drafts.splits.items():
            kept = []
            for item, transcript in zip(found, play_teachers(suite, split)):
                played += 1
                if request.progress is not None:
                    request.progress(played, total)
                problem = None if transcript is None else _problem(transcript)
                if problem is not None:
                    drafts.dropped.append(f"{item.where}: {problem}")
                    continue
                if transcript is not None:
                    _take_results(item.task, transcript)
                kept.append(item)
            found[:] = kept
        _refuse_empty(drafts)
        tasks = _tasks(drafts)
        path = write_suite(request.folder, request.name, description, files, tasks)
    return Imported(
        suite=path,
        rows={split: len(found) for split, found in tasks.items()},
        teachers=sum(bool(task.teacher) for found in tasks.values() for task in found),
        longest=longest_teacher(tasks),
        dropped=tuple(drafts.dropped),
        notes=tuple(notes),
    )


def _tasks(drafts: Drafts) -> dict[str, list[Task]]:
    return {split: [item.task for item in found] for split, found in drafts.splits.items()}


def longest_teacher(tasks: Mapping[str, Sequence[Task]]) -> int:
    """Return the assistant turns of the longest teacher.

    >>> longest_teacher({"train": []})
    0
    """
    return max((len(_turns(task)) for found in tasks.values() for task in found), default=0)


def _turns(task: Task) -> list[dict[str, Any]]:
    return [message for message in task.teacher if message["role"] == "assistant"]


def play_teachers(suite: Suite, split: str) -> Iterator[Transcript | None]:
    """Play the teacher of each task of a split; yields None for a task without one."""
    tasks = suite.tasks(split)
    env = MentorToolEnv(suite, split, max_turns=max(1, longest_teacher({split: list(tasks)})))
    try:
        for task in tasks:
            if not task.teacher:
                yield None
                continue
            env.reset(options={"task_id": task.id})
            for message in _turns(task):
                if env.transcript.stop_reason is None:
                    env.step(render_message(message))
            yield env.transcript
    finally:
        env.close()


def _problem(transcript: Transcript) -> str | None:
    for call, result in transcript.calls():
        if not result.ok:
            return f"the teacher's call of {call.name} fails: {' '.join(result.output.split())}"
    if transcript.is_success and len(transcript.turns) == len(_turns(transcript.task)):
        return None
    return f"the teacher's turns do not succeed (they end: {transcript.stop_reason or 'without an answer'})"


def _take_results(task: Task, transcript: Transcript) -> None:
    messages = [message for message in task.teacher if message["role"] == "tool"]
    for message, (_, result) in zip(messages, transcript.calls()):
        message["content"] = result.output


def write_suite(
    folder: Path, name: str, description: str, files: Mapping[str, bytes], tasks: Mapping[str, Sequence[Task]]
) -> Path:
    """Write a suite folder and return the path of its `suite.yaml`.

    Args:
        folder: Made if need be; files of these names in it are replaced.
        name: Name of the suite.
        description: One line for listings.
        files: Name to content; `tools.py` must be one of them.
        tasks: The tasks of each split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    for split, found in tasks.items():
        write_tasks(folder / f"{split}.jsonl", found)
    listing = {
        "name": name,
        "description": description,
        "tools": "tools.py",
        "splits": {split: f"{split}.jsonl" for split in tasks},
    }
    suite = folder / "suite.yaml"
    suite.write_text(yaml.safe_dump(listing, sort_keys=False), encoding="utf-8")
    return suite
