"""The files box: a small virtual file system, in memory.

Nothing of it touches the host's files. Paths are made of plain names below one top folder: there is no current
folder, no parent, no link, and a folder exists as long as there is a file in it. Sizes are counted in characters
and bounded, a file's and those of all files together.
"""

from __future__ import annotations

import json
import re
from typing import Any

from mentor_gym.tools.base import Tool, ToolBox, ToolError, decode_snapshot

MAX_FILES = 200
MAX_FILE_CHARS = 4_000
QUOTA_CHARS = 40_000
MAX_PATH_CHARS = 120
MAX_PARTS = 6
MAX_LISTED = 60
MAX_FOUND = 20
_MAX_SEARCH_CHARS = 100
_MAX_LINE_CHARS = 160
# A file is bounded by itself; what a marker of the protocol adds to it is not cut off.
_MAX_OUTPUT_CHARS = 2 * MAX_FILE_CHARS
# ASCII alone, so that no two different names look the same.
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_. -]*[A-Za-z0-9_-])?")

BAD_PATH = (
    "not a path here: write names of letters, digits, spaces, points, hyphens and underscores, with / between "
    "them and none at the beginning, like notes/plan.txt"
)
LONG_PATH = f"the path is too long: at most {MAX_PATH_CHARS} characters and {MAX_PARTS} names"
LONG_FILE = f"the text is too long: a file may hold {MAX_FILE_CHARS} characters"
FULL = f"the quota is used up: all files together may hold {QUOTA_CHARS} characters"
TOO_MANY = f"the quota is used up: there may be {MAX_FILES} files"


def check_path(path: str) -> str:
    """Return a path as it is; one that is no path below the top folder is a `ToolError` with a fixed text.

    >>> check_path("notes/plan.txt")
    'notes/plan.txt'
    """
    if len(path) > MAX_PATH_CHARS:
        raise ToolError(LONG_PATH)
    parts = path.split("/")
    if not all(map(_PART.fullmatch, parts)):
        raise ToolError(BAD_PATH)
    if len(parts) > MAX_PARTS:
        raise ToolError(LONG_PATH)
    return path


