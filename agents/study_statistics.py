"""The statistics of a study: intervals over seeds and tasks, verdicts on hypotheses, times to a threshold.

Everything is a pure function of what `agents.study.gather` collected. A statistic is a weighted sum of means,
each of one arm in one condition. Its interval comes from a bootstrap that draws seeds and tasks anew, both at
once, and the same ones for every part of the sum: what a seed or a task does to all arms alike cancels in their
difference. Between task sets that differ nothing is paired.

A percentile bootstrap over a handful of seeds is too narrow: of n seeds it sees the spread (n - 1) / n, and it
knows nothing of how uncertain that spread is. What the drawn seeds add is therefore widened by sqrt(n / (n - 1))
and by Student's quantile over the normal one, so that with seeds that vary normally the interval covers what it
says. Where seeds hardly differ it covers more, about 99 % instead of 95 % with five seeds: what sampling leaves to
chance is then counted both in the tasks drawn and in the spread of the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.metrics import Z_95
from agents.study_plan import BASE, DIGITS, SPLIT_MEASURES, TASK_MEASURES, TRAINING_MEASURES
from agents.summary import RESAMPLES, format_points

WINDOW = 5  # steps over which success is averaged before it is held against the threshold
# Measures that tables and figures show; those of hypotheses come in addition.
SHOWN = ("sampled", "greedy", "tool_use", "tool_f1", "similarity")
# Measures that are shares, and are written in percent.
SHARES = (*TASK_MEASURES, "zero_variance", "zero_variance_early", "train_success", "sampled_any", "invalid")
# Student's 97.5 % quantile for 1 to 30 degrees of freedom.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Values:
    """What one arm reached in one condition.

    Attributes:
        seeds: The seeds of the rows; None where the values are no run's but hold for every seed, a base's.
        tasks: Names the set of tasks of the columns; empty for a figure that is one value a run.
        table: Values, [S, N].
        is_share: Whether they lie between 0 and 1.
    """

    seeds: tuple[int, ...] | None
    tasks: str
    table: np.ndarray
    is_share: bool = True


class Resampler:
    """Draws of seeds and of tasks, made once and used for every statistic, which is what pairs them.

    Args:
        seed: Of the draws.
        resamples: How many there are.
    """

    def __init__(self, seed: int = 0, resamples: int = RESAMPLES) -> None:
        self.seed = seed
        self.resamples = resamples
        self._drawn: dict[tuple[str, int], np.ndarray] = {}

    def draw(self, what: str, count: int) -> np.ndarray:
        """Return the weights of `count` things drawn with replacement, [resamples, count]; rows sum to 1."""
        key = (what, count)
        if key not in self._drawn:
            rng = np.random.default_rng([self.seed, count, *what.encode()])
            self._drawn[key] = rng.multinomial(count, np.full(count, 1 / count), size=self.resamples) / count
        return self._drawn[key]


def widen(seeds: int) -> float:
    """Return the factor by which what the drawn seeds add is widened; see the module.

    >>> round(widen(5), 3)
    1.584
    """
    degrees = seeds - 1
    student = _STUDENT[degrees - 1] if degrees <= len(_STUDENT) else Z_95 + 2.37 / degrees
    return math.sqrt(seeds / degrees) * student / Z_95


def estimate(terms: Sequence[tuple[float, Values]], resampler: Resampler) -> dict[str, float] | None:
    """Estimate a weighted sum of means with a 95 % interval over seeds and tasks.

    Args:
        terms: Weights, and the values whose means they weigh.
        resampler: The draws.

    Returns:
        `mean`, `low`, `high`, and `seeds`, how many all terms have in common; with one seed the interval is that
        over tasks alone. A sum of shares has no bound that it cannot reach. None without a common seed.
    """
    shared = _shared_seeds([values for _, values in terms])
    if shared is not None and not shared:
        return None
    count = len(shared) if shared else 1
    weights_RS = resampler.draw("seeds", count)
    mean = 0.0
    even_R, drawn_R = np.zeros(resampler.resamples), np.zeros(resampler.resamples)
    for weight, values in terms:
        table_SN = values.table
        if values.seeds is not None and shared is not None:
            table_SN = table_SN[[values.seeds.index(seed) for seed in shared]]
        if values.tasks:
            by_seed_RS = resampler.draw(values.tasks, table_SN.shape[1]) @ table_SN.T
        else:
            by_seed_RS = np.broadcast_to(table_SN.mean(1), (resampler.resamples, len(table_SN)))
        mean += weight * float(table_SN.mean())
        even_R += weight * by_seed_RS.mean(1)
        # A base has one row, which counts for every seed.
        drawn_R += weight * (by_seed_RS * weights_RS).sum(1)
    sums_R = even_R + (widen(count) if count > 1 else 1.0) * (drawn_R - even_R)
    low, high = np.percentile(sums_R, [2.5, 97.5])
    if all(values.is_share for _, values in terms):
        low = max(low, sum(min(weight, 0.0) for weight, _ in terms))
        high = min(high, sum(max(weight, 0.0) for weight, _ in terms))
    return {"mean": mean, "low": float(low), "high": float(high), "seeds": len(shared or ())}


def _shared_seeds(values: Iterable[Values]) -> list[int] | None:
    """Return the seeds that all have; None when no values belong to a seed."""
    known = [one.seeds for one in values if one.seeds is not None]
    return sorted(set.intersection(*map(set, known))) if known else None


def judge(expect: str, low: float, high: float, margin: float = 0.0) -> str:
    """Return the verdict on a hypothesis: `"held"`, `"contradicted"` or `"undecided"`.

    A sign is decided by an interval without zero. That an effect is nil is held when the whole interval lies
    within the margin, and contradicted when it lies outside.

    >>> judge("positive", 0.01, 0.2), judge("negative", 0.01, 0.2), judge("positive", -0.01, 0.2)
    ('held', 'contradicted', 'undecided')
    >>> judge("zero", -0.02, 0.03, margin=0.05), judge("zero", 0.06, 0.2, margin=0.05)
    ('held', 'contradicted')
    """
    if expect == "zero":
        if -margin <= low and high <= margin:
            return "held"
        return "contradicted" if low > margin or high < -margin else "undecided"
    if expect == "negative":
        low, high = -high, -low
    return "held" if low > 0 else "contradicted" if high < 0 else "undecided"


def time_to_threshold(curve: Mapping[str, Sequence[Any]], threshold: float) -> int | None:
    """Return after how many sampled tokens the success of `WINDOW` steps first averages the threshold.

    Args:
        curve: Columns `success` and `tokens`, the latter summed up from the start.
        threshold: A share.

    Returns:
        Tokens; None where it was never reached, or nothing was sampled.

    >>> curve = {"success": [0, 0, 1, 1, 1, 1, 1], "tokens": [10, 20, 30, 40, 50, 60, 70]}
    >>> time_to_threshold(curve, 0.8), time_to_threshold(curve, 0.6), time_to_threshold(curve, 1.1)
    (60, 50, None)
    """
    success = curve.get("success", ())
    for end in range(WINDOW, len(success) + 1):
        # Rounding must not keep four of five from being 0.8.
        if sum(success[end - WINDOW : end]) / WINDOW >= threshold - 1e-9:
            return int(curve["tokens"][end - 1])
    return None


def pack(shares: Sequence[float], samples: int) -> str:
    """Write shares of `samples` episodes as text: a digit a task, or bits, first task first, in hexadecimal.

    >>> pack([0.0, 0.5, 1.0], 4), pack([1, 0, 1, 1, 1], 1)
    ('024', '17')
    """
    counts = [round(share * samples) for share in shares]
    if samples > 1:
        return "".join(DIGITS[count] for count in counts)
    return f"{int('0' + ''.join(map(str, counts)), 2):x}"


def unpack(split: Mapping[str, Any], key: str) -> list[float]:
    """Read a vector of a compact split: a share for each task.

    >>> unpack({"count": 3, "samples": 4, "sampled_success": "024"}, "sampled_success")
    [0.0, 0.5, 1.0]
    >>> unpack({"count": 5, "samples": 4, "success": "17"}, "success")
    [1.0, 0.0, 1.0, 1.0, 1.0]
    """
    text, samples = split[key], split["samples"] if key.startswith("sampled") else 1
    if samples > 1:
        return [DIGITS.index(digit) / samples for digit in text]
    return [float(bit) for bit in f"{int(text, 16):0{split['count']}b}"]


class Study:
    """Gathered runs, by condition, arm and seed, and what they are asked for.

    Args:
        results: What `agents.study.gather` returned.
    """

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.results = results
        self.settings = results["settings"]
        self.arms = list(self.settings["arms"])
        self.conditions = self.settings["conditions"]
        self._runs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for run in results["runs"]:
            key = (run["condition"], run["arm"])
            if run["arm"] == BASE:
                key = (f"{run['base']}/{run['evaluation']}", BASE)
            self._runs.setdefault(key, []).append(run)

    def runs(self, condition: str, arm: str) -> list[Mapping[str, Any]]:
        """Return the finished runs of an arm in a condition, by seed."""
        own = self.conditions[condition]
        key = (f"{own['base']}/{own['evaluation']}", BASE) if arm == BASE else (condition, arm)
        return sorted(self._runs.get(key, ()), key=lambda run: run["seed"])

    def labels(self, condition: str) -> list[str]:
        """Return the splits that a condition is measured on."""
        return list(self.settings["evaluations"][self.conditions[condition]["evaluation"]]["splits"])

    def arms_of(self, condition: str) -> list[str]:
        """Return the arms that a condition trains, in the order of the study."""
        own = self.conditions[condition]["arms"]
        return [arm for arm in self.arms if own == "all" or arm in own]

    def values(self, measure: str, condition: str, arm: str, split: str = "") -> Values | None:
        """Return what an arm reached; None without runs, or where the measure does not exist."""
        runs = self.runs(condition, arm)
        if not runs:
            return None
        seeds = None if arm == BASE else tuple(run["seed"] for run in runs)
        if measure in TRAINING_MEASURES:
            figures = [self.training_value(measure, run) for run in runs]
            if any(figure is None for figure in figures):
                return None
            return Values(seeds, "", np.array(figures, dtype=float)[:, None], measure in SHARES)
        parts = [run["splits"].get(split) for run in runs]
        if any(part is None for part in parts):
            return None
        if measure in SPLIT_MEASURES:
            decoding, name = SPLIT_MEASURES[measure]
            table = np.array([part[decoding][name] for part in parts], dtype=float)[:, None]
            return Values(seeds, "", table, name != "calls")
        key = TASK_MEASURES[measure]
        return Values(seeds, parts[0]["tasks"], np.array([unpack(part, key) for part in parts]))

    def training_value(self, measure: str, run: Mapping[str, Any]) -> float | None:
        """Return a measure of a run's training; None where there is none, as in supervised fine-tuning.

        Where the threshold was never reached, `tokens_to_threshold` is the tokens of the whole training: its mean
        is the restricted one, which favours nobody as long as the budgets are equal, and understates the time.
        """
        training = run.get("training")
        if not training or "zero_variance" not in training["curve"]:
            return None
        curve = training["curve"]
        if measure == "tokens_to_threshold":
            reached = time_to_threshold(curve, self.settings["threshold"])
            return float(training["tokens"] if reached is None else reached)
        if measure == "train_success":
            return _mean(curve["success"][-WINDOW:])
        values = curve.get(measure.removesuffix("_early"))
        if values is None:
            return None
        return _mean(values[: max(1, len(values) // 3)] if measure.endswith("_early") else values)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0


def summarise(results: Mapping[str, Any], resampler: Resampler | None = None) -> dict[str, Any]:
    """Compute every figure of the report.

    Args:
        results: What `agents.study.gather` returned.
        resampler: The draws; None for the usual ones.

    Returns:
        `cells` (`condition, arm, split, measure, mean, low, high, seeds`), `differences` (the same with `first`
        and `second` instead of `arm`; splits only), `training` (see `describe_training`) and `hypotheses` (see
        `decide`).
    """
    study, resampler = Study(results), resampler or Resampler()
    cells, differences = [], []
    asked = [(one["measure"], one["split"]) for one in study.settings["hypotheses"]]
    for condition in study.conditions:
        arms = [BASE, *study.arms_of(condition)]
        for split in study.labels(condition):
            measures = dict.fromkeys((*SHOWN, *(measure for measure, where in asked if where == split)))
            for measure in measures:
                known = {arm: study.values(measure, condition, arm, split) for arm in arms}
                names = {"condition": condition, "split": split, "measure": measure}
                cells += [
                    {**names, "arm": arm, **_rounded(estimate([(1.0, values)], resampler))}
                    for arm, values in known.items()
                    if values is not None
                ]
                if measure in ("sampled", "greedy"):
                    differences += _compare(study, known, names, resampler)
    training = [
        one
        for condition in study.conditions
        for arm in study.arms_of(condition)
        if (one := describe_training(study, condition, arm, resampler))
    ]
    hypotheses = [decide(study, one, resampler) for one in study.settings["hypotheses"]]
    return {"cells": cells, "differences": differences, "training": training, "hypotheses": hypotheses}


def _compare(
    study: Study, known: Mapping[str, Values | None], names: Mapping[str, str], resampler: Resampler
) -> list[dict[str, Any]]:
    found = []
    for reference in study.settings["references"]:
        for arm in known:
            first, second = known[arm], known.get(reference)
            # A reference is compared with an earlier one already.
            if (
                first is None
                or second is None
                or arm in study.settings["references"][: _place(study, reference) + 1]
            ):
                continue
            difference = estimate([(1.0, first), (-1.0, second)], resampler)
            if difference is not None:
                found.append({**names, "first": arm, "second": reference, **_rounded(difference)})
    return found


def _place(study: Study, reference: str) -> int:
    place: int = study.settings["references"].index(reference)
    return place


def describe_training(study: Study, condition: str, arm: str, resampler: Resampler) -> dict[str, Any] | None:
    """Say what the training of an arm in a condition cost and showed; None without runs.

    Returns:
        `condition, arm, seeds`; means of `tokens, episodes, distinct_tasks, cpu_seconds, steps`; where rewards
        were learnt from also `zero_variance, zero_variance_early, train_success` and `kl` (each `mean, low,
        high`), `reached` (how many seeds reached the threshold), `median` (tokens, over all seeds, those that
        never did counted as longest; None where that is one of them) and `median_reached` (over those that did).
    """
    runs = study.runs(condition, arm)
    if not runs:
        return None
    found: dict[str, Any] = {"condition": condition, "arm": arm, "seeds": len(runs)}
    for key in ("tokens", "episodes", "distinct_tasks", "cpu_seconds"):
        found[key] = round(_mean([run["training"][key] for run in runs]), 1)
    found["steps"] = round(_mean([len(run["training"]["curve"]["tokens"]) for run in runs]), 1)
    for measure in ("zero_variance", "zero_variance_early", "train_success", "kl"):
        values = study.values(measure, condition, arm)
        if values is not None:
            found[measure] = _rounded(estimate([(1.0, values)], resampler))
    if "zero_variance" in found:
        times = [time_to_threshold(run["training"]["curve"], study.settings["threshold"]) for run in runs]
        reached = sorted(time for time in times if time is not None)
        found["reached"] = len(reached)
        found["median"] = median_time(times)
        found["median_reached"] = median_time(reached)
    return found


def median_time(times: Sequence[int | None]) -> float | None:
    """Return the median of times, None counted as longer than any other; None where the median is not known.

    >>> median_time([5, None, 3]), median_time([5, None, 3, None]), median_time([5, 3, None, 4])
    (5.0, None, 4.5)
    """
    if not times:
        return None
    ordered = sorted(math.inf if time is None else float(time) for time in times)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return middle if math.isfinite(middle) else None


def decide(study: Study, hypothesis: Mapping[str, Any], resampler: Resampler) -> dict[str, Any]:
    """Decide one hypothesis.

    Returns:
        The hypothesis with `verdict` (`"held"`, `"contradicted"`, `"undecided"`, or `"not run"`), `mean, low,
        high, seeds` where there are runs, `planned` seeds, and `censored`, for times to the threshold: in how many
        of the runs it was never reached.
    """
    terms, censored = [], 0
    planned = len(study.settings["seeds"])
    for term in hypothesis["terms"]:
        values = study.values(hypothesis["measure"], term["condition"], term["arm"], hypothesis["split"])
        if values is None:
            return {**hypothesis, "verdict": "not run", "planned": planned}
        terms.append((float(term["weight"]), values))
        if hypothesis["measure"] == "tokens_to_threshold":
            curves = [run["training"]["curve"] for run in study.runs(term["condition"], term["arm"])]
            censored += sum(time_to_threshold(curve, study.settings["threshold"]) is None for curve in curves)
    found = estimate(terms, resampler)
    if found is None:
        return {**hypothesis, "verdict": "not run", "planned": planned}
    verdict = judge(hypothesis["expect"], found["low"], found["high"], hypothesis["margin"])
    # How much seeds differ cannot be seen from one.
    if found["seeds"] == 1:
        verdict = "undecided"
    return {**hypothesis, **_rounded(found), "planned": planned, "censored": censored, "verdict": verdict}


def findings(results: Mapping[str, Any]) -> list[str]:
    """Write one sentence for each hypothesis: the statement, the figure with its interval, and the verdict.

    Args:
        results: Results with their `summary`.
    """
    return [write_finding(one, results["quick"]) for one in results["summary"]["hypotheses"]]


def write_finding(decided: Mapping[str, Any], quick: bool = False) -> str:
    """Write the sentence of one decided hypothesis."""
    statement = decided["statement"].strip().rstrip(".")
    if decided["verdict"] == "not run":
        return f"Not run: {statement}."
    measure = decided["measure"]
    amount, low, high = (format_amount(measure, decided[key]) for key in ("mean", "low", "high"))
    unit = get_unit(measure)
    interval = f"95 % interval {low} to {high}" if has_interval(measure, decided["seeds"]) else "no interval"
    notes = [f"{decided['seeds']} seeds"]
    if decided["seeds"] == 1:
        notes = ["1 seed, so that it cannot be decided"]
    if decided["seeds"] < decided["planned"]:
        notes.append(f"preliminary: {decided['planned']} are planned")
    if decided["censored"]:
        notes.append(f"never reached in {decided['censored']} runs, which count with all their tokens")
    if quick:
        notes.append("quick settings, which say next to nothing")
    predicted = format_prediction(decided)
    return (
        f"{decided['verdict'].capitalize()}: {statement} ({amount}{unit}, {interval}, "
        f"predicted {predicted}; {'; '.join(notes)})."
    )


def format_prediction(hypothesis: Mapping[str, Any]) -> str:
    """Write what a hypothesis predicts: a sign, or the range that counts as zero."""
    if hypothesis["expect"] != "zero":
        return str(hypothesis["expect"])
    measure = hypothesis["measure"]
    return f"within ±{format_amount(measure, hypothesis['margin']).removeprefix('+')}{get_unit(measure)}"


def format_amount(measure: str, value: float) -> str:
    """Write a value of a statistic, signed: percentage points for shares, thousands of tokens, or as it is."""
    if measure in SHARES:
        return format_points(value)
    if measure == "tokens_to_threshold":
        return f"{value / 1000 + 0.0:+.1f}"
    return f"{round(value, 3) + 0.0:+.3f}"


def has_interval(measure: str, seeds: int) -> bool:
    """Tell whether an interval says anything: a figure with one value a run has none without several seeds.

    >>> has_interval("sampled", 1), has_interval("calls", 1), has_interval("calls", 5)
    (True, False, True)
    """
    return seeds > 1 or measure in TASK_MEASURES


def get_unit(measure: str) -> str:
    """Return what stands behind a value of `format_amount`."""
    return " points" if measure in SHARES else " thousand tokens" if measure == "tokens_to_threshold" else ""


def _rounded(found: Mapping[str, float] | None) -> dict[str, float]:
    if found is None:
        return {}
    return {key: value if key == "seeds" else round(value, 4) for key, value in found.items()}
