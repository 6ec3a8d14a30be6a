"""Rewards compared: the same episodes, scored by each of them.

What a reward is worth to a learner shows in how it orders episodes: whether right ones come first, whether the
samples of one task differ at all (GRPO learns nothing from a group whose rewards are equal), and whether the
sample that it pays best is a right one. Pure functions of finished episodes; `mentor_gym.cli_rewards` shows them.

Rewards are compared in single precision, as learners compare them: sums of the same terms in another order are
equal.
"""

from __future__ import annotations

import math
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mentor_gym.rewards.base import Reward
from mentor_gym.transcripts import Episode
from mentor_gym.types import Transcript

# What stands for the verdict of the environment among the rewards' names; no reward may have it.
SUCCESS = "success"
_MAX_ERROR_CHARS = 500

_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Broken:
    """A transcript that a reward could not score.

    Attributes:
        reward: The reward's name.
        position: Which of the transcripts.
        error: The exception in one line, or that the sum of the terms is not finite.
    """

    reward: str
    position: int
    error: str


@dataclass(frozen=True)
class Scores:
    """What rewards pay for transcripts; R rewards, N transcripts.

    Attributes:
        names: The rewards' names, R of them.
        totals_RN: Sums of the terms; NaN where the reward broke.
        terms: The terms, by reward and transcript; empty where the reward broke.
        broken: Where, and how.
    """

    names: list[str]
    totals_RN: _Floats
    terms: list[list[dict[str, float]]]
    broken: list[Broken]


@dataclass(frozen=True)
class Figures:
    """One reward's figures, over the episodes that it could score. NaN where there is nothing to measure on.

    Attributes:
        name: The reward.
        mean: Of the reward.
        std: Standard deviation of the reward, over all episodes as one population.
        low: The smallest reward paid.
        high: The largest.
        mean_right: Mean over episodes with a right answer.
        mean_wrong: Mean over the others.
        rho: Spearman's rank correlation with success.
        auc: Probability that a right episode earns more than a wrong one, ties counted as half.
        zero_variance: Share of the groups in which all episodes earn the same.
        misleading: Of the groups with right and wrong episodes, the share in which a wrong one earns more than
            every right one.
        broken: How many episodes it could not score. Their groups are left out.
    """

    name: str
    mean: float
    std: float
    low: float
    high: float
    mean_right: float
    mean_wrong: float
    rho: float
    auc: float
    zero_variance: float
    misleading: float
    broken: int


@dataclass(frozen=True)
class Example:
    """An episode on which two rewards disagree.

    Attributes:
        position: Which of the episodes.
        percentiles: Where each of the two ranks it among the episodes that both score, from 0, lowest, to 1.
    """

    position: int
    percentiles: tuple[float, float]


@dataclass(frozen=True)
class Pair:
    """Two rewards and the episodes on which they disagree most.

    Attributes:
        names: The two rewards.
        rho: Their rank correlation.
        examples: First those that the first reward ranks higher, then those that the second does; each kind begins
            with the largest difference of percentiles.
    """

    names: tuple[str, str]
    rho: float
    examples: list[Example]


@dataclass(frozen=True)
class Comparison:
    """What `compare` finds; R rewards.

    Attributes:
        episodes: The episodes.
        scores: What each reward pays for each of them.
        figures: One entry a reward.
        names: The rewards' names and, last, `SUCCESS`: the rows and columns of `rho_MM`.
        rho_MM: Spearman's rank correlations, M = R + 1. NaN where one of the two is constant.
        groups: How many groups have more than one episode.
        mixed_groups: How many of them have right and wrong episodes.
        pairs: Pairs of rewards that agree little, as `least_alike` orders them.
    """

    episodes: Sequence[Episode]
    scores: Scores
    figures: list[Figures]
    names: list[str]
    rho_MM: _Floats
    groups: int
    mixed_groups: int
    pairs: list[Pair]

    @property
    def sources(self) -> dict[str, int]:
        """How many episodes each source played, most first."""
        return dict(Counter(episode.source for episode in self.episodes).most_common())

    @property
    def tasks(self) -> int:
        """How many different tasks were played."""
        return len({_task_key(episode.transcript) for episode in self.episodes})

    @property
    def success(self) -> float:
        """Share of the episodes with a right answer."""
        return sum(episode.transcript.is_success for episode in self.episodes) / len(self.episodes)

    def as_json(self) -> dict[str, Any]:
        """Return all but the episodes and their scores as JSON values; None stands for NaN."""
        return {
            "episodes": len(self.episodes),
            "tasks": self.tasks,
            "sources": self.sources,
            "success": self.success,
            "groups": self.groups,
            "mixed_groups": self.mixed_groups,
            "rewards": [{key: _json_number(value) for key, value in vars(one).items()} for one in self.figures],
            "spearman": {
                name: {other: _json_number(rho) for other, rho in zip(self.names, row)}
                for name, row in zip(self.names, self.rho_MM.tolist())
            },
            "pairs": [
                {
                    "rewards": list(pair.names),
                    "spearman": _json_number(pair.rho),
                    "examples": [
                        {
                            "row": example.position,
                            "task_id": self.episodes[example.position].transcript.task.id,
                            "percentiles": list(example.percentiles),
                        }
                        for example in pair.examples
                    ],
                }
                for pair in self.pairs
            ],
            "broken": [vars(one) for one in self.scores.broken],
        }


