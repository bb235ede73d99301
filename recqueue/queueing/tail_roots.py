"""Several percentiles of one distribution function, found together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def tail_roots(
    cdf: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    p: NDArray[np.float64],
    guess: NDArray[np.float64],
    *,
    smooth: bool,
    relative: float = 1e-6,
) -> list[float]:
    """Smallest t with ``cdf(t) >= p`` for each p, to ``relative`` of t or of the tail.

    Tails are nearly exponential, so t against the logarithm of the tail is nearly a straight line: the next points are
    that of the parabola through three known ones and one on either side of it, for a narrow bracket. All known points
    serve all p. A bracket that has not shrunk to a third is cut into twelve, and so is each where the function is not
    ``smooth``, for it may jump. Where it is, two parabolas that
    hardly differ, in a narrow bracket, are believed.
    """
    goals = np.log1p(-p) + relative  # so that what is flat at p counts as beyond it
    # Ascending times, with the logarithm of the tail.
    t, g = np.zeros(1), np.zeros(1)
    found, widths = np.full(len(p), np.nan), np.full(len(p), np.inf)
    new = np.geomspace(0.85 * guess.min(), 3.0 * guess.max(), 6 + 2 * len(p))
    for _ in range(100):
        tail = np.log(np.maximum(1.0 - cdf(new), 1e-14))
        t, g = np.concatenate((t, new)), np.concatenate((g, tail))
        order = np.argsort(t, kind="stable")
        t, g = t[order], np.minimum.accumulate(g[order])
        wanted: list[float] = []
        for i in np.flatnonzero(np.isnan(found)):
            goal = float(goals[i])
            high = int(np.searchsorted(-g, -goal))  # the first with so small a tail
            if high == len(t):
                wanted.extend(t[-1] * np.array([1.3, 1.8, 2.6, 4.0]))
                continue
            low, width = float(t[high - 1]), float(t[high] - t[high - 1])
            if width <= relative * low or goal - g[high] < relative / 2:
                found[i] = t[high]
            elif high > 1 and g[high - 1] - goal < relative / 2:
                found[i] = low
            elif not smooth or width > widths[i] / 3:
                widths[i] = np.inf
                wanted.extend(low + width * np.arange(1, 12) / 12)
                wanted.append(min(max(_inverse(t, g, high, goal)[0], low), float(t[high])))
            else:
                widths[i] = width
                one, other = _inverse(t, g, high, goal)
                if smooth and width < 2e-3 * low and 0 < abs(one - other) < relative * low:
                    found[i] = (one + other) / 2
                    continue
                share = min(max(((one + other) / 2 - low) / width, 0.01), 0.99)
                wanted.extend(
                    low + width * np.array([max(share - 0.04, share / 2), share, min(share + 0.04, (share + 1) / 2)])
                )
        if not wanted:
            break
        new = np.sort(wanted)
    return [float(x) for x in found]


def _inverse(t: NDArray[np.float64], g: NDArray[np.float64], high: int, goal: float) -> tuple[float, float]:
    """Time inside the bracket at which the tail is ``goal``, by a parabola through the neighbour below it and above it.

    The line where there is no such neighbour.
    """
    low = high - 1
    slope = (t[high] - t[low]) / (g[high] - g[low])
    line = float(t[low] + slope * (goal - g[low]))

    def bent(third: int) -> float:
        if not 0 <= third < len(t) or g[third] == g[low] or g[third] == g[high]:
            return line
        bend = ((t[third] - t[high]) / (g[third] - g[high]) - slope) / (g[third] - g[low])
        return line + float(bend * (goal - g[low]) * (goal - g[high]))

    return bent(low - 1), bent(high + 1)
