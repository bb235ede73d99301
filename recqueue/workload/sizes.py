"""How many items a query has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError

MAX_ITEMS = 4096
"""Largest query that the analysis is checked for."""


@dataclass(frozen=True, eq=False)
class QuerySizes:
    """Distribution of the items in a query: a probability for each of 1..n.

    Parameters
    ----------
    pmf : numpy.ndarray
        ``pmf[j]`` is the probability of ``j`` items; ``pmf[0] == 0``, the last entry is positive, the sum is 1.
    name : str
        For reports.
    """

    pmf: NDArray[np.float64]
    name: str = "sizes"

    def __post_init__(self) -> None:
        p = np.array(self.pmf, dtype=float)
        if p.ndim != 1 or len(p) < 2 or not np.all(np.isfinite(p)) or p.min() < 0 or p[0] != 0:
            raise InputError(f"sizes {self.name}: probabilities must be finite, 0 or more, and none for 0 items")
        if abs(p.sum() - 1) > 1e-9:
            raise InputError(f"sizes {self.name}: probabilities add up to {p.sum():.6g}; they must add up to 1")
        p = p[: np.flatnonzero(p)[-1] + 1]
        if len(p) - 1 > MAX_ITEMS:
            raise InputError(f"sizes {self.name}: largest query {len(p) - 1} items; at most {MAX_ITEMS} are supported")
        p /= p.sum()
        p.setflags(write=False)
        object.__setattr__(self, "pmf", p)

    @property
    def max_items(self) -> int:
        """Items in the largest query."""
        return len(self.pmf) - 1

    @property
    def mean(self) -> float:
        """Mean items in a query."""
        return float(np.arange(len(self.pmf)) @ self.pmf)

    @property
    def scv(self) -> float:
        """Squared coefficient of variation of the items in a query."""
        return float(np.arange(len(self.pmf)) ** 2 @ self.pmf) / self.mean**2 - 1

    @property
    def share_of_largest_quarter(self) -> float:
        """Share of all items that arrive in the largest 25 % of queries."""
        tail = np.cumsum(self.pmf[::-1])
        taken = np.clip(0.25 - (tail - self.pmf[::-1]), 0, self.pmf[::-1])
        return float(taken @ np.arange(len(self.pmf))[::-1]) / self.mean


def items_together(pmf: NDArray[np.float64], queries: int) -> NDArray[np.float64]:
    """Probability of 0, 1, ... items in ``queries`` independent queries together (``pmf`` of one need not add up to 1).

    Examples
    --------
    >>> from recqueue.workload.sizes import items_together
    >>> items_together([0, 0.5, 0.5], 2).round(12).tolist()
    [0.0, 0.0, 0.25, 0.5, 0.25]
    """
    one = np.asarray(pmf, dtype=float)
    length = queries * (len(one) - 1) + 1
    size = 1 << (length - 1).bit_length()
    together = np.fft.irfft(np.fft.rfft(one / one.sum(), max(size, 2)) ** queries, max(size, 2))[:length]
    return np.asarray(np.maximum(together, 0.0))
