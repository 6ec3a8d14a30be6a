"""Jobs as processes: what they leave, how failures end, what is shown on the way."""

from __future__ import annotations

import io
import json
import sys
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
