"""A wall-clock limit for a Python function.

It interrupts Python code and system calls that signals interrupt, such as `time.sleep`. It cannot interrupt a
computation inside C code (`10**10**10`, a regular expression): for tools that may do that, run the environments in
worker processes, which are killed and restarted (`mentor_gym.vector`).
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

# After the first interruption, for functions that catch everything.
_REPEAT_S = 0.05


class TimedOut(BaseException):
    """Raised inside a function that runs too long; no Exception, so that `except Exception` does not stop it."""


def call_with_timeout(function: Callable[..., Any], arguments: dict[str, Any], seconds: float) -> Any:
    """Call a function with a wall-clock limit.

    In the main thread this takes the process's real-time interval timer for the call, and gives it back; elsewhere
    a watchdog thread raises in the thread of the function, which a sleeping one notices when it wakes.

    Raises:
        TimedOut: The function did not return in time.

    >>> call_with_timeout(lambda a, b: a + b, {"a": 1, "b": 2}, seconds=1.0)
    3
    """
    if threading.current_thread() is threading.main_thread():
        return _call_with_alarm(function, arguments, seconds)
    return _call_with_watchdog(function, arguments, seconds)


def _call_with_alarm(function: Callable[..., Any], arguments: dict[str, Any], seconds: float) -> Any:
    armed = True

    def interrupt(number: int, frame: FrameType | None) -> None:
        if armed:
            raise TimedOut

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, interrupt)
    # An alarm of somebody else's, a test runner's for example, is set again with what is left of it.
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT_S)
    try:
        return function(**arguments)
    finally:
        while armed:
            try:
                armed = False
            except TimedOut:  # the alarm came between the function's end and here
                continue
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if remaining:
            left = max(remaining - (time.monotonic() - started), 1e-6)
            signal.setitimer(signal.ITIMER_REAL, left, interval)


def _call_with_watchdog(function: Callable[..., Any], arguments: dict[str, Any], seconds: float) -> Any:
    thread = threading.get_ident()
    done = threading.Event()
    # Held while the watchdog raises, so that it never raises into what comes after the function.
    lock = threading.Lock()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            with lock:
                if not done.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimedOut))
            wait = _REPEAT_S

    threading.Thread(target=watch, daemon=True, name="tool timeout").start()
    try:
        return function(**arguments)
    finally:
        while not done.is_set():
            try:
                with lock:
                    done.set()
                # One that was raised but not delivered yet.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
            except TimedOut:
                continue
