"""Models by name: the embedded `tiny`, `smollm2` from its package, a folder, or a Hugging Face id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from mentor_gym.names import nearest

TINY = Path(__file__).parent / "weights" / "tiny"
NAMES = ("tiny", "smollm2")


def load_model(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Load a model and its tokenizer by the name `"tiny"` or `"smollm2"`, a folder or a Hugging Face id.

    Returns:
        The model, in evaluation mode, and its tokenizer.

    Raises:
        ValueError: Nothing there, or not a causal language model; says what was looked for.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = _find(name)
    with _refusals(name, path):
        tokenizer = AutoTokenizer.from_pretrained(path)
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    return model.to(device).eval(), tokenizer


def check_model(name: str) -> None:
    """Find a model without loading its weights: a name or a folder is looked at, a Hugging Face id asked for.

    Raises:
        ValueError: Nothing there, as from `load_model`.
    """
    path = _find(name)
    if Path(path).is_dir():
        return
    from transformers import AutoConfig

    with _refusals(name, path):
        AutoConfig.from_pretrained(path)


@contextmanager
def _refusals(name: str, path: str) -> Iterator[None]:
    """Say in one way that a model cannot be loaded, whatever of it is wrong."""
    try:
        with quiet():
            yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        hint = "" if Path(path).exists() else nearest(name, NAMES)
        raise ValueError(f"model {name!r} cannot be loaded: {reason}{hint}") from error


def _find(name: str) -> str:
    """Turn a name into a folder's path; a Hugging Face id stays as it is."""
    if name == "tiny":
        return str(TINY)
    if name == "smollm2":
        from agents.smollm2 import smollm2_folder

        return str(smollm2_folder())
    folder = Path(name)
    # A Hugging Face id has one slash at most; what can only be a folder is not looked for there.
    if not folder.exists() and (name.startswith(("/", ".", "~")) or name.count("/") > 1):
        raise ValueError(f"model {name!r}: no such folder")
    if folder.exists() and not (folder / "config.json").is_file():
        raise ValueError(f"model {name!r}: {folder} is no model folder (it has no config.json)")
    return name


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars that Hugging Face shows for loading and saving, where they would break ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
