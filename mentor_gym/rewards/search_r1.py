"""The Search-R1 reward (arXiv 2503.09516): the last answer is exactly right, or it is not.

R = 1 when the last answer equals a gold answer after SQuAD's normalisation, else 0. The form adapted to this
package lets the environment judge (`judge="environment"`), which knows numbers, sets and final states; the
published form is `judge="text"`.
"""

from __future__ import annotations

import re
import string

from mentor_gym.names import nearest
from mentor_gym.rewards.base import check_numbers
from mentor_gym.types import Task, Transcript

JUDGES = ("environment", "text")

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


class SearchR1Reward:
    """1 for a right last answer; 0 for a wrong one or none, when cut off, and while the episode runs.

    Args:
        judge: `"environment"`: its verdict, which is the preset. `"text"`: the published exact match of the answer
            with the task's answer and the aliases of its grader.
        format_score: Paid for a wrong answer, as an option of the released code.

    Raises:
        ValueError: Unknown judge, or a score that is not a finite number.

    >>> SearchR1Reward().maximum, SearchR1Reward(judge="text").judge
    (1.0, 'text')
    """

    def __init__(self, judge: str = "environment", format_score: float = 0.0) -> None:
        check_judge(judge)
        check_numbers(format_score=format_score)
        self.judge = judge
        self.format_score = format_score

    @property
    def maximum(self) -> float:
        """The reward of a right answer."""
        return max(1.0, self.format_score)

    @property
    def minimum(self) -> float:
        """The reward of no answer, or of a wrong one where that pays less."""
        return min(0.0, self.format_score)

    @property
    def margin(self) -> float:
        """By how much, at least, a right answer earns more than any episode without one."""
        # A match of texts may take a wrong answer for right, and the other way round.
        return 1.0 - max(self.format_score, 0.0) if self.judge == "environment" else self.minimum - self.maximum

    @property
    def right_beats_wrong(self) -> bool:
        """Whether a right answer earns more than any episode without one."""
        return self.margin > 0

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms `outcome` and `format`."""
        answer = transcript.answer
        if answer is None:
            return {"outcome": 0.0, "format": 0.0}
        right = transcript.is_success if self.judge == "environment" else exact_match(answer, transcript.task)
        return {"outcome": float(right), "format": 0.0 if right else float(self.format_score)}


def check_judge(judge: str) -> None:
    """Refuse what is no name of a judge.

    Raises:
        ValueError: Lists the known ones.

    >>> check_judge("environment")
    """
    if not isinstance(judge, str) or judge not in JUDGES:
        raise ValueError(f"unknown judge {judge!r}; known: {', '.join(JUDGES)}{nearest(judge, JUDGES)}")


def normalise_squad(text: str) -> str:
    """Normalise a text as SQuAD's evaluation does: case, punctuation, articles and blanks do not count.

    Unlike `mentor_gym.grading.normalise_text` it drops signs inside numbers too.

    >>> normalise_squad("The  Paris."), normalise_squad("-3.5")
    ('paris', '35')
    """
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def gold_texts(task: Task) -> list[str]:
    """Return the task's answer and, where its grader has them, the aliases.

    >>> gold_texts(Task("1", "qa", "train", "?", [], "Paris", {"kind": "text", "aliases": ["Lutetia"]}, None, []))
    ['Paris', 'Lutetia']
    """
    return [task.answer, *task.grader.get("aliases", ())]


def exact_match(answer: str, task: Task) -> bool:
    """Whether an answer equals one of the task's gold answers after `normalise_squad`.

    Of a gold answer that is nothing but an article or punctuation ("A", "+"), nothing is left; it is compared
    without case instead, so that not every such answer is right.

    >>> exact_match("The Paris.", Task("1", "qa", "train", "?", [], "paris", {"kind": "text"}, None, []))
    True
    """
    given = normalise_squad(answer)
    for gold in gold_texts(task):
        wanted = normalise_squad(gold)
        if given == wanted if wanted else answer.strip().lower() == gold.strip().lower():
            return True
    return False
