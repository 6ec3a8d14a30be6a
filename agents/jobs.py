"""Run jobs as processes of their own, a few at a time, and show how they get on.

A job is a command that trains and measures something in a folder of its own. While it runs, the parent reads the
newest row of its `metrics.jsonl`; at its end the command leaves `run.json`, renamed into place when complete, with
a fingerprint of everything that the result depends on. So an interrupted study goes on where it stopped, and a
result whose settings have changed since is not taken for a finished one. Every process has one thread. What the
jobs train, and what becomes of their results, is the caller's business.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

MAX_WORKERS = 4
_POLL_SECONDS = 0.5
_PLAIN_SECONDS = 20.0
# How long jobs that were asked to end have for it.
_PATIENCE_SECONDS = 10.0
# More rows than these do not fit a terminal: only jobs that run are shown then.
_MOST_ROWS = 20
_ACTIVE = ("running", "training", "evaluating")


class JobError(ValueError):
    """A job that failed; the message names it, its reason and its log."""


class Stopped(KeyboardInterrupt):
    """A signal asked to end; the jobs have been ended.

    Attributes:
        exit_code: What a process that ends because of that signal returns.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name};")
        self.exit_code = 128 + number


@dataclass
class Job:
    """One run in a process of its own, as the parent process sees it.

    Attributes:
        name: Its name for a reader.
        command: The command line, which writes `run.json` into the folder.
        folder: Where the run writes, and nothing else does.
        steps: Training steps at most; 0 for a run without training.
        budget: Tokens after which training ends before that; 0 for no such limit.
        is_long: Whether it takes much longer than the others. Time left is estimated from jobs of the same kind,
            and not before a long one tells.
        shows_figures: Whether `reward` and `success` in its metrics are those of the model that it trains.
        process: Its process; None before the start.
        log: Its open log file.
        started: When it started, by the monotonic clock.
        seconds: How long it took; None until it has ended.
        last: The newest row of its metrics.
        tokens: Tokens of all its rows so far.
        error: Why it failed; empty otherwise.
    """

    name: str
    command: Sequence[str]
    folder: Path
    steps: int = 0
    budget: int = 0
    is_long: bool = False
    shows_figures: bool = True
    process: subprocess.Popen[bytes] | None = None
    log: IO[bytes] | None = None
    started: float = 0.0
    seconds: float | None = None
    last: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0
    error: str = ""

    @property
    def log_path(self) -> Path:
        """Where its output goes: beside the folder, which the run may clear."""
        return self.folder.parent / f"{self.folder.name}.log"

    @property
    def phase(self) -> str:
        """What it is doing: waiting, running, training, evaluating, done or failed."""
        if self.error:
            return "failed"
        if self.seconds is not None:
            return "done"
        if self.process is None:
            return "waiting"
        if not self.steps:
            return "running"
        return "training" if self.share_done < 1 else "evaluating"

    @property
    def steps_done(self) -> int:
        """Training steps that are finished."""
        return min(int(self.last.get("step", 0)), self.steps)

    @property
    def share_done(self) -> float:
        """How much of the training is done, by steps or by tokens, whichever ends it; 0 for a run without any."""
        share = self.steps_done / self.steps if self.steps else 0.0
        return min(1.0, max(share, self.tokens / self.budget if self.budget else 0.0))


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


