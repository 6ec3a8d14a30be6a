"""The checks of tools, rewards and agents: each finds its fault, alone, and finds none in what is shipped."""

from __future__ import annotations

import copy
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import broken_parts
import msgspec
import numpy as np
import pytest

from agents.base import AgentError, Completion, Observation
from mentor_gym.env import MentorToolEnv
from mentor_gym.grading import grade
from mentor_gym.rewards import PRESETS, MentorReward, OutcomeReward, make_reward
from mentor_gym.rewards.matching import MATCHERS, teacher_calls
from mentor_gym.suites import SUITES as SHIPPED
from mentor_gym.suites import load_suite
from mentor_gym.testing import agent as agent_kit
from mentor_gym.testing import reward as reward_kit
from mentor_gym.testing import tool as tool_kit
from mentor_gym.testing._arguments import ArgumentSampler, hostile_arguments, shorten
from mentor_gym.testing._isolation import Lost, run_apart
from mentor_gym.testing._randomness import watched_generators
from mentor_gym.testing.agent import check_agent, examine_agent
from mentor_gym.testing.base import Check, ConformanceError, Outcome, Report
from mentor_gym.testing.reward import check_reward, examine_reward
from mentor_gym.testing.tool import check_tool, examine_tool
from mentor_gym.testing.transcripts import describe_transcript, fuzz_transcripts, play_turns, reword, teacher_turns
from mentor_gym.tools import Tool, ToolBox, ToolError, tool
from mentor_gym.types import CallError, StopReason, Task, Transcript

TESTS = Path(__file__).parent
TILL = str(TESTS / "till_suite" / "suite.yaml")
OWN = [TILL, str(TESTS / "custom_suite/suite.yaml"), str(TESTS / "bandit_suite/suite.yaml")]
SUITES = ["math", "facts", *OWN]
PILE = {"items": ["a", "b"]}
TASKS = [task for split in ("valid", "ood-tools") for task in list(load_suite("math").tasks(split))[:60]]


def assert_only(report: Report, checks: Sequence[Check], name: str, words: str) -> None:
    """Assert that one check failed, with these words, and that exactly what needs it was not run."""
    assert [result.check.name for result in report.failed] == [name], str(report)
    assert words in report.failed[0].message, report.failed[0].message
    needy = {name}
    for check in checks:
        if needy & set(check.needs):
            needy.add(check.name)
    blocked = {result.check.name for result in report.results if result.outcome is Outcome.BLOCKED}
    assert blocked == needy - {name}


def outcomes(report: Report) -> dict[str, Outcome]:
    return {result.check.name: result.outcome for result in report.results}


def not_applicable(report: Report) -> set[str]:
    return {name for name, outcome in outcomes(report).items() if outcome is Outcome.NOT_APPLICABLE}


# Each fault is found by the check that it belongs to


@pytest.mark.parametrize("fault", broken_parts.REWARDS)
def test_a_broken_reward_fails_one_check(fault: str) -> None:
    factory, name, words = broken_parts.REWARDS[fault]
    report = check_reward(factory(), raise_on_failure=False, count=300, per_split=1)
    assert_only(report, reward_kit.CHECKS, name, words)


@pytest.mark.parametrize("fault", broken_parts.TOOLS)
def test_a_broken_tool_fails_one_check(fault: str) -> None:
    factory, name, words = broken_parts.TOOLS[fault]
    assert_only(check_tool(factory(), raise_on_failure=False, seconds=2), tool_kit.CHECKS, name, words)


@pytest.mark.parametrize("fault", broken_parts.BOXES)
def test_a_broken_box_fails_one_check(fault: str) -> None:
    factory, name, words = broken_parts.BOXES[fault]
    state = None if fault == "needs a state" else PILE
    assert_only(check_tool(factory(), raise_on_failure=False, state=state), tool_kit.CHECKS, name, words)


@pytest.mark.parametrize("fault", broken_parts.AGENTS)
def test_a_broken_agent_fails_one_check(fault: str) -> None:
    factory, name, words = broken_parts.AGENTS[fault]
    assert_only(check_agent(factory(), raise_on_failure=False), agent_kit.CHECKS, name, words)


