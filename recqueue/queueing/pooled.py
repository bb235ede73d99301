"""All servers pooled into one fast one: M/G/1 with the work of a whole arrival, and what its shape does to a wait."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_POINTS = 1024
"""Grid points of the wait; the mean wait is some fifty steps, so that steps cost about a thousandth of it."""


@dataclass(frozen=True, eq=False)
class Work:
    """Work of an arrival: ``work_s[i]`` server-seconds with ``probability[i]``, in any order.

    Attributes
    ----------
    probability, work_s : numpy.ndarray
        Shape (kinds,); probabilities add up to 1, works are above 0 or have probability 0.
    """

    probability: NDArray[np.float64]
    work_s: NDArray[np.float64]

    @property
    def mean_s(self) -> float:
        """Server-seconds."""
        return float(self.probability @ self.work_s)

    @property
    def residual_mean_s(self) -> float:
        """Mean of what is left of the work in progress, :math:`E V^2 / 2 E V`."""
        return float(self.probability @ self.work_s**2) / 2 / self.mean_s

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        order = np.argsort(self.work_s)
        v, p = self.work_s[order], self.probability[order]
        done = np.concatenate(([0.0], np.cumsum(p * v)))
        left = np.concatenate((np.cumsum(p[::-1])[::-1], [0.0]))
        return v, done, left

    def residual_cdf(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        r"""Law of the work that is left when an outsider looks, :math:`E \min(V, t) / E V`, in the shape of ``t``."""
        v, done, left = self._sorted
        i = np.searchsorted(v, t, side="right")
        return np.asarray(np.minimum((done[i] + t * left[i]) / done[-1], 1.0))

    def busy_wait(self, utilization: float, tail: NDArray[np.float64]) -> NDArray[np.float64]:
        r"""Quantiles of the wait in M/G/1 given that there is one, :math:`t : P(W > t \mid W > 0) = tail`.

        By Pollaczek and Khinchine the wait is then a geometric number of residual works, here on a grid.

        Parameters
        ----------
        utilization : float
            Busy share of the one server, inside (0, 1).
        tail : numpy.ndarray
            Probabilities in 0..1; below about 1e-5 the answer is that of 1e-5.

        Returns
        -------
        numpy.ndarray
            Seconds of one server, in the shape of ``tail``.
        """
        reach = 14 * self.residual_mean_s / (1 - utilization) + 2 * float(self._sorted[0][-1])
        t = np.linspace(0.0, reach, _POINTS + 1)
        half = np.diff(self.residual_cdf(t)) / 2
        mass = half.copy()  # of each cell, half at either end
        mass[1:] += half[:-1]
        transform = np.fft.rfft(mass, 2 * _POINTS)
        geometric = (1 - utilization) * transform / (1 - utilization * transform)
        passed = np.cumsum(np.maximum(np.fft.irfft(geometric, 2 * _POINTS)[:_POINTS], 0.0))
        # A mass at point i stands for the cells beside it, so at i itself half of it has been passed.
        above = np.concatenate(([1.0], 1 - (passed[1:] + passed[:-1]) / 2))
        return np.interp(-tail, -np.maximum(above, 0.0), t[:-1])


def stretch(
    real: Work, solved: Work, utilization: float, tail: NDArray[np.float64], *, variance_factor: float = 1.0
) -> NDArray[np.float64]:
    r"""How much longer than in a solved system of the same load a wait is, at each level of its tail.

    .. math:: r(v) = \frac{Q_{real}(v)}{Q_{solved}(v)}, \qquad P(W > Q(v) \mid W > 0) = v

    for the pooled server. With one server the wait itself is that of the pooled one, so multiplying the solved wait by
    r is exact; near saturation k servers are as good as one that is k times as fast, so it is again, with the
    whole law of the work and not only its second moment; and where nobody waits there is nothing to stretch.

    Parameters
    ----------
    real, solved : Work
        Works of the same mean per second.
    utilization : float
        Inside (0, 1).
    tail : numpy.ndarray
        v, in 0..1.
    variance_factor : float
        Factor on the real waits, for arrivals that are not Poisson.

    Returns
    -------
    numpy.ndarray
        Factors, in the shape of ``tail``.
    """
    ours, theirs = real.busy_wait(utilization, tail), solved.busy_wait(utilization, tail)
    smallest = 1e-9 * solved.residual_mean_s
    return np.asarray(np.where(theirs > smallest, ours / np.maximum(theirs, smallest), 1.0) * variance_factor)
