"""Losses against numbers worked out by hand, both signs, and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from agents.losses import clipped_policy_loss, kl_divergence, negative_log_likelihood, token_weights, value_loss

ESTIMATORS = ("k1", "k2", "k3")


@pytest.mark.parametrize(("aggregation", "expected"), [("sequence", 0.0), ("token", 0.6), ("constant", 0.3)])
def test_aggregation(aggregation, expected):
    """Advantages 1 and -1, lengths 2 and 8, ratio 1, longest 10."""
    mask = torch.zeros(2, 10, dtype=torch.bool)
    mask[0, 3:5] = True
    mask[1, 1:9] = True
    logprobs = torch.randn(2, 10)
    losses = clipped_policy_loss(logprobs, logprobs, tensor([[1.0], [-1.0]]), mask)
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
        # Beyond the range of 0.8 to 1.3 in the direction that the advantage asks for: no gradient.
        (1.5, 1.0, -1.3, 0.0),
        (0.5, -1.0, 0.8, 0.0),
        # Between the two ranges: only the upper one is wider.
        (1.25, 1.0, -1.25, -1.25),
        (0.75, -1.0, 0.8, 0.0),
        # Beyond it in the other direction: the full one.
        (0.5, 1.0, -0.5, -0.5),
        (1.5, -1.0, 1.5, 1.5),
        (4.0, -2.0, 8.0, 8.0),
    ],
)
@pytest.mark.parametrize("kind", ["token", "sequence"])
def test_clipping(ratio, advantage, loss, gradient, kind):
    logprobs = tensor([[math.log(ratio) - 1.0]], requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    value = clipped_policy_loss(
        logprobs, tensor([[-1.0]]), tensor([[advantage]]), mask, 0.2, 0.3, ratio=kind
    ).sum()
    value.backward()
    assert value.item() == pytest.approx(loss, abs=1e-6)
    assert logprobs.grad.item() == pytest.approx(gradient, abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        # Bounded by 3 times the advantage, where it is negative.
        (4.0, -2.0, 6.0, 0.0),
        (2.9, -2.0, 5.8, 5.8),
        (0.5, -2.0, 1.6, 0.0),
        # A positive one is not touched, on either side.
        (4.0, 2.0, -2.4, 0.0),
        (0.1, 2.0, -0.2, -0.2),
    ],
)
def test_dual_clipping(ratio, advantage, loss, gradient):
    logprobs = tensor([[math.log(ratio) - 1.0]], requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    value = clipped_policy_loss(logprobs, tensor([[-1.0]]), tensor([[advantage]]), mask, dual_clip=3.0).sum()
    value.backward()
    assert value.item() == pytest.approx(loss, abs=1e-6)
    assert logprobs.grad.item() == pytest.approx(gradient, abs=1e-6)


def test_sequence_ratio():
    """Log-ratios (0.2, -0.1, 0.2): the ratio of the sequence is exp(0.1) = 1.1052, and the loss of A = -1 too."""
    logprobs = tensor([[-0.8, -1.1, -0.8, 7.0]], requires_grad=True)
    old_logprobs = torch.full((1, 4), -1.0)
    mask = tensor([[True, True, True, False]])
    losses = clipped_policy_loss(logprobs, old_logprobs, tensor([[-1.0]]), mask, ratio="sequence")
    assert losses[0].tolist() == pytest.approx([1.1052, 1.1052, 1.1052, 0], abs=1e-4)
    loss = (token_weights(mask, "sequence") * losses).sum()
    loss.backward()
    assert loss.item() == pytest.approx(math.exp(0.1), abs=1e-6)
    # Through the mean: each token moves it by a third.
    assert logprobs.grad[0].tolist() == pytest.approx([math.exp(0.1) / 3] * 3 + [0], abs=1e-6)
    # As tokens they would be clipped one by one.
    by_token = clipped_policy_loss(logprobs, old_logprobs, tensor([[-1.0]]), mask)
    assert by_token[0].tolist() == pytest.approx([math.exp(0.2), math.exp(-0.1), math.exp(0.2), 0], abs=1e-6)


def test_sequences_have_a_ratio_each():
    logprobs = tensor([[-0.5, -1.0], [-1.0, -0.8]])
    mask = tensor([[True, False], [True, True]])
    losses = clipped_policy_loss(
        logprobs, torch.full((2, 2), -1.0), tensor([[-1.0], [-2.0]]), mask, ratio="sequence"
    )
    assert losses[0].tolist() == pytest.approx([math.exp(0.5), 0], abs=1e-6)
    assert losses[1].tolist() == pytest.approx([2 * math.exp(0.1)] * 2, abs=1e-6)


def test_advantages_of_tokens():
    losses = clipped_policy_loss(
        torch.zeros(2, 2), torch.zeros(2, 2), tensor([[1.0, -2.0], [3.0, float("nan")]]),
        tensor([[True, True], [True, False]]),
    )  # fmt: skip
    assert losses.tolist() == [[-1.0, 2.0], [-3.0, 0.0]]


def test_unknown_ratio_is_refused():
    with pytest.raises(ValueError, match="token, sequence, got 'row'"):
        clipped_policy_loss(
            torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1).bool(), ratio="row"
        )


@pytest.mark.parametrize("dual_clip", [0.0, 3.0])
@pytest.mark.parametrize("per_token", [True, False])
def test_ratio_one_gives_the_gradient_of_reinforce(dual_clip, per_token):
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 7, requires_grad=True)
    targets = torch.randint(7, (3, 5, 1))
    mask = torch.rand(3, 5) > 0.3
    advantages = torch.randn(3, 5) if per_token else tensor([[0.5], [-1.0], [2.0]])
    logprobs = torch.log_softmax(logits, -1).gather(-1, targets)[..., 0]
    surrogate = clipped_policy_loss(logprobs, logprobs.detach(), advantages, mask, dual_clip=dual_clip).sum()
    (ours,) = torch.autograd.grad(surrogate, logits, retain_graph=True)
    reinforce = -(advantages * logprobs * mask).sum()
    (expected,) = torch.autograd.grad(reinforce, logits)
    assert expected.abs().max() > 0.1
    assert torch.allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("wild", [1e4, -1e4, float("inf"), float("nan")])
def test_masked_tokens_have_no_influence(wild):
    """Whatever stands beside the mask, in any argument: value and gradient are exactly zero there."""
    mask = tensor([[True, False]])
    constants = tensor([[-1.0, wild]])
    losses = [
        lambda x: clipped_policy_loss(x, constants, tensor([[1.0]]), mask),
        lambda x: clipped_policy_loss(x, constants, constants, mask, dual_clip=3.0),
        lambda x: clipped_policy_loss(x, constants, tensor([[1.0]]), mask, ratio="sequence"),
        lambda x: clipped_policy_loss(x, constants, constants, mask, ratio="sequence"),
        *(lambda x, kind=kind: kl_divergence(x, constants, mask, kind) for kind in ESTIMATORS),
        lambda x: negative_log_likelihood(x, mask),
        lambda x: value_loss(x, constants, constants + 0.5, mask, 2.0),
        lambda x: value_loss(x, constants, constants, mask, 0.0),
    ]
    for loss in losses:
        for other in (wild, -1.0):
            logprobs = tensor([[-1.1, other]], requires_grad=True)
            values = loss(logprobs)
            values.sum().backward()
            assert values[0, 1] == 0
            assert logprobs.grad[0, 1] == 0
            assert logprobs.grad[0, 0] != 0
            assert torch.isfinite(values).all()
            assert torch.isfinite(logprobs.grad).all()


def test_divergence_by_hand():
    mask = torch.ones(1, 3, dtype=torch.bool)
    logprobs, ref_logprobs = tensor([[-1.0, -2.0, -0.5]]), tensor([[-1.0, -1.0, -2.5]])
    expected = {
        "k1": [0.0, -1.0, 2.0],
        "k2": [0.0, 0.5, 2.0],
        "k3": [0.0, math.exp(1) - 2, math.exp(-2) + 1],
    }
    for estimator, values in expected.items():
        found = kl_divergence(logprobs, ref_logprobs, mask, estimator)[0].tolist()
        assert found == pytest.approx(values, abs=1e-6)
    with pytest.raises(ValueError, match="k1, k2, k3, got 'k4'"):
        kl_divergence(logprobs, ref_logprobs, mask, "k4")


def test_estimators_of_the_divergence():
    """Expectations under the policy, summed exactly instead of sampled: k1 and k3 are unbiased, k2 is not."""
    torch.manual_seed(0)
    logits = torch.randn(6, requires_grad=True)
    policy, reference = torch.log_softmax(logits, -1), torch.log_softmax(torch.randn(6), -1)
    mask = torch.ones(1, 6, dtype=torch.bool)
    exact = (policy.exp() * (policy - reference)).sum()
    reverse = (reference.exp() * (reference - policy)).sum()
    assert exact > 0.1
    mean = {
        kind: (policy.detach().exp() * kl_divergence(policy[None], reference[None], mask, kind)[0]).sum()
        for kind in ESTIMATORS
    }
    assert mean["k1"].item() == pytest.approx(exact.item(), abs=1e-5)
    assert mean["k3"].item() == pytest.approx(exact.item(), abs=1e-5)
    assert abs(mean["k2"].item() - exact.item()) > 0.01
    # Their gradients are another matter, and say which divergence a loss term makes smaller.
    gradient = {kind: torch.autograd.grad(value, logits, retain_graph=True)[0] for kind, value in mean.items()}
    (of_exact,) = torch.autograd.grad(exact, logits, retain_graph=True)
    (of_reverse,) = torch.autograd.grad(reverse, logits)
    assert torch.allclose(gradient["k1"], torch.zeros(6), atol=1e-6)
    assert torch.allclose(gradient["k2"], of_exact, atol=1e-6)
    assert torch.allclose(gradient["k3"], of_reverse, atol=1e-6)
    assert (of_exact - of_reverse).abs().max() > 0.01


@pytest.mark.parametrize(
    ("value", "target", "loss", "gradient"),
    [
        # The old value is 1. Inside the range of 0.2: half the squared error.
        (1.1, 2.0, 0.405, -0.9),
        (0.9, 0.0, 0.405, 0.9),
        # Beyond it towards the target, from below and from above: the error of the clipped value, no gradient.
        (1.5, 2.0, 0.32, 0.0),
        (0.5, 0.0, 0.32, 0.0),
        # Beyond it away from the target, or past the target: the error of the value itself.
        (0.5, 2.0, 1.125, -1.5),
        (1.5, 0.0, 1.125, 1.5),
        (3.0, 1.3, 1.445, 1.7),
    ],
)
def test_value_clipping(value, target, loss, gradient):
    values = tensor([[value]], requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    clipped = value_loss(values, tensor([[1.0]]), tensor([[target]]), mask, 0.2).sum()
    clipped.backward()
    assert clipped.item() == pytest.approx(loss, abs=1e-6)
    assert values.grad.item() == pytest.approx(gradient, abs=1e-6)
    plain = value_loss(values, tensor([[1.0]]), tensor([[target]]), mask, 0.0)
    assert plain.item() == pytest.approx((value - target) ** 2 / 2, abs=1e-6)


def test_negative_log_likelihood():
    values = negative_log_likelihood(tensor([[-0.5, -3.0]]), tensor([[True, False]]))
    assert values.tolist() == [[0.5, 0.0]]
