"""Low-rank adapters: train a few million weights of a model whose own weights stay as they are.

LoRA (Hu et al. 2021, arXiv 2106.09685, eq. 3) adds `alpha / rank * B A` to the weight of a linear layer; only `A`
and `B` are trained. The layers are peft's, put in place by transformers, so that the model stays the Hugging Face
model that it was. Only `add_lora` needs peft installed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def add_lora(model: Any, rank: int, alpha: float = 0.0, seed: int = 0) -> None:
    """Add fresh adapters to every linear layer but the output layer, in place; only they are trained.

    The adapters change nothing until they are trained, since `B` starts at zero. They are kept in fp32, whatever
    the model's data type: small optimiser steps would be lost in bf16.

    Args:
        model: A Hugging Face model without adapters.
        rank: Rank of the weights' change.
        alpha: Their scale is `alpha / rank`; 0 for twice the rank.
        seed: Of the initial `A`; torch's global generators are not touched.

    Raises:
        ValueError: The rank is below 1, the model has adapters already, or peft is not installed (the message has
            the command to install it).
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    if has_lora(model):
        raise ValueError("the model has adapters already; save it merged, load it and add new ones")
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ValueError("LoRA needs peft, which is not installed: pip install peft") from error
    settings = LoraConfig(
        r=rank,
        # peft takes whole numbers by its annotation, and any number in fact.
        lora_alpha=alpha or 2 * rank,  # type: ignore[arg-type]
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    # peft draws on the CPU, whatever the model's device.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Of GPT-2's layers, whose weights are stored the other way round: peft notices and does the right thing.
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        torch.default_generator.manual_seed(seed)
        model.add_adapter(settings)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_is_adapter(name))
        if _is_adapter(name):
            parameter.data = parameter.data.float()


def has_lora(model: Any) -> bool:
    """Return whether a model has adapters, switched off or not."""
    return any(True for _ in _adapted(model))


@contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """Make the model compute what it computed before it got adapters; may be nested.

    Gradients taken later of what was computed before are right; only which weights are trained must not be changed
    inside.
    """
    layers = [layer for _, layer in _adapted(model) if not layer.disable_adapters]
    trained = [parameter for name, parameter in model.named_parameters() if parameter.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        # Switching adapters off and on sets this flag too.
        if layers:
            for parameter in model.parameters():
                parameter.requires_grad_(False)
            for parameter in trained:
                parameter.requires_grad_(True)


def adapter_state(model: Any) -> dict[str, Tensor]:
    """Copy the adapters' weights, by parameter name."""
    return {name: value.detach().clone() for name, value in model.named_parameters() if _is_adapter(name)}


@torch.no_grad()
def load_adapter_state(model: Any, state: Mapping[str, Tensor]) -> None:
    """Write adapters' weights back, in place.

    Raises:
        ValueError: The names or shapes are not those of the model's adapters; nothing is changed then.
    """
    own = {name: value for name, value in model.named_parameters() if _is_adapter(name)}
    if own.keys() != state.keys():
        wrong = sorted(own.keys() ^ state.keys())
        raise ValueError(f"adapters do not fit the model: {len(wrong)} names differ, the first is {wrong[0]}")
    for name, value in own.items():
        if value.shape != state[name].shape:
            got = tuple(state[name].shape)
            raise ValueError(f"adapters do not fit the model: {name} is {tuple(value.shape)}, got {got}")
    for name, value in own.items():
        value.copy_(state[name])


def effective_weight(linear: Any) -> Tensor:
    """Compute the weight that a layer multiplies with: its own, plus its adapter's change where that is on.

    Returns:
        A weight of the layer's own shape and data type; a plain layer's is not copied.
    """
    if not _is_adapted(linear):
        return linear.weight.detach()
    return linear.base_layer.weight.detach() if linear.disable_adapters else _merged(linear)


def merged_state_dict(model: Any) -> dict[str, Tensor]:
    """Return the state dict of the same model without adapters, their change added to its weights.

    The weights of layers without adapter are not copied; the model itself is left as it is. Adapters count even
    where `adapters_off` has switched them off.
    """
    merged = {f"{name}.base_layer.weight": _merged(layer) for name, layer in _adapted(model)}
    state = {}
    for name, value in model.state_dict().items():
        if not _is_adapter(name):
            state[name.replace(".base_layer.", ".")] = merged.get(name, value)
    return state


def save_merged(model: Any, folder: str | Path) -> None:
    """Save a model as a plain Hugging Face folder, its adapters added to its weights.

    `model.save_pretrained` would save a model with adapters as adapters alone, which needs peft and the model that
    they were trained on. A model without adapters is saved as it is.
    """
    if not has_lora(model):
        model.save_pretrained(folder)
        return
    with torch.device("meta"):
        plain = type(model)(model.config)
    plain.load_state_dict(merged_state_dict(model), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    plain.save_pretrained(folder)


@torch.no_grad()
def _merged(layer: Any) -> Tensor:
    weight: Tensor = layer.base_layer.weight
    total = weight.float()
    for adapter in layer.active_adapters:
        total = total + layer.get_delta_weight(adapter)
    return total.to(weight.dtype)


def _adapted(model: Any) -> Iterator[tuple[str, Any]]:
    """Find the layers that have an adapter, with their names."""
    return ((name, module) for name, module in model.named_modules() if _is_adapted(module))


def _is_adapted(module: Any) -> bool:
    # peft's layers by what they offer, so that nothing here imports peft, which takes seconds.
    return hasattr(module, "get_delta_weight") and hasattr(module, "base_layer")


def _is_adapter(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name
