"""Check that a suite's rows, teachers, graders and tools fit together.

The environment tests the data and the data test the environment: every teacher is played on a real one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mentor_gym.data import REBUILD_SEED, DataError
from mentor_gym.env import MentorToolEnv
from mentor_gym.grading import STATE_GRADERS, grade, parse_number
from mentor_gym.protocol import render_message, to_json
from mentor_gym.suites import Suite, load_suite
from mentor_gym.testing._randomness import watched_generators
from mentor_gym.testing._subject import excerpt
from mentor_gym.testing.base import CheckList, Examination, NotApplicable, Outcome, Report, conclude, fail
from mentor_gym.types import Task

__all__ = ["CHECKS", "SuiteSubject", "check_suite", "examine_suite"]

CHECKS = CheckList()

# Shorter answers stand in a description by chance.
_MIN_CHARS = 4
# What is generated to be compared: a split of thousands of rows takes seconds.
_GENERATED_ROWS = 500
# Of the checks of tools those that take milliseconds; `mentor_gym.testing.tool` has all of them.
_TOOL_CHECKS = (
    "is-tool",
    "closed-schema",
    "first-sentence",
    "comes-back",
    "never-raises",
    "returns-results",
    "refuses-wrong-arguments",
    "bounded-output",
    "clean-output",
    "no-host-text",
    "same-again",
)


@dataclass
class Replay:
    """What came of a teacher's turns on a real environment.

    Attributes:
        task: The task.
        problem: Why the teacher did not succeed; None when it did.
        outputs: What the tools answered, in call order.
    """

    task: Task
    problem: str | None
    outputs: list[str] = field(default_factory=list)


@dataclass
class SuiteSubject:
    """A suite under examination.

    Attributes:
        suite: The suite.
        rows: How many rows of a split are played, spread over it.
        related: Groups of splits that may share questions.
        seed: What the shipped rows were generated from.
    """

    suite: Suite
    rows: int = 500
    related: tuple[frozenset[str], ...] = ()
    seed: int = REBUILD_SEED

    def sample(self, split: str) -> list[Task]:
        """Return `rows` tasks spread over a split; all when it has no more."""
        tasks = list(self.suite.tasks(split))
        return [tasks[i * len(tasks) // self.rows] for i in range(self.rows)] if len(tasks) > self.rows else tasks

    def all_tasks(self) -> Iterator[Task]:
        """Yield every task of every split."""
        for split in self.suite.splits:
            yield from self.suite.tasks(split)

    @functools.cached_property
    def replays(self) -> list[Replay]:
        """The sampled teachers, each played on a real environment."""
        return [replay for split in self.suite.splits for replay in _replay(self.suite, self.sample(split))]


def _replay(suite: Suite, tasks: list[Task]) -> Iterator[Replay]:
    tasks = [task for task in tasks if task.teacher]
    if not tasks:
        return
    longest = max(len(task.teacher) for task in tasks)
    env = MentorToolEnv(suite, tasks[0].split, max_turns=longest + 1)
    try:
        for task in tasks:
            env.reset(options={"task_id": task.id})
            turns = [render_message(message) for message in task.teacher if message["role"] == "assistant"]
            ended = False
            for turn in turns:
                if ended:
                    break
                _, _, terminated, truncated, _ = env.step(turn)
                ended = terminated or truncated
            transcript = env.transcript
            outputs = [result.output for played in transcript.turns for result in played.results]
            problem = None
            if not transcript.is_success:
                said = f"its answer is {transcript.answer!r}" if transcript.answer else "it gives no answer"
                problem = f"{said}, {len(transcript.turns)} of its {len(turns)} turns were played"
            elif len(transcript.turns) < len(turns):
                problem = f"its answer comes in turn {len(transcript.turns)} of {len(turns)}"
            yield Replay(task, problem, outputs)
    finally:
        env.close()


@CHECKS.add("loads")
def check_loads(subject: SuiteSubject) -> None:
    """Every split loads, and every row says that it belongs to it."""
    suite = subject.suite
    if not suite.splits:
        fail("at least one split", "none", "name the splits, the default one first")
    for split in suite.splits:
        try:
            tasks = suite.tasks(split)
        except DataError as error:
            fail(f"split {split!r} to load", str(error), "correct the row or file that the message names")
        if not len(tasks):
            fail(f"rows in split {split!r}", "none", "add rows, or drop the split")
        for task in tasks:
            if (task.suite, task.split) != (suite.name, split):
                got = f"suite {task.suite!r}, split {task.split!r}"
                fail(f"task {task.id!r} to be of suite {suite.name!r}, split {split!r}", got, "correct its fields")


@CHECKS.add("ids", needs=["loads"])
def check_ids(subject: SuiteSubject) -> None:
    """No two tasks of the suite have the same id, not in different splits either."""
    seen: dict[str, str] = {}
    for task in subject.all_tasks():
        if task.id in seen:
            got = f"{task.id!r} in {seen[task.id]!r} and in {task.split!r}"
            fail("ids that are unique over all splits", got, "put the split's name into the id")
        seen[task.id] = task.split


@CHECKS.add("disjoint", needs=["loads"])
def check_disjoint(subject: SuiteSubject) -> None:
    """No question of one split is asked in another."""
    if len(subject.suite.splits) < 2:
        raise NotApplicable("the suite has one split")
    if subject.suite.evaluation_only:
        raise NotApplicable("all its splits are for evaluation")
    seen: dict[tuple[str, str], Task] = {}
    for task in subject.all_tasks():
        # The same words about another initial state are another question.
        key = " ".join(task.prompt.lower().split()), to_json(task.state)
        first = seen.setdefault(key, task)
        together = any({first.split, task.split} <= group for group in subject.related)
        if first.split != task.split and not together:
            fail(
                "splits that share no question, because one is trained on and another measures",
                f"{excerpt(task.prompt)} as {first.id!r} of {first.split!r} and {task.id!r} of {task.split!r}",
                "remove one of them; for splits that serve the same purpose check with related=[(split, split)]",
            )


@CHECKS.add("offers", needs=["loads"])
def check_offers(subject: SuiteSubject) -> None:
    """Every task offers tools that the box has, each once."""
    known = subject.suite.box.tools
    for task in subject.all_tasks():
        names = [item if isinstance(item, str) else item["function"]["name"] for item in task.tools]
        for name in names:
            if name not in known:
                fail(f"the tools of task {task.id!r} to be in the box", f"{name!r}", f"it has {', '.join(known)}")
            if names.count(name) > 1:
                fail(f"task {task.id!r} to offer each tool once", f"{name!r} twice", "remove one of them")


@CHECKS.add("boxes", needs=["loads"])
def check_boxes(subject: SuiteSubject) -> None:
    """A box with state is built anew for every environment, with the same tools."""
    suite = subject.suite
    one, other = suite.new_box(), suite.new_box()
    if list(one.tools) != list(other.tools) or list(one.tools) != list(suite.box.tools):
        fail("the same tools in every box", f"{list(one.tools)} and {list(other.tools)}", "build boxes alike")
    if one.has_state and (one is other or any(one.tools[name] is other.tools[name] for name in one.tools)):
        fail("a box of its own for every environment", "a shared one", "build the box and its tools in make_box()")


@CHECKS.add("tools", needs=["offers", "boxes"])
def check_tools(subject: SuiteSubject) -> None:
    """The tools keep the promises of tools: schemas, failures, limits, output."""
    from mentor_gym.testing.tool import examine_tool

    examination = examine_tool(subject.suite)
    for name in _TOOL_CHECKS:
        result = examination.result(name)
        if result.outcome is Outcome.FAILED:
            fail(f"the tools to pass {name}", result.message, "see mentor_gym.testing.tool, check_tool")


@CHECKS.add("teachers", needs=["offers", "boxes"])
def check_teachers(subject: SuiteSubject) -> None:
    """Every teacher, played on a real environment, ends in success."""
    if not subject.replays:
        raise NotApplicable("no task has a teacher")
    for replay in subject.replays:
        if replay.problem:
            gold = f"the gold answer is {replay.task.answer!r}"
            fail(
                f"the teacher of task {replay.task.id!r} to succeed",
                f"{replay.problem}, {gold}",
                "correct the teacher's last message, the answer or the grader",
            )


@CHECKS.add("results", needs=["teachers"])
def check_results(subject: SuiteSubject) -> None:
    """The tool messages in a teacher's trace are what the tools answer."""
    for replay in subject.replays:
        recorded = [message["content"] for message in replay.task.teacher if message["role"] == "tool"]
        for number, (wanted, got) in enumerate(zip(recorded, replay.outputs), start=1):
            if wanted != got:
                fail(
                    f"call {number} of the teacher of task {replay.task.id!r} to return {excerpt(wanted)}",
                    excerpt(got),
                    "record the trace with the present tools: a model would learn from results that never come",
                )
        if len(recorded) != len(replay.outputs):
            got = f"{len(replay.outputs)} calls and {len(recorded)} tool messages"
            fail(f"a tool message for every call in the teacher of task {replay.task.id!r}", got, "record all")


