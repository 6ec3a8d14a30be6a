"""PPO on a random model of a few thousand parameters, against plain computations of the same quantities."""

from __future__ import annotations

import copy
import itertools
import random

import pytest
import torch
from small_models import make_model

from agents.advantages import overlong_penalty, returns_to_go
from agents.lora import add_lora
from agents.losses import kl_divergence
from agents.packed import action_logprobs
from agents.ppo import PPO
from agents.trajectory import Batch, Trajectory
from mentor_gym.types import StopReason

EVERY = torch.tensor([[True]])


def make_groups(model, groups: int = 3, size: int = 3, turns: int = 2, seed: int = 0) -> list[list[Trajectory]]:
    """Conversations that the model really wrote, token by token, with a random reward for each turn."""
    chance, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    made = []
    for g in range(groups):
        prompt = [chance.randrange(300) for _ in range(4 + 3 * g)]
        made.append([make_trajectory(model, prompt, turns, chance, generator) for _ in range(size)])
    return made


@torch.no_grad()
def make_trajectory(model, prompt, turns, chance, generator) -> Trajectory:
    ids, logprobs, rewards, turn_rewards = list(prompt), [], [], []
    for turn in range(turns):
        if turn:
            # What a tool said.
            ids += [chance.randrange(300) for _ in range(chance.randint(1, 4))]
        logprobs += [0.0] * (len(ids) - len(logprobs))
        for _ in range(chance.randint(1, 5)):
            scores = torch.log_softmax(model(torch.tensor([ids])).logits[0, -1].float(), -1)
            token = int(torch.multinomial(scores.exp(), 1, generator=generator))
            ids.append(token)
            logprobs.append(float(scores[token]))
        turn_rewards.append(chance.random())
        rewards += [0.0] * (len(ids) - len(rewards) - 1) + [turn_rewards[-1]]
    mask = [logprob != 0 for logprob in logprobs]
    return Trajectory(
        "task", "policy", ids, mask, logprobs, rewards, {}, False, StopReason.ANSWER, turn_rewards, None
    )


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def groups(model):
    return make_groups(model)


def rows_of(groups) -> list[Trajectory]:
    return [row for group in groups for row in group]


def all_gradients(learner: PPO, groups) -> list[list[torch.Tensor]]:
    """The gradients of an update's optimiser steps, the value head's last, taken just before they are applied."""
    found: list[list[torch.Tensor]] = []
    adamw = learner.optimizer._adamw
    step = adamw.step
    trained = [*learner.model.parameters(), *learner.value_head.parameters()]

    def record() -> None:
        found.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trained])
        step()

    adamw.step = record
    learner.update(groups)
    adamw.step = step
    return found


def gradients(learner: PPO, groups) -> list[torch.Tensor]:
    """The gradients of the first optimiser step."""
    return all_gradients(learner, groups)[0]


def targets_mean(model, groups, **options) -> float:
    """The mean of the value targets, read off the gradient of the bias of a head whose values are all zero."""
    options = {"kl_coef": 0.0, "gae_lambda": 1.0, "value_coef": 1.0, "value_clip": 0.0, **options}
    return -float(gradients(PPO(copy.deepcopy(model), max_grad_norm=0.0, **options), groups)[-1])


def perturb(model, seed: int, scale: float = 0.02):
    torch.manual_seed(seed)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return other


