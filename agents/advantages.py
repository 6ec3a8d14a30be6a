"""Advantages from rewards: pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(rewards_G: Tensor, by_std: bool = True, epsilon: float = 1e-6) -> Tensor:
    """Compare each trajectory of a group with the group (GRPO, Shao et al. 2024, arXiv 2402.03300, section 4.1.2).

    `A_i = (R_i - mean(R)) / (std(R) + epsilon)`, with the sample standard deviation (divisor G - 1), as the
    implementations that the paper's authors build on compute it. Without `by_std` the division is left out (Dr.
    GRPO, Liu et al. 2025, arXiv 2503.20783).

    Args:
        rewards_G: Returns of the trajectories of one task, [G].
        by_std: Whether to divide by the group's standard deviation.
        epsilon: Keeps the division finite.

    Returns:
        Advantages [G]; all zero when the rewards are equal, or the group has one member.

    >>> [round(advantage, 4) for advantage in group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0])).tolist()]
    [1.5, -0.5, -0.5, -0.5]
    """
    # In double precision: the mean of equal float32 rewards need not be that reward, and a rounding error divided
    # by an epsilon would become an advantage.
    rewards = rewards_G.double()
    if len(rewards) < 2 or bool((rewards == rewards[0]).all()):
        return torch.zeros_like(rewards_G)
    centred = rewards - rewards.mean()
    if by_std:
        centred = centred / (rewards.std(correction=1) + epsilon)
    return centred.to(rewards_G.dtype)
