"""Batched multi-turn generation with a Hugging Face causal language model.

Prompts that are equal are computed once, the key-value cache lives across the turns of an episode, and rows that
finish their turn leave the batch. The sampler knows tokens only: rendering text is `agents.llm`'s business.

Layout. Every row of the cache is packed from column 0, so a token's column is its position and a query may look
at exactly the columns up to its own position: `column <= position` is the whole attention mask, for prompts,
for ragged blocks of tool results and for single tokens alike. What padding writes lies beyond that bound and is
overwritten before the bound reaches it. (Columns start as zeros, not as whatever memory held: a masked NaN is
still a NaN once it is multiplied by its weight of zero.)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

# Once so many rows of the running batch have finished, the others move together (see `_Rows.compact`).
_COMPACT_BELOW = 0.75
# Tokens of one prefill forward: bounds memory for long prompts in large batches.
_PREFILL_TOKENS = 16_384
# What a forward pass costs beside its tokens, in tokens.
_PASS_TOKENS = 100


@dataclass(slots=True)
class Sample:
    """What one row generated in one turn.

    Attributes:
        token_ids: The sampled ids, an end-of-turn token included.
        logprobs: Log-probability of each under `softmax(logits / temperature)`, in fp32.
        cut_off: Whether the row ran out of tokens before it finished.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    cut_off: bool = False


class _RowsLayer(DynamicLayer):
    """One layer's keys and values, preallocated; `update` writes a block and returns the columns in use."""

    keys: Any
    values: Any

    def __init__(self, owner: _Rows) -> None:
        super().__init__()
        self.owner = owner

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        owner = self.owner
        if not self.is_initialized:
            _, heads, _, width = key_states.shape
            self.keys = key_states.new_zeros(owner.rows, heads, owner.columns, width)
            self.values = value_states.new_zeros(owner.rows, heads, owner.columns, value_states.shape[-1])
            self.is_initialized = True
        # Indices on dimensions 0 and 2 put the head dimension behind them: [rows, block, heads, width].
        self.keys[owner.write_rows, :, owner.write_columns] = key_states.transpose(1, 2)
        self.values[owner.write_rows, :, owner.write_columns] = value_states.transpose(1, 2)
        return self.keys[owner.read_rows, :, : owner.used], self.values[owner.read_rows, :, : owner.used]

    def get_seq_length(self) -> int:
        return self.owner.used


