"""The key-value cache of the sampler, and attention over its rows, which are of different lengths.

Layout. A row holds one conversation, packed from column 0, so a token's column is its position and a query may
look at exactly the columns up to its own position: `column <= position` is the whole attention mask, for prompts,
for blocks of tool results and for single tokens alike. What a dead row writes lies beyond that bound and is
overwritten before the bound reaches it. (Columns start as zeros, not as whatever memory held: a masked NaN is
still a NaN once it is multiplied by its weight of zero.)

One forward pass serves every row at once, whatever it has to read. Its packed tokens are, first, the *final* token
of each of the rows 0, 1, ...: the one whose output is wanted, and then the *leading* tokens of those rows that
have more to read. So no padding reaches a linear layer, and single-token decoding reads the cache in place.

Decoding is bound by reading the cache. What rows have in common is therefore read once, from one of them, and each
row's attention is put together from that part and its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

# Bytes of keys and values whose reading must be saved for rows to share what they begin with; on CPUs, where that
# was measured.
_SHARE_BYTES = 3_000_000
# Rows whose leading tokens are attended together: padding above this many tokens costs more than another call.
_PADDING_TOKENS = 100


class KeyValues:
    """Keys and values of all layers, `rows` by `columns`; memory is taken when a layer first writes.

    Args:
        layers: Number of attention layers.
        rows: Conversations.
        columns: Tokens of a conversation.
    """

    def __init__(self, layers: int, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        # Of each layer: [rows, columns, key-value heads, head size].
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers

    def reserve(self, rows: int, columns: int) -> None:
        """Make room for at least so many rows and columns."""
        if rows <= self.rows and columns <= self.columns:
            return
        columns = max(columns, self.columns * 3 // 2) if columns > self.columns else self.columns
        rows = max(rows, self.rows)
        for states in (self._keys, self._values):
            for layer, old in enumerate(states):
                if old is not None:
                    new = old.new_zeros(rows, columns, *old.shape[2:])
                    new[: self.rows, : self.columns] = old
                    states[layer] = new
        self.rows, self.columns = rows, columns

    def copy(self, source: int, target: int, columns: int) -> None:
        """Copy the beginning of a row to another one."""
        for states in (*self._keys, *self._values):
            if states is not None:
                states[target, :columns] = states[source, :columns]

    def swap(self, a: Sequence[int], b: Sequence[int], columns: int) -> None:
        """Exchange the beginnings of rows."""
        for states in (*self._keys, *self._values):
            if states is not None:
                index_a = torch.tensor(a, device=states.device)
                index_b = torch.tensor(b, device=states.device)
                kept = states[index_a, :columns]
                states[index_a, :columns] = states[index_b, :columns]
                states[index_b, :columns] = kept

    def write(self, layer: int, reads: Reads, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values of packed tokens, [N, heads, size], in their places; returns the layer's cache."""
        stored_keys, stored_values = self._keys[layer], self._values[layer]
        if stored_keys is None or stored_values is None:
            self._keys[layer] = stored_keys = keys.new_zeros(self.rows, self.columns, *keys.shape[1:])
            self._values[layer] = stored_values = values.new_zeros(self.rows, self.columns, *values.shape[1:])
        # On a flat view: several times faster than indexing two dimensions.
        places = reads.places(self.columns)
        stored_keys.flatten(0, 1).index_copy_(0, places, keys)
        stored_values.flatten(0, 1).index_copy_(0, places, values)
        return stored_keys, stored_values


