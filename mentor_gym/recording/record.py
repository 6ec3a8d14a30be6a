"""Record teacher traces: many episodes of an endpoint's model at once, into a folder that can be gone on with.

The folder holds `attempts.jsonl`, which only grows: one line for every attempt at a task, on the disk before the
next one begins. All else is derived from it and written anew at every end, an interrupted one included: the rows
(`<split>.jsonl`, in the order of the suite's tasks), `manifest.json` and, for a suite that has a name or a file,
`suite.yaml` with `tools.py`, so that the folder is a suite itself. A line that a crash has torn is cut off, and
its attempt is made again.

Episodes wait for the endpoint at the same time, in the event loop of a thread of its own; all else, environments
and files, is done in the thread of the caller, one thing after the other (see `mentor_gym.recording.stage`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml

from mentor_gym.data import DataError, load_tasks, write_tasks
from mentor_gym.env import MentorToolEnv
from mentor_gym.recording.client import ChatClient, Endpoint
from mentor_gym.recording.episode import SYSTEM_PROMPT, Attempt, Outcome, play_episode, task_digest
from mentor_gym.recording.stage import Stage
from mentor_gym.state import digest
from mentor_gym.suites import is_suite_name, load_suite
from mentor_gym.suites.base import Suite, TaskSet
from mentor_gym.types import Task

ATTEMPTS = "attempts.jsonl"
MANIFEST = "manifest.json"
# A share of fewer tasks says little.
_ENOUGH_TASKS = 20
# Settings that make other attempts of the same tasks; a folder holds attempts of one kind only.
_BINDING = (
    "suite",
    "split",
    "tools",
    "model",
    "temperature",
    "max_tokens",
    "seed",
    "extra_body",
    "system",
    "max_turns",
)

_TOOLS = '''"""The tools of the suite that these rows were recorded on."""

from pathlib import Path

from mentor_gym.suites import load_suite

make_box = load_suite({suite}).make_box
'''

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Attempt)


class RecordError(ValueError):
    """A recording that cannot begin or go on; the message says why, and what to do."""


@dataclass
class Progress:
    """How far a recording is; attempts of earlier runs in the same folder are counted too.

    Attributes:
        tasks: Tasks to play.
        finished: Tasks that need no further attempt in this run, failed ones included.
        kept: Attempts that became rows.
        failed: Tasks whose requests failed as often as they were to be tried, in this run.
        outcomes: Attempts by outcome.
        requests: Requests sent, repeated ones included.
        prompt_tokens: As the endpoint reports them.
        completion_tokens: The same.
        faults: Faults of the endpoint by kind.
        call_errors: Failed tool calls by kind.
        problems: Attempts whose trace no row can hold.
        error: What the last failed task of this run failed with; None where none has.
    """

    tasks: int = 0
    finished: int = 0
    kept: int = 0
    failed: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    call_errors: Counter[str] = field(default_factory=Counter)
    problems: int = 0
    error: str | None = None

    def add(self, attempt: Attempt) -> None:
        """Count one attempt, but not whether it is kept."""
        self.outcomes[str(attempt.outcome)] += 1
        self.requests += attempt.requests
        self.prompt_tokens += attempt.prompt_tokens
        self.completion_tokens += attempt.completion_tokens
        self.faults.update(attempt.faults)
        self.call_errors.update(attempt.call_errors)
        self.problems += attempt.problem is not None and attempt.outcome is not Outcome.FAILED


@dataclass(frozen=True)
class Recording:
    """What a recording has written.

    Attributes:
        folder: Where.
        rows: The file of rows; empty when nothing was kept.
        suite: The `suite.yaml` that makes the folder a suite; None for a `Suite` that a program has built.
        progress: The final figures.
    """

    folder: Path
    rows: Path
    suite: Path | None
    progress: Progress


def record(
    endpoint: Endpoint,
    folder: str | Path,
    suite: str | Suite = "math",
    split: str | None = None,
    *,
    tasks: int | None = None,
    task_ids: Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
    tries: int = 1,
    every_try: bool = False,
    keep_correct: bool = True,
    concurrency: int = 8,
    max_turns: int = 8,
    system: str = SYSTEM_PROMPT,
    max_failed_share: float = 0.2,
    progress: Callable[[Progress], None] | None = None,
) -> Recording:
    """Let an endpoint's model play tasks by native tool calls, and write what is kept as rows with teacher traces.

    Called again with the same folder it goes on: attempts that were made are not made again, those whose requests
    failed are. Tasks, tries, what is kept, the address and all limits may differ from call to call; what the
    model is and what it is told may not. Ctrl-C, which is a `KeyboardInterrupt` here, loses only the attempts
    that are under way.

    Args:
        endpoint: Where and how to ask.
        folder: Where to write: a new or empty folder, or one of an earlier call.
        suite: A suite's name, the path of a `suite.yaml`, or a `Suite`.
        split: Which of its splits; None takes the first.
        tasks: How many tasks to play, chosen by the endpoint's seed (0 without one): more tasks contain fewer.
            None plays all.
        task_ids: Play these tasks instead.
        where: Only tasks whose `meta` has these values; see `TaskSet.where`.
        tries: How many attempts at a task, at most.
        every_try: Make all of them, instead of stopping at the first that is kept. Of a task's second and later
            rows the ids end in `~` and the attempt's number.
        keep_correct: Keep what the grader accepts; otherwise all that a row can hold, wrong answers included, with
            `meta.is_success`. Never kept: attempts with malformed calls or unknown tools, which no row can hold.
        concurrency: How many episodes at once.
        max_turns: Assistant turns after which an episode is cut off.
        system: The system message; empty for none.
        max_failed_share: The run ends when more than this share of the tasks has failed, of 20 at least.
        progress: Called after every attempt, and once at the start.

    Returns:
        What was written.

    Raises:
        EndpointError: The endpoint refuses every request. What was recorded before is written.
        RecordError: Too many tasks failed, another run writes to the folder, or it holds other files or a
            recording of other settings.
        DataError: The folder's attempts cannot be read.
        ValueError: Another argument is wrong, or httpx2, the extra `[record]`, is not installed.
    """
    for name, value in (("tries", tries), ("concurrency", concurrency)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    if not 0 <= max_failed_share <= 1:
        raise ValueError(f"max_failed_share must be 0 to 1, got {max_failed_share!r}")
    chosen = load_suite(suite)
    split = chosen.splits[0] if split is None else split
    everything = chosen.tasks(split)
    todo = _choose(everything, tasks, task_ids, where, endpoint.seed or 0)
    client = ChatClient(endpoint)
    settings: dict[str, Any] = {
        **{name: value for name, value in dataclasses.asdict(endpoint).items() if name in _BINDING},
        "suite": chosen.name,
        "split": split,
        "tools": digest([[tool.schema for tool in chosen.box.tools.values()], dict(chosen.box.versions)]),
        "system": system,
        "max_turns": max_turns,
    }
    settings = json.loads(json.dumps(settings))  # as the manifest gives them back
    make_env = partial(MentorToolEnv, chosen, split, max_turns=max_turns)
    make_env().close()  # says what is wrong with its arguments before anything is written
    folder = Path(folder)
    _check_folder(folder, suite)
    folder.mkdir(parents=True, exist_ok=True)
    with _Journal(folder / ATTEMPTS) as journal:
        journal.load(everything)
        addresses = _check_manifest(folder / MANIFEST, settings, bool(journal.lines))
        addresses = sorted({*addresses, client.public_url})
        rule = _Rule(tries, every_try, keep_correct)
        state = Progress(tasks=len(todo))
        run = _Run(client, make_env, journal, rule, state, system, max_failed_share, progress)
        # Before the first request, so that even a process that is killed leaves a folder that can be gone on with.
        _write_manifest(folder, settings, addresses, None, None)
        try:
            run.stage.run(run.play(todo, concurrency))
        finally:
            run.close()
            # Ctrl-C may have come between the writing of a line and the taking note of it.
            journal.load(everything)
            rows = folder / f"{split}.jsonl"
            found = _write_rows(rows, everything, journal.attempts, rule, chosen, endpoint.model)
            _write_manifest(folder, settings, addresses, _figures(journal.lines), found)
            named = _write_suite(folder, suite, chosen, split)
    return Recording(folder, rows, named, state)


@dataclass(frozen=True)
class _Rule:
    """What is attempted and what is kept; see `record`."""

    tries: int
    every_try: bool
    keep_correct: bool

    def keeps(self, attempt: Attempt) -> bool:
        if attempt.problem is not None:
            return False
        return attempt.is_success or not self.keep_correct

    def kept(self, attempts: Mapping[int, Attempt]) -> list[Attempt]:
        """Return the attempts at one task that become rows, in order."""
        found = [attempts[number] for number in sorted(attempts) if self.keeps(attempts[number])]
        return found if self.every_try else found[:1]

    def next(self, attempts: Mapping[int, Attempt]) -> int | None:
        """Return the number of the next attempt at a task; None when it is finished."""
        if not self.every_try and self.kept(attempts):
            return None
        for number in range(1, self.tries + 1):
            if number not in attempts or attempts[number].outcome is Outcome.FAILED:
                return number
        return None


class _Journal:
    """The file of attempts: read at the start, then appended to, one line at a time, by one process alone.

    Attributes:
        attempts: The attempts by task and number; of several with the same number the last.
        lines: All of them, in the order of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.attempts: dict[str, dict[int, Attempt]] = {}
        self.lines: list[Attempt] = []

    def __enter__(self) -> Self:
        self._file = self._path.open("a+b")
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RecordError(f"{self._path}: another run is writing to this folder") from None
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def load(self, tasks: TaskSet) -> None:
        """Read the file, and drop from `attempts` those at tasks that are gone or no longer the same."""
        self.attempts, self.lines = {}, []
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                self._take(_decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise DataError(f"{self._path}, line {number}: not an attempt: {error}") from None
        if whole < len(content):
            # A process that was killed, or a full disk, has left a part of a line.
            self._file.truncate(whole)
        for task_id in list(self.attempts):
            now = task_digest(tasks[task_id]) if task_id in tasks else None
            made = self.attempts.pop(task_id)
            same = {number: attempt for number, attempt in made.items() if attempt.task_digest == now}
            if same:
                self.attempts[task_id] = same

    def _take(self, attempt: Attempt) -> None:
        self.attempts.setdefault(attempt.task_id, {})[attempt.number] = attempt
        self.lines.append(attempt)

    def add(self, attempt: Attempt) -> None:
        """Append an attempt; it is on the disk when this returns."""
        self._file.write(_encoder.encode(attempt) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._take(attempt)


class _Run:
    """The episodes of one call of `record`."""

    def __init__(
        self,
        client: ChatClient,
        make_env: Callable[[], MentorToolEnv],
        journal: _Journal,
        rule: _Rule,
        state: Progress,
        system: str,
        max_failed_share: float,
        notify: Callable[[Progress], None] | None,
    ) -> None:
        self.stage = Stage()
        self._client = client
        self._make_env = make_env
        self._envs: list[MentorToolEnv] = []
        self._journal = journal
        self._rule = rule
        self._state = state
        self._system = system
        self._max_failed_share = max_failed_share
        self._notify = notify or (lambda state: None)

    async def play(self, tasks: TaskSet, concurrency: int) -> None:
        """Play what is left to be played."""
        left = await self.stage.call(self._open, tasks)
        queue = iter(left)
        try:
            async with self._client, asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(left))):
                    group.create_task(self._work(queue))
        except BaseExceptionGroup as errors:
            # The first one has stopped the others.
            raise errors.exceptions[0] from None

    async def _work(self, queue: Iterator[Task]) -> None:
        """Play one task after the other, in an environment of its own."""
        env = await self.stage.call(self._make_env)
        self._envs.append(env)
        for task in queue:
            number = self._rule.next(self._journal.attempts.get(task.id, {}))
            while number is not None:
                attempt = await play_episode(env, task, number, self._client, self.stage, self._system)
                number = await self.stage.call(self._enter, attempt)

    def close(self) -> None:
        """Close the environments, which an interruption leaves open."""
        for env in self._envs:
            env.close()

    def _open(self, tasks: TaskSet) -> list[Task]:
        """Count what earlier calls have done, and return the tasks that are left."""
        for attempt in self._journal.lines:
            self._state.add(attempt)
        done = self._journal.attempts
        self._state.kept = sum(len(self._rule.kept(attempts)) for attempts in done.values())
        left = [task for task in tasks if self._rule.next(done.get(task.id, {})) is not None]
        self._state.finished = len(tasks) - len(left)
        self._notify(self._state)
        return left

    def _enter(self, attempt: Attempt) -> int | None:
        """Write an attempt down; returns the number of the next one at its task, None when that is finished."""
        attempts = self._journal.attempts.setdefault(attempt.task_id, {})
        before = len(self._rule.kept(attempts))
        self._journal.add(attempt)
        self._state.add(attempt)
        self._state.kept += len(self._rule.kept(attempts)) - before
        failed = attempt.outcome is Outcome.FAILED
        following = None if failed else self._rule.next(attempts)
        self._state.failed += failed
        self._state.error = attempt.error if failed else self._state.error
        self._state.finished += following is None
        self._notify(self._state)
        if failed:
            self._check_failures()
        return following

    def _check_failures(self) -> None:
        failed, finished = self._state.failed, self._state.finished
        if failed > self._max_failed_share * max(finished, _ENOUGH_TASKS):
            raise RecordError(
                f"stopped: the requests of {failed} of {finished} tasks have failed; the last one was "
                f"{self._state.error}. Attempts so far are kept, and the same command goes on"
            )


