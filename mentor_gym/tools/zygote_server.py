"""The fork server inside the sandbox of `mentor_gym.tools.zygote`: runs there, and is imported nowhere.

It imports what programs use, then forks a child for each of them, which gives up every right before it runs the
program. The server itself reads nothing that could come from a program, so that every child starts from the same
memory.

Standard input brings requests, each JSON after four bytes of length; standard output takes what children write,
and standard error a wait status for each. The arguments are the filter of system calls as hexadecimal digits, and
"probe" to try the filter and end.
"""

from __future__ import annotations

import builtins
import ctypes
import datetime
import gc
import json
import os
import random
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER_MODE = 38, 22, 2
FIXED_ADDRESSES, WHAT_IS_SET = 0x0040000, 0xFFFFFFFF
REQUESTS, REPLIES, STATUSES = 0, 1, 2
READY, GONE = -1, 9
NOW = 1_767_225_600
PROGRAM = "<program>"
MODULES = (
    "array", "base64", "bisect", "calendar", "cmath", "collections", "contextlib", "copy", "csv", "dataclasses",
    "decimal", "difflib", "enum", "fractions", "functools", "hashlib", "heapq", "inspect", "itertools", "math",
    "mpmath", "numpy", "numpy.polynomial", "operator", "platform", "pprint", "re", "secrets", "statistics",
    "string", "sympy", "sympy.stats", "textwrap", "traceback", "typing", "unicodedata", "uuid", "warnings",
)  # fmt: skip
# What these import and compute once is then there for every program.
WARM = """
from sympy import *
x, y = symbols("x y")
f = Function("f")
simplify(sin(x) ** 2 + cos(x) ** 2)
solve([x + y - 3, x - y - 1], [x, y])
solve(x ** 4 - 5 * x ** 2 + 4, x)
solve(x ** 2 + x + 1, x)
integrate(x * exp(x) * sin(x), x)
integrate(1 / (x ** 2 + 1), (x, 0, oo))
diff(log(x ** 2 + 1) / x, x)
limit(sin(x) / x, x, 0)
series(exp(x), x, 0, 4)
factor(x ** 3 - 1)
apart(1 / (x ** 2 - 1))
dsolve(f(x).diff(x) - f(x))
summation(x ** 2, (x, 1, y))
m = Matrix([[2, 1], [1, 3]])
m.eigenvals(), m.eigenvects(), m.inv(), m.det(), m.rref(), m.nullspace()
N(pi, 20), latex(x / 2), factorint(360), binomial(10, 3), nsolve(cos(x) - x, 1), str(sqrt(2) / 2)
import numpy
numpy.linalg.eig(numpy.array([[2.0, 1.0], [1.0, 3.0]])), numpy.linalg.solve(numpy.eye(2), numpy.ones(2))
numpy.random.default_rng(1).random(), numpy.roots([1, -3, 2]), repr(numpy.linspace(0, 1, 3))
"""

libc = ctypes.CDLL(None, use_errno=True)


class Instruction(ctypes.Structure):
    """One instruction of a filter of system calls (`struct sock_filter`)."""

    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class Filter(ctypes.Structure):
    """A filter of system calls (`struct sock_fprog`)."""

    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(Instruction)))


def read_filter(digits: str) -> Filter:
    """Return a filter from its bytes as hexadecimal digits."""
    content = bytes.fromhex(digits)
    count = len(content) // ctypes.sizeof(Instruction)
    return Filter(count, (Instruction * count).from_buffer_copy(content))


def deny(rules: Filter) -> None:
    """Give up all system calls but those that the filter allows."""
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(
        SET_SECCOMP, FILTER_MODE, ctypes.byref(rules), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "seccomp")


class TooMuch(BaseException):
    """The program put out more than it may."""


