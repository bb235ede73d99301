"""Interleaved timing, so that a noisy machine disturbs an operation and its reference alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Case:
    """One operation and what it is compared with.

    Parameters
    ----------
    name : str
        What is timed.
    run : callable
        The operation, without arguments.
    reference_name : str
        What it is compared with.
    reference : callable
        The reference, without arguments.
    repeats : int
        Timed runs of each; one more before them warms up.
    limit_s : float or None
        The most seconds that the operation may take, where one was promised.
    """

    name: str
    run: Callable[[], object]
    reference_name: str
    reference: Callable[[], object]
    repeats: int = 5
    limit_s: float | None = None


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(case: Case) -> dict[str, object]:
    """Median seconds of the operation and of its reference, taken in turns, and the ratio of the two."""
    case.run(), case.reference()
    own, other = zip(*((seconds(case.run), seconds(case.reference)) for _ in range(case.repeats)), strict=True)
    median, reference = statistics.median(own), statistics.median(other)
    return {
        "name": case.name,
        "median_s": median,
        "fastest_s": min(own),
        "slowest_s": max(own),
        "reference": case.reference_name,
        "reference_s": reference,
        "ratio": median / reference,
        "limit_s": case.limit_s,
        "within_limit": None if case.limit_s is None else median <= case.limit_s,
    }
