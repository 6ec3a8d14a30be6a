"""The two arms of the bandit."""

from __future__ import annotations

from mentor_gym.tools import tool


@tool
def red() -> int:
    """Pull the red lever."""
    return 7


@tool
def blue() -> int:
    """Pull the blue lever."""
    return 3
