"""A comparison of rewards as files: one self-contained HTML page, and CSV tables."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from mentor_gym.comparing import Comparison, Example, Pair
from mentor_gym.html import details, escape, note, page, table
from mentor_gym.protocol import render_call
from mentor_gym.rewards.matching import teacher_calls
from mentor_gym.types import Transcript, Turn

_FIGURES_NOTE = (
    "Right and wrong: mean reward of episodes with and without a right answer. ρ: Spearman's rank correlation "
    "with success. AUC: probability that a right episode earns more than a wrong one, ties counted as half. No "
    "signal: share of groups whose episodes all earn the same, so that GRPO learns nothing from them. Misleading: "
    "of the groups with right and wrong episodes, the share in which a wrong one earns more than every right one. "
    "Groups are samples of one task by one policy."
)
_RHO_NOTE = (
    "1 is the same order of episodes, 0 none in common, −1 the reverse. Equal rewards share the mean of their "
    "ranks. A dash: one of the two pays every episode the same. The last row is the environment's verdict, right "
    "or wrong."
)
_PAIRS_NOTE = (
    "Pairs of rewards whose orders agree little, no reward twice while others are left, and the episodes whose "
    "places in the two orders differ most, in either direction. Places are percentiles among all episodes, from "
    "0, paid worst, to 100; episodes that are paid the same share one. Rewards from different papers have "
    "different scales: compare places, not amounts."
)
_CSS = """
.figures td,.rho td{text-align:right;padding:.35rem .55rem}
.rho td{min-width:2.9rem}.rho thead th{writing-mode:vertical-rl;transform:rotate(180deg);padding:.3rem .45rem}
.rho thead th:first-child{writing-mode:initial;transform:none}
.figures thead th:not(:first-child){text-align:right;padding-left:.55rem;padding-right:.55rem}
.beside{grid-template-columns:repeat(2,minmax(0,1fr))}
.episode>code,.episode>p{display:block;margin:.25rem 0;overflow-wrap:anywhere;white-space:pre-wrap}
.episode details code{display:block;margin:.25rem 0;overflow-wrap:anywhere;white-space:pre-wrap}
.episode .result{margin-left:.9rem}
@media (max-width:48rem){.beside{grid-template-columns:1fr}}
"""
# Column heads of the table of figures, and the attributes of `Figures` that stand below them.
COLUMNS = {
    "mean": "mean",
    "std": "std",
    "min": "low",
    "max": "high",
    "right": "mean_right",
    "wrong": "mean_wrong",
    "ρ": "rho",
    "AUC": "auc",
    "no signal": "zero_variance",
    "misleading": "misleading",
}
SHARES = ("zero_variance", "misleading")


def summarise(comparison: Comparison) -> str:
    """Say in one sentence what was compared.

    >>> from mentor_gym.comparing import compare
    >>> from mentor_gym.data import data_path
    >>> from mentor_gym.rewards import make_reward
    >>> from mentor_gym.transcripts import read_transcripts
    >>> episodes = read_transcripts(data_path("transcripts", "math-1000.jsonl"))
    >>> summarise(compare(episodes, {"sparse": make_reward("sparse")}))[:46]
    '1,000 episodes of 216 tasks, 32% of them right'
    """
    sources = ", ".join(f"{name} {count:,}" for name, count in comparison.sources.items())
    return (
        f"{len(comparison.episodes):,} episodes of {comparison.tasks:,} tasks, {comparison.success:.0%} of them "
        f"right, played by {sources}; {comparison.groups:,} groups, {comparison.mixed_groups:,} of them with "
        "right and wrong episodes"
    )


def format_figure(value: float, attribute: str) -> str:
    """Write a figure of `Figures`: shares in percent, all else with two digits, NaN as a dash.

    >>> format_figure(0.25, "misleading"), format_figure(0.25, "mean"), format_figure(float("nan"), "auc")
    ('25%', '0.25', '–')
    """
    if math.isnan(value):
        return "–"
    return f"{value:.0%}" if attribute in SHARES else f"{value:.2f}"


def write_page(comparison: Comparison, title: str = "Rewards compared") -> str:
    """Write the page: figures, rank correlations, and the episodes on which rewards disagree.

    Args:
        comparison: What `mentor_gym.comparing.compare` found.
        title: Of the page.

    Returns:
        A complete HTML document without references to anything outside it.
    """
    sections = {
        "Figures": _figures(comparison) + note(_FIGURES_NOTE),
        "Rank correlations": _correlations(comparison) + note(_RHO_NOTE),
    }
    if comparison.scores.broken:
        sections["Rewards that broke"] = _broken(comparison)
    if comparison.pairs:
        pairs = "\n".join(_pair(comparison, pair) for pair in comparison.pairs)
        sections["Where rewards disagree most"] = note(_PAIRS_NOTE) + pairs
    return page(title, summarise(comparison) + ".", sections, css=_CSS)


def write_scores(comparison: Comparison, path: Path) -> None:
    """Write what every reward pays for every episode as CSV, an empty field where a reward broke."""
    heads = ["row", "suite", "split", "task_id", "group", "source", "stop_reason", "is_success"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*heads, *comparison.scores.names])
        for position, episode in enumerate(comparison.episodes):
            transcript = episode.transcript
            task = transcript.task
            writer.writerow(
                [
                    position,
                    task.suite,
                    task.split,
                    task.id,
                    episode.group or "",
                    episode.source,
                    transcript.stop_reason,
                    int(transcript.is_success),
                    *map(_csv_number, comparison.scores.totals_RN[:, position].tolist()),
                ]
            )


def write_summary(comparison: Comparison, path: Path) -> None:
    """Write the figures of every reward and its rank correlations as CSV, an empty field for NaN."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        others = [f"spearman:{name}" for name in comparison.names]
        writer.writerow(["reward", *COLUMNS.values(), "broken", *others])
        for figures, rho_M in zip(comparison.figures, comparison.rho_MM.tolist()):
            values = [_csv_number(getattr(figures, attribute)) for attribute in COLUMNS.values()]
            writer.writerow([figures.name, *values, figures.broken, *map(_csv_number, rho_M)])


