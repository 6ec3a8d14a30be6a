"""Rewards: pure functions of a transcript, by name.

A new reward is one file with a class like `MentorReward` and one line per preset in `PRESETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mentor_gym.names import nearest
from mentor_gym.rewards.base import Reward
from mentor_gym.rewards.composite import SumReward
from mentor_gym.rewards.mentor import MentorReward
from mentor_gym.rewards.penalties import LengthPenalty, RepeatPenalty
from mentor_gym.rewards.r1_searcher import R1SearcherReward
from mentor_gym.rewards.search_r1 import SearchR1Reward
from mentor_gym.rewards.shaping import ShapedReward
from mentor_gym.rewards.sparse import OutcomeReward
from mentor_gym.rewards.srl import SRLReward
from mentor_gym.rewards.step_aligned import StepAlignedReward
from mentor_gym.rewards.steptool import StepToolReward
from mentor_gym.rewards.tool_n1 import ToolN1Reward
from mentor_gym.rewards.tool_zero import ToolZeroReward
from mentor_gym.rewards.toolrl import ToolRLReward


class Preset(NamedTuple):
    """A reward by name.

    Attributes:
        factory: The reward's class, or a function that builds it.
        arguments: What it is built with.
        summary: What it pays, in one line for listings.

    >>> PRESETS["mentor-any"].arguments
    {'matcher': 'any', 'validity': 0.0}
    """

    factory: Callable[..., Reward]
    arguments: dict[str, Any]
    summary: str


# An ablation is a row here, not a file.
PRESETS: dict[str, Preset] = {
    "sparse": Preset(OutcomeReward, {}, "1.0 for a correct answer, 0.1 for a wrong one or none, 0 when cut off"),
    "mentor": Preset(
        MentorReward, {}, "MENTOR: a correct answer, exactly the teacher's set of tools, no unknown tool"
    ),
    "mentor-any": Preset(
        MentorReward,
        {"matcher": "any", "validity": 0.0},
        "a correct answer, and one tool in common with the teacher is agreement enough",
    ),
    "mentor-notool": Preset(
        MentorReward, {"matcher": "none"}, "a correct answer and no unknown tool; the teacher does not count"
    ),
    "mentor-f1": Preset(
        MentorReward, {"matcher": "f1"}, "as mentor, with agreement in part: the F1 of the two sets of tools"
    ),
    "strict": Preset(
        MentorReward,
        {"matcher": "ordered_calls"},
        "as mentor, but agreement is the teacher's very calls, arguments and order; a reconstruction",
    ),
    "step-aligned": Preset(
        StepAlignedReward,
        {},
        "a correct answer, and each call aligned with the teacher's in order, in part too; for dense payment",
    ),
    "toolrl": Preset(
        ToolRLReward,
        {},
        "ToolRL: format, and how far calls and answer are the teacher's, in names, parameters and values",
    ),
    "search-r1": Preset(SearchR1Reward, {}, "Search-R1: 1 for a right last answer, else 0"),
    "r1-searcher": Preset(
        R1SearcherReward,
        {},
        "R1-Searcher: the F1 of the answer's words, less 1 for a violation; with stage_1_steps, searches first",
    ),
    "steptool": Preset(
        StepToolReward,
        {},
        "StepTool: each call's success and contribution, then the verdict; for dense payment; a reconstruction",
    ),
    "srl": Preset(SRLReward, {}, "SRL: how similar each turn is to the teacher's, as texts; -1 for bad format"),
    "tool-n1": Preset(
        ToolN1Reward, {}, "Tool-N1: 1 for the teacher's calls in any order with a right answer, else 0"
    ),
    "tool-zero": Preset(
        ToolZeroReward,
        {},
        "Tool Zero: from sharing the teacher's tokens to its very calls, by training step; a reconstruction",
    ),
}


# What rewards are put together with. No presets: alone they are incomplete, or guide nowhere.
TERMS: dict[str, Preset] = {
    "sum": Preset(SumReward, {}, "rewards added up, with weights that may change with the training step"),
    "shaped": Preset(ShapedReward, {}, "a reward with potential-based shaping, which changes no optimal policy"),
    "length": Preset(LengthPenalty, {}, "a term of a sum: from 0 to -1 with the number of calls or characters"),
    "repeats": Preset(RepeatPenalty, {}, "a term of a sum: from 0 to -1 with the number of repeated equal calls"),
}


def make_reward(reward: str | dict[str, Any] | Reward) -> Reward:
    """Build a reward from a preset's name, a mapping `{"name": …, **arguments}`, or pass one through.

    The names are those of `PRESETS`, and those of `TERMS`, which put rewards together.

    Raises:
        ValueError: Unknown name or argument.

    >>> make_reward("mentor").maximum
    1.1
    >>> make_reward({"name": "mentor", "matcher": "multiset"}).maximum
    1.1
    """
    if isinstance(reward, type):
        raise ValueError(f"a reward is an object, not a class: make one, {reward.__name__}(…)")
    if callable(reward):
        return reward
    if not isinstance(reward, (str, dict)):
        raise ValueError(f"a reward is a name, a mapping with a name, or a function, got {reward!r}")
    options = {"name": reward} if isinstance(reward, str) else dict(reward)
    name = options.pop("name", None)
    known = {**PRESETS, **TERMS}
    if not isinstance(name, str) or name not in known:
        names = f"{', '.join(PRESETS)}; to put rewards together: {', '.join(TERMS)}"
        raise ValueError(f"unknown reward {name!r}; known: {names}{nearest(name, known)}")
    preset = known[name]
    try:
        return preset.factory(**{**preset.arguments, **options})
    except TypeError as error:
        raise ValueError(f"reward {name!r}: {error}") from None


__all__ = ["PRESETS", "TERMS", "MentorReward", "OutcomeReward", "Preset", "Reward", "make_reward"]
