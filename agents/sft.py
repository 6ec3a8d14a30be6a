"""Supervised fine-tuning on teacher traces.

A trace is played through the real environment by `TeacherTokens`, so what stands between the teacher's turns is
what a policy would see, token for token; only the teacher's own tokens carry loss. They end where the sampler ends
a turn, at the closing tag: the end-of-turn token belongs to the template.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from agents.base import Completion, Observation
from agents.chat import ChatFormat
from agents.losses import AGGREGATIONS, negative_log_likelihood, token_weights
from agents.optimizer import Optimizer
from agents.packed import Reference, action_logprobs, enable_checkpointing, micro_batches
from agents.trajectory import Batch, Trajectory
from mentor_gym.protocol import render_message


class TeacherTokens:
    """An agent that writes the teacher's turns, as tokens: `Rollout.run` makes trajectories of its episodes.

    Args:
        chat: The chat format of the model to be trained.
    """

    privileged = True

    def __init__(self, chat: ChatFormat) -> None:
        self.chat = chat
        self._last: dict[int, int] = {}

    def act(self, observations: Sequence[Observation]) -> list[Completion]:
        """Write the next teacher turn of every episode.

        Raises:
            ValueError: A task has no teacher trace, or the episode outlasts it.
        """
        completions = []
        for observation in observations:
            assert observation.task is not None
            turns = [message for message in observation.task.teacher if message["role"] == "assistant"]
            if observation.turn >= len(turns):
                raise ValueError(
                    f"task {observation.task.id!r}: the teacher trace has {len(turns)} turns and does not end the "
                    "episode"
                )
            if observation.turn == 0 or observation.episode not in self._last:
                prompt = self.chat.opening(observation.messages)
            else:
                prompt = self.chat.later(observation.text, self._last[observation.episode])
            text = render_message(turns[observation.turn])
            ids = self.chat.assistant(text)
            self._last[observation.episode] = ids[-1]
            completions.append(Completion(text, ids, None, prompt))
        return completions

    def forget(self, episode: int) -> None:
        """Drop what is kept for an episode that is over."""
        self._last.pop(episode, None)


class SFT:
    """The learner: minimises the negative log-likelihood of the teacher's tokens.

    Args:
        model: The policy, a Hugging Face causal language model; trained in place, in evaluation mode.
        learning_rate: Of AdamW, reached after the warm-up.
        schedule: What follows the warm-up: `"constant"`, `"linear"` or `"cosine"`, see `Optimizer`.
        warmup_steps: Optimiser steps of linear warm-up.
        total_steps: Optimiser steps of the whole run, for the schedule.
        weight_decay: Of AdamW.
        max_grad_norm: Gradient clipping; 0 for none.
        epochs: Passes over the same trajectories.
        minibatches: Optimiser steps of a pass: the groups are cut into so many parts, in their order.
        aggregation: How tokens are averaged: `"token"`, `"sequence"` or `"constant"`, see `token_weights`.
        constant_length: Tokens of a trace, for `"constant"`; 0 for the longest of the part.
        kl_coef: Weight of KL(policy || starting model), over the whole vocabulary at every token of the teacher;
            0 computes none and keeps no reference.
        max_batch_tokens: Packed tokens of one forward pass; larger updates are split, with the same gradient.
        gradient_checkpointing: Whether activations are computed twice instead of kept.

    Attributes:
        optimizer: Takes the steps, and counts them.
        reference: The starting model; None without a penalty.

    Raises:
        ValueError: Unknown aggregation or schedule.
    """

    def __init__(
        self,
        model: Any,
        learning_rate: float = 1e-5,
        schedule: str = "constant",
        warmup_steps: int = 0,
        total_steps: int = 0,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
        epochs: int = 1,
        minibatches: int = 1,
        aggregation: str = "token",
        constant_length: int = 0,
        kl_coef: float = 0.0,
        max_batch_tokens: int = 8_192,
        gradient_checkpointing: bool = False,
    ) -> None:
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r}")
        self.model = model
        self.epochs = epochs
        self.minibatches = minibatches
        self.aggregation = aggregation
        self.constant_length = constant_length
        self.kl_coef = kl_coef
        self.reference = Reference(model) if kl_coef else None
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

    def update(self, groups: Sequence[Sequence[Trajectory]]) -> dict[str, float]:
        """Imitate the trajectories.

        Args:
            groups: Trajectories of teachers, by task.

        Returns:
            Means over the optimiser steps: `loss`, `grad_norm` (before clipping) and `kl` (0 without a penalty);
            `learning_rate` (of the last step); since the start: `skipped` (steps left out because they were not
            finite) and `optimizer_steps`.

        Raises:
            FloatingPointError: Five optimiser steps in a row were not finite.
        """
        cuts = [len(groups) * number // self.minibatches for number in range(self.minibatches + 1)]
        steps = [self._passes(groups[start:end]) for start, end in itertools.pairwise(cuts)]
        metrics = {"loss": 0.0, "grad_norm": 0.0, "kl": 0.0}
        taken = self.epochs * sum(bool(passes) for passes in steps)
        for passes in steps * self.epochs:
            if not passes:
                self.optimizer.rest()
                continue
            sums = {"kl": 0.0}
            loss, norm = self.optimizer.step(partial(self._backward, passes, sums))
            metrics["kl"] += sums["kl"] / taken
            metrics["loss"] += loss / taken
            metrics["grad_norm"] += norm / taken
        return {
            **metrics,
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

    def _passes(self, groups: Sequence[Sequence[Trajectory]]) -> list[tuple[Batch, Tensor]]:
        """Split the traces of one optimiser step into forward passes: batches, and the weights of their tokens."""
        kept = [[trajectory for trajectory in group if True in trajectory.action_mask] for group in groups]
        trajectories = [trajectory for group in kept for trajectory in group]
        lengths = [sum(trajectory.action_mask) for trajectory in trajectories]
        longest = self.constant_length or max(lengths, default=0)
        device = str(next(self.model.parameters()).device)
        passes = []
        for parts in micro_batches(kept, self.max_batch_tokens):
            batch = Batch.from_groups([[trajectories[i] for i in part] for part in parts], device=device)
            weights_BT = token_weights(
                batch.action_mask_BT, self.aggregation, len(trajectories), sum(lengths), longest
            )
            passes.append((batch, weights_BT))
        return passes

    def _backward(self, passes: Sequence[tuple[Batch, Tensor]], sums: dict[str, float]) -> float:
        """Add the gradients of an optimiser step, and the divergence to `sums`; returns the loss."""
        total = 0.0
        for batch, weights_BT in passes:
            logprobs_BT = action_logprobs(self.model, batch)
            losses_BT = negative_log_likelihood(logprobs_BT, batch.action_mask_BT)
            if self.reference is not None:
                divergence_BT = self.reference.divergence(self.model, batch)
                losses_BT = losses_BT + self.kl_coef * divergence_BT
                sums["kl"] += float((weights_BT * divergence_BT.detach()).sum())
            loss = (weights_BT * losses_BT).sum()
            loss.backward()
            total += float(loss.detach())
        return total
