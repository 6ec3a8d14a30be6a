"""AdamW with warm-up, gradient clipping, and a guard against gradients that are not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MAX_SKIPPED_IN_A_ROW = 5


class Optimizer:
    """What every learner does with its gradients.

    Args:
        model: The model whose parameters are trained.
        learning_rate: Reached after the warm-up, constant from then on, as in the paper.
        warmup_steps: Steps over which the rate rises linearly.
        max_grad_norm: Gradients are scaled down to this norm; 0 leaves them.
        weight_decay: Of AdamW.

    Attributes:
        steps: Optimiser steps so far.
        skipped: Steps left out so far because loss or gradient was not finite.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        learning_rate: float,
        warmup_steps: int = 0,
        max_grad_norm: float = 1.0,
        weight_decay: float = 0.01,
    ) -> None:
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._adamw = torch.optim.AdamW(self._parameters, lr=learning_rate, weight_decay=weight_decay)
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.max_grad_norm = max_grad_norm
        self.steps = 0
        self.skipped = 0
        self._skipped_in_a_row = 0

    def step(self, backward: Callable[[], Tensor]) -> tuple[float, float]:
        """Compute gradients from zero and take one step.

        Args:
            backward: Runs the backward pass (several for micro-batches) and returns the loss.

        Returns:
            The loss and the norm of the gradient before clipping. When either is not finite, nothing is changed.

        Raises:
            FloatingPointError: That happened five times in a row.
        """
        self._adamw.zero_grad(set_to_none=True)
        loss = float(backward())
        limit = self.max_grad_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, limit))
        if not (abs(loss) < float("inf") and norm < float("inf")):
            self._adamw.zero_grad(set_to_none=True)
            self.skipped += 1
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
                raise FloatingPointError(
                    f"loss or gradient was not finite {MAX_SKIPPED_IN_A_ROW} updates in a row (loss {loss}, "
                    f"gradient norm {norm}); lower learning_rate or raise warmup_steps"
                )
            return loss, norm
        self._skipped_in_a_row = 0
        self.steps += 1
        warm = min(1.0, self.steps / self.warmup_steps) if self.warmup_steps else 1.0
        for group in self._adamw.param_groups:
            group["lr"] = self.learning_rate * warm
        self._adamw.step()
        # Gradients are as large as the model and not needed until the next step.
        self._adamw.zero_grad(set_to_none=True)
        return loss, norm

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs; plain tensors and numbers."""
        return {"adamw": self._adamw.state_dict(), "steps": self.steps, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self._adamw.load_state_dict(state["adamw"])
        self.steps, self.skipped = state["steps"], state["skipped"]
