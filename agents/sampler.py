"""Batched multi-turn generation with a Hugging Face causal language model.

Conversations are submitted one by one, and `collect` returns turns as they are finished: a conversation whose turn
is over leaves the batch, and one that waits enters it, with whatever it has to read since its last turn, in the
same forward pass in which the others write a token. A conversation's keys and values stay over its turns, so
nothing is read twice, and a prompt that several conversations begin with is computed once.

The tokens of a conversation depend on its own random numbers alone, not on what else is in the batch (up to the
rounding of sums, which differs between batches of different sizes). The sampler knows tokens only: rendering text
is `agents.llm`'s business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import DynamicCache

from agents.decoder import make_decoder
from agents.keyvalues import KeyValues, Reads

# Steps of all optimisers in this process: fused ones change weights without counting their versions up.
_optimizer_steps = 0


def _count_step(*args: Any) -> None:
    global _optimizer_steps
    _optimizer_steps += 1


register_optimizer_step_post_hook(_count_step)

# Leading tokens of one forward pass: bounds memory for long prompts.
_PREFILL_TOKENS = 8_192
# Token ids that are summed up together first, where there are many.
_VOCABULARY_PART = 128
# Rows that run move together once so many of the rows up to the last of them do not.
_COMPACT_BELOW = 0.75
# Turns are returned once so many of the rows that run have finished: those who come back enter together.
_RETURN_SHARE = 1 / 16


@dataclass(slots=True)
class Sample:
    """What one conversation got in one turn.

    Attributes:
        token_ids: The sampled ids, an end-of-turn token included.
        logprobs: Log-probability of each under `softmax(logits / temperature)`, in fp32.
        cut_off: Whether the turn ran out of tokens before it finished.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    cut_off: bool = False


@dataclass(slots=True)
class _Turn:
    """A turn that is asked for.

    Attributes:
        episode: Whose turn.
        ids: Every token of the conversation so far.
        points: A number in [0, 1) for each token that may be sampled.
        sample: What has been sampled.
    """

    episode: int
    ids: list[int]
    points: Sequence[float]
    sample: Sample = field(default_factory=Sample)


@dataclass(slots=True)
class _Row:
    """A row of the cache.

    Attributes:
        episode: Whose row; None when it is free. What it holds may still serve.
        known: The tokens whose keys and values it holds.
        prompt: What it began with, for conversations that begin alike.
        turn: The turn that runs; None while its episode waits for its environment.
        leading: What the turn has to read before its final token.
    """

    episode: int | None = None
    known: list[int] = field(default_factory=list)
    prompt: tuple[int, ...] = ()
    turn: _Turn | None = None
    leading: list[int] = field(default_factory=list)


