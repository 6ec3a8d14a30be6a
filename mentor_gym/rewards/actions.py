"""An episode as a list of actions: the calls that the policy wrote and, as one more, its final answer.

Rewards that were published for single turns compare one reply's calls with gold calls. Over whole episodes they
see here every well-formed call of the student's beside every call of the teacher's. The answer is a call
`ANSWER(text)`, whose value is equal when the environment judges it right.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from enum import Enum
from typing import Any

from mentor_gym.rewards.matching import MatchCall, normalise_calls, teacher_calls
from mentor_gym.types import StopReason, Transcript

# A name, `ANSWER` for the answer, and arguments by name.
NamedAction = tuple[Hashable, dict[str, Any]]


class _Name(Enum):
    # No text, so that no call that a policy writes can pass for an answer.
    ANSWER = "answer"


ANSWER = _Name.ANSWER


def written_calls(transcript: Transcript) -> list[MatchCall]:
    """Return every well-formed call that the student wrote, those of unknown tools and beyond the limit included.

    >>> import mentor_gym
    >>> from mentor_gym.protocol import render_call
    >>> env = mentor_gym.MentorToolEnv("math")
    >>> _ = env.reset(seed=0)
    >>> _ = env.step(render_call("no_such_tool", {"a": 1}) + "<tool_call>{</tool_call>")
    >>> written_calls(env.transcript)
    [('no_such_tool', {'a': 1})]
    """
    return [
        (call.name, call.arguments)
        for turn in transcript.turns
        for call in turn.action.calls
        if call.error is None
    ]


def episode_actions(
    transcript: Transcript, *, outcome: bool = True, literal: bool = False
) -> tuple[list[NamedAction], list[NamedAction]]:
    """Return the student's actions and the teacher's.

    Where only the names of the teacher's tools are known (`Task.meta`), all arguments are left out.

    Args:
        transcript: The episode, finished or not.
        outcome: Whether the final answer is an action; an unfinished episode has none yet.
        literal: Take arguments as they were written, without `normalise_calls`.

    >>> from mentor_gym.suites import load_suite
    >>> task = load_suite("math").tasks("test")[0]
    >>> episode_actions(Transcript(task, answer="no", stop_reason=StopReason.ANSWER))[0]
    [(<_Name.ANSWER: 'answer'>, {'text': False})]
    """
    given: Sequence[MatchCall] = written_calls(transcript)
    gold: Sequence[MatchCall] = teacher_calls(transcript.task)
    if not transcript.task.teacher:
        given = [(name, {}) for name, _ in given] if gold else given
    elif not literal:
        given, gold = normalise_calls(given, transcript), normalise_calls(gold, transcript)
    student: list[NamedAction] = [*given]
    teacher: list[NamedAction] = [*gold]
    if outcome:
        teacher.append((ANSWER, {"text": True}))
        if transcript.answer is not None:
            student.append((ANSWER, {"text": transcript.is_success}))
    return student, teacher


def is_well_formed(transcript: Transcript, *, ended: bool) -> bool:
    """Whether every turn could be read: calls without a malformed one, or an answer.

    Args:
        transcript: The episode; one without turns is not well-formed yet.
        ended: Whether the episode must have ended by an answer too.

    >>> from mentor_gym.suites import load_suite
    >>> is_well_formed(Transcript(load_suite("math").tasks("test")[0]), ended=False)
    False
    """
    if ended and transcript.stop_reason is not StopReason.ANSWER:
        return False
    for turn in transcript.turns:
        action = turn.action
        if action.error is not None or not (action.calls or action.answer):
            return False
        if any(call.error is not None for call in action.calls):
            return False
    return bool(transcript.turns)


def has_thoughts(transcript: Transcript) -> bool:
    """Whether every turn holds `<think>` and `</think>`, in whatever place, as Tool-N1's code asks.

    >>> from mentor_gym.suites import load_suite
    >>> from mentor_gym.types import Action, Turn
    >>> task = load_suite("math").tasks("test")[0]
    >>> has_thoughts(Transcript(task, [Turn("<think>so</think><answer>1</answer>", Action(answer="1"))]))
    True
    >>> has_thoughts(Transcript(task, [Turn("<think>so<answer>1</answer>", Action(answer="1"))]))
    False
    """
    return bool(transcript.turns) and all(
        "<think>" in turn.text and "</think>" in turn.text for turn in transcript.turns
    )
