"""Rewards against numbers worked out by hand, on transcripts that were really played."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import gymnasium as gym
import msgspec
import pytest
from conftest import answer, call, play
from hypothesis import given, settings
from hypothesis import strategies as st

import mentor_gym
from mentor_gym.rewards import PRESETS, MentorReward, make_reward
from mentor_gym.rewards.matching import MATCHERS, canonical, student_calls, teacher_calls
from mentor_gym.rewards.step_aligned import MAX_CALLS, aligned_share
from mentor_gym.types import Task, Transcript

POWER, MULTIPLY, ADD = call("power", base=3, exponent=2), call("multiply", a=2, b=9), call("add", a=1, b=2)
UNKNOWN, MALFORMED = call("subtract", a=1, b=2), "<tool_call>{</tool_call>"
RIGHT, WRONG = answer(18), answer(17)

# The known answers of the reward's specification: turns, and what mentor, any, notool, f1 and sparse pay.
COLUMNS = ("mentor", "mentor-any", "mentor-notool", "mentor-f1", "sparse")
# MENTOR's rewards, and what they pay for the teacher's calls before the answer. Others have tests of their own.
FAMILY = {
    "sparse": 0.0,
    "mentor": 0.16,
    "mentor-any": 0.06,
    "mentor-notool": 0.1,
    "mentor-f1": 0.16,
    "strict": 0.16,
    "step-aligned": 0.4,
}
TABLE = {
    "repeated, correct": ([MULTIPLY, POWER, MULTIPLY, RIGHT], (1.1, 1.0, 0.8, 1.1, 1.0)),
    "one of two, correct": ([MULTIPLY, RIGHT], (0.8, 1.0, 0.8, 1.0, 1.0)),
    "both, wrong": ([POWER, MULTIPLY, WRONG], (0.16, 0.06, 0.1, 0.16, 0.1)),
    "one and an unknown, wrong": ([MULTIPLY, UNKNOWN, WRONG], (0.0, 0.06, 0.0, 0.04, 0.1)),
    "no call, correct": ([RIGHT], (0.8, 0.7, 0.8, 0.8, 1.0)),
    "one too many, correct": ([POWER, MULTIPLY, ADD, RIGHT], (0.8, 1.0, 0.8, 1.04, 1.0)),
    # Beyond the table, from the formulas.
    "both in one turn, correct": ([POWER + MULTIPLY, RIGHT], (1.1, 1.0, 0.8, 1.1, 1.0)),
    "both and an unknown, correct": ([POWER, MULTIPLY, UNKNOWN, RIGHT], (1.0, 1.0, 0.7, 1.0, 1.0)),
    "both and a malformed one, correct": ([POWER, MALFORMED, MULTIPLY, RIGHT], (1.1, 1.0, 0.8, 1.1, 1.0)),
    "bad arguments count as calls": ([call("power"), call("multiply"), RIGHT], (1.1, 1.0, 0.8, 1.1, 1.0)),
    "no call, wrong": ([WRONG], (0.1, 0.0, 0.1, 0.1, 0.1)),
    "no answer": ([POWER, MULTIPLY, "well"], (0.1, 0.1, 0.1, 0.1, 0.1)),
    "empty answer": ([POWER, MULTIPLY, "<answer>  </answer>"], (0.1, 0.1, 0.1, 0.1, 0.1)),
    "turn limit": ([POWER, MULTIPLY] * 2, (0.0, 0.0, 0.0, 0.0, 0.0)),
}


def transcript_of(suite: str, turns: list[str], task_id: str = "both") -> Transcript:
    """Play turns on the bare environment, at most four, and return what it recorded."""
    environment = mentor_gym.MentorToolEnv(suite, max_turns=4)
    play(environment, turns, task_id)
    return environment.transcript


def pay(reward: Any, transcript: Transcript) -> float:
    """Return the sum of a reward's terms."""
    return math.fsum(make_reward(reward)(transcript).values())


@pytest.mark.parametrize("reliability", [0.5, 0.9, 1.0])
def test_from_which_success_on_tools_pay_more_than_copying_an_answer(suite: str, reliability: float) -> None:
    """The study's arithmetic: between the two, what is best differs."""
    for name, expected in (("sparse", reliability), ("mentor", (0.7 * reliability - 0.06) / 0.94)):
        right, wrong = (pay(name, transcript_of(suite, [POWER, MULTIPLY, end])) for end in (RIGHT, WRONG))
        copied, misled = (pay(name, transcript_of(suite, [end])) for end in (RIGHT, WRONG))
        found = (reliability * copied + (1 - reliability) * misled - wrong) / (right - wrong)
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("case", TABLE)
def test_known_answers(suite: str, case: str) -> None:
    turns, expected = TABLE[case]
    transcript = transcript_of(suite, turns)
    assert transcript.stop_reason is not None
    for name, value in zip(COLUMNS, expected):
        assert pay(name, transcript) == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("case", TABLE)
