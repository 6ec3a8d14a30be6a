"""Rewards, tools and agents with one fault each, and the check that must find it.

Each is a plausible mistake; `REWARDS`, `TOOLS`, `BOXES` and `AGENTS` map its name to a factory, the one check that
fails, and words of its message.
"""

from __future__ import annotations

import collections
import math
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

from agents.base import Completion, FunctionAgent, Observation
from mentor_gym.rewards.matching import student_calls, teacher_calls
from mentor_gym.tools import Tool, ToolBox, ToolError
from mentor_gym.types import StopReason, ToolResult, Transcript

# Rewards


def made_of(function: Any, maximum: Any = 1.0, **attributes: Any) -> Any:
    """Build a reward from a function of the transcript that returns terms."""

    class Made:
        def __init__(self) -> None:
            self.maximum = maximum
            self.__dict__.update(attributes)

        def __call__(self, transcript: Transcript) -> dict[str, float]:
            terms: dict[str, float] = function(transcript)
            return terms

    return Made


def success(transcript: Transcript) -> float:
    return float(transcript.is_success)


def scores_outputs(transcript: Transcript) -> dict[str, float]:
    """The whole conversation is searched for the answer."""
    gold = transcript.task.answer
    printed = any(gold == result.output for _, result in transcript.calls())
    return {"outcome": max(success(transcript), float(printed))}


def reads_prompt(transcript: Transcript) -> dict[str, float]:
    return {"outcome": success(transcript), "long": 0.0 if len(transcript.task.prompt) > 40 else -0.1}


def divides_by_calls(transcript: Transcript) -> dict[str, float]:
    calls = transcript.calls()
    share = sum(result.ok for _, result in calls) / len(calls) if calls else math.nan
    return {"outcome": success(transcript), "valid": 0.0 * share}


def needs_an_end(transcript: Transcript) -> dict[str, float]:
    assert transcript.stop_reason is not None
    return {"outcome": success(transcript)}


def forgets_a_term(transcript: Transcript) -> dict[str, float]:
    return {"outcome": 1.0} if transcript.is_success else {"outcome": 0.0, "failure": 0.0}


def takes_last_turn(transcript: Transcript) -> dict[str, float]:
    last = transcript.turns.pop() if transcript.turns else None
    return {"outcome": float(transcript.is_success and last is not None)}


def draws(transcript: Transcript) -> dict[str, float]:
    random.random()
    return {"outcome": success(transcript)}


def pays_by_the_day(transcript: Transcript) -> dict[str, float]:
    return {"outcome": success(transcript), "day": -0.1 * (time.time() % 2e8 < 1e8)}


def compares_texts(transcript: Transcript) -> dict[str, float]:
    return {"outcome": float(transcript.is_success and transcript.answer == transcript.task.answer)}


def adds_a_bonus(transcript: Transcript) -> dict[str, float]:
    return {"outcome": success(transcript), "calls": 0.1 * len(transcript.calls())}


def takes_away(transcript: Transcript) -> dict[str, float]:
    return {"outcome": success(transcript), "calls": -0.1 * len(transcript.calls())}


def pays_silence(transcript: Transcript) -> dict[str, float]:
    return {"outcome": max(success(transcript), float(transcript.stop_reason is StopReason.NO_ANSWER))}


def pays_being_cut_off(transcript: Transcript) -> dict[str, float]:
    return {"outcome": max(success(transcript), float(transcript.stop_reason is StopReason.TOKEN_LIMIT))}


def pays_calls(transcript: Transcript) -> dict[str, float]:
    return {"outcome": 0.4 * success(transcript), "calls": min(0.02 * len(transcript.calls()), 0.6)}


def pays_imitation(transcript: Transcript) -> dict[str, float]:
    return {"alignment": float(student_calls(transcript) == list(teacher_calls(transcript.task)))}


def pays_tools_like_answers(transcript: Transcript) -> dict[str, float]:
    return {"outcome": 0.5 * success(transcript), "alignment": 0.5 * pays_imitation(transcript)["alignment"]}


