"""A process beside this one that answers it through pipes: how it is held, ended, and forgotten after a fork.

What it is asked, and how, is the business of those who derive from `ForkServer`: `mentor_gym.math_answers` and
`mentor_gym.tools.zygote`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import threading
import weakref

_servers: weakref.WeakSet[ForkServer] = weakref.WeakSet()


class ForkServer:
    """A server of this process alone: a forked child forgets it, and starts its own when it needs one.

    Attributes:
        process: The server, leader of its own session; None while none runs.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        _servers.add(self)

    def close(self) -> None:
        """End the server. The next question starts another."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        """End the server and all that it started; the lock is held."""
        process, self.process = self.process, None
        if process is not None:
            # Once it was waited for, its number may be another's.
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            _hang_up(process)
            process.wait()
            atexit.unregister(self.close)

    def _forget(self) -> None:
        process, self.process = self.process, None
        # The parent's may have been held by another thread, which is not here to release it.
        self._lock = threading.Lock()
        if process is not None:
            _hang_up(process)
            # No child of this process: Popen must not wait for it.
            process.returncode = 0


def _hang_up(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()


def _forget_all() -> None:
    """Run in a forked child: the servers are the parent's, and must not be held open by others."""
    for server in _servers:
        server._forget()


os.register_at_fork(after_in_child=_forget_all)
