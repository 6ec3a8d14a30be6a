"""The office suite: rows, teachers, every other way, wrong turns, and answers computed apart from the tools."""

from __future__ import annotations

import dataclasses
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import gymnasium as gym
import msgspec
import pytest

from mentor_gym.data import REBUILD_SEED, data_path
from mentor_gym.protocol import render_call, render_message
from mentor_gym.suites import office, office_kinds
from mentor_gym.suites.office_data import NAMES, WEEKDAYS, WORDS, Meeting, Office, make_office, office_state
from mentor_gym.suites.office_plans import (
    DONE,
    Desk,
    Entry,
    OfficeKind,
    make_task,
    play,
    read_entries,
    round_quantity,
)
from mentor_gym.suites.plans import PlanFailed
from mentor_gym.testing import check_suite, check_tool
from mentor_gym.tools.calendar import write_time
from mentor_gym.tools.units import read_quantity
from mentor_gym.types import Task

SUITE = office.build()
SPLITS = tuple(office.ROWS)
KINDS = {kind.name: kind for kind in (*office_kinds.KINDS, *office_kinds.OOD_KINDS)}


def rows(split: str) -> list[Task]:
    return list(SUITE.tasks(split))


def office_of(task: Task) -> Office:
    assert task.state is not None
    return make_office(task.state["office"], task.state["words"])


def turns_of(task: Task) -> list[str]:
    return [render_message(message) for message in task.teacher if message["role"] == "assistant"]


def make(split: str, reward: Any = None) -> gym.Env[str, str]:
    return gym.make("MentorTool-v0", suite=SUITE, split=split, reward=reward, disable_env_checker=True)


# Rows


@pytest.mark.parametrize("split", SPLITS)
def test_splits_have_their_rows(split: str) -> None:
    tasks = rows(split)
    kinds = office_kinds.OOD_KINDS if split == "ood-compose" else office_kinds.KINDS
    assert len(tasks) == office.ROWS[split]
    counts = Counter(task.meta["kind"] for task in tasks)
    assert counts == {kind.name: len(tasks) // len(kinds) for kind in kinds}
    assert [task.id for task in tasks] == [f"office-{split}-{i:05d}" for i in range(len(tasks))]
    for task in tasks:
        called = [call["function"]["name"] for message in task.teacher for call in message.get("tool_calls") or ()]
        assert set(called) < set(task.tools) <= set(SUITE.box.tools)
        assert len(set(task.tools)) == len(task.tools)
        assert "{" not in task.prompt
        assert "|" not in task.prompt
        for value in task.meta["slots"].values():
            for item in value if isinstance(value, list) else [value]:
                assert str(item) in task.prompt, task.id
        assert not re.match(r"[A-Z]\w+/", task.prompt), "a path has small letters, also where a sentence begins"
        assert task.meta["calls"] == len(called)
        assert (4 if split == "ood-compose" else 2) <= len(called) <= 7
        assert (task.grader["kind"] == "state") == (task.answer == DONE) == task.prompt.endswith(f"answer {DONE}.")


def test_kinds_mix_the_boxes() -> None:
    boxes = office.office_box().boxes
    owner = {tool: name for name, box in boxes.items() for tool in box.tools}
    mixed: Counter[tuple[str, ...]] = Counter()
    for task in rows("train") + rows("ood-compose"):
        calls = [call["function"]["name"] for message in task.teacher for call in message.get("tool_calls") or ()]
        mixed[tuple(sorted({owner[name] for name in calls}))] += 1
    assert mixed["files", "units"] > 200
    assert mixed["calendar", "files"] > 200
    assert mixed["calendar", "units"] > 40
    assert mixed["calendar", "files", "units"] >= 10


@pytest.mark.parametrize("split", SPLITS)
def test_regenerated_rows_equal_the_shipped_bytes(split: str) -> None:
    shipped = data_path("office", f"{split}.jsonl").read_bytes().splitlines()
    count = min(len(shipped), 150)
    made = [msgspec.json.encode(task) for task in office.generate(split, REBUILD_SEED, rows=count)]
    assert made == shipped[:count]
    other = [msgspec.json.encode(task) for task in office.generate(split, REBUILD_SEED + 1, rows=20)]
    assert other != shipped[:20]


def test_generation_does_not_depend_on_the_hash_seed() -> None:
    code = (
        "import sys, msgspec; from mentor_gym.suites.office import generate;"
        "sys.stdout.buffer.write(msgspec.json.encode(generate('train', 5, 40)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    assert found == msgspec.json.encode(office.generate("train", 5, 40))


def test_a_kind_without_tasks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    barren = dataclasses.replace(office_kinds.KINDS[0], name="barren", draw=lambda office, rng: None)
    monkeypatch.setattr(office, "_PATIENCE", 20)
    monkeypatch.setattr(office, "KINDS", (barren,))
    with pytest.raises(RuntimeError, match="kind 'barren' has no more"):
        office.generate("train", 0, rows=1)


# What is held back


def test_splits_have_offices_of_their_own() -> None:
    offices = {split: {task.state["office"] for task in rows(split)} for split in SPLITS}  # type: ignore[index]
    assert sum(map(len, offices.values())) == len(set().union(*offices.values()))
    assert {split: len(numbers) for split, numbers in offices.items()} == {
        split: len(numbers) for split, numbers in office.OFFICES.items()
    }
    for split in SPLITS:
        assert {task.state["words"] for task in rows(split)} == {"unseen" if split == "test" else "common"}  # type: ignore[index]


def test_unseen_words_are_never_trained() -> None:
    common, unseen = WORDS["common"], WORDS["unseen"]
    held_out: set[str] = set()
    for part in ("topics", "meetings", "projects", "trips", "goods", "stops", "rooms"):
        if part != "topics":
            held_out |= set(getattr(unseen, part))
        assert not set(getattr(common, part)) & set(getattr(unseen, part))
    for part in ("first", "last"):
        held_out |= set(getattr(NAMES["unseen"], part))
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, held_out))})\b")
    for split in SPLITS:
        found = sum(bool(pattern.search(task.prompt)) for task in rows(split))
        assert found > 100 if split == "test" else found == 0, split


