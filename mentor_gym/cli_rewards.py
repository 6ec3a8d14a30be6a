"""The commands `mentor-gym rewards`: rewards on finished episodes; `mentor-gym list` lists the presets."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from mentor_gym.comparing import Comparison, Pair
from mentor_gym.comparing import compare as compare_rewards
from mentor_gym.comparing_report import (
    COLUMNS,
    format_figure,
    summarise,
    write_page,
    write_scores,
    write_summary,
)
from mentor_gym.console import complain, one_line
from mentor_gym.data import data_path, read_yaml
from mentor_gym.names import import_attribute
from mentor_gym.rewards import PRESETS, Reward, make_reward
from mentor_gym.transcripts import read_transcripts

ALL = "all"
# Without a terminal: what a file or a pipe is read in.
_WIDTH = 100
_MAX_NAME = 16
_MAX_CALLS = 50

rewards_app = typer.Typer(help="Compare rewards on finished episodes.")


@rewards_app.callback()
def _group() -> None:
    """Compare rewards on finished episodes."""


@rewards_app.command()
def compare(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="A folder that holds transcripts.jsonl, or several beneath it, or such a file; by default 1,000 "
            "episodes that are shipped."
        ),
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            help="A preset, a YAML file with a reward as `reward:` of a training configuration has it, "
            "module:attribute, or all; may be repeated. All presets by default."
        ),
    ] = None,
    pairs: Annotated[int, typer.Option(min=0, help="Show where so many pairs of rewards disagree most.")] = 3,
    examples: Annotated[int, typer.Option(min=1, help="Episodes for each side of such a pair.")] = 1,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="Write every episode's rewards here, the figures beside it in *-summary.csv."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with all of it.")] = None,
) -> None:
    """Score the same episodes by every reward: do right ones earn more, do samples differ, whom does it mislead?

    Rewards that change with the training step are taken as at step 0. Exits with 1 when a reward broke on an
    episode.

    Examples:
    - `mentor-gym rewards compare`

    - `mentor-gym rewards compare runs/mentor-1 --reward mentor --reward my_reward.yaml --html rewards.html`
    """
    for option, file in (("--csv", csv_file), ("--json", json_file), ("--html", html_file)):
        if file is not None and not file.absolute().parent.is_dir():
            raise ValueError(f"{option} {file}: the folder {file.absolute().parent} does not exist")
    rewards = read_rewards(reward or [ALL])
    episodes = read_transcripts(path or data_path("transcripts", "math-1000.jsonl"))
    errors = Console(stderr=True)
    with Progress(transient=True, console=errors, disable=not errors.is_terminal) as bar:
        row = bar.add_task("scoring", total=len(rewards))
        found = compare_rewards(
            episodes, rewards, pairs, examples, lambda done, total: bar.update(row, completed=done)
        )
    print_comparison(found)
    if csv_file is not None:
        write_scores(found, csv_file)
        summary = csv_file.with_name(f"{csv_file.stem}-summary{csv_file.suffix}")
        write_summary(found, summary)
        print(f"written: {csv_file}, {summary}")
    if json_file is not None:
        json_file.write_text(json.dumps(found.as_json(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        print(f"written: {json_file}")
    if html_file is not None:
        html_file.write_text(write_page(found), encoding="utf-8")
        print(f"written: {html_file}")
    if found.scores.broken:
        _complain_of_broken(found)
        raise typer.Exit(1)


def read_rewards(given: Sequence[str]) -> dict[str, Reward]:
    """Build the rewards of the option `--reward`, by the names that tables show.

    Raises:
        ValueError: Something names no reward, or two have the same name.

    >>> list(read_rewards(["sparse", "mentor"]))
    ['sparse', 'mentor']
    """
    rewards: dict[str, Reward] = {}
    names = [name for item in given for name in (PRESETS if item == ALL else [item])]
    for item in names:
        name, reward = _read_reward(item)
        if name in rewards:
            raise ValueError(f"--reward {item!r}: there are two rewards {name!r}")
        rewards[name] = reward
    return rewards


def _read_reward(item: str) -> tuple[str, Reward]:
    if item.endswith((".yaml", ".yml")):
        content, _ = read_yaml(Path(item))
        try:
            return Path(item).stem, make_reward(content)
        except ValueError as error:
            raise ValueError(f"{item}: {error}") from None
    if ":" in item:
        found = import_attribute(item, "reward")
        reward = found() if isinstance(found, type) else found
        if not callable(reward):
            raise ValueError(f"--reward {item!r}: a {type(reward).__name__} is no reward")
        return item.rpartition(":")[2], reward
    return item, make_reward(item)


def print_comparison(comparison: Comparison) -> None:
    """Print the tables: figures, rank correlations, and where rewards disagree."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=_WIDTH)
    console.print(Text(summarise(comparison)))
    console.print()
    console.print(_figures_table(comparison))
    for table in _correlation_tables(comparison, console.width):
        console.print()
        console.print(table)
    if comparison.pairs:
        console.print(_pairs_table(comparison))


