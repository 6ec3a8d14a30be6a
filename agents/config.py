"""Training configuration: one flat, typed dataclass, read from YAML with `key=value` overrides."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from mentor_gym.data import DataError, read_yaml
from mentor_gym.names import nearest
from mentor_gym.suites import Suite, load_suite

CONFIGS = Path(__file__).parent / "configs"
STEPWISE = "MentorStepwise-v0"
Config = TypeVar("Config")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file, the key and what was expected."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training run depends on."""

    algorithm: Literal["sft", "grpo", "ppo"] = "grpo"  # the learner
    model: str = "tiny"  # "tiny", "smollm2", a model folder, or a Hugging Face id
    suite: str = "math"  # suite's name, or the path of a suite.yaml
    split: str = "train"  # split that tasks are drawn from
    env: Literal["MentorTool-v0", "MentorStepwise-v0"] = "MentorTool-v0"  # whole episodes, or SRL's single turns
    train_on_evaluation_data: bool = False  # allow a suite of a public benchmark, whose figures then mean nothing
    reward: Any = "mentor"  # preset's name, or {name: …, argument: …}
    dense: bool = False  # pay every turn instead of at the end; the return is the same
    max_reward_errors: float = 0.05  # share of a step's episodes in which the reward may break; more stop the run
    prompt: Literal["compact", "full"] = (
        "compact"  # "full" explains the format, for models that were not trained on it
    )
    max_turns: int = 8  # assistant turns of an episode
    max_new_tokens: int = 64  # tokens of a turn
    max_context: int = 1024  # tokens of a conversation
    max_live: int = 96  # episodes that run at the same time
    temperature: float = 1.0  # of sampling, and of the log-probabilities trained on
    steps: int = 60  # training steps
    token_budget: int = 0  # tokens of all episodes after which training ends, before `steps`; 0 for no limit
    tasks_per_step: int = 6  # tasks of a step
    group_size: int = 16  # episodes of a task; sft has one trace of each
    dynamic_sampling: bool = False  # play further tasks in place of groups without variance (DAPO)
    max_refills: int = 3  # times that a step is refilled at most
    learning_rate: float = 3e-4  # reached after the warm-up
    schedule: Literal["constant", "linear", "cosine"] = "constant"  # after the warm-up, to 0 at the last step
    warmup_steps: int = 0  # steps of linear warm-up
    weight_decay: float = 0.01  # of AdamW
    max_grad_norm: float = 1.0  # gradient clipping; 0 for none
    epochs: int = 1  # passes over the same episodes
    minibatches: int = 1  # optimiser steps of a pass
    advantage: Literal["group_std", "group_mean", "leave_one_out"] = "group_std"  # GRPO, Dr. GRPO, RLOO
    credit: Literal["episode", "turn"] = "episode"  # grpo: an advantage for the episode, or for each turn
    aggregation: Literal["token", "sequence", "constant"] = "token"  # how tokens are averaged
    constant_length: int = 0  # tokens of an episode, for "constant"; 0 for the longest that it may be
    ratio: Literal["token", "sequence"] = "token"  # grpo: probability ratio of tokens, or of episodes (GSPO)
    clip_low: float = 0.2  # how far the ratio may fall
    clip_high: float = 0.2  # how far it may rise
    dual_clip: float = 0.0  # bounds the loss where the advantage is negative; 0 for none
    kl_coef: float = 0.1  # weight of the penalty for leaving the starting model; 0 keeps no reference
    sft_kl_coef: float = 0.0  # sft: weight of the divergence from the starting model at the teacher's tokens
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"  # of that divergence
    entropy_coef: float = 0.0  # weight of the entropy bonus
    overlong_length: int = 0  # sampled tokens of an episode from which the penalty is 1 (DAPO); 0 for none
    overlong_buffer: int = 0  # tokens before that over which it rises
    gamma: float = 1.0  # ppo and turn credit: discount
    gae_lambda: float = 0.95  # ppo: of generalised advantage estimation
    gae_over: Literal["token", "turn"] = "token"  # ppo: what counts as a step of it
    value_coef: float = 0.1  # ppo: weight of the value loss
    value_clip: float = 0.2  # ppo: how far values may move in an update; 0 for no limit
    normalize_advantages: bool = True  # ppo: over the batch
    lora_rank: int = 0  # train low-rank adapters of this rank; 0 for all weights
    lora_alpha: float = 0.0  # their scale is lora_alpha / lora_rank; 0 for twice the rank
    max_batch_tokens: int = 8_192  # tokens of one forward pass; larger updates are split, with the same gradient
    gradient_checkpointing: bool = False  # compute activations twice instead of keeping them
    seed: int = 0  # of task order and sampling
    eval_every: int = 20  # steps between evaluations; 0 for none
    eval_split: str = "valid"  # split that is evaluated, greedily
    eval_tasks: int = 100  # tasks of an evaluation; 0 for all
    save_every: int = 20  # steps between checkpoints; 0 for none
    transcripts_every: int = 0  # steps between those whose episodes are kept in transcripts/; 0 for none
    keep_checkpoints: int = 2  # how many of the newest stay
    output: str = "runs/train"  # folder of the run
    threads: int = 1  # torch threads; more only help when the machine is idle
    device: str = "cpu"  # where the model runs

    def __post_init__(self) -> None:
        """Check what types alone do not say.

        Raises:
            ConfigError: A value is out of range.
        """
        for name in ("max_turns", "max_new_tokens", "max_context", "max_live", "steps", "tasks_per_step"):
            _check(name, getattr(self, name), 1)
        for name in ("group_size", "epochs", "minibatches", "max_batch_tokens", "keep_checkpoints", "threads"):
            _check(name, getattr(self, name), 1)
        for name in ("warmup_steps", "weight_decay", "kl_coef", "max_grad_norm", "learning_rate", "eval_every"):
            _check(name, getattr(self, name), 0)
        for name in ("eval_tasks", "save_every", "temperature", "max_refills", "constant_length", "entropy_coef"):
            _check(name, getattr(self, name), 0)
        for name in ("overlong_length", "overlong_buffer", "value_coef", "value_clip", "lora_rank", "lora_alpha"):
            _check(name, getattr(self, name), 0)
        for name in ("token_budget", "sft_kl_coef", "transcripts_every"):
            _check(name, getattr(self, name), 0)
        if self.env == STEPWISE:
            self._check_stepwise()
        if self.algorithm == "grpo":
            _check("group_size", self.group_size, 2)
        # Nothing is explored at temperature 0: every episode of a group would be the same.
        if self.algorithm != "sft" and self.temperature <= 0:
            raise ConfigError(f"temperature: must be more than 0, got {self.temperature}")
        if not 0 < self.clip_low < 1:
            raise ConfigError(f"clip_low: must be between 0 and 1, got {self.clip_low}")
        if not 0 < self.clip_high < float("inf"):
            raise ConfigError(f"clip_high: must be more than 0, got {self.clip_high}")
        if self.dual_clip and not self.dual_clip > 1:
            raise ConfigError(f"dual_clip: must be more than 1 (or 0 for none), got {self.dual_clip}")
        for name in ("gamma", "gae_lambda", "max_reward_errors"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: must be between 0 and 1, got {getattr(self, name)}")
        if self.token_budget and self.schedule != "constant":
            raise ConfigError(
                "token_budget: needs schedule: constant, since the number of steps is not known before"
            )
        if self.overlong_buffer > self.overlong_length:
            raise ConfigError(f"overlong_buffer: must be at most overlong_length, got {self.overlong_buffer}")
        if self.minibatches > self.tasks_per_step:
            raise ConfigError(f"minibatches: must be at most tasks_per_step, got {self.minibatches}")
        if self.dynamic_sampling and (self.algorithm == "sft" or self.group_size < 2):
            raise ConfigError("dynamic_sampling: needs groups of at least 2 sampled episodes")
        if self.credit == "turn" and self.ratio == "sequence":
            raise ConfigError("credit: turn needs ratio: token (a ratio of whole episodes has one advantage)")

    def _check_stepwise(self) -> None:
        if self.algorithm == "sft":
            raise ConfigError(f"env: {STEPWISE} needs turns that are sampled, which sft has none of")
        if self.reward != "srl" and not (isinstance(self.reward, dict) and self.reward.get("name") == "srl"):
            raise ConfigError(f"reward: {STEPWISE} pays srl and nothing else, got {self.reward!r}")
        if self.transcripts_every:
            raise ConfigError(
                f"transcripts_every: must be 0 with {STEPWISE}, whose episodes are the teacher's but one turn"
            )


def _check(name: str, value: float, least: int) -> None:
    # Not `value < least`, which NaN would pass.
    if not value >= least:
        raise ConfigError(f"{name}: must be at least {least}, got {value}")


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read the configuration of a language model's training.

    Args:
        path: A YAML file, or the name of a shipped one (`"grpo-mentor"`); None for the defaults.
        overrides: `key=value` texts, the value in YAML; they win over the file.

    Raises:
        ConfigError: The file cannot be read, or a key or value does not fit.

    >>> load_config("grpo-sparse", ["steps=10", "learning_rate=1e-4"]).steps
    10
    """
    return read_config(TrainConfig, path, overrides)


def read_config(kind: type[Config], path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration into any flat dataclass with a field `algorithm`; the rest as for `load_config`."""
    fields = _field_types(kind)
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    if path is not None:
        source = _find(path, fields)
        content, lines = _read(source)
        for key, value in content.items():
            origin[key] = f"{source}, line {lines.get(str(key), 1)}"
            values[key] = _convert(key, value, origin[key], fields)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"override {override!r}: expected key=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"override {override!r}: not YAML: {' '.join(str(error).split())}") from None
        key = key.strip()
        origin[key] = f"override {override!r}"
        values[key] = _convert(key, value, origin[key], fields)
    try:
        return kind(**values)
    except ConfigError as error:
        # The message begins with the key.
        where = origin.get(str(error).partition(":")[0])
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None


def load_training_suite(name: str, allowed: bool) -> Suite:
    """Load the suite of a training run.

    Args:
        name: Its name or file.
        allowed: The configuration's `train_on_evaluation_data`.

    Raises:
        ConfigError: Its tasks are for evaluation only, and training on them is not allowed.
        ValueError: No suite of that name.
    """
    suite = load_suite(name)
    if suite.evaluation_only and not allowed:
        raise ConfigError(
            f"suite: {name!r} is a benchmark, for evaluation only: figures of a model that was trained on it tell "
            "nothing; train_on_evaluation_data=true does it all the same"
        )
    return suite


def list_shipped(algorithms: Sequence[str]) -> list[str]:
    """Return the names of the shipped configurations of these algorithms.

    >>> list_shipped(["ppo"])
    ['ppo']
    """
    found = {file.stem: yaml.safe_load(file.read_text()) for file in sorted(CONFIGS.glob("*.yaml"))}
    return [name for name, content in found.items() if content.get("algorithm") in algorithms]


def _find(path: str | Path, fields: dict[str, Any]) -> Path:
    source = Path(path)
    if source.is_file():
        return source
    shipped = CONFIGS / f"{path}.yaml"
    if shipped.is_file():
        return shipped
    names = list_shipped(typing.get_args(fields["algorithm"]))
    hint = nearest(source.stem, names)
    raise ConfigError(f"{path}: no such file, and no shipped configuration ({', '.join(names)}){hint}")


def _read(source: Path) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        content, lines = read_yaml(source)
    except DataError as error:
        raise ConfigError(str(error)) from None
    if content is None:
        return {}, {}
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: expected key: value lines")
    return content, lines


def _convert(key: Any, value: Any, where: str, fields: dict[str, Any]) -> Any:
    """Check a value against its field's type; the only conversions are from int, and from `1e-4`, to float."""
    if key not in fields:
        hint = nearest(key, fields) or f"; known keys: {', '.join(fields)}"
        raise ConfigError(f"{where}: unknown key {key!r}{hint}")
    expected = fields[key]
    if expected is Any:
        if isinstance(value, str | dict):
            return value
        raise ConfigError(f"{where}: {key}: expected a name or a mapping, got {value!r}")
    if typing.get_origin(expected) is Literal:
        choices = typing.get_args(expected)
        if value in choices:
            return value
        expected_one = f"expected one of {', '.join(choices)}"
        raise ConfigError(f"{where}: {key}: {expected_one}, got {value!r}{nearest(value, choices)}")
    if typing.get_origin(expected) is list and isinstance(value, list):
        (item,) = typing.get_args(expected)
        return [_convert(key, part, where, {key: item}) for part in value]
    if expected is float and type(value) is int:
        return float(value)
    if expected is float and isinstance(value, str):
        # YAML 1.1 takes 1e-4, which has no point, for text.
        with contextlib.suppress(ValueError):
            value = float(value)
    plain = typing.get_origin(expected) or expected
    # type(), because True is an int.
    if type(value) is not plain:
        names = {
            int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping",
            list: "a list",
        }  # fmt: skip
        raise ConfigError(f"{where}: {key}: expected {names[plain]}, got {value!r}")
    return value


def _field_types(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
