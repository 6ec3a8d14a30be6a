"""Sums of rewards, with weights that may change with the training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mentor_gym.names import nearest
from mentor_gym.rewards.base import Reward, reward_at
from mentor_gym.rewards.schedules import Schedule, make_schedule
from mentor_gym.types import Transcript

_KEYS = ("reward", "weight")


class SumReward:
    """The weighted sum of rewards.

    Its terms are the parts' terms times the part's weight, named `<name of the part>/<term>`. A part that is given
    as an object is named by its class, and a function by its own name. Of two parts of one name the second is
    `<name>#2`.

    As it stands in YAML:

        reward:
          name: sum
          terms:
            - {reward: mentor}
            - {reward: {name: length, free: 4}, weight: {schedule: linear, start: 0, end: 0.2, steps: 60}}

    Args:
        terms: The parts: mappings with `reward`, as for `make_reward`, and `weight`, a number or a schedule (see
            `mentor_gym.rewards.schedules`); 1 when left out.

    Raises:
        ValueError: Names the part and what is wrong with it. A weight may be negative where the part says its
            `minimum`; without one nothing would bound the sum.

    >>> reward = SumReward([{"reward": "mentor"}, {"reward": {"name": "length", "free": 2}, "weight": 0.1}])
    >>> from mentor_gym.suites import load_suite
    >>> list(reward(Transcript(load_suite("math").tasks("test")[0])))[-2:]
    ['mentor/floor', 'length/length']
    """

    def __init__(self, terms: Sequence[dict[str, Any]]) -> None:
        if not isinstance(terms, (list, tuple)) or not terms:
            raise ValueError(f"terms must be a list of mappings with a reward and a weight, got {terms!r}")
        names: dict[str, int] = {}
        parts = []
        for number, term in enumerate(terms, start=1):
            reward, weight, name = _read(term, f"term {number}")
            names[name] = names.get(name, 0) + 1
            parts.append((f"{name}#{names[name]}" if names[name] > 1 else name, reward, weight))
        self._hold(tuple(parts), 0)

    def _hold(self, parts: tuple[tuple[str, Reward, Schedule], ...], step: int) -> None:
        self._parts = parts
        self._now = [(name, reward_at(reward, step), weight(step)) for name, reward, weight in parts]

    def at(self, step: int) -> SumReward:
        """Return the sum with the weights, and the parts, of a training step."""
        found = SumReward.__new__(SumReward)
        found._hold(self._parts, step)
        return found

    @property
    def weights(self) -> dict[str, float]:
        """The weights of this step by the names of the parts."""
        return {name: weight for name, _, weight in self._now}

    @property
    def maximum(self) -> float:
        """What no episode can exceed: the parts' bounds added up."""
        return round(sum(_most(reward, weight) for _, reward, weight in self._now), 12)

    @property
    def minimum(self) -> float | None:
        """What no episode can fall below; None where a part does not say."""
        least = [_least(reward, weight) for _, reward, weight in self._now]
        return None if None in least else round(sum(value for value in least if value is not None), 12)

    @property
    def margin(self) -> float:
        """By how much, at least, a right answer is paid more than any episode without one; may be negative."""
        return sum(_margin(reward, weight) for _, reward, weight in self._now)

    @property
    def right_beats_wrong(self) -> bool:
        """Whether the parts' margins say so when they are added up.

        >>> length = {"reward": "length", "weight": 0.5}
        >>> SumReward([{"reward": "mentor"}, length]).right_beats_wrong
        True
        >>> SumReward([{"reward": "mentor"}, {**length, "weight": 0.6}]).right_beats_wrong
        False
        """
        # Parts that say True without a margin add 0 to it, and strictly more than 0 to the difference.
        strict = any(
            weight > 0 and _own_margin(reward) is None and getattr(reward, "right_beats_wrong", False)
            for _, reward, weight in self._now
        )
        return self.margin > 1e-9 or (strict and self.margin >= 0)

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms of every part times its weight."""
        return {
            f"{name}/{term}": weight * value
            for name, reward, weight in self._now
            for term, value in reward(transcript).items()
        }


def _read(term: Any, where: str) -> tuple[Reward, Schedule, str]:
    # Here, because the registry has this class.
    from mentor_gym.rewards import make_reward

    if not isinstance(term, dict) or "reward" not in term:
        raise ValueError(f"{where} must be a mapping with the key 'reward', got {term!r}")
    for key in term:
        if key not in _KEYS:
            raise ValueError(f"{where} has no key {key!r}; its keys are {', '.join(_KEYS)}{nearest(key, _KEYS)}")
    given = term["reward"]
    try:
        reward = make_reward(given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    weight = make_schedule(term.get("weight", 1.0), f"{where}: weight")
    if weight.bounds[0] < 0 and getattr(reward, "minimum", None) is None:
        raise ValueError(f"{where}: a negative weight needs a reward that says its minimum")
    if isinstance(given, dict):
        given = given["name"]
    name = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
    return reward, weight, name


def _least(reward: Reward, weight: float) -> float | None:
    if weight == 0:
        return 0.0
    bound = reward.maximum if weight < 0 else getattr(reward, "minimum", None)
    return None if bound is None else weight * bound


def _most(reward: Reward, weight: float) -> float:
    if weight == 0:
        return 0.0  # of a reward without a largest value too
    if weight > 0:
        return weight * reward.maximum
    # Said when the sum was made, but the form of a later step may have none.
    minimum = getattr(reward, "minimum", None)
    return float("inf") if minimum is None else weight * float(minimum)


def _own_margin(reward: Reward) -> float | None:
    margin: float | None = getattr(reward, "margin", None)
    return margin


def _margin(reward: Reward, weight: float) -> float:
    margin = _own_margin(reward)
    if weight > 0 and margin is not None:
        return weight * margin
    if weight > 0 and getattr(reward, "right_beats_wrong", False):
        return 0.0
    least = _least(reward, weight)
    return float("-inf") if least is None else least - _most(reward, weight)