class FilesBox(ToolBox):
    r"""A small virtual file system: list, read, search, write, append, move and delete.

    A task's state is `{"files": {path: text}}`. `snapshot` holds the files that differ from it.

    >>> box = FilesBox()
    >>> box.open({"files": {"notes/plan.txt": "call Ana"}})
    >>> box.tools["append_file"].call({"path": "notes/plan.txt", "text": "buy tea"}).output
    'notes/plan.txt now holds 2 lines'
    >>> print(box.tools["read_file"].call({"path": "notes/plan.txt"}).output)
    call Ana
    buy tea
    >>> box.final_state()
    {'notes/plan.txt': 'call Ana\nbuy tea'}
    """

    def __init__(self) -> None:
        self._start: dict[str, str] = {}
        self._files: dict[str, str] = {}
        reading = (self.list_files, self.read_file, self.search_files)
        changing = (self.write_file, self.append_file, self.move_file, self.delete_file)
        super().__init__(
            _long(Tool.from_function(function, read_only=function in reading))
            for function in (*reading, *changing)
        )

    def list_files(self, folder: str = "") -> str:
        """Names of the files and folders in a folder. A folder ends in a slash.

        Args:
            folder: The folder; empty for the top one.
        """
        prefix = ""
        if folder.strip("/"):
            prefix = check_path(folder.removesuffix("/")) + "/"
        rest = (path[len(prefix) :] for path in self._files if path.startswith(prefix))
        names = sorted({name + slash for name, slash, _ in (item.partition("/") for item in rest)})
        if not names:
            if prefix:
                raise ToolError(_missing(prefix[:-1], self._files, "folder"))
            return "there are no files"
        left = len(names) - MAX_LISTED
        return "\n".join([*names[:MAX_LISTED], *([f"and {left} more"] if left > 0 else [])])

    def read_file(self, path: str) -> str:
        """Text of a file.

        Args:
            path: Where it is, like notes/plan.txt.
        """
        return self._text(path) or "the file is empty"

    def search_files(self, text: str) -> str:
        """Lines of all files that contain a text, in capitals or not. Each with the path of its file.

        Args:
            text: What to look for, word for word.
        """
        wanted = text.strip().casefold()
        if not wanted or len(wanted) > _MAX_SEARCH_CHARS:
            raise ToolError(f"the text to look for needs 1 to {_MAX_SEARCH_CHARS} characters")
        found: list[str] = []
        for path in sorted(self._files):
            if wanted not in self._files[path].casefold():
                continue
            for line in self._files[path].split("\n"):
                if wanted in line.casefold():
                    found.append(f"{path}: {line[:_MAX_LINE_CHARS]}")
                    if len(found) > MAX_FOUND:
                        return "\n".join([*found[:MAX_FOUND], "and more"])
        return "\n".join(found) or "no line contains it"

    def write_file(self, path: str, text: str) -> str:
        """Create a file, or replace the text of one.

        Args:
            path: Where, like plans/trip.txt; folders need not exist.
            text: All of its text.
        """
        is_new = check_path(path) not in self._files
        if is_new:
            self._check_place(path)
        self._put(path, text)
        return f"{'created' if is_new else 'replaced'} {path}"

    def append_file(self, path: str, text: str) -> str:
        """Add a text below what a file holds.

        Args:
            path: An existing file.
            text: What to add.
        """
        before = self._text(path)
        separator = "\n" if before and not before.endswith("\n") else ""
        self._put(path, before + separator + text)
        lines = len(self._files[path].splitlines())
        return f"{path} now holds {lines} line{'' if lines == 1 else 's'}"

    def move_file(self, path: str, to: str) -> str:
        """Move or rename a file.

        Args:
            path: The file.
            to: Its new path, with its name, like archive/plan.txt.
        """
        text = self._text(path)
        if check_path(to) in self._files:
            raise ToolError(f"there is a file {to} already")
        del self._files[path]
        try:
            self._check_place(to)
        except ToolError:
            self._files[path] = text
            raise
        self._files[to] = text
        return f"moved {path} to {to}"

    def delete_file(self, path: str) -> str:
        """Delete a file.

        Args:
            path: The file.
        """
        self._text(path)
        del self._files[path]
        return f"deleted {path}"

    def open(self, state: dict[str, Any] | None) -> None:
        """Set the files to those of a task.

        Raises:
            ValueError: They are not files that the tools could have written.
        """
        self._start = dict((state or {}).get("files", {}))
        _check_files(self._start)
        self._files = dict(self._start)

    def snapshot(self) -> bytes:
        """Return the files that differ from the task's as JSON, null for those that are gone; nothing for none."""
        changed = self._changed()
        return json.dumps(changed, ensure_ascii=False, sort_keys=True).encode() if changed else b""

    def restore(self, snapshot: bytes) -> None:
        """Change the task's own files as a snapshot says.

        Raises:
            ValueError: The snapshot is not one of this box.
        """
        changed = decode_snapshot(snapshot) if snapshot else {}
        if not isinstance(changed, dict):
            raise ValueError("a snapshot of the files box is an object")
        files = {**self._start, **changed}
        kept = {path: text for path, text in files.items() if text is not None}
        _check_files(kept)
        self._files = kept

    def final_state(self) -> dict[str, str | None]:
        """Return the files that differ from the task's: path to text, or to null when it is gone.

        Blank lines and white space at the ends of lines are left out: they are no difference.
        """
        return {
            path: None if text is None else _trim(text)
            for path, text in self._changed().items()
            if text is None or path not in self._start or _trim(text) != _trim(self._start[path])
        }

    def close(self) -> None:
        """Forget the files. May be called twice."""
        self._start = {}
        self._files = {}

    def _changed(self) -> dict[str, str | None]:
        if self._files == self._start:
            return {}
        paths = sorted({*self._files, *self._start})
        return {path: self._files.get(path) for path in paths if self._files.get(path) != self._start.get(path)}

    def _text(self, path: str) -> str:
        found = self._files.get(check_path(path))
        if found is None:
            raise ToolError(_missing(path, self._files, "file"))
        return found

    def _check_place(self, path: str) -> None:
        """Refuse a path for a new file that is a folder, or lies below a file."""
        for other in self._files:
            if other.startswith(f"{path}/"):
                raise ToolError(f"{path} is a folder")
            if path.startswith(f"{other}/"):
                raise ToolError(f"{other} is a file, not a folder")

    def _put(self, path: str, text: str) -> None:
        if len(text) > MAX_FILE_CHARS:
            raise ToolError(LONG_FILE)
        others = sum(map(len, self._files.values())) - len(self._files.get(path, ""))
        if others + len(text) > QUOTA_CHARS:
            raise ToolError(FULL)
        if path not in self._files and len(self._files) >= MAX_FILES:
            raise ToolError(TOO_MANY)
        self._files[path] = text


def _missing(path: str, files: dict[str, str], what: str) -> str:
    if what == "file" and any(other.startswith(f"{path}/") for other in files):
        return f"{path} is a folder"
    if what == "folder" and path in files:
        return f"{path} is a file, not a folder"
    return f"there is no {what} {path}"


def _long(tool: Tool) -> Tool:
    return Tool(
        tool.function, tool.name, tool.description, tool.parameters, _MAX_OUTPUT_CHARS, read_only=tool.read_only
    )


def _trim(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def _check_files(files: dict[str, Any]) -> None:
    if len(files) > MAX_FILES:
        raise ValueError(TOO_MANY)
    total = 0
    for path, text in files.items():
        if not isinstance(text, str) or len(text) > MAX_FILE_CHARS:
            raise ValueError(f"files: expected texts of at most {MAX_FILE_CHARS} characters")
        try:
            check_path(path)
        except ToolError as error:
            raise ValueError(f"files: {path[:MAX_PATH_CHARS]!r}: {error}") from None
        total += len(text)
    if total > QUOTA_CHARS:
        raise ValueError(FULL)
    folders = {path[:end] for path in files for end in range(len(path)) if path[end] == "/"}
    both = folders & files.keys()
    if both:
        raise ValueError(f"files: {min(both)!r} is a file and a folder")


def files_box() -> FilesBox:
    """Build a files box, for a suite of one's own.

    >>> list(files_box().tools)
    ['list_files', 'read_file', 'search_files', 'write_file', 'append_file', 'move_file', 'delete_file']
    """
    return FilesBox()
