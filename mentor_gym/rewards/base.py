"""What a reward is."""

from __future__ import annotations

import math
from typing import Any, Protocol

from mentor_gym.types import Transcript


class Reward(Protocol):
    """A pure function of a transcript: named terms whose sum is the reward.

    It is defined on unfinished transcripts too (`stop_reason` None), so that `dense=True` can pay each turn the
    change that it made. The terms have the same names for every transcript.

    A reward may have two attributes more, which `mentor_gym.testing.check_reward` then holds it to: `minimum`, the
    smallest reward that an episode can earn, and `right_beats_wrong`, True when on tasks whose teacher used a tool
    every right answer earns more than any episode without one. `margin` says by how much, at least, and may be
    negative; sums of rewards add it up.

    A reward whose form depends on the training step has a method `at(step: int) -> Reward`, which is pure, may be
    asked of what it returned, and gives the reward of that step; called itself, the object pays what step 0 pays.
    See `reward_at`, and `RewardWrapper.set_training_step`, which switches.
    """

    @property
    def maximum(self) -> float:
        """The largest reward that an episode can earn."""
        ...

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms of the reward."""
        ...


def is_finite_number(value: Any) -> bool:
    """Whether a value is a number that a float can hold; True and False are none.

    >>> [is_finite_number(value) for value in (2, -0.5, True, "2", float("nan"), 10**400)]
    [True, True, False, False, False, False]
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def check_numbers(**numbers: Any) -> None:
    """Refuse what is not a finite number.

    Raises:
        ValueError: Names the argument.

    >>> check_numbers(outcome=0.7)
    >>> check_numbers(outcome="high")
    Traceback (most recent call last):
    ValueError: outcome must be a finite number, got 'high'
    """
    for name, value in numbers.items():
        if not is_finite_number(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")


def check_flags(**flags: Any) -> None:
    """Refuse an argument that is neither True nor False.

    Raises:
        ValueError: Names the argument.

    >>> check_flags(outcome=True)
    >>> check_flags(outcome="yes")
    Traceback (most recent call last):
    ValueError: outcome must be True or False, got 'yes'
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")


def check_share(**shares: Any) -> None:
    """Refuse what is not a number from 0 to 1.

    Raises:
        ValueError: Names the argument.

    >>> check_share(gamma=1.5)
    Traceback (most recent call last):
    ValueError: gamma must be a number from 0 to 1, got 1.5
    """
    for name, value in shares.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")


def check_count(least: int = 0, **counts: Any) -> None:
    """Refuse what is not a whole number of at least `least`.

    Raises:
        ValueError: Names the argument.

    >>> check_count(free=-1)
    Traceback (most recent call last):
    ValueError: free must be a whole number of at least 0, got -1
    """
    for name, value in counts.items():
        if type(value) is not int or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def reward_at(reward: Reward, step: int) -> Reward:
    """Return the reward of a training step: the same one, unless its form depends on the step.

    >>> from mentor_gym.rewards import make_reward
    >>> weight = {"schedule": "linear", "start": 0, "end": 1, "steps": 10}
    >>> reward = make_reward({"name": "sum", "terms": [{"reward": "sparse", "weight": weight}]})
    >>> reward.maximum, reward_at(reward, 5).maximum
    (0.0, 0.5)
    """
    at = getattr(reward, "at", None)
    return reward if at is None else at(step)
