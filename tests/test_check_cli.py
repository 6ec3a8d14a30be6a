"""`mentor-gym check` and the pytest plug-in: the same checks, found by name, with exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mentor_gym.cli import main
from mentor_gym.pytest_plugin import _KINDS
from mentor_gym.suites import SUITES
from mentor_gym.testing import KINDS, ConformanceError, check_reward, examine, examine_shipped, guess_kind
from mentor_gym.testing.base import CheckList, Examination, NotApplicable, Outcome, Report, fail, run_checks

TESTS = Path(__file__).parent


def test_one_fault_is_reported_once() -> None:
    checks = CheckList()
    ran = []

    @checks.add("first")
    def first(subject: int) -> None:
        """It is even."""
        ran.append("first")
        if subject % 2:
            fail("an even number", str(subject), "add one")

    @checks.add("second", needs=("first",))
    def second(subject: int) -> None:
        """Its half is whole."""
        ran.append("second")

    @checks.add("third", needs=("second",))
    def third(subject: int) -> None:
        """It has a half."""

    @checks.add("fourth")
    def fourth(subject: int) -> None:
        """It has a name."""
        raise NotApplicable("numbers have none")

    @checks.add("fifth", needs=("fourth",))
    def fifth(subject: int) -> None:
        """Its name is short."""

    report = run_checks("number", "3", checks, 3)
    assert [result.outcome for result in report.results] == [
        Outcome.FAILED, Outcome.BLOCKED, Outcome.BLOCKED, Outcome.NOT_APPLICABLE, Outcome.NOT_APPLICABLE,
    ]  # fmt: skip
    assert ran == ["first"]
    assert report.failed[0].message == "expected an even number; got 3; to fix it: add one"
    assert "second was not run: presupposes first, which failed" in str(report)
    assert run_checks("number", "4", checks, 4).failed == []


def test_an_exception_in_a_check_is_a_failure_and_a_check_runs_once() -> None:
    checks = CheckList()
    calls = []

    @checks.add("broken")
    def broken(subject: list[int]) -> None:
        """The subject has a member."""
        calls.append(1)
        subject[0]

    examination = Examination("list", "[]", checks, [])
    first = examination.result("broken")
    assert first is examination.result("broken")
    assert calls == [1]
    assert first.outcome is Outcome.FAILED
    assert "IndexError" in first.message


def test_check_lists_refuse_double_names_and_unknown_needs() -> None:
    checks = CheckList()
    checks.add("a")(lambda subject: None)
    with pytest.raises(ValueError, match="there already"):
        checks.add("a")(lambda subject: None)
    with pytest.raises(ValueError, match="needs one that is not"):
        checks.add("b", needs=("c",))(lambda subject: None)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("MentorTool-v0", "env"),
        ("my_pkg:MyEnv-v0", "env"),
        ("math", "suite"),
        ("somewhere/suite.yaml", "suite"),
        ("mentor-f1", "reward"),
        ("teacher", "agent"),
        ("mentor_gym.env:MentorToolEnv", "env"),
        ("mentor_gym.tools:ToolBox", "tool"),
        ("mentor_gym.rewards:MentorReward", "reward"),
        ("agents.scripted:RandomAgent", "agent"),
    ],
)
def test_what_a_name_names_is_found_out(target: str, kind: str) -> None:
    assert guess_kind(target) == kind


def test_what_cannot_be_told_is_asked_for() -> None:
    with pytest.raises(ValueError, match="is a function, which may be anything; say which with kind"):
        guess_kind("mentor_gym.protocol:parse_action")
    with pytest.raises(ValueError, match="did you mean 'sparse'"):
        guess_kind("spars")
    with pytest.raises(ValueError, match=r"unknown kind 'rewards'; known: .*; did you mean 'reward'"):
        examine("sparse", "rewards")
    with pytest.raises(ValueError, match="unknown kind"):
        list(examine_shipped("rewards"))


def test_the_plug_in_knows_every_kind() -> None:
    assert list(_KINDS) == list(KINDS)


def test_everything_shipped_is_on_the_list() -> None:
    shipped = [(examination.kind, examination.target) for examination in examine_shipped()]
    for wanted in [("env", "MentorTool-Facts-v0"), ("suite", "math"), ("reward", "strict"), ("agent", "tiny")]:
        assert wanted in shipped
    assert sum(kind == "tool" for kind, _ in shipped) == len(SUITES)
    assert {kind for kind, _ in shipped} == set(KINDS)
    assert [examination.target for examination in examine_shipped("reward")][:2] == ["sparse", "mentor"]


TILL = str(Path(__file__).parent / "till_suite" / "suite.yaml")


@pytest.fixture
def broken_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_reward_module.py").write_text(
        "class Greedy:\n"
        "    maximum = 1.0\n"
        "    def __call__(self, transcript):\n"
        "        return {'outcome': 2.0 * transcript.is_success}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_reward_module:Greedy"


def test_the_command_names_the_check_that_fails(broken_module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", broken_module]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "failed" in output
    assert "expected" in output
    with pytest.raises(ConformanceError) as error:
        check_reward(broken_module)
    assert isinstance(error.value.report, Report)
    assert len(error.value.report.failed) == 1


def test_the_command_passes_what_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "sparse", "mentor"]) == 0
    output = capsys.readouterr().out
    assert "conformance" in output
    assert main(["check", "no-such-thing"]) == 2
    assert "names no environment" in capsys.readouterr().err


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    # Without the rest of this checkout's configuration; the plug-in is found by its entry point.
    command = [sys.executable, "-m", "pytest", "-rsf", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_the_plug_in_makes_each_check_an_item(broken_module: str, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_mine():\n    pass\n")
    done = run_pytest(tmp_path, "--mentor-reward", broken_module, "--mentor-suite", TILL)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout
    assert "to fix it" in done.stdout
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1
    assert f"mentor-reward::{broken_module}::" in failed[0]

    done = run_pytest(tmp_path, "--mentor-suite", TILL)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = len([result for result in examine(TILL) if result.outcome is Outcome.PASSED])
    assert f"{passed + 1} passed" in done.stdout


def test_the_plug_in_needs_no_other_test_and_refuses_unknown_names(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--mentor-suite", TILL)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_pytest(tmp_path, "--mentor-reward", "spars")
    assert done.returncode == 4
    assert "did you mean 'sparse'" in done.stderr + done.stdout


def test_the_plug_in_loads_nothing_where_nobody_asks(tmp_path: Path) -> None:
    code = "import sys, mentor_gym.pytest_plugin; print('mentor_gym.testing' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
