"""A till with state: what was scanned stays until the episode ends."""

from __future__ import annotations

import json
from typing import Any

from mentor_gym.tools import Tool, ToolBox, ToolError


class Till(ToolBox):
    """The items scanned so far, at the prices of the task."""

    def __init__(self) -> None:
        self.prices: dict[str, float] = {}
        self.scanned: list[str] = []
        self.is_open = False
        super().__init__(
            Tool.from_function(function, timeout=5) for function in (self.scan, self.undo, self.total)
        )

    def scan(self, item: str) -> str:
        """Scan one item.

        Args:
            item: Its name.
        """
        if item not in self.prices:
            raise ToolError(f"no item {item!r}; there are {', '.join(self.prices)}")
        self.scanned.append(item)
        return f"{len(self.scanned)} scanned"

    def undo(self) -> str:
        """Take back the last item."""
        if not self.scanned:
            raise ToolError("nothing was scanned")
        return f"took back {self.scanned.pop()}"

    def total(self) -> float:
        """Price of all that was scanned."""
        return round(sum(self.prices[item] for item in self.scanned), 2)

    def open(self, state: dict[str, Any] | None) -> None:
        self.prices = dict((state or {}).get("prices", {}))
        self.scanned = []
        self.is_open = True

    def snapshot(self) -> bytes:
        return json.dumps([self.prices, self.scanned]).encode()

    def restore(self, snapshot: bytes) -> None:
        self.prices, self.scanned = json.loads(snapshot)

    def close(self) -> None:
        self.scanned = []
        self.is_open = False


make_box = Till
