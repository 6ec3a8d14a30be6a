"""Finished episodes in a file: JSON lines, one episode a row, for scoring them again by any reward.

A row holds `suite, split, task_id, source, stop_reason, turns` and, where they say something, `group`, `answer`,
`is_success`, `task` and `tools`. What follows from the rest is left out:

- a turn is `{"text": …, "results": [{"output": …, "error": …}]}`; its action is what the text parses to, and its
  observation what its results are rendered as, unless the turn says otherwise in `action` and `observation`;
- the task is the one of that id in the shipped suite of that name. The tasks of any other suite stand in the file,
  in `task` of the first row that needs them, with the facts about their tools in `tools`. A suite is never loaded
  by a path in a row: that would run its code.

Reading is strict: a row that is broken, or that no environment could have recorded, is refused with its file, line
and field. Answers are not judged anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mentor_gym.data import DataError, check_row, name_field
from mentor_gym.protocol import parse_action, render_results
from mentor_gym.suites import is_suite_name, load_suite
from mentor_gym.suites.base import Suite
from mentor_gym.types import Action, CallError, StopReason, Task, ToolFacts, ToolResult, Transcript, Turn

TRANSCRIPTS = "transcripts.jsonl"
# What other commands leave behind that looks like episodes, and why it cannot be scored.
_NOT_TRANSCRIPTS = {
    "run.json": "keeps episodes as chat messages, which do not say why a call failed",
    "attempts.jsonl": "keeps traces, which say neither why a call failed nor how a broken one was written",
}


@dataclass(frozen=True, slots=True)
class Episode:
    """A finished episode, who played it, and which episodes it stands beside.

    Attributes:
        transcript: What was recorded.
        source: Who played: an agent's name, `"policy"`, …
        group: Episodes of one group are samples of one task by one policy, as GRPO compares them; None for one
            that stands by itself.
    """

    transcript: Transcript
    source: str
    group: str | None = None


class _Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A `ToolResult`, whose `ok` is that there is no error."""

    output: str
    error: CallError | None = None


