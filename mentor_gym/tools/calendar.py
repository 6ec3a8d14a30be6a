"""The calendar box: appointments of a few people, from Monday to Friday within opening hours.

There is no clock in it: today is what the task's state says. What would make two appointments of a person overlap
is refused, and so is any change in the past.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from mentor_gym.tools.base import Tool, ToolBox, ToolError, decode_snapshot

MAX_APPOINTMENTS = 200
MAX_LISTED = 40
MAX_DAYS = 31
MAX_PEOPLE = 20
MAX_TITLE_CHARS = 60
_MAX_OUTPUT_CHARS = 8_000
_YEAR = timedelta(days=366)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")

BAD_DAY = "not a day: write it like 2025-03-14"
BAD_TIME = "not a time: write it like 09:30"
FAR_DAY = "the day is more than a year from today"
PAST = "that day is past"
WEEKEND = "no appointments on Saturday and Sunday"
FULL = f"the calendar is full: it holds {MAX_APPOINTMENTS} appointments"
BAD_TITLE = f"a title needs 1 to {MAX_TITLE_CHARS} characters"


@lru_cache(maxsize=1024)
def read_day(text: str) -> date:
    """Read a day written as YYYY-MM-DD; anything else is a `ToolError` with a fixed text.

    >>> read_day("2025-03-14").isoweekday()
    5
    """
    if _DAY.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise ToolError(BAD_DAY)


@lru_cache(maxsize=2048)
def read_time(text: str) -> int:
    """Read a time written as HH:MM, in minutes since midnight; anything else is a `ToolError` with a fixed text.

    >>> read_time("09:30")
    570
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ToolError(BAD_TIME)
    return int(match[1]) * 60 + int(match[2])


def write_time(minutes: int) -> str:
    """Write minutes since midnight as HH:MM.

    >>> write_time(570)
    '09:30'
    """
    return f"{minutes // 60:02}:{minutes % 60:02}"


def write_day(day: date) -> str:
    """Write a day with the first three letters of its weekday.

    >>> write_day(date(2025, 3, 14))
    'Fri 2025-03-14'
    """
    return f"{_WEEKDAYS[day.weekday()][:3]} {day.isoformat()}"


@dataclass(frozen=True)
class Appointment:
    """An appointment.

    Attributes:
        number: What the tools call it by; never used twice.
        title: What it is about.
        day: Its day.
        start: When it starts, in minutes since midnight.
        end: When it ends, in the same; after `start`.
        people: The names of those who take part, at least one.
    """

    number: int
    title: str
    day: date
    start: int
    end: int
    people: tuple[str, ...]

    def __str__(self) -> str:
        times = f"{write_time(self.start)}-{write_time(self.end)}"
        return " | ".join((str(self.number), write_day(self.day), times, self.title, ", ".join(self.people)))

    @property
    def content(self) -> tuple[str, str, str, str, tuple[str, ...]]:
        """What it is, without its number, and the order of names and capitals of its title."""
        times = write_time(self.start), write_time(self.end)
        return self.title.casefold(), self.day.isoformat(), *times, tuple(sorted(self.people))

    def overlaps(self, other: Appointment) -> bool:
        """Whether a person cannot have both."""
        return self.day == other.day and self.start < other.end and other.start < self.end


