"""The suites over SQL databases, shop and elements: rows, teachers, every other way, and wrong changes."""

from __future__ import annotations

import csv
import dataclasses
import os
import random
import re
import subprocess
import sys
from collections import Counter
from typing import Any

import gymnasium as gym
import msgspec
import pytest

import mentor_gym
from mentor_gym.data import REBUILD_SEED, data_path
from mentor_gym.grading import grade
from mentor_gym.protocol import render_call, render_message
from mentor_gym.suites import elements, elements_kinds, load_suite, shop, shop_kinds
from mentor_gym.suites.facts_kinds import is_held_out
from mentor_gym.suites.plans import PlanFailed
from mentor_gym.suites.shop_data import COLUMNS, STYLES, WORDS, make_company, table_names
from mentor_gym.suites.sql_plans import (
    DONE,
    SqlKind,
    TableName,
    answer_of,
    literal,
    make_task,
    play,
    read_rows,
)
from mentor_gym.tools.sql import CUT_MARK, NO_ROWS, SqlBox
from mentor_gym.types import Task

MODULES: dict[str, Any] = {"shop": shop, "elements": elements}
KINDS = {
    "shop": {kind.name: kind for kind in (*shop_kinds.KINDS, *shop_kinds.OOD_KINDS)},
    "elements": {kind.name: kind for kind in (*elements_kinds.KINDS, *elements_kinds.OOD_KINDS)},
}
SPLITS = [(suite, split) for suite, module in MODULES.items() for split in module.ROWS]


def rows(suite: str, split: str) -> list[Task]:
    return list(load_suite(suite).tasks(split))


def names_of(task: Task) -> dict[str, TableName]:
    return table_names(task.state["style"]) if task.suite == "shop" and task.state else {}


def ways(task: Task) -> list[list[str]]:
    """Return every solution of a task, with its values written in."""
    kind = KINDS[task.suite][task.meta["kind"]]
    values = {name: literal(value) for name, value in task.meta["slots"].items()}
    return [[sql.format(**names_of(task), **values, result="{result}") for sql in way] for way in kind.ways]


def turns_of(task: Task) -> list[str]:
    return [render_message(message) for message in task.teacher if message["role"] == "assistant"]


def sql_of(task: Task) -> str:
    return " ".join(
        call["function"]["arguments"] for message in task.teacher for call in message.get("tool_calls") or ()
    )


def make(suite: str, split: str, reward: Any = None) -> gym.Env[str, str]:
    return gym.make("MentorTool-v0", suite=suite, split=split, reward=reward, disable_env_checker=True)


# Rows


