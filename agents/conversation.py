"""Append-only token records of one conversation: the only place that aligns ids, action mask and log-probs.

Nothing is ever re-rendered or re-encoded: a turn extends the record, so what is trained on is exactly what was
sampled. Rendering text into ids is the agent's business (`agents.llm`).
"""

from __future__ import annotations

from collections.abc import Sequence


class Conversation:
    """The tokens of one episode so far.

    Attributes:
        token_ids: Every token, in order.
        action_mask: True exactly on tokens that the policy wrote.
        logprobs: Log-probability of each token under the policy that wrote it; 0.0 where the mask is False.

    The three lists have equal lengths at all times.

    >>> conversation = Conversation()
    >>> conversation.extend_observation([5, 6])
    >>> conversation.extend_action([7], [-0.5])
    >>> conversation.token_ids, conversation.action_mask, conversation.logprobs
    ([5, 6, 7], [False, False, True], [0.0, 0.0, -0.5])
    """

    __slots__ = ("action_mask", "logprobs", "token_ids")

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.action_mask: list[bool] = []
        self.logprobs: list[float] = []

    def __len__(self) -> int:
        return len(self.token_ids)

    def extend_observation(self, ids: Sequence[int]) -> None:
        """Append tokens that the environment or the chat template wrote: they carry no loss."""
        self.token_ids += ids
        self.action_mask += [False] * len(ids)
        self.logprobs += [0.0] * len(ids)

    def extend_action(self, ids: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        """Append tokens that the policy wrote.

        Args:
            ids: The sampled token ids, exactly.
            logprobs: One log-probability per id; None for a teacher's tokens, which nobody sampled, stores 0.0.

        Raises:
            ValueError: `ids` and `logprobs` have different lengths.
        """
        if logprobs is None:
            logprobs = [0.0] * len(ids)
        if len(ids) != len(logprobs):
            raise ValueError(f"{len(ids)} token ids but {len(logprobs)} log-probabilities")
        self.token_ids += ids
        self.action_mask += [True] * len(ids)
        self.logprobs += logprobs
