"""The Tool-N1 reward (arXiv 2505.00024): all or nothing, and its fine-grained variants.

After the authors' released code (`toolcall.py`). With *manner* whether the reply holds `<think>` and `</think>`,
*exact* whether its calls can be read and, as a multiset of names and arguments, are the gold ones, and *names*
whether at least their names are:

- `binary`: 1 for manner and exact, else 0
- `v1`: exact 1.2 with manner and 1 without; other readable calls -0.2 with manner and 0 without
- `v3`: 0.2 for manner, 0.8 for exact
- `v4`: as v3, and 0.2 for names where exact fails
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from mentor_gym.names import nearest
from mentor_gym.rewards.actions import (
    NamedAction,
    episode_actions,
    has_thoughts,
    is_well_formed,
)
from mentor_gym.rewards.base import check_flags
from mentor_gym.rewards.matching import canonical
from mentor_gym.types import Transcript

VARIANTS = ("binary", "v1", "v3", "v4")


class ToolN1Reward:
    """Tool-N1 over whole episodes: the calls are the teacher's, in any order, and the answer is right.

    By default thoughts are not asked for, and a turn that can be read is manner enough; arguments are compared in
    one form (`mentor_gym.rewards.matching.normalise_calls`), so that 3, 3.0 and, where the schema asks
    for a number, "3" are equal. An episode that was cut off, or is not finished, pays at most for its names.

    With `outcome=False`, `require_think=True` and `literal=True` it is the published form, of a reply without an
    answer.

    Terms: `manner`, `names` and `exact`.

    Args:
        variant: A name of `VARIANTS`.
        outcome: Whether exact also asks for a right answer, which ends the episode.
        require_think: Whether manner asks for `<think>` and `</think>` in every turn.
        literal: Compare arguments as JSON texts with sorted keys, as the released code does: 3 is not 3.0.

    Raises:
        ValueError: Unknown variant, or another argument is not True or False.

    >>> ToolN1Reward().maximum, ToolN1Reward(variant="v1").maximum
    (1.0, 1.2)
    """

    def __init__(
        self,
        variant: str = "binary",
        outcome: bool = True,
        require_think: bool = False,
        literal: bool = False,
    ) -> None:
        if not isinstance(variant, str) or variant not in VARIANTS:
            known = ", ".join(VARIANTS)
            raise ValueError(f"unknown variant {variant!r}; known: {known}{nearest(variant, VARIANTS)}")
        check_flags(outcome=outcome, require_think=require_think, literal=literal)
        self.variant = variant
        self.outcome = outcome
        self.require_think = require_think
        self.literal = literal

    @property
    def maximum(self) -> float:
        """The reward of the teacher's own calls, and a right answer."""
        return 1.2 if self.variant == "v1" else 1.0

    @property
    def minimum(self) -> float:
        """The smallest reward: variant v1 has a penalty."""
        return -0.2 if self.variant == "v1" else 0.0

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the terms `manner`, `names` and `exact`."""
        student, teacher = episode_actions(transcript, outcome=self.outcome, literal=self.literal)
        readable = is_well_formed(transcript, ended=self.outcome)
        manner = has_thoughts(transcript) if self.require_think else readable
        exact = readable and self._form(student) == self._form(teacher)
        names = Counter(name for name, _ in student) == Counter(name for name, _ in teacher)
        terms = {"manner": 0.0, "names": 0.0, "exact": 0.0}
        if self.variant == "binary":
            terms["exact"] = float(manner and exact)
        elif self.variant == "v1":
            terms["exact"] = float(exact)
            terms["manner"] = 0.2 if manner and exact else -0.2 if manner and readable else 0.0
        else:
            terms["exact"] = 0.8 if exact else 0.0
            terms["manner"] = 0.2 if manner else 0.0
            if self.variant == "v4" and readable and names and not exact:
                terms["names"] = 0.2
        return terms

    def _form(self, actions: Sequence[NamedAction]) -> Counter[tuple[Hashable, Any]]:
        write = _dump if self.literal else canonical
        return Counter((name, write(arguments)) for name, arguments in actions)


def _dump(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, sort_keys=True)