@pytest.mark.parametrize(("suite", "split"), SPLITS)
def test_splits_have_their_rows(suite: str, split: str) -> None:
    module = MODULES[suite]
    tasks = rows(suite, split)
    kinds = module.OOD_KINDS if split == "ood-kinds" else module.KINDS
    assert len(tasks) == module.ROWS[split]
    counts = Counter(task.meta["kind"] for task in tasks)
    assert counts == {kind.name: len(tasks) // len(kinds) for kind in kinds}
    assert [task.id for task in tasks] == [f"{suite}-{split}-{i:05d}" for i in range(len(tasks))]
    for task in tasks:
        assert {"schema", "query"} <= set(task.tools) <= {"schema", "query", "execute"}
        assert len(set(task.tools)) == len(task.tools)
        assert "{" not in task.prompt
        assert "[" not in task.prompt
        assert all(str(value) in task.prompt for value in task.meta["slots"].values()), task.id
        assert task.meta["calls"] == sum(len(message.get("tool_calls") or ()) for message in task.teacher)
        assert task.meta["calls"] <= 4
        assert (task.grader["kind"] == "state") == (task.answer == DONE) == ("execute" in sql_tools(task))
        assert ("writable" in (task.state or {})) == (task.grader["kind"] == "state")


def sql_tools(task: Task) -> set[str]:
    return {call["function"]["name"] for message in task.teacher for call in message.get("tool_calls") or ()}


def test_kinds_differ_in_what_they_need() -> None:
    tables = Counter(task.meta["tables"] for task in rows("shop", "train"))
    assert min(tables[count] for count in (1, 2, 3, 4, 5)) > 10
    assert {task.meta["calls"] for task in rows("shop", "train")} == {2, 3, 4}
    assert {task.meta["tables"] for task in rows("elements", "train")} == {1, 2, 3}
    # Half of the questions tempt with a tool that may change nothing.
    questions = [task for task in rows("shop", "train") if task.grader["kind"] != "state"]
    assert 0.4 < sum("execute" in task.tools for task in questions) / len(questions) < 0.6


@pytest.mark.parametrize(("suite", "split"), SPLITS)
def test_regenerated_rows_equal_the_shipped_bytes(suite: str, split: str) -> None:
    shipped = data_path(suite, f"{split}.jsonl").read_bytes().splitlines()
    module = MODULES[suite]
    count = min(len(shipped), 200)
    made = [msgspec.json.encode(task) for task in module.generate(split, REBUILD_SEED, rows=count)]
    assert made == shipped[:count]
    other = [msgspec.json.encode(task) for task in module.generate(split, REBUILD_SEED + 1, rows=20)]
    assert other != shipped[:20]


@pytest.mark.parametrize("suite", MODULES)
def test_generation_does_not_depend_on_the_hash_seed(suite: str) -> None:
    code = (
        f"import msgspec, hashlib; from mentor_gym.suites.{suite} import generate;"
        "print(hashlib.sha256(msgspec.json.encode(generate('train', 5, 60))).hexdigest())"
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


@pytest.mark.parametrize("suite", MODULES)
def test_a_kind_without_tasks_is_named(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = MODULES[suite]
    barren = dataclasses.replace(module.KINDS[0], name="barren", draw=lambda choice: None)
    monkeypatch.setattr(module, "_PATIENCE", 20)
    monkeypatch.setattr(module, "KINDS", (barren,))
    with pytest.raises(RuntimeError, match="kind 'barren' has no more"):
        module.generate("train", 0, rows=1)


# What is held back


@pytest.mark.parametrize("suite", MODULES)
def test_no_question_stands_in_two_splits(suite: str) -> None:
    seen: dict[Any, str] = {}
    for split in MODULES[suite].ROWS:
        for task in rows(suite, split):
            state = {name: value for name, value in (task.state or {}).items() if name != "writable"}
            question = (task.meta["kind"], sorted(task.meta["slots"].items()), sorted(state.items()))
            assert seen.setdefault(str(question), split) == split, task.id
            assert seen.setdefault(task.prompt, split) == split or suite == "shop", task.id


def test_shop_splits_have_companies_of_their_own() -> None:
    companies = {split: {task.state["company"] for task in rows("shop", split)} for split in shop.ROWS}  # type: ignore[index]
    assert sum(map(len, companies.values())) == len(set().union(*companies.values()))
    for split, numbers in companies.items():
        assert len(numbers) == (24 if split == "train" else 6)
    for split in shop.ROWS:
        for task in rows("shop", split):
            assert task.state is not None
            assert (task.state["words"] == "unseen") == (split in ("test", "ood-schema"))
            assert (task.state["style"] == "unseen") == (split == "ood-schema")


def test_unseen_words_and_names_are_never_trained() -> None:
    common, unseen = WORDS["common"], WORDS["unseen"]
    for part in ("first", "last", "cities", "products"):
        assert not set(getattr(common, part)) & set(getattr(unseen, part))
    goods = {name for words in unseen.products.values() for name in words}
    assert not goods & {name for words in common.products.values() for name in words}
    held_out = {*unseen.first, *unseen.last, *unseen.cities, *goods}
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, held_out))})\b")
    columns = {name for table, names in STYLES["unseen"].values() for name in (table, *names.split())}
    assert not columns & {
        name
        for style, tables in STYLES.items()
        if style != "unseen"
        for table, names in tables.values()
        for name in (table, *names.split())
    }
    schema = re.compile(rf"\b({'|'.join(columns)})\b")
    for split in ("train", "valid", "ood-kinds"):
        for task in rows("shop", split):
            assert not pattern.search(task.prompt), task.id
            assert not schema.search(sql_of(task)), task.id
    assert all(schema.search(sql_of(task)) for task in rows("shop", "ood-schema"))
    assert sum(bool(pattern.search(task.prompt)) for task in rows("shop", "test")) > 60


