"""A study: many short trainings under conditions that differ in one thing, and what they decide.

    mentor-gym study configs/study.yaml --out runs/study

First the base models and the training data are made, each once; then every base is measured as it is, and every
arm is trained in every condition with every seed, each run a process of its own with one thread. A finished run
is kept: a study that was interrupted goes on where it stopped, and a run whose settings, base, data or evaluation
have changed since is done again. A run that fails leaves the others alone.

What a study consists of stands in `agents.study_plan`, how its file is read in `agents.study_reader`, the
statistics in `agents.study_statistics`, figures and page in `agents.study_report`. `results.json` holds all that
those two need, so that it can be kept without the runs.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table

from agents.arms import measure_split, train_run
from agents.jobs import Job, load_run, run_jobs, write_json
from agents.study_plan import (
    BASE,
    Fingerprints,
    Folders,
    Run,
    Settings,
    StudyError,
    find_model,
    find_suite,
    fingerprint_base,
    fingerprint_data,
    get_arms,
    is_rl,
    list_made,
    list_runs,
    make_config,
    read_settings,
)
from agents.study_reader import load_study
from agents.study_statistics import findings, pack, summarise
from mentor_gym import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

# Columns of a learning curve that are kept, where the log has them.
CURVE = ("reward", "success", "tool_f1", "zero_variance", "kl")
# Figures of a split that are kept, beside the vectors: name -> path in what `evaluate` returns.
_FIGURES: dict[str, tuple[str, ...]] = {
    "pass@1": ("pass@1",),
    "pass@k": ("pass@k",),
    "tool_f1": ("tool_f1",),
    "similarity": ("similarity",),
    "task_similarity": ("task_similarity",),
    "tool_use": ("tool_use",),
    "calls": ("calls",),
    "invalid": ("invalid_calls", "rate"),
    "turn_limit": ("stop_reasons", "turn_limit"),
    "token_limit": ("stop_reasons", "token_limit"),
    "no_answer": ("stop_reasons", "no_answer"),
}


def study(
    path: Path | str,
    out: Path = Path("runs/study"),
    quick: bool = False,
    only: Sequence[str] = (),
    workers: int | None = None,
    plan: bool = False,
    report_only: bool = False,
) -> Path | None:
    """Run a study, or what is missing of it, and write its results.

    Writes into `out`: `report.html`, `results.json`, `figures/`, and folders of the bases, the data and the runs.

    Args:
        path: The study's YAML file, or the name of a shipped one; with `report_only` also a `results.json`.
        out: The folder to write into.
        quick: A much shorter form, to see that everything runs; its runs are kept apart.
        only: Conditions to run; none for all. The report has whatever is finished.
        workers: How many runs go on at the same time; None for one a core.
        plan: Only list what would be run.
        report_only: Run nothing; write the report of what is finished.

    Returns:
        The path of the report; None with `plan`.

    Raises:
        StudyError: The settings do not fit; or runs failed, in which case the report of the others is written.
    """
    out, console = Path(out), Console()
    if plan and report_only:
        raise StudyError("--plan lists what would be run, --report-only runs nothing: choose one of them")
    if str(path).endswith(".json"):
        if not report_only:
            raise StudyError(f"{path}: results of a study cannot be run again, only shown: --report-only does it")
        return write_results(_read_results(Path(path)), out, console)
    settings = load_study(path, quick, find_models=not report_only)
    folders = Folders(out, quick)
    if plan:
        show_plan(settings, folders, only, console)
        return None
    failed: list[Job] = []
    if not report_only:
        list_runs(settings, only)
        out.mkdir(parents=True, exist_ok=True)
        with _lock(out):
            # What the runs read: a file that is edited meanwhile changes none of them.
            write_json(folders.settings, msgspec.to_builtins(settings))
            failed = _run_missing(settings, folders, only, workers, console)
    report = write_results(gather(settings, folders, quick), out, console)
    if failed:
        reasons = "\n".join(f"  {job.error}" for job in failed[:5])
        raise StudyError(
            f"{len(failed)} runs failed, the same command tries them again; the report of the others is {report}\n"
            f"{reasons}"
        )
    return report


def show_plan(settings: Settings, folders: Folders, only: Sequence[str], console: Console) -> None:
    """Print which runs a study has, and how many are finished."""
    runs = list_runs(settings, only)
    prints = Fingerprints(settings, folders)
    done = {run for run in runs if load_run(folders.run(run), prints.of(run)) is not None}
    table = Table(title=settings.title)
    for column in ("condition", "base", "data", "evaluation", "arms", "runs", "finished"):
        table.add_column(column, justify="right" if column in ("runs", "finished") else "left")
    for name, condition in settings.conditions.items():
        own = [run for run in runs if run.condition == name]
        if own:
            finished = sum(run in done for run in own)
            arms = ", ".join(get_arms(settings, name))
            cells = (condition.base, condition.data, condition.evaluation, arms, str(len(own)), str(finished))
            table.add_row(name, *cells)
    wide = console if console.is_terminal else Console(file=console.file, width=max(console.width, 140))
    wide.print(table)
    bases, data = list_made(settings, runs)
    made = [f"{len(bases)} base models to make", f"{len(data)} data variants", f"{len(settings.seeds)} seeds"]
    wide.print(f"{', '.join(made)}; {len(done)} of {len(runs)} runs are finished", highlight=False)


def _run_missing(
    settings: Settings, folders: Folders, only: Sequence[str], workers: int | None, console: Console
) -> list[Job]:
    """Make what is not there yet; returns the jobs that failed."""
    runs = list_runs(settings, only)
    bases, data = list_made(settings, runs)
    first = [
        _make_job(f"bases/{name}", folders.base(name), folders)
        for name in bases
        if load_run(folders.base(name), fingerprint_base(settings, name)) is None
    ] + [
        _make_job(f"data/{name}", folders.data(name), folders)
        for name in data
        if load_run(folders.data(name), fingerprint_data(settings, name)) is None
    ]
    run_jobs(first, console, workers, keep_going=True)
    failed = [job for job in first if job.error]
    todo, kept, prints = [], 0, Fingerprints(settings, folders)
    for run in runs:
        fingerprint = prints.of(run)
        if fingerprint and load_run(folders.run(run), fingerprint) is not None:
            kept += 1
        elif fingerprint:
            job = _make_job(f"runs/{run.key}", folders.run(run), folders)
            if run.arm != BASE:
                config = make_config(settings, run.arm)
                job.steps, job.budget = config.steps, getattr(config, "token_budget", 0)
                job.is_long = job.shows_figures = is_rl(settings, run.arm)
            todo.append(job)
    if kept:
        console.print(f"kept: {kept} runs that were finished earlier with the same settings", highlight=False)
    run_jobs(todo, console, workers, keep_going=True)
    return failed + [job for job in todo if job.error]


def _make_job(key: str, folder: Path, folders: Folders) -> Job:
    command = [sys.executable, "-m", "agents.study", "--job", key, "--out", str(folders.out)]
    return Job(key.removeprefix("runs/"), [*command, "--quick"] if folders.quick else command, folder)


def make_base(settings: Settings, name: str, folders: Folders) -> None:
    """Make a base model, in the folder `model` of its own folder."""
    from agents.pretrain import pretrain

    arguments = settings.bases[name]
    assert isinstance(arguments, dict)
    folder, started = _clear(folders.base(name)), time.process_time()
    pretrain(out=folder / "model", **arguments)
    seconds = time.process_time() - started
    write_json(folder / "run.json", {"fingerprint": fingerprint_base(settings, name), "cpu_seconds": seconds})


def make_data(settings: Settings, name: str, folders: Folders) -> None:
    """Make a data variant, in the folder of its name in its own folder."""
    from mentor_gym.suites.math_variants import write_variant

    folder = _clear(folders.data(name))
    written = write_variant(out=folder / name, **settings.data[name])
    if written != Path(find_suite(settings, name, folders)):
        raise StudyError(f"data {name}: expected {find_suite(settings, name, folders)}, found {written}")
    write_json(folder / "run.json", {"fingerprint": fingerprint_data(settings, name)})


def make_run(settings: Settings, run: Run, folders: Folders) -> dict[str, Any]:
    """Train one arm with one seed in one condition, measure it, and write `run.json`.

    A base is measured as it is. Anything that an earlier attempt left in the folder is removed; the last weights
    stay.

    Returns:
        What was written: `condition`, `arm`, `seed`, `base`, `data`, `evaluation`, `fingerprint`, `training` (None
        for a base), `evaluation_cpu_seconds` and `splits`, by label as `measure_split` returns them.

    Raises:
        StudyError: Its base or data has not been made.
    """
    from agents.base import load_agent

    # Before the training: a base or data that change in the meantime must not go unnoticed.
    fingerprint = Fingerprints(settings, folders).of(run)
    if not fingerprint:
        raise StudyError(f"{run.key}: its base or data is not made as the settings say")
    folder = _clear(folders.run(run))
    model, training = find_model(settings, run.base, folders), None
    if run.arm != BASE:
        suite = find_suite(settings, run.data, folders)
        config = make_config(settings, run.arm, model=model, suite=suite, seed=run.seed, output=str(folder))
        model, training = train_run(config)
        # Twice as large as the weights, and nothing goes on from here.
        (Path(model) / "training.safetensors").unlink(missing_ok=True)
    started = time.process_time()
    rules = settings.evaluations[run.evaluation]
    limits = {"max_new_tokens": rules.max_new_tokens, "max_context": rules.max_context}
    greedy = load_agent(model, temperature=0.0, seed=run.seed, **limits)
    sampling = load_agent(model, temperature=rules.temperature, seed=run.seed, **limits)
    splits = {}
    for label, split in rules.splits.items():
        options = {"tasks": split.tasks, "max_turns": rules.max_turns, "prompt": rules.prompt}
        suite = find_suite(settings, split.suite, folders)
        splits[label], _ = measure_split(greedy, sampling, suite, split.split, rules.samples, options)
    result = {
        **asdict(run),
        "fingerprint": fingerprint,
        "training": training,
        "evaluation_cpu_seconds": time.process_time() - started,
        "splits": splits,
    }
    write_json(folder / "run.json", result)
    return result


def _clear(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def gather(settings: Settings, folders: Folders, quick: bool) -> dict[str, Any]:
    """Collect what the finished runs left, small enough to be kept without them.

    Returns:
        `title`, `quick`, `version`, `settings`, `configs` (the training settings of each arm, without what the
        study sets), `runs` (see `compact`) and `missing`, the names of those that are not finished.
    """
    found, missing, configs = [], [], {}
    prints = Fingerprints(settings, folders)
    for run in list_runs(settings):
        fingerprint = prints.of(run)
        finished = load_run(folders.run(run), fingerprint) if fingerprint else None
        if finished is None:
            missing.append(run.key)
        else:
            found.append(compact(finished))
    for arm in settings.arms:
        config = asdict(make_config(settings, arm))
        configs[arm] = {
            key: value for key, value in config.items() if key not in ("model", "suite", "seed", "output")
        }
    return {
        "title": settings.title,
        "quick": quick,
        "version": __version__,
        "settings": msgspec.to_builtins(settings),
        "configs": configs,
        "missing": missing,
        "runs": found,
    }


def compact(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a run: the curve by columns, one value a step, and vectors over tasks as texts.

    A vector says how many of each task's episodes succeeded, or called a tool (see `pack`); `samples` says of how
    many sampled ones. `tasks` is a hash of the tasks' ids: vectors with the same one can be compared task by task.
    """
    kept = {key: run[key] for key in ("condition", "arm", "seed", "base", "data", "evaluation")}
    training = run["training"]
    if training:
        kept["training"] = {
            "cpu_seconds": round(training["cpu_seconds"], 1),
            **{key: training[key] for key in ("tokens", "distinct_tasks", "episodes")},
            "curve": _columns(training["curve"]),
        }
    kept["splits"] = {label: _compact_split(split) for label, split in run["splits"].items()}
    return kept


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    own = [key for key in dict.fromkeys(key for row in rows for key in row) if key in CURVE or "/success" in key]
    tokens = 0
    columns: dict[str, list[Any]] = {"tokens": [], **{key: [] for key in own}}
    for row in rows:
        tokens += row.get("tokens") or 0
        columns["tokens"].append(tokens)
        for key in own:
            value = row.get(key)
            columns[key].append(None if value is None else round(value, 3))
    return columns


