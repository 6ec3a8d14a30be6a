"""Potential-based shaping (Ng, Harada and Russell, ICML 1999): a bonus that changes no optimal policy.

With a potential Phi of the states, each turn from s to s' is paid F = gamma * Phi(s') - Phi(s) on top of its
reward, where Phi of an ended episode is 0, however it ended. For a learner with the discount gamma the optimal
policies are the same with and without it, and optimal values of actions differ by Phi(s) alone. A bonus that is
paid in any other form, an alignment term among them, has no such promise.
"""

from __future__ import annotations

from typing import Any

from mentor_gym.names import nearest
from mentor_gym.rewards.base import check_share, reward_at
from mentor_gym.rewards.matching import MATCHERS, aligned_calls, student_calls, teacher_calls
from mentor_gym.rewards.schedules import make_schedule
from mentor_gym.rewards.step_aligned import aligned_share
from mentor_gym.types import Transcript

# The matcher "none" is 0 everywhere.
POTENTIALS = ("step-aligned", *(name for name in MATCHERS if name != "none"))
_TERM = "shaping"


class ShapedReward:
    """A reward with potential-based shaping on top; meant for `dense=True`.

    The term `shaping` is the sum of F over the turns so far, times the weight, so that `dense=True` pays F for
    each turn. With gamma 1 it is Phi now, and 0 at the end, where the episode's return is that of the reward
    alone. With a smaller gamma the plain sum is not 0 at the end; the promise holds for returns discounted by the
    same gamma. What the teacher played in the policy's place is paid with the first turn of the policy.

    Args:
        reward: What is shaped, as for `make_reward`. Its terms keep their names.
        potential: Phi, from 0 to 1: `step-aligned` or one of the matchers of `mentor_gym.rewards.matching`, of the
            calls so far against all of the teacher's. 0 before the first call, and where the teacher makes none.
        weight: What Phi is multiplied with: at least 0, a number or a schedule.
        gamma: The learner's discount, 0 to 1. Below 1, a turn takes time with the number of turns before it.

    Raises:
        ValueError: Unknown reward or potential, or a number out of range.

    >>> ShapedReward("sparse").maximum, ShapedReward("mentor", "set").right_beats_wrong
    (1.0, True)
    """

    def __init__(
        self, reward: Any, potential: str = "step-aligned", weight: Any = 1.0, gamma: float = 1.0
    ) -> None:
        # Here, because the registry has this class.
        from mentor_gym.rewards import make_reward

        if not isinstance(potential, str) or potential not in POTENTIALS:
            hint = nearest(potential, POTENTIALS)
            raise ValueError(f"unknown potential {potential!r}; known: {', '.join(POTENTIALS)}{hint}")
        check_share(gamma=gamma)
        self._weights = make_schedule(weight, "weight")
        if self._weights.bounds[0] < 0:
            raise ValueError(f"weight must not be negative, got {weight!r}")
        self._reward = make_reward(reward)
        self.potential = potential
        self.gamma = gamma
        self._hold(0)

    def _hold(self, step: int) -> None:
        self.weight = self._weights(step)
        self.reward = reward_at(self._reward, step)

    def at(self, step: int) -> ShapedReward:
        """Return the same with the weight, and the reward, of a training step."""
        found = ShapedReward.__new__(ShapedReward)
        found._weights, found._reward = self._weights, self._reward
        found.potential, found.gamma = self.potential, self.gamma
        found._hold(step)
        return found

    @property
    def maximum(self) -> float:
        """That of the reward: at the end `shaping` is at most 0. Before, it may add up to the weight."""
        return self.reward.maximum

    @property
    def minimum(self) -> float | None:
        """That of the reward with gamma 1; None below, where long episodes have no bound."""
        return getattr(self.reward, "minimum", None) if self._vanishes else None

    @property
    def margin(self) -> float | None:
        """That of the reward with gamma 1; None below."""
        return getattr(self.reward, "margin", None) if self._vanishes else None

    @property
    def right_beats_wrong(self) -> bool:
        """Whether the reward says so, with gamma 1; below, the promise is about discounted returns."""
        return self._vanishes and bool(getattr(self.reward, "right_beats_wrong", False))

    @property
    def _vanishes(self) -> bool:
        return self.gamma == 1.0 or self.weight == 0.0

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms of the reward, and `shaping`."""
        terms = dict(self.reward(transcript))
        name, number = _TERM, 1
        while name in terms:  # the reward is shaped itself
            number += 1
            name = f"{_TERM}#{number}"
        terms[name] = self.weight * self._shaping(transcript) if self.weight else 0.0
        return terms

    def phi(self, transcript: Transcript) -> float:
        """Return the potential of a transcript, 0 for an ended one."""
        if transcript.stop_reason is not None:
            return 0.0
        teacher = teacher_calls(transcript.task)
        student = student_calls(transcript)
        if not teacher or not student:
            return 0.0
        if self.potential == "step-aligned":
            return aligned_share(*aligned_calls(transcript))
        return MATCHERS[self.potential](student, teacher, transcript.tools)

    def _shaping(self, transcript: Transcript) -> float:
        """Return the sum of F over the turns, which is a telescope but for what gamma leaves of each state.

        Phi before the first turn is 0, so the sum is gamma * Phi(last) - (1 - gamma) * (Phi of all states
        between).
        """
        turns = transcript.turns
        if not turns:
            return 0.0
        between = 0.0
        if self.gamma < 1.0:
            prefixes = (
                Transcript(transcript.task, turns[:length], tools=transcript.tools)
                for length in range(1, len(turns))
            )
            between = sum(map(self.phi, prefixes))
        return self.gamma * self.phi(transcript) - (1.0 - self.gamma) * between
