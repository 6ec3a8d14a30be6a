"""Rollouts: order, waves, token alignment, rewards, and agents that misbehave."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.base import AgentError, Completion, FunctionAgent, Observation
from agents.rollout import Rollout
from agents.scripted import NoisyTeacher, RandomAgent, TeacherAgent
from mentor_gym.env import MentorToolEnv
from mentor_gym.protocol import render_call
from mentor_gym.types import StopReason

TOOLS = '''
from mentor_gym.tools import tool

@tool
def multiply(a: float, b: float) -> float:
    """a times b."""
    return a * b

@tool
def power(base: float, exponent: float) -> float:
    """base to the power of exponent."""
    return base ** exponent

@tool
def add(a: float, b: float) -> float:
    """a plus b."""
    return a + b
'''


def teacher(side: int, count: int) -> list[dict[str, Any]]:
    """The trace of `count * side ** 2`, in two calls."""
    steps = [
        ("power", {"base": side, "exponent": 2}, str(side**2)),
        ("multiply", {"a": side**2, "b": count}, str(side**2 * count)),
    ]
    messages: list[dict[str, Any]] = []
    for number, (name, arguments, output) in enumerate(steps):
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call_{number}", "content": output})
    return [*messages, {"role": "assistant", "content": f"<answer>{steps[-1][2]}</answer>"}]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Six tasks whose teacher uses power and multiply."""
    folder: Path = tmp_path_factory.mktemp("squares")
    rows = [
        {
            "id": f"squares-{n}",
            "suite": "squares",
            "split": "train",
            "prompt": f"{n + 2} squares of side {n + 3}: what is their area?",
            "tools": ["multiply", "power", "add"],
            "answer": str((n + 2) * (n + 3) ** 2),
            "grader": {"kind": "number"},
            "state": None,
            "teacher": teacher(n + 3, n + 2),
            "meta": {"kind": "squares", "calls": 2, "paths": 1},
        }
        for n in range(6)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tools.py").write_text(TOOLS)
    (folder / "suite.yaml").write_text("name: squares\ntools: tools.py\nsplits:\n  train: train.jsonl\n")
    return str(folder / "suite.yaml")


class Script:
    """Writes given turns, and records every batch that it is shown."""

    def __init__(self, write: Callable[[Observation], Any]) -> None:
        self.write = write
        self.batches: list[list[Observation]] = []
        self.forgotten: list[int] = []

    def act(self, observations: Sequence[Observation]) -> list[Any]:
        self.batches.append(list(observations))
        return [self.write(observation) for observation in observations]

    def forget(self, episode: int) -> None:
        self.forgotten.append(episode)


def answer(observation: Observation) -> Completion:
    return Completion("<answer>18</answer>")


def tokens_of(text: str) -> list[int]:
    return [ord(character) for character in text]


def text_of(tokens: Sequence[int]) -> str:
    return "".join(map(chr, tokens))


CALLS = (
    render_call("power", {"base": 3, "exponent": 2}),
    render_call("multiply", {"a": 9, "b": 2}),
    "<answer>18</answer>",
)


def logprob(turn: int, position: int) -> float:
    """Different for every token, so that a shift by one shows."""
    return -(turn + 1) - position / 1000


def token_script(observation: Observation) -> Completion:
    """Solves squares-0 with one token a character; chat glue around every observation."""
    text, turn = CALLS[observation.turn], observation.turn
    ids = tokens_of(text)
    return Completion(text, ids, [logprob(turn, i) for i in range(len(ids))], tokens_of(f"[{observation.text}]"))


# Tasks, order, waves


@pytest.mark.parametrize("max_live", [1, 2, 4, 64])
def test_trajectories_come_in_the_order_of_the_tasks(suite: str, max_live: int) -> None:
    with Rollout({"suite": suite}, max_live) as rollout:
        assert rollout.task_ids == [f"squares-{n}" for n in range(6)]
        wanted = [*reversed(rollout.task_ids), "squares-3", "squares-3"]
        runs = rollout.run(TeacherAgent(), wanted)
    assert [run.task_id for run in runs] == wanted
    assert [run.transcript.task.id for run in runs] == wanted
    assert all(run.is_success and run.total_reward == pytest.approx(1.1) for run in runs)


def test_results_do_not_depend_on_batches_or_order(suite: str) -> None:
    def play(max_live: int, backwards: bool) -> dict[str, Any]:
        with Rollout({"suite": suite}, max_live) as rollout:
            ids = rollout.task_ids[::-1] if backwards else rollout.task_ids
            runs = rollout.run(NoisyTeacher(0.5), ids)
        return {run.task_id: (run.transcript, run.turn_rewards, run.reward_terms) for run in runs}

    reference = play(64, backwards=False)
    assert len({str(transcript.turns) for transcript, _, _ in reference.values()}) == 6
    assert play(1, backwards=False) == play(4, backwards=True) == reference


def test_an_episode_that_ends_makes_room_for_the_next(suite: str) -> None:
    # Episodes of unequal length: the second call is skipped for odd tasks.
    def write(observation: Observation) -> Completion:
        if observation.turn == 0 and "2 squares" in observation.text:
            return Completion(CALLS[0])
        return Completion("<answer>1</answer>")

    agent = Script(write)
    with Rollout({"suite": suite}, max_live=3) as rollout:
        played = ["squares-0", "squares-1", "squares-0", "squares-2"]
        assert [run.task_id for run in rollout.run(agent, played)] == played
        assert len(rollout._pool) == 3
    # The second episode ends after a turn, and the fourth takes its place beside the later turns of the others.
    assert [[item.turn for item in batch] for batch in agent.batches] == [[0, 0, 0], [1, 1, 0]]
    first, second = agent.batches[0], agent.batches[1]
    assert [item.episode for item in second[:2]] == [first[0].episode, first[2].episode]


class Streaming(Script):
    """Hands back the turn of one episode at a time, the newest first."""

    def __init__(self, write: Callable[[Observation], Completion]) -> None:
        super().__init__(write)
        self.asked: list[Observation] = []

    def submit(self, observation: Observation) -> None:
        self.asked.append(observation)

    def collect(self) -> list[tuple[int, Completion]]:
        observation = self.asked.pop()
        return [(observation.episode, self.write(observation))]


def test_a_streaming_agent_may_hand_turns_back_in_any_order(suite: str) -> None:
    def write(observation: Observation) -> Completion:
        return Completion(CALLS[0] if observation.turn == 0 else "<answer>18</answer>")

    agent = Streaming(write)
    with Rollout({"suite": suite}, max_live=4) as rollout:
        streamed = rollout.run(agent, rollout.task_ids)
        together = rollout.run(Script(write), rollout.task_ids)
    assert [run.transcript for run in streamed] == [run.transcript for run in together]
    assert agent.asked == []
    assert len(agent.forgotten) == 6


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([], r"Streaming\.collect returned nothing, with 2 turns asked for"),
        (
            [(10**9, Completion("x"))],
            r"Streaming\.collect returned a turn of episode 1000000000, which is not running",
        ),
    ],
)
def test_a_streaming_agent_that_breaks_its_contract_is_named(suite: str, returned: Any, message: str) -> None:
    agent = Streaming(answer)
    agent.collect = lambda: returned  # type: ignore[method-assign]
    with Rollout({"suite": suite}) as rollout, pytest.raises(AgentError, match=message):
        rollout.run(agent, rollout.task_ids[:2])