class _Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A `Turn` without what follows from its text and its results."""

    text: str
    results: tuple[_Result, ...] = ()
    action: Action | None = None
    observation: str | None = None


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`ToolFacts` as an object of names."""

    parameters: dict[str, Any]
    read_only: bool


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of a file."""

    suite: str
    split: str
    task_id: str
    source: str
    stop_reason: StopReason
    turns: tuple[_Turn, ...]
    group: str | None = None
    answer: str | None = None
    is_success: bool = False
    task: Task | None = None
    tools: dict[str, _Facts] = {}


_TaskKey = tuple[str, str, str]
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Row)


def write_transcripts(path: Path, episodes: Sequence[Episode]) -> None:
    """Write episodes into a file, in place of what it held.

    Raises:
        ValueError: An episode has not ended, or its end does not fit its turns.

    >>> import tempfile
    >>> from mentor_gym.suites import load_suite
    >>> task = load_suite("math").tasks("test")[0]
    >>> text = f"<answer>{task.answer}</answer>"
    >>> turn = Turn(text, parse_action(text))
    >>> played = Transcript(task, [turn], StopReason.ANSWER, task.answer, True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_transcripts(Path(folder, "transcripts.jsonl"), [Episode(played, "me")])
    ...     (read,) = read_transcripts(Path(folder))
    >>> read.transcript == played, read.transcript.task is task
    (True, True)
    """
    content = _encode(episodes)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def append_transcripts(path: Path, episodes: Sequence[Episode]) -> None:
    """Write episodes behind those that a file holds already; the file is made where there is none.

    Raises:
        ValueError: As for `write_transcripts`; then nothing is written.
    """
    content = _encode(episodes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(content)


def read_transcripts(path: Path) -> list[Episode]:
    """Read the episodes of a file, or of a folder: its `transcripts.jsonl`, or else all of that name beneath it.

    Where there are several files, their groups are told apart by the files' folders.

    Raises:
        DataError: A file cannot be read, holds no row, or a row is broken; names the file, the line and the field.
    """
    files = find_transcripts(path)
    episodes = []
    for file in files:
        prefix = f"{file.parent.relative_to(path)}: " if len(files) > 1 else ""
        episodes += _Reader(file, prefix).read()
    return episodes


def find_transcripts(path: Path) -> list[Path]:
    """Return the files that `read_transcripts` reads, in the order of their names.

    Raises:
        DataError: There are none, or the file is one of another kind.
    """
    if path.name in _NOT_TRANSCRIPTS:
        raise DataError(f"{path}: {_NOT_TRANSCRIPTS[path.name]}; rewards need a {TRANSCRIPTS}")
    if not path.is_dir():
        return [path]
    own = path / TRANSCRIPTS
    found = [own] if own.is_file() else sorted(path.rglob(TRANSCRIPTS))
    if found:
        return found
    for name, reason in _NOT_TRANSCRIPTS.items():
        for other in (path / name, *sorted(path.rglob(name))):
            if other.is_file():
                raise DataError(f"{path}: no {TRANSCRIPTS} in it or beneath it; {other} {reason}")
    raise DataError(f"{path}: no {TRANSCRIPTS} in it or beneath it")


class _Reader:
    """Reads one file.

    Args:
        path: The file.
        prefix: Put before the names of groups.
    """

    def __init__(self, path: Path, prefix: str) -> None:
        self.path = path
        self.prefix = prefix
        # Tasks that stand in the file, and facts by the tools on offer: shared by the episodes that have the same.
        self._inline: dict[_TaskKey, tuple[Task, Mapping[str, ToolFacts]]] = {}
        self._facts: dict[tuple[str, ...], dict[str, ToolFacts]] = {}
        self._groups: dict[str, tuple[int, _Row]] = {}

    def read(self) -> list[Episode]:
        """Return the file's episodes.

        Raises:
            DataError: As for `read_transcripts`.
        """
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}") from None
        episodes = [self._episode(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
        if not episodes:
            raise DataError(f"{self.path}: holds no episodes")
        return episodes

    def _episode(self, number: int, line: bytes) -> Episode:
        where = f"{self.path}, line {number}"
        try:
            row = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(f"{where}: {_name_field(str(error))}") from None
        task, tools = self._task(row, where)
        turns = [_read_turn(turn) for turn in row.turns]
        transcript = Transcript(task, turns, row.stop_reason, row.answer, row.is_success, tools)
        problem = _find_problem(transcript)
        if problem is not None:
            raise DataError(f"{where}: {problem}")
        if row.group is None:
            return Episode(transcript, row.source)
        first, other = self._groups.setdefault(row.group, (number, row))
        for field in ("suite", "split", "task_id", "source"):
            here, there = getattr(row, field), getattr(other, field)
            if here != there:
                raise DataError(
                    f'{where}: field "group": in group {row.group!r}, {field} is {here!r} here and {there!r} in '
                    f"line {first}; a group is one task, played by one policy"
                )
        return Episode(transcript, row.source, self.prefix + row.group)

    def _task(self, row: _Row, where: str) -> tuple[Task, Mapping[str, ToolFacts]]:
        key = (row.suite, row.split, row.task_id)
        if row.task is not None:
            self._check_inline(row, row.task, where)
            task = row.task
            known = self._inline.get(key)
            if known is not None and known[0] == task:
                # The same object: rewards remember teachers by it.
                task = known[0]
            facts = {name: ToolFacts(one.parameters, one.read_only) for name, one in row.tools.items()}
            self._inline[key] = (task, facts)
        elif row.tools:
            raise DataError(f'{where}: field "tools": only a row with a task of its own has facts about its tools')
        elif key not in self._inline:
            return self._shipped(row, where)
        return self._inline[key]

    def _check_inline(self, row: _Row, task: Task, where: str) -> None:
        if task.id != row.task_id:
            raise DataError(f'{where}: field "task.id": expected {row.task_id!r}, got {task.id!r}')
        offered: dict[str, Any] = dict.fromkeys(_tool_names(task))
        check_row(task, f"{where}, in task", row.suite, row.split, offered)
        for name in row.tools:
            if name not in offered:
                raise DataError(f'{where}: field "tools": the task offers no tool {name!r}')

    def _shipped(self, row: _Row, where: str) -> tuple[Task, Mapping[str, ToolFacts]]:
        if not is_suite_name(row.suite):
            raise DataError(
                f'{where}: field "suite": {row.suite!r} is no shipped suite, and no row up to here holds the task '
                f"{row.task_id!r}"
            )
        suite = load_suite(row.suite)
        try:
            tasks = suite.tasks(row.split)
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f'{where}: field "split": {error}') from None
        if row.task_id not in tasks:
            raise DataError(
                f'{where}: field "task_id": suite {row.suite!r} has no task {row.task_id!r} in split {row.split!r}'
            )
        task = tasks[row.task_id]
        return task, self._facts_of(suite, task)

    def _facts_of(self, suite: Suite, task: Task) -> Mapping[str, ToolFacts]:
        """Return what the environment would have said of the offered tools."""
        names = _tool_names(task)
        if any(not isinstance(entry, str) for entry in task.tools):
            return _make_facts(suite, task)
        key = (suite.name, *names)
        if key not in self._facts:
            self._facts[key] = _make_facts(suite, task)
        return self._facts[key]


def _make_facts(suite: Suite, task: Task) -> dict[str, ToolFacts]:
    box = suite.box
    facts = {}
    for name, entry in zip(_tool_names(task), task.tools):
        schema = box.tools[name].schema if isinstance(entry, str) else entry
        facts[name] = ToolFacts(schema["function"].get("parameters") or {}, box.is_read_only(name))
    return facts


def _tool_names(task: Task) -> list[str]:
    """Return the names of the offered tools; a schema without one counts as nameless, for others to refuse."""
    names = []
    for entry in task.tools:
        if isinstance(entry, str):
            names.append(entry)
        else:
            function = entry.get("function")
            names.append(str(function.get("name", "")) if isinstance(function, dict) else "")
    return names


def _read_turn(turn: _Turn) -> Turn:
    action = parse_action(turn.text) if turn.action is None else turn.action
    results = tuple(ToolResult(result.error is None, result.output, result.error) for result in turn.results)
    observation = render_results(results) if turn.observation is None else turn.observation
    return Turn(turn.text, action, results, observation)


def _write_turn(turn: Turn) -> _Turn:
    return _Turn(
        turn.text,
        tuple(_Result(result.output, result.error) for result in turn.results),
        None if turn.action == parse_action(turn.text) else turn.action,
        None if turn.observation == render_results(turn.results) else turn.observation,
    )


def _find_problem(transcript: Transcript) -> str | None:
    """Say what no environment would have recorded; None when all is well."""
    reason, turns = transcript.stop_reason, transcript.turns
    if reason is None:
        return 'field "stop_reason": the episode has not ended'
    if not turns:
        return 'field "turns": an episode that has ended has at least one turn'
    for position, turn in enumerate(turns):
        action, field = turn.action, f'field "turns[{position}]'
        if len(turn.results) != len(action.calls):
            return f'{field}.results": expected one per call, {len(action.calls)}, got {len(turn.results)}'
        for place, result in enumerate(turn.results):
            if result.ok is not (result.error is None):
                return f'{field}.results[{place}]": ok and error contradict each other'
        if position < len(turns) - 1 and not action.calls and (action.answer or not action.error):
            return f'{field}": a turn without a call, after which the episode cannot have gone on'
    last = turns[-1].action
    if reason is StopReason.ANSWER:
        if not transcript.answer:
            return 'field "answer": stop_reason is answer, but there is none'
        if transcript.answer != last.answer:
            return f'field "answer": {transcript.answer!r}, but the last turn answers {last.answer!r}'
        return None
    if transcript.answer is not None:
        return f'field "answer": given, but stop_reason is {reason}'
    if transcript.is_success:
        return f'field "is_success": true, but stop_reason is {reason}'
    if reason is StopReason.NO_ANSWER:
        ended = not (last.calls or last.answer or last.error)
    elif reason is StopReason.TURN_LIMIT:
        ended = bool(last.calls or last.error)
    else:
        # Cut off in the middle of the turn: nothing of it was read.
        ended = last == Action()
    return None if ended else f'field "stop_reason": {reason} does not fit the last turn'


def _encode(episodes: Sequence[Episode]) -> bytes:
    written: dict[_TaskKey, Task] = {}
    lines = []
    for number, episode in enumerate(episodes):
        transcript = episode.transcript
        problem = _find_problem(transcript)
        if problem is not None:
            raise ValueError(f"episode {number}, of task {transcript.task.id!r}: {problem}")
        task = transcript.task
        key = (task.suite, task.split, task.id)
        is_inline = written.get(key) != task and not _is_shipped(task)
        if is_inline:
            written[key] = task
        facts = transcript.tools.items() if is_inline else ()
        assert transcript.stop_reason is not None  # or it had been a problem
        row = _Row(
            suite=task.suite,
            split=task.split,
            task_id=task.id,
            source=episode.source,
            stop_reason=transcript.stop_reason,
            turns=tuple(map(_write_turn, transcript.turns)),
            group=episode.group,
            answer=transcript.answer,
            is_success=transcript.is_success,
            task=task if is_inline else None,
            tools={name: _Facts(fact.parameters, fact.read_only) for name, fact in facts},
        )
        lines.append(_encoder.encode(row) + b"\n")
    return b"".join(lines)


def _is_shipped(task: Task) -> bool:
    """Whether a reader finds the very same task by its suite's name; a user's suite may have a shipped one's."""
    if not is_suite_name(task.suite):
        return False
    try:
        found = load_suite(task.suite).tasks(task.split)[task.id]
    except (ValueError, KeyError, ImportError):
        return False
    return found is task or found == task


def _name_field(message: str) -> str:
    what, separator, where = message.partition(" - at `$.")
    if separator:
        return f'field "{where}": {what[0].lower()}{what[1:]}'.replace("`", "")
    return name_field(message, _Row, "an episode")