def pays_a_late_cut(transcript: Transcript) -> dict[str, float]:
    calls = len(transcript.calls())
    saved = 0.95 if transcript.stop_reason is StopReason.TOKEN_LIMIT and calls else 0.0
    return {"outcome": max(success(transcript), saved), "calls": -0.1 * calls}


class Counter:
    """Pays a little less every time that it is asked."""

    maximum = 1.0

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        self.count += 1
        return {"outcome": success(transcript), "tired": -1e-6 * self.count}


class OneDict:
    """Returns the same dict at every call."""

    maximum = 1.0

    def __init__(self) -> None:
        self.terms: dict[str, float] = {}
        self.of: Transcript | None = None

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        if transcript is not self.of:
            self.of, self.terms = transcript, {"outcome": success(transcript)}
        return self.terms


class CachedByTask:
    """Remembers the terms of a task."""

    maximum = 1.0

    def __init__(self) -> None:
        self.known: dict[str, dict[str, float]] = {}

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        return dict(self.known.setdefault(transcript.task.id, {"outcome": success(transcript)}))


class Incremental:
    """Counts the turns of a transcript that grows, and skips the first new one."""

    maximum = 1.0

    def __init__(self) -> None:
        self.of: Transcript | None = None
        self.seen = self.calls = 0

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        if transcript is not self.of:
            self.of, self.calls, start = transcript, 0, 0
        else:
            start = self.seen + 1
        self.calls += sum(len(turn.results) for turn in transcript.turns[start:])
        self.seen = len(transcript.turns)
        return {"outcome": success(transcript), "calls": -0.001 * self.calls}


REWARDS: dict[str, tuple[Any, str, str]] = {
    "no maximum": (made_of(adds_a_bonus, None), "is-reward", "maximum"),
    "infinite maximum": (made_of(adds_a_bonus, math.inf), "is-reward", "inf"),
    "a minimum above the maximum": (made_of(takes_away, 1.0, minimum=2.0), "is-reward", "minimum"),
    "a sum in place of terms": (made_of(success), "named-terms", "a dict of named terms"),
    "booleans": (made_of(lambda transcript: {"outcome": transcript.is_success}), "named-terms", "(bool)"),
    "other names at times": (made_of(forgets_a_term), "named-terms", "failure"),
    "an end expected": (made_of(needs_an_end), "unfinished-too", "AssertionError"),
    "not a number": (made_of(divides_by_calls), "finite", "valid nan"),
    "a turn taken out": (made_of(takes_last_turn), "leaves-transcript-alone", "copy what you sort"),
    "a counter": (Counter, "same-again", "in another order"),
    "one dict": (OneDict, "same-again", "new dict"),
    "a cache by task": (CachedByTask, "same-again", "cache"),
    "global random numbers": (made_of(draws), "global-random-untouched", "random"),
    "a clock": (made_of(pays_by_the_day), "reads-no-clock", "every clock put forward"),
    "tool output": (made_of(scores_outputs), "blind-to-tool-output", "with the right answer as the output"),
    "the prompt": (made_of(reads_prompt), "blind-to-prompt", "as the prompt"),
    "texts compared": (made_of(compares_texts), "reads-verdict", "transcript.is_success"),
    "over the maximum": (made_of(adds_a_bonus), "within-bounds", "at most maximum = 1"),
    "under the minimum": (made_of(takes_away, 1.0, minimum=0.0), "within-bounds", "at least minimum = 0"),
    "turns skipped": (Incremental, "dense-equals-terminal", "dense=True"),
    "silence": (made_of(pays_silence), "idle-earns-less", "writes nothing"),
    "being cut off": (made_of(pays_being_cut_off), "idle-earns-less", "is cut off at once"),
    "calls": (made_of(pays_calls), "spam-earns-less", "until the limit"),
    "imitation": (made_of(pays_imitation), "parrot-earns-less", "repeats the teacher's calls and guesses"),
    "cut off late": (made_of(pays_a_late_cut), "cut-off-earns-no-more", "token_limit"),
    "a promise not kept": (
        made_of(pays_tools_like_answers, right_beats_wrong=True),
        "right-beats-wrong",
        "give the outcome more weight",
    ),
    "a maximum out of reach": (made_of(takes_away, 2.0), "teacher-earns-maximum", "maximum = 2"),
}

