"""Cores whose speed drifts: a response for each speed, put off by what other speeds left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from recqueue.errors import UnstableQueueError
from recqueue.profiles.drift import Drift
from recqueue.queueing.forkjoin import Response
from recqueue.queueing.modulated import modulated_workload, put_off

MOST_LOADED = 0.95
"""Utilization up to which a queue of one speed is solved by itself; a slower speed starts from that one."""


def drifting(at: Callable[[float, float], Response], drift: Drift, utilization: float) -> list[tuple[float, Response]]:
    """Responses at each speed of the cores with their probabilities.

    At each speed the queue is solved as if it stayed (as far as it is stable), and its waits are then moved by what
    :func:`recqueue.queueing.modulated.put_off` says of the other speeds: a backlog from slower times, or a queue that
    did not have the time to grow.

    Parameters
    ----------
    at : callable
        Response where all services, and where the query's own services, are longer by these two factors.
    drift : Drift
        Speeds.
    utilization : float
        Of the cores, at factor 1.

    Raises
    ------
    UnstableQueueError
        When the utilization is 1 or more.
    """
    if utilization >= 1:
        raise UnstableQueueError(f"cores whose speed drifts: utilization {utilization:.4g} at the mean speed")
    factor, count = np.unique(drift.factor, return_counts=True)
    probability, solved = count / count.sum(), np.minimum(factor, MOST_LOADED / utilization)
    alone = [at(float(s), float(f)) for s, f in zip(solved, factor, strict=True)]
    waits = [r.times_s + r.later_s for r in alone]
    tails = [1 - r.start_cdf[0] for r in alone]
    given = [_mean_if_any(w, t) or r.queries.full_s / r.servers for w, t, r in zip(waits, tails, alone, strict=True)]
    decay = 1 / np.array(given)
    variance = 2 * (1 - utilization * solved) / decay * (factor / solved) ** 2
    law = modulated_workload(probability, utilization * factor, variance, drift.lasting_s)
    return [
        (float(p), replace(r, later_s=r.later_s + put_off(w, t, law, i, float(decay[i]))))
        for i, (p, r, w, t) in enumerate(zip(probability, alone, waits, tails, strict=True))
    ]


def _mean_if_any(wait_s: np.ndarray, tail: np.ndarray) -> float:
    """Mean wait of those who wait; 0 when nobody does."""
    return float(np.trapezoid(tail, wait_s) / tail[0]) if tail[0] > 1e-12 else 0.0