def compare(
    episodes: Sequence[Episode],
    rewards: Mapping[str, Reward],
    pairs: int = 3,
    examples: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Score episodes by every reward and measure how the rewards differ.

    Args:
        episodes: What to score.
        rewards: The rewards by name.
        pairs: For how many pairs of rewards to look for examples, as `least_alike` orders them.
        examples: How many episodes to find for each side of such a pair.
        progress: Told after every reward how many are done, and of how many.

    Raises:
        ValueError: There are no episodes, or no rewards; a reward is called `success`; a count is negative.

    >>> from mentor_gym.data import data_path
    >>> from mentor_gym.rewards import make_reward
    >>> from mentor_gym.transcripts import read_transcripts
    >>> found = compare(
    ...     read_transcripts(data_path("transcripts", "math-1000.jsonl")),
    ...     {"sparse": make_reward("sparse"), "strict": make_reward("strict")},
    ... )
    >>> found.names, bool(found.figures[0].zero_variance > found.figures[1].zero_variance)
    (['sparse', 'strict', 'success'], True)
    """
    if not episodes or not rewards:
        raise ValueError("a comparison needs at least one episode and one reward")
    if SUCCESS in rewards:
        raise ValueError(f"{SUCCESS!r} is what the environment's verdict is called; name the reward otherwise")
    if pairs < 0 or examples < 0:
        raise ValueError(f"pairs and examples must not be negative, got {pairs} and {examples}")
    transcripts = [episode.transcript for episode in episodes]
    scores = score(transcripts, rewards, progress)
    right_N = np.array([transcript.is_success for transcript in transcripts])
    groups = group_positions(episodes)
    names = [*scores.names, SUCCESS]
    rho_MM = correlate(np.vstack([scores.totals_RN, right_N]))
    broken = Counter(one.reward for one in scores.broken)
    figures = [
        _measure(name, totals_N, right_N, groups, float(rho_MM[row, -1]), broken[name])
        for row, (name, totals_N) in enumerate(zip(scores.names, scores.totals_RN))
    ]
    keys = [_task_key(transcript) for transcript in transcripts]
    return Comparison(
        episodes=episodes,
        scores=scores,
        figures=figures,
        names=names,
        rho_MM=rho_MM,
        groups=len(groups),
        mixed_groups=sum(_is_mixed(right_N[group]) for group in groups),
        pairs=[
            Pair(
                (scores.names[first], scores.names[second]),
                float(rho_MM[first, second]),
                find_disagreements(scores.totals_RN[first], scores.totals_RN[second], examples, keys),
            )
            for first, second in least_alike(rho_MM[:-1, :-1])[:pairs]
        ],
    )


def score(
    transcripts: Sequence[Transcript],
    rewards: Mapping[str, Reward],
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score every transcript by every reward; one that a reward cannot score is recorded, and raises nothing.

    Args:
        transcripts: What to score.
        rewards: The rewards by name.
        progress: Told after every reward how many are done, and of how many.
    """
    totals_RN = np.full((len(rewards), len(transcripts)), np.nan)
    terms: list[list[dict[str, float]]] = []
    broken: list[Broken] = []
    for row, (name, reward) in enumerate(rewards.items()):
        terms.append([])
        for position, transcript in enumerate(transcripts):
            paid: dict[str, float] = {}
            try:
                paid = {str(term): float(value) for term, value in reward(transcript).items()}
                total = float(sum(paid.values()))
                if not math.isfinite(total):
                    raise FloatingPointError(f"the reward is {total}")
                totals_RN[row, position] = total
            except Exception as error:
                # Anybody's code: what is wrong with one reward must not hide the others.
                paid = {}
                message = traceback.format_exception_only(error)[-1].strip()[:_MAX_ERROR_CHARS]
                broken.append(Broken(name, position, message))
            terms[-1].append(paid)
        if progress is not None:
            progress(row + 1, len(rewards))
    return Scores(list(rewards), totals_RN, terms, broken)


def average_ranks(values_N: _Floats) -> _Floats:
    """Rank values from 1; equal ones share the mean of their ranks.

    >>> average_ranks(np.array([0.3, 0.1, 0.3])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, places, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    ranks: _Floats = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def spearman(first_N: _Floats, second_N: _Floats) -> float:
    """Return Spearman's rank correlation, Pearson's of the average ranks; NaN when one of the two is constant.

    Values are compared in single precision. Places where one of the two is NaN are left out.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0]))
    0.5
    """
    both = np.isfinite(first_N) & np.isfinite(second_N)
    if not both.any():
        return math.nan
    first, second = (_centred_ranks(values[both]) for values in (first_N, second_N))
    scale = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / scale if scale else math.nan


def correlate(values_MN: _Floats) -> _Floats:
    """Return Spearman's rank correlation of every row with every other, as a symmetric matrix (M, M)."""
    size = len(values_MN)
    rho_MM = np.full((size, size), np.nan)
    for row in range(size):
        for column in range(row + 1):
            rho_MM[row, column] = rho_MM[column, row] = spearman(values_MN[row], values_MN[column])
    return rho_MM


