"""The math suite: the data tests the environment, and the environment tests the data."""

from __future__ import annotations

import random
import zlib
from typing import Any

import msgspec
import pytest

import mentor_gym
from mentor_gym.data import REBUILD_SEED, data_path
from mentor_gym.protocol import render_message
from mentor_gym.rewards import PRESETS, make_reward
from mentor_gym.suites import load_suite
from mentor_gym.suites.math import PAPER_NAMES, ROWS, UNSEEN_NAMES, generate, parse_formula, split_of, ways
from mentor_gym.suites.plans import Op, calls_of, orders, run
from mentor_gym.types import Task

SPLITS = list(ROWS)


def tasks_of(split: str) -> list[Task]:
    """Return the shipped tasks of a split."""
    tasks = load_suite("math").tasks(split)
    return [tasks[position] for position in range(len(tasks))]


def turns_of(task: Task) -> list[str]:
    """Return the teacher's turns in the wire format."""
    return [render_message(message) for message in task.teacher if message["role"] == "assistant"]


@pytest.mark.parametrize("split", SPLITS)
def test_every_teacher_trace_succeeds_and_earns_every_maximum(split: str) -> None:
    environment = mentor_gym.MentorToolEnv("math", split)
    rewards = {name: make_reward(name) for name in PRESETS}
    rewards["fixed"] = make_reward({"name": "mentor", "fix_quirks": True})
    tasks = tasks_of(split)
    assert len(tasks) == ROWS[split]
    for task in tasks:
        opening, _ = environment.reset(options={"task_id": task.id})
        assert task.prompt in opening
        assert "call_1" not in opening
        outputs = [message["content"] for message in task.teacher if message["role"] == "tool"]
        *turns, last = turns_of(task)
        for turn, output in zip(turns, outputs, strict=True):
            observation = environment.step(turn)[0]
            # The trace holds what the tools really say.
            assert observation == f"<tool_response>{output}</tool_response>"
        _, reward, terminated, truncated, info = environment.step(last)
        assert (reward, terminated, truncated, info["is_success"]) == (1.0, True, False, True), task.id
        for name, function in rewards.items():
            paid = sum(function(environment.transcript).values())
            assert paid == pytest.approx(function.maximum, abs=1e-12), (task.id, name)


@pytest.mark.parametrize("split", SPLITS)
def test_a_wrong_answer_never_succeeds(split: str) -> None:
    environment = mentor_gym.MentorToolEnv("math", split)
    for task in tasks_of(split)[::10]:
        value = float(task.answer)
        for wrong in (value + 1, value - 1, abs(value) * 1.01 + 0.5, ""):
            environment.reset(options={"task_id": task.id})
            assert environment.step(f"<answer>{wrong}</answer>")[1] == 0.0


@pytest.mark.parametrize("split", SPLITS)
def test_regenerated_rows_equal_the_shipped_bytes(split: str) -> None:
    shipped = data_path("math", f"{split}.jsonl").read_bytes().splitlines()
    # The whole train split takes seconds; its rows are drawn in order, so a prefix says the same.
    count = min(len(shipped), 400)
    made = [msgspec.json.encode(task) for task in generate(split, REBUILD_SEED, rows=count)]
    assert made == shipped[:count]
    other = [msgspec.json.encode(task) for task in generate(split, REBUILD_SEED + 1, rows=20)]
    assert other != shipped[:20]


def test_splits_share_neither_prompts_nor_numbers() -> None:
    prompts: dict[str, str] = {}
    numbers: dict[Any, str] = {}
    ids: set[str] = set()
    for split in SPLITS:
        for task in tasks_of(split):
            assert prompts.setdefault(task.prompt, split) == split
            # A kind belongs to the ordinary splits or to one of the other two.
            key = (task.meta["kind"], *sorted(task.meta["numbers"].items()))
            assert numbers.setdefault(key, split) == split, (task.id, key)
            if split in ("train", "valid", "test"):
                assert split_of(task.meta["kind"], task.meta["numbers"]) == split
            assert task.id not in ids
            ids.add(task.id)


def test_unseen_splits_are_unseen() -> None:
    kinds = {split: {task.meta["kind"] for task in tasks_of(split)} for split in SPLITS}
    assert kinds["train"] == kinds["valid"] == kinds["test"]
    assert not kinds["train"] & kinds["ood-compose"]
    assert not kinds["train"] & kinds["ood-tools"]
    offered = {split: {str(name) for task in tasks_of(split) for name in task.tools} for split in SPLITS}
    for split in SPLITS:
        assert (offered[split] <= set(PAPER_NAMES)) == (split != "ood-tools")
    assert set(UNSEEN_NAMES) <= offered["ood-tools"]
    for task in tasks_of("ood-tools"):
        used = {item.tool for item in calls_of(ways(task)[0])}
        assert used & set(UNSEEN_NAMES), task.id


@pytest.mark.parametrize("split", SPLITS)
def test_rows_hold_together(split: str) -> None:
    for task in tasks_of(split):
        calls = [call for message in task.teacher for call in message.get("tool_calls") or ()]
        assert task.meta["calls"] == len(calls) >= 1
        assert len(task.tools) >= 3, task.id
        assert len(set(map(str, task.tools))) == len(task.tools)
        assert "{" not in task.prompt
        for value in task.meta["numbers"].values():
            assert str(value) in task.prompt, task.id


@pytest.mark.parametrize("split", SPLITS)
def test_all_paths_reach_the_answer_and_are_counted(split: str) -> None:
    suite = load_suite("math")
    environment = mentor_gym.MentorToolEnv("math", split, max_turns=20)
    tasks = tasks_of(split)
    sampler = random.Random(zlib.crc32(split.encode()))
    for task in sampler.sample(tasks, 60):
        if task.meta["paths"] > 400:
            continue
        paths = set()
        for way in ways(task):
            for order in orders(way):
                paths.add(tuple(order))
                steps = run(order, suite.box.tools)
                environment.reset(options={"task_id": task.id})
                success = environment.step(f"<answer>{steps[-1][2]}</answer>")[4]["is_success"]
                assert success, (task.id, [step[0] for step in steps])
        assert len(paths) == task.meta["paths"], task.id


def test_some_tasks_can_be_done_in_other_ways_than_the_teacher_s() -> None:
    paths = [task.meta["paths"] for task in tasks_of("train")]
    assert sum(count > 1 for count in paths) > len(paths) / 5


def test_formulas_are_read_as_trees() -> None:
    tree = parse_formula("sqrt(a ** 2 + b) / 2", {"a": 3, "b": 7})
    assert tree == Op("Div", (Op("sqrt", (Op("Add", (Op("Pow", (3, 2)), 7)),)), 2))
    with pytest.raises(ValueError, match="formula"):
        parse_formula("a if b else c", {"a": 1, "b": 2, "c": 3})
