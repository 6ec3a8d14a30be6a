"""Speed of the code tools: `gym.make` with the MENTOR reward, programs in the sandboxed interpreters.

Rates are by the clock, because most of the work is done by other processes; beside them stands the CPU time of all
processes together. Each figure is the median of several repeats. Run with `make bench`, or
`python tests/benchmarks/bench_code.py`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import gymnasium as gym

import mentor_gym
from mentor_gym.protocol import render_call, render_message
from mentor_gym.suites import code_full
from mentor_gym.tools import code
from mentor_gym.tools.zygote import unavailable

TARGET_PER_S = 1_500
EPISODES = 200
REPEATS = 7

Episode = tuple[str, list[str]]


def cpu_seconds() -> float:
    """CPU time of this process and of the interpreter's worker."""
    worker = code.shared_interpreter().worker
    return time.process_time() + (worker.computed() if worker else 0.0)


def teacher_episodes(env: mentor_gym.MentorToolEnv) -> list[Episode]:
    """Return task ids with the teacher's turns."""
    return [
        (task.id, [render_message(message) for message in task.teacher if message["role"] == "assistant"])
        for task in (env.tasks[position] for position in range(min(EPISODES, len(env.tasks))))
    ]


def program_episodes(env: mentor_gym.MentorToolEnv, programs: list[str]) -> list[Episode]:
    """Return episodes of these programs and no answer."""
    turns = [render_call("python", {"code": program}) for program in programs]
    return [(env.tasks[position].id, turns) for position in range(EPISODES)]


def play(envs: list[gym.Env[str, str]], episodes: list[Episode]) -> tuple[float, float]:
    """Play episodes, the environments in lock-step; returns steps a second and CPU microseconds a step."""
    steps = 0
    start, computed = time.perf_counter(), cpu_seconds()
    for first in range(0, len(episodes) - len(envs) + 1, len(envs)):
        group = episodes[first : first + len(envs)]
        for env, (task_id, _) in zip(envs, group):
            env.reset(options={"task_id": task_id})
        for turn in range(max(len(turns) for _, turns in group)):
            for env, (_, turns) in zip(envs, group):
                if turn < len(turns):
                    env.step(turns[turn])
                    steps += 1
    seconds = time.perf_counter() - start
    return steps / seconds, (cpu_seconds() - computed) / steps * 1e6


def main() -> None:
    """Measure and print a table."""
    env = gym.make("MentorTool-v0", suite="code", split="train", disable_env_checker=True)
    bare = env.unwrapped
    assert isinstance(bare, mentor_gym.MentorToolEnv)
    others = [gym.make("MentorTool-v0", suite="code", disable_env_checker=True) for _ in range(7)]
    small = ["x = 6", "y = x * 7", "print(y)", "print(x + y)"]
    cases: dict[str, Callable[[], tuple[float, float]]] = {
        "the teacher's episodes": lambda: play([env], teacher_episodes(bare)),
        "one program an episode": lambda: play([env], program_episodes(bare, small[:1])),
        "four programs an episode": lambda: play([env], program_episodes(bare, small)),
        "the teacher's, 8 in lock-step": lambda: play([env, *others], teacher_episodes(bare)),
        "four programs, 8 in lock-step": lambda: play([env, *others], program_episodes(bare, small)),
    }
    print(f"{'episodes':32}{'steps/s':>10}{'µs CPU a step':>15}")
    headline = 0.0
    for name, measure in cases.items():
        measure()
        rate, computed = (statistics.median(column) for column in zip(*(measure() for _ in range(REPEATS))))
        headline = headline or rate
        print(f"{name:32}{rate:10,.0f}{computed:15.0f}")
    verdict = "holds" if headline >= TARGET_PER_S else "is missed"
    print(f"The target of {TARGET_PER_S:,} steps a second {verdict}.")
    reason = unavailable()
    if reason is not None:
        print(f"code-full is unavailable: {reason}")
        return
    env = mentor_gym.make_env(suite=code_full.build(), split="test")
    bare = env.unwrapped
    assert isinstance(bare, mentor_gym.MentorToolEnv)
    for name, episodes in (
        ("code-full, the teacher's episodes", teacher_episodes(bare)),
        ("code-full, print(1)", [(bare.tasks[0].id, [render_call("python", {"code": "print(1)"})] * 4)] * 25),
    ):
        play([env], episodes[:1])
        print(f"{name:35}{play([env], episodes)[0]:7,.0f}")


if __name__ == "__main__":
    main()
