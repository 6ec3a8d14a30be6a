"""Where the environments of a recording run: the thread that called it, while replies are awaited in another."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Stage:
    """Runs a coroutine in an event loop of another thread, and what that asks for in the thread of the caller.

    So tools are called as everywhere else: in the main thread, where time limits can interrupt them, one at a
    time, free to run event loops of their own; and a slow one holds up other tools, but no reply.

    >>> stage = Stage()
    >>> async def ask() -> bool:
    ...     return await stage.call(threading.current_thread) is threading.current_thread()
    >>> stage.run(ask())
    False
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in the thread that called `run`; its exceptions are raised here."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()

        def settle(result: R | None, error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def perform() -> None:
            if future.cancelled():
                return
            try:
                outcome = (function(*args, **kwargs), None)
            except Exception as error:
                outcome = (None, error)  # type: ignore[assignment]
            # The loop is closed when something else has ended the coroutine meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, *outcome)

        self._calls.put(perform)
        return await future

    def run(self, main: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine to its end and return its result.

        Ctrl-C in this thread cancels it; when that is done, `KeyboardInterrupt` goes on.
        """
        loop = asyncio.new_event_loop()
        task = loop.create_task(main)

        def work() -> None:
            try:
                # The task keeps what it raised.
                loop.run_until_complete(asyncio.wait([task]))
                loop.run_until_complete(loop.shutdown_asyncgens())
            finally:
                loop.close()
                self._calls.put(None)

        # A daemon: a second Ctrl-C, while the first one is obeyed, ends the process.
        thread = threading.Thread(target=work, name="recording", daemon=True)
        thread.start()
        try:
            while (perform := self._calls.get()) is not None:
                perform()
        except BaseException:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
            raise
        finally:
            thread.join()
        return task.result()
