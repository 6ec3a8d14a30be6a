"""Reports of checks for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from mentor_gym.testing.base import Outcome, Report

_STYLES = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "bold red",
    Outcome.BLOCKED: "yellow",
    Outcome.NOT_APPLICABLE: "dim",
}


def format_report(report: Report) -> Table:
    """Lay out every check of one subject: its name, how it ended, and why, or what it promises."""
    table = Table(title=f"{report.kind} {report.target}", title_justify="left", show_lines=False)
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("what it promises, or why not", overflow="fold")
    for result in report.results:
        text = result.check.summary if result.outcome is Outcome.PASSED else result.message
        # Text, because messages quote texts of the subject, which may look like markup.
        table.add_row(
            Text(result.check.name), Text(result.outcome, style=_STYLES[result.outcome]), Text(_printable(text))
        )
    return table


def format_reports(reports: Sequence[Report]) -> Table:
    """Lay out several subjects, one a row."""
    table = Table(title="conformance", title_justify="left", caption="n/a: the subject makes no such promise")
    table.add_column("kind")
    table.add_column("target", no_wrap=True)
    for heading in ("passed", "failed", "not run", "n/a", "seconds"):
        table.add_column(heading, justify="right")
    for report in reports:
        outcomes = [result.outcome for result in report.results]
        failed = outcomes.count(Outcome.FAILED)
        table.add_row(
            report.kind,
            Text(report.target),
            str(outcomes.count(Outcome.PASSED)),
            Text(str(failed), style=_STYLES[Outcome.FAILED] if failed else ""),
            str(outcomes.count(Outcome.BLOCKED)),
            str(outcomes.count(Outcome.NOT_APPLICABLE)),
            f"{sum(result.seconds for result in report.results):.1f}",
        )
    return table


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)
