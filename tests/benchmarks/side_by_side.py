"""CPU time of things that take turns in one process, so that a busy machine disturbs them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence

import torch


def cpu_time(function: Callable[[], object]) -> float:
    """Run a function; returns the CPU seconds that this process used meanwhile."""
    gc.collect()
    start = time.process_time()
    function()
    return time.process_time() - start


def interleaved(functions: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Run functions in turn, once for nothing and then `repeats` times; returns the CPU seconds of each."""
    for function in functions:
        function()
    rounds = [[cpu_time(function) for function in functions] for _ in range(repeats)]
    return [list(column) for column in zip(*rounds)]


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios of runs that were made side by side."""
    return statistics.median(a / b for a, b in zip(numerators, denominators))


def matmul_rate(size: int = 1024, repeats: int = 7) -> float:
    """The machine's fp32 matrix product, in GFLOP a CPU second."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    times = [cpu_time(lambda: [torch.mm(a, b) for _ in range(8)]) / 8 for _ in range(repeats)]
    return 2 * size**3 / statistics.median(times) / 1e9


def verdict(name: str, value: float, least: float, aim: float) -> str:
    """Say whether a ratio is what was asked for."""
    reached = "aim reached" if value >= aim else "required" if value >= least else "MISSED"
    return f"{name}: {value:.2f} (required {least:g}, aim {aim:g}): {reached}"
