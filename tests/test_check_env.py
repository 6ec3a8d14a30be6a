"""The checks of environments and suites: each fault is noticed by exactly the check that it belongs to."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import random
import sys
import threading
from pathlib import Path
from typing import Any

import broken_envs
import gymnasium as gym
import msgspec
import numpy as np
import pytest
from conftest import row, teacher

import mentor_gym
from mentor_gym.grading import GRADERS
from mentor_gym.suites import EXTRA_SUITES, SUITES, Suite, load_suite
from mentor_gym.suites.base import TaskSet
from mentor_gym.testing._audit import listening
from mentor_gym.testing._env_state import _pickle_start
from mentor_gym.testing._fresh import play_elsewhere
from mentor_gym.testing._randomness import watched_generators
from mentor_gym.testing._subject import Moment, canonical, difference, excerpt
from mentor_gym.testing.base import Check, ConformanceError, Outcome, Report, conclude
from mentor_gym.testing.env import CHECKS, check_env, examine_env
from mentor_gym.testing.suite import CHECKS as SUITE_CHECKS
from mentor_gym.testing.suite import SuiteSubject, check_suite, examine_suite
from mentor_gym.tools.base import Tool, ToolBox
from mentor_gym.tools.math import math_box
from mentor_gym.types import Task

IDS = ["MentorTool-v0", *(f"MentorTool-{name.title()}-v0" for name in SUITES)]
# How to play the guessing game so that its number shows.
GUESSES = ["10", "5", "15", "7", "13"]
EXTRAS = {"reward-terms", "tools-freed", "teacher", "maximum", "answer-hidden", "state", "state-plain"}
EXTRAS |= {"state-refused", "clone", "order"}


def names(report: Report, outcome: Outcome) -> set[str]:
    """Return the checks that ended in this way."""
    return {result.check.name for result in report.results if result.outcome is outcome}


def dependents(name: str, checks: list[Check]) -> set[str]:
    """Return the checks that need this one, directly or not."""
    found = {name}
    for check in checks:
        if found & set(check.needs):
            found.add(check.name)
    return found - {name}


def assert_only(report: Report, name: str, *words: str) -> None:
    """Assert that this check failed with these words, that what needs it did not run, and that all else passed."""
    assert [result.check.name for result in report.failed] == [name], str(report)
    for word in words:
        assert word in report.failed[0].message, report.failed[0].message
    assert "to fix it: " in report.failed[0].message or "got an exception" in report.failed[0].message
    checks = [result.check for result in report.results]
    others = names(report, Outcome.NOT_APPLICABLE)
    assert names(report, Outcome.BLOCKED) | others >= dependents(name, checks)
    assert names(report, Outcome.BLOCKED) <= dependents(name, checks)


VARIANTS: list[dict[str, Any]] = [{"dense": True, "reward": "strict"}, {"prompt": "compact", "max_turns": 2}]


@pytest.mark.parametrize(
    ("target", "kwargs"), [*((name, {}) for name in IDS), *(("MentorTool-v0", item) for item in VARIANTS)]
)
def test_registered_ids_keep_every_promise(target: str, kwargs: dict[str, Any]) -> None:
    report = check_env(target, kwargs=kwargs)
    assert names(report, Outcome.PASSED) == {check.name for check in CHECKS}, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EXTRA_SUITES))
def test_ids_that_need_an_extra_keep_every_promise(name: str) -> None:
    box = load_suite(name).new_box
    try:
        box().open(None)
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))
    report = check_env(f"MentorTool-{name.title()}-v0", kwargs={"split": load_suite(name).splits[0]})
    assert names(report, Outcome.PASSED) == {check.name for check in CHECKS}, str(report)


@pytest.mark.parametrize("kwargs", [{}, {"reward": {"name": "mentor", "fix_quirks": True}, "dense": True}])
@pytest.mark.parametrize("name", ["till", "custom"])
def test_suites_of_users_keep_every_promise(name: str, kwargs: dict[str, Any]) -> None:
    path = str(Path(__file__).parent / f"{name}_suite" / "suite.yaml")
    report = check_env("mentor_gym:MentorTool-v0", kwargs={"suite": path, **kwargs})
    assert names(report, Outcome.PASSED) == {check.name for check in CHECKS}, str(report)


def test_an_environment_without_rewards_of_its_own_has_no_terms() -> None:
    report = check_env("MentorTool-v0", kwargs={"reward": None})
    assert names(report, Outcome.NOT_APPLICABLE) == {"reward-terms"}
    report = check_env(broken_envs.Till)
    assert names(report, Outcome.NOT_APPLICABLE) == {"reward-terms", "spec"}


def guess_well(env: gym.Env[str, str], observation: str) -> str:
    """Guess in order, from the environment's own count of tries."""
    return GUESSES[5 - env.unwrapped.left]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("target", "actions", "without"),
    [
        (broken_envs.Guess, GUESSES, EXTRAS | {"spec"}),
        (lambda: broken_envs.Guess(tries=4), None, EXTRAS | {"spec"}),
        ("broken_envs:Guess", None, EXTRAS | {"spec"}),
        ("broken_envs:Guess-v0", guess_well, EXTRAS),
    ],
)
def test_a_plain_environment_of_a_third_party_passes(target: Any, actions: Any, without: set[str]) -> None:
    report = check_env(target, actions=actions)
    assert names(report, Outcome.NOT_APPLICABLE) == without, str(report)
    assert names(report, Outcome.PASSED) == {check.name for check in CHECKS} - without
    for result in report.results:
        assert (result.outcome is Outcome.NOT_APPLICABLE) == bool(result.message), "a reason is given"


