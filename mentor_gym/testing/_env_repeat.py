"""Checks of an environment: an episode depends on its seed and on the actions, and on nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gymnasium as gym

from mentor_gym.testing._env_contract import CHECKS
from mentor_gym.testing._fresh import Unreachable, play_elsewhere
from mentor_gym.testing._randomness import watched_generators
from mentor_gym.testing._subject import (
    EnvSubject,
    Moment,
    difference,
    excerpt,
    play,
    texts_difference,
)
from mentor_gym.testing.base import NotApplicable, fail
from mentor_gym.types import StopReason

_SEEDS = 20
_INFO_TYPES: dict[str, type] = {
    "task_id": str,
    "suite": str,
    "split": str,
    "turn": int,
    "messages": list,
    "tool_calls": list,
    "is_success": bool,
}


@CHECKS.add("seed", needs=["hostile"])
def check_seed(subject: EnvSubject) -> None:
    """The same seed gives the same episodes, and different seeds give different tasks where there are several."""
    if subject.spec is not None and subject.spec.nondeterministic:
        raise NotApplicable("the environment is registered as nondeterministic")
    fix = "call super().reset(seed=seed) and draw only from self.np_random, not from a global generator or a clock"
    for run in subject.runs:
        # What draws from a global generator draws other numbers in here.
        with watched_generators():
            found = difference(run.moments, subject.replay(run), info=False)
        if found:
            fail(f"the same episodes from the same seed {run.inputs[0][1]}", found, fix)
    with subject.env() as env:
        openings = {env.reset(seed=seed)[0] for seed in range(_SEEDS)}
        if len(openings) == 1 and _has_several_tasks(subject, env):
            fail(f"several tasks among those of {_SEEDS} seeds", "the same one each time", fix)


def _has_several_tasks(subject: EnvSubject, env: gym.Env[str, str]) -> bool:
    if subject.is_mentor:
        return len(env.unwrapped.tasks) > 1  # type: ignore[attr-defined]
    unseeded = set()
    for _ in range(_SEEDS):
        with subject.env() as other:
            unseeded.add(other.reset()[0])
    return len(unseeded) > 1


@CHECKS.add("global-random", needs=["seed"])
def check_global_random(subject: EnvSubject) -> None:
    """The global generators of `random`, NumPy and torch are neither seeded nor used."""
    for run in subject.runs:
        _leaves_generators_alone("making the environment", subject.factory)
        with subject.env() as env:
            for item, moment in zip(run.inputs, run.moments):
                _leaves_generators_alone(moment.call, functools.partial(play, env, [item]))
            _leaves_generators_alone("close()", env.close)


def _leaves_generators_alone(call: str, function: Callable[[], Any]) -> None:
    with watched_generators() as touched:
        function()
    for name in touched:
        fail(
            f"{call} to leave the global generator of {name} alone",
            "another state after it",
            "draw from self.np_random; a seeded global generator couples all environments of the process",
        )


@CHECKS.add("info", needs=["seed"])
def check_info(subject: EnvSubject) -> None:
    """Info has its keys, none of Gymnasium's own, no clock: equal episodes have equal infos."""
    for run in subject.runs:
        for moment in run.moments:
            if "episode" in moment.info:
                fail(
                    f"no 'episode' in the info of {moment.call}",
                    "one",
                    "leave that key to RecordEpisodeStatistics",
                )
            if subject.is_mentor:
                _check_mentor_info(moment)
        found = difference(run.moments, subject.replay(run))
        if found:
            fail("equal infos in two equal episodes", found, "leave clocks, addresses and random ids out of info")


def _check_mentor_info(moment: Moment) -> None:
    for key, kind in _INFO_TYPES.items():
        value = moment.info.get(key)
        if not isinstance(value, kind):
            fail(
                f"info[{key!r}] of {moment.call}: {kind.__name__}",
                excerpt(value),
                "keep what MentorToolEnv puts there",
            )
    reason = moment.info.get("stop_reason", "missing")
    if moment.ended != isinstance(reason, StopReason) or (reason is None) == moment.ended:
        fail(
            f"info['stop_reason'] of {moment.call}: a StopReason at the end, None before it",
            excerpt(reason),
            "keep what MentorToolEnv puts there",
        )


@CHECKS.add("reset-forgets", needs=["info"])
def check_reset_forgets(subject: EnvSubject) -> None:
    """What `reset(seed)` starts does not depend on what was played before."""
    pasts = {
        "one episode": subject.runs[0].inputs,
        "many episodes": [item for run in subject.runs for item in run.inputs],
        "an episode that was left in the middle": subject.runs[2].inputs[:2],
    }
    for name, past in pasts.items():
        with subject.env() as env:
            play(env, past)
            for number, run in enumerate(subject.runs):
                found = difference(run.moments, play(env, run.inputs))
                if found:
                    more = f", then {2 * number} more" if number else ""
                    fail(
                        f"after reset the same as in a new environment (played before: {name}{more})",
                        found,
                        "build everything that belongs to an episode anew in reset()",
                    )


@CHECKS.add("processes", needs=["info"])
def check_processes(subject: EnvSubject) -> None:
    """The same seed gives the same bytes in other processes, whatever PYTHONHASHSEED is."""
    try:
        answers = play_elsewhere(subject.factory, [run.inputs for run in subject.runs])
    except Unreachable as error:
        if not subject.is_named:
            raise NotApplicable(f"{error}; name the environment as module:attribute") from error
        fail("the same episodes in another process", str(error), "make the module importable there")
    for hash_seed, episodes in answers.items():
        for run, texts in zip(subject.runs, episodes, strict=True):
            found = texts_difference([(item.call, item.texts) for item in run.moments], texts)
            if found:
                fail(
                    f"the same episode in another process with PYTHONHASHSEED={hash_seed}",
                    found,
                    "sort sets before using them, and use no hash(), id(), process id or clock",
                )
