"""Time limits of tools: what they interrupt, what they leave behind, and calls that end just when theirs does."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mentor_gym.tools import Tool, ToolError, timeout, tool
from mentor_gym.tools.base import ToolBox
from mentor_gym.tools.timeout import TimedOut, call_with_timeout
from mentor_gym.types import CallError

# Generous: a busy machine gives a process its turn late.
SOON = 5.0


def spin(seconds: float = 1e9) -> int:
    """Compute until so much time has passed."""
    end = time.perf_counter() + seconds
    count = 0
    while time.perf_counter() < end:
        count += 1
    return count


def sleep() -> None:
    time.sleep(1e6)


def catch_exceptions() -> None:
    while True:
        with contextlib.suppress(Exception):
            spin()


def catch_everything() -> None:
    count = 0
    while True:
        try:
            spin()
        except BaseException:
            count += 1


def catch_everything_asleep() -> None:
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            continue


def catch_everything_twice() -> None:
    while True:
        try:
            catch_everything_asleep()
        except BaseException:
            continue


def hide_in_finally() -> None:
    while True:
        try:
            time.sleep(0.01)
        finally:
            continue  # noqa: B012


class Endless:
    """A result that takes for ever to be written."""

    def __str__(self) -> str:
        spin()
        return ""


class EndlessError(ToolError):
    """A failure that takes for ever to be written."""

    def __str__(self) -> str:
        spin()
        return ""


def in_thread(function: Callable[[], Any], patience: float = 30.0) -> Any:
    """Run in a thread of its own, and return what came of it."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(patience)
    assert found, "the call never came back"
    return found[0]


def timer_state() -> tuple[Any, Any]:
    return signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever happens in a test, timer, handler and threads are as before, and nothing is raised late."""
    before, threads = timer_state(), threading.active_count()
    yield
    # Longer than the distance of two interruptions.
    spin(1.4 * timeout._REPEAT_S)
    assert timer_state() == before
    deadline = time.monotonic() + SOON
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= threads


@pytest.mark.parametrize("seconds", [0.02, 30.0])
@pytest.mark.parametrize("run", [lambda call: call(), in_thread], ids=["main", "thread"])
def test_what_returns_in_time_is_untouched(run: Callable[..., Any], seconds: float) -> None:
    assert run(lambda: call_with_timeout(lambda a, b: a - b, {"a": 3, "b": 1}, seconds)) == 2
    error = KeyError("x")

    def fail() -> None:
        raise error

    def caught() -> BaseException:
        with pytest.raises(KeyError) as raised:
            call_with_timeout(fail, {}, seconds)
        return raised.value

    assert run(caught) is error


@pytest.mark.parametrize(
    "function",
    [
        spin,
        sleep,
        catch_exceptions,
        catch_everything,
        catch_everything_asleep,
        catch_everything_twice,
        hide_in_finally,
    ],
)
def test_a_function_that_never_ends_is_ended(function: Callable[[], Any]) -> None:
    started = time.perf_counter()
    with pytest.raises(TimedOut):
        call_with_timeout(function, {}, 0.1)
    assert 0.1 <= time.perf_counter() - started < SOON


@pytest.mark.parametrize("function", [spin, catch_exceptions])
def test_a_function_that_never_ends_is_ended_in_another_thread(function: Callable[[], Any]) -> None:
    started = time.perf_counter()
    assert isinstance(in_thread(lambda: call_with_timeout(function, {}, 0.1)), TimedOut)
    assert 0.1 <= time.perf_counter() - started < SOON


def test_a_sleeping_thread_notices_when_it_wakes() -> None:
    started = time.perf_counter()
    assert isinstance(in_thread(lambda: call_with_timeout(time.sleep, {}, 0.1)), TypeError)

    def nap() -> None:
        time.sleep(0.4)

    assert isinstance(in_thread(lambda: call_with_timeout(nap, {}, 0.1)), TimedOut)
    assert 0.4 <= time.perf_counter() - started < SOON


def test_cleaning_up_is_not_interrupted_at_once() -> None:
    done = []

    def work() -> None:
        try:
            spin()
        finally:
            spin(timeout._REPEAT_S / 5)
            done.append(1)

    with pytest.raises(TimedOut):
        call_with_timeout(work, {}, 0.05)
    assert done == [1]


@pytest.mark.parametrize(
    "function", [catch_everything_asleep, spin, lambda: None], ids=["catches", "spins", "ends"]
)
def test_an_alarm_of_somebody_else_still_comes(function: Callable[[], Any]) -> None:
    """A test runner's own limit, for example; with what was left of it, and to its own handler."""
    rung = []

    def ring(number: int, frame: object) -> None:
        rung.append(time.perf_counter())

    before = signal.signal(signal.SIGALRM, ring)
    try:
        started = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, 0.6, 0.2)
        with contextlib.suppress(TimedOut):
            call_with_timeout(function, {}, 0.1)
        assert rung == []
        assert signal.getsignal(signal.SIGALRM) is ring
        assert signal.getitimer(signal.ITIMER_REAL)[1] == pytest.approx(0.2)
        spin(1.0)
        assert rung[0] - started >= 0.6
        assert len(rung) >= 2, "its interval was lost"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_alarm_that_was_due_in_the_call_comes_after_it() -> None:
    rung = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert call_with_timeout(spin, {"seconds": 0.2}, 10.0) > 0
        spin(0.05)
        assert rung == [1]
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("run", [lambda call: call(), in_thread], ids=["main", "thread"])
def test_limits_nest(run: Callable[..., Any]) -> None:
    """A tool that calls a tool: the inner limit ends the inner call, the outer one the rest."""
    inner = []

    def outer() -> None:
        try:
            call_with_timeout(spin, {}, 0.05)
        except TimedOut:
            inner.append(time.perf_counter())
        spin()

    started = time.perf_counter()
    with contextlib.suppress(TimedOut):
        assert isinstance(run(lambda: call_with_timeout(outer, {}, 0.4)), TimedOut)
    assert len(inner) == 1
    assert time.perf_counter() - started >= 0.4


