"""`StepwiseExpert`: one turn after the teacher's first ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml
from conftest import SECRET, answer, call, row, teacher, write_suite
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from small_models import make_model, make_tokenizer

from agents.chat import ChatFormat
from agents.config import STEPWISE, ConfigError, load_config
from agents.conversation import Conversation
from agents.grpo import GRPO
from agents.learners import make_learner
from agents.models import load_model
from agents.rollout import Rollout
from agents.scripted import TeacherAgent
from agents.train import get_env_kwargs, train
from agents.trajectory import Trajectory
from mentor_gym.env import MentorToolEnv
from mentor_gym.rewards.srl import keep_groups
from mentor_gym.state import StateError
from mentor_gym.stepwise import StepwiseExpert
from mentor_gym.testing import check_env
from mentor_gym.types import StopReason

POWER, MULTIPLY, RIGHT = call("power", base=3, exponent=2), call("multiply", a=2, b=9), answer(18)


@pytest.fixture
def env(suite: str) -> StepwiseExpert:
    return StepwiseExpert(suite)


def begin(env: StepwiseExpert, k: int, task_id: str = "both") -> tuple[str, dict[str, Any]]:
    return env.reset(options={"task_id": task_id, "teacher_turns": k})


@pytest.mark.parametrize(
    ("k", "turn", "expected"),
    [
        (0, POWER, 1.0),
        (0, MULTIPLY, None),
        (1, MULTIPLY, 1.0),
        (1, call("multiply", b=9.0, a=2), 1.0),
        (1, POWER, None),
        (1, RIGHT, 0.0),
        (1, "<tool_call>{</tool_call>", -1.0),
        (2, RIGHT, 1.0),
        (2, answer("18.00"), 1.0),
        (2, answer(19), 0.5),
        (2, "eighteen", -1.0),
        (2, MULTIPLY, 0.0),
    ],
)
def test_one_turn_is_paid_for_being_the_teacher_s_next(
    env: StepwiseExpert, k: int, turn: str, expected: float | None
) -> None:
    begin(env, k)
    _, reward, terminated, truncated, info = env.step(turn)
    assert (terminated, truncated, info["teacher_turns"]) == (True, False, k)
    assert info["reward_terms"] == {"similarity": reward}
    if expected is None:  # another call of the same form: alike, but not equal
        assert 0.5 < reward < 0.95
    else:
        assert reward == expected
    with pytest.raises(gym.error.ResetNeeded):
        env.step(turn)


def test_the_observation_is_what_a_policy_would_have_seen(env: StepwiseExpert) -> None:
    opening, info = begin(env, 0)
    later, info_later = begin(env, 2)
    responses = "<tool_response>9</tool_response>", "<tool_response>18</tool_response>"
    assert later == f"{opening}\n\n{POWER}\n{responses[0]}\n\n{MULTIPLY}\n{responses[1]}"
    assert SECRET not in later
    assert len(info_later["messages"]) == len(info["messages"]) + 4
    assert env.step(call("add", a=1, b=2))[0] == "<tool_response>3</tool_response>"


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A suite with teachers of four turns, of one, and none."""
    calls = [("add", {"a": n, "b": 1}, str(n + 1)) for n in range(3)]
    rows = [
        row("four", teacher=teacher(calls, "3")),
        row("one", teacher=teacher([], "18")),
        row("none", teacher=[]),
    ]
    return write_suite(Path(tmp_path_factory.mktemp("ladder")), rows)


def test_a_solution_of_four_turns_makes_three_items(ladder: str) -> None:
    env = StepwiseExpert(ladder)
    tasks = {task_id: begin(env, 0, task_id) and env.task for task_id in ("four", "one")}
    assert {name: list(env.items(task)) for name, task in tasks.items()} == {"four": [1, 2, 3], "one": [0]}
    assert list(StepwiseExpert(ladder, first_turn=True).items(tasks["four"])) == [0, 1, 2, 3]
    assert env.task_ids == ["four", "one"]
    drawn = {(info["task_id"], info["teacher_turns"]) for info in (env.reset(seed=seed)[1] for seed in range(60))}
    assert drawn == {("four", 1), ("four", 2), ("four", 3), ("one", 0)}


