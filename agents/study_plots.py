"""The figures of a study: dose and response on every axis, and what happened while the arms were trained.

All are drawn from gathered results with their `summary`. Colours, markers and line styles are those of
`agents.plots`, so that an arm looks the same everywhere.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from PIL import Image

from agents.plots import THEMES, get_style, paint, png, smooth
from agents.study_plan import BASE, TRAINING_MEASURES
from agents.study_statistics import SHARES, WINDOW, Study

# What a measure is called in figures and tables.
NAMES = {
    "sampled": "success, sampled",
    "greedy": "success, greedy",
    "sampled_any": "success in any sample",
    "tool_use": "episodes with a tool call, sampled",
    "greedy_tool_use": "episodes with a tool call, greedy",
    "tool_f1": "tool F1, sampled",
    "greedy_tool_f1": "tool F1, greedy",
    "similarity": "similarity to the teacher's tool use, sampled",
    "greedy_similarity": "similarity to the teacher's tool use, greedy",
    "task_similarity": "similarity of tool use, task by task",
    "calls": "calls an episode, sampled",
    "invalid": "invalid calls, sampled",
    "zero_variance": "groups without learning signal",
    "zero_variance_early": "groups without learning signal, first third",
    "tokens_to_threshold": "tokens to the threshold",
    "train_success": "success on training tasks at the end",
    "kl": "divergence from the base in training",
}
_POINTS = 80  # of a learning curve
_MOST_PANELS = 8


def plot_axis(results: Mapping[str, Any], axis: Mapping[str, Any], dark: bool = False) -> bytes:
    """Draw the dose and response of one axis: a panel for each measure, the mean of every arm at every level.

    Bars are 95 % intervals. Marks of one level stand side by side so that none hides another. An axis of one level
    has no dose: its arms stand below each other.

    Args:
        results: Results with their `summary`.
        axis: One of the study's axes.
        dark: Draw for a dark page.

    Returns:
        A PNG.
    """
    study, theme = Study(results), THEMES[dark]
    panels = list_panels(study, axis)
    arms = [arm for arm in [BASE, *study.arms] if any(_cell(results, arm, axis, panel) for panel in panels)]
    columns = min(2, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    draw, height = (_draw_levels, 3.5) if len(axis["levels"]) > 1 else (_draw_arms, 0.9 + 0.26 * len(arms))
    legend = 0.25 * math.ceil(len(arms) / (1 + 2 * columns)) if draw is _draw_levels else 0.0
    size = (6.2 * columns, height * rows + legend)
    figure = Figure(figsize=size, layout="constrained", facecolor=theme["face"])
    plots = figure.subplots(rows, columns, squeeze=False).flatten()
    for plot, (measure, split) in zip(plots, panels):
        found = {arm: _cell(results, arm, axis, (measure, split)) for arm in arms}
        unit = ", %" if measure in SHARES else ", thousands" if measure == "tokens_to_threshold" else ""
        title = NAMES[measure] + (f" on {split}" if split else "") + unit
        plot.set_title(title[0].upper() + title[1:], fontsize=10.5, color=theme["ink"], loc="left")
        paint(plot, theme)
        draw(plot, axis, measure, found, theme)
    for plot in plots[len(panels) :]:
        plot.set_axis_off()
    if draw is _draw_levels and arms:
        # Names at the ends of lines would need leaders, and those look like trends.
        handles = [_make_handle(arm, theme) for arm in arms]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=1 + 2 * columns, frameon=False,
            labelcolor=theme["ink"], handlelength=3, fontsize=9,
        )  # fmt: skip
    return shrink(png(figure))


_Found = Sequence[tuple[int, Mapping[str, float]]]


def _draw_levels(
    plot: Any, axis: Mapping[str, Any], measure: str, found: Mapping[str, _Found], theme: Mapping[str, str]
) -> None:
    """Draw the levels of an axis from left to right, and in each of them the arms."""
    places = np.array([float(level["value"]) for level in axis["levels"]])
    step = float(np.diff(np.unique(places)).min()) if len(np.unique(places)) > 1 else 1.0
    for order, (arm, cells) in enumerate(found.items()):
        if not cells:
            continue
        _, colour, marker, line = get_style(arm)
        shift = step * 0.62 * ((order + 0.5) / len(found) - 0.5)
        x = np.array([places[index] + shift for index, _ in cells])
        mean, errors = _scale(measure, cells)
        plot.plot(x, mean, color=colour, linestyle=line, linewidth=1.1, alpha=0.75, zorder=2)
        plot.errorbar(
            x, mean, yerr=errors, color=colour, marker=marker, markersize=6, markeredgecolor=theme["face"],
            markeredgewidth=0.6, linestyle="none", elinewidth=1.5, capsize=2.5, zorder=3,
        )  # fmt: skip
    plot.set_xticks(places, [level["label"] for level in axis["levels"]])
    plot.set_xlim(places.min() - 0.42 * step, places.max() + 0.42 * step)
    if measure in SHARES:
        # The whole range, so that a small difference looks small.
        plot.set_ylim(-2, 102)
    plot.grid(visible=False, axis="x")
    for between in (places[1:] + places[:-1]) / 2:
        plot.axvline(between, color=theme["grid"], linewidth=0.7, zorder=0)


def _draw_arms(
    plot: Any, axis: Mapping[str, Any], measure: str, found: Mapping[str, _Found], theme: Mapping[str, str]
) -> None:
    """Draw the arms of the one level of an axis below each other, each beside its name."""
    for order, (arm, cells) in enumerate(found.items()):
        if not cells:
            continue
        _, colour, marker, _ = get_style(arm)
        mean, errors = _scale(measure, cells)
        plot.errorbar(
            mean, [order], xerr=errors, color=colour, marker=marker, markersize=6, markeredgecolor=theme["face"],
            markeredgewidth=0.6, linestyle="none", elinewidth=1.5, capsize=2.5, zorder=3,
        )  # fmt: skip
    plot.set_yticks(range(len(found)), [get_style(arm)[0] for arm in found])
    plot.set_ylim(len(found) - 0.5, -0.5)
    if measure in SHARES:
        plot.set_xlim(-2, 102)
    plot.grid(visible=False, axis="y")


def _scale(measure: str, cells: _Found) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return means, [N], and how far their intervals reach below and above them, in the unit that is shown."""
    factor = 100 if measure in SHARES else 0.001 if measure == "tokens_to_threshold" else 1
    mean, low, high = (factor * np.array([cell[key] for _, cell in cells]) for key in ("mean", "low", "high"))
    return mean, [np.maximum(mean - low, 0), np.maximum(high - mean, 0)]


