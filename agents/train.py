"""Training: the loop over steps, and what a resumed run takes up again.

Run it with `python -m agents.train grpo-mentor steps=10`, or `mentor-gym train`; `--resume` continues a run. Read
it beside `agents.rollout` (stages 2 to 10 of a step) and `agents.grpo` (11 to 14).

A run's folder holds `config.yaml`, `metrics.jsonl` (one JSON object a step), TensorBoard events,
`checkpoint-<step>/` (see `agents.checkpoint`) and, at the end, `final/`, a checkpoint too. Where they were asked
for, `transcripts/step-<step>/` has the episodes of a step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml

from agents import checkpoint
from agents.config import STEPWISE, ConfigError, TrainConfig, load_config, load_training_suite
from agents.evaluate import evaluate
from agents.learners import Learner, make_learner
from agents.llm import LLMAgent
from agents.log import Interrupted, Log, StopSignals
from agents.lora import adapter_state, add_lora, has_lora, load_adapter_state, save_merged
from agents.models import load_model, quiet
from agents.rollout import Rollout
from agents.sft import TeacherTokens
from agents.trajectory import Trajectory
from mentor_gym.rewards import make_reward
from mentor_gym.rewards.matching import set_f1, student_calls, teacher_calls
from mentor_gym.rewards.srl import SRLReward
from mentor_gym.transcripts import TRANSCRIPTS, Episode, write_transcripts

# Settings that do not change what the steps so far would have been.
_FREE = {
    "steps", "token_budget", "output", "threads", "device", "save_every", "keep_checkpoints", "transcripts_every",
    "eval_every", "eval_tasks", "max_reward_errors",
}  # fmt: skip


class RewardError(ValueError):
    """The reward broke in too many episodes of a step; the message holds the last error."""


def train(config: TrainConfig, resume: bool = False, progress: bool = True) -> Path:
    """Train a model as a configuration says.

    Ctrl-C and SIGTERM end the run after the step that is going on, with a checkpoint of it.

    Args:
        config: What to do.
        resume: Whether to continue from the newest checkpoint in `config.output`; without one, to begin there.
        progress: Whether to show a progress bar.

    Returns:
        The folder of the trained model, in Hugging Face format.

    Raises:
        ConfigError: The output folder holds another run; or one to resume was made with other settings.
        CheckpointError: A checkpoint cannot be written, or there is none that can be read.
        FloatingPointError: Five updates in a row were not finite, or the weights are not.
        Interrupted: A signal ended the run.
        RewardError: In more than `config.max_reward_errors` of a step's episodes the reward broke.
        ValueError: A name in the configuration names nothing.
    """
    torch.set_num_threads(config.threads)
    load_training_suite(config.suite, config.train_on_evaluation_data)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(checkpoint.lock(output))
        newest, done = _claim(output, config, resume)
        if newest == output / checkpoint.FINAL and done == config.steps:
            return newest
        if newest == output / checkpoint.FINAL and _is_spent(
            checkpoint.read_state(newest).get("tokens", 0), config
        ):
            return newest

        agent = LLMAgent(
            config.model,
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
            max_context=config.max_context,
            device=config.device,
            seed=config.seed,
        )
        if config.lora_rank:
            add_lora(agent.model, config.lora_rank, config.lora_alpha, config.seed)
        # Before a checkpoint is loaded: the reference of the KL penalty is the starting model, resumed or not.
        learner = make_learner(agent.model, config)
        player = TeacherTokens(agent.chat) if config.algorithm == "sft" else agent
        size = 1 if config.algorithm == "sft" else config.group_size
        rounds = 1 + config.max_refills if config.dynamic_sampling else 1

        rollout = stack.enter_context(Rollout(get_env_kwargs(config), config.max_live, config.env))
        order = TaskOrder(rollout.task_ids, config.seed)
        run = _Run(config, agent, learner, order, newest)
        if newest is not None:
            run.restore(newest)
        log = stack.enter_context(Log(output, config.algorithm, config.steps, done, progress))
        stop = stack.enter_context(StopSignals())
        save_is_due = False
        step = done

        # A resumed run whose budget was lowered may have spent it already.
        for step in range(done + 1, done + 1 if _is_spent(run.tokens, config) else config.steps + 1):
            started = time.perf_counter()
            trajectories: list[Trajectory] = []
            groups: list[list[Trajectory]] = []
            reward_errors = 0
            rollout.set_training_step(step - 1)
            for refill in range(rounds):
                # 1. Choose tasks: the next in the order, as many as there are groups missing.
                tasks = order.take(config.tasks_per_step - len(groups))

                # 2-9. Play them, every task `size` times: reset, tokens, generation, tools, reward. No two calls
                # share a seed, and a resumed run gives each step the one that it would have had.
                seed = _derive_seed(config.seed, step, refill)
                played = rollout.run(player, [task for task in tasks for _ in range(size)], seed=seed)

                # 10. Collect the episodes of each task as a group; with dynamic sampling, where they differ.
                found = [played[i : i + size] for i in range(0, len(played), size)]
                groups += [group for group in found if not config.dynamic_sampling or _has_signal(group)]
                trajectories += played
                reward_errors += rollout.reward_errors
                if len(groups) == config.tasks_per_step:
                    break

            # A broken reward pays 0, and a few of them are noise; more would be learnt from.
            broken = reward_errors / len(trajectories)
            if broken > config.max_reward_errors:
                raise RewardError(
                    f"step {step}: the reward broke in {reward_errors} of {len(trajectories)} episodes, more than "
                    f"max_reward_errors allows; the last time in {rollout.last_reward_error}; {run.last_good()}"
                )

            # 11-14. Batch, advantages, loss, update; without a group, nothing but the schedule moves.
            skipped_before = learner.optimizer.skipped
            try:
                metrics = learner.update(groups)
            except FloatingPointError as error:
                raise FloatingPointError(f"step {step}: {error}; {run.last_good()}") from None
            is_sound = learner.optimizer.skipped == skipped_before

            is_whole = config.env != STEPWISE
            record = {"step": step, **_measure(trajectories, is_whole), "reward_errors": broken, **metrics}
            run.tokens += int(record["tokens"])
            is_last = step == config.steps or _is_spent(run.tokens, config)
            if config.dynamic_sampling:
                groups_played = len(trajectories) // size
                record["refills"] = refill
                record["dropped_groups"] = groups_played - len(groups)
                # Of all groups that were played: among those that are left it is always 0.
                record["zero_variance"] = record["dropped_groups"] / groups_played
            record["tokens_per_s"] = record["tokens"] / (time.perf_counter() - started)
            if config.eval_every and (step % config.eval_every == 0 or is_last):
                record.update(validate(agent, config))
            log.write(record)
            if config.transcripts_every and (step % config.transcripts_every == 0 or is_last):
                keep_transcripts(output / "transcripts" / f"step-{step}", trajectories, size)
            if not record["tokens"]:
                log.note(
                    f"step {step}: no token was written: every prompt fills max_context, {config.max_context}"
                )
            if not is_sound:
                log.note(f"step {step}: an update was skipped, its loss or gradient was not finite")

            # A checkpoint never holds a step that was not sound: it waits for the next one that is.
            save_is_due = save_is_due or bool(config.save_every and step % config.save_every == 0)
            if is_sound and not is_last and (save_is_due or stop.received):
                run.save(output / f"checkpoint-{step}", step)
                checkpoint.prune(output, config.keep_checkpoints)
                save_is_due = False
            if is_last:
                break
            if stop.received:
                raise Interrupted(f"stopped after step {step}; {run.last_good()}", stop.received)

        run.save(output / checkpoint.FINAL, step)
    return output / checkpoint.FINAL


def get_env_kwargs(config: TrainConfig) -> dict[str, Any]:
    """Return the arguments of the environment that a configuration trains in."""
    shared = {"suite": config.suite, "split": config.split, "prompt": config.prompt}
    if config.env == STEPWISE:
        # It pays by itself: the arguments of its reward are its own.
        reward = cast(SRLReward, make_reward(config.reward))
        return {**shared, "judge": reward.judge, "bad_format": reward.bad_format}
    return {**shared, "max_turns": config.max_turns, "reward": config.reward, "dense": config.dense}


def _is_spent(tokens: int, config: TrainConfig) -> bool:
    return bool(config.token_budget) and tokens >= config.token_budget


class TaskOrder:
    """The order in which tasks are played: permutations of all of them, one after another, each drawn anew.

    Args:
        ids: The tasks.
        seed: The permutations depend on it alone.

    Attributes:
        position: How many tasks have been taken.

    >>> order = TaskOrder(["a", "b", "c"], seed=0)
    >>> order.take(2), order.take(1)
    (['c', 'a'], ['b'])
    >>> order.position
    3
    """

    def __init__(self, ids: Sequence[str], seed: int) -> None:
        self.ids = list(ids)
        self.seed = seed
        self.position = 0

    def take(self, count: int) -> list[str]:
        """Return the next tasks."""
        taken = []
        for position in range(self.position, self.position + count):
            epoch, place = divmod(position, len(self.ids))
            permutation = np.random.default_rng([self.seed, epoch]).permutation(len(self.ids))
            taken.append(self.ids[permutation[place]])
        self.position += count
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"position": self.position, "ids": self._digest()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises:
            ConfigError: The tasks are not those that it was made with.
        """
        if state["ids"] != self._digest():
            raise ConfigError("split: its tasks have changed since the run was started, it cannot be resumed")
        self.position = state["position"]

    def _digest(self) -> str:
        return hashlib.sha256("\n".join(self.ids).encode()).hexdigest()


