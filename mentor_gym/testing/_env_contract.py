"""Checks of an environment: Gymnasium's contract, whatever is played."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym

from mentor_gym.testing._hostile import MARKERS, defused, forged_texts, provocations, tools_of
from mentor_gym.testing._subject import EnvSubject, Moment, excerpt
from mentor_gym.testing.base import CheckList, NotApplicable, fail

# One list for all modules of checks: each takes it from the module whose checks its own presuppose.
CHECKS = CheckList()

_MAX_STEPS = 200


@CHECKS.add("make")
def check_make(subject: EnvSubject) -> None:
    """The target makes a `gymnasium.Env`, a new one at each call."""
    with subject.env() as env:
        if not isinstance(env, gym.Env):
            fail("a gymnasium.Env", type(env).__name__, "derive the class from gymnasium.Env")
        with subject.env() as other:
            if other is env or other.unwrapped is env.unwrapped:
                fail("a new environment at each call", "the same object twice", "build it inside the factory")


@CHECKS.add("spaces", needs=["make"])
def check_spaces(subject: EnvSubject) -> None:
    """Both spaces hold text: Unicode and the empty text, but no lone surrogates and nothing else."""
    fix = "use mentor_gym.spaces.UnicodeText(max_length); Gymnasium's Text is alphanumeric unless told otherwise"
    with subject.env() as env:
        for name in ("action_space", "observation_space"):
            space = getattr(env, name, None)
            if not isinstance(space, gym.Space):
                fail(f"{name}: a gymnasium.Space of text", excerpt(space), fix)
            for text in ("", "two words", "a\nb\tc", "你好 🎉 שלום", "<answer>3.5</answer>"):
                if text not in space:
                    fail(f"{name} to hold {text!r}", f"{excerpt(space)}, which does not", fix)
            for value in (None, 3, b"bytes", "\ud800"):
                if value in space:
                    fail(f"{name} to refuse {value!r}", f"{excerpt(space)}, which holds it", fix)
            if space.sample() not in space:
                fail(f"{name}.sample() to be a member", "one that is not", fix)


@CHECKS.add("api", needs=["spaces"])
def check_api(subject: EnvSubject) -> None:
    """`reset(seed=, options=)` returns (text, info); `step(text)` returns (text, reward, bool, bool, info)."""
    with subject.env() as env:
        parameters = inspect.signature(env.unwrapped.reset).parameters
        takes_all = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
        for name in ("seed", "options"):
            if name not in parameters and not takes_all:
                fail(
                    f"reset() to have the argument {name}",
                    f"reset({', '.join(parameters)})",
                    "def reset(self, *, seed=None, options=None)",
                )
        for arguments in ({"seed": 0}, {}, {"seed": 1, "options": None}):
            result = env.reset(**arguments)
            if not isinstance(result, tuple) or len(result) != 2:
                fail("reset() to return (observation, info)", excerpt(result), "return both")
            _check_returned("reset()", *result)
        action = subject.good_action(env, 0, result[0])
        output = env.step(action)
        call = f"step({excerpt(action)})"
        if not isinstance(output, tuple) or len(output) != 5:
            fail(
                f"{call} to return five values",
                excerpt(output),
                "return observation, reward, terminated, truncated, info",
            )
        observation, _, terminated, truncated, info = output
        _check_returned(call, observation, info)
        _check_bools(call, terminated, truncated)


def _check_bools(call: str, terminated: Any, truncated: Any) -> None:
    for name, value in (("terminated", terminated), ("truncated", truncated)):
        # NumPy's bools too: `terminated is False` and JSON do not know them.
        if type(value) is not bool:
            fail(f"{name} of {call} to be a bool", f"{type(value).__name__} {value!r}", f"return bool({name})")


def _check_returned(call: str, observation: Any, info: Any) -> None:
    if not isinstance(observation, str):
        fail(
            f"the observation of {call} to be a str",
            f"{type(observation).__name__} {excerpt(observation)}",
            "return text",
        )
    if not isinstance(info, dict):
        fail(
            f"the info of {call} to be a dict",
            f"{type(info).__name__} {excerpt(info)}",
            "return a dict, {} for none",
        )


@CHECKS.add("hostile", needs=["api"])
def check_hostile(subject: EnvSubject) -> None:
    """No action raises or hangs, and the environment can be used after it."""
    for item in provocations(subject):
        if item.error is not None:
            fail(
                f"step() to answer {item.name}",
                item.error,
                "return an observation that says what was wrong with the action; never raise because of it",
            )
        if item.seconds > subject.seconds:
            fail(
                f"an answer to {item.name} within {subject.seconds:g} s",
                f"{item.seconds:.1f} s",
                "cut actions before reading them, read them in linear time, and bound what tools compute "
                "(@tool(timeout=1))",
            )


def _all_moments(subject: EnvSubject) -> Iterator[Moment]:
    for run in subject.runs:
        yield from run.moments
    for item in provocations(subject):
        if item.moment is not None:
            yield item.moment


@CHECKS.add("observations", needs=["hostile"])
def check_observations(subject: EnvSubject) -> None:
    """Every observation is valid UTF-8 and in the observation space, whatever was played."""
    with subject.env() as env:
        space = env.observation_space
    for moment in _all_moments(subject):
        text = moment.observation
        if not isinstance(text, str):
            fail(f"the observation of {moment.call} to be a str", f"{type(text).__name__}", "return text")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            fail(
                f"the observation of {moment.call} to be valid UTF-8",
                f"{text[error.start : error.start + 10]!a} at character {error.start}",
                "clean what comes from actions and tools: mentor_gym.protocol.clean(text)",
            )
        if text not in space:
            fail(
                f"the observation of {moment.call} to be in {excerpt(space)}",
                excerpt(text),
                "cut observations to the length of the space, or make it larger",
            )


@CHECKS.add("forgery", needs=["observations"])
def check_forgery(subject: EnvSubject) -> None:
    """No action can make an observation hold a marker of a tool response or of a chat turn."""
    with subject.env() as env:
        env.reset(seed=0)
        actions = list(forged_texts(tools_of(env)))
        for name, action in actions:
            answers = []
            for text in (action, defused(action)):
                env.reset(seed=0)
                answers.append(env.step(text)[0])
            for marker in MARKERS:
                if answers[0].count(marker) > answers[1].count(marker):
                    fail(
                        f"the marker {marker} {name} not to come back as such",
                        excerpt(answers[0]),
                        "escape what is quoted from actions: mentor_gym.protocol.neutralise(text)",
                    )


@CHECKS.add("reward", needs=["hostile"])
def check_reward(subject: EnvSubject) -> None:
    """Every reward is one finite number."""
    for moment in _all_moments(subject):
        value = moment.reward
        if moment.call.startswith("reset"):
            continue
        if isinstance(value, bool) or not isinstance(value, float | int):
            got = f"{type(value).__name__} {excerpt(value)}"
            fail(f"the reward of {moment.call} to be a float", got, "return float(reward)")
        if not math.isfinite(value):
            fail(
                f"the reward of {moment.call} to be finite",
                repr(value),
                "guard divisions and logarithms in the reward",
            )
        if moment.info.get("reward_error"):
            fail(
                f"a reward for {moment.call}",
                excerpt(moment.info["reward_error"]),
                "repair the reward function; mentor_gym.testing.reward checks it by itself",
            )


@CHECKS.add("one-end", needs=["hostile"])
def check_one_end(subject: EnvSubject) -> None:
    """An episode ends by `terminated` or by `truncated`, never by both; each is a bool at every step."""
    for moment in _all_moments(subject):
        _check_bools(moment.call, moment.terminated, moment.truncated)
        if moment.terminated and moment.truncated:
            fail(
                f"terminated or truncated after {moment.call}",
                "both",
                "set truncated only where the episode was cut off and terminated is False",
            )


@CHECKS.add("order", needs=["api"])
def check_order(subject: EnvSubject) -> None:
    """A step before the first reset, after the end or after `close` raises Gymnasium's error."""
    wanted = {
        "before the first reset": gym.error.ResetNeeded,
        "after the end": gym.error.ResetNeeded,
        "after close()": gym.error.ClosedEnvironmentError,
    }
    for when, error in wanted.items():
        got = _step_outside(subject, when)
        if got is None or not isinstance(got, error):
            text = "nothing raised" if got is None else f"{type(got).__name__}: {got}"
            if not subject.is_mentor:
                raise NotApplicable(f"Gymnasium does not define a step {when}; this environment: {text}")
            fail(
                f"a step {when} to raise gymnasium.error.{error.__name__}",
                text,
                f"raise {error.__name__} in step()",
            )


def _step_outside(subject: EnvSubject, when: str) -> Exception | None:
    with subject.env() as env:
        if when == "after the end" and not subject.record(env, "blank", 0, _MAX_STEPS).moments[-1].ended:
            raise NotApplicable(f"no episode ended within {_MAX_STEPS} steps")
        if when == "after close()":
            env.reset(seed=0)
            env.close()
        try:
            env.step("hello")
        except Exception as error:
            return error
    return None


@CHECKS.add("close", needs=["make"])
def check_close(subject: EnvSubject) -> None:
    """`close` works before the first reset, in the middle of an episode, and twice."""
    for is_started in (False, True):
        with subject.env() as env:
            if is_started:
                env.reset(seed=0)
            for count in ("first", "second"):
                try:
                    env.close()
                except Exception as error:
                    when = "in an episode" if is_started else "before the first reset"
                    fail(
                        f"the {count} close() {when} to return",
                        f"{type(error).__name__}: {error}",
                        "release only what is held",
                    )
