"""A wall-clock limit for a Python function.

It interrupts Python code and system calls that signals interrupt, such as `time.sleep`. It cannot interrupt a
computation inside C code (`sum(range(10**12))`, a regular expression): for tools that may do that, run the
environments in worker processes, which are killed and restarted (`mentor_gym.vector`).
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

# What a function that was interrupted has for its cleaning up; then it is interrupted again.
_REPEAT_S = 0.05
# And from then on so often that one comes outside of every `try` of a function that catches everything.
_PRESS_S = 2e-5
_LATE_S = 0.02


class TimedOut(BaseException):
    """Raised inside a function that runs too long; no Exception, so that `except Exception` does not stop it."""


def call_with_timeout(function: Callable[..., Any], arguments: dict[str, Any], seconds: float) -> Any:
    """Call a function with a wall-clock limit.

    In the main thread this takes the process's real-time interval timer for the call, and gives it back with what
    is left of it. Elsewhere a watchdog thread raises in the thread of the function, which a sleeping one notices
    when it wakes, and one that catches everything never obeys.

    Raises:
        TimedOut: The function did not return in time.

    >>> call_with_timeout(lambda a, b: a + b, {"a": 1, "b": 2}, seconds=1.0)
    3
    """
    is_main = threading.current_thread() is threading.main_thread()
    # None: a handler that was installed by a library in C, which Python could not put back.
    if is_main and signal.getsignal(signal.SIGALRM) is not None:
        return _call_with_alarm(function, arguments, seconds)
    return _call_with_watchdog(function, arguments, seconds)


def _call_with_alarm(function: Callable[..., Any], arguments: dict[str, Any], seconds: float) -> Any:
    armed = pressed = False
    interruptions = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interruptions, pressed
        if armed:
            interruptions += 1
            if interruptions > 1 and not pressed:
                pressed = True
                signal.setitimer(signal.ITIMER_REAL, _PRESS_S, _PRESS_S)
            raise TimedOut

    handler = signal.getsignal(signal.SIGALRM)
    # Somebody else's, a test runner's for example. The clock is read after it: what comes between the two makes
    # that alarm late, and never early.
    remaining, interval = signal.getitimer(signal.ITIMER_REAL)
    started = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, interrupt)
        armed = True
        signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT_S)
        return function(**arguments)
    finally:
        # First of all, and alone: the interpreter handles signals after calls and jumps, not after assignments.
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        if pressed:
            # Of so many, the kernel gave some to other threads, which may be late; the rest is dropped.
            time.sleep(_LATE_S)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, handler)
        if remaining:
            left = max(remaining - (time.monotonic() - started), 1e-6)
            signal.setitimer(signal.ITIMER_REAL, left, interval)


def _call_with_watchdog(function: Callable[..., Any], arguments: dict[str, Any], seconds: float) -> Any:
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    thread, exception = ctypes.c_ulong(threading.get_ident()), ctypes.py_object(TimedOut)
    armed = True
    ended = threading.Lock()
    ended.acquire()

    def watch() -> None:
        wait = seconds
        while not ended.acquire(timeout=wait):
            # No other thread runs between these two, for the reason given below.
            if not armed:
                return
            raise_in(thread, exception)
            wait = _REPEAT_S

    try:
        threading.Thread(target=watch, daemon=True, name="tool timeout").start()
        return function(**arguments)
    finally:
        # As above: threads are switched, and exceptions of other threads raised, after calls and jumps.
        armed = False
        try:
            # One that was raised but not delivered yet.
            raise_in(thread, None)
        finally:
            ended.release()
