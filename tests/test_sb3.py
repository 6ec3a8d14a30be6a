"""Stable-Baselines3 on the menu: policies train, stop, go on, and are agents like all others."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecCheckNan

import mentor_gym  # noqa: F401
from agents import checkpoint, sb3_train
from agents.base import AGENTS, AgentError, Observation, load_agent
from agents.config import ConfigError, list_shipped, read_config
from agents.evaluate import evaluate
from agents.log import Interrupted, Log
from agents.rollout import Rollout
from agents.sb3 import ALGORITHMS, DESCRIPTION, MODEL, SB3Agent, load_policy, policy_class
from agents.sb3_train import SB3Config, TurnLimitEnds, make_envs, train
from mentor_gym import cli
from mentor_gym.rewards.mentor import MentorReward
from mentor_gym.suites import load_suite
from mentor_gym.wrappers import MenuWrapper

TILL = str(Path(__file__).parent / "till_suite" / "suite.yaml")
# A rollout ends in the middle of episodes, or a resumed run would show little.
TINY: dict[str, Any] = {
    "num_envs": 3, "rollout_length": 7, "batch_size": 7, "steps": 4, "eval_every": 2, "eval_tasks": 5,
    "save_every": 1, "hidden": [8], "buckets": 16, "max_turns": 4, "where": {"calls": 1},
}  # fmt: skip

pytest.importorskip("sb3_contrib")


class Crash(BaseException):
    """Stands for `kill -9` where no process of its own is needed."""


def make_config(output: Path, **options: Any) -> SB3Config:
    return SB3Config(**{**TINY, "output": str(output), **options})


def read(output: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["env_steps_per_s"]
    return rows


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_policy(folder).network.state_dict()
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A policy of each algorithm and style, hardly trained."""
    return {
        (algorithm, style): train(
            make_config(
                tmp_path_factory.mktemp(algorithm) / style, algorithm=algorithm, style=style, steps=2, eval_every=0
            ),
            progress=False,
        )
        for algorithm in ALGORITHMS
        for style in ("multidiscrete", "discrete")
    }


KINDS = list(itertools.product(ALGORITHMS, ("multidiscrete", "discrete")))


# Training