class _Rows(Cache):
    """The key-value cache of a batch of episodes, `rows` by `columns`.

    Attributes:
        used: How many columns attention looks at.
        read_rows: The rows of the next block: a slice, which copies nothing, or their indices.
        write_rows: The same as indices, [B, 1].
        write_columns: Where the block's tokens stand in their rows, [B, T].
    """

    def __init__(self, layers: int, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.used = 0
        self.read_rows: slice | Tensor = slice(rows)
        self.write_rows = self.write_columns = torch.empty(0)
        super().__init__(layers=[_RowsLayer(self) for _ in range(layers)])
        self.layers: list[Any]

    def fill(self, source: DynamicCache, first: Tensor, rows: Tensor) -> None:
        """Copy prompts computed once into the rows that start with them."""
        for layer, computed in zip(self.layers, cast(list[Any], source.layers)):
            if not layer.is_initialized:
                _, heads, _, width = computed.keys.shape
                layer.keys = computed.keys.new_zeros(self.rows, heads, self.columns, width)
                layer.values = computed.values.new_zeros(self.rows, heads, self.columns, computed.values.shape[-1])
                layer.is_initialized = True
            length = computed.keys.shape[2]
            layer.keys[rows, :, :length] = computed.keys[first]
            layer.values[rows, :, :length] = computed.values[first]

    def grow(self, columns: int) -> None:
        """Make room for at least `columns` columns."""
        if columns <= self.columns:
            return
        columns = max(columns, self.columns * 3 // 2)
        for layer in self.layers:
            for name in ("keys", "values"):
                old = getattr(layer, name)
                new = old.new_zeros(old.shape[0], old.shape[1], columns, old.shape[3])
                new[:, :, : self.columns] = old
                setattr(layer, name, new)
        self.columns = columns

    def swap(self, a: Tensor, b: Tensor, columns: int) -> None:
        """Exchange rows `a` with rows `b`."""
        for layer in self.layers:
            for states in (layer.keys, layer.values):
                kept = states[a, :, :columns]
                states[a, :, :columns] = states[b, :, :columns]
                states[b, :, :columns] = kept


class Sampler:
    """Generate one turn for a batch of conversations.

    Args:
        model: A Hugging Face causal language model, in evaluation mode.
        stop_ids: Token ids that end a turn.
        may_stop: For each token id, whether its text can complete a stop text (cheap filter).
        stopped: Whether the ids sampled so far in this turn hold a stop text; called only after `may_stop`.
        temperature: Sampling temperature; 0 takes the most likely token.
        max_new_tokens: Tokens of one turn at most.
        max_context: Tokens of a conversation at most.
        generator: Source of all randomness; torch's global generator is not used.
    """

    def __init__(
        self,
        model: Any,
        stop_ids: Sequence[int],
        may_stop: Sequence[bool],
        stopped: Callable[[list[int]], bool],
        temperature: float,
        max_new_tokens: int,
        max_context: int,
        generator: torch.Generator,
    ) -> None:
        self.model = model
        self.stop_ids = frozenset(stop_ids)
        self.may_stop = may_stop
        self.stopped = stopped
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.max_context = max_context
        self.generator = generator
        self.device = next(model.parameters()).device
        self.packs = attends_fully(model.config, max_context)
        self._cache: _Rows | None = None
        self._row_of: dict[int, int] = {}
        self._known: dict[int, int] = {}
        self._version = -1

    def forget(self, episode: int) -> None:
        """Drop an episode's cache rows when it is over."""
        self._known.pop(episode, None)
        self._row_of.pop(episode, None)

    @torch.inference_mode()
    def generate(self, episodes: Sequence[int], conversations: Sequence[Sequence[int]]) -> list[Sample]:
        """Sample the next turn of every conversation.

        Args:
            episodes: Identifies each conversation across calls; conversations may only grow from call to call.
            conversations: Every token of each conversation so far.

        Returns:
            One sample per conversation, in order. A conversation without room for a token gets an empty one that
            is cut off.
        """
        samples = [Sample() for _ in episodes]
        running = []
        for i, ids in enumerate(conversations):
            if len(ids) < self.max_context:
                running.append(i)
            else:
                samples[i].cut_off = True
        if not running:
            return samples
        if not self.packs:
            for i in running:
                self._generate_alone(list(conversations[i]), samples[i])
            return samples
        names = [episodes[i] for i in running]
        texts = [conversations[i] for i in running]
        self._generate_packed(names, texts, [samples[i] for i in running])
        return samples

    def _generate_packed(
        self, episodes: list[int], conversations: list[Sequence[int]], samples: list[Sample]
    ) -> None:
        logits = self._prefill(episodes, conversations)
        cache = self._cache
        assert cache is not None
        count = len(episodes)
        # Row r of the cache runs conversation at[r]; the first `live` rows are still generating.
        at = sorted(range(count), key=lambda i: self._row_of[episodes[i]])
        logits = logits[torch.tensor(at, device=self.device)]
        lengths = torch.tensor([len(conversations[i]) for i in at], device=self.device)
        row_ids = torch.arange(count, device=self.device)
        limit = [min(self.max_new_tokens, self.max_context - len(ids)) for ids in conversations]
        longest = max(len(ids) for ids in conversations)
        live = count
        done = [False] * count
        active = count
        step = 0
        while True:
            tokens, logprobs = self._draw(logits)
            token_list, logprob_list = tokens.tolist(), logprobs.tolist()
            for r in range(live):
                if done[r]:
                    continue
                sample = samples[at[r]]
                token = token_list[r]
                sample.token_ids.append(token)
                sample.logprobs.append(logprob_list[r])
                if token in self.stop_ids or (self.may_stop[token] and self.stopped(sample.token_ids)):
                    done[r] = True
                elif step + 1 >= limit[at[r]]:
                    done[r] = sample.cut_off = True
                if done[r]:
                    active -= 1
                    # The last token has been drawn but not read: its keys are not in the cache yet.
                    self._known[episodes[at[r]]] = len(conversations[at[r]]) + step
            if not active:
                break
            if active <= live * _COMPACT_BELOW:
                keep = [r for r in range(active, live) if not done[r]]
                free = [r for r in range(active) if done[r]]
                if keep:
                    a = torch.tensor(free, device=self.device)
                    b = torch.tensor(keep, device=self.device)
                    cache.swap(a, b, longest + step)
                    for values in (lengths, tokens):
                        kept = values[a]
                        values[a] = values[b]
                        values[b] = kept
                    for x, y in zip(free, keep):
                        at[x], at[y] = at[y], at[x]
                        done[x], done[y] = done[y], done[x]
                        self._row_of[episodes[at[x]]], self._row_of[episodes[at[y]]] = x, y
                live = active
                row_ids, lengths, tokens = row_ids[:live], lengths[:live], tokens[:live]
            positions = lengths + step
            cache.used = longest + step + 1
            cache.grow(cache.used)
            cache.read_rows, cache.write_rows = slice(live), row_ids[:, None]
            cache.write_columns = positions[:, None]
            logits = self._forward(tokens[:, None], positions[:, None], cache)[:, -1]
            step += 1

    def _prefill(self, episodes: list[int], conversations: list[Sequence[int]]) -> Tensor:
        """Bring the cache up to date; returns the logits after the last token of each conversation, [B, V]."""
        version = sum(parameter._version for parameter in self.model.parameters())
        known = [self._known.get(episode, 0) for episode in episodes]
        if self._cache is None or not all(known) or version != self._version:
            self._version = version
            return self._prefill_new(episodes, conversations)
        return self._extend(episodes, conversations, known)

    def _prefill_new(self, episodes: list[int], conversations: list[Sequence[int]]) -> Tensor:
        """Start a new cache: every distinct conversation is computed once and copied to its rows."""
        distinct: dict[tuple[int, ...], list[int]] = {}
        for row, ids in enumerate(conversations):
            distinct.setdefault(tuple(ids), []).append(row)
        longest = max(len(ids) for ids in distinct)
        # Room for a few turns; `grow` makes more when it is needed.
        columns = min(self.max_context + 1, longest + 2 * self.max_new_tokens + 64)
        cache = self._cache = _Rows(self.model.config.num_hidden_layers, len(episodes), columns)
        self._row_of = {episode: row for row, episode in enumerate(episodes)}
        self._known = {}
        logits: list[Tensor | None] = [None] * len(episodes)
        # Sorted by length, so that a chunk is padded little.
        waiting = sorted(distinct.items(), key=lambda item: len(item[0]))
        while waiting:
            size = max(1, _PREFILL_TOKENS // len(waiting[-1][0]))
            chunk, waiting = waiting[-size:], waiting[:-size]
            width = len(chunk[-1][0])
            block = torch.zeros(len(chunk), width, dtype=torch.long)
            for i, (ids, _) in enumerate(chunk):
                block[i, : len(ids)] = torch.tensor(ids)
            block = block.to(self.device)
            computed = DynamicCache()
            positions = torch.arange(width, device=self.device).expand(len(chunk), -1)
            last = torch.tensor([len(ids) - 1 for ids, _ in chunk], device=self.device)
            found = self._forward(block, positions, computed, last)
            rows = [row for _, same in chunk for row in same]
            first = [i for i, (_, same) in enumerate(chunk) for _ in same]
            cache.fill(computed, torch.tensor(first, device=self.device), torch.tensor(rows, device=self.device))
            for row, i in zip(rows, first):
                logits[row] = found[i]
        return torch.stack(logits)  # type: ignore[arg-type]

    def _extend(self, episodes: list[int], conversations: list[Sequence[int]], known: list[int]) -> Tensor:
        """Read what is new in every conversation as ragged blocks on top of the cache."""
        cache = self._cache
        assert cache is not None
        count = len(episodes)
        self._gather(episodes)
        new = [list(conversations[i][known[i] :]) for i in range(count)]
        rows = [self._row_of[episode] for episode in episodes]
        logits: list[Tensor | None] = [None] * count
        for block in _by_length([len(ids) for ids in new]):
            width = len(new[block[-1]])
            ids = torch.tensor([new[i] + [0] * (width - len(new[i])) for i in block], device=self.device)
            start = torch.tensor([known[i] for i in block], device=self.device)
            index = torch.tensor([rows[i] for i in block], device=self.device)
            positions = start[:, None] + torch.arange(width, device=self.device)
            cache.used = max(known[i] for i in block) + width
            cache.grow(cache.used)
            cache.read_rows, cache.write_rows, cache.write_columns = index, index[:, None], positions
            last = torch.tensor([len(new[i]) - 1 for i in block], device=self.device)
            for i, found in zip(block, self._forward(ids, positions, cache, last)):
                logits[i] = found
        return torch.stack(logits)  # type: ignore[arg-type]

    def _gather(self, episodes: list[int]) -> None:
        """Move the rows of `episodes` to the front of the cache; rows of ended episodes go behind them."""
        cache = self._cache
        assert cache is not None
        count = len(episodes)
        at = {self._row_of[episode]: episode for episode in episodes}
        outside = [row for row in at if row >= count]
        free = [row for row in range(count) if row not in at]
        if outside:
            columns = max(self._known[episode] for episode in episodes)
            device = self.device
            cache.swap(
                torch.tensor(free, device=device),
                torch.tensor(outside, device=device),
                min(columns, cache.columns),
            )
            for row, old in zip(free, outside):
                self._row_of[at[old]] = row
        # Whoever else was known lost its place; should it come back, its conversation is computed anew.
        live = set(episodes)
        for episode in [episode for episode in self._row_of if episode not in live]:
            self.forget(episode)

    def _forward(self, ids: Tensor, positions: Tensor, cache: Cache, last: Tensor | None = None) -> Tensor:
        """Run the model on a block.

        Returns:
            Logits [B, T, V], or with `last` only those of that position of each row, [B, V].
        """
        columns = cache.used if isinstance(cache, _Rows) else ids.shape[1]
        allowed = torch.arange(columns, device=self.device) <= positions[:, None, :, None]
        mask = torch.zeros(allowed.shape, dtype=self.model.dtype, device=self.device)
        mask.masked_fill_(~allowed, torch.finfo(self.model.dtype).min)
        chosen: Any = 0 if last is None else torch.unique(last)
        logits = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=chosen,
        ).logits
        if last is None:
            return logits
        return logits[torch.arange(len(ids), device=self.device), torch.searchsorted(chosen, last)]

    def _generate_alone(self, ids: list[int], sample: Sample) -> None:
        """Generate one conversation by itself, for models whose layers do not attend to the whole context."""
        cache = DynamicCache(config=self.model.config)
        block = torch.tensor([ids], device=self.device)
        limit = min(self.max_new_tokens, self.max_context - len(ids))
        for step in range(limit):
            logits = self.model(input_ids=block, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[
                :, -1
            ]
            tokens, logprobs = self._draw(logits)
            token = int(tokens[0])
            sample.token_ids.append(token)
            sample.logprobs.append(float(logprobs[0]))
            if token in self.stop_ids or (self.may_stop[token] and self.stopped(sample.token_ids)):
                return
            sample.cut_off = step + 1 == limit
            block = tokens[:, None]

    def _draw(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Draw one token a row; returns ids [B] and their log-probabilities [B]."""
        logits = logits.float()
        if self.temperature > 0 and self.temperature != 1:
            logits = logits / self.temperature
        logprobs = torch.log_softmax(logits, dim=-1)
        if self.temperature > 0:
            # Inverse transform sampling: one random number a row instead of one a vocabulary entry, as multinomial
            # draws. In double precision, so that the sum over a large vocabulary loses nothing.
            summed = logprobs.double().exp().cumsum(dim=-1)
            point = torch.rand(len(summed), 1, dtype=torch.double, device=summed.device, generator=self.generator)
            tokens = torch.searchsorted(summed, point * summed[:, -1:], right=True)
            tokens = tokens.clamp(max=summed.shape[1] - 1)
        else:
            tokens = logprobs.argmax(dim=-1, keepdim=True)
        return tokens[:, 0], logprobs.gather(1, tokens)[:, 0]


def _by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Group indices by similar length, shortest first, where that saves more padding than a forward pass costs.

    >>> _by_length([5, 400, 6, 5])
    [[0, 3, 2], [1]]
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    blocks = [[order[0]]]
    for before, i in itertools.pairwise(order):
        if len(blocks[-1]) * (lengths[i] - lengths[before]) > _PASS_TOKENS:
            blocks.append([])
        blocks[-1].append(i)
    return blocks


def attends_fully(config: Any, context: int) -> bool:
    """Return whether every layer of a model sees all of a context of that many tokens.

    Packing rows needs a mask of ours; a sliding window or a recurrent layer would need another one.
    """
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    if kinds == {"full_attention"} and getattr(config, "layer_types", None):
        return True
    return kinds <= {"full_attention", "sliding_attention"} and (window is None or window >= context)