def _choose(
    everything: TaskSet,
    count: int | None,
    task_ids: Sequence[str] | None,
    where: Mapping[str, Any] | None,
    seed: int,
) -> TaskSet:
    if count is not None and (type(count) is not int or count < 1):
        raise ValueError(f"tasks must be a whole number of at least 1 or None, got {count!r}")
    found = everything.where(where) if where else everything
    if task_ids is not None:
        for task_id in task_ids:
            if task_id not in found:
                raise ValueError(
                    f"there is no task {task_id!r} to record, {found.ids[0]!r} is one of {len(found)}"
                )
        wanted = set(task_ids)
        found = TaskSet([task for task in found if task.id in wanted])
    if count is None or count >= len(found):
        return found
    order = list(found.ids)
    random.Random(seed).shuffle(order)
    wanted = set(order[:count])
    return TaskSet([task for task in found if task.id in wanted])


# What is derived from the attempts


def _write_rows(
    path: Path,
    everything: TaskSet,
    attempts: Mapping[str, Mapping[int, Attempt]],
    rule: _Rule,
    suite: Suite,
    model: str,
) -> dict[str, Any]:
    """Write the rows in the order of the suite's tasks, and return their number and the file's SHA-256."""
    rows = [
        _row(task, attempt, position, model)
        for task in everything
        for position, attempt in enumerate(rule.kept(attempts.get(task.id, {})))
    ]
    draft = path.with_suffix(".tmp")
    sha256 = write_tasks(draft, rows)
    if rows:
        load_tasks(draft, suite.name, path.stem, suite.box.tools)
    os.replace(draft, path)
    return {"rows": len(rows), "sha256": sha256}