@dataclass
class _Run:
    """What a checkpoint is made of.

    Attributes:
        config: The settings.
        agent: The agent, with the model that is trained.
        learner: What trains it.
        order: The tasks' order.
        newest: The newest checkpoint.
        tokens: Tokens of all episodes so far.
    """

    config: TrainConfig
    agent: LLMAgent
    learner: Learner
    order: TaskOrder
    newest: Path | None
    tokens: int = 0

    def save(self, folder: Path, step: int) -> None:
        """Write a checkpoint.

        Raises:
            FloatingPointError: A weight is not finite.
        """
        model = self.agent.model
        if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
            raise FloatingPointError(f"step {step}: the model's weights are not finite; {self.last_good()}")
        state = {
            "config": dataclasses.asdict(self.config),
            # A model with adapters is stored merged, for others to load; they alone are what is trained.
            "adapters": adapter_state(model) if has_lora(model) else None,
            "learner": self.learner.state_dict(),
            "tasks": self.order.state_dict(),
            "sampled_tokens": self.agent.sampled_tokens,
            "tokens": self.tokens,
            "rng": checkpoint.get_rng_state(),
        }

        def save_model(partial: Path) -> None:
            with quiet():
                save_merged(model, partial)
                self.agent.tokenizer.save_pretrained(partial)

        checkpoint.write_checkpoint(folder, step, save_model, state)
        self.newest = folder

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            ConfigError: It was made with other settings.
        """
        state = checkpoint.read_state(folder)
        _check_settings(state["config"], self.config, folder)
        model = self.agent.model
        if has_lora(model):
            load_adapter_state(model, state["adapters"])
        else:
            saved, _ = load_model(str(folder), dtype=model.dtype)
            model.load_state_dict(saved.state_dict())
        self.learner.load_state_dict(state["learner"])
        self.order.load_state_dict(state["tasks"])
        self.agent.sampled_tokens = state["sampled_tokens"]
        self.tokens = state.get("tokens", 0)
        # Last: what is restored before may draw from them.
        checkpoint.set_rng_state(state["rng"])

    def last_good(self) -> str:
        """Say where the newest checkpoint is."""
        return f"{self.newest} is the newest checkpoint" if self.newest else "no checkpoint was saved"


def _derive_seed(seed: int, step: int, refill: int) -> int:
    return int(np.random.SeedSequence([seed, step, refill]).generate_state(1, np.uint64)[0] >> 1)


def _has_signal(group: Sequence[Trajectory]) -> bool:
    """Whether the returns of a group differ: GRPO learns nothing where they do not."""
    # In single precision, as the learners compare them: equal sums of different terms count as equal.
    return len({np.float32(trajectory.total_reward) for trajectory in group}) > 1


def keep_transcripts(folder: Path, trajectories: Sequence[Trajectory], size: int) -> None:
    """Write the episodes of a step, `size` of each task side by side, for `mentor-gym rewards compare`.

    A folder of its own for each step: a resumed run writes it again, whatever was in it.
    """
    episodes = [
        Episode(trajectory.transcript, trajectory.source, f"{place // size}/{trajectory.task_id}")
        for place, trajectory in enumerate(trajectories)
    ]
    write_transcripts(folder / TRANSCRIPTS, episodes)


def _measure(trajectories: Sequence[Trajectory], is_whole: bool) -> dict[str, Any]:
    """Average over the episodes of a step; `tokens` is the sum of those that were written in them.

    Where an episode is one turn after the teacher's, there is neither `success` (few of the turns are answers) nor
    `tool_f1` (most of the calls are the teacher's own).
    """
    f1 = [
        set_f1(
            {name for name, _ in student_calls(trajectory.transcript)},
            {name for name, _ in teacher_calls(trajectory.transcript.task)},
        )
        for trajectory in trajectories
    ]
    record: dict[str, Any] = {
        "reward": float(np.mean([trajectory.total_reward for trajectory in trajectories])),
        "turns": float(np.mean([len(trajectory.turn_rewards) for trajectory in trajectories])),
        "tokens": sum(sum(trajectory.action_mask) for trajectory in trajectories),
    }
    if is_whole:
        record["success"] = float(np.mean([trajectory.is_success for trajectory in trajectories]))
        record["tool_f1"] = float(np.mean(f1))
    # An episode whose reward broke has no terms.
    for term in dict.fromkeys(name for trajectory in trajectories for name in trajectory.reward_terms):
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


def _claim(output: Path, config: TrainConfig, resume: bool) -> tuple[Path | None, int]:
    """Take the output folder for this run; returns the checkpoint to resume from and its step, or None and 0."""
    checkpoint.clean(output)
    path = output / "config.yaml"
    metrics = output / "metrics.jsonl"
    # A run that left nothing behind (it broke off before its first step) binds nobody.
    is_begun = (
        (metrics.exists() and metrics.stat().st_size > 0)
        or (output / checkpoint.FINAL).exists()
        or bool(checkpoint.list_checkpoints(output))
    )
    if is_begun and not resume:
        raise ConfigError(f"output: {output} already holds a run; resume it (--resume), or choose another folder")
    if is_begun and path.exists():
        _check_settings(yaml.safe_load(path.read_text()), config, output)
    # A finished run goes on from its end when it is given more steps; when that is interrupted, from a later one.
    newest, done = (checkpoint.find_newest(output) if resume else None) or (None, 0)
    if done > config.steps:
        raise ConfigError(f"steps: the run in {output} has done {done} already, more than {config.steps}")
    checkpoint.replace_file(path, yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))
    return newest, done


def _check_settings(before: dict[str, Any], config: TrainConfig, where: Path) -> None:
    """Refuse to resume with other settings.

    Raises:
        ConfigError: One differs that the steps so far depended on.
    """
    # A schedule that falls has its end at the last step.
    free = _FREE if config.schedule == "constant" else _FREE - {"steps"}
    for key, value in dataclasses.asdict(config).items():
        # A run from before a setting existed had what is now its default.
        earlier = before.get(key, getattr(TrainConfig, key))
        if key not in free and earlier != value:
            why = " (its schedule ends at the last step)" if key == "steps" else ""
            raise ConfigError(
                f"{key}: the run in {where} was started with {earlier!r}, it cannot be resumed with {value!r}{why}"
            )


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
    except Interrupted as error:
        parser.exit(error.exit_code, f"interrupted: {error}; go on with --resume\n")
    except (ValueError, FloatingPointError) as error:
        parser.exit(2, f"error: {error}\n")
    print(final)


if __name__ == "__main__":
    main()
