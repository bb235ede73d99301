"""Arrivals with memory: Markovian arrival processes (MAP), among them Poisson, MMPP and phase-type renewals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.errors import InputError
from recqueue.queueing.laws import PhaseType
from recqueue.queueing.service_law import service_law

Array = NDArray[np.float64]


def stationary(generator: Array) -> Array:
    """Stationary probabilities of a continuous-time Markov chain."""
    n = len(generator)
    system = np.vstack((generator.T, np.ones(n)))
    found = np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)[0]
    return np.asarray(found / found.sum(), dtype=float)


@dataclass(frozen=True, eq=False)
class MAP:
    """Markovian arrival process: ``hidden`` (D0) moves without an arrival, ``marked`` (D1) moves with one.

    Attributes
    ----------
    hidden, marked : numpy.ndarray
        Rates per second, shape (phases, phases); their sum is a generator.
    """

    hidden: Array
    marked: Array

    def __post_init__(self) -> None:
        d0, d1 = self.hidden, self.marked
        if d0.ndim != 2 or d0.shape[0] != d0.shape[1] or d1.shape != d0.shape:
            raise InputError("MAP: D0 and D1 must be square and of one size")
        if np.any(d1 < 0) or np.any(d0 - np.diag(np.diag(d0)) < 0) or not np.any(d1 > 0):
            raise InputError("MAP: rates must be 0 or more outside the diagonal of D0, and some arrival possible")
        if np.max(np.abs((d0 + d1).sum(axis=1))) > 1e-9 * np.abs(d0).max():
            raise InputError("MAP: rows of D0 + D1 must add up to 0")

    @staticmethod
    def poisson(rate: float) -> MAP:
        """Exponential gaps."""
        return MAP(np.array([[-float(rate)]]), np.array([[float(rate)]]))

    @staticmethod
    def mmpp(rates: ArrayLike, switching: ArrayLike) -> MAP:
        """Poisson arrivals whose rate is ``rates[i]`` in state i of a chain with generator ``switching``."""
        d1 = np.diag(np.asarray(rates, dtype=float))
        q = np.asarray(switching, dtype=float)
        if q.shape != d1.shape:
            raise InputError(f"MMPP: {len(d1)} rates need a generator of that size, not {q.shape}")
        return MAP(q - d1, d1)

    @staticmethod
    def renewal(gap: object) -> MAP:
        """Independent phase-type gaps, given as ``(alpha, T)``."""
        law = service_law(gap)
        if not isinstance(law, PhaseType) or abs(law.alpha.sum() - 1) > 1e-9:
            raise InputError("MAP: a renewal process needs a phase-type gap (alpha, T) without an atom at 0")
        return MAP(law.matrix, np.outer(-law.matrix.sum(axis=1), law.alpha))

    @cached_property
    def phases(self) -> Array:
        """Stationary probabilities of the phases at any time."""
        return stationary(self.hidden + self.marked)

    @property
    def rate(self) -> float:
        """Arrivals per second."""
        return float(self.phases @ self.marked.sum(axis=1))

    @property
    def gap_scv(self) -> float:
        """Squared coefficient of variation of the gaps; says nothing of their correlation."""
        after = self.phases @ self.marked / self.rate
        once = np.linalg.solve(-self.hidden, np.ones(len(after)))
        return float(2 * after @ np.linalg.solve(-self.hidden, once) / (after @ once) ** 2 - 1)

    def scaled_to(self, rate: float) -> MAP:
        """The same process run faster or slower, so that it brings ``rate`` arrivals per second."""
        factor = rate / self.rate
        return MAP(self.hidden * factor, self.marked * factor)
