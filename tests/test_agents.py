"""Scripted agents, and how agents are found by name."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from typing import Any

import gymnasium as gym
import msgspec
import pytest

from agents.base import AGENTS, AgentError, Completion, FunctionAgent, Observation, load_agent
from agents.rollout import Rollout
from agents.scripted import NoisyTeacher, RandomAgent, TeacherAgent
from mentor_gym.grading import grade
from mentor_gym.protocol import parse_action, render_message
from mentor_gym.suites import load_suite
from mentor_gym.types import StopReason, Task

TASKS = [load_suite("math").tasks("valid")[i] for i in range(60)]


def see(task: Task, turn: int, episode: int = 0) -> Observation:
    return Observation("", [], episode, turn, task)


def opening(task: Task, prompt: str, episode: int = 0) -> Observation:
    env = gym.make("MentorTool-v0", suite="math", split="valid", prompt=prompt)
    text, info = env.reset(options={"task_id": task.id})
    return Observation(text, info["messages"], episode, 0)


def write(agent: Any, *observations: Observation) -> list[str]:
    return [completion.text for completion in agent.act(observations)]


# Teacher and noisy teacher


def test_teacher_writes_every_turn_of_the_trace_and_then_nothing() -> None:
    task = TASKS[-1]
    trace = [render_message(message) for message in task.teacher if message["role"] == "assistant"]
    assert len(trace) > 1
    texts = [write(TeacherAgent(), see(task, turn))[0] for turn in range(len(trace) + 1)]
    assert texts == [*trace, ""]


@pytest.mark.parametrize("agent", [TeacherAgent(), NoisyTeacher()])
def test_a_teacher_without_the_task_says_what_it_needs(agent: TeacherAgent) -> None:
    with pytest.raises(AgentError, match=r"needs Observation\.task.*privileged"):
        agent.act([Observation("question", [], 0, 0)])


def test_noisy_teacher_depends_on_seed_task_and_turn_alone() -> None:
    seen = [see(task, turn, episode) for episode, task in enumerate(TASKS) for turn in (0, 1)]
    together = write(NoisyTeacher(0.5, seed=3), *seen)
    agent = NoisyTeacher(0.5, seed=3)
    shuffled = random.Random(0).sample(range(len(seen)), len(seen))
    one_by_one = {i: write(agent, see(seen[i].task, seen[i].turn, 10_000 + i))[0] for i in shuffled}  # type: ignore[arg-type]
    assert [one_by_one[i] for i in range(len(seen))] == together
    assert write(NoisyTeacher(0.5, seed=4), *seen) != together


def test_noisy_teacher_at_rate_zero_is_the_teacher() -> None:
    seen = [see(task, turn) for task in TASKS for turn in (0, 1)]
    assert write(NoisyTeacher(0.0), *seen) == write(TeacherAgent(), *seen)


def test_noisy_teacher_at_rate_one_spoils_every_turn_in_all_three_ways() -> None:
    faults = set()
    for task in TASKS:
        for turn, message in enumerate(m for m in task.teacher if m["role"] == "assistant"):
            right = parse_action(render_message(message))
            wrong = parse_action(write(NoisyTeacher(1.0), see(task, turn))[0])
            assert wrong != right
            if right.answer is not None:
                assert wrong.answer
                assert not grade(wrong.answer, task.answer, task.grader)
                continue
            assert all(call.error is None for call in wrong.calls)
            if len(wrong.calls) > len(right.calls):
                assert wrong.calls == (right.calls[0], *right.calls)
                faults.add("redundant")
            elif wrong.calls[0].name != right.calls[0].name:
                assert wrong.calls[0].name in task.tools
                assert wrong.calls[0].arguments == right.calls[0].arguments
                faults.add("tool")
            else:
                assert wrong.calls[0].arguments != right.calls[0].arguments
                assert wrong.calls[0].arguments.keys() == right.calls[0].arguments.keys()
                faults.add("argument")
    assert faults == {"redundant", "tool", "argument"}


def test_noisy_teacher_succeeds_as_often_as_its_rate_says() -> None:
    with Rollout({"suite": "math", "split": "valid", "reward": None}) as rollout:
        runs = rollout.run(NoisyTeacher(0.25), rollout.task_ids)
    rate = sum(run.is_success for run in runs) / len(runs)
    # Four standard deviations of 300 draws.
    assert abs(rate - 0.75) < 4 * (0.75 * 0.25 / len(runs)) ** 0.5


@pytest.mark.parametrize("answer", ["0", "-1", "1e9", "3/4", "0.5", "the Nile", "-0.2"])
def test_a_spoiled_answer_is_wrong_whatever_the_answer(answer: str) -> None:
    kind = "text" if answer.startswith("the") else "number"
    trace = [{"role": "assistant", "content": f"<answer>{answer}</answer>"}]
    for seed in range(50):
        task = Task(f"t{seed}", "s", "train", "?", ["add"], answer, {"kind": kind}, None, trace)
        given = parse_action(write(NoisyTeacher(1.0), see(task, 0))[0]).answer
        assert given
        assert not grade(given, answer, task.grader)


@pytest.mark.parametrize(
    "arguments", [{}, {"flag": True}, {"text": "x"}, {"items": ["a", "b"]}, {"none": None}, {"deep": {"a": []}}]
)
def test_noisy_teacher_spoils_calls_of_every_shape(arguments: dict[str, Any]) -> None:
    call = {"function": {"name": "only", "arguments": arguments}}
    trace = [{"role": "assistant", "content": "<think>so</think>", "tool_calls": [call]}]
    for seed in range(20):
        task = Task(f"t{seed}", "s", "train", "?", ["only"], "1", {"kind": "number"}, None, trace)
        text = write(NoisyTeacher(1.0), see(task, 0))[0]
        assert text.startswith("<think>so</think>\n")
        calls = parse_action(text).calls
        assert len(calls) == 2 or (calls[0].name, calls[0].arguments) != ("only", arguments)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_noisy_teacher_refuses_an_impossible_rate(rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be 0 to 1"):
        NoisyTeacher(rate)


# Random agent


@pytest.mark.parametrize("prompt", ["compact", "full"])
def test_random_agent_calls_only_offered_tools_with_their_arguments(prompt: str) -> None:
    tools = load_suite("math").box.tools
    called = set()
    for episode, task in enumerate(TASKS[:20]):
        agent, first = RandomAgent(), opening(task, prompt, episode)
        for turn in range(10):
            later = Observation("<tool_response>7</tool_response>", [], episode, turn)
            action = parse_action(write(agent, later if turn else first)[0])
            for call in action.calls:
                assert call.error is None
                assert call.name in task.tools
                assert call.arguments.keys() == tools[call.name].parameters["properties"].keys()
                called.add(call.name)
            assert action.calls or action.answer
    assert len(called) > 5


def test_random_agent_is_valid_when_the_prompt_shows_schemas() -> None:
    with Rollout({"suite": "math", "split": "valid", "prompt": "full", "reward": None}) as rollout:
        runs = rollout.run(RandomAgent(), rollout.task_ids[:50])
    calls = [result for run in runs for _, result in run.transcript.calls()]
    assert len(calls) > 50
    assert not [result for result in calls if result.error == "invalid_arguments"]


@pytest.mark.parametrize("prompt", ["compact", "full"])
def test_random_agent_is_a_floor(prompt: str) -> None:
    with Rollout({"suite": "math", "split": "valid", "prompt": prompt, "reward": None}) as rollout:
        runs = rollout.run(RandomAgent(), rollout.task_ids)
    assert sum(run.is_success for run in runs) <= 0.02 * len(runs)


def test_random_agent_depends_on_seed_episode_and_turn_alone() -> None:
    seen = [opening(task, "compact", episode) for episode, task in enumerate(TASKS[:20])]
    together = write(RandomAgent(1), *seen)
    agent = RandomAgent(1)
    backwards = [write(agent, item)[0] for item in reversed(seen)]
    assert backwards[::-1] == together
    assert write(RandomAgent(2), *seen) != together
    assert len(set(together)) > 10


HOSTILE = [
    "",
    "<tools>\nnot json\n[1]\n{}\n</tools>",
    '<tools>\n{"name": 3, "parameters": {"properties": {"a": null, "b": {"type": ["array"], "items": 1}}}}\n'
    "</tools>",
    '<tools>\n{"name": "f", "parameters": {"properties": {"a": {"enum": [], "type": "object"}}}}\n</tools>',
    '<tools>\n{"name": "f", "parameters": [1]}\n</tools>',
    "<tools>\n",
    "f(): no arguments\ng(a?, ): odd\n",
    "9" * 5000,
    "f(" * 10_000,
    "\x00\ud800",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_random_agent_never_crashes(text: str) -> None:
    agent = RandomAgent()
    for episode in range(30):
        for turn in range(3):
            assert parse_action(write(agent, Observation(text, [], episode, turn))[0]) is not None


def test_random_agent_reads_nested_arrays_and_enums() -> None:
    parameters = {
        "rows": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        "unit": {"enum": ["km", "mile"]},
        "exact": {"type": "boolean"},
        "word": {"type": ["string", "null"]},
    }
    line = msgspec.json.encode({"name": "f", "parameters": {"properties": parameters}}).decode()
    text = f"<tools>\n{line}\n</tools>\n\nHow far is 12.5 or 3?"
    calls = [
        call
        for episode in range(40)
        for call in parse_action(write(RandomAgent(), Observation(text, [], episode, 0))[0]).calls
    ]
    assert calls
    for call in calls:
        assert call.arguments["unit"] in ("km", "mile")
        assert isinstance(call.arguments["exact"], bool)
        assert call.arguments["word"] in ("How", "far", "is", "or")
        assert {type(item) for row in call.arguments["rows"] for item in row} == {int}


def test_random_agent_forgets_ended_episodes() -> None:
    agent = RandomAgent()
    with Rollout({"suite": "math", "split": "valid"}, max_live=4) as rollout:
        rollout.run(agent, rollout.task_ids[:10])
    assert agent._prompts == {}


# Functions as agents


def test_function_agent_gets_the_whole_conversation() -> None:
    seen: list[str] = []

    def policy(text: str) -> str:
        seen.append(text)
        found = re.findall(r"<tool_response>(.*?)</tool_response>", text)
        if found:
            return f"<answer>{found[-1]}</answer>"
        return '<tool_call>{"name": "multiply", "arguments": {"a": 9, "b": 13}}</tool_call>'

    with Rollout({"suite": "math", "split": "valid", "prompt": "compact"}) as rollout:
        (run,) = rollout.run(FunctionAgent(policy), ["math-valid-00000"])
    prompt = seen[0]
    assert seen[1] == f"{prompt}\n{run.transcript.turns[0].text}\n<tool_response>117</tool_response>"
    assert run.is_success
    assert run.stop_reason is StopReason.ANSWER


def test_function_agent_starts_anew_with_a_new_episode() -> None:
    agent = FunctionAgent(lambda text: text.upper())
    agent.act([Observation("one", [], 0, 0)])
    assert agent.act([Observation("two", [], 0, 0)]) == [Completion("TWO")]


# Loading


@pytest.mark.parametrize(
    ("name", "kind"), [("teacher", TeacherAgent), ("noisy-teacher", NoisyTeacher), ("random", RandomAgent)]
)
def test_short_names(name: str, kind: type) -> None:
    assert type(load_agent(name)) is kind


def test_options_reach_the_agent() -> None:
    agent = load_agent("noisy-teacher", rate=0.5, seed=9)
    assert isinstance(agent, NoisyTeacher)
    assert (agent.rate, agent.seed) == (0.5, 9)


@pytest.fixture
def module(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module beside where the command is run."""
    name = "my_agents_for_a_test"
    (tmp_path / f"{name}.py").write_text(
        "from agents.scripted import RandomAgent\n"
        "answer = lambda text: '<answer>1</answer>'\n"
        "ready = RandomAgent(7)\n"
        "number = 3\n"
        "class Mine:\n"
        "    def __init__(self, size=1): self.size = size\n"
        "    def act(self, observations): return []\n"
        "class NoAgent: pass\n"
        "def build(size=1): return Mine(size)\n"
        "build.is_factory = True\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_module_attribute_may_be_a_function_an_instance_a_class_or_a_factory(module: str) -> None:
    function = load_agent(f"{module}:answer")
    assert isinstance(function, FunctionAgent)
    assert write(function, Observation("?", [], 0, 0)) == ["<answer>1</answer>"]
    assert load_agent(f"{module}:ready").seed == 7  # type: ignore[attr-defined]
    assert load_agent(f"{module}:Mine", size=4).size == 4  # type: ignore[attr-defined]
    assert load_agent(f"{module}:build", size=5).size == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("attribute", "message"),
    [("nothing", "has no 'nothing'"), ("number", "is no agent"), ("NoAgent", "is no agent")],
)
def test_what_is_no_agent_is_refused(module: str, attribute: str, message: str) -> None:
    with pytest.raises(AgentError, match=message):
        load_agent(f"{module}:{attribute}")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AgentError) as caught:
        load_agent("teachr")
    message = str(caught.value)
    assert "teachr" in message
    assert all(name in message for name in AGENTS)
    assert "\n" not in message


def test_a_missing_module_is_named() -> None:
    with pytest.raises(AgentError, match=r"cannot import 'no_such_module'.*no_such_module:agent"):
        load_agent("no_such_module:agent")


def test_scripted_agents_rollouts_and_evaluation_need_no_torch() -> None:
    code = (
        "import sys, agents.scripted, agents.rollout, agents.evaluate\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "[]", "")
