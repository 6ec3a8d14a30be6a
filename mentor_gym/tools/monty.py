"""The interpreter behind the code box: a worker of Monty, one per process that needs it, and the sessions in it.

Monty is a Python interpreter in Rust that knows no files, network, clock or other processes. Its worker is
started at the first program, never before, and ends with this process, however that ends. A forked child does not
share its parent's: it starts its own at its first program. A worker that is lost, killed or stopped is replaced,
and the program is run again.
"""

from __future__ import annotations

import atexit
import logging
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mentor_gym.fork_server import ProcessOwner
from mentor_gym.tools import monty_wire as wire
from mentor_gym.tools.monty_library import library
from mentor_gym.tools.monty_worker import FLOOD_CHARS, START_S, InterpreterLost, Stopped, Worker, WorkerLost

# What the programs of a session may compute, together: the time of the worker's process, which a busy machine
# changes little, and by which the same program is stopped everywhere.
COMPUTING_S = 0.75
MEMORY_BYTES = 64 << 20
RECURSION = 200
KEPT_CHARS = 4_000
# Names, modules, files and the like that a program asks for and does not get.
MAX_REFUSALS = 1_000
CLOCK = datetime(2026, 1, 1, tzinfo=UTC)
# Earlier programs were fast enough once. On a slower machine they may take longer, but a saved state that was made
# by hand, and never was, must not hold up others for much longer than a program.
REPLAY_S = 2.0
# A worker whose parent dies ends at once, or when the program that it runs has taken so long.
ORPHAN_S = 20.0
# So that what a worker may leak stays small.
SESSIONS_PER_WORKER = 1_000

_log = logging.getLogger(__name__)


@dataclass
class Reply:
    """What came of a program.

    Attributes:
        kind: `ok`; `error`, when it failed; `time`, `memory`, `flood` and `refusals`, when it was stopped;
            `crash`, when the worker was lost under it twice; `replay`, when an earlier one did not run as it had.
        text: What it printed, or type and message of its error.
        line: In which line of the program the error was; None when in none of it.
        printed: What it printed before an error.
    """

    kind: str
    text: str = ""
    line: int | None = None
    printed: str = ""


class Session:
    """The programs of one episode that succeeded; what an interpreter must have run before the next one.

    Attributes:
        seed: Of the interpreter's `random`.
        variables: What is defined before the first program: plain JSON values by name.
        programs: The programs, in order.
    """

    def __init__(self, seed: int = 0, variables: dict[str, Any] | None = None) -> None:
        self.seed = seed
        self.variables = variables or {}
        self.programs: list[str] = []


