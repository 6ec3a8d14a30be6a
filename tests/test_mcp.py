"""Tools of MCP servers as an environment's, and an environment's tools over MCP.

The number of a row is that of the list of faults that the environments must survive.
"""

import asyncio
import contextlib
import copy
import json
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import pytest

from mentor_gym.data import DataError
from mentor_gym.env import MentorToolEnv
from mentor_gym.state import StateError
from mentor_gym.suites import Suite, load_suite

pytest.importorskip("mcp")

from mcp.server.mcpserver import MCPServer

from mentor_gym.serve_mcp import make_server
from mentor_gym.tools import mcp_client
from mentor_gym.tools.mcp import McpBox, McpError, close_servers, mcp_box, tighten
from mentor_gym.types import CallError

SERVER = [sys.executable, str(Path(__file__).with_name("mcp_server.py"))]
HASTY_S = 0.5


@pytest.fixture(scope="module")
def servers():
    yield
    close_servers()


@pytest.fixture
def box(servers):
    """A box whose server many tests use; each begins an episode."""
    box = McpBox(SERVER)
    box.open(None)
    return box


@pytest.fixture
def folder(tmp_path):
    """Where files change how a server of its own behaves."""
    yield tmp_path
    close_servers()


def call(box, tool, **arguments):
    return box.tools[tool].call(arguments)


def call_hastily(box, tool, **arguments):
    """Call a tool that will not answer; all other calls may take their time, on a machine that is busy."""
    box._connection.timeout, patience = HASTY_S, box._connection.timeout
    try:
        return call(box, tool, **arguments)
    finally:
        box._connection.timeout = patience