@pytest.mark.parametrize(
    ("checks", "faults"),
    [
        (reward_kit.CHECKS, broken_parts.REWARDS),
        (tool_kit.CHECKS, broken_parts.TOOLS | broken_parts.BOXES),
        (agent_kit.CHECKS, broken_parts.AGENTS),
    ],
    ids=["reward", "tool", "agent"],
)
def test_every_check_has_a_fault_that_it_finds(
    checks: list[Check], faults: dict[str, tuple[Any, str, str]]
) -> None:
    assert {name for _, name, _ in faults.values()} == {check.name for check in checks}


# Tools


@pytest.mark.parametrize("suite", [*SHIPPED, *OWN], ids=lambda path: Path(path).parent.name or path)
def test_every_tool_of_ours_passes(suite: str) -> None:
    report = check_tool(suite)
    state = {"open-resets", "close-twice", "snapshot-restores", "final-state"}
    limits = {"timeout-fires", "timeout-leaves-signals-alone"}
    expected = set(state) if suite in ("math", "facts", "wiki", *OWN[1:]) else set()
    if suite not in OWN:
        expected |= limits
    assert not_applicable(report) == expected


def test_tools_are_found_by_name_as_classes_and_as_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TESTS / "till_suite"))
    till: dict[str, Any] = {"state": {"prices": {"apple": 0.5}}, "examples": {"scan": [{"item": "apple"}]}}
    for target in ("till:Till", "till:make_box"):
        examination = examine_tool(target, **till)
        assert examination.target == target
        assert examination.result("snapshot-restores").outcome is Outcome.PASSED
    subject = examine_tool("mentor_gym.tools.math:math_box").subject
    assert len(subject.tools) == 19
    assert [item.name for item in examine_tool("mentor_gym.tools.facts:get").subject.tools] == ["get"]

    @tool(timeout=3)
    def nap(seconds: float) -> str:
        """Sleep a while."""
        return "awake"

    assert examine_tool(nap).subject.tools[0].timeout == 3
    assert examine_tool(nap).target == "nap"


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("mathematics", {}, "module:attribute"),
        ("no_such_module_here:x", {}, "cannot load the tool 'no_such_module_here:x'"),
        ("mentor_gym.tools.math:no_such_tool", {}, "no_such_tool"),
        (7, {}, "expected a Tool"),
        (broken_parts.repeat, {"examples": [{"text": 7}]}, "repeat does not take {'text': 7}"),
        (broken_parts.repeat, {"slow": {"shout": [{}]}}, "slow: no tool 'shout'; there are repeat"),
        ("math", {"examples": [{"a": 1, "b": 2}]}, "by tool name, there are 19 tools"),
    ],
)
def test_wrong_targets_and_examples_are_refused(target: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        examine_tool(target, **options)


def test_a_failure_is_raised_with_the_report() -> None:
    with pytest.raises(ConformanceError, match=r"tool careless: \d+ checks passed, 1 failed\n") as raised:
        check_tool(broken_parts.careless)
    assert "explains-failures failed: expected a result, or a ToolError" in str(raised.value)
    assert raised.value.report.kind == "tool"


def test_a_slow_call_is_checked_with_the_arguments_that_make_it_slow() -> None:
    def nap(seconds: float) -> str:
        """Sleep a while."""
        time.sleep(min(max(seconds, 0), 3))
        return "awake"

    slow = [{"seconds": 3}]

    def examine(function: Any, timeout: float | None, arguments: Any) -> str:
        examination = examine_tool(Tool.from_function(function, timeout=timeout), slow=arguments)
        # For what is checked elsewhere, and takes long here.
        examination.subject.trials, examination.subject.ordinary = [], {function.__name__: []}
        return examination.result("timeout-fires").message

    assert examine(nap, 0.3, slow) == ""
    assert "timeout=None" in examine(nap, None, slow)
    assert "if the call is not slow at all" in examine(nap, 0.3, [{"seconds": 0}])

    def add_up(limit: int) -> int:
        """Add the numbers below a limit."""
        return sum(range(limit))

    # A loop in C: no limit inside the process can end it.
    assert "did not come back within 1.36 s" in examine(add_up, 0.3, [{"limit": 10**12}])


def test_checks_of_tools_leave_signals_as_they_were_and_run_in_any_thread() -> None:
    def handler(number: int, frame: Any) -> None:
        raise AssertionError("not for tools")

    outer = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 500)
    try:
        check_tool(TILL)
        assert signal.getsignal(signal.SIGALRM) is handler
        assert 400 < signal.getitimer(signal.ITIMER_REAL)[0] <= 500
        reports: list[Report] = []
        thread = threading.Thread(target=lambda: reports.append(check_tool(TILL, raise_on_failure=False)))
        thread.start()
        thread.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, outer)
    assert reports[0].failed == []
    assert not_applicable(reports[0]) == {"timeout-leaves-signals-alone"}


