"""Mathematical answers: equal in many spellings, wrong in none, and no answer that hangs, crashes or escapes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import psutil
import pytest

from mentor_gym import math_answers, math_worker
from mentor_gym.grading import grade_number
from mentor_gym.math_answers import grade_math, math_counts, normalise_math, unavailable

needs_math_verify = pytest.mark.skipif(unavailable() is not None, reason="needs mentor-gym[math]")


@pytest.fixture(scope="module", autouse=True)
def _one_server() -> Iterator[None]:
    """Let the tests share a server whose patience is short."""
    math_answers.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(math_answers, "COMPUTING_S", 0.6)
        yield
    math_answers.close()


@pytest.fixture
def unproved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a comparison by math-verify fail the test."""

    def refuse(answer: str, gold: str) -> bool:
        raise AssertionError(f"{answer!r} and {gold!r} came to math-verify")

    monkeypatch.setattr(math_answers, "_prove", refuse)


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("42.0", "42", True),
        ("43", "42", False),
        ("3.33", "3.333333333", True),
        ("-4", "4", False),
        (r"\frac{1}{2}", "0.5", True),
        (r"$42$", "42", True),
        (r"\boxed{42}", "42", True),
        (r"\$12.50", "12.5", True),
        (r"50\%", "50", True),
        (r"6.02 \times 10^{23}", "6.02e23", True),
        (r"3 \cdot 10^5", "300000", True),
        (r"3 \cdot 10^{-5}", "300000", False),
        (r"\dfrac{x}{2}", r"\frac{x}{2}", True),
        (r"\left( 1, \, 2 \right]", "(1,2]", True),
        (r"\[ 2\pi r \]", r"2 \pi r.", True),
        ("2*sqrt(3)", r"2 \cdot \sqrt{3}", True),
        ("sqrt((x+1)(x+2))", r"\sqrt{(x+1)(x+2)}", True),
        ("2π", r"2\pi", True),
        ("x≤5", r"x \le 5", True),
        (r"\text{Friday}", "friday", True),
        ("Monday", "Friday", False),
        ("12 cm", "12", True),
        (r"12 \text{ cm}", "12 cm", True),
        ("12 cm", "12 km", False),
        (r"12 \text{ cm}^2", "12 cm^3", False),
        ("12 cm^2", r"12\mathrm{cm}^2", True),
        ("5 days", "5 day", True),
        ("13 days", "12 days", False),
        ("101_2", "101", True),
        ("101_2", "101_{3}", False),
        ("", "42", False),
        ("   ", "", False),
        ("$$", r"\,", False),
        ("evil", "live", False),
        ("I think that it is 42", "42", False),
    ],
)
@pytest.mark.usefixtures("unproved")
def test_cheap_rules(answer: str, gold: str, expected: bool) -> None:
    assert grade_math(answer, gold) is expected


@pytest.mark.parametrize(
    "answer", ["42", "42.0", "41", "1,000", "3/4", r"-\dfrac{3}{4}", "$5", "12.5%", "1e3", "1e999", "0"]
)
@pytest.mark.parametrize("gold", ["42", "0.75", "-0.75", "1000", "5", "0"])
@pytest.mark.usefixtures("unproved")
def test_numbers_are_judged_as_by_the_number_grader(answer: str, gold: str) -> None:
    assert grade_math(answer, gold) is grade_number(answer, gold)


def test_a_row_of_spaces_and_letters_keeps_its_parts() -> None:
    assert normalise_math("2 1/2") != normalise_math("21/2")
    assert normalise_math(r"\pi r") != normalise_math(r"\pir")
    assert normalise_math(r"\begin{pmatrix} 1 \\ (2) \end{pmatrix}") == r"\begin{pmatrix}1\\(2)\end{pmatrix}"


