"""Recording teachers from an endpoint: a real HTTP server on loopback plays the teachers, and every fault."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import NAMES, answer, row, teacher, write_suite
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from stub_endpoint import (
    HANG,
    NO_CHOICES,
    NOT_JSON,
    RATE_LIMIT,
    RESET,
    SERVER_ERROR,
    TRICKLE,
    Oracle,
    StubEndpoint,
    calls,
    completion,
    says,
)

from agents.config import ConfigError, load_training_suite
from mentor_gym import MentorToolEnv, suites
from mentor_gym.cli import main
from mentor_gym.curation import read_source
from mentor_gym.data import DataError, load_tasks
from mentor_gym.protocol import MAX_ACTION_CHARS, parse_action, render_message
from mentor_gym.recording import SYSTEM_PROMPT, Endpoint, EndpointError, RecordError, record
from mentor_gym.recording.client import _retry_after
from mentor_gym.recording.episode import read_message
from mentor_gym.recording.record import _check_folder
from mentor_gym.suites import Suite, load_suite
from mentor_gym.tools.base import ToolBox

POWER = ("power", '{"base": 3, "exponent": 2}')
TIMES = ("multiply", '{"a": 2, "b": 9}')


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """No proxy stands between the test and loopback, and no key of the user's is sent."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "OPENAI_API_KEY":
            monkeypatch.delenv(name)


def endpoint(stub, **settings):
    """An endpoint whose waits are short."""
    return Endpoint(
        **{"base_url": stub.base_url, "model": "stub", "backoff_s": 0.01, "max_wait_s": 0.05} | settings
    )


def scripted(*answers):
    """A server's reply that gives these answers, one after the other and the last one for ever."""
    lock, left = threading.Lock(), list(answers)

    def reply(body):
        with lock:
            item = left.pop(0) if len(left) > 1 else left[0]
        return completion(item) if isinstance(item, dict) and "role" in item else item

    return reply


@pytest.fixture
def one(tmp_path_factory):
    """A suite of one task: two times the square of three."""
    return write_suite(tmp_path_factory.mktemp("one"), [row("both")])


@pytest.fixture
def three(tmp_path_factory):
    """A suite of three tasks with the same teacher and prompts of their own."""
    return write_suite(
        tmp_path_factory.mktemp("three"), [row(f"t{i}", prompt=f"Number {i}: 2 * 3 ** 2?") for i in range(3)]
    )


@pytest.fixture
def exam(tmp_path_factory, monkeypatch):
    """The name of a suite for evaluation only that is registered beside those that need an extra."""
    own = load_suite(write_suite(tmp_path_factory.mktemp("exam"), [row("both", suite="exam")]))
    files = {"train": tmp_path_factory.getbasetemp() / "exam.jsonl"}
    files["train"].write_text(json.dumps(row("both", suite="exam")) + "\n")
    module = types.ModuleType("exam_suite")
    module.build = lambda: Suite("exam", ("train",), own.make_box, files, evaluation_only=True)
    monkeypatch.setitem(sys.modules, "exam_suite", module)
    monkeypatch.setitem(suites._MODULES, "exam", "exam_suite")
    yield "exam"
    suites._load.cache_clear()


def tasks_of(suite, split=None):
    suite = load_suite(suite)
    return list(suite.tasks(split or suite.splits[0]))


def attempts_of(folder):
    return [json.loads(line) for line in Path(folder, "attempts.jsonl").read_text().splitlines()]


def without_ids(attempts):
    return sorted(json.dumps(attempt, sort_keys=True) for attempt in attempts)


# From end to end


