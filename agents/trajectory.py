"""Token records of episodes, and their batch as tensors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mentor_gym.types import StopReason, Transcript

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Trajectory:
    """The token record of one episode.

    The four token lists have equal lengths; they are empty for agents without tokens.

    Attributes:
        task_id: The task that was played.
        source: `"policy"` when sampled by the policy, `"teacher"` for a teacher trace.
        token_ids: Every token of the conversation, prompt included; the sampled ids, never re-encoded text.
        action_mask: True exactly on tokens that the policy sampled.
        logprobs: Log-probability under the behaviour policy; 0.0 where the mask is False.
        rewards: Each turn's reward, on its last sampled token; 0.0 elsewhere.
        reward_terms: The reward's terms at the end of the episode.
        is_success: The environment's unshaped verdict.
        stop_reason: Why the episode ended; None where it was one turn of a task that would go on.
        turn_rewards: The reward of each turn.
        transcript: The episode as text.
    """

    task_id: str
    source: str
    token_ids: list[int]
    action_mask: list[bool]
    logprobs: list[float]
    rewards: list[float]
    reward_terms: dict[str, float]
    is_success: bool
    stop_reason: StopReason | None
    turn_rewards: list[float]
    transcript: Transcript

    @property
    def total_reward(self) -> float:
        """The return: the sum of the turns' rewards."""
        return sum(self.turn_rewards)


@dataclass(slots=True)
class Layout:
    """Which packed tokens attend to which.

    The conversations of a group form a tree: what several of them begin with is stored once. Its tokens stand in
    the order of a walk that finishes one branch before the next, so a token and all that follow it in any
    conversation are one range, and `k` may be read by `q` exactly when `k <= q < ends_N[k]`.

    Attributes:
        ends_N: End of each token's range.
        depths_N: How many tokens stand before each in its conversation.
        rows: For each trajectory, where the tokens of its conversation are, in order.
        plans: Kept by `agents.packed`: what it has worked out for this layout.
    """

    ends_N: np.ndarray
    depths_N: np.ndarray
    rows: list[np.ndarray]
    plans: dict[Any, Any] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class Batch:
    """Trajectories of some groups: what the model reads, packed, and what the policy wrote, one row each.

    The model computes on N packed tokens without padding. Losses compute on B rows of at most T sampled tokens:
    column t is the row's t-th sampled token over all its turns; prompts and tool output have no column. Which
    output predicts which sampled token (the shift by one) is decided in `from_groups` and nowhere else.

    Attributes:
        input_ids_N: Tokens read; what conversations of a group begin with in common is there once. Tokens after
            the last that predicts a sampled one are left out.
        position_ids_N: Position of each in its conversation.
        layout: Which of them attend to which.
        read_BT: Which packed token's output predicts the sampled token; 0 where the mask is False.
        target_ids_BT: The sampled token ids; 0 where the mask is False.
        action_mask_BT: True on the sampled tokens, which are the first columns of each row.
        old_logprobs_BT: Log-probabilities under the behaviour policy; 0.0 where the mask is False.
        rewards_BT: Reward on the last sampled token of each turn, 0.0 elsewhere.
        turn_BT: Which turn of the row (0, 1, ...) the token belongs to; 0 where the mask is False. Turns in which
            nothing was sampled are not counted.
        group_B: The group of each row.
    """

    input_ids_N: Tensor
    position_ids_N: Tensor
    layout: Layout
    read_BT: Tensor
    target_ids_BT: Tensor
    action_mask_BT: Tensor
    old_logprobs_BT: Tensor
    rewards_BT: Tensor
    turn_BT: Tensor
    group_B: Tensor

    @classmethod
    def from_groups(
        cls, groups: Sequence[Sequence[Trajectory]], share_prefix: bool = True, device: str = "cpu"
    ) -> Batch:
        """Pack trajectories into a batch.

        Args:
            groups: Trajectories by task; row b of the batch is the b-th of them all.
            share_prefix: Whether what several conversations of a group begin with is stored once.
            device: Where the tensors go.

        Raises:
            ValueError: A conversation begins with a sampled token, which nothing predicts.
        """
        import torch

        trajectories = [trajectory for group in groups for trajectory in group]
        ids, positions, layout = pack([[read_ids(row) for row in group] for group in groups], share_prefix)
        masks = [np.array(trajectory.action_mask, dtype=bool) for trajectory in trajectories]
        counts = np.array([np.count_nonzero(mask) for mask in masks], dtype=np.int64)
        shape = (len(trajectories), int(counts.max(initial=0)))
        action_mask = np.arange(shape[1]) < counts[:, None]
        read, target, turn = (np.zeros(shape, np.int64) for _ in range(3))
        logprobs, rewards = (np.zeros(shape, np.float32) for _ in range(2))
        for b, (trajectory, mask) in enumerate(zip(trajectories, masks)):
            if not (count := counts[b]):
                continue
            (places,) = mask.nonzero()
            if places[0] == 0:
                raise ValueError(f"task {trajectory.task_id!r}: a conversation begins with a sampled token")
            read[b, :count] = layout.rows[b][places - 1]
            target[b, :count] = np.array(trajectory.token_ids)[places]
            turn[b, :count] = np.cumsum(np.diff(places, prepend=places[0]) > 1)
            logprobs[b, :count] = np.array(trajectory.logprobs)[places]
            rewards[b, :count] = np.array(trajectory.rewards)[places]
        group = np.array([g for g, group in enumerate(groups) for _ in group], np.int64)

        def tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device)

        return cls(
            tensor(ids),
            tensor(positions),
            layout,
            tensor(read),
            tensor(target),
            tensor(action_mask),
            tensor(logprobs),
            tensor(rewards),
            tensor(turn),
            tensor(group),
        )