@pytest.mark.parametrize(
    ("target", "name", "words"),
    [
        ("LeakingReset", "reset-forgets", "observation"),
        ("GlobalReseed", "global-random", "generator of random alone"),
        ("DrawsFromGlobal", "seed", "self.np_random"),
        ("BothEnds", "one-end", "both"),
        ("ForgetfulTools", "state", "the same future"),
        ("SeedIgnored", "seed", "super().reset(seed=seed)"),
        ("SeedDropped", "seed", "the same one each time"),
        ("KeepsToolsOpen", "tools-freed", "turn_limit"),
        ("ClockInInfo", "info", "info['time']"),
        ("EpisodeInInfo", "info", "RecordEpisodeStatistics"),
        ("PickledState", "state-plain", "at byte 2"),
        ("SharingClone", "clone", "clone"),
        ("RefusesNone", "hostile", "NoneType instead of text"),
        ("no_terms_on_truncation", "reward-terms", "the turn limit"),
        ("NanReward", "reward", "nan"),
        ("AsciiSpaces", "spaces", "UnicodeText"),
        ("NoOptions", "api", "options"),
        ("OldApi", "api", "five values"),
        ("Hangs", "hostile", "no answer within 1 s"),
        ("Slow", "hostile", "within 0.05 s"),
        ("HashOrder", "processes", "PYTHONHASHSEED=1"),
        ("same_object", "make", "the same object twice"),
        ("GuessMany-v0", "vector", "gym.make_vec"),
        ("GuessFinal-v0", "vector", "as alone in mode SAME_STEP"),
        ("OtherInWorkers", "vector", "equal infos"),
        ("only_in_this_process", "processes", "RuntimeError: not here"),
    ],
)
def test_each_fault_fails_the_check_that_it_belongs_to(target: str, name: str, words: str) -> None:
    assert_only(check_env(f"broken_envs:{target}", raise_on_failure=False, **options_for(target)), name, words)


