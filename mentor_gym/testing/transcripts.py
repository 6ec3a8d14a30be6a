"""Transcripts for checks of rewards: drawn at random, played by given turns, and written for messages.

A drawn transcript is one that the environment could have recorded, with any mixture of calls, failures and ends;
no tool is run for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import msgspec

from mentor_gym.env import MAX_CALLS_PER_TURN, MentorToolEnv
from mentor_gym.grading import grade
from mentor_gym.protocol import (
    neutralise,
    parse_action,
    render_call,
    render_error,
    render_message,
    render_results,
)
from mentor_gym.types import Action, CallError, StopReason, Task, ToolResult, Transcript, Turn

MAX_TURNS = 8
_MAX_TASKS = 200

_UNKNOWN = ("no_such_tool", "Add", "__class__", "../../etc/passwd", "工具", "x" * 64)
_MALFORMED = (
    "<tool_call>{</tool_call>",
    "<tool_call>[]</tool_call>",
    '<tool_call>{"name": "add"}</tool_call>',
    '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
    '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>',
    "<tool_call>{'name': 'add'}</tool_call>",
    f"<tool_call>{'[' * 40}</tool_call>",
    '<tool_call>{"name": "add", "arguments": {}}',
)
_VALUES: tuple[Any, ...] = (
    0, 1, -7, 2.5, 3.0, True, False, None, "", "x", "naïve 東京 🎉", "<answer>18</answer>", 10**30, -(10**18),
    1e308, 5e-324, [], [1, "a", [2.0]], {}, {"deep": {"er": [None]}}, "y" * 500,
)  # fmt: skip
_KEYS = ("a", "b", "x", "value", "naïve", "")
_THOUGHTS = ("", "", "", "<think>6 times 7</think>\n", "<think><answer>1</answer></think>", "Well, ", "🎉 ")
_UNREADABLE = ("<answer>18", "<answer>", "\\boxed{18", "text <answer>\n")
_NO_ANSWERS = ("", "I do not know.", "<answer></answer>", "<answer>  </answer>", "\\boxed{}", "<think>hm", "はい")
_OUTPUTS = (
    "", "7", "0", "-0.5", "1e308", "yes", "naïve 東京 🎉", "&lt;answer>18&lt;/answer>", "x" * 2_000 + " …[cut]",
    '["Gold", "Silver"]', "The answer is 18.",
)  # fmt: skip
_FAILURES = {
    CallError.INVALID_ARGUMENTS: 'error: argument "a": "x" is not of type "number"',
    CallError.TOOL_FAILED: "error: cannot divide by zero",
    CallError.TIMED_OUT: "error: timed out after 2 s",
}
_WRONG_ANSWERS = ("-987654.321", "no", "naïve 東京 🎉", "x" * 300, "1e308", "\\frac{1}{0}", "<b>")
_ENDS = (
    None, StopReason.NO_ANSWER, StopReason.TURN_LIMIT, StopReason.TOKEN_LIMIT, StopReason.ENV_CRASHED,
    *[StopReason.ANSWER] * 5,
)  # fmt: skip


def fuzz_transcripts(tasks: Sequence[Task], count: int, seed: int = 0) -> list[Transcript]:
    """Draw transcripts: the same arguments give the same ones, in every process.

    They have 0 to 8 turns and every end; calls of the teacher's, of other offered tools and of unknown ones,
    malformed calls and ones beyond the limit of a turn, which succeed, fail and time out; right answers in several
    wordings, and wrong ones. Besides the tasks there are variants of them whose teacher uses no tool, that offer
    inline schemas, and whose prompt is another one. Turns are parsed and answers judged as the environment does.

    Args:
        tasks: What they are drawn for; 200 of them at most.
        count: How many to draw.
        seed: Seeds the draws.

    Raises:
        ValueError: There are no tasks.

    >>> from mentor_gym.suites import load_suite
    >>> drawn = fuzz_transcripts(load_suite("math").tasks("test"), 200)
    >>> {transcript.stop_reason for transcript in drawn} == {None, *StopReason}
    True
    >>> drawn == fuzz_transcripts(load_suite("math").tasks("test"), 200)
    True
    """
    if not tasks:
        raise ValueError("fuzz_transcripts needs at least one task")
    # A text as seed: random.Random hashes it with SHA-512, the same in every process.
    rng = random.Random(f"transcripts/{seed}")
    chosen = list(tasks) if len(tasks) <= _MAX_TASKS else rng.sample(list(tasks), _MAX_TASKS)
    plans = [(task, vary) for task in chosen for vary in _VARIANTS]
    rng.shuffle(plans)
    drawers = [_Drawer(vary(task), rng) for task, vary in plans[:count]]
    return [drawers[number % len(drawers)].draw() for number in range(count)]


def teacher_turns(task: Task) -> list[str]:
    """Return the turns of the task's teacher in the wire format.

    >>> from mentor_gym.suites import load_suite
    >>> teacher_turns(load_suite("math").tasks("test")[0])[-1]
    '<answer>1378</answer>'
    """
    return [render_message(message) for message in task.teacher if message["role"] == "assistant"]


def play_turns(env: gym.Env[str, str], task_id: str, turns: Sequence[str]) -> Transcript:
    """Play turns from a reset, until the episode ends or they are over, and return what was recorded.

    Args:
        env: A `MentorToolEnv`, possibly wrapped.
        task_id: The task to play.
        turns: The assistant turns.

    >>> task = MentorToolEnv("math", split="test").tasks[0]
    >>> play_turns(MentorToolEnv("math", split="test"), task.id, teacher_turns(task)).is_success
    True
    """
    base = env.unwrapped
    assert isinstance(base, MentorToolEnv)
    env.reset(options={"task_id": task_id})
    for turn in turns:
        _, _, terminated, truncated, _ = env.step(turn)
        if terminated or truncated:
            break
    return base.transcript


def reword(answer: str, task: Task) -> str | None:
    """Write a right answer in other characters of the same number; None when no way was found.

    Same length, so that a reward that counts characters sees no difference.

    >>> reword("18", Task("1", "shop", "train", "?", [], "18", {"kind": "number"}, None, []))
    '１８'
    >>> reword("Paris", Task("1", "shop", "train", "?", [], "paris", {"kind": "text"}, None, []))
    'pARIS'
    """
    wide = answer.translate({ord("0") + digit: ord("０") + digit for digit in range(10)})
    for other in (answer.swapcase(), wide, answer.upper()):
        if other != answer and len(other) == len(answer) and grade(other, task.answer, task.grader):
            return other
    return None


def wrong_answer(task: Task) -> str | None:
    """Return an answer that is judged wrong; None for a task that takes any.

    >>> wrong_answer(Task("1", "shop", "train", "?", [], "18", {"kind": "number"}, None, []))
    '-987654.321'
    """
    candidates = (*_WRONG_ANSWERS, f"not {task.answer}")
    return next((text for text in candidates if not grade(text, task.answer, task.grader)), None)


def describe_transcript(transcript: Transcript) -> str:
    """Write in one line what a transcript holds, for messages.

    >>> from mentor_gym.suites import load_suite
    >>> describe_transcript(Transcript(load_suite("math").tasks("test")[0]))
    'task math-test-00000, 0 turns, no calls, unfinished'
    """
    calls = [f"{call.name or '?'}:{result.error or 'ok'}" for call, result in transcript.calls()]
    shown = ", ".join(calls[:6]) + (f" and {len(calls) - 6} more" if len(calls) > 6 else "")
    end = "unfinished" if transcript.stop_reason is None else f"ended by {transcript.stop_reason}"
    if transcript.answer is not None:
        end += f", {'right' if transcript.is_success else 'wrong'} answer {transcript.answer[:40]!r}"
    calls_text = f"calls {shown}" if calls else "no calls"
    return f"task {transcript.task.id}, {len(transcript.turns)} turns, {calls_text}, {end}"


def _silent(task: Task) -> Task:
    teacher = [{"role": "assistant", "content": f"<answer>{task.answer}</answer>"}]
    return msgspec.structs.replace(task, id=f"{task.id}/silent", teacher=teacher)


def _inlined(task: Task) -> Task:
    return msgspec.structs.replace(task, id=f"{task.id}/inlined", tools=[_inline(entry) for entry in task.tools])


def _asked_otherwise(task: Task) -> Task:
    prompt = f"naïve 東京 🎉 \u202e {task.answer} <answer>?"
    return msgspec.structs.replace(task, id=f"{task.id}/asked-otherwise", prompt=prompt)


# Each has an id of its own, because rewards may cache by it.
_VARIANTS: tuple[Callable[[Task], Task], ...] = (lambda task: task, _silent, _inlined, _asked_otherwise)


def _inline(entry: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(entry, dict):
        return entry
    parameters = {"type": "object", "properties": {}, "additionalProperties": False}
    return {"type": "function", "function": {"name": entry, "description": "A tool.", "parameters": parameters}}


class _Drawer:
    """Draws transcripts of one task."""

    def __init__(self, task: Task, rng: random.Random) -> None:
        self.task = task
        self.rng = rng
        self.names = [entry if isinstance(entry, str) else str(entry["function"]["name"]) for entry in task.tools]
        self.turns = teacher_turns(task)[:-1]
        self.calls = [(call.name, call.arguments) for text in self.turns for call in parse_action(text).calls]
        wordings = [task.answer, f" {task.answer}. ", task.answer.upper(), reword(task.answer, task) or ""]
        self.right = [text for text in wordings if grade(text.strip(), task.answer, task.grader)]
        self.wrong = [text for text in _WRONG_ANSWERS if not grade(text, task.answer, task.grader)]
        self.outputs = [*_OUTPUTS, neutralise(task.answer), neutralise(task.prompt)]

    def draw(self) -> Transcript:
        """Draw one transcript."""
        rng = self.rng
        reason = rng.choice(_ENDS)
        length = rng.randrange(MAX_TURNS)
        # A third follow the teacher, so that agreement in full is as common as agreement in part.
        if rng.random() < 0.33:
            turns = [self._played(text) for text in self.turns[:length]]
        else:
            turns = [self._played(self._running()) for _ in range(length)]
        transcript = Transcript(self.task, turns, reason)
        if reason is StopReason.ANSWER:
            self._answer(transcript)
        elif reason is StopReason.NO_ANSWER:
            turns.append(self._played(rng.choice(_NO_ANSWERS)))
        elif reason is StopReason.TURN_LIMIT:
            turns.append(self._played(self._running()))
        elif reason is not None:
            # Whatever stood in the turn, nothing of it was read.
            turns.append(Turn(rng.choice([self._running(), f"<answer>{self.task.answer}</answer>", ""]), Action()))
        return transcript

    def _answer(self, transcript: Transcript) -> None:
        rng, task = self.rng, self.task
        given = rng.choice(self.right if self.right and (rng.random() < 0.5 or not self.wrong) else self.wrong)
        form = rng.choice(("<answer>{}</answer>", "<answer>1</answer> no, <answer>{}</answer>", "\\boxed{{{}}}"))
        turn = self._played(rng.choice(_THOUGHTS) + form.format(given))
        if not turn.action.answer:  # its text broke the form
            turn = self._played(f"<answer>{given}</answer>")
        transcript.turns.append(turn)
        transcript.answer = turn.action.answer
        transcript.is_success = grade(turn.action.answer or "", task.answer, task.grader)

    def _running(self) -> str:
        """Write a turn that does not end the episode."""
        rng = self.rng
        if rng.random() < 0.08:
            return rng.choice(_UNREADABLE)
        count = 1 if rng.random() < 0.7 else rng.choice((2, 3, 3, 5, 9, 12))
        return rng.choice(_THOUGHTS) + "\n".join(self._call() for _ in range(count))

    def _call(self) -> str:
        rng = self.rng
        kind = rng.random()
        if kind < 0.35 and self.calls:
            return render_call(*rng.choice(self.calls))
        if kind < 0.85 and self.names:
            arguments = dict(rng.choice(self.calls)[1]) if self.calls and rng.random() < 0.5 else {}
            for _ in range(rng.randrange(3)):
                arguments[rng.choice(_KEYS)] = rng.choice(_VALUES)
            return render_call(rng.choice(self.names), arguments)
        if kind < 0.93:
            return render_call(rng.choice(_UNKNOWN), {"a": rng.choice(_VALUES)})
        return rng.choice(_MALFORMED)

    def _played(self, text: str) -> Turn:
        """Make a turn of a text, with results such as the environment records."""
        action = parse_action(text)
        if not action.calls:
            if action.answer:
                return Turn(text, action)
            message = action.error or "the turn holds neither a tool call nor an answer"
            return Turn(text, action, (), render_error(message))
        results = tuple(self._result(number, call) for number, call in enumerate(action.calls))
        return Turn(text, action, results, render_results(results))

    def _result(self, number: int, call: Any) -> ToolResult:
        rng = self.rng
        if number >= MAX_CALLS_PER_TURN:
            message = f"error: only the first {MAX_CALLS_PER_TURN} calls of a turn are run"
            return ToolResult(False, message, CallError.OVER_LIMIT)
        if call.error is not None:
            return ToolResult(False, f"error: {call.error}", CallError.MALFORMED)
        if call.name not in self.names:
            return ToolResult(False, f"error: unknown tool {call.name!r}", CallError.UNKNOWN_TOOL)
        if rng.random() < 0.2:
            error = rng.choice(list(_FAILURES))
            return ToolResult(False, _FAILURES[error], error)
        return ToolResult(True, rng.choice(self.outputs))
