"""Studies: the plan and its mistakes, the statistics, what is kept and redone, the page."""

from __future__ import annotations

import copy
import io
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from html_reader import Reader
from PIL import Image
from rich.console import Console
from transformers import AutoConfig

pytest.importorskip("matplotlib")

from agents import study, study_plan, study_plots, study_report, study_statistics
from agents.jobs import Job
from agents.plots import STUDY_STYLES
from agents.scripted import NoisyTeacher
from agents.study_plan import Folders, Run, StudyError
from agents.study_reader import load_study
from agents.study_statistics import Resampler, Values, estimate

PLAN = """
title: A small <study>
seeds: [1, 2]
bases:
  small: tiny
data:
  plain:
  notes: {split: train, rows: 12, notes: 0.5}
training:
  shared: {steps: 2, tasks_per_step: 2, eval_every: 0, save_every: 0, max_turns: 3, max_new_tokens: 24}
  rl: {group_size: 4}
  sft: {}
arms:
  sft: {algorithm: sft}
  sparse: {reward: sparse}
  mentor: {reward: mentor}
conditions:
  without: {base: small, data: plain, arms: [sparse, mentor], evaluation: usual}
  with: {base: small, data: notes, arms: all, evaluation: usual}
evaluations:
  usual:
    splits:
      test: {suite: math, split: test, tasks: 6}
      noted: {suite: notes, split: train, tasks: 4}
    samples: 2
    temperature: 1.0
    max_turns: 3
    max_new_tokens: 24
    max_context: 512
    prompt: compact
axes:
  - name: notes
    title: Notes
    hypothesis: Notes mislead.
    levels:
      - {label: none, value: 0, condition: without}
      - {label: half, value: 0.5, condition: with}
hypotheses:
  - name: tools
    axis: notes
    statement: MENTOR uses tools more than sparse.
    measure: tool_use
    split: test
    terms:
      - {arm: mentor, condition: with, weight: 1}
      - {arm: sparse, condition: with, weight: -1}
    expect: positive
  - name: time
    axis: notes
    statement: MENTOR is as fast as sparse
    measure: tokens_to_threshold
    terms:
      - {arm: mentor, condition: without, weight: 1}
      - {arm: sparse, condition: without, weight: -1}
    expect: zero
    margin: 50
threshold: 0.5
quick:
  seeds: [7]
  training:
    shared: {steps: 1}
"""


def write_plan(folder: Path, text: str = PLAN) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def settings(tmp_path: Path) -> study_plan.Settings:
    return load_study(write_plan(tmp_path))


# The plan


def test_the_shipped_study_is_read_and_quick_is_smaller() -> None:
    full, quick = load_study("configs/study.yaml"), load_study("study", quick=True)
    assert len(study_plan.list_runs(quick)) < len(study_plan.list_runs(full))
    assert not set(quick.seeds) & set(full.seeds)
    assert {one.axis for one in full.hypotheses} <= {axis.name for axis in full.axes}