@pytest.mark.parametrize(
    ("target", "name", "words"),
    [
        ("AnswerInInfo", "answer-hidden", "info['hint']"),
        ("PickleReader", "state-plain", "its code ran"),
        ("NoChecksum", "state-refused", "flipped"),
        ("HarmedByRefusal", "state-refused", "as before"),
        ("StepsOn", "order", "ResetNeeded"),
        ("MarkerEcho", "forgery", "<tool_response>"),
        ("ReadsFiles", "out-of-reach", "broken_envs.py"),
        ("ShowsEnvironment", "out-of-reach", "environment variable"),
        ("out_of_the_teachers_reach", "teacher", "maximum, 2"),
        ("paid_for_being_cut_off", "maximum", "1.5"),
        ("reward_that_raises", "reward", "no such key"),
        ("ArrayReward", "reward", "ndarray"),
        ("SurrogateEcho", "observations", "UTF-8"),
        ("CloseOnce", "close", "closed already"),
        ("OldReset", "gymnasium", "return_info"),
        ("GuessOnce-v0", "spec", "play the same"),
        ("not_an_environment", "make", "object"),
        ("cannot_be_made", "make", "no such level"),
        ("NoSpaces", "spaces", "a gymnasium.Space"),
        ("SamplesOutside", "spaces", "sample()"),
        ("BytesAllowed", "spaces", "b'bytes'"),
        ("ListObservation", "api", "a str"),
        ("NoInfo", "api", "a dict"),
        ("OnlyObservation", "api", "(observation, info)"),
        ("IntegerEnds", "api", "bool(terminated)"),
        ("StuckAfterHostile", "hostile", "reset() after it raised RuntimeError: stuck"),
        ("TooLong", "observations", "in UnicodeText(500)"),
        ("ListLater", "observations", "to be a str"),
        ("SeedUnused", "seed", "the same one each time"),
        ("NumpyEnds", "one-end", "truncated of step("),
        ("LosesTurn", "info", "info['turn']"),
        ("NoReason", "info", "info['stop_reason']"),
        ("NeverSucceeds", "teacher", "to succeed"),
        ("CrashKeepsTools", "tools-freed", "mark_crashed()"),
        ("CloseKeepsTools", "tools-freed", "close()"),
        ("StateAsText", "state", "return bytes"),
        ("StickyState", "state", "the same future"),
        ("SavingDraws", "state", "change nothing"),
        ("TakesShort", "state-refused", "the first "),
        ("IgnoresRest", "state-refused", "a byte more"),
        ("TakesOthers", "state-refused", "other arguments"),
        ("TakesNewer", "state-refused", "newer format"),
        ("CrashesOnRefusal", "state-refused", "a StateError for what is no state, None"),
        ("CloneIsSelf", "clone", "another environment"),
        ("SharingClose", "clone", "does not notice"),
        ("SharingList", "clone", "the same future in a clone"),
        ("CloneForgets", "clone", "the same future in a clone"),
        ("GuessLoud-v0", "spec", "to have the wrappers"),
        ("GuessKind-v0", "spec", "JSON"),
        ("GuessWords-v0", "spec", "no words are left"),
        ("no_terms_at_a_crash", "reward-terms", "mark_crashed()"),
        ("terms_that_do_not_add_up", "reward-terms", "return, 1"),
    ],
)
def test_each_fault_fails_its_check_where_processes_do_not_matter(target: str, name: str, words: str) -> None:
    examination = examine_env(f"broken_envs:{target}", **options_for(target))
    # Starting interpreters is most of the time of an examination.
    examination.checks = [check for check in CHECKS if check.name not in ("processes", "vector")]
    assert_only(conclude(examination, raise_on_failure=False), name, words)


def options_for(target: str) -> dict[str, Any]:
    """Return the options with which an environment's fault shows."""
    found = getattr(broken_envs, target, None)
    is_guess = target.startswith("Guess") or (isinstance(found, type) and issubclass(found, broken_envs.Guess))
    options: dict[str, Any] = {"actions": GUESSES} if is_guess else {}
    return {**options, "seconds": 0.05} if target in ("Hangs", "Slow") else options


def test_one_slow_answer_is_no_fault() -> None:
    examination = examine_env(broken_envs.SlowOnce, seconds=0.2)
    assert examination.result("hostile").outcome is Outcome.PASSED


def test_the_other_processes_have_different_hash_seeds() -> None:
    answers = play_elsewhere(broken_envs.HashOrder, [[("reset", 0)], [("reset", 0), ("step", "10")]])
    assert set(answers) == {"1", "2"}
    openings = {texts[0][0]["observation"] for texts in answers.values()}
    assert len(openings) == 2
    for texts in answers.values():
        assert [len(moments) for moments in texts] == [1, 2]
        assert texts[0][0] == texts[1][0]


def test_a_failed_check_raises_with_the_whole_report() -> None:
    with pytest.raises(ConformanceError, match="one-end failed: expected terminated or truncated") as caught:
        check_env(broken_envs.BothEnds)
    assert caught.value.report.target == "BothEnds"


