"""The demo's statistics, figures and page, from made-up runs."""

from __future__ import annotations

import copy
import io
import re
from typing import Any

import numpy as np
import pytest
from html_reader import Reader

pytest.importorskip("matplotlib")

from agents import report, summary
from agents.plots import STYLES, gather_curve, plot_curves, plot_similarity, smooth

ARMS = list(STYLES)
SPLITS = ["test", "ood-tools"]
HOSTILE = '<script>alert("x")</script><img src=https://evil.example/x.png onerror=1>'
REASONS = {"answer": 0.9, "no_answer": 0.05, "turn_limit": 0.05, "token_limit": 0.0}


def make_episode(task_id: str, solved: bool, text: str = "") -> dict[str, Any]:
    call = {"id": "1", "type": "function", "function": {"name": f"add{text}", "arguments": '{"a": 1, "b": "<b>"}'}}
    return {
        "task_id": task_id,
        "prompt": f"What is 1 plus 2? {text}",
        "answer": "3",
        "messages": [
            {"role": "user", "content": "What is 1 plus 2?"},
            {"role": "assistant", "content": f"thinking {text}", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": f"error: no {text}"},
            {"role": "assistant", "content": f"so <answer>{text} 3</answer>"},
        ],
        "is_success": solved,
        "stop_reason": "answer",
        "reward_terms": {"outcome": 0.7 * solved, "validity": 0.1},
    }


def make_run(arm: str, seed: int, success: list[int]) -> dict[str, Any]:
    share = sum(success) / len(success)
    figures = {
        "pass@1": share,
        "pass@k": min(1.0, share + 0.1),
        "tool_f1": share,
        "similarity": 0.5 + share / 2,
        "calls": 1.5,
        "invalid_calls": {"rate": 0.25},
        "stop_reasons": REASONS,
    }
    curve = [
        {"step": step, "reward": 0.1, "success": step / 20, "tool_f1": 0.5, "zero_variance": 0.3}
        | ({"valid/success": 0.4 + 0.01 * seed} if step % 5 == 0 else {})
        for step in range(1, 11)
    ]
    training = {"tokens": 1000, "cpu_seconds": 9.0 + seed, "distinct_tasks": 40, "episodes": 80, "curve": curve}
    return {
        "arm": arm,
        "seed": seed,
        "training": None if arm == "base" else training,
        "validation": 0.2 if arm == "base" else None,
        "splits": {
            split: {"greedy": figures, "sampled": figures, "success": success, "sampled_success": success}
            for split in SPLITS
        },
    }


@pytest.fixture(scope="module")
def runs() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [make_run("base", 0, [0] * 30 + [1] * 10)] + [
        make_run(arm, seed, rng.integers(0, 2, 40).tolist()) for arm in ARMS[1:] for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def results(runs: list[dict[str, Any]]) -> dict[str, Any]:
    before = {f"t{i}": make_episode(f"t{i}", i % 2 == 0, HOSTILE) for i in range(12)}
    after = {f"t{i}": make_episode(f"t{i}", i % 3 != 0, HOSTILE) for i in range(12)}
    shown = [
        {**one, "prompt": f"Q {HOSTILE}", "answer": "3", "teacher": make_episode(one["task_id"], True)}
        for one in summary.pick_transcripts(before, after)
    ]
    return {
        "quick": True,
        "elapsed_seconds": 60.0,
        "splits": SPLITS,
        "arms": ARMS,
        "settings": {
            "shared": {"seeds": "0, 1", "steps": 10},
            "differing": {arm: {"reward": arm} for arm in ARMS[1:]},
            "evaluation": {"tasks": 40, "samples": 4},
        },
        "summary": summary.summarise(runs, ARMS),
        "comparisons": summary.compare(runs, [("sft", "base"), ("grpo-mentor", "base")], SPLITS),
        "student": "grpo-mentor",
        "student_seed": 0,
        "transcripts": shown,
        "runs": runs,
    }


@pytest.fixture(scope="module")
def page(results: dict[str, Any]) -> str:
    return report.write_report(results)


def test_page_is_well_formed_escaped_and_self_contained(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "link", "iframe", "a", "b1"}
    for tag, attributes in reader.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "srcset", "href"):
                assert (value or "").startswith("data:image/png;base64,"), (tag, name)
    assert sum(tag == "img" for tag, _ in reader.tags) == 2
    # The model's address stands there as text, nowhere else; styles load nothing.
    assert "evil.example" in page
    without = page.replace("https://evil.example/x.png", "")
    assert "http:" not in without
    assert "https:" not in without
    assert not re.search(r"url\(|@import", page)
    assert "&lt;script&gt;" in page


def test_page_shows_every_arm_figure_and_case(results: dict[str, Any], page: str) -> None:
    for arm in ARMS:
        label = STYLES[arm][0]
        assert label in page
        mean = 100 * results["summary"][arm]["splits"]["test"]["greedy"]["mean"]
        assert re.search(f"<b>{mean:.1f}( <small>|</b>)", page)
    for case in ("Not solved before, solved after", "Solved before, not after", "Not solved before or after"):
        assert f"<h3>{case}" in page
    assert "quick form" in page
    assert "prefers-color-scheme" in page


def test_summary_is_mean_smallest_and_largest_over_seeds() -> None:
    runs = [make_run("sft", 0, [1, 0, 0, 0]), make_run("sft", 1, [1, 1, 1, 0]), make_run("base", 0, [1, 0])]
    found = summary.summarise(runs, ["base", "sft", "grpo-mentor"])
    assert list(found) == ["base", "sft"]
    assert found["sft"]["splits"]["test"]["greedy"] == {"mean": 0.5, "min": 0.25, "max": 0.75, "count": 2}
    assert found["sft"]["training"]["cpu_seconds"] == {"mean": 9.5, "min": 9.0, "max": 10.0, "count": 2}
    assert found["base"]["training"] is None
    assert found["base"]["splits"]["test"]["invalid"]["mean"] == 0.25


def test_bootstrap_of_equal_arms_and_of_certain_differences() -> None:
    rng = np.random.default_rng(0)
    same = np.array([[1, 0, 1, 1, 0]])
    # Tasks are drawn together for both arms: equal outcomes never differ.
    assert summary.bootstrap_difference(same, same, rng) == {"difference": 0.0, "low": 0.0, "high": 0.0}
    found = summary.bootstrap_difference(np.ones((2, 7)), np.zeros((1, 7)), rng)
    assert found == {"difference": 1.0, "low": pytest.approx(1.0), "high": pytest.approx(1.0)}


def test_bootstrap_interval_matches_the_normal_one() -> None:
    rng = np.random.default_rng(1)
    tasks, share = 400, 0.5
    first = (np.arange(tasks) < share * tasks).astype(float)[None]
    found = summary.bootstrap_difference(first, np.zeros((1, tasks)), rng, resamples=8000)
    half = 1.96 * np.sqrt(share * (1 - share) / tasks)
    assert found["difference"] == share
    assert found["high"] - share == pytest.approx(half, rel=0.08)
    assert share - found["low"] == pytest.approx(half, rel=0.08)


def test_bootstrap_draws_seeds_anew() -> None:
    rng = np.random.default_rng(0)
    # Two seeds that differ on every task: all spread comes from the seeds, and both can be drawn twice.
    found = summary.bootstrap_difference(np.array([[1] * 9, [0] * 9]), np.zeros((1, 9)), rng)
    assert (found["low"], found["high"]) == (pytest.approx(0.0), pytest.approx(1.0))


def test_bootstrap_refuses_other_tasks() -> None:
    with pytest.raises(ValueError, match="same tasks"):
        summary.bootstrap_difference(np.ones((1, 3)), np.ones((1, 4)), np.random.default_rng(0))


def test_comparisons_do_not_depend_on_each_other(runs: list[dict[str, Any]]) -> None:
    alone = summary.compare(runs, [("sft", "base")], ["test"])
    among = summary.compare(runs, [("grpo-mentor", "sft"), ("sft", "base")], ["ood-tools", "test"])
    assert alone[0] in among
    assert summary.compare(runs, [("sft", "no such arm")], ["test"]) == []


def test_both_decodings_are_compared(runs: list[dict[str, Any]]) -> None:
    runs = copy.deepcopy(runs)
    for run in runs:
        figures = run["splits"]["test"]
        figures["sampled_success"] = [0.25 if run["arm"] == "sft" else 0.75] * len(figures["success"])
    greedy, sampled = summary.compare(runs, [("sft", "base")], ["test"])
    assert (greedy["decoding"], sampled["decoding"]) == ("greedy", "sampled")
    assert [sampled[key] for key in ("difference", "low", "high")] == pytest.approx([-0.5] * 3)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.1, 0.2, "includes zero"), (0.01, 0.2, "excludes zero"), (-0.2, -0.01, "excludes zero")],
)
def test_sentence_says_whether_the_interval_holds_zero(low: float, high: float, verdict: str) -> None:
    names = {"first": "sft", "second": "base", "split": "test", "decoding": "sampled"}
    sentence = summary.write_sentence({**names, "difference": (low + high) / 2, "low": low, "high": high})
    assert verdict in sentence
    assert "on test, sampled: " in sentence