def _figures_table(comparison: Comparison) -> Table:
    table = Table(
        title="what each reward pays",
        caption="right, wrong: mean with and without a right answer; ρ: rank correlation with success; AUC: how "
        "often a right episode earns more than a wrong one; no signal: groups in which all earn the same; "
        "misleading: mixed groups in which a wrong episode earns most",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("reward", no_wrap=True, max_width=_MAX_NAME)
    for head in COLUMNS:
        table.add_column(head.replace(" ", "\n"), justify="right", no_wrap=True)
    for number, figures in enumerate(comparison.figures, start=1):
        cells = [format_figure(getattr(figures, attribute), attribute) for attribute in COLUMNS.values()]
        table.add_row(str(number), Text(figures.name), *cells)
    return table


def _correlation_tables(comparison: Comparison, width: int) -> list[Table]:
    """Lay out the lower triangle in hundredths, rewards as numbers: in several tables where it is too wide."""
    size = len(comparison.names)
    # Beside the numbers and names of the rows and the edges, four characters a column.
    room = max(1, (width - _MAX_NAME - 7) // 4)
    tables = []
    for start in range(0, size - 1, room):
        columns = range(start, min(start + room, size - 1))
        table = Table(
            title="rank correlations, in hundredths" if not start else None,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=0,
        )
        table.add_column("", justify="right", no_wrap=True, min_width=2)
        table.add_column("reward", no_wrap=True, max_width=_MAX_NAME)
        for column in columns:
            table.add_column(str(column + 1), justify="right", no_wrap=True, min_width=3)
        for row in range(start + 1, size):
            cells = [_hundredths(comparison.rho_MM[row, column]) if column < row else "" for column in columns]
            number = str(row + 1) if row < size - 1 else ""
            table.add_row(number, Text(comparison.names[row]), *cells)
        tables.append(table)
    return tables


def _hundredths(rho: float) -> Text:
    if math.isnan(rho):
        return Text("–")
    style = "green" if rho >= 0.9 else "" if rho >= 0.5 else "yellow" if rho >= 0 else "bold red"
    return Text(f"{100 * rho:.0f}", style=style)


def _pairs_table(comparison: Comparison) -> Table:
    table = Table(
        title="where rewards disagree most",
        caption="what each pays, and in brackets the episode's place by it, from 0, paid worst, to 100",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("rewards, and ρ", overflow="fold")
    table.add_column("row", justify="right", no_wrap=True)
    table.add_column("first pays", justify="right", no_wrap=True)
    table.add_column("second pays", justify="right", no_wrap=True)
    table.add_column("episode", overflow="fold")
    for pair in comparison.pairs:
        for number, example in enumerate(pair.examples):
            transcript = comparison.episodes[example.position].transcript
            calls = ", ".join(call.name or "?" for call, _ in transcript.calls()) or "no calls"
            end = "right" if transcript.is_success else str(transcript.stop_reason).replace("_", " ")
            end = "wrong" if end == "answer" else end
            table.add_row(
                Text(f"{pair.names[0]}\n{pair.names[1]} ({pair.rho:.2f})" if not number else ""),
                str(example.position),
                *(_paid(comparison, pair, side, example.position, example.percentiles) for side in (0, 1)),
                Text(f"{transcript.task.id}: {end}; {_shorten(calls)}"),
            )
        table.add_section()
    return table


def _paid(comparison: Comparison, pair: Pair, side: int, position: int, percentiles: tuple[float, float]) -> Text:
    row = comparison.scores.names.index(pair.names[side])
    return Text(f"{comparison.scores.totals_RN[row, position]:.2f} ({100 * percentiles[side]:.0f})")


def _shorten(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= _MAX_CALLS else f"{line[: _MAX_CALLS - 2]} …"


def _complain_of_broken(comparison: Comparison) -> None:
    for figures in comparison.figures:
        if figures.broken:
            first = next(one for one in comparison.scores.broken if one.reward == figures.name)
            task = comparison.episodes[first.position].transcript.task
            complain(
                f"reward {figures.name!r} broke on {figures.broken} of {len(comparison.episodes)} episodes, first "
                f"on row {first.position}, task {task.id!r}: {one_line(first.error)}"
            )
