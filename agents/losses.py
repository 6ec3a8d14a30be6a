"""Losses: pure functions of tensors, all to be minimised.

Shapes: B trajectories, T tokens. `action_mask_BT` is True on tokens that the policy wrote; values elsewhere have
no influence, whatever they are. A loss is a weighted sum over tokens, `(weights_BT * values_BT).sum()`, so that
the sum over micro-batches is the loss of the batch; `token_weights` says how tokens are averaged.
"""

from __future__ import annotations

import torch
from torch import Tensor

AGGREGATIONS = ("token", "sequence", "constant")


def token_weights(
    action_mask_BT: Tensor, aggregation: str = "token", rows: int = 0, tokens: int = 0, longest: int = 0
) -> Tensor:
    """Return the weight of every token in a batch's mean loss.

    - `"token"`: 1 / all action tokens; every token counts the same (DAPO, arXiv 2503.14476, and the MENTOR code).
    - `"sequence"`: 1 / (rows * the row's tokens); mean of the rows' means (GRPO, arXiv 2402.03300, equation 3).
    - `"constant"`: 1 / (rows * longest); no dependence on lengths (Dr. GRPO, arXiv 2503.20783).

    Args:
        action_mask_BT: True on tokens that count.
        aggregation: One of the above.
        rows: Trajectories of the whole batch when this is a part of it; 0 for B.
        tokens: Action tokens of the whole batch, for `"token"`; 0 for those of the mask.
        longest: The constant of `"constant"`; 0 for the largest number of action tokens of a row.

    Returns:
        Weights [B, T], zero where the mask is False.

    Raises:
        ValueError: Unknown aggregation.
    """
    mask = action_mask_BT.float()
    rows = rows or len(mask)
    per_row = mask.sum(dim=1, keepdim=True)
    if aggregation == "token":
        return mask / max(tokens or int(mask.sum()), 1)
    if aggregation == "sequence":
        return mask / (rows * per_row.clamp(min=1))
    if aggregation == "constant":
        return mask / (rows * max(longest or int(per_row.max()), 1))
    raise ValueError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r}")


def clipped_policy_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_B: Tensor,
    action_mask_BT: Tensor,
    clip_range: float = 0.2,
) -> Tensor:
    """The clipped surrogate per token (PPO, Schulman et al. 2017, arXiv 1707.06347, equation 7), to minimise.

    `-min(r * A, clip(r, 1 - clip_range, 1 + clip_range) * A)` with `r = exp(logprobs - old_logprobs)`. Departure:
    GRPO has one advantage per trajectory, so `A` is the same for all its tokens.

    Args:
        logprobs_BT: Log-probabilities under the policy being trained, [B, T].
        old_logprobs_BT: The same under the behaviour policy; constants, [B, T].
        advantages_B: One advantage per trajectory, [B].
        action_mask_BT: True on tokens that count, [B, T].
        clip_range: How far the ratio may move before its gradient stops.

    Returns:
        Losses [B, T], zero where the mask is False.
    """
    # Masked before exp: a wild value outside the mask would become inf there, and 0 * inf is NaN.
    log_ratio = (logprobs_BT.float() - old_logprobs_BT).masked_fill(~action_mask_BT, 0.0)
    ratio = log_ratio.exp()
    advantages = advantages_B[:, None]
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    loss = -torch.minimum(ratio * advantages, clipped * advantages)
    return loss.masked_fill(~action_mask_BT, 0.0)


def k3(logprobs_BT: Tensor, ref_logprobs_BT: Tensor, action_mask_BT: Tensor) -> Tensor:
    """Estimate KL(policy || reference) per token (GRPO, arXiv 2402.03300, equation 4).

    Schulman's third estimator ("Approximating KL divergence", 2020): `exp(d) - d - 1` with
    `d = ref_logprobs - logprobs`: never negative, and zero where the two agree.

    Args:
        logprobs_BT: Log-probabilities of sampled tokens under the policy being trained, [B, T].
        ref_logprobs_BT: The same under the reference policy; constants, [B, T].
        action_mask_BT: True on tokens that count, [B, T].

    Returns:
        Estimates [B, T], zero where the mask is False.
    """
    difference = (ref_logprobs_BT - logprobs_BT.float()).masked_fill(~action_mask_BT, 0.0)
    return difference.exp() - difference - 1


def negative_log_likelihood(logprobs_BT: Tensor, action_mask_BT: Tensor) -> Tensor:
    """The loss of supervised fine-tuning per token, `-logprobs`; zero where the mask is False."""
    return -logprobs_BT.float().masked_fill(~action_mask_BT, 0.0)
