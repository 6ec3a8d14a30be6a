"""The commands `mentor-gym data`: rows and files of suites."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mentor_gym import data as data_files
from mentor_gym.console import complain, one_line
from mentor_gym.env import MentorToolEnv
from mentor_gym.grading import grade
from mentor_gym.protocol import render_message
from mentor_gym.suites import EXTRA_SUITES, SUITES, Suite, load_suite

MAX_PROBLEMS_SHOWN = 10

data_app = typer.Typer(help="Rebuild the shipped task rows, verify them, validate your own suite.")


@data_app.command()
def rebuild(
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = data_files.REBUILD_SEED,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("envs_data"),
    suite: Annotated[list[str] | None, typer.Option(help="Only this suite; may be repeated.")] = None,
) -> None:
    """Generate the rows of the shipped suites anew, and their manifest.

    Examples:
    - `mentor-gym data rebuild --out my_data --seed 7`
    """
    chosen = [load_suite(name) for name in suite or (*SUITES, *_extra_with_rows())]
    kept: dict[str, Any] = {}
    for item in chosen[:]:
        reason = _why_not(item)
        if reason:
            chosen.remove(item)
            rows = {name: entry for name, entry in _listed(out).items() if name.startswith(f"{item.name}/")}
            kept |= rows
            print(f"{item.name}: {'its rows stay as they are' if rows else 'left out'}: {reason}")
    _refuse_partial(out, [item.name for item in chosen], kept)
    manifest = data_files.rebuild(chosen, out, seed, kept)
    for name, entry in manifest["files"].items():
        if name not in kept:
            print(f"{out / name}: {entry['rows']} rows, sha256 {entry['sha256'][:12]}")


def _extra_with_rows() -> list[str]:
    return [name for name in EXTRA_SUITES if not load_suite(name).evaluation_only]


def _why_not(suite: Suite) -> str | None:
    """Return why the tools of a suite, which its teachers use, cannot run on this machine; None when they can."""
    if suite.name not in EXTRA_SUITES:
        return None
    box = suite.new_box()
    try:
        box.open(None)
        box.close()
    except (ImportError, RuntimeError) as error:
        return one_line(str(error))
    return None


def _listed(folder: Path) -> dict[str, Any]:
    """Return the files of a folder's manifest; none without one."""
    path = folder / "manifest.json"
    files: dict[str, Any] = json.loads(path.read_text())["files"] if path.is_file() else {}
    return files


def _refuse_partial(folder: Path, suites: Sequence[str], kept: Mapping[str, Any]) -> None:
    """Refuse to replace a manifest by one that no longer lists files of other suites."""
    listed = {name.partition("/")[0] for name in _listed(folder) if name not in kept}
    lost = sorted(listed - set(suites))
    if lost:
        path = folder / "manifest.json"
        raise ValueError(f"{path} also lists {', '.join(lost)}; rebuild all suites, or use another --out")


@data_app.command()
def verify(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder with a manifest.json; the shipped data by default.")
    ] = None,
) -> None:
    """Compare data files with the hashes of their manifest.

    Examples:
    - `mentor-gym data verify`
    """
    if folder is not None and not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    problems = data_files.verify(folder)
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)
    print(f"{folder or data_files.data_path()}: all files match the manifest")


@data_app.command()
def validate(suite: Annotated[str, typer.Argument(help="Path of a suite.yaml, or a suite's name.")]) -> None:
    """Check a suite: every row is well formed, its answer passes its grader, its teacher trace succeeds.

    Examples:
    - `mentor-gym data validate tests/custom_suite/suite.yaml`
    """
    chosen = load_suite(suite)
    failed = False
    for split in chosen.splits:
        problems = validate_split(suite, split)
        for problem in problems[:MAX_PROBLEMS_SHOWN]:
            complain(problem)
        if len(problems) > MAX_PROBLEMS_SHOWN:
            complain(f"… and {len(problems) - MAX_PROBLEMS_SHOWN} more")
        failed = failed or bool(problems)
        rows = len(chosen.tasks(split))
        print(f"{chosen.name}/{split}: {rows} rows, {len({p.partition(':')[0] for p in problems})} with problems")
    if failed:
        raise typer.Exit(1)


def validate_split(suite: str, split: str) -> list[str]:
    """Play every teacher trace of a split with the real tools; returns one line per problem.

    >>> validate_split("math", "valid")
    []
    """
    problems = []
    tasks = load_suite(suite).tasks(split)
    traces = [
        [render_message(message) for message in tasks[position].teacher if message["role"] == "assistant"]
        for position in range(len(tasks))
    ]
    env = MentorToolEnv(suite=suite, split=split, max_turns=max(1, *map(len, traces)))
    for position, trace in enumerate(traces):
        task = tasks[position]
        if not grade(task.answer, task.answer, task.grader):
            problems.append(f"{task.id}: the answer {task.answer!r} does not pass its own grader {task.grader}")
        if not trace:
            continue
        env.reset(options={"task_id": task.id})
        transcript = env.transcript
        assert transcript is not None  # reset() made it
        for text in trace:
            if transcript.stop_reason is None:
                env.step(text)
        for call, result in transcript.calls():
            if not result.ok:
                problems.append(f"{task.id}: the teacher's call of {call.name} fails: {one_line(result.output)}")
        if not transcript.is_success:
            ended = transcript.stop_reason or "without an answer"
            problems.append(f"{task.id}: the teacher's trace does not succeed (ends: {ended})")
    env.close()
    return problems
