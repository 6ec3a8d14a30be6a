"""Checks of an environment: made again from its specification, in vectors, and Gymnasium's own checker."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env as check_with_gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from mentor_gym.testing._env_state import CHECKS
from mentor_gym.testing._subject import EnvSubject, canonical, difference, excerpt, play, texts_difference
from mentor_gym.testing.base import NotApplicable, fail

_VECTOR_STEPS = 10
_VECTOR_TIMEOUT_S = 60.0
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


@CHECKS.add("spec", needs=["info"])
def check_spec(subject: EnvSubject) -> None:
    """`gym.make(env.spec)` makes the same environment again, also after a way through JSON."""
    with subject.env() as env:
        spec, wrappers = env.spec, _stack(env)
    if spec is None:
        raise NotApplicable("the environment was not made by gym.make and has no spec")
    specs = {"gym.make(env.spec)": spec}
    if isinstance(spec.entry_point, str):
        try:
            specs["gym.make(EnvSpec.from_json(env.spec.to_json()))"] = EnvSpec.from_json(spec.to_json())
        except Exception as error:
            fix = "give the environment only arguments that JSON holds"
            fail("env.spec to survive to_json() and from_json()", f"{type(error).__name__}: {error}", fix)
    for name, item in specs.items():
        fix = "record every argument: keyword arguments in the spec, RecordConstructorArgs in wrappers"
        try:
            copy = gym.make(item)
        except Exception as error:
            fail(f"{name} to make the environment again", f"{type(error).__name__}: {error}", fix)
        with contextlib.closing(copy):
            if _stack(copy) != wrappers:
                fail(f"{name} to have the wrappers {wrappers}", f"{_stack(copy)}", fix)
            for run in subject.runs:
                found = difference(run.moments, play(copy, run.inputs))
                if found:
                    fail(f"{name} to play the same", found, fix)


def _stack(env: gym.Env[Any, Any]) -> list[str]:
    names = []
    while isinstance(env, gym.Wrapper):
        names.append(type(env).__name__)
        env = env.env
    return [*names, type(env).__name__]


class _Answer(NamedTuple):
    """What one environment of a vector answered: compared as text."""

    observation: str
    reward: float
    terminated: bool
    truncated: bool
    final_observation: str | None = None


@CHECKS.add("vector", needs=["processes", "reset-forgets"])
def check_vector(subject: EnvSubject) -> None:
    """It plays the same alone, in Sync and AsyncVectorEnv and in `gym.make_vec`, in every autoreset mode."""
    seeds = [0, 1]
    actions = [_cycled([value for kind, value in run.inputs if kind == "step"]) for run in subject.runs[:2]]
    for mode in AutoresetMode:
        alone = [_play_alone(subject, mode, seed, texts) for seed, texts in zip(seeds, actions)]
        infos: dict[str, list[dict[str, str]]] = {}
        for name, make in _vectors(subject, mode, len(seeds)).items():
            answers, infos[name] = _play_vector(make, mode, seeds, actions)
            for i, (wanted, got) in enumerate(zip(alone, answers)):
                for number, (one, other) in enumerate(zip(wanted, got)):
                    if canonical(one) != canonical(other):
                        fail(
                            f"environment {i} of {name} to answer call {number} as alone in mode {mode.name}",
                            f"{excerpt(tuple(other))} against {excerpt(tuple(one))}",
                            "leave autoreset and seeds to the vector, and let nothing depend on the process",
                        )
        calls = [(f"in mode {mode.name}", texts) for texts in infos["SyncVectorEnv"]]
        found = texts_difference(calls, infos["AsyncVectorEnv"])
        if found:
            fail("equal infos in SyncVectorEnv and AsyncVectorEnv", found, "put only plain data into info")


def _cycled(texts: Sequence[str]) -> list[str]:
    return [texts[i % len(texts)] for i in range(_VECTOR_STEPS)]


def _vectors(
    subject: EnvSubject, mode: AutoresetMode, count: int
) -> dict[str, Callable[[], VectorEnv[Any, Any, Any]]]:
    factories = [subject.factory] * count
    vectors: dict[str, Callable[[], VectorEnv[Any, Any, Any]]] = {
        "SyncVectorEnv": lambda: SyncVectorEnv(factories, autoreset_mode=mode),
        # Gymnasium reads texts from shared memory once, before they are written.
        "AsyncVectorEnv": lambda: AsyncVectorEnv(factories, shared_memory=False, autoreset_mode=mode),
    }
    spec = subject.spec
    if spec is not None and spec.vector_entry_point is not None:
        vectors["gym.make_vec"] = lambda: gym.make_vec(spec, num_envs=count, autoreset_mode=mode, **subject.kwargs)
    return vectors


def _play_alone(subject: EnvSubject, mode: AutoresetMode, seed: int, actions: Sequence[str]) -> list[_Answer]:
    """Play what a vector's autoreset makes of the actions."""
    with subject.env() as env:
        answers = [_Answer(env.reset(seed=seed)[0], 0.0, False, False)]
        over = False
        for action in actions:
            if over and mode is AutoresetMode.NEXT_STEP:
                answers.append(_Answer(env.reset()[0], 0.0, False, False))
                over = False
                continue
            if over and mode is AutoresetMode.DISABLED:
                env.reset()
            observation, reward, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
            answer = _Answer(observation, float(reward), terminated, truncated)
            if over and mode is AutoresetMode.SAME_STEP:
                answer = answer._replace(observation=env.reset()[0], final_observation=observation)
            answers.append(answer)
    return answers


