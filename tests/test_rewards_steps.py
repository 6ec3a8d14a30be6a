"""Search-R1, R1-Searcher, StepTool and SRL against numbers worked out by hand."""

from __future__ import annotations

import difflib
import math
import random
import time
from typing import Any

import gymnasium as gym
import pytest
from conftest import answer, call, play

import mentor_gym
from agents.advantages import returns_to_go
from mentor_gym.protocol import parse_action
from mentor_gym.rewards import make_reward
from mentor_gym.rewards.r1_searcher import R1SearcherReward, word_f1
from mentor_gym.rewards.search_r1 import SearchR1Reward, exact_match
from mentor_gym.rewards.srl import SRLReward, has_spread, keep_groups, similarity
from mentor_gym.rewards.steptool import StepToolReward, common_subsequence
from mentor_gym.testing import check_reward
from mentor_gym.types import StopReason, Task, ToolResult, Transcript, Turn

# The teacher of the task `both`: power(3, 2), multiply(2, 9), answer 18.
POWER, MULTIPLY, ADD = call("power", base=3, exponent=2), call("multiply", a=2, b=9), call("add", a=1, b=2)
MALFORMED, REFUSED = "<tool_call>{</tool_call>", call("multiply", a="two", b=9)
RIGHT, WRONG = answer(18), answer(17)


def played(suite: str, turns: list[str], task_id: str = "both") -> Transcript:
    """Play turns on the bare environment, at most four."""
    environment = mentor_gym.MentorToolEnv(suite, max_turns=4)
    play(environment, turns, task_id)
    return environment.transcript


def answered(gold: str, text: str, kind: str = "text", is_success: bool = False) -> Transcript:
    """Return an episode of one turn, whose task has a gold answer and no teacher."""
    task = Task("1", "qa", "train", "?", [], gold, {"kind": kind}, None, [])
    action = parse_action(text)
    reason = StopReason.ANSWER if action.answer else StopReason.NO_ANSWER
    return Transcript(task, [Turn(text, action)], reason, action.answer, is_success)


def pay(reward: Any, transcript: Transcript) -> float:
    """Return the sum of a reward's terms."""
    return math.fsum(make_reward(reward)(transcript).values())


PRESETS = ("search-r1", "r1-searcher", "steptool", "srl")


@pytest.mark.parametrize("name", [*PRESETS, {"name": "r1-searcher", "stage": 1}])
def test_the_audit_of_rewards_finds_nothing(name: Any) -> None:
    assert check_reward(name, count=250, per_split=1).failed == []


@pytest.mark.parametrize("name", PRESETS)
def test_the_teacher_earns_the_maximum_and_dense_payment_changes_nothing(suite: str, name: str) -> None:
    for dense in (False, True):
        environment = gym.make("MentorTool-v0", suite=suite, reward=name, dense=dense)
        end = play(environment, [POWER, MULTIPLY, RIGHT])
        assert sum(end["rewards"]) == pytest.approx(make_reward(name).maximum)


# Search-R1.


@pytest.mark.parametrize(
    ("task_id", "text", "environment", "words"),
    [
        ("town", "The Paris.", 1.0, 1.0),
        ("town", "lutetia", 1.0, 1.0),
        ("town", "Paris, France", 0.0, 0.0),
        ("both", "18.0", 1.0, 0.0),
        ("towns", "Lyon, Paris", 1.0, 0.0),
        ("towns", "Paris Lyon", 0.0, 1.0),
    ],
)
def test_exact_match_by_the_environment_and_by_words(
    suite: str, task_id: str, text: str, environment: float, words: float
) -> None:
    transcript = played(suite, [answer(text)], task_id)
    assert pay("search-r1", transcript) == environment
    assert pay({"name": "search-r1", "judge": "text"}, transcript) == words


def test_the_last_answer_counts_and_a_wrong_one_may_be_paid_for_its_form(suite: str) -> None:
    reward = SearchR1Reward(judge="text", format_score=0.1)
    found = [
        pay(reward, played(suite, turns)) for turns in ([WRONG + RIGHT], [RIGHT + WRONG], ["18"], [POWER] * 4)
    ]
    assert found == [1.0, 0.1, 0.0, 0.0]


