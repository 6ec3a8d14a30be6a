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
    """Play and update: so many steps, of so many tasks each, of 16 episodes each."""
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
    return agent.model.state_dict()


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", LEARNERS)
def test_a_two_armed_bandit_is_solved(undecided: dict[str, torch.Tensor], name: str, seed: int) -> None:
    """Two levers, one of which leads to the right answer. Nothing but sampled episodes tells which."""
    found = {}
    for learning_rate in (0.0, 3e-4):
        agent = LLMAgent("tiny", max_new_tokens=24, seed=seed)
        agent.model.load_state_dict(undecided)
        learner = LEARNERS[name](agent.model, learning_rate=learning_rate, kl_coef=0.01)
        with Rollout(BANDIT) as rollout:
            task_ids = rollout.task_ids
        learn(agent, learner, BANDIT, task_ids * 2, steps=80 if learning_rate else 2, tasks=2)
        found[learning_rate] = sampled_success(agent, BANDIT, task_ids)
        print(name, seed, found)
    assert 0.25 < found[0.0] < 0.75
    assert found[3e-4] > 0.95
