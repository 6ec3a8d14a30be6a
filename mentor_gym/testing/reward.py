"""The audit of a reward: what it may read, what it may pay, and what must never pay.

Rewards are tried on drawn transcripts (`mentor_gym.testing.transcripts`) and on episodes of a suite that are
really played: by its teachers, and by policies that do nothing, spam calls, or repeat what they read.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from mentor_gym.env import MAX_CALLS_PER_TURN, MentorToolEnv
from mentor_gym.protocol import render_call
from mentor_gym.rewards import make_reward
from mentor_gym.rewards.matching import teacher_calls
from mentor_gym.suites import load_suite
from mentor_gym.testing._arguments import ArgumentSampler, shorten
from mentor_gym.testing._randomness import watched_generators
from mentor_gym.testing.base import CheckList, Examination, NotApplicable, Report, conclude, fail
from mentor_gym.testing.transcripts import (
    MAX_TURNS,
    describe_transcript,
    fuzz_transcripts,
    play_turns,
    reword,
    teacher_turns,
    wrong_answer,
)
from mentor_gym.types import StopReason, Task, ToolResult, Transcript, Turn
from mentor_gym.wrappers import RewardWrapper

CHECKS = CheckList()

# Sums of a few terms, in any order.
_TOLERANCE = 1e-9
_SOME = 1_000
_FEW = 300
_COPIES = 50
_TASKS_PER_SPLIT = 12
_NOISE = "zq 8731 ~ 東京"
_NO_ANSWERS = {"writes nothing": "", "gives up": "I do not know.", "gives an empty answer": "<answer> </answer>"}
_CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time")
_CLOCK_SHIFT = 10**8


@dataclass(frozen=True)
class Game:
    """A task whose teacher uses tools and succeeds, with the teacher's episode.

    Attributes:
        split: Its split.
        task: The task.
        turns: What the teacher writes.
        transcript: What the environment recorded.
    """

    split: str
    task: Task
    turns: list[str]
    transcript: Transcript


@dataclass
class RewardSubject:
    """What the checks of rewards get.

    Attributes:
        reward: The reward.
        suite: Whose tasks are played, as for `MentorToolEnv`.
        count: How many transcripts are drawn.
        per_split: How many tasks of every split are played.
        seed: Of all draws.
        unused: A copy of the reward that is never called; None when it cannot be copied.
    """

    reward: Any
    suite: str = "math"
    count: int = 10_000
    per_split: int = 4
    seed: int = 0
    unused: Any = None

    @cached_property
    def tasks(self) -> dict[str, list[Task]]:
        """Tasks of every split, evenly spaced; copies, because a faulty reward may spoil them."""
        suite = load_suite(self.suite)
        found = {}
        for split in suite.splits:
            tasks = suite.tasks(split)
            places = sorted({number * len(tasks) // _TASKS_PER_SPLIT for number in range(_TASKS_PER_SPLIT)})
            found[split] = [copy.deepcopy(tasks[place]) for place in places]
        return found

    def draw(self, count: int, series: int) -> list[Transcript]:
        """Draw transcripts; every check has a series of its own, which no other has shown to the reward."""
        tasks = [task for tasks in self.tasks.values() for task in tasks]
        drawn = fuzz_transcripts(tasks, min(count, self.count), 1_000 * self.seed + series)
        box = load_suite(self.suite).box
        for transcript in drawn:
            transcript.tools = box.tool_facts(transcript.task.tools)
        return drawn

    @cached_property
    def drawn(self) -> list[Transcript]:
        """The transcripts on which the terms, their names and their bounds are looked at."""
        return self.draw(self.count, 0)

    @cached_property
    def paid(self) -> list[Any]:
        """What the reward returned for each of `drawn`, or the exception that it raised."""
        return [self._try(transcript) for transcript in self.drawn]

    def _try(self, transcript: Transcript) -> Any:
        try:
            terms = self.reward(transcript)
        except Exception as error:
            return error
        return dict(terms) if isinstance(terms, dict) else terms

    def total(self, transcript: Transcript) -> float:
        """Return the sum of the terms."""
        return math.fsum(self.reward(transcript).values())

    def env(self, split: str, max_turns: int | None = None) -> MentorToolEnv:
        """Make a bare environment in which no teacher is cut off."""
        longest = max(len(teacher_turns(task)) for task in self.tasks[split])
        return MentorToolEnv(self.suite, split, max_turns=max_turns or max(MAX_TURNS, longest))

    @cached_property
    def games(self) -> list[Game]:
        """The tasks that are played.

        Raises:
            NotApplicable: There are none.
        """
        found = []
        for split, tasks in self.tasks.items():
            env = self.env(split)
            able = []
            for task in tasks:
                turns = teacher_turns(task)
                if teacher_calls(task) and (transcript := play_turns(env, task.id, turns)).is_success:
                    transcript.task = task
                    able.append(Game(split, task, turns, transcript))
            places = sorted({number * len(able) // self.per_split for number in range(self.per_split)})
            found += [able[place] for place in places if able]
        if not found:
            raise NotApplicable(f"no teacher of suite {self.suite!r} uses tools and succeeds: check the suite")
        return found

    def expect_less(self, play: Callable[[Game, MentorToolEnv], Iterator[tuple[str, Transcript]]]) -> None:
        """Check that policies earn less than the teacher, wherever they do not happen to give a right answer.

        Args:
            play: Plays a task, yielding what each policy does with its transcript.
        """
        for game in self.games:
            best = self.total(game.transcript)
            for policy, transcript in play(game, self.env(game.split)):
                total = self.total(transcript)
                if not transcript.is_success and total >= best - _TOLERANCE:
                    fail(
                        f"less than the teacher's {best:g} for a policy that {policy}",
                        f"{total:g}: {_terms(self.reward(transcript))}, for {describe_transcript(transcript)}",
                        "pay most for a right answer, and nothing for what can be had without one",
                    )


@CHECKS.add("is-reward")
def is_reward(subject: RewardSubject) -> None:
    """A reward is a function of a transcript with the attribute `maximum`, a finite number."""
    reward = subject.reward
    if not callable(reward):
        fail("something to call with a transcript", type(reward).__name__, "define __call__(self, transcript)")
    maximum, minimum = getattr(reward, "maximum", None), getattr(reward, "minimum", None)
    if not _is_number(maximum):
        fail("the attribute maximum, a finite number", repr(maximum), "say what an episode can earn at most")
    if minimum is not None and not (_is_number(minimum) and minimum <= maximum):
        fail(f"minimum to be a number up to maximum = {maximum:g}", repr(minimum), "correct it, or leave it out")
    promise = getattr(reward, "right_beats_wrong", False)
    if not isinstance(promise, bool):
        fail("right_beats_wrong to be True or False", repr(promise), "compute it from the weights")


@CHECKS.add("named-terms", needs=("is-reward",))
def named_terms(subject: RewardSubject) -> None:
    """Every finished transcript is paid in terms, a dict from the same names to numbers."""
    _expect_terms(subject, finished=True)


@CHECKS.add("unfinished-too", needs=("named-terms",))
def unfinished_too(subject: RewardSubject) -> None:
    """An unfinished transcript, the empty one too, is paid in the same terms."""
    _expect_terms(subject, finished=False)


@CHECKS.add("finite", needs=("unfinished-too",))
def finite(subject: RewardSubject) -> None:
    """Every term, and their sum, is a finite number."""
    for transcript, terms in zip(subject.drawn, subject.paid):
        if not all(map(math.isfinite, terms.values())) or not math.isfinite(sum(terms.values())):
            fail(
                "finite terms",
                f"{_terms(terms)} for {describe_transcript(transcript)}",
                "look for a division by a count that can be 0, and for an overflow",
            )


@CHECKS.add("leaves-transcript-alone", needs=("finite",))
def leaves_transcript_alone(subject: RewardSubject) -> None:
    """The transcript, its task included, is not changed."""
    for transcript in subject.draw(_SOME, 1):
        before, described = repr(transcript), describe_transcript(transcript)
        subject.reward(transcript)
        after = repr(transcript)
        if after != before:
            at = next((i for i, (one, other) in enumerate(zip(before, after)) if one != other), 0)
            place = slice(max(0, at - 20), at + 40)
            fail(
                f"the transcript as it was ({described})",
                f"{shorten(after[place])} where there was {shorten(before[place])}",
                "copy what you sort, pop or extend: the environment plays on with the same transcript",
            )


@CHECKS.add("same-again", needs=("leaves-transcript-alone",))
def same_again(subject: RewardSubject) -> None:
    """The terms depend on the transcript alone: they are the same in any order, and for a copy."""
    drawn = subject.draw(_SOME, 2)
    first = []
    for transcript in drawn:
        terms = subject.reward(transcript)
        first.append(dict(terms))
        terms.clear()  # what a caller does with it
    few = list(zip(drawn[:_FEW], first))
    again = [(subject.reward, item, before, "in another order") for item, before in zip(drawn[::-1], first[::-1])]
    # Equal, but at other addresses.
    again += [(subject.reward, copy.deepcopy(item), before, "for an equal copy") for item, before in few]
    if subject.unused is not None:
        when = "from a copy of the reward that has seen nothing"
        again += [(copy.deepcopy(subject.unused), item, before, when) for item, before in few[:_COPIES]]
    for reward, transcript, before, when in again:
        terms = reward(transcript)
        if terms != before:
            fail(
                "the same terms again",
                f"{_terms(before)}, then {_terms(terms)} {when}, for {describe_transcript(transcript)}",
                "compute them from the transcript alone, into a new dict: no counter, no cache by id or by task, "
                "no random numbers",
            )


@CHECKS.add("global-random-untouched", needs=("same-again",))
def global_random_untouched(subject: RewardSubject) -> None:
    """No global generator of `random`, NumPy or torch is touched."""
    drawn = subject.draw(_FEW, 3)
    with watched_generators() as touched:
        for transcript in drawn:
            subject.reward(transcript)
    if touched:
        fail("the global generators as they were", f"another state of {', '.join(touched)}", "draw nothing")


@CHECKS.add("reads-no-clock", needs=("same-again",))
def reads_no_clock(subject: RewardSubject) -> None:
    """The terms do not depend on the clock of the module `time`."""
    drawn = subject.draw(_FEW, 4)
    before = [dict(subject.reward(transcript)) for transcript in drawn]
    with _shifted_clocks():
        after = [dict(subject.reward(transcript)) for transcript in drawn]
    _expect_equal(drawn, before, after, "with every clock put forward", "pay for turns or calls, not for seconds")


@CHECKS.add("blind-to-tool-output", needs=("same-again",))
def blind_to_tool_output(subject: RewardSubject) -> None:
    """What tools return does not count: the terms stay the same with other outputs, the right answer too."""
    drawn = subject.draw(_SOME, 5) + [game.transcript for game in _games_if_any(subject)]
    before = [dict(subject.reward(transcript)) for transcript in drawn]
    for what in ("the right answer", "noise", "nothing"):
        after = [dict(subject.reward(_with_outputs(transcript, what))) for transcript in drawn]
        _expect_equal(
            drawn,
            before,
            after,
            f"with {what} as the output of every tool",
            "read which calls were made and whether they succeeded (result.ok, result.error), never their output: "
            "a policy can have a tool print the answer",
        )


@CHECKS.add("blind-to-prompt", needs=("same-again",))
def blind_to_prompt(subject: RewardSubject) -> None:
    """What the user wrote does not count: the terms stay the same with another prompt, the right answer too."""
    drawn = subject.draw(_SOME, 6)
    before = [dict(subject.reward(transcript)) for transcript in drawn]
    for what in ("the right answer", "noise", "nothing"):
        after = []
        for transcript in drawn:
            task = msgspec.structs.replace(transcript.task, prompt=_text(transcript, what))
            after.append(dict(subject.reward(_replace(transcript, task=task))))
        _expect_equal(drawn, before, after, f"with {what} as the prompt", "do not read transcript.task.prompt")


@CHECKS.add("reads-verdict", needs=("same-again",))
def reads_verdict(subject: RewardSubject) -> None:
    """A right answer in other characters pays the same: the verdict counts, not a comparison of texts."""
    for transcript in subject.draw(_SOME, 7):
        answer = transcript.answer
        if answer is None or not transcript.is_success or (other := reword(answer, transcript.task)) is None:
            continue
        last = transcript.turns[-1]
        before, _, after = last.text.rpartition(answer)
        action = msgspec.structs.replace(last.action, answer=other)
        turns = [*transcript.turns[:-1], Turn(f"{before}{other}{after}", action, last.results, last.observation)]
        _expect_equal(
            [transcript],
            [subject.reward(transcript)],
            [subject.reward(_replace(transcript, turns=turns, answer=other))],
            f"with {other!r}, which is right too, as the answer",
            "use transcript.is_success, which knows number formats, aliases and sets",
        )


@CHECKS.add("within-bounds", needs=("reads-no-clock", "blind-to-tool-output", "blind-to-prompt", "reads-verdict"))
def within_bounds(subject: RewardSubject) -> None:
    """No episode is paid more than `maximum`, or less than `minimum` where the reward has one."""
    maximum, minimum = subject.reward.maximum, getattr(subject.reward, "minimum", None)
    for transcript, terms in zip(subject.drawn, subject.paid):
        if transcript.stop_reason is None:
            # What was paid on the way may be taken back: shaping does so at every end.
            continue
        total = math.fsum(terms.values())
        if total > maximum + _TOLERANCE:
            fail(
                f"at most maximum = {maximum:g}",
                f"{total:g}: {_terms(terms)}, for {describe_transcript(transcript)}",
                "bound the terms, or correct maximum",
            )
        if minimum is not None and total < minimum - _TOLERANCE:
            fail(
                f"at least minimum = {minimum:g}",
                f"{total:g}: {_terms(terms)}, for {describe_transcript(transcript)}",
                "bound the terms, or correct minimum",
            )


@CHECKS.add("dense-equals-terminal", needs=("reads-no-clock",))
def dense_equals_terminal(subject: RewardSubject) -> None:
    """Through `RewardWrapper`, an episode has the same return whether it is paid turn by turn or at its end."""
    for game in subject.games:
        bare = subject.env(game.split)
        for policy, turns in (("replays the teacher", game.turns), *_parrots(game, bare), *_spammers(game, bare)):
            returns = {}
            for dense in (False, True):
                env = RewardWrapper(subject.env(game.split), subject.reward, dense)
                returns[dense], info = _play_paid(env, game.task.id, turns)
                if "reward_error" in info:
                    fail("a reward for every turn", info["reward_error"], "make the reward total")
                paid = math.fsum(info["reward_terms"].values())
                if abs(returns[dense] - paid) > _TOLERANCE:
                    fail(
                        f"a return of {paid:g}, the sum of info['reward_terms'], with dense={dense}",
                        f"{returns[dense]:g} for a policy that {policy} on task {game.task.id}",
                        "return a new dict at every call",
                    )
            if abs(returns[True] - returns[False]) > _TOLERANCE:
                fail(
                    "the same return with dense=True and dense=False",
                    f"{returns[True]:g} and {returns[False]:g} for a policy that {policy} on task {game.task.id}",
                    "compute the terms from the transcript alone",
                )


@CHECKS.add("idle-earns-less", needs=("within-bounds",))
def idle_earns_less(subject: RewardSubject) -> None:
    """A policy that does nothing, or lets itself be cut off, earns less than the teacher."""
    subject.expect_less(_idlers)


@CHECKS.add("spam-earns-less", needs=("idle-earns-less",))
def spam_earns_less(subject: RewardSubject) -> None:
    """Calling every tool, one tool or unknown tools as often as possible earns less than the teacher."""
    subject.expect_less(_played(_spammers))


@CHECKS.add("parrot-earns-less", needs=("spam-earns-less",))
def parrot_earns_less(subject: RewardSubject) -> None:
    """Repeating the prompt, a tool's output or the teacher's calls earns less than the teacher, unless right."""
    subject.expect_less(_played(_parrots))


@CHECKS.add("cut-off-earns-no-more", needs=("idle-earns-less",))
def cut_off_earns_no_more(subject: RewardSubject) -> None:
    """An episode that is cut off earns no more than the same one finished with a right answer."""
    for game in subject.games:
        best = subject.total(game.transcript)
        for transcript in _cut_off(subject, game):
            total = subject.total(transcript)
            if total > best + _TOLERANCE:
                fail(
                    f"at most the teacher's {best:g} for a beginning of its episode",
                    f"{total:g}: {_terms(subject.reward(transcript))}, for {describe_transcript(transcript)}",
                    "pay nothing for being cut off",
                )


@CHECKS.add("right-beats-wrong", needs=("parrot-earns-less",))
def right_beats_wrong(subject: RewardSubject) -> None:
    """Where `right_beats_wrong` is True: a wrong answer with perfect tools earns less than any right answer."""
    if not getattr(subject.reward, "right_beats_wrong", False):
        raise NotApplicable("the reward does not say right_beats_wrong = True")
    finished = [
        (math.fsum(terms.values()), transcript)
        for transcript, terms in zip(subject.drawn, subject.paid)
        if transcript.stop_reason is not None and teacher_calls(transcript.task)
    ]
    for game in subject.games:
        env = subject.env(game.split)
        for turns in (game.turns, game.turns[-1:], *(turns for _, turns in _parrots(game, env))):
            transcript = play_turns(env, game.task.id, turns)
            finished.append((subject.total(transcript), transcript))
    right = [item for item in finished if item[1].is_success]
    wrong = [item for item in finished if not item[1].is_success]
    least, worst = min(right, key=lambda item: item[0])
    most, best = max(wrong, key=lambda item: item[0])
    if most >= least:
        fail(
            "every right answer to earn more than every episode without one, as right_beats_wrong says",
            f"{least:g} for {describe_transcript(worst)}, and {most:g} for {describe_transcript(best)}",
            "give the outcome more weight than all else together, or set right_beats_wrong = False",
        )


@CHECKS.add("teacher-earns-maximum", needs=("parrot-earns-less",))
def teacher_earns_maximum(subject: RewardSubject) -> None:
    """The teacher's episode earns the maximum; or, where calls cost, the teacher's answer given at once does."""
    maximum = subject.reward.maximum
    for game in subject.games:
        at_once = play_turns(subject.env(game.split), game.task.id, game.turns[-1:])
        best = max(subject.total(game.transcript), subject.total(at_once))
        if best < maximum - _TOLERANCE:
            fail(
                f"maximum = {maximum:g} for the teacher's episode",
                f"{best:g}: {_terms(subject.reward(game.transcript))}, for {describe_transcript(game.transcript)}",
                "correct maximum, or look why the teacher is not paid in full",
            )


def examine_reward(
    target: Any, *, suite: str = "math", count: int = 10_000, per_split: int = 4, seed: int = 0
) -> Examination:
    """Prepare the checks of a reward.

    Args:
        target: A preset's name, a mapping `{"name": …, **arguments}`, `module:attribute` (a class, called without
            arguments, or an instance), a class or a `Reward`.
        suite: Whose tasks are played: a suite's name, or the path of its `suite.yaml`.
        count: How many transcripts are drawn.
        per_split: How many tasks of every split are played.
        seed: Of all draws.

    Raises:
        ValueError: Nothing of that name, or a number that is not positive.

    >>> examine_reward("sparse", count=100).result("blind-to-tool-output").outcome
    <Outcome.PASSED: 'passed'>
    """
    if count < 1 or per_split < 1:
        raise ValueError(f"count and per_split must be at least 1, got {count!r} and {per_split!r}")
    load_suite(suite)  # a wrong name is reported here, not by a check
    if isinstance(target, str):
        name = target
    else:
        name = shorten(target) if isinstance(target, dict) else getattr(target, "__name__", type(target).__name__)
    reward, unused = _load(target), None
    with contextlib.suppress(Exception):
        unused = copy.deepcopy(reward)
    return Examination("reward", name, CHECKS, RewardSubject(reward, suite, count, per_split, seed, unused))


def check_reward(target: Any, *, raise_on_failure: bool = True, **options: Any) -> Report:
    """Check that a reward keeps its promises, and cannot be had without a right answer.

    Args:
        target: As for `examine_reward`, and so are the options.
        raise_on_failure: Raise when a check failed; else the report says so.
        **options: `suite`, `count`, `per_split`, `seed`.

    Raises:
        ConformanceError: A check failed.
        ValueError: Nothing of that name, or a number that is not positive.

    >>> check_reward("mentor", count=500, per_split=1).failed
    []
    """
    return conclude(examine_reward(target, **options), raise_on_failure)


def _load(target: Any) -> Any:
    if isinstance(target, str) and ":" in target:
        module_name, _, attribute = target.partition(":")
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # a user's module beside where the command is run
        try:
            target = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"cannot load the reward {target!r}: {error}") from error
    elif isinstance(target, str | dict):
        return make_reward(target)
    return target() if isinstance(target, type) else target


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _terms(terms: Any) -> str:
    if not isinstance(terms, dict):
        return shorten(terms)
    return " + ".join(f"{name} {value:g}" for name, value in terms.items() if value != 0) or "every term 0"


def _expect_terms(subject: RewardSubject, finished: bool) -> None:
    names: set[str] | None = None
    for transcript, terms in zip(subject.drawn, subject.paid):
        if names is None and isinstance(terms, dict) and transcript.stop_reason is not None:
            names = set(terms)
    for transcript, terms in zip(subject.drawn, subject.paid):
        if (transcript.stop_reason is not None) is not finished:
            continue
        described = describe_transcript(transcript)
        if isinstance(terms, Exception):
            fail(
                "terms for every transcript",
                f"{type(terms).__name__}: {shorten(str(terms))} for {described}",
                "make the reward total: transcripts have any number of turns, calls and failures",
            )
        if not isinstance(terms, dict) or not terms:
            fail("a dict of named terms", f"{shorten(terms)} for {described}", 'return {"outcome": …}')
        for name, value in terms.items():
            if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int | float):
                fail(
                    "terms from names to floats",
                    f"{name!r}: {shorten(value)} ({type(value).__name__}) for {described}",
                    "write float(value)",
                )
        if set(terms) != names:
            fail(
                f"the same names for every transcript, {sorted(names or ())}",
                f"{sorted(terms)} for {described}",
                "return every term always, with the value 0.0 where it does not apply",
            )


def _expect_equal(
    drawn: Sequence[Transcript],
    before: Sequence[dict[str, float]],
    after: Sequence[dict[str, float]],
    change: str,
    fix: str,
) -> None:
    for transcript, one, other in zip(drawn, before, after):
        if one != other:
            described = describe_transcript(transcript)
            fail("the same terms", f"{_terms(one)}, but {_terms(other)} {change}, for {described}", fix)


def _games_if_any(subject: RewardSubject) -> list[Game]:
    try:
        return subject.games
    except NotApplicable:
        return []


def _replace(transcript: Transcript, **changes: Any) -> Transcript:
    fields = {name: getattr(transcript, name) for name in Transcript.__dataclass_fields__}
    return Transcript(**{**fields, **changes})


def _text(transcript: Transcript, what: str) -> str:
    return {"the right answer": transcript.task.answer, "noise": _NOISE, "nothing": ""}[what]


def _with_outputs(transcript: Transcript, what: str) -> Transcript:
    text = _text(transcript, what)
    turns = [
        Turn(turn.text, turn.action, tuple(ToolResult(item.ok, text, item.error) for item in turn.results), text)
        for turn in transcript.turns
    ]
    return _replace(transcript, turns=turns)


@contextlib.contextmanager
def _shifted_clocks() -> Iterator[None]:
    clocks = {name: getattr(time, name) for name in _CLOCKS}
    try:
        for name, clock in clocks.items():
            shift = _CLOCK_SHIFT * (10**9 if name.endswith("_ns") else 1)
            setattr(time, name, lambda clock=clock, shift=shift: clock() + shift)
        yield
    finally:
        for name, clock in clocks.items():
            setattr(time, name, clock)


def _play_paid(env: RewardWrapper, task_id: str, turns: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """Play turns, then nothing, to the end; returns the sum of the rewards and the last info."""
    env.reset(options={"task_id": task_id})
    total = 0.0
    for turn in (*turns, ""):
        _, reward, terminated, truncated, info = env.step(turn)
        total += reward
        if terminated or truncated or "reward_error" in info:
            break
    return total, info


def _sampled_calls(game: Game, env: MentorToolEnv) -> list[str]:
    """Return calls of every offered tool, with arguments drawn from its schema."""
    play_turns(env, game.task.id, [])
    calls = []
    for name, tool in env.tools.items():
        sampler = ArgumentSampler(tool.parameters)
        calls += [render_call(name, arguments) for _ in range(2) if (arguments := sampler.ordinary()) is not None]
    random.Random(f"calls/{game.task.id}").shuffle(calls)
    return calls


def _idlers(game: Game, env: MentorToolEnv) -> Iterator[tuple[str, Transcript]]:
    for policy, text in _NO_ANSWERS.items():
        yield policy, play_turns(env, game.task.id, [text])
    for policy, mark in (("is cut off at once", env.mark_cut_off), ("crashes at once", env.mark_crashed)):
        play_turns(env, game.task.id, [])
        mark()
        env.step("well, " * 100)
        yield policy, env.transcript


def _played(
    policies: Callable[[Game, MentorToolEnv], Iterator[tuple[str, list[str]]]],
) -> Callable[[Game, MentorToolEnv], Iterator[tuple[str, Transcript]]]:
    def play(game: Game, env: MentorToolEnv) -> Iterator[tuple[str, Transcript]]:
        for policy, turns in policies(game, env):
            yield policy, play_turns(env, game.task.id, turns)

    return play


def _spammers(game: Game, env: MentorToolEnv) -> Iterator[tuple[str, list[str]]]:
    """Yield policies that make calls for the sake of calls."""
    calls = _sampled_calls(game, env)
    limit, first = env.max_turns, teacher_calls(game.task)[0]
    wrong = wrong_answer(game.task)
    ending = [] if wrong is None else [f"<answer>{wrong}</answer>"]
    if calls:
        every = (calls * MAX_CALLS_PER_TURN)[:MAX_CALLS_PER_TURN]
        yield "calls every tool until the limit", ["".join(every)] * limit
        yield "calls every tool and guesses", ["".join(calls[i : i + 8]) for i in range(0, len(calls), 8)] + ending
    yield "calls one tool until the limit", [render_call(*first) * MAX_CALLS_PER_TURN] * limit
    yield "calls one tool and guesses", [render_call(*first) * MAX_CALLS_PER_TURN, *ending]
    unknown = "".join(render_call(f"no_such_tool_{i}", {"a": i}) for i in range(MAX_CALLS_PER_TURN))
    yield "calls unknown tools until the limit", [unknown] * limit
    yield "calls unknown tools and guesses", [unknown, *ending]


def _parrots(game: Game, env: MentorToolEnv) -> Iterator[tuple[str, list[str]]]:
    """Yield policies that repeat what they read; one whose answer happens to be right is no parrot."""
    yield "repeats the prompt as its answer", [f"<answer>{_plain(game.task.prompt)}</answer>"]
    for call in _sampled_calls(game, env)[:2]:
        transcript = play_turns(env, game.task.id, [call])
        output = transcript.turns[-1].results[0].output
        yield "repeats a tool's output as its answer", [call, f"<answer>{_plain(output)}</answer>"]
    wrong = wrong_answer(game.task)
    if wrong is not None:
        yield "repeats the teacher's calls and guesses", [*game.turns[:-1], f"<answer>{wrong}</answer>"]
    yield "repeats the teacher's calls and stops", [*game.turns[:-1], ""]


def _plain(text: str) -> str:
    return text.replace("<", " ")


def _cut_off(subject: RewardSubject, game: Game) -> Iterator[Transcript]:
    """Play every beginning of the teacher's episode and have it cut off, for every reason."""
    env = subject.env(game.split)
    for length in range(len(game.turns)):
        for mark in (env.mark_cut_off, env.mark_crashed):
            play_turns(env, game.task.id, game.turns[:length])
            mark()
            env.step(game.turns[length])
            yield env.transcript
        if length:
            short = subject.env(game.split, max_turns=length)
            transcript = play_turns(short, game.task.id, game.turns[:length])
            if transcript.stop_reason is StopReason.TURN_LIMIT:
                yield transcript
