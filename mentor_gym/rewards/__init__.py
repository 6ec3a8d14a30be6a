"""Rewards: pure functions of a transcript, by name.

A new reward is one file with a class like `MentorReward` and one line per preset in `PRESETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mentor_gym.names import nearest
from mentor_gym.rewards.base import Reward
from mentor_gym.rewards.mentor import MentorReward
from mentor_gym.rewards.sparse import OutcomeReward


class Preset(NamedTuple):
    """A reward by name.

    Attributes:
        factory: The reward's class, or a function that builds it.
        arguments: What it is built with.
        summary: What it pays, in one line for listings.

    >>> PRESETS["mentor-any"].arguments
    {'matcher': 'any', 'validity': 0.0}
    """

    factory: Callable[..., Reward]
    arguments: dict[str, Any]
    summary: str


# An ablation is a row here, not a file.
PRESETS: dict[str, Preset] = {
    "sparse": Preset(OutcomeReward, {}, "1.0 for a correct answer, 0.1 for a wrong one or none, 0 when cut off"),
    "mentor": Preset(
        MentorReward, {}, "MENTOR: a correct answer, exactly the teacher's set of tools, no unknown tool"
    ),
    "mentor-any": Preset(
        MentorReward,
        {"matcher": "any", "validity": 0.0},
        "a correct answer, and one tool in common with the teacher is agreement enough",
    ),
    "mentor-notool": Preset(
        MentorReward, {"matcher": "none"}, "a correct answer and no unknown tool; the teacher does not count"
    ),
    "mentor-f1": Preset(
        MentorReward, {"matcher": "f1"}, "as mentor, with agreement in part: the F1 of the two sets of tools"
    ),
    "strict": Preset(
        MentorReward,
        {"matcher": "ordered_calls"},
        "as mentor, but agreement is the teacher's very calls, with their arguments and in order",
    ),
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
        raise ValueError(f"unknown reward {name!r}; known: {', '.join(PRESETS)}{nearest(name, PRESETS)}")
    preset = PRESETS[name]
    try:
        return preset.factory(**{**preset.arguments, **options})
    except TypeError as error:
        raise ValueError(f"reward {name!r}: {error}") from None


__all__ = ["PRESETS", "MentorReward", "OutcomeReward", "Preset", "Reward", "make_reward"]