def test_impossible_items_are_refused(ladder: str, tmp_path: Path) -> None:
    env = StepwiseExpert(ladder)
    for options, words in (
        ({"task_id": "four", "teacher_turns": 4}, "0 to 3"),
        ({"task_id": "four", "teacher_turns": True}, "0 to 3"),
        ({"task_id": "none"}, "'none' has no teacher"),
        ({"task_id": "none", "teacher_turns": 0}, "'none' has no teacher"),
        ({"task_id": "fore"}, "fore"),
        ({"teacher_turn": 1}, "did you mean 'teacher_turns'"),
    ):
        with pytest.raises(ValueError, match=words):
            env.reset(options=options)
    with pytest.raises(ValueError, match="no task of split 'train' of suite 'shop' has a teacher"):
        StepwiseExpert(write_suite(tmp_path / "empty", [row("none", teacher=[])]))
    with pytest.raises(ValueError, match="first_turn"):
        StepwiseExpert(ladder, first_turn=1)  # type: ignore[arg-type]


def test_a_turn_that_was_cut_off_truncates(env: StepwiseExpert) -> None:
    begin(env, 1)
    env.mark_cut_off()
    _, reward, terminated, truncated, info = env.step(MULTIPLY)
    assert (reward, terminated, truncated, info["stop_reason"]) == (-1.0, False, True, StopReason.TOKEN_LIMIT)


def test_the_audit_of_environments_finds_nothing() -> None:
    report = check_env("mentor_gym.stepwise:StepwiseExpert", kwargs={"split": "test"})
    skipped = {item.check.name for item in report.results if item.outcome.value == "not applicable"}
    # Those of MentorToolEnv alone, of episodes of several steps, and of registered ids.
    alone = {"tools-freed", "teacher", "maximum", "answer-hidden"}
    assert skipped == alone | {"state-plain", "state-refused", "spec"}


def test_copies_and_states_have_the_same_future_before_the_first_reset_too(suite: str) -> None:
    env = StepwiseExpert(suite)
    other = StepwiseExpert(suite)
    other.set_state(env.get_state())
    futures = [[item.reset()[1]["task_id"] for _ in range(8)] for item in (env.clone(), other, env)]
    assert futures[0] == futures[1] == futures[2]
    assert len(set(futures[0])) > 1


@pytest.mark.parametrize("first_turn", [False, True])
def test_a_state_is_refused_where_other_items_are_drawn(suite: str, first_turn: bool) -> None:
    env, other = StepwiseExpert(suite, first_turn=first_turn), StepwiseExpert(suite, first_turn=not first_turn)
    begin(env, 1)
    before = other.get_state()
    for state in (env.get_state(), env.clone().get_state(), MentorToolEnv(suite, max_turns=1_000_000).get_state()):
        with pytest.raises(StateError, match=r"saved with first_turn \w+, this environment has"):
            other.set_state(state)
    assert other.get_state() == before
    env.clone().set_state(env.get_state())


def test_what_pays_is_no_part_of_a_state(suite: str) -> None:
    env, other = StepwiseExpert(suite), StepwiseExpert(suite, bad_format=-0.5)
    begin(env, 1)
    other.set_state(env.get_state())
    assert (env.step("well")[1], other.step("well")[1]) == (-1.0, -0.5)


def test_as_a_registered_id_in_a_vector(suite: str) -> None:
    spec = gym.envs.registration.EnvSpec(
        "Stepwise-v0",
        entry_point="mentor_gym.stepwise:StepwiseExpert",
        kwargs={"suite": suite},
        order_enforce=False,
        disable_env_checker=True,
    )
    envs = gym.make_vec(spec, num_envs=3, vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})
    assert isinstance(envs, SyncVectorEnv)
    envs.reset(seed=0, options={"task_id": "both", "teacher_turns": 1})
    _, rewards, terminations, _, infos = envs.step((MULTIPLY, RIGHT, "well"))
    assert rewards.tolist() == [1.0, 0.0, -1.0]
    assert terminations.all()
    assert infos["final_info"]["teacher_turns"].tolist() == [1, 1, 1]
    envs.close()


