"""A model on packed conversations: log-probabilities, entropies and values of what the policy wrote.

A Hugging Face model runs with its own modules on the N packed tokens of a `Batch`: no linear layer sees padding,
and what the conversations of a group begin with is computed once, with gradients from all of them. Attention alone
is done here: `_Plan` cuts the batch into blocks of queries with the keys that they may read, pads blocks of like
size to a common one, and leaves them to `scaled_dot_product_attention`. The output layer runs on the outputs that
predict a sampled token, once however many rows read one, in chunks of bounded memory.

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
from torch.nn.functional import embedding, log_softmax, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from agents.attention import using_attention
from agents.lora import adapters_off, has_lora
from agents.trajectory import Batch, Layout, Trajectory, pack, read_ids, sort_by_prefix

# Logits that are kept for the backward pass; where there are more, they are computed again there, chunk by chunk.
LOGITS_BUDGET = 2**25
_ATTENTION = "mentor_gym_packed"
# Arguments of attention functions that change what is computed in a way that ours does not know.
_UNKNOWN = ("softcap", "s_aux", "position_bias", "head_mask", "cache")
# Relative to the largest logit; sums are taken in another order than in the model's own forward.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 6e-2}
# In pairs of a query and a key: what gathering a key costs, and what a call costs beside its work. Other devices
# than the CPU compute so many pairs at once that only the number of calls counts.
_KEY_COST = 4
_CALL_COST = {"cpu": 8_000}
_OTHER_CALL_COST = 1_000_000

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
            limit = _TOLERANCE.get(expected.dtype, 1e-3) * expected[expected.isfinite()].abs().max()
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
    plan: _Plan | None = None

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
        if any(others.get(name) is not None for name in _UNKNOWN) or not getattr(module, "is_causal", True):
            raise Unpackable
        if sliding_window is not None and longest > sliding_window:
            raise Unpackable
        if plan is None:
            plan = _plan(layout, queries.device, queries.dtype)
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


class _Plan:
    """How attention over packed tokens is computed; made once for a batch, used by all layers.

    Blocks of queries with the keys that they may read are padded to the size of their bucket: B blocks, Q queries,
    K keys.

    Args:
        layout: Who may read whom.
        device: Where the model computes.
        dtype: Data type of queries.

    Attributes:
        queries: Which packed tokens the queries of all buckets are, flat; padding repeats token 0.
        keys: The same of the keys.
        masks: For each bucket what is added to the scores, [B, 1, Q, K]: 0 where a query may read a key, else
            -inf. Padded queries read everything, so that nothing becomes NaN; nobody reads what they return.
        places_N: Where each packed token stands in `queries`.
    """

    def __init__(self, layout: Layout, device: torch.device, dtype: torch.dtype) -> None:
        self.masks: list[Tensor] = []
        all_queries, all_keys = [], []
        places_N = np.zeros(len(layout.ends_N), np.int64)
        start = 0
        for blocks in _buckets(_blocks(layout), _CALL_COST.get(device.type, _OTHER_CALL_COST)):
            width, length = max(stop - first for first, stop, _ in blocks), max(len(keys) for *_, keys in blocks)
            queries, keys = np.zeros((len(blocks), width), np.int64), np.zeros((len(blocks), length), np.int64)
            real_queries, real_keys = np.zeros(queries.shape, bool), np.zeros(keys.shape, bool)
            for b, (first, stop, read) in enumerate(blocks):
                queries[b, : stop - first] = np.arange(first, stop)
                keys[b, : len(read)] = read
                real_queries[b, : stop - first] = True
                real_keys[b, : len(read)] = True
                places_N[first:stop] = start + b * width + np.arange(stop - first)
            start += queries.size
            query, key = queries[:, :, None], keys[:, None, :]
            allowed = (key <= query) & (query < layout.ends_N[keys][:, None, :]) & real_keys[:, None, :]
            allowed |= ~real_queries[:, :, None]
            mask = torch.zeros((len(blocks), 1, width, length), dtype=dtype, device=device)
            self.masks.append(mask.masked_fill_(~torch.from_numpy(allowed).to(device)[:, None], float("-inf")))
            all_queries.append(queries.ravel())
            all_keys.append(keys.ravel())
        self.queries = torch.from_numpy(np.concatenate(all_queries)).to(device)
        self.keys = torch.from_numpy(np.concatenate(all_keys)).to(device)
        self.places_N = torch.from_numpy(places_N).to(device)

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, dropout: float, scaling: float | None
    ) -> Tensor:
        """Attend; [1, heads, N, size] each, returns [1, N, heads, size]."""
        heads, groups = queries.shape[1], queries.shape[1] // keys.shape[1]
        # Gathered once for all buckets, by embedding: its backward adds rows up faster than that of an index.
        rows = [each[0].transpose(0, 1).flatten(start_dim=1) for each in (queries, keys, values)]
        indices = (self.queries, self.keys, self.keys)
        sizes = [[mask.shape[0] * mask.shape[axis] for mask in self.masks] for axis in (2, 3, 3)]
        gathered = [embedding(index, each).split(size) for index, each, size in zip(indices, rows, sizes)]
        parts = []
        for mask, *block in zip(self.masks, *gathered):
            query, key, value = (
                each.view(len(mask), -1, count, own.shape[-1]).transpose(1, 2)
                for each, own, count in zip(
                    block, (queries, keys, values), (heads, heads // groups, heads // groups)
                )
            )
            if groups > 1 and query.device.type != "cpu":
                # With a mask, only the CPU's fast kernel has grouped heads.
                key, value = (each.repeat_interleave(groups, dim=1) for each in (key, value))
            out = scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=mask,
                dropout_p=dropout,
                scale=scaling,
                enable_gqa=key.shape[1] != heads,
            )
            parts.append(out.transpose(1, 2).flatten(0, 1))
        return embedding(self.places_N, torch.cat(parts).flatten(1)).view(1, len(self.places_N), heads, -1)


def _plan(layout: Layout, device: torch.device, dtype: torch.dtype) -> _Plan:
    if (device, dtype) not in layout.plans:
        layout.plans[device, dtype] = _Plan(layout, device, dtype)
    plan: _Plan = layout.plans[device, dtype]
    return plan


def _blocks(layout: Layout) -> list[tuple[int, int, np.ndarray]]:
    """Cut packed tokens into blocks of queries: first, one past the last, and all keys that any of them reads.

    A piece of conversation without branches and all that follows it are one block with a mask, where the pairs
    that the mask leaves out cost less than gathering the piece's keys once more for every branch.
    """
    ends = layout.ends_N
    # Pieces without branches: their tokens have one end.
    starts = np.flatnonzero(np.diff(ends, prepend=-1))
    stops = [*starts[1:].tolist(), len(ends)]
    pieces = [(start, stop, int(ends[start])) for start, stop in zip(starts.tolist(), stops)]
    before: list[np.ndarray] = []
    parents: list[int] = []
    open_pieces: list[int] = []
    for i, (start, _, _) in enumerate(pieces):
        while open_pieces and pieces[open_pieces[-1]][2] <= start:
            open_pieces.pop()
        parent = open_pieces[-1] if open_pieces else -1
        parents.append(parent)
        if parent < 0:
            before.append(np.zeros(0, np.int64))
        else:
            before.append(np.concatenate([before[parent], np.arange(*pieces[parent][:2])]))
        open_pieces.append(i)

    cost_of_branches = [0] * len(pieces)
    whole = [True] * len(pieces)
    for i in reversed(range(len(pieces))):
        start, stop, end = pieces[i]
        together = _cost(end - start, len(before[i]) + end - start)
        apart = _cost(stop - start, len(before[i]) + stop - start) + cost_of_branches[i]
        whole[i] = together <= apart
        if parents[i] >= 0:
            cost_of_branches[parents[i]] += min(together, apart)

    blocks: list[tuple[int, int, np.ndarray]] = []
    done = 0
    for i, (start, stop, end) in enumerate(pieces):
        if start >= done:
            done = end if whole[i] else stop
            blocks.append((start, done, np.concatenate([before[i], np.arange(start, done)])))
    return blocks


def _buckets(
    blocks: list[tuple[int, int, np.ndarray]], call_cost: int
) -> Iterator[list[tuple[int, int, np.ndarray]]]:
    """Put blocks of similar size together, where padding them costs less than another call."""
    bucket: list[tuple[int, int, np.ndarray]] = []
    width = length = cost = 0
    for block in sorted(blocks, key=lambda block: (block[1] - block[0], len(block[2]))):
        own = _cost(block[1] - block[0], len(block[2]))
        width, length = max(width, block[1] - block[0]), max(length, len(block[2]))
        padded = (len(bucket) + 1) * _cost(width, length)
        if bucket and padded - cost - own > call_cost:
            yield bucket
            bucket, cost, padded = [], 0, own
            width, length = block[1] - block[0], len(block[2])
        bucket.append(block)
        cost += own
    if bucket:
        yield bucket


def _cost(queries: int, keys: int) -> int:
    return (queries + _KEY_COST) * keys