def test_checks_run_when_they_are_asked_for() -> None:
    made = []

    def factory() -> gym.Env[str, str]:
        made.append(broken_envs.Guess())
        return made[-1]

    examination = examine_env(factory)
    assert not made
    assert examination.result("spaces").outcome is Outcome.PASSED
    assert len(made) == 3


def test_what_reset_and_step_may_touch_is_said() -> None:
    assert check_env(broken_envs.ReadsFiles, allow=["files"]).failed == []
    # What is shown is wrong however it was reached.
    report = check_env(broken_envs.ShowsEnvironment, allow=["files", "network"], raise_on_failure=False)
    assert_only(report, "out-of-reach", "environment variable")


def test_nondeterministic_environments_promise_no_equal_episodes() -> None:
    report = check_env("broken_envs:Random-v0")
    assert "seed" in names(report, Outcome.NOT_APPLICABLE)
    assert {"hostile", "teacher", "maximum", "tools-freed"} <= names(report, Outcome.PASSED)


def test_what_other_processes_cannot_make_is_not_compared_there() -> None:
    lock = threading.Lock()

    def factory() -> gym.Env[str, str]:
        with lock:
            return broken_envs.Guess()

    report = check_env(factory)
    assert "cannot be pickled" in next(item.message for item in report.results if item.check.name == "processes")
    assert names(report, Outcome.NOT_APPLICABLE) == EXTRAS | {"spec", "processes", "vector"}


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("NoSuchEnv-v0", {}, "no environment 'NoSuchEnv-v0'"),
        ("no_such_module:Env-v0", {}, "No module named 'no_such_module'"),
        ("no_such_module:Env", {}, "cannot import 'no_such_module'"),
        ("broken_envs:NoSuchEnv", {}, "'broken_envs' has no 'NoSuchEnv'"),
        ("broken_envs:TILL", {}, "no class or function"),
        (3, {}, "got 3"),
        ("Guess-v0", {"allow": ["file"]}, "did you mean 'files'"),
    ],
)
def test_targets_that_name_nothing_are_refused(target: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        examine_env(target, **options)


def test_a_check_leaves_the_global_generators_alone() -> None:
    with watched_generators() as touched:
        check_env(broken_envs.Till)
    assert touched == []


def test_canonical_texts_are_equal_where_values_are() -> None:
    assert canonical(np.float64(1.5)) == canonical(1.5) == "1.5"
    assert canonical({"b": 1, "a": [None, True]}) == "{'b': 1, 'a': [None, True]}"
    assert canonical({3, 1, 2}) == "{1, 2, 3}"
    assert canonical(np.array([[1, 2]], dtype=np.int8)) == "array(int8, [[1, 2]])"
    assert canonical(np.array([1.0])) != canonical(np.array([1]))
    assert canonical(mentor_gym.StopReason.ANSWER) == "'answer'"
    assert (
        canonical(mentor_gym.ToolCall("add", {"a": 1}))
        == "ToolCall({'name': 'add', 'arguments': {'a': 1}, 'error': None})"
    )
    assert "0x" not in canonical(broken_envs.Paying(1.0))
    assert canonical(broken_envs.Paying(1.0)) != canonical(broken_envs.Paying(2.0))


def test_a_difference_names_the_call_and_the_field() -> None:
    one = [Moment("reset()", "a" * 200, {"x": 1}), Moment("step('b')", "c", {"x": 1}, 0.0, False, False)]
    other = [Moment("reset()", "a" * 199 + "b", {"x": 1}), Moment("step('b')", "c", {"x": 2}, 0.0, False, False)]
    assert difference(one, one) is None
    found = difference(one, other)
    assert found is not None
    assert found.startswith("call 1, reset(): observation aaa")
    assert "a' against " in found
    assert found.endswith("ab' (lengths 202 and 202)")
    assert difference(one[1:], other[1:]) == "call 1, step('b'): info['x'] 1 against 2"
    assert difference(one[1:], other[1:], info=False) is None
    assert difference(one[1:], [Moment("step('b')", "c", {}, 0.0)]) == (
        "call 1, step('b'): the keys of info ['x'] against []"
    )


def test_what_an_environment_changes_later_stays_written_down() -> None:
    info = {"x": [1]}
    moment = Moment("reset()", "a", info)
    info["x"].append(2)
    assert moment.texts["info['x']"] == "[1]"


def test_excerpts_are_short_and_give_lengths() -> None:
    assert excerpt("short") == "'short'"
    assert excerpt("x" * 10_000_000, 5) == "'xxxxx'… (10000000 characters)"
    assert len(excerpt(list(range(10_000)))) < 200


def test_a_pickle_is_found_wherever_it_stands() -> None:
    assert _pickle_start(pickle.dumps({"a": 1}, protocol=0)) == 0
    for protocol in range(2, 6):
        assert _pickle_start(b"header" + pickle.dumps([1, "x"], protocol=protocol)) == 6
    assert _pickle_start("你好 \u0080\u0402 ✀".encode()) is None
    environment = broken_envs.Till()
    for seed in range(200):
        environment.reset(seed=seed)
        assert _pickle_start(environment.get_state()) is None


def test_listening_hears_files_network_and_processes(tmp_path: Path) -> None:
    import socket
    import sqlite3
    import subprocess

    (tmp_path / "a").write_text("")
    with listening() as heard:
        sqlite3.connect(":memory:").close()
        assert heard == []
        (tmp_path / "a").read_text()
        socket.socket().close()
        subprocess.run([sys.executable, "-c", ""], check=True)
        os.environ["MENTOR_GYM_X"] = "1"
        sqlite3.connect(tmp_path / "b").close()
    (tmp_path / "a").read_text()
    del os.environ["MENTOR_GYM_X"]
    groups = [group for group, _ in heard]
    assert groups[:2] == ["files", "network"]
    assert heard[0][1] == f"open({str(tmp_path / 'a')!r})"
    assert {"files", "network", "processes"} == set(groups)
    assert any("subprocess.Popen" in event for _, event in heard)
    assert any("os.putenv" in event for _, event in heard)
    assert heard[-1] == ("files", f"sqlite3.connect({tmp_path / 'b'!r})") or "sqlite3.connect" in heard[-1][1]


# Suites


@pytest.mark.parametrize("name", sorted(SUITES))
def test_shipped_suites_keep_every_promise(name: str) -> None:
    report = check_suite(name)
    assert names(report, Outcome.PASSED) == {check.name for check in SUITE_CHECKS}, str(report)


@pytest.mark.parametrize("name", ["till", "custom", "bandit"])
def test_suites_from_files_pass(name: str) -> None:
    path = str(Path(__file__).parent / f"{name}_suite" / "suite.yaml")
    report = check_suite(path, related=[("train", "teachers")])
    assert names(report, Outcome.NOT_APPLICABLE) == {"generator"} | ({"disjoint"} if name != "bandit" else set())
    if name == "bandit":
        assert_only(check_suite(path, raise_on_failure=False), "disjoint", "'bandit-1' of 'train'", "related=")


def small_box() -> ToolBox:
    """Return two tools of the math suite's: fewer to check than all."""
    return ToolBox(math_box().tools[name] for name in ("add", "multiply"))


def make_suite(rows: dict[str, list[dict[str, Any]]], folder: Path, **options: Any) -> Suite:
    """Write rows, by split, as a suite over two of the math suite's tools, unless told otherwise."""
    files = {}
    for split, items in rows.items():
        files[split] = folder / f"{split}.jsonl"
        lines = [json.dumps({**item, "suite": "made", "split": split}) for item in items]
        files[split].write_text("\n".join(lines))
    return Suite("made", tuple(rows), **{"make_box": small_box, "files": files, **options})


CALL = ("multiply", {"a": 2, "b": 9}, "18")


def math_row(task_id: str, prompt: str = "What is two times nine?", **fields: Any) -> dict[str, Any]:
    """Return a row over two of the math suite's tools."""
    sound = {"prompt": prompt, "tools": ["add", "multiply"], "teacher": teacher([CALL], "18")}
    return row(task_id, **{**sound, **fields})


def test_a_sound_suite_whose_name_nobody_knows_passes(tmp_path: Path) -> None:
    suite = make_suite({"train": [math_row("a")], "test": [math_row("b", "And nine times two?")]}, tmp_path)
    report = check_suite(suite)
    assert names(report, Outcome.NOT_APPLICABLE) == {"generator"}, str(report)
    assert report.target == "made"


SILENT = [{"role": "assistant", "content": "I do not know."}]
INLINE = {"type": "function", "function": {"name": "add", "description": "Try 1234.5.", "parameters": {}}}
LOOSE = {"kind": "text", "aliases": ["no such answer 5f3a9c"]}
EARLY = [*teacher([], "18"), *teacher([CALL], "18")]


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({"colour": 1}, "loads", "line 1"),
        ({"answer": "eighteen"}, "loads", "no answer to a number grader"),
        ({"tools": ["add", "multiply", "add"]}, "offers", "'add' twice"),
        ({"answer": "19"}, "teachers", "its answer is '18', 2 of its 2 turns"),
        ({"teacher": SILENT}, "teachers", "it gives no answer"),
        ({"teacher": EARLY}, "teachers", "comes in turn 1 of 3"),
        ({"teacher": teacher([("multiply", {"a": 2, "b": 9}, "19")], "18")}, "results", "'19'; got '18'"),
        ({"teacher": teacher([CALL], "18")[::2]}, "results", "1 calls and 0 tool messages"),
        ({"answer": "x", "grader": LOOSE, "teacher": []}, "answers", "'no such answer 5f3a9c' to be wrong"),
        ({"answer": "1234.5", "tools": [INLINE], "teacher": []}, "answers-hidden", "inline schema"),
    ],
)
def test_each_fault_of_a_row_fails_the_check_that_it_belongs_to(
    tmp_path: Path, fields: dict[str, Any], name: str, words: str
) -> None:
    report = check_suite(make_suite({"train": [math_row("a", **fields)]}, tmp_path), raise_on_failure=False)
    assert_only(report, name, words)