def _make_handle(arm: str, theme: Mapping[str, str]) -> Line2D:
    label, colour, marker, line = get_style(arm)
    return Line2D(
        [], [], color=colour, marker=marker, linestyle=line, linewidth=1.1, markersize=6, label=label,
        markeredgecolor=theme["face"], markeredgewidth=0.6,
    )  # fmt: skip


def list_panels(study: Study, axis: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return measure and split of what is shown of an axis: what its hypotheses name, then success.

    Success is shown on the splits that all levels are measured on: on others there is no dose and response.
    """
    asked = [(one["measure"], one["split"]) for one in study.settings["hypotheses"] if one["axis"] == axis["name"]]
    measured = [study.labels(level["condition"]) for level in axis["levels"]]
    labels = [label for label in (measured or [[]])[0] if all(label in known for known in measured)]
    return list(dict.fromkeys([*asked, *(("sampled", label) for label in labels)]))[:_MOST_PANELS]


def _cell(
    results: Mapping[str, Any], arm: str, axis: Mapping[str, Any], panel: tuple[str, str]
) -> list[tuple[int, Mapping[str, float]]]:
    """Return the levels of an axis at which an arm has a figure, and the figures."""
    measure, split = panel
    found = []
    for index, level in enumerate(axis["levels"]):
        for row in results["summary"]["training" if measure in TRAINING_MEASURES else "cells"]:
            if (row["condition"], row["arm"]) != (level["condition"], arm):
                continue
            if measure in TRAINING_MEASURES and measure in row:
                found.append((index, row[measure]))
            elif (row.get("split"), row.get("measure")) == (split, measure):
                found.append((index, row))
    return found


def plot_curves(results: Mapping[str, Any], metric: str, conditions: Sequence[str], dark: bool = False) -> bytes:
    """Draw one metric of training against the tokens sampled so far, a panel for each condition.

    Lines are means over seeds, bands span the smallest and largest seed; both averaged over five steps.

    Args:
        results: Gathered results.
        metric: Column of the curves.
        conditions: The conditions to show.
        dark: Draw for a dark page.

    Returns:
        A PNG.
    """
    study, theme = Study(results), THEMES[dark]
    columns = min(2, max(1, len(conditions)))
    rows = max(1, math.ceil(len(conditions) / columns))
    figure = Figure(figsize=(6.2 * columns, 3.1 * rows), layout="constrained", facecolor=theme["face"])
    plots = figure.subplots(rows, columns, squeeze=False).flatten()
    for plot, condition in zip(plots, conditions):
        ends = []
        for arm in study.arms_of(condition):
            curves = [run["training"]["curve"] for run in study.runs(condition, arm)]
            tokens, values = line_up(curves, metric)
            if not len(tokens):
                continue
            label, colour, _, line = get_style(arm)
            plot.fill_between(tokens, values.min(0), values.max(0), color=colour, alpha=0.1, linewidth=0)
            plot.plot(tokens, values.mean(0), color=colour, linestyle=line, linewidth=1.6)
            ends.append((float(tokens[-1]), float(values[:, -1].mean()), label, colour))
        if metric == "success":
            threshold = study.settings["threshold"]
            plot.axhline(threshold, color=theme["ink"], linestyle=(0, (1, 3)), linewidth=1)
        plot.set_title(condition, fontsize=10.5, color=theme["ink"], loc="left")
        plot.set_xlabel("sampled tokens")
        plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value else "0"))
        plot.set_xlim(left=0)
        plot.set_ylim(-0.02, 1.02)
        paint(plot, theme)
        name_lines(plot, ends, theme)
    for plot in plots[len(conditions) :]:
        plot.set_axis_off()
    return shrink(png(figure))


def line_up(curves: Sequence[Mapping[str, Any]], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Bring the curves of several seeds, whose steps sampled different numbers of tokens, onto common points.

    Args:
        curves: Columns, with `tokens` summed up from the start.
        metric: The column; values that are missing are left out.

    Returns:
        Tokens, [N], up to the end of the shortest curve; and values averaged over five steps, [S, N]. Both are
        empty when a curve has none.
    """
    known = []
    for curve in curves:
        pairs = [
            (tokens, value) for tokens, value in zip(curve["tokens"], curve.get(metric, ())) if value is not None
        ]
        if not pairs:
            return np.array([]), np.array([])
        tokens, values = zip(*pairs)
        known.append((np.array(tokens, dtype=float), smooth(values, WINDOW)))
    if not known:
        return np.array([]), np.array([])
    start, end = max(tokens[0] for tokens, _ in known), min(tokens[-1] for tokens, _ in known)
    points = np.linspace(start, max(start, end), _POINTS)
    return points, np.array([np.interp(points, tokens, values) for tokens, values in known])


def shrink(picture: bytes) -> bytes:
    """Reduce a PNG to 256 colours: a third of the size, and no visible difference.

    By octree: the median cut gives few entries to what covers little, so that a rare arm got another one's colour.
    """
    small = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        reduced = image.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        reduced.save(small, format="png", optimize=True)
    return small.getvalue()


def name_lines(plot: Any, ends: Sequence[tuple[float, float, str, str]], theme: Mapping[str, str]) -> None:
    """Write the name of each line behind its end, in its colour, moved up or down so that none covers another.

    Args:
        plot: The axes, with their limits set.
        ends: For each line x and y of its end, name and colour.
        theme: Colours of the page.
    """
    low, high = plot.get_ylim()
    heights = spread_out([(y - low) / (high - low) for _, y, _, _ in ends], 0.075, most=1.0)
    to_axes = plot.transData + plot.transAxes.inverted()
    for (x, y, label, colour), height in zip(ends, heights):
        end = to_axes.transform((x, y))
        plot.annotate(
            label, xy=tuple(end), xycoords="axes fraction", xytext=(1.03, height), textcoords="axes fraction",
            color=theme["ink"], fontsize=8.5, va="center", annotation_clip=False,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "none", "edgecolor": "none"},
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip


def spread_out(heights: Sequence[float], gap: float, most: float = math.inf) -> list[float]:
    """Move numbers apart until neighbours are at least `gap` from each other, in their order, around their places.

    None ends above `most`; those below make room.

    >>> [round(height, 3) for height in spread_out([0.5, 0.5, 0.9], 0.1)]
    [0.45, 0.55, 0.9]
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    # Blocks of neighbours that touch: each stands where the mean of its members' wishes puts it.
    blocks: list[list[int]] = []
    for index in order:
        blocks.append([index])
        while len(blocks) > 1 and _top(blocks[-2], heights, gap) + gap > _bottom(blocks[-1], heights, gap):
            last = blocks.pop()
            blocks[-1] += last
    placed = [0.0] * len(heights)
    for block in blocks:
        bottom = _bottom(block, heights, gap)
        for place, index in enumerate(block):
            placed[index] = bottom + place * gap
    for index in reversed(order):
        placed[index] = min(placed[index], most)
        most = placed[index] - gap
    return placed


def _bottom(block: Sequence[int], heights: Sequence[float], gap: float) -> float:
    return sum(heights[index] for index in block) / len(block) - gap * (len(block) - 1) / 2


def _top(block: Sequence[int], heights: Sequence[float], gap: float) -> float:
    return _bottom(block, heights, gap) + gap * (len(block) - 1)
