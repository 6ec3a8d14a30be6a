"""A model on packed conversations: log-probabilities, entropies and values of what the policy wrote.

A Hugging Face model runs with its own modules on the N packed tokens of a `Batch`: no linear layer sees padding,
and what the conversations of a group begin with is computed once, with gradients from all of them. Attention alone
is not the model's: `agents.plan` cuts the batch into blocks of queries with the keys that they may read. The
output layer runs on outputs that predict a sampled token, once however many rows read one, in chunks of bounded
memory.

Models for which that is not exact (a sliding window, soft-capped logits, recurrent layers) are found out by
`packs` and run one conversation at a time through their own forward: slower, and correct for any model.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, log_softmax
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from agents.attention import TOLERANCE, UNKNOWN_ARGUMENTS, using_attention
from agents.lora import adapters_off, has_lora
from agents.plan import AttentionPlan, plan_of
from agents.trajectory import Batch, Layout, Trajectory, pack, read_ids, sort_by_prefix

# Logits that are kept for the backward pass; where there are more, they are computed again there, chunk by chunk.
LOGITS_BUDGET = 2**25
_ATTENTION = "mentor_gym_packed"

_packs: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


class Unpackable(Exception):
    """The model's attention is not what is computed on packed tokens."""


@dataclass(slots=True)
class Outputs:
    """What a model says about the sampled tokens of a batch; in fp32, zero where the action mask is False.

    Attributes:
        logprobs_BT: Their log-probabilities.
        entropy_BT: Entropy of the distribution that each was drawn from, in nats; None unless asked for.
        values_BT: Value of the state before each was written; None without a value head.
    """

    logprobs_BT: Tensor
    entropy_BT: Tensor | None = None
    values_BT: Tensor | None = None


def action_outputs(
    model: Any,
    batch: Batch,
    temperature: float = 1.0,
    value_head: nn.Module | None = None,
    entropy: bool = False,
) -> Outputs:
    """Compute what a model says about what the policy wrote, with gradients when they are enabled.

    A model's gradient checkpointing (`enable_checkpointing`) works in evaluation mode here, where transformers
    leaves it out.

    Args:
        model: A Hugging Face causal language model in evaluation mode; gradient checkpointing repeats no dropout.
        batch: The trajectories.
        temperature: Of the softmax, as when sampling; 0 counts as 1.
        value_head: Maps final hidden states [..., hidden] in fp32 to values [..., 1].
        entropy: Whether to compute entropies.
    """
    mask_BT = batch.action_mask_BT
    compute = _Scores(temperature, entropy, value_head)
    found = None
    if not mask_BT.any():
        found = (torch.zeros(0, device=mask_BT.device),) * 3
    elif packs(model):
        try:
            found = _on_packed(model, batch, compute)
        except Unpackable:
            # What the probe was too short for: a conversation that is longer than a sliding window.
            found = None
    if found is None:
        found = _one_by_one(model, batch, compute)
    logprobs_M, entropy_M, values_M = found

    def rows(values_M: Tensor) -> Tensor:
        return torch.zeros(mask_BT.shape, device=mask_BT.device).masked_scatter(mask_BT, values_M)

    return Outputs(
        rows(logprobs_M),
        rows(entropy_M) if entropy else None,
        rows(values_M) if value_head is not None else None,
    )


def action_logprobs(model: Any, batch: Batch, temperature: float = 1.0) -> Tensor:
    """Compute the log-probabilities of what the policy wrote, [B, T]; arguments as for `action_outputs`."""
    return action_outputs(model, batch, temperature).logprobs_BT


def enable_checkpointing(model: Any) -> None:
    """Let a model compute its layers again in the backward pass instead of keeping their activations.

    Raises:
        ValueError: The model does not support it.
    """
    # Its name changed within transformers 5.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


