"""The kinds of tasks of the `office` suite: their values, plans and wordings.

`KINDS` are trained. `OOD_KINDS` put parts of trained kinds together into longer chains that no trained kind has.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from mentor_gym.suites.office_data import OPENS, WEEKDAYS, Meeting, Office
from mentor_gym.suites.office_plans import DONE, Desk, OfficeKind, Slots, round_quantity
from mentor_gym.suites.plans import PlanFailed
from mentor_gym.tools.calendar import write_time

_WEIGHTS = ("kg", "lb", "oz")
_DISTANCES = ("km", "mi")


# Values


def _draw_list(office: Office, rng: random.Random, kind: str) -> tuple[str, dict[str, str]]:
    trip = rng.choice([trip for other, trip in office.lists if other == kind])
    return trip, office.lists[kind, trip]


def _draw_packing(office: Office, rng: random.Random) -> Slots:
    return {"trip": _draw_list(office, rng, "packing")[0], "unit": rng.choice(_WEIGHTS)}


def _draw_trip(office: Office, rng: random.Random) -> Slots:
    return {"trip": _draw_list(office, rng, "packing")[0]}


def _draw_unit(office: Office, rng: random.Random) -> Slots:
    return {"unit": rng.choice(_WEIGHTS)}


def _draw_route(office: Office, rng: random.Random) -> Slots:
    return {"trip": _draw_list(office, rng, "route")[0], "unit": rng.choice(_DISTANCES)}


def _draw_several(office: Office, rng: random.Random) -> Slots:
    trip, goods = _draw_list(office, rng, "packing")
    return {"trip": trip, "item": rng.choice([*goods]), "n": rng.randint(2, 12), "unit": rng.choice(_WEIGHTS)}


def _draw_reading(office: Office, rng: random.Random) -> Slots:
    room = rng.choice([*office.readings])
    return {"room": room, "scale": "Fahrenheit" if office.readings[room].endswith("C") else "Celsius"}


def _draw_person(office: Office, rng: random.Random) -> Slots | None:
    person, week = rng.choice(office.people), rng.choice(("this", "next"))
    # Two appointments at once could count once or twice.
    return None if person == office.common and week == "next" else {"person": person, "week": week}


def _draw_role(office: Office, rng: random.Random) -> Slots:
    return {"role": rng.choice([*office.roles.values()]), "weekday": rng.choice(WEEKDAYS)}


def _draw_two_roles(office: Office, rng: random.Random) -> Slots:
    # Not of the person with two appointments at once, which could count once or twice.
    role, other = rng.sample([role for name, role in office.roles.items() if name != office.common], 2)
    return {"role": role, "other": other}


def _draw_title(office: Office, rng: random.Random) -> Slots | None:
    item = rng.choice([item for item in office.appointments if item.day >= office.today])
    return {"title": item.title} if len(item.people) > 1 else None


def _is_obvious(office: Office, people: Sequence[str], weekday: str, rng: random.Random) -> bool:
    """Whether the day begins with free time, which could be guessed; few such tasks are kept."""
    day = office.monday + timedelta(days=WEEKDAYS.index(weekday))
    first = Meeting(0, "", day, OPENS, OPENS + 30, tuple(people))
    return not any(first.overlaps(other) for other in office.appointments) and rng.random() < 0.93


def _draw_free(office: Office, rng: random.Random) -> Slots | None:
    people, weekday = rng.sample(office.people, rng.choice((2, 3, 3))), rng.choice(WEEKDAYS)
    if _is_obvious(office, people, weekday, rng):
        return None
    return {"people": people, "minutes": rng.choice((30, 60, 90)), "weekday": weekday}


def _draw_plan(office: Office, rng: random.Random) -> Slots | None:
    people = rng.sample(office.people, rng.choice((2, 3, 3)))
    if _is_obvious(office, people, WEEKDAYS[0], rng):
        return None
    return {
        "people": people,
        "minutes": rng.choice((60, 90, 120)),
        "file": f"{rng.choice(_new_topics(office))}.txt",
    }


def _draw_note(office: Office, rng: random.Random) -> Slots:
    return {"topic": rng.choice([*office.notes])}


def _draw_project(office: Office, rng: random.Random) -> Slots | None:
    project, weekday = rng.choice([*office.projects]), rng.choice(WEEKDAYS)
    if _is_obvious(office, office.projects[project], weekday, rng):
        return None
    title = f"{rng.choice(_new_topics(office))} {rng.choice(('meeting', 'talk'))}"
    return {"project": project, "title": title, "minutes": rng.choice((30, 60, 90)), "weekday": weekday}


def _new_topics(office: Office) -> list[str]:
    """Return topics of the office's own words, so that held-out words stay held out."""
    return sorted({item.title.split()[0] for item in office.appointments} - office.notes.keys())