def test_environments_are_made_once_and_leak_nothing_between_runs(suite: str) -> None:
    with Rollout({"suite": suite}) as rollout:
        first = rollout.run(TeacherAgent(), rollout.task_ids[:4])
        kept = [list(run.transcript.turns) for run in first]
        pool = list(rollout._pool)
        again = rollout.run(TeacherAgent(), rollout.task_ids[:4])
        rollout.run(Script(answer), rollout.task_ids[:4])
        assert rollout._pool == pool
    assert [run.transcript for run in again] == [run.transcript for run in first]
    assert [run.transcript.turns for run in first] == kept


def test_episode_numbers_are_never_used_twice_even_by_two_rollouts(suite: str) -> None:
    agent = Script(answer)
    with Rollout({"suite": suite}, 2) as one, Rollout({"suite": suite}, 4) as other:
        for rollout in (one, other, one):
            rollout.run(agent, rollout.task_ids)
    numbers = [item.episode for batch in agent.batches for item in batch]
    assert len(numbers) == 18
    assert numbers == sorted(set(numbers))
    assert sorted(agent.forgotten) == numbers


def test_no_tasks_make_no_trajectories(suite: str) -> None:
    agent = Script(answer)
    with Rollout({"suite": suite}) as rollout:
        assert rollout.run(agent, []) == []
    assert agent.batches == []