def _play_vector(
    make: Callable[[], VectorEnv[Any, Any, Any]],
    mode: AutoresetMode,
    seeds: list[int],
    actions: Sequence[Sequence[str]],
) -> tuple[list[list[_Answer]], list[dict[str, str]]]:
    """Play the actions; returns the answers by environment, and the infos by call."""
    envs = make()
    count = len(seeds)
    try:
        observations, info = envs.reset(seed=seeds)  # type: ignore[arg-type]
        answers = [[_Answer(observations[i], 0.0, False, False)] for i in range(count)]
        infos = [_info_texts(info)]
        over = np.zeros(count, dtype=bool)
        for texts in zip(*actions):
            if mode is AutoresetMode.DISABLED and over.any():
                envs.reset(options={"reset_mask": over})
            if isinstance(envs, AsyncVectorEnv):
                envs.step_async(texts)
                output = envs.step_wait(timeout=_VECTOR_TIMEOUT_S)
            else:
                output = envs.step(texts)
            observations, rewards, terminated, truncated, info = output
            over = np.logical_or(terminated, truncated)
            infos.append(_info_texts(info))
            for i in range(count):
                final = info["final_obs"][i] if over[i] and mode is AutoresetMode.SAME_STEP else None
                ends = bool(terminated[i]), bool(truncated[i])
                answers[i].append(_Answer(observations[i], float(rewards[i]), *ends, final))
    finally:
        # Not by terminate: a worker that is killed does not close its environment.
        envs.close()
    return answers, infos


def _info_texts(info: dict[str, Any]) -> dict[str, str]:
    keys = {"the keys of info": canonical(sorted(info))}
    return keys | {f"info[{key!r}]": canonical(value) for key, value in info.items()}


@CHECKS.add("gymnasium", needs=["observations", "reward", "one-end", "close", "reset-forgets"])
def check_gymnasium(subject: EnvSubject) -> None:
    """`gymnasium.utils.env_checker.check_env` finds nothing, and warns of nothing."""
    with subject.env() as env, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("error")
        # It makes the environment again, in other render modes too. Whether that can be done is `spec`'s matter.
        alone = not _can_be_made_again(env.unwrapped.spec)
        _run_checker(env.unwrapped, skip_render_check=alone, skip_close_check=alone)
        if env is not env.unwrapped:
            # Its complaint about a wrapped environment is that it is wrapped.
            warnings.filterwarnings("ignore", message=".*is different from the unwrapped version.*")
            _run_checker(env, skip_render_check=True, skip_close_check=True)


def _can_be_made_again(spec: EnvSpec | None) -> bool:
    try:
        gym.make(spec).close()  # type: ignore[arg-type]
    except Exception:
        return False
    return True


def _run_checker(env: gym.Env[Any, Any], **options: bool) -> None:
    try:
        check_with_gymnasium(env, **options)
    except Exception as error:
        kind = "a warning" if isinstance(error, Warning) else type(error).__name__
        got = f"{kind}: {_COLOUR.sub('', str(error))}"
        fail(f"gymnasium's check_env to pass for {type(env).__name__}", got, "do as the message says")
