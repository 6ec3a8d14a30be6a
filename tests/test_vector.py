"""The vector environment in one process: equal to Gymnasium's, its groups, and its errors."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from conftest import answer, call
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from hypothesis import given
from hypothesis import strategies as st
from vector_play import action, assert_same

from mentor_gym import MentorToolVectorEnv
from mentor_gym.infos import batch_infos
from mentor_gym.types import StopReason

TILL = str(Path(__file__).parent / "till_suite" / "suite.yaml")
MODES = list(AutoresetMode)


def make(num_envs: int = 3, **kwargs: Any) -> MentorToolVectorEnv:
    return cast(MentorToolVectorEnv, gym.make_vec("MentorTool-v0", num_envs=num_envs, **kwargs))


def sync(num_envs: int, mode: AutoresetMode, kind: str = "sync", **kwargs: Any) -> Any:
    options = {"autoreset_mode": mode} if kind == "sync" else {"autoreset_mode": mode, "shared_memory": False}
    return gym.make_vec(
        "MentorTool-v0", num_envs=num_envs, vectorization_mode=kind, vector_kwargs=options, **kwargs
    )


def assert_equal_play(reference: Any, other: Any, steps: int, seed: int = 0) -> int:
    """Play the same in two vectors, the first of which is a `SyncVectorEnv`; returns how many episodes ended."""
    rng = random.Random(seed)
    ended = 0
    assert_same(reference.reset(seed=seed), other.reset(seed=seed), "reset")
    for number in range(steps):
        bases = [env.unwrapped for env in reference.envs]
        actions = [action(rng, base.task, len(base.transcript.turns)) for base in bases]
        result = reference.step(actions)
        assert_same(result, other.step(actions), f"step {number}")
        over = result[2] | result[3]
        ended += over.sum()
        if reference.autoreset_mode is AutoresetMode.DISABLED and over.any():
            options = [{"reset_mask": over.copy()}, {"reset_mask": over.copy()}]
            assert_same(reference.reset(options=options[0]), other.reset(options=options[1]), f"reset {number}")
        elif number % 50 == 49:
            assert_same(reference.reset(), other.reset(), f"unseeded reset {number}")
    assert_same(reference.reset(seed=[7, None, 5]), other.reset(seed=[7, None, 5]), "seeds")
    return ended


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kwargs", [{}, {"dense": True}, {"reward": None}], ids=["mentor", "dense", "none"])
@pytest.mark.parametrize("suite", ["math", TILL], ids=["math", "till"])
def test_equals_sync(suite: str, kwargs: dict[str, Any], mode: AutoresetMode) -> None:
    kwargs = {"suite": suite, "max_turns": 4, "prompt": "compact", **kwargs}
    reference, ours = sync(3, mode, **kwargs), make(3, autoreset_mode=mode, **kwargs)
    assert assert_equal_play(reference, ours, 300) > 100
    for name in ("metadata", "render_mode", "num_envs", "action_space", "observation_space"):
        assert getattr(ours, name) == getattr(reference, name), name
    assert ours.single_action_space == reference.single_action_space
    assert ours.single_observation_space == reference.single_observation_space
    assert ours.np_random_seed == reference.np_random_seed
    assert [g.random() for g in ours.np_random] == [g.random() for g in reference.np_random]
    assert ours.action_space.contains(ours.action_space.sample())


@pytest.mark.parametrize("mode", MODES)
def test_equals_async_without_shared_memory(mode: AutoresetMode) -> None:
    kwargs = {"suite": TILL, "max_turns": 3}
    asynchronous = sync(3, mode, "async", **kwargs)
    try:
        if mode is AutoresetMode.DISABLED:
            # It does not refuse to step an environment that has ended; the environment itself does.
            assert_same(asynchronous.reset(seed=1), make(3, autoreset_mode=mode, **kwargs).reset(seed=1))
        else:
            ours, rng = make(3, autoreset_mode=mode, **kwargs), random.Random(0)
            assert_same(asynchronous.reset(seed=1), ours.reset(seed=1))
            for _ in range(40):
                bases = [env.unwrapped for env in ours.envs]
                actions = [action(rng, base.task, len(base.transcript.turns)) for base in bases]
                actions = [text if isinstance(text, str) else "" for text in actions]
                assert_same(asynchronous.step(actions), ours.step(actions))
    finally:
        asynchronous.close()


def test_shared_memory_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="shared_memory=False"):
        gym.make_vec("MentorTool-v0", num_envs=2, vectorization_mode="async")


@pytest.mark.parametrize("name", sorted(name for name in gym.registry if name.startswith("MentorTool-")))
def test_make_vec_makes_it_for_every_id(name: str) -> None:
    envs = gym.make_vec(name, num_envs=2, group_size=2, autoreset_mode="NextStep", prompt="compact")
    assert isinstance(envs, MentorToolVectorEnv)
    assert envs.spec is not None
    assert envs.spec.id == name
    assert repr(envs) == f"MentorToolVectorEnv({name}, num_envs=2)"
    again = gym.make_vec(EnvSpec.from_json(envs.spec.to_json()))
    assert_same(envs.reset(seed=3), again.reset(seed=3))
    assert again.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    suite = envs.get_attr("suite")[0].name
    assert gym.make(name).unwrapped.suite.name == suite  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", MODES)
def test_modes_have_names_and_values(mode: AutoresetMode) -> None:
    for given_mode in (mode, mode.name, mode.value):
        envs = make(1, autoreset_mode=given_mode)
        assert envs.metadata["autoreset_mode"] is envs.autoreset_mode is mode
    assert make(1).autoreset_mode is AutoresetMode.SAME_STEP


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_envs": 0}, "num_envs must be a whole number of at least 1, got 0"),
        ({"num_envs": 2.0}, "num_envs must be a whole number"),
        ({"num_envs": 4, "group_size": 3}, "a multiple of group_size, got 4 and 3"),
        ({"group_size": 0}, "group_size"),
        ({"num_workers": -1}, "num_workers"),
        ({"max_restarts": True}, "max_restarts"),
        ({"step_timeout": 0}, "step_timeout must be a positive number of seconds, got 0"),
        ({"step_timeout": "1"}, "step_timeout"),
        ({"step_timeout": float("nan")}, "step_timeout"),
        ({"autoreset_mode": "samestep"}, "'samestep'; did you mean 'SameStep'?"),
        ({"max_episode_steps": 5}, "max_turns"),
        ({"suite": "maths", "num_workers": 2}, "did you mean 'math'"),
        ({"max_turns": 0}, "max_turns"),
    ],
)
def test_arguments_are_checked(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**{"num_envs": 3, **kwargs})


@pytest.mark.parametrize("actions", ["abc", b"abc", {0: "a", 1: "b", 2: "c"}, 3, None, [], ["a", "b"], ["a"] * 4])
def test_the_number_of_actions_is_checked(actions: Any) -> None:
    envs = make(3)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="3 actions"):
        envs.step(actions)
    assert envs.step(iter(["a", "b", "c"]))[2].all()  # type: ignore[arg-type]


def test_a_finished_environment_is_named() -> None:
    envs = make(4, autoreset_mode="Disabled")
    envs.reset(seed=0)
    envs.step([answer(1), call("add"), answer(2), call("add")])
    with pytest.raises(ResetNeeded, match=r"environments \[0, 2\] have ended.*reset_mask"):
        envs.step(["x"] * 4)
    assert [len(env.unwrapped.transcript.turns) for env in envs.envs] == [1] * 4  # type: ignore[attr-defined]
    envs.reset(options={"reset_mask": np.array([True, False, True, False])})
    envs.step([call("add")] * 4)


def test_step_needs_a_reset() -> None:
    with pytest.raises(ResetNeeded, match="reset"):
        make(2).step(["a", "b"])


def test_closed() -> None:
    envs = make(2)
    envs.reset(seed=0)
    envs.close()
    envs.close()
    for use in (envs.reset, envs.render, lambda: envs.step(["a", "b"]), lambda: envs.set_attr("prompt", "full")):
        with pytest.raises(ClosedEnvironmentError, match="the vector environment is closed"):
            use()
    with pytest.raises(ClosedEnvironmentError):
        envs.envs[0].step("a")


def test_attributes_and_calls() -> None:
    envs = make(2, render_mode="ansi", suite=TILL)
    envs.reset(seed=0)
    assert [text.splitlines()[0] for text in envs.render()] == [
        text.splitlines()[0] for text in envs.call("render")
    ]
    envs.set_attr("dense", [True, False])
    assert envs.get_attr("dense") == (True, False)
    envs.set_attr("dense", True)
    assert envs.get_attr("dense") == (True, True)
    with pytest.raises(ValueError, match="2 values, one per environment, got 3"):
        envs.set_attr("dense", [True] * 3)
    assert envs.call("clone")[0].unwrapped.task is not None
    with pytest.raises(AttributeError, match="no_such"):
        envs.call("no_such")


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"seed": [1, 2]}, ValueError, "a list of seeds needs 3 values, one per environment, got 2"),
        ({"options": {"task_ids": ["till-1"]}}, ValueError, "task_ids needs 3 values"),
        ({"options": {"task_ids": "abc"}}, ValueError, "task_ids needs 3 values"),
        ({"options": {"task_id": "till-1", "task_ids": ["till-1"] * 3}}, ValueError, "exclude each other"),
        ({"options": {"task_id": "till-9"}}, ValueError, "no task 'till-9'"),
        ({"options": {"teacher_turn": 1}}, ValueError, "did you mean 'teacher_turns'"),
        ({"options": {"reset_mask": [True] * 3}}, TypeError, "NumPy array of bool"),
        ({"options": {"reset_mask": np.ones(3)}}, TypeError, "NumPy array of bool"),
        ({"options": {"reset_mask": np.ones(2, bool)}}, ValueError, "must have 3 values"),
        ({"options": {"reset_mask": np.zeros(3, bool)}}, ValueError, "one True"),
    ],
)
def test_reset_checks(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    envs = make(3, suite=TILL)
    _, before = envs.reset(seed=0)
    with pytest.raises(error, match=message):
        envs.reset(**kwargs)
    assert envs.get_attr("task")[0].id == before["task_id"][0]


def test_named_tasks() -> None:
    envs = make(3, suite=TILL)
    names = ["till-3", "till-1", "till-2"]
    options = {"task_ids": names, "teacher_turns": 1, "reset_mask": np.array([True, True, True])}
    observations, infos = envs.reset(options=options)
    assert list(options) == ["task_ids", "teacher_turns", "reset_mask"]
    assert infos["task_id"].tolist() == names
    assert ["1 scanned" in text for text in observations] == [True] * 3
    observations, infos = envs.reset(options={"task_id": "till-4", "reset_mask": np.array([False, True, False])})
    assert infos["task_id"].tolist() == [None, "till-4", None]
    assert infos["_task_id"].tolist() == [False, True, False]
    assert "three pens" in observations[1]
    assert "1 scanned" in observations[0]


def test_gymnasium_counts_its_episodes() -> None:
    envs = RecordEpisodeStatistics(make(2, suite=TILL, group_size=2, autoreset_mode="NextStep"))
    envs.reset(seed=0)
    envs.step([call("total"), answer(1)])
    *_, infos = envs.step([answer(1), "ignored"])
    assert infos["episode"]["l"].tolist() == [2, 0]


def group_tasks(
    envs: MentorToolVectorEnv, lengths: list[int], steps: int
) -> dict[tuple[int, int], dict[int, str]]:
    """Play episodes of given lengths; returns the tasks by group and episode, of the members that ended them."""
    found: dict[tuple[int, int], dict[int, str]] = {}
    for number in range(1, steps + 1):
        turns = [answer(1) if number % length == 0 else call("total") for length in lengths]
        *_, infos = envs.step(turns)
        for i, ended in enumerate(infos.get("_final_info", [])):
            if ended:
                final = infos["final_info"]
                key = (int(final["group"][i]), int(final["group_episode"][i]))
                assert i not in found.setdefault(key, {})
                found[key][i] = final["task_id"][i]
    return found


def single_tasks(seed: int, episodes: int, **kwargs: Any) -> list[str]:
    env = gym.make("MentorTool-v0", **kwargs)
    return [env.reset(seed=seed if k == 0 else None)[1]["task_id"] for k in range(episodes)]


def test_groups_play_one_task_an_episode() -> None:
    lengths = [1, 2, 3, 5, 1, 7]
    envs = make(6, suite="math", group_size=3)
    _, infos = envs.reset(seed=11)
    assert infos["group"].tolist() == [0, 0, 0, 1, 1, 1]
    assert infos["group"].dtype == infos["group_episode"].dtype == np.int64
    assert infos["group_episode"].tolist() == [0] * 6
    found = group_tasks(envs, lengths, 42)
    for group, members in ((0, (0, 1, 2)), (1, (3, 4, 5))):
        # What an environment plays that was seeded with the group's seed, whatever the lengths of episodes.
        expected = single_tasks(11 + group, 42, suite="math")
        assert len(set(expected)) > 30
        for episode, task in enumerate(expected):
            played = found.get((group, episode), {})
            assert played == {i: task for i in members if episode < 42 // lengths[i]}
    assert len(found[0, 5]) == 3
    assert len(found[1, 5]) == 3
    again = make(6, suite="math", group_size=3)
    again.reset(seed=11)
    assert group_tasks(again, lengths, 42) == found


def test_unseeded_groups_agree() -> None:
    seen = set()
    for _ in range(3):
        envs = make(4, suite="math", group_size=2)
        _, infos = envs.reset()
        names = infos["task_id"].tolist()
        assert names[0] == names[1]
        assert names[2] == names[3]
        seen |= set(names)
        found = group_tasks(envs, [1, 3, 2, 1], 12)
        assert all(len(set(members.values())) == 1 for members in found.values())
        assert max(len(members) for members in found.values()) == 2
    assert len(seen) > 3


def test_a_reset_brings_a_group_together_on_its_next_task() -> None:
    expected = single_tasks(5, 20, suite="math")
    envs = make(3, suite="math", group_size=3, max_turns=20)
    envs.reset(seed=5)
    group_tasks(envs, [1, 2, 8], 7)
    assert envs.step([call("total")] * 3)[4]["group_episode"].tolist() == [7, 3, 0]
    _, infos = envs.reset()
    assert infos["group_episode"].tolist() == [8, 8, 8]
    assert infos["task_id"].tolist() == [expected[8]] * 3
    _, infos = envs.reset(options={"task_ids": [expected[0]]})
    assert infos["group_episode"].tolist() == [9, 9, 9]
    assert infos["task_id"].tolist() == [expected[0]] * 3
    *_, infos = envs.step([answer(1)] * 3)
    assert infos["task_id"].tolist() == [expected[9]] * 3
    _, infos = envs.reset(seed=[5])
    assert infos["group_episode"].tolist() == [0, 0, 0]
    assert infos["task_id"].tolist() == [expected[0]] * 3


def test_single_members_go_on_to_their_next_episode() -> None:
    expected = single_tasks(5, 20, suite="math")
    envs = make(4, suite="math", group_size=2, autoreset_mode="Disabled")
    first = {"reset_mask": np.array([True, False, False, False])}
    with pytest.raises(ValueError, match=r"only \[0\] of group 0: the first reset"):
        envs.reset(options=first)
    envs.reset(seed=5)
    for episode in (1, 2):
        envs.step([answer(1), *[call("total")] * 3])
        _, infos = envs.reset(options=first)
        assert infos["group_episode"].tolist() == [episode, 0, 0, 0]
        assert infos["task_id"].tolist() == [expected[episode], None, None, None]
    for kwargs in ({"seed": 1}, {"options": {"task_id": expected[0]}}):
        with pytest.raises(ValueError, match="for all members of a group"):
            envs.reset(**{**kwargs, "options": {**first, **kwargs.get("options", {})}})  # type: ignore[dict-item]
    # A seed for one group leaves the other where it is.
    _, infos = envs.reset(seed=[None, 5], options={"reset_mask": np.array([False, False, True, True])})
    assert infos["task_id"].tolist() == [None, None, expected[0], expected[0]]
    _, infos = envs.reset()
    assert infos["task_id"].tolist()[:2] == [expected[3]] * 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(5))
def test_an_episode_of_a_group_is_one_task_whatever_happens(seed: int, mode: AutoresetMode) -> None:
    rng = np.random.default_rng(seed)
    envs = make(6, suite="math", group_size=3, max_turns=3, autoreset_mode=mode)
    expected = [single_tasks(seed + group, 80, suite="math") for group in (0, 1)]
    _, infos = envs.reset(seed=seed)
    over = np.zeros(6, bool)
    for _ in range(60):
        kind = rng.random()
        if over.any() and mode is AutoresetMode.DISABLED:
            infos = envs.reset(options={"reset_mask": over | (rng.random(6) < 0.1)})[1]
            over[:] = False
        elif kind < 0.05:
            infos = envs.reset()[1]
            assert len(set(infos["group_episode"][:3])) == len(set(infos["group_episode"][3:])) == 1
        elif kind < 0.15:
            infos = envs.reset(options={"reset_mask": np.arange(6) == rng.integers(6)})[1]
        else:
            turns = [answer(1) if short else call("total") for short in rng.random(6) < [0.1, 0.3, 0.9] * 2]
            *_, terminations, truncations, infos = envs.step(turns)
            over = terminations | truncations
        for i in np.flatnonzero(infos["_task_id"]):
            assert infos["task_id"][i] == expected[i // 3][infos["group_episode"][i]]
    assert infos["group_episode"].max() > 10


def test_a_failed_reset_leaves_no_group_at_odds() -> None:
    envs = make(2, suite=TILL, group_size=2)
    envs.reset(seed=0)
    envs.reset(options={"task_id": "till-1"})
    with pytest.raises(ValueError, match="teacher_turns"):
        envs.reset(options={"teacher_turns": 99})
    with pytest.raises(ValueError, match="the first reset"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    _, infos = envs.reset()
    assert infos["group_episode"].tolist() == [0, 0]
    found = group_tasks(envs, [1, 2], 10)
    assert all(len(set(members.values())) == 1 for members in found.values())


def test_infos_of_groups_only_with_groups() -> None:
    assert "group" not in make(2).reset(seed=0)[1]
    assert make(2).reset(seed=0)[1]["task_id"].tolist() == [single_tasks(seed, 1)[0] for seed in (0, 1)]


def test_rewards_and_ends_by_hand() -> None:
    """A till teacher uses scan and total: 0.7 + 0.3 + 0.1 with both, 0.8 correct without, 0.1 only wrong."""
    envs = make(3, suite=TILL)
    envs.reset(options={"task_id": "till-4"})
    envs.step([call("scan", item="pen")] * 3)
    envs.step([call("total"), call("total"), call("undo")])
    observations, rewards, terminations, truncations, infos = envs.step([answer(4.5), answer(1), answer(4.5)])
    np.testing.assert_allclose(rewards, [1.1, 0.16, 0.8])
    assert rewards.dtype == np.float64
    assert terminations.tolist() == [True] * 3
    assert truncations.tolist() == [False] * 3
    assert infos["final_info"]["stop_reason"].tolist() == [StopReason.ANSWER] * 3
    assert infos["final_info"]["reward_terms"]["alignment"].tolist() == pytest.approx([0.3, 0.06, 0.0])
    assert infos["final_obs"].tolist() == [""] * 3
    assert infos["turn"].tolist() == [0] * 3
    assert all("till" not in text for text in observations)


NUMBERS = st.one_of(st.integers(-9, 9), st.booleans(), st.floats(allow_nan=False, width=32))
COLUMNS = {
    "whole": st.integers(-9, 9),
    "real": st.floats(allow_nan=False, width=32),
    "flag": st.booleans(),
    "mixed": NUMBERS.map(float),
    "narrow": st.floats(allow_nan=False, width=32).map(np.float32),
    "text": st.one_of(st.none(), st.text(max_size=3), st.sampled_from(StopReason)),
    "list": st.lists(st.integers(), max_size=2),
    "array": st.tuples(st.integers(0, 9), st.integers(0, 9)).map(np.array),
    "final_obs": st.text(max_size=3),
}
INFO = st.fixed_dictionaries({}, optional=COLUMNS)
NESTED = st.fixed_dictionaries({}, optional={**COLUMNS, "final_info": INFO, "terms": INFO})


@given(st.lists(st.one_of(st.none(), NESTED), min_size=1, max_size=5))
def test_infos_are_batched_as_gymnasium_does(infos: list[dict[str, Any] | None]) -> None:
    reference = gym.vector.VectorEnv()
    reference.num_envs = len(infos)
    expected: dict[str, Any] = {}
    for i, info in enumerate(infos):
        if info is not None:
            expected = reference._add_info(expected, info, i)
    rows = [i for i, info in enumerate(infos) if info is not None]
    assert_same(expected, batch_infos(len(infos), rows, [info for info in infos if info is not None]))
