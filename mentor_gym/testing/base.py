"""What a check is, and how a list of them is run on one subject.

A check holds one promise. It passes, fails with a message of three parts (what was expected, what came, how to fix
it), does not apply to the subject, or is blocked: a check that presupposes another one does not run when that one
failed, so that one fault is reported once, by the check that it belongs to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NoReturn


class Outcome(StrEnum):
    """How a check ended.

    Attributes:
        PASSED: The promise holds.
        FAILED: It does not.
        BLOCKED: Not run, because a check that it presupposes failed.
        NOT_APPLICABLE: The subject does not make this promise, for example has no state to save.
    """

    PASSED = "passed"
    FAILED = "failed"
    BLOCKED = "blocked"
    NOT_APPLICABLE = "not applicable"


class CheckFailed(AssertionError):
    """Raised by a check, through `fail`."""


class NotApplicable(Exception):
    """Raised by a check whose promise the subject does not make; the message says why."""


def fail(expected: str, got: str, fix: str) -> NoReturn:
    """End a check as failed.

    Raises:
        CheckFailed: Always.
    """
    raise CheckFailed(f"expected {expected}; got {got}; to fix it: {fix}")


@dataclass(frozen=True)
class Check:
    """One promise, and how it is checked.

    Attributes:
        name: Short and unique within its kind, for example `reset-forgets`.
        summary: What must hold, in one line: the first line of the function's docstring.
        function: Gets the subject; returns, or raises `CheckFailed` or `NotApplicable`.
        needs: Names of the checks that it presupposes.
    """

    name: str
    summary: str
    function: Callable[[Any], None]
    needs: tuple[str, ...] = ()


class CheckList(list[Check]):
    """The checks of one kind, in the order in which they run; filled by decorating functions.

    >>> checks = CheckList()
    >>> @checks.add("is-text")
    ... def is_text(subject):
    ...     '''The subject is a text.'''
    ...     if not isinstance(subject, str):
    ...         fail("a str", type(subject).__name__, "return a str")
    >>> run_checks("text", "7", checks, 7).failed[0].message
    'expected a str; got int; to fix it: return a str'
    """

    def add(
        self, name: str, needs: Sequence[str] = ()
    ) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
        """Return a decorator that adds a function as a check."""

        def decorate(function: Callable[[Any], None]) -> Callable[[Any], None]:
            known = {check.name for check in self}
            if name in known or not known.issuperset(needs):
                raise ValueError(f"check {name!r} is there already, or needs one that is not: {needs}")
            summary = (function.__doc__ or "").strip().partition("\n")[0]
            self.append(Check(name, summary, function, tuple(needs)))
            return function

        return decorate


@dataclass(frozen=True)
class CheckResult:
    """How one check ended.

    Attributes:
        check: The check.
        outcome: How it ended.
        message: Why; empty when it passed.
        seconds: How long it took.
    """

    check: Check
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0


@dataclass
class Examination:
    """Checks of one subject, each run once, when its result is asked for.

    Attributes:
        kind: What the subject is: env, suite, tool, reward or agent.
        target: What the user called it.
        checks: The checks.
        subject: What their functions get.
    """

    kind: str
    target: str
    checks: Sequence[Check]
    subject: Any
    _results: dict[str, CheckResult] = field(default_factory=dict)

    def result(self, name: str) -> CheckResult:
        """Return the result of a check, running it and what it needs at the first call."""
        if name not in self._results:
            check = next(check for check in self.checks if check.name == name)
            self._results[name] = self._run(check)
        return self._results[name]

    def __iter__(self) -> Iterator[CheckResult]:
        return (self.result(check.name) for check in self.checks)

    def _run(self, check: Check) -> CheckResult:
        for needed in check.needs:
            before = self.result(needed)
            if before.outcome in (Outcome.FAILED, Outcome.BLOCKED):
                return CheckResult(check, Outcome.BLOCKED, f"presupposes {needed}, which {_ended(before)}")
            if before.outcome is Outcome.NOT_APPLICABLE:
                return CheckResult(check, Outcome.NOT_APPLICABLE, before.message)
        started = time.perf_counter()
        outcome, message = Outcome.PASSED, ""
        try:
            check.function(self.subject)
        except CheckFailed as error:
            outcome, message = Outcome.FAILED, str(error)
        except NotApplicable as error:
            outcome, message = Outcome.NOT_APPLICABLE, str(error)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            outcome, message = Outcome.FAILED, f"expected {check.summary.rstrip('.')}; got an exception, {text}"
        return CheckResult(check, outcome, message, time.perf_counter() - started)


@dataclass(frozen=True)
class Report:
    """The results of all checks of one subject.

    Attributes:
        kind: What the subject is: env, suite, tool, reward or agent.
        target: What the user called it.
        results: One per check, in order.
    """

    kind: str
    target: str
    results: tuple[CheckResult, ...]

    @property
    def failed(self) -> list[CheckResult]:
        """The results of the checks that failed."""
        return [result for result in self.results if result.outcome is Outcome.FAILED]

    def __str__(self) -> str:
        count = sum(result.outcome is Outcome.PASSED for result in self.results)
        lines = [f"{self.kind} {self.target}: {count} checks passed, {len(self.failed)} failed"]
        for result in self.results:
            if result.outcome is not Outcome.PASSED:
                lines.append(f"  {result.check.name} {_ended(result)}: {result.message}")
        return "\n".join(lines)


class ConformanceError(AssertionError):
    """A subject failed some of its checks; the message is the report's text.

    Attributes:
        report: The report.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def run_checks(kind: str, target: str, checks: Sequence[Check], subject: Any) -> Report:
    """Run all checks on one subject."""
    return Report(kind, target, tuple(Examination(kind, target, checks, subject)))


def conclude(examination: Examination, raise_on_failure: bool) -> Report:
    """Run an examination to its end.

    Raises:
        ConformanceError: A check failed, and `raise_on_failure` is set.
    """
    report = Report(examination.kind, examination.target, tuple(examination))
    if report.failed and raise_on_failure:
        raise ConformanceError(report)
    return report


def _ended(result: CheckResult) -> str:
    return {
        Outcome.FAILED: "failed",
        Outcome.BLOCKED: "was not run",
        Outcome.NOT_APPLICABLE: "does not apply",
    }.get(result.outcome, "passed")
