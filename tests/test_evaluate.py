"""Evaluation metrics against hand-computed numbers, and the evaluation of whole agents."""

from __future__ import annotations

import io
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from agents import metrics
from agents.base import Completion, FunctionAgent, Observation
from agents.evaluate import describe_episode, evaluate, format_table, measure, transcript_messages
from agents.rollout import Rollout
from agents.scripted import NoisyTeacher, RandomAgent, TeacherAgent
from agents.trajectory import Trajectory
from mentor_gym.protocol import parse_action, render_call
from mentor_gym.types import CallError, StopReason, Task, ToolResult, Transcript, Turn

OK = ToolResult(True, "1")
UNKNOWN = ToolResult(False, "error", CallError.UNKNOWN_TOOL)
MALFORMED = ToolResult(False, "error", CallError.MALFORMED)
BAD = ToolResult(False, "error", CallError.INVALID_ARGUMENTS)
FAILED = ToolResult(False, "error", CallError.TOOL_FAILED)


def task(teacher: Sequence[str] = ("power", "multiply"), name: str = "t", **meta: Any) -> Task:
    calls = [{"function": {"name": tool, "arguments": "{}"}} for tool in teacher]
    trace = [{"role": "assistant", "content": None, "tool_calls": calls}] if calls else []
    trace.append({"role": "assistant", "content": "<answer>1</answer>"})
    tools = ["power", "multiply", "add"]
    return Task(name, "s", "test", "?", list(tools), "1", {"kind": "number"}, None, trace, meta)


def played(
    of: Task,
    calls: Sequence[tuple[str, ToolResult]] = (),
    success: bool = False,
    reason: StopReason = StopReason.ANSWER,
) -> Transcript:
    """A finished episode with one call a turn, then the answer."""
    turns = [
        Turn(text := render_call(name, {}), parse_action(text), (result,), result.output) for name, result in calls
    ]
    turns.append(Turn("<answer>1</answer>", parse_action("<answer>1</answer>")))
    return Transcript(of, turns, reason, "1" if reason is StopReason.ANSWER else None, success)


def trajectory(transcript: Transcript, sampled: int = 0) -> Trajectory:
    mask = [False, *[True] * sampled]
    zeros = [0.0] * len(mask)
    return Trajectory(
        task_id=transcript.task.id,
        source="policy",
        token_ids=list(range(len(mask))),
        action_mask=mask,
        logprobs=zeros,
        rewards=zeros,
        reward_terms={},
        is_success=transcript.is_success,
        stop_reason=transcript.stop_reason or StopReason.ANSWER,
        turn_rewards=[0.0],
        transcript=transcript,
    )


# Rates and intervals


def test_wilson_interval_known_answers() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29; method 3.
    for successes, total, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert metrics.wilson_interval(successes, total) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_is_symmetric_and_stays_inside_zero_and_one() -> None:
    for total in (1, 3, 10, 300):
        for successes in range(total + 1):
            low, high = metrics.wilson_interval(successes, total)
            assert 0.0 <= low <= successes / total <= high <= 1.0
            assert high - low > 0
            mirrored = metrics.wilson_interval(total - successes, total)
            assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_interval_refuses_impossible_counts(successes: int, total: int) -> None:
    with pytest.raises(ValueError, match="0 to total"):
        metrics.wilson_interval(successes, total)


def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample() -> None:
    for samples in range(1, 7):
        for correct in range(samples + 1):
            outcomes = [True] * correct + [False] * (samples - correct)
            for k in range(1, samples + 1):
                subsets = list(itertools.combinations(outcomes, k))
                wanted = sum(map(any, subsets)) / len(subsets)
                assert metrics.pass_at_k(samples, correct, k) == pytest.approx(wanted)
    assert metrics.pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert metrics.pass_at_k(200, 10, 100) == pytest.approx(0.99923, abs=1e-5)