# Tools


def repeat(text: str, times: int = 1, loud: bool = False, tags: list[str] | None = None) -> str:
    """Repeat a text some times.

    Args:
        text: What to repeat.
        times: How often.
        loud: In capitals.
        tags: Kept for later.
    """
    if not 0 <= times <= 100:
        raise ToolError("times must be 0 to 100")
    return (text.upper() if loud else text)[:100] * times


class Coercing(Tool):
    def call(self, arguments: dict[str, Any]) -> ToolResult:
        times = arguments.get("times") if isinstance(arguments, dict) else None
        if isinstance(times, str) and times.isdigit():
            arguments = {**arguments, "times": int(times)}
        return super().call(arguments)


class Forgiving(Tool):
    """Drops unknown fields."""

    def call(self, arguments: dict[str, Any]) -> ToolResult:
        known = self.parameters["properties"]
        if isinstance(arguments, dict):
            arguments = {name: value for name, value in arguments.items() if name in known or name == ""}
        return super().call(arguments)


class Mumbling(Tool):
    """Does not say which argument was wrong."""

    def _explain(self, arguments: dict[str, Any]) -> str:
        return "error: wrong arguments"


class Impatient(Tool):
    """Declares a time limit and does not apply it."""

    def call(self, arguments: dict[str, Any]) -> ToolResult:
        declared, self.timeout = self.timeout, None
        try:
            return super().call(arguments)
        finally:
            self.timeout = declared


class MainThreadOnly(Impatient):
    """Applies its time limit where signals arrive, and nowhere else."""

    def call(self, arguments: dict[str, Any]) -> ToolResult:
        if threading.current_thread() is threading.main_thread():
            return Tool.call(self, arguments)
        return super().call(arguments)


class TakesTheAlarm(Tool):
    """Leaves its own signal handler behind."""

    def call(self, arguments: dict[str, Any]) -> ToolResult:
        result = super().call(arguments)
        if threading.current_thread() is threading.main_thread():
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        return result


class Raising(Tool):
    def call(self, arguments: dict[str, Any]) -> ToolResult:
        if "no_such_key" in sorted(arguments):  # of None, or of keys that are not texts
            return ToolResult(True, "")
        return super().call(arguments)


class Plain(Tool):
    """Returns the text alone."""

    def call(self, arguments: dict[str, Any]) -> Any:
        return super().call(arguments).output


class Mutating(Tool):
    def call(self, arguments: dict[str, Any]) -> ToolResult:
        result = super().call(arguments)
        if isinstance(arguments, dict):
            arguments["cached"] = result.output
        return result


class Leaking(Tool):
    """Shows what went wrong inside."""

    def call(self, arguments: dict[str, Any]) -> ToolResult:
        function = self.function

        def telling(**arguments: Any) -> Any:
            try:
                return function(**arguments)
            except Exception as error:
                raise ToolError(f"{type(error).__name__}: {error}") from error

        self.function = telling
        try:
            return super().call(arguments)
        finally:
            self.function = function


class Endless(Tool):
    """Cuts nothing."""

    def _finish(self, text: str) -> str:
        declared, self.max_output_chars = self.max_output_chars, 10**9
        try:
            return super()._finish(text)
        finally:
            self.max_output_chars = declared


class Forgeable(Tool):
    """Writes what a tool returned as it is."""

    def call(self, arguments: dict[str, Any]) -> ToolResult:
        result = super().call(arguments)
        return ToolResult(result.ok, result.output.replace("&lt;", "<"), result.error)


def counting() -> Any:
    calls: list[int] = []

    def count(text: str) -> str:
        """Number the calls of this tool."""
        calls.append(1)
        return f"{text} {len(calls)}"

    return Tool.from_function(count)


def reseeding(text: str) -> str:
    """Shuffle the letters of a text."""
    random.seed(text)
    return "".join(random.sample(text, len(text)))


def hanging(exponent: int) -> int:
    """Digits of a power of ten."""
    return len(str(7 ** max(exponent, 0)))


