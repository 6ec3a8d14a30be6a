"""The optimiser, GRPO and SFT: by hand, and through a random model of a few thousand parameters."""

from __future__ import annotations

import copy
import math
import random
from types import SimpleNamespace

import pytest
import torch
from small_models import make_model, make_tokenizer

import agents.grpo
from agents.base import Observation
from agents.conversation import Conversation
from agents.grpo import GRPO
from agents.llm import LLMAgent
from agents.lora import add_lora
from agents.optimizer import Optimizer
from agents.packed import Outputs, Reference, action_logprobs
from agents.rollout import Rollout
from agents.sft import SFT, TeacherTokens
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
        rewards: list[list[float]] = [[] for _ in range(size)]
        for turn in range(turns):
            messages = [] if turn else [{"role": "user", "content": prompt}]
            observations = [Observation("r" * i, messages, 10 * g + i, turn) for i in range(size)]
            for record, paid, completion in zip(records, rewards, agent.act(observations)):
                record.extend_observation(completion.prompt_ids)
                record.extend_action(completion.token_ids, completion.logprobs)
                paid += [0.0] * (len(record) - len(paid) - 1) + [chance.random()]
        made.append(
            [
                make_trajectory(record.token_ids, record.action_mask, record.logprobs, paid)
                for record, paid in zip(records, rewards)
            ]
        )
    return made


def make_trajectory(ids, mask, logprobs, rewards) -> Trajectory:
    return Trajectory(
        "task", "policy", ids, mask, logprobs, rewards, {}, False, StopReason.ANSWER,
        [reward for reward in rewards if reward] or [0.0], None,
    )  # fmt: skip


def gradients(learner: GRPO | SFT, groups) -> list[torch.Tensor]:
    """The gradient of an update's last optimiser step, taken just before it is applied."""
    found: list[torch.Tensor] = []

    def keep() -> None:
        found[:] = [p.grad.clone() for p in learner.model.parameters() if p.grad is not None]

    learner.optimizer._adamw.step = keep
    learner.update(groups)
    return found


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def groups(model):
    return sample_groups(model)


# The optimiser.


def scalar_model(value: float = 1.0) -> torch.nn.Linear:
    model = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(model.weight, value)
    torch.nn.init.constant_(model.bias, value)
    return model


def take_steps(optimizer: Optimizer, model: torch.nn.Linear, count: int, gradient: float = 1.0) -> list[float]:
    """Take steps with the same gradient of weight and bias; returns the rate of each."""
    rates = []
    for _ in range(count):

        def backward() -> torch.Tensor:
            loss = gradient * (model.weight.sum() + model.bias.sum())
            loss.backward()
            return loss.detach()

        optimizer.step(backward)
        rates.append(optimizer.learning_rate)
    return rates


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25, 0, 0]),
        ("cosine", [0.5, 1, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0, 0]),
    ],
)
def test_learning_rates_of_a_schedule(schedule, expected):
    model = scalar_model()
    optimizer = Optimizer(model, 1.0, warmup_steps=2, schedule=schedule, total_steps=6)
    assert take_steps(optimizer, model, 8) == pytest.approx(expected)


def test_the_rate_is_that_of_the_step():
    """AdamW's first step is the rate times the gradient's sign."""
    model = scalar_model()
    optimizer = Optimizer(model, 0.1, warmup_steps=4, weight_decay=0.0)
    take_steps(optimizer, model, 1)
    assert model.weight.item() == pytest.approx(1 - 0.1 / 4, abs=1e-6)


def test_only_matrices_decay():
    model = scalar_model()
    take_steps(Optimizer(model, 0.1, weight_decay=0.5), model, 1, gradient=0.0)
    assert model.weight.item() == pytest.approx(1 - 0.1 * 0.5)
    assert model.bias.item() == 1


def test_a_rest_lets_the_schedule_go_on():
    model = scalar_model()
    optimizer = Optimizer(model, 1.0, schedule="linear", total_steps=4)
    optimizer.rest()
    assert take_steps(optimizer, model, 2) == pytest.approx([0.75, 0.5])
    assert optimizer.steps == 3


