"""Peak memory of generation and of an update, each in a process of its own, above what the loaded model takes.

- 32 rows of 80 + 48 tokens with SmolLM2-135M: our sampler and `generate` of transformers.
- An update of 16 episodes with SmolLM2-135M: plainly, as padded rows through the model's own forward with every
  logit kept (what a short training loop does), with our learner, with gradient checkpointing, and with LoRA.

Run with `make bench`, or `python tests/benchmarks/bench_memory.py`.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from bench_generate import prompts, with_generate, with_sampler
from bench_update import make_groups

from agents.grpo import GRPO
from agents.lora import add_lora
from agents.models import load_model


def generation(side: Callable[..., Callable[[], None]]) -> Callable[[Any], None]:
    """Generate 48 tokens for 32 rows."""
    return lambda model: side(model, prompts(32, 4, model.config.vocab_size), 1, 48, 0)()


def update(rank: int, checkpointing: bool) -> Callable[[Any], None]:
    """One update by our learner."""

    def run(model: Any) -> None:
        if rank:
            add_lora(model, rank)
        learner = GRPO(model, kl_coef=0.0, max_batch_tokens=4096, gradient_checkpointing=checkpointing)
        learner.update(make_groups("smollm2", model.config.vocab_size))

    return run


def plain_update(model: Any) -> None:
    """One update of the same episodes as a padded batch, with every logit."""
    rows = [row for group in make_groups("smollm2", model.config.vocab_size) for row in group]
    width = max(len(row.token_ids) for row in rows)
    ids = torch.tensor([row.token_ids + [0] * (width - len(row.token_ids)) for row in rows])
    attend = torch.tensor([[t < len(row.token_ids) for t in range(width)] for row in rows])
    mask = torch.tensor([row.action_mask + [False] * (width - len(row.action_mask)) for row in rows])[:, 1:]
    optimizer = torch.optim.AdamW(model.parameters())
    logits = model(input_ids=ids, attention_mask=attend).logits[:, :-1]
    logprobs = torch.log_softmax(logits.float(), -1).gather(-1, ids[:, 1:, None])[..., 0]
    (-(logprobs * mask).sum() / mask.sum()).backward()
    optimizer.step()


CASES: dict[str, Callable[[Any], None]] = {
    "generation: sampler": generation(with_sampler),
    "generation: generate": generation(with_generate),
    "update: padded rows, all logits": plain_update,
    "update: learner": update(0, False),
    "update: learner, checkpointing": update(0, True),
    "update: learner, LoRA": update(16, False),
    "update: learner, LoRA, checkpointing": update(16, True),
}


def peak() -> float:
    """Peak resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Run every case in a process of its own and print what each took."""
    if len(sys.argv) > 1:
        torch.set_num_threads(1)
        model, _ = load_model("smollm2")
        before = peak()
        CASES[sys.argv[1]](model)
        print(f"{peak() - before:.2f} {before:.2f}")
        return
    print(f"{'smollm2, peak memory in GiB':40}{'above the loaded model':>24}{'loaded':>8}")
    for name in CASES:
        output = subprocess.run(
            [sys.executable, __file__, name], capture_output=True, text=True, check=True
        ).stdout.split()
        print(f"{name:40}{output[-2]:>24}{output[-1]:>8}")


if __name__ == "__main__":
    main()
