"""The code box with numpy and sympy: its sandbox, what must not get out of it, and its suite.

Numbers of rows are those of the list of faults that the environments must survive. The tests that run programs
need what the box needs; where that cannot be had, only the errors that say so are tested.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import os
import platform
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from mentor_gym import MentorToolEnv, make_env
from mentor_gym.data import REBUILD_SEED, data_path
from mentor_gym.grading import grade
from mentor_gym.protocol import clean, neutralise, render_call, render_message, to_json
from mentor_gym.rewards import make_reward
from mentor_gym.suites import code, code_full
from mentor_gym.suites.code_full_kinds import KINDS
from mentor_gym.testing import check_suite, check_tool
from mentor_gym.tools import seccomp, zygote
from mentor_gym.tools.code import NOTHING_PRINTED
from mentor_gym.tools.code_full import STOPPED, FullCodeBox, SandboxUnavailable, code_full_box, shared_zygote
from mentor_gym.tools.zygote import Outcome, Zygote, ZygoteLost, unavailable

REASON = unavailable()
needs_sandbox = pytest.mark.skipif(REASON is not None, reason=f"code-full is unavailable: {REASON}")
SPLITS = {"train": 400, "valid": 100, "test": 100}
KIND = {kind.name: kind for kind in KINDS}


@pytest.fixture(scope="module")
def shared():
    """The sandbox of this process: to start one costs a second."""
    with contextlib.closing(shared_zygote()) as server:
        yield server


@pytest.fixture
def box(shared):
    box = FullCodeBox(shared)
    box.open(None)
    return box


@pytest.fixture
def hurried(monkeypatch):
    """A smaller limit of time, with the same text, for what runs into it."""
    monkeypatch.setattr(zygote, "COMPUTING_S", 0.2)


@pytest.fixture(scope="module")
def suite():
    return code_full.build()


def run(box, program):
    return box.tools["python"].call({"code": program}).output


def processes(group):
    """Return the states of the processes of a group that have not ended, by their letters; T is stopped."""
    states = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                states.append(state)
    return states


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def resident_mb():
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


# The filter of system calls

READ, OPENAT = {"x86_64": 0, "aarch64": 63}, {"x86_64": 257, "aarch64": 56}
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
DENIED_CALLS = {
    "x86_64": {
        "socket": 41, "clone": 56, "fork": 57, "execve": 59, "kill": 62, "ptrace": 101, "mount": 165,
        "tgkill": 234, "sched_yield": 24, "fcntl": 72, "futex": 202, "rt_sigaction": 13, "rt_sigprocmask": 14,
        "setitimer": 38, "prlimit64": 302, "open": 2, "unlink": 87, "clone3": 435, "io_uring_setup": 425,
        "memfd_create": 319, "execveat": 322, "getpid": 39, "process_vm_readv": 310, "bpf": 321, "keyctl": 250,
        "x32 read": 0x40000000, "none": 0xFFFFFFFF,
    },
    "aarch64": {
        "socket": 198, "clone": 220, "execve": 221, "kill": 129, "ptrace": 117, "mount": 40, "tgkill": 131,
        "rt_sigaction": 134, "rt_sigprocmask": 135, "setitimer": 103, "prlimit64": 261, "unlinkat": 35,
        "clone3": 435, "io_uring_setup": 425, "memfd_create": 279, "execveat": 281, "getpid": 172,
        "process_vm_readv": 270, "bpf": 280, "keyctl": 219, "none": 0xFFFFFFFF,
    },
}  # fmt: skip
ALLOW, DENY, KILL = 0x7FFF0000, 0x00050001, 0x80000000


def judge(program, architecture, number, flags=0):
    """Run a filter as the kernel does, on a system call with these flags as its third argument."""
    data = struct.pack("<IIQQQQ", number & 0xFFFFFFFF, architecture, 0, 0, 0, flags)
    instructions = [struct.unpack_from("<HBBI", program, place) for place in range(0, len(program), 8)]
    position = accumulator = 0
    while True:
        operation, if_true, if_false, value = instructions[position]
        position += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif operation in (0x15, 0x45):
            holds = accumulator == value if operation == 0x15 else accumulator & value != 0
            position += if_true if holds else if_false
        else:
            assert operation == 0x06
            return value


@pytest.mark.parametrize("machine", seccomp.machines())
def test_filter_is_an_allow_list(machine):
    program, here = seccomp.assemble(machine), ARCHITECTURE[machine]
    allowed = [number for number in range(600) if judge(program, here, number) == ALLOW]
    assert len(allowed) < 30
    assert READ[machine] in allowed
    for name, number in DENIED_CALLS[machine].items():
        assert judge(program, here, number) == DENY, name
    for flags, verdict in (
        (0, ALLOW),
        (0o2000000, ALLOW),
        (1, DENY),
        (2, DENY),
        (0o100, DENY),
        (0o20000002, DENY),
    ):
        assert judge(program, here, OPENAT[machine], flags) == verdict, oct(flags)
    # The numbers of another machine's calls mean other calls.
    for other in (set(ARCHITECTURE.values()) | {0x40000003}) - {here}:
        assert judge(program, other, READ[machine]) == KILL


def test_sandbox_is_there_where_bubblewrap_works():
    """So that the tests of a sandbox that we have broken are not left out."""
    command = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    if platform.machine() not in seccomp.machines() or shutil.which("bwrap") is None:
        pytest.skip("there is no bubblewrap, or no filter")
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("bubblewrap does not work here")
    assert REASON is None


# What a program prints is the result


@needs_sandbox
@pytest.mark.parametrize(
    ("program", "output"),
    [
        ("print(6 * 7)", "42"),
        ("print('a')\nprint('b', end='')", "a\nb"),
        ("6 * 7", NOTHING_PRINTED),
        ("import sys\nsys.stderr.write('both')", "both"),
        ("print('é 你好 🎉')", "é 你好 🎉"),
        ("import numpy as np\nprint(np.linalg.solve([[2, 0], [0, 4]], [2, 2]))", "[1.  0.5]"),
        ("from sympy import *\nx = symbols('x')\nprint(integrate(x * exp(x), x))", "(x - 1)*exp(x)"),
        ("import mpmath\nprint(mpmath.nstr(mpmath.zeta(2), 8))", "1.6449341"),
        ("import json, uuid, collections, fractions\nprint(fractions.Fraction(2, 4))", "1/2"),
        ("class A(Exception): pass\ntry: raise A\nexcept A: print('caught')", "caught"),
        ("import datetime\nprint(datetime.date(2024, 2, 29) + datetime.timedelta(days=366))", "2025-03-01"),
    ],
)
def test_result_is_what_is_printed(box, program, output):
    result = box.tools["python"].call({"code": program})
    assert (result.ok, result.output) == (True, output)


@needs_sandbox
@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("1 / 0", "line 1: ZeroDivisionError: division by zero"),
        ("def f(n):\n    return n / 0\n\nf(1)", "line 2: ZeroDivisionError: division by zero"),
        ("x = = 3", "line 1: SyntaxError: invalid syntax"),
        ("raise ValueError", "line 1: ValueError"),
        ("import torch", "line 1: ModuleNotFoundError: No module named 'torch'"),
        ("from sympy import nothing", "ImportError: cannot import name 'nothing' from 'sympy' (/packages/sympy/"),
        ("print('before')\n[][1]", "line 2: IndexError: list index out of range\nIt had printed:\nbefore"),
        ("class A(Exception):\n    def __str__(self): 1 / 0\nraise A", "line 3: A"),
    ],
)
def test_error_is_type_message_and_line(box, program, message):
    result = box.tools["python"].call({"code": program})
    assert not result.ok
    assert result.output.startswith("error: python: ")
    assert message in result.output


@needs_sandbox
@pytest.mark.slow
def test_tool_conforms(shared):
    examples = [{"code": "import sympy\nprint(sympy.sqrt(8))"}, {"code": "import random\nprint(random.random())"}]
    check_tool(FullCodeBox(shared), examples={"python": examples})


@needs_sandbox
def test_programs_stand_alone(box):
    assert run(box, "x = 1\nimport sympy\nsympy.x = 5") == NOTHING_PRINTED
    assert "NameError: name 'x' is not defined" in run(box, "print(x)")
    assert "AttributeError" in run(box, "import sympy\nprint(sympy.x)")
    snapshot = box.snapshot()
    assert snapshot == b""
    box.restore(snapshot)
    assert run(box, "print(1)") == "1"


@needs_sandbox
def test_task_state_gives_the_seed(box):
    program = (
        "import random, numpy\nprint(random.random(), numpy.random.rand(), numpy.random.default_rng().random())"
    )
    first = run(box, program)
    assert first.startswith("0.8444218515250481 0.5488135039273248 ")
    box.open({"seed": 7})
    assert run(box, program) != first
    box.open({"seed": 0})
    assert run(box, program) == first
    for state in ({"sed": 1}, {"seed": -1}, {"seed": "1"}, {"seed": 2**32}):
        with pytest.raises(ValueError, match="state of a code-full task"):
            box.open(state)


# What a program may try (rows 14 to 25)

TIME, MEMORY, FLOOD, CRASH = (f"error: python: {STOPPED[kind]}" for kind in ("time", "memory", "flood", "crash"))
DENIED = "PermissionError: [Errno 1] Operation not permitted"
ABSENT = "FileNotFoundError: [Errno 2] No such file or directory"
CANARY = "/tmp/mentor-gym-canary-7d20"

# Row, program, and what the result is (when it is ok or a whole text) or holds.
HOSTILE = [
    (14, "while True: pass", TIME),
    (14, "sum(range(10 ** 12))", TIME),
    (15, "while True:\n    try:\n        while True: pass\n    except BaseException: pass", TIME),
    (15, "class A:\n    def __repr__(self):\n        while True: pass\nprint(A())", TIME),
    (15, "class A(Exception):\n    def __str__(self):\n        while True: pass\nraise A", TIME),
    (15, "class A:\n    def __del__(self):\n        while True: pass\na = A()\ndel a", TIME),
    (15, "import signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)", DENIED),
    (15, "import signal\nsignal.setitimer(signal.ITIMER_PROF, 0)", "itimer_error: [Errno 1]"),
    (15, "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})", DENIED),
    (15, "import resource as r\nr.setrlimit(r.RLIMIT_AS, (-1, -1))", "ValueError: not allowed to raise maximum"),
    (16, "print(10 ** 10 ** 10)", TIME),
    (16, "1 << 10 ** 12", MEMORY),
    (17, "'a' * 10 ** 10", MEMORY),
    (17, "import numpy\nnumpy.ones(10 ** 9)", MEMORY),
    (17, "x = [0]\nwhile True: x += x", MEMORY),
    (17, "x = []\nwhile True: x.append([])", MEMORY),
    (17, "f'{1:>9999999999}'", MEMORY),
    (18, "def f(): return f()\nf()", "RecursionError: maximum recursion depth exceeded"),
    (18, "(" * 4999 + ")" * 4999, "SyntaxError: too many nested parentheses"),
    (18, "import ctypes\nctypes.string_at(0)", CRASH),
    (19, "while True: print('x' * 50)", FLOOD),
    (19, "print('x' * 2 * 10 ** 6)", FLOOD),
    (19, "raise ValueError('A' * 10 ** 7)", f"line 1: ValueError: {'A' * 288} …[cut]"),
    (19, "import os\nfor _ in range(500): os.write(1, b'x' * 1000)", CRASH),
    (20, "print(len(().__class__.__base__.__subclasses__()) > 100)", "True"),
    (20, "import os, sys\nprint(os.getcwd(), dict(os.environ), sys.argv)", "/ {} ['<program>']"),
    (20, "import sys\nprint(sys.prefix, sys.executable)", "/python /python/bin/python3"),
    (20, "import platform\nprint(platform.node(), repr(platform.release()))", "sandbox ''"),
    (21, "print(open('/etc/passwd').read())", ABSENT),
    (21, "print(open('/proc/self/environ').read())", ABSENT),
    (21, "import os\nprint(os.listdir('/dev'))", ABSENT),
    (21, f"open('{CANARY}', 'w').write('x')", DENIED),
    (21, "open('/x', 'w')", DENIED),
    (21, "import os\nos.mkdir('/x')", DENIED),
    (21, "import tempfile\ntempfile.TemporaryFile()", "No usable temporary directory"),
    (21, "import os\nprint(sorted(os.listdir('/packages')))", "['mpmath', 'numpy', 'numpy.libs', 'sympy']"),
    (21, f"import os\nprint(os.system('touch {CANARY}') != 0)", "True"),
    (21, "import subprocess\nsubprocess.run(['ls'])", DENIED),
    (21, "import os\nos.fork()", DENIED),
    (21, "import os\nos.execv('/python/bin/python3', ['python3'])", DENIED),
    (21, "import os\nos.kill(1, 9)", DENIED),
    (21, "import os\nos.kill(os.getppid(), 9)", DENIED),
    (21, "import socket\nsocket.socket()", DENIED),
    (21, "import threading\nthreading.Thread(target=print).start()", "RuntimeError: can't start new thread"),
    (21, "import multiprocessing\nmultiprocessing.Process(target=print).start()", DENIED),
    (21, "import ctypes\nprint(ctypes.CDLL(None).syscall(41, 1, 1, 0))", "-1"),
    (21, "import ctypes\nprint(ctypes.CDLL(None).ptrace(16, 1, 0, 0))", "-1"),
    (21, "import os\nprint([n for n in range(3, 64) if os.fstat(n)])", "Bad file descriptor"),
    (21, "import os\nprint(os.read(0, 10))", "Bad file descriptor"),
    (21, "import os\nprint(os.write(2, b'....'))", "Bad file descriptor"),
    (21, "import os\nprint(os.listdir('/usr'))", ABSENT),
    (21, "import sys\nsys.path.append('/usr/lib/python3/dist-packages')\nimport yaml", "No module named 'yaml'"),
    (21, "import ctypes\nprint(ctypes.CDLL('libc.so.6').abs(-3))", "3"),
    (22, "import sys\nsys.exit(3)", "line 2: SystemExit: 3"),
    (22, "raise KeyboardInterrupt", "line 1: KeyboardInterrupt"),
    (22, "class A:\n    def __repr__(self):\n        raise SystemExit\nprint(A())", "line 3: SystemExit"),
    (22, "import os\nos._exit(0)", CRASH),
    (22, "import os\nos.abort()", CRASH),
    (23, "import re\nre.match('(a+)+$', 'a' * 40 + 'b')", TIME),
    (24, "import time\ntime.sleep(3600)\nprint('up')", "up"),
    (24, "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", CRASH),
    (25, "import time as t\nprint(t.time(), t.monotonic(), t.strftime('%Y'))", "1767225600.0 1767225600.0 2026"),
    (25, "import os\nprint({os.stat(p).st_ctime for p in ('/', '/packages', os.__file__)})", "{1767225600.0}"),
    (25, "import os\ns = os.lstat('/server.py')\nprint(s.st_atime_ns, s[8])", "1767225600000000000 1767225600"),
    (25, "import os, pathlib\nprint(os.path.getmtime('/'), pathlib.Path('/').stat()[9])", "1767225600.0 1767"),
    (25, "import os\ns = os.stat('/server.py')\nprint(s.st_size > 1000, s.st_blocks > 0, len(s))", "True True 10"),
    (25, "import datetime as d\nprint(d.datetime.now(), d.date.today())", "2026-01-01 00:00:00 2026-01-01"),
    (25, "import random\nprint(random.random())", "0.8444218515250481"),
    (25, "import os\nprint(os.getpid(), os.getuid())", "-1 -1"),
    (4, "print('a\\ud800b')", "a?b"),
]  # fmt: skip


@needs_sandbox
@pytest.mark.parametrize(
    ("row", "program", "expected"), HOSTILE, ids=[f"row{row}-{code[:28]!r}" for row, code, _ in HOSTILE]
)
def test_hostile_program_is_contained(box, request, row, program, expected):
    """The next program runs as ever, in the same server."""
    if expected == TIME:
        request.getfixturevalue("hurried")
    run(box, "")
    server = box._zygote.process.pid
    before = resident_mb()
    started = time.monotonic()
    result = box.tools["python"].call({"code": program})
    seconds = time.monotonic() - started
    if expected.startswith("error: "):
        assert result.output == expected
    else:
        assert expected in result.output
    assert len(result.output) <= 2_010
    assert neutralise(clean(result.output)) == result.output
    assert seconds < 8
    assert resident_mb() - before < 20
    assert not os.path.exists(CANARY)
    assert not re.search(r"/home|/root|/usr/local|/srv|python3\.\d+/site", result.output)
    assert run(box, "print(6 * 7)") == "42"
    assert box._zygote.process.pid == server


@needs_sandbox
@pytest.mark.parametrize("size", [1, 1_000, 65_536])
def test_flood_past_what_stands_in_for_standard_output_is_stopped(box, size):
    """Of the pipe of replies no more is read than may be put out."""
    run(box, "")
    used, started = time.process_time(), time.monotonic()
    assert run(box, f"import os\nwhile True: os.write(1, b'A' * {size})") == FLOOD
    assert time.process_time() - used < (2.0 if size == 1 else 0.5)
    assert time.monotonic() - started < 7
    assert run(box, "print(6 * 7)") == "42"


# What depends on addresses, hashes of them, the clock and all that is random.
CHANGEABLE = [
    "print(id([]), object(), lambda: 0, {int, str, float}, {'pear', 'apple', 'fig'})",
    "import numpy\nprint(id(numpy.zeros(5)), id(numpy.zeros(10 ** 6)))",
    "import os, uuid, secrets\nprint(os.urandom(4), uuid.uuid4(), secrets.token_hex(4))",
    "import random\nprint(random.Random().random(), random.SystemRandom().random())",
    "import numpy\nprint(numpy.random.default_rng().integers(100), numpy.random.randint(100))",
    "from sympy import *\na, b, c = symbols('a b c')\nprint((a * b + c).free_symbols, id(a))",
    "import time\nprint(time.localtime(), time.perf_counter_ns(), time.ctime())",
]


@needs_sandbox
def test_row25_what_came_before_leaves_no_trace(shared):
    texts = [shared.run(program) for program in CHANGEABLE]
    shared.run("print('x' * 3000)" + " " * 5000)
    shared.run("x = list(range(10 ** 6))\n1 / 0")
    assert [shared.run(program) for program in CHANGEABLE] == texts
    assert {text.kind for text in texts} == {"ok"}


@needs_sandbox
def test_there_is_no_folder_to_write_to(box):
    """Nothing that one program leaves is there for the next; and writing fails in every folder there is."""
    program = """
        import os
        folders = [folder for folder, *_ in os.walk("/")]
        written = []
        for folder in folders:
            for make in (os.mkdir, lambda p: os.open(p, os.O_CREAT | os.O_WRONLY), lambda p: os.symlink("/", p)):
                try:
                    make(folder + "/canary")
                    written.append(folder)
                except OSError:
                    pass
        print(len(folders) > 50, written)
    """
    assert run(box, textwrap.dedent(program)) == "True []"


@needs_sandbox
def test_mounts_alone_keep_files_from_being_written(monkeypatch):
    """Without the filter of system calls too: two walls, not one."""
    command = zygote._command()
    start = command.index("/server.py", command.index("--"))
    script = (
        "import os\nfor folder, *_ in os.walk('/'):\n"
        "    try: os.mkdir(folder + '/canary')\n    except OSError: continue\n    print('wrote', folder)\n"
        "print(os.environ.get('SECRET'), os.listdir('/'), os.path.exists('/proc/1'))"
    )
    listed = subprocess.run(
        [*command[:start], "-c", script], capture_output=True, text=True, env={**os.environ, "SECRET": "s"}
    ).stdout
    assert listed.count("\n") == 1
    assert listed.startswith("None ")
    assert listed.endswith("False\n")
    assert not re.search(r"'(etc|home|root|tmp|var|proc|sys|dev|opt|usr)'", listed)


@needs_sandbox
def test_limits_of_time_and_memory_are_those_that_are_told(box, monkeypatch):
    for name, text in (("COMPUTING_S", "2 s"), ("MEMORY_BYTES", "256 MB")):
        assert text in box.tools["python"].description, name
    # A quarter of a gigabyte can be had, but no more.
    assert run(box, "x = bytearray(200 << 20)\nprint(len(x))") == str(200 << 20)
    assert run(box, "x = bytearray(300 << 20)") == MEMORY
    monkeypatch.setattr(zygote, "COMPUTING_S", 0.3)
    started = resource.getrusage(resource.RUSAGE_SELF)
    began = time.monotonic()
    assert run(box, "while True: pass") == TIME
    assert time.monotonic() - began >= 0.25
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - started.ru_utime < 0.1


@needs_sandbox
def test_time_by_the_clock_is_limited_too(shared, monkeypatch):
    monkeypatch.setattr(zygote, "COMPUTING_S", 100.0)
    monkeypatch.setattr(zygote, "WALL_S", 0.2)
    assert shared.run("while True: pass").kind == "time"


# The server


@needs_sandbox
def test_nothing_starts_before_the_first_program():
    with contextlib.closing(Zygote()) as server:
        box = FullCodeBox(server)
        box.open(None)
        box.restore(box.snapshot())
        box.close()
        assert server.process is None
    server.close()


@needs_sandbox
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_row34_lost_server_is_replaced(shared, monkeypatch, number):
    """And another server prints the same texts (row 25)."""
    texts = [shared.run(program) for program in CHANGEABLE]
    first = shared.process.pid
    os.killpg(first, number)
    assert wait_until(lambda: set(processes(first)) <= {"T"})
    started = time.monotonic()
    assert shared.run("print(5)").text == "5\n"
    # Less than what a program may take by the clock: that a server was stopped is seen.
    assert time.monotonic() - started < zygote.WALL_S
    assert shared.process.pid != first
    assert wait_until(lambda: not processes(first))
    monkeypatch.undo()
    assert [shared.run(program) for program in CHANGEABLE] == texts


@needs_sandbox
def test_server_that_is_lost_every_time_is_an_error_text(monkeypatch, caplog):
    server = Zygote()
    monkeypatch.setattr(zygote, "_command", lambda *options: [shutil.which("true")])
    box = FullCodeBox(server)
    with caplog.at_level(logging.ERROR):
        assert run(box, "print(1)") == "error: python: the interpreter is not available"
    assert "cannot be started" in caplog.text
    assert server.process is None


@needs_sandbox
def test_interrupt_in_the_middle_of_a_program(shared):
    """As by Ctrl-C: it gets through, and the reply that nobody waited for is not taken for the next one."""
    shared.run("")
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        shared.run("print('never')\nwhile True: pass")
    assert shared.process is None
    assert shared.run("print(5)").text == "5\n"


@needs_sandbox
def test_row36_forked_children_start_their_own():
    script = """
        import multiprocessing, os, signal
        from mentor_gym.tools.code_full import code_full_box, shared_zygote
        signal.alarm(60)

        def work(n):
            box = code_full_box()
            box.open(None)
            text = box.tools["python"].call({"code": f"print({n} ** 2, id([]))"}).output
            return text, shared_zygote().process.pid

        first, server = work(3)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            found = pool.map(work, [3, 3], chunksize=1)
        assert {text for text, _ in found} == {first}, found
        assert server not in {pid for _, pid in found}
        assert work(3) == (first, server)
        print(first.split()[0], server)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    square, server = result.stdout.split()
    assert square == "9"
    assert not processes(int(server))


