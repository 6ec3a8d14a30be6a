"""The R1-Searcher reward (arXiv 2503.05592): first learn to search, then to answer.

After the authors' released code. Stage 1: 1 for an answer that covers the gold answer, -1 for any other or none;
0.5 for a retrieval; 0.5 for the right tags. Stage 2: the F1 of the answer's words, less a penalty of 1 (their
Llama server) or 2 (Qwen) for any violation of the format.

Adapted to episodes of this package: a retrieval is a successful call with an argument that is not blank; a query
without documents is a call that cannot be read; thoughts may be left out (`require_think=False`); and the
environment says which answers are right (`judge="environment"`). The published form is
`judge="text", require_think=True`, with `penalty=2.0, max_words=10, search_tags=True` for the rules of their Qwen
server.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mentor_gym.grading import STATE_GRADERS
from mentor_gym.rewards.base import check_count, check_flags, check_numbers
from mentor_gym.rewards.search_r1 import check_judge, gold_texts, normalise_squad
from mentor_gym.types import StopReason, Task, Transcript

_CHINESE = re.compile("[\u4e00-\u9fff]")
_SEARCH_TAG = re.compile(r"</?tool_(?:call|response)>")
_SHARES = {"retrieval": 0.5, "format": 0.5}


class R1SearcherReward:
    """The two stages, each by itself or one after the other.

    While an episode runs, the answer counts 0; a violation counts from the turn in which it stands. An episode
    that crashed pays 0: the policy did nothing wrong.

    Args:
        stage: 1 or 2; None follows the schedule: stage 1 for `stage_1_steps` training steps, then stage 2.
        stage_1_steps: How many training steps stage 1 lasts, for `at`.
        judge: `"environment"`: a right answer counts as the gold answer, whatever its words, and a wrong one earns
            at most `wrong_cap` for its words. `"text"`: the words alone, as published.
        answer_term: Whether stage 1 pays for the answer. The code does; the README of the project words the stage
            as one of format and retrieval only.
        penalty: What a violation costs in stage 2.
        require_think: Whether a turn without `<think>…</think>` is a violation.
        chinese: Whether Chinese characters in what the policy wrote are a violation.
        max_words: Longest answer in words without a violation, or the gold answer's length where the environment
            judges; None allows any. 10 on their Qwen server.
        search_tags: Whether a tag of a call or a result in the answer is a violation, as on their Qwen server.
        tools: Names of the tools that retrieve; None takes every tool.
        wrong_cap: What an answer that the environment judges wrong earns at most in stage 2; below 1, since words
            in another order have an F1 of 1. Where the grader judges the final state, such an answer earns
            nothing.

    Raises:
        ValueError: An argument is out of range or names nothing.

    >>> reward = R1SearcherReward(stage_1_steps=100)
    >>> reward.maximum, reward.at(99).maximum, reward.at(100).maximum
    (2.0, 2.0, 1.0)
    """

    def __init__(
        self,
        stage: int | None = None,
        stage_1_steps: int = 0,
        judge: str = "environment",
        answer_term: bool = True,
        penalty: float = 1.0,
        require_think: bool = False,
        chinese: bool = True,
        max_words: int | None = None,
        search_tags: bool = False,
        tools: Sequence[str] | None = None,
        wrong_cap: float = 0.9,
    ) -> None:
        if stage is not None and (type(stage) is not int or stage not in (1, 2)):
            raise ValueError(f"stage must be 1, 2 or None, got {stage!r}")
        check_count(stage_1_steps=stage_1_steps)
        if stage is not None and stage_1_steps:
            raise ValueError("stage_1_steps is a schedule of the stages and needs stage=None")
        check_judge(judge)
        check_numbers(penalty=penalty, wrong_cap=wrong_cap)
        if penalty < 0 or not 0 <= wrong_cap < 1:
            raise ValueError(
                f"penalty must be at least 0, wrong_cap 0 or more and below 1, got {penalty!r} and {wrong_cap!r}"
            )
        check_flags(answer_term=answer_term, require_think=require_think, chinese=chinese, search_tags=search_tags)
        if max_words is not None:
            check_count(1, max_words=max_words)
        if tools is not None and (isinstance(tools, str) or not all(isinstance(name, str) for name in tools)):
            raise ValueError(f"tools must be a list of names or None, got {tools!r}")
        self.scheduled = stage is None
        self.stage = stage or (1 if stage_1_steps else 2)
        self.stage_1_steps = stage_1_steps
        self.judge = judge
        self.answer_term = answer_term
        self.penalty = penalty
        self.require_think = require_think
        self.chinese = chinese
        self.max_words = max_words
        self.search_tags = search_tags
        self.tools = None if tools is None else frozenset(tools)
        self.wrong_cap = wrong_cap

    def at(self, step: int) -> R1SearcherReward:
        """Return the reward of a training step.

        >>> R1SearcherReward(stage_1_steps=2).at(1).stage, R1SearcherReward(stage=1).at(9).stage
        (1, 1)
        """
        if not self.scheduled:
            return self
        found = copy.copy(self)
        found.stage = 1 if step < self.stage_1_steps else 2
        return found

    @property
    def maximum(self) -> float:
        """The reward of a right answer without a violation; in stage 1 after a retrieval."""
        if self.stage == 2:
            return 1.0
        return sum(_SHARES.values()) + (1.0 if self.answer_term else 0.0)

    @property
    def minimum(self) -> float:
        """The reward of a wrong answer with a violation."""
        if self.stage == 2:
            return -float(self.penalty)
        return -1.0 if self.answer_term else 0.0

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms `outcome`, `retrieval` (0 in stage 2) and `format` (0 or less in stage 2)."""
        reason = transcript.stop_reason
        if reason is StopReason.ENV_CRASHED:
            return {"outcome": 0.0, "retrieval": 0.0, "format": 0.0}
        violated = self.violation(transcript) is not None
        if self.stage == 2:
            return {
                "outcome": self._f1(transcript),
                "retrieval": 0.0,
                "format": -float(self.penalty) if violated else 0.0,
            }
        outcome = 0.0
        if self.answer_term and reason is not None:
            outcome = 1.0 if self._covers(transcript) else -1.0
        return {
            "outcome": outcome,
            "retrieval": _SHARES["retrieval"] if self._has_retrieved(transcript) else 0.0,
            "format": _SHARES["format"] if reason is not None and not violated else 0.0,
        }

    def violation(self, transcript: Transcript) -> str | None:
        """Say which rule of the format the policy broke first; None when it broke none so far.

        >>> from mentor_gym import MentorToolEnv
        >>> env = MentorToolEnv("math")
        >>> _ = env.reset(seed=0)
        >>> _ = env.step("<tool_call>{</tool_call>")
        >>> R1SearcherReward().violation(env.transcript)
        'turn 1: a call that cannot be read'
        """
        for number, turn in enumerate(transcript.turns, start=1):
            problem = self._problem(turn.text, [call.error for call in turn.action.calls], turn.action.answer)
            if problem is not None:
                return f"turn {number}: {problem}"
        if transcript.stop_reason is None:
            return None
        answer = transcript.answer
        if answer is None:
            return "no answer"
        if self.max_words is not None and len(answer.split()) > self._most_words(transcript.task):
            return "too long an answer"
        if self.search_tags and _SEARCH_TAG.search(answer):
            return "a tag of a call or a result in the answer"
        return None

    def _problem(self, text: str, errors: Sequence[str | None], answer: str | None) -> str | None:
        if any(errors):
            return "a call that cannot be read"
        opened, closed = text.count("<think>"), text.count("</think>")
        if opened != closed or opened > 1 or (opened and text.index("<think>") > text.index("</think>")):
            return "thoughts that are not in one pair of tags"
        if self.require_think and not opened:
            return "no thoughts"
        outside = text.partition("</think>")[2] if opened else text
        # One pair in the turn that answers, where it may be a box instead, and none before.
        tags = max(outside.count("<answer>"), outside.count("</answer>"))
        if tags > (answer is not None):
            return "an answer that is not in one pair of tags"
        return "Chinese characters" if self.chinese and _CHINESE.search(text) else None

    def _most_words(self, task: Task) -> int:
        # Where the environment judges, the gold answer itself is no violation.
        golds = gold_texts(task) if self.judge == "environment" else []
        return max(self.max_words or 0, *(len(gold.split()) for gold in golds), 0)

    def _has_retrieved(self, transcript: Transcript) -> bool:
        return any(
            result.ok and (self.tools is None or call.name in self.tools) and _is_query(call.arguments)
            for call, result in transcript.calls()
        )

    def _covers(self, transcript: Transcript) -> bool:
        if self.judge == "environment":
            return transcript.is_success
        # By whole words: "18" is not in "118".
        given = f" {normalise_squad(transcript.answer or '')} "
        wanted = filter(None, map(normalise_squad, gold_texts(transcript.task)))
        return any(f" {gold} " in given for gold in wanted)

    def _f1(self, transcript: Transcript) -> float:
        answer = transcript.answer
        if answer is None:
            return 0.0
        if self.judge == "environment":
            if transcript.is_success:
                return 1.0
            if transcript.task.grader["kind"] in STATE_GRADERS:
                return 0.0
        shared = max(word_f1(answer, gold) for gold in gold_texts(transcript.task))
        return shared if self.judge == "text" else min(shared, self.wrong_cap)


def word_f1(answer: str, gold: str) -> float:
    """F1 of the words of two texts after `normalise_squad`, each as often as it stands there.

    >>> round(word_f1("barack obama president", "Barack Obama"), 12)
    0.8
    """
    given, wanted = Counter(normalise_squad(answer).split()), Counter(normalise_squad(gold).split())
    total = given.total() + wanted.total()
    return 2 * (given & wanted).total() / total if total else 0.0


def _is_query(arguments: dict[str, Any]) -> bool:
    return any(value.strip() if isinstance(value, str) else value is not None for value in arguments.values())
