"""A worker of Monty: the process, its limits, and bubblewrap around it.

A worker is started with a pipe to talk through (`monty_wire`) and nothing else: no environment variables, no other
files of this process. Inside bubblewrap it has no network, no other process, and of the files of the machine only
the shared libraries that it needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sysconfig
import time
from functools import lru_cache
from typing import Any

from mentor_gym.tools import monty_wire as wire

# More than a program may print, and than its error may hold.
FLOOD_CHARS = 1_000_000
# A worker that computes nothing for so long was stopped, or the machine is out of order.
STALLED_S = 1.5
START_S = 10.0
_DENIED_MEMORY = 65


class InterpreterLost(Exception):
    """No worker can be started; says why."""


class WorkerLost(Exception):
    """The worker ended, was stopped, or says what makes no sense."""


class Stopped(Exception):
    """A program was stopped; the argument is the kind of its reply."""


class Worker:
    """A running worker.

    Args:
        wrap: Whether to start it inside bubblewrap.

    Raises:
        InterpreterLost: It cannot be started.

    Attributes:
        process: The process that was started: the worker, or bubblewrap.
        sessions: How many sessions it has served.
        is_configured: Whether it holds a session.
        has_clock: Whether the system tells what another process has computed.
    """

    def __init__(self, wrap: bool) -> None:
        command, info = worker_command(wrap)
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                env={},
                # Ctrl-C is for this process, which then ends the worker.
                start_new_session=True,
                pass_fds=info[1:],
            )
        except OSError as error:
            if info:
                os.close(info[0])
            raise InterpreterLost(f"{command[0]}: {error.strerror}") from None
        finally:
            if info:
                os.close(info[1])
        self.pid = _read_pid(info[0]) or self.process.pid if info else self.process.pid
        self._pipes: tuple[Any, ...] = (self.process.stdin, self.process.stdout)
        self.sessions = 0
        self.is_configured = False
        self.has_clock = True
        try:
            self.computed()
        except OSError:
            self.has_clock = False

    def send(self, request: bytes) -> None:
        """Send a request.

        Raises:
            WorkerLost: The worker has ended.
        """
        view = memoryview(request)
        try:
            while view:
                view = view[self._pipes[0].write(view) :]
        except OSError:
            raise WorkerLost from None

    def receive(self, seconds: float, computing_until: float | None = None) -> tuple[int, bytes]:
        """Wait for an event.

        Args:
            seconds: How long to wait for it.
            computing_until: What `computed` may show at most; None for a worker that is starting, which may take
                long without computing.

        Raises:
            WorkerLost: The worker has ended, computes nothing or takes too long.
            Stopped: It has computed for too long, ended for lack of memory, or says too much.
        """
        deadline = time.monotonic() + seconds
        (length,) = wire.LENGTH.unpack(self._read(wire.LENGTH.size, deadline, computing_until))
        if length > FLOOD_CHARS:
            raise Stopped("flood")
        try:
            return wire.read_event(self._read(length, deadline, computing_until))
        except wire.WireError:
            raise WorkerLost from None

    def _read(self, count: int, deadline: float, computing_until: float | None) -> bytes:
        pipe = self._pipes[1]
        parts = []
        while count:
            self._wait(pipe, deadline, computing_until)
            part = os.read(pipe.fileno(), count)
            if not part:
                raise Stopped("memory") if self._exit_status() == _DENIED_MEMORY else WorkerLost
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _wait(self, pipe: Any, deadline: float, computing_until: float | None) -> None:
        """Wait until there is something to read."""
        if _is_readable(pipe, 0.01):
            return
        try:
            before, since = self.computed(), time.monotonic()
            while True:
                now = self.computed()
                if computing_until is not None and now > computing_until:
                    raise Stopped("time")
                if now > before or computing_until is None:
                    before, since = now, time.monotonic()
                if time.monotonic() > min(deadline, since + STALLED_S):
                    raise WorkerLost
                # It cannot compute longer than the time that passes.
                left = STALLED_S if computing_until is None else computing_until - now
                if _is_readable(pipe, min(max(left, 0.001), 0.25)):
                    return
        except OSError:
            # Without a process there is no clock, and at the end of the pipe its exit status.
            return

    def computed(self) -> float:
        """Seconds that the worker has computed; by the clock where the system does not tell.

        Raises:
            OSError: It has ended.
        """
        # Linux numbers the clock of another process so (clock_getcpuclockid).
        return time.clock_gettime(~self.pid << 3 | 2) if self.has_clock else time.monotonic()

    def _exit_status(self) -> int | None:
        try:
            return self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End the worker."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.hang_up()
        self.process.wait()

    def hang_up(self) -> None:
        """Close the pipes."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.close()

    def disown(self) -> None:
        """Give up a worker that is the parent's of this forked process."""
        self.hang_up()
        # No child of this process: Popen must not wait for it.
        self.process.returncode = 0