def test_gradients_are_clipped_to_the_norm():
    model = scalar_model()
    optimizer = Optimizer(model, 0.1, max_grad_norm=0.5)
    seen = []
    optimizer._adamw.step = lambda: seen.append([float(model.weight.grad), float(model.bias.grad)])

    def backward(scale: float) -> torch.Tensor:
        loss = scale * (3 * model.weight.sum() + 4 * model.bias.sum())
        loss.backward()
        return loss.detach()

    assert optimizer.step(lambda: backward(1.0)) == pytest.approx((7.0, 5.0))
    assert optimizer.step(lambda: backward(0.01))[1] == pytest.approx(0.05)
    assert seen[0] == pytest.approx([0.3, 0.4], rel=1e-4)
    assert seen[1] == pytest.approx([0.03, 0.04])


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_broken_steps_change_nothing_and_the_fifth_in_a_row_stops_the_run(broken):
    model = scalar_model()
    optimizer = Optimizer(model, 0.1)
    take_steps(optimizer, model, 3, gradient=broken)
    assert (model.weight.item(), optimizer.skipped, optimizer.steps) == (1, 3, 3)
    take_steps(optimizer, model, 1)
    assert model.weight.item() != 1
    take_steps(optimizer, model, 4, gradient=broken)
    # The count goes on in a run that is resumed.
    resumed = Optimizer(model, 0.1)
    resumed.load_state_dict(optimizer.state_dict())
    assert (resumed.skipped, resumed.steps) == (7, 8)
    with pytest.raises(FloatingPointError, match="5 optimiser steps in a row, up to step 9"):
        take_steps(resumed, model, 1, gradient=broken)


def test_a_resumed_optimiser_takes_the_same_steps():
    whole, part = scalar_model(), scalar_model()
    options = {"warmup_steps": 2, "schedule": "cosine", "total_steps": 9}
    expected = take_steps(Optimizer(whole, 0.1, **options), whole, 6)
    optimizer = Optimizer(part, 0.1, **options)
    take_steps(optimizer, part, 3)
    resumed = Optimizer(part, 0.1, **options)
    resumed.load_state_dict(optimizer.state_dict())
    assert take_steps(resumed, part, 3) == expected[3:]
    assert part.weight.item() == whole.weight.item()


def test_schedules_are_checked():
    with pytest.raises(ValueError, match="schedule must be one of"):
        Optimizer(scalar_model(), 0.1, schedule="polynomial")
    with pytest.raises(ValueError, match="needs total_steps above warmup_steps, got 3"):
        Optimizer(scalar_model(), 0.1, schedule="linear", warmup_steps=3, total_steps=3)


# GRPO's loss by hand: the "model" is a table of the log-probabilities themselves.


class Table(torch.nn.Module):
    """Stands for a policy: its parameters are log-probability and entropy of each sampled token, [B, T]."""

    def __init__(self, logprobs: list[list[float]]) -> None:
        super().__init__()
        width = max(map(len, logprobs))
        self.logprobs = torch.nn.Parameter(torch.tensor([row + [0.0] * (width - len(row)) for row in logprobs]))
        self.entropies = torch.nn.Parameter(torch.full_like(self.logprobs, 2.0))

    def outputs(self, batch: Batch, temperature: float, entropy: bool) -> Outputs:
        mask = batch.action_mask_BT
        return Outputs(
            self.logprobs.masked_fill(~mask, 0.0), self.entropies.masked_fill(~mask, 0.0) if entropy else None
        )


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.setattr(
        agents.grpo,
        "action_outputs",
        lambda model, batch, temperature, entropy: model.outputs(batch, temperature, entropy),
    )