@pytest.mark.parametrize(("samples", "correct", "k"), [(4, 1, 0), (4, 1, 5), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_refuses_impossible_counts(samples: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"k must be|correct must be"):
        metrics.pass_at_k(samples, correct, k)


def test_bootstrap_interval_comes_near_the_normal_one() -> None:
    values = [1.0] * 120 + [0.0] * 280
    low, high = metrics.bootstrap_interval(values, np.random.default_rng(1))
    half = 1.96 * (0.3 * 0.7 / 400) ** 0.5
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.006)
    assert metrics.bootstrap_interval(values, np.random.default_rng(1)) == (low, high)
    narrow = metrics.bootstrap_interval(values, np.random.default_rng(1), level=0.5)
    assert low < narrow[0] < 0.3 < narrow[1] < high
    assert metrics.bootstrap_interval([0.25] * 5, np.random.default_rng(0)) == (0.25, 0.25)


def test_bootstrap_interval_needs_values_and_leaves_the_global_generator_alone() -> None:
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    metrics.bootstrap_interval([0.0, 1.0], np.random.default_rng(0))
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]  # noqa: NPY002
    with pytest.raises(ValueError, match="at least one value"):
        metrics.bootstrap_interval([], np.random.default_rng(0))


# Tools


def test_divergence_known_answers() -> None:
    student, teacher = {"multiply": 3, "power": 1}, {"multiply": 1, "power": 1, "add": 2}
    assert metrics.js_divergence(student, teacher) == pytest.approx(0.3444, abs=5e-5)
    assert metrics.similarity(student, teacher) == pytest.approx(0.6556, abs=5e-5)
    assert metrics.js_divergence(teacher, student) == pytest.approx(metrics.js_divergence(student, teacher))
    assert metrics.js_divergence(student, {"multiply": 30, "power": 10}) == pytest.approx(0.0, abs=1e-12)
    assert metrics.js_divergence({"a": 2}, {"b": 5}) == pytest.approx(1.0)
    assert metrics.js_divergence({"a": 1}, {"a": 1, "b": 0}) == 0.0


def test_similarity_without_calls() -> None:
    assert metrics.similarity({}, {}) == 1.0
    assert metrics.similarity({}, {"a": 1}) == metrics.similarity({"a": 1}, {}) == 0.0


def test_entropy_known_answers() -> None:
    assert metrics.entropy({}) == metrics.entropy({"a": 7}) == metrics.entropy({"a": 7, "b": 0}) == 0.0
    assert metrics.entropy(dict.fromkeys("abcd", 3)) == pytest.approx(2.0)
    assert metrics.entropy({"a": 3, "b": 1}) == pytest.approx(0.8112781, abs=1e-7)


EPISODES = [
    played(task(), [("multiply", OK), ("power", OK), ("multiply", OK)], success=True),
    played(task(), [("multiply", OK)]),
    played(task(), [("multiply", FAILED), ("nonsense", UNKNOWN)], reason=StopReason.TURN_LIMIT),
    played(task(()), [], success=True),
    played(task(("add",)), [("add", BAD), ("", MALFORMED)], reason=StopReason.TOKEN_LIMIT),
]


def test_tool_counts_leave_out_calls_of_no_known_tool() -> None:
    assert metrics.tool_counts(EPISODES) == Counter(multiply=4, power=1, add=1)
    assert metrics.teacher_tool_counts(EPISODES) == Counter(multiply=3, power=3, add=1)


def test_tool_f1_is_a_mean_over_episodes() -> None:
    # {m,p} against {p,m}: 1; {m}: 2/3; {m}: 2/3; none against none: 1; {add}: 1.
    assert metrics.tool_f1(EPISODES) == pytest.approx((1 + 2 / 3 + 2 / 3 + 1 + 1) / 5)
    assert metrics.tool_f1([]) == 0.0


def test_tool_use_counts_episodes_that_called_a_known_tool() -> None:
    # One of the five called nothing; a call that its tool refused counts, one of no known tool does not.
    assert metrics.tool_use(EPISODES) == pytest.approx(4 / 5)
    unknown, refused = (played(task(), [("add", result)]) for result in (UNKNOWN, FAILED))
    assert metrics.tool_use([unknown, played(task(), [("add", MALFORMED)])]) == 0.0
    assert metrics.tool_use([unknown, refused]) == 0.5
    assert metrics.tool_use([]) == 0.0


def test_task_similarity_tells_apart_what_pooling_hides() -> None:
    crossed = [played(task(("add",)), [("power", OK)]), played(task(("power",)), [("add", OK)])]
    pooled = metrics.similarity(metrics.tool_counts(crossed), metrics.teacher_tool_counts(crossed))
    assert pooled == pytest.approx(1.0)
    assert metrics.task_similarity(crossed) == pytest.approx(0.0)
    assert metrics.task_similarity([EPISODES[3], crossed[0]]) == pytest.approx(0.5)


