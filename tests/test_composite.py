"""Rewards that change with the training step, added up, and penalties."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import gymnasium as gym
import pytest
from conftest import answer, call, play

import mentor_gym
from mentor_gym import RewardWrapper
from mentor_gym.rewards import PRESETS, TERMS, make_reward
from mentor_gym.rewards.base import reward_at
from mentor_gym.rewards.schedules import make_schedule
from mentor_gym.testing import check_reward
from mentor_gym.types import Transcript

POWER, MULTIPLY, ADD = call("power", base=3, exponent=2), call("multiply", a=2, b=9), call("add", a=1, b=2)
RIGHT, WRONG = answer(18), answer(17)


def transcript_of(suite: str, turns: list[str], max_turns: int = 8) -> Transcript:
    """Play turns on the bare environment and return what it recorded."""
    environment = mentor_gym.MentorToolEnv(suite, max_turns=max_turns)
    play(environment, turns)
    return environment.transcript


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.3, {0: 0.3, 10**9: 0.3}),
        ({"schedule": "constant", "value": -2}, {0: -2.0, 7: -2.0}),
        (
            {"schedule": "linear", "start": 0, "end": 0.2, "steps": 60},
            {0: 0, 15: 0.05, 30: 0.1, 60: 0.2, 999: 0.2},
        ),
        ({"schedule": "linear", "start": 1, "end": 0, "steps": 4, "after": 10}, {0: 1, 10: 1, 11: 0.75, 14: 0}),
        # (1 - cos 45°) / 2
        ({"schedule": "cosine", "start": 0, "end": 1, "steps": 8}, {0: 0, 2: 0.1464466094, 4: 0.5, 8: 1, 9: 1}),
        # 1 / (1 + e^-2) and its mirror
        (
            {"schedule": "sigmoid", "midpoint": 10, "rate": 0.2},
            {0: 0.1192029220, 10: 0.5, 20: 0.8807970780, 10**6: 1.0},
        ),
        ({"schedule": "sigmoid", "midpoint": 10, "rate": -900, "start": 3, "end": 1}, {0: 1, 10: 2, 20: 3}),
        ({"schedule": "step", "at": 5, "values": [1, 0]}, {0: 1, 4: 1, 5: 0, 6: 0}),
        ({"schedule": "step", "at": [2, 4], "values": [0, 0.5, 1]}, {1: 0, 2: 0.5, 3: 0.5, 4: 1}),
    ],
)
def test_schedules(value: Any, expected: dict[int, float]) -> None:
    schedule = make_schedule(value)
    assert {step: schedule(step) for step in expected} == pytest.approx(expected, abs=1e-9)
    least, most = schedule.bounds
    assert all(least <= schedule(step) <= most for step in range(100))
    assert pickle.loads(pickle.dumps(schedule)) == copy.deepcopy(schedule) == schedule
    assert make_schedule(schedule) is schedule


LINEAR = {"schedule": "linear", "start": 0, "end": 1, "steps": 9}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("high", "weight must be a finite number, got 'high'"),
        (True, "weight must be a finite number"),
        (math.inf, "weight must be a finite number"),
        pytest.param(10**400, "weight must be a finite number", id="an integer beyond all floats"),
        ({}, "weight: unknown schedule None; known: constant"),
        ({"schedule": "linearr"}, "unknown schedule 'linearr'.*did you mean 'linear'"),
        ({"schedule": ["linear"]}, "unknown schedule"),
        ({"schedule": "linear", "start": 0, "end": 1}, "weight: linear needs the key 'steps'"),
        ({**LINEAR, "step": 1}, "weight: linear has no key 'step'.*did you mean 'steps'"),
        ({**LINEAR, "end": "x"}, "weight: end must be a finite number"),
        ({**LINEAR, "steps": 0}, "weight: steps must be a whole number, at least 1, got 0"),
        ({**LINEAR, "steps": 2.5}, "weight: steps must be a whole number"),
        ({**LINEAR, "after": -1}, "weight: after must be a whole number, 0 or more, got -1"),
        ({"schedule": "constant", "value": None}, "weight: value must be a finite number"),
        ({"schedule": "sigmoid", "midpoint": 3}, "weight: sigmoid needs the key 'rate'"),
        ({"schedule": "step", "at": [4, 2], "values": [0, 1, 2]}, "weight: at must be rising"),
        ({"schedule": "step", "at": [], "values": [0]}, "weight: at must be rising"),
        ({"schedule": "step", "at": [4], "values": [0]}, "weight: values must be a list of 2 numbers"),
        ({"schedule": "step", "at": [4], "values": [0, "x"]}, "weight: values must be a finite number"),
    ],
)
def test_wrong_schedules_name_the_key(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_schedule(value, "weight")
    with pytest.raises(ValueError, match=f"term 1: {words}" if words.startswith("weight") else words):
        make_reward({"name": "sum", "terms": [{"reward": "mentor", "weight": value}]})


LENGTH = {"name": "length", "free": 2, "scale": 4}


def test_a_sum_by_hand(suite: str) -> None:
    """mentor 1.0 (one tool too many, no agreement) twice, and two calls beyond the free two: -2/4."""
    terms = [
        {"reward": "mentor"},
        {"reward": LENGTH, "weight": 0.2},
        {"reward": {"name": "mentor", "matcher": "f1"}, "weight": 0.5},
    ]
    reward = make_reward({"name": "sum", "terms": terms})
    paid = reward(transcript_of(suite, [POWER, MULTIPLY, ADD, ADD, RIGHT]))
    assert paid == pytest.approx(
        {
            "mentor/outcome": 0.7,
            "mentor/alignment": 0.0,
            "mentor/validity": 0.1,
            "mentor/floor": 0.0,
            "length/length": -0.1,
            "mentor#2/outcome": 0.35,
            "mentor#2/alignment": 0.12,  # F1 of 2 and 3 names
            "mentor#2/validity": 0.05,
            "mentor#2/floor": 0.0,
        }
    )
    assert (reward.maximum, reward.minimum) == pytest.approx((1.65, -0.2))  # type: ignore[attr-defined]


def test_sums_in_sums_and_rewards_of_one_s_own(suite: str) -> None:
    class Turns:
        maximum = 8.0

        def __call__(self, transcript: Transcript) -> dict[str, float]:
            return {"turns": float(len(transcript.turns))}

    inner = {"name": "sum", "terms": [{"reward": "sparse", "weight": 0.5}]}
    reward = make_reward({"name": "sum", "terms": [{"reward": inner, "weight": 2}, {"reward": Turns()}]})
    paid = reward(transcript_of(suite, [POWER, RIGHT]))
    assert paid == {"sum/sparse/outcome": 1.0, "sum/sparse/floor": 0.0, "Turns/turns": 2.0}
    assert reward.maximum == 9.0
    # Turns says no minimum, so neither the sum nor a negative weight has a bound.
    assert reward.minimum is None  # type: ignore[attr-defined]
    assert not reward.right_beats_wrong  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="term 1: a negative weight needs a reward that says its minimum"):
        make_reward({"name": "sum", "terms": [{"reward": Turns(), "weight": {**LINEAR, "end": -1}}]})


@pytest.mark.parametrize(
    ("terms", "bounds", "promise"),
    [
        ([("mentor", 1.0)], (0.0, 1.1), True),
        ([("mentor", 1.0), ("length", 0.5)], (-0.5, 1.1), True),  # the margin is 0.7 - 0.16
        ([("mentor", 1.0), ("length", 0.55)], (-0.55, 1.1), False),
        ([("mentor", 1.0), ("sparse", 0.5), ("length", 0.9)], (-0.9, 1.6), True),  # 0.54 + 0.45
        ([("mentor", 1.0), ("sparse", -0.5)], (-0.5, 1.1), True),  # at most 0.5 of 0.54 is lost
        ([("mentor", 1.0), ("sparse", -0.6)], (-0.6, 1.1), False),
        ([("sparse", 1.0), ("length", 0.8)], (-0.8, 1.0), True),  # 1 - 0.1
        ([("sparse", 1.0), ("length", 0.95)], (-0.95, 1.0), False),
        ([("mentor", 0.0), ("length", -1.0)], (0.0, 1.0), False),
        ([("strict", 0.0)], (0.0, 0.0), False),
        ([("search-r1", 1.0), ("length", 1.0)], (-1.0, 1.0), False),  # a right answer after 8 calls pays 0 too
    ],
)
def test_bounds_add_up(terms: list[tuple[str, float]], bounds: tuple[float, float], promise: bool) -> None:
    reward: Any = make_reward({"name": "sum", "terms": [{"reward": name, "weight": w} for name, w in terms]})
    assert (reward.minimum, reward.maximum) == pytest.approx(bounds)
    assert reward.right_beats_wrong is promise


def test_a_part_that_promises_without_a_margin_adds_none(suite: str) -> None:
    class Verdict:
        maximum, minimum, right_beats_wrong = 1.0, 0.0, True

        def __call__(self, transcript: Transcript) -> dict[str, float]:
            return {"outcome": float(transcript.is_success)}

    def promise(*terms: dict[str, Any]) -> bool:
        reward: Any = make_reward({"name": "sum", "terms": list(terms)})
        return bool(reward.right_beats_wrong)

    assert promise({"reward": Verdict()})
    assert promise({"reward": Verdict()}, {"reward": "mentor"})
    assert not promise({"reward": Verdict()}, {"reward": "length", "weight": 0.01})
    assert not promise({"reward": Verdict(), "weight": 0})


def test_parts_without_bounds_have_none_in_the_sum_but_where_they_weigh_nothing() -> None:
    endless = {"reward": {"name": "steptool", "normalise": False}, "weight": {**LINEAR, "steps": 4}}
    reward: Any = make_reward({"name": "sum", "terms": [endless, {"reward": "mentor"}]})
    assert (reward.maximum, reward.minimum, reward.right_beats_wrong) == (1.1, 0.0, True)
    assert (reward.at(1).maximum, reward.at(1).minimum, reward.at(1).right_beats_wrong) == (math.inf, 0.0, False)
    # Shaping with a gamma below 1 has no minimum, from the step on at which it weighs something.
    shaped = {"name": "shaped", "reward": "sparse", "gamma": 0.9, "weight": LINEAR}
    reward = make_reward({"name": "sum", "terms": [{"reward": shaped, "weight": -1}]})
    assert (reward.maximum, reward.at(1).maximum) == (0.0, math.inf)


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ({"name": "sum"}, "terms"),
        ({"name": "sum", "terms": []}, "terms must be a list"),
        ({"name": "sum", "terms": {"reward": "mentor"}}, "terms must be a list"),
        ({"name": "sum", "terms": ["mentor"]}, "term 1 must be a mapping with the key 'reward'"),
        ({"name": "sum", "terms": [{"reward": "mentor"}, {"reward": "metor"}]}, "term 2: unknown reward 'metor'"),
        ({"name": "sum", "terms": [{"reward": "mentor", "weigth_": 1}]}, "'weigth_'.*did you mean 'weight'"),
        ({"name": "length", "unit": "call"}, "unit must be one of calls, characters.*did you mean 'calls'"),
        ({"name": "length", "free": -1}, "free must be a whole number of at least 0"),
        ({"name": "length", "scale": 0}, "scale must be a whole number of at least 1"),
        ({"name": "repeats", "scale": 1.5}, "scale must be a whole number"),
        ("lengths", "to put rewards together: sum, shaped, length, repeats; did you mean 'length'"),
    ],
)
def test_wrong_compositions_are_refused(reward: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_reward(reward)


def test_terms_are_no_presets() -> None:
    assert not PRESETS.keys() & TERMS.keys()
    assert len({entry.summary for entry in TERMS.values()}) == len(TERMS)


@pytest.mark.parametrize(
    ("options", "turns", "expected"),
    [
        ({}, [RIGHT], 0.0),
        ({"free": 2, "scale": 4}, [POWER, MULTIPLY, RIGHT], 0.0),
        ({"free": 2, "scale": 4}, [POWER, MULTIPLY + ADD, RIGHT], -0.25),
        ({"free": 0, "scale": 2}, [POWER * 3, RIGHT], -1.0),
        ({"scale": 4}, [call("nothing"), "<tool_call>{</tool_call>", WRONG], -0.5),  # calls of any kind
        ({"scale": 4}, [POWER, POWER], -0.5),  # not finished
        ({"unit": "characters", "free": 20, "scale": 10}, ["<think>1234</think>" + RIGHT], -1.0),
        ({"unit": "characters", "free": len(RIGHT) - 3, "scale": 10}, [RIGHT], -0.3),
    ],
)
def test_the_penalty_for_length(suite: str, options: dict[str, Any], turns: list[str], expected: float) -> None:
    paid = make_reward({"name": "length", **options})(transcript_of(suite, turns))
    assert paid == {"length": pytest.approx(expected, abs=1e-12)}


SAME = call("add", a="1", b=2.0)


@pytest.mark.parametrize(
    ("options", "turns", "expected"),
    [
        ({}, [POWER, MULTIPLY, RIGHT], 0.0),
        ({}, [ADD, SAME, RIGHT], -0.25),
        ({}, [ADD + SAME + ADD, RIGHT], -0.5),
        ({}, [call("add", a=1), call("add", a=1, b=0), RIGHT], -0.25),  # its default
        ({"free": 1, "scale": 2}, [ADD, ADD, ADD, RIGHT], -0.5),
        ({}, [ADD] * 7, -1.0),
        ({}, [call("nothing"), call("nothing"), RIGHT], 0.0),  # an unknown tool is not called
    ],
)
def test_the_penalty_for_repeats(suite: str, options: dict[str, Any], turns: list[str], expected: float) -> None:
    paid = make_reward({"name": "repeats", **options})(transcript_of(suite, turns))
    assert paid == {"repeats": pytest.approx(expected, abs=1e-12)}


@pytest.mark.parametrize(
    ("turns", "repeats"),
    [
        (["read", "read"], 1),
        (["read", "write", "read"], 0),  # it may show another thing now
        (["read", "write", "read", "read"], 1),
        (["write", "read", "write"], 1),
    ],
)
def test_reading_again_what_was_changed_is_no_repetition(turns: list[str], repeats: int) -> None:
    environment = mentor_gym.MentorToolEnv("office", max_turns=8)
    (task, *_) = (task for task in environment.tasks if {"list_files", "write_file"} <= set(task.tools))
    texts = {"read": call("list_files", folder=""), "write": call("write_file", path="x.txt", text="y")}
    play(environment, [texts[turn] for turn in turns], task.id)
    assert make_reward("repeats")(environment.transcript) == {"repeats": -repeats / 4}


def test_at_is_pure_and_goes_both_ways(suite: str) -> None:
    inner = {"name": "sum", "terms": [{"reward": "sparse", "weight": {**LINEAR, "end": 9}}]}
    reward: Any = make_reward(
        {"name": "sum", "terms": [{"reward": "mentor", "weight": LINEAR}, {"reward": inner}]}
    )
    transcript = transcript_of(suite, [POWER, MULTIPLY, RIGHT])
    first = reward(transcript)
    third = reward.at(3)
    assert third.weights == pytest.approx({"mentor": 1 / 3, "sum": 1.0})
    assert math.fsum(third(transcript).values()) == pytest.approx(1.1 / 3 + 3.0)
    assert third.maximum == pytest.approx(1.1 / 3 + 3.0)
    assert third.at(0)(transcript) == first == reward(transcript)
    assert math.fsum(first.values()) == 0.0
    assert third.at(9)(transcript) == reward.at(9)(transcript)
    plain = make_reward("mentor")
    assert reward_at(plain, 7) is plain


SCHEDULED = {"name": "sum", "terms": [{"reward": "sparse", "weight": LINEAR}]}


def test_the_training_step_reaches_the_reward(suite: str) -> None:
    environment = gym.make("MentorTool-v0", suite=suite, reward=SCHEDULED)
    assert play(environment, [RIGHT])["reward"] == 0.0
    environment.get_wrapper_attr("set_training_step")(3)
    assert play(environment, [RIGHT])["reward"] == pytest.approx(1 / 3)
    assert play(environment, [RIGHT])["reward"] == pytest.approx(1 / 3)  # over resets
    assert play(copy.deepcopy(environment), [RIGHT])["reward"] == pytest.approx(1 / 3)
    environment.reset(options={"task_id": "both"})
    clone = environment.get_wrapper_attr("clone")()
    environment.get_wrapper_attr("set_training_step")(9)
    assert clone.step(RIGHT)[1] == pytest.approx(1 / 3)
    assert environment.step(RIGHT)[1] == pytest.approx(1.0)
    for wrong in (-1, 1.0, True, None):
        with pytest.raises(ValueError, match="step must be a whole number"):
            environment.get_wrapper_attr("set_training_step")(wrong)


def test_a_wrapper_is_dense_or_not(suite: str) -> None:
    with pytest.raises(ValueError, match="dense must be True or False, got 'yes'"):
        RewardWrapper(mentor_gym.MentorToolEnv(suite), "mentor", dense="yes")  # type: ignore[arg-type]


def test_a_scheduled_reward_may_turn_into_a_plain_one(suite: str) -> None:
    class Late:
        maximum = 1.0

        def at(self, step: int) -> Any:
            return make_reward({"name": "sparse", "correct": float(step)})

        def __call__(self, transcript: Transcript) -> dict[str, float]:
            return {"outcome": 0.0}

    environment = RewardWrapper(mentor_gym.MentorToolEnv(suite), Late())
    for step in (5, 2):
        environment.set_training_step(step)
        assert play(environment, [RIGHT])["reward"] == step


def test_dense_payment_goes_on_after_set_state(suite: str) -> None:
    """What was paid before is computed anew, with the same facts about the tools."""
    first, second = (RewardWrapper(mentor_gym.MentorToolEnv(suite), "step-aligned", dense=True) for _ in range(2))
    first.reset(options={"task_id": "both"})
    first.step(call("power", base="3", exponent="2"))
    second.reset()
    second.unwrapped.set_state(first.unwrapped.get_state())  # type: ignore[attr-defined]
    assert second.step(MULTIPLY)[1] == first.step(MULTIPLY)[1] == pytest.approx(0.15)


def test_a_vector_passes_the_training_step_on(suite: str) -> None:
    environments = gym.vector.SyncVectorEnv(
        [lambda: gym.make("MentorTool-v0", suite=suite, reward=SCHEDULED) for _ in range(2)]
    )
    environments.call("set_training_step", 3)
    environments.reset(options={"task_id": "both"})
    assert environments.step([RIGHT, WRONG])[1] == pytest.approx([1 / 3, 0.1 / 3])
    environments.close()


def test_a_step_in_the_middle_keeps_the_return(suite: str) -> None:
    terms = [{"reward": {"name": "step-aligned", "outcome": 0.0}, "weight": {**LINEAR, "start": 1, "end": 2}}]
    environment: Any = RewardWrapper(mentor_gym.MentorToolEnv(suite), {"name": "sum", "terms": terms}, dense=True)
    environment.reset(options={"task_id": "both"})
    first = environment.step(POWER)[1]
    assert first == pytest.approx(0.15 + 0.1)
    environment.set_training_step(9)
    second = environment.step(MULTIPLY)[1]
    assert first + second == pytest.approx(2 * (0.3 + 0.1))


SUM = {"name": "sum", "terms": [{"reward": "mentor"}, {"reward": LENGTH, "weight": 0.3}, {"reward": "repeats"}]}


def test_sums_pass_the_audit() -> None:
    check_reward(SUM, count=300, per_split=1)
