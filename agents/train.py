"""Training: the loop over steps, its log, and its checkpoints.

Run it with `python -m agents.train grpo-mentor steps=10`, or `mentor-gym train`; `--resume` continues a run. Read
it beside `agents.rollout` (stages 2 to 10 of a step) and `agents.grpo` (11 to 14).

A run's folder holds `config.yaml`, `metrics.jsonl` (one JSON object a step), TensorBoard events,
`checkpoint-<step>/` (Hugging Face format, and `state.bin` to resume) and, at the end, `final/`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from agents.config import ConfigError, TrainConfig, load_config
from agents.evaluate import evaluate
from agents.grpo import GRPO
from agents.llm import LLMAgent
from agents.models import load_model, quiet
from agents.rollout import Rollout
from agents.sft import SFT, TeacherTokens
from agents.trajectory import Trajectory
from mentor_gym.rewards.matching import set_f1, student_calls, teacher_calls

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def train(config: TrainConfig, resume: bool = False, progress: bool = True) -> Path:
    """Train a model as a configuration says.

    Args:
        config: What to do.
        resume: Whether to continue from the newest checkpoint in `config.output`; without one, to begin there.
        progress: Whether to show a progress bar.

    Returns:
        The folder of the trained model, in Hugging Face format.

    Raises:
        ConfigError: The output folder holds another run; or one to resume was made with other settings.
        FloatingPointError: Five updates in a row were not finite.
        ValueError: A name in the configuration names nothing.
    """
    torch.set_num_threads(config.threads)
    output = Path(config.output)
    newest = _claim(output, config, resume)

    agent = LLMAgent(
        config.model,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        max_context=config.max_context,
        device=config.device,
        seed=config.seed,
    )
    # Before a checkpoint is loaded: the reference of the KL penalty is the starting model, resumed or not.
    learner = _make_learner(agent, config)
    done = _load(newest, agent, learner) if newest is not None else 0
    if newest is not None and newest.name == "final" and done >= config.steps:
        return newest
    player = agent if config.algorithm == "grpo" else TeacherTokens(agent.chat)
    size = config.group_size if config.algorithm == "grpo" else 1

    environment = {
        "suite": config.suite,
        "split": config.split,
        "max_turns": config.max_turns,
        "prompt": config.prompt,
        "reward": config.reward,
        "dense": config.dense,
    }
    with Rollout(environment, config.max_live) as rollout, _Log(output, config, done, progress) as log:
        ids = rollout.task_ids
        for step in range(done + 1, config.steps + 1):
            started = time.perf_counter()

            # 1. Choose tasks: the seed and the step alone decide, so a resumed run goes on with the same ones.
            tasks = choose_tasks(ids, config.tasks_per_step, step, config.seed)

            # 2-9. Play them, every task `size` times: reset, tokens, generation, tools, reward.
            trajectories = rollout.run(player, [task for task in tasks for _ in range(size)], seed=step)

            # 10. Collect the episodes of each task as a group.
            groups = [trajectories[i : i + size] for i in range(0, len(trajectories), size)]

            # 11-14. Batch, advantages, loss, update.
            metrics = learner.update(groups)

            record = {"step": step, **_measure(trajectories), **metrics}
            record["tokens_per_s"] = record["tokens"] / (time.perf_counter() - started)
            if config.eval_every and (step % config.eval_every == 0 or step == config.steps):
                record.update(validate(agent, config))
            log.write(record)
            if config.save_every and step % config.save_every == 0 and step < config.steps:
                _save(output / f"checkpoint-{step}", agent, learner, step)
                _prune(output, config.keep_checkpoints)

    _save(output / "final", agent, learner, config.steps)
    return output / "final"


def choose_tasks(ids: Sequence[str], count: int, step: int, seed: int) -> list[str]:
    """Return the tasks of a step (from 1): consecutive ones of a permutation that is drawn anew for every pass.

    >>> choose_tasks(["a", "b", "c"], 2, 1, seed=0) + choose_tasks(["a", "b", "c"], 1, 3, seed=0)
    ['c', 'a', 'b']
    """
    chosen = []
    for position in range((step - 1) * count, step * count):
        epoch, place = divmod(position, len(ids))
        order = np.random.default_rng([seed, epoch]).permutation(len(ids))
        chosen.append(ids[order[place]])
    return chosen


def _make_learner(agent: LLMAgent, config: TrainConfig) -> SFT | GRPO:
    common: dict[str, Any] = {
        "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_steps,
        "max_grad_norm": config.max_grad_norm,
        "epochs": config.epochs,
        "aggregation": config.aggregation,
        "max_batch_tokens": config.max_batch_tokens,
    }
    if config.algorithm == "sft":
        return SFT(agent.model, **common)
    return GRPO(
        agent.model,
        kl_coef=config.kl_coef,
        clip_range=config.clip_range,
        group_std=config.group_std,
        temperature=config.temperature,
        **common,
    )


def _measure(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """Average over the episodes of a step; `tokens` is a sum of those that were trained on."""
    f1 = [
        set_f1(
            {name for name, _ in student_calls(trajectory.transcript)},
            {name for name, _ in teacher_calls(trajectory.transcript.task)},
        )
        for trajectory in trajectories
    ]
    record: dict[str, Any] = {
        "reward": float(np.mean([trajectory.total_reward for trajectory in trajectories])),
        "success": float(np.mean([trajectory.is_success for trajectory in trajectories])),
        "tool_f1": float(np.mean(f1)),
        "turns": float(np.mean([len(trajectory.turn_rewards) for trajectory in trajectories])),
        "tokens": sum(sum(trajectory.action_mask) for trajectory in trajectories),
    }
    for term in trajectories[0].reward_terms:
        values = [trajectory.reward_terms.get(term, 0.0) for trajectory in trajectories]
        record[f"reward/{term}"] = float(np.mean(values))
    return record


def validate(agent: LLMAgent, config: TrainConfig) -> dict[str, float]:
    """Measure unshaped success with greedy decoding, on the same tasks every time.

    Returns:
        Figures under `<eval_split>/success` and the like, as the log of a run has them.
    """
    temperature, agent.temperature = agent.temperature, 0.0
    try:
        result = evaluate(
            agent,
            config.suite,
            config.eval_split,
            tasks=config.eval_tasks or None,
            max_turns=config.max_turns,
            prompt=config.prompt,
            max_live=config.max_live,
        )
    finally:
        agent.temperature = temperature
    keys = {
        "success": "pass@1",
        "tool_f1": "tool_f1",
        "similarity": "similarity",
        "calls": "calls",
        "turns": "turns",
    }
    return {f"{config.eval_split}/{name}": float(result[key]) for name, key in keys.items()}


class _Log:
    """`metrics.jsonl`, TensorBoard and the progress bar of a run."""

    def __init__(self, output: Path, config: TrainConfig, done: int, progress: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._stack = contextlib.ExitStack()
        path = output / "metrics.jsonl"
        if path.exists():
            # Steps after the checkpoint that is resumed from are done again.
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if _step_of(line) <= done))
        self._file = self._stack.enter_context(path.open("a"))
        self._writer: Any = self._stack.enter_context(SummaryWriter(str(output), purge_step=done + 1))
        self._bar: Any = None
        if progress:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
            )
            self._bar = self._stack.enter_context(bar)
            self._task = bar.add_task(config.algorithm, total=config.steps, completed=done, figures="")

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def write(self, record: dict[str, Any]) -> None:
        """Log one step."""
        # JSON has no NaN: a loss that was not finite is logged as null.
        finite = {
            key: value if not isinstance(value, float) or np.isfinite(value) else None
            for key, value in record.items()
        }
        self._file.write(json.dumps(finite) + "\n")
        self._file.flush()
        for key, value in finite.items():
            if key != "step" and value is not None:
                self._writer.add_scalar(key, value, record["step"])
        if self._bar is not None:
            figures = (
                f"reward {record['reward']:.2f}  success {record['success']:.2f}  "
                f"tool F1 {record['tool_f1']:.2f}  {record['tokens_per_s']:,.0f} tokens/s"
            )
            self._bar.update(self._task, completed=record["step"], figures=figures)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        # A line that a crash cut short.
        return float("inf")


def _claim(output: Path, config: TrainConfig, resume: bool) -> Path | None:
    """Take the output folder for this run; returns the checkpoint to resume from, if there is one."""
    output.mkdir(parents=True, exist_ok=True)
    for left in output.glob(".partial-*"):
        shutil.rmtree(left)
    path = output / "config.yaml"
    settings = dataclasses.asdict(config)
    found = _checkpoints(output)
    if not resume and (found or (output / "metrics.jsonl").exists()):
        raise ConfigError(f"output: {output} already holds a run; resume it (--resume), or choose another folder")
    final = output / "final"
    if final.is_dir():
        found.append(final)
    # A run that left nothing behind (it broke off before its first step) binds nobody.
    if resume and path.exists() and (found or (output / "metrics.jsonl").exists()):
        before = yaml.safe_load(path.read_text())
        # These do not change what the steps so far would have been.
        free = {
            "steps",
            "output",
            "threads",
            "device",
            "save_every",
            "keep_checkpoints",
            "eval_every",
            "eval_tasks",
        }
        for key, value in settings.items():
            if key not in free and before.get(key) != value:
                raise ConfigError(
                    f"{key}: the run in {output} was started with {before.get(key)!r}, it cannot be resumed "
                    f"with {value!r}"
                )
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    if not resume:
        return None
    # A finished run goes on from its end when it is given more steps; when that is interrupted, from a later one.
    return max(found, key=_saved_step, default=None)


def _saved_step(folder: Path) -> int:
    return int(torch.load(folder / "state.bin", weights_only=True, map_location="cpu")["step"])


def _checkpoints(output: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first; a folder has its name only when it is complete."""
    found = [(int(match[1]), path) for path in output.iterdir() if (match := _CHECKPOINT.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def _save(folder: Path, agent: LLMAgent, learner: SFT | GRPO, step: int) -> None:
    """Write a checkpoint in full beside its place, then put it there in one move."""
    partial = folder.parent / f".partial-{folder.name}"
    shutil.rmtree(partial, ignore_errors=True)
    with quiet():
        agent.model.save_pretrained(partial)
        agent.tokenizer.save_pretrained(partial)
    state = {
        "step": step,
        "optimizer": learner.optimizer.state_dict(),
        "generator": agent.generator.get_state(),
        "sampled_tokens": agent.sampled_tokens,
    }
    torch.save(state, partial / "state.bin")
    # A folder cannot replace one that is not empty (a run that is repeated from an earlier checkpoint).
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def _load(folder: Path, agent: LLMAgent, learner: SFT | GRPO) -> int:
    """Restore a checkpoint into the agent and the learner; returns its step."""
    saved, _ = load_model(str(folder), dtype=agent.model.dtype)
    agent.model.load_state_dict(saved.state_dict())
    state = torch.load(folder / "state.bin", weights_only=True, map_location="cpu")
    learner.optimizer.load_state_dict(state["optimizer"])
    agent.generator.set_state(state["generator"])
    agent.sampled_tokens = state["sampled_tokens"]
    return int(state["step"])


def _prune(output: Path, keep: int) -> None:
    for old in _checkpoints(output)[:-keep]:
        shutil.rmtree(old)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train from the command line: `python -m agents.train CONFIG [key=value ...] [--resume]`."""
    import argparse

    parser = argparse.ArgumentParser(description="Train a model.")
    parser.add_argument("config", help="YAML file, or the name of a shipped configuration")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint")
    parsed = parser.parse_args(arguments)
    try:
        final = train(load_config(parsed.config, parsed.overrides), resume=parsed.resume)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    print(final)


if __name__ == "__main__":
    main()
