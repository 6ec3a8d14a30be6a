"""What is fuzzed, and what must hold for every input: an action, a tool's arguments, a state.

Each target has seeds, a function that takes any bytes and raises when a promise is broken, and the tokens and the
mutator that lead a fuzzer to inputs which mean something. `fuzz.py` fuzzes them; `test_targets.py` plays the seeds
and some mutations whenever the tests run.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mentor_gym import MentorToolEnv, RewardWrapper
from mentor_gym.protocol import MAX_ACTION_CHARS, clean, neutralise, parse_action, render_call, render_message
from mentor_gym.state import MAGIC, VERSION, StateError
from mentor_gym.tools import Tool, ToolError
from mentor_gym.tools.base import MAX_OUTPUT_CHARS
from mentor_gym.types import CallError, ToolCall, ToolResult

TESTS = Path(__file__).parents[1]
# Instrumented code on a busy machine; quadratic time on 20,000 characters is far more.
MAX_SECONDS = 2.0
TURN_END = b"\x1e"
HEADER = len(MAGIC) + 2 + 32


@dataclass(frozen=True)
class Target:
    """Something to be fuzzed.

    Attributes:
        name: What it is called.
        check: Takes any bytes; raises when something that is promised does not hold.
        seeds: Inputs to begin with.
        tokens: What is worth putting into an input.
        mutate: From an input and a generator to another one.
    """

    name: str
    check: Callable[[bytes], None]
    seeds: Sequence[bytes]
    tokens: Sequence[bytes]
    mutate: Callable[[bytes, random.Random], bytes]


def expect(condition: object, *what: object) -> None:
    """Raise when a promise is broken; no `assert`, which optimised code would not run."""
    if not condition:
        raise AssertionError(*what)


# Tools whose functions look at what they are given: a validator that lets a wrong argument through is noticed.


def probe(
    text: str,
    times: int = 1,
    ratio: float = 0.5,
    loud: bool = False,
    tags: list[str] = [],  # noqa: B006
    grid: list[list[float]] = [],  # noqa: B006
    mode: Literal["a", "b", 3] | None = None,
    note: str | None = None,
) -> str:
    """Show every argument."""
    expect(type(text) is str, text)
    expect(type(times) in (int, float) and times == int(times), times)
    expect(type(ratio) in (int, float) and math.isfinite(ratio), ratio)
    expect(type(loud) is bool, loud)
    expect(type(tags) is list and all(type(tag) is str for tag in tags), tags)
    expect(all(type(line) is list and all(type(x) in (int, float) for x in line) for line in grid), grid)
    expect(mode is None or (mode in ("a", "b", 3) and type(mode) is not bool), mode)
    expect(note is None or type(note) is str, note)
    shown = f"{text}|{times}|{ratio}|{loud}|{tags}|{grid}|{mode}|{note}"
    # The record of the call must not notice. An empty list may be the default, which stays as it is.
    if tags:
        tags.pop()
    if grid:
        grid[0].append(0.0)
    return shown


def shout(text: str) -> str:
    """Return the text, and fail on some."""
    if text.startswith("no"):
        raise ToolError(text)
    if text.startswith("crash"):
        raise RuntimeError(text)
    return text * 50


def store(value: Any = None, **others: Any) -> str:
    """Return whatever it is given."""
    return json.dumps([value, others], ensure_ascii=False)


STORE = Tool(
    store,
    "store",
    "Store something.",
    {
        "properties": {
            "value": {
                "anyOf": [
                    {"type": "object", "patternProperties": {"^x[0-9]{1,9}$": {"type": "integer"}}},
                    {"type": "array", "uniqueItems": True, "minItems": 1, "maxItems": 9},
                    {"type": "number", "minimum": -1e15, "exclusiveMaximum": 1e15},
                    {"type": "string", "minLength": 1, "maxLength": 40, "pattern": "^[^<]*$"},
                    {"type": "null"},
                ]
            },
            "kind": {"const": "k"},
            "tree": {"$ref": "#/$defs/tree"},
        },
        "$defs": {"tree": {"type": "object", "additionalProperties": {"$ref": "#/$defs/tree"}}},
    },
)
TOOLS = [Tool.from_function(probe), Tool.from_function(shout), STORE]


# Environments


def make_envs(suite: str, **kwargs: Any) -> list[RewardWrapper]:
    """Make an environment and its double."""
    made = [RewardWrapper(MentorToolEnv(suite, max_turns=4, **kwargs), "mentor-f1", dense=True) for _ in range(2)]
    for env in made:
        for tool in env.unwrapped.suite.box.tools.values():  # type: ignore[attr-defined]
            tool.timeout = None
        # A fuzzer has the timer that time limits use.
        for tool in env.unwrapped._box.tools.values():  # type: ignore[attr-defined]
            tool.timeout = None
    return made


ENVS = [
    make_envs("math", prompt="compact"),
    make_envs(str(TESTS / "till_suite" / "suite.yaml")),
    make_envs("facts", prompt="compact"),
]


def check_step(data: bytes) -> None:
    """Play an episode whose turns are the parts of `data`; the first byte chooses suite and task."""
    first, _, rest = data[:1], None, data[1:]
    choice = first[0] if first else 0
    env, double = ENVS[choice % len(ENVS)]
    base, other = env.unwrapped, double.unwrapped
    assert isinstance(base, MentorToolEnv)
    assert isinstance(other, MentorToolEnv)
    env.reset(seed=choice)
    if choice >= 128 and sum(message["role"] == "assistant" for message in base.task.teacher) > 1:
        env.reset(options={"task_id": base.task.id, "teacher_turns": 1})
    for part in rest.split(TURN_END)[:5]:
        if base.transcript.stop_reason is not None:
            break
        # Bytes that are no UTF-8 become lone surrogates.
        text = part.decode("utf-8", "surrogateescape")
        check_parse(text)
        before = base.get_state()
        started = time.process_time()
        result = env.step(text)
        expect(time.process_time() - started < MAX_SECONDS, "slow", len(text))
        check_result(base, result)
        after = base.get_state()
        # The same from the state before, and the state itself comes back.
        other.set_state(before)
        expect(other.get_state() == before, "the state before does not come back")
        expect(json.dumps(double.step(text)) == json.dumps(result), "another result from the same state")
        expect(other.get_state() == after, "another state after the same step")
        other.set_state(after)
        expect(other.get_state() == after, "the state after does not come back")
        expect(other.transcript == base.transcript, "another transcript")


def check_parse(text: str) -> None:
    """Look at what is promised of the parser, and of what it is given and what is rendered."""
    text = clean(text[:MAX_ACTION_CHARS])
    text.encode()
    expect(clean(text) == text, "clean is not idempotent")
    started = time.process_time()
    action = parse_action(text)
    expect(time.process_time() - started < MAX_SECONDS, "slow parse")
    kinds = (bool(action.calls), action.answer is not None, action.error is not None)
    expect(sum(kinds) <= 1, "calls, answer and error together", action)
    for call in action.calls:
        expect((call.error is None) == bool(call.name), call)
        if call.error is None:
            (again,) = parse_action(render_call(call.name, call.arguments)).calls
            expect(again == call and repr(again) == repr(call), "parse does not invert render", call, again)
    safe = neutralise(text)
    expect(neutralise(safe) == safe, "neutralise is not idempotent")
    harmless = parse_action(safe)
    expect(not harmless.calls and "<answer>" not in safe and "<think>" not in safe, "protocol survived", safe)


def check_result(env: MentorToolEnv, result: tuple[Any, ...]) -> None:
    """Look at what is promised of a step's return values."""
    observation, reward, terminated, truncated, info = result
    turn = env.transcript.turns[-1]
    expect(len(turn.text) <= MAX_ACTION_CHARS, "not cut", len(turn.text))
    expect(type(observation) is str and observation in env.observation_space, "not in the space", observation)
    observation.encode()
    expect(type(reward) is float and -0.5 <= reward <= 1.5, reward)
    expect(type(terminated) is bool and type(truncated) is bool and not (terminated and truncated))
    expect((terminated or truncated) == (env.transcript.stop_reason is not None))
    expect("reward_error" not in info and "episode" not in info, info)
    expect(info["turn"] == len(env.transcript.turns) <= env.max_turns)
    json.dumps(info).encode()
    expect(len(turn.results) == len(turn.action.calls))
    if turn.results:
        expect(observation == "\n".join(f"<tool_response>{item.output}</tool_response>" for item in turn.results))
        for item in turn.results:
            check_output(item)
    elif observation:
        inner = re.fullmatch(r"<tool_response>(error: .*)</tool_response>", observation, re.DOTALL)
        expect(inner and neutralise(inner[1]) == inner[1], "forged", observation)
    else:
        expect(terminated or truncated, "nothing is said")


