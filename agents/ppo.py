"""PPO: proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) with a value function.

Where GRPO compares the episodes of a task with each other, PPO asks a value head what to expect: one linear layer
on the last hidden states of the policy, whose trunk it shares. Advantages come from generalised advantage
estimation over tokens or over whole turns; rewards count on the turn that earned them (`dense`), or at the end.
The penalty for leaving the starting model is taken off each token's reward (Ziegler et al. 2019, arXiv
1909.08593), so the value function predicts it too. What tools and templates wrote carries no loss.

Departures: mini-batches are not drawn anew in each pass, because neighbours share their prompt; advantages are
normalised over all of an update's tokens instead of each mini-batch. Left out: stopping a pass early at a given
divergence, and scaling of rewards.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from agents.advantages import gae, group_advantages, normalize, overlong_penalty, turn_gae
from agents.losses import (
    AGGREGATIONS,
    KL_ESTIMATORS,
    clipped_policy_loss,
    kl_divergence,
    token_weights,
    value_loss,
)
from agents.optimizer import Optimizer
from agents.packed import Reference, action_outputs, enable_checkpointing, micro_batches
from agents.trajectory import Batch, Trajectory

GAE_STEPS = ("token", "turn")


@dataclass(slots=True)
class _Pass:
    """What one forward pass computes on; constants of an update.

    Attributes:
        batch: The trajectories.
        old_values_BT: Values predicted before the update.
        advantages_BT: Advantages of the sampled tokens.
        targets_BT: What the values should be, where `target_mask_BT` is True.
        target_mask_BT: True on tokens with a value target.
        kl: Sum of the estimated divergence from the starting model.
    """

    batch: Batch
    old_values_BT: Tensor
    advantages_BT: Tensor
    targets_BT: Tensor
    target_mask_BT: Tensor
    kl: float


class PPO:
    """The learner. Every trajectory must carry the log-probabilities that its tokens were sampled with.

    Args:
        model: The policy, a Hugging Face causal language model; trained in place, in evaluation mode, so that the
            ratio of the first update is 1.
        learning_rate: Of AdamW, for the policy and the value head, reached after the warm-up.
        schedule: What follows the warm-up: `"constant"`, `"linear"` or `"cosine"`, see `Optimizer`.
        warmup_steps: Optimiser steps of linear warm-up.
        total_steps: Optimiser steps of the whole run, for the schedule.
        weight_decay: Of AdamW.
        max_grad_norm: Gradient clipping, policy and value head together; 0 for none.
        epochs: Passes over the same trajectories. Their behaviour policy stays the one that sampled them.
        minibatches: Optimiser steps of a pass: the trajectories are cut into so many parts, in their order, and
            each part's loss is averaged over itself.
        gamma: Discount from step to step.
        gae_lambda: Of generalised advantage estimation, see `gae`.
        gae_over: What a step of it is: a `"token"` or a `"turn"`, see `turn_gae`.
        normalize_advantages: Whether advantages are brought to mean 0 and deviation 1 over an update's tokens.
            Where all its episodes are paid the same, this blows up what is left, the errors of the values.
        value_coef: Weight of the value loss.
        value_clip: How far a value may move in an update; 0 for no limit.
        overlong_length: Sampled tokens of an episode from which 1 is taken off its last reward; 0 for no penalty.
        overlong_buffer: Tokens before that over which the penalty rises.
        aggregation: How tokens are averaged in the policy loss: `"token"`, `"sequence"` or `"constant"`, see
            `token_weights`. Value targets always count the same.
        constant_length: Tokens of an episode, for `"constant"`; 0 for the longest of the part.
        clip_low: How far the ratio may fall.
        clip_high: How far it may rise.
        dual_clip: Bounds the loss where the advantage is negative; 0 for no bound.
        kl_coef: Weight of the penalty in the reward; 0 computes none and keeps no reference.
        kl_estimator: `"k1"`, `"k2"` or `"k3"`, see `kl_divergence`.
        entropy_coef: Weight of the entropy bonus; 0 computes no entropy.
        temperature: The temperature that the trajectories were sampled with.
        max_batch_tokens: Packed tokens of one forward pass; larger updates are split, with the same gradient.
        gradient_checkpointing: Whether activations are computed twice instead of kept.

    Attributes:
        optimizer: Takes the steps, and counts them.
        value_head: Maps hidden states to values; zero at the start, so that the first value loss leaves the trunk
            alone.
        reference: The starting model; None without a penalty.

    Raises:
        ValueError: A name is unknown.
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
        gamma: float = 1.0,
        gae_lambda: float = 0.95,
        gae_over: str = "token",
        normalize_advantages: bool = True,
        value_coef: float = 0.1,
        value_clip: float = 0.2,
        overlong_length: int = 0,
        overlong_buffer: int = 0,
        aggregation: str = "token",
        constant_length: int = 0,
        clip_low: float = 0.2,
        clip_high: float = 0.2,
        dual_clip: float = 0.0,
        kl_coef: float = 0.001,
        kl_estimator: str = "k1",
        entropy_coef: float = 0.0,
        temperature: float = 1.0,
        max_batch_tokens: int = 8_192,
        gradient_checkpointing: bool = False,
    ) -> None:
        _check("gae_over", gae_over, GAE_STEPS)
        _check("aggregation", aggregation, AGGREGATIONS)
        _check("kl_estimator", kl_estimator, KL_ESTIMATORS)
        self.model = model
        self.epochs = epochs
        self.minibatches = minibatches
        self.gamma = gamma
        self.gae_lambda = gae_lambda
        self.gae_over = gae_over
        self.normalize_advantages = normalize_advantages
        self.value_coef = value_coef
        self.value_clip = value_clip
        self.overlong_length = overlong_length
        self.overlong_buffer = overlong_buffer
        self.aggregation = aggregation
        self.constant_length = constant_length
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
        width = model.get_output_embeddings().in_features
        self.value_head = nn.Linear(width, 1, device=next(model.parameters()).device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self.optimizer = Optimizer(
            nn.ModuleList([model, self.value_head]),
            learning_rate,
            warmup_steps=warmup_steps,
            schedule=schedule,
            total_steps=total_steps,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
        )
        self.reference = Reference(model) if kl_coef else None

    def update(self, groups: Sequence[Sequence[Trajectory]]) -> dict[str, float]:
        """Improve the policy and its value function with the episodes of some tasks.

        Args:
            groups: For each task, the trajectories that the policy sampled. The groups only decide who shares what
                is read; trajectories without a sampled token are left out.

        Returns:
            Means over the optimiser steps, zeros when none was taken: `loss`, `policy_loss`, `value_loss`,
            `grad_norm` (before clipping), and over their tokens `clip_fraction` (share whose ratio left the
            range), `log_ratio` (mean size of the ratio's logarithm: in a first step, how far sampler and learner
            disagree), `approx_kl` (k3, of the policy that sampled from the one being trained) and, with a bonus
            for it, `entropy`. Of the whole update: `kl` (divergence from the starting model per token, as
            penalised), `explained_variance` (1 where values predict their targets exactly, 0 where they are no
            better than a constant), `zero_variance` (share of groups whose episodes were all paid the same) and
            `learning_rate` (of the last step); since the start: `skipped` (steps left out because they were not
            finite) and `optimizer_steps`.

        Raises:
            FloatingPointError: Five optimiser steps in a row were not finite.
        """
        # 11-12. Batches and advantages, by optimiser step.
        steps = [self._passes(share) for share in _shares(groups, self.minibatches)]
        passes = [each for step in steps for each in step]
        if passes and self.normalize_advantages:
            _normalize(passes)
        returns = [torch.tensor([trajectory.total_reward for trajectory in group]) for group in groups]
        silent = sum(not group_advantages(returns_G).any() for returns_G in returns)
        tokens = sum(int(each.batch.action_mask_BT.sum()) for each in passes)
        kl = sum(each.kl for each in passes) / max(tokens, 1)
        explained = _explained_variance(passes)

        # 13-14. Loss and step.
        names = ["loss", "policy_loss", "value_loss", "grad_norm", "clip_fraction", "log_ratio", "approx_kl"]
        names += ["entropy"] * bool(self.entropy_coef)
        metrics = dict.fromkeys(names, 0.0)
        taken = self.epochs * sum(bool(step) for step in steps)
        for step in steps * self.epochs:
            if not step:
                self.optimizer.rest()
                continue
            figures = self._step(step)
            for name in names:
                metrics[name] += figures[name] / taken
        return {
            **metrics,
            "kl": kl,
            "explained_variance": explained,
            "zero_variance": silent / max(len(groups), 1),
            "learning_rate": self.optimizer.learning_rate,
            "skipped": float(self.optimizer.skipped),
            "optimizer_steps": float(self.optimizer.steps),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs beside the model's weights."""
        return {"optimizer": self.optimizer.state_dict(), "value_head": self.value_head.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.value_head.load_state_dict(state["value_head"])

    @torch.no_grad()
    def _passes(self, groups: Sequence[Sequence[Trajectory]]) -> list[_Pass]:
        """Split the trajectories of one optimiser step into forward passes, with advantages by today's values."""
        trajectories = [trajectory for group in groups for trajectory in group]
        device = str(self.value_head.weight.device)
        passes = []
        for parts in micro_batches(groups, self.max_batch_tokens):
            batch = Batch.from_groups([[trajectories[i] for i in part] for part in parts], device=device)
            mask_BT = batch.action_mask_BT
            values_BT = action_outputs(self.model, batch, self.temperature, self.value_head).values_BT
            assert values_BT is not None
            rewards_BT, kl = self._rewards(batch)
            if self.gae_over == "turn":
                advantages_BT, targets_BT, target_mask_BT = turn_gae(
                    rewards_BT, values_BT, batch.turn_BT, mask_BT, self.gamma, self.gae_lambda
                )
            else:
                advantages_BT, targets_BT = gae(rewards_BT, values_BT, mask_BT, self.gamma, self.gae_lambda)
                target_mask_BT = mask_BT
            passes.append(_Pass(batch, values_BT, advantages_BT, targets_BT, target_mask_BT, kl))
        return passes

    def _rewards(self, batch: Batch) -> tuple[Tensor, float]:
        """Return the rewards of the tokens less their penalties, and the sum of the estimated divergence."""
        rewards_BT = batch.rewards_BT.clone()
        if self.overlong_length:
            lengths = batch.action_mask_BT.sum(dim=1).tolist()
            penalties = [overlong_penalty(n, self.overlong_length, self.overlong_buffer) for n in lengths]
            last = [n - 1 for n in lengths]
            rewards_BT[torch.arange(len(last)), last] += torch.tensor(penalties).to(rewards_BT)
        if self.reference is None:
            return rewards_BT, 0.0
        ref_logprobs_BT = self.reference.logprobs(batch, self.temperature)
        kl_BT = kl_divergence(batch.old_logprobs_BT, ref_logprobs_BT, batch.action_mask_BT, self.kl_estimator)
        return rewards_BT - self.kl_coef * kl_BT, float(kl_BT.sum())

    def _step(self, passes: Sequence[_Pass]) -> dict[str, float]:
        """Take one optimiser step; returns its figures."""
        lengths = [length for each in passes for length in each.batch.action_mask_BT.sum(dim=1).tolist()]
        tokens, longest = sum(lengths), self.constant_length or max(lengths)
        targets = sum(int(each.target_mask_BT.sum()) for each in passes)
        means = ("clip_fraction", "log_ratio", "approx_kl", "entropy")
        sums = dict.fromkeys(("policy_loss", "value_loss", *means), 0.0)

        def backward() -> float:
            total = 0.0
            for each in passes:
                weights_BT = token_weights(
                    each.batch.action_mask_BT, self.aggregation, len(lengths), tokens, longest
                )
                target_weights_BT = token_weights(each.target_mask_BT, "token", tokens=targets)
                total += self._backward(each, weights_BT, target_weights_BT, sums)
            return total

        loss, norm = self.optimizer.step(backward)
        return {"loss": loss, "grad_norm": norm, **sums, **{name: sums[name] / tokens for name in means}}

    def _backward(
        self, each: _Pass, weights_BT: Tensor, target_weights_BT: Tensor, sums: dict[str, float]
    ) -> float:
        """Add the gradients of one forward pass, and its figures to `sums`; returns its part of the loss."""
        batch, mask_BT = each.batch, each.batch.action_mask_BT
        found = action_outputs(self.model, batch, self.temperature, self.value_head, self.entropy_coef > 0)
        assert found.values_BT is not None
        policy_losses_BT = clipped_policy_loss(
            found.logprobs_BT,
            batch.old_logprobs_BT,
            each.advantages_BT,
            mask_BT,
            self.clip_low,
            self.clip_high,
            self.dual_clip,
        )
        value_losses_BT = value_loss(
            found.values_BT, each.old_values_BT, each.targets_BT, each.target_mask_BT, self.value_clip
        )
        policy = (weights_BT * policy_losses_BT).sum()
        value = (target_weights_BT * value_losses_BT).sum()
        loss = policy + self.value_coef * value
        if found.entropy_BT is not None:
            loss = loss - self.entropy_coef * (weights_BT * found.entropy_BT).sum()
            sums["entropy"] += float(found.entropy_BT.detach().sum())
        loss.backward()

        log_ratio_M = (found.logprobs_BT.detach() - batch.old_logprobs_BT)[mask_BT]
        ratio_M = log_ratio_M.exp()
        left_M = (ratio_M < 1 - self.clip_low) | (ratio_M > 1 + self.clip_high)
        sums["policy_loss"] += float(policy.detach())
        sums["value_loss"] += float(value.detach())
        sums["clip_fraction"] += float(left_M.sum())
        sums["log_ratio"] += float(log_ratio_M.abs().sum())
        sums["approx_kl"] += float((ratio_M - 1 - log_ratio_M).sum())
        return float(loss.detach())


def _shares(groups: Sequence[Sequence[Trajectory]], count: int) -> list[list[list[Trajectory]]]:
    """Cut the trajectories that have sampled tokens into parts of equal size; those of a group stay neighbours."""
    rows = [(g, row) for g, group in enumerate(groups) for row in group if True in row.action_mask]
    cuts = [len(rows) * number // count for number in range(count + 1)]
    return [
        [[row for _, row in part] for _, part in itertools.groupby(rows[start:end], key=itemgetter(0))]
        for start, end in itertools.pairwise(cuts)
    ]


def _normalize(passes: Sequence[_Pass]) -> None:
    """Normalise the advantages over the tokens of all passes."""
    masks = [each.batch.action_mask_BT for each in passes]
    advantages_M = torch.cat([each.advantages_BT[mask_BT] for each, mask_BT in zip(passes, masks)])
    every_M = torch.ones_like(advantages_M, dtype=torch.bool)
    normalised = normalize(advantages_M[None], every_M[None])[0].split([int(mask_BT.sum()) for mask_BT in masks])
    for each, mask_BT, own_M in zip(passes, masks, normalised):
        each.advantages_BT = torch.zeros_like(each.advantages_BT).masked_scatter(mask_BT, own_M)


def _explained_variance(passes: Sequence[_Pass]) -> float:
    """Return 1 - Var(targets - values) / Var(targets); 0 where the targets do not vary."""
    if not passes:
        return 0.0
    targets = torch.cat([each.targets_BT[each.target_mask_BT] for each in passes])
    values = torch.cat([each.old_values_BT[each.target_mask_BT] for each in passes])
    variance = targets.var(correction=0)
    return float(1 - (targets - values).var(correction=0) / variance) if variance > 0 else 0.0


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
