"""Running a Hugging Face model with an attention function of ours, for as long as one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

# How far logits may differ from those of a model's own forward, relative to the largest: sums are taken in another
# order.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 6e-2}
# Arguments of attention functions that change what is computed in a way that ours do not know.
UNKNOWN_ARGUMENTS = ("softcap", "s_aux", "position_bias", "head_mask", "cache")


@contextmanager
def using_attention(model: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let a model's layers call a function for attention, and build no mask of their own.

    The function gets what those of transformers get: the layer's module, queries, keys and values as
    [1, heads, N, size], keyword arguments; it returns [1, N, heads, size] and None.

    Args:
        model: A Hugging Face model that goes through the attention interface of transformers.
        name: Under which the function is known; transformers builds no mask for names that it does not know.
        function: The attention.
    """
    config = model.config
    before = config._attn_implementation
    # Put here, and not by `register`, it can be taken out again: it may hold on to a whole batch.
    outer = ALL_ATTENTION_FUNCTIONS.get(name)
    ALL_ATTENTION_FUNCTIONS[name] = function
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
        if outer is None:
            del ALL_ATTENTION_FUNCTIONS[name]
        else:
            ALL_ATTENTION_FUNCTIONS[name] = outer