def test_elements_of_test_are_never_asked_about_in_training() -> None:
    by_symbol = {row["symbol"]: row["name"] for row in table()}
    by_number = {int(row["atomic_number"]): row["name"] for row in table()}
    for split in elements.ROWS:
        for task in rows("elements", split):
            slots = task.meta["slots"]
            asked = [slots[slot] for slot in ("element", "other") if slot in slots]
            asked += [by_symbol[slots["symbol"]]] if "symbol" in slots else []
            asked += [by_number[slots["number"]]] if "number" in slots else []
            for name in asked:
                assert is_held_out("elements", name) == (split in ("test", "ood-kinds")), task.id


@pytest.mark.parametrize("suite", MODULES)
def test_wordings_of_other_splits_are_never_trained(suite: str) -> None:
    def pattern(wording: str) -> str:
        parts = re.split(r"(\{\w+\}|\[[^\]]*\])", wording)
        return "".join(
            ".+" if part.startswith("{") else f"(?:{part[1:-1]})" if part.startswith("[") else re.escape(part)
            for part in parts
        )

    kinds = MODULES[suite].KINDS
    trained = re.compile("|".join(pattern(text) for kind in kinds for text in kind.wordings), re.IGNORECASE)
    for split in MODULES[suite].ROWS:
        for task in rows(suite, split):
            prompt = task.prompt.removesuffix(f" Then answer {DONE}.")
            if split != "ood-kinds":
                assert bool(trained.fullmatch(prompt)) == (split == "train"), task.id
    texts = [text for kind in kinds for text in (*kind.wordings, *kind.valid_wordings, *kind.test_wordings)]
    assert len(set(texts)) == len(texts)
    assert all(len(kind.wordings) >= 3 and kind.valid_wordings and kind.test_wordings for kind in kinds)
    trained_kinds = {kind.name for kind in kinds}
    assert not trained_kinds & {kind.name for kind in MODULES[suite].OOD_KINDS}


# Teachers and other ways


@pytest.mark.parametrize("reward", ["mentor", "strict"])
@pytest.mark.parametrize(("suite", "split"), SPLITS)
def test_teacher_replays_to_the_full_reward(suite: str, split: str, reward: str) -> None:
    env = make(suite, split, reward)
    for task in rows(suite, split):
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


@pytest.mark.parametrize(("suite", "split"), SPLITS)
def test_every_way_succeeds_with_and_without_the_schema(suite: str, split: str) -> None:
    env = make(suite, split)
    box = load_suite(suite).new_box()
    assert isinstance(box, SqlBox)
    for task in rows(suite, split)[:: 3 if split == "train" else 1]:
        kind = KINDS[suite][task.meta["kind"]]
        assert task.meta["paths"] == 2 * len(ways(task))
        for way in ways(task):
            steps, found = play(box, task.state or {}, way)
            answer = answer_of(kind, found)
            assert answer is not None
            for skipped in (0, 1):
                env.reset(options={"task_id": task.id})
                for tool, arguments, output in steps[skipped:]:
                    info = env.step(render_call(tool, arguments))[4]
                    assert info["messages"][0]["content"] == output
                assert env.step(f"<answer>{answer}</answer>")[4]["is_success"], (task.id, way)
    env.close()


@pytest.mark.parametrize(("suite", "split"), SPLITS)
def test_a_wrong_answer_never_succeeds(suite: str, split: str) -> None:
    env = make(suite, split)
    for task in rows(suite, split)[::7]:
        *turns, _ = turns_of(task)
        for wrong in ("no idea", "-17.5", f"{task.answer} and more"):
            env.reset(options={"task_id": task.id})
            if task.grader["kind"] != "state":
                for turn in turns:
                    env.step(turn)
            assert not env.step(f"<answer>{wrong}</answer>")[4]["is_success"], task.id
    env.close()


# Changes


