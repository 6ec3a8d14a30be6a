"""Any order of reset, step, clone, save, restore and close, on several environments at once, beside a model.

The model is the script of an environment: the reset that began it and the actions since. Two environments with the
same script must be in the same state, however they came to it, by playing, cloning or restoring; and errors are
raised exactly when the script says that no episode is running.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

import mentor_gym  # noqa: F401
from mentor_gym.protocol import render_message

TILL = str(Path(__file__).parent / "till_suite" / "suite.yaml")
MAX_TURNS = 6


def call(name: str, **arguments: Any) -> str:
    return f'<tool_call>{{"name": "{name}", "arguments": {json.dumps(arguments)}}}</tool_call>'


ACTIONS = {
    "math": [call("add", a=1, b=2.5), call("no_tool"), "<answer>3</answer>", "", "<answer>", "😀", 7, call("add")],
    TILL: [
        call("scan", item="tea"),
        call("scan", item="pen"),
        call("undo"),
        call("total"),
        "<answer>4</answer>",
        "",
    ],
}


@dataclass(frozen=True)
class Script:
    """What an environment has done: everything that its state depends on.

    Attributes:
        history: Resets and actions since the last seeded reset; None before the first, when nothing is known.
        turns: Turns of the running episode.
        over: Whether the episode has ended; True before the first reset.
        closed: Whether it was closed.
        cut_off: Whether the next turn was announced to be cut off.
    """

    history: tuple[Any, ...] | None = None
    turns: int = 0
    over: bool = True
    closed: bool = False
    cut_off: bool = False


@dataclass
class Player:
    env: gym.Env[str, str]
    script: Script


class Environments(RuleBasedStateMachine):
    """Environments of one suite; every state that was seen is kept with the script that led to it."""

    suite = "math"
    players = Bundle("players")
    saves = Bundle("saves")

    def __init__(self) -> None:
        super().__init__()
        # Script -> what an environment with it does: the same at every time and in every environment.
        self.known: dict[tuple[Any, ...], Any] = {}
        self.envs: list[gym.Env[str, str]] = []

    def make(self) -> gym.Env[str, str]:
        return gym.make("MentorTool-v0", suite=self.suite, reward="mentor-f1", dense=True, max_turns=MAX_TURNS)

    def keep(self, env: gym.Env[str, str]) -> gym.Env[str, str]:
        self.envs.append(env)
        return env

    def same(self, key: tuple[Any, ...], value: Any) -> None:
        assert self.known.setdefault(key, value) == value, key

    @initialize(target=players, first=st.integers(0, 2), second=st.integers(0, 2))
    def two(self, first: int, second: int) -> Any:
        found = [Player(self.keep(self.make()), Script()) for _ in range(2)]
        for player, seed in zip(found, (first, second)):
            self.reset(player, seed, 0)
        return multiple(*found)

    @rule(target=players)
    def new(self) -> Player:
        env = self.keep(self.make())
        with pytest.raises(gym.error.ResetNeeded):
            env.step("")
        return Player(env, Script())

    @rule(player=players, seed=st.integers(0, 2), turns=st.integers(0, 1))
    def reset_by_seed(self, player: Player, seed: int, turns: int) -> None:
        self.reset(player, seed, turns)

    def reset(self, player: Player, seed: int, turns: int) -> None:
        observation, info = player.env.reset(seed=seed, options={"teacher_turns": turns})
        player.script = Script((("reset", seed, turns),), turns=turns, over=False)
        self.same(("reset", player.script.history), (observation, info))

    @rule(player=players)
    def reset_on(self, player: Player) -> None:
        if player.script.history is None:
            return
        observation, info = player.env.reset()
        player.script = Script((*player.script.history, "reset"), over=False)
        self.same(("reset", player.script.history), (observation, info))

    # Most rules end what is going on: several turns at once, so that episodes get somewhere.
    @rule(player=players, count=st.integers(1, 3), data=st.data())
    def step(self, player: Player, count: int, data: st.DataObject) -> None:
        for _ in range(count):
            self.play(player, data)

    def play(self, player: Player, data: st.DataObject) -> None:
        script = player.script
        if script.history is None or script.over or script.closed:
            error = gym.error.ClosedEnvironmentError if script.closed and script.history else gym.error.ResetNeeded
            with pytest.raises(error):
                player.env.step("<answer>1</answer>")
            return
        task = player.env.unwrapped.task  # type: ignore[attr-defined]
        teacher = [render_message(message) for message in task.teacher if message["role"] == "assistant"]
        action = data.draw(st.sampled_from([*ACTIONS[self.suite], *teacher[:-1] * 3, teacher[-1]]))
        outcome = player.env.step(action)
        _, _, terminated, truncated, _ = outcome
        history = (*script.history, ("step", repr(action), script.cut_off))
        player.script = Script(history, script.turns + 1, over=terminated or truncated)
        self.same(("step", history), outcome)
        assert not (terminated and truncated)
        if script.cut_off or (player.script.turns == MAX_TURNS and not terminated):
            assert truncated
        if truncated:
            assert script.cut_off or player.script.turns == MAX_TURNS

    @rule(player=players)
    def cut_off(self, player: Player) -> None:
        if player.script.history is None or player.script.over:
            return
        player.env.unwrapped.mark_cut_off()  # type: ignore[attr-defined]
        player.script = replace(player.script, cut_off=True)

    @rule(player=players)
    def close(self, player: Player) -> None:
        player.env.close()
        player.env.close()
        player.script = replace(player.script, closed=True)

    @rule(target=players, player=players)
    def clone(self, player: Player) -> Player:
        return Player(self.keep(copy.deepcopy(player.env)), player.script)

    @rule(target=saves, player=players)
    def save(self, player: Player) -> tuple[bytes, Script]:
        return player.env.unwrapped.get_state(), player.script  # type: ignore[attr-defined]

    @rule(player=players, saved=saves)
    def restore(self, player: Player, saved: tuple[bytes, Script]) -> None:
        state, script = saved
        player.env.unwrapped.set_state(state)  # type: ignore[attr-defined]
        assert player.env.unwrapped.get_state() == state  # type: ignore[attr-defined]
        player.script = script

    @rule(target=players, saved=saves)
    def restore_anew(self, saved: tuple[bytes, Script]) -> Player:
        env = self.keep(self.make())
        env.unwrapped.set_state(saved[0])  # type: ignore[attr-defined]
        return Player(env, saved[1])

    @invariant()
    def not_too_many(self) -> None:
        # Long runs clone often; the model needs no environment that nobody plays any more.
        assert len(self.envs) < 1000

    def teardown(self) -> None:
        for env in self.envs:
            env.close()


class TillEnvironments(Environments):
    """The same with tools that have a state."""

    suite = TILL


# The same examples in every run: a failure that comes and goes helps nobody.
BOUNDED = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestEnvironments = Environments.TestCase
TestEnvironments.settings = BOUNDED
TestTillEnvironments = TillEnvironments.TestCase
TestTillEnvironments.settings = BOUNDED
