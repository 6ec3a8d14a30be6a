r"""Mathematical answers: numbers, then texts that are alike, then mathematics.

`grade_math` tries what is cheap first. Two numbers are compared as `mentor_gym.grading.equal_numbers` does; two
texts that differ only in how LaTeX is written are equal; what is left goes to math-verify
(https://github.com/huggingface/Math-Verify, the extra `math`), which reads LaTeX into sympy and simplifies.

What a model wrote may make that compute for ever, take all memory, or crash it. So it is done in another process
(`mentor_gym.math_worker`), in a child of it for each pair, with limits; what would only run into them is not
tried. A comparison that is stopped counts as a wrong answer, and in `math_counts`. The limit is of time computed,
not of time passed: a busy machine does not change a verdict.

Left out: prose around an answer, symbols that differ only in case (`X` equals `x` to math-verify), and units that
would have to be converted.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import re
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mentor_gym.fork_server import ForkServer
from mentor_gym.grading import equal_numbers, parse_number

MAX_CHARS = 1_000
MAX_DEPTH = 20
MAX_DIGITS = 50
COMPUTING_S = 2.0
# A comparison that waits for something ends after this.
WALL_S = 15.0
MEMORY_BYTES = 256 << 20
START_S = 120.0
REMEMBERED = 4_096
INSTALL = "install mentor-gym[math] (math-verify)"
# What a server that was not stopped needs beyond the limit of a comparison.
_GRACE_S = 5.0
_WORKER = Path(__file__).with_name("math_worker.py")

_SIGNS = {
    "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ",
    "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ", "√": r"\sqrt ", "≤": r"\le ", "≥": r"\ge ",
    "≠": r"\ne ", "±": r"\pm ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "°": r"^\circ ",
    "ℝ": r"\mathbb{R}", "²": "^2", "³": "^3", "½": r"\frac{1}{2}", "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip
_SIGN_TABLE = str.maketrans(_SIGNS)
# Only how it looks: mathematics without them is the same.
_LOOK = re.compile(
    r"(?<!\\)\\[()\[\],;:! ]|\\?\$|~"
    r"|\\(?:(?:left|right)\.?|displaystyle|quad|[bB]igg?[lr]?)(?![A-Za-z])"
)
_FRACTION = re.compile(r"\\[dt]frac(?![A-Za-z])")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{(.*)\}", re.DOTALL)
_FUNCTION = re.compile(
    r"(?<![A-Za-z\\])(?:sqrt|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|ln|log|exp|pi|theta|"
    r"alpha|beta|lambda|infty)(?![A-Za-z])"
)
_OPERATORS = (("**", "^"), ("*", r"\cdot "), ("<=", r"\le "), (">=", r"\ge "), ("!=", r"\ne "), (r"\%", "%"))
_SCIENTIFIC = re.compile(r"([-+]?\d+(?:\.\d+)?)\\(?:times|cdot) ?10\^(?:\{([-+]?\d{1,3})\}|(\d))")
_SPACE = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
# A unit or a base at the end, after something else: ` cm^2`, `\text{ cm}^2`, `_2`.
_UNIT = re.compile(
    r"(?<=[\d})\]])\s*("
    r"(?:\\(?:text|textrm|textnormal|mathrm|mbox)\{[^{}]*\}|(?:[cdkm]m|km/h|kmh|mph|inch(?:es)?|f(?:ee|oo)t|ft|yards?|"
    r"miles?|(?:kilo|centi|milli)?met(?:er|re)s?|mg|kg|(?:kilo)?grams?|tons?|pounds?|lbs?|ounces?|oz|ml|lit(?:er|re)s?|"
    r"gallons?|cups?|secs?|seconds?|min(?:ute)?s?|hours?|hrs?|days?|weeks?|months?|years?|deg(?:ree)?s?|rad(?:ian)?s?|"
    r"percent|dollars?|cents?|euros?|units?|people))(?:\^\{?[23]\}?)?"
    r"|(?<=\d)_(?:\d|\{\d{1,2}\}))$"
)
# A word of prose, which would be read as a product of its letters: "evil" is not "live".
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_NAMED = re.compile(r"\\(?:text|textrm|textnormal|mathrm|mathbb|mathcal|mbox|operatorname|begin|end)\s*\{[^{}]*\}")
_HUGE = re.compile(
    rf"\d{{{MAX_DIGITS + 1}}}|\d{{4}}!|!!|\^\{{?[-+]?\d{{5}}|\d\^\{{?\d{{2,}}\^|\d\^\{{?\d\^\{{?\d{{2}}"
)
_NAME = re.compile(r"\\(?:text|textrm|textnormal|mathrm|mbox)\{([^{}]*)\}")
_WORDS = re.compile(r"[A-Za-z][A-Za-z .,'-]*")
_ALLOWED = re.compile(r"[\x20-\x7e]*")


@dataclass
class MathCounts:
    """What became of the comparisons that went to math-verify, in this process.

    Attributes:
        compared: Comparisons asked for; answers seen before are not compared again.
        refused: Pairs that were not compared because one text is too long, too deep, too large, or no
            mathematics.
        stopped: Comparisons that ran into a limit of time or memory, or crashed.
        lost: Servers that were lost, and replaced.
    """

    compared: int = 0
    refused: int = 0
    stopped: int = 0
    lost: int = 0


_counts = MathCounts()


def math_counts() -> MathCounts:
    """Return what became of the comparisons so far."""
    return _counts


@lru_cache(maxsize=1)
def unavailable() -> str | None:
    """Return why mathematical answers cannot be judged here; None when they can.

    For the check of task rows, before anything is played: answers must not be judged by other rules where a
    package is missing.
    """
    missing = any(importlib.util.find_spec(name) is None for name in ("math_verify", "antlr4"))
    return INSTALL if missing else None


def grade_math(answer: str, gold: str) -> bool:
    r"""Compare mathematical answers.

    Returns:
        Whether they are equal, by the first rule that applies: as numbers, when both are; as texts, apart from how
        LaTeX is written; as sympy expressions, sets, intervals, equations or matrices. Units count only where both
        texts have one.

    Raises:
        ModuleNotFoundError: math-verify is needed and not installed; `unavailable` tells so before.
        RuntimeError: The other process cannot be started.

    >>> grade_math("42.0", "42"), grade_math(r"$\dfrac{1}{2}x$", r"\frac{1}{2} x"), grade_math("43", "42")
    (True, True, False)
    """
    if equal_numbers(answer, gold):
        return True
    if _both_numbers(answer, gold):
        return False
    if len(answer) > MAX_CHARS or len(gold) > MAX_CHARS:
        _counts.refused += 1
        return False
    given, wanted = normalise_math(answer), normalise_math(gold)
    if not given or not wanted:
        return False
    if given == wanted:
        return True
    (given, unit), (wanted, other) = _split_unit(given), _split_unit(wanted)
    if unit and other and unit != other:
        return False
    if given == wanted or equal_numbers(given, wanted):
        return True
    if _both_numbers(given, wanted):
        return False
    if _WORDS.fullmatch(given) and given.casefold() == wanted.casefold():
        return True
    if _is_refused(given) or _is_refused(wanted):
        _counts.refused += 1
        return False
    return _prove(given, wanted)


def normalise_math(text: str) -> str:
    r"""Write a formula in one way: LaTeX commands for signs and functions, nothing that only changes its look.

    >>> normalise_math(r"$ \dfrac{1}{2} \, \pi $."), normalise_math("2*sqrt(3) <= π")
    ('\\frac{1}{2}\\pi', '2\\cdot\\sqrt{3}\\le\\pi')
    """
    text = text.translate(_SIGN_TABLE).strip().rstrip(".").strip()
    text = _LOOK.sub(" ", text).strip()
    for wrapper in (_BOX, _NAME):
        match = wrapper.fullmatch(text)
        text = match[1].strip() if match else text
    text = _FRACTION.sub(r"\\frac", text)
    text = _FUNCTION.sub(lambda match: f"\\{match[0]}", text)
    for plain, latex in _OPERATORS:
        text = text.replace(plain, latex)
    text = _SPACE.sub("", " ".join(text.split()))
    text = _brace_roots(text)
    scientific = _SCIENTIFIC.fullmatch(text)
    return f"{scientific[1]}e{scientific[2] or scientific[3]}" if scientific else text


def close() -> None:
    """End the other process. The next comparison that needs it starts another."""
    _server.close()


def _both_numbers(first: str, second: str) -> bool:
    return parse_number(first) is not None and parse_number(second) is not None


def _brace_roots(text: str) -> str:
    r"""Write `\sqrt(x)` as `\sqrt{x}`."""
    start = 0
    while (start := text.find(r"\sqrt(", start)) >= 0:
        opening = start + len(r"\sqrt")
        depth = 0
        for position in range(opening, len(text)):
            depth += {"(": 1, ")": -1}.get(text[position], 0)
            if depth == 0:
                text = f"{text[:opening]}{{{text[opening + 1 : position]}}}{text[position + 1 :]}"
                break
        else:
            break
        start = opening
    return text


def _split_unit(text: str) -> tuple[str, str]:
    """Return a text without its unit or base, and the unit; "" when it has none."""
    match = _UNIT.search(text)
    if match is None:
        return text, ""
    unit = re.sub(r"\\[a-z]+|[{}\s]", "", match[1]).lower()
    return text[: match.start()], unit.removesuffix("s") or match[1]


def _is_refused(text: str) -> bool:
    """Say whether a text is not given to math-verify: not mathematics, or certain to run into a limit."""
    if not _ALLOWED.fullmatch(text) or "__" in text or "\\boxed" in text or _HUGE.search(text):
        return True
    depth = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if depth > MAX_DEPTH:
            return True
    return _PROSE.search(_NAMED.sub(" ", text)) is not None


@lru_cache(maxsize=REMEMBERED)
def _prove(answer: str, gold: str) -> bool:
    reason = unavailable()
    if reason is not None:
        raise ModuleNotFoundError(reason)
    return _server.ask(answer, gold)


class _Lost(Exception):
    """The server ended, was stopped, or says what makes no sense."""


class _Server(ForkServer):
    """The fork server, started at the first question; a forked child of this process starts its own."""

    def ask(self, answer: str, gold: str) -> bool:
        """Return whether an answer equals the gold one; False when the comparison was stopped."""
        with self._lock:
            _counts.compared += 1
            for _ in range(2):
                try:
                    if self.process is None:
                        self._start()
                    verdict = self._exchange(json.dumps([answer, gold]).encode() + b"\n", WALL_S + _GRACE_S)
                except (_Lost, OSError):
                    _counts.lost += 1
                    self._stop()
                    continue
                except BaseException:
                    # A verdict that nobody waits for any more would be taken for the next one.
                    self._stop()
                    raise
                _counts.stopped += verdict == b"t"
                return verdict == b"1"
            _counts.stopped += 1
            return False

    def _exchange(self, request: bytes, seconds: float) -> bytes:
        process = self.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        view = memoryview(request)
        while view:
            view = view[process.stdin.write(view) :]
        deadline = time.monotonic() + seconds
        waiting = select.poll()
        waiting.register(process.stdout, select.POLLIN)
        if not waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise _Lost("it does not answer")
        verdict = os.read(process.stdout.fileno(), 2)
        if verdict not in (b"1", b"0", b"t", b"r"):
            raise _Lost("it ended")
        return verdict

    def _start(self) -> None:
        # The modules that this process would import, and the same order of sets and dictionaries everywhere.
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen(
            # -P: this package's folder has modules named as some of the standard library.
            [sys.executable, "-P", "-s", "-B", _WORKER, *map(str, (COMPUTING_S, WALL_S, MEMORY_BYTES))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env=environment,
            # Ctrl-C is for this process, which then ends the server.
            start_new_session=True,
        )
        atexit.register(self.close)
        try:
            ready = self._exchange(b"", START_S) == b"r"
        except _Lost:
            ready = False
        if not ready:
            self._stop()
            raise RuntimeError("the process that compares mathematical answers does not start")


_server = _Server()
