"""The space of observations and actions: any valid Unicode text up to a length."""

from __future__ import annotations

import string
from typing import Any

import gymnasium as gym
from gymnasium.error import CustomSpaceError
from gymnasium.vector.utils import create_shared_memory


class UnicodeText(gym.spaces.Text):
    r"""Any Unicode text without lone surrogates, up to `max_length` characters, the empty text included.

    Gymnasium's `Text` accepts only a listed character set, and listing all of Unicode costs seconds to build.
    `sample` draws printable ASCII; flattening is limited to it too.

    >>> "你好 🎉" in UnicodeText(10), "\ud800" in UnicodeText(10)
    (True, False)
    """

    def __init__(self, max_length: int, seed: Any = None) -> None:
        super().__init__(max_length, min_length=0, charset=string.printable, seed=seed)

    def contains(self, x: Any) -> bool:
        """Return whether `x` is a text of this space."""
        if not isinstance(x, str) or len(x) > self.max_length:
            return False
        return x.isascii() or not any("\ud800" <= character <= "\udfff" for character in x)

    def __repr__(self) -> str:
        return f"UnicodeText({self.max_length})"


@create_shared_memory.register(UnicodeText)
def _refuse_shared_memory(space: UnicodeText, *args: Any, **kwargs: Any) -> Any:
    """Refuse what would fail silently: Gymnasium reads a text from shared memory once, before it is written."""
    raise CustomSpaceError("texts need AsyncVectorEnv(..., shared_memory=False)")