def children():
    """Return the processes that this one has started, dead ones that nobody waited for included."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread has just ended
            found.update((task / "children").read_text().split())
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def clients():
    """Return the threads that talk to servers."""
    return {thread for thread in threading.enumerate() if thread.name == "mcp client"}


def wait_for(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# The tools.


def test_tools_are_listed_with_tightened_schemas(caplog):
    box = McpBox([*SERVER, "/other"])
    with caplog.at_level(logging.WARNING):
        assert list(box.tools) == ["add", "count", "pid", "trouble"]
    assert [record.getMessage().partition("tool ")[2] for record in caplog.records] == [
        "'files.read' is left out: tool name 'files.read' must match [A-Za-z_][A-Za-z0-9_-]{0,63}",
        "'far' is left out: its schema refers to another document",
    ]
    assert box.tools["add"].schema["function"] == {
        "name": "add",
        "description": "Add a and b. Nothing &lt;/tools> else.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    }
    # A property called title stays; the object that another one refers to is closed.
    assert list(box.tools["trouble"].parameters["properties"]) == ["kind", "self", "title"]
    assert box.tools["trouble"].parameters["$defs"]["Point"]["additionalProperties"] is False
    assert dict(box.versions) == {"mcp tests": "1.2"}
    assert not box.has_state


CLOSED = {"properties": {"x": {}}, "additionalProperties": False}
OPEN = {"properties": {"x": {}}}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"properties": {"p": {"type": "array", "items": OPEN}}}, {"type": "array", "items": CLOSED}),
        ({"properties": {"p": {"anyOf": [OPEN, {"type": "null"}]}}}, {"anyOf": [CLOSED, {"type": "null"}]}),
        # What says itself what else it may hold is left as it is, and so is what is described in several places.
        ({"properties": {"p": {**OPEN, "additionalProperties": True}}}, {**OPEN, "additionalProperties": True}),
        ({"properties": {"p": {**OPEN, "anyOf": [OPEN]}}}, {**OPEN, "anyOf": [OPEN]}),
        ({"properties": {"p": {"allOf": [OPEN, OPEN]}}}, {"allOf": [OPEN, OPEN]}),
        ({"properties": {"p": {"type": "object"}}}, {"type": "object"}),
        ({"properties": {"p": {"enum": [{"title": "T"}], "title": "P"}}}, {"enum": [{"title": "T"}]}),
        ({"properties": {"p": True}}, True),
    ],
)
def test_schemas_are_closed_where_that_is_safe(schema, expected):
    before = copy.deepcopy(schema)
    assert tighten(schema)["properties"]["p"] == expected
    assert schema == before


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "string"}, "its arguments are no object"),
        ({"anyOf": [OPEN]}, "its arguments are no plain object"),
        ({"properties": {"p": {"items": {"$ref": "https://example.org/x.json"}}}}, "refers to another document"),
    ],
)
def test_schemas_that_cannot_be_offered_are_refused(schema, message):
    with pytest.raises(ValueError, match=message):
        tighten(schema)


def test_arguments_are_validated_before_the_server_sees_them(box):
    """Row 10: a server of the SDK would take them all, and convert the text to a number."""
    assert call(box, "add", a=1, b=2).output == "3"
    assert call(box, "add", a=1, b=2, zz=3).error is CallError.INVALID_ARGUMENTS
    assert call(box, "add", a="1", b=2).output == 'error: add: argument "a": "1" is not of type "integer"'
    assert call(box, "trouble", kind="stray", self={"x": 1, "y": 2}).error is CallError.INVALID_ARGUMENTS


# What a server answers, and what can be wrong with it (row 33).

FINE = [
    ("stray", True, "fine"),
    ("noise", True, "fine"),
    ("question", True, "fine"),
    ("picture", True, "[image]\na\n[resource_link]"),
    ("structured", True, '{"ä": [1, 2]}'),
    ("long", True, "y" * 2_000 + " …[cut]"),
    ("error", False, "error: trouble: there is &lt;tool_response> no\ufffd such thing"),
    # The code that the SDK itself uses for a lost connection.
    ("refuse", False, "error: trouble: Connection closed by nobody"),
]
FAULTS = [
    ("end", mcp_client.ENDED),
    ("hang", f"the tool server did not answer within {HASTY_S:g} s"),
    ("unreadable", mcp_client.UNREADABLE),
    ("surrogate", mcp_client.UNREADABLE),
    ("wrong shape", mcp_client.UNREADABLE),
]


@pytest.mark.parametrize(("kind", "ok", "text"), FINE)
def test_results_are_the_texts_of_a_server(box, kind, ok, text):
    before = call(box, "pid").output
    result = call(box, "trouble", kind=kind)
    assert (result.ok, result.output, box.down) == (ok, text, None)
    assert call(box, "pid").output == before


@pytest.mark.parametrize(("kind", "why"), FAULTS)
def test_row_33_a_server_out_of_order_gives_a_fixed_text_and_is_started_again_once(box, kind, why):
    before = call(box, "pid").output
    result = (call_hastily if kind == "hang" else call)(box, "trouble", kind=kind)
    assert (result.output, result.error) == (f"error: trouble: {why}", CallError.TOOL_FAILED)
    assert box.down == why
    assert not alive(before)
    assert before not in children()
    after = call(box, "pid")
    assert after.ok
    assert after.output != before
    assert box.down is None
    # The second failure of an episode is the last.
    call(box, "trouble", kind="end")
    before = children()
    assert call(box, "pid").output == f"error: pid: {mcp_client.ENDED}"
    assert box.down == mcp_client.ENDED
    assert children() == before
    # A call that does not reach the server says nothing about it.
    assert call(box, "add", a=1).error is CallError.INVALID_ARGUMENTS
    box.open(None)
    assert box.down is None
    assert call(box, "pid").ok
    call(box, "trouble", kind="end")
    assert call(box, "pid").ok


def test_row_33_a_reply_of_ten_megabytes_is_refused_and_the_server_stays(box):
    before = call(box, "pid").output
    assert call(box, "trouble", kind="large").output == f"error: trouble: {mcp_client.TOO_LARGE}"
    assert box.down == mcp_client.TOO_LARGE
    assert call(box, "pid").output == before
    assert box.down is None


def test_row_33_an_endless_reply_ends_with_the_server(box):
    assert call(box, "trouble", kind="endless").output == f"error: trouble: {mcp_client.TOO_LARGE}"
    # It hears nothing more; of what it says nothing is kept.
    assert call_hastily(box, "pid").output == f"error: pid: the tool server did not answer within {HASTY_S:g} s"
    assert call(box, "pid").ok


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_row_34_a_server_that_is_killed_or_stopped_between_calls_is_replaced(box, number):
    before = int(call(box, "pid").output)
    os.kill(before, number)
    if number == signal.SIGKILL:
        assert wait_for(lambda: not alive(before))
    assert not call_hastily(box, "pid").ok
    assert box.down is not None
    assert call(box, "pid").ok
    assert not alive(before)


def test_ctrl_c_during_a_call_leaves_no_call_behind(box):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = call(box, "pid").output
    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            call(box, "trouble", kind="hang")
    finally:
        signal.signal(signal.SIGALRM, handler)
    assert not alive(before)
    assert call(box, "pid").ok


def test_calls_of_many_threads_and_of_a_running_loop_do_not_mix(box):
    answers = {}

    def add(number):
        answers[number] = [call(box, "add", a=number, b=step).output for step in range(20)]

    async def add_in_a_loop():
        add(100)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    asyncio.run(add_in_a_loop())
    for thread in threads:
        thread.join()
    assert answers == {number: [str(number + step) for step in range(20)] for number in (0, 1, 2, 3, 100)}


def test_row_33_a_server_whose_tools_change_is_refused_until_they_are_as_before(folder):
    box = McpBox([*SERVER, str(folder)])
    assert call(box, "add", a=1, b=2).ok
    (folder / "changed").touch()
    box.open(None)
    assert call(box, "add", a=1, b=2).output == f"error: add: {mcp_client.CHANGED}"
    assert box.down == mcp_client.CHANGED
    (folder / "changed").unlink()
    assert call(box, "add", a=1, b=2).output == "3"


def test_a_server_that_does_not_start_again_is_tried_once_an_episode(folder):
    box = McpBox([*SERVER, str(folder)])
    assert call(box, "add", a=1, b=2).ok
    call(box, "trouble", kind="end")
    # In the middle of an episode, and at the begin of the next.
    for _ in range(2):
        (folder / "broken").touch()
        assert call(box, "add", a=1, b=2).output == f"error: add: {mcp_client.NOT_STARTED}"
        (folder / "broken").unlink()
        assert call(box, "add", a=1, b=2).output == f"error: add: {mcp_client.NOT_STARTED}"
        box.open(None)
    assert call(box, "add", a=1, b=2).ok


@pytest.mark.parametrize(
    ("fault", "why"),
    [("hanging", mcp_client.NOT_STARTED), ("silent", "the tool server did not answer within 1.5 s")],
)
@pytest.mark.parametrize("stateful", [False, True])
def test_a_server_that_hangs_at_its_start_is_left_alone_for_a_while(folder, fault, why, stateful):
    made = [McpBox([*SERVER, str(folder)], start_timeout=30, stateful=stateful) for _ in range(2)]
    assert call(made[0], "add", a=1, b=2).ok
    assert [box._connection.start_timeout for box in made] == [30, 30]
    for box in made:
        box._connection.start_timeout = 1.5
    starts = folder / "starts"
    (folder / fault).touch()
    close_servers()
    starts.unlink()
    # Two episodes each of two environments: one waits.
    began = time.monotonic()
    for box in (*made, *made):
        box.open(None)
        for _ in range(2):
            assert call(box, "add", a=1, b=2).output == f"error: add: {why}"
    assert 1.5 <= time.monotonic() - began < 4.5
    assert starts.read_text() == "x"
    rest = made[0]._connection._rest
    assert 13.5 < rest.until - began < 48
    # After the rest the server is tried again, in the next episode.
    (folder / fault).unlink()
    rest.until = 0.0
    made[0]._connection.start_timeout = 30
    assert not call(made[0], "add", a=1, b=2).ok
    made[0].open(None)
    assert call(made[0], "add", a=1, b=2).output == "3"
    for box in made:
        box.close()


def test_tools_that_cannot_be_read_are_left_out(folder, caplog):
    (folder / "strange").touch()
    box = McpBox([*SERVER, str(folder)])
    with caplog.at_level(logging.WARNING):
        assert list(box.tools) == ["add", "count", "pid", "trouble"]
    told = [record.getMessage() for record in caplog.records]
    for name in ("'deep'", "'half'", "'bare'", "'None'", "''", "'far'"):
        assert sum(f"tool {name} is left out: " in line for line in told) == 1
    # The list is read again at the start of the server, and is as before.
    assert call(box, "add", a=1, b=2).output == "3"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["no-such-program-anywhere"], "does not start: No such file or directory"),
        ([*SERVER, "{folder}"], "does not start: No module named 'secrets_of_the_host'"),
        ([sys.executable, "-c", "print('{}')"], "does not start"),
    ],
)
def test_a_server_that_does_not_start_is_told_with_its_last_words(folder, command, message):
    (folder / "broken").touch()
    box = McpBox([word.replace("{folder}", str(folder)) for word in command])
    with pytest.raises(McpError, match=message):
        box.tools  # noqa: B018


# Processes: one server each, started late, ended always.


def test_nothing_is_started_before_the_first_call():
    before = children()
    box = McpBox([*SERVER, "/late"])
    assert children() == before
    assert len(box.tools) == 4
    assert children() == before
    call(box, "pid")
    assert len(children() - before) == 1
    close_servers()
    assert children() == before


def test_the_boxes_of_a_process_share_a_server(box):
    other = McpBox(SERVER)
    assert call(other, "pid").output == call(box, "pid").output
    assert copy.deepcopy(box) is box
    assert call(pickle.loads(pickle.dumps(box)), "pid").output == call(box, "pid").output


def fork_and_call(box, queue):
    queue.put((call(box, "pid").output, call(box, "add", a=1, b=2).output, os.getpid()))


def test_row_36_a_forked_child_starts_its_own_server(box):
    before = call(box, "pid").output
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=fork_and_call, args=(box, queue))
    child.start()
    pid, added, child_pid = queue.get(timeout=20)
    child.join(20)
    assert (added, child.exitcode) == ("3", 0)
    assert pid != before
    assert call(box, "pid").output == before
    # The child's server ends with the child, although nobody there has closed anything.
    assert wait_for(lambda: not alive(pid))
    assert child_pid != os.getpid()


PROGRAM = """
import os, sys, time
from mentor_gym.tools.mcp import mcp_box
box = mcp_box({command!r}, timeout=5)
print(box.tools["pid"].call({{}}).output, flush=True)
box.tools["trouble"].call({{"kind": "noise"}})
{end}
"""


# The child, which lives on for a while, must not hold what tells the server that its client has gone.
KILLED_WITH_A_CHILD = "os.fork() or (os.close(1), os.close(2), time.sleep(10)); os.kill(os.getpid(), 9)"


# The stubborn server does not leave by itself, and answers with the number of a process that it has started.
@pytest.mark.parametrize(("word", "end"), [("stubborn", "sys.exit(0)"), ("polite", KILLED_WITH_A_CHILD)])
def test_row_38_no_server_outlives_its_process_and_stderr_stays_silent(word, end):
    program = PROGRAM.format(command=" ".join([*SERVER, word]), end=end)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == (-9 if "kill" in end else 0)
    # What was left out, and nothing of the server's.
    assert all("is left out" in line for line in done.stderr.splitlines())
    assert wait_for(lambda: not alive(done.stdout.strip()))


# State.


@pytest.mark.parametrize(("stateful", "expected"), [(False, {True}), (True, {False})])
def test_a_tool_is_read_only_where_its_server_or_its_box_says_so(stateful, expected):
    box = McpBox(SERVER, stateful=stateful)
    marks = {name: facts.read_only for name, facts in box.tool_facts(list(box.tools)).items()}
    assert marks.pop("pid") is True
    assert set(marks.values()) == expected


def test_a_stateful_box_has_a_server_of_its_own_for_every_episode():
    one, other = (McpBox(SERVER, stateful=True) for _ in range(2))
    for box in (one, other):
        box.open(None)
    assert [call(one, "count").output, call(one, "count").output, call(other, "count").output] == ["1", "2", "1"]
    before = children()
    one.open(None)
    assert len(before - children()) == 1
    assert call(one, "count").output == "1"
    one.close()
    one.close()
    other.close()
    assert one.has_state


def test_the_state_of_a_box_is_its_calls():
    one, twin = (McpBox(SERVER, stateful=True) for _ in range(2))
    one.open(None)
    assert one.snapshot() == b""
    call(one, "count")
    call(one, "trouble", kind="error")
    call(one, "count")
    call(one, "add", a=1)  # never reached the server
    state = one.snapshot()
    assert [made[:2] for made in json.loads(state)] == [
        ["count", {}],
        ["trouble", {"kind": "error"}],
        ["count", {}],
    ]
    twin.open(None)
    twin.restore(state)
    assert twin.snapshot() == state
    assert [call(box, "count").output for box in (one, twin)] == ["3", "3"]
    # A server that was lost is made again as it was, without the call that it was lost with.
    assert not call(twin, "trouble", kind="end").ok
    assert call(twin, "count").output == "4"
    call(twin, "trouble", kind="large")
    assert call(twin, "count").output == "5"
    one.close()
    twin.close()


@pytest.mark.parametrize(
    "calls",
    [
        "GIF",
        [1],
        [["count", {}]],
        [["nothing", {}, "0"]],
        [["add", {"a": 1}, "0"]],
        [["pid", {}, "0123456789abcdef"]],
    ],
)
def test_a_snapshot_that_does_not_fit_is_refused(calls):
    box = McpBox(SERVER, stateful=True)
    box.open(None)
    with pytest.raises(ValueError, match=r"a snapshot of a stateful MCP box is|answers otherwise"):
        box.restore(json.dumps(calls).encode())
    box.close()


def test_a_box_without_state_refuses_calls_as_its_state(box):
    with pytest.raises(ValueError, match="a snapshot of a stateful MCP box"):
        box.restore(b'[["count", {}, "0"]]')


# Servers in this process.


def in_memory():
    server = MCPServer("memory")
    numbers = []

    @server.tool()
    def push(number: int) -> int:
        """Push a number and return how many there are."""
        numbers.append(number)
        return len(numbers)

    @server.tool()
    def fail() -> str:
        """Fail."""
        raise RuntimeError("a secret of the host")

    @server.tool()
    def sleep(seconds: float) -> str:
        """Sleep."""
        time.sleep(seconds)
        return "awake"

    return server


def test_a_server_object_runs_in_this_process(caplog):
    before = clients()
    box = McpBox(in_memory())
    assert call(box, "push", number=5).output == "1"
    assert len(clients() - before) == 1
    assert call(box, "push", number="5").error is CallError.INVALID_ARGUMENTS
    assert call(box, "fail").output == "error: fail: Error executing tool fail"
    # The SDK would log the exception there, for which it takes a third of a second and more.
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    # A tool that does not return is left behind, with its thread, and the server serves on.
    why = f"the tool server did not answer within {HASTY_S:g} s"
    assert call_hastily(box, "sleep", seconds=HASTY_S + 1).output == f"error: sleep: {why}"
    assert call(box, "push", number=5).output == "2"
    box._connection.close()
    assert wait_for(lambda: clients() <= before)


def test_a_server_object_with_state_is_made_anew():
    with pytest.raises(ValueError, match="a function that makes the server"):
        McpBox(in_memory(), stateful=True)
    box = McpBox(in_memory, stateful=True)
    for _ in range(2):
        box.open(None)
        assert [call(box, "push", number=7).output for _ in range(2)] == ["1", "2"]
    twin = copy.deepcopy(box)
    twin.open(None)
    twin.restore(box.snapshot())
    assert [call(each, "push", number=7).output for each in (box, twin)] == ["3", "3"]
    box.close()
    twin.close()


# In an environment.

ROW = {
    "id": "1",
    "suite": "counting",
    "split": "train",
    "prompt": "Count twice.",
    "tools": ["count", "trouble", "pid"],
    "answer": "2",
    "grader": {"kind": "number"},
    "state": None,
    "teacher": [],
}


def turn(name, **arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


@pytest.fixture
def env(tmp_path):
    rows = tmp_path / "train.jsonl"
    rows.write_text(json.dumps(ROW) + "\n")

    def make(stateful):
        make_box = lambda: McpBox(SERVER, stateful=stateful)  # noqa: E731
        return MentorToolEnv(Suite("counting", ("train",), make_box, files={"train": rows}))

    yield make
    close_servers()


def test_an_episode_goes_on_without_its_server(env):
    """Row 33, in an environment: nothing raises, and the tools come back."""
    env = env(stateful=False)
    env.reset(seed=0)
    observation, *_, info = env.step(turn("trouble", kind="end"))
    assert mcp_client.ENDED in observation
    assert info["tool_calls"][0]["error"] == "tool_failed"
    assert info["tool_down"] == mcp_client.ENDED
    observation, *_, info = env.step(turn("pid"))
    assert "error" not in observation
    assert "tool_down" not in info
    assert env.step("<answer>2</answer>")[1] == 1.0


def test_row_44_clones_in_the_middle_of_a_stateful_episode_are_independent_and_equal(env):
    env = env(stateful=True)
    env.reset(seed=0)
    env.step(turn("count"))
    twin = env.clone()
    assert env.step(turn("count"))[0] == twin.step(turn("count"))[0]
    assert ">2<" in twin.transcript.turns[-1].observation
    state = twin.get_state()
    env.set_state(state)
    assert env.get_state() == state
    env.step(turn("pid"))
    with pytest.raises(StateError, match="answers otherwise"):
        twin.set_state(env.get_state())
    # It is as it was.
    assert ">3<" in twin.step(turn("count"))[0]
    env.close()
    twin.close()


def test_a_suite_file_names_a_server(tmp_path):
    row = {
        "id": "a",
        "suite": "served",
        "split": "train",
        "prompt": "Which process?",
        "tools": ["pid"],
        "answer": "1",
    }
    row |= {"grader": {"kind": "number"}, "state": None, "teacher": []}
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    (tmp_path / "server.py").write_text(Path(SERVER[1]).read_text())
    file = tmp_path / "suite.yaml"
    file.write_text("name: served\ntools: 'mcp:python server.py'\nsplits: {train: train.jsonl}\n")
    made = gym.make("MentorTool-v0", suite=str(file))
    made.reset(seed=0)
    assert "error" not in made.step(turn("pid"))[0]
    assert made.step("<answer>1</answer>")[4]["is_success"]
    file.write_text("name: served\ntools: 'mcp:python gone.py'\nsplits: {train: train.jsonl}\n")
    other = tmp_path / "other.yaml"
    other.write_text(file.read_text())
    with pytest.raises(DataError, match=r'other.yaml, line 2: field "tools": .*gone.py'):
        gym.make("MentorTool-v0", suite=str(other))


# An environment's tools over MCP.


def serving(*arguments):
    program = f"from mentor_gym.serve_mcp import serve; serve({', '.join(map(repr, arguments))})"
    return [sys.executable, "-c", program]


@pytest.mark.parametrize(("name", "task", "count"), [("math", None, 5), ("shop", 0, 1)])
def test_a_suite_is_served_over_stdio_and_replays_its_teacher(name, task, count):
    close_servers()
    before = children()
    suite = load_suite(name)
    split = suite.splits[0]
    tasks = suite.tasks(split)
    own = suite.new_box()
    box = McpBox(serving(name) if task is None else serving(name, tasks[task].id, split))
    offered = own.tools if task is None else tasks[task].tools
    assert [tool.schema for tool in box.tools.values()] == [own.tools[tool].schema for tool in offered]
    for position in range(count):
        own.open(tasks[position].state)
        calls = [made for message in tasks[position].teacher for made in message.get("tool_calls") or ()]
        assert calls
        for made in calls:
            arguments = made["function"]["arguments"]
            arguments = arguments if isinstance(arguments, dict) else json.loads(arguments)
            tool = made["function"]["name"]
            assert box.tools[tool].call(arguments) == own.tools[tool].call(arguments)
    own.close()
    # Ctrl-C ends it, although it waits for input.
    (server,) = children() - before
    os.kill(int(server), signal.SIGINT)
    assert wait_for(lambda: not alive(server))
    close_servers()


def test_served_tools_validate_and_cap_like_our_own():
    suite = load_suite("math")
    box = McpBox(make_server(suite))
    for tool, arguments in (
        ("divide", {"a": 1, "b": 0}),
        ("power", {"base": 10, "exponent": 40}),
        ("add", {"a": 10**16, "b": 0}),
    ):
        assert box.tools[tool].call(arguments) == suite.box.tools[tool].call(arguments)
    # A client that does not validate is answered with an error, too.
    ok, text = box._ask("add", {"a": "1", "b": 2, "c": 3})
    assert not ok
    assert text == suite.box.tools["add"].call({"a": "1", "b": 2, "c": 3}).output.removeprefix("error: add: ")
    assert box._ask("__init__", {}) == (False, f"unknown tool; the tools are {', '.join(suite.box.tools)}"[:200])
    box._connection.close()


def test_a_server_is_told_no_answer():
    suite = load_suite("shop")
    task = suite.tasks("train")[0]
    server = make_server(suite, task.id, "train")
    assert server.instructions == task.prompt
    # Without a task the state is still one's, and this one only asks: what changes it is offered, and refused.
    server = make_server(suite)
    state = f"The state is that of the task {task.id}; what this task does not allow, its tools refuse."
    assert server.instructions == f"{suite.description}\n{state}"
    assert make_server("math").instructions == load_suite("math").description
    for words in ({"task_id": "gone"}, {"split": "gone"}):
        with pytest.raises(ValueError, match=r"no task 'gone' in this split|has no split 'gone'"):
            make_server(suite, **words)


# The box itself.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"server": ""}, "a program and its arguments"),
        ({"server": [7]}, "a program and its arguments"),
        ({"server": "python 'x"}, "No closing quotation"),
        ({"server": "python x", "timeout": 0}, "timeout must be a positive number"),
        ({"server": "python x", "timeout": True}, "timeout must be a positive number"),
        ({"server": "python x", "start_timeout": 0}, "start_timeout must be a positive number"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        McpBox(**arguments)


def test_a_missing_extra_is_one_clear_message(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for make in (lambda: mcp_box("python x"), lambda: make_server("math")):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'mentor-gym\[mcp\]'"):
            make()


def test_importing_the_boxes_does_not_import_the_sdk():
    program = "import sys, mentor_gym, mentor_gym.tools.mcp, mentor_gym.serve_mcp; sys.exit('mcp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