def test_headline_follows_the_figures(runs: list[dict[str, Any]]) -> None:
    for best in ("base", "grpo-strict"):
        runs_of = [make_run(arm, 0, [int(arm == best), 0, 0, 0]) for arm in ARMS]
        line = summary.make_headline({"splits": SPLITS, "summary": summary.summarise(runs_of, ARMS)})
        assert line.startswith(f"Greedy success on test, mean over seeds: {STYLES[best][0]} 25.0 %")


def test_transcripts_are_picked_in_order_by_case() -> None:
    before = {f"t{i}": make_episode(f"t{i}", False) for i in range(9)}
    after = {f"t{i}": make_episode(f"t{i}", i >= 4) for i in reversed(range(9))}
    chosen = [(one["case"], one["task_id"]) for one in summary.pick_transcripts(before, after)]
    assert [task_id for case, task_id in chosen if case.endswith("solved after")] == ["t4", "t5", "t6"]
    assert [task_id for case, task_id in chosen if case == "Not solved before or after"] == ["t0", "t1"]
    assert len(chosen) == 5


def test_tables_hold_every_arm(results: dict[str, Any]) -> None:
    from rich.console import Console

    greedy, sampled = summary.format_tables(results)
    assert greedy.row_count == sampled.row_count == len(ARMS)
    console = Console(file=io.StringIO(), width=130)
    console.print(greedy)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "│ 25.0 │" in re.sub(" +", " ", text)
    assert "similarity" in text


