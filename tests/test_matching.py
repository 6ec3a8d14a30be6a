"""What a tool says of itself, and how calls are compared by it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import msgspec
import pytest
from conftest import answer, call, play

import mentor_gym
from mentor_gym.rewards import PRESETS, make_reward
from mentor_gym.rewards.matching import MATCHERS, aligned_calls, normalise_calls, teacher_calls
from mentor_gym.tools import ToolBox, tool
from mentor_gym.tools.base import Tool
from mentor_gym.tools.calendar import CalendarBox
from mentor_gym.tools.code import CodeBox
from mentor_gym.tools.combined import CombinedBox
from mentor_gym.tools.files import FilesBox
from mentor_gym.tools.math import math_box
from mentor_gym.tools.sql import sql_box
from mentor_gym.types import Task, ToolFacts, Transcript

NUMBER, TEXT = {"type": "number"}, {"type": "string"}
TASK = Task("1", "shop", "train", "?", [], "18", {"kind": "number"}, None, [])

# Properties of a tool; arguments as they are given; and in their one form.
NORMALISED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "an integer stays": ({"a": NUMBER}, {"a": 3}, {"a": 3}),
    "a whole float": ({"a": NUMBER}, {"a": 3.0}, {"a": 3}),
    "a number in quotes": ({"a": NUMBER}, {"a": "3"}, {"a": 3}),
    "a float in quotes": ({"a": {"type": "integer"}}, {"a": "-3.0e1"}, {"a": -30}),
    "a fraction": ({"a": NUMBER}, {"a": "2.50"}, {"a": 2.5}),
    "a number or null": ({"a": {"type": ["number", "null"]}}, {"a": "3"}, {"a": 3}),
    "any of numbers": ({"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}, {"a": "3"}, {"a": 3}),
    "a number or a text": ({"a": {"type": ["number", "string"]}}, {"a": "3"}, {"a": "3"}),
    "any of number and text": ({"a": {"anyOf": [NUMBER, TEXT]}}, {"a": "3"}, {"a": "3"}),
    "any of number and anything": ({"a": {"anyOf": [NUMBER, {}]}}, {"a": "3"}, {"a": "3"}),
    "a text": ({"a": TEXT}, {"a": "3"}, {"a": "3"}),
    "no type": ({"a": {}}, {"a": "3"}, {"a": "3"}),
    "a number where a text is asked for": ({"a": TEXT}, {"a": 3}, {"a": 3}),
    "words": ({"a": NUMBER}, {"a": "three"}, {"a": "three"}),
    "spaces": ({"a": NUMBER}, {"a": " 3"}, {"a": " 3"}),
    "thousands": ({"a": NUMBER}, {"a": "3,000"}, {"a": "3,000"}),
    "other digits": ({"a": NUMBER}, {"a": "３"}, {"a": "３"}),
    "not a number": ({"a": NUMBER}, {"a": "nan"}, {"a": "nan"}),
    "an integer beyond all floats": ({"a": NUMBER}, {"a": "9" * 400}, {"a": int("9" * 400)}),
    "zeros in front": ({"a": NUMBER}, {"a": "007"}, {"a": 7}),
    "too large": ({"a": NUMBER}, {"a": "1e999"}, {"a": "1e999"}),
    "a truth value": ({"a": NUMBER}, {"a": True}, {"a": True}),
    "inside a list": ({"a": {"type": "array", "items": NUMBER}}, {"a": ["1", 2.0, "x"]}, {"a": [1, 2, "x"]}),
    "no list where one is asked for": ({"a": {"type": "array", "items": NUMBER}}, {"a": "1"}, {"a": "1"}),
    "inside an object": (
        {"a": {"type": "object", "properties": {"b": NUMBER, "c": {"default": 1}}}},
        {"a": {"b": "1"}},
        {"a": {"b": 1, "c": 1}},
    ),
    "a default": ({"a": NUMBER, "b": {**NUMBER, "default": 2.0}}, {"a": 1}, {"a": 1, "b": 2}),
    "a default given": ({"a": NUMBER, "b": {**NUMBER, "default": 2}}, {"a": 1, "b": 5}, {"a": 1, "b": 5}),
    "null for no default": ({"a": {"type": ["string", "null"]}}, {"a": None}, {}),
    "null in an enumeration": ({"a": {"enum": ["x", None]}}, {"a": None}, {}),
    "null against a default": ({"a": {"type": ["string", "null"], "default": "x"}}, {"a": None}, {"a": None}),
    "null that is not allowed": ({"a": TEXT}, {"a": None}, {"a": None}),
    "what the schema does not know": ({"a": NUMBER}, {"z": "3"}, {"z": "3"}),
    "a schema that is none": ({"a": {"type": 3, "enum": 4, "anyOf": 5}}, {"a": "3"}, {"a": "3"}),
}


@pytest.mark.parametrize("case", NORMALISED)
def test_arguments_in_one_form(case: str) -> None:
    properties, given, expected = NORMALISED[case]
    transcript = Transcript(TASK, tools={"f": ToolFacts({"properties": properties}, True)})
    before = copy.deepcopy(given)
    for calls in ([("f", given)], (("f", given),)):  # as the student's come, and as the teacher's
        (found,) = normalise_calls(calls, transcript)
        assert repr(found) == repr(("f", expected))
    assert given == before
    assert normalise_calls([("f", given)], Transcript(TASK)) == [("f", given)]


@pytest.mark.parametrize("parameters", [{}, {"properties": 3}, {"properties": {"a": NUMBER}, "required": True}])
def test_odd_schemas_change_no_more_than_they_say(parameters: dict[str, Any]) -> None:
    transcript = Transcript(TASK, tools={"f": ToolFacts(parameters, True)})
    assert normalise_calls([("f", {"b": "3"})], transcript) == [("f", {"b": "3"})]


def test_a_required_null_stays() -> None:
    parameters = {"properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]}
    transcript = Transcript(TASK, tools={"f": ToolFacts(parameters, True)})
    assert normalise_calls([("f", {"a": None})], transcript) == [("f", {"a": None})]


def test_strict_takes_every_way_of_writing_the_teacher_s_calls(suite: str) -> None:
    environment = mentor_gym.MentorToolEnv(suite)
    right = [call("multiply", a=2, b="9.0"), answer(18)]
    play(environment, [call("power", exponent=2.0, base="3"), *right])
    assert make_reward("strict")(environment.transcript)["alignment"] == pytest.approx(0.3)
    play(environment, [call("power", exponent=2.0, base="3 "), *right])
    assert make_reward("strict")(environment.transcript)["alignment"] == 0.0


def test_a_teacher_is_normalised_too() -> None:
    """The teacher leaves out a default and writes a number in quotes; the student says everything."""
    function = {"name": "f", "arguments": '{"a": "2.0"}'}
    trace = [{"role": "assistant", "content": None, "tool_calls": [{"function": function}]}]
    task = Task("1", "shop", "train", "?", ["f"], "18", {"kind": "number"}, None, trace)
    facts = {"f": ToolFacts({"properties": {"a": NUMBER, "b": {**NUMBER, "default": 1}}}, True)}
    transcript = Transcript(task, tools=facts)
    assert aligned_calls(transcript) == ([], [("f", {"a": 2, "b": 1})])
    student = [("f", {"b": 1.0, "a": 2})]
    assert MATCHERS["ordered_calls"](student, teacher_calls(task), facts) == 1.0
    assert MATCHERS["ordered_calls"](student, teacher_calls(task), {}) == 0.0
    # The same teacher, other facts: nothing of the first answer is remembered for the second.
    other = {"f": ToolFacts({"properties": {"a": NUMBER, "b": {**NUMBER, "default": 7}}}, True)}
    assert MATCHERS["ordered_calls"](student, teacher_calls(task), other) == 0.0


FACTS = {name: ToolFacts({}, read_only) for name, read_only in (("r", True), ("q", True), ("w", False))}


@pytest.mark.parametrize(
    ("teacher", "student", "share"),
    [
        ("r q", "r q", 1),
        ("r q", "q r", 1),
        ("r q r", "r r q", 1),
        ("r w q", "r w q", 1),
        ("r w q", "w r q", 0),  # a reading before the change may show another thing
        ("r q w r", "q r w r", 1),
        ("r q w r", "r r w q", 0),
        ("w w", "w w", 1),
        ("w1 w2", "w2 w1", 0),  # two changes may overwrite each other
        ("r1 r2", "r2 r1", 1),
        ("r1 r2", "r2 r2", 0),
        ("r q", "r", 0),
        ("r", "r q", 0),
        ("r x", "x r", 0),  # of x nothing is known
        ("", "", 1),
    ],
)
def test_the_rung_of_equivalent_orders(teacher: str, student: str, share: int) -> None:
    def calls(text: str) -> list[tuple[str, dict[str, Any]]]:
        return [(word[0], {"n": int(word[1:] or 0)}) for word in text.split()]

    assert MATCHERS["calls"](calls(student), tuple(calls(teacher)), FACTS) == share
    ordered = MATCHERS["ordered_calls"](calls(student), calls(teacher), FACTS)
    assert ordered == float(student == teacher)


EPISODES = {
    "right": [call("power", base=3, exponent=2), call("multiply", a=2, b=9), answer(18)],
    "right, without calls": [answer(18)],
    "wrong": [call("power", base=3, exponent=2), call("multiply", a=2, b=9), answer(17)],
    "no answer": [call("power", base=3, exponent=2), "well"],
}
EXTRA = [call("echo", text="again"), call("reveal"), call("echo", text="again")]


# These pay for the calls and the answer together, and so have no term for the goal alone.
NO_GOAL_TERM = {"toolrl", "srl", "tool-n1", "tool-zero"}


@pytest.mark.parametrize("case", EPISODES)
@pytest.mark.parametrize("name", sorted(PRESETS.keys() - NO_GOAL_TERM))
def test_extra_readings_never_cost_the_outcome(suite: str, name: str, case: str) -> None:
    reward, environment = make_reward(name), mentor_gym.MentorToolEnv(suite)
    play(environment, EPISODES[case])
    assert all(facts.read_only for facts in environment.transcript.tools.values())
    plain = reward(environment.transcript)
    for position in range(len(EPISODES[case])):
        for extra in (EXTRA[:1], EXTRA):
            play(environment, [*EPISODES[case][:position], *extra, *EPISODES[case][position:]])
            assert reward(environment.transcript)["outcome"] == plain["outcome"]


def test_extra_readings_cost_toolrl_its_names_alone(suite: str) -> None:
    """The answer is one of its calls: found in `keys` and `values`, whatever else was called."""
    environment, reward = mentor_gym.MentorToolEnv(suite), make_reward("toolrl")
    play(environment, EPISODES["right"])
    plain = reward(environment.transcript)
    play(environment, [*EXTRA, *EPISODES["right"]])
    paid = reward(environment.transcript)
    assert paid.pop("names") < plain.pop("names")
    assert paid == plain


def test_names_of_a_teacher_s_tools_are_a_list() -> None:
    for said, expected in ((["add"], (("add", {}),)), ([], ()), (None, ()), ("add", ())):
        task = msgspec.structs.replace(TASK, meta={"teacher_tools": said})
        assert teacher_calls(task) == expected


READ_ONLY = {
    "sql": (sql_box, {"schema", "query"}, {"execute"}),
    "files": (
        FilesBox,
        {"list_files", "read_file", "search_files"},
        {"write_file", "append_file", "move_file", "delete_file"},
    ),
    "calendar": (
        CalendarBox,
        {"today", "list_appointments", "find_appointments", "find_free_times"},
        {"add_appointment", "move_appointment", "cancel_appointment"},
    ),
    "code": (CodeBox, set(), {"python"}),  # names that it defines are there in the next call
    "math": (math_box, set(math_box().tools), set()),
}


@pytest.mark.parametrize("name", READ_ONLY)
def test_what_the_shipped_boxes_say(name: str) -> None:
    make, reading, changing = READ_ONLY[name]
    box = make()
    assert {tool for tool in box.tools if box.is_read_only(tool)} == reading
    assert box.tools.keys() == reading | changing


def test_a_box_decides_for_tools_that_say_nothing() -> None:
    def note(text: str) -> str:
        """Note a text."""
        return text

    class Notes(ToolBox):
        def open(self, state: dict[str, Any] | None) -> None:
            """Open."""

    for said, stateless, stateful in ((None, True, False), (True, True, True), (False, False, False)):
        assert ToolBox([Tool.from_function(note, read_only=said)]).is_read_only("note") is stateless
        assert Notes([Tool.from_function(note, read_only=said)]).is_read_only("note") is stateful
        marked = tool(read_only=said)(note)
        assert ToolBox.from_module({"note": marked}).tools["note"].read_only is said
    # Each box of a combined one decides for its own.
    both = CombinedBox({"notes": Notes([Tool.from_function(note)]), "math": math_box()})
    assert (both.has_state, both.is_read_only("note"), both.is_read_only("add")) == (True, False, True)
    with pytest.raises(KeyError):
        both.is_read_only("none")
    for wrong in (1, "yes"):
        with pytest.raises(ValueError, match="read_only must be True, False or None"):
            tool(read_only=wrong)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="tool 'note': read_only"):
            Tool.from_function(note, read_only=wrong)  # type: ignore[arg-type]


def test_a_transcript_knows_the_offered_tools(env: mentor_gym.MentorToolEnv) -> None:
    facts = env.transcript.tools
    assert list(facts) == list(env.tools)
    assert facts["add"].read_only
    assert facts["add"].parameters["properties"]["b"]["default"] == 0
    env.step(call("add", a=1))
    assert env.transcript.tools is facts
    assert env.clone().transcript.tools == facts
    other = mentor_gym.MentorToolEnv(env.suite)
    other.set_state(env.get_state())
    assert other.transcript.tools == facts
    env.reset()
    assert env.transcript.tools is facts  # made once for all tasks that offer the same
    for copied in (copy.deepcopy(env.transcript), pickle.loads(pickle.dumps(env.transcript))):
        assert copied.tools == facts
    # No part of the record: neither for equality nor in what is shown.
    assert Transcript(env.task) == Transcript(env.task, tools=facts)
    assert "tools={" not in repr(Transcript(TASK, tools=facts))


def test_inline_schemas_are_what_the_task_says() -> None:
    suite = mentor_gym.MentorToolEnv("math").suite
    environment = mentor_gym.MentorToolEnv(suite)
    parameters = {"type": "object", "properties": {"a": NUMBER, "b": {**NUMBER, "default": 4}}}
    entry = {"type": "function", "function": {"name": "add", "description": "Add.", "parameters": parameters}}
    bare = {"type": "function", "function": {"name": "sqrt", "description": "Root."}}
    task = Task("1", "math", "train", "?", [entry, bare, "floor"], "1", {"kind": "number"}, None, [])
    _, _, facts = environment._offer(task)
    assert facts["add"] == ToolFacts(parameters, True)
    assert facts["sqrt"] == ToolFacts({}, True)
    assert facts["floor"].parameters == environment._box.tools["floor"].parameters
