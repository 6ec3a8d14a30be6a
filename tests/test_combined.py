"""A box made of boxes."""

from __future__ import annotations

from typing import Any

import pytest

from mentor_gym.tools.base import ToolBox
from mentor_gym.tools.calendar import CalendarBox
from mentor_gym.tools.combined import CombinedBox
from mentor_gym.tools.files import FilesBox
from mentor_gym.tools.sql import SqlBox
from mentor_gym.tools.units import units_box

STATE = {
    "files": {"files": {"a.txt": "one"}},
    "calendar": {"today": "2025-03-12", "people": ["Ana"]},
}


def combined() -> CombinedBox:
    return CombinedBox({"files": FilesBox(), "calendar": CalendarBox(), "units": units_box()})


def opened() -> CombinedBox:
    box = combined()
    box.open(STATE)
    return box


def change(box: CombinedBox, day: str = "2025-03-13") -> None:
    call = {"title": "x", "day": day, "start": "09:00", "end": "10:00", "people": ["Ana"]}
    assert box.tools["write_file"].call({"path": f"{day}.txt", "text": "grüße"}).ok
    assert box.tools["add_appointment"].call(call).ok


def test_it_has_the_tools_of_all_boxes() -> None:
    box = combined()
    names = [name for part in box.boxes.values() for name in part.tools]
    assert list(box.tools) == names
    assert len(names) == 19
    assert box.has_state
    assert not CombinedBox({"units": units_box()}).has_state
    assert CombinedBox({"shop": SqlBox(), "units": units_box()}).versions.keys() == {"shop.sqlite"}


def test_no_two_boxes_may_share_a_name() -> None:
    with pytest.raises(ValueError, match="the boxes 'one' and 'two' both have a tool 'list_files'"):
        CombinedBox({"one": FilesBox(), "two": FilesBox()})


def test_final_states_are_those_of_the_boxes_with_state() -> None:
    box = opened()
    assert box.final_state() == {"files": {}, "calendar": {}}
    change(box)
    assert box.final_state() == {
        "files": {"2025-03-13.txt": "grüße"},
        "calendar": {"removed": [], "added": [["x", "2025-03-13", "09:00", "10:00", ["Ana"]]]},
    }
    assert CombinedBox({"units": units_box()}).final_state() == {}


def test_snapshots_come_back() -> None:
    box = opened()
    assert box.snapshot() == b""
    change(box)
    snapshot = box.snapshot()
    twin = opened()
    twin.restore(snapshot)
    assert twin.snapshot() == snapshot
    assert twin.final_state() == box.final_state()
    change(twin, "2025-03-14")
    assert box.snapshot() == snapshot
    twin.restore(b"")
    assert twin.final_state() == {"files": {}, "calendar": {}}
    # One part alone, its neighbours empty.
    assert box.tools["cancel_appointment"].call({"number": 1}).ok
    twin.restore(box.snapshot())
    assert twin.final_state() == {"files": {"2025-03-13.txt": "grüße"}, "calendar": {}}


@pytest.mark.parametrize(
    "damage",
    [
        b"x",
        b'{"files": 1}\n{',
        b"[]\n",
        b'{"files": -1, "calendar": 1, "units": 0}\n',
        b'{"files": true, "calendar": 0, "units": 0}\nx',
        b'{"files": 0, "calendar": 0, "shop": 0}\n',
    ],
)
def test_strange_snapshots_are_refused(damage: bytes) -> None:
    box = opened()
    with pytest.raises(ValueError, match=r"."):
        box.restore(damage)


def test_a_cut_snapshot_is_refused() -> None:
    box = opened()
    change(box)
    snapshot = box.snapshot()
    for part in (snapshot[:-1], snapshot + b" "):
        with pytest.raises(ValueError, match="cut"):
            opened().restore(part)


class Fragile(ToolBox):
    """A box that notes its life cycle, and fails when told to."""

    def __init__(self, log: list[str], name: str, fails: str = "") -> None:
        super().__init__([])
        self.log = log
        self.name = name
        self.fails = fails

    def open(self, state: dict[str, Any] | None) -> None:
        self._note("open", state)

    def close(self) -> None:
        self._note("close")

    def _note(self, what: str, *more: Any) -> None:
        self.log.append(" ".join(map(str, (what, self.name, *more))))
        if what == self.fails:
            raise RuntimeError(what)


def test_boxes_that_the_state_does_not_name_are_opened_too() -> None:
    log: list[str] = []
    box = CombinedBox({"a": Fragile(log, "a"), "b": Fragile(log, "b")})
    box.open({"b": {"n": 1}})
    box.open(None)
    assert log == ["open a None", "open b {'n': 1}", "open a None", "open b None"]
    with pytest.raises(ValueError, match="names a box 'c'; there are a, b"):
        box.open({"c": {}})


def test_a_box_that_does_not_open_leaves_none_open() -> None:
    log: list[str] = []
    box = CombinedBox({"a": Fragile(log, "a"), "b": Fragile(log, "b", "open"), "c": Fragile(log, "c")})
    with pytest.raises(RuntimeError, match="open"):
        box.open(None)
    assert log == ["open a None", "open b None", "close b", "close a"]


def test_every_box_is_closed_though_one_fails() -> None:
    log: list[str] = []
    box = CombinedBox({"a": Fragile(log, "a"), "b": Fragile(log, "b", "close"), "c": Fragile(log, "c")})
    with pytest.raises(RuntimeError, match="close"):
        box.close()
    assert sorted(log) == ["close a", "close b", "close c"]


def test_states_may_be_written_shortly() -> None:
    box = CombinedBox({"files": FilesBox()}, expand=lambda state: {"files": {"files": {state["name"]: "x"}}})
    box.open({"name": "b.txt"})
    assert box.tools["list_files"].call({}).output == "b.txt"
    box.open(None)
    assert box.tools["list_files"].call({}).output == "there are no files"


@pytest.mark.parametrize(
    "snapshot", [b"[" * 200_000, b'{"next":Infinity,"gone":[],"put":[]}', b"\xff", b'{"next":1e999}', b"NaN"]
)
@pytest.mark.parametrize("make", [FilesBox, CalendarBox, lambda: CombinedBox({"files": FilesBox()})])
def test_hostile_snapshots_are_value_errors(make: Any, snapshot: bytes) -> None:
    box = make()
    box.open(None)
    with pytest.raises(ValueError, match="snapshot"):
        box.restore(snapshot)