class CalendarBox(ToolBox):
    """The appointments of a few people: list, find free times, add, move and cancel.

    A task's state has `today` (a day), `people` (names), `hours` (opening and closing time, 09:00 and 17:00 when
    left out) and `appointments`: objects with `number`, `title`, `day`, `start`, `end` and `people`, which may
    overlap. `snapshot` holds what differs from it.

    >>> box = CalendarBox()
    >>> box.open({"today": "2025-03-10", "people": ["Ana", "Bo"], "appointments": []})
    >>> call = {"title": "review", "day": "2025-03-11", "start": "09:00", "end": "10:00", "people": ["Bo"]}
    >>> box.tools["add_appointment"].call(call).output
    'added 1 | Tue 2025-03-11 | 09:00-10:00 | review | Bo'
    >>> box.tools["add_appointment"].call({**call, "start": "09:30", "people": ["Ana", "Bo"]}).output
    'error: add_appointment: Bo is busy then: 1 | Tue 2025-03-11 | 09:00-10:00 | review | Bo'
    >>> box.final_state()
    {'removed': [], 'added': [['review', '2025-03-11', '09:00', '10:00', ['Bo']]]}
    """

    _people: dict[str, str]
    _start: dict[int, Appointment]
    _items: dict[int, Appointment]

    def __init__(self) -> None:
        self._forget()
        reading = (self.today, self.list_appointments, self.find_appointments, self.find_free_times)
        changing = (self.add_appointment, self.move_appointment, self.cancel_appointment)
        super().__init__(
            _bounded(Tool.from_function(function, read_only=function in reading))
            for function in (*reading, *changing)
        )

    def today(self) -> str:
        """Today, and the days of this week and the next. Appointments are possible between the opening hours."""
        today = self._today
        monday = today - timedelta(days=today.weekday())
        lines = [f"today is {_WEEKDAYS[today.weekday()]}, {today.isoformat()}"]
        for week, start in (("this", monday), ("next", monday + timedelta(days=7))):
            days = ", ".join(write_day(start + timedelta(days=i)) for i in range(5))
            lines.append(f"{week} week: {days}")
        lines.append(f"open from {write_time(self._hours[0])} to {write_time(self._hours[1])}")
        return "\n".join(lines)

    def list_appointments(self, first_day: str, last_day: str | None = None, person: str | None = None) -> str:
        """List the appointments of a day, or of several. Each with its number, day, time, title and people.

        Args:
            first_day: The day, like 2025-03-14.
            last_day: The last day, when there are several.
            person: The name of a person; left out, everybody's are listed.
        """
        days = set(self._days(first_day, last_day))
        found = (item for item in self._items.values() if item.day in days)
        if person is not None:
            (name,) = self._names([person])
            found = (item for item in found if name in item.people)
        return _write(found)

    def find_appointments(self, title: str) -> str:
        """List the appointments, from today on, whose title contains a text.

        Args:
            title: What to look for, in capitals or not.
        """
        wanted = _read_title(title).casefold()
        return _write(
            item for item in self._items.values() if item.day >= self._today and wanted in item.title.casefold()
        )

    def find_free_times(self, people: list[str], minutes: int, first_day: str, last_day: str | None = None) -> str:
        """List the times at which all of these people are free for long enough.

        Args:
            people: Their names.
            minutes: How long they need.
            first_day: The day, like 2025-03-14.
            last_day: The last day, when there are several.
        """
        names = set(self._names(people))
        if not 1 <= minutes <= 24 * 60:
            raise ToolError("minutes must be 1 to 1440")
        lines = []
        for day in self._days(first_day, last_day):
            if day < self._today:
                raise ToolError(PAST)
            if day.weekday() < 5:
                for start, end in self._gaps(day, names):
                    if end - start >= minutes:
                        lines.append(f"{write_day(day)} | {write_time(start)}-{write_time(end)}")
        return "\n".join(lines) or "there is no such time"

    def add_appointment(self, title: str, day: str, start: str, end: str, people: list[str]) -> str:
        """Add an appointment. Refused when one of the people has another one then.

        Args:
            title: What it is about.
            day: The day, like 2025-03-14.
            start: When it starts, like 09:30.
            end: When it ends.
            people: The names of all who take part.
        """
        times = read_time(start), read_time(end)
        item = Appointment(self._next, _read_title(title), read_day(day), *times, self._names(people))
        self._check(item)
        if len(self._items) >= MAX_APPOINTMENTS:
            raise ToolError(FULL)
        self._items[item.number] = item
        self._next += 1
        return f"added {item}"

    def move_appointment(self, number: int, day: str, start: str) -> str:
        """Move an appointment to another time. Its length, title and people stay.

        Args:
            number: Its number, from a list of appointments.
            day: The new day, like 2025-03-14.
            start: When it starts there, like 09:30.
        """
        before = self._future(number)
        begin = read_time(start)
        item = replace(before, day=read_day(day), start=begin, end=begin + before.end - before.start)
        self._check(item)
        self._items[item.number] = item
        return f"moved {item}"

    def cancel_appointment(self, number: int) -> str:
        """Cancel an appointment.

        Args:
            number: Its number, from a list of appointments.
        """
        item = self._future(number)
        del self._items[item.number]
        return f"cancelled {item}"

    def open(self, state: dict[str, Any] | None) -> None:
        """Set the calendar to that of a task.

        Raises:
            ValueError: The state lacks something, or holds what is no appointment.
        """
        self.close()
        if state is None:
            return
        try:
            self._today = read_day(state["today"])
            if not 1900 <= self._today.year < 2900:
                raise ValueError("today is too far away")
            opens, closes = state.get("hours", ("09:00", "17:00"))
            self._hours = read_time(opens), read_time(closes)
            self._people = {name.casefold(): name for name in state["people"]}
            self._start = self._read_all(state.get("appointments", ()))
        except (KeyError, TypeError, AttributeError, ValueError, ToolError) as error:
            self.close()
            raise ValueError(f"not the state of a calendar: {type(error).__name__}: {error}") from None
        self._items = dict(self._start)
        self._next = 1 + max(self._items, default=0)

    def snapshot(self) -> bytes:
        """Return the changed appointments as JSON, and the next number; nothing when all is as at the start."""
        gone = sorted(self._start.keys() - self._items.keys())
        put = [_to_json(item) for _, item in sorted(self._items.items()) if self._start.get(item.number) != item]
        if not gone and not put and self._next == 1 + max(self._start, default=0):
            return b""
        return json.dumps({"next": self._next, "gone": gone, "put": put}, ensure_ascii=False).encode()

    def restore(self, snapshot: bytes) -> None:
        """Change the task's own appointments as a snapshot says.

        Raises:
            ValueError: The snapshot does not fit them.
        """
        items, following = dict(self._start), 1 + max(self._start, default=0)
        if snapshot:
            try:
                content = decode_snapshot(snapshot)
                for number in content["gone"]:
                    del items[number]
                items |= self._read_all(content["put"])
                following = int(content["next"])
            except (KeyError, TypeError, AttributeError, ToolError) as error:
                raise ValueError(f"not a snapshot of this calendar: {type(error).__name__}") from None
            if following <= max(items, default=0):
                raise ValueError("not a snapshot of this calendar: its next number is taken")
        self._items = items
        self._next = following

    def final_state(self) -> dict[str, list[Any]]:
        """Return what differs from the calendar at the start, as sorted lists.

        Returns:
            The appointments that are gone as `removed` and the new ones as `added`, each a list of title, day,
            start, end and people; one that was moved counts as both. Nothing when there is no difference.
        """
        before = Counter(item.content for item in self._start.values())
        now = Counter(item.content for item in self._items.values())
        if before == now:
            return {}
        return {
            "removed": [[*item[:4], [*item[4]]] for item in sorted((before - now).elements())],
            "added": [[*item[:4], [*item[4]]] for item in sorted((now - before).elements())],
        }

    def close(self) -> None:
        """Forget the appointments. May be called twice."""
        self._forget()

    def _forget(self) -> None:
        self._today = date(2000, 1, 3)
        self._hours = (9 * 60, 17 * 60)
        self._people = {}
        self._start = {}
        self._items = {}
        self._next = 1

    def _read_all(self, rows: Iterable[Mapping[str, Any]]) -> dict[int, Appointment]:
        items: dict[int, Appointment] = {}
        for row in rows:
            times = read_time(row["start"]), read_time(row["end"])
            people = self._names(row["people"])
            item = Appointment(int(row["number"]), _read_title(row["title"]), read_day(row["day"]), *times, people)
            if item.number < 1 or item.number in items or item.end <= item.start:
                raise ValueError(f"appointment {item.number}: its number or its times are wrong")
            items[item.number] = item
        if len(items) > MAX_APPOINTMENTS:
            raise ValueError(FULL)
        return items

    def _names(self, names: Sequence[str]) -> tuple[str, ...]:
        if not names:
            raise ToolError("name at least one person")
        found = [self._people.get(" ".join(name.split()).casefold()) for name in names]
        known = [name for name in found if name is not None]
        if len(known) < len(found):
            people = ", ".join([*self._people.values()][:MAX_PEOPLE]) or "nobody"
            raise ToolError(f"there is nobody of that name here; there are {people}")
        return tuple(dict.fromkeys(known))

    def _days(self, first: str, last: str | None) -> list[date]:
        start = read_day(first)
        end = start if last is None else read_day(last)
        if abs(start - self._today) > _YEAR:
            raise ToolError(FAR_DAY)
        if not 0 <= (end - start).days < MAX_DAYS:
            raise ToolError(f"the last day must be the first one or up to {MAX_DAYS - 1} days later")
        return [start + timedelta(days=i) for i in range((end - start).days + 1)]

    def _gaps(self, day: date, names: set[str]) -> Iterator[tuple[int, int]]:
        """Yield the stretches of a day at which none of these people has an appointment."""
        free_from, closes = self._hours
        items = (item for item in self._items.values() if item.day == day and names.intersection(item.people))
        for item in sorted(items, key=lambda item: item.start):
            if item.start > free_from:
                yield free_from, min(item.start, closes)
            free_from = max(free_from, item.end)
        if free_from < closes:
            yield free_from, closes

    def _future(self, number: int) -> Appointment:
        if number not in self._items:
            raise ToolError("there is no appointment of that number")
        item = self._items[number]
        if item.day < self._today:
            raise ToolError(PAST)
        return item

    def _check(self, item: Appointment) -> None:
        if item.day < self._today:
            raise ToolError(PAST)
        if item.day - self._today > _YEAR:
            raise ToolError(FAR_DAY)
        if item.day.weekday() >= 5:
            raise ToolError(WEEKEND)
        if item.end <= item.start:
            raise ToolError("it must end after it starts")
        opens, closes = self._hours
        if item.start < opens or item.end > closes:
            raise ToolError(f"outside of the hours, {write_time(opens)} to {write_time(closes)}")
        for person in item.people:
            for other in self._items.values():
                if other.number != item.number and person in other.people and other.overlaps(item):
                    raise ToolError(f"{person} is busy then: {other}")