@needs_math_verify
@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("x^2 + 2x + 1", "(x+1)^2", True),
        ("x^2 + 2x + 2", "(x+1)^2", False),
        ("1 + x", "x + 1", True),
        (r"\frac{\sqrt{3}}{2}", r"\sqrt{\frac34}", True),
        (r"\frac{\sqrt{3}}{2}", r"\sqrt{3}", False),
        (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt2}{2}", True),
        ("sqrt(8)", r"2\sqrt{2}", True),
        (r"\{3, 1, 2\}", r"\{1,2,3\}", True),
        (r"\{1, 2\}", r"\{1,2,3\}", False),
        ("1, 2, 3", "3,2,1", True),
        ("(1, 2]", "(1,2)", False),
        (r"(\tfrac12, 3]", "(0.5, 3]", True),
        (r"(3,\infty) \cup (-\infty,2)", r"(-\infty,2) \cup (3,\infty)", True),
        (r"\left(3, \frac{\pi}{2}\right)", r"(3, \pi/2)", True),
        (r"(3, \pi)", r"(\pi, 3)", False),
        ("x = 5", "5", True),
        ("x = 6", "5", False),
        (r"x \ge 3", "3 <= x", True),
        ("x > 3", r"x \ge 3", False),
        (r"\pm 2", "-2, 2", True),
        ("3 + 4i", "4i + 3", True),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\ \frac{4}{2}\end{bmatrix}", True),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}", False),
        (r"\sin^2 x + \cos^2 x", "1", True),
        (r"\infty", r"-\infty", False),
        (r"30^\circ", "30", True),
        ("2.449489743", r"\sqrt 6", True),
        ("2.4", r"\sqrt 6", False),
        # Several answers in one are not the right one among them.
        ("5 or 6", "5", False),
        ("3, 5", "5", False),
        ("x=3, x=5", "5", False),
        ("$3$ or $5$", "5", False),
        (r"\boxed{3} \boxed{5}", "5", False),
        ("5m", "5", False),
        ("A", "B", False),
    ],
)
def test_mathematics(answer: str, gold: str, expected: bool) -> None:
    assert grade_math(answer, gold) is expected


HOSTILE = {
    "tower": "10^{10^{10}}",
    "tower in other words": r"(9+x-x)^{(9+x-x)^{9}}",
    "exponent": "x^{99999999999}",
    "factorial": "99999999!",
    "factorial of an expression": "(10^8+x-x)!",
    "factorials": "9!!!!!!!",
    "expansion": "(x+y+z+w+1)^{999}",
    "sum": r"\sum_{i=1}^{10^{9}} \frac{1}{i^3+i}",
    "zeros": r"\operatorname{zeros}(99999,99999)",
    "dunder": "().__class__.__bases__[0].__subclasses__()",
    "short dunder": "x.__a__",
    "import": '__import__("os").system("true")',
    "brackets": "(" * 900,
    "fractions": r"\frac{" * 80 + "1" + "}{2}" * 80,
    "braces": "{" * 499 + "}" * 499,
    "length": "x+" * 10_000 + "x",
    "digits": "9" * 900,
    "roots": "sqrt(" * 190,
    "dollars": "$" * 1000,
    "backslashes": "\\" * 999,
    "control": "1\x00\x1b[2J",
    "surrogate": "\ud800+1",
    "script": "٤٢",
    "lines": "\n" * 500 + "x" + "\n" * 400,
    "verdict": "1\n1\n1",
    "unbalanced": r"\left( \begin{pmatrix} 1 & ",
}


@needs_math_verify
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_are_wrong_and_harmless(name: str) -> None:
    """What a policy may write; rows 7, 9, 16, 17, 18, 20 and 31 of the fault list among it."""
    assert grade_math("x+1", "1+x")
    server = math_answers._server.process
    assert grade_math(HOSTILE[name], "x+7") is False
    math_answers._prove.cache_clear()
    assert grade_math("x+1", "1+x")
    assert math_answers._server.process is server


@pytest.mark.usefixtures("unproved")
def test_what_is_refused_costs_no_comparison() -> None:
    before = math_counts().refused
    names = "tower exponent factorial factorials dunder import brackets fractions braces length digits roots"
    for name in ("short dunder", "control", *names.split()):
        assert grade_math(HOSTILE[name], "x") is False, name
    assert math_counts().refused == before + 14


def spin() -> bool:
    while True:
        pass


def write_a_file() -> bool:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"1")
    return True