def test_a_gold_answer_that_normalises_to_nothing_is_not_matched_by_every_other() -> None:
    for text, expected in (("a", True), ("A", True), ("the", False), ("!", False)):
        assert exact_match(text, answered("A", answer(text)).task) is expected


# R1-Searcher.

OBAMA = answer("Barack Obama, President")
QWEN = {"penalty": 2.0, "max_words": 10, "search_tags": True}


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({}, OBAMA, 0.8),
        ({}, "<think>" + OBAMA, -1.0),  # never closed, so there is no answer
        ({}, "</think>" + OBAMA, -0.2),
        (QWEN, "</think>" + OBAMA, -1.2),
        ({}, OBAMA + "</answer>", -0.2),
        ({}, "成" + OBAMA, -0.2),
        ({"chinese": False}, "成" + OBAMA, 0.8),
        ({"require_think": True}, OBAMA, -0.2),
        ({"require_think": True}, "<think>He was.</think>" + OBAMA, 0.8),
        ({}, "<think>a</think><think>b</think>" + OBAMA, -0.2),
        ({}, "\\boxed{Barack Obama}", 1.0),
        ({}, "Barack Obama", -1.0),
        ({}, answer("barack obama" + " or somebody" * 4), 2 * 2 / 12),
        (QWEN, answer("barack obama" + " or somebody" * 4), 2 * 2 / 12),  # ten words
        (QWEN, answer("barack obama" + " or somebody" * 5), 2 * 2 / 14 - 2.0),
        (QWEN, answer("barack obama <tool_call>"), -2.0),  # a call that cannot be read
        (QWEN, answer("barack obama <tool_response>"), 2 * 2 / 5 - 2.0),
        ({}, answer("barack obama <tool_response>"), 2 * 2 / 5),
    ],
)
def test_stage_2_pays_words_less_violations(options: dict[str, Any], text: str, expected: float) -> None:
    reward = {"name": "r1-searcher", "judge": "text", **options}
    assert pay(reward, answered("Barack Obama", text)) == pytest.approx(expected)


def test_the_environment_s_verdict_stands_above_the_words() -> None:
    assert word_f1("obama barack", "barack obama") == 1.0
    swapped = answer("obama barack")
    assert pay("r1-searcher", answered("barack obama", swapped)) == 0.9
    assert pay("r1-searcher", answered("barack obama", swapped, is_success=True)) == 1.0
    assert pay("r1-searcher", answered("done", answer("done"), kind="state")) == 0.0
    assert pay("r1-searcher", answered("done", answer("done"), kind="state", is_success=True)) == 1.0


@pytest.mark.parametrize(
    ("options", "turns", "expected"),
    [
        ({}, [POWER, RIGHT], 2.0),  # correct, retrieval, format
        ({}, [WRONG + "</answer>"], -1.0),  # wrong, none, none
        ({}, [RIGHT], 1.5),
        ({}, [POWER, WRONG], 0.0),
        ({}, [POWER, MALFORMED, RIGHT], 1.5),
        ({}, [call("echo", text=" "), RIGHT], 1.5),  # a blank query
        ({}, [call("echo", text="3"), RIGHT], 2.0),
        ({}, [REFUSED, RIGHT], 1.5),  # nothing was retrieved
        ({"tools": ["echo"]}, [POWER, RIGHT], 1.5),
        ({"answer_term": False}, [POWER, RIGHT], 1.0),
        ({"answer_term": False}, [POWER, WRONG], 1.0),
        ({}, [POWER] * 4, -0.5),
        ({}, ["I do not know."], -1.0),
        ({"judge": "text"}, [answer("It is 18, I think.")], 1.5),  # covers the gold answer
        ({"judge": "text"}, [answer("118")], -0.5),
    ],
)
def test_stage_1_pays_for_searching(
    suite: str, options: dict[str, Any], turns: list[str], expected: float
) -> None:
    assert pay({"name": "r1-searcher", "stage": 1, **options}, played(suite, turns)) == pytest.approx(expected)


