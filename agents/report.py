"""One self-contained HTML page of the demo's results.

A pure function of what `agents.demo` gathered. The page needs no network: styles are inline and pictures are data
URIs. All model text is escaped. Its figures and sentences come from `agents.summary`.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from agents.plots import get_style, plot_curves, plot_similarity
from agents.summary import BUDGET, CASES, RESAMPLES, format_points, make_headline, write_sentence


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
                _text(one["decoding"]),
                format_points(one["difference"]),
                f"{format_points(one['low'])} to {format_points(one['high'])}",
            ],
        )
        for one in comparisons
    ]
    table = _table(["arms", "split", "decoding", "points", "95 % interval"], rows)
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
    rule = "; ".join(f"{count} {heading.lower()}" for _, _, count, heading in CASES)
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
        cost = [f"{row['training'][key]['mean']:,.0f}" if row["training"] else "–" for key in BUDGET]
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
