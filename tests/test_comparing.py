"""Rewards compared: statistics against numbers worked out by hand, the tables and files, and every refusal."""

from __future__ import annotations

import csv
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import typer
from conftest import answer, call, play

import mentor_gym
from mentor_gym import cli_rewards, comparing
from mentor_gym.comparing import Comparison, compare
from mentor_gym.comparing_report import write_page, write_scores, write_summary
from mentor_gym.data import data_path
from mentor_gym.rewards import PRESETS, make_reward
from mentor_gym.transcripts import Episode, read_transcripts, write_transcripts
from mentor_gym.types import Transcript

NAN = math.nan
HOSTILE = '<script>alert("x")</script><img src=https://evil.example/x.png>'
POWER, MULTIPLY = call("power", base=3, exponent=2), call("multiply", a=2, b=9)


def numbers(*values: float) -> Any:
    return np.array(values, dtype=float)


# --- ranks, correlations, areas


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert comparing.average_ranks(numbers(3, 1, 3, 3, 7)).tolist() == [3, 1, 3, 3, 5]


@pytest.mark.parametrize(
    ("first", "second", "rho"),
    [
        # Without ties 1 - 6 Σd² / (n (n² - 1)); the differences of the ranks are 1, 1, 2, 0, 2.
        (numbers(1, 2, 3, 4, 5), numbers(20, 10, 50, 40, 30), 1 - 6 * 10 / (5 * 24)),
        # Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: covariance 4.5, variances 4.5 and 5.
        (numbers(1, 2, 2, 3), numbers(1, 3, 2, 4), math.sqrt(0.9)),
        (numbers(1, 2, 3), numbers(9, 4, 1), -1),
        (numbers(1, NAN, 2, 3, 8), numbers(1, 7, 2, NAN, 3), 1),
        (numbers(1, 1, 1), numbers(1, 2, 3), NAN),
        (numbers(NAN, 1), numbers(1, NAN), NAN),
        # Equal in single precision: the sum of the same terms in another order.
        (numbers(0.1 + 0.2, 0.3, 0.4), numbers(2, 1, 3), math.sqrt(0.75)),
    ],
)
def test_spearman(first: Any, second: Any, rho: float) -> None:
    for one, other in ((first, second), (second, first), (np.exp(first), second)):
        assert comparing.spearman(one, other) == pytest.approx(rho, abs=1e-12, nan_ok=True)


def test_correlations_are_a_symmetric_matrix() -> None:
    rho = comparing.correlate(np.vstack([numbers(1, 2, 3), numbers(1, 3, 2), numbers(4, 4, 4)]))
    assert rho[:2, :2].tolist() == [[1, 0.5], [0.5, 1]]
    assert np.isnan(rho[2]).all()
    assert np.isnan(rho[:, 2]).all()


@pytest.mark.parametrize(
    ("totals", "right", "area"),
    [
        ((0.1, 0.2, 0.3, 0.4), (0, 0, 1, 1), 1),
        ((0.4, 0.3, 0.2, 0.1), (0, 0, 1, 1), 0),
        ((5, 5, 5), (0, 1, 0), 0.5),
        # Right 2 and 3 against wrong 1, 2 and 4: 1 + ½ + 0 and 1 + 1 + 0 of 6.
        ((1, 2, 2, 3, 4), (0, 1, 0, 1, 0), 3.5 / 6),
        ((1, NAN, 2, NAN), (0, 0, 1, 1), 1),
        ((1, 2), (1, 1), NAN),
        ((1, NAN), (1, 0), NAN),
    ],
)
def test_area_under_the_curve(totals: Any, right: Any, area: float) -> None:
    found = comparing.auc(numbers(*totals), np.array(right, dtype=bool))
    assert found == pytest.approx(area, abs=1e-12, nan_ok=True)


# --- groups