def plain_loss(learner: PPO, groups, longest: int) -> torch.Tensor:
    """The loss of an update, trajectory by trajectory and token by token, with the model's own forward."""
    rows = []
    for row in rows_of(groups):
        (places,) = torch.tensor(row.action_mask).nonzero(as_tuple=True)
        ids = torch.tensor([row.token_ids])
        read = learner.model(ids, output_hidden_states=True)
        scores = torch.log_softmax(read.logits[0, places - 1] / learner.temperature, -1)
        written = ids[0, places]
        values = learner.value_head(read.hidden_states[-1][0, places - 1])[:, 0]
        logprobs = scores.gather(1, written[:, None])[:, 0]
        entropies = -(scores.exp() * scores).sum(-1)
        old = torch.tensor(row.logprobs)[places]
        rewards = [row.rewards[t] for t in places]
        if learner.reference is not None:
            reference = learner.reference.model(ids).logits[0, places - 1] / learner.temperature
            reference = torch.log_softmax(reference, -1).gather(1, written[:, None])[:, 0].detach()
            kl = kl_divergence(old[None], reference[None], EVERY.expand(1, len(old)), learner.kl_estimator)[0]
            rewards = [reward - learner.kl_coef * float(cost) for reward, cost in zip(rewards, kl)]
        if learner.overlong_length:
            rewards[-1] += overlong_penalty(len(rewards), learner.overlong_length, learner.overlong_buffer)
        turns = [0]
        for before, after in itertools.pairwise(places):
            turns.append(turns[-1] + int(after - before > 1))
        over_turns = learner.gae_over == "turn"
        steps = turns if over_turns else list(range(len(rewards)))
        firsts = [steps.index(step) for step in dict.fromkeys(steps)]
        paid = [sum(r for r, s in zip(rewards, steps) if s == steps[first]) for first in firsts]
        expected = [float(values[first].detach()) for first in firsts]
        advantages, following, next_value = [], 0.0, 0.0
        for reward, value in zip(reversed(paid), reversed(expected)):
            following = reward + learner.gamma * (next_value + learner.gae_lambda * following) - value
            next_value = value
            advantages.insert(0, following)
        targets = [advantage + value for advantage, value in zip(advantages, expected)]
        by_token = [advantages[steps[t]] for t in range(len(rewards))]
        rows.append((logprobs, old, by_token, entropies, values[firsts], expected, targets))
    pooled = torch.tensor([advantage for row in rows for advantage in row[2]])
    total, tokens, counted = torch.zeros(()), len(pooled), sum(len(row[6]) for row in rows)
    for logprobs, old, advantages, entropies, values, expected, targets in rows:
        advantages = torch.tensor(advantages)
        if learner.normalize_advantages:
            advantages = (advantages - pooled.mean()) / (pooled.std() + 1e-8)
        ratio = (logprobs - old).exp()
        losses = torch.maximum(
            -ratio * advantages, -ratio.clamp(1 - learner.clip_low, 1 + learner.clip_high) * advantages
        )
        if learner.dual_clip:
            bound = torch.where(advantages < 0, -learner.dual_clip * advantages, torch.inf)
            losses = torch.minimum(losses, bound)
        share = {"token": tokens, "sequence": len(rows) * len(ratio), "constant": len(rows) * longest}
        total = total + ((losses - learner.entropy_coef * entropies) / share[learner.aggregation]).sum()
        expected, targets = torch.tensor(expected), torch.tensor(targets)
        errors = (values - targets).square()
        if learner.value_clip:
            near = expected + (values - expected).clamp(-learner.value_clip, learner.value_clip)
            errors = torch.maximum(errors, (near - targets).square())
        total = total + learner.value_coef * errors.sum() / 2 / counted
    return total


