"""Potential-based shaping: the sum that it pays, and the promise that optimal policies stay, on an exact MDP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium as gym
import pytest
from conftest import answer, call, play
from conftest import teacher as trace

import mentor_gym
from mentor_gym.protocol import parse_action
from mentor_gym.rewards import make_reward
from mentor_gym.rewards.shaping import POTENTIALS
from mentor_gym.testing import check_reward
from mentor_gym.types import StopReason, Task, ToolFacts, ToolResult, Transcript, Turn

POWER, MULTIPLY, ADD = call("power", base=3, exponent=2), call("multiply", a=2, b=9), call("add", a=1, b=2)
RIGHT, WRONG = answer(18), answer(17)


@pytest.mark.parametrize(
    ("options", "turns", "paid"),
    [
        # Phi after each call is 1/2, 1, and 2/3 when there is one too many; 0 at the end.
        ({}, [POWER, MULTIPLY, ADD, RIGHT], [0.5, 0.5, -1 / 3, 1 - 2 / 3]),
        ({}, [POWER, MULTIPLY, WRONG], [0.5, 0.5, 0.1 - 1]),
        ({}, [POWER, "well"], [0.5, 0.1 - 0.5]),
        ({"weight": 0.2}, [POWER, RIGHT], [0.1, 1 - 0.1]),
        ({"gamma": 0.5}, [POWER, MULTIPLY, RIGHT], [0.25, 0.5 * 1 - 0.5, 1 - 1]),
        ({"gamma": 0.0}, [POWER, MULTIPLY, RIGHT], [0, -0.5, 1 - 1]),
        ({"potential": "set", "weight": 2}, [POWER, MULTIPLY, ADD, RIGHT], [0, 2, -2, 1]),
        ({"potential": "f1"}, [POWER, ADD, RIGHT], [2 / 3, 0.5 - 2 / 3, 1 - 0.5]),
    ],
)
def test_each_turn_is_paid_the_change_of_the_potential(
    suite: str, options: dict[str, Any], turns: list[str], paid: list[float]
) -> None:
    reward = {"name": "shaped", "reward": "sparse", **options}
    environment = gym.make("MentorTool-v0", suite=suite, reward=reward, dense=True)
    end = play(environment, turns)
    assert end["rewards"] == pytest.approx(paid, abs=1e-12)
    assert sum(end["rewards"]) == pytest.approx(sum(end["info"]["reward_terms"].values()))


def test_the_turn_limit_ends_the_potential_too(suite: str) -> None:
    environment = gym.make(
        "MentorTool-v0", suite=suite, reward={"name": "shaped", "reward": "sparse"}, dense=True, max_turns=2
    )
    end = play(environment, [POWER, MULTIPLY])
    assert end["truncated"]
    assert end["rewards"] == pytest.approx([0.5, -0.5])


@pytest.mark.parametrize("potential", POTENTIALS)
def test_with_gamma_1_an_episode_earns_what_it_did(suite: str, potential: str) -> None:
    reward: Any = make_reward({"name": "shaped", "reward": "mentor", "potential": potential})
    environment = mentor_gym.MentorToolEnv(suite)
    for task_id in ("both", "direct"):
        for turns in ([POWER, MULTIPLY, RIGHT], [ADD, WRONG], [RIGHT], ["well"]):
            environment.reset(options={"task_id": task_id})
            assert reward(environment.transcript)["shaping"] == 0.0
            play(environment, turns, task_id)
            terms = reward(environment.transcript)
            assert terms.pop("shaping") == 0.0
            assert terms == make_reward("mentor")(environment.transcript)
    plain: Any = make_reward("mentor")
    names = ("maximum", "minimum", "margin", "right_beats_wrong")
    assert [getattr(reward, name) for name in names] == [getattr(plain, name) for name in names]


def test_weights_follow_a_schedule_and_shaping_can_be_shaped(suite: str) -> None:
    weight = {"schedule": "linear", "start": 1, "end": 0, "steps": 4}
    inner = {"name": "shaped", "reward": "sparse", "potential": "f1", "weight": weight}
    reward: Any = make_reward({"name": "shaped", "reward": inner})
    environment = mentor_gym.MentorToolEnv(suite)
    environment.reset(options={"task_id": "both"})
    environment.step(POWER)
    expected = {"outcome": 0.0, "floor": 0.0, "shaping": 2 / 3, "shaping#2": 0.5}
    assert reward(environment.transcript) == pytest.approx(expected)
    assert reward.at(1)(environment.transcript) == pytest.approx({**expected, "shaping": 0.5})
    assert reward.at(4).at(0)(environment.transcript) == reward(environment.transcript)
    assert reward.at(9)(environment.transcript)["shaping"] == 0.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reward": "metor"}, "unknown reward 'metor'"),
        ({}, "reward 'shaped'.*reward"),
        ({"reward": "sparse", "potential": "step-alinged"}, "unknown potential.*did you mean 'step-aligned'"),
        ({"reward": "sparse", "potential": "none"}, "unknown potential 'none'"),
        ({"reward": "sparse", "weight": -1}, "weight must not be negative"),
        ({"reward": "sparse", "weight": "x"}, "weight must be a finite number"),
        ({"reward": "sparse", "gamma": 1.1}, "gamma must be a number from 0 to 1"),
        ({"reward": "sparse", "gamma": True}, "gamma must be a number from 0 to 1"),
    ],
)
def test_wrong_shaping_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_reward({"name": "shaped", **options})


def test_with_gamma_1_the_past_is_not_looked_at_again(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = mentor_gym.MentorToolEnv(suite, max_turns=40)
    environment.reset(options={"task_id": "both"})
    for _ in range(20):
        environment.step(POWER)
    seen: list[int] = []
    for gamma, expected in ((1.0, [20]), (0.9, [*range(1, 20), 20])):
        reward: Any = make_reward({"name": "shaped", "reward": "sparse", "gamma": gamma})
        real = reward.phi

        def phi(item: Transcript, real: Any = real) -> float:
            seen.append(len(item.turns))
            return float(real(item))

        monkeypatch.setattr(reward, "phi", phi)
        reward(environment.transcript)
        assert sorted(seen) == expected
        seen.clear()


@pytest.mark.parametrize("options", [{}, {"gamma": 0.9, "potential": "f1"}])
def test_shaped_rewards_pass_the_audit(options: dict[str, Any]) -> None:
    check_reward({"name": "shaped", "reward": "sparse", **options}, count=300, per_split=1)


# A question that can be looked up in one call, and that the teacher works out in two. Every call costs something.
LOOK_UP, ONE, TWO = call("look_up"), call("one", n=1), call("two", n=2)
CALLS = (LOOK_UP, ONE, TWO, call("two", n=3))
ANSWER = "answer"
HORIZON = 4
TASK = Task(
    "1", "mdp", "train", "?", ["look_up", "one", "two"], "18", {"kind": "number"}, None,
    trace([("one", {"n": 1}, ""), ("two", {"n": 2}, "")], "18"),
)  # fmt: skip
FACTS = {name: ToolFacts({}, True) for name in ("look_up", "one", "two")}
COSTS = {
    "name": "sum",
    "terms": [{"reward": "sparse"}, {"reward": {"name": "length", "scale": 10}, "weight": 0.5}],
}
# The same potential, paid on top as it is and never taken back.
BONUS = {"reward": {"name": "step-aligned", "outcome": 0.0, "validity": 0.0}, "weight": 1.0}


def chance(calls: Sequence[str]) -> float:
    """Say how often an answer is right after these calls."""
    if LOOK_UP in calls:
        return 0.9
    worked_out = ONE in calls and TWO in calls[calls.index(ONE) :]
    return 0.95 if worked_out else 0.2


def episode(calls: Sequence[str], end: StopReason | None = None, right: bool = False) -> Transcript:
    """Write the transcript of an episode with one call a turn."""
    done = (ToolResult(True, ""),)
    turns = [Turn(text, parse_action(text), done) for text in calls]
    given = None
    if end is StopReason.ANSWER:
        given = "18" if right else "17"
        turns.append(Turn(answer(given), parse_action(answer(given))))
    return Transcript(TASK, turns, end, given, right, FACTS)


@dataclass
class Process:
    """The decision process of a reward: states are the calls so far, actions a call or the answer."""

    reward: Any
    gamma: float

    def paid(self, transcript: Transcript) -> float:
        """Return the reward so far; a turn is paid its change, as with `dense=True`."""
        return math.fsum(self.reward(transcript).values())

    @cached_property
    def values(self) -> dict[tuple[str, ...], dict[str, float]]:
        """The optimal values of all actions in all states, by backward induction."""
        found: dict[tuple[str, ...], dict[str, float]] = {}
        self._solve((), found)
        return found

    def _solve(self, state: tuple[str, ...], found: dict[tuple[str, ...], dict[str, float]]) -> float:
        before = 0.0 if not state else self.paid(episode(state))
        right, wrong = (
            self.paid(episode(state, StopReason.ANSWER, verdict)) - before for verdict in (True, False)
        )
        values = {ANSWER: chance(state) * right + (1 - chance(state)) * wrong}
        for text in CALLS:
            after = (*state, text)
            if len(after) == HORIZON:
                values[text] = self.paid(episode(after, StopReason.TURN_LIMIT)) - before
            else:
                values[text] = self.paid(episode(after)) - before + self.gamma * self._solve(after, found)
        found[state] = values
        return max(values.values())

    def optimal(self, state: tuple[str, ...]) -> set[str]:
        """Return the actions of a state that no other is better than."""
        best = max(self.values[state].values())
        return {action for action, value in self.values[state].items() if value > best - 1e-9}


@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.5])
@pytest.mark.parametrize("potential", ["step-aligned", "f1", "ordered_calls"])
def test_shaping_changes_no_optimal_action(potential: str, gamma: float) -> None:
    """Ng, Harada and Russell (1999), theorem 1 and corollary 2: Q*(s, a) becomes Q*(s, a) - Phi(s)."""
    weight = 3.0  # more than all else together
    plain = Process(make_reward(COSTS), gamma)
    reward: Any = make_reward(
        {"name": "shaped", "reward": COSTS, "potential": potential, "weight": weight, "gamma": gamma}
    )
    shaped = Process(reward, gamma)
    assert len(plain.values) == 1 + 4 + 16 + 64
    potentials = set()
    for state, values in plain.values.items():
        assert shaped.optimal(state) == plain.optimal(state)
        phi = weight * reward.phi(episode(state))
        potentials.add(phi)
        expected = {action: value - phi for action, value in values.items()}
        assert shaped.values[state] == pytest.approx(expected, abs=1e-9)
    assert len(potentials) > 1


def test_the_same_bonus_in_another_form_changes_them() -> None:
    """0.9 + 0.01 - 0.05 for looking up, 0.95 + 0.005 - 0.1 for the teacher's way, which the bonus makes better."""
    plain = Process(make_reward(COSTS), 1.0)
    assert plain.optimal(()) == {LOOK_UP}
    assert plain.values[()][LOOK_UP] == pytest.approx(0.86)
    assert plain.values[()][ONE] == pytest.approx(0.855)
    bonus = Process(make_reward({"name": "sum", "terms": [*COSTS["terms"], BONUS]}), 1.0)
    assert bonus.optimal(()) == {ONE}


def test_a_shaped_composite_passes_the_audit() -> None:
    # On the way it is paid more than an episode can earn; the end takes that back.
    report = check_reward({"name": "shaped", "reward": "mentor"}, count=300, per_split=1)
    assert not report.failed
