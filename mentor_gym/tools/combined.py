"""A box made of boxes, for suites whose tasks use the tools of several."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from mentor_gym.tools.base import ToolBox, decode_snapshot

Expand = Callable[[dict[str, Any]], Mapping[str, dict[str, Any] | None]]


class CombinedBox(ToolBox):
    """The tools of several boxes as one box.

    A task's state is `{name of a box: its state}`; a box that it does not name is opened with None. Snapshots and
    final states are those of the boxes, by name.

    Args:
        boxes: The boxes by name; no two may have a tool of the same name. They belong to this box alone.
        expand: Makes the state described above from a task's state, for suites whose rows say it more shortly.
            What it returns is shared between episodes, when it keeps it, so no box may change it.

    Raises:
        ValueError: Two boxes have a tool of the same name.

    >>> from mentor_gym.tools.calendar import CalendarBox
    >>> from mentor_gym.tools.files import FilesBox
    >>> box = CombinedBox({"files": FilesBox(), "calendar": CalendarBox()})
    >>> box.open({"files": {"files": {"plan.txt": "call Ana"}}})
    >>> box.tools["delete_file"].call({"path": "plan.txt"}).output
    'deleted plan.txt'
    >>> box.final_state()
    {'files': {'plan.txt': None}, 'calendar': {}}
    """

    def __init__(self, boxes: Mapping[str, ToolBox], expand: Expand | None = None) -> None:
        self.boxes = dict(boxes)
        self._expand = expand
        owners: dict[str, str] = {}
        for name, box in self.boxes.items():
            for tool in box.tools:
                if tool in owners:
                    raise ValueError(f"the boxes {owners[tool]!r} and {name!r} both have a tool {tool!r}")
                owners[tool] = name
        self._owners = owners
        super().__init__(tool for box in self.boxes.values() for tool in box.tools.values())

    @property
    def has_state(self) -> bool:
        """Whether one of the boxes has state."""
        return any(box.has_state for box in self.boxes.values())

    def is_read_only(self, name: str) -> bool:
        """Whether a call of a tool changes nothing that a later call could show; its own box decides.

        Raises:
            KeyError: There is no tool of that name.
        """
        return self.boxes[self._owners[name]].is_read_only(name)

    @property
    def versions(self) -> dict[str, str]:
        """The versions that the boxes depend on, each with the name of its box."""
        return {
            f"{name}.{library}": version
            for name, box in self.boxes.items()
            for library, version in box.versions.items()
        }

    def open(self, state: dict[str, Any] | None) -> None:
        """Open every box with its part of a task's state.

        Raises:
            ValueError: The state names a box that is not there, or a box refuses its part; then none is open.
        """
        parts = {} if state is None else state if self._expand is None else self._expand(state)
        unknown = [name for name in parts if name not in self.boxes]
        if unknown:
            raise ValueError(f"the state names a box {unknown[0]!r}; there are {', '.join(self.boxes)}")
        with ExitStack() as stack:
            for name, box in self.boxes.items():
                stack.callback(box.close)
                box.open(parts.get(name))
            stack.pop_all()

    def snapshot(self) -> bytes:
        """Return the snapshots of all boxes: a line of JSON with the length of each, and then they themselves."""
        parts = {name: box.snapshot() for name, box in self.boxes.items()}
        if not any(parts.values()):
            return b""
        header = json.dumps({name: len(part) for name, part in parts.items()})
        return b"".join((header.encode(), b"\n", *parts.values()))

    def restore(self, snapshot: bytes) -> None:
        """Restore every box.

        Raises:
            ValueError: The snapshot is not of these boxes, or a box refuses its own.
        """
        lengths = dict.fromkeys(self.boxes, 0)
        content = b""
        if snapshot:
            header, _, content = snapshot.partition(b"\n")
            found = decode_snapshot(header)
            if not isinstance(found, dict) or list(found) != list(lengths):
                raise ValueError("the snapshot is not of these boxes")
            lengths = found
            if not all(type(length) is int and length >= 0 for length in lengths.values()):
                raise ValueError("the snapshot is not of these boxes")
        if sum(lengths.values()) != len(content):
            raise ValueError("the snapshot is cut")
        start = 0
        for name, box in self.boxes.items():
            end = start + lengths[name]
            box.restore(content[start:end])
            start = end

    def final_state(self) -> dict[str, Any]:
        """Return the final states of the boxes that have one, by name."""
        states = {name: box.final_state() for name, box in self.boxes.items()}
        return {name: state for name, state in states.items() if state is not None}

    def close(self) -> None:
        """Close every box, also when one of them fails to. May be called twice."""
        with ExitStack() as stack:
            for box in self.boxes.values():
                stack.callback(box.close)
