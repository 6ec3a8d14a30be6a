"""ToolRL, Tool-N1 and Tool Zero against their known answers, and tasks under masked names."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
from typing import Any

import msgspec
import pytest
from conftest import answer, call, teacher

from mentor_gym import MentorToolEnv
from mentor_gym.protocol import parse_action, render_call
from mentor_gym.rewards import PRESETS, make_reward
from mentor_gym.rewards.actions import ANSWER, episode_actions
from mentor_gym.rewards.tool_n1 import ToolN1Reward
from mentor_gym.rewards.tool_zero import ToolZeroReward, general_score
from mentor_gym.rewards.toolrl import ToolRLReward, toolrl_score
from mentor_gym.suites import load_suite
from mentor_gym.suites.masking import MaskedBox, draw_names, mask_suite, mask_task
from mentor_gym.testing import check_reward
from mentor_gym.testing.transcripts import fuzz_transcripts, play_turns, teacher_turns
from mentor_gym.tools.base import ToolBox, ToolError
from mentor_gym.types import Action, CallError, StopReason, Task, ToolFacts, ToolResult, Transcript, Turn

NUMBER = {"type": "number"}
ROUND = {"properties": {"value": NUMBER, "digits": {"type": "integer", "default": 0}}, "required": ["value"]}
FACTS = {
    "round": ToolFacts(ROUND, read_only=True),
    "say": ToolFacts({"properties": {"text": {"type": "string"}}}, read_only=True),
}
GOLD = [("round", {"value": 3}, "3"), ("say", {"text": "New York"}, "said")]
ROUNDING, SAYING = call("round", value=3), call("say", text="New York")
RIGHT, WRONG = answer("18"), answer("17")
MALFORMED, UNKNOWN = "<tool_call>{</tool_call>", call("shout", text="New York")


def thoughtful(turn: str) -> str:
    return f"<think>so</think>{turn}"


def make_task(gold: list[tuple[str, dict[str, Any], str]] = GOLD, **fields: Any) -> Task:
    trace = teacher(gold, "18")
    made = Task("1", "mine", "train", "?", ["round", "say"], "18", {"kind": "number"}, None, trace)
    return msgspec.structs.replace(made, **fields)


def record(*texts: str, task: Task | None = None, cut: bool = False) -> Transcript:
    """Record turns as the environment would; with `cut` the last one was not read."""
    transcript = Transcript(task or make_task(), tools=FACTS)
    for number, text in enumerate(texts, 1):
        action = Action() if cut and number == len(texts) else parse_action(text)
        results = []
        for entry in action.calls:
            error = CallError.MALFORMED if entry.error else None if entry.name in FACTS else CallError.UNKNOWN_TOOL
            results.append(ToolResult(error is None, "", error))
        transcript.turns.append(Turn(text, action, tuple(results)))
        if action.answer and not action.calls:
            transcript.stop_reason, transcript.answer = StopReason.ANSWER, action.answer
            transcript.is_success = action.answer == transcript.task.answer
        elif not action.calls:
            transcript.stop_reason = StopReason.TOKEN_LIMIT if cut else StopReason.NO_ANSWER
    return transcript


def pay(reward: Any, transcript: Transcript) -> float:
    return math.fsum(make_reward(reward)(transcript).values())


WEATHER = [("get_weather", {"city": "Paris", "unit": "C"})]


@pytest.mark.parametrize(
    ("given", "gold", "score"),
    [
        # The known answers of the specification.
        ([("get_weather", {"city": "Paris", "unit": "F"})], WEATHER, 1.5),
        ([("get_weather", {"city": "Paris"})], WEATHER, 0.75),
        ([("get_forecast", {"city": "Paris", "unit": "C"})], WEATHER, -3),
        (WEATHER, WEATHER, 3),
        ([], WEATHER, -3),
        (WEATHER, [], 0),
        ([], [], 0),
        # By hand: s_max is 4, names 1/2, parameters 1, values 2.
        ([*WEATHER, *WEATHER], WEATHER, 6 * 3.5 / 4 - 3),
        # The first gold call takes the better of two calls, in whichever order they came.
        ([("f", {"a": 2}), ("f", {"a": 1})], [("f", {"a": 1}), ("f", {"a": 2})], 3),
        # A call is paired once: names 1/2, parameters 1, values 1, of 5.
        ([("f", {"a": 1})], [("f", {"a": 1}), ("f", {"a": 1})], 6 * 2.5 / 5 - 3),
        # A parameter too many: 1 + 1/2 + 1 of 3. And no parameters at all: 1 + 1 of 2.
        ([("f", {"a": 1, "b": 1})], [("f", {"a": 1})], 6 * 2.5 / 3 - 3),
        ([("f", {})], [("f", {})], 3),
        # Equal as JSON values, and not: true is no 1.
        ([("f", {"a": 1.0})], [("f", {"a": 1})], 3),
        ([("f", {"a": True})], [("f", {"a": 1})], 1),
    ],
)
def test_toolrl_s_score(given: list[Any], gold: list[Any], score: float) -> None:
    assert toolrl_score(given, gold) == pytest.approx(score, abs=1e-12)


# s_max of round(value, digits), which has a default, say(text) and the answer(text) is 1 + 3 + 2 + 2 = 8.
TOOLRL = {
    "the teacher's": ([ROUNDING, SAYING, RIGHT], 4),
    "in one turn, in another order": ([SAYING + ROUNDING, RIGHT], 4),
    "wrong": ([ROUNDING, SAYING, WRONG], 1 + 6 * 7 / 8 - 3),
    "not yet answered": ([ROUNDING, SAYING], 6 * (2 / 3 + 5) / 8 - 3),
    "stopped": ([ROUNDING, SAYING, "well"], 6 * (2 / 3 + 5) / 8 - 3),
    "not begun": ([], -3),
    "right at once": ([RIGHT], 1 + 6 * (1 / 3 + 2) / 8 - 3),
    "right after a malformed call": ([ROUNDING, MALFORMED, SAYING, RIGHT], 3),
    "right after an unknown call": ([ROUNDING, UNKNOWN, SAYING, RIGHT], 1 + 6 * (3 / 4 + 7) / 8 - 3),
}


@pytest.mark.parametrize("case", TOOLRL)
def test_toolrl_over_an_episode(case: str) -> None:
    turns, expected = TOOLRL[case]
    terms = ToolRLReward()(record(*turns))
    assert list(terms) == ["format", "names", "keys", "values", "offset"]
    assert math.fsum(terms.values()) == pytest.approx(expected, abs=1e-12)


def test_toolrl_as_published() -> None:
    reward = ToolRLReward(outcome=False, require_think=True)
    turns = [thoughtful(ROUNDING), thoughtful(SAYING)]
    assert pay(reward, record(*turns)) == 4
    assert pay(reward, record(*turns, thoughtful(WRONG))) == 4
    assert pay(reward, record(ROUNDING, *turns[1:])) == 3
    assert pay(reward, record("<think>so</think>" + MALFORMED)) == -3
    silent = make_task(gold=[])
    assert pay(reward, record(thoughtful(ROUNDING), task=silent)) == 1
    assert pay(ToolRLReward(), record(RIGHT, task=silent)) == 4
    assert pay(ToolRLReward(scale=1, format_weight=0.5), record(WRONG, task=silent)) == 0.5 + 2 * 2 / 3 - 1


BINARY, V1, V3, V4 = ({"name": "tool-n1", "variant": variant} for variant in ("binary", "v1", "v3", "v4"))
PUBLISHED = {"name": "tool-n1", "outcome": False, "require_think": True, "literal": True}
# Turns, and what binary, v1, v3 and v4 pay: for episodes, and as published, for calls alone with their thoughts.
EPISODES = {
    "the teacher's": ([ROUNDING, SAYING, RIGHT], (1, 1.2, 1, 1)),
    "swapped": ([SAYING, ROUNDING, RIGHT], (1, 1.2, 1, 1)),
    "number as a text, default written": ([call("round", value="3.0", digits=0), SAYING, RIGHT], (1, 1.2, 1, 1)),
    "wrong": ([ROUNDING, SAYING, WRONG], (0, -0.2, 0.2, 0.4)),
    "other arguments": ([call("round", value=4), SAYING, RIGHT], (0, -0.2, 0.2, 0.4)),
    "twice": ([ROUNDING, ROUNDING, SAYING, RIGHT], (0, -0.2, 0.2, 0.2)),
    "unknown beside": ([ROUNDING, SAYING, UNKNOWN, RIGHT], (0, -0.2, 0.2, 0.2)),
    "malformed beside": ([ROUNDING, MALFORMED, SAYING, RIGHT], (0, 0, 0, 0)),
    "stopped": ([ROUNDING, SAYING, "well"], (0, 0, 0, 0)),
    "not yet answered": ([ROUNDING, SAYING], (0, 0, 0, 0)),
}
CALLS = {
    "the gold ones": ([thoughtful(ROUNDING + SAYING)], (1, 1.2, 1, 1)),
    "swapped": ([thoughtful(SAYING + ROUNDING)], (1, 1.2, 1, 1)),
    "3.0 for 3": ([thoughtful(call("round", value=3.0) + SAYING)], (0, -0.2, 0.2, 0.4)),
    "'3' for 3": ([thoughtful(call("round", value="3") + SAYING)], (0, -0.2, 0.2, 0.4)),
    "no <think>": (["so</think>" + ROUNDING + SAYING], (0, 1, 0.8, 0.8)),
    # Here the calls are read as part of the thought.
    "no </think>": (["<think>so" + ROUNDING + SAYING], (0, 0, 0, 0)),
    "twice": ([thoughtful(ROUNDING + ROUNDING + SAYING)], (0, -0.2, 0.2, 0.2)),
    "right name, wrong arguments": ([thoughtful(call("round", value=9) + SAYING)], (0, -0.2, 0.2, 0.4)),
    "the same without thought": ([call("round", value=9) + SAYING], (0, 0, 0, 0.2)),
    "unreadable": ([thoughtful(MALFORMED)], (0, 0, 0.2, 0.2)),
}


@pytest.mark.parametrize(("case", "table"), [(case, table) for table in (EPISODES, CALLS) for case in table])
def test_tool_n1(case: str, table: dict[str, Any]) -> None:
    turns, expected = table[case]
    for variant, value in zip((BINARY, V1, V3, V4), expected):
        reward = make_reward({**(PUBLISHED if table is CALLS else {}), **variant})
        terms = reward(record(*turns))
        assert list(terms) == ["manner", "names", "exact"]
        assert math.fsum(terms.values()) == pytest.approx(value, abs=1e-12), variant


def test_3_and_3_0_are_one_number_unless_compared_as_texts() -> None:
    for value in (3.0, "3"):
        turns = [call("round", value=value), SAYING, RIGHT]
        assert pay("tool-n1", record(*turns)) == 1
        assert pay({"name": "tool-n1", "literal": True}, record(*turns)) == 0
    assert pay({"name": "tool-n1", "literal": True}, record(ROUNDING, SAYING, RIGHT)) == 1


def test_the_order_of_arguments_does_not_count() -> None:
    task = make_task(gold=[("round", {"value": 3, "digits": 1}, "3")])
    for literal in (False, True):
        reward = {"name": "tool-n1", "literal": literal}
        assert pay(reward, record(call("round", digits=1, value=3), RIGHT, task=task)) == 1


def test_tool_zero_grows_strict() -> None:
    reward = ToolZeroReward(midpoint=100, rate=0.05)
    shares = [reward.at(step).strictness for step in (0, 50, 100, 150, 200)]
    assert shares == pytest.approx([0.0067, 0.0759, 0.5, 0.9241, 0.9933], abs=5e-5)
    assert (reward.step, reward.strictness) == (0, shares[0])
    assert ToolZeroReward(rate=10).at(10**6).strictness == 1
    assert ToolZeroReward(rate=10, midpoint=10**6).strictness == 0


def test_tool_zero_s_general_part() -> None:
    gold = [("get", {"city": "New York"})]  # four tokens: name, parameter, New, York
    assert general_score(gold, gold) == 0.5
    assert general_score([("find", {"city": "(York)"})], gold) == 0
    assert general_score([], gold) == -0.5
    assert general_score([("get", {"town": "New New"})], gold) == 0
    # A word counts as what it is: neither the value "city" nor a tool of that name is the parameter.
    assert general_score([("city", {"get": "city"})], gold) == -0.5
    assert general_score([], []) == 0.5
    assert general_score(gold, []) == -0.5
    # f, a, 1, f, a, 2: three of six, each as often as it stands there.
    assert general_score([("f", {"a": 1})], [("f", {"a": 1}), ("f", {"a": 2})]) == 0
    assert general_score([("f", {"a": 1})] * 9, [("f", {"a": 1})]) == 0.5
    nested = [("get", {"of": [{"x": 1}, None, True]})]  # get, of, x, 1, null, true
    assert general_score([("get", {"of": [True, "null"]})], nested) == pytest.approx(4 / 6 - 0.5)
    both = [*gold, (ANSWER, {"text": True})]
    assert general_score([*gold, (ANSWER, {"text": False})], both, "Bay of Pigs") == pytest.approx(4 / 7 - 0.5)


# At the midpoint, with σ a half: format + strict / 2 + general / 2. The gold tokens are round, value, 3, digits,
# 0, say, text, New, York and 18, ten of them.
TOOL_ZERO = {
    "the teacher's": ([ROUNDING, SAYING, RIGHT], (1, 1.3, 0.5)),
    "wrong answer": ([ROUNDING, SAYING, WRONG], (1, -0.3, 0.4)),
    "wrong value": ([call("round", value=4), SAYING, RIGHT], (1, -0.3, 0.4)),
    "a parameter too many": ([ROUNDING, call("say", text="New York", loud=True), RIGHT], (1, 0, 0.5)),
    "right at once": ([RIGHT], (1, 0, -0.4)),
    "stopped": ([ROUNDING, SAYING, "well"], (0, 0, 0.4)),
    "unfinished": ([ROUNDING], (0, 0, 0)),
    "not begun": ([], (0, 0, -0.5)),
}


@pytest.mark.parametrize("case", TOOL_ZERO)
def test_tool_zero_over_an_episode(case: str) -> None:
    turns, (manner, strict, general) = TOOL_ZERO[case]
    terms = ToolZeroReward(midpoint=7).at(7)(record(*turns))
    assert terms == pytest.approx({"format": manner, "strict": strict / 2, "general": general / 2}, abs=1e-12)


def test_tool_zero_as_published() -> None:
    reward = ToolZeroReward(midpoint=7, outcome=False, require_think=True).at(7)
    both = record(thoughtful(ROUNDING + SAYING))
    assert pay(reward, both) == pytest.approx(1 + 1.3 / 2 + 0.5 / 2)
    one = make_task(gold=GOLD[:1])
    assert pay(reward, record(thoughtful(ROUNDING), task=one)) == pytest.approx(1 + 1 / 2 + 0.5 / 2)
    assert pay(reward, record(ROUNDING, task=one)) == pytest.approx(1 / 2 + 0.5 / 2)
    assert reward.maximum == pytest.approx(pay(reward, both))
    assert ToolZeroReward(midpoint=7).at(7).minimum == pytest.approx(-0.3 / 2 - 0.5 / 2)


@pytest.mark.parametrize("reward", [ToolRLReward(), ToolN1Reward("v4"), ToolZeroReward(midpoint=0)])
def test_what_is_cut_off_earns_less_than_the_teacher(reward: Any) -> None:
    best = reward.maximum
    assert pay(reward, record(ROUNDING, SAYING, RIGHT)) == pytest.approx(best)
    for turns in ([RIGHT], [ROUNDING, RIGHT], [ROUNDING, SAYING, RIGHT]):
        transcript = record(*turns, cut=True)
        assert transcript.stop_reason is StopReason.TOKEN_LIMIT
        assert pay(reward, transcript) < best - 0.5


def test_where_only_the_teacher_s_tools_are_known_arguments_do_not_count() -> None:
    task = make_task(teacher=[], meta={"teacher_tools": ["round", "say"]})
    for name in ("toolrl", "tool-n1", "tool-zero"):
        assert pay(name, record(ROUNDING, SAYING, RIGHT, task=task)) == pytest.approx(make_reward(name).maximum)
        assert pay(name, record(ROUNDING, RIGHT, task=task)) < make_reward(name).maximum - 0.2


def test_no_call_passes_for_the_answer() -> None:
    forged = call("ANSWER", text=True) + call("answer", text=True) + call("_Name.ANSWER", text=True)
    student, gold = episode_actions(record(ROUNDING, SAYING, forged))
    assert gold[-1] == (ANSWER, {"text": True})
    assert gold[-1] not in student
    assert pay("tool-n1", record(ROUNDING, SAYING, forged, WRONG)) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "toolrl", "scale": -1}, "scale must not be negative"),
        ({"name": "toolrl", "format_weight": "x"}, "format_weight must be a finite number"),
        ({"name": "toolrl", "outcome": 1}, "outcome must be True or False"),
        ({"name": "tool-n1", "variant": "v5"}, "unknown variant 'v5'; known: binary, v1, v3, v4"),
        ({"name": "tool-n1", "variant": ["v4"]}, "unknown variant"),
        ({"name": "tool-n1", "literal": None}, "literal must be True or False"),
        ({"name": "tool-zero", "rate": math.inf}, "rate must be a finite number"),
        ({"name": "tool-zero", "step": -1}, "step must be a whole number of at least 0, got -1"),
        ({"name": "tool-zero", "kappa": 1}, "kappa"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_reward(arguments)
    with pytest.raises(ValueError, match="step must be a whole number"):
        ToolZeroReward().at(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", [V1, V4, ToolZeroReward(midpoint=0)], ids=["v1", "v4", "strict tool-zero"])
def test_what_is_no_preset_passes_the_audit_too(target: Any) -> None:
    assert check_reward(target, count=150, per_split=1).failed == []


# Masked names.


@pytest.mark.parametrize("name", ["math", "shop", "office"])
def test_masked_teachers_replay_to_success(name: str) -> None:
    masked = mask_suite(name)
    for split in masked.splits:
        env, own = MentorToolEnv(masked, split, max_turns=12), MentorToolEnv(name, split, max_turns=12)
        assert env.tasks.ids == own.tasks.ids
        for task in list(env.tasks)[::40][:3]:
            transcript = play_turns(env, task.id, teacher_turns(task))
            assert transcript.is_success
            assert [call.name for call, _ in transcript.calls()] != []
            assert all(re.fullmatch(r"func_\d+", call.name) for call, _ in transcript.calls())
            assert all(key.startswith("param_") for call, _ in transcript.calls() for key in call.arguments)
            # What the tools return is what they return under their own names.
            same = play_turns(own, task.id, teacher_turns(own.tasks[task.id]))
            assert [turn.observation for turn in transcript.turns] == [turn.observation for turn in same.turns]


def test_nothing_shown_holds_an_own_name() -> None:
    names = set(load_suite("office").box.tools) - {"today", "convert"}  # those two are words of prompts, too
    env = MentorToolEnv(mask_suite("office"), "test")
    for task in list(env.tasks)[::10]:
        observation, _ = env.reset(options={"task_id": task.id})
        assert not names & set(re.findall(r"\w+", observation))
        assert "func_1" in observation


def test_renamings_are_drawn_for_every_task_and_seed() -> None:
    first, again, other = (mask_suite("math", seed) for seed in (0, 0, 1))
    tasks = list(first.tasks("test"))[:60]
    assert tasks == list(again.tasks("test"))[:60]
    assert tasks != list(other.tasks("test"))[:60]
    adders = {task.state["names"]["add"]["name"] for task in tasks if task.state and "add" in task.state["names"]}
    assert len(adders) > 2
    orders = {json.dumps(task.state["names"]["subtract"]) for task in tasks if "subtract" in task.state["names"]}  # type: ignore[index]
    assert len(orders) > 2
    copied = pickle.loads(pickle.dumps(first))
    assert (copied.name, copied.tasks("test")[0]) == ("math-masked", tasks[0])
    with pytest.raises(ValueError, match="the seed must be a whole number"):
        mask_suite("math", "1")  # type: ignore[arg-type]


def test_a_masked_environment_is_saved_and_cloned_in_the_middle() -> None:
    masked = mask_suite("office")
    env = MentorToolEnv(masked, "train", max_turns=12)
    changing = next(task for task in env.tasks if task.grader["kind"] == "state" and task.meta["calls"] > 2)
    turns = teacher_turns(changing)
    env.reset(options={"task_id": changing.id})
    for turn in turns[:-1]:
        env.step(turn)
    twin = MentorToolEnv(masked, "train", max_turns=12)
    twin.set_state(env.get_state())
    # All that was changed was changed before; the answer is judged by it.
    for each in (copy.deepcopy(twin), env, twin):
        each.step(turns[-1])
        assert each.transcript.is_success
    # Another task in between names the tools anew, and what was written is gone.
    other = next(task for task in env.tasks if task.id != changing.id)
    assert play_turns(env, other.id, teacher_turns(other)).is_success
    assert not play_turns(env, changing.id, turns[-1:]).is_success


class Shelf(ToolBox):
    """A box with state, whose texts mention names."""

    down: str | None = None

    def __init__(self) -> None:
        def put_book(title: str, shelf: int = 0) -> str:
            """Put a book on a shelf, which find tells. See `find`; a find is rare.

            Args:
                title: Its title, and no shelf; use put_book once.
            """
            if shelf > 9:
                raise ToolError("shelf must be below 10; find gives the shelf of a find, 'title'")
            return f"put_book on {shelf}"

        def find(title: str) -> str:
            """Say where a book is."""
            self.down = "the shelf is gone"
            raise RuntimeError

        super().__init__(ToolBox.from_functions([put_book, find]).tools.values())
        self.opened: Any = None

    def open(self, state: dict[str, Any] | None) -> None:
        self.opened = state

    def final_state(self) -> Any:
        return self.opened


NAMES = {
    "put_book": {"name": "func_2", "parameters": {"title": "param_2", "shelf": "param_1"}},
    "find": {"name": "func_1", "parameters": {"title": "param_1"}},
}


def test_texts_name_the_masked_names() -> None:
    box = MaskedBox(Shelf())
    assert list(box.tools) == ["func_1", "func_2"]  # before it is opened: in the box's own order
    box.open({"names": NAMES, "state": {"books": 3}})
    put, find = box.tools["func_2"], box.tools["func_1"]
    # `shelf` has no description, so that the tool's speaks of it; a `find` that is no mention stays.
    assert put.description == "Put a book on a param_1, which find tells. See `func_1`; a find is rare."
    assert put.parameters["properties"]["param_2"]["description"] == "Its title, and no shelf; use func_2 once."
    assert put.parameters["required"] == ["param_2"]
    assert put.parameters["properties"]["param_1"] == {"type": "integer", "default": 0}
    assert put.call({"param_2": "Emma", "param_1": 4}).output == "put_book on 4"
    failed = put.call({"param_2": "Emma", "param_1": 10})
    assert failed.error is CallError.TOOL_FAILED
    message = "param_1 must be below 10; func_1 gives the shelf of a find, 'param_2'"
    assert failed.output == f"error: func_2: {message}"
    for wrong in ({}, {"title": "Emma"}, {"param_2": 3}):
        result = put.call(wrong)
        assert result.error is CallError.INVALID_ARGUMENTS
        assert result.output.startswith("error: func_2:")
    assert '"param_2" is a required property' in put.call({}).output
    assert find.call({"param_1": "Emma"}).output == "error: func_1 failed with RuntimeError"
    assert box.down == "the shelf is gone"
    assert box.final_state() == {"books": 3}
    assert not box.is_read_only("func_1")


@pytest.mark.parametrize(
    "state", [{}, {"names": {}}, {"names": [], "state": None}, {"names": {"gone": NAMES["find"]}, "state": None}]
)
def test_a_state_that_is_no_masked_task_s_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"the state of a masked task|a tool 'gone'"):
        MaskedBox(Shelf()).open(state)


def test_a_trace_is_masked_with_its_errors() -> None:
    trace = [
        *teacher([("find", {"title": "x"}, "error: find: 'title' is a title; use put_book")], "18")[:2],
        *teacher([("put_book", {"title": "find"}, "put_book on 0")], "18"),
    ]
    trace[0]["content"] = "put_book, then use find"
    task = make_task(teacher=trace, tools=["find", "put_book"], meta={"teacher_tools": ["find"]})
    masked = mask_task(task, Shelf().tools)
    names = draw_names([Shelf().tools[name].schema for name in ("find", "put_book")], "0/1")
    find, put = names["find"].name, names["put_book"].name
    title = names["put_book"].parameters["title"]
    assert {find, put} == {"func_1", "func_2"}
    assert masked.teacher[0]["content"] == f"{put}, then use {find}"
    assert masked.teacher[1]["content"] == f"error: {find}: '{title}' is a title; use {put}"
    written = masked.teacher[2]["tool_calls"][0]["function"]
    assert written == {"name": put, "arguments": json.dumps({title: "find"})}
    assert masked.teacher[3:] == trace[3:]
    assert masked.meta == {"teacher_tools": [find]}
    assert (masked.suite, masked.id, task.suite) == ("mine-masked", "1", "mine")


def rename(transcript: Transcript, masked: Task) -> Transcript:
    """Return a drawn transcript as it would stand under the names of the masked task."""
    assert masked.state is not None
    names = masked.state["names"]
    keys = {key: name for entry in names.values() for key, name in entry["parameters"].items()}

    def write(match: re.Match[str]) -> str:
        (found,) = parse_action(match[0]).calls
        if found.error is not None:
            return match[0]
        arguments = {keys.get(key, key): value for key, value in found.arguments.items()}
        return render_call(names[found.name]["name"] if found.name in names else found.name, arguments)

    turns = []
    for turn in transcript.turns:
        text = re.sub(r"<tool_call>.*?</tool_call>", write, turn.text, flags=re.DOTALL)
        action = parse_action(text) if turn.action != Action() else turn.action
        assert len(action.calls) == len(turn.action.calls)
        turns.append(Turn(text, action, turn.results, turn.observation))
    facts = {}
    for entry in masked.tools:
        assert isinstance(entry, dict)
        facts[entry["function"]["name"]] = ToolFacts(entry["function"]["parameters"], read_only=True)
    end = (transcript.stop_reason, transcript.answer, transcript.is_success)
    return Transcript(masked, turns, *end, facts)


@pytest.fixture(scope="module")
def renamed() -> list[tuple[Transcript, Transcript]]:
    """Drawn transcripts of two suites, each with itself under masked names."""
    pairs = []
    for name in ("math", "office"):
        box = load_suite(name).box
        tasks = list(load_suite(name).tasks("train"))[::97]
        for transcript in fuzz_transcripts(tasks, 250):
            shown = [
                entry if isinstance(entry, dict) else box.tools[entry].schema for entry in transcript.task.tools
            ]
            transcript.tools = {
                schema["function"]["name"]: ToolFacts(schema["function"]["parameters"], read_only=True)
                for schema in shown
            }
            pairs.append((transcript, rename(transcript, mask_task(transcript.task, box.tools))))
    return pairs


# Its published form compares the letters of the calls.
READS_LETTERS = {"srl"}
CONSISTENT = [*(name for name in PRESETS if name not in READS_LETTERS), V1, V4, ToolZeroReward(midpoint=0)]


@pytest.mark.parametrize("target", CONSISTENT, ids=[*CONSISTENT[:-3], "v1", "v4", "strict tool-zero"])
def test_renaming_all_tools_changes_no_reward(target: Any, renamed: list[tuple[Transcript, Transcript]]) -> None:
    reward = make_reward(target)
    for own, masked in renamed:
        assert reward(masked) == pytest.approx(reward(own), abs=1e-9)


def test_the_renamed_transcripts_differ_and_are_paid(renamed: list[tuple[Transcript, Transcript]]) -> None:
    assert sum(own.turns != masked.turns for own, masked in renamed) > 250
    assert {pay("tool-n1", masked) for _, masked in renamed} == {0, 1}
    # One that forgets to rename the teacher's side would be told from the others.
    half = [Transcript(own.task, masked.turns, masked.stop_reason, masked.answer) for own, masked in renamed]
    assert [pay("toolrl", item) for item in half] != [pay("toolrl", own) for own, _ in renamed]
