"""The reward wrappers: payment, broken rewards, and their place in Gymnasium's stack."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import pytest
from conftest import answer, call, play

import mentor_gym
from mentor_gym import RewardWrapper, SparseReward, TeacherGuidedReward
from mentor_gym.types import Transcript

POWER, MULTIPLY, RIGHT = call("power", base=3, exponent=2), call("multiply", a=2, b=9), answer(18)


class Broken:
    """A reward that breaks from the given turn on."""

    maximum = 1.0

    def __init__(self, value: Any, from_turn: int = 0) -> None:
        self.value = value
        self.from_turn = from_turn

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return 0.25 a turn, then break."""
        if len(transcript.turns) <= self.from_turn:
            return {"turns": 0.25 * len(transcript.turns)}
        if isinstance(self.value, Exception):
            raise self.value
        return {"turns": self.value}


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (ZeroDivisionError("oh"), "ZeroDivisionError: oh"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        ("1", "TypeError"),
        (None, "TypeError"),
    ],
)
def test_41_a_broken_reward_pays_nothing_and_says_so(suite: str, value: Any, words: str, dense: bool) -> None:
    environment = gym.make("MentorTool-v0", suite=suite, reward=None)
    environment = RewardWrapper(environment, Broken(value), dense)
    end = play(environment, [POWER, RIGHT])
    assert end["rewards"] == [0.0, 0.0]
    assert words in end["info"]["reward_error"]
    assert end["info"]["reward_terms"] == {}
    assert end["info"]["is_success"]
    assert end["terminated"]


def test_41_a_reward_that_breaks_late_keeps_what_was_paid(suite: str) -> None:
    environment = RewardWrapper(mentor_gym.MentorToolEnv(suite), Broken(math.nan, from_turn=2), dense=True)
    end = play(environment, [POWER, MULTIPLY, RIGHT])
    assert end["rewards"] == [0.25, 0.25, 0.0]
    assert "reward_error" in end["info"]


def test_terms_come_at_every_end_and_only_there(suite: str) -> None:
    for dense in (False, True):
        environment = gym.make("MentorTool-v0", suite=suite, max_turns=2, dense=dense)
        environment.reset(options={"task_id": "both"})
        assert "reward_terms" not in environment.step(POWER)[4]
        assert set(environment.step(RIGHT)[4]["reward_terms"]) == {"outcome", "alignment", "validity", "floor"}
        end = play(environment, [POWER, POWER])
        assert end["truncated"]
        assert set(end["info"]["reward_terms"].values()) == {0.0}


def test_payment_starts_anew_with_every_episode(suite: str) -> None:
    environment = gym.make("MentorTool-v0", suite=suite, dense=True)
    first = play(environment, [POWER, MULTIPLY])["rewards"]
    # Reset in the middle of an episode: nothing that was paid is held against the next one.
    assert play(environment, [POWER, MULTIPLY])["rewards"] == first
    assert play(environment, [POWER, MULTIPLY, RIGHT])["rewards"][:2] == first


def test_success_does_not_depend_on_the_reward(suite: str) -> None:
    for reward in (None, "sparse", "mentor", {"name": "mentor", "outcome": 0.0}):
        environment = gym.make("MentorTool-v0", suite=suite, reward=reward)
        assert play(environment, [RIGHT])["info"]["is_success"] is True
        assert play(environment, [answer(1)])["info"]["is_success"] is False


@pytest.mark.parametrize(
    ("wrapper", "kwargs", "expected"),
    [
        (SparseReward, {}, 1.0),
        (SparseReward, {"dense": True}, 1.0),
        (TeacherGuidedReward, {}, 0.8),
        (TeacherGuidedReward, {"matcher": "f1", "dense": True}, 1.0),
        (TeacherGuidedReward, {"matcher": "any", "validity": 0.0, "fix_quirks": True}, 1.0),
        (RewardWrapper, {"reward": {"name": "mentor", "matcher": "none"}}, 0.8),
    ],
)
def test_wrappers_rebuild_from_their_spec(
    suite: str, wrapper: Any, kwargs: dict[str, Any], expected: float
) -> None:
    environment = wrapper(gym.make("MentorTool-v0", suite=suite, reward=None), **kwargs)
    assert environment.spec is not None
    rebuilt = gym.make(environment.spec)
    assert type(rebuilt) is wrapper
    for item in (environment, rebuilt):
        assert sum(play(item, [POWER, RIGHT])["rewards"]) == pytest.approx(expected)


def test_wrappers_of_gymnasium_go_around(suite: str) -> None:
    environment = gym.wrappers.RecordEpisodeStatistics(gym.make("MentorTool-v0", suite=suite, dense=True))
    end = play(environment, [POWER, MULTIPLY, RIGHT])
    assert end["info"]["episode"]["l"] == 3
    assert end["info"]["episode"]["r"] == pytest.approx(1.1)


def test_only_our_environment_can_be_wrapped() -> None:
    with pytest.raises(ValueError, match="needs a MentorToolEnv, got CartPoleEnv"):
        RewardWrapper(gym.make("CartPole-v1"))
