"""The facts suite: tables, look-up tools, rows, and every way to answer a question."""

import csv
import os
import re
import subprocess
import sys

import gymnasium as gym
import msgspec
import pytest

import mentor_gym  # noqa: F401  (registers the ids)
from mentor_gym.data import REBUILD_SEED, data_path
from mentor_gym.grading import grade_number, normalise_text
from mentor_gym.protocol import render_message, to_json
from mentor_gym.suites import facts, load_suite
from mentor_gym.suites.facts_kinds import GROUPS, KINDS, is_group_held_out, is_held_out
from mentor_gym.suites.plans import calls_of, orders, run
from mentor_gym.tools.facts import MAX_NAMES, TABLES, facts_box, load_table

SPLITS = {"train": 2400, "valid": 300, "ood-domain": 300}
KIND = {kind.name: kind for kind in KINDS}


@pytest.fixture(scope="module")
def suite():
    return load_suite("facts")


@pytest.fixture(scope="module")
def tools():
    return facts_box().tools


def rows(suite, split):
    tasks = suite.tasks(split)
    return [tasks[i] for i in range(len(tasks))]


def call_text(name, arguments):
    return f"<tool_call>{to_json({'name': name, 'arguments': arguments})}</tool_call>"


def entities(task):
    """Return (table, name) of every row that a question names, and the row that answers it."""
    slots = task.meta["slots"]
    found = [(slots["table"], slots[slot]) for slot in "abc" if slot in slots]
    if task.meta["kind"] in ("reverse", "described"):
        table = load_table(slots["table"])
        found += [(table.name, name) for name in table.matching(slots["where"], slots["value"])]
    if KIND[task.meta["kind"]].answer == "row":
        found.append((slots["table"], task.answer))
    return found


# Tables


