"""The code suite: rows, splits, teachers, every way to solve a task, and what is saved of one."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter

import gymnasium as gym
import msgspec
import pytest

import mentor_gym
from mentor_gym.data import REBUILD_SEED, data_path
from mentor_gym.grading import grade
from mentor_gym.protocol import render_call, render_message, to_json
from mentor_gym.rewards import make_reward
from mentor_gym.suites import code
from mentor_gym.suites.code_kinds import KINDS, OOD_KINDS
from mentor_gym.testing import check_suite
from mentor_gym.tools.code import UNDONE
from mentor_gym.tools.monty_worker import find_monty

SPLITS = {"train": 1200, "valid": 150, "test": 150, "ood-kinds": 150}
KIND = {kind.name: kind for kind in (*KINDS, *OOD_KINDS)}


@pytest.fixture(scope="module")
def suite():
    return code.build()


def rows(suite, split):
    return list(suite.tasks(split))


def make(split, **kwargs):
    return gym.make("MentorTool-v0", suite="code", split=split, disable_env_checker=True, **kwargs)


def all_slots(task):
    return {**task.meta["slots"], **(task.state or {}).get("variables", {})}


def turns_of(task):
    return [render_message(message) for message in task.teacher if message["role"] == "assistant"]


needs_monty = pytest.mark.skipif(find_monty() is None, reason="Monty is not installed")


# Rows


def test_splits_have_their_rows_and_kinds(suite):
    assert suite.splits == tuple(SPLITS)
    for split, size in SPLITS.items():
        tasks = rows(suite, split)
        kinds = OOD_KINDS if split == "ood-kinds" else KINDS
        assert [task.id for task in tasks] == [f"code-{split}-{i:05d}" for i in range(size)]
        assert {task.meta["kind"] for task in tasks} == {kind.name for kind in kinds}
        assert {task.meta["calls"] for task in tasks} == {1, 2}
        assert all(task.tools == ["python"] for task in tasks)
        assert all(task.meta["paths"] == len(KIND[task.meta["kind"]].ways) >= 2 for task in tasks)
    assert not {kind.name for kind in KINDS} & {kind.name for kind in OOD_KINDS}
    assert len(KINDS) >= 25
    assert sum(path.stat().st_size for path in data_path("code").glob("*.jsonl")) < 2_000_000


@needs_monty
@pytest.mark.parametrize("split", SPLITS)
def test_generation_gives_the_shipped_rows(split):
    shipped = data_path("code", f"{split}.jsonl").read_bytes().splitlines()[:60]
    assert [msgspec.json.encode(task) for task in code.generate(split, REBUILD_SEED, rows=60)] == shipped


@needs_monty
def test_generation_does_not_depend_on_the_hash_seed():
    script = (
        "import msgspec, hashlib; from mentor_gym.suites.code import generate;"
        "print(hashlib.sha256(msgspec.json.encode(generate('train', 5, 60))).hexdigest())"
    )
    digest = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert digest.strip() == hashlib.sha256(msgspec.json.encode(code.generate("train", 5, 60))).hexdigest()
    assert code.generate("train", 5, 30) != code.generate("train", 6, 30)


def test_no_question_stands_in_two_splits(suite):
    questions = [(task.prompt, to_json(task.state)) for split in SPLITS for task in rows(suite, split)]
    assert len(set(questions)) == len(questions)
    values = {
        split: {(task.meta["kind"], to_json(all_slots(task))) for task in rows(suite, split)} for split in SPLITS
    }
    for a, b in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not values[a] & values[b]


def pattern(wording):
    """Return what a wording can be written as."""

    def literal(text):
        return re.sub(r"\\\{\w+\\\}", "(?:.|\n)+", re.escape(text))

    written = ""
    for part in re.split(r"(\[[^\]]*\])", wording):
        if part.startswith("["):
            written += f"(?:{'|'.join(literal(option) for option in part[1:-1].split('|'))})"
        else:
            written += literal(part)
    return re.compile(written)


def test_wordings_of_a_split_are_its_own(suite):
    own = {
        split: {kind.name: [pattern(wording) for wording in wordings(kind)] for kind in KINDS}
        for split, wordings in (
            ("train", lambda kind: kind.wordings),
            ("valid", lambda kind: kind.valid_wordings),
            ("test", lambda kind: kind.test_wordings),
        )
    }
    for split in own:
        for task in rows(suite, split)[:300]:
            fits = {
                other: any(wording.fullmatch(task.prompt) for wording in wordings[task.meta["kind"]])
                for other, wordings in own.items()
            }
            assert [other for other in own if fits[other]] == [split], task.prompt
    for kind in KINDS:
        assert len(kind.wordings) >= 3, kind.name
        assert kind.valid_wordings, kind.name
        assert kind.test_wordings, kind.name
    assert all(len(kind.wordings) >= 2 and not kind.test_wordings for kind in OOD_KINDS)


def test_prompts_show_every_value_that_a_program_needs(suite):
    for split in SPLITS:
        for task in rows(suite, split):
            assert not re.search(r"[{}\[\]]", task.prompt), task.prompt
            for name in (task.state or {}).get("variables", {}):
                assert re.search(rf"\b{name}\b", task.prompt), task.id


# Answers


def test_answers_follow_from_the_slots(suite):
    """The answer is computed in plain Python, apart from the programs; and is right for its grader alone."""
    for split in SPLITS:
        for task in rows(suite, split):
            assert KIND[task.meta["kind"]].solve(all_slots(task)) == task.answer, task.id
            assert grade(task.answer, task.answer, task.grader)
            assert not grade(f"{task.answer}1", task.answer, task.grader)


@pytest.mark.parametrize(
    ("kind", "slots", "answer"),
    [
        ("weekday", {"d": "2000-01-01"}, "Saturday"),
        ("days-between", {"a": "2024-02-28", "b": "2024-03-01"}, "2"),
        ("date-after", {"d": "2023-12-31", "n": 60}, "2024-02-29"),
        ("weekday-count", {"day": "Thursday", "month": "February", "number": 2, "year": 2024}, "5"),
        ("leap-years", {"a": 1896, "b": 1904}, "2"),
        ("friday-13th", {"day": "Friday", "n": 13, "year": 2026}, "3"),
        ("clock", {"start": "22:47", "h": 5, "m": 38}, "04:25"),
        ("letter-count", {"text": "banana apple", "letter": "a"}, "4"),
        ("common-letter", {"text": "bottle letter"}, "t"),
        ("caesar", {"word": "dssoh", "n": 3}, "apple"),
        ("reverse-words", {"text": "abc de"}, "cba ed"),
        ("sorted-word", {"words": ["b", "c", "a"], "k": 3}, "c"),
        ("base", {"n": 255, "base": 2}, "11111111"),
        ("digit-sum", {"a": 2, "n": 10}, "7"),
        ("digits-with-sum", {"a": 10, "b": 50, "s": 5}, "5"),
        ("primes-between", {"a": 10, "b": 31}, "7"),
        ("divisor-sum", {"n": 28}, "56"),
        ("recurrence", {"x": 0, "y": 1, "p": 1, "q": 1, "n": 11}, "55"),
        ("last-digits", {"a": 7, "n": 4, "d": 3}, "401"),
        ("arrangements", {"word": "abba"}, "6"),
        ("coin-ways", {"coins": [1, 2, 5], "amount": 10}, "10"),
        ("dice", {"n": 2, "faces": 6, "s": 7}, "6"),
        ("subset-sum", {"numbers": [1, 2, 3, 4, 5], "k": 2, "s": 6}, "2"),
        ("table-total", {"rows": [["A", "east", 5], ["B", "west", 7], ["C", "east", 6]], "region": "east"}, "11"),
        ("table-mean", {"sales": [["A", "e", 5], ["B", "e", 6], ["C", "e", 6]], "region": "e"}, "5.67"),
        ("table-top", {"sales": [["A", "east", 5], ["B", "east", 7], ["A", "west", 3]]}, "A"),
        ("table-median", {"scores": [5, 1, 4, 2]}, "3.0"),
        ("table-rank", {"scores": {"A": 5, "B": 9, "C": 7}, "k": 2}, "C"),
        ("table-count", {"scores": {"A": 5, "B": 9, "C": 7}, "low": 5, "high": 7}, "2"),
        ("roman", {"text": "MCMXCIV", "n": 1994}, "1994"),
        ("collatz", {"n": 6}, "8"),
        ("grid-paths", {"w": 2, "h": 2, "x": 1, "y": 1}, "2"),
        ("run-length", {"text": "aab"}, "a2b1"),
        ("nth-weekday", {"day": "Monday", "number": 5, "year": 2026, "k": 0}, "2026-05-04"),
        ("table-join", {"prices": {"tea": 3}, "orders": [["A", "tea", 2], ["B", "tea", 9]], "name": "A"}, "6"),
    ],
)  # fmt: skip
@needs_monty
def test_known_answers(kind, slots, answer):
    """By hand or from a calendar: the plain answer, and every way's program."""
    assert KIND[kind].solve(slots) == answer
    state = {"variables": {name: slots[name] for name in KIND[kind].variables}}
    for programs in code.programs_of(KIND[kind], slots):
        assert code.run(programs, state)[-1][2] == answer


