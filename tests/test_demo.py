"""The demo: its arms and their settings, fairness, what is kept and redone, and gathering."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip("matplotlib")

from agents import arms, demo
from agents.jobs import Job
from agents.scripted import NoisyTeacher


@pytest.fixture
def settings() -> arms.DemoSettings:
    settings = arms.load_settings(quick=True)
    settings.evaluation.splits = [("math", "test"), ("math", "ood-tools")]
    settings.evaluation.tasks = 8
    return settings


def test_shipped_settings_are_read_and_quick_is_smaller() -> None:
    full, quick = arms.load_settings(), arms.load_settings(quick=True)
    assert len(full.seeds) >= 2
    assert quick.seeds == full.seeds
    assert quick.shared["steps"] < full.shared["steps"]
    assert quick.evaluation.tasks < full.evaluation.tasks
    # A section is changed, not replaced.
    assert quick.shared["model"] == full.shared["model"]
    assert full.evaluation.splits[0] == ("math", "test")


def test_training_looks_at_the_validation_split_only() -> None:
    settings = arms.load_settings()
    for arm in arms.ARMS[1:]:
        config = arms.make_config(arm, 0, settings, Path("unused"))
        assert (config.split, config.eval_split) == ("train", "valid")
    assert all(split not in ("train", "valid") for _, split in settings.evaluation.splits)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: [0, 1]", "seed: [0, 1]", "line LINE: .*`seed"),
        ("seeds: [0, 1]", "seeds: [0, one]", "line LINE: Expected `int`"),
        ("seeds: [0, 1]", "seeds: [0, 0]", "twice"),
        ("seeds: [0, 1]", "seeds: [0, 1]\nseeds: [2]", r'field "seeds" stands twice, first in line LINE'),
        ("  samples: 4", "  sample: 4", "line [0-9]+: .*evaluation"),
        ("seeds: [0, 1]", "seeds: [0, 1", "line [0-9]+: not YAML"),
        ("seeds: [0, 1]", "seeds: [0, \udcff]", "not UTF-8"),
        ("\nquick:\n", "\nquick: 3\nrest:\n", "line [0-9]+: quick: expected a mapping"),
    ],
)
def test_broken_settings_are_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "demo.yaml"
    shipped = (Path(arms.__file__).parent / "configs" / "demo.yaml").read_text()
    assert old in shipped
    path.write_text(shipped.replace(old, new, 1), encoding="utf-8", errors="surrogateescape")
    line = shipped[: shipped.index(old)].count("\n") + 1
    with pytest.raises(arms.DemoError, match=message.replace("LINE", str(line))) as caught:
        arms.load_settings(path=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_in_the_quick_section_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    shipped = (Path(arms.__file__).parent / "configs" / "demo.yaml").read_text()
    before, after = shipped.split("\nquick:\n")
    path.write_text(f"{before}\nquick:\n  seeds: [zero]\n{after}")
    arms.load_settings(path=path)
    line = before.count("\n") + 2
    with pytest.raises(arms.DemoError, match=f"line {line}: Expected `int`"):
        arms.load_settings(quick=True, path=path)


def test_grpo_arms_differ_in_the_reward_alone() -> None:
    settings = arms.load_settings()
    grpo = [arm for arm in arms.ARMS if arm.startswith("grpo")]
    configs = {arm: asdict(arms.make_config(arm, 1, settings, Path("unused"))) for arm in grpo}
    arms.check_fair(configs)
    assert {config["reward"] for config in configs.values()} == {"sparse", "mentor", "strict"}
    configs["grpo-mentor"]["learning_rate"] *= 2
    with pytest.raises(arms.DemoError, match="learning_rate differs"):
        arms.check_fair(configs)


def test_sft_sees_as_many_tasks_as_grpo() -> None:
    settings = arms.load_settings()
    sft, grpo = (arms.make_config(arm, 0, settings, Path("unused")) for arm in ("sft", "grpo-mentor"))
    assert (sft.steps, sft.tasks_per_step, sft.seed) == (grpo.steps, grpo.tasks_per_step, grpo.seed)


def test_fingerprint_follows_whatever_changes_a_run(settings: arms.DemoSettings, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("a")
    settings.shared["model"] = str(model)
    seen = {arms.compute_fingerprint("grpo-mentor", 0, settings)}
    assert arms.compute_fingerprint("grpo-mentor", 0, settings) in seen
    seen.add(arms.compute_fingerprint("grpo-mentor", 1, settings))
    seen.add(arms.compute_fingerprint("grpo-sparse", 0, settings))
    settings.evaluation.samples += 1
    seen.add(arms.compute_fingerprint("grpo-mentor", 0, settings))
    settings.rl["kl_coef"] = 0.5
    seen.add(arms.compute_fingerprint("grpo-mentor", 0, settings))
    (model / "weights").write_text("b")
    seen.add(arms.compute_fingerprint("grpo-mentor", 0, settings))
    assert len(seen) == 6


def test_figures_of_the_teacher_do_not_pass_for_the_student(
    settings: arms.DemoSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    row = {
        "step": settings.shared["steps"],
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
    model, sft = arms.train_run(arms.make_config("sft", 0, settings, tmp_path))
    assert model == str(tmp_path / "final")
    assert sft["curve"] == [{"step": row["step"], "tokens": 5, "loss": 2.0, "valid/success": 0.3}]
    assert sft["tokens"] == 5
    config = arms.make_config("grpo-mentor", 0, settings, tmp_path)
    _, grpo = arms.train_run(config)
    assert grpo["curve"] == [row]
    assert grpo["distinct_tasks"] == sft["distinct_tasks"] == config.steps * config.tasks_per_step
    assert grpo["episodes"] == sft["episodes"] * config.group_size


def make_noisy(name: str, temperature: float, seed: int, **limits: Any) -> NoisyTeacher:
    return NoisyTeacher(rate=0.5 if name == "tiny" else 0.2, seed=seed + int(10 * temperature))


def make_runs(settings: arms.DemoSettings, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    with monkeypatch.context() as patch:
        patch.setattr("agents.base.load_agent", make_noisy)
        runs = []
        for arm, seed in demo.list_runs(settings):
            splits, shown = arms.measure("tiny" if arm == "base" else "trained", seed, settings)
            training = None
            if arm != "base":
                config = asdict(arms.make_config(arm, seed, settings, Path("unused")))
                curve = [{"step": step, "success": 0.5, "valid/success": 0.5} for step in (1, 2)]
                training = {"tokens": 9, "cpu_seconds": 1.0, "distinct_tasks": 8, "episodes": 8, "curve": curve}
                training["config"] = config
            runs.append(
                {"arm": arm, "seed": seed, "training": training, "validation": None, "splits": splits}
                | {"transcripts": shown}
            )
    return runs


def test_runs_are_gathered_into_a_report(
    settings: arms.DemoSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    assert list(results["summary"]) == list(arms.ARMS)
    assert results["settings"]["differing"]["grpo-strict"]["reward"] == "strict"
    assert "reward" not in results["settings"]["shared"]
    text = output.getvalue()
    for label in ("Base", "SFT", "GRPO sparse", "GRPO MENTOR", "GRPO strict", "ood-tools", "similarity"):
        assert label in text
    for shown in results["transcripts"]:
        assert shown["teacher"]["is_success"]
        assert sum(shown["teacher"]["reward_terms"].values()) == pytest.approx(1.1)
        assert shown["teacher"]["task_id"] == shown["before"]["task_id"] == shown["after"]["task_id"]


@pytest.mark.parametrize("quick", [False, True])
def test_the_command_of_a_run_makes_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool) -> None:
    called: list[tuple[Any, ...]] = []
    monkeypatch.setattr(demo, "run_arm", lambda *given: called.append(given))
    settings = arms.load_settings(quick)
    folders = set()
    for arm, seed in demo.list_runs(settings):
        job = demo.make_job(arm, seed, settings, tmp_path, quick)
        assert job.command[1:3] == ["-m", "agents.demo"]
        demo.main(job.command[3:])
        assert called.pop() == (arm, seed, settings, job.folder)
        folders.add(job.folder)
    assert len(folders) == 1 + 4 * len(settings.seeds)


def test_a_run_that_the_demo_does_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        demo.main(["--run", "sft", "--seed", "99"])
    assert "no run of sft with seed 99" in capsys.readouterr().err


def test_finished_runs_are_kept_and_changed_ones_redone(
    settings: arms.DemoSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redone: list[str] = []
    gathered: list[dict[str, Any]] = []

    def run_jobs(jobs: list[Job], console: Console) -> None:
        for job in jobs:
            redone.append(job.folder.name)
            arm, _, seed = job.folder.name.partition("-seed")
            run = {"arm": arm, "fingerprint": arms.compute_fingerprint(arm, int(seed or 0), settings)}
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / "run.json").write_text(json.dumps(run))

    def write_results(runs: list[dict[str, Any]], *rest: Any) -> Path:
        gathered[:] = runs
        return tmp_path / "report.html"

    monkeypatch.setattr(demo, "run_jobs", run_jobs)
    monkeypatch.setattr(demo, "write_results", write_results)
    monkeypatch.setattr(demo, "load_settings", lambda quick=False: settings)
    assert demo.demo(tmp_path, quick=True) == tmp_path / "report.html"
    assert len(redone) == len(gathered) == 1 + 4 * len(settings.seeds)
    redone.clear()
    demo.demo(tmp_path, quick=True)
    assert redone == []
    assert [run["arm"] for run in gathered] == [arm for arm, _ in demo.list_runs(settings)]
    settings.sft["learning_rate"] = 1e-5
    (tmp_path / "runs-quick" / "grpo-mentor-seed1" / "run.json").write_text('{"half a')
    demo.demo(tmp_path, quick=True)
    assert sorted(redone) == ["grpo-mentor-seed1", "sft-seed0", "sft-seed1"]


def test_settings_that_change_during_the_demo_are_noticed(
    settings: arms.DemoSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_jobs(jobs: list[Job], console: Console) -> None:
        for job in jobs:
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / "run.json").write_text('{"fingerprint": "of other settings"}')

    monkeypatch.setattr(demo, "run_jobs", run_jobs)
    with pytest.raises(arms.DemoError, match="changed during the run"):
        demo.demo(tmp_path, quick=True)
