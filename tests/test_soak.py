"""A hundred thousand episodes leave nothing behind: memory, file descriptors and child processes stay flat."""

from __future__ import annotations

import copy
import gc
import os
import random
from pathlib import Path

import gymnasium as gym
import pytest

import mentor_gym
from mentor_gym.protocol import render_message

TILL = str(Path(__file__).parent / "till_suite" / "suite.yaml")
MAX_GROWTH = 0.05
NOISE = (
    "",
    "nothing of use",
    "<tool_call>{",
    "<answer>1</answer>",
    '<tool_call>{"name": "add", "arguments": {"a": "x"}}</tool_call>',
    '<tool_call>{"name": "scan", "arguments": {"item": "pear"}}</tool_call>',
    '<tool_call>{"name": "no_such_tool", "arguments": {}}</tool_call>',
    "\ud800\x00" + "é" * 3000,
)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def play(episodes: int) -> tuple[int, int]:
    """Play episodes of every sort; returns memory after the first tenth, and at the end."""
    envs = [
        gym.make("MentorTool-v0", suite=suite, dense=dense, max_turns=4)
        for suite in ("math", TILL)
        for dense in (False, True)
    ]
    rng = random.Random(0)
    ends = dict.fromkeys(("terminated", "truncated", "successes", "clones"), 0)
    before = 0
    for number in range(episodes):
        env = envs[number % len(envs)]
        env.reset(seed=number)
        task = env.unwrapped.task  # type: ignore[attr-defined]
        teacher = [render_message(message) for message in task.teacher if message["role"] == "assistant"]
        style = rng.choice(("teacher", "noise", "mixed"))
        terminated = truncated = False
        turn = 0
        while not terminated and not truncated:
            if style == "teacher":
                action = teacher[turn]
            else:
                action = rng.choice(NOISE if style == "noise" or rng.random() < 0.5 else teacher)
            if rng.random() < 0.005:
                env = copy.deepcopy(env)
                ends["clones"] += 1
            if rng.random() < 0.02:
                env.unwrapped.set_state(env.unwrapped.get_state())  # type: ignore[attr-defined]
            *_, terminated, truncated, info = env.step(action)
            turn += 1
        ends["terminated"] += terminated
        ends["truncated"] += truncated
        ends["successes"] += info["is_success"]
        if number == episodes // 10:
            gc.collect()
            before = resident_bytes()
    gc.collect()
    after = resident_bytes()
    # It was the mixture that it is meant to be.
    assert min(ends.values()) > 0, ends
    assert ends["terminated"] + ends["truncated"] == episodes
    for env in envs:
        env.close()
    return before, after


def check(episodes: int) -> None:
    files, processes = open_files(), children()
    before, after = play(episodes)
    assert after < before * (1 + MAX_GROWTH), f"{before} bytes grew to {after}"
    assert open_files() == files
    assert children() == processes


def test_fault_43_a_hundred_thousand_episodes() -> None:
    check(100_000)


def test_a_leak_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    env_step = mentor_gym.MentorToolEnv.step

    def step(self: mentor_gym.MentorToolEnv, action: str) -> object:
        kept.append("leak" * 2000)
        kept.append(os.urandom(8000))
        return env_step(self, action)

    monkeypatch.setattr(mentor_gym.MentorToolEnv, "step", step)
    with pytest.raises(AssertionError, match="bytes grew to"):
        check(3_000)
