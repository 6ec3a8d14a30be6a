"""CPU cost of SQL steps: `gym.make` with the MENTOR reward, teachers of the SQL suites, and the parts of a step.

Times are CPU time of this process, so that a busy machine disturbs them little; each figure is the median of
several repeats. Run with `make bench`, or `python tests/benchmarks/bench_sql.py`.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from bench_step import REPEATS, cost_of_steps, teacher_episodes

import mentor_gym
from mentor_gym.protocol import render_message
from mentor_gym.suites import load_suite
from mentor_gym.tools.sql import SqlBox
from mentor_gym.types import Task

TARGET_STEPS = 10_000
SUITES = ("shop", "elements")
TASKS = 300


def teacher_calls(task: Task) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls of a task's teacher."""
    transcript = mentor_gym.protocol.parse_action(
        "\n".join(render_message(message) for message in task.teacher if message.get("tool_calls"))
    )
    return [(call.name, call.arguments) for call in transcript.calls]


def microseconds(action: Callable[[], int]) -> float:
    """Return the median CPU time of what `action` says it did, in microseconds each."""
    action()
    samples = []
    for _ in range(REPEATS):
        start = time.process_time()
        count = action()
        samples.append((time.process_time() - start) / count * 1e6)
    return statistics.median(samples)


def costs_of_a_box(tasks: list[Task], box: SqlBox) -> dict[str, float]:
    """Measure the parts of an episode with a box of the suite, without an environment."""
    plans = [(task, teacher_calls(task)) for task in tasks]
    queries = [
        (task, [arguments["sql"] for name, arguments in calls if name == "query"])
        for task, calls in plans
        if task.grader["kind"] != "state"
    ]
    changes = [plan for plan in plans if plan[0].grader["kind"] == "state"]

    def open_lazily() -> int:
        for task in tasks:
            box.open(task.state)
        return len(tasks)

    def connect() -> int:
        for task in tasks:
            box.open(task.state)
            box.query("SELECT 1")
        return len(tasks)

    def play(calls: list[tuple[str, dict[str, Any]]]) -> None:
        for name, arguments in calls:
            box.tools[name].call(arguments)

    spent: dict[str, float] = {}

    def ask(is_guarded: bool) -> float:
        """Return microseconds a query, the opening of its database apart."""
        samples = []
        first = "SELECT COUNT(*) FROM sqlite_master"  # reads the schema
        for _ in range(REPEATS):
            total, count = 0.0, 0
            for task, statements in queries:
                box.open(task.state)
                box.query(first)
                plain = sqlite3.connect(":memory:", cached_statements=0)
                plain.deserialize(box._database().content)
                plain.execute(first).fetchall()
                tool = box.tools["query"]
                start = time.process_time()
                for sql in statements:
                    if is_guarded:
                        tool.call({"sql": sql})
                    else:
                        plain.execute(sql).fetchall()
                total += time.process_time() - start
                count += len(statements)
                plain.close()
            samples.append(total / count * 1e6)
        return statistics.median(samples)

    spent["open"] = microseconds(open_lazily)
    spent["open and copy the database"] = microseconds(connect)
    spent["a teacher's query, guarded"] = ask(True)
    spent["the same, sqlite3 alone"] = ask(False)
    box.open(tasks[0].state)
    spent["snapshot, nothing changed"] = microseconds(lambda: [box.snapshot() for _ in range(1000)] and 1000)
    if changes:
        task, calls = changes[0]
        box.open(task.state)
        play(calls)
        saved = box.snapshot()
        spent["snapshot after a change"] = microseconds(lambda: [box.snapshot() for _ in range(1000)] and 1000)
        spent["restore after a change"] = microseconds(lambda: [box.restore(saved) for _ in range(200)] and 200)  # type: ignore[func-returns-value]

        def judge() -> float:
            samples = []
            for _ in range(REPEATS):
                total = 0.0
                for task, calls in changes:
                    box.open(task.state)
                    play(calls)
                    start = time.process_time()
                    box.final_state()
                    total += time.process_time() - start
                samples.append(total / len(changes) * 1e6)
            return statistics.median(samples)

        spent["final state of a change"] = judge()
    box.close()
    return spent


def main() -> None:
    """Measure and print two tables."""
    print(f"{'environment':36}{'steps/s':>10}{'step, µs CPU':>14}{'reset, µs CPU':>15}")
    slowest = float("inf")
    for suite in SUITES:
        for reward in ("mentor", None):
            env = gym.make("MentorTool-v0", suite=suite, split="train", reward=reward)
            episodes = teacher_episodes(env.unwrapped)  # type: ignore[arg-type]
            cost_of_steps(env, episodes)
            samples = [cost_of_steps(env, episodes) for _ in range(REPEATS)]
            step, reset = (statistics.median(column) for column in zip(*samples))
            print(f"{f'{suite}, reward={reward}':36}{1e6 / step:10,.0f}{step:14.1f}{reset:15.1f}")
            if reward is not None:
                slowest = min(slowest, 1e6 / step)
            env.close()
    for suite in SUITES:
        tasks = list(load_suite(suite).tasks("train"))[:TASKS]
        box = load_suite(suite).new_box()
        assert isinstance(box, SqlBox)
        print(f"\n{f'box of {suite}':36}{'µs CPU':>10}")
        for name, cost in costs_of_a_box(tasks, box).items():
            print(f"{name:36}{cost:10.1f}")
    verdict = "holds" if slowest >= TARGET_STEPS else "is missed"
    print(f"\nThe target of {TARGET_STEPS:,} guarded steps a second {verdict}.")


if __name__ == "__main__":
    main()
