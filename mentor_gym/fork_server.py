"""Processes beside this one that answer it: how they are held, ended, and forgotten after a fork.

What they are asked, and how, is the business of those who derive from these classes: `mentor_gym.math_answers`,
`mentor_gym.tools.zygote` and `mentor_gym.tools.monty`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import threading
import weakref
from abc import ABC, abstractmethod

_owners: weakref.WeakSet[ProcessOwner] = weakref.WeakSet()


class ProcessOwner(ABC):
    """What has a process of this one alone: a forked child forgets it, and starts its own when it needs one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _owners.add(self)

    def close(self) -> None:
        """End the process. The next question starts another."""
        with self._lock:
            self._stop()

    @abstractmethod
    def _stop(self) -> None:
        """End the process and all that it started, if there is one; the lock is held."""

    @abstractmethod
    def _forget(self) -> None:
        """Let go of the parent's process, in a forked child."""


class ForkServer(ProcessOwner):
    """A server that is spoken to through its pipes.

    Attributes:
        process: The server, leader of its own session; None while none runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.process: subprocess.Popen[bytes] | None = None

    def _stop(self) -> None:
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
    """Run in a forked child: the processes are the parent's, and must not be held open by others."""
    for owner in _owners:
        # Another thread may have held it, which is not here to release it.
        owner._lock = threading.Lock()
        owner._forget()


os.register_at_fork(after_in_child=_forget_all)
