"""Learning for real: success goes up where a learner learns, and stays where its learning rate is zero.

Mostly minutes long; run by `make test-slow`.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.config import load_config
from agents.evaluate import evaluate
from agents.grpo import GRPO
from agents.learners import Learner
from agents.llm import LLMAgent
from agents.ppo import PPO
from agents.rollout import Rollout
from agents.sft import SFT, TeacherTokens
from agents.train import train
from mentor_gym.suites import load_suite

SEEDS = (11, 12, 13)
LEARNERS: dict[str, Any] = {"grpo": GRPO, "ppo": PPO}
# Success itself is the reward: what is measured is what is learnt from.
BANDIT = {
    "suite": str(Path(__file__).parent / "bandit_suite" / "suite.yaml"),
    "split": "train",
    "prompt": "compact",
    "max_turns": 2,
    "reward": None,
}
SUMS = {"suite": "math", "split": "train", "prompt": "compact", "max_turns": 3, "reward": None}


def learn(
    agent: LLMAgent, learner: Learner, env: dict[str, Any], task_ids: list[str], steps: int, tasks: int
) -> None:
    """Play and update: so many steps, each with so many tasks of 16 episodes."""
    chance = random.Random(agent.seed)
    with Rollout(env, max_live=96) as rollout:
        for _ in range(steps):
            chosen = [task_id for task_id in chance.sample(task_ids, tasks) for _ in range(16)]
            played = rollout.run(agent, chosen, seed=chance.randrange(1 << 40))
            learner.update([played[start : start + 16] for start in range(0, len(played), 16)])


def sampled_success(agent: LLMAgent, env: dict[str, Any], task_ids: list[str]) -> float:
    """The share of 480 sampled episodes that succeed, of the same tasks every time."""
    with Rollout(env, max_live=96) as rollout:
        episodes = rollout.run(agent, [task_ids[i % len(task_ids)] for i in range(480)], seed=1 << 50)
    return float(np.mean([episode.is_success for episode in episodes]))


@pytest.fixture(scope="module")
def undecided() -> dict[str, torch.Tensor]:
    """The shipped model after imitating two teachers that pull different levers: it pulls either."""
    agent = LLMAgent("tiny")
    with Rollout({**BANDIT, "split": "teachers"}) as rollout:
        traces = rollout.run(TeacherTokens(agent.chat), rollout.task_ids)
    learner = SFT(agent.model, learning_rate=1e-3)
    for _ in range(40):
        learner.update([traces])
    return dict(agent.model.state_dict())


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_two_armed_bandit_is_solved(undecided: dict[str, torch.Tensor], name: str, seed: int) -> None:
    """Two levers, one of which leads to the right answer. Nothing but sampled episodes tells which."""
    found = {}
    for learning_rate in (0.0, 3e-4):
        agent = LLMAgent("tiny", max_new_tokens=24, seed=seed)
        agent.model.load_state_dict(undecided)
        learner = LEARNERS[name](agent.model, learning_rate=learning_rate, kl_coef=0.01)
        # One task, twice a step. Steps without a learning rate are all alike.
        learn(agent, learner, BANDIT, ["bandit-1"] * 2, steps=80 if learning_rate else 2, tasks=2)
        found[learning_rate] = sampled_success(agent, BANDIT, ["bandit-1"])
    assert 0.25 < found[0.0] < 0.75, found
    assert found[3e-4] > 0.95, found


def one_call_tasks(split: str) -> list[str]:
    """The tasks of the math suite that need one tool call."""
    tasks = load_suite("math").tasks(split)
    return [task_id for task_id in tasks.ids if tasks[task_id].meta["calls"] == 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_the_shipped_model_improves_at_tasks_of_one_call(name: str) -> None:
    """Measured on tasks that were not trained on."""
    before, after = [], []
    for seed in SEEDS:
        for learning_rate, steps, found in ((0.0, 1, before), (3e-4, 25, after)):
            agent = LLMAgent("tiny", max_new_tokens=48, seed=seed)
            learner = LEARNERS[name](agent.model, learning_rate=learning_rate, kl_coef=0.01)
            learn(agent, learner, SUMS, one_call_tasks("train"), steps=steps, tasks=6)
            found.append(sampled_success(agent, {**SUMS, "split": "valid"}, one_call_tasks("valid")))
    gains = np.array(after) - np.array(before)
    assert gains.min() > 0.1, (before, after)
    assert gains.mean() > 0.15, (before, after)


def success_after(config: str, tmp_path: Path, *overrides: str) -> float:
    """Train from the shipped model and return its greedy success on validation tasks."""
    output = tmp_path / "-".join([config, *overrides]).replace("=", "")
    settings = [*overrides, f"output={output}", "eval_every=0", "save_every=0"]
    final = train(load_config(config, settings), progress=False)
    return float(
        evaluate(LLMAgent(str(final), temperature=0, max_new_tokens=64), "math", "valid", tasks=150)["pass@1"]
    )


@pytest.mark.slow
def test_grpo_improves_unshaped_success_against_a_control(tmp_path: Path) -> None:
    control = success_after("grpo-mentor", tmp_path, "steps=3", "learning_rate=0")
    learnt = [success_after("grpo-mentor", tmp_path, "steps=40", f"seed={seed}") for seed in SEEDS]
    assert min(learnt) > control, (learnt, control)
    assert np.mean(learnt) > control + 0.1, (learnt, control)


@pytest.mark.slow
def test_supervised_fine_tuning_improves_unshaped_success(tmp_path: Path) -> None:
    control = success_after("sft", tmp_path, "steps=3", "learning_rate=0")
    assert success_after("sft", tmp_path, "steps=60", "seed=11") > control + 0.1