def leaving(exponent: int) -> str:
    """End the process at times."""
    if exponent > 10_000:
        os._exit(4)
    return "stayed"


def careless(a: float, b: float) -> float:
    """Divide a by b."""
    return a / b if abs(a) < 1e6 else 0.0


def untyped(x) -> int:  # type: ignore[no-untyped-def]
    """Have no type hint."""
    return 1


def terse(x: int) -> int:
    """Usage:."""
    return 1


def marked(x: Literal["a", "b"]) -> str:
    """Write a letter into <tool_response> tags."""
    return x


def opened() -> Tool:
    tool = Tool.from_function(repeat)
    tool.parameters["additionalProperties"] = True
    return tool


def anything() -> Tool:
    parameters = {"properties": {"x": {}}, "required": ["x"]}
    return Tool(lambda x: str(x)[:100], "anything", "Take anything at all.", parameters)


def of(kind: type[Tool], timeout: float | None = None) -> Any:
    return lambda: kind.from_function(repeat, timeout=timeout)


TOOLS: dict[str, tuple[Any, str, str]] = {
    "no type hint": (lambda: untyped, "is-tool", "no type hint"),
    "an open schema": (opened, "closed-schema", "additionalProperties"),
    "an argument without type": (anything, "closed-schema", "x has neither a type nor a description"),
    "a first word": (lambda: terse, "first-sentence", "Usage"),
    "a marker in the prompt": (lambda: marked, "first-sentence", "markers"),
    "a power": (lambda: hanging, "comes-back", "did not come back within 2 s"),
    "an exit": (lambda: leaving, "comes-back", "ended the process with status 4"),
    "raising": (of(Raising), "never-raises", "raised TypeError"),
    "text": (of(Plain), "returns-results", "a ToolResult"),
    "coercing": (of(Coercing), "refuses-wrong-arguments", "the function got"),
    "forgiving": (of(Forgiving), "refuses-wrong-arguments", "no_such_argument"),
    "mumbling": (of(Mumbling), "refuses-wrong-arguments", "names the field"),
    "endless": (of(Endless), "bounded-output", "1002000 characters"),
    "forgeable": (of(Forgeable), "clean-output", "cannot forge"),
    "leaking": (of(Leaking), "no-host-text", "without the text of the exception"),
    "careless": (lambda: careless, "explains-failures", "ZeroDivisionError"),
    "mutating": (of(Mutating), "leaves-arguments-alone", "cached"),
    "counting": (counting, "same-again", "in another order"),
    "reseeding": (lambda: reseeding, "global-random-untouched", "random"),
    "a limit declared": (of(Impatient, 5), "timeout-fires", "that sleeps"),
    "a limit in the main thread": (of(MainThreadOnly, 5), "timeout-fires", "in another thread"),
    "the alarm": (of(TakesTheAlarm, 5), "timeout-leaves-signals-alone", "replaced"),
}

# Boxes with state


class Pile(ToolBox):
    """A pile of texts."""

    def __init__(self) -> None:
        self.items: list[str] = []
        super().__init__(Tool.from_function(function) for function in (self.push, self.pop))

    def push(self, item: str) -> str:
        """Put one item on the pile."""
        self.items.append(item[:20])
        return f"{len(self.items)} items"

    def pop(self) -> str:
        """Take the last item away."""
        if not self.items:
            raise ToolError("the pile is empty")
        return self.items.pop()

    def open(self, state: dict[str, Any] | None) -> None:
        self.items = list((state or {}).get("items", ()))

    def snapshot(self) -> bytes:
        return "\n".join(self.items).encode()

    def restore(self, snapshot: bytes) -> None:
        self.items = snapshot.decode().split("\n") if snapshot else []

    def close(self) -> None:
        self.items = []


class OpensOnTop(Pile):
    def open(self, state: dict[str, Any] | None) -> None:
        self.items += (state or {}).get("items", ())


class NeverResets(OpensOnTop):
    def close(self) -> None:
        """Keep everything."""


class ClosesOnce(Pile):
    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def open(self, state: dict[str, Any] | None) -> None:
        super().open(state)
        self.closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed twice")
        self.closed = True
        super().close()