def test_the_stage_changes_at_its_step(suite: str) -> None:
    reward = R1SearcherReward(stage_1_steps=3)
    transcript = played(suite, [POWER, RIGHT])
    assert [pay(reward.at(step), transcript) for step in (0, 2, 3, 4)] == [2.0, 2.0, 1.0, 1.0]
    assert pay(reward, transcript) == 2.0
    assert pay(reward.at(5).at(0), transcript) == 2.0
    assert pay(R1SearcherReward(stage=1).at(10**6), transcript) == 2.0
    assert set(reward(transcript)) == set(reward.at(3)(transcript))


def test_a_crash_costs_the_policy_nothing(suite: str) -> None:
    environment = mentor_gym.MentorToolEnv(suite)
    for mark, expected in (("mark_crashed", {1: 0.0, 2: 0.0}), ("mark_cut_off", {1: -1.0, 2: -1.0})):
        for stage, value in expected.items():
            environment.reset(options={"task_id": "both"})
            getattr(environment, mark)()
            environment.step(RIGHT)
            assert pay({"name": "r1-searcher", "stage": stage}, environment.transcript) == value


# StepTool.


@pytest.mark.parametrize(
    ("options", "turns", "expected"),
    [
        ({}, [POWER, MULTIPLY, RIGHT], [0.25, 0.25, 1.0]),
        ({}, [POWER + MULTIPLY, RIGHT], [0.5, 1.0]),
        ({}, [POWER, POWER, MULTIPLY, RIGHT], [0.25, 0.0, 0.25, 1.0]),
        ({}, [MULTIPLY, POWER, WRONG], [0.25, 0.25, 0.0]),
        # power, base, 3, exponent, 4: four of five in common with the teacher's.
        ({}, [call("power", base=3, exponent=4), RIGHT], [0.125 * (1 + 0.8), 1.0]),
        ({"threshold": 0.81}, [call("power", base=3, exponent=4), RIGHT], [0.0, 1.0]),
        ({}, [call("power", exponent=2, base=3), RIGHT], [0.25, 1.0]),
        ({}, [ADD, RIGHT], [0.0, 1.0]),
        ({}, [REFUSED, MULTIPLY, RIGHT], [0.0, 0.25, 1.0]),
        ({}, [MALFORMED, "well"], [0.0, 0.0]),
        ({"unsolved": -0.5, "unsure": 0.25}, [POWER, WRONG], [0.25, -0.5]),
        ({"unsolved": -0.5, "unsure": 0.25}, [POWER, ADD, ADD, ADD], [0.25, 0.0, 0.0, 0.25]),
        # As published: every call in full.
        ({"normalise": False, "alpha": 1.0}, [POWER, POWER + ADD, RIGHT], [2.0, 3.0, 1.0]),
        # The trainer's weights, 2, 1, 0.
        ({"trainer_quirk": True}, [POWER, MULTIPLY, RIGHT], [0.5, 0.25, 0.0]),
    ],
)
def test_every_turn_is_paid_its_own(
    suite: str, options: dict[str, Any], turns: list[str], expected: list[float]
) -> None:
    reward, transcript = StepToolReward(**options), played(suite, turns)
    assert reward.turn_rewards(transcript) == pytest.approx(expected)
    assert pay(reward, transcript) == pytest.approx(sum(expected))
    if not reward.trainer_quirk:
        dense = gym.make("MentorTool-v0", suite=suite, reward=reward, dense=True, max_turns=4)
        assert play(dense, turns)["rewards"] == pytest.approx(expected)


def test_how_arguments_are_written_does_not_count_at_any_depth() -> None:
    """In StepTool's subsequences as in SRL's texts; no schema says that `b` is a number."""
    function = {"name": "f", "arguments": '{"of": [{"a": "x", "b": 3}]}'}
    teacher = [{"role": "assistant", "content": None, "tool_calls": [{"function": function}]}]
    task = Task("1", "mine", "train", "?", ["f"], "18", {"kind": "number"}, None, teacher)
    text = call("f", of=[{"b": 3.0, "a": "x"}])
    transcript = Transcript(task, [Turn(text, parse_action(text), (ToolResult(True, ""),))])
    assert StepToolReward().turn_rewards(transcript) == [0.5]
    assert SRLReward().turn(transcript, 0) == 1.0


