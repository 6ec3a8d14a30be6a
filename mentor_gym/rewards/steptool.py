"""The StepTool reward (arXiv 2410.07745): every call is paid for its success and its contribution.

A call earns α (success + contribution), the last step the verdict: solved, unsure or unsolved. The step form is a
reconstruction. So is the contribution by rule: of a call that succeeded, the longest common subsequence with one
of the teacher's calls of the same tool, as a share of the longer of the two, and 0 below a threshold of 0.3. (The
paper's other contribution, a grade of 0 to 5 by a large model, is left out.)

Adapted to episodes (`normalise=True`): each of the teacher's N calls can be met once, by the first call that meets
it; a call that meets none earns nothing, success included; and α is divided by N. So all calls together earn at
most 2α, however many there are. With `normalise=False` every call is paid in full, as published: calls can then be
made for the sake of calls.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

from mentor_gym.rewards.base import check_flags, check_numbers, check_share
from mentor_gym.rewards.matching import MatchCall, canonical_text, normalise_calls, teacher_calls
from mentor_gym.types import StopReason, Transcript

# Words, numbers and the signs between them, but not those of JSON, which all calls have in common.
_TOKEN = re.compile(r"-?\w+(?:\.\w+)*|[^\w\s\"{}\[\],:]")
_MAX_TOKENS = 2_000


class StepToolReward:
    """Success and contribution of each call, and the verdict at the end.

    With `dense=True` every turn is paid its own: what a call earns depends on it and on the calls before it only.

    Args:
        alpha: Weight of a call. The default keeps all calls of an episode together at half of `solved`.
        threshold: Least share of the longest common subsequence that contributes.
        solved: Paid for a right answer.
        unsure: Paid where no verdict was reached: the episode was cut off.
        unsolved: Paid for a wrong answer or none.
        normalise: The adapted form; False is the published one, which has no largest reward.
        trainer_quirk: Weigh the score of step i of n by n - i - 1, as the released trainer does; the last score,
            the verdict's, then counts 0. There is no largest reward either.

    Raises:
        ValueError: A weight that is not a finite number, a threshold outside 0 to 1, a flag that is none.

    >>> StepToolReward().maximum, StepToolReward(alpha=0.5).maximum
    (1.5, 2.0)
    """

    def __init__(
        self,
        alpha: float = 0.25,
        threshold: float = 0.3,
        solved: float = 1.0,
        unsure: float = 0.0,
        unsolved: float = 0.0,
        normalise: bool = True,
        trainer_quirk: bool = False,
    ) -> None:
        check_numbers(alpha=alpha, solved=solved, unsure=unsure, unsolved=unsolved)
        check_share(threshold=threshold)
        check_flags(normalise=normalise, trainer_quirk=trainer_quirk)
        if alpha < 0:
            raise ValueError(f"alpha must be at least 0, got {alpha!r}")
        self.alpha = alpha
        self.threshold = threshold
        self.solved = solved
        self.unsure = unsure
        self.unsolved = unsolved
        self.normalise = normalise
        self.trainer_quirk = trainer_quirk

    @property
    def maximum(self) -> float:
        """The reward of a right answer after the teacher's calls; infinite where nothing bounds the calls."""
        if not self.normalise or self.trainer_quirk:
            return math.inf
        return 2 * self.alpha + max(self.solved, self.unsure, self.unsolved, 0.0)

    @property
    def minimum(self) -> float:
        """The reward of no call and the worst verdict; minus infinity where the quirk weighs it."""
        worst = min(self.solved, self.unsure, self.unsolved, 0.0)
        return -math.inf if self.trainer_quirk and worst < 0 else worst

    @property
    def margin(self) -> float:
        """By how much the worst right answer earns more than the best episode without one; may be negative."""
        if not self.normalise or self.trainer_quirk:
            return -math.inf
        return self.solved - 2 * self.alpha - max(self.unsure, self.unsolved, 0.0)

    @property
    def right_beats_wrong(self) -> bool:
        """Whether the worst right answer earns more than the best episode without one, with these weights."""
        return self.margin > 0

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms `outcome` (the verdict), `success` and `contribution`."""
        success, contribution, verdict = self._steps(transcript)
        return {
            "outcome": math.fsum(verdict),
            "success": math.fsum(success),
            "contribution": math.fsum(contribution),
        }

    def turn_rewards(self, transcript: Transcript) -> list[float]:
        """Return what each turn earns; their sum is the reward.

        >>> from mentor_gym import MentorToolEnv
        >>> from mentor_gym.testing.transcripts import play_turns, teacher_turns
        >>> env = MentorToolEnv("math", split="test")
        >>> task = next(task for task in env.tasks if task.meta["calls"] == 2)
        >>> StepToolReward().turn_rewards(play_turns(env, task.id, teacher_turns(task)))
        [0.25, 0.25, 1.0]
        """
        return [math.fsum(parts) for parts in zip(*self._steps(transcript))]

    def _steps(self, transcript: Transcript) -> list[list[float]]:
        """Return success, contribution and verdict, each by turn."""
        wanted = normalise_calls(teacher_calls(transcript.task), transcript)
        scale = self.alpha / max(1, len(wanted)) if self.normalise else self.alpha
        left = [(name, _tokens((name, arguments))) for name, arguments in wanted]
        steps: list[list[float]] = [[], [], []]
        for number, turn in enumerate(transcript.turns, start=1):
            given = normalise_calls([(call.name, call.arguments) for call in turn.action.calls], transcript)
            ran = [call for call, result in zip(given, turn.results) if result.ok]
            shares = [self._meet(call, left) for call in ran]
            succeeded = sum(share > 0 or not self.normalise for share in shares)
            verdict = self._verdict(transcript) if number == len(transcript.turns) else 0.0
            weight = float(len(transcript.turns) - number) if self.trainer_quirk else 1.0
            for values, value in zip(steps, (scale * succeeded, scale * math.fsum(shares), verdict)):
                values.append(weight * value)
        return steps

    def _meet(self, call: MatchCall, left: list[tuple[str, tuple[str, ...]]]) -> float:
        """Return the share that a call has of the nearest of the teacher's calls, which is then met."""
        tokens = _tokens(call)
        shares = [common_share(tokens, other) if name == call[0] else 0.0 for name, other in left]
        best = max(shares, default=0.0)
        if best < self.threshold or best == 0:
            return 0.0
        if self.normalise:
            del left[shares.index(best)]
        return best

    def _verdict(self, transcript: Transcript) -> float:
        reason = transcript.stop_reason
        if reason is None or reason is StopReason.ENV_CRASHED:
            return 0.0
        if transcript.is_success:
            return float(self.solved)
        return float(self.unsure if reason.truncates else self.unsolved)


