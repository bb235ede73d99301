"""Clocks, repetitions, a time budget and pins to cores."""

from __future__ import annotations

import ctypes
import multiprocessing as mp
import os
from collections.abc import Callable
from time import monotonic, perf_counter, thread_time
from typing import Any

import numpy as np

FORK = mp.get_context("fork")  # children share the tables' pages: allocated once, never written again


def keep_freed_memory() -> bool:
    """Have glibc reuse freed tensors instead of returning their pages, as serving processes arrange.

    Otherwise whether a batch pays for fresh pages depends on what ran before it, and times at one size jump by half.
    Blocks above 32 MiB are still mapped anew. False where the C library has no such switch.
    """
    trim, mmap = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(mmap, 1 << 25) and mallopt(trim, (1 << 31) - 1))


class Budget:
    """Seconds shared over things to do: each gets an equal part of what is left."""

    def __init__(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self.clock, self.end = clock, clock() + seconds

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.end - self.clock()

    def part(self, of: int) -> Budget:
        """Return the budget of the next of ``of`` things."""
        return Budget(self.left / of, self.clock)


def repeat(run: Callable[[int], Any], *, reps: int, extra_s: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Time ``run(turn)`` at least ``reps`` times after a warm-up, and up to ten times that within ``extra_s``.

    Returns
    -------
    tuple of numpy.ndarray
        Wall and CPU seconds of each repetition.
    """
    for turn in range(max(2, reps // 6)):
        run(turn)
    wall: list[float] = []
    cpu: list[float] = []
    start = monotonic()
    while len(wall) < reps or (len(wall) < 10 * reps and monotonic() - start < extra_s):
        w0, c0 = perf_counter(), thread_time()
        run(len(wall) + reps)
        c1, w1 = thread_time(), perf_counter()
        wall.append(w1 - w0)
        cpu.append(c1 - c0)
    return np.array(wall), np.array(cpu)


def summary(wall: np.ndarray, cpu: np.ndarray | None = None) -> dict[str, float]:
    """Columns of a row from its repetitions."""
    columns = {
        "reps": len(wall),
        "median_s": float(np.median(wall)),
        "mean_s": float(wall.mean()),
        "cv": float(wall.std() / wall.mean()) if wall.mean() > 0 else 0.0,
        "p95_s": float(np.quantile(wall, 0.95)),
    }
    if cpu is not None and cpu.mean() > 0:
        columns |= {
            "cpu_median_s": float(np.median(cpu)),
            "cpu_mean_s": float(cpu.mean()),
            "cpu_cv": float(cpu.std() / cpu.mean()),
        }
    return columns


CORES = tuple(sorted(os.sched_getaffinity(0)))
"""Cores that may be used, as they were before any process pinned itself (children inherit a pin)."""


def pin(worker: int) -> None:
    """Keep this process on a core of its own, where there are enough cores for that to help."""
    if len(CORES) >= 4:
        os.sched_setaffinity(0, {CORES[worker % len(CORES)]})