def test_wordings_of_other_splits_are_never_trained() -> None:
    def pattern(wording: str) -> str:
        parts = re.split(r"(\{\w+\}|\[[^\]]*\])", wording)
        return "".join(
            ".+" if part.startswith("{") else f"(?:{part[1:-1]})" if part.startswith("[") else re.escape(part)
            for part in parts
        )

    trained = re.compile("|".join(pattern(text) for kind in office_kinds.KINDS for text in kind.wordings), re.I)
    for split in ("train", "valid", "test"):
        for task in rows(split):
            prompt = task.prompt.removesuffix(f" Then answer {DONE}.")
            assert bool(trained.fullmatch(prompt)) == (split == "train"), task.id
    texts = [
        text for kind in office_kinds.KINDS for text in (*kind.wordings, *kind.valid_wordings, *kind.test_wordings)
    ]
    assert len(set(texts)) == len(texts)
    assert all(
        len(kind.wordings) >= 3 and kind.valid_wordings and kind.test_wordings for kind in office_kinds.KINDS
    )


# Teachers and other ways


@pytest.mark.parametrize("reward", ["mentor", "strict"])
@pytest.mark.parametrize("split", SPLITS)
def test_teacher_replays_to_the_full_reward(split: str, reward: str) -> None:
    env = make(split, reward)
    for task in rows(split)[:: 3 if reward == "strict" else 1]:
        env.reset(options={"task_id": task.id})
        total = 0.0
        for position, message in enumerate(task.teacher):
            if message["role"] != "assistant":
                continue
            _, paid, terminated, truncated, info = env.step(render_message(message))
            total += float(paid)
            if not terminated:
                assert info["messages"][0]["content"] == task.teacher[position + 1]["content"], task.id
        assert (terminated, truncated, info["is_success"]) == (True, False, True), task.id
        assert total == pytest.approx(1.1), task.id
    env.close()


@pytest.mark.parametrize("split", ["valid", "test", "ood-compose"])
def test_every_way_succeeds_and_looking_around_does_no_harm(split: str) -> None:
    env = make(split)
    box = office.office_box()
    for task in rows(split):
        kind = KINDS[task.meta["kind"]]
        ways = [play(kind, task.meta["slots"], box, task.state or {}, way) for way in kind.ways]
        assert task.meta["paths"] == len({str(steps) for steps, _, _ in ways})
        for steps, answer, _ in ways:
            assert {tool for tool, _, _ in steps} <= set(task.tools)
            env.reset(options={"task_id": task.id})
            for tool, arguments, output in steps:
                look = [
                    render_call(name, {}) for name in ("list_files", "today", "list_units") if name in task.tools
                ]
                info = env.step(render_call(tool, arguments) + "".join(look))[4]
                assert info["messages"][0]["content"] == output
            if len(steps) < 8:
                assert env.step(f"<answer>{answer}</answer>")[4]["is_success"], (task.id, steps)
    env.close()


