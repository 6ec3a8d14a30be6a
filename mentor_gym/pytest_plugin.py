"""The checks as pytest items: `pytest --mentor-env my_pkg:MyEnv-v0`, and the same for the other kinds.

Every check is one item beside whatever tests the command collects. What does not apply to the subject, or
presupposes a check that failed, is reported as skipped, with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mentor_gym.testing.base import Examination

# Named here and not taken from the kit: pytest loads this module in every project that has the package installed,
# and must not load the kit where nobody asks for it.
_KINDS = {
    "env": "a Gymnasium id, or module:factory",
    "suite": "a suite's name, or the path of its suite.yaml",
    "tool": "module:attribute of a tool, a typed function or a tool box",
    "reward": "a preset's name, or module:attribute",
    "agent": "an agent's name, or module:attribute",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add one option per kind of subject."""
    group = parser.getgroup("mentor_gym", "conformance checks of mentor_gym")
    for kind, what in _KINDS.items():
        group.addoption(
            f"--mentor-{kind}",
            action="append",
            default=[],
            metavar="TARGET",
            help=f"check this {kind}: {what}; may be repeated",
        )


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add an item per check of everything that the options name."""
    for kind in _KINDS:
        for target in config.getoption(f"--mentor-{kind}"):
            from mentor_gym.testing import examine

            try:
                examination = examine(target, kind)
            except ValueError as error:
                raise pytest.UsageError(f"--mentor-{kind} {target}: {error}") from error
            for check in examination.checks:
                item = CheckItem.from_parent(session, name=check.name, examination=examination)
                items.append(item)


class CheckItem(pytest.Item):
    """One check of one subject."""

    def __init__(self, *, examination: Examination, **kwargs: Any) -> None:
        nodeid = f"mentor-{examination.kind}::{examination.target}::{kwargs['name']}"
        super().__init__(nodeid=nodeid, **kwargs)
        self.examination = examination

    def runtest(self) -> None:
        """Run the check."""
        from mentor_gym.testing.base import CheckFailed, Outcome

        result = self.examination.result(self.name)
        if result.outcome is Outcome.FAILED:
            raise CheckFailed(result.message)
        if result.outcome is not Outcome.PASSED:
            pytest.skip(result.message)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the message of a failed check alone: its traceback is ours, not the user's."""
        from mentor_gym.testing.base import CheckFailed

        if isinstance(excinfo.value, CheckFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return the heading of a failure."""
        return self.path, None, f"{self.examination.kind} {self.examination.target}: {self.name}"
