"""From the demo's finished runs to its figures, sentences and one self-contained HTML page.

Everything here is a pure function of what the runs wrote: means and ranges over seeds, bootstrapped differences
between arms, which transcripts are shown, and the page. No sentence presumes which arm does best. The page needs
no network: styles are inline and pictures are data URIs. All model text is escaped.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np
from rich.table import Table

from agents.plots import get_style, plot_curves, plot_similarity

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
_CASES = (
    (False, True, 3, "Not solved before, solved after"),
    (True, True, 1, "Solved before and after"),
    (True, False, 1, "Solved before, not after"),
    (False, False, 2, "Not solved before or after"),
)
# What an arm's training cost, in the order of the table.
_BUDGET = ("distinct_tasks", "episodes", "tokens", "cpu_seconds")
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
        training = {key: spread(one[key] for one in trained) for key in _BUDGET if trained}
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
        first: Successes as 0 and 1, shape `(seeds of the first arm, N)`.
        second: Successes on the same tasks, shape `(seeds of the second arm, N)`.
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
    """Compare pairs of arms on every split by greedy success; pairs without runs are left out.

    Returns:
        One dictionary a pair and split: `first`, `second`, `split`, `difference`, `low`, `high`.
    """
    found = []
    for first, second in pairs:
        for split in splits:
            solved, other = (
                np.array([run["splits"][split]["success"] for run in runs if run["arm"] == arm], dtype=float)
                for arm in (first, second)
            )
            if not solved.size or not other.size:
                continue
            # A generator of its own: an added pair leaves the other intervals as they are.
            rng = np.random.default_rng([seed, *f"{first}/{second}/{split}".encode()])
            found.append(
                {"first": first, "second": second, "split": split, **bootstrap_difference(solved, other, rng)}
            )
    return found


def write_sentence(comparison: dict[str, Any]) -> str:
    """Say what a comparison found, and whether its interval holds zero.

    >>> write_sentence({"first": "sft", "second": "base", "split": "test",
    ...     "difference": 0.051, "low": -0.02, "high": 0.12})
    'SFT against Base on test: +5.1 points (95 % interval -2.0 to +12.0); the interval includes zero.'
    """
    first, second = (get_style(comparison[key])[0] for key in ("first", "second"))
    difference, low, high = (_points(comparison[key]) for key in ("difference", "low", "high"))
    zero = "includes" if comparison["low"] <= 0 <= comparison["high"] else "excludes"
    return (
        f"{first} against {second} on {comparison['split']}: {difference} points "
        f"(95 % interval {low} to {high}); the interval {zero} zero."
    )


def _points(share: float) -> str:
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
    for solved_before, solved_after, count, heading in _CASES:
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


def write_report(results: dict[str, Any]) -> str:
    """Write the page.

    Args:
        results: What `agents.demo` gathered: `quick`, `elapsed_seconds`, `settings`, `splits`, `arms`, `runs`,
            `summary`, `comparisons`, `student`, `student_seed` and `transcripts`.

    Returns:
        A complete HTML document without references to anything outside it.
    """
    runs, arms, split = results["runs"], results["arms"], results["splits"][0]
    trained = [arm for arm in arms if results["summary"].get(arm, {}).get("training")]
    curves = [plot_curves(runs, trained, dark) for dark in (False, True)]
    scatter = [plot_similarity(runs, arms, split, dark) for dark in (False, True)]
    sections = {
        "Results": _results_table(results) + _comparisons(results) + _tool_use(results) + _run_table(results),
        "Learning curves": _picture(curves, "Learning curves of every trained arm") + _note(_CURVES_NOTE),
        "Similarity to the teacher against success": _picture(
            scatter, "Similarity to the teacher's tool use against success"
        )
        + _note(f"Greedy, split {split}. {_SIMILARITY_NOTE}"),
        "Before, after, and the teacher": _transcripts(results),
        "What was run": _settings(results),
        "Limits": _list(_limits(results)),
    }
    body = "\n".join(f"<section>\n<h2>{_text(title)}</h2>\n{part}\n</section>" for title, part in sections.items())
    warning = f'<p class="warning">{_text(_QUICK_NOTE)}</p>\n' if results["quick"] else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>mentor-gym demo</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>Teaching one small model to use tools</h1>\n<p class="lead">{_text(make_headline(results))}</p>\n'
        f"{warning}{body}\n</main>\n</body>\n</html>\n"
    )


_QUICK_NOTE = (
    "This is the quick form, with far fewer training steps and tasks than the full demo. It shows that everything "
    "runs; its figures say next to nothing about the arms."
)
_CURVES_NOTE = (
    "Line: mean over seeds. Band: smallest and largest seed. Training figures come from sampled episodes and are "
    "averaged over five steps. A group without learning signal is one whose episodes all earned the same reward. "
    "SFT samples no episodes while it trains, so it appears only where it was measured."
)
_SIMILARITY_NOTE = (
    "Similarity compares how often student and teacher called each tool, over all episodes: 1 is the same "
    "distribution. Large marks are means over seeds, small ones single seeds, and crosses span them."
)
_RESULTS_NOTE = (
    "Share of tasks solved in percent: the mean over seeds, and beside it the smallest and the largest seed. "
    "Bold: greedy. Below: sampled, one try; and at least one success in {samples} tries. Success is the "
    "environment's own verdict on the answer, whatever the arm was paid for in training. Tool F1 and similarity "
    "are greedy."
)
_INTERVALS_NOTE = (
    f"Greedy success. The intervals come from {RESAMPLES} bootstrap resamples over tasks (the same for both "
    "arms) and seeds, and are not corrected for the number of comparisons."
)
_RUN_NOTE = (
    "Every arm starts from the same shipped base model and is trained for the same number of steps, on the same "
    "number of tasks a step. The GRPO arms differ in the reward alone: same settings, same seeds, same budget of "
    "episodes. SFT learns from the teacher's traces of as many tasks as the GRPO arms see. The last weights of "
    "every run are evaluated; no checkpoint and no seed is chosen by its figures, and the only split looked at "
    "while training is the validation split."
)
_BUDGET_NOTE = (
    "Training with its validation, mean over seeds. Tokens are those that the log of the training counts: "
    "sampled by the model for GRPO, read from the teacher for SFT. CPU seconds depend on the machine."
)


def _limits(results: dict[str, Any]) -> list[str]:
    first, tasks = results["splits"][0], results["settings"]["evaluation"]["tasks"]
    seeds = max((len(row["seeds"]) for row in results["summary"].values()), default=0)
    spans = [one["high"] - one["low"] for one in results["comparisons"] if one["split"] == first]
    return [
        "The model is tiny and was taught this tool format beforehand. What helps or hurts it need not do the "
        "same to a model of billions of parameters, which is what the paper trained.",
        f"There are {seeds} seeds and at most {tasks} tasks a split. The widest interval on {first} spans "
        f"{100 * max(spans, default=0.0):.0f} points. A bootstrap over so few seeds understates how much other "
        "seeds would differ.",
        "All GRPO arms share one set of hyperparameters. A reward might do better with its own; this compares "
        "rewards at equal settings, not at their best.",
        "Questions and teacher come from programs. The teacher never errs, which favours rewards that follow it "
        "and says nothing about a teacher that makes mistakes.",
        "SFT and GRPO see equally many tasks, but do not spend the same compute; tokens and CPU seconds are "
        "above.",
        "GRPO strict pays for the teacher's calls in order with equal arguments. It is our reconstruction of the "
        "paper's strict baseline, whose code was not available; so is the exact form of the similarity.",
        "Curves and marks show means and ranges of few seeds. No claim of significance rests on them.",
    ]


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _note(text: str) -> str:
    return f'<p class="note">{_text(text)}</p>'


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>"


def _details(title: str, content: str) -> str:
    return f"<details><summary>{_text(title)}</summary>{content}</details>"


def _table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Write a table; head, row names and cells are HTML already, so callers escape."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for name, cells in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _picture(pngs: Sequence[bytes], alt: str) -> str:
    light, dark = ("data:image/png;base64," + base64.b64encode(png).decode() for png in pngs)
    return (
        f'<div class="scroll"><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{_text(alt)}"></picture></div>'
    )


def _name(arm: str) -> str:
    label, colour, *_ = get_style(arm)
    return f'<span class="dot" style="background:{colour}"></span>{_text(label)}'


def _percent(value: dict[str, float]) -> str:
    return _spread_text(value, 100, 1)


def _plain(value: dict[str, float]) -> str:
    return _spread_text(value, 1, 2)


def _spread_text(value: dict[str, float], factor: float, digits: int) -> str:
    mean, low, high = (f"{factor * value[key]:.{digits}f}" for key in ("mean", "min", "max"))
    # One run has no range; writing one would look like agreement between seeds.
    return f"{mean} <small>{low}–{high}</small>" if value["count"] > 1 else mean


def _results_table(results: dict[str, Any]) -> str:
    splits, first = results["splits"], results["splits"][0]
    samples = results["settings"]["evaluation"]["samples"]
    rows = []
    for arm, row in results["summary"].items():
        cells = [
            f"<b>{_percent(row['splits'][split]['greedy'])}</b>"
            f'<span class="sub">sampled {_percent(row["splits"][split]["sampled"])}</span>'
            f'<span class="sub">1 of {samples} {_percent(row["splits"][split]["sampled_any"])}</span>'
            for split in splits
        ]
        measures = row["splits"][first]
        rows.append((_name(arm), [*cells, _plain(measures["tool_f1"]), _plain(measures["similarity"])]))
    head = ["arm", *map(_text, splits), f"tool F1<br>{_text(first)}", f"similarity<br>{_text(first)}"]
    return _table(head, rows) + _note(_RESULTS_NOTE.format(samples=samples))


def _comparisons(results: dict[str, Any]) -> str:
    comparisons, split = results["comparisons"], results["splits"][0]
    rows = [
        (
            f"{_name(one['first'])} against {_name(one['second'])}",
            [
                _text(one["split"]),
                _points(one["difference"]),
                f"{_points(one['low'])} to {_points(one['high'])}",
            ],
        )
        for one in comparisons
    ]
    table = _table(["arms", "split", "points", "95 % interval"], rows)
    sentences = [write_sentence(one) for one in comparisons if one["split"] == split]
    return _list(sentences) + _note(_INTERVALS_NOTE) + _details("Differences on all splits", table)


def _tool_use(results: dict[str, Any]) -> str:
    split = results["splits"][0]
    rows = []
    for arm, row in results["summary"].items():
        measures = row["splits"][split]
        # Only the mean: the range of a sum is not the sum of the ranges.
        cut = measures["turn_limit"]["mean"] + measures["token_limit"]["mean"]
        cells = [
            _plain(measures["calls"]),
            _percent(measures["invalid"]),
            f"{100 * cut:.1f}",
            _percent(measures["no_answer"]),
        ]
        rows.append((_name(arm), cells))
    head = ["arm", "calls an episode", "invalid calls, %", "cut off, %", "no answer, %"]
    return _details(f"How tools were used on {split}, greedy", _table(head, rows))


def _run_table(results: dict[str, Any]) -> str:
    splits = results["splits"]
    rows = [
        (
            f"{_name(run['arm'])}, seed {_text(run['seed'])}",
            [
                f"{100 * run['splits'][split]['greedy']['pass@1']:.1f} / "
                f"{100 * run['splits'][split]['sampled']['pass@1']:.1f}"
                for split in splits
            ],
        )
        for run in results["runs"]
    ]
    return _details("Every run: success in percent, greedy / sampled", _table(["run", *map(_text, splits)], rows))


_ANSWER = re.compile(r"(<answer>.*?</answer>)", re.DOTALL)


def _message(message: dict[str, Any]) -> str:
    """Show one chat message of `agents.evaluate`: what was said, the calls, the answer, or a result."""
    content = message.get("content") or ""
    if message["role"] != "assistant":
        kind = "bad" if "error:" in content[:30] else "ok"
        return f'<code class="result {kind}">→ {_text(content)}</code>'
    parts = []
    for segment in _ANSWER.split(content):
        if _ANSWER.fullmatch(segment):
            parts.append(f'<p class="answer">Answer: <b>{_text(segment[8:-9].strip())}</b></p>')
        elif segment.strip():
            parts.append(f'<p class="said">{_text(segment.strip())}</p>')
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = json.loads(function["arguments"])
        listed = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
        parts.append(f'<code class="call">{_text(function["name"])}({_text(listed)})</code>')
    return "".join(parts)


def _episode(title: str, episode: dict[str, Any]) -> str:
    verdict, kind = ("correct", "ok") if episode["is_success"] else ("not correct", "bad")
    terms = " ".join(f"{_text(name)} {value:+.2f}" for name, value in episode["reward_terms"].items())
    total = sum(episode["reward_terms"].values())
    reason = _text(str(episode["stop_reason"]).replace("_", " "))
    # The first message is the question, which stands above the three columns.
    turns = "".join(_message(message) for message in episode["messages"][1:])
    return (
        f'<div class="episode"><h4>{title}</h4><div class="turns">{turns}</div>'
        f'<p class="end"><span class="badge {kind}">{verdict}</span> <small>ended by: {reason}</small><br>'
        f"<small>MENTOR reward {total:.2f} = {terms}</small></p></div>"
    )


def _transcripts(results: dict[str, Any]) -> str:
    student = results["student"]
    rule = "; ".join(f"{count} {heading.lower()}" for _, _, count, heading in _CASES)
    parts = [
        _note(
            f"Greedy episodes on {results['splits'][0]}. Student: {get_style(student)[0]}, seed "
            f"{results['student_seed']}. The rule was fixed before any run: in the order of the evaluation, the "
            f"first tasks of each case, at most {rule}. A case that did not occur is missing."
        )
    ]
    for shown in results["transcripts"]:
        parts.append(
            f"<article><h3>{_text(shown['case'])} <small>{_text(shown['task_id'])}</small></h3>"
            f'<p class="question">{_text(shown["prompt"])} '
            f"<small>Right answer: {_text(shown['answer'])}</small></p>"
            f'<div class="beside">{_episode("Before: " + _name("base"), shown["before"])}'
            f"{_episode('After: ' + _name(student), shown['after'])}"
            f"{_episode('Teacher', shown['teacher'])}</div></article>"
        )
    return "\n".join(parts)


def _settings(results: dict[str, Any]) -> str:
    settings = results["settings"]
    rows = []
    for arm, row in results["summary"].items():
        cost = [f"{row['training'][key]['mean']:,.0f}" if row["training"] else "–" for key in _BUDGET]
        rows.append((_name(arm), [str(len(row["seeds"])), *cost]))
    budget = _table(["arm", "seeds", "distinct tasks", "episodes", "tokens", "CPU seconds"], rows)
    differing = settings["differing"]
    keys = sorted({key for own in differing.values() for key in own})
    own_rows = [(_name(arm), [_text(own.get(key, "–")) for key in keys]) for arm, own in differing.items()]
    listed = {
        **settings["shared"],
        **{f"evaluation: {key}": value for key, value in settings["evaluation"].items()},
    }
    return (
        f"<p>{_text(_RUN_NOTE)}</p>{budget}{_note(_BUDGET_NOTE)}"
        + _details("Settings that differ between arms", _table(["arm", *map(_text, keys)], own_rows))
        + _details(
            "All other settings",
            _table(["setting", "value"], [(_text(key), [_text(value)]) for key, value in listed.items()]),
        )
    )


_CSS = """
:root{--face:#fff;--ink:#1f2328;--soft:#59636e;--line:#d9dee3;--panel:#f6f8fa;--ok:#116329;--okface:#dafbe1;
--bad:#a40e26;--badface:#ffebe9;--call:#0550ae;--callface:#e9f3ff}
@media (prefers-color-scheme:dark){:root{--face:#171b21;--ink:#e3e8ee;--soft:#9aa5b1;--line:#38414b;
--panel:#1f252d;--ok:#7ee2a0;--okface:#12331f;--bad:#ffa198;--badface:#45181b;--call:#9ecbff;--callface:#15304f}}
*{box-sizing:border-box}
body{margin:0;background:var(--face);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:70rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.25rem;margin:2.5rem 0 .8rem;border-bottom:1px solid var(--line);padding-bottom:.3rem}
h3{font-size:1rem;margin:0 0 .3rem}h4{font-size:.9rem;margin:0 0 .5rem}
small,.note,.sub{color:var(--soft)}.note{font-size:.88rem}.lead{font-size:1.1rem}
.warning{background:var(--badface);color:var(--bad);padding:.6rem .9rem;border-radius:8px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums;margin:.3rem 0}
th,td{text-align:left;vertical-align:top;padding:.4rem .9rem .4rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600;white-space:nowrap}td small{font-weight:400;white-space:nowrap}
.sub{display:block;font-size:.82rem;white-space:nowrap}
.dot{display:inline-block;width:.65em;height:.65em;border-radius:50%;margin-right:.4em}
img{max-width:100%;height:auto;display:block}
summary{cursor:pointer;margin:.4rem 0}
article{border:1px solid var(--line);border-radius:10px;padding:.9rem;margin:0 0 1rem}
.question{margin:.2rem 0 .7rem}
.beside{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:.7rem}
.episode{background:var(--panel);border-radius:8px;padding:.7rem;min-width:0}
.turns code,.turns p{display:block;margin:.2rem 0;overflow-wrap:anywhere;white-space:pre-wrap}
.turns .result{margin:0 0 .55rem .9rem}
code{font:.84rem/1.45 ui-monospace,monospace;border-radius:5px;padding:.1rem .35rem}
.call{background:var(--callface);color:var(--call)}
.result.ok{color:var(--ok)}.result.bad{color:var(--bad);background:var(--badface)}
.said{color:var(--soft);font-size:.88rem}
.end{margin:.6rem 0 0;font-size:.88rem}
.badge{border-radius:99px;padding:.1rem .55rem;font-weight:600}
.badge.ok{background:var(--okface);color:var(--ok)}.badge.bad{background:var(--badface);color:var(--bad)}
@media (max-width:48rem){.beside{grid-template-columns:1fr}h1{font-size:1.4rem}img{max-width:none;width:36rem}}
"""
