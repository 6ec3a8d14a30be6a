"""The training loop, on a random model of a few thousand parameters: what it does, and how a run goes on."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import make_model, make_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from agents import checkpoint
from agents import train as training
from agents.checkpoint import CheckpointError
from agents.config import ConfigError, TrainConfig
from agents.log import Interrupted, Log, StopSignals
from agents.lora import has_lora
from agents.rollout import Rollout
from agents.train import TaskOrder, main, train
from agents.trajectory import Trajectory
from mentor_gym.rewards import make_reward
from mentor_gym.transcripts import read_transcripts


class Crash(BaseException):
    """Stands for `kill -9` where no process of its own is needed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model")
    make_model(max_position_embeddings=2048).save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    return str(path)


def make_config(folder: str, output: Path, **options: Any) -> TrainConfig:
    settings = {
        "model": folder, "output": str(output), "steps": 4, "tasks_per_step": 2, "group_size": 3, "max_turns": 2,
        "max_new_tokens": 6, "eval_every": 2, "eval_tasks": 3, "save_every": 1, "learning_rate": 1e-2,
        # The outcome of a random model is always the same; a group needs some difference to learn from.
        "reward": "sparse",
    }  # fmt: skip
    return TrainConfig(**{**settings, **options})


def read(output: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["tokens_per_s"]
    return rows


def weights(model: str | Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(model).state_dict())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


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

    def arm(step: int | None) -> None:
        deadly[0] = step

    return arm


class Paying(Rollout):
    """A rollout that pays what a test wants, at the end of the first turn.

    Attributes:
        pay: From an episode and its position in its group to its reward.
        calls: The tasks of each call of `run`.
    """

    # By what was sampled: what a random model is paid by real rewards hardly ever differs within a group.
    pay = staticmethod(lambda episode, position: sum(sampled(episode)) % 5 / 4)
    calls: list[list[str]] = []  # noqa: RUF012

    def run(self, agent: Any, task_ids: Sequence[str], seed: int | None = None) -> list[Trajectory]:
        played = super().run(agent, task_ids, seed)
        self.calls.append(list(dict.fromkeys(task_ids)))
        for number, episode in enumerate(played):
            reward = float(self.pay(episode, number % list(task_ids).count(episode.task_id)))
            episode.turn_rewards = [reward] + [0.0] * (len(episode.turn_rewards) - 1)
            end = (
                episode.action_mask.index(False, episode.action_mask.index(True))
                if episode.turn_rewards[1:]
                else 0
            )
            episode.rewards = [reward * (i == end - 1) for i in range(len(episode.token_ids))]
            if not end:
                episode.rewards[-1] = reward
        return played


def sampled(episode: Trajectory) -> list[int]:
    return [token for token, action in zip(episode.token_ids, episode.action_mask) if action]


@pytest.fixture
def rewards(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Have the episodes of training, not of evaluations, paid by a function; returns `Paying.calls`."""

    def arrange(pay: Callable[[Trajectory, int], float] = Paying.pay) -> list[list[str]]:
        chosen = type("Chosen", (Paying,), {"pay": staticmethod(pay), "calls": []})
        monkeypatch.setattr(training, "Rollout", chosen)
        return chosen.calls

    return arrange


def test_tasks_are_passed_through_in_a_new_order_each_time() -> None:
    ids = [f"t{i}" for i in range(10)]
    order = TaskOrder(ids, seed=1)
    first = [task for _ in range(5) for task in order.take(2)]
    second = order.take(4) + order.take(0) + order.take(6)
    assert sorted(first) == sorted(second) == ids
    assert first != second
    assert TaskOrder(ids, seed=2).take(4) != first[:4]
    # A stream: how it is cut into steps does not matter.
    assert TaskOrder(ids, seed=1).take(20) == first + second


def test_a_task_order_goes_on_where_it_was_and_only_with_its_tasks() -> None:
    ids = [f"t{i}" for i in range(10)]
    order = TaskOrder(ids, seed=1)
    order.take(7)
    resumed = TaskOrder(ids, seed=1)
    resumed.load_state_dict(order.state_dict())
    assert resumed.take(9) == order.take(9)
    with pytest.raises(ConfigError, match="split: its tasks have changed"):
        TaskOrder([*ids[:-1], "new"], seed=1).load_state_dict(order.state_dict())


@pytest.mark.parametrize("algorithm", ["grpo", "ppo", "sft"])
def test_training_writes_metrics_and_models(folder: str, tmp_path: Path, algorithm: str, rewards: Any) -> None:
    rewards()
    output = tmp_path / "run"
    final = train(make_config(folder, output, algorithm=algorithm), progress=False)
    assert final == output / "final"
    rows = read(output)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    keys = {"reward", "success", "tool_f1", "tokens", "loss", "grad_norm"}
    assert keys <= rows[0].keys()
    assert ["valid/success" in row for row in rows] == [False, True, False, True]
    assert sorted(path.name for path in output.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    assert list(output.glob("events.out.tfevents.*"))
    assert not list(output.glob(".partial-*"))
    assert max(row["grad_norm"] for row in rows) > 0
    stages = [weights(path) for path in (folder, output / "checkpoint-2", output / "checkpoint-3", final)]
    assert not any(same(a, b) for a, b in itertools.pairwise(stages))
    if algorithm != "sft":
        # Sampler and learner agree at every step, so the sampler has noticed that the weights have changed.
        assert max(row["log_ratio"] for row in rows) < 1e-4
    assert len(AutoTokenizer.from_pretrained(final)) == len(make_tokenizer())


CASES: dict[str, dict[str, Any]] = {
    "sft": {"algorithm": "sft"},
    "sft, cosine": {"algorithm": "sft", "schedule": "cosine", "warmup_steps": 1},
    "grpo": {"epochs": 2, "kl_coef": 0.1},
    "grpo, linear": {"schedule": "linear", "minibatches": 2},
    "grpo, dynamic sampling": {"dynamic_sampling": True, "tasks_per_step": 3, "group_size": 2},
    "grpo, lora": {"lora_rank": 2},
    "ppo": {"algorithm": "ppo"},
    "ppo, lora": {"algorithm": "ppo", "lora_rank": 2},
}


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_equals_one_that_was_never_stopped(
    folder: str, tmp_path: Path, name: str, die_in: Callable[[int | None], None], rewards: Any
) -> None:
    rewards()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = {"seed": 3, "save_every": 2, **CASES[name]}
    train(make_config(folder, whole, **options), progress=False)
    expected = read(whole)
    # Learning happens before and after the checkpoint, or the test would show little.
    assert max(row.get("grad_norm", 0) for row in expected[:2]) > 0
    assert max(row.get("grad_norm", 0) for row in expected[2:]) > 0
    if CASES[name].get("dynamic_sampling"):
        assert max(row["refills"] for row in expected) > 0

    die_in(3)
    with pytest.raises(Crash):
        train(make_config(folder, parts, **options), progress=False)
    assert [path.name for path in checkpoint.list_checkpoints(parts)] == ["checkpoint-2"]
    die_in(None)
    train(make_config(folder, parts, **options), resume=True, progress=False)
    assert read(parts) == expected
    assert same(weights(whole / "final"), weights(parts / "final"))
    a, b = (checkpoint.read_state(path / "final") for path in (whole, parts))
    assert repr(a["learner"]) == repr(b["learner"])


def test_draws_from_the_global_generators_go_on_too(
    folder: str, tmp_path: Path, die_in: Callable[[int | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours draws from them, but a user's reward or tool may."""
    make_learner = training.make_learner
    draws: list[tuple[float, ...]] = []

    def make_drawing(*args: Any) -> Any:
        learner = make_learner(*args)
        update = learner.update

        def draw(groups: Any) -> Any:
            draws.append((random.random(), float(np.random.rand()), float(torch.rand(()))))  # noqa: NPY002
            return update(groups)

        learner.update = draw
        return learner

    monkeypatch.setattr(training, "make_learner", make_drawing)
    options = {"algorithm": "sft", "save_every": 2, "eval_every": 0}
    die_in(3)
    with pytest.raises(Crash):
        train(make_config(folder, tmp_path / "run", **options), progress=False)
    die_in(None)
    for generator in (random, np.random, torch):
        (generator.seed if generator is not torch else torch.manual_seed)(99)
    train(make_config(folder, tmp_path / "run", **options), resume=True, progress=False)
    # Steps 1, 2 and 3, then 3 again and 4.
    assert len(draws) == 5
    assert draws[3] == draws[2]
    assert draws[4] != draws[2]


def test_a_checkpoint_with_adapters_is_a_plain_model(folder: str, tmp_path: Path) -> None:
    final = train(make_config(folder, tmp_path / "run", algorithm="sft", lora_rank=2), progress=False)
    names = {path.name for path in final.iterdir()}
    assert "model.safetensors" in names
    assert not any("adapter" in name for name in names)
    before, after = weights(folder), weights(final)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("proj" in name for name in changed)
    assert not has_lora(AutoModelForCausalLM.from_pretrained(final))
    # The adapters alone are trained, so they alone are in the state, with two moments each.
    state = checkpoint.read_state(final)
    assert len(state["adapters"]) == 2 * len(changed)
    stored = sum(tensor.numel() for tensor in state["adapters"].values())
    assert stored < sum(tensor.numel() for tensor in after.values()) / 4


def test_weights_are_not_stored_twice(folder: str, tmp_path: Path) -> None:
    final = train(make_config(folder, tmp_path / "run", algorithm="sft", steps=1), progress=False)
    assert checkpoint.read_state(final)["adapters"] is None
    # AdamW's two moments and little else.
    ratio = (final / "training.safetensors").stat().st_size / (final / "model.safetensors").stat().st_size
    assert 1.8 < ratio < 2.3


def test_a_finished_run_is_not_repeated_but_can_go_on(folder: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    train(make_config(folder, output, steps=1), progress=False)
    with pytest.raises(ConfigError, match=r"already holds a run; resume it"):
        train(make_config(folder, output, steps=1), progress=False)
    with pytest.raises(ConfigError, match=r"seed: the run in .* was started with 0, it cannot be resumed with 1"):
        train(make_config(folder, output, steps=1, seed=1), resume=True, progress=False)
    assert train(make_config(folder, output, steps=1), resume=True, progress=False) == output / "final"
    assert len(read(output)) == 1
    train(make_config(folder, output, steps=2), resume=True, progress=False)
    assert [row["step"] for row in read(output)] == [1, 2]
    with pytest.raises(ConfigError, match=r"steps: the run in .* has done 2 already, more than 1"):
        train(make_config(folder, output, steps=1), resume=True, progress=False)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_that_ends_at_the_last_step_fixes_it(folder: str, tmp_path: Path, schedule: str) -> None:
    options = {"algorithm": "sft", "schedule": schedule, "eval_every": 0}
    train(make_config(folder, tmp_path / "run", steps=1, **options), progress=False)
    with pytest.raises(
        ConfigError, match=r"steps: .* was started with 1, it cannot be resumed with 2 \(its sched"
    ):
        train(make_config(folder, tmp_path / "run", steps=2, **options), resume=True, progress=False)


def test_an_extended_run_that_dies_goes_on_from_its_newest_checkpoint(folder: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    train(make_config(folder, output, steps=1), progress=False)
    shutil.copytree(output / "final", tmp_path / "first-end")
    train(make_config(folder, output), resume=True, progress=False)
    # As if it had died in step 4: the end of the first part is still there, older than the checkpoint of step 3.
    shutil.rmtree(output / "final")
    (tmp_path / "first-end").rename(output / "final")
    before = (output / "metrics.jsonl").read_text().splitlines()[:3]
    train(make_config(folder, output), resume=True, progress=False)
    after = (output / "metrics.jsonl").read_text().splitlines()
    # Times stand in the lines, so equal lines were not written again.
    assert after[:3] == before
    assert len(after) == 4


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(folder: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = {"algorithm": "sft", "eval_every": 0}
    train(make_config(folder, whole, **options), progress=False)
    train(make_config(folder, parts, **options), progress=False)
    shutil.rmtree(parts / "final")
    os.truncate(parts / "checkpoint-3" / "model.safetensors", 1000)
    with pytest.warns(UserWarning, match=r"checkpoint-3 is damaged \(model.safetensors has 1000 bytes"):
        train(make_config(folder, parts, **options), resume=True, progress=False)
    assert read(parts) == read(whole)
    assert same(weights(whole / "final"), weights(parts / "final"))
    names = ["checkpoint-2", "checkpoint-3", "damaged-checkpoint-3"]
    assert sorted(path.name for path in parts.glob("*checkpoint-*")) == names


def test_a_checkpoint_of_another_run_is_refused(folder: str, tmp_path: Path) -> None:
    options = {"algorithm": "sft", "eval_every": 0}
    train(make_config(folder, tmp_path / "a", **options), progress=False)
    train(make_config(folder, tmp_path / "b", seed=1, **options), progress=False)
    shutil.rmtree(tmp_path / "a" / "final")
    shutil.move(tmp_path / "b" / "final", tmp_path / "a" / "final")
    with pytest.raises(ConfigError, match=r"seed: the run in .*final was started with 1"):
        train(make_config(folder, tmp_path / "a", steps=5, **options), resume=True, progress=False)


def test_a_full_disk_ends_the_run_and_leaves_what_was_there(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    save_file = checkpoint.save_file
    calls = 0

    def fill(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(28, "No space left on device")
        save_file(*args)

    monkeypatch.setattr(checkpoint, "save_file", fill)
    options = {"algorithm": "sft", "eval_every": 0}
    with pytest.raises(CheckpointError, match=r"cannot write .*checkpoint-3: .*No space left"):
        train(make_config(folder, output, **options), progress=False)
    assert checkpoint.find_newest(output) == (output / "checkpoint-2", 2)
    train(make_config(folder, output, **options), resume=True, progress=False)
    assert [row["step"] for row in read(output)] == [1, 2, 3, 4]


def test_a_run_that_broke_off_before_its_first_step_binds_nobody(folder: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    with pytest.raises(ValueError, match="unknown reward 'mentr'"):
        train(make_config(folder, output, reward="mentr"), progress=False)
    train(make_config(folder, output, steps=1), resume=True, progress=False)
    assert len(read(output)) == 1


def test_wrong_names_are_refused_before_anything_runs(folder: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no split 'trian'"):
        train(make_config(folder, tmp_path / "a", split="trian"), progress=False)
    with pytest.raises(ValueError, match="unknown reward 'mentr'"):
        train(make_config(folder, tmp_path / "b", reward="mentr"), progress=False)


class Recorder:
    """A learner that records what it is given and learns nothing."""

    def __init__(self) -> None:
        self.optimizer = type("Optimizer", (), {"skipped": 0})()
        self.given: list[list[list[Any]]] = []

    def update(self, groups: list[list[Any]]) -> dict[str, float]:
        self.given.append(groups)
        return {"loss": 0.0}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    learner = Recorder()
    monkeypatch.setattr(training, "make_learner", lambda model, config: learner)
    return learner


def tasks_of(groups: list[list[Any]]) -> list[str]:
    return [group[0].task_id for group in groups]


def test_dynamic_sampling_plays_further_tasks_in_place_of_silent_groups(
    folder: str, tmp_path: Path, rewards: Any, recorder: Recorder
) -> None:
    order = TaskOrder(Rollout({"suite": "math", "split": "train"}).task_ids, 0).take(30)
    telling = set(order[1:30:2])
    calls = rewards(lambda episode, position: position == 0 and episode.task_id in telling)
    options = {"dynamic_sampling": True, "tasks_per_step": 4, "max_refills": 5, "eval_every": 0, "save_every": 0}
    train(make_config(folder, tmp_path / "run", steps=2, **options), progress=False)
    # By hand: of tasks 0-3 two have a signal, of 4-5 one, of 6 none, of 7 one.
    assert calls[:4] == [order[0:4], order[4:6], order[6:7], order[7:8]]
    assert tasks_of(recorder.given[0]) == [order[1], order[3], order[5], order[7]]
    assert all(len(group) == 3 for group in recorder.given[0])
    rows = read(tmp_path / "run")
    assert (rows[0]["refills"], rows[0]["dropped_groups"]) == (3, 4)
    # Over all 8 tasks that were played: half of them pay one of three episodes.
    assert rows[0]["reward"] == pytest.approx(1 / 6)
    # The next step goes on in the order: it plays no task twice.
    assert calls[4] == order[8:12]


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_a_step_without_any_signal_is_logged_and_changes_nothing(
    folder: str, tmp_path: Path, rewards: Any, algorithm: str
) -> None:
    rewards(lambda episode, position: 0.5)
    options = {"algorithm": algorithm, "dynamic_sampling": True, "max_refills": 1, "steps": 2, "eval_every": 0}
    final = train(make_config(folder, tmp_path / "run", **options), progress=False)
    rows = read(tmp_path / "run")
    assert [(row["refills"], row["dropped_groups"], row["reward"]) for row in rows] == [(1, 4, 0.5)] * 2
    assert same(weights(final), weights(folder))


def test_dynamic_sampling_ends_when_its_refills_are_used_up(
    folder: str, tmp_path: Path, rewards: Any, recorder: Recorder
) -> None:
    order = TaskOrder(Rollout({"suite": "math", "split": "train"}).task_ids, 0).take(30)
    calls = rewards(lambda episode, position: position == 0 and episode.task_id == order[2])
    options = {"dynamic_sampling": True, "tasks_per_step": 2, "max_refills": 1, "eval_every": 0}
    train(make_config(folder, tmp_path / "run", steps=2, **options), progress=False)
    assert calls == [order[0:2], order[2:4], order[4:6], order[6:8]]
    rows = read(tmp_path / "run")
    assert [(row["refills"], row["dropped_groups"]) for row in rows] == [(1, 3), (1, 4)]
    assert [tasks_of(groups) for groups in recorder.given] == [[order[2]], []]


def test_without_dynamic_sampling_silent_groups_are_the_learner_s_business(
    folder: str, tmp_path: Path, rewards: Any, recorder: Recorder
) -> None:
    calls = rewards(lambda episode, position: 0.5)
    train(make_config(folder, tmp_path / "run", steps=2, eval_every=0), progress=False)
    assert [tasks_of(groups) for groups in recorder.given] == calls
    assert not {"refills", "dropped_groups"} & read(tmp_path / "run")[0].keys()


def test_no_two_calls_of_a_run_share_a_seed_and_another_run_has_others(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorder: Recorder
) -> None:
    seeds: list[int] = []
    run = Rollout.run

    def noting(self: Rollout, agent: Any, task_ids: list[str], seed: int) -> Any:
        seeds.append(seed)
        played = run(self, agent, task_ids, seed)
        for episode in played:
            episode.turn_rewards = [0.0]
        return played

    monkeypatch.setattr(Rollout, "run", noting)
    options = {"dynamic_sampling": True, "max_refills": 2, "steps": 2, "eval_every": 0, "save_every": 0}
    for seed in (0, 1):
        train(make_config(folder, tmp_path / str(seed), seed=seed, **options), progress=False)
    assert len(set(seeds)) == len(seeds) == 12


def test_skipped_updates_are_named_and_never_saved(
    folder: str, tmp_path: Path, rewards: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    step = 0

    def pay(episode: Trajectory, position: int) -> float:
        nonlocal step
        step += position == 0
        # Two tasks a step: steps 2 and 3 are broken.
        return float("nan") if step in (3, 4, 5, 6) else float(position)

    rewards(pay)
    output = tmp_path / "run"
    config = make_config(folder, output, steps=6, save_every=2, eval_every=0, keep_checkpoints=9)
    train(config, progress=False)
    rows = read(output)
    assert [row["skipped"] for row in rows] == [0, 1, 2, 2, 2, 2]
    assert [row["loss"] is None for row in rows] == [False, True, True, False, False, False]
    err = capfd.readouterr().err
    assert [line for line in err.splitlines() if "skipped" in line] == [
        f"step {number}: an update was skipped, its loss or gradient was not finite" for number in (2, 3)
    ]
    # The checkpoint that was due after step 2 waited until step 4, when the next one was due.
    assert [path.name for path in checkpoint.list_checkpoints(output)] == ["checkpoint-4"]


def test_a_save_that_was_due_in_a_broken_step_is_made_up_for(folder: str, tmp_path: Path, rewards: Any) -> None:
    step = 0

    def pay(episode: Trajectory, position: int) -> float:
        nonlocal step
        step += position == 0
        return float("nan") if step in (3, 4) else float(position)

    rewards(pay)
    train(
        make_config(folder, tmp_path / "run", steps=6, save_every=2, eval_every=0, keep_checkpoints=9),
        progress=False,
    )
    names = [path.name for path in checkpoint.list_checkpoints(tmp_path / "run")]
    assert names == ["checkpoint-3", "checkpoint-4"]


def test_five_broken_updates_in_a_row_stop_the_run(folder: str, tmp_path: Path, rewards: Any) -> None:
    step = 0

    def pay(episode: Trajectory, position: int) -> float:
        nonlocal step
        step += position == 0
        return float("nan") if step > 2 else float(position)

    rewards(pay)
    output = tmp_path / "run"
    with pytest.raises(
        FloatingPointError, match=r"step 6: .* not finite .* 5 .* in a row.*checkpoint-1 is the newest"
    ):
        train(make_config(folder, output, steps=9, eval_every=0), progress=False)
    assert [row["step"] for row in read(output)] == [1, 2, 3, 4, 5]
    assert checkpoint.find_newest(output) == (output / "checkpoint-1", 1)
    assert all(tensor.isfinite().all() for tensor in weights(output / "checkpoint-1").values())


def test_weights_that_are_not_finite_are_never_saved(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_learner = training.make_learner

    def make_breaking(model: Any, config: TrainConfig) -> Any:
        learner = make_learner(model, config)
        update = learner.update
        steps = iter(range(1, 9))

        def break_a_weight(groups: Any) -> Any:
            metrics = update(groups)
            if next(steps) == 2:
                with torch.no_grad():
                    next(model.parameters())[0, 0] = float("inf")
            return metrics

        learner.update = break_a_weight
        return learner

    monkeypatch.setattr(training, "make_learner", make_breaking)
    output = tmp_path / "run"
    with pytest.raises(FloatingPointError, match=r"step 2: the model's weights are not finite; .*checkpoint-1 is"):
        train(make_config(folder, output, algorithm="sft", eval_every=0), progress=False)
    assert checkpoint.find_newest(output) == (output / "checkpoint-1", 1)
    with pytest.raises(FloatingPointError, match="no checkpoint was saved"):
        train(make_config(folder, tmp_path / "b", algorithm="sft", eval_every=0, save_every=0), progress=False)
    assert not (tmp_path / "b" / "final").exists()


@pytest.fixture
def signal_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Arrange that this process gets a signal while the line of a step is written."""
    write = Log.write

    def arm(step: int, number: int) -> None:
        def signalled(self: Log, record: dict[str, Any]) -> None:
            if record["step"] == step:
                os.kill(os.getpid(), number)
            write(self, record)

        monkeypatch.setattr(Log, "write", signalled)

    return arm


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_the_step_with_a_checkpoint(
    folder: str, tmp_path: Path, signal_in: Callable[[int, int], None], number: int, code: int
) -> None:
    before = signal.getsignal(number)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = {"algorithm": "sft", "eval_every": 0, "save_every": 0}
    train(make_config(folder, whole, **options), progress=False)
    signal_in(2, number)
    with pytest.raises(Interrupted, match=r"stopped after step 2; .*checkpoint-2 is the newest") as stopped:
        train(make_config(folder, parts, **options), progress=False)
    assert stopped.value.exit_code == code
    assert signal.getsignal(number) is before
    train(make_config(folder, parts, **options), resume=True, progress=False)
    assert read(parts) == read(whole)
    assert same(weights(whole / "final"), weights(parts / "final"))


def test_a_signal_in_the_last_step_lets_the_run_finish(
    folder: str, tmp_path: Path, signal_in: Callable[[int, int], None]
) -> None:
    signal_in(4, signal.SIGTERM)
    final = train(make_config(folder, tmp_path / "run", algorithm="sft", eval_every=0), progress=False)
    assert checkpoint.find_newest(tmp_path / "run") == (final, 4)


def test_a_second_signal_stops_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        assert stop.received == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt, match="stopped at once"):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert "once more stops at once" in capfd.readouterr().err


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.received == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            Interrupted("stopped after step 2; x is the newest checkpoint", signal.SIGTERM),
            143,
            "go on with --resume",
        ),
        (Interrupted("stopped at once", signal.SIGINT), 130, "interrupted: stopped at once"),
        (FloatingPointError("step 3: not finite"), 2, "error: step 3"),
        (CheckpointError("cannot write x"), 2, "error: cannot write x"),
    ],
)
def test_the_command_reports_how_a_run_ended(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(config: TrainConfig, resume: bool) -> None:
        raise error

    monkeypatch.setattr(training, "train", fail)
    with pytest.raises(SystemExit) as ended:
        main(["smoke"])
    assert ended.value.code == code
    assert message in capsys.readouterr().err


def drive() -> None:
    """Train in a forked process for each line of JSON on stdin, and print its exit status.

    Run in a process of its own, which imports everything once.
    """
    torch.set_num_threads(1)
    training.Rollout = Paying  # type: ignore[misc]
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                if job["fsync"]:
                    die_at_fsync(job["fsync"])
                train(TrainConfig(**job["config"]), resume=True, progress=False)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        if job["seconds"]:
            time.sleep(job["seconds"])
            # Harmless if it has finished: it keeps its number until it is waited for.
            os.kill(child, signal.SIGKILL)
        print(os.waitpid(child, 0)[1], flush=True)


def die_at_fsync(number: int) -> None:
    counter = itertools.count(1)
    fsync = os.fsync

    def dying(descriptor: int) -> None:
        if next(counter) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = dying


class Driver:
    """A process that runs `drive`."""

    def __init__(self) -> None:
        here = str(Path(__file__).parent)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": here}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import test_train; test_train.drive()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def train(self, config: TrainConfig, fsync: int = 0, seconds: float = 0.0) -> bool:
        """Train in a process that is killed at its n-th fsync, or after so many seconds; whether it finished."""
        job = {"config": dataclasses.asdict(config), "fsync": fsync, "seconds": seconds}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if line.strip() not in ("0", str(int(signal.SIGKILL))):
            self.process.kill()
            raise AssertionError(f"status {line!r}: {self.process.communicate()[1]}")
        return line.strip() == "0"


@pytest.fixture
def driver() -> Iterator[Driver]:
    made = Driver()
    yield made
    made.process.kill()
    made.process.communicate()


def kill_and_resume(
    folder: str, tmp_path: Path, driver: Driver, fsyncs: list[int], times: list[float], **options: Any
) -> None:
    """Kill a run again and again; it must lose what came after its newest checkpoint, and end as if nothing was.

    Args:
        folder: The model.
        tmp_path: Where to work.
        driver: Runs the training.
        fsyncs: For each kill, the fsync at which it comes.
        times: For each of the kills after them, when it comes, as a share of the time of the whole run.
        options: Settings of the run.
    """
    whole, output = tmp_path / "whole", tmp_path / "parts"
    config = make_config(folder, output, **options)
    started = time.perf_counter()
    assert driver.train(make_config(folder, whole, **options))
    duration = time.perf_counter() - started
    reached = killed = 0
    for kill in [*({"fsync": number} for number in fsyncs), *({"seconds": t * duration} for t in times)]:
        if driver.train(config, **kill):
            continue
        killed += 1
        # Looked at on a copy: looking renames what is damaged, and nothing may be.
        copy = tmp_path / f"copy-{killed}"
        shutil.copytree(output, copy)
        checkpoint.clean(copy)
        found = checkpoint.find_newest(copy)
        assert not list(copy.glob("damaged-*"))
        step = found[1] if found else 0
        metrics = output / "metrics.jsonl"
        lines = metrics.read_text().count("\n") if metrics.exists() else 0
        # Never back behind an earlier checkpoint; at most the step that was going on is lost.
        assert step >= max(reached, lines - 1)
        reached = step
    # The slowest moment of a busy machine may let a run finish before its time.
    assert killed >= len(fsyncs)
    assert reached > 0
    assert driver.train(config)
    assert read(output) == read(whole)
    assert same(weights(output / "final"), weights(whole / "final"))
    assert not list(output.glob(".partial-*"))
    assert not list(output.glob(".old-*"))


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_was_not(
    folder: str, tmp_path: Path, driver: Driver
) -> None:
    # Each attempt syncs config.yaml (twice), when resumed metrics.jsonl (twice), and for each step a line and a
    # checkpoint of about ten files. So: in a later checkpoint, in the first, while the metrics are cut, and at
    # moments that nobody chose.
    times = [random.Random(os.urandom(4)).uniform(0.1, 0.5) for _ in range(2)]
    kill_and_resume(folder, tmp_path, driver, [30, 9, 4], times, steps=12, eval_every=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ten_kills_at_random_moments_change_nothing(
    folder: str, tmp_path: Path, driver: Driver, name: str
) -> None:
    chance = random.Random(name)
    fsyncs = [3, 9, *(chance.randrange(2, 40) for _ in range(5))]
    times = [chance.uniform(0.05, 0.4) for _ in range(3)]
    kill_and_resume(folder, tmp_path, driver, fsyncs, times, **{"steps": 40, "eval_every": 0, **CASES[name]})


def test_a_token_budget_ends_a_run_after_the_step_that_spends_it(folder: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    train(make_config(folder, whole, steps=4), progress=False)
    tokens = [row["tokens"] for row in read(whole)]
    # One token more than two steps take, so that the third is the last.
    budget = sum(tokens[:2]) + 1
    short = tmp_path / "short"
    config = make_config(folder, short, steps=4, token_budget=budget)
    final = train(config, progress=False)
    rows = read(short)
    assert [row["tokens"] for row in rows] == tokens[:3]
    assert "valid/success" in rows[-1]
    assert checkpoint.read_state(final)["tokens"] == sum(tokens[:3])
    # It is finished, and goes on only with more to spend.
    assert train(config, resume=True, progress=False) == final
    assert len(read(short)) == 3
    train(dataclasses.replace(config, token_budget=0), resume=True, progress=False)
    assert [{**row, "valid/success": 0} for row in read(short)][3] == {**read(whole)[3], "valid/success": 0}
    assert same(weights(short / "final"), weights(whole / "final"))


def test_a_budget_that_was_lowered_below_what_is_spent_ends_a_resumed_run(folder: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    config = make_config(folder, output, steps=3, save_every=2)
    train(config, progress=False)
    shutil.rmtree(output / "final")
    lowered = dataclasses.replace(config, token_budget=1)
    final = train(lowered, resume=True, progress=False)
    assert [row["step"] for row in read(output)] == [1, 2]
    assert checkpoint.read_state(final)["tokens"] == sum(row["tokens"] for row in read(output))
    assert same(weights(final), weights(output / "checkpoint-2"))


def test_a_budget_needs_a_schedule_that_does_not_know_its_end() -> None:
    with pytest.raises(ConfigError, match="token_budget: needs schedule: constant"):
        TrainConfig(token_budget=100, schedule="linear")


def test_a_reward_that_changes_is_told_how_many_steps_are_done(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    original = Rollout.set_training_step

    def listening(self: Rollout, step: int) -> None:
        told.append(step)
        original(self, step)

    monkeypatch.setattr(Rollout, "set_training_step", listening)
    train(make_config(folder, tmp_path / "run", steps=3, save_every=1), progress=False)
    assert told == [0, 1, 2]


def test_episodes_are_kept_for_comparing_rewards(folder: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    config = make_config(folder, output, steps=5, transcripts_every=2)
    train(config, progress=False)
    kept = output / "transcripts"
    # Every second step, and the last.
    assert sorted(path.name for path in kept.iterdir()) == ["step-2", "step-4", "step-5"]
    episodes = read_transcripts(output)
    assert len(episodes) == 3 * 2 * 3
    groups: dict[str | None, list[str]] = {}
    for episode in episodes:
        groups.setdefault(episode.group, []).append(episode.transcript.task.id)
    assert all(len(ids) == 3 and len(set(ids)) == 1 for ids in groups.values())
    last = read_transcripts(kept / "step-5")
    paid = [sum(make_reward("sparse")(episode.transcript).values()) for episode in last]
    assert sum(paid) / len(paid) == pytest.approx(read(output)[-1]["reward"])
