"""Token records of episodes, and their batch as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        stop_reason: Why the episode ended.
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
    stop_reason: StopReason
    turn_rewards: list[float]
    transcript: Transcript

    @property
    def total_reward(self) -> float:
        """The return: the sum of the turns' rewards."""
        return sum(self.turn_rewards)


@dataclass(slots=True)
class Batch:
    """Trajectories of some groups as right-padded tensors, with the prompt of each group stored once.

    Row b's conversation is the first `prefix_lengths_G[group_B[b]]` tokens of `prefix_ids_GP[group_B[b]]`, then
    `input_ids_BT[b]`. Column t holds what the model reads (`input_ids`) beside what it should have written next
    (`target_ids`), so `action_mask` and `old_logprobs` are those of the *target*: the one-token shift happens in
    `from_groups` and nowhere else.

    Attributes:
        input_ids_BT: Tokens read.
        target_ids_BT: The token after each.
        action_mask_BT: True where the policy wrote the target.
        old_logprobs_BT: Log-probability of the target under the behaviour policy; 0.0 where the mask is False.
        position_ids_BT: Position of each input token in its conversation.
        attention_mask_BT: True on real input tokens, False on padding.
        prefix_ids_GP: What all rows of a group begin with; never contains a token that the policy wrote.
        prefix_lengths_G: Its length in each group; 0 where nothing is shared.
        group_B: The group of each row.
    """

    input_ids_BT: Tensor
    target_ids_BT: Tensor
    action_mask_BT: Tensor
    old_logprobs_BT: Tensor
    position_ids_BT: Tensor
    attention_mask_BT: Tensor
    prefix_ids_GP: Tensor
    prefix_lengths_G: Tensor
    group_B: Tensor

    @classmethod
    def from_groups(
        cls, groups: Sequence[Sequence[Trajectory]], share_prefix: bool = True, device: str = "cpu"
    ) -> Batch:
        """Pad trajectories into a batch.

        Args:
            groups: Trajectories of at least two tokens, by task.
            share_prefix: Whether to take out what the trajectories of a group begin with.
            device: Where the tensors go.
        """
        import torch

        prefixes = [_shared_prefix(group) if share_prefix else [] for group in groups]
        rows = [(g, trajectory) for g, group in enumerate(groups) for trajectory in group]
        width = max(len(trajectory.token_ids) - 1 - len(prefixes[g]) for g, trajectory in rows)
        shape = (len(rows), width)
        input_ids, target_ids = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        action_mask, old_logprobs = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape)
        attention_mask = torch.zeros(shape, dtype=torch.bool)
        for b, (g, trajectory) in enumerate(rows):
            start = len(prefixes[g])
            length = len(trajectory.token_ids) - 1 - start
            input_ids[b, :length] = torch.tensor(trajectory.token_ids[start:-1])
            target_ids[b, :length] = torch.tensor(trajectory.token_ids[start + 1 :])
            action_mask[b, :length] = torch.tensor(trajectory.action_mask[start + 1 :])
            old_logprobs[b, :length] = torch.tensor(trajectory.logprobs[start + 1 :])
            attention_mask[b, :length] = True
        prefix_lengths = torch.tensor([len(prefix) for prefix in prefixes])
        prefix_ids = torch.zeros(len(groups), max(map(len, prefixes)), dtype=torch.long)
        for g, prefix in enumerate(prefixes):
            prefix_ids[g, : len(prefix)] = torch.tensor(prefix, dtype=torch.long)
        group = torch.tensor([g for g, _ in rows])
        position_ids = prefix_lengths[group][:, None] + torch.arange(width)
        return cls(
            input_ids.to(device),
            target_ids.to(device),
            action_mask.to(device),
            old_logprobs.to(device),
            position_ids.to(device),
            attention_mask.to(device),
            prefix_ids.to(device),
            prefix_lengths.to(device),
            group.to(device),
        )


def _shared_prefix(group: Sequence[Trajectory]) -> list[int]:
    """Return the longest beginning that all trajectories share, short of the token that the policy first read."""
    first = group[0].token_ids
    # The last token before an action is left to the rows: its output predicts the first sampled token.
    length = min(
        (trajectory.action_mask.index(True) if True in trajectory.action_mask else len(trajectory.token_ids)) - 1
        for trajectory in group
    )
    for trajectory in group[1:]:
        if trajectory.token_ids[:length] != first[:length]:
            length = next(t for t in range(length) if trajectory.token_ids[t] != first[t])
    return first[: max(length, 0)]