def auc(totals_N: _Floats, right_N: _Bools) -> float:
    """Return the probability that a right episode earns more than a wrong one; equal rewards count as half.

    That is the area under the ROC curve, from the rank sum of Mann and Whitney. NaN without right or wrong ones.

    Args:
        totals_N: The rewards, compared in single precision; NaN where there is none.
        right_N: Which episodes are right.

    >>> auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
    0.875
    """
    there = np.isfinite(totals_N)
    totals, right = totals_N[there], right_N[there]
    rights = int(right.sum())
    wrongs = len(right) - rights
    if not rights or not wrongs:
        return math.nan
    rank_sum = float(average_ranks(_single(totals))[right].sum())
    return (rank_sum - rights * (rights + 1) / 2) / (rights * wrongs)


def group_positions(episodes: Sequence[Episode]) -> list[NDArray[np.intp]]:
    """Return the positions of the episodes of every group that has more than one."""
    found: dict[str, list[int]] = {}
    for position, episode in enumerate(episodes):
        if episode.group is not None:
            found.setdefault(episode.group, []).append(position)
    return [np.array(positions) for positions in found.values() if len(positions) > 1]


def zero_variance_share(totals_N: _Floats, groups: Sequence[NDArray[np.intp]]) -> float:
    """Return the share of groups whose rewards are all equal in single precision; NaN without groups.

    A group with an episode without reward (NaN) is left out.

    >>> zero_variance_share(np.array([0.1 + 0.2, 0.3, 1.0, 0.0]), [np.array([0, 1]), np.array([2, 3])])
    0.5
    """
    scored = [_single(totals_N[group]) for group in groups if np.isfinite(totals_N[group]).all()]
    return sum(bool((rewards == rewards[0]).all()) for rewards in scored) / len(scored) if scored else math.nan


def misleading_share(totals_N: _Floats, right_N: _Bools, groups: Sequence[NDArray[np.intp]]) -> float:
    """Return how often a wrong episode earns more than every right one of its group.

    Args:
        totals_N: The rewards, compared in single precision; groups with a NaN are left out.
        right_N: Which episodes are right.
        groups: The positions of each group's episodes. Only those with right and wrong ones count.

    Returns:
        The share of these groups; NaN without any.
    """
    found = []
    for group in groups:
        totals, right = _single(totals_N[group]), right_N[group]
        if _is_mixed(right) and np.isfinite(totals).all():
            found.append(bool(totals[~right].max() > totals[right].max()))
    return sum(found) / len(found) if found else math.nan


