"""Laws made from other laws: mixtures, maxima, shifts and sums."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from recqueue.errors import InputError
from recqueue.queueing.laws import Discrete, Grid, Law, PhaseType

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scaled(Law):
    """``factor`` times a law."""

    part: Law
    factor: float

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise InputError(f"scaled: factor {self.factor}; it must be above 0")

    def tail(self, t: Array) -> Array:
        """Tail of the part at ``t / factor``."""
        return self.part.tail(np.asarray(t) / self.factor)

    @property
    def scale_s(self) -> float:
        """Scaled too."""
        return self.part.scale_s * self.factor

    @property
    def breaks_s(self) -> Array:
        """Scaled too."""
        return self.part.breaks_s * self.factor

    def moment(self, n: int) -> float:
        """Exact."""
        return self.part.moment(n) * self.factor**n

    def limited_mean(self, t: Array) -> Array:
        """Exact."""
        return self.factor * self.part.limited_mean(np.asarray(t) / self.factor)

    def limited_square(self, t: Array) -> Array:
        """Exact."""
        return self.factor**2 * self.part.limited_square(np.asarray(t) / self.factor)

    def laplace(self, s: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Exact."""
        return self.part.laplace(np.asarray(s) * self.factor)


@dataclass(frozen=True, eq=False)
class Shifted(Law):
    """A law plus a constant."""

    part: Law
    by_s: float

    def __post_init__(self) -> None:
        if not self.by_s >= 0:
            raise InputError(f"shifted: {self.by_s} s; it must be 0 or more")

    def tail(self, t: Array) -> Array:
        """1 before the constant; a time a rounding error short of it counts as reached."""
        past = np.asarray(t, dtype=float) * (1 + 1e-15) - self.by_s
        return np.asarray(np.where(past < 0, 1.0, self.part.tail(np.maximum(past, 0.0))))

    @property
    def scale_s(self) -> float:
        """Of the sum."""
        return self.part.scale_s + self.by_s

    @property
    def breaks_s(self) -> Array:
        """The constant, and those of the part moved by it."""
        return np.append(self.part.breaks_s, 0.0) + self.by_s

    def moment(self, n: int) -> float:
        """Binomial, exact."""
        known = [1.0] + [self.part.moment(i) for i in range(1, n + 1)]
        return sum(comb(n, i) * known[i] * self.by_s ** (n - i) for i in range(n + 1))

    def limited_mean(self, t: Array) -> Array:
        """Exact."""
        t = np.asarray(t, dtype=float)
        return np.minimum(t, self.by_s) + self.part.limited_mean(np.maximum(t - self.by_s, 0.0))

    def laplace(self, s: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Exact."""
        return self.part.laplace(s) * np.exp(-np.asarray(s) * self.by_s)


@dataclass(frozen=True, eq=False)
class Mixture(Law):
    """One of the parts, chosen with probability ``weights``."""

    weights: Array
    parts: tuple[Law, ...]

    def tail(self, t: Array) -> Array:
        """Weighted sum."""
        return np.asarray(sum(w * p.tail(t) for w, p in zip(self.weights, self.parts, strict=True) if w > 0))

    @property
    def scale_s(self) -> float:
        """Mean of those of the parts."""
        return float(sum(w * p.scale_s for w, p in zip(self.weights, self.parts, strict=True)))

    @property
    def breaks_s(self) -> Array:
        """Of all parts."""
        return np.concatenate([p.breaks_s for p in self.parts])

    def moment(self, n: int) -> float:
        """Weighted sum, exact."""
        return float(sum(w * p.moment(n) for w, p in zip(self.weights, self.parts, strict=True) if w > 0))

    def limited_mean(self, t: Array) -> Array:
        """Weighted sum, exact."""
        return np.asarray(sum(w * p.limited_mean(t) for w, p in zip(self.weights, self.parts, strict=True)))

    def limited_square(self, t: Array) -> Array:
        """Weighted sum, exact."""
        return np.asarray(sum(w * p.limited_square(t) for w, p in zip(self.weights, self.parts, strict=True)))

    def laplace(self, s: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Weighted sum, exact."""
        return np.asarray(sum(w * p.laplace(s) for w, p in zip(self.weights, self.parts, strict=True)))


@dataclass(frozen=True, eq=False)
class Maximum(Law):
    """The largest of the parts, independent or comonotone; its moments come from quadrature."""

    parts: tuple[Law, ...]
    comonotone: bool = False

    def tail(self, t: Array) -> Array:
        """From the product of the distribution functions, or the smallest of them."""
        tails = np.array([p.tail(t) for p in self.parts])
        if self.comonotone:
            return np.asarray(tails.max(axis=0))
        with np.errstate(divide="ignore"):
            return np.asarray(-np.expm1(np.log1p(-np.minimum(tails, 1.0)).sum(axis=0)))  # small tails keep their digits

    @property
    def scale_s(self) -> float:
        """The largest of the parts."""
        return max(p.scale_s for p in self.parts)

    @property
    def breaks_s(self) -> Array:
        """Of all parts."""
        return np.concatenate([p.breaks_s for p in self.parts])


def added(x: Law, y: Law) -> tuple[Law, float]:
    """Law of the sum of two independent times, and the error that the way of adding brings."""
    for a, b in ((x, y), (y, x)):
        if isinstance(b, Discrete):
            shifted = tuple(a if v == 0 else Shifted(a, float(v)) for v in b.values_s)
            return (shifted[0] if len(shifted) == 1 else Mixture(b.probability, shifted)), 0.0
    if isinstance(x, PhaseType) and isinstance(y, PhaseType):
        return phase_type_sum(x, y), 0.0
    fine, coarse = _convolved(x, y, 1 << 13), _convolved(x, y, 1 << 12)
    error = float(np.max(np.abs(coarse.tail(fine.times_s) - fine.values)))  # three times that of the finer one
    return fine, error


def phase_type_sum(x: PhaseType, y: PhaseType) -> PhaseType:
    """X and then y, as one phase-type law."""
    n, m = len(x.alpha), len(y.alpha)
    alpha = np.concatenate((x.alpha, (1 - x.alpha.sum()) * y.alpha))
    matrix = np.zeros((n + m, n + m))
    matrix[:n, :n], matrix[n:, n:] = x.matrix, y.matrix
    matrix[:n, n:] = np.outer(-x.matrix.sum(axis=1), y.alpha)
    return PhaseType(alpha, matrix)


def _convolved(x: Law, y: Law, points: int) -> Grid:
    """Sum on a grid whose step grows with time: what happens up to t needs the laws up to t only."""
    from scipy.signal import fftconvolve  # loads half of scipy

    if x.scale_s < y.scale_s:
        x, y = y, x  # x is taken uniform within a cell, y exact: the wider law is the smoother one
    step = min(y.scale_s, 16 * x.low_s(0.05), 16 * y.low_s(0.05)) * 16 / points
    times, values = [np.zeros(1)], [x.tail(np.zeros(1)) + (1 - x.tail(np.zeros(1))) * y.tail(np.zeros(1))]
    for _ in range(60):
        t = np.asarray(step * np.arange(points + 1), dtype=float)
        tail = x.tail(t)
        mean_tail = np.diff(y.limited_mean(t)) / step
        total = tail + (1 - tail[0]) * y.tail(t)
        total[1:] += fftconvolve(-np.diff(tail), mean_tail)[:points]
        new = t > times[-1][-1]
        times.append(t[new])
        values.append(total[new])
        if values[-1][-1] < 1e-13:
            break
        step *= 2
    found = np.minimum.accumulate(np.clip(np.concatenate(values), 0.0, 1.0))
    known = [1.0, *(x.moment(n) for n in (1, 2, 3))], [1.0, *(y.moment(n) for n in (1, 2, 3))]
    moments = tuple(sum(comb(n, i) * known[0][i] * known[1][n - i] for i in range(n + 1)) for n in (1, 2, 3))
    return Grid(np.concatenate(times), found, 0.0, moments)
