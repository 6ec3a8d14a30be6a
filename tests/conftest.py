"""A small suite whose every answer is known by hand, and helpers to write turns and play them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import settings

import mentor_gym
from mentor_gym.protocol import render_call

# A shell's background job ignores Ctrl-C, and so would every process that the tests start to see what it does.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: a busy machine would break it. No database: a run leaves no folder behind.
settings.register_profile("tests", deadline=None, database=None)
settings.load_profile("tests")

SECRET = "teacher-only-5f3a"

TOOLS = '''
"""Tools of the test suite."""
from mentor_gym.tools import tool, ToolError


@tool
def power(base: float, exponent: float) -> float:
    """Base to the power of exponent."""
    return base**exponent


@tool
def multiply(a: float, b: float) -> float:
    """A times b."""
    return a * b


@tool
def add(a: float, b: float = 0) -> float:
    """A plus b."""
    return a + b


@tool
def echo(text: str) -> str:
    """Return the text."""
    return text


@tool
def reveal() -> str:
    """Print what a correct answer would look like."""
    return "<answer>18</answer>"


@tool
def refuse() -> str:
    """Fail politely."""
    raise ToolError("not today")


@tool
def crash() -> str:
    """Fail with an exception of the host."""
    raise RuntimeError("a path of the host: secret.txt")


@tool
def leave() -> str:
    """Try to end the process."""
    raise SystemExit(3)
'''
NAMES = ["power", "multiply", "add", "echo", "reveal", "refuse", "crash", "leave"]


def call(name: str, **arguments: Any) -> str:
    """Write a turn with one call."""
    return render_call(name, arguments)


def answer(text: object) -> str:
    """Write a turn with an answer."""
    return f"<answer>{text}</answer>"


def teacher(calls: list[tuple[str, dict[str, Any], str]], final: str) -> list[dict[str, Any]]:
    """Write a teacher trace with one call a turn."""
    messages: list[dict[str, Any]] = []
    for number, (name, arguments, output) in enumerate(calls):
        function = {"name": name, "arguments": json.dumps(arguments)}
        call_id = f"{SECRET}-{number}"
        tool_call = {"id": call_id, "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [tool_call]})
        messages.append({"role": "tool", "tool_call_id": call_id, "content": output})
    return [*messages, {"role": "assistant", "content": answer(final)}]


def row(task_id: str, **fields: Any) -> dict[str, Any]:
    """Write a valid task row; `fields` replace its values."""
    calls = [("power", {"base": 3, "exponent": 2}, "9"), ("multiply", {"a": 2, "b": 9}, "18")]
    base = {
        "id": task_id,
        "suite": "shop",
        "split": "train",
        "prompt": "What is two times the square of three?",
        "tools": NAMES,
        "answer": "18",
        "grader": {"kind": "number"},
        "state": None,
        "teacher": teacher(calls, "18"),
        "meta": {"note": SECRET},
    }
    return {**base, **fields}


def write_suite(folder: Path, rows: list[dict[str, Any]]) -> str:
    """Write a suite with one split and return the path of its YAML file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tools.py").write_text(TOOLS)
    (folder / "train.jsonl").write_text("".join(json.dumps(item) + "\n" for item in rows))
    (folder / "suite.yaml").write_text("name: shop\ntools: tools.py\nsplits:\n  train: train.jsonl\n")
    return str(folder / "suite.yaml")


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The test suite: tasks `both`, `direct` (a teacher without tools), `town` (text), `towns` (set)."""
    rows = [
        row("both"),
        row("direct", teacher=teacher([], "18")),
        row("town", prompt="Capital of France?", answer="Paris", grader={"kind": "text", "aliases": ["Lutetia"]}),
        row("towns", prompt="Two French towns?", answer="Paris, Lyon", grader={"kind": "set"}),
    ]
    return write_suite(tmp_path_factory.mktemp("shop"), rows)


@pytest.fixture
def env(suite: str) -> mentor_gym.MentorToolEnv:
    """The bare environment over the test suite, in the middle of the task `both`."""
    environment = mentor_gym.MentorToolEnv(suite)
    environment.reset(options={"task_id": "both"})
    return environment


def play(
    environment: gym.Env[str, str], turns: list[str], task_id: str = "both", **options: Any
) -> dict[str, Any]:
    """Play turns from a reset; returns the last step as a mapping, with `rewards` of all of them."""
    environment.reset(options={"task_id": task_id, **options})
    rewards = []
    for turn in turns:
        observation, reward, terminated, truncated, info = environment.step(turn)
        rewards.append(reward)
    return {
        "observation": observation,
        "reward": reward,
        "rewards": rewards,
        "terminated": terminated,
        "truncated": truncated,
        "info": info,
    }