def _draw_cancel(office: Office, rng: random.Random) -> Slots:
    return {"person": rng.choice(office.people), "weekday": rng.choice(WEEKDAYS)}


def _draw_collision(office: Office, rng: random.Random) -> Slots | None:
    shorter = office.meeting(office.collision[1])
    weekday = rng.choice([day for day in WEEKDAYS if day != WEEKDAYS[shorter.day.weekday()]])
    if _is_obvious(office, shorter.people, weekday, rng):
        return None
    return {"person": office.common, "weekday": weekday}


def _draw_draft(office: Office, rng: random.Random) -> Slots:
    return {"subject": rng.choice([*office.drafts])}


def _draw_cleanup(office: Office, rng: random.Random) -> Slots:
    return {"path": "todo/cleanup.txt"}


# Plans


def _list_path(desk: Desk, trip: str, kind: str) -> str:
    return desk.file_in("lists", f"{trip.lower()}-{kind}")


def _total(kind: str) -> Any:
    def plan(desk: Desk, slots: Slots, way: str) -> str:
        path = f"lists/{slots['trip'].lower()}-{kind}.txt" if way == "guess" else None
        content = desk.read(path or _list_path(desk, slots["trip"], kind))
        return round_quantity(desk.call("add_quantities", quantities=[*content.values()], to=slots["unit"]))

    return plan


def _plan_heaviest(desk: Desk, slots: Slots, way: str) -> str:
    content = desk.read(_list_path(desk, slots["trip"], "packing"))
    if way == "convert":
        weights = [desk.call("convert", quantity=value, to="g") for value in content.values()]
        values = [float(weight.split()[0]) for weight in weights]
        return [*content][values.index(max(values))]
    most = desk.call("largest_quantity", quantities=[*content.values()])
    return next(name for name, value in content.items() if value == most)


def _plan_several(desk: Desk, slots: Slots, way: str) -> str:
    quantity = desk.read(_list_path(desk, slots["trip"], "packing"))[slots["item"]]
    if way == "convert first":
        each = desk.call("convert", quantity=quantity, to=slots["unit"])
        return round_quantity(desk.call("multiply_quantity", quantity=each, times=slots["n"]))
    if way == "add":
        return round_quantity(desk.call("add_quantities", quantities=[quantity] * slots["n"], to=slots["unit"]))
    total = desk.call("multiply_quantity", quantity=quantity, times=slots["n"])
    return round_quantity(desk.call("convert", quantity=total, to=slots["unit"]))


def _plan_reading(desk: Desk, slots: Slots, way: str) -> str:
    if way == "search":
        lines = desk.call("search_files", text=f"{slots['room']}: ").split("\n")
        (quantity,) = [line.rpartition(": ")[2] for line in lines if line.startswith("storage/")]
    else:
        quantity = desk.read("storage/readings.txt")[slots["room"]]
    return round_quantity(desk.call("convert", quantity=quantity, to=slots["scale"][0]))


def _plan_hours(desk: Desk, slots: Slots, way: str) -> str:
    days = desk.week(slots["week"])
    found = desk.entries(days[0], days[-1], slots["person"])
    if not found:
        raise PlanFailed("nothing to add")
    if way == "in the head":
        return f"{sum(item.minutes for item in found) / 60:g}"
    lengths = [f"{item.minutes} min" for item in found]
    return desk.call("add_quantities", quantities=lengths, to="h").split()[0]