def test_calls_turns_and_invalid_calls() -> None:
    assert metrics.calls_per_episode(EPISODES) == pytest.approx((3 + 1 + 2 + 0 + 2) / 5)
    assert metrics.turns_per_episode(EPISODES) == pytest.approx((4 + 2 + 3 + 1 + 3) / 5)
    assert metrics.invalid_calls(EPISODES) == pytest.approx(
        {"rate": 3 / 8, "unknown_tool": 1 / 8, "malformed": 1 / 8, "invalid_arguments": 1 / 8}
    )
    assert set(metrics.invalid_calls([EPISODES[3]]).values()) == {0.0}


def test_stop_reasons_name_every_reason_and_sum_to_one() -> None:
    shares = metrics.stop_reasons(EPISODES)
    ends = {"answer": 0.6, "no_answer": 0.0, "turn_limit": 0.2, "token_limit": 0.2, "env_crashed": 0.0}
    assert shares == pytest.approx(ends)


def test_success_by_groups_sorts_numbers_by_size_and_skips_none() -> None:
    episodes = [
        played(task(calls=10, kind="b", paths=1), success=True),
        played(task(calls=10, kind="a", paths=4)),
        played(task(calls=2, kind="b", paths=2), success=True),
        played(task()),
    ]
    by_calls = metrics.success_by(episodes, metrics.calls_of)
    assert by_calls == {"2": {"success": 1.0, "episodes": 1}, "10": {"success": 0.5, "episodes": 2}}
    assert list(by_calls) == ["2", "10"]
    by_kind = metrics.success_by(episodes, metrics.kind_of)
    assert by_kind == {"a": {"success": 0.0, "episodes": 1}, "b": {"success": 1.0, "episodes": 2}}
    by_paths = metrics.success_by(episodes, metrics.paths_of)
    assert by_paths == {"several": {"success": 0.5, "episodes": 2}, "single": {"success": 1.0, "episodes": 1}}
    mixed = iter(["x", 3, "x", None])
    assert list(metrics.success_by(episodes, lambda _: next(mixed))) == ["3", "x"]


# From episodes to figures


def test_measure_known_answers() -> None:
    first, second = task(name="one"), task(name="two")
    runs = [
        trajectory(played(first, [("power", OK), ("multiply", OK)], success=True), sampled=5),
        trajectory(played(first), sampled=2),
        trajectory(played(second), sampled=1),
        trajectory(played(second, [("power", OK)]), sampled=4),
    ]
    result = measure(runs, k=2)
    assert (result["tasks"], result["k"], result["tokens"]) == (2, 2, 12)
    assert (result["pass@1"], result["pass@k"]) == (0.25, 0.5)
    # Half a success of two tasks, not one of four episodes: samples of one task are not independent.
    assert result["pass@1_ci"] == list(metrics.wilson_interval(0.5, 2))
    assert result["pass@k_ci"] == [0.0, 1.0]
    assert result["tool_f1"] == pytest.approx((1 + 0 + 0 + 2 / 3) / 4)
    assert result["similarity"] == pytest.approx(
        metrics.similarity({"power": 2, "multiply": 1}, {"power": 4, "multiply": 4})
    )
    assert result["tool_use"] == 0.5
    assert result["by_task"] == {"one": 0.5, "two": 0.0}
    assert result["tool_use_by_task"] == {"one": 0.5, "two": 0.5}
    assert measure([runs[0], runs[2]])["tool_use_by_task"] == {"one": 1.0, "two": 0.0}
    assert result["calls"] == pytest.approx(0.75)
    assert result["tool_entropy"] == pytest.approx(metrics.entropy({"power": 2, "multiply": 1}))


def test_measure_ignores_what_was_paid() -> None:
    runs = [trajectory(played(task(), success=True)), trajectory(played(task(name="u")))]
    before = measure(runs)
    for run in runs:
        run.rewards, run.turn_rewards, run.reward_terms = [9.0], [9.0], {"outcome": 9.0}
    assert measure(runs) == before


def test_measure_refuses_groups_that_do_not_fit() -> None:
    one, two = trajectory(played(task(name="one"))), trajectory(played(task(name="two")))
    for runs in ([], [one, two], [one, one, two]):
        with pytest.raises(ValueError, match="2 episodes of each task side by side"):
            measure(runs, k=2)