@pytest.mark.parametrize(("suite", "split"), [("math", "test"), ("facts", "valid")])
def test_the_oracle_is_kept_whole_and_replays(suite, split, tmp_path):
    tasks = tasks_of(suite, split)
    seen = []
    with StubEndpoint(Oracle(tasks)) as stub:
        done = record(
            endpoint(stub), tmp_path, suite, split, tasks=40, progress=lambda p: seen.append((p.finished, p.kept))
        )
    rows = load_tasks(done.rows, suite, split, load_suite(suite).box.tools)
    by_id = {task.id: task for task in tasks}
    assert len(rows) == done.progress.kept == 40
    assert [item.id for item in rows] == [task.id for task in tasks if task.id in {item.id for item in rows}]
    for item in rows:
        assert item.teacher == by_id[item.id].teacher
        assert item.meta == {**by_id[item.id].meta, "model": "stub", "attempt": 1, "is_success": True}
    assert seen[0] == (0, 0)
    assert seen[-1] == (40, 40)
    assert len(seen) == 41
    requests = sum(len(item.teacher) // 2 + 1 for item in rows)
    assert done.progress.requests == len(stub.requests) == requests
    assert done.progress.prompt_tokens == 100 * requests
    assert done.progress.completion_tokens == 10 * requests
    # The folder is a suite itself, and its teachers succeed in it.
    env = MentorToolEnv(str(done.suite))
    for item in env.tasks:
        env.reset(options={"task_id": item.id})
        for message in item.teacher:
            if message["role"] == "assistant":
                env.step(render_message(message))
        assert env.transcript.is_success


def test_what_is_sent(one, tmp_path):
    with StubEndpoint(scripted(calls(POWER, TIMES, content="First the square."), says(answer(18)))) as stub:
        settings = endpoint(
            stub, temperature=0.5, max_tokens=99, seed=7, extra_body={"top_p": 0.9, "temperature": 0.6}
        )
        done = record(settings, tmp_path / "out", one)
    first, second = stub.requests
    task = tasks_of(one)[0]
    assert first == {
        "model": "stub",
        "messages": [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": task.prompt}],
        "tools": [load_suite(one).box.tools[name].schema for name in task.tools],
        "temperature": 0.6,
        "max_tokens": 99,
        "seed": 7,
        "top_p": 0.9,
    }
    assert second["messages"][2:] == [
        calls(POWER, TIMES, content="First the square."),
        {"role": "tool", "tool_call_id": "id0", "content": "9"},
        {"role": "tool", "tool_call_id": "id1", "content": "18"},
    ]
    (item,) = load_tasks(done.rows, "shop", "train", load_suite(one).box.tools)
    assert [call["id"] for call in item.teacher[0]["tool_calls"]] == ["call_1", "call_2"]
    assert item.teacher[0]["content"] == "First the square."
    assert item.meta["calls"] == 2
    assert stub.paths == ["/v1/chat/completions"] * 2
    assert "authorization" not in stub.headers[0]


def test_no_system_message_when_it_is_empty_and_a_seed_for_every_try(one, tmp_path):
    with StubEndpoint(scripted(says(answer(17)), says("I give up."), says(answer(18)))) as stub:
        done = record(endpoint(stub, seed=7), tmp_path / "out", one, tries=5, system="")
    assert [body["messages"] for body in stub.requests] == [
        [{"role": "user", "content": tasks_of(one)[0].prompt}]
    ] * 3
    assert [body["seed"] for body in stub.requests] == [7, 8, 9]
    assert set(stub.requests[0]) == {"model", "messages", "tools", "seed"}
    assert done.progress.outcomes == {"wrong": 1, "no_answer": 1, "correct": 1}
    assert [item.meta["attempt"] for item in load_suite(str(done.suite)).tasks("train")] == [3]


def test_what_is_kept(three, tmp_path):
    right, wrong = says(answer(18)), says(answer(17))

    def reply(body):
        number = int(body["messages"][-1]["content"].split()[1][0])
        return completion([wrong, right][number == 1 or body["seed"] % 2])

    def rows(name, **settings):
        with StubEndpoint(reply) as stub:
            done = record(endpoint(stub, seed=0), tmp_path / name, three, **settings)
        return [
            (item.id, item.meta["attempt"], item.meta["is_success"])
            for item in load_tasks(done.rows, "shop", "train", load_suite(three).box.tools)
        ]

    assert rows("a", tries=3) == [("t0", 2, True), ("t1", 1, True), ("t2", 2, True)]
    assert rows("b", tries=2, every_try=True) == [
        ("t0", 2, True),
        ("t1", 1, True),
        ("t1~2", 2, True),
        ("t2", 2, True),
    ]
    assert rows("c", tries=2, keep_correct=False) == [("t0", 1, False), ("t1", 1, True), ("t2", 1, False)]
    # Other rules over the same attempts: none is made again, and only those that the rule misses are made.
    before = len(attempts_of(tmp_path / "a"))
    assert rows("a", tries=3, every_try=True, keep_correct=False)[:3] == [
        ("t0", 1, False),
        ("t0~2", 2, True),
        ("t0~3", 3, False),
    ]
    assert before == 5
    assert len(attempts_of(tmp_path / "a")) == 9
    # And back: the first that is correct, although more of them are there.
    assert rows("a", tries=3) == [("t0", 2, True), ("t1", 1, True), ("t2", 2, True)]


# Going on


def test_interrupted_by_ctrl_c_and_gone_on_with_is_the_same_as_uninterrupted(tmp_path):
    tasks = tasks_of("math", "test")[:30]
    chosen = {"suite": "math", "split": "test", "task_ids": [task.id for task in tasks], "concurrency": 4}
    with StubEndpoint(Oracle(tasks)) as stub:
        whole = record(endpoint(stub), tmp_path / "whole", **chosen)
    oracle = Oracle(tasks)

    def reply(body):
        if len(stub.requests) == 40:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        return oracle(body)

    with StubEndpoint(reply) as stub:
        with pytest.raises(KeyboardInterrupt):
            record(endpoint(stub), tmp_path / "parts", **chosen)
        first = attempts_of(tmp_path / "parts")
        assert 5 < len(first) < 30
        # What was recorded is there already.
        kept = load_tasks(tmp_path / "parts" / "test.jsonl", "math", "test", load_suite("math").box.tools)
        assert {item.id for item in kept} == {attempt["task_id"] for attempt in first}
        parts = record(endpoint(stub), tmp_path / "parts", **chosen)
    assert parts.rows.read_bytes() == whole.rows.read_bytes()
    assert without_ids(attempts_of(tmp_path / "parts")) == without_ids(attempts_of(tmp_path / "whole"))
    assert parts.progress == whole.progress
    # Only what was under way was asked for twice.
    openings = Counter(body["messages"][1]["content"] for body in stub.requests if len(body["messages"]) == 2)
    assert set(openings) == {task.prompt for task in tasks}
    assert sum(openings.values()) - 30 <= 4


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_torn_last_line_is_made_again(cut, three, tmp_path):
    with StubEndpoint(scripted(says(answer(18)))) as stub:
        done = record(endpoint(stub), tmp_path / "out", three, concurrency=1)
        rows, journal = done.rows.read_bytes(), tmp_path / "out" / "attempts.jsonl"
        content = journal.read_bytes()
        last = content[:-1].rfind(b"\n") + 1
        journal.write_bytes(content[: last + cut] if cut > 0 else content[:-1])
        done.rows.unlink()
        again = record(endpoint(stub), tmp_path / "out", three, concurrency=1)
    assert again.rows.read_bytes() == rows
    assert journal.read_bytes() == content
    assert len(stub.requests) == 4


def test_a_broken_line_in_the_middle_is_an_error_with_its_number(three, tmp_path):
    with StubEndpoint(scripted(says(answer(18)))) as stub:
        record(endpoint(stub), tmp_path, three)
        lines = (tmp_path / "attempts.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / "attempts.jsonl").write_text(lines[0] + "{}\n" + lines[2])
        with pytest.raises(DataError, match=r"attempts\.jsonl, line 2: not an attempt.*task_id"):
            record(endpoint(stub), tmp_path, three)


def test_more_tasks_contain_fewer(tmp_path):
    tasks = tasks_of("math", "test")
    with StubEndpoint(Oracle(tasks)) as stub:
        record(endpoint(stub, seed=3), tmp_path, "math", "test", tasks=5)
        done = record(endpoint(stub, seed=3), tmp_path, "math", "test", tasks=9)
    assert done.progress.kept == 9
    assert len(attempts_of(tmp_path)) == 9


def test_a_changed_task_is_played_again_and_others_are_not(tmp_path):
    suite = write_suite(tmp_path / "suite", [row("a", prompt="A?"), row("b", prompt="B?")])
    with StubEndpoint(scripted(says(answer(18)))) as stub:
        record(endpoint(stub), tmp_path / "out", suite)
        changed = write_suite(tmp_path / "changed", [row("a", prompt="A?"), row("b", prompt="Other?")])
        done = record(endpoint(stub), tmp_path / "out", changed)
    assert stub.requests[-1]["messages"][1]["content"] == "Other?"
    assert len(stub.requests) == 3
    assert done.progress.kept == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 1.0}, "recorded with temperature null, not 1.0"),
        ({"model": "other"}, 'recorded with model "stub", not "other"'),
        ({"extra_body": {"top_p": 1}}, "recorded with extra_body"),
    ],
)
def test_a_folder_holds_attempts_of_one_kind(settings, message, one, tmp_path):
    with StubEndpoint(scripted(says(answer(18)))) as stub:
        record(endpoint(stub), tmp_path / "out", one)
        with pytest.raises(RecordError, match=message):
            record(endpoint(stub, **settings), tmp_path / "out", one)
        with pytest.raises(RecordError, match="recorded with max_turns 8, not 3"):
            record(endpoint(stub), tmp_path / "out", one, max_turns=3)
    assert len(stub.requests) == 1


