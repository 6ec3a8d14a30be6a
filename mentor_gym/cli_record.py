"""The command `mentor-gym record`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mentor_gym.console import SuiteOption, TemperatureOption, complain, read_pairs, resumable


def record_command(
    base_url: Annotated[str, typer.Option(help="Address of the endpoint, e.g. http://localhost:8000/v1.")],
    model: Annotated[str, typer.Option(help="The model's name there.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to, or to go on with.")],
    suite: SuiteOption = "math",
    split: Annotated[str | None, typer.Option(help="Split of the suite; its first one by default.")] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="How many tasks; all by default.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Play this task; may be repeated.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only tasks whose meta has this value, as key=value; may be repeated.")
    ] = None,
    tries: Annotated[int, typer.Option("--tries", "-n", min=1, help="Attempts at a task, at most.")] = 1,
    every_try: Annotated[
        bool, typer.Option("--every-try", help="Make all of them, even after a kept one.")
    ] = False,
    keep_correct: Annotated[
        bool, typer.Option("--keep-correct/--keep-all", help="Keep only what the grader accepts.")
    ] = True,
    concurrency: Annotated[int, typer.Option(min=1, help="Episodes at once.")] = 8,
    rate_limit: Annotated[float | None, typer.Option(help="Requests per minute.")] = None,
    max_turns: Annotated[int, typer.Option(min=1, help="Turns after which an episode is cut off.")] = 8,
    temperature: TemperatureOption = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of one turn, at most.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Chooses the tasks; sent too, plus one for every further try.")
    ] = None,
    extra_body: Annotated[str, typer.Option(help="More fields of every request, as a JSON object.")] = "{}",
    system: Annotated[Path | None, typer.Option(help="A file with another system message.")] = None,
    api_key_env: Annotated[str, typer.Option(help="Environment variable that holds the key.")] = "OPENAI_API_KEY",
    timeout: Annotated[float, typer.Option(help="Seconds for one request.")] = 120.0,
    retries: Annotated[int, typer.Option(min=0, help="How often a request is tried again.")] = 5,
    max_failed: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of failed tasks at which the run ends.")
    ] = 0.2,
) -> None:
    """Record teachers: a model behind a chat-completions endpoint plays tasks, and what is correct becomes rows.

    The same command goes on where it was stopped. Exits with 1 when every task that was played failed.

    Examples:
    - `mentor-gym record --base-url http://localhost:8000/v1 --model NAME --suite shop --out runs/shop-teacher`
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from mentor_gym.recording import SYSTEM_PROMPT, Endpoint, Progress, record

    try:
        extra = json.loads(extra_body)
    except ValueError as error:
        raise ValueError(f"--extra-body is not JSON: {error}") from None
    if not isinstance(extra, dict):
        raise ValueError("--extra-body must be a JSON object")
    endpoint = Endpoint(
        base_url,
        model,
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        extra_body=extra,
        api_key_env=api_key_env,
        requests_per_minute=rate_limit,
        retries=retries,
        timeout_s=timeout,
    )
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn())
    console = Console(stderr=True)
    bar = Bar(*columns, console=console, disable=not console.is_terminal)
    row = bar.add_task("record", total=None, figures="")
    finished_before: list[int] = []  # one number, once the recording has begun

    def show(state: Progress) -> None:
        if not finished_before:
            finished_before.append(state.finished)
        faults = sum(state.faults.values())
        figures = f"{state.kept} kept, {state.failed} failed, {faults} faults, {state.completion_tokens:,} tokens"
        bar.update(row, total=state.tasks, completed=state.finished, figures=figures)

    with resumable("the same command goes on"), bar:
        done = record(
            endpoint,
            out,
            suite,
            split,
            tasks=tasks,
            task_ids=task,
            where=read_pairs("--where", where),
            tries=tries,
            every_try=every_try,
            keep_correct=keep_correct,
            concurrency=concurrency,
            max_turns=max_turns,
            system=SYSTEM_PROMPT if system is None else system.read_text(encoding="utf-8"),
            max_failed_share=max_failed,
            progress=show,
        )
    figures = done.progress
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(figures.outcomes.items()))
    print(f"{figures.kept} rows in {done.rows} ({figures.tasks} tasks; attempts: {outcomes or 'none'})")
    if figures.failed:
        complain(f"{figures.failed} tasks failed, and the same command tries them again: {figures.error}")
        if figures.failed == figures.finished - finished_before[0]:
            raise typer.Exit(1)
