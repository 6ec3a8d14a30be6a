"""The update's share of the machine's fp32 matrix product rate, and its tokens a CPU second.

Counted are the operations that the update cannot do without: 6 a weight and token in linear layers (2 forward, 4
backward), the output layer on sampled tokens only, attention on what each token may see. Prompts are counted once
a group. The rate of 1024 x 1024 products is measured in turn with the updates.

Run with `make bench`, or `python tests/benchmarks/bench_update.py [tiny|smollm2]`.
"""

from __future__ import annotations

import random
import statistics
import sys
from typing import Any

import torch
from side_by_side import cpu_time, matmul_rate, verdict

from agents.grpo import GRPO
from agents.models import load_model
from agents.trajectory import Trajectory
from mentor_gym.types import StopReason

# Groups, episodes of each, tokens of a prompt, sampled tokens of an episode (shortest, longest).
SIZES = {"tiny": (6, 16, 80, 16, 80), "smollm2": (2, 8, 160, 40, 140)}
REPEATS = {"tiny": 7, "smollm2": 3}


def make_groups(name: str, vocabulary: int) -> list[list[Trajectory]]:
    """Random episodes of one turn, of unequal lengths, with random rewards."""
    groups, size, prompt, shortest, longest = SIZES[name]
    chance = random.Random(0)
    made = []
    for _ in range(groups):
        question = [chance.randrange(vocabulary) for _ in range(prompt)]
        group = []
        for _ in range(size):
            count = chance.randint(shortest, longest)
            ids = question + [chance.randrange(vocabulary) for _ in range(count)]
            mask = [False] * prompt + [True] * count
            logprobs = [0.0] * prompt + [-5.0] * count
            rewards = [0.0] * (len(ids) - 1) + [chance.random()]
            group.append(
                Trajectory("task", "policy", ids, mask, logprobs, rewards, {}, False, StopReason.ANSWER,
                           rewards[-1:], None)  # type: ignore[arg-type]
            )  # fmt: skip
        made.append(group)
    return made


def operations(model: Any, groups: list[list[Trajectory]]) -> tuple[float, int]:
    """Return the operations of an update, and the packed tokens that it reads."""
    config = model.config
    head = config.vocab_size * config.hidden_size
    body = sum(p.numel() for p in model.model.layers.parameters() if p.dim() == 2)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pairs = tokens = sampled = 0
    for group in groups:
        prompt = group[0].action_mask.index(True)
        lengths = [len(trajectory.token_ids) - 1 for trajectory in group]
        tokens += prompt + sum(length - prompt for length in lengths)
        sampled += sum(sum(trajectory.action_mask) for trajectory in group)
        pairs += prompt * (prompt + 1) // 2
        pairs += sum(length * (length + 1) // 2 - prompt * (prompt + 1) // 2 for length in lengths)
    attention = 4 * pairs * size * config.num_attention_heads * config.num_hidden_layers
    return 3.0 * (2 * body * tokens + 2 * head * sampled + attention), tokens


def main(names: list[str]) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    for name in names:
        model, _ = load_model(name)
        groups = make_groups(name, model.config.vocab_size)
        learner = GRPO(model, learning_rate=0.0, kl_coef=0.0, max_batch_tokens=4096)
        needed, tokens = operations(model, groups)
        learner.update(groups)
        shares, rates = [], []
        for _ in range(REPEATS[name]):
            product = matmul_rate(repeats=3)
            seconds = cpu_time(lambda learner=learner, groups=groups: learner.update(groups))
            shares.append(needed / seconds / 1e9 / product)
            rates.append(tokens / seconds)
        rate, share = statistics.median(rates), statistics.median(shares)
        print(f"{name}: {tokens} packed tokens, {needed / 1e9:.0f} GFLOP, {rate:,.0f} tokens/cpu-s")
        if name == "smollm2":
            print(verdict("update against the matrix product rate", share, 0.6, 0.6))
        else:
            print(f"share of the matrix product rate: {share:.2f}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["tiny", "smollm2"])
