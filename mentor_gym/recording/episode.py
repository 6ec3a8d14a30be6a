"""One episode of a chat-completions endpoint in an environment, by native tool calls.

What the endpoint's model says becomes an assistant turn in the environment's own wire format, so that the
environment alone parses, executes, limits and judges. The turn that is played and the turn that is recorded are
the same one: `render_message` of what stands in the trace is the text that was played.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from mentor_gym.env import MentorToolEnv
from mentor_gym.protocol import (
    MAX_ACTION_CHARS,
    MAX_CALLS_PARSED,
    clean,
    neutralise,
    parse_action,
    render_call,
    render_message,
    to_json,
)
from mentor_gym.recording.client import ChatClient, Ledger, Refused, RequestFailed
from mentor_gym.recording.stage import Stage
from mentor_gym.state import digest
from mentor_gym.types import StopReason, Task, ToolCall

SYSTEM_PROMPT = """\
You solve tasks with the tools that you are given. Call them whenever they help, several at once if you like, and \
rely on their results rather than on your own reckoning. When you know the result, write only the result, as \
short as possible, between answer tags:
<answer>result</answer>
A message with neither a tool call nor these tags ends the task without an answer."""

_TOO_LONG = f"a turn is longer than {MAX_ACTION_CHARS:,} characters"
_decode = msgspec.json.Decoder().decode
# What chat-completions servers accept as the name of a function.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


class Outcome(StrEnum):
    """How an attempt ended.

    Attributes:
        CORRECT: The grader accepts the answer.
        WRONG: It does not.
        NO_ANSWER: The model wrote neither a tool call nor an answer.
        TURN_LIMIT: The environment's `max_turns` were spent.
        TOKEN_LIMIT: The endpoint cut a message off (`finish_reason` `"length"`).
        REFUSED: The endpoint does not take the conversation: too long, or stopped by a filter.
        FAILED: A request failed as often as it was to be tried. The only one that is attempted again.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TURN_LIMIT = "turn_limit"
    TOKEN_LIMIT = "token_limit"
    REFUSED = "refused"
    FAILED = "failed"