class Sampler:
    """Generate turns of many conversations as one batch.

    Args:
        model: A Hugging Face causal language model, in evaluation mode.
        stop_ids: Token ids that end a turn.
        may_stop: For each token id, whether its text can complete a stop text (cheap filter).
        stopped: Whether the ids sampled so far in this turn hold a stop text; called only after `may_stop`.
        temperature: Sampling temperature; 0 takes the most likely token.
        max_new_tokens: Tokens of one turn at most.
        max_context: Tokens of a conversation at most.
        max_rows: Conversations in the batch at most; others wait.

    Attributes:
        decoder: How the model is run; None when only its own `forward` can do it, one conversation at a time.
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
        max_rows: int = 128,
    ) -> None:
        self.model = model
        self.stop_ids = frozenset(stop_ids)
        self.may_stop = may_stop
        self.stopped = stopped
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.max_context = max_context
        self.max_rows = max_rows
        self.decoder = make_decoder(model, max_context)
        parameter = next(model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self._queue: deque[_Turn] = deque()
        self._finished: list[_Turn] = []
        self._rows: list[_Row] = []
        self._row_of: dict[int, int] = {}
        self._cache: KeyValues | None = None
        self._version = self._current_version()

    def submit(self, episode: int, ids: Sequence[int], points: Sequence[float]) -> None:
        """Ask for the next turn of a conversation.

        Args:
            episode: Identifies the conversation across calls; it may only grow from call to call.
            ids: Every token of the conversation so far.
            points: `max_new_tokens` random numbers in [0, 1), which decide what is sampled.
        """
        turn = _Turn(episode, list(ids), points)
        if len(ids) < self.max_context:
            self._queue.append(turn)
        else:
            turn.sample.cut_off = True
            self._finished.append(turn)

    @torch.inference_mode()
    def collect(self) -> list[tuple[int, Sample]]:
        """Run until some turns are finished; returns them with their episodes, nothing if none was asked for."""
        if self.decoder is None:
            while self._queue:
                self._generate_alone(self._queue.popleft())
        else:
            if self._current_version() != self._version:
                self.refresh()
            running = sum(row.turn is not None for row in self._rows) + len(self._queue)
            enough = max(1, int(running * _RETURN_SHARE))
            while running and len(self._finished) < enough:
                running = self._step()
        finished, self._finished = self._finished, []
        return [(turn.episode, turn.sample) for turn in finished]

    def forget(self, episode: int) -> None:
        """Give up an episode's row when it is over; a turn that was asked for is dropped."""
        self._release(episode)
        if any(turn.episode == episode for turn in self._queue):
            self._queue = deque(turn for turn in self._queue if turn.episode != episode)

    def _release(self, episode: int) -> None:
        """Free an episode's row."""
        place = self._row_of.pop(episode, None)
        if place is not None:
            self._rows[place].episode = self._rows[place].turn = None

    def refresh(self) -> None:
        """Take over the weights as they are now; turns that run go on from their tokens.

        Not needed after changes in place, as optimisers make them, which are noticed.
        """
        self._version = self._current_version()
        if self.decoder is not None:
            self.decoder.refresh()
        self._queue.extendleft(row.turn for row in reversed(self._rows) if row.turn is not None)
        self._rows, self._row_of = [], {}

    def _current_version(self) -> tuple[int, int, int]:
        # Other changes in place count a parameter's version up; adapters are parameters that were not there.
        versions = [parameter._version for parameter in self.model.parameters()]
        return _optimizer_steps, len(versions), sum(versions)

    def _step(self) -> int:
        """Let waiting turns enter, and every running one write a token; returns how many still run or wait."""
        self._admit()
        rows = self._rows[: self._compact()]
        finals, leading, points = [], [], []
        for place, row in enumerate(rows):
            if row.turn is None:
                # Taken along; what it writes stands behind what it holds.
                finals.append((0, len(row.known)))
                points.append(0.0)
                continue
            sampled = row.turn.sample.token_ids
            if row.leading:
                leading.append((place, len(row.known), row.leading))
                row.known += row.leading
            finals.append((sampled[-1] if sampled else row.turn.ids[-1], len(row.known)))
            points.append(row.turn.points[len(sampled)])
        self._reserve(max(position for _, position in finals) + 1)
        assert self.decoder is not None
        assert self._cache is not None
        reads = Reads(finals, leading, self.device, self.dtype, *_beginnings(rows))
        logits = self.decoder.logits(reads, self._cache)
        tokens, logprobs = self._draw(logits, points)
        running = len(self._queue)
        for row, (read, _), token, logprob in zip(rows, finals, tokens.tolist(), logprobs.tolist()):
            if row.turn is None:
                continue
            row.known.append(read)
            row.leading = []
            if self._extend(row.turn, token, logprob):
                self._finished.append(row.turn)
                row.turn = None
            else:
                running += 1
        return running

    def _extend(self, turn: _Turn, token: int, logprob: float) -> bool:
        """Add a token to a turn; returns whether that finishes it."""
        sample = turn.sample
        sample.token_ids.append(token)
        sample.logprobs.append(logprob)
        if token in self.stop_ids or (self.may_stop[token] and self.stopped(sample.token_ids)):
            return True
        count = len(sample.token_ids)
        sample.cut_off = count >= self.max_new_tokens or len(turn.ids) + count >= self.max_context
        return sample.cut_off

    def _admit(self) -> None:
        """Give waiting turns a row."""
        started: set[tuple[int, ...]] = set()
        budget = _PREFILL_TOKENS
        waiting: deque[_Turn] = deque()
        while self._queue:
            turn = self._queue.popleft()
            ids = turn.ids + turn.sample.token_ids
            place = self._row_of.get(turn.episode)
            if place is not None and self._rows[place].known != ids[: len(self._rows[place].known)]:
                self._release(turn.episode)
                place = None
            if place is None:
                prompt = tuple(ids[:-1])
                # Conversations that begin alike wait for the first of them, and then copy what it has read.
                place = None if prompt in started else self._take_row(turn.episode, prompt)
                if place is None:
                    waiting.append(turn)
                    continue
            row = self._rows[place]
            missing = ids[len(row.known) : -1]
            if len(missing) > budget < _PREFILL_TOKENS:
                waiting.append(turn)
                continue
            budget -= len(missing)
            if missing and not row.known:
                started.add(row.prompt)
            row.turn, row.leading = turn, missing
        self._queue = waiting

    def _take_row(self, episode: int, prompt: tuple[int, ...]) -> int | None:
        """Find a row for a conversation, filled with what others have read of it; None when all rows run."""
        holder = free = None
        for place, row in enumerate(self._rows):
            holds = row.prompt == prompt and len(row.known) >= len(prompt)
            if row.episode is None and (free is None or holds):
                free = place
                if holds:
                    break
            if holds and holder is None:
                holder = place
        if free is None and len(self._rows) < self.max_rows:
            free = len(self._rows)
            self._rows.append(_Row())
        if free is None:
            # The row of an episode that waits for its environment; what it holds is read again when it comes back.
            free = next((place for place, row in enumerate(self._rows) if row.turn is None), None)
            if free is None:
                return None
            idle = self._rows[free].episode
            if idle is not None:
                self._release(idle)
        row = self._rows[free]
        if holder is not None:
            # The same object, so that rows which begin alike are told by identity.
            prompt = self._rows[holder].prompt
        if row.prompt == prompt and len(row.known) >= len(prompt):
            row.known, prompt = list(prompt), row.prompt
        elif holder is not None and holder != free:
            self._reserve(len(prompt) + 1)
            assert self._cache is not None
            self._cache.copy(holder, free, len(prompt))
            row.known = list(prompt)
        else:
            row.known = []
        row.episode, row.prompt = episode, prompt
        self._row_of[episode] = free
        return free

    def _reserve(self, columns: int) -> None:
        if self._cache is None:
            assert self.decoder is not None
            # Room for a turn or two; more is made when it is needed.
            columns = min(columns + 2 * self.max_new_tokens, self.max_context + 1)
            self._cache = KeyValues(self.decoder.layers, len(self._rows), columns)
        self._cache.reserve(len(self._rows), columns)

    def _compact(self) -> int:
        """Bring the rows that run together at the front; returns how many rows a forward pass has to take."""
        self._reserve(max(len(row.known) for row in self._rows) + 1)
        running = [place for place, row in enumerate(self._rows) if row.turn is not None]
        count = len(running)
        if count > (running[-1] + 1) * _COMPACT_BELOW:
            return running[-1] + 1
        outside = [place for place in running if place >= count]
        holes = [place for place in range(count) if self._rows[place].turn is None]
        columns = max(len(self._rows[place].known) for place in (*outside, *holes))
        assert self._cache is not None
        self._cache.swap(holes, outside, columns)
        for a, b in zip(holes, outside):
            self._rows[a], self._rows[b] = self._rows[b], self._rows[a]
        for place in (*holes, *outside):
            episode = self._rows[place].episode
            if episode is not None:
                self._row_of[episode] = place
        return count

    def _generate_alone(self, turn: _Turn) -> None:
        """Generate one turn by itself with the model's own cache, for models that no decoder can run."""
        cache = DynamicCache(config=self.model.config)
        block = torch.tensor([turn.ids], device=self.device)
        finished = False
        while not finished:
            logits = self.model(input_ids=block, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[
                :, -1
            ]
            tokens, logprobs = self._draw(logits, [turn.points[len(turn.sample.token_ids)]])
            finished = self._extend(turn, int(tokens[0]), float(logprobs[0]))
            block = tokens[:, None]
        self._finished.append(turn)

    def _draw(self, logits: Tensor, points: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Draw one token a row by inverse transform sampling.

        Args:
            logits: [B, V].
            points: A number in [0, 1) for each row: the token is the one whose share of the probability mass,
                summed up in the order of ids, it falls into.

        Returns:
            Token ids [B], and their log-probabilities [B].
        """
        logits = logits.float()
        if self.temperature <= 0:
            logprobs = torch.log_softmax(logits, dim=-1)
            tokens = logprobs.argmax(dim=-1, keepdim=True)
            return tokens[:, 0], logprobs.gather(1, tokens)[:, 0]
        if self.temperature != 1:
            logits = logits / self.temperature
        probabilities = torch.softmax(logits, dim=-1)
        point = torch.tensor(points, dtype=torch.double, device=logits.device)[:, None]
        parts = logits.shape[1] // _VOCABULARY_PART
        if parts < 16 or logits.shape[1] % _VOCABULARY_PART:
            tokens, _, _ = _search(probabilities, point)
        else:
            # First the part of the vocabulary, then the token in it: running sums are slow over a large one.
            by_part = probabilities.unflatten(1, (parts, _VOCABULARY_PART))
            sums = by_part.sum(dim=-1, dtype=torch.double)
            part, summed, place = _search(sums, point)
            own = sums.gather(1, part)
            rest = ((place - summed.gather(1, part) + own) / own).clamp(0, 1 - 2**-53)
            chosen = by_part.gather(1, part[..., None].expand(-1, -1, _VOCABULARY_PART))[:, 0]
            within, _, _ = _search(chosen, rest)
            tokens = part * _VOCABULARY_PART + within
        return tokens[:, 0], probabilities.gather(1, tokens).log()[:, 0]


def _search(weights: Tensor, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find where points in [0, 1) fall among weights, summed up in order and brought to a total of 1.

    Args:
        weights: [B, n], not all zero.
        point: [B, 1], in double precision.

    Returns:
        Which weight it is, [B, 1]; the running sums, [B, n]; the point times the total, [B, 1].
    """
    # In double precision, so that the sum over a large vocabulary loses nothing.
    summed = weights.cumsum(dim=-1, dtype=torch.double)
    place = point * summed[:, -1:]
    found = torch.searchsorted(summed, place, right=True).clamp(max=weights.shape[1] - 1)
    return found, summed, place


def _beginnings(rows: Sequence[_Row]) -> tuple[list[int], int]:
    """Find rows that begin alike: for each row the first with its prompt, and the columns that this holds for.

    A row that does not run goes with the first one: nobody looks at what it gets.
    """
    common = min(len(row.prompt) for row in rows if row.turn is not None)
    first: dict[int, int] = {}
    alike = []
    for place, row in enumerate(rows):
        alike.append(-1 if row.turn is None else first.setdefault(id(row.prompt), place))
    start = next(place for place in alike if place >= 0)
    return [start if place < 0 else place for place in alike], common