@pytest.mark.parametrize(
    "options",
    [
        {"gae_over": "token", "aggregation": "token", "kl_estimator": "k1"},
        {"gae_over": "turn", "aggregation": "sequence", "kl_estimator": "k2", "dual_clip": 2.0},
        {"gae_over": "turn", "aggregation": "constant", "constant_length": 7, "normalize_advantages": False},
        {"aggregation": "constant", "overlong_length": 6, "overlong_buffer": 4, "value_clip": 0.0},
        {"kl_coef": 0.0, "entropy_coef": 0.0, "clip_low": 0.05, "clip_high": 0.5, "temperature": 0.7},
    ],
)
def test_the_gradient_is_that_of_a_plain_computation(model, groups, options):
    settings = {
        "kl_coef": 0.3, "kl_estimator": "k3", "entropy_coef": 0.05, "gamma": 0.9, "gae_lambda": 0.8,
        "value_coef": 0.7, "max_grad_norm": 0.0, **options,
    }  # fmt: skip
    found = []
    # Split or not, the gradient is the same.
    for limit in (8_192, 60, 1):
        # Away from the policy that sampled, from the reference, and with values that say something.
        learner = PPO(perturb(model, 1, 0.05), max_batch_tokens=limit, **settings)
        if learner.reference is not None:
            learner.reference.model = perturb(model, 2, 0.05)
        torch.manual_seed(3)
        torch.nn.init.normal_(learner.value_head.weight, std=0.3)
        torch.nn.init.constant_(learner.value_head.bias, 0.2)
        if not found:
            longest = settings.get("constant_length") or max(sum(row.action_mask) for row in rows_of(groups))
            loss = plain_loss(learner, groups, longest)
            trained = [*learner.model.parameters(), *learner.value_head.parameters()]
            expected = torch.autograd.grad(loss, trained)
            loss = float(loss.detach())
        passes = len(learner._passes(groups))
        assert passes == 1 if limit > 1_000 else passes > 1
        found.append(gradients(learner, groups))
    assert max(float(gradient.abs().max()) for gradient in expected) > 1e-2
    assert float(expected[-1].abs()) > 1e-3
    for other in found:
        for a, b in zip(expected, other, strict=True):
            assert torch.allclose(a, b, atol=2e-5)
    learner = PPO(perturb(model, 1, 0.05), **settings)
    assert learner.update(groups)["loss"] != pytest.approx(loss, rel=1e-3)


def test_first_update_has_ratio_one_and_the_gradient_of_reinforce(model, groups):
    """Undiscounted, without values or normalisation: each token is weighed with what was paid from its turn on."""
    learner = PPO(
        copy.deepcopy(model), kl_coef=0.0, gae_lambda=1.0, value_coef=0.0, normalize_advantages=False,
        max_grad_norm=0.0,
    )  # fmt: skip
    found = gradients(learner, groups)
    other = copy.deepcopy(model)
    batch = Batch.from_groups(groups)
    turn_returns = [returns_to_go(row.turn_rewards) for row in rows_of(groups)]
    weights = torch.tensor(
        [[paid[turn] for turn in turns] for paid, turns in zip(turn_returns, batch.turn_BT.tolist())]
    )
    loss = -(weights * action_logprobs(other, batch))[batch.action_mask_BT].mean()
    for a, b in zip(torch.autograd.grad(loss, list(other.parameters())), found):
        assert torch.allclose(a, b, atol=1e-5)
    metrics = PPO(copy.deepcopy(model), kl_coef=0.0).update(groups)
    assert metrics["clip_fraction"] == 0
    assert abs(metrics["approx_kl"]) < 1e-6


def test_targets_are_returns_to_go(model, groups):
    """Closed forms of the mean target where values are zero, lambda 1 and gamma 1."""
    batch = Batch.from_groups(groups)
    paid = [returns_to_go(row.turn_rewards) for row in rows_of(groups)]
    by_token = [
        paid[b][turn]
        for b, (turns, mask) in enumerate(zip(batch.turn_BT.tolist(), batch.action_mask_BT.tolist()))
        for turn, counts in zip(turns, mask)
        if counts
    ]
    by_turn = [value for row in paid for value in row]
    expected = {"token": sum(by_token) / len(by_token), "turn": sum(by_turn) / len(by_turn)}
    assert expected["token"] != pytest.approx(expected["turn"], abs=1e-3)
    for steps, value in expected.items():
        assert targets_mean(model, groups, gae_over=steps) == pytest.approx(value, abs=1e-5)
    # One step ahead, with values of zero: a target is what its own turn is paid.
    own = [reward for row in rows_of(groups) for reward in row.turn_rewards]
    found = targets_mean(model, groups, gae_over="turn", gae_lambda=0.0)
    assert found == pytest.approx(sum(own) / len(own), abs=1e-5)


