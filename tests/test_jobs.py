"""Jobs as processes: what they leave, how failures end, what is shown on the way."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from agents import jobs
from agents.jobs import Job

# What a job's process does, in place of training.
WRITE = (
    "import json, os, pathlib, sys;"
    "keys = ['OMP_NUM_THREADS', 'MKL_NUM_THREADS'];"
    "pathlib.Path(sys.argv[1]).write_text(json.dumps([sys.argv[2], *map(os.environ.get, keys)]))"
)


@pytest.fixture(autouse=True)
def _poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_POLL_SECONDS", 0.02)


def make_job(folder: Path, code: str, *arguments: str) -> Job:
    return Job(f"run {folder.name}", [sys.executable, "-c", code, *arguments], folder)


def test_metrics_are_read_while_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert jobs.read_metrics(path) == []
    path.write_text('{"step": 1, "reward": 0.5}\n{"step": 2, "rew')
    assert jobs.read_metrics(path) == [{"step": 1, "reward": 0.5}]


def test_a_run_is_finished_only_whole_and_with_its_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    assert jobs.load_run(tmp_path, "a") is None
    run = {"fingerprint": "a", "figure": 1}
    jobs.write_json(path, run)
    assert jobs.load_run(tmp_path, "a") == run
    assert jobs.load_run(tmp_path, "b") is None
    # Cut off before it is complete, a new attempt to write leaves the file as it was.
    monkeypatch.setattr(jobs.json, "dumps", lambda *given, **named: "\ud800")
    with pytest.raises(UnicodeEncodeError):
        jobs.write_json(path, {"fingerprint": "b"})
    assert jobs.load_run(tmp_path, "a") == run
    path.write_text('{"fingerprint": "a", "fig')
    assert jobs.load_run(tmp_path, "a") is None


@pytest.mark.parametrize("terminal", [False, True])
def test_jobs_run_in_processes_and_report_on_their_way(tmp_path: Path, terminal: bool) -> None:
    folders = [tmp_path / name for name in "abc"]
    todo = [make_job(folder, WRITE, str(folder / "run.json"), folder.name) for folder in folders]
    output = io.StringIO()
    jobs.run_jobs(todo, Console(file=output, width=120, force_terminal=terminal), workers=2)
    for job in todo:
        assert json.loads((job.folder / "run.json").read_text()) == [job.folder.name, "1", "1"]
        assert job.phase == "done"
        assert (job.name if terminal else f"finished: {job.name}") in output.getvalue()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit('no such weights')", "no such weights"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("pass", "exit status 0"),
    ],
)
def test_a_failed_job_is_named_and_stops_the_others(tmp_path: Path, code: str, reason: str) -> None:
    todo = [make_job(tmp_path / "first", code)]
    todo += [make_job(tmp_path / name, "import time; time.sleep(10)") for name in ("second", "third")]
    with pytest.raises(jobs.JobError, match=f"run first failed: {reason}") as caught:
        jobs.run_jobs(todo, Console(file=io.StringIO()), workers=2)
    assert str(tmp_path / "first.log") in str(caught.value)
    assert [job.process is not None for job in todo] == [True, True, False]
    assert all(job.process is None or job.process.returncode is not None for job in todo)


def test_a_failed_job_leaves_the_others_alone_when_asked(tmp_path: Path) -> None:
    bad = make_job(tmp_path / "bad", "import sys; sys.exit('no such weights')")
    good = [make_job(tmp_path / name, WRITE, str(tmp_path / name / "run.json"), name) for name in "ab"]
    output = io.StringIO()
    jobs.run_jobs([bad, *good], Console(file=output, width=120), workers=1, keep_going=True)
    assert "run bad failed: no such weights" in bad.error
    assert bad.error in output.getvalue()
    assert [job.phase for job in (bad, *good)] == ["failed", "done", "done"]
    assert "2 of 3 done, 1 failed" in jobs._count([bad, *good])


# Starts a process of its own, writes down both, and neither ends by itself.
PAIR = (
    "import os, pathlib, subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "pathlib.Path(sys.argv[1]).write_text(f'{os.getpid()} {child.pid}');"
    "time.sleep(60)"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_no_process_behind(tmp_path: Path, number: int) -> None:
    pids = tmp_path / "pids"
    code = (
        "import sys; from pathlib import Path; from rich.console import Console; from agents import jobs;"
        "job = jobs.Job('pair', [sys.executable, '-c', sys.argv[1], sys.argv[2]], Path(sys.argv[3]));"
        "jobs.run_jobs([job], Console(), workers=1)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, PAIR, str(pids), str(tmp_path / "run")], stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    parent.send_signal(number)
    _, errors = parent.communicate(timeout=30)
    assert parent.returncode != 0
    assert ("Stopped" if number != signal.SIGINT else "KeyboardInterrupt") in errors
    wait_for(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        # One that has ended but that nobody has asked after yet is still listed.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_budget_of_tokens_counts_as_progress(tmp_path: Path) -> None:
    job = Job("GRPO", [], tmp_path, steps=100, budget=400)
    rows = [{"step": step, "tokens": 50} for step in (1, 2, 3, 4)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    jobs._read_progress(job)
    assert (job.steps_done, job.tokens, job.share_done) == (4, 200, 0.5)
    job.budget = 0
    assert job.share_done == 0.04


def test_of_many_jobs_only_those_that_run_are_shown(tmp_path: Path) -> None:
    todo = [Job(f"run {number}", [], tmp_path / str(number), steps=9) for number in range(30)]
    todo[3].process = object()  # type: ignore[assignment]
    todo[4].error = "broken"
    text = io.StringIO()
    Console(file=text, width=100).print(jobs._show_progress(todo, 10.0, 2))
    assert "run 3" in text.getvalue()
    assert "run 5" not in text.getvalue()
    assert "0 of 30 done, 1 failed" in text.getvalue()


def test_remaining_time_needs_a_long_job_that_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.time, "monotonic", lambda: 100.0)
    quick = Job("Base", [], tmp_path / "base", seconds=5.0)
    long = [Job(f"GRPO, seed {seed}", [], tmp_path / f"grpo{seed}", steps=60, is_long=True) for seed in range(6)]
    sft = [Job(f"SFT, seed {seed}", [], tmp_path / f"sft{seed}", 60, shows_figures=False) for seed in range(2)]
    todo = [quick, *long, *sft]
    assert jobs._estimate_remaining(todo, 2) is None
    running = long[0]
    running.process, running.started = object(), 90.0  # type: ignore[assignment]
    assert jobs._estimate_remaining(todo, 2) is None
    running.last = {"step": 30, "success": 0.25}
    # Half done in 10 s: 10 s left, 20 s for each other long job, and for SFT as long as the base took.
    assert jobs._estimate_remaining(todo, 2) == pytest.approx((10 + 5 * 20 + 2 * 5) / 2)
    sft[0].last = {"step": 1, "success": 0.75}
    text = io.StringIO()
    Console(file=text, width=100).print(jobs._show_progress(todo, 10.0, 2))
    assert "GRPO, seed 0" in text.getvalue()
    assert "1:00 left" in text.getvalue()
    assert "0.25" in text.getvalue()
    assert "0.75" not in text.getvalue()