def rows_of(turns: list[list[tuple[int, float]]], old: float = -1.0) -> list[Trajectory]:
    """A group: for each trajectory, the length and the reward of each turn."""
    rows = []
    for number, row in enumerate(turns):
        ids, mask, rewards = [1, 2], [False, False], [0.0, 0.0]
        for turn, (length, reward) in enumerate(row):
            if turn:
                ids, mask, rewards = [*ids, 3], [*mask, False], [*rewards, 0.0]
            # In a batch, rows stand in the order of their tokens.
            ids += [10 + number] * length
            mask += [True] * length
            rewards += [0.0] * (length - 1) + [reward]
        logprobs = [old if sampled else 0.0 for sampled in mask]
        trajectory = make_trajectory(ids, mask, logprobs, rewards)
        trajectory.turn_rewards = [reward for _, reward in row]
        rows.append(trajectory)
    return rows


def table_update(rows, logprobs, **options) -> SimpleNamespace:
    """One update of a table; returns its metrics and the gradients of log-probabilities and entropies."""
    table = Table(logprobs)
    learner = GRPO(table, **{"kl_coef": 0.0, "advantage": "group_mean", "max_grad_norm": 0.0, **options})
    kept = {}
    learner.optimizer._adamw.step = lambda: kept.update(
        logprobs=table.logprobs.grad.clone(),
        entropies=None if table.entropies.grad is None else table.entropies.grad.clone(),
    )
    metrics = learner.update([rows])
    return SimpleNamespace(metrics=metrics, **kept)


# Two trajectories of 2 and 8 tokens with advantages 1 and -1.
TWO = [[(2, 1.0)], [(8, -1.0)]]
SAME = [[-1.0] * 2, [-1.0] * 8]


@pytest.mark.parametrize(
    ("aggregation", "loss", "weights"),
    [("token", 0.6, [0.1, 0.1]), ("sequence", 0.0, [1 / 4, 1 / 16]), ("constant", 0.3, [1 / 20, 1 / 20])],
)
def test_aggregations(tables, aggregation, loss, weights):
    found = table_update(rows_of(TWO), SAME, aggregation=aggregation, constant_length=10)
    assert found.metrics["loss"] == pytest.approx(loss)
    expected = torch.zeros(2, 8)
    expected[0, :2], expected[1] = -weights[0], weights[1]
    assert torch.allclose(found.logprobs, expected)


@pytest.mark.parametrize(
    ("advantage", "expected"),
    [
        ("group_std", [1.5, -0.5, -0.5, -0.5]),
        ("group_mean", [0.75, -0.25, -0.25, -0.25]),
        ("leave_one_out", [1, -1 / 3, -1 / 3, -1 / 3]),
    ],
)
def test_advantages(tables, advantage, expected):
    rows = rows_of([[(2, 1.0)], [(2, 0.0)], [(2, 0.0)], [(2, 0.0)]])
    found = table_update(rows, [[-1.0, -1.0]] * 4, advantage=advantage)
    assert torch.allclose(found.logprobs, -torch.tensor(expected)[:, None].expand(4, 2) / 8, atol=1e-5)


def test_an_advantage_of_each_turn(tables):
    # Returns to go at gamma 1/2: 1 + 4/2 = 3 and 4; 1 and 0. Halves of the differences: 1 and 2.
    rows = rows_of([[(2, 1.0), (1, 4.0)], [(3, 1.0), (2, 0.0)]])
    found = table_update(rows, [[-1.0] * 3, [-1.0] * 5], credit="turn", gamma=0.5)
    expected = torch.tensor([[1.0, 1, 2, 0, 0], [-1, -1, -1, -2, -2]])
    assert torch.allclose(found.logprobs, -expected / 8)
    # The episodes' returns are 5 and 1.
    found = table_update(rows, [[-1.0] * 3, [-1.0] * 5], gamma=0.5)
    assert torch.allclose(found.logprobs, -torch.tensor([[2.0, 2, 2, 0, 0], [-2] * 5]) / 8)