def test_quick_changes_a_section_and_does_not_replace_it(tmp_path: Path) -> None:
    path = write_plan(tmp_path)
    assert load_study(path).seeds == [1, 2]
    quick = load_study(path, quick=True)
    assert (quick.seeds, quick.training.shared["steps"], quick.training.shared["tasks_per_step"]) == ([7], 1, 2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: [1, 2]", "seeds: [1, one]", "line LINE: seeds.1: Expected `int`"),
        ("seeds: [1, 2]", "seeds: [1, 1]", "line LINE: seeds: .*none twice"),
        ("seeds: [1, 2]", "seeds: [1, 2", "line [0-9]+: not YAML"),
        ("title:", "titel:", "line LINE: titel: .*unknown field"),
        ("  small: tiny", "  small: tiny\n  small: tiny", 'line [0-9]+: field "bases.small" stands twice'),
        ("  small: tiny", "  small: {documents: 9, chain: 0}", "line LINE: bases.small.chain: no such.*chains"),
        ("notes: 0.5}", "note: 0.5}", "line LINE: data.notes.note: no such argument.*notes"),
        ("rl: {group_size: 4}", "rl: {group_sise: 4}", "line LINE: training.rl.group_sise: no such.*group_size"),
        ("rl: {group_size: 4}", "rl: {group_size: 1}", "line LINE: training.rl.group_size: must be at least 2"),
        ("reward: mentor}", "reward: mentor, seed: 3}", "line LINE: arms.mentor.seed: is set by the study"),
        ("reward: mentor}", "reward: 3}", "line LINE: arms.mentor.reward: expected a name"),
        ("reward: mentor}", "reward: mentor, kl_coef: 0.5}", "kl_coef differs: sparse 0.1, mentor 0.5"),
        ("  mentor: {reward", "  base: {reward", "line LINE: arms.base: .*nobody trained"),
        ("data: notes, arms", "data: nodes, arms", "line LINE: conditions.with.data: no data named.*notes"),
        ("arms: [sparse, mentor]", "arms: [sparse, mentr]", "line LINE: conditions.without.arms: .*mentor"),
        ("samples: 2", "samples: 36", "line LINE: evaluations.usual.samples: must be 1 to 35"),
        ("suite: notes,", "suite: nodes,", "line LINE: evaluations.usual.splits.noted.suite: .*neither"),
        ("samples: 2", "sample: 2", "line [0-9]+: evaluations.usual.sample: .*unknown field"),
        ("condition: without}", "condition: whithout}", "line LINE: .*levels.0.condition: .*without"),
        ("measure: tool_use", "measure: tool_uses", "line LINE: hypotheses.0.measure: .*tool_use"),
        ("    split: test\n    terms", "    terms", "hypotheses.0.split: tool_use has a split"),
        ("    split: test\n    terms", "    split: tset\n    terms", "line LINE: hypotheses.0.split: .*'tset'"),
        ("expect: positive", "expect: yes", "line LINE: hypotheses.0.expect: "),
        ("    margin: 50\n", "", "hypotheses.1.margin: expect: zero needs a margin"),
        ("{arm: sparse, condition: without", "{arm: sft, condition: without", "line LINE: .*'sft' is not trained"),
        ("quick:\n", "quick: 3\nrest:\n", "line LINE: quick: expected a mapping"),
        ("notes: 0.5}", "notes: half}", "line LINE: data.notes.notes: Expected `float`"),
        ("{split: train, rows", "{split: trian, rows", "line LINE: data.notes.split: .*no split 'trian'"),
        ("shared: {steps: 2,", "shared: {steps: 2, split: valid,", "conditions.with.data: .*no split 'valid'"),
        ("split: test, tasks", "split: tset, tasks", "line LINE: .*splits.test.split: 'math' has no split 'tset'"),
        ("  small: tiny", "  small: ./tiny", r"line LINE: bases.small: model '\./tiny': no such folder"),
        ("  small: tiny", "  small: {start: /a/b}", "line LINE: bases.small.start: model '/a/b': no such folder"),
        ("  small: tiny", "  small: {documents: many}", "line LINE: bases.small.documents: Expected `int`"),
        ("{reward: mentor}", "{reward: mentr}", "line LINE: arms.mentor.reward: unknown reward .*mentor"),
        (PLAN[PLAN.index("\n      - {label: none") : PLAN.index("\nhypotheses:")], " []", "axes.0.levels: needs"),
        ("axes:", "axis:", "axes: is missing"),
    ],
)  # fmt: skip
def test_mistakes_are_refused_with_file_line_and_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in PLAN
    path = write_plan(tmp_path, PLAN.replace(old, new, 1))
    line = PLAN[: PLAN.index(old)].count("\n") + 1
    with pytest.raises(StudyError, match=message.replace("LINE", str(line))) as caught:
        load_study(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_base_is_refused_before_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> None:
        raise OSError(f"{path} is not on the hub")

    # Without it the name would be looked for on the network, as the Hugging Face id that it could be.
    monkeypatch.setattr(AutoConfig, "from_pretrained", missing)
    with pytest.raises(StudyError, match=r"line 5: bases\.small: model 'tinny' cannot be loaded: .*'tiny'\?"):
        load_study(write_plan(tmp_path, PLAN.replace("  small: tiny", "  small: tinny")))


def test_a_base_may_be_a_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(AutoConfig, "from_pretrained", asked.append)
    load_study(write_plan(tmp_path, PLAN.replace("  small: tiny", "  small: someone/some-model")))
    assert asked == ["someone/some-model"]


def test_a_report_alone_needs_no_base_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> None:
        raise OSError(f"{path} is not on the hub")

    monkeypatch.setattr(AutoConfig, "from_pretrained", missing)
    path = write_plan(tmp_path, PLAN.replace("  small: tiny", "  small: someone/some-model"))
    study.study(path, tmp_path / "out", report_only=True)


def test_a_study_in_a_folder_that_does_not_exist_is_not_the_shipped_one(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such file"):
        load_study(tmp_path / "study.yaml")


def test_a_mistake_in_the_quick_section_names_its_line(tmp_path: Path) -> None:
    path = write_plan(tmp_path, PLAN.replace("shared: {steps: 1}", "shared: {steps: one}"))
    load_study(path)
    line = PLAN[: PLAN.index("shared: {steps: 1}")].count("\n") + 1
    with pytest.raises(StudyError, match=rf"line {line}: training.shared.steps: expected a whole"):
        load_study(path, quick=True)


def test_arms_may_differ_in_what_the_plan_lists(tmp_path: Path) -> None:
    text = PLAN.replace("reward: mentor}", "reward: mentor, kl_coef: 0.5}") + "may_differ: [kl_coef]\n"
    settings = load_study(write_plan(tmp_path, text))
    assert study_plan.make_config(settings, "mentor").kl_coef == 0.5
    assert study_plan.make_config(settings, "sparse").kl_coef == 0.1


def test_runs_are_ordered_so_that_seeds_are_complete(settings: study_plan.Settings) -> None:
    keys = [run.key for run in study_plan.list_runs(settings)]
    assert keys == [
        "base/small-usual",
        *(
            f"{place}-seed{seed}"
            for seed in (1, 2)
            for place in ("without/sparse", "without/mentor", "with/sft", "with/sparse", "with/mentor")
        ),
    ]
    assert [run.key for run in study_plan.list_runs(settings, ["without"])] == [
        key for key in keys if not key.startswith("with/")
    ]
    with pytest.raises(StudyError, match=r"no such condition.*without"):
        study_plan.list_runs(settings, ["witout"])


def test_a_fingerprint_follows_what_a_run_depends_on(settings: study_plan.Settings, tmp_path: Path) -> None:
    folders = Folders(tmp_path, quick=False)
    runs = {run.key: run for run in study_plan.list_runs(settings)}
    # Nothing is known of a run on data that is not made.
    assert {study_plan.Fingerprints(settings, folders).of(run) for run in runs.values()} == {""}
    with pytest.raises(StudyError, match="not made"):
        study.make_run(settings, runs["with/sft-seed1"], folders)
    suite = make_suite(settings, folders, "name: notes")
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("a")
    settings.bases["small"] = str(model)

    def fingerprints() -> dict[str, str]:
        prints = study_plan.Fingerprints(settings, folders)
        return {key: prints.of(run) for key, run in runs.items()}

    def changed(before: dict[str, str]) -> set[str]:
        return {key for key, value in fingerprints().items() if value != before[key]}

    before = fingerprints()
    assert len(set(before.values())) == len(before)
    assert changed(before) == set()
    settings.arms["sft"]["learning_rate"] = 1e-5
    assert changed(before) == {"with/sft-seed1", "with/sft-seed2"}
    before = fingerprints()
    settings.training.rl["kl_coef"] = 0.5
    assert changed(before) == {key for key in runs if "sparse" in key or "mentor" in key}
    for change in (
        lambda: suite.write_text("name: other"),
        lambda: (model / "weights").write_text("b"),
        lambda: setattr(settings.evaluations["usual"], "samples", 3),
    ):
        before = fingerprints()
        change()
        # The variant is evaluated on everywhere.
        assert changed(before) == set(runs)
    settings.evaluations["usual"].splits.pop("noted")
    before = fingerprints()
    suite.write_text("name: third")
    assert changed(before) == {key for key in runs if key.startswith("with/")}
    # Where it is kept does not matter.
    moved = Folders(tmp_path / "elsewhere", quick=False)
    make_suite(settings, moved, "name: third")
    assert study_plan.Fingerprints(settings, moved).of(runs["with/sft-seed1"]) == fingerprints()["with/sft-seed1"]
    # Made with other arguments.
    settings.data["notes"]["notes"] = 1.0
    assert fingerprints()["with/sft-seed1"] == ""


def make_suite(settings: study_plan.Settings, folders: Folders, content: str) -> Path:
    """Put a file in the place of a data variant, as if it had been made."""
    suite = Path(study_plan.find_suite(settings, "notes", folders))
    suite.parent.mkdir(parents=True)
    suite.write_text(content)
    done = {"fingerprint": study_plan.fingerprint_data(settings, "notes")}
    (folders.data("notes") / "run.json").write_text(json.dumps(done))
    return suite


# The statistics


def values(table: Any, seeds: tuple[int, ...] | None = None, tasks: str = "tasks", share: bool = False) -> Values:
    array = np.asarray(table, dtype=float)
    return Values(tuple(range(len(array))) if seeds is None else seeds, tasks, array, share)


def width(found: dict[str, float] | None) -> float:
    assert found is not None
    return found["high"] - found["low"]


def test_with_one_seed_the_interval_is_the_normal_one_over_tasks() -> None:
    table = (np.arange(400) < 120)[None]
    found = estimate([(1.0, values(table))], Resampler(resamples=8000))
    half = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert found is not None
    assert (found["mean"], found["seeds"]) == (pytest.approx(0.3), 1)
    assert found["high"] - 0.3 == pytest.approx(half, rel=0.08)
    assert 0.3 - found["low"] == pytest.approx(half, rel=0.08)


def test_over_seeds_alone_the_interval_is_students() -> None:
    figures = np.random.default_rng(3).normal(size=12)
    found = estimate([(1.0, values(figures[:, None], tasks=""))], Resampler(resamples=8000))
    half = 2.201 * figures.std(ddof=1) / np.sqrt(12)
    assert found is not None
    assert found["mean"] == pytest.approx(figures.mean())
    assert width(found) == pytest.approx(2 * half, rel=0.06)


def test_weights_and_signs_of_terms() -> None:
    one, two = values(np.full((3, 4), 0.5)), values(np.full((3, 4), 0.2))
    found = estimate([(2.0, one), (-1.0, two)], Resampler())
    assert found == {"mean": pytest.approx(0.8), "low": pytest.approx(0.8), "high": pytest.approx(0.8), "seeds": 3}


def test_seeds_and_tasks_are_drawn_together_for_all_arms() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=(5, 1)) + rng.normal(size=(1, 30))
    noise = [rng.normal(scale=0.01, size=(5, 30)) for _ in range(2)]
    first, second = (values(common + part) for part in noise)
    resampler = Resampler()
    alone = width(estimate([(1.0, first)], resampler))
    paired = width(estimate([(1.0, first), (-1.0, second)], resampler))
    assert paired < alone / 50
    # Other tasks have other effects: nothing cancels.
    other = values(common + noise[1], tasks="others")
    assert width(estimate([(1.0, first), (-1.0, other)], resampler)) > 10 * paired
    # Only the seeds that both have count, row by row.
    shifted = values((common + noise[1])[1:], seeds=(1, 2, 3, 4))
    found = estimate([(1.0, first), (-1.0, shifted)], resampler)
    assert found is not None
    assert found["seeds"] == 4
    assert width(found) < alone / 50
    assert estimate([(1.0, values(common, seeds=(10, 11, 12, 13, 14))), (-1.0, first)], resampler) is None


def test_a_base_counts_for_every_seed() -> None:
    trained = values([[1, 1, 0, 1], [1, 0, 0, 1]])
    base = Values(None, "tasks", np.array([[1.0, 0.0, 0.0, 0.0]]))
    found = estimate([(1.0, trained), (-1.0, base)], Resampler())
    assert found is not None
    assert (found["mean"], found["seeds"]) == (pytest.approx(0.375), 2)
    alone = estimate([(1.0, base)], Resampler())
    assert alone is not None
    assert (alone["mean"], alone["seeds"]) == (0.25, 0)


def test_an_interval_of_shares_stays_where_shares_can_be() -> None:
    found = estimate([(1.0, values([[1.0, 1.0], [0.5, 1.0]], share=True))], Resampler())
    assert found is not None
    assert found["high"] == 1.0
    assert found["low"] == 0.0
    free = estimate([(1.0, values([[1.0, 1.0], [0.5, 1.0]]))], Resampler())
    assert free is not None
    assert free["low"] < 0


def coverage(seeds: int, simulations: int = 300) -> float:
    """How often the interval of the difference of two equal arms holds 0; seeds, tasks and noise are normal."""
    rng = np.random.default_rng(1)
    hits = 0
    for number in range(simulations):
        tables = [rng.normal(scale=0.2, size=(seeds, 1)) + rng.normal(scale=0.3, size=(1, 40)) for _ in range(2)]
        # What tasks do to one arm alone does not cancel.
        tables = [table + rng.normal(scale=0.3, size=(seeds, 40)) for table in tables]
        terms = [(weight, values(table)) for weight, table in zip((1.0, -1.0), tables)]
        found = estimate(terms, Resampler(number, resamples=300))
        assert found is not None
        hits += found["low"] <= 0 <= found["high"]
    return hits / simulations


# Of three seeds all are the same in one draw of nine, so that the interval ends at the extremes: it is too wide.
@pytest.mark.parametrize(("seeds", "most"), [(3, 1.0), (5, 0.985), (8, 0.985)])
def test_intervals_cover_what_they_say(seeds: int, most: float) -> None:
    # 300 simulations: a true 95 % shows as 92.5 to 97.5 % in 95 of 100 cases, and the draws add some noise.
    assert 0.92 <= coverage(seeds) <= most


def test_without_the_correction_a_few_seeds_would_cover_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_statistics, "widen", lambda seeds: 1.0)
    assert coverage(3) < 0.9


