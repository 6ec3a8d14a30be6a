"""Run calls that may hang, eat the memory or end the process in a child process that is thrown away.

A limit inside the process cannot interrupt a computation in C code (`sum(range(10**12))`); killing a process can.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import select
import signal
import struct
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

# What the child may allocate beyond what it has when it begins.
_MEMORY_BYTES = 2 * 1024**3
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Lost:
    """In place of a result: the call did not come back.

    Attributes:
        reason: What happened, as the end of a sentence.
    """

    reason: str


def run_apart(calls: Sequence[Callable[[], Any]], seconds: float) -> list[Any]:
    """Run calls one after another in one forked child process.

    What they change stays in the child. Their results come back by pickle; one that cannot be pickled comes back
    as its `repr`.

    Args:
        calls: Functions without arguments, which raise nothing.
        seconds: Wall-clock limit of each call.

    Returns:
        Their results. When one does not come back, its place holds a `Lost`, which is then the last item.

    >>> run_apart([lambda: 1, lambda: os._exit(3), lambda: 2], seconds=10)
    [1, Lost(reason='ended the process with status 3')]
    """
    sys.stdout.flush()
    sys.stderr.flush()
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python warns where other threads run. The child runs nothing but the calls and never returns from here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(read)
        _serve(calls, write)
    os.close(write)
    results: list[Any] = []
    reaped = False
    try:
        with os.fdopen(read, "rb", buffering=0) as pipe:
            for _ in calls:
                message = _receive(pipe, seconds)
                if isinstance(message, bytes):
                    results.append(pickle.loads(message))
                    continue
                if message is None:
                    os.kill(child, signal.SIGKILL)
                    results.append(Lost(f"did not come back within {seconds:g} s"))
                    break
                _, status = os.waitpid(child, 0)
                reaped = True
                results.append(Lost(_describe(status)))
                break
    finally:
        if not reaped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return results


def _serve(calls: Sequence[Callable[[], Any]], write: int) -> None:
    """Run in the child, which ends here: nothing of the parent's, no exit handler and no test, runs in it."""
    try:
        _limit_memory()
        with os.fdopen(write, "wb", buffering=0) as pipe:
            for call in calls:
                result = call()
                try:
                    message = pickle.dumps(result)
                except Exception:
                    message = pickle.dumps(repr(result))
                _send(pipe, message)
    finally:
        os._exit(0)


def _limit_memory() -> None:
    try:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MEMORY_BYTES, most))
    except (OSError, ValueError):
        pass  # no /proc, or a lower limit is set already


def _send(pipe: BinaryIO, message: bytes) -> None:
    view = memoryview(_LENGTH.pack(len(message)) + message)
    while view:
        view = view[pipe.write(view) :]


def _receive(pipe: BinaryIO, seconds: float) -> bytes | bool | None:
    """Return the next message; None when the time is over, False when the child is gone."""
    deadline = time.monotonic() + seconds
    data = b""
    wanted = _LENGTH.size
    known = False
    while True:
        if len(data) == wanted:
            if known:
                return data
            (wanted,) = _LENGTH.unpack(data)
            data, known = b"", True
            continue
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return None
        part = pipe.read(min(wanted - len(data), 1 << 20))
        if not part:
            return False
        data += part


def _describe(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended the process with status {os.WEXITSTATUS(status)}"