def test_two_runs_do_not_write_to_one_folder(one, tmp_path):
    with (tmp_path / "attempts.jsonl").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RecordError, match="another run is writing"):
            record(Endpoint("http://127.0.0.1:9", "m"), tmp_path, one)


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json", "attempts.jsonl"])
def test_files_of_others_are_not_touched(name, one, tmp_path):
    (tmp_path / "train.jsonl").write_text("mine")
    (tmp_path / name).write_text("{}")
    with pytest.raises(RecordError, match="holds other files"):
        record(Endpoint("http://127.0.0.1:9", "m"), tmp_path, one)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"train.jsonl": "mine", name: "{}"}


def test_a_recording_is_not_recorded_into_itself(one, tmp_path):
    with StubEndpoint(scripted(says(answer(18)))) as stub:
        done = record(endpoint(stub), tmp_path / "out", one)
        with pytest.raises(RecordError, match="holds the suite that is to be recorded"):
            record(endpoint(stub), tmp_path / "out", str(done.suite))


# Suites that need an extra, and benchmarks


def test_a_recorded_benchmark_can_be_loaded_and_keeps_its_mark(exam, tmp_path):
    with StubEndpoint(scripted(calls(POWER, TIMES), says(answer(18)))) as stub:
        done = record(endpoint(stub), tmp_path / "out", exam)
    suite = load_suite(str(done.suite))
    assert (suite.name, suite.evaluation_only, suite.tasks("train").ids) == ("exam", True, ["both"])
    assert main(["data", "validate", str(done.suite)]) == 0
    with pytest.raises(ConfigError, match="is a benchmark, for evaluation only"):
        load_training_suite(str(done.suite), allowed=False)
    # So does a recording of the recording, and the rows alone say it by their suite's name.
    with StubEndpoint(scripted(says(answer(18)))) as stub:
        again = record(endpoint(stub), tmp_path / "again", str(done.suite))
    assert load_suite(str(again.suite)).evaluation_only
    alone = tmp_path / "alone.jsonl"
    alone.write_bytes(done.rows.read_bytes())
    assert read_source(alone).evaluation_only
    with StubEndpoint(scripted(says(answer(18)))) as stub:
        ours = record(endpoint(stub), tmp_path / "math", "math", tasks=1)
    assert "evaluation_only" not in ours.suite.read_text()


@pytest.mark.parametrize("name", sorted(suites.EXTRA_SUITES))
def test_a_name_is_no_path_into_the_folder(name, tmp_path, monkeypatch):
    # With the working directory as the folder: a name taken for a path would lie in it.
    monkeypatch.chdir(tmp_path)
    _check_folder(Path.cwd(), name)
    with pytest.raises(RecordError, match="holds the suite that is to be recorded"):
        _check_folder(Path.cwd(), "suite.yaml")


# Where tools are called


def test_tools_run_in_the_thread_of_the_caller(tmp_path):
    tools = '''
import asyncio, threading, time
from mentor_gym.tools import tool

@tool
def loop() -> str:
    """Run an event loop of its own."""
    asyncio.run(asyncio.sleep(0))
    return threading.current_thread().name

@tool(timeout=0.2)
def sleep() -> str:
    """Sleep too long."""
    time.sleep(60)
    return "awake"
'''
    suite = write_suite(tmp_path / "suite", [row("both", tools=["loop", "sleep"], teacher=teacher([], "18"))])
    (tmp_path / "suite" / "tools.py").write_text(tools)

    with StubEndpoint(scripted(calls(("loop", "{}"), ("sleep", "{}")), says(answer(18)))) as stub:
        record(endpoint(stub), tmp_path / "out", suite)
    outputs = [item["content"] for item in stub.requests[1]["messages"][3:]]
    assert outputs == [threading.current_thread().name, "error: sleep timed out after 0.2 s"]


