"""The learners are not tied to arithmetic: the shipped model learns to write programs for the `code` suite.

Minutes long; run by `make test-slow`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.config import TrainConfig, load_config
from agents.evaluate import evaluate
from agents.llm import LLMAgent
from agents.train import train
from mentor_gym.tools.monty_worker import find_monty

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_monty() is None, reason="Monty, which runs the programs, is not installed"),
]


def measure(model: str, config: TrainConfig) -> dict[str, Any]:
    """Play all 300 tasks of `valid` and `test`, taking the most likely token always, and average the figures."""
    agent = LLMAgent(model, temperature=0, max_new_tokens=config.max_new_tokens, max_context=config.max_context)
    found = [
        evaluate(agent, config.suite, split, max_turns=config.max_turns, prompt=config.prompt, max_live=96)
        for split in ("valid", "test")
    ]
    figures = {key: float(np.mean([figure[key] for figure in found])) for key in ("pass@1", "tool_f1")}
    return {**figures, "invalid": float(np.mean([figure["invalid_calls"]["rate"] for figure in found]))}


def test_a_warm_start_on_the_code_suite_beats_the_untrained_model(tmp_path: Path) -> None:
    """On values and wordings that training never shows, where the untrained model does not make one valid call."""
    config = load_config("sft-code", [f"output={tmp_path}", "eval_every=0", "save_every=0"])
    before = measure(config.model, config)
    after = measure(str(train(config, progress=False)), config)
    assert before["pass@1"] < 0.005, before
    assert after["pass@1"] > before["pass@1"] + 0.015, (before, after)
    assert after["tool_f1"] > before["tool_f1"] + 0.5, (before, after)
    assert after["invalid"] < before["invalid"] - 0.2, (before, after)
