"""Worker processes: equal to environments in one process, whatever happens to the processes."""

from __future__ import annotations

import gc
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from conftest import answer, call, row, teacher, write_suite
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode
from vector_play import action, assert_same, part

from mentor_gym import MentorToolVectorEnv, supervisor
from mentor_gym.supervisor import WorkerError
from mentor_gym.types import StopReason

TILL = str(Path(__file__).parent / "till_suite" / "suite.yaml")
TOOLS = '''
"""A box with state, whose tools end or block their process."""
import os, signal, sys, time
from pathlib import Path
from mentor_gym.tools import Tool, ToolBox


class Storm(ToolBox):
    def __init__(self):
        self.calls = 0
        functions = (self.count, self.die, self.leave, self.sleep, self.spin, self.stop, self.modules)
        super().__init__(Tool.from_function(function) for function in functions)

    def count(self) -> int:
        """Count the calls of the episode."""
        self.calls += 1
        return self.calls

    def die(self) -> str:
        """Kill the process."""
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self) -> str:
        """End the process."""
        os._exit(3)

    def sleep(self) -> str:
        """Sleep for ever, with a child."""
        os.system("sleep 1000")

    def spin(self) -> str:
        """Compute for hours in C, where no Python runs."""
        return str(sum(range(10**13)))

    def stop(self) -> str:
        """Stop the process."""
        os.kill(os.getpid(), signal.SIGSTOP)

    def modules(self) -> str:
        """Say what is loaded."""
        return f"torch {'torch' in sys.modules}, main {getattr(sys.modules['__main__'], '__file__', None)}"

    def open(self, state):
        self.calls = 0
        if state and Path(state["marker"]).exists():
            if state["once"]:
                Path(state["marker"]).unlink()
            os._exit(4)

    def snapshot(self):
        return str(self.calls).encode()

    def restore(self, snapshot):
        self.calls = int(snapshot)


make_box = Storm
'''
NAMES = ["count", "die", "leave", "sleep", "spin", "stop", "modules"]


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite: tasks whose reset is calm, and two whose reset ends the process if there is a marker file."""
    folder = tmp_path_factory.mktemp("storm")
    plan = teacher([("count", {}, "1"), ("count", {}, "2")], "2")
    rows = [row(f"calm-{i}", answer="2", tools=NAMES, teacher=plan, meta={"kind": "calm"}) for i in range(9)]
    for kind in ("once", "always"):
        state = {"marker": str(folder / kind), "once": kind == "once"}
        rows.append(row(kind, answer="2", tools=NAMES, teacher=plan, state=state, meta={"kind": kind}))
    path = Path(write_suite(folder, rows))
    (folder / "tools.py").write_text(TOOLS)
    return path


@pytest.fixture
def make(storm: Path) -> Iterator[Callable[..., MentorToolVectorEnv]]:
    """Makes vectors over the suite; none of their processes is left at the end."""
    before, made = children(), []

    def build(num_envs: int = 6, **kwargs: Any) -> MentorToolVectorEnv:
        kwargs = {"suite": str(storm), "where": {"kind": "calm"}, "prompt": "compact", **kwargs}
        envs = gym.make_vec("MentorTool-v0", num_envs=num_envs, **kwargs)
        made.append(envs)
        return cast(MentorToolVectorEnv, envs)

    yield build
    for envs in made:
        envs.close()
    assert children() == before


def children() -> set[int]:
    """Return the processes that this one has started and not yet reaped."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = entry.read_text().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue
        if int(parent) == os.getpid():
            found.add(int(entry.parent.name))
    return found


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("suite", ["math", TILL], ids=["math", "till"])
def test_equal_to_one_process(make: Any, suite: str, mode: AutoresetMode) -> None:
    kwargs = {"suite": suite, "where": None, "max_turns": 4, "dense": True, "autoreset_mode": mode}
    local, workers = make(5, **kwargs), make(5, num_workers=2, **kwargs)
    for name in ("metadata", "render_mode", "action_space", "observation_space"):
        assert getattr(local, name) == getattr(workers, name)
    rng = random.Random(0)
    assert_same(local.reset(seed=4), workers.reset(seed=4))
    for number in range(80):
        bases = [env.unwrapped for env in local.envs]
        actions = [action(rng, base.task, len(base.transcript.turns)) for base in bases]
        if number == 3:
            actions[0] = "x" * 10**7
        result = local.step(actions)
        assert_same(result, workers.step(actions))
        over = result[2] | result[3]
        if mode is AutoresetMode.DISABLED and over.any():
            assert_same(local.reset(options={"reset_mask": over}), workers.reset(options={"reset_mask": over}))
    assert_same(local.reset(), workers.reset())
    assert workers.np_random_seed == local.np_random_seed
    assert workers.call("get_state") == local.call("get_state")
    assert [g.random() for g in workers.np_random] == [g.random() for g in local.np_random]
    assert workers.restarts == 0


