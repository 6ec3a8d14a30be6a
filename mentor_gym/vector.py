"""`MentorToolVectorEnv`: many environments stepped together, in this process or in worker processes.

It is what `gym.make_vec("MentorTool-v0", num_envs=...)` makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from mentor_gym import worker
from mentor_gym.infos import batch_infos
from mentor_gym.names import nearest
from mentor_gym.supervisor import Supervisor, WorkerError
from mentor_gym.worker import Command

Texts = tuple[str, ...]
Arrays = tuple[Texts, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class MentorToolVectorEnv(gym.vector.VectorEnv[Texts, Sequence[Any], np.ndarray]):
    """Tool-use environments stepped together, with the results of Gymnasium's `SyncVectorEnv` at less cost.

    Actions are a sequence of texts, observations a tuple of texts. Rewards, ends and infos are arrays as
    `gymnasium.vector.SyncVectorEnv` makes them, in all autoreset modes.

    ## Reset
    The seed `s` gives environment `i` the seed `s + i`; a list gives each its own. Options are those of
    `MentorToolEnv.reset`, for all environments; `task_ids`, a list with a task for each; and `reset_mask`, a
    boolean array that chooses which environments are reset.

    ## Groups
    With `group_size=n` every n neighbours are a group: the k-th episode of a group is one task, whichever member
    plays it and whenever it gets there. This is what GRPO compares. Seeds and `task_ids` are then one per group,
    `s + g` for group `g`. `infos["group"]` and `infos["group_episode"]` say which episode of which group each
    environment plays; the same keys of `infos["final_info"]` which one has just ended. Episodes count from 0 at a
    seeded reset. A later reset of a whole group takes its members to the same new episode, and one of a single
    member takes it to its next.

    ## Workers
    With `num_workers=n` the environments are divided among n processes. One that dies, or takes longer than
    `step_timeout`, is replaced. The environment that it was stepping is truncated, with `StopReason.ENV_CRASHED`
    and `info["env_crashed"]`; the others go on as if nothing had happened. This pays for tools that may crash, may
    hang in C code, or take milliseconds. Scripts need no `if __name__ == "__main__"`.

    Args:
        num_envs: How many environments.
        group_size: How many neighbours play the same tasks; divides `num_envs`.
        autoreset_mode: A member of `gymnasium.vector.AutoresetMode`, or its name or value. `"SameStep"` loses no
            step, and leaves an episode's last observation in `infos["final_obs"]`.
        num_workers: How many processes run the environments, at most one each; 0 runs them in this one.
        step_timeout: Seconds after which a step, reset or call of an environment in a worker counts as hung.
        max_restarts: How many worker processes may be replaced before `WorkerError` is raised.
        max_episode_steps: Must be None: `max_turns` limits episodes, and stop reasons and rewards know of it.
        **kwargs: Arguments of `mentor_gym.make_env`, for every environment.

    Raises:
        ValueError: An argument is out of range or names nothing.
        WorkerError: A worker process does not start.

    >>> envs = gym.make_vec("MentorTool-v0", num_envs=4, group_size=2, suite="math", split="test")
    >>> observations, infos = envs.reset(seed=0)
    >>> infos["group"], infos["task_id"][0] == infos["task_id"][1]
    (array([0, 0, 1, 1]), True)
    >>> observations, rewards, terminations, truncations, infos = envs.step(["<answer>1</answer>"] * 4)
    >>> terminations, infos["final_info"]["group_episode"], infos["group_episode"]
    (array([ True,  True,  True,  True]), array([0, 0, 0, 0]), array([1, 1, 1, 1]))
    """

    def __init__(
        self,
        num_envs: int = 1,
        group_size: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        num_workers: int = 0,
        step_timeout: float = 60.0,
        max_restarts: int = 20,
        max_episode_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value, least in (
            ("num_envs", num_envs, 1),
            ("group_size", group_size, 1),
            ("num_workers", num_workers, 0),
            ("max_restarts", max_restarts, 0),
        ):
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if num_envs % group_size:
            raise ValueError(f"num_envs must be a multiple of group_size, got {num_envs} and {group_size}")
        if type(step_timeout) not in (int, float) or not 0 < step_timeout < 1e6:
            raise ValueError(f"step_timeout must be a positive number of seconds, got {step_timeout!r}")
        if max_episode_steps is not None:
            raise ValueError(
                f"max_episode_steps must be None, got {max_episode_steps!r}; max_turns limits episodes"
            )
        self.num_envs = num_envs
        self.group_size = group_size
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        # Made here with workers too: for the spaces, and for errors where the arguments are.
        first = worker.make(kwargs)
        self.metadata = {**first.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = first.render_mode
        self.single_action_space = first.action_space
        self.single_observation_space = first.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._runner: worker.InProcess | Supervisor
        if num_workers:
            first.close()
            slices = min(num_workers, num_envs)
            self._runner = Supervisor(num_envs, slices, kwargs, float(step_timeout), max_restarts)
        else:
            self._runner = worker.InProcess([first, *(worker.make(kwargs) for _ in range(num_envs - 1))])
        self._observations: list[str] = [None] * num_envs  # type: ignore[list-item]  # until the first reset
        self._ended = [False] * num_envs
        # Whether the members of a group draw the same tasks, and how many each has drawn since, less one.
        self._agrees = [group_size == 1] * (num_envs // group_size)
        self._episodes = [-1] * num_envs

    @property
    def envs(self) -> list[worker.Env]:
        """The environments; those in workers are reached by `call`, `get_attr` and `set_attr` only."""
        if isinstance(self._runner, Supervisor):
            raise AttributeError("the environments are in worker processes: use call, get_attr and set_attr")
        return self._runner.envs

    @property
    def restarts(self) -> int:
        """How many worker processes were replaced so far."""
        return self._runner.restarts if isinstance(self._runner, Supervisor) else 0

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators of the environments; with workers, copies of them."""
        return self.get_attr("np_random")

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seeds of the environments' generators."""
        return self.get_attr("np_random_seed")

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Texts, dict[str, Any]]:
        """Start an episode in every environment, or in those of `options["reset_mask"]`.

        Args:
            seed: Of the first environment or group, or a list with one for each. None goes on with the generators
                as they are, in a list too.
            options: See the class.

        Returns:
            The observations, the last ones where nothing was reset, and infos.

        Raises:
            ValueError: Impossible seeds or options, or options that an environment refuses.
            gymnasium.error.ClosedEnvironmentError: The vector is closed.
        """
        self._check_open()
        seeds = self._read_seed(seed)
        mask, task_ids, rest = self._read_options(options)
        size = self.group_size
        groups = [[i for i in range(g * size, (g + 1) * size) if mask[i]] for g in range(len(seeds))]
        named = task_ids is not None or "task_id" in rest
        for g, members in enumerate(groups):
            if 0 < len(members) < size and (seeds[g] is not None or named or not self._agrees[g]):
                raise ValueError(
                    f"reset_mask has only {members} of group {g}: the first reset, seeds and named tasks are for "
                    "all members of a group"
                )
        commands: list[tuple[int, Command]] = []
        for g, members in enumerate(groups):
            chosen = rest if task_ids is None else {**rest, "task_id": task_ids[g]}
            agreed, skipped = self._agree(g, members, seeds[g])
            commands += [(i, (worker.reset, agreed, chosen, number)) for i, number in zip(members, skipped)]
        *_, infos = self._run(commands)
        return tuple(self._observations), infos

    def step(self, actions: Sequence[Any]) -> Arrays:
        """Play one turn in every environment.

        Args:
            actions: One text per environment. Anything that is not text is answered with an error.

        Returns:
            Observations, rewards (float64), terminations, truncations and infos.

        Raises:
            ValueError: The number of actions is not the number of environments.
            WorkerError: Worker processes were lost too often; the vector is closed.
            gymnasium.error.ResetNeeded: An environment was not reset: at first, or, with `"Disabled"`, at its end.
            gymnasium.error.ClosedEnvironmentError: The vector is closed.
        """
        self._check_open()
        each = self._read_actions(actions)
        over = [i for i, ended in enumerate(self._ended) if ended]
        if over and self.autoreset_mode is AutoresetMode.DISABLED:
            raise gym.error.ResetNeeded(
                f"the episodes of environments {over} have ended; call reset with "
                'options={"reset_mask": terminations | truncations} before the next step'
            )
        same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        commands: list[tuple[int, Command]] = [
            (i, (worker.step, each[i], same_step)) for i in range(self.num_envs)
        ]
        for i in over:
            commands[i] = (i, (worker.reset, None, None))
        return self._run(commands)

    def render(self) -> tuple[Any, ...]:
        """Render every environment."""
        return self.call("render")

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of every environment or its wrappers, or get an attribute; returns the results."""
        return self._ask([(worker.call, name, args, kwargs)] * self.num_envs)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Get an attribute of every environment or its wrappers."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of every environment or its wrappers, to its own of a list or tuple or to the same."""
        if not isinstance(values, list | tuple):
            values = [values] * self.num_envs
        if len(values) != self.num_envs:
            raise ValueError(f"set_attr needs {self.num_envs} values, one per environment, got {len(values)}")
        self._ask([(worker.set_attr, name, value) for value in values])

    def close_extras(self, timeout: float = 5.0, terminate: bool = False) -> None:
        """Close the environments and end the worker processes.

        Args:
            timeout: Seconds that worker processes have for closing their environments before they are killed.
            terminate: Kill them at once.
        """
        self._runner.close(0.0 if terminate else timeout)

    def _run(self, commands: list[tuple[int, Command]]) -> Arrays:
        """Run steps and resets, and batch what comes of them."""
        outcomes, error = self._dispatch(commands)
        rewards = np.zeros(self.num_envs)
        terminations = np.zeros(self.num_envs, np.bool_)
        truncations = np.zeros(self.num_envs, np.bool_)
        rows: list[int] = []
        infos: list[dict[str, Any]] = []
        for i, command in commands:
            if i not in outcomes:
                # It may have drawn a task or not.
                self._agrees[i // self.group_size] = self.group_size == 1
                continue
            observation, reward, terminated, truncated, info, final = outcomes[i]
            self._observations[i] = observation
            rewards[i] = reward
            terminations[i] = terminated
            truncations[i] = truncated
            self._ended[i] = final is None and (terminated or truncated)
            if final is not None:
                self._tag(i, final[1])
                info = {"final_obs": final[0], "final_info": final[1], **info}
            if final is not None or command[0] is worker.reset:
                self._episodes[i] += 1
            self._tag(i, info)
            rows.append(i)
            infos.append(info)
        if error is not None:
            raise error
        return (
            tuple(self._observations),
            rewards,
            terminations,
            truncations,
            batch_infos(self.num_envs, rows, infos),
        )

    def _ask(self, commands: list[Command]) -> tuple[Any, ...]:
        """Run one command in every environment and return the results."""
        self._check_open()
        results, error = self._dispatch(list(enumerate(commands)))
        if error is not None:
            raise error
        return tuple(results[i] for i in range(self.num_envs))

    def _dispatch(self, commands: list[tuple[int, Command]]) -> tuple[dict[int, Any], BaseException | None]:
        try:
            return self._runner.run(commands)
        except WorkerError:
            self.close()
            raise

    def _agree(self, group: int, members: list[int], seed: int | None) -> tuple[int | None, list[int]]:
        """Return a seed for the members, and how many episodes each must skip so that all come to the same one."""
        if self.group_size == 1:
            return seed, [0]
        if seed is None and members and not self._agrees[group]:
            _, seed = seeding.np_random()
        if seed is not None:
            self._agrees[group] = True
            for i in members:
                self._episodes[i] = -1
        if len(members) < self.group_size:
            return seed, [0] * len(members)
        latest = max(self._episodes[i] for i in members)
        skipped = [latest - self._episodes[i] for i in members]
        for i in members:
            self._episodes[i] = latest
        return seed, skipped

    def _tag(self, i: int, info: dict[str, Any]) -> None:
        # Not without groups: infos equal those of `SyncVectorEnv` then.
        if self.group_size > 1:
            info["group"] = i // self.group_size
            info["group_episode"] = self._episodes[i]

    def _read_seed(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        groups = self.num_envs // self.group_size
        if seed is None:
            return [None] * groups
        if isinstance(seed, int | np.integer):
            return [int(seed) + g for g in range(groups)]
        if len(seed) != groups:
            raise ValueError(f"a list of seeds needs {self._one_for_each()}, got {len(seed)}")
        return list(seed)

    def _read_options(
        self, options: dict[str, Any] | None
    ) -> tuple[Sequence[bool], Sequence[Any] | None, dict[str, Any]]:
        """Return what the vector itself reads of the reset options, mask and tasks, and the rest."""
        rest = dict(options or {})
        task_ids, mask = rest.pop("task_ids", None), rest.pop("reset_mask", None)
        if task_ids is not None and "task_id" in rest:
            raise ValueError("reset options task_id and task_ids exclude each other")
        if task_ids is not None and (isinstance(task_ids, str) or len(task_ids) != len(self._agrees)):
            raise ValueError(f"reset option task_ids needs {self._one_for_each()}, got {task_ids!r}")
        if mask is None:
            return [True] * self.num_envs, task_ids, rest
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"reset option reset_mask must be a NumPy array of bool, got {mask!r}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"reset option reset_mask must have {self.num_envs} values, one True, got {mask!r}")
        return mask.tolist(), task_ids, rest

    def _read_actions(self, actions: Any) -> list[Any]:
        if isinstance(actions, str | bytes | Mapping) or not isinstance(actions, Iterable):
            raise ValueError(f"step needs a list of {self.num_envs} actions, got {type(actions).__name__}")
        each = list(actions)
        if len(each) != self.num_envs:
            raise ValueError(f"step needs {self.num_envs} actions, one per environment, got {len(each)}")
        return each

    def _one_for_each(self) -> str:
        return f"{len(self._agrees)} values, one per {'environment' if self.group_size == 1 else 'group'}"

    def _check_open(self) -> None:
        if self.closed:
            raise gym.error.ClosedEnvironmentError("the vector environment is closed; make a new one")


def _autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    for member in AutoresetMode:
        if mode in (member, member.name, member.value):
            return member
    known = [member.value for member in AutoresetMode]
    raise ValueError(f"autoreset_mode must be one of {', '.join(known)}, got {mode!r}{nearest(mode, known)}")