def test_through_the_environment_the_same_is_paid(suite: str, case: str) -> None:
    turns, expected = TABLE[case]
    for name, value in zip(COLUMNS, expected):
        environment = gym.make("MentorTool-v0", suite=suite, max_turns=4, reward=name)
        end = play(environment, turns)
        assert end["rewards"][:-1] == [0.0] * (len(turns) - 1)
        assert end["reward"] == pytest.approx(value, abs=1e-12)
        assert sum(end["info"]["reward_terms"].values()) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("matcher", "share"),
    [
        ("none", 0),
        ("any", 1),
        ("f1", 1),
        ("set", 1),
        ("multiset", 0),
        ("ordered_names", 0),
        ("calls", 0),
        ("ordered_calls", 0),
    ],
)
def test_the_ladder_on_a_repeated_call(suite: str, matcher: str, share: float) -> None:
    transcript = transcript_of(suite, [MULTIPLY, POWER, MULTIPLY, RIGHT])
    terms = make_reward({"name": "mentor", "matcher": matcher})(transcript)
    assert terms == pytest.approx({"outcome": 0.7, "alignment": 0.3 * share, "validity": 0.1, "floor": 0.0})


@pytest.mark.parametrize(
    ("turns", "matched"),
    [
        ([POWER, MULTIPLY], {"any", "f1", "set", "multiset", "ordered_names", "calls", "ordered_calls"}),
        # The order of calls that only read is free.
        ([MULTIPLY, POWER], {"any", "f1", "set", "multiset", "calls"}),
        ([call("power", base=1, exponent=1), MULTIPLY], {"any", "f1", "set", "multiset", "ordered_names"}),
        (
            [call("power", exponent=2.0, base=3), MULTIPLY],
            {"any", "f1", "set", "multiset", "ordered_names", "calls", "ordered_calls"},
        ),
        ([POWER], {"any"}),
        ([ADD], set()),
        ([], set()),
    ],
)
def test_each_rung_of_the_ladder(suite: str, turns: list[str], matched: set[str]) -> None:
    transcript = transcript_of(suite, [*turns, RIGHT])
    student, wanted = student_calls(transcript), teacher_calls(transcript.task)
    assert {name for name, match in MATCHERS.items() if match(student, wanted, transcript.tools) == 1.0} == matched


def test_strict_pays_only_the_teacher_s_very_calls(suite: str) -> None:
    assert pay("strict", transcript_of(suite, [POWER, MULTIPLY, RIGHT])) == pytest.approx(1.1)
    assert pay("strict", transcript_of(suite, [MULTIPLY, POWER, RIGHT])) == pytest.approx(0.8)


NEAR = call("multiply", a=2, b=8)

# Turns and the task; the share of aligned calls, whether all are valid, and what is paid: 0.7 + 0.3 share + 0.1.
ALIGNED = {
    "the teacher's calls": ([POWER, MULTIPLY, RIGHT], "both", 1.1),
    "in one turn, in quotes": ([POWER + call("multiply", a="2", b=9.0), RIGHT], "both", 1.1),
    "one of two": ([POWER, RIGHT], "both", 0.95),
    "the other order: one of two": ([MULTIPLY, POWER, RIGHT], "both", 0.95),
    "one between them: two of three": ([POWER, ADD, MULTIPLY, RIGHT], "both", 1.0),
    "one argument of two: 1.75 of 2": ([POWER, NEAR, RIGHT], "both", 1.0625),
    "an argument too many: 1 + 5/6 of 2": ([POWER, call("multiply", a=2, b=9, c=1), RIGHT], "both", 1.075),
    "no argument: 1.5 of 2": ([call("power"), MULTIPLY, RIGHT], "both", 1.025),
    "the best of two for one: 2 of 3": ([POWER, NEAR, MULTIPLY, RIGHT], "both", 1.0),
    "wrong": ([POWER, MULTIPLY, WRONG], "both", 0.4),
    "no answer": ([POWER, MULTIPLY, "well"], "both", 0.4),
    "turn limit": ([POWER, MULTIPLY] * 2, "both", 0.0),
    "nothing": (["well"], "both", 0.0),
    "a guess": ([WRONG], "both", 0.0),
    "an unknown tool": ([POWER, UNKNOWN, MULTIPLY, RIGHT], "both", 1.0),
    "a malformed call": ([POWER, MULTIPLY, MALFORMED, RIGHT], "both", 1.0),
    "no call, as the teacher": ([RIGHT], "direct", 1.0),
    "a call where the teacher makes none": ([ADD, RIGHT], "direct", 0.8),
}


