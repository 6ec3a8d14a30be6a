"""Step-aligned MENTOR: every call is aligned with one of the teacher's, with credit in part.

Our own design, after the idea of MENTOR (arXiv 2510.18383); no paper has this form. It answers a fault of the F1
of tool names (`mentor-f1`): after one right call, stopping is worth more there than trying a wrong second one,
0.67 against 0.50, so that a policy learns to stop early.

With s the student's calls of known tools and t the teacher's, both normalised, a call's score against one of the
teacher's is 0 when their names differ, and else name_credit + (1 - name_credit) * (equal arguments) / (arguments
of either). The calls are aligned in order, so that the sum of the scores is largest, and

    share = largest sum / max(|s|, |t|)
    R = 0.7 correct + 0.3 share + 0.1 valid

Up to the teacher's number of calls the denominator is the teacher's, so that one more call never lowers the share;
calls beyond it dilute it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mentor_gym.rewards.base import check_numbers, check_share
from mentor_gym.rewards.matching import MatchCall, aligned_calls, canonical
from mentor_gym.types import CallError, Transcript

# The alignment takes time with the product of both numbers. What lies beyond counts as not aligned.
MAX_CALLS = 256
_INVALID = (CallError.UNKNOWN_TOOL, CallError.MALFORMED)


class StepAlignedReward:
    """Outcome, share of aligned calls, and valid calls; meant for `dense=True`.

    The share is paid for wrong answers as well (`wrong_scale`), so that with `dense=True` each call is paid when
    it is made, before anybody knows the answer. An end without an answer is paid like a wrong answer: what was
    earned by calls is kept. A cut-off episode pays nothing, as with the other rewards of this family, and so
    `dense=True` takes back what it has paid. Valid calls need a call, and neither a malformed one nor one of an
    unknown tool. Where the teacher made no call, making none is agreement in full.

    Args:
        outcome: Weight of a correct answer.
        alignment: Weight of the share.
        validity: Weight of making calls, all of them valid.
        wrong_scale: Factor on the alignment where there is no right answer.
        name_credit: What a call of the teacher's tool is worth before its arguments are looked at, 0 to 1.

    Raises:
        ValueError: A weight is not a finite number, or `name_credit` not from 0 to 1.

    >>> StepAlignedReward().maximum, StepAlignedReward().right_beats_wrong
    (1.1, True)
    """

    def __init__(
        self,
        outcome: float = 0.7,
        alignment: float = 0.3,
        validity: float = 0.1,
        wrong_scale: float = 1.0,
        name_credit: float = 0.5,
    ) -> None:
        check_numbers(outcome=outcome, alignment=alignment, validity=validity, wrong_scale=wrong_scale)
        check_share(name_credit=name_credit)
        self.outcome = outcome
        self.alignment = alignment
        self.validity = validity
        self.wrong_scale = wrong_scale
        self.name_credit = name_credit

    @property
    def maximum(self) -> float:
        """The reward of the teacher's episode, where it calls tools and the weights are positive."""
        right = self.outcome + max(self.alignment, 0.0) + max(self.validity, 0.0)
        return round(max(right, self._best_wrong), 12)

    @property
    def minimum(self) -> float:
        """The smallest reward that an episode can earn; 0 where the weights are positive."""
        right = self.outcome + min(self.alignment, 0.0) + min(self.validity, 0.0)
        wrong = min(self.alignment * self.wrong_scale, 0.0) + min(self.validity, 0.0)
        return round(min(right, wrong, 0.0), 12)

    @property
    def margin(self) -> float:
        """By how much the worst right answer is paid more than the best episode without one."""
        right = self.outcome + min(self.alignment, 0.0) + min(self.validity, 0.0)
        return right - self._best_wrong

    @property
    def right_beats_wrong(self) -> bool:
        """Whether the worst right answer earns more than the best episode without one, with these weights."""
        return self.margin > 0

    @property
    def _best_wrong(self) -> float:
        return max(max(self.alignment * self.wrong_scale, 0.0) + max(self.validity, 0.0), 0.0)

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms `outcome`, `alignment` and `validity`."""
        reason = transcript.stop_reason
        if reason is not None and reason.truncates:
            return {"outcome": 0.0, "alignment": 0.0, "validity": 0.0}
        correct = transcript.is_success
        share = aligned_share(*aligned_calls(transcript), name_credit=self.name_credit)
        return {
            "outcome": self.outcome if correct else 0.0,
            "alignment": share * self.alignment * (1.0 if correct else self.wrong_scale),
            "validity": self.validity if _all_valid(transcript) else 0.0,
        }


def aligned_share(student: Sequence[MatchCall], teacher: Sequence[MatchCall], name_credit: float = 0.5) -> float:
    """Return how much of the larger number of calls is aligned, from 0 to 1; 1 when there are none on both sides.

    Args:
        student: The student's calls, normalised.
        teacher: The teacher's, normalised.
        name_credit: What an equal name is worth by itself.

    >>> power, multiply = ("power", {"base": 3, "exponent": 2}), ("multiply", {"a": 2, "b": 9})
    >>> aligned_share([power], [power, multiply]), aligned_share([power, power], [power, multiply])
    (0.5, 0.5)
    >>> aligned_share([power, ("multiply", {"a": 2, "b": 8})], [power, multiply])
    0.875
    """
    longest = max(len(student), len(teacher))
    if not longest:
        return 1.0
    ours = [(name, _canonical_values(arguments)) for name, arguments in student[:MAX_CALLS]]
    theirs = [(name, _canonical_values(arguments)) for name, arguments in teacher[:MAX_CALLS]]
    return _best_sum(ours, theirs, name_credit) / longest


# A call with its arguments in canonical form, by name.
_Call = tuple[str, dict[str, Any]]


def _best_sum(student: list[_Call], teacher: list[_Call], name_credit: float) -> float:
    # Equal calls at the same end are a pair of some best alignment, for no score is larger than theirs. What
    # follows the teacher is then done without the table.
    start, shorter = 0, min(len(student), len(teacher))
    while start < shorter and student[start] == teacher[start]:
        start += 1
    end = 0
    while end < shorter - start and student[-1 - end] == teacher[-1 - end]:
        end += 1
    wanted = teacher[start : len(teacher) - end]
    # best[j]: of the student's calls so far with the first j of the teacher's.
    best = [0.0] * (len(wanted) + 1)
    for call in student[start : len(student) - end]:
        diagonal = 0.0
        for column, other in enumerate(wanted, start=1):
            paired = diagonal + (_score(call, other, name_credit) if call[0] == other[0] else 0.0)
            diagonal = best[column]
            best[column] = max(diagonal, best[column - 1], paired)
    return start + end + best[-1]


def _score(call: _Call, other: _Call, name_credit: float) -> float:
    """Score two calls of one tool; 1 exactly when they are equal."""
    given, wanted = call[1], other[1]
    names = len(given.keys() | wanted.keys())
    equal = sum(name in given and given[name] == value for name, value in wanted.items())
    return name_credit + (1.0 - name_credit) * (equal / names if names else 1.0)


def _canonical_values(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: canonical(value) for name, value in arguments.items()}


def _all_valid(transcript: Transcript) -> bool:
    errors = [result.error for turn in transcript.turns for result in turn.results]
    return bool(errors) and not any(error in _INVALID for error in errors)
