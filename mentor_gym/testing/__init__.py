"""Conformance checks that anyone can run on their own environment, suite, tool, reward or agent.

In one line, `check_env("my_pkg:MyEnv-v0")`, which raises a `ConformanceError` that lists what failed; from the
command line, `mentor-gym check my_pkg:MyEnv-v0`; or as test items, `pytest --mentor-env my_pkg:MyEnv-v0`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any

import gymnasium as gym

from mentor_gym.names import import_attribute, nearest
from mentor_gym.rewards import PRESETS
from mentor_gym.suites import EXTRA_SUITES, SUITES
from mentor_gym.suites.base import Suite
from mentor_gym.testing.agent import check_agent, examine_agent
from mentor_gym.testing.base import (
    Check,
    CheckFailed,
    CheckList,
    CheckResult,
    ConformanceError,
    Examination,
    NotApplicable,
    Outcome,
    Report,
    conclude,
    fail,
    run_checks,
)
from mentor_gym.testing.env import check_env, examine_env
from mentor_gym.testing.reward import check_reward, examine_reward
from mentor_gym.testing.suite import check_suite, examine_suite
from mentor_gym.testing.tool import check_tool, examine_tool
from mentor_gym.tools.base import Tool, ToolBox

# Kind of subject -> how it is examined. A new kind is one file and one line here.
KINDS: dict[str, Callable[..., Examination]] = {
    "env": examine_env,
    "suite": examine_suite,
    "tool": examine_tool,
    "reward": examine_reward,
    "agent": examine_agent,
}
# The shipped agents that need nothing but the package: no weights from elsewhere, no run of the user's.
_AGENTS = ("teacher", "noisy-teacher", "random", *(("tiny",) if find_spec("torch") else ()))
_ENV_ID = re.compile(r"([\w.]+:)?[\w./-]+-v\d+")


def examine(target: str, kind: str | None = None) -> Examination:
    """Return the checks of something that has a name, not yet run.

    Args:
        target: An environment id, a suite's name or file, a preset, an agent's name, or `module:attribute`.
        kind: A key of `KINDS`; None finds out.

    Raises:
        ValueError: Nothing of that name, or its kind cannot be told.

    >>> examine("sparse").kind, examine("MentorTool-v0").kind
    ('reward', 'env')
    """
    kind = kind or guess_kind(target)
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; known: {', '.join(KINDS)}{nearest(kind, KINDS)}")
    return KINDS[kind](target)


def examine_shipped(kind: str | None = None) -> Iterator[Examination]:
    """Return the checks of everything that comes with the package and needs no extra, not yet run.

    Args:
        kind: Only this kind; None takes all.

    Raises:
        ValueError: No such kind.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; known: {', '.join(KINDS)}{nearest(kind, KINDS)}")
    shipped: dict[str, Iterable[Any]] = {
        "env": sorted(
            name
            for name, spec in gym.registry.items()
            if name.startswith("MentorTool-") and spec.kwargs.get("suite") not in EXTRA_SUITES
        ),
        "suite": SUITES,
        "tool": SUITES,  # every tool of the suite's box
        "reward": PRESETS,
        "agent": _AGENTS,
    }
    for name, targets in shipped.items():
        if kind in (None, name):
            yield from (KINDS[name](target) for target in targets)


def guess_kind(target: str) -> str:
    """Tell what a name names.

    Raises:
        ValueError: It cannot be told.

    >>> guess_kind("math"), guess_kind("mentor_gym.env:MentorToolEnv")
    ('suite', 'env')
    """
    from agents.base import AGENTS

    if _ENV_ID.fullmatch(target):
        return "env"
    if target in SUITES or target in EXTRA_SUITES or target.endswith((".yaml", ".yml")):
        return "suite"
    if target in PRESETS:
        return "reward"
    if target in AGENTS:
        return "agent"
    if ":" not in target:
        known = [*(name for name in gym.registry if name.startswith("MentorTool")), *SUITES, *PRESETS, *AGENTS]
        raise ValueError(
            f"{target!r} names no environment, suite, reward or agent; known: {', '.join(known)}, or the path of "
            f"a suite.yaml, or module:attribute{nearest(target, known)}"
        )
    found = import_attribute(target, "target")
    if isinstance(found, Tool | ToolBox) or hasattr(found, "__mentor_tool__"):
        return "tool"
    if isinstance(found, Suite):
        return "suite"
    if isinstance(found, type):
        if issubclass(found, gym.Env):
            return "env"
        if issubclass(found, ToolBox):
            return "tool"
    if hasattr(found, "act"):
        return "agent"
    if hasattr(found, "maximum"):
        return "reward"
    what = "class" if isinstance(found, type) else "function" if callable(found) else type(found).__name__
    raise ValueError(f"{target!r} is a {what}, which may be anything; say which with kind: {', '.join(KINDS)}")


__all__ = [
    "KINDS",
    "Check",
    "CheckFailed",
    "CheckList",
    "CheckResult",
    "ConformanceError",
    "Examination",
    "NotApplicable",
    "Outcome",
    "Report",
    "check_agent",
    "check_env",
    "check_reward",
    "check_suite",
    "check_tool",
    "conclude",
    "examine",
    "examine_agent",
    "examine_env",
    "examine_reward",
    "examine_shipped",
    "examine_suite",
    "examine_tool",
    "fail",
    "guess_kind",
    "run_checks",
]