def load_run(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return what a finished run left in its folder; None if it did not finish or has another fingerprint."""
    try:
        run: dict[str, Any] = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError):
        return None
    return run if run.get("fingerprint") == fingerprint else None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is there whole or not at all, however the process ends."""
    # Renamed when complete: an interrupted run leaves no half-written file that looks finished.
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(draft, path)


def count_workers() -> int:
    """Return how many runs go on at the same time: one a core, at most `MAX_WORKERS`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, MAX_WORKERS))


def _start(job: Job) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    # The figures of an earlier attempt would show as progress until the run has cleared its folder.
    (job.folder / "metrics.jsonl").unlink(missing_ok=True)
    # OpenMP reads this before torch is imported. Two threads beside another busy process are slower than one.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    job.log = job.log_path.open("wb")
    job.process = subprocess.Popen(
        job.command,
        stdout=job.log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **threads, "TOKENIZERS_PARALLELISM": "false"},
        # A group of its own, so that what a job starts itself can be ended with it.
        process_group=0,
    )
    job.started = time.monotonic()


def run_jobs(jobs: Sequence[Job], console: Console, workers: int | None = None, keep_going: bool = False) -> None:
    """Run the jobs in processes, a few at a time, and show how they get on.

    A terminal gets a live table, anything else a line now and then. However this ends, no process is left behind.

    Args:
        jobs: In the order in which they are started; `seconds` is set when one has ended, `error` when it failed.
        console: Where progress is shown.
        workers: How many go on at the same time; None for `count_workers()`.
        keep_going: Whether a failed job leaves the others running.

    Raises:
        JobError: A job failed, and `keep_going` is false; the others that were running are stopped, finished ones
            keep their `run.json`.
    """
    workers = workers or count_workers()
    live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None
    with _stoppable():
        try:
            if live:
                live.start()
            _watch(jobs, console, live, workers, keep_going)
        finally:
            if live:
                live.stop()
            _stop(jobs)


def _watch(jobs: Sequence[Job], console: Console, live: Live | None, workers: int, keep_going: bool) -> None:
    """Start the jobs and wait for them."""
    begun = last_line = time.monotonic()
    while any(job.seconds is None for job in jobs):
        running = [job for job in jobs if job.process is not None and job.seconds is None]
        for job in [job for job in jobs if job.process is None][: workers - len(running)]:
            _start(job)
            if not live:
                console.print(f"started: {job.name}", highlight=False)
        for job in running:
            _read_progress(job)
            if job.process is not None and job.process.poll() is not None:
                _finish(job)
                if job.error and not keep_going:
                    raise JobError(job.error)
                # With many jobs the live table shows only those that run.
                if job.error:
                    console.print(job.error, highlight=False, markup=False, soft_wrap=True)
                elif not live:
                    console.print(f"finished: {job.name}, {job.seconds:.0f} s", highlight=False)
        now = time.monotonic()
        if live:
            live.update(_show_progress(jobs, now - begun, workers))
        elif now - last_line > _PLAIN_SECONDS:
            last_line = now
            parts = [_describe(job) for job in jobs if job.phase in _ACTIVE]
            left = _format_seconds(_estimate_remaining(jobs, workers))
            console.print(
                f"{now - begun:.0f} s: {_count(jobs)}; {'; '.join(parts)}; about {left} left",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
        time.sleep(_POLL_SECONDS)


def _stop(jobs: Sequence[Job]) -> None:
    """End whatever still runs: asked first, all at once, and killed when that does not help."""
    processes = [job.process for job in jobs if job.process is not None and job.process.poll() is None]
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        # Whatever it started, and itself if it would not end.
        _signal(process, signal.SIGKILL)
        process.wait()
    for job in jobs:
        if job.log is not None:
            job.log.close()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let a signal that would end this process at once end it in order; Ctrl-C does so already."""
    before: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read_progress(job: Job) -> None:
    rows = read_metrics(job.folder / "metrics.jsonl")
    if rows:
        job.last = rows[-1]
        job.tokens = sum(int(row.get("tokens") or 0) for row in rows)


def _finish(job: Job) -> None:
    assert job.process is not None
    job.seconds = time.monotonic() - job.started
    if job.log is not None:
        job.log.close()
    if job.process.returncode != 0 or not (job.folder / "run.json").is_file():
        lines = job.log_path.read_text(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit status {job.process.returncode}"
        job.error = f"{job.name} failed: {reason} (whole log: {job.log_path}); finished runs are kept"


def _project(job: Job) -> float | None:
    """Estimate how long a run takes in all; None while nothing tells."""
    if job.seconds is not None:
        return job.seconds
    if job.process is None or not job.share_done:
        return None
    # What comes before the first step and after the last is small beside the steps.
    return (time.monotonic() - job.started) / job.share_done


def _estimate_remaining(jobs: Sequence[Job], workers: int) -> float | None:
    """Estimate the seconds until all jobs are done; None while no run has got far enough to tell."""
    known: dict[bool, list[float]] = {True: [], False: []}
    for job in jobs:
        projected = _project(job)
        # One that failed at once says nothing about how long the others take.
        if projected is not None and not job.error:
            known[job.is_long].append(projected)
    every = known[True] + known[False]
    if not every or (not known[True] and any(job.is_long and job.seconds is None for job in jobs)):
        return None
    left = 0.0
    for job in jobs:
        if job.seconds is None:
            alike = known[job.is_long] or every
            total = _project(job) or sum(alike) / len(alike)
            left += max(0.0, total - (time.monotonic() - job.started if job.process else 0.0))
    return left / min(workers, len(jobs))


def _format_seconds(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _describe(job: Job) -> str:
    text = f"{job.name} {job.phase}"
    return f"{text} {job.share_done:.0%}" if job.phase == "training" else text


def _count(jobs: Sequence[Job]) -> str:
    """Say how many jobs are done, and how many failed."""
    phases = [job.phase for job in jobs]
    failed = f", {phases.count('failed')} failed" if "failed" in phases else ""
    return f"{phases.count('done')} of {len(jobs)} done{failed}"


def _show_progress(jobs: Sequence[Job], elapsed: float, workers: int) -> Group:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("run", "", "", "step", "reward", "success", "left"):
        table.add_column(column, justify="right" if column in ("step", "reward", "success", "left") else "left")
    for job in jobs:
        if len(jobs) > _MOST_ROWS and job.phase not in _ACTIVE:
            continue
        projected, phase = _project(job), job.phase
        left = ""
        if phase == "training" and projected is not None:
            left = _format_seconds(projected - (time.monotonic() - job.started))
        elif phase == "done":
            left = f"took {_format_seconds(job.seconds)}"
        table.add_row(
            job.name,
            Text(phase, style={"done": "green", "waiting": "dim", "failed": "red"}.get(phase, "bold")),
            ProgressBar(total=1.0, completed=max(job.share_done, float(phase == "done")), width=24),
            f"{job.steps_done}/{job.steps}" if job.steps else "",
            _figure(job.last.get("reward")) if job.shows_figures else "",
            _figure(job.last.get("success")) if job.shows_figures else "",
            left,
        )
    remaining = _format_seconds(_estimate_remaining(jobs, workers))
    footer = Text(
        f"{_count(jobs)}, {_format_seconds(elapsed)} gone, about {remaining} left, {workers} at a time",
        style="dim",
    )
    return Group(table, footer)


def _figure(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else ""
