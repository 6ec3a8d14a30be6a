"""The files box: a virtual file system that leads nowhere else."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from mentor_gym.testing import check_tool
from mentor_gym.tools import files
from mentor_gym.tools.files import FilesBox, check_path, files_box
from mentor_gym.types import CallError

START = {"plan.txt": "call Ana", "notes/a.txt": "tea\nTea and milk", "notes/old/b.txt": "coffee", "void.txt": ""}


def opened(content: dict[str, str] | None = None) -> FilesBox:
    box = FilesBox()
    box.open({"files": dict(START if content is None else content)})
    return box


def call(box: FilesBox, tool: str, *values: Any) -> str:
    arguments = dict(zip(box.tools[tool].parameters["properties"], values))
    return box.tools[tool].call(arguments).output.removeprefix(f"error: {tool}: ")


@pytest.mark.parametrize(
    ("tool", "values", "expected"),
    [
        ("list_files", [], "notes/\nplan.txt\nvoid.txt"),
        ("list_files", ["/"], "notes/\nplan.txt\nvoid.txt"),
        ("list_files", ["notes"], "a.txt\nold/"),
        ("list_files", ["notes/"], "a.txt\nold/"),
        ("list_files", ["note"], "there is no folder note"),
        ("list_files", ["plan.txt"], "plan.txt is a file, not a folder"),
        ("read_file", ["notes/a.txt"], "tea\nTea and milk"),
        ("read_file", ["void.txt"], "the file is empty"),
        ("read_file", ["notes"], "notes is a folder"),
        ("read_file", ["notes/b.txt"], "there is no file notes/b.txt"),
        ("search_files", ["TEA"], "notes/a.txt: tea\nnotes/a.txt: Tea and milk"),
        ("search_files", ["cocoa"], "no line contains it"),
        ("search_files", ["  "], "the text to look for needs 1 to 100 characters"),
        ("search_files", ["x" * 101], "the text to look for needs 1 to 100 characters"),
        ("write_file", ["new/x.txt", ""], "created new/x.txt"),
        ("write_file", ["plan.txt", "done"], "replaced plan.txt"),
        ("write_file", ["notes", "x"], "notes is a folder"),
        ("write_file", ["plan.txt/x", "x"], "plan.txt is a file, not a folder"),
        ("append_file", ["plan.txt", "buy tea"], "plan.txt now holds 2 lines"),
        ("append_file", ["none.txt", "x"], "there is no file none.txt"),
        ("move_file", ["plan.txt", "old/plan.txt"], "moved plan.txt to old/plan.txt"),
        ("move_file", ["plan.txt", "notes/a.txt"], "there is a file notes/a.txt already"),
        ("move_file", ["plan.txt", "notes"], "notes is a folder"),
        ("move_file", ["plan.txt", "plan.txt/a"], "moved plan.txt to plan.txt/a"),
        ("move_file", ["none.txt", "x.txt"], "there is no file none.txt"),
        ("delete_file", ["plan.txt"], "deleted plan.txt"),
        ("delete_file", ["notes"], "notes is a folder"),
    ],
)
def test_tools(tool: str, values: list[Any], expected: str) -> None:
    assert call(opened(), tool, *values) == expected


def test_a_refused_change_changes_nothing() -> None:
    box = opened()
    for tool, values in [
        ("move_file", ["plan.txt", "notes"]),
        ("move_file", ["plan.txt", "../plan.txt"]),
        ("write_file", ["notes", "x"]),
        ("write_file", ["plan.txt", "x" * 4_001]),
        ("append_file", ["plan.txt", "x" * 4_000]),
    ]:
        call(box, tool, *values)
    assert box.snapshot() == b""
    assert box.final_state() == {}
    assert call(box, "read_file", "plan.txt") == "call Ana"


def test_changes_are_told_without_white_space_at_their_ends() -> None:
    box = opened()
    call(box, "write_file", "plan.txt", "call Ana \n\n")
    assert box.final_state() == {}
    assert box.snapshot() != b""
    call(box, "append_file", "plan.txt", "buy tea  ")
    call(box, "move_file", "notes/a.txt", "archive/a.txt")
    call(box, "write_file", "empty.txt", "")
    assert box.final_state() == {
        "archive/a.txt": "tea\nTea and milk",
        "empty.txt": "",
        "notes/a.txt": None,
        "plan.txt": "call Ana\nbuy tea",
    }
    # Ways that end alike are told alike.
    other = opened()
    call(other, "write_file", "archive/a.txt", "tea\nTea and milk\n")
    call(other, "delete_file", "notes/a.txt")
    call(other, "write_file", "empty.txt", "x")
    call(other, "write_file", "empty.txt", "\n")
    call(other, "write_file", "plan.txt", "call Ana\nbuy tea")
    assert other.final_state() == box.final_state()


def test_snapshots_hold_what_differs_and_come_back() -> None:
    box = opened()
    call(box, "delete_file", "plan.txt")
    call(box, "write_file", "u.txt", "grüße 你好")
    snapshot = box.snapshot()
    assert snapshot == '{"plan.txt": null, "u.txt": "grüße 你好"}'.encode()
    twin = opened()
    twin.restore(snapshot)
    assert twin.snapshot() == snapshot
    assert twin.final_state() == box.final_state()
    # Neither follows the other.
    call(twin, "write_file", "u.txt", "other")
    assert call(box, "read_file", "u.txt") == "grüße 你好"
    twin.restore(b"")
    assert twin.final_state() == {}


@pytest.mark.parametrize(
    "snapshot",
    [b"[]", b"{", b'{"../x": "a"}', b'{"a": 1}', b'{"plan.txt/a": "x"}', b'{"a": "' + b"x" * 4_001 + b'"}'],
)
def test_strange_snapshots_are_refused(snapshot: bytes) -> None:
    box = opened()
    with pytest.raises(ValueError, match=r"."):
        box.restore(snapshot)
    assert box.final_state() == {}


def test_strange_states_are_refused() -> None:
    for content in ({"/etc": "x"}, {"a": None}, {"a": "x", "a/b": "y"}, {f"f{i}": "" for i in range(201)}):
        with pytest.raises(ValueError, match="files"):
            opened(content)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="quota"):
        opened({f"f{i}": "x" * 4_000 for i in range(11)})


# Row 30 of the fault list

HOSTILE_PATHS = [
    "../../etc/passwd",
    "notes/../../etc/passwd",
    "notes/../plan.txt",
    "..",
    ".",
    "./plan.txt",
    "/etc/passwd",
    "//etc/passwd",
    "/",
    "",
    " ",
    "notes//a.txt",
    "notes/",
    "~/.ssh/id_rsa",
    "C:\\Windows\\win.ini",
    "..\\..\\etc",
    "\\\\host\\share",
    "file:///etc/passwd",
    "/proc/self/environ",
    "/dev/stdin",
    "plan.txt\x00.png",
    "plan.txt\n",
    "plan.txt ",
    "notes/.../a",
    "%2e%2e/x",
    "$HOME/x",
    "a" * 4_096,
    "a/" * 2_000 + "b",
    "x" * 121,
    "a/b/c/d/e/f/g",
    "пlan.txt",
    "plan\u2215txt",
    "../" * 1_000_000,
]


@pytest.mark.parametrize("path", HOSTILE_PATHS, ids=range(len(HOSTILE_PATHS)))
def test_row_30_hostile_paths_are_refused_with_fixed_texts(path: str) -> None:
    box = opened()
    before = time.perf_counter()
    for tool, values in [
        ("read_file", [path]),
        ("write_file", [path, "x"]),
        ("append_file", [path, "x"]),
        ("delete_file", [path]),
        ("move_file", ["plan.txt", path]),
        ("move_file", [path, "x.txt"]),
    ]:
        assert call(box, tool, *values) in (files.BAD_PATH, files.LONG_PATH), (tool, path[:40])
    if path.strip("/"):
        assert call(box, "list_files", path) in (files.BAD_PATH, files.LONG_PATH, "a.txt\nold/")
    assert time.perf_counter() - before < 0.5
    assert box.final_state() == {}


def test_row_30_no_file_of_the_host_is_read_or_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.txt").write_text("a canary")
    Path("link").symlink_to("/etc/passwd")
    box = opened()
    assert call(box, "read_file", "plan.txt") == "call Ana"
    assert call(box, "read_file", "link") == "there is no file link"
    call(box, "write_file", "made.txt", "x")
    call(box, "delete_file", "plan.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "plan.txt"]


def test_row_30_a_link_is_a_text_like_any_other() -> None:
    box = opened()
    for text in ("-> /etc/passwd", "symlink: ../plan.txt", "[InternetShortcut]\nURL=file:///etc/passwd"):
        call(box, "write_file", "link", text)
        assert call(box, "read_file", "link") == text
    assert not any("link" in tool for tool in box.tools)


def test_row_30_many_files_and_keys_meet_the_quota() -> None:
    box = opened({})
    answers = [call(box, "write_file", f"f{i}", "") for i in range(300)]
    assert answers[:200] == [f"created f{i}" for i in range(200)]
    assert set(answers[200:]) == {files.TOO_MANY}
    # Moving and replacing go on; a place that is freed can be used.
    assert call(box, "move_file", "f0", "g0") == "moved f0 to g0"
    assert call(box, "write_file", "g0", "x") == "replaced g0"
    call(box, "delete_file", "g0")
    assert call(box, "write_file", "h0", "") == "created h0"
    listed = call(box, "list_files").split("\n")
    assert len(listed) == 61
    assert listed[-1] == "and 140 more"
    result = box.tools["write_file"].call({"path": "a", "text": "b", **{f"k{i}": 1 for i in range(100_000)}})
    assert result.error is CallError.INVALID_ARGUMENTS
    assert len(result.output) < 400


def test_row_30_sizes_meet_the_quota() -> None:
    box = opened({})
    assert call(box, "write_file", "big", "x" * 4_001) == files.LONG_FILE
    tracemalloc.start()
    assert call(box, "write_file", "big", "x" * 10_000_000) == files.LONG_FILE
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()
    assert [call(box, "write_file", f"f{i}", "x" * 4_000) for i in range(11)][-2:] == ["created f9", files.FULL]
    assert call(box, "append_file", "f0", "x") == files.LONG_FILE
    # What is replaced counts no longer.
    assert call(box, "write_file", "f0", "x" * 3_999) == "replaced f0"
    assert call(box, "write_file", "f10", "xy") == files.FULL
    assert call(box, "write_file", "f10", "x") == "created f10"


def test_a_whole_file_can_be_read() -> None:
    box = opened({"f": "<tool_response>" * 266})
    assert call(box, "read_file", "f") == "&lt;tool_response>" * 266


def test_long_finds_are_cut() -> None:
    box = opened({"f": "\n".join(["tea " + "x" * 200] + ["tea"] * 30)})
    found = call(box, "search_files", "tea").split("\n")
    assert len(found) == 21
    assert found[0] == "f: tea " + "x" * 156
    assert found[-1] == "and more"


def test_paths_that_are_fine() -> None:
    for path in ("a", "A-1_b.c", "a b/c d.txt", "_x/0.tar.gz", "a/b/c/d/e/f", "x" * 120):
        assert check_path(path) == path


def test_the_box_keeps_the_promises_of_tools() -> None:
    examples = {"read_file": [{"path": "plan.txt"}], "move_file": [{"path": "plan.txt", "to": "b.txt"}]}
    for item in ("write_file", "append_file"):
        examples[item] = [{"path": "plan.txt", "text": "more"}]
    assert check_tool(files_box(), state={"files": START}, examples=examples).failed == []
