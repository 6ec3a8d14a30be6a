"""Advantages against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from agents.advantages import (
    gae,
    group_advantages,
    normalize,
    overlong_penalty,
    returns_to_go,
    turn_advantages,
    turn_gae,
)


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        # The MENTOR paper's cases a to d, under MENTOR and under the sparse reward.
        ([1.1, 0.8, 0.16, 0.0], [1.1226, 0.5469, -0.6812, -0.9883]),
        ([1.0, 1.0, 0.1, 0.1], [0.8660, 0.8660, -0.8660, -0.8660]),
        ([1.0, 0.0, 0.0, 0.0], [1.5, -0.5, -0.5, -0.5]),
        # Cases c and d alone: the sparse reward has nothing to tell them apart by.
        ([0.16, 0.0], [0.7071, -0.7071]),
        ([0.1, 0.1], [0.0, 0.0]),
    ],
)
def test_group_std(rewards, expected):
    assert torch.allclose(group_advantages(tensor(rewards)), tensor(expected), atol=1e-4)


def test_the_sample_deviation_is_used():
    rewards = [1.1, 0.8, 0.16, 0.0]
    mean = sum(rewards) / 4
    std = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / 3)
    assert mean == pytest.approx(0.515)
    assert std == pytest.approx(0.52112, abs=1e-5)
    assert group_advantages(tensor(rewards))[0].item() == pytest.approx((1.1 - mean) / (std + 1e-6), abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("group_std", [1.5, -0.5, -0.5, -0.5]),
        ("group_mean", [0.75, -0.25, -0.25, -0.25]),
        ("leave_one_out", [1.0, -1 / 3, -1 / 3, -1 / 3]),
    ],
)
def test_kinds(kind, expected):
    assert group_advantages(tensor([1.0, 0, 0, 0]), kind).tolist() == pytest.approx(expected, abs=1e-5)


def test_leave_one_out_is_the_return_minus_the_mean_of_the_others():
    rewards = [1.1, 0.8, 0.16, 0.0, 0.3]
    expected = [reward - (sum(rewards) - reward) / 4 for reward in rewards]
    assert group_advantages(tensor(rewards), "leave_one_out").tolist() == pytest.approx(expected, abs=1e-6)


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="group_std, group_mean, leave_one_out, got 'std'"):
        group_advantages(tensor([1.0, 0.0]), "std")


@pytest.mark.parametrize("kind", ["group_std", "group_mean", "leave_one_out"])
@pytest.mark.parametrize("reward", [0.1, 0.16, 1.1, 1 / 3])
@pytest.mark.parametrize("size", [1, 3, 10, 16])
def test_equal_rewards_have_no_advantage(reward, size, kind):
    # In float32 the mean of ten times 0.1 is not 0.1; the rest would be divided by the epsilon.
    assert group_advantages(torch.full((size,), reward), kind).tolist() == [0.0] * size
    assert group_advantages(torch.full((size,), reward, dtype=torch.double), kind).tolist() == [0.0] * size
    assert turn_advantages([[reward]] * size, kind).tolist() == [[0.0]] * size


def test_returns_to_go():
    assert returns_to_go([1, 0, 1]) == [2, 1, 1]
    assert returns_to_go([1, 0, 1], gamma=0.5) == [1.25, 0.5, 1]
    assert returns_to_go([]) == []


def test_turns_are_compared_with_the_turns_of_the_same_index():
    # Returns: (2, 1, 1), (1, 0), (0, 3); turn 0 has mean 1, turn 1 mean 4/3.
    found = turn_advantages([[1, 0, 1], [1, 0], [-3, 3]], "group_mean")
    third = 1 / 3
    assert found.tolist() == [
        pytest.approx([1, -third, -third], abs=1e-6),
        pytest.approx([0, -4 * third, 0], abs=1e-6),
        pytest.approx([-1, 5 * third, 0], abs=1e-6),
    ]


def test_turns_under_discount_and_deviation():
    # Returns with gamma 0.5: (1.25, 0.5), (0, 0); half a difference d over a sample deviation d / sqrt(2).
    found = turn_advantages([[1, 0.5], [0, 0]], "group_std", gamma=0.5)
    root = math.sqrt(0.5)
    assert found.tolist() == [pytest.approx([root, root], abs=1e-5), pytest.approx([-root, -root], abs=1e-5)]
    found = turn_advantages([[1, 0.5], [0, 0]], "group_mean", gamma=0.5)
    assert found.tolist() == [[0.625, 0.25], [-0.625, -0.25]]


def test_a_turn_without_company_shares_the_last_compared_advantage():
    """One trajectory goes on alone for two turns; the last compared turn's return includes what they earn."""
    found = turn_advantages([[0, 0, 0.5, 0.5], [0, 0], [0]], "leave_one_out")
    assert found.tolist() == [[1, 1, 1, 1], [-0.5, -1, 0, 0], [-0.5, 0, 0, 0]]
    # A group of one has nothing to compare at all.
    assert turn_advantages([[1.0, 2.0]]).tolist() == [[0, 0]]