def test_overlong_episodes_are_paid_less(model, groups):
    rows = rows_of(groups)
    lengths = [sum(row.action_mask) for row in rows]
    limit, buffer = max(lengths), max(lengths) - min(lengths)
    lost = [overlong_penalty(length, limit, buffer) * 2 for length in lengths]
    assert sum(penalty < 0 for penalty in lost) > 2
    plain = targets_mean(model, groups, gae_over="turn")
    # Both of an episode's turns expect it.
    less = targets_mean(model, groups, gae_over="turn", overlong_length=limit, overlong_buffer=buffer)
    assert less - plain == pytest.approx(sum(lost) / (2 * len(rows)), abs=1e-5)


def test_the_divergence_is_taken_off_the_rewards(model, groups):
    """At the start there is none; from another model, each token pays for its own."""
    learner = PPO(copy.deepcopy(model), kl_coef=0.5, kl_estimator="k1")
    assert abs(learner.update(groups)["kl"]) < 1e-6
    other = perturb(model, 5, 0.1)
    batch = Batch.from_groups(groups)
    with torch.no_grad():
        apart = (batch.old_logprobs_BT - action_logprobs(other, batch))[batch.action_mask_BT].mean()
    assert abs(apart) > 0.05
    learner = PPO(
        copy.deepcopy(model), kl_coef=0.5, kl_estimator="k1", gamma=0.0, value_coef=1.0, value_clip=0.0,
        max_grad_norm=0.0,
    )  # fmt: skip
    learner.reference.model = other
    own = sum(sum(row.turn_rewards) for row in rows_of(groups)) / int(batch.action_mask_BT.sum())
    assert -float(gradients(learner, groups)[-1]) == pytest.approx(own - 0.5 * float(apart), abs=1e-5)
    assert learner.update(groups)["kl"] == pytest.approx(float(apart), abs=1e-5)


def test_values_learn_what_episodes_are_paid(model, groups):
    """The reward depends on the task: the head comes to tell the tasks apart, and explains the variance."""
    paid = copy.deepcopy(groups)
    for g, group in enumerate(paid):
        for row in group:
            row.turn_rewards = [0.0, float(g)]
            last = len(row.rewards) - row.action_mask[::-1].index(True) - 1
            row.rewards = [float(g) if t == last else 0.0 for t in range(len(row.rewards))]
    learner = PPO(
        copy.deepcopy(model), learning_rate=3e-3, kl_coef=0.0, value_coef=1.0, value_clip=0.0, gae_lambda=1.0
    )
    first = learner.update(paid)
    for _ in range(60):
        last = learner.update(paid)
    assert first["explained_variance"] == pytest.approx(0.0, abs=1e-5)
    assert first["value_loss"] > 0.5
    assert last["explained_variance"] > 0.9
    assert last["zero_variance"] == 1.0
    assert PPO(copy.deepcopy(model)).update(groups)["zero_variance"] == 0.0


def test_value_clip_stops_values_that_have_moved_in_an_update(model, groups):
    """All targets are above the values of zero: once a step has raised the values, nothing pulls them further."""
    pull = {}
    for value_clip in (0.0, 1e-6, 10.0):
        learner = PPO(
            copy.deepcopy(model), learning_rate=1e-3, kl_coef=0.0, gae_lambda=1.0, value_coef=1.0,
            value_clip=value_clip, epochs=2,
        )  # fmt: skip
        # The values are the bias alone, so that all of them rise.
        learner.value_head.weight.requires_grad_(False)
        first, second = all_gradients(learner, groups)
        assert float(first[-1]) < -0.1
        pull[value_clip] = float(second[-1])
    assert pull[0.0] == pull[10.0] < -0.1
    assert pull[1e-6] == 0