def _compact_split(split: Mapping[str, Any]) -> dict[str, Any]:
    samples = split["sampled"]["k"]
    figures = {
        decoding: {name: round(_follow(split[decoding], path), 4) for name, path in _FIGURES.items()}
        for decoding in ("greedy", "sampled")
    }
    return {
        "tasks": hashlib.sha256("\n".join(split["task_ids"]).encode()).hexdigest()[:12],
        "count": len(split["task_ids"]),
        "samples": samples,
        **figures,
        **{key: pack(split[key], 1) for key in ("success", "tool_use")},
        **{key: pack(split[key], samples) for key in ("sampled_success", "sampled_tool_use")},
    }


def _follow(value: Any, path: Sequence[str]) -> float:
    for key in path:
        value = value[key]
    return float(value)


def write_results(results: dict[str, Any], out: Path, console: Console | None = None) -> Path:
    """Compute the statistics of gathered runs, and write `results.json`, the figures and the report.

    Args:
        results: What `gather` returned, or a `results.json` that was read.
        out: The folder to write into.
        console: Where the findings are printed; None for nowhere.

    Returns:
        The path of the report.
    """
    from agents.study_report import plot_figures, write_report

    results = {**results, "summary": summarise(results)}
    out.mkdir(parents=True, exist_ok=True)
    _write_lines(out / "results.json", results)
    (out / "figures").mkdir(exist_ok=True)
    figures = plot_figures(results)
    for name, (light, _) in figures.items():
        (out / "figures" / f"{name}.png").write_bytes(light)
    report = out / "report.html"
    report.write_text(write_report(results, figures), encoding="utf-8")
    if console:
        for sentence in findings(results):
            console.print(f"- {sentence}", highlight=False, markup=False, soft_wrap=True)
        if results["missing"]:
            console.print(f"{len(results['missing'])} runs are missing", highlight=False)
    return report


