"""Learning for real: the shipped model gets better at unshaped success, and does not without learning.

Minutes long; run by `make test-slow`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.config import load_config
from agents.evaluate import evaluate
from agents.llm import LLMAgent
from agents.train import train

SEEDS = (11, 12, 13)


def success_after(config: str, tmp_path: Path, *overrides: str) -> float:
    """Train from the shipped model and return its greedy success on validation tasks."""
    output = tmp_path / "-".join([config, *overrides]).replace("=", "")
    settings = [*overrides, f"output={output}", "eval_every=0", "save_every=0"]
    final = train(load_config(config, settings), progress=False)
    return float(
        evaluate(LLMAgent(str(final), temperature=0, max_new_tokens=64), "math", "valid", tasks=150)["pass@1"]
    )


@pytest.mark.slow
def test_grpo_improves_unshaped_success_against_a_control(tmp_path: Path) -> None:
    control = success_after("grpo-mentor", tmp_path, "steps=3", "learning_rate=0")
    learnt = [success_after("grpo-mentor", tmp_path, "steps=40", f"seed={seed}") for seed in SEEDS]
    assert min(learnt) > control, (learnt, control)
    assert np.mean(learnt) > control + 0.1, (learnt, control)


@pytest.mark.slow
def test_supervised_fine_tuning_improves_unshaped_success(tmp_path: Path) -> None:
    control = success_after("sft", tmp_path, "steps=3", "learning_rate=0")
    assert success_after("sft", tmp_path, "steps=60", "seed=11") > control + 0.1
