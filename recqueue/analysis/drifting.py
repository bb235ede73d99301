"""Cores whose speed drifts: a response for each speed, put off by what other speeds left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from recqueue.errors import UnstableQueueError
from recqueue.profiles.drift import Drift
from recqueue.queueing.forkjoin import Response
from recqueue.queueing.modulated import backlog, modulated_workload, put_off

MOST_LOADED = 0.98
"""Utilization up to which a queue of one speed is solved by itself; a slower speed starts from that one."""
_IDLE_LEVELS = 1 - np.geomspace(1, 1e-4, 33)
"""Shares of those who need not wait, denser towards the ones that nearly do."""


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
    alone = [_with_idle_levels(at(float(s), float(f))) for s, f in zip(solved, factor, strict=True)]
    waits = [r.times_s + r.later_s for r in alone]
    tails = [1 - r.start_cdf[0] for r in alone]
    given = [_mean_if_any(w, t) or r.queries.full_s / r.servers for w, t, r in zip(waits, tails, alone, strict=True)]
    decay = 1 / np.array(given)
    variance = 2 * (1 - utilization * solved) / decay * (factor / solved) ** 2
    states = probability, utilization * factor, variance, drift.lasting_s
    law, left = modulated_workload(*states), backlog(*states)
    return [
        (float(p), replace(r, later_s=r.later_s + put_off(w, t, law, left, i, float(decay[i]))))
        for i, (p, r, w, t) in enumerate(zip(probability, alone, waits, tails, strict=True))
    ]


def _with_idle_levels(r: Response) -> Response:
    """The same with several levels among those who need not wait, who may be put off too."""
    none = float(r.start_cdf[0, 0])
    levels = none * _IDLE_LEVELS
    cdf = np.minimum(levels, r.start_cdf[:, :1])
    before = np.zeros(len(levels))
    return replace(
        r,
        times_s=np.concatenate((before, r.times_s)),
        start_cdf=np.concatenate((cdf, r.start_cdf), axis=1),
        later_s=np.concatenate((before, r.later_s)),
    )


def _mean_if_any(wait_s: np.ndarray, tail: np.ndarray) -> float:
    """Mean wait of those who wait; 0 when nobody does."""
    some = float(tail[np.searchsorted(wait_s, 0.0, side="right") - 1])
    return float(np.trapezoid(tail, wait_s) / some) if some > 1e-12 else 0.0
