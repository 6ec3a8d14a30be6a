"""Evaluation: unshaped success on a split, and how the tools were used beside the teacher.

The environments are made with `reward=None`: what a policy was paid in training never enters its score. Every
agent is given the same tasks for the same seed.

    mentor-gym eval --agent noisy-teacher --suite math --split test -k 4
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from agents import metrics
from agents.base import Agent
from agents.rollout import Rollout
from agents.trajectory import Trajectory
from mentor_gym.protocol import to_json
from mentor_gym.rewards import make_reward
from mentor_gym.types import Transcript

# A call inside a thought was not made, and stays part of the thought.
_CALL_OR_THOUGHT = re.compile(r"(<think>.*?</think>)|<tool_call>.*?</tool_call>", re.DOTALL)


def evaluate(
    agent: Agent,
    suite: str,
    split: str,
    k: int = 1,
    tasks: int | None = None,
    max_turns: int = 8,
    prompt: str = "compact",
    seed: int = 0,
    max_live: int = 64,
    keep_transcripts: int = 0,
    where: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Play every task of a split `k` times and measure.

    Args:
        agent: Who plays. With `k > 1` it should sample: a greedy agent plays a task the same way every time.
        suite: A suite's name, or the path of a user's `suite.yaml`.
        split: Which of its splits.
        k: Episodes per task.
        tasks: Only the first so many tasks of a permutation that depends on `seed` alone; None plays all.
        max_turns: Turn limit of an episode.
        prompt: Prompt style, `"compact"` or `"full"`.
        seed: Seed of the permutation, the environments and the bootstrap.
        max_live: How many episodes run at the same time.
        keep_transcripts: For how many tasks the first episode is kept as chat messages.
        where: Play only tasks whose `meta` has these values, as for `MentorToolEnv`.

    Returns:
        A mapping that `json.dumps` takes:

        - `agent, suite, split, prompt, max_turns, seed, tasks, k`: what was measured; `tasks` is the number. Also
          `where`, where it was given.
        - `pass@1`, `pass@1_ci`: mean success and its 95 % Wilson interval over tasks.
        - `pass@k`, `pass@k_ci`: share of tasks solved in at least one of `k` episodes, and its 95 % bootstrap
          interval over tasks.
        - `tool_f1`: mean over episodes; `similarity`: 1 - JSD₂ of all calls against the teacher's;
          `task_similarity`: the same for every episode by itself, averaged.
        - `tool_use`: share of episodes with at least one call of a known tool.
        - `by_task`: share of a task's episodes that succeeded, by task id; `tool_use_by_task`: share of them that
          called a known tool.
        - `calls, turns`: mean per episode; `tool_entropy`: bits, over all calls of known tools.
        - `invalid_calls`: share of all calls, `rate` and its parts `unknown_tool, malformed, invalid_arguments`.
        - `stop_reasons`: share of episodes.
        - `by_calls, by_kind, by_paths`: for each group `success` and `episodes`.
        - `tokens`: how many were sampled, in all; 0 for agents without tokens.
        - `transcripts`: the kept episodes; see `describe_episode`.

    Raises:
        ValueError: An argument is out of range or names nothing.
    """
    for name, value, least in (("k", k, 1), ("keep_transcripts", keep_transcripts, 0)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if tasks is not None and (not isinstance(tasks, int) or tasks < 1):
        raise ValueError(f"tasks must be a whole number of at least 1, or None for all, got {tasks!r}")
    env_kwargs = {"suite": suite, "split": split, "max_turns": max_turns, "prompt": prompt, "reward": None}
    if where:
        env_kwargs["where"] = dict(where)
    with Rollout(env_kwargs, max_live) as rollout:
        ids = rollout.task_ids
        chosen = [ids[i] for i in np.random.default_rng(seed).permutation(len(ids))[:tasks]]
        # The samples of a task stand together: a language model prefills their common prompt once.
        trajectories = rollout.run(agent, [task_id for task_id in chosen for _ in range(k)], seed)
    settings: dict[str, Any] = {
        "agent": str(getattr(agent, "name", type(agent).__name__)),
        "suite": suite,
        "split": split,
        "prompt": prompt,
        "max_turns": max_turns,
        "seed": seed,
    }
    if where:
        settings["where"] = dict(where)
    kept = [trajectories[i * k] for i in range(min(keep_transcripts, len(chosen)))]
    return {
        **settings,
        **measure(trajectories, k, seed),
        "transcripts": [describe_episode(trajectory.transcript) for trajectory in kept],
    }


def measure(trajectories: Sequence[Trajectory], k: int = 1, seed: int = 0) -> dict[str, Any]:
    """Compute every figure of `evaluate` from finished episodes.

    Args:
        trajectories: `k` episodes per task, those of one task side by side.
        k: Episodes per task.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: There are no episodes, or not `k` side by side for each task.
    """
    groups = [trajectories[start : start + k] for start in range(0, len(trajectories), k)]
    if not groups or any(len(group) != k or len({item.task_id for item in group}) != 1 for group in groups):
        raise ValueError(f"expected {k} episodes of each task side by side, got {len(trajectories)} episodes")
    correct = [sum(trajectory.is_success for trajectory in group) for group in groups]
    solved = [metrics.pass_at_k(k, count, k) for count in correct]
    transcripts = [trajectory.transcript for trajectory in trajectories]
    counts = metrics.tool_counts(transcripts)
    return {
        "tasks": len(groups),
        "k": k,
        "pass@1": sum(correct) / len(trajectories),
        "pass@1_ci": list(metrics.wilson_interval(sum(correct) / k, len(groups))),
        "pass@k": sum(solved) / len(solved),
        "pass@k_ci": list(metrics.bootstrap_interval(solved, np.random.default_rng(seed))),
        "tool_f1": metrics.tool_f1(transcripts),
        "similarity": metrics.similarity(counts, metrics.teacher_tool_counts(transcripts)),
        "task_similarity": metrics.task_similarity(transcripts),
        "tool_use": metrics.tool_use(transcripts),
        "calls": metrics.calls_per_episode(transcripts),
        "turns": metrics.turns_per_episode(transcripts),
        "invalid_calls": metrics.invalid_calls(transcripts),
        "tool_entropy": metrics.entropy(counts),
        "stop_reasons": metrics.stop_reasons(transcripts),
        "by_calls": metrics.success_by(transcripts, metrics.calls_of),
        "by_kind": metrics.success_by(transcripts, metrics.kind_of),
        "by_paths": metrics.success_by(transcripts, metrics.paths_of),
        "tokens": sum(sum(trajectory.action_mask) for trajectory in trajectories),
        "by_task": {group[0].task_id: count / k for group, count in zip(groups, correct)},
        "tool_use_by_task": {
            group[0].task_id: metrics.tool_use([trajectory.transcript for trajectory in group]) for group in groups
        },
    }


def describe_episode(transcript: Transcript) -> dict[str, Any]:
    """Return a finished episode for a reader, as JSON.

    Returns:
        `task_id, prompt, tools, answer, meta`; `messages`, the student's conversation in OpenAI form, and
        `teacher`, the teacher's; `is_success, stop_reason`; and `reward_terms`, what the `mentor` reward would
        pay, for display only.
    """
    task = transcript.task
    return {
        "task_id": task.id,
        "prompt": task.prompt,
        "tools": [entry if isinstance(entry, str) else entry["function"]["name"] for entry in task.tools],
        "answer": task.answer,
        "meta": task.meta,
        "messages": transcript_messages(transcript),
        "teacher": task.teacher,
        "is_success": transcript.is_success,
        "stop_reason": str(transcript.stop_reason),
        "reward_terms": make_reward("mentor")(transcript),
    }


def transcript_messages(transcript: Transcript) -> list[dict[str, Any]]:
    """Write a transcript as OpenAI chat messages.

    Well-formed calls become `tool_calls`, and the content is the rest of the turn. A turn with a malformed call
    has no such form: it stays as it was written, and what came back is a user message.
    """
    messages: list[dict[str, Any]] = [{"role": "user", "content": transcript.task.prompt}]
    for number, turn in enumerate(transcript.turns, start=1):
        calls = turn.action.calls
        if not calls or any(call.error is not None for call in calls):
            messages.append({"role": "assistant", "content": turn.text})
            if turn.observation:
                messages.append({"role": "user", "content": turn.observation})
            continue
        ids = [f"call_{number}_{position}" for position in range(len(calls))]
        tool_calls = [
            {
                "id": call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": to_json(call.arguments)},
            }
            for call_id, call in zip(ids, calls)
        ]
        content = _CALL_OR_THOUGHT.sub(lambda match: match[1] or "", turn.text).strip()
        messages.append({"role": "assistant", "content": content or None, "tool_calls": tool_calls})
        messages += [
            {"role": "tool", "tool_call_id": call_id, "content": result.output}
            for call_id, result in zip(ids, turn.results)
        ]
    return messages


def format_table(results: Sequence[dict[str, Any]]) -> Table:
    """Lay out results of `evaluate`, one a row of two lines, within 80 columns.

    A result's `agent` is the name of its row; set it to tell two agents of one class apart. What the table has no
    room for, turns among it, is in the results.
    """
    table = Table(
        title="Unshaped success, with 95 % intervals over tasks",
        caption="1-JSD: similarity of tool use to the teacher's; entropy: of tool use, in bits",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
        leading=1,
    )
    table.add_column("agent,\nsuite/split", overflow="fold", min_width=16)
    for heading in (
        "tasks", "pass@1", "pass@k", "tool\nF1", "1-JSD", "entropy\n(bits)", "calls", "invalid\ncalls", "cut\noff",
    ):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        reasons = result["stop_reasons"]
        table.add_row(
            f"{result.get('agent', '')}\n{_short(result['suite'])}/{result['split']}",
            str(result["tasks"]),
            _with_interval(f"{result['pass@1']:.3f}", result["pass@1_ci"]),
            _with_interval(f"@{result['k']} {result['pass@k']:.3f}", result["pass@k_ci"]),
            f"{result['tool_f1']:.2f}",
            f"{result['similarity']:.3f}",
            f"{result['tool_entropy']:.2f}",
            f"{result['calls']:.2f}",
            f"{result['invalid_calls']['rate']:.1%}",
            f"{reasons['turn_limit'] + reasons['token_limit']:.0%}",
        )
    return table


def _short(name: str) -> str:
    """Keep the end of a suite's path: a row has no room for the folders before it."""
    return "/".join(Path(name).parts[-2:]) if "/" in name else name


def _with_interval(value: str, interval: Sequence[float]) -> str:
    # An en dash, not brackets: rich reads those as markup.
    return f"{value}\n{interval[0]:.2f}–{interval[1]:.2f}"
