"""GRPO: group-relative policy optimisation (Shao et al. 2024, arXiv 2402.03300), and the variants named below.

Advantages are relative to the group of episodes of one task. The clipped surrogate, a penalty for leaving the
starting model and an entropy bonus are averaged over the tokens that the policy sampled, so what tools and
templates wrote carries no loss. Each variant is one argument:

- Dr. GRPO (Liu et al. 2025, arXiv 2503.20783): `advantage="group_mean"`, `aggregation="constant"`.
- DAPO (Yu et al. 2025, arXiv 2503.14476): `clip_high=0.28`, `kl_coef=0`, `overlong_length`, `overlong_buffer`; its
  dynamic sampling is the training loop's.
- RLOO (Ahmadian et al. 2024, arXiv 2402.14740): `advantage="leave_one_out"`.
- GSPO (Zheng et al. 2025, arXiv 2507.18071): `ratio="sequence"`, `aggregation="sequence"`, `clip_low=3e-4`,
  `clip_high=4e-4`.
- an advantage for each turn instead of each episode: `credit="turn"`, with a reward that is paid every turn.

Departure: a group without a signal (all advantages are 0) is left out of the computation altogether, its penalty
and bonus included; averages are over all groups all the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.advantages import ADVANTAGES, group_advantages, overlong_penalty, turn_advantages
from agents.losses import AGGREGATIONS, KL_ESTIMATORS, RATIOS, clipped_policy_loss, kl_divergence, token_weights
from agents.optimizer import Optimizer
from agents.packed import Reference, action_outputs, enable_checkpointing, micro_batches
from agents.trajectory import Batch, Trajectory

CREDITS = ("episode", "turn")


@dataclass(slots=True)
class _Pass:
    """What one forward pass computes on; constants of an update.

    Attributes:
        batch: The trajectories.
        advantages_BT: Advantages, [B, T], or [B, 1] for those of episodes.
        weights_BT: Weight of each token in the loss of its optimiser step.
        ref_logprobs_BT: Log-probabilities under the starting model; None without a penalty.
    """

    batch: Batch
    advantages_BT: Tensor
    weights_BT: Tensor
    ref_logprobs_BT: Tensor | None


class GRPO:
    """The learner. Every trajectory must carry the log-probabilities that its tokens were sampled with.

    Args:
        model: The policy, a Hugging Face causal language model; trained in place, in evaluation mode, so that the
            ratio of the first update is 1.
        learning_rate: Of AdamW, reached after the warm-up.
        schedule: What follows the warm-up: `"constant"`, `"linear"` or `"cosine"`, see `Optimizer`.
        warmup_steps: Optimiser steps of linear warm-up.
        total_steps: Optimiser steps of the whole run, for the schedule.
        weight_decay: Of AdamW.
        max_grad_norm: Gradient clipping; 0 for none.
        epochs: Passes over the same trajectories. Their behaviour policy stays the one that sampled them.
        minibatches: Optimiser steps of a pass: the groups are cut into so many parts, in their order, and each
            part's loss is averaged over itself.
        advantage: What a return is compared with: `"group_std"`, `"group_mean"` or `"leave_one_out"`, see
            `group_advantages`.
        credit: `"episode"`, or `"turn"` for an advantage of each turn, see `turn_advantages`.
        gamma: Discount from turn to turn, for `"turn"`.
        overlong_length: Sampled tokens of an episode from which 1 is taken off its return; 0 for no penalty.
        overlong_buffer: Tokens before that over which the penalty rises.
        aggregation: How tokens are averaged: `"token"`, `"sequence"` or `"constant"`, see `token_weights`.
        constant_length: Tokens of an episode, for `"constant"`; 0 for the longest of the part.
        ratio: The probability ratio is that of each `"token"`, or of the `"sequence"`, see `clipped_policy_loss`.
        clip_low: How far the ratio may fall.
        clip_high: How far it may rise.
        dual_clip: Bounds the loss where the advantage is negative; 0 for no bound.
        kl_coef: Weight of the penalty for leaving the starting model; 0 computes none and keeps no reference.
        kl_estimator: `"k1"`, `"k2"` or `"k3"`, see `kl_divergence`.
        entropy_coef: Weight of the entropy bonus; 0 computes no entropy.
        temperature: The temperature that the trajectories were sampled with.
        max_batch_tokens: Packed tokens of one forward pass; larger updates are split, with the same gradient.
        gradient_checkpointing: Whether activations are computed twice instead of kept.

    Attributes:
        optimizer: Takes the steps, and counts them.
        reference: The starting model; None without a penalty.

    Raises:
        ValueError: A name is unknown, or an advantage of turns is asked for with a ratio of sequences.
    """

    def __init__(
        self,
        model: Any,
        learning_rate: float = 1e-6,
        schedule: str = "constant",
        warmup_steps: int = 0,
        total_steps: int = 0,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
        epochs: int = 1,
        minibatches: int = 1,
        advantage: str = "group_std",
        credit: str = "episode",
        gamma: float = 1.0,
        overlong_length: int = 0,
        overlong_buffer: int = 0,
        aggregation: str = "token",
        constant_length: int = 0,
        ratio: str = "token",
        clip_low: float = 0.2,
        clip_high: float = 0.2,
        dual_clip: float = 0.0,
        kl_coef: float = 0.001,
        kl_estimator: str = "k3",
        entropy_coef: float = 0.0,
        temperature: float = 1.0,
        max_batch_tokens: int = 8_192,
        gradient_checkpointing: bool = False,
    ) -> None:
        _check("advantage", advantage, ADVANTAGES)
        _check("credit", credit, CREDITS)
        _check("aggregation", aggregation, AGGREGATIONS)
        _check("ratio", ratio, RATIOS)
        _check("kl_estimator", kl_estimator, KL_ESTIMATORS)
        if credit == "turn" and ratio == "sequence":
            raise ValueError("credit 'turn' needs ratio 'token': the ratio of a sequence has one advantage")
        self.model = model
        self.epochs = epochs
        self.minibatches = minibatches
        self.advantage = advantage
        self.credit = credit
        self.gamma = gamma
        self.overlong_length = overlong_length
        self.overlong_buffer = overlong_buffer
        self.aggregation = aggregation
        self.constant_length = constant_length
        self.ratio = ratio
        self.clip_low = clip_low
        self.clip_high = clip_high
        self.dual_clip = dual_clip
        self.kl_coef = kl_coef
        self.kl_estimator = kl_estimator
        self.entropy_coef = entropy_coef
        self.temperature = temperature
        self.max_batch_tokens = max_batch_tokens
        if gradient_checkpointing:
            enable_checkpointing(model)
        self.optimizer = Optimizer(
            model,
            learning_rate,
            warmup_steps=warmup_steps,
            schedule=schedule,
            total_steps=total_steps,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
        )
        self.reference = Reference(model) if kl_coef else None

    def update(self, groups: Sequence[Sequence[Trajectory]]) -> dict[str, float]:
        """Improve the policy with the episodes of some tasks.

        Args:
            groups: For each task, the trajectories that the policy sampled.

        Returns:
            Means over the optimiser steps that had a signal, zeros when none had: `loss`, `grad_norm` (before
            clipping), and over their tokens `kl` (estimated divergence from the starting model; 0 without a
            penalty), `clip_fraction` (share whose ratio left the range), `log_ratio` (mean size of the ratio's
            logarithm: in a first step, how far sampler and learner disagree) and, with a bonus for it, `entropy`.
            Of the whole update: `zero_variance` (share of groups without a signal) and `learning_rate` (of the
            last step); since the start: `skipped` (steps left out because they were not finite) and
            `optimizer_steps`.

        Raises:
            FloatingPointError: Five optimiser steps in a row were not finite.
        """
        # 11-12. Batches and advantages, by optimiser step.
        advantages = [self._advantages(group) for group in groups]
        silent = sum(not values_GK.any() for values_GK in advantages)
        cuts = [len(groups) * number // self.minibatches for number in range(self.minibatches + 1)]
        steps = [self._passes(groups[start:end], advantages[start:end]) for start, end in itertools.pairwise(cuts)]

        # 13-14. Loss and step.
        names = ["loss", "grad_norm", "kl", "clip_fraction", "log_ratio"] + ["entropy"] * bool(self.entropy_coef)
        metrics = dict.fromkeys(names, 0.0)
        taken = self.epochs * sum(bool(passes) for passes in steps)
        for passes in steps * self.epochs:
            if not passes:
                self.optimizer.rest()
                continue
            figures = self._step(passes)
            for name in names:
                metrics[name] += figures[name] / taken
        return {
            **metrics,
            "zero_variance": silent / max(len(groups), 1),
            "learning_rate": self.optimizer.learning_rate,
            "skipped": float(self.optimizer.skipped),
            "optimizer_steps": float(self.optimizer.steps),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the model's weights."""
        return {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])

    def _advantages(self, group: Sequence[Trajectory]) -> Tensor:
        """Return the advantages of a group's episodes [G, 1], or of their turns [G, K]."""
        penalties = [
            overlong_penalty(sum(trajectory.action_mask), self.overlong_length, self.overlong_buffer)
            for trajectory in group
        ]
        if self.credit == "episode":
            returns = [trajectory.total_reward + penalty for trajectory, penalty in zip(group, penalties)]
            return group_advantages(torch.tensor(returns), self.advantage)[:, None]
        rewards = [_sampled_turn_rewards(trajectory) for trajectory in group]
        for row, penalty in zip(rewards, penalties):
            if row:
                row[-1] += penalty
        return turn_advantages(rewards, self.advantage, self.gamma)

    def _passes(self, groups: Sequence[Sequence[Trajectory]], advantages: Sequence[Tensor]) -> list[_Pass]:
        """Split the groups of one optimiser step into forward passes; empty when no group has a signal."""
        # Over all groups, those without a signal included: leaving them out must not change the average.
        lengths = [sum(trajectory.action_mask) for group in groups for trajectory in group]
        rows = sum(length > 0 for length in lengths)
        longest = self.constant_length or max(lengths, default=0)
        kept, kept_advantages = [], []
        for group, values_GK in zip(groups, advantages):
            sampled = [i for i, trajectory in enumerate(group) if True in trajectory.action_mask]
            if values_GK.any() and sampled:
                kept.append([group[i] for i in sampled])
                kept_advantages += [values_GK[i] for i in sampled]
        trajectories = [trajectory for group in kept for trajectory in group]
        device = next(self.model.parameters()).device
        passes = []
        for parts in micro_batches(kept, self.max_batch_tokens):
            batch = Batch.from_groups([[trajectories[i] for i in part] for part in parts], device=str(device))
            advantages_BT = torch.nn.utils.rnn.pad_sequence(
                [kept_advantages[i] for part in parts for i in part], batch_first=True
            ).to(device)
            if self.credit == "turn":
                advantages_BT = advantages_BT.gather(1, batch.turn_BT)
            weights_BT = token_weights(batch.action_mask_BT, self.aggregation, rows, sum(lengths), longest)
            reference = self.reference.logprobs(batch, self.temperature) if self.reference is not None else None
            passes.append(_Pass(batch, advantages_BT, weights_BT, reference))
        return passes

    def _step(self, passes: Sequence[_Pass]) -> dict[str, float]:
        """Take one optimiser step; returns its figures."""
        names = ("kl", "clip_fraction", "log_ratio", "entropy")
        sums = dict.fromkeys(names, 0.0)

        def backward() -> float:
            return sum(self._backward(each, sums) for each in passes)

        loss, norm = self.optimizer.step(backward)
        tokens = sum(int(each.batch.action_mask_BT.sum()) for each in passes)
        return {"loss": loss, "grad_norm": norm, **{name: sums[name] / tokens for name in names}}

    def _backward(self, each: _Pass, sums: dict[str, float]) -> float:
        """Add the gradients of one forward pass, and its figures to `sums`; returns its part of the loss."""
        batch, mask_BT = each.batch, each.batch.action_mask_BT
        found = action_outputs(self.model, batch, self.temperature, entropy=self.entropy_coef > 0)
        losses_BT = clipped_policy_loss(
            found.logprobs_BT,
            batch.old_logprobs_BT,
            each.advantages_BT,
            mask_BT,
            self.clip_low,
            self.clip_high,
            self.dual_clip,
            self.ratio,
        )
        if each.ref_logprobs_BT is not None:
            kl_BT = kl_divergence(found.logprobs_BT, each.ref_logprobs_BT, mask_BT, self.kl_estimator)
            losses_BT = losses_BT + self.kl_coef * kl_BT
            sums["kl"] += float(kl_BT.detach().sum())
        if found.entropy_BT is not None:
            losses_BT = losses_BT - self.entropy_coef * found.entropy_BT
            sums["entropy"] += float(found.entropy_BT.detach().sum())
        loss = (each.weights_BT * losses_BT).sum()
        loss.backward()

        log_ratio_BT = found.logprobs_BT.detach() - batch.old_logprobs_BT
        if self.ratio == "sequence":
            log_ratio_BT = log_ratio_BT.sum(1, keepdim=True) / mask_BT.sum(1, keepdim=True) * mask_BT
        ratio_BT = log_ratio_BT.exp()
        left_BT = (ratio_BT < 1 - self.clip_low) | (ratio_BT > 1 + self.clip_high)
        sums["clip_fraction"] += float((left_BT & mask_BT).sum())
        sums["log_ratio"] += float(log_ratio_BT.abs().sum())
        return float(loss.detach())


def _sampled_turn_rewards(trajectory: Trajectory) -> list[float]:
    """Sum the rewards of each turn's tokens; as many as turns in which something was sampled."""
    rewards: list[float] = []
    before = False
    for reward, sampled in zip(trajectory.rewards, trajectory.action_mask):
        if sampled:
            if not before:
                rewards.append(0.0)
            rewards[-1] += reward
        before = sampled
    return rewards


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