@needs_sandbox
@pytest.mark.slow
def test_row38_server_ends_with_its_process():
    script = """
        import os, signal
        from mentor_gym.tools.code_full import code_full_box, shared_zygote
        box = code_full_box()
        box.open(None)
        box.tools["python"].call({"code": "x = 1"})
        print(shared_zygote().process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL
    assert wait_until(lambda: not processes(int(process.stdout)))


@needs_sandbox
def test_row43_nothing_grows(shared):
    shared.run("")
    before = len(os.listdir("/proc/self/fd")), resident_mb()
    for _ in range(60):
        shared.run("print(1)")
    assert len(os.listdir("/proc/self/fd")) == before[0]
    assert resident_mb() - before[1] < 5


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (b'{"kind": "ok", "text": "1"}', 0, "ok"),
        (b"", 0, "crash"),
        (b'a{"kind": "ok"}', 0, "crash"),
        (b'{"kind": 3}', 0, "crash"),
        (b"\xff", 0, "crash"),
        (b"", 256, "crash"),
        (b'{"kind": "ok"}', signal.SIGSEGV, "crash"),
        (b"", signal.SIGPROF, "time"),
        (b"", signal.SIGALRM, "time"),
    ],
)
def test_what_a_child_leaves_is_an_outcome(content, status, kind):
    assert zygote._read_outcome(content, status).kind == kind


def test_outcome_of_no_known_kind_is_a_text(monkeypatch):
    server = Zygote()
    monkeypatch.setattr(server, "run", lambda code, seed: Outcome("sold"))
    assert run(FullCodeBox(server), "1") == CRASH


# Where it cannot be had


@pytest.fixture
def fresh():
    unavailable.cache_clear()
    yield
    unavailable.cache_clear()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("bwrap", "bubblewrap (bwrap) is not installed"),
        ("namespaces", "bubblewrap does not work here: exit status 1"),
        ("filter", "bubblewrap does not work here: "),
        ("machine", "there is no filter of system calls for linux on riscv64"),
        ("sympy", "sympy is not installed; install mentor-gym[code-full]"),
    ],
)
def test_unavailable_is_told_at_reset_and_nothing_runs(fresh, monkeypatch, suite, broken, reason):
    real_which, real_spec = shutil.which, importlib.util.find_spec
    if broken in ("bwrap", "namespaces"):
        found = None if broken == "bwrap" else real_which("false")
        monkeypatch.setattr(zygote, "which", lambda name: found)
    elif broken == "filter":
        if REASON is not None:
            pytest.skip(REASON)
        # One that kills whoever asks for anything.
        monkeypatch.setattr(seccomp, "assemble", lambda machine: struct.pack("<HBBI", 0x06, 0, 0, KILL))
    elif broken == "machine":
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sympy" else real_spec(name))
    env = MentorToolEnv(suite)
    with pytest.raises(SandboxUnavailable, match=re.escape(f"code-full is unavailable: {reason}")):
        env.reset(seed=0)
    with pytest.raises(ZygoteLost, match=re.escape(reason)):
        Zygote().run("print(1)")
    # The rows and the tool can be read everywhere.
    assert len(env.tasks) == SPLITS["train"]
    assert code_full_box().versions["python"] == platform.python_version()


# The suite


def rows(suite, split):
    return list(suite.tasks(split))


def turns_of(task):
    return [render_message(message) for message in task.teacher if message["role"] == "assistant"]


def test_splits_have_their_rows_and_kinds(suite):
    assert suite.splits == tuple(SPLITS)
    for split, size in SPLITS.items():
        tasks = rows(suite, split)
        assert [task.id for task in tasks] == [f"code-full-{split}-{i:05d}" for i in range(size)]
        assert {task.meta["kind"] for task in tasks} == set(KIND)
        assert {task.meta["calls"] for task in tasks} == {1, 2}
        assert all(task.tools == ["python"] and task.state is None for task in tasks)
        assert all(task.meta["paths"] == len(KIND[task.meta["kind"]].ways) >= 2 for task in tasks)
    ways = Counter((task.meta["kind"], task.meta["way"]) for task in rows(suite, "train"))
    assert all(ways[kind.name, way] for kind in KINDS for way in range(len(kind.ways)))
    assert sum(path.stat().st_size for path in data_path("code-full").glob("*.jsonl")) < 1_000_000


def test_no_question_or_value_stands_in_two_splits(suite):
    prompts = [task.prompt for split in SPLITS for task in rows(suite, split)]
    assert len(set(prompts)) == len(prompts)
    values = [
        {(task.meta["kind"], to_json(task.meta["slots"])) for task in rows(suite, split)} for split in SPLITS
    ]
    assert not values[0] & values[1]
    assert not values[0] & values[2]
    assert not values[1] & values[2]


def test_wordings_of_a_split_are_its_own(suite):
    """A prompt is one of what its split's wordings say with its values, and none of what others' say."""

    def texts(wordings, slots):
        for wording in wordings:
            parts = [
                part[1:-1].split("|") if part.startswith("[") else [part]
                for part in re.split(r"(\[[^\]]*\])", wording)
            ]
            for chosen in itertools.product(*parts):
                yield "".join(chosen).format(**code.shown(slots))

    for split in SPLITS:
        for task in rows(suite, split):
            kind = KIND[task.meta["kind"]]
            own = {"train": kind.wordings, "valid": kind.valid_wordings, "test": kind.test_wordings}
            assert task.prompt in texts(own.pop(split), task.meta["slots"])
            assert not any(task.prompt in texts(other, task.meta["slots"]) for other in own.values())
            assert not re.search(r"[{}\[\]]", task.prompt), task.prompt


def test_answers_follow_from_the_slots(suite):
    for split in SPLITS:
        for task in rows(suite, split):
            assert KIND[task.meta["kind"]].solve(task.meta["slots"]) == task.answer, task.id
            assert grade(task.answer, task.answer, task.grader)
            assert not grade(f"{task.answer}1", task.answer, task.grader)


@pytest.mark.parametrize(
    ("kind", "slots", "answer"),
    [
        ("derivative-value", {"f_expr": "x**3 - 2*x", "c": [1, 0, -2, 0], "k": 2}, "10"),
        ("second-derivative", {"f_expr": "x**3 - 2*x", "c": [1, 0, -2, 0], "k": 2}, "12"),
        ("definite-integral", {"f_expr": "x**2", "c": [1, 0, 0], "a": 0, "b": 1}, "1/3"),
        ("limit", {"f_expr": "(x**2 - 4)/(2*x - 4)", "r": 2, "over": [1, 2], "under": [2]}, "2"),
        ("series-coefficient", {"f_expr": "1/((1 - x)*(1 - 2*x))", "a": 1, "b": 2, "k": 3}, "15"),
        ("sum-formula", {"f_expr": "k", "c": [1, 0], "n": 100}, "5050"),
        ("growth-equation", {"c": 10, "p": 10, "t": 10}, "27.18"),
        ("polynomial-roots", {"f_expr": "x**2 - x - 6", "roots": [-2, 3]}, "-2, 3"),
        (
            "linear-system",
            {"m": [[1, 1, 0], [1, -1, 0], [0, 0, 2]], "r": [3, 1, 8], "eqs": [], "name": "z"},
            "4",
        ),
        ("expanded-coefficient", {"f_expr": "(x + 2)**3", "a": 1, "b": 2, "n": 3, "k": 1}, "12"),
        ("polynomial-remainder", {"f_expr": "x**2 + 1", "g_expr": "x - 3", "c": [1, 0, 1], "root": 3}, "10"),
        (
            "common-root",
            {"f_expr": "x**3 - 6*x**2 + 11*x - 6", "g_expr": "x**3 - 3*x**2 - 16*x - 12 + 30", "roots": [1]},
            "1",
        ),
        ("determinant", {"m": [[1, 2, 3], [4, 5, 6], [7, 8, 10]]}, "-3"),
        ("eigenvalues", {"m": [[2, 1], [1, 2]], "values": [1, 3]}, "1, 3"),
        ("matrix-power", {"m": [[1, 1], [1, 0]], "n": 10, "i": 1, "j": 2}, "55"),
        ("inverse-entry", {"m": [[2, 0, 0], [0, 3, 0], [1, 0, 4]], "i": 3, "j": 1}, "-1/8"),
        ("rank", {"m": [[1, 2, 3], [2, 4, 6], [1, 0, 1]]}, "2"),
        ("line-fit", {"xs": [0, 1, 2], "ys": [0, 1, 4]}, "2.000"),
    ],
)  # fmt: skip
@needs_sandbox
def test_known_answers(box, kind, slots, answer):
    """By hand: the plain answer, and every way's programs."""
    assert KIND[kind].solve(slots) == answer
    for programs in code.programs_of(KIND[kind], slots):
        assert code.run(programs, None, box)[-1][2] == answer


