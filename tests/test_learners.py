"""Learners and the training loop, on a random model of a few thousand parameters."""

from __future__ import annotations

import copy
import json
import random
import shutil

import pytest
import torch
from small_models import make_model, make_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from agents.base import Observation
from agents.config import ConfigError, TrainConfig
from agents.conversation import Conversation
from agents.grpo import GRPO
from agents.llm import LLMAgent
from agents.packed import action_logprobs
from agents.rollout import Rollout
from agents.sft import SFT, TeacherTokens
from agents.train import choose_tasks, train
from agents.trajectory import Batch, Trajectory
from mentor_gym.types import StopReason


def sample_groups(model, groups: int = 3, size: int = 4, turns: int = 2, seed: int = 0) -> list[list[Trajectory]]:
    """Groups of sampled conversations with prompts of different lengths and random rewards."""
    agent = LLMAgent((model, make_tokenizer()), max_new_tokens=9, seed=seed)
    agent.sampler.stop_ids |= set(range(0, 300, 10))
    chance = random.Random(seed)
    made = []
    for g in range(groups):
        prompt = "question" + "?" * 4 * g
        records = [Conversation() for _ in range(size)]
        for turn in range(turns):
            messages = [] if turn else [{"role": "user", "content": prompt}]
            observations = [Observation("r" * i, messages, 10 * g + i, turn) for i in range(size)]
            for record, completion in zip(records, agent.act(observations)):
                record.extend_observation(completion.prompt_ids)
                record.extend_action(completion.token_ids, completion.logprobs)
        made.append([make_trajectory(record, chance.random()) for record in records])
    return made


def make_trajectory(record: Conversation, reward: float) -> Trajectory:
    return Trajectory(
        "task", "policy", record.token_ids, record.action_mask, record.logprobs, [], {}, False,
        StopReason.ANSWER, [reward], None,
    )  # fmt: skip


def gradients(learner: GRPO, groups) -> list[torch.Tensor]:
    """The gradient of an update, taken just before it is applied."""
    found: list[torch.Tensor] = []
    adamw = learner.optimizer._adamw
    step = adamw.step
    adamw.step = lambda: found.extend(p.grad.clone() for p in learner.model.parameters())
    learner.update(groups)
    adamw.step = step
    return found


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def groups(model):
    return sample_groups(model)


def test_batch_shifts_by_one_token(groups):
    batch = Batch.from_groups(groups, share_prefix=False)
    row = groups[2][1]
    length = len(row.token_ids) - 1
    b = 2 * len(groups[0]) + 1
    assert batch.input_ids_BT[b, :length].tolist() == row.token_ids[:-1]
    assert batch.target_ids_BT[b, :length].tolist() == row.token_ids[1:]
    assert batch.action_mask_BT[b, :length].tolist() == row.action_mask[1:]
    assert batch.old_logprobs_BT[b, :length].tolist() == pytest.approx(row.logprobs[1:])
    assert batch.position_ids_BT[b, :length].tolist() == list(range(length))
    assert batch.attention_mask_BT[b].sum() == length
    assert not batch.action_mask_BT[b, length:].any()


def test_shared_prefix_is_taken_out_once(groups):
    plain, shared = Batch.from_groups(groups, share_prefix=False), Batch.from_groups(groups)
    assert shared.prefix_ids_GP.shape[1] > 0
    assert shared.input_ids_BT.shape[1] < plain.input_ids_BT.shape[1]
    assert shared.action_mask_BT.sum() == plain.action_mask_BT.sum()
    for b, g in enumerate(shared.group_B.tolist()):
        trajectory = [row for group in groups for row in group][b]
        prefix = shared.prefix_ids_GP[g, : shared.prefix_lengths_G[g]].tolist()
        rest = shared.input_ids_BT[b][shared.attention_mask_BT[b]].tolist()
        assert prefix + rest == trajectory.token_ids[:-1]
        assert shared.position_ids_BT[b, 0] == len(prefix)


def test_action_logprobs_are_the_sampled_ones(model, groups):
    for share in (True, False):
        batch = Batch.from_groups(groups, share)
        with torch.no_grad():
            logprobs = action_logprobs(model, batch)
        assert torch.allclose(logprobs, batch.old_logprobs_BT, atol=1e-4)
        assert not logprobs[~batch.action_mask_BT].any()


@pytest.mark.parametrize("aggregation", ["token", "sequence", "constant"])
@pytest.mark.parametrize("kl_coef", [0.0, 0.5])
def test_sharing_and_splitting_do_not_change_the_gradient(model, groups, aggregation, kl_coef):
    found = []
    for options in ({"share_prefix": False}, {}, {"max_batch_tokens": 150}, {"max_batch_tokens": 1}):
        trained = copy.deepcopy(model)
        learner = GRPO(trained, kl_coef=kl_coef, aggregation=aggregation, max_grad_norm=0.0, **options)
        if learner.reference is not None:
            # Away from the reference, where the penalty has a gradient.
            for parameter in learner.reference.parameters():
                parameter.mul_(1.2)
        found.append(gradients(learner, groups))
    for other in found[1:]:
        for a, b in zip(found[0], other):
            assert torch.allclose(a, b, atol=1e-5)
    assert max(float(gradient.abs().max()) for gradient in found[0]) > 1e-3