def test_smoothing_looks_back_only() -> None:
    assert smooth([1.0, 0.0, 0.0], window=2).tolist() == [1.0, 0.5, 0.0]
    assert smooth([], window=3).tolist() == []


def test_curves_use_steps_that_every_seed_has() -> None:
    curves = [
        [{"step": 1, "x": 0.1}, {"step": 2, "x": float("nan")}, {"step": 3, "x": 0.3}],
        [{"step": 1, "x": 0.5}, {"step": 2, "x": 0.5}, {"step": 3, "x": 0.7}, {"step": 4, "x": 1.0}],
    ]
    steps, values = gather_curve(curves, "x")
    assert steps.tolist() == [1, 3]
    assert values.tolist() == [[0.1, 0.3], [0.5, 0.7]]
    assert gather_curve(curves, "absent")[0].size == 0
    assert gather_curve([], "x")[0].size == 0


@pytest.mark.parametrize("dark", [False, True])
def test_figures_are_pngs_and_reproducible(runs: list[dict[str, Any]], dark: bool) -> None:
    for draw in (plot_curves, plot_similarity):
        png = draw(runs, ARMS[:3], dark=dark)
        assert png.startswith(b"\x89PNG")
        assert png == draw(runs, ARMS[:3], dark=dark)
    assert plot_curves([], ARMS).startswith(b"\x89PNG")


def test_similarity_figure_shows_each_arm_in_its_colour(runs: list[dict[str, Any]]) -> None:
    image = pytest.importorskip("matplotlib.image")
    pixels = image.imread(io.BytesIO(plot_similarity(runs, ARMS)))[..., :3]
    flat = (pixels.reshape(-1, 3) * 255).round().astype(int)
    for arm in ARMS:
        colour = STYLES[arm][1]
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (flat == wanted).all(1).sum() > 50, arm