def _person_of(desk: Desk, role: str) -> str:
    return {value: name for name, value in desk.read("team/roles.txt").items()}[role]


def _plan_role(desk: Desk, slots: Slots, way: str) -> str:
    if way == "day first":
        day = desk.week()[WEEKDAYS.index(slots["weekday"])]
    if way == "search":
        person = desk.call("search_files", text=f": {slots['role']}").split(": ")[1]
    else:
        person = _person_of(desk, slots["role"])
    if way != "day first":
        day = desk.week()[WEEKDAYS.index(slots["weekday"])]
    found = desk.entries(day, None, person)
    if not found:
        raise PlanFailed("there is none")
    return found[0].start


def _plan_roles_in(desk: Desk, slots: Slots, way: str) -> str:
    if way == "roles first":
        roles = desk.read("team/roles.txt")
        return ", ".join(roles[name] for name in desk.entry(slots["title"]).people)
    people = desk.entry(slots["title"]).people
    roles = desk.read("team/roles.txt")
    return ", ".join(roles[name] for name in people)


def _plan_free(desk: Desk, slots: Slots, way: str) -> str:
    day = desk.week()[WEEKDAYS.index(slots["weekday"])]
    if way == "list":
        return desk.gap(slots["people"], slots["minutes"], [day])[1]
    return desk.free(slots["people"], slots["minutes"], day)[1]


def _plan_write_free(desk: Desk, slots: Slots, way: str) -> str:
    days = desk.week()
    if way == "list":
        day, start = desk.gap(slots["people"], slots["minutes"], days)
    else:
        day, start = desk.free(slots["people"], slots["minutes"], days[0], days[-1])
    desk.call("write_file", path=f"plans/{slots['file']}", text=f"{day} {start}")
    return DONE


def _add_noted(desk: Desk, slots: Slots, way: str) -> str:
    """Add the appointment of a note to the calendar; returns the note's path."""
    if way == "search":
        desk.call("search_files", text=f"notes on {slots['topic']}")
        path = f"notes/{slots['topic']}.txt"
    else:
        path = desk.file_in("notes", slots["topic"])
    content = desk.read(path)
    title, day, times = content["next"].split(", ")
    start, end = times.split(" to ")
    people = content["with"].split(", ")
    desk.call("add_appointment", title=title, day=day[4:], start=start, end=end, people=people)
    return path


def _plan_note(desk: Desk, slots: Slots, way: str) -> str:
    _add_noted(desk, slots, way)
    return DONE


def _book(desk: Desk, slots: Slots, way: str) -> tuple[str, str]:
    """Book a meeting of a project as early as possible; returns day and start."""
    if way == "day first":
        day = desk.week()[WEEKDAYS.index(slots["weekday"])]
    people = desk.read(desk.file_in("projects", slots["project"].lower()))["members"].split(", ")
    if way != "day first":
        day = desk.week()[WEEKDAYS.index(slots["weekday"])]
    day, start = desk.free(people, slots["minutes"], day)
    hours, minutes = map(int, start.split(":"))
    end = write_time(hours * 60 + minutes + slots["minutes"])
    desk.call("add_appointment", title=slots["title"], day=day, start=start, end=end, people=people)
    return day, start


def _plan_book(desk: Desk, slots: Slots, way: str) -> str:
    _book(desk, slots, way)
    return DONE


def _plan_append_total(desk: Desk, slots: Slots, way: str) -> str:
    path = _list_path(desk, slots["trip"], "packing")
    content = desk.call("read_file", path=path)
    quantities = [line.partition(": ")[2] for line in content.split("\n")]
    total = round_quantity(desk.call("add_quantities", quantities=quantities, to=slots["unit"]))
    line = f"total: {total} {slots['unit']}"
    if way == "write":
        desk.call("write_file", path=path, text=f"{content}\n{line}")
    else:
        desk.call("append_file", path=path, text=line)
    return DONE