def test_an_unknown_task_is_refused_with_the_nearest_before_anything_is_played(suite: str) -> None:
    agent = Script(answer)
    with (
        Rollout({"suite": suite}) as rollout,
        pytest.raises(ValueError, match=r"no task 'square-5' in split 'train'.*did you mean 'squares-5'"),
    ):
        rollout.run(agent, ["squares-0", "square-5"])
    assert agent.batches == []


@pytest.mark.parametrize("max_live", [0, -1, 2.0])
def test_max_live_must_be_a_positive_whole_number(suite: str, max_live: Any) -> None:
    with pytest.raises(ValueError, match="max_live"):
        Rollout({"suite": suite}, max_live)


def test_wrong_environment_arguments_are_reported_at_once(suite: str) -> None:
    with pytest.raises(ValueError, match="no split 'valid'"):
        Rollout({"suite": suite, "split": "valid"})


def test_the_seed_reaches_the_environments_one_number_an_episode(
    suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[Any] = []
    reset = MentorToolEnv.reset

    def recorded(self: MentorToolEnv, *, seed: int | None = None, options: Any = None) -> Any:
        seeds.append(seed)
        return reset(self, seed=seed, options=options)

    monkeypatch.setattr(MentorToolEnv, "reset", recorded)
    with Rollout({"suite": suite}, max_live=2) as rollout:
        agent = Script(answer)
        rollout.run(agent, rollout.task_ids[:5], seed=100)
        rollout.run(Script(answer), rollout.task_ids[:2])
    assert [item.seed for batch in agent.batches for item in batch] == seeds[:5]
    with Rollout({"suite": suite}, max_live=5) as rollout:
        rollout.run(Script(answer), rollout.task_ids[:5], seed=100)
        rollout.run(Script(answer), rollout.task_ids[:1], seed=101)
    # The same ones however many run at a time, distinct from those of another seed.
    assert seeds[5:7] == [None, None]
    assert seeds[:5] == seeds[7:12]
    assert len(set(seeds[:5]) | set(seeds[12:])) == 6


def test_closing_twice_is_fine_and_a_later_run_makes_new_environments(suite: str) -> None:
    rollout = Rollout({"suite": suite})
    rollout.close()
    rollout.close()
    assert rollout.run(TeacherAgent(), ["squares-0"])[0].is_success
    rollout.close()


# What the agent is shown


def test_observations_are_those_of_the_environment(suite: str) -> None:
    agent = Script(token_script)
    with Rollout({"suite": suite, "prompt": "compact"}) as rollout:
        rollout.run(agent, ["squares-0"])
    first, second, third = (batch[0] for batch in agent.batches)
    assert first.text.endswith("2 squares of side 3: what is their area?")
    assert first.messages == [{"role": "user", "content": first.text}]
    assert second.text == "<tool_response>9</tool_response>"
    assert [message["content"] for message in second.messages] == ["9"]
    assert (first.turn, second.turn, third.turn) == (0, 1, 2)
    assert first.episode == second.episode == third.episode


def test_only_a_privileged_agent_sees_the_task(suite: str) -> None:
    agent = Script(token_script)
    with Rollout({"suite": suite}) as rollout:
        (run,) = rollout.run(agent, ["squares-0"])
        assert all(item.task is None for batch in agent.batches for item in batch)
        assert run.source == "policy"

        agent.privileged = True  # type: ignore[attr-defined]
        agent.batches.clear()
        (run,) = rollout.run(agent, ["squares-0"])
        assert [item.task.id for batch in agent.batches for item in batch if item.task] == ["squares-0"] * 3
        assert run.source == "teacher"


# Tokens and rewards


def test_tokens_mask_and_logprobs_are_exactly_what_was_sampled(suite: str) -> None:
    agent = Script(token_script)
    with Rollout({"suite": suite}) as rollout:
        (run,) = rollout.run(agent, ["squares-0"])
    observations = [batch[0].text for batch in agent.batches]
    whole = "".join(f"[{observation}]{text}" for observation, text in zip(observations, CALLS))
    assert text_of(run.token_ids) == whole
    assert len(run.token_ids) == len(run.action_mask) == len(run.logprobs) == len(run.rewards)
    assert text_of([t for t, sampled in zip(run.token_ids, run.action_mask) if sampled]) == "".join(CALLS)
    # The masked runs start right behind the observation of their turn.
    start = 0
    for turn, (observation, text) in enumerate(zip(observations, CALLS)):
        start += len(observation) + 2
        assert run.action_mask[start - 1] is False
        assert all(run.action_mask[start : start + len(text)])
        wanted = [logprob(turn, i) for i in range(len(text))]
        assert run.logprobs[start : start + len(text)] == wanted
        start += len(text)
    assert all(value == 0.0 for value, sampled in zip(run.logprobs, run.action_mask) if not sampled)


@pytest.mark.parametrize("dense", [False, True])
def test_each_turn_is_paid_on_its_last_sampled_token(suite: str, dense: bool) -> None:
    with Rollout({"suite": suite, "dense": dense}) as rollout:
        (run,) = rollout.run(Script(token_script), ["squares-0"])
    # Dense: 0.1 for a valid first call; then 0.2 * 0.3 for the teacher's set of tools; then the rest of 1.1.
    wanted = [0.1, 0.06, 0.94] if dense else [0.0, 0.0, 1.1]
    assert run.turn_rewards == pytest.approx(wanted)
    assert run.total_reward == pytest.approx(1.1)
    mask = [*run.action_mask, False]
    ends = [i for i in range(len(run.token_ids)) if mask[i] and not mask[i + 1]]
    assert len(ends) == 3
    assert [run.rewards[i] for i in ends] == run.turn_rewards
    assert sum(map(bool, run.rewards)) == sum(map(bool, wanted))
    assert run.reward_terms == pytest.approx({"outcome": 0.7, "alignment": 0.3, "validity": 0.1, "floor": 0.0})


def test_agents_without_tokens_leave_the_token_lists_empty(suite: str) -> None:
    with Rollout({"suite": suite}) as rollout:
        (run,) = rollout.run(TeacherAgent(), ["squares-0"])
    assert run.token_ids == run.action_mask == run.logprobs == run.rewards == []
    assert run.turn_rewards == pytest.approx([0.0, 0.0, 1.1])


def test_a_turn_without_tokens_is_paid_on_the_last_sampled_token_before_it(suite: str) -> None:
    def write(observation: Observation) -> Completion:
        if observation.turn == 0:
            return token_script(observation)
        return Completion("", [], [], tokens_of(observation.text), cut_off=True)

    with Rollout({"suite": suite, "dense": True}) as rollout:
        (run,) = rollout.run(Script(write), ["squares-0"])
    # The validity that the first turn earned is taken back when the episode is cut off.
    assert run.turn_rewards == pytest.approx([0.1, -0.1])
    assert sum(run.rewards) == pytest.approx(run.total_reward) == pytest.approx(0.0)
    assert len(run.rewards) == len(run.token_ids)
    assert run.action_mask[-1] is False


def test_a_cut_off_turn_is_not_acted_on(suite: str) -> None:
    def write(observation: Observation) -> Completion:
        return Completion("<answer>18</answer>", cut_off=observation.turn == 0)

    with Rollout({"suite": suite}) as rollout:
        cut, whole = (
            rollout.run(Script(write), ["squares-0"])[0],
            rollout.run(Script(answer), ["squares-0"])[0],
        )
    assert (cut.stop_reason, cut.is_success, cut.total_reward) == (StopReason.TOKEN_LIMIT, False, 0.0)
    assert cut.transcript.turns[0].text == "<answer>18</answer>"
    # The mark does not outlive its episode: the same environment was used again.
    assert (whole.stop_reason, whole.is_success) == (StopReason.ANSWER, True)


def test_the_turn_limit_ends_an_episode(suite: str) -> None:
    agent = FunctionAgent(lambda text: CALLS[0])
    with Rollout({"suite": suite, "max_turns": 3}) as rollout:
        (run,) = rollout.run(agent, ["squares-0"])
    assert run.stop_reason is StopReason.TURN_LIMIT
    assert len(run.turn_rewards) == 3


def test_random_agents_end_every_episode(suite: str) -> None:
    with Rollout({"suite": suite}) as rollout:
        runs = rollout.run(RandomAgent(), rollout.task_ids * 20)
    assert {run.stop_reason for run in runs} <= set(StopReason)
    assert len(runs) == 120


# Agents that misbehave

IDS = [1, 2]
WRONG: list[tuple[Any, str]] = [
    ("<answer>1</answer>", "expected a Completion, got str"),
    (None, "expected a Completion, got NoneType"),
    (Completion(None), "Completion.text must be str, got NoneType"),  # type: ignore[arg-type]
    (Completion("x", IDS), "a Completion with token_ids needs prompt_ids too"),
    (Completion("x", IDS, prompt_ids=[1]), "a Completion with token_ids needs logprobs too"),
    (Completion("x", IDS, [0.0], [1]), "2 token_ids but 1 logprobs"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_a_wrong_completion_is_named_with_agent_task_and_turn(suite: str, wrong: Any, message: str) -> None:
    agent = Script(lambda observation: Completion(CALLS[0]) if observation.turn == 0 else wrong)
    tokens = isinstance(wrong, Completion) and wrong.token_ids is not None
    if tokens:
        agent.write = lambda observation: token_script(observation) if observation.turn == 0 else wrong
    with Rollout({"suite": suite}) as rollout:
        with pytest.raises(AgentError) as caught:
            rollout.run(agent, ["squares-1"])
        assert str(caught.value) == f"Script.act: task 'squares-1', turn 1: {message}"
        # The failure leaves nothing behind: the agent is told, and the pool can be used again.
        assert agent.forgotten == [agent.batches[0][0].episode]
        assert rollout.run(TeacherAgent(), ["squares-0"])[0].is_success


def test_tokens_in_some_turns_only_are_refused(suite: str) -> None:
    def stops(observation: Observation) -> Completion:
        return Completion(CALLS[0]) if observation.turn else token_script(observation)

    def starts(observation: Observation) -> Completion:
        return token_script(observation) if observation.turn else Completion(CALLS[0])

    with Rollout({"suite": suite}) as rollout:
        with pytest.raises(AgentError, match="earlier turns had token_ids, this one has none"):
            rollout.run(Script(stops), ["squares-0"])
        with pytest.raises(AgentError, match="earlier turns had no token_ids, this one has"):
            rollout.run(Script(starts), ["squares-0"])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([], "returned 0 completions for 2 observations"),
        ([Completion("a")] * 3, "returned 3 completions for 2 observations"),
        (None, "must return a list of Completion, got NoneType"),
        (Completion("a"), "must return a list of Completion, got Completion"),
        ("ab", "must return a list of Completion, got str"),
    ],
)
def test_a_wrong_number_of_completions_is_refused(suite: str, returned: Any, message: str) -> None:
    class Wrong:
        def act(self, observations: Sequence[Observation]) -> Any:
            return returned

    with Rollout({"suite": suite}) as rollout, pytest.raises(AgentError, match=f"Wrong.act {message}"):
        rollout.run(Wrong(), ["squares-0", "squares-1"])


def test_a_teacher_may_leave_out_logprobs(suite: str) -> None:
    agent = Script(lambda observation: Completion(CALLS[observation.turn], IDS, None, [7]))
    agent.privileged = True  # type: ignore[attr-defined]
    with Rollout({"suite": suite}) as rollout:
        (run,) = rollout.run(agent, ["squares-0"])
    assert run.token_ids == [7, 1, 2] * 3
    assert run.action_mask == [False, True, True] * 3
    assert run.logprobs == [0.0] * 9


def test_an_agent_that_raises_is_told_to_forget_and_tools_are_released(
    suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(observation: Observation) -> Completion:
        if observation.turn == 1:
            raise RuntimeError("out of memory")
        return Completion(CALLS[0])

    agent = Script(write)
    with Rollout({"suite": suite}) as rollout:
        closed: list[MentorToolEnv] = []
        monkeypatch.setattr(MentorToolEnv, "close", lambda env: closed.append(env))
        with pytest.raises(RuntimeError, match="out of memory"):
            rollout.run(agent, ["squares-0", "squares-1"])
        assert closed == [rollout._env(0).unwrapped, rollout._env(1).unwrapped]
    assert agent.forgotten == [item.episode for item in agent.batches[0]]