def test_groups_without_signal() -> None:
    groups = [np.array([0, 1]), np.array([2, 3]), np.array([4, 5]), np.array([6, 7])]
    share = comparing.zero_variance_share
    assert share(numbers(1, 1, 1, 0, 2, 2, 3, 4), groups) == 0.5
    # As learners compare: 0.1 + 0.2 is 0.3; and a difference that single precision sees is one.
    assert share(numbers(0.1 + 0.2, 0.3, 1, 1 + 1e-6, 1, 1 + 1e-9, 0.0, -0.0), groups) == 0.75
    assert share(numbers(1, 1, NAN, 1, NAN, NAN, 3, 4), groups) == 0.5
    assert math.isnan(share(numbers(NAN, 1), groups[:1]))
    assert math.isnan(share(numbers(1, 1), []))


def test_groups_that_mislead() -> None:
    groups = [np.array([0, 1, 2]), np.array([3, 4]), np.array([5, 6]), np.array([7, 8])]
    right = np.array([1, 0, 0, 0, 1, 1, 0, 1, 1], dtype=bool)
    share = comparing.misleading_share
    # The first group's best is wrong, the second's is right, the third is a tie, the fourth has no wrong one.
    assert share(numbers(1, 0, 2, 1, 2, 5, 5, 0, 9), right, groups) == pytest.approx(1 / 3)
    assert share(numbers(3, 0, 2, 3, 2, 4, 5, 0, 9), right, groups) == pytest.approx(2 / 3)
    assert share(numbers(1, NAN, 2, 1, 2, 4, 5, 0, 9), right, groups) == 0.5
    assert math.isnan(share(numbers(*range(9)), right, groups[3:]))


def test_single_episodes_are_no_group(suite: str) -> None:
    transcript = played(suite, [answer(18)])
    episodes = [Episode(transcript, "me", name) for name in ("a", None, "b", "a", None)]
    assert [group.tolist() for group in comparing.group_positions(episodes)] == [[0, 3]]


# --- disagreements


def test_disagreements_come_from_both_sides() -> None:
    first, second = numbers(5, 1, 4, 2, 3), numbers(1, 5, 3, 4, 2)
    # Ranks 5 1 4 2 3 and 1 5 3 4 2: differences 4, -4, 1, -2, 1.
    found = comparing.find_disagreements(first, second, 2)
    assert [example.position for example in found] == [0, 2, 1, 3]
    assert found[0].percentiles == pytest.approx((0.9, 0.1))
    assert [example.position for example in comparing.find_disagreements(first, second, 9)] == [0, 2, 4, 1, 3]
    assert comparing.find_disagreements(first, second, 0) == []
    assert comparing.find_disagreements(first, 10 * first, 3) == []
    assert comparing.find_disagreements(numbers(NAN, 1), numbers(1, NAN), 3) == []


def test_disagreements_show_a_task_once_a_side_and_leave_out_what_broke() -> None:
    first, second = numbers(4, NAN, 3, 2, 1), numbers(1, 9, 2, 3, 4)
    found = comparing.find_disagreements(first, second, 2, keys=["a", "b", "a", "a", "b"])
    assert [example.position for example in found] == [0, 4, 3]


def test_pairs_that_agree_least_repeat_no_reward_at_first() -> None:
    rho = np.full((5, 5), 0.9)
    rho[0] = rho[:, 0] = 0.1
    rho[4] = rho[:, 4] = NAN
    rho[1, 3] = 0.8
    assert comparing.least_alike(rho) == [(0, 1), (2, 3), (0, 2), (0, 3), (1, 3), (1, 2)]


# --- the whole comparison


def played(suite: str, turns: list[str], task_id: str = "both") -> Transcript:
    environment = mentor_gym.MentorToolEnv(suite, max_turns=4)
    play(environment, turns, task_id)
    return environment.transcript


@pytest.fixture(scope="module")
def episodes(suite: str) -> list[Episode]:
    """Six episodes: what sparse and mentor pay stands behind each."""
    plays = [
        ("a", [POWER, MULTIPLY, answer(18)]),  # 1.0 and 1.1
        ("a", [POWER, MULTIPLY, answer(17)]),  # 0.1 and 0.16
        ("a", [POWER] * 4),  # 0 and 0
        ("b", [answer(HOSTILE)]),  # 0.1 and 0.1
        ("b", ["well"]),  # 0.1 and 0.1
        (None, [answer(18)]),  # 1.0 and 0.8
    ]
    return [Episode(played(suite, turns), f"player {name}", name) for name, turns in plays]