@CHECKS.add("answers", needs=["loads"])
def check_answers(subject: SuiteSubject) -> None:
    """Every gold answer passes its own grader, and wrong answers do not."""
    for split in subject.suite.splits:
        for task in subject.sample(split):
            if not grade(task.answer, task.answer, task.grader):
                fail(
                    f"the answer {task.answer!r} of task {task.id!r} to be right", "it is wrong", "correct either"
                )
            if task.grader["kind"] in STATE_GRADERS:
                if grade(task.answer, task.answer, task.grader, "no such state 5f3a9c"):
                    wanted = f"task {task.id!r} to fail with the tools in another state"
                    fail(wanted, f"{task.grader} accepts it", "make the grader stricter")
                continue
            for wrong in _wrong_answers(task):
                if grade(wrong, task.answer, task.grader):
                    fail(
                        f"{wrong!r} to be wrong for task {task.id!r}, whose answer is {task.answer!r}",
                        f"{task.grader} accepts it",
                        "make the grader stricter, or its aliases fewer",
                    )


def _wrong_answers(task: Task) -> list[str]:
    wrong = ["", " ", "no such answer 5f3a9c", f"{task.answer} or not 5f3a9c"]
    number = parse_number(task.answer) if task.grader["kind"] == "number" else None
    if number is not None:
        apart = max(1.0, abs(number[0]) / 100)
        wrong += [repr(number[0] + apart), repr(number[0] - apart)]
    if task.grader["kind"] == "set":
        wrong += [f"{task.answer}{task.grader.get('separator', ',')} 5f3a9c"]
    return wrong