@pytest.mark.parametrize("credit", ["episode", "turn"])
def test_long_episodes_are_penalised(tables, credit):
    # 2 tokens cost nothing, 6 of 8 with a buffer of 4 cost 1/2.
    rows = rows_of([[(2, 1.0)], [(6, 1.0)]])
    options = {"credit": credit, "overlong_length": 8, "overlong_buffer": 4}
    found = table_update(rows, [[-1.0] * 2, [-1.0] * 6], **options)
    expected = torch.zeros(2, 6)
    expected[0, :2], expected[1] = -0.25 / 8, 0.25 / 8
    assert torch.allclose(found.logprobs, expected)
    assert table_update(rows, [[-1.0] * 2, [-1.0] * 6], credit=credit).metrics["zero_variance"] == 1


def test_ratios_are_clipped_below_and_above(tables):
    ratios = torch.tensor([[1.25, 1.29, 0.65], [0.71, 0.65, 1.35]])
    rows = rows_of([[(3, 1.0)], [(3, -1.0)]])
    found = table_update(rows, (ratios.log() - 1).tolist(), clip_low=0.3, clip_high=0.28)
    # A good token may rise to 1.28, a bad one fall to 0.7; back towards 1 nothing stops them.
    through = torch.tensor([[1, 0, 1], [1, 0, 1]])
    assert torch.allclose(found.logprobs, torch.tensor([[-1.0], [1.0]]) * ratios * through / 6)
    assert found.metrics["loss"] == pytest.approx((-1.25 - 1.28 - 0.65 + 0.71 + 0.7 + 1.35) / 6)
    assert found.metrics["clip_fraction"] == pytest.approx(4 / 6)
    assert found.metrics["log_ratio"] == pytest.approx(float(ratios.log().abs().mean()))


def test_the_loss_of_a_bad_token_is_bounded(tables):
    ratios = torch.tensor([[1.0, 1.0], [2.0, 5.0]])
    rows = rows_of([[(2, 1.0)], [(2, -1.0)]])
    found = table_update(rows, (ratios.log() - 1).tolist(), dual_clip=3.0)
    assert torch.allclose(found.logprobs, torch.tensor([[-1.0, -1], [2, 0]]) / 4)
    assert found.metrics["loss"] == pytest.approx((-2 + 2 + 3) / 4)


def test_a_ratio_of_the_sequence(tables):
    # Log-ratios .2, -.1, .2 have the mean .1, at -.3 of the other; the clip range is on the mean.
    logprobs = [[-0.8, -1.1, -0.8], [-1.3, -1.3, -1.3]]
    rows = rows_of([[(3, 1.0)], [(3, -1.0)]])
    options = {"ratio": "sequence", "aggregation": "sequence"}
    found = table_update(rows, logprobs, **options, clip_low=0.2, clip_high=0.2)
    expected = torch.tensor([[-math.exp(0.1)] * 3, [0.0] * 3]) / 6
    assert torch.allclose(found.logprobs, expected)
    assert found.metrics["loss"] == pytest.approx((-1.105171 + 0.8) / 2)
    assert found.metrics["clip_fraction"] == 0.5
    assert found.metrics["log_ratio"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("estimator", "value", "slope"),
    [
        ("k1", 0.5, 1.0),
        ("k2", 0.125, 0.5),
        ("k3", math.exp(-0.5) - 0.5, 1 - math.exp(-0.5)),
    ],
)
def test_penalties(tables, monkeypatch, estimator, value, slope):
    # The starting model gives every token half a nat less.
    def logprobs(batch: Batch, temperature: float) -> torch.Tensor:
        assert temperature == 0.6
        return torch.where(batch.action_mask_BT, -1.5, 0.0)

    monkeypatch.setattr(agents.grpo, "Reference", lambda model: SimpleNamespace(logprobs=logprobs))
    rows = rows_of([[(2, 1.0)], [(2, -1.0)]])
    found = table_update(rows, [[-1.0] * 2] * 2, kl_coef=0.1, kl_estimator=estimator, temperature=0.6)
    assert torch.allclose(found.logprobs, (torch.tensor([[-1.0], [1.0]]) + 0.1 * slope).expand(2, 2) / 4)
    assert found.metrics["kl"] == pytest.approx(value, rel=1e-5)
    assert found.metrics["loss"] == pytest.approx(0.1 * value, rel=1e-5)


