"""Training a policy of Stable-Baselines3 on a menu of tool calls: `sb3-ppo` and `sb3-maskable-ppo`.

Run it with `mentor-gym train --agent sb3-ppo steps=10`; `--resume` continues a run. The learner is
Stable-Baselines3's own (or sb3-contrib's); what is here is the configuration, the run's folder, and what a resumed
run takes up again.

A run's folder holds `config.yaml`, `metrics.jsonl` (one JSON object a training step, which is a rollout and its
updates), TensorBoard events, `checkpoint-<step>/` (see `agents.checkpoint` and `agents.sb3`) and, at the end,
`final/`, a checkpoint too.

A resumed run equals, bit for bit, one that was never stopped, with the same versions and number of threads:
besides weights and optimizer a checkpoint holds the environments in the middle of their episodes and every
generator that is drawn from. Left out is the state of a user's own code, such as a reward with a memory.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
import yaml
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecEnv

import mentor_gym  # noqa: F401  (registers the environment ids)
from agents import checkpoint
from agents.config import ConfigError, load_training_suite
from agents.evaluate import evaluate
from agents.log import Interrupted, Log, StopSignals
from agents.sb3 import MODEL, MenuPolicy, SB3Agent, policy_class, save_description
from mentor_gym.wrappers.menu import Menu, MenuWrapper

# Settings that do not change what the steps so far would have been.
_FREE = {"steps", "output", "threads", "save_every", "keep_checkpoints", "eval_every", "eval_split", "eval_tasks"}


@dataclass(frozen=True)
class SB3Config:
    """Everything that a training run of a Stable-Baselines3 policy depends on."""

    algorithm: Literal["sb3-ppo", "sb3-maskable-ppo"] = "sb3-ppo"  # the learner
    suite: str = "math"  # suite's name, or the path of a suite.yaml
    split: str = "train"  # split that tasks are drawn from
    train_on_evaluation_data: bool = False  # allow a suite of a public benchmark, whose figures then mean nothing
    where: dict[str, Any] = field(default_factory=dict)  # only tasks whose meta has these values
    reward: Any = "mentor"  # preset's name, or {name: …, argument: …}
    dense: bool = False  # pay every turn instead of at the end; the return is the same
    max_reward_errors: float = 0.05  # share of a step's episodes whose reward may break before the run stops
    prompt: Literal["compact", "full"] = "compact"  # a menu reads the same from both
    max_turns: int = 8  # assistant turns of an episode
    style: Literal["multidiscrete", "discrete"] = "multidiscrete"  # of the menu's actions
    numbers: int = 6  # of the question, that the menu has slots for
    results: int = 3  # latest ones, that the menu has slots for
    constants: list[float] = field(default_factory=lambda: [2.0, 3.0])  # that the menu has slots for
    words: int = 12  # of the question, that the menu has slots for
    described: int = 40  # words of an argument's description, that the menu has slots for
    buckets: int = 512  # length of the bag of words
    hidden: list[int] = field(default_factory=lambda: [64, 64])  # widths of the hidden layers
    num_envs: int = 16  # environments that are played in turn
    rollout_length: int = 64  # turns in each environment between updates
    steps: int = 100  # training steps: a rollout and its updates
    batch_size: int = 256  # turns of an optimiser step; divides those of a rollout
    epochs: int = 4  # passes over the same turns
    learning_rate: float = 1e-3  # of Adam
    schedule: Literal["constant", "linear"] = "constant"  # of the learning rate, to 0 at the last step
    clip_range: float = 0.2  # how far the probability ratio may move
    entropy_coef: float = 0.0  # weight of the entropy bonus
    value_coef: float = 0.5  # weight of the value loss
    max_grad_norm: float = 0.5  # gradient clipping
    gamma: float = 1.0  # discount
    gae_lambda: float = 0.95  # of generalised advantage estimation
    seed: int = 0  # of weights, tasks and sampling
    eval_every: int = 20  # steps between evaluations; 0 for none
    eval_split: str = "valid"  # split that is evaluated, greedily
    eval_tasks: int = 100  # tasks of an evaluation; 0 for all
    save_every: int = 20  # steps between checkpoints; 0 for none
    keep_checkpoints: int = 2  # how many of the newest stay
    output: str = "runs/sb3"  # folder of the run
    threads: int = 1  # torch threads

    def __post_init__(self) -> None:
        """Check what types alone do not say; sizes of the menu are checked by it.

        Raises:
            ConfigError: A value is out of range.
        """
        least = {
            "max_turns": 1, "num_envs": 1, "rollout_length": 2, "steps": 1, "batch_size": 2, "epochs": 1,
            "learning_rate": 0, "entropy_coef": 0, "value_coef": 0, "max_grad_norm": 0, "eval_every": 0,
            "eval_tasks": 0, "save_every": 0, "keep_checkpoints": 1, "threads": 1,
        }  # fmt: skip
        for name, bound in least.items():
            # Not `value < bound`, which NaN would pass.
            if not getattr(self, name) >= bound:
                raise ConfigError(f"{name}: must be at least {bound}, got {getattr(self, name)}")
        for name in ("gamma", "gae_lambda", "max_reward_errors"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: must be between 0 and 1, got {getattr(self, name)}")
        if not 0 < self.clip_range < float("inf"):
            raise ConfigError(f"clip_range: must be more than 0, got {self.clip_range}")
        if not all(width >= 1 for width in self.hidden):
            raise ConfigError(f"hidden: widths must be at least 1, got {self.hidden}")
        if self.turns_per_step % self.batch_size:
            raise ConfigError(
                f"batch_size: must divide num_envs * rollout_length ({self.turns_per_step}), got {self.batch_size}"
            )

    @property
    def turns_per_step(self) -> int:
        """Turns that are played in a training step."""
        return self.num_envs * self.rollout_length


class TurnLimitEnds(gym.Wrapper[Any, Any, Any, Any]):
    """Report the turn limit as an end.

    Stable-Baselines3 adds the value of the last observation to the reward of a truncated episode, as if it went
    on. Here nothing goes on: the limit is part of the task, and what was earned up to it is all there is.

    >>> from mentor_gym import MentorToolEnv
    >>> env = TurnLimitEnds(MentorToolEnv("math", max_turns=1))
    >>> _ = env.reset(seed=0)
    >>> env.step("<tool_call>{}</tool_call>")[2:4]
    (True, False)
    """

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Play a turn."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or truncated, False, info


def train(config: SB3Config, resume: bool = False, progress: bool = True) -> Path:
    """Train a policy as a configuration says.

    Ctrl-C and SIGTERM end the run after the step that is going on, with a checkpoint of it.

    Args:
        config: What to do.
        resume: Whether to continue from the newest checkpoint in `config.output`; without one, to begin there.
        progress: Whether to say on stderr how it goes.

    Returns:
        The folder of the trained policy, for `SB3Agent` and `mentor-gym eval`.

    Raises:
        AgentError: The algorithm needs sb3-contrib, which is not installed.
        ConfigError: The output folder holds another run; or one to resume was made with other settings.
        CheckpointError: A checkpoint cannot be written, or there is none that can be read.
        FloatingPointError: A weight is not finite.
        Interrupted: A signal ended the run.
        ValueError: A name in the configuration names nothing, or the reward broke too often.
    """
    torch.set_num_threads(config.threads)
    make_model, _ = policy_class(config.algorithm)
    suite = load_training_suite(config.suite, config.train_on_evaluation_data)
    if config.eval_every:
        suite.tasks(config.eval_split).where(config.where)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(checkpoint.lock(output))
        newest, done = _claim(output, config, resume)
        if newest == output / checkpoint.FINAL and done == config.steps:
            return newest
        envs = make_envs(config)
        stack.callback(envs.close)
        model = make_model(
            "MlpPolicy",
            envs,
            learning_rate=(
                LinearSchedule(config.learning_rate, 0.0, 1.0)
                if config.schedule == "linear"
                else config.learning_rate
            ),
            n_steps=config.rollout_length,
            batch_size=config.batch_size,
            n_epochs=config.epochs,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            clip_range=config.clip_range,
            ent_coef=config.entropy_coef,
            vf_coef=config.value_coef,
            max_grad_norm=config.max_grad_norm,
            policy_kwargs={"net_arch": config.hidden},
            seed=config.seed,
            device="cpu",
        )
        run = _Run(config, model, envs, newest)
        if newest is not None:
            run.restore(newest)
        log = stack.enter_context(Log(output, config.algorithm, config.steps, done, progress=False))
        stop = stack.enter_context(StopSignals())
        loop = _Loop(run, done, log, stop, progress)
        turns = (config.steps - done) * config.turns_per_step
        model.learn(turns, callback=loop, log_interval=None, reset_num_timesteps=newest is None)
        run.save(output / checkpoint.FINAL, config.steps)
    return output / checkpoint.FINAL


def make_envs(config: SB3Config) -> VecEnv:
    """Make the environments of a run, one after another in this process: a turn takes a tenth of a millisecond."""

    def make() -> gym.Env[Any, Any]:
        env = gym.make(
            "MentorTool-v0",
            suite=config.suite,
            split=config.split,
            where=config.where,
            reward=config.reward,
            dense=config.dense,
            prompt=config.prompt,
            max_turns=config.max_turns,
        )
        sizes = {"numbers": config.numbers, "results": config.results, "constants": config.constants}
        sizes |= {"words": config.words, "described": config.described, "buckets": config.buckets}
        return TurnLimitEnds(MenuWrapper(env, style=config.style, **sizes))

    return VecCheckNan(DummyVecEnv([make] * config.num_envs), raise_exception=True)


class _Loop(BaseCallback):
    """What a run does besides learning: it counts episodes and, after each step, measures, logs and saves.

    Attributes:
        step: The last training step that is complete.
    """

    def __init__(self, run: _Run, done: int, log: Log, stop: StopSignals, progress: bool) -> None:
        super().__init__()
        self.run = run
        self.step = done
        self.log = log
        self.stop = stop
        self.progress = progress
        self._begin_step()

    def _begin_step(self) -> None:
        self._started = time.perf_counter()
        self._played = False
        self._episodes: list[tuple[float, float, float]] = []
        self._reward_errors: list[str] = []

    def _on_step(self) -> bool:
        """Count; called after every turn that all environments have played."""
        run = self.run
        self._played = True
        run.returns += self.locals["rewards"]
        run.lengths += 1
        for place, (ended, info) in enumerate(zip(self.locals["dones"], self.locals["infos"])):
            if "reward_error" in info:
                self._reward_errors.append(f"task {info['task_id']!r}: {info['reward_error']}")
            if ended:
                self._episodes.append((run.returns[place], run.lengths[place], info["is_success"]))
                run.returns[place] = run.lengths[place] = 0
        return True

    def _on_rollout_start(self) -> None:
        # The learner has no hook after its updates; the next one is here.
        if self._played:
            self._end_step()

    def _on_training_end(self) -> None:
        self._end_step()

    def _end_step(self) -> None:
        run, config = self.run, self.run.config
        self.step += 1
        seconds = time.perf_counter() - self._started
        run.check_finite(self.step)
        broken = len(self._reward_errors) / max(1, len(self._episodes))
        if broken > config.max_reward_errors:
            raise ValueError(
                f"step {self.step}: the reward broke {len(self._reward_errors)} times in {len(self._episodes)} "
                f"episodes, more than max_reward_errors allows; the last one, {self._reward_errors[-1]}; "
                f"{run.last_good()}"
            )
        # Without an episode that ended there is nothing to average.
        figures = np.mean(self._episodes or [(np.nan, np.nan, np.nan)], axis=0).tolist()
        record: dict[str, Any] = {"step": self.step, "env_steps": self.num_timesteps}
        record |= dict(zip(("reward", "turns", "success"), figures))
        record |= {"episodes": len(self._episodes), "reward_errors": broken}
        for name, value in self.logger.name_to_value.items():
            if name.startswith("train/") and name != "train/n_updates":
                record[name.removeprefix("train/")] = float(value)
        record["env_steps_per_s"] = config.turns_per_step / seconds
        is_measured = bool(config.eval_every) and (self.step % config.eval_every == 0 or self.step == config.steps)
        if is_measured:
            record.update(validate(run.policy, config))
        self.log.write(record)
        if self.progress and (is_measured or self.step % 10 == 0):
            held_out = f"  {config.eval_split} {record[f'{config.eval_split}/success']:.2f}" if is_measured else ""
            self.log.note(
                f"step {self.step}/{config.steps}  reward {record['reward']:.2f}  success {record['success']:.2f}"
                f"{held_out}  {record['env_steps_per_s']:,.0f} turns/s"
            )
        if self.step < config.steps:
            if self.stop.received or (config.save_every and self.step % config.save_every == 0):
                output = Path(config.output)
                run.save(output / f"checkpoint-{self.step}", self.step)
                checkpoint.prune(output, config.keep_checkpoints)
            if self.stop.received:
                raise Interrupted(f"stopped after step {self.step}; {run.last_good()}", self.stop.received)
        self._begin_step()


class _Run:
    """What a checkpoint is made of.

    Attributes:
        config: The settings.
        model: The learner.
        envs: Its environments.
        newest: The newest checkpoint; None if there is none.
        returns: What the episode that is going on in each environment has earned.
        lengths: Its turns.
        policy: The policy as agents use it.
    """

    def __init__(self, config: SB3Config, model: Any, envs: VecEnv, newest: Path | None) -> None:
        self.config = config
        self.model = model
        self.envs = envs
        self.newest = newest
        self.returns = np.zeros(config.num_envs)
        self.lengths = np.zeros(config.num_envs, int)
        menu: Menu = envs.get_attr("menu")[0]
        self.policy = MenuPolicy(model.policy, menu, config.algorithm)
        # Ours is the log; the learner's own logger only collects its figures.
        model.set_logger(Logger(None, []))

    def save(self, folder: Path, step: int) -> None:
        """Write a checkpoint."""
        model = self.model
        state = {
            "config": dataclasses.asdict(self.config),
            "env_steps": model.num_timesteps,
            "updates": model._n_updates,
            "observations": torch.from_numpy(model._last_obs),
            "episode_starts": torch.from_numpy(model._last_episode_starts),
            "envs": [base64.b64encode(state).decode() for state in self.envs.env_method("get_state")],
            "returns": self.returns.tolist(),
            "lengths": self.lengths.tolist(),
            "rng": checkpoint.get_rng_state(),
        }

        def save_model(partial: Path) -> None:
            model.save(partial / MODEL)
            save_description(partial, self.policy, self.config.hidden)

        checkpoint.write_checkpoint(folder, step, save_model, state)
        self.newest = folder

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            ConfigError: It was made with other settings.
            StateError: The suite's tasks or tools have changed.
        """
        state = checkpoint.read_state(folder)
        _check_settings(state["config"], self.config, folder)
        for place, text in enumerate(state["envs"]):
            self.envs.env_method("set_state", base64.b64decode(text), indices=[place])
        # Weights and the optimizer's moments; nothing else of the archive is read.
        self.model.set_parameters(str(folder / MODEL), device="cpu")
        self.model.num_timesteps = state["env_steps"]
        self.model._n_updates = state["updates"]
        self.model._last_obs = state["observations"].numpy()
        self.model._last_episode_starts = state["episode_starts"].numpy()
        self.returns[:] = state["returns"]
        self.lengths[:] = state["lengths"]
        # Last: what is restored before may draw from them.
        checkpoint.set_rng_state(state["rng"])

    def check_finite(self, step: int) -> None:
        """Look at every weight.

        Raises:
            FloatingPointError: One is not finite.
        """
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.policy.parameters()):
            raise FloatingPointError(f"step {step}: the policy's weights are not finite; {self.last_good()}")

    def last_good(self) -> str:
        """Say where the newest checkpoint is."""
        return f"{self.newest} is the newest checkpoint" if self.newest else "no checkpoint was saved"


