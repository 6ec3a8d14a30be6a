"""What the checks of an environment work on: how to make one, how to play it, and what it has answered."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import gymnasium as gym
import msgspec
import numpy as np

from mentor_gym.env import MentorToolEnv
from mentor_gym.protocol import render_message
from mentor_gym.testing.base import NotApplicable

# ("reset", seed) or ("step", action).
Input = tuple[str, Any]
Actions = Sequence[str] | Callable[[gym.Env[str, str], str], str]

MAX_STEPS = 24
_SEQUEL_STEPS = 6
_STYLES = ("good", "mixed", "stubborn", "wrong", "blank")
# In the wire format of `mentor_gym.protocol` none of these ends an episode.
_GARBAGE = (
    '<tool_call>{"name": "no_such_tool", "arguments": {"x": 1}}</tool_call>',
    "<answer>never closed",
    '<tool_call>{"name": "你好", "arguments": {"🎉": "ü"}}</tool_call>',
    "<tool_call>not JSON</tool_call>",
)
_WRONG = "<answer>no such answer: 你好 🎉</answer>"
# What one plays who knows nothing of the environment.
_PLAIN = ("hello", "1", "yes", "你好 🎉", "look around", "<answer>42</answer>")


def canonical(value: Any) -> str:
    """Write a value so that equal values have equal texts, in every process.

    >>> canonical({"b": np.float64(1.5), "a": {3, 1}})
    "{'b': 1.5, 'a': {1, 3}}"
    """
    if isinstance(value, str):
        return repr(str(value))
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, np.ndarray):
        return f"array({value.dtype}, {canonical(value.tolist())})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{canonical(key)}: {canonical(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(canonical, value)) + "]"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(canonical, value))) + "}"
    if isinstance(value, msgspec.Struct):
        return f"{type(value).__name__}({canonical(msgspec.structs.asdict(value))})"
    if is_dataclass(value) and not isinstance(value, type):
        members = {item.name: getattr(value, item.name) for item in fields(value)}
        return f"{type(value).__name__}({canonical(members)})"
    text = repr(value)
    # An address differs from run to run, and says nothing.
    return (
        f"{type(value).__name__}({canonical(vars(value))})"
        if " at 0x" in text and hasattr(value, "__dict__")
        else text
    )


@dataclass
class Moment:
    """What one call of `reset` or `step` returned.

    Attributes:
        call: The call, for messages.
        observation: As returned.
        info: As returned.
        reward: As returned; None after a reset.
        terminated: As returned.
        truncated: As returned.
        texts: What is compared: every field, and every entry of info, as text. Written at once, because an
            environment may change afterwards what it has returned.
    """

    call: str
    observation: Any
    info: Any
    reward: Any = None
    terminated: Any = False
    truncated: Any = False
    texts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("observation", "reward", "terminated", "truncated"):
            self.texts[name] = canonical(getattr(self, name))
        self.texts["the keys of info"] = canonical(list(self.info))
        for key, value in self.info.items():
            self.texts[f"info[{key!r}]"] = canonical(value)

    @property
    def ended(self) -> bool:
        """Whether the episode ended with it."""
        return bool(self.terminated or self.truncated)


@dataclass(frozen=True)
class Run:
    """Episodes in a row, the first one seeded: what was played, and what was answered."""

    inputs: list[Input]
    moments: list[Moment]


def play(env: gym.Env[str, str], inputs: Sequence[Input]) -> list[Moment]:
    """Play inputs and return what was answered."""
    moments = []
    for kind, value in inputs:
        if kind == "reset":
            observation, info = env.reset() if value is None else env.reset(seed=value)
            moments.append(Moment(f"reset({'' if value is None else f'seed={value}'})", observation, info))
        else:
            moments.append(Moment(f"step({excerpt(value)})", *_ordered(env.step(value))))
    return moments


def _ordered(output: Any) -> tuple[Any, ...]:
    observation, reward, terminated, truncated, info = output
    return observation, info, reward, terminated, truncated


def difference(wanted: Sequence[Moment], got: Sequence[Moment], info: bool = True) -> str | None:
    """Say where two records of the same inputs differ first; None when they do not.

    Args:
        wanted: The one.
        got: The other.
        info: Whether infos are compared too.
    """
    return texts_difference([(item.call, item.texts) for item in wanted], [item.texts for item in got], info)


def texts_difference(
    wanted: Sequence[tuple[str, dict[str, str]]], got: Sequence[dict[str, str]], info: bool = True
) -> str | None:
    """As `difference`, for the texts of moments."""
    for number, ((call, one), other) in enumerate(zip(wanted, got, strict=True), start=1):
        for name in one:
            if "info" in name and not info:
                continue
            if one[name] != other.get(name):
                return f"call {number}, {call}: {name} {_apart(one[name], other.get(name, 'missing'))}"
    return None


def _apart(one: str, other: str) -> str:
    start = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    start = max(0, start - 30)
    lengths = "" if max(len(one), len(other)) < 100 else f" (lengths {len(one)} and {len(other)})"
    return f"{excerpt(one[start:], quote=False)} against {excerpt(other[start:], quote=False)}{lengths}"


def excerpt(value: Any, limit: int = 90, quote: bool = True) -> str:
    """Write a value for a message, shortened.

    >>> excerpt("x" * 100, 10)
    "'xxxxxxxxxx'… (100 characters)"
    """
    if isinstance(value, str) and len(value) > limit:
        return excerpt(value[:limit], 2 * limit, quote) + f"… ({len(value)} characters)"
    text = repr(value) if quote or not isinstance(value, str) else value
    return text if len(text) <= 2 * limit else f"{text[: 2 * limit]}…"


def teacher_turns(env: gym.Env[str, str]) -> list[str]:
    """Return the turns of the teacher of the task being played, in the wire format; none where there is none."""
    teacher = getattr(getattr(env.unwrapped, "task", None), "teacher", None) or ()
    return [render_message(message) for message in teacher if message.get("role") == "assistant"]


@dataclass
class EnvSubject:
    """An environment under examination.

    Attributes:
        factory: Makes one; can be pickled for other processes with cloudpickle, unless it is a closure over what
            cannot.
        actions: How to play well, from the user; None plays the teacher's turns, or plain words.
        allow: Groups of events that `reset` and `step` may cause; see `examine_env`.
        seconds: In what time a step must answer, whatever the action.
        spec: The registered specification, for an environment that is made by its id.
        kwargs: What it is made with, beside that specification.
        is_named: Whether the user gave a name, which other processes can import.
        memo: What several checks need and one of them has found out.
    """

    factory: Callable[[], gym.Env[str, str]]
    actions: Actions | None = None
    allow: frozenset[str] = frozenset()
    seconds: float = 2.0
    spec: Any = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    is_named: bool = False
    memo: dict[str, Any] = field(default_factory=dict)

    @contextlib.contextmanager
    def env(self) -> Iterator[gym.Env[str, str]]:
        """Make an environment, and close it at the end."""
        env = self.factory()
        try:
            yield env
        finally:
            # An error here is for the check of `close` alone.
            with contextlib.suppress(Exception):
                env.close()

    @functools.cached_property
    def is_mentor(self) -> bool:
        """Whether it is a `MentorToolEnv`, which makes every promise."""
        with self.env() as env:
            return isinstance(env.unwrapped, MentorToolEnv)

    def good_action(self, env: gym.Env[str, str], turn: int, observation: str) -> str:
        """Return what somebody would play who plays well."""
        if callable(self.actions):
            return self.actions(env, observation)
        if self.actions is not None:
            return self.actions[turn % len(self.actions)]
        turns = teacher_turns(env)
        if turns:
            return turns[turn] if turn < len(turns) else _GARBAGE[turn % len(_GARBAGE)]
        return _GARBAGE[turn % len(_GARBAGE)] if self.is_mentor else _PLAIN[turn % len(_PLAIN)]

    def _action(self, env: gym.Env[str, str], style: str, turn: int, observation: str) -> str:
        garbage = _GARBAGE[turn // 2 % len(_GARBAGE)]
        if style == "good" or (style == "wrong" and turn == 0):
            return self.good_action(env, turn, observation)
        if style == "mixed":
            return garbage if turn % 2 else self.good_action(env, turn // 2, observation)
        if style == "wrong" and turn == 1:
            return _WRONG
        if style == "blank" and turn == 0:
            return ""
        # Calls of the teacher's, if any, without its answer: what a truncated episode leaves behind.
        calls = teacher_turns(env)[:-1]
        return calls[turn // 2 % len(calls)] if calls and turn % 2 == 0 else garbage

    def record(self, env: gym.Env[str, str], style: str, seed: int | None, limit: int) -> Run:
        """Play an episode in one of the styles, and write it down."""
        inputs: list[Input] = [("reset", seed)]
        moments = play(env, inputs)
        for turn in range(limit):
            inputs.append(("step", self._action(env, style, turn, moments[-1].observation)))
            moments += play(env, inputs[-1:])
            if moments[-1].ended:
                break
        return Run(inputs, moments)

    @functools.cached_property
    def runs(self) -> list[Run]:
        """Runs in all styles, seeded 0, 1, …, each on an environment of its own."""
        runs = []
        for seed, style in enumerate(_STYLES):
            with self.env() as env:
                first = self.record(env, style, seed, MAX_STEPS)
                second = self.record(env, _STYLES[seed - 3], None, _SEQUEL_STEPS)
                # NumPy's generators draw two small integers at once and keep one: a lost state shows only later.
                last: list[Input] = [("reset", None)] * 2
                moments = first.moments + second.moments + play(env, last)
                runs.append(Run(first.inputs + second.inputs + last, moments))
        return runs

    def replay(self, run: Run) -> list[Moment]:
        """Play the inputs of a run on a new environment."""
        with self.env() as env:
            return play(env, run.inputs)


def wrapper_method(env: gym.Env[str, str], name: str) -> Callable[..., Any]:
    """Return a method of the environment or of a wrapper around it, the outermost one.

    Raises:
        NotApplicable: There is none.
    """
    try:
        found = env.get_wrapper_attr(name)
    except AttributeError:
        found = None
    if not callable(found):
        raise NotApplicable(f"the environment has no {name}()")
    return found


def make_from_spec(spec: Any, kwargs: Mapping[str, Any]) -> gym.Env[str, str]:
    """Make an environment as `gym.make` does, without Gymnasium's passive checker: it would only repeat ours."""
    return gym.make(copy.deepcopy(spec), disable_env_checker=True, **kwargs)
