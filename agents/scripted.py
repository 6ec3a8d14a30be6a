"""Agents without a model: the teacher, a teacher that errs, and chance. They bound what a policy can score.

What is left out: `FunctionAgent`, the way to plug in one's own function, stands in `agents.base`.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from agents.base import AgentError, Completion, Observation
from mentor_gym.grading import parse_number
from mentor_gym.protocol import render_call, render_message, to_json
from mentor_gym.types import Task


class TeacherAgent:
    """Replays the teacher trace of each task, turn by turn; its success is the ceiling of a suite.

    After the last turn of the trace it writes nothing, which ends the episode without an answer.
    """

    privileged = True

    def act(self, observations: Sequence[Observation]) -> list[Completion]:
        """Write the teacher's next turn of every episode.

        Raises:
            AgentError: An observation comes without its task.
        """
        return [Completion(self._write(_task_of(self, item), item.turn)) for item in observations]

    def _write(self, task: Task, turn: int) -> str:
        message = _teacher_turn(task, turn)
        return render_message(message) if message is not None else ""


class NoisyTeacher(TeacherAgent):
    """A teacher that spoils some of its turns: a middling student whose faults are known.

    A spoiled turn with calls has one of them with another offered tool, with a wrong argument, or made twice; a
    spoiled answer is a wrong answer, so the expected success is `1 - rate`. Which turns are spoiled, and how,
    depends on nothing but the seed, the task and the turn: not on batches, and not on repetitions of a task.

    Args:
        rate: Share of the turns to spoil, 0 to 1.
        seed: Seed of the choice.

    Raises:
        ValueError: `rate` is not in 0 to 1.
    """

    def __init__(self, rate: float = 0.25, seed: int = 0) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must be 0 to 1, got {rate!r}")
        self.rate = rate
        self.seed = seed

    def _write(self, task: Task, turn: int) -> str:
        # A string seed: random.Random hashes it with SHA-512, the same in every process.
        rng = random.Random(f"{self.seed}/{task.suite}/{task.split}/{task.id}/{turn}")
        message = _teacher_turn(task, turn)
        if message is None or rng.random() >= self.rate:
            return super()._write(task, turn)
        if not message.get("tool_calls"):
            return f"<answer>{_wrong_answer(task.answer, rng)}</answer>"
        calls = [_read_call(call) for call in message["tool_calls"]]
        position = rng.randrange(len(calls))
        name, arguments = calls[position]
        fault = rng.choice(("tool", "argument", "redundant"))
        if fault == "tool":
            calls[position] = (_other_tool(name, task, rng), arguments)
        elif fault == "argument":
            calls[position] = (name, _wrong_arguments(arguments, rng))
        else:
            calls.insert(position, calls[position])
        text = message.get("content")
        return "\n".join([*([text] if text else []), *(render_call(*call) for call in calls)])


class RandomAgent:
    """Calls random tools with random arguments, or gives a random number as its answer: the floor of a suite.

    It reads the tools from the prompt, in either style, and the numbers and words of its arguments from the
    question. What it writes depends on its seed, the episode's number and the turn, not on batches.

    Args:
        seed: Seed of the choices.
    """

    ANSWER_RATE = 0.3

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._prompts: dict[int, _Prompt] = {}

    def act(self, observations: Sequence[Observation]) -> list[Completion]:
        """Write a random turn for every episode."""
        return [Completion(self._write(observation)) for observation in observations]

    def forget(self, episode: int) -> None:
        """Drop what was read from the prompt of an episode that has ended."""
        self._prompts.pop(episode, None)

    def _write(self, observation: Observation) -> str:
        if observation.turn == 0 or observation.episode not in self._prompts:
            self._prompts[observation.episode] = _Prompt(observation.text)
        prompt = self._prompts[observation.episode]
        rng = random.Random(f"{self.seed}/{observation.episode}/{observation.turn}")
        if not prompt.tools or rng.random() < self.ANSWER_RATE:
            return f"<answer>{rng.randrange(100_000)}</answer>"
        name, parameters = rng.choice(prompt.tools)
        return render_call(name, {key: prompt.value(schema, rng) for key, schema in parameters.items()})


class _Prompt:
    """The tools, numbers and words that stand in an opening observation.

    Attributes:
        tools: Name and parameters of every tool; a parameter's schema is empty when the prompt does not show it.
        numbers: The numbers of the question, never none.
        words: The words of the question, never none.
    """

    _SIGNATURE = re.compile(r"([A-Za-z_][A-Za-z0-9_-]{0,63})\(([^()]*)\): .*")

    def __init__(self, text: str) -> None:
        _, opened, tail = text.partition("<tools>\n")
        block, closed, question = tail.partition("\n</tools>")
        if opened and closed:
            self.tools = [tool for line in block.splitlines() if (tool := self._read_schema(line))]
        else:
            self.tools, lines = [], text.splitlines()
            while lines and (match := self._SIGNATURE.fullmatch(lines[0])):
                names = (name.strip().removesuffix("?") for name in match[2].split(","))
                self.tools.append((match[1], {name: {} for name in names if name}))
                lines.pop(0)
            question = "\n".join(lines)
        self.numbers = [float(number) for number in re.findall(r"\d{1,15}(?:\.\d{1,15})?", question)] or [1.0]
        self.words = re.findall(r"[^\W\d_]+", question) or ["nothing"]

    @staticmethod
    def _read_schema(line: str) -> tuple[str, dict[str, Any]] | None:
        try:
            function = msgspec.json.decode(line)
            return str(function["name"]), dict(function["parameters"]["properties"])
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            return None

    def value(self, schema: Any, rng: random.Random) -> Any:
        """Draw an argument that fits its schema, or a guess where there is none."""
        schema = schema if isinstance(schema, dict) else {}
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return rng.choice(schema["enum"])
        kind = schema.get("type")
        if isinstance(kind, list) and kind:
            kind = kind[0]
        if kind not in ("number", "integer", "string", "boolean", "array"):
            kind = rng.choice(("number", "number", "string", "array"))
        if kind == "array":
            return [self.value(schema.get("items") or {"type": "number"}, rng) for _ in range(rng.randint(1, 3))]
        if kind == "string":
            return rng.choice(self.words)
        if kind == "boolean":
            return rng.random() < 0.5
        number = rng.choice(self.numbers)
        return int(number) if kind == "integer" or number.is_integer() else number


def _task_of(agent: TeacherAgent, observation: Observation) -> Task:
    if observation.task is None:
        raise AgentError(
            f"{type(agent).__name__} replays the teacher and needs Observation.task; agents.rollout gives it to "
            "agents with privileged = True"
        )
    return observation.task


def _teacher_turn(task: Task, turn: int) -> dict[str, Any] | None:
    messages = [message for message in task.teacher if message["role"] == "assistant"]
    return messages[turn] if turn < len(messages) else None


def _read_call(call: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    arguments = call["function"]["arguments"]
    return call["function"]["name"], msgspec.json.decode(arguments) if isinstance(arguments, str) else arguments


def _other_tool(name: str, task: Task, rng: random.Random) -> str:
    offered = [entry if isinstance(entry, str) else str(entry["function"]["name"]) for entry in task.tools]
    # A task with a single tool leaves only an unknown one to confuse it with.
    return rng.choice([other for other in offered if other != name] or [f"{name}_all"])


def _wrong_arguments(arguments: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    if not arguments:
        return {"value": rng.randint(1, 9)}
    key = rng.choice(list(arguments))
    return {**arguments, key: _wrong_value(arguments[key], rng)}


def _wrong_value(value: Any, rng: random.Random) -> Any:
    """Change a JSON value into another one of the same type."""
    match value:
        case bool():
            return not value
        case int() | float():
            return _wrong_number(value, rng)
        case str():
            return f"{value} {rng.randint(1, 9)}"
        case [*items, last]:
            return [*items, _wrong_value(last, rng)]
    return rng.randint(1, 9)


def _wrong_number(value: float, rng: random.Random) -> float:
    # 3|x| + n differs from x by at least n and by more than any relative tolerance of a grader.
    wrong = 3 * abs(value) + rng.randint(1, 9)
    return wrong if math.isfinite(wrong) else 0


def _wrong_answer(answer: str, rng: random.Random) -> str:
    number = parse_number(answer)
    if number is None:
        return f"not {answer}"
    return to_json(_wrong_number(int(number[0]) if number[0].is_integer() else number[0], rng))
