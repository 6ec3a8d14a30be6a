"""Evaluation metrics: pure functions of transcripts and counts, blind to every shaped reward.

Two families: how often the environment's own verdict is success, with intervals that count tasks and not
samples; and how the tools were used, beside the teacher's use of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mentor_gym.rewards.matching import set_f1, student_calls, teacher_calls
from mentor_gym.types import CallError, StopReason, Transcript

# The normal quantile of a two-sided 95 % interval.
Z_95 = 1.959963984540054
INVALID_KINDS = (CallError.UNKNOWN_TOOL, CallError.MALFORMED, CallError.INVALID_ARGUMENTS)


def wilson_interval(successes: float, total: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a rate (Wilson 1927); unlike the normal one it never has length 0.

    Args:
        successes: How many succeeded. With several samples a task, the sum of the tasks' rates: counting tasks
            is conservative, whereas counting the samples of one task as independent would be too narrow.
        total: How many there were; at least 1.
        z: Normal quantile of the level.

    Raises:
        ValueError: `total` is below 1 or `successes` is not in 0 to `total`.

    >>> [round(bound, 4) for bound in wilson_interval(8, 10)]
    [0.4902, 0.9433]
    """
    if total < 1 or not 0 <= successes <= total:
        raise ValueError(f"successes must be 0 to total and total at least 1, got {successes!r} of {total!r}")
    rate, spread = successes / total, z * z / total
    centre = rate + spread / 2
    half = z * math.sqrt(rate * (1 - rate) / total + spread / (4 * total))
    # At rates 0 and 1 one bound is the rate itself; rounding must not push it past.
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    return max(0.0, min(low, rate)), min(1.0, max(high, rate))


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Estimate without bias the probability that at least one of `k` samples of a task is correct.

    1 - C(n - c, k) / C(n, k), equation 1 of Chen et al. 2021 (arXiv 2107.03374).

    Args:
        samples: How many were drawn, n.
        correct: How many of them were correct, c.
        k: Samples allowed; at most `samples`.

    Raises:
        ValueError: `k` is not in 1 to `samples`, or `correct` not in 0 to `samples`.

    >>> round(pass_at_k(samples=5, correct=2, k=2), 4)
    0.7
    """
    if not 1 <= k <= samples:
        raise ValueError(f"k must be 1 to the number of samples, {samples}, got {k!r}")
    if not 0 <= correct <= samples:
        raise ValueError(f"correct must be 0 to the number of samples, {samples}, got {correct!r}")
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def bootstrap_interval(
    values: Sequence[float], rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean (Efron 1979).

    Args:
        values: One value per task: tasks are what is drawn anew, since samples of one task are not independent.
        rng: Source of the resampling.
        level: Coverage.
        resamples: How many means are drawn.

    Raises:
        ValueError: There are no values.
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("an interval needs at least one value")
    # One draw at a time keeps the memory at the number of tasks.
    means = [array[rng.integers(array.size, size=array.size)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def js_divergence(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Return the Jensen-Shannon divergence of two frequency tables, in bits: 0 for equal shares, at most 1.

    Two empty tables are equal; an empty one and another are as far apart as can be.

    >>> round(js_divergence({"multiply": 3, "power": 1}, {"multiply": 1, "power": 1, "add": 2}), 4)
    0.3444
    """
    totals = sum(first.values()), sum(second.values())
    if not all(totals):
        return float(any(totals))
    divergence = 0.0
    for name in {**first, **second}:
        p, q = first.get(name, 0) / totals[0], second.get(name, 0) / totals[1]
        middle = (p + q) / 2
        divergence += sum(share * math.log2(share / middle) for share in (p, q) if share) / 2
    return min(max(divergence, 0.0), 1.0)


def similarity(student: Mapping[str, float], teacher: Mapping[str, float]) -> float:
    """Return how like two tables of tool calls are, 1 - JSD₂, after MENTOR's strategic similarity.

    The paper plots such a similarity; its exact transform is not published, so this is our reconstruction.

    >>> round(similarity({"multiply": 3, "power": 1}, {"multiply": 1, "power": 1, "add": 2}), 4)
    0.6556
    """
    return 1.0 - js_divergence(student, teacher)


def entropy(counts: Mapping[str, float]) -> float:
    """Return the Shannon entropy of a frequency table, in bits; 0 for an empty one.

    >>> entropy({"add": 2, "multiply": 1, "power": 1})
    1.5
    """
    total = sum(counts.values())
    return sum(count / total * math.log2(total / count) for count in counts.values() if count)


