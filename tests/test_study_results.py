"""The shipped results of the study: complete, made by the shipped plan, and told in the README as they are."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import answer, call
from PIL import Image

from agents import study
from agents.plots import get_style
from agents.study_plan import BASE, Run, list_runs, make_config
from agents.study_reader import load_study
from agents.study_statistics import (
    Resampler,
    Study,
    decide,
    estimate,
    format_amount,
    format_prediction,
    get_unit,
)
from mentor_gym.env import MentorToolEnv
from mentor_gym.rewards import make_reward

FOLDER = Path(study.__file__).parent / "results" / "study"
README = " ".join((Path(study.__file__).parents[1] / "README.md").read_text().split())
SPLITS = ("test", "valid", "ood-compose", "ood-tools")


@cache
def read_results() -> dict[str, Any]:
    results: dict[str, Any] = json.loads((FOLDER / "results.json").read_text())
    return results


@cache
def read_study() -> Study:
    return Study(read_results())


def write_hypothesis(one: dict[str, Any]) -> str:
    """Write the README's line of a decided hypothesis."""
    mean, low, high = (format_amount(one["measure"], one[key]) for key in ("mean", "low", "high"))
    effect = f"{mean} ({low} to {high}){get_unit(one['measure'])}".replace("-", "−")
    return f"| {one['statement']} | {format_prediction(one)} | {effect} | {one['verdict']} |"


def write_arm(arm: str) -> str:
    """Write the README's line of an arm without any of the axes' causes."""
    cells = [write_cell(estimate_cell("main", arm, split)) for split in SPLITS]
    calls = estimate_cell("main", arm, "test", "calls")
    return f"| {get_style(arm)[0]} | {' | '.join(cells)} | {calls['mean']:.1f} |"


def estimate_cell(condition: str, arm: str, split: str, measure: str = "sampled") -> dict[str, float]:
    values = read_study().values(measure, condition, arm, split)
    assert values is not None
    found = estimate([(1.0, values)], Resampler())
    assert found is not None
    return found


def write_cell(cell: dict[str, float]) -> str:
    return f"{100 * cell['mean']:.1f} ({100 * cell['low']:.1f}–{100 * cell['high']:.1f})"


def test_every_run_of_the_plan_is_there_once() -> None:
    results = read_results()
    assert results["missing"] == []
    assert results["quick"] is False
    names = [field.name for field in fields(Run)]
    found = Counter(Run(**{name: run[name] for name in names}) for run in results["runs"])
    assert found == Counter(list_runs(load_study("study")))


def test_they_were_made_with_the_shipped_plan() -> None:
    results, settings = read_results(), load_study("study")
    assert results["settings"] == msgspec.to_builtins(settings)
    for arm, kept in results["configs"].items():
        config = asdict(make_config(settings, arm))
        # A setting that came later had what is now its default.
        assert {key: config[key] for key in kept} == kept


def test_arms_that_learn_from_rewards_spent_the_same() -> None:
    budget = load_study("study").training.rl["token_budget"]
    trainings = [run["training"] for run in read_results()["runs"] if "training" in run]
    spent = [training["tokens"] for training in trainings if "zero_variance" in training["curve"]]
    assert len(spent) > 250
    # A run ends with the step that spends it.
    assert budget <= min(spent) <= max(spent) < 1.1 * budget


def test_verdicts_follow_from_the_runs() -> None:
    results, resampler = read_results(), Resampler()
    for stored in results["summary"]["hypotheses"]:
        asked = {key: stored[key] for key in results["settings"]["hypotheses"][0]}
        assert asked in results["settings"]["hypotheses"]
        assert decide(read_study(), asked, resampler) == stored
        assert stored["seeds"] == 5


def test_the_readme_tells_every_verdict() -> None:
    decided = read_results()["summary"]["hypotheses"]
    for one in decided:
        assert write_hypothesis(one) in README
    counts = Counter(one["verdict"] for one in decided)
    told = (
        f"{counts['held']} held, {counts['contradicted']} were contradicted, {counts['undecided']} are undecided"
    )
    assert told in README


def test_the_readme_has_the_arms_without_any_cause() -> None:
    for arm in (BASE, *read_study().arms_of("main")):
        assert write_arm(arm) in README


@pytest.mark.parametrize(
    ("condition", "split", "measure", "arms"),
    [
        ("sure-notes", "stale-notes", "sampled", "sparse mentor"),
        ("sure-notes", "without-notes", "sampled", "sparse mentor"),
        ("sure-notes", "right-notes", "greedy", "base"),
        ("noise-50", "test", "sampled", "sft"),
        ("main", "test", "greedy", "base"),
        ("strong", "test", "greedy", "base"),
        ("weak", "test", "sampled", "base"),
    ],
)
def test_figures_in_the_text_are_those_of_the_runs(condition: str, split: str, measure: str, arms: str) -> None:
    for arm in arms.split():
        assert write_cell(estimate_cell(condition, arm, split, measure)) in README


