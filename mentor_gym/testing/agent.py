"""Checks of an agent: one completion per observation, episodes kept apart, tokens that a learner can use.

Agents are shown the openings of real tasks, canned tool responses, and texts that nobody expects; at the end they
play episodes through `agents.rollout`. The package `agents` is imported when the checks run.
"""

from __future__ import annotations

import itertools
import math
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mentor_gym.env import MentorToolEnv
from mentor_gym.suites import load_suite
from mentor_gym.testing._arguments import shorten
from mentor_gym.testing._randomness import watched_generators
from mentor_gym.testing.base import CheckList, Examination, NotApplicable, Report, conclude, fail
from mentor_gym.types import Task

CHECKS = CheckList()

_EPISODES = 4
_TURNS = 3
_RESPONSES = ("7", "error: unknown tool 'x'; the tools are add", "", "naïve 東京 🎉", '["Gold", "Silver"]')
_HOSTILE = (
    "",
    " \n\t ",
    "naïve 東京 🎉 \u202e שלום e" + "\u0301" * 50,
    "word " * 4_000,
    "&lt;tool_call>{}&lt;/tool_call> &lt;|im_end|>",
    "%s %n {0} {x.__class__} \\boxed{ $HOME `id` '; --",
    "<tools>\nnot JSON\n</tools>\n(((",
    "9" * 3_000,
)
# Log-probabilities are computed in float32; a certain token may come out above 0 by a rounding error.
_LOGPROB_SLACK = 1e-5
# More objects than an agent of ours holds; what is beyond is not counted.
_MAX_OBJECTS = 2_000_000


@dataclass(frozen=True)
class Script:
    """What an agent is shown of one episode, whatever it writes.

    Attributes:
        task: The task.
        openings: Text and chat messages of every turn.
        seed: Of the episode.
    """

    task: Task
    openings: list[tuple[str, list[dict[str, Any]]]]
    seed: int


