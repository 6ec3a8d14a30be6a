"""The arms that the demo compares: their settings, and one run of an arm from training to figures.

An arm is the shipped training config of its name with the settings of `configs/demo.yaml` on top; the GRPO arms
may differ in their reward alone. `run_arm` is what happens in one process of the demo. Which runs there are, and
what is made of them, stands in `agents.demo`. `train_run` and `measure_split` make the runs of a study too.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from agents.jobs import read_metrics, write_json
from mentor_gym import __version__
from mentor_gym.data import DataError, data_path, read_yaml

ARMS = ("base", "sft", "grpo-sparse", "grpo-mentor", "grpo-strict")
STUDENT = "grpo-mentor"
_CONFIGS = Path(__file__).parent / "configs"
_WEIGHTS = Path(__file__).parent / "weights"
# Keys in which configs of different GRPO arms may differ.
_OWN_KEYS = ("reward", "output")


class DemoError(ValueError):
    """A demo that cannot run or go on; the message says why and where to look."""


class Evaluation(msgspec.Struct, forbid_unknown_fields=True):
    """How every run is measured after training.

    Attributes:
        splits: Pairs of suite and split; the first is the one that figures and transcripts show.
        tasks: How many tasks of each split.
        samples: Sampled episodes a task.
        temperature: Temperature of the sampled episodes.
        max_turns: Turn limit.
        max_new_tokens: Tokens of a turn at most.
        max_context: Tokens of a conversation at most.
        prompt: Prompt style.
    """

    splits: list[tuple[str, str]]
    tasks: int
    samples: int
    temperature: float
    max_turns: int
    max_new_tokens: int
    max_context: int
    prompt: str


class DemoSettings(msgspec.Struct, forbid_unknown_fields=True):
    """The demo's settings, as `configs/demo.yaml` gives them.

    Attributes:
        seeds: One run of every trained arm for each.
        shared: Training settings of all arms.
        rl: Training settings of the GRPO arms.
        sft: Training settings of SFT.
        evaluation: How every run is measured.
    """

    seeds: list[int]
    shared: dict[str, Any]
    rl: dict[str, Any]
    sft: dict[str, Any]
    evaluation: Evaluation


def load_settings(quick: bool = False, path: Path | None = None) -> DemoSettings:
    """Read the demo's settings.

    Args:
        quick: Apply the file's `quick` section.
        path: Another file than the shipped one.

    Raises:
        DemoError: The file cannot be read, or a key is missing, unknown or of the wrong type.
    """
    path = path or _CONFIGS / "demo.yaml"
    try:
        content, lines = read_yaml(path)
    except DataError as error:
        raise DemoError(str(error)) from None
    if not isinstance(content, dict):
        raise DemoError(f"{path}: expected a mapping of settings")
    changes = content.pop("quick", {})
    if not isinstance(changes, dict):
        raise DemoError(f"{path}, line {lines['quick']}: quick: expected a mapping of settings")
    settings = _convert(content, path, lines)
    if quick:
        # The file is right without them, so what is wrong now stands in the section of changes.
        settings = _convert(merge_settings(content, changes), path, dict.fromkeys(lines, lines.get("quick", 1)))
    if len(settings.seeds) != len(set(settings.seeds)) or not settings.seeds or not settings.evaluation.splits:
        raise DemoError(f"{path}: seeds and evaluation.splits need at least one entry, seeds no entry twice")
    return settings


def _convert(content: dict[str, Any], path: Path, lines: dict[str, int]) -> DemoSettings:
    try:
        return msgspec.convert(content, DemoSettings)
    except msgspec.ValidationError as error:
        # msgspec ends with the path of the value, or names the field in question.
        found = re.search(r"`\$\.(\w+)", str(error)) or re.search(r"field `(\w+)`", str(error))
        where = f"{path}, line {lines[found[1]]}" if found and found[1] in lines else str(path)
        raise DemoError(f"{where}: {error}") from None


def merge_settings(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` on top, section by section; neither is changed.

    >>> merge_settings({"rl": {"steps": 60, "seed": 0}}, {"rl": {"steps": 4}})
    {'rl': {'steps': 4, 'seed': 0}}
    """
    merged = copy.deepcopy(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge_settings(merged[key], value) if both else value
    return merged


def make_config(arm: str, seed: int, settings: DemoSettings, output: Path) -> Any:
    """Build the training config of a run: the shipped config of the arm with the demo's settings on top."""
    from agents.config import load_config

    own = settings.sft if arm == "sft" else settings.rl
    values = {**settings.shared, **own, "seed": seed, "output": str(output)}
    # JSON is YAML in which nothing is ambiguous: a path stays text whatever is in its name.
    return load_config(
        str(_CONFIGS / f"{arm}.yaml"), [f"{key}={json.dumps(value)}" for key, value in values.items()]
    )


def check_fair(configs: dict[str, dict[str, Any]]) -> None:
    """Refuse settings under which the GRPO arms differ in anything but the reward.

    Args:
        configs: The config of each GRPO arm, for the same seed.

    Raises:
        DemoError: Names the setting and its values.
    """
    arms = list(configs)
    for key in configs[arms[0]]:
        values = {arm: configs[arm][key] for arm in arms}
        if key not in _OWN_KEYS and any(value != values[arms[0]] for value in values.values()):
            listed = ", ".join(f"{arm} {value!r}" for arm, value in values.items())
            raise DemoError(f"the GRPO arms must differ in the reward alone, but {key} differs: {listed}")


def compute_fingerprint(arm: str, seed: int, settings: DemoSettings) -> str:
    """Hash everything that a run's figures depend on: settings, base weights, data, version."""
    config = None if arm == "base" else asdict(make_config(arm, seed, settings, Path("unused")))
    content = {
        "arm": arm,
        "seed": seed,
        "config": config,
        "evaluation": msgspec.to_builtins(settings.evaluation),
        "model": hash_model(str(settings.shared["model"])),
        "data": hash_files([data_path("manifest.json")]),
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def hash_model(model: str) -> str:
    """Hash the files of a model's folder, shipped or not; of what is no folder, return the name."""
    folder = _WEIGHTS / model if (_WEIGHTS / model).is_dir() else Path(model)
    # Not a folder: a Hugging Face id, which is as much as can be known without loading it.
    return hash_files(sorted(folder.glob("*"))) if folder.is_dir() else model


def hash_files(paths: Sequence[Path]) -> str:
    """Hash names and contents of files, in the order given; what is no file is left out."""
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def run_arm(arm: str, seed: int, settings: DemoSettings, folder: Path) -> dict[str, Any]:
    """Train one arm with one seed, measure it, and write `run.json` into its folder.

    Anything that an earlier attempt left in the folder is removed.

    Args:
        arm: The arm.
        seed: Seed of the training and of the sampled episodes.
        settings: The demo's settings.
        folder: The folder of this run alone.

    Returns:
        What was written: `arm`, `seed`, `fingerprint`, `training` (None for the base), `validation` (of the base
        only), `evaluation_cpu_seconds`, `splits` and `transcripts` (the greedy episodes on the first split).
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Before the training: a change of the settings in the meantime must not go unnoticed.
    fingerprint = compute_fingerprint(arm, seed, settings)
    model, training, validation = str(settings.shared["model"]), None, None
    if arm == "base":
        # Where every learning curve starts, measured as training measures it.
        validation = _validate(model, make_config(STUDENT, seed, settings, folder))
    else:
        model, training = train_run(make_config(arm, seed, settings, folder))
    started = time.process_time()
    splits, transcripts = measure(model, seed, settings)
    result = {
        "arm": arm,
        "seed": seed,
        "fingerprint": fingerprint,
        "training": training,
        "validation": validation,
        "evaluation_cpu_seconds": time.process_time() - started,
        "splits": splits,
        "transcripts": transcripts,
    }
    write_json(folder / "run.json", result)
    return result


def train_run(config: Any) -> tuple[str, dict[str, Any]]:
    """Train as a configuration says.

    Args:
        config: The `TrainConfig` of the run, with an output folder of its own.

    Returns:
        The folder of the last weights, and what the training cost and showed: `cpu_seconds`, `tokens`,
        `distinct_tasks`, `episodes`, `config`, and `curve`, the rows of `metrics.jsonl`.
    """
    from agents.train import train

    started = time.process_time()
    final = train(config, progress=False)
    seconds = time.process_time() - started
    rows = read_metrics(Path(config.output) / "metrics.jsonl")
    # While SFT trains, the teacher plays: success and tool F1 of those episodes say nothing about the model.
    kept = None if config.algorithm != "sft" else ("step", "tokens", "loss", "grad_norm")
    own = f"{config.eval_split}/"
    curve = [
        {key: value for key, value in row.items() if kept is None or key in kept or key.startswith(own)}
        for row in rows
    ]
    # Not config.steps: a budget of tokens may have ended the training before.
    played = max((row["step"] for row in rows), default=0) * config.tasks_per_step
    return str(final), {
        "cpu_seconds": seconds,
        "tokens": sum(row.get("tokens", 0) for row in rows),
        "distinct_tasks": min(played, _count_tasks(config.suite, config.split)),
        "episodes": played * (config.group_size if config.algorithm != "sft" else 1),
        "config": asdict(config),
        "curve": curve,
    }


def _validate(model: str, config: Any) -> float:
    """Return greedy success on the tasks that validation in training uses."""
    from agents.llm import LLMAgent
    from agents.train import validate

    agent = LLMAgent(model, max_new_tokens=config.max_new_tokens, max_context=config.max_context)
    return validate(agent, config)[f"{config.eval_split}/success"]


def _count_tasks(suite: str, split: str) -> int:
    from mentor_gym.suites import load_suite

    return len(load_suite(suite).tasks(split))


def measure(model: str, seed: int, settings: DemoSettings) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Evaluate a model on every split, greedy and sampled.

    Args:
        model: A name or folder that `load_agent` takes.
        seed: Seed of the sampling. Which tasks are played does not depend on it.
        settings: The demo's settings.

    Returns:
        By split what `measure_split` returns; and the greedy episodes on the first split.
    """
    from agents.base import load_agent

    rules = settings.evaluation
    limits = {"max_new_tokens": rules.max_new_tokens, "max_context": rules.max_context}
    greedy = load_agent(model, temperature=0.0, seed=seed, **limits)
    sampling = load_agent(model, temperature=rules.temperature, seed=seed, **limits)
    found: dict[str, Any] = {}
    shown: list[dict[str, Any]] = []
    for suite, split in rules.splits:
        options = {"tasks": rules.tasks, "max_turns": rules.max_turns, "prompt": rules.prompt}
        found[split], episodes = measure_split(greedy, sampling, suite, split, rules.samples, options)
        shown = shown or episodes
    return found, shown


def measure_split(
    greedy: Any, sampling: Any, suite: str, split: str, samples: int, options: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Evaluate one model on one split, greedy and sampled.

    Args:
        greedy: The agent that decodes greedily.
        sampling: The one that samples.
        suite: The suite.
        split: Its split.
        samples: Sampled episodes a task.
        options: Further arguments of `evaluate`; `tasks` among them.

    Returns:
        `suite`, `greedy` and `sampled` (as `evaluate` returns them), and in the order of `task_ids` the lists
        `success` and `tool_use` of the greedy episodes (0 or 1), `sampled_success` and `sampled_tool_use` (the
        share of a task's sampled ones); and the greedy episodes.
    """
    from agents.evaluate import evaluate

    one = evaluate(greedy, suite, split, keep_transcripts=options["tasks"], **options)
    many = evaluate(sampling, suite, split, k=samples, **options)
    episodes: list[dict[str, Any]] = one.pop("transcripts")
    many.pop("transcripts")
    vectors = {
        "success": [int(share) for share in one.pop("by_task").values()],
        "tool_use": [int(share) for share in one.pop("tool_use_by_task").values()],
        "sampled_success": list(many.pop("by_task").values()),
        "sampled_tool_use": list(many.pop("tool_use_by_task").values()),
    }
    ids = [episode["task_id"] for episode in episodes]
    return {"suite": suite, "greedy": one, "sampled": many, "task_ids": ids, **vectors}, episodes
