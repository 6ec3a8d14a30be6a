"""Rollouts: episodes of given tasks, played by an agent many at a time, as trajectories.

At most `max_live` episodes run; when one ends, the next begins in its place. An agent with `submit` and `collect`
gets each observation as soon as it is there and hands back turns as they are finished, so that a long turn keeps
nobody waiting; any other is asked for the next turns of all live episodes together.

Left out: choosing tasks (`agents.train`), and tensors (`agents.trajectory`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, cast, runtime_checkable

import gymnasium as gym
import numpy as np

import mentor_gym  # noqa: F401  (registers the environment ids)
from agents.base import Agent, AgentError, Completion, Observation
from agents.conversation import Conversation
from agents.trajectory import Trajectory
from mentor_gym.env import MentorToolEnv
from mentor_gym.names import nearest
from mentor_gym.stepwise import StepwiseExpert
from mentor_gym.types import StopReason

# One count for the whole process: two rollouts that share an agent must never give it the same episode number.
_EPISODE_NUMBERS = itertools.count()


@dataclass(slots=True)
class _Episode:
    """An episode while it is played.

    Attributes:
        position: Where its trajectory stands in the result.
        env: Its environment, taken from the pool.
        observation: What the agent sees next.
        conversation: The tokens so far; stays empty for agents without tokens.
        rewards: One reward per token of the conversation.
        turn_rewards: One reward per turn.
        last_action: Index of the last sampled token; None before the first.
        info: The environment's last info.
        reward_error: What the environment said of a reward that broke; None when none did.
    """

    position: int
    env: gym.Env[str, str]
    observation: Observation
    conversation: Conversation = field(default_factory=Conversation)
    rewards: list[float] = field(default_factory=list)
    turn_rewards: list[float] = field(default_factory=list)
    last_action: int | None = None
    info: dict[str, Any] = field(default_factory=dict)
    reward_error: str | None = None

    @property
    def base(self) -> MentorToolEnv | StepwiseExpert:
        return cast("MentorToolEnv | StepwiseExpert", self.env.unwrapped)


class Rollout:
    """A pool of environments in which an agent plays episodes of named tasks.

    The environments are made once and used again. A `Rollout` is a context manager; leaving it closes them.

    Args:
        env_kwargs: Arguments of `gym.make(env_id, ...)`.
        max_live: How many episodes may run at the same time.
        env_id: `"MentorTool-v0"`, or `"MentorStepwise-v0"`, whose items then stand where tasks do.

    Raises:
        ValueError: An argument is out of range or names nothing.

    Attributes:
        reward_errors: In how many episodes of the last run the reward broke (and paid 0).
        last_reward_error: What was said of the last of them; empty before the first.

    Example:
        >>> from agents.rollout import Rollout
        >>> from agents.scripted import TeacherAgent
        >>> with Rollout({"suite": "math", "split": "valid"}) as rollout:
        ...     trajectories = rollout.run(TeacherAgent(), rollout.task_ids[:3])
        >>> [trajectory.is_success for trajectory in trajectories]
        [True, True, True]
    """

    def __init__(self, env_kwargs: Mapping[str, Any], max_live: int = 64, env_id: str = "MentorTool-v0") -> None:
        if not isinstance(max_live, int) or max_live < 1:
            raise ValueError(f"max_live must be a whole number of at least 1, got {max_live!r}")
        self.env_kwargs = dict(env_kwargs)
        self.max_live = max_live
        self.env_id = env_id
        self.reward_errors = 0
        self.last_reward_error = ""
        self._training_step = 0
        self._pool: list[gym.Env[str, str]] = []
        # Made at once, so that a wrong argument is reported here and not in the middle of a run.
        base = cast("MentorToolEnv | StepwiseExpert", self._env(0).unwrapped)
        if isinstance(base, StepwiseExpert):
            self._option, self._task_ids = "item", base.item_ids
        else:
            self._option, self._task_ids = "task_id", base.tasks.ids
        self._known = frozenset(self._task_ids)
        self._where = f"split {base.split!r} of suite {self.env_kwargs.get('suite', 'math')!r}"

    @property
    def task_ids(self) -> list[str]:
        """The ids of the split's tasks, or of their items, in file order."""
        return list(self._task_ids)

    def run(self, agent: Agent, task_ids: Sequence[str], seed: int | None = None) -> list[Trajectory]:
        """Play one episode of each task; an id may stand more than once, which makes a group.

        Every episode gets a number that is unique in this process. An agent with `privileged = True` is shown
        the tasks, and its trajectories have the source `"teacher"`. An agent with a method `forget(episode)` is
        told when an episode has ended, also when the run fails.

        Args:
            agent: Writes the turns, for all live episodes at once.
            task_ids: The tasks to play.
            seed: Seeds the episodes, the n-th with a number drawn from (`seed`, n): its environment is seeded with
                it, and the agent sees it (`Observation.seed`). None leaves generators alone.

        Returns:
            The trajectories, in the order of `task_ids`.

        Raises:
            ValueError: An id is not in the split.
            AgentError: The agent did not return one well-formed `Completion` per observation.
        """
        for task_id in task_ids:
            if task_id not in self._known:
                raise ValueError(f"no task {task_id!r} in {self._where}{nearest(task_id, self._task_ids)}")
        privileged = bool(getattr(agent, "privileged", False))
        player = agent if isinstance(agent, _Streaming) else _LockStep(agent)
        self.reward_errors = 0
        trajectories: dict[int, Trajectory] = {}
        live: dict[int, _Episode] = {}
        free = [self._env(place) for place in range(min(self.max_live, len(task_ids)))][::-1]
        started = 0
        try:
            while live or started < len(task_ids):
                while free and started < len(task_ids):
                    own = None if seed is None else _episode_seed(seed, started)
                    options = {self._option: task_ids[started]}
                    episode = _start(free.pop(), started, options, own, privileged)
                    live[episode.observation.episode] = episode
                    player.submit(episode.observation)
                    started += 1
                # All are checked before any is played, so that an error never leaves half a batch stepped.
                for episode, completion in _check_batch(agent, live, player.collect()):
                    if not _step(episode, completion):
                        player.submit(episode.observation)
                        continue
                    trajectories[episode.position] = _finish(episode, "teacher" if privileged else "policy")
                    if episode.reward_error is not None:
                        self.reward_errors += 1
                        self.last_reward_error = f"task {episode.base.task.id!r}: {episode.reward_error}"
                    del live[episode.observation.episode]
                    _forget(agent, episode)
                    free.append(episode.env)
        finally:
            # After a failure: nothing is left of the episodes that were cut short, here or in the agent.
            for episode in live.values():
                episode.base.close()
                _forget(agent, episode)
        return [trajectories[position] for position in range(len(task_ids))]

    def set_training_step(self, step: int) -> None:
        """Say how many training steps are done, for rewards that change with them."""
        self._training_step = step
        for env in self._pool:
            _tell_step(env, step)

    def close(self) -> None:
        """Close the environments. May be called twice; a later `run` makes new ones."""
        while self._pool:
            self._pool.pop().close()

    def __enter__(self) -> Rollout:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _env(self, position: int) -> gym.Env[str, str]:
        """Return an environment of the pool, making it on first use."""
        while len(self._pool) <= position:
            # The passive checker is for environments under test; it would check every one of the pool again.
            self._pool.append(gym.make(self.env_id, disable_env_checker=True, **self.env_kwargs))
            _tell_step(self._pool[-1], self._training_step)
        return self._pool[position]


