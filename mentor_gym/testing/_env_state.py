"""Checks of an environment: an episode can be saved, taken up elsewhere, and cloned, its tools included."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import pickletools
from collections.abc import Iterator
from typing import Any

import gymnasium as gym

from mentor_gym.env import MentorToolEnv
from mentor_gym.state import MAGIC, VERSION, StateError
from mentor_gym.testing._env_tasks import CHECKS
from mentor_gym.testing._subject import EnvSubject, Run, difference, excerpt, play, wrapper_method
from mentor_gym.testing.base import NotApplicable, fail

_MAX_FLIPS = 8_192


def _save(env: gym.Env[str, str]) -> bytes:
    state = wrapper_method(env, "get_state")()
    if not isinstance(state, bytes):
        fail("get_state() to return bytes", type(state).__name__, "return bytes, which any file or pipe can hold")
    return state


@CHECKS.add("state", needs=["reset-forgets"])
def check_state(subject: EnvSubject) -> None:
    """A state taken at any turn continues in another environment with the same future, tools included."""
    fix = (
        "put everything that the future depends on into the state: task, turns, generator, what the tools remember"
    )
    with subject.env() as used:
        wrapper_method(used, "set_state")
        for number, run in enumerate(subject.runs):
            states = []
            with subject.env() as env:
                moments = []
                for item in run.inputs:
                    moments += play(env, [item])
                    states.append(_save(env))
            found = difference(run.moments, moments)
            if found:
                fail("get_state() to change nothing", found, "only read in get_state(), or work on copies")
            for k, state in enumerate(states, start=1):
                # New environments for the first run; one that has played something else for the others.
                with subject.env() as new:
                    other = used if number else new
                    wrapper_method(other, "set_state")(state)
                    found = difference(run.moments[k:], play(other, run.inputs[k:]))
                if found:
                    after = run.moments[k - 1].call
                    fail(f"the same future from the state after call {k}, {after}", f"then, {found}", fix)


@CHECKS.add("state-plain", needs=["state"])
def check_state_plain(subject: EnvSubject) -> None:
    """A state holds no pickle, and none is loaded: whoever loads one runs its author's code."""
    fix = "write the state as JSON or another format that only holds data"
    for run in _long_runs(subject):
        with subject.env() as env:
            play(env, run.inputs[:2])
            state = _save(env)
            start = _pickle_start(state)
            if start is not None:
                fail("a state without pickle", f"one at byte {start}: {excerpt(state[start : start + 40])}", fix)
            _Trap.sprung = False
            with contextlib.suppress(Exception):  # refusing is right, and how is another check's matter
                wrapper_method(env, "set_state")(pickle.dumps(_Trap()))
            if _Trap.sprung:
                fail("set_state() to refuse a pickle unread", "its code ran", fix)


class _Trap:
    """Unpickling it leaves a trace."""

    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _spring, ()


def _spring() -> None:
    _Trap.sprung = True


def _pickle_start(data: bytes) -> int | None:
    """Return where in `data` a whole pickle begins; None when there is none."""
    starts = [0, *(i for i in range(len(data) - 1) if data[i] == 0x80 and 2 <= data[i + 1] <= 5)]
    for start in starts:
        try:
            for _ in pickletools.genops(data[start:]):
                pass
        except Exception:
            continue  # no pickle begins here
        return start
    return None


def _long_runs(subject: EnvSubject) -> list[Run]:
    """Return the runs whose first episode goes on after the first step."""
    runs = [run for run in subject.runs if len(run.moments) > 2 and not run.moments[1].ended]
    if not runs:
        raise NotApplicable("every episode ends at the first step")
    return runs


@CHECKS.add("state-refused", needs=["state-plain"])
def check_state_refused(subject: EnvSubject) -> None:
    """A state that is damaged, cut short, foreign or too new is refused, and the environment is as before."""
    run = _long_runs(subject)[0]
    with subject.env() as env:
        play(env, run.inputs[:2])
        for name, damaged in _damaged(_save(env), env):
            try:
                wrapper_method(env, "set_state")(damaged)
            except Exception as error:
                if subject.is_mentor and not isinstance(error, StateError):
                    got = f"{type(error).__name__}: {error}"
                    fail(f"a StateError for {name}", got, "check the whole state before using any of it")
            else:
                fail(
                    f"set_state() to refuse {name}",
                    "it was taken",
                    "keep a version and a checksum (SHA-256) with the state, and compare them first",
                )
        found = difference(run.moments[2:], play(env, run.inputs[2:]))
        if found:
            fail("the environment as before after states that it refused", found, "check first, then assign")


def _damaged(state: bytes, env: gym.Env[str, str]) -> Iterator[tuple[str, Any]]:
    for i in range(0, len(state), max(1, len(state) // _MAX_FLIPS)):
        bit = 1 << (i % 8)
        yield f"a state with bit {i % 8} of byte {i} flipped", state[:i] + bytes([state[i] ^ bit]) + state[i + 1 :]
    for length in {0, 1, 8, len(state) // 3, len(state) // 2, len(state) - 1}:
        yield f"the first {length} of {len(state)} bytes of a state", state[:length]
    yield "a state with a byte more", state + b"\x00"
    for foreign in (b"GIF89a", b"\x00" * len(state), b"{}", pickle.dumps({"a": 1}), None, "text", 3):
        yield f"what is no state, {excerpt(foreign, 20)}", foreign
    base = env.unwrapped
    if isinstance(base, MentorToolEnv):
        yield "a state of a newer format", _as_newer(state)
        arguments: dict[str, Any] = {**base._arguments, "max_turns": base.max_turns + 1}
        other = type(base)(**arguments)
        other.reset(seed=0)
        yield "a state of an environment with other arguments", other.get_state()


def _as_newer(state: bytes) -> bytes:
    """Return a sound state of the format after this one."""
    header = len(MAGIC) + 2 + hashlib.sha256().digest_size
    version = (VERSION + 1).to_bytes(2, "big")
    body = state[header:]
    return MAGIC + version + hashlib.sha256(version + body).digest() + body


@CHECKS.add("clone", needs=["state"])
def check_clone(subject: EnvSubject) -> None:
    """A clone taken at any turn has the same future, and neither changes the other's."""
    fix = "copy everything, what the tools remember included, and share nothing that can change"
    for run in subject.runs:
        with subject.env() as env:
            for k, item in enumerate(run.inputs, start=1):
                found = difference(run.moments[k - 1 : k], play(env, [item]))
                if found:
                    fail("an environment that does not notice what its clones play", found, fix)
                spoilt, twin = (wrapper_method(env, "clone")() for _ in range(2))
                after = f"call {k}, {run.moments[k - 1].call}"
                if spoilt is env or spoilt.unwrapped is env.unwrapped:
                    fail("clone() to return another environment", "the same one", fix)
                try:
                    # One is played on and closed before the other plays on.
                    play(spoilt, [*run.inputs[k:], ("reset", 98), *run.inputs[1:2]])
                    spoilt.close()
                    found = difference(run.moments[k:], play(twin, run.inputs[k:]))
                    if found:
                        fail(f"the same future in a clone taken after {after}", f"then, {found}", fix)
                finally:
                    twin.close()
