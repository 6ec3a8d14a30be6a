"""Outcome reward: the sparse baseline of MENTOR (arXiv 2510.18383)."""

from __future__ import annotations

from mentor_gym.rewards.base import check_numbers
from mentor_gym.types import Transcript


class OutcomeReward:
    """1.0 for a correct answer, 0.1 for a wrong one or none, 0 when cut off; 0 while the episode runs.

    Args:
        correct: Paid for a correct answer.
        wrong: Paid when the policy ends the episode in any other way.

    Raises:
        ValueError: A weight is not a finite number.

    >>> OutcomeReward(wrong=0.0).maximum
    1.0
    """

    def __init__(self, correct: float = 1.0, wrong: float = 0.1) -> None:
        check_numbers(correct=correct, wrong=wrong)
        self.correct = correct
        self.wrong = wrong

    @property
    def maximum(self) -> float:
        """The reward for a correct answer."""
        return max(self.correct, self.wrong, 0.0)

    @property
    def minimum(self) -> float:
        """The smallest reward that an episode can earn."""
        return min(self.correct, self.wrong, 0.0)

    @property
    def margin(self) -> float:
        """By how much a right answer is paid more than the best episode without one."""
        return self.correct - max(self.wrong, 0.0)

    @property
    def right_beats_wrong(self) -> bool:
        """Whether a right answer earns more than any episode without one, with these weights."""
        return self.margin > 0

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms `outcome` (correct) and `floor` (an end without success)."""
        reason = transcript.stop_reason
        if reason is None or reason.truncates:
            return {"outcome": 0.0, "floor": 0.0}
        if transcript.is_success:
            return {"outcome": self.correct, "floor": 0.0}
        return {"outcome": 0.0, "floor": self.wrong}