@pytest.mark.parametrize(
    ("kind", "answer", "lenient"),
    [
        ("number", "18", lambda answer, gold, options: abs(float(answer or "inf") - float(gold)) < 3),
        ("set", "Paris, Lyon", lambda answer, gold, options: gold in answer and " or not " not in answer),
    ],
)
def test_lenient_graders_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, answer: str, lenient: Any
) -> None:
    suite = make_suite({"train": [math_row("a", answer=answer, grader={"kind": kind}, teacher=[])]}, tmp_path)
    assert check_suite(suite).failed == []

    def grade_leniently(answer: str, gold: str, options: dict[str, Any], final_state: Any) -> bool:
        try:
            return bool(lenient(answer, gold, options))
        except ValueError:
            return False

    monkeypatch.setitem(GRADERS, kind, grade_leniently)
    assert_only(check_suite(suite, raise_on_failure=False), "answers", "to be wrong for task 'a'")


@pytest.mark.parametrize(
    ("task_id", "prompt", "name", "words"),
    [
        ("a", "Something else?", "ids", "'train' and in 'test'"),
        ("b", "what is  Two times nine?", "disjoint", "'b' of 'test'"),
    ],
)
def test_splits_share_neither_ids_nor_questions(
    tmp_path: Path, task_id: str, prompt: str, name: str, words: str
) -> None:
    suite = make_suite({"train": [math_row("a")], "test": [math_row(task_id, prompt)]}, tmp_path)
    assert_only(check_suite(suite, raise_on_failure=False), name, words)
    # The same words about another state are another question.
    other = make_suite({"train": [math_row("a")], "test": [math_row("b", state={"x": 1})]}, tmp_path)
    assert check_suite(other).failed == []