def test_clones_and_states_at_every_turn_have_the_same_future() -> None:
    env, other = make("valid"), make("valid")
    for task in rows("valid")[::4]:
        turns = turns_of(task)
        env.reset(options={"task_id": task.id})
        forks = []
        for turn in turns:
            forks.append((env.unwrapped.clone(), env.unwrapped.get_state()))  # type: ignore[attr-defined]
            last = env.step(turn)
        for position, (twin, state) in enumerate(forks):
            other.reset()
            other.unwrapped.set_state(state)  # type: ignore[attr-defined]
            assert other.unwrapped.get_state() == state  # type: ignore[attr-defined]
            for turn in turns[position:]:
                found, again = twin.step(turn), other.step(turn)
            assert found == again == last, (task.id, position)
    env.close()
    other.close()


# Wrong turns


def changes(split: str = "valid") -> list[Task]:
    return [task for task in rows(split) if task.grader["kind"] == "state"]


def test_saying_done_is_not_doing_it() -> None:
    env = make("valid")
    writes = re.compile(r'"(write|append|move|delete)_file"|"(add|move|cancel)_appointment"')
    for task in changes():
        *turns, last = turns_of(task)
        for left_out in [position for position, turn in enumerate(turns) if writes.search(turn)]:
            env.reset(options={"task_id": task.id})
            for turn in (*turns[:left_out], *turns[left_out + 1 :]):
                env.step(turn)
            assert not env.step(last)[4]["is_success"], (task.id, left_out)
    env.close()


def test_a_change_too_many_fails() -> None:
    env = make("valid")
    for task in changes():
        *turns, last = turns_of(task)
        for tool, arguments in (
            ("write_file", {"path": "x.txt", "text": "x"}),
            ("delete_file", {"path": "team/roles.txt"}),
            ("append_file", {"path": "storage/readings.txt", "text": "x"}),
            ("cancel_appointment", {"number": len(office_of(task).appointments)}),
        ):
            if tool not in task.tools:
                continue
            env.reset(options={"task_id": task.id})
            for turn in (*turns, render_call(tool, arguments)):
                info = env.step(turn)[4]
            if info["tool_calls"][0]["ok"]:
                assert not env.step(last)[4]["is_success"], (task.id, tool)
    env.close()


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        # The old note of the same topic; the list of the same trip that counts something else; the wrong letter.
        ("note-appointment", r"notes/(\w+)\.txt", r"notes/old-\1.txt"),
        ("archive-draft", r"archive/", r"archive/old/"),
        ("append-total", r"total: (\d+)", r"total: 1\1"),
        ("write-free", r" (\d\d):(00|30)\"", r" \1:15\""),
        ("book-project", r"(\d\d):30\",", r"\1:31\","),
        ("collision", r"\"start\": \"(\d\d):\d\d", r'"start": "\1:45'),
    ],
)
def test_what_is_nearly_right_fails(kind: str, before: str, after: str) -> None:
    env = make("valid")
    changed = 0
    for task in changes():
        if task.meta["kind"] != kind:
            continue
        env.reset(options={"task_id": task.id})
        turns = turns_of(task)
        altered = [re.sub(before, after, turn) for turn in turns]
        if kind == "note-appointment":
            altered = _with_the_old_note(task, turns)
        if altered == turns:
            continue
        changed += 1
        for turn in altered:
            info = env.step(turn)[4]
        assert not info["is_success"], (task.id, altered)
    assert changed >= 3
    env.close()


def _with_the_old_note(task: Task, turns: list[str]) -> list[str]:
    place = office_of(task)
    text = place.files.get(f"notes/old-{task.meta['slots']['topic']}.txt")
    if text is None:
        return turns
    title, day, times = text.split("next: ")[1].split("\n")[0].split(", ")
    start, end = times.split(" to ")
    people = text.split("with: ")[1].split(", ")
    add = {"title": title, "day": day[4:], "start": start, "end": end, "people": people}
    return [turns[0], render_call("add_appointment", add), turns[-1]]