def test_first_update_has_ratio_one_and_raises_what_was_good(model, groups):
    trained = copy.deepcopy(model)
    learner = GRPO(trained, learning_rate=1e-3, kl_coef=0.0)
    metrics = learner.update(groups)
    assert metrics["clip_fraction"] == 0
    assert metrics["grad_norm"] > 0
    batch = Batch.from_groups(groups)
    with torch.no_grad():
        change = (action_logprobs(trained, batch) - batch.old_logprobs_BT).sum(dim=1)
    rewards = torch.tensor([row.total_reward for group in groups for row in group])
    means = torch.tensor([[row.total_reward for row in group] for group in groups]).mean(1).repeat_interleave(4)
    assert (change * (rewards - means)).sum() > 0


def test_tool_output_carries_no_loss(model, groups):
    """Swapping the tokens after the last action changes no gradient; swapping an action does."""
    base = gradients(GRPO(copy.deepcopy(model), kl_coef=0.0), groups)

    def change(where: bool) -> float:
        changed = copy.deepcopy(groups)
        for group in changed:
            for row in group:
                row.token_ids += [7, 8, 9]
                row.action_mask += [where] * 3
                row.logprobs += [-5.0] * 3
        found = gradients(GRPO(copy.deepcopy(model), kl_coef=0.0), changed)
        return max(float((a - b).abs().max()) for a, b in zip(base, found))

    assert change(False) < 1e-6
    assert change(True) > 1e-3


def test_groups_without_signal_are_left_out_and_counted(model, groups):
    silent = copy.deepcopy(groups[0])
    for row in silent:
        row.turn_rewards = [0.1]
    trained = copy.deepcopy(model)
    learner = GRPO(trained, learning_rate=0.1, kl_coef=0.1)
    metrics = learner.update([silent, silent])
    assert metrics["zero_variance"] == 1.0
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), model.parameters()))
    # Half the groups are silent: the same gradient, averaged over twice the tokens.
    full = gradients(GRPO(copy.deepcopy(model), kl_coef=0.0, max_grad_norm=0.0), [groups[0]])
    half = gradients(GRPO(copy.deepcopy(model), kl_coef=0.0, max_grad_norm=0.0), [groups[0], silent])
    assert all(torch.allclose(a, 2 * b, atol=1e-6) for a, b in zip(full, half))


def test_kl_penalty_holds_the_policy_back(model, groups):
    moved = {}
    for kl_coef in (0.0, 5.0):
        learner = GRPO(copy.deepcopy(model), learning_rate=3e-3, kl_coef=kl_coef, epochs=8)
        learner.update(groups)
        batch = Batch.from_groups(groups)
        with torch.no_grad():
            moved[kl_coef] = float((action_logprobs(learner.model, batch) - batch.old_logprobs_BT).abs().mean())
    assert moved[5.0] < 0.7 * moved[0.0]


def test_updates_that_are_not_finite_are_skipped_and_then_stop_the_run(model, groups):
    broken = copy.deepcopy(groups)
    broken[0][0].turn_rewards = [float("nan")]
    trained = copy.deepcopy(model)
    learner = GRPO(trained, learning_rate=0.1, kl_coef=0.0)
    for count in range(1, 5):
        assert learner.update(broken)["skipped"] == count
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), model.parameters()))
    with pytest.raises(FloatingPointError, match="5 updates in a row"):
        learner.update(broken)


def test_sft_learns_the_teacher_s_turns():
    model = make_model()
    agent = LLMAgent((model, make_tokenizer()))
    with Rollout({"suite": "math", "split": "valid", "prompt": "compact", "reward": "mentor"}) as rollout:
        traces = rollout.run(TeacherTokens(agent.chat), rollout.task_ids[:3])
    for trace in traces:
        assert trace.source == "teacher"
        assert trace.is_success
        assert sum(trace.rewards) == pytest.approx(1.1)
        written = [t for t, action in zip(trace.token_ids, trace.action_mask) if action]
        assert agent.tokenizer.decode(written) == "".join(turn.text for turn in trace.transcript.turns)
    learner = SFT(model, learning_rate=1e-2)
    losses = [learner.update([traces])["loss"] for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]


