"""Checks of an environment: ends, rewards, teachers, and what must stay out of sight or reach."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import msgspec

from mentor_gym.env import MentorToolEnv
from mentor_gym.grading import STATE_GRADERS
from mentor_gym.protocol import render_call
from mentor_gym.suites.base import TaskSet
from mentor_gym.testing._audit import listening
from mentor_gym.testing._env_repeat import CHECKS
from mentor_gym.testing._hostile import tools_of
from mentor_gym.testing._subject import EnvSubject, Input, Moment, Run, difference, excerpt, play, teacher_turns
from mentor_gym.testing.base import NotApplicable, fail
from mentor_gym.tools.base import Tool
from mentor_gym.types import Task
from mentor_gym.wrappers.reward import RewardWrapper

_MAX_STEPS = 200
_TEACHER_SEEDS = 40
_SECRET = "never to be seen 5f3a9c"
_CANARY = "MENTOR_GYM_CANARY"


def _base(env: gym.Env[str, str]) -> MentorToolEnv:
    base = env.unwrapped
    assert isinstance(base, MentorToolEnv)
    return base


def _reward_wrapper(env: gym.Env[str, str]) -> RewardWrapper | None:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, RewardWrapper):
            return env
        env = env.env
    return None


def _episodes(subject: EnvSubject) -> Iterator[tuple[str, Run]]:
    """Yield an episode for every way to end: an answer, none, the turn limit, and cut off from outside."""
    for name, style in (("an answer", "good"), ("a blank action", "blank"), ("the turn limit", "stubborn")):
        with subject.env() as env:
            yield name, subject.record(env, style, 0, _MAX_STEPS)
    for mark in ("mark_cut_off", "mark_crashed") if subject.is_mentor else ():
        with subject.env() as env:
            opening = play(env, [("reset", 0)])
            getattr(env.unwrapped, mark)()
            yield f"{mark}()", Run([], opening + play(env, [("step", "hello")]))


@CHECKS.add("reward-terms", needs=["reward", "one-end"])
def check_reward_terms(subject: EnvSubject) -> None:
    """Every end, truncation included, reports the terms of its reward, whose sum is what was paid."""
    episodes = list(_episodes(subject))
    with subject.env() as env:
        promised = _reward_wrapper(env) is not None
    if not promised and not any("reward_terms" in run.moments[-1].info for _, run in episodes):
        raise NotApplicable("the environment pays a reward without terms (no RewardWrapper)")
    for name, run in episodes:
        last = run.moments[-1]
        if not last.ended:
            continue
        terms = last.info.get("reward_terms")
        if not isinstance(terms, dict) or not terms:
            got = excerpt(terms) if "reward_terms" in last.info else "none"
            fail(f"info['reward_terms'] at the end by {name}", got, "put the terms into info on every end")
        paid = sum(moment.reward or 0.0 for moment in run.moments)
        if abs(sum(terms.values()) - paid) > 1e-9:
            fail(f"terms whose sum is the return, {paid:g}, at the end by {name}", excerpt(terms), "pay their sum")


@CHECKS.add("tools-freed", needs=["hostile"])
def check_tools_freed(subject: EnvSubject) -> None:
    """Every end, truncation and `close` included, closes the tools."""
    if not subject.is_mentor:
        raise NotApplicable("only the tools of a MentorToolEnv can be watched")
    for end in ("good", "blank", "stubborn", "mark_cut_off", "mark_crashed", "close"):
        with subject.env() as env:
            base = _base(env)
            calls: list[str] = []
            with _watched(base, calls):
                if end in ("good", "blank", "stubborn"):
                    is_over = subject.record(env, end, 0, _MAX_STEPS).moments[-1].ended
                    call = f"the episode that ended with {base.transcript.stop_reason}"
                else:
                    env.reset(seed=0)
                    getattr(base, end)()
                    is_over, call = True, f"{end}()"
                    if end != "close":
                        env.step("hello")
            if is_over and (calls[-1:] != ["close"] or "open" not in calls):
                fail(
                    f"the tool box closed after {call}",
                    f"the calls {calls}",
                    "close the box on every path that ends an episode",
                )


class _watched:
    """Note calls of `open` and `close` of the environment's tool box."""

    def __init__(self, base: MentorToolEnv, calls: list[str]) -> None:
        self.box = base._box
        self.calls = calls

    def __enter__(self) -> None:
        for name in ("open", "close"):
            setattr(self.box, name, self._noting(name, getattr(self.box, name)))

    def __exit__(self, *_: object) -> None:
        for name in ("open", "close"):
            delattr(self.box, name)

    def _noting(self, name: str, method: Any) -> Any:
        def noting(*args: Any) -> None:
            self.calls.append(name)
            method(*args)

        return noting


