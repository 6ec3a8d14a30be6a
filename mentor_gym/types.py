"""The records that every part of the package shares; imports nothing heavy.

A `Task` is one row of a suite. An episode of it is a `Transcript`: a list of `Turn`, each an assistant
text parsed into an `Action` and the `ToolResult` of every call in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec


class StopReason(StrEnum):
    """Why an episode ended.

    Attributes:
        ANSWER: The policy gave an answer that is not blank. Terminates.
        NO_ANSWER: A turn held neither a call nor an answer, or a blank answer. Terminates.
        TURN_LIMIT: `max_turns` assistant turns without an end. Truncates.
        TOKEN_LIMIT: The agent ran out of tokens in the middle of a turn (`mark_cut_off`). Truncates.
        ENV_CRASHED: The process that ran the episode died or hung in the middle of a turn. Truncates.
    """

    ANSWER = "answer"
    NO_ANSWER = "no_answer"
    TURN_LIMIT = "turn_limit"
    TOKEN_LIMIT = "token_limit"
    ENV_CRASHED = "env_crashed"

    @property
    def truncates(self) -> bool:
        """Whether the episode was cut off rather than ended by the policy."""
        return self in (StopReason.TURN_LIMIT, StopReason.TOKEN_LIMIT, StopReason.ENV_CRASHED)


class CallError(StrEnum):
    """What was wrong with a tool call; `None` in `ToolResult.error` means that it ran.

    Attributes:
        MALFORMED: The text of the call is not a JSON object with a name and arguments.
        UNKNOWN_TOOL: The task offers no tool of that name.
        INVALID_ARGUMENTS: The arguments do not match the tool's JSON schema.
        TOOL_FAILED: The tool ran and reported a failure (division by zero, nothing found, …).
        TIMED_OUT: The tool took longer than its time limit.
        OVER_LIMIT: More calls in one turn than the environment runs.
    """

    MALFORMED = "malformed"
    UNKNOWN_TOOL = "unknown_tool"
    INVALID_ARGUMENTS = "invalid_arguments"
    TOOL_FAILED = "tool_failed"
    TIMED_OUT = "timed_out"
    OVER_LIMIT = "over_limit"


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task row, as it stands in the JSONL files (one object a line).

    Attributes:
        id: Unique within the suite.
        suite: Name of the suite that it belongs to.
        split: Name of the split that it belongs to.
        prompt: The question, as the policy sees it.
        tools: The tools on offer: names from the suite's box, or inline OpenAI function schemas.
        answer: The gold answer. Never rendered into an observation.
        grader: How an answer is judged, for example `{"kind": "number"}`; see `mentor_gym.grading`.
        state: What the suite's tools start from; `None` for tools without state.
        teacher: The reference trajectory as OpenAI chat messages: assistant messages with `tool_calls`, tool
            messages, a final assistant message whose content is the answer. Never rendered either.
        meta: Facts about the task for analysis: `kind`, `calls` (teacher calls), `paths` (how many distinct
            sequences of calls over the offered tools reach the answer), `teacher_tools` (names, where there is no
            trace). May be empty.
    """

    id: str
    suite: str
    split: str
    prompt: str
    tools: list[str | dict[str, Any]]
    answer: str
    grader: dict[str, Any]
    state: dict[str, Any] | None
    teacher: list[dict[str, Any]]
    meta: dict[str, Any] = {}


class ToolCall(msgspec.Struct, frozen=True):
    """A parsed tool call.

    Attributes:
        name: The tool's name, as the policy wrote it; empty when the call is malformed.
        arguments: The decoded JSON object; empty when the call is malformed.
        error: What is wrong with the text of a malformed call; `None` for a well-formed one.
    """

    name: str
    arguments: dict[str, Any]
    error: str | None = None


class ToolResult(msgspec.Struct, frozen=True):
    """The outcome of one call.

    Attributes:
        ok: Whether the tool ran and succeeded.
        output: The tool's text, or the error message; what the policy sees.
        error: The kind of failure; `None` exactly when `ok`.
    """

    ok: bool
    output: str
    error: CallError | None = None


class Action(msgspec.Struct, frozen=True):
    """One assistant turn, parsed.

    Calls win over an answer: when there are calls, `answer` is None. `error` is set only when there are
    neither calls nor an answer to act on although a tag was opened, and costs the policy a turn.

    Attributes:
        calls: The tool calls in the order written, malformed ones included.
        answer: The answer text, stripped; `None` when the turn gives none.
        error: Message for a turn that opens an answer tag without closing it.
    """

    calls: tuple[ToolCall, ...] = ()
    answer: str | None = None
    error: str | None = None


class Turn(msgspec.Struct, frozen=True):
    """One assistant turn and what came of it.

    Attributes:
        text: What the policy wrote, cleaned of control characters and cut to the length limit.
        action: The parsed text.
        results: One result per call of `action.calls`, in the same order.
        observation: The text that the environment answered with.
    """

    text: str
    action: Action
    results: tuple[ToolResult, ...] = ()
    observation: str = ""


class ToolFacts(NamedTuple):
    """What a reward may know of a tool that the task offers.

    Attributes:
        parameters: JSON schema of the arguments, as the prompt shows it; shared, so not to be changed.
        read_only: Whether a call of it changes nothing that a later call could show.
    """

    parameters: dict[str, Any]
    read_only: bool


@dataclass(slots=True)
class Transcript:
    """The text record of one episode, finished or not. Rewards are functions of this and nothing else.

    Attributes:
        task: The task being played.
        turns: The turns so far.
        stop_reason: Why the episode ended; `None` while it is running.
        answer: The final answer; `None` unless `stop_reason` is `StopReason.ANSWER`.
        is_success: Whether the final answer is correct, as judged by the environment.
        tools: Facts about the offered tools by name; empty where nobody filled them in, as in a transcript made
            by hand. Shared between the episodes that offer the same tools, so not to be changed.
    """

    task: Task
    turns: list[Turn] = field(default_factory=list)
    stop_reason: StopReason | None = None
    answer: str | None = None
    is_success: bool = False
    tools: Mapping[str, ToolFacts] = field(default_factory=dict, compare=False, repr=False)

    def calls(self) -> list[tuple[ToolCall, ToolResult]]:
        """Return every call with its result, in the order in which they were made."""
        return [pair for turn in self.turns for pair in zip(turn.action.calls, turn.results)]