class Loose(Suite):
    """A suite that makes its tasks itself, and checks nothing."""

    rows: dict[str, list[Task]]

    def tasks(self, split: str) -> TaskSet:
        return TaskSet(self.rows[split])


@pytest.mark.parametrize(
    ("rows", "name", "words"),
    [
        ({}, "loads", "at least one split"),
        ({"train": []}, "loads", "rows in split 'train'"),
        ({"train": [math_row("a", suite="other")]}, "loads", "suite 'other'"),
        ({"train": [math_row("a", split="test")]}, "loads", "split 'test'"),
        ({"train": [math_row("a", tools=["add", "divide"], teacher=[])]}, "offers", "'divide'"),
        ({"train": [math_row("a", answer="", teacher=[])]}, "answers", "it is wrong"),
    ],
)
def test_suites_that_make_their_own_tasks_are_checked_too(
    rows: dict[str, list[dict[str, Any]]], name: str, words: str
) -> None:
    suite = Loose("loose", tuple(rows), small_box, files={})
    suite.rows = {
        split: [Task(**{**item, "suite": item["suite"].replace("shop", "loose")}) for item in items]
        for split, items in rows.items()
    }
    assert_only(check_suite(suite, raise_on_failure=False), name, words)


def test_boxes_with_different_tools_are_noticed() -> None:
    boxes = itertools.cycle([math_box, small_box])

    class WithState(ToolBox):
        def open(self, state: dict[str, Any] | None) -> None:
            """Be a box with state."""

    suite = Loose("loose", ("train",), lambda: WithState(next(boxes)().tools.values()), files={})
    suite.rows = {"train": [Task(**math_row("a", suite="loose", teacher=[]))]}
    assert_only(check_suite(suite, raise_on_failure=False), "boxes", "build boxes alike")