def test_a_schema_that_nothing_fits_asks_for_examples() -> None:
    parameters = {"properties": {"code": {"type": "string", "pattern": "^Q{3}-[0-9]{9}$"}}, "required": ["code"]}
    made = Tool(lambda code: code.lower(), "lower", "Lower a code.", parameters, timeout=5)
    report = check_tool(made)
    assert {"same-again", "global-random-untouched"} <= not_applicable(report)
    assert "give examples=" in next(r.message for r in report.results if r.check.name == "same-again")
    assert "same-again" not in not_applicable(check_tool(made, examples=[{"code": "QQQ-123456789"}]))


def test_a_timeout_that_comes_late_is_a_failure() -> None:
    class Late(Tool):
        def call(self, arguments: Any) -> Any:
            result = super().call(arguments)
            if result.error is CallError.TIMED_OUT:
                time.sleep(0.2)
            return result

    message = examine_tool(Late.from_function(broken_parts.repeat, timeout=5)).result("timeout-fires").message
    assert "within 0.24 s" in message


# What calls are made with


SCHEMAS: list[dict[str, Any]] = [
    {"type": "integer", "minimum": 3, "maximum": 5},
    {"type": "integer", "exclusiveMinimum": 10**6, "multipleOf": 7},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 0.25},
    {"type": "string", "minLength": 20, "maxLength": 25},
    {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    {"type": "string", "format": "email"},
    {"type": ["string", "null"]},
    {"enum": ["a", None, 3]},
    {"const": {"x": 1}},
    {"type": "boolean"},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "minItems": 2, "maxItems": 2},
    {"type": "object", "properties": {"deep": {"type": "number"}}, "required": ["deep"]},
    {"anyOf": [{"type": "integer", "minimum": 7}, {"type": "boolean"}]},
    {"oneOf": [{"const": "x"}, {"const": "y"}]},
    {"allOf": [{"type": "integer"}, {"minimum": 100}]},
    {"$ref": "#/$defs/size"},
    {"$ref": "#/$defs/tree"},
    {"type": "string", "default": "d", "examples": ["e"]},
    {"description": "Anything."},
]
DEFINITIONS = {
    "size": {"enum": ["small", "large"]},
    "tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "leaf": {"type": "integer"}}},
}


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_drawn_arguments_fit_their_schema_and_wrong_ones_do_not(schema: dict[str, Any]) -> None:
    parameters = {
        "type": "object", "properties": {"value": schema, "other": {"type": "integer"}}, "required": ["value"],
        "additionalProperties": False, "$defs": DEFINITIONS,
    }  # fmt: skip
    sampler = ArgumentSampler(parameters)
    for _ in range(20):
        arguments = sampler.ordinary()
        assert arguments is not None
        assert sampler.is_valid(arguments)
    assert all(map(sampler.is_valid, (*sampler.simple(), *sampler.extreme())))
    assert not any(sampler.is_valid(arguments) for _, arguments in sampler.wrong())
    assert not any(sampler.is_valid(arguments) for arguments in hostile_arguments(sampler))
    fields = {field for field, _ in sampler.wrong()}
    assert {"other", "no_such_argument", "value"} <= fields
    one, other = ArgumentSampler(parameters), ArgumentSampler(parameters)
    assert [one.ordinary() for _ in range(5)] == [other.ordinary() for _ in range(5)]