class Printed:
    """What stands in for standard output and error: keeps the first part, and stops a flood."""

    encoding = "utf-8"

    def __init__(self, kept: int, flood: int) -> None:
        self.parts: list[str] = []
        self.size, self.kept, self.flood = 0, kept, flood

    def write(self, text: str) -> int:
        """Take a text."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self.size < self.kept:
            self.parts.append(text[: self.kept - self.size])
        self.size += len(text)
        if self.size > self.flood:
            raise TooMuch
        return len(text)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def isatty(self) -> bool:
        """Be no terminal."""
        return False

    def text(self) -> str:
        """Return what was kept."""
        return valid("".join(self.parts))


def valid(text: str) -> str:
    """Replace what cannot be encoded."""
    return text.encode("utf-8", "replace").decode()


def without_times(real: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
    """Let what tells of a file say that all times are now: folders are made when the sandbox starts."""
    times: dict[str, float] = {}
    for kind in ("atime", "mtime", "ctime"):
        times |= {f"st_{kind}": float(NOW), f"st_{kind}_ns": NOW * 10**9}

    def stat(*args: Any, **options: Any) -> os.stat_result:
        found = real(*args, **options)
        sizes = {"st_blksize": found.st_blksize, "st_blocks": found.st_blocks, "st_rdev": found.st_rdev}
        return os.stat_result((*found[:7], NOW, NOW, NOW), times | sizes)

    return stat


def hide_machine() -> None:
    """Let the machine have no name and no version, its clock stand, and sleep take no time."""
    os.uname = lambda: os.uname_result(("Linux", "sandbox", "", "", ""))

    def standing(value: float) -> Callable[[], float]:
        return lambda: value

    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        setattr(time, name, standing(float(NOW)))
        setattr(time, f"{name}_ns", standing(NOW * 10**9))
    time.sleep = lambda seconds: None
    time.clock_gettime = lambda clock: float(NOW)
    time.clock_gettime_ns = lambda clock: NOW * 10**9
    for name in ("gmtime", "localtime", "ctime"):
        real = getattr(time, name)
        setattr(time, name, lambda seconds=None, real=real: real(NOW if seconds is None else seconds))
    strftime, asctime = time.strftime, time.asctime
    time.strftime = lambda form, t=None: strftime(form, time.localtime() if t is None else t)
    time.asctime = lambda t=None: asctime(time.localtime() if t is None else t)

    for name in ("stat", "lstat", "fstat"):
        setattr(os, name, without_times(getattr(os, name)))

    def now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return cls.fromtimestamp(NOW, tz)

    def utcnow(cls: type[datetime.datetime]) -> datetime.datetime:
        return cls.fromtimestamp(NOW)

    # These alone do not ask `time`. Not a subclass in their place, which numpy's dates would not be instances of.
    attributes = gc.get_referents(datetime.datetime.__dict__)[0]
    attributes["now"], attributes["utcnow"] = classmethod(now), classmethod(utcnow)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))


def seed_generators() -> None:
    """Let generators that are made without a seed take one from `os.urandom`, which `fix_random` sets."""
    real = random.Random.seed

    def seed_with(self: random.Random, a: Any = None, version: int = 2) -> None:
        real(self, int.from_bytes(os.urandom(16), "big") if a is None else a, version)

    random.Random.seed = seed_with  # type: ignore[method-assign]
    random.seed = vars(random)["_inst"].seed


def fix_random(seed: int) -> None:
    """Let everything that is random follow from the seed."""
    source = random.Random(seed)
    os.urandom = source.randbytes
    vars(random)["_urandom"] = source.randbytes
    random.seed(seed)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def line_of(error: BaseException) -> int | None:
    """Return the last line of the program that an error came through; None for none."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == PROGRAM:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename == PROGRAM:
        line = error.lineno
    return line


def describe(error: BaseException, kept: int) -> str:
    """Return type and message of an error; a message that cannot be written is left out."""
    name = type(error).__name__
    try:
        message = error.msg if isinstance(error, SyntaxError) else str(error)
    except BaseException:
        message = ""
    return valid(f"{name}: {message}"[:kept]) if message else name


def run(code: str, printed: Printed, kept: int) -> dict[str, Any]:
    """Run a program; returns what came of it."""
    scope = {"__name__": "__main__", "__builtins__": builtins}
    try:
        exec(compile(code, PROGRAM, "exec"), scope)
    except TooMuch:
        return {"kind": "flood"}
    except MemoryError:
        return {"kind": "memory"}
    except BaseException as error:
        return {"kind": "error", "error": describe(error, kept), "line": line_of(error), "text": printed.text()}
    return {"kind": "ok", "text": printed.text()}


def read(count: int) -> bytes:
    """Read from standard input; ends this process at its end."""
    content = b""
    while len(content) < count:
        part = os.read(REQUESTS, count - len(content))
        if not part:
            os._exit(GONE)
        content += part
    return content


def serve(rules: Filter) -> None:
    """Be the child that runs one program."""
    request = json.loads(read(struct.unpack("<I", read(4))[0]))
    os.close(REQUESTS)
    os.close(STATUSES)
    for name, value in (
        (resource.RLIMIT_AS, request["memory"]),
        (resource.RLIMIT_CPU, int(request["cpu"]) + 1),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(name, (value, value))
    # Their signals end the process; the filter leaves no way to block or to handle one.
    signal.setitimer(signal.ITIMER_PROF, request["cpu"])
    signal.setitimer(signal.ITIMER_REAL, request["wall"])
    printed = Printed(request["kept"], request["flood"])
    stream: Any = printed
    sys.stdout = sys.stderr = stream
    fix_random(request["seed"])
    deny(rules)
    reply = json.dumps(run(request["code"], printed, request["kept"])).encode()
    while reply:
        reply = reply[os.write(REPLIES, reply) :]
    os._exit(0)


def main() -> None:
    """Prepare, and serve requests until there are no more."""
    rules = read_filter(sys.argv[1])
    # The kernel takes this up where it loads a program.
    if libc.personality(WHAT_IS_SET) & FIXED_ADDRESSES == 0:
        if libc.personality(FIXED_ADDRESSES) == -1:
            sys.exit("addresses cannot be fixed")
        os.execv(sys.executable, sys.orig_argv)
    if sys.argv[2:] == ["probe"]:
        deny(rules)
        if libc.getppid() != -1:
            sys.exit("system calls cannot be denied")
        return
    # Before the imports, so that the memory that every child starts from is the same, too.
    hide_machine()
    seed_generators()
    fix_random(0)
    # A warning of an import would be taken for a status.
    nothing: Any = None
    sys.stdin = sys.stderr = nothing
    sys.argv = [PROGRAM]
    sys.path.append("/packages")
    for module in MODULES:
        __import__(module)
    exec(WARM, {})
    os.environ.clear()
    gc.collect()
    gc.freeze()
    os.write(STATUSES, struct.pack("<i", READY))
    waiting = select.poll()
    waiting.register(REQUESTS, select.POLLIN)
    while True:
        waiting.poll()
        child = os.fork()
        if child == 0:
            serve(rules)
        status = os.waitpid(child, 0)[1]
        if os.waitstatus_to_exitcode(status) == GONE:
            return
        os.write(STATUSES, struct.pack("<i", status))


if __name__ == "__main__":
    main()
