"""What finished runs say: means and ranges over seeds, bootstrapped differences, sentences, terminal tables.

Everything here is a pure function of what the runs wrote. No sentence presumes which arm does best, and which
transcripts are shown was fixed before any run. The page that shows all this is made by `agents.report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np
from rich.table import Table

from agents.plots import get_style

# Key in the summary -> (greedy or sampled, path of the figure in what `evaluate` returned).
_MEASURES: dict[str, tuple[str, ...]] = {
    "greedy": ("greedy", "pass@1"),
    "sampled": ("sampled", "pass@1"),
    "sampled_any": ("sampled", "pass@k"),
    "tool_f1": ("greedy", "tool_f1"),
    "similarity": ("greedy", "similarity"),
    "calls": ("greedy", "calls"),
    "invalid": ("greedy", "invalid_calls", "rate"),
    "turn_limit": ("greedy", "stop_reasons", "turn_limit"),
    "token_limit": ("greedy", "stop_reasons", "token_limit"),
    "no_answer": ("greedy", "stop_reasons", "no_answer"),
}
# Which transcripts are shown: (solved before, solved after), how many, heading. Fixed before any run.
CASES = (
    (False, True, 3, "Not solved before, solved after"),
    (True, True, 1, "Solved before and after"),
    (True, False, 1, "Solved before, not after"),
    (False, False, 2, "Not solved before or after"),
)
# What an arm's training cost, in the order of the table.
BUDGET = ("distinct_tasks", "episodes", "tokens", "cpu_seconds")
RESAMPLES = 4000


def summarise(runs: Sequence[dict[str, Any]], arms: Sequence[str]) -> dict[str, Any]:
    """Compute the mean, the smallest and the largest value over seeds of what was measured.

    Args:
        runs: Finished runs, as `agents.demo` writes them.
        arms: The arms, in the order of the table; those without a run are left out.

    Returns:
        By arm: `seeds`, `splits` (by split and measure, what `spread` returns), and `training` with `tokens`,
        `cpu_seconds`, `distinct_tasks` and `episodes`, None for an arm without training.
    """
    summary: dict[str, Any] = {}
    for arm in arms:
        own = [run for run in runs if run["arm"] == arm]
        if not own:
            continue
        splits: dict[str, Any] = {}
        for split in own[0]["splits"]:
            results = [run["splits"][split] for run in own]
            splits[split] = {
                measure: spread(reduce(getitem, path, result) for result in results)
                for measure, path in _MEASURES.items()
            }
        trained = [run["training"] for run in own if run["training"]]
        training = {key: spread(one[key] for one in trained) for key in BUDGET if trained}
        summary[arm] = {"seeds": [run["seed"] for run in own], "splits": splits, "training": training or None}
    return summary


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return mean, smallest and largest of the values, and how many there are.

    >>> spread([1, 2, 6])
    {'mean': 3.0, 'min': 1.0, 'max': 6.0, 'count': 3}
    """
    numbers = [float(value) for value in values]
    return {"mean": sum(numbers) / len(numbers), "min": min(numbers), "max": max(numbers), "count": len(numbers)}


def bootstrap_difference(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES
) -> dict[str, float]:
    """Estimate how much more often the first arm solves the same tasks, with a 95 % percentile interval.

    Tasks are drawn anew together for both arms, since both played the same ones; the seeds of each arm are drawn
    anew by themselves. With two or three seeds this understates what other seeds would do.

    Args:
        first: Success of every task, 0 to 1, shape `(seeds of the first arm, N)`.
        second: The same on the same tasks, shape `(seeds of the second arm, N)`.
        rng: Draws the resamples.
        resamples: How many.

    Returns:
        `difference`, `low` and `high`, all as shares from -1 to 1.

    Raises:
        ValueError: The arms were not measured on the same number of tasks, or on none.
    """
    if first.shape[1] != second.shape[1] or not first.size or not second.size:
        raise ValueError(
            f"both arms need the same tasks and at least one, got {first.shape[1]} and {second.shape[1]}"
        )
    tasks = first.shape[1]

    def draw(count: int) -> np.ndarray:
        return rng.multinomial(count, np.full(count, 1 / count), size=resamples) / count

    weight_of_task = draw(tasks)
    means = [
        np.einsum("rs,rn,sn->r", draw(len(arm)), weight_of_task, arm, optimize=True) for arm in (first, second)
    ]
    low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
    return {"difference": float(first.mean() - second.mean()), "low": float(low), "high": float(high)}