def test_inside_a_running_event_loop_as_in_a_notebook(one, tmp_path):
    async def cell():
        return record(endpoint(stub), tmp_path / "out", one)

    with StubEndpoint(scripted(calls(POWER), says(answer(18)))) as stub:
        assert asyncio.run(cell()).progress.kept == 1


def test_boxes_are_closed_however_it_ends(tmp_path):
    class Box(ToolBox):
        opened = 0

        def open(self, state):
            Box.opened += 1
            self.is_open = True

        def close(self):
            Box.opened -= getattr(self, "is_open", False)
            self.is_open = False

    (tmp_path / "train.jsonl").write_text(json.dumps(row("both", tools=[], teacher=teacher([], "18"))) + "\n")
    suite = Suite("shop", ("train",), lambda: Box([]), files={"train": tmp_path / "train.jsonl"})
    seen = []

    def reply(body):
        seen.append(Box.opened)
        return 401, {}, {}

    with StubEndpoint(reply) as stub, pytest.raises(EndpointError):
        record(endpoint(stub), tmp_path / "out", suite)
    assert (seen, Box.opened) == ([1], 0)
    with StubEndpoint(scripted(says(answer(18)))) as stub:
        done = record(endpoint(stub), tmp_path / "out", suite)
    # A suite that has no name to be found by again is not written beside the rows.
    assert (done.suite, done.progress.kept, "tools" in stub.requests[0]) == (None, 1, False)


def test_an_error_of_the_callers_callback_ends_the_run(three, tmp_path):
    def stumble(progress):
        if progress.finished:
            raise ZeroDivisionError("mine")

    with StubEndpoint(scripted(says(answer(18)))) as stub:
        with pytest.raises(ZeroDivisionError, match="mine"):
            record(endpoint(stub), tmp_path, three, concurrency=1, progress=stumble)
        assert record(endpoint(stub), tmp_path, three).progress.kept == 3
    assert len(stub.requests) <= 4


# Faults of the endpoint


PASSING = {
    "http_429": RATE_LIMIT,
    "http_500": SERVER_ERROR,
    "timeout": HANG,
    "connection": RESET,
    "malformed_body": NOT_JSON,
    "no_choices": NO_CHOICES,
    "error_body": (200, {"error": {"message": "upstream", "code": 502}}, {}),
}


def test_every_fault_that_passes_is_counted_and_costs_nothing(tmp_path):
    tasks = tasks_of("facts", "valid")[:11]
    faults = [*PASSING.items(), ("timeout", TRICKLE), ("malformed_body", (200, {"choices": [{}]}, {}))]
    plan = {task.prompt: [fault] for task, (_, fault) in zip(tasks, faults)}
    # And those that take no time once more, one after the other in the middle of an episode.
    quick = [(name, fault) for name, fault in faults if name != "timeout"]
    plan[tasks[-1].prompt] = [None, *(fault for _, fault in quick)]
    chosen = {"suite": "facts", "split": "valid", "task_ids": [task.id for task in tasks]}
    with StubEndpoint(Oracle(tasks)) as stub:
        clean = record(endpoint(stub), tmp_path / "clean", **chosen)
    with StubEndpoint(Oracle(tasks, plan)) as stub:
        done = record(endpoint(stub, timeout_s=1.0, retries=7), tmp_path / "faults", **chosen)
    assert done.rows.read_bytes() == clean.rows.read_bytes()
    assert (done.progress.kept, done.progress.failed) == (11, 0)
    assert done.progress.faults == Counter(name for name, _ in [*faults, *quick])
    assert done.progress.requests == clean.progress.requests + len(faults) + len(quick)
    by_task = {attempt["task_id"]: attempt["faults"] for attempt in attempts_of(tmp_path / "faults")}
    assert by_task[tasks[0].id] == {"http_429": 1}
    assert by_task[tasks[9].id] == {}
    assert json.loads((tmp_path / "faults" / "manifest.json").read_text())["attempts"]["faults"]["timeout"] == 2