def test_draws_do_not_depend_on_what_was_asked_before() -> None:
    one, other = Resampler(), Resampler()
    other.draw("seeds", 7)
    assert (one.draw("tasks", 5) == other.draw("tasks", 5)).all()
    assert (one.draw("tasks", 5) != one.draw("others", 5)).any()
    assert one.draw("tasks", 5).sum(1) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("expect", "low", "high", "verdict"),
    [
        ("positive", 0.01, 0.2, "held"),
        ("positive", 0.0, 0.2, "undecided"),
        ("positive", -0.2, -0.01, "contradicted"),
        ("negative", -0.2, -0.01, "held"),
        ("negative", 0.01, 0.2, "contradicted"),
        ("negative", -0.1, 0.1, "undecided"),
        ("zero", -0.05, 0.05, "held"),
        ("zero", -0.06, 0.05, "undecided"),
        ("zero", 0.01, 0.04, "held"),
        ("zero", 0.06, 0.07, "contradicted"),
        ("zero", -0.07, -0.06, "contradicted"),
    ],
)
def test_verdicts(expect: str, low: float, high: float, verdict: str) -> None:
    assert study_statistics.judge(expect, low, high, margin=0.05) == verdict


def test_vectors_are_packed_without_loss() -> None:
    rng = np.random.default_rng(0)
    for samples in (1, 2, 9, 35):
        for count in (1, 4, 5, 301):
            shares = (rng.integers(0, samples + 1, count) / samples).tolist()
            text = study_statistics.pack(shares, samples)
            split = {"sampled_success": text, "count": count, "samples": samples}
            assert study_statistics.unpack(split, "sampled_success") == pytest.approx(shares)


