"""Supervised fine-tuning on teacher traces.

A trace is played through the real environment by `TeacherTokens`, so what stands between the teacher's turns is
what a policy would see, token for token; only the teacher's own tokens carry loss. They end where the sampler ends
a turn, at the closing tag: the end-of-turn token belongs to the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from agents.base import Completion, Observation
from agents.chat import ChatFormat
from agents.losses import AGGREGATIONS, negative_log_likelihood, token_weights
from agents.optimizer import Optimizer
from agents.packed import action_logprobs
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
        learning_rate: Of AdamW, constant after the warm-up.
        warmup_steps: Optimiser steps of linear warm-up.
        max_grad_norm: Gradient clipping; 0 for none.
        epochs: Optimiser steps on the same trajectories.
        aggregation: How tokens are averaged: `"token"`, `"sequence"` or `"constant"`.
        max_batch_tokens: Padded tokens of one forward pass; larger updates are split, with the same gradient.

    Raises:
        ValueError: Unknown aggregation.
    """

    def __init__(
        self,
        model: Any,
        learning_rate: float = 1e-5,
        warmup_steps: int = 0,
        max_grad_norm: float = 1.0,
        epochs: int = 1,
        aggregation: str = "token",
        max_batch_tokens: int = 8_192,
    ) -> None:
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r}")
        self.model = model
        self.epochs = epochs
        self.aggregation = aggregation
        self.max_batch_tokens = max_batch_tokens
        self.optimizer = Optimizer(model, learning_rate, warmup_steps, max_grad_norm)

    def update(self, groups: Sequence[Sequence[Trajectory]]) -> dict[str, float]:
        """Imitate the trajectories.

        Args:
            groups: Trajectories of teachers; how they are grouped does not matter.

        Returns:
            `loss`, `grad_norm` (before clipping) and `skipped` (updates left out so far because they were not
            finite); means over the epochs.

        Raises:
            FloatingPointError: Five updates in a row were not finite.
        """
        trajectories = [trajectory for group in groups for trajectory in group if True in trajectory.action_mask]
        rows = len(trajectories)
        tokens = sum(sum(trajectory.action_mask) for trajectory in trajectories)
        longest = max((sum(trajectory.action_mask) for trajectory in trajectories), default=0)
        device = str(next(self.model.parameters()).device)
        # Sorted by length, so that little is padded.
        waiting = sorted(trajectories, key=lambda trajectory: len(trajectory.token_ids))
        batches = []
        while waiting:
            size = max(1, self.max_batch_tokens // len(waiting[-1].token_ids))
            batches.append(Batch.from_groups([waiting[-size:]], share_prefix=False, device=device))
            waiting = waiting[:-size]

        def backward() -> Tensor:
            total = torch.zeros(())
            for batch in batches:
                weights_BT = token_weights(batch.action_mask_BT, self.aggregation, rows, tokens, longest)
                logprobs_BT = action_logprobs(self.model, batch)
                loss = (weights_BT * negative_log_likelihood(logprobs_BT, batch.action_mask_BT)).sum()
                loss.backward()
                total += loss.detach().cpu()
            return total

        metrics = {"loss": 0.0, "grad_norm": 0.0}
        for _ in range(self.epochs if batches else 0):
            loss, norm = self.optimizer.step(backward)
            metrics["loss"] += loss / self.epochs
            metrics["grad_norm"] += norm / self.epochs
        return {**metrics, "skipped": float(self.optimizer.skipped)}
