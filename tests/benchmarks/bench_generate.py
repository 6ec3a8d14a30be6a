"""Tokens a CPU second of the sampler beside `generate` of transformers: same model, same rows, same tokens.

Rows are samples of common prompts, eight each, as reinforcement learning asks for; one case has a prompt for every
row. Nobody stops early, so that both sides write the same number of tokens. In episodes of several turns
`generate` is handed the conversation so far at every turn, as its users do; turns and tool results have the
lengths that they have in the `math` suite.

Run with `make bench`, or `python tests/benchmarks/bench_generate.py [tiny|smollm2]`.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import interleaved, median_ratio, verdict

from agents.models import load_model
from agents.sampler import Sampler

PROMPT, GROUP = 80, 8
# Rows, prompts, turns, new tokens of a turn, tokens of a tool result.
CASES = [(1, 1, 1, 48, 0), (8, 1, 1, 48, 0), (32, 4, 1, 48, 0), (32, 32, 1, 48, 0), (32, 4, 4, 16, 12)]
REPEATS = {"tiny": 5, "smollm2": 2}


def prompts(rows: int, distinct: int, vocabulary: int) -> list[list[int]]:
    """Random prompts, each for as many rows as the others."""
    chance = random.Random(0)
    texts = [[chance.randrange(10, vocabulary) for _ in range(PROMPT)] for _ in range(distinct)]
    return [texts[row * distinct // rows] for row in range(rows)]


def with_sampler(model: Any, texts: list[list[int]], turns: int, new: int, result: int) -> Callable[[], None]:
    """Our side."""
    chance = random.Random(0)
    vocabulary = model.config.vocab_size
    sampler = Sampler(model, [], [False] * vocabulary, lambda ids: False, 1.0, new, 2048)
    numbers = iter(range(1 << 40))

    def run() -> None:
        conversations = {next(numbers): list(text) for text in texts}
        for _ in range(turns):
            for episode, ids in conversations.items():
                sampler.submit(episode, ids, [chance.random() for _ in range(new)])
            waiting = len(conversations)
            while waiting:
                for episode, sample in sampler.collect():
                    conversations[episode] += sample.token_ids + [11] * result
                    waiting -= 1
        for episode in conversations:
            sampler.forget(episode)
        # The next repeat is a new rollout after an update: nothing may be left of this one.
        sampler.refresh()

    return run


def with_generate(model: Any, texts: list[list[int]], turns: int, new: int, result: int) -> Callable[[], None]:
    """The side of transformers."""

    def run() -> None:
        ids = torch.tensor(texts)
        for _ in range(turns):
            ids = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                min_new_tokens=new,
                max_new_tokens=new,
                pad_token_id=0,
            )
            ids = torch.cat([ids, torch.full((len(ids), result), 11)], dim=1)

    return run


def main(names: list[str]) -> None:
    """Measure and print a table for each model."""
    torch.set_num_threads(1)
    for name in names:
        model, _ = load_model(name)
        found = {}
        head = "".join(f"{title:>10}" for title in ("rows", "prompts", "turns", "sampler", "generate", "ratio"))
        print(f"{name}, tokens a CPU second\n{head}")
        for rows, distinct, turns, new, result in CASES:
            texts = prompts(rows, distinct, model.config.vocab_size)
            case = (texts, turns, new, result)
            ours, theirs = interleaved([with_sampler(model, *case), with_generate(model, *case)], REPEATS[name])
            ratio = found[rows, distinct, turns] = median_ratio(theirs, ours)
            total = rows * turns * new
            rates = [total / statistics.median(times) for times in (ours, theirs)]
            print(f"{rows:10}{distinct:10}{turns:10}{rates[0]:10,.0f}{rates[1]:10,.0f}{ratio:10.2f}")
        print(verdict(f"{name}, 32 rows against generate", found[32, 4, 1], 2, 3))
        print(verdict(f"{name}, episodes of 4 turns", found[32, 4, 4], 3, 6))


if __name__ == "__main__":
    main(sys.argv[1:] or ["tiny", "smollm2"])