def test_known_answers_cover_every_kind():
    (mark,) = [mark for mark in test_known_answers.pytestmark if mark.name == "parametrize"]
    assert [kind for kind, _, _ in mark.args[1]] == list(KIND)


# Every teacher trace, and every other way


@needs_monty
@pytest.mark.parametrize("split", SPLITS)
def test_teacher_replays_to_the_full_reward(split):
    """Of `mentor`, which is paid, and of `strict`, which reads the same transcript."""
    strict = make_reward("strict")
    env = make(split, reward="mentor")
    for task in env.unwrapped.tasks:
        env.reset(options={"task_id": task.id})
        outputs = [message["content"] for message in task.teacher if message["role"] == "tool"]
        total = 0.0
        for position, turn in enumerate(turns_of(task)):
            _, paid, terminated, truncated, info = env.step(turn)
            total += paid
            if not terminated:
                assert info["messages"][0]["content"] == outputs[position], task.id
        assert terminated, task.id
        assert not truncated, task.id
        assert info["is_success"], task.id
        assert total == pytest.approx(1.1), task.id
        assert sum(strict(env.unwrapped.transcript).values()) == pytest.approx(1.1), task.id
    env.close()


@needs_monty
@pytest.mark.parametrize("split", SPLITS)
def test_every_way_prints_the_answer(suite, split):
    env = make(split, reward=None)
    for task in rows(suite, split)[:240]:
        found = code.ways(task)
        assert len(set(found)) == task.meta["paths"]
        teacher = [c["function"]["arguments"] for m in task.teacher for c in m.get("tool_calls") or ()]
        assert [to_json({"code": program}) for program in found[0]] == teacher
        for programs in found:
            env.reset(options={"task_id": task.id})
            for program in programs:
                *_, info = env.step(render_call("python", {"code": program}))
                assert info["tool_calls"][0]["ok"]
            assert info["messages"][0]["content"] == task.answer, task.id
            *_, info = env.step(f"<answer>{task.answer}</answer>")
            assert info["is_success"]
    env.close()


