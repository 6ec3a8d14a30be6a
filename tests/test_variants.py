"""Variants of the math suite: what each knob changes, and that it changes nothing else."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mentor_gym.env import MentorToolEnv
from mentor_gym.grading import grade
from mentor_gym.protocol import render_message
from mentor_gym.suites import load_suite
from mentor_gym.suites.math import LOWERINGS, kind_of, parse_formula
from mentor_gym.suites.math_variants import CORRUPTIONS, NOTES, write_variant
from mentor_gym.suites.plans import count_paths, lower
from mentor_gym.types import Task, Transcript

SHIPPED = {task.id: task for task in load_suite("math").tasks("train")}


def write(folder: Path, **knobs: Any) -> list[Task]:
    file = write_variant(folder / "variant", rows=knobs.pop("rows", 400), **knobs)
    return list(load_suite(str(file)).tasks("train"))


def play(folder: Path, task: Task) -> Transcript:
    env = MentorToolEnv(str(folder / "variant" / "suite.yaml"))
    env.reset(options={"task_id": task.id})
    for message in task.teacher:
        if message["role"] == "assistant":
            env.step(render_message(message))
    return env.transcript


def test_without_a_knob_a_variant_is_the_split(tmp_path: Path) -> None:
    for task in write(tmp_path):
        shipped = SHIPPED[task.id]
        assert (task.prompt, task.tools, task.answer, task.teacher) == (
            shipped.prompt, shipped.tools, shipped.answer, shipped.teacher,
        )  # fmt: skip
        assert task.suite == "math-variant"


def test_the_same_seed_writes_the_same_rows(tmp_path: Path) -> None:
    knobs: dict[str, Any] = {"notes": 0.5, "reliability": 0.5, "paths": 0.5, "noise": 0.5, "rows": 200}
    seeds = {"a": 3, "b": 3, "c": 4}
    files = [write_variant(tmp_path / name / "v", seed=seed, **knobs) for name, seed in seeds.items()]
    first, again, other = ((file.parent / "train.jsonl").read_bytes() for file in files)
    assert first == again
    assert first != other


def test_notes_are_as_many_and_as_reliable_as_asked_for(tmp_path: Path) -> None:
    tasks = write(tmp_path, calls=[1], notes=0.5, reliability=0.9, rows=None)
    count = len(tasks)
    assert {task.meta["calls"] for task in tasks} == {1}
    noted = round(count * 0.5)
    right = round(noted * 0.9)
    assert Counter(task.meta["note"] for task in tasks) == {
        "none": count - noted, "right": right, "stale": noted - right,
    }  # fmt: skip


def test_a_note_says_the_answer_or_another_task_s(tmp_path: Path) -> None:
    ends = [wording.split("{0}") for wording in NOTES]
    for task in write(tmp_path, notes=0.8, reliability=0.5):
        shipped = SHIPPED[task.id]
        assert task.prompt.startswith(shipped.prompt)
        note = task.prompt[len(shipped.prompt) :].strip()
        if task.meta["note"] == "none":
            assert note == ""
            continue
        said = next(note[len(a) : -len(b)] for a, b in ends if note.startswith(a) and note.endswith(b))
        assert grade(said, task.answer, task.grader) == (task.meta["note"] == "right")
        assert task.teacher == shipped.teacher


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_paths_are_as_asked_for_and_the_problems_the_same(tmp_path: Path, share: float) -> None:
    tasks = write(tmp_path, calls=[1], paths=share, rows=None)
    ids = [task.id for task in write(tmp_path / "none", calls=[1], paths=0.0, rows=None)]
    assert [task.id for task in tasks] == ids
    several = 0
    for task in tasks:
        shipped = SHIPPED[task.id]
        assert (task.prompt, task.answer) == (shipped.prompt, shipped.answer)
        formula = parse_formula(kind_of(task).formula, task.meta["numbers"])
        assert count_paths(lower(formula, LOWERINGS, [str(name) for name in task.tools])) == task.meta["paths"]
        several += task.meta["paths"] > 1
    assert several == round(len(tasks) * share)


def test_both_forms_of_a_task_offer_as_many_tools(tmp_path: Path) -> None:
    forms = [write(tmp_path / str(share), calls=[1], paths=share) for share in (0.0, 1.0)]
    assert [len(task.tools) for task in forms[0]] == [len(task.tools) for task in forms[1]]


def test_a_teacher_with_a_choice_takes_any_way_and_is_right(tmp_path: Path) -> None:
    tasks = write(tmp_path, paths=1.0)
    for task in tasks[:60]:
        transcript = play(tmp_path, task)
        assert transcript.is_success
        assert all(result.ok for _, result in transcript.calls())
    ways: dict[str, set[tuple[str, ...]]] = {}
    for task in tasks:
        calls = [c["function"]["name"] for m in task.teacher for c in m.get("tool_calls") or ()]
        ways.setdefault(task.meta["kind"], set()).add(tuple(calls))
    assert all(len(found) > 1 for found in ways.values())


def test_spoilt_teachers_are_as_many_as_asked_for_and_go_wrong(tmp_path: Path) -> None:
    tasks = write(tmp_path, noise=0.5)
    counts = Counter(task.meta["noise"] for task in tasks)
    # The share holds for the whole split, of which these are the first rows.
    assert 0.4 < counts["none"] / len(tasks) < 0.6
    assert all(counts[kind] > 20 for kind in CORRUPTIONS)
    for task in random.Random(0).sample(tasks, 80):
        shipped = SHIPPED[task.id]
        noise = task.meta["noise"]
        assert task.answer == shipped.answer
        assert (task.teacher == shipped.teacher) == (noise == "none")
        transcript = play(tmp_path, task)
        assert transcript.stop_reason == "answer"
        # A call too many leaves the answer right; a teacher that goes wrong goes on with what it got.
        assert transcript.is_success == (noise in ("none", "redundant call"))
        answers = [message["content"] for message in task.teacher if message["role"] == "tool"]
        assert answers == [result.output for _, result in transcript.calls()]
        # A wrong argument may make a call equal to another one, which then is not made twice.
        expected = shipped.meta["calls"] + (noise == "redundant call")
        assert len(answers) == expected or (noise == "wrong argument" and len(answers) < expected)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"notes": 1.5}, "notes must be between 0 and 1, got 1.5"),
        ({"paths": -0.1}, "paths must be between 0 and 1"),
        ({"calls": [17]}, "no task of split 'train' is left"),
        ({"split": "tset"}, "did you mean 'test'"),
        ({"rows": 0}, "rows must be at least 1, got 0"),
        ({"rows": -1}, "rows must be at least 1, got -1"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_variant(tmp_path / "variant", **knobs)
    assert not (tmp_path / "variant").exists()
