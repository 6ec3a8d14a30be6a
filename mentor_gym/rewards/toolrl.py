"""The ToolRL reward (arXiv 2504.13958): format, and how far the calls are the gold ones.

After the authors' released code (`rlla.py`): R = R_format + R_correct with R_format in {0, 1} and
R_correct = 6 s / s_max - 3 in [-3, 3], where

- s = J(names) + the sum, over the gold calls, of J(parameter names) + the number of equal values, each gold call
  paired in its turn with the best call of the same name that is still free
- s_max = 1 + the sum, over the gold calls, of 1 + the number of their parameters
- J is the Jaccard index of multisets

No readable call pays -3, and a gold reply without a call 0, whatever was called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mentor_gym.rewards.actions import episode_actions, has_thoughts, is_well_formed
from mentor_gym.rewards.base import check_flags, check_numbers
from mentor_gym.rewards.matching import canonical
from mentor_gym.types import Transcript

# A call to be compared: its name and its arguments.
_Call = tuple[Hashable, Mapping[str, Any]]


class _Match(NamedTuple):
    """The parts of s, and s_max."""

    names: float
    keys: float
    values: float
    most: float


class ToolRLReward:
    """ToolRL over whole episodes: every call of the episode is compared with the teacher's.

    By default the final answer counts as one more gold call whose value is equal when the environment judges the
    answer right, so that the teacher's calls with a wrong answer pay less than with the right one. An episode that
    was cut off, or is not finished, is paid for the calls that it has; it lacks the format and the answer.

    With `outcome=False` and `require_think=True` it is the published form, of a reply without an answer.

    Terms: `format`; `names`, `keys` and `values`, the three parts of s, each times 2·`scale`/s_max; `offset`,
    -`scale`, or 0 where there is no gold call.

    Args:
        scale: R_correct lies between -`scale` and `scale`.
        format_weight: Paid when every turn is well-formed and, with `outcome`, an answer ended the episode.
        outcome: Whether the answer counts as a call.
        require_think: Whether the format asks for `<think>` and `</think>` in every turn.

    Raises:
        ValueError: A weight is not a finite number, `scale` is negative, or another argument is not True or False.

    >>> ToolRLReward().maximum, ToolRLReward().minimum
    (4.0, -3.0)
    """

    def __init__(
        self,
        scale: float = 3.0,
        format_weight: float = 1.0,
        outcome: bool = True,
        require_think: bool = False,
    ) -> None:
        check_numbers(scale=scale, format_weight=format_weight)
        check_flags(outcome=outcome, require_think=require_think)
        if scale < 0:
            raise ValueError(f"scale must not be negative, got {scale!r}")
        self.scale = scale
        self.format_weight = format_weight
        self.outcome = outcome
        self.require_think = require_think

    @property
    def maximum(self) -> float:
        """The reward of the teacher's own calls and a right answer."""
        return self.scale + max(self.format_weight, 0.0)

    @property
    def minimum(self) -> float:
        """The reward of an episode that has nothing in common with the teacher's."""
        return -self.scale + min(self.format_weight, 0.0)

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms `format`, `names`, `keys`, `values` and `offset`."""
        student, teacher = episode_actions(transcript, outcome=self.outcome)
        good = is_well_formed(transcript, ended=self.outcome)
        if self.require_think:
            good = good and has_thoughts(transcript)
        terms = {"format": self.format_weight if good else 0.0}
        if not teacher:
            return {**terms, "names": 0.0, "keys": 0.0, "values": 0.0, "offset": 0.0}
        match = _match(student, teacher)
        unit = 2 * self.scale / match.most
        return {
            **terms,
            "names": unit * match.names,
            "keys": unit * match.keys,
            "values": unit * match.values,
            "offset": -self.scale,
        }


def toolrl_score(student: Sequence[_Call], teacher: Sequence[_Call]) -> float:
    """Return ToolRL's R_correct, from -3 to 3.

    Args:
        student: The predicted calls, each a name and arguments; none when they could not be read.
        teacher: The gold calls.

    >>> gold = [("get_weather", {"city": "Paris", "unit": "C"})]
    >>> toolrl_score(gold, gold), toolrl_score([("get_weather", {"city": "Paris", "unit": "F"})], gold)
    (3.0, 1.5)
    """
    if not teacher:
        return 0.0
    match = _match(student, teacher)
    return 6 * (match.names + match.keys + match.values) / match.most - 3


def _match(student: Sequence[_Call], teacher: Sequence[_Call]) -> _Match:
    if not student:
        return _Match(0.0, 0.0, 0.0, _most(teacher))
    free: dict[Hashable, list[dict[str, Any]]] = {}
    for name, arguments in student:
        free.setdefault(name, []).append({key: canonical(value) for key, value in arguments.items()})
    keys = values = 0.0
    for name, arguments in teacher:
        candidates = free.get(name)
        if not candidates:
            continue
        wanted = {key: canonical(value) for key, value in arguments.items()}
        scores = [_compare(candidate, wanted) for candidate in candidates]
        # The first of equally good ones.
        best = max(range(len(scores)), key=lambda place: sum(scores[place]))
        del candidates[best]
        keys += scores[best][0]
        values += scores[best][1]
    names = _jaccard((name for name, _ in student), (name for name, _ in teacher))
    return _Match(names, keys, values, _most(teacher))


def _most(teacher: Sequence[_Call]) -> float:
    return 1.0 + sum(1 + len(arguments) for _, arguments in teacher)


def _compare(given: dict[str, Any], wanted: dict[str, Any]) -> tuple[float, float]:
    """Return the Jaccard index of the parameter names and the number of equal values."""
    equal = sum(key in given and given[key] == value for key, value in wanted.items())
    return _jaccard(list(given), list(wanted)), float(equal)


def _jaccard(given: Iterable[Hashable], wanted: Iterable[Hashable]) -> float:
    """Return the Jaccard index of two multisets; 1 when both are empty."""
    one, other = Counter(given), Counter(wanted)
    union = (one | other).total()
    return (one & other).total() / union if union else 1.0