def least_alike(rho_RR: _Floats) -> list[tuple[int, int]]:
    """Return the pairs of rewards by their rank correlation, lowest first; those without one are left out.

    Pairs in which no reward stands that an earlier pair has come before all others: the first few would else often
    be one odd reward beside every other.

    >>> rho_RR = np.array([[1, 0.1, 0.2, 0.3], [0.1, 1, 0.8, 0.9], [0.2, 0.8, 1, 0.7], [0.3, 0.9, 0.7, 1]])
    >>> least_alike(rho_RR)[:3]
    [(0, 1), (2, 3), (0, 2)]
    """
    pairs = sorted(
        (float(rho_RR[first, second]), first, second)
        for first in range(len(rho_RR))
        for second in range(first + 1, len(rho_RR))
        if not math.isnan(rho_RR[first, second])
    )
    taken: set[int] = set()
    fresh: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    for _, first, second in pairs:
        is_fresh = taken.isdisjoint((first, second))
        (fresh if is_fresh else others).append((first, second))
        if is_fresh:
            taken |= {first, second}
    return fresh + others


def find_disagreements(
    first_N: _Floats, second_N: _Floats, count: int, keys: Sequence[Any] | None = None
) -> list[Example]:
    """Find the episodes whose ranks by two rewards differ most.

    Args:
        first_N: What the first reward pays; NaN where it pays nothing.
        second_N: The second.
        count: How many episodes to find that the first ranks higher, and as many that the second does.
        keys: Of several episodes with the same key, for example samples of one task, only one is taken for each
            side; all count as different by default.

    Returns:
        As `Pair.examples`; of equal differences the earlier episode.

    >>> [example.position for example in find_disagreements(np.array([1.0, 2, 3]), np.array([3.0, 2, 1]), 1)]
    [2, 0]
    """
    positions = np.flatnonzero(np.isfinite(first_N) & np.isfinite(second_N))
    if not len(positions):
        return []
    # Ranks are exact, percentiles are not: equal differences have to stay equal.
    first, second = (average_ranks(_single(values[positions])) for values in (first_N, second_N))
    found = []
    for difference in (first - second, second - first):
        taken: set[Any] = set()
        for place in np.argsort(-difference, kind="stable"):
            position = int(positions[place])
            key = position if keys is None else keys[position]
            if difference[place] <= 0 or len(taken) == count:
                break
            if key not in taken:
                taken.add(key)
                low, high = ((float(ranks[place]) - 0.5) / len(positions) for ranks in (first, second))
                found.append(Example(position, (low, high)))
    return found


def _measure(
    name: str,
    totals_N: _Floats,
    right_N: _Bools,
    groups: Sequence[NDArray[np.intp]],
    rho: float,
    broken: int,
) -> Figures:
    there = np.isfinite(totals_N)
    totals, right = totals_N[there], right_N[there]
    return Figures(
        name=name,
        mean=_mean(totals),
        std=float(np.std(totals)) if len(totals) else math.nan,
        low=float(totals.min()) if len(totals) else math.nan,
        high=float(totals.max()) if len(totals) else math.nan,
        mean_right=_mean(totals[right]),
        mean_wrong=_mean(totals[~right]),
        rho=rho,
        auc=auc(totals, right),
        zero_variance=zero_variance_share(totals_N, groups),
        misleading=misleading_share(totals_N, right_N, groups),
        broken=broken,
    )


def _mean(values: _Floats) -> float:
    # np.mean of nothing warns.
    return float(np.mean(values)) if len(values) else math.nan


def _single(values_N: _Floats) -> _Floats:
    """Round to single precision: what then is equal earns the same."""
    return values_N.astype(np.float32).astype(np.float64)


def _centred_ranks(values_N: _Floats) -> _Floats:
    ranks = average_ranks(_single(values_N))
    return ranks - ranks.mean()


def _is_mixed(right_G: _Bools) -> bool:
    return bool(right_G.any() and not right_G.all())


def _task_key(transcript: Transcript) -> tuple[str, str, str]:
    task = transcript.task
    return task.suite, task.split, task.id


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
