"""The reward of SRL, supervised reinforcement learning (arXiv 2510.25992): how like the expert's an action is.

R = 2M / T, the ratio of `difflib.SequenceMatcher`: T is the length of both actions, M how much of them lies in the
matching blocks. An action in bad format earns -1. What the policy thinks before it acts does not count.

The paper pays one action at a time, which `mentor_gym.stepwise.StepwiseExpert` plays. The form for whole episodes
is adapted to this package: turn k is compared with the teacher's turn k, turns that are too many or missing count
0, and the reward is the mean over the longer of the two. Calls are compared as canonical JSON, and a right answer
counts as the gold answer, whatever its spelling (`judge="text"` compares the answers as they are written).
"""

from __future__ import annotations

import heapq
import itertools
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any, TypeVar

from mentor_gym.protocol import parse_action, render_message, to_json
from mentor_gym.rewards.base import check_numbers, is_finite_number
from mentor_gym.rewards.matching import Same, canonical_text, normalise_calls
from mentor_gym.rewards.search_r1 import check_judge
from mentor_gym.types import Action, StopReason, Task, Transcript

# difflib's time is cubic in texts that repeat themselves. These bounds keep one comparison below about 0.1 s.
_MAX_CHARS = 2_500
_MAX_VISITS = 1_500_000

Item = TypeVar("Item", bound=Hashable)
Group = TypeVar("Group", bound=Sequence[Any])