@CHECKS.add("teacher", needs=["reward"])
def check_teacher(subject: EnvSubject) -> None:
    """The teacher's turns end in success and earn the largest reward."""
    replayed = False
    with subject.env() as env:
        wrapper = _reward_wrapper(env)
        maximum = wrapper.reward.maximum if wrapper else 1.0 if subject.is_mentor else None
        for seed in range(_TEACHER_SEEDS):
            env.reset(seed=seed)
            turns = teacher_turns(env)
            if not turns or len(turns) > getattr(env.unwrapped, "max_turns", len(turns)):
                continue
            replayed = True
            task: Any = env.unwrapped.task  # type: ignore[attr-defined]
            moments = play(env, [("step", turn) for turn in turns])
            what = f"the teacher of task {getattr(task, 'id', seed)!r} (seed {seed})"
            last = moments[-1]
            if not last.terminated or last.info.get("is_success", True) is not True:
                got = f"terminated {last.terminated}, is_success {last.info.get('is_success')}, observation "
                fix = "repair the task's teacher, answer or grader"
                fail(f"{what} to succeed", got + excerpt(last.observation), fix)
            paid = sum(moment.reward for moment in moments)
            # A reward for agreement may have nothing to pay where the teacher used no tool.
            used_tools = any(message.get("tool_calls") for message in task.teacher)
            if maximum is not None and used_tools and abs(paid - maximum) > 1e-9:
                fail(
                    f"{what} to earn the reward's maximum, {maximum:g}",
                    f"{paid:g} {excerpt(last.info.get('reward_terms', ''))}",
                    "correct the reward's maximum, or what it pays for the teacher's own calls",
                )
    if not replayed:
        raise NotApplicable("no task has a teacher (task.teacher) that ends within the turn limit")


@CHECKS.add("maximum", needs=["teacher"])
def check_maximum(subject: EnvSubject) -> None:
    """No episode earns more than the reward's maximum."""
    with subject.env() as env:
        wrapper = _reward_wrapper(env)
    if wrapper is None and not subject.is_mentor:
        raise NotApplicable("the environment names no largest reward")
    maximum = wrapper.reward.maximum if wrapper else 1.0
    for name, run in [*_episodes(subject), *((f"seed {seed}", run) for seed, run in enumerate(subject.runs))]:
        paid = 0.0
        for moment in run.moments:
            paid = 0.0 if moment.reward is None else paid + moment.reward
            if paid > maximum + 1e-9:
                fail(
                    f"a return of at most {maximum:g} ({name})",
                    f"{paid:g} after {moment.call}",
                    "correct the maximum",
                )


@CHECKS.add("answer-hidden", needs=["info"])
def check_answer_hidden(subject: EnvSubject) -> None:
    """With another answer and teacher behind the same question, the policy sees the same."""
    if not subject.is_mentor:
        raise NotApplicable("only the tasks of a MentorToolEnv can be exchanged")
    for seed in range(3):
        with subject.env() as env:
            env.reset(seed=seed)
            task = _base(env).task
            actions = [turn for turn in teacher_turns(env) if "<tool_call>" in turn]
        actions += ["<answer>never closed", "<tool_call>not JSON</tool_call>", f"<answer>not {_SECRET}</answer>"]
        final = {"role": "assistant", "content": f"<answer>{_SECRET}</answer>"}
        changed = msgspec.structs.replace(
            task, answer=_SECRET, teacher=[final], meta={"note": _SECRET}, grader={"kind": "text"}
        )
        if task.grader["kind"] in STATE_GRADERS:
            # Any answer would be right after the teacher's calls: let none be.
            task = msgspec.structs.replace(task, grader={"kind": "state", "expected": "not reached"})
        plain, other = (_play_task(subject, item, actions) for item in (task, changed))
        found = difference(plain, other)
        if found:
            fail(
                f"the same observations and infos for task {task.id!r} with another answer and teacher",
                found,
                "keep task.answer, task.teacher, task.grader and task.meta out of what step and reset return",
            )