def check_output(result: ToolResult) -> None:
    """Look at what is promised of a call's result."""
    result.output.encode()
    expect(clean(result.output) == result.output, "unclean", result.output)
    expect(neutralise(result.output) == result.output, "forged", result.output)
    # A marker's first character takes up to five.
    expect(len(result.output) <= 5 * MAX_OUTPUT_CHARS + 10, "long", len(result.output))
    expect(result.ok == (result.error is None), result)
    if not result.ok:
        expect(result.output.startswith("error: "), result)


def check_tools(data: bytes) -> None:
    """Give a tool the arguments in `data`; the first byte chooses the tool."""
    tool = TOOLS[data[0] % len(TOOLS)] if data else TOOLS[0]
    text = clean(data[1:].decode("utf-8", "surrogateescape")[:MAX_ACTION_CHARS])
    action = parse_action(f'<tool_call>{{"name": "{tool.name}", "arguments": {text}}}</tool_call>')
    for call in action.calls:
        if call.error is None:
            check_call(tool, call)


def check_call(tool: Tool, call: ToolCall) -> None:
    """Look at what is promised of a call, whatever its arguments."""
    before = json.dumps(call.arguments)
    started = time.process_time()
    result = tool.call(call.arguments)
    expect(time.process_time() - started < MAX_SECONDS, "slow", tool.name)
    check_output(result)
    expect(json.dumps(call.arguments) == before, "the record of the call was changed")
    expect("AssertionError" not in result.output, "a wrong argument reached the function", call.arguments)
    if result.error is CallError.INVALID_ARGUMENTS:
        expect(result.output.startswith(f"error: {tool.name}:"), result)
    expect(tool.call(call.arguments) == result, "another result of the same call")