def test_an_item_names_a_task_and_the_teacher_s_turns(env: StepwiseExpert) -> None:
    assert [item for item in env.item_ids if item.startswith("both@")] == ["both@1", "both@2"]
    _, info = env.reset(options={"item": "both@2"})
    assert (info["task_id"], info["teacher_turns"]) == ("both", 2)
    for item in env.item_ids:
        _, info = env.reset(options={"item": item})
        assert f"{info['task_id']}@{info['teacher_turns']}" == item


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"item": "both"}, "must be '<task id>@<teacher's turns>', got 'both'"),
        ({"item": "both@+1"}, "must be '<task id>@"),
        ({"item": "@1"}, "must be '<task id>@"),
        ({"item": "both@01"}, "must be '<task id>@"),
        ({"item": 3}, "got 3"),
        ({"item": "both@3"}, "teacher_turns must be 0 to 2"),
        ({"item": "neither@1"}, "neither"),
        ({"item": "both@1", "teacher_turns": 1}, "goes without teacher_turns"),
    ],
)
def test_items_that_are_none_are_refused(env: StepwiseExpert, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        env.reset(options=options)


SAYS = {"role": "assistant", "content": "let me think"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (lambda own: own, [1, 2]),
        (lambda own: [SAYS, *own], []),
        (lambda own: [*own[:2], SAYS, *own[2:]], [0]),
        (lambda own: [*own, *own], [1, 2]),
        (lambda own: own[:4], [1]),
        (lambda own: own[4:], [0]),
    ],
    ids=["whole", "talk", "talk between", "goes on", "no answer", "answer alone"],
)
def test_items_end_where_the_teacher_s_episode_does(tmp_path: Path, messages: Any, expected: list[int]) -> None:
    rows = [row("both"), row("odd", teacher=messages(row("both")["teacher"]))]
    env = StepwiseExpert(write_suite(tmp_path / "odd", rows))
    assert env.item_ids == ["both@1", "both@2", *(f"odd@{k}" for k in expected)]
    for item in env.item_ids:
        env.reset(options={"item": item})
        assert env.transcript.stop_reason is None
    if not expected:
        with pytest.raises(ValueError, match="'odd' has no teacher's turn that calls or answers"):
            env.reset(options={"task_id": "odd"})


def test_a_rollout_plays_items(suite: str) -> None:
    env = StepwiseExpert(suite)
    with Rollout({"suite": suite}, max_live=3, env_id=STEPWISE) as rollout:
        assert rollout.task_ids == env.item_ids
        played = rollout.run(TeacherAgent(), ["both@1", "direct@0", "both@2", "both@1"])
        assert [trajectory.task_id for trajectory in played] == ["both", "direct", "both", "both"]
        assert [trajectory.turn_rewards for trajectory in played] == [[1.0]] * 4
        # The teacher's k turns, and the one that was played.
        assert [len(trajectory.transcript.turns) for trajectory in played] == [2, 1, 3, 2]
        # The teacher's next turn answers, or calls and leaves the task's own episode unfinished.
        assert {trajectory.stop_reason for trajectory in played} == {StopReason.ANSWER, None}
        with pytest.raises(ValueError, match="no task 'both@0' in split"):
            rollout.run(TeacherAgent(), ["both@0"])


@pytest.mark.parametrize("own", ["algorithm=grpo", "algorithm=ppo", "credit=turn"])
def test_a_configuration_trains_on_single_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    played: list[list[Trajectory]] = []
    run = Rollout.run

    def listening(self: Rollout, *arguments: Any, **options: Any) -> list[Trajectory]:
        played.append(run(self, *arguments, **options))
        return played[-1]

    monkeypatch.setattr(Rollout, "run", listening)
    few = [f"output={tmp_path}/run", "steps=2", "tasks_per_step=3", "group_size=4", "max_refills=1", own]
    train(load_config("grpo-srl", [*few, "eval_every=0", "save_every=0"]), progress=False)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(not {"success", "tool_f1"} & set(record) for record in rows)
    groups = [all_[start : start + 4] for all_ in played for start in range(0, len(all_), 4)]
    assert len(groups) >= 6
    openings = [{tuple(one.token_ids[: one.action_mask.index(True)]) for one in group} for group in groups]
    assert all(len(prompts) == 1 for prompts in openings)


