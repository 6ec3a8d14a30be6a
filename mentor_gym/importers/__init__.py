"""Importers: published data sets, from a user's own files, into suites.

A format is one module with a function `convert(request, **options) -> Imported` and one line in `FORMATS`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mentor_gym.importers.base import NAME, Imported, Progress, Request
from mentor_gym.importers.qa import import_qa
from mentor_gym.names import nearest

FORMATS = {
    "mentor": "mentor_gym.importers.mentor",
    "xlam": "mentor_gym.importers.xlam",
    "toolace": "mentor_gym.importers.toolace",
    "hermes": "mentor_gym.importers.hermes",
    "openai": "mentor_gym.importers.openai",
    "qa": "mentor_gym.importers.qa",
}


def import_file(
    format: str,
    source: str | Path | Mapping[str, str | Path],
    folder: str | Path,
    *,
    name: str | None = None,
    split: str = "train",
    limit: int | None = None,
    seed: int | None = None,
    skip_broken: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Imported:
    r"""Write a suite folder from a file in a published format; its `suite.yaml` is then a suite for `gym.make`.

    Every teacher is played with the suite's own tools; a row whose teacher does not succeed is left out, and
    `Imported.dropped` says why. So `mentor-gym data validate` finds nothing in what was written.

    Args:
        format: One of `FORMATS`; its module says what is read.
        source: The file, or a mapping of split names to files.
        folder: Where to write; must not exist, or be empty.
        name: Name of the suite; None takes the folder's.
        split: Split of a single file.
        limit: How many rows of each file to take; None takes all.
        seed: Draws the rows of `limit`; None takes the first ones.
        skip_broken: Leave out and report a row that is not of the format, instead of refusing the file.
        progress: Told how many rows have been played, and of how many.
        options: Of the format; see its `convert`.

    Raises:
        DataError: A file or row cannot be used; names file, line and field. Nothing was written then.
        ValueError: Another argument is wrong, or the folder is not empty.
        ModuleNotFoundError: The format needs an extra that is not installed.

    >>> import json, tempfile
    >>> row = {"id": 1, "query": "Weather in Oslo?",
    ...        "tools": json.dumps([{"name": "weather", "parameters": {"city": {"type": "str"}}}]),
    ...        "answers": json.dumps([{"name": "weather", "arguments": {"city": "Oslo"}}])}
    >>> with tempfile.TemporaryDirectory() as home:
    ...     _ = Path(home, "calls.json").write_text(json.dumps([row]))
    ...     done = import_file("xlam", Path(home, "calls.json"), Path(home, "calls"))
    >>> done.rows, done.teachers, done.longest, done.dropped
    ({'train': 1}, 1, 2, ())
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; known: {', '.join(FORMATS)}{nearest(format, FORMATS)}")
    sources = source if isinstance(source, Mapping) else {split: source}
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; nothing is overwritten")
    name = folder.resolve().name if name is None else name
    if not sources:
        raise ValueError("source needs at least one split: {'train': 'file.json'}")
    for each in (name, *sources):
        if not isinstance(each, str) or not NAME.fullmatch(each):
            raise ValueError(f"a name of letters, digits, - and _ is needed, got {each!r}")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError(f"limit must be a whole number of at least 1 or None, got {limit!r}")
    if seed is not None and limit is None:
        raise ValueError("seed draws the rows of limit; without a limit all are taken")
    convert = importlib.import_module(FORMATS[format]).convert
    known = list(inspect.signature(convert).parameters)[1:]
    for option in options:
        if option not in known:
            expected = ", ".join(known) or "none"
            raise ValueError(f"format {format!r} has no option {option!r}; there are: {expected}")
    paths = {each: Path(path) for each, path in sources.items()}
    request = Request(paths, folder, name, limit, seed, skip_broken, progress)
    imported: Imported = convert(request, **options)
    return imported


__all__ = ["FORMATS", "Imported", "import_file", "import_qa"]