def test_a_box_with_state_that_is_shared_is_noticed() -> None:
    till = load_suite(broken_envs.TILL)
    shared = till.make_box()
    suite = Suite("till", till.splits, lambda: shared, files=till._files)
    assert_only(check_suite(suite, raise_on_failure=False), "boxes", "make_box()")


def test_tools_that_raise_are_noticed(tmp_path: Path) -> None:
    class Raising(Tool):
        def call(self, arguments: dict[str, Any]) -> Any:
            return {"a": super().call(arguments)}[min(arguments, default="a")]

    def make_box() -> ToolBox:
        add = math_box().tools["add"]
        return ToolBox([Raising(add.function, "add", add.description, add.parameters)])

    suite = make_suite({"train": [math_row("a", tools=["add"], teacher=[])]}, tmp_path, make_box=make_box)
    assert_only(check_suite(suite, raise_on_failure=False), "tools", "never-raises")


def generated(split: str, seed: int) -> list[Task]:
    """Generate two rows."""
    numbers = random.Random(seed)
    rows = [math_row(str(i), f"{numbers.random()}?", suite="made", split=split, teacher=[]) for i in range(2)]
    return [Task(**item) for item in rows]


def reseeding(split: str, seed: int) -> list[Task]:
    """Generate the same, and seed the global generator."""
    random.seed(seed)
    return generated(split, seed)


def shorter(split: str, seed: int) -> list[Task]:
    """Generate a row less."""
    return generated(split, seed)[:1]


@pytest.mark.parametrize(
    ("generate", "seed", "words"),
    [
        (generated, 3, ""),
        (generated, 4, "row 1 of split 'train' again from seed 4"),
        (reseeding, 3, "global generator of random alone"),
        (shorter, 3, "the 2 rows of split 'train'"),
    ],
)
def test_generators_give_the_shipped_rows(tmp_path: Path, generate: Any, seed: int, words: str) -> None:
    rows = [json.loads(msgspec.json.encode(task)) for task in generated("train", 3)]
    suite = make_suite({"train": rows}, tmp_path, generate=generate)
    report = check_suite(suite, seed=seed, raise_on_failure=False)
    if words:
        assert_only(report, "generator", words)
    else:
        assert "generator" in names(report, Outcome.PASSED)


def test_only_so_many_rows_are_played(tmp_path: Path) -> None:
    rows = [math_row(str(i), f"{i}?", answer="18" if i != 5 else "19") for i in range(10)]
    suite = make_suite({"train": rows}, tmp_path)
    assert [task.id for task in SuiteSubject(suite, rows=4).sample("train")] == ["0", "2", "5", "7"]
    assert check_suite(suite, rows=5).failed == []
    assert_only(check_suite(suite, rows=4, raise_on_failure=False), "teachers", "'5'")


def test_suites_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'math'"):
        examine_suite("maths")
    with pytest.raises(ValueError, match="at least 1"):
        examine_suite("math", rows=0)