# Whole agents


def test_the_teacher_is_the_ceiling() -> None:
    result = evaluate(TeacherAgent(), "math", "valid")
    assert result["pass@1"] == result["pass@k"] == result["tool_f1"] == 1.0
    assert result["similarity"] == pytest.approx(1.0)
    assert result["task_similarity"] == pytest.approx(1.0)
    assert result["tasks"] == 300
    assert result["stop_reasons"]["answer"] == 1.0
    assert result["turns"] == pytest.approx(result["calls"] + 1)
    assert sum(group["episodes"] for group in result["by_kind"].values()) == 300


def test_random_calls_are_told_from_the_teachers() -> None:
    result = evaluate(RandomAgent(), "math", "valid", tasks=100, prompt="full")
    assert result["pass@1"] <= 0.02
    assert result["tool_f1"] < 0.5
    assert result["task_similarity"] < 0.5


def test_the_result_has_its_keys_and_is_json() -> None:
    result = evaluate(NoisyTeacher(), "math", "valid", k=2, tasks=5, keep_transcripts=9)
    assert list(result) == [
        "agent",
        "suite",
        "split",
        "prompt",
        "max_turns",
        "seed",
        "tasks",
        "k",
        "pass@1",
        "pass@1_ci",
        "pass@k",
        "pass@k_ci",
        "tool_f1",
        "similarity",
        "task_similarity",
        "tool_use",
        "calls",
        "turns",
        "invalid_calls",
        "tool_entropy",
        "stop_reasons",
        "by_calls",
        "by_kind",
        "by_paths",
        "tokens",
        "by_task",
        "tool_use_by_task",
        "transcripts",
    ]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert len(result["by_task"]) == result["tasks"]
    assert np.mean(list(result["by_task"].values())) == pytest.approx(result["pass@1"])
    assert len({episode["task_id"] for episode in result["transcripts"]}) == result["tasks"] == 5


def test_results_do_not_depend_on_batches() -> None:
    reference = evaluate(NoisyTeacher(), "math", "valid", k=2, tasks=40, keep_transcripts=3)
    for max_live in (1, 7):
        again = evaluate(NoisyTeacher(), "math", "valid", k=2, tasks=40, keep_transcripts=3, max_live=max_live)
        assert again == reference
    assert 0.5 < reference["pass@1"] < 1.0


def test_every_agent_is_given_the_same_tasks_for_the_same_seed() -> None:
    def chosen(agent: Any, tasks: int | None, seed: int) -> list[str]:
        result = evaluate(agent, "math", "valid", tasks=tasks, seed=seed, keep_transcripts=300)
        return [item["task_id"] for item in result["transcripts"]]

    ten = chosen(TeacherAgent(), 10, 0)
    assert len(set(ten)) == 10
    assert chosen(RandomAgent(), 10, 0) == ten
    assert chosen(TeacherAgent(), 20, 0)[:10] == ten
    assert chosen(TeacherAgent(), 10, 1) != ten
    everything = chosen(TeacherAgent(), None, 0)
    assert everything[:10] == ten
    with Rollout({"suite": "math", "split": "valid"}) as rollout:
        assert sorted(everything) == rollout.task_ids


