"""The distribution of a waiting or response time: one object, whichever model it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recqueue.errors import InputError
from recqueue.queueing import laws, laws_combined
from recqueue.queueing.laws import Law
from recqueue.queueing.service_law import service_law

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Distribution:
    """A time of 0 or more: an atom at 0 and a law beyond, with the error of its distribution function.

    Attributes
    ----------
    law : recqueue.queueing.laws.Law
        Closed form or grid.
    error : float
        Largest numerical error of ``cdf`` at any time: grid and truncated tail, as found when it was made (step
        halved, or a bound). It does not contain the error of an approximate model.

    Examples
    --------
    >>> from scipy import stats
    >>> from recqueue.queueing.distribution import Distribution
    >>> service = Distribution.of(stats.expon(scale=2.0))
    >>> round(service.quantile(0.95), 3), service.mean, round(service.scv, 6)
    (5.991, 2.0, 1.0)
    """

    law: Law
    error: float = 1e-12

    @staticmethod
    def of(service: object) -> Distribution:
        """From any form of service law, see :func:`recqueue.queueing.service_law.service_law`."""
        return service if isinstance(service, Distribution) else Distribution(service_law(service))

    @staticmethod
    def constant(value_s: float) -> Distribution:
        """Always ``value_s`` seconds."""
        return Distribution.of(float(value_s))

    @staticmethod
    def on_grid(
        times_s: ArrayLike,
        tail: ArrayLike,
        *,
        error: float,
        decay_per_s: float = 0.0,
        moments: tuple[float, ...] = (),
    ) -> Distribution:
        """From ``tail[i] = P(X > times_s[i])``, ``times_s[0] = 0``, linear in between and exponential beyond."""
        t, values = np.asarray(times_s, dtype=float), np.asarray(tail, dtype=float)
        if t.ndim != 1 or t.shape != values.shape or len(t) < 2 or t[0] != 0 or np.any(np.diff(t) <= 0):
            raise InputError("distribution: times must ascend from 0, with one value of the tail each")
        if np.any(np.diff(values) > 1e-6) or values[0] > 1 + 1e-6 or values[-1] < -1e-6:
            raise InputError("distribution: a tail falls from at most 1 to at least 0")
        values = np.minimum.accumulate(np.clip(values, 0.0, 1.0))
        return Distribution(laws.Grid(t, values, decay_per_s, moments), error)

    def sf(self, t: ArrayLike) -> Array:
        """P(X > t), in the shape of ``t``; 1 for negative t."""
        t = np.asarray(t, dtype=float)
        return np.asarray(np.where(t < 0, 1.0, np.clip(self.law.tail(np.maximum(t, 0.0)), 0.0, 1.0)))

    def cdf(self, t: ArrayLike) -> Array:
        """P(X <= t), in the shape of ``t``; 0 for negative t."""
        return 1 - self.sf(t)

    @property
    def atom(self) -> float:
        """P(X = 0)."""
        return float(self.cdf(0.0))

    @cached_property
    def mean(self) -> float:
        """Seconds."""
        return self.moment(1)

    @property
    def variance(self) -> float:
        """Seconds squared."""
        return max(self.moment(2) - self.mean**2, 0.0)

    @property
    def scv(self) -> float:
        """Squared coefficient of variation."""
        return self.variance / self.mean**2

    def moment(self, n: int) -> float:
        """E X^n, n = 1, 2, ...; seconds to the power n."""
        return self.law.moment(n)

    def limited_mean(self, t: ArrayLike) -> Array:
        """E min(X, t) in seconds, in the shape of ``t``."""
        return self.law.limited_mean(np.asarray(t, dtype=float))

    def residual_cdf(self, t: ArrayLike) -> Array:
        r"""Law of what is left of X when an outsider looks, :math:`G_e(t) = E \min(X, t) / E X`."""
        return np.clip(self.limited_mean(np.maximum(np.asarray(t, dtype=float), 0.0)) / self.mean, 0.0, 1.0)

    def quantile(self, p: ArrayLike) -> float | Array:
        """Smallest t with P(X <= t) >= p, in the shape of ``p`` (a float for a scalar), 0 <= p < 1."""
        wanted = np.asarray(p, dtype=float)
        if np.any(~((wanted >= 0) & (wanted < 1))):
            raise InputError(f"quantile: p is {p!r}; it must lie in [0, 1)")
        left = 1 - wanted.reshape(-1)
        low, high = np.zeros(len(left)), np.full(len(left), self.law.scale_s)
        done = self.law.tail(low) <= left
        for _ in range(1100):
            short = (self.law.tail(high) > left) & ~done
            if not np.any(short):
                break
            low = np.where(short, high, low)
            high = np.where(short, 2 * high, high)
        for _ in range(70):
            if np.all(high - low <= 4e-15 * high):
                break
            mid = (low + high) / 2
            enough = self.law.tail(mid) <= left
            low, high = np.where(enough, low, mid), np.where(enough, mid, high)
        found = np.where(done, 0.0, high).reshape(wanted.shape)
        return float(found) if found.ndim == 0 else found

    def scaled(self, factor: float) -> Distribution:
        """``factor`` X, factor above 0."""
        return Distribution(laws_combined.Scaled(self.law, factor), self.error)

    def shifted(self, by_s: float) -> Distribution:
        """X + ``by_s``, by 0 s or more."""
        return Distribution(laws_combined.Shifted(self.law, by_s), self.error) if by_s else self

    def plus(self, other: Distribution) -> Distribution:
        """X + Y with Y independent of X: exact for constants and phase-types, else by convolution on a grid."""
        law, error = laws_combined.added(self.law, other.law)
        return Distribution(law, self.error + other.error + error)


def mixture(weights: ArrayLike, parts: Sequence[Distribution]) -> Distribution:
    """One of ``parts``, with probabilities ``weights`` that add up to 1: distributions are mixed, never percentiles."""
    w = np.asarray(weights, dtype=float)
    if w.shape != (len(parts),) or np.any(w < 0) or abs(w.sum() - 1) > 1e-9:
        raise InputError(f"mixture: {len(parts)} parts need as many weights of 0 or more that add up to 1")
    return Distribution(laws_combined.Mixture(w, tuple(p.law for p in parts)), float(w @ [p.error for p in parts]))


def maximum(parts: Sequence[Distribution], *, comonotone: bool = False) -> Distribution:
    """The largest of ``parts``: independent, or comonotone (driven by one uniform), as FCFS starts nearly are."""
    if not parts:
        raise InputError("maximum: no parts")
    error = max(p.error for p in parts) if comonotone else sum(p.error for p in parts)
    return Distribution(laws_combined.Maximum(tuple(p.law for p in parts), comonotone), error)
