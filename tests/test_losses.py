"""Advantages and losses against numbers worked out by hand, both signs, and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from agents.advantages import group_advantages
from agents.losses import clipped_policy_loss, k3, negative_log_likelihood, token_weights


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        # The MENTOR paper's cases a to d, under MENTOR and under the sparse reward.
        ([1.1, 0.8, 0.16, 0.0], [1.1226, 0.5469, -0.6812, -0.9883]),
        ([1.0, 1.0, 0.1, 0.1], [0.8660, 0.8660, -0.8660, -0.8660]),
        ([1.0, 0.0, 0.0, 0.0], [1.5, -0.5, -0.5, -0.5]),
        ([0.16, 0.0], [0.7071, -0.7071]),
        ([0.1, 0.1], [0.0, 0.0]),
    ],
)
def test_group_advantages(rewards, expected):
    assert torch.allclose(group_advantages(tensor(rewards)), tensor(expected), atol=1e-4)


def test_the_sample_deviation_is_used():
    rewards = [1.1, 0.8, 0.16, 0.0]
    mean = sum(rewards) / 4
    std = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / 3)
    assert mean == pytest.approx(0.515)
    assert std == pytest.approx(0.52112, abs=1e-5)
    assert group_advantages(tensor(rewards))[0].item() == pytest.approx((1.1 - mean) / (std + 1e-6), abs=1e-6)


def test_without_deviation_only_the_mean_is_taken_off():
    assert group_advantages(tensor([1.0, 0, 0, 0]), by_std=False).tolist() == [0.75, -0.25, -0.25, -0.25]


@pytest.mark.parametrize("reward", [0.1, 0.16, 1.1, 1 / 3])
@pytest.mark.parametrize("size", [1, 3, 10, 16])
def test_equal_rewards_have_no_advantage(reward, size):
    # In float32 the mean of ten times 0.1 is not 0.1; the rest would be divided by the epsilon.
    assert group_advantages(torch.full((size,), reward)).tolist() == [0.0] * size


@pytest.mark.parametrize(("aggregation", "expected"), [("sequence", 0.0), ("token", 0.6), ("constant", 0.3)])
def test_aggregation(aggregation, expected):
    """Advantages 1 and -1, lengths 2 and 8, ratio 1, longest 10."""
    mask = torch.zeros(2, 10, dtype=torch.bool)
    mask[0, 3:5] = True
    mask[1, 1:9] = True
    logprobs = torch.randn(2, 10)
    losses = clipped_policy_loss(logprobs, logprobs, tensor([1.0, -1.0]), mask)
    weights = token_weights(mask, aggregation, longest=10)
    assert (weights * losses).sum().item() == pytest.approx(expected, abs=1e-6)
    # The sum over parts of a batch is the loss of the batch.
    parts = [
        (token_weights(mask[i : i + 1], aggregation, rows=2, tokens=10, longest=10) * losses[i : i + 1]).sum()
        for i in range(2)
    ]
    assert sum(parts).item() == pytest.approx(expected, abs=1e-6)


def test_unknown_aggregation_is_refused():
    with pytest.raises(ValueError, match="token, sequence, constant, got 'mean'"):
        token_weights(torch.ones(1, 1, dtype=torch.bool), "mean")


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.0, -2.0, 2.0, 2.0),
        (1.1, 1.0, -1.1, -1.1),
        # Beyond the range in the direction that the advantage asks for: no gradient.
        (1.5, 1.0, -1.2, 0.0),
        (0.5, -1.0, 0.8, 0.0),
        # Beyond it in the other direction: the full one.
        (0.5, 1.0, -0.5, -0.5),
        (1.5, -1.0, 1.5, 1.5),
    ],
)
def test_clipping(ratio, advantage, loss, gradient):
    logprobs = tensor([[math.log(ratio) - 1.0]], requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    value = clipped_policy_loss(logprobs, tensor([[-1.0]]), tensor([advantage]), mask, clip_range=0.2).sum()
    value.backward()
    assert value.item() == pytest.approx(loss, abs=1e-6)
    assert logprobs.grad.item() == pytest.approx(gradient, abs=1e-6)


def test_ratio_one_gives_the_gradient_of_reinforce():
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 7, requires_grad=True)
    targets = torch.randint(7, (3, 5, 1))
    mask = torch.rand(3, 5) > 0.3
    advantages = tensor([0.5, -1.0, 2.0])
    logprobs = torch.log_softmax(logits, -1).gather(-1, targets)[..., 0]
    surrogate = clipped_policy_loss(logprobs, logprobs.detach(), advantages, mask).sum()
    (ours,) = torch.autograd.grad(surrogate, logits, retain_graph=True)
    reinforce = -(advantages[:, None] * logprobs * mask).sum()
    (expected,) = torch.autograd.grad(reinforce, logits)
    assert expected.abs().max() > 0.1
    assert torch.allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("wild", [1e4, -1e4, float("inf"), float("nan")])
def test_masked_tokens_have_no_influence(wild):
    mask = tensor([[True, False]])
    for loss in (
        lambda x: clipped_policy_loss(x, tensor([[-1.0, -1.0]]), tensor([1.0]), mask),
        lambda x: k3(x, tensor([[-1.0, -1.0]]), mask),
        lambda x: negative_log_likelihood(x, mask),
    ):
        logprobs = tensor([[-2.0, wild]], requires_grad=True)
        values = loss(logprobs)
        values.sum().backward()
        assert values[0, 1] == 0
        assert logprobs.grad[0, 1] == 0
        assert logprobs.grad[0, 0] != 0
        assert torch.isfinite(values).all()


def test_k3():
    mask = torch.ones(1, 3, dtype=torch.bool)
    logprobs, ref_logprobs = tensor([[-1.0, -2.0, -0.5]]), tensor([[-1.0, -1.0, -2.5]])
    expected = [0.0, math.exp(1) - 2, math.exp(-2) + 1]
    assert k3(logprobs, ref_logprobs, mask)[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_k3_estimates_the_divergence():
    torch.manual_seed(0)
    policy, reference = torch.log_softmax(torch.randn(2, 6), -1)
    exact = (policy.exp() * (policy - reference)).sum()
    # The expectation under the policy, summed exactly instead of sampled.
    estimate = (policy.exp() * k3(policy[None], reference[None], torch.ones(1, 6, dtype=torch.bool))[0]).sum()
    assert exact > 0.1
    assert estimate.item() == pytest.approx(exact.item(), abs=1e-5)


def test_negative_log_likelihood():
    values = negative_log_likelihood(tensor([[-0.5, -3.0]]), tensor([[True, False]]))
    assert values.tolist() == [[0.5, 0.0]]