@pytest.mark.parametrize("case", ALIGNED)
def test_step_aligned_by_hand(suite: str, case: str) -> None:
    turns, task_id, expected = ALIGNED[case]
    assert pay("step-aligned", transcript_of(suite, turns, task_id)) == pytest.approx(expected, abs=1e-12)


def test_step_aligned_weights(suite: str) -> None:
    half = transcript_of(suite, [POWER, call("multiply"), WRONG])
    for options, share in (({}, 0.75), ({"name_credit": 0.0}, 0.5), ({"name_credit": 1}, 1.0)):
        reward = {"name": "step-aligned", "alignment": 2.0, "wrong_scale": 0.5, "validity": 0, **options}
        assert make_reward(reward)(half)["alignment"] == pytest.approx(share)
    made: Any = make_reward({"name": "step-aligned", "alignment": -0.5, "wrong_scale": 2.0})
    bounds = (made.minimum, made.maximum, made.margin)
    assert bounds == pytest.approx((-1.0, 0.8, 0.7 - 0.5 - 0.1))
    assert made.right_beats_wrong
    assert not make_reward({"name": "step-aligned", "wrong_scale": 3}).right_beats_wrong  # type: ignore[attr-defined]
    for wrong in (-0.1, 1.5, "x", True):
        with pytest.raises(ValueError, match="name_credit must be a number from 0 to 1"):
            make_reward({"name": "step-aligned", "name_credit": wrong})


def test_stopping_early_is_never_worth_more_than_a_wrong_call(suite: str) -> None:
    """The F1 of names pays 2/3 for one right tool and 1/2 after a wrong second one; aligned, both are a half."""
    stopped, tried = transcript_of(suite, [POWER, WRONG]), transcript_of(suite, [POWER, ADD, WRONG])
    f1 = {"name": "mentor", "matcher": "f1", "alignment": 1.0, "wrong_scale": 1.0}
    for reward, first, second in ((f1, 2 / 3, 1 / 2), ("step-aligned", 0.15, 0.15)):
        paid = [make_reward(reward)(item)["alignment"] for item in (stopped, tried)]
        assert paid == pytest.approx([first, second])


SOME_CALL = st.tuples(st.sampled_from("ab"), st.dictionaries(st.sampled_from("xy"), st.integers(0, 1), max_size=2))


def best_share(student: list[Any], teacher: list[Any]) -> float:
    """Try every alignment."""

    def score(one: Any, other: Any) -> float:
        keys = one[1].keys() | other[1].keys()
        equal = sum(one[1].get(key, -1) == other[1].get(key, -2) for key in keys)
        return 0.5 + 0.5 * (equal / len(keys) if keys else 1.0) if one[0] == other[0] else 0.0

    best = 0.0
    for size in range(min(len(student), len(teacher)) + 1):
        for ours in itertools.combinations(student, size):
            for theirs in itertools.combinations(teacher, size):
                best = max(best, math.fsum(map(score, ours, theirs)))
    longest = max(len(student), len(teacher))
    return best / longest if longest else 1.0


@settings(max_examples=150)
@given(st.lists(SOME_CALL, max_size=5), st.lists(SOME_CALL, max_size=5), SOME_CALL)
def test_the_alignment_is_the_best_of_all(student: list[Any], teacher: list[Any], more: Any) -> None:
    share = aligned_share(student, teacher)
    assert share == pytest.approx(best_share(student, teacher), abs=1e-12)
    if len(student) < len(teacher):
        assert aligned_share([*student, more], teacher) >= share - 1e-12
    assert aligned_share(teacher, teacher) == 1.0


def test_an_endless_episode_is_aligned_in_bounded_time() -> None:
    calls = [("a", {"x": number % 7}) for number in range(MAX_CALLS + 1)]
    assert aligned_share(calls, calls) == MAX_CALLS / (MAX_CALLS + 1)
    assert aligned_share([("b", {})] * 10_000 + calls, calls[:2]) == 0.0