# Gathered results


def make_run(run: Run, settings: study_plan.Settings) -> dict[str, Any]:
    """A made-up run: `mentor` solves all and alone reaches the threshold, `sparse` solves half, others none."""
    solved = {"mentor": 1.0, "sparse": 0.5}.get(run.arm, 0.0)
    rules = settings.evaluations[run.evaluation]
    splits = {}
    for label, split in rules.splits.items():
        figures = dict.fromkeys(
            ("pass@1", "pass@k", "tool_f1", "similarity", "task_similarity", "tool_use"), solved
        )
        figures |= {"calls": 1.0, "invalid_calls": {"rate": 0.25}, "k": rules.samples}
        figures["stop_reasons"] = {"turn_limit": 0.0, "token_limit": 0.0, "no_answer": 0.0}
        vector = [float(solved)] * split.tasks
        splits[label] = {
            "greedy": figures, "sampled": figures, "task_ids": [f"{label}{i}" for i in range(split.tasks)],
            "success": [round(value) for value in vector], "tool_use": [round(value) for value in vector],
            "sampled_success": vector, "sampled_tool_use": vector,
        }  # fmt: skip
    training = None
    if run.arm != study_plan.BASE:
        rows = [{"step": step, "tokens": 10, "loss": 1.0} for step in range(1, 9)]
        if run.arm != "sft":
            rows = [
                {**row, "success": float(run.arm == "mentor"), "zero_variance": 0.9 if row["step"] < 3 else 0.1}
                for row in rows
            ]
        cost = {"tokens": 80, "cpu_seconds": 1.0, "distinct_tasks": 4, "episodes": 16}
        training = {**cost, "curve": rows, "config": {}}
    return {**asdict(run), "training": training, "splits": splits}


