"""GRPO: group-relative policy optimisation (Shao et al. 2024, arXiv 2402.03300), as MENTOR sets it.

Advantages are relative to the group of episodes of one task; the clipped surrogate and a k3 penalty towards a
frozen copy of the starting model are averaged over the tokens that the policy sampled, so what tools and templates
wrote carries no loss.

Departures: a group whose rewards are all equal has no advantage and is left out of the computation altogether, its
KL penalty included. Left out: dual clipping, the entropy bonus, mini-batches within an update.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.advantages import group_advantages
from agents.losses import AGGREGATIONS, clipped_policy_loss, k3, token_weights
from agents.optimizer import Optimizer
from agents.packed import action_logprobs
from agents.sampler import attends_fully
from agents.trajectory import Batch, Trajectory

# What a forward pass costs beside its tokens, in tokens.
_PASS_TOKENS = 400


class GRPO:
    """The learner. Every trajectory must carry the log-probabilities that its tokens were sampled with.

    Args:
        model: The policy, a Hugging Face causal language model; trained in place, in evaluation mode, so that the
            ratio of the first update is 1.
        learning_rate: Of AdamW, constant after the warm-up.
        warmup_steps: Optimiser steps of linear warm-up.
        kl_coef: Weight of the k3 penalty; 0 computes none and keeps no reference.
        clip_range: How far the ratio may move.
        max_grad_norm: Gradient clipping; 0 for none.
        epochs: Optimiser steps on the same trajectories.
        aggregation: How tokens are averaged: `"token"`, `"sequence"` or `"constant"`.
        group_std: Whether advantages are divided by the group's standard deviation.
        temperature: The temperature that the trajectories were sampled with.
        max_batch_tokens: Padded tokens of one forward pass; larger updates are split, with the same gradient.
        share_prefix: Whether the prompt of a group is read once instead of once per trajectory.

    Raises:
        ValueError: Unknown aggregation.
    """

    def __init__(
        self,
        model: Any,
        learning_rate: float = 1e-6,
        warmup_steps: int = 0,
        kl_coef: float = 0.001,
        clip_range: float = 0.2,
        max_grad_norm: float = 1.0,
        epochs: int = 1,
        aggregation: str = "token",
        group_std: bool = True,
        temperature: float = 1.0,
        max_batch_tokens: int = 8_192,
        share_prefix: bool = True,
    ) -> None:
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r}")
        self.model = model
        self.kl_coef = kl_coef
        self.clip_range = clip_range
        self.epochs = epochs
        self.aggregation = aggregation
        self.group_std = group_std
        self.temperature = temperature
        self.max_batch_tokens = max_batch_tokens
        # The shared prompt is read through a mask of ours, which sliding windows and recurrent layers do not know.
        self.share_prefix = share_prefix and attends_fully(model.config, 1 << 30)
        self.optimizer = Optimizer(model, learning_rate, warmup_steps, max_grad_norm)
        self.reference = copy.deepcopy(model).requires_grad_(False) if kl_coef else None

    def update(self, groups: Sequence[Sequence[Trajectory]]) -> dict[str, float]:
        """Improve the policy with the episodes of some tasks.

        Args:
            groups: For each task, the trajectories that the current policy sampled.

        Returns:
            `loss`, `kl` (mean k3 per token), `clip_fraction` (share of tokens whose ratio left the range),
            `grad_norm` (before clipping), `zero_variance` (share of groups without a signal) and `skipped`
            (updates left out so far because they were not finite); means over the epochs, zeros when no group has
            a signal.

        Raises:
            FloatingPointError: Five updates in a row were not finite.
        """
        counted = [trajectory for group in groups for trajectory in group if True in trajectory.action_mask]
        # Over all groups, those without a signal included: leaving them out must not change the average.
        rows = len(counted)
        tokens = sum(sum(trajectory.action_mask) for trajectory in counted)
        longest = max((sum(trajectory.action_mask) for trajectory in counted), default=0)
        signal: list[tuple[Sequence[Trajectory], Tensor]] = []
        silent = 0
        for group in groups:
            rewards_G = torch.tensor([trajectory.total_reward for trajectory in group])
            advantages_G = group_advantages(rewards_G, self.group_std)
            if not advantages_G.any():
                silent += 1
                continue
            kept = [i for i, trajectory in enumerate(group) if True in trajectory.action_mask]
            if kept:
                signal.append(([group[i] for i in kept], advantages_G[kept]))
        names = ("loss", "kl", "clip_fraction", "grad_norm")
        metrics = dict.fromkeys(names, 0.0)
        parts = list(self._parts(signal))
        for _ in range(self.epochs if parts else 0):
            sums = dict.fromkeys(("kl", "clip_fraction"), 0.0)

            def backward(sums: dict[str, float] = sums) -> Tensor:
                total = torch.zeros(())
                for batch, advantages_B, ref_logprobs_BT in parts:
                    mask = batch.action_mask_BT
                    weights_BT = token_weights(mask, self.aggregation, rows, tokens, longest)
                    logprobs_BT = action_logprobs(self.model, batch, self.temperature)
                    losses_BT = clipped_policy_loss(
                        logprobs_BT, batch.old_logprobs_BT, advantages_B, mask, self.clip_range
                    )
                    if ref_logprobs_BT is not None:
                        kl_BT = k3(logprobs_BT, ref_logprobs_BT, mask)
                        losses_BT = losses_BT + self.kl_coef * kl_BT
                        sums["kl"] += float(kl_BT.detach().sum())
                    ratio_BT = (logprobs_BT.detach() - batch.old_logprobs_BT)[mask].exp()
                    sums["clip_fraction"] += float(((ratio_BT - 1).abs() > self.clip_range).sum())
                    loss = (weights_BT * losses_BT).sum()
                    loss.backward()
                    total += loss.detach().cpu()
                return total

            loss, norm = self.optimizer.step(backward)
            metrics["loss"] += loss / self.epochs
            metrics["grad_norm"] += norm / self.epochs
            for name, value in sums.items():
                metrics[name] += value / sum(int(part[0].action_mask_BT.sum()) for part in parts) / self.epochs
        metrics["zero_variance"] = silent / max(len(groups), 1)
        metrics["skipped"] = float(self.optimizer.skipped)
        return metrics

    def _parts(
        self, signal: Sequence[tuple[Sequence[Trajectory], Tensor]]
    ) -> Iterator[tuple[Batch, Tensor, Tensor | None]]:
        """Split the groups into batches that fit, with the reference's log-probabilities."""
        device = next(self.model.parameters()).device
        for chunk in _pack(signal, self.max_batch_tokens):
            batch = Batch.from_groups([group for group, _ in chunk], self.share_prefix, str(device))
            advantages_B = torch.cat([advantages_G for _, advantages_G in chunk]).to(device)
            ref_logprobs_BT = None
            if self.reference is not None:
                with torch.no_grad():
                    ref_logprobs_BT = action_logprobs(self.reference, batch, self.temperature)
            yield batch, advantages_B, ref_logprobs_BT


