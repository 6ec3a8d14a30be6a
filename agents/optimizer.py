"""AdamW with warm-up, a schedule, gradient clipping, and a guard against gradients that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SCHEDULES = ("constant", "linear", "cosine")
MAX_SKIPPED_IN_A_ROW = 5


class Optimizer:
    """What every learner does with its gradients.

    The learning rate rises linearly to `learning_rate` over the first `warmup_steps` steps. From there it stays,
    or falls along a line or half a cosine to 0, which it reaches when `total_steps` steps are done.

    Args:
        model: The model whose parameters are trained: those that require gradients now.
        learning_rate: The rate after the warm-up.
        warmup_steps: Steps of the warm-up.
        schedule: `"constant"`, `"linear"` or `"cosine"`.
        total_steps: Steps of the whole run, warm-up included; not needed for `"constant"`.
        weight_decay: Of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101); biases and the scales of norms,
            which have one dimension, are left out.
        max_grad_norm: Gradients are scaled down to this norm; 0 leaves them.

    Attributes:
        steps: Steps so far, those included that changed nothing.
        skipped: How many of them were left out because loss or gradient was not finite.
        learning_rate: The rate of the newest step.

    Raises:
        ValueError: Unknown schedule, or one that needs `total_steps` without it.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        learning_rate: float,
        warmup_steps: int = 0,
        schedule: str = "constant",
        total_steps: int = 0,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
    ) -> None:
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
        if schedule != "constant" and total_steps <= warmup_steps:
            raise ValueError(f"schedule {schedule!r} needs total_steps above warmup_steps, got {total_steps}")
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        decayed = [parameter for parameter in self._parameters if parameter.ndim > 1]
        others = [parameter for parameter in self._parameters if parameter.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=learning_rate, fused=True
        )
        self.peak_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.total_steps = total_steps
        self.max_grad_norm = max_grad_norm
        self.steps = 0
        self.skipped = 0
        self._skipped_in_a_row = 0
        self.learning_rate = self._next_rate()

    def _next_rate(self) -> float:
        if self.steps < self.warmup_steps:
            return self.peak_rate * (self.steps + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.peak_rate
        # A run that is continued beyond its end learns nothing more.
        done = min(1.0, (self.steps - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return self.peak_rate * (1 - done if self.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2)

    def step(self, backward: Callable[[], Tensor | float]) -> tuple[float, float]:
        """Compute gradients from zero and take one step.

        Args:
            backward: Runs the backward pass (several for micro-batches) and returns the loss.

        Returns:
            The loss and the norm of the gradient before clipping. When either is not finite, no parameter is
            changed.

        Raises:
            FloatingPointError: That happened five times in a row.
        """
        self.learning_rate = self._next_rate()
        self._adamw.zero_grad(set_to_none=True)
        loss = float(backward())
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        total = torch.nn.utils.get_total_norm(gradients)
        norm = float(total)
        if math.isfinite(loss) and math.isfinite(norm):
            if self.max_grad_norm and norm > self.max_grad_norm:
                torch.nn.utils.clip_grads_with_norm_(self._parameters, self.max_grad_norm, total)
            for group in self._adamw.param_groups:
                group["lr"] = self.learning_rate
            self._adamw.step()
            self._skipped_in_a_row = 0
        else:
            self.skipped += 1
            self._skipped_in_a_row += 1
        self.steps += 1
        # Gradients are as large as the model and not needed until the next step.
        self._adamw.zero_grad(set_to_none=True)
        if self._skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise FloatingPointError(
                f"loss or gradient was not finite in {MAX_SKIPPED_IN_A_ROW} optimiser steps in a row, up to step "
                f"{self.steps} (loss {loss}, gradient norm {norm}); lower learning_rate or raise warmup_steps"
            )
        return loss, norm

    def rest(self) -> None:
        """Let a step pass without a gradient, so that the schedule goes on."""
        self.learning_rate = self._next_rate()
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs; plain tensors and numbers."""
        return {
            "adamw": self._adamw.state_dict(),
            "steps": self.steps,
            "skipped": self.skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self._adamw.load_state_dict(state["adamw"])
        self.steps, self.skipped = state["steps"], state["skipped"]
        self._skipped_in_a_row = state["skipped_in_a_row"]
