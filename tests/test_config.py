"""Configurations: typed, strict, and with errors that say where and what."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from agents import config as config_module
from agents.config import CONFIGS, ConfigError, TrainConfig, list_shipped, load_config
from mentor_gym.rewards import make_reward
from mentor_gym.suites import math as math_suite

SHIPPED = list_shipped(["sft", "grpo", "ppo"])


def test_every_shipped_file_is_a_configuration_but_two():
    # demo.yaml and study.yaml have formats of their own, and Stable-Baselines3's have tests of theirs.
    names = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert names == {*SHIPPED, *list_shipped(["sb3-ppo", "sb3-maskable-ppo"]), "demo", "study"}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_load(name):
    make_reward(load_config(name).reward)


def test_the_arms_differ_in_their_reward_alone():
    arms = [dataclasses.asdict(load_config(f"grpo-{reward}")) for reward in ("sparse", "mentor", "strict")]
    assert [arm.pop("reward") for arm in arms] == ["sparse", "mentor", "strict"]
    assert len({arm.pop("output") for arm in arms}) == 3
    assert arms[0] == arms[1] == arms[2]


def test_overrides_win_over_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("steps: 7\nlearning_rate: 1e-4\nreward: {name: mentor, matcher: any}\n")
    config = load_config(path, ["steps=9", "kl_coef=0", "output=runs/x", "dense=true"])
    assert (config.steps, config.learning_rate, config.kl_coef) == (9, 1e-4, 0.0)
    assert config.reward == {"name": "mentor", "matcher": "any"}
    assert config.dense is True
    assert load_config() == TrainConfig()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stepz: 3", "unknown key 'stepz'; did you mean 'steps'?"),
        ("steps: two", "steps: expected a whole number, got 'two'"),
        ("steps: true", "steps: expected a whole number, got True"),
        ("steps: 1.5", "steps: expected a whole number, got 1.5"),
        ("dense: 1", "dense: expected true or false, got 1"),
        ("learning_rate: fast", "learning_rate: expected a number, got 'fast'"),
        ("algorithm: gpro", "algorithm: expected one of sft, grpo, ppo, got 'gpro'; did you mean 'grpo'?"),
        (
            "schedule: cosin",
            "expected one of constant, linear, cosine, got 'cosin'; did you mean 'cosine'?",
        ),
        ("dynamic_sampling: true\nalgorithm: sft", "dynamic_sampling: needs groups of at least 2 sampled"),
        ("dynamic_sampling: 3", "dynamic_sampling: expected true or false, got 3"),
        ("reward: 3", "reward: expected a name or a mapping, got 3"),
        ("suite: 3", "suite: expected text, got 3"),
        ("steps: 0", "steps: must be at least 1, got 0"),
        ("learning_rate: .nan", "learning_rate: must be at least 0, got nan"),
        ("group_size: 1", "group_size: must be at least 2, got 1"),
        ("temperature: 0", "temperature: must be more than 0, got 0.0"),
        ("max_refills: -1", "max_refills: must be at least 0, got -1"),
        ("lora_rank: -2", "lora_rank: must be at least 0, got -2"),
        ("keep_checkpoints: 0", "keep_checkpoints: must be at least 1, got 0"),
        ("clip_low: 1", "clip_low: must be between 0 and 1, got 1.0"),
        ("clip_high: 0", "clip_high: must be more than 0, got 0.0"),
        ("clip_high: .inf", "clip_high: must be more than 0, got inf"),
        ("dual_clip: 1", "dual_clip: must be more than 1 (or 0 for none), got 1.0"),
        ("gamma: 1.01", "gamma: must be between 0 and 1, got 1.01"),
        ("gae_lambda: -0.1", "gae_lambda: must be between 0 and 1, got -0.1"),
        ("overlong_buffer: 5", "overlong_buffer: must be at most overlong_length, got 5"),
        ("minibatches: 7", "minibatches: must be at most tasks_per_step, got 7"),
        ("clip_range: 0.2", "unknown key 'clip_range'"),
        ("- steps", "expected key: value lines"),
        ("steps: [", "not YAML"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_and_key(tmp_path, line, message):
    path = tmp_path / "mine.yaml"
    path.write_text(f"# a comment\n{line}\n")
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    where = {"- steps": f"{path}: ", "steps: [": f"{path}, line 3: "}.get(line, f"{path}, line 2: ")
    assert str(raised.value).startswith(where)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm=ppo", "group_size=1", "gae_over=turn"],
        ["algorithm=sft", "temperature=0", "group_size=1"],
        ["dual_clip=3", "clip_high=0.28", "overlong_length=100", "overlong_buffer=100"],
        ["credit=turn", "ratio=token"],
        ["minibatches=6", "epochs=2", "schedule=cosine", "warmup_steps=3"],
        ["dynamic_sampling=true", "max_refills=0"],
        ["lora_rank=8", "lora_alpha=0"],
    ],
)
def test_what_fits_is_taken(overrides):
    config = load_config(None, overrides)
    for override in overrides:
        key, _, text = override.partition("=")
        assert str(getattr(config, key)).lower() in (text, f"{text}.0")


def test_settings_that_exclude_each_other_are_refused():
    with pytest.raises(ConfigError, match="credit: turn needs ratio: token"):
        load_config(None, ["credit=turn", "ratio=sequence"])
    with pytest.raises(ConfigError, match="temperature: must be more than 0"):
        load_config(None, ["algorithm=ppo", "temperature=0"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=3", "override 'stepz=3': unknown key 'stepz'; did you mean 'steps'?"),
        ("steps", "override 'steps': expected key=value"),
        ("steps=many", "steps: expected a whole number, got 'many'"),
        ("steps=0", "override 'steps=0': steps: must be at least 1, got 0"),
    ],
)
def test_wrong_overrides_are_refused(override, message):
    with pytest.raises(ConfigError) as raised:
        load_config("smoke", [override])
    assert message in str(raised.value)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("steps: 2\nseed: 1\nsteps: 3\n")
    with pytest.raises(ConfigError, match=r'mine\.yaml, line 3: field "steps" stands twice, first in line 1'):
        load_config(path)


def test_a_missing_file_names_the_nearest_shipped_one(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'grpo-mentor'"):
        load_config("grpo-mentr")
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.yaml")


def test_training_on_a_benchmark_needs_an_explicit_flag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from agents import train as train_module

    # Built anew: the shipped suite is shared by the process.
    suite = math_suite.build()
    assert not suite.evaluation_only
    suite.evaluation_only = True
    monkeypatch.setattr(config_module, "load_suite", lambda name: suite)
    output = tmp_path / "run"
    settings = TrainConfig(output=str(output))
    with pytest.raises(ConfigError, match=r"suite: 'math' is a benchmark.*train_on_evaluation_data=true"):
        train_module.train(settings)
    assert not output.exists()
    assert config_module.load_training_suite("math", allowed=True) is suite
