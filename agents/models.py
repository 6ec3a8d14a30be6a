"""Models by name: the embedded `tiny`, a folder, or a Hugging Face id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

TINY = Path(__file__).parent / "weights" / "tiny"


def load_model(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Load a model and its tokenizer by the name `"tiny"`, a folder or a Hugging Face id.

    Raises:
        ValueError: Nothing there, or not a causal language model; says what was looked for.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = str(TINY) if name == "tiny" else name
    # A Hugging Face id has one slash at most; what can only be a folder is not looked for there.
    if not Path(path).exists() and (name.startswith(("/", ".", "~")) or name.count("/") > 1):
        raise ValueError(f"model {name!r}: no such folder")
    if Path(path).exists() and not (Path(path) / "config.json").is_file():
        raise ValueError(f"model {name!r}: {path} is no model folder (it has no config.json)")
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(path)
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ValueError(f"model {name!r} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    return model.to(device).eval(), tokenizer


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
