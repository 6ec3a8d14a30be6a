"""The page of a study: what its hypotheses came to, and every figure behind that.

A pure function of gathered results with their `summary`. What a reader sees first are the verdicts with their
intervals, the number of seeds, and whatever makes them weaker than they look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agents.page import arm_name, bullets, details, escape, note, page, picture, table
from agents.plots import get_style
from agents.study_plan import BASE
from agents.study_plots import NAMES, plot_axis, plot_curves
from agents.study_statistics import (
    SHARES,
    WINDOW,
    Study,
    findings,
    format_amount,
    format_prediction,
    get_unit,
)
from agents.summary import RESAMPLES

Figures = Mapping[str, tuple[bytes, bytes]]
_BADGES = {"held": "ok", "contradicted": "bad", "undecided": "open", "not run": "open"}


def plot_figures(results: Mapping[str, Any]) -> dict[str, tuple[bytes, bytes]]:
    """Draw every figure, for a light and for a dark page, by the name of its file."""

    def both(draw: Callable[..., bytes], *given: Any) -> tuple[bytes, bytes]:
        return draw(results, *given, dark=False), draw(results, *given, dark=True)

    settings = results["settings"]
    trained = {run["condition"] for run in results["runs"] if run["arm"] != BASE}
    conditions = [name for name in settings["conditions"] if name in trained]
    figures = {f"axis-{axis['name']}": both(plot_axis, axis) for axis in settings["axes"]}
    if conditions:
        figures["curves"] = both(plot_curves, "success", conditions)
        figures["zero-variance"] = both(plot_curves, "zero_variance", conditions)
    return figures


def write_report(results: Mapping[str, Any], figures: Figures) -> str:
    """Write the page.

    Args:
        results: Gathered results with their `summary`.
        figures: What `plot_figures` drew of them.

    Returns:
        A complete HTML document without references to anything outside it.
    """
    study = Study(results)
    sections = {"What was claimed, and what came of it": _hypotheses(results)}
    for axis in study.settings["axes"]:
        sections[axis["title"]] = _axis(study, axis, figures)
    sections["Results"] = _results(study)
    sections["Learning curves"] = _learning(figures)
    sections["Learning signal, and time to the threshold"] = _training(study, figures)
    sections["Use of tools"] = _tool_use(study)
    sections["What was run"] = _settings(study)
    sections["Limits"] = bullets(_limits(study))
    return page("mentor-gym study", results["title"], make_headline(results), _warnings(results), sections)


def make_headline(results: Mapping[str, Any]) -> str:
    """Count the verdicts, and say on how many seeds they rest."""
    decided = results["summary"]["hypotheses"]
    counts = Counter(one["verdict"] for one in decided)
    known = [f"{counts[verdict]} {verdict}" for verdict in _BADGES if counts[verdict]]
    settings = results["settings"]
    total = len(results["runs"]) + len(results["missing"])
    return (
        f"{len(decided)} hypotheses: {', '.join(known) or 'none'}. {len(settings['arms'])} "
        f"arms in {len(settings['conditions'])} conditions with {len(settings['seeds'])} seeds; "
        f"{len(results['runs'])} of {total} runs are in. Held and contradicted mean that a 95 % interval lies on "
        "one side of zero, or of a margin, and say nothing about the size; if nothing had any effect, about "
        f"{0.05 * len(decided):.1f} of {len(decided)} signs would be decided by chance."
    )


def _warnings(results: Mapping[str, Any]) -> list[str]:
    found = []
    if results["quick"]:
        found.append(
            "This is the quick form, with far fewer steps, tasks and seeds than the study. It shows that "
            "everything runs; its figures and verdicts say next to nothing about the arms."
        )
    if results["missing"]:
        shown = ", ".join(results["missing"][:12]) + (" and more" if len(results["missing"]) > 12 else "")
        found.append(
            f"The study is not complete: {len(results['missing'])} runs are missing ({shown}). Verdicts rest on "
            "the seeds that all arms of a hypothesis have, and may change."
        )
    if len(results["settings"]["seeds"]) == 1:
        found.append("There is one seed only, so that nothing can be decided.")
    return found


def _hypotheses(results: Mapping[str, Any]) -> str:
    rows = []
    for one in results["summary"]["hypotheses"]:
        badge = f'<span class="badge {_BADGES[one["verdict"]]}">{escape(one["verdict"])}</span>'
        split = f" on {one['split']}" if one["split"] else ""
        measured = (
            f"{escape(NAMES[one['measure']] + split)}<span class='terms'>{escape(_sum(one['terms']))}</span>"
        )
        if one["verdict"] == "not run":
            cells = [badge, measured, "–", _prediction(one), "–"]
        else:
            amount, low, high = (format_amount(one["measure"], one[key]) for key in ("mean", "low", "high"))
            interval = f"<small>{escape(low)} to {escape(high)}</small>"
            seeds = f"{one['seeds']}" + (f" of {one['planned']}" if one["seeds"] < one["planned"] else "")
            unit = escape(get_unit(one["measure"]))
            cells = [badge, measured, f"<b>{escape(amount)}</b>{unit}<br>{interval}", _prediction(one), seeds]
        rows.append((f'<span class="wide">{escape(one["statement"])}</span>', cells))
    head = ["hypothesis", "verdict", "statistic", "value and 95 % interval", "predicted", "seeds"]
    return table(head, rows) + note(_INTERVALS_NOTE)


_INTERVALS_NOTE = (
    f"Intervals: {RESAMPLES} bootstrap resamples that draw seeds and tasks anew, the same for all arms of a "
    "statistic. What the drawn seeds add is widened for their small number (Student's quantile). Held: the "
    "interval lies on the predicted side of zero, or within the margin. Contradicted: it lies on the other side. "
    "Undecided: neither, which is no evidence for no effect. The intervals are not corrected for the number of "
    "hypotheses."
)


def _prediction(one: Mapping[str, Any]) -> str:
    return escape(format_prediction(one))


def _sum(terms: Sequence[Mapping[str, Any]]) -> str:
    """Write a statistic as a sum of arms in conditions."""
    parts = []
    for term in terms:
        sign, size = "−" if term["weight"] < 0 else "+", abs(term["weight"])
        factor = "" if size == 1 else f"{size:g} · "
        parts.append(f"{sign} {factor}{get_style(term['arm'])[0]} ({term['condition']})")
    return " ".join(parts).removeprefix("+ ")


def _axis(study: Study, axis: Mapping[str, Any], figures: Figures) -> str:
    results = study.results
    decided = [one for one in results["summary"]["hypotheses"] if one["axis"] == axis["name"]]
    sentences = findings({**results, "summary": {"hypotheses": decided}})
    return (
        f"<p>{escape(axis['hypothesis'])}</p>"
        + picture(figures[f"axis-{axis['name']}"], f"{axis['title']}: every arm at every level")
        + note("Marks are means over seeds and tasks, bars 95 % intervals; marks of one level stand side by side.")
        + bullets(sentences)
    )


def _results(study: Study) -> str:
    cells = _index(study)
    parts = []
    for condition in study.conditions:
        labels = study.labels(condition)
        rows = []
        for arm in [BASE, *study.arms_of(condition)]:
            if (condition, arm, labels[0], "sampled") not in cells:
                continue
            shown = []
            for label in labels:
                sampled, greedy = (cells[condition, arm, label, measure] for measure in ("sampled", "greedy"))
                shown.append(f"<b>{_figure(sampled)}</b><span class='sub'>greedy {_figure(greedy)}</span>")
            seeds = len(study.runs(condition, arm))
            rows.append((arm_name(arm), [str(seeds) if arm != BASE else "–", *shown]))
        if rows:
            parts.append(f"<h3>{escape(condition)}</h3>" + table(["arm", "seeds", *map(escape, labels)], rows))
    return (
        note(
            "Success in percent, the environment's own verdict on the answer, whatever the arm was paid for. "
            "Bold: sampled, one try, with its 95 % interval; below: greedy. The base is measured once, so that "
            "its interval is that over tasks."
        )
        + "".join(parts)
        + details("Differences between arms, in points", _differences(study))
    )


def _differences(study: Study) -> str:
    rows = [
        (
            f"{arm_name(one['first'])} against {arm_name(one['second'])}",
            [
                escape(one["condition"]),
                escape(one["split"]),
                escape(one["measure"]),
                escape(format_amount(one["measure"], one["mean"])),
                escape(" to ".join(format_amount(one["measure"], one[key]) for key in ("low", "high"))),
                str(one["seeds"]),
            ],
        )
        for one in study.results["summary"]["differences"]
    ]
    return table(["arms", "condition", "split", "decoding", "points", "95 % interval", "seeds"], rows)


def _index(study: Study) -> dict[tuple[str, str, str, str], Mapping[str, Any]]:
    return {
        (row["condition"], row["arm"], row["split"], row["measure"]): row
        for row in study.results["summary"]["cells"]
    }


def _figure(row: Mapping[str, Any]) -> str:
    """Write a mean with its interval; shares in percent, cut off at 0 and 100."""
    factor, digits = (100, 1) if row.get("measure") in SHARES else (1, 2)
    low, high = max(0.0, factor * row["low"]), factor * row["high"]
    if row.get("measure") in SHARES:
        high = min(100.0, high)
    return f"{factor * row['mean']:.{digits}f} <small>{low:.{digits}f}–{high:.{digits}f}</small>"


def _learning(figures: Figures) -> str:
    if "curves" not in figures:
        return note("No arm has been trained yet.")
    return picture(figures["curves"], "Success on training tasks against sampled tokens") + note(
        "Success of the episodes sampled in training. Line: mean over seeds. Band: smallest and largest seed. "
        f"Both are averaged over {WINDOW} steps; dotted: the threshold. Supervised fine-tuning samples no "
        "episodes."
    )


def _training(study: Study, figures: Figures) -> str:
    threshold = study.settings["threshold"]
    rows = []
    for one in study.results["summary"]["training"]:
        if "reached" not in one:
            continue
        share = [
            f"{100 * one[key]['mean']:.1f} <small>{max(0.0, 100 * one[key]['low']):.1f}–"
            f"{min(100.0, 100 * one[key]['high']):.1f}</small>"
            for key in ("zero_variance_early", "zero_variance")
        ]
        median = "not within the budget" if one["median"] is None else f"{one['median'] / 1000:,.1f}"
        rows.append(
            (
                f"{escape(one['condition'])}: {arm_name(one['arm'])}",
                [*share, f"{one['reached']} of {one['seeds']}", escape(median)],
            )
        )
    head = [
        "arm",
        "groups without signal, %, first third",
        "the same, whole training",
        "seeds that reached it",
        "median time, thousand tokens",
    ]
    text = (
        "A group without learning signal is one whose episodes all earned the same reward: GRPO learns nothing "
        f"from it. The threshold is {100 * threshold:g} % success of sampled training episodes, averaged over "
        f"{WINDOW} steps. The median counts a seed that never reached it as longer than any other; where half did "
        "not, there is none."
    )
    drawn = (
        picture(figures["zero-variance"], "Groups without learning signal") if "zero-variance" in figures else ""
    )
    return drawn + table(head, rows) + note(text)


def _tool_use(study: Study) -> str:
    cells = _index(study)
    parts = []
    for condition in study.conditions:
        for label in study.labels(condition):
            rows = [
                (
                    arm_name(arm),
                    [
                        _figure(cells[condition, arm, label, name])
                        for name in ("tool_use", "tool_f1", "similarity")
                    ],
                )
                for arm in [BASE, *study.arms_of(condition)]
                if (condition, arm, label, "tool_use") in cells
            ]
            if rows:
                head = ["arm", "episodes with a tool call, %", "tool F1", "similarity"]
                parts.append(details(f"{condition}, {label}", table(head, rows)))
    return note(
        "Sampled episodes. Tool F1 compares the sets of tools of student and teacher, episode by episode; "
        "similarity compares how often each tool was called over all episodes (1 − Jensen-Shannon divergence). "
        "Their intervals are over seeds alone."
    ) + "".join(parts)


def _settings(study: Study) -> str:
    results, settings = study.results, study.settings
    configs = results["configs"]
    first: Mapping[str, Any] = next(iter(configs.values()), {})
    keys = list(first)
    shared = {key for key in keys if len({repr(config[key]) for config in configs.values()}) == 1}
    own = [key for key in keys if key not in shared]
    budget = [
        (
            f"{escape(one['condition'])}: {arm_name(one['arm'])}",
            [
                f"{one[key]:,.0f}"
                for key in ("seeds", "steps", "episodes", "distinct_tasks", "tokens", "cpu_seconds")
            ],
        )
        for one in results["summary"]["training"]
    ]
    conditions = [
        (escape(name), [escape(one[key]) for key in ("base", "data", "evaluation")])
        for name, one in settings["conditions"].items()
    ]
    made = [
        (escape(f"{kind} {name}"), [escape(_arguments(one))])
        for kind in ("bases", "data")
        for name, one in settings[kind].items()
    ]
    evaluations = [(escape(name), [escape(_arguments(one))]) for name, one in settings["evaluations"].items()]
    return (
        f"<p>{escape(_run_note(settings))}</p>"
        + table(["condition", "base", "training data", "evaluation"], conditions)
        + details("Cost of training, means over seeds", table(
            ["arm", "seeds", "steps", "episodes", "distinct tasks", "tokens", "CPU seconds"], budget
        ) + note("Tokens: sampled by the model where it learns from rewards, read from the teacher otherwise."))
        + details("Settings in which the arms differ", table(
            ["arm", *map(escape, own)],
            [(arm_name(arm), [escape(config[key]) for key in own]) for arm, config in configs.items()],
        ))
        + details("Settings of all arms", table(
            ["setting", "value"], [(escape(key), [escape(one)]) for key, one in first.items() if key in shared]
        ))
        + details("How bases and data were made, and how runs were measured", table(
            ["what", "arguments"], made + evaluations
        ))
        + note(f"mentor-gym {results['version']}.")
    )  # fmt: skip


def _run_note(settings: Mapping[str, Any]) -> str:
    fields = ", ".join(["reward", "dense", *settings["may_differ"]])
    return (
        f"Seeds: {', '.join(map(str, settings['seeds']))}. Every run of a condition starts from the same base "
        f"model. The arms that learn from rewards differ in these settings alone: {fields}; they have the same "
        "seeds, the same order of tasks and the same budget. The last weights of every run are measured; no "
        "checkpoint and no seed is chosen by its figures."
    )


def _arguments(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"the model {value}"
    return ", ".join(f"{key}: {one}" for key, one in value.items()) or "as shipped"


def _limits(study: Study) -> list[str]:
    results, settings = study.results, study.settings
    seeds, decided = len(settings["seeds"]), results["summary"]["hypotheses"]
    counts = [part["count"] for run in results["runs"] for part in run["splits"].values()]
    spans = [one["high"] - one["low"] for one in decided if one["measure"] in SHARES and "high" in one]
    found = [
        "The model is tiny and was taught this tool format beforehand; questions and teacher come from programs. "
        "What helps or hurts it need not do the same to a model of billions of parameters. Published rewards are "
        "adapted to whole episodes, and some are reconstructions: nothing here reproduces a published result.",
        f"{seeds} seeds and {min(counts, default=0)} to {max(counts, default=0)} tasks a split. The interval of a "
        f"hypothesis in success or shares is {100 * min(spans, default=0.0):.0f} to "
        f"{100 * max(spans, default=0.0):.0f} points wide; smaller effects cannot be seen.",
        "All arms that learn from rewards share one set of settings. A reward might do better with its own: "
        "rewards are compared at equal settings, not at their best.",
    ]
    found += settings["limits"]
    rl = [one for one in results["summary"]["training"] if "zero_variance" in one]
    sft = [one for one in results["summary"]["training"] if "zero_variance" not in one]
    if rl and sft:
        ratio = [sum(one["cpu_seconds"] for one in part) / len(part) for part in (rl, sft)]
        found.append(
            f"Supervised fine-tuning does not sample: it used {ratio[1]:,.0f} CPU seconds a run on average, arms "
            f"that learn from rewards {ratio[0]:,.0f}. That comparison is one of methods, not of equal compute."
        )
    if rl:
        tokens = [one["tokens"] for one in rl]
        found.append(
            f"Budgets end after a whole step: arms that learn from rewards sampled {min(tokens):,.0f} to "
            f"{max(tokens):,.0f} tokens a run on average."
        )
    censored = sum(one["seeds"] - one["reached"] for one in rl)
    if censored:
        found.append(
            f"{censored} of {sum(one['seeds'] for one in rl)} runs never reached the threshold. Means of the time "
            "to it count them with their whole budget, which understates differences."
        )
    return found
