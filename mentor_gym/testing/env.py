"""Check that an environment keeps the promises of Gymnasium and of `mentor_gym`.

The checks are for our own ids and for anybody's text environment. What an environment does not promise, to save
its state for example, is reported as not applicable, with the reason.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym

from mentor_gym.names import import_attribute, nearest
from mentor_gym.testing._audit import GROUPS
from mentor_gym.testing._env_made import CHECKS
from mentor_gym.testing._subject import Actions, EnvSubject, make_from_spec
from mentor_gym.testing.base import Examination, Report, conclude

__all__ = ["CHECKS", "check_env", "examine_env"]


def examine_env(
    target: Any,
    *,
    actions: Actions | None = None,
    kwargs: Mapping[str, Any] | None = None,
    allow: Iterable[str] = (),
    seconds: float = 2.0,
) -> Examination:
    """Prepare the checks of an environment; each runs when its result is asked for.

    Args:
        target: A registered id (`"MentorTool-v0"`, `"my_pkg:MyEnv-v0"`), `"module:attribute"` of a class or
            factory, or a class or factory itself: anything that returns an environment when called.
        actions: How to play it well: texts, played in order, or a function of the environment and the observation
            that returns a text. None plays the teacher's turns (`env.unwrapped.task.teacher`) where there are
            any. Either way garbage, unknown tools, blank texts and wrong answers are played too.
        kwargs: Arguments for making the environment.
        allow: What `reset` and `step` may touch although nothing else may, of `"files"`, `"network"` and
            `"processes"`: for an environment that searches in files, for example, or calls a server.
        seconds: In what time a step must answer, whatever the action.

    Raises:
        ValueError: The target names nothing, or an argument is out of range.

    >>> examine_env("MentorTool-v0", kwargs={"split": "test"}).result("reset-forgets").outcome
    <Outcome.PASSED: 'passed'>
    """
    allowed = frozenset(allow)
    for group in allowed - set(GROUPS):
        raise ValueError(f"allow: {group!r} is none of {', '.join(GROUPS)}{nearest(group, GROUPS)}")
    arguments = dict(kwargs or {})
    spec, factory, name = _resolve(target, arguments)
    subject = EnvSubject(
        factory=factory,
        actions=actions,
        allow=allowed,
        seconds=seconds,
        spec=spec,
        kwargs=arguments,
        is_named=isinstance(target, str),
    )
    return Examination("env", name, CHECKS, subject)


def check_env(target: Any, *, raise_on_failure: bool = True, **options: Any) -> Report:
    """Check an environment, for example in a test.

    Args:
        target: As for `examine_env`.
        raise_on_failure: Whether a failed check raises.
        **options: As for `examine_env`.

    Raises:
        ConformanceError: A check failed; the message lists what was expected, what came and how to fix it.
        ValueError: The target names nothing.

    >>> check_env("MentorTool-v0").failed
    []
    """
    return conclude(examine_env(target, **options), raise_on_failure)


def _resolve(target: Any, kwargs: dict[str, Any]) -> tuple[Any, Any, str]:
    """Return the registered specification (or None), a factory without arguments, and the target's name."""
    if callable(target):
        name = getattr(target, "__qualname__", type(target).__name__)
        return None, functools.partial(target, **kwargs) if kwargs else target, name
    if not isinstance(target, str):
        raise ValueError(f"an environment is an id, module:attribute, a class or a function, got {target!r}")
    module, colon, name = target.rpartition(":")
    if colon and name.replace(".", "").isidentifier():
        found = import_attribute(target, "environment")
        if not callable(found):
            raise ValueError(f"{target} is no class or function: {found!r}")
        return None, functools.partial(found, **kwargs) if kwargs else found, target
    try:
        if colon:
            importlib.import_module(module)
        spec = gym.spec(name)
    except (gym.error.Error, ImportError) as error:
        raise ValueError(f"no environment {target!r}: {error}") from error
    return spec, functools.partial(make_from_spec, spec, kwargs), target
