"""Reward wrappers: the environment judges, the wrapper pays."""

from __future__ import annotations

import copy
import math
import traceback
from typing import Any, Self

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from mentor_gym.env import MentorToolEnv
from mentor_gym.rewards import make_reward
from mentor_gym.rewards.base import Reward, check_count, check_flags, reward_at
from mentor_gym.types import Transcript

_MAX_ERROR_CHARS = 500


class RewardWrapper(gym.Wrapper[str, str, str, str], RecordConstructorArgs):
    """Replace the environment's reward by a function of the transcript.

    `info["reward_terms"]` holds the terms on every end, truncation included. With `dense=True` every turn pays
    the change of the reward since the turn before (since 0, on the first), so both forms have the same return.
    A reward that raises or is not finite pays 0 for that step and sets `info["reward_error"]`. The wrapper has no
    state of its own but the training step (`set_training_step`): around an environment that was given one by
    `set_state`, it pays what it would have paid.

    Args:
        env: A `MentorToolEnv`, possibly wrapped.
        reward: A preset's name, `{"name": …, **arguments}`, or any `Reward`.
        dense: Pay every turn instead of at the end.

    Raises:
        ValueError: Unknown reward, `env` is not a `MentorToolEnv`, or `dense` is not True or False.

    Example:
        >>> import gymnasium as gym, mentor_gym
        >>> from mentor_gym.wrappers import RewardWrapper
        >>> env = RewardWrapper(gym.make("MentorTool-v0", reward=None), reward="sparse")
        >>> _ = env.reset(seed=0)
        >>> env.step("<answer>no idea</answer>")[1]
        0.1
    """

    def __init__(self, env: gym.Env[str, str], reward: Any = "mentor", dense: bool = False) -> None:
        RecordConstructorArgs.__init__(self, reward=reward, dense=dense)
        gym.Wrapper.__init__(self, env)
        base = env.unwrapped
        if not isinstance(base, MentorToolEnv):
            raise ValueError(f"RewardWrapper needs a MentorToolEnv, got {type(base).__name__}")
        check_flags(dense=dense)
        self._base = base
        base.terms_follow = True
        self._scheduled: Reward = make_reward(reward)
        self.reward: Reward = reward_at(self._scheduled, 0)
        self.dense = dense
        # What was paid for which transcript, up to which turn.
        self._paid = 0.0
        self._paid_for: tuple[Transcript | None, int] = (None, 0)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play a turn and pay for it; the first turn played is paid with what `teacher_turns` replayed."""
        observation, _, terminated, truncated, info = self.env.step(action)
        ended = terminated or truncated
        if not ended and not self.dense:
            return observation, 0.0, terminated, truncated, info
        before = self._paid_before() if self.dense else 0.0
        total, terms = self._evaluate(self._base.transcript, info, before)
        if ended:
            info["reward_terms"] = terms
            self._base.reward_terms = terms
            if self._base.render_mode == "human":
                self._base.render()
        self._paid = total
        self._paid_for = (self._base.transcript, len(self._base.transcript.turns))
        return observation, total - before, terminated, truncated, info

    def set_training_step(self, step: int) -> None:
        """Pay what the reward pays at a training step; a reward without a schedule pays the same at every one.

        It holds until the next call, over resets too, and copies and clones have it. In the middle of an episode
        with `dense=True` the next turn also pays the difference for the turns before, so that the return is what
        the reward pays at the step at which the episode ends. Through other wrappers it is
        `env.get_wrapper_attr("set_training_step")(step)`, in a vector `envs.call("set_training_step", step)`.

        Args:
            step: Training steps done so far, 0 for the first.

        Raises:
            ValueError: It is not a whole number of at least 0.

        >>> import gymnasium as gym
        >>> weight = {"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 10}
        >>> terms = [{"reward": "sparse", "weight": weight}]
        >>> env = gym.make("MentorTool-v0", reward={"name": "sum", "terms": terms})
        >>> env.get_wrapper_attr("set_training_step")(5)
        >>> _ = env.reset(seed=0)
        >>> env.step("<answer>no idea</answer>")[1]
        0.05
        """
        check_count(step=step)
        self.reward = reward_at(self._scheduled, step)

    def clone(self) -> Self:
        """Return an independent copy of the environment and its reward, with the same future."""
        return copy.deepcopy(self)

    def _paid_before(self) -> float:
        """Return what the turns before the last one earned; after `set_state` it is computed anew."""
        transcript = self._base.transcript
        turns = len(transcript.turns) - 1
        if self._paid_for[0] is transcript and self._paid_for[1] == turns:
            return self._paid
        # A turn at which the reward broke paid nothing: then what was earned up to the turn before counts.
        while turns > self._base.replayed:
            info: dict[str, Any] = {}
            before = Transcript(transcript.task, transcript.turns[:turns], tools=transcript.tools)
            total, _ = self._evaluate(before, info, 0.0)
            if not info:
                return total
            turns -= 1
        return 0.0

    def _evaluate(
        self, transcript: Transcript, info: dict[str, Any], otherwise: float
    ) -> tuple[float, dict[str, float]]:
        try:
            terms = self.reward(transcript)
            total = float(sum(terms.values()))
            if math.isfinite(total):
                return total, {str(name): float(value) for name, value in terms.items()}
            info["reward_error"] = f"the reward is {total}"
        except Exception as error:
            # One broken reward must not lose a run of thousands of episodes; info says that it happened.
            # Not str(error), which is the user's code too.
            info["reward_error"] = traceback.format_exception_only(error)[-1].strip()[:_MAX_ERROR_CHARS]
        return otherwise, {}


class SparseReward(RewardWrapper):
    """Outcome only: 1.0 correct, 0.1 wrong or no answer, 0 cut off.

    Args:
        env: A `MentorToolEnv`, possibly wrapped.
        dense: As for `RewardWrapper`; an outcome comes only at the end, so it changes nothing.

    >>> SparseReward(MentorToolEnv("math")).reward.maximum
    1.0
    """

    def __init__(self, env: gym.Env[str, str], dense: bool = False) -> None:
        # The first record counts: RewardWrapper's own names arguments that this class does not have.
        RecordConstructorArgs.__init__(self, dense=dense)
        super().__init__(env, "sparse", dense)


class TeacherGuidedReward(RewardWrapper):
    """The MENTOR composite: outcome, agreement with the teacher's tools, valid calls.

    Args:
        env: A `MentorToolEnv`, possibly wrapped.
        matcher: `"set"` is MENTOR; the ladder is none, any, f1, set, multiset, ordered_names, calls,
            ordered_calls.
        dense: Pay every turn instead of at the end.
        **weights: Further arguments of `mentor_gym.rewards.MentorReward`.

    >>> TeacherGuidedReward(MentorToolEnv("math"), matcher="f1", validity=0.0).reward.maximum
    1.0
    """

    def __init__(self, env: gym.Env[str, str], matcher: str = "set", dense: bool = False, **weights: Any) -> None:
        RecordConstructorArgs.__init__(self, matcher=matcher, dense=dense, **weights)
        super().__init__(env, {"name": "mentor", "matcher": matcher, **weights}, dense)