def pack(
    groups: Sequence[Sequence[np.ndarray]], share_prefix: bool = True
) -> tuple[np.ndarray, np.ndarray, Layout]:
    """Store the conversations of each group as a tree.

    Args:
        groups: Token ids of conversations, by group.
        share_prefix: Whether what several of a group begin with is stored once.

    Returns:
        Packed token ids, their positions in their conversations, and the layout.
    """
    rows: list[np.ndarray] = []
    ids: list[np.ndarray] = []
    depths: list[np.ndarray] = []
    ends: list[tuple[np.ndarray, int]] = []
    size = 0
    for conversations in groups:
        order, shared = sort_by_prefix(conversations, share_prefix)
        packed: dict[int, np.ndarray] = {}
        path = np.zeros(0, np.int64)
        for i, common in zip(order, shared):
            conversation = conversations[i]
            # Nothing that follows reads what is left of the conversation before.
            ends.append((path[common:], size))
            path = np.concatenate([path[:common], np.arange(size, size + len(conversation) - common)])
            ids.append(conversation[common:])
            depths.append(np.arange(common, len(conversation)))
            size += len(conversation) - common
            packed[i] = path
        ends.append((path, size))
        rows += [packed[i] for i in range(len(conversations))]
    ends_N = np.zeros(size, np.int64)
    for tokens, end in ends:
        ends_N[tokens] = end
    none = [np.zeros(0, np.int64)]
    depths_N = np.concatenate([*none, *depths])
    return np.concatenate([*none, *ids]), depths_N, Layout(ends_N, depths_N, rows)


def read_ids(trajectory: Trajectory) -> np.ndarray:
    """Return the tokens that a model must read to predict every sampled one."""
    mask = trajectory.action_mask
    last = len(mask) - mask[::-1].index(True) - 1 if True in mask else 0
    return np.array(trajectory.token_ids[:last], np.int64)


def sort_by_prefix(conversations: Sequence[np.ndarray], share_prefix: bool = True) -> tuple[list[int], list[int]]:
    """Order conversations so that those that begin alike are neighbours.

    Args:
        conversations: Token ids.
        share_prefix: Whether to look; without it, nothing is shared and the order stays.

    Returns:
        The order, and how many tokens each shares with the one before it (0 for the first).
    """
    order = list(range(len(conversations)))
    if not share_prefix:
        return order, [0] * len(order)
    # Big-endian bytes compare like the ids themselves.
    keys = [conversation.astype(">u4").tobytes() for conversation in conversations]
    order.sort(key=lambda i: keys[i])
    shared = [0] * min(len(order), 1)
    for before, after in itertools.pairwise(conversations[i] for i in order):
        both = min(len(before), len(after))
        differs = before[:both] != after[:both]
        shared.append(int(differs.argmax()) if differs.any() else both)
    return order, shared