def _tell_step(env: gym.Env[str, str], step: int) -> None:
    # An environment without a reward wrapper has nothing that changes.
    if env.has_wrapper_attr("set_training_step"):
        env.get_wrapper_attr("set_training_step")(step)


@runtime_checkable
class _Streaming(Protocol):
    """An agent that may have turns of different lengths under way."""

    def submit(self, observation: Observation) -> None: ...

    def collect(self) -> list[tuple[int, Completion]]: ...


class _LockStep:
    """Any other agent: every turn that is asked for is written in one call."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._observations: list[Observation] = []

    def submit(self, observation: Observation) -> None:
        self._observations.append(observation)

    def collect(self) -> list[tuple[int, Completion]]:
        observations, self._observations = self._observations, []
        completions: Any = self.agent.act(observations)
        name = f"{type(self.agent).__name__}.act"
        if not isinstance(completions, list | tuple):
            raise AgentError(f"{name} must return a list of Completion, got {type(completions).__name__}")
        if len(completions) != len(observations):
            raise AgentError(
                f"{name} returned {len(completions)} completions for {len(observations)} observations"
            )
        return [(observation.episode, completion) for observation, completion in zip(observations, completions)]


def _episode_seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1)[0])


def _start(
    env: gym.Env[str, str], position: int, options: dict[str, Any], seed: int | None, privileged: bool
) -> _Episode:
    text, info = env.reset(seed=seed, options=options)
    task = cast("MentorToolEnv | StepwiseExpert", env.unwrapped).task if privileged else None
    observation = Observation(text, info["messages"], next(_EPISODE_NUMBERS), info["turn"], task, seed)
    return _Episode(position, env, observation)


def _step(episode: _Episode, completion: Completion) -> bool:
    """Record a completion and play it; returns whether the episode has ended."""
    conversation = episode.conversation
    if completion.token_ids is not None:
        conversation.extend_observation(completion.prompt_ids or [])
        if completion.token_ids:
            conversation.extend_action(completion.token_ids, completion.logprobs)
            episode.last_action = len(conversation.token_ids) - 1
        episode.rewards += [0.0] * (len(conversation.token_ids) - len(episode.rewards))
    if completion.cut_off:
        episode.base.mark_cut_off()
    text, reward, terminated, truncated, episode.info = episode.env.step(completion.text)
    episode.reward_error = episode.info.get("reward_error", episode.reward_error)
    episode.turn_rewards.append(float(reward))
    if episode.last_action is not None:
        # A turn without any token (no room left in the context) pays on the last token there is, so that the
        # tokens' rewards always sum to the return.
        episode.rewards[episode.last_action] += float(reward)
    before = episode.observation
    episode.observation = Observation(
        text, episode.info["messages"], before.episode, episode.info["turn"], before.task, before.seed
    )
    return terminated or truncated


def _finish(episode: _Episode, source: str) -> Trajectory:
    transcript = episode.base.transcript
    assert transcript is not None
    reason = episode.info["stop_reason"]
    return Trajectory(
        task_id=transcript.task.id,
        source=source,
        token_ids=episode.conversation.token_ids,
        action_mask=episode.conversation.action_mask,
        logprobs=episode.conversation.logprobs,
        rewards=episode.rewards,
        reward_terms=episode.info.get("reward_terms", {}),
        is_success=episode.info["is_success"],
        stop_reason=StopReason(reason) if reason else None,
        turn_rewards=episode.turn_rewards,
        transcript=transcript,
    )


def _forget(agent: Agent, episode: _Episode) -> None:
    forget = getattr(agent, "forget", None)
    if forget is not None:
        forget(episode.observation.episode)


def _check_batch(
    agent: Agent, live: dict[int, _Episode], completions: Sequence[tuple[int, Completion]]
) -> list[tuple[_Episode, Completion]]:
    """Check what an agent wrote; returns it with the episodes."""
    name = f"{type(agent).__name__}.{'collect' if isinstance(agent, _Streaming) else 'act'}"
    if not completions:
        raise AgentError(f"{name} returned nothing, with {len(live)} turns asked for")
    found = []
    for number, completion in completions:
        if number not in live:
            raise AgentError(f"{name} returned a turn of episode {number}, which is not running")
        episode = live[number]
        problem = _completion_problem(episode, completion)
        if problem:
            where = f"task {episode.base.task.id!r}, turn {episode.observation.turn}"
            raise AgentError(f"{name}: {where}: {problem}")
        found.append((episode, completion))
    return found


def _completion_problem(episode: _Episode, completion: Any) -> str | None:
    if not isinstance(completion, Completion):
        return f"expected a Completion, got {type(completion).__name__}"
    if not isinstance(completion.text, str):
        return f"Completion.text must be str, got {type(completion.text).__name__}"
    tokens = completion.token_ids
    if tokens is None:
        return "earlier turns had token_ids, this one has none" if episode.conversation.token_ids else None
    if episode.turn_rewards and not episode.conversation.token_ids:
        return "earlier turns had no token_ids, this one has"
    if completion.prompt_ids is None:
        return "a Completion with token_ids needs prompt_ids too"
    # Nobody samples a teacher's tokens; a policy's are of no use to a learner without their log-probabilities.
    if completion.logprobs is None:
        return None if episode.observation.task is not None else "a Completion with token_ids needs logprobs too"
    if len(tokens) != len(completion.logprobs):
        return f"{len(tokens)} token_ids but {len(completion.logprobs)} logprobs"
    return None