@lru_cache(maxsize=1)
def find_monty() -> str | None:
    """Return the path of Monty's executable, which the package `pydantic-monty-runtime` installs; None without."""
    for scheme in (None, f"{os.name}_user"):
        folder = sysconfig.get_path("scripts") if scheme is None else sysconfig.get_path("scripts", scheme)
        path = os.path.join(folder, "monty")
        if os.access(path, os.X_OK):
            return path
    return shutil.which("monty")


def _is_readable(pipe: Any, seconds: float) -> bool:
    # Not select(), which knows no descriptors above 1023: a process may hold many environments.
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _read_pid(descriptor: int) -> int | None:
    """Read the worker's pid from bubblewrap; None where that has failed, and so will the first request."""
    told = b""
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        while _is_readable(pipe, START_S):
            part = pipe.read(4096)
            if not part:
                break
            told += part
    try:
        return int(json.loads(told)["child-pid"])
    except (ValueError, LookupError):
        return None


def worker_command(wrap: bool) -> tuple[list[str], tuple[int, ...]]:
    """Return the command that starts a worker, and for bubblewrap a pipe on which it tells the worker's pid.

    Raises:
        InterpreterLost: Monty, or bubblewrap where it is wanted, is not installed.
    """
    monty = find_monty()
    if monty is None:
        raise InterpreterLost("Monty is not installed")
    if not wrap:
        return [monty, "subprocess"], ()
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise InterpreterLost("bubblewrap (bwrap) is not installed")
    info = os.pipe()
    return [bwrap, "--info-fd", str(info[1]), *wrapping(monty), "--", "/monty", "subprocess"], info


def wrapping(program: str) -> list[str]:
    """Return options of bubblewrap: nothing shared, no rights, and of the files only libraries and `/monty`.

    >>> wrapping("/usr/bin/true")[:3]
    ['--unshare-all', '--as-pid-1', '--clearenv']
    """
    options = ["--unshare-all", "--as-pid-1", "--clearenv", "--cap-drop", "ALL", "--chdir", "/", "--dev", "/dev"]
    options += ["--uid", "65534", "--gid", "65534"]
    return [*options, *binding(shared_libraries(program), "/lib"), "--ro-bind", program, "/monty"]


def binding(libraries: dict[str, str], folder: str) -> list[str]:
    """Return options of bubblewrap that put shared libraries into a folder, and let programs find them there.

    Args:
        libraries: As of `shared_libraries`; where there are none, the system's folders are shown in their place.
        folder: Where to, inside.

    >>> binding({"libm.so.6": "/usr/lib/libm.so.6"}, "/lib")[3:]
    ['--ro-bind', '/usr/lib/libm.so.6', '/lib/libm.so.6']
    """
    options = ["--setenv", "LD_LIBRARY_PATH", folder]
    for name, path in libraries.items():
        # A loader stands where programs name it.
        options += ["--ro-bind", path, name if name.startswith("/") else f"{folder}/{name}"]
    for shown in () if libraries else ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64"):
        if os.path.islink(shown):
            options += ["--symlink", os.readlink(shown), shown]
        elif os.path.isdir(shown):
            options += ["--ro-bind", shown, shown]
    return options


@lru_cache(maxsize=4)
def shared_libraries(program: str, modules: tuple[str, ...] = (), folder: str = "") -> dict[str, str]:
    """Ask the loader of the system which shared libraries a program needs.

    It tells that instead of running the program (`LD_TRACE_LOADED_OBJECTS` of ld.so(8)).

    Args:
        program: Its path.
        modules: Paths of libraries that the program will load itself.
        folder: Where to look before the system's folders.

    Returns:
        Paths by name. The loader's name is where programs expect it, a whole path. Empty where the loader tells
        nothing: that of musl, of a program that needs none, and of modules whose paths it would split.
    """
    if any(mark in module for module in modules for mark in ": \t\n"):
        return {}
    env = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_PRELOAD": ":".join(modules), "LD_LIBRARY_PATH": folder}
    try:
        # Should it run after all, it finds nothing to do.
        told = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=env,
            cwd="/",
            timeout=START_S,
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found = {}
    for line in told.splitlines():
        # `name => path (address)`, or of the loader and of modules `path (address)`.
        name, _, path = line.strip().rpartition(" (")[0].partition(" => ")
        if name not in modules and os.path.isfile(path or name):
            found[name] = os.path.realpath(path or name)
    return found