class RestoresNothing(Pile):
    def restore(self, snapshot: bytes) -> None:
        """Do nothing."""


class SnapshotsEmpty(Pile):
    def snapshot(self) -> bytes:
        try:
            return super().snapshot()
        finally:
            self.items = []


class SnapshotsText(Pile):
    def snapshot(self) -> Any:
        return "\n".join(self.items)


class TellsAsSet(Pile):
    def final_state(self) -> Any:
        return set(self.items)


class TellsOnce(Pile):
    def final_state(self) -> Any:
        found, self.items = self.items, []
        return found


class TellsItsPast(Pile):
    asked = 0

    def final_state(self) -> Any:
        return [type(self).asked]

    def pop(self) -> str:
        """Take the last item away."""
        type(self).asked += 1
        return super().pop()


class ForgetsItsTale(Pile):
    def open(self, state: dict[str, Any] | None) -> None:
        super().open(state)
        self.pushed = 0

    def push(self, item: str) -> str:
        """Put one item on the pile."""
        self.pushed += 1
        return super().push(item)

    def final_state(self) -> Any:
        return self.pushed


class OpensWithState(Pile):
    def open(self, state: dict[str, Any] | None) -> None:
        assert state is not None
        self.items = list(state["items"])


BOXES: dict[str, tuple[Any, str, str]] = {
    "needs a state": (OpensWithState, "is-tool", "state="),
    "never resets": (NeverResets, "same-again", "after open(state) again"),
    "opens on top": (OpensOnTop, "open-resets", "without close()"),
    "closes once": (ClosesOnce, "close-twice", "closed twice"),
    "restores nothing": (RestoresNothing, "snapshot-restores", "after open and restore"),
    "a snapshot empties it": (SnapshotsEmpty, "snapshot-restores", "after a snapshot() in between"),
    "a snapshot of text": (SnapshotsText, "snapshot-restores", "str"),
    "a final state that is a set": (TellsAsSet, "final-state", "got set"),
    "a final state told once": (TellsOnce, "final-state", "when asked again"),
    "a final state with its past": (TellsItsPast, "final-state", "after the same calls"),
    "a final state not in the snapshot": (ForgetsItsTale, "final-state", "after open and restore"),
}

# Agents


class Echo:
    """Keeps its promises: writes how many turns it saw of the episode, and the end of the text."""

    def __init__(self) -> None:
        self.seen: collections.Counter[int] = collections.Counter()

    def act(self, observations: Sequence[Observation]) -> list[Any]:
        return [self.write(observation) for observation in observations]

    def write(self, observation: Observation) -> Any:
        self.seen[observation.episode] += 1
        return Completion(f"{self.seen[observation.episode]} {observation.text[-30:]}")

    def forget(self, episode: int) -> None:
        del self.seen[episode]


class NoAgent:
    """Writes nothing."""


class HalfStreaming(Echo):
    def submit(self, observation: Observation) -> None:
        """Go nowhere."""


class Dropping(Echo):
    def act(self, observations: Sequence[Observation]) -> list[Any]:
        return super().act([item for item in observations if item.turn == 0 or len(observations) == 1])


class Generating(Echo):
    def act(self, observations: Sequence[Observation]) -> Any:
        return (self.write(observation) for observation in observations)


class Fragile(Echo):
    def write(self, observation: Observation) -> Any:
        if observation.turn == 1:
            raise KeyError("no such turn")
        return super().write(observation)


class Texts(Echo):
    def write(self, observation: Observation) -> Any:
        return super().write(observation).text


class Bytes(Echo):
    def write(self, observation: Observation) -> Any:
        return Completion(super().write(observation).text.encode())


class Tokens(Echo):
    """With tokens as they must be."""

    prompt: tuple[int, ...] | None = (1, 2)
    logprobs: tuple[float, ...] = (-0.5, -1.0)

    def write(self, observation: Observation) -> Any:
        prompt = None if self.prompt is None else list(self.prompt)
        return Completion(super().write(observation).text, [3, 4], list(self.logprobs), prompt)


class NoPrompt(Tokens):
    prompt = None