def test_returns_to_go_of_dense_payment(suite: str) -> None:
    environment = gym.make("MentorTool-v0", suite=suite, reward={"name": "steptool", "alpha": 1.0}, dense=True)
    rewards = play(environment, [POWER, ADD, RIGHT])["rewards"]
    assert rewards == pytest.approx([1, 0, 1])
    assert returns_to_go(rewards) == pytest.approx([2, 1, 1])


def test_calls_for_the_sake_of_calls_are_worth_no_more_than_the_teacher_s(suite: str) -> None:
    spam = (POWER + MULTIPLY + ADD) * 2
    assert pay("steptool", played(suite, [spam, spam, WRONG])) == pytest.approx(0.5)
    assert pay("steptool", played(suite, [spam, spam, RIGHT])) == pytest.approx(1.5)
    published = StepToolReward(normalise=False)
    assert published.maximum == math.inf
    assert pay(published, played(suite, [spam, spam, WRONG])) > pay(published, played(suite, [POWER, RIGHT]))


@pytest.mark.parametrize(
    ("reward", "margin"),
    [
        (SearchR1Reward(), 1.0),
        (SearchR1Reward(format_score=0.1), 0.9),
        (SearchR1Reward(judge="text"), -1.0),
        (StepToolReward(), 0.5),
        (StepToolReward(alpha=0.5), 0.0),
        (StepToolReward(unsure=0.25), 0.25),
        (StepToolReward(normalise=False), -math.inf),
    ],
)
def test_how_far_right_answers_stand_above_wrong_ones(reward: Any, margin: float) -> None:
    assert (reward.margin, reward.right_beats_wrong) == (pytest.approx(margin), margin > 0)


def test_the_longest_common_subsequence_is_that_of_the_table() -> None:
    rng = random.Random(0)
    for _ in range(100):
        one, other = ("".join(rng.choices("abc", k=rng.randrange(90))) for _ in range(2))
        table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
        for i, x in enumerate(one):
            for j, y in enumerate(other):
                table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
        assert common_subsequence(one, other) == table[-1][-1]


# SRL.


def test_the_similarity_is_difflib_s_with_the_student_first() -> None:
    assert similarity("x = 3 * (4 + 5)", "x = 3 * 9") == 16 / 24
    assert similarity(["add", "multiply", "power"], ["add", "power"]) == 0.8
    assert (similarity("tide", "diet"), similarity("diet", "tide")) == (0.25, 0.5)
    assert similarity("", "") == 1.0
    rng = random.Random(0)
    for _ in range(200):
        student, expert = ("".join(rng.choices("abcdef", k=rng.randrange(80))) for _ in range(2))
        expected = difflib.SequenceMatcher(None, student, expert, autojunk=False).ratio()
        assert similarity(student, expert) == pytest.approx(expected)


def test_long_texts_are_compared_whole_or_in_bounded_time() -> None:
    text = "".join(random.Random(0).choices('abcdefghijklmnopqrstuvwxyz ,:"{}', k=2_000))
    assert similarity(text.replace("q", "k", 1), text) == 2 * 1_999 / 4_000
    assert similarity(text * 10, text * 10) == 1.0
    assert 0 < similarity(text * 2, text * 2 + "x") < 1
    # difflib takes a minute for the first of these.
    start = time.process_time()
    for student, expert in (("a" * 2_500, "ab" * 1_000), ("a b" * 9_000, "ab " * 300), ('"' * 20_000, text)):
        assert 0 <= similarity(student, expert) < 1
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([POWER, MULTIPLY, RIGHT], 1.0),
        ([POWER, MULTIPLY, answer("18.0")], 1.0),
        ([POWER, MULTIPLY, answer("19")], (1 + 1 + 0.5) / 3),
        ([call("power", exponent=2.0, base=3), MULTIPLY, RIGHT], 1.0),
        (["<think>Hm.</think> So: " + POWER, MULTIPLY, RIGHT], 1.0),
        ([RIGHT], 0.0),  # an answer where the teacher calls
        ([POWER, RIGHT], 1 / 3),
        ([POWER, MULTIPLY, ADD, RIGHT], 2 / 4),  # a call where the teacher answers, and a turn too many
        ([POWER, "well"], (1 - 1) / 3),
        ([POWER, MALFORMED, RIGHT], (1 - 1 + 1) / 3),
        ([POWER, MULTIPLY + MALFORMED, RIGHT], (1 - 1 + 1) / 3),
        (["<answer>18"] * 4, -1.0),
    ],
)
def test_an_episode_is_paid_the_mean_similarity_of_its_turns(
    suite: str, turns: list[str], expected: float
) -> None:
    assert pay("srl", played(suite, turns)) == pytest.approx(expected)