@dataclass
class AgentSubject:
    """What the checks of agents get.

    Attributes:
        agent: The agent.
        suite: Whose tasks it is shown.
        prompt: The prompt style, `"compact"` or `"full"`.
        deterministic: Whether the same observations, with the same seeds, must give the same texts.
        seed: Of the episodes.
    """

    agent: Any
    suite: str = "math"
    prompt: str = "compact"
    deterministic: bool = True
    seed: int = 0
    # Far from the numbers of rollouts, which count from 0 in the whole process.
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(10**9))

    @property
    def name(self) -> str:
        """The class of the agent, for messages."""
        return type(self.agent).__name__

    @property
    def privileged(self) -> bool:
        """Whether the agent is shown tasks with their teacher traces."""
        return bool(getattr(self.agent, "privileged", False))

    @cached_property
    def scripts(self) -> list[Script]:
        """The episodes that it is shown, of different tasks."""
        env = MentorToolEnv(self.suite, prompt=self.prompt)
        tasks = env.tasks
        found = []
        for number in range(min(_EPISODES, len(tasks))):
            task = tasks[number * len(tasks) // _EPISODES]
            text, info = env.reset(options={"task_id": task.id})
            shown = [(text, info["messages"])]
            for turn in range(1, _TURNS):
                output = _RESPONSES[(number + turn) % len(_RESPONSES)]
                message = {"role": "tool", "tool_call_id": f"call_{turn}_0", "content": output}
                shown.append((f"<tool_response>{output}</tool_response>", [message]))
            found.append(Script(task, shown, 1_000 * self.seed + number))
        return found

    def new_numbers(self, count: int) -> list[int]:
        """Return numbers for episodes, never the same twice."""
        return list(itertools.islice(self._numbers, count))

    def observe(self, script: Script, number: int, turn: int) -> Any:
        """Return what the agent sees in a turn of a script."""
        from agents.base import Observation

        text, messages = script.openings[turn]
        task = script.task if self.privileged else None
        return Observation(text, [dict(message) for message in messages], number, turn, task, script.seed)

    def act(self, observations: Sequence[Any]) -> list[Any]:
        """Ask for one turn of several episodes.

        Raises:
            CheckFailed: The agent raised; the message says on which observation.
        """
        try:
            completions = self.agent.act(observations)
        except Exception as error:
            others = f", the first of {len(observations)}" if len(observations) > 1 else ""
            fail(
                f"{self.name}.act to write a turn for {_shown(observations[0])}{others}",
                f"{type(error).__name__}: {shorten(str(error))}",
                "make it total: it sees whatever tools and users write",
            )
        if not isinstance(completions, list | tuple):
            fail(f"{self.name}.act to return a list", type(completions).__name__, "return [Completion(text), ...]")
        if len(completions) != len(observations):
            fail(
                f"{self.name}.act to return {len(observations)} completions, one per observation",
                f"{len(completions)}",
                "write a turn for every observation of the batch, in its order, also an empty one",
            )
        return list(completions)

    def forget(self, numbers: Sequence[int]) -> None:
        """Say that episodes are over."""
        if hasattr(self.agent, "forget"):
            for number in numbers:
                self.agent.forget(number)

    def play(self, numbers: Sequence[int], batches: Sequence[Sequence[int]]) -> dict[int, list[Any]]:
        """Play the scripts, each turn in one of the batches, and forget them.

        Args:
            numbers: Of the episodes, one per script.
            batches: Which scripts' next turns are asked for together.

        Returns:
            The completions of each script.
        """
        written: dict[int, list[Any]] = {place: [] for place in range(len(numbers))}
        for batch in batches:
            observations = [self.observe(self.scripts[i], numbers[i], len(written[i])) for i in batch]
            for place, completion in zip(batch, self.act(observations)):
                written[place].append(completion)
        self.forget(numbers)
        return written

    def together(self) -> list[list[int]]:
        """Return batches that play all scripts side by side."""
        return [list(range(len(self.scripts)))] * _TURNS


@CHECKS.add("is-agent")
def is_agent(subject: AgentSubject) -> None:
    """An agent has `act`; `privileged`, `forget`, and `submit` with `collect`, are what they are called."""
    agent = subject.agent
    if not callable(getattr(agent, "act", None)):
        fail("an agent", f"{subject.name} without act", "define act(self, observations) -> list[Completion]")
    if not isinstance(getattr(agent, "privileged", False), bool):
        fail("privileged to be True or False", repr(agent.privileged), "write privileged = True, or leave it out")
    if not callable(getattr(agent, "forget", len)):
        fail("forget to be a method", repr(agent.forget), "define forget(self, episode)")
    if callable(getattr(agent, "submit", None)) != callable(getattr(agent, "collect", None)):
        fail("both submit and collect, or neither", f"one of them in {subject.name}", "define the other one too")


@CHECKS.add("one-completion-each", needs=("is-agent",))
def one_completion_each(subject: AgentSubject) -> None:
    """`act` returns one completion per observation, whatever the size of the batch."""
    every = list(range(len(subject.scripts)))
    for batches in ([every[:1], every, every[1:]], [every[:2], every[:1], every]):
        subject.play(subject.new_numbers(len(every)), [batch for batch in batches if batch])


@CHECKS.add("completions", needs=("one-completion-each",))
def completions_are_texts(subject: AgentSubject) -> None:
    """Every completion is a `Completion` whose text is a str, and whose `cut_off` is a bool."""
    from agents.base import Completion

    for written in subject.play(subject.new_numbers(len(subject.scripts)), subject.together()).values():
        for completion in written:
            if not isinstance(completion, Completion):
                fail("a Completion", f"{shorten(completion)} ({type(completion).__name__})", "Completion(text)")
            if not isinstance(completion.text, str) or not isinstance(completion.cut_off, bool):
                fail(
                    "Completion.text to be a str and cut_off a bool",
                    f"{shorten(completion.text)} and {shorten(completion.cut_off)}",
                    "pass the whole assistant turn as text, the empty text for nothing",
                )


@CHECKS.add("tokens", needs=("completions",))
def tokens_are_complete(subject: AgentSubject) -> None:
    """Token ids, where there are any, come in every turn, with the prompt's and a log-probability each."""
    for written in subject.play(subject.new_numbers(len(subject.scripts)), subject.together()).values():
        for turn, completion in enumerate(written):
            problem = _token_problem(completion, written[0], subject.privileged)
            if problem is not None:
                fail(
                    "token_ids and prompt_ids, lists of ints, and logprobs, one finite number up to 0 per token",
                    f"{problem}, in turn {turn}",
                    "keep what was sampled: ids are never encoded anew from the text",
                )


@CHECKS.add("leaves-observations-alone", needs=("completions",))
def leaves_observations_alone(subject: AgentSubject) -> None:
    """The observations, their messages included, are not changed: they are the environment's."""
    numbers = subject.new_numbers(len(subject.scripts))
    for turn in range(_TURNS):
        observations = [subject.observe(script, n, turn) for script, n in zip(subject.scripts, numbers)]
        before = repr(observations)
        batch = list(observations)
        subject.act(batch)
        if repr(batch) != before:
            fail("the observations as they were", "other ones", "copy messages before you extend or change them")
    subject.forget(numbers)


@CHECKS.add("any-text", needs=("completions",))
def any_text(subject: AgentSubject) -> None:
    """Empty, long and strange observations are answered like any others."""
    for text in _HOSTILE:
        answer = {"role": "tool", "tool_call_id": "call_1_0", "content": text}
        shown: list[Any] = [(text, [{"role": "user", "content": text}]), (text, [answer])]
        script = Script(subject.scripts[0].task, shown, subject.seed)
        (number,) = subject.new_numbers(1)
        for turn in range(len(shown)):
            (completion,) = subject.act([subject.observe(script, number, turn)])
            if not isinstance(getattr(completion, "text", None), str):
                fail(f"a Completion for {shorten(text)}", shorten(completion), "return Completion(text)")
        subject.forget([number])


@CHECKS.add("same-again", needs=("completions",))
def same_again(subject: AgentSubject) -> None:
    """The same episodes, with the same numbers and seeds, are played the same way again."""
    if not subject.deterministic:
        raise NotApplicable("deterministic=False: the agent does not promise to repeat itself")
    numbers = subject.new_numbers(len(subject.scripts))
    first = subject.play(numbers, subject.together())
    _expect_same_texts(
        subject,
        first,
        subject.play(numbers, subject.together()),
        "played again",
        "draw from Observation.seed and the agent's own seed, and keep nothing from episodes that are over; an "
        "agent that cannot repeat itself is checked with deterministic=False",
    )


@CHECKS.add("episodes-apart", needs=("same-again",))
def episodes_apart(subject: AgentSubject) -> None:
    """What is written in an episode does not depend on the others in the batch, or on their order."""
    every = list(range(len(subject.scripts)))
    numbers = subject.new_numbers(len(every))
    together = subject.play(numbers, subject.together())
    staggered = [[i for i in every if i <= turn < i + _TURNS][::-1] for turn in range(len(every) + _TURNS)]
    schedules = {
        "played one after the other": [[i] for i in reversed(every) for _ in range(_TURNS)],
        "played in batches of another order": [every[turn:] + every[:turn] for turn in range(1, _TURNS + 1)],
        "begun one turn apart": [batch for batch in staggered if batch],
    }
    for change, batches in schedules.items():
        _expect_same_texts(
            subject,
            together,
            subject.play(numbers, batches),
            change,
            "keep what an episode needs under Observation.episode, not under its place in the batch, and draw "
            "from Observation.seed",
        )


@CHECKS.add("streaming", needs=("completions",))
def streaming(subject: AgentSubject) -> None:
    """`submit` and `collect`, where there are any, bring one completion for every observation."""
    from agents.base import Completion

    agent = subject.agent
    if not hasattr(agent, "submit"):
        return
    numbers = subject.new_numbers(len(subject.scripts))
    for turn in range(_TURNS):
        waiting = set(numbers)
        for script, number in zip(subject.scripts, numbers):
            agent.submit(subject.observe(script, number, turn))
        while waiting:
            found = agent.collect()
            for number, completion in found:
                if number not in waiting or not isinstance(completion, Completion):
                    fail(
                        "(episode, Completion) of a turn that was asked for",
                        f"({shorten(number)}, {shorten(completion)}), with episodes {sorted(waiting)} waiting",
                        "return every turn once, under the number of its Observation.episode",
                    )
                waiting.remove(number)
            if not found:
                fail("collect to wait for a turn", "nothing", "return at least one turn while some are asked for")
    subject.forget(numbers)


@CHECKS.add("forget-frees", needs=("completions",))
def forget_frees(subject: AgentSubject) -> None:
    """Nothing is kept of an episode that is over: what the agent holds does not grow from episode to episode."""
    sizes = []
    for _ in range(5):
        subject.play(subject.new_numbers(len(subject.scripts)), subject.together()[:2])
        sizes.append(_count_held(subject.agent))
    if all(before < after for before, after in itertools.pairwise(sizes)):
        fail(
            "an agent that holds as much after many episodes as after a few",
            f"{', '.join(map(str, sizes))} items and characters, after {len(subject.scripts)} more episodes each",
            "define forget(self, episode), and drop there what is kept under that number",
        )


@CHECKS.add("global-random-untouched", needs=("same-again",))
def global_random_untouched(subject: AgentSubject) -> None:
    """No global generator of `random`, NumPy or torch is touched."""
    with watched_generators() as touched:
        subject.play(subject.new_numbers(len(subject.scripts)), subject.together())
    if touched:
        fail(
            "the global generators as they were",
            f"another state of {', '.join(touched)}",
            "draw from a generator of the agent's own, seeded by Observation.seed",
        )


@CHECKS.add("plays-episodes", needs=("tokens", "leaves-observations-alone", "any-text", "streaming"))
def plays_episodes(subject: AgentSubject) -> None:
    """Real episodes are played to their end through `agents.rollout`."""
    from agents.base import AgentError
    from agents.rollout import Rollout

    with Rollout({"suite": subject.suite, "prompt": subject.prompt, "max_turns": 4}, max_live=2) as rollout:
        ids = [script.task.id for script in subject.scripts]
        try:
            trajectories = rollout.run(subject.agent, ids, seed=subject.seed)
        except AgentError as error:
            fail("completions that a rollout can use", str(error), "do as the message says")
    for trajectory in trajectories:
        if trajectory.stop_reason is None:
            fail("every episode to end", f"task {trajectory.task_id} is unfinished", "write turns until it ends")


def examine_agent(
    target: Any,
    *,
    options: Mapping[str, Any] | None = None,
    suite: str = "math",
    prompt: str = "compact",
    deterministic: bool = True,
    seed: int = 0,
) -> Examination:
    """Prepare the checks of an agent.

    Args:
        target: What `agents.base.load_agent` takes (a short name, `module:attribute`, a model folder, …), a class,
            a function from text to text, or an agent.
        options: Of the class or factory that is called, for example `{"max_new_tokens": 16}`.
        suite: Whose tasks it is shown: a suite's name, or the path of its `suite.yaml`.
        prompt: The prompt style, `"compact"` or `"full"`.
        deterministic: Whether the same observations, with the same seeds, must give the same texts; False for an
            agent that cannot repeat itself, such as one behind a remote service.
        seed: Of the episodes.

    Raises:
        ValueError: Nothing of that name, or it is no agent (`agents.base.AgentError`).

    >>> examine_agent("teacher").result("one-completion-each").outcome
    <Outcome.PASSED: 'passed'>
    """
    from agents.base import FunctionAgent, load_agent

    load_suite(suite)  # a wrong name is reported here, not by a check
    name = target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__)
    agent = target
    if isinstance(target, str):
        agent = load_agent(target, **(options or {}))
    elif isinstance(target, type):
        agent = target(**(options or {}))
    elif callable(target) and not hasattr(target, "act"):
        agent = FunctionAgent(target)
    return Examination("agent", name, CHECKS, AgentSubject(agent, suite, prompt, deterministic, seed))


