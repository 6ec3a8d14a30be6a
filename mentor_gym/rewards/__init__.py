"""Rewards: pure functions of a transcript, by name.

A new reward is one file with a class like `MentorReward` and one line per preset in `PRESETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mentor_gym.rewards.base import Reward
from mentor_gym.rewards.mentor import MentorReward
from mentor_gym.rewards.sparse import OutcomeReward

# Preset name -> (class, arguments). An ablation is a row here, not a file.
PRESETS: dict[str, tuple[Callable[..., Reward], dict[str, Any]]] = {
    "sparse": (OutcomeReward, {}),
    "mentor": (MentorReward, {}),
    "mentor-any": (MentorReward, {"matcher": "any", "validity": 0.0}),
    "mentor-notool": (MentorReward, {"matcher": "none"}),
    "mentor-f1": (MentorReward, {"matcher": "f1"}),
    "strict": (MentorReward, {"matcher": "ordered_calls"}),
}


def make_reward(reward: str | dict[str, Any] | Reward) -> Reward:
    """Build a reward from a preset's name, a mapping `{"name": …, **arguments}`, or pass one through.

    Raises:
        ValueError: Unknown name or argument.

    >>> make_reward("mentor").maximum
    1.1
    >>> make_reward({"name": "mentor", "matcher": "multiset"}).maximum
    1.1
    """
    if callable(reward):
        return reward
    if not isinstance(reward, (str, dict)):
        raise ValueError(f"a reward is a name, a mapping with a name, or a function, got {reward!r}")
    options = {"name": reward} if isinstance(reward, str) else dict(reward)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"unknown reward {name!r}; known: {', '.join(PRESETS)}")
    factory, defaults = PRESETS[name]
    try:
        return factory(**{**defaults, **options})
    except TypeError as error:
        raise ValueError(f"reward {name!r}: {error}") from None


__all__ = ["PRESETS", "MentorReward", "OutcomeReward", "Reward", "make_reward"]
