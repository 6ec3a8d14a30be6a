"""Worker processes for a vector of environments: they run in parallel, and one that dies or hangs is replaced.

After every command a worker sends back the environment's state with the result. When its process is lost, a new
one continues all its environments from there; only the one that was being played loses its episode. Processes are
started anew, not forked, and do not import the user's script: no `if __name__ == "__main__"` is needed.

Left out: what is done in an environment (`mentor_gym.worker`), and autoreset and batches (`mentor_gym.vector`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from mentor_gym import worker
from mentor_gym.protocol import MAX_ACTION_CHARS
from mentor_gym.state import unpack
from mentor_gym.worker import Command

logger = logging.getLogger(__name__)

# Python, this package and the suite's data must be read first, on a busy machine too.
_START_TIMEOUT_S = 120.0
# One environment's command that loses its process this often in a row is given up.
_MAX_LOSSES = 3
_SHOWN_CHARS = 80
# The path comes before anything of this package is imported; -P keeps the working directory out of it until then.
_COMMAND = ("-u", "-P", "-c")
_PROGRAM = """
import pickle, sys
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
sys.path[:], setup = pickle.loads(connection.recv_bytes()), connection.recv_bytes()
from mentor_gym.worker import main
main(connection, int(sys.argv[2]), setup)
"""


class WorkerError(RuntimeError):
    """Worker processes were lost too often to go on; says which environment was played, and how."""


class _LostError(Exception):
    """A process died or did not answer in time; says how."""


class _Process:
    """One worker process: the positions of its environments, its connection, and what it has yet to answer."""

    def __init__(self, positions: range, folder: str) -> None:
        self.positions = positions
        self.due: deque[tuple[int, Command]] = deque()
        self.losses = 0
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_started(self) -> bool:
        return self._process is not None

    def start(self, setup: bytes, patience: float) -> None:
        """Start the process; it builds its environments while this returns, and answers when it has."""
        with contextlib.ExitStack() as opened:
            mine, its = (opened.enter_context(end) for end in socket.socketpair())
            reading, lifeline = os.pipe()
            opened.callback(os.close, reading)
            for end in (mine, its):
                # Whatever `socket.setdefaulttimeout` says.
                end.setblocking(True)
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                # A process that is stopped in the middle of a message would block the parent for ever.
                mine.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(patience) + 1, 0))
            try:
                # A session of its own: Ctrl-C in a terminal goes to the parent alone.
                self._process = subprocess.Popen(
                    [sys.executable, *_COMMAND, _PROGRAM, str(its.fileno()), str(reading)],
                    stdin=subprocess.DEVNULL,
                    cwd=self._folder,
                    pass_fds=(its.fileno(), reading),
                    start_new_session=True,
                )
            except BaseException:
                os.close(lifeline)
                raise
            self._lifeline = lifeline
            self._connection = Connection(mine.detach())
        self._poll = select.poll()
        self._poll.register(self._connection.fileno(), select.POLLIN)
        self.send(pickle.dumps(sys.path))
        self.send(setup)

    def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            _LostError: Nobody reads it.
        """
        try:
            self._connection.send_bytes(message)
        except OSError as error:
            raise _LostError(self._kill()) from error
        self._since = time.monotonic()

    def receive(self, timeout: float) -> worker.Reply:
        """Wait for a reply, for `timeout` seconds after the last one or after the message that it answers.

        Raises:
            _LostError: There is none.
        """
        wait = max(0.0, self._since + timeout - time.monotonic())
        if not self._poll.poll(wait * 1e3):
            self._kill()
            raise _LostError(f"did not answer within {timeout:g} s")
        try:
            message = self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise _LostError(self._kill()) from error
        self._since = time.monotonic()
        reply: worker.Reply = pickle.loads(message)
        return reply

    def hang_up(self) -> None:
        """Have the process close its environments and end; `stop` waits for it."""
        if self._process is not None:
            self._connection.close()

    def stop(self, deadline: float = 0.0) -> None:
        """Wait for the process to end until the deadline, a time of the monotonic clock, and then kill it."""
        if self._process is None:
            return
        self._connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        if self._process.returncode is None:
            self._kill()
        os.close(self._lifeline)
        self._process = None

    def _kill(self) -> str:
        """Kill the process if it still runs, with all that its tools have started; returns how it ended."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        return f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"


class Supervisor:
    """Environments in worker processes, in slices of neighbours.

    Args:
        num_envs: How many environments.
        num_workers: How many processes, at most one per environment.
        kwargs: Arguments of `gym.make("MentorTool-v0", ...)`; what `__main__` defines may be among them.
        step_timeout: Seconds that one command of one environment may take.
        max_restarts: How many processes may be replaced in all.

    Raises:
        ValueError: The arguments cannot be sent to another process.
        WorkerError: A process does not start.

    Attributes:
        restarts: How many processes were replaced so far.
    """

    def __init__(
        self, num_envs: int, num_workers: int, kwargs: Mapping[str, Any], step_timeout: float, max_restarts: int
    ) -> None:
        self.restarts = 0
        self._timeout = step_timeout
        self._max_restarts = max_restarts
        self._owner = os.getpid()
        try:
            self._kwargs = cloudpickle.dumps(dict(kwargs))
        except Exception as error:
            raise ValueError(f"the arguments cannot be sent to worker processes: {error}") from error
        self._states: list[bytes | None] = [None] * num_envs
        self._settings: list[dict[str, Command]] = [{} for _ in range(num_envs)]
        bounds = [num_envs * i // num_workers for i in range(num_workers + 1)]
        folder = os.getcwd()
        self._processes = [_Process(range(a, b), folder) for a, b in pairwise(bounds)]
        self._finalizer = weakref.finalize(self, _stop, self._processes, 2.0)
        try:
            self._start(self._processes)
        except BaseException:
            self.close(0.0)
            raise

    def run(self, commands: Iterable[tuple[int, Command]]) -> tuple[dict[int, Any], BaseException | None]:
        """Run commands, those of different processes in parallel, until each is answered.

        Args:
            commands: Position of the environment and command, in the order of positions.

        Returns:
            The results by position, without those of commands that failed, and the first failure.

        Raises:
            WorkerError: Processes were lost too often; all are stopped.
        """
        if os.getpid() != self._owner:
            raise RuntimeError("this vector environment belongs to another process; make one in this process")
        found: dict[int, Any] = {}
        error: BaseException | None = None
        try:
            self._start(process for process in self._processes if not process.is_started)
            by_position = dict(commands)
            for process in self._processes:
                process.due.extend((i, _plain(by_position[i])) for i in process.positions if i in by_position)
                process.losses = 0
                if process.due:
                    self._send(process)
            for process in self._processes:
                while process.due:
                    try:
                        succeeded, result, state = process.receive(self._timeout)
                    except _LostError as lost:
                        self._replace(process, str(lost))
                        continue
                    position, command = process.due.popleft()
                    process.losses = 0
                    if state is not None:
                        self._states[position] = state
                    if succeeded:
                        found[position] = result
                        if command[0] is worker.set_attr:
                            self._settings[position][command[1]] = command
                    elif error is None:
                        error = result
        except WorkerError:
            self.close(0.0)
            raise
        except BaseException:
            # Ctrl-C, for example: later answers of a busy process would be taken for those of the next command.
            for process in self._processes:
                if process.due:
                    process.stop()
                    process.due.clear()
            raise
        return found, error

    def close(self, patience: float) -> None:
        """Stop all processes; one that needs more than `patience` seconds to close its environments is killed."""
        _stop(self._processes, patience)
        self._finalizer.detach()

    def _start(self, processes: Iterable[_Process]) -> None:
        """Start processes, all at the same time, and wait until their environments are as they were."""
        started = list(processes)
        try:
            for process in started:
                slots = [(list(self._settings[i].values()), self._states[i]) for i in process.positions]
                process.start(cloudpickle.dumps((self._kwargs, slots)), max(self._timeout, _START_TIMEOUT_S))
            for process in started:
                succeeded, result, _ = process.receive(_START_TIMEOUT_S)
                if not succeeded:
                    raise WorkerError(f"a worker process cannot make its environments: {result}") from result
                for position, state in zip(process.positions, result):
                    self._states[position] = state
        except BaseException as error:
            for process in started:
                # One that is still starting would answer when it is asked something else.
                process.stop()
            if isinstance(error, _LostError):
                raise WorkerError(f"a worker process {error} while it was starting") from error
            raise

    def _send(self, process: _Process) -> None:
        """Send a process what it has to do. One that ended while it had nothing to do is replaced first."""
        steps = (worker.step, worker.step_crashed)
        # Arguments of calls may be of classes that only `__main__` knows.
        dumps = pickle.dumps if all(command[0] in steps for _, command in process.due) else cloudpickle.dumps
        first = process.positions.start
        message = dumps([(position - first, command) for position, command in process.due])
        while True:
            try:
                process.send(message)
                return
            except _LostError as lost:
                self._restart(process, f"a worker process {lost} between two commands")

    def _replace(self, process: _Process, how: str) -> None:
        """Continue after a process was lost: the environment that was being played loses its episode."""
        position, command = process.due[0]
        what = f"the process of environment {position} {how} in {self._describe(position, command)}"
        process.losses += 1
        if process.losses == _MAX_LOSSES:
            raise WorkerError(f"{what}, {_MAX_LOSSES} times in a row")
        self._restart(process, what)
        if command[0] is worker.step:
            command = (worker.step_crashed, *command[1:])
        elif command[0] in (worker.call, worker.set_attr):
            command = (worker.refuse, f"{what}; it was replaced")
        process.due[0] = (position, command)
        self._send(process)

    def _restart(self, process: _Process, what: str) -> None:
        process.stop()
        if self.restarts == self._max_restarts:
            raise WorkerError(f"{what}; no restart is left of max_restarts={self._max_restarts}")
        self.restarts += 1
        logger.warning("%s: restart %d of at most %d", what, self.restarts, self._max_restarts)
        self._start([process])

    def _describe(self, position: int, command: Command) -> str:
        function, *arguments = command
        if function not in (worker.step, worker.step_crashed):
            return f"{function.__name__}{tuple(arguments)!r}"[:_SHOWN_CHARS]
        state = self._states[position]
        task = unpack(state).task if state else None
        action = arguments[0] and arguments[0][:_SHOWN_CHARS]
        return f"step, task {task.id if task else None!r}, action {action!r}"


def _plain(command: Command) -> Command:
    """Make an action plain text: a worker need not know its class, nor read more of it than is played."""
    if command[0] is not worker.step:
        return command
    action = command[1]
    return (worker.step, str(action[:MAX_ACTION_CHARS]) if isinstance(action, str) else None, *command[2:])


def _stop(processes: list[_Process], patience: float) -> None:
    # In a fork of the process that started them this closes only the fork's own descriptors: what is not a child
    # counts as ended.
    deadline = time.monotonic() + patience
    for process in processes:
        process.hang_up()
    for process in processes:
        # A process that has not answered yet has no time to close anything.
        process.stop(0.0 if process.due else deadline)