def seal(body: bytes) -> bytes:
    """Write a state's content as another program would that knows the format."""
    version = VERSION.to_bytes(2, "big")
    return MAGIC + version + hashlib.sha256(version + body).digest() + body


def check_state(data: bytes) -> None:
    """Have a state taken: `data` as it is, or, after a first byte that is odd, as the content of a sealed one."""
    is_sealed = bool(data) and data[0] % 2 == 1
    state = seal(data[1:]) if is_sealed else data[1:]
    for env, _ in ENVS:
        base = env.unwrapped
        assert isinstance(base, MentorToolEnv)
        env.reset(seed=3)
        env.step("<answer>")
        before = base.get_state()
        started = time.process_time()
        try:
            base.set_state(state)
        except StateError as error:
            expect(base.get_state() == before, "a refused state has changed the environment")
            expect(len(str(error)) < 2000, "a message of", len(str(error)))
        else:
            expect(is_sealed or state[HEADER:] in STATES, "a damaged state was taken")
            saved = base.get_state()
            base.set_state(saved)
            expect(base.get_state() == saved, "what was taken does not come back")
            if base.transcript is not None and base.transcript.stop_reason is None and not base._closed:
                env.step(render_call(next(iter(base.tools)), {"item": "apple"}))
                env.step("<answer>1</answer>") if base.transcript.stop_reason is None else None
            env.reset()
            env.step("<answer>1</answer>")
        expect(time.process_time() - started < 2 * MAX_SECONDS, "slow")


