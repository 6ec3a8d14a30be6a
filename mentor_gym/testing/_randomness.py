"""The process's global generators, which nothing but the user's own program may touch."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np


@contextlib.contextmanager
def watched_generators() -> Iterator[list[str]]:
    """Find out which global generators a block touches: those of `random`, NumPy and, if it is loaded, torch.

    Yields:
        A list, in which their names are when the block has ended. The generators are then as they were before.

    >>> with watched_generators() as touched:
    ...     _ = random.random()
    >>> touched
    ['random']
    """
    touched: list[str] = []
    before = _states()
    # From states that nobody has chosen: what seeds a generator like the call before leaves it as it found it.
    random.seed()
    np.random.seed()  # noqa: NPY002  (the global one is what this is about)
    if "torch" in before:
        sys.modules["torch"].default_generator.seed()
    start = {name: _fingerprint(state) for name, state in _states().items()}
    try:
        yield touched
    finally:
        end = _states()
        touched += [name for name in start if _fingerprint(end[name]) != start[name]]
        random.setstate(before["random"])
        np.random.set_state(before["numpy.random"])  # noqa: NPY002
        if "torch" in before:
            sys.modules["torch"].set_rng_state(before["torch"])


def _states() -> dict[str, Any]:
    states: dict[str, Any] = {"random": random.getstate(), "numpy.random": np.random.get_state()}  # noqa: NPY002
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        states["torch"] = torch.get_rng_state()
    return states


def _fingerprint(state: Any) -> list[Any]:
    """Return what compares equal when two states are equal; arrays and tensors do not."""
    parts = state if isinstance(state, tuple) else (state,)
    return [list(part.tolist()) if hasattr(part, "tolist") else part for part in parts]
