"""The demo's figures: learning curves, and similarity to the teacher against success.

Both take finished runs as `agents.demo` writes them and return a PNG. An arm has one colour, marker and line
style in every figure; the colours are Okabe and Ito's, which stay apart for colour-blind readers.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")  # Worker machines have no display.

from matplotlib.figure import Figure

from mentor_gym.html import escape

# Arm -> (label, colour, marker, line style).
STYLES: dict[str, tuple[str, str, str, str]] = {
    "base": ("Base", "#8C8C8C", "o", ":"),
    "sft": ("SFT", "#E69F00", "s", "-."),
    "grpo-sparse": ("GRPO sparse", "#56B4E9", "^", "--"),
    "grpo-mentor": ("GRPO MENTOR", "#D55E00", "D", "-"),
    "grpo-strict": ("GRPO strict", "#009E73", "v", (0, (5, 1, 1, 1))),  # type: ignore[dict-item]
}
# The arms of a study. Pairs that differ little have related colours, and each its own marker.
STUDY_STYLES: dict[str, tuple[str, str, str, Any]] = {
    "sft": ("SFT", "#E69F00", "s", "-."),
    "sft-kl": ("SFT with KL", "#A6761D", "p", "-."),
    "sparse": ("Sparse", "#56B4E9", "^", "--"),
    "mentor": ("MENTOR", "#D55E00", "D", "-"),
    "mentor-f1": ("MENTOR, F1", "#CC79A7", "d", "-"),
    "step-aligned": ("Step-aligned", "#8A6FD1", "P", ":"),
    "step-aligned-end": ("Step-aligned, end", "#7A8B2F", "h", ":"),
    "strict": ("Strict", "#009E73", "v", (0, (5, 1, 1, 1))),
    "toolrl": ("ToolRL", "#1F77C9", "X", "--"),
}
# For arms that are neither the demo's nor the shipped study's own.
_SPARE = ("#CC79A7", "#0072B2", "#F0E442")

# Metric of `metrics.jsonl` -> panel title.
PANELS = {
    "success": "Success on training tasks (sampled)",
    "valid/success": "Success on validation tasks",
    "tool_f1": "Tool F1 on training tasks (sampled)",
    "zero_variance": "Groups without learning signal",
}
# Training figures come from a handful of tasks a step; validation figures do not need smoothing.
SMOOTHING = 5

THEMES = {
    False: {"face": "#FFFFFF", "ink": "#1F2328", "grid": "#D9DEE3"},
    True: {"face": "#171B21", "ink": "#E3E8EE", "grid": "#38414B"},
}


def get_style(arm: str) -> tuple[str, str, str, Any]:
    """Return label, colour, marker and line style of an arm."""
    if arm in STYLES or arm in STUDY_STYLES:
        return STYLES.get(arm) or STUDY_STYLES[arm]
    # Not hash(): that changes from process to process.
    return arm, _SPARE[sum(arm.encode()) % len(_SPARE)], "P", "-"


def arm_name(arm: str) -> str:
    """Write an arm's label for a page, behind a dot in its colour; returns HTML."""
    label, colour, *_ = get_style(arm)
    return f'<span class="dot" style="background:{colour}"></span>{escape(label)}'