class Attempt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One attempt at a task; one line of `attempts.jsonl`.

    Attributes:
        task_id: The task.
        task_digest: Of all that an attempt at it depends on; see `task_digest`.
        number: Which attempt at it, from 1.
        outcome: How it ended.
        answer: The answer; None when none was given.
        problem: Why a task row cannot hold the trace: a call without valid JSON or of an unknown tool, an answer
            tag left open, a message cut off or too long, a request that failed. None when a row can.
        error: What the endpoint said, where it refused or failed.
        turns: Assistant turns played.
        requests: Requests sent, repeated ones included.
        prompt_tokens: As the endpoint reports them.
        completion_tokens: The same.
        faults: Faults of the endpoint, by kind: `http_429`, `timeout`, `connection`, `malformed_body`, …
        call_errors: Calls that failed, by `CallError`.
        trace: What came of it, in the form of `Task.teacher`.
    """

    task_id: str
    task_digest: str
    number: int
    outcome: Outcome
    answer: str | None
    problem: str | None
    error: str | None
    turns: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    faults: dict[str, int]
    call_errors: dict[str, int]
    trace: list[dict[str, Any]]

    @property
    def is_success(self) -> bool:
        """Whether the grader accepts the answer."""
        return self.outcome is Outcome.CORRECT


@dataclass(frozen=True)
class AssistantTurn:
    """An assistant message of an endpoint, read.

    Attributes:
        text: The turn in the environment's wire format.
        message: The message as it goes back to the endpoint in the next request.
        ids: The ids of its calls, in order; empty for a message without calls.
        recorded: The message as a task row holds it, with the same ids; None when a row cannot hold it.
        problem: Why not.
    """

    text: str
    message: dict[str, Any]
    ids: list[str]
    recorded: dict[str, Any] | None
    problem: str | None = None


def read_message(message: dict[str, Any], turn: int = 1) -> AssistantTurn:
    r"""Turn an assistant message (OpenAI form) into a turn for the environment.

    Native calls are written into the wire format as they are, broken ones too: the environment says what is wrong
    with them. Blank arguments count as `{}`. A message without native calls whose text holds well-formed
    `<tool_call>` tags, which servers without a tool parser return, is read as one with these calls. Of a text that
    is longer than a turn of the environment, even without its thoughts, only the beginning is read, and no row
    can hold it.

    Args:
        message: As it came from the endpoint, `tool_calls` a list or missing.
        turn: Its number in the episode; ids that are missing or stand twice are made from it.

    >>> call = {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":2}'}}
    >>> read_message({"role": "assistant", "content": None, "tool_calls": [call]}).text
    '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'
    >>> call["function"]["arguments"] = '{"a": 1'
    >>> read_message({"role": "assistant", "content": None, "tool_calls": [call]}).text
    '<tool_call>{"name": "add", "arguments": {"a": 1}</tool_call>'
    """
    content = clean(_text_of(message.get("content")))
    if len(content) > MAX_ACTION_CHARS:
        # The environment would cut off what comes after long thoughts.
        content = content.rpartition("</think>")[2].lstrip()
    is_too_long = len(content) > MAX_ACTION_CHARS
    calls = [_read_call(call) for call in (message.get("tool_calls") or [])[:MAX_CALLS_PARSED]]
    if not calls:
        # Neither played, nor written down, nor sent back: a server may flood its clients.
        content = content[:MAX_ACTION_CHARS]
        written = parse_action(content).calls
        if is_too_long or not written or any(call.error is not None for call in written):
            # The next request needs this message only when the environment asks for another turn.
            plain = {"role": "assistant", "content": content}
            problem = _TOO_LONG if is_too_long else _text_problem(content)
            return AssistantTurn(content, plain, [], None if problem else plain, problem)
        calls = [_Call(call.name, to_json(call.arguments), call) for call in written]
        content = content.partition("<tool_call>")[0].rstrip()
    ids = _ids(message.get("tool_calls") or [], len(calls), turn)
    bodies = "\n".join(call.body for call in calls)
    broken = next((call for call in calls if call.parsed.error is not None), None)
    wanted = tuple(call.parsed for call in calls)
    text = clean(bodies)
    # An open <think> or a tag in the text beside the calls would change what the environment reads: such text is
    # escaped, and left out where even that does not fit.
    for kept in dict.fromkeys((content, neutralise(content), "")):
        candidate = clean(f"{kept}\n{bodies}" if kept else bodies)
        if len(candidate) <= MAX_ACTION_CHARS and parse_action(candidate).calls == wanted:
            text, content = candidate, kept
            break
    else:
        content = ""
    sent = {
        "role": "assistant",
        "content": content or None,
        "tool_calls": [
            {"id": call_id, "type": "function", "function": {"name": call.sent_name, "arguments": call.sent}}
            for call_id, call in zip(ids, calls)
        ],
    }
    if broken is not None:
        return AssistantTurn(text, sent, ids, None, f"a call is malformed: {broken.parsed.error}")
    if len(text) > MAX_ACTION_CHARS:
        return AssistantTurn(text, sent, ids, None, _TOO_LONG)
    recorded = {
        "role": "assistant",
        "content": content or None,
        "tool_calls": [
            {
                "id": call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": to_json(call.parsed.arguments)},
            }
            for call_id, call in zip(ids, calls)
        ],
    }
    return AssistantTurn(render_message(recorded), sent, ids, recorded)


@dataclass(frozen=True)
class _Call:
    """A tool call of a message.

    Attributes:
        name: The tool's name; empty when there is none.
        arguments: The JSON text of the arguments, as it came.
        parsed: What the environment makes of it.
    """

    name: str
    arguments: str
    parsed: ToolCall

    @property
    def body(self) -> str:
        if self.parsed.error is None:
            return render_call(self.name, self.parsed.arguments)
        return _raw_call(self.name, self.arguments)

    @property
    def sent_name(self) -> str:
        return _NOT_IN_NAMES.sub("_", self.name)[:64] or "unknown"

    @property
    def sent(self) -> str:
        # Servers decode the arguments of earlier calls for their chat templates, and refuse broken ones.
        return to_json(self.parsed.arguments)


def _read_call(call: Any) -> _Call:
    function = call.get("function") if isinstance(call, dict) else None
    function = function if isinstance(function, dict) else {}
    name = function.get("name")
    name = clean(name) if isinstance(name, str) else ""
    arguments = function.get("arguments")
    if arguments is None or (isinstance(arguments, str) and not arguments.strip()):
        arguments = "{}"
    elif not isinstance(arguments, str):
        # Some servers decode them.
        arguments = to_json(arguments)
    arguments = clean(arguments)
    (parsed, *_) = parse_action(_raw_call(name, arguments)).calls
    if parsed.error is None:
        # Escapes of control characters are taken for what the environment makes of them.
        (parsed,) = parse_action(clean(render_call(name, parsed.arguments))).calls
    return _Call(name, arguments, parsed)


def _raw_call(name: str, arguments: str) -> str:
    """Write a call around the text of its arguments, whatever that is, so that no tag in it ends the call."""
    try:
        _decode(arguments)
    except (msgspec.DecodeError, ValueError, RecursionError):
        # Neither an escape nor a character outside of strings that JSON knows: what is broken stays broken.
        arguments = arguments.replace("<", "&lt;")
    else:
        arguments = arguments.replace("<", "\\u003c")
    named = to_json(name).replace("<", "\\u003c")
    return f'<tool_call>{{"name": {named}, "arguments": {arguments}}}</tool_call>'


def _ids(calls: Sequence[Any], count: int, turn: int) -> list[str]:
    ids: list[str] = []
    for position in range(count):
        call = calls[position] if position < len(calls) else None
        call_id = call.get("id") if isinstance(call, dict) else None
        if not isinstance(call_id, str) or not call_id or call_id in ids:
            call_id = f"call_{turn}_{position}"
            while call_id in ids:
                call_id += "_"
        ids.append(call_id)
    return ids


def _text_of(content: Any) -> str:
    """Return the text of a message's content, which may be a list of parts."""
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, dict) else part for part in content)
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _text_problem(content: str) -> str | None:
    action = parse_action(content)
    if action.calls:
        return f"a call is malformed: {next(call.error for call in action.calls if call.error is not None)}"
    return action.error