def test_known_answers_cover_every_kind():
    (mark,) = [mark for mark in test_known_answers.pytestmark if mark.name == "parametrize"]
    assert [kind for kind, _, _ in mark.args[1]] == list(KIND)


@needs_sandbox
def test_generation_gives_the_shipped_rows(box, monkeypatch):
    monkeypatch.setattr(code_full, "_box", lambda: box)
    shipped = data_path("code-full", "valid.jsonl").read_bytes().splitlines()[:6]
    assert [msgspec.json.encode(task) for task in code_full.generate("valid", REBUILD_SEED, rows=6)] == shipped


def replay(suite, split, tasks):
    strict = make_reward("strict")
    env = make_env("mentor", suite=suite, split=split)
    for task in tasks:
        env.reset(options={"task_id": task.id})
        outputs = [message["content"] for message in task.teacher if message["role"] == "tool"]
        total = 0.0
        for position, turn in enumerate(turns_of(task)):
            _, paid, terminated, _, info = env.step(turn)
            total += paid
            if not terminated:
                assert info["messages"][0]["content"] == outputs[position], task.id
        assert terminated, task.id
        assert info["is_success"], task.id
        assert total == pytest.approx(1.1), task.id
        assert sum(strict(env.unwrapped.transcript).values()) == pytest.approx(1.1), task.id
    env.close()