def test_a_server_that_is_not_there_is_a_connection_fault(one, tmp_path):
    with StubEndpoint(scripted(says(answer(18)))) as stub:
        gone = endpoint(stub, retries=1)
    done = record(gone, tmp_path, one)
    assert done.progress.faults == {"connection": 2}
    assert done.progress.outcomes == {"failed": 1}
    assert attempts_of(tmp_path)[0]["error"].startswith("tried 2 times, the last time: ConnectError")


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, {"error": {"message": "unknown field tools"}}, "HTTP 400: unknown field tools"),
        (401, {"error": {"message": "Incorrect key sk-very-secret"}}, r"HTTP 401: Incorrect key \*\*\*"),
        (404, {"detail": "no such model"}, "HTTP 404: no such model"),
        (301, "", "HTTP 301$"),
        (403, "<html>\n<b>no</b>" + "x" * 10_000, "HTTP 403: <html> <b>no</b>x{50,300}$"),
        (429, {"error": {"message": "pay first", "code": "insufficient_quota"}}, "HTTP 429: pay first"),
    ],
)
def test_what_would_be_refused_again_stops_the_run_at_once(status, body, message, three, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    right = completion(says(answer(18)))
    with StubEndpoint(scripted(right, (status, body, {}))) as stub:
        with pytest.raises(EndpointError, match=message):
            record(endpoint(stub), tmp_path / "out", three, concurrency=1)
        assert len(stub.requests) == 2
    # What came before is kept and can be gone on with.
    assert [item.id for item in load_suite(str(tmp_path / "out" / "suite.yaml")).tasks("train")] == ["t0"]
    with StubEndpoint(scripted(right)) as stub:
        assert record(endpoint(stub), tmp_path / "out", three).progress.kept == 3
        assert len(stub.requests) == 2


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("/v2/chat/completions?code=hunter2#x", r"{host}/v2/chat/completions"),
        ("https://user:hunter2@elsewhere.test/v1/", "https://elsewhere.test/v1/"),
        ("https://elsewhere.test/sk-very-secret", r"https://elsewhere.test/\*\*\*"),
        ("http://host:port/", "what is no address"),
    ],
)
def test_a_redirection_says_where_it_points(location, shown, one, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with StubEndpoint(scripted((308, "", {"Location": location}))) as stub:
        wanted = shown.format(host=stub.base_url.removesuffix("/v1"))
        with pytest.raises(EndpointError, match=f"refuses requests with HTTP 308: moved to {wanted}$"):
            record(endpoint(stub), tmp_path, one)


def test_a_conversation_that_is_refused_is_not_tried_again(three, tmp_path):
    too_long = (400, {"error": {"message": "too many tokens", "code": "context_length_exceeded"}}, {})
    with StubEndpoint(scripted(calls(POWER), too_long, says(answer(18)))) as stub:
        done = record(endpoint(stub), tmp_path / "out", three, concurrency=1)
        record(endpoint(stub), tmp_path / "out", three)
    assert done.progress.outcomes == {"refused": 1, "correct": 2}
    assert done.progress.kept == 2
    assert len(stub.requests) == 4
    assert attempts_of(tmp_path / "out")[0]["error"] == "HTTP 400: too many tokens"


def test_too_many_failed_tasks_end_the_run_and_it_goes_on(tmp_path):
    tasks = tasks_of("math", "test")[:30]
    chosen = {"suite": "math", "split": "test", "task_ids": [task.id for task in tasks]}
    plan = {task.prompt: [SERVER_ERROR] * 2 for task in tasks[::3]}
    with StubEndpoint(Oracle(tasks, plan)) as stub:
        # 5 failed tasks are more than a fifth of 20 (or of the 13 that were played).
        with pytest.raises(
            RecordError, match=r"the requests of 5 of 13 tasks have failed.*HTTP 500: out of memory"
        ):
            record(endpoint(stub, retries=1), tmp_path, **chosen, concurrency=1)
        assert len(load_tasks(tmp_path / "test.jsonl", "math", "test", load_suite("math").box.tools)) == 8
        done = record(endpoint(stub, retries=1), tmp_path, **chosen, concurrency=1, max_failed_share=1)
        assert (done.progress.kept, done.progress.failed, done.progress.finished) == (25, 5, 30)
        done = record(endpoint(stub, retries=1), tmp_path, **chosen)
    assert done.progress.kept == 30
    assert done.progress.failed == 0
    assert done.progress.outcomes == {"correct": 30, "failed": 10}


def test_waits(one, tmp_path):
    moments = []

    def reply(body):
        moments.append(time.monotonic())
        waits = ["0.3", "1000", "soon"]
        if len(moments) <= 3:
            return 429, {}, {"Retry-After": waits[len(moments) - 1]}
        return completion(says(answer(18)))

    with StubEndpoint(reply) as stub:
        done = record(endpoint(stub, max_wait_s=0.4), tmp_path, one)
    waits = [after - before for before, after in pairwise(moments)]
    assert done.progress.faults == {"http_429": 3}
    # As long as is asked, but at most max_wait_s; a busy machine may make any of them longer.
    assert waits[0] >= 0.29
    assert 0.39 <= waits[1] < 100


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after": "7"}, 7, 7),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25, 0.25),
        ({"retry-after": "Fri, 31 Dec 2100 23:59:59 GMT"}, 1e6, 1e10),
    ],
)
def test_retry_after(headers, low, high):
    assert low <= _retry_after(headers) <= high