def smooth(values: Sequence[float], window: int = SMOOTHING) -> np.ndarray:
    """Average each value with up to `window - 1` before it.

    >>> smooth([0, 1, 2, 3], window=2).tolist()
    [0.0, 0.5, 1.5, 2.5]
    """
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=float))])
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def gather_curve(curves: Sequence[Sequence[dict[str, Any]]], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Line up one metric over seeds.

    Args:
        curves: One list of metrics rows per seed; a row has `step` and may have `metric`.
        metric: The key to read.

    Returns:
        The steps that every seed has, shape `(N,)`, and the values, shape `(seeds, N)`; both empty when no
        seed or no step has the metric.
    """
    series = []
    for curve in curves:
        rows = {row["step"]: row[metric] for row in curve if isinstance(row.get(metric), int | float)}
        series.append({step: float(value) for step, value in rows.items() if math.isfinite(value)})
    shared = sorted(set.intersection(*map(set, series))) if series else []
    return np.array(shared), np.array([[one[step] for step in shared] for one in series])


def plot_curves(runs: Sequence[dict[str, Any]], arms: Sequence[str], dark: bool = False) -> bytes:
    """Draw the learning curves: the mean over seeds as a line, the smallest and largest seed as a band.

    Panels for which no run has figures are left out; so are arms that a metric does not exist for.

    Args:
        runs: Finished runs; `run["training"]["curve"]` holds the rows of `metrics.jsonl`, and `run["validation"]`
            of the base where the curves of validation start.
        arms: Which arms to draw, in the order of the legend.
        dark: Draw for a dark page.

    Returns:
        A PNG.
    """
    data: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for metric in PANELS:
        for arm in arms:
            curves = [run["training"]["curve"] for run in runs if run["arm"] == arm and run.get("training")]
            steps, values = gather_curve(curves, metric)
            if len(steps):
                data.setdefault(metric, {})[arm] = (steps, values)
    theme = THEMES[dark]
    columns = 2 if len(data) > 1 else 1
    rows = max(1, math.ceil(len(data) / columns))
    figure = Figure(figsize=(4.6 * columns, 3.1 * rows + 0.5), layout="constrained", facecolor=theme["face"])
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    handles: dict[str, Any] = {}
    for axis, (metric, by_arm) in zip(axes, data.items()):
        for arm, (steps, values) in by_arm.items():
            label, colour, marker, line = get_style(arm)
            if "/" not in metric:
                values = np.array([smooth(one) for one in values])
            # Markers only where a curve has few points; on a curve of every step they hide the line.
            mark = marker if len(steps) <= 15 else None
            (handles[label],) = axis.plot(
                steps, values.mean(0), color=colour, linestyle=line, marker=mark, markersize=4.5, label=label
            )
            axis.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)
        start = [run["validation"] for run in runs if run["arm"] == "base" and run.get("validation") is not None]
        if metric == "valid/success" and start:
            label, colour, _, line = get_style("base")
            handles[label] = axis.axhline(start[0], color=colour, linestyle=line, linewidth=1.8, label=label)
        axis.set_xlim(left=0)
        axis.set_title(PANELS[metric], fontsize=10.5, color=theme["ink"], loc="left")
        axis.set_xlabel("training step")
        axis.set_ylabel("share")
        axis.set_ylim(-0.02, 1.02)
        paint(axis, theme)
    for axis in axes[len(data) :]:
        axis.set_axis_off()
    if handles:
        labels = [label for label in (get_style(arm)[0] for arm in ("base", *arms)) if label in handles]
        figure.legend(
            [handles[label] for label in labels], labels, loc="outside lower center", ncols=5, frameon=False,
            labelcolor=theme["ink"], handlelength=3,
        )  # fmt: skip
    return png(figure)


def plot_similarity(
    runs: Sequence[dict[str, Any]], arms: Sequence[str], split: str = "test", dark: bool = False
) -> bytes:
    """Draw the paper's figure: how alike student's and teacher's use of tools is, against success.

    Small marks are seeds, large ones the means, the cross spans the smallest and largest seed. All greedy.

    Args:
        runs: Finished runs; `run["splits"][split]["greedy"]` holds `similarity` and `pass@1`.
        arms: Which arms to draw.
        split: The split that is shown.
        dark: Draw for a dark page.

    Returns:
        A PNG.
    """
    theme = THEMES[dark]
    figure = Figure(figsize=(6.4, 4.3), layout="constrained", facecolor=theme["face"])
    axis = figure.subplots()
    for arm in arms:
        results = [run["splits"][split]["greedy"] for run in runs if run["arm"] == arm]
        if not results:
            continue
        label, colour, marker, _ = get_style(arm)
        across = np.array([result["similarity"] for result in results])
        up = np.array([100 * result["pass@1"] for result in results])
        x, y = across.mean(), up.mean()
        if len(results) > 1:
            axis.errorbar(
                x, y, xerr=[[x - across.min()], [across.max() - x]], yerr=[[y - up.min()], [up.max() - y]],
                color=colour, linewidth=1.4, capsize=3, zorder=2,
            )  # fmt: skip
            axis.scatter(across, up, color=colour, marker=marker, s=18, alpha=0.7, linewidths=0, zorder=3)
        axis.scatter(
            x, y, color=colour, marker=marker, s=110, edgecolors=theme["face"], linewidths=1.2, zorder=4,
            label=label,
        )  # fmt: skip
    axis.set_xlabel("similarity to the teacher's tool use (1 − Jensen-Shannon divergence)")
    axis.set_ylabel(f"success on {split}, greedy (%)")
    axis.margins(0.12)
    paint(axis, theme)
    axis.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, labelcolor=theme["ink"],
    )  # fmt: skip
    return png(figure)


def paint(axis: Any, theme: dict[str, str]) -> None:
    """Give a plot the colours of a theme, and no more lines than it needs."""
    axis.set_facecolor(theme["face"])
    axis.grid(color=theme["grid"], linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(colors=theme["ink"], labelsize=9)
    axis.xaxis.label.set_color(theme["ink"])
    axis.yaxis.label.set_color(theme["ink"])
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme["grid"])


def png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    buffer = io.BytesIO()
    # Without metadata the same runs give the same bytes.
    figure.savefig(buffer, format="png", dpi=130, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()