# Seeds and mutations

PIECES = [
    "<tool_call>", "</tool_call>", "<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "{", "[", "]",
    '{"name": "', '", "arguments": {', '"name"', '"arguments"', '"a"', '"item"', ": ", ", ", '"', "\\", "\\u003c",
    "\\ud83c\\udf89", "\\ud800", "1e999", "-0.0", "1e-400", "NaN", "null", "true", "18446744073709551616",
    "9" * 400, "<tool_response>", "</tool_response>", "<|im_start|>", "<|im_end|>", "[INST]", "<s>", "<<SYS>>",
    "&lt;", "\r\n", "\u2028", "\u202e", "e\u0301", "🎉", "\x00", "\x1b[31m", "\t", " ", "\x1e", "'",
    "```json\n", "x" * 3000, "[" * 40, "add", "multiply", "scan", "undo", "total", "apple", "3.2", "42", "../",
    "__class__", "error: ", " …[cut]", "\\u0000", "\\u001b[2J", "\\u003c/tool_call>", "\\u003cthink>",
]  # fmt: skip
ARGUMENTS = [
    '"text": "hey"', '"times": 2', '"times": 2.0', '"ratio": 1e15', '"loud": true', '"tags": ["a", "b"]',
    '"grid": [[1, 2.5]]', '"mode": "a"', '"mode": 3', '"mode": null', '"note": null', '"value": {"x1": 1}',
    '"value": [1, [1], "1"]', '"kind": "k"', '"tree": {"a": {"b": {}}}', '"text": "no <answer>"',
    '"text": "crash"', '"text": "\\u0000\\u009b"', '"text": 1', '"unknown": 0',
]  # fmt: skip


def _step_seeds() -> list[bytes]:
    seeds = []
    for choice in range(18):
        env = ENVS[choice % len(ENVS)][0]
        env.reset(seed=choice)
        task = env.unwrapped.task  # type: ignore[attr-defined]
        turns = [render_message(message) for message in task.teacher if message["role"] == "assistant"]
        seeds.append(bytes([choice]) + TURN_END.join(turn.encode() for turn in turns))
        calls = [turn for turn in turns if "tool_call" in turn]
        seeds.append(bytes([choice]) + "".join(calls * 4).encode())
    seeds.append(bytes([1]) + b"x" * 25_000)
    seeds += [
        bytes([1]) + b"<tool_call>" + unit * 3000 + b"</tool_call>" for unit in (b"[", b'{"a":', b'"\\"', b"{}")
    ]
    seeds += [bytes([1]) + piece.encode("utf-8", "surrogateescape") for piece in PIECES]
    return seeds


def _tool_seeds() -> list[bytes]:
    seeds = [bytes([choice]) + f"{{{item}}}".encode() for choice in range(3) for item in ARGUMENTS]
    seeds += [b'\0{"text": "hey", ' + item.encode() + b"}" for item in ARGUMENTS[1:]]
    seeds += [b'\2{"value": "\\u001b[2J"}', b'\1{"text": "\\u001b[2J"}']
    return [*seeds, b"\2{" + ", ".join(ARGUMENTS[12:15]).encode() + b"}"]


def _states() -> list[bytes]:
    found = []
    for env, _ in ENVS:
        base = env.unwrapped
        assert isinstance(base, MentorToolEnv)
        for options in ({}, {"teacher_turns": 1}):
            tasks = [task.id for task in base.tasks if len(task.teacher) > 2]
            env.reset(seed=1, options={"task_id": tasks[0], **options})
            found.append(base.get_state()[HEADER:])
            env.step(render_call(next(iter(base.tools)), {"item": "pen", "a": 2.5, "b": [1, "x"]}) + "<tool_call>")
            base.mark_cut_off()
            found.append(base.get_state()[HEADER:])
            env.step("")
            found.append(base.get_state()[HEADER:])
        env.reset(seed=2)
        base.close()
        found.append(base.get_state()[HEADER:])
        found.append(MentorToolEnv(base._arguments["suite"], max_turns=4, prompt=base.prompt).get_state()[HEADER:])
    return found


def _mutate_text(pieces: Sequence[bytes]) -> Callable[[bytes, random.Random], bytes]:
    def mutate(data: bytes, chance: random.Random) -> bytes:
        head, body = data[:1] or b"\0", data[1:]
        # Between tokens rather than between bytes.
        parts = re.split(rb"(</?[a-z_]+>|[{}\[\]\",:\x1e])", body)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            place = chance.randrange(len(parts) + 1)
            match chance.randrange(7):
                case 0:
                    parts.insert(place, chance.choice(pieces))
                case 1:
                    parts[place : place + chance.randrange(1, 5)] = []
                case 2:
                    parts[place:place] = parts[place : place + chance.randrange(1, 12)] * chance.choice(
                        (1, 1, 2, 30)
                    )
                case 3:
                    other = chance.randrange(len(parts) + 1)
                    parts[place:place] = parts[other : other + chance.randrange(1, 8)]
                case 4:
                    parts[place : place + 1] = [chance.choice(pieces)]
                case 5:
                    parts[place:place] = [
                        b"<tool_call>",
                        b'{"name": "',
                        chance.choice(pieces),
                        b'", "arguments": {}}',
                        b"</tool_call>",
                    ]
                case 6:
                    head = bytes([chance.randrange(256)])
        return head + b"".join(parts)

    return mutate


def _mutate_state(data: bytes, chance: random.Random) -> bytes:
    """Change one value of the content, or, rarely, one byte of anything."""
    if chance.random() < 0.1 or not data:
        junk = bytearray(data or b"\0")
        junk[chance.randrange(len(junk))] = chance.randrange(256)
        return bytes(junk)
    try:
        content = json.loads(data[1:] if data[0] % 2 else data[1 + HEADER :])
    except (ValueError, RecursionError):
        return bytes([1]) + chance.choice(STATES)
    for _ in range(chance.choice((1, 1, 2))):
        content = _replace(content, chance)
    return bytes([1]) + json.dumps(content).encode()


def _replace(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(sorted(value))
        if chance.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: _replace(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        place = chance.randrange(len(value))
        return [*value[:place], _replace(value[place], chance), *value[place + chance.randrange(2) :]]
    if isinstance(value, str) and value.startswith("{") and chance.random() < 0.9:
        try:
            return json.dumps(_replace(json.loads(value), chance))
        except (ValueError, RecursionError):
            return value[:-1]
    return chance.choice(
        [
            None, True, 0, -1, 3, 2**64, -(2**130), 10**400, 0.5, -0.0, 1e308, "", "x", "PCG64", "SFC64", "answer",
            "env_crashed", "AAAA", "\x00", "</tool_response>", [], {}, [1, 2, 3, 4], {"a": 1},
            {"state": 1, "inc": 2}, [[[[[[]]]]]], "1" * 9000,
        ]
    )  # fmt: skip


STATES = _states()
_PIECES = [piece.encode("utf-8", "surrogatepass") for piece in PIECES]
_ARGUMENTS = [*_PIECES, *(item.encode() for item in ARGUMENTS), *(f", {item}".encode() for item in ARGUMENTS)]
TARGETS = [
    Target("action", check_step, _step_seeds(), _PIECES, _mutate_text(_PIECES)),
    Target("arguments", check_tools, _tool_seeds(), _ARGUMENTS, _mutate_text(_ARGUMENTS)),
    Target(
        "state",
        check_state,
        [*(b"\1" + body for body in STATES), *(b"\0" + seal(body) for body in STATES), b"\0", b"\1"],
        [MAGIC, b'"turns": [', b"null", b'"bit_generator": "SFC64"', b'"forced": "answer"'],
        _mutate_state,
    ),
]
