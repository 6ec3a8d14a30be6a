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
    every right answer earns more than any episode without one.
    """

    @property
    def maximum(self) -> float:
        """The largest reward that an episode can earn."""
        ...

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms of the reward."""
        ...


def check_weights(**weights: Any) -> None:
    """Refuse a weight that is not a finite number.

    Raises:
        ValueError: Names the weight.

    >>> check_weights(outcome=0.7)
    >>> check_weights(outcome="high")
    Traceback (most recent call last):
    ValueError: weight outcome must be a finite number, got 'high'
    """
    for name, value in weights.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"weight {name} must be a finite number, got {value!r}")