class Reads:
    """The tokens of one forward pass, and where they stand in the cache.

    Args:
        finals: For each of the rows 0, 1, ...: its final token and the position of that.
        leading: Rows with more to read: row, position of the first leading token, the leading tokens.
        device: Where the model runs.
        dtype: Data type of attention.
        alike: For each row a row that holds the same keys and values in its first columns.
        common: How many columns those are, the same for all rows; no row that matters ends before them.

    Attributes:
        token_ids_N: Packed tokens, final ones first.
        position_ids_N: Their positions.
        count: How many rows there are.
    """

    def __init__(
        self,
        finals: Sequence[tuple[int, int]],
        leading: Sequence[tuple[int, int, Sequence[int]]],
        device: torch.device,
        dtype: torch.dtype,
        alike: Sequence[int] = (),
        common: int = 0,
    ) -> None:
        self.count = len(finals)
        self._alike, self._common = alike, common
        self._start: int | None = None
        token_ids, position_ids = [token for token, _ in finals], [position for _, position in finals]
        rows = list(range(self.count))
        self._used = max(position_ids) + 1
        self._blocks = []
        for block in _by_length(leading):
            width = max(len(ids) for _, _, ids in block)
            start = len(token_ids)
            # Padding repeats the block's first token; its output is dropped.
            index, bound = [], []
            for row, first, ids in block:
                here = len(token_ids)
                index.append([here + t if t < len(ids) else start for t in range(width)])
                bound.append(range(first, first + width))
                token_ids += ids
                position_ids += range(first, first + len(ids))
                rows += [row] * len(ids)
            columns = max(first + len(ids) for _, first, ids in block)
            self._blocks.append(
                _Block(
                    torch.tensor([row for row, _, _ in block], device=device),
                    torch.tensor(index, device=device),
                    torch.tensor([[t < len(ids) for t in range(width)] for _, _, ids in block], device=device),
                    _bias(torch.tensor([list(positions) for positions in bound], device=device), columns, dtype),
                    columns,
                )
            )
        self.token_ids_N = torch.tensor(token_ids, device=device)
        self.position_ids_N = torch.tensor(position_ids, device=device)
        self._rows_N = torch.tensor(rows, device=device)
        self._bias = torch.empty(0)
        self._places: Tensor | None = None

    def places(self, columns: int) -> Tensor:
        """Where each token's keys stand in a cache of so many columns, its rows one behind the other, [N]."""
        if self._places is None:
            self._places = self._rows_N * columns + self.position_ids_N
        return self._places

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float, last: bool = False) -> Tensor:
        """Attention of the packed tokens over the rows of a layer's cache, in which they already stand.

        Args:
            queries: [N, heads, size].
            keys: The layer's cache, [rows, columns, key-value heads, size].
            values: The same of the values.
            scale: Factor of the scores.
            last: Whether only the final tokens are wanted, as in the last layer.

        Returns:
            [N, heads, size of values]; of the final tokens only if they are the ones that are wanted.
        """
        total, heads, size = queries.shape
        shared = keys.shape[2]
        # Queries that share a key-value head stand in for several queries of one: nothing is repeated.
        grouped = queries.view(total, shared, heads // shared, size)
        if self._start is None:
            self._divide(keys, values)
        final = grouped[: self.count]
        own_keys = keys[: self.count, self._start : self._used].transpose(1, 2)
        own_values = values[: self.count, self._start : self._used].transpose(1, 2)
        if self._start:
            found = self._attend_divided(final, own_keys, own_values, keys, values, scale)
        else:
            found = scaled_dot_product_attention(final, own_keys, own_values, attn_mask=self._bias, scale=scale)
        parts = [found.reshape(self.count, heads, -1)]
        for block in () if last else self._blocks:
            count, width = block.index.shape
            query = grouped[block.index].permute(0, 2, 3, 1, 4).reshape(count, shared, -1, size)
            found = scaled_dot_product_attention(
                query,
                keys[block.rows, : block.columns].transpose(1, 2),
                values[block.rows, : block.columns].transpose(1, 2),
                attn_mask=block.bias.repeat(1, 1, heads // shared, 1),
                scale=scale,
            )
            found = found.view(count, heads, width, -1).transpose(1, 2)
            parts.append(found[block.real])
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _divide(self, keys: Tensor, values: Tensor) -> None:
        """Decide whether final tokens read what their rows have in common from one row of each kind."""
        members: dict[int, list[int]] = {}
        for row, same in enumerate(self._alike):
            members.setdefault(same, []).append(row)
        token = keys[0, 0].nbytes + values[0, 0].nbytes
        saved = (len(self._alike) - len(members)) * self._common * token
        self._start = self._common if saved >= _SHARE_BYTES and keys.device.type == "cpu" else 0
        positions = self.position_ids_N[: self.count, None]
        if self._start:
            width = max(map(len, members.values()))
            # Padding repeats a member; what it gets is dropped.
            index = [rows + rows[:1] * (width - len(rows)) for rows in members.values()]
            back = {row: g * width + i for g, rows in enumerate(members.values()) for i, row in enumerate(rows)}
            self._holders, self._index = torch.tensor(list(members)), torch.tensor(index)
            self._back = torch.tensor([back[row] for row in range(self.count)])
            # A row that only is taken along may end earlier; it reads whatever stands there, but never nothing,
            # which would be NaN.
            positions = (positions - self._start).clamp(min=0)
        self._bias = _bias(positions, self._used - self._start, keys.dtype)

    def _attend_divided(
        self, queries: Tensor, own_keys: Tensor, own_values: Tensor, keys: Tensor, values: Tensor, scale: float
    ) -> Tensor:
        """Attention of final tokens over common columns, read once, and their own; [rows, shared, group, size]."""
        rows, width = self._index.shape
        _, shared, group, _ = queries.shape
        gathered = queries[self._index].transpose(1, 2).reshape(rows, shared, width * group, -1)
        # The kernel behind scaled_dot_product_attention, because it tells the sums that the parts are weighed by.
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        common, common_sums = attend(
            gathered,
            keys[self._holders, : self._start].transpose(1, 2),
            values[self._holders, : self._start].transpose(1, 2),
            scale=scale,
        )
        own, own_sums = attend(queries, own_keys, own_values, attn_mask=self._bias, scale=scale)

        def in_rows(x: Tensor) -> Tensor:
            return x.unflatten(2, (width, group)).transpose(1, 2).flatten(0, 1)[self._back]

        share = torch.sigmoid(in_rows(common_sums) - own_sums)
        return torch.lerp(own, in_rows(common), share[..., None].to(own.dtype))


@dataclass(slots=True)
class _Block:
    """Leading tokens of some rows, padded to one length.

    Attributes:
        rows: Their rows in the cache, [b].
        index: Their places among the packed tokens, [b, t].
        real: False on padding, [b, t].
        bias: Added to the scores, [b, 1, t, columns].
        columns: How many columns they look at.
    """

    rows: Tensor
    index: Tensor
    real: Tensor
    bias: Tensor
    columns: int


def _bias(positions: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """What scores of queries at positions [b, t] get added: -inf on later columns, [b, 1, t, columns]."""
    later = torch.arange(columns, device=positions.device) > positions[:, None, :, None]
    return torch.zeros(later.shape, dtype=dtype, device=positions.device).masked_fill_(later, float("-inf"))


def _by_length(
    leading: Sequence[tuple[int, int, Sequence[int]]],
) -> list[list[tuple[int, int, Sequence[int]]]]:
    """Group rows by similar number of leading tokens, shortest first, where that saves more than a call costs."""
    blocks: list[list[tuple[int, int, Sequence[int]]]] = []
    for item in sorted(leading, key=lambda item: len(item[2])):
        if not blocks or len(blocks[-1]) * (len(item[2]) - len(blocks[-1][-1][2])) > _PADDING_TOKENS:
            blocks.append([])
        blocks[-1].append(item)
    return blocks