@pytest.fixture
def results(settings: study_plan.Settings, tmp_path: Path) -> dict[str, Any]:
    runs = [study.compact(make_run(run, settings)) for run in study_plan.list_runs(settings)]
    gathered = study.gather(settings, Folders(tmp_path, quick=False), quick=False)
    return {**gathered, "runs": runs, "missing": []}


def test_summary_of_known_runs(results: dict[str, Any]) -> None:
    summary = study_statistics.summarise(results)
    cells = {(row["condition"], row["arm"], row["split"], row["measure"]): row for row in summary["cells"]}
    row = cells["with", "sparse", "test", "sampled"]
    assert [row[key] for key in ("mean", "low", "high", "seeds")] == [0.5, 0.5, 0.5, 2]
    assert cells["with", "base", "noted", "greedy"]["mean"] == 0.0
    assert cells["with", "mentor", "noted", "tool_f1"]["mean"] == 1.0
    pairs = {
        (row["condition"], row["first"], row["second"]): row["mean"]
        for row in summary["differences"]
        if (row["split"], row["measure"]) == ("test", "sampled")
    }
    assert pairs["with", "mentor", "sparse"] == 0.5
    assert pairs["with", "sft", "mentor"] == -1.0
    # Each pair once.
    assert ("with", "sparse", "mentor") not in pairs
    training = {(row["condition"], row["arm"]): row for row in summary["training"]}
    mentor, sparse = training["without", "mentor"], training["without", "sparse"]
    assert mentor["zero_variance"]["mean"] == pytest.approx((2 * 0.9 + 6 * 0.1) / 8)
    assert mentor["zero_variance_early"]["mean"] == pytest.approx(0.9)
    assert (mentor["reached"], mentor["median"], mentor["median_reached"]) == (2, 50.0, 50.0)
    assert (sparse["reached"], sparse["median"], sparse["median_reached"]) == (0, None, None)
    assert "reached" not in training["with", "sft"]
    assert mentor["steps"] == 8


def test_hypotheses_are_decided_by_their_statistics(results: dict[str, Any]) -> None:
    tools, times = study_statistics.summarise(results)["hypotheses"]
    assert (tools["verdict"], tools["mean"], tools["seeds"]) == ("held", 0.5, 2)
    # 50 tokens against never within 80; two of the runs never got there, and the sentence says so.
    assert (times["mean"], times["censored"], times["verdict"]) == (-30.0, 2, "held")
    sentence = study_statistics.write_finding(times)
    assert "never reached in 2 runs" in sentence
    assert "predicted within ±0.1 thousand tokens" in sentence
    assert study_statistics.write_finding(tools).startswith(
        "Held: MENTOR uses tools more than sparse (+50.0 points, 95 % interval +50.0 to +50.0, predicted positive;"
    )
    assert "quick" in study_statistics.write_finding(tools, quick=True)