def common_share(one: Sequence[str], other: Sequence[str]) -> float:
    """Length of the longest common subsequence, as a share of the longer one; 1 when both are empty.

    >>> common_share("abcd", "acbd"), common_share("ab", "")
    (0.75, 0.0)
    """
    if one == other:
        return 1.0
    longest = max(len(one), len(other))
    return common_subsequence(one, other) / longest


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, by bits: one addition of a long number for each item of `other`.

    After Hyyrö, "Bit-parallel LCS-length computation revisited" (AWOCA 2004).

    >>> common_subsequence("abcbdab", "bdcaba")
    4
    """
    places: dict[str, int] = {}
    for i, item in enumerate(one):
        places[item] = places.get(item, 0) | 1 << i
    every = (1 << len(one)) - 1
    row = every
    for item in other:
        met = row & places.get(item, 0)
        row = ((row + met) | (row - met)) & every
    return len(one) - row.bit_count()


def _tokens(call: MatchCall) -> tuple[str, ...]:
    name, arguments = call
    # Cut before it is split: arguments may be as long as an action.
    return (name, *_split(canonical_text(arguments)[: 10 * _MAX_TOKENS]))


# The teacher's calls come again in every episode of the task, and with dense=True the student's at every turn.
@lru_cache(maxsize=1_024)
def _split(text: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(text)[:_MAX_TOKENS])