def _play_task(subject: EnvSubject, task: Task, actions: list[str]) -> list[Moment]:
    with subject.env() as env:
        base = _base(env)
        base._tasks = TaskSet([task])
        moments = play(env, [("reset", 0)])
        if moments[0].info["task_id"] != task.id:
            raise NotApplicable("the environment takes its tasks from elsewhere than its suite")
        for action in actions:
            moments += play(env, [("step", action)])
            if moments[-1].ended:
                break
    for moment in moments:
        # What is paid, and why, is said on purpose.
        for name in ("reward", "the keys of info", "info['reward_terms']", "info['reward_error']"):
            moment.texts.pop(name, None)
    return moments


@CHECKS.add("out-of-reach", needs=["hostile"])
def check_out_of_reach(subject: EnvSubject) -> None:
    """`reset` and `step` touch no file, network or process, and show nothing of the host's environment."""
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "canary.txt")
        path.write_text(secret)
        os.environ[_CANARY] = secret
        try:
            with subject.env() as env:
                inputs = [item for run in subject.runs for item in run.inputs] + _probing(env, path)
                # The first time a tool may load what it needs.
                _play_on(env, inputs)
                with listening() as heard:
                    moments = _play_on(env, inputs)
        finally:
            del os.environ[_CANARY]
    for moment in moments:
        if secret in moment.observation or secret in "".join(moment.texts.values()):
            fail(
                f"{moment.call} not to show a file or an environment variable of the host",
                excerpt(moment.observation),
                "run what a policy writes in a sandbox, without the host's environment",
            )
    for group, event in heard:
        if group not in subject.allow:
            fail(
                "reset() and step() to touch no file, network or process after the first time",
                f"{event} ({group})",
                f"load what is needed when the environment is made; if it is meant, check with allow=[{group!r}]",
            )


def _play_on(env: gym.Env[str, str], inputs: list[Input]) -> list[Moment]:
    moments: list[Moment] = []
    for number, item in enumerate(inputs):
        if item[0] == "step" and moments and moments[-1].ended:
            moments += play(env, [("reset", number)])
        moments += play(env, [item])
    return moments


def _probing(env: gym.Env[str, str], path: Path) -> list[Input]:
    """Return actions that try to read the canaries: as the whole action, and in every text argument of a tool."""
    probes = [
        str(path),
        f"file://{path}",
        "../" * 12 + str(path)[1:],
        f"${_CANARY}",
        f"${{{_CANARY}}}",
        f"__import__('os').environ['{_CANARY}']",
        f"open({str(path)!r}).read()",
        f"`cat {path}`",
        f"{{0.__init__.__globals__[os].environ[{_CANARY}]}}",
    ]
    env.reset(seed=0)
    actions = [*probes]
    for name, tool in tools_of(env).items():
        actions += [render_call(name, _arguments(tool, probe)) for probe in probes]
    inputs: list[Input] = []
    for action in actions:
        inputs += [("reset", 0), ("step", action)]
    return inputs


def _arguments(tool: Tool, text: str) -> dict[str, Any]:
    """Return arguments for a tool with the text wherever it takes one."""
    plain = {"integer": 1, "number": 1.0, "boolean": True, "array": [text], "object": {}}
    arguments = {}
    for name, schema in tool.parameters.get("properties", {}).items():
        kind = schema.get("type", "string")
        kind = kind[0] if isinstance(kind, list) else kind
        arguments[name] = schema["enum"][0] if schema.get("enum") else plain.get(kind, text)
    return arguments