@pytest.mark.parametrize("value", ["", "-1", "nan", "soon", "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_retry_after_that_says_nothing(value):
    assert _retry_after({"retry-after": value}) is None


def test_as_many_episodes_at_once_as_are_asked_for(tmp_path):
    tasks = tasks_of("math", "test")[:12]
    oracle, lock, together = Oracle(tasks), threading.Lock(), threading.Barrier(5)
    active = most = arrived = 0

    def reply(body):
        nonlocal active, most, arrived
        with lock:
            arrived += 1
            first, active = arrived <= 5, active + 1
            most = max(most, active)
        if first:
            together.wait(20)
        with lock:
            active -= 1
        return oracle(body)

    with StubEndpoint(reply) as stub:
        chosen = [task.id for task in tasks]
        done = record(endpoint(stub), tmp_path, "math", "test", task_ids=chosen, concurrency=5)
    assert (most, done.progress.kept) == (5, 12)


def test_rate_limit(tmp_path):
    tasks = tasks_of("math", "test")[:10]
    # The second request of one task is answered only when it is repeated, which counts as well.
    with StubEndpoint(Oracle(tasks, {tasks[3].prompt: [None, SERVER_ERROR]})) as stub:
        before = time.monotonic()
        slow = endpoint(stub, requests_per_minute=60 / 0.02)
        record(slow, tmp_path, "math", "test", task_ids=[task.id for task in tasks], concurrency=10)
        assert time.monotonic() - before >= 0.02 * (len(stub.requests) - 1)
    assert len(stub.requests) == sum(len(task.teacher) // 2 + 1 for task in tasks) + 1


# Faults of the model


MODEL_FAULTS = {
    "arguments that are not JSON": (
        calls(("power", '{"base": 3,'), TIMES),
        {"malformed": 1},
        ["error: the call is not valid JSON: JSON is malformed: trailing comma in object (byte 42)", "18"],
    ),
    "arguments that are no object": (
        calls(("power", "[3, 2]")),
        {"malformed": 1},
        ['error: the call needs "arguments" that is an object'],
    ),
    "an unknown tool": (
        calls(("functions.power", "{}")),
        {"unknown_tool": 1},
        [f"error: unknown tool 'functions.power'; the tools are {', '.join(NAMES)}"],
    ),
    "no function": (
        {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "type": "function"}, None]},
        {"malformed": 2},
        ['error: the call needs a "name" that is a string'] * 2,
    ),
    "a key twice": (
        calls(("power", '{"base": 3, "base": 4, "exponent": 2}')),
        {"malformed": 1},
        ['error: the key "base" stands twice in one object'],
    ),
}


@pytest.mark.parametrize("name", MODEL_FAULTS)
def test_a_malformed_call_is_answered_by_the_environment_and_the_attempt_is_not_kept(name, one, tmp_path):
    message, errors, outputs = MODEL_FAULTS[name]
    with StubEndpoint(scripted(message, says(answer(18)), calls(POWER), says(answer(18)))) as stub:
        done = record(endpoint(stub), tmp_path / "out", one, tries=2)
    assert [item["content"] for item in stub.requests[1]["messages"][3:]] == outputs
    sent = stub.requests[1]["messages"][2]["tool_calls"]
    # Servers refuse names and arguments of earlier calls that they cannot read.
    assert all(json.loads(call["function"]["arguments"]) is not None for call in sent)
    assert all(call["function"]["name"].replace("_", "").isalnum() for call in sent)
    assert [call["id"] for call in sent] == [item["tool_call_id"] for item in stub.requests[1]["messages"][3:]]
    first, second = attempts_of(tmp_path / "out")
    assert first["outcome"] == second["outcome"] == "correct"
    assert first["call_errors"] == errors
    assert first["problem"].startswith("a call ")
    assert second["problem"] is None
    assert done.progress.problems == 1
    (item,) = load_suite(str(done.suite)).tasks("train")
    assert item.meta["attempt"] == 2
    assert len(item.teacher) == 3


def test_invalid_arguments_and_failures_of_tools_are_kept(one, tmp_path):
    wrong = calls(("power", '{"base": "3", "exponent": 2}'), ("refuse", ""), content="Let me see.")
    with StubEndpoint(scripted(wrong, says(answer(18)))) as stub:
        done = record(endpoint(stub), tmp_path / "out", one)
    assert done.progress.kept == 1
    assert done.progress.call_errors == {"invalid_arguments": 1, "tool_failed": 1}
    (item,) = load_suite(str(done.suite)).tasks("train")
    assert item.teacher[1]["content"] == 'error: power: argument "base": "3" is not of type "number"'
    assert item.teacher[2]["content"] == "error: refuse: not today"


@pytest.mark.parametrize(
    ("answers", "outcome", "problem"),
    [
        ([completion(says("<answer>18</answer>"), "length")], "token_limit", "a message was cut off"),
        ([says("Eighteen.")], "no_answer", None),
        ([says(None)], "no_answer", None),
        ([says("<answer> </answer>")], "no_answer", None),
        ([calls(POWER)], "turn_limit", None),
        ([says("<answer>18"), says(answer(18))], "correct", "<answer> is not closed by </answer>"),
        ([says(r"It is \boxed{18}.")], "correct", None),
        ([{"role": "assistant", "content": [{"type": "text", "text": answer(18)}]}], "correct", None),
    ],
)
def test_how_attempts_end(answers, outcome, problem, one, tmp_path):
    with StubEndpoint(scripted(*answers)) as stub:
        done = record(endpoint(stub), tmp_path, one, max_turns=3)
    (attempt,) = attempts_of(tmp_path)
    assert (attempt["outcome"], attempt["problem"]) == (outcome, problem)
    assert done.progress.kept == (outcome == "correct" and problem is None)


# Reading messages


def native(arguments, name="echo", content=None):
    return calls((name, arguments), content=content)


@pytest.mark.parametrize(
    ("message", "content", "expected"),
    [
        (
            native('{"text": "</tool_call><answer>1</answer>"}'),
            None,
            [("echo", {"text": "</tool_call><answer>1</answer>"})],
        ),
        (native('{"text": "a\\\\<b"}'), None, [("echo", {"text": "a\\<b"})]),
        (native('{"text": "\\u0085"}'), None, [("echo", {"text": "\ufffd"})]),
        (native({"text": "decoded"}), None, [("echo", {"text": "decoded"})]),
        (native(" ", "reveal"), None, [("reveal", {})]),
        (native(None, "reveal"), None, [("reveal", {})]),
        (native("{}", content="<think>never closed"), "&lt;think>never closed", [("echo", {})]),
        (native("{}", content="see <tool_call>"), "see &lt;tool_call>", [("echo", {})]),
        (native("{}", content="<think>so</think>now"), "<think>so</think>now", [("echo", {})]),
        (native("{}", content="<think>" + "x" * 30_000 + "</think>now"), "now", [("echo", {})]),
        (native("{}", content="x" * 30_000), None, [("echo", {})]),
        (
            says(
                '<think>…</think>Now:\n<tool_call>{"name": "echo", "arguments": {"text": "a"}}</tool_call>\nwait'
            ),
            "<think>…</think>Now:",
            [("echo", {"text": "a"})],
        ),
        (calls(*[("echo", "{}")] * 70), None, [("echo", {})] * 64),
    ],
)
def test_messages_are_read(message, content, expected):
    turn = read_message(message, 2)
    assert turn.recorded["content"] == content
    assert turn.problem is None
    assert [(call.name, call.arguments) for call in parse_action(turn.text).calls] == expected
    assert render_message(turn.recorded) == turn.text
    assert len(turn.text) <= MAX_ACTION_CHARS
    assert [call["id"] for call in turn.message["tool_calls"]] == turn.ids
    assert len(turn.ids) == len(set(turn.ids)) == len(expected)


@pytest.mark.parametrize(
    "arguments", ['{"text": "\\<"}', '"a</tool_call>', '{"text": NaN}', "[" * 50, '{"a": 1} {', "{<}"]
)
def test_what_is_broken_stays_broken(arguments):
    turn = read_message(native(arguments))
    (call,) = parse_action(turn.text).calls
    assert call.error is not None
    assert turn.recorded is None
    assert turn.problem == f"a call is malformed: {call.error}"


@pytest.mark.parametrize(
    ("text", "action"),
    [
        (answer(18) + "x" * 10_000_000, "18"),
        ("<think>so</think>" + answer(18) + "x" * 20_000, "18"),
        ("x" * 20_001, None),
        ('<tool_call>{"name": "echo", "arguments": {}}</tool_call>' + "x" * 20_000, "echo"),
    ],
)
def test_a_flood_is_cut_and_not_kept(text, action, one, tmp_path):
    turn = read_message(says(text))
    assert turn.problem == "a turn is longer than 20,000 characters"
    assert (turn.recorded, turn.ids) == (None, [])
    assert len(turn.text) == len(turn.message["content"]) == MAX_ACTION_CHARS
    played = parse_action(turn.text)
    assert (played.calls[0].name if played.calls else played.answer) == action
    with StubEndpoint(scripted(says(text), says(answer(18)))) as stub:
        done = record(endpoint(stub), tmp_path, one, keep_correct=False)
    assert (done.progress.kept, done.progress.problems) == (0, 1)
    assert (tmp_path / "attempts.jsonl").stat().st_size < 2 * MAX_ACTION_CHARS
    assert all(len(json.dumps(body)) < 2 * MAX_ACTION_CHARS for body in stub.requests)


def test_a_text_as_long_as_a_turn_may_be_is_kept():
    text = answer(18).rjust(MAX_ACTION_CHARS)
    assert read_message(says(text)).recorded == says(text)


def test_ids_that_are_missing_or_stand_twice_are_replaced():
    message = calls(POWER, POWER, POWER)
    message["tool_calls"][1]["id"] = "id0"
    del message["tool_calls"][2]["id"]
    assert read_message(message, 4).ids == ["id0", "call_4_1", "call_4_2"]
    message["tool_calls"][0]["id"] = "call_4_2"
    assert read_message(message, 4).ids == ["call_4_2", "id0", "call_4_2_"]


def test_a_call_that_does_not_fit_gets_an_error(one, tmp_path):
    long = ("echo", json.dumps({"text": "x" * 30_000}))
    with StubEndpoint(scripted(calls(POWER, long, TIMES), says(answer(18)))) as stub:
        record(endpoint(stub), tmp_path / "out", one)
    outputs = [item["content"] for item in stub.requests[1]["messages"][3:]]
    assert outputs == ["9", *["error: <tool_call> is not closed by </tool_call>".replace("<", "&lt;")] * 2]
    assert attempts_of(tmp_path / "out")[0]["problem"] == "a turn is longer than 20,000 characters"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
texts = st.text() | st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<tool_call>", "</tool_call>", "<answer>", "{", "}", '"', "\\", ":", "a", "{}"]
    )
).map("".join)


