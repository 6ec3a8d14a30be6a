"""The demo: one small model, trained in several ways from the same weights, measured and written up.

The arms are the base model as it is shipped, supervised fine-tuning on teacher traces, and GRPO with the sparse,
the MENTOR and the strict reward. Every arm and seed is a process of its own with one torch thread, as many at a
time as there are cores. A finished run is kept: a demo that was interrupted goes on where it stopped, and a run
whose settings, data or base weights have changed since is done again.

    mentor-gym demo --quick --out runs/demo

What is trained and measured stands in `configs/demo.yaml`; the figures and the page are made by `agents.report`.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec
import yaml
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agents.plots import get_style
from mentor_gym import __version__
from mentor_gym.data import data_path

ARMS = ("base", "sft", "grpo-sparse", "grpo-mentor", "grpo-strict")
STUDENT = "grpo-mentor"
PAIRS = (
    *((arm, "base") for arm in ARMS[1:]),
    *((STUDENT, arm) for arm in ("grpo-sparse", "grpo-strict", "sft")),
)
MAX_WORKERS = 4
_CONFIGS = Path(__file__).parent / "configs"
_WEIGHTS = Path(__file__).parent / "weights"
# Keys in which configs of different GRPO arms may differ.
_OWN_KEYS = ("reward", "output")
_POLL_SECONDS = 0.5
_PLAIN_SECONDS = 20.0


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


@dataclass
class Job:
    """One run of the demo, as the parent process sees it.

    Attributes:
        arm: The arm.
        seed: Its seed.
        folder: Where the run writes.
        steps: Training steps; 0 for the base.
        process: Its process; None before the start.
        log: Its open log file.
        started: When it started, by the monotonic clock.
        seconds: How long it took; None until it has ended.
        last: The newest row of its metrics.
    """

    arm: str
    seed: int
    folder: Path
    steps: int
    process: subprocess.Popen[bytes] | None = None
    log: IO[bytes] | None = None
    started: float = 0.0
    seconds: float | None = None
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's name for a reader."""
        label = get_style(self.arm)[0]
        return label if self.arm == "base" else f"{label}, seed {self.seed}"

    @property
    def phase(self) -> str:
        """What it is doing: waiting, training, evaluating or done."""
        if self.seconds is not None:
            return "done"
        if self.process is None:
            return "waiting"
        return "training" if self.steps_done < self.steps else "evaluating"

    @property
    def steps_done(self) -> int:
        """Training steps that are finished."""
        return min(int(self.last.get("step", 0)), self.steps)


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
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise DemoError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DemoError(f"{path}: expected a mapping of settings")
    changes = content.pop("quick", {})
    try:
        settings = msgspec.convert(_merge(content, changes) if quick else content, DemoSettings)
    except msgspec.ValidationError as error:
        raise DemoError(f"{path}: {error}") from None
    if len(settings.seeds) != len(set(settings.seeds)) or not settings.seeds or not settings.evaluation.splits:
        raise DemoError(f"{path}: seeds and evaluation.splits need at least one entry, seeds no entry twice")
    return settings


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` on top, section by section."""
    merged = copy.deepcopy(base)
    for key, value in changes.items():
        merged[key] = _merge(merged[key], value) if isinstance(value, dict) and key in merged else value
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
        "model": _hash_model(str(settings.shared["model"])),
        "data": _hash_files([data_path("manifest.json")]),
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _hash_model(model: str) -> str:
    folder = _WEIGHTS / model if (_WEIGHTS / model).is_dir() else Path(model)
    # Not a folder: a Hugging Face id, which is as much as can be known without loading it.
    return _hash_files(sorted(folder.glob("*"))) if folder.is_dir() else model


def _hash_files(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def make_jobs(settings: DemoSettings, folder: Path) -> list[Job]:
    """List the runs in the order in which they are started.

    The base comes first, since it shows within seconds whether evaluation works; then the long GRPO runs, so
    that the cores finish together; then SFT.
    """
    steps = int(settings.shared["steps"])
    jobs = [Job("base", settings.seeds[0], folder / "base", 0)]
    order = sorted(ARMS[1:], key=lambda arm: arm == "sft")
    jobs += [
        Job(arm, seed, folder / f"{arm}-seed{seed}", steps)
        for group in (order[:-1], order[-1:])
        for seed in settings.seeds
        for arm in group
    ]
    return jobs


def run_one(arm: str, seed: int, out: Path, quick: bool = False) -> dict[str, Any]:
    """Train one arm with one seed, measure it, and write `run.json` into its folder.

    Anything that an earlier attempt left in the folder is removed.

    Returns:
        What was written: `arm`, `seed`, `fingerprint`, `training` (None for the base), `validation` (of the base
        only), `evaluation_cpu_seconds`, `splits` and `transcripts` (the greedy episodes on the first split).
    """
    settings = load_settings(quick)
    job = next(job for job in make_jobs(settings, _runs_folder(out, quick)) if (job.arm, job.seed) == (arm, seed))
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    # Before the training: a change of the settings in the meantime must not go unnoticed.
    fingerprint = compute_fingerprint(arm, seed, settings)
    model, training, validation = str(settings.shared["model"]), None, None
    if arm == "base":
        # Where every learning curve starts, measured as training measures it.
        validation = _validate(model, make_config(STUDENT, seed, settings, job.folder))
    else:
        model, training = _train(make_config(arm, seed, settings, job.folder))
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
    _write_json(job.folder / "run.json", result)
    return result


def _train(config: Any) -> tuple[str, dict[str, Any]]:
    from agents.train import train

    started = time.process_time()
    final = train(config, progress=False)
    seconds = time.process_time() - started
    rows = read_metrics(Path(config.output) / "metrics.jsonl")
    # While SFT trains, the teacher plays: success and tool F1 of those episodes say nothing about the model.
    kept = None if config.algorithm != "sft" else ("step", "loss", "grad_norm")
    own = f"{config.eval_split}/"
    curve = [
        {key: value for key, value in row.items() if kept is None or key in kept or key.startswith(own)}
        for row in rows
    ]
    played = config.steps * config.tasks_per_step
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
    from agents.base import load_agent
    from agents.evaluate import evaluate

    agent = load_agent(
        model, temperature=0.0, max_new_tokens=config.max_new_tokens, max_context=config.max_context
    )
    found = evaluate(
        agent,
        config.suite,
        config.eval_split,
        tasks=config.eval_tasks or None,
        max_turns=config.max_turns,
        prompt=config.prompt,
    )
    return float(found["pass@1"])


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
        By split: `suite`, `greedy` and `sampled` (as `evaluate` returns them), `task_ids` and `success` of the
        greedy episodes; and the greedy episodes on the first split.
    """
    from agents.base import load_agent
    from agents.evaluate import evaluate

    rules = settings.evaluation
    limits = {"max_new_tokens": rules.max_new_tokens, "max_context": rules.max_context}
    greedy = load_agent(model, temperature=0.0, seed=seed, **limits)
    sampling = load_agent(model, temperature=rules.temperature, seed=seed, **limits)
    found: dict[str, Any] = {}
    shown: list[dict[str, Any]] = []
    for suite, split in rules.splits:
        options: dict[str, Any] = {
            "tasks": rules.tasks,
            "max_turns": rules.max_turns,
            "prompt": rules.prompt,
        }
        one = evaluate(greedy, suite, split, keep_transcripts=rules.tasks, **options)
        episodes = one.pop("transcripts")
        many = evaluate(sampling, suite, split, k=rules.samples, **options)
        many.pop("transcripts")
        found[split] = {
            "suite": suite,
            "greedy": one,
            "sampled": many,
            "task_ids": [episode["task_id"] for episode in episodes],
            "success": [int(episode["is_success"]) for episode in episodes],
        }
        shown = shown or episodes
    return found, shown


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a `metrics.jsonl` that may still be written to; a half-written last line is left out."""
    rows = []
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def demo(out: Path = Path("runs/demo"), quick: bool = False) -> Path:
    """Train and measure all arms, print the table, and write figures and report.

    Writes into `out`: `report.html`, `results.json`, `curves.png`, `similarity.png`, and a folder for each run
    with its metrics, its last weights, its log and its `run.json`. Finished runs are kept and not repeated.

    Args:
        out: The folder to write into.
        quick: A much shorter form, to see that everything runs.

    Returns:
        The path of the report.

    Raises:
        DemoError: The settings are not fair to the arms, or a run failed.
    """
    begun = time.monotonic()
    out = Path(out)
    settings = load_settings(quick)
    folder = _runs_folder(out, quick)
    jobs = make_jobs(settings, folder)
    rl_arms = [arm for arm in ARMS if arm not in ("base", "sft")]
    check_fair({arm: asdict(make_config(arm, 0, settings, Path("unused"))) for arm in rl_arms})
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    kept = [job for job in jobs if _load_finished(job, settings) is not None]
    for job in kept:
        job.seconds = 0.0
        console.print(f"kept: {job.name} (finished earlier with the same settings)", highlight=False)
    _run_jobs([job for job in jobs if job not in kept], out, quick, console)
    runs = []
    for job in jobs:
        run = _load_finished(job, settings)
        if run is None:
            raise DemoError(f"{job.folder / 'run.json'} does not match the settings: they changed during the run")
        runs.append(run)
    return write_results(runs, settings, out, quick, time.monotonic() - begun, console)


def write_results(
    runs: Sequence[dict[str, Any]],
    settings: DemoSettings,
    out: Path,
    quick: bool,
    elapsed: float,
    console: Console,
) -> Path:
    """Gather finished runs: print the tables, write `results.json`, both figures and the report.

    Args:
        runs: What `run_one` returned for every run.
        settings: The settings that they ran with.
        out: The folder to write into.
        quick: Whether this is the quick form.
        elapsed: Seconds that it took; runs that were kept took none.
        console: Where the tables go.

    Returns:
        The path of the report.
    """
    from agents.plots import plot_curves, plot_similarity
    from agents.report import compare, format_tables, summarise, write_report, write_sentence

    splits = [split for _, split in settings.evaluation.splits]
    student = min(
        (run for run in runs if run["arm"] == STUDENT), key=lambda run: settings.seeds.index(run["seed"])
    )
    results: dict[str, Any] = {
        "quick": quick,
        "elapsed_seconds": elapsed,
        "splits": splits,
        "arms": list(ARMS),
        "settings": _describe_settings(runs, settings),
        "summary": summarise(runs, ARMS),
        "comparisons": compare(runs, PAIRS, splits),
        "student": STUDENT,
        "student_seed": student["seed"],
        "transcripts": _show_transcripts(runs, student, settings),
        "runs": [{key: value for key, value in run.items() if key != "transcripts"} for run in runs],
    }
    out.mkdir(parents=True, exist_ok=True)
    _write_json(out / "results.json", results)
    (out / "curves.png").write_bytes(plot_curves(runs, ARMS[1:]))
    (out / "similarity.png").write_bytes(plot_similarity(runs, ARMS, splits[0]))
    report = out / "report.html"
    report.write_text(write_report(results), encoding="utf-8")
    # Piped output has no width of its own, and 80 columns would break every cell.
    wide = console if console.is_terminal else Console(file=console.file, width=max(console.width, 110))
    for table in format_tables(results):
        wide.print(table)
    for comparison in results["comparisons"]:
        if comparison["split"] == splits[0]:
            wide.print(write_sentence(comparison), highlight=False)
    wide.print(f"{elapsed / 60:.1f} minutes; report: {report}", highlight=False, soft_wrap=True)
    return report


def _describe_settings(runs: Sequence[dict[str, Any]], settings: DemoSettings) -> dict[str, Any]:
    """Say which training settings all arms share and in which they differ, from the configs as they ran."""
    configs: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run["training"] and run["arm"] not in configs:
            config = run["training"]["config"]
            configs[run["arm"]] = {key: config[key] for key in config if key not in ("output", "seed")}
    every = list(configs.values())
    keys = [key for key in every[0] if all(key in config for config in every)] if every else []
    shared = {key: every[0][key] for key in keys if all(config[key] == every[0][key] for config in every)}
    differing = {
        arm: {key: value for key, value in config.items() if key not in shared} for arm, config in configs.items()
    }
    rules = msgspec.to_builtins(settings.evaluation)
    rules["splits"] = ", ".join(f"{suite} {split}" for suite, split in settings.evaluation.splits)
    return {
        "shared": {"seeds": ", ".join(map(str, settings.seeds)), **shared},
        "differing": differing,
        "evaluation": rules,
    }


def _show_transcripts(
    runs: Sequence[dict[str, Any]], student: dict[str, Any], settings: DemoSettings
) -> list[dict[str, Any]]:
    """Choose transcripts by the report's rule and put the teacher's own episode beside each."""
    from agents.base import load_agent
    from agents.evaluate import evaluate
    from agents.report import pick_transcripts

    base = next(run for run in runs if run["arm"] == "base")
    before, after = ({episode["task_id"]: episode for episode in run["transcripts"]} for run in (base, student))
    chosen = pick_transcripts(before, after)
    rules = settings.evaluation
    suite, split = rules.splits[0]
    # The same tasks, since the choice depends on the evaluation's seed alone; played, so that the teacher's
    # calls run with the real tools and its reward is paid as the student's is.
    played = evaluate(
        load_agent("teacher"),
        suite,
        split,
        tasks=rules.tasks,
        max_turns=rules.max_turns,
        prompt=rules.prompt,
        keep_transcripts=rules.tasks,
    )
    teacher = {episode["task_id"]: episode for episode in played["transcripts"]}
    return [
        {
            **one,
            "prompt": one["before"]["prompt"],
            "answer": one["before"]["answer"],
            "teacher": teacher[one["task_id"]],
        }
        for one in chosen
    ]


def _runs_folder(out: Path, quick: bool) -> Path:
    # Apart, so that a quick demo does not throw away the runs of a full one.
    return Path(out) / ("runs-quick" if quick else "runs")


def _load_finished(job: Job, settings: DemoSettings) -> dict[str, Any] | None:
    try:
        run: dict[str, Any] = json.loads((job.folder / "run.json").read_text())
    except (OSError, ValueError):
        return None
    return run if run.get("fingerprint") == compute_fingerprint(job.arm, job.seed, settings) else None


def _write_json(path: Path, content: Any) -> None:
    # Renamed when complete: an interrupted run leaves no half-written file that looks finished.
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(draft, path)


def count_workers() -> int:
    """Return how many runs go on at the same time: one a core, at most `MAX_WORKERS`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, MAX_WORKERS))


def make_command(job: Job, out: Path, quick: bool) -> list[str]:
    """Return the command line that makes one run."""
    command = [sys.executable, "-m", "agents.demo", "--run", job.arm, "--seed", str(job.seed), "--out", str(out)]
    return [*command, "--quick"] if quick else command


def _start(job: Job, out: Path, quick: bool) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    # The figures of an earlier attempt would show as progress until the run has cleared its folder.
    (job.folder / "metrics.jsonl").unlink(missing_ok=True)
    # OpenMP reads this before torch is imported. Two threads beside another busy process are slower than one.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    job.log = (job.folder.parent / f"{job.folder.name}.log").open("wb")
    job.process = subprocess.Popen(
        make_command(job, out, quick),
        stdout=job.log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **threads, "TOKENIZERS_PARALLELISM": "false"},
    )
    job.started = time.monotonic()


def _run_jobs(jobs: list[Job], out: Path, quick: bool, console: Console) -> None:
    """Run the jobs in processes, a few at a time, and show how they get on."""
    workers = count_workers()
    begun = last_line = time.monotonic()
    live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None
    try:
        if live:
            live.start()
        while any(job.seconds is None for job in jobs):
            running = [job for job in jobs if job.process is not None and job.seconds is None]
            for job in [job for job in jobs if job.process is None][: workers - len(running)]:
                _start(job, out, quick)
                if not live:
                    console.print(f"started: {job.name}", highlight=False)
            for job in running:
                job.last = next(iter(read_metrics(job.folder / "metrics.jsonl")[-1:]), job.last)
                if job.process is not None and job.process.poll() is not None:
                    _finish(job)
                    if not live:
                        console.print(f"finished: {job.name}, {job.seconds:.0f} s", highlight=False)
            now = time.monotonic()
            if live:
                live.update(_show_progress(jobs, now - begun, workers))
            elif now - last_line > _PLAIN_SECONDS:
                last_line = now
                parts = [_describe(job) for job in jobs if job.phase in ("training", "evaluating")]
                left = _format_seconds(_estimate_remaining(jobs, workers))
                console.print(
                    f"{now - begun:.0f} s: {'; '.join(parts)}; about {left} left", highlight=False, soft_wrap=True
                )
            time.sleep(_POLL_SECONDS)
    finally:
        if live:
            live.stop()
        for job in jobs:
            if job.process is not None and job.process.poll() is None:
                job.process.terminate()
                try:
                    job.process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    job.process.kill()
                    job.process.wait()
            if job.log is not None:
                job.log.close()


def _finish(job: Job) -> None:
    assert job.process is not None
    if job.process.returncode != 0 or not (job.folder / "run.json").is_file():
        log = job.folder.parent / f"{job.folder.name}.log"
        lines = log.read_text(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit status {job.process.returncode}"
        raise DemoError(f"{job.name} failed: {reason} (whole log: {log}); finished runs are kept")
    job.seconds = time.monotonic() - job.started


def _project(job: Job) -> float | None:
    """Estimate how long a run takes in all; None while nothing tells."""
    if job.seconds is not None:
        return job.seconds
    if job.process is None or not job.steps_done:
        return None
    # What comes before the first step and after the last is small beside the steps.
    return (time.monotonic() - job.started) * job.steps / job.steps_done


def _estimate_remaining(jobs: Sequence[Job], workers: int) -> float | None:
    """Estimate the seconds until all jobs are done; None while no run has got far enough to tell."""
    known: dict[str, list[float]] = {"rl": [], "other": []}
    for job in jobs:
        projected = _project(job)
        if projected is not None:
            known["rl" if job.arm.startswith("grpo") else "other"].append(projected)
    every = known["rl"] + known["other"]
    if not every or (not known["rl"] and any(job.arm.startswith("grpo") for job in jobs)):
        return None
    left = 0.0
    for job in jobs:
        if job.seconds is None:
            alike = known["rl" if job.arm.startswith("grpo") else "other"] or every
            total = _project(job) or sum(alike) / len(alike)
            left += max(0.0, total - (time.monotonic() - job.started if job.process else 0.0))
    return left / min(workers, len(jobs))


def _format_seconds(seconds: float | None) -> str:
    return "?" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _describe(job: Job) -> str:
    text = f"{job.name} {job.phase}"
    return f"{text} {job.steps_done}/{job.steps}" if job.phase == "training" else text


def _show_progress(jobs: Sequence[Job], elapsed: float, workers: int) -> Group:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("run", "", "", "step", "reward", "success", "left"):
        table.add_column(column, justify="right" if column in ("step", "reward", "success", "left") else "left")
    for job in jobs:
        projected, phase = _project(job), job.phase
        left = ""
        if phase == "training" and projected is not None:
            left = _format_seconds(projected - (time.monotonic() - job.started))
        elif phase == "done":
            left = f"took {_format_seconds(job.seconds)}"
        table.add_row(
            job.name,
            Text(phase, style={"done": "green", "waiting": "dim"}.get(phase, "bold")),
            ProgressBar(total=max(job.steps, 1), completed=job.steps_done or (phase == "done"), width=24),
            f"{job.steps_done}/{job.steps}" if job.steps else "",
            # While SFT trains, the teacher plays; its figures are not the model's.
            _figure(job.last.get("reward")) if job.arm != "sft" else "",
            _figure(job.last.get("success")) if job.arm != "sft" else "",
            left,
        )
    remaining = _format_seconds(_estimate_remaining(jobs, workers))
    footer = Text(f"{_format_seconds(elapsed)} gone, about {remaining} left, {workers} at a time", style="dim")
    return Group(table, footer)


def _figure(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the demo, or with `--run` the one run that a process of its own was started for."""
    parser = argparse.ArgumentParser(prog="python -m agents.demo", description="Run the demo, or one run of it.")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder to write into")
    parser.add_argument("--quick", action="store_true", help="a much shorter form")
    parser.add_argument("--run", choices=ARMS, help="only this arm, in this process")
    parser.add_argument("--seed", type=int, default=0, help="seed of that run")
    options = parser.parse_args(arguments)
    if options.run:
        run_one(options.run, options.seed, options.out, options.quick)
        return
    try:
        demo(options.out, options.quick)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