def test_calls_are_compared_as_canonical_json(suite: str) -> None:
    given = '{"name": "power", "arguments": {"base": 3, "exponent": 4}}'
    wanted = '{"name": "power", "arguments": {"base": 3, "exponent": 2}}'
    transcript = played(suite, [call("power", exponent=4, base=3), RIGHT])
    assert SRLReward().turn(transcript, 0) == similarity(given, wanted) == 1 - 1 / len(wanted)
    # Whole numbers are equal without a schema that says so, too.
    transcript = played(suite, [call("power", exponent=2.0, base=3), RIGHT])
    assert SRLReward().turn(Transcript(transcript.task, transcript.turns), 0) == 1.0


def test_answers_as_texts_are_compared_as_they_are_written(suite: str) -> None:
    transcript = played(suite, [POWER, MULTIPLY, answer("18.0")])
    terms = SRLReward(judge="text")(transcript)
    assert terms == pytest.approx({"calls": 2 / 3, "answer": 2 * 2 / 6 / 3, "format": 0.0})


def test_turns_that_were_cut_off_are_in_bad_format_but_not_crashes(suite: str) -> None:
    environment = mentor_gym.MentorToolEnv(suite)
    for mark, expected in (("mark_crashed", 1 / 3), ("mark_cut_off", 0.0)):
        play(environment, [POWER])
        getattr(environment, mark)()
        environment.step(MULTIPLY)
        assert pay("srl", environment.transcript) == pytest.approx(expected)


def test_without_a_teacher_nothing_is_paid() -> None:
    assert pay("srl", answered("18", RIGHT, is_success=True)) == 0.0


def test_groups_without_a_spread_of_rewards_are_dropped() -> None:
    groups, rewards = ["equal", "rounded", "spread", "close"], [[0.5] * 8, [0.3, 0.1 + 0.2], [-1, 1], [0.5, 0.6]]
    assert keep_groups(groups, rewards) == ["spread", "close"]
    # The standard deviation of 0.5 and 0.6 is 0.05.
    assert keep_groups(groups, rewards, epsilon=0.06) == ["spread"]
    assert has_spread([0.5, 0.6], 0.04)
    with pytest.raises(ValueError, match="epsilon"):
        keep_groups(groups, rewards, epsilon=-1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "search-r1", "judge": "txt"}, "unknown judge 'txt'.*did you mean 'text'"),
        ({"name": "search-r1", "format_score": math.nan}, "format_score"),
        ({"name": "r1-searcher", "stage": 3}, "stage must be"),
        ({"name": "r1-searcher", "stage": True}, "stage must be"),
        ({"name": "r1-searcher", "stage_1_steps": -1}, "stage_1_steps"),
        ({"name": "r1-searcher", "stage": 1, "stage_1_steps": 5}, "needs stage=None"),
        ({"name": "r1-searcher", "penalty": -1}, "penalty"),
        ({"name": "r1-searcher", "wrong_cap": 1.0}, "wrong_cap"),
        ({"name": "r1-searcher", "require_think": 1}, "require_think"),
        ({"name": "r1-searcher", "max_words": 0}, "max_words"),
        ({"name": "r1-searcher", "tools": "search"}, "tools"),
        ({"name": "steptool", "alpha": -1.0}, "alpha"),
        ({"name": "steptool", "threshold": 2}, "threshold"),
        ({"name": "steptool", "solved": None}, "solved"),
        ({"name": "steptool", "normalise": "no"}, "normalise"),
        ({"name": "srl", "judge": None}, "judge"),
        ({"name": "srl", "bad_format": 0.5}, "bad_format"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_reward(options)