def test_missing_seeds_and_arms_weaken_a_verdict(results: dict[str, Any]) -> None:
    def decide(kept: Any) -> dict[str, Any]:
        some = {**results, "runs": [run for run in results["runs"] if kept(run)]}
        return study_statistics.summarise(some)["hypotheses"][0]

    one = decide(lambda run: run["seed"] == 1 or run["arm"] != "sparse")
    assert (one["seeds"], one["verdict"]) == (1, "undecided")
    assert "1 seed, so that it cannot be decided" in study_statistics.write_finding(one)
    assert "preliminary: 2 are planned" in study_statistics.write_finding(one)
    none = decide(lambda run: run["arm"] != "sparse")
    assert none["verdict"] == "not run"
    assert study_statistics.write_finding(none) == "Not run: MENTOR uses tools more than sparse."


def test_results_alone_give_the_same_report(
    results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = study_report.plot_figures({**results, "summary": study_statistics.summarise(results)})
    monkeypatch.setattr(study_report, "plot_figures", lambda given: drawn)
    first = study.write_results(results, tmp_path / "first", Console(file=io.StringIO()))
    stored = json.loads((tmp_path / "first" / "results.json").read_text())
    assert stored["runs"] == results["runs"]
    second = study.study(tmp_path / "first" / "results.json", tmp_path / "second", report_only=True)
    assert second is not None
    assert second.read_text() == first.read_text()
    for name in ("results.json", "figures/axis-notes.png", "figures/curves.png"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    text = first.read_text()
    assert str(tmp_path) not in text + json.dumps(stored)
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    for tag, attributes in reader.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "srcset", "href"):
                assert (value or "").startswith("data:image/png;base64,"), (tag, name)
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe", "a", "study"}
    assert sum(tag == "img" for tag, _ in reader.tags) == 3
    assert "A small &lt;study&gt;" in text
    assert '<span class="badge ok">held</span>' in text
    assert "quick form" not in text


def test_the_page_says_what_makes_its_verdicts_weak(results: dict[str, Any]) -> None:
    summary = {"summary": study_statistics.summarise(results)}
    figures = dict.fromkeys(("axis-notes",), (b"", b""))
    complete = study_report.write_report({**results, **summary}, figures)
    assert 'class="warning"' not in complete
    weak = {**copy.deepcopy(results), **summary, "quick": True, "missing": ["with/sparse-seed2"]}
    weak["settings"]["seeds"] = [1]
    page = study_report.write_report(weak, figures)
    for warning in ("quick form", "1 runs are missing (with/sparse-seed2)", "one seed only"):
        assert re.search(f'<p class="warning">[^<]*{re.escape(warning)}', page)
    assert "never reached the threshold" in page


def test_results_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"runs": []}')
    with pytest.raises(StudyError, match="cannot be run again"):
        study.study(path, tmp_path / "out")
    with pytest.raises(StudyError, match="choose one"):
        study.study(path, tmp_path / "out", plan=True, report_only=True)
    with pytest.raises(StudyError, match="not the results of a study"):
        study.study(path, tmp_path / "out", report_only=True)


def test_the_expected_number_of_chance_verdicts_counts_signs_alone(results: dict[str, Any]) -> None:
    summary = study_statistics.summarise(results)
    # One of the two hypotheses predicts zero, and is right where nothing has any effect.
    headline = study_report.make_headline({**results, "summary": summary})
    assert "0.1 of 1 signs" in headline
    summary["hypotheses"][0]["seeds"] = 1
    assert "0.0 of 0 signs" in study_report.make_headline({**results, "summary": summary})


def test_a_figure_of_one_run_has_no_interval(results: dict[str, Any]) -> None:
    one = {**results, "runs": [run for run in results["runs"] if run["seed"] == 1]}
    tools, times = study_statistics.summarise(one)["hypotheses"]
    assert "95 % interval" in study_statistics.write_finding(tools)
    assert "no interval" in study_statistics.write_finding(times)
    page = study_report.write_report(
        {**one, "summary": study_statistics.summarise(one)}, dict.fromkeys(("axis-notes",), (b"", b""))
    )
    assert "over tasks alone, and too narrow" in page
    row = {"mean": 0.5, "low": 0.25, "high": 0.75, "seeds": 0}
    assert study_report._figure("tool_f1", row) == "0.50"
    assert study_report._figure("tool_use", row) == "50.0 <small>25.0–75.0</small>"
    assert study_report._figure("tool_f1", {**row, "seeds": 2}) == "0.50 <small>0.25–0.75</small>"


