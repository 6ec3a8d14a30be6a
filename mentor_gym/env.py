"""`MentorToolEnv`: a tool-use task as a Gymnasium text environment."""

from __future__ import annotations

import copy
import reprlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import gymnasium as gym

from mentor_gym.grading import STATE_GRADERS, grade
from mentor_gym.names import nearest
from mentor_gym.protocol import (
    MAX_ACTION_CHARS,
    clean,
    neutralise,
    parse_action,
    render_error,
    render_message,
    render_prompt,
    render_results,
)
from mentor_gym.render import render_opening, render_terms, render_turn
from mentor_gym.spaces import UnicodeText
from mentor_gym.state import EnvState, StateError, digest, pack, pack_rng, unpack, unpack_rng
from mentor_gym.suites import load_suite
from mentor_gym.suites.base import Suite, TaskSet
from mentor_gym.tools.base import Tool
from mentor_gym.types import Action, CallError, StopReason, Task, ToolCall, ToolFacts, ToolResult, Transcript, Turn

MAX_CALLS_PER_TURN = 8
MAX_OBSERVATION_CHARS = 200_000
PROMPT_STYLES = ("full", "compact")
# A task's tools by name, the schemas that its prompt shows, and the facts for rewards.
_Offer = tuple[dict[str, Tool], list[dict[str, Any]], dict[str, ToolFacts]]


