"""The demo: one small model, trained in several ways from the same weights, measured and written up.

The arms are the base model as it is shipped, supervised fine-tuning on teacher traces, and GRPO with the sparse,
the MENTOR and the strict reward. Every arm and seed is a process of its own with one torch thread, as many at a
time as there are cores. A finished run is kept: a demo that was interrupted goes on where it stopped, and a run
whose settings, data or base weights have changed since is done again.

    mentor-gym demo --quick --out runs/demo

What is trained and measured stands in `configs/demo.yaml` and `agents.arms`, how processes run side by side in
`agents.jobs`; the statistics are `agents.summary`'s, the page is `agents.report`'s.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from agents.arms import (
    ARMS,
    STUDENT,
    DemoError,
    DemoSettings,
    check_fair,
    compute_fingerprint,
    load_settings,
    make_config,
    run_arm,
)
from agents.jobs import Job, load_run, run_jobs, write_json
from agents.plots import get_style

PAIRS = (
    *((arm, "base") for arm in ARMS[1:]),
    *((STUDENT, arm) for arm in ("grpo-sparse", "grpo-strict", "sft")),
)


def list_runs(settings: DemoSettings) -> list[tuple[str, int]]:
    """List arm and seed of the runs in the order in which they are started.

    The base comes first, since it shows within seconds whether evaluation works; then the long GRPO runs, so
    that the cores finish together; then SFT.
    """
    order = sorted(ARMS[1:], key=lambda arm: arm == "sft")
    groups = (order[:-1], order[-1:])
    return [
        ("base", settings.seeds[0]),
        *((arm, seed) for group in groups for seed in settings.seeds for arm in group),
    ]


def make_job(arm: str, seed: int, settings: DemoSettings, out: Path, quick: bool) -> Job:
    """Describe one run as a job: the command that makes it, where it writes, and what is shown of it."""
    is_base, label = arm == "base", get_style(arm)[0]
    command = [sys.executable, "-m", "agents.demo", "--run", arm, "--seed", str(seed), "--out", str(out)]
    return Job(
        name=label if is_base else f"{label}, seed {seed}",
        command=[*command, "--quick"] if quick else command,
        folder=_runs_folder(out, quick) / (arm if is_base else f"{arm}-seed{seed}"),
        steps=0 if is_base else int(settings.shared["steps"]),
        is_long=arm.startswith("grpo"),
        # While SFT trains, the teacher plays; its figures are not the model's.
        shows_figures=arm != "sft",
    )


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
        DemoError: The settings are not fair to the arms, or changed during the run.
        JobError: A run failed.
    """
    begun = time.monotonic()
    out = Path(out)
    settings = load_settings(quick)
    jobs = {(arm, seed): make_job(arm, seed, settings, out, quick) for arm, seed in list_runs(settings)}
    rl_arms = [arm for arm in ARMS if arm not in ("base", "sft")]
    check_fair({arm: asdict(make_config(arm, 0, settings, Path("unused"))) for arm in rl_arms})
    _runs_folder(out, quick).mkdir(parents=True, exist_ok=True)
    console = Console()
    missing = []
    for (arm, seed), job in jobs.items():
        if load_run(job.folder, compute_fingerprint(arm, seed, settings)) is None:
            missing.append(job)
        else:
            console.print(f"kept: {job.name} (finished earlier with the same settings)", highlight=False)
    run_jobs(missing, console)
    runs = []
    for (arm, seed), job in jobs.items():
        run = load_run(job.folder, compute_fingerprint(arm, seed, settings))
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
        runs: What `run_arm` returned for every run.
        settings: The settings that they ran with.
        out: The folder to write into.
        quick: Whether this is the quick form.
        elapsed: Seconds that it took; runs that were kept took none.
        console: Where the tables go.

    Returns:
        The path of the report.
    """
    from agents.plots import plot_curves, plot_similarity
    from agents.report import write_report
    from agents.summary import compare, format_tables, summarise, write_sentence

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
    write_json(out / "results.json", results)
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
    from agents.summary import pick_transcripts

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the demo, or with `--run` the one run that a process of its own was started for."""
    parser = argparse.ArgumentParser(prog="python -m agents.demo", description="Run the demo, or one run of it.")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder to write into")
    parser.add_argument("--quick", action="store_true", help="a much shorter form")
    parser.add_argument("--run", choices=ARMS, help="only this arm, in this process")
    parser.add_argument("--seed", type=int, default=0, help="seed of that run")
    options = parser.parse_args(arguments)
    if options.run:
        settings = load_settings(options.quick)
        if (options.run, options.seed) not in list_runs(settings):
            parser.error(f"the demo has no run of {options.run} with seed {options.seed}")
        job = make_job(options.run, options.seed, settings, options.out, options.quick)
        run_arm(options.run, options.seed, settings, job.folder)
        return
    try:
        demo(options.out, options.quick)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