def test_wrong_arguments_hold_every_coercion() -> None:
    wrong = [
        arguments for _, arguments in ArgumentSampler(Tool.from_function(broken_parts.repeat).parameters).wrong()
    ]
    for field, value in (
        ("times", "5"),
        ("times", 1.5),
        ("times", True),
        ("loud", 1),
        ("loud", "true"),
        ("text", 1),
    ):
        assert any(type(item.get(field)) is type(value) and item[field] == value for item in wrong), (field, value)
    assert any(item.get("tags") == [1] for item in wrong)
    assert any("text" not in item for item in wrong)


def test_values_are_shortened_however_deep() -> None:
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    assert len(shorten({"a": deep, "b": "x" * 10**6, "c": list(range(10**5))})) < 400


def test_calls_apart_change_nothing_here() -> None:
    changed: list[int] = []

    def change() -> int:
        changed.append(1)
        random.seed(0)
        return os.getpid()

    def swell() -> str:
        try:
            return "x" * 10**11
        except MemoryError:
            return "no memory"

    state = random.getstate()
    pid, memory, text = run_apart([change, swell, lambda: lambda: 1], 20)
    assert (changed, random.getstate(), memory) == ([], state, "no memory")
    assert "<lambda>" in text  # what cannot be pickled comes back as its repr
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: 7**10**9, "did not come back within 0.5 s"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "was killed by SIGTERM"),
        (lambda: os._exit(9), "ended the process with status 9"),
    ],
)
def test_a_call_apart_that_is_lost_ends_the_series(function: Any, reason: str) -> None:
    assert run_apart([lambda: "x" * 10**6, function, lambda: 2], 0.5) == ["x" * 10**6, Lost(reason)]


def test_watched_generators_are_given_back() -> None:
    import torch

    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    for function, name in ((random.random, "random"), (np.random.rand, "numpy.random"), (torch.rand, "torch")):
        with watched_generators() as touched:
            function(1) if function is torch.rand else function()
        assert touched == [name]
    with watched_generators() as touched:
        random.Random(1).random()
    assert touched == []
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002


# Transcripts


def replay(env: MentorToolEnv, drawn: Transcript) -> Transcript:
    """Play what was written in a drawn transcript on the real environment."""
    texts = [turn.text for turn in drawn.turns]
    if drawn.stop_reason not in (StopReason.TOKEN_LIMIT, StopReason.ENV_CRASHED):
        return play_turns(env, drawn.task.id, texts)
    play_turns(env, drawn.task.id, texts[:-1])
    (env.mark_cut_off if drawn.stop_reason is StopReason.TOKEN_LIMIT else env.mark_crashed)()
    env.step(texts[-1])
    return env.transcript


def test_drawn_transcripts_are_what_the_environment_would_record() -> None:
    tasks = list(load_suite("math").tasks("valid"))[:50]
    refused = (CallError.MALFORMED, CallError.UNKNOWN_TOOL, CallError.OVER_LIMIT)
    envs = {n: MentorToolEnv("math", split="valid", max_turns=n) for n in range(1, 20)}
    played = 0
    for drawn in fuzz_transcripts(tasks, 3_000, seed=5):
        if "/" in drawn.task.id:
            continue  # a variant, which no environment has
        env = envs[len(drawn.turns) if drawn.stop_reason is StopReason.TURN_LIMIT else 19]
        real = replay(env, drawn)
        played += 1
        assert real.stop_reason == drawn.stop_reason
        assert (real.answer, real.is_success) == (drawn.answer, drawn.is_success)
        for one, other in zip(real.turns, drawn.turns, strict=True):
            assert (one.text, one.action) == (other.text, other.action)
            assert bool(one.observation) == bool(other.observation)
            # Whether a call that is run succeeds is drawn; what is not run, and why, is known.
            errors = [[item.error if item.error in refused else None for item in t.results] for t in (one, other)]
            assert errors[0] == errors[1]
    assert played > 500


