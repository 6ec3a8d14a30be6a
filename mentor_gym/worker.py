"""What a vector environment asks of one environment, and the process that does it for a slice of them.

A command is a tuple: one of the functions below and its arguments after the environment. `InProcess` calls them;
`mentor_gym.supervisor` sends them to worker processes, which run `main`.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import traceback
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any, TypeAlias, cast

import cloudpickle  # type: ignore[import-untyped]
import gymnasium as gym

from mentor_gym.env import MentorToolEnv

Env: TypeAlias = gym.Env[str, str]
Command: TypeAlias = tuple[Any, ...]
# Observation, reward, terminated, truncated and info, as from `Env.step`; then the observation and info with which
# the episode ended, when the environment was reset in the same step, else None.
Outcome: TypeAlias = tuple[str, float, bool, bool, dict[str, Any], tuple[str, dict[str, Any]] | None]
# Whether the command succeeded, its result or exception, and the environment's state after it.
Reply: TypeAlias = tuple[bool, Any, bytes | None]


def make(kwargs: dict[str, Any]) -> Env:
    """Make one environment, as `gym.make` makes it."""
    return gym.make("MentorTool-v0", **kwargs)


def step(env: Env, action: Any, same_step: bool) -> Outcome:
    """Play one turn; with `same_step`, an environment whose episode ends is reset at once."""
    observation, reward, terminated, truncated, info = env.step(action)
    if same_step and (terminated or truncated):
        final = (observation, info)
        observation, info = env.reset()
        return observation, float(reward), terminated, truncated, info, final
    return observation, float(reward), terminated, truncated, info, None


def step_crashed(env: Env, action: Any, same_step: bool) -> Outcome:
    """End the episode in place of a step that killed or blocked its process."""
    cast(MentorToolEnv, env.unwrapped).mark_crashed()
    outcome = step(env, action, same_step)
    info = outcome[4] if outcome[5] is None else outcome[5][1]
    info["env_crashed"] = True
    return outcome


def reset(env: Env, seed: int | None, options: dict[str, Any] | None, passed_over: int = 0) -> Outcome:
    """Start an episode, after passing over so many that the environment would have started next."""
    for _ in range(passed_over):
        env.reset()
    observation, info = env.reset(seed=seed, options=options)
    return observation, 0.0, False, False, info, None


def call(env: Env, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a method of the environment or its wrappers, or return an attribute."""
    found = env.get_wrapper_attr(name)
    return found(*args, **kwargs) if callable(found) else found


def set_attr(env: Env, name: str, value: Any) -> None:
    """Set an attribute of the environment or its wrappers."""
    env.set_wrapper_attr(name, value)


def refuse(env: Env, message: str) -> None:
    """Fail, in place of a command that killed or blocked its process and cannot be replaced."""
    raise RuntimeError(message)


class InProcess:
    """Environments in this process; the other place for them is a `Supervisor`."""

    def __init__(self, envs: list[Env]) -> None:
        self.envs = envs

    def run(self, commands: Iterable[tuple[int, Command]]) -> tuple[dict[int, Any], BaseException | None]:
        """Run every command, also after one has failed; returns the results by position and the first failure."""
        results: dict[int, Any] = {}
        failure: BaseException | None = None
        for position, (function, *arguments) in commands:
            try:
                results[position] = function(self.envs[position], *arguments)
            except Exception as error:
                failure = error if failure is None else failure
        return results, failure

    def close(self, patience: float) -> None:
        """Close the environments, however long it takes."""
        for env in self.envs:
            env.close()


def main(connection: Connection, lifeline: int, setup: bytes) -> None:
    """Run a slice of environments for a parent until it hangs up.

    The first reply is the list of their states. Every message is a list of `(position, command)`, and each command
    is answered by itself, so that the parent knows which one did not return.

    Args:
        connection: To the parent.
        lifeline: The reading end of a pipe that the parent holds open for as long as it lives.
        setup: Pickled `(kwargs, [(settings, state), ...])`: the pickled arguments of all environments and, for
            each, the `set_attr` commands to repeat and the state to continue from, None for a new one.
    """
    for descriptor in (connection.fileno(), lifeline):
        # A program that a tool starts must not hold them open when this process has ended.
        os.set_inheritable(descriptor, False)
    _die_with_parent(lifeline)
    envs: list[Env] = []
    try:
        connection.send_bytes(_encode(_attempt(lambda: _build(envs, setup))))
        while True:
            for position, (function, *arguments) in pickle.loads(connection.recv_bytes()):
                env = envs[position]
                reply = _attempt(lambda: function(env, *arguments))  # noqa: B023  (called at once)
                try:
                    reply = (*reply[:2], cast(MentorToolEnv, env.unwrapped).get_state())
                except Exception as error:
                    # Without a state the environment cannot be continued elsewhere, which is what workers promise.
                    reply = _failure(error) if reply[0] else reply
                connection.send_bytes(_encode(reply))
    except (EOFError, OSError):
        # The parent closed its end, or lost it.
        pass
    finally:
        for env in envs:
            env.close()


def _build(envs: list[Env], setup: bytes) -> list[bytes]:
    kwargs, slots = pickle.loads(setup)
    for settings, state in slots:
        env = make(pickle.loads(kwargs))
        envs.append(env)
        for function, *arguments in settings:
            function(env, *arguments)
        if state is not None:
            cast(MentorToolEnv, env.unwrapped).set_state(state)
    return [cast(MentorToolEnv, env.unwrapped).get_state() for env in envs]


def _attempt(work: Callable[[], Any]) -> Reply:
    try:
        return True, work(), None
    except BaseException as error:
        # Whatever would have ended the program without workers ends it with them: the parent raises it.
        return _failure(error)


def _failure(error: BaseException) -> Reply:
    text = "".join(traceback.format_exception(error))
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"It was raised in a worker process:\n{text}")
    return False, error, None


def _encode(reply: Reply) -> bytes:
    try:
        return pickle.dumps(reply, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:
        pass
    try:
        # Writes out the classes of the parent's `__main__`, which pickle does not find here.
        data: bytes = cloudpickle.dumps(reply)
    except Exception as error:
        data = pickle.dumps(_failure(TypeError(f"the result cannot be sent to the parent process: {error}")))
    return data


def _die_with_parent(lifeline: int) -> None:
    """Have the kernel end this process when its parent is gone, even in the middle of a computation in C."""
    import fcntl  # not on Windows, where a vector without workers uses this module too

    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline, 0)
    if poll.poll(0):
        raise SystemExit
