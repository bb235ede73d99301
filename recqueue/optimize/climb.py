"""A good policy quickly: a coarse grid in the order of its bounds, then the neighbourhood of the best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recqueue.optimize.lattice import Lattice, Place

_GRID_RATIO = 1.3
_COARSE_THRESHOLDS = 10
_NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))
_FURTHER = tuple((a, 0) for a in (2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 7, -7, 8, -8))
"""Batch sizes a few items away: the rate is jagged there, since the remainder of a query jumps."""


def climb(grid: Lattice, bounds: NDArray[np.float64], try_policy: Callable[[Place], bool]) -> None:
    """Try a geometric grid of batch sizes and fusion limits and a spread of thresholds, best bound first; then refine.

    The neighbourhood of the best is tried in steps that are halved, down to single items and neighbouring thresholds
    and limits; at the end also batch sizes up to 8 items away.

    Parameters
    ----------
    grid : Lattice
        The policies.
    bounds : numpy.ndarray
        No score is above it; shape (batch sizes, thresholds).
    try_policy : callable
        Says whether a policy is better than the best so far, which it then is itself.
    """
    rows = _geometric(len(grid.batch_sizes))
    columns = np.unique(np.linspace(0, len(grid.thresholds) - 1, _COARSE_THRESHOLDS).round().astype(int))
    layers = _geometric(len(grid.fusions), 2.0)
    best: Place | None = None

    def attempt(i: int, j: int, f: int) -> bool:
        """The same policy with its usual batch size."""
        nonlocal best
        i = min(max(i, 0), int(grid.largest_local[j]) - 1)
        place = i, j, f if grid.thresholds[j] is not None else 0
        if not try_policy(place):
            return False
        best = place
        return True

    places = [(int(i), int(j), int(f)) for i in rows for j in columns for f in layers]
    for place in sorted(places, key=lambda c: (-bounds[c[:2]], grid.cpu_work_s[c[:2]], -c[2], c)):
        attempt(*place)
    share, reach, hop = _GRID_RATIO - 1, max(1, len(grid.thresholds) // _COARSE_THRESHOLDS), len(grid.fusions) // 4
    while best is not None:
        i, j, f = best
        by_row, by_column = max(1, round((i + 1) * share)), max(1, reach)
        last = by_row == 1 and by_column == 1 and hop <= 1
        around = [(i + a * by_row, j + b * by_column, f) for a, b in (*_NEIGHBOURS, *(_FURTHER if last else ()))]
        if len(grid.fusions) > 1:
            around += [(i, j, f + max(1, hop)), (i, j, f - max(1, hop))]
        inside = [
            (i, min(max(j, 0), len(grid.thresholds) - 1), min(max(f, 0), len(grid.fusions) - 1)) for i, j, f in around
        ]
        if sum([attempt(*place) for place in inside]) > 0:  # all of them: the first success does not end the round
            continue
        if last:
            break
        share, reach, hop = share / 2, reach // 2, hop // 2


def _geometric(count: int, ratio: float = _GRID_RATIO) -> NDArray[np.int64]:
    """Indices 0..count - 1, about geometric in the number of the place."""
    steps = np.arange(np.log(count) / np.log(ratio)) if count > 1 else np.zeros(1)
    return np.unique(np.append(np.round(ratio**steps).astype(int), count)) - 1
