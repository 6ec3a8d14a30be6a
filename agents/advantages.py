"""Advantages from rewards: pure functions of tensors.

Two families. GRPO's compare the returns of a group, the trajectories of one task, and need no value function:
`group_advantages` for whole episodes, `turn_advantages` for each turn. PPO's compare rewards with predicted
values: `gae` takes a sampled token for a step, `turn_gae` a whole turn.

Shapes: G trajectories of a group, K turns, B trajectories, T sampled tokens of a row. Masks are True on the first
columns of a row and False after its last token; values elsewhere have no influence, whatever they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ADVANTAGES = ("group_std", "group_mean", "leave_one_out")


def group_advantages(rewards_G: Tensor, kind: str = "group_std", epsilon: float = 1e-6) -> Tensor:
    """Compare each trajectory of a group with the group.

    - `"group_std"`: `(R_i - mean(R)) / (std(R) + epsilon)` (GRPO, Shao et al. 2024, arXiv 2402.03300, section
      4.1.2), with the sample standard deviation (divisor G - 1), as the implementations that the paper's authors
      build on compute it.
    - `"group_mean"`: `R_i - mean(R)` (Dr. GRPO, Liu et al. 2025, arXiv 2503.20783).
    - `"leave_one_out"`: `R_i` minus the mean of the others (RLOO, Ahmadian et al. 2024, arXiv 2402.14740): a
      baseline that does not depend on `R_i`, so the gradient is unbiased.

    Args:
        rewards_G: Returns of the trajectories of one task, [G].
        kind: One of the above.
        epsilon: Keeps the division of `"group_std"` finite.

    Returns:
        Advantages [G]; all zero when the rewards are equal, or the group has one member.

    Raises:
        ValueError: Unknown kind.

    >>> [round(advantage, 4) for advantage in group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0])).tolist()]
    [1.5, -0.5, -0.5, -0.5]
    """
    if kind not in ADVANTAGES:
        raise ValueError(f"advantage must be one of {', '.join(ADVANTAGES)}, got {kind!r}")
    # In double precision: the mean of equal float32 rewards need not be that reward, and a rounding error divided
    # by an epsilon would become an advantage.
    rewards = rewards_G.double()
    size = len(rewards)
    if size < 2 or bool((rewards == rewards[0]).all()):
        return torch.zeros_like(rewards_G)
    centred = rewards - rewards.mean()
    if kind == "group_std":
        centred = centred / (rewards.std(correction=1) + epsilon)
    elif kind == "leave_one_out":
        # R_i - (sum - R_i) / (G - 1), written with the mean.
        centred = centred * (size / (size - 1))
    return centred.to(rewards_G.dtype)


def returns_to_go(rewards: Sequence[float], gamma: float = 1.0) -> list[float]:
    """Sum the rewards from each step to the end, a reward k steps ahead weighted with `gamma**k`.

    >>> returns_to_go([1.0, 0.0, 1.0])
    [2.0, 1.0, 1.0]
    """
    found: list[float] = []
    total = 0.0
    for reward in reversed(rewards):
        total = reward + gamma * total
        found.append(total)
    return found[::-1]


def turn_advantages(
    turn_rewards: Sequence[Sequence[float]], kind: str = "group_std", gamma: float = 1.0, epsilon: float = 1e-6
) -> Tensor:
    """Compare each turn of a group's trajectories with the turns of the same index.

    The return of a turn is its discounted return-to-go, so a turn gets no credit for what was paid before it.
    `group_advantages` compares it with the same turn's return in the other trajectories; those that ended before
    it do not count. The first turn's advantage is that of the episode where gamma is 1.

    A turn that only one trajectory has cannot be compared with anything. It is taken as one step together with the
    turns before it, back to the last turn that another trajectory has too, and gets that turn's advantage. This
    adds no bias: what was paid before a turn, and what the other trajectories were paid, do not depend on what the
    turn writes. No advantage at all would teach nothing to the one trajectory that went on and succeeded.

    Args:
        turn_rewards: For each trajectory of one task, the reward of each turn. Paid at the end only (not `dense`),
            the turns of a trajectory have the same return but for the discount.
        kind: As for `group_advantages`.
        gamma: Discount from turn to turn.
        epsilon: As for `group_advantages`.

    Returns:
        Advantages [G, K], K the largest number of turns; zero where a trajectory has no such turn.

    Raises:
        ValueError: Unknown kind.

    >>> turn_advantages([[1.0, 0.0, 1.0], [0.0, 0.0]], "group_mean").tolist()
    [[1.0, 0.5, 0.5], [-1.0, -0.5, 0.0]]
    """
    returns = [returns_to_go(rewards, gamma) for rewards in turn_rewards]
    width = max(map(len, returns), default=0)
    found = torch.zeros(len(returns), width)
    for k in range(width):
        members = [i for i, row in enumerate(returns) if len(row) > k]
        if len(members) > 1:
            # Rounded to single precision: equal sums of different terms then compare as equal.
            returns_M = torch.tensor([returns[i][k] for i in members])
            found[members, k] = group_advantages(returns_M, kind, epsilon)
        elif k:
            found[members[0], k] = found[members[0], k - 1]
    return found


def overlong_penalty(length: int, limit: int, buffer: int = 0) -> float:
    """Penalise long episodes (DAPO, Yu et al. 2025, arXiv 2503.14476, equation 13), to be added to the return.

    0 up to `limit - buffer` tokens, then falling linearly to -1 at `limit`, -1 from there on.

    Args:
        length: Sampled tokens of the episode.
        limit: Length from which the penalty is -1; 0 for no penalty.
        buffer: Tokens over which it falls. With 0 it falls at once: 0 below `limit`, -1 from it on.

    Returns:
        A number from -1 to 0.

    >>> [overlong_penalty(length, limit=100, buffer=20) for length in (80, 85, 100, 101)]
    [0.0, -0.25, -1.0, -1.0]
    """
    if limit == 0 or length <= limit - max(buffer, 1):
        return 0.0
    if length >= limit:
        return -1.0
    return (limit - buffer - length) / buffer


def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float = 1.0, gae_lambda: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over tokens (Schulman et al. 2016, arXiv 1506.02438, equation 16).

    `A_t = d_t + gamma * lambda * A_{t+1}` with `d_t = r_t + gamma * V_{t+1} - V_t`. The value after the last token
    is 0 in every row: an episode that the turn limit cut off was scored, like one that ended, and paid as such, so
    there is no future return to predict.

    Args:
        rewards_BT: Rewards of the tokens, [B, T].
        values_BT: Predicted values before each token; constants, [B, T].
        mask_BT: True on the first columns of a row, [B, T].
        gamma: Discount from token to token.
        gae_lambda: 0 looks one step ahead, 1 to the end of the episode.

    Returns:
        Advantages and the value targets `A_t + V_t`, both [B, T], zero where the mask is False.
    """
    rewards = rewards_BT.float().masked_fill(~mask_BT, 0.0)
    values = values_BT.detach().float().masked_fill(~mask_BT, 0.0)
    advantages = torch.zeros_like(values)
    # Columns after a row's end hold zeros, which are the value and the advantage after its last token.
    following_value = following = torch.zeros(len(values), device=values.device)
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * following_value - values[:, t]
        following = delta + gamma * gae_lambda * following
        following_value = values[:, t]
        advantages[:, t] = following
    return advantages, advantages + values