class Picky:
    """Breaks on episodes without calls, and on cut off ones."""

    maximum = 1.0

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        calls = transcript.calls()
        return {"first": float(len(calls[0][0].name)), "end": math.inf if transcript.answer is None else -4.0}


@pytest.fixture(scope="module")
def comparison(episodes: list[Episode]) -> Comparison:
    rewards = {"sparse": make_reward("sparse"), "mentor": make_reward("mentor"), "picky <b>": Picky()}
    return compare(episodes, rewards, pairs=3, examples=1)


def test_figures(comparison: Comparison) -> None:
    sparse, mentor, _ = comparison.figures
    assert comparison.scores.totals_RN[:2] == pytest.approx(
        np.array([[1, 0.1, 0, 0.1, 0.1, 1], [1.1, 0.16, 0, 0.1, 0.1, 0.8]]), abs=1e-12
    )
    assert (sparse.low, sparse.high, sparse.broken) == (0, 1, 0)
    assert sparse.mean == pytest.approx(2.3 / 6)
    assert sparse.std == pytest.approx(math.sqrt(2.03 / 6 - (2.3 / 6) ** 2))
    assert (mentor.mean_right, mentor.mean_wrong) == pytest.approx((0.95, 0.09))
    assert (sparse.auc, mentor.auc) == (1, 1)
    # Ranks of sparse 5.5 3 1 3 3 5.5, of success 5.5 2.5 2.5 2.5 2.5 5.5: 12 against 15 and 12.
    assert sparse.rho == pytest.approx(12 / math.sqrt(15 * 12))
    # Group b earns the same; a is the only mixed one, and its right episode is paid best.
    assert (sparse.zero_variance, sparse.misleading) == (0.5, 0)
    assert (comparison.groups, comparison.mixed_groups, comparison.tasks) == (2, 1, 1)
    assert comparison.success == pytest.approx(1 / 3)
    assert comparison.sources == {"player a": 3, "player b": 2, "player None": 1}


def test_what_a_reward_breaks_on_is_told_and_hides_nothing(comparison: Comparison) -> None:
    picky = comparison.figures[2]
    broken = comparison.scores.broken
    assert [(one.reward, one.position) for one in broken] == [("picky <b>", place) for place in (2, 3, 4, 5)]
    assert broken[0].error == "FloatingPointError: the reward is inf"
    assert broken[1].error.startswith("IndexError: ")
    assert comparison.scores.terms[2][2] == {}
    # Of the two episodes that are left, both are paid 1; no group is left whole.
    assert (picky.mean, picky.std, picky.auc, picky.broken) == (1, 0, 0.5, 4)
    assert math.isnan(picky.zero_variance)
    assert math.isnan(picky.rho)
    assert [pair.names for pair in comparison.pairs] == [("sparse", "mentor")]


def test_nothing_but_numbers_goes_into_json(comparison: Comparison) -> None:
    found = json.loads(json.dumps(comparison.as_json(), allow_nan=False))
    assert found["rewards"][2]["zero_variance"] is None
    assert found["spearman"]["sparse"]["success"] == pytest.approx(comparison.figures[0].rho)
    assert found["spearman"]["mentor"]["sparse"] == found["pairs"][0]["spearman"]
    assert [one["position"] for one in found["broken"]] == [2, 3, 4, 5]
    assert (found["episodes"], found["groups"]) == (6, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"episodes": []}, "at least one episode"),
        ({"rewards": {}}, "at least one episode and one reward"),
        ({"rewards": {"success": make_reward("sparse")}}, "name the reward otherwise"),
        ({"pairs": -1}, "must not be negative, got -1 and 1"),
        ({"examples": -2}, "must not be negative, got 3 and -2"),
    ],
)
def test_impossible_comparisons_are_refused(episodes: list[Episode], changes: Any, words: str) -> None:
    arguments: dict[str, Any] = {"episodes": episodes, "rewards": {"sparse": make_reward("sparse")}, **changes}
    with pytest.raises(ValueError, match=words):
        compare(**arguments)