@pytest.mark.parametrize(
    ("compare", "status"),
    [
        (lambda: True, math_worker.EQUAL),
        (lambda: False, math_worker.UNEQUAL),
        (lambda: bool(bytearray(1 << 30)), 1),
        (lambda: bool(os.write(1, b"1")), 1),
        (lambda: bool(os.read(0, 1)), 1),
        (write_a_file, 1),
        (spin, -signal.SIGPROF),
        (lambda: time.sleep(60) is None, -signal.SIGALRM),
    ],
)
def test_limits_of_a_comparison(compare: Callable[[], bool], status: int) -> None:
    child = os.fork()
    if child == 0:
        try:
            # A process that ignores a signal hands that down.
            signal.signal(signal.SIGPROF, signal.SIG_IGN)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            size = psutil.Process().memory_info().vms
            # On a busy machine computing for 0.2 s takes longer than that by the clock.
            clock = 60.0 if compare is spin else 0.6
            math_worker.judge(lambda answer, gold: compare(), "", "", 0.2, clock, size + (100 << 20))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status


@needs_math_verify
def test_a_comparison_that_is_stopped_is_wrong_and_counted_and_not_made_again() -> None:
    before = replace(math_counts())
    for _ in range(2):
        assert grade_math(HOSTILE["tower in other words"], "41") is False
    assert math_counts() == replace(before, compared=before.compared + 1, stopped=before.stopped + 1)


@needs_math_verify
def test_verdicts_are_the_same_in_another_process_which_leaves_nothing_behind() -> None:
    pairs = [
        ("x^2-1", "(x-1)(x+1)"),
        (r"\sin(2x)", r"2\sin x\cos x"),
        (r"\{a,b\}", r"\{b,a\}"),
        (r"\sqrt{x^2}", "x"),
        (r"\frac{x^2-1}{x-1}", "x+1"),
    ]
    here = [grade_math(*pair) for pair in reversed(pairs)][::-1]
    program = (
        "import psutil\nfrom mentor_gym.math_answers import grade_math\n"
        "assert grade_math('42', '42') and not psutil.Process().children()\n"
        f"print([grade_math(*pair) for pair in {pairs!r}])\n"
        "print(*[child.pid for child in psutil.Process().children(recursive=True)])\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    verdicts, pids = run.stdout.splitlines()
    assert verdicts == str(here)
    assert here[0] is here[2] is True
    assert len(pids.split()) == 1
    assert not psutil.pid_exists(int(pids))


@needs_math_verify
def test_a_forked_child_has_a_server_of_its_own_which_dies_with_it() -> None:
    """Row 36 of the fault list, and the servers of workers that are killed."""
    assert grade_math("z+1", "1+z")
    process = math_answers._server.process
    assert process is not None
    math_answers._prove.cache_clear()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            assert grade_math("z+1", "1+z")
            assert not grade_math("z+1", "2+z")
            assert math_answers._server.process is not None
            os.write(writing, str(math_answers._server.process.pid).encode())
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    os.waitpid(child, 0)
    told = os.read(reading, 20)
    os.close(reading)
    assert told
    assert int(told) != process.pid
    until = time.monotonic() + 10
    while psutil.pid_exists(int(told)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not psutil.pid_exists(int(told))
    assert grade_math("z+1", "1+z")
    assert math_answers._server.process is process


@needs_math_verify
def test_a_lost_server_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 34 of the fault list: killed, then stopped."""
    monkeypatch.setattr(math_answers, "_GRACE_S", 1 - math_answers.WALL_S)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        assert grade_math("y+1", "1+y")
        process = math_answers._server.process
        assert process is not None
        lost = math_counts().lost
        os.kill(process.pid, number)
        math_answers._prove.cache_clear()
        assert grade_math("y+1", "1+y")
        assert math_counts().lost == lost + 1
        assert not psutil.pid_exists(process.pid)


def test_without_the_package_nothing_is_judged_by_other_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_answers, "unavailable", lambda: unavailable.__wrapped__())
    monkeypatch.setattr(math_answers.importlib.util, "find_spec", lambda name: None)
    assert math_answers.unavailable() == "install mentor-gym[math] (math-verify)"
    math_answers._prove.cache_clear()
    assert grade_math("42", "42")
    with pytest.raises(ModuleNotFoundError, match=r"install mentor-gym\[math\]"):
        grade_math("a+1", "1+a")


def test_importing_it_imports_no_mathematics() -> None:
    program = (
        "import sys, mentor_gym.math_answers; sys.exit(any(m in sys.modules for m in ('sympy', 'math_verify')))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
