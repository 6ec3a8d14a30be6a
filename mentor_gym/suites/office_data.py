"""The offices behind the `office` suite: a calendar of two weeks and some twenty files, made from a seed.

Every office has things that are nearly right: notes of older meetings on the same topic, lists of the same trip
that count something else, drafts that are only mentioned elsewhere, appointments with similar titles.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from mentor_gym.suites.shop_data import WORDS as NAMES
from mentor_gym.tools.calendar import write_day, write_time

OPENS, CLOSES = 9 * 60, 17 * 60
ROLES = (
    "accountant", "analyst", "buyer", "designer", "driver", "editor", "engineer", "lawyer", "planner", "secretary",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
_PEOPLE = 7
_APPOINTMENTS_A_DAY = 3
_NOTES = 3
_TALK = (
    "We agreed on the first step.",
    "Two questions are open.",
    "Costs were higher than planned.",
    "The plan was accepted.",
)


@dataclass(frozen=True)
class Words:
    """What offices are made of.

    Attributes:
        topics: What meetings and drafts are about.
        meetings: Kinds of meetings; a title is a topic and one of these.
        projects: Names of projects.
        trips: Where one travels to.
        goods: What stands on packing lists.
        stops: Places on routes.
        rooms: Rooms whose temperature is read.
        first_monday: The first of the weeks in which the offices are.
    """

    topics: tuple[str, ...]
    meetings: tuple[str, ...]
    projects: tuple[str, ...]
    trips: tuple[str, ...]
    goods: tuple[str, ...]
    stops: tuple[str, ...]
    rooms: tuple[str, ...]
    first_monday: date


WORDS = {
    "common": Words(
        topics=(
            "audit", "budget", "catalogue", "delivery", "hiring", "insurance", "newsletter", "parking", "pricing",
            "rent", "safety", "security", "software", "training", "warehouse", "website",
        ),
        meetings=("briefing", "check", "planning", "review", "update", "workshop"),
        projects=("Birch", "Cedar", "Elm", "Hazel", "Maple", "Oak", "Pine", "Willow"),
        trips=("Alps", "coast", "desert", "forest", "island", "lake", "moor", "river"),
        goods=(
            "axe", "blanket", "saw", "camera", "compass", "cooker", "first-aid kit", "hammock", "jacket",
            "kettle", "lantern", "map case", "rope", "shovel", "sleeping bag", "tent", "thermos", "water filter",
        ),
        stops=(
            "Aarhus", "Basel", "Cork", "Delft", "Essen", "Ghent", "Jena", "Leeds", "Malaga", "Nantes", "Oslo",
            "Porto",
        ),
        rooms=("archive", "attic", "cellar", "garage", "hall", "kitchen", "lab", "library"),
        first_monday=date(2025, 1, 6),
    ),
    "unseen": Words(
        topics=(
            "archive", "branding", "canteen", "energy", "export", "festival", "garden", "heating", "payroll",
            "printing", "recycling", "translation",
        ),
        meetings=("forum", "handover", "interview", "seminar", "session"),
        projects=("Amber", "Coral", "Flint", "Jade", "Opal", "Topaz"),
        trips=("canyon", "fjord", "glacier", "harbour", "jungle", "prairie"),
        goods=(
            "backpack", "spyglass", "bucket", "folding chair", "frying pan", "mallet", "ice pick", "ladder",
            "pump", "raincoat", "stove", "tripod", "tarpaulin", "umbrella",
        ),
        stops=("Bergen", "Cadiz", "Dover", "Evora", "Turin", "Utrecht", "Vienna", "York", "Zadar"),
        rooms=("foyer", "greenhouse", "laundry", "pantry", "server room", "studio"),
        first_monday=date(2026, 1, 5),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Meeting:
    """An appointment that a note names, or that stands in the calendar.

    Attributes:
        number: Its number in the calendar; 0 when it is not there.
        title: What it is about.
        day: Its day.
        start: When it starts, in minutes since midnight.
        end: When it ends.
        people: The names of those who take part.
    """

    number: int
    title: str
    day: date
    start: int
    end: int
    people: tuple[str, ...]

    def overlaps(self, other: Meeting) -> bool:
        """Whether somebody would have to be in both."""
        together = self.day == other.day and self.start < other.end and other.start < self.end
        return together and not set(self.people).isdisjoint(other.people)


@dataclass
class Office:
    """An office; nobody changes it once it is made.

    Attributes:
        today: A day from Monday to Wednesday.
        people: The names of all.
        roles: Role by name.
        appointments: The calendar.
        collision: The numbers of two appointments of next week that overlap, the shorter one last.
        common: Who has both of them.
        notes: The meeting that a note names, by the topic of the note.
        projects: Members by project.
        lists: Quantities by item, by kind of list (`packing` or `route`) and trip.
        readings: Temperature by room.
        drafts: Path of a draft by its subject.
        cleanup: Files that are to be deleted.
        files: Path to text.
    """

    today: date
    people: tuple[str, ...]
    roles: dict[str, str]
    appointments: list[Meeting] = field(default_factory=list)
    collision: tuple[int, int] = (0, 0)
    common: str = ""
    notes: dict[str, Meeting] = field(default_factory=dict)
    projects: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lists: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    readings: dict[str, str] = field(default_factory=dict)
    drafts: dict[str, str] = field(default_factory=dict)
    cleanup: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def monday(self) -> date:
        """Monday of next week."""
        return self.today + timedelta(days=7 - self.today.weekday())

    def meeting(self, number: int) -> Meeting:
        """Return an appointment by its number."""
        return self.appointments[number - 1]


@lru_cache(maxsize=128)
def make_office(number: int, words: str) -> Office:
    """Make an office from its number and the name of its `WORDS`; the same ones give the same office.

    >>> office = make_office(0, "common")
    >>> len(office.people), len(office.lists), len(office.readings)
    (7, 4, 4)
    """
    rng = random.Random(f"office/{words}/{number}")
    source, names = WORDS[words], NAMES[words]
    first, last = rng.sample(names.first, _PEOPLE), rng.sample(names.last, _PEOPLE)
    people = tuple(f"{a} {b}" for a, b in zip(first, last))
    today = source.first_monday + timedelta(days=7 * rng.randrange(48) + rng.randrange(3))
    office = Office(today, people, dict(zip(people, rng.sample(ROLES, _PEOPLE))))
    topics = rng.sample(source.topics, len(source.topics))
    titles = {topic: rng.sample(source.meetings, len(source.meetings)) for topic in topics}
    noted = [f"{topic} {titles[topic].pop()}" for topic in topics[:_NOTES]]
    others = [f"{topic} {meeting}" for topic in topics for meeting in titles[topic]]
    rng.shuffle(others)
    _fill_calendar(office, others, rng)
    _write_notes(office, dict(zip(topics, noted)), rng)
    _write_lists(office, source, rng)
    _write_rest(office, source, rng)
    return office


@lru_cache(maxsize=128)
def office_state(number: int, words: str) -> dict[str, dict[str, Any]]:
    """Return the states of the boxes for an office, by name of the box; shared, so not to be changed.

    >>> sorted(office_state(0, "common"))
    ['calendar', 'files']
    """
    office = make_office(number, words)
    appointments = [
        {
            "number": item.number,
            "title": item.title,
            "day": item.day.isoformat(),
            "start": write_time(item.start),
            "end": write_time(item.end),
            "people": [*item.people],
        }
        for item in office.appointments
    ]
    calendar = {"today": office.today.isoformat(), "people": [*office.people], "appointments": appointments}
    return {"files": {"files": office.files}, "calendar": calendar}


def _draw_meeting(office: Office, title: str, day: date, rng: random.Random) -> Meeting:
    length = rng.choice((30, 60, 60, 90))
    start = rng.randrange(OPENS, CLOSES - length + 1, 30)
    people = tuple(rng.sample(office.people, rng.choice((1, 2, 2, 3, 4))))
    return Meeting(0, title, day, start, start + length, people)


def _fill_calendar(office: Office, titles: list[str], rng: random.Random) -> None:
    """Plan two appointments that overlap in one person, and around them others that nobody is kept from."""
    day = office.monday + timedelta(days=rng.randrange(5))
    longer = replace(_draw_meeting(office, titles.pop(), day, rng), start=(start := rng.randrange(OPENS, 930, 30)))
    longer = replace(longer, end=start + rng.choice((60, 90)))
    office.common = rng.choice(longer.people)
    free = [name for name in office.people if name not in longer.people]
    people = (office.common, *rng.sample(free, rng.randint(0, 2)))
    start = rng.choice((longer.start, longer.start + 30))
    shorter = Meeting(0, titles.pop(), day, start, start + longer.end - longer.start - 30, people)
    found = [longer, shorter]
    for week in (0, 1):
        for weekday in range(5):
            day = office.monday + timedelta(days=7 * (week - 1) + weekday)
            for _ in range(_APPOINTMENTS_A_DAY):
                item = _draw_meeting(office, titles[-1], day, rng)
                if not any(item.overlaps(other) for other in found):
                    found.append(item)
                    titles.pop()
    found.sort(key=lambda item: (item.day, item.start, item.title))
    office.appointments = [replace(item, number=number) for number, item in enumerate(found, start=1)]
    of_title = {item.title: item.number for item in office.appointments}
    office.collision = (of_title[longer.title], of_title[shorter.title])


def _write_notes(office: Office, titles: dict[str, str], rng: random.Random) -> None:
    """Write notes that name an appointment to come, and for all but one an older one with another date."""
    for position, (topic, title) in enumerate(titles.items()):
        while True:
            item = _draw_meeting(office, title, office.monday + timedelta(days=rng.randrange(5)), rng)
            if not any(item.overlaps(other) for other in (*office.appointments, *office.notes.values())):
                break
        office.notes[topic] = item
        held = office.monday - timedelta(days=14 - rng.randrange(5))
        office.files[f"notes/{topic}.txt"] = _write_note(topic, held, item, rng.choice(_TALK))
        if position < _NOTES - 1:
            earlier = _draw_meeting(office, title, item.day - timedelta(days=7), rng)
            office.files[f"notes/old-{topic}.txt"] = _write_note(topic, held - timedelta(days=7), earlier, "")


def _write_note(topic: str, held: date, item: Meeting, talk: str) -> str:
    lines = [f"notes on {topic}, {held.isoformat()}", talk, f"next: {_write_plan(item)}"]
    return "\n".join(filter(None, (*lines, f"with: {', '.join(item.people)}")))


def _write_plan(item: Meeting) -> str:
    return f"{item.title}, {write_day(item.day)}, {write_time(item.start)} to {write_time(item.end)}"


def _write_lists(office: Office, source: Words, rng: random.Random) -> None:
    for trip in rng.sample(source.trips, 2):
        goods = {}
        for item in rng.sample(source.goods, rng.randint(3, 5)):
            grams = rng.randint(8, 160) * 25
            goods[item] = rng.choice(
                (
                    f"{grams} g",
                    f"{grams / 1000:g} kg",
                    f"{rng.randint(3, 60)} oz",
                    f"{rng.randint(2, 16) / 2:g} lb",
                )
            )
        stops = rng.sample(source.stops, rng.randint(3, 5) + 1)
        legs = {
            f"{a} to {b}": rng.choice((f"{rng.randint(20, 400)} km", f"{rng.randint(15, 250)} mi"))
            for a, b in itertools.pairwise(stops)
        }
        for kind, content in (("packing", goods), ("route", legs)):
            office.lists[kind, trip] = content
            lines = [f"{name}: {quantity}" for name, quantity in content.items()]
            office.files[f"lists/{trip.lower()}-{kind}.txt"] = "\n".join(lines)


def _write_rest(office: Office, source: Words, rng: random.Random) -> None:
    office.files["team/roles.txt"] = "\n".join(f"{name}: {role}" for name, role in office.roles.items())
    for project in rng.sample(source.projects, 3):
        members = tuple(rng.sample(office.people, rng.randint(2, 3)))
        left = rng.choice([name for name in office.people if name not in members])
        office.projects[project] = members
        office.files[f"projects/{project.lower()}.txt"] = (
            f"project {project}\nmembers: {', '.join(members)}\nno longer a member: {left}"
        )
    for room in rng.sample(source.rooms, 4):
        celsius, fahrenheit = rng.randint(8, 56) / 2, rng.randint(46, 84)
        office.readings[room] = rng.choice((f"{celsius:g} C", f"{fahrenheit} F"))
    office.files["storage/readings.txt"] = "\n".join(f"{room}: {value}" for room, value in office.readings.items())
    subjects = rng.sample([topic for topic in source.topics if topic not in office.notes], 5)
    mentioned = subjects.pop()
    numbers = sorted(rng.sample(range(11, 60), len(subjects)))
    for number, subject in zip(numbers, subjects):
        path = office.drafts[subject] = f"drafts/letter-{number}.txt"
        office.files[path] = f"to: {rng.choice(source.stops)}\nsubject: {subject}"
    paths = [*office.drafts.values()]
    office.cleanup = sorted(rng.sample(paths, 2))
    marks = "\n".join(f"{'delete' if path in office.cleanup else 'keep'}: {path}" for path in paths)
    office.files["todo/cleanup.txt"] = f"{marks}\nstill to write: a letter on {mentioned}"