def micro_batches(groups: Sequence[Sequence[Trajectory]], max_batch_tokens: int) -> list[list[list[int]]]:
    """Split groups so that each forward pass reads at most so many packed tokens.

    Trajectories that begin alike stay together, because what they share is read once in every part.

    Args:
        groups: Trajectories by task.
        max_batch_tokens: Packed tokens of a batch; a conversation that is longer makes a batch of its own.

    Returns:
        For each batch, for each group in it, the numbers of its trajectories, counted over all groups:
        `Batch.from_groups([[trajectories[i] for i in part] for part in batch])` packs one.
    """
    batches: list[list[list[int]]] = []
    batch: list[list[int]] = []
    free = max_batch_tokens
    start = 0
    for group in groups:
        conversations = [read_ids(trajectory) for trajectory in group]
        order, shared = sort_by_prefix(conversations)
        lengths = [len(conversations[i]) for i in order]
        part: list[int] = []
        # A group that fits into a batch is not torn apart to fill the one before.
        if batch and sum(lengths) - sum(shared) > free:
            batches.append(batch)
            batch, free = [], max_batch_tokens
        for i, length, common in zip(order, lengths, shared):
            size = length - common if part else length
            if size > free and (part or batch):
                batches.append([*batch, part] if part else batch)
                batch, part, free, size = [], [], max_batch_tokens, length
            part.append(start + i)
            free -= size
        if part:
            batch.append(part)
        start += len(group)
    return [*batches, batch] if batch else batches


class Reference:
    """The starting model, for the divergence from it.

    A model with LoRA adapters is its own reference, with the adapters switched off; of any other a frozen copy is
    kept.

    Args:
        model: The policy, before it is trained.
    """

    def __init__(self, model: Any) -> None:
        self.model = model if has_lora(model) else copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def logprobs(self, batch: Batch, temperature: float = 1.0) -> Tensor:
        """Compute the log-probabilities of what the policy wrote under the starting model, [B, T]."""
        with adapters_off(self.model):
            return action_logprobs(self.model, batch, temperature)

    def divergence(self, model: Any, batch: Batch) -> Tensor:
        """Compute KL(policy || starting model) where each token was written, over the whole vocabulary.

        Unlike `agents.losses.kl_divergence`, which estimates it from tokens that the policy sampled, this is exact
        whoever wrote the tokens. It runs both models on one conversation at a time.

        Args:
            model: The policy.
            batch: The trajectories.

        Returns:
            [B, T], in nats, zero where the action mask is False.
        """
        mask_BT = batch.action_mask_BT
        parts = [torch.zeros(0, device=mask_BT.device)]
        for b, places in enumerate(batch.layout.rows):
            mask_T = mask_BT[b]
            if not mask_T.any():
                continue
            ids_T = batch.input_ids_N[torch.from_numpy(places).to(mask_T.device)]
            reads_M = batch.position_ids_N[batch.read_BT[b, mask_T]]
            logprobs_MV = log_softmax(model(input_ids=ids_T[None], use_cache=False).logits[0, reads_M].float(), -1)
            with torch.no_grad(), adapters_off(self.model):
                logits_MV = self.model(input_ids=ids_T[None], use_cache=False).logits[0, reads_M]
                ref_logprobs_MV = log_softmax(logits_MV.float(), -1)
            parts.append((logprobs_MV.exp() * (logprobs_MV - ref_logprobs_MV)).sum(-1))
        return torch.zeros(mask_BT.shape, device=mask_BT.device).masked_scatter(mask_BT, torch.cat(parts))


def packs(model: Any) -> bool:
    """Return whether a model computes the same on packed tokens as in its own forward; tried once for each model.

    The trial compares the logits of three short random conversations, two of which begin alike. Warns when a
    model fails it.
    """
    if model not in _packs:
        _packs[model] = _reproduces_itself(model)
        if not _packs[model]:
            warnings.warn(
                f"{type(model).__name__} does not compute the same on packed conversations as in its own forward: "
                "learners will run it on one conversation at a time, which is slower",
                stacklevel=3,
            )
    return _packs[model]