class Interpreter(ProcessOwner):
    r"""The worker, started at the first program, and which session is live in it.

    Only one session is live at a time; that of another is made again from its programs. That costs less than to
    save and load what they made, and is exact: the addresses that programs can print differ after a load.

    Args:
        wrap: Whether to start workers inside bubblewrap; None tries it, and goes on without, with a warning.

    >>> interpreter = Interpreter()
    >>> session = Session()
    >>> interpreter.run(session, "x = 6 * 7").kind
    'ok'
    >>> interpreter.run(session, "print(x)").text
    '42\n'
    >>> interpreter.close()
    """

    def __init__(self, wrap: bool | None = None) -> None:
        super().__init__()
        self.wrap = wrap
        self._worker: Worker | None = None
        self._live: Session | None = None
        self._began = 0.0
        self._feeds = 0
        self._loaded: set[str] = set()

    @property
    def worker(self) -> Worker | None:
        """The worker; None when none is running."""
        return self._worker

    def run(self, session: Session, code: str) -> Reply:
        """Run a program after those of its session; one that succeeds becomes part of it.

        Raises:
            InterpreterLost: No worker can be started.
        """
        with self._lock:
            reply = Reply("crash")
            for _ in range(2):
                try:
                    reply = self._attempt(session, code)
                    break
                except (WorkerLost, OSError):
                    self._stop()
                except Stopped as stopped:
                    self._stop()
                    reply = Reply(stopped.args[0])
                    break
                except BaseException:
                    # An answer that nobody waits for any more would be taken for the next one.
                    self._stop()
                    raise
            self._live = session if reply.kind == "ok" else None
            if reply.kind == "ok":
                session.programs.append(code)
            return reply

    def release(self, session: Session) -> None:
        """Free what a session that is over holds in the worker."""
        with self._lock:
            # None is live after a program that failed; what it made is still there.
            if self._live in (session, None):
                try:
                    self._reset()
                except (WorkerLost, Stopped, OSError):
                    self._stop()
                except BaseException:
                    self._stop()
                    raise

    def _attempt(self, session: Session, code: str) -> Reply:
        modules = set(library().resolve(code)[1])
        # Modules are made before the first program, so that no name that one defines is in their way.
        if self._live is not session or not modules <= self._loaded:
            reply = self._rebuild(session, modules)
            if reply is not None:
                return reply
        return self._run(code, self._began + COMPUTING_S)

    def _rebuild(self, session: Session, modules: set[str]) -> Reply | None:
        """Begin the session anew, with these modules; returns a reply when an earlier program fails now."""
        if self._worker is not None and self._worker.sessions >= SESSIONS_PER_WORKER:
            self._stop()
        worker = self._worker or self._start()
        self._reset()
        self._begin(worker, session.seed)
        self._loaded = modules.union(*(library().resolve(program)[1] for program in session.programs))
        defined = "\n".join(f"{name} = {value!r}" for name, value in session.variables.items())
        programs = [*(library().preludes[module] for module in sorted(self._loaded)), defined, *session.programs]
        try:
            for program in filter(None, programs):
                if self._run(program, self._began + REPLAY_S).kind != "ok":
                    return Reply("replay")
        except Stopped:
            raise Stopped("replay") from None
        return None

    def _begin(self, worker: Worker, seed: int) -> None:
        worker.send(wire.configure(seed, MEMORY_BYTES, RECURSION, ORPHAN_S, CLOCK))
        if worker.receive(START_S, math.inf)[0] != wire.OK:
            raise WorkerLost
        worker.is_configured = True
        worker.sessions += 1
        self._began = worker.computed()
        self._feeds = 0

    def _reset(self) -> None:
        self._live = None
        worker = self._worker
        if worker is not None and worker.is_configured:
            worker.send(wire.reset())
            if worker.receive(START_S, math.inf)[0] != wire.OK:
                raise WorkerLost
            worker.is_configured = False

    def _run(self, code: str, computing_until: float) -> Reply:
        """Run one program in the live session."""
        code = library().resolve(code)[0]
        # What the last line is worth is not wanted: to send it may cost more than the program.
        reply = self._feed(f"{code}\n\nNone", computing_until)
        if reply.line is not None and reply.line > code.count("\n") + 1:
            # What is wrong with a program that leaves something open is told without what was added.
            reply = self._feed(code, computing_until)
        return reply

    def _feed(self, code: str, computing_until: float) -> Reply:
        worker = self._worker
        assert worker is not None
        here = f"<python-input-{self._feeds}>"
        self._feeds += 1
        printed: list[str] = []
        size = refusals = 0
        worker.send(wire.feed(code))
        try:
            while True:
                # One that computes nothing is noticed long before; this is for a machine that is very busy.
                kind, body = worker.receive(ORPHAN_S, computing_until)
                if kind == wire.PRINT:
                    text = wire.read_print(body)
                    if size < KEPT_CHARS:
                        printed.append(text[: KEPT_CHARS - size])
                    size += len(text)
                    if size > FLOOD_CHARS:
                        raise Stopped("flood")
                elif kind == wire.COMPLETE:
                    if worker.computed() > computing_until:
                        return Reply("time")
                    return Reply("ok", "".join(printed))
                elif kind == wire.ERROR:
                    return _explain(wire.read_failure(body), here, "".join(printed))
                else:
                    refusal = wire.refuse(kind, body)
                    if refusal is None:
                        raise WorkerLost
                    refusals += 1
                    if refusals > MAX_REFUSALS:
                        raise Stopped("refusals")
                    worker.send(refusal)
        except wire.WireError:
            raise WorkerLost from None

    def _start(self) -> Worker:
        reason = ""
        for wrap in (True, False) if self.wrap is None else (self.wrap,):
            try:
                worker = Worker(wrap)
            except InterpreterLost as error:
                reason = str(error)
                continue
            try:
                worker.send(wire.configure(0, MEMORY_BYTES, RECURSION, ORPHAN_S, CLOCK))
                if worker.receive(START_S)[0] == wire.OK:
                    break
                reason = f"it does not speak protocol {wire.PROTOCOL} of Monty {wire.RELEASE}"
            except (WorkerLost, Stopped):
                reason = "bubblewrap does not work here" if wrap else "it does not answer"
            worker.kill()
        else:
            raise InterpreterLost(reason)
        worker.is_configured = True
        self._worker = worker
        atexit.register(self.close)
        if self.wrap is None and not wrap:
            _log.warning("the code tool's interpreter runs without bubblewrap: %s", reason)
        # What has worked once is not tried anew: nor would a wrapped worker be replaced by one that is not.
        self.wrap = wrap
        return worker

    def _stop(self) -> None:
        worker, self._worker = self._worker, None
        self._live = None
        if worker is not None:
            worker.kill()
            atexit.unregister(self.close)

    def _forget(self) -> None:
        worker, self._worker = self._worker, None
        self._live = None
        if worker is not None:
            worker.disown()


def _explain(failure: wire.Failure, here: str, printed: str) -> Reply:
    if failure.kind == "MemoryError" and "exceeded" in failure.message:
        return Reply("memory")
    if failure.kind == "TimeoutError" and "limit exceeded" in failure.message:
        return Reply("time")
    text = f"{failure.kind}: {failure.message}" if failure.message else failure.kind
    lines = [line for file, line in failure.frames if file == here]
    return Reply("error", text[:KEPT_CHARS], lines[-1] if lines else None, printed)
