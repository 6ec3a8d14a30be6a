"""Task files: every broken row is refused with its line and field; the manifest notices every change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import row, teacher, write_suite

from mentor_gym import data
from mentor_gym.data import DataError
from mentor_gym.suites import SUITES, load_suite
from mentor_gym.suites.base import Suite, load_yaml_suite
from mentor_gym.tools.math import math_box

GOOD = row("good")


def load(tmp_path: Path, rows: list[Any]) -> list[Any]:
    """Load rows after a good first one, as dicts or as raw lines."""
    path = write_suite(tmp_path, [])
    lines = [item if isinstance(item, str) else json.dumps(item) for item in [GOOD, *rows]]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    return list(load_yaml_suite(path).tasks("train").ids)


def without(field: str) -> dict[str, Any]:
    """Return a row that lacks a field."""
    return {key: value for key, value in row("bad").items() if key != field}


def with_teacher(message: Any) -> dict[str, Any]:
    """Return a row whose teacher is this one message."""
    return row("bad", teacher=[message])


def test_good_rows_load_in_order_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    assert load(tmp_path, ["", row("b"), "   ", row("c")]) == ["good", "b", "c"]


@pytest.mark.parametrize("field", [key for key in GOOD if key != "meta"])
def test_missing_fields_are_named(tmp_path: Path, field: str) -> None:
    with pytest.raises(DataError, match=rf'train\.jsonl, line 2: field "{field}" is missing'):
        load(tmp_path, [without(field)])


def called(arguments: str) -> dict[str, Any]:
    """Return a teacher's message with one call."""
    return {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": arguments}}]}


CALL = {"function": {"name": "add", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{", "not a task row"),
        ("[]", "not a task row"),
        ('{"id": "\\ud800"}', "not a task row"),
        (row("bad", colour=1), 'field "colour" is unknown; known fields: id, suite'),
        (row("bad", prompt=3), 'field "prompt": expected str, got int'),
        (row("bad", id=None), 'field "id"'),
        (row("bad", state=[]), 'field "state"'),
        (row("good"), "'good' stands twice"),
        (row("bad", suite="math"), "field \"suite\": expected 'shop', got 'math'"),
        (row("bad", split="test"), "field \"split\": expected 'train', got 'test'"),
        (row("bad", tools=["subtract"]), "no tool 'subtract'; it has power, multiply"),
        (row("bad", tools=[{"name": "add"}]), "function.name"),
        (row("bad", tools=[{"function": {"name": "add", "parameters": []}}]), "function.parameters"),
        (row("bad", tools=[3]), 'field "tools[0]"'),
        (row("bad", grader={"kind": "numbr"}), "grader.kind"),
        (row("bad", grader={"kind": "set", "separator": ""}), "grader.separator"),
        (row("bad", answer="eighteen"), "'eighteen' is no answer to a number grader"),
        (row("bad", answer=""), 'field "answer"'),
        (with_teacher({"role": "user", "content": "x"}), 'field "teacher[0]": expected role'),
        (
            row("bad", meta={"teacher_tools": "add"}),
            "field \"meta.teacher_tools\": expected a list of names, got 'add'",
        ),
        (row("bad", meta={"teacher_tools": None}), 'field "meta.teacher_tools": expected a list of names'),
        (with_teacher({"role": "tool", "content": None}), "a tool message needs text"),
        (with_teacher({"role": "assistant", "content": None}), "tool_calls or text"),
        (with_teacher({"role": "assistant", "content": [1], "tool_calls": [CALL]}), "tool_calls or text"),
        (with_teacher({"role": "assistant", "tool_calls": {"a": 1}}), "must be a list"),
        (with_teacher({"role": "assistant", "tool_calls": [{"name": "add"}]}), "function.name"),
        (with_teacher({"role": "assistant", "tool_calls": ["add"]}), "function.name"),
        (
            with_teacher({"role": "assistant", "tool_calls": [{"function": {"name": [], "arguments": {}}}]}),
            "the teacher calls []",
        ),
        (
            with_teacher({"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": "{"}}]}),
            "function.arguments",
        ),
        (
            with_teacher({"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": "[]"}}]}),
            "must be a JSON object",
        ),
        (
            with_teacher(called('{"base": 2, "base": 3, "exponent": 4}')),
            'field "teacher[0]": function.arguments: the key "base" stands twice in one object',
        ),
        (with_teacher(called('{"a": {"b": 1, "b": 2}}')), 'the key "b" stands twice in one object'),
        pytest.param(
            with_teacher(called('{"a": ' + "[" * 100_000)),
            "function.arguments as JSON (RecursionError)",
            id="deep",
        ),
        (row("bad", tools=["add"]), "the teacher calls 'power', which the row does not offer"),
    ],
)
def test_broken_rows_name_line_and_field(tmp_path: Path, bad: Any, words: str) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, [bad])
    message = str(caught.value)
    assert "train.jsonl, line 2" in message
    assert words in message
    assert "\n" not in message