def _write_lines(path: Path, results: Mapping[str, Any]) -> None:
    """Write results with one line a run: small, and a changed run is one changed line."""

    def dump(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    lists = {
        key: "[\n" + ",\n".join(map(dump, value)) + "\n]" if key == "runs" and value else dump(value)
        for key, value in results.items()
    }
    draft = path.with_suffix(".tmp")
    draft.write_text("{\n" + ",\n".join(f"{dump(key)}:{text}" for key, text in lists.items()) + "\n}\n")
    os.replace(draft, path)


def _read_results(path: Path) -> dict[str, Any]:
    try:
        results: dict[str, Any] = json.loads(path.read_text())
        # Results of an earlier version get what settings have had since.
        results["settings"] = msgspec.to_builtins(msgspec.convert(results["settings"], Settings))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: not the results of a study: {error}") from None
    return results


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Keep the folder for this process; the lock goes with it, however it ends."""
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(f"another process is running a study in {out}") from None
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a study, or with `--job` the one part of it that a process of its own was started for."""
    parser = argparse.ArgumentParser(prog="python -m agents.study", description="Run a study, or one part of it.")
    parser.add_argument("path", nargs="?", default="study", help="the study's YAML file")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder to write into")
    parser.add_argument("--quick", action="store_true", help="a much shorter form")
    parser.add_argument("--only", action="append", default=[], metavar="CONDITION", help="only this condition")
    parser.add_argument("--workers", type=int, help="how many runs go on at the same time")
    parser.add_argument("--plan", action="store_true", help="only list the runs")
    parser.add_argument("--report-only", action="store_true", help="run nothing, write the report")
    parser.add_argument("--job", help="only this part, in this process")
    options = parser.parse_args(arguments)
    try:
        if options.job:
            _run_job(options.job, Folders(options.out, options.quick))
            return
        report = study(
            options.path, options.out, options.quick, options.only, options.workers, options.plan,
            options.report_only,
        )  # fmt: skip
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    except KeyboardInterrupt as error:
        code = getattr(error, "exit_code", 130)
        parser.exit(code, f"{str(error) or 'interrupted;'} run the same command again, finished runs are kept\n")
    if report is not None:
        print(f"report: {report}")


def _run_job(key: str, folders: Folders) -> None:
    settings = read_settings(folders.settings)
    kind, _, name = key.partition("/")
    runs = {run.key: run for run in list_runs(settings)}
    if kind == "bases" and name in settings.bases:
        make_base(settings, name, folders)
    elif kind == "data" and name in settings.data:
        make_data(settings, name, folders)
    elif kind == "runs" and name in runs:
        make_run(settings, runs[name], folders)
    else:
        raise StudyError(f"--job {key}: the study has no such part")


if __name__ == "__main__":
    main()