def _csv_number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def _figures(comparison: Comparison) -> str:
    rows = [
        (
            escape(figures.name),
            [format_figure(getattr(figures, attribute), attribute) for attribute in COLUMNS.values()],
        )
        for figures in comparison.figures
    ]
    return table(["reward", *map(escape, COLUMNS)], rows, "figures")


def _correlations(comparison: Comparison) -> str:
    rows = [
        (escape(name), [_cell(rho) for rho in rho_M])
        for name, rho_M in zip(comparison.names, comparison.rho_MM.tolist())
    ]
    return table(["", *map(escape, comparison.names)], rows, "rho")


def _cell(rho: float) -> str:
    if math.isnan(rho):
        return "<td>–</td>"
    # A wash over the page's own face: the ink stays readable, in light and in dark. Cubed, to part high ones.
    colour = "31,111,235" if rho >= 0 else "219,88,12"
    return f'<td style="background:rgba({colour},{0.55 * abs(rho) ** 3:.2f})">{_signed(rho)}</td>'


def _signed(rho: float) -> str:
    return f"{rho:.2f}".replace("-", "−")


def _broken(comparison: Comparison) -> str:
    rows = []
    for figures in comparison.figures:
        found = [one for one in comparison.scores.broken if one.reward == figures.name]
        if found:
            first = comparison.episodes[found[0].position].transcript.task.id
            rows.append((escape(figures.name), [str(len(found)), escape(first), escape(found[0].error)]))
    return table(["reward", "episodes", "first on task", "error"], rows) + note(
        "They are left out of this reward's figures, and their groups with them."
    )


def _pair(comparison: Comparison, pair: Pair) -> str:
    first, second = map(escape, pair.names)
    shown = "".join(_episode(comparison, pair, example) for example in pair.examples)
    return (
        f"<article><h3>{first} and {second} <small>ρ = {_signed(pair.rho)}</small></h3>"
        f'<div class="beside">{shown or note("Their orders are the same.")}</div></article>'
    )


def _episode(comparison: Comparison, pair: Pair, example: Example) -> str:
    episode = comparison.episodes[example.position]
    transcript = episode.transcript
    task = transcript.task
    higher = pair.names[0] if example.percentiles[0] > example.percentiles[1] else pair.names[1]
    verdict, kind = ("right", "ok") if transcript.is_success else ("not right", "bad")
    paid = "<br>".join(_payment(comparison, name, example, side) for side, name in enumerate(pair.names))
    others = "<br>".join(
        _payment(comparison, name, example) for name in comparison.scores.names if name not in pair.names
    )
    turns = "".join(map(_turn, transcript.turns))
    reason = str(transcript.stop_reason).replace("_", " ")
    return (
        f'<div class="episode"><h4>{escape(higher)} ranks it higher</h4>'
        f"<p>{escape(task.prompt)} <small>Right answer: {escape(task.answer)}</small></p>"
        f'{turns}<p><span class="badge {kind}">{verdict}</span> <small>{escape(task.id)}, row {example.position}, '
        f"played by {escape(episode.source)}, ended by: {escape(reason)}</small></p>"
        f"<p>{paid}</p>"
        + details("The teacher's calls", _teacher(transcript))
        + (details("All other rewards", f"<p>{others}</p>") if others else "")
        + "</div>"
    )


def _payment(comparison: Comparison, name: str, example: Example, side: int | None = None) -> str:
    row = comparison.scores.names.index(name)
    total = float(comparison.scores.totals_RN[row, example.position])
    if math.isnan(total):
        return f"<b>{escape(name)}</b> broke"
    terms = comparison.scores.terms[row][example.position]
    parts = " ".join(f"{escape(term)} {value:+.2f}" for term, value in terms.items())
    place = "" if side is None else f", at {100 * example.percentiles[side]:.0f} of 100"
    return f"<b>{escape(name)} {total:.2f}</b>{place} <small>= {parts}</small>"


def _turn(turn: Turn) -> str:
    results = turn.results
    parts = [f'<code class="call">{escape(turn.text) or "&nbsp;"}</code>']
    for result in results:
        parts.append(f'<code class="result {"ok" if result.ok else "bad"}">→ {escape(result.output)}</code>')
    if not results and turn.observation:
        parts.append(f'<code class="result bad">→ {escape(turn.observation)}</code>')
    return "".join(parts)


def _teacher(transcript: Transcript) -> str:
    calls = [
        f'<code class="call">{escape(render_call(name, arguments))}</code>'
        for name, arguments in teacher_calls(transcript.task)
    ]
    return "".join(calls) or note("The teacher makes none.")
