"""Tasks that ask for a change: success is what the tools end with, whatever the answer says."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import answer, call

from mentor_gym import MentorToolEnv
from mentor_gym.suites import load_suite
from mentor_gym.suites.base import Suite, TaskSet
from mentor_gym.tools import Tool, ToolBox
from mentor_gym.types import StopReason, Task

EXPECTED = {"count": 2}


class Counter(ToolBox):
    """Counts, and notes in which order it is asked and closed."""

    def __init__(self) -> None:
        self.count = 0
        self.events: list[str] = []
        super().__init__([Tool.from_function(self.more)])

    def more(self, by: int = 1) -> int:
        """Count on."""
        self.count += by
        return self.count

    def open(self, state: dict[str, Any] | None) -> None:
        self.count = (state or {}).get("count", 0)
        self.events = []

    def snapshot(self) -> bytes:
        return str(self.count).encode()

    def restore(self, snapshot: bytes) -> None:
        self.count = int(snapshot)

    def final_state(self) -> Any:
        self.events.append("asked")
        if self.count > 9:
            raise OverflowError("a bug of the box")
        return {"count": self.count}

    def close(self) -> None:
        self.events.append("closed")


class Counting(Suite):
    def tasks(self, split: str) -> TaskSet:
        grader: dict[str, Any] = {"kind": "state", "expected": EXPECTED}
        state = Task("to-two", "counting", split, "Count to two.", ["more"], "done", grader, {"count": 0}, [])
        return TaskSet(
            [state, Task("say", "counting", split, "Say 2.", ["more"], "2", {"kind": "number"}, None, [])]
        )


@pytest.fixture
def env() -> MentorToolEnv:
    return MentorToolEnv(Counting("counting", ("train",), Counter, files={}))


@pytest.mark.parametrize(
    ("turns", "success"),
    [
        ([call("more"), call("more"), answer("done")], True),
        ([call("more", by=2), answer("I do not know")], True),
        ([call("more", by=3), call("more", by=-1), answer("done")], True),
        ([call("more"), answer("done")], False),
        ([answer("2")], False),
        ([call("more", by=2), "I am done."], False),
        ([call("more", by=2), call("more"), answer("done")], False),
    ],
)
def test_success_is_the_state_at_the_answer(env: MentorToolEnv, turns: list[str], success: bool) -> None:
    env.reset(options={"task_id": "to-two"})
    for turn in turns:
        _, reward, terminated, _, info = env.step(turn)
    assert terminated
    assert (info["is_success"], reward) == (success, float(success))


def test_the_box_is_asked_once_before_it_closes_and_only_for_such_tasks(env: MentorToolEnv) -> None:
    box: Any = env._box
    env.reset(options={"task_id": "to-two"})
    env.step(call("more"))
    assert box.events == []
    env.step(answer("done"))
    assert box.events == ["asked", "closed"]
    env.reset(options={"task_id": "say"})
    env.step(answer("2"))
    assert box.events == ["closed"]


def test_a_final_state_that_fails_is_no_success_and_does_not_raise(env: MentorToolEnv) -> None:
    env.reset(options={"task_id": "to-two"})
    env.step(call("more", by=10))
    with pytest.warns(UserWarning, match=r"to-two.*final_state\(\).*a bug of the box"):
        _, reward, terminated, _, info = env.step(answer("done"))
    assert (reward, terminated, info["is_success"]) == (0.0, True, False)
    assert info["stop_reason"] is StopReason.ANSWER


def test_a_saved_episode_is_judged_by_what_its_tools_held(env: MentorToolEnv) -> None:
    env.reset(options={"task_id": "to-two"})
    env.step(call("more", by=2))
    twin = env.clone()
    env.step(call("more"))
    assert twin.step(answer("done"))[4]["is_success"]
    assert not env.step(answer("done"))[4]["is_success"]


@pytest.mark.parametrize("name", ["elements", "shop", "wiki", "code"])
def test_a_state_names_what_its_tools_depend_on(name: str) -> None:
    env = MentorToolEnv(name)
    env.reset(seed=0)
    state = env.get_state()
    box = load_suite(name).box
    for library, version in box.versions.items():
        assert library.encode() in state
        assert version.encode() in state
    assert bool(box.versions) is True