def test_an_entropy_bonus(tables):
    rows = rows_of([[(2, 1.0)], [(2, -1.0)]])
    found = table_update(rows, [[-1.0] * 2] * 2, entropy_coef=0.1)
    assert torch.allclose(found.entropies, torch.full((2, 2), -0.1 / 4))
    assert found.metrics["entropy"] == pytest.approx(2.0)
    assert found.metrics["loss"] == pytest.approx(-0.2)
    without = table_update(rows, [[-1.0] * 2] * 2)
    assert without.entropies is None
    assert "entropy" not in without.metrics


def test_averages_are_over_all_groups_of_an_optimiser_step(tables):
    loud, silent = rows_of([[(2, 1.0)], [(2, -1.0)]]), rows_of([[(8, 0.5)], [(8, 0.5)]])
    losses = {}
    for minibatches in (1, 2):
        table = Table([[-0.9] * 2, [-1.0] * 2])
        learner = GRPO(table, kl_coef=0.0, advantage="group_mean", minibatches=minibatches, learning_rate=0.0)
        metrics = learner.update([loud, silent])
        assert metrics["zero_variance"] == 0.5
        assert metrics["optimizer_steps"] == minibatches
        losses[minibatches] = metrics["loss"]
    # 4 tokens of 20 have a signal; alone, 4 of 4. A step without a signal does not count in the mean.
    assert losses[1] == pytest.approx((-2 * math.exp(0.1) + 2) / 20, rel=1e-4)
    assert losses[2] == pytest.approx((-2 * math.exp(0.1) + 2) / 4, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"advantage": "best"}, "advantage must be one of group_std"),
        ({"credit": "token"}, "credit must be one of episode, turn, got 'token'"),
        ({"aggregation": "mean"}, "aggregation must be one of"),
        ({"ratio": "turn"}, "ratio must be one of"),
        ({"kl_estimator": "k4"}, "kl_estimator must be one of"),
        ({"credit": "turn", "ratio": "sequence"}, "credit 'turn' needs ratio 'token'"),
    ],
)
def test_names_of_variants_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        GRPO(torch.nn.Linear(1, 1), **options)


# GRPO through a model.


def test_the_learner_computes_what_the_sampler_did(model, groups):
    batch = Batch.from_groups(groups)
    with torch.no_grad():
        assert torch.allclose(action_logprobs(model, batch), batch.old_logprobs_BT, atol=1e-4)


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_the_first_gradient_is_reinforce_s(model, groups, aggregation):
    """At ratio 1 it is that of `-A log p`, here by the model's own forward."""
    rows = [row for group in groups for row in group]
    tokens = sum(sum(row.action_mask) for row in rows)
    loss = torch.zeros(())
    for group in groups:
        returns = torch.tensor([row.total_reward for row in group])
        for row, advantage in zip(group, returns - returns.mean()):
            logprobs = torch.log_softmax(model(torch.tensor([row.token_ids])).logits[0], -1)
            total = sum(logprobs[t - 1, row.token_ids[t]] for t, mask in enumerate(row.action_mask) if mask)
            weight = 1 / tokens if aggregation == "token" else 1 / sum(row.action_mask) / len(rows)
            loss = loss - weight * advantage * total
    expected = torch.autograd.grad(loss, list(model.parameters()))
    options = {"kl_coef": 0.0, "advantage": "group_mean", "aggregation": aggregation, "max_grad_norm": 0.0}
    found = gradients(GRPO(copy.deepcopy(model), **options), groups)
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-2
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("adapters", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"aggregation": "sequence", "ratio": "sequence", "kl_coef": 0.0},
        {"aggregation": "constant", "credit": "turn", "advantage": "leave_one_out", "entropy_coef": 0.1},
    ],
)
def test_splitting_and_checkpointing_do_not_change_the_gradient(model, groups, options, adapters):
    found = []
    for memory in ({}, {"max_batch_tokens": 70}, {"max_batch_tokens": 1}, {"gradient_checkpointing": True}):
        trained = copy.deepcopy(model)
        if adapters:
            add_lora(trained, rank=4)
        learner = GRPO(trained, **{"kl_coef": 0.5, "max_grad_norm": 0.0, **options, **memory})
        # Away from the reference, where the penalty has a gradient, and from the behaviour policy.
        with torch.no_grad():
            for parameter in trained.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        found.append(gradients(learner, groups))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.allclose(a, b, atol=1e-5)
    assert max(float(gradient.abs().max()) for gradient in found[0]) > 1e-3
    assert len(found[0]) == (28 if adapters else len(list(model.parameters())))