def compare(
    runs: Sequence[dict[str, Any]], pairs: Sequence[tuple[str, str]], splits: Sequence[str], seed: int = 0
) -> list[dict[str, Any]]:
    """Compare pairs of arms on every split, by greedy and by sampled success; pairs without runs are left out.

    Returns:
        One dictionary a pair, split and decoding: `first`, `second`, `split`, `decoding` (`"greedy"` or
        `"sampled"`), `difference`, `low`, `high`.
    """
    found = []
    for decoding, key in (("greedy", "success"), ("sampled", "sampled_success")):
        for first, second in pairs:
            for split in splits:
                solved, other = (
                    np.array([run["splits"][split][key] for run in runs if run["arm"] == arm], dtype=float)
                    for arm in (first, second)
                )
                if not solved.size or not other.size:
                    continue
                # A generator of its own: an added pair leaves the other intervals as they are.
                rng = np.random.default_rng([seed, *f"{first}/{second}/{split}/{decoding}".encode()])
                names = {"first": first, "second": second, "split": split, "decoding": decoding}
                found.append({**names, **bootstrap_difference(solved, other, rng)})
    return found


def write_sentence(comparison: dict[str, Any]) -> str:
    """Say what a comparison found, and whether its interval holds zero.

    >>> write_sentence({"first": "sft", "second": "base", "split": "test", "decoding": "greedy",
    ...     "difference": 0.051, "low": -0.02, "high": 0.12})
    'SFT against Base on test, greedy: +5.1 points (95 % interval -2.0 to +12.0); the interval includes zero.'
    """
    first, second = (get_style(comparison[key])[0] for key in ("first", "second"))
    difference, low, high = (format_points(comparison[key]) for key in ("difference", "low", "high"))
    zero = "includes" if comparison["low"] <= 0 <= comparison["high"] else "excludes"
    return (
        f"{first} against {second} on {comparison['split']}, {comparison['decoding']}: {difference} points "
        f"(95 % interval {low} to {high}); the interval {zero} zero."
    )


def format_points(share: float) -> str:
    """Write a difference of shares in percentage points, signed.

    >>> format_points(0.051), format_points(-0.0001)
    ('+5.1', '+0.0')
    """
    # Adding zero turns a rounded -0.0 into 0.0.
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def pick_transcripts(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Choose the transcripts to show by a fixed rule: of each case the first tasks in the order played.

    Args:
        before: The base model's episodes by task id, in the order of the evaluation.
        after: The student's episodes of the same tasks.

    Returns:
        `{"case", "task_id", "before", "after"}`, cases in the order of the page.
    """
    chosen = []
    for solved_before, solved_after, count, heading in CASES:
        ids = [
            task_id
            for task_id, episode in before.items()
            if task_id in after
            and episode["is_success"] is solved_before
            and after[task_id]["is_success"] is solved_after
        ]
        chosen += [
            {"case": heading, "task_id": task_id, "before": before[task_id], "after": after[task_id]}
            for task_id in ids[:count]
        ]
    return chosen


def make_headline(results: dict[str, Any]) -> str:
    """Rank the arms by measured greedy success on the first split, in one line."""
    split = results["splits"][0]
    shares = {arm: row["splits"][split]["greedy"]["mean"] for arm, row in results["summary"].items()}
    ranked = sorted(shares, key=lambda arm: -shares[arm])
    parts = [f"{get_style(arm)[0]} {100 * shares[arm]:.1f} %" for arm in ranked]
    return f"Greedy success on {split}, mean over seeds: {', '.join(parts)}."


def format_tables(results: dict[str, Any]) -> list[Table]:
    """Lay out the summary for a terminal: one table of greedy success, tool F1 and similarity, one of sampled."""
    splits = results["splits"]
    titles = {
        "greedy": f"Greedy success, %: mean (smallest–largest seed); tool F1 and similarity on {splits[0]}",
        "sampled": "Sampled success, %, one try: mean (smallest–largest seed)",
    }
    tables = []
    for measure_name, title in titles.items():
        table = Table(title=title)
        for column in ("arm", "seeds", *splits):
            table.add_column(column, justify="left" if column == "arm" else "right")
        if measure_name == "greedy":
            table.add_column("tool F1", justify="right")
            table.add_column("similarity", justify="right")
        for arm, row in results["summary"].items():
            cells = [_cell(row["splits"][split][measure_name], 100, 1) for split in splits]
            if measure_name == "greedy":
                cells += [_cell(row["splits"][splits[0]][name], 1, 2) for name in ("tool_f1", "similarity")]
            table.add_row(get_style(arm)[0], str(len(row["seeds"])), *cells)
        tables.append(table)
    return tables


def _cell(value: dict[str, float], factor: float, digits: int) -> str:
    mean, low, high = (f"{factor * value[key]:.{digits}f}" for key in ("mean", "min", "max"))
    return f"{mean} ({low}–{high})" if value["count"] > 1 else mean
