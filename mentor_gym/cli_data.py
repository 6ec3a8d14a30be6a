"""The commands `mentor-gym data`: rows and files of suites."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mentor_gym import data as data_files
from mentor_gym.console import complain, one_line
from mentor_gym.env import MentorToolEnv
from mentor_gym.grading import grade
from mentor_gym.protocol import render_message
from mentor_gym.suites import EXTRA_SUITES, SUITES, Suite, load_suite

MAX_PROBLEMS_SHOWN = 10
EvaluationOption = Annotated[
    bool, typer.Option("--evaluation-data", help="Take a benchmark's tasks too, which spoil it when trained on.")
]

data_app = typer.Typer(
    help="Check, import, export, count and divide task rows; rebuild and verify the shipped ones."
)


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
    if not chosen:
        # The reasons stand above.
        raise ValueError(f"nothing to rebuild: no tools of {', '.join(suite or ())} can run here")
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

    A call that fails is told, but no problem where the teacher succeeds all the same.

    Examples:
    - `mentor-gym data validate tests/custom_suite/suite.yaml`
    """
    chosen = load_suite(suite)
    failed = False
    for split in chosen.splits:
        problems, warnings = validate_split(suite, split)
        for lines in (problems, [f"warning: {warning}" for warning in warnings]):
            for line in lines[:MAX_PROBLEMS_SHOWN]:
                complain(line)
            if len(lines) > MAX_PROBLEMS_SHOWN:
                complain(f"… and {len(lines) - MAX_PROBLEMS_SHOWN} more")
        failed = failed or bool(problems)
        rows = len(chosen.tasks(split))
        print(f"{chosen.name}/{split}: {rows} rows, {len({p.partition(':')[0] for p in problems})} with problems")
    if failed:
        raise typer.Exit(1)


def validate_split(suite: str, split: str) -> tuple[list[str], list[str]]:
    """Play every teacher trace of a split with the real tools.

    Returns:
        One line per problem, and one per failing call of a teacher that succeeds: such a teacher recovers from
        an error, as a recorded one may.

    >>> validate_split("math", "valid")
    ([], [])
    """
    problems: list[str] = []
    warnings: list[str] = []
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
                lines = warnings if transcript.is_success else problems
                lines.append(f"{task.id}: the teacher's call of {call.name} fails: {one_line(result.output)}")
        if not transcript.is_success:
            ended = transcript.stop_reason or "without an answer"
            problems.append(f"{task.id}: the teacher's trace does not succeed (ends: {ended})")
    env.close()
    return problems, warnings


@data_app.command("import")
def import_(
    format: Annotated[str, typer.Argument(help="mentor, xlam, toolace, hermes, openai or qa.")],
    source: Annotated[Path, typer.Argument(help="The file: JSON, JSON lines, CSV or parquet.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist, or be empty.")],
    name: Annotated[str | None, typer.Option(help="Name of the suite; the folder's by default.")] = None,
    split: Annotated[str, typer.Option(help="Split that the rows become.")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="How many rows to take; all by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draws the rows of --limit; else the first ones.")] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave broken rows out.")] = False,
    grade: Annotated[str | None, typer.Option(help="auto, calls or answer; for toolace, hermes, openai.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Corpus file, for qa.")] = None,
) -> None:
    """Turn a published data set into a suite: recorded tools, teachers that were played, a suite.yaml.

    Examples:
    - `mentor-gym data import xlam xlam_function_calling_60k.json --out xlam --limit 5000 --seed 0`
    """
    from mentor_gym.importers import import_file

    options = {key: value for key, value in {"grade": grade, "corpus": corpus}.items() if value is not None}
    console = Console(stderr=True)
    with Progress(transient=True, console=console, disable=not console.is_terminal) as bar:
        row = bar.add_task("playing teachers", total=None)
        done = import_file(
            format,
            source,
            out,
            name=name,
            split=split,
            limit=limit,
            seed=seed,
            skip_broken=skip_broken,
            progress=lambda made, total: bar.update(row, completed=made, total=total),
            **options,
        )
    for line in done.dropped[:MAX_PROBLEMS_SHOWN]:
        complain(f"left out: {line}")
    if len(done.dropped) > MAX_PROBLEMS_SHOWN:
        complain(f"… and {len(done.dropped) - MAX_PROBLEMS_SHOWN} more")
    for note in done.notes:
        print(note)
    for each, rows in done.rows.items():
        print(f"{done.suite}: {each}: {rows} rows")
    print(f"{done.teachers} with a teacher of at most {done.longest} turns, {len(done.dropped)} left out")