FIXED = {"name": "mentor", "fix_quirks": True}


@pytest.mark.parametrize(
    ("turns", "task_id", "released", "fixed"),
    [
        ([MALFORMED, POWER, MULTIPLY, RIGHT], "both", 1.1, 1.0),  # 1: malformed calls
        ([RIGHT], "both", 0.8, 0.7),  # 2: validity without a call
        ([WRONG], "both", 0.1, 0.0),
        (["well"], "both", 0.1, 0.0),  # 3: no answer beats a wrong one
        ([UNKNOWN, WRONG], "both", 0.0, 0.0),
        ([RIGHT], "direct", 0.1, 1.0),  # 4: a teacher without tools
        ([WRONG], "direct", 0.1, 0.06),
        ([ADD, RIGHT], "direct", 0.1, 0.8),
        (["well"], "direct", 0.1, 0.0),
        ([POWER, MULTIPLY, RIGHT], "both", 1.1, 1.1),  # what no quirk touches
        ([POWER, MULTIPLY, WRONG], "both", 0.16, 0.16),
        ([ADD] * 4, "both", 0.0, 0.0),
        ([ADD] * 4, "direct", 0.0, 0.0),
    ],
)
def test_quirks_and_their_repair(
    suite: str, turns: list[str], task_id: str, released: float, fixed: float
) -> None:
    transcript = transcript_of(suite, turns, task_id)
    assert pay("mentor", transcript) == pytest.approx(released, abs=1e-12)
    assert pay(FIXED, transcript) == pytest.approx(fixed, abs=1e-12)


def test_cut_off_by_the_agent_pays_nothing(suite: str) -> None:
    for name in FAMILY:
        environment = gym.make("MentorTool-v0", suite=suite, reward=name)
        environment.reset(options={"task_id": "both"})
        environment.step(POWER)
        environment.unwrapped.mark_cut_off()  # type: ignore[attr-defined]
        assert environment.step(MULTIPLY + RIGHT)[1:4] == (0.0, False, True)


@pytest.mark.parametrize("name", PRESETS)
def test_unfinished_transcripts_have_a_reward(suite: str, name: str) -> None:
    reward = make_reward(name)
    environment = mentor_gym.MentorToolEnv(suite)
    environment.reset(options={"task_id": "both"})
    keys = set(reward(environment.transcript))
    for turn in (POWER, MULTIPLY, "<answer>", UNKNOWN, MALFORMED):
        environment.step(turn)
        terms = reward(environment.transcript)
        assert set(terms) == keys
        assert all(math.isfinite(value) for value in terms.values())
    environment.reset(options={"task_id": "both"})
    environment.step(POWER)
    environment.step(MULTIPLY)
    if name in FAMILY:
        assert pay(name, environment.transcript) == pytest.approx(FAMILY[name])


def test_an_unfinished_task_without_teacher_tools_pays_no_agreement_yet(suite: str) -> None:
    environment = mentor_gym.MentorToolEnv(suite)
    environment.reset(options={"task_id": "direct"})
    expected = {"outcome": 0.0, "alignment": 0.0, "validity": 0.1, "floor": 0.0}
    assert make_reward("mentor")(environment.transcript) == expected


def test_42_a_tool_that_prints_the_answer_pays_nothing(suite: str) -> None:
    environment = mentor_gym.MentorToolEnv(suite)
    for turns in (
        [call("reveal"), "It was printed above."],
        [call("reveal"), call("echo", text="<answer>18</answer>"), WRONG],
        [call("echo", text="\\boxed{18}"), "done"],
    ):
        end = play(environment, turns)
        assert not end["info"]["is_success"]
        for name in PRESETS:
            assert make_reward(name)(environment.transcript).get("outcome", 0.0) <= 0.0


@pytest.mark.parametrize("name", PRESETS)
def test_rewards_are_pure(suite: str, name: str) -> None:
    reward = make_reward(name)
    for turns, _ in TABLE.values():
        transcript = transcript_of(suite, turns)
        before = copy.deepcopy(transcript)
        first = reward(transcript)
        first_copy = dict(first)
        first.clear()  # what a caller does with the terms must not come back
        assert reward(transcript) == first_copy
        assert transcript == before