def test_teachers_take_different_ways(suite):
    ways = Counter((task.meta["kind"], task.meta["way"]) for task in rows(suite, "train"))
    for kind in KINDS:
        assert all(ways[kind.name, way] >= 3 for way in range(len(kind.ways))), kind.name


def test_programs_are_short(suite):
    for task in rows(suite, "train"):
        for programs in code.ways(task):
            assert max(map(len, programs)) < 700


# State, in the middle of an episode


@needs_monty
def test_clone_at_every_turn_has_the_same_future(suite):
    env = make("train", reward="mentor")
    tasks = [task for task in rows(suite, "train") if task.meta["calls"] == 2]
    tasks += rows(suite, "train")[:30]
    for task in tasks[:60]:
        turns = [*turns_of(task)]
        turns.insert(1, render_call("python", {"code": "answer = 1\nprint(sorted([3, 1, 2]), id([]))\n1 / 0"}))
        turns.insert(1, render_call("python", {"code": "import random\nprint(random.random(), iter([1]))"}))
        env.reset(options={"task_id": task.id})
        for position in range(len(turns)):
            twin = env.unwrapped.clone()
            other = mentor_gym.MentorToolEnv("code", split="train")
            other.set_state(env.unwrapped.get_state())
            futures = [[copy.step(turn)[0] for turn in turns[position:]] for copy in (twin, other)]
            assert futures[0] == futures[1]
            assert twin.transcript.is_success
            assert twin.get_state() == other.get_state()
            observation = env.step(turns[position])[0]
            assert observation == futures[0][0]
        twin.close()
        other.close()
    env.close()