def test_passes_and_mini_batches(model, groups):
    learner = PPO(copy.deepcopy(model), learning_rate=3e-3, kl_coef=0.0, epochs=2, minibatches=3)
    metrics = learner.update(groups)
    assert learner.optimizer.steps == 6
    # From the second step on the policy is not the one that sampled.
    assert metrics["approx_kl"] > 1e-4
    # A share is a whole number of trajectories; where there are more shares, the schedule goes on without a step.
    learner = PPO(copy.deepcopy(model), kl_coef=0.0, minibatches=100)
    assert len(all_gradients(learner, groups)) == len(rows_of(groups))
    assert learner.optimizer.steps == 100
    # Figures are means over the steps that were taken; where nothing moves, all passes are the same.
    once, thrice = (PPO(copy.deepcopy(model), 0.0, epochs=epochs).update(groups) for epochs in (1, 3))
    assert once.pop("optimizer_steps") == 1
    assert thrice.pop("optimizer_steps") == 3
    assert thrice == pytest.approx(once, abs=1e-6)
    assert once["grad_norm"] > 0.01


def test_a_mini_batch_has_the_gradient_of_its_own_trajectories(model, groups):
    options = {"kl_coef": 0.0, "normalize_advantages": False, "max_grad_norm": 0.0}
    learner = PPO(copy.deepcopy(model), minibatches=3, **options)
    alone = gradients(PPO(copy.deepcopy(model), **options), groups[:1])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients(learner, groups), alone))
    # The advantages of all of them are normalised together.
    options["normalize_advantages"] = True
    learner = PPO(copy.deepcopy(model), minibatches=3, **options)
    alone = gradients(PPO(copy.deepcopy(model), **options), groups[:1])
    difference = [float((a - b).abs().max()) for a, b in zip(gradients(learner, groups), alone)]
    assert max(difference) > 1e-3


def test_trajectories_without_a_sampled_token_are_left_out(model, groups):
    silent = copy.deepcopy(groups[0][0])
    silent.action_mask = [False] * len(silent.token_ids)
    silent.rewards = [0.0] * len(silent.token_ids)
    expected = gradients(PPO(copy.deepcopy(model), aggregation="sequence"), groups)
    found = gradients(
        PPO(copy.deepcopy(model), aggregation="sequence"), [[silent], *groups[:2], [*groups[2], silent]]
    )
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(expected, found))
    for nothing in ([], [[silent]]):
        learner = PPO(copy.deepcopy(model))
        assert learner.update(nothing)["grad_norm"] == 0
        assert not learner.optimizer._adamw.state


def test_figures(model, groups):
    """Against the policy that sampled, from one that has moved away from it."""
    moved = perturb(model, 1, 0.05)
    batch = Batch.from_groups(groups)
    with torch.no_grad():
        log_ratio = (action_logprobs(moved, batch) - batch.old_logprobs_BT)[batch.action_mask_BT]
    ratio = log_ratio.exp()
    options = {"kl_coef": 0.0, "entropy_coef": 0.1, "value_coef": 0.3, "clip_low": 0.1, "clip_high": 0.3}
    metrics = PPO(moved, minibatches=1, max_batch_tokens=60, **options).update(groups)
    expected = {
        "log_ratio": log_ratio.abs().mean(),
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "clip_fraction": ((ratio < 0.9) | (ratio > 1.3)).float().mean(),
    }
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(float(value), abs=1e-5)
        assert metrics[name] > 0.01
    parts = metrics["policy_loss"] + 0.3 * metrics["value_loss"] - 0.1 * metrics["entropy"]
    assert metrics["loss"] == pytest.approx(parts, abs=1e-5)
    # Far below that of a uniform distribution, because the model is a sharp one.
    assert 0 < metrics["entropy"] < 5.7
    assert metrics["optimizer_steps"] == 1
    assert metrics["skipped"] == 0


def test_tool_output_carries_no_loss(model, groups):
    """Tokens after the last action change no gradient; the same tokens as an action do."""
    base = gradients(PPO(copy.deepcopy(model), kl_coef=0.0), groups)

    def change(action: bool) -> float:
        changed = copy.deepcopy(groups)
        for row in rows_of(changed):
            row.token_ids += [7, 8, 9]
            row.action_mask += [action] * 3
            row.logprobs += [-5.0] * 3
            row.rewards += [0.0] * 3
        found = gradients(PPO(copy.deepcopy(model), kl_coef=0.0), changed)
        return max(float((a - b).abs().max()) for a, b in zip(base, found))

    assert change(False) < 1e-6
    assert change(True) > 1e-3