def test_drawn_transcripts_are_of_every_kind() -> None:
    drawn = fuzz_transcripts(TASKS, 3_000)
    assert len(drawn) == 3_000
    assert {transcript.stop_reason for transcript in drawn} == {None, *StopReason}
    assert {len(transcript.turns) for transcript in drawn} == set(range(9))
    errors = Counter(result.error for transcript in drawn for _, result in transcript.calls())
    assert set(errors) == {None, *CallError}
    assert all(result.ok == (result.error is None) for item in drawn for _, result in item.calls())
    ends = Counter((bool(teacher_calls(item.task)), item.is_success) for item in drawn if item.answer is not None)
    assert min(ends[key] for key in itertools.product((True, False), repeat=2)) > 100
    assert any(isinstance(entry, dict) for item in drawn for entry in item.task.tools)
    assert max(len(turn.results) for item in drawn for turn in item.turns) > 8
    values = [value for item in drawn for call, _ in item.calls() for value in call.arguments.values()]
    assert {10**30, 1e308} <= {value for value in values if isinstance(value, int | float)}
    agreement = [make_reward("strict")(item)["alignment"] for item in drawn if item.is_success]
    assert {0.0, 0.3} <= set(agreement)
    assert all(item.is_success == grade(item.answer or "", item.task.answer, item.task.grader) for item in drawn)


def test_drawn_transcripts_are_the_same_in_every_process() -> None:
    script = (
        "import hashlib; from mentor_gym.suites import load_suite;"
        "from mentor_gym.testing.transcripts import fuzz_transcripts;"
        "drawn = fuzz_transcripts(list(load_suite('math').tasks('test'))[:9], 300, seed=3);"
        "print(hashlib.sha256(repr(drawn).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=TESTS.parent,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    tasks = list(load_suite("math").tasks("test"))[:9]
    assert fuzz_transcripts(tasks, 50, seed=1) != fuzz_transcripts(tasks, 50, seed=2)
    with pytest.raises(ValueError, match="at least one task"):
        fuzz_transcripts([], 3)


def test_other_words_are_right_too() -> None:
    for task in [*TASKS, *list(load_suite("facts").tasks("valid"))[:60]]:
        other = reword(task.answer, task)
        assert other is not None
        assert other != task.answer
        assert len(other) == len(task.answer)
        assert grade(other, task.answer, task.grader)


def test_transcripts_are_described_in_one_line() -> None:
    task = load_suite("math").tasks("test")[0]
    env = MentorToolEnv("math", split="test")
    transcript = play_turns(
        env, task.id, ['<tool_call>{"name": "nix", "arguments": {}}</tool_call>' * 9, "<answer>1</answer>"]
    )
    assert describe_transcript(transcript) == (
        f"task {task.id}, 2 turns, calls {'nix:unknown_tool, ' * 5}nix:unknown_tool and 3 more, ended by answer, "
        "wrong answer '1'"
    )
    assert teacher_turns(task)[-1] == f"<answer>{task.answer}</answer>"


# Rewards


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_passes_every_check(name: str) -> None:
    # The whole audit for the reward of the paper; for its relatives with fewer transcripts.
    report = check_reward(name, **({} if name == "mentor" else {"count": 250, "per_split": 1}))
    # That every right answer earns more than every other episode is for a reward to promise or not.
    promises = getattr(make_reward(name), "right_beats_wrong", False)
    assert not_applicable(report) == (set() if promises else {"right-beats-wrong"})


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PRESETS if name != "mentor"])
def test_every_preset_passes_the_whole_audit(name: str) -> None:
    check_reward(name)


@pytest.mark.parametrize("suite", SUITES[1:], ids=lambda path: Path(path).parent.name or path)
def test_rewards_pass_on_other_suites(suite: str) -> None:
    for reward in ("sparse", "strict", {"name": "mentor", "fix_quirks": True}):
        assert not_applicable(check_reward(reward, suite=suite, count=300, per_split=1)) == set()


def test_a_reward_that_charges_for_calls_passes() -> None:
    class FewCalls:
        maximum = 1.0

        def __call__(self, transcript: Transcript) -> dict[str, float]:
            return {"outcome": float(transcript.is_success), "calls": -0.1 * len(transcript.calls())}

    for target in (FewCalls, FewCalls()):
        assert not_applicable(check_reward(target, count=500, per_split=1)) == {"right-beats-wrong"}