def test_a_first_update_raises_what_was_good(model, groups):
    trained = copy.deepcopy(model)
    learner = GRPO(trained, learning_rate=1e-3, kl_coef=0.0)
    metrics = learner.update(groups)
    assert metrics["clip_fraction"] == 0
    assert metrics["log_ratio"] < 1e-4
    assert metrics["grad_norm"] > 0
    batch = Batch.from_groups(groups)
    with torch.no_grad():
        change = (action_logprobs(trained, batch) - batch.old_logprobs_BT).sum(dim=1)
    returns = torch.tensor([[row.total_reward for row in group] for group in groups])
    assert (change * (returns - returns.mean(1, keepdim=True)).flatten()).sum() > 0


def test_tool_output_carries_no_loss(model, groups):
    """What follows the last action changes no gradient, whatever it is; as an action it does."""
    base = gradients(GRPO(copy.deepcopy(model), kl_coef=0.0), groups)

    def change(where: bool) -> float:
        changed = copy.deepcopy(groups)
        for group in changed:
            for row in group:
                row.token_ids += [7, 8, 9]
                row.action_mask += [where] * 3
                row.logprobs += [-5.0] * 3
                row.rewards += [0.0] * 3
        found = gradients(GRPO(copy.deepcopy(model), kl_coef=0.0), changed)
        return max(float((a - b).abs().max()) for a, b in zip(base, found))

    assert change(False) == 0
    assert change(True) > 1e-3


def test_log_probabilities_that_nobody_sampled_do_not_matter(model, groups):
    base = gradients(GRPO(copy.deepcopy(model)), groups)
    changed = copy.deepcopy(groups)
    for group in changed:
        for row in group:
            row.logprobs = [value if mask else -9.0 for value, mask in zip(row.logprobs, row.action_mask)]
    assert all(torch.equal(a, b) for a, b in zip(base, gradients(GRPO(copy.deepcopy(model)), changed)))


def test_groups_without_signal_are_left_out_and_counted(model, groups):
    silent = copy.deepcopy(groups[0])
    for row in silent:
        row.turn_rewards = [0.1]
    trained = copy.deepcopy(model)
    learner = GRPO(trained, learning_rate=0.1, kl_coef=0.1)
    metrics = learner.update([silent, silent])
    assert metrics["zero_variance"] == 1.0
    assert metrics["optimizer_steps"] == 1
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), model.parameters()))
    # Half the groups are silent: the same gradient, averaged over twice the tokens.
    full = gradients(GRPO(copy.deepcopy(model), kl_coef=0.0, max_grad_norm=0.0), [groups[0]])
    half = gradients(GRPO(copy.deepcopy(model), kl_coef=0.0, max_grad_norm=0.0), [groups[0], silent])
    assert all(torch.allclose(a, 2 * b, atol=1e-6) for a, b in zip(full, half))


@pytest.mark.parametrize("max_batch_tokens", [8_192, 1])
def test_trajectories_without_a_sampled_token_count_for_the_baseline_alone(model, groups, max_batch_tokens):
    mute = make_trajectory([1, 2, 3], [False] * 3, [0.0] * 3, [0.0] * 3)
    mute.turn_rewards = [5.0]
    options = {
        "kl_coef": 0.0,
        "advantage": "group_mean",
        "max_grad_norm": 0.0,
        "max_batch_tokens": max_batch_tokens,
    }
    found = gradients(GRPO(copy.deepcopy(model), **options), [[*groups[0], mute]])
    returns = torch.tensor([row.total_reward for row in groups[0]])
    advantages = returns - (returns.sum() + 5.0) / 5
    batch = Batch.from_groups([groups[0]])
    plain = copy.deepcopy(model)
    loss = -(advantages[:, None] * action_logprobs(plain, batch)).sum() / batch.action_mask_BT.sum()
    expected = torch.autograd.grad(loss, list(plain.parameters()))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))