def test_sft_loss_is_the_mean_over_the_teacher_s_tokens(model, groups):
    rows = groups[1]
    expected, count = 0.0, 0
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row.token_ids])).logits[0]
        for t, action in enumerate(row.action_mask):
            if action:
                expected -= float(torch.log_softmax(logits[t - 1], -1)[row.token_ids[t]])
                count += 1
    loss = SFT(copy.deepcopy(model), learning_rate=0.0).update([rows])["loss"]
    assert loss == pytest.approx(expected / count, abs=1e-4)


def test_tasks_are_passed_through_in_a_new_order_each_time():
    ids = [f"t{i}" for i in range(10)]
    first = [task for step in range(1, 6) for task in choose_tasks(ids, 2, step, seed=1)]
    second = [task for step in range(6, 11) for task in choose_tasks(ids, 2, step, seed=1)]
    assert sorted(first) == sorted(second) == ids
    assert first != second
    assert choose_tasks(ids, 2, 1, seed=2) + choose_tasks(ids, 2, 2, seed=2) != first[:4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    make_model(max_position_embeddings=2048).save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    return str(path)


def make_config(folder: str, output, **options) -> TrainConfig:
    settings = {
        "model": folder, "output": str(output), "steps": 4, "tasks_per_step": 2, "group_size": 3, "max_turns": 2,
        "max_new_tokens": 6, "eval_every": 2, "eval_tasks": 3, "save_every": 1, "learning_rate": 1e-2,
        # The outcome of a random model is always the same; a group needs some difference to learn from.
        "reward": "sparse",
    }  # fmt: skip
    return TrainConfig(**{**settings, **options})


def read(output) -> list[dict]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["tokens_per_s"]
    return rows


@pytest.mark.parametrize("algorithm", ["grpo", "sft"])
def test_training_writes_metrics_and_models(folder, tmp_path, algorithm):
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
    loaded = AutoModelForCausalLM.from_pretrained(final)
    before = AutoModelForCausalLM.from_pretrained(folder)
    moved = any(not torch.equal(a, b) for a, b in zip(loaded.parameters(), before.parameters()))
    assert moved == any(row["grad_norm"] > 0 for row in rows)
    assert len(AutoTokenizer.from_pretrained(final)) == len(make_tokenizer())


@pytest.mark.parametrize("algorithm", ["grpo", "sft"])
def test_a_resumed_run_equals_one_that_was_never_stopped(folder, tmp_path, algorithm):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(make_config(folder, whole, algorithm=algorithm, seed=3), progress=False)
    config = make_config(folder, parts, algorithm=algorithm, seed=3)
    train(make_config(folder, parts, algorithm=algorithm, seed=3, steps=3), progress=False)
    # As if the run had died in step 3, while it wrote a line and a checkpoint.
    for path in ("final", "checkpoint-3"):
        if (parts / path).exists():
            (parts / path).rename(parts / f".partial-{path}")
    with (parts / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    train(config, resume=True, progress=False)
    resumed, expected = read(parts), read(whole)
    assert [row["step"] for row in resumed] == [1, 2, 3, 4]
    assert any(row["grad_norm"] > 0 for row in expected)
    for a, b in zip(resumed, expected):
        shared = a.keys() & b.keys()
        assert {key: a[key] for key in shared} == {key: b[key] for key in shared}
    first = AutoModelForCausalLM.from_pretrained(whole / "final").state_dict()
    second = AutoModelForCausalLM.from_pretrained(parts / "final").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_run_is_not_repeated_but_can_go_on(folder, tmp_path):
    output = tmp_path / "run"
    train(make_config(folder, output, steps=1), progress=False)
    with pytest.raises(ConfigError, match=r"already holds a run; resume it"):
        train(make_config(folder, output, steps=1), progress=False)
    with pytest.raises(ConfigError, match=r"seed: the run in .* was started with 0"):
        train(make_config(folder, output, steps=1, seed=1), resume=True, progress=False)
    assert train(make_config(folder, output, steps=1), resume=True, progress=False) == output / "final"
    assert len(read(output)) == 1
    train(make_config(folder, output, steps=2), resume=True, progress=False)
    assert [row["step"] for row in read(output)] == [1, 2]


def test_an_extended_run_that_dies_goes_on_from_its_newest_checkpoint(folder, tmp_path):
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


def test_a_run_that_broke_off_before_its_first_step_binds_nobody(folder, tmp_path):
    output = tmp_path / "run"
    with pytest.raises(ValueError, match="unknown reward 'mentr'"):
        train(make_config(folder, output, reward="mentr"), progress=False)
    train(make_config(folder, output, steps=1), resume=True, progress=False)
    assert len(read(output)) == 1


def test_wrong_names_are_refused_before_anything_runs(folder, tmp_path):
    with pytest.raises(ValueError, match="has no split 'trian'"):
        train(make_config(folder, tmp_path / "a", split="trian"), progress=False)
    with pytest.raises(ValueError, match="unknown reward 'mentr'"):
        train(make_config(folder, tmp_path / "b", reward="mentr"), progress=False)