def _cancel_day(desk: Desk, slots: Slots, way: str) -> list[str]:
    """Cancel all appointments of a person on a day; returns their titles."""
    day = desk.week()[WEEKDAYS.index(slots["weekday"])]
    found = desk.entries(day, None, slots["person"])
    if not found:
        raise PlanFailed("nothing to cancel")
    for item in found if way != "last first" else found[::-1]:
        desk.call("cancel_appointment", number=item.number)
    return [item.title for item in found]


def _plan_cancel(desk: Desk, slots: Slots, way: str) -> str:
    _cancel_day(desk, slots, way)
    return DONE


def _solve_collision(desk: Desk, slots: Slots, way: str) -> str:
    """Move the shorter one of two appointments that overlap; returns its title, day and start."""
    days = desk.week()
    found = desk.entries(days[0], days[-1], slots["person"])
    pairs = [(a, b) for a in found for b in found if a.day == b.day and a.start < b.end and b.start < a.end]
    shorter = min((a for a, b in pairs if a is not b), key=lambda item: item.minutes)
    target = days[WEEKDAYS.index(slots["weekday"])]
    _, start = desk.free([*shorter.people], shorter.minutes, target)
    if way == "cancel and add":
        desk.call("cancel_appointment", number=shorter.number)
        hours, minutes = map(int, start.split(":"))
        end = write_time(hours * 60 + minutes + shorter.minutes)
        people = [*shorter.people]
        desk.call("add_appointment", title=shorter.title, day=target, start=start, end=end, people=people)
    else:
        desk.call("move_appointment", number=shorter.number, day=target, start=start)
    return f"{shorter.title}, {target} {start}"


def _plan_collision(desk: Desk, slots: Slots, way: str) -> str:
    _solve_collision(desk, slots, way)
    return DONE


def _plan_archive(desk: Desk, slots: Slots, way: str) -> str:
    if way == "look into each":
        names = desk.call("list_files", folder="drafts").split("\n")
        path = next(
            path for path in (f"drafts/{name}" for name in names) if desk.read(path)["subject"] == slots["subject"]
        )
    else:
        path = desk.file_with(f"subject: {slots['subject']}" if way == "exact" else slots["subject"], "drafts")
    desk.call("move_file", path=path, to=path.replace("drafts", "archive"))
    return DONE


def _plan_cleanup(desk: Desk, slots: Slots, way: str) -> str:
    if way == "search":
        lines = desk.call("search_files", text="delete: ").split("\n")
        paths = [line.rpartition(": ")[2] for line in lines]
    else:
        lines = desk.call("read_file", path=slots["path"]).split("\n")
        paths = [line.partition(": ")[2] for line in lines if line.startswith("delete: ")]
    for path in paths:
        desk.call("delete_file", path=path)
    return DONE


# Longer plans


def _plan_note_then_delete(desk: Desk, slots: Slots, way: str) -> str:
    desk.call("delete_file", path=_add_noted(desk, slots, way))
    return DONE


def _plan_whole_packing(desk: Desk, slots: Slots, way: str) -> str:
    names = [name for name in desk.call("list_files", folder="lists").split("\n") if name.endswith("packing.txt")]
    contents = [desk.read(f"lists/{name}") for name in (names if way != "last first" else names[::-1])]
    quantities = [value for content in contents for value in content.values()]
    total = desk.call("add_quantities", quantities=quantities, to=slots["unit"])
    desk.call("write_file", path="lists/total.txt", text=f"{round_quantity(total)} {slots['unit']}")
    return DONE


def _plan_compare_roles(desk: Desk, slots: Slots, way: str) -> str:
    people = {value: name for name, value in desk.read("team/roles.txt").items()}
    days = desk.week()
    totals = []
    for role in (slots["role"], slots["other"]):
        found = desk.entries(days[0], days[-1], people[role])
        if not found:
            raise PlanFailed("nothing to add")
        if way == "in the head":
            totals.append(sum(item.minutes for item in found) / 60)
        else:
            lengths = [f"{item.minutes} min" for item in found]
            totals.append(float(desk.call("add_quantities", quantities=lengths, to="h").split()[0]))
    if totals[0] <= totals[1]:
        raise PlanFailed("the first one has to have more")
    return f"{totals[0] - totals[1]:g}"