@pytest.mark.parametrize(("name", "size"), [("elements", 118), ("airports", 638), ("countries", 227)])
def test_tables_are_clean(name, size):
    with data_path("tables", f"{name}.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.reader(file))
    header, body = found[0], found[1:]
    assert len(body) == size
    assert all(len(row) == len(header) for row in body)
    values = [value for row in body for value in row]
    assert not [value for value in values if value != value.strip() or value in ("nan", "NaN", "None", "inf")]
    assert not [value for value in values if re.fullmatch(r"-?[\d.]+e[-+]?\d+", value)]
    keys = [row[header.index(field)] for row in body for field in TABLES[name]]
    assert all(keys)
    assert len({row[0] for row in body}) == size


def test_tables_are_small():
    assert sum(path.stat().st_size for path in data_path("tables").glob("*.csv")) < 400_000


@pytest.mark.parametrize(
    ("table", "name", "field", "value"),
    [
        ("elements", "Gold", "atomic_number", "79"),
        ("elements", "Iron", "symbol", "Fe"),
        ("elements", "Carbon", "atomic_weight", "12.011"),
        ("countries", "France", "capital", "Paris"),
        ("countries", "Japan", "iso2", "JP"),
        ("airports", "CDG", "country", "FR"),
    ],
)
def test_tables_know_what_everybody_knows(tools, table, name, field, value):
    assert tools["get"].call({"table": table, "name": name, "field": field}).output == value


def test_readme_states_each_source_and_licence():
    text = data_path("README.md").read_text(encoding="utf-8")
    for name, size in (("elements", 118), ("airports", 638), ("countries", 227)):
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}.csv`")]
        assert f"| {size} |" in line
        assert "MIT" in line
        assert "Copyright (c)" in line
    assert "Permission is hereby granted" in text


# Tools


@pytest.mark.parametrize(
    ("tool", "arguments", "output"),
    [
        ("get", {"table": "Elements", "name": "gOLD", "field": "Atomic Number"}, "79"),
        ("get", {"table": "elements", "name": "au", "field": "name"}, "Gold"),
        ("get", {"table": "countries", "name": "sao tome and principe", "field": "iso2"}, "ST"),
        ("which", {"table": "elements", "field": "atomic_number", "value": "79"}, "Gold"),
        ("which", {"table": "elements", "field": "atomic_number", "value": 79.0}, "Gold"),
        ("which", {"table": "countries", "field": "capital", "value": "BRASILIA"}, "Brazil"),
        ("find", {"table": "elements", "field": "period", "value": 1}, '["Hydrogen", "Helium"]'),
        ("count", {"table": "elements", "field": "period", "value": "2"}, "8"),
        ("count", {"table": "elements", "field": "period", "value": "nine"}, "0"),
        ("length", {"items": ["a", "b"]}, "2"),
        ("compare", {"table": "elements", "field": "atomic_number", "names": ["H", "Au", "Ag"]}, "Gold"),
        ("lowest", {"table": "elements", "field": "atomic_number", "names": ["Ag", "Au", "h"]}, "Hydrogen"),
        ("top", {"table": "elements", "field": "atomic_number", "where": "period", "value": 2}, "Neon"),
        ("difference", {"table": "elements", "field": "atomic_number", "a": "Au", "b": "Ag"}, "32"),
        ("total", {"table": "elements", "field": "atomic_weight", "names": ["H", "H", "O"]}, "18.015"),
    ],
)
def test_tools_answer(tools, tool, arguments, output):
    result = tools[tool].call(arguments)
    assert (result.ok, result.output) == (True, output)


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        (
            "get",
            {"table": "planets", "name": "Mars", "field": "mass"},
            "the tables are elements, airports, countries",
        ),
        ("get", {"table": "countries", "name": "Frnce", "field": "capital"}, "nearest: France"),
        (
            "get",
            {"table": "countries", "name": "France", "field": "capitol"},
            "it has name, iso2, capital, region",
        ),
        ("get", {"table": "elements", "name": "Carbon", "field": "density"}, "no density is known for Carbon"),
        ("which", {"table": "elements", "field": "period", "value": 2}, "8 rows match"),
        ("which", {"table": "countries", "field": "capital", "value": "Pariss"}, "nearest: Paris"),
        ("find", {"table": "elements", "field": "period", "value": 9}, "no row of elements has period '9'"),
        ("compare", {"table": "elements", "field": "symbol", "names": ["H", "Au"]}, "symbol holds text"),
        (
            "compare",
            {"table": "elements", "field": "period", "names": ["H", "He"]},
            "equal period: Hydrogen, Helium",
        ),
        ("compare", {"table": "elements", "field": "period", "names": []}, "the list of names is empty"),
        ("find", {"table": "elements", "field": "period", "value": [2]}, 'argument "value"'),
        ("get", {"table": "x" * 101, "name": "y", "field": "z"}, 'argument "table"'),
    ],
)
def test_tools_explain_failures(tools, tool, arguments, message):
    result = tools[tool].call(arguments)
    assert not result.ok
    assert message in result.output
    assert "\n" not in result.output


def test_find_says_how_many_it_left_out(tools):
    output = tools["find"].call({"table": "airports", "field": "country", "value": "us"}).output
    names, _, left = output.partition("] and ")
    whole = int(tools["count"].call({"table": "airports", "field": "country", "value": "us"}).output)
    assert len(msgspec.json.decode(names + "]")) == MAX_NAMES
    assert left == f"{whole - MAX_NAMES} more"


# Rows


def test_splits_have_their_rows_and_kinds(suite):
    assert suite.splits == tuple(SPLITS)
    for split, size in SPLITS.items():
        tasks = rows(suite, split)
        assert len(tasks) == size
        assert {task.meta["kind"] for task in tasks} == set(KIND)
        assert all(task.id == f"facts-{split}-{i:05d}" for i, task in enumerate(tasks))
        assert all(4 <= len(set(task.tools)) == len(task.tools) <= 7 for task in tasks)
        assert {task.meta["calls"] for task in tasks} == {1, 2, 3, 4, 5}
        assert sum(task.meta["paths"] > 1 for task in tasks) > size / 3
    assert len(KIND) >= 12


@pytest.mark.parametrize("split", SPLITS)
def test_generation_gives_the_shipped_rows(split):
    shipped = data_path("facts", f"{split}.jsonl").read_bytes().splitlines()[:60]
    assert [msgspec.json.encode(task) for task in facts.generate(split, REBUILD_SEED, rows=60)] == shipped


def test_generation_does_not_depend_on_the_hash_seed():
    code = (
        "import msgspec, hashlib; from mentor_gym.suites.facts import generate;"
        "print(hashlib.sha256(msgspec.json.encode(generate('train', 5, 100))).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert facts.generate("train", 5, 30) != facts.generate("train", 6, 30)


def test_no_question_stands_in_two_splits(suite):
    prompts = [task.prompt for split in SPLITS for task in rows(suite, split)]
    assert len(set(prompts)) == len(prompts)

    def question(task):
        # a + b is the same question as b + a, and as 2 a + 3 b.
        slots = task.meta["slots"]
        names = sorted(slots[slot] for slot in "abc" if slot in slots)
        return (task.meta["kind"], *names, *((k, v) for k, v in sorted(slots.items()) if k not in "abcnm"))

    def questions(split):
        return {question(task) for task in rows(suite, split)}

    assert not questions("train") & questions("valid")


def test_ood_entities_and_groups_are_never_trained(suite):
    seen = {split: {e for task in rows(suite, split) for e in entities(task)} for split in SPLITS}
    assert all(is_held_out(*entity) for entity in seen["ood-domain"])
    assert not [entity for split in ("train", "valid") for entity in seen[split] if is_held_out(*entity)]
    assert len(seen["ood-domain"]) > 100
    for split in SPLITS:
        for task in rows(suite, split):
            slots = task.meta["slots"]
            if (slots["table"], slots.get("where")) in GROUPS:
                for slot in {"value", "value2"} & set(slots):
                    held_out = is_group_held_out(slots["table"], slots["where"], slots[slot])
                    assert held_out == (split == "ood-domain"), task.id


def test_ood_wordings_are_never_trained(suite):
    def pattern(wording):
        return re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(wording)), re.IGNORECASE)

    trained = [pattern(wording) for kind in KINDS for wording in kind.wordings]
    for task in rows(suite, "train")[:200]:
        assert any(wording.fullmatch(task.prompt) for wording in trained), task.prompt
    for task in rows(suite, "ood-domain"):
        assert not any(wording.fullmatch(task.prompt) for wording in trained), task.prompt


# Every teacher trace, and every other way


@pytest.mark.parametrize("reward", ["mentor", "strict"])
@pytest.mark.parametrize("split", SPLITS)
def test_teacher_replays_to_the_full_reward(split, reward):
    env = gym.make("MentorTool-v0", suite="facts", split=split, reward=reward, disable_env_checker=True)
    for task_id in env.unwrapped.tasks.ids:
        env.reset(options={"task_id": task_id})
        teacher = env.unwrapped.task.teacher
        total = 0.0
        for position, message in enumerate(teacher):
            if message["role"] != "assistant":
                continue
            _, paid, terminated, truncated, info = env.step(render_message(message))
            total += paid
            if not terminated:
                assert info["messages"][0]["content"] == teacher[position + 1]["content"], task_id
        assert terminated, task_id
        assert not truncated, task_id
        assert info["is_success"], task_id
        assert total == pytest.approx(1.1), task_id
    env.close()


def reached_answer(task, root, output):
    """Whether the last result of a way tells the answer: it is it, lists it alone, or has its sign."""
    if task.grader["kind"] == "number":
        return grade_number(output, task.answer)
    if root.tool == "find":
        return msgspec.json.decode(output) == [task.answer]
    slots = task.meta["slots"]
    if root.tool in ("subtract", "difference"):
        return (float(output) > 0) == (slots["a"] == task.answer) and float(output) != 0
    return normalise_text(output) == normalise_text(task.answer)


@pytest.mark.parametrize("split", SPLITS)
def test_every_order_of_every_way_succeeds(suite, tools, split):
    env = gym.make("MentorTool-v0", suite="facts", split=split, reward=None, disable_env_checker=True)
    sample = [task for task in rows(suite, split) if task.meta["paths"] > 1][:90]
    assert {len(orders_of) > 1 for orders_of in (facts.ways(task) for task in sample)} == {True, False}
    for task in sample:
        played = set()
        for root in facts.ways(task):
            for order in orders(root):
                steps = run(order, tools)
                played.add(to_json([(name, arguments) for name, arguments, _ in steps]))
                env.reset(options={"task_id": task.id})
                for name, arguments, output in steps:
                    _, _, terminated, truncated, info = env.step(call_text(name, arguments))
                    assert info["messages"][0]["content"] == output
                    assert not terminated
                    assert not truncated
                assert reached_answer(task, root, steps[-1][2]), (task.id, steps)
                *_, info = env.step(f"<answer>{task.answer}</answer>")
                assert info["is_success"]
        assert len(played) == task.meta["paths"], task.id
    env.close()


def test_the_teacher_takes_the_first_way(suite):
    for task in rows(suite, "valid"):
        names = [c["function"]["name"] for m in task.teacher for c in m.get("tool_calls") or ()]
        first = facts.ways(task)[0]
        assert names == [item.tool for item in calls_of(first)]
        assert len(names) == min(len(calls_of(way)) for way in facts.ways(task)) == task.meta["calls"]


def test_answers_follow_from_the_tables(suite):
    """Recompute answers from the CSV values, apart from tools and plans."""
    checked = 0
    for split in SPLITS:
        for task in rows(suite, split):
            slots, kind = task.meta["slots"], task.meta["kind"]
            if "field_table" in slots:
                continue
            table = load_table(slots["table"])
            names = [slots[slot] for slot in "abc" if slot in slots]
            if kind in ("difference", "sum-two", "sum-three", "mean-three", "larger", "largest", "smallest"):
                values = {name: float(table.rows[name][slots["field"]]) for name in names}
                numbers = list(values.values())
                expected = {
                    "difference": numbers[0] - numbers[1],
                    "sum-two": sum(numbers),
                    "sum-three": sum(numbers),
                    "mean-three": sum(numbers) / 3,
                    "larger": max(values, key=values.__getitem__),
                    "largest": max(values, key=values.__getitem__),
                    "smallest": min(values, key=values.__getitem__),
                }[kind]
            elif kind == "top":
                members = [n for n, row in table.rows.items() if row[slots["where"]] == slots["value"]]
                expected = max(members, key=lambda n: float(table.rows[n][slots["field"]]))
            elif kind.startswith("count"):
                sizes = [
                    sum(row[slots["where"]] == slots.get(slot) for row in table.rows.values())
                    for slot in ("value", "value2")
                ]
                expected = sizes[0] - sizes[1] if kind == "count-difference" else sum(sizes)
            else:
                continue
            checked += 1
            if isinstance(expected, str):
                assert task.answer == expected, task.id
            else:
                assert float(task.answer) == pytest.approx(expected, rel=1e-7, abs=1e-6), task.id
    assert checked > 1000