def test_groups_in_workers(make: Any) -> None:
    local, workers = make(6, group_size=2, max_turns=3), make(6, group_size=2, max_turns=3, num_workers=4)
    rng = random.Random(1)
    assert_same(local.reset(seed=2), workers.reset(seed=2))
    for _ in range(30):
        turns = [rng.choice([call("count"), answer(2)]) for _ in range(6)]
        assert_same(local.step(turns), workers.step(turns))
    for kwargs in ({}, {"options": {"task_ids": ["calm-1", "calm-2", "calm-1"], "teacher_turns": 1}}):
        assert_same(local.reset(**kwargs), workers.reset(**kwargs))


@pytest.mark.parametrize(
    ("fault", "victim", "mode"),
    [
        *[(fault, victim, mode) for fault, victim in (("die", 1), ("leave", 0)) for mode in AutoresetMode],
        # These wait until their time is up: one a mode.
        ("sleep", 5, AutoresetMode.NEXT_STEP),
        ("spin", 2, AutoresetMode.DISABLED),
        ("stop", 4, AutoresetMode.SAME_STEP),
    ],
)
def test_one_is_lost_and_the_others_go_on(make: Any, fault: str, victim: int, mode: AutoresetMode) -> None:
    """The reference answers where the other dies: both episodes end there, and all that follows is equal."""
    calm = make(6, autoreset_mode=mode, dense=True)
    stormy = make(6, autoreset_mode=mode, dense=True, num_workers=2, step_timeout=1.5)
    others = [i for i in range(6) if i != victim]
    rng = random.Random(5)
    assert_same(calm.reset(seed=8), stormy.reset(seed=8))
    for number in range(20):
        turns = [rng.choice([call("count"), call("count"), answer(2)]) for _ in range(6)]
        # Somewhere in an episode of all of them.
        turns = [call("count")] * 6 if number in (6, 7) else turns
        if number == 8:
            expected = calm.step([*turns[:victim], answer(2), *turns[victim + 1 :]])
            found = stormy.step([*turns[:victim], call(fault), *turns[victim + 1 :]])
            assert_same(part(expected, others), part(found, others))
            check_crashed(found, victim, mode, fault)
            if mode is AutoresetMode.SAME_STEP:
                assert expected[0][victim] == found[0][victim]
        else:
            expected, found = calm.step(turns), stormy.step(turns)
            assert_same(expected, found, f"step {number}")
        over = expected[2] | expected[3]
        if mode is AutoresetMode.DISABLED and over.any():
            assert_same(calm.reset(options={"reset_mask": over}), stormy.reset(options={"reset_mask": over}))
    assert stormy.restarts == 1


def check_crashed(result: Any, victim: int, mode: AutoresetMode, fault: str) -> None:
    _, rewards, terminations, truncations, infos = result
    final = infos["final_info"] if mode is AutoresetMode.SAME_STEP else infos
    assert truncations[victim]
    assert not terminations[victim]
    assert final["stop_reason"][victim] is StopReason.ENV_CRASHED
    assert final["env_crashed"].tolist() == final["_env_crashed"].tolist() == [i == victim for i in range(6)]
    # What two good calls earned before is taken back: an episode that is cut off pays nothing.
    assert final["reward_terms"]["_outcome"][victim]
    assert rewards[victim] <= 0.0
    assert not final["tool_calls"][victim]


