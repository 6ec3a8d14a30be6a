"""The calendar box: appointments, free times, conflicts."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from mentor_gym.testing import check_tool
from mentor_gym.tools import calendar
from mentor_gym.tools.calendar import CalendarBox, calendar_box, read_day, read_time, write_day, write_time

# 2025-03-12 is a Wednesday.
TODAY = "2025-03-12"
ROWS = [
    (1, "budget review", "2025-03-11", "09:00", "10:00", ["Ana"]),
    (2, "Budget plan", "2025-03-13", "09:00", "10:30", ["Ana", "Bo"]),
    (3, "audit", "2025-03-13", "10:00", "11:00", ["Cy"]),
    (5, "hiring", "2025-03-13", "14:00", "15:00", ["Bo", "Cy"]),
    (6, "hiring", "2025-03-14", "16:00", "17:00", ["Ana", "Bo", "Cy"]),
]
FIELDS = ("number", "title", "day", "start", "end", "people")
STATE = {
    "today": TODAY,
    "people": ["Ana", "Bo", "Cy", "Dee Ito"],
    "appointments": [dict(zip(FIELDS, row)) for row in ROWS],
}


def opened(**changes: Any) -> CalendarBox:
    box = CalendarBox()
    box.open({**STATE, **changes})
    return box


def call(box: CalendarBox, tool: str, *values: Any) -> str:
    arguments = dict(zip(box.tools[tool].parameters["properties"], values))
    return box.tools[tool].call(arguments).output.removeprefix(f"error: {tool}: ")


def test_today_and_its_weeks() -> None:
    assert call(opened(hours=["08:00", "16:30"]), "today") == (
        "today is Wednesday, 2025-03-12\n"
        "this week: Mon 2025-03-10, Tue 2025-03-11, Wed 2025-03-12, Thu 2025-03-13, Fri 2025-03-14\n"
        "next week: Mon 2025-03-17, Tue 2025-03-18, Wed 2025-03-19, Thu 2025-03-20, Fri 2025-03-21\n"
        "open from 08:00 to 16:30"
    )
    # A Sunday ends its week, here over the end of a year that is none.
    assert "this week: Mon 2027-12-27" in call(opened(today="2028-01-02"), "today")


BOTH = ["Ana", "Bo"]
REVIEW = "1 | Tue 2025-03-11 | 09:00-10:00 | budget review | Ana"
AUDIT = "3 | Thu 2025-03-13 | 10:00-11:00 | audit | Cy"
PLAN = "2 | Thu 2025-03-13 | 09:00-10:30 | Budget plan | Ana, Bo"
NOBODY = "there is nobody of that name here; there are Ana, Bo, Cy, Dee Ito"
HIRING = "5 | Thu 2025-03-13 | 14:00-15:00 | hiring | Bo, Cy"
ALL = "6 | Fri 2025-03-14 | 16:00-17:00 | hiring | Ana, Bo, Cy"
DAYS = "the last day must be the first one or up to 30 days later"
THURSDAY = "2025-03-13"
HOURS = "outside of the hours, 09:00 to 17:00"


@pytest.mark.parametrize(
    ("tool", "values", "expected"),
    [
        ("list_appointments", [THURSDAY, None, "cy"], f"{AUDIT}\n{HIRING}"),
        ("list_appointments", ["2025-03-11", "2025-03-12"], REVIEW),
        ("list_appointments", ["2025-03-12"], "there are no appointments"),
        ("list_appointments", [THURSDAY, None, "Dora"], NOBODY),
        ("list_appointments", [THURSDAY, "2025-03-12"], DAYS),
        ("list_appointments", [THURSDAY, "2025-04-13"], DAYS),
        ("list_appointments", ["2026-03-14"], calendar.FAR_DAY),
        ("find_appointments", ["BUDGET"], PLAN),
        ("find_appointments", [""], calendar.BAD_TITLE),
        ("find_free_times", [BOTH, 60, THURSDAY], "Thu 2025-03-13 | 10:30-14:00\nThu 2025-03-13 | 15:00-17:00"),
        ("find_free_times", [["Ana", "Cy"], 180, THURSDAY, "2025-03-17"],
         "Thu 2025-03-13 | 11:00-14:00\nFri 2025-03-14 | 09:00-16:00\nMon 2025-03-17 | 09:00-17:00"),
        ("find_free_times", [BOTH, 211, THURSDAY], "there is no such time"),
        ("find_free_times", [BOTH, 210, THURSDAY], "Thu 2025-03-13 | 10:30-14:00"),
        ("find_free_times", [["dee  ITO"], 480, "2025-03-15", "2025-03-17"], "Mon 2025-03-17 | 09:00-17:00"),
        ("find_free_times", [BOTH, 60, "2025-03-11"], calendar.PAST),
        ("find_free_times", [[], 60, THURSDAY], "name at least one person"),
        ("find_free_times", [BOTH, 0, THURSDAY], "minutes must be 1 to 1440"),
        ("find_free_times", [BOTH, 10**50, THURSDAY], "minutes must be 1 to 1440"),
        ("add_appointment", ["x", THURSDAY, "10:30", "14:00", BOTH],
         "added 7 | Thu 2025-03-13 | 10:30-14:00 | x | Ana, Bo"),
        ("add_appointment", ["x", THURSDAY, "10:29", "11:00", ["Dee Ito", "Bo"]], f"Bo is busy then: {PLAN}"),
        ("add_appointment", ["x", THURSDAY, "08:30", "09:30", BOTH], HOURS),
        ("add_appointment", ["x", THURSDAY, "16:30", "17:01", BOTH], HOURS),
        ("add_appointment", ["x", THURSDAY, "12:00", "12:00", BOTH], "it must end after it starts"),
        ("add_appointment", ["x", "2025-03-15", "12:00", "13:00", BOTH], calendar.WEEKEND),
        ("add_appointment", ["x", "2025-03-11", "12:00", "13:00", BOTH], calendar.PAST),
        ("add_appointment", ["x", "2026-03-16", "12:00", "13:00", BOTH], calendar.FAR_DAY),
        ("add_appointment", ["x", "2025-02-30", "12:00", "13:00", BOTH], calendar.BAD_DAY),
        ("add_appointment", ["x", "20250313", "12:00", "13:00", BOTH], calendar.BAD_DAY),
        ("add_appointment", ["x", "٢٠٢٥-٠٣-١٣", "12:00", "13:00", BOTH], calendar.BAD_DAY),
        ("add_appointment", ["x", THURSDAY, "24:00", "13:00", BOTH], calendar.BAD_TIME),
        ("add_appointment", ["x", THURSDAY, "noon", "13:00", BOTH], calendar.BAD_TIME),
        ("add_appointment", [" ", THURSDAY, "12:00", "13:00", BOTH], calendar.BAD_TITLE),
        ("add_appointment", ["x" * 61, THURSDAY, "12:00", "13:00", BOTH], calendar.BAD_TITLE),
        ("add_appointment", ["x", THURSDAY, "12:00", "13:00", ["Ana", "Eve"]], NOBODY),
        ("move_appointment", [2, THURSDAY, "9:30"],
         "moved 2 | Thu 2025-03-13 | 09:30-11:00 | Budget plan | Ana, Bo"),
        ("move_appointment", [2, "2025-03-14", "15:00"], f"Ana is busy then: {ALL}"),
        ("move_appointment", [2, "2025-03-14", "16:00"], HOURS),
        ("move_appointment", [1, "2025-03-14", "09:00"], calendar.PAST),
        ("move_appointment", [4, "2025-03-14", "09:00"], "there is no appointment of that number"),
        ("cancel_appointment", [3], f"cancelled {AUDIT}"),
        ("cancel_appointment", [1], calendar.PAST),
        ("cancel_appointment", [10**30], "there is no appointment of that number"),
    ],
)  # fmt: skip
def test_tools(tool: str, values: list[Any], expected: str) -> None:
    given = opened()
    parameters = given.tools[tool].parameters["properties"]
    arguments = {name: value for name, value in zip(parameters, values) if value is not None}
    result = given.tools[tool].call(arguments)
    assert result.output.removeprefix(f"error: {tool}: ") == expected
    if not result.ok:
        assert given.snapshot() == b""
        assert given.final_state() == {}


def test_appointments_that_touch_do_not_overlap() -> None:
    box = opened()
    assert call(box, "add_appointment", "x", "2025-03-13", "10:30", "14:00", ["Bo"]).startswith("added 7 ")
    assert call(box, "add_appointment", "y", "2025-03-13", "10:30", "14:00", ["Ana"]).startswith("added 8 ")
    assert call(box, "add_appointment", "z", "2025-03-13", "13:59", "14:00", ["Bo"]).startswith("Bo is busy")


def test_a_move_tells_like_cancelling_and_adding_again() -> None:
    moved, renewed = opened(), opened()
    call(moved, "move_appointment", 5, "2025-03-17", "09:00")
    call(renewed, "add_appointment", "HIRING", "2025-03-17", "9:00", "10:00", ["Cy", "Bo", "cy"])
    call(renewed, "cancel_appointment", 5)
    expected = {
        "removed": [["hiring", "2025-03-13", "14:00", "15:00", ["Bo", "Cy"]]],
        "added": [["hiring", "2025-03-17", "09:00", "10:00", ["Bo", "Cy"]]],
    }
    assert moved.final_state() == renewed.final_state() == expected
    call(moved, "move_appointment", 5, "2025-03-13", "14:00")
    assert moved.final_state() == {}
    assert moved.snapshot() == b""


def test_snapshots_come_back() -> None:
    box = opened()
    call(box, "add_appointment", "x", "2025-03-17", "09:00", "10:00", ["Ana"])
    call(box, "cancel_appointment", 7)
    call(box, "cancel_appointment", 3)
    call(box, "move_appointment", 6, "2025-03-17", "09:00")
    snapshot = box.snapshot()
    twin = opened()
    twin.restore(snapshot)
    assert twin.snapshot() == snapshot
    assert twin.final_state() == box.final_state()
    # A number is not given twice, also not after the appointment is gone.
    for each in (box, twin):
        assert call(each, "add_appointment", "y", "2025-03-18", "09:00", "10:00", ["Bo"]).startswith("added 8 ")
    assert box.snapshot() == twin.snapshot() != snapshot
    twin.restore(b"")
    assert twin.snapshot() == b""


@pytest.mark.parametrize(
    "snapshot",
    [
        b"[]",
        b"{",
        b'{"next": 7, "gone": [4], "put": []}',
        b'{"next": 6, "gone": [], "put": []}',
        b'{"next": 9, "gone": [], "put": [{"number": 8}]}',
        b'{"next": 9, "gone": [], "put": [{"number": 8, "title": "x", "day": "2025-03-17", "start": "10:00", '
        b'"end": "09:00", "people": ["Ana"]}]}',
        b'{"next": 9, "gone": [], "put": [{"number": 8, "title": "x", "day": "2025-03-17", "start": "08:00", '
        b'"end": "09:00", "people": ["Eve"]}]}',
    ],
)
def test_strange_snapshots_are_refused(snapshot: bytes) -> None:
    box = opened()
    with pytest.raises(ValueError, match=r"."):
        box.restore(snapshot)
    assert box.final_state() == {}


@pytest.mark.parametrize(
    "change",
    [
        {"today": "tomorrow"},
        {"today": "9999-12-31"},
        {"hours": ["09:00"]},
        {"people": None},
        {"people": ["Ana"]},
        {"appointments": [{"number": 1}]},
        {"appointments": [*STATE["appointments"], STATE["appointments"][0]]},
    ],
)
def test_strange_states_are_refused(change: dict[str, Any]) -> None:
    box = CalendarBox()
    with pytest.raises(ValueError, match="not the state of a calendar"):
        box.open({**STATE, **change})
    assert call(box, "list_appointments", "2000-01-03") == "there are no appointments"


def test_the_calendar_fills_up() -> None:
    box = opened(people=[*STATE["people"], *(f"P{i}" for i in range(240))])
    answers = [call(box, "add_appointment", "x", "2025-03-17", "09:00", "10:00", [f"P{i}"]) for i in range(220)]
    assert answers[194].startswith("added 201 ")
    assert set(answers[195:]) == {calendar.FULL}
    listed = call(box, "list_appointments", "2025-03-17").split("\n")
    assert listed[-1] == "and 155 more"
    assert len(listed) == 41


def test_days_and_times() -> None:
    assert (read_day("2024-02-29"), read_time("7:05"), read_time("23:59")) == (date(2024, 2, 29), 425, 1439)
    assert (write_time(425), write_day(date(2024, 2, 29))) == ("07:05", "Thu 2024-02-29")


def test_gaps_leave_out_what_overlaps() -> None:
    rows = [
        (1, "a", "2025-03-13", "10:00", "12:00", ["Ana"]),
        (2, "b", "2025-03-13", "10:30", "11:00", ["Ana"]),
        (3, "c", "2025-03-13", "08:00", "09:30", ["Ana"]),
        (4, "d", "2025-03-13", "16:00", "18:00", ["Ana"]),
        (5, "e", "2025-03-14", "18:00", "19:00", ["Ana"]),
    ]
    box = opened(appointments=[dict(zip(FIELDS, row)) for row in rows])
    found = call(box, "find_free_times", ["Ana"], 1, "2025-03-13", "2025-03-14").split("\n")
    assert found == [
        "Thu 2025-03-13 | 09:30-10:00",
        "Thu 2025-03-13 | 12:00-16:00",
        "Fri 2025-03-14 | 09:00-17:00",
    ]


def test_the_box_keeps_the_promises_of_tools() -> None:
    examples: dict[str, Any] = {
        "list_appointments": [{"first_day": "2025-03-13"}],
        "find_free_times": [{"people": ["Ana"], "minutes": 30, "first_day": "2025-03-13"}],
        "add_appointment": [
            {"title": "x", "day": "2025-03-17", "start": "09:00", "end": "10:00", "people": ["Ana"]}
        ],
        "move_appointment": [{"number": 2, "day": "2025-03-17", "start": "09:30"}],
        "cancel_appointment": [{"number": 3}],
    }
    assert check_tool(calendar_box(), state=STATE, examples=examples).failed == []