def _read_title(title: str) -> str:
    if len(title) > MAX_TITLE_CHARS or not title.strip():
        raise ToolError(BAD_TITLE)
    return " ".join(title.split())


def _write(items: Iterable[Appointment]) -> str:
    found = sorted(items, key=lambda item: (item.day, item.start, item.number))
    left = len(found) - MAX_LISTED
    lines = [*map(str, found[:MAX_LISTED]), *([f"and {left} more"] if left > 0 else [])]
    return "\n".join(lines) or "there are no appointments"


def _to_json(item: Appointment) -> dict[str, Any]:
    return {
        "number": item.number,
        "title": item.title,
        "day": item.day.isoformat(),
        "start": write_time(item.start),
        "end": write_time(item.end),
        "people": [*item.people],
    }


def _bounded(tool: Tool) -> Tool:
    properties = {
        name: {**schema, "maxItems": MAX_PEOPLE} if schema["type"] == "array" else schema
        for name, schema in tool.parameters["properties"].items()
    }
    parameters = {**tool.parameters, "properties": properties}
    return Tool(
        tool.function, tool.name, tool.description, parameters, _MAX_OUTPUT_CHARS, read_only=tool.read_only
    )


def calendar_box() -> CalendarBox:
    """Build a calendar box, for a suite of one's own.

    >>> list(calendar_box().tools)[:3]
    ['today', 'list_appointments', 'find_appointments']
    """
    return CalendarBox()