@data_app.command()
def export(
    source: Annotated[str, typer.Argument(help="A suite's name, a suite.yaml, or a .jsonl file of task rows.")],
    out: Annotated[Path, typer.Option(help="A .jsonl file or a folder; must not exist.")],
    format: Annotated[str, typer.Option(help="openai or hf.")] = "openai",
    split: Annotated[list[str] | None, typer.Option(help="A split; may be repeated. All by default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many rows of each split.")] = None,
    evaluation_data: EvaluationOption = False,
) -> None:
    """Write tasks with their teachers for another trainer: OpenAI chat rows, or a folder for `datasets` (hf).

    Examples:
    - `mentor-gym data export shop --format hf --out shop-sft`
    """
    from mentor_gym.exporters import export_file

    done = export_file(format, source, out, split, limit, evaluation_data)
    for each, rows in done.rows.items():
        print(f"{each}: {rows} rows")
    if done.without_teacher:
        complain(f"{done.without_teacher} tasks have no teacher and were left out")
    print("\n".join(map(str, done.files)))


@data_app.command()
def stats(
    source: Annotated[str, typer.Argument(help="A suite's name, a suite.yaml, or a .jsonl file of task rows.")],
    split: Annotated[list[str] | None, typer.Option(help="A split; may be repeated. All by default.")] = None,
) -> None:
    """Show what is in a suite: tools, calls, graders, teachers, lengths, and prompts that splits share.

    Examples:
    - `mentor-gym data stats shop`
    """
    from mentor_gym.curation import read_source
    from mentor_gym.curation import stats as count

    found = count(read_source(source, split))
    heads, rows = found.table()
    table = Table(*heads)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    for warning in found.warnings():
        complain(warning)


@data_app.command("split")
def split_(
    source: Annotated[str, typer.Argument(help="A suite's name, a suite.yaml, or a .jsonl file of task rows.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist, or be empty.")],
    share: Annotated[list[str], typer.Option(help="SPLIT=PART, for example train=0.8; may be repeated.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    by: Annotated[str | None, typer.Option(help="A meta field, or tools: keeps such tasks together.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only rows of this split; may be repeated.")] = None,
    evaluation_data: EvaluationOption = False,
) -> None:
    """Divide rows into splits, by chance but reproducibly.

    Examples:
    - `mentor-gym data split rows.jsonl --share train=0.8 --share valid=0.1 --share test=0.1 --by kind --out parts`
    """
    from mentor_gym.curation import read_source, split_rows

    shares = {}
    for item in share:
        name, _, part = item.partition("=")
        try:
            shares[name] = float(part)
        except ValueError:
            raise ValueError(f"--share {item!r}: expected split=part, for example train=0.8") from None
    made = split_rows(read_source(source, split), out, shares, seed, by, evaluation_data)
    for each, rows in made.items():
        print(f"{out / f'{each}.jsonl'}: {rows} rows")


@data_app.command()
def vary(
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist, or be empty.")],
    split: Annotated[str, typer.Option(help="The split of math whose problems are taken.")] = "train",
    notes: Annotated[float, typer.Option(help="Share of prompts with a note of the answer.")] = 0.0,
    reliability: Annotated[float, typer.Option(help="Share of the notes that are right.")] = 1.0,
    paths: Annotated[float | None, typer.Option(help="Share of tasks that can be done in several ways.")] = None,
    noise: Annotated[float, typer.Option(help="Share of teacher traces that are spoilt.")] = 0.0,
    calls: Annotated[list[int] | None, typer.Option(help="Only problems of so many calls; may repeat.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Only the first so many tasks.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
) -> None:
    """Write a split of `math` in which one thing is turned, as a suite: for controlled studies of rewards.

    Examples:
    - `mentor-gym data vary --notes 0.5 --reliability 0.9 --calls 1 --out runs/notes`

    - `mentor-gym train grpo-sparse suite=runs/notes/suite.yaml eval_every=0`
    """
    from mentor_gym.suites.math_variants import write_variant

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out}: must not exist, or be an empty folder")
    print(write_variant(out, split, rows, calls, notes, reliability, paths, noise, seed))