def test_every_preset_scores_the_shipped_transcripts() -> None:
    steps: list[tuple[int, int]] = []
    rewards = {name: make_reward(name) for name in PRESETS}
    shipped = read_transcripts(data_path("transcripts", "math-1000.jsonl"))
    found = compare(shipped, rewards, progress=lambda done, total: steps.append((done, total)))
    assert found.scores.broken == []
    assert [figures.name for figures in found.figures if not figures.std > 0] == []
    # The figures of two rewards differ, or comparing them on these transcripts says nothing.
    assert len({figures.zero_variance for figures in found.figures}) > len(PRESETS) // 2
    assert steps == [(done, len(PRESETS)) for done in range(1, len(PRESETS) + 1)]
    assert (found.groups, len(found.pairs)) == (112, 3)


# --- files


def test_csv_files(comparison: Comparison, tmp_path: Path) -> None:
    write_scores(comparison, tmp_path / "scores.csv")
    write_summary(comparison, tmp_path / "summary.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        scores = list(csv.DictReader(file))
    assert [float(row["mentor"]) for row in scores] == comparison.scores.totals_RN[1].tolist()
    assert [row["picky <b>"] for row in scores] == ["1.0", "1.0", "", "", "", ""]
    assert [(row["row"], row["group"], row["is_success"]) for row in scores][4:] == [
        ("4", "b", "0"),
        ("5", "", "1"),
    ]
    with (tmp_path / "summary.csv").open(newline="") as file:
        summary = list(csv.DictReader(file))
    assert [row["reward"] for row in summary] == ["sparse", "mentor", "picky <b>"]
    assert float(summary[0]["auc"]) == 1
    assert float(summary[0]["spearman:mentor"]) == comparison.rho_MM[0, 1]
    assert (summary[2]["zero_variance"], summary[2]["broken"]) == ("", "4")


class Page(HTMLParser):
    """Collects tags, and complains of one that is closed without having been opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_escapes_what_others_wrote(comparison: Comparison) -> None:
    page = write_page(comparison)
    read = Page(page)
    assert read.open == []
    assert {"script", "img", "link", "b>"} & set(read.tags) == set()
    assert {name for name, _ in read.attributes} & {"src", "href", "srcset", "onerror"} == set()
    assert re.search(r"url\(|@import|https?://", re.sub(r"&lt;.*?&gt;", "", page)) is None
    # Figures with heads and names; correlations of three rewards and success; what broke.
    assert read.tags.count("td") == 3 * 10 + 4 * 4 + 3
    for text in (
        "picky <b>",
        "the reward is inf",
        "sparse and mentor",
        "What is two times the square",
        "alignment +0.06",
    ):
        assert text in read.text, text
    assert "prefers-color-scheme:dark" in page


def test_the_page_shows_hostile_episodes_as_text(episodes: list[Episode]) -> None:
    task = msgspec.structs.replace(episodes[3].transcript.task, prompt=HOSTILE, id=HOSTILE)
    wild = Transcript(task, episodes[3].transcript.turns, *_end(episodes[3]))
    shown = [Episode(wild, HOSTILE), episodes[0]]
    page = write_page(
        compare(shown, {HOSTILE: make_reward("sparse"), "calls": lambda t: {HOSTILE: -len(t.calls())}})
    )
    read = Page(page)
    assert {"script", "img"} & set(read.tags) == set()
    assert read.text.count('alert("x")') >= 6


def _end(episode: Episode) -> tuple[Any, ...]:
    transcript = episode.transcript
    return transcript.stop_reason, transcript.answer, transcript.is_success


# --- the command


def run(*arguments: object) -> int:
    """Run `mentor-gym rewards …` and return its exit code; errors of the user's are raised."""
    command = typer.main.get_command(cli_rewards.rewards_app)
    code = command.main([str(item) for item in arguments], standalone_mode=False)
    return code if isinstance(code, int) else 0


def test_the_command_writes_what_it_is_told_to(
    episodes: list[Episode], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_transcripts(tmp_path / "run" / "transcripts.jsonl", episodes)
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mentor\nmatcher: f1\n")
    files = [word for kind in ("csv", "json", "html") for word in (f"--{kind}", tmp_path / f"out.{kind}")]
    chosen = ["--reward", "sparse", "--reward", mine]
    assert run("compare", tmp_path / "run", *chosen, "--pairs", 1, *files) == 0
    out, err = capsys.readouterr()
    assert "6 episodes of 1 tasks" in out
    assert "where rewards disagree most" in out
    assert err == ""
    assert json.loads((tmp_path / "out.json").read_text())["rewards"][1]["name"] == "mine"
    assert "mine" in (tmp_path / "out.csv").read_text().splitlines()[0]
    assert (tmp_path / "out-summary.csv").read_text().count("\n") == 3
    assert Page((tmp_path / "out.html").read_text()).open == []


def test_the_command_tells_of_a_reward_that_breaks(
    episodes: list[Episode], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "picky_rewards.py").write_text(
        "NUMBER = 3\n\nclass Picky:\n    maximum = 1.0\n"
        "    def __call__(self, transcript):\n        raise KeyError('lost\\nit')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    write_transcripts(tmp_path / "some.jsonl", episodes)
    chosen = ["--reward", "picky_rewards:Picky", "--reward", "sparse"]
    assert run("compare", tmp_path / "some.jsonl", *chosen) == 1
    out, err = capsys.readouterr()
    assert "sparse" in out
    assert "reward 'Picky' broke on 6 of 6 episodes, first on row 0, task 'both': KeyError: " in err
    with pytest.raises(ValueError, match="a int is no reward"):
        cli_rewards.read_rewards(["picky_rewards:NUMBER"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reward", "mentr"], "unknown reward 'mentr'.*did you mean 'mentor'"),
        (["--reward", "sparse", "--reward", "sparse"], "there are two rewards 'sparse'"),
        (["--reward", "{tmp}/gone.yaml"], r"gone\.yaml: cannot be read"),
        (["--reward", "{tmp}/bad.yaml"], r"bad\.yaml: unknown reward 'nobody'"),
        (["--reward", "{tmp}/list.yaml"], r"list\.yaml: a reward is a name, a mapping"),
        (["--reward", "no_such_module:Thing"], "cannot import 'no_such_module' for reward"),
        (["--csv", "{tmp}/no/where.csv"], "--csv .*where.csv: the folder .*no does not exist"),
        (["--html", "{tmp}/no/where.html"], "--html "),
        (["{tmp}"], r"no transcripts\.jsonl in it or beneath it"),
    ],
)
def test_what_the_command_refuses(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "bad.yaml").write_text("name: nobody\n")
    (tmp_path / "list.yaml").write_text("- sparse\n")
    with pytest.raises(ValueError, match=words):
        run("compare", *(word.format(tmp=tmp_path) for word in arguments))


def test_all_stands_for_the_presets() -> None:
    assert list(cli_rewards.read_rewards(["all"])) == list(PRESETS)


def test_tables_fit_into_a_hundred_columns(
    episodes: list[Episode], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    rewards = {f"a rather long name {number}": make_reward("mentor") for number in range(24)}
    cli_rewards.print_comparison(compare(episodes, {**rewards, "sparse": make_reward("sparse"), "picky": Picky()}))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    # Every correlation is there: 26 rewards and success below one another, each beside those before it.
    triangle = "\n".join(lines).partition("rank correlations")[2].partition("where rewards")[0]
    found = [line for line in triangle.splitlines() if re.search("[a-z]", line[4:20]) and " reward " not in line]
    assert sum(len(line[21:].split()) for line in found) == 27 * 26 // 2
    assert {word for line in found for word in line[21:].split()} > {"100", "–"}