@pytest.mark.parametrize("split", SPLITS)
def test_a_wrong_answer_never_succeeds(split: str) -> None:
    env = make(split)
    for task in rows(split)[::7]:
        for wrong in ("no idea", "-17.5", f"{task.answer} and more"):
            env.reset(options={"task_id": task.id})
            assert not env.step(f"<answer>{wrong}</answer>")[4]["is_success"], task.id
    env.close()


def test_no_answer_is_right_for_most_tasks_of_a_kind() -> None:
    for kind in office_kinds.KINDS:
        answers = Counter(task.answer for task in rows("train") if task.meta["kind"] == kind.name)
        if kind.answer != "state":
            assert answers.most_common(1)[0][1] < sum(answers.values()) * 0.4, kind.name


# Answers, computed from the offices


def test_answers_follow_from_the_offices() -> None:
    checked: Counter[str] = Counter()
    for split in SPLITS:
        for task in rows(split):
            expected = EXPECTED[task.meta["kind"]](office_of(task), task.meta["slots"])
            checked[task.meta["kind"]] += 1
            if isinstance(expected, set):
                assert set(task.answer.split(", ")) == expected, task.id
            elif isinstance(expected, dict):
                assert task.grader["expected"] == {"files": {}, "calendar": {}, **expected}, task.id
            elif isinstance(expected, str):
                assert task.answer == expected, task.id
            else:
                assert abs(Fraction(task.answer) - expected) <= Fraction("0.005"), task.id
    assert set(checked) == set(KINDS)


def amount(quantity: str, unit: str) -> Fraction:
    value, found = read_quantity(quantity)
    target = read_quantity(f"1 {unit}")[1]
    return (value * found.factor + found.offset - target.offset) / target.factor


def total(kind: str) -> Callable[[Office, Any], Fraction]:
    return lambda place, slots: sum(
        (amount(item, slots["unit"]) for item in place.lists[kind, slots["trip"]].values()), Fraction(0)
    )


def two_decimals(value: Fraction) -> str:
    return f"{int(value * 100 + Fraction(1, 2)) / 100:.2f}"


def day_of(place: Office, weekday: str) -> date:
    return place.monday + timedelta(days=WEEKDAYS.index(weekday))


def had_by(place: Office, person: str, first: date, days: int = 1) -> list[Meeting]:
    last = first + timedelta(days=days - 1)
    return [item for item in place.appointments if person in item.people and first <= item.day <= last]


def hours(place: Office, person: str, week: str) -> Fraction:
    found = had_by(place, person, place.monday - timedelta(days=7 * (week == "this")), 5)
    return Fraction(sum(item.end - item.start for item in found), 60)


def by_role(place: Office, role: str) -> str:
    return next(name for name, other in place.roles.items() if other == role)


def earliest(place: Office, people: Any, minutes: int, day: date, days: int = 1) -> tuple[date, int]:
    """Try every minute."""
    for offset in range(days):
        for start in range(9 * 60, 17 * 60 - minutes + 1):
            item = Meeting(0, "", day + timedelta(days=offset), start, start + minutes, tuple(people))
            if not any(item.overlaps(other) for other in place.appointments):
                return item.day, start
    raise AssertionError("never free")


def told(item: Meeting, day: date | None = None, start: int | None = None) -> list[Any]:
    begin = item.start if start is None else start
    times = write_time(begin), write_time(begin + item.end - item.start)
    return [item.title, (day or item.day).isoformat(), *times, sorted(item.people)]


def added(*items: list[Any]) -> dict[str, Any]:
    return {"calendar": {"removed": [], "added": [*items]}}


def booked(place: Office, slots: Any) -> Meeting:
    people = place.projects[slots["project"]]
    day, start = earliest(place, people, slots["minutes"], day_of(place, slots["weekday"]))
    return Meeting(0, slots["title"], day, start, start + slots["minutes"], people)


def cancelled(place: Office, slots: Any) -> dict[str, Any]:
    found = had_by(place, slots["person"], day_of(place, slots["weekday"]))
    return {"calendar": {"removed": sorted(map(told, found)), "added": []}}