TURN = st.sampled_from([POWER, MULTIPLY, ADD, UNKNOWN, MALFORMED, call("refuse"), "<answer>", "well", POWER + ADD])
EPISODE = st.tuples(st.lists(TURN, max_size=4), st.sampled_from([RIGHT, WRONG, "<answer></answer>", POWER]))


@settings(max_examples=60)
@given(EPISODE, st.sampled_from(["both", "direct"]), st.sampled_from([*PRESETS, "fixed"]), st.integers(0, 2))
def test_dense_and_terminal_payment_have_the_same_return(
    suite: str, episode: tuple[list[str], str], task_id: str, name: str, prefix: int
) -> None:
    options = {"teacher_turns": prefix if task_id == "both" else 0}
    returns = []
    for dense in (False, True):
        reward = FIXED if name == "fixed" else name
        environment = gym.make(
            "MentorTool-v0", suite=suite, max_turns=4, reward=reward, dense=dense, disable_env_checker=True
        )
        environment.reset(options={"task_id": task_id, **options})
        total: float = 0.0
        over = False
        for turn in [*episode[0], *[episode[1]] * 4]:
            _, paid, terminated, truncated, info = environment.step(turn)
            assert math.isfinite(paid)
            total += float(paid)
            over = terminated or truncated
            if over:
                break
        assert over
        assert total == pytest.approx(sum(info["reward_terms"].values()), abs=1e-9)
        returns.append(total)
        made = make_reward(reward)
        least = getattr(made, "minimum", None)
        assert total <= made.maximum + 1e-9
        assert least is None or total >= least - 1e-9
    assert returns[0] == pytest.approx(returns[1], abs=1e-9)


def test_dense_pays_agreement_when_it_is_reached(suite: str) -> None:
    environment = gym.make("MentorTool-v0", suite=suite, dense=True)
    rewards = play(environment, [POWER, MULTIPLY, ADD, RIGHT])["rewards"]
    assert rewards == pytest.approx([0.1, 0.06, -0.06, 0.7])


def test_maximum_is_what_the_teacher_earns(suite: str) -> None:
    transcript = transcript_of(suite, [POWER, MULTIPLY, RIGHT])
    for name in FAMILY:
        assert pay(name, transcript) == pytest.approx(make_reward(name).maximum)


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ("metor", "unknown reward 'metor'; known: sparse, mentor.*; did you mean 'mentor'"),
        ({}, "unknown reward None"),
        ({"name": ["mentor"]}, "unknown reward"),
        ({"name": "mentor", "match": "set"}, "match"),
        ({"name": "mentor", "matcher": "sets"}, "unknown matcher 'sets'; known: none, any.*; did you mean 'set'"),
        ({"name": "mentor", "matcher": []}, "unknown matcher"),
        ({"name": "mentor", "outcome": "high"}, "outcome must be a finite number"),
        ({"name": "mentor", "floor": math.nan}, "floor must be a finite number"),
        ({"name": "sparse", "wrong": None}, "wrong must be a finite number"),
        (None, "a reward is a name"),
        (3, "a reward is a name"),
        (MentorReward, r"not a class: make one, MentorReward\(…\)"),
        pytest.param(
            {"name": "sparse", "wrong": 10**400}, "wrong must be a finite number", id="beyond all floats"
        ),
        ({"name": "mentor", "fix_quirks": "no"}, "fix_quirks must be True or False"),
    ],
)
def test_wrong_rewards_are_refused(reward: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_reward(reward)


def test_presets_have_summaries_of_their_own() -> None:
    summaries = [preset.summary for preset in PRESETS.values()]
    assert len(set(summaries)) == len(summaries)
    assert all(summary and "\n" not in summary for summary in summaries)


def test_canonical_arguments() -> None:
    assert canonical({"a": 1, "b": [2.0]}) == canonical({"b": [2], "a": 1.0})
    assert canonical([True]) != canonical([1])
    assert canonical([1, 2]) != canonical([2, 1])
    assert canonical({"a": None}) != canonical({"a": 0})
    hash(canonical({"a": [{"b": [1, "x", None]}]}))


def test_a_teacher_known_by_its_tools_alone_guides_too() -> None:
    """MENTOR's own data names the teacher's tools and has no trace."""
    meta = {"teacher_tools": ["power", "multiply"]}
    task = Task("1", "math", "train", "?", ["power", "multiply"], "18", {"kind": "number"}, None, [], meta)
    assert teacher_calls(task) == (("power", {}), ("multiply", {}))
    assert teacher_calls(msgspec.structs.replace(task, meta={})) == ()