def _plan_collision_log(desk: Desk, slots: Slots, way: str) -> str:
    desk.call("write_file", path="plans/moved.txt", text=_solve_collision(desk, slots, way))
    return DONE


def _plan_book_log(desk: Desk, slots: Slots, way: str) -> str:
    day, start = _book(desk, slots, way)
    path = f"projects/{slots['project'].lower()}.txt"
    desk.call("append_file", path=path, text=f"next meeting: {day} {start}")
    return DONE


def _plan_cancel_log(desk: Desk, slots: Slots, way: str) -> str:
    desk.call("write_file", path="plans/cancelled.txt", text="\n".join(_cancel_day(desk, slots, way)))
    return DONE


KINDS: tuple[OfficeKind, ...] = (
    OfficeKind(
        "packing-total",
        "number",
        _draw_packing,
        _total("packing"),
        ("list", "guess"),
        (
            "What does everything on the packing list for the {trip} trip (see the folder lists) weigh [together|in all], in {unit}? Round to 2 decimals.",
            "Add up the weights on the packing list of the {trip} trip, which is in lists. Give the total in {unit}, rounded to 2 decimals.",
            "[Find|Work out] the total weight of the {trip} packing list in {unit}, rounded to 2 decimals. The lists are in the folder lists.",
        ),
        (
            "How heavy is the luggage for the {trip} trip according to its packing list in lists? Answer in {unit}, with 2 decimals.",
        ),
        (
            "We pack what the folder lists has down for the {trip} trip. How many {unit} do we carry? Give 2 decimals.",
        ),
    ),
    OfficeKind(
        "route-length",
        "number",
        _draw_route,
        _total("route"),
        ("list", "guess"),
        (
            "How long is the route of the {trip} trip, in {unit}? Round to 2 decimals. The folder lists has it.",
            "Add up the legs of the route for the {trip} trip, which is in lists. Give the total in {unit}, rounded to 2 decimals.",
            "What is the whole distance on the route list of the {trip} trip, in {unit}, rounded to 2 decimals? Look in the folder lists.",
        ),
        (
            "How many {unit} is the {trip} trip from start to end, according to its route in lists? Give 2 decimals.",
        ),
        (
            "We drive the route that the folder lists has for the {trip} trip once. What distance is that in {unit}, with 2 decimals?",
        ),
    ),
    OfficeKind(
        "heaviest",
        "text",
        _draw_trip,
        _plan_heaviest,
        ("largest", "convert"),
        (
            "In the folder lists, which item on the packing list for the {trip} trip [is the heaviest|weighs the most]?",
            "Name the heaviest [thing|item] on the {trip} packing list. The lists are in the folder lists.",
            "[Look at|Read] the packing list of the {trip} trip in lists: what is the heaviest item on it?",
        ),
        ("On the packing list for the {trip} trip in lists, what weighs more than anything else?",),
        (
            "Somebody wants to leave the heaviest thing of the {trip} packing list (see lists) at home. What is it?",
        ),
    ),
    OfficeKind(
        "several",
        "number",
        _draw_several,
        _plan_several,
        ("multiply", "convert first", "add"),
        (
            "The packing list for the {trip} trip in lists says what one {item} weighs. What do {n} of them weigh in {unit}? Round to 2 decimals.",
            "What is the weight of {n} pieces of the {item} on the {trip} packing list, in {unit}? See the folder lists. Round to 2 decimals.",
            "Take the weight of the {item} from the {trip} packing list in lists, times {n}. Give it in {unit}, rounded to 2 decimals.",
        ),
        (
            "If we packed the {item} of the {trip} packing list in lists {n} times, how many {unit} would that be? Give 2 decimals.",
        ),
        (
            "Not one {item} but {n}: what would they weigh, going by the {trip} packing list in lists? In {unit}, with 2 decimals.",
        ),
    ),
    OfficeKind(
        "reading",
        "number",
        _draw_reading,
        _plan_reading,
        ("read", "search"),
        (
            "How warm is the {room} according to storage/readings.txt, in degrees {scale}? Round to 2 decimals.",
            "The file storage/readings.txt has the temperature of the {room}. What is it in degrees {scale}, rounded to 2 decimals?",
            "Look up the temperature of the {room} in storage/readings.txt and [convert it to|give it in] degrees {scale}, with 2 decimals.",
        ),
        (
            "According to storage/readings.txt, what is the temperature of the {room}? Give degrees {scale} with 2 decimals.",
        ),
        ("I think in degrees {scale}. What does storage/readings.txt say of the {room}? Give 2 decimals.",),
    ),
    OfficeKind(
        "booked-hours",
        "number",
        _draw_person,
        _plan_hours,
        ("add", "in the head"),
        (
            "How many hours of appointments has {person} {week} week?",
            "[For|During] how many hours is {person} booked {week} week?",
            "Add up the time of all appointments that {person} has {week} week, in hours.",
        ),
        ("How many hours does {person} spend in appointments {week} week?",),
        ("What do the appointments of {person} {week} week come to, in hours?",),
    ),
    OfficeKind(
        "role-start",
        "text",
        _draw_role,
        _plan_role,
        ("read", "search", "day first"),
        (
            "When does the first appointment of our {role} start on {weekday} of next week? team/roles.txt says who that is. Answer like 09:30.",
            "At what time does the {role} (see team/roles.txt) have the first appointment on {weekday} of next week? Answer like 09:30.",
            "Find out in team/roles.txt who the {role} is, and when that person's first appointment starts on {weekday} of next week. Answer like 09:30.",
        ),
        (
            "On {weekday} of next week, when does the first appointment of the {role} named in team/roles.txt begin? Give a time like 09:30.",
        ),
        (
            "Our {role} is named in team/roles.txt. When must that person be at the first appointment on {weekday} of next week? Write it like 09:30.",
        ),
    ),
    OfficeKind(
        "roles-in",
        "set",
        _draw_title,
        _plan_roles_in,
        ("meeting first", "roles first"),
        (
            "Which roles do the people have who take part in the {title}? team/roles.txt has all roles. List them, with commas.",
            "List the roles, according to team/roles.txt, of everybody in the {title}, with commas.",
            "The {title} is in the calendar. What roles do its people have in team/roles.txt? Put commas between them.",
        ),
        ("Who comes to the {title}, by role? Use team/roles.txt and separate the roles by commas.",),
        ("Say which of the roles in team/roles.txt will be there at the {title}, separated by commas.",),
    ),
    OfficeKind(
        "free-time",
        "text",
        _draw_free,
        _plan_free,
        ("find", "list"),
        (
            "From what time on {weekday} of next week are {people} all free for {minutes} minutes? Give the earliest start, like 09:30.",
            "{people} need {minutes} minutes together on {weekday} of next week. When can they start at the earliest? Answer like 09:30.",
            "What is the earliest time on {weekday} of next week at which {people} have {minutes} minutes free? Answer like 09:30.",
        ),
        ("On {weekday} of next week, how early can {people} meet for {minutes} minutes? Give a time like 09:30.",),
        (
            "We want {people} in one room for {minutes} minutes, on {weekday} of next week, as early as it goes. At what time, like 09:30?",
        ),
    ),
    OfficeKind(
        "note-appointment",
        "state",
        _draw_note,
        _plan_note,
        ("list", "search"),
        (
            "The newest note on {topic} in the folder notes names the next appointment. [Add it to|Enter it into] the calendar.",
            "Read the note about {topic} (not the old one) in notes and add the appointment that it names to the calendar.",
            "Put the appointment that is named at the end of the current {topic} note in notes into the calendar.",
        ),
        (
            "What was agreed as next in the newer {topic} note of the folder notes is not in the calendar yet. Put it there.",
        ),
        ("Somebody forgot to book what the latest {topic} note in the folder notes announces. Book it.",),
    ),
    OfficeKind(
        "write-free",
        "state",
        _draw_plan,
        _plan_write_free,
        ("find", "list"),
        (
            "Find the earliest {minutes} minutes next week at which {people} are all free, and write their start into plans/{file}, like 2025-03-14 09:30.",
            "When can {people} meet for {minutes} minutes next week, at the earliest? Create plans/{file} with day and time, like 2025-03-14 09:30.",
            "{people} need {minutes} minutes together next week. Write the first possible start into plans/{file}, in the form 2025-03-14 09:30.",
        ),
        (
            "Save in plans/{file} how early next week {people} have {minutes} minutes free together. Write it like 2025-03-14 09:30.",
        ),
        (
            "The first start next week that leaves {people} {minutes} free minutes should stand in plans/{file}, written like 2025-03-14 09:30.",
        ),
    ),
    OfficeKind(
        "book-project",
        "state",
        _draw_project,
        _plan_book,
        ("file first", "day first"),
        (
            'Book a {minutes}-minute appointment "{title}" with all members of project {project}, as early as possible on {weekday} of next week. The folder projects says who they are.',
            'The members of project {project} (see the folder projects) need {minutes} minutes on {weekday} of next week. Add the appointment "{title}" at the earliest time that suits all.',
            'Add an appointment "{title}" of {minutes} minutes for the members of project {project} on {weekday} of next week, at the first time when all are free. See the folder projects.',
        ),
        (
            'Get the members of project {project}, as its file in projects has them, together for {minutes} minutes on {weekday} of next week, as early as they can. Call it "{title}" in the calendar.',
        ),
        (
            'On {weekday} of next week everybody in project {project} should have "{title}" in the calendar, {minutes} minutes long and as early as all are free. The file in projects names them.',
        ),
    ),
    OfficeKind(
        "append-total",
        "state",
        _draw_packing,
        _plan_append_total,
        ("append", "write"),
        (
            "Add a last line to the packing list of the {trip} trip in lists: total: and the weight of all items in {unit}, rounded to 2 decimals, like total: 1.50 {unit}.",
            "Complete the {trip} packing list in the folder lists with a line like total: 1.50 {unit}, with the sum of its weights in {unit}, rounded to 2 decimals.",
            "Append the total weight in {unit} to the packing list of the {trip} trip in lists, rounded to 2 decimals, as a line like total: 1.50 {unit}.",
        ),
        (
            "The {trip} packing list in lists lacks its sum. Put a line like total: 1.50 {unit} under it, with 2 decimals.",
        ),
        (
            "Write what all items of the {trip} packing list in lists weigh below them, as a line like total: 1.50 {unit}, with 2 decimals.",
        ),
    ),
    OfficeKind(
        "cancel-day",
        "state",
        _draw_cancel,
        _plan_cancel,
        ("first first", "last first"),
        (
            "Cancel all appointments that {person} has on {weekday} of next week.",
            "{person} is ill on {weekday} of next week. Cancel every appointment that {person} has that day.",
            "[Clear|Empty] {weekday} of next week for {person}: cancel all of {person}'s appointments on it.",
        ),
        ("{person} will be away on {weekday} of next week. Cancel all appointments that this affects.",),
        ("No appointment with {person} can take place on {weekday} of next week. Cancel them all.",),
    ),
    OfficeKind(
        "collision",
        "state",
        _draw_collision,
        _plan_collision,
        ("move", "cancel and add"),
        (
            "Two appointments of {person} overlap next week. Move the shorter one to {weekday} of next week, to the earliest time that suits all who take part in it.",
            "{person} has two appointments at the same time next week. Move the shorter of the two to the first time on {weekday} of that week when all of its people are free.",
            "Next week {person} is booked twice at once. The shorter one of the two appointments goes to {weekday} of the same week, as early as all its people can.",
        ),
        (
            "{person} cannot be in two places next week. Of the two appointments that collide, put the shorter one on {weekday} of that week, as early as everybody in it is free.",
        ),
        (
            "Next week two appointments of {person} get in each other's way. Let the shorter one start on {weekday} of that week, at the earliest time at which nobody in it is busy.",
        ),
    ),
    OfficeKind(
        "archive-draft",
        "state",
        _draw_draft,
        _plan_archive,
        ("search", "exact", "look into each"),
        (
            "Move the draft whose subject is {subject} from the folder drafts to archive, under the same name.",
            "One of the letters in drafts is about {subject}. Move it to the folder archive and keep its name.",
            "Find the letter on {subject} in drafts and [move|put] it into archive; its name stays.",
        ),
        ("The letter on {subject} in drafts has been sent. It belongs in archive now, under its old name.",),
        (
            "Of the letters in drafts, the one with the subject {subject} should lie in archive. Only its folder changes.",
        ),
    ),
    OfficeKind(
        "cleanup",
        "state",
        _draw_cleanup,
        _plan_cleanup,
        ("read", "search"),
        (
            "Delete the files that {path} marks for that.",
            "The file {path} says which files to delete. Delete [them|these], and no others.",
            "Read {path} and delete [every file|all files] that it says to delete.",
        ),
        ("In {path} it says which files nobody needs any more. Delete those.",),
        ("According to {path} some files can go. Remove exactly those.",),
    ),
)

