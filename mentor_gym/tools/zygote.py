"""A sandbox for programs in this Python with numpy and sympy: a fork server inside bubblewrap, one per process.

The server (`mentor_gym.tools.zygote_server`) has imported what programs use. Each program runs in a child of its
own, with no rights: no files but the libraries, none of them writable, no network, no other processes, and only
the system calls of `mentor_gym.tools.seccomp`. Time, memory and output are limited, the clock stands (but for
`numpy.datetime64("now")` and the times of files in `os.scandir`, which ask the machine), what is random follows
from a seed, and addresses, hashes and process numbers do not change from run to run.

Where that cannot be had, `unavailable` says why, and nothing is run.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import platform
import select
import signal
import struct
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from shutil import which

import msgspec

from mentor_gym.fork_server import ForkServer
from mentor_gym.tools import seccomp
from mentor_gym.tools.monty_worker import binding, shared_libraries

PACKAGES = ("numpy", "sympy", "mpmath")
COMPUTING_S = 2.0
# By the clock, for a machine that is very busy: a program has nothing to wait for.
WALL_S = 8.0
# What a server that was not stopped needs beyond that.
_GRACE_S = 1.0
MEMORY_BYTES = 256 << 20
KEPT_CHARS = 4_000
FLOOD_CHARS = 1_000_000
START_S = 60.0
# How often to look whether a server that does not answer was stopped.
STALLED_S = 0.5
# What a reply may be long: what was kept, an error, and their escapes.
_REPLY_BYTES = 100_000
# In the place of a wait status, which is never negative: the server has imported everything.
_READY = -1
_SERVER = Path(__file__).with_name("zygote_server.py")


class ZygoteLost(Exception):
    """The server ended, or cannot be started."""


class _Flood(Exception):
    """A program writes to the pipe of replies, past what stands in for standard output."""


@dataclass
class Outcome:
    """What came of a program.

    Attributes:
        kind: `ok`; `error`, when it failed; `time`, `memory` and `flood`, when it was stopped; `crash`, when it
            ended in another way, without a result.
        text: What it printed.
        error: Type and message of its error.
        line: In which line of the program the error was; None when in none of it.
    """

    kind: str
    text: str = ""
    error: str = ""
    line: int | None = None


class Zygote(ForkServer):
    r"""The fork server, started at the first program.

    A forked child of this process does not share it: it starts its own. A server that is lost is replaced.

    >>> zygote = Zygote()
    >>> zygote.run("import sympy\nprint(sympy.sqrt(8))").text if unavailable() is None else "2*sqrt(2)\n"
    '2*sqrt(2)\n'
    >>> zygote.close()
    """

    def __init__(self) -> None:
        super().__init__()
        self._memory = 0
        self._pid = 0

    def run(self, code: str, seed: int = 0) -> Outcome:
        """Run a program.

        Args:
            code: The program.
            seed: Of everything that is random.

        Raises:
            ZygoteLost: No server can be started, or two were lost.
        """
        with self._lock:
            for attempt in range(2):
                try:
                    return self._attempt(code, seed)
                except _Flood:
                    # To read on until the program's time is over would cost this process as much.
                    self._stop()
                    return Outcome("flood")
                except (ZygoteLost, OSError) as error:
                    self._stop()
                    if attempt:
                        raise ZygoteLost(str(error)) from None
                except BaseException:
                    # A reply that nobody waits for any more would be taken for the next one.
                    self._stop()
                    raise
        raise AssertionError("unreachable")

    def _attempt(self, code: str, seed: int) -> Outcome:
        if self.process is None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        request = {
            "code": code,
            "seed": seed,
            "cpu": COMPUTING_S,
            "wall": WALL_S,
            "memory": self._memory,
            "kept": KEPT_CHARS,
            "flood": FLOOD_CHARS,
        }
        body = msgspec.json.encode(request)
        view = memoryview(struct.pack("<I", len(body)) + body)
        while view:
            view = view[self.process.stdin.write(view) :]
        content, status = self._receive(WALL_S + _GRACE_S)
        return _read_outcome(content, status)

    def _receive(self, seconds: float) -> tuple[bytes, int]:
        """Return what a child wrote, and its wait status."""
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        output, statuses = self.process.stdout.fileno(), self.process.stderr.fileno()
        waiting = select.poll()
        waiting.register(output, select.POLLIN)
        waiting.register(statuses, select.POLLIN)
        deadline = time.monotonic() + seconds
        content, status, size = b"", None, 0
        while True:
            # After the status has come, what is left to read is there already.
            left = 0.0 if status is not None else min(STALLED_S, max(0.0, deadline - time.monotonic()))
            ready = dict(waiting.poll(left * 1000))
            if output in ready:
                part = os.read(output, 65_536)
                if not part:
                    raise ZygoteLost("the server ended")
                size += len(part)
                if size > FLOOD_CHARS:
                    raise _Flood
                # More is no reply; it is read, so that the child need not wait, and dropped.
                content += part if len(content) <= _REPLY_BYTES else b""
            elif status is not None:
                return content, status
            elif statuses in ready:
                told = os.read(statuses, 4)
                if len(told) < 4:
                    raise ZygoteLost("the server ended")
                (status,) = struct.unpack("<i", told)
            elif time.monotonic() >= deadline or self._is_stopped():
                raise ZygoteLost("the server does not answer")

    def _is_stopped(self) -> bool:
        """Whether the server was stopped by a signal; a child that computes for it says nothing either."""
        try:
            state = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return False
        return state in ("T", "t")

    def _start(self) -> None:
        reason = unavailable()
        if reason is not None:
            raise ZygoteLost(reason)
        info, theirs = os.pipe()
        try:
            self.process = subprocess.Popen(
                _command("--info-fd", str(theirs)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd="/",
                env={},
                # Ctrl-C is for this process, which then ends the server.
                start_new_session=True,
                pass_fds=(theirs,),
            )
        finally:
            os.close(theirs)
            with os.fdopen(info, "rb") as pipe:
                told = pipe.read() if self.process is not None else b""
        atexit.register(self.close)
        self._pid = 0
        if self._receive(START_S)[1] != _READY:
            raise ZygoteLost("the server does not start")
        self._pid = msgspec.json.decode(told)["child-pid"]
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[0])
        self._memory = pages * os.sysconf("SC_PAGESIZE") + MEMORY_BYTES


def _read_outcome(content: bytes, status: int) -> Outcome:
    """Return the outcome that a child wrote; a program that ended its process has none."""
    if os.WIFSIGNALED(status):
        stopped = os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM, signal.SIGXCPU)
        return Outcome("time" if stopped else "crash")
    try:
        return msgspec.json.decode(content, type=Outcome)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Outcome("crash")


@lru_cache(maxsize=1)
def unavailable() -> str | None:
    """Return why there can be no sandbox on this machine; None when there can.

    It is tried once in a process, in some hundredths of a second: bubblewrap, Python inside it, and the filter of
    system calls.
    """
    machine = platform.machine()
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return f"{missing[0]} is not installed; install mentor-gym[code-full]"
    if sys.platform != "linux" or machine not in seccomp.machines():
        return f"there is no filter of system calls for {sys.platform} on {machine}"
    if which("bwrap") is None:
        return "bubblewrap (bwrap) is not installed"
    try:
        probe = subprocess.run(
            [*_command(), "probe"], stdin=subprocess.DEVNULL, capture_output=True, env={}, timeout=START_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not run: {type(error).__name__}"
    if probe.returncode == 0:
        return None
    said = probe.stderr.decode(errors="replace").strip().splitlines()
    return f"bubblewrap does not work here: {said[-1] if said else f'exit status {probe.returncode}'}"


def _command(*options: str) -> list[str]:
    """Return the command of the server: nothing shared, no rights, of the files only Python and libraries."""
    command = [
        which("bwrap") or "bwrap",
        *options,
        "--unshare-all",
        "--as-pid-1",
        "--clearenv",
        "--cap-drop",
        "ALL",
        "--chdir",
        "/",
    ]
    command += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox"]
    command += ["--setenv", "PYTHONHASHSEED", "0", "--setenv", "OPENBLAS_NUM_THREADS", "1"]
    library = os.path.dirname(os.__file__)
    there = f"/python/{sys.platlibdir}/{os.path.basename(library)}"
    command += ["--ro-bind", library, there]
    for folder in ("site-packages", "dist-packages"):
        # What else is installed for this Python.
        if os.path.isdir(f"{library}/{folder}"):
            command += ["--tmpfs", f"{there}/{folder}", "--remount-ro", f"{there}/{folder}"]
    python = os.path.realpath(sys.executable)
    command += ["--ro-bind", python, "/python/bin/python3"]
    folders = [_folder(name) for name in PACKAGES]
    modules = [str(path) for folder in (f"{library}/lib-dynload", *folders) for path in Path(folder).rglob("*.so")]
    # Beside it are what shared libraries its wheel brings.
    folders += [f"{folder}.libs" for folder in folders if os.path.isdir(f"{folder}.libs")]
    for folder in folders:
        command += ["--ro-bind", folder, f"/packages/{os.path.basename(folder)}"]
    libraries = shared_libraries(python, tuple(sorted(modules)), os.path.join(sys.base_prefix, "lib"))
    shared = os.path.join(sys.base_prefix, "lib", sysconfig.get_config_var("INSTSONAME") or "")
    if not libraries and os.path.isfile(shared):
        # The system's folders, which are shown then, may not have it.
        command += ["--ro-bind", shared, f"/python/lib/{os.path.basename(shared)}"]
    shown = tuple(f"{os.path.realpath(folder)}/" for folder in folders)
    command += binding(
        {name: path for name, path in libraries.items() if not path.startswith(shown)}, "/python/lib"
    )
    command += ["--ro-bind", str(_SERVER), "/server.py", "--remount-ro", "/", "--", "/python/bin/python3"]
    # Not -I, which would ignore the seed of hashes too.
    return [*command, "-S", "-s", "-P", "-B", "/server.py", seccomp.assemble(platform.machine()).hex()]


def _folder(package: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return str(spec.submodule_search_locations[0])
