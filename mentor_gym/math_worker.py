"""The fork server behind `mentor_gym.math_answers`: runs as a process of its own, and is imported nowhere.

It imports sympy and math-verify once, then forks a child for each pair of answers that it is asked about. Every
child starts from the same memory, so that a verdict depends on the pair alone; it has limits of time and memory,
and tells its verdict by its exit status, so that nothing it prints or writes can be taken for one.

Standard input brings requests: lines of JSON, `[answer, gold]`. Standard output takes a byte for each: `1` equal,
`0` not equal, `t` stopped at a limit or crashed. The arguments are the limits: seconds of computing, seconds by
the clock, bytes of memory.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import signal
import sys
from typing import Any

EQUAL, UNEQUAL = 10, 11
REQUESTS, REPLIES = 0, 1
READY = b"r"
# The parser learns its grammar while it reads; what it has read here, every child reads fast.
WARM = (
    (r"\frac{\sqrt{3}}{2}", r"\sqrt{\frac{3}{4}}"),
    ("x^2+2x+1", "(x+1)^2"),
    ("a^2-b^2", "(a-b)(a+b)"),
    (r"2\pi r", r"r \cdot 2\pi"),
    ("(1,2]", r"(1,\frac{4}{2}]"),
    (r"\{1,2,3\}", r"\{3,2,1\}"),
    (r"\left(\frac{\pi}{2},-3\right)", r"(\pi/2,-\sqrt{9})"),
    (r"(-\infty,2)\cup(3,\infty)", r"(3,\infty)\cup(-\infty,2)"),
    (r"x=\pm 2", "x=-2, x=2"),
    ("1,2,3", "3,2,1"),
    (r"x\ge 3", r"3\leq x"),
    ("1<x<2", "2>x>1"),
    ("3+4i", "4i+3"),
    (r"\sin^2 x+\cos(x)^2", "1"),
    (r"\log_2 8+\ln e^2-|x|", r"5-|x|"),
    (r"e^{-x^{2}}", r"\frac{1}{e^{x^2}}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&\frac{8}{2}\end{pmatrix}"),
    (r"\frac{5!}{2!}+\sqrt[3]{8}", "62"),
    (r"30^{\circ}", "30.5"),
    (r"10\%", "0.1"),
    (r"x\in\mathbb{R}", r"(-\infty,\infty)"),
    (r"y=\frac{1}{2}x-7", "2y=x-14"),
    (r"0.333333 \times 2", r"\frac{2}{3}"),
    (r"\text{odd}", r"\text{even}"),
)


def load() -> Any:
    """Import math-verify; returns a function that compares an answer with the gold one."""
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify
    from sympy.core.random import seed

    # What math-verify may drop from a text; boxes and units are dropped, or not, before it comes here.
    normalization = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    extraction = [LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normalization)]

    def compare(answer: str, gold: str) -> bool:
        # Sympy tries numbers at random to see whether two expressions differ.
        random.seed(0)
        seed(0)
        # Limits of math-verify's own are alarms that code in C does not hear: the process has others.
        given, wanted = (parse(f"${text}$", extraction, parsing_timeout=None) for text in (answer, gold))
        return bool(verify(wanted, given, timeout_seconds=None))

    return compare


def judge(compare: Any, answer: str, gold: str, computing_s: float, wall_s: float, memory: int) -> None:
    """Compare within limits and end this process: the work of a child."""
    os.close(REQUESTS)
    os.close(REPLIES)
    # Nothing handles these signals: they end the process even inside C.
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, computing_s)
    signal.setitimer(signal.ITIMER_REAL, wall_s)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    os._exit(EQUAL if compare(answer, gold) else UNEQUAL)


def main() -> None:
    """Serve requests until standard input ends."""
    computing_s, wall_s, memory = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    compare = load()
    for answer, gold in WARM:
        compare(answer, gold)
    with open("/proc/self/statm") as statistics:
        memory += int(statistics.read().split()[0]) * resource.getpagesize()
    gc.freeze()
    os.write(REPLIES, READY)
    for line in sys.stdin.buffer:
        answer, gold = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                judge(compare, answer, gold, computing_s, wall_s, memory)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        os.write(REPLIES, b"1" if code == EQUAL else b"0" if code == UNEQUAL else b"t")


if __name__ == "__main__":
    main()
