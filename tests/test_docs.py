"""The README's blocks run, and what it names exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import gymnasium as gym
import pytest

import mentor_gym
from agents.base import Observation, load_agent
from agents.rollout import Rollout
from mentor_gym.rewards import PRESETS
from mentor_gym.suites import SUITES, load_suite
from mentor_gym.tools import ToolBox

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block(needle: str) -> str:
    (found,) = [text for text in BLOCKS if needle in text]
    return found


@pytest.mark.parametrize("text", BLOCKS, ids=[text.strip().splitlines()[-1][:40] for text in BLOCKS])
def test_every_block_runs(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(text, "README.md", "exec"), {"__name__": "readme"})


def test_ten_lines_end_an_episode(capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("print(reward"), {})
    assert re.match(r"0\.\d+ \{'outcome': 0\.0.*\} False\n", capsys.readouterr().out)


def test_custom_agent_block_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_module.py").write_text(block("class MyAgent"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_module", raising=False)
    agent = load_agent("my_module:MyAgent")
    assert agent.act([Observation("What is 6 times 7?", [], 0, 0)])[0].text == "<answer>42</answer>"
    with Rollout({"suite": "math", "split": "test"}) as rollout:
        (trajectory,) = rollout.run(agent, rollout.task_ids[:1])
    assert trajectory.transcript.answer == "42"


def test_custom_tool_block_is_a_tool() -> None:
    namespace: dict[str, object] = {}
    exec(block("def price"), namespace)
    box = ToolBox.from_module(namespace)
    assert box.tools["price"].call({"item": "bread"}).output == "3.2"
    assert "the shop has no 'car'" in box.tools["price"].call({"item": "car"}).output


def test_custom_reward_block_pays() -> None:
    namespace: dict[str, object] = {}
    exec(block("class FewCalls"), namespace)
    env = namespace["env"]
    assert isinstance(env, mentor_gym.RewardWrapper)
    env.reset(seed=0)
    env.step('<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>')
    _, reward, *_, info = env.step(f"<answer>{env.unwrapped.task.answer}</answer>")
    assert reward == pytest.approx(0.9)
    assert info["reward_terms"] == {"outcome": 1.0, "calls": -0.1}


def test_tables_name_every_suite_and_reward() -> None:
    for name in (*SUITES, *PRESETS):
        assert re.search(rf"^\| `{re.escape(name)}` \|", README, re.MULTILINE), name
    for name in SUITES:
        for split in load_suite(name).splits:
            assert f"`{split}`" in README, split
    for name in re.findall(r"MentorTool-[A-Za-z]*-?v0", README):
        assert name in gym.registry, name


def test_files_of_the_tree_exist() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    folders = {"mentor_gym/", "agents/", "envs_data/", "tests/"}
    folder = ROOT
    for line in tree.strip().splitlines():
        first = line.split()[0]
        if not line.startswith(" ") and first in folders:
            folder = ROOT / first
        for name in re.findall(r"[a-z0-9_]+\.py", line):
            assert (folder / name).is_file(), f"{folder.name}/{name}"