def test_rewards_are_found_by_name_mapping_and_class() -> None:
    assert isinstance(examine_reward("mentor_gym.rewards:MentorReward").subject.reward, MentorReward)
    assert isinstance(examine_reward(OutcomeReward).subject.reward, OutcomeReward)
    examination = examine_reward({"name": "mentor", "matcher": "f1"})
    assert examination.subject.reward.matcher == "f1"
    assert "f1" in examination.target
    for target, options, words in (
        ("metor", {}, "unknown reward 'metor'"),
        ("no_such_module_here:x", {}, "cannot load the reward"),
        ("mentor", {"suite": "maths"}, "unknown suite 'maths'"),
        ("mentor", {"count": 0}, "count and per_split"),
    ):
        with pytest.raises(ValueError, match=words):
            examine_reward(target, **options)
    with pytest.raises(ConformanceError, match="blind-to-tool-output failed: expected the same terms"):
        check_reward(broken_parts.REWARDS["tool output"][0](), count=300, per_split=1)


def test_a_reward_that_spoils_tasks_does_not_spoil_the_suite() -> None:
    class Spoiling:
        maximum = 1.0

        def __call__(self, transcript: Transcript) -> dict[str, float]:
            transcript.task.teacher.clear()
            return {"outcome": float(transcript.is_success)}

    before = copy.deepcopy(list(load_suite("math").tasks("valid")))
    report = check_reward(Spoiling(), raise_on_failure=False, count=300, per_split=1)
    assert_only(report, reward_kit.CHECKS, "leaves-transcript-alone", "teacher=[]")
    assert list(load_suite("math").tasks("valid")) == before


def test_without_teachers_that_use_tools_nothing_is_played(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text((TESTS / "custom_suite/tools.py").read_text())
    source = load_suite(SUITES[3]).tasks("train")
    silent = [{"role": "assistant", "content": "<answer>1</answer>"}]
    rows = [
        msgspec.structs.replace(task, teacher=silent, answer="1", grader={"kind": "number"}) for task in source
    ]
    (tmp_path / "train.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    name = load_suite(SUITES[3]).name
    (tmp_path / "suite.yaml").write_text(f"name: {name}\ntools: tools.py\nsplits: {{train: train.jsonl}}\n")
    report = check_reward("mentor", suite=str(tmp_path / "suite.yaml"), count=300)
    assert {"idle-earns-less", "teacher-earns-maximum", "dense-equals-terminal"} <= not_applicable(report)
    assert outcomes(report)["within-bounds"] is Outcome.PASSED


WEIGHTS = [
    {"matcher": matcher, "outcome": outcome, "wrong_scale": scale, "floor": floor, "fix_quirks": fixed}
    for matcher, outcome, scale, floor, fixed in itertools.product(
        MATCHERS, (0.05, 0.3, 0.7), (0.0, 0.2, 0.9), (0.1, 0.75), (False, True)
    )
]


def test_right_beats_wrong_is_what_the_weights_say() -> None:
    drawn = [item for item in fuzz_transcripts(TASKS, 1_500) if item.stop_reason and teacher_calls(item.task)]
    seen = Counter()
    for weights in WEIGHTS:
        reward = MentorReward(**weights)
        paid = [(item.is_success, round(sum(reward(item).values()), 9)) for item in drawn]
        least = min(total for right, total in paid if right)
        most = max(total for right, total in paid if not right)
        assert reward.right_beats_wrong == (least > most), weights
        seen[reward.right_beats_wrong] += 1
    assert min(seen[True], seen[False]) > 30


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (MentorReward(), True),  # 0.7 against 0.16
        (MentorReward(outcome=0.16), False),  # equal
        (MentorReward(alignment=-0.6), False),  # 0.7 - 0.6 against 0.1
        (MentorReward(alignment=-0.5), True),  # 0.2 against 0.1
        (MentorReward(validity=-0.5, floor=0.0), True),  # 0.2 against 0.06
        (MentorReward(wrong_scale=-5.0, alignment=-0.3), False),  # 0.4 against 1.6
        (MentorReward(matcher="none", alignment=9.0, wrong_scale=9.0), True),  # not compared, not paid
        (MentorReward(floor=0.8), False),
        (MentorReward(floor=0.8, fix_quirks=True), True),  # then no answer pays nothing
        (MentorReward(outcome=-0.1, validity=0.0, alignment=0.0, floor=-0.2), False),  # cut off pays 0
        (OutcomeReward(), True),
        (OutcomeReward(correct=0.1), False),
        (OutcomeReward(correct=-0.1, wrong=-0.2), False),
    ],
)
def test_right_beats_wrong_by_hand(reward: Any, expected: bool) -> None:
    assert reward.right_beats_wrong is expected