def test_a_penalty_holds_the_policy_back(model, groups):
    moved = {}
    for kl_coef in (0.0, 5.0):
        learner = GRPO(copy.deepcopy(model), learning_rate=3e-3, kl_coef=kl_coef, epochs=8)
        assert (learner.reference is None) == (kl_coef == 0)
        learner.update(groups)
        batch = Batch.from_groups(groups)
        with torch.no_grad():
            moved[kl_coef] = float((action_logprobs(learner.model, batch) - batch.old_logprobs_BT).abs().mean())
    assert moved[5.0] < 0.7 * moved[0.0]


def test_minibatches_are_updates_of_their_own(model, groups):
    """Two steps over a part of the groups each, against two updates with those parts."""
    options = {"learning_rate": 1e-2, "kl_coef": 0.0, "schedule": "linear", "total_steps": 4}
    whole, parts = copy.deepcopy(model), copy.deepcopy(model)
    metrics = GRPO(whole, minibatches=2, **options).update(groups)
    learner = GRPO(parts, **options)
    each = [learner.update(groups[:1]), learner.update(groups[1:])]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters()))
    assert metrics["loss"] == pytest.approx((each[0]["loss"] + each[1]["loss"]) / 2)
    assert metrics["learning_rate"] == each[1]["learning_rate"] == pytest.approx(0.0075)
    assert metrics["log_ratio"] > 1e-3


def test_the_temperature_is_that_of_sampling(model):
    agent = LLMAgent((model, make_tokenizer()), max_new_tokens=9, temperature=0.6)
    observations = [Observation("", [{"role": "user", "content": "question"}], i, 0) for i in range(4)]
    rows = []
    for i, completion in enumerate(agent.act(observations)):
        record = Conversation()
        record.extend_observation(completion.prompt_ids)
        record.extend_action(completion.token_ids, completion.logprobs)
        rewards = [0.0] * (len(record) - 1) + [float(i)]
        rows.append(make_trajectory(record.token_ids, record.action_mask, record.logprobs, rewards))
    assert GRPO(copy.deepcopy(model), temperature=0.6).update([rows])["log_ratio"] < 1e-4
    assert GRPO(copy.deepcopy(model), temperature=1.0).update([rows])["log_ratio"] > 1e-2


def test_a_resumed_learner_goes_on_as_if_it_had_not_stopped(model, groups):
    options = {"learning_rate": 1e-2, "warmup_steps": 2, "kl_coef": 0.0}
    whole, part = copy.deepcopy(model), copy.deepcopy(model)
    learner = GRPO(whole, **options)
    for _ in range(4):
        learner.update(groups)
    first = GRPO(part, **options)
    first.update(groups)
    first.update(groups)
    second = GRPO(part, **options)
    second.load_state_dict(first.state_dict())
    second.update(groups)
    second.update(groups)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), part.parameters()))


def test_updates_that_are_not_finite_are_skipped_and_then_stop_the_run(model, groups):
    broken = copy.deepcopy(groups)
    broken[0][0].turn_rewards = [float("nan")]
    trained = copy.deepcopy(model)
    learner = GRPO(trained, learning_rate=0.1, kl_coef=0.0)
    for count in range(1, 5):
        assert learner.update(broken)["skipped"] == count
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), model.parameters()))
    with pytest.raises(FloatingPointError, match="5 optimiser steps in a row"):
        learner.update(broken)