def moved(place: Office, slots: Any) -> tuple[Meeting, date, int]:
    shorter = place.meeting(place.collision[1])
    length = shorter.end - shorter.start
    return shorter, *earliest(place, shorter.people, length, day_of(place, slots["weekday"]))


def collided(place: Office, slots: Any) -> dict[str, Any]:
    shorter, day, start = moved(place, slots)
    return {"calendar": {"removed": [told(shorter)], "added": [told(shorter, day, start)]}}


def appended(place: Office, path: str, line: str) -> dict[str, Any]:
    return {"files": {path: f"{place.files[path]}\n{line}"}}


def expect_free(place: Office, slots: Any) -> str:
    return write_time(earliest(place, slots["people"], slots["minutes"], day_of(place, slots["weekday"]))[1])


def expect_written(place: Office, slots: Any) -> dict[str, Any]:
    day, start = earliest(place, slots["people"], slots["minutes"], place.monday, 5)
    return {"files": {f"plans/{slots['file']}": f"{day} {write_time(start)}"}}


def expect_archived(place: Office, slots: Any) -> dict[str, Any]:
    path = place.drafts[slots["subject"]]
    return {"files": {path: None, path.replace("drafts", "archive"): place.files[path]}}


def expect_total_line(place: Office, slots: Any) -> dict[str, Any]:
    line = f"total: {two_decimals(total('packing')(place, slots))} {slots['unit']}"
    return appended(place, f"lists/{slots['trip'].lower()}-packing.txt", line)


def expect_whole(place: Office, slots: Any) -> dict[str, Any]:
    trips = {trip for _, trip in place.lists}
    whole = sum((total("packing")(place, {**slots, "trip": trip}) for trip in trips), Fraction(0))
    return {"files": {"lists/total.txt": f"{two_decimals(whole)} {slots['unit']}"}}


def expect_moved(place: Office, slots: Any) -> dict[str, Any]:
    shorter, day, start = moved(place, slots)
    line = f"{shorter.title}, {day} {write_time(start)}"
    return {"files": {"plans/moved.txt": line}, **collided(place, slots)}


def expect_booked_log(place: Office, slots: Any) -> dict[str, Any]:
    item = booked(place, slots)
    line = f"next meeting: {item.day} {write_time(item.start)}"
    return {**appended(place, f"projects/{slots['project'].lower()}.txt", line), **added(told(item))}


def expect_cancelled_log(place: Office, slots: Any) -> dict[str, Any]:
    found = had_by(place, slots["person"], day_of(place, slots["weekday"]))
    titles = [item.title for item in sorted(found, key=lambda item: (item.start, item.number))]
    return {"files": {"plans/cancelled.txt": "\n".join(titles)}, **cancelled(place, slots)}


EXPECTED: dict[str, Callable[[Office, Any], Any]] = {
    "packing-total": total("packing"),
    "route-length": total("route"),
    "heaviest": lambda place, slots: max(
        place.lists["packing", slots["trip"]].items(), key=lambda item: amount(item[1], "g")
    )[0],
    "several": lambda place, slots: (
        slots["n"] * amount(place.lists["packing", slots["trip"]][slots["item"]], slots["unit"])
    ),
    "reading": lambda place, slots: amount(place.readings[slots["room"]], slots["scale"][0]),
    "booked-hours": lambda place, slots: hours(place, slots["person"], slots["week"]),
    "role-start": lambda place, slots: write_time(
        min(item.start for item in had_by(place, by_role(place, slots["role"]), day_of(place, slots["weekday"])))
    ),
    "roles-in": lambda place, slots: {
        place.roles[name] for item in place.appointments if item.title == slots["title"] for name in item.people
    },
    "free-time": expect_free,
    "note-appointment": lambda place, slots: added(told(place.notes[slots["topic"]])),
    "write-free": expect_written,
    "book-project": lambda place, slots: added(told(booked(place, slots))),
    "append-total": expect_total_line,
    "cancel-day": cancelled,
    "collision": collided,
    "archive-draft": expect_archived,
    "cleanup": lambda place, slots: {"files": dict.fromkeys(place.cleanup)},
    "note-then-delete": lambda place, slots: {
        "files": {f"notes/{slots['topic']}.txt": None},
        **added(told(place.notes[slots["topic"]])),
    },
    "whole-packing": expect_whole,
    "compare-roles": lambda place, slots: (
        hours(place, by_role(place, slots["role"]), "next") - hours(place, by_role(place, slots["other"]), "next")
    ),
    "collision-log": expect_moved,
    "book-log": expect_booked_log,
    "cancel-log": expect_cancelled_log,
}


