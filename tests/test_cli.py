"""The command line: every command at smoke size, one-line errors, nonsense typed into `play`."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from mentor_gym import cli
from mentor_gym.play import NotUnderstood, read_line
from mentor_gym.protocol import parse_action
from mentor_gym.rewards import PRESETS
from mentor_gym.suites import EXTRA_SUITES, load_suite
from mentor_gym.suites.bfcl_suite import EvaluationSuite
from mentor_gym.testing.base import CheckList, Examination
from mentor_gym.tools.math import math_box

SHOP = Path(__file__).parent / "custom_suite" / "suite.yaml"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `mentor-gym` with arguments and text on standard input; returns exit code, stdout and stderr."""

    def call(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A copy of the example suite that a test may break."""
    folder = tmp_path / "shop"
    shutil.copytree(SHOP.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "suite.yaml"


def assert_one_line_error(result: tuple[int, str, str], *expected: str) -> None:
    code, _, err = result
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for part in expected:
        assert part in err


def test_no_arguments_show_the_commands(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    for command in ("list", "rollout", "play", "eval", "train", "demo", "data"):
        assert f" {command} " in out


@pytest.mark.parametrize(
    "command",
    [
        "list",
        "rollout",
        "play",
        "eval",
        "train",
        "demo",
        "data rebuild",
        "data verify",
        "data validate",
        "data import",
        "data export",
        "data stats",
        "data split",
        "data vary",
        "rewards compare",
        "study",
        "record",
        "serve-mcp",
    ],
)
def test_help_has_text_and_examples(run: Run, command: str) -> None:
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    if command in ("eval", "train"):
        assert f"needs {'--prompt full' if command == 'eval' else 'prompt=full'}" in " ".join(out.split())
    if command != "list":
        assert "Examples:" in out
        assert f"mentor-gym {command}" in out


def test_list_names_everything(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    code, out, _ = run("list")
    assert code == 0
    for name in ("MentorTool-v0", "ood-compose", "2400", "mentor-any", "1.1", "teacher", "multiply"):
        assert name in out
    for name, preset in PRESETS.items():
        assert any(f" {name} " in line and preset.summary in line for line in out.splitlines()), name
    # Tools are listed where some task of the split offers them, and only there.
    lines = out.splitlines()
    train, unseen = (next(line for line in lines if f" {split} " in line) for split in ("train", "ood-tools"))
    assert "clamp" in unseen
    assert "clamp" not in train


def test_rollout_renders_and_sums_up(run: Run) -> None:
    code, out, _ = run("rollout", "--suite", SHOP, "-n", 6, "--render")
    assert code == 0
    assert '[turn 1] <tool_call>{"name": "price"' in out
    assert "reward 1.10 = outcome +0.70 alignment +0.30 validity +0.10" in out
    assert out.splitlines()[-1] == "teacher on shop/train: 6 of 6 correct, mean mentor reward 1.100 of at most 1.1"


def test_rollout_json_is_json_and_repeatable(run: Run) -> None:
    arguments = (
        "rollout",
        "--suite",
        SHOP,
        "-n",
        3,
        "--seed",
        4,
        "--agent",
        "noisy-teacher",
        "--reward",
        "sparse",
        "--json",
    )
    code, out, _ = run(*arguments)
    assert code == 0
    result = json.loads(out)
    assert [set(episode["reward_terms"]) for episode in result["episodes"]] == [{"outcome", "floor"}] * 3
    assert len({episode["task_id"] for episode in result["episodes"]}) == 3
    assert run(*arguments)[1] == out


def test_rollout_of_named_tasks_and_agent_options(run: Run) -> None:
    code, out, _ = run(
        "rollout", "--suite", SHOP, "--task", "shop-2", "--agent", "noisy-teacher", "-o", "rate=1.0", "--json"
    )
    assert code == 0
    (episode,) = json.loads(out)["episodes"]
    assert episode["task_id"] == "shop-2"
    assert episode["reward"] < 1.1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("rollout --suite maths", ["unknown suite 'maths'", "did you mean 'math'?"]),
        ("rollout --split tst", ["no split 'tst'", "train"]),
        ("rollout --reward mentr", ["unknown reward 'mentr'", "did you mean 'mentor'?"]),
        ("rollout --agent teachr", ["no agent 'teachr'", "did you mean 'teacher'?"]),
        ("rollout --agent no_module:thing", ["no_module"]),
        ("rollout --agent teacher -o rate=1", ["teacher", "rate"]),
        ("rollout --agent teacher -o rate", ["--option 'rate'", "key=value"]),
        ("rollout --task nothing", ["no task 'nothing'"]),
        ("rollout --prompt short", ["prompt", "full, compact"]),
        ("rollout --prompt compakt", ["full, compact", "did you mean 'compact'?"]),
        ("rollout --max-turns 0", ["max_turns"]),
        ("rollout -n none", ["-n", "see mentor-gym rollout --help"]),
        ("rollout --nope", ["--nope", "see mentor-gym rollout --help"]),
        ("rolout", ["rolout", "see mentor-gym --help"]),
        ("data", ["see mentor-gym data --help"]),
        ("play --suite Math.", ["unknown suite 'Math.'", "did you mean 'math'?"]),
        ("play --suite gone.yaml", ["gone.yaml", "cannot be read"]),
        ("play --task nothing", ["no task 'nothing'"]),
        ("eval", ["mentor-gym eval MODEL"]),
        ("eval one --agent two", ["name one agent"]),
        ("eval teacher --split tst", ["no split 'tst'", "did you mean 'test'?"]),
        ("eval teacher --json no/such/folder/x.json", ["--json", "does not exist"]),
        ("data verify no/such/folder", ["no/such/folder", "no such folder"]),
        ("data validate gone.yaml", ["gone.yaml"]),
    ],
)
def test_errors_are_one_line(run: Run, arguments: str, expected: list[str]) -> None:
    assert_one_line_error(run(*arguments.split()), *expected)


def test_debug_shows_the_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENTOR_GYM_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown suite"):
        run("rollout", "--suite", "maths")


def test_a_bug_is_not_dressed_up_as_a_user_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "load_suite", lambda name: {}["bug"])
    with pytest.raises(KeyError):
        run("rollout")


def test_missing_extra_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "agents.llm", raising=False)
    result = run("eval", "tiny")
    assert_one_line_error(result, "torch", "pip install 'mentor-gym[train]'")


def test_play_earns_the_teachers_reward(run: Run) -> None:
    lines = b"help\nhelp multiply\nprice tea\nmultiply a=4 b=6\nanswer 24\n"
    code, out, _ = run("play", "--suite", SHOP, "--task", "shop-2", stdin=lines)
    assert code == 0
    assert "price(item): Price of one item in euros" in out
    assert '"additionalProperties": false' in out
    assert "the answer is 24; the teacher called price, multiply" in out
    assert "reward mentor         1.10 = outcome +0.70" in out
    assert "reward strict         1.10" in out


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"   \t ",
        b"\xff\xfe\x00",
        b"\x1b[31m",
        b"help nothing",
        b"help price extra words",
        b"answer",
        b"answr 24",
        b"price",
        b"price a b c",
        b"price item=tea item=tea",
        b"price item='tea",
        b'price item="te',
        b"multiply [[[[ {{",
        b"multiply a=1e999 b=NaN",
        b"multiply " + b"9" * 5000,
        b"price " + b"[" * 5000,
        b"{",
        b'{"name": "price"}',
        b"<tool_call>",
        b"</answer><answer>",
        b"\\boxed{",
        "stock ☃️ 數".encode(),
        b"=",
        b"x" * 100_000,
    ],
)
def test_play_survives_nonsense(run: Run, line: bytes) -> None:
    code, out, err = run("play", "--suite", SHOP, "--task", "shop-3", stdin=line + b"\nanswer 120\n")
    assert (code, err) == (0, "")
    assert "[end] answer, correct" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("end", [b"quit\n", b"exit\n", b"", b"stock apple\nquit"])
def test_play_can_be_left(run: Run, end: bytes) -> None:
    code, out, _ = run("play", "--suite", SHOP, stdin=end)
    assert code == 0
    assert out.endswith("left without an answer\n")


def test_play_short_calls_become_the_wire_format() -> None:
    tools = math_box().tools

    def arguments(line: str) -> dict[str, object]:
        (call,) = parse_action(read_line(line, tools)).calls
        return call.arguments

    assert arguments("add 1 2") == arguments("add a=1, b=2") == arguments("add b=2 1") == {"a": 1, "b": 2}
    assert arguments("sum_numbers numbers=[1, 2.5]") == {"numbers": [1, 2.5]}
    assert arguments("add a=x c=1") == {"a": "x", "c": 1}
    with pytest.raises(NotUnderstood, match="too many"):
        arguments("add 1 2 3")
    with pytest.raises(NotUnderstood, match="did you mean 'add'"):
        arguments("ad 1 2")


def test_play_text_arguments_stay_text(shop: Path) -> None:
    from mentor_gym.suites import load_suite

    tools = load_suite(str(shop)).box.tools
    for line, item in (("price 79", "79"), ("price 'green tea'", "green tea"), ('price "green tea"', "green tea")):
        (call,) = parse_action(read_line(line, tools)).calls
        assert call.arguments == {"item": item}


def test_eval_writes_what_it_shows(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    code, out, _ = run("eval", "--agent", "teacher", "--suite", SHOP, "-k", 2, "--tasks", 4, "--json", file)
    assert code == 0
    (result,) = json.loads(file.read_text())
    assert (result["agent"], result["split"], result["tasks"], result["k"]) == ("teacher", "train", 4, 2)
    assert result["pass@1"] == 1.0
    assert "train" in out
    code, _, _ = run(
        "eval", "random", "--suite", "math", "--split", "test", "--split", "valid", "--tasks", 3, "--json", file
    )
    assert code == 0
    assert [result["split"] for result in json.loads(file.read_text())] == ["test", "valid"]


def test_validate_accepts_the_example_and_names_what_is_wrong(run: Run, shop: Path) -> None:
    assert run("data", "validate", shop)[:2] == (0, "shop/train: 6 rows, 0 with problems\n")

    rows = shop.parent / "train.jsonl"
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    lines[0]["answer"] = "3.3"
    for line in lines[2:4]:
        call = line["teacher"][0]["tool_calls"][0]["function"]
        call["arguments"] = json.dumps({"item": "pear"})
    lines[3]["teacher"][-1]["content"] = "<answer>0</answer>"
    other = shop.with_name("broken")
    shutil.copytree(shop.parent, other)
    (other / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, err = run("data", "validate", other / "suite.yaml")
    assert code == 1
    assert "shop-1: the teacher's trace does not succeed" in err
    # A call that fails is a problem of a teacher that does not succeed; others recover from it.
    assert "\nwarning: shop-3: the teacher's call of stock fails" in err
    assert f"\nshop-4: the teacher's call of {call['name']} fails" in err
    assert "warning: shop-4" not in err
    assert out == "shop/train: 6 rows, 2 with problems\n"

    third = shop.with_name("unreadable")
    shutil.copytree(shop.parent, third)
    with (third / "train.jsonl").open("a") as file:
        file.write('{"id": "x"}\n')
    assert_one_line_error(run("data", "validate", third / "suite.yaml"), "line 7", '"suite"')


@pytest.mark.parametrize(
    "arguments",
    [
        "data validate code-full",
        "eval --agent teacher --suite code-full --tasks 2",
        "rollout --suite code-full",
        "play --suite code-full",
        "data rebuild --suite code-full --out reb",
    ],
)
def test_a_missing_sandbox_is_one_line(
    run: Run, arguments: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mentor_gym.tools import code_full

    monkeypatch.setattr(code_full, "unavailable", lambda: "no such sandbox")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments.split())
    rebuilds = "rebuild" in arguments
    expected = "nothing to rebuild: no tools of code-full can run here" if rebuilds else "no such sandbox"
    assert_one_line_error((code, out, err), expected)
    assert ("code-full: left out: code-full is unavailable: no such sandbox" in out) == rebuilds
    assert list(tmp_path.iterdir()) == []


def test_list_names_the_extra_of_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: object, split: str) -> None:
        raise ModuleNotFoundError("needs it: pip install 'mentor-gym[bfcl]' && pip install more " + "x" * 100)

    monkeypatch.setattr(EvaluationSuite, "tasks", missing)
    code, out, _ = run("list")
    assert code == 0
    for name in ("bfcl", "bfcl-multi-turn"):
        assert f"\n{name}: needs it: pip install 'mentor-gym[bfcl]' && pip install more {'x' * 100}\n" in out


@pytest.mark.parametrize(("words", "told"), [("", True), ("--kind suite", True), ("--kind reward", False)])
def test_check_names_what_it_leaves_out(run: Run, words: str, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from mentor_gym import testing

    checks = CheckList()
    checks.add("sound")(lambda subject: None)
    monkeypatch.setattr(testing, "examine_shipped", lambda kind: [Examination("reward", "sparse", checks, None)])
    code, out, _ = run("check", *words.split())
    assert code == 0
    assert ("not checked" in out) == told
    assert all((name in out) == told for name in EXTRA_SUITES)


def test_rebuild_then_verify(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "rows"
    assert run("data", "rebuild", "--suite", "math", "--out", out, "--seed", 1)[0] == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["seed"] == 1
    assert set(manifest["files"]) >= {"math/train.jsonl", "math/ood-tools.jsonl"}
    assert run("data", "verify", out)[0] == 0

    path = out / "math" / "valid.jsonl"
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    code, stdout, err = run("data", "verify", out)
    assert (code, stdout) == (1, "")
    assert err == "math/valid.jsonl: SHA-256 differs from the manifest\n"

    # The manifest must not lose files that stay on disk.
    (out / "manifest.json").write_text(json.dumps({"files": {"facts/train.jsonl": {}}}))
    assert_one_line_error(run("data", "rebuild", "--suite", "math", "--out", out), "also lists facts")


def fake_module(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: object) -> None:
    module = types.ModuleType(name)
    for key, value in attributes.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    """Stand-ins for the learner's functions, which have tests of their own; the list records their arguments."""
    seen: list[object] = []

    def load_config(path: str, overrides: list[str]) -> object:
        seen.append((path, overrides))
        return "config"

    def train(config: object, resume: bool = False) -> Path:
        seen.append((config, resume))
        return tmp_path / "final"

    fake_module(monkeypatch, "agents.config", load_config=load_config)
    fake_module(monkeypatch, "agents.train", train=train)
    return seen


def test_train_hands_over_config_overrides_and_resume(run: Run, training: list[object], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("steps: 1\n")
    code, out, _ = run("train", path, "steps=2", "seed=3", "--resume")
    assert code == 0
    assert training == [(str(path), ["steps=2", "seed=3"]), ("config", True)]
    assert f"mentor-gym eval {tmp_path / 'final'}" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("grpo-mentr", ["did you mean 'grpo-mentor'?"]),
        ("gone.yaml", ["gone.yaml", "no such file"]),
        ("smoke stepz=1", ["stepz", "steps"]),
        ("smoke steps=many", ["steps", "many"]),
        ("smoke steps", ["key=value"]),
    ],
)
def test_train_errors_are_one_line(run: Run, arguments: str, expected: list[str]) -> None:
    assert_one_line_error(run("train", *arguments.split()), *expected)


