"""Attention over packed conversations that share beginnings: cut into blocks, padded, computed, put back.

The tokens of a `Layout` form trees. Blocks of queries with the keys that any of them may read are padded to the
size of their bucket and left to `scaled_dot_product_attention`; where blocks are cut, and which are put together,
is decided by what gathering keys, calls and padding cost.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

from agents.trajectory import Layout

# In pairs of a query and a key: what gathering a key costs, and what a call costs beside its work. Other devices
# than the CPU compute so many pairs at once that only the number of calls counts.
_KEY_COST = 4
_CALL_COST = {"cpu": 8_000}
_OTHER_CALL_COST = 1_000_000


class AttentionPlan:
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


def plan_of(layout: Layout, device: torch.device, dtype: torch.dtype) -> AttentionPlan:
    """Return the plan of a layout, made at its first use."""
    if (device, dtype) not in layout.plans:
        layout.plans[device, dtype] = AttentionPlan(layout, device, dtype)
    plan: AttentionPlan = layout.plans[device, dtype]
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