@pytest.mark.parametrize(
    ("measure", "split", "terms"),
    [
        ("sampled", "test", "+sft/main -sparse/main"),
        ("greedy", "test", "+sft/main -sparse/main"),
        ("tool_use", "stale-notes", "+strict/sure-notes -mentor/sure-notes"),
        ("tool_f1", "several-ways", "+strict/paths-100 -sparse/paths-100"),
        ("sampled", "several-ways", "+toolrl/paths-100 -sparse/paths-100 -toolrl/paths-0 +sparse/paths-0"),
        ("sampled", "several-ways", "+sft/paths-100 -sparse/paths-100 -sft/paths-0 +sparse/paths-0"),
        ("tokens_to_threshold", "", "+toolrl/main -mentor/main"),
        ("greedy", "test", "+sft/noise-50 -sft/main"),
        ("sampled", "test", "+toolrl/noise-50 -toolrl/main"),
        ("tokens_to_threshold", "", "+mentor/weak -sparse/weak"),
    ],
)
def test_differences_in_the_text_are_those_of_the_runs(measure: str, split: str, terms: str) -> None:
    weighed = []
    for term in terms.split():
        arm, _, condition = term[1:].partition("/")
        values = read_study().values(measure, condition, arm, split)
        assert values is not None
        weighed.append((float(f"{term[0]}1"), values))
    found = estimate(weighed, Resampler())
    assert found is not None
    mean, low, high = (format_amount(measure, found[key]) for key in ("mean", "low", "high"))
    assert f"{mean} ({low} to {high})".replace("-", "−") in README


def test_the_text_counts_what_the_runs_show() -> None:
    study_ = read_study()
    used = study_.values("tool_use", "sure-notes", "sparse", "stale-notes")
    assert used is not None
    *first, last = (f"{100 * share:.0f}" for share in used.table.mean(1))
    assert f"call tools in {', '.join(first)} and {last} % of the episodes" in README
    shares = [study_.values("zero_variance_early", "weak", arm) for arm in ("sparse", "mentor", "step-aligned")]
    sparse, mentor, aligned = (100 * float(share.table.mean()) for share in shares if share is not None)
    assert f"({sparse:.0f} against {mentor:.0f} %)" in README
    assert f"which gives {aligned:.1f} % of such groups" in README
    ends = [study_.values("train_success", "sure-notes", arm) for arm in ("sparse", "mentor")]
    sparse, mentor = (100 * float(end.table.mean()) for end in ends if end is not None)
    assert f"{sparse:.1f} % of the episodes succeed, {mentor:.1f} % with MENTOR" in README
    for arm in study_.arms_of("sure-notes"):
        used = study_.values("tool_use", "sure-notes", arm, "stale-notes")
        assert used is not None
        assert arm == "sparse" or used.table.mean(1).min() >= 0.865


def test_what_rewards_pay_for_other_ways_is_as_the_text_says() -> None:
    env = MentorToolEnv("math", split="test")
    paid: dict[str, list[float]] = {}
    other_way = (call("add", a=53, b=26), answer(1378))
    for turns in (other_way, (call("multiply", a=53, b=26), answer(79))):
        env.reset(options={"task_id": "math-test-00000"})
        for turn in turns:
            env.step(turn)
        for name in ("strict", "mentor", "toolrl"):
            paid.setdefault(name, []).append(sum(make_reward(name)(env.transcript).values()))
    assert paid["strict"] == paid["mentor"] == pytest.approx([0.8, 0.16])
    assert paid["toolrl"] == pytest.approx([0.33, 3.0], abs=0.005)


def test_figures_are_there_and_in_the_readme() -> None:
    axes = [f"axis-{axis['name']}" for axis in read_results()["settings"]["axes"]]
    for name in (*axes, "curves", "zero-variance"):
        with Image.open(FOLDER / "figures" / f"{name}.png") as image:
            assert image.width > 600
    shown = re.findall(r"agents/results/study/figures/([\w-]+)\.png", README)
    assert set(axes) <= set(shown)


@pytest.mark.slow
def test_the_page_can_be_made_without_the_runs(tmp_path: Path) -> None:
    page = study.study(FOLDER / "results.json", tmp_path, report_only=True)
    assert page is not None
    assert page.stat().st_size > 1_000_000
    assert (tmp_path / "results.json").read_text() == (FOLDER / "results.json").read_text()