def test_interrupted_train_says_how_to_go_on(run: Run, training: list[object], tmp_path: Path) -> None:
    def interrupt(config: object, resume: bool = False) -> Path:
        raise KeyboardInterrupt

    sys.modules["agents.train"].train = interrupt  # type: ignore[attr-defined]
    path = tmp_path / "my run.yaml"
    path.touch()
    code, _, err = run("train", path, "seed=3")
    assert code == 130
    assert err == f"interrupted: go on with: mentor-gym train '{path}' seed=3 --resume\n"


def test_train_then_eval_with_a_real_model(run: Run, tmp_path: Path) -> None:
    from small_models import make_model, make_tokenizer

    make_model().save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    settings = [f"model={tmp_path / 'model'}", f"suite={SHOP}", "eval_split=train", f"output={tmp_path / 'run'}"]
    code, out, err = run("train", "smoke", *settings, "steps=1", "eval_every=0")
    assert code == 0, err
    assert f"trained: {tmp_path / 'run' / 'final'}" in out

    code, out, err = run(
        "eval", tmp_path / "run" / "final", "--suite", SHOP, "--tasks", 2, "-o", "max_new_tokens=8",
        "--json", tmp_path / "result.json",
    )  # fmt: skip
    assert code == 0, err
    assert "Unshaped success" in out
    # The table folds long paths; the file has them whole.
    (result,) = json.loads((tmp_path / "result.json").read_text())
    assert (result["agent"], result["suite"], result["split"], result["tasks"]) == (
        str(tmp_path / "run" / "final"),
        str(SHOP),
        "train",
        2,
    )

    # The run is there: it is neither overwritten nor continued unasked.
    assert_one_line_error(run("train", "smoke", *settings, "steps=1", "eval_every=0"), "--resume")


