"""CPU cost of one environment step: `gym.make` with the MENTOR reward, a teacher's calls, the full prompt.

Times are CPU time of this process, so that a busy machine disturbs them little; each figure is the median of
several repeats. Run with `make bench`, or `python tests/benchmarks/bench_step.py`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import gymnasium as gym

import mentor_gym
from mentor_gym.protocol import render_message

TARGET_US = 30.0
EPISODES = 300
REPEATS = 9


def teacher_episodes(env: mentor_gym.MentorToolEnv) -> list[tuple[str, list[str]]]:
    """Return task ids with the teacher's turns, in the wire format: what a good policy writes."""
    tasks = [env.tasks[position] for position in range(min(EPISODES, len(env.tasks)))]
    return [
        (task.id, [render_message(message) for message in task.teacher if message["role"] == "assistant"])
        for task in tasks
    ]


def cost_of_steps(env: gym.Env[str, str], episodes: list[tuple[str, list[str]]]) -> tuple[float, float]:
    """Play the episodes once; returns CPU microseconds a step and a reset."""
    stepping = resetting = 0.0
    steps = 0
    for task_id, turns in episodes:
        start = time.process_time()
        env.reset(options={"task_id": task_id})
        middle = time.process_time()
        for turn in turns:
            env.step(turn)
        stepping += time.process_time() - middle
        resetting += middle - start
        steps += len(turns)
    return stepping / steps * 1e6, resetting / len(episodes) * 1e6


class BareEnv(gym.Env[str, str]):
    """The floor: a Gymnasium class that does nothing, under the same wrappers."""

    def __init__(self) -> None:
        self.action_space = self.observation_space = mentor_gym.MentorToolEnv().action_space

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        """Start an episode of nothing."""
        super().reset(seed=seed)
        return "", {}

    def step(self, action):  # type: ignore[no-untyped-def]
        """Do nothing."""
        return "", 0.0, False, False, {}


def main() -> None:
    """Measure and print a table."""
    gym.register("BenchBare-v0", entry_point=BareEnv)
    episodes = teacher_episodes(mentor_gym.MentorToolEnv(suite="math", split="train"))
    builders: dict[str, Callable[[], gym.Env[str, str]]] = {
        "MentorTool-v0, mentor": lambda: gym.make("MentorTool-v0", split="train"),
        "MentorTool-v0, mentor, dense": lambda: gym.make("MentorTool-v0", split="train", dense=True),
        "MentorTool-v0, reward=None": lambda: gym.make("MentorTool-v0", split="train", reward=None),
        "MentorToolEnv, no wrapper": lambda: mentor_gym.MentorToolEnv(split="train"),
        "does nothing, gym.make": lambda: gym.make("BenchBare-v0"),
    }
    print(f"{'environment':32}{'step, µs CPU':>14}{'reset, µs CPU':>15}")
    headline = 0.0
    for name, build in builders.items():
        env = build()
        cost_of_steps(env, episodes)
        samples = [cost_of_steps(env, episodes) for _ in range(REPEATS)]
        step, reset = (statistics.median(column) for column in zip(*samples))
        headline = headline or step
        print(f"{name:32}{step:14.1f}{reset:15.1f}")
    verdict = "holds" if headline <= TARGET_US else "is missed"
    print(f"The target of {TARGET_US:.0f} µs a step {verdict}.")


if __name__ == "__main__":
    main()