def _pack(
    signal: Sequence[tuple[Sequence[Trajectory], Tensor]], limit: int
) -> Iterator[list[tuple[Sequence[Trajectory], Tensor]]]:
    """Fill batches with rows of similar length, up to `limit` padded tokens.

    A group is split where padding its short rows to its long ones would cost more than reading its prompt again,
    and a batch ends where the same would cost more than another forward pass.
    """
    pieces: list[tuple[int, Sequence[Trajectory], Tensor]] = []
    for group, advantages_G in signal:
        prompt = min(trajectory.action_mask.index(True) for trajectory in group)
        order = sorted(range(len(group)), key=lambda i: len(group[i].token_ids))
        start = 0
        for end in range(1, len(order) + 1):
            width = len(group[order[end - 1]].token_ids)
            following = len(group[order[end]].token_ids) if end < len(order) else 0
            full = (end - start + 1) * following > limit
            if end == len(order) or full or (end - start) * (following - width) > prompt:
                rows = order[start:end]
                pieces.append((width - prompt, [group[i] for i in rows], advantages_G[rows]))
                start = end
    chunk: list[tuple[Sequence[Trajectory], Tensor]] = []
    count = last = 0
    for width, piece, advantages_G in sorted(pieces, key=lambda piece: piece[0]):
        longest = max(len(trajectory.token_ids) for trajectory in piece)
        full = (count + len(piece)) * longest > limit
        if chunk and (full or count * (width - last) > _PASS_TOKENS):
            yield chunk
            chunk, count = [], 0
        chunk.append((piece, advantages_G))
        count, last = count + len(piece), width
    if chunk:
        yield chunk