class SRLReward:
    """The mean similarity of the student's turns with the teacher's.

    A turn in which the student calls where the teacher answers, or the other way round, counts 0; so does one in
    which the process crashed. A task without a teacher's trace pays 0.

    Args:
        judge: `"environment"`: a right answer counts as the gold answer. `"text"`: as it is written.
        bad_format: What a turn counts that holds a call that cannot be read, or neither a call nor an answer.

    Raises:
        ValueError: Unknown judge, or a number that is not finite or above 0.

    >>> SRLReward().maximum, SRLReward().minimum
    (1.0, -1.0)
    """

    def __init__(self, judge: str = "environment", bad_format: float = -1.0) -> None:
        check_judge(judge)
        check_numbers(bad_format=bad_format)
        if bad_format > 0:
            raise ValueError(f"bad_format must be at most 0, got {bad_format!r}")
        self.judge = judge
        self.bad_format = bad_format

    @property
    def maximum(self) -> float:
        """The reward of the teacher's episode."""
        return 1.0

    @property
    def minimum(self) -> float:
        """The reward of an episode of bad format from beginning to end."""
        return min(float(self.bad_format), 0.0)

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms `calls` (the turns that call), `answer` (the turn that answers) and `format`."""
        terms = {"calls": 0.0, "answer": 0.0, "format": 0.0}
        turns, steps = len(transcript.turns), expert_steps(transcript.task)
        if not steps:
            return terms
        for number, turn in enumerate(transcript.turns):
            value = self.turn(transcript, number)
            terms["format" if value < 0 else "calls" if turn.action.calls else "answer"] += value
        longest = max(len(steps), turns)
        return {name: value / longest for name, value in terms.items()}

    def turn(self, transcript: Transcript, number: int) -> float:
        """Return what one turn earns: its similarity with the teacher's turn of the same number, from 0.

        >>> from mentor_gym import MentorToolEnv
        >>> env = MentorToolEnv("math", split="test")
        >>> _ = env.reset(seed=0)
        >>> _ = env.step("well")
        >>> SRLReward().turn(env.transcript, 0)
        -1.0
        """
        is_last = number == len(transcript.turns) - 1
        if is_last and transcript.stop_reason is StopReason.ENV_CRASHED:
            return 0.0
        action, task = transcript.turns[number].action, transcript.task
        if any(call.error for call in action.calls) or not (action.calls or action.answer):
            return float(self.bad_format)
        steps = expert_steps(task)
        if number >= len(steps) or bool(action.calls) is not bool(steps[number].calls):
            return 0.0
        if action.calls:
            return similarity(_call_text(action, transcript), _call_text(steps[number], transcript))
        if self.judge == "text":
            return similarity(action.answer or "", steps[number].answer or "")
        return 1.0 if is_last and transcript.is_success else similarity(action.answer or "", task.answer)


def expert_steps(task: Task) -> Sequence[Action]:
    """Return the turns of the task's teacher, parsed.

    >>> from mentor_gym.suites import load_suite
    >>> [len(step.calls) for step in expert_steps(load_suite("math").tasks("test")[0])]
    [1, 0]
    """
    return _expert_steps(Same(task.teacher))


@lru_cache(maxsize=8_192)
def _expert_steps(teacher: Same) -> tuple[Action, ...]:
    return tuple(
        parse_action(render_message(message)) for message in teacher.value if message["role"] == "assistant"
    )


def _call_text(action: Action, transcript: Transcript) -> str:
    calls = normalise_calls([(call.name, call.arguments) for call in action.calls], transcript)
    return "\n".join(
        f'{{"name": {to_json(name)}, "arguments": {canonical_text(arguments)}}}' for name, arguments in calls
    )


def similarity(student: Sequence[Hashable], expert: Sequence[Hashable]) -> float:
    """Return `difflib.SequenceMatcher(None, student, expert, autojunk=False).ratio()`, in bounded time.

    The ratio is not symmetric, so the order of the arguments is fixed. The heuristic `autojunk` is off: it takes
    every character that is frequent in 200 or more for junk, and finds nothing in common between two such texts.

    Sequences beyond 2,500 items, or that repeat themselves so often that difflib would take seconds, are compared
    in part; what was not compared counts as different, so the result is a lower bound. Equal sequences give 1.

    >>> round(similarity("x = 3 * (4 + 5)", "x = 3 * 9"), 4)
    0.6667
    >>> similarity(["add", "multiply", "power"], ["add", "power"])
    0.8
    """
    if len(student) == len(expert) and student == expert:
        return 1.0
    one, other = student[:_MAX_CHARS], expert[:_MAX_CHARS]
    # Lists do not hash.
    count = _matched_text if isinstance(one, str) and isinstance(other, str) else _matched
    return 2 * count(one, other) / (len(student) + len(expert))


# With dense=True every turn is compared again at every later one.
@lru_cache(maxsize=1_024)
def _matched_text(one: str, other: str) -> int:
    return _matched(one, other)


def _matched(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return the summed sizes of the matching blocks, M."""
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    counts = Counter(other)
    # What finding a block in a range visits: each item's places in the expert's whole action.
    visits = [0, *itertools.accumulate(counts[item] for item in one)]
    matched, left = 0, _MAX_VISITS
    # The largest first: where the time runs out, little is left. The order changes nothing otherwise.
    ranges = [(-len(one) * len(other), 0, len(one), 0, len(other))]
    while ranges:
        _, a, a_end, b, b_end = heapq.heappop(ranges)
        left -= visits[a_end] - visits[a] + (a_end - a)
        if left < 0:
            break
        block = matcher.find_longest_match(a, a_end, b, b_end)
        if not block.size:
            continue
        matched += block.size
        for piece in (
            (a, block.a, b, block.b),
            (block.a + block.size, a_end, block.b + block.size, b_end),
        ):
            size = (piece[1] - piece[0]) * (piece[3] - piece[2])
            if size:
                heapq.heappush(ranges, (-size, *piece))
    return matched


def has_spread(rewards: Iterable[float], epsilon: float = 1e-6) -> bool:
    """Whether the rewards of a group differ: their population standard deviation exceeds `epsilon`.

    A group of equal rewards teaches GRPO nothing. The default is above what the order of a sum changes.

    >>> has_spread([1.0, 0.0]), has_spread([0.3, 0.1 + 0.2]), has_spread([])
    (True, False, False)
    """
    values = list(rewards)
    return bool(values) and statistics.pstdev(values) > epsilon


def keep_groups(groups: Iterable[Group], rewards: Iterable[Iterable[float]], epsilon: float = 1e-6) -> list[Group]:
    """Drop the groups whose rewards do not differ (dynamic sampling): the caller samples others in their place.

    Args:
        groups: Any groups.
        rewards: The rewards of each, in the same order.
        epsilon: As for `has_spread`.

    Raises:
        ValueError: `epsilon` is not a finite number of at least 0.

    >>> keep_groups([["a", "b"], ["c", "d"]], [[0.5, 0.5], [0.5, -1.0]])
    [['c', 'd']]
    """
    if not is_finite_number(epsilon) or epsilon < 0:
        raise ValueError(f"epsilon must be a finite number of at least 0, got {epsilon!r}")
    return [group for group, values in zip(groups, rewards, strict=True) if has_spread(values, epsilon)]
