"""The log of a training run: `metrics.jsonl`, TensorBoard, a progress bar; and the wish to stop it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from agents.checkpoint import replace_file


class Log:
    """`metrics.jsonl` (one JSON object a step), TensorBoard events and the progress bar of a run.

    Args:
        output: The folder of the run.
        name: What the bar is called.
        steps: Steps of the whole run.
        done: The step that a resumed run goes on after; lines of later ones are taken out, as they are done again.
        progress: Whether to show a bar.
    """

    def __init__(self, output: Path, name: str, steps: int, done: int = 0, progress: bool = True) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._stack = contextlib.ExitStack()
        path = output / "metrics.jsonl"
        if path.exists():
            lines = path.read_text(errors="replace").splitlines(keepends=True)
            replace_file(path, "".join(line for line in lines if _step_of(line) <= done))
        self._file = self._stack.enter_context(path.open("a"))
        self._writer: Any = self._stack.enter_context(SummaryWriter(str(output), purge_step=done + 1))
        self._bar: Any = None
        if progress:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
            )
            self._bar = self._stack.enter_context(bar)
            self._task = bar.add_task(name, total=steps, completed=done, figures="")

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def write(self, record: dict[str, Any]) -> None:
        """Log one step; its line is on the disk when this returns."""
        # JSON has no NaN: a loss that was not finite is logged as null.
        finite = {
            key: value if not isinstance(value, float) or np.isfinite(value) else None
            for key, value in record.items()
        }
        self._file.write(json.dumps(finite) + "\n")
        self._file.flush()
        # A checkpoint of this step must not outlive its line.
        os.fsync(self._file.fileno())
        for key, value in finite.items():
            if key != "step" and value is not None:
                self._writer.add_scalar(key, value, record["step"])
        if self._bar is not None:
            shown = {"reward": "reward", "success": "success", "tool_f1": "tool F1"}
            figures = "  ".join(f"{label} {record[key]:.2f}" for key, label in shown.items() if key in record)
            figures += f"  {record['tokens_per_s']:,.0f} tokens/s"
            self._bar.update(self._task, completed=record["step"], figures=figures)

    def note(self, text: str) -> None:
        """Show a line above the bar; without one, on stderr."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        # A line that a crash cut short.
        return float("inf")


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal; the message says what was saved.

    Attributes:
        exit_code: What a process that ends because of that signal returns.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class StopSignals:
    """Notes Ctrl-C and SIGTERM, so that a loop can end after a whole step; the second one stops it at once.

    Outside the main thread, which alone gets signals, nothing is changed.

    Attributes:
        received: The number of the signal; 0 while there was none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # A shell's background job ignores Ctrl-C, which is meant for the job in front.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise Interrupted("stopped at once", number)
        self.received = number
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this step; once more stops at once\n")