def _row(task: Task, attempt: Attempt, position: int, model: str) -> Task:
    calls = sum(len(message.get("tool_calls") or ()) for message in attempt.trace)
    ours = {"calls": calls, "model": model, "attempt": attempt.number, "is_success": attempt.is_success}
    task_id = task.id if position == 0 else f"{task.id}~{attempt.number}"
    return msgspec.structs.replace(task, id=task_id, teacher=attempt.trace, meta={**task.meta, **ours})


def _figures(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Return the figures of the whole folder, as opposed to those of one call."""
    state = Progress()
    for attempt in attempts:
        state.add(attempt)
    return {
        "outcomes": dict(sorted(state.outcomes.items())),
        "problems": state.problems,
        "requests": state.requests,
        "prompt_tokens": state.prompt_tokens,
        "completion_tokens": state.completion_tokens,
        "faults": dict(sorted(state.faults.items())),
        "call_errors": dict(sorted(state.call_errors.items())),
    }


def _check_folder(folder: Path, suite: str | Suite) -> None:
    """Refuse a folder whose files are not a recording's: they might be replaced."""
    if not folder.exists():
        return
    found = {path.name for path in folder.iterdir()}
    # One that was killed early has a journal and no manifest yet, or a draft of it.
    foreign = sorted(found - {ATTEMPTS, "manifest.tmp"})
    if foreign and not {ATTEMPTS, MANIFEST} <= found:
        raise RecordError(f"{folder} holds other files ({foreign[0]}); choose an empty folder")
    if isinstance(suite, str) and not is_suite_name(suite) and Path(suite).resolve().parent == folder.resolve():
        raise RecordError(f"{folder} holds the suite that is to be recorded; choose another folder")


def _check_manifest(path: Path, settings: Mapping[str, Any], begun: bool) -> list[str]:
    """Refuse a folder of other settings; returns the addresses that were asked before."""
    if not path.exists():
        if begun:
            raise RecordError(f"{path.parent}: holds {ATTEMPTS}, but no {MANIFEST}; choose an empty folder")
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        before, addresses = dict(found["settings"]), [str(address) for address in found["base_urls"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: not the manifest of a recording ({type(error).__name__})") from None
    if begun:
        for name in _BINDING:
            if before.get(name) != settings[name]:
                was, given = _short(before.get(name)), _short(settings[name])
                raise RecordError(
                    f"{path.parent} was recorded with {name} {was}, not {given}; go on with that, "
                    "or choose another folder"
                )
    return addresses


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _write_manifest(
    folder: Path,
    settings: Mapping[str, Any],
    addresses: Sequence[str],
    figures: Mapping[str, Any] | None,
    rows: Mapping[str, Any] | None,
) -> None:
    from mentor_gym import __version__

    content = {"mentor_gym": __version__, "base_urls": list(addresses), "settings": dict(settings)}
    if figures is not None and rows is not None:
        content |= {"files": {f"{settings['split']}.jsonl": dict(rows)}, "attempts": dict(figures)}
    _replace(folder / MANIFEST, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _write_suite(folder: Path, given: str | Suite, suite: Suite, split: str) -> Path | None:
    """Make the folder a suite: its rows with the tools of the suite that was recorded, and its mark."""
    if not isinstance(given, str):
        return None
    source = json.dumps(given)
    if not is_suite_name(given):
        relative = os.path.relpath(Path(given).resolve(), folder.resolve())
        source = f"str(Path(__file__).parent / {json.dumps(relative)})"
    tools = _TOOLS.format(suite=source)
    if is_suite_name(given):
        tools = tools.replace("from pathlib import Path\n\n", "")
    _replace(folder / "tools.py", tools)
    content: dict[str, Any] = {
        "name": suite.name,
        "description": f"{suite.name}, with recorded teachers",
        "tools": "tools.py",
        "splits": {split: f"{split}.jsonl"},
    }
    if suite.evaluation_only:
        content["evaluation_only"] = True
    path = folder / "suite.yaml"
    _replace(path, yaml.safe_dump(content, sort_keys=False))
    return path


def _replace(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    draft = path.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