def test_entropy_bonus_keeps_the_policy_open(model, groups):
    entropies = {}
    for coefficient in (0.001, 0.5):
        learner = PPO(copy.deepcopy(model), learning_rate=3e-3, kl_coef=0.0, entropy_coef=coefficient)
        entropies[coefficient] = [learner.update(groups)["entropy"] for _ in range(8)]
    assert entropies[0.5][0] == pytest.approx(entropies[0.001][0], abs=1e-5)
    assert entropies[0.5][-1] > entropies[0.001][-1] + 0.1
    assert "entropy" not in PPO(copy.deepcopy(model)).update(groups)


def test_state_continues_a_run(model, groups):
    options = {"learning_rate": 3e-3, "schedule": "linear", "warmup_steps": 2, "total_steps": 6, "kl_coef": 0.0}
    whole = PPO(copy.deepcopy(model), weight_decay=0.5, **options)
    assert whole.optimizer._adamw.param_groups[0]["weight_decay"] == 0.5
    for _ in range(2):
        whole.update(groups)
    rest = PPO(copy.deepcopy(whole.model), weight_decay=0.5, **options)
    rest.load_state_dict(copy.deepcopy(whole.state_dict()))
    first, second = whole.update(groups), rest.update(groups)
    assert first == second
    assert first["learning_rate"] == pytest.approx(3e-3)
    # A quarter of the way from the end of the warm-up to 0.
    assert whole.update(groups)["learning_rate"] == pytest.approx(2.25e-3)
    rest.update(groups)
    assert torch.equal(whole.value_head.weight, rest.value_head.weight)
    assert whole.value_head.weight.abs().max() > 0
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), rest.model.parameters()))


def test_updates_that_are_not_finite_are_skipped_and_then_stop_the_run(model, groups):
    broken = copy.deepcopy(groups)
    broken[0][0].rewards = [float("nan")] * len(broken[0][0].rewards)
    learner = PPO(copy.deepcopy(model), learning_rate=0.1)
    for count in range(1, 5):
        assert learner.update(broken)["skipped"] == count
    assert all(torch.equal(a, b) for a, b in zip(learner.model.parameters(), model.parameters()))
    assert not learner.value_head.weight.any()
    with pytest.raises(FloatingPointError, match="5 optimiser steps in a row"):
        learner.update(broken)


def test_gradient_checkpointing_does_not_change_the_gradient(model, groups):
    plain = gradients(PPO(copy.deepcopy(model)), groups)
    learner = PPO(copy.deepcopy(model), gradient_checkpointing=True)
    again = gradients(learner, groups)
    assert any(getattr(module, "gradient_checkpointing", False) for module in learner.model.modules())
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain, again, strict=True))


def test_adapters_and_value_head_are_trained_alone(model, groups):
    adapted = copy.deepcopy(model)
    add_lora(adapted, rank=2)
    before = {name: parameter.clone() for name, parameter in adapted.named_parameters()}
    learner = PPO(adapted, learning_rate=1e-2, kl_coef=0.1, value_coef=1.0)
    for _ in range(2):
        metrics = learner.update(groups)
    changed = {name for name, parameter in adapted.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed
    assert all("lora" in name for name in changed)
    assert learner.value_head.weight.any()
    # The reference is the same model without its adapters.
    assert metrics["kl"] == pytest.approx(0.0, abs=1e-6)


def test_unknown_names_are_refused(model):
    with pytest.raises(ValueError, match="aggregation must be one of token, sequence, constant, got 'mean'"):
        PPO(model, aggregation="mean")
    with pytest.raises(ValueError, match="gae_over must be one of token, turn, got 'row'"):
        PPO(model, gae_over="row")
    with pytest.raises(ValueError, match="kl_estimator must be one of k1, k2, k3, got 'k4'"):
        PPO(model, kl_estimator="k4")