@given(
    content=texts | json_values, made=st.lists(st.tuples(texts, texts | json_values.map(json.dumps)), max_size=3)
)
@hypothesis_settings(max_examples=150)
def test_reading_is_total_and_what_is_recorded_is_what_is_played(content, made):
    turn = read_message({"role": "assistant", "content": content, "tool_calls": calls(*made)["tool_calls"]})
    if made:
        assert len(parse_action(turn.text).calls) == len(turn.ids) == len(made)
    if turn.recorded is not None:
        assert render_message(turn.recorded) == turn.text
        assert turn.problem is None
        assert all(call.error is None for call in parse_action(turn.text).calls)
    else:
        assert turn.problem is not None


# Secrets, settings, dependencies


def test_the_key_is_sent_and_written_nowhere(one, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", " sk-very-secret\n")
    echo = (500, {"error": {"message": "key sk-very-secret is overloaded"}}, {})
    with StubEndpoint(scripted(echo, says(answer(18)))) as stub:
        address = stub.base_url + "/?api-version=1&code=hunter2#part"
        record(endpoint(stub, base_url=address, api_key_env="MY_KEY", retries=0), tmp_path / "out", one)
        record(endpoint(stub, base_url=address, api_key_env="MY_KEY", retries=0), tmp_path / "out", one)
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        assert manifest["base_urls"] == [stub.base_url]
    assert stub.headers[0]["authorization"] == "Bearer sk-very-secret"
    assert stub.paths == ["/v1/chat/completions?api-version=1&code=hunter2"] * 2
    assert (
        attempts_of(tmp_path / "out")[0]["error"] == "tried once, the last time: HTTP 500: key *** is overloaded"
    )
    for file in (tmp_path / "out").iterdir():
        text = file.read_text()
        assert not any(secret in text for secret in ("very-secret", "hunter2")), file.name


def test_a_user_in_the_address_is_sent_and_written_nowhere(one, tmp_path, monkeypatch):
    echo = (500, {"error": {"message": "hunter2 is overloaded"}}, {})
    with StubEndpoint(scripted(echo, says(answer(18)))) as stub:
        address = stub.base_url.replace("//", "//user:hunter2@")
        for _ in range(2):
            record(endpoint(stub, base_url=address, retries=0), tmp_path / "out", one)
        assert json.loads((tmp_path / "out" / "manifest.json").read_text())["base_urls"] == [stub.base_url]
        assert stub.headers[0]["authorization"] == "Basic dXNlcjpodW50ZXIy"
        for file in (tmp_path / "out").iterdir():
            assert "hunter2" not in file.read_text(), file.name
        monkeypatch.setenv("OPENAI_API_KEY", "sk-key")
        with pytest.raises(ValueError, match="only one of them"):
            record(endpoint(stub, base_url=address), tmp_path / "out", one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": "localhost:8000"}, "must begin with http"),
        ({"base_url": "http://"}, "must begin with http|no address"),
        ({"model": ""}, "model is empty"),
        ({"api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY holds no API key"),
        ({"extra_body": {"messages": []}}, "extra_body cannot set 'messages'"),
        ({"extra_body": {"a": object()}}, "extra_body must be what JSON holds"),
        ({"requests_per_minute": 0}, "requests_per_minute must be more than 0"),
        ({"retries": -1}, "retries must be a whole number"),
        ({"timeout_s": 0}, "timeout_s must be more than 0"),
        ({"tries": 0}, "tries must be"),
        ({"concurrency": 0}, "concurrency must be"),
        ({"max_failed_share": 2}, "max_failed_share must be"),
        ({"max_turns": 0}, "max_turns must be"),
        ({"split": "trian"}, "no split 'trian'"),
        ({"task_ids": ["gone"]}, "no task 'gone'"),
        ({"tasks": 0}, "tasks must be"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(changes, message, one, tmp_path):
    mine = {name: value for name, value in changes.items() if name in Endpoint.__dataclass_fields__}
    others = {name: value for name, value in changes.items() if name not in mine}
    with pytest.raises(ValueError, match=message):
        record(
            Endpoint(**{"base_url": "http://127.0.0.1:9", "model": "m"} | mine), tmp_path / "out", one, **others
        )
    assert not (tmp_path / "out").exists()


def test_keys_that_no_header_can_hold_are_refused_without_showing_them(one, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-söcret")
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds no API key") as caught:
        record(Endpoint("http://127.0.0.1:9", "m"), tmp_path / "out", one)
    assert "cret" not in str(caught.value)


def test_a_missing_extra_is_named(one, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'mentor-gym\[record\]'"):
        record(Endpoint("http://127.0.0.1:9", "m"), tmp_path / "out", one)


def test_importing_loads_no_http_library():
    code = "import sys, mentor_gym.recording; print([name for name in ('httpx2', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_says_why_tasks_failed_and_fails_when_all_did(three, tmp_path, capsys):
    right = completion(says(answer(18)))

    def command(*answers):
        with StubEndpoint(scripted(*answers)) as stub:
            words = ["record", "--base-url", stub.base_url, "--model", "stub", "--suite", three, "--retries", "0"]
            return main([*words, "--concurrency", "1", "--out", str(tmp_path / "out")]), capsys.readouterr()

    code, shown = command(SERVER_ERROR)
    assert code == 1
    assert "0 rows" in shown.out
    said = (
        "tasks failed, and the same command tries them again: tried once, the last time: HTTP 500: out of memory\n"
    )
    assert shown.err == f"3 {said}"
    # One that came is a result, and the others can be tried again.
    code, shown = command(right, SERVER_ERROR)
    assert (code, shown.err) == (0, f"2 {said}")
    # What earlier calls have kept does not hide that this one got nothing.
    code, shown = command(SERVER_ERROR)
    assert (code, shown.err) == (1, f"2 {said}")
    code, shown = command(right)
    assert (code, shown.err) == (0, "")
    # Nothing was left to be played.
    assert command(SERVER_ERROR)[0] == 0


def test_a_teacher_that_recovers_is_recorded_and_validated(one, tmp_path, capsys):
    with StubEndpoint(scripted(calls(("refuse", "{}")), says(answer(18)))) as stub:
        done = record(endpoint(stub), tmp_path / "out", one)
    assert done.progress.kept == 1
    assert main(["data", "validate", str(done.suite)]) == 0
    out, err = capsys.readouterr()
    assert out == "shop/train: 1 rows, 0 with problems\n"
    assert err == "warning: both: the teacher's call of refuse fails: error: refuse: not today\n"


def test_the_command_records_a_suite_that_can_be_played(tmp_path, capsys):
    tasks = tasks_of("shop", "test")[:4]
    folder = tmp_path / "recorded"
    with StubEndpoint(Oracle(tasks)) as stub:
        words = ["record", "--base-url", stub.base_url, "--model", "stub", "--suite", "shop", "--split", "test"]
        chosen = [word for task in tasks for word in ("--task", task.id)]
        assert main([*words, *chosen, "--out", str(folder), "--keep-correct", "--tries", "2"]) == 0
        assert "4 rows" in capsys.readouterr().out
        asked = len(stub.requests)
        assert main([*words, *chosen, "--out", str(folder), "--tries", "2"]) == 0
        assert len(stub.requests) == asked
    assert main(["data", "validate", str(folder / "suite.yaml")]) == 0
    assert main([*words, "--out", str(folder), "--extra-body", "[1]"]) == 2
    assert "--extra-body must be a JSON object" in capsys.readouterr().err