def validate(policy: MenuPolicy, config: SB3Config) -> dict[str, float]:
    """Measure unshaped success with the best action of every turn, on the same tasks every time.

    Returns:
        Figures under `<eval_split>/success` and the like, as the log of a run has them.
    """
    result = evaluate(
        SB3Agent(policy, temperature=0.0),
        config.suite,
        config.eval_split,
        tasks=config.eval_tasks or None,
        max_turns=config.max_turns,
        prompt=config.prompt,
        where=config.where,
    )
    keys = {"success": "pass@1", "tool_f1": "tool_f1", "calls": "calls", "turns": "turns"}
    return {f"{config.eval_split}/{name}": float(result[key]) for name, key in keys.items()}


def _claim(output: Path, config: SB3Config, resume: bool) -> tuple[Path | None, int]:
    """Take the output folder for this run; returns the checkpoint to resume from and its step, or None and 0."""
    checkpoint.clean(output)
    path, metrics = output / "config.yaml", output / "metrics.jsonl"
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
    newest, done = (checkpoint.find_newest(output) if resume else None) or (None, 0)
    if done > config.steps:
        raise ConfigError(f"steps: the run in {output} has done {done} already, more than {config.steps}")
    checkpoint.replace_file(path, yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))
    return newest, done


def _check_settings(before: dict[str, Any], config: SB3Config, where: Path) -> None:
    """Refuse to resume with other settings.

    Raises:
        ConfigError: One differs that the steps so far depended on.
    """
    # A schedule that falls has its end at the last step.
    free = _FREE if config.schedule == "constant" else _FREE - {"steps"}
    for key, value in dataclasses.asdict(config).items():
        if key not in free and before.get(key) != value:
            raise ConfigError(
                f"{key}: the run in {where} was started with {before.get(key)!r}, "
                f"it cannot be resumed with {value!r}"
            )