def task_digest(task: Task) -> str:
    """Return a digest of what an attempt at a task depends on: not of its teacher, nor of facts about it."""
    return digest([task.prompt, task.tools, task.answer, task.grader, task.state])


async def play_episode(
    env: MentorToolEnv,
    task: Task,
    number: int,
    client: ChatClient,
    stage: Stage,
    system: str = SYSTEM_PROMPT,
) -> Attempt:
    """Let an endpoint's model play one task.

    Args:
        env: An environment that has the task; the attempt begins with its `reset`.
        task: The task.
        number: Which attempt at it, from 1; decides the seed that is sent.
        client: Asks the endpoint.
        stage: Where the environment runs.
        system: The system message; empty for none.

    Returns:
        The attempt, also where the endpoint refused it or failed.

    Raises:
        EndpointError: No request to this endpoint can succeed.
    """
    await stage.call(env.reset, options={"task_id": task.id})
    tools = [
        env.tools[entry].schema if isinstance(entry, str) else {"type": "function", **entry}
        for entry in task.tools
    ]
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": clean(task.prompt)})
    trace: list[dict[str, Any]] = []
    ledger = Ledger()
    call_errors: Counter[str] = Counter()
    problem: str | None = None
    error: str | None = None
    outcome: Outcome | None = None
    base = client.endpoint.seed
    seed = None if base is None else base + number - 1
    # A text: its hash is the same in every process, and the waits of one attempt depend on no other's.
    rng = random.Random(f"{base}/{task.id}/{number}")
    made = 0
    while outcome is None:
        turn_number = len(env.transcript.turns) + 1
        try:
            reply = await client.complete(messages, tools, seed, rng, ledger)
        except (Refused, RequestFailed) as reason:
            outcome = Outcome.REFUSED if isinstance(reason, Refused) else Outcome.FAILED
            error, problem = str(reason), problem or "the endpoint gave no further message"
            break
        turn = read_message(reply.message, turn_number)
        problem = problem or turn.problem
        if reply.finish_reason == "length":
            env.mark_cut_off()
            problem = problem or "a message was cut off"
        await stage.call(env.step, turn.text)
        played = env.transcript.turns[-1]
        call_errors.update(result.error for result in played.results if result.error is not None)
        if any(call.name not in env.tools for call in played.action.calls):
            problem = problem or "a call names an unknown tool"
        messages.append(turn.message)
        if turn.ids:
            outputs = [result.output for result in played.results]
            # Calls behind the place where the environment cuts a turn have no result of their own.
            outputs += outputs[-1:] * (len(turn.ids) - len(outputs))
            messages += [
                {"role": "tool", "tool_call_id": call_id, "content": output}
                for call_id, output in zip(turn.ids, outputs)
            ]
        elif played.observation:
            outputs = []
            messages.append({"role": "user", "content": played.observation})
        else:
            outputs = []
        if turn.recorded is not None and problem is None:
            trace += _renumbered(turn.recorded, outputs, made)
            made += len(turn.ids)
        outcome = _outcome_of(env)
    await stage.call(env.close)
    return Attempt(
        task_id=task.id,
        task_digest=task_digest(task),
        number=number,
        outcome=outcome,
        answer=env.transcript.answer,
        problem=problem,
        error=error,
        turns=len(env.transcript.turns),
        requests=ledger.requests,
        prompt_tokens=ledger.prompt_tokens,
        completion_tokens=ledger.completion_tokens,
        faults=dict(sorted(ledger.faults.items())),
        call_errors={str(kind): count for kind, count in sorted(call_errors.items())},
        trace=trace,
    )


def _renumbered(message: dict[str, Any], outputs: list[str], made: int) -> list[dict[str, Any]]:
    """Return a message and its results with ids of our own: the endpoint's differ from run to run."""
    if not message.get("tool_calls"):
        return [message]
    ids = [f"call_{made + position + 1}" for position in range(len(message["tool_calls"]))]
    calls = [{**call, "id": call_id} for call, call_id in zip(message["tool_calls"], ids)]
    results = [
        {"role": "tool", "tool_call_id": call_id, "content": output} for call_id, output in zip(ids, outputs)
    ]
    return [{**message, "tool_calls": calls}, *results]


def _outcome_of(env: MentorToolEnv) -> Outcome | None:
    transcript = env.transcript
    if transcript.stop_reason is None:
        return None
    if transcript.stop_reason is StopReason.ANSWER:
        return Outcome.CORRECT if transcript.is_success else Outcome.WRONG
    return Outcome(str(transcript.stop_reason))
