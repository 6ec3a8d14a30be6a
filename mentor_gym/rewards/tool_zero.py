"""The Tool Zero reward (arXiv 2511.01934), a reconstruction: from a general to a strict reward, by training step.

R(t) = R_format + σ(t) r_strict + (1 - σ(t)) r_general with σ(t) = sigmoid(κ (t - m)), t the training step:

- r_general = -0.5 + |Y ∩ Y*| / |Y*| on tokens split at delimiters, from -0.5 to 0.5
- r_strict = 1 when the calls are the gold ones, else 0; 0.3 more where several were asked for, 0.3 less where
  names and parameters are right and a value is wrong

A reconstruction from a summary of the paper. The scale of R_format, κ, m, the delimiters and which strict parts go
together were not found, and the sign of the penalty is our reading; all are arguments or said below.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Self

from mentor_gym.rewards.actions import (
    ANSWER,
    NamedAction,
    episode_actions,
    has_thoughts,
    is_well_formed,
)
from mentor_gym.rewards.base import check_count, check_flags, check_numbers
from mentor_gym.rewards.matching import canonical
from mentor_gym.rewards.schedules import make_schedule
from mentor_gym.types import Transcript

_DELIMITERS = re.compile(r"""[\s{}\[\]()"',:;=]+""")


class ToolZeroReward:
    """Tool Zero over whole episodes, at one training step; `at` gives the reward of another step.

    By default the final answer is one more action beside the calls: its tokens count as found, and its value as
    equal, when the environment judges it right. Several actions were then asked for wherever the teacher called a
    tool. Tokens are those of the names, the parameters and the values of the calls, each found as what it is and
    as often as it stands there, so that consistent renaming changes nothing. An episode that was cut off, or is
    not finished, has no format and is paid in r_general for the calls that it has.

    With `outcome=False` and `require_think=True` it is the published form, of a reply without an answer; a gold
    reply without a call then counts as found in full when nothing was called.

    The defaults of `midpoint` and `rate` suit runs of 60 steps: σ is 0.0025 at step 0, a half at step 30 and
    0.9975 at step 60. For n steps take a midpoint of n/2 and a rate of 12/n.

    Terms: `format`, `strict` (σ r_strict) and `general` ((1 - σ) r_general).

    Args:
        midpoint: m, the training step at which both count the same.
        rate: κ, how fast it goes over.
        format_weight: Paid when every turn is well-formed and, with `outcome`, an answer ended the episode.
        multi_bonus: Paid on top of 1 when several actions were asked for and all are right.
        value_penalty: Taken when names and parameters are right and a value is wrong.
        outcome: Whether the answer counts as an action.
        require_think: Whether the format asks for `<think>` and `</think>` in every turn.
        step: The training step of this reward.

    Raises:
        ValueError: A number is not finite, the step is not a whole number from 0, or a flag is not True or False.

    >>> reward = ToolZeroReward(midpoint=100, rate=0.05)
    >>> [round(reward.at(step).strictness, 4) for step in (0, 50, 100, 150, 200)]
    [0.0067, 0.0759, 0.5, 0.9241, 0.9933]
    """

    def __init__(
        self,
        midpoint: float = 30.0,
        rate: float = 0.2,
        format_weight: float = 1.0,
        multi_bonus: float = 0.3,
        value_penalty: float = 0.3,
        outcome: bool = True,
        require_think: bool = False,
        step: int = 0,
    ) -> None:
        check_numbers(midpoint=midpoint, rate=rate, format_weight=format_weight)
        check_numbers(multi_bonus=multi_bonus, value_penalty=value_penalty)
        check_flags(outcome=outcome, require_think=require_think)
        check_count(step=step)
        self.midpoint = midpoint
        self.rate = rate
        self.format_weight = format_weight
        self.multi_bonus = multi_bonus
        self.value_penalty = value_penalty
        self.outcome = outcome
        self.require_think = require_think
        self.step = step
        self._strictness = make_schedule({"schedule": "sigmoid", "midpoint": midpoint, "rate": rate})

    @property
    def strictness(self) -> float:
        """The share of r_strict at this step, σ(t)."""
        return self._strictness(self.step)

    @property
    def maximum(self) -> float:
        """The reward, at this step, of all that was asked for, where several actions were."""
        strict = max(1.0, 1.0 + self.multi_bonus, -self.value_penalty)
        return max(self.format_weight, 0.0) + self.strictness * strict + (1 - self.strictness) * 0.5

    @property
    def minimum(self) -> float:
        """No episode earns less, at this step."""
        strict = min(0.0, 1.0 + self.multi_bonus, -self.value_penalty)
        return min(self.format_weight, 0.0) + self.strictness * strict - (1 - self.strictness) * 0.5

    def at(self, step: int) -> Self:
        """Return the reward of a training step; this one stays as it is.

        Raises:
            ValueError: The step is not a whole number from 0.
        """
        check_count(step=step)
        other = copy.copy(self)
        other.step = step
        return other

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms `format`, `strict` and `general`."""
        student, teacher = episode_actions(transcript, outcome=self.outcome)
        good = is_well_formed(transcript, ended=self.outcome)
        if self.require_think:
            good = good and has_thoughts(transcript)
        share = self.strictness
        gold_answer = transcript.task.answer if self.outcome else ""
        return {
            "format": self.format_weight if good else 0.0,
            "strict": share * self._strict(student, teacher),
            "general": (1 - share) * general_score(student, teacher, gold_answer),
        }

    def _strict(self, student: Sequence[NamedAction], teacher: Sequence[NamedAction]) -> float:
        if _forms(student) == _forms(teacher):
            return 1.0 + (self.multi_bonus if len(teacher) > 1 else 0.0)
        return -self.value_penalty if _shapes(student) == _shapes(teacher) else 0.0


def general_score(student: Sequence[NamedAction], teacher: Sequence[NamedAction], answer: str = "") -> float:
    """Return r_general = -0.5 + |Y ∩ Y*| / |Y*|, from -0.5 to 0.5; Y and Y* are multisets of tokens.

    Args:
        student: The calls, each a name and arguments, and perhaps the answer, as `episode_actions` returns them.
        teacher: The gold ones.
        answer: The gold answer, which has the tokens of the action `ANSWER`.

    >>> gold = [("get", {"city": "New York"})]
    >>> general_score([("find", {"city": "York"})], gold)
    0.0
    """
    wanted = Counter(_tokens(teacher, answer))
    if not wanted:
        return 0.5 if not student else -0.5
    found = Counter(_tokens(student, answer)) & wanted
    return found.total() / wanted.total() - 0.5


def _tokens(actions: Sequence[NamedAction], answer: str) -> Iterator[tuple[str, Hashable]]:
    for name, arguments in actions:
        if name is ANSWER:
            # All or nothing: a right answer in other words is as right, and half of a wrong one is worth nothing.
            if arguments["text"]:
                yield from (("answer", place) for place in range(max(1, len(_split(answer)))))
            continue
        yield "name", name
        for key, value in arguments.items():
            yield "parameter", key
            yield from (("value", token) for token in _read(value))


def _read(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _split(value)
    elif isinstance(value, list):
        for item in value:
            yield from _read(item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _split(key)
            yield from _read(item)
    else:
        yield json.dumps(value)


def _split(text: str) -> list[str]:
    return [token for token in _DELIMITERS.split(text) if token]


def _forms(actions: Sequence[NamedAction]) -> Counter[tuple[Hashable, Any]]:
    return Counter((name, canonical(arguments)) for name, arguments in actions)


def _shapes(actions: Sequence[NamedAction]) -> Counter[tuple[Hashable, frozenset[str]]]:
    return Counter((name, frozenset(arguments)) for name, arguments in actions)