def test_groups_that_teach_nothing_are_counted_and_change_nothing(suite: str, tmp_path: Path) -> None:
    # No model solves it: every turn of this one is cut off in the middle of a call.
    few = [f"output={tmp_path}/run", f"suite={suite}", "steps=1", "tasks_per_step=2", "group_size=2"]
    final = train(
        load_config("grpo-srl", [*few, "max_new_tokens=1", "max_refills=1", "eval_every=0", "save_every=0"]),
        progress=False,
    )
    (record,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert (record["reward"], record["dropped_groups"], record["zero_variance"]) == (-1.0, 4, 1.0)
    before, after = (load_model(name)[0].state_dict() for name in ("tiny", str(final)))
    assert all((before[name] == after[name]).all() for name in before)


def test_a_context_that_is_full_is_said(suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = [f"output={tmp_path}/run", f"suite={suite}", "steps=1", "tasks_per_step=2", "group_size=2"]
    config = load_config("grpo-srl", [*few, "max_context=20", "max_refills=0", "eval_every=0", "save_every=0"])
    train(config, progress=False)
    assert "step 1: no token was written: every prompt fills max_context, 20" in capsys.readouterr().err


def test_a_constant_length_is_that_of_one_turn() -> None:
    config = load_config("grpo-srl", ["aggregation=constant", "max_turns=8", "max_new_tokens=64"])
    learner: Any = make_learner(make_model(), config)
    assert learner.constant_length == 64


def test_a_run_from_before_a_setting_existed_can_be_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    few = [f"output={folder}", "tasks_per_step=1", "group_size=2", "eval_every=0", "save_every=1", "max_turns=2"]
    train(load_config("grpo-sparse", [*few, "steps=1"]), progress=False)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings.pop("env") == "MentorTool-v0"
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    train(load_config("grpo-sparse", [*few, "steps=2"]), resume=True, progress=False)
    with pytest.raises(ConfigError, match=r"env: the run in .* was started with 'MentorTool-v0'"):
        train(load_config("grpo-srl", [*few, "steps=3"]), resume=True, progress=False)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("reward=mentor", "reward: MentorStepwise-v0 pays srl and nothing else, got 'mentor'"),
        ("reward={name: sum}", "pays srl and nothing else"),
        ("algorithm=sft", "env: MentorStepwise-v0 needs turns that are sampled"),
        ("transcripts_every=1", "transcripts_every: must be 0 with MentorStepwise-v0"),
        ("env=Mentor", "expected one of MentorTool-v0, MentorStepwise-v0"),
    ],
)
def test_configurations_that_do_not_fit_single_turns(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config("grpo-srl", [setting])


def test_arguments_of_the_reward_reach_the_environment() -> None:
    config = load_config("grpo-srl", ["reward={name: srl, bad_format: -0.5, judge: text}"])
    kwargs = get_env_kwargs(config)
    assert (kwargs["judge"], kwargs["bad_format"]) == ("text", -0.5)
    assert gym.make(STEPWISE, **kwargs).unwrapped.reward.minimum == -0.5  # type: ignore[attr-defined]


def test_grpo_learns_from_its_groups(suite: str) -> None:
    """A group is one item, played several times; the row of an episode is the item and the one turn."""
    model, chat = make_model(max_position_embeddings=2_048), ChatFormat(make_tokenizer())
    env = StepwiseExpert(suite, prompt="compact")
    groups = []
    for texts in ((MULTIPLY, "well", RIGHT), ("well", "well", "well")):
        group = []
        for text in texts:
            _, info = begin(env, 1)
            record = Conversation()
            record.extend_observation(chat.opening(info["messages"]))
            ids = chat.assistant(text)
            record.extend_action(ids, [-1.0] * len(ids))
            reward = env.step(text)[1]
            paid = [0.0] * (len(record) - 1) + [reward]
            terms, success = {"similarity": reward}, env.transcript.is_success
            tokens = record.token_ids, record.action_mask, record.logprobs, paid
            group.append(
                Trajectory("both", "policy", *tokens, terms, success, StopReason.ANSWER, [reward], env.transcript)
            )
        groups.append(group)
    kept = keep_groups(groups, [[item.total_reward for item in group] for group in groups])
    assert kept == groups[:1]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    GRPO(model, learning_rate=1e-3, kl_coef=0.0).update(kept)
    assert any((one != other).any() for one, other in zip(before, model.parameters()))