def test_rewards_at_the_end_give_every_turn_the_credit_of_the_episode():
    rewards = [1.1, 0.8, 0.16, 0.0]
    found = turn_advantages([[0, 0, reward] for reward in rewards])
    assert torch.equal(found, group_advantages(tensor(rewards))[:, None].expand(4, 3))


def test_equal_returns_in_different_portions_have_no_advantage():
    # 0.1 + 0.2 is not 0.3 in double precision.
    assert sum([0.1, 0.2]) != 0.3
    assert turn_advantages([[0.1, 0.2], [0.3]])[:, 0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 0), (16_384, 0), (16_385, -1 / 4096), (18_432, -0.5), (20_479, -4095 / 4096), (20_480, -1), (30_000, -1)],
)
def test_overlong_penalty(length, expected):
    """The paper's setting: 20,480 tokens, the last 4,096 of them a buffer."""
    assert overlong_penalty(length, 20_480, 4_096) == pytest.approx(expected, abs=1e-9)


def test_overlong_penalty_without_buffer_or_limit():
    assert [overlong_penalty(length, 100) for length in (0, 99, 100, 101)] == [0, 0, -1, -1]
    assert overlong_penalty(1_000_000, 0) == 0
    # The buffer may take up the whole length.
    assert [overlong_penalty(length, 100, 100) for length in (0, 25, 100)] == [0, -0.25, -1]


def ones(*lengths: int) -> torch.Tensor:
    """A mask with that many leading columns in each row."""
    return torch.arange(max(lengths)) < tensor(lengths)[:, None]


def test_gae_by_hand():
    """Rewards (1, 0, 2), values (0.5, 1, -1), lambda 0.9, gamma 0.5.

    Deltas from the end: 2 + 1 = 3; 0 - 0.5 - 1 = -1.5; 1 + 0.5 - 0.5 = 1. Advantages: 3; -1.5 + 0.45 * 3 = -0.15;
    1 - 0.45 * 0.15 = 0.9325.
    """
    rewards, values = tensor([[1.0, 0.0, 2.0]]), tensor([[0.5, 1.0, -1.0]])
    advantages, targets = gae(rewards, values, ones(3), gamma=0.5, gae_lambda=0.9)
    assert advantages[0].tolist() == pytest.approx([0.9325, -0.15, 3.0], abs=1e-6)
    assert targets[0].tolist() == pytest.approx([1.4325, 0.85, 2.0], abs=1e-6)


@pytest.mark.parametrize("gamma", [0.99, 1.0, 0.5])
@pytest.mark.parametrize("gae_lambda", [0.0, 1.0])
def test_gae_of_a_constant_value_function(gamma, gae_lambda):
    """Reward 1 a step and one value everywhere: both ends of lambda have a closed form."""
    length, value = 10, 42.0
    rewards, values = torch.ones(1, length), torch.full((1, length), value)
    advantages, targets = gae(rewards, values, ones(length), gamma, gae_lambda)
    if gae_lambda == 0:
        # One step ahead, and nothing after the last.
        expected = [1 + gamma * value - value] * (length - 1) + [1 - value]
    else:
        # The sum of what is left, whatever the values.
        expected = [sum(gamma**k for k in range(length - t)) - value for t in range(length)]
    assert advantages[0].tolist() == pytest.approx(expected, rel=1e-5)
    assert targets[0].tolist() == pytest.approx([number + value for number in expected], rel=1e-5, abs=1e-4)


def test_gae_of_right_values_is_zero():
    rewards = tensor([[0.0, 1.0, 0.0, 2.0]])
    values = tensor([returns_to_go(rewards[0].tolist(), 0.9)])
    advantages, _ = gae(rewards, values, ones(4), 0.9, 0.7)
    assert advantages[0].tolist() == pytest.approx([0] * 4, abs=1e-6)