def changes(split: str = "valid") -> list[Task]:
    return [task for task in rows("shop", split) if task.grader["kind"] == "state"]


def test_saying_done_is_not_doing_it() -> None:
    env = make("shop", "valid")
    for task in changes():
        *turns, last = turns_of(task)
        env.reset(options={"task_id": task.id})
        assert not env.step(last)[4]["is_success"]
        for left_out in range(1, len(turns)):
            if "execute" not in turns[left_out]:
                continue
            env.reset(options={"task_id": task.id})
            for turn in (*turns[:left_out], *turns[left_out + 1 :]):
                env.step(turn)
            assert not env.step(last)[4]["is_success"], (task.id, left_out)
    env.close()


def test_a_change_too_many_fails() -> None:
    env = make("shop", "valid")
    for task in changes():
        names = names_of(task)
        products, customers = names["products"], names["customers"]
        for extra in (
            f"UPDATE {products} SET {products.stock} = {products.stock} + 1 WHERE {products.id} = 7",  # type: ignore[attr-defined]
            f"INSERT INTO {customers} ({customers.name}) VALUES ('Nobody')",  # type: ignore[attr-defined]
        ):
            env.reset(options={"task_id": task.id})
            for turn in turns_of(task)[:-1]:
                env.step(turn)
            _, _, _, _, info = env.step(render_call("execute", {"sql": extra}))
            assert info["tool_calls"][0]["ok"], info
            assert not env.step(f"<answer>{DONE}</answer>")[4]["is_success"], task.id
    env.close()


def test_a_change_by_other_statements_succeeds() -> None:
    env = mentor_gym.MentorToolEnv("shop", "train", max_turns=40)
    task = next(task for task in changes("train") if task.meta["kind"] == "set-price")
    assert task.state is not None
    products, slots = names_of(task)["products"], task.meta["slots"]
    env.reset(options={"task_id": task.id})
    env.step(render_call("execute", {"sql": f"UPDATE {products} SET {products.price} = 0"}))  # type: ignore[attr-defined]
    # All prices are lost; they are put back one by one from what the company has.
    for number, name, _, price, _ in make_company(task.state["company"], task.state["words"]).products:
        price = slots["price"] if name == slots["product"] else price
        sql = f"UPDATE {products} SET {products.price} = {price} WHERE {products.id} = {number}"  # type: ignore[attr-defined]
        assert not env.step(render_call("execute", {"sql": sql}))[2]
    assert env.step("<answer>ok</answer>")[4]["is_success"]


def test_questions_leave_the_database_alone() -> None:
    env = make("shop", "valid")
    task = next(
        task for task in rows("shop", "valid") if task.grader["kind"] != "state" and "execute" in task.tools
    )
    env.reset(options={"task_id": task.id})
    name = names_of(task)["customers"]
    info = env.step(render_call("execute", {"sql": f"DELETE FROM {name}"}))[4]
    assert info["messages"][0]["content"] == "error: execute: not authorized: nothing may be changed here"
    for turn in turns_of(task):
        info = env.step(turn)[4]
    assert info["is_success"]
    env.close()


# State in the middle of an episode


@pytest.mark.parametrize("suite", MODULES)
def test_clones_and_states_hold_at_every_turn(suite: str) -> None:
    split = "ood-kinds"
    env = mentor_gym.MentorToolEnv(suite, split)
    other = mentor_gym.MentorToolEnv(suite, split)
    for task in rows(suite, split)[::9]:
        turns = turns_of(task)
        for position in range(len(turns)):
            env.reset(options={"task_id": task.id})
            for turn in turns[:position]:
                env.step(turn)
            state = env.get_state()
            other.set_state(state)
            twin = env.clone()
            assert len(env._box.snapshot()) < 600
            # The clone fails in its own way; neither the original nor the restored one notices.
            twin.step(render_call("query", {"sql": "SELECT nothing"}))
            for turn in turns[position:]:
                expected, got = env.step(turn), other.step(turn)
                assert expected == got
                final = twin.step(turn)
                assert final[0] == expected[0]
            assert expected[4]["is_success"]
            assert final[4]["is_success"]
            twin.close()
    env.close()
    other.close()