# Offices and parts


def test_offices_hold_together() -> None:
    for words in WORDS:
        for number in range(15):
            place = make_office(number, words)
            clashes = [
                (a.number, b.number)
                for a in place.appointments
                for b in place.appointments
                if a.number < b.number and a.overlaps(b)
            ]
            assert clashes == [tuple(sorted(place.collision))]
            longer, shorter = map(place.meeting, place.collision)
            assert set(longer.people) & set(shorter.people) == {place.common}
            assert longer.end - longer.start - 30 == shorter.end - shorter.start
            titles = [item.title for item in (*place.appointments, *place.notes.values())]
            assert len(set(titles)) == len(titles)
            assert all(9 * 60 <= item.start < item.end <= 17 * 60 for item in place.appointments)
            assert [item.number for item in place.appointments] == [*range(1, len(place.appointments) + 1)]
            assert place.today.weekday() < 3
            for item in place.notes.values():
                assert not any(item.overlaps(other) for other in place.appointments)
            for files in ("notes/old-", "lists/", "drafts/"):
                assert sum(path.startswith(files) for path in place.files) >= 2


def test_an_episode_leaves_the_office_as_it_was() -> None:
    before = msgspec.json.encode(office_state(100, "common"))
    env = make("valid")
    for task in changes():
        env.reset(options={"task_id": task.id})
        for turn in turns_of(task):
            env.step(turn)
    env.close()
    assert msgspec.json.encode(office_state(100, "common")) == before


def test_plans_fail_loudly() -> None:
    desk = Desk(office.office_box(), {"office": 0, "words": "common"})
    for attempt in (
        lambda: desk.call("read_file", path="none.txt"),
        lambda: desk.file_in("notes", "zzz"),
        lambda: desk.file_with("zzz", "notes"),
        lambda: desk.entry("zzz"),
        lambda: round_quantity("1.005 kg"),
    ):
        with pytest.raises(PlanFailed):
            attempt()
    assert round_quantity("1.0049999999 kg") == "1.00"
    entry = Entry(4, "2025-03-11", "09:00", "10:30", "review", ("Bo", "Ana"))
    assert read_entries("there are no appointments") == []
    assert read_entries("4 | Tue 2025-03-11 | 09:00-10:30 | review | Bo, Ana") == [entry]
    assert entry.minutes == 90


def _say(answer: str) -> Callable[[Desk, Any, str], str]:
    def plan(desk: Desk, slots: Any, way: str) -> str:
        if way == "write":
            desk.call("write_file", path="x.txt", text="x")
        if way == "write more":
            desk.call("write_file", path="x.txt", text="xx")
        if way == "long":
            for _ in range(8):
                desk.call("today")
        return way if answer == "way" else answer

    return plan


@pytest.mark.parametrize(
    ("answer", "said", "ways", "is_good"),
    [
        ("text", "yes", ("look", "look"), True),
        ("text", "way", ("look", "see"), False),
        ("text", "yes", ("look", "write"), False),
        ("text", "yes", ("write",), False),
        ("text", "yes", ("look", "long"), False),
        ("state", DONE, ("write", "write"), True),
        ("state", DONE, ("write", "write more"), False),
        ("state", DONE, ("look",), False),
        ("set", "a, b", ("look",), True),
        ("set", "a", ("look",), False),
        ("set", "a, b, c, d, e, f", ("look",), False),
    ],
)
def test_only_tasks_with_one_end_are_made(answer: str, said: str, ways: tuple[str, ...], is_good: bool) -> None:
    kind = OfficeKind("test", answer, lambda place, rng: {}, _say(said), ways, ())
    row = {"id": "1", "suite": "office", "split": "train"}
    state = {"office": 0, "words": "common"}
    task = make_task(kind, {}, office.office_box(), state, "what is it?", random.Random(0), row)
    assert (task is not None) == is_good


# Conformance


def test_the_suite_keeps_the_promises_of_suites() -> None:
    assert check_suite(SUITE, rows=50).failed == []


def test_the_box_keeps_the_promises_of_tools() -> None:
    assert check_tool(SUITE).failed == []