def check_agent(target: Any, *, raise_on_failure: bool = True, **options: Any) -> Report:
    """Check that an agent keeps its promises.

    Args:
        target: As for `examine_agent`, and so are the options.
        raise_on_failure: Raise when a check failed; else the report says so.
        **options: `options`, `suite`, `prompt`, `deterministic`, `seed`.

    Raises:
        ConformanceError: A check failed.
        ValueError: Nothing of that name, or it is no agent (`agents.base.AgentError`).

    >>> check_agent(lambda text: "<answer>42</answer>").failed
    []
    """
    return conclude(examine_agent(target, **options), raise_on_failure)


def _shown(observation: Any) -> str:
    return f"turn {observation.turn} of an episode with the text {shorten(observation.text)}"


def _expect_same_texts(
    subject: AgentSubject, one: dict[int, list[Any]], other: dict[int, list[Any]], change: str, fix: str
) -> None:
    for place, script in enumerate(subject.scripts):
        for turn, (before, after) in enumerate(zip(one[place], other[place], strict=True)):
            if before.text != after.text:
                fail(
                    f"the same turn {turn} of task {script.task.id} when {change}",
                    f"{shorten(before.text)}, then {shorten(after.text)}",
                    fix,
                )


def _token_problem(completion: Any, first: Any, privileged: bool) -> str | None:
    """Say what is wrong with the tokens of a completion, given the first one of its episode."""
    ids, prompt, logprobs = completion.token_ids, completion.prompt_ids, completion.logprobs
    if (ids is None) != (first.token_ids is None):
        return "token_ids in some turns of an episode only"
    if ids is None:
        return None if prompt is None and logprobs is None else "prompt_ids or logprobs without token_ids"
    for name, value in (("token_ids", ids), ("prompt_ids", prompt)):
        if not isinstance(value, list) or not all(type(item) is int and item >= 0 for item in value):
            return f"{name} = {shorten(value)}"
    if not prompt:
        return "no prompt_ids, although there is an observation"
    if logprobs is None:
        # Nobody samples a teacher's tokens.
        return None if privileged else "no logprobs"
    if len(logprobs) != len(ids):
        return f"{len(ids)} token_ids and {len(logprobs)} logprobs"
    wrong = [item for item in logprobs if not isinstance(item, float) or not -math.inf < item <= _LOGPROB_SLACK]
    return f"logprobs with {shorten(wrong[0])}" if wrong else None


def _count_held(agent: Any) -> int:
    """Count the members of all containers, and the characters of all texts, that an agent holds."""
    seen: set[int] = set()
    # Classes and modules are everybody's. A function's globals are too, but not what it closes over.
    waiting: list[Any] = [agent]
    total = 0
    while waiting and len(seen) < _MAX_OBJECTS:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type | types.ModuleType | int | float | None):
            continue
        seen.add(id(item))
        if isinstance(item, str | bytes | bytearray):
            total += len(item)
        elif isinstance(item, dict):
            total += len(item)
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset | deque):
            total += len(item)
            waiting += item
        elif isinstance(item, types.FunctionType):
            waiting += [cell.cell_contents for cell in item.__closure__ or ()]
        elif isinstance(item, types.MethodType):
            waiting += [item.__self__, item.__func__]
        else:
            waiting += getattr(item, "__dict__", {}).values()
            slots = [name for kind in type(item).__mro__ for name in getattr(kind, "__slots__", ())]
            waiting += [getattr(item, name) for name in slots if hasattr(item, name)]
    return total