@CHECKS.add("answers-hidden", needs=["offers"])
def check_answers_hidden(subject: SuiteSubject) -> None:
    """No task's own tool schemas contain its answer."""
    for task in subject.all_tasks():
        if len(task.answer) < _MIN_CHARS:
            continue
        for entry in task.tools:
            # What the box says of a tool is the same for every task, and so tells no task's answer.
            if isinstance(entry, dict) and _says(entry, task.answer):
                tool = subject.suite.box.tools[entry["function"]["name"]]
                if not _says(tool.schema, task.answer):
                    fail(
                        f"the tools of task {task.id!r} not to contain its answer, {task.answer!r}",
                        excerpt(to_json(entry)),
                        "take the answer out of the inline schema",
                    )


def _says(schema: dict[str, Any], answer: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", to_json(schema), re.IGNORECASE) is not None


@CHECKS.add("generator", needs=["loads"])
def check_generator(subject: SuiteSubject) -> None:
    """The generator gives the shipped rows again for their seed, and touches no global generator."""
    suite = subject.suite
    if suite._generate is None:
        raise NotApplicable("the suite has no generator: its rows are a file")
    sizes = {split: len(suite.tasks(split)) for split in suite.splits}
    split = min(sizes, key=lambda name: sizes[name])
    if sizes[split] > _GENERATED_ROWS:
        raise NotApplicable(
            f"its smallest split has {sizes[split]} rows; mentor-gym data verify compares them all"
        )
    with watched_generators() as touched:
        rows = [msgspec.json.encode(task) for task in suite.generate(split, subject.seed)]
    for name in touched:
        fix = "draw from a generator of its own: random.Random(seed)"
        fail(f"generate() to leave the global generator of {name} alone", "another state after it", fix)
    for number, (row, task) in enumerate(zip(rows, suite.tasks(split)), start=1):
        if row != msgspec.json.encode(task):
            fail(
                f"row {number} of split {split!r} again from seed {subject.seed}",
                excerpt(row.decode()),
                "generate the files anew, or check with the seed that they were made from: seed=",
            )
    if len(rows) != sizes[split]:
        fail(f"the {sizes[split]} rows of split {split!r}", f"{len(rows)}", "generate the files anew")


def examine_suite(
    target: Any,
    *,
    rows: int = 500,
    related: Iterable[Collection[str]] = (),
    seed: int = REBUILD_SEED,
) -> Examination:
    """Prepare the checks of a suite; each runs when its result is asked for.

    Args:
        target: A suite's name, the path of its `suite.yaml`, or a `Suite`.
        rows: How many rows of a split are played and graded, spread over it; the other checks read all.
        related: Groups of splits that may share questions, for example `[("train", "teachers")]`.
        seed: What the shipped rows were generated from, for a suite with a generator.

    Raises:
        ValueError: The target is no suite, or an argument is out of range.

    >>> examine_suite("math").result("disjoint").outcome
    <Outcome.PASSED: 'passed'>
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    suite = load_suite(target)
    subject = SuiteSubject(suite, rows, tuple(map(frozenset, related)), seed)
    return Examination("suite", target if isinstance(target, str) else suite.name, CHECKS, subject)


def check_suite(target: Any, *, raise_on_failure: bool = True, **options: Any) -> Report:
    """Check a suite, for example in a test.

    Args:
        target: As for `examine_suite`.
        raise_on_failure: Whether a failed check raises.
        **options: As for `examine_suite`.

    Raises:
        ConformanceError: A check failed; the message lists what was expected, what came and how to fix it.
        ValueError: The target is no suite.

    >>> check_suite("math", rows=20).failed
    []
    """
    return conclude(examine_suite(target, **options), raise_on_failure)
