"""A whole GRPO step beside that of TRL's `GRPOTrainer`: same model, prompts, group size, lengths, KL penalty.

6 prompts of the `math` suite, 16 samples each, 48 tokens a sample (nobody stops early), one turn, one update, a
reference model, rewards that are drawn at random so that every group has a signal. The steps take turns in one
process: ours runs in a callback of the trainer, between its steps. TRL comes with the `bench` extra.

Run with `make bench`, or `python tests/benchmarks/bench_grpo.py`.
"""

from __future__ import annotations

import gc
import random
import statistics
import tempfile
import time
import warnings
from typing import Any

import torch
from side_by_side import cpu_time, median_ratio, verdict

from agents.grpo import GRPO
from agents.llm import LLMAgent
from agents.models import load_model
from agents.rollout import Rollout

PROMPTS, GROUP, TOKENS, STEPS = 6, 16, 48, 6
SETTINGS = {"suite": "math", "split": "train", "prompt": "compact", "max_turns": 1}


class Ours:
    """One GRPO step: a rollout through the real environment, and an update."""

    def __init__(self) -> None:
        self.agent = LLMAgent("tiny", max_new_tokens=TOKENS, max_context=1024)
        self.agent.sampler.stop_ids = frozenset()
        self.agent.sampler.stopped = lambda ids: False
        self.learner = GRPO(self.agent.model, learning_rate=1e-5, kl_coef=0.1)
        self.rollout = Rollout(SETTINGS)
        self.chance = random.Random(0)
        self.steps = 0
        self.parts: list[tuple[float, float]] = []

    def step(self) -> None:
        """Play and learn."""
        self.steps += 1
        tasks = self.rollout.task_ids[self.steps * PROMPTS :][:PROMPTS]
        groups: list[Any] = []

        def play() -> None:
            played = self.rollout.run(self.agent, [task for task in tasks for _ in range(GROUP)], seed=self.steps)
            assert all(sum(trajectory.action_mask) == TOKENS for trajectory in played)
            for trajectory in played:
                trajectory.turn_rewards = [self.chance.random()]
            groups.extend(played[i : i + GROUP] for i in range(0, len(played), GROUP))

        self.parts.append((cpu_time(play), cpu_time(lambda: self.learner.update(groups))))


def prompts() -> list[str]:
    """The same prompts as text, for the trainer."""
    agent = LLMAgent("tiny")
    rollout = Rollout(SETTINGS)
    texts = []
    for task in rollout.task_ids[: PROMPTS * (STEPS + 2)]:
        _, info = rollout._env(0).reset(options={"task_id": task})
        texts.append(agent.tokenizer.decode(agent.chat.opening(info["messages"])))
    return texts


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    ours = Ours()
    ours.step()
    ours.parts.clear()
    times: list[tuple[float, float]] = []

    class Alternate(TrainerCallback):
        """Runs a step of ours before each step of the trainer."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ours.step()
            gc.collect()
            self.start = time.process_time()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            times.append((sum(ours.parts[-1]), time.process_time() - self.start))

    chance = random.Random(0)
    model, tokenizer = load_model("tiny")
    lengths: set[int] = set()

    def reward(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        lengths.update(map(len, completion_ids))
        return [chance.random() for _ in completion_ids]

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=reward,
            train_dataset=Dataset.from_list([{"prompt": text} for text in prompts()]),
            args=GRPOConfig(
                output_dir=folder,
                use_cpu=True,
                bf16=False,
                max_steps=STEPS + 1,
                per_device_train_batch_size=PROMPTS * GROUP,
                num_generations=GROUP,
                max_completion_length=TOKENS,
                generation_kwargs={"min_new_tokens": TOKENS},
                beta=0.1,
                learning_rate=1e-5,
                temperature=1.0,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                gradient_checkpointing=False,
            ),
            callbacks=[Alternate()],
        )
        trainer.train()
    assert lengths == {TOKENS}, lengths
    mine, theirs = zip(*times[1:])
    ratio = median_ratio(theirs, mine)
    print(f"a GRPO step of {PROMPTS} x {GROUP} x {TOKENS} tokens, CPU seconds")
    print(f"mentor_gym {statistics.median(mine):.2f}   TRL {statistics.median(theirs):.2f}   ratio {ratio:.2f}")
    played, updated = zip(*ours.parts[1:])
    print(f"of ours: rollout {statistics.median(played):.2f}, update {statistics.median(updated):.2f}")
    print(verdict("GRPO step against TRL", ratio, 2, 4))


if __name__ == "__main__":
    main()
