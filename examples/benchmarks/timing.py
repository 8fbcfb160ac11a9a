"""Timing side by side: every candidate in turn, many times, so that a busy machine slows all alike."""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def interleave(
    candidates: Mapping[str, Callable[[], Any]],
    repeats: int = 15,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds that each call took, ``repeats`` numbers a candidate; one round before them is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    gc.collect()
    gc.disable()  # as timeit does: a collection would be charged to whoever is running
    try:
        for round_ in range(-1, repeats):
            for name, call in candidates.items():
                start = clock()
                call()
                if round_ >= 0:
                    seconds[name].append(clock() - start)
    finally:
        gc.enable()
    return seconds


def ratio(slow: list[float], fast: list[float]) -> float:
    """How many times longer: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def machine() -> str:
    """What the figures were measured on, one line."""
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {platform.machine()}"
    )