OOD_KINDS: tuple[OfficeKind, ...] = (
    OfficeKind(
        "note-then-delete",
        "state",
        _draw_note,
        _plan_note_then_delete,
        ("list", "search"),
        (
            "Add the appointment that the newest {topic} note in notes names to the calendar, then delete that note; the old one stays.",
            "Enter the appointment of the current note on {topic} (folder notes) into the calendar and delete this note afterwards, not the old one.",
        ),
    ),
    OfficeKind(
        "whole-packing",
        "state",
        _draw_unit,
        _plan_whole_packing,
        ("first first", "last first"),
        (
            "Add up the weights on all packing lists in lists and write the total in {unit} into lists/total.txt, rounded to 2 decimals, like 1.50 {unit}.",
            "Create lists/total.txt with the weight of everything on the packing lists in the folder lists together, in {unit} with 2 decimals, like 1.50 {unit}.",
        ),
    ),
    OfficeKind(
        "compare-roles",
        "number",
        _draw_two_roles,
        _plan_compare_roles,
        ("add", "in the head"),
        (
            "By how many hours are the appointments of our {role} next week longer in all than those of our {other}? team/roles.txt says who they are.",
            "The {role} and the {other} are named in team/roles.txt. How many hours more is the first one booked next week than the second?",
        ),
    ),
    OfficeKind(
        "collision-log",
        "state",
        _draw_collision,
        _plan_collision_log,
        ("move", "cancel and add"),
        (
            "Two appointments of {person} overlap next week. Move the shorter one to {weekday} of next week, as early as all who take part are free, and write its title and new time into plans/moved.txt, like sales talk, 2025-03-14 09:30.",
            "Next week {person} is booked twice at once. Move the shorter of the two appointments to the earliest time on {weekday} of that week that suits its people, and note it in plans/moved.txt, in the form sales talk, 2025-03-14 09:30.",
        ),
    ),
    OfficeKind(
        "book-log",
        "state",
        _draw_project,
        _plan_book_log,
        ("file first", "day first"),
        (
            'Book a {minutes}-minute appointment "{title}" with all members of project {project} (see the folder projects), as early as possible on {weekday} of next week. Then append a line to the project\'s file, like next meeting: 2025-03-14 09:30.',
            'Add "{title}" of {minutes} minutes to the calendar for the members of project {project}, at the earliest time on {weekday} of next week that suits all, and add a last line like next meeting: 2025-03-14 09:30 to the file of the project in projects.',
        ),
    ),
    OfficeKind(
        "cancel-log",
        "state",
        _draw_cancel,
        _plan_cancel_log,
        ("first first", "last first"),
        (
            "Cancel all appointments that {person} has on {weekday} of next week, and write their titles into plans/cancelled.txt, one a line, in the order of the day.",
            "{person} is away on {weekday} of next week: cancel every appointment that {person} has that day, and list the titles in plans/cancelled.txt, the earliest first, each on its own line.",
        ),
    ),
)