def test_two_lost_in_one_step_and_one_while_idle(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    before = children()
    calm, stormy = make(6), make(6, num_workers=2)
    assert_same(calm.reset(seed=1), stormy.reset(seed=1))
    turns = [call("count")] * 6
    assert_same(calm.step(turns), stormy.step(turns))
    found = stormy.step([call("die"), turns[1], call("leave"), turns[3], turns[4], call("die")])
    expected = calm.step([answer(1), turns[1], answer(1), turns[3], turns[4], answer(1)])
    assert_same(part(expected, [1, 3, 4]), part(found, [1, 3, 4]))
    assert found[3].tolist() == [True, False, True, False, False, True]
    assert stormy.restarts == 3
    assert "environment 0 was killed by signal 9 in step, task 'calm-" in caplog.text
    assert "restart 3 of at most 20" in caplog.text
    # Processes that are killed while they have nothing to do cost no episode.
    idle = children() - before
    assert len(idle) == 2
    for process in idle:
        os.kill(process, signal.SIGKILL)
    assert wait_until(lambda: not any(is_alive(process) for process in idle))
    assert_same(calm.step(turns), stormy.step(turns))
    assert stormy.restarts == 5


@pytest.mark.parametrize("kind", ["once", "always"])
def test_lost_in_reset(make: Any, storm: Path, kind: str) -> None:
    envs = make(3, num_workers=1, where={"kind": ["calm", kind]})
    envs.reset(options={"task_id": "calm-3"})
    envs.step([call("count")] * 3)
    options = {"task_ids": ["calm-1", kind, "calm-2"], "reset_mask": np.array([False, True, True])}
    (storm.parent / kind).touch()
    try:
        if kind == "always":
            with pytest.raises(
                WorkerError, match=r"environment 1 exited with code 4 in reset.*, 3 times in a row"
            ):
                envs.reset(options=options)
            assert envs.closed
            return
        _, infos = envs.reset(options=options)
    finally:
        (storm.parent / kind).unlink(missing_ok=True)
    assert infos["task_id"].tolist() == [None, "once", "calm-2"]
    assert "env_crashed" not in infos
    assert envs.restarts == 1
    observations = envs.step([call("count")] * 3)[0]
    assert [re.findall(r"\d+", text) for text in observations] == [["2"], ["1"], ["1"]]


def test_lost_in_autoreset(make: Any, storm: Path) -> None:
    """It looks like a step that is lost; what is done instead resets too, and is not tried for ever."""
    where = {"kind": ["calm", "always"]}
    local = make(1, where=where)
    for seed in range(100):
        calm = local.reset(seed=seed)[1]["task_id"][0]
        if calm != "always" and local.step([answer(2)])[4]["task_id"][0] == "always":
            break
    envs = make(2, num_workers=1, where=where)
    envs.reset(seed=[0, seed], options={"reset_mask": np.array([False, True])})
    envs.reset(options={"task_id": "calm-0", "reset_mask": np.array([True, False])})
    (storm.parent / "always").touch()
    try:
        with pytest.raises(WorkerError, match=rf"environment 1 .* in step, task '{calm}', .*, 3 times in a row"):
            envs.step([call("count"), answer(2)])
    finally:
        (storm.parent / "always").unlink()


def test_restarts_are_limited(make: Any) -> None:
    before = children()
    envs = make(2, num_workers=2, max_restarts=1)
    envs.reset(options={"task_id": "calm-3"})
    envs.step([call("leave"), call("count")])
    long = call("die") + "x" * 1000
    with pytest.raises(RuntimeError) as error:
        envs.step([call("count"), long])
    message = str(error.value)
    for expected in (
        "environment 1 was killed by signal 9",
        "'calm-3'",
        long[:40],
        "no restart",
        "max_restarts=1",
    ):
        assert expected in message
    assert len(message) < 300
    assert envs.closed
    assert children() == before
    with pytest.raises(ClosedEnvironmentError):
        envs.step([answer(1)] * 2)


class Unsendable:
    maximum = 1.0

    def __call__(self, transcript: Any) -> dict[str, float]:
        return {}

    def __deepcopy__(self, memo: Any) -> Unsendable:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("no pickle")


def test_errors_cross_over(make: Any) -> None:
    envs = make(2, num_workers=2)
    with pytest.raises(ResetNeeded, match="call reset") as error:
        envs.step([answer(1)] * 2)
    assert "in step\n" in error.value.__notes__[0]
    with pytest.raises(ValueError, match="no task 'gone'"):
        envs.reset(options={"task_id": "gone"})
    with pytest.raises(AttributeError, match="nothing"):
        envs.call("nothing")
    with pytest.raises(AttributeError, match="call, get_attr and set_attr"):
        envs.envs  # noqa: B018
    with pytest.raises(TypeError, match="cannot be sent to the parent process"):
        envs.get_attr("_box")
    # None of this has ended a process, nor left an answer behind.
    _, infos = envs.reset(seed=0)
    assert infos["turn"].tolist() == [0, 0]
    assert envs.restarts == 0
    with pytest.raises(ValueError, match="cannot be sent to worker processes: no pickle"):
        make(2, num_workers=1, reward=Unsendable())


def test_calls_and_settings(make: Any, capfd: pytest.CaptureFixture[str]) -> None:
    envs = make(4, num_workers=2, render_mode="ansi", step_timeout=1.5)
    envs.reset(seed=0)
    envs.set_attr("dense", [True, False, True, False])
    assert all("turn" in text or "[" in text for text in envs.render())
    # A call that ends the process is no turn: nothing is truncated, and the call fails.
    with pytest.raises(RuntimeError, match=r"environment 0 exited with code 3 in call\('step'"):
        envs.call("step", call("leave"))
    assert envs.restarts == 4
    assert envs.get_attr("dense") == (True, False, True, False)
    assert envs.get_attr("replayed") == (0, 0, 0, 0)
    assert envs.get_attr("transcript")[0].turns == []
    observations = envs.step([call("modules")] * 4)[0]
    assert all("torch False, main None" in text for text in observations)


def test_paths_are_those_of_the_start(make: Any, storm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(storm.parent)
    envs = make(2, num_workers=1, suite="suite.yaml")
    monkeypatch.chdir("/")
    envs.reset(seed=0)
    envs.step([call("die"), call("count")])
    assert "2" in envs.step([call("count")] * 2)[0][1]


@pytest.mark.parametrize("how", ["close", "terminate", "forget", "failed step", "failed start"])
def test_no_process_is_left(storm: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    if how == "failed start":
        monkeypatch.setattr("mentor_gym.supervisor._PROGRAM", "import sys; sys.exit(7)")
        with pytest.raises(WorkerError, match="exited with code 7 while it was starting"):
            gym.make_vec("MentorTool-v0", num_envs=3, num_workers=3, suite=str(storm))
        assert children() == before
        return
    envs = gym.make_vec("MentorTool-v0", num_envs=3, num_workers=3, max_restarts=0, suite=str(storm))
    descriptors = len(os.listdir("/proc/self/fd"))
    envs.reset(options={"task_id": "calm-1"})
    assert len(children() - before) == 3
    if how == "forget":
        del envs
        gc.collect()
    elif how == "failed step":
        with pytest.raises(WorkerError):
            envs.step([call("die")] * 3)
    else:
        envs.close(terminate=how == "terminate")
        envs.close()
    assert children() == before
    # A socket and a pipe for each process.
    assert len(os.listdir("/proc/self/fd")) == descriptors - 6


SCRIPT = """
import os, re, signal, sys, time
import gymnasium as gym
import mentor_gym
from pathlib import Path

def workers():
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(entry.read_text().rsplit(")", 1)[1].split()[1]) == os.getpid():
                found.append(int(entry.parent.name))
        except OSError:
            pass
    return sorted(found)

def call(name):
    return '<tool_call>{"name": "%s", "arguments": {}}</tool_call>' % name

def make(**kwargs):
    return gym.make_vec("MentorTool-v0", suite=sys.argv[1], where={"kind": "calm"}, prompt="compact", **kwargs)
"""


def script(folder: Path, storm: Path, code: str, *arguments: Any, **kwargs: Any) -> subprocess.Popen[str]:
    path = folder / "script.py"
    path.write_text(SCRIPT + code)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, path, storm, *arguments], text=True, **pipes, **kwargs)


def finish(process: subprocess.Popen[str], words: str = "") -> str:
    output, errors = process.communicate(words, timeout=60)
    assert process.returncode == 0, errors
    assert errors == ""
    return output


def test_a_script_needs_no_guard_and_keeps_its_input(tmp_path: Path, storm: Path) -> None:
    """Its reward is a class of its own; the working directory has a module with a name of the standard library."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("random", "socket", "json"):
        (folder / f"{name}.py").write_text("raise RuntimeError('of the wrong folder')")
    code = """
print("started once")

class Points(float):
    pass

class Always:
    maximum = 1.0
    def __init__(self, paid):
        self.paid = paid
    def __call__(self, transcript):
        return {"always": self.paid}

os.chdir(sys.argv[2])
envs = make(num_envs=3, num_workers=2, reward=Always(0.25))
envs.reset(seed=0)
print(envs.step([call("count"), "<answer>2</answer>", "<answer>3</answer>"])[1].tolist(), input())
envs.set_attr("note", Points(0.5))
print([type(note) is Points for note in envs.get_attr("note")])
envs.set_attr("reward", [Always(n) for n in (1, 2, 3)])
print(envs.step(["<answer>2</answer>"] * 3)[1].tolist())
"""
    expected = "started once\n[0.0, 0.25, 0.25] hello\n[True, True, True]\n[1.0, 2.0, 3.0]\n"
    assert finish(script(tmp_path, storm, code, folder), "hello\n") == expected


@pytest.mark.parametrize("tool", ["none", "sleep", "spin"])
def test_workers_end_with_a_killed_parent(tmp_path: Path, storm: Path, tool: str) -> None:
    code = f"""
envs = make(num_envs=2, num_workers=2)
envs.reset(seed=0)
print(*workers(), flush=True)
time.sleep(1000) if {tool!r} == "none" else envs.step([call({tool!r})] * 2)
"""
    with script(tmp_path, storm, code) as process:
        assert process.stdout is not None
        found = [int(word) for word in process.stdout.readline().split()]
        assert len(found) == 2
        time.sleep(0.3)
        assert all(is_alive(worker) for worker in found)
        process.kill()
        assert wait_until(lambda: not any(is_alive(worker) for worker in found))


def test_workers_end_with_the_interpreter(tmp_path: Path, storm: Path) -> None:
    code = """
envs = make(num_envs=2, num_workers=2)
envs.reset(seed=0)
print(*workers())
"""
    found = finish(script(tmp_path, storm, code)).split()
    assert len(found) == 2
    assert not any(is_alive(int(worker)) for worker in found)


def test_ctrl_c_goes_to_the_parent_alone(tmp_path: Path, storm: Path) -> None:
    code = """
envs = make(num_envs=4, num_workers=2)
envs.reset(seed=0)
envs.step([call("count")] * 4)
before = workers()
print("ready", flush=True)
try:
    envs.step([call("count"), call("count"), call("sleep"), call("count")])
except KeyboardInterrupt:
    # The process that was busy is gone, the other is not.
    print(len(workers()), set(workers()) < set(before))
print([re.findall(r"\\d+", text)[0] for text in envs.step([call("count")] * 4)[0]])
print(envs.restarts)
envs.close()
print(workers())
"""
    with script(tmp_path, storm, code, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        # What the interrupted step had played before stays played, as in one process.
        assert finish(process) == "1 True\n['3', '3', '2', '2']\n0\n[]\n"


def test_an_interrupted_restart_leaves_no_answer_behind(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calm, stormy = make(4), make(4, num_workers=2)
    assert_same(calm.reset(seed=1), stormy.reset(seed=1))
    receive = supervisor._Process.receive

    def interrupt(process: Any, timeout: float) -> Any:
        if process.positions.start == 2:
            raise KeyboardInterrupt
        return receive(process, timeout)

    turns = [call("count")] * 4
    monkeypatch.setattr(supervisor._Process, "receive", interrupt)
    for _ in range(2):
        # The first stops the process in its step, the second while its replacement starts.
        with pytest.raises(KeyboardInterrupt):
            stormy.step(turns)
    monkeypatch.undo()
    assert_same(part(calm.step(turns), [2, 3]), part(stormy.step(turns), [2, 3]))
    assert "2" in stormy.step(turns)[0][3]


def test_a_fork_is_refused_and_harms_nothing(tmp_path: Path, storm: Path) -> None:
    code = """
envs = make(num_envs=2, num_workers=2)
envs.reset(seed=0)
before = workers()
child = os.fork()
if child == 0:
    try:
        envs.step([call("count")] * 2)
    except RuntimeError as error:
        print(error, flush=True)
    envs.close()
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), workers() == before)
envs.step([call("count")] * 2)
print(envs.restarts)
"""
    output = finish(script(tmp_path, storm, code)).splitlines()
    assert output[0].startswith("this vector environment belongs to another process")
    assert output[1:] == ["5 True", "0"]