def test_a_clone_after_a_change_goes_its_own_way() -> None:
    task = next(task for task in changes() if task.meta["kind"] == "delete-order")
    env = mentor_gym.MentorToolEnv("shop", "valid")
    env.reset(options={"task_id": task.id})
    schema, items, orders, answer = turns_of(task)
    env.step(schema)
    env.step(items)
    twin = env.clone()
    assert twin.get_state() == env.get_state()
    assert not twin.step(answer)[4]["is_success"]
    env.step(orders)
    assert env.step(answer)[4]["is_success"]


def test_episodes_leave_nothing_behind() -> None:
    env = mentor_gym.MentorToolEnv("shop", "valid")
    openings = []
    for task in changes()[:10] * 2:
        env.reset(options={"task_id": task.id})
        openings.append([env.step(turn)[0] for turn in turns_of(task)])
        box = env._box
        assert isinstance(box, SqlBox)
        assert box._connection is None
    assert openings[:10] == openings[10:]


# Answers, computed apart from SQL


def test_answers_of_shop_follow_from_its_companies() -> None:
    checked: Counter[str] = Counter()
    for split in shop.ROWS:
        for task in rows("shop", split):
            assert task.state is not None
            company = make_company(task.state["company"], task.state["words"])
            expected = expected_of_shop(task.meta["kind"], task.meta["slots"], company)
            if expected is None:
                continue
            checked[task.meta["kind"]] += 1
            if isinstance(expected, set):
                assert set(task.answer.split(", ")) == expected, task.id
            elif isinstance(expected, str):
                assert task.answer == expected, task.id
            else:
                assert float(task.answer) == pytest.approx(expected, abs=0.0051), task.id
    assert len(checked) >= 22
    assert sum(checked.values()) > 700


def expected_of_shop(kind: str, slots: dict[str, Any], company: Any) -> Any:
    customers = {row[0]: row for row in company.customers}
    products = {row[0]: row for row in company.products}
    orders = {row[0]: row for row in company.orders}
    branch = {row[1]: row[0] for row in company.branches}
    lines = [(orders[order], products[product], quantity) for order, product, quantity in company.items]
    customer = next((row for row in company.customers if row[1] == slots.get("customer")), None)
    category = [row for row in company.products if row[2] == slots.get("category")]
    staff = [row for row in company.staff if row[2] == branch.get(slots.get("place", ""))]
    match kind:
        case "customer-city":
            return customer[2]  # type: ignore[index]
        case "count-city":
            return sum(row[2] == slots["city"] for row in company.customers)
        case "count-month":
            return sum(row[3].startswith(slots["month"]) for row in company.orders)
        case "count-status":
            return sum(row[4] == slots["status"] and row[3] > slots["day"] for row in company.orders)
        case "count-dearer":
            return sum(row[3] > slots["n"] for row in company.products)
        case "list-cheaper":
            return {row[1] for row in category if row[3] < slots["n"]}
        case "dearest":
            return max(category, key=lambda row: row[3])[1]
        case "second-dearest":
            return sorted(category, key=lambda row: row[3])[-2][1]
        case "lowest-stock":
            return min(category, key=lambda row: row[4])[1]
        case "mean-price":
            return sum(row[3] for row in category) / len(category)
        case "orders-of":
            return sum(row[1] == customer[0] for row in company.orders)  # type: ignore[index]
        case "last-order":
            return max(row[3] for row in company.orders if row[1] == customer[0])  # type: ignore[index]
        case "staff-of":
            return {row[1] for row in staff}
        case "payroll":
            return sum(row[4] for row in staff)
        case "best-paid":
            return max(staff, key=lambda row: row[4])[1]
        case "sold-units":
            return sum(quantity for _, product, quantity in lines if product[1] == slots["product"])
        case "order-total":
            return sum(product[3] * quantity for order, product, quantity in lines if order[0] == slots["order"])
        case "bought-products":
            return {product[1] for order, product, _ in lines if order[1] == customer[0]}  # type: ignore[index]
        case "bought-units":
            return sum(
                quantity
                for order, product, quantity in lines
                if customers[order[1]][2] == slots["city"] and product[2] == slots["category"]
            )
        case "revenue":
            return sum(
                product[3] * quantity
                for order, product, quantity in lines
                if order[4] == slots["status"] and product[2] == slots["category"]
            )
        case "frequent":
            counts = Counter(row[1] for row in company.orders)
            return {customers[number][1] for number, count in counts.items() if count >= slots["n"]}
        case "best-seller":
            sold: Counter[str] = Counter()
            for order, product, quantity in lines:
                sold[product[1]] += quantity * order[3].startswith(slots["month"])
            return sold.most_common(1)[0][0]
        case "both":
            buyers = [
                {customers[order[1]][1] for order, product, _ in lines if product[1] == slots[slot]}
                for slot in ("product", "other")
            ]
            return buyers[0] & buyers[1]
        case "no-orders":
            ordered = {row[1] for row in company.orders}
            return sum(row[2] == slots["city"] and row[0] not in ordered for row in company.customers)
        case "mean-order":
            worth: Counter[int] = Counter()
            for order, product, quantity in lines:
                if order[4] == slots["status"]:
                    worth[order[0]] += product[3] * quantity  # type: ignore[assignment]
            return sum(worth.values()) / len(worth)
        case "branch-gap":
            counts = Counter(row[2] for row in company.orders)
            return counts[branch[slots["place"]]] - counts[branch[slots["other"]]]
    return None


