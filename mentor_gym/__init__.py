"""Gymnasium environments for tool use, with teacher-guided rewards.

Importing this package registers its environments: `gym.make("MentorTool-v0")`.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from mentor_gym.env import MentorToolEnv
from mentor_gym.suites import EXTRA_SUITES, SUITES
from mentor_gym.types import StopReason, Task, ToolCall, ToolResult, Transcript, Turn
from mentor_gym.vector import MentorToolVectorEnv
from mentor_gym.wrappers import RewardWrapper, SparseReward, TeacherGuidedReward

__version__ = "0.1.0"


def make_env(reward: Any = "mentor", dense: bool = False, **kwargs: Any) -> gym.Env[str, str]:
    """Build a `MentorToolEnv` with its reward wrapper; the entry point of every registered id.

    Args:
        reward: A preset's name, `{"name": …, **arguments}`, or None for the environment's own 1.0 / 0.0.
        dense: Pay every turn instead of at the end.
        **kwargs: Arguments of `MentorToolEnv`.

    >>> env = make_env("sparse", suite="math", split="test")
    >>> observation, info = env.reset(seed=0)
    >>> answer = env.unwrapped.task.answer
    >>> observation, reward, terminated, truncated, info = env.step(f"<answer>{answer}</answer>")
    >>> reward, terminated, info["reward_terms"]
    (1.0, True, {'outcome': 1.0, 'floor': 0.0})
    """
    env = MentorToolEnv(**kwargs)
    return env if reward is None else RewardWrapper(env, reward, dense)


# gym.make looks here for the render modes of an entry point.
make_env.metadata = MentorToolEnv.metadata  # type: ignore[attr-defined]

# The environment says itself when reset() is due, and set_state() may stand in for reset(), which the order
# enforcement and the passive checker do not know. What they check is checked in full by `mentor_gym.testing`.
_BARE: dict[str, Any] = {
    "order_enforce": False,
    "disable_env_checker": True,
    "vector_entry_point": "mentor_gym:MentorToolVectorEnv",
}

gym.register("MentorTool-v0", entry_point="mentor_gym:make_env", **_BARE)
for _suite in (*SUITES, *EXTRA_SUITES):
    gym.register(
        f"MentorTool-{_suite.title()}-v0", entry_point="mentor_gym:make_env", kwargs={"suite": _suite}, **_BARE
    )

# One turn an episode, behind a teacher's first ones; not a `MentorToolEnv`, and made into vectors by Gymnasium.
gym.register(
    "MentorStepwise-v0",
    entry_point="mentor_gym.stepwise:StepwiseExpert",
    order_enforce=False,
    disable_env_checker=True,
)

__all__ = [
    "MentorToolEnv",
    "MentorToolVectorEnv",
    "RewardWrapper",
    "SparseReward",
    "StopReason",
    "Task",
    "TeacherGuidedReward",
    "ToolCall",
    "ToolResult",
    "Transcript",
    "Turn",
    "make_env",
]