def test_files_that_are_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl: cannot be read"):
        data.load_tasks(tmp_path / "nowhere.jsonl", "shop", "train", {})
    with pytest.raises(DataError, match="holds no task rows"):
        load_yaml_suite(write_suite(tmp_path, [])).tasks("train")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name: shop\ntools: [", "suite.yaml, line 2: not YAML"),
        ("- 1", "expected the keys name, tools, splits"),
        ("name: shop\ntools: tools.py\nsplits: {}", 'field "splits"'),
        ("tools: tools.py\nsplits: {train: train.jsonl}", 'field "name"'),
        ("name: shop\ntool: tools.py", 'suite.yaml, line 2: field "tool" is unknown'),
        ("name: shop\ntools: 3", 'suite.yaml, line 2: field "tools": expected a text'),
        ("name: shop\ntools: tools.py\nname: store", 'suite.yaml, line 3: field "name" stands twice'),
        ("name: shop\ntools: tools.py\nsplits: {train: 3}", "split: file.jsonl"),
        ("name: shop\ntools: tools.py\nsplits: {train: lost.jsonl}", 'line 3: field "splits.train"'),
        ("name: shop\ntools: lost.py\nsplits: {train: train.jsonl}", 'line 2: field "tools"'),
        ("name: shop\ntools: empty.py\nsplits: {train: train.jsonl}", "@tool"),
        ("name: shop\ntools: broken.py\nsplits: {train: train.jsonl}", "ZeroDivisionError"),
    ],
)
def test_broken_suite_files_are_refused(tmp_path: Path, content: str, words: str) -> None:
    path = Path(write_suite(tmp_path, [GOOD]))
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        load_yaml_suite(str(path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_suite_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_bytes("name: Geschäft".encode("latin-1"))
    with pytest.raises(DataError, match=r"suite\.yaml: not UTF-8: .*position 11"):
        load_yaml_suite(str(path))


def test_a_relative_path_is_another_suite_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        write_suite(tmp_path / name, [row(name)])
        monkeypatch.chdir(tmp_path / name)
        assert load_suite("suite.yaml").tasks("train").ids == [name]
        assert load_suite("suite.yaml") is load_suite("./suite.yaml")


def test_unknown_suites_and_splits(suite: str) -> None:
    with pytest.raises(ValueError, match="unknown suite 'maths'; known: math"):
        load_suite("maths")
    with pytest.raises(ValueError, match="no split 'dev'; it has train"):
        load_suite(suite).tasks("dev")
    with pytest.raises(KeyError, match="no task 'x' in this split; it has 4 tasks"):
        load_suite(suite).tasks("train")["x"]


def test_written_rows_load_again(tmp_path: Path, suite: str) -> None:
    tasks = [load_suite(suite).tasks("train")[position] for position in range(4)]
    digest = data.write_tasks(tmp_path / "deep" / "rows.jsonl", tasks)
    assert data.load_tasks(tmp_path / "deep" / "rows.jsonl", "shop", "train", load_suite(suite).box.tools) == tasks
    assert digest == data.write_tasks(tmp_path / "again.jsonl", tasks)


def small_suite() -> Suite:
    """Return a suite with a generator of its own."""
    from mentor_gym.types import Task

    def generate(split: str, seed: int) -> list[Task]:
        fields = {**row(f"{split}-{seed}", split=split, suite="small", tools=["add"], teacher=teacher([], "18"))}
        return [Task(**fields)]

    return Suite("small", ("train", "test"), math_box, generate=generate)


def test_the_manifest_notices_every_change(tmp_path: Path) -> None:
    manifest = data.rebuild([small_suite()], tmp_path, seed=7)
    assert manifest["seed"] == 7
    assert {name: entry["rows"] for name, entry in manifest["files"].items()} == {
        "small/train.jsonl": 1,
        "small/test.jsonl": 1,
    }
    assert data.verify(tmp_path) == []
    file = tmp_path / "small" / "train.jsonl"
    good = file.read_bytes()
    file.write_bytes(good.replace(b"18", b"19", 1))
    assert data.verify(tmp_path) == ["small/train.jsonl: SHA-256 differs from the manifest"]
    file.unlink()
    assert data.verify(tmp_path) == ["small/train.jsonl: missing"]
    file.write_bytes(good)
    manifest["files"]["small/train.jsonl"]["rows"] = 2
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert data.verify(tmp_path) == ["small/train.jsonl: 1 rows, the manifest says 2"]
    for broken in ("{", "[]", "{}", '{"files": {"a": 1}}'):
        (tmp_path / "manifest.json").write_text(broken)
        assert len(data.verify(tmp_path)) == 1


def test_shipped_files_match_their_manifest() -> None:
    assert data.verify() == []


@pytest.mark.parametrize("name", sorted(SUITES))
def test_every_shipped_row_is_valid_and_prompts_are_disjoint(name: str) -> None:
    suite = load_suite(name)
    seen: dict[tuple[str, str], str] = {}
    for split in suite.splits:
        for task in suite.tasks(split):
            # The same words about another database are another question.
            key = task.prompt, json.dumps(task.state)
            assert seen.setdefault(key, split) == split, task.prompt
