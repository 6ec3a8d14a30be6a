"""Losses: pure functions of tensors, all to be minimised.

Shapes: B trajectories, T sampled tokens. `action_mask_BT` is True on tokens that the policy wrote; values
elsewhere have no influence, whatever they are: the loss and the gradient there are exactly 0. A loss is a weighted
sum over tokens, `(weights_BT * values_BT).sum()`, so that the sum over micro-batches is the loss of the batch;
`token_weights` says how tokens are averaged.
"""

from __future__ import annotations

import torch
from torch import Tensor

AGGREGATIONS = ("token", "sequence", "constant")
RATIOS = ("token", "sequence")
KL_ESTIMATORS = ("k1", "k2", "k3")


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
    advantages_BT: Tensor,
    action_mask_BT: Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float = 0.0,
    ratio: str = "token",
) -> Tensor:
    """The clipped surrogate per token (PPO, Schulman et al. 2017, arXiv 1707.06347, equation 7), to minimise.

    `-min(r * A, clip(r, 1 - clip_low, 1 + clip_high) * A)`, where r is

    - for `ratio="token"` the token's `exp(logprobs - old_logprobs)`;
    - for `ratio="sequence"` the exponential of the mean of `logprobs - old_logprobs` over the row, the same for
      all its tokens, with gradients through the mean. With one advantage a row and the weights of `"sequence"`,
      the loss is GSPO's (Zheng et al. 2025, arXiv 2507.18071, equations 5 and 7).

    Two ranges, because a larger `clip_high` lets unlikely tokens rise (DAPO, arXiv 2503.14476, section 3.1). With
    `dual_clip`, the loss of a negative advantage is at most `-dual_clip * A` (Ye et al. 2020, arXiv 1912.09729):
    the ratio of a token that the policy now writes far more often has no upper limit otherwise.

    Args:
        logprobs_BT: Log-probabilities under the policy being trained, [B, T].
        old_logprobs_BT: The same under the behaviour policy; constants, [B, T].
        advantages_BT: Advantages; constants, [B, T], or [B, 1] for one of each trajectory.
        action_mask_BT: True on tokens that count, [B, T].
        clip_low: How far the ratio may fall before its gradient stops.
        clip_high: How far it may rise before its gradient stops.
        dual_clip: A number above 1; 0 for no bound.
        ratio: `"token"` or `"sequence"`.

    Returns:
        Losses [B, T], zero where the mask is False.

    Raises:
        ValueError: Unknown ratio.
    """
    if ratio not in RATIOS:
        raise ValueError(f"ratio must be one of {', '.join(RATIOS)}, got {ratio!r}")
    # Masked before exp: a wild value outside the mask would become inf there, and 0 * inf is NaN.
    log_ratio = (logprobs_BT.float() - old_logprobs_BT).masked_fill(~action_mask_BT, 0.0)
    if ratio == "sequence":
        lengths = action_mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
        log_ratio = (log_ratio.sum(dim=1, keepdim=True) / lengths).expand_as(log_ratio)
    ratio_BT = log_ratio.exp()
    # What has no advantage has no loss.
    advantages = advantages_BT.expand_as(log_ratio).masked_fill(~action_mask_BT, 0.0)
    clipped = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.minimum(ratio_BT * advantages, clipped * advantages)
    if dual_clip:
        loss = torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)
    return loss


def kl_divergence(
    logprobs_BT: Tensor, ref_logprobs_BT: Tensor, action_mask_BT: Tensor, estimator: str = "k3"
) -> Tensor:
    """Estimate KL(policy || reference) per sampled token (Schulman, "Approximating KL divergence", 2020).

    With `d = ref_logprobs - logprobs`:

    - `"k1"`: `-d`; unbiased, of either sign.
    - `"k2"`: `d**2 / 2`; biased, never negative.
    - `"k3"`: `exp(d) - d - 1`; unbiased and never negative (GRPO, arXiv 2402.03300, equation 4).

    Their gradients differ from their values. As a term of the loss on the policy's own tokens, k2 has the gradient
    of KL(policy || reference) in expectation, k3 that of KL(reference || policy), and k1 none: k1 belongs into the
    reward, where nothing is differentiated.

    Args:
        logprobs_BT: Log-probabilities of sampled tokens under the policy being trained, [B, T].
        ref_logprobs_BT: The same under the reference policy; constants, [B, T].
        action_mask_BT: True on tokens that count, [B, T].
        estimator: One of the above.

    Returns:
        Estimates [B, T], zero where the mask is False.

    Raises:
        ValueError: Unknown estimator.
    """
    difference = (ref_logprobs_BT - logprobs_BT.float()).masked_fill(~action_mask_BT, 0.0)
    if estimator == "k1":
        return -difference
    if estimator == "k2":
        return difference.square() / 2
    if estimator == "k3":
        return difference.exp() - difference - 1
    raise ValueError(f"kl_estimator must be one of {', '.join(KL_ESTIMATORS)}, got {estimator!r}")


def value_loss(
    values_BT: Tensor, old_values_BT: Tensor, targets_BT: Tensor, mask_BT: Tensor, value_clip: float = 0.2
) -> Tensor:
    """Half the squared error of predicted values, clipped as in the PPO2 of OpenAI Baselines, to minimise.

    The larger of the errors of `values` and of `old_values + clip(values - old_values, -value_clip, value_clip)`:
    a value that has moved further than the range towards its target gets no gradient.

    Args:
        values_BT: Predictions of the value function being trained, [B, T].
        old_values_BT: Its predictions before the update; constants, [B, T].
        targets_BT: What they should be; constants, [B, T].
        mask_BT: True on predictions that count, [B, T].
        value_clip: How far a prediction may move; 0 for no limit.

    Returns:
        Losses [B, T], zero where the mask is False.
    """
    # Each is masked by itself, so that no infinity meets another.
    values, old_values, targets = (
        tensor.float().masked_fill(~mask_BT, 0.0) for tensor in (values_BT, old_values_BT, targets_BT)
    )
    errors = (values - targets).square()
    if value_clip:
        clipped = old_values + (values - old_values).clamp(-value_clip, value_clip)
        errors = torch.maximum(errors, (clipped - targets).square())
    return errors / 2


def negative_log_likelihood(logprobs_BT: Tensor, action_mask_BT: Tensor) -> Tensor:
    """The loss of supervised fine-tuning per token, `-logprobs`; zero where the mask is False."""
    return -logprobs_BT.float().masked_fill(~action_mask_BT, 0.0)