def turn_gae(
    rewards_BT: Tensor,
    values_BT: Tensor,
    turn_BT: Tensor,
    mask_BT: Tensor,
    gamma: float = 1.0,
    gae_lambda: float = 0.95,
) -> tuple[Tensor, Tensor, Tensor]:
    """Generalised advantage estimation with a turn as a step, as in `gae`.

    A turn is one action: its reward is the sum of its tokens' rewards, and its value the one predicted before its
    first token, so neither gamma nor lambda wears a reward down over the tokens that a turn happens to have. All
    tokens of a turn get the turn's advantage. The values before its later tokens stand for nothing in this
    estimate, so only the first token has a value target.

    Args:
        rewards_BT: Rewards of the tokens, [B, T].
        values_BT: Predicted values before each token; constants, [B, T].
        turn_BT: The turn that each token belongs to, never falling along a row, [B, T].
        mask_BT: True on the first columns of a row, [B, T].
        gamma: Discount from turn to turn.
        gae_lambda: 0 looks one turn ahead, 1 to the end of the episode.

    Returns:
        Advantages, value targets, and the mask of the targets, True on each turn's first token; all [B, T], zero
        where their mask is False.
    """
    first_BT = mask_BT.clone()
    first_BT[:, 1:] &= turn_BT[:, 1:] != turn_BT[:, :-1]
    # Counted anew: a turn in which nothing was sampled has no token and must not leave a hole.
    step_BT = (first_BT.cumsum(dim=1) - 1).clamp(min=0)
    shape = (len(mask_BT), int(first_BT.sum(dim=1).max()) if first_BT.numel() else 0)
    rewards = rewards_BT.float().masked_fill(~mask_BT, 0.0)
    values = values_BT.detach().float().masked_fill(~first_BT, 0.0)
    rewards_BK = rewards.new_zeros(shape).scatter_add_(1, step_BT, rewards)
    values_BK = values.new_zeros(shape).scatter_add_(1, step_BT, values)
    steps_BK = torch.arange(shape[1], device=mask_BT.device) < first_BT.sum(dim=1, keepdim=True)
    advantages_BK, targets_BK = gae(rewards_BK, values_BK, steps_BK, gamma, gae_lambda)
    advantages_BT = advantages_BK.gather(1, step_BT).masked_fill(~mask_BT, 0.0)
    return advantages_BT, targets_BK.gather(1, step_BT).masked_fill(~first_BT, 0.0), first_BT


def normalize(advantages_BT: Tensor, mask_BT: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Shift and scale the advantages of a batch to mean 0 and sample standard deviation 1.

    Args:
        advantages_BT: Advantages, [B, T].
        mask_BT: True on tokens that count, [B, T].
        epsilon: Keeps the division finite.

    Returns:
        Advantages [B, T], zero where the mask is False; all zero when they are equal.
    """
    return torch.zeros_like(advantages_BT).masked_scatter(
        mask_BT, group_advantages(advantages_BT[mask_BT], "group_std", epsilon)
    )
