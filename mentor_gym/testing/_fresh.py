"""Play recorded inputs in new processes, each with another hash seed.

The process is `python -m mentor_gym.testing._fresh`: it reads what to play from standard input and writes what was
answered to standard output.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from mentor_gym.testing._subject import Input, play

HASH_SEEDS = ("1", "2")
TIMEOUT_S = 120.0


class Unreachable(Exception):
    """The environment cannot be made in another process; the message says why."""


def play_elsewhere(
    factory: Callable[[], Any], episodes: Sequence[Sequence[Input]]
) -> dict[str, list[list[dict[str, str]]]]:
    """Play inputs in one new process per hash seed.

    Args:
        factory: Makes the environment; importable or picklable with cloudpickle.
        episodes: Lists of inputs, each for an environment of its own.

    Returns:
        For every hash seed the texts of the moments of each list.

    Raises:
        Unreachable: The environment cannot be sent there, or something was raised there.
    """
    try:
        request = cloudpickle.dumps((factory, episodes))
    except Exception as error:
        raise Unreachable(f"it cannot be pickled: {type(error).__name__}: {error}") from error
    path = os.pathsep.join(filter(None, sys.path))
    processes = {}
    for seed in HASH_SEEDS:
        processes[seed] = subprocess.Popen(
            [sys.executable, "-m", "mentor_gym.testing._fresh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
        )
    try:
        return {seed: _answer(process, request) for seed, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def _answer(process: subprocess.Popen[bytes], request: bytes) -> list[list[dict[str, str]]]:
    try:
        output, errors = process.communicate(request, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise Unreachable(f"the other process did not answer within {TIMEOUT_S:g} s") from None
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines() or ["no message"]
        raise Unreachable(f"the other process ended with {process.returncode}: {lines[-1][:300]}")
    answer: list[list[dict[str, str]]] = pickle.loads(output)
    return answer


def main() -> None:
    """Answer the one request on standard input."""
    # What an environment prints must not come between.
    answer_to = os.dup(1)
    os.dup2(2, 1)
    factory, episodes = pickle.load(sys.stdin.buffer)
    answers = []
    for inputs in episodes:
        env = factory()
        answers.append([moment.texts for moment in play(env, inputs)])
    with os.fdopen(answer_to, "wb") as stream:
        pickle.dump(answers, stream)


if __name__ == "__main__":
    main()