def test_demo_hands_over_its_options(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_module(monkeypatch, "agents.demo", demo=lambda out, quick: out / f"{quick}.html")
    code, out, _ = run("demo", "--quick", "--out", tmp_path)
    assert (code, out) == (0, f"report: {tmp_path / 'True.html'}\n")


def test_interrupt_from_the_keyboard_exits_130() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mentor_gym.cli", "play", "--suite", str(SHOP)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    while "Type a call" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines() == ["interrupted: stopped"]


@pytest.mark.parametrize(("episodes", "reader"), [(1, "true"), (600, "head -n 1")], ids=["at once", "midway"])
def test_a_reader_that_leaves_is_no_error(episodes: int, reader: str) -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m mentor_gym.cli rollout -n {episodes} --render | {reader}",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    assert done.stderr == ""


def test_rebuild_keeps_rows_whose_tools_cannot_run_here(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mentor_gym import cli_data
    from mentor_gym.tools import code_full

    monkeypatch.setattr(code_full, "unavailable", lambda: "no such sandbox")
    monkeypatch.setattr(cli_data, "SUITES", {"math": "mentor_gym.suites.math"})
    code, out, _ = run("data", "rebuild", "--out", tmp_path)
    assert code == 0
    assert "code-full: left out: code-full is unavailable: no such sandbox" in out
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert {name.partition("/")[0] for name in manifest["files"]} == {"math"}
    entry = {"rows": 1, "sha256": "0"}
    manifest["files"]["code-full/train.jsonl"] = entry
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    code, out, _ = run("data", "rebuild", "--out", tmp_path)
    assert code == 0
    assert "code-full: its rows stay as they are" in out
    assert json.loads((tmp_path / "manifest.json").read_text())["files"]["code-full/train.jsonl"] == entry


def test_a_split_is_varied(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    command = ("data", "vary", "--split", "test", "--notes", "1", "--calls", "1", "--rows", "5")
    code, out, _ = run(*command, "--out", folder)
    assert code == 0
    assert out.strip() == str(folder / "suite.yaml")
    tasks = load_suite(str(folder / "suite.yaml")).tasks("test")
    assert [(task.meta["note"], task.meta["calls"]) for task in tasks] == [("right", 1)] * 5
    assert_one_line_error(run(*command, "--out", folder), "must not exist, or be an empty folder")
    assert_one_line_error(run("data", "vary", "--noise", "2", "--out", tmp_path / "b"), "noise must be between")


def test_a_study_shows_its_plan_and_runs_nothing(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("study", "configs/study.yaml", "--plan", "--out", tmp_path / "study")
    assert code == 0
    assert "0 of" in out
    assert not (tmp_path / "study").exists()
    assert_one_line_error(run("study", "configs/other.yaml", "--plan"), "other.yaml")


def test_data_comes_in_is_counted_divided_and_goes_out(run: Run, tmp_path: Path) -> None:
    sample = Path(__file__).parent / "import_samples" / "xlam.json"
    folder = tmp_path / "calls"
    code, out, _ = run("data", "import", "xlam", sample, "--out", folder)
    assert code == 0
    assert "3 rows" in out
    assert run("data", "validate", folder / "suite.yaml")[0] == 0
    assert_one_line_error(run("data", "import", "xlam", sample, "--out", folder), "not an empty folder")
    assert_one_line_error(run("data", "import", "xlan", sample, "--out", tmp_path / "b"), "did you mean 'xlam'")
    code, out, _ = run("data", "stats", folder / "suite.yaml")
    assert code == 0
    assert "with a teacher" in out
    code, out, _ = run(
        "data",
        "split",
        folder / "suite.yaml",
        "--share",
        "train=0.5",
        "--share",
        "test=0.5",
        "--out",
        tmp_path / "c",
    )
    assert code == 0
    rows = [len((tmp_path / "c" / f"{split}.jsonl").read_text().splitlines()) for split in ("train", "test")]
    assert sum(rows) == 3
    assert_one_line_error(
        run("data", "split", folder / "suite.yaml", "--share", "half", "--out", tmp_path / "d"),
        "expected split=part",
    )
    marked = tmp_path / "c" / "suite.yaml"
    marked.write_text(marked.read_text() + "evaluation_only: true\n")
    for words in (("split", "--share", "a=1"), ("export",)):
        words = ("data", words[0], marked, *words[1:], "--out", tmp_path / f"marked-{words[0]}")
        assert_one_line_error(run(*words), "--evaluation-data")
        assert run(*words, "--evaluation-data")[0] == 0
    target = tmp_path / "chat.jsonl"
    code, out, _ = run("data", "export", "shop", "--split", "test", "--limit", 2, "--out", target)
    assert code == 0
    assert [sorted(json.loads(line)) for line in target.read_text().splitlines()] == [["messages", "tools"]] * 2
