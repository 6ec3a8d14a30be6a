"""The demo: settings, fairness, what is kept and redone, processes, and gathering."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip("matplotlib")

from agents import demo
from agents.scripted import NoisyTeacher


@pytest.fixture
def settings() -> demo.DemoSettings:
    settings = demo.load_settings(quick=True)
    settings.evaluation.splits = [("math", "test"), ("math", "ood-tools")]
    settings.evaluation.tasks = 8
    return settings


def test_shipped_settings_are_read_and_quick_is_smaller() -> None:
    full, quick = demo.load_settings(), demo.load_settings(quick=True)
    assert len(full.seeds) >= 2
    assert quick.seeds == full.seeds
    assert quick.shared["steps"] < full.shared["steps"]
    assert quick.evaluation.tasks < full.evaluation.tasks
    # A section is changed, not replaced.
    assert quick.shared["model"] == full.shared["model"]
    assert full.evaluation.splits[0] == ("math", "test")


def test_training_looks_at_the_validation_split_only() -> None:
    settings = demo.load_settings()
    for arm in demo.ARMS[1:]:
        config = demo.make_config(arm, 0, settings, Path("unused"))
        assert (config.split, config.eval_split) == ("train", "valid")
    assert all(split not in ("train", "valid") for _, split in settings.evaluation.splits)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: [0, 1]", "seed: [0, 1]", "`seed"),
        ("seeds: [0, 1]", "seeds: [0, one]", "Expected `int`"),
        ("seeds: [0, 1]", "seeds: [0, 0]", "twice"),
        ("  samples: 4", "  sample: 4", "evaluation"),
        ("seeds: [0, 1]", "seeds: [0, 1", "cannot be read"),
    ],
)
def test_broken_settings_are_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "demo.yaml"
    shipped = (Path(demo.__file__).parent / "configs" / "demo.yaml").read_text()
    assert old in shipped
    path.write_text(shipped.replace(old, new, 1))
    with pytest.raises(demo.DemoError, match=message) as caught:
        demo.load_settings(path=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_grpo_arms_differ_in_the_reward_alone() -> None:
    settings = demo.load_settings()
    arms = [arm for arm in demo.ARMS if arm.startswith("grpo")]
    configs = {arm: demo.asdict(demo.make_config(arm, 1, settings, Path("unused"))) for arm in arms}
    demo.check_fair(configs)
    assert {config["reward"] for config in configs.values()} == {"sparse", "mentor", "strict"}
    configs["grpo-mentor"]["learning_rate"] *= 2
    with pytest.raises(demo.DemoError, match="learning_rate differs"):
        demo.check_fair(configs)


def test_sft_sees_as_many_tasks_as_grpo() -> None:
    settings = demo.load_settings()
    sft, grpo = (demo.make_config(arm, 0, settings, Path("unused")) for arm in ("sft", "grpo-mentor"))
    assert (sft.steps, sft.tasks_per_step, sft.seed) == (grpo.steps, grpo.tasks_per_step, grpo.seed)


def test_fingerprint_follows_whatever_changes_a_run(settings: demo.DemoSettings, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("a")
    settings.shared["model"] = str(model)
    seen = {demo.compute_fingerprint("grpo-mentor", 0, settings)}
    assert demo.compute_fingerprint("grpo-mentor", 0, settings) in seen
    seen.add(demo.compute_fingerprint("grpo-mentor", 1, settings))
    seen.add(demo.compute_fingerprint("grpo-sparse", 0, settings))
    settings.evaluation.samples += 1
    seen.add(demo.compute_fingerprint("grpo-mentor", 0, settings))
    settings.rl["kl_coef"] = 0.5
    seen.add(demo.compute_fingerprint("grpo-mentor", 0, settings))
    (model / "weights").write_text("b")
    seen.add(demo.compute_fingerprint("grpo-mentor", 0, settings))
    assert len(seen) == 6


def test_metrics_are_read_while_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert demo.read_metrics(path) == []
    path.write_text('{"step": 1, "reward": 0.5}\n{"step": 2, "rew')
    assert demo.read_metrics(path) == [{"step": 1, "reward": 0.5}]


def test_figures_of_the_teacher_do_not_pass_for_the_student(
    settings: demo.DemoSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    row = {
        "step": 1,
        "success": 1.0,
        "tool_f1": 1.0,
        "reward/outcome": 0.7,
        "tokens": 5,
        "loss": 2.0,
        "valid/success": 0.3,
    }

    def train(config: Any, progress: bool) -> Path:
        (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        return tmp_path / "final"

    monkeypatch.setattr("agents.train.train", train)
    model, sft = demo._train(demo.make_config("sft", 0, settings, tmp_path))
    assert model == str(tmp_path / "final")
    assert sft["curve"] == [{"step": 1, "loss": 2.0, "valid/success": 0.3}]
    assert sft["tokens"] == 5
    config = demo.make_config("grpo-mentor", 0, settings, tmp_path)
    _, grpo = demo._train(config)
    assert grpo["curve"] == [row]
    assert grpo["distinct_tasks"] == sft["distinct_tasks"] == config.steps * config.tasks_per_step
    assert grpo["episodes"] == sft["episodes"] * config.group_size


def make_noisy(name: str, temperature: float, seed: int, **limits: Any) -> NoisyTeacher:
    return NoisyTeacher(rate=0.5 if name == "tiny" else 0.2, seed=seed + int(10 * temperature))


def make_runs(settings: demo.DemoSettings, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    with monkeypatch.context() as patch:
        patch.setattr("agents.base.load_agent", make_noisy)
        runs = []
        for job in demo.make_jobs(settings, Path("unused")):
            splits, shown = demo.measure("tiny" if job.arm == "base" else "trained", job.seed, settings)
            training = None
            if job.arm != "base":
                config = demo.asdict(demo.make_config(job.arm, job.seed, settings, job.folder))
                curve = [{"step": step, "success": 0.5, "valid/success": 0.5} for step in (1, 2)]
                training = {"tokens": 9, "cpu_seconds": 1.0, "distinct_tasks": 8, "episodes": 8, "curve": curve}
                training["config"] = config
            runs.append(
                {"arm": job.arm, "seed": job.seed, "training": training, "validation": None, "splits": splits}
                | {"transcripts": shown}
            )
    return runs


def test_runs_are_gathered_into_a_report(
    settings: demo.DemoSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = make_runs(settings, monkeypatch)
    ids = [run["splits"]["test"]["task_ids"] for run in runs]
    assert all(one == ids[0] for one in ids), "every run is measured on the same tasks"
    output = io.StringIO()
    page = demo.write_results(runs, settings, tmp_path / "out", True, 61.0, Console(file=output, width=120))
    assert page == tmp_path / "out" / "report.html"
    for name in ("report.html", "results.json", "curves.png", "similarity.png"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["summary"]) == list(demo.ARMS)
    assert results["settings"]["differing"]["grpo-strict"]["reward"] == "strict"
    assert "reward" not in results["settings"]["shared"]
    text = output.getvalue()
    for label in ("Base", "SFT", "GRPO sparse", "GRPO MENTOR", "GRPO strict", "ood-tools", "similarity"):
        assert label in text
    for shown in results["transcripts"]:
        assert shown["teacher"]["is_success"]
        assert sum(shown["teacher"]["reward_terms"].values()) == pytest.approx(1.1)
        assert shown["teacher"]["task_id"] == shown["before"]["task_id"] == shown["after"]["task_id"]


# What a run's process does in the tests below, in place of training.
WRITE = "import json, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(json.dumps({'arm': sys.argv[2]}))"


@pytest.mark.parametrize("terminal", [False, True])
def test_jobs_run_in_processes_and_report_on_their_way(
    settings: demo.DemoSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(
        demo,
        "make_command",
        lambda job, out, quick: [sys.executable, "-c", WRITE, str(job.folder / "run.json"), job.arm],
    )
    monkeypatch.setattr(demo, "_POLL_SECONDS", 0.02)
    jobs = demo.make_jobs(settings, tmp_path)[:3]
    output = io.StringIO()
    demo._run_jobs(jobs, tmp_path, True, Console(file=output, width=120, force_terminal=terminal))
    assert [json.loads((job.folder / "run.json").read_text())["arm"] for job in jobs] == [job.arm for job in jobs]
    for job in jobs:
        assert job.phase == "done"
        assert (job.name if terminal else f"finished: {job.name}") in output.getvalue()


def test_a_failed_run_is_named_and_stops_the_others(
    settings: demo.DemoSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = {"base": "import sys; sys.exit('no such weights')"}
    monkeypatch.setattr(
        demo,
        "make_command",
        lambda job, out, quick: [sys.executable, "-c", scripts.get(job.arm, "import time; time.sleep(60)")],
    )
    monkeypatch.setattr(demo, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(demo, "count_workers", lambda: 2)
    jobs = demo.make_jobs(settings, tmp_path)
    with pytest.raises(demo.DemoError, match="Base failed: no such weights"):
        demo._run_jobs(jobs, tmp_path, True, Console(file=io.StringIO()))
    started = [job for job in jobs if job.process is not None]
    assert len(started) == 2
    assert all(job.process is not None and job.process.returncode is not None for job in started)


def test_finished_runs_are_kept_and_changed_ones_redone(
    settings: demo.DemoSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {(run["arm"], run["seed"]): run for run in make_runs(settings, monkeypatch)}
    redone: list[str] = []

    def run_jobs(jobs: list[demo.Job], out: Path, quick: bool, console: Console) -> None:
        for job in jobs:
            redone.append(job.folder.name)
            job.folder.mkdir(parents=True, exist_ok=True)
            run = {**runs[job.arm, job.seed], "fingerprint": demo.compute_fingerprint(job.arm, job.seed, settings)}
            (job.folder / "run.json").write_text(json.dumps(run))

    monkeypatch.setattr(demo, "_run_jobs", run_jobs)
    monkeypatch.setattr(demo, "load_settings", lambda quick=False: settings)
    demo.demo(tmp_path, quick=True)
    assert len(redone) == 1 + 4 * len(settings.seeds)
    redone.clear()
    demo.demo(tmp_path, quick=True)
    assert redone == []
    settings.sft["learning_rate"] = 1e-5
    (tmp_path / "runs-quick" / "grpo-mentor-seed1" / "run.json").write_text('{"half a')
    demo.demo(tmp_path, quick=True)
    assert sorted(redone) == ["grpo-mentor-seed1", "sft-seed0", "sft-seed1"]


def test_remaining_time_needs_a_grpo_run_that_has_started(
    settings: demo.DemoSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo.time, "monotonic", lambda: 100.0)
    jobs = demo.make_jobs(settings, tmp_path)
    jobs[0].seconds = 5.0
    assert demo._estimate_remaining(jobs, 2) is None
    running = jobs[1]
    running.process, running.started, running.last = object(), 90.0, {"step": running.steps // 2}  # type: ignore[assignment]
    # Half done in 10 s: 10 s left, 20 s for each other GRPO run, and for SFT as long as the base took.
    assert demo._estimate_remaining(jobs, 2) == pytest.approx((10 + 5 * 20 + 2 * 5) / 2)
    text = io.StringIO()
    Console(file=text, width=100).print(demo._show_progress(jobs, 10.0, 2))
    assert "GRPO sparse, seed 0" in text.getvalue()
    assert "1:00 left" in text.getvalue()
