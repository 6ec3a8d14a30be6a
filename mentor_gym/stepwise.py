"""`StepwiseExpert`: one turn, from where the teacher has got to, paid for being like the teacher's next.

The environment of SRL (arXiv 2510.25992): for problems so hard that no episode of the policy succeeds, and outcome
rewards teach nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import gymnasium as gym
import numpy as np

from mentor_gym.env import MentorToolEnv
from mentor_gym.rewards.base import check_flags
from mentor_gym.rewards.srl import SRLReward, expert_steps
from mentor_gym.suites.base import Suite
from mentor_gym.types import Task, Transcript

# The episode beneath never ends by its length: the teacher may have taken any number of turns.
_ANY_TURNS = 1_000_000


class StepwiseExpert(gym.Env[str, str]):
    r"""One turn of a tool-use task, after the teacher's first k turns.

    ## Action
    Text: one assistant turn, as for `MentorToolEnv`. It is executed for real.

    ## Observation
    Text. At reset what a policy would have seen by then: the opening of the task, then the teacher's first k turns
    with the results of the real tools. After the step its results.

    ## Reward
    The similarity of the turn with the teacher's turn k + 1, from 0 to 1; -1 for bad format. Where the teacher
    answers, that is the similarity with the gold answer, also if the teacher's is another; a right answer counts
    1. See `mentor_gym.rewards.srl.SRLReward`.

    ## End
    After one step the episode terminates; it is truncated when the turn was cut off (`mark_cut_off`).

    ## Info
    As for `MentorToolEnv`, and `teacher_turns`, which is k; after the step also `reward_terms`. `stop_reason` is
    that of the task's own episode, which has one only when the turn was an answer, no answer, or cut off.

    ## Items
    Of a solution in N turns the paper makes N - 1 items, each a beginning with the turn that follows it. Here
    these are k = 1 to N - 1: the first turn is always given, and the answer is one of the turns to be learnt. This
    is our reading of the paper, a reconstruction. `first_turn=True` adds k = 0, and so does a teacher with a
    single turn. The option `teacher_turns` takes any k from 0 to N - 1, `item` a name of `item_ids`. Where a trace
    goes on after a turn that ends the episode, or has one that neither calls nor answers, N counts those before.

    ## State
    `get_state`, `set_state`, `clone` and `copy.deepcopy` as for `MentorToolEnv`.

    Args:
        suite: As for `MentorToolEnv`.
        split: As for `MentorToolEnv`.
        prompt: As for `MentorToolEnv`.
        where: As for `MentorToolEnv`. Tasks without items are never drawn.
        first_turn: Whether k = 0 is drawn too.
        judge: As for `SRLReward`.
        bad_format: As for `SRLReward`.
        render_mode: As for `MentorToolEnv`.

    Raises:
        ValueError: An argument is out of range or names nothing, or no task has a teacher.

    >>> env = StepwiseExpert("math", split="test")
    >>> observation, info = env.reset(seed=0, options={"teacher_turns": 0})
    >>> observation, reward, terminated, truncated, info = env.step("well")
    >>> reward, terminated, info["teacher_turns"]
    (-1.0, True, 0)
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "human"], "render_fps": 4}  # type: ignore[misc]
    max_turns = 1

    def __init__(
        self,
        suite: str | Suite = "math",
        split: str | None = None,
        prompt: str = "full",
        where: Mapping[str, Any] | None = None,
        first_turn: bool = False,
        judge: str = "environment",
        bad_format: float = -1.0,
        render_mode: str | None = None,
    ) -> None:
        check_flags(first_turn=first_turn)
        self._env: MentorToolEnv = _Beneath(first_turn, suite, split, _ANY_TURNS, prompt, where, render_mode)
        self.action_space = self._env.action_space
        self.observation_space = self._env.observation_space
        self.render_mode = render_mode
        self.first_turn = first_turn
        self.reward = SRLReward(judge, bad_format)
        self._ids = [task.id for task in self._env.tasks if self.items(task)]
        if not self._ids:
            raise ValueError(
                f"no task of split {self._env.split!r} of suite {self._env.suite.name!r} has a teacher with a "
                "turn that calls or answers"
            )

    # One generator with the environment beneath, whose state holds it.
    @property
    def _np_random(self) -> np.random.Generator | None:
        return self._env._np_random

    @_np_random.setter
    def _np_random(self, generator: np.random.Generator | None) -> None:
        self._env._np_random = generator

    @property
    def _np_random_seed(self) -> int | None:
        return self._env._np_random_seed

    @_np_random_seed.setter
    def _np_random_seed(self, seed: int | None) -> None:
        self._env._np_random_seed = seed

    @property
    def task(self) -> Task:
        """The task being played."""
        return self._env.task

    @property
    def transcript(self) -> Transcript:
        """The episode so far, the teacher's turns included."""
        return self._env.transcript

    @property
    def tools(self) -> dict[str, Any]:
        """The task's tools by name."""
        return self._env.tools

    @property
    def split(self) -> str:
        """The split that tasks come from."""
        return self._env.split

    @property
    def task_ids(self) -> list[str]:
        """The tasks that are drawn from: those with items."""
        return list(self._ids)

    @property
    def item_ids(self) -> list[str]:
        """Every item, `<task id>@<k>`, tasks in file order: what a trainer plays several times as a group.

        >>> StepwiseExpert("math", split="test").item_ids[0]
        'math-test-00000@1'
        """
        return [f"{task_id}@{k}" for task_id in self._ids for k in self.items(self._env.tasks[task_id])]

    def items(self, task: Task) -> range:
        """Return the numbers of teacher's turns, k, that a task's episodes begin with; see "Items".

        >>> env = StepwiseExpert("math", split="test")
        >>> task = env.reset(options={"task_id": env.task_ids[0]}) and env.task
        >>> len(expert_steps(task)), list(env.items(task))
        (2, [1])
        """
        turns = 0
        for step in expert_steps(task):
            turns += bool(step.calls or step.answer)
            if not step.calls:
                # Here the episode ends, whatever else the trace holds.
                break
        return range(0 if self.first_turn or turns == 1 else 1, turns)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start after some of a teacher's turns: both drawn by the environment's generator, or as the options say.

        Args:
            seed: Seeds the generator; the same seed gives the same episode in every process.
            options: `{"task_id": id}` plays that task; `{"teacher_turns": k}` begins after the teacher's first k
                turns, 0 to N - 1 of the N of the task, which may be a drawn one; `{"item": "<task id>@<k>"}` says
                both at once.

        Returns:
            The opening observation and info.

        Raises:
            ValueError: Unknown or impossible options.
        """
        super().reset(seed=seed)
        chosen = self._choose(dict(options or {}))
        if "task_id" not in chosen:
            chosen["task_id"] = self._ids[int(self.np_random.integers(len(self._ids)))]
        task_id = str(chosen["task_id"])
        # An unknown one is refused beneath.
        if task_id in self._env.tasks:
            task = self._env.tasks[task_id]
            items = self.items(task)
            if not items:
                raise ValueError(
                    f"reset option task_id: task {task_id!r} has no teacher's turn that calls or answers"
                )
            if "teacher_turns" not in chosen:
                chosen["teacher_turns"] = items[int(self.np_random.integers(len(items)))]
        observation, info = self._env.reset(options=chosen)
        return observation, {**info, "teacher_turns": self._env.replayed}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play the one turn.

        Args:
            action: The whole text of the turn.

        Returns:
            The observation, the similarity with the teacher's turn, terminated, truncated, and info.

        Raises:
            gymnasium.error.ResetNeeded: No episode is running.
            gymnasium.error.ClosedEnvironmentError: The environment is closed; `reset` opens it again.
        """
        if self._has_played():
            raise gym.error.ResetNeeded("the episode has ended; call reset() before the next step()")
        observation, _, _, truncated, info = self._env.step(action)
        self._env.close()
        reward = self.reward.turn(self._env.transcript, self._env.replayed)
        info = {**info, "teacher_turns": self._env.replayed, "reward_terms": {"similarity": reward}}
        return observation, reward, not truncated, truncated, info

    def mark_cut_off(self) -> None:
        """Say that the next action is incomplete because the agent ran out of tokens; see `MentorToolEnv`."""
        self._env.mark_cut_off()

    def get_state(self) -> bytes:
        """Return everything that the future of this environment depends on, to be continued by `set_state`.

        >>> env = StepwiseExpert("math", split="test")
        >>> _ = env.reset(seed=0)
        >>> other = StepwiseExpert("math", split="test")
        >>> other.set_state(env.get_state())
        >>> other.transcript == env.transcript, other.reset()[0] == env.reset()[0]
        (True, True)
        """
        return self._env.get_state()

    def set_state(self, state: bytes) -> None:
        """Continue from what `get_state` returned, here or elsewhere, instead of `reset`.

        Args:
            state: From an environment made with the same arguments (`render_mode`, `judge` and `bad_format` may
                differ: what pays is not part of it).

        Raises:
            mentor_gym.state.StateError: As for `MentorToolEnv`.
        """
        self._env.set_state(state)

    def clone(self) -> Self:
        """Return an independent environment whose future is the same."""
        return copy.deepcopy(self)

    def render(self) -> str | None:
        """Show the conversation, the teacher's turns included; as for `MentorToolEnv`."""
        return self._env.render()

    def close(self) -> None:
        """Release the tools' resources and end the episode. May be called twice."""
        self._env.close()

    def _choose(self, options: dict[str, Any]) -> dict[str, Any]:
        """Write the option `item` as the two that it stands for."""
        if "item" not in options:
            return options
        item = options.pop("item")
        if options:
            raise ValueError(f"reset option item says everything: it goes without {', '.join(options)}")
        task_id, _, turns = item.rpartition("@") if isinstance(item, str) else ("", "", "")
        # int() takes " 1", "+1" and "01" too; an item has one name.
        if not task_id or not (turns.isascii() and turns.isdecimal() and str(int(turns)) == turns):
            raise ValueError(f"reset option item must be '<task id>@<teacher's turns>', got {item!r}")
        return {"task_id": task_id, "teacher_turns": int(turns)}

    def _has_played(self) -> bool:
        transcript = self._env.transcript
        return transcript is not None and len(transcript.turns) > self._env.replayed


class _Beneath(MentorToolEnv):
    """The environment that plays; its states are those of environments that draw the same items."""

    def __init__(self, first_turn: bool, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arguments["first_turn"] = first_turn

    def _made_with(self) -> dict[str, Any]:
        return {**super()._made_with(), "first_turn": self._arguments["first_turn"]}