def test_samples_of_a_task_are_played_side_by_side_and_count_for_pass_at_k() -> None:
    class EverySecond:
        """Solves the second sample of every task, with the help of the trace."""

        privileged = True

        def act(self, observations: Sequence[Observation]) -> list[Completion]:
            assert [item.task.id for item in observations[::2] if item.task] == [
                item.task.id for item in observations[1::2] if item.task
            ]
            return [
                Completion(f"<answer>{item.task.answer if i % 2 and item.task else 'no'}</answer>")
                for i, item in enumerate(observations)
            ]

    result = evaluate(EverySecond(), "math", "valid", k=2, tasks=10)
    assert (result["pass@1"], result["pass@k"]) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be"),
        ({"k": 1.5}, "k must be"),
        ({"tasks": 0}, "tasks must be"),
        ({"keep_transcripts": -1}, "keep_transcripts must be"),
        ({"split": "tset"}, "no split 'tset'"),
        ({"suite": "maths"}, "unknown suite 'maths'"),
        ({"prompt": "short"}, "prompt must be one of"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(TeacherAgent(), **{"suite": "math", "split": "valid", **arguments})


# Transcripts for readers


def test_a_transcript_as_chat_messages() -> None:
    text = f"<think>not {render_call('add', {})}</think>Now. {render_call('power', {'base': 2})}"
    text += render_call("add", {"a": 1})
    results = (OK, FAILED)
    turns = [Turn(text, parse_action(text), results, "<tool_response>…</tool_response>")]
    broken = "<tool_call>{oops}</tool_call>"
    turns.append(Turn(broken, parse_action(broken), (MALFORMED,), "<tool_response>error</tool_response>"))
    turns.append(Turn("<answer>1</answer>", parse_action("<answer>1</answer>")))
    messages = transcript_messages(Transcript(task(), turns, StopReason.ANSWER, "1", True))
    assert [message["role"] for message in messages] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]
    first = messages[1]
    assert first["content"] == f"<think>not {render_call('add', {})}</think>Now."
    assert [(call["function"]["name"], call["function"]["arguments"]) for call in first["tool_calls"]] == [
        ("power", '{"base": 2}'),
        ("add", '{"a": 1}'),
    ]
    assert [message["tool_call_id"] for message in messages[2:4]] == [c["id"] for c in first["tool_calls"]]
    assert [message["content"] for message in messages[2:4]] == ["1", "error"]
    assert messages[4] == {"role": "assistant", "content": broken}
    assert messages[5] == {"role": "user", "content": "<tool_response>error</tool_response>"}


def test_the_teachers_transcript_says_what_the_trace_says() -> None:
    (episode,) = evaluate(TeacherAgent(), "math", "valid", tasks=1, keep_transcripts=1)["transcripts"]

    def gist(messages: list[dict[str, Any]]) -> list[Any]:
        return [
            [call["function"] for call in message["tool_calls"]]
            if message.get("tool_calls")
            else (message["role"], message["content"])
            for message in messages
        ]

    assert gist(episode["messages"][1:]) == gist(episode["teacher"])
    assert sum(episode["reward_terms"].values()) == pytest.approx(1.1)
    assert (episode["is_success"], episode["stop_reason"]) == (True, "answer")


def test_describe_episode_names_inline_tools() -> None:
    schema = {"type": "function", "function": {"name": "shout", "parameters": {}}}
    row = Task("t", "s", "x", "?", ["add", schema], "1", {"kind": "number"}, None, [], {})
    described = describe_episode(played(row))
    assert described["tools"] == ["add", "shout"]
    json.dumps(described)


def test_the_table_has_a_row_for_every_result() -> None:
    results = [
        evaluate(agent, "math", "valid", tasks=10)
        for agent in (TeacherAgent(), FunctionAgent(lambda text: "<answer>1</answer>"))
    ]
    results[1]["agent"] = "mine"
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(format_table(results))
    lines = console.export_text().splitlines()
    teacher, mine = (
        next(number for number, line in enumerate(lines) if name in line) for name in ("TeacherAgent", "mine")
    )
    entropy = results[0]["tool_entropy"]
    assert entropy > 1
    assert lines[teacher].split()[1:6] == ["10", "1.000", "@1", "1.000", "1.00"]
    assert f" {entropy:.2f} " in lines[teacher]
    assert lines[teacher + 1].split() == ["math/valid", "0.72–1.00", "1.00–1.00"]
    assert lines[mine].split()[2] == "0.000"
    assert lines[mine + 1].split() == ["math/valid", "0.00–0.28", "0.00–0.00"]


def test_the_table_fits_80_columns_and_loses_nothing() -> None:
    result = evaluate(TeacherAgent(), "math", "ood-compose", k=4, tasks=2)
    result.update({"agent": "runs/demo/grpo-mentor-0/final", "tasks": 2400, "calls": 12.5})
    result["invalid_calls"]["rate"] = result["stop_reasons"]["turn_limit"] = 1.0
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(format_table([result]))
    text = console.export_text()
    assert "…" not in text
    for part in ("math/ood-compose", "2400", "@4 1.000", "12.50", "100.0%", "100%", "entropy", "1-JSD"):
        assert part in text
    folded = "".join(line.split()[0] for line in text.splitlines() if line.strip())
    assert "runs/demo/grpo-mentor-0/final" in folded
