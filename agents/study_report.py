"""The page of a study: what its hypotheses came to, and every figure behind that.

A pure function of gathered results with their `summary`. What a reader sees first are the verdicts with their
intervals, the number of seeds, and whatever makes them weaker than they look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agents.plots import arm_name, get_style
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
    has_interval,
)
from agents.summary import RESAMPLES
from mentor_gym.html import bullets, details, escape, note, page, picture, table

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
    return page(
        results["title"], make_headline(results), sections, name="mentor-gym study", warnings=_warnings(results)
    )


def make_headline(results: Mapping[str, Any]) -> str:
    """Count the verdicts, and say on how many seeds they rest."""
    decided = results["summary"]["hypotheses"]
    counts = Counter(one["verdict"] for one in decided)
    known = [f"{counts[verdict]} {verdict}" for verdict in _BADGES if counts[verdict]]
    settings = results["settings"]
    total = len(results["runs"]) + len(results["missing"])
    # What predicts zero is right where nothing has any effect, and one seed decides nothing.
    signs = sum(one["expect"] != "zero" and one.get("seeds", 0) > 1 for one in decided)
    return (
        f"{len(decided)} hypotheses: {', '.join(known) or 'none'}. {len(settings['arms'])} "
        f"arms in {len(settings['conditions'])} conditions with {len(settings['seeds'])} seeds; "
        f"{len(results['runs'])} of {total} runs are in. Held and contradicted mean that a 95 % interval lies on "
        "one side of zero, or within or outside a margin, and say nothing about the size; if nothing had any "
        f"effect, up to about {0.05 * signs:.1f} of {signs} signs would be decided by chance."
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
    if any(one["seeds"] == 1 for one in results["summary"]["training"]):
        found.append(
            "Some arms have one seed in some conditions: their intervals are over tasks alone, and too narrow."
        )
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
            has_one = has_interval(one["measure"], one["seeds"])
            interval = f"<small>{escape(low)} to {escape(high)}</small>" if has_one else "<small>–</small>"
            seeds = f"{one['seeds']}" + (f" of {one['planned']}" if one["seeds"] < one["planned"] else "")
            unit = escape(get_unit(one["measure"]))
            cells = [badge, measured, f"<b>{escape(amount)}</b>{unit}<br>{interval}", _prediction(one), seeds]
        rows.append((f'<span class="wide">{escape(one["statement"])}</span>', cells))
    head = ["hypothesis", "verdict", "statistic", "value and 95 % interval", "predicted", "seeds"]
    return table(head, rows) + note(_INTERVALS_NOTE)


_INTERVALS_NOTE = (
    f"Intervals: {RESAMPLES} bootstrap resamples that draw seeds and tasks anew, the same for all arms of a "
    "statistic; figures that a run has one of (calls, groups without signal, times) draw seeds alone. What the "
    "drawn seeds add is widened for their small number (Student's quantile); where seeds hardly differ the "
    "intervals are wider than they need be. Held: the interval lies on the predicted side of zero, or within the "
    "margin. Contradicted: it lies on the other side, or outside the margin. Undecided: neither, which is no "
    "evidence for no effect. The intervals are not corrected for the number of hypotheses."
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
        + note(_axis_note(axis))
        + bullets(sentences)
    )


def _axis_note(axis: Mapping[str, Any]) -> str:
    marks = "Marks are means over seeds and tasks, bars 95 % intervals"
    if len(axis["levels"]) == 1:
        return f"{marks}."
    return (
        f"{marks}; marks of one level stand side by side. An arm that is missing at a level was not trained "
        "there. Differences are paired by seed and task, so whether two intervals overlap does not tell: the "
        "sentences do."
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
                sampled, greedy = (
                    _figure(name, cells[condition, arm, label, name]) for name in ("sampled", "greedy")
                )
                shown.append(f"<b>{sampled}</b><span class='sub'>greedy {greedy}</span>")
            seeds = len(study.runs(condition, arm))
            rows.append((arm_name(arm), [str(seeds) if arm != BASE else "–", *shown]))
        if rows:
            parts.append(f"<h3>{escape(condition)}</h3>" + table(["arm", "seeds", *map(escape, labels)], rows))
    return (
        note(
            "Success in percent, the environment's own verdict on the answer, whatever the arm was paid for. "
            "Bold: sampled, one try, with its 95 % interval; below: greedy. The base is measured once, so that "
            "its interval is that over tasks. Differences between arms are paired by seed and "
            "task: whether two intervals overlap does not tell."
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
    listed = table(["arms", "condition", "split", "decoding", "points", "95 % interval", "seeds"], rows)
    return listed + note(
        f"No hypothesis was stated on most of these {len(rows)} differences, and they are not corrected for their "
        "number: if nothing had any effect, about one in twenty intervals would leave out zero. They may suggest "
        "what to test next; they decide nothing."
    )


def _index(study: Study) -> dict[tuple[str, str, str, str], Mapping[str, Any]]:
    return {
        (row["condition"], row["arm"], row["split"], row["measure"]): row
        for row in study.results["summary"]["cells"]
    }


def _figure(measure: str, row: Mapping[str, Any]) -> str:
    """Write a mean with its interval; shares in percent, cut off at 0 and 100."""
    factor, digits = (100, 1) if measure in SHARES else (1, 2)
    mean = f"{factor * row['mean']:.{digits}f}"
    if not has_interval(measure, row["seeds"]):
        return mean
    low, high = max(0.0, factor * row["low"]), factor * row["high"]
    if measure in SHARES:
        high = min(100.0, high)
    return f"{mean} <small>{low:.{digits}f}–{high:.{digits}f}</small>"


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
        share = [_figure(name, one[name]) for name in ("zero_variance_early", "zero_variance")]
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
        "A group without learning signal is one whose episodes all earned the same reward (where each turn has an "
        "advantage of its own: turn by turn): GRPO learns nothing from it. The threshold is "
        f"{100 * threshold:g} % success of sampled training episodes, averaged over {WINDOW} steps. The median "
        "counts a seed that never reached it as longer than any other; where half did not, there is none."
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
                        _figure(name, cells[condition, arm, label, name])
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
        "The intervals of these two are over seeds alone, and the base, which is measured once, has none."
    ) + "".join(parts)


# Settings without any meaning for arms that learn from rewards, and for supervised fine-tuning.
_UNUSED = {
    False: ("sft_kl_coef",),
    True: (
        "reward",
        "dense",
        "credit",
        "kl_coef",
        "kl_estimator",
        "advantage",
        "group_size",
        "temperature",
        "gamma",
    ),
}


def _setting(config: Mapping[str, Any], key: str) -> str:
    return "–" if key in _UNUSED[config["algorithm"] == "sft"] else escape(config[key])


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
            [
                (arm_name(arm), [_setting(config, key) for key in own])
                for arm, config in configs.items()
            ],
        ) + note("A dash: the arm's learner does not use the setting."))
        + details("Settings of all arms", table(
            ["setting", "value"], [(escape(key), [escape(one)]) for key, one in first.items() if key in shared]
        ) + note("Not every learner uses each of them."))
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
    parts = [f"{key}: {f'({_arguments(one)})' if isinstance(one, Mapping) else one}" for key, one in value.items()]
    return ", ".join(parts) or "as shipped"


def _range(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    low, high = (f"{chosen(row[key] for row in rows):,.0f}" for chosen in (min, max))
    return low if low == high else f"{low} to {high}"


def _limits(study: Study) -> list[str]:
    results, settings = study.results, study.settings
    seeds, decided = len(settings["seeds"]), results["summary"]["hypotheses"]
    counts = [part["count"] for run in results["runs"] for part in run["splits"].values()]
    spans = [one["high"] - one["low"] for one in decided if one["measure"] in SHARES and one.get("seeds", 0) > 1]
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
            f"that learn from rewards {ratio[0]:,.0f}, and it read the traces of {_range(sft, 'distinct_tasks')} "
            f"tasks while they played {_range(rl, 'distinct_tasks')}. That comparison is one of methods, not "
            "at equal cost."
        )
    if rl:
        found.append(
            f"Arms that learn from rewards sampled {_range(rl, 'tokens')} tokens a run on average; a budget ends "
            "after a whole step. At equal tokens an arm whose episodes are short plays more of them and takes "
            f"more steps: {_range(rl, 'episodes')} episodes in {_range(rl, 'steps')} steps."
        )
    censored = sum(one["seeds"] - one["reached"] for one in rl)
    if censored:
        text = f"{censored} of {sum(one['seeds'] for one in rl)} runs never reached the threshold."
        if any(one["measure"] == "tokens_to_threshold" for one in decided):
            text += (
                " Hypotheses on the time to it count them with all tokens of their training, which understates "
                "differences."
            )
        found.append(text)
    return found