def tool_counts(transcripts: Sequence[Transcript]) -> Counter[str]:
    """Count the student's calls of each known tool."""
    return Counter(name for transcript in transcripts for name, _ in student_calls(transcript))


def teacher_tool_counts(transcripts: Sequence[Transcript]) -> Counter[str]:
    """Count the teacher's calls of each tool, over the same episodes."""
    return Counter(name for transcript in transcripts for name, _ in teacher_calls(transcript.task))


def task_similarity(transcripts: Sequence[Transcript]) -> float:
    """Return the mean over episodes of the similarity of its own calls to its teacher's.

    Pooled over a split, an agent that calls any offered tool at random looks much like the teacher, because the
    offers follow what the tasks need; episode by episode it does not.
    """
    return _mean(
        [
            similarity(
                Counter(name for name, _ in student_calls(item)),
                Counter(name for name, _ in teacher_calls(item.task)),
            )
            for item in transcripts
        ]
    )


def tool_f1(transcripts: Sequence[Transcript]) -> float:
    """Return the mean over episodes of the F1 of the student's set of tool names against the teacher's."""
    return _mean([set_f1(_names(student_calls(item)), _names(teacher_calls(item.task))) for item in transcripts])


def tool_use(transcripts: Sequence[Transcript]) -> float:
    """Return the share of episodes in which a known tool was called at least once.

    A policy that answers without tools, by guessing or by a shortcut in the prompt, scores 0 here however often it
    is right. A call that names no offered tool is no use of one.
    """
    return _mean([float(bool(student_calls(item))) for item in transcripts])


def calls_per_episode(transcripts: Sequence[Transcript]) -> float:
    """Return the mean number of calls written, invalid ones included."""
    return _mean([len(transcript.calls()) for transcript in transcripts])


def turns_per_episode(transcripts: Sequence[Transcript]) -> float:
    """Return the mean number of assistant turns, the answer included."""
    return _mean([len(transcript.turns) for transcript in transcripts])


def invalid_calls(transcripts: Sequence[Transcript]) -> dict[str, float]:
    """Return which share of all calls was invalid.

    A call that its tool refused (division by zero) is valid, and so is one beyond the limit of a turn.

    Returns:
        `rate`, and its parts `unknown_tool`, `malformed` and `invalid_arguments`; all 0 without calls.
    """
    errors = [result.error for transcript in transcripts for _, result in transcript.calls()]
    kinds = Counter(errors)
    shares = {kind.value: kinds[kind] / len(errors) if errors else 0.0 for kind in INVALID_KINDS}
    return {"rate": sum(kinds[kind] for kind in INVALID_KINDS) / len(errors) if errors else 0.0, **shares}


def stop_reasons(transcripts: Sequence[Transcript]) -> dict[str, float]:
    """Return the share of every stop reason, those that never occurred included."""
    counts = Counter(transcript.stop_reason for transcript in transcripts)
    return {reason.value: counts[reason] / len(transcripts) if transcripts else 0.0 for reason in StopReason}


def success_by(transcripts: Sequence[Transcript], key: Callable[[Transcript], Any]) -> dict[str, dict[str, float]]:
    """Return the success rate of every group of episodes.

    Args:
        transcripts: Finished episodes.
        key: Names the group of an episode; None leaves it out.

    Returns:
        For each group, in sorted order (numbers by size), `success` and the number of `episodes`.
    """
    groups: dict[Any, list[bool]] = {}
    for transcript in transcripts:
        group = key(transcript)
        if group is not None:
            groups.setdefault(group, []).append(transcript.is_success)
    # Numbers first and by size; a mixture of types must not fail to sort.
    order = sorted(groups, key=lambda g: (0, g, "") if isinstance(g, int | float) else (1, 0, str(g)))
    return {str(group): {"success": _mean(groups[group]), "episodes": len(groups[group])} for group in order}


def kind_of(transcript: Transcript) -> Any:
    """Return the task's kind, `meta["kind"]`; None when the task does not say."""
    return transcript.task.meta.get("kind")


def calls_of(transcript: Transcript) -> Any:
    """Return how many calls the teacher made, `meta["calls"]`; None when the task does not say."""
    return transcript.task.meta.get("calls")


def paths_of(transcript: Transcript) -> str | None:
    """Return whether one sequence of calls or several reach the answer, by `meta["paths"]`.

    Only with several paths can flexible and strict matching of the teacher differ.
    """
    paths = transcript.task.meta.get("paths")
    return None if paths is None else "single" if paths == 1 else "several"


def _names(calls: Sequence[tuple[str, Any]]) -> set[str]:
    return {name for name, _ in calls}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