@pytest.mark.parametrize("wild", [float("inf"), float("nan"), 1e9])
def test_rows_of_gae_end_where_their_mask_ends(wild):
    """A short row beside a long one gives what it gives alone, whatever stands in its padding."""
    torch.manual_seed(0)
    rewards, values, mask = torch.randn(2, 5), torch.randn(2, 5, requires_grad=True), ones(2, 5)
    turns = tensor([[0, 1, 9, 9, 9], [0, 0, 1, 1, 2]])
    alone = gae(rewards[:1, :2], values[:1, :2], mask[:1, :2], 0.9, 0.8)
    alone_turns = turn_gae(rewards[:1, :2], values[:1, :2], turns[:1, :2], mask[:1, :2], 0.9, 0.8)
    rewards = rewards.masked_fill(~mask, wild)
    both = gae(rewards, values.masked_fill(~mask, wild), mask, 0.9, 0.8)
    both_turns = turn_gae(rewards, values.masked_fill(~mask, wild), turns, mask, 0.9, 0.8)
    for short, long in zip((*alone, *alone_turns), (*both, *both_turns), strict=True):
        assert torch.equal(short[0], long[0, :2])
        assert not long[0, 2:].any()
        assert long[1].isfinite().all()
        # Advantages are constants to the policy loss.
        assert not long.requires_grad


def test_turn_gae_by_hand():
    """Two turns of three tokens and one, rewards 0.25 + 0.75 and 2, values 0.5 and -1, lambda 0.9, gamma 0.5.

    Deltas: 2 + 1 = 3; 1 - 0.5 - 0.5 = 0. Advantages: 3; 0 + 0.45 * 3 = 1.35.
    """
    rewards = tensor([[0.25, 0.0, 0.75, 2.0]])
    # Values inside a turn have no say.
    values = tensor([[0.5, 100.0, -50.0, -1.0]])
    advantages, targets, first = turn_gae(rewards, values, tensor([[0, 0, 0, 1]]), ones(4), 0.5, 0.9)
    assert advantages[0].tolist() == pytest.approx([1.35, 1.35, 1.35, 3.0], abs=1e-6)
    assert first[0].tolist() == [True, False, False, True]
    assert targets[0].tolist() == pytest.approx([1.85, 0, 0, 2.0], abs=1e-6)


def test_turn_gae_of_one_token_a_turn_is_gae():
    torch.manual_seed(0)
    rewards, values, mask = torch.randn(3, 6), torch.randn(3, 6), ones(6, 2, 4)
    # Only where the number changes counts: a turn in which nothing was sampled leaves a gap.
    for turns in (torch.arange(6), tensor([0, 2, 3, 4, 7, 8])):
        found = turn_gae(rewards, values, turns.expand(3, 6), mask, 0.9, 0.8)
        for ours, expected in zip(found, (*gae(rewards, values, mask, 0.9, 0.8), mask), strict=True):
            assert torch.allclose(ours, expected, atol=1e-6)


def test_a_long_turn_does_not_wear_its_reward_down():
    """Gamma discounts turns, not tokens: the same advantage for a turn of 2 tokens as for one of 200."""
    for length in (2, 200):
        rewards = torch.zeros(1, length)
        rewards[0, -1] = 1.0
        mask = ones(length)
        over_turns, _, _ = turn_gae(rewards, torch.zeros(1, length), torch.zeros(1, length), mask, 0.9, 0.9)
        assert over_turns[0, 0] == 1
        over_tokens, _ = gae(rewards, torch.zeros(1, length), mask, 0.9, 0.9)
        assert over_tokens[0, 0].item() == pytest.approx(0.81 ** (length - 1), abs=1e-6)


def test_normalize():
    mask = tensor([[True, True, False], [True, True, True]])
    advantages = tensor([[1.0, 2.0, float("nan")], [3.0, 4.0, 10.0]])
    found = normalize(advantages, mask)
    # Mean 4, squared distances 9 + 4 + 1 + 0 + 36 = 50, divided by 4.
    expected = [(number - 4) / math.sqrt(12.5) for number in (1, 2, 3, 4, 10)]
    assert found[mask].tolist() == pytest.approx(expected, abs=1e-6)
    assert found[0, 2] == 0
    assert normalize(torch.full((2, 3), 0.1), mask).tolist() == [[0] * 3] * 2