@torch.no_grad()
def _reproduces_itself(model: Any) -> bool:
    kinds = set(getattr(model.config, "layer_types", None) or ())
    if not kinds <= {"full_attention", "sliding_attention"}:
        return False
    device = next(model.parameters()).device
    draw = np.random.default_rng(0)
    prefix, *rest = (draw.integers(model.get_input_embeddings().num_embeddings, size=n) for n in (11, 9, 6, 17))
    rows = [np.concatenate([prefix, rest[0]]), np.concatenate([prefix, rest[1]]), rest[2]]
    ids, positions, layout = pack([rows[:2], rows[2:]])
    training = model.training
    model.eval()
    try:
        ids_N, positions_N = torch.from_numpy(ids).to(device), torch.from_numpy(positions).to(device)
        found = model.get_output_embeddings()(_hidden_states(model, ids_N, positions_N, layout))
        for row, places in zip(rows, layout.rows):
            expected = model(input_ids=torch.from_numpy(row)[None].to(device), use_cache=False).logits[0]
            given = found[torch.from_numpy(places).to(device)]
            # A token that a model rules out has the logit -inf in both.
            error = (given - expected).masked_fill(given == expected, 0.0).abs().max()
            limit = TOLERANCE.get(expected.dtype, 1e-3) * expected[expected.isfinite()].abs().max()
            # Not `> limit`, which NaN would pass.
            if not error <= limit:
                return False
    except Exception:
        # Whatever it is that such a model cannot do, its own forward does not need it.
        return False
    finally:
        model.train(training)
    return True


