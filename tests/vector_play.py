"""Playing vectors of environments with all kinds of actions, and comparing what comes back."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from conftest import answer, call

from mentor_gym.protocol import render_message
from mentor_gym.types import Task

GARBAGE = [
    *(None, 3, b"bytes", np.str_("🎉"), lambda: "not picklable"),
    *("", "no call", "\ud800", "<tool_call>{", "<tool_call>{}</tool_call>"),
]


def action(rng: random.Random, task: Task, turns: int) -> Any:
    """Write a turn: mostly the teacher's next one, else a wrong call, garbage, or an answer."""
    kind = rng.random()
    if kind < 0.6:
        messages = [message for message in task.teacher if message["role"] == "assistant"]
        return render_message(messages[min(turns, len(messages) - 1)])
    if kind < 0.7:
        return answer(rng.choice([task.answer, "nonsense"]))
    if kind < 0.85:
        return rng.choice(GARBAGE)
    name = rng.choice([entry for entry in task.tools if isinstance(entry, str)])
    return call(name, item="apple")


def assert_same(left: Any, right: Any, where: str = "") -> None:
    """Compare results of vectors: types, dtypes, shapes and values, at any depth."""
    assert type(left) is type(right), where
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}[{key!r}]")
    elif isinstance(left, np.ndarray):
        assert (left.dtype, left.shape) == (right.dtype, right.shape), where
        assert_same(left.tolist(), right.tolist(), where)
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for i, (one, other) in enumerate(zip(left, right)):
            assert_same(one, other, f"{where}[{i}]")
    else:
        assert left == right, where


def part(result: Any, positions: list[int]) -> Any:
    """Return what some environments have of a vector's result."""
    if isinstance(result, dict):
        # A key that none of them has may be there because of the others.
        masks = {key: result[f"_{key}"][positions] for key in result if f"_{key}" in result}
        return {key: (part(result[key], positions), list(mask)) for key, mask in masks.items() if mask.any()}
    if isinstance(result, np.ndarray):
        return result[positions]
    if len(result) in (2, 5) and isinstance(result[-1], dict):
        return tuple(part(item, positions) for item in result)
    return tuple(result[i] for i in positions)
