"""One self-contained HTML page of the demo's results.

A pure function of what `agents.demo` gathered. The page needs no network: styles are inline and pictures are data
URIs. All model text is escaped. Its figures and sentences come from `agents.summary`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from agents.plots import arm_name, get_style, plot_curves, plot_similarity
from agents.summary import BUDGET, CASES, RESAMPLES, format_points, make_headline, write_sentence
from mentor_gym.html import bullets, details, escape, note, page, picture, table


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
        "Learning curves": picture(curves, "Learning curves of every trained arm") + note(_CURVES_NOTE),
        "Similarity to the teacher against success": picture(
            scatter, "Similarity to the teacher's tool use against success"
        )
        + note(f"Greedy, split {split}. {_SIMILARITY_NOTE}"),
        "Before, after, and the teacher": _transcripts(results),
        "What was run": _settings(results),
        "Limits": bullets(_limits(results)),
    }
    warnings = [_QUICK_NOTE] if results["quick"] else []
    title = "Teaching one small model to use tools"
    return page(title, make_headline(results), sections, name="mentor-gym demo", warnings=warnings)


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
    "Greedy takes the most likely text, sampled draws it as in training. The intervals come from "
    f"{RESAMPLES} bootstrap resamples over tasks (the same for both arms) and seeds, and are not corrected for "
    "the number of comparisons."
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
        rows.append((arm_name(arm), [*cells, _plain(measures["tool_f1"]), _plain(measures["similarity"])]))
    head = ["arm", *map(escape, splits), f"tool F1<br>{escape(first)}", f"similarity<br>{escape(first)}"]
    return table(head, rows) + note(_RESULTS_NOTE.format(samples=samples))


def _comparisons(results: dict[str, Any]) -> str:
    comparisons, split = results["comparisons"], results["splits"][0]
    rows = [
        (
            f"{arm_name(one['first'])} against {arm_name(one['second'])}",
            [
                escape(one["split"]),
                escape(one["decoding"]),
                format_points(one["difference"]),
                f"{format_points(one['low'])} to {format_points(one['high'])}",
            ],
        )
        for one in comparisons
    ]
    listed = table(["arms", "split", "decoding", "points", "95 % interval"], rows)
    sentences = [write_sentence(one) for one in comparisons if one["split"] == split]
    return bullets(sentences) + note(_INTERVALS_NOTE) + details("Differences on all splits", listed)


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
        rows.append((arm_name(arm), cells))
    head = ["arm", "calls an episode", "invalid calls, %", "cut off, %", "no answer, %"]
    return details(f"How tools were used on {split}, greedy", table(head, rows))


def _run_table(results: dict[str, Any]) -> str:
    splits = results["splits"]
    rows = [
        (
            f"{arm_name(run['arm'])}, seed {escape(run['seed'])}",
            [
                f"{100 * run['splits'][split]['greedy']['pass@1']:.1f} / "
                f"{100 * run['splits'][split]['sampled']['pass@1']:.1f}"
                for split in splits
            ],
        )
        for run in results["runs"]
    ]
    return details("Every run: success in percent, greedy / sampled", table(["run", *map(escape, splits)], rows))


_ANSWER = re.compile(r"(<answer>.*?</answer>)", re.DOTALL)


def _message(message: dict[str, Any]) -> str:
    """Show one chat message of `agents.evaluate`: what was said, the calls, the answer, or a result."""
    content = message.get("content") or ""
    if message["role"] != "assistant":
        kind = "bad" if "error:" in content[:30] else "ok"
        return f'<code class="result {kind}">→ {escape(content)}</code>'
    parts = []
    for segment in _ANSWER.split(content):
        if _ANSWER.fullmatch(segment):
            parts.append(f'<p class="answer">Answer: <b>{escape(segment[8:-9].strip())}</b></p>')
        elif segment.strip():
            parts.append(f'<p class="said">{escape(segment.strip())}</p>')
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = json.loads(function["arguments"])
        listed = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
        parts.append(f'<code class="call">{escape(function["name"])}({escape(listed)})</code>')
    return "".join(parts)


def _episode(title: str, episode: dict[str, Any]) -> str:
    verdict, kind = ("correct", "ok") if episode["is_success"] else ("not correct", "bad")
    terms = " ".join(f"{escape(name)} {value:+.2f}" for name, value in episode["reward_terms"].items())
    total = sum(episode["reward_terms"].values())
    reason = escape(str(episode["stop_reason"]).replace("_", " "))
    # The first message is the question, which stands above the three columns.
    turns = "".join(_message(message) for message in episode["messages"][1:])
    return (
        f'<div class="episode"><h4>{title}</h4><div class="turns">{turns}</div>'
        f'<p class="end"><span class="badge {kind}">{verdict}</span> <small>ended by: {reason}</small><br>'
        f"<small>MENTOR reward {total:.2f} = {terms}</small></p></div>"
    )


def _transcripts(results: dict[str, Any]) -> str:
    student = results["student"]
    rule = "; ".join(f"{count} {heading.lower()}" for _, _, count, heading in CASES)
    parts = [
        note(
            f"Greedy episodes on {results['splits'][0]}. Student: {get_style(student)[0]}, seed "
            f"{results['student_seed']}. The rule was fixed before any run: in the order of the evaluation, the "
            f"first tasks of each case, at most {rule}. A case that did not occur is missing."
        )
    ]
    for shown in results["transcripts"]:
        parts.append(
            f"<article><h3>{escape(shown['case'])} <small>{escape(shown['task_id'])}</small></h3>"
            f'<p class="question">{escape(shown["prompt"])} '
            f"<small>Right answer: {escape(shown['answer'])}</small></p>"
            f'<div class="beside">{_episode("Before: " + arm_name("base"), shown["before"])}'
            f"{_episode('After: ' + arm_name(student), shown['after'])}"
            f"{_episode('Teacher', shown['teacher'])}</div></article>"
        )
    return "\n".join(parts)


def _settings(results: dict[str, Any]) -> str:
    settings = results["settings"]
    rows = []
    for arm, row in results["summary"].items():
        cost = [f"{row['training'][key]['mean']:,.0f}" if row["training"] else "–" for key in BUDGET]
        rows.append((arm_name(arm), [str(len(row["seeds"])), *cost]))
    budget = table(["arm", "seeds", "distinct tasks", "episodes", "tokens", "CPU seconds"], rows)
    differing = settings["differing"]
    keys = sorted({key for own in differing.values() for key in own})
    own_rows = [(arm_name(arm), [escape(own.get(key, "–")) for key in keys]) for arm, own in differing.items()]
    listed = {
        **settings["shared"],
        **{f"evaluation: {key}": value for key, value in settings["evaluation"].items()},
    }
    return (
        f"<p>{escape(_RUN_NOTE)}</p>{budget}{note(_BUDGET_NOTE)}"
        + details("Settings that differ between arms", table(["arm", *map(escape, keys)], own_rows))
        + details(
            "All other settings",
            table(["setting", "value"], [(escape(key), [escape(value)]) for key, value in listed.items()]),
        )
    )