@needs_monty
def test_state_is_small_and_holds_the_programs():
    env = make("train", reward=None)
    env.reset(seed=0)
    env.step(render_call("python", {"code": "xs = list(range(10 ** 5))"}))
    state = env.unwrapped.get_state()
    assert len(state) < 20_000
    env.step(render_call("python", {"code": "xs.append(7)"}))
    env.unwrapped.set_state(state)
    observation, *_ = env.step(render_call("python", {"code": "print(len(xs), xs[-1])"}))
    assert "100000 99999" in observation
    env.close()


@needs_monty
def test_environments_do_not_share_variables():
    envs = [make("train", reward=None) for _ in range(3)]
    for number, env in enumerate(envs):
        env.reset(seed=number)
        env.step(render_call("python", {"code": f"mine = {number}"}))
    for number, env in enumerate(envs):
        observation, *_ = env.step(render_call("python", {"code": "print(mine * 11)"}))
        assert observation == f"<tool_response>{number * 11}</tool_response>"
    envs[0].reset(seed=0)
    observation, *_ = envs[0].step(render_call("python", {"code": "print(mine)"}))
    assert "NameError" in observation
    assert UNDONE in observation


@needs_monty
def test_row36_vector_with_workers_beside_a_live_interpreter():
    """The workers are forked when this process has one; they start their own, and print the same texts."""
    env = make("train", reward=None)
    env.reset(seed=0)
    env.step(render_call("python", {"code": "x = 1"}))
    actions = [render_call("python", {"code": f"y = {n}\nprint(y, id([]))"}) for n in range(4)]
    texts = []
    for workers in (0, 2):
        vector = mentor_gym.MentorToolVectorEnv(4, suite="code", split="train", num_workers=workers)
        opening, _ = vector.reset(seed=0)
        texts.append((opening, vector.step(actions)[0]))
        vector.close()
    assert texts[0] == texts[1]
    assert texts[0][1][3] == "<tool_response>3 48</tool_response>"
    observation, *_ = env.step(render_call("python", {"code": "print(x)"}))
    assert observation == "<tool_response>1</tool_response>"
    env.close()


@needs_monty
def test_answer_and_teacher_stay_out_of_the_interpreter(suite):
    """Every name that a program could find is a variable of the task; none is the answer's."""
    for task in rows(suite, "train")[:200]:
        known = set((task.state or {}).get("variables", {}))
        assert known <= {"sales", "scores", "prices", "orders"}
        assert set(task.state or {}) <= {"variables"}


@needs_monty
def test_suite_conforms(suite):
    check_suite(suite)