@needs_sandbox
def test_teacher_replays_to_the_full_reward(suite):
    replay(suite, "test", rows(suite, "test")[: len(KINDS)])


@needs_sandbox
@pytest.mark.slow
def test_every_teacher_replays_and_every_row_is_generated(suite):
    for split in SPLITS:
        replay(suite, split, rows(suite, split))
        shipped = data_path("code-full", f"{split}.jsonl").read_bytes().splitlines()
        assert [msgspec.json.encode(task) for task in code_full.generate(split, REBUILD_SEED)] == shipped


@needs_sandbox
@pytest.mark.slow
def test_suite_conforms(suite):
    check_suite(suite)


@needs_sandbox
def test_clone_in_the_middle_of_an_episode_has_the_same_future(suite):
    env = MentorToolEnv(suite)
    env.reset(seed=3)
    env.step(render_call("python", {"code": "import random\nprint(random.random())"}))
    twin, other = env.clone(), MentorToolEnv(suite)
    other.set_state(env.get_state())
    turns = [render_call("python", {"code": "print(id([]))"}), f"<answer>{env.task.answer}</answer>"]
    futures = [[copy.step(turn)[:2] for turn in turns] for copy in (env, twin, other)]
    assert futures[0] == futures[1] == futures[2]
    assert env.transcript.is_success