def test_ctrl_c_is_not_swallowed() -> None:
    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)
        spin()

    with pytest.raises(KeyboardInterrupt):
        call_with_timeout(interrupted, {}, 10.0)


def test_a_handler_of_a_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python names such a handler None and cannot put it back, so a watchdog is used in the main thread too."""
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(timeout, "_call_with_alarm", None)
    with pytest.raises(TimedOut):
        call_with_timeout(spin, {}, 0.1)


def about_the_limit(calls: int, seconds: float) -> list[int]:
    """Make calls that take about as long as they may; returns how many ended, were ended, and interrupted us."""
    chance = random.Random(0)
    ended = timed_out = stray = 0
    for _ in range(calls):
        try:
            try:
                call_with_timeout(spin, {"seconds": seconds * chance.uniform(0.9, 1.1)}, seconds)
                ended += 1
            except TimedOut:
                timed_out += 1
            # Bytecode on which a late one would fall.
            for _ in range(100):
                pass
        except TimedOut:
            stray += 1
    try:
        spin(0.15)
    except TimedOut:
        stray += 1
    return [ended, timed_out, stray]


@pytest.mark.parametrize("seconds", [1e-6, 1e-4, 1e-3])
def test_nothing_is_raised_after_a_call_that_ends_about_at_its_limit(seconds: float) -> None:
    ended, timed_out, stray = about_the_limit(2000, seconds)
    assert (ended + timed_out, stray) == (2000, 0)
    assert timed_out > 100


@pytest.mark.parametrize("seconds", [1e-4, 1e-3])
def test_nothing_is_raised_after_such_a_call_in_another_thread(seconds: float) -> None:
    # Threads take turns of 5 ms; shorter ones let the watchdog in about when the call ends.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        ended, timed_out, stray = in_thread(lambda: about_the_limit(2000, seconds), patience=120)
    finally:
        sys.setswitchinterval(interval)
    assert (ended + timed_out, stray) == (2000, 0)
    assert timed_out > 0


def test_two_threads_have_limits_of_their_own() -> None:
    found: dict[int, Any] = {}

    def play(number: int) -> None:
        try:
            call_with_timeout(spin, {"seconds": 0.3 if number else 1e9}, 30.0 if number else 0.1)
            found[number] = "ended"
        except TimedOut:
            found[number] = "timed out"

    threads = [threading.Thread(target=play, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {0: "timed out", 1: "ended", 2: "ended"}


def documented(function: Callable[..., Any], seconds: float | None) -> Tool:
    function.__doc__ = function.__doc__ or "Do something."
    return Tool(function, "work", "Do something.", {"properties": {}}, timeout=seconds)


@pytest.mark.parametrize("function", [spin, catch_everything, Endless, lambda: Endless()])
def test_a_tool_that_is_ended_says_so_in_a_fixed_text(function: Callable[..., Any]) -> None:
    result = documented(function, 0.1).call({})
    assert (result.ok, result.error) == (False, CallError.TIMED_OUT)
    assert result.output == "error: work timed out after 0.1 s"


def test_the_text_of_a_failure_is_written_within_the_limit_too() -> None:
    def fail() -> None:
        raise EndlessError

    assert documented(fail, 0.1).call({}).error is CallError.TIMED_OUT


def test_without_a_limit_no_timer_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mentor_gym.tools.base.call_with_timeout", None)
    assert documented(lambda: "done", None).call({}).output == "done"
    assert documented(lambda: "done", 1.0).call({}).error is CallError.TOOL_FAILED


def test_marked_functions_have_a_limit_and_shipped_tools_none() -> None:
    def work() -> str:
        """Work."""
        return ""

    def limit(marked: Any) -> float | None:
        return ToolBox.from_module({"work": marked}).tools["work"].timeout

    assert (limit(tool(work)), limit(tool(timeout=2)(work)), limit(tool(timeout=None)(work))) == (30.0, 2, None)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "1", 1e6])
def test_a_limit_is_a_positive_number(seconds: Any) -> None:
    with pytest.raises(ValueError, match="timeout must be a positive number of seconds or None"):
        documented(lambda: "", seconds)
    with pytest.raises(ValueError, match="timeout must be a positive number of seconds or None"):
        tool(timeout=seconds)


def test_a_late_alarm_never_ends_the_process(tmp_path: Path) -> None:
    """Of the many alarms for a function that catches everything, the kernel gives some to other threads."""
    code = f"""
import json, sys, threading, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
sys.unraisablehook = lambda problem: noted.append(str(problem.exc_value))
noted = []
import test_timeout
from mentor_gym.tools.timeout import TimedOut, call_with_timeout
for _ in range(4):
    # C code that holds no lock of Python's.
    threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
count = 0
end = time.perf_counter() + 2
while time.perf_counter() < end:
    try:
        call_with_timeout(test_timeout.catch_everything_twice, {{}}, 0.001)
    except TimedOut:
        count += 1
print(json.dumps([count, noted]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    count, noted = json.loads(done.stdout)
    assert count > 5
    assert noted == []