class MentorToolEnv(gym.Env[str, str]):
    r"""Tool-use tasks: the policy writes an assistant turn, its tool calls are executed, their results come back.

    ## Action
    Text: one whole assistant turn, `<tool_call>{"name": …, "arguments": {…}}</tool_call>` once or more, or an
    answer, `<answer>…</answer>` or `\boxed{…}`, optionally after `<think>…</think>`. Longer than 20,000
    characters is cut. Nothing that is passed as an action raises: what cannot be read costs a turn and is
    answered with an error.

    ## Observation
    Text, only what is new: at reset the instructions, the tools and the question; after calls one
    `<tool_response>` per call, in call order.

    ## Reward
    1.0 when a correct answer ends the episode, else 0.0. `gym.make(..., reward=...)` puts a
    `mentor_gym.wrappers.RewardWrapper` around this, which replaces it.

    ## End
    An answer terminates, and so does a turn without call and answer; `max_turns` turns truncate.

    ## Info
    `task_id, suite, split, turn, messages` (the new messages in OpenAI form), `tool_calls` (this turn's, with
    their outcome), `stop_reason` (None while running) and `is_success`; `tool_down` when a tool's server is out
    of order.

    ## State
    `get_state()` returns everything that the future depends on as bytes, the middle of an episode and the state of
    its tools included; `set_state` takes it up again, in another process too. `clone()` returns an independent
    environment with the same future, and `copy.deepcopy(env)` one with its wrappers.

    ## Ids
    `MentorTool-v0` and one per suite: `MentorTool-Math-v0`, `MentorTool-Facts-v0`.

    Args:
        suite: A suite's name, the path of a user's `suite.yaml`, or a `Suite`.
        split: Which of its splits to draw tasks from; None takes the suite's first.
        max_turns: Assistant turns after which the episode is truncated. (`max_episode_steps` of `gym.make` cuts
            off from outside: neither the tools nor the reward are told.)
        prompt: `"full"` explains format and tools at length; `"compact"` is one line per tool, for models that
            were trained on it.
        where: Play only tasks whose `meta` has these values, for example `{"calls": 1}`; a list means any of its
            members.
        render_mode: `"ansi"` returns the conversation as text, `"human"` prints it as it grows.

    Raises:
        ValueError: An argument is out of range or names nothing.

    >>> env = MentorToolEnv("math", split="test", prompt="compact")
    >>> observation, info = env.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = env.step("<answer>no idea</answer>")
    >>> reward, terminated, info["is_success"]
    (0.0, True, False)
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "human"], "render_fps": 4}  # type: ignore[misc]

    def __init__(
        self,
        suite: str | Suite = "math",
        split: str | None = None,
        max_turns: int = 8,
        prompt: str = "full",
        where: Mapping[str, Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        if type(max_turns) is not int or max_turns < 1:
            raise ValueError(f"max_turns must be a whole number of at least 1, got {max_turns!r}")
        if prompt not in PROMPT_STYLES:
            hint = nearest(prompt, PROMPT_STYLES)
            raise ValueError(f"prompt must be one of {', '.join(PROMPT_STYLES)}, got {prompt!r}{hint}")
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            hint = nearest(render_mode, self.metadata["render_modes"])
            raise ValueError(f"render_mode must be 'ansi', 'human' or None, got {render_mode!r}{hint}")
        self._suite = load_suite(suite)
        self.split = self._suite.splits[0] if split is None else split
        self.max_turns = max_turns
        self.prompt = prompt
        self.where = dict(where or {})
        self.render_mode = render_mode
        self._arguments = {
            "suite": suite,
            "split": split,
            "max_turns": max_turns,
            "prompt": prompt,
            "where": where,
        }
        self.action_space = UnicodeText(MAX_ACTION_CHARS)
        self.observation_space = UnicodeText(MAX_OBSERVATION_CHARS)
        self.reward_terms: dict[str, float] | None = None
        self.transcript: Transcript = None  # type: ignore[assignment]  # until the first reset
        self.tools: dict[str, Tool] = {}
        tasks = self._suite.tasks(self.split)
        self._tasks: TaskSet = tasks.where(self.where) if self.where else tasks
        self._box = self._suite.new_box()
        self._offered: dict[tuple[str, ...], _Offer] = {}
        self._messages: list[dict[str, str]] = []
        self.terms_follow = False  # a RewardWrapper pays: when rendering, the end waits for its terms
        self._forced: StopReason | None = None
        self._replayed = 0
        self._closed = False
        self._shown = 0
        self._signature: dict[str, Any] | None = None
        self._tool_down: str | None = None

    @property
    def suite(self) -> Suite:
        """The suite that is played."""
        return self._suite

    @property
    def replayed(self) -> int:
        """How many of the transcript's turns are the teacher's, played by `reset`."""
        return self._replayed

    @property
    def task(self) -> Task:
        """The task being played; `task.teacher` is the teacher trace, `task.answer` the gold answer."""
        return self._running().task

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of this environment's suite."""
        return self._suite.splits

    @property
    def tasks(self) -> TaskSet:
        """The tasks that this environment draws from."""
        return self._tasks

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode of a task drawn by the environment's generator, or of a named one.

        Args:
            seed: Seeds the generator; the same seed gives the same episode in every process.
            options: `{"task_id": id}` plays that task; `{"teacher_turns": k}` starts after the teacher's first
                k turns, which are replayed with the real tools.

        Returns:
            The opening observation and info.

        Raises:
            ValueError: Unknown or impossible options.
        """
        super().reset(seed=seed)
        task, teacher_turns = self._choose(options or {})
        self._box.close()
        # Until the tools are open: if that fails, there is no episode to go on with.
        self._closed = True
        self._box.open(task.state)
        self._closed = False
        self.tools, schemas, facts = self._offer(task)
        self.transcript = Transcript(task, tools=facts)
        self.reward_terms = None
        self._forced = None
        self._replayed = 0
        self._tool_down = None
        self._shown = 0
        self._messages = render_prompt(task, schemas, self.prompt)
        observation = "\n\n".join(message["content"] for message in self._messages)
        messages: list[dict[str, Any]] = list(self._messages)
        assistant = [message for message in task.teacher if message["role"] == "assistant"]
        for number, message in enumerate(assistant[:teacher_turns], start=1):
            text = render_message(message)
            results, _ = self._act(text)
            if self.transcript.stop_reason is not None:
                self._box.close()
                raise ValueError(f"reset option teacher_turns: the teacher's turn {number} ends the episode")
            messages += [{"role": "assistant", "content": text}, *self._result_messages(results)]
            observation += f"\n\n{text}\n{results}"
        self._replayed = teacher_turns
        if self.render_mode == "human":
            self.render()
        return observation, self._info(messages, [])

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play one assistant turn.

        Args:
            action: The whole text of the turn. Anything that is not text is answered with an error.

        Returns:
            The observation (tool responses, or an error), the reward (1.0 for a correct answer, else 0.0),
            terminated, truncated, and info as the class describes it.

        Raises:
            gymnasium.error.ResetNeeded: No episode is running.
            gymnasium.error.ClosedEnvironmentError: The environment is closed; `reset` opens it again.
        """
        transcript = self._running()
        if self._closed:
            raise gym.error.ClosedEnvironmentError("the environment is closed; reset() opens it again")
        if transcript.stop_reason is not None:
            raise gym.error.ResetNeeded("the episode has ended; call reset() before the next step()")
        observation, calls = self._act(action)
        reason = transcript.stop_reason
        if reason is not None:
            self._box.close()
        if self.render_mode == "human":
            self.render()
        messages = self._result_messages(observation) if observation else []
        reward = 1.0 if transcript.is_success else 0.0
        truncated = reason is not None and reason.truncates
        terminated = reason is not None and not truncated
        return observation, reward, terminated, truncated, self._info(messages, calls)

    def mark_cut_off(self) -> None:
        """Say that the next action is incomplete because the agent ran out of tokens.

        The next `step` records the text, executes nothing in it and truncates with `StopReason.TOKEN_LIMIT`.
        """
        self._running()
        self._forced = StopReason.TOKEN_LIMIT

    def mark_crashed(self) -> None:
        """Say that the next action was being played when the process that played it died or hung.

        The next `step` records the text, executes nothing in it and truncates with `StopReason.ENV_CRASHED`.
        """
        self._running()
        self._forced = StopReason.ENV_CRASHED

    def get_state(self) -> bytes:
        """Return everything that the future of this environment depends on, to be continued by `set_state`.

        Generators of the action and observation spaces, which only `sample` uses, are not part of it.

        >>> env = MentorToolEnv("math", split="test")
        >>> _ = env.reset(seed=0)
        >>> other = MentorToolEnv("math", split="test")
        >>> other.set_state(env.get_state())
        >>> other.task.id == env.task.id, other.reset()[0] == env.reset()[0]
        (True, True)
        """
        transcript = self.transcript
        runs = transcript is not None and transcript.stop_reason is None and not self._closed
        terms = None if self.reward_terms is None else {name: float(v) for name, v in self.reward_terms.items()}
        return pack(
            EnvState(
                made_with=self._made_with(),
                rng=pack_rng(self.np_random),
                seed=self._np_random_seed,
                closed=self._closed,
                task=transcript.task if transcript else None,
                turns=transcript.turns if transcript else [],
                replayed=self._replayed,
                stop_reason=transcript.stop_reason if transcript else None,
                answer=transcript.answer if transcript else None,
                is_success=transcript.is_success if transcript else False,
                reward_terms=terms,
                forced=self._forced,
                tools=self._box.snapshot() if runs else b"",
            )
        )

    def set_state(self, state: bytes) -> None:
        """Continue from what `get_state` returned, here or elsewhere, instead of `reset`.

        Args:
            state: From an environment made with the same arguments (`render_mode` and rewards may differ).

        Raises:
            StateError: It is damaged, of a newer version, or of an environment with other arguments, tasks or
                tools. The environment is as it was.
        """
        found = unpack(state)
        mine = self._made_with()
        for name in mine:
            if found.made_with.get(name) != mine[name]:
                theirs = reprlib.repr(found.made_with.get(name))
                raise StateError(f"the state was saved with {name} {theirs}, this environment has {mine[name]!r}")
        generator = unpack_rng(found.rng)
        task = found.task
        if task is not None:
            if task.id not in self._tasks or self._tasks[task.id] != task:
                raise StateError(f"the state's task {reprlib.repr(task.id)} differs from this environment's")
            task = self._tasks[task.id]
            if not 0 <= found.replayed <= len(found.turns):
                raise StateError(f"the state says that {found.replayed} of {len(found.turns)} turns were replayed")
        if task is not None and found.stop_reason is None and not found.closed:
            self._restore_tools(task.state, found.tools)
        else:
            self._box.close()
        self._np_random = generator
        self._np_random_seed = found.seed
        self._closed = found.closed
        self._forced = found.forced
        self._replayed = found.replayed
        self.reward_terms = found.reward_terms
        self._shown = 0
        if task is None:
            self.transcript = None  # type: ignore[assignment]
            return
        self.tools, schemas, facts = self._offer(task)
        self._messages = render_prompt(task, schemas, self.prompt)
        self.transcript = Transcript(task, found.turns, found.stop_reason, found.answer, found.is_success, facts)

    def clone(self) -> Self:
        """Return an independent environment whose future is the same: equal actions have equal results.

        >>> env = MentorToolEnv("math", split="test")
        >>> _ = env.reset(seed=0)
        >>> twin = env.clone()
        >>> env.step("<answer>1</answer>")[2], twin.transcript.turns
        (True, [])
        """
        return copy.deepcopy(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # For copy.deepcopy, clones and pickle alike: boxes hold what cannot be copied, connections for example.
        arguments = {**self._arguments, "render_mode": self.render_mode}
        return _rebuild, (type(self), arguments, self.get_state(), self.spec, self.terms_follow)

    def render(self) -> str | None:
        """Show the conversation: tool calls, results and, at the end, the reward terms.

        Returns:
            The whole conversation for `"ansi"`; None for `"human"`, which prints what is new, in colours when
            the output is a terminal.
        """
        if self.render_mode is None:
            gym.logger.warn("render() does nothing: pass render_mode='ansi' or 'human' to gym.make")
            return None
        transcript = self._running()
        parts: list[Callable[[bool], str]] = [lambda colour: render_opening(self._messages, colour)]
        for number, turn in enumerate(transcript.turns, start=1):
            parts.append(lambda colour, n=number, t=turn: render_turn(n, t, colour))  # type: ignore[misc]
        if transcript.stop_reason is not None:
            end = (transcript, self.reward_terms)
            if self.render_mode == "ansi" or self.reward_terms is not None or not self.terms_follow:
                parts.append(lambda colour: render_terms(*end, colour))
        if self.render_mode == "ansi":
            return "\n".join(part(False) for part in parts)
        colour = sys.stdout.isatty()
        # A terminal that does not show every script must not end the episode.
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        for part in parts[self._shown :]:
            print(part(colour).encode(encoding, "replace").decode(encoding))
        self._shown = len(parts)
        return None

    def close(self) -> None:
        """Release the tools' resources and end the episode. May be called twice."""
        self._box.close()
        self._closed = True

    def _made_with(self) -> dict[str, Any]:
        """Return what a state must agree with; computed once, because nothing of it ever changes."""
        if self._signature is None:
            tools = [tool.schema for tool in self._suite.box.tools.values()]
            self._signature = {
                "suite": self._suite.name,
                "split": self.split,
                "max_turns": self.max_turns,
                "prompt": self.prompt,
                "tasks": digest(self._tasks.ids),
                "tools": digest(tools),
                "versions": dict(self._suite.box.versions),
            }
        return self._signature

    def _restore_tools(self, state: dict[str, Any] | None, snapshot: bytes) -> None:
        runs = self.transcript is not None and self.transcript.stop_reason is None and not self._closed
        before = (self.transcript.task.state, self._box.snapshot()) if runs else None
        try:
            self._reopen(state, snapshot)
        except Exception as error:
            if before is not None:
                self._reopen(*before)
            else:
                self._box.close()
            raise StateError(f"the tools refuse their snapshot: {type(error).__name__}: {error}") from error

    def _reopen(self, state: dict[str, Any] | None, snapshot: bytes) -> None:
        self._box.close()
        self._box.open(state)
        self._box.restore(snapshot)

    def _running(self) -> Transcript:
        if self.transcript is None:
            raise gym.error.ResetNeeded("call reset() first: no episode has been started")
        return self.transcript

    def _choose(self, options: dict[str, Any]) -> tuple[Task, int]:
        known = ("task_id", "teacher_turns")
        for option in options:
            if option not in known:
                hint = nearest(option, known)
                raise ValueError(f"unknown reset option {option!r}; known: {', '.join(known)}{hint}")
        if "task_id" in options:
            try:
                task = self._tasks[str(options["task_id"])]
            except KeyError as error:
                raise ValueError(f"reset option task_id: {error.args[0]}") from None
        else:
            task = self._tasks[int(self.np_random.integers(len(self._tasks)))]
        turns = options.get("teacher_turns", 0)
        if turns != 0 or type(turns) is not int:
            limit = sum(message["role"] == "assistant" for message in task.teacher)
            limit = max(0, min(limit, self.max_turns) - 1)
            if type(turns) is not int or not 0 <= turns <= limit:
                raise ValueError(f"reset option teacher_turns must be 0 to {limit} here, got {turns!r}")
        return task, turns

    def _offer(self, task: Task) -> _Offer:
        """Return the task's tools by name, their schemas, and what rewards may know of them.

        Inline schemas replace what the prompt shows.
        """
        if all(isinstance(entry, str) for entry in task.tools):
            key: tuple[str, ...] = tuple(task.tools)  # type: ignore[arg-type]
            if key not in self._offered:
                tools = {name: self._box.tools[name] for name in key}
                schemas = [tool.schema for tool in tools.values()]
                self._offered[key] = (tools, schemas, self._box.tool_facts(task.tools))
            return self._offered[key]
        names = [entry if isinstance(entry, str) else entry["function"]["name"] for entry in task.tools]
        tools = {name: self._box.tools[name] for name in names}
        schemas = [entry if isinstance(entry, dict) else tools[entry].schema for entry in task.tools]
        return tools, schemas, self._box.tool_facts(task.tools)

    def _act(self, text: Any) -> tuple[str, list[dict[str, Any]]]:
        """Play one turn on the transcript; returns the observation and the calls for info."""
        transcript = self.transcript
        self._tool_down = None
        results: tuple[ToolResult, ...] = ()
        calls: list[dict[str, Any]] = []
        # Neither isinstance nor methods of a subclass: both may run code of the object's own.
        if not issubclass(type(text), str):
            text, action = "", Action(error="action must be text")
        else:
            # Cut before anything reads it: a hostile action may be megabytes long.
            text = clean(str.__getitem__(text, slice(MAX_ACTION_CHARS)))
            action = Action() if self._forced else parse_action(text)
        if self._forced:
            observation = ""
            transcript.stop_reason = self._forced
        elif action.calls:
            results = self._execute(action.calls)
            observation = render_results(results)
            calls = [
                {"name": call.name, "arguments": call.arguments, "ok": result.ok, "error": result.error}
                for call, result in zip(action.calls, results)
            ]
        elif action.answer:
            observation = ""
            transcript.stop_reason = StopReason.ANSWER
            transcript.answer = action.answer
            transcript.is_success = self._judge(action.answer, transcript.task)
        elif action.error:
            observation = render_error(action.error)
        else:
            observation = render_error("the turn holds neither a tool call nor an answer")
            transcript.stop_reason = StopReason.NO_ANSWER
        transcript.turns.append(Turn(text, action, results, observation))
        if transcript.stop_reason is None and len(transcript.turns) >= self.max_turns:
            transcript.stop_reason = StopReason.TURN_LIMIT
        return observation, calls

    def _judge(self, answer: str, task: Task) -> bool:
        final_state = None
        if task.grader["kind"] in STATE_GRADERS:
            try:
                final_state = self._box.final_state()
            except Exception as error:
                # A bug in a user's box, met in a state that only a policy would bring about: no success, and
                # nothing raises out of step.
                what = f"{type(error).__name__}: {error}"
                gym.logger.warn(f"task {task.id}: final_state() of the tools failed: {what}")
                return False
        return grade(answer, task.answer, task.grader, final_state)

    def _execute(self, calls: tuple[ToolCall, ...]) -> tuple[ToolResult, ...]:
        results = []
        for position, call in enumerate(calls):
            tool = self.tools.get(call.name)
            if position >= MAX_CALLS_PER_TURN:
                message = f"error: only the first {MAX_CALLS_PER_TURN} calls of a turn are run"
                results.append(ToolResult(False, message, CallError.OVER_LIMIT))
            elif tool is not None:
                results.append(tool.call(call.arguments))
                if results[-1].error is CallError.TOOL_FAILED and self._tool_down is None:
                    self._tool_down = self._box.down
            elif call.error is not None:
                message = neutralise(clean(f"error: {call.error}"))
                results.append(ToolResult(False, message, CallError.MALFORMED))
            else:
                name = neutralise(clean(call.name[:64]))
                message = f"error: unknown tool {name!r}; the tools are {', '.join(self.tools)}"
                results.append(ToolResult(False, message, CallError.UNKNOWN_TOOL))
        return tuple(results)

    def _result_messages(self, observation: str) -> list[dict[str, Any]]:
        turn = len(self._running().turns)
        results = self.transcript.turns[-1].results
        if not results:
            return [{"role": "user", "content": observation}]
        return [
            {"role": "tool", "tool_call_id": f"call_{turn}_{i}", "content": result.output}
            for i, result in enumerate(results)
        ]

    def _info(self, messages: list[dict[str, Any]], calls: list[dict[str, Any]]) -> dict[str, Any]:
        transcript = self.transcript
        task = transcript.task
        info: dict[str, Any] = {
            "task_id": task.id,
            "suite": task.suite,
            "split": task.split,
            "turn": len(transcript.turns),
            "messages": messages,
            "tool_calls": calls,
            "stop_reason": transcript.stop_reason,
            "is_success": transcript.is_success,
        }
        if self._tool_down is not None:
            info["tool_down"] = self._tool_down
        return info


def _rebuild(
    kind: type[MentorToolEnv], arguments: dict[str, Any], state: bytes, spec: Any, terms_follow: bool
) -> MentorToolEnv:
    env = kind(**arguments)
    env.set_state(state)
    env.spec = spec
    env.terms_follow = terms_follow
    return env