def test_settings_that_a_learner_does_not_use_are_not_shown_as_its_own(results: dict[str, Any]) -> None:
    sft, mentor = (results["configs"][arm] for arm in ("sft", "mentor"))
    assert [study_report._setting(sft, key) for key in ("reward", "kl_coef", "steps")] == ["–", "–", "2"]
    assert [study_report._setting(mentor, key) for key in ("reward", "kl_coef", "sft_kl_coef")] == [
        "mentor", "0.1", "–",
    ]  # fmt: skip


def test_an_axis_shows_the_splits_that_all_its_levels_have(settings: study_plan.Settings) -> None:
    rules = settings.evaluations["usual"]
    settings.evaluations["less"] = copy.deepcopy(rules)
    settings.evaluations["less"].splits.pop("noted")
    settings.conditions["with"].evaluation = "less"
    built = {"settings": msgspec.to_builtins(settings), "runs": []}
    panels = study_plots.list_panels(study_statistics.Study(built), built["settings"]["axes"][0])
    assert panels == [("tool_use", "test"), ("tokens_to_threshold", ""), ("sampled", "test")]


def test_reduced_figures_keep_the_colours_of_rare_arms() -> None:
    # A little of each arm's colour beside a lot of many others.
    rng = np.random.default_rng(0)
    picture = rng.integers(150, 256, (200, 300, 3), dtype=np.uint8)
    colours = [tuple(bytes.fromhex(style[1][1:])) for style in STUDY_STYLES.values()]
    for place, colour in enumerate(colours):
        picture[:6, 8 * place : 8 * place + 6] = colour
    stored = io.BytesIO()
    Image.fromarray(picture).save(stored, format="png")
    with Image.open(io.BytesIO(study_plots.shrink(stored.getvalue()))) as image:
        reduced = np.asarray(image.convert("RGB")).astype(int)
    for place, colour in enumerate(colours):
        assert np.abs(reduced[2, 8 * place + 2] - colour).max() <= 16


def test_curves_of_unequal_steps_meet_at_common_points() -> None:
    curves = [
        {"tokens": [10, 20, 30], "success": [0.0, 0.0, 0.0]},
        {"tokens": [20, 40], "success": [1.0, None]},
        {"tokens": [5, 45], "success": [1.0, 1.0]},
    ]
    tokens, found = study_plots.line_up(curves[::2], "success")
    assert (tokens[0], tokens[-1]) == (10, 30)
    assert found.shape == (2, len(tokens))
    assert found.mean(1).tolist() == [0.0, 1.0]
    assert study_plots.line_up(curves, "absent")[0].size == 0
    assert study_plots.line_up([], "success")[0].size == 0


def test_names_of_lines_keep_their_order_and_distance() -> None:
    heights = np.random.default_rng(0).random(9).tolist()
    placed = study_plots.spread_out(heights, 0.08)
    assert np.argsort(placed).tolist() == np.argsort(heights).tolist()
    assert min(np.diff(sorted(placed))) >= 0.08 - 1e-9
    capped = study_plots.spread_out(heights, 0.08, most=0.7)
    assert max(capped) == 0.7
    assert np.argsort(capped).tolist() == np.argsort(heights).tolist()
    assert min(np.diff(sorted(capped))) >= 0.08 - 1e-9


# Running