# SFT.


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
    losses = [learner.update([[trace] for trace in traces])["loss"] for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("aggregation", ["token", "sequence", "constant"])
def test_sft_s_loss_is_the_mean_over_the_teacher_s_tokens(model, groups, aggregation):
    rows = groups[1]
    tokens = sum(sum(row.action_mask) for row in rows)
    expected = 0.0
    for row in rows:
        with torch.no_grad():
            logprobs = torch.log_softmax(model(torch.tensor([row.token_ids])).logits[0], -1)
        total = sum(float(logprobs[t - 1, row.token_ids[t]]) for t, mask in enumerate(row.action_mask) if mask)
        length = sum(row.action_mask)
        expected -= total * {"token": 1 / tokens, "sequence": 1 / 4 / length, "constant": 1 / 4 / 50}[aggregation]
    options = {"learning_rate": 0.0, "aggregation": aggregation, "constant_length": 50}
    metrics = SFT(copy.deepcopy(model), **options).update([[row] for row in rows])
    assert metrics["loss"] == pytest.approx(expected, abs=1e-4)


def test_sft_s_gradient_does_not_depend_on_memory(model, groups):
    found, losses = [], []
    for memory in ({}, {"max_batch_tokens": 70}, {"max_batch_tokens": 1}, {"gradient_checkpointing": True}):
        options = {"learning_rate": 0.0, "max_grad_norm": 0.0, **memory}
        found.append(gradients(SFT(copy.deepcopy(model), **options), groups))
        losses.append(SFT(copy.deepcopy(model), **options).update(groups)["loss"])
    for other in found[1:]:
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found[0], other, strict=True))
    assert losses == pytest.approx([losses[0]] * 4)
    assert max(float(gradient.abs().max()) for gradient in found[0]) > 1e-2


def test_sft_s_minibatches_are_updates_of_their_own(model, groups):
    options = {"learning_rate": 1e-2, "schedule": "cosine", "total_steps": 8}
    whole, parts = copy.deepcopy(model), copy.deepcopy(model)
    metrics = SFT(whole, minibatches=2, epochs=2, **options).update(groups)
    learner = SFT(parts, **options)
    losses = [learner.update(part)["loss"] for part in (groups[:1], groups[1:]) * 2]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters()))
    assert metrics["loss"] == pytest.approx(sum(losses) / 4)
    assert metrics["optimizer_steps"] == 4
    # Steps for which there is no group are rests.
    assert SFT(parts, minibatches=4, **options).update(groups[:1])["optimizer_steps"] == 4


def test_sft_s_penalty_is_the_divergence_over_the_whole_vocabulary(model, groups):
    start, policy = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    rows = [row for group in groups for row in group]
    batch = Batch.from_groups(groups)
    found_BT = Reference(start).divergence(policy, batch)
    for b, row in enumerate(rows):
        ids = torch.tensor([row.token_ids])
        ours, theirs = (each(input_ids=ids).logits[0].detach().log_softmax(-1) for each in (policy, start))
        expected = [
            float((ours[t - 1].exp() * (ours[t - 1] - theirs[t - 1])).sum())
            for t, sampled in enumerate(row.action_mask)
            if sampled
        ]
        torch.testing.assert_close(found_BT[b][batch.action_mask_BT[b]], torch.tensor(expected))
    assert not found_BT[~batch.action_mask_BT].any()
    assert found_BT[batch.action_mask_BT].min() > 0


def test_sft_s_penalty_is_zero_at_the_start_and_holds_the_model_back(model, groups):
    free, held = copy.deepcopy(model), copy.deepcopy(model)
    learners = [SFT(free, learning_rate=1e-2), SFT(held, learning_rate=1e-2, kl_coef=5.0)]
    first = [learner.update(groups) for learner in learners]
    assert first[0]["loss"] == pytest.approx(first[1]["loss"])
    assert first[1]["kl"] == pytest.approx(0.0, abs=1e-6)
    for _ in range(6):
        last = [learner.update(groups) for learner in learners]
    assert last[1]["kl"] > 0
    batch, start = Batch.from_groups(groups), Reference(model)
    away = [float(start.divergence(each, batch).detach().sum()) for each in (free, held)]
    assert away[1] < 0.5 * away[0]
    assert learners[0].reference is None
