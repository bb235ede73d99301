"""Erlang mixtures as counts of exponential stages: from the tail of the count, and sums of two of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recqueue.queueing.laws import ErlangMixture

Array = NDArray[np.float64]
_MOST_STAGES = 1 << 21


def from_stage_tail(above: Array, rate: float, ratio: float) -> ErlangMixture:
    """Mixture with P(stages > j) = ``above[j]``, which goes on geometrically with ``ratio`` from the last one."""
    above = np.minimum.accumulate(np.minimum(above, 1.0))
    weights = np.append(1 - above[0], -np.diff(above))
    if ratio <= 0:
        return ErlangMixture(np.append(weights, above[-1]), rate)
    # the next weights are above[-1] (1 - ratio) ratio^i, i = 0, 1, ...
    return ErlangMixture(np.append(weights, above[-1] * (1 - ratio)), rate, ratio)


def added_stages(x: ErlangMixture, y: ErlangMixture) -> ErlangMixture | None:
    """Sum of independent mixtures of one rate; None when that takes more than two million stages."""
    from scipy.signal import fftconvolve  # loads half of scipy

    parts: list[Array] = []
    for part in (x, y):
        more = int(np.ceil(37 / -np.log(part.ratio))) if part.ratio > 0 else 0
        if len(part.weights) + more > _MOST_STAGES:
            return None
        end = part.weights[-1] * part.ratio ** np.arange(1, more + 1)
        parts.append(np.concatenate((part.weights, end)))
    return ErlangMixture(np.maximum(fftconvolve(parts[0], parts[1]), 0.0), x.rate)
