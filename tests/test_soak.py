"""Many episodes leave nothing behind: memory, file descriptors and child processes stay flat."""

from __future__ import annotations

import copy
import gc
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    """Play episodes of every sort; returns memory after the first quarter, and at the end."""
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
        if number == episodes // 4:
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


def main(episodes: int, leak: bool) -> None:
    """Play, and print what is left behind, as JSON; with `leak`, of an environment that keeps 16 kB a step."""
    if leak:
        kept: list[bytes] = []
        step = mentor_gym.MentorToolEnv.step

        def leaking(self: mentor_gym.MentorToolEnv, action: str) -> Any:
            kept.append(os.urandom(16_000))
            return step(self, action)

        mentor_gym.MentorToolEnv.step = leaking  # type: ignore[method-assign]
    files, processes = open_files(), children()
    before, after = play(episodes)
    print(json.dumps([after / before - 1, open_files() - files, len(children()) - len(processes)]))


def run(episodes: int, leak: bool = False) -> tuple[float, int, int]:
    """Run `main` in a process of its own: five in a hundred of a test runner's memory would hide a leak."""
    command = [sys.executable, __file__, str(episodes), *(["leak"] if leak else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    growth, files, processes = json.loads(done.stdout)
    return growth, files, processes


@pytest.mark.parametrize("episodes", [40_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_fault_43_many_episodes(episodes: int) -> None:
    growth, files, processes = run(episodes)
    assert growth < MAX_GROWTH
    assert (files, processes) == (0, 0)


def test_a_leak_would_be_seen() -> None:
    growth, *_ = run(2_000, leak=True)
    assert growth > MAX_GROWTH


if __name__ == "__main__":
    main(int(sys.argv[1]), "leak" in sys.argv)
