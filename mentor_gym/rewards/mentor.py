"""The MENTOR reward (arXiv 2510.18383): outcome, agreement with the teacher's tools, valid calls.

After the authors' released code, which documents versions 1 and 2 of the paper. With T the set of the teacher's
tool names, S the set of known tools that the student called, c whether the answer is correct, v whether no call
named an unknown tool, and m = 0.3 when S is not empty and S = T:

- cut off by the turn or token limit: 0
- no answer, or a task whose teacher used no tool: 0.1
- correct: 0.7 + m + 0.1 v, at most 1.1
- wrong: 0.2 m + 0.1 v, at most 0.16
"""

from __future__ import annotations

from mentor_gym.names import nearest
from mentor_gym.rewards.base import check_flags, check_numbers
from mentor_gym.rewards.matching import MATCHERS, student_calls, teacher_calls
from mentor_gym.types import CallError, StopReason, Transcript

_ZERO = {"outcome": 0.0, "alignment": 0.0, "validity": 0.0, "floor": 0.0}


class MentorReward:
    """The teacher-guided composite reward, with its weights and its matcher as arguments.

    The released code has four quirks, reproduced by default and closed by `fix_quirks=True`:

    1. A malformed call does not count as invalid. Fixed: it does.
    2. Validity is earned without making a call. Fixed: it needs at least one call.
    3. A wrong answer after an invalid call (0) pays less than no answer (0.1). Fixed: no answer pays 0.
    4. A task whose teacher used no tool always pays 0.1. Fixed: it pays like any other, with agreement when
       the student used none either.

    On an unfinished transcript it pays what a wrong answer would pay now, so `dense=True` rewards agreement when
    it is reached, and pays the outcome with the answer.

    Args:
        matcher: How calls are compared, a name of `mentor_gym.rewards.matching.MATCHERS`.
        outcome: Weight of a correct answer.
        alignment: Weight of the matcher's share.
        validity: Weight of calling no unknown tool.
        wrong_scale: Factor on the alignment of a wrong answer.
        floor: Paid for no answer.
        fix_quirks: Close the four quirks above.

    Raises:
        ValueError: Unknown matcher, a weight that is not a finite number, or a flag that is none.

    >>> MentorReward().maximum, MentorReward(matcher="none", validity=0.0).maximum
    (1.1, 0.7)
    """

    def __init__(
        self,
        matcher: str = "set",
        outcome: float = 0.7,
        alignment: float = 0.3,
        validity: float = 0.1,
        wrong_scale: float = 0.2,
        floor: float = 0.1,
        fix_quirks: bool = False,
    ) -> None:
        if not isinstance(matcher, str) or matcher not in MATCHERS:
            known = ", ".join(MATCHERS)
            raise ValueError(f"unknown matcher {matcher!r}; known: {known}{nearest(matcher, MATCHERS)}")
        check_numbers(
            outcome=outcome, alignment=alignment, validity=validity, wrong_scale=wrong_scale, floor=floor
        )
        check_flags(fix_quirks=fix_quirks)
        self._match = MATCHERS[matcher]
        self.matcher = matcher
        self.outcome = outcome
        self.alignment = alignment
        self.validity = validity
        self.wrong_scale = wrong_scale
        self.floor = floor
        self.fix_quirks = fix_quirks

    @property
    def maximum(self) -> float:
        """The reward of a correct answer with full agreement and valid calls, where the weights are positive.

        >>> MentorReward().maximum, MentorReward(validity=-0.1).maximum
        (1.1, 1.0)
        """
        alignment = self.alignment if self.matcher != "none" else 0.0
        right = self.outcome + max(alignment, 0.0) + max(self.validity, 0.0)
        wrong = max(alignment * self.wrong_scale, 0.0) + max(self.validity, 0.0)
        return round(max(right, wrong, 0.0 if self.fix_quirks else self.floor, 0.0), 12)

    @property
    def minimum(self) -> float:
        """The smallest reward that an episode can earn, with these weights."""
        alignment = self.alignment if self.matcher != "none" else 0.0
        right = self.outcome + min(alignment, 0.0) + min(self.validity, 0.0)
        wrong = min(alignment * self.wrong_scale, 0.0) + min(self.validity, 0.0)
        return round(min(right, wrong, 0.0 if self.fix_quirks else self.floor, 0.0), 12)

    @property
    def right_beats_wrong(self) -> bool:
        """Whether the worst right answer earns more than the best episode without one, with these weights.

        On tasks whose teacher used a tool; for the others the released code pays every end the same (quirk 4).

        >>> MentorReward().right_beats_wrong, MentorReward(wrong_scale=3.0).right_beats_wrong
        (True, False)
        """
        return self.margin > 0

    @property
    def margin(self) -> float:
        """By how much the worst right answer is paid more than the best episode without one.

        On tasks whose teacher used a tool, like `right_beats_wrong`.
        """
        alignment = self.alignment if self.matcher != "none" else 0.0
        # Agreement and validity can each be absent or there in full, whatever the answer.
        right = self.outcome + min(alignment, 0.0) + min(self.validity, 0.0)
        wrong = max(alignment * self.wrong_scale, 0.0) + max(self.validity, 0.0)
        return right - max(wrong, 0.0 if self.fix_quirks else self.floor, 0.0)

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms `outcome`, `alignment`, `validity` and `floor`."""
        reason = transcript.stop_reason
        if reason is not None and reason.truncates:
            return dict(_ZERO)
        teacher = teacher_calls(transcript.task)
        quirk = not self.fix_quirks
        if reason is StopReason.NO_ANSWER or (not teacher and quirk and reason is not None):
            return {**_ZERO, "floor": self.floor if quirk else 0.0}
        student = student_calls(transcript)
        if student:
            share = self._match(student, teacher, transcript.tools)
        else:
            share = float(not teacher and self.matcher != "none" and not quirk)
        correct = transcript.is_success
        return {
            "outcome": self.outcome if correct else 0.0,
            "alignment": share * self.alignment * (1.0 if correct else self.wrong_scale),
            "validity": self.validity if self._is_valid(transcript) else 0.0,
            "floor": 0.0,
        }

    def _is_valid(self, transcript: Transcript) -> bool:
        any_call = False
        for turn in transcript.turns:
            for result in turn.results:
                any_call = True
                if result.error is CallError.UNKNOWN_TOOL:
                    return False
                if self.fix_quirks and result.error is CallError.MALFORMED:
                    return False
        return any_call or not self.fix_quirks