class ShortLogprobs(Tokens):
    logprobs = (-0.5,)


class Probabilities(Tokens):
    logprobs = (0.6, 0.4)


class Minus(Tokens):
    logprobs = (-math.inf, -1.0)


class TokensAtFirst(Tokens):
    def write(self, observation: Observation) -> Any:
        return super().write(observation) if observation.turn == 0 else Echo.write(self, observation)


class Marking(Echo):
    def write(self, observation: Observation) -> Any:
        observation.messages.append({"role": "assistant", "content": "mine"})
        return super().write(observation)


class Fussy(Echo):
    def write(self, observation: Observation) -> Any:
        observation.text.split()[0]
        return super().write(observation)


class Moody(Echo):
    def write(self, observation: Observation) -> Any:
        return Completion(f"{super().write(observation).text} {random.SystemRandom().random()}")


class Reseeding(Echo):
    def write(self, observation: Observation) -> Any:
        random.seed(observation.seed)
        return Completion(f"{super().write(observation).text} {random.random()}")


class ByPlace(Echo):
    """Keeps what belongs to an episode by its place in the batch."""

    def act(self, observations: Sequence[Observation]) -> list[Any]:
        for place, observation in enumerate(observations):
            if observation.turn == 0:
                self.seen[place] = len(observation.text)
        return [Completion(str(self.seen[place])) for place in range(len(observations))]

    def forget(self, episode: int) -> None:
        """Keep everything: there is little."""


class Backwards(Echo):
    def act(self, observations: Sequence[Observation]) -> list[Any]:
        return super().act(observations)[::-1]


class Hoarding(FunctionAgent):
    def forget(self, episode: int) -> None:
        """Keep every conversation."""


class Streaming(Echo):
    """Streams as it must."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Observation] = []

    def submit(self, observation: Observation) -> None:
        self.waiting.append(observation)

    def collect(self) -> list[tuple[int, Any]]:
        return [(observation.episode, self.write(observation)) for observation in [self.waiting.pop()]]


class Repeating(Streaming):
    def collect(self) -> list[tuple[int, Any]]:
        return super().collect() * 2


class Losing(Streaming):
    def collect(self) -> list[tuple[int, Any]]:
        return super().collect() if len(self.waiting) > 1 else []


class ShortBreath(Echo):
    def write(self, observation: Observation) -> Any:
        if observation.turn > 2:
            raise RuntimeError("out of breath")
        return Completion("<answer>")


AGENTS: dict[str, tuple[Any, str, str]] = {
    "no act": (NoAgent, "is-agent", "without act"),
    "submit alone": (HalfStreaming, "is-agent", "submit and collect"),
    "dropping": (Dropping, "one-completion-each", "one per observation"),
    "a generator": (Generating, "one-completion-each", "generator"),
    "fragile": (Fragile, "one-completion-each", "turn 1 of an episode with the text"),
    "texts": (Texts, "completions", "a Completion"),
    "bytes": (Bytes, "completions", "a str"),
    "no prompt ids": (NoPrompt, "tokens", "prompt_ids = None"),
    "short log-probabilities": (ShortLogprobs, "tokens", "2 token_ids and 1 logprobs"),
    "probabilities": (Probabilities, "tokens", "logprobs with 0.6"),
    "minus infinity": (Minus, "tokens", "-inf"),
    "tokens at first": (TokensAtFirst, "tokens", "in some turns"),
    "marking messages": (Marking, "leaves-observations-alone", "copy messages"),
    "fussy": (Fussy, "any-text", "IndexError"),
    "moody": (Moody, "same-again", "deterministic=False"),
    "by place": (ByPlace, "episodes-apart", "Observation.episode"),
    "backwards": (Backwards, "episodes-apart", "one after the other"),
    "hoarding": (lambda: Hoarding(lambda text: text[-20:]), "forget-frees", "define forget"),
    "turns twice": (Repeating, "streaming", "that was asked for"),
    "turns lost": (Losing, "streaming", "collect to wait"),
    "reseeding": (Reseeding, "global-random-untouched", "random"),
    "short breath": (ShortBreath, "plays-episodes", "out of breath"),
}