class _Scores:
    """From final hidden states and logits to figures of sampled tokens."""

    def __init__(self, temperature: float, entropy: bool, value_head: nn.Module | None) -> None:
        self.temperature = temperature
        self.entropy = entropy
        self.value_head = value_head

    def of_logits(self, logits_UV: Tensor, read_M: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities [M] of targets under row `read_M` of the logits, and entropies [M] (or [0])."""
        logits_UV = logits_UV.float()
        if self.temperature not in (0, 1):
            logits_UV = logits_UV / self.temperature
        logprobs_UV = log_softmax(logits_UV, dim=-1)
        entropy_M = logits_UV.new_zeros(0)
        if self.entropy:
            # A token that a model rules out has log-probability -inf; below -104, a probability is 0 in fp32.
            bounded_UV = logprobs_UV.clamp(min=-1_000)
            entropy_M = -(logprobs_UV.exp() * bounded_UV).sum(dim=-1)[read_M]
        return logprobs_UV[read_M, target_M], entropy_M

    def of_states(self, hidden_UH: Tensor) -> Tensor:
        """Return the values [U] of hidden states (or [0] without a value head)."""
        if self.value_head is None:
            return hidden_UH.new_zeros(0)
        values_U1: Tensor = self.value_head(hidden_UH.float())
        return values_U1[:, 0].float()


def _on_packed(model: Any, batch: Batch, scores: _Scores) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-probabilities, entropies and values of the M sampled tokens, in the order of the mask."""
    states_NH = _hidden_states(model, batch.input_ids_N, batch.position_ids_N, batch.layout)
    # Rows that agree so far read the same output.
    reads_U, read_M = batch.read_BT[batch.action_mask_BT].unique(return_inverse=True)
    target_M = batch.target_ids_BT[batch.action_mask_BT]
    hidden_UH = embedding(reads_U, states_NH)
    head = model.get_output_embeddings()

    def score(hidden_UH: Tensor, read_M: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor]:
        return scores.of_logits(head(hidden_UH), read_M, target_M)

    values_U = scores.of_states(hidden_UH)
    values_M = values_U[read_M] if len(values_U) else values_U
    size = max(1, LOGITS_BUDGET // head.weight.shape[0])
    if len(reads_U) <= size:
        return *score(hidden_UH, read_M, target_M), values_M
    parts = []
    # Sorted, the tokens of a chunk are neighbours.
    order_M = read_M.argsort(stable=True)
    bounds = torch.searchsorted(read_M[order_M], torch.arange(0, len(reads_U) + size, size, device=read_M.device))
    for chunk, tokens_M in enumerate(order_M.tensor_split(bounds[1:-1].cpu())):
        inputs = (
            hidden_UH[chunk * size : (chunk + 1) * size],
            read_M[tokens_M] - chunk * size,
            target_M[tokens_M],
        )
        if torch.is_grad_enabled() and chunk > 0:
            parts.append(checkpoint(score, *inputs, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(score(*inputs))
    logprobs_M, entropy_M = (torch.cat(values) for values in zip(*parts))
    back_M = order_M.argsort()
    return logprobs_M[back_M], entropy_M[back_M] if scores.entropy else entropy_M, values_M


def _one_by_one(model: Any, batch: Batch, scores: _Scores) -> tuple[Tensor, Tensor, Tensor]:
    """The same through the model's own forward, one conversation at a time."""
    head = model.get_output_embeddings()

    def score(ids_T: Tensor, reads_M: Tensor, target_M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            kept.append(inputs[0][:, reads_M])
            return (kept[0],)

        # A hook, because whatever a model does to its logits after the output layer must still happen.
        handle = head.register_forward_pre_hook(keep)
        try:
            logits_MV = model(input_ids=ids_T[None], use_cache=False).logits[0]
        finally:
            handle.remove()
        every_M = torch.arange(len(reads_M), device=reads_M.device)
        return *scores.of_logits(logits_MV, every_M, target_M), scores.of_states(kept[0][0])

    large = int(batch.action_mask_BT.sum()) * head.weight.shape[0] > LOGITS_BUDGET
    parts = []
    with _checkpointing(model, nullcontext):
        for b, places in enumerate(batch.layout.rows):
            mask_T = batch.action_mask_BT[b]
            if not mask_T.any():
                continue
            ids_T = batch.input_ids_N[torch.from_numpy(places).to(mask_T.device)]
            inputs = (ids_T, batch.position_ids_N[batch.read_BT[b, mask_T]], batch.target_ids_BT[b, mask_T])
            if large and torch.is_grad_enabled():
                parts.append(checkpoint(score, *inputs, use_reentrant=False, preserve_rng_state=False))
            else:
                parts.append(score(*inputs))
    logprobs_M, entropy_M, values_M = (torch.cat(values) for values in zip(*parts))
    return logprobs_M, entropy_M, values_M


def _hidden_states(model: Any, ids_N: Tensor, positions_N: Tensor, layout: Layout) -> Tensor:
    """Return the final hidden states of packed tokens, [N, hidden].

    Raises:
        Unpackable: A layer attends in a way that is not known here.
    """
    longest = int(layout.depths_N.max()) + 1
    plan: AttentionPlan | None = None

    def attend(
        module: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        attention_mask: Tensor | None = None,
        dropout: float = 0.0,
        scaling: float | None = None,
        sliding_window: int | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        nonlocal plan
        if not getattr(module, "is_causal", True):
            raise Unpackable
        if any(others.get(name) is not None for name in UNKNOWN_ARGUMENTS):
            raise Unpackable
        if sliding_window is not None and longest > sliding_window:
            raise Unpackable
        if plan is None:
            plan = plan_of(layout, queries.device, queries.dtype)
        return plan.attend(queries, keys, values, dropout, scaling), None

    def ours() -> AbstractContextManager[None]:
        return using_attention(model, _ATTENTION, attend)

    with ours(), _checkpointing(model, ours):
        states_1NH: Tensor = model.base_model(
            input_ids=ids_N[None], position_ids=positions_N[None], use_cache=False
        ).last_hidden_state
    return states_1NH[0]


@contextmanager
def _checkpointing(model: Any, during: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Compute layers again in the backward pass where gradient checkpointing is on, inside `during`.

    transformers does it in training mode only, which would switch dropout on, and would compute them again with
    the attention function of that moment.
    """

    def wrap(forward: Callable[..., Any]) -> Callable[..., Any]:
        def checkpointed(*args: Any, **kwargs: Any) -> Any:
            def again(*args: Any) -> Any:
                with during():
                    return forward(*args, **kwargs)

            return checkpoint(again, *args, use_reentrant=False, preserve_rng_state=False)

        return checkpointed

    layers: list[Any] = [
        module
        for module in model.modules()
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing
    ]
    changed = [(layer, vars(layer).get("forward")) for layer in layers if torch.is_grad_enabled()]
    for layer, _ in changed:
        layer.forward = wrap(layer.forward)
    try:
        yield
    finally:
        for layer, before in changed:
            del layer.forward
            if before is not None:
                layer.forward = before