# Agents


@pytest.mark.parametrize("name", ["teacher", "noisy-teacher", "random", "tiny"])
def test_every_agent_of_ours_passes(name: str) -> None:
    assert not_applicable(check_agent(name)) == set()


@pytest.mark.parametrize("agent", [broken_parts.Echo, broken_parts.Streaming, broken_parts.Tokens])
def test_the_sound_relatives_of_broken_agents_pass(agent: Any) -> None:
    assert not_applicable(check_agent(agent)) == set()


def test_agents_pass_on_other_suites_and_prompts() -> None:
    check_agent("random", suite=TILL, prompt="full")
    check_agent("teacher", suite="facts")


def test_functions_and_options_are_taken() -> None:
    assert check_agent(lambda text: text[-5:]).target == "<lambda>"
    examination = examine_agent("noisy-teacher", options={"rate": 0.5})
    assert examination.subject.agent.rate == 0.5
    assert examine_agent(broken_parts.Echo).target == "Echo"
    for target, options, words in (
        ("nobody", {}, "no agent 'nobody'"),
        ("noisy-teacher", {"options": {"rat": 1}}, "rat"),
        ("teacher", {"suite": "maths"}, "unknown suite"),
    ):
        with pytest.raises(ValueError, match=words):
            examine_agent(target, **options)
    with pytest.raises(AgentError):
        examine_agent("nobody")


def test_an_agent_that_cannot_repeat_itself_says_so() -> None:
    report = check_agent(broken_parts.Moody, deterministic=False)
    assert not_applicable(report) == {"same-again", "episodes-apart", "global-random-untouched"}


def test_only_privileged_agents_see_tasks() -> None:
    seen: dict[bool, set[bool]] = {True: set(), False: set()}

    class Curious(broken_parts.Echo):
        privileged = False

        def write(self, observation: Observation) -> Any:
            seen[self.privileged].add(isinstance(observation.task, Task))
            return super().write(observation)

    check_agent(Curious)
    check_agent(type("Teacher", (Curious,), {"privileged": True}))
    assert seen == {True: {True}, False: {False}}


def test_a_teacher_may_have_tokens_without_log_probabilities() -> None:
    class Reader(broken_parts.Echo):
        privileged = True

        def write(self, observation: Observation) -> Any:
            return Completion(super().write(observation).text, [3, 4], None, [1])

    check_agent(Reader)
    Reader.privileged = False
    assert_only(check_agent(Reader, raise_on_failure=False), agent_kit.CHECKS, "tokens", "no logprobs")


def test_a_cache_that_stops_growing_is_no_leak() -> None:
    class Bounded(broken_parts.Hoarding):
        def forget(self, episode: int) -> None:
            while len(self._history) > 6:
                self._history.pop(next(iter(self._history)))

    check_agent(Bounded(lambda text: text[-20:]))


def test_the_package_agents_is_imported_when_checks_of_agents_run() -> None:
    script = (
        "import sys, mentor_gym.testing; from mentor_gym.testing import agent, reward, tool, transcripts;"
        "assert not {'agents', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], cwd=TESTS.parent, check=True)


def test_boxes_that_keep_their_promises_pass() -> None:
    assert not_applicable(check_tool(broken_parts.Pile, state=PILE)) == {
        "timeout-fires",
        "timeout-leaves-signals-alone",
    }

    def refuse(reason: str) -> str:
        """Say no politely."""
        raise ToolError(f"no: {reason[:50]}")

    check_tool(ToolBox.from_functions([refuse, broken_parts.repeat]))
