"""The learners by name. A learner is a class with `update(groups)`; one that is named here can be configured."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, Protocol

from agents.config import STEPWISE, TrainConfig
from agents.grpo import GRPO
from agents.optimizer import Optimizer
from agents.ppo import PPO
from agents.sft import SFT
from agents.trajectory import Trajectory


class Learner(Protocol):
    """What trains a model in place."""

    optimizer: Optimizer

    def update(self, groups: Sequence[Sequence[Trajectory]]) -> dict[str, float]:
        """Learn from the trajectories of some tasks; returns figures for the log."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the model's weights: tensors, numbers and containers of them."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        ...


LEARNERS: dict[str, type[Any]] = {"sft": SFT, "grpo": GRPO, "ppo": PPO}


def make_learner(model: Any, config: TrainConfig) -> Learner:
    """Build the learner that a configuration names; arguments are the configuration's fields of the same names."""
    kind = LEARNERS[config.algorithm]
    turns = 1 if config.env == STEPWISE else config.max_turns
    available = {
        **dataclasses.asdict(config),
        "constant_length": config.constant_length or turns * config.max_new_tokens,
        # For the schedule: optimiser steps of the whole run.
        "total_steps": config.steps * config.epochs * config.minibatches,
    }
    if config.algorithm == "sft":
        available["kl_coef"] = config.sft_kl_coef
    names = [name for name in inspect.signature(kind).parameters if name != "model"]
    learner: Learner = kind(model, **{name: available[name] for name in names})
    return learner