class Engine:
    """Runs the jobs of a study in this process, with scripted agents in place of models."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.broken: set[str] = set()
        monkeypatch.setattr(study, "run_jobs", self.run_jobs)
        monkeypatch.setattr(study, "train_run", self.train)
        monkeypatch.setattr("agents.base.load_agent", self.load_agent)
        drawn = dict.fromkeys(("axis-notes", "curves", "zero-variance"), (b"", b""))
        monkeypatch.setattr(study_report, "plot_figures", lambda results: drawn)
        fast = partial(study_statistics.summarise, resampler=Resampler(resamples=50))
        monkeypatch.setattr(study, "summarise", fast)

    def run_jobs(self, jobs: list[Job], *rest: Any, **options: Any) -> None:
        assert options["keep_going"]
        for job in jobs:
            assert job.command[1:3] == ["-m", "agents.study"]
            key = job.command[job.command.index("--job") + 1]
            self.done.append(key)
            if key in self.broken:
                job.error = f"{key} failed"
                continue
            study.main(job.command[3:])
            assert (job.folder / "run.json").is_file()

    def train(self, config: Any) -> tuple[str, dict[str, Any]]:
        rows = [{"step": step, "tokens": 40, "success": 0.5, "zero_variance": 0.5} for step in range(1, 7)]
        cost = {"tokens": 240, "cpu_seconds": 1.0, "distinct_tasks": 4, "episodes": 16}
        return str(config.reward), {**cost, "curve": rows, "config": asdict(config)}

    def load_agent(self, name: str, temperature: float, seed: int, **limits: Any) -> NoisyTeacher:
        return NoisyTeacher(rate=0.2 if name == "mentor" else 0.6, seed=seed + int(10 * temperature))

    def take(self) -> list[str]:
        done, self.done = self.done, []
        return done


def test_a_study_keeps_finished_runs_and_redoes_changed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(monkeypatch)
    path, out = write_plan(tmp_path), tmp_path / "out"
    keys = [f"runs/{run.key}" for run in study_plan.list_runs(load_study(path))]
    engine.broken = {"runs/with/mentor-seed2"}
    # A failed run loses none of the others, and the report says that it is missing.
    with pytest.raises(StudyError, match=r"1 runs failed.*report of the others"):
        study.study(path, out)
    assert engine.take() == ["data/notes", *keys]
    stored = json.loads((out / "results.json").read_text())
    assert stored["missing"] == ["with/mentor-seed2"]
    assert len(stored["runs"]) == len(keys) - 1
    assert "with/mentor-seed2" in (out / "report.html").read_text()
    engine.broken = set()
    study.study(path, out)
    assert engine.take() == ["runs/with/mentor-seed2"]
    assert study.study(path, out) == out / "report.html"
    assert engine.take() == []
    # An arm that changes is trained again, and nothing else.
    path.write_text(PLAN.replace("{algorithm: sft}", "{algorithm: sft, learning_rate: 1.0e-5}"))
    (out / "runs" / "without" / "sparse-seed1" / "run.json").write_text('{"half a')
    study.study(path, out)
    assert engine.take() == ["runs/without/sparse-seed1", "runs/with/sft-seed1", "runs/with/sft-seed2"]
    # Data is made anew, and with it whatever was trained or measured on it.
    path.write_text(PLAN.replace("notes: 0.5", "notes: 1.0"))
    study.study(path, out, only=["without"])
    assert engine.take() == ["data/notes", *(key for key in keys if not key.startswith("runs/with/"))]
    # A quick study leaves the runs of the full one alone.
    study.study(path, out, quick=True)
    assert len(engine.take()) == 7
    study.study(path, out)
    assert engine.take() == [key for key in keys if key.startswith("runs/with/")]
    study.study(path, out, report_only=True)
    assert engine.take() == []


def test_every_run_is_measured_on_the_same_tasks_and_keeps_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Engine(monkeypatch)
    out = tmp_path / "out"
    study.study(write_plan(tmp_path), out, only=["without"], workers=1)
    text = (out / "results.json").read_text()
    assert str(tmp_path) not in text
    runs = json.loads(text)["runs"]
    assert len(runs) == 5
    for label, count in (("test", 6), ("noted", 4)):
        assert {(run["splits"][label]["tasks"], run["splits"][label]["count"]) for run in runs} == {
            (runs[0]["splits"][label]["tasks"], count)
        }
    for run in runs:
        for label in ("test", "noted"):
            split = run["splits"][label]
            for vector, decoding, name in (
                ("success", "greedy", "pass@1"),
                ("sampled_success", "sampled", "pass@1"),
                ("tool_use", "greedy", "tool_use"),
                ("sampled_tool_use", "sampled", "tool_use"),
            ):
                mean = np.mean(study_statistics.unpack(split, vector))
                assert mean == pytest.approx(split[decoding][name], abs=1e-4)


def test_a_plan_is_shown_without_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine(monkeypatch)
    assert study.study(write_plan(tmp_path), tmp_path / "out", plan=True) is None
    assert engine.done == []
    assert not (tmp_path / "out").exists()
    assert "0 of 11 runs are finished" in capsys.readouterr().out


def test_a_part_that_the_study_does_not_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Engine(monkeypatch)
    study.study(write_plan(tmp_path), tmp_path / "out")
    with pytest.raises(SystemExit, match="2"):
        study.main(["--job", "runs/with/sft-seed9", "--out", str(tmp_path / "out")])
    assert "no such part" in capsys.readouterr().err


def test_two_studies_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Engine(monkeypatch)
    out = tmp_path / "out"
    out.mkdir()
    with study._lock(out), pytest.raises(StudyError, match="another process"):
        study.study(write_plan(tmp_path), out)


@pytest.mark.slow
def test_a_study_that_was_stopped_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path, out = write_plan(tmp_path), tmp_path / "out"
    command = [sys.executable, "-m", "agents.study", str(path), "--out", str(out), "--only", "without"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    finished = out / "runs" / "without" / "sparse-seed1" / "run.json"
    deadline = time.monotonic() + 300
    while not finished.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    mine = [
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(out).encode() in _read(entry / "cmdline")
    ]
    assert mine == []
    before = finished.stat().st_mtime
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    assert "kept: " in done.stdout
    assert finished.stat().st_mtime == before
    results = json.loads((out / "results.json").read_text())
    assert {(run["arm"], run["seed"]) for run in results["runs"]} == {
        ("base", 1), *((arm, seed) for arm in ("sparse", "mentor") for seed in (1, 2)),
    }  # fmt: skip
    for run in results["runs"]:
        if run["arm"] != study_plan.BASE:
            assert run["training"]["curve"]["tokens"][-1] == run["training"]["tokens"] > 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
