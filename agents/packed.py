"""Log-probabilities of what the policy wrote."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache

from agents.trajectory import Batch


def action_logprobs(model: Any, batch: Batch, temperature: float = 1.0) -> Tensor:
    """Compute the log-probabilities of what the policy wrote, with gradients when they are enabled.

    The prompt of each group is read once: its keys and values are repeated for the group's rows, and gradients
    flow back through them. The output layer runs on the positions of the mask only.

    Args:
        model: A Hugging Face causal language model.
        batch: The trajectories.
        temperature: Of the softmax, as when sampling; 0 counts as 1.

    Returns:
        Log-probabilities [B, T] in fp32, zero where the action mask is False.
    """
    arguments: dict[str, Any] = {"attention_mask": batch.attention_mask_BT, "use_cache": False}
    if batch.prefix_ids_GP.shape[1]:
        cache = DynamicCache()
        prefix_GP = batch.prefix_ids_GP
        positions = torch.arange(prefix_GP.shape[1], device=prefix_GP.device)
        # Padding is on the right, so causal attention alone keeps it out of sight of real tokens.
        model.base_model(input_ids=prefix_GP, past_key_values=cache, use_cache=True)
        for layer in cast(list[Any], cache.layers):
            layer.keys, layer.values = layer.keys[batch.group_B], layer.values[batch.group_B]
        width = batch.input_ids_BT.shape[1]
        seen_BP = positions < batch.prefix_lengths_G[batch.group_B][:, None]
        causal_TT = torch.ones(width, width, dtype=torch.bool, device=prefix_GP.device).tril()
        rows = len(batch.input_ids_BT)
        allowed = torch.cat(
            [seen_BP[:, None].expand(-1, width, -1), causal_TT[None].expand(rows, -1, -1)], dim=-1
        )[:, None]
        mask = torch.zeros(allowed.shape, dtype=model.dtype, device=prefix_GP.device)
        mask.masked_fill_(~allowed, torch.finfo(model.dtype).min)
        arguments = {"attention_mask": mask, "past_key_values": cache, "use_cache": True}
    wanted = batch.action_mask_BT

    def keep(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0][wanted],)

    # A hook, because whatever a model does to its logits after the output layer must still happen.
    handle = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        logits = model(input_ids=batch.input_ids_BT, position_ids=batch.position_ids_BT, **arguments).logits
    finally:
        handle.remove()
    logits = logits.float()
    if temperature not in (0, 1):
        logits = logits / temperature
    logprobs = torch.log_softmax(logits, dim=-1).gather(1, batch.target_ids_BT[wanted][:, None])[:, 0]
    return torch.zeros(wanted.shape, device=logprobs.device).masked_scatter(wanted, logprobs)
