"""Answer checkers: right answers in many spellings, wrong ones in none, and no exception ever."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentor_gym.grading import GRADERS, grade, grade_number, grader_problem, parse_number

NUMBER = {"kind": "number"}
TEXT = {"kind": "text", "aliases": ["NYC"]}
SET = {"kind": "set"}


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("42", "42", True),
        ("42.0", "42", True),
        (" 42. ", "42", True),
        ("+42", "42", True),
        ("-42", "42", False),
        ("−42", "-42", True),
        ("1,234,567", "1234567", True),
        ("1,2", "12", False),
        ("$12.50", "12.5", True),
        ("12.5%", "12.5", True),
        ("4.2e1", "42", True),
        ("1/2", "0.5", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"-\dfrac{1}{2}", "-0.5", True),
        ("1/0", "1", False),
        ("3.33", "3.3333333333", True),
        ("3.34", "3.3333333333", False),
        ("3.3", "3.3333333333", False),
        ("3", "3.3333333333", False),
        ("0", "0", True),
        ("-0.0", "0", True),
        ("0.001", "0", False),
        ("5000211.0", "5000211", True),
        ("5000212", "5000211", False),
        ("5000211.5", "5000211", False),
        ("-5000212", "-5000211", False),
        ("1000000.4", "1000000.5", True),
        ("1000002.5", "1000000.5", False),
        ("42 43", "42", False),
        ("forty-two", "42", False),
        ("42 or 43", "42", False),
        ("", "0", False),
        ("nan", "nan", False),
        ("inf", "inf", False),
        ("1e999", "1e999", False),
        ("1e999", "5", False),
        ("9" * 101, "9" * 101, False),
    ],
)
def test_numbers(answer: str, gold: str, expected: bool) -> None:
    assert grade(answer, gold, NUMBER) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("New York", True),
        ("the  new york!", True),
        ("NEW YORK.", True),
        ("nyc", True),
        ("York", False),
        ("New York City", False),
        ("", False),
        ("!!!", False),
        ("the", False),
    ],
)
def test_texts(answer: str, expected: bool) -> None:
    assert grade(answer, "New York", TEXT) is expected


@pytest.mark.parametrize(("answer", "gold"), [("35", "3.5"), ("5", "-5"), ("3.5", "-3.5"), ("a1", "b1")])
def test_numbers_inside_texts_keep_points_and_signs(answer: str, gold: str) -> None:
    assert not grade(answer, gold, {"kind": "text"})
    assert grade(f"{gold}.", gold, {"kind": "text"})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Paris, Lyon", True),
        ("lyon,paris", True),
        ("Paris, Lyon, ", True),
        ("Paris", False),
        ("Paris, Paris, Lyon", False),
        ("Paris, Lyon, Nice", False),
        ("Paris; Lyon", False),
        ("", False),
        (",", False),
    ],
)
def test_sets(answer: str, expected: bool) -> None:
    assert grade(answer, "Paris, Lyon", SET) is expected


def test_an_answer_of_nothing_is_never_right() -> None:
    assert not grade("!!!", "Paris", {"kind": "text", "aliases": ["", "the"]})
    assert not grade("an", "the", {"kind": "text"})


def test_sets_take_a_separator() -> None:
    assert grade("Lyon; Paris", "Paris; Lyon", {"kind": "set", "separator": ";"})


@given(st.text(max_size=200) | st.from_regex(r"[-+$.,/\d\\frac{}eE%]{0,40}"), st.sampled_from([NUMBER, TEXT, SET]))
def test_graders_are_total(answer: str, grader: dict[str, Any]) -> None:
    assert grade(answer, "12.5", grader) in (True, False)


@given(st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-6))
def test_a_number_is_its_own_answer(value: float) -> None:
    gold = repr(value)
    assert grade_number(gold, gold)
    assert not grade_number(repr(value + 1 + abs(value) * 1e-3), gold)


def test_parse_number_counts_decimals() -> None:
    assert parse_number("1.50") == (1.5, 2)
    assert parse_number("15") == (15.0, 0)
    assert parse_number("x") is None


@pytest.mark.parametrize(
    ("grader", "words"),
    [
        ({}, "grader.kind"),
        ({"kind": "numbr"}, "number, text, set"),
        ({"kind": ["number"]}, "grader.kind"),
        ({"kind": "number", "tolerance": 1}, "grader.tolerance"),
        ({"kind": "text", "aliases": "NYC"}, "list of texts"),
        ({"kind": "text", "aliases": [1]}, "list of texts"),
        ({"kind": "set", "separator": ""}, "not empty"),
        ({"kind": "set", "separator": 3}, "not empty"),
        ({"kind": "state"}, "grader.expected"),
        ({"kind": "calls"}, "grader.expected"),
        ({"kind": "calls", "expected": [{"name": "add"}]}, 'field "grader.expected": call 0: expected an object'),
        ({"kind": "state", "expected": {}, "aliases": []}, "a state grader has kind, expected"),
    ],
)
def test_broken_graders_are_named(grader: dict[str, Any], words: str) -> None:
    assert words in (grader_problem(grader) or "")


def test_every_grader_is_covered_here() -> None:
    state, calls = {"kind": "state", "expected": None}, {"kind": "calls", "expected": []}
    assert {grader["kind"] for grader in (NUMBER, TEXT, SET, state, calls, {"kind": "math"})} == set(GRADERS)
    assert all(grader_problem(grader) is None for grader in (NUMBER, TEXT, SET, state, calls))


def test_mathematics_is_refused_where_it_cannot_be_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    from mentor_gym import math_answers

    monkeypatch.setattr(math_answers, "unavailable", lambda: "install it")
    assert grader_problem({"kind": "math"}) == 'field "grader.kind": math answers cannot be judged; install it'
    monkeypatch.setattr(math_answers, "unavailable", lambda: None)
    assert grader_problem({"kind": "math"}) is None
    assert grade(r"$\dfrac{1}{2}x$", r"\frac{1}{2} x", {"kind": "math"})
    assert not grade("43", "42", {"kind": "math"})


@pytest.mark.parametrize(
    ("answer", "final_state", "expected"),
    [
        ("done", {"sold": [["tea", 2]]}, True),
        ("I could not", {"sold": [["tea", 2]]}, True),
        ("done", {"sold": [["tea", 2.0]]}, True),
        ("done", {"sold": [["tea", 3]]}, False),
        ("done", {"sold": [["tea", 2]], "gone": []}, False),
        ("done", None, False),
        (" ", {"sold": [["tea", 2]]}, False),
    ],
)
def test_states_are_compared_whole_and_need_an_answer(answer: str, final_state: Any, expected: bool) -> None:
    grader = {"kind": "state", "expected": {"sold": [["tea", 2]]}}
    assert grade(answer, "done", grader, final_state) is expected


def test_other_graders_do_not_look_at_the_state() -> None:
    for grader, gold in ((NUMBER, "4"), (TEXT, "Oslo"), (SET, "a, b")):
        assert grade(gold, gold, grader, {"any": 1})
        assert not grade("5", gold, grader, {"any": 1})


@pytest.mark.parametrize("final_state", [None, "text", {}, {"calls": []}])
def test_a_state_that_is_no_list_of_calls_matches_none(final_state: Any) -> None:
    assert not grade("ok", "ok", {"kind": "calls", "expected": []}, final_state)
    assert grade("ok", "ok", {"kind": "calls", "expected": []}, [])
    assert not grade(" ", "ok", {"kind": "calls", "expected": []}, [])


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("1357.77 K", "1357.77", True),
        ("5.5 hours", "5.5", True),
        ("116 km2", "116", True),
        ("68 °F", "68", True),
        ("80 km/h", "80", True),
        ("5kg", "5", True),
        ("**42**", "42", True),
        (r"\boxed{42}", "42", True),
        ("x = 42", "42", True),
        ("total = 42 EUR.", "42", True),
        ("5 km", "5000", False),
        ("42 or 43", "42", False),
        ("42 or", "42", False),
        ("42 of many", "42", False),
        ("between 41 and 42", "42", False),
        ("**", "42", False),
        ("K", "42", False),
        ("90071992547409930", "90071992547409931", False),
        ("90,071,992,547,409,931", "90071992547409931", True),
        ("90071992547409931.0", "90071992547409931", True),
        ("-90071992547409931", "90071992547409931", False),
        ("9.0071992547409931e16", "90071992547409931", True),
    ],
)
def test_numbers_as_people_write_them(answer: str, gold: str, expected: bool) -> None:
    assert grade(answer, gold, NUMBER) is expected


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("22:50", "22:50", True),
        ("2:250", "22:50", False),
        ("9:05", "09:05", True),
        ("9:05:30", "09:05:30", True),
        ("19:05", "09:05", False),
        ("9:5", "09:05", False),
        ("2024-1-122", "2024-11-22", False),
        ("2024-11-22.", "2024-11-22", True),
        ("1/2", "12", False),
        ("well-known", "wellknown", True),
    ],
)
def test_dates_and_times_keep_their_signs(answer: str, gold: str, expected: bool) -> None:
    assert grade(answer, gold, TEXT) is expected


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("-8.0, -2.0, 5.0", "-8, -2, 5", True),
        ("−8, −2, 5", "-8, -2, 5", True),
        ("-8, -2 and 5", "-8, -2, 5", True),
        ("8, -2, 5", "-8, -2, 5", False),
        ("Ana, and Bo", "Ana, Bo", True),
        ("Ana and Bo", "Ana, Bo", True),
        ("- Ana\n- Bo", "Bo, Ana", True),
        ("* Ana\n* Bo\n", "Bo, Ana", True),
        ("Trinidad and Tobago, Peru", "Peru, Trinidad and Tobago", True),
        ("Peru and Trinidad and Tobago", "Peru, Trinidad and Tobago", False),
        ("Ana, Ana, Bo", "Ana, Bo", False),
        ("Ana and", "Ana", False),
        ("Andy, Bo", "Andy, Bo", True),
        ("-5", "-5", True),
    ],
)
def test_lists_as_people_write_them(answer: str, gold: str, expected: bool) -> None:
    assert grade(answer, gold, SET) is expected