def table() -> list[dict[str, str]]:
    with data_path("tables", "elements.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_database_of_elements_is_the_shipped_table() -> None:
    box = elements.elements_box()
    box.open(None)
    connection, guard = box._connected()
    guard.trusted = True
    found = connection.execute(
        "SELECT e.name, symbol, e.number, weight, period, group_no, block, s.name, density, discovered, melting, "
        "boiling FROM elements e JOIN series s ON s.id = e.series_id "
        "LEFT JOIN phases p ON p.number = e.number ORDER BY 3"
    ).fetchall()
    assert len(found) == 118
    for row, source in zip(found, table(), strict=True):
        for value, text in zip(row, source.values(), strict=True):
            if isinstance(value, int | float):
                assert value == float(text), source["name"]
            else:
                assert (value or "") == text, source["name"]


def test_answers_of_elements_follow_from_the_table() -> None:
    def number(row: dict[str, str], field: str) -> float | None:
        return float(row[field]) if row[field] else None

    data = table()
    by_name = {row["name"]: row for row in data}
    checked: Counter[str] = Counter()
    for split in elements.ROWS:
        for task in rows("elements", split):
            slots, kind = task.meta["slots"], task.meta["kind"]
            limit = slots.get("limit", 0)
            before = [row for row in data if int(row["atomic_number"]) < limit]
            block = [row for row in before if row["block"] == slots.get("block")]
            family = [row for row in before if row["series"] == slots.get("family")]
            expected: Any
            match kind:
                case "weight":
                    expected = float(by_name[slots["element"]]["atomic_weight"])
                case "symbol":
                    expected = next(row["name"] for row in data if row["symbol"] == slots["symbol"])
                case "count-known":
                    expected = sum(bool(row["density"]) for row in data if int(row["atomic_number"]) > limit)
                case "densest":
                    expected = max(block, key=lambda row: float(row["density"]))["name"]
                case "mean-weight":
                    expected = sum(float(row["atomic_weight"]) for row in block) / len(block)
                case "series-of":
                    expected = by_name[slots["element"]]["series"]
                case "count-series":
                    expected = len(family)
                case "mean-melting":
                    expected = sum(float(row["melting_point"]) for row in family) / len(family)
                case "highest-melting":
                    expected = max(family, key=lambda row: float(row["melting_point"]))["name"]
                case "melting-gap":
                    pair = (number(by_name[slots[slot]], "melting_point") for slot in ("element", "other"))
                    first, second = pair
                    assert first is not None and second is not None  # noqa: PT018
                    expected = first - second
                case "denser-than":
                    own = float(by_name[slots["element"]]["density"])
                    expected = sum(float(row["density"]) > own for row in data if row["density"])
                case "list-years":
                    years = range(slots["year"], slots["end"] + 1)
                    expected = {row["name"] for row in data if int(row["discovery_year"] or 0) in years}
                case _:
                    continue
            checked[kind] += 1
            if isinstance(expected, set):
                assert set(task.answer.split(", ")) == expected, task.id
            elif isinstance(expected, str):
                assert task.answer == expected, task.id
            else:
                assert float(task.answer) == pytest.approx(expected, abs=0.0051), task.id
    assert len(checked) == 12
    assert sum(checked.values()) > 600


OPTIONAL = {
    "density": "density",
    "discovered": "discovery_year",
    "melting": "melting_point",
    "boiling": "boiling_point",
}
SAYS_WHICH = re.compile(r"the database has|\bknown\b")


def asked_elements(task: Task) -> list[dict[str, str]]:
    """Return the elements whose values decide the answer."""
    slots, sql = task.meta["slots"], KINDS["elements"][task.meta["kind"]].ways[0][0]
    # An element that others are counted against does not make the set smaller.
    named = {slots[slot] for slot in ("element", "other") if slot in slots and "COUNT(" not in sql}
    return [
        row
        for row in table()
        if (not named or row["name"] in named)
        and ("block" not in slots or row["block"] == slots["block"])
        and ("family" not in slots or row["series"] == slots["family"])
        and ("limit" not in slots or int(row["atomic_number"]) < slots["limit"])
    ]


def test_no_missing_value_is_left_out_in_silence() -> None:
    silent: Counter[str] = Counter()
    said: Counter[str] = Counter()
    for split in elements.ROWS:
        for task in rows("elements", split):
            kind = task.meta["kind"]
            # It asks which values there are.
            if kind == "count-known":
                continue
            fields = [field for name, field in OPTIONAL.items() if name in KINDS["elements"][kind].ways[0][0]]
            if fields and SAYS_WHICH.search(task.prompt):
                said[kind] += 1
            elif fields:
                silent[kind] += 1
                for row in asked_elements(task):
                    assert all(row[field] for field in fields), (task.id, row["name"])
    assert set(silent) == {"densest", "melting", "liquid-range", "highest-melting", "mean-melting", "melting-gap"}
    assert not set(silent) & set(said)
    # Every wording of a kind says it, or none.
    for kind in KINDS["elements"].values():
        wordings = (*kind.wordings, *kind.valid_wordings, *kind.test_wordings)
        if kind.name != "count-known":
            assert {bool(SAYS_WHICH.search(text)) for text in wordings} == {kind.name in said}, kind.name
    for task in (task for split in elements.ROWS for task in rows("elements", split)):
        if task.meta["kind"] in ("densest", "highest-melting", "mean-melting"):
            assert len(asked_elements(task)) > 1, task.id


# Companies and parts


def test_companies_hold_together() -> None:
    for words in WORDS:
        for number in range(6):
            company = make_company(number, words)
            people = [row[1] for row in (*company.staff, *company.customers)]
            assert len(set(people)) == len(people)
            assert [row[0] for row in company.orders] == list(range(1, 65))
            assert {item[0] for item in company.items} == set(range(1, 65))
            days = [row[3] for row in company.orders]
            assert days == sorted(days)
            assert len({item[:2] for item in company.items}) == len(company.items)
            assert all(row[3] == round(row[3], 2) for row in company.products)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_has_the_same_rows(style: str) -> None:
    box = shop.shop_box()
    box.open({"company": 3, "words": "common", "style": style})
    connection, guard = box._connected()
    guard.trusted = True
    company = make_company(3, "common")
    for table_, name in table_names(style).items():
        cursor = connection.execute(f"SELECT * FROM {name}")
        assert [column[0] for column in cursor.description] == [
            getattr(name, column) for column in COLUMNS[table_]
        ]
        assert sorted(cursor.fetchall()) == sorted(getattr(company, table_))
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert box.schema().count("->") == 5


def test_rows_are_read_from_the_text() -> None:
    assert read_rows(f"name\n{NO_ROWS}") == []
    assert read_rows('a, b\n["x", null]\n[1, 2.5]') == [["x", None], [1, 2.5]]
    for cut in (f"n\n[1]\n{CUT_MARK}", 'n\n["abc …[cut]'):
        with pytest.raises(PlanFailed):
            read_rows(cut)


def test_plans_fail_loudly() -> None:
    box = SqlBox()
    state = {"script": "CREATE TABLE pets (name TEXT, age INT); INSERT INTO pets VALUES ('Rex', 4), ('Tom', 5)"}
    with pytest.raises(PlanFailed, match="no such column"):
        play(box, state, ["SELECT nme FROM pets"])
    with pytest.raises(PlanFailed, match="found nothing"):
        play(box, state, ["SELECT name FROM pets WHERE age = 9", "SELECT age FROM pets WHERE name = {result}"])
    steps, found = play(
        box, state, ["SELECT name FROM pets", "SELECT SUM(age) FROM pets WHERE name IN ({result})"]
    )
    assert steps[-1][1] == {"sql": "SELECT SUM(age) FROM pets WHERE name IN ('Rex', 'Tom')"}
    assert found == [[9]]


PETS = {
    "script": "CREATE TABLE pets (name TEXT, age INT); INSERT INTO pets VALUES ('Rex', 4), ('Tom', 5), ('Ivy', 5)",
    "writable": ["pets"],
}


REX = "SELECT name FROM pets WHERE age = 4"
OLD = "SELECT name FROM pets WHERE age = 5"
AGES = "SELECT age FROM pets ORDER BY 1"
GROW = "UPDATE pets SET age = 6"


@pytest.mark.parametrize(
    ("answer", "ways_", "ranked", "is_good"),
    [
        ("text", [[REX], ["SELECT MAX(name) FROM pets WHERE age < 5"]], "", True),
        ("text", [[REX], ["SELECT MAX(name) FROM pets"]], "", False),
        ("text", [[OLD]], "", False),
        ("text", [["SELECT name FROM pets WHERE age = 9"]], "", False),
        ("text", [["SELECT name FROM pets ORDER BY age LIMIT 1"]], AGES, True),
        ("text", [["SELECT name FROM pets ORDER BY age DESC LIMIT 1"]], f"{AGES} DESC", False),
        ("number", [["SELECT COUNT(*) FROM pets WHERE age = 5"]], "", True),
        ("number", [["SELECT COUNT(*) FROM pets WHERE age = 9"]], "", False),
        ("number", [["SELECT MAX(age) FROM pets WHERE age = 9"]], "", False),
        ("number", [["SELECT nothing"]], "", False),
        ("set", [[OLD], [f"{OLD} ORDER BY name"]], "", True),
        ("set", [[OLD], ["SELECT name FROM pets"]], "", False),
        ("set", [[REX]], "", False),
        ("set", [["SELECT a.name FROM pets a, pets b"]], "", False),
        ("state", [[f"{GROW} WHERE age = 4"], [f"{GROW} WHERE age < 5"]], "", True),
        ("state", [[f"{GROW} WHERE age = 4"], [GROW]], "", False),
        ("state", [[f"{GROW} WHERE age = 9"]], "", False),
        ("state", [[GROW, "DELETE FROM pets WHERE age = 9"]], "", False),
        ("state", [["UPDATE pets SET age = 4 WHERE age = 4"]], "", False),
    ],
)
def test_only_tasks_with_one_answer_are_made(answer: str, ways_: Any, ranked: str, is_good: bool) -> None:
    kind = SqlKind("pets", answer, lambda choice: {}, ways_, (), (), (), ranked)
    row = {"id": "1", "suite": "pets", "split": "train"}
    task = make_task(kind, {}, {}, SqlBox(), PETS, "what is it?", random.Random(0), row)
    assert (task is not None) == is_good


def test_graders_take_what_people_write() -> None:
    for task in rows("shop", "valid"):
        if task.grader["kind"] == "set":
            names = task.answer.split(", ")
            assert grade(",".join(reversed(names)), task.answer, task.grader)
            assert not grade(", ".join(names[1:]), task.answer, task.grader)
