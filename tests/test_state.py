"""Saved states: exact at every moment of an episode and in every process, and refused when they are damaged."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import answer, call, row, write_suite
from gymnasium.wrappers import OrderEnforcing, RecordEpisodeStatistics, TimeLimit

import mentor_gym
from mentor_gym import MentorToolEnv, RewardWrapper
from mentor_gym.protocol import render_call, render_message
from mentor_gym.state import MAGIC, VERSION, StateError, pack_rng, unpack_rng
from mentor_gym.types import StopReason, Transcript

HERE = Path(__file__).parent
TILL = str(HERE / "till_suite" / "suite.yaml")
SUITES = {"math": "math", "facts": "facts", "till": TILL, "shop": "shop", "code": "code"}
HEADER = len(MAGIC) + 2 + 32


def make(suite: str, **kwargs: Any) -> MentorToolEnv:
    return MentorToolEnv(suite, max_turns=20, **kwargs)


def teacher_turns(env: MentorToolEnv) -> list[str]:
    return [render_message(message) for message in env.task.teacher if message["role"] == "assistant"]


def strange_turns(env: MentorToolEnv) -> list[Any]:
    """Turns whose record is hard to store, before those of the teacher."""
    name = next(iter(env.tools))
    return [
        call(name, a=2**70, b=-(10**300), c=[-0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 2**53 + 1]),
        call(name, text="你好 🎉 \u2028 e\u0301 \\ \" \ufffd", nothing=None, yes=True),
        None,
        b"bytes",
        3.5,
        "\ud800\x00\x1b[31m" + call(name),
        "<tool_call>",
        "<tool_call>{'name': 1}</tool_call>" * 3,
        '<tool_call>{"name": "", "arguments": {}}</tool_call>',
        call("no_such_tool") * 12,
        "<answer>",
        "<think>" + call(name) + "</think><answer>",
        *teacher_turns(env),
    ]  # fmt: skip


def moments(suite: str, turns: Callable[[MentorToolEnv], list[Any]], seed: int) -> list[tuple[bytes, list[Any]]]:
    """Play an episode; returns the state before every turn, and the turns that were left."""
    env = make(suite)
    env.reset(seed=seed)
    left = turns(env)
    found = [(env.get_state(), list(left))]
    while env.transcript.stop_reason is None:
        env.step(left.pop(0))
        found.append((env.get_state(), list(left)))
    return found


def future(env: gym.Env[Any, Any], turns: list[Any]) -> list[Any]:
    """Play the rest of an episode, and two more."""
    record: list[Any] = []
    for turn in turns:
        if record and (record[-1][2] or record[-1][3]):
            break
        record.append(env.step(turn))
    for _ in range(2):
        record.append(env.reset())
        record.append(env.step(call("scan", item="apple") + call("total")))
        record.append(env.step(answer(1)))
    return json.loads(json.dumps(record))


@pytest.mark.parametrize("turns", [teacher_turns, strange_turns])
@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES.keys())
def test_every_moment_of_an_episode_comes_back(suite: str, turns: Callable[[MentorToolEnv], list[Any]]) -> None:
    for seed in range(3):
        found = moments(suite, turns, seed)
        first = make(suite)
        first.set_state(found[0][0])
        expected = future(first, found[0][1])
        used = make(suite)
        used.reset(seed=99)
        used.step(call("nothing"))
        for number, (state, left) in enumerate(found[:-1]):
            fresh = make(suite)
            for env in (fresh, used):
                env.set_state(state)
                assert env.get_state() == state
                assert future(env, left) == expected[number:]
        # And the end itself.
        used.set_state(found[-1][0])
        assert used.get_state() == found[-1][0]
        with pytest.raises(gym.error.ResetNeeded, match="ended"):
            used.step(answer(1))
        assert future(used, []) == expected[-6:]


def test_strange_turns_are_what_they_say() -> None:
    env = make("math")
    env.reset(seed=0)
    for turn in strange_turns(env)[:12]:
        env.step(turn)
    other = make("math")
    other.set_state(env.get_state())
    assert other.transcript == env.transcript
    arguments = other.transcript.turns[0].action.calls[0].arguments
    assert (arguments["a"], arguments["b"]) == (2**70, -(10**300))
    assert [number.hex() for number in map(float, arguments["c"][:4])] == [
        number.hex() for number in (-0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2)
    ]
    assert [type(number) for number in arguments["c"]] == [float, float, float, float, int]


def test_the_transcript_comes_back_equal_and_the_task_is_the_suite_s_own() -> None:
    env = make(TILL)
    env.reset(seed=1)
    for turn in teacher_turns(env)[:2]:
        env.step(turn)
    other = make(TILL)
    other.set_state(env.get_state())
    assert other.transcript == env.transcript
    assert other.task is env.task
    assert other.tools.keys() == env.tools.keys()
    assert other._box.scanned == env._box.scanned != []  # type: ignore[attr-defined]


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES.keys())
def test_before_the_first_reset(suite: str) -> None:
    env, other = make(suite), make(suite)
    other.reset(seed=5)
    state = env.get_state()
    other.set_state(state)
    assert other.get_state() == state
    with pytest.raises(gym.error.ResetNeeded, match="no episode has been started"):
        other.step(answer(1))
    assert future(other, []) == future(env, [])


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES.keys())
def test_after_close(suite: str) -> None:
    env, other = make(suite), make(suite)
    env.reset(seed=5)
    env.step(teacher_turns(env)[0])
    env.close()
    state = env.get_state()
    other.reset(seed=6)
    other.set_state(state)
    assert other.get_state() == state
    for item in (env, other):
        with pytest.raises(gym.error.ClosedEnvironmentError):
            item.step(answer(1))
    assert future(other, []) == future(env, [])


def test_after_replayed_turns() -> None:
    env = make(TILL)
    env.reset(seed=3, options={"task_id": "till-3", "teacher_turns": 2})
    other = env.clone()
    assert (other.replayed, len(other.transcript.turns)) == (2, 2)
    assert other.get_state() == env.get_state()
    assert future(other, [call("undo"), answer(4)]) == future(env, [call("undo"), answer(4)])


@pytest.mark.parametrize("mark", ["mark_cut_off", "mark_crashed"])
def test_a_mark_that_waits_for_the_next_step(mark: str) -> None:
    env = make(TILL)
    env.reset(seed=3)
    getattr(env, mark)()
    other = make(TILL)
    other.set_state(env.get_state())
    ends = [item.step(call("scan", item="apple")) for item in (env, other)]
    assert ends[0] == ends[1]
    assert ends[1][3] is True
    assert other.transcript.stop_reason in (StopReason.TOKEN_LIMIT, StopReason.ENV_CRASHED)
    assert other.transcript.calls() == []


@pytest.mark.parametrize("seed", [0, 2**31, 2**64 + 1, 2**200])
def test_seeds_and_generators_of_every_size_come_back(seed: int) -> None:
    env = make("math")
    env.reset(seed=seed)
    other = env.clone()
    assert other.np_random_seed == seed
    assert other.get_state() == env.get_state()
    assert [other.np_random.random() for _ in range(5)] == [env.np_random.random() for _ in range(5)]


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "SFC64"])
def test_a_generator_of_one_s_own_comes_back_in_the_middle_of_a_number(kind: str) -> None:
    env = make("math")
    env.np_random = np.random.Generator(getattr(np.random, kind)(7))
    # Half of a 64-bit draw is kept for the next one.
    env.np_random.integers(10, dtype=np.int32)
    other = make("math")
    other.set_state(env.get_state())
    draws = [list(item.np_random.integers(1000, size=5, dtype=np.int32)) for item in (env, other)]
    assert draws[0] == draws[1]


def test_a_generator_that_cannot_be_stored_is_refused_when_saving() -> None:
    env = make("math")
    env.np_random = np.random.Generator(np.random.MT19937(7))
    with pytest.raises(StateError, match="cannot hold a MT19937 generator"):
        env.get_state()


def continue_all(states: list[tuple[str, str, list[Any]]]) -> str:
    """Take up saved states, and return a digest of what comes of them."""
    total = hashlib.sha256()
    for suite, state, left in states:
        env = gym.make("MentorTool-v0", suite=suite, max_turns=20, dense=True)
        env.unwrapped.set_state(bytes.fromhex(state))  # type: ignore[attr-defined]
        total.update(env.unwrapped.get_state())  # type: ignore[attr-defined]
        total.update(json.dumps(future(env, left)).encode())
    return total.hexdigest()


def test_another_process_with_another_hash_seed_goes_on_in_the_same_way(tmp_path: Path) -> None:
    states = [
        (suite, state.hex(), [turn for turn in left if isinstance(turn, str)])
        for suite in SUITES.values()
        for turns in (teacher_turns, strange_turns)
        for state, left in moments(suite, turns, seed=4)
    ]
    file = tmp_path / "states.json"
    file.write_text(json.dumps(states))
    script = (
        f"import json, sys; sys.path.insert(0, {str(HERE)!r})\n"
        "from test_state import continue_all\n"
        f"print(continue_all(json.load(open({str(file)!r}))))"
    )
    expected = continue_all(states)
    for hash_seed in ("0", "77"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=HERE.parent,
            env={"PYTHONHASHSEED": hash_seed, "PATH": ""},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == expected


# Wrappers, clones, pickles


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("reward", ["mentor", "sparse", "strict", {"name": "mentor", "matcher": "f1"}])
@pytest.mark.parametrize("replayed", [0, 1])
def test_a_fresh_wrapper_pays_what_the_old_one_would_have_paid(reward: Any, dense: bool, replayed: int) -> None:
    def made() -> gym.Env[str, str]:
        return gym.make("MentorTool-v0", suite=TILL, reward=reward, dense=dense)

    options = {"task_id": "till-1", "teacher_turns": replayed}
    env = made()
    env.reset(options=options)
    turns = [call("no_tool"), call("undo"), *teacher_turns(env.unwrapped)[replayed:]]  # type: ignore[arg-type]
    rewards = [env.step(turn)[1] for turn in turns]
    assert sum(rewards) == pytest.approx(env.unwrapped.reward_terms and sum(env.unwrapped.reward_terms.values()))  # type: ignore[attr-defined]
    if dense and isinstance(reward, dict):
        assert sum(reward != 0 for reward in rewards) > 1
    for kept in range(len(turns)):
        env = made()
        env.reset(options=options)
        for turn in turns[:kept]:
            env.step(turn)
        fresh = made()
        fresh.unwrapped.set_state(env.unwrapped.get_state())  # type: ignore[attr-defined]
        assert [fresh.step(turn)[1] for turn in turns[kept:]] == rewards[kept:]


class BreaksAt:
    """Pays a quarter for each turn, but cannot judge transcripts of some lengths."""

    maximum = 9.0

    def __init__(self, *lengths: int) -> None:
        self.lengths = lengths

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        if len(transcript.turns) in self.lengths:
            raise ZeroDivisionError
        return {"turns": 0.25 * len(transcript.turns)}


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((), [0.25, 0.25, 0.25, 0.25, 0.25]),
        ((2,), [0.25, 0.0, 0.5, 0.25, 0.25]),
        ((2, 3), [0.25, 0.0, 0.0, 0.75, 0.25]),
        ((1,), [0.0, 0.5, 0.25, 0.25, 0.25]),
        ((1, 2, 3, 4, 5), [0.0] * 5),
    ],
)
def test_a_fresh_wrapper_knows_what_a_reward_that_broke_has_paid(lengths: tuple[int, ...], expected: Any) -> None:
    for kept in range(5):
        env = RewardWrapper(make("math"), BreaksAt(*lengths), dense=True)
        env.reset(seed=0)
        rewards = [env.step(call("nothing"))[1] for _ in range(kept)]
        fresh = RewardWrapper(make("math"), BreaksAt(*lengths), dense=True)
        fresh.unwrapped.set_state(env.unwrapped.get_state())  # type: ignore[attr-defined]
        paid = [fresh.step(call("nothing"))[1] for _ in range(5 - kept)]
        assert rewards + paid == expected
        # One that has paid for as many turns of another episode.
        used = RewardWrapper(make("math"), BreaksAt(), dense=True)
        used.reset(seed=1)
        for _ in range(kept):
            used.step(call("nothing"))
        used.reward = BreaksAt(*lengths)
        used.unwrapped.set_state(env.unwrapped.get_state())  # type: ignore[attr-defined]
        assert [used.step(call("nothing"))[1] for _ in range(5 - kept)] == paid


def without_clock(step: Any) -> Any:
    for part in step:
        if isinstance(part, dict) and "episode" in part:
            part["episode"] = {key: float(value) for key, value in part["episode"].items() if key != "t"}
    return step


def stacked(suite: str) -> gym.Env[str, str]:
    env = gym.make("MentorTool-v0", suite=suite, dense=True, max_episode_steps=5, disable_env_checker=False)
    return RecordEpisodeStatistics(OrderEnforcing(TimeLimit(env, 4)))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES.keys())
def test_a_stack_of_wrappers_is_copied_in_the_middle_of_an_episode(
    suite: str, copied: Callable[[Any], Any]
) -> None:
    turns = [call("scan", item="apple"), call("nothing"), call("total"), "<answer>", answer(1)]
    whole = stacked(suite)
    whole.reset(seed=11)
    expected = [without_clock(whole.step(turn)) for turn in turns[:4]]
    assert expected[3][3], "the time limit of the outer wrapper ends it"
    assert expected[3][4]["episode"]["l"] == 4
    for kept in range(4):
        env = stacked(suite)
        env.reset(seed=11)
        for turn in turns[:kept]:
            env.step(turn)
        twin = copied(env)
        assert twin.unwrapped is not env.unwrapped
        for item in (twin, env):
            assert [without_clock(item.step(turn)) for turn in turns[kept:4]] == expected[kept:]


def test_wrappers_of_a_copy_hold_the_copy() -> None:
    env = gym.make("MentorTool-v0", suite=TILL, render_mode="ansi")
    env.reset(seed=0)
    for twin in (copy.deepcopy(env), env.clone(), pickle.loads(pickle.dumps(env))):  # type: ignore[attr-defined]
        assert twin._base is twin.unwrapped
        assert twin.spec == env.spec
        assert twin.unwrapped.spec == env.unwrapped.spec
        assert twin.render_mode == "ansi"
        assert twin.unwrapped.terms_follow
        assert twin.render() == env.render()


def test_a_copied_list_of_environments_keeps_one_for_each() -> None:
    envs = [make(TILL) for _ in range(3)]
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
    twins = copy.deepcopy([*envs, envs[0]])
    assert twins[3] is twins[0]
    assert [twin.get_state() for twin in twins[:3]] == [env.get_state() for env in envs]


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES.keys())
def test_clones_do_not_see_each_other(suite: str) -> None:
    env = make(suite)
    env.reset(seed=2)
    turns = teacher_turns(env)
    env.step(turns[0])
    before = env.get_state()
    twin = env.clone()
    grandchild = twin.clone()
    for turn in (call(next(iter(env.tools)), item="bread"), *turns[1:]):
        if twin.transcript.stop_reason is None:
            twin.step(turn)
    twin.reset(seed=77)
    twin.close()
    assert env.get_state() == grandchild.get_state() == before
    futures = [future(item, turns[1:]) for item in (env, grandchild)]
    assert futures[0] == futures[1]


def test_44_a_clone_in_the_middle_of_a_session_has_a_session_of_its_own() -> None:
    env = make(TILL)
    env.reset(options={"task_id": "till-1"})
    env.step(call("scan", item="apple"))
    twin = env.clone()
    assert twin._box is not env._box
    env.step(call("scan", item="bread"))
    assert twin.step(call("total"))[0] == "<tool_response>0.5</tool_response>"
    assert env.step(call("total"))[0] == "<tool_response>3.7</tool_response>"
    twin.close()
    assert env.step(call("undo"))[0] == "<tool_response>took back bread</tool_response>"


@pytest.mark.parametrize("suite", ["math", TILL], ids=["math", "till"])
def test_renderings_and_rewards_do_not_bind_a_state(suite: str) -> None:
    env = gym.make("MentorTool-v0", suite=suite, reward=None)
    env.reset(seed=1)
    other = gym.make("MentorTool-v0", suite=suite, reward="sparse", dense=True, render_mode="ansi")
    other.unwrapped.set_state(env.unwrapped.get_state())  # type: ignore[attr-defined]
    assert other.step(answer("no"))[1] == 0.1


# What is refused


@pytest.fixture(params=["math", TILL], ids=["math", "till"])
def saved(request: pytest.FixtureRequest) -> tuple[MentorToolEnv, bytes]:
    """An environment in the middle of an episode, and the state of another episode."""
    env = make(request.param)
    env.reset(seed=1)
    env.step(call(next(iter(env.tools)), item="apple"))
    state = env.get_state()
    env.reset(seed=2)
    env.step("<answer>")
    return env, state


def refused(env: MentorToolEnv, state: Any, words: str | None = None) -> None:
    """Have a state refused, and look that nothing has changed."""
    before = env.get_state()
    with pytest.raises(StateError, match=words):
        env.set_state(state)
    assert env.get_state() == before


def test_every_flipped_bit_of_the_header_and_many_of_the_rest_are_noticed(
    saved: tuple[MentorToolEnv, bytes],
) -> None:
    env, state = saved
    chance = random.Random(0)
    bits = [*range(8 * HEADER), *(chance.randrange(8 * HEADER, 8 * len(state)) for _ in range(1000))]
    for bit in bits:
        damaged = bytearray(state)
        damaged[bit // 8] ^= 1 << bit % 8
        refused(env, bytes(damaged))
    env.set_state(state)
    assert env.get_state() == state


def test_every_truncation_and_every_addition_is_noticed(saved: tuple[MentorToolEnv, bytes]) -> None:
    env, state = saved
    for length in range(len(state)):
        refused(env, state[:length])
    for extra in (b"\0", b" ", b"\n", state):
        refused(env, state + extra, "damaged")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (None, "a state is bytes, as get_state.. returns them, got NoneType"),
        ("text", "got str"),
        (3, "got int"),
        ([1], "got list"),
        (b"", "not a state of a mentor_gym environment"),
        (b"\x80\x04K\x01.", "not a state of a mentor_gym environment"),
        (b"mentor_gym", "truncated"),
        (MAGIC, "truncated"),
        (MAGIC + b"\0" * 34, "has format 0"),
        (MAGIC + (VERSION + 1).to_bytes(2, "big") + b"\0" * 100, f"{VERSION + 1}, .* reads format {VERSION}"),
        (pickle.dumps({"task": 1}), "not a state"),
        (random.Random(0).randbytes(5000), "not a state"),
    ],
)  # fmt: skip
def test_what_is_no_state_is_refused(saved: tuple[MentorToolEnv, bytes], state: Any, words: str) -> None:
    refused(saved[0], state, words)


def test_other_kinds_of_bytes_are_bytes(saved: tuple[MentorToolEnv, bytes]) -> None:
    env, state = saved
    for kind in (bytearray, memoryview):
        env.reset(seed=9)
        env.set_state(kind(state))
        assert env.get_state() == state


def sealed(body: bytes) -> bytes:
    """Write a content as another program would that knows the format."""
    version = VERSION.to_bytes(2, "big")
    return MAGIC + version + hashlib.sha256(version + body).digest() + body


def changed(state: bytes, **fields: Any) -> bytes:
    return sealed(json.dumps({**json.loads(state[HEADER:]), **fields}).encode())


def test_states_that_another_program_wrote_are_read(saved: tuple[MentorToolEnv, bytes]) -> None:
    env, state = saved
    env.set_state(changed(state))
    assert env.get_state() == state


RNG = json.loads(pack_rng(np.random.default_rng(0)))
SFC = json.loads(pack_rng(np.random.Generator(np.random.SFC64(0))))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"surprise": 1}, "not one of this version"),
        ({"turns": 3}, "not one of this version"),
        ({"turns": [{"text": 1}]}, "not one of this version"),
        ({"stop_reason": "boredom"}, "not one of this version"),
        ({"forced": "boredom"}, "not one of this version"),
        ({"tools": "not base64!"}, "not one of this version"),
        ({"made_with": {}}, "saved with suite None, this environment has"),
        ({"made_with": {"suite": [[[[[[[[[[[]]]]]]]]]]]}}, "saved with suite .*, this environment has"),
        ({"made_with": {"suite": "x" * 10_000}}, r"saved with suite 'x{10,14}\.\.\.x{10,14}', this"),
        ({"replayed": -1}, "-1 of 1 turns were replayed"),
        ({"replayed": 2}, "2 of 1 turns were replayed"),
        ({"rng": ""}, "generator's state cannot be read: JSONDecodeError"),
        ({"rng": "[" * 100_000}, "generator's state cannot be read: RecursionError"),
        ({"rng": "9" * 5000}, "generator's state cannot be read: ValueError"),
        ({"rng": "{}"}, "generator's state cannot be read: KeyError"),
        ({"rng": '{"bit_generator": []}'}, "generator's state cannot be read: TypeError"),
        ({"rng": '{"bit_generator": "MT19937"}'}, "generator's state cannot be read: KeyError"),
        ({"rng": '{"bit_generator": "Generator"}'}, "generator's state cannot be read: KeyError"),
        ({"rng": json.dumps({**RNG, "state": {"state": -1, "inc": 1}})}, "generator's state cannot be read"),
        ({"rng": json.dumps({**RNG, "state": {"state": 2**200, "inc": 1}})}, "generator's state cannot be read"),
        ({"rng": json.dumps({**RNG, "state": "x"})}, "generator's state cannot be read"),
        ({"rng": json.dumps({**RNG, "uinteger": 2**70})}, "generator's state cannot be read"),
        ({"rng": json.dumps({**SFC, "state": {"state": [1]}})}, "generator's state cannot be read"),
        ({"rng": json.dumps({**SFC, "state": {"state": [1, 2, 3, -1]}})}, "generator's state cannot be read"),
    ],
)
def test_contents_that_nobody_saved_are_refused(
    saved: tuple[MentorToolEnv, bytes], fields: dict[str, Any], words: str
) -> None:
    refused(saved[0], changed(saved[1], **fields), words)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b'{"rng": "\xff"}', b"\xff\xfe", b"[" * 100_000, b'{"made_with":']
)
def test_bodies_that_are_no_content_are_refused(saved: tuple[MentorToolEnv, bytes], body: bytes) -> None:
    refused(saved[0], sealed(body), "not one of this version")


def test_a_task_that_is_not_this_environment_s_is_refused(saved: tuple[MentorToolEnv, bytes]) -> None:
    """Its answer, its tools or its grader may be anything, and would be used in every step."""
    env, state = saved
    task = json.loads(state[HEADER:])["task"]
    for fields in (
        {"id": "other"},
        {"answer": "7"},
        {"tools": ["nothing"]},
        {"grader": {"kind": "?"}},
        {"prompt": ""},
    ):
        refused(
            env, changed(state, task={**task, **fields}), "the state's task '.*' differs from this environment's"
        )


def other_suite(folder: Path, **fields: Any) -> str:
    return write_suite(folder, [row("both", **fields), row("second", prompt="Another?")])


def test_states_of_other_environments_are_refused_and_say_why(tmp_path: Path) -> None:
    suite = other_suite(tmp_path / "shop")
    env = MentorToolEnv(suite)
    env.reset(options={"task_id": "both"})
    state = env.get_state()
    for kwargs, words in [
        ({"suite": "math"}, "with suite 'shop', this environment has 'math'"),
        ({"suite": suite, "max_turns": 9}, "with max_turns 8, this environment has 9"),
        ({"suite": suite, "prompt": "compact"}, "with prompt 'full', this environment has 'compact'"),
        ({"suite": suite, "where": {"note": "teacher-only-5f3a"}}, ""),
    ]:
        other = MentorToolEnv(**kwargs)
        if words:
            refused(other, state, words)
        else:
            other.set_state(state)
    math = make("math")
    math.reset()
    refused(make("math", split="test"), math.get_state(), "with split 'train', this environment has 'test'")
    refused(make("math", where={"calls": 1}), math.get_state(), "with tasks '[0-9a-f]{16}', this environment has")


def test_changed_files_are_noticed(tmp_path: Path) -> None:
    env = MentorToolEnv(other_suite(tmp_path / "a"))
    env.reset(options={"task_id": "both"})
    state = env.get_state()

    def refuse(name: str, words: str, edit: Callable[[Path], object], **fields: Any) -> None:
        path = other_suite(tmp_path / name, **fields)
        edit(tmp_path / name)
        refused(MentorToolEnv(path), state, words)

    def shorten(folder: Path) -> None:
        rows = (folder / "train.jsonl").read_text().splitlines()
        (folder / "train.jsonl").write_text(rows[0] + "\n")

    def edit_tools(folder: Path) -> None:
        text = (folder / "tools.py").read_text()
        (folder / "tools.py").write_text(text.replace("A times b.", "a multiplied by b."))

    refuse("fewer", "with tasks", shorten)
    refuse("tools", "with tools", edit_tools)
    refuse("answer", "the state's task 'both' differs", lambda folder: None, answer="19")
    # The same suite elsewhere is the same.
    same = MentorToolEnv(str(shutil.copytree(tmp_path / "a", tmp_path / "b") / "suite.yaml"))
    same.set_state(state)
    assert same.get_state() == state


FRAGILE = '''
from mentor_gym.tools import Tool, ToolBox

BROKEN = set()


class Box(ToolBox):
    def __init__(self):
        self.opened = 0
        self.count = None
        super().__init__([Tool.from_function(self.bump)])

    def bump(self) -> int:
        """Count."""
        self.count += 1
        return self.count

    def open(self, state):
        if "open" in BROKEN:
            raise OSError("no connection")
        self.opened += 1
        self.count = 0

    def snapshot(self):
        return str(self.count).encode()

    def restore(self, snapshot):
        self.count = -1
        if "restore" in BROKEN:
            BROKEN.discard("restore")
            raise OSError("no connection")
        self.count = int(snapshot)

    def close(self):
        if self.count is not None:
            self.opened -= 1
        self.count = None


make_box = Box
'''


@pytest.fixture
def fragile(tmp_path: Path) -> tuple[str, set[str]]:
    """A suite whose box can be told to fail; returns its path and what shall fail."""
    path = write_suite(
        tmp_path / "fragile", [row("both", tools=["bump"], teacher=[]), row("two", tools=["bump"], teacher=[])]
    )
    (tmp_path / "fragile" / "tools.py").write_text(FRAGILE)
    env = MentorToolEnv(path)
    return path, type(env._box).open.__globals__["BROKEN"]


def test_tools_that_refuse_their_snapshot_leave_the_episode_as_it_was(fragile: tuple[str, set[str]]) -> None:
    path, broken = fragile
    env = MentorToolEnv(path)
    env.reset(seed=0)
    env.step(call("bump") * 3)
    other = MentorToolEnv(path)
    other.reset(seed=1)
    other.step(call("bump"))
    broken.add("restore")
    refused(other, env.get_state(), "the tools refuse their snapshot: OSError: no connection")
    assert other.step(call("bump"))[0] == "<tool_response>2</tool_response>"
    assert other._box.opened == 1  # type: ignore[attr-defined]
    other.set_state(env.get_state())
    assert other.step(call("bump"))[0] == "<tool_response>4</tool_response>"


@pytest.mark.parametrize("fault", ["restore", "open"])
@pytest.mark.parametrize("when", ["before reset", "ended", "closed"])
def test_tools_that_fail_are_not_left_open(fragile: tuple[str, set[str]], fault: str, when: str) -> None:
    path, broken = fragile
    env = MentorToolEnv(path)
    env.reset(seed=0)
    state = env.get_state()
    other = MentorToolEnv(path)
    if when != "before reset":
        other.reset()
        other.step(answer(1)) if when == "ended" else other.close()
    broken.add(fault)
    refused(other, state, "the tools refuse")
    broken.clear()
    assert other._box.count is None  # type: ignore[attr-defined]
    other.set_state(state)
    assert other.step(call("bump"))[0] == "<tool_response>1</tool_response>"


def test_a_reset_whose_tools_do_not_open_leaves_no_half_episode(fragile: tuple[str, set[str]]) -> None:
    path, broken = fragile
    env = MentorToolEnv(path)
    env.reset(seed=0)
    broken.add("open")
    with pytest.raises(OSError, match="no connection"):
        env.reset()
    with pytest.raises(gym.error.ClosedEnvironmentError):
        env.step(call("bump"))
    broken.clear()
    env.reset()
    assert env.step(call("bump"))[0] == "<tool_response>1</tool_response>"


def test_a_snapshot_that_is_garbage_is_refused(saved: tuple[MentorToolEnv, bytes]) -> None:
    env, state = saved
    garbage = changed(state, tools="AAAA")
    if env.suite.box.has_state:
        refused(env, garbage, "the tools refuse their snapshot")
    else:
        env.set_state(garbage)
        assert env.get_state() == state


@pytest.mark.parametrize("when", ["before reset", "ended", "closed"])
def test_a_state_without_an_episode_closes_the_tools_of_the_one_it_replaces(when: str) -> None:
    env, other = make(TILL), make(TILL)
    if when != "before reset":
        env.reset()
        env.step(answer(1)) if when == "ended" else env.close()
    other.reset()
    assert other._box.is_open  # type: ignore[attr-defined]
    other.set_state(env.get_state())
    assert not other._box.is_open  # type: ignore[attr-defined]


def test_generators_that_are_read_are_new_ones() -> None:
    generator = np.random.default_rng(0)
    twin = unpack_rng(pack_rng(generator))
    twin.random()
    assert pack_rng(generator) != pack_rng(twin)


def test_a_state_of_a_call_at_the_depth_limit_comes_back() -> None:
    env = make("math")
    env.reset(seed=0)
    value: Any = 1
    for _ in range(29):
        value = [value] if _ % 2 else {"a": value}
    env.step(render_call(next(iter(env.tools)), {"a": value}))
    assert env.transcript.turns[0].action.calls[0].error is None
    assert env.clone().transcript == env.transcript


def test_states_are_small_and_make_env_takes_them() -> None:
    env = mentor_gym.make_env("mentor", suite="math")
    env.reset(seed=0)
    state = env.unwrapped.get_state()  # type: ignore[attr-defined]
    assert len(state) < 10_000
    fresh = mentor_gym.make_env("mentor", suite="math")
    fresh.unwrapped.set_state(state)  # type: ignore[attr-defined]
    assert fresh.step(answer("no"))[2]


@pytest.mark.parametrize(
    "change", [{"inc": 0.5}, {"inc": 2}, {"inc": -1}, {"state": 0.5}, {"state": 2**128}, {"inc": "1"}]
)
def test_a_generator_that_would_never_return_is_refused(change: dict[str, Any]) -> None:
    # Found by fuzzing: NumPy takes 0.5 for 0, and draws from such a generator for ever.
    state = json.loads(pack_rng(np.random.default_rng(0)))
    assert unpack_rng(json.dumps(state)).random() == np.random.default_rng(0).random()
    state["state"] |= change
    with pytest.raises(StateError, match="generator"):
        unpack_rng(json.dumps(state))