@pytest.mark.parametrize(("algorithm", "style"), KINDS)
def test_training_writes_metrics_and_checkpoints(tmp_path: Path, algorithm: str, style: str) -> None:
    output = tmp_path / "run"
    final = train(make_config(output, algorithm=algorithm, style=style), progress=False)
    assert final == output / "final"
    rows = read(output)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row["env_steps"] for row in rows] == [21, 42, 63, 84]
    figures = {
        "reward",
        "success",
        "turns",
        "episodes",
        "approx_kl",
        "entropy_loss",
        "value_loss",
        "learning_rate",
    }
    assert figures <= rows[0].keys()
    assert ["valid/success" in row for row in rows] == [False, True, False, True]
    assert sorted(path.name for path in output.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    assert list(output.glob("events.out.tfevents.*"))
    assert not list(output.glob(".partial-*"))
    stages = [weights(path) for path in (output / "checkpoint-2", output / "checkpoint-3", final)]
    assert not any(same(a, b) for a, b in itertools.pairwise(stages))


@pytest.mark.parametrize("suite", ["facts", TILL])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_other_suites_train_too(tmp_path: Path, suite: str, algorithm: str) -> None:
    options = {"suite": suite, "algorithm": algorithm, "where": {}, "eval_split": "train", "steps": 2}
    final = train(make_config(tmp_path / "run", **options), progress=False)
    result = evaluate(load_agent(str(final)), suite, "train", tasks=4)
    assert result["tasks"] == 4


def test_figures_are_those_of_the_episodes_that_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted apart from the loop, from what the environments return."""
    ends: list[tuple[float, int, bool]] = []
    step = TurnLimitEnds.step

    def record(self: Any, action: Any) -> Any:
        self.total, self.turns = getattr(self, "total", 0.0), getattr(self, "turns", 0)
        result = step(self, action)
        self.total, self.turns = self.total + result[1], self.turns + 1
        if result[2]:
            ends.append((self.total, self.turns, result[4]["is_success"]))
            self.total, self.turns = 0.0, 0
        return result

    monkeypatch.setattr(TurnLimitEnds, "step", record)
    train(make_config(tmp_path / "run", reward="mentor", dense=True, eval_every=0), progress=False)
    rows = read(tmp_path / "run")
    assert sum(row["episodes"] for row in rows) == len(ends) > 20
    taken = 0
    for row in rows:
        part = np.array(ends[taken : taken + row["episodes"]], float).mean(axis=0)
        # float32, as Stable-Baselines3 keeps rewards.
        assert [row["reward"], row["turns"], row["success"]] == pytest.approx(part.tolist(), abs=1e-6)
        taken += row["episodes"]


def test_the_turn_limit_is_an_end_and_pays_no_more(tmp_path: Path) -> None:
    """Stable-Baselines3 would add the value of the last observation, were the episode truncated."""
    envs = make_envs(make_config(tmp_path, max_turns=1, algorithm="sb3-maskable-ppo"))
    # It looks at every observation and every reward, here and in every run.
    assert isinstance(envs, VecCheckNan)
    envs.seed(0)
    envs.reset()
    multiply = envs.get_attr("menu")[0].tools.index("multiply")
    _, _, dones, infos = envs.step(np.array([[1 + multiply, 0, 0, 0]] * 3))
    assert dones.all()
    assert {info["stop_reason"] for info in infos} == {"turn_limit"}
    assert not any(info["TimeLimit.truncated"] for info in infos)
    plain = MenuWrapper(gym.make("MentorTool-v0", max_turns=1))
    plain.reset(seed=0)
    assert plain.step([1 + multiply, 0, 0, 0])[2:4] == (False, True)
    envs.close()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_masked_policies_never_do_what_the_mask_rules_out(tmp_path: Path, algorithm: str, trained: Any) -> None:
    with Rollout({"suite": "math", "where": {"calls": 1}, "max_turns": 4, "prompt": "compact"}) as rollout:
        played = rollout.run(SB3Agent(trained[algorithm, "multidiscrete"]), rollout.task_ids[:150], seed=0)
    calls = [pair for episode in played for pair in episode.transcript.calls()]
    unknown = sum(result.error == "unknown_tool" for _, result in calls)
    # Seven of nineteen tools are never on offer, and of the others a third is.
    assert unknown == 0 if algorithm == "sb3-maskable-ppo" else unknown > 0.3 * len(calls)
    blank = sum(episode.stop_reason == "no_answer" for episode in played)
    assert blank == 0 if algorithm == "sb3-maskable-ppo" else blank > 0


def test_a_reward_that_breaks_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: MentorReward, transcript: Any) -> dict[str, float]:
        raise RuntimeError("no reward today")

    monkeypatch.setattr(MentorReward, "__call__", refuse)
    with pytest.raises(
        ValueError, match=r"step 1: the reward broke .* task 'math-train-.*no reward today.*; no checkpoint"
    ):
        train(make_config(tmp_path / "run"), progress=False)
    assert not (tmp_path / "run" / "metrics.jsonl").read_text()
    train(make_config(tmp_path / "free", max_reward_errors=1.0, steps=1), progress=False)
    assert read(tmp_path / "free")[0]["reward_errors"] == 1.0


def test_weights_that_are_not_finite_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, _ = policy_class("sb3-ppo")
    update = learner.train
    calls = itertools.count(1)

    def spoil(self: Any) -> None:
        update(self)
        if next(calls) == 3:
            with torch.no_grad():
                self.policy.action_net.bias[0] = torch.nan

    monkeypatch.setattr(learner, "train", spoil)
    with pytest.raises(
        FloatingPointError, match=r"step 3: the policy's weights are not finite; .*checkpoint-2 is"
    ):
        train(make_config(tmp_path / "run"), progress=False)
    assert [row["step"] for row in read(tmp_path / "run")] == [1, 2]


def test_a_linear_schedule_falls_to_nothing(tmp_path: Path) -> None:
    train(make_config(tmp_path / "run", schedule="linear", learning_rate=0.4, eval_every=0), progress=False)
    rates = [row["learning_rate"] for row in read(tmp_path / "run")]
    # Stable-Baselines3 takes the rate after the rollout: of the last one nothing is left.
    assert rates == pytest.approx([0.3, 0.2, 0.1, 0.0])


def test_a_learning_rate_of_zero_learns_nothing(tmp_path: Path) -> None:
    train(make_config(tmp_path / "run", learning_rate=0.0, keep_checkpoints=3, eval_every=0), progress=False)
    first, last = (weights(tmp_path / "run" / name) for name in ("checkpoint-1", "final"))
    assert same(first, last)


# Stopping and going on


@pytest.fixture
def die_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Arrange that a run dies while it writes the line of a step; None for never."""
    deadly: list[int | None] = [None]
    write = Log.write

    def dying(self: Log, record: dict[str, Any]) -> None:
        if record["step"] == deadly[0]:
            self._file.write('{"step": 3, "rew')
            raise Crash
        write(self, record)

    monkeypatch.setattr(Log, "write", dying)
    return lambda step: deadly.__setitem__(0, step)


CASES: dict[str, dict[str, Any]] = {
    "ppo": {},
    "maskable": {"algorithm": "sb3-maskable-ppo"},
    "discrete": {"algorithm": "sb3-maskable-ppo", "style": "discrete"},
    "dense": {"dense": True, "max_turns": 8, "algorithm": "sb3-maskable-ppo"},
    "linear": {"schedule": "linear", "epochs": 2},
    "tools with state": {"suite": TILL, "where": {}, "eval_every": 0},
}


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_equals_one_that_was_never_stopped(
    tmp_path: Path, name: str, die_in: Callable[[int | None], None]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = {"seed": 3, "save_every": 2, **CASES[name]}
    train(make_config(whole, **options), progress=False)
    expected = read(whole)
    assert len({row["loss"] for row in expected}) == 4

    die_in(3)
    with pytest.raises(Crash):
        train(make_config(parts, **options), progress=False)
    assert [path.name for path in checkpoint.list_checkpoints(parts)] == ["checkpoint-2"]
    # An environment is in the middle of an episode, and has paid for it where it pays; or it would show little.
    state = checkpoint.read_state(parts / "checkpoint-2")
    assert max(state["lengths"]) > 0
    assert (max(state["returns"]) > 0) == (name == "dense")
    die_in(None)
    # Whatever the process has drawn in between.
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    train(make_config(parts, **options), resume=True, progress=False)
    assert read(parts) == expected
    assert same(weights(whole / "final"), weights(parts / "final"))
    a, b = (checkpoint.read_state(path / "final") for path in (whole, parts))
    for state in (a, b):
        # They were written to different folders.
        del state["config"]
    assert repr(a) == repr(b)


def test_a_finished_run_is_not_repeated_but_can_go_on(tmp_path: Path) -> None:
    output = tmp_path / "run"
    train(make_config(output, steps=1), progress=False)
    with pytest.raises(ConfigError, match=r"already holds a run; resume it"):
        train(make_config(output, steps=1), progress=False)
    with pytest.raises(ConfigError, match=r"seed: the run in .* was started with 0, it cannot be resumed with 1"):
        train(make_config(output, steps=1, seed=1), resume=True, progress=False)
    assert train(make_config(output, steps=1), resume=True, progress=False) == output / "final"
    assert len(read(output)) == 1
    train(make_config(output, steps=3), resume=True, progress=False)
    assert [row["step"] for row in read(output)] == [1, 2, 3]
    with pytest.raises(ConfigError, match=r"steps: the run in .* has done 3 already, more than 1"):
        train(make_config(output, steps=1), resume=True, progress=False)
    linear = tmp_path / "linear"
    train(make_config(linear, steps=1, schedule="linear"), progress=False)
    with pytest.raises(ConfigError, match=r"steps: .* was started with 1, it cannot be resumed with 2"):
        train(make_config(linear, steps=2, schedule="linear"), resume=True, progress=False)


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for output in (whole, parts):
        train(make_config(output, eval_every=0), progress=False)
    shutil.rmtree(parts / "final")
    os.truncate(parts / "checkpoint-3" / MODEL, 1000)
    with pytest.warns(UserWarning, match=r"checkpoint-3 is damaged \(model.zip has 1000 bytes"):
        train(make_config(parts, eval_every=0), resume=True, progress=False)
    assert read(parts) == read(whole)
    assert same(weights(whole / "final"), weights(parts / "final"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_after_its_step_with_a_checkpoint(
    tmp_path: Path, number: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Log.write

    def interrupt(self: Log, record: dict[str, Any]) -> None:
        write(self, record)
        if record["step"] == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Log, "write", interrupt)
    with pytest.raises(Interrupted, match=r"stopped after step 2; .*checkpoint-2 is the newest") as raised:
        train(make_config(tmp_path / "run", save_every=0), progress=False)
    assert raised.value.exit_code == code
    monkeypatch.undo()
    train(make_config(tmp_path / "run", save_every=0), resume=True, progress=False)
    assert [row["step"] for row in read(tmp_path / "run")] == [1, 2, 3, 4]


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    with checkpoint.lock(tmp_path), pytest.raises(checkpoint.CheckpointError, match="another process is training"):
        train(make_config(tmp_path), progress=False)


# Configuration


@pytest.mark.parametrize("name", ALGORITHMS)
def test_shipped_configurations_load(name: str) -> None:
    assert list_shipped([name]) == [name]
    config = read_config(SB3Config, name)
    assert config.algorithm == name
    assert config.where == {"calls": 1}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=3", "unknown key 'stepz'; did you mean 'steps'?"),
        ("where=calls", "where: expected a mapping, got 'calls'"),
        ("hidden=64", "hidden: expected a list, got 64"),
        ("hidden=[64, wide]", "hidden: expected a whole number, got 'wide'"),
        ("hidden=[0]", "hidden: widths must be at least 1, got [0]"),
        ("constants=[two]", "constants: expected a number, got 'two'"),
        ("batch_size=100", "batch_size: must divide num_envs * rollout_length (1024), got 100"),
        ("style=discretely", "style: expected one of multidiscrete, discrete, got 'discretely'; did you mean"),
        ("steps=0", "steps: must be at least 1, got 0"),
        ("gamma=1.1", "gamma: must be between 0 and 1, got 1.1"),
        ("learning_rate=.nan", "learning_rate: must be at least 0, got nan"),
        ("clip_range=0", "clip_range: must be more than 0, got 0.0"),
        ("algorithm=ppo", "algorithm: expected one of sb3-ppo, sb3-maskable-ppo, got 'ppo'; did you mean"),
    ],
)
def test_wrong_settings_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config(SB3Config, "sb3-ppo", [override])
    assert str(raised.value).startswith(f"override {override!r}: ")
    assert message in str(raised.value)


def test_lists_and_mappings_are_read() -> None:
    overrides = ["hidden=[32, 16]", "constants=[2, 0.5, 1e-2]", "where={calls: [1, 2], kind: gain}"]
    config = read_config(SB3Config, None, overrides)
    assert (config.hidden, config.constants) == ([32, 16], [2.0, 0.5, 0.01])
    assert config.where == {"calls": [1, 2], "kind": "gain"}
    assert {type(constant) for constant in config.constants} == {float}


def test_wrong_names_are_refused_before_anything_runs(tmp_path: Path) -> None:
    for options, message in (
        ({"split": "trian"}, "has no split 'trian'"),
        ({"eval_split": "valdi"}, "has no split 'valdi'"),
        ({"where": {"cals": 1}}, "no task has the meta field 'cals'"),
        ({"reward": "mentr"}, "unknown reward 'mentr'"),
        ({"numbers": 0}, "numbers must be a whole number of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            train(make_config(tmp_path / "run", **options), progress=False)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


# Agents


@pytest.mark.parametrize(("algorithm", "style"), KINDS)
def test_an_agent_sees_and_does_what_the_wrapped_environment_says(
    algorithm: str, style: str, trained: Any
) -> None:
    """Features, masks and turns of an agent that is handed texts equal those of a menu around the environment."""
    folder = trained[algorithm, style]
    agent = SB3Agent(folder, temperature=0)
    learner, _ = policy_class(algorithm)
    model = learner.load(folder / MODEL, device="cpu")
    options = {"suite": "math", "split": "valid", "max_turns": 4, "prompt": "full"}
    env = MenuWrapper(gym.make("MentorTool-v0", **options), style=style, buckets=16)
    assert agent.policy.menu.settings == env.menu.settings
    for number, task in enumerate(list(env.unwrapped.tasks)[:40]):  # type: ignore[attr-defined]
        observation, info = env.reset(options={"task_id": task.id})
        text, turn, ended = info["observation_text"], 0, False
        while not ended:
            written = agent.act([Observation(text, [], episode=number, turn=turn)])[0].text
            reading = agent._episodes[number].reading
            assert (agent.policy.menu.features(reading) == observation).all()
            assert (agent.policy.menu.mask(reading) == env.action_masks()).all()
            masks = {"action_masks": env.action_masks()} if algorithm == "sb3-maskable-ppo" else {}
            action, _ = model.predict(observation, deterministic=True, **masks)
            observation, _, terminated, truncated, info = env.step(action)
            assert info["action_text"] == written
            text, turn, ended = info["observation_text"], turn + 1, terminated or truncated
        agent.forget(number)
    assert agent._episodes == {}


def test_an_episode_does_not_depend_on_its_batch(trained: Any) -> None:
    folder = trained["sb3-maskable-ppo", "multidiscrete"]
    turns = []
    for max_live in (1, 16):
        with Rollout({"suite": "math", "split": "valid", "max_turns": 4}, max_live) as rollout:
            played = rollout.run(SB3Agent(folder, seed=1), rollout.task_ids[:30], seed=5)
        turns.append([[turn.text for turn in episode.transcript.turns] for episode in played])
    assert turns[0] == turns[1]
    with Rollout({"suite": "math", "split": "valid", "max_turns": 4}) as rollout:
        others = rollout.run(SB3Agent(folder, seed=2), rollout.task_ids[:30], seed=5)
    assert turns[0] != [[turn.text for turn in episode.transcript.turns] for episode in others]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_actions_are_drawn_as_the_policy_says(temperature: float, trained: Any) -> None:
    agent = SB3Agent(trained["sb3-ppo", "multidiscrete"], temperature=temperature)
    rng = np.random.default_rng(0)
    logits = np.array([-np.inf, 0.0, 1.0, -np.inf, -2.0, -np.inf])
    counts = np.bincount([agent._choose(logits, rng) for _ in range(20_000)], minlength=6) / 20_000
    expected = np.exp(logits / temperature)
    # Five standard deviations of a share of 20,000 draws.
    assert counts == pytest.approx(expected / expected.sum(), abs=5 * 0.5 / 20_000**0.5)
    assert counts[[0, 3, 5]].tolist() == [0, 0, 0]
    assert SB3Agent(agent.policy, temperature=0)._choose(logits, rng) == 2


def test_agents_load_by_name_and_by_folder(trained: Any, tmp_path: Path) -> None:
    masked, plain = (trained[algorithm, "multidiscrete"] for algorithm in reversed(ALGORITHMS))
    assert set(ALGORITHMS) <= set(AGENTS)
    for name, folder in (("sb3-maskable-ppo", masked), ("sb3-ppo", plain)):
        for agent in (load_agent(name, folder=folder, temperature=0.5, seed=3), load_agent(str(folder))):
            assert isinstance(agent, SB3Agent)
            assert agent.name == name
    with pytest.raises(AgentError, match=r"holds an agent of sb3-ppo, not of sb3-maskable-ppo"):
        load_agent("sb3-maskable-ppo", folder=plain)
    with pytest.raises(AgentError, match=r"agent 'sb3-ppo': missing a required argument: 'folder'"):
        load_agent("sb3-ppo")
    with pytest.raises(AgentError, match=r"holds no Stable-Baselines3 agent: sb3.json: No such file"):
        load_agent("sb3-ppo", folder=tmp_path)
    with pytest.raises(ValueError, match="temperature must be a number of at least 0, got -1"):
        SB3Agent(plain, temperature=-1)


def test_broken_folders_are_refused_with_their_file(trained: Any, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    for file, content, message in (
        (DESCRIPTION, b"{", r"sb3.json cannot be read"),
        (DESCRIPTION, b'{"algorithm": "dqn", "hidden": [], "menu": {"schemas": []}}', "at least one tool"),
        (MODEL, b"no zip", r"model.zip cannot be read"),
    ):
        shutil.copytree(trained["sb3-ppo", "multidiscrete"], folder)
        (folder / file).write_bytes(content)
        with pytest.raises(AgentError, match=message):
            SB3Agent(folder)
        shutil.rmtree(folder)


def test_loading_draws_from_no_generator_and_unpickles_nothing(trained: Any, monkeypatch: Any) -> None:
    import cloudpickle

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(cloudpickle, "loads", refuse)
    state = torch.get_rng_state()
    SB3Agent(trained["sb3-maskable-ppo", "multidiscrete"])
    assert torch.equal(torch.get_rng_state(), state)


def test_without_sb3_contrib_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, trained: Any, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    message = r"sb3-maskable-ppo needs sb3-contrib, .*: pip install 'mentor-gym\[sb3\]'; sb3-ppo does without"
    with pytest.raises(AgentError, match=message):
        train(make_config(tmp_path / "run", algorithm="sb3-maskable-ppo"), progress=False)
    with pytest.raises(AgentError, match=message):
        SB3Agent(trained["sb3-maskable-ppo", "multidiscrete"])
    assert isinstance(SB3Agent(trained["sb3-ppo", "multidiscrete"]), SB3Agent)


def test_tasks_of_an_evaluation_can_be_chosen(trained: Any) -> None:
    agent = SB3Agent(trained["sb3-ppo", "multidiscrete"], temperature=0)
    result = evaluate(agent, "math", "valid", where={"calls": 1})
    assert result["where"] == {"calls": 1}
    assert result["tasks"] == len(load_suite("math").tasks("valid").where({"calls": 1})) == 121
    assert list(result["by_calls"]) == ["1"]
    assert "where" not in evaluate(agent, "math", "valid", tasks=2)


# The command line


def smoke(output: Path) -> list[str]:
    settings = {key: value for key, value in TINY.items() if key not in ("where", "hidden")}
    return [*(f"{key}={value}" for key, value in settings.items()), "hidden=[8]", f"output={output}"]


def test_the_command_line_trains_resumes_and_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    assert cli.main(["train", "--agent", "sb3-maskable-ppo", *smoke(output)]) == 0
    captured = capsys.readouterr()
    assert f"mentor-gym eval {output / 'final'} --where calls=1\n" in captured.out
    assert "step 4/4  reward" in captured.err
    assert cli.main(["train", "--agent", "sb3-maskable-ppo", *smoke(output), "steps=5", "--resume"]) == 0
    assert [row["step"] for row in read(output)] == [1, 2, 3, 4, 5]
    result = tmp_path / "result.json"
    words = ["eval", str(output / "final"), "--split", "valid", "--where", "calls=1", "--max-turns", "4"]
    assert cli.main([*words, "--json", str(result)]) == 0
    (found,) = json.loads(result.read_text())
    assert (found["tasks"], found["where"]) == (121, {"calls": 1})
    # Greedy, as the log of the run measured it.
    assert (
        found["pass@1"]
        == evaluate(SB3Agent(output / "final", temperature=0), "math", "valid", max_turns=4, where={"calls": 1})[
            "pass@1"
        ]
    )


@pytest.mark.parametrize(
    ("words", "algorithm"),
    [
        (["sb3-maskable-ppo"], "sb3-maskable-ppo"),
        (["--agent", "sb3-ppo"], "sb3-ppo"),
        (["mine.yaml", "--agent", "sb3-maskable-ppo"], "sb3-maskable-ppo"),
        (["--agent", "sb3-maskable-ppo", "mine.yaml", "seed=2"], "sb3-maskable-ppo"),
    ],
)
def test_a_policy_is_trained_by_name_or_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], algorithm: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("algorithm: sb3-ppo\nsuite: facts\nseed: 1\n")
    seen: list[SB3Config] = []

    def note(config: SB3Config, resume: bool = False) -> Path:
        seen.append(config)
        return tmp_path

    monkeypatch.setattr(sb3_train, "train", note)
    assert cli.main(["train", *words]) == 0
    (config,) = seen
    expected = ("facts", 1 + ("seed=2" in words)) if "mine.yaml" in words else ("math", 0)
    assert (config.algorithm, config.suite, config.seed) == (algorithm, *expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "name a configuration, or an agent"),
        (
            ["train", "--agent", "sb3-pop"],
            "--agent 'sb3-pop' cannot be trained; sb3-ppo and sb3-maskable-ppo can; did",
        ),
        (["train", "--agent", "sb3-ppo", "stepz=1"], "unknown key 'stepz'; did you mean 'steps'?"),
        (["train", "--agent", "sb3-ppo", "gone.yaml"], "gone.yaml: no such file"),
        (["eval", "teacher", "--where", "calls"], "--where 'calls': expected key=value"),
        (["eval", "teacher", "--where", "cals=1"], "no task has the meta field 'cals'; there are"),
    ],
)
def test_errors_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    assert message in captured


def test_an_interrupted_command_says_how_to_go_on(tmp_path: Path) -> None:
    """A process of its own, stopped by Ctrl-C in the middle of its training."""
    output = tmp_path / "run"
    words = ["train", "--agent", "sb3-ppo", *smoke(output), "steps=100000", "eval_every=0", "save_every=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mentor_gym.cli", *words], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    deadline = time.monotonic() + 60
    while not (output / "metrics.jsonl").exists() or not (output / "metrics.jsonl").stat().st_size:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with: mentor-gym train" in err
    assert "--agent sb3-ppo --resume" in err
    assert checkpoint.find_newest(output) is not None


# Learning


def success(agent: Any, split: str, **options: Any) -> float:
    return float(evaluate(agent, "math", split, max_turns=4, where={"calls": 1}, **options)["pass@1"])


def untrained(tmp_path: Path, algorithm: str) -> SB3Agent:
    overrides = ["learning_rate=0", "steps=1", "eval_every=0", f"output={tmp_path / 'control'}"]
    return SB3Agent(train(read_config(SB3Config, algorithm, overrides), progress=False))


def test_a_masked_policy_learns(tmp_path: Path) -> None:
    """A fifth of the shipped run: from chance to most tasks, against a control whose learning rate is zero."""
    control = success(untrained(tmp_path, "sb3-maskable-ppo"), "train", tasks=300)
    overrides = ["steps=25", "eval_every=0", "save_every=0", f"output={tmp_path / 'run'}"]
    final = train(read_config(SB3Config, "sb3-maskable-ppo", overrides), progress=False)
    assert control < 0.15
    assert success(SB3Agent(final), "train", tasks=300) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("seed", [11, 12])
def test_the_shipped_configurations_solve_tasks_of_one_call(tmp_path: Path, algorithm: str, seed: int) -> None:
    control = untrained(tmp_path, algorithm)
    overrides = [f"seed={seed}", "eval_every=0", f"output={tmp_path / 'run'}"]
    final = train(read_config(SB3Config, algorithm, overrides), progress=False)
    found = {
        (split, temperature): success(SB3Agent(final, temperature=temperature), split)
        for split in ("train", "valid")
        for temperature in (0.0, 1.0)
    }
    assert success(control, "train") < 0.15
    assert min(found["train", 0.0], found["train", 1.0]) > 0.9, found
    # Held out are numbers and one wording of each kind, which is a tenth of the tasks.
    assert min(found["valid", 0.0], found["valid", 1.0]) > 0.7, found


def test_configurations_are_plain_data() -> None:
    config = read_config(SB3Config, "sb3-ppo")
    assert SB3Config(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
