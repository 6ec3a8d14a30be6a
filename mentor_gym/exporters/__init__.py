"""Exporters: teacher traces of any suite, for trainers of others.

A format is one module with a function `write(chats, out) -> list[Path]` and one line in `FORMATS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mentor_gym.curation import read_source
from mentor_gym.exporters.chat import chat_row
from mentor_gym.names import nearest

FORMATS = {
    "openai": "mentor_gym.exporters.openai",
    "hf": "mentor_gym.exporters.huggingface",
}


@dataclass(frozen=True)
class Exported:
    """What an export has written.

    Attributes:
        files: The files.
        rows: Number of rows by split.
        without_teacher: How many tasks were left out because they have no teacher.
    """

    files: list[Path]
    rows: dict[str, int]
    without_teacher: int


def export_file(
    format: str,
    source: str | Path,
    out: str | Path,
    splits: Sequence[str] | None = None,
    limit: int | None = None,
    evaluation_data: bool = False,
) -> Exported:
    """Write the teacher traces of a suite or a file of task rows in another format.

    Args:
        format: One of `FORMATS`; its module says what is written.
        source: A suite's name, a `suite.yaml`, or a `.jsonl` file of task rows.
        out: What to write: for `openai` a `.jsonl` file for one split, else a folder; must not exist, or be an
            empty folder.
        splits: Which splits; None takes all.
        limit: How many rows of each split to take, the first ones with a teacher; None takes all.
        evaluation_data: Write a benchmark's tasks too. No format has a mark for them: keep them from training.

    Raises:
        DataError: The source is broken, or a tool has no schema.
        ValueError: Another argument is wrong, `out` exists, no task has a teacher, or the tasks are for evaluation
            only.
        ModuleNotFoundError: The format needs an extra that is not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     export_file("openai", "math", Path(home, "valid.jsonl"), ["valid"]).rows
    {'valid': 300}
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; known: {', '.join(FORMATS)}{nearest(format, FORMATS)}")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError(f"limit must be a whole number of at least 1 or None, got {limit!r}")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists already; nothing is overwritten")
    found = read_source(source, splits)
    found.refuse_evaluation(evaluation_data)
    chats = {}
    without = 0
    for split, tasks in found.tasks.items():
        taught = [task for task in tasks if task.teacher]
        without += len(tasks) - len(taught)
        if taught:
            chats[split] = [chat_row(found, task) for task in taught[:limit]]
    if not chats:
        raise ValueError(f"{source}: no task has a teacher")
    files = importlib.import_module(FORMATS[format]).write(chats, out)
    return Exported(files, {split: len(rows) for split, rows in chats.items()}, without)


__all__ = ["FORMATS", "Exported", "chat_row", "export_file"]
